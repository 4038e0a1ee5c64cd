"""What earlier snapshots, plans and evidence say about users: enabled again, flagged, absent from a roster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_aha.access.operations.user_fields import may_have_enabled
from airflow_provider_aha.access.plan.plan import POSTPONED, load_decisions
from airflow_provider_aha.common.arrow import literal, milliseconds, whole
from airflow_provider_aha.datasets.snapshot import open_dataset, read_manifest, snapshots
from airflow_provider_aha.exceptions import AhaSnapshotError
from airflow_provider_aha.lists.roster import Load
from airflow_provider_aha.record.register import recent_folders, written_rows
from airflow_provider_aha.record.run import account_path
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import (
    Location,
    create_once,
    list_files,
    parse_record,
    read_bytes,
    read_files,
    sha256,
    to_json,
)

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# A flag, or a load of a roster, that no plan has carried on for so long is forgotten: nobody remembers it.
_CARRIED_FOR = timedelta(days=90)
_ENABLED_WORD = literal("enabled", pa.string())
_FALSE = literal(False, pa.bool_())


@dataclass
class EnabledAgain:
    """Who was enabled again, and when at the latest.

    :param moments: by user id; UTC.
    :param unread: days whose snapshots should say it, but can't be read.
    """

    moments: dict[str, datetime] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    def note(self, user_id: str, moment: datetime) -> None:
        """Keep the latest moment of a user.

        :param user_id: the user.
        :param moment: when it was enabled, at the latest.
        """
        self.moments[user_id] = max(moment, self.moments.get(user_id, moment))


def enabled_again(location: Location, account: str, *, as_of: datetime, days: int) -> EnabledAgain:
    """Find out who was enabled again lately, from evidence and from the differences between snapshots.

    :param location: the base path.
    :param account: the account.
    :param as_of: the moment that counts as now.
    :param days: how many days to look back.
    :return: what is known.
    """
    found = EnabledAgain()
    since = as_of - timedelta(days=days)
    for user_id, moment in _in_evidence(location, account, as_of, days):
        if since <= moment <= as_of:
            found.note(user_id, moment)
    layout = Layout(location.path, account)
    earlier = None
    for day in snapshots(location.fs, layout):
        if since.date() <= date.fromisoformat(day) <= as_of.date():
            _from_snapshot(location.fs, layout, day, earlier, found)
        earlier = day
    return found


def _in_evidence(location: Location, account: str, as_of: datetime, days: int) -> Iterator[tuple[str, datetime]]:
    """Read journals and evidence: a run that died may have left the one, a store that lost files the other."""
    for folder in recent_folders(location.fs, account_path(location, account), as_of, days):
        for row in written_rows(location.fs, folder):
            try:
                enabled = may_have_enabled(row)
            except (AttributeError, TypeError, ValueError):
                raise AhaSnapshotError(
                    f"{folder} holds a record that was changed: a column of JSON is none."
                ) from None
            if enabled:
                yield str(row["user_id"]), _moment(row["answered_at"] or row["intent_at"])


def _from_snapshot(
    fs: AbstractFileSystem, layout: Layout, day: str, earlier: str | None, found: EnabledAgain
) -> None:
    try:
        manifest = read_manifest(fs, layout, day)
        moment = _moment(manifest["started_at"])
        if any(file["dataset"] == "user_changes" for file in manifest["files"]):
            ids = _enabled_in(fs, layout, manifest)
        elif earlier is not None:
            # This extract landed no changes: whoever was disabled before it may have been enabled since.
            ids = _disabled_in(fs, layout, read_manifest(fs, layout, earlier))
        else:
            ids = []
    except AhaSnapshotError:
        found.unread.append(day)
        return
    for user_id in ids:
        found.note(user_id, moment)


def _enabled_in(fs: AbstractFileSystem, layout: Layout, manifest: Mapping[str, Any]) -> list[str]:
    with open_dataset(fs, layout, manifest, "user_changes") as file:
        changes = whole(file, ["change", "user_id"])
    ids: list[str] = changes.filter(pc.equal(changes.column("change"), _ENABLED_WORD)).column("user_id").to_pylist()
    return ids


def _disabled_in(fs: AbstractFileSystem, layout: Layout, manifest: Mapping[str, Any]) -> list[str]:
    with open_dataset(fs, layout, manifest, "users") as file:
        users = whole(file, ["id", "is_enabled"])
    ids: list[str] = users.filter(pc.equal(users.column("is_enabled"), _FALSE)).column("id").to_pylist()
    return ids


@dataclass(frozen=True)
class Carried:
    """What the plans before this one say.

    :param flagged_since: since when users have been flagged.
    :param absent_since: since when users have been absent from the roster.
    :param load: the last accepted load of the roster.
    :param postponed: users whom the last plan has postponed, since the caps left no room for them.
    :param guards_were_set: whether the Variable ``aha_guards`` was set when the last plan was made.
    """

    flagged_since: Mapping[str, datetime] = field(default_factory=dict)
    absent_since: Mapping[str, datetime] = field(default_factory=dict)
    load: Load | None = None
    postponed: frozenset[str] = frozenset()
    guards_were_set: bool = False


def index_plan(fs: AbstractFileSystem, account_folder: str, plan_path: str, plan_sha256: str, header: Any) -> None:
    """Enter a plan where later plans look for it; entering it again changes nothing.

    :param fs: the account folder's filesystem.
    :param account_folder: the folder of the account's records.
    :param plan_path: the plan.
    :param plan_sha256: hash of its bytes.
    :param header: the plan's header.
    :raises AhaStorageError: when it can't be entered.
    """
    moment = _moment(header["as_of"])
    entry = {
        "as_of": header["as_of"],
        "plan": plan_path.removeprefix(f"{account_folder}/"),
        "plan_sha256": plan_sha256,
        "unused_rules": [rule["name"] for rule in header["policy"]["rules"] if rule["class"] == "unused"],
        "roster": (header["roster"] or {}).get("name"),
        "guards_set": bool(header["policy"].get("guards_set")),
    }
    path = f"{account_folder}/plans/{moment:%Y%m%dT%H%M%S%f}-{plan_sha256[:16]}.json"
    create_once(fs, path, to_json(entry))


def carried(
    location: Location, account: str, *, as_of: datetime, unused_rules: Sequence[str], roster: str | None
) -> Carried:
    """Read what earlier plans carry on: flags of the same rules, and the last load of the same roster.

    :param location: the base path.
    :param account: the account.
    :param as_of: the moment that counts as now; plans of later snapshots are passed over.
    :param unused_rules: names of the rules of class ``unused``.
    :param roster: name of the roster.
    :return: what the newest plans say that know of it.
    :raises AhaSnapshotError: when such a plan was changed after it was written.
    """
    fs, folder = location.fs, account_path(location, account)
    wanted, flagged, absent, load = set(unused_rules), None, None, None
    postponed: frozenset[str] = frozenset()
    recent = _entries(fs, folder, as_of)
    for entry in recent:
        use_flags = flagged is None and not wanted.isdisjoint(entry["unused_rules"])
        use_load = load is None and roster is not None and entry["roster"] == roster
        if not (use_flags or use_load):
            continue
        plan = _read_plan(fs, f"{folder}/{entry['plan']}", entry["plan_sha256"])
        if plan is None:
            continue
        header, decisions = plan
        if use_flags:
            flagged = _moments(decisions, "first_flagged_at")
            postponed = _postponed(decisions)
        if use_load:
            absent = _moments(decisions, "absent_since")
            load = Load(**{**header["roster"], "loaded_at": _moment(header["roster"]["loaded_at"])})
    guards_were_set = bool(recent and recent[0].get("guards_set"))
    return Carried(flagged or {}, absent or {}, load, postponed, guards_were_set)


def _entries(fs: AbstractFileSystem, folder: str, as_of: datetime) -> list[dict[str, Any]]:
    """Return the entries of recent plans, newest first."""
    index = f"{folder}/plans"
    oldest, newest = (f"{moment:%Y%m%dT%H%M%S%f}" for moment in (as_of - _CARRIED_FOR, as_of))
    paths = list_files(fs, index)
    recent = [path for path in paths if oldest <= path.rpartition("/")[2][: len(newest)] <= newest]
    return [parse_record(body, path) for path, body in read_files(fs, recent[::-1]).items()]


def _read_plan(fs: AbstractFileSystem, path: str, plan_sha256: str) -> tuple[dict[str, Any], pa.Table] | None:
    body = read_bytes(fs, path)
    if body is None:
        return None
    if sha256(body) != plan_sha256:
        raise AhaSnapshotError(
            f"{path} was changed after it was written, so it can't be said since when users have been flagged. No "
            "plan was made. Run python -m airflow_provider_aha.verify, and take the changed plan away."
        )
    header = parse_record(body, path)
    return header, load_decisions(fs, path, header)


def _postponed(decisions: pa.Table) -> frozenset[str]:
    those = pc.equal(decisions.column("decision"), literal(POSTPONED, pa.string()))
    return frozenset(decisions.filter(those).column("user_id").to_pylist())


def _moments(decisions: pa.Table, name: str) -> dict[str, datetime]:
    known = decisions.filter(pc.is_valid(decisions.column(name)))
    ids = known.column("user_id").to_pylist()
    return {
        user_id: datetime.fromtimestamp(moment / 1000, UTC)
        for user_id, moment in zip(ids, milliseconds(known.column(name)), strict=True)
        if moment is not None
    }


def _moment(text: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise AhaSnapshotError("A record of this account holds a moment that is none: it was changed.") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
