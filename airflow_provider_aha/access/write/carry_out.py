"""Carrying out a decision: each object read again, an intent before the request, an outcome after it."""

from __future__ import annotations

import json
import logging
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from airflow_provider_aha.access.operations.base import PRIVILEGED, TAKEN, Compared, State, not_shown
from airflow_provider_aha.access.operations.registry import OPERATIONS
from airflow_provider_aha.access.operations.user_fields import is_administrator
from airflow_provider_aha.access.plan.plan import LEFT, NAMED, UNUSED, Decision, Target
from airflow_provider_aha.access.write.author import Look, is_ours, longest_call
from airflow_provider_aha.access.write.guards import Caps, Protection, last_holders
from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.common.addresses import spelled
from airflow_provider_aha.common.moments import moment_of, read_moment, timestamp
from airflow_provider_aha.exceptions import (
    AhaAuthenticationError,
    AhaCancelledError,
    AhaError,
    AhaGuardError,
    AhaNotFoundError,
    AhaStorageError,
)
from airflow_provider_aha.record import evidence
from airflow_provider_aha.record.journal import (
    ACKNOWLEDGED,
    AFTER_CRASH,
    CHANGED,
    CHANGED_AFTER_CRASH,
    FAILED,
    NONE,
    PROVEN,
    UNANSWERED,
    UNKNOWN,
    UNVERIFIED,
    History,
    Journal,
    key_of,
)
from airflow_provider_aha.record.register import (
    CAP_DAYS,
    changed_within,
    claim_of,
    claim_path,
    passed_by_policy,
    refuse_beside_another,
    register,
    sign_off,
    under_way,
)
from airflow_provider_aha.record.run import START, Run, RunFolder
from airflow_provider_aha.store.store import to_json
from airflow_provider_aha.version import package_version

log = logging.getLogger(__name__)

_SHOWN = (*PRIVILEGED, "paid_seat", "accessed_at", "updated_at", "name")
# Columns of the evidence that tell of a request; a try that finds out what became of it carries them on.
_REQUEST = ("event_id", "intent_at", "sent_at", "before_json", "http_status", "request_id")
# What Aha! acknowledged without showing it is read again after so many seconds each, at the end of the try.
_REREAD_AFTER = (2.0, 5.0, 15.0)

T = TypeVar("T")


class _OvertakenError(AhaError):
    """A later try of the task has begun."""


def carry_out(
    client: AhaClient,
    folder: RunFolder,
    run: Run,
    decision: Decision,
    *,
    caps: Caps,
    protection: Protection,
    dry_run: bool,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> list[dict[str, Any]]:
    """Change what a decision says, as far as the guards let it, and write the evidence.

    A try that follows a crashed or failed one goes on where that one ended: only what failed is touched, what it
    hadn't reached, or of which nobody knows what became. A worker of the earlier try that is still alive stops.

    :param client: client of the account.
    :param folder: the task's folder.
    :param run: the task instance.
    :param decision: what to do.
    :param caps: how many users may be changed.
    :param protection: who may not be changed.
    :param dry_run: read and judge, but change nothing.
    :param now: the clock; UTC.
    :return: the evidence, one row per object.
    :raises AhaGuardError: when a cap holds the run back; nothing was done.
    :raises AhaError: when another run is writing, a later try of this task has begun, the journal can't be written,
        or the key was refused.
    """
    journal = Journal(folder, run.try_number)
    ids = _users(decision.targets)
    left_ids = _users(target for target in decision.targets if target.user_class == LEFT)
    by_policy = decision.policy_max is not None
    entry = None if dry_run else register(folder, now(), ids, decision.access, left_ids, by_policy=by_policy)
    try:
        if not dry_run:
            journal.begin()
            refuse_beside_another(folder, now())
        _begin(folder, run, decision, caps, dry_run=dry_run, now=now())
        # Reads may lag, so nobody from whom access was taken lately, or is being taken, counts as one who stays.
        taken = _leaving(folder, now()) if decision.access == TAKEN else set()
        holders = {right: [one for one in ids if one not in taken] for right, ids in decision.holders.items()}
        _Task(client, journal, run, decision, protection, dry_run=dry_run).work_off(journal.histories(), holders)
    finally:
        found = _compact(folder, journal, entry)
    log.info("%s: %s", decision.action, summary(found))
    return found


def _users(targets: Iterable[Target]) -> list[str]:
    return list(dict.fromkeys(target.user_id for target in targets))


def summary(found: Sequence[Mapping[str, Any]]) -> str:
    """Count evidence by outcome, in words.

    :param found: evidence rows.
    """
    counts = Counter(str(row["outcome"]) for row in found)
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "nobody to change"


def unfinished(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the ids of users for whom the task must fail: access is not, or may not be, as it was asked for.

    :param found: evidence rows.
    """
    return [
        str(row["user_id"]) for row in found if row["outcome"] in (FAILED, "blocked", UNKNOWN) or _leaves_open(row)
    ]


def _leaves_open(row: Mapping[str, Any]) -> bool:
    """Tell whether nobody knows whether access was changed; a name that isn't shown is nobody's risk."""
    if row["outcome"] != UNVERIFIED:
        return False
    wanted, after = (json.loads(row[name] or "{}") for name in ("wanted_json", "after_json"))
    operation = OPERATIONS.get(row["operation"])
    return operation is None or not operation.compare(operation.privileged(wanted), after).done


def _begin(folder: RunFolder, run: Run, decision: Decision, caps: Caps, *, dry_run: bool, now: datetime) -> None:
    """Check the caps once, before the first write of the first try, and hold later tries to the same objects."""
    ids, keys = _users(decision.targets), [target.key for target in decision.targets]
    start = folder.read(START)
    if start is not None:
        if (start["keys"], start["action"], start["dry_run"]) != (keys, decision.action, dry_run):
            raise AhaGuardError(
                f"This task began with other users or as another action ({folder.url(START)}), and a further "
                "try may only finish what the first one began: nothing was done. Start a new DAG run."
            )
        return
    recent: set[str] = set()
    if decision.access is not None:
        # Reclaimed seats must never hold up somebody's leaving, nor the other way round.
        for left in (True, False):
            wanted = {one.user_id for one in decision.targets if (one.user_class == LEFT) is left}
            if wanted:
                counted = set(changed_within(folder, now, CAP_DAYS, decision.access, left=left))
                caps.check(len(wanted), len(counted - set(ids)), decision.enabled_users, decision.plan_sha256)
                recent |= counted
    if decision.policy_max is not None and not dry_run:
        _check_policy(folder, ids, decision.policy_max, now)
    if decision.planned and ids and not dry_run:
        _claim_plan(folder, decision.plan_sha256, by_policy=decision.policy_max is not None)
    start = {
        "action": decision.action,
        "dry_run": dry_run,
        "started_at": timestamp(now),
        "dag_id": run.dag_id,
        "run_id": run.run_id,
        "task_id": run.task_id,
        "keys": keys,
        "asked": dict(decision.asked),
        "enabled_users": decision.enabled_users,
        "changed_within_seven_days": len(recent),
        "caps": asdict(caps),
        "plan_sha256": decision.plan_sha256,
    }
    if not folder.create(START, start):
        raise AhaError("Another worker began this very task at the same moment: nothing was done by this one.")


def _leaving(folder: RunFolder, now: datetime) -> set[str]:
    """Return who counts for nobody who keeps a right: a read that lags still shows what they had.

    These are the users from whom other tasks took access within seven days, or may be taking it now.
    """
    return under_way(folder, now) | set(changed_within(folder, now, CAP_DAYS, TAKEN))


def _check_policy(folder: RunFolder, ids: Sequence[str], most: int, now: datetime) -> None:
    """Refuse to take access without a person's yes from more users than policy may within 24 hours."""
    passed = passed_by_policy(folder, now)
    if len(passed | set(ids)) > most:
        raise AhaGuardError(
            f"{len(passed)} users of this account lost access within the last 24 hours without asking anybody; "
            f"with the {len(ids)} of this plan they would be more than {most}: nothing was done. Make a new plan, "
            "which will be asked about."
        )


def _claim_plan(folder: RunFolder, plan_sha256: str | None, *, by_policy: bool) -> None:
    """Note that this task carries a plan, or the rows of it that pass, out, so that no other does."""
    if plan_sha256 is None:
        return
    path, mine = claim_path(folder, plan_sha256, by_policy=by_policy), claim_of(folder)
    if not folder.location.create(path, to_json(mine)) and folder.location.read_record(path) != mine:
        raise AhaGuardError(
            f"This plan was carried out before, by another task ({folder.location.url_of(path)} says which): "
            "nothing was done. Make a new "
            "plan."
        )


def _compact(folder: RunFolder, journal: Journal, entry: str | None) -> list[dict[str, Any]]:
    """Write the evidence of all tries so far, and sign this one off where it left nothing open."""
    names: list[str] | None = None
    # Another worker of the task may have written since: of two that compact at once, the later one has it all.
    while names != (names := journal.names()):
        histories = journal.histories()
        found = evidence.rows(histories)
        evidence.write_evidence(folder.location, f"{folder.path}/{evidence.FILE}", found)
    if entry and not any(history.open_intents for history in histories.values()):
        sign_off(folder, entry)
    return found


@dataclass
class _Acknowledged:
    """A write that Aha! acknowledged without showing it.

    :param target: the object.
    :param event: its outcome.
    :param shown: what the answer showed as wanted; no later read takes that back.
    """

    target: Target
    event: dict[str, Any]
    shown: Mapping[str, Any]


class _Task:
    """What one try changes, several users at a time."""

    def __init__(
        self,
        client: AhaClient,
        journal: Journal,
        run: Run,
        decision: Decision,
        protection: Protection,
        *,
        dry_run: bool,
    ) -> None:
        self._client = client
        self._journal = journal
        self._decision = decision
        self._protection = protection
        self._dry_run = dry_run
        self._last_holders: dict[str, str] = {}
        self._unread: list[str] = []
        self._acknowledged: dict[str, _Acknowledged] = {}
        self._stopped = False
        self._planned = decision.planned
        wanted = {target.user_id for target in decision.targets}
        self._names = {user_id: name for user_id, _, name in decision.users if user_id in wanted}
        self._facts = {
            **decision.facts,
            "account": client.config.account,
            "requested_by": run.requested_by,
            "actor_user_id": protection.key_owner_id,
            "dag_id": run.dag_id,
            "run_id": run.run_id,
            "provider_version": package_version(),
        }

    def work_off(self, histories: Mapping[str, History], holders: Mapping[str, Collection[str]]) -> None:
        for target in self._decision.struck_out:
            if not (histories.get(target.key) or History()).is_final:
                outcome = "blocked" if target.user_class == LEFT else "skipped"
                self._write(self._about(target), outcome, str(target.not_ours))
        todo: dict[str, list[tuple[Target, History]]] = defaultdict(list)
        for target in self._decision.targets:
            if not (history := histories.get(target.key) or History()).is_final:
                todo[target.user_id].append((target, history))
        if todo and any(target.access == TAKEN for target in self._decision.targets):
            self._last_holders = last_holders(self._decision.targets, holders, cache(self._holder))
        # One worker for a user: what it does to one object must not look like somebody else's doing to the next.
        self._at_once(self._each, list(todo.values()))
        for seconds in _REREAD_AFTER:
            if self._acknowledged:
                self._client.clock.sleep(seconds)
                self._at_once(self._reread, list(self._acknowledged.values()))
        for one in self._acknowledged.values():
            reason = f"{one.event['reason']}; {len(_REREAD_AFTER)} reads after that didn't show it either"
            self._journal.outcome(one.target.key, {**one.event, "intent": None, "reason": reason})

    def _each(self, jobs: Sequence[tuple[Target, History]]) -> None:
        for job in jobs:
            self._one(job)

    def _at_once(self, work: Callable[[T], None], items: Sequence[T]) -> None:
        """Do a work for several users at a time."""
        pool = ThreadPoolExecutor(self._client.config.max_in_flight, thread_name_prefix="aha-user")
        try:
            futures = [pool.submit(self._unless_stopped, work, item) for item in items]
            wait(futures, return_when=FIRST_EXCEPTION)
        except BaseException:
            # The task's time is over: what only reads ends at once, and the answer to a write is waited for.
            self._client.cancel()
            raise
        finally:
            # A refused key, a cancelled task or a journal that can't be written ends the whole try.
            pool.shutdown(wait=True, cancel_futures=True)
        for future in futures:
            if not future.cancelled():
                future.result()

    def _unless_stopped(self, work: Callable[[T], None], item: T) -> None:
        if self._stopped:
            return
        try:
            work(item)
        except BaseException:
            # Before the pool hears of it, its next user would be on the way.
            self._stopped = True
            raise

    def _holder(self, user_id: str) -> Mapping[str, Any] | None:
        """Read somebody who may hold a right; one who can't be read may lose every right, and holds none."""
        try:
            return self._client.get_user(user_id)
        except AhaNotFoundError:
            return None
        except (AhaAuthenticationError, AhaCancelledError):
            raise
        except AhaError:
            self._unread.append(user_id)
            return {}

    def _one(self, job: tuple[Target, History]) -> None:
        """Work one object off: what goes wrong with one is that one's failure."""
        target, history = job
        try:
            self._judge(target, history)
        except (AhaAuthenticationError, AhaCancelledError, AhaStorageError, _OvertakenError):
            raise
        except Exception as error:  # noqa: BLE001 (whatever it is, the others are done)
            self._write(self._about(target), FAILED, _unexpected(target, error))

    def _judge(self, target: Target, history: History) -> None:
        facts = self._about(target)
        receipt: dict[str, Any] = {}
        asked_at = self._client.clock.monotonic()
        try:
            user = self._client.get_user(target.user_id, receipt)
        except AhaCancelledError:
            raise
        except AhaNotFoundError:
            self._stop(target, facts, "Aha! has no such user")
            return
        except AhaError as error:
            self._fail(facts, error)
            return
        operation = OPERATIONS[target.operation]
        shown = operation.read(user, target.object)
        compared = operation.compare(target.changes, shown)
        facts |= {"before_json": _before(target, user, history), "note": _note(target, user)}
        if compared.done and target.changes:
            self._settle(target, facts, user, history)
        elif (hindrance := target.not_ours or self._hindrance(target, user)) is not None:
            self._hold(target, facts, hindrance)
        elif self._dry_run:
            self._write(facts, "dry_run", "a dry run changes nothing")
        elif history.proof == ACKNOWLEDGED and not compared.wrong:
            reason = f"Aha! acknowledged it, and doesn't show {_listed(compared.hidden)}"
            self._write({**facts, **_request(history)}, UNVERIFIED, reason, (user, shown), proof=ACKNOWLEDGED)
        else:
            self._send(target, facts, Look(user, receipt.get("date"), asked_at))

    def _about(self, target: Target) -> dict[str, Any]:
        return {
            **self._facts,
            "user_id": target.user_id,
            "operation": target.operation,
            "object": target.object,
            "email_at_decision": target.email,
            "class": target.user_class,
            "rule": target.rule,
            "detail": target.detail,
            "leave_date": target.leave_date,
            "left_at": target.left_at,
            "access": target.access or "none",
            "wanted_json": json.dumps(dict(target.changes), ensure_ascii=False),
        }

    # ---- what stands against it ----------------------------------------------------------------------

    def _hindrance(self, target: Target, user: Mapping[str, Any]) -> str | None:
        """Say why the user is not to be changed, or None."""
        if target.access is None:
            return self._changed(target, user)
        needed: tuple[str, ...] = ()
        if target.user_class == UNUSED:
            needed = ("paid_seat", "accessed_at")
        elif self._decision.policy_max is not None:
            needed = ("accessed_at",)
        if missing := [*OPERATIONS[target.operation].missing(user), *not_shown(user, needed)]:
            return f"Aha! doesn't show {', '.join(missing)}, so it can't be said whether anything stands against it"
        return (
            self._protection.reason(user, self._known_as(target))
            or self._last_holders.get(target.key)
            or (self._exclusion(target, user) if target.access == TAKEN else None)
            or self._changed(target, user)
        )

    def _known_as(self, target: Target) -> str | None:
        return self._names.get(target.user_id)

    def _exclusion(self, target: Target, user: Mapping[str, Any]) -> str | None:
        reason = self._protection.exclusion(user, self._known_as(target))
        return self._since(reason) if reason and self._planned else reason

    def _changed(self, target: Target, user: Mapping[str, Any]) -> str | None:
        if target.email is not None and spelled(user.get("email")) != spelled(target.email):
            return self._since("another email")
        if target.is_administrator is False and is_administrator(user):
            return self._since("an administrator now")
        operation = OPERATIONS[target.operation]
        if what := operation.drift(target.before, operation.read(user, target.object), user):
            return self._since(what)
        if target.updated_at is not None:
            if user.get("updated_at") is None:
                return "Aha! doesn't show when the user was edited, so it can't be said whether somebody has since"
            if _is_later(user["updated_at"], target.updated_at):
                return self._since("somebody has edited the user")
        if self._decision.policy_max is not None and _may_be_here(target, user):
            return self._since("perhaps seen after the last day, and no person was asked")
        if target.user_class != UNUSED:
            return None
        if user["paid_seat"] is False:
            return self._since("no paid seat any more")
        return self._since("seen since") if _is_later(user["accessed_at"], target.accessed_at) else None

    def _since(self, what: str) -> str:
        when = "plan" if self._planned else "evidence" if self._decision.action == "reactivate" else "decision"
        return f"changed since {when}: {what}"

    def _hold(self, target: Target, facts: Mapping[str, Any], hindrance: str) -> None:
        """Leave a user as it is; where another try may find nothing against it any more, let there be one."""
        if self._unread and hindrance == self._last_holders.get(target.key):
            unread = ", ".join(self._unread)
            self._write(facts, FAILED, f"{hindrance}, as far as is known: user {unread} can't be read")
        else:
            self._stop(target, facts, hindrance)

    def _stop(self, target: Target, facts: Mapping[str, Any], reason: str) -> None:
        # Access that stays with somebody who left, or whom somebody named, must be seen by a person.
        may_pass = target.user_class == UNUSED or (
            target.user_class == NAMED and reason.startswith("changed since plan")
        )
        self._write(facts, "skipped" if may_pass else "blocked", reason)

    # ---- the request and what became of it -----------------------------------------------------------

    def _settle(self, target: Target, facts: Mapping[str, Any], user: Mapping[str, Any], history: History) -> None:
        """Note that the user is already as wanted, and whose doing that is."""
        after = (user, OPERATIONS[target.operation].read(user, target.object))
        if history.proof == NONE:
            self._write(facts, "unchanged", "already as wanted", after)
        elif history.proof == ACKNOWLEDGED:
            facts = {**facts, **_request(history), "verified_by": "read"}
            self._write(facts, CHANGED, "Aha! had acknowledged it; a later read shows it", after, proof=PROVEN)
        elif ours := self._ours(target, user, history):
            reason = "an earlier try sent the request, and its answer is not known"
            facts = {**facts, **_columns(ours), "verified_by": "read"}
            self._write(facts, CHANGED_AFTER_CRASH, reason, after, proof=AFTER_CRASH)
        else:
            reason = "it is as wanted, but Aha! doesn't show whether an earlier try of this run did it"
            self._write({**facts, **_request(history)}, FAILED, reason, after, proof=UNANSWERED)

    def _ours(self, target: Target, user: State, history: History) -> Mapping[str, Any] | None:
        """Return the request of an earlier try that has provably made the object what it is, or None."""
        if not OPERATIONS[target.operation].stamps:
            return None
        return next((one for one in history.requests if is_ours(one, user)), None)

    def _send(self, target: Target, facts: Mapping[str, Any], look: Look) -> None:
        clock, config = self._client.clock, self._client.config
        if self._journal.is_overtaken():
            raise _OvertakenError(
                "A later try of this task has begun, so this one stopped: nothing more was sent by it. What it had "
                "sent is in the evidence."
            )
        lands_by = look.latest(clock.monotonic(), longest_call(config))
        sent = self._journal.intent(target.key, {**facts, "lands_by": lands_by})
        sent["sent_at"] = timestamp()
        receipt: dict[str, Any] = {}
        try:
            operation = OPERATIONS[target.operation]
            answer = operation.send(self._client, target.user_id, target.object, target.changes, receipt)
            compared = operation.compare(target.changes, answer)
        except AhaCancelledError:
            raise
        except AhaError as error:
            # A refusal says nothing of an earlier attempt that no answer came to.
            proof = UNANSWERED if receipt.get("unanswered") else NONE
            self._fail({**sent, "lands_by": look.latest(clock.monotonic())}, error, proof=proof)
        except Exception as error:  # noqa: BLE001 (the request was sent, whatever came of it)
            self._write(sent, FAILED, _unexpected(target, error), proof=UNANSWERED)
        else:
            answered = {name: receipt.get(name) for name in ("http_status", "request_id")}
            self._believe(target, {**sent, **answered}, answer, compared, look)

    def _believe(
        self,
        target: Target,
        facts: Mapping[str, Any],
        answer: State,
        compared: Compared,
        look: Look,
    ) -> None:
        """Success is what the answer shows, not its status."""
        if compared.done:
            self._write({**facts, "verified_by": "answer"}, CHANGED, "", (answer, answer), proof=PROVEN)
            return
        left = [f"shows {_listed(compared.wrong)} otherwise"] if compared.wrong else []
        hidden = [f"doesn't show {_listed(compared.hidden)}"] if compared.hidden else []
        reason = f"Aha! answered {facts['http_status']}, but {' and '.join(left + hidden)}"
        event = self._write(facts, UNVERIFIED, reason, (answer, answer), proof=ACKNOWLEDGED)
        # What no read shows, a name for one, needs no further one.
        readable = OPERATIONS[target.operation].read(look.user, target.object)
        if not (compared.wrong | compared.hidden).isdisjoint(readable):
            shown = {name: answer[name] for name in target.changes if name not in compared.wrong | compared.hidden}
            self._acknowledged[target.key] = _Acknowledged(target, event, shown)

    def _reread(self, one: _Acknowledged) -> None:
        """Look once more whether what Aha! acknowledged shows."""
        target = one.target
        try:
            user = self._client.get_user(target.user_id)
        except (AhaAuthenticationError, AhaCancelledError):
            raise
        except AhaError:
            return
        operation = OPERATIONS[target.operation]
        now = operation.read(user, target.object)
        one.event["after_json"] = _shown(user, {**now, **one.shown}, target.changes)
        if operation.compare(target.changes, now).done:
            del self._acknowledged[target.key]
            reason = "Aha! acknowledged it; a read after that shows it"
            facts = {**one.event, "intent": None, "verified_by": "read"}
            self._write(facts, CHANGED, reason, (user, now), proof=PROVEN)

    def _fail(self, facts: Mapping[str, Any], error: AhaError, *, proof: int = NONE) -> None:
        facts = {**facts, "http_status": error.status, "request_id": error.request_id}
        self._write(facts, FAILED, str(error), proof=proof)
        if isinstance(error, AhaAuthenticationError):
            raise error

    def _write(
        self,
        facts: Mapping[str, Any],
        outcome: str,
        reason: str,
        after: tuple[State, State] | None = None,
        *,
        proof: int = NONE,
    ) -> dict[str, Any]:
        """Note an outcome; ``after`` is the user and the object as they are shown then."""
        answered_at, wanted = timestamp(), json.loads(facts["wanted_json"])
        has_left = outcome in (CHANGED, CHANGED_AFTER_CRASH) and wanted.get("enabled") is False
        event = {
            **facts,
            "answered_at": answered_at,
            "outcome": outcome,
            "proof": proof,
            "reason": "; ".join(filter(None, (reason, facts.get("note")))),
            "after_json": None if after is None else _shown(*after, wanted),
            "hours_to_disable": _hours(facts["left_at"], answered_at) if has_left else None,
        }
        return self._journal.outcome(key_of(str(facts["user_id"]), str(facts["object"])), event)


def _request(history: History) -> dict[str, Any]:
    """Take over from an earlier try what is known of a request of which nobody knows what became."""
    return _columns(history.strongest or {})


def _columns(event: Mapping[str, Any]) -> dict[str, Any]:
    return {name: event[name] for name in _REQUEST if name in event}


def _listed(fields: Iterable[str]) -> str:
    return ", ".join(sorted(fields))


def _unexpected(target: Target, error: Exception) -> str:
    """Say what went wrong with a user where nobody foresaw it, without what the record holds."""
    if isinstance(error, AhaError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    sentence = (
        f"this user's record could not be handled ({type(error).__name__} in {Path(place.filename).name}, line "
        f"{place.lineno}): look at the user in Aha!, and report it"
    )
    log.warning("User %s: %s.", target.user_id, sentence)
    return sentence


def _note(target: Target, user: Mapping[str, Any]) -> str | None:
    left_at = read_moment(target.left_at, needs_offset=True)
    return "seen after the leave date" if left_at and _is_later(user.get("accessed_at"), target.left_at) else None


def _may_be_here(target: Target, user: Mapping[str, Any]) -> bool:
    """Tell whether a user was seen after the last day, or it can't be said."""
    if user["accessed_at"] is None:
        return target.accessed_at is not None
    seen_at, left_at = (
        read_moment(user["accessed_at"], needs_offset=True),
        read_moment(target.left_at, needs_offset=True),
    )
    return seen_at is None or left_at is None or seen_at >= left_at


def _before(target: Target, user: State, history: History) -> str:
    """Return what the object was before this task: a request that Aha! acknowledged may have changed some of it."""
    operation = OPERATIONS[target.operation]
    state = operation.read(user, target.object)
    if history.proof == ACKNOWLEDGED and history.strongest:
        earlier = json.loads(history.strongest.get("before_json") or "{}")
        state = operation.before_all(target.changes, state, earlier)
    return _shown(user, state, target.changes)


def _shown(user: State, state: State, wanted: Iterable[str]) -> str:
    """Return what the evidence keeps of a user, and of the object that is changed."""
    about = {name: user[name] for name in _SHOWN if name in user}
    return json.dumps(
        {**about, **{name: state[name] for name in (*_SHOWN, *wanted) if name in state}}, ensure_ascii=False
    )


def _is_later(text: object, other: object) -> bool:
    """Compare two moments of the API's; one that can't be read counts as later, since that stops a write."""
    if text is None or text == other:
        return False
    moment, other_moment = (read_moment(one, needs_offset=True) for one in (text, other))
    return moment is None or other_moment is None or moment > other_moment


def _hours(left_at: object, answered_at: str) -> float | None:
    moment = read_moment(left_at, needs_offset=True)
    return None if moment is None else round((moment_of(answered_at) - moment) / timedelta(hours=1), 2)
