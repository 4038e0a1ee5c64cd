"""What became of decisions: the runs that took, gave or changed access, and who came back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any

from airflow_provider_aha.access.operations.base import PRIVILEGED
from airflow_provider_aha.access.operations.user_fields import effects
from airflow_provider_aha.common.moments import moment_of
from airflow_provider_aha.record.evidence import FILE, read_evidence
from airflow_provider_aha.record.journal import ACKNOWLEDGED, CAME_BACK, CONFIRMED, NOT_DONE
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import Store

# What no run was to change, or what a later extract says of it.
_NEVER = ("dry_run", "unchanged", CONFIRMED, CAME_BACK, NOT_DONE)


@dataclass(frozen=True)
class Actions:
    """What runs of a period did.

    :param since: the first moment of the period; UTC.
    :param planned: users whom runs were to change.
    :param requested_by: who started these runs; logins, or the schedule.
    :param approved_by: names of those who approved.
    :param disabled: users who were disabled, by whatever operator.
    :param emails_changed: users who got another email.
    :param rights_granted: users who got an administrator right.
    :param rights_revoked: users who lost an administrator right.
    :param others: users of whom only something else was changed, such as the name.
    :param blocked: users whom a guard held back for a person to look at, and leavers who were struck out.
    :param skipped: users who had changed since the plan, or were struck out.
    :param failed: users where it is unknown, or known to have failed.
    :param reactivated: users who were enabled again by a run.
    :param median_hours: half of those who left were disabled within so many hours after their last day.
    :param verified: disabled users whom a later extract shows as disabled.
    :param unverified: disabled users whom no later extract shows yet.
    :param came_back: disabled users whom a later extract shows as enabled, without a run having done it.
    """

    since: datetime
    planned: int
    requested_by: tuple[str, ...]
    approved_by: tuple[str, ...]
    disabled: int
    emails_changed: int
    rights_granted: int
    rights_revoked: int
    others: int
    blocked: int
    skipped: int
    failed: int
    reactivated: int
    median_hours: float | None
    verified: int
    unverified: int
    came_back: frozenset[str]

    def to_json(self) -> dict[str, Any]:
        """Return the figures, without names."""
        figures = asdict(self)
        del figures["requested_by"], figures["approved_by"]
        return {**figures, "since": self.since.isoformat(), "came_back": len(self.came_back)}


def read_actions(
    location: Store,
    account: str,
    *,
    since: datetime,
    synced_at: datetime,
    enabled_among: Callable[[set[str]], set[str]],
) -> Actions:
    """Sum up the evidence of a period.

    :param location: the base path.
    :param account: the account.
    :param since: the first moment of the period; UTC.
    :param synced_at: when the snapshot was read; UTC.
    :param enabled_among: of some ids, returns those of users who may sign in by the snapshot.
    :raises AhaSnapshotError: when evidence can't be read.
    """
    rows = [row for row in _evidence(location, account) if _moment(row) >= since]
    outcomes = Counter(str(row["outcome"]) for row in rows)
    changed = (row for row in rows if row["outcome"] not in _NEVER and row["proof"] >= ACKNOWLEDGED)
    done = [(row, _done(row)) for row in sorted(changed, key=_moment)]
    counts = Counter(what for _, found in done for what in found)
    last = {row["user_id"]: row for row, found in done if found & {"disabled", "enabled"}}
    taken = {user_id: _moment(row) for user_id, row in last.items() if "disabled" in _done(row)}
    seen = {user_id for user_id, moment in taken.items() if moment < synced_at}
    enabled = enabled_among(seen)
    hours = [row["hours_to_disable"] for row in rows if row["hours_to_disable"] is not None]
    hidden = sum(row["outcome"] == "unverified" and not found for row, found in done)
    return Actions(
        since=since,
        planned=sum(count for outcome, count in outcomes.items() if outcome not in _NEVER),
        requested_by=_names(rows, "requested_by"),
        approved_by=_names(rows, "approved_by_name"),
        disabled=counts["disabled"],
        emails_changed=counts["email_changed"],
        rights_granted=counts["rights_granted"],
        rights_revoked=counts["rights_revoked"],
        others=counts["other"],
        blocked=outcomes["blocked"],
        skipped=outcomes["skipped"],
        failed=outcomes["failed"] + outcomes["unknown"] + hidden,
        reactivated=counts["enabled"],
        median_hours=round(median(hours), 1) if hours else None,
        verified=len(seen - enabled),
        unverified=len(taken.keys() - seen),
        came_back=frozenset(enabled),
    )


def _done(row: Mapping[str, Any]) -> set[str]:
    """Say what a run did to a user; nothing where the answer doesn't show whether access was changed."""
    before, after = (json.loads(row[name] or "{}") for name in ("before_json", "after_json"))
    found = effects(before, after)
    return found or ({"other"} if set(PRIVILEGED) <= after.keys() else set())


def _names(rows: Iterable[Mapping[str, Any]], column: str) -> tuple[str, ...]:
    counted = (row for row in rows if row["outcome"] not in _NEVER)
    return tuple(sorted({str(row[column]) for row in counted if row[column]}))


def _evidence(location: Store, account: str) -> Iterable[dict[str, Any]]:
    for name in location.files(Layout(account).access):
        if name.endswith(f"/{FILE}"):
            rows = read_evidence(location.within(name))
            yield from (row for row in rows if row["outcome"] != "dry_run")


def _moment(row: Mapping[str, Any]) -> datetime:
    text = row["answered_at"] or row["intent_at"]
    return moment_of(text) if text else datetime.min.replace(tzinfo=UTC)
