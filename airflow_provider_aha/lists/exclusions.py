"""The exclusion file: whom no rule may touch, why, who answers for it, and until when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date
from functools import cached_property
from typing import Any

from airflow_provider_aha.common.values import date_of, text_of
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.lists.matching import UserMatcher
from airflow_provider_aha.lists.tables import SmallTable, read_table
from airflow_provider_aha.store.store import Location, sha256

_WHO = ("id", "email", "pattern")
_ABOUT = ("reason", "owner", "expires_on")


@dataclass(frozen=True)
class Exclusion:
    """A row of the file.

    :param row: its number, from 1.
    :param kind: ``id``, ``email`` or ``pattern``.
    :param who: the value of that column.
    :param reason: why, in the words of its owner.
    :param owner: who answers for it.
    :param expires_on: the last day on which it holds; None when it has no end.
    """

    row: int
    kind: str
    who: str = field(repr=False)
    reason: str = field(repr=False)
    owner: str = field(repr=False)
    expires_on: date | None

    @cached_property
    def matcher(self) -> UserMatcher:
        """Whom the row is about."""
        return _matcher([self])

    def holds(self, on: date) -> bool:
        """Tell whether the row counts on a day.

        :param on: the day.
        """
        return self.expires_on is None or on <= self.expires_on


@dataclass(frozen=True)
class Exclusions:
    """An exclusion file that was read whole.

    :param url: where it lies.
    :param rows: its rows.
    :param sha256: hash of its bytes.
    :param body: its bytes.
    :param suffix: ``csv`` or ``parquet``.
    """

    url: str
    rows: tuple[Exclusion, ...]
    sha256: str
    body: bytes = field(repr=False)
    suffix: str

    @cached_property
    def _anybody(self) -> UserMatcher:
        return _matcher(self.rows)

    def match(self, user_id: str, email: str | None, name: str | None, on: date) -> str | None:
        """Look for a row that holds for a user.

        :param user_id: the user's id.
        :param email: the user's email.
        :param name: the user's name.
        :param on: the day; rows that expired before it don't count.
        :return: which row, without personal data; None when there is none.
        """
        # One look at all rows together: most users are on none.
        for row in self.rows if self._anybody.match(user_id, email, name) else ():
            if row.holds(on) and row.matcher.match(user_id, email, name):
                return f"exclusion file row {row.row}"
        return None

    def expired(self, on: date) -> list[Exclusion]:
        """Return the rows that don't count any more.

        :param on: the day.
        """
        return [row for row in self.rows if not row.holds(on)]


def load_exclusions(location: Location) -> Exclusions:
    """Read an exclusion file.

    It is CSV or Parquet with the columns ``id``, ``email`` or ``pattern`` (one of them filled in each row),
    ``reason``, ``owner`` and ``expires_on`` (the last day on which the row holds, or empty).

    :param location: the file.
    :raises AhaStorageError: when it is missing or can't be read.
    :raises AhaConfigurationError: when anything in it can't be right; never an empty list in its place.
    """
    table = read_table(location, "The exclusion file")
    unknown = set(table.columns) - {*_WHO, *_ABOUT}
    if unknown or not set(_ABOUT) <= set(table.columns) or not set(_WHO) & set(table.columns):
        raise AhaConfigurationError(
            f"{table.what} must have the columns {', '.join(_ABOUT)} and one or more of {', '.join(_WHO)}, and no "
            "others, with commas between them."
        )
    if not table.rows:
        raise AhaConfigurationError(
            f"{table.what} has no rows. If nobody is excluded, leave the file away: an empty one may be a lost one."
        )
    rows = tuple(_exclusion(table, number, record) for number, record in table.records())
    return Exclusions(location.url, rows, sha256(table.body), table.body, table.suffix)


def _exclusion(table: SmallTable, number: int, record: Mapping[str, Any]) -> Exclusion:
    texts = {name: text_of(record.get(name)) for name in (*_WHO, "reason", "owner")}
    named = [name for name in _WHO if texts[name]]
    if len(named) != 1:
        raise AhaConfigurationError(f"Row {number} of {table.what} must name either an id, an email or a pattern.")
    for name in ("reason", "owner"):
        if not texts[name]:
            raise AhaConfigurationError(f"Row {number} of {table.what} has no {name}.")
    try:
        expires_on = date_of(record["expires_on"], UTC)
    except ValueError:
        raise AhaConfigurationError(
            f"Row {number} of {table.what} has an expires_on that is no day: write it as 2026-12-31."
        ) from None
    row = Exclusion(number, named[0], texts[named[0]], texts["reason"], texts["owner"], expires_on)
    try:
        _ = row.matcher
    except AhaConfigurationError as error:
        raise AhaConfigurationError(f"Row {number} of {table.what} can't be right. {error}") from None
    return row


def _matcher(rows: Sequence[Exclusion]) -> UserMatcher:
    ids, emails, patterns = ([row.who for row in rows if row.kind == kind] for kind in _WHO)
    return UserMatcher(ids, emails, patterns=patterns, word="excluded")
