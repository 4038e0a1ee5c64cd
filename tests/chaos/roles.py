"""Runs that change roles in workspaces: by several tries, beside people who edit; then undone."""

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_aha.access.decide.named import undo
from airflow_provider_aha.access.operations.base import TAKEN
from airflow_provider_aha.access.operations.workspace_role import (
    OWNER,
    WRITABLE,
    WorkspaceRole,
    owned_by,
    owner_of,
    place_of,
    roles_of,
    workspace_of,
)
from airflow_provider_aha.access.plan.plan import NAMED, Decision, Target
from airflow_provider_aha.access.write.carry_out import carry_out
from airflow_provider_aha.access.write.guards import Caps, Protection
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaError
from airflow_provider_aha.record.journal import ACKNOWLEDGED, PROVEN, UNANSWERED
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.sandbox.testing import Account
from tests.chaos.chaos import ACCOUNT, Arena, evidence_of, spoil, spoil_writes, told


@dataclass
class Case:
    """A run that changes roles of an account.

    :param arena: the servers.
    :param account: the account, new.
    :param owner: who owns the key.
    :param decision: what was decided.
    :param by_hand: the objects that somebody edited, by key.
    """

    arena: Arena
    account: Account
    owner: str
    decision: Decision
    by_hand: set[str] = field(default_factory=set)

    def folder(self, run_id: str = "r1", number: int = 1) -> RunFolder:
        return RunFolder(self.arena.location, ACCOUNT, self.run(run_id, number))

    def run(self, run_id: str = "r1", number: int = 1) -> Run:
        return Run("d", run_id, "t", number, "ann")

    @property
    def found(self) -> list[dict[str, Any]]:
        return evidence_of(self.arena, self.folder())

    def role(self, target: Target) -> str:
        roles = roles_of(self.account.user(target.user_id)) if target.user_id in self.account else {}
        return (roles or {}).get(workspace_of(target.object), "none")

    def roles(self) -> dict[str, str]:
        return {target.key: self.role(target) for target in self.decision.targets}


def change_roles(chance: random.Random, arena: Arena) -> None:
    """Change roles in up to three tries, then undo what was done."""
    case = new_case(chance, arena)
    if not case.decision.targets:
        return
    owned, keys = owned_places(case.account), dict(case.account.keys)
    for number in range(1, chance.randint(1, 3) + 1):
        chance.choice((spoil, spoil_writes))(arena.aha, chance)
        attempt(chance, case, number)
        edit_by_hand(chance, case)
    if not case.by_hand:
        assert owned <= owned_places(case.account), f"nobody owns {owned - owned_places(case.account)} any more"
    arena.aha.clear_faults()
    case.account.keys.update(keys)
    # What comes after the run waits until none of its requests can be on its way any more.
    arena.time.skip(7200.0)
    arena.aha.land()
    check_undo(chance, case)


def new_case(chance: random.Random, arena: Arena) -> Case:
    """Decide about some roles that people have, or don't have, and that can be given back."""
    account = arena.new_account(chance)
    owner = str(account.owner(arena.aha.key)["id"])  # type: ignore[index]
    people = [user for user in account.users() if user["enabled"] and user["id"] != owner]
    targets: dict[str, Target] = {}
    for user in chance.sample(people, min(chance.randint(1, 5), len(people))):
        roles = roles_of(user) or {}
        for place in chance.sample(sorted(roles), min(chance.randint(0, 2), len(roles))) or ["none"]:
            place = place if place != "none" else chance.choice(account.workspaces).id
            before, wanted = roles.get(place, "none"), chance.choice(WRITABLE)
            if before in WRITABLE and before != wanted:
                target = _target(user["id"], place, before, wanted)
                targets[target.key] = target
    holders: dict[str, list[str]] = {}
    for user in account.users():
        for right in owned_by(user):
            holders.setdefault(right, []).append(user["id"])
    decision = Decision("change_roles", list(targets.values()), len(people) + 1, holders)
    return Case(arena, account, owner, decision)


def _target(user_id: str, place: str, before: str, wanted: str) -> Target:
    return Target(
        user_id,
        {"role": wanted},
        user_class=NAMED,
        operation=WorkspaceRole.name,
        object=place_of(place),
        before={"role": before},
    )


def attempt(chance: random.Random, case: Case, number: int) -> None:
    """Carry the decision out, and check what was left."""
    before = len(case.account.writes)
    with case.arena.client(chance) as client:
        try:
            carry_out(
                client,
                case.folder(number=number),
                case.run(number=number),
                case.decision,
                caps=Caps(max_percent=100.0),
                protection=Protection(case.owner),
                dry_run=False,
            )
        except AhaError as error:
            told(error)
    planned = {target.key: target for target in case.decision.targets}
    for write in case.account.writes[before:]:
        target = planned[f"u{write.user_id}.{write.object}"]
        assert roles_of(write.after).get(workspace_of(write.object), "none") == target.changes["role"]  # type: ignore[union-attr]
    check_evidence(case)


def edit_by_hand(chance: random.Random, case: Case) -> None:
    """Let somebody give a user another role in Aha!."""
    if chance.random() < 0.7:
        return
    target = chance.choice(case.decision.targets)
    if target.user_id not in case.account:
        return
    place = workspace_of(target.object)
    kept = [one for one in case.account.user(target.user_id)["product_roles"] if one["product_id"] != place]
    role = {"role": 40, "role_description": "Reviewer", "product_id": place, "product_name": None}
    case.account.edit_user(target.user_id, product_roles=[*kept, role])
    case.by_hand.add(target.key)


def check_evidence(case: Case) -> None:
    """Hold that the evidence tells of every write that was carried out, and of nothing else."""
    rows = {f"u{row['user_id']}.{row['object']}": row for row in case.found}
    assert len(rows) == len(case.found)
    assert rows.keys() <= {target.key for target in case.decision.targets}
    for write in case.account.writes:
        row = rows.get(f"u{write.user_id}.{write.object}")
        assert row is not None, f"{write} was carried out, and no evidence says so"
        assert row["proof"] >= UNANSWERED, f"{write} was carried out, and the evidence says that nothing was: {row}"
    written = {f"u{write.user_id}.{write.object}" for write in case.account.writes}
    for key, row in rows.items():
        assert row["proof"] < PROVEN or key in written | case.by_hand, f"nobody has done it: {row}"


def check_undo(chance: random.Random, case: Case) -> None:
    """Undo the run: what it provably took is given back, and nothing else is touched."""
    check_evidence(case)
    found, before = {f"u{row['user_id']}.{row['object']}": row for row in case.found}, case.roles()
    requests = Counter(f"u{write.user_id}.{write.object}" for write in case.account.writes)
    with case.arena.client(chance) as client:
        try:
            decision = undo(client, list(found.values()), facts={})
        except AhaConfigurationError:
            decision = None
        if decision is not None:
            carry_out(
                client,
                case.folder("undo"),
                case.run("undo"),
                decision,
                caps=Caps(max_percent=100.0),
                protection=Protection(case.owner),
                dry_run=False,
                now=lambda: datetime.now(UTC) + timedelta(hours=2),
            )
    for target in case.decision.targets:
        now, row = case.role(target), found.get(target.key)
        took = target.access == TAKEN and row is not None and row["proof"] >= ACKNOWLEDGED
        if not took or before[target.key] != target.changes["role"]:
            assert now == before[target.key], f"{target.key} isn't the run's: {row}"
        elif requests[target.key] == 1 and target.key not in case.by_hand and row and row["proof"] == PROVEN:
            was = json.loads(row["before_json"])["role"]
            assert now == was == target.before["role"], f"{target.key} was taken, and the undo left it: {row}"


def owned_places(account: Account) -> set[str]:
    """Return the workspaces that an enabled user owns."""
    return {
        owner_of(place)
        for user in account.users()
        if user["enabled"]
        for place, role in (roles_of(user) or {}).items()
        if role == OWNER
    }
