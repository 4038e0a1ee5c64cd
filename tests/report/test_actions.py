"""What became of decisions: evidence of runs, and the worklist."""

import csv
import io
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_aha.access.decide.named import decide
from airflow_provider_aha.access.plan.plan import Decision, Target
from airflow_provider_aha.access.write.carry_out import carry_out
from airflow_provider_aha.access.write.guards import Caps, Protection
from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.datasets.extract import extract
from airflow_provider_aha.datasets.names import DATASETS
from airflow_provider_aha.datasets.snapshot import Snapshot
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.review.people import Background, judge_people
from airflow_provider_aha.review.population import read_roles
from airflow_provider_aha.review.records import read_reviews
from airflow_provider_aha.review.staged import Staged
from airflow_provider_aha.review.submission import submit
from airflow_provider_aha.review.terms import Terms
from airflow_provider_aha.review.worklist import DONE, OPEN, WAITING, worklist
from airflow_provider_aha.sandbox.account import Account
from airflow_provider_aha.sandbox.testing import SandboxServer
from airflow_provider_aha.store.store import staging

RUN = Run("aha_submit_review", "s1", "submit", 1, "carla")
W1, W2 = "6100000000000000001", "6100000000000000002"


def member(number: int, *roles: tuple[int, str], **more: Any) -> dict[str, Any]:
    names = {20: "Owner", 30: "Contributor", 50: "Viewer"}
    return {
        "id": f"62000000000000000{number:02}",
        "name": f"Person {number}",
        "email": f"p{number}@example.com",
        "created_at": "2025-01-01T00:00:00.000Z",
        "updated_at": "2025-01-01T00:00:00.000Z",
        "accessed_at": "2026-11-19T00:00:00.000Z",
        "product_roles": [
            {"role": role, "role_description": names[role], "product_id": place, "product_name": f"W{place[-1]}"}
            for role, place in roles
        ],
        "user_roles": [],
        "enabled": True,
        "paid_seat": True,
        "administrator": False,
        "administrator_roles": {},
        **more,
    }


BOSS = {"administrator": True, "administrator_roles": {"administer_account": True, "administer_billing": True}}


@pytest.fixture
def decided(small):
    """Call it with decisions by person and role, then with the users of a later extract, for states by row."""
    before = [
        member(1, (20, W1), (30, W2), **BOSS),
        member(2, (20, W1)),
        member(3, (30, W1)),
        member(4, (50, W2)),
        member(5),
    ]
    desk = small(before)
    desk.report("r1")

    def states(decisions, after=None):
        path = desk.folder / "aha/reviews/account=acme/review=r1/access_review.csv"
        rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline="")))
        for row in rows:
            row |= {"decision": decisions.get((row["person"], row["role"]), "keep"), "reviewer": "Rita"}
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        submit(desk.location, "acme", text.getvalue().encode(), RUN, now=lambda: desk.now + timedelta(hours=1))
        if after is not None:
            desk.extract(Account.from_users(after), desk.now + timedelta(days=3))
        snapshot = Snapshot.newest(desk.location, "acme")
        with staging() as place, closing(Staged(place)) as staged:
            staged.add_people(judge_people(snapshot, Terms(), Background()))
            staged.add_roles(read_roles(snapshot))
            staged.order()
            reviews = read_reviews(desk.location, "acme")
            tasks = worklist(desk.location, reviews, staged.rows(), snapshot.synced_at)
        return {(int(task.user_id[-2:]), task.decision): (task.state, task.age_days) for task in tasks}

    return states


def test_without_a_later_extract_everything_waits(decided):
    assert decided({("Person 2", "Owner"): "revoke role"}) == {(2, "revoke role"): (WAITING, 0)}


@pytest.mark.parametrize(
    ("decision", "after", "state"),
    [
        ("revoke role", member(2, (20, W1)), OPEN),
        ("revoke role", member(2), DONE),
        ("revoke role", member(2, (30, W1)), OPEN),
        ("revoke role", member(2, (30, W2)), DONE),
        ("revoke role", member(2, (20, W1), enabled=False), DONE),
        ("downgrade", member(2, (20, W1)), OPEN),
        ("downgrade", member(2, (30, W1)), DONE),
        ("downgrade", member(2), DONE),
        ("revoke account", member(2, (20, W1)), OPEN),
        ("revoke account", member(2, (20, W1), enabled=False), DONE),
        ("revoke account", None, DONE),
        ("not mine", member(2, (20, W1)), OPEN),
    ],
)
def test_a_task_is_open_until_an_extract_shows_it_done(decided, decision, after, state):
    users = [member(1, (20, W1), (30, W2), **BOSS), *([after] if after else [])]
    assert decided({("Person 2", "Owner"): decision}, users) == {(2, decision): (state, 2)}


def test_a_role_that_grew_instead_is_not_done(decided):
    users = [member(1, (20, W1), **BOSS), member(3, (20, W1))]
    assert decided({("Person 3", "Contributor"): "downgrade"}, users) == {(3, "downgrade"): (OPEN, 2)}


def test_an_administrator_right_is_done_when_it_is_gone(decided):
    less = {"administrator": True, "administrator_roles": {"administer_account": True}}
    users = [member(1, (20, W1), (30, W2), **less)]
    decisions = {
        ("Person 1", "Account administrator"): "revoke role",
        ("Person 1", "Billing administrator"): "not mine",
    }
    assert decided(decisions, users) == {(1, "revoke role"): (OPEN, 2), (1, "not mine"): (OPEN, 2)}


def test_what_runs_did_is_verified_by_the_next_extract(small):
    """One of two leavers is enabled again in Aha!, past every run."""
    account = Account.generate(60)
    desk = small([])
    people = [user["id"] for user in account.users() if user["enabled"] and not user["administrator"]][:3]
    for user_id in people:
        account.edit_user(user_id, accessed_at="2026-01-01T00:00:00.000Z")
    with SandboxServer(account=account) as server:
        config = ClientConfig(server.url, "acme", server.key, requests_per_second=10**5, requests_per_minute=10**6)
        with AhaClient(config) as client:
            run = Run("aha_offboard_leavers", "r1", "deactivate", 1, "scheduled")
            facts = {"approved_by_name": "carla"}
            decision = decide(client, people, {"enabled": False}, action="deactivate", facts=facts)
            left = [(datetime.now(UTC) - timedelta(hours=hours)).isoformat() for hours in (6, 30, 100)]
            targets = [replace(target, left_at=day) for target, day in zip(decision.targets, left, strict=True)]
            decision = replace(decision, targets=targets)
            folder = RunFolder(desk.location, "acme", run)
            owner = str(client.me()["id"])
            carry_out(client, folder, run, decision, caps=Caps(), protection=Protection(owner), dry_run=False)
            account.edit_user(people[1], enabled=True)
            desk.now = datetime.now(UTC) + timedelta(hours=1)
            extract(client, desk.location, datasets=DATASETS, connection_id="aha", now=lambda: desk.now)
    summary = desk.report()
    actions = summary["actions"]
    assert (actions["planned"], actions["disabled"], actions["verified"], actions["came_back"]) == (3, 3, 2, 1)
    assert (actions["unverified"], actions["failed"], actions["blocked"]) == (0, 0, 0)
    assert actions["median_hours"] == 30
    assert summary["attention"]["came_back"] == 1
    html = (desk.folder / "aha/reports/account=acme").glob("*/access_review.html")
    assert "Came back after being disabled" in next(html).read_text("utf-8")


def new_roles(account: Account, users: Sequence[str]) -> Decision:
    """Decide that a contributor becomes a viewer, and a viewer a contributor."""
    place = account.workspaces[0].id
    targets = []
    for user_id, code, before, wanted in zip(
        users, (30, 50), ("contributor", "viewer"), ("viewer", "contributor"), strict=True
    ):
        role = {"role": code, "role_description": before, "product_id": place, "product_name": None}
        account.edit_user(user_id, product_roles=[role])
        where: dict[str, Any] = {"operation": "workspace_role", "object": f"w{place}", "before": {"role": before}}
        targets.append(Target(user_id, {"role": wanted}, **where))
    return Decision(action="change_roles", targets=targets, enabled_users=60, holders={})


def test_what_was_done_by_updates_is_counted_the_administrator_grant_included(small):
    """A form may disable, enable, rename, and give the account to another mailbox or an administrator right."""
    account = Account.generate(60)
    desk = small([])
    users = list(account.users())
    people = [user["id"] for user in users if user["enabled"] and not user["administrator"]]
    boss = [user["id"] for user in users if user["enabled"] and user["administrator"]][-1]
    off = next(user["id"] for user in users if not user["enabled"])
    changes: dict[str, dict[str, Any]] = {
        people[0]: {"administrator": True},
        people[1]: {"administrator_roles": {"administer_billing": True}, "email": "new@example.com"},
        people[2]: {"enabled": False},
        people[3]: {"first_name": "Zoe"},
        off: {"enabled": True},
        boss: {"administrator": False},
    }
    with SandboxServer(account=account) as server:
        config = ClientConfig(server.url, "acme", server.key, requests_per_second=10**5, requests_per_minute=10**6)
        with AhaClient(config) as client:
            owner = str(client.me()["id"])
            assert owner != boss
            for number, (user_id, wanted) in enumerate(changes.items()):
                run = Run("aha_update_user", f"r{number}", "carry_out", 1, "alice")
                facts = {"approved_by_name": "carol"}
                decision = decide(client, [user_id], wanted, action="update", facts=facts)
                folder = RunFolder(desk.location, "acme", run)
                carry_out(client, folder, run, decision, caps=Caps(), protection=Protection(owner), dry_run=False)
            roles = Run("aha_change_roles", "roles", "carry_out", 1, "alice")
            folder, decision = RunFolder(desk.location, "acme", roles), new_roles(account, people[4:6])
            carry_out(client, folder, roles, decision, caps=Caps(), protection=Protection(owner), dry_run=False)
            desk.now = datetime.now(UTC) + timedelta(hours=1)
            extract(client, desk.location, datasets=DATASETS, connection_id="aha", now=lambda: desk.now)
    actions = desk.report()["actions"]
    expected = {
        "planned": 8,
        "roles_taken": 1,
        "roles_given": 1,
        "disabled": 1,
        "reactivated": 1,
        "rights_granted": 2,
        "rights_revoked": 1,
        "emails_changed": 1,
        "others": 1,
        "verified": 1,
        "failed": 0,
        "blocked": 0,
        "came_back": 0,
    }
    assert {name: actions[name] for name in expected} == expected
    (page,) = (desk.folder / "aha/reports/account=acme").glob("*/access_review.html")
    text = page.read_text("utf-8")
    assert "<dt>Administrator rights granted</dt><dd>2</dd>" in text
    assert "<dt>Roles in workspaces taken</dt><dd>1</dd>" in text
    assert "<dt>Asked for by</dt><dd>alice</dd>" in text
    assert "<dt>Approved by</dt><dd>carol</dd>" in text
