"""Seats over several snapshots: planned, spared, or unknown. The expectations are data."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.access.decide.history import Carried, EnabledAgain
from airflow_provider_aha.access.decide.planning import build_plan
from airflow_provider_aha.access.decide.population import read_population
from airflow_provider_aha.access.decide.rules import Policy, read_rules
from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.datasets.extract import extract
from airflow_provider_aha.exceptions import AhaSnapshotError
from airflow_provider_aha.sandbox.testing import Account, SandboxServer
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import Store

FILE = yaml.safe_load((Path(__file__).parent / "unused.yaml").read_text())
# Of class left are the cases of leavers.yaml.
CASES = [FILE["defaults"] | case for case in FILE["cases"] if "rule" not in case]
NOW = datetime.fromisoformat(FILE["defaults"]["now"])
DAY = timedelta(days=1)
USER, ACCOUNT, OTHERS = "2000", "acme", 60


def iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def user(number: int, **more: Any) -> dict[str, Any]:
    rights = dict.fromkeys(("administer_account", "administer_billing", "administer_configuration"), number == 1)
    return {
        "id": str(number),
        "name": f"Person {number}",
        "email": f"p{number}@example.com",
        "created_at": iso(NOW - 730 * DAY),
        "updated_at": iso(NOW - 400 * DAY),
        "accessed_at": iso(NOW - 10 * DAY),
        "product_roles": [],
        "user_roles": [],
        "enabled": True,
        "paid_seat": True,
        "administrator": number == 1,
        "administrator_roles": rights,
        "identity_provider": {"type": "password"},
        **more,
    }


@dataclass
class Company:
    """An account that is read again and again, and where its snapshots lie."""

    base: Path

    @property
    def location(self) -> Store:
        return Store(LocalFileSystem(), str(self.base), str(self.base))

    def extract(self, users: list[dict[str, Any]], at: datetime, **fault: Any) -> dict[str, Any]:
        with SandboxServer(account=Account.from_users(users)) as server:
            if fault:
                server.set_fault(**fault)
            config = ClientConfig.from_connection(
                host=server.host, password=server.key, schema="http", port=server.port
            )
            client = AhaClient(replace(config, account=ACCOUNT, page_size=50))
            names = ("users", "user_roles", "user_changes")
            return extract(client, self.location, datasets=names, connection_id="aha_default", now=lambda: at)

    def folder(self, at: datetime) -> Path:
        return Path(self.location.path, Layout(ACCOUNT).dataset("users", f"{at:%Y-%m-%d}"))


def users_of(case: dict[str, Any], seen: Any, *, last: bool) -> list[dict[str, Any]]:
    others = [user(number + 1) for number in range(OTHERS)]
    if last:
        for other in others[1 : case.get("others_too", 0) + 1]:
            other["accessed_at"] = None
    if seen == "gone":
        return others
    created = iso(NOW - case.get("created_days", 730) * DAY)
    row = user(int(USER), accessed_at=seen, created_at=None if case.get("created", "") is None else created)
    if seen == "absent":
        del row["accessed_at"]
    return [*others, row]


def history(case: dict[str, Any], company: Company) -> dict[str, Any]:
    """Read the account as often as the case says; the last manifest."""
    days = case.get("at", range(len(case["seen"]) - 1, -1, -1))
    manifest: dict[str, Any] = {}
    for number, (seen, ago) in enumerate(zip(case["seen"], days, strict=True), 1):
        at = NOW - ago * DAY
        if seen != "none":
            last = number == len(case["seen"])
            if last:
                spoil(case, company)
            manifest = company.extract(users_of(case, seen, last=last), at)
    return manifest


def spoil(case: dict[str, Any], company: Company) -> None:
    """Do to the earlier snapshots what the case says, right before the last one is read."""
    for ago in case.get("pruned", []):
        for path in company.base.glob(f"**/snapshot={NOW - ago * DAY:%Y-%m-%d}"):
            shutil.rmtree(path)
    if case.get("tampered"):
        path = company.folder(NOW - DAY)
        path.write_bytes(path.read_bytes() + b" ")


def outcome(case: dict[str, Any], company: Company) -> tuple[str, str]:
    """Return what becomes of the seat, and the status in the last snapshot."""
    rule = {"class": "unused", "inactive_days": 90, "never_seen": True, "min_age_days": 60, "grace_days": 14}
    rule |= case.get("rule_settings", {})
    policy = Policy(read_rules([rule]))
    flagged, again = case["flagged_days"], case.get("enabled_again_days")
    before = Carried({USER: NOW - flagged * DAY} if flagged else {})
    moments = EnabledAgain({USER: NOW - again * DAY} if again else {})
    table = pq.ParquetFile(company.folder(NOW)).read(columns=["id", "activity_status"])
    status = dict(zip(*(table.column(name).to_pylist() for name in ("id", "activity_status")), strict=True))[USER]
    try:
        population = read_population(
            company.location, ACCOUNT, reads=policy.reads, max_age=timedelta(hours=24), now=NOW
        )
        draft = build_plan(population, policy, before=before, again=moments)
    except AhaSnapshotError:
        return "refused", status
    row = next(row for row in draft.decisions.to_pylist() if row["user_id"] == USER)
    if row["decision"] == "planned":
        return "planned", status
    return "unknown" if status == "unknown" else f"spared: {row['spared_by']}", status


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_what_happens_to_the_seat(case, tmp_path):
    company = Company(tmp_path)
    manifest = history(case, company)
    found, status = outcome(case, company)
    allowed = [case["expect"]] if "expect" in case else case["either"]
    assert found in allowed, case["why"]
    assert found not in case.get("never", [])
    assert status == case.get("status", status)
    if "manifest_counts" in case:
        assert manifest["visits_lost"] == case["manifest_counts"]


@pytest.mark.parametrize(
    ("words", "status", "visit"),
    [
        (["seen", "disabled", "never"], "unknown", None),
        (["seen", "gone", "disabled", "never"], "unknown", None),
        (["later", "never", "seen"], "unknown", "later"),
        (["later", "seen", "seen"], "unknown", "later"),
        (["later", "gone", "never", "never", "seen"], "unknown", "later"),
        (["seen", "never", "later"], "active", "later"),
        (["later", "seen", "later"], "active", "later"),
        (["never", "never", "never"], "never_seen", None),
        (["never", "seen"], "inactive_90", "seen"),
    ],
)
def test_a_visit_is_remembered_through_whatever_came_between(tmp_path, words, status, visit):
    moments = {"seen": iso(NOW - 160 * DAY), "later": iso(NOW - 20 * DAY)}
    company = Company(tmp_path)
    for ago, word in zip(range(len(words) - 1, -1, -1), words, strict=True):
        rows = [user(number + 1) for number in range(3)]
        if word != "gone":
            rows.append(user(int(USER), accessed_at=moments.get(word), enabled=word != "disabled"))
        company.extract(rows, NOW - ago * DAY)
    table = pq.ParquetFile(company.folder(NOW)).read(columns=["id", "activity_status", "accessed_at"])
    found = (table.column("activity_status")[3].as_py(), table.column("accessed_at")[3].as_py())
    assert found == (status, visit and datetime.fromisoformat(moments[visit]))


def test_a_visit_that_a_wrong_clock_set_in_the_future_is_forgotten_when_the_clock_is_right(tmp_path):
    company = Company(tmp_path)
    for ago, seen in ((1, NOW + 100 * DAY), (0, NOW - 5 * DAY)):
        company.extract([user(1), user(int(USER), accessed_at=iso(seen))], NOW - ago * DAY)
    table = pq.ParquetFile(company.folder(NOW)).read(columns=["days_inactive"])
    assert table.column("days_inactive").to_pylist()[1] == 1


def test_another_pass_over_the_list_compares_from_the_start(tmp_path, monkeypatch):
    """The list changed while it was read: the second pass sees all users again."""
    monkeypatch.setattr("airflow_provider_aha.datasets.extract._PAGES_PER_GROUP", 2)
    company = Company(tmp_path)
    company.extract([user(number, accessed_at=iso(NOW - 160 * DAY)) for number in range(1, 301)], NOW - DAY)
    rows = [user(number, accessed_at=None) for number in range(1, 301)]
    manifest = company.extract(rows, NOW, name="page_drift", page=5, change="remove")
    assert manifest["rereads"] == 1
    assert manifest["visits_lost"] == manifest["rows"] == 299
