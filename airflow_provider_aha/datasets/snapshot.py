"""Snapshots: how they are written, found and read."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airflow_provider_aha.common.arrow import literal, whole
from airflow_provider_aha.common.moments import read_moment
from airflow_provider_aha.datasets import schemas
from airflow_provider_aha.exceptions import AhaNoSnapshotError, AhaRecordError, AhaSnapshotError
from airflow_provider_aha.store.layout import Layout, snapshot_of
from airflow_provider_aha.store.store import Store, file_hash, sha256, storage_errors

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
    """Users and roles of an account as they were read in one go; a file is checked when it is opened.

    :param location: the base path.
    :param account: the account.
    :param manifest: its manifest.
    """

    location: Store = field(repr=False)
    account: str
    manifest: Mapping[str, Any] = field(repr=False)

    @classmethod
    def newest(cls, location: Store, account: str) -> Snapshot:
        """Return the newest snapshot of an account.

        :param location: the base path.
        :param account: the account.
        :raises AhaSnapshotError: when there is none, or its manifest isn't one.
        :raises AhaStorageError: when it can't be read.
        """
        days = snapshot_days(location, account)
        if not days:
            raise AhaNoSnapshotError(
                f"There is no snapshot of {account} below {location.url}: run aha_extract first."
            )
        return cls.of(location, account, days[-1])

    @classmethod
    def of(cls, location: Store, account: str, day: str) -> Snapshot:
        """Return the snapshot of a day.

        :param location: the base path.
        :param account: the account.
        :param day: the UTC day of the read, ``YYYY-MM-DD``.
        :raises AhaSnapshotError: when there is none, or its manifest isn't one.
        :raises AhaStorageError: when it can't be read.
        """
        name = Layout(account).manifest(day)
        manifest = location.read_record(name)
        if manifest is None:
            raise AhaNoSnapshotError(f"{location.url_of(name)} is missing.")
        files = manifest.get("files")
        is_whole = isinstance(files, list) and all(
            isinstance(file, dict) and {"dataset", "sha256"} <= file.keys() for file in files
        )
        if not is_whole or manifest.get("snapshot") != day:
            raise AhaRecordError(
                f"{location.url_of(name)} is not the manifest of snapshot {day}: it was changed by hand."
            )
        return cls(location, account, manifest)

    @property
    def day(self) -> str:
        """The UTC day of the read."""
        return str(self.manifest["snapshot"])

    @property
    def synced_at(self) -> datetime:
        """When it was read; UTC."""
        return self._moment(self.manifest["started_at"])

    @property
    def sandbox(self) -> bool:
        """Whether it is of a sandbox."""
        return bool(self.manifest.get("sandbox"))

    @property
    def sha256(self) -> dict[str, str]:
        """Hash by dataset."""
        return {file["dataset"]: file["sha256"] for file in self.manifest["files"]}

    def read_at(self, dataset: str) -> datetime:
        """Return when a dataset was read; UTC. A run of the day that landed others leaves it as it was.

        :param dataset: which one.
        """
        return self._moment(self._entry(dataset).get("started_at") or self.manifest["started_at"])

    @contextmanager
    def open(self, dataset: str) -> Iterator[Any]:
        """Open a dataset, after checking that it is the file that the manifest names.

        :param dataset: which one.
        :return: a ``pyarrow.parquet.ParquetFile``.
        :raises AhaSnapshotError: when the snapshot lacks it, or the file is another one.
        :raises AhaStorageError: when it can't be read.
        """
        name, expected = self._file(dataset)
        if self.location.hash_of(name) != expected:
            raise self._another(name)
        with self.location.open(name) as stream, pq.ParquetFile(stream) as file:
            yield file

    def table(self, dataset: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a dataset whole, as :meth:`open` does.

        :param dataset: which one.
        :param columns: which columns; all when left out.
        """
        with self.open(dataset) as file:
            return whole(file, columns)

    def body(self, dataset: str) -> bytes:
        """Read the file of a dataset once, so that what is judged, hashed and kept are the same bytes.

        :param dataset: which one.
        :raises AhaSnapshotError: as for :meth:`open`.
        """
        name, expected = self._file(dataset)
        body = self.location.read(name)
        if body is None or sha256(body) != expected:
            raise self._another(name)
        return body

    @cached_property
    def users(self) -> pa.Table:
        """Of its ``users``, enabled and disabled, what a report reads."""
        return self.table("users", _USERS)

    def role_batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield its ``user_roles``, some at a time.

        :param columns: which columns.
        :raises AhaSnapshotError: as for :meth:`open`.
        """
        with self.open("user_roles") as file:
            yield from file.iter_batches(batch_size=_BATCH, columns=list(columns), use_threads=False)

    def _entry(self, dataset: str) -> dict[str, Any]:
        return next((file for file in self.manifest["files"] if file["dataset"] == dataset), {})

    def _file(self, dataset: str) -> tuple[str, str]:
        entry = self._entry(dataset)
        if not entry:
            raise AhaNoSnapshotError(
                f"Snapshot {self.day} of {self.account} holds no dataset {dataset}: run aha_extract with it first."
            )
        return Layout(self.account).dataset(dataset, self.day), entry["sha256"]

    def _moment(self, text: object) -> datetime:
        if (moment := read_moment(text)) is None:
            raise AhaRecordError(f"Snapshot {self.day} of {self.account} doesn't say when it was read.")
        return moment

    def _another(self, name: str) -> AhaSnapshotError:
        return AhaSnapshotError(
            f"{self.location.url_of(name)} is not the file that its manifest names: an extract was cut off while "
            "it replaced the snapshot, or the file was changed. Run aha_extract again."
        )


def snapshot_days(location: Store, account: str) -> list[str]:
    """List the days of an account's published snapshots, oldest first.

    :param location: the base path.
    :param account: the account.
    :raises AhaStorageError: when the path can't be read.
    """
    layout = Layout(account)
    days = (snapshot_of(name) for name in location.names(layout.manifests))
    return sorted(day for day in days if day and location.exists(layout.manifest(day)))


def trend_days(days: list[str]) -> list[str]:
    """Choose the snapshots of a trend: all of a few, of many the newest of each week of a year.

    :param days: days of snapshots, oldest first.
    """
    if len(days) <= _DAILY:
        return days
    newest = {date.fromisoformat(day).isocalendar()[:2]: day for day in days}
    return list(newest.values())[-_WEEKLY:]


def read_trend(location: Store, account: str, days: list[str]) -> Iterator[tuple[str, pa.Table]]:
    """Read the columns of a trend; a snapshot that can't be read is passed over with a warning.

    :param location: the base path.
    :param account: the account.
    :param days: days of snapshots.
    :return: day and columns of ``users``.
    """
    for day in days:
        try:
            yield day, Snapshot.of(location, account, day).table("users", _TREND)
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
