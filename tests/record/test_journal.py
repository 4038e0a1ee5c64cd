"""The journal: what a worker that dies at any moment leaves can be read, and says what must be done."""

from typing import Any

import pytest

from airflow_provider_aha.exceptions import AhaStorageError
from airflow_provider_aha.record import journal as module
from airflow_provider_aha.record.journal import (
    ACKNOWLEDGED,
    AFTER_CRASH,
    INTENT,
    NONE,
    OUTCOME,
    PROVEN,
    UNANSWERED,
    History,
    Journal,
    read_events,
)
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.store.store import Store
from tests.raw import raw

KEY = "u42.account"


def folder(location: Store) -> RunFolder:
    return RunFolder(location, "acme", Run("d", "r", "t", 1, "ann"))


def outcome(journal: Journal, user_id: str, word: str, **facts: Any) -> dict[str, Any]:
    return journal.outcome(user_id, {"outcome": word, **facts})


def history(location: Store, key: str = KEY) -> History:
    return Journal(folder(location), 9).histories()[key]


def test_events_are_objects_of_their_own_named_by_user_try_and_kind(location: Store) -> None:
    journal = Journal(folder(location), 3)
    intent = journal.intent(KEY, {"reason": "x"})
    outcome(journal, KEY, "changed", intent=intent["intent"], proof=PROVEN)
    names = [
        path.removeprefix(f"{folder(location).path}/events/") for path in raw(location).find(folder(location).path)
    ]
    assert sorted(name.rpartition("-")[0] for name in names) == [f"{KEY}/3-intent", f"{KEY}/3-outcome"]
    assert f"{KEY}/3-intent-{intent['intent']}.json" in names


def test_events_of_a_try_are_numbered(location: Store) -> None:
    journal = Journal(folder(location), 3)
    events = [
        journal.intent("u1.account", {}),
        outcome(journal, "u1.account", "failed"),
        outcome(journal, "u2.account", "skipped"),
    ]
    assert [(one["try_number"], one["n"]) for one in events] == [(3, 1), (3, 2), (3, 3)]


def test_an_outcome_closes_the_intent_that_it_names(location: Store) -> None:
    journal = Journal(folder(location), 1)
    intent = journal.intent(KEY, {})
    assert [one["intent"] for one in history(location).open_intents] == [intent["intent"]]
    assert not history(location).is_final
    outcome(journal, KEY, "changed", intent=intent["intent"], proof=PROVEN)
    assert history(location).open_intents == []
    assert history(location).is_final


@pytest.mark.parametrize("word", [word for word in module.OUTCOMES if word != "failed"])
def test_every_outcome_but_failed_is_final_where_nothing_was_sent(location: Store, word: str) -> None:
    journal = Journal(folder(location), 1)
    outcome(journal, "u1.account", word)
    outcome(journal, "u2.account", "failed")
    found = journal.histories()
    assert found["u1.account"].is_final
    assert not found["u2.account"].is_final


@pytest.mark.parametrize(
    ("proof", "final"), [(UNANSWERED, False), (ACKNOWLEDGED, False), (AFTER_CRASH, True), (PROVEN, True)]
)
def test_another_try_looks_again_until_it_is_proven_what_was_done(location: Store, proof: int, final: bool) -> None:
    journal = Journal(folder(location), 1)
    outcome(journal, KEY, "unverified", intent=journal.intent(KEY, {})["intent"], proof=proof)
    assert (history(location).proof, history(location).is_final) == (proof, final)


def test_no_other_outcome_closes_an_intent_however_late_it_comes(location: Store) -> None:
    """Else an undo goes ahead while the first request still hangs in a proxy."""
    first = Journal(folder(location), 1).intent(KEY, {})
    later = Journal(folder(location), 2)
    second = later.intent(KEY, {})
    outcome(later, KEY, "changed", intent=second["intent"], proof=PROVEN, answered_at="2099-01-01T00:00:00Z")
    outcome(Journal(folder(location), 3), KEY, "skipped", answered_at="2099-01-01T00:00:00Z")
    assert [one["intent"] for one in history(location).open_intents] == [first["intent"]]
    assert history(location).proof == PROVEN


def test_an_answered_intent_is_closed_though_the_clock_went_back(location: Store) -> None:
    journal = Journal(folder(location), 1)
    intent = journal.intent(KEY, {})
    outcome(
        journal,
        KEY,
        "changed",
        intent=intent["intent"],
        proof=PROVEN,
        answered_at="2020-01-01T00:00:00.000000Z",
    )
    assert history(location).is_final


def test_where_nothing_was_done_the_latest_try_speaks_and_not_the_latest_clock(location: Store) -> None:
    outcome(Journal(folder(location), 10), KEY, "skipped", answered_at="2020-01-01T00:00:00Z")
    outcome(Journal(folder(location), 9), KEY, "unchanged", answered_at="2030-01-01T00:00:00Z")
    assert history(location).word == "skipped"
    journal = Journal(folder(location), 11)
    for word in [*["unchanged"] * 9, "failed"]:
        outcome(journal, KEY, word)
    assert history(location).word == "failed"


def test_an_intent_after_an_outcome_is_open_whatever_that_was(location: Store) -> None:
    """Of a worker that everybody took for dead."""
    outcome(Journal(folder(location), 2), KEY, "skipped")
    Journal(folder(location), 1).intent(KEY, {})
    assert not history(location).is_final
    assert history(location).word == "unknown"


def test_only_requests_are_asked_whether_they_did_it_the_latest_first(location: Store) -> None:
    first, second = Journal(folder(location), 1), Journal(folder(location), 2)
    lost = first.intent(KEY, {})["intent"]
    outcome(first, KEY, "failed", intent=lost, proof=UNANSWERED)
    outcome(first, KEY, "failed", proof=UNANSWERED)
    still_open = second.intent(KEY, {})["intent"]
    assert [one["intent"] for one in history(location).requests] == [still_open, lost]
    assert History().requests == []


@pytest.mark.parametrize("keep", [0, 1, 20, -3])
def test_half_an_outcome_counts_as_none(location: Store, keep: int) -> None:
    journal = Journal(folder(location), 1)
    intent = journal.intent("u42.account", {})
    outcome(journal, KEY, "changed", intent=intent["intent"], proof=PROVEN)
    path = next(path for path in raw(location).find(location.path) if "-outcome-" in path)
    raw(location).pipe_file(path, raw(location).cat_file(path)[:keep])
    assert [one["intent"] for one in history(location).open_intents] == [intent["intent"]]
    assert history(location).outcomes == []


@pytest.mark.parametrize(
    "facts",
    [
        {"proof": 5},
        {"proof": -1},
        {"proof": "4"},
        {"proof": True},
        {"proof": None},
        {"intent": 7},
        {"outcome": "done"},
        {"outcome": None},
    ],
)
def test_what_this_package_cannot_have_written_counts_as_no_outcome(location: Store, facts: Any) -> None:
    Journal(folder(location), 1).outcome("u42.account", {"outcome": "changed", "proof": PROVEN, **facts})
    outcome(Journal(folder(location), 1), KEY, "skipped")
    assert (history(location).proof, history(location).word) == (NONE, "skipped")


def test_half_an_intent_still_tells_that_a_request_may_have_been_sent(location: Store) -> None:
    intent = Journal(folder(location), 1).intent("u42.account", {})
    path = next(iter(raw(location).find(location.path)))
    raw(location).pipe_file(path, b'{"event_id": "')
    (open_intent,) = history(location).open_intents
    assert open_intent["intent"] == open_intent["event_id"] == intent["intent"]
    assert open_intent["intent_at"] > "2026"
    assert history(location).proof == UNANSWERED


def test_the_outcome_of_half_an_intent_closes_it(location: Store) -> None:
    journal = Journal(folder(location), 1)
    intent = journal.intent("u42.account", {})
    raw(location).pipe_file(next(iter(raw(location).find(location.path))), b"")
    outcome(journal, KEY, "changed", intent=intent["intent"], proof=PROVEN)
    assert history(location).open_intents == []


def test_files_that_are_no_events_are_passed_over(location: Store) -> None:
    events = f"{folder(location).path}/events"
    body = b'{"event_id": "1", "outcome": "changed", "proof": 0, "intent": null, "try_number": 1, "n": 1}'
    for name in (
        f"{KEY}/.1-outcome-ab.json.cd.tmp",
        f"{KEY}/notes.txt",
        f"{KEY}/1-outcome.json",
        "1-outcome-ab.json",
    ):
        location.create(f"{events}/{name}", body)
    location.create(f"{events}/{KEY}/1-outcome-ab.json", b'{"event_id": "1"}')
    assert list(read_events(location, events)) == []
    location.create(f"{events}/{KEY}/1-outcome-cd.json", body)
    assert len(list(read_events(location, events))) == 1


def test_events_come_with_user_and_kind(location: Store) -> None:
    journal = Journal(folder(location), 1)
    journal.intent("u42.account", {})
    outcome(journal, "u7.w456", "skipped")
    found = read_events(location, f"{folder(location).path}/events")
    assert sorted((key, kind) for key, kind, _ in found) == [(KEY, INTENT), ("u7.w456", OUTCOME)]


def test_an_intent_that_cannot_be_made_durable_is_an_error(
    location: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "create", lambda *_: False)
    with pytest.raises(AhaStorageError, match="user 42 was left at that"):
        Journal(folder(location), 1).intent(KEY, {})


def test_a_worker_sees_that_a_later_try_has_begun(location: Store) -> None:
    """Not only the next one: a try that died before it came here has left no mark."""
    first, third = Journal(folder(location), 1), Journal(folder(location), 3)
    first.begin()
    first.begin()
    assert not first.is_overtaken()
    third.begin()
    assert first.is_overtaken()
    assert not third.is_overtaken()
    Journal(folder(location), 10).begin()
    assert third.is_overtaken()
