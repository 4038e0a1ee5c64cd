"""What the decisions of a review leave to do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_aha.common.arrow import json_array, literal
from airflow_provider_aha.common.moments import days_between
from airflow_provider_aha.review.population import WORKSPACE, Access
from airflow_provider_aha.review.records import Review, decision_batches
from airflow_provider_aha.store.store import Store

KEEP, REVOKE_ACCOUNT, REVOKE_ROLE, DOWNGRADE, NOT_MINE = (
    "keep",
    "revoke account",
    "revoke role",
    "downgrade",
    "not mine",
)


CHOICES = (KEEP, REVOKE_ACCOUNT, REVOKE_ROLE, DOWNGRADE, NOT_MINE)


OPEN, WAITING, DONE = "open", "waiting for the next extract", "done"


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
    location: Store, reviews: Sequence[Review], access: Iterable[Access], synced_at: datetime
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


def revoked_accounts(location: Store, review: Review) -> list[tuple[str, str | None, str | None]]:
    """Return who is to lose the account by a submitted review, by whose decision, and why.

    :param location: the base path.
    :param review: the review.
    :return: user id, reviewers and notes, by user id; a user has several rows, and so may have several of each.
    """
    found: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for batch in decision_batches(location, review):
        revoked = pc.equal(batch.column("decision"), literal(REVOKE_ACCOUNT, pa.string()))
        for row in batch.filter(revoked).to_pylist():
            texts = found.setdefault(row["user_id"], ({}, {}))
            for seen, text in zip(texts, (row["reviewer"], row["note"]), strict=True):
                seen.update({text: None} if text else {})
    joined = {user_id: [("; ".join(one) or None) for one in texts] for user_id, texts in found.items()}
    return [(user_id, reviewers, notes) for user_id, (reviewers, notes) in sorted(joined.items())]


def _decisions(location: Store, review: Review, open_keys: Collection[str]) -> Iterator[dict[str, Any]]:
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
