"""Making a plan: the snapshot is read, every enabled user judged, and the result kept with all it stands on."""

from __future__ import annotations

import io
import json
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airflow_provider_aha.access.decide.fit import Budget, postponed
from airflow_provider_aha.access.decide.history import (
    KNOWN_FILE,
    Carried,
    EnabledAgain,
    carried,
    enabled_again,
    index_plan,
    known_table,
    last_plan,
)
from airflow_provider_aha.access.decide.population import Population, read_population
from airflow_provider_aha.access.decide.rules import (
    FORM,
    LISTED,
    NEWS_FOR_DAYS,
    RECORD,
    RULES,
    TO_DISABLE,
    Circumstances,
    NamedRule,
    Policy,
    Recorded,
    Subject,
    Verdict,
    judge,
    seen_after_leave,
)
from airflow_provider_aha.access.operations.base import GIVEN, TAKEN
from airflow_provider_aha.access.operations.registry import OPERATIONS, USER_FIELDS, WORKSPACE_ROLE
from airflow_provider_aha.access.operations.user_fields import (
    ACCOUNT,
    ADMINISTRATOR_ROLES,
    shown_by_snapshot,
)
from airflow_provider_aha.access.operations.workspace_role import NO_ROLE, OWNER, workspace_of
from airflow_provider_aha.access.plan.approval import FEW
from airflow_provider_aha.access.plan.caps import Caps
from airflow_provider_aha.access.plan.changed import changes
from airflow_provider_aha.access.plan.plan import (
    AS_WANTED,
    BLOCKED,
    CLASSES,
    DEACTIVATE,
    DECISIONS,
    FILE,
    GONE,
    LEFT,
    NAMED,
    NO_ROOM,
    NOT_OURS,
    PLAN_VERSION,
    PLANNED,
    POSTPONED,
    SPARED,
    UNUSED,
    Plan,
    PlanRow,
    action_of,
    load_plan,
)
from airflow_provider_aha.access.plan.words import document
from airflow_provider_aha.common.addresses import fold, spelled
from airflow_provider_aha.common.arrow import json_array, literal, milliseconds
from airflow_provider_aha.common.moments import milliseconds_text, read_moment
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaRosterError
from airflow_provider_aha.lists.exclusions import Exclusions, load_exclusions
from airflow_provider_aha.lists.matching import SERVICE_ACCOUNT_PATTERNS, Who, protects_nobody, unmatched
from airflow_provider_aha.lists.roster import Known, Roster, Rosters
from airflow_provider_aha.record.register import CAP_DAYS, changed_within, passed_by_policy
from airflow_provider_aha.record.run import Run, RunFolder, run_path
from airflow_provider_aha.store.store import Store, to_json
from airflow_provider_aha.version import package_version

log = logging.getLogger(__name__)

# Why a name means nobody, or nobody knows whom.
_NOBODY = ("unknown", "ambiguous", "look_alike")
# Python objects are made for so many users at a time.
_BATCH = 10_000
_RIGHTS = ("is_administrator", "administers_account", "administers_billing", "administers_configuration")
_SHOWN_COLUMNS = ("id", "email", "is_enabled", *_RIGHTS)
_FALSE = literal(False, pa.bool_())
_UNKNOWN = literal("unknown", pa.string())
# So many people may have left in one plan, however few users the roster covers.
_LEFT_AT_LEAST = 5
# So many ids are named in a note; the plan has all.
_IDS = 20


@dataclass(frozen=True)
class Limits:
    """How much a plan may take by the roster; only DAG code changes these.

    :param policy_max: so many users of the account may pass without asking within 24 hours.
    :param max_left_percent: of the enabled users that the roster covers, so many percent may have left in one plan.
    """

    policy_max: int = FEW
    max_left_percent: float = 10.0


@dataclass(frozen=True)
class Request:
    """What a plan is to be made of.

    :param account: the account.
    :param dag_id: the DAG that asks.
    :param run_id: its run.
    :param policy: the rules.
    :param as_given: the policy as it was given, for the record.
    :param max_snapshot_age: an older snapshot is refused.
    :param reason: why, in the words of who asked.
    :param ticket: the ticket that asked for it.
    :param asked_by: who asked for it, where that is another than who started the run.
    :param roster: reads the rosters; None when there is none.
    :param exclusions: the exclusion files.
    :param caps: the caps that hold when the plan is carried out; None: they aren't looked at.
    :param fit_to_caps: whether the plan is made to fit them.
    :param limits: how much may be taken by the roster.
    :param approvers: who may approve by the Variable ``aha_guards``, for the record.
    """

    account: str
    dag_id: str
    run_id: str
    policy: Policy
    as_given: Mapping[str, Any]
    max_snapshot_age: timedelta
    reason: str | None = None
    ticket: str | None = None
    asked_by: str | None = None
    roster: Callable[[], Rosters] | None = None
    exclusions: Sequence[Store] = ()
    caps: Caps | None = None
    fit_to_caps: bool = True
    limits: Limits = field(default_factory=Limits)
    approvers: Sequence[str] = ()


@dataclass(frozen=True)
class Draft:
    """A plan that was made, but isn't written yet.

    :param decisions: one row per enabled user, as :data:`airflow_provider_aha.access.plan.plan.DECISIONS`.
    :param rows: users to act on.
    :param header: what is known of the header.
    :param known: what the loads of each roster so far say about the addresses of the account's users.
    """

    decisions: pa.Table = field(repr=False)
    rows: tuple[PlanRow, ...] = field(repr=False)
    header: Mapping[str, Any] = field(repr=False)
    known: Mapping[str, Mapping[str, Known]] = field(default_factory=dict, repr=False)


def make_plan(location: Store, request: Request, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Plan:
    """Make a plan from the newest snapshot, or return the one that this run has made already.

    :param location: the base path.
    :param request: what it is to be made of.
    :param now: the clock; UTC.
    :return: the plan, as it was written and read again.
    :raises AhaConfigurationError: when the run has a plan of another policy, or an argument can't be right.
    :raises AhaSnapshotError: when snapshot or roster can't be trusted enough to take access away.
    :raises AhaStorageError: when something can't be read or written.
    """
    folder = run_path(request.account, request.dag_id, request.run_id)
    name = f"{folder}/{FILE}"
    plan = _written_before(location.within(name), request)
    if plan is None:
        plan = _write(location, folder, request, now)
    location.create(f"{folder}/plan.md", document(plan).encode())
    index_plan(location, request.account, plan, name)
    return plan


def _written_before(place: Store, request: Request) -> Plan | None:
    if place.read() is None:
        return None
    plan = load_plan(place)
    if plan.header["policy"] != json.loads(to_json(request.as_given)):
        raise AhaConfigurationError(
            f"This run has a plan by other rules already ({place.url}), and a plan is never replaced: start a "
            "new DAG run, and give each plan of an account a DAG of its own."
        )
    log.info("This run has made its plan already, which stays as it is: %s", place.url)
    return plan


def _write(location: Store, folder: str, request: Request, now: Callable[[], datetime]) -> Plan:
    moment = now()
    policy = request.policy
    unused = policy.of_class(UNUSED)
    # First what people keep, so that a wrong file is told before a large one is read.
    exclusions = load_exclusions(*request.exclusions) if request.exclusions else None
    if exclusions:
        exclusions.check(moment.date())
    roster = request.roster() if request.roster else None
    population = read_population(
        location, request.account, reads=policy.reads, max_age=request.max_snapshot_age, now=moment
    )
    as_of = population.synced_at
    before = carried(
        location,
        request.account,
        as_of=as_of,
        unused_rules=[rule.name for rule in unused],
        rosters=[one.spec.name for one in roster.each] if roster else [],
    )
    if before.guards_were_set and not request.as_given.get("guards_set"):
        # Airflow takes a secrets backend that fails for one that doesn't have the Variable.
        raise AhaConfigurationError(
            "The Variable aha_guards was set when the last plan was made, and isn't found now: it was deleted, or "
            "Airflow can't read it. No plan was made. If nobody is to be protected any more, set it to {}."
        )
    for one in roster.each if roster else ():
        one.check(before.loads.get(one.spec.name), moment)
    days = [max(rule.min_age_days, rule.grace_days) for rule in unused]
    days += [NEWS_FOR_DAYS + 2] if roster else []
    again = enabled_again(location, request.account, as_of=as_of, days=max(days)) if days else EnabledAgain()
    draft = build_plan(
        population,
        policy,
        roster=roster,
        exclusions=exclusions,
        before=before,
        again=again,
        budget=_budget(location, request, before, moment),
        limits=request.limits,
        passed=passed_by_policy(_folder(location, request), moment) if roster else (),
    )

    place = location.within(folder)
    inputs = dict(population.files())
    for number, one in enumerate(roster.each if roster else (), 1):
        keys = {key for known in draft.known[one.spec.name].values() for key in known.keys}
        inputs[_numbered("input-roster", number, "csv")] = one.kept(_addresses_of(population), keys)
    for number, file in enumerate(exclusions.files if exclusions else (), 1):
        inputs[_numbered("input-exclusions", number, file.suffix)] = file.body
    files = dict(place.keep(name, body) for name, body in inputs.items())
    decisions = place.keep("plan.parquet", _parquet(draft.decisions))
    known = place.keep(KNOWN_FILE, _parquet(known_table(draft.known))) if roster else None
    settings = _settings(request, roster, exclusions)
    content = {
        "plan_version": PLAN_VERSION,
        "account": request.account,
        "sandbox": bool(population.manifest.get("sandbox")),
        "created_at": milliseconds_text(moment),
        "as_of": milliseconds_text(as_of),
        "dag_id": request.dag_id,
        "run_id": request.run_id,
        "provider_version": package_version(),
        "snapshot": {
            "day": population.manifest["snapshot"],
            "synced_at": milliseconds_text(as_of),
            "sha256": population.sha256,
        },
        "policy": request.as_given,
        "settings": settings,
        "changed": _changed(location, request, as_of, settings),
        "reason": request.reason,
        "ticket": request.ticket,
        "asked_by": request.asked_by,
        **draft.header,
        # Of several, one after the other.
        "roster_sha256": " ".join(one.sha256 for one in roster.each) if roster else None,
        "exclusions_sha256": exclusions and exclusions.sha256,
        "decisions": decisions[0],
        "roster_known": known and known[0],
        "files": {**files, **dict(filter(None, (decisions, known)))},
        "rows": [row.to_json() for row in draft.rows],
    }
    if not place.create(FILE, to_json(content)):
        raise AhaConfigurationError(
            f"Another task of this run wrote {place.url_of(FILE)} meanwhile: one plan per run and account."
        )
    return load_plan(place.within(FILE))


def _settings(request: Request, roster: Rosters | None, exclusions: Exclusions | None) -> dict[str, Any]:
    """Return what decides who is planned, and who may approve it, beside the policy."""
    return {
        "approvers": list(request.approvers),
        "exclusion_rows": exclusions.said() if exclusions else [],
        "columns": {one.spec.name: list(one.columns) for one in roster.each} if roster else {},
    }


def _changed(
    location: Store, request: Request, as_of: datetime, settings: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Say what has changed since this DAG's last plan; None where there was none, or nothing has."""
    last = last_plan(location, request.account, request.dag_id, as_of)
    if last is None or "settings" not in last:
        return None
    now = json.loads(to_json({**request.as_given, **settings}))
    found = changes({**last["policy"], **last["settings"]}, now)
    return {"since": last["created_at"], "settings": found} if found else None


def _folder(location: Store, request: Request) -> RunFolder:
    """Return a folder of a task that writes nothing, by which others are counted."""
    return RunFolder(location, request.account, Run(request.dag_id, request.run_id, "plan", 1, ""))


def _numbered(name: str, number: int, suffix: str) -> str:
    return f"{name}{f'-{number}' if number > 1 else ''}.{suffix}"


def _budget(location: Store, request: Request, before: Carried, now: datetime) -> Budget | None:
    """Return how many users the plan may have; None where no cap counts them."""
    access = _access(request.policy)
    if request.caps is None or access is None:
        return None
    folder = _folder(location, request)
    recent, left = (changed_within(folder, now, CAP_DAYS, access, left=left) for left in (False, True))
    return Budget(request.caps, recent, left, before.postponed, request.fit_to_caps)


def _access(policy: Policy) -> str | None:
    """Tell whether a plan may take access; what an undo gives back may take some, such as another email."""
    named: list[NamedRule] = policy.of_class(NAMED)
    if not named:
        return TAKEN
    # What a role is now decides whether another one takes or gives; until that is known, it counts as taken.
    found = {
        OPERATIONS[rule.operation].access(wanted, {})
        for rule in named
        for wanted in (rule.to, *map(rule.wanted, rule.ids))
        if wanted
    }
    return TAKEN if TAKEN in found else GIVEN if GIVEN in found else None


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, table.schema, compression="zstd") as writer:
        writer.write_table(table)
    return buffer.getvalue()


def build_plan(
    population: Population,
    policy: Policy,
    *,
    roster: Rosters | None = None,
    exclusions: Exclusions | None = None,
    before: Carried | None = None,
    again: EnabledAgain | None = None,
    limits: Limits | None = None,
    passed: Collection[str] = (),
    budget: Budget | None = None,
) -> Draft:
    """Judge every enabled user.

    :param population: the snapshot.
    :param policy: the rules.
    :param roster: the rosters, for rules of class ``left``.
    :param exclusions: the exclusion file.
    :param before: what earlier plans carry on.
    :param again: who was enabled again lately.
    :param limits: how much may be taken by the roster.
    :param passed: ids of users whom policy let pass within the last 24 hours.
    :param budget: how many users the plan may have; None: as many as the rules say.
    :return: decisions, rows and the header's counts; nothing is written.
    :raises AhaSnapshotError: when the roster knows too few of the users, or too many of them have left.
    """
    again, limits, before = again or EnabledAgain(), limits or Limits(), before or Carried()
    judging = _Judging(population, policy, roster, exclusions, before, again, limits)
    enabled, is_administrator = judging.enabled, _any_right(judging.enabled)
    owners = _sole_owners(population.roles, enabled)
    judged = list(judging)
    _ask_about_many(judged, limits, passed)
    verdicts = [verdict for _, _, verdict in judged]
    planned = [one for one in judged if one[2].spared_by is None]
    for subject, _, verdict in judged:
        if verdict.spared_by is not None:
            judging.names.note_spared(subject.user_id, verdict)
    facts = _facts(judging.users, population.roles, owners, [subject.user_id for subject, _, _ in planned])
    rows = [
        _plan_row(subject, email, each, judging.names.wanted(subject.user_id, each), facts)
        for subject, email, verdict in planned
        for each in (verdict, *verdict.also)
    ]
    later = postponed(rows, budget, enabled.num_rows) if budget else frozenset()
    rows = [row for row in rows if row.user_id not in later]
    judging.names.note_postponed(later, nobody_planned=not rows)
    decisions = _decisions(judging.users, judging.is_administrator, verdicts, owners, later)
    own = (entry for entry in policy.protect_patterns.entries if entry.text not in SERVICE_ACCOUNT_PATTERNS)
    listed = [*policy.protected.entries, *own]
    listed += exclusions.holding(population.synced_at.date()).entries if exclusions else ()
    notes = [
        *population.notes,
        *_notes(judging.users.column("id").to_pylist(), verdicts, judging.circumstances, again),
    ]
    return Draft(
        decisions,
        tuple(rows),
        {
            "action": _action(policy),
            "counts": {
                **_counts(population, enabled, is_administrator, verdicts, rows),
                "postponed": len(later),
            },
            "caps": budget and budget.header(rows, enabled.num_rows),
            "enabled_users": enabled.num_rows,
            "policy_max": limits.policy_max,
            "administrators": _administrators(enabled, is_administrator),
            "workspace_owners": _owners(population.roles, enabled, rows),
            "rosters": judging.roster_headers,
            "blocked": [
                {"user_id": user.user_id, "reason": str(verdict.spared_by)}
                for user, _, verdict in judged
                if _is_blocked(verdict)
            ],
            "unresolved": judging.names.unresolved(),
            "notes": notes,
            "protects_nobody": protects_nobody(unmatched(listed, _everybody(population.users))),
        },
        _remembered(population, roster, before),
    )


def _ask_about_many(
    judged: Sequence[tuple[Subject, str | None, Verdict]], limits: Limits, passed: Collection[str]
) -> None:
    """Let none pass where more would than policy may let pass within 24 hours."""
    passing = {user.user_id: verdict for user, _, verdict in judged if _passes(verdict)}
    if len(passing.keys() | set(passed)) > limits.policy_max:
        for verdict in passing.values():
            verdict.asked_because = f"more than {limits.policy_max} users would pass within 24 hours"


def _passes(verdict: Verdict) -> bool:
    return verdict.spared_by is None and verdict.asked_because is None


def _remembered(population: Population, roster: Rosters | None, before: Carried) -> dict[str, dict[str, Known]]:
    """Return what is known of the addresses of all users, disabled ones included, after these loads."""
    if roster is None:
        return {}
    addresses = _addresses_of(population)
    return {
        one.spec.name: one.remember(addresses, before.known.get(one.spec.name, {}), population.synced_at)
        for one in roster.each
    }


def _addresses_of(population: Population) -> set[str]:
    return {spelled(email) for email in population.users.column("email").to_pylist() if email}


def judge_users(
    population: Population,
    policy: Policy,
    *,
    roster: Rosters | None = None,
    exclusions: Exclusions | None = None,
    before: Carried | None = None,
) -> Iterator[Verdict]:
    """Judge every enabled user as a plan does, one after the other, for whoever needs no plan.

    :param population: the snapshot; its roles aren't read.
    :param policy: the rules.
    :param roster: the rosters, for rules of class ``left``.
    :param exclusions: the exclusion file.
    :param before: what earlier plans carry on.
    :return: an iterator, in the order of the users.
    :raises AhaSnapshotError: when the roster knows too few of the users.
    """
    # Who only wants to see them may see any number of people who left.
    limits = Limits(max_left_percent=100)
    judging = _Judging(population, policy, roster, exclusions, before or Carried(), EnabledAgain(), limits)
    return (verdict for _, _, verdict in judging)


class _Judging:
    """Who is judged: enabled users, and named ones; iterating gives subject, email as it is written, and verdict.

    A disabled user is judged where a rule wants something else of it than to be disabled.
    """

    def __init__(
        self,
        population: Population,
        policy: Policy,
        roster: Rosters | None,
        exclusions: Exclusions | None,
        before: Carried,
        again: EnabledAgain,
        limits: Limits,
    ) -> None:
        enabled, users = population.users.column("is_enabled"), population.users
        # A copy of a large table only where it is another one.
        self.enabled = users if pc.all(enabled, skip_nulls=False).as_py() else users.filter(enabled)
        self.names = _Names(users, policy, population.roles)
        more = self.names.disabled
        self.users = users.filter(pc.or_(enabled, _is_among(users, more))) if more else self.enabled
        self.is_administrator = _any_right(self.users)
        self.circumstances = Circumstances(
            as_of=population.synced_at,
            policy=policy,
            key_owner_id=str(population.manifest.get("key_owner_id") or ""),
            exclusions=exclusions,
            roster=roster,
            before=self.names.states,
            named_by=self.names.named_by,
            settled=self.names.settled,
            enabled_again=again.moments,
            enabled_unknown=again.unread,
            flagged_since=before.flagged_since,
            known=before.known,
        )
        self._limits = limits
        self._covered = 0
        self.roster_headers = self._match(roster, before) if roster else []

    def __iter__(self) -> Iterator[tuple[Subject, str | None, Verdict]]:
        left = 0
        for subject, email in _subjects(self.users, self.is_administrator):
            verdict = judge(subject, self.circumstances)
            left += verdict.spared_by is None and verdict.user_class == LEFT
            yield subject, email, verdict
        if left > max(_LEFT_AT_LEAST, self._covered * self._limits.max_left_percent / 100):
            raise AhaRosterError(
                f"By the roster, {left} of the {self._covered} enabled users that it covers have left; more than "
                f"{self._limits.max_left_percent:g} %, and more than {_LEFT_AT_LEAST}, need a second look: perhaps "
                "a status was renamed, or a column has moved. No plan was made from it. If so many have really "
                "left, raise max_left_percent in the DAG's code for this once."
            )

    def _match(self, rosters: Rosters, before: Carried) -> list[dict[str, Any]]:
        """Check that the rosters are about these users, and return what the header says of them."""
        covered = matched = 0
        for _, email, folded in _addresses(self.enabled):
            if rosters.covers(folded):
                address = spelled(email)
                covered += 1
                matched += rosters.knows(address) or rosters.resembles(address)
        self._covered = covered
        rosters.check_matches(covered, matched, [before.loads.get(one.spec.name) for one in rosters.each])
        return [_roster_header(roster, covered, matched) for roster in rosters.each]


def _roster_header(roster: Roster, covered: int, matched: int) -> dict[str, Any]:
    return {
        "name": roster.spec.name,
        "loaded_at": milliseconds_text(roster.loaded_at),
        "sha256": roster.sha256,
        "rows": roster.rows,
        "covered": covered,
        "matched": matched,
    }


def _any_right(users: pa.Table) -> Any:
    found = pc.fill_null(users.column(_RIGHTS[0]), _FALSE)
    for name in _RIGHTS[1:]:
        found = pc.or_(found, pc.fill_null(users.column(name), _FALSE))
    return found


def _subjects(users: pa.Table, is_administrator: Any) -> Iterator[tuple[Subject, str | None]]:
    """Yield each user as the rules see it, and the email as Aha! writes it."""
    for start in range(0, users.num_rows, _BATCH):
        batch = users.slice(start, _BATCH)
        ids, written, names, days, paid = (
            batch.column(name).to_pylist() for name in ("id", "email", "name", "days_inactive", "is_paid_seat")
        )
        created, accessed = (milliseconds(batch.column(name)) for name in ("created_at", "accessed_at"))
        flags = is_administrator.slice(start, _BATCH).to_pylist()
        unknown = pc.equal(batch.column("activity_status"), _UNKNOWN).to_pylist()
        addresses = (map(fold, written), map(spelled, written))
        subjects = map(Subject, ids, *addresses, names, created, accessed, days, paid, flags, unknown)
        yield from zip(subjects, written, strict=True)


def _addresses(users: pa.Table) -> Iterator[tuple[str, str | None, str]]:
    """Yield the id of each user, and the email as Aha! writes it and as it is compared."""
    for start in range(0, users.num_rows, _BATCH):
        batch = users.slice(start, _BATCH)
        for user_id, email in zip(*(batch.column(name).to_pylist() for name in ("id", "email")), strict=True):
            yield user_id, email, fold(email)


def _everybody(users: pa.Table) -> Iterator[Who]:
    for start in range(0, users.num_rows, _BATCH):
        batch = users.slice(start, _BATCH)
        yield from zip(*(batch.column(name).to_pylist() for name in ("id", "email", "name")), strict=True)


class _Names:
    """Who is meant by the emails and ids of rules of class ``named``, and what stands against changing them."""

    def __init__(self, users: pa.Table, policy: Policy, roles: pa.Table | None) -> None:
        self._rules: list[NamedRule] = policy.of_class(NAMED)
        self._roles = _Roles(roles, self._rules)
        self._by_email: dict[str, list[tuple[str, str]]] = {}
        self._shown: dict[str, dict[str, Any]] = {}
        self._spared: dict[str, str] = {}
        self._nobody_planned = False
        if self._rules:
            self._find(users)
        self.settled = {
            (rule.name, user_id): reason
            for rule in self._rules
            for user_id in self._ids(rule)
            if user_id in self._shown and (reason := self._settled(rule, user_id)) is not None
        }

    def _find(self, users: pa.Table) -> None:
        wanted = {fold(email) for rule in self._rules for email in rule.emails}
        wanted |= {fold(rule.to["email"]) for rule in self._rules if "email" in rule.to}
        ids, emails = (users.column(name).to_pylist() for name in ("id", "email"))
        for user_id, email in zip(ids, emails, strict=True) if wanted else ():
            if (folded := fold(email)) in wanted:
                self._by_email.setdefault(folded, []).append((user_id, spelled(email)))
        named = {user_id for rule in self._rules for user_id in self._ids(rule)}
        found = users.filter(_is_among(users, named))
        moments = milliseconds(found.column("updated_at"))
        rows = found.select([*_SHOWN_COLUMNS]).to_pylist()
        self._shown = {row["id"]: {**row, "updated_at": at} for row, at in zip(rows, moments, strict=True)}

    def _ids(self, rule: NamedRule) -> list[str]:
        """Return the ids of a rule, those included that are meant by an email."""
        emails = (self._by_email.get(fold(email), []) for email in rule.emails)
        return [*rule.ids, *(found[0][0] for found in emails if len(found) == 1)]

    @property
    def states(self) -> dict[tuple[str, str], Mapping[str, Any]]:
        """What of named users a change of a role depends on: the role that they have, by rule and id."""
        return {
            (rule.name, user_id): state
            for rule in self._rules
            if rule.operation == WORKSPACE_ROLE
            for user_id in self._ids(rule)
            if (state := self._roles.state(rule, user_id)) is not None
        }

    @property
    def named_by(self) -> dict[str, str]:
        named = {fold(email) for rule in self._rules for email in rule.emails}
        return {
            user_id: email
            for folded, found in self._by_email.items()
            if folded in named and len(found) == 1
            for user_id, email in found
        }

    @property
    def disabled(self) -> set[str]:
        """Ids of users who are disabled and are to be something else than that."""
        asked = {user_id for rule in self._rules if rule.to != TO_DISABLE for user_id in self._ids(rule)}
        return {user_id for user_id in asked & self._shown.keys() if not self._shown[user_id]["is_enabled"]}

    def _settled(self, rule: NamedRule, user_id: str) -> str | None:
        """Say why a user needs no change, or can't be changed, or None."""
        row = self._shown[user_id]
        user = shown_by_snapshot(row)
        known = rule.known.get(user_id)
        if known is not None and known.not_ours:
            return NOT_OURS
        if rule.operation == WORKSPACE_ROLE:
            return self._roles.settled(rule, user_id, user)
        if OPERATIONS[rule.operation].compare(rule.wanted(user_id), user).done:
            return AS_WANTED
        if known is not None and _has_changed(known, user, row["updated_at"]):
            return "changed_since"
        holders = self._by_email.get(fold(rule.to.get("email")), [])
        return "email_taken" if "email" in rule.to and any(one != user_id for one, _ in holders) else None

    def wanted(self, user_id: str, verdict: Verdict) -> _Wanted:
        """Return what a planned user is to be, what it is, and what the rule knows of it."""
        rule = next((one for one in self._rules if one.name == verdict.rule), None)
        if rule is None:
            return _Wanted(TO_DISABLE, {"enabled": True}, None)
        if rule.operation == WORKSPACE_ROLE:
            return _Wanted(
                rule.wanted(user_id),
                self._roles.state(rule, user_id) or {},
                rule.known.get(user_id),
                rule.operation,
                rule.object,
                self._roles.name(rule),
            )
        user = shown_by_snapshot(self._shown[user_id])
        to = rule.wanted(user_id)
        names = [*to, *(["administrator_roles"] if "administrator" in to else [])]
        return _Wanted(to, {name: user[name] for name in names if name in user}, rule.known.get(user_id))

    def note_spared(self, user_id: str, verdict: Verdict) -> None:
        """Remember what speaks for a user who was named."""
        if user_id in self._shown:
            self._spared[user_id] = str(verdict.spared_by)

    def note_postponed(self, later: frozenset[str], *, nobody_planned: bool) -> None:
        """Remember for whom the caps leave no room; where they leave none at all, a person must hear of it."""
        self._spared |= dict.fromkeys(later & self._shown.keys(), NO_ROOM)
        self._nobody_planned = nobody_planned

    def unresolved(self) -> list[dict[str, Any]]:
        """Return who was asked for, but isn't planned, with the reason, and whether a person must put it right."""
        found = []
        for rule in self._rules:
            asked = [(user_id, self._reason(rule, user_id), [user_id]) for user_id in rule.ids]
            asked += [(email, *self._reason_of_email(rule, email)) for email in rule.emails]
            found += [
                {
                    "rule": rule.name,
                    "asked": who,
                    "reason": reason,
                    "detail": _why(rule, reason, ids),
                    "ids": ids,
                    "must_fix": self._must_fix(rule, reason),
                }
                for who, reason, ids in asked
                if reason
            ]
        return found

    def _reason_of_email(self, rule: NamedRule, email: str) -> tuple[str | None, list[str]]:
        found = self._by_email.get(fold(email), [])
        ids = [user_id for user_id, _ in found]
        if len(found) != 1:
            return "ambiguous" if found else "unknown", ids
        ((user_id, written),) = found
        return self._reason(rule, user_id) if written == email else "look_alike", ids

    def _reason(self, rule: NamedRule, user_id: str) -> str | None:
        if user_id not in self._shown:
            return GONE if rule.origin == RECORD else "unknown"
        return self.settled.get((rule.name, user_id)) or self._spared.get(user_id)

    def _must_fix(self, rule: NamedRule, reason: str) -> bool:
        """Tell whether a person must put a name right before anything is done."""
        if rule.origin == FORM:
            # Nor is there a next plan in which somebody who was postponed would come first.
            return reason not in (AS_WANTED, GONE)
        if reason == NO_ROOM:
            return self._nobody_planned
        return rule.origin == RULES and reason in _NOBODY


def _why(rule: NamedRule, reason: str, ids: Sequence[str]) -> str | None:
    """Return what evidence says of somebody who isn't planned because of it."""
    known = rule.known.get(ids[0]) if reason == NOT_OURS and ids else None
    return known.not_ours if known else None


@dataclass(frozen=True)
class _Wanted:
    """What a planned user is to be, what the snapshot shows of it, and what a review or evidence says."""

    to: Mapping[str, Any]
    before: Mapping[str, Any]
    known: Recorded | None
    operation: str = USER_FIELDS
    object: str = ACCOUNT
    object_name: str | None = None


class _Roles:
    """The roles in the workspaces that rules are about; without such a rule nothing is looked at."""

    def __init__(self, roles: pa.Table | None, rules: Sequence[NamedRule]) -> None:
        self._places = {workspace_of(rule.object) for rule in rules if rule.operation == WORKSPACE_ROLE}
        self._known = roles is not None
        self._roles: dict[tuple[str, str], str] = {}
        self._names: dict[str, str | None] = {}
        self._unknown: set[str] = set()
        if roles is not None and self._places:
            for row in roles.filter(_is_among(roles, self._places, "workspace_id")).to_pylist():
                self._names[row["workspace_id"]] = row["workspace_name"]
                if row["role_kind"] == "workspace":
                    self._roles[row["user_id"], row["workspace_id"]] = row["role"]

    def state(self, rule: NamedRule, user_id: str) -> dict[str, Any] | None:
        """Return the role that a user has by the snapshot; None where it doesn't say."""
        if not self._known:
            return None
        return {"role": self._roles.get((user_id, workspace_of(rule.object)), NO_ROLE)}

    def name(self, rule: NamedRule) -> str | None:
        return self._names.get(workspace_of(rule.object))

    def settled(self, rule: NamedRule, user_id: str, user: Mapping[str, Any]) -> str | None:
        """Say why a user's role needs no change, or can't be changed, or None."""
        operation, state, known = OPERATIONS[WORKSPACE_ROLE], self.state(rule, user_id), rule.known.get(user_id)
        if state is None:
            return "roles_not_known"
        if workspace_of(rule.object) not in self._names:
            return "unknown_workspace"
        wanted = rule.wanted(user_id)
        if operation.compare(wanted, state).done:
            return AS_WANTED
        if known is not None and known.unless.get("role", state["role"]) != state["role"]:
            return "changed_since"
        if user["enabled"] is not True:
            return "disabled"
        if operation.access(wanted, state) == TAKEN and not operation.gives_back(wanted, state):
            return "not_undoable"
        is_last = state["role"] == OWNER and not any(
            role == OWNER and place == workspace_of(rule.object) and one != user_id
            for (one, place), role in self._roles.items()
        )
        return "last_owner" if is_last else None


def _has_changed(known: Recorded, user: Mapping[str, Any], updated_at: int | None) -> bool:
    """Tell whether a user is not any more what a review or evidence says; ``updated_at`` in ms since 1970."""
    if not OPERATIONS[USER_FIELDS].compare(known.unless, user).done:
        return True
    if known.updated_at is None:
        return False
    then = read_moment(known.updated_at)
    return then is None or updated_at is None or updated_at > then.timestamp() * 1000


def _is_among(table: pa.Table, ids: Collection[str], column: str = "id") -> Any:
    return pc.is_in(table.column(column), value_set=json_array(sorted(ids), pa.string()))


def _action(policy: Policy) -> str:
    """Name what the plan does: all rules of a policy want the same, but for what a person asks for at a form."""
    named = policy.of_class(NAMED)
    return action_of(named[0].to, named[0].operation) if named else DEACTIVATE


def _owners(roles: pa.Table | None, enabled: pa.Table, rows: Sequence[PlanRow]) -> dict[str, list[str]]:
    """Return the ids of the enabled owners of each workspace in which a row changes a role."""
    places = {workspace_of(row.object) for row in rows if row.operation == WORKSPACE_ROLE}
    found: dict[str, list[str]] = {place: [] for place in sorted(places)}
    if roles is not None and places:
        owners = _owners_in(roles, enabled)
        for row in owners.filter(_is_among(owners, places, "workspace_id")).to_pylist():
            found[row["workspace_id"]].append(row["user_id"])
    return found


def _owners_in(roles: pa.Table, enabled: pa.Table) -> pa.Table:
    owners = roles.select(["user_id", "workspace_id", "workspace_name", "role"])
    owners = owners.filter(pc.fill_null(pc.equal(owners.column("role"), literal(OWNER, pa.string())), _FALSE))
    return owners.filter(pc.is_valid(pc.index_in(owners.column("user_id"), value_set=enabled.column("id"))))


def _sole_owners(roles: pa.Table | None, enabled: pa.Table) -> dict[str, list[str]] | None:
    """Return, by user, the names of the workspaces that have no other enabled owner."""
    if roles is None:
        return None
    owners = _owners_in(roles, enabled)
    by_workspace: dict[str, set[str]] = {}
    names: dict[str, str] = {}
    for row in owners.to_pylist():
        by_workspace.setdefault(row["workspace_id"], set()).add(row["user_id"])
        names[row["workspace_id"]] = row["workspace_name"] or str(row["workspace_id"])
    found: dict[str, list[str]] = {}
    for workspace_id, users in by_workspace.items():
        if len(users) == 1:
            found.setdefault(next(iter(users)), []).append(names[workspace_id])
    return found


@dataclass(frozen=True)
class _Facts:
    """What a person who approves has to know of planned users, by id."""

    rights: Mapping[str, list[str]]
    roles: Mapping[str, list[dict[str, Any]]] | None
    owners: Mapping[str, list[str]] | None


def _facts(
    users: pa.Table, roles: pa.Table | None, owners: Mapping[str, list[str]] | None, ids: Collection[str]
) -> _Facts:
    found = users.filter(_is_among(users, ids)) if ids else users.slice(0, 0)
    columns = [found.column(name).to_pylist() for name in ("id", *_RIGHTS[1:])]
    rights = {
        user_id: [name for name, held in zip(ADMINISTRATOR_ROLES, flags, strict=True) if held]
        for user_id, *flags in zip(*columns, strict=True)
    }
    return _Facts(rights, _roles_of(roles, ids) if roles is not None else None, owners)


def _roles_of(roles: pa.Table, ids: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the roles of some users, the highest first, each with its workspaces."""
    if not ids:
        return {}
    of_them = pc.is_in(roles.column("user_id"), value_set=json_array(sorted(ids), pa.string()))
    found: dict[str, dict[tuple[int, str], list[str]]] = {}
    for row in roles.filter(of_them).to_pylist():
        if row["role"] != "none":
            role = (row["role_rank"] or 0, row["role_name"] or row["role"] or str(row["role_id"]))
            place = row["workspace_name"] or row["workspace_id"]
            places = found.setdefault(row["user_id"], {}).setdefault(role, [])
            places.extend([place] if place else [])
    return {
        user_id: [{"role": role, "workspaces": sorted(places)} for (_, role), places in sorted(by_role.items())]
        for user_id, by_role in found.items()
    }


def _plan_row(subject: Subject, email: str | None, verdict: Verdict, wanted: _Wanted, facts: _Facts) -> PlanRow:
    departure, known = verdict.departure, wanted.known
    return PlanRow(
        user_id=subject.user_id,
        name=subject.name,
        email=email,
        wanted=wanted.to,
        before=wanted.before,
        user_class=str(verdict.user_class),
        rule=str(verdict.rule),
        detail=verdict.detail,
        accessed_at=_iso_of(subject.accessed_at),
        created_at=_iso_of(subject.created_at),
        is_administrator=subject.is_administrator,
        is_paid_seat=subject.is_paid_seat,
        first_flagged_at=_iso_or_none(verdict.first_flagged_at),
        leave_date=departure.leave_date.isoformat() if departure and departure.leave_date else None,
        left_at=_iso_or_none(departure.left_at if departure else None),
        seen_after_leave=seen_after_leave(subject.accessed_at, departure),
        rights=facts.rights.get(subject.user_id, []),
        roles=None if facts.roles is None else facts.roles.get(subject.user_id, []),
        sole_owner_of=None if facts.owners is None else facts.owners.get(subject.user_id, []),
        updated_at=known.updated_at if known else None,
        reviewer=known.reviewer if known else None,
        note=known.note if known else None,
        asked_because=verdict.asked_because,
        operation=wanted.operation,
        object=wanted.object,
        object_name=wanted.object_name,
    )


def _decisions(
    users: pa.Table,
    is_administrator: Any,
    verdicts: Sequence[Verdict],
    owners: Mapping[str, list[str]] | None,
    later: frozenset[str],
) -> pa.Table:
    ids = users.column("id").to_pylist()
    accessed = milliseconds(users.column("accessed_at"))
    dates = [v.departure.leave_date if v.departure else None for v in verdicts]
    made: dict[str, Sequence[Any]] = {
        "decision": [
            _decision_on(v, is_postponed=user_id in later) for user_id, v in zip(ids, verdicts, strict=True)
        ],
        "class": [v.user_class for v in verdicts],
        "rule": [v.rule for v in verdicts],
        "detail": [v.detail for v in verdicts],
        "spared_by": [v.spared_by for v in verdicts],
        "first_flagged_at": [_iso_or_none(v.first_flagged_at) for v in verdicts],
        "absent_since": [_iso_or_none(v.absent_since) for v in verdicts],
        "leave_date": [day.isoformat() if day else None for day in dates],
        "seen_after_leave": [
            seen_after_leave(moment, v.departure) for moment, v in zip(accessed, verdicts, strict=True)
        ],
        "sole_owner_of": [None if owners is None else len(owners.get(user_id, ())) for user_id in ids],
        "asked_because": [v.asked_because for v in verdicts],
    }
    columns = {
        "user_id": users.column("id"),
        "email": users.column("email"),
        "accessed_at": users.column("accessed_at"),
        "created_at": users.column("created_at"),
        "is_administrator": is_administrator,
        "is_paid_seat": users.column("is_paid_seat"),
        **{name: json_array(values, DECISIONS.field(name).type) for name, values in made.items()},
    }
    return pa.Table.from_arrays([columns[name] for name in DECISIONS.names], schema=DECISIONS)


def _decision_on(verdict: Verdict, *, is_postponed: bool) -> str:
    if verdict.spared_by:
        return BLOCKED if _is_blocked(verdict) else SPARED
    return POSTPONED if is_postponed else PLANNED


def _counts(
    population: Population,
    enabled: pa.Table,
    is_administrator: Any,
    verdicts: Sequence[Verdict],
    rows: Sequence[PlanRow],
) -> dict[str, Any]:
    planned = Counter(row.user_class for row in rows)
    return {
        "users": population.users.num_rows,
        "enabled": enabled.num_rows,
        "administrators": pc.sum(is_administrator).as_py() or 0,
        "planned": {name: planned[name] for name in CLASSES},
        "planned_administrators": sum(row.is_administrator for row in rows),
        "planned_sole_owners": sum(bool(row.sole_owner_of) for row in rows),
        "seen_after_leave": sum(row.seen_after_leave for row in rows),
        "spared": dict(sorted(Counter(v.spared_by for v in verdicts if v.spared_by).items())),
    }


def _administrators(enabled: pa.Table, is_administrator: Any) -> list[dict[str, Any]]:
    found = enabled.filter(is_administrator)
    columns = [found.column(name).to_pylist() for name in ("id", "administers_account", "administers_billing")]
    return [
        {"user_id": user_id, "administers_account": account, "administers_billing": billing}
        for user_id, account, billing in zip(*columns, strict=True)
    ]


def _notes(
    ids: Sequence[str], verdicts: Sequence[Verdict], on: Circumstances, again: EnabledAgain
) -> Iterator[str]:
    for word, what in LISTED.items():
        found = [user_id for user_id, v in zip(ids, verdicts, strict=True) if v.listed == word]
        if found:
            yield f"{len(found)} users {what} ({word}), and were left alone: {_some(found)}."
    if kept := [user_id for user_id, v in zip(ids, verdicts, strict=True) if _is_blocked(v)]:
        yield (
            f"{len(kept)} users left by the roster, but are protected, excluded, or look like service accounts "
            f"(blocked): {_some(kept)}. Their access stays until a person looks."
        )
    if covered := [user_id for user_id, v in zip(ids, verdicts, strict=True) if v.is_settled]:
        yield (
            f"{len(covered)} users left by the roster, and keep the access as long as an exclusion holds for "
            f"leavers: {_some(covered)}."
        )
    for roster in on.roster.each if on.roster else ():
        yield from _notes_on(roster, on)
    if on.exclusions and (expired := on.exclusions.expired(on.as_of.date())):
        numbers = ", ".join(str(row.row) for row in expired)
        yield f"{len(expired)} rows of the exclusion file have expired and don't count: {numbers}."
    if again.unread:
        yield (
            f"The snapshots of {', '.join(again.unread)} can't be read, so who was enabled again then is known "
            "from evidence only."
        )


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_IDS]) + (f" and {len(ids) - _IDS} more" if len(ids) > _IDS else "")


def _is_blocked(verdict: Verdict) -> bool:
    """Tell whether the roster says that somebody left, and something else than the roster speaks for the user."""
    by_roster = (*LISTED, "not_covered", "absent_once", "only_absent", None)
    return verdict.user_class == LEFT and verdict.spared_by not in by_roster and not verdict.is_settled


def _notes_on(roster: Roster, on: Circumstances) -> Iterator[str]:
    if wrong := roster.contradictions(on.as_of):
        yield (
            f"{wrong} rows of the roster have an end date that is over and a status of somebody who is here; these "
            "people were left alone."
        )
    if markers := roster.markers():
        yield (
            f"{markers} rows of the roster have no end date, but a value that systems write where there is none, "
            "such as 1900-01-01 or 9999-12-31."
        )


def _iso_or_none(moment: datetime | None) -> str | None:
    return milliseconds_text(moment) if moment else None


def _iso_of(milliseconds_since_1970: int | None) -> str | None:
    if milliseconds_since_1970 is None:
        return None
    return milliseconds_text(datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds_since_1970))
