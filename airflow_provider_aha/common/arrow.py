"""Arrow arrays of Python values and back, without what would load pandas.

See :mod:`airflow_provider_aha.datasets.users`.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from airflow_provider_aha.datasets import users as normalize

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_ONE = date(1970, 1, 1)
_MS = timedelta(milliseconds=1)


def array_of(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Make an array.

    :param values: values of the type, or null.
    :param kind: the array's type.
    """
    if pa.types.is_timestamp(kind):
        return normalize.array_of([v and (v - _EPOCH) // _MS for v in values], pa.int64()).cast(kind)
    if pa.types.is_date32(kind):
        days = [v and (v - _DAY_ONE).days for v in values]
        return normalize.array_of(days, pa.int64()).cast(pa.int32()).cast(kind)
    return normalize.array_of(values, kind)


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
