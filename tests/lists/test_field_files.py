"""Rosters from the field, where these files are at hand: what each says about one person, on shifted days."""

from __future__ import annotations

import io
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_aha.common.addresses import spelled
from airflow_provider_aha.exceptions import AhaSnapshotError
from airflow_provider_aha.lists.roster import Roster, RosterSpec, load_roster
from airflow_provider_aha.store.store import Store

FILES = Path(__file__).parents[2].parent / "shared" / "cases" / "roster"
# The files were made on this day; the tests pretend that it is the day of MADE below.
MADE, PRETENDED = date(2026, 11, 28), date(2026, 3, 10)
SHIFT = PRETENDED - MADE
WHO = "user3@example.com"

pytestmark = pytest.mark.skipif(
    not FILES.is_dir(), reason="the files from the field (not part of this repository) are not beside it"
)


def shifted(body: bytes, suffix: str) -> bytes:
    """Shift the days of the year in which the file was made; markers of other years stay."""
    if suffix == "csv":
        return re.sub(
            rb"2026-\d\d-\d\d",
            lambda found: str(date.fromisoformat(found[0].decode()) + SHIFT).encode(),
            body,
        )
    table = pq.read_table(io.BytesIO(body))
    place = table.schema.get_field_index("last_day")
    kind = table.schema.field(place).type
    moments = [value and value + SHIFT for value in table.column(place).to_pylist()]
    buffer = io.BytesIO()
    pq.write_table(table.set_column(place, "last_day", pa.array(moments, kind)), buffer)
    return buffer.getvalue()


def load(name: str, **more: Any) -> Roster:
    path = FILES / name
    fs = MemoryFileSystem(skip_instance_cache=True)
    fs.pipe_file(f"/{name}", shifted(path.read_bytes(), path.suffix[1:]))
    header = pq.read_schema(path).names if path.suffix == ".parquet" else path.read_text().split("\n")[0].split(",")
    has_status = "status" in header
    (spec,) = RosterSpec.read_all(
        {
            "path": f"/{name}",
            "key": "emp_no",
            "emails": [column for column in ("work_email", "other") if column in header],
            "domains": ["example.com"],
            "min_rows": 5,
            "end_date": "last_day",
            **({"status": "status", "left_statuses": ["Terminated"]} if has_status else {}),
            **more,
        }
    )
    return load_roster(spec, Store(fs, f"/{name}", f"/{name}"))


AT_NOON = datetime(PRETENDED.year, PRETENDED.month, PRETENDED.day, 12, tzinfo=UTC)


@pytest.mark.parametrize("name", ["date_1900.csv", "hr_bamboo_zero.csv"])
def test_a_marker_is_no_last_day(name):
    roster = load(name)
    assert roster.departure(WHO, AT_NOON) is None
    assert roster.markers() == 1


def test_a_marker_beside_a_status_is_somebody_who_left_on_no_known_day():
    departure = load("date_year1.csv").departure(WHO, AT_NOON)
    assert departure is not None
    assert departure.leave_date is None


@pytest.mark.parametrize(
    ("name", "timezone"),
    [
        ("utc_midnight_today_LA.csv", "America/Los_Angeles"),
        ("end_date_utc_us.parquet", "America/Los_Angeles"),
        ("end_date_utc_us.parquet", "UTC"),
        ("hr_personio_plus1_defaultUTC.csv", "UTC"),
    ],
)
def test_a_day_written_as_a_moment_ends_no_day_early(name, timezone):
    roster = load(name, timezone=timezone)
    (person,) = roster.people[WHO]
    assert person.end_date == PRETENDED
    end = datetime.combine(person.end_date + timedelta(days=1), datetime.min.time(), roster.zone)
    assert roster.departure(WHO, end - timedelta(seconds=1)) is None
    departure = roster.departure(WHO, end)
    assert departure is not None
    assert departure.leave_date == PRETENDED


@pytest.mark.parametrize("name", ["proxy_addresses.csv", "angle_name.csv", "mailto.csv", "zero_width.csv"])
def test_an_address_that_is_spelled_differently_is_known(name):
    assert load(name).knows(WHO)


def test_a_cell_that_is_no_address_refuses_the_roster_and_names_its_row():
    """Row 4 has the word x as an address, beside a column with two."""
    with pytest.raises(AhaSnapshotError, match=r"row 4 .*work_email"):
        load("pipe.csv")
    assert load("pipe.csv", emails=["other"]).knows(WHO)


def test_a_plus_address_of_aha_is_a_look_alike():
    roster = load("hr_plus.csv")
    assert roster.resembles(spelled("User3+aha@example.com"))
    assert not roster.resembles(WHO)


def test_every_file_has_a_test():
    text = Path(__file__).read_text()
    assert all(path.name in text for path in FILES.iterdir())
