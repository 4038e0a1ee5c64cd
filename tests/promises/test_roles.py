"""What becomes of roles that a plan changes: from a real extract, against the sandbox, and back."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_aha.access.decide.named import undo_rules
from airflow_provider_aha.access.decide.planning import Request, make_plan
from airflow_provider_aha.access.decide.rules import Policy, Rule, ask_for
from airflow_provider_aha.access.operations.registry import read_to
from airflow_provider_aha.access.operations.workspace_role import roles_of
from airflow_provider_aha.access.plan.plan import Plan, decision_of
from airflow_provider_aha.access.write.carry_out import carry_out
from airflow_provider_aha.access.write.guards import Caps, Protection
from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.datasets.extract import extract
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaError
from airflow_provider_aha.lists.matching import UserMatcher
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.sandbox.testing import Account, SandboxServer
from airflow_provider_aha.store.store import Store
from tests.access.conftest import ACCOUNT, client_of

CASES = yaml.safe_load((Path(__file__).parent / "roles.yaml").read_text(encoding="utf-8"))["cases"]
CODES = {"product_owner": 20, "contributor": 30, "developer": 35, "reviewer": 40, "viewer": 50}
MEMBERS = {
    100: {2: "product_owner", 3: "product_owner", 4: "contributor", 5: "developer", 6: "reviewer", 7: "viewer"},
    200: {2: "product_owner"},
    300: {3: "product_owner", 8: "product_owner"},
}
# Enough others that the percentage of the caps holds nobody back.
USERS = [*range(1, 10), *range(1000, 1050)]


def entry(workspace: int, role: str) -> dict[str, Any]:
    return {
        "role": CODES[role],
        "role_description": role,
        "product_id": str(workspace),
        "product_name": f"W{workspace}",
    }


def user(number: int) -> dict[str, Any]:
    rights = dict.fromkeys(("administer_account", "administer_billing", "administer_configuration"), number == 1)
    return {
        "id": str(number),
        "name": f"User {number}",
        "email": f"user{number}@example.com",
        "created_at": "2024-01-15T10:00:00.000Z",
        "updated_at": "2025-01-15T10:00:00.000Z",
        "accessed_at": "2025-01-15T10:00:00.000Z",
        "product_roles": [entry(place, held[number]) for place, held in MEMBERS.items() if number in held],
        "user_roles": [],
        "enabled": True,
        "paid_seat": True,
        "administrator": number == 1,
        "administrator_roles": rights,
        "identity_provider": {"type": "password"},
    }


@dataclass
class Played:
    """A case, the account it is played in, and where its records lie."""

    case: dict[str, Any]
    server: SandboxServer
    client: AhaClient
    location: Store

    def edit(self, changes: Any) -> None:
        """Let somebody else change users and roles."""
        for number, *change in changes:
            account, user_id = self.server.account, str(number)
            if len(change) == 1:
                account.edit_user(user_id, **change[0])
                continue
            place, role = change
            roles = [one for one in account.user(user_id)["product_roles"] if one["product_id"] != str(place)]
            account.edit_user(user_id, product_roles=[*roles, *([entry(place, role)] if role != "none" else [])])

    def role(self, key: str) -> str:
        number, _, place = key.partition(".")
        return (roles_of(self.server.account.user(number)) or {}).get(place, "none")

    def plan(self, run_id: str, rules: tuple[Rule, ...], **policy: Any) -> Plan:
        extract(self.client, self.location, datasets=["users", "user_roles"], connection_id="aha_default")
        protected = UserMatcher(ids=self.case.get("protected", ()))
        return make_plan(
            self.location,
            Request(
                account=ACCOUNT,
                dag_id="d",
                run_id=run_id,
                policy=Policy(rules, protected),
                as_given={"rules": [], **policy},
                max_snapshot_age=timedelta(hours=24),
                caps=Caps(),
            ),
        )

    def carry_out(self, plan: Plan, run_id: str, try_number: int = 1) -> dict[str, dict[str, Any]]:
        now = datetime.now(UTC)
        run = Run("d", run_id, "t", try_number, "ann")
        decision = decision_of(plan, account=ACCOUNT, strike_out={}, facts={}, now=now)
        protection = Protection("1", UserMatcher(ids=self.case.get("protected", ())))
        folder = RunFolder(self.location, ACCOUNT, run)
        rows = carry_out(self.client, folder, run, decision, caps=Caps(), protection=protection, dry_run=False)
        return {f"{row['user_id']}.{row['object'][1:]}": row for row in rows}


@pytest.fixture
def play(request: Any, local: Store) -> Iterator[Played]:
    account = Account.from_users([user(number) for number in USERS])
    account.keys = {"sandbox-key": "1"}
    with SandboxServer(account=account) as server, client_of(server) as client:
        yield Played(copy.deepcopy(request.param), server, client, local)


def asked(case: dict[str, Any]) -> tuple[Rule, ...]:
    rules = []
    for number, (who, place, role) in enumerate(case["rows"]):
        operation, target, wanted = read_to({"role": role, "workspace": str(place)})
        rules.append(ask_for(f"asked {number}", [str(who)], wanted, operation, target))
    return tuple(rules)


def named(rows: dict[str, dict[str, Any]], column: str, expected: dict[str, Any]) -> dict[str, Any]:
    return {key: rows[key][column] for key in expected}


@pytest.mark.parametrize("play", CASES, ids=[case["name"] for case in CASES], indirect=True)
def test_what_becomes_of_a_role(play: Played) -> None:
    case = play.case
    if "refused" in case:
        with pytest.raises(AhaConfigurationError, match=case["refused"]):
            asked(case)
        return
    plan = play.plan("r1", asked(case))
    unplanned = {
        f"{one['asked']}.{case['rows'][int(one['rule'].split()[1])][1]}": one["reason"]
        for one in plan.header["unresolved"]
    }
    assert unplanned == case.get("unplanned", {})
    play.edit(case.get("meanwhile", ()))
    if fault := case.get("fault"):
        play.server.set_fault(fault.pop("name"), **fault)
    rows: dict[str, dict[str, Any]] = {}
    for try_number in range(1, case.get("tries", 1) + 1):
        rows = play.carry_out(plan, "r1", try_number)
    assert {key: row["outcome"] for key, row in rows.items()} == case.get("outcome", {})
    assert named(rows, "proof", case.get("proof", {})) == case.get("proof", {})
    assert named(rows, "access", case.get("access", {})) == case.get("access", {})
    for key, reason in case.get("reason", {}).items():
        assert reason in rows[key]["reason"]
    assert {key: play.role(key) for key in case.get("role", {})} == case.get("role", {})
    assert len(play.server.writes) == case["requests"]
    if "undo" in case:
        undo(play, list(rows.values()))


def undo(play: Played, rows: list[dict[str, Any]]) -> None:
    """Give back by a plan what the run took, after what the case lets happen."""
    case = play.case
    play.server.clear_faults()
    play.edit(case.get("after", ()))
    before = {key: play.role(key) for key in case["undo"]}
    if all(row["access"] != "taken" or row["proof"] == 0 for row in rows):
        with pytest.raises(AhaConfigurationError, match="nothing to undo"):
            undo_rules("undo", rows, ACCOUNT)
    else:
        play.carry_out(play.plan("undo", undo_rules("undo", rows, ACCOUNT), undo="it"), "undo")
    expected = {key: before[key] if role == "left" else role for key, role in case["undo"].items()}
    assert {key: play.role(key) for key in case["undo"]} == expected


def test_a_plan_over_the_caps_changes_nothing(local: Store) -> None:
    """The caps count users, not roles."""
    account = Account.from_users([user(number) for number in USERS])
    account.keys = {"sandbox-key": "1"}
    with SandboxServer(account=account) as server, client_of(server) as client:
        play = Played({"rows": [[3, 100, "viewer"], [3, 300, "viewer"], [4, 100, "viewer"]]}, server, client, local)
        plan = play.plan("r1", asked(play.case))
        decision = decision_of(plan, account=ACCOUNT, strike_out={}, facts={}, now=datetime.now(UTC))
        run = Run("d", "r1", "t", 1, "ann")
        folder = RunFolder(local, ACCOUNT, run)

        def write(most: int) -> Any:
            caps = Caps(max_users=most)
            return carry_out(client, folder, run, decision, caps=caps, protection=Protection("1"), dry_run=False)

        with pytest.raises(AhaError, match=r"2 users.*allowed are 1 users"):
            write(1)
        assert not server.writes
        assert len(write(2)) == 3
