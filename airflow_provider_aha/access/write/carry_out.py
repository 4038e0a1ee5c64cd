"""Carrying out a decision: each user read again, an intent before the request, an outcome after it."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_aha.access.operations.base import TAKEN
from airflow_provider_aha.access.operations.user_fields import (
    PRIVILEGED,
    access_of,
    differences,
    is_administrator,
    not_shown,
    rights_lost,
    unseen,
)
from airflow_provider_aha.access.plan.plan import NAMED, UNUSED, Decision, Target
from airflow_provider_aha.access.write.guards import Caps, Protection, last_administrators
from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.common.addresses import spelled
from airflow_provider_aha.common.moments import timestamp
from airflow_provider_aha.exceptions import (
    AhaAuthenticationError,
    AhaCancelledError,
    AhaError,
    AhaGuardError,
    AhaNotFoundError,
)
from airflow_provider_aha.record import evidence
from airflow_provider_aha.record.journal import FAILED, UNKNOWN, History, Journal
from airflow_provider_aha.record.register import (
    CAP_DAYS,
    changed_within,
    claim_path,
    passed_by_policy,
    refuse_beside_another,
    register,
    sign_off,
    under_way,
)
from airflow_provider_aha.record.run import START, Run, RunFolder
from airflow_provider_aha.store.store import create_once, read_record, to_json
from airflow_provider_aha.version import package_version

log = logging.getLogger(__name__)

_SHOWN = (*PRIVILEGED, "paid_seat", "accessed_at", "updated_at", "name")
# Columns of the evidence that tell of a request; a try that finds out what became of it carries them on.
_REQUEST = ("event_id", "intent_at", "sent_at", "before_json", "http_status", "request_id")


@dataclass(frozen=True)
class _Words:
    done: str
    after_crash: str


_ACTIONS = {
    "deactivate": _Words("deactivated", "disabled_after_crash"),
    "reactivate": _Words("reactivated", "enabled_after_crash"),
    "update": _Words("updated", "updated"),
}


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
    """Change the users of a decision, as far as the guards let it, and write the evidence.

    A try that follows a crashed or failed one goes on where that one ended: only ``failed`` users, and those
    that it hadn't reached, are touched.

    :param client: client of the account.
    :param folder: the task's folder.
    :param run: the task instance.
    :param decision: what to do.
    :param caps: how many users may be changed.
    :param protection: who may not be changed.
    :param dry_run: read and judge, but change nothing.
    :param now: the clock; UTC.
    :return: the evidence, one row per user.
    :raises AhaGuardError: when a cap holds the run back; nothing was done.
    :raises AhaError: when another run is writing, the journal can't be written, or the key was refused.
    """
    journal = Journal(folder, run.try_number)
    ids = [target.user_id for target in decision.targets]
    by_policy = decision.policy_max is not None
    entry = None if dry_run else register(folder, now(), ids, decision.access, by_policy=by_policy)
    try:
        if not dry_run:
            refuse_beside_another(folder, now())
        _begin(folder, run, decision, caps, dry_run=dry_run, now=now())
        reserved = under_way(folder, now()) if decision.access == TAKEN else set()
        task = _Task(client, journal, run, decision, protection, dry_run=dry_run)
        task.work_off(journal.histories(), [one for one in decision.administrators if one not in reserved])
    finally:
        found = _compact(folder, journal, entry)
    log.info("%s: %s", decision.action, summary(found))
    return found


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
    return [str(row["user_id"]) for row in found if row["outcome"] in (FAILED, "blocked", UNKNOWN) or _hides(row)]


def _hides(row: Mapping[str, Any]) -> bool:
    """Tell whether an answer left open whether access was changed; a name that isn't shown is nobody's risk."""
    return row["outcome"] == "unverified" and not set(PRIVILEGED) <= json.loads(row["after_json"]).keys()


def _begin(folder: RunFolder, run: Run, decision: Decision, caps: Caps, *, dry_run: bool, now: datetime) -> None:
    """Check the caps once, before the first write of the first try, and hold later tries to the same users."""
    ids = [target.user_id for target in decision.targets]
    start = folder.read(START)
    if start is not None:
        if (start["user_ids"], start["action"], start["dry_run"]) != (ids, decision.action, dry_run):
            raise AhaGuardError(
                f"This task began with other users or as another action ({folder.url(START)}), and a further "
                "try may only finish what the first one began: nothing was done. Start a new DAG run."
            )
        return
    recent: set[str] = set()
    if decision.access is not None:
        recent = changed_within(folder, now, CAP_DAYS, decision.access)
        caps.check(len(ids), len(recent - set(ids)), decision.enabled_users, decision.plan_sha256)
    if decision.policy_max is not None and not dry_run:
        _check_policy(folder, ids, decision.policy_max, now)
    if decision.action == "deactivate" and not dry_run:
        _claim_plan(folder, decision.plan_sha256)
    start = {
        "action": decision.action,
        "dry_run": dry_run,
        "started_at": timestamp(now),
        "dag_id": run.dag_id,
        "run_id": run.run_id,
        "task_id": run.task_id,
        "user_ids": ids,
        "asked": dict(decision.asked),
        "enabled_users": decision.enabled_users,
        "changed_within_seven_days": len(recent),
        "caps": asdict(caps),
        "plan_sha256": decision.plan_sha256,
    }
    if not folder.create(START, start):
        raise AhaError("Another worker began this very task at the same moment: nothing was done by this one.")


def _check_policy(folder: RunFolder, ids: Sequence[str], most: int, now: datetime) -> None:
    """Refuse to take access without a person's yes from more users than policy may within 24 hours."""
    passed = passed_by_policy(folder.fs, folder.account_path, now, besides=folder.path)
    if len(passed | set(ids)) > most:
        raise AhaGuardError(
            f"{len(passed)} users of this account lost access within the last 24 hours without asking anybody; "
            f"with the {len(ids)} of this plan they would be more than {most}: nothing was done. Make a new plan, "
            "which will be asked about."
        )


def _claim_plan(folder: RunFolder, plan_sha256: str | None) -> None:
    """Note that this task carries a plan out, so that no other does."""
    if plan_sha256 is None:
        return
    path, mine = claim_path(folder, plan_sha256), {"folder": folder.path.removeprefix(f"{folder.account_path}/")}
    if not create_once(folder.fs, path, to_json(mine)) and read_record(folder.fs, path) != mine:
        raise AhaGuardError(
            f"This plan was carried out before, by another task ({path} says which): nothing was done. Make a new "
            "plan."
        )


def _compact(folder: RunFolder, journal: Journal, entry: str | None) -> list[dict[str, Any]]:
    """Write the evidence of all tries so far, and sign this one off where it left nothing open."""
    histories = journal.histories()
    found = evidence.rows(histories)
    evidence.write_evidence(folder.fs, f"{folder.path}/{evidence.FILE}", found)
    if entry and not any(history.open_intent for history in histories.values()):
        sign_off(folder, entry)
    return found


class _Task:
    """The users of one try, several at a time."""

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
        self._words = _ACTIONS[decision.action]
        self._last_administrators: dict[str, str] = {}
        self._stopped = False
        wanted = {target.user_id for target in decision.targets}
        self._names = {user_id: name for user_id, _, name in decision.users if user_id in wanted}
        self._planned = decision.action == "deactivate" and decision.plan_sha256 is not None
        self._facts = {
            **decision.facts,
            "account": client.config.account,
            "requested_by": run.requested_by,
            "actor_user_id": protection.key_owner_id,
            "dag_id": run.dag_id,
            "run_id": run.run_id,
            "try_number": run.try_number,
            "provider_version": package_version(),
        }

    def work_off(self, histories: Mapping[str, History], administrators: Sequence[str]) -> None:
        todo = [
            (target, history)
            for target in self._decision.targets
            if not (history := histories.get(target.user_id) or History()).is_final
        ]
        self._last_administrators = self._find_last_administrators([target for target, _ in todo], administrators)
        pool = ThreadPoolExecutor(self._client.config.max_in_flight, thread_name_prefix="aha-user")
        try:
            futures = [pool.submit(self._one, target, history) for target, history in todo]
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            # A refused key, a cancelled task or a journal that can't be written ends the whole try.
            pool.shutdown(wait=True, cancel_futures=True)
        for future in futures:
            if not future.cancelled():
                future.result()

    def _find_last_administrators(self, targets: Sequence[Target], administrators: Sequence[str]) -> dict[str, str]:
        losing: dict[str, set[str]] = {}
        for target in targets:
            if access_of(target.changes) == TAKEN and target.is_administrator is not False:
                try:
                    user = self._client.get_user(target.user_id)
                except AhaNotFoundError:
                    continue
                losing[target.user_id] = rights_lost(user, target.changes)
        return last_administrators(losing, administrators, self._client.get_user)

    def _one(self, target: Target, history: History) -> None:
        if self._stopped:
            return
        try:
            self._judge(target, history)
        except BaseException:
            # Before the pool hears of it, its next user would be on the way.
            self._stopped = True
            raise

    def _judge(self, target: Target, history: History) -> None:
        facts = self._about(target)
        try:
            user = self._client.get_user(target.user_id)
        except AhaCancelledError:
            raise
        except AhaNotFoundError:
            self._stop(target, facts, "Aha! has no such user")
            return
        except AhaError as error:
            self._fail({**facts, **_carried(history)}, error)
            return
        facts |= {"before_json": _shown(user), "note": _note(target, user)}
        if not differences(target.changes, user):
            self._settle(facts, user, history)
        elif (hindrance := self._hindrance(target, user)) is not None:
            self._stop(target, facts, hindrance)
        elif self._dry_run:
            self._write(facts, "dry_run", "a dry run changes nothing")
        else:
            self._send(target, facts)

    def _about(self, target: Target) -> dict[str, Any]:
        return {
            **self._facts,
            "user_id": target.user_id,
            "email_at_decision": target.email,
            "class": target.user_class,
            "rule": target.rule,
            "detail": target.detail,
            "leave_date": target.leave_date,
            "left_at": target.left_at,
        }

    # ---- what stands against it ----------------------------------------------------------------------

    def _hindrance(self, target: Target, user: Mapping[str, Any]) -> str | None:
        """Say why the user is not to be changed, or None."""
        access = access_of(target.changes)
        if access is None:
            return self._changed(target, user)
        needed: tuple[str, ...] = PRIVILEGED
        if target.user_class == UNUSED:
            needed = (*PRIVILEGED, "paid_seat", "accessed_at")
        elif self._decision.policy_max is not None:
            needed = (*PRIVILEGED, "accessed_at")
        if missing := not_shown(user, needed):
            return f"Aha! doesn't show {', '.join(missing)}, so it can't be said whether anything stands against it"
        return (
            self._protection.reason(user, self._known_as(target))
            or self._last_administrators.get(target.user_id)
            or (self._exclusion(target, user) if access == TAKEN else None)
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
        if target.updated_at is not None and _is_later(user.get("updated_at"), target.updated_at):
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

    def _stop(self, target: Target, facts: Mapping[str, Any], reason: str) -> None:
        # Access that stays with somebody who left, or whom somebody named, must be seen by a person.
        may_pass = target.user_class == UNUSED or (
            target.user_class == NAMED and reason.startswith("changed since plan")
        )
        self._write(facts, "skipped" if may_pass else "blocked", reason)

    # ---- the request and what became of it -----------------------------------------------------------

    def _settle(self, facts: Mapping[str, Any], user: Mapping[str, Any], history: History) -> None:
        """Note that the user is already as wanted, and whose doing that may be."""
        if history.unsettled is None:
            self._write(facts, "unchanged", "already as wanted", user)
            return
        reason = "an earlier try sent the request, and its answer is not known"
        carried = {name: value for name, value in _carried(history).items() if name != "unsettled"}
        self._write({**facts, **carried, "verified_by": "read"}, self._words.after_crash, reason, user)

    def _send(self, target: Target, facts: Mapping[str, Any]) -> None:
        sent = self._journal.intent(target.user_id, facts)
        sent["sent_at"] = timestamp()
        receipt: dict[str, Any] = {}
        try:
            answer = self._client.update_user(target.user_id, target.changes, receipt)
        except AhaCancelledError:
            raise
        except AhaError as error:
            self._look_after(target, sent, error)
        else:
            self._believe(target, {**sent, **receipt}, answer)

    def _believe(self, target: Target, facts: dict[str, Any], user: Mapping[str, Any]) -> None:
        """Success is what the answer shows, not its status."""
        hidden = unseen(target.changes, user)
        if wrong := differences(target.changes, user) - hidden:
            # A null is no answer: the next try has to find out whether it was this request that changed the user.
            facts["unsettled"] = bool(not_shown(user, wrong))
            self._write(facts, FAILED, f"Aha! answered, but left {', '.join(sorted(wrong))} as it was", user)
        elif hidden:
            self._write(facts, "unverified", f"not shown by the answer: {', '.join(sorted(hidden))}", user)
        else:
            self._write({**facts, "verified_by": "answer"}, self._words.done, "", user)

    def _look_after(self, target: Target, facts: dict[str, Any], error: AhaError) -> None:
        """After a request without a usable answer, look whether it arrived all the same."""
        # A refusal says nothing of an earlier attempt whose answer was lost.
        if error.attempts == 1 and error.status not in (None, 200) and error.status < 500:
            self._fail(facts, error)
            return
        facts["unsettled"] = True
        try:
            user = self._client.get_user(target.user_id)
        except AhaError:
            self._fail(facts, error)
            return
        if differences(target.changes, user):
            # Reads may be stale: another try looks again.
            self._fail(facts, error)
            return
        facts |= {"http_status": error.status, "request_id": error.request_id, "unsettled": False}
        reason = "the answer was lost; a read shows the user as wanted"
        self._write({**facts, "verified_by": "read"}, self._words.after_crash, reason, user)

    def _fail(self, facts: Mapping[str, Any], error: AhaError) -> None:
        status = error.status
        if facts.get("unsettled") and status is not None and 200 < status < 500:
            # It is that of a later attempt, or of a read: the undo must not take it for a refusal.
            status = None
        self._write({**facts, "http_status": status, "request_id": error.request_id}, FAILED, str(error))
        if isinstance(error, AhaAuthenticationError):
            raise error

    def _write(
        self, facts: Mapping[str, Any], outcome: str, reason: str, after: Mapping[str, Any] | None = None
    ) -> None:
        answered_at = timestamp()
        is_disabled = outcome in ("deactivated", "disabled_after_crash")
        event = {
            **facts,
            "answered_at": answered_at,
            "outcome": outcome,
            "reason": "; ".join(filter(None, (reason, facts.get("note")))),
            "after_json": _shown(after) if after is not None else None,
            "hours_to_disable": _hours(facts["left_at"], answered_at) if is_disabled else None,
        }
        self._journal.outcome(str(facts["user_id"]), event)


def _carried(history: History) -> dict[str, Any]:
    """Take over from an earlier try what is known of a request of which nobody knows whether it arrived."""
    if (event := history.unsettled) is None:
        return {}
    return {**{name: event[name] for name in _REQUEST if name in event}, "unsettled": True}


def _note(target: Target, user: Mapping[str, Any]) -> str | None:
    left_at = _moment(target.left_at)
    return "seen after the leave date" if left_at and _is_later(user.get("accessed_at"), target.left_at) else None


def _may_be_here(target: Target, user: Mapping[str, Any]) -> bool:
    """Tell whether a user was seen after the last day, or it can't be said."""
    if user["accessed_at"] is None:
        return target.accessed_at is not None
    seen_at, left_at = _moment(user["accessed_at"]), _moment(target.left_at)
    return seen_at is None or left_at is None or seen_at >= left_at


def _shown(user: Mapping[str, Any]) -> str:
    return json.dumps({name: user[name] for name in _SHOWN if name in user}, ensure_ascii=False)


def _is_later(text: object, other: object) -> bool:
    """Compare two moments of the API's; one that can't be read counts as later, since that stops a write."""
    if text is None or text == other:
        return False
    moment, other_moment = _moment(text), _moment(other)
    return moment is None or other_moment is None or moment > other_moment


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _hours(left_at: object, answered_at: str) -> float | None:
    moment = _moment(left_at)
    if moment is None:
        return None
    return round((datetime.fromisoformat(answered_at) - moment) / timedelta(hours=1), 2)
