"""The exclusion file: whom no rule may touch, why, who answers for it, and until when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date
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


@dataclass(frozen=True)
class Exclusion:
    """A row of a file.

    :param row: its number, from 1.
    :param entries: whom it is about; several where its email names several addresses.
    :param reason: why, in the words of its owner.
    :param owner: who answers for it.
    :param expires_on: the last day on which it holds; None when it has no end.
    """

    row: int
    entries: tuple[Entry, ...]
    reason: str = field(repr=False)
    owner: str = field(repr=False)
    expires_on: date | None

    @property
    def place(self) -> str:
        """Where it stands, for sentences."""
        return self.entries[0].place

    @cached_property
    def matcher(self) -> UserMatcher:
        """Whom the row is about."""
        return UserMatcher.of(self.entries)

    def holds(self, on: date) -> bool:
        """Tell whether the row counts on a day.

        :param on: the day.
        """
        return self.expires_on is None or on <= self.expires_on


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

    def expired(self, on: date) -> list[Exclusion]:
        """Return the rows that don't count any more.

        :param on: the day.
        """
        return [row for row in self.rows if not row.holds(on)]


def load_exclusions(*locations: Store) -> Exclusions:
    """Read exclusion files.

    Each is CSV or Parquet with the columns ``id``, ``email`` or ``pattern`` (one of them filled in each row),
    ``reason``, ``owner`` and ``expires_on`` (the last day on which the row holds, or empty).

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
    try:
        expires_on = date_of(record["expires_on"], UTC)
        if expires_on is not None and expires_on.year < _FIRST_YEAR:
            raise ValueError
    except ValueError:
        raise AhaConfigurationError(
            f"Row {number} of {table.what} has an expires_on that is no day: write it as 2026-12-31."
        ) from None
    (kind,) = kinds
    try:
        entries = read_entries(kind, texts[kind], f"row {number} of the {name}", f"{name} row {number}")
    except AhaConfigurationError as error:
        raise AhaConfigurationError(f"{table.what} can't be right. {error}") from None
    return Exclusion(number, tuple(entries), texts["reason"], texts["owner"], expires_on)
