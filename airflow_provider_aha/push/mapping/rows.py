"""Mapped records as their parts of the work need them: hashes, keys as text, JSON-ready dicts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa

from airflow_provider_aha.common.arrow import plain_values, values_of
from airflow_provider_aha.push.mapping.transforms import iso_utc, to_string

if TYPE_CHECKING:
    from airflow_provider_aha.push.mapping.spec import MappingSpec

WIDTH = 16


def row_hashes(table: pa.Table, names: Sequence[str]) -> bytes:
    """Hash some columns of each row.

    :param table: the rows.
    :param names: the columns.
    :return: the hashes, one after the other, each of :data:`WIDTH` bytes.
    """
    columns = [plain_values(table.column(name)) for name in names]
    blake, dumps = hashlib.blake2b, orjson.dumps
    return b"".join([blake(dumps(row), digest_size=WIDTH).digest() for row in zip(*columns, strict=True)])


def compared(spec: MappingSpec) -> list[str]:
    """Return the fields whose change counts as a change of the record.

    :param spec: the mapping.
    """
    return [one.name for one in spec.fields if one.compare]


def key_texts(spec: MappingSpec, table: pa.Table) -> list[str | None]:
    """Return the sync key of each row as text; a JSON array where it has several fields.

    :param spec: the mapping.
    :param table: mapped rows.
    :return: the keys; None where a field of it is null.
    """
    columns = [
        [None if value is None else to_string(value) for value in values_of(table.column(name))]
        for name in spec.sync_key
    ]
    if len(columns) == 1:
        return columns[0]
    return [None if None in row else json.dumps(row, ensure_ascii=False) for row in zip(*columns, strict=True)]


def batch_id(spec: MappingSpec, table: pa.Table) -> str:
    """Return what is the same for the same records under the same mapping, and for no others.

    :param spec: the mapping.
    :param table: mapped rows.
    """
    digest = hashlib.sha256(f"{spec.fingerprint}\n{spec.mode}\n".encode())
    # What isn't compared, such as the time of the run, doesn't make it another batch.
    digest.update(row_hashes(table, compared(spec)))
    return digest.hexdigest()[:32]


def records(spec: MappingSpec, table: pa.Table) -> list[dict[str, Any]]:
    """Return mapped rows as dicts that JSON can hold.

    :param spec: the mapping; its ``on_null`` says what becomes of null.
    :param table: mapped rows.
    """
    columns = [_json_values(table.column(one.name), one.type) for one in spec.fields]
    names = [one.name for one in spec.fields]
    rows = zip(*columns, strict=True)
    if spec.on_null == "omit":
        return [{n: v for n, v in zip(names, row, strict=True) if v is not None} for row in rows]
    return [dict(zip(names, row, strict=True)) for row in rows]


def _json_values(column: Any, kind: str) -> list[Any]:
    values = values_of(column)
    if kind == "timestamp":
        return [value and iso_utc(value) for value in values]
    if kind == "date":
        return [value and value.isoformat() for value in values]
    if kind == "json":
        return [value if value is None else json.loads(value) for value in values]
    return values
