"""Retention: what is older than it may be is deleted, and what stays can still be verified."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from itertools import takewhile
from typing import Any

from airflow_provider_aha.common.moments import moment_of, timestamp
from airflow_provider_aha.datasets.names import DATASETS
from airflow_provider_aha.exceptions import AhaRecordError
from airflow_provider_aha.record.chain import ANCHOR, PRUNED, Record, close_try, manifest_name
from airflow_provider_aha.record.check import Manifest, check_chain
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.store.layout import PUSH_FILE, REVIEW_FILE, SUMMARY_FILE, Layout
from airflow_provider_aha.store.store import Store, staging, to_json

log = logging.getLogger(__name__)

# What of an account's record may go by its own age where no manifest names it.
_OURS = ("dag=", "register/", "plans/", "applied/", "reviews/review=")


@dataclass(frozen=True)
class Retention:
    """How long what is kept.

    :param snapshots: snapshots and their reports.
    :param evidence: deactivations, reviews and pushes.
    """

    snapshots: timedelta
    evidence: timedelta


@dataclass
class _Pruned:
    """What was deleted, or in a dry run would be.

    :param snapshots: days.
    :param pushes: runs of pushes.
    :param reviews: ids.
    :param manifests: manifests at the beginning of the chain.
    :param files: files, all in all.
    """

    snapshots: list[str] = field(default_factory=list)
    pushes: int = 0
    reviews: list[str] = field(default_factory=list)
    manifests: int = 0
    files: int = 0


def prune(
    location: Store, account: str, run: Run, retention: Retention, *, dry_run: bool, now: datetime
) -> dict[str, Any]:
    """Delete what of an account is older than it may be.

    The newest snapshot, and whatever the layout doesn't know, is left alone. A try that dies leaves nothing that
    looks whole and isn't; the next one goes on where it ended.

    :param location: the base path.
    :param account: the account.
    :param run: the task instance.
    :param retention: how long what is kept.
    :param dry_run: find it, but delete nothing.
    :param now: this moment; UTC.
    :return: days, ids and counts of what was, or would be, deleted.
    :raises AhaSnapshotError: when the record of deactivations doesn't hold: nothing of it was deleted then.
    :raises AhaStorageError: when something can't be read or deleted.
    """
    return _Prune(location, account, run, dry_run=dry_run).all(retention, now)


class _Prune:
    """One try."""

    def __init__(self, location: Store, account: str, run: Run, *, dry_run: bool) -> None:
        self._location = location
        self._account = account
        self._layout = Layout(account)
        self._run = run
        self._folder = RunFolder(location, account, run)
        self._dry_run = dry_run
        self._done = _Pruned()

    def all(self, retention: Retention, now: datetime) -> dict[str, Any]:
        before = now - retention.evidence
        self._snapshots((now - retention.snapshots).date())
        self._pushes(before)
        self._record(before)
        done = asdict(self._done)
        word = "would be deleted" if self._dry_run else "deleted"
        log.info("%s: %s %s", self._account, ", ".join(_words(done)), word)
        return {"account": self._account, "dry_run": self._dry_run, **done}

    def _snapshots(self, oldest: date) -> None:
        days = _snapshot_files(self._location, self._layout)
        published = [day for day, paths in days.items() if self._layout.manifest(day) in paths]
        newest = max(published or days, default="")
        for day in sorted(days):
            if day < oldest.isoformat() and day != newest:
                self._done.snapshots.append(day)
                # The manifest goes first: without it, nobody takes what is left for a snapshot.
                self._delete(days[day])

    def _pushes(self, before: datetime) -> None:
        for run in self._old_folders("push", rf"[^/]+/account={re.escape(self._account)}/run=[^/]+", before):
            self._done.pushes += 1
            self._delete(_first(PUSH_FILE, run))

    def _old_folders(self, root: str, pattern: str, before: datetime) -> Iterator[list[str]]:
        """Yield the files of each folder in which nothing is younger."""
        folders: dict[str, list[str]] = defaultdict(list)
        for path in self._location.files(root, debris=True):
            if match := re.match(rf"{re.escape(root)}/{pattern}/", path):
                folders[match[0]].append(path)
        for folder in sorted(folders):
            if all(self._location.modified(path) < before for path in folders[folder]):
                yield folders[folder]

    def _record(self, before: datetime) -> None:
        record = Record(self._location, self._account)
        gone = expired(record, before)
        unlisted = [path for path in gone.unlisted if self._location.modified(path) < before]
        self._done.manifests = len(gone.manifests)
        self._done.reviews = _reviews(record, gone.files)
        if (gone.last or unlisted) and not self._dry_run:
            number, digest = gone.last or (0, None)
            what = {
                "name": manifest_name(number) if number else None,
                "sha256": digest,
                "older_than": timestamp(before),
                "manifests": len(gone.manifests),
                # So that a hash that was kept elsewhere can still be compared.
                "manifest_hashes": [manifest.sha256 for manifest in gone.manifests],
                "files": len(gone.files),
                "unlisted_files": len(unlisted),
            }
            # Said first, done afterwards: what is missing without a manifest that says so was removed by somebody.
            close_try(self._folder, {"action": "prune", **asdict(self._run), PRUNED: what})
            if gone.last:
                anchor_at(record, *gone.last)
        manifests = [f"{record.manifests}/{manifest_name(one.number)}" for one in gone.manifests]
        self._delete([*unlisted, *_first(REVIEW_FILE, gone.files), *manifests])

    def _delete(self, paths: Sequence[str]) -> None:
        self._done.files += len(paths)
        if not self._dry_run:
            self._location.remove(paths)


@dataclass(frozen=True)
class Expired:
    """The beginning of a chain, which may be deleted.

    :param last: number and hash of the manifest with which it ends; None where there is no such beginning.
    :param manifests: its manifests, in order.
    :param files: paths of the files that no later manifest names.
    :param unlisted: paths of files that no manifest names: of tasks that died and were not tried again.
    """

    last: tuple[int, str] | None
    manifests: Sequence[Manifest]
    files: Sequence[str]
    unlisted: Sequence[str]


def expired(record: Record, before: datetime) -> Expired:
    """Find what of an account's record is older than a moment.

    :param record: the account's record.
    :param before: the moment; UTC. A file is as old as the last manifest that names it.
    :raises AhaSnapshotError: when the chain doesn't hold: what was done to it must stay to be seen.
    :raises AhaStorageError: when the record can't be read.
    """
    chain = check_chain(record)
    if chain.findings:
        raise AhaRecordError(
            f"The chain of manifests in {record.location.url_of(record.manifests)} doesn't hold "
            f"({chain.findings[0]}), so nothing of this "
            "record was deleted. Run python -m airflow_provider_aha.verify, and find out who changed it."
        )
    anchor = chain.anchor or (0, "")
    old = list(
        takewhile(
            lambda one: one.number <= anchor[0] or moment_of(one.content["finished_at"]) < before, chain.manifests
        )
    )
    last = max(anchor, (old[-1].number, str(old[-1].sha256))) if old else None
    kept = {name for manifest in chain.manifests[len(old) :] for name in manifest.files}
    gone = {name for manifest in old for name in manifest.files} - kept
    paths = [path for root in (record.runs, record.reviews) for path in record.location.files(root, debris=True)]
    there = {path: record.name_of(path) for path in paths}
    return Expired(
        last,
        old,
        [path for path, name in there.items() if name in gone],
        [path for path, name in there.items() if name.startswith(_OURS) and name not in gone | kept],
    )


def anchor_at(record: Record, number: int, digest: str) -> None:
    """Let the chain begin after a manifest that is about to be deleted with all before it.

    :param record: the account's record.
    :param number: its number; a later manifest says so already.
    :param digest: its hash.
    :raises AhaStorageError: when it can't be written.
    """
    with staging() as folder:
        local = folder / ANCHOR
        local.write_bytes(to_json({"name": manifest_name(number), "sha256": digest}))
        record.location.publish({f"{record.manifests}/{ANCHOR}": local})


def _reviews(record: Record, paths: Iterable[str]) -> list[str]:
    """Return the ids of the reviews whose records are among some files."""
    pattern = re.compile(rf"{re.escape(record.reviews)}/review=([^/]+)/{re.escape(REVIEW_FILE)}")
    return [match[1] for path in paths if (match := pattern.fullmatch(path))]


def _snapshot_files(location: Store, layout: Layout) -> dict[str, list[str]]:
    """Return the files of all snapshots by day, in the order in which they may go."""
    any_day = "2000-01-01"
    report = layout.report(any_day)
    examples = [layout.manifest(any_day), f"{report}/{SUMMARY_FILE}", f"{report}/*"]
    examples += [layout.dataset(name, any_day) for name in DATASETS]
    found: dict[str, list[str]] = defaultdict(list)
    for example in examples:
        root, _, name = example.partition(f"/snapshot={any_day}/")
        # Of a file that was being written when its task died there is `.name.….tmp`.
        file = "[^/]+" if name == "*" else rf"(?:{re.escape(name)}|\.{re.escape(name)}\.[^/]+\.tmp)"
        pattern = re.compile(rf"{re.escape(root)}/snapshot=(\d{{4}}-\d{{2}}-\d{{2}})/{file}")
        for path in location.files(root, debris=True):
            if (match := pattern.fullmatch(path)) and path not in found[match[1]]:
                found[match[1]].append(path)
    return found


def _first(name: str, paths: Iterable[str]) -> list[str]:
    """Order files so that the one goes first that says that the others are whole."""
    return sorted(paths, key=lambda path: (not path.endswith(f"/{name}"), path))


def _words(done: dict[str, Any]) -> Iterator[str]:
    for name, value in done.items():
        yield f"{len(value) if isinstance(value, list) else value} {name}"
