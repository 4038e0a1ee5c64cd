"""Runs that take access: by several tries and workers, beside people who edit, with clocks that step; then undone.

What was really done is what the sandbox carried out; what was answered, and what is recorded, may be wrong.
"""

import json
import random
import shutil
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import time_machine

from airflow_provider_aha.access.decide.named import decide, undo
from airflow_provider_aha.access.plan.plan import LEFT, NAMED, UNUSED, Decision
from airflow_provider_aha.access.write.carry_out import carry_out
from airflow_provider_aha.access.write.guards import Caps, Protection
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaError, AhaGuardError
from airflow_provider_aha.record.journal import ACKNOWLEDGED, AFTER_CRASH, UNANSWERED
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.sandbox.testing import Account
from tests.chaos.chaos import ACCOUNT, Arena, evidence_of, spoil, spoil_writes, told

DISABLE = {"enabled": False}
# A try of one worker, of one that is beside its retry, or of one that was handed out twice.
WORKERS: tuple[tuple[int, ...], ...] = ((0,), (0,), (0,), (0,), (0, 1), (0, 0))
MINUTES_OFF = (0, 0, 0, 0, -10, -70, 5)
FOLDERS_LOST = ("register", "register", "applied", "plans")


@dataclass
class Case:
    """A run that disables users of an account.

    :param arena: the servers.
    :param account: the account, new.
    :param owner: who owns the key.
    :param wanted: whom the run is to disable.
    :param dry_run: whether it is to change nothing.
    :param decision: what was decided.
    :param by_hand: how many writes had been carried out when somebody edited a user, by user id.
    """

    arena: Arena
    account: Account
    owner: str
    wanted: list[str]
    dry_run: bool
    decision: Decision | None = None
    by_hand: dict[str, int] = field(default_factory=dict)

    def folder(self, run_id: str = "r1", number: int = 1) -> RunFolder:
        return RunFolder(self.arena.location, ACCOUNT, self.run(run_id, number))

    def run(self, run_id: str = "r1", number: int = 1) -> Run:
        return Run("d", run_id, "t", number, "ann")

    def enabled(self) -> dict[str, bool]:
        return {user["id"]: bool(user["enabled"]) for user in self.account.users()}

    @property
    def found(self) -> list[dict[str, Any]]:
        return evidence_of(self.arena, self.folder())

    @property
    def taken(self) -> set[str]:
        """Whose access requests of the run have taken."""
        return {one.user_id for one in self.account.writes if one.before["enabled"] and not one.after["enabled"]}

    @property
    def edited_since(self) -> set[str]:
        """Whom somebody has edited after the last request that changed them."""
        last = {one.user_id: at for at, one in enumerate(self.account.writes, 1)}
        return {user_id for user_id, writes in self.by_hand.items() if writes >= last.get(user_id, 0)}


def deactivate(chance: random.Random, arena: Arena) -> None:
    """Deactivate users in up to three tries, each of one or two workers, then undo what was done."""
    case = new_case(chance, arena)
    rights, keys = _rights(case.account), dict(case.account.keys)
    if chance.random() < 0.3:
        spoil(arena.aha, chance)
    with arena.client(chance) as client:
        try:
            decision = decide(client, case.wanted, DISABLE, action="deactivate", facts={})
        except AhaError as error:
            told(error)
            assert case.account.writes == []
            return
    targets = [replace(one, user_class=chance.choice((NAMED, UNUSED, LEFT))) for one in decision.targets]
    case.decision = replace(decision, targets=targets)
    caps = Caps(max_users=chance.choice((25, 25, 25, 2)), max_percent=chance.choice((20.0, 100.0, 100.0)))
    number = 1
    for _ in range(chance.randint(1, 3)):
        chance.choice((spoil, spoil_writes))(arena.aha, chance)
        numbers = [number + more for more in chance.choice(WORKERS)]
        attempt(chance, case, numbers, caps)
        number = numbers[-1] + 1
        edit_by_hand(chance, case)
    if not case.by_hand:
        assert rights <= _rights(case.account), f"nobody is left with {rights - _rights(case.account)}"
    arena.aha.clear_faults()
    case.account.keys.update(keys)
    # What comes after the run waits until none of its requests can be on its way any more.
    arena.time.skip(7200.0)
    arena.aha.land()
    if case.dry_run:
        assert case.account.writes == []
        return
    if chance.random() < 0.4:
        lose_folder(chance, case)
        check_caps(chance, case)
    check_undo(chance, case)


def new_case(chance: random.Random, arena: Arena) -> Case:
    account = arena.new_account(chance)
    owner = str(account.owner(arena.aha.key)["id"])  # type: ignore[index]
    wanted = chance.sample(account.user_ids, min(chance.randint(1, 6), len(account)))
    return Case(arena, account, owner, wanted, dry_run=chance.random() < 0.1)


def attempt(chance: random.Random, case: Case, numbers: Sequence[int], caps: Caps) -> None:
    """Let one or two workers carry a decision out at once, by clocks that may be wrong; check what they left."""
    final = {row["user_id"] for row in case.found if _is_final(row)}
    case.arena.aha.forget_requests()
    failed: list[BaseException] = []

    def work(number: int, worker: random.Random) -> None:
        try:
            with case.arena.client(worker) as client:
                carry_out(
                    client,
                    case.folder(number=number),
                    case.run(number=number),
                    case.decision,  # type: ignore[arg-type]
                    caps=caps,
                    protection=Protection(case.owner),
                    dry_run=case.dry_run,
                )
        except AhaError as error:
            told(error)
        except BaseException as error:  # noqa: BLE001 (it is raised by the thread of the run)
            failed.append(error)

    threads = [
        threading.Thread(target=work, args=(number, random.Random(chance.random())), daemon=True)
        for number in numbers
    ]
    with clock_off(chance.choice(MINUTES_OFF)):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failed:
        raise failed[0]
    sent = case.arena.puts()
    assert not case.dry_run or sent == [], sent
    assert all(body == {"user": DISABLE} for _, body in sent), sent
    others = {user_id for user_id, _ in sent} - (set(case.wanted) - final - {case.owner})
    assert not others, f"{others} were none of this try's: final are {final}"
    check_evidence(case.found, case.account, case.wanted)


def clock_off(minutes: float) -> AbstractContextManager[Any]:
    """Let the clock of the worker be wrong; the one of Aha! isn't."""
    if not minutes:
        return nullcontext()
    return time_machine.travel(datetime.now(UTC) + timedelta(minutes=minutes), tick=True)


def edit_by_hand(chance: random.Random, case: Case) -> None:
    """Let somebody edit a user in Aha!, a minute later; often one whose request got lost."""
    if chance.random() < 0.6:
        return
    case.arena.time.skip(60.0)
    enabled = case.enabled()
    lost = [row["user_id"] for row in case.found if row["proof"] == UNANSWERED and enabled.get(row["user_id"])]
    user_id = chance.choice(lost or case.wanted)
    edits: tuple[dict[str, Any], ...] = ({"enabled": False}, {"enabled": True}, {"name": "Somebody Else"})
    fields = edits[0] if lost else chance.choice(edits)
    if user_id in case.account and user_id != case.owner:
        case.account.edit_user(user_id, **fields, updated_at=case.arena.time.stamp())
        case.by_hand[user_id] = len(case.account.writes)


def lose_folder(chance: random.Random, case: Case) -> None:
    """Lose a folder that isn't the evidence."""
    path = f"{case.folder().account_path}/{chance.choice(FOLDERS_LOST)}"
    shutil.rmtree(path, ignore_errors=True)


# --- what must hold --------------------------------------------------------------------------------------


def check_evidence(found: Sequence[dict[str, Any]], account: Account, wanted: Sequence[str]) -> None:
    """Hold that the evidence tells of every write that was carried out, and of nobody else."""
    rows = {row["user_id"]: row for row in found}
    assert len(rows) == len(found)
    assert rows.keys() <= set(wanted)
    for user_id in {one.user_id for one in account.writes}:
        row = rows.get(user_id)
        assert row is not None, f"{user_id} was written, and no evidence says so"
        assert row["proof"] >= UNANSWERED, (
            f"{user_id} was written, and the evidence says that nothing was done: {row}"
        )
    for row in found:
        if row["proof"] == AFTER_CRASH:
            assert any(one.user_id == row["user_id"] for one in account.writes), f"it wasn't this run: {row}"
        assert row["before_json"] is None or isinstance(json.loads(row["before_json"]), dict)


def check_caps(chance: random.Random, case: Case) -> None:
    """Hold that what the run did counts for the next one, also when the register is lost."""
    user_class = chance.choice((LEFT, NAMED))
    counted = [
        row for row in case.found if row["proof"] >= UNANSWERED and (row["class"] == LEFT) == (user_class == LEFT)
    ]
    others = [user_id for user_id, enabled in case.enabled().items() if enabled and user_id not in case.wanted]
    others = [user_id for user_id in others if user_id != case.owner][:2]
    if not counted or not others:
        return
    before = len(case.account.writes)
    with case.arena.client(chance) as client:
        decision = decide(client, others, DISABLE, action="deactivate", facts={})
        decision = replace(decision, targets=[replace(one, user_class=user_class) for one in decision.targets])
        try:
            carry_out(
                client,
                case.folder("r2"),
                case.run("r2"),
                decision,
                caps=Caps(max_users=len(counted) + len(others) - 1, max_percent=100.0),
                protection=Protection(case.owner),
                dry_run=False,
                now=_two_hours_later,
            )
        except AhaGuardError as error:
            told(error)
        else:
            raise AssertionError(f"{len(counted)} users were changed, and the cap let {len(others)} more pass")
    assert len(case.account.writes) == before


def check_undo(chance: random.Random, case: Case) -> None:
    """Undo the run: everybody whom it disabled is given back or named, and nobody else is touched."""
    found, before, ours = case.found, case.enabled(), case.taken
    check_evidence(found, case.account, case.wanted)
    edited = case.edited_since
    requests = Counter(one.user_id for one in case.account.writes)
    acknowledged = {row["user_id"] for row in found if row["proof"] >= ACKNOWLEDGED}
    named: dict[str, dict[str, Any]] = {}
    with case.arena.client(chance) as client:
        try:
            decision = undo(client, found, facts={})
        except AhaConfigurationError:
            assert not ours, f"{ours} were disabled, and there is nothing to undo"
            return
        rows = carry_out(
            client,
            case.folder("undo"),
            case.run("undo"),
            decision,
            caps=Caps(max_percent=100.0),
            protection=Protection(case.owner),
            dry_run=False,
            now=_two_hours_later,
        )
        named = {row["user_id"]: row for row in rows}
    evidence, after = {row["user_id"]: row for row in found}, case.enabled()
    for user_id, was in before.items():
        if user_id not in ours or user_id in edited:
            # What Aha! acknowledged and a read showed later counts as done by the run.
            assert after[user_id] == was or user_id in acknowledged, (
                f"{user_id} isn't the run's: {evidence.get(user_id)}"
            )
            continue
        row = evidence[user_id]
        assert was or user_id in named, f"{user_id} was disabled, and the undo doesn't name it: {row}"
        # Of two requests of which one was lost, nobody knows whether the later change was the run's, too.
        if row["proof"] >= ACKNOWLEDGED and _is_stamped(row) and requests[user_id] == 1:
            assert after[user_id], f"{user_id} was disabled, and the undo left it so: {row}, {named.get(user_id)}"


def _two_hours_later() -> datetime:
    """Return a moment at which a try that died doesn't hold another run up any more."""
    return datetime.now(UTC) + timedelta(hours=2)


def _is_final(row: dict[str, Any]) -> bool:
    return bool(row["proof"] >= AFTER_CRASH or (row["proof"] < UNANSWERED and row["outcome"] != "failed"))


def _is_stamped(row: dict[str, Any]) -> bool:
    """Tell whether it is known when the run changed the user: else nobody knows who changed it since."""
    return row["proof"] == ACKNOWLEDGED or bool(json.loads(row["after_json"] or "{}").get("updated_at"))


def _rights(account: Account) -> set[str]:
    """Return the administrator rights that some enabled user has."""
    return {
        right
        for user in account.users()
        if user["enabled"]
        for right, has in (user.get("administrator_roles") or {}).items()
        if has and right in ("administer_account", "administer_billing")
    }
