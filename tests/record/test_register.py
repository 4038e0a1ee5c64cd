"""The register: how one run knows what others have done, and may still be doing."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_aha.common.moments import timestamp
from airflow_provider_aha.exceptions import AhaError, AhaSnapshotError
from airflow_provider_aha.record.journal import Journal
from airflow_provider_aha.record.register import (
    changed_within,
    entered,
    recent_folders,
    refuse_beside_another,
    register,
    sign_off,
    under_way,
)
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.store.store import Location, create_once

NOW = datetime(2026, 3, 10, 0, 30, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def folder(location: Location, run_id: str = "r", task_id: str = "t") -> RunFolder:
    return RunFolder(location, "acme", Run("d", run_id, task_id, 1, "ann"))


def outcome(where: RunFolder, user_id: str, word: str, at: datetime, **facts: Any) -> None:
    Journal(where, 1).outcome(user_id, {"answered_at": timestamp(at), "outcome": word, **facts})


def intent(where: RunFolder, user_id: str, at: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("airflow_provider_aha.record.journal.timestamp", lambda: timestamp(at))
        Journal(where, 1).intent(user_id, {})


def changed(location: Location, access: str = "taken") -> set[str]:
    return changed_within(folder(location, "mine"), NOW, 7, access)


def ended(where: RunFolder, at: datetime, access: str | None = "taken", ids: tuple[str, ...] = ()) -> None:
    sign_off(where, register(where, at, ids, access))


def test_seven_days_count_and_no_more(location: Location) -> None:
    where = folder(location)
    ended(where, NOW - 7 * DAY)
    outcome(where, "1", "deactivated", NOW - 7 * DAY + HOUR)
    outcome(where, "2", "deactivated", NOW - 7 * DAY - HOUR)
    assert changed(location) == {"1"}


def test_a_try_that_lasted_over_midnight_is_found(local: Location) -> None:
    where = folder(local)
    ended(where, NOW - 7 * DAY - HOUR)
    outcome(where, "1", "deactivated", NOW - 7 * DAY + HOUR)
    assert changed(local) == {"1"}


@pytest.mark.parametrize(
    ("word", "counts"),
    [
        ("deactivated", True),
        ("disabled_after_crash", True),
        ("updated", True),
        ("unverified", True),
        ("unchanged", False),
        ("skipped", False),
        ("blocked", False),
        ("failed", False),
        ("dry_run", False),
    ],
)
def test_what_may_have_changed_access_counts(local: Location, word: str, counts: bool) -> None:
    ended(folder(local), NOW - DAY)
    outcome(folder(local), "1", word, NOW - DAY)
    assert changed(local) == ({"1"} if counts else set())


def test_an_intent_without_outcome_and_a_lost_answer_count(local: Location, monkeypatch) -> None:
    ended(folder(local), NOW - DAY)
    intent(folder(local), "1", NOW - DAY, monkeypatch)
    outcome(folder(local), "2", "failed", NOW - DAY, unsettled=True)
    assert changed(local) == {"1", "2"}


def test_taking_and_giving_are_counted_apart(local: Location) -> None:
    for run_id, user_id, access in (("a", "1", "taken"), ("b", "2", "given"), ("c", "3", None)):
        ended(folder(local, run_id), NOW - DAY, access)
        outcome(folder(local, run_id), user_id, "updated", NOW - DAY)
    assert changed(local, "taken") == {"1"}
    assert changed(local, "given") == {"2"}


def test_whom_a_run_under_way_may_still_change_counts(local: Location) -> None:
    other = folder(local, "other")
    entry = register(other, NOW - HOUR / 2, ["1", "2"], "taken")
    assert changed(local) == under_way(folder(local, "mine"), NOW) == {"1", "2"}
    sign_off(other, entry)
    assert changed(local) == under_way(folder(local, "mine"), NOW) == set()


def test_a_run_that_died_counts_as_under_way_for_an_hour(local: Location) -> None:
    register(folder(local, "dead"), NOW - HOUR - timedelta(seconds=1), ["1"], "taken")
    assert changed(local) == set()


def test_a_later_try_takes_the_place_of_one_that_died(local: Location) -> None:
    register(folder(local, "other"), NOW - HOUR / 2, ["1"], "taken")
    ended(folder(local, "other"), NOW - HOUR / 4, "taken", ("1",))
    assert under_way(folder(local, "mine"), NOW) == set()


def test_a_task_does_not_count_itself(local: Location) -> None:
    register(folder(local, "mine"), NOW, ["1"], "taken")
    outcome(folder(local, "mine"), "2", "deactivated", NOW)
    assert changed(local) == under_way(folder(local, "mine"), NOW) == set()


def test_an_outcome_without_a_moment_counts_as_recent(local: Location) -> None:
    ended(folder(local), NOW - DAY)
    Journal(folder(local), 1).outcome("1", {"answered_at": "soon", "outcome": "deactivated"})
    assert changed(local) == {"1"}


def test_an_open_intent_of_another_run_refuses_for_an_hour(location: Location, monkeypatch) -> None:
    other = folder(location, "other")
    register(other, NOW - HOUR / 2, ["1"], "taken")
    intent(other, "1", NOW - HOUR / 2, monkeypatch)
    with pytest.raises(AhaError, match="Another run of this account is writing") as caught:
        refuse_beside_another(folder(location, "mine"), NOW)
    assert "run=other" in str(caught.value)
    refuse_beside_another(folder(location, "mine"), NOW + HOUR)


def test_an_answered_intent_of_another_run_refuses_nothing(local: Location) -> None:
    other = folder(local, "other")
    register(other, NOW, ["1"], "taken")
    event = Journal(other, 1).intent("1", {})
    outcome(other, "1", "deactivated", NOW, event_id=event["event_id"])
    refuse_beside_another(folder(local, "mine"), NOW)


def test_tasks_of_one_run_and_its_own_last_try_refuse_nothing(local: Location, monkeypatch) -> None:
    for task_id in ("t", "t[0]"):
        register(folder(local, "mine", task_id), NOW, ["1"], "taken")
        intent(folder(local, "mine", task_id), "1", NOW, monkeypatch)
    refuse_beside_another(folder(local, "mine"), NOW)
    with pytest.raises(AhaError):
        refuse_beside_another(folder(local, "mine2"), NOW)


def test_half_an_intent_of_another_run_refuses_by_when_it_was_written(local: Location, monkeypatch) -> None:
    now = datetime.now(UTC)
    other = folder(local, "other")
    register(other, now, ["1"], "taken")
    Journal(other, 1).intent("1", {})
    path = next(path for path in local.fs.find(other.path))
    local.fs.pipe_file(path, b"{")
    with pytest.raises(AhaError):
        refuse_beside_another(folder(local, "mine"), now)
    refuse_beside_another(folder(local, "mine"), now + HOUR + timedelta(minutes=1))


@pytest.mark.parametrize("body", [b"{", b"{}", b'{"folder": "f", "user_ids": null}'])
def test_an_entry_that_cannot_be_read_stops_the_count(local: Location, body: bytes) -> None:
    where = folder(local)
    create_once(local.fs, f"{where.account_path}/register/2026-03-10/a.json", body)
    with pytest.raises(AhaSnapshotError, match=r"a\.json"):
        changed(local)


def test_recent_tasks_are_listed_once_each(local: Location) -> None:
    for run_id, days in (("a", 1), ("a", 2), ("b", 3), ("old", 20)):
        register(folder(local, run_id), NOW - days * DAY)
    account = folder(local).account_path
    assert recent_folders(local.fs, account, NOW, 7) == [folder(local, "a").path, folder(local, "b").path]


def test_the_files_of_a_task_are_named_for_its_manifest(local: Location) -> None:
    first = register(folder(local), NOW - DAY)
    second = register(folder(local), NOW)
    sign_off(folder(local), second)
    register(folder(local, "other"), NOW)
    end = second.replace(".json", "-end.json")
    assert sorted(entered(folder(local), NOW, 7)) == sorted([first, second, end])
