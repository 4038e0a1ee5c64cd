"""One crawl of an account, landed as a snapshot: datasets first, the manifest last."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.common.moments import milliseconds_text
from airflow_provider_aha.common.threads import DaemonExecutor
from airflow_provider_aha.common.values import unknown_ones
from airflow_provider_aha.datasets import schemas
from airflow_provider_aha.datasets.changes import Side, changes
from airflow_provider_aha.datasets.names import DATASETS
from airflow_provider_aha.datasets.snapshot import DatasetWriter, Snapshot, StagedFile, snapshot_days
from airflow_provider_aha.datasets.users import Normalizer, UsersPage
from airflow_provider_aha.datasets.visits import PastVisits
from airflow_provider_aha.exceptions import (
    AhaConfigurationError,
    AhaError,
    AhaIncompleteReadError,
    AhaNotFoundError,
    AhaPermissionError,
    AhaSnapshotError,
)
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import Store, staging, storage_errors, to_json
from airflow_provider_aha.version import package_version

log = logging.getLogger(__name__)

QUERY = "GET /users: all account users, enabled and disabled, no filter"
# Pages to a row group: four thousand users, some four MB before compression.
_PAGES_PER_GROUP = 20
_PROGRESS_SECONDS = 10.0


def extract(
    client: AhaClient,
    location: Store,
    *,
    datasets: Sequence[str],
    connection_id: str,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dict[str, Any]:
    """Read all users of an account once and land datasets that agree with each other.

    :param client: client of the account.
    :param location: the base path.
    :param datasets: which of :data:`airflow_provider_aha.datasets.names.DATASETS` to land; at least one.
    :param connection_id: id of the connection, for the rows.
    :param now: the clock; UTC.
    :return: the manifest, as it was published beside the data.
    :raises AhaConfigurationError: for an unknown dataset, or when this worker's clock is not Aha!'s.
    :raises AhaIncompleteReadError: when the list kept changing, or is empty.
    :raises AhaStorageError: when the base path can't be written.
    :raises AhaError: when Aha! could not be read. In every case the snapshot before stays as it was.
    """
    chosen = _check_datasets(datasets)
    started_at = now()
    rereads, requests = client.rereads, client.requests_sent
    snapshot = started_at.strftime("%Y-%m-%d")
    layout = Layout(client.config.account)
    with staging() as folder, _aside() as aside, PastVisits(location, client.config.account) as past:
        # Once for all passes, and after the first page: nothing else waits for these two.
        ask_aside = cache(lambda: (aside.submit(client.me), aside.submit(workspace_names, client)))

        def land(pages: Iterator[UsersPage]) -> _Crawl:
            _, names = ask_aside()
            # With the first page the next ones are asked for, and on their way while the names come.
            first = next(pages)
            normalizer = Normalizer(
                subdomain=client.config.account,
                connection_id=connection_id,
                synced_at=started_at,
                workspace_names=names.result(),
            )
            return _land(chain([first], pages), normalizer, folder, _needed(chosen), past)

        crawl = client.read_users(land, UsersPage.several)
        _refuse_empty(crawl, client)
        client.check_clock()
        if "user_changes" in chosen:
            crawl.files["user_changes"] = _land_changes(crawl, folder, location, layout.account, snapshot)
        manifest = {
            "account": client.config.account,
            "host": client.config.host,
            "sandbox": client.sandbox,
            "connection_id": connection_id,
            "key_owner_id": ask_aside()[0].result()["id"],
            "query": QUERY,
            "snapshot": snapshot,
            "started_at": milliseconds_text(started_at),
            "finished_at": milliseconds_text(now()),
            **crawl.figures(),
            "visits_lost": past.lost if "users" in crawl.files else None,
            "rereads": client.rereads - rereads,
            "requests": client.requests_sent - requests,
            "provider_version": package_version(),
            "schema_version": schemas.SCHEMA_VERSION,
            "files": [
                *_entries(crawl, chosen, location, layout, snapshot),
                *_entries_kept(location, layout.account, snapshot, chosen),
            ],
        }
        _publish(crawl, chosen, manifest, folder, location, layout)
    _warn_of_absent(manifest)
    if manifest["visits_lost"]:
        log.warning(
            "Aha! leaves out the last visit of %d enabled users, or sends an earlier one, though an older snapshot "
            "knows it: they are unknown, not never seen.",
            manifest["visits_lost"],
        )
    return manifest


@contextmanager
def _aside() -> Iterator[DaemonExecutor]:
    """Run calls beside a read; they end with it, and where the task's time is over nobody waits for them."""
    with DaemonExecutor(2, "aha-aside") as threads:
        try:
            yield threads
        except AhaError:
            threads.shutdown(wait=True)
            raise


def read_tables(client: AhaClient, *, connection_id: str) -> dict[str, pa.Table]:
    """Read all users of an account once, into memory.

    :param client: client of the account.
    :param connection_id: id of the connection, for the rows.
    :return: the tables ``users``, ``user_roles`` and ``user_role_summary``.
    :raises AhaError: as :func:`extract`.
    """
    normalizer = Normalizer(
        subdomain=client.config.account,
        connection_id=connection_id,
        synced_at=datetime.now(UTC),
        workspace_names=workspace_names(client),
    )
    return client.read_users(lambda pages: normalizer.tables(list(pages)), UsersPage.several)


def stage_users(
    client: AhaClient, folder: Path, *, connection_id: str, started_at: datetime
) -> tuple[dict[str, StagedFile], Mapping[str, int]]:
    """Read all users of an account once, into local files of ``users`` and ``user_roles``.

    Workspaces keep the names that the list of users has for them: nothing is compared by those.

    :param client: client of the account.
    :param folder: where to put the files.
    :param connection_id: id of the connection, for the rows.
    :param started_at: the moment of the read, for the rows.
    :return: file by dataset, and how many users lack a decisive key.
    :raises AhaError: as :func:`extract`.
    """

    def land(pages: Iterator[UsersPage]) -> _Crawl:
        normalizer = Normalizer(
            subdomain=client.config.account,
            connection_id=connection_id,
            synced_at=started_at,
            workspace_names={},
        )
        return _land(pages, normalizer, folder, ["users", "user_roles"])

    crawl = client.read_users(land, UsersPage.several)
    _refuse_empty(crawl, client)
    return crawl.files, crawl.absent


@dataclass
class _Crawl:
    """What one complete pass found and staged."""

    normalizer: Normalizer
    files: dict[str, StagedFile]
    absent: Counter[str]
    total_first: int
    total_last: int
    pages: int
    rows: int
    repaired: int

    def figures(self) -> dict[str, Any]:
        return {
            "total_records_first": self.total_first,
            "total_records_last": self.total_last,
            "rows": self.rows,
            # A pass in which an id comes twice is not accepted, so every row has its own.
            "distinct_ids": self.rows,
            "duplicates_removed": self.normalizer.duplicates_removed,
            "pages": self.pages,
            "absent_fields": dict(sorted(self.absent.items())),
            "texts_repaired": self.repaired,
            "workspaces_unnamed": len(self.normalizer.unnamed),
        }


def _refuse_empty(crawl: _Crawl, client: AhaClient) -> None:
    if not crawl.rows:
        raise AhaIncompleteReadError(
            f"Aha! account {client.config.account} lists no users, though the key's owner is one: nothing "
            "was landed. Check that the connection's key belongs to an administrator of this account."
        )


def _check_datasets(datasets: Sequence[str]) -> list[str]:
    unknown = unknown_ones(datasets, DATASETS)
    if unknown or not datasets:
        found = f"there isn't {unknown}" if unknown else "there is none"
        raise AhaConfigurationError(f"datasets must be some of {', '.join(DATASETS)}; {found}.")
    return [name for name in DATASETS if name in datasets]


def _needed(chosen: Sequence[str]) -> list[str]:
    # Changes are found by comparing users and roles, landed or not.
    extra = {"users", "user_roles"} if "user_changes" in chosen else set()
    return [name for name in DATASETS if name != "user_changes" and name in {*chosen, *extra}]


def workspace_names(client: AhaClient) -> Mapping[str, str]:
    """Read the names that the user list leaves null where the key's owner isn't a member."""
    try:
        return {item["id"]: item["name"] for item in client.iter_workspaces() if item.get("name")}
    except (AhaPermissionError, AhaNotFoundError) as error:
        log.warning("Workspaces could not be listed, so some stay without a name: %s", error)
        return {}


def _land(
    pages: Iterator[UsersPage],
    normalizer: Normalizer,
    folder: Path,
    datasets: Sequence[str],
    past: PastVisits | None = None,
) -> _Crawl:
    crawl = _Crawl(normalizer, {}, Counter(), 0, 0, 0, 0, 0)
    if past is not None:
        past.begin()
    progress = _Progress()
    with ExitStack() as stack:
        writers = {name: stack.enter_context(DatasetWriter(folder, name)) for name in datasets}
        while group := list(islice(progress.watch(pages, crawl), _PAGES_PER_GROUP)):
            tables = normalizer.tables(group, datasets)
            if past is not None and "users" in tables:
                tables["users"] = past.hand_on(tables["users"], normalizer.days_inactive)
            for name, writer in writers.items():
                writer.write(tables[name])
        crawl.files = {name: writer.finish() for name, writer in writers.items()}
    return crawl


class _Progress:
    """Counts pages, and says in the log how far a long read has come."""

    def __init__(self) -> None:
        self._began = self._said = time.monotonic()

    def watch(self, pages: Iterator[UsersPage], crawl: _Crawl) -> Iterator[UsersPage]:
        for page in pages:
            crawl.total_first = crawl.total_first or page.total_records
            crawl.total_last = page.total_records
            crawl.pages += 1
            crawl.rows += len(page.ids)
            crawl.absent.update(page.absent)
            crawl.repaired += page.repaired
            self._say(page, crawl)
            yield page

    def _say(self, page: UsersPage, crawl: _Crawl) -> None:
        now = time.monotonic()
        if now - self._said >= _PROGRESS_SECONDS:
            self._said = now
            rate = crawl.rows / (now - self._began)
            log.info("%d of %d pages, %d users, %.0f users/s", crawl.pages, page.total_pages, crawl.rows, rate)


def _land_changes(crawl: _Crawl, folder: Path, location: Store, account: str, snapshot: str) -> StagedFile:
    with ExitStack() as stack:
        writer = stack.enter_context(DatasetWriter(folder, "user_changes"))
        previous = newest_side(stack, location, account, before=snapshot)
        if previous is None:
            log.info("No earlier snapshot of %s has users and user_roles: user_changes is empty.", account)
        else:
            users, roles = (
                stack.enter_context(pq.ParquetFile(crawl.files[name].path)) for name in ("users", "user_roles")
            )
            for table in changes(previous, Side(users, roles), subdomain=account):
                writer.write(table)
        return writer.finish()


def newest_side(stack: ExitStack, location: Store, account: str, before: str | None = None) -> Side | None:
    """Open the newest snapshot that holds what changes are found in.

    :param stack: closes its files.
    :param location: the base path.
    :param account: the account.
    :param before: only a snapshot of an earlier day than this one.
    :return: the snapshot, or None when there is none.
    """
    for day in reversed(snapshot_days(location, account)):
        if before is not None and day >= before:
            continue
        try:
            snapshot = Snapshot.of(location, account, day)
            users, roles = (stack.enter_context(snapshot.open(name)) for name in ("users", "user_roles"))
        except AhaSnapshotError as error:
            log.warning("Snapshot %s is passed over when looking for changes: %s", day, error)
        else:
            return Side(users, roles)
    return None


def _entries(
    crawl: _Crawl, chosen: Sequence[str], location: Store, layout: Layout, snapshot: str
) -> list[dict[str, Any]]:
    return [
        {
            "dataset": name,
            "path": location.url_of(layout.dataset(name, snapshot)),
            "rows": file.rows,
            "bytes": file.size,
            "sha256": file.sha256,
        }
        for name, file in ((name, crawl.files[name]) for name in chosen)
    ]


def _entries_kept(location: Store, account: str, snapshot: str, chosen: Sequence[str]) -> list[dict[str, Any]]:
    """Return what an earlier run of the day landed and this one doesn't, marked with when it was read."""
    try:
        manifest = Snapshot.of(location, account, snapshot).manifest
        return [
            {"started_at": manifest["started_at"], **entry}
            for entry in manifest["files"]
            if entry["dataset"] not in chosen
        ]
    except (AhaSnapshotError, KeyError, TypeError):
        return []


def _publish(
    crawl: _Crawl,
    chosen: Sequence[str],
    manifest: Mapping[str, Any],
    folder: Path,
    location: Store,
    layout: Layout,
) -> None:
    snapshot = manifest["snapshot"]
    staged = folder / "manifest.json"
    with storage_errors(str(staged)):
        staged.write_bytes(to_json(manifest))
    files = {layout.dataset(name, snapshot): crawl.files[name].path for name in chosen}
    location.publish({**files, layout.manifest(snapshot): staged})


def _warn_of_absent(manifest: Mapping[str, Any]) -> None:
    if absent := manifest["absent_fields"]:
        found = ", ".join(f"{name} ({count} users)" for name, count in absent.items())
        log.warning(
            "Aha! left out fields that rules read, or sent what can't be read: %s. That is null in the snapshot, "
            "and a rule that reads one of them will refuse to run.",
            found,
        )
