"""A company whose year is written down: its account, its rosters, what people do, and who answers questions.

``company_year.yaml`` says how it is read. All moments are UTC; the clock is whatever the test has set.
"""

import csv
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from airflow_provider_aha.sandbox.account import ADMIN_KEY, RIGHTS
from airflow_provider_aha.sandbox.testing import Account

DOMAIN = "acme.example"
FIRST_ID = 6_776_757_454_431_870_000
ID_STEP = 8753
SEEN_AT = time(18, 0, tzinfo=UTC)
HALF = 2
GONE = "gone"


@dataclass
class Person:
    """Somebody with a row, a user, or both; the fields are those of the file."""

    name: str
    email: str
    key: str
    expect: Mapping[str, Any]
    created: Any = date(2023, 1, 9)
    story: str = ""
    why: str = ""
    visits: Any = "all"
    also: Sequence[str] = ()
    visits_hidden_from: Any = None
    rows: Sequence[Any] = ()
    rows_contractors: Sequence[Any] = ()
    roster: str = "hr"
    events: Sequence[Any] = ()
    administrator: bool = False
    user: str = ""
    second_email: str = ""
    approve: bool = False
    approve_from: Any = None
    ids: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.extra = [moment_of(text) for text in self.also]
        self.created_at = moment_of(self.created)
        self.last_visit = None if isinstance(self.visits, str) else moment_of(self.visits).date()

    def seen(self, now: datetime) -> datetime | None:
        """Return the latest visit that has passed, as Aha! shows it; None where it shows none."""
        if self.visits_hidden_from and now.date() >= day_of(self.visits_hidden_from):
            return None
        moments = [moment for moment in self.extra if moment <= now]
        if self.visits != "none":
            moments += self._working_day(now)
        return max(moments, default=None)

    def _working_day(self, now: datetime) -> list[datetime]:
        day = now.date() if now.timetz() >= SEEN_AT else now.date() - timedelta(days=1)
        day = min(day, self.last_visit or day)
        day -= timedelta(days=max(0, day.weekday() - 4))
        moment = datetime.combine(day, SEEN_AT)
        return [moment] if moment >= self.created_at else []

    def row(self, roster: str, day: date) -> Mapping[str, Any] | None:
        """Return what a roster says on a day; None: no such row."""
        given = self.rows if roster == self.roster else self.rows_contractors if roster == "contractors" else ()
        found = [row for since, row in given if day_of(since) <= day]
        return None if not found or found[-1] == GONE else {"key": self.key, "email": self.email, **found[-1]}


@dataclass
class Company:
    """An account, two rosters and what happens to them.

    :param text: the file.
    :param folder: where the exports lie.
    :param clock: moves the time to a moment.
    """

    text: Mapping[str, Any]
    folder: Path
    clock: Callable[[datetime], None]

    def __post_init__(self) -> None:
        self.start, self.end = day_of(self.text["start"]), day_of(self.text["end"])
        self.people = [Person(**given) for given in self.text["people"]]
        names = [f"b{number:02}" for number in range(1, self.text["background"] + 1)]
        employed = [[self.start, {}]]
        self.background = [
            Person(name, f"{name}@{DOMAIN}", f"B-{name[1:]}", self.text["background_expect"], rows=employed)
            for name in names
        ]
        for number in (1, 2):
            self.background[number].administrator = True
        self.outages = {day_of(one["day"]): one["export"] for one in self.text["outages"]}
        self.excluded: list[tuple[str, date]] = []
        self._happening = sorted(self._events(), key=lambda event: event[0])
        self._now = datetime.combine(self.start, time(4, 0), UTC)
        self.clock(self._now)
        self._numbers = count()
        self._seen: dict[str, datetime | None] = {}
        everybody = [*self.background, *self.people]
        there = [one for one in everybody if one.user != "none" and one.created_at <= self._now]
        self.account = Account.from_users([user for one in there for user in self._users(one)])
        self.account.keys[ADMIN_KEY] = self.named(self.text["key_owner"]).ids[0]

    @classmethod
    def read(cls, path: Path, folder: Path, clock: Callable[[datetime], None]) -> "Company":
        return cls(yaml.safe_load(path.read_text()), folder, clock)

    def named(self, name: str) -> Person:
        """Find somebody by name."""
        return next(one for one in (*self.people, *self.background) if one.name == name)

    def person(self, user_id: str) -> Person:
        """Find whose user it is."""
        return next(one for one in (*self.people, *self.background) if user_id in one.ids)

    def days(self) -> Iterator[date]:
        """Go through the days of the year."""
        for number in range((self.end - self.start).days + 1):
            yield self.start + timedelta(days=number)

    def at(self, day: date, hour: int, minute: int) -> None:
        """Let time pass: what happens until then happens, and Aha! shows who was there."""
        now = datetime.combine(day, time(hour, minute), UTC)
        while self._happening and self._happening[0][0] <= now:
            moment, act = self._happening.pop(0)
            self.clock(moment)
            act()
        self.clock(now)
        self._now = now
        self._let_visits_show()

    # --- the account ---------------------------------------------------------------------------------------

    def _users(self, person: Person) -> Iterator[dict[str, Any]]:
        for email in filter(None, (person.email, person.second_email)):
            person.ids.append(str(FIRST_ID + next(self._numbers) * ID_STEP))
            yield {
                "id": person.ids[-1],
                "name": person.name,
                "email": email,
                "timezone": "UTC",
                "created_at": iso(person.created_at),
                "updated_at": iso(person.created_at),
                "accessed_at": None,
                "product_roles": [],
                "user_roles": [],
                "enabled": True,
                "paid_seat": True,
                "administrator": person.administrator,
                "roadmaps_seat": True,
                "develop_seat": False,
                "administrator_roles": dict.fromkeys(RIGHTS, person.administrator),
                "identity_provider": {"type": "password"},
            }

    def _let_visits_show(self) -> None:
        for person in (*self.people, *self.background):
            seen = person.seen(self._now)
            if not person.ids or self._seen.get(person.ids[0], self) == seen:
                continue
            self._seen[person.ids[0]] = seen
            for user_id in person.ids:
                self.account.edit_user(user_id, accessed_at=seen and iso(seen))

    # --- what happens --------------------------------------------------------------------------------------

    def _events(self) -> Iterator[tuple[datetime, Callable[[], None]]]:
        acts: dict[str, Callable[..., None]] = {
            "set": self._set,
            "disable": self._switch,
            "enable": self._switch,
            "key": self._hand_over,
            "exclude": self._exclude,
        }
        for person in self.people:
            if person.user != "none" and person.created_at.date() >= self.start:
                yield person.created_at, partial(self._create, person)
            for text, what, *value in person.events:
                moment = moment_of(text)
                yield moment, partial(acts[what], person, moment, value[0] if value else what == "enable")

    def _create(self, person: Person) -> None:
        for user in self._users(person):
            self.account.add_user(**user)

    def _set(self, person: Person, _: datetime, fields: Mapping[str, Any]) -> None:
        rights = (
            {"administrator_roles": dict.fromkeys(RIGHTS, fields["administrator"])}
            if "administrator" in fields
            else {}
        )
        for user_id in person.ids:
            self.account.edit_user(user_id, **fields, **rights)

    def _switch(self, person: Person, now: datetime, enabled: bool) -> None:
        for user_id in person.ids:
            self.account.edit_user(user_id, enabled=enabled, updated_at=iso(now))

    def _hand_over(self, _: Person, __: datetime, name: str) -> None:
        self.account.keys[ADMIN_KEY] = self.named(name).ids[0]

    def _exclude(self, person: Person, _: datetime, given: Mapping[str, Any]) -> None:
        self.excluded += [(user_id, day_of(given["until"])) for user_id in person.ids]

    # --- what people write down ----------------------------------------------------------------------------

    def rosters(self) -> list[dict[str, Any]]:
        """Return how each roster is read."""
        return [
            {
                "name": name,
                "path": str(self.folder / f"{name}.csv"),
                "key": "emp_no",
                "emails": ["work_email"],
                "end_date": "last_day",
                "domains": [DOMAIN],
                "timezone": self.text["timezone"],
                "min_rows": given["min_rows"],
            }
            for name, given in self.text["rosters"].items()
        ]

    @property
    def exclusions(self) -> Path:
        return self.folder / "exclusions.csv"

    def export(self, day: date) -> None:
        """Write the rosters at half past four, and who is excluded."""
        for name in self.text["rosters"]:
            rows = sorted(self._rows(name, day), key=lambda row: str(row["key"]))
            self._write(name, day, rows, self.outages.get(day) if name == "hr" else None)
        if self.excluded:
            lines: list[list[Any]] = [
                ["id", "reason", "owner", "expires_on"],
                *([one, "hold", "Legal", end] for one, end in self.excluded),
            ]
            write_csv(self.exclusions, lines)

    def _rows(self, roster: str, day: date) -> Iterator[dict[str, Any]]:
        for person in self.background if roster == "hr" else ():
            row = dict(person.row(roster, day) or {})
            for change in self.text["background_rows"]:
                if change["rows"] in ("all", person.name) and day_of(change["from"]) <= day:
                    row |= change["row"]
            yield row
        letter = "E" if roster == "hr" else "X"
        for number in range(1, self.text["rosters"][roster]["extra_rows"] + 1):
            yield {"key": f"{letter}-{number:02}", "email": f"{letter.lower()}{number:02}@{DOMAIN}"}
        yield from filter(None, (person.row(roster, day) for person in self.people))

    def _write(self, name: str, day: date, rows: list[dict[str, Any]], outage: Any) -> None:
        path = self.folder / f"{name}.csv"
        if outage == "missing":
            path.unlink()
            return
        if isinstance(outage, dict):
            rows = [row | _mistake(outage, row) for row in rows]
        kept = {"header_only": 0, "first_half": len(rows) // HALF}.get(
            outage if isinstance(outage, str) else "", len(rows)
        )
        lines = [[row["key"], row["email"], row.get("end", ""), day] for row in rows[:kept]]
        write_csv(path, [["emp_no", "work_email", "last_day", "exported_on"], *lines])
        written = datetime.combine(day, time(4, 30), UTC).timestamp()
        os.utime(path, (written, written))

    # --- who answers ---------------------------------------------------------------------------------------

    def strike_out(self, asked: Collection[str], day: date) -> list[str]:
        """Return whom the approver leaves alone."""
        return sorted(user_id for user_id in asked if not self._approves(self.person(user_id), day))

    def _approves(self, person: Person, day: date) -> bool:
        return person.approve and (person.approve_from is None or day_of(person.approve_from) <= day)


def _mistake(outage: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the mistake of a day does to a row: ``{b33: {...}}``, or ``{b20_to_b49: {...}}``."""
    who = f"b{row['key'][2:]}" if row["key"].startswith("B-") else ""
    for span, change in outage.items():
        first, _, last = span.partition("_to_")
        if first <= who <= (last or first) and len(who) == len(first):
            return dict(change)
    return {}


def write_csv(path: Path, lines: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)


def day_of(value: Any) -> date:
    return value if isinstance(value, date) else date.fromisoformat(str(value))


def moment_of(value: Any) -> datetime:
    """Read a moment, or the beginning of a day."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.combine(value, time(0, 0), UTC)
    return datetime.fromisoformat(value)


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
