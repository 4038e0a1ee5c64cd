"""A file that went through somebody's hands is a list of people, or it is refused before it takes memory."""

import csv
import io
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.exceptions import AhaConfigurationError, AhaError
from airflow_provider_aha.lists import tables
from airflow_provider_aha.lists.tables import SmallTable, read_table
from airflow_provider_aha.store.store import Store

MB = 1024 * 1024
HEADER = b"work_email,name\n"
PERSON = b"ann@example.com,Ann Smith\n"


def read(path: Path) -> SmallTable:
    return read_table(Store(LocalFileSystem(), str(path), str(path)), "The roster")


def stored(tmp_path: Path, body: bytes, name: str = "roster.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(body)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(AhaError) as caught:
        read(path)
    text = str(caught.value)
    assert "ann@" not in text
    assert "Ann" not in text
    return text


@pytest.mark.parametrize("name", ["roster.csv", "roster.parquet"])
def test_a_file_of_gigabytes_is_not_read(tmp_path, name):
    path = tmp_path / name
    with path.open("wb") as file:
        # A hole: nothing of it takes room on the disk.
        file.truncate(3 * 1024 * MB)
    tracemalloc.start()
    assert "is larger than 64 MB, and nothing of it was read" in refusal(path)
    assert tracemalloc.get_traced_memory()[1] < MB
    tracemalloc.stop()


def test_a_file_as_large_as_may_be_is_read(tmp_path, monkeypatch):
    body = HEADER + 3 * PERSON
    monkeypatch.setattr(tables, "LARGEST_FILE", len(body))
    assert len(read(stored(tmp_path, body)).rows) == 3
    monkeypatch.setattr(tables, "LARGEST_FILE", len(body) - 1)
    assert "nothing of it was read" in refusal(stored(tmp_path, body))


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        pytest.param(HEADER + b"a" * 2_000_000, "more than 1,000,000 characters in line 2", id="no line break"),
        pytest.param(b",".join([b"ann@example.com"] * 100_000), "in line 1", id="columns without end"),
        pytest.param(b",".join([b"a"] * 1001) + b"\n", "1,000 columns", id="more columns than a list has"),
        pytest.param(HEADER + b"\n" + b"a,b\n" * 1_000_001, "more than 1,000,000 rows", id="rows without end"),
        pytest.param(HEADER + b"b" * 100_001 + b",a\n", "in one cell, in row 1", id="a large cell"),
        pytest.param(b"b" * 100_001 + b",a\n", "in the names of its columns", id="a large name of a column"),
        pytest.param(HEADER + PERSON + b'"' + PERSON * 9000, "is not a readable CSV file", id="an open quote"),
        pytest.param(HEADER + PERSON + b"a\0,b\n", "has null characters in it", id="null bytes"),
        pytest.param((HEADER + PERSON).decode().encode("utf-16-le"), "it is UTF-16", id="UTF-16 without a mark"),
        pytest.param((HEADER + PERSON).decode().encode("utf-16"), "is not UTF-8 text", id="UTF-16"),
        pytest.param(HEADER + b"ann@example.com,Ren\xe9\n", "is not UTF-8 text", id="Latin-1"),
        pytest.param(b"PK\x03\x04" + PERSON, "is a spreadsheet (.xlsx) or an archive", id="a spreadsheet"),
        pytest.param(b"", "is empty", id="nothing"),
    ],
)
def test_what_is_no_list_is_refused_in_a_sentence(tmp_path, body, sentence):
    assert sentence in refusal(stored(tmp_path, body))


def test_blank_lines_take_no_memory(tmp_path):
    path = stored(tmp_path, HEADER + b"\n" * 2_000_000 + PERSON)
    tracemalloc.start()
    assert len(read(path).rows) == 1
    assert tracemalloc.get_traced_memory()[1] < 20 * MB
    tracemalloc.stop()


def parquet(tmp_path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path = tmp_path / "roster.parquet"
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_one_value_a_billion_times_is_refused_by_the_footer(tmp_path):
    path = parquet(tmp_path, {"work_email": pa.repeat(pa.scalar("ann@example.com"), 1_000_001)})
    assert path.stat().st_size < MB
    tracemalloc.start()
    assert "more than 1,000,000 rows" in refusal(path)
    assert tracemalloc.get_traced_memory()[1] < MB
    tracemalloc.stop()


@pytest.mark.parametrize("store_schema", [True, False], ids=["as a dictionary", "as text"])
def test_a_large_value_many_times_is_refused_before_all_are_there(tmp_path, store_schema):
    places = pa.array([0] * 30_000, pa.int32())
    values = pa.DictionaryArray.from_arrays(places, ["ann@example.com" * 1000])
    path = parquet(tmp_path, {"work_email": values}, store_schema=store_schema)
    assert path.stat().st_size < MB
    assert "1,000 columns or 64 MB" in refusal(path)


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "roster.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 2, ["work_email", "work_email"]), path)
    assert "two with the same" in refusal(path)


def test_columns_without_end_are_refused(tmp_path):
    assert "1,000 columns" in refusal(parquet(tmp_path, {f"column{n}": [n] for n in range(1001)}))


def test_a_cell_that_is_too_large_names_its_row(tmp_path):
    path = parquet(tmp_path, {"work_email": ["ann@example.com", "ann@example.com" * 10_000]})
    assert "in one cell, in row 2" in refusal(path)


@pytest.mark.parametrize("at", [-8, -5])
def test_a_footer_that_was_changed_is_refused(tmp_path, at):
    body = bytearray(parquet(tmp_path, {"work_email": ["ann@example.com"] * 100}).read_bytes())
    body[at : at + 4] = b"\xff\xff\xff\x7f"
    assert "can't be read as Parquet" in refusal(stored(tmp_path, bytes(body), "roster.parquet"))


def test_what_is_large_and_right_is_read_in_order(tmp_path):
    emails = [f"user{n}@example.com" for n in range(10_000)]
    assert [row[0] for row in read(parquet(tmp_path, {"Work_Email": emails}, row_group_size=3000)).rows] == emails
    text = io.StringIO()
    csv.writer(text).writerows([["Work_Email"], *([email] for email in emails)])
    table = read(stored(tmp_path, b"\xef\xbb\xbf" + text.getvalue().encode()))
    assert ([row[0] for row in table.rows], table.columns) == (emails, ("work_email",))


def test_a_table_without_rows_is_one(tmp_path):
    table = read(parquet(tmp_path, {"work_email": pa.array([], pa.string())}))
    assert (table.columns, table.rows) == (("work_email",), [])
    with pytest.raises(AhaConfigurationError, match=r"must be a \.csv or \.parquet file"):
        read(stored(tmp_path, b"", "roster.xlsx"))
