"""The snapshot that a report is about, and the ones before it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airflow_provider_aha.common.arrow import literal, whole
from airflow_provider_aha.common.moments import moment_of
from airflow_provider_aha.datasets import schemas
from airflow_provider_aha.exceptions import AhaSnapshotError
from airflow_provider_aha.store.layout import Layout, snapshot_of
from airflow_provider_aha.store.store import (
    ANY_ERROR,
    Location,
    file_hash,
    is_there,
    names_in,
    read_json,
    storage_errors,
)

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


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
# Nearly every value of these is another one: a dictionary of them is begun and given up.
_DISTINCT = frozenset({"id", "name", "email", "created_at", "updated_at", "accessed_at"})


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


@dataclass(frozen=True)
class StagedFile:
    """A finished file in local temporary space.

    :param dataset: what it holds.
    :param path: where it is.
    :param rows: its rows.
    :param size: its bytes.
    :param sha256: hash of its bytes, hexadecimal.
    """

    dataset: str
    path: Path
    rows: int
    size: int
    sha256: str


class DatasetWriter:
    """Streams tables of one dataset into a local Parquet file.

    :param folder: local folder to stage in.
    :param dataset: name of the dataset; it decides the schema.
    """

    def __init__(self, folder: Path, dataset: str) -> None:
        self._dataset = dataset
        self._path = folder / f"{dataset}.parquet"
        self._schema = schemas.BY_DATASET[dataset].with_metadata(
            {"aha_schema_version": schemas.SCHEMA_VERSION, "aha_dataset": dataset}
        )
        self._rows = 0
        with storage_errors(str(self._path)):
            self._writer = pq.ParquetWriter(
                self._path,
                self._schema,
                compression="zstd",
                use_dictionary=[*(set(schemas.USERS.names) - _DISTINCT)] if dataset == "users" else True,
            )

    def __enter__(self) -> DatasetWriter:
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the file; one that isn't finished is thrown away with its folder."""
        # On a full disk closing fails too, and would hide the first error.
        with suppress(OSError):
            self._writer.close()

    def write(self, table: pa.Table) -> None:
        """Append a table, as one row group of at most a million rows, or several.

        :param table: rows in the dataset's schema.
        :raises AhaStorageError: when there is no space.
        """
        with storage_errors(str(self._path)):
            self._writer.write_table(table.cast(self._schema))
        self._rows += table.num_rows

    def finish(self) -> StagedFile:
        """Close the file.

        :return: the file, with its hash.
        :raises AhaStorageError: when there is no space.
        """
        if not self._rows:
            # Some readers stumble over a file without a row group.
            self.write(pa.Table.from_batches([], self._schema))
        with storage_errors(str(self._path)):
            self._writer.close()
            digest, size = file_hash(self._path.open("rb"))
        return StagedFile(self._dataset, self._path, self._rows, size, digest)


def read_manifest(fs: AbstractFileSystem, layout: Layout, snapshot: str) -> dict[str, Any]:
    """Read the manifest of a snapshot.

    :param fs: the layout's filesystem.
    :param layout: account and base path.
    :param snapshot: the day, ``YYYY-MM-DD``.
    :raises AhaSnapshotError: when there is none, or it is not one.
    :raises AhaStorageError: when it can't be read.
    """
    path = layout.manifest(snapshot)
    manifest = read_json(fs, path)
    files = manifest.get("files")
    whole = isinstance(files, list) and all(
        isinstance(file, dict) and {"dataset", "sha256"} <= file.keys() for file in files
    )
    if not whole or manifest.get("snapshot") != snapshot:
        raise AhaSnapshotError(f"{path} is not the manifest of snapshot {snapshot}: it was changed by hand.")
    return manifest


def snapshots(fs: AbstractFileSystem, layout: Layout) -> list[str]:
    """List the days of an account's published snapshots, oldest first.

    :param fs: the layout's filesystem.
    :param layout: account and base path.
    :raises AhaStorageError: when the path can't be read.
    """
    days = (snapshot_of(f"/{name}") for name in names_in(fs, layout.manifests))
    return sorted(day for day in days if day and is_there(fs, layout.manifest(day)))


@contextmanager
def open_dataset(
    fs: AbstractFileSystem, layout: Layout, manifest: Mapping[str, Any], dataset: str
) -> Iterator[Any]:
    """Open a dataset of a snapshot, after checking that it is the file that the manifest names.

    :param fs: the layout's filesystem.
    :param layout: account and base path.
    :param manifest: the snapshot's manifest.
    :param dataset: which one.
    :return: a ``pyarrow.parquet.ParquetFile``.
    :raises AhaSnapshotError: when the snapshot lacks it, or the file is another one.
    :raises AhaStorageError: when it can't be read.
    """
    entry = next((file for file in manifest["files"] if file["dataset"] == dataset), None)
    if entry is None:
        raise AhaSnapshotError(f"Snapshot {manifest['snapshot']} of {layout.account} holds no dataset {dataset}.")
    path = layout.dataset(dataset, manifest["snapshot"])
    with storage_errors(path, ANY_ERROR):
        # So is the size of a file that was replaced since.
        fs.invalidate_cache()
        try:
            digest, _ = file_hash(fs.open(path, "rb"))
        except FileNotFoundError:
            digest = None
    if digest != entry["sha256"]:
        raise AhaSnapshotError(
            f"{path} is not the file that its manifest names: an extract was cut off while it replaced the "
            "snapshot, or the file was changed. Run aha_extract again."
        )
    with storage_errors(path), fs.open(path, "rb") as stream, pq.ParquetFile(stream) as file:
        yield file
