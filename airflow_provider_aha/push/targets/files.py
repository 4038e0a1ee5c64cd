"""Mapped records as one file: Parquet, CSV or JSON lines, replaced whole in every run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO, Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from airflow_provider_aha.common.arrow import array_of, literal, values_of
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.push.mapping.spec import UPSERT, MappingSpec
from airflow_provider_aha.push.mapping.transforms import iso_utc
from airflow_provider_aha.push.targets.base import SENT, Answer, Batch, Target
from airflow_provider_aha.store.store import Store, staging, storage_errors

FORMATS = ("parquet", "csv", "jsonl")
# A spreadsheet runs a cell that begins with one of these; a quote in front makes it text.
_FORMULA = "^[=+\\-@\t\r]"
_STRING = pa.string()


class FileTarget(Target):
    """Writes all mapped records of a run to one file.

    :param location: the file; one that is there is replaced, by a complete one.
    :param format: ``parquet``, ``csv`` or ``jsonl``.
    """

    kind = "file"
    takes_all = True
    batch_size = 8192

    def __init__(self, location: Store, format: str) -> None:  # noqa: A002 - what users call it
        self._location = location
        self._format = format
        self._stack = ExitStack()

    @property
    def name(self) -> str:
        """The address of the file."""
        return self._location.url

    def open(self, spec: MappingSpec, *, dry_run: bool) -> None:
        """Get ready to write.

        :param spec: the mapping; a file that is replaced has the mode ``upsert`` only.
        :param dry_run: nothing is written.
        """
        if spec.mode != UPSERT:
            raise AhaConfigurationError(
                f"A file is written anew with all records, so the mode {spec.mode} can't be had: use upsert."
            )
        if dry_run:
            return
        self._staged = self._stack.enter_context(staging()) / f"records.{self._format}"
        with storage_errors(str(self._staged)):
            self._writer = _WRITERS[self._format](self._staged, spec)
        self._stack.callback(self._writer.close)

    def send(self, batch: Batch) -> Sequence[Answer]:
        """Append records to the staged file.

        :param batch: the records.
        """
        with storage_errors(str(self._staged)):
            self._writer.write(batch)
        return [Answer(SENT)] * len(batch)

    def finish(self) -> None:
        """Put the file in its place."""
        with storage_errors(str(self._staged)):
            self._writer.close()
        self._location.publish({"": self._staged})

    def close(self) -> None:
        """Throw away what is staged."""
        self._stack.close()


class _Parquet:
    def __init__(self, path: Any, spec: MappingSpec) -> None:
        facts = {"aha_mapping": spec.name, "aha_mapping_sha256": spec.fingerprint}
        self._writer = pq.ParquetWriter(path, spec.schema.with_metadata(facts), compression="zstd")
        self._schema = spec.schema

    def write(self, batch: Batch) -> None:
        self._writer.write_table(batch.table.cast(self._schema))

    def close(self) -> None:
        self._writer.close()


class _Csv:
    """UTF-8 with a header; null is empty, empty text is two quotes."""

    def __init__(self, path: Any, spec: MappingSpec) -> None:
        self._types = {one.name: one.type for one in spec.fields}
        header = pa.schema([pa.field(_harmless_name(one.name), _STRING) for one in spec.fields])
        self._writer = pcsv.CSVWriter(path, header)
        self._schema = header

    def write(self, batch: Batch) -> None:
        columns = [_text(batch.table.column(name), kind) for name, kind in self._types.items()]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def _harmless_name(name: str) -> str:
    return f"'{name}" if name[:1] in "=+-@" else name


def _text(column: Any, kind: str) -> Any:
    if kind == "timestamp":
        return array_of([value and iso_utc(value) for value in values_of(column)], _STRING)
    if kind in ("string", "json"):
        # Numbers may begin with a minus, and stay numbers.
        danger = pc.match_substring_regex(column, _FORMULA)
        quoted = pc.binary_join_element_wise(literal("'", _STRING), column, literal("", _STRING))
        return pc.if_else(danger, quoted, column)
    return column.cast(_STRING)


class _JsonLines:
    def __init__(self, path: Any, _: MappingSpec) -> None:
        self._file: IO[bytes] = path.open("wb")

    def write(self, batch: Batch) -> None:
        self._file.writelines(orjson.dumps(record) + b"\n" for record in batch.records())

    def close(self) -> None:
        self._file.close()


_WRITERS: dict[str, Any] = {"parquet": _Parquet, "csv": _Csv, "jsonl": _JsonLines}
