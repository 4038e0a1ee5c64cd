"""The roster: who works here, by the company's own records; what it says about an address."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property, lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from airflow_provider_aha.common.addresses import (
    ascii_domain,
    domain_of,
    fold,
    look,
    read_addresses,
    without_hidden,
)
from airflow_provider_aha.common.values import (
    date_of,
    marks_no_date,
    text_of,
    to_int,
    to_list,
    to_number,
    to_objects,
    to_text,
)
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaRosterError
from airflow_provider_aha.lists.matching import UserMatcher
from airflow_provider_aha.lists.tables import SmallTable, read_table
from airflow_provider_aha.store.store import Store, sha256

# Fewer rows, or a smaller share of users found in it, than this part of the last load's: something was cut off.
_KEPT = 0.95
# A roster that knows fewer of the users it should cover is another company's, or has its emails elsewhere.
_LEAST_MATCHED = 0.5
_AHEAD = timedelta(minutes=10)
# A number as a text, as an integer and as a float.
_NUMBER = re.compile(r"0*([0-9]+)(?:\.0+)?")


@dataclass(frozen=True)
class RosterSpec:
    """Where a roster is and how it is read.

    :param name: what it is called; loads of the same name are compared with each other.
    :param key: the column that is filled and different in every row, such as the employee number.
    :param emails: columns with addresses; a cell may hold several.
    :param domains: domains of the addresses that the roster covers; ``*.example.com`` is all subdomains.
    :param min_rows: the fewest rows that a complete roster has.
    :param timezone: where the day of an end date ends.
    :param status: column with a status.
    :param left_statuses: statuses of people who left.
    :param end_date: column with the last day.
    :param max_age_hours: an older roster is refused.
    :param accept_sha256: the one roster that may be much shorter than the last, or know far fewer users.
    :param owners: logins or addresses of the people who keep it; they may not approve what it leads to.
    :param path: a CSV or Parquet file.
    :param conn_id: or an Airflow connection ...
    :param sql: ... and a query.
    """

    name: str
    key: str
    emails: tuple[str, ...]
    domains: tuple[str, ...]
    min_rows: int
    timezone: str = "UTC"
    status: str | None = None
    left_statuses: tuple[str, ...] = ()
    end_date: str | None = None
    max_age_hours: float = 24.0
    accept_sha256: str | None = None
    owners: tuple[str, ...] = ()
    path: str | None = None
    conn_id: str | None = None
    sql: str | None = None

    @classmethod
    def read_all(cls, value: object) -> tuple[RosterSpec, ...]:
        """Read what somebody wrote: one roster or a list of them, as they are or as JSON text.

        :param value: keys as the parameters of this class.
        :return: no two of the same name; empty when nothing is set.
        :raises AhaConfigurationError: when they can't be right.
        """
        specs = tuple(cls._read(given) for given in to_objects(value, "roster"))
        if len({spec.name for spec in specs}) != len(specs):
            raise AhaConfigurationError("Two rosters have the same name: give each a name of its own.")
        return specs

    @classmethod
    def _read(cls, given: Mapping[str, Any]) -> RosterSpec:
        unknown = given.keys() - cls.__dataclass_fields__.keys()
        if unknown:
            raise AhaConfigurationError(f"roster has no setting {', '.join(sorted(unknown))}.")
        texts = {
            name: to_text(given.get(name), f"roster.{name}")
            for name in ("name", "key", "timezone", "status", "end_date", "accept_sha256", "path", "conn_id", "sql")
        }
        lists = {
            name: _listed(given.get(name), f"roster.{name}")
            for name in ("emails", "domains", "left_statuses", "owners")
        }
        spec = cls(
            name=texts["name"] or "roster",
            key=(texts["key"] or "").lower(),
            emails=tuple(column.lower() for column in lists["emails"]),
            domains=tuple(map(_domain, lists["domains"])),
            min_rows=to_int(given.get("min_rows"), "roster.min_rows", 0, 1, 10**9),
            timezone=texts["timezone"] or "UTC",
            status=texts["status"] and texts["status"].lower(),
            left_statuses=tuple(fold(status) for status in lists["left_statuses"]),
            end_date=texts["end_date"] and texts["end_date"].lower(),
            max_age_hours=to_number(given.get("max_age_hours"), "roster.max_age_hours", 24, 0.1, 24 * 31),
            owners=lists["owners"],
            **{name: texts[name] for name in ("accept_sha256", "path", "conn_id", "sql")},
        )
        spec._check()
        return spec

    def _check(self) -> None:
        for name in ("key", "emails", "domains", "min_rows"):
            if not getattr(self, name):
                raise AhaConfigurationError(f"roster needs {name}: without it nobody could be said to have left.")
        if (self.path is None) == (self.sql is None) or (self.sql is None) != (self.conn_id is None):
            raise AhaConfigurationError("roster needs either path, or conn_id and sql.")
        if not all(map(fold, self.owners)):
            raise AhaConfigurationError("roster.owners has an entry that names nobody: give logins or addresses.")
        if bool(self.status) != bool(self.left_statuses):
            raise AhaConfigurationError("roster needs status and left_statuses together, or neither.")
        UserMatcher(domains=self.domains)
        try:
            ZoneInfo(self.timezone)
        except (ValueError, OSError, KeyError):
            raise AhaConfigurationError(
                f"roster.timezone {self.timezone!r} is not a time zone, such as Europe/Berlin."
            ) from None

    @property
    def columns(self) -> list[str]:
        """The columns that are read, the key first."""
        return list(dict.fromkeys([self.key, *self.emails, *filter(None, (self.status, self.end_date))]))

    def as_given(self) -> dict[str, Any]:
        """Return the settings for the record."""
        return asdict(self)


@dataclass(frozen=True)
class Departure:
    """What the roster says about somebody who left.

    :param detail: the fact, in words.
    :param leave_date: the last day; None when the roster names none.
    :param left_at: the moment at which that day ended.
    :param days_ago: how many days that was before, in the roster's time zone.
    """

    detail: str
    leave_date: date | None = None
    left_at: datetime | None = None
    days_ago: int = 0


class Person(NamedTuple):
    """What a row of the roster says about a person.

    :param end_date: the last day.
    :param has_left: whether the status says that the person left; None without a status.
    :param has_marker: whether the cell of the last day has what systems write where there is none.
    """

    end_date: date | None
    has_left: bool | None
    has_marker: bool = False

    def is_contradictory(self, as_of: datetime, zone: ZoneInfo) -> bool:
        """Tell whether the end date is over, but the status says that the person is here.

        :param as_of: the moment that counts as now.
        :param zone: where the day of an end date ends.
        """
        return self.has_left is False and self._end_is_over(as_of, zone) is True

    def departure(self, as_of: datetime, zone: ZoneInfo) -> Departure | None:
        """Tell whether the person has left; an end date to come and a status of somebody here speak against it.

        :param as_of: the moment that counts as now.
        :param zone: where the day of an end date ends.
        """
        over = self._end_is_over(as_of, zone)
        # Who comes back often keeps the end date of the time before: the status must say so, too.
        if over is False or self.has_left is False:
            return None
        if self.end_date is None:
            return Departure("left by the status in the roster") if self.has_left else None
        ended = datetime.combine(self.end_date + timedelta(days=1), time.min, zone).astimezone(UTC)
        days = (as_of.astimezone(zone).date() - self.end_date).days
        return Departure(f"left by the end date {self.end_date} in the roster", self.end_date, ended, days)

    def _end_is_over(self, as_of: datetime, zone: ZoneInfo) -> bool | None:
        # Compared as days: the day after 9999-12-31, a usual way to say "never", doesn't exist.
        return None if self.end_date is None else as_of.astimezone(zone).date() > self.end_date


def latest(departures: Iterable[Departure]) -> Departure:
    """Return the last one of several departures.

    :param departures: at least one.
    """
    return max(departures, key=lambda departure: departure.leave_date or date.min)


class Known(NamedTuple):
    """What the loads of a roster so far say about an address.

    :param keys: the keys of its rows, in the last load that had it.
    :param employed_at: the last load that showed the person as somebody who is here; None: none has.
    :param missing_since: the first of the loads in a row that don't have it; None: the last one has.
    """

    keys: tuple[str, ...]
    employed_at: datetime | None = None
    missing_since: datetime | None = None


@dataclass(frozen=True)
class Load:
    """An accepted load of a roster, as the plan that used it recorded it.

    :param name: the roster.
    :param loaded_at: when it was written, or queried.
    :param sha256: hash of its bytes.
    :param rows: how many rows it had.
    :param covered: how many enabled users had an address that it, or another roster of the plan, covered.
    :param matched: how many of these they knew.
    """

    name: str
    loaded_at: datetime
    sha256: str
    rows: int
    covered: int
    matched: int


@dataclass(frozen=True)
class Roster:
    """A roster that was read whole.

    :param spec: how.
    :param loaded_at: when it was written, or queried; UTC.
    :param rows: how many rows it has.
    :param sha256: hash of its bytes.
    :param people: by address what the rows say that have it.
    :param keys: by key the addresses of its row.
    :param states: how many rows say the same.
    :param columns: names of its columns.
    :param cells: of each row the cells of the configured columns, the key first.
    """

    spec: RosterSpec
    loaded_at: datetime
    rows: int
    sha256: str
    people: Mapping[str, tuple[Person, ...]] = field(repr=False)
    keys: Mapping[str, Sequence[str]] = field(repr=False)
    states: Mapping[Person, int] = field(repr=False)
    columns: tuple[str, ...]
    cells: Sequence[Sequence[Any]] = field(repr=False)

    @cached_property
    def _covered(self) -> Callable[[str], bool]:
        matcher = UserMatcher(domains=self.spec.domains)
        # Few domains, many addresses.
        return lru_cache(maxsize=1024)(lambda domain: matcher.has_domain_of(f"@{domain}"))

    @cached_property
    def zone(self) -> ZoneInfo:
        """Where the day of an end date ends."""
        return ZoneInfo(self.spec.timezone)

    def covers(self, folded: str) -> bool:
        """Tell whether an address is one that the roster would have.

        :param folded: the address, folded.
        """
        return self._covered(domain_of(folded))

    def knows(self, address: str) -> bool:
        """Tell whether an address is in the roster.

        :param address: the address, as :func:`spelled`.
        """
        return address in self.people

    def resembles(self, address: str) -> bool:
        """Tell whether the roster has an address that only looks like another one, which may be another person's.

        :param address: the address, as :func:`spelled`.
        """
        return look(address) in self._looks and not self.knows(address)

    @cached_property
    def _looks(self) -> frozenset[str]:
        return frozenset(map(look, self.people))

    @cached_property
    def _keys_of(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for key, addresses in self.keys.items():
            for address in addresses:
                found[address] = (*found.get(address, ()), key)
        return found

    def departure(self, address: str, as_of: datetime) -> Departure | None:
        """Tell whether the person with an address has left.

        :param address: an address that the roster knows, as :func:`spelled`.
        :param as_of: the moment that counts as now.
        :return: None while at least one row of the address is of somebody who is here.
        """
        departures = [person.departure(as_of, self.zone) for person in self.people[address]]
        if None in departures:
            return None
        return latest(d for d in departures if d)

    def remember(self, addresses: Iterable[str], before: Mapping[str, Known], as_of: datetime) -> dict[str, Known]:
        """Return what is known of addresses after this load.

        :param addresses: addresses of the account's users, as :func:`spelled`.
        :param before: what was known of them after the last one.
        :param as_of: the moment that counts as now.
        """
        found = {}
        for address in addresses:
            past = before.get(address)
            if self.knows(address):
                is_here = self.departure(address, as_of) is None
                employed_at = self.loaded_at if is_here else past and past.employed_at
                found[address] = Known(self._keys_of[address], employed_at)
            elif past is not None:
                since = min(past.missing_since or self.loaded_at, self.loaded_at)
                found[address] = Known(past.keys, past.employed_at, since)
        return found

    def continues(self, known: Known) -> bool:
        """Tell whether the key of an address is still in the roster, so that the person may have another one now.

        :param known: what earlier loads said of the address.
        """
        return any(_as_compared(key) in self._compared_keys for key in known.keys)

    @cached_property
    def _compared_keys(self) -> frozenset[str]:
        return frozenset(map(_as_compared, self.keys))

    def kept(self, addresses: Iterable[str], keys: Collection[str]) -> bytes:
        """Return what a plan keeps of the roster: the configured columns of the rows that are about some people.

        :param addresses: addresses of the account's users, as :func:`spelled`; a row with one that only looks like
            it counts, too.
        :param keys: keys of the rows that had these addresses in earlier loads.
        :return: CSV.
        """
        looks, compared = {look(address) for address in addresses}, set(map(_as_compared, keys))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.spec.columns)
        for row in self.cells:
            key = text_of(row[0])
            if _as_compared(key) in compared or any(look(address) in looks for address in self.keys[key]):
                writer.writerow(row)
        return text.getvalue().encode()

    def markers(self) -> int:
        """Count rows that have no last day, but what systems write where there is none."""
        return sum(count for state, count in self.states.items() if state.has_marker)

    def contradictions(self, as_of: datetime) -> int:
        """Count people whose end date is over, but whose status says that they are here.

        :param as_of: the moment that counts as now.
        """
        return sum(count for state, count in self.states.items() if state.is_contradictory(as_of, self.zone))

    def check(self, previous: Load | None, now: datetime) -> None:
        """Refuse a roster that is too old or too short to say who left.

        :param previous: the last accepted load.
        :param now: this moment; UTC.
        :raises AhaSnapshotError: when it is.
        """
        age = now - self.loaded_at
        if age > timedelta(hours=self.spec.max_age_hours):
            raise _refused(
                f"is {age / timedelta(hours=1):.0f} hours old; allowed are {self.spec.max_age_hours:g}. Look why "
                "there is no newer one"
            )
        if age < -_AHEAD:
            raise _refused("was written in the future. Look at the clocks")
        if self.rows < self.spec.min_rows:
            raise _refused(f"has {self.rows} rows; a complete one has {self.spec.min_rows} or more")
        if previous and self.rows < previous.rows * _KEPT and not self.is_accepted:
            raise _refused(
                f"has {self.rows} rows, the last one had {previous.rows}: more than 5 % are gone. {self.acceptable}"
            )

    @property
    def is_accepted(self) -> bool:
        """Whether somebody has said that this load is right, however different it is."""
        return self.sha256 == self.spec.accept_sha256

    @property
    def acceptable(self) -> str:
        """What to do about a load that is refused and right."""
        return f"If that is right, set roster.accept_sha256 to {self.sha256} for this once"


@dataclass(frozen=True)
class Rosters:
    """The rosters of a company, such as those of employees and of contractors: who is in one of them is here.

    :param each: one or more, no two of the same name.
    """

    each: tuple[Roster, ...]

    def covers(self, folded: str) -> bool:
        """Tell whether an address is one that a roster would have.

        :param folded: the address, folded.
        """
        return any(roster.covers(folded) for roster in self.each)

    def knows(self, address: str) -> bool:
        """Tell whether an address is in a roster.

        :param address: the address, as :func:`spelled`.
        """
        return any(roster.knows(address) for roster in self.each)

    def resembles(self, address: str) -> bool:
        """Tell whether rosters have only an address that looks like another one.

        :param address: the address, as :func:`spelled`.
        """
        return not self.knows(address) and any(roster.resembles(address) for roster in self.each)

    def check_matches(self, covered: int, matched: int, previous: Sequence[Load | None]) -> None:
        """Refuse rosters that know hardly any of the account's users, or suddenly fewer.

        :param covered: enabled users with an address that one of them covers.
        :param matched: how many of these one of them knows.
        :param previous: the last accepted load of each.
        :raises AhaSnapshotError: when they do.
        """
        if not covered:
            raise _refused("covers no user of the account: look at roster.domains")
        if any(roster.is_accepted for roster in self.each):
            return
        acceptable = self.each[0].acceptable
        if matched < covered * _LEAST_MATCHED:
            raise _refused(
                f"knows only {matched} of the {covered} enabled users with an address that it covers: look at "
                f"roster.emails and roster.domains. {acceptable}"
            )
        share = matched / covered
        before = max((load.matched / load.covered for load in previous if load and load.covered), default=0.0)
        if share < before * _KEPT:
            raise _refused(
                f"knows {share:.0%} of the enabled users that it covers, the last one knew {before:.0%}. "
                f"{acceptable}"
            )


def load_roster(spec: RosterSpec, location: Store) -> Roster:
    """Read a roster file.

    :param spec: how.
    :param location: the file.
    :raises AhaStorageError: when it is missing or can't be read.
    :raises AhaConfigurationError: when it lacks a column.
    :raises AhaSnapshotError: when its content can't be right.
    """
    # Asked first: a file that is replaced meanwhile counts as the older one.
    loaded_at = location.modified()
    return roster_of(spec, read_table(location, "The roster"), loaded_at)


def _as_compared(key: str) -> str:
    """Return a key as it is held to those of other loads: systems make ``0003``, ``3`` and ``3.0`` of one."""
    text = without_hidden(key).strip().casefold()
    number = _NUMBER.fullmatch(text)
    return number[1] if number else text


def roster_of(spec: RosterSpec, table: SmallTable, loaded_at: datetime) -> Roster:
    """Make a roster of a table.

    :param spec: how.
    :param table: its rows.
    :param loaded_at: when they were written, or queried; UTC.
    :raises AhaConfigurationError: when a column is missing.
    :raises AhaSnapshotError: when a key is empty or comes twice, or an end date or address can't be read.
    """
    if missing := [name for name in spec.columns if name not in table.columns]:
        raise AhaConfigurationError(f"{table.what} has no column {', '.join(missing)}.")
    places = [table.columns.index(name) for name in spec.columns]
    key = places[0]
    people: dict[str, tuple[Person, ...]] = {}
    keys: dict[str, list[str]] = {}
    states: Counter[Person] = Counter()
    read_state, read_addresses_of = _state_reader(spec, table), _addresses_reader(spec, table)
    for number, row in enumerate(table.rows, 1):
        person = read_state(number, row)
        states[person] += 1
        keys[text_of(row[key])] = addresses = list(dict.fromkeys(read_addresses_of(number, row)))
        for address in addresses:
            people[address] = (*people.get(address, ()), person)
    _check_keys(spec, table, key)
    return Roster(
        spec=spec,
        loaded_at=loaded_at,
        rows=len(table.rows),
        sha256=sha256(table.body),
        people=people,
        keys=keys,
        states=states,
        columns=table.columns,
        cells=[[row[place] for place in places] for row in table.rows],
    )


def _check_keys(spec: RosterSpec, table: SmallTable, place: int) -> None:
    keys = Counter(text_of(row[place]) for row in table.rows)
    if keys[""]:
        raise _refused(f"has {keys['']} rows without {spec.key}")
    if len(keys) < len(table.rows):
        twice = sum(count > 1 for count in keys.values())
        raise _refused(f"has {twice} values of {spec.key} in more than one row")


def _state_reader(spec: RosterSpec, table: SmallTable) -> Callable[[int, Sequence[Any]], Person]:
    zone, left = ZoneInfo(spec.timezone), frozenset(spec.left_statuses)
    end_date = table.columns.index(spec.end_date) if spec.end_date else None
    status = table.columns.index(spec.status) if spec.status else None

    def read(number: int, row: Sequence[Any]) -> Person:
        cell = None if end_date is None else row[end_date]
        marked = marks_no_date(cell, zone)
        try:
            day = None if marked else date_of(cell, zone)
        except ValueError:
            raise _refused(
                f"has an end date in row {number} of the column {spec.end_date} that is no day; days are written "
                "as 2026-01-31"
            ) from None
        text = "" if status is None else fold(text_of(row[status]))
        return Person(day, text in left if text else None, marked)

    return read


def _addresses_reader(spec: RosterSpec, table: SmallTable) -> Callable[[int, Sequence[Any]], list[str]]:
    places = [(name, table.columns.index(name)) for name in spec.emails]

    def read(number: int, row: Sequence[Any]) -> list[str]:
        found: list[str] = []
        for name, place in places:
            try:
                found += read_addresses(row[place])
            except ValueError as error:
                raise _refused(
                    f"can't be read: row {number} of the column {name} {error}. Correct it there"
                ) from None
        return found

    return read


def _domain(text: str) -> str:
    try:
        return ascii_domain(text)
    except ValueError:
        raise AhaConfigurationError("roster.domains has an entry that is no domain.") from None


def _listed(value: object, name: str) -> tuple[str, ...]:
    if isinstance(value, str) and value.strip() and not value.strip().startswith(("[", "(")):
        value = [value]
    return tuple(to_list(value, name) or ())


def _refused(why: str) -> AhaRosterError:
    return AhaRosterError(f"The roster {why}. No plan was made from it.")
