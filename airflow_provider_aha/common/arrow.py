"""Arrow arrays of Python values, and back.

Nothing here loads pandas; :mod:`airflow_provider_aha.datasets.users` says why.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
import pyarrow.parquet as pq

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_ONE = date(1970, 1, 1)
_MS = timedelta(milliseconds=1)
# Arrow's default pool hands its memory back after every page, only to ask for it again: with this one a crawl
# spends half the system time and peaks 40 MB lower.
_POOL = pa.system_memory_pool()


def read_json_table(body: bytes, options: pj.ParseOptions) -> pa.Table:
    """Read JSON into a table.

    :param body: the JSON.
    :param options: the schema to read it by.
    """
    # One block: Arrow's reader can't split a value over two.
    read = pj.ReadOptions(use_threads=False, block_size=len(body) + 1)
    return pj.read_json(pa.BufferReader(body), read_options=read, parse_options=options, memory_pool=_POOL)


def array_of(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Make an array.

    :param values: values of the type, or null.
    :param kind: the array's type.
    """
    if pa.types.is_timestamp(kind):
        return json_array([v and (v - _EPOCH) // _MS for v in values], pa.int64()).cast(kind)
    if pa.types.is_date32(kind):
        days = [v and (v - _DAY_ONE).days for v in values]
        return json_array(days, pa.int64()).cast(pa.int32()).cast(kind)
    return json_array(values, kind)


def json_array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Make a small array of what JSON can hold, without ``pa.array``.

    :param values: what JSON can hold; moments as text.
    :param kind: the array's type.
    """
    options = pj.ParseOptions(explicit_schema=pa.schema([("v", pa.list_(kind))]))
    table = read_json_table(orjson.dumps({"v": list(values)}), options)
    return table.column("v").chunk(0).flatten()


@lru_cache(maxsize=1024)
def literal(value: Any, kind: pa.DataType) -> pa.Scalar:
    """Make an Arrow scalar, without ``pa.scalar`` (see :mod:`airflow_provider_aha.datasets.users`).

    :param value: what JSON can hold.
    :param kind: the scalar's type.
    """
    return json_array([value], kind)[0]


def number_rows(length: int) -> pa.Array:
    """Return the numbers 0 to ``length - 1``, as int64.

    :param length: how many.
    """
    return pc.subtract(pc.cumulative_sum(pa.repeat(literal(1, pa.int64()), length)), literal(1, pa.int64()))


def values_of(column: Any) -> list[Any]:
    """Return the Python values of a column; moments are in UTC.

    :param column: an array, or a chunked one.
    """
    if pa.types.is_timestamp(column.type):
        return [v if v is None else _EPOCH + v * _MS for v in column.cast(pa.int64()).to_pylist()]
    if pa.types.is_date32(column.type):
        return [v if v is None else _DAY_ONE + timedelta(v) for v in column.cast(pa.int32()).to_pylist()]
    found: list[Any] = column.to_pylist()
    return found


def plain_values(column: Any) -> list[Any]:
    """Return the Python values of a column, moments and dates as numbers: quick, for hashes.

    :param column: an array, or a chunked one.
    """
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    elif pa.types.is_date32(column.type):
        column = column.cast(pa.int32())
    found: list[Any] = column.to_pylist()
    return found


def hashes(digests: bytes | bytearray, width: int) -> pa.Array:
    """Make an array of hashes out of their bytes.

    :param digests: the hashes, one after the other.
    :param width: the bytes of each.
    """
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), len(digests) // width, [None, pa.py_buffer(digests)]
    )


def hex_texts(digests: pa.Array) -> pa.Array:
    """Write hashes as text, without an object for each.

    :param digests: an array of hashes, none of them null.
    """
    count, width = len(digests), digests.type.byte_width
    first = digests.offset * width
    texts = binascii.hexlify(memoryview(digests.buffers()[1])[first : first + count * width])
    ends = np.arange(0, (count + 1) * 2 * width, 2 * width, dtype=np.int32)
    return pa.StringArray.from_buffers(count, pa.py_buffer(ends), pa.py_buffer(texts))


def milliseconds(column: Any) -> list[int | None]:
    """Return moments as milliseconds since 1970, which Arrow hands out without pandas.

    :param column: a column of timestamps.
    """
    found: list[int | None] = column.cast(pa.int64()).to_pylist()
    return found


def whole(file: pq.ParquetFile, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file whole, also one without rows, which older Arrow versions can't read.

    :param file: the file.
    :param columns: which columns; all when left out.
    """
    names = list(columns or file.schema_arrow.names)
    if file.num_row_groups:
        return file.read(columns=names)
    return pa.Table.from_batches([], file.schema_arrow).select(names)
