"""What a target was last sent: a hash of each record by a hash of its key, so that only changes are sent again."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_aha.common.arrow import hashes, whole
from airflow_provider_aha.push.mapping.lookup import Lookup, mask, same
from airflow_provider_aha.push.mapping.rows import WIDTH
from airflow_provider_aha.store.store import Store, staging, storage_errors

log = logging.getLogger(__name__)

_HASH = pa.binary(WIDTH)
_SCHEMA = pa.schema([pa.field("key", _HASH, nullable=False), pa.field("record", _HASH, nullable=False)])


@dataclass(frozen=True)
class Sent:
    """What was last sent.

    :param keys: hash of each sync key.
    :param records: hash of what was sent, in the order of the keys.
    :param rows: how many rows the dataset had.
    :param meant: how many of them passed the filter.
    :param fingerprint: that of the mapping.
    """

    keys: pa.Array
    records: pa.Array
    rows: int
    meant: int
    fingerprint: str

    def holds(self, keys: pa.Array, records: pa.Array) -> pa.Array:
        """Tell which records the target has as they are.

        :param keys: hash of each sync key.
        :param records: hash of each record.
        """
        return mask(same(records, self.records, Lookup(self.keys).find(keys)))


NOTHING = Sent(hashes(b"", WIDTH), hashes(b"", WIDTH), 0, 0, "")


def read_sent(location: Store, fingerprint: str) -> Sent:
    """Read what was last sent.

    :param location: the file.
    :param fingerprint: that of the mapping; what was sent by another one is no reason to leave a record out.
    :return: what was sent; nothing where there is no such file.
    :raises AhaStorageError: when it can't be read.
    """
    try:
        with location.open() as stream:
            if stream is None:
                return NOTHING
            with pq.ParquetFile(stream) as file:
                facts = file.schema_arrow.metadata or {}
                table = whole(file)
                found = Sent(
                    _one(table, "key"),
                    _one(table, "record"),
                    int(facts[b"rows"]),
                    int(facts[b"meant"]),
                    facts[b"fingerprint"].decode(),
                )
    except (pa.ArrowException, KeyError, ValueError):
        log.warning("%s can't be read, so all records are sent again.", location.url)
        return NOTHING
    if found.fingerprint != fingerprint:
        log.info("The mapping has changed since the last push, so all records are sent again.")
        return Sent(NOTHING.keys, NOTHING.records, found.rows, 0, found.fingerprint)
    return found


def write_sent(location: Store, sent: Sent) -> None:
    """Keep what was sent.

    :param location: the file.
    :param sent: what was sent.
    :raises AhaStorageError: when it can't be written; the older file stays.
    """
    facts = {"rows": str(sent.rows), "meant": str(sent.meant), "fingerprint": sent.fingerprint}
    table = pa.Table.from_arrays([sent.keys, sent.records], schema=_SCHEMA.with_metadata(facts))
    with staging() as folder:
        local = folder / "sent.parquet"
        with storage_errors(str(local)):
            # Hashes are all different, and don't compress.
            pq.write_table(table, local, use_dictionary=False, compression="none")
        location.publish({"": local})


def _one(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    if column.type != _HASH:
        raise ValueError(f"The column {name} holds no hashes.")
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
