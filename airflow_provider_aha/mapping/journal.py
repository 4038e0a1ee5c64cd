"""What the tries of a push have had acknowledged: one Parquet file per batch, written before the next is sent."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airflow_provider_aha.exceptions import AhaSnapshotError, AhaStorageError
from airflow_provider_aha.lifecycle.records import create_once, list_files, read_files
from airflow_provider_aha.lifecycle.tables import whole
from airflow_provider_aha.mapping.arrays import array_of
from airflow_provider_aha.mapping.rows import WIDTH
from airflow_provider_aha.mapping.targets.base import ADDED, SENT, UNCHANGED, UPDATED, Answer
from airflow_provider_aha.normalize import literal
from airflow_provider_aha.schemas import TIMESTAMP

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

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
        pa.field("attempts", pa.int32()),
        pa.field("sent_at", TIMESTAMP),
        pa.field("try_number", pa.int32()),
        pa.field("batch_id", pa.string()),
    ]
)


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


class Journal:
    """Writes and reads what was acknowledged in one run.

    :param fs: the run's filesystem.
    :param path: the folder ``batches`` of the run.
    :param try_number: which try, from 1.
    """

    def __init__(self, fs: AbstractFileSystem, path: str, try_number: int) -> None:
        self._fs = fs
        self._path = path
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
        if not create_once(self._fs, f"{self._path}/{name}", buffer.getvalue()):
            raise AhaStorageError(
                f"{self._path}/{name} exists already: two tries of the same run seem to push at the same time."
            )

    def _table(self, done: Acknowledged) -> pa.Table:
        count = len(done.answers)
        columns = {
            "key": done.keys,
            "record": done.records,
            **{
                name: array_of([getattr(answer, name) for answer in done.answers], pa.string())
                for name in ("status", "field", "reason", "code")
            },
            "attempts": array_of([done.attempts] * count, pa.int32()),
            "sent_at": array_of([done.sent_at] * count, TIMESTAMP),
            "try_number": array_of([self._try_number] * count, pa.int32()),
            "batch_id": array_of([done.batch_id] * count, pa.string()),
        }
        return pa.Table.from_arrays([columns[name] for name in ANSWERS.names], schema=ANSWERS)

    def read(self) -> pa.Table:
        """Return what all tries of the run have had acknowledged, the newest first."""
        paths = list_files(self._fs, self._path)[::-1]
        tables = [_read(body, path) for path, body in read_files(self._fs, paths).items()]
        return pa.concat_tables([pa.Table.from_batches([], ANSWERS), *tables]).combine_chunks()

    def settle(self) -> None:
        """Note that the push is complete; what is written here counts from the start."""


class Held(Journal):
    """The answers of a target that takes all records as one: they count once it is complete.

    :param try_number: which try, from 1.
    """

    def __init__(self, try_number: int) -> None:
        super().__init__(None, "", try_number)
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

    def read(self) -> pa.Table:
        """Return the answers; none before the target has everything."""
        tables = self._tables if self._settled else []
        return pa.concat_tables([pa.Table.from_batches([], ANSWERS), *tables]).combine_chunks()


def _read(body: bytes, path: str) -> pa.Table:
    try:
        with pq.ParquetFile(pa.BufferReader(body)) as file:
            return whole(file).select(ANSWERS.names).cast(ANSWERS)
    except (pa.ArrowException, KeyError) as error:
        raise AhaSnapshotError(f"{path} is no readable record of a batch: it was changed.") from error


def places(answers: pa.Table, keys: pa.Array, records: pa.Array) -> pa.Array:
    """Find the newest answer for each record; null where there is none for what the record is now.

    :param answers: what :meth:`Journal.read` returned.
    :param keys: hash of each sync key.
    :param records: hash of each record.
    """
    found = pc.index_in(keys, value_set=answers.column("key"))
    same = pc.equal(answers.column("record").take(found), records)
    if isinstance(same, pa.ChunkedArray):
        same = same.combine_chunks()
    return pc.if_else(same, found, literal(None, pa.int32()))
