"""A plan: who should lose, get or change which access, and why, in two write-once files of a run's folder.

``plan.json`` names what is to be done and everything that was looked at, by SHA-256; its own SHA-256 is what a
person approves. ``plan.parquet`` has every enabled user, also those that nothing was found about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_aha.access.operations.base import GIVEN, TAKEN
from airflow_provider_aha.access.operations.registry import OPERATIONS, USER_FIELDS, WORKSPACE_ROLE
from airflow_provider_aha.access.operations.user_fields import ACCOUNT, LAST_RIGHTS
from airflow_provider_aha.access.operations.workspace_role import owner_of, workspace_of
from airflow_provider_aha.common.addresses import is_id
from airflow_provider_aha.common.arrow import whole
from airflow_provider_aha.common.moments import moment_of
from airflow_provider_aha.datasets import schemas
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaGuardError, AhaRecordError
from airflow_provider_aha.lists.matching import Who
from airflow_provider_aha.record.journal import key_of
from airflow_provider_aha.store.store import Store, parse_record, sha256

PLAN_VERSION = 3
FILE = "plan.json"
PLANNED, SPARED, POSTPONED, BLOCKED = "planned", "spared", "postponed", "blocked"

DECISIONS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("email", pa.string()),
        pa.field("decision", pa.string(), nullable=False),
        pa.field("class", pa.string()),
        pa.field("rule", pa.string()),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("spared_by", pa.string()),
        pa.field("accessed_at", schemas.TIMESTAMP),
        pa.field("created_at", schemas.TIMESTAMP),
        pa.field("is_administrator", pa.bool_(), nullable=False),
        pa.field("is_paid_seat", pa.bool_()),
        pa.field("first_flagged_at", schemas.TIMESTAMP),
        pa.field("absent_since", schemas.TIMESTAMP),
        pa.field("leave_date", pa.string()),
        pa.field("seen_after_leave", pa.bool_(), nullable=False),
        pa.field("sole_owner_of", pa.int32()),
        pa.field("asked_because", pa.string()),
    ]
)
UNUSED, LEFT, NAMED = "unused", "left", "named"
# The class that says most about a user comes first: a person who is gone, one who was asked for, a seat.
CLASSES = (LEFT, NAMED, UNUSED)
# What a plan knows of people is as old as its snapshot: a day may pass until somebody is asked and answers, and
# the answer holds for a day.
_FRESH_FOR = timedelta(hours=48)
_CLOCKS_DIFFER = timedelta(minutes=10)


# What a plan does to its users; the words of the evidence go by it.
DEACTIVATE, REACTIVATE, UPDATE, CHANGE_ROLES = "deactivate", "reactivate", "update", "change_roles"
# Of somebody who was named: nothing is left to do.
AS_WANTED, GONE, NOT_OURS, NO_ROOM = "already_as_wanted", "gone", "not_proven", "no_room_in_the_caps"


# Before the words of the person who approved: they may name somebody, so a log ends here.
STRUCK_OUT = "struck out by the person who approved"


def action_of(wanted: Mapping[str, Any], operation: str = USER_FIELDS) -> str:
    """Name what a change is.

    :param wanted: what the object is to be.
    :param operation: by which operation.
    """
    if operation == WORKSPACE_ROLE:
        return CHANGE_ROLES
    if set(wanted) != {"enabled"}:
        return UPDATE
    return REACTIVATE if wanted["enabled"] else DEACTIVATE


@dataclass(frozen=True)
class PlanRow:
    """Access of a user that is to be changed.

    :param user_id: the user.
    :param name: the name in the snapshot.
    :param email: the email in the snapshot.
    :param wanted: what the object is to be: fields of the ``user`` object, or the ``role`` in a workspace.
    :param before: what the snapshot shows of it.
    :param user_class: ``unused``, ``left`` or ``named``; ``class`` in the file.
    :param rule: name of the rule that put the user there.
    :param detail: the facts, in words without a name.
    :param accessed_at: when the user was last seen, ISO 8601 as Aha! writes it; None: never.
    :param created_at: when the user was created.
    :param is_administrator: whether the user has any administrator right.
    :param is_paid_seat: whether the seat is paid for.
    :param first_flagged_at: since when a rule of class ``unused`` has held but for the grace period.
    :param leave_date: the last day by the roster, ISO 8601.
    :param left_at: the moment at which that day ended, in the roster's time zone.
    :param seen_after_leave: whether the user was seen after that moment.
    :param rights: the administrator rights.
    :param roles: roles as ``{"role": ..., "workspaces": [...]}``, by name; None when the snapshot doesn't say.
    :param sole_owner_of: names of the workspaces that have this user as their only enabled owner; None when the
        snapshot doesn't say.
    :param updated_at: when the user was last changed, where a later change is to stop the write.
    :param reviewer: who decided it, where a review asks.
    :param note: why, in the reviewer's words.
    :param asked_because: why a person must be asked, in words without a name; None: policy lets the row pass.
    :param operation: by which operation it is changed.
    :param object: what of the user is changed: ``account``, or the role in a workspace as ``w456``.
    :param object_name: name of that workspace.
    """

    user_id: str
    name: str | None
    email: str | None
    wanted: Mapping[str, Any]
    before: Mapping[str, Any]
    user_class: str
    rule: str
    detail: str
    accessed_at: str | None
    created_at: str | None
    is_administrator: bool
    is_paid_seat: bool | None
    first_flagged_at: str | None
    leave_date: str | None
    left_at: str | None
    seen_after_leave: bool
    rights: Sequence[str]
    roles: Sequence[Mapping[str, Any]] | None
    sole_owner_of: Sequence[str] | None
    updated_at: str | None = None
    reviewer: str | None = None
    note: str | None = None
    asked_because: str | None = None
    operation: str = USER_FIELDS
    object: str = ACCOUNT
    object_name: str | None = None

    @property
    def key(self) -> str:
        """By what the records call the object; see :func:`.key_of`."""
        return key_of(self.user_id, self.object)

    @property
    def access(self) -> str | None:
        """Whether the change may take access (``taken``), only gives it (``given``), or does neither (None)."""
        return OPERATIONS[self.operation].access(self.wanted, self.before)

    def to_json(self) -> dict[str, Any]:
        """Return the row as the file holds it."""
        return {("class" if name == "user_class" else name): value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Plan:
    """A plan that was read and found whole.

    :param path: where it lies.
    :param sha256: hash of the bytes of ``plan.json``.
    :param header: everything in it but the rows.
    :param rows: what is to be done; no object twice.
    """

    path: str
    sha256: str
    header: Mapping[str, Any] = field(repr=False)
    rows: tuple[PlanRow, ...] = field(repr=False)

    @property
    def account(self) -> str:
        """The account."""
        return str(self.header["account"])

    @property
    def sandbox(self) -> bool:
        """Whether the snapshot is of a sandbox."""
        return bool(self.header["sandbox"])

    @property
    def created_at(self) -> datetime:
        """When it was made; UTC."""
        return moment_of(self.header["created_at"])

    @property
    def as_of(self) -> datetime:
        """The moment that its facts are of: when the snapshot was read; UTC."""
        return moment_of(self.header["as_of"])

    @property
    def action(self) -> str:
        """What it does to its users: ``deactivate``, ``reactivate``, ``update`` or ``change_roles``."""
        return str(self.header["action"])

    @property
    def is_undo(self) -> bool:
        """Whether it gives back what a run took, field by field."""
        return "undo" in self.header["policy"]

    @property
    def ticket(self) -> str | None:
        """The ticket that asked for it."""
        ticket: str | None = self.header["ticket"]
        return ticket

    @property
    def decides_access(self) -> bool:
        """Whether it changes anybody's access: then it needs a second person."""
        return any(row.access is not None for row in self.rows)

    @property
    def roster_owners(self) -> list[str]:
        """Who owns the rosters that its rows are based on; nobody where no row is."""
        rosters = self.header["policy"].get("rosters", []) if self.is_by_roster else []
        return [owner for roster in rosters for owner in roster.get("owners", [])]

    @property
    def is_by_roster(self) -> bool:
        """Whether somebody is on it whom a roster says to have left."""
        return any(row.user_class == LEFT for row in self.rows)

    @property
    def wrong_names(self) -> list[Mapping[str, Any]]:
        """Entries of ``unresolved`` that a person must put right before anything is done."""
        return [entry for entry in self.header["unresolved"] if entry["must_fix"]]

    @property
    def counts(self) -> dict[str, Any]:
        """The counts of the header."""
        return dict(self.header["counts"])

    @property
    def enabled_users(self) -> int:
        """How many users were enabled."""
        return int(self.header["enabled_users"])

    @property
    def administrators(self) -> list[dict[str, Any]]:
        """All enabled administrators, with their rights for account and billing."""
        return list(self.header["administrators"])

    @property
    def holders(self) -> dict[str, list[str]]:
        """Ids of the enabled users who hold a right that must not die out, by right."""
        anybody = [entry["user_id"] for entry in self.administrators]
        owners = {owner_of(place): list(ids) for place, ids in self.header["workspace_owners"].items()}
        return {**dict.fromkeys(LAST_RIGHTS, anybody), **owners}


def load_plan(place: Store) -> Plan:
    """Read a plan, and check it and the decisions beside it.

    :param place: a ``plan.json``.
    :raises AhaSnapshotError: when it is missing, cut short, changed, or no plan of this version.
    :raises AhaStorageError: when it can't be read.
    """
    body, path = place.read(), place.url
    if body is None:
        raise AhaRecordError(f"There is no plan at {path}.")
    content = parse_record(body, path)
    header = {name: value for name, value in content.items() if name != "rows"}
    _check_header(header, path)
    rows = content.get("rows")
    if not isinstance(rows, list):
        raise _broken(path, "it has no list of rows")
    plan = Plan(path, sha256(body), header, tuple(_row(row, path) for row in rows))
    _check_rows(plan)
    load_decisions(place, header)
    return plan


def load_decisions(place: Store, header: Mapping[str, Any]) -> pa.Table:
    """Read the decisions beside a plan.

    :param place: the ``plan.json``.
    :param header: what it says.
    :raises AhaSnapshotError: when they are missing, or not the ones that the plan names.
    :raises AhaStorageError: when they can't be read.
    """
    return load_beside(place, header, header["decisions"])


def load_users(place: Store, header: Mapping[str, Any]) -> list[Who]:
    """Read who was in the account when a plan was made, enabled or not.

    :param place: the ``plan.json``.
    :param header: what it says.
    :return: id, email and name of each user.
    :raises AhaSnapshotError: when the snapshot beside the plan is missing, or not the one that the plan names.
    :raises AhaStorageError: when it can't be read.
    """
    name = next((name for name in header["files"] if name.startswith("input-users")), "input-users.parquet")
    table = load_beside(place, header, name)
    columns = (table.column(column).to_pylist() for column in ("id", "email", "name"))
    return list(zip(*columns, strict=True))


def load_beside(place: Store, header: Mapping[str, Any], name: str) -> pa.Table:
    """Read a Parquet file beside a plan, and check that it is the one that the plan names.

    :param place: the ``plan.json``.
    :param header: what it says.
    :param name: the file's name.
    :raises AhaSnapshotError: when it is missing, or not the one that the plan names.
    :raises AhaStorageError: when it can't be read.
    """
    file = place.beside(name)
    body = file.read()
    if body is None:
        raise AhaRecordError(f"{file.url} is missing, though {place.url} names it.")
    if sha256(body) != header["files"].get(name):
        raise AhaRecordError(f"{file.url} is not the file that {place.url} names: it was cut short or changed.")
    with pq.ParquetFile(pa.BufferReader(body)) as parquet:
        return whole(parquet)


_TEXT, _NUMBER, _LIST, _OBJECT, _MAYBE = (str,), (int,), (list,), (dict,), (str, type(None))
_HEADER: dict[str, tuple[type, ...]] = {
    "account": _TEXT,
    "sandbox": (bool,),
    "created_at": _TEXT,
    "as_of": _TEXT,
    "action": _TEXT,
    **dict.fromkeys(("reason", "ticket", "asked_by"), _MAYBE),
    "snapshot": _OBJECT,
    **dict.fromkeys(("policy", "settings"), _OBJECT),
    "changed": (dict, type(None)),
    "counts": _OBJECT,
    "enabled_users": _NUMBER,
    "policy_max": _NUMBER,
    "administrators": _LIST,
    "workspace_owners": _OBJECT,
    "rosters": _LIST,
    "roster_known": _MAYBE,
    "roster_sha256": _MAYBE,
    "exclusions_sha256": _MAYBE,
    "decisions": _TEXT,
    "files": _OBJECT,
    "unresolved": _LIST,
    "blocked": _LIST,
    "notes": _LIST,
    "protects_nobody": _LIST,
    "caps": (dict, type(None)),
}
_CHANGED = {"since": _TEXT, "settings": _LIST}
_ADMINISTRATOR = {"user_id": _TEXT, "administers_account": (bool,), "administers_billing": (bool,)}
_ROW: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("user_id", "class", "rule", "detail", "operation", "object"), _TEXT),
    **dict.fromkeys(("name", "email", "accessed_at", "created_at", "first_flagged_at"), _MAYBE),
    **dict.fromkeys(("leave_date", "left_at", "updated_at", "reviewer", "note"), _MAYBE),
    **dict.fromkeys(("asked_because", "object_name"), _MAYBE),
    **dict.fromkeys(("wanted", "before"), _OBJECT),
    **dict.fromkeys(("is_administrator", "seen_after_leave"), (bool,)),
    "is_paid_seat": (bool, type(None)),
    "rights": _LIST,
    **dict.fromkeys(("roles", "sole_owner_of"), (list, type(None))),
}
_UNRESOLVED = {
    **dict.fromkeys(("rule", "asked", "reason"), _TEXT),
    "detail": _MAYBE,
    "ids": _LIST,
    "must_fix": (bool,),
}
_ROLE = {"role": _TEXT, "workspaces": _LIST}


def _check_header(header: Mapping[str, Any], path: str) -> None:
    if header.get("plan_version") != PLAN_VERSION:
        raise _broken(path, f"it is not a plan of version {PLAN_VERSION}")
    _check_types(header, _HEADER, path, "header")
    for name in ("created_at", "as_of"):
        try:
            moment_of(header[name], needs_offset=True)
        except ValueError:
            raise _broken(path, f"its {name} is no moment") from None
    if header["changed"] is not None:
        _check_types(header["changed"], _CHANGED, path, "changed settings")
        for entry in header["changed"]["settings"]:
            _check_types(entry, dict.fromkeys(("setting", "text"), _TEXT), path, "changed settings")
    for entry in header["administrators"]:
        _check_types(entry, _ADMINISTRATOR, path, "list of administrators")
    for entry in header["unresolved"]:
        _check_types(entry, _UNRESOLVED, path, "list of unresolved names")
    if not all(isinstance(ids, list) for ids in header["workspace_owners"].values()):
        raise _broken(path, "its owners can't be right")
    if header["action"] not in (DEACTIVATE, REACTIVATE, UPDATE, CHANGE_ROLES):
        raise _broken(path, "it has an action that doesn't exist")
    if header["enabled_users"] < 0 or not isinstance(header["counts"].get("planned"), dict):
        raise _broken(path, "its counts can't be right")
    if not isinstance(header["snapshot"].get("sha256", {}), dict):
        raise _broken(path, "its snapshot has no hashes")


def _check_types(content: Any, types: Mapping[str, tuple[type, ...]], path: str, where: str) -> None:
    for name, allowed in types.items():
        if not isinstance(content, dict) or name not in content or type(content[name]) not in allowed:
            raise _broken(path, f"{name} is missing from its {where}, or is of another type")


def _row(content: Any, path: str) -> PlanRow:
    _check_types(content, _ROW, path, "rows")
    for role in content["roles"] or ():
        _check_types(role, _ROLE, path, "roles")
    row = PlanRow(**{("user_class" if name == "class" else name): content[name] for name in _ROW})
    if not is_id(row.user_id) or row.user_class not in CLASSES:
        raise _broken(path, "a row has no user id, or a class that doesn't exist")
    is_role = row.operation == WORKSPACE_ROLE and is_id(workspace_of(row.object))
    if not is_role and (row.operation, row.object) != (USER_FIELDS, ACCOUNT):
        raise _broken(path, "a row is about something that no plan changes")
    try:
        wanted = OPERATIONS[row.operation].read_wanted(row.wanted)
    except AhaConfigurationError:
        wanted = {}
    if not wanted or wanted != row.wanted:
        raise _broken(path, "a row wants something that no plan sets")
    return row


def _check_rows(plan: Plan) -> None:
    if len({row.key for row in plan.rows}) != len(plan.rows):
        raise _broken(plan.path, "a user is in it twice")
    found = Counter(row.user_class for row in plan.rows)
    users = plan.enabled_users + sum(row.before.get("enabled") is False for row in plan.rows)
    if {name: found[name] for name in CLASSES} != plan.counts["planned"] or len(
        {row.user_id for row in plan.rows}
    ) > users:
        raise _broken(plan.path, "its rows don't agree with its counts")
    # An undo gives back what a run took, by whatever fields.
    allowed = {REACTIVATE, UPDATE, CHANGE_ROLES} if plan.is_undo else {plan.action}
    if {action_of(row.wanted, row.operation) for row in plan.rows} - allowed:
        raise _broken(plan.path, "its rows don't agree with its action")


def _broken(path: str, why: str) -> AhaRecordError:
    return AhaRecordError(f"{path} can't be carried out: {why}. It was changed or cut short; make a new plan.")


@dataclass(frozen=True)
class Target:
    """One object of a user that is to be changed, and what the decision was based on.

    :param user_id: the user.
    :param changes: what the object is to be: fields of the ``user`` object, or the ``role`` in a workspace.
    :param email: the email at the decision; None when the decision didn't look at it.
    :param user_class: ``unused``, ``left`` or ``named``.
    :param rule: the rule that put the user there.
    :param detail: the facts, in words without a name.
    :param accessed_at: when the user was last seen, at the decision.
    :param is_administrator: whether the user was one, at the decision; None when it wasn't looked at.
    :param leave_date: the person's last day by the roster, ISO 8601.
    :param left_at: the moment at which that day ended, ISO 8601 with its zone.
    :param updated_at: when the user was last changed, at the decision; None when later changes don't matter.
    :param not_ours: why the user is left as it is: an undo can't tell that its run took the access, or a person
        struck the user out.
    :param operation: by which operation it is changed.
    :param object: what of the user is changed: ``account``, or the role in a workspace as ``w456``.
    :param before: the object at the decision; empty where it doesn't matter.
    """

    user_id: str
    changes: Mapping[str, Any]
    email: str | None = None
    user_class: str = NAMED
    rule: str = NAMED
    detail: str = ""
    accessed_at: str | None = None
    is_administrator: bool | None = None
    leave_date: str | None = None
    left_at: str | None = None
    updated_at: str | None = None
    not_ours: str | None = None
    operation: str = USER_FIELDS
    object: str = ACCOUNT
    before: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """By what the records call the object; see :func:`.key_of`."""
        return key_of(self.user_id, self.object)

    @property
    def access(self) -> str | None:
        """Whether the change may take access (``taken``), only gives it (``given``), or does neither (None)."""
        return OPERATIONS[self.operation].access(self.changes, self.before)


@dataclass(frozen=True)
class Decision:
    """Who is to be changed, on what ground, and who said so.

    :param action: ``deactivate``, ``reactivate``, ``update`` or ``change_roles``.
    :param targets: what is to be changed; no object twice.
    :param enabled_users: enabled users of the account when the decision was made, of whom the percentage counts.
    :param holders: ids of the enabled users who held a right then that must not die out, by right.
    :param facts: columns of the evidence that are the same for every user: hashes, approval, ticket.
    :param asked: ids by the email that somebody named them by.
    :param policy_max: where no person was asked, how many users of the account may be changed so within 24 hours.
    :param planned: whether it is a plan, which is carried out once.
    :param users: id, email and name of every user of the account, as the decision knows them; empty where it
        changes nobody's access.
    :param struck_out: users whom the person who approved took off the plan; each has the reason as ``not_ours``.
    :param guards_were_set: whether the Variable ``aha_guards`` was set when the plan was made.
    """

    action: str
    targets: Sequence[Target]
    enabled_users: int
    holders: Mapping[str, Sequence[str]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    asked: Mapping[str, str] = field(default_factory=dict)
    policy_max: int | None = None
    planned: bool = False
    users: Sequence[Who] = field(default=(), repr=False)
    struck_out: Sequence[Target] = ()
    guards_were_set: bool = False

    @cached_property
    def access(self) -> str | None:
        """Whether it may take access (``taken``), only give it (``given``), or do neither (None)."""
        found = {target.access for target in self.targets}
        return TAKEN if TAKEN in found else next(iter(found - {None}), None)

    @property
    def plan_sha256(self) -> str | None:
        """The SHA-256 of the plan that it carries out, or undoes."""
        return self.facts.get("plan_sha256")


def users_afterwards(enabled: int, rows: Sequence[PlanRow]) -> int:
    """Return of how many users the percentage of the caps is taken.

    What a run may give back is measured by what there is afterwards, so that it may undo what it may do.

    :param enabled: enabled users of the account.
    :param rows: the rows that are carried out.
    """
    return enabled + sum(row.access == GIVEN and row.before.get("enabled") is False for row in rows)


def decision_of(
    plan: Plan,
    *,
    account: str,
    strike_out: Mapping[str, str],
    facts: Mapping[str, Any],
    now: datetime,
    users: Sequence[Who] = (),
    among: Collection[str] | None = None,
) -> Decision:
    """Turn a plan into a decision.

    :param plan: the plan, read and found whole.
    :param account: the account of the connection.
    :param strike_out: ids that the person who approved took off the plan, with the reason; others than the plan's
        are ignored.
    :param facts: columns of the evidence that are the same for every user: approval and ticket.
    :param now: this moment; UTC.
    :param users: what :func:`load_users` returned.
    :param among: ids of the rows that the task is to carry out; None: all.
    :return: the decision.
    :raises AhaConfigurationError: when the plan is of another account.
    :raises AhaGuardError: when the snapshot that the plan stands on is too old, or of the future.
    """
    if plan.account != account:
        raise AhaConfigurationError(f"This plan is of account {plan.account}, the connection of {account}.")
    age = now - plan.as_of
    if not -_CLOCKS_DIFFER <= age <= _FRESH_FOR:
        raise AhaGuardError(
            f"This plan stands on a snapshot of {plan.header['as_of']}: what is older than {_FRESH_FOR.days * 24} "
            "hours, or of the future, is not carried out. Nothing was done; run aha_extract and make a new plan."
        )
    mine = [row for row in plan.rows if among is None or row.user_id in among]
    rows = [row for row in mine if row.user_id not in strike_out]
    return Decision(
        action=plan.action,
        targets=[_target(row) for row in rows],
        struck_out=[
            replace(_target(row), not_ours=f"{STRUCK_OUT}: {strike_out[row.user_id]}")
            for row in mine
            if row.user_id in strike_out
        ],
        enabled_users=users_afterwards(plan.enabled_users, rows),
        planned=True,
        holders=plan.holders,
        facts={
            **facts,
            "plan_sha256": plan.sha256,
            "snapshot_sha256": plan.header["snapshot"].get("sha256", {}).get("users"),
            "roster_sha256": plan.header["roster_sha256"],
            "exclusions_sha256": plan.header["exclusions_sha256"],
        },
        policy_max=plan.header["policy_max"] if facts.get("approval_mode") == "policy" else None,
        users=users,
        guards_were_set=bool(plan.header["policy"].get("guards_set")),
    )


def _target(row: PlanRow) -> Target:
    seen = ", seen_after_leave" if row.seen_after_leave else ""
    return Target(
        user_id=row.user_id,
        changes=row.wanted,
        email=row.email,
        user_class=row.user_class,
        rule=row.rule,
        detail=f"{row.detail}{seen}",
        accessed_at=row.accessed_at,
        is_administrator=row.is_administrator,
        leave_date=row.leave_date,
        left_at=row.left_at,
        updated_at=row.updated_at,
        operation=row.operation,
        object=row.object,
        before=row.before if row.operation != USER_FIELDS else {},
    )
