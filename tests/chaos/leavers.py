"""Runs that plan by a roster over some days: whoever is in the roster is never planned as absent.

What counts is what somebody meant to write: addresses are spelled in the ways of real exports, days as systems
write them, exports are cut, and the account is read under faults.
"""

import csv
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.access.decide.planning import Request, make_plan
from airflow_provider_aha.access.decide.rules import Policy, as_given, read_rules
from airflow_provider_aha.access.plan.plan import Plan
from airflow_provider_aha.datasets.extract import extract
from airflow_provider_aha.exceptions import AhaError
from airflow_provider_aha.lists.roster import Rosters, RosterSpec, load_roster
from airflow_provider_aha.store.store import Store
from tests.chaos.chaos import ACCOUNT, Arena, spoil, told

DOMAINS = ["example.com", "example.org", "example.net"]
PLAIN = "{0}"
SPELLINGS = (
    *("{1}", " {0} ", "{0}\u200b", "\ufeff{0}", "mailto:{0}", "smtp:{0}", "SMTP:{0};smtp:other.{0}"),
    *("Somebody <{0}>", '"Else, Somebody" <{0}>', "other.{0} | {0}", "{0}, other.{0}", "{0}; other.{0}"),
)
# How exports write that there is no last day.
NO_DAY = ("", "", "", "0000-00-00", "1900-01-01", "1899-12-30", "1970-01-01T00:00:00Z", "0001-01-01", "9999-12-31")
# People without a user: so that one who is dropped isn't a share that stops the plan.
OTHERS = 40


@dataclass
class Row:
    """A person in the roster, as it is meant.

    :param key: of the person.
    :param email: in small letters.
    :param end: the last day.
    :param spelling: how the address is written.
    """

    key: str
    email: str
    end: date | None = None
    spelling: str = PLAIN

    def spelled(self) -> str:
        """Write the address."""
        return self.spelling.format(self.email, self.email.upper())


@dataclass
class Office:
    """Who writes the roster.

    :param path: the file.
    :param rows: who is in it.
    :param known: whose addresses were in earlier exports: the key.
    :param before: the addresses of the export before.
    """

    path: Path
    rows: list[Row]
    known: dict[str, str] = field(default_factory=dict)
    before: set[str] = field(default_factory=set)

    def change(self, chance: random.Random, today: date) -> None:
        """Let people come, go and change."""
        for row in list(self.rows):
            what = chance.random()
            if what < 0.02:
                self.rows.remove(row)
            elif what < 0.06:
                row.end = today + timedelta(days=chance.choice((-40, -2, -1, 0, 3)))
            elif what < 0.07:
                row.email = f"new.{row.email}"
            elif what < 0.1:
                row.spelling = chance.choice(SPELLINGS)

    def export(self, chance: random.Random, at: datetime) -> list[Row]:
        """Write the roster; return what is in the file."""
        kept = list(self.rows)
        if chance.random() < 0.1:
            kept = kept[: chance.randint(0, len(kept))]
        with self.path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["nr", "mail", "end", "exported"])
            writer.writerows([row.key, row.spelled(), day(chance, row.end), at] for row in kept)
        os.utime(self.path, (at.timestamp(), at.timestamp()))
        return kept


def plan_leavers(chance: random.Random, arena: Arena) -> None:
    """Plan on some days in a row: only who left, and nobody who is in the roster as absent."""
    account = arena.new_account(chance, (9, 24, 40))
    first = datetime.fromtimestamp(account.as_of / 1000, UTC) + timedelta(hours=6)
    emails = sorted({str(user["email"]).casefold() for user in account.users()})
    office = Office(arena.folder.parent / "roster.csv", list(_rows(chance, emails)))
    everybody = chance.random() < 0.5
    for number in range(chance.randint(2, 4)):
        at = first + timedelta(days=number)
        if number:
            office.change(chance, at.date())
        exported = office.export(chance, at)
        arena.aha.clear_faults()
        if not everybody:
            spoil(arena.aha, chance)
        with arena.client(chance, page_size=20) as client:
            try:
                extract(client, arena.location, datasets=["users"], connection_id="c", now=lambda at=at: at)  # type: ignore[misc]
                plan = make_plan(arena.location, _request(office.path, number), now=lambda at=at: at)  # type: ignore[misc]
            except AhaError as error:
                told(error)
                continue
        check(plan, account, office, exported, at)
        office.before = {row.email for row in exported}
        office.known |= {row.email: row.key for row in exported}


def check(plan: Plan, account: Any, office: Office, exported: list[Row], at: datetime) -> None:
    """Hold that everybody who is planned has left."""
    here, keys = {row.email: row for row in exported}, {row.key for row in exported}
    for row in plan.rows:
        email = str(account.user(row.user_id)["email"]).casefold()
        person = here.get(email)
        if person is None:
            assert email not in office.before, f"{row} was in the roster a day ago"
            assert email in office.known, f"{row} was in no roster yet"
            assert office.known[email] not in keys, f"{row} has another address there now"
        else:
            assert row.leave_date is not None, f"{row} is in the roster, and planned as absent"
            assert person.end == date.fromisoformat(row.leave_date), f"{row} has no such last day: {person}"
            assert datetime.combine(person.end, time(), UTC) + timedelta(days=1) <= at, f"{row} is still here"


def _rows(chance: random.Random, emails: list[str]) -> Iterator[Row]:
    for number, email in enumerate(emails):
        if chance.random() < 0.95:
            yield Row(f"K{number}", email)
    for number in range(OTHERS):
        yield Row(f"X{number}", f"x{number}@example.com")


def day(chance: random.Random, end: date | None) -> str:
    if end is None:
        return chance.choice(NO_DAY)
    return chance.choice(("{}", "{}T00:00:00Z", "{}T00:00:00+02:00", "{} 00:00:00")).format(end)


def _request(path: Path, number: int) -> Request:
    rules = read_rules([{"class": "left"}])
    given = {"key": "nr", "emails": ["mail"], "domains": DOMAINS, "min_rows": 1, "end_date": "end"}
    (spec,) = RosterSpec.read_all([{**given, "path": str(path)}])
    return Request(
        account=ACCOUNT,
        dag_id="leavers",
        run_id=f"day {number}",
        policy=Policy(rules),
        as_given={"rules": [as_given(rule) for rule in rules]},
        max_snapshot_age=timedelta(hours=20),
        roster=lambda: Rosters((load_roster(spec, Store(LocalFileSystem(), str(path), str(path))),)),
    )
