"""Hashes by the hundred thousand: which come twice, and where they are, in a few bytes for each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from airflow_provider_aha.push.mapping.rows import WIDTH


class Lookup:
    """Finds hashes; of equal ones, the first.

    :param hashes: an array of them.
    """

    def __init__(self, hashes: pa.Array) -> None:
        self._halves = _halves(hashes)
        first = self._halves[:, 0]
        self._order = np.argsort(first, kind="stable").astype(np.int32)
        self._sorted = first[self._order]

    def find(self, hashes: pa.Array) -> Any:
        """Return the position of each hash, -1 for one that isn't there.

        :param hashes: an array of them.
        """
        wanted = _halves(hashes)
        if not len(self._order):
            return np.full(len(wanted), -1, np.int32)
        places = np.minimum(np.searchsorted(self._sorted, wanted[:, 0]), len(self._order) - 1)
        found = self._order[places]
        # Two hashes that share a half and nothing more: the record counts as unknown, and is sent.
        return np.where((self._halves[found] == wanted).all(axis=1), found, np.int32(-1))


def twice(hashes: pa.Array) -> pa.Array:
    """Tell which hashes come more than once; a hash of zeros stands for no value, and never does.

    :param hashes: an array of them.
    """
    halves = _halves(hashes)
    ordered = np.sort(halves[:, 0])
    several = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    suspects = np.flatnonzero(np.isin(halves[:, 0], several) & halves.any(axis=1))
    seen: dict[bytes, int] = {}
    result = np.zeros(len(halves), np.bool_)
    for position in suspects.tolist():
        other = seen.setdefault(halves[position].tobytes(), position)
        if other != position:
            result[[other, position]] = True
    return mask(result)


def same(one: pa.Array, other: pa.Array, places: Any) -> Any:
    """Tell which hashes equal those at their places in another array; none does at the place -1.

    :param one: an array of hashes.
    :param other: another array of hashes.
    :param places: a place in ``other`` for each of ``one``.
    """
    if not len(other):
        return np.zeros(len(places), np.bool_)
    return (places >= 0) & (_halves(one) == _halves(other)[places]).all(axis=1)


def mask(values: Any) -> pa.Array:
    """Make an Arrow array of flags.

    :param values: flags in numpy.
    """
    bits = np.packbits(values, bitorder="little")
    return pa.BooleanArray.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits)])


def indices(places: Any) -> pa.Array:
    """Make an Arrow array of places; -1 is null.

    :param places: places in numpy.
    """
    valid = np.packbits(places >= 0, bitorder="little")
    numbers = np.ascontiguousarray(places, np.int32)
    buffers = [pa.py_buffer(valid), pa.py_buffer(numbers)]
    return pa.Int32Array.from_buffers(pa.int32(), len(places), buffers)


def _halves(hashes: pa.Array) -> Any:
    buffer = hashes.buffers()[1]
    if buffer is None or not len(hashes):
        return np.zeros((0, 2), np.uint64)
    numbers = np.frombuffer(buffer, np.uint64, count=2 * len(hashes), offset=hashes.offset * WIDTH)
    return numbers.reshape(-1, 2)
