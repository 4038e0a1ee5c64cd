"""The chain of manifests: one for each account, without siblings, each with the hash of the one before it.

A try claims the next number by creating its manifest, which of two writers only one can do; the other takes the
number after it. So whatever else lies beside the chain was put there by somebody.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_aha.common.moments import timestamp
from airflow_provider_aha.exceptions import AhaError, AhaSnapshotError, AhaStorageError
from airflow_provider_aha.record.run import RunFolder
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import OTHER, Store, StoredEntry, parse_record, sealed, sha256

log = logging.getLogger(__name__)

# What a prune leaves for the manifests that it takes away: ``{"name": ..., "sha256": ...}`` of the last one. The
# prune's own manifest, further on in the chain, says the same under ``pruned``.
ANCHOR = "anchor.json"
PRUNED = "pruned"
# A larger manifest is none: it would not fit into memory beside the others.
LARGEST = 64 * 1024 * 1024
# So often a number may be taken though no listing shows by whom.
_UNSEEN = 20
# So many manifests are read at once.
_AT_ONCE = 64


class Record:
    """What is kept of one account: its runs, and its reviews.

    :param location: the base path.
    :param account: the account.
    """

    def __init__(self, location: Store, account: str) -> None:
        layout = Layout(account)
        self.location = location
        self.account = account
        self.runs = layout.access
        self.reviews = layout.reviews
        self.manifests = f"{self.runs}/manifests"

    def name_of(self, path: str) -> str:
        """Return what a manifest calls a file: relative, and so the same wherever the base path is copied to.

        :param path: a path below the account's runs or reviews.
        """
        if path.startswith(f"{self.reviews}/"):
            return f"reviews/{path.removeprefix(f'{self.reviews}/')}"
        return path.removeprefix(f"{self.runs}/")

    def path_of(self, name: str) -> str:
        """Return the path of a file that a manifest names.

        :param name: what :meth:`name_of` returned.
        """
        if name.startswith("reviews/"):
            return f"{self.reviews}/{name.removeprefix('reviews/')}"
        return f"{self.runs}/{name}"


def manifest_name(number: int) -> str:
    """Return the file name of a manifest; it has no random part, so that a number can be claimed once.

    :param number: its number, from 1.
    """
    return f"{number:08d}.json"


def number_of(name: str) -> int | None:
    """Return the number of a manifest, or None where a file name is not one of a manifest.

    :param name: the file name.
    """
    stem = name.removesuffix(".json")
    if not (stem.isascii() and stem.isdecimal()) or manifest_name(int(stem)) != name:
        return None
    return int(stem) or None


@dataclass
class Try:
    """A try whose manifest is still to be written.

    :param facts: who, when, and the counts; may be added to.
    :param also: paths of its files elsewhere in the record; may be added to.
    """

    facts: dict[str, Any]
    also: list[str] = field(default_factory=list)


@contextmanager
def recorded(folder: RunFolder, facts: Mapping[str, Any]) -> Iterator[Try]:
    """Leave a manifest of a try whatever happens: the control ran.

    :param folder: the task's folder.
    :param facts: who, when, and the counts.
    :return: what the manifest will say.
    :raises AhaStorageError: when it can't be written.
    """
    mine = Try({"ended": "failed", **facts})
    try:
        yield mine
        mine.facts["ended"] = "completed"
    except AhaError as error:
        mine.facts["reason"] = str(error)
        raise
    finally:
        close_try(folder, mine.facts, mine.also)


def close_try(folder: RunFolder, facts: Mapping[str, Any], also: Iterable[str] = ()) -> tuple[str, str]:
    """Write the manifest of a try: that the control ran, what it left, and what came before it.

    :param folder: the task's folder.
    :param facts: who, when, and the counts.
    :param also: paths of further files of the try, elsewhere in the account's record.
    :return: the manifest's name below the base path, and its SHA-256; the log says both.
    :raises AhaConfigurationError: when the base path can't hold records.
    :raises AhaStorageError: when it can't be written.
    """
    record = Record(folder.location, folder.account)
    files = {record.name_of(path): sha256(body) for path, body in _files(folder, also).items()}
    taken, before = 0, -1
    while taken < _UNSEEN:
        newest = _newest(record)
        manifest = {
            **facts,
            "account": folder.account,
            "finished_at": timestamp(),
            "folder": record.name_of(folder.path),
            "previous": newest.name,
            "previous_sha256": newest.sha256,
            "previous_finished_at": newest.finished_at,
            "files": files,
        }
        # Nothing comes after the newest manifest that would hold its hash.
        body = sealed(manifest)
        path = f"{record.manifests}/{manifest_name(newest.number + 1)}"
        if record.location.create(path, body):
            digest = sha256(body)
            # The log is a witness outside of the record that nobody can change along with it.
            log.info("Manifest %s, SHA-256 %s", record.location.url_of(path), digest)
            return path, digest
        taken, before = (taken + 1 if newest.number == before else 1), newest.number
    raise AhaStorageError(
        f"{record.location.url_of(path)} is taken, but no listing shows it: the storage lags behind, so the "
        "manifest of this try was not written. Try again."
    )


def is_vouched(folder: RunFolder, path: str, body: bytes, facts: Mapping[str, Any]) -> bool:
    """Tell whether a try that says something of itself has left a file as it is, by the manifests of the account.

    :param folder: a task's folder.
    :param path: the file, below the base path.
    :param body: its bytes.
    :param facts: what the manifest of that try must say.
    :raises AhaSnapshotError: when a manifest can't be read.
    """
    record = Record(folder.location, folder.account)
    name, digest = record.name_of(path), sha256(body)
    numbers = (number_of(one.rpartition("/")[2]) for one in record.location.files(record.manifests))
    names = [
        f"{record.manifests}/{manifest_name(number)}" for number in sorted(filter(None, numbers), reverse=True)
    ]
    for start in range(0, len(names), _AT_ONCE):
        for place, content in record.location.read_many(names[start : start + _AT_ONCE]).items():
            manifest = parse_record(content, record.location.url_of(place))
            files = manifest.get("files") or {}
            if files.get(name) == digest and all(manifest.get(key) == value for key, value in facts.items()):
                return True
    return False


def _files(folder: RunFolder, also: Iterable[str]) -> dict[str, bytes]:
    """Read the task's own files, those that the run's tasks share (plan and approval), and others."""
    location, plan = folder.location, f"{folder.run_path}/plan.json"
    shared = location.read_many(location.files(folder.run_path, deep=False))
    index: list[str] = []
    if plan in shared:
        # Where later plans look for this one.
        name = f"-{sha256(shared[plan])[:16]}.json"
        index = [path for path in location.files(f"{folder.account_path}/plans") if path.endswith(name)]
    others = sorted({*index, *also} - shared.keys())
    return {**location.read_all(folder.path), **shared, **location.read_many(others)}


@dataclass(frozen=True)
class _Newest:
    """The end of a chain: what the next manifest comes after."""

    number: int
    name: str | None
    sha256: str | None
    finished_at: str | None = None


def _newest(record: Record) -> _Newest:
    found = {number_of(entry.name.rpartition("/")[2]): entry for entry in record.location.entries(record.manifests)}
    numbers = [number for number in found if number]
    if numbers:
        number = max(numbers)
        return _Newest(number, manifest_name(number), *_hash_and_moment(record, found[number]))
    # Without a manifest a prune has left the last one's name and hash.
    anchor = record.location.read_record(f"{record.manifests}/{ANCHOR}") or {}
    name = str(anchor.get("name"))
    if number := number_of(name) or 0:
        return _Newest(number, name, anchor.get("sha256"))
    return _Newest(0, None, None)


def _hash_and_moment(record: Record, entry: StoredEntry) -> tuple[str | None, str | None]:
    """Return hash and end of a manifest; also of one that was forged, for the next one comes after it."""
    if entry.kind == OTHER:
        return None, None
    if entry.size > LARGEST:
        return record.location.hash_of(entry.name), None
    (body,) = record.location.read_many([entry.name]).values()
    with suppress(AhaSnapshotError):
        return sha256(body), parse_record(body, entry.name).get("finished_at")
    return sha256(body), None
