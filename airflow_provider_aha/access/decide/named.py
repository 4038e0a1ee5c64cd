"""From what somebody asked for to a decision: ids and emails become users, a full read gives the counts."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from airflow_provider_aha.access.decide.rules import RECORD, NamedRule, Recorded
from airflow_provider_aha.access.operations.base import GIVEN, TAKEN
from airflow_provider_aha.access.operations.registry import OPERATIONS, USER_FIELDS
from airflow_provider_aha.access.operations.user_fields import (
    ACCOUNT,
    LAST_RIGHTS,
    access_of,
    is_administrator,
    not_given_back,
)
from airflow_provider_aha.access.plan.plan import Decision, Target
from airflow_provider_aha.api.client import AhaClient, check_user_id
from airflow_provider_aha.api.records import readable
from airflow_provider_aha.common.addresses import fold, spelled
from airflow_provider_aha.common.moments import moment_of
from airflow_provider_aha.exceptions import (
    AhaAmbiguousUserError,
    AhaConfigurationError,
    AhaNotFoundError,
    AhaRecordError,
)
from airflow_provider_aha.record.journal import ACKNOWLEDGED, UNANSWERED


def decide(
    client: AhaClient,
    users: Sequence[str],
    changes: Mapping[str, Any],
    *,
    action: str,
    facts: Mapping[str, Any],
    known: Mapping[str, str] | None = None,
) -> Decision:
    """Look named users up in one full read of the account.

    Where only ids were named and nobody's access is to change, nothing needs to be read.

    :param client: client of the account.
    :param users: ids or emails; a user named twice counts once.
    :param changes: fields of the ``user`` object to set, the same for all.
    :param action: ``deactivate``, ``reactivate`` or ``update``.
    :param facts: columns of the evidence that are the same for every user.
    :param known: ids by email that the first try found: since then, an email may have been changed by it.
    :return: the decision, of class ``named``; an id that the account doesn't have stays in it, so that the
        evidence names it.
    :raises AhaConfigurationError: when something is neither id nor email; no request was sent.
    :raises AhaNotFoundError: when nobody has an email.
    :raises AhaAmbiguousUserError: when an email belongs to several users.
    """
    named = [user if "@" in user else check_user_id(user, or_email=True) for user in users]
    access = access_of(changes)
    by_id: dict[str, dict[str, Any]] = {}
    if named and (access or any("@" in user for user in named)):
        # One odd record of somebody else must not keep all others from being decided about.
        by_id = {user["id"]: readable(user)[0] for user in client.iter_users()}
    asked = _resolve(client, named, by_id, known or {})
    ids = list(dict.fromkeys(asked.get(user, user) for user in named))
    enabled = [user for user in by_id.values() if user.get("enabled")]
    administrators = tuple(user["id"] for user in enabled if is_administrator(user))
    # What a run may give back is measured by what there is afterwards, so that it may undo what it may do.
    back = sum(not by_id[user_id].get("enabled") for user_id in ids if user_id in by_id) if access == GIVEN else 0
    return Decision(
        action=action,
        targets=[_target(user_id, by_id.get(user_id), changes) for user_id in ids],
        enabled_users=len(enabled) + back,
        holders=dict.fromkeys(LAST_RIGHTS, administrators),
        facts=facts,
        asked=asked,
        users=[(user["id"], user.get("email"), user.get("name")) for user in by_id.values()] if access else (),
    )


def undo(client: AhaClient, found: Sequence[Mapping[str, Any]], *, facts: Mapping[str, Any]) -> Decision:
    """Decide to give back exactly the access that a run took, field by field, crash cases included.

    :param client: client of the account.
    :param found: the evidence of that run.
    :param facts: columns of the evidence that are the same for every user.
    :return: the decision. Users who were changed since will be refused. Those of whom the evidence doesn't prove
        that the run did it stay in the decision, so that its evidence names them.
    :raises AhaConfigurationError: when the evidence is of another account, or nobody's access was taken.
    :raises AhaSnapshotError: when the evidence holds something else than this package writes.
    """
    targets = to_give_back(found, client.config.account)
    ids = list(dict.fromkeys(target.user_id for target in targets))
    plans = {row["plan_sha256"] for row in found if str(row["user_id"]) in ids}
    facts = {**facts, "plan_sha256": plans.pop() if len(plans) == 1 else None}
    decision = decide(client, ids, {"enabled": True}, action="reactivate", facts=facts)
    return replace(decision, targets=targets)


def undo_rules(reason: str, found: Sequence[Mapping[str, Any]], account: str) -> tuple[NamedRule, ...]:
    """Make the rules of a plan that gives back what a run took: one for each kind of object.

    :param reason: what the rules are called.
    :param found: the evidence of that run.
    :param account: the account of the connection.
    :raises AhaConfigurationError: when the evidence is of another account, or nobody's access was taken.
    :raises AhaSnapshotError: when the evidence holds something else than this package writes.
    """
    by_object: dict[tuple[str, str], dict[str, Recorded]] = defaultdict(dict)
    for was in to_give_back(found, account):
        unless: dict[str, Any] = {"email": was.email}
        if was.is_administrator is False:
            unless["administrator"] = False
        by_object[was.operation, was.object][was.user_id] = Recorded(
            was.detail,
            unless={**unless, **was.before},
            updated_at=was.updated_at,
            to=was.changes,
            not_ours=was.not_ours,
        )
    return tuple(
        NamedRule(
            reason if place == ACCOUNT else f"{reason} ({place})",
            tuple(known),
            to={"enabled": True} if place == ACCOUNT else {},
            origin=RECORD,
            known=known,
            operation=operation,
            object=place,
        )
        for (operation, place), known in by_object.items()
    )


def to_give_back(found: Sequence[Mapping[str, Any]], account: str) -> list[Target]:
    """Find out which access a run took, and what was there before.

    :param found: the evidence of that run.
    :param account: the account of the connection.
    :return: what to give back. It includes users whose change the evidence can't prove to be the run's;
        ``not_ours`` says why.
    :raises AhaConfigurationError: when the evidence is of another account, or nobody's access was taken.
    :raises AhaSnapshotError: when the evidence holds something else than this package writes.
    """
    # Of an intent that can't be read nothing is known but its user.
    told = [row for row in found if not (row["account"] is None and row["proof"] == UNANSWERED)]
    accounts = {row["account"] for row in told} - {account}
    if accounts:
        raise AhaConfigurationError(
            f"This evidence is of account {', '.join(map(str, accounts))}, the connection is of {account}."
        )
    try:
        taken = [one for row in found if (one := _taken(row)) is not None]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise AhaRecordError("This evidence was changed: a column of JSON holds something else.") from None
    if not taken:
        raise AhaConfigurationError("By this evidence nobody's access was taken, so there is nothing to undo.")
    return taken


def _taken(row: Mapping[str, Any]) -> Target | None:
    """Turn a row of evidence into what is to be given back; None: it took nothing."""
    wanted, before, after = (json.loads(row[name] or "{}") for name in ("wanted_json", "before_json", "after_json"))
    is_lost = row["before_json"] is None
    operation = OPERATIONS[row["operation"] or USER_FIELDS]
    if (
        row["proof"] < UNANSWERED
        or row["access"] not in (TAKEN, None)
        or (operation.compare(wanted, before).done and not is_lost)
    ):
        return None
    back, not_ours = operation.gives_back(wanted, before), None
    left = ", ".join(not_given_back(wanted, before)) if operation.name == USER_FIELDS else ""
    is_stamped = row["proof"] > ACKNOWLEDGED and operation.stamps
    if row["proof"] == UNANSWERED:
        not_ours = f"nothing proves that the run changed the user (its evidence says {row['outcome']})"
    elif is_stamped and after.get("updated_at") is None:
        not_ours = (
            "Aha!'s answer to the run didn't say when it changed the user, so nobody knows who changed it since"
        )
    elif not back:
        not_ours = f"nothing of what the run changed can be given back: {left or 'the evidence names no field'}"
    return Target(
        user_id=str(row["user_id"]),
        changes=back,
        email=wanted.get("email") or before.get("email"),
        # A right that the run itself gave is not a later change.
        is_administrator=is_administrator({**before, **after}),
        # What Aha! acknowledged only is given back once the read before it shows that it was done. A request of the
        # run whose answer is lost may have landed after the one that is proven.
        updated_at=_later(after["updated_at"], row["lands_by"]) if is_stamped and after.get("updated_at") else None,
        detail=f"undo of event {row['event_id']}" + (f"; not given back: {left}" if left else ""),
        not_ours=not_ours,
        operation=operation.name,
        object=str(row["object"]),
        # A role must still be what the run made of it; of fields, `updated_at` says whether anybody changed them.
        before={} if operation.stamps else wanted,
    )


def _later(stamp: str, lands_by: str | None) -> str:
    return stamp if lands_by is None else max(stamp, lands_by, key=moment_of)


def _resolve(
    client: AhaClient, named: Sequence[str], by_id: Mapping[str, Mapping[str, Any]], known: Mapping[str, str]
) -> dict[str, str]:
    """Find the ids of emails."""
    by_email: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for user in by_id.values():
        by_email[fold(user.get("email"))].append(user)
    return {
        email: known.get(email) or _only(email, by_email.get(fold(email), []), client.config.account)
        for email in named
        if "@" in email
    }


def _only(email: str, users: Sequence[Mapping[str, Any]], account: str) -> str:
    if not users:
        raise AhaNotFoundError(f"No user of {account} has one of the emails that were named.")
    ids = ", ".join(user["id"] for user in users)
    if len(users) > 1:
        raise AhaAmbiguousUserError(
            f"An email that was named belongs to {len(users)} users of {account} (ids {ids}): name the one you "
            "mean by its id."
        )
    if spelled(users[0]["email"]) != spelled(email):
        raise AhaAmbiguousUserError(
            f"An email that was named only looks like that of a user of {account} (id {ids}), and it may be "
            "another person's: name the user by id."
        )
    return str(users[0]["id"])


def _target(user_id: str, user: Mapping[str, Any] | None, changes: Mapping[str, Any]) -> Target:
    if user is None:
        return Target(user_id=user_id, changes=changes, detail="named by id")
    return Target(
        user_id=user_id,
        changes=changes,
        email=user.get("email"),
        accessed_at=user.get("accessed_at"),
        is_administrator=is_administrator(user),
        detail="named by id or email",
    )
