"""What the tries of a push have had acknowledged: one Parquet file per batch, written before the next is sent."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airflow_provider_aha.common.arrow import array_of, hashes, literal, whole
from airflow_provider_aha.exceptions import AhaRecordError, AhaStorageError
from airflow_provider_aha.push.mapping.lookup import Lookup, indices, same
from airflow_provider_aha.push.mapping.rows import WIDTH
from airflow_provider_aha.push.targets.base import ADDED, SENT, UNCHANGED, UPDATED, Answer
from airflow_provider_aha.store.store import Store

_HASH = pa.binary(WIDTH)
# After these the target has the record as it was sent.
HAS_IT = (ADDED, UPDATED, UNCHANGED, SENT)

ANSWERS = pa.schema(
    [
        pa.field("key", _HASH, nullable=False),
        pa.field("record", _HASH, nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("field", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("code", pa.string()),
    ]
)
# The same for all records of a batch, and kept once.
_FACTS = {"attempts": pa.int32(), "sent_at": pa.int64(), "try_number": pa.int32(), "batch_id": pa.string()}


@dataclass(frozen=True)
class Acknowledged:
    """What a batch was answered.

    :param keys: hash of each sync key.
    :param records: hash of each record.
    :param answers: what became of each.
    :param attempts: how often the batch was sent.
    :param sent_at: when the answer came.
    :param batch_id: the batch.
    """

    keys: pa.Array
    records: pa.Array
    answers: Sequence[Answer]
    attempts: int
    sent_at: datetime
    batch_id: str


class Answered:
    """The answers of many batches.

    :param batches: a table of answers per batch, with the facts of the batch as its metadata; the newest first.
    """

    def __init__(self, batches: Sequence[pa.Table]) -> None:
        empty = pa.Table.from_batches([], ANSWERS)
        self._table = pa.concat_tables(
            [empty, *(one.replace_schema_metadata() for one in batches)]
        ).combine_chunks()
        facts = [one.schema.metadata for one in batches]
        self._facts = {
            name: array_of([_fact(one[name.encode()], kind) for one in facts], kind)
            for name, kind in _FACTS.items()
        }
        self._batch = np.repeat(np.arange(len(batches), dtype=np.int32), [one.num_rows for one in batches])
        self._lookup = Lookup(_whole(self._table.column("key")))

    def count(self, status: str) -> int:
        """Return how many records had an answer.

        :param status: the answer's status.
        """
        statuses = self._table.column("status")
        return int(pc.sum(pc.equal(statuses, literal(status, pa.string()))).as_py() or 0)

    def places(self, keys: pa.Array, records: pa.Array) -> pa.Array:
        """Find the newest answer of each record; null where there is none for what the record is now.

        :param keys: hash of each sync key.
        :param records: hash of each record.
        """
        found = self._lookup.find(keys)
        return indices(np.where(same(records, _whole(self._table.column("record")), found), found, np.int32(-1)))

    def column(self, name: str, places: pa.Array) -> Any:
        """Return a part of the answers at some places.

        :param name: a column of the answers, or a fact of their batches.
        :param places: places, or null.
        """
        if name in ANSWERS.names:
            return self._table.column(name).take(places)
        batches = pa.Int32Array.from_buffers(pa.int32(), len(self._batch), [None, pa.py_buffer(self._batch)])
        return self._facts[name].take(batches.take(places))


def _fact(text: bytes, kind: pa.DataType) -> Any:
    return int(text) if pa.types.is_integer(kind) else text.decode()


def _whole(column: Any) -> pa.Array:
    # An empty column has no chunk.
    return column.chunk(0) if column.num_chunks else hashes(b"", WIDTH)


class BatchJournal:
    """Writes and reads what was acknowledged in one run.

    :param folder: the folder ``batches`` of the run.
    :param try_number: which try, from 1.
    """

    def __init__(self, folder: Store | None, try_number: int) -> None:
        self._folder = folder
        self._try_number = try_number
        self._count = 0

    def write(self, done: Acknowledged) -> None:
        """Make durable what a batch was answered.

        :param done: the batch.
        :raises AhaStorageError: when it can't be written; nothing more must be sent then.
        """
        self._count += 1
        name = f"{self._try_number:04d}-{self._count:06d}-{done.batch_id[:12]}.parquet"
        buffer = io.BytesIO()
        pq.write_table(self._table(done), buffer, compression="zstd")
        if self._folder and not self._folder.create(name, buffer.getvalue()):
            raise AhaStorageError(
                f"{self._folder.url_of(name)} exists already: two tries of the same run seem to push at "
                "the same time."
            )

    def _table(self, done: Acknowledged) -> pa.Table:
        words = [
            array_of([getattr(answer, name) for answer in done.answers], pa.string())
            for name in ("status", "field", "reason", "code")
        ]
        facts = {
            "attempts": done.attempts,
            "sent_at": round(done.sent_at.timestamp() * 1000),
            "try_number": self._try_number,
            "batch_id": done.batch_id,
        }
        schema = ANSWERS.with_metadata({name: str(value) for name, value in facts.items()})
        return pa.Table.from_arrays([done.keys, done.records, *words], schema=schema)

    def read(self) -> Answered:
        """Return what all tries of the run have had acknowledged, the newest first."""
        bodies = self._folder.read_all() if self._folder else {}
        # `dag.test` begins a second run of the same name as its first try.
        mine = f"{self._try_number:04d}-"
        self._count = max(self._count, sum(name.startswith(mine) for name in bodies))
        return Answered([_read(bodies[name], name) for name in reversed(bodies)])

    def settle(self) -> None:
        """Note that the push is complete; what is written here counts from the start."""


class Held(BatchJournal):
    """The answers of a target that takes all records as one: they count once it is complete.

    :param try_number: which try, from 1.
    """

    def __init__(self, try_number: int) -> None:
        super().__init__(None, try_number)
        self._tables: list[pa.Table] = []
        self._settled = False

    def write(self, done: Acknowledged) -> None:
        """Keep what a batch was answered.

        :param done: the batch.
        """
        self._tables.append(self._table(done))

    def settle(self) -> None:
        """Note that the target has everything."""
        self._settled = True

    def read(self) -> Answered:
        """Return the answers; none before the target has everything."""
        return Answered(self._tables if self._settled else [])


def _read(body: bytes, path: str) -> pa.Table:
    try:
        with pq.ParquetFile(pa.BufferReader(body)) as file:
            table = whole(file).select(ANSWERS.names)
            return table.cast(
                ANSWERS.with_metadata({name: table.schema.metadata[name.encode()] for name in _FACTS})
            )
    except (pa.ArrowException, KeyError, TypeError) as error:
        raise AhaRecordError(f"{path} is no readable record of a batch: it was changed.") from error
