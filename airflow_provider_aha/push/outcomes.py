"""The outcome of each record, as Parquet: what was and what wasn't sent, and why."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from airflow_provider_aha.datasets.schemas import TIMESTAMP
from airflow_provider_aha.push.targets.base import ADDED, FAILED, REJECTED, SENT, SKIPPED, UNCHANGED, UPDATED

INVALID, PLANNED = "invalid", "planned"
# In the order in which they are told.
STATUSES = (ADDED, UPDATED, SENT, UNCHANGED, SKIPPED, INVALID, REJECTED, FAILED, PLANNED)

OUTCOMES = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("sync_key", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("expected", pa.string()),
        pa.field("field", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("code", pa.string()),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("sent_at", TIMESTAMP),
        pa.field("try_number", pa.int32()),
        pa.field("batch_id", pa.string()),
        pa.field("record_hash", pa.string()),
    ]
)


def in_order(counts: dict[str, int]) -> dict[str, int]:
    """Return counts by status in the order in which they are told, without the empty ones.

    :param counts: counts by status.
    """
    return {status: counts[status] for status in STATUSES if counts.get(status)}


def totals(counts: Any) -> str:
    """Say counts in words.

    :param counts: counts by status.
    """
    return ", ".join(f"{count} {status}" for status, count in in_order(dict(counts)).items()) or "nothing"
