"""From a plan to a decision: of the right account, and fresh enough."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_aha.access.plan.plan import Decision, Plan, decision_of
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaGuardError

AS_OF = datetime(2026, 3, 10, 3, 40, tzinfo=UTC)
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)


def decide(now: datetime, *, made: datetime = AS_OF, **more: Any) -> Decision:
    header = {
        "account": "acme",
        "action": "deactivate",
        "created_at": made.isoformat(),
        "as_of": AS_OF.isoformat(),
        "enabled_users": 7,
        "administrators": [{"user_id": "1"}],
        "workspace_owners": {},
        "snapshot": {"sha256": {"users": "ab"}},
        "policy": {},
        "roster_sha256": None,
        "exclusions_sha256": None,
    }
    given: dict[str, Any] = {"account": "acme", "strike_out": {}, "facts": {}, **more}
    return decision_of(Plan("/plan.json", "cd", header, ()), now=now, **given)


def test_a_plan_counts_for_48_hours_after_its_snapshot_was_read():
    assert decide(AS_OF + 48 * HOUR).enabled_users == 7
    with pytest.raises(AhaGuardError, match=r"older than 48 hours.*Nothing was done"):
        decide(AS_OF + 48 * HOUR + SECOND)


def test_making_a_plan_of_an_old_snapshot_makes_it_no_younger():
    """Else a snapshot of yesterday and a plan of yesterday would be three days of what nobody has looked at."""
    with pytest.raises(AhaGuardError, match="2026-03-10"):
        decide(AS_OF + 49 * HOUR, made=AS_OF + 24 * HOUR)


def test_a_plan_of_the_future_is_refused_but_for_what_clocks_differ_by():
    decide(AS_OF - timedelta(minutes=10))
    with pytest.raises(AhaGuardError, match="of the future"):
        decide(AS_OF - timedelta(minutes=10) - SECOND)


def test_a_plan_of_another_account_is_refused():
    with pytest.raises(AhaConfigurationError, match="of account acme, the connection of other"):
        decide(AS_OF, account="other")
