"""Once seen, always seen: what earlier snapshots say about visits that Aha! doesn't show any more.

A user whose last visit is null now and was known before is ``unknown``, in this snapshot and in all that follow,
until Aha! shows a visit again. So is one whose last visit is older than the one of an earlier snapshot; the later
one happened, and stays. As in :mod:`airflow_provider_aha.datasets.users`, nothing here may load pandas.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_aha.common.arrow import array_of, json_array, literal, milliseconds
from airflow_provider_aha.datasets import schemas
from airflow_provider_aha.datasets.changes import Forward, padded
from airflow_provider_aha.datasets.snapshot import Snapshot, snapshot_days
from airflow_provider_aha.datasets.users import activity_status
from airflow_provider_aha.exceptions import AhaSnapshotError
from airflow_provider_aha.store.store import Store

log = logging.getLogger(__name__)

_COLUMNS = ["id", "accessed_at", "activity_status", "synced_at"]
_STRING, _INT64 = pa.string(), pa.int64()
_UNKNOWN, _NEVER, _NULL = (literal(word, _STRING) for word in ("unknown", "never_seen", None))
_FALSE = literal(False, pa.bool_())


@dataclass
class _Past:
    """An earlier snapshot that is read forward, pass by pass."""

    day: str
    file: Any
    rows: Forward

    def take(self, until: Any) -> pa.Table:
        rows = self.rows.take(until)
        # A visit after the snapshot was read is a wrong clock's: it happened before.
        seen, read = (rows.column(name).cast(_INT64) for name in ("accessed_at", "synced_at"))
        seen = pc.min_element_wise(seen, read, skip_nulls=False).cast(schemas.TIMESTAMP)
        return rows.set_column(1, "accessed_at", seen)


class PastVisits:
    """The visits of an account's earlier snapshots.

    :param location: the base path.
    :param account: the account.
    """

    def __init__(self, location: Store, account: str) -> None:
        self._location, self._account = location, account
        self._stack = ExitStack()
        self._days: list[str] = []
        self._opened: list[_Past] = []
        self.lost = 0

    def __enter__(self) -> Self:
        """Find the snapshots, newest first; one of this day that is about to be replaced is among them."""
        self._days = snapshot_days(self._location, self._account)[::-1]
        self._has_past = bool(self._days)
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._stack.close()

    def begin(self) -> None:
        """Begin anew, with the first of the users."""
        self.lost = 0
        for past in self._opened:
            past.rows = Forward(past.file, "id", _COLUMNS)

    def hand_on(self, users: pa.Table, days_inactive: Callable[[Any], Any]) -> pa.Table:
        """Complete the next users with what earlier snapshots say about their visits.

        :param users: rows of ``users``, ordered by id and behind those that came before.
        :param days_inactive: makes whole days of visits.
        :return: the same rows; visits, days and status may differ.
        """
        if not self._has_past or not users.num_rows:
            return users
        until = padded(users.column("id").slice(users.num_rows - 1))[0]
        seen_before, was_seen = self._before(users, until)
        accessed, status = users.column("accessed_at"), users.column("activity_status")
        is_earlier = pc.fill_null(pc.less(accessed, seen_before), _FALSE)
        accessed = pc.if_else(is_earlier, seen_before, accessed)
        is_enabled = pc.fill_null(users.column("is_enabled"), _FALSE)
        lost = pc.or_(pc.and_(pc.equal(status, _NEVER), was_seen), pc.and_(is_earlier, is_enabled))
        self.lost += pc.sum(lost).as_py() or 0
        days = days_inactive(accessed)
        unknown = pc.if_else(pc.or_(lost, pc.equal(status, _UNKNOWN)), _UNKNOWN, _NULL)
        columns = {
            "accessed_at": accessed,
            "days_inactive": days,
            "activity_status": activity_status(users.column("is_enabled"), days, unknown),
        }
        for name, column in columns.items():
            users = users.set_column(users.schema.get_field_index(name), users.schema.field(name), column)
        return users

    def _before(self, users: pa.Table, until: Any) -> tuple[Any, Any]:
        """Return the latest visit that earlier snapshots know, and whether any of them has seen the user."""
        previous = self._snapshot(0)
        if previous is None:
            # Nothing that could be read says that somebody was never seen.
            return pa.repeat(literal(None, schemas.TIMESTAMP), users.num_rows), pa.repeat(
                literal(True, pa.bool_()), users.num_rows
            )
        rows = previous.take(until)
        places = pc.index_in(users.column("id"), value_set=rows.column("id"))
        visit, word = (rows.column(name).take(places) for name in ("accessed_at", "activity_status"))
        was_unknown = pc.fill_null(pc.equal(word, _UNKNOWN), _FALSE)
        was_seen = pc.or_(pc.is_valid(visit), was_unknown)
        now = users.column("accessed_at")
        # Not in the last snapshot, or disabled there: an older one may have seen the user. And which visit was the
        # last one before it became unknown?
        is_never = pc.equal(users.column("activity_status"), _NEVER)
        is_told = pc.or_(was_seen, pc.fill_null(pc.equal(word, _NEVER), _FALSE))
        is_open = pc.or_(pc.and_(is_never, pc.invert(is_told)), pc.and_(pc.is_valid(now), was_unknown))
        asked = users.filter(is_open)
        if not asked.num_rows:
            return visit, was_seen
        found = self._look_back(asked, until)
        places = pc.index_in(users.column("id"), value_set=json_array(list(found), _STRING))
        moments = [moment and datetime.fromtimestamp(moment / 1000, UTC) for moment in found.values()]
        older = array_of(moments, schemas.TIMESTAMP).take(places)
        return _later(visit, older), pc.or_(was_seen, pc.is_valid(places))

    def _look_back(self, users: pa.Table, until: Any) -> dict[str, int | None]:
        """Look for users in one older snapshot after the other, as long as they existed then.

        :return: those who were seen, with their last visit where that is known.
        """
        created = milliseconds(users.column("created_at"))
        born = dict(zip(users.column("id").to_pylist(), map(_day_of, created), strict=True))
        has_visit = dict(zip(born, pc.is_valid(users.column("accessed_at")).to_pylist(), strict=True))
        found: dict[str, int | None] = {}
        number = 1
        while (past := self._snapshot(number, among=born)) is not None:
            rows = past.take(until)
            rows = rows.filter(
                pc.is_valid(pc.index_in(rows.column("id"), value_set=json_array(list(born), _STRING)))
            )
            ids, words = (rows.column(name).to_pylist() for name in ("id", "activity_status"))
            for user_id, word, visit in zip(ids, words, milliseconds(rows.column("accessed_at")), strict=True):
                if visit is not None or word == "unknown":
                    found[user_id] = visit
                # An unknown visit was known once; who has a visit now is asked about until then.
                if visit is not None or word == "never_seen" or (word == "unknown" and not has_visit[user_id]):
                    del born[user_id]
            number += 1
        return found

    def _snapshot(self, number: int, among: Mapping[str, str] | None = None) -> _Past | None:
        """Return one of the snapshots that can be read, the newest is 0; None when none could tell."""
        while len(self._opened) <= number and self._days:
            if among is not None and not _existed(among, self._days[0]):
                return None
            day = self._days.pop(0)
            try:
                file = self._stack.enter_context(Snapshot.of(self._location, self._account, day).open("users"))
            except AhaSnapshotError as error:
                log.warning("Snapshot %s is passed over when looking for earlier visits: %s", day, error)
            else:
                self._opened.append(_Past(day, file, Forward(file, "id", _COLUMNS)))
        if len(self._opened) <= number or (among is not None and not _existed(among, self._opened[number].day)):
            return None
        return self._opened[number]


def _later(one: Any, other: Any) -> Any:
    """Return the later of two moments, row by row; the known one where the other is null."""
    return pc.max_element_wise(one.cast(_INT64), other.cast(_INT64)).cast(schemas.TIMESTAMP)


def _existed(born: Mapping[str, str], day: str) -> bool:
    return any(first <= day for first in born.values())


def _day_of(created_at: int | None) -> str:
    return "" if created_at is None else f"{datetime.fromtimestamp(created_at / 1000, UTC):%Y-%m-%d}"
