"""What the tests of the report share: an account with a history, and what is known beside it."""

import csv
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.datasets.extract import extract
from airflow_provider_aha.datasets.names import DATASETS
from airflow_provider_aha.lists.roster import Rosters, RosterSpec, load_roster
from airflow_provider_aha.record.run import Run
from airflow_provider_aha.report.build import Asked, make_report
from airflow_provider_aha.review.terms import Terms
from airflow_provider_aha.sandbox.account import Account
from airflow_provider_aha.sandbox.testing import SandboxServer
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import Store

ACCOUNT = "acme"
NOW = datetime(2026, 11, 20, 6, 0, tzinfo=UTC)
PRICES = {"seat_price": "900 EUR", "seats_purchased": 400, "renewal_date": "2027-01-31"}


@dataclass
class Desk:
    """A base path with snapshots, and where reports of it are asked for."""

    folder: Path
    now: datetime = NOW
    given: dict[str, Any] = field(default_factory=dict)

    @property
    def location(self) -> Store:
        return Store(LocalFileSystem(), str(self.folder / "aha"), str(self.folder / "aha"))

    @property
    def layout(self) -> Layout:
        return Layout(ACCOUNT)

    def extract(self, account: Account, moment: datetime) -> dict[str, Any]:
        """Land a snapshot as it would have been read at another moment."""
        with SandboxServer(account=account) as server:
            config = ClientConfig(
                server.url, ACCOUNT, server.key, requests_per_second=10**5, requests_per_minute=10**6
            )
            with AhaClient(config) as client:
                return extract(client, self.location, datasets=DATASETS, connection_id="aha", now=lambda: moment)

    def write_roster(self, people: Mapping[str, Any], left: Mapping[str, Any]) -> None:
        """Write down who works here, and who left on which day."""
        with (self.folder / "roster.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["number", "mail", "end"])
            writer.writerows([number, mail, left.get(mail, "")] for number, mail in enumerate(people, 1))
        written = (self.now - timedelta(hours=1)).timestamp()
        os.utime(self.folder / "roster.csv", (written, written))
        domains = sorted({mail.rpartition("@")[2] for mail in people})
        (spec,) = RosterSpec.read_all(
            {
                "key": "number",
                "emails": ["mail"],
                "domains": domains,
                "min_rows": 1,
                "end_date": "end",
                "path": str(self.folder / "roster.csv"),
                "max_age_hours": 24 * 31,
            }
        )
        place = Store(LocalFileSystem(), str(spec.path), str(spec.path))
        self.given["roster"] = lambda: Rosters((load_roster(spec, place),))

    def asked(self, review_id: str | None = None, run_id: str = "r1", **terms: Any) -> Asked:
        return Asked(
            account=ACCOUNT,
            run=Run("aha_access_review", run_id, "report", 1, "ann"),
            terms=Terms.read({**PRICES, **terms}),
            review_id=review_id,
            **self.given,
        )

    def report(self, review_id: str | None = None, run_id: str = "r1", **terms: Any) -> dict[str, Any]:
        return make_report(self.location, self.asked(review_id, run_id, **terms), now=lambda: self.now)

    def sql(self) -> sqlite3.Connection:
        """The newest snapshot's Parquet as tables of SQLite, where figures are computed another way."""
        database = sqlite3.connect(":memory:")
        for dataset in ("users", "user_roles"):
            path = sorted(self.folder.glob(f"aha/{dataset}/account=*/snapshot=*/*.parquet"))[-1]
            rows = pq.read_table(path, partitioning=None).to_pylist()
            names = list(rows[0])
            database.execute(f"create table {dataset} ({', '.join(names)})")
            values = [
                tuple(v.isoformat(sep=" ") if isinstance(v, datetime) else v for v in row.values()) for row in rows
            ]
            database.executemany(f"insert into {dataset} values ({', '.join('?' * len(names))})", values)
        return database


def people_of(account: Account) -> dict[str, str]:
    """Emails that a roster can have, with the ids of their users."""
    found = {}
    for user in account.users():
        _, at, domain = str(user["email"]).partition("@")
        if at and domain.endswith("example.com"):
            found[user["email"]] = user["id"]
    return found


def data_of(page: Path) -> dict[str, Any]:
    """Read what the page's script reads."""
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL
    )
    assert found is not None
    return dict(json.loads(found[1]))


@pytest.fixture
def page_data() -> Callable[[Path], dict[str, Any]]:
    """Call it with a page for the data in it."""
    return data_of


@pytest.fixture(scope="session")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three snapshots of an account of 500 users, a week apart. Not to be written to."""
    desk = Desk(tmp_path_factory.mktemp("landed"))
    for weeks in (2, 1, 0):
        moment = desk.now - timedelta(weeks=weeks, hours=1)
        account = Account.generate(500, as_of=moment)
        for user_id in account.user_ids[500 - 10 * weeks :]:
            account.remove_user(user_id)
        desk.extract(account, moment)
    return desk.folder


@pytest.fixture(scope="session")
def make_desk(landed: Path) -> Callable[..., Desk]:
    """Call it with a folder for a desk in it: a copy of the snapshots, and a roster that four people have left."""

    def make(folder: Path, *, copied: bool = True) -> Desk:
        found = Desk(folder)
        if copied:
            shutil.copytree(landed / "aha", folder / "aha")
            account = Account.generate(500, as_of=found.now - timedelta(hours=1))
            people = people_of(account)
            enabled = [mail for mail, user_id in people.items() if account.user(user_id)["enabled"]]
            days = ("2026-09-30", "2026-10-15", "2026-11-01", "2026-11-19")
            found.write_roster(people, dict(zip(enabled[20:60:10], days, strict=True)))
        return found

    return make


@pytest.fixture
def desk(make_desk: Callable[[Path], Desk], tmp_path: Path) -> Desk:
    """A desk of the test's own; see ``make_desk``."""
    return make_desk(tmp_path)


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Desk]:
    """Call it with users as the API sends them for a desk with one snapshot of them; without users: with none."""

    def make(users: Any) -> Desk:
        desk = Desk(tmp_path)
        if users:
            desk.extract(Account.from_users(users), desk.now - timedelta(hours=1))
        return desk

    return make


@pytest.fixture
def someone() -> Callable[..., dict[str, Any]]:
    """Call it with a number and a name for a user as the API sends it."""
    return user


def user(number: int, name: str, **more: Any) -> dict[str, Any]:
    return {
        "id": f"62000000000000000{number:02}",
        "name": name,
        "email": f"u{number}@example.com",
        "created_at": "2026-01-01T00:00:00.000Z",
        "updated_at": "2026-01-01T00:00:00.000Z",
        "accessed_at": "2026-11-01T00:00:00.000Z",
        "product_roles": [
            {"role": 20, "role_description": "Owner", "product_id": f"61{number}", "product_name": name}
        ],
        "user_roles": [],
        "enabled": True,
        "paid_seat": True,
        "administrator": False,
        "administrator_roles": {},
        **more,
    }


HOSTILE = [
    '<script>alert("x")</script>',
    "</script><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}{% for x in y %}",
    "\"'><b>&amp;",
    '=HYPERLINK("https://example.com","x")',
    "+1 555",
    "-2+3",
    "@SUM(A1)",
    "＝1+1",
    "a;=1+1",
    "tab\there\nline",
    "nul\x00byte",
    "\u202egnp.exe",
    "\u2066hidden\u200b",
    "\u2028line\u2029",
]


@pytest.fixture
def hostile_desk(small: Callable[..., Desk]) -> Desk:
    """A desk of an account in which everybody has a name that means harm."""
    return small([user(number, name) for number, name in enumerate(HOSTILE, 10)])
