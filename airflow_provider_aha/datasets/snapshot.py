"""The snapshot that a report is about, and the ones before it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_aha.common.arrow import literal
from airflow_provider_aha.exceptions import AhaSnapshotError
from airflow_provider_aha.lists.tables import whole
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import Location, open_dataset, read_manifest, snapshots

log = logging.getLogger(__name__)

# So many snapshots are read for the trend one by one; of more than that the newest of each week.
_DAILY, _WEEKLY = 60, 53
_TREND = (
    *("is_enabled", "occupies_seat", "activity_status", "days_inactive", "created_at", "synced_at"),
    *("is_administrator", "administers_account", "administers_billing", "administers_configuration"),
)
_USERS = (
    *("id", "name", "email", *_TREND, "accessed_at", "is_paid_seat"),
    *("identity_provider_type", "identity_provider_name"),
)
_BATCH = 10_000
_TRUE = literal(True, pa.bool_())


@dataclass(frozen=True)
class Snapshot:
    """Users and roles of an account as they were read in one go.

    :param manifest: its manifest.
    :param synced_at: when it was read; UTC.
    :param users: of its ``users``, enabled and disabled, what a report reads.
    :param location: the base path.
    """

    manifest: Mapping[str, Any]
    synced_at: datetime
    users: pa.Table = field(repr=False)
    location: Location = field(repr=False)

    @property
    def account(self) -> str:
        """The account."""
        return str(self.manifest["account"])

    @property
    def day(self) -> str:
        """The UTC day of the read."""
        return str(self.manifest["snapshot"])

    @property
    def sandbox(self) -> bool:
        """Whether it is of a sandbox."""
        return bool(self.manifest.get("sandbox"))

    def role_batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield its ``user_roles``, some at a time.

        :param columns: which columns.
        :raises AhaSnapshotError: when it has none, or others than its manifest names.
        """
        layout = Layout(self.location.path, self.account)
        with open_dataset(self.location.fs, layout, self.manifest, "user_roles") as file:
            yield from file.iter_batches(batch_size=_BATCH, columns=list(columns), use_threads=False)

    @property
    def sha256(self) -> dict[str, str]:
        """Hash by dataset."""
        return {file["dataset"]: file["sha256"] for file in self.manifest["files"]}


def read_snapshot(location: Location, account: str, day: str | None = None) -> Snapshot:
    """Read a snapshot and check its files.

    :param location: the base path.
    :param account: the account.
    :param day: which one; the newest when left out.
    :raises AhaSnapshotError: when there is none, or it isn't whole.
    :raises AhaStorageError: when it can't be read.
    """
    layout = Layout(location.path, account)
    if day is None:
        days = snapshots(location.fs, layout)
        if not days:
            raise AhaSnapshotError(
                f"There is no snapshot of {account} below {location.url}: run aha_extract first."
            )
        day = days[-1]
    manifest = read_manifest(location.fs, layout, day)
    with open_dataset(location.fs, layout, manifest, "users") as file:
        users = whole(file, _USERS)
    return Snapshot(manifest, moment_of(manifest["started_at"]), users, location)


def earlier_days(location: Location, account: str, day: str) -> list[str]:
    """Return the days of the snapshots before one, oldest first.

    :param location: the base path.
    :param account: the account.
    :param day: the day of the snapshot.
    """
    return [one for one in snapshots(location.fs, Layout(location.path, account)) if one < day]


def trend_days(days: list[str]) -> list[str]:
    """Choose the snapshots of a trend: all of a few, of many the newest of each week of a year.

    :param days: days of snapshots, oldest first.
    """
    if len(days) <= _DAILY:
        return days
    newest = {date.fromisoformat(day).isocalendar()[:2]: day for day in days}
    return list(newest.values())[-_WEEKLY:]


def read_trend(location: Location, account: str, days: list[str]) -> Iterator[tuple[str, pa.Table]]:
    """Read the columns of a trend; a snapshot that can't be read is passed over with a warning.

    :param location: the base path.
    :param account: the account.
    :param days: days of snapshots.
    :return: day and columns of ``users``.
    """
    layout = Layout(location.path, account)
    for day in days:
        try:
            manifest = read_manifest(location.fs, layout, day)
            with open_dataset(location.fs, layout, manifest, "users") as file:
                yield day, whole(file, _TREND)
        except AhaSnapshotError as error:
            log.warning("Snapshot %s is not in the trend: %s", day, error)


def may_have_access(users: pa.Table) -> Any:
    """Return a mask of the users who may sign in: all but those who are known to be disabled.

    :param users: a ``users`` table.
    """
    return pc.fill_null(users.column("is_enabled"), _TRUE)


def moment_of(text: object) -> datetime:
    """Read a moment of a manifest or record; UTC.

    :param text: ISO 8601 with an offset.
    """
    return datetime.fromisoformat(str(text)).astimezone(UTC)


def days_between(since: datetime, until: datetime) -> int:
    """Return the whole days between two moments.

    :param since: the earlier one.
    :param until: the later one.
    """
    return (until - since) // timedelta(days=1)
