"""What became of decisions: the runs that took access away, and what people have still to do by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any

from airflow_provider_aha.access.operations.user_fields import DISABLED, ENABLED
from airflow_provider_aha.common.moments import moment_of
from airflow_provider_aha.record.evidence import FILE, read_evidence
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import Location, list_files

_NEVER = ("dry_run", "unchanged")


@dataclass(frozen=True)
class Actions:
    """What runs of a period did.

    :param since: the first moment of the period; UTC.
    :param planned: users whom runs were to change.
    :param approved_by: names of those who approved.
    :param disabled: users who were disabled.
    :param blocked: users whom a guard held back for a person to look at.
    :param skipped: users who had changed since the plan.
    :param failed: users where it is unknown, or known to have failed.
    :param reactivated: users who were enabled again by a run.
    :param median_hours: half of those who left were disabled within so many hours after their last day.
    :param verified: disabled users whom a later extract shows as disabled.
    :param unverified: disabled users whom no later extract shows yet.
    :param came_back: disabled users whom a later extract shows as enabled, without a run having done it.
    """

    since: datetime
    planned: int
    approved_by: tuple[str, ...]
    disabled: int
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
        del figures["approved_by"]
        return {**figures, "since": self.since.isoformat(), "came_back": len(self.came_back)}


def read_actions(
    location: Location,
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
    last: dict[str, Mapping[str, Any]] = {}
    for row in sorted(rows, key=_moment):
        if row["outcome"] in (*DISABLED, *ENABLED):
            last[row["user_id"]] = row
    taken = {user_id: _moment(row) for user_id, row in last.items() if row["outcome"] in DISABLED}
    seen = {user_id for user_id, moment in taken.items() if moment < synced_at}
    enabled = enabled_among(seen)
    hours = [row["hours_to_disable"] for row in rows if row["hours_to_disable"] is not None]
    return Actions(
        since=since,
        planned=sum(count for outcome, count in outcomes.items() if outcome not in _NEVER),
        approved_by=tuple(sorted({str(row["approved_by_name"]) for row in rows if row["approved_by_name"]})),
        disabled=sum(outcomes[name] for name in DISABLED),
        blocked=outcomes["blocked"],
        skipped=outcomes["skipped"],
        failed=outcomes["failed"] + outcomes["unknown"] + outcomes["unverified"],
        reactivated=sum(outcomes[name] for name in ENABLED),
        median_hours=round(median(hours), 1) if hours else None,
        verified=len(seen - enabled),
        unverified=len(taken.keys() - seen),
        came_back=frozenset(enabled),
    )


def _evidence(location: Location, account: str) -> Iterable[dict[str, Any]]:
    folder = Layout(location.path, account).deactivations
    for path in list_files(location.fs, folder):
        if path.endswith(f"/{FILE}"):
            url = f"{location.url}{path.removeprefix(location.path)}"
            yield from (
                row for row in read_evidence(Location(location.fs, path, url)) if row["outcome"] != "dry_run"
            )


def _moment(row: Mapping[str, Any]) -> datetime:
    text = row["answered_at"] or row["intent_at"]
    return moment_of(text) if text else datetime.min.replace(tzinfo=UTC)
