"""What became of decisions: the runs that took access away, and what people have still to do by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_aha.common.arrow import json_array, literal
from airflow_provider_aha.datasets.snapshot import days_between, moment_of
from airflow_provider_aha.record.evidence import DISABLED, ENABLED, FILE, read_evidence
from airflow_provider_aha.record.run import list_files
from airflow_provider_aha.review.population import WORKSPACE, Access
from airflow_provider_aha.review.records import Review, decision_batches
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import Location

KEEP, REVOKE_ACCOUNT, REVOKE_ROLE, DOWNGRADE, NOT_MINE = (
    "keep",
    "revoke account",
    "revoke role",
    "downgrade",
    "not mine",
)
CHOICES = (KEEP, REVOKE_ACCOUNT, REVOKE_ROLE, DOWNGRADE, NOT_MINE)
OPEN, WAITING, DONE = "open", "waiting for the next extract", "done"
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


@dataclass(frozen=True)
class Task:
    """Something that a review decided and that a later extract must show.

    :param review_id: which review.
    :param row_key: which row of it.
    :param user_id: whose.
    :param decision: what is to be done.
    :param where: the access, in words.
    :param decided_at: when the review was submitted; UTC.
    :param age_days: whole days since then.
    :param state: ``open``, ``waiting for the next extract`` or ``done``.
    """

    review_id: str
    row_key: str
    user_id: str
    decision: str
    where: str
    decided_at: datetime
    age_days: int
    state: str


def worklist(
    location: Location, reviews: Sequence[Review], access: Iterable[Access], synced_at: datetime
) -> list[Task]:
    """Compare what reviews decided with what is there now.

    A later review that decides about the same row replaces what an earlier one said.

    :param location: the base path.
    :param reviews: reviews, oldest first.
    :param access: the population of now.
    :param synced_at: when its snapshot was read; UTC.
    :return: one task per row with something to do, oldest first.
    """
    found: dict[str, tuple[Review, Mapping[str, Any]]] = {}
    for review in reviews:
        if review.submitted_at is not None:
            for row in _decisions(location, review, found.keys()):
                found.pop(row["row_key"], None)
                if row["decision"] != KEEP:
                    found[row["row_key"]] = review, row
    if not found:
        return []
    users = {row["user_id"] for _, row in found.values()}
    ranks = {row.key: row.role_rank for row in access if row.person.user_id in users}
    present = {key.partition(".")[0] for key in ranks}
    return [_task(review, row, ranks, present, synced_at) for review, row in found.values()]


def _decisions(location: Location, review: Review, open_keys: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield the decisions that leave something to do, and those that end what an earlier review left."""
    for batch in decision_batches(location, review):
        counts = pc.not_equal(batch.column("decision"), literal(KEEP, pa.string()))
        if open_keys:
            ends = pc.is_in(batch.column("row_key"), value_set=json_array(list(open_keys), pa.string()))
            counts = pc.or_(counts, ends)
        yield from batch.filter(counts).to_pylist()


def _task(
    review: Review,
    row: Mapping[str, Any],
    ranks: Mapping[str, int | None],
    present: set[str],
    synced_at: datetime,
) -> Task:
    decided_at = review.submitted_at or synced_at
    return Task(
        review_id=review.review_id,
        row_key=row["row_key"],
        user_id=row["user_id"],
        decision=row["decision"],
        where=", ".join(text for text in (row["role_name"], row["workspace_name"]) if text),
        decided_at=decided_at,
        age_days=max(0, days_between(decided_at, synced_at)),
        state=_state(row, ranks, present) if decided_at < synced_at else WAITING,
    )


def _state(row: Mapping[str, Any], ranks: Mapping[str, int | None], present: set[str]) -> str:
    if row["row_key"].partition(".")[0] not in present:
        return DONE
    if row["decision"] in (REVOKE_ACCOUNT, NOT_MINE):
        return OPEN
    if row["row_key"] in ranks:
        return OPEN
    return OPEN if _has_another(row, ranks) else DONE


def _has_another(row: Mapping[str, Any], ranks: Mapping[str, int | None]) -> bool:
    """Tell whether the role was replaced, in its workspace, by one that the decision doesn't allow either."""
    if row["kind"] != WORKSPACE:
        return False
    workspace = row["row_key"].rpartition(".r")[0]
    now = [rank or 0 for key, rank in ranks.items() if key.rpartition(".r")[0] == workspace]
    return any(row["decision"] == REVOKE_ROLE or rank <= (row["role_rank"] or 0) for rank in now)


def oldest(tasks: Iterable[Task]) -> int:
    """Return the age of the oldest task that isn't done, in days.

    :param tasks: tasks.
    """
    return max((task.age_days for task in tasks if task.state != DONE), default=0)
