"""The journal: what a worker that dies at any moment leaves can be read, and says what must be done."""

from typing import Any

import pytest

from airflow_provider_aha.common.moments import timestamp
from airflow_provider_aha.exceptions import AhaStorageError
from airflow_provider_aha.record import journal as module
from airflow_provider_aha.record.journal import INTENT, OUTCOME, History, Journal, read_events
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.store.store import Location, create_once


def folder(location: Location) -> RunFolder:
    return RunFolder(location, "acme", Run("d", "r", "t", 1, "ann"))


def outcome(journal: Journal, user_id: str, word: str, **facts: Any) -> dict[str, Any]:
    return journal.outcome(user_id, {"answered_at": timestamp(), "outcome": word, **facts})


def test_events_are_objects_of_their_own_named_by_user_try_and_kind(location: Location) -> None:
    journal = Journal(folder(location), 3)
    intent = journal.intent("42", {"reason": "x"})
    outcome(journal, "42", "deactivated", event_id=intent["event_id"])
    names = [
        path.removeprefix(f"{folder(location).path}/events/") for path in location.fs.find(folder(location).path)
    ]
    assert sorted(name.rpartition("-")[0] for name in names) == ["42/3-intent", "42/3-outcome"]
    assert f"42/3-intent-{intent['event_id']}.json" in names


def test_an_outcome_closes_its_intent(location: Location) -> None:
    journal = Journal(folder(location), 1)
    intent = journal.intent("42", {})
    assert journal.histories()["42"].open_intent == intent
    assert not journal.histories()["42"].is_final
    outcome(journal, "42", "deactivated", event_id=intent["event_id"])
    history = journal.histories()["42"]
    assert history.open_intent is None
    assert history.unsettled is None
    assert history.is_final


@pytest.mark.parametrize("word", [word for word in module.OUTCOMES if word != "failed"])
def test_every_outcome_but_failed_is_final(location: Location, word: str) -> None:
    journal = Journal(folder(location), 1)
    outcome(journal, "1", word)
    outcome(journal, "2", "failed")
    found = journal.histories()
    assert found["1"].is_final
    assert not found["2"].is_final


def test_an_intent_that_another_try_followed_up_is_not_open(location: Location) -> None:
    journal = Journal(folder(location), 1)
    journal.intent("42", {})
    later = Journal(folder(location), 2)
    second = later.intent("42", {})
    outcome(later, "42", "deactivated", event_id=second["event_id"])
    assert journal.histories()["42"].is_final


def test_an_answered_intent_is_closed_though_the_clock_went_back(location: Location) -> None:
    journal = Journal(folder(location), 1)
    intent = journal.intent("42", {})
    journal.outcome("42", {**intent, "answered_at": "2020-01-01T00:00:00.000000Z", "outcome": "deactivated"})
    assert journal.histories()["42"].is_final


def test_a_later_outcome_closes_an_intent_also_where_it_needed_no_request(location: Location) -> None:
    journal = Journal(folder(location), 1)
    journal.intent("42", {})
    outcome(Journal(folder(location), 2), "42", "skipped")
    assert journal.histories()["42"].is_final


def test_an_intent_after_an_outcome_is_open_whatever_that_was(location: Location) -> None:
    """Of a worker that everybody took for dead."""
    outcome(Journal(folder(location), 2), "42", "skipped")
    Journal(folder(location), 1).intent("42", {})
    assert not Journal(folder(location), 3).histories()["42"].is_final


def test_a_failure_whose_request_may_have_arrived_is_unsettled(location: Location) -> None:
    journal = Journal(folder(location), 1)
    outcome(journal, "1", "failed", unsettled=True)
    outcome(journal, "2", "failed")
    found = journal.histories()
    assert found["1"].unsettled is not None
    assert found["2"].unsettled is None
    assert History().unsettled is None


@pytest.mark.parametrize("keep", [0, 1, 20, -3])
def test_half_an_outcome_counts_as_none(location: Location, keep: int) -> None:
    journal = Journal(folder(location), 1)
    intent = journal.intent("42", {})
    outcome(journal, "42", "deactivated", event_id=intent["event_id"])
    path = next(path for path in location.fs.find(location.path) if "-outcome-" in path)
    location.fs.pipe_file(path, location.fs.cat_file(path)[:keep])
    history = journal.histories()["42"]
    assert history.open_intent == intent
    assert history.outcomes == []


def test_half_an_intent_still_tells_that_a_request_may_have_been_sent(location: Location) -> None:
    journal = Journal(folder(location), 1)
    intent = journal.intent("42", {})
    path = next(iter(location.fs.find(location.path)))
    location.fs.pipe_file(path, b'{"event_id": "')
    open_intent = journal.histories()["42"].open_intent
    assert open_intent is not None
    assert open_intent["event_id"] == intent["event_id"]
    assert open_intent["intent_at"] > "2026"


def test_an_outcome_after_half_an_intent_closes_it(location: Location) -> None:
    journal = Journal(folder(location), 1)
    intent = journal.intent("42", {})
    location.fs.pipe_file(next(iter(location.fs.find(location.path))), b"")
    outcome(Journal(folder(location), 2), "42", "disabled_after_crash", event_id=intent["event_id"])
    assert journal.histories()["42"].is_final


def test_files_that_are_no_events_are_passed_over(location: Location) -> None:
    events = f"{folder(location).path}/events"
    for name in ("42/.1-outcome-ab.json.cd.tmp", "42/notes.txt", "42/1-outcome.json", "1-outcome-ab.json"):
        create_once(location.fs, f"{events}/{name}", b'{"event_id": "1", "outcome": "deactivated"}')
    create_once(location.fs, f"{events}/42/1-outcome-ab.json", b'{"event_id": "1"}')
    assert list(read_events(location.fs, events)) == []


def test_events_come_with_user_and_kind(location: Location) -> None:
    journal = Journal(folder(location), 1)
    journal.intent("42", {})
    outcome(journal, "7", "skipped")
    found = read_events(location.fs, f"{folder(location).path}/events")
    assert sorted((user_id, kind) for user_id, kind, _ in found) == [("42", INTENT), ("7", OUTCOME)]


def test_an_intent_that_cannot_be_made_durable_is_an_error(
    location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "create_once", lambda *_: False)
    with pytest.raises(AhaStorageError, match="user 42"):
        Journal(folder(location), 1).intent("42", {})
