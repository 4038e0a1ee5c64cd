"""The snapshot that a plan is made from, and the reasons to make none from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airflow_provider_aha.common.arrow import literal, milliseconds, whole
from airflow_provider_aha.datasets.snapshot import Snapshot, snapshot_days
from airflow_provider_aha.exceptions import AhaSnapshotError
from airflow_provider_aha.store.store import Store, sha256, to_json

# A snapshot with fewer users than this part of the one before it has lost some.
_KEPT = 0.8
# Nobody becomes "never seen" again, few become "unknown": so many points more mean that a field went missing.
_NEVER_SEEN_POINTS = 10.0
_AHEAD = timedelta(minutes=10)
_FLAGS = ("is_enabled", "is_administrator", "administers_account", "administers_billing")
_STRING = pa.string()
_FALSE = literal(False, pa.bool_())


@dataclass(frozen=True)
class Population:
    """A snapshot that may be planned from.

    :param manifest: its manifest.
    :param synced_at: when it was read; UTC.
    :param users: its ``users``, enabled and disabled.
    :param roles: its ``user_roles``; None when it doesn't say who has which.
    :param bodies: the bytes of its files by dataset.
    :param notes: what a reader of the plan should know.
    """

    manifest: Mapping[str, Any]
    synced_at: datetime
    users: pa.Table
    roles: pa.Table | None
    bodies: Mapping[str, bytes] = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def sha256(self) -> dict[str, str]:
        """Hash by dataset."""
        return {name: sha256(body) for name, body in self.bodies.items()}

    def files(self) -> dict[str, bytes]:
        """Return manifest and files, to be kept beside the decision: a later extract may replace them."""
        parquet = {f"input-{name}.parquet": body for name, body in self.bodies.items()}
        return {"input-manifest.json": to_json(self.manifest), **parquet}


def read_population(
    location: Store, account: str, *, reads: Iterable[str], max_age: timedelta, now: datetime
) -> Population:
    """Read the newest snapshot of an account.

    :param location: the base path.
    :param account: the account.
    :param reads: the fields of the API that will be read.
    :param max_age: an older snapshot is refused.
    :param now: this moment; UTC.
    :raises AhaSnapshotError: when there is none, or it can't be trusted enough to take access away.
    """
    snapshot = Snapshot.newest(location, account)
    manifest = snapshot.manifest
    _check_manifest(manifest, account, frozenset(reads))
    bodies = {"users": snapshot.body("users")}
    if _says_who_has_which_role(manifest):
        bodies["user_roles"] = snapshot.body("user_roles")
    tables = {name: _table(body) for name, body in bodies.items()}
    synced_at = _check_users(tables["users"], max_age, now)
    _check_owner(manifest.get("key_owner_id"), tables["users"])
    note = _check_against_earlier(snapshot, tables["users"])
    notes = [note] if note else []
    if "user_roles" not in bodies:
        notes.append("The snapshot doesn't say who owns which workspace, so sole owners are not known.")
    return Population(manifest, synced_at, tables["users"], tables.get("user_roles"), bodies, tuple(notes))


def _check_manifest(manifest: Mapping[str, Any], account: str, reads: frozenset[str]) -> None:
    if manifest.get("account") != account:
        raise AhaSnapshotError(f"The newest snapshot says that it is of another account than {account}.")
    absent = sorted(reads & set(manifest.get("absent_fields") or ()))
    if absent:
        raise AhaSnapshotError(
            f"Aha! left {', '.join(absent)} out for some users in the snapshot {manifest['snapshot']}, and the "
            "rules read it: no plan was made, for a gap is not a fact. Run aha_extract again."
        )


def _says_who_has_which_role(manifest: Mapping[str, Any]) -> bool:
    absent = manifest.get("absent_fields") or ()
    return "product_roles" not in absent and any(f["dataset"] == "user_roles" for f in manifest["files"])


def _table(body: bytes) -> pa.Table:
    with pq.ParquetFile(pa.BufferReader(body)) as file:
        return whole(file)


def _check_users(users: pa.Table, max_age: timedelta, now: datetime) -> datetime:
    if not users.num_rows:
        raise AhaSnapshotError("The newest snapshot holds no users. Run aha_extract again.")
    for name in _FLAGS:
        if users.column(name).null_count:
            raise AhaSnapshotError(
                f"{users.column(name).null_count} users of the newest snapshot have no {name}: no plan was made, "
                "for a gap is not a fact. Run aha_extract again."
            )
    moment = milliseconds(users.column("synced_at").slice(0, 1))[0]
    synced_at = datetime.fromtimestamp((moment or 0) / 1000, UTC)
    age = now - synced_at
    if age > max_age:
        raise AhaSnapshotError(
            f"The newest snapshot is {age / timedelta(hours=1):.0f} hours old; allowed are "
            f"{max_age / timedelta(hours=1):g}. Run aha_extract first."
        )
    if age < -_AHEAD:
        raise AhaSnapshotError("The newest snapshot was read in the future. Look at the clocks of the workers.")
    return synced_at


def _check_owner(key_owner_id: object, users: pa.Table) -> None:
    """Refuse a list without the key's owner, who is a user like any other: it isn't complete, or guards nobody."""
    if key_owner_id and not pc.any(pc.equal(users.column("id"), literal(str(key_owner_id), _STRING))).as_py():
        raise AhaSnapshotError(
            f"The owner of the API key (id {key_owner_id}) is not among the users of the newest snapshot, though "
            "every user should be: the list was not complete. No plan was made. Run aha_extract again; if it "
            "lasts, make a key as an administrator of this account."
        )


def _check_against_earlier(snapshot: Snapshot, users: pa.Table) -> str | None:
    """Compare with the newest older snapshot that can be read; return a note when there is none."""
    location, account = snapshot.location, snapshot.account
    earlier = [day for day in snapshot_days(location, account) if day < snapshot.day]
    for day in reversed(earlier):
        try:
            columns = Snapshot.of(location, account, day).table("users", ["is_enabled", "activity_status"])
        except AhaSnapshotError:
            continue
        _compare(day, columns, users)
        return None
    return (
        "There is no earlier snapshot to compare this one with."
        if not earlier
        else ("None of the earlier snapshots can be read, so this one was compared with none.")
    )


def _compare(day: str, before: pa.Table, users: pa.Table) -> None:
    if users.num_rows < before.num_rows * _KEPT:
        raise AhaSnapshotError(
            f"The newest snapshot has {users.num_rows} users, the one of {day} had {before.num_rows}: more than "
            "20 % are gone. No plan was made. If that is right, the snapshot after the next extract is compared "
            "with this one."
        )
    rise = _without_visit(users) - _without_visit(before)
    if rise > _NEVER_SEEN_POINTS:
        raise AhaSnapshotError(
            f"Users without a last visit are {rise:.0f} points more than in the snapshot of {day}: Aha! seems to "
            "have lost when they were seen. No plan was made."
        )


def _without_visit(users: pa.Table) -> float:
    """Return how many percent of the enabled users were never seen, or nobody knows when."""
    enabled = users.filter(pc.fill_null(users.column("is_enabled"), _FALSE))
    status = enabled.column("activity_status")
    never = pc.or_(*(pc.equal(status, literal(word, _STRING)) for word in ("never_seen", "unknown")))
    count = pc.sum(never).as_py() or 0
    return float(100 * count / max(enabled.num_rows, 1))
