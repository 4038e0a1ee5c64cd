"""Evidence: one row for each object that a run was asked to change, compacted from its journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq

from airflow_provider_aha.common.moments import read_moment
from airflow_provider_aha.exceptions import AhaRecordError
from airflow_provider_aha.record.journal import ACKNOWLEDGED, UNANSWERED, History, named
from airflow_provider_aha.store.store import Store, staging, storage_errors

FILE = "evidence.parquet"
_TIMESTAMP = pa.timestamp("us", tz="UTC")
_COLUMNS = (
    "event_id",
    "account",
    "user_id",
    "operation",
    "object",
    "email_at_decision",
    "class",
    "rule",
    "detail",
    "plan_sha256",
    "snapshot_sha256",
    "roster_sha256",
    "exclusions_sha256",
    "requested_by",
    "approved_by_id",
    "approved_by_name",
    "approved_at",
    "approval_mode",
    "ticket",
    "actor_user_id",
    "access",
    "wanted_json",
    "before_json",
    "after_json",
    "intent_at",
    "sent_at",
    "answered_at",
    "lands_by",
    "http_status",
    "request_id",
    "outcome",
    "proof",
    "reason",
    "verified_by",
    "leave_date",
    "left_at",
    "hours_to_disable",
    "dag_id",
    "run_id",
    "try_number",
    "provider_version",
)
_TYPES = {
    **dict.fromkeys(("approved_at", "intent_at", "sent_at", "answered_at", "lands_by", "left_at"), _TIMESTAMP),
    **dict.fromkeys(("http_status", "proof", "try_number"), pa.int32()),
    "hours_to_disable": pa.float64(),
}
EVIDENCE = pa.schema([pa.field(name, _TYPES.get(name, pa.string())) for name in _COLUMNS])


def rows(histories: Mapping[str, History]) -> list[dict[str, Any]]:
    """Fold a journal to one row per object: the event that proves the most; see :mod:`.journal`.

    :param histories: what the tries wrote, by key.
    :return: rows with the columns of :data:`EVIDENCE`, ordered by user id and object.
    """
    found = []
    for key in sorted(histories, key=_order):
        history = histories[key]
        if (event := history.strongest) is not None:
            row = {
                **event,
                **named(key),
                "outcome": history.word,
                "proof": history.proof,
                "reason": _reason(history),
                "lands_by": history.lands_by,
            }
            found.append({name: _value(name, row.get(name)) for name in EVIDENCE.names})
    return found


def _order(key: str) -> tuple[str, str]:
    user, _, place = key.partition(".")
    return user.removeprefix("u").zfill(20), place.zfill(21)


def _value(name: str, value: Any) -> Any:
    """Return a value as its column can hold it: one odd event must not cost the evidence of all others."""
    if _TYPES.get(name) != _TIMESTAMP:
        return value
    return value if read_moment(value, needs_offset=True) else None


def recorded_moment(text: object) -> datetime:
    """Return a moment of a record, UTC.

    :param text: the moment, as records hold it.
    :raises AhaSnapshotError: when it is none.
    """
    if (moment := read_moment(text)) is None:
        raise AhaRecordError("A record of this account holds a moment that is none: it was changed.")
    return moment


def _reason(history: History) -> str:
    """Say why; of a request whose answer isn't known also what the last look or refusal said."""
    event, last = history.strongest, history.last
    if event is None:
        return ""
    reason = str(event.get("reason") or "") if "outcome" in event else "an intent without an outcome"
    if history.proof in (UNANSWERED, ACKNOWLEDGED) and last is not None and last is not event:
        return f"{reason}; after that: {last['outcome']}, {last.get('reason') or 'without a reason'}"
    return reason


def write_evidence(location: Store, name: str, evidence: Sequence[Mapping[str, Any]]) -> bytes:
    """Write evidence as Parquet, replacing what an earlier try compacted.

    :param location: the base path.
    :param name: the file.
    :param evidence: rows of :func:`rows`.
    :return: the bytes that were written.
    :raises AhaStorageError: when it can't be written; the older file stays.
    """
    with staging() as folder, storage_errors(location.url_of(name)):
        local = folder / FILE
        pq.write_table(_table(evidence), local, compression="zstd")
        location.publish({name: local})
        return local.read_bytes()


def _table(evidence: Sequence[Mapping[str, Any]]) -> pa.Table:
    if not evidence:
        return pa.Table.from_batches([], EVIDENCE)
    # As JSON, because pa.array would load pandas; see airflow_provider_aha.datasets.users.
    body = b"\n".join(orjson.dumps(dict(row)) for row in evidence)
    read = pj.ReadOptions(use_threads=False, block_size=len(body) + 1)
    parse = pj.ParseOptions(explicit_schema=EVIDENCE, unexpected_field_behavior="error")
    return pj.read_json(pa.BufferReader(body), read_options=read, parse_options=parse)


def read_evidence(location: Store) -> list[dict[str, Any]]:
    """Read an evidence file.

    :param location: the file.
    :return: its rows; times as text, numbers as numbers.
    :raises AhaSnapshotError: when it is missing, cut short, or not evidence.
    """
    body = location.read()
    if body is None:
        raise AhaRecordError(f"There is no evidence at {location.url}.")
    try:
        with pq.ParquetFile(pa.BufferReader(body)) as file:
            if file.schema_arrow.names != EVIDENCE.names:
                raise AhaRecordError(f"{location.url} is Parquet, but not evidence of this package.")
            table = file.read()
    except (pa.ArrowException, OSError):
        raise AhaRecordError(f"{location.url} can't be read as Parquet: it was cut short or changed.") from None
    # Times as text: reading them as Python objects would load pandas.
    text = table.cast(
        pa.schema([pa.field(f.name, pa.string() if f.type == _TIMESTAMP else f.type) for f in EVIDENCE])
    )
    return list(text.to_pylist())
