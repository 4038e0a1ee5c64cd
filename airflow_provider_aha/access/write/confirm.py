"""What the next extract says of access that was taken, or may have been: it is gone, came back, or never went.

Evidence is written once, so each answer is a record of its own, in the folder of the task that looked: it has the
``event_id`` of the write that it is about, and is in the chain like any other.
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

from airflow_provider_aha.access.operations.base import GIVEN, TAKEN, State
from airflow_provider_aha.access.operations.registry import OPERATIONS, USER_FIELDS, WORKSPACE_ROLE
from airflow_provider_aha.access.operations.user_fields import may_have_disabled, may_have_done, may_have_enabled
from airflow_provider_aha.access.operations.workspace_role import NO_ROLE, workspace_of
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
    key_of,
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

# So long after access was taken is looked whether it came back.
WATCHED_DAYS = 90


@dataclass(frozen=True)
class _Taken:
    """A write that took access: its row of evidence, when it happened, and the folder of its task."""

    row: Mapping[str, Any] = field(repr=False)
    moment: datetime
    folder: str

    @property
    def event_id(self) -> str:
        return str(self.row["event_id"])

    @property
    def user_id(self) -> str:
        return str(self.row["user_id"])

    @property
    def is_role(self) -> bool:
        return bool(self.row["operation"] == WORKSPACE_ROLE)

    @property
    def wanted(self) -> State:
        """What the user was to have after it, as far as an extract shows it."""
        wanted: State = json.loads(self.row["wanted_json"])
        return wanted if self.is_role else {"enabled": False}

    @property
    def is_certain(self) -> bool:
        """Whether it is proven that the run did it."""
        return int(self.row["proof"]) >= AFTER_CRASH


@dataclass
class _Known:
    """What the records of the last weeks say, by object; and which answers were recorded, by event."""

    taken: dict[str, _Taken] = field(default_factory=dict)
    given: dict[str, datetime] = field(default_factory=dict)
    answers: set[tuple[str, str]] = field(default_factory=set)


def confirm(location: Store, account: str, run: Run, *, now: datetime) -> dict[str, Any]:
    """Look up in the newest snapshot the access that was taken before it was read, and record what it says.

    Access that is gone, perhaps with its user, is ``confirmed``. Access that is there, though this package hasn't
    given it, ``came_back`` where its end was proven; else it was ``not_done``. Each is recorded once for a write.

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
    waiting = {key: taken for key, taken in known.taken.items() if _is_watched(key, taken, known, read_at)}
    if waiting:
        digest = snapshot.sha256.get("users")
        _record(folder, run, waiting, _shown(snapshot, waiting), known, snapshot_sha256=digest, now=now)
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
                took, gave = _effect(row)
            except (AttributeError, TypeError, ValueError):
                raise AhaRecordError(
                    f"{location.url_of(folder)} holds a record that was changed: a column of JSON is none."
                ) from None
            if not (took or gave):
                continue
            key = key_of(row["user_id"], row["object"])
            moment = evidence.recorded_moment(row["answered_at"] or row["intent_at"])
            if gave:
                known.given[key] = max(moment, known.given.get(key, moment))
            elif key not in known.taken or known.taken[key].moment < moment:
                known.taken[key] = _Taken(row, moment, folder)
    return known


def _effect(row: Mapping[str, Any]) -> tuple[bool, bool]:
    """Tell whether a write took, or may have taken, access that an extract shows; and whether it gave some."""
    if row["operation"] != WORKSPACE_ROLE:
        return may_have_disabled(row), may_have_enabled(row)
    wanted, before = (json.loads(row[name] or "{}") for name in ("wanted_json", "before_json"))
    access = OPERATIONS[WORKSPACE_ROLE].access(wanted, before) if may_have_done(row) else None
    return access == TAKEN, access == GIVEN


def _is_watched(key: str, taken: _Taken, known: _Known, read_at: datetime) -> bool:
    ours = key in known.given and known.given[key] > taken.moment
    return taken.moment < read_at and not ours and (taken.event_id, CAME_BACK) not in known.answers


def _shown(snapshot: Snapshot, waiting: Mapping[str, _Taken]) -> dict[str, State | None]:
    """Return what the snapshot shows, by key; None: the user is gone."""
    ids = list({taken.user_id for taken in waiting.values()})
    users = _of_users(snapshot, "users", ["id", "is_enabled", "workspace_count"], ids)
    flags = {row["id"]: row for row in users.to_pylist()}
    roles: dict[tuple[str, str], str] = {}
    if any(taken.is_role for taken in waiting.values()):
        columns = ["user_id", "role_kind", "workspace_id", "role"]
        found = _of_users(snapshot, "user_roles", columns, ids).to_pylist()
        roles = {
            (row["user_id"], row["workspace_id"]): row["role"] for row in found if row["role_kind"] == "workspace"
        }
    shown: dict[str, State | None] = {}
    for key, taken in waiting.items():
        user = flags.get(taken.user_id)
        if user is None:
            shown[key] = None
        elif not taken.is_role:
            shown[key] = {"enabled": user["is_enabled"]}
        elif user["workspace_count"] is None:
            # Aha! left this user's roles out: that is not to have none.
            shown[key] = {}
        else:
            place = workspace_of(str(taken.row["object"]))
            shown[key] = {"role": roles.get((taken.user_id, place), NO_ROLE)}
    return shown


def _of_users(snapshot: Snapshot, name: str, columns: list[str], ids: list[str]) -> pa.Table:
    table = snapshot.table(name, columns)
    return table.filter(pc.is_valid(pc.index_in(table.column(columns[0]), value_set=json_array(ids, pa.string()))))


def _record(
    folder: RunFolder,
    run: Run,
    waiting: Mapping[str, _Taken],
    shown: Mapping[str, State | None],
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
    for key, taken in waiting.items():
        answer = _answer(taken, shown[key])
        if answer is not None and (taken.event_id, answer["outcome"]) not in known.answers:
            where = taken.folder.removeprefix(f"{folder.account_path}/")
            new.append((key, {**taken.row, **facts, **answer, "detail": f"changed in {where}"}))
    if not new:
        return
    entry = register(folder, now, [event["user_id"] for _, event in new])
    journal = Journal(folder, run.try_number)
    for key, event in new:
        journal.outcome(key, {**event, "answered_at": timestamp()})
    evidence.write_evidence(folder.location, f"{folder.path}/{evidence.FILE}", evidence.rows(journal.histories()))
    sign_off(folder, entry)


def _answer(taken: _Taken, shown: State | None) -> dict[str, Any] | None:
    """Say what the snapshot makes of a write; None: nothing that would be known."""
    if shown is None:
        reason = "the account's list doesn't show the user any more"
        return {"outcome": CONFIRMED, "reason": reason, "verified_by": "next_extract", "after_json": None}
    operation = OPERATIONS[WORKSPACE_ROLE if taken.is_role else USER_FIELDS]
    compared = operation.compare(taken.wanted, shown)
    after = json.dumps(shown)
    # Even less than what was left counts as well.
    if compared.done or (compared.wrong and operation.access(taken.wanted, shown) != TAKEN):
        return {"outcome": CONFIRMED, "reason": "", "verified_by": "next_extract", "after_json": after}
    if compared.hidden:
        return None
    now = f"role {shown['role']}" if taken.is_role else "enabled"
    word, reason = CAME_BACK, f"{now} again, and not by this package"
    if not taken.is_certain:
        word, reason = NOT_DONE, f"still {now}: Aha! has not done what was asked for ({taken.row['outcome']})"
    return {"outcome": word, "reason": reason, "verified_by": None, "after_json": after}
