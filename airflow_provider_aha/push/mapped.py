"""The plan of a push: every row mapped and judged before the first record is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airflow_provider_aha.common.arrow import array_of, hashes, literal
from airflow_provider_aha.push.mapping.lookup import twice
from airflow_provider_aha.push.mapping.mapper import Fault, Mapped, map_rows
from airflow_provider_aha.push.mapping.rows import WIDTH, compared, key_texts, row_hashes
from airflow_provider_aha.push.mapping.spec import MappingSpec
from airflow_provider_aha.push.outcomes import INVALID, PLANNED
from airflow_provider_aha.push.sent import Sent
from airflow_provider_aha.push.targets.base import REJECTED, SKIPPED, UNCHANGED
from airflow_provider_aha.store.store import storage_errors

# Rows that are in memory at a time.
CHUNK = 8192
_TWICE = "the same value comes in more than one record, and the field is unique"
_KEY_TWICE = "the same sync key comes in more than one record"
_NONE = bytes(WIDTH)
_STRING = pa.string()


def _word(text: str) -> Any:
    return literal(text, _STRING)


NOTES = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("sync_key", pa.string()),
        pa.field("status", pa.string()),
        pa.field("field", pa.string()),
        pa.field("reason", pa.string()),
    ]
)


@dataclass
class Chunk:
    """Some rows of the plan.

    :param start: the position of the first one among all rows of the dataset.
    :param table: the mapped records.
    :param notes: whom each is about, and what is to become of it.
    """

    start: int
    table: pa.Table
    notes: pa.Table


@dataclass
class PushPlan:
    """What is to become of every row of a dataset.

    :param spec: the mapping.
    :param folder: where the mapped rows are staged.
    :param keys: hash of the sync key of each row.
    :param records: hash of each mapped row.
    :param rows: how many rows there are.
    :param meant: how many passed the filter.
    :param counts: rows by status.
    :param faults: rows by the field that made them invalid.
    """

    spec: MappingSpec
    folder: Path
    keys: pa.Array
    records: pa.Array
    rows: int
    meant: int
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    _doubles: dict[str, Any] = field(default_factory=dict)
    _held: Any = None
    _rejected: Mapping[int, str] = field(default_factory=dict)

    def reject(self, reasons: Mapping[int, str]) -> int:
        """Take records out of what is sent, because the target would refuse or mix them.

        :param reasons: by row, why; rows that aren't meant, or are invalid, stay what they are.
        :return: how many are rejected.
        """
        self._rejected = reasons
        self.counts.clear()
        self.faults.clear()
        for chunk in self.chunks():
            _count(self, chunk)
        return self.counts[REJECTED]

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows in their order, with what is to become of each."""
        with ExitStack() as stack:
            rows, notes = (
                stack.enter_context(pq.ParquetFile(self.folder / name))
                for name in ("rows.parquet", "notes.parquet")
            )
            start = 0
            for number in range(rows.num_row_groups):
                table = rows.read_row_group(number, use_threads=False)
                yield self._judged(start, table, notes.read_row_group(number, use_threads=False))
                start += table.num_rows

    def _judged(self, start: int, table: pa.Table, notes: pa.Table) -> Chunk:
        status, blamed, reason = (notes.column(name) for name in ("status", "field", "reason"))
        mapped = pc.or_kleene(pc.is_null(status), pc.not_equal(status, _word(SKIPPED)))
        for name, doubled in self._doubles.items():
            clash = pc.and_(mapped, doubled.slice(start, table.num_rows))
            fresh = pc.and_(clash, pc.is_null(status))
            status = pc.if_else(fresh, _word(INVALID), status)
            blamed = pc.if_else(fresh, _word(name or ", ".join(self.spec.sync_key)), blamed)
            reason = pc.if_else(fresh, _word(_TWICE if name else _KEY_TWICE), reason)
        if self._held is not None:
            same = pc.and_(pc.is_null(status), self._held.slice(start, table.num_rows))
            status = pc.if_else(same, _word(UNCHANGED), status)
        status = pc.fill_null(status, _word(PLANNED))
        columns = [notes.column("user_id"), notes.column("sync_key"), status, blamed, reason]
        judged = pa.Table.from_arrays(columns, names=NOTES.names)
        return Chunk(start, table, self._without_rejected(start, judged))

    def _without_rejected(self, start: int, notes: pa.Table) -> pa.Table:
        rows = [row for row in self._rejected if start <= row < start + notes.num_rows]
        if not rows:
            return notes
        words = {name: notes.column(name).to_pylist() for name in ("status", "field", "reason")}
        for row in rows:
            if words["status"][row - start] in (PLANNED, UNCHANGED):
                told = (REJECTED, ", ".join(self.spec.sync_key), self._rejected[row])
                for name, word in zip(words, told, strict=True):
                    words[name][row - start] = word
        for name, values in words.items():
            notes = notes.set_column(notes.column_names.index(name), name, array_of(values, _STRING))
        return notes


def make_push_plan(file: Any, spec: MappingSpec, folder: Path, sent: Sent) -> PushPlan:
    """Map and judge all rows of a dataset.

    :param file: a ``pyarrow.parquet.ParquetFile`` of the mapping's dataset.
    :param spec: the mapping.
    :param folder: local folder to stage in.
    :param sent: what was last sent.
    """
    stage = _Stage(spec, folder)
    with stage:
        for batch in file.iter_batches(batch_size=CHUNK, columns=spec.columns, use_threads=False):
            stage.add(map_rows(spec, pa.Table.from_batches([batch])))
    plan = PushPlan(
        spec,
        folder,
        hashes(stage.keys, WIDTH),
        hashes(stage.records, WIDTH),
        stage.rows,
        stage.meant,
        _doubles={name: twice(hashes(digests, WIDTH)) for name, digests in stage.unique.items()},
    )
    if len(sent.keys):
        plan._held = sent.holds(plan.keys, plan.records)
    for chunk in plan.chunks():
        _count(plan, chunk)
    return plan


def _count(plan: PushPlan, chunk: Chunk) -> None:
    for pair in pc.value_counts(chunk.notes.column("status")).to_pylist():
        plan.counts[pair["values"]] += pair["counts"]
    invalid = chunk.notes.filter(pc.equal(chunk.notes.column("status"), _word(INVALID)))
    plan.faults.update(invalid.column("field").to_pylist())


class _Stage:
    """Stages mapped rows on disk, and keeps of each only hashes."""

    def __init__(self, spec: MappingSpec, folder: Path) -> None:
        self.keys, self.records = bytearray(), bytearray()
        # By field; the sync key, where it has several fields, under an empty name.
        composite = [""] if len(spec.sync_key) > 1 else []
        self.unique = {name: bytearray() for name in [*composite, *(f.name for f in spec.fields if f.unique)]}
        self.rows = self.meant = 0
        self._spec = spec
        self._compared = compared(spec)
        self._rows_path, self._notes_path = folder / "rows.parquet", folder / "notes.parquet"

    def __enter__(self) -> None:
        with storage_errors(str(self._rows_path)):
            self._rows = pq.ParquetWriter(self._rows_path, self._spec.schema, compression="none")
            self._notes = pq.ParquetWriter(self._notes_path, NOTES, compression="none")

    def __exit__(self, *_: object) -> None:
        self._rows.close()
        self._notes.close()

    def add(self, mapped: Mapped) -> None:
        count = mapped.table.num_rows
        texts = key_texts(self._spec, mapped.table)
        self.keys += row_hashes(mapped.table, self._spec.sync_key)
        self.records += row_hashes(mapped.table, self._compared)
        for name, digests in self.unique.items():
            digests += self._unique(mapped, [name] if name else list(self._spec.sync_key))
        self.rows += count
        self.meant += count if mapped.meant is None else sum(mapped.meant)
        with storage_errors(str(self._rows_path)):
            self._rows.write_table(mapped.table)
            self._notes.write_table(_notes(mapped, texts))

    def _unique(self, mapped: Mapped, names: list[str]) -> bytes:
        """Hash values that may not come twice; those of rows that aren't meant, and null, don't count."""
        digests = row_hashes(mapped.table, names)
        nulls = [set(pc.indices_nonzero(pc.is_null(mapped.table.column(name))).to_pylist()) for name in names]
        without = set().union(*nulls)
        if mapped.meant is not None:
            without |= {row for row, meant in enumerate(mapped.meant) if not meant}
        if not without:
            return digests
        return b"".join(
            _NONE if row in without else digests[row * WIDTH : (row + 1) * WIDTH]
            for row in range(mapped.table.num_rows)
        )


def _notes(mapped: Mapped, texts: list[str | None]) -> pa.Table:
    count = mapped.table.num_rows
    status: list[str | None] = [None] * count
    blamed: list[str | None] = [None] * count
    reason: list[str | None] = [None] * count
    if mapped.meant is not None:
        status = [None if meant else SKIPPED for meant in mapped.meant]
        reason = [None if meant else "the filter leaves it out" for meant in mapped.meant]
    for row, faults in mapped.faults.items():
        status[row], blamed[row], reason[row] = INVALID, faults[0].field, _told(faults)
    columns: list[Sequence[Any]] = [mapped.user_ids, texts, status, blamed, reason]
    return pa.Table.from_arrays([array_of(values, pa.string()) for values in columns], schema=NOTES)


def _told(faults: list[Fault]) -> str:
    if len(faults) == 1:
        return faults[0].reason
    return "; ".join(f"{fault.field}: {fault.reason}" for fault in faults)
