"""Cells of a roster's date column: what day each is, or that it is none. The expectations are data."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_aha.exceptions import AhaError
from airflow_provider_aha.lists.roster import Roster, RosterSpec, load_roster
from airflow_provider_aha.store.store import Store

FILE = yaml.safe_load((Path(__file__).parent / "dates.yaml").read_text())
CASES = [FILE["defaults"] | case for case in FILE["cases"]]
AS_OF = datetime(2026, 3, 10, tzinfo=UTC)


def column_of(case: dict[str, Any]) -> pa.Array:
    cell, kind = case.get("cell"), case["type"]
    if kind == "timestamp":
        raw = case["raw"] if "raw" in case else cell and int(np.datetime64(cell, case["unit"]).astype("int64"))
        # Parquet has no seconds: the largest number is one of milliseconds there.
        unit = "ms" if "raw" in case else case["unit"]
        naive = pa.array([raw], pa.int64()).cast(pa.timestamp(unit))
        if case["tz"] in (None, "UTC"):
            return naive.cast(pa.timestamp(unit, tz=case["tz"]))
        if case["tz"][0] in "+-":
            # Older Arrows know a fixed offset as the zone of a column, but don't calculate with it.
            offset = datetime.fromisoformat(f"2026-01-01T00:00:00{case['tz']}").utcoffset()
            return pc.subtract(naive, pa.scalar(offset)).cast(pa.timestamp(unit, tz=case["tz"]))
        return pc.assume_timezone(naive, case["tz"])
    if kind == "date":
        return pa.array([cell], pa.string()).cast(pa.date32())
    kinds = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "null": pa.null(), "text": pa.string()}
    return pa.array([cell], kinds[kind])


def load(case: dict[str, Any]) -> Roster:
    """Read a roster of one row, as CSV for text and as Parquet for everything else."""
    fs = MemoryFileSystem(skip_instance_cache=True)
    mail = "user3@example.com"
    if case["type"] == "text":
        text = (case["cell"] * case.get("repeat_cell", 1)).replace('"', '""')
        name, body = "/roster.csv", f'nr,mail,end\n3,{mail},"{text}"\n'.encode()
    else:
        table = pa.table({"nr": ["3"], "mail": [mail], "end": column_of(case)})
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        name, body = "/roster.parquet", buffer.getvalue()
    fs.pipe_file(name, body)
    (spec,) = RosterSpec.read_all(
        {
            "path": name,
            "key": "nr",
            "emails": ["mail"],
            "domains": ["example.com"],
            "min_rows": 1,
            "end_date": "end",
            "timezone": case["timezone"],
        }
    )
    return load_roster(spec, Store(fs, name, name))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_cell_is_a_day_or_none_or_refused(case):
    allowed = [case["expect"]] if "expect" in case else case["either"]
    reason = ""
    try:
        (person,) = load(case).people["user3@example.com"]
        found = str(person.end_date) if person.end_date else "none"
    except AhaError as error:
        found, reason = "refused", str(error)
    assert found in allowed, case["why"]
    assert found not in case.get("never", [])
    if found == "refused":
        assert "row 1" in reason or "line 2" in reason
        assert len(reason) < 200, "the cell isn't repeated"


@pytest.mark.parametrize(
    ("cells", "count"),
    [(["1900-01-01", "0000-00-00", "9999-12-31", "-"], 4), (["", "2026-03-09"], 0)],
)
def test_cells_that_mark_no_date_are_counted_and_empty_ones_are_not(cells, count):
    fs = MemoryFileSystem(skip_instance_cache=True)
    rows = "".join(f"{nr},u{nr}@example.com,{cell}\n" for nr, cell in enumerate(cells))
    fs.pipe_file("/roster.csv", f"nr,mail,end\n{rows}".encode())
    (spec,) = RosterSpec.read_all(
        {"path": "/r", "key": "nr", "emails": ["mail"], "domains": ["x"], "min_rows": 1, "end_date": "end"}
    )
    assert load_roster(spec, Store(fs, "/roster.csv", "/roster.csv")).markers() == count
