"""What the next extract says of those whose access was taken, or may have been: disabled, back, or never disabled.

Evidence is written once, so each answer is a record of its own, in the folder of the task that looked: it has the
``event_id`` of the deactivation that it is about, and is in the chain like any other.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_aha.access.operations.user_fields import may_have_disabled, may_have_enabled
from airflow_provider_aha.common.arrow import json_array
from airflow_provider_aha.common.moments import timestamp
from airflow_provider_aha.datasets.snapshot import Snapshot
from airflow_provider_aha.exceptions import AhaRecordError
from airflow_provider_aha.record import evidence
from airflow_provider_aha.record.chain import close_try
from airflow_provider_aha.record.journal import (
    AFTER_CRASH,
    CAME_BACK,
    CONFIRMED,
    NONE,
    NOT_DONE,
    Journal,
    histories,
)
from airflow_provider_aha.record.register import (
    files_elsewhere,
    recent_folders,
    register,
    sign_off,
    written_rows,
)
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.store.store import Store
from airflow_provider_aha.version import package_version

log = logging.getLogger(__name__)

# So long after a deactivation is looked whether the user came back.
WATCHED_DAYS = 90


@dataclass(frozen=True)
class _Taken:
    """A deactivation: its row of evidence, when it happened, and the folder of its task."""

    row: Mapping[str, Any] = field(repr=False)
    moment: datetime
    folder: str

    @property
    def event_id(self) -> str:
        return str(self.row["event_id"])

    @property
    def is_certain(self) -> bool:
        """Whether it is proven that the run disabled the user."""
        return int(self.row["proof"]) >= AFTER_CRASH


@dataclass
class _Known:
    """What the records of the last weeks say, by user id; and which answers were recorded, by event."""

    taken: dict[str, _Taken] = field(default_factory=dict)
    given: dict[str, datetime] = field(default_factory=dict)
    answers: set[tuple[str, str]] = field(default_factory=set)


def confirm(location: Store, account: str, run: Run, *, now: datetime) -> dict[str, Any]:
    """Look those up in the newest snapshot whose access was taken before it was read, and record what it says.

    Who is disabled, or not in the account any more, is ``confirmed``. Who is enabled, though this package hasn't
    enabled them, ``came_back`` where the deactivation was proven; else it was ``not_done``. Each is recorded once
    for each deactivation.

    :param location: the base path.
    :param account: the account.
    :param run: the task instance.
    :param now: this moment; UTC.
    :return: ``account``, ``snapshot``, and what this task has recorded, in all of its tries: how many
        ``confirmed``, the ids of those who ``came_back`` and of whom it was ``not_done``; ``looked_up`` counts
        everybody.
    :raises AhaSnapshotError: when there is no snapshot, or it isn't whole.
    :raises AhaStorageError: when the records can't be read or written.
    """
    snapshot = Snapshot.newest(location, account)
    read_at = snapshot.read_at("users")
    folder = RunFolder(location, account, run)
    known = _read(location, account, now)
    waiting = {
        user_id: taken for user_id, taken in known.taken.items() if _is_watched(user_id, taken, known, read_at)
    }
    if waiting:
        enabled = _enabled(snapshot, list(waiting))
        digest = snapshot.sha256.get("users")
        _record(folder, run, waiting, enabled, known, snapshot_sha256=digest, now=now)
    rows = evidence.rows(histories(location, f"{folder.path}/events"))
    named = {word: [row["user_id"] for row in rows if row["outcome"] == word] for word in (CAME_BACK, NOT_DONE)}
    result = {
        "account": account,
        "snapshot": snapshot.day,
        "looked_up": len(waiting),
        CONFIRMED: sum(row["outcome"] == CONFIRMED for row in rows),
        **named,
    }
    if waiting or rows:
        about = {"action": "confirm", "ended": "completed", "sandbox": snapshot.sandbox, **result}
        close_try(folder, {**about, **asdict(run)}, files_elsewhere(folder, now))
    return result


def _read(location: Store, account: str, now: datetime) -> _Known:
    known = _Known()
    for folder in recent_folders(location, account, now, WATCHED_DAYS):
        for row in written_rows(location, folder):
            if row["outcome"] in (CONFIRMED, CAME_BACK, NOT_DONE):
                known.answers.add((row["event_id"], row["outcome"]))
                continue
            try:
                disabled, enabled = may_have_disabled(row), may_have_enabled(row)
            except (AttributeError, TypeError, ValueError):
                raise AhaRecordError(
                    f"{location.url_of(folder)} holds a record that was changed: a column of JSON is none."
                ) from None
            if not (disabled or enabled):
                continue
            user_id, moment = str(row["user_id"]), evidence.recorded_moment(row["answered_at"] or row["intent_at"])
            if enabled:
                known.given[user_id] = max(moment, known.given.get(user_id, moment))
            elif user_id not in known.taken or known.taken[user_id].moment < moment:
                known.taken[user_id] = _Taken(row, moment, folder)
    return known


def _is_watched(user_id: str, taken: _Taken, known: _Known, read_at: datetime) -> bool:
    ours = user_id in known.given and known.given[user_id] > taken.moment
    return taken.moment < read_at and not ours and (taken.event_id, CAME_BACK) not in known.answers


def _enabled(snapshot: Snapshot, ids: list[str]) -> dict[str, bool | None]:
    users = snapshot.table("users", ["id", "is_enabled"])
    users = users.filter(pc.is_valid(pc.index_in(users.column("id"), value_set=json_array(ids, pa.string()))))
    return dict(zip(users.column("id").to_pylist(), users.column("is_enabled").to_pylist(), strict=True))


def _record(
    folder: RunFolder,
    run: Run,
    waiting: Mapping[str, _Taken],
    enabled: Mapping[str, bool | None],
    known: _Known,
    *,
    snapshot_sha256: str | None,
    now: datetime,
) -> None:
    facts = {
        "snapshot_sha256": snapshot_sha256,
        "dag_id": run.dag_id,
        "run_id": run.run_id,
        "provider_version": package_version(),
        "hours_to_disable": None,
        # It proves nothing of its own, so that no cap counts it.
        "proof": NONE,
        "intent": None,
    }
    new = []
    for user_id, taken in waiting.items():
        answer = _answer(taken, user_id in enabled, enabled.get(user_id))
        if answer is not None and (taken.event_id, answer["outcome"]) not in known.answers:
            where = taken.folder.removeprefix(f"{folder.account_path}/")
            new.append((user_id, {**taken.row, **facts, **answer, "detail": f"deactivated in {where}"}))
    if not new:
        return
    entry = register(folder, now, [user_id for user_id, _ in new])
    journal = Journal(folder, run.try_number)
    for user_id, event in new:
        journal.outcome(user_id, {**event, "answered_at": timestamp()})
    evidence.write_evidence(folder.location, f"{folder.path}/{evidence.FILE}", evidence.rows(journal.histories()))
    sign_off(folder, entry)


def _answer(taken: _Taken, is_listed: bool, is_enabled: bool | None) -> dict[str, Any] | None:
    """Say what the snapshot makes of a deactivation; None: nothing that would be known."""
    if not is_listed:
        reason = "the account's list doesn't show the user any more"
        return {"outcome": CONFIRMED, "reason": reason, "verified_by": "next_extract", "after_json": None}
    after = json.dumps({"enabled": is_enabled})
    if is_enabled is False:
        return {"outcome": CONFIRMED, "reason": "", "verified_by": "next_extract", "after_json": after}
    if not is_enabled:
        return None
    word, reason = CAME_BACK, "enabled again, and not by this package"
    if not taken.is_certain:
        word, reason = NOT_DONE, f"still enabled: Aha! has not done what was asked for ({taken.row['outcome']})"
    return {"outcome": word, "reason": reason, "verified_by": None, "after_json": after}
