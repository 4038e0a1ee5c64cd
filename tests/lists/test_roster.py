"""The roster: how it is read, and when it is refused."""

import os
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.exceptions import AhaConfigurationError, AhaError, AhaSnapshotError, AhaStorageError
from airflow_provider_aha.lists.roster import Load, Roster, Rosters, RosterSpec, load_roster, roster_of
from airflow_provider_aha.lists.tables import table_of
from airflow_provider_aha.store.store import Store

NOW = datetime(2026, 3, 10, 4, 0, tzinfo=UTC)
SPEC = {"path": "/roster.csv", "key": "nr", "emails": ["mail"], "domains": ["example.com"], "min_rows": 1}


def spec(**more: Any) -> RosterSpec:
    (found,) = RosterSpec.read_all({**SPEC, **more})
    return found


def roster(rows: list[tuple[Any, ...]], columns: str = "nr mail", loaded_at: datetime = NOW, **more: Any) -> Roster:
    return roster_of(spec(**more), table_of("The roster", columns.split(), rows), loaded_at)


def people(count: int) -> list[tuple[Any, ...]]:
    return [(number, f"p{number}@example.com") for number in range(count)]


def load(rows: int, covered: int = 100, matched: int = 100) -> Load:
    return Load("roster", NOW - timedelta(days=1), "0" * 64, rows, covered, matched)


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", [None, "", "None"])
def test_no_roster_is_no_roster(nothing):
    assert RosterSpec.read_all(nothing) == ()


def test_settings_may_be_text():
    (read,) = RosterSpec.read_all(
        '{"path": "/r.csv", "key": "NR", "emails": "Mail", "domains": "[\'example.com\']", "min_rows": "5"}'
    )
    assert read == spec(path="/r.csv", min_rows=5)


@pytest.mark.parametrize(
    "change",
    [
        {"key": None},
        {"emails": []},
        {"domains": []},
        {"domains": ["ann@example.com"]},
        {"min_rows": None},
        {"min_rows": 0},
        {"path": None},
        {"sql": "SELECT 1"},
        {"path": None, "sql": "SELECT 1"},
        {"path": None, "conn_id": "hr"},
        {"status": "status"},
        {"left_statuses": ["Terminated"]},
        {"timezone": "Middle/Earth"},
        {"timezone": "../etc/passwd"},
        {"max_age_hours": "old"},
        {"not_covered": ["example.com"]},
    ],
)
def test_settings_that_can_not_be_right_are_refused(change):
    with pytest.raises(AhaConfigurationError):
        RosterSpec.read_all({**SPEC, **change})


# --- reading -------------------------------------------------------------------------------------


def test_a_person_has_several_addresses_in_several_columns_and_cells():
    found = roster(
        [(1, "Ann@Example.com; ann.old@example.com", "a@example.org"), (2, "bob@example.com,b@example.com", None)],
        "nr mail second",
        emails=["mail", "second"],
    )
    known = ("ann@example.com", "ann.old@example.com", "a@example.org", "bob@example.com", "b@example.com")
    assert all(found.knows(email) for email in known)
    assert not found.knows("none")
    assert found.rows == 2


def test_a_cell_may_be_a_list(tmp_path):
    path = tmp_path / "roster.parquet"
    pq.write_table(pa.table({"nr": [1], "mail": [["ann@example.com", "a@example.com"]]}), path)
    found = load_roster(spec(), Store(LocalFileSystem(), str(path), str(path)))
    assert found.knows("ann@example.com")
    assert found.knows("a@example.com")


def test_people_without_address_count_as_rows():
    assert roster([*people(3), (9, None), (10, "n/a"), (11, "")]).rows == 6


@pytest.mark.parametrize(
    "end",
    [
        "2026-03-09",
        " 2026-03-09 ",
        "2026-03-09T17:00:00",
        date(2026, 3, 9),
        datetime(2026, 3, 9, 17),  # noqa: DTZ001 - databases hand out such
        datetime(2026, 3, 9, 22, 59, tzinfo=UTC),
        datetime(2026, 3, 8, 23, 30, tzinfo=UTC),
        datetime(2026, 3, 9, 20, tzinfo=timezone(timedelta(hours=-1))),
    ],
)
def test_an_end_date_is_a_day_in_the_time_zone_of_the_roster(end):
    found = roster([(1, "ann@example.com", end)], "nr mail end", end_date="end", timezone="Europe/Berlin")
    departure = found.departure("ann@example.com", NOW)
    assert departure is not None
    assert departure.leave_date == date(2026, 3, 9)
    assert departure.left_at == datetime(2026, 3, 9, 23, tzinfo=UTC)


@pytest.mark.parametrize("empty", [None, "", "  ", float("nan")])
def test_an_empty_end_date_is_none(empty):
    found = roster([(1, "ann@example.com", empty)], "nr mail end", end_date="end")
    assert found.departure("ann@example.com", NOW) is None


def test_a_day_of_23_hours_ends_when_the_clocks_say_so():
    found = roster([(1, "ann@example.com", "2026-03-29")], "nr mail end", end_date="end", timezone="Europe/Berlin")
    ended = datetime(2026, 3, 29, 22, tzinfo=UTC)
    assert found.departure("ann@example.com", ended - timedelta(seconds=1)) is None
    departure = found.departure("ann@example.com", ended)
    assert departure is not None
    assert departure.left_at == ended


@pytest.mark.parametrize("end", ["09.03.2026", "soon", "2026-02-30", 20260309])
def test_an_end_date_that_is_no_day_refuses_the_whole_roster(end):
    with pytest.raises(AhaSnapshotError, match="row 2"):
        roster([(1, "a@example.com", ""), (2, "ann@example.com", end)], "nr mail end", end_date="end")


@pytest.mark.parametrize("keys", [(1, None), (1, ""), (1, 1), ("a", " a ")])
def test_empty_and_repeated_keys_refuse_the_roster(keys):
    with pytest.raises(AhaSnapshotError, match="nr"):
        roster([(key, f"p{number}@example.com") for number, key in enumerate(keys)])


def test_a_missing_column_is_named():
    with pytest.raises(AhaConfigurationError, match="status, end"):
        roster(people(2), status="status", left_statuses=["x"], end_date="end")


def test_an_end_date_that_a_status_contradicts_is_counted():
    rows = [
        (1, "a@example.com", "Active", "2020-01-31"),
        (2, "b@example.com", "Left", "2020-01-31"),
        (3, "", "", ""),
    ]
    more: dict[str, Any] = {"status": "status", "left_statuses": ["left"], "end_date": "end"}
    assert roster(rows, "nr mail status end", **more).contradictions(NOW) == 1


# --- files ---------------------------------------------------------------------------------------


def file(path: Path, text: str, written: datetime = NOW) -> Store:
    path.write_text(text)
    os.utime(path, (written.timestamp(), written.timestamp()))
    return Store(LocalFileSystem(), str(path), str(path))


def test_a_file_is_as_old_as_its_last_change(tmp_path):
    found = load_roster(spec(), file(tmp_path / "r.csv", "nr,mail\n1,ann@example.com\n"))
    assert found.loaded_at == NOW


@pytest.mark.parametrize(
    "text",
    ["", "nr,mail\n1,ann@example.com\n2", 'nr,mail\n1,"ann@example.com\n', "nr;mail\n1;ann@example.com\n"],
    ids=["empty", "cut in a row", "cut in a value", "semicolons"],
)
def test_a_file_that_was_cut_or_is_written_otherwise_is_refused(tmp_path, text):
    with pytest.raises(AhaConfigurationError):
        load_roster(spec(), file(tmp_path / "r.csv", text))


def test_a_missing_file_is_refused(tmp_path):
    path = str(tmp_path / "r.csv")
    with pytest.raises(AhaStorageError):
        load_roster(spec(), Store(LocalFileSystem(), path, path))


# --- refusing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "previous", "why"),
    [
        (roster(people(100), loaded_at=NOW - timedelta(hours=24, seconds=1)), None, "24 hours old"),
        (roster(people(100), loaded_at=NOW + timedelta(hours=1)), None, "future"),
        (roster(people(99), min_rows=100), None, "99 rows"),
        (roster([]), None, "0 rows"),
        (roster(people(94)), load(100), "more than 5 %"),
        (roster(people(85)), load(100), "more than 5 %"),
    ],
    ids=["old", "future", "short", "empty", "6 % shorter", "cut at 85 %"],
)
def test_an_old_or_short_roster_is_refused(found, previous, why):
    with pytest.raises(AhaSnapshotError, match=why):
        found.check(previous, NOW)


def test_a_roster_that_is_fresh_and_long_enough_is_accepted():
    roster(people(95), loaded_at=NOW - timedelta(hours=24)).check(load(100), NOW)
    roster(people(100), min_rows=100).check(None, NOW)


def check_matches(covered: int, matched: int, *previous: Load | None, **more: Any) -> None:
    employees, contractors = roster(people(1), **more), roster(people(1), name="contractors")
    Rosters((employees, contractors)).check_matches(covered, matched, [*previous, None])


@pytest.mark.parametrize(
    ("covered", "matched", "previous"),
    [(100, 94, load(1)), (100, 0, None), (100, 49, None), (0, 0, None), (100, 47, load(1, 100, 49))],
    ids=["fell", "nobody", "less than half", "no domain", "fell below half"],
)
def test_rosters_that_suddenly_know_fewer_users_are_refused(covered, matched, previous):
    with pytest.raises(AhaSnapshotError):
        check_matches(covered, matched, previous)


def test_a_share_of_matches_that_hardly_falls_is_accepted():
    check_matches(100, 95, load(1))
    check_matches(50, 49, load(1, 100, 100))
    check_matches(100, 50, None)


def test_one_roster_can_be_accepted_by_its_hash():
    """Real lay-offs happen; the hash of another roster helps nobody."""
    rows = people(50)
    digest = roster(rows).sha256
    accepted = roster(rows, accept_sha256=digest)
    accepted.check(load(100), NOW)
    Rosters((accepted,)).check_matches(100, 10, [load(100)])
    with pytest.raises(AhaSnapshotError):
        accepted.check(load(100), NOW + timedelta(days=2))
    other = roster(rows[:-1], accept_sha256=digest)
    with pytest.raises(AhaSnapshotError):
        other.check(load(100), NOW)


def test_a_refusal_names_the_hash_to_accept_and_no_person():
    found = roster(people(50))
    with pytest.raises(AhaError) as caught:
        found.check(load(100), NOW)
    assert found.sha256 in str(caught.value)
    assert "@" not in str(caught.value)
