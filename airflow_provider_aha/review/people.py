"""Who may sign in, what speaks against it, and why: one record per user who is not disabled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_aha.access.decide.history import Carried
from airflow_provider_aha.access.decide.planning import judge_users
from airflow_provider_aha.access.decide.population import Population
from airflow_provider_aha.access.decide.rules import LeftRule, Policy, Rule, UnusedRule, Verdict, seen_after_leave
from airflow_provider_aha.access.plan.plan import LEFT
from airflow_provider_aha.common.addresses import fold, spelled
from airflow_provider_aha.common.arrow import literal, milliseconds
from airflow_provider_aha.datasets.snapshot import Snapshot, may_have_access
from airflow_provider_aha.lists.exclusions import Exclusions
from airflow_provider_aha.lists.matching import SERVICE_ACCOUNT_PATTERNS, UserMatcher
from airflow_provider_aha.lists.roster import Rosters
from airflow_provider_aha.review.terms import ATTENTION, Terms

# What the roster says of somebody who has left for good, whatever else speaks for the account.
_NOT_LEFT = frozenset({"not_covered", "absent_once", "only_absent", "unowned", "renamed", "look_alike"})
_FALSE, _TRUE = (literal(flag, pa.bool_()) for flag in (False, True))
KEEP, REVOKE_ACCOUNT, LOOK = "keep", "revoke account", "look"
_WORTH_A_LOOK = frozenset({"came_back", "new_administrator", "same_email", "leaver"})
# Python objects are made for so many users at a time.
_BATCH = 10_000

# In this order people stand on the page: by the first of their reasons, then those whose account is to go.
URGENCY = {name: place for place, name in enumerate([*ATTENTION, REVOKE_ACCOUNT])}
NOT_URGENT = len(URGENCY)
RIGHTS = {
    "administers_account": "Account administrator",
    "administers_billing": "Billing administrator",
    "administers_configuration": "Configuration administrator",
}


@dataclass(slots=True)
class Person:
    """A user who may sign in; times are milliseconds since 1970.

    :param user_id: the id.
    :param name: the name, as Aha! sends it.
    :param email: the email.
    :param status: ``activity_status`` of the snapshot.
    :param accessed_at: when last seen.
    :param created_at: when created.
    :param days_inactive: whole days since then; None when never seen.
    :param occupies_seat: whether a paid seat is taken.
    :param rights: administrator rights, by the name of their column.
    :param sign_in: how the user signs in.
    :param in_roster: ``yes``, ``no`` or ``not covered``; None without a roster.
    :param unused: whether the seat is unused by the thresholds.
    :param never_seen: whether the user was never seen, long after being created.
    :param leave_date: the last day by the roster, ISO 8601.
    :param suggestion: what to do.
    :param why: the facts behind the suggestion.
    :param flags: keys of :data:`ATTENTION`.
    """

    user_id: str
    name: str
    email: str
    status: str
    accessed_at: int | None
    created_at: int | None
    days_inactive: int | None
    occupies_seat: bool
    rights: tuple[str, ...]
    sign_in: str
    in_roster: str | None = None
    unused: bool = False
    never_seen: bool = False
    leave_date: str | None = None
    suggestion: str = KEEP
    why: str = ""
    flags: set[str] = field(default_factory=set)

    @property
    def urgency(self) -> int:
        """Where the person stands on the page; the smaller, the sooner. What depends on others isn't in it."""
        return min(
            (URGENCY[name] for name in (*self.flags, self.suggestion) if name in URGENCY), default=NOT_URGENT
        )

    @property
    def is_leaver(self) -> bool:
        """Whether the roster says that the person is gone."""
        return "leaver" in self.flags


@dataclass(frozen=True)
class Background:
    """What is known beside the snapshot.

    :param roster: the roster; None without one.
    :param exclusions: the exclusion file.
    :param protected: who is never touched by a run.
    :param carried: what earlier plans say about the roster.
    :param administrators_before: ids of the administrators of the last review, or of the snapshot before; None
        when there is neither.
    :param came_back: users whom a run disabled, and who are enabled again without a run having done it.
    """

    roster: Rosters | None = None
    exclusions: Exclusions | None = None
    protected: UserMatcher = field(default_factory=UserMatcher)
    carried: Carried | None = None
    administrators_before: frozenset[str] | None = None
    came_back: frozenset[str] = frozenset()


def sort_name(name: str) -> str:
    """Return a name as people are ordered by: names that begin with a letter come first, no name comes last.

    :param name: what a stranger typed.
    """
    folded = fold(name)
    return f"{0 if folded[:1].isalpha() else 1 if folded else 2}{folded}"


def unused_seats(users: pa.Table, terms: Terms) -> tuple[Any, Any]:
    """Tell whose seat is unused, and who was never seen, long after being created.

    :param users: a ``users`` table.
    :param terms: the thresholds.
    :return: two masks.
    """
    synced, created = (users.column(name).cast(pa.int64()) for name in ("synced_at", "created_at"))
    old = timedelta(days=terms.never_seen_days) // timedelta(milliseconds=1)
    # Of a user without a date of creation it isn't known that the account is new.
    is_old = pc.fill_null(pc.greater_equal(pc.subtract(synced, created), literal(old, pa.int64())), _TRUE)
    never = pc.equal(users.column("activity_status"), literal("never_seen", pa.string()))
    never = pc.and_(pc.fill_null(never, _FALSE), is_old)
    inactive = pc.greater_equal(users.column("days_inactive"), literal(terms.inactive_days, pa.int32()))
    occupied = pc.fill_null(users.column("occupies_seat"), _FALSE)
    return pc.and_(occupied, pc.or_(pc.fill_null(inactive, _FALSE), never)), never


def any_right(users: pa.Table) -> Any:
    """Tell who has any administrator right.

    :param users: a ``users`` table.
    """
    found = pc.fill_null(users.column("is_administrator"), _FALSE)
    for name in RIGHTS:
        found = pc.or_(found, pc.fill_null(users.column(name), _FALSE))
    return found


def judge_people(snapshot: Snapshot, terms: Terms, background: Background) -> Iterator[Person]:
    """Describe everybody who may sign in, in the order of the snapshot.

    What depends on others is judged by :func:`judged_with`, when all are known.

    :param snapshot: the snapshot.
    :param terms: the thresholds.
    :param background: what else is known.
    :raises AhaSnapshotError: when the roster knows too few of the users to be the right one.
    """
    everybody = snapshot.users
    mask = may_have_access(everybody)
    users = everybody.filter(mask).set_column(
        everybody.schema.get_field_index("is_enabled"), "is_enabled", mask.filter(mask)
    )
    flag = _Flags(snapshot, background)
    for person, verdict in zip(_people(users, terms), _verdicts(users, snapshot, terms, background), strict=True):
        _suggest(person, verdict, background.roster)
        flag(person)
        yield person


def judged_with(person: Person, *, same_email: bool, sole_owner: bool) -> Person:
    """Complete what is known of somebody by what is known of all.

    :param person: the person; changed.
    :param same_email: whether somebody else has the same email.
    :param sole_owner: whether a workspace has no other owner who may sign in.
    """
    if same_email:
        person.flags.add("same_email")
    if sole_owner and (person.is_leaver or person.suggestion != KEEP):
        person.flags.add("sole_owner")
    if person.suggestion == KEEP and person.flags & _WORTH_A_LOOK:
        person.suggestion = LOOK
        person.why = person.why or "; ".join(
            text.lower() for name, text in ATTENTION.items() if name in person.flags
        )
    return person


def _people(users: pa.Table, terms: Terms) -> Iterator[Person]:
    for start in range(0, users.num_rows, _BATCH):
        yield from _some_people(users.slice(start, _BATCH), terms)


def _some_people(users: pa.Table, terms: Terms) -> Iterator[Person]:
    unused, never = (mask.to_pylist() for mask in unused_seats(users, terms))
    texts = ("id", "name", "email", "activity_status", "days_inactive", "occupies_seat")
    columns = [users.column(name).to_pylist() for name in texts]
    moments = [milliseconds(users.column(name)) for name in ("accessed_at", "created_at")]
    rights = zip(*(users.column(name).to_pylist() for name in ("is_administrator", *RIGHTS)), strict=True)
    providers = zip(
        *(users.column(f"identity_provider_{name}").to_pylist() for name in ("type", "name")), strict=True
    )
    rows = zip(*columns, *moments, rights, providers, unused, never, strict=True)
    for user_id, name, email, status, days, seat, accessed, created, flags, provider, idle, unseen in rows:
        yield Person(
            user_id=user_id,
            name=name or "",
            email=email or "",
            status=status or "unknown",
            accessed_at=accessed,
            created_at=created,
            days_inactive=days,
            occupies_seat=bool(seat),
            rights=_rights(flags),
            sign_in=_sign_in(*provider),
            unused=idle,
            never_seen=unseen,
        )


def _sign_in(kind: str | None, name: str | None) -> str:
    return f"{name} ({kind})" if kind and name else name or kind or ""


def _rights(flags: Sequence[bool | None]) -> tuple[str, ...]:
    named = tuple(name for name, given in zip(RIGHTS, flags[1:], strict=True) if given)
    return named or (("is_administrator",) if flags[0] else ())


def _verdicts(users: pa.Table, snapshot: Snapshot, terms: Terms, background: Background) -> Iterator[Verdict]:
    """Judge everybody by the rules that also make plans."""
    rules: list[Rule] = [
        UnusedRule("unused", terms.inactive_days, True, terms.never_seen_days, 0, include_administrators=True)
    ]
    if background.roster:
        rules.append(LeftRule("left", absence=True))
    return judge_users(
        Population(snapshot.manifest, snapshot.synced_at, users, None, {}),
        Policy(tuple(rules), background.protected, UserMatcher(patterns=SERVICE_ACCOUNT_PATTERNS)),
        roster=background.roster,
        exclusions=background.exclusions,
        before=background.carried,
    )


def _suggest(person: Person, verdict: Verdict, roster: Rosters | None) -> None:
    if roster:
        known = "yes" if roster.knows(spelled(person.email)) else "no"
        person.in_roster = known if roster.covers(fold(person.email)) else "not covered"
    if verdict.user_class == LEFT and verdict.spared_by not in _NOT_LEFT:
        person.flags.add("leaver")
        last_day = verdict.departure.leave_date if verdict.departure else None
        person.leave_date = last_day.isoformat() if last_day else None
        if seen_after_leave(person.accessed_at, verdict.departure):
            person.flags.add("seen_after_leave")
    detail = verdict.detail.partition(", flagged since")[0]
    if verdict.spared_by is None:
        person.suggestion, person.why = REVOKE_ACCOUNT, detail
    elif verdict.user_class is not None and verdict.spared_by not in _NOT_LEFT:
        person.why = f"{detail}; {verdict.spared_by.replace('_', ' ')}"


class _Flags:
    """Marks somebody with what speaks against the account, by what is known of this person alone."""

    def __init__(self, snapshot: Snapshot, background: Background) -> None:
        exclusions = background.exclusions
        self._background = background
        self._service = UserMatcher(patterns=SERVICE_ACCOUNT_PATTERNS)
        self._expired = exclusions.expired(snapshot.synced_at.date()) if exclusions else []

    def __call__(self, person: Person) -> None:
        who = (person.user_id, person.email, person.name)
        before = self._background.administrators_before
        found = {
            "came_back": person.user_id in self._background.came_back,
            "new_administrator": bool(person.rights) and before is not None and person.user_id not in before,
            "service_account": self._service.match(*who) is not None,
            "expired_exclusion": any(row.matcher.match(*who) for row in self._expired),
        }
        person.flags |= {name for name, holds in found.items() if holds}
