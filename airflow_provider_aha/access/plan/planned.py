"""From a plan to a decision: what must be true of the plan before anybody on it is touched."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_aha.access.plan.plan import Plan, PlanRow
from airflow_provider_aha.access.write.carry_out import Decision, Target
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaGuardError

# What a plan knows of people is as old as its snapshot: a day may pass until somebody is asked and answers, and
# the answer holds for a day.
_FRESH_FOR = timedelta(hours=48)
_CLOCKS_DIFFER = timedelta(minutes=10)


def decision_of(
    plan: Plan, *, account: str, strike_out: Collection[str], facts: Mapping[str, Any], now: datetime
) -> Decision:
    """Turn a plan into a decision.

    :param plan: the plan, read and found whole.
    :param account: the account of the connection.
    :param strike_out: ids that the person who approved took off the plan; others than the plan's are ignored.
    :param facts: columns of the evidence that are the same for every user: approval and ticket.
    :param now: this moment; UTC.
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
    return Decision(
        action="deactivate",
        targets=[_target(row) for row in plan.rows if row.user_id not in strike_out],
        enabled_users=plan.enabled_users,
        administrators=[entry["user_id"] for entry in plan.administrators],
        facts={
            **facts,
            "plan_sha256": plan.sha256,
            "snapshot_sha256": plan.header["snapshot"].get("sha256", {}).get("users"),
            "roster_sha256": plan.header["roster_sha256"],
            "exclusions_sha256": plan.header["exclusions_sha256"],
        },
    )


def _target(row: PlanRow) -> Target:
    seen = ", seen_after_leave" if row.seen_after_leave else ""
    return Target(
        user_id=row.user_id,
        changes={"enabled": False},
        email=row.email,
        user_class=row.user_class,
        rule=row.rule,
        detail=f"{row.detail}{seen}",
        accessed_at=row.accessed_at,
        is_administrator=row.is_administrator,
        leave_date=row.left_at or row.leave_date,
    )
