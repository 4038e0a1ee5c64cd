"""The register: how one run knows what others have done, and may still be doing."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_aha.common.moments import timestamp
from airflow_provider_aha.exceptions import AhaError, AhaSnapshotError
from airflow_provider_aha.record.chain import close_try
from airflow_provider_aha.record.evidence import FILE, rows, write_evidence
from airflow_provider_aha.record.journal import ACKNOWLEDGED, AFTER_CRASH, NONE, PROVEN, UNANSWERED, Journal
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
from airflow_provider_aha.store.store import Store
from tests.raw import raw

NOW = datetime(2026, 3, 10, 0, 30, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def folder(location: Store, run_id: str = "r", task_id: str = "t") -> RunFolder:
    return RunFolder(location, "acme", Run("d", run_id, task_id, 1, "ann"))


def outcome(where: RunFolder, user_id: str, at: datetime, proof: int = PROVEN, **facts: Any) -> None:
    facts = {"outcome": "changed", "access": "taken", "answered_at": timestamp(at), **facts}
    Journal(where, 1).outcome(f"u{user_id}.account", {**facts, "proof": proof})


def intent(where: RunFolder, user_id: str, at: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("airflow_provider_aha.record.journal.timestamp", lambda: timestamp(at))
        Journal(where, 1).intent(f"u{user_id}.account", {})


def changed(location: Store, access: str = "taken") -> set[str]:
    return set(changed_within(folder(location, "mine"), NOW, 7, access))


def ended(where: RunFolder, at: datetime, access: str | None = "taken", ids: tuple[str, ...] = ()) -> None:
    sign_off(where, register(where, at, ids, access))


def test_seven_days_count_and_no_more(location: Store) -> None:
    where = folder(location)
    ended(where, NOW - 7 * DAY)
    outcome(where, "1", NOW - 7 * DAY + HOUR)
    outcome(where, "2", NOW - 7 * DAY - HOUR)
    assert changed(location) == {"1"}


def test_a_try_that_lasted_over_midnight_is_found(local: Store) -> None:
    where = folder(local)
    ended(where, NOW - 7 * DAY - HOUR)
    outcome(where, "1", NOW - 7 * DAY + HOUR)
    assert changed(local) == {"1"}


@pytest.mark.parametrize("proof", [NONE, UNANSWERED, ACKNOWLEDGED, AFTER_CRASH, PROVEN])
def test_what_may_have_changed_access_counts_whatever_its_word(local: Store, proof: int) -> None:
    ended(folder(local), NOW - DAY)
    outcome(folder(local), "1", NOW - DAY, proof, outcome="failed")
    assert changed(local) == (set() if proof == NONE else {"1"})


def test_an_intent_without_outcome_counts(local: Store, monkeypatch) -> None:
    ended(folder(local), NOW - DAY)
    intent(folder(local), "1", NOW - DAY, monkeypatch)
    assert changed(local) == {"1"}


def test_half_an_intent_counts_by_what_its_task_was_to_do_or_else_for_both(local: Store) -> None:
    for run_id in ("a", "b"):
        Journal(folder(local, run_id), 1).intent("u1.account" if run_id == "a" else "u2.account", {})
    for path in raw(local).find(local.path):
        raw(local).pipe_file(path, b"{")
    ended(folder(local, "a"), NOW, "taken")
    assert changed(local, "taken") == {"1", "2"}
    assert changed(local, "given") == {"2"}


def test_taking_and_giving_are_counted_apart(local: Store) -> None:
    for run_id, user_id, access in (("a", "1", "taken"), ("b", "2", "given"), ("c", "3", "none")):
        ended(folder(local, run_id), NOW - DAY, "taken")
        outcome(folder(local, run_id), user_id, NOW - DAY, access=access)
    assert changed(local, "taken") == {"1"}
    assert changed(local, "given") == {"2"}


def test_who_left_is_counted_apart(local: Store) -> None:
    register(folder(local, "alive"), NOW - HOUR / 2, ["1", "2"], "taken", left_ids=["1"])
    for run_id, user_id, user_class in (("a", "3", "left"), ("b", "4", "unused"), ("c", "5", "named")):
        facts: dict[str, Any] = {"class": user_class}
        outcome(folder(local, run_id), user_id, NOW - DAY, **facts)
    mine = folder(local, "mine")
    assert set(changed_within(mine, NOW, 7, "taken", left=True)) == {"1", "3"}
    assert set(changed_within(mine, NOW, 7, "taken", left=False)) == {"2", "4", "5"}
    assert set(changed_within(mine, NOW, 7, "taken")) == {"1", "2", "3", "4", "5"}


# --- records that are gone -----------------------------------------------------------------------


def written(location: Store, *, manifest: bool = True) -> RunFolder:
    """Let a task disable two users, as it ends: events, evidence, an entry in the register and a manifest."""
    where = folder(location)
    entry = register(where, NOW - DAY, ["1", "2"], "taken")
    journal = Journal(where, 1)
    for user_id in ("1", "2"):
        facts = {"access": "taken", "class": "unused", "answered_at": timestamp(NOW - DAY)}
        intent_id = journal.intent(f"u{user_id}.account", facts)["intent"]
        journal.outcome(
            f"u{user_id}.account", {**facts, "intent": intent_id, "outcome": "changed", "proof": PROVEN}
        )
    write_evidence(where.location, f"{where.path}/{FILE}", rows(journal.histories()))
    sign_off(where, entry)
    if manifest:
        close_try(where, {}, [])
    return where


@pytest.mark.parametrize(
    "lost", [["register"], [FILE], ["events"], ["register", FILE], ["register", "events"], [FILE, "events"]]
)
def test_whatever_is_lost_of_register_events_and_evidence_the_rest_is_counted(location: Store, lost: Any) -> None:
    where = written(location)
    for name in lost:
        raw(location).rm(f"{where.account_path if name == 'register' else where.path}/{name}", recursive=True)
    now = datetime.now(UTC)
    if {FILE, "events"} <= set(lost):
        with pytest.raises(AhaSnapshotError, match=r"can't be counted.*run=r.*Nothing was done"):
            changed_within(folder(location, "mine"), now, 10**3, "taken")
    else:
        assert set(changed_within(folder(location, "mine"), now, 10**3, "taken")) == {"1", "2"}


def test_a_lost_run_of_which_its_manifest_tells_is_not_counted_as_nothing(location: Store) -> None:
    where = written(location)
    for path in (f"{where.account_path}/register", where.run_path):
        raw(location).rm(path, recursive=True)
    with pytest.raises(AhaSnapshotError, match="can't be counted"):
        changed_within(folder(location, "mine"), datetime.now(UTC), 7, "taken")
    # After seven days it counts for nothing any more.
    later = datetime.now(UTC) + 8 * DAY
    assert changed_within(folder(location, "mine"), later, 7, "taken") == {}


def test_events_count_without_register_evidence_and_manifest(location: Store) -> None:
    """A task that died, and then the register was lost."""
    where = written(location, manifest=False)
    raw(location).rm(f"{where.account_path}/register", recursive=True)
    raw(location).rm(f"{where.path}/{FILE}")
    assert changed(location) == {"1", "2"}


def test_evidence_that_cannot_be_read_is_passed_over_only_where_its_events_are(local: Store) -> None:
    where = written(local)
    raw(local).pipe_file(f"{where.path}/{FILE}", b"PAR1")
    assert changed(local) == {"1", "2"}
    raw(local).rm(f"{where.path}/events", recursive=True)
    with pytest.raises(AhaSnapshotError, match="cut short or changed"):
        changed(local)


def test_another_run_is_seen_writing_though_the_register_is_lost(location: Store) -> None:
    Journal(folder(location, "other"), 1).intent("u1.account", {})
    with pytest.raises(AhaError, match="Another run of this account is writing"):
        refuse_beside_another(folder(location, "mine"), datetime.now(UTC))


def test_a_worker_that_goes_on_after_its_task_has_ended_is_seen(local: Store) -> None:
    """The retry has signed off; the first worker wakes up and writes an intent."""
    other, now = folder(local, "other"), datetime.now(UTC)
    register(other, now - timedelta(minutes=1), ["1"], "taken")
    ended(other, now, "taken", ("1",))
    Journal(other, 1).intent("u1.account", {})
    with pytest.raises(AhaError, match="Another run of this account is writing"):
        refuse_beside_another(folder(local, "mine"), now)


# --- tasks under way -----------------------------------------------------------------------------


def test_whom_a_run_under_way_may_still_change_counts(local: Store) -> None:
    other = folder(local, "other")
    entry = register(other, NOW - HOUR / 2, ["1", "2"], "taken")
    assert changed(local) == under_way(folder(local, "mine"), NOW) == {"1", "2"}
    sign_off(other, entry)
    assert changed(local) == under_way(folder(local, "mine"), NOW) == set()


def test_a_run_that_died_counts_as_under_way_for_an_hour(local: Store) -> None:
    register(folder(local, "dead"), NOW - HOUR - timedelta(seconds=1), ["1"], "taken")
    assert changed(local) == set()


def test_a_later_try_takes_the_place_of_one_that_died(local: Store) -> None:
    register(folder(local, "other"), NOW - HOUR / 2, ["1"], "taken")
    ended(folder(local, "other"), NOW - HOUR / 4, "taken", ("1",))
    assert under_way(folder(local, "mine"), NOW) == set()


def test_a_task_does_not_count_itself(local: Store) -> None:
    register(folder(local, "mine"), NOW, ["1"], "taken")
    outcome(folder(local, "mine"), "2", NOW)
    assert changed(local) == under_way(folder(local, "mine"), NOW) == set()


def test_an_outcome_without_a_moment_counts_as_recent(local: Store) -> None:
    ended(folder(local), NOW - DAY)
    outcome(folder(local), "1", NOW, answered_at="soon")
    assert changed(local) == {"1"}


def test_an_open_intent_of_another_run_refuses_for_an_hour(location: Store, monkeypatch) -> None:
    other = folder(location, "other")
    register(other, NOW - HOUR / 2, ["1"], "taken")
    intent(other, "1", NOW - HOUR / 2, monkeypatch)
    with pytest.raises(AhaError, match="Another run of this account is writing") as caught:
        refuse_beside_another(folder(location, "mine"), NOW)
    assert "run=other" in str(caught.value)
    refuse_beside_another(folder(location, "mine"), NOW + HOUR)


def test_an_answered_intent_of_another_run_refuses_nothing(local: Store) -> None:
    other = folder(local, "other")
    register(other, NOW, ["1"], "taken")
    event = Journal(other, 1).intent("u1.account", {})
    outcome(other, "1", NOW, intent=event["intent"])
    refuse_beside_another(folder(local, "mine"), NOW)


def test_tasks_of_one_run_and_its_own_last_try_refuse_nothing(local: Store, monkeypatch) -> None:
    for task_id in ("t", "t[0]"):
        register(folder(local, "mine", task_id), NOW, ["1"], "taken")
        intent(folder(local, "mine", task_id), "1", NOW, monkeypatch)
    refuse_beside_another(folder(local, "mine"), NOW)
    with pytest.raises(AhaError):
        refuse_beside_another(folder(local, "mine2"), NOW)


def test_half_an_intent_of_another_run_refuses_by_when_it_was_written(local: Store, monkeypatch) -> None:
    now = datetime.now(UTC)
    other = folder(local, "other")
    register(other, now, ["1"], "taken")
    Journal(other, 1).intent("u1.account", {})
    path = next(path for path in raw(local).find(other.path))
    raw(local).pipe_file(path, b"{")
    with pytest.raises(AhaError):
        refuse_beside_another(folder(local, "mine"), now)
    refuse_beside_another(folder(local, "mine"), now + HOUR + timedelta(minutes=1))


@pytest.mark.parametrize("body", [b"{", b"{}", b'{"folder": "f", "user_ids": null}'])
def test_an_entry_that_cannot_be_read_stops_the_count(local: Store, body: bytes) -> None:
    where = folder(local)
    local.create(f"{where.account_path}/register/2026-03-10/a.json", body)
    with pytest.raises(AhaSnapshotError, match=r"a\.json"):
        changed(local)


def test_recent_tasks_are_listed_once_each(local: Store) -> None:
    for run_id, days in (("a", 1), ("a", 2), ("b", 3), ("old", 20)):
        register(folder(local, run_id), NOW - days * DAY)
    assert recent_folders(local, "acme", NOW, 7) == [folder(local, "a").path, folder(local, "b").path]


def test_the_files_of_a_task_are_named_for_its_manifest(local: Store) -> None:
    first = register(folder(local), NOW - DAY)
    second = register(folder(local), NOW)
    sign_off(folder(local), second)
    register(folder(local, "other"), NOW)
    end = second.replace(".json", "-end.json")
    assert sorted(entered(folder(local), NOW, 7)) == sorted([first, second, end])
