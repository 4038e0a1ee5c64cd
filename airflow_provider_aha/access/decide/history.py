"""What earlier snapshots, plans and evidence say about users: enabled again, flagged, absent from a roster."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_aha.access.operations.user_fields import may_have_enabled
from airflow_provider_aha.access.plan.plan import POSTPONED, Plan, load_beside, load_decisions
from airflow_provider_aha.common.arrow import array_of, literal, milliseconds, values_of
from airflow_provider_aha.datasets import schemas
from airflow_provider_aha.datasets.snapshot import Snapshot, snapshot_days
from airflow_provider_aha.exceptions import AhaRecordError, AhaSnapshotError
from airflow_provider_aha.lists.roster import Known, Load
from airflow_provider_aha.record.evidence import recorded_moment
from airflow_provider_aha.record.register import recent_folders, written_rows
from airflow_provider_aha.record.run import account_path
from airflow_provider_aha.store.store import Store, parse_record, sha256, to_json

# A flag that no plan has carried on for so long is forgotten: nobody remembers it.
_FLAGGED_FOR = timedelta(days=90)
# So many entries are read at a time: mostly the newest have all that is looked for.
_ENTRIES = 20
KNOWN_FILE = "roster-known.parquet"
KNOWN = pa.schema(
    [
        pa.field("roster", pa.string(), nullable=False),
        pa.field("address", pa.string(), nullable=False),
        pa.field("keys", pa.list_(pa.string()), nullable=False),
        pa.field("employed_at", schemas.TIMESTAMP),
        pa.field("missing_since", schemas.TIMESTAMP),
    ]
)
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


def enabled_again(location: Store, account: str, *, as_of: datetime, days: int) -> EnabledAgain:
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
    earlier = None
    for day in snapshot_days(location, account):
        if since.date() <= date.fromisoformat(day) <= as_of.date():
            _from_snapshot(location, account, day, earlier, found)
        earlier = day
    return found


def _in_evidence(location: Store, account: str, as_of: datetime, days: int) -> Iterator[tuple[str, datetime]]:
    """Read journals and evidence: a run that died may have left the one, a store that lost files the other."""
    for folder in recent_folders(location, account, as_of, days):
        for row in written_rows(location, folder):
            try:
                enabled = may_have_enabled(row)
            except (AttributeError, TypeError, ValueError):
                raise AhaRecordError(
                    f"{location.url_of(folder)} holds a record that was changed: a column of JSON is none."
                ) from None
            if enabled:
                yield str(row["user_id"]), recorded_moment(row["answered_at"] or row["intent_at"])


def _from_snapshot(location: Store, account: str, day: str, earlier: str | None, found: EnabledAgain) -> None:
    try:
        snapshot = Snapshot.of(location, account, day)
        moment = snapshot.synced_at
        if "user_changes" in snapshot.sha256:
            changes = snapshot.table("user_changes", ["change", "user_id"])
            ids = changes.filter(pc.equal(changes.column("change"), _ENABLED_WORD)).column("user_id").to_pylist()
        elif earlier is not None:
            # This extract landed no changes: whoever was disabled before it may have been enabled since.
            users = Snapshot.of(location, account, earlier).table("users", ["id", "is_enabled"])
            ids = users.filter(pc.equal(users.column("is_enabled"), _FALSE)).column("id").to_pylist()
        else:
            ids = []
    except AhaSnapshotError:
        found.unread.append(day)
        return
    for user_id in ids:
        found.note(user_id, moment)


@dataclass(frozen=True)
class Carried:
    """What the plans before this one say.

    :param flagged_since: since when users have been flagged.
    :param loads: the last accepted load of each roster, by its name.
    :param known: what the loads of each roster so far say about addresses, by its name.
    :param postponed: users whom the last plan has postponed, since the caps left no room for them.
    :param guards_were_set: whether the Variable ``aha_guards`` was set when the last plan was made.
    """

    flagged_since: Mapping[str, datetime] = field(default_factory=dict)
    loads: Mapping[str, Load] = field(default_factory=dict)
    known: Mapping[str, Mapping[str, Known]] = field(default_factory=dict)
    postponed: frozenset[str] = frozenset()
    guards_were_set: bool = False


def index_plan(location: Store, account: str, plan: Plan, name: str) -> None:
    """Enter a plan where later plans look for it; entering it again changes nothing.

    :param location: the base path.
    :param account: the account.
    :param plan: the plan.
    :param name: its name below the base path.
    :raises AhaStorageError: when it can't be entered.
    """
    header, folder = plan.header, account_path(account)
    entry = {
        "as_of": header["as_of"],
        "plan": name.removeprefix(f"{folder}/"),
        "plan_sha256": plan.sha256,
        "dag_id": header["dag_id"],
        "created_at": header["created_at"],
        "unused_rules": [rule["name"] for rule in header["policy"]["rules"] if rule["class"] == "unused"],
        "rosters": [roster["name"] for roster in header["rosters"]],
        "guards_set": bool(header["policy"].get("guards_set")),
    }
    location.create(f"{folder}/plans/{plan.as_of:%Y%m%dT%H%M%S%f}-{plan.sha256[:16]}.json", to_json(entry))


def carried(
    location: Store, account: str, *, as_of: datetime, unused_rules: Sequence[str], rosters: Sequence[str]
) -> Carried:
    """Read what earlier plans carry on: flags of the same rules, and the last load of the same rosters.

    :param location: the base path.
    :param account: the account.
    :param as_of: the moment that counts as now; plans of later snapshots are passed over.
    :param unused_rules: names of the rules of class ``unused``.
    :param rosters: names of the rosters.
    :return: what the newest plans say that know of it.
    :raises AhaSnapshotError: when such a plan was changed after it was written.
    """
    folder = location.within(account_path(account))
    flagged: dict[str, datetime] | None = None if unused_rules else {}
    postponed: frozenset[str] = frozenset()
    guards_were_set: bool | None = None
    loads: dict[str, Load] = {}
    known: dict[str, dict[str, Known]] = {}
    for entry in _entries(folder, as_of):
        if guards_were_set is None:
            guards_were_set = bool(entry.get("guards_set"))
        if flagged is None and as_of - recorded_moment(entry["as_of"]) > _FLAGGED_FOR:
            flagged = {}
        if flagged is not None and loads.keys() >= set(rosters):
            break
        use_flags = flagged is None and not set(unused_rules).isdisjoint(entry["unused_rules"])
        use_loads = set(entry["rosters"]) & set(rosters) - loads.keys()
        if not (use_flags or use_loads):
            continue
        place = folder.within(entry["plan"])
        plan = _read_plan(place, entry["plan_sha256"])
        if plan is None:
            continue
        header, decisions = plan
        if use_flags:
            flagged = _moments(decisions, "first_flagged_at")
            postponed = _postponed(decisions)
        if use_loads:
            loads |= {load.name: load for load in _loads(header) if load.name in use_loads}
            known |= _read_known(place, header, use_loads)
    return Carried(flagged or {}, loads, known, postponed, bool(guards_were_set))


def last_plan(location: Store, account: str, dag_id: str, as_of: datetime) -> dict[str, Any] | None:
    """Read the header of the last plan that a DAG made for an account; None if it made none.

    :param location: the base path.
    :param account: the account.
    :param dag_id: the DAG.
    :param as_of: the moment that counts as now; plans of later snapshots are passed over.
    :raises AhaSnapshotError: when it was changed after it was written.
    """
    folder, last = location.within(account_path(account)), None
    for entry in _entries(folder, as_of):
        if last is not None and entry["as_of"] != last["as_of"]:
            break
        # Of several plans that stand on one snapshot, the one that was made last.
        if entry.get("dag_id") == dag_id and (last is None or entry["created_at"] > last["created_at"]):
            last = entry
    return last and _read_header(folder.within(last["plan"]), last["plan_sha256"])


def _loads(header: Mapping[str, Any]) -> Iterator[Load]:
    for roster in header["rosters"]:
        given = {name: roster[name] for name in Load.__dataclass_fields__}
        yield Load(**{**given, "loaded_at": recorded_moment(roster["loaded_at"])})


def known_table(known: Mapping[str, Mapping[str, Known]]) -> pa.Table:
    """Return what is known of addresses, as it is kept beside a plan.

    :param known: by roster and address.
    """
    rows = [(name, address, *one) for name, addresses in known.items() for address, one in addresses.items()]
    columns = list(zip(*rows, strict=True)) or [()] * len(KNOWN)
    arrays = [array_of(values, kind) for values, kind in zip(columns, KNOWN.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=KNOWN)


def _read_known(place: Store, header: Mapping[str, Any], names: Collection[str]) -> dict[str, dict[str, Known]]:
    table = load_beside(place, header, header["roster_known"])
    found: dict[str, dict[str, Known]] = {name: {} for name in names}
    columns = (values_of(table.column(name)) for name in KNOWN.names)
    for name, address, keys, employed_at, missing_since in zip(*columns, strict=True):
        if name in found:
            found[name][address] = Known(tuple(keys), employed_at, missing_since)
    return found


def _entries(folder: Store, as_of: datetime) -> Iterator[dict[str, Any]]:
    """Yield the entries of earlier plans, newest first."""
    newest = f"{as_of:%Y%m%dT%H%M%S%f}"
    names = [name for name in folder.files("plans") if name.rpartition("/")[2][: len(newest)] <= newest]
    names.reverse()
    for start in range(0, len(names), _ENTRIES):
        bodies = folder.read_many(names[start : start + _ENTRIES])
        yield from (parse_record(body, folder.url_of(name)) for name, body in bodies.items())


def _read_plan(place: Store, plan_sha256: str) -> tuple[dict[str, Any], pa.Table] | None:
    header = _read_header(place, plan_sha256)
    return None if header is None else (header, load_decisions(place, header))


def _read_header(place: Store, plan_sha256: str) -> dict[str, Any] | None:
    body = place.read()
    if body is None:
        return None
    if sha256(body) != plan_sha256:
        raise AhaRecordError(
            f"{place.url} was changed after it was written, so what it says of users and settings can't be "
            "trusted. No plan was made. Run python -m airflow_provider_aha.verify, and take the changed plan away."
        )
    return parse_record(body, place.url)


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
