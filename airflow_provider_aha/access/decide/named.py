"""From what somebody asked for to a decision: ids and emails become users, a full read gives the counts."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from airflow_provider_aha.access.operations.base import GIVEN
from airflow_provider_aha.access.operations.user_fields import access_of, is_administrator, may_have_disabled
from airflow_provider_aha.access.plan.plan import Decision, Target
from airflow_provider_aha.api.client import AhaClient, check_user_id
from airflow_provider_aha.common.addresses import fold, spelled
from airflow_provider_aha.exceptions import (
    AhaAmbiguousUserError,
    AhaConfigurationError,
    AhaNotFoundError,
    AhaSnapshotError,
)


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
    named = [user if "@" in user else check_user_id(user) for user in users]
    access = access_of(changes)
    by_id: dict[str, dict[str, Any]] = {}
    if named and (access or any("@" in user for user in named)):
        by_id = {user["id"]: user for user in client.iter_users()}
    asked = _resolve(client, named, by_id, known or {})
    ids = list(dict.fromkeys(asked.get(user, user) for user in named))
    enabled = [user for user in by_id.values() if user.get("enabled")]
    # What a run may give back is measured by what there is afterwards, so that it may undo what it may do.
    back = sum(not by_id[user_id].get("enabled") for user_id in ids if user_id in by_id) if access == GIVEN else 0
    return Decision(
        action=action,
        targets=[_target(user_id, by_id.get(user_id), changes) for user_id in ids],
        enabled_users=len(enabled) + back,
        administrators=[user["id"] for user in enabled if is_administrator(user)],
        facts=facts,
        asked=asked,
        users=[(user["id"], user.get("email"), user.get("name")) for user in by_id.values()] if access else (),
    )


def undo(client: AhaClient, found: Sequence[Mapping[str, Any]], *, facts: Mapping[str, Any]) -> Decision:
    """Decide to enable exactly those again whom a run disabled, crash cases included.

    :param client: client of the account.
    :param found: the evidence of that run.
    :param facts: columns of the evidence that are the same for every user.
    :return: the decision; users who were changed since they were disabled will be refused.
    :raises AhaConfigurationError: when the evidence is of another account, or nobody was disabled.
    :raises AhaSnapshotError: when the evidence holds something else than this package writes.
    """
    accounts = {row["account"] for row in found} - {client.config.account}
    if accounts:
        raise AhaConfigurationError(
            f"This evidence is of account {', '.join(map(str, accounts))}, the connection is of "
            f"{client.config.account}."
        )
    try:
        disabled = {str(row["user_id"]): row for row in found if may_have_disabled(row)}
    except ValueError:
        raise AhaSnapshotError("This evidence was changed: a column of JSON holds something else.") from None
    if not disabled:
        raise AhaConfigurationError("By this evidence nobody was disabled, so there is nothing to undo.")
    plans = {row["plan_sha256"] for row in disabled.values()}
    facts = {**facts, "plan_sha256": plans.pop() if len(plans) == 1 else None}
    decision = decide(client, list(disabled), {"enabled": True}, action="reactivate", facts=facts)
    return replace(decision, targets=[_as_it_was(target, disabled[target.user_id]) for target in decision.targets])


def _as_it_was(target: Target, row: Mapping[str, Any]) -> Target:
    before, after = (json.loads(row[name] or "{}") for name in ("before_json", "after_json"))
    return replace(
        target,
        email=before.get("email"),
        is_administrator=is_administrator(before),
        updated_at=after.get("updated_at"),
        detail=f"undo of event {row['event_id']}",
    )


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
