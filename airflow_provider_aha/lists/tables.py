"""Small tables that people keep, as CSV or Parquet: read whole and strictly, since a cut one would do harm."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_aha.common.arrow import whole
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaStorageError
from airflow_provider_aha.store.store import Store

# A list of all people of a large company fits in several times, packed and unpacked; what doesn't is no such list.
LARGEST_FILE = 64 * 1024 * 1024
_MOST_ROWS = 1_000_000
_MOST_COLUMNS = 1000
_LONGEST_CELL = 100_000
_LONGEST_LINE = 1_000_000
# So many rows of a Parquet file, or of a query's answer, are read before it is looked at how large they are.
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class SmallTable:
    """The rows of a file or a query.

    :param what: what it is, for sentences: ``The exclusion file s3://...``.
    :param columns: names of the columns, lower case and without blanks around them.
    :param rows: values by row, as many as columns.
    :param body: the bytes it was read from.
    :param suffix: ``csv`` or ``parquet``.
    """

    what: str
    columns: tuple[str, ...]
    rows: list[Sequence[Any]]
    body: bytes
    suffix: str

    def records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield number (from 1) and values by column of each row."""
        for number, row in enumerate(self.rows, 1):
            yield number, dict(zip(self.columns, row, strict=True))


def read_table(location: Store, what: str) -> SmallTable:
    """Read a CSV (UTF-8, comma, with a header) or Parquet file.

    :param location: the file.
    :param what: what it is, for sentences, beginning with a capital letter.
    :raises AhaStorageError: when it is missing or can't be read.
    :raises AhaConfigurationError: when it is no such table.
    """
    suffix = location.name.rpartition(".")[2].lower()
    body = location.read_limited(what, LARGEST_FILE) if suffix in ("csv", "parquet") else b""
    what = f"{what} {location.url}"
    if suffix not in ("csv", "parquet"):
        raise AhaConfigurationError(f"{what} must be a .csv or .parquet file.")
    columns, rows = (_csv if suffix == "csv" else _parquet)(body, what)
    _check_size(columns, rows, what)
    return SmallTable(what, _checked_columns(columns, what), rows, body, suffix)


def rows_of(cursor: Any, what: str) -> list[Sequence[Any]]:
    """Fetch a query's answer, which may have no end.

    :param cursor: the cursor of a database, behind its query.
    :param what: what it is, for sentences, beginning with a capital letter.
    :raises AhaConfigurationError: when it is larger than such a table can be; no more of it is fetched.
    """
    rows: list[Sequence[Any]] = []
    left = LARGEST_FILE
    while batch := cursor.fetchmany(_ROWS_AT_ONCE):
        rows += batch
        left -= sum(len(cell) for row in batch for cell in row if isinstance(cell, (str, bytes)))
        if left < 0 or len(rows) > _MOST_ROWS:
            raise AhaConfigurationError(_too_large(what))
    return rows


def table_of(what: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> SmallTable:
    """Make a table of a query's answer; it is kept as CSV.

    :param what: what it is, for sentences, beginning with a capital letter.
    :param columns: the columns' names.
    :param rows: values by row.
    :raises AhaConfigurationError: when columns have no names, or the same, or a cell is too long.
    """
    _check_size(columns, rows, what)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return SmallTable(what, _checked_columns(columns, what), list(rows), text.getvalue().encode(), "csv")


def _csv(body: bytes, what: str) -> tuple[Sequence[str], list[Sequence[Any]]]:
    rows: list[list[str]] = []
    try:
        reader = csv.reader(_lines(_text(body, what), what), strict=True)
        for line in reader:
            if any(cell.strip() for cell in line):
                rows.append(line)
            if len(rows) > _MOST_ROWS + 1:
                raise AhaConfigurationError(_too_large(what))
    except csv.Error as error:
        raise AhaConfigurationError(
            f"{what} is not a readable CSV file: {error}, in line {reader.line_num}."
        ) from None
    if not rows:
        raise AhaConfigurationError(f"{what} is empty: it has no line with the names of its columns.")
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(rows[0]):
            raise AhaConfigurationError(
                f"{what} has {len(rows[0])} columns, but {len(row)} values in row {number}: it was cut short, or a "
                "value with a comma has no quotes around it."
            )
    return rows[0], [*rows[1:]]


def _text(body: bytes, what: str) -> str:
    if body.startswith(b"PK\x03\x04"):
        raise AhaConfigurationError(f"{what} is a spreadsheet (.xlsx) or an archive: save it as CSV UTF-8.")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise AhaConfigurationError(f"{what} is not UTF-8 text: save it as CSV UTF-8.") from None
    if "\0" in text:
        raise AhaConfigurationError(
            f"{what} has null characters in it: it is UTF-16, or its upload broke. Save it as CSV UTF-8."
        )
    return text


def _lines(text: str, what: str) -> Iterator[str]:
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if len(line) > _LONGEST_LINE:
            raise AhaConfigurationError(
                f"{what} has more than {_LONGEST_LINE:,} characters in line {number}: it is another kind of file, "
                "or its line breaks were lost."
            )
        yield line


def _parquet(body: bytes, what: str) -> tuple[Sequence[str], list[Sequence[Any]]]:
    try:
        with pq.ParquetFile(pa.BufferReader(body)) as file:
            table = _bounded(file, what)
    except (pa.ArrowException, OSError):
        raise AhaStorageError(f"{what} can't be read as Parquet: it was cut short or changed.") from None
    columns = [_values(table.column(name)) for name in table.column_names]
    return table.column_names, list(zip(*columns, strict=True))


def _values(column: Any) -> list[Any]:
    try:
        return list(_plain(column).to_pylist())
    except (pa.ArrowInvalid, ValueError, OverflowError):
        return [_value(column, row) for row in range(len(column))]


def _bounded(file: pq.ParquetFile, what: str) -> pa.Table:
    """Read a file that may become far more than it is: one value, a billion times."""
    if file.metadata.num_rows > _MOST_ROWS or file.metadata.num_columns > _MOST_COLUMNS:
        raise AhaConfigurationError(_too_large(what))
    _checked_columns(file.schema_arrow.names, what)
    batches, left = [], LARGEST_FILE
    for packed in file.iter_batches(_ROWS_AT_ONCE):
        batch = pa.RecordBatch.from_arrays(list(map(_written_out, packed.columns)), packed.schema.names)
        left -= batch.nbytes
        if left < 0:
            raise AhaConfigurationError(_too_large(what))
        batches.append(batch)
    return pa.Table.from_batches(batches) if batches else whole(file)


def _written_out(column: pa.Array) -> pa.Array:
    # As a dictionary, a value takes room once, however often it is there.
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _check_size(columns: Sequence[str], rows: Sequence[Sequence[Any]], what: str) -> None:
    if len(rows) > _MOST_ROWS or len(columns) > _MOST_COLUMNS:
        raise AhaConfigurationError(_too_large(what))
    for number, row in enumerate([columns, *rows]):
        for cell in row:
            if isinstance(cell, (str, bytes)) and len(cell) > _LONGEST_CELL:
                where = f"row {number}" if number else "the names of its columns"
                raise AhaConfigurationError(
                    f"{what} has more than {_LONGEST_CELL:,} characters in one cell, in {where}: a quote or a line "
                    "break is missing, or it is another kind of file."
                )


def _too_large(what: str) -> str:
    return (
        f"{what} has more than {_MOST_ROWS:,} rows, {_MOST_COLUMNS:,} columns or {LARGEST_FILE // 1024**2} MB: "
        "that is no list that this package reads."
    )


def _plain(column: Any) -> Any:
    """Bring moments to the precision that Python has; finer ones would become pandas objects."""
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", tz=column.type.tz), safe=column.type.unit != "ns")
    return column


def _value(column: Any, row: int) -> Any:
    """Return one value; a day or moment outside of Python's calendar counts as the calendar's end on that side."""
    try:
        return _plain(column.slice(row, 1)).to_pylist()[0]
    except (pa.ArrowInvalid, ValueError, OverflowError):
        return date.min if column[row].value < 0 else date.max


def _checked_columns(columns: Sequence[str], what: str) -> tuple[str, ...]:
    names = tuple(str(name).strip().lower() for name in columns)
    if not all(names) or len(set(names)) != len(names):
        raise AhaConfigurationError(f"{what} has a column without a name, or two with the same.")
    return names
