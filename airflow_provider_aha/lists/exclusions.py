"""The exclusion file: whom no rule may touch, why, who answers for it, and until when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta
from functools import cached_property
from typing import Any

from airflow_provider_aha.common.addresses import fold
from airflow_provider_aha.common.values import date_of, text_of
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.lists.matching import DOMAIN, ENTRY_KINDS, Entry, UserMatcher, read_entries
from airflow_provider_aha.lists.tables import SmallTable, read_table
from airflow_provider_aha.store.store import Store, sha256

_WHO = tuple(kind for kind in ENTRY_KINDS if kind != DOMAIN)
_ABOUT = ("reason", "owner", "expires_on")
# An earlier day is what a spreadsheet writes for none, and no expiry.
_FIRST_YEAR = 2000
_LEAVERS = "covers_leavers_until"
# Who left keeps the access by an exclusion for so many days at a time: somebody has to say so again.
_LEAVERS_FOR = timedelta(days=90)


@dataclass(frozen=True)
class Exclusion:
    """A row of a file.

    :param row: its number, from 1.
    :param entries: whom it is about; several where its email names several addresses.
    :param reason: why, in the words of its owner.
    :param owner: who answers for it.
    :param expires_on: the last day on which it holds; None when it has no end.
    :param covers_leavers_until: the last day on which it holds for people who left, too; None: it doesn't.
    """

    row: int
    entries: tuple[Entry, ...]
    reason: str = field(repr=False)
    owner: str = field(repr=False)
    expires_on: date | None
    covers_leavers_until: date | None = None

    @property
    def place(self) -> str:
        """Where it stands, for sentences."""
        return self.entries[0].place

    @property
    def said(self) -> str:
        """What it says: of whom, until when, by whom and why."""
        who = ", ".join(f"{entry.kind} {entry.text}" for entry in self.entries)
        left = f", for leavers until {self.covers_leavers_until}" if self.covers_leavers_until else ""
        return f"{who} until {self.expires_on or 'further notice'}{left} ({self.owner}: {self.reason})"

    @cached_property
    def matcher(self) -> UserMatcher:
        """Whom the row is about."""
        return UserMatcher.of(self.entries)

    def holds(self, on: date) -> bool:
        """Tell whether the row counts on a day.

        :param on: the day.
        """
        return self.expires_on is None or on <= self.expires_on

    def covers_leavers(self, on: date) -> bool:
        """Tell whether the row counts on a day for people who left, too.

        :param on: the day.
        """
        return self.holds(on) and self.covers_leavers_until is not None and on <= self.covers_leavers_until


@dataclass(frozen=True)
class ExclusionFile:
    """An exclusion file that was read whole.

    :param url: where it lies.
    :param sha256: hash of its bytes.
    :param body: its bytes.
    :param suffix: ``csv`` or ``parquet``.
    """

    url: str
    sha256: str
    body: bytes = field(repr=False)
    suffix: str


@dataclass(frozen=True)
class Exclusions:
    """The rows of one or more exclusion files.

    :param files: the files.
    :param rows: the rows of all of them.
    """

    files: tuple[ExclusionFile, ...]
    rows: tuple[Exclusion, ...]
    _holding: dict[date, UserMatcher] = field(default_factory=dict, repr=False, compare=False)

    @property
    def sha256(self) -> str:
        """Hash of the file's bytes; of several files, their hashes with commas between them."""
        return ",".join(file.sha256 for file in self.files)

    def said(self) -> list[str]:
        """Return what each row says of whom, for how long, by whom and why; with ids and addresses in it."""
        return [row.said for row in self.rows]

    def holding(self, on: date) -> UserMatcher:
        """Return what looks users up in the rows that count on a day.

        :param on: the day.
        """
        if on not in self._holding:
            entries = [entry for row in self.rows if row.holds(on) for entry in row.entries]
            self._holding[on] = UserMatcher.of(entries)
        return self._holding[on]

    def match(self, user_id: str, email: str | None, name: str | None, on: date) -> str | None:
        """Look for a row that holds for a user.

        :param user_id: the user's id.
        :param email: the user's email.
        :param name: the user's name.
        :param on: the day; rows that expired before it don't count.
        :return: which row, without personal data; None when there is none.
        """
        return self.holding(on).match(user_id, email, name)

    def match_leaver(self, user_id: str, email: str | None, name: str | None, on: date) -> str | None:
        """Look for a row that holds for a user who left; see :meth:`match`.

        :param user_id: the user's id.
        :param email: the user's email.
        :param name: the user's name.
        :param on: the day.
        """
        covering = (row.matcher.match(user_id, email, name) for row in self.rows if row.covers_leavers(on))
        return next((reason for reason in covering if reason), None)

    def check(self, on: date) -> None:
        """Refuse rows that would keep the access of people who left for too long.

        :param on: today.
        :raises AhaConfigurationError: when one holds for leavers for more than 90 days.
        """
        for row in self.rows:
            if row.covers_leavers_until is not None and row.covers_leavers_until - on > _LEAVERS_FOR:
                where, until = f"{row.place[0].upper()}{row.place[1:]}", row.covers_leavers_until
                raise AhaConfigurationError(
                    f"{where} covers leavers until {until}; at most {_LEAVERS_FOR.days} days are allowed. Write "
                    f"{on + _LEAVERS_FOR} or an earlier day, and look again then. Nothing was done."
                )

    def expired(self, on: date) -> list[Exclusion]:
        """Return the rows that don't count any more.

        :param on: the day.
        """
        return [row for row in self.rows if not row.holds(on)]


def load_exclusions(*locations: Store) -> Exclusions:
    """Read exclusion files.

    Each is CSV or Parquet with the columns ``id``, ``email`` or ``pattern`` (one of them filled in each row),
    ``reason``, ``owner`` and ``expires_on`` (the last day on which the row holds, or empty). A column
    ``covers_leavers_until`` may say until when a row holds for people who left, too.

    :param locations: the files.
    :raises AhaStorageError: when one is missing or can't be read.
    :raises AhaConfigurationError: when anything in one can't be right; never an empty list in its place.
    """
    tables = [(location, read_table(location, "The exclusion file")) for location in locations]
    files = [ExclusionFile(place.url, sha256(table.body), table.body, table.suffix) for place, table in tables]
    # With one file it is clear which one is meant.
    names = [f"exclusion file {file.url}" if len(files) > 1 else "exclusion file" for file in files]
    rows = [row for (_, table), name in zip(tables, names, strict=True) for row in _rows(table, name)]
    return Exclusions(tuple(files), tuple(rows))


def _rows(table: SmallTable, name: str) -> list[Exclusion]:
    unknown = set(table.columns) - {*_WHO, *_ABOUT, _LEAVERS}
    if unknown or not set(_ABOUT) <= set(table.columns) or not set(_WHO) & set(table.columns):
        raise AhaConfigurationError(
            f"{table.what} must have the columns {', '.join(_ABOUT)} and one or more of {', '.join(_WHO)}; "
            f"beside them {_LEAVERS} or no others, with commas between them."
        )
    if not table.rows:
        raise AhaConfigurationError(
            f"{table.what} has no rows. If nobody is excluded, leave the file away: an empty one may be a lost one."
        )
    return [_exclusion(table, name, number, record) for number, record in table.records()]


def _exclusion(table: SmallTable, name: str, number: int, record: Mapping[str, Any]) -> Exclusion:
    texts = {column: text_of(record.get(column)) for column in (*_WHO, "reason", "owner")}
    # What nobody sees is no text.
    kinds = [kind for kind in _WHO if fold(texts[kind])]
    if len(kinds) != 1:
        raise AhaConfigurationError(f"Row {number} of {table.what} must name either an id, an email or a pattern.")
    for column in ("reason", "owner"):
        if not fold(texts[column]):
            raise AhaConfigurationError(f"Row {number} of {table.what} has no {column}.")
    expires_on, until = (_day(table, number, record, column) for column in ("expires_on", _LEAVERS))
    (kind,) = kinds
    try:
        entries = read_entries(kind, texts[kind], f"row {number} of the {name}", f"{name} row {number}")
    except AhaConfigurationError as error:
        raise AhaConfigurationError(f"{table.what} can't be right. {error}") from None
    return Exclusion(number, tuple(entries), texts["reason"], texts["owner"], expires_on, until)


def _day(table: SmallTable, number: int, record: Mapping[str, Any], column: str) -> date | None:
    try:
        day = date_of(record.get(column), UTC)
        if day is not None and day.year < _FIRST_YEAR:
            raise ValueError
    except ValueError:
        raise AhaConfigurationError(
            f"Row {number} of {table.what} has a value of {column} that is no day: write it as 2026-12-31."
        ) from None
    return day
