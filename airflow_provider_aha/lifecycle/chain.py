"""The chain of manifests: each names the files of its try and carries the hash of the manifest before it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_aha.exceptions import AhaSnapshotError
from airflow_provider_aha.lifecycle.journal import timestamp
from airflow_provider_aha.lifecycle.records import (
    RunFolder,
    create_once,
    creates_conditionally,
    list_files,
    parse_record,
    read_all,
    read_files,
    read_record,
    sha256,
)
from airflow_provider_aha.storage import to_json

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# What a prune leaves for the manifests that it took away: ``{"name": ..., "sha256": ...}`` of the last one.
ANCHOR = "anchor.json"
_AT_ONCE = 64


def close_try(folder: RunFolder, facts: Mapping[str, Any], also: Iterable[str] = ()) -> tuple[str, str]:
    """Write the manifest of a try: that the control ran, what it left, and what came before it.

    :param folder: the task's folder.
    :param facts: who, when, and the counts.
    :param also: paths of further files of the try, elsewhere below the account's folder.
    :return: the manifest's path and its SHA-256.
    :raises AhaStorageError: when it can't be written.
    """
    fs = folder.fs
    files = {_relative(path, folder.account_path): sha256(body) for path, body in _files(folder, also).items()}
    while True:
        name, digest = _last(fs, folder.account_path)
        manifest = {
            **facts,
            "finished_at": timestamp(),
            "folder": _relative(folder.path, folder.account_path),
            "previous": name,
            "previous_sha256": digest,
            "files": files,
        }
        # Nothing comes after the newest manifest that would hold its hash.
        body = to_json({**manifest, "content_sha256": sha256(to_json(manifest))})
        number = int(name[:8]) + 1 if name else 1
        # Where two writers could both win one name, each has its own, and both follow the same one.
        suffix = "" if creates_conditionally(fs) else f"-{uuid.uuid4().hex[:8]}"
        path = f"{folder.account_path}/manifests/{number:08d}{suffix}.json"
        if create_once(fs, path, body):
            return path, sha256(body)


def _files(folder: RunFolder, also: Iterable[str]) -> dict[str, bytes]:
    """Read the task's own files, those that the run's tasks share (plan and approval), and others."""
    fs, plan = folder.fs, f"{folder.run_path}/plan.json"
    shared = read_files(fs, list_files(fs, folder.run_path, deep=False))
    index: list[str] = []
    if plan in shared:
        # Where later plans look for this one.
        name = f"-{sha256(shared[plan])[:16]}.json"
        index = [path for path in list_files(fs, f"{folder.account_path}/plans") if path.endswith(name)]
    others = sorted({*index, *also} - shared.keys())
    return {**read_all(fs, folder.path), **shared, **read_files(fs, others)}


def _last(fs: AbstractFileSystem, account_path: str) -> tuple[str | None, str | None]:
    """Name the newest manifest, with its hash."""
    paths = [path for path in list_files(fs, f"{account_path}/manifests") if not path.endswith(f"/{ANCHOR}")]
    if paths:
        (body,) = read_files(fs, paths[-1:]).values()
        return paths[-1].rpartition("/")[2], sha256(body)
    anchor = read_record(fs, f"{account_path}/manifests/{ANCHOR}") or {}
    return anchor.get("name"), anchor.get("sha256")


def verify(fs: AbstractFileSystem, account_path: str) -> Iterator[str]:
    """Recompute the chain of an account.

    :param fs: the account folder's filesystem.
    :param account_path: the folder of the account's records.
    :return: a sentence for each thing that was changed, removed or added; none when all is as it was written.
    :raises AhaStorageError: when the records can't be read.
    """
    expected: dict[str, str] = {}
    manifests = read_all(fs, f"{account_path}/manifests")
    yield from _check_chain({_relative(path, account_path): body for path, body in manifests.items()}, expected)
    found = _hashes(fs, account_path)
    for name, digest in sorted(expected.items()):
        if name not in found:
            yield f"{name} was removed."
        elif found[name] != digest:
            yield f"{name} was changed."
    for name in sorted(found.keys() - expected.keys()):
        yield f"{name} is in no manifest: it was added, or the task that wrote it was cut off and not tried again."


def _hashes(fs: AbstractFileSystem, account_path: str) -> dict[str, str]:
    """Hash all files but the manifests, a few at a time: years of plans would not fit into memory."""
    found: dict[str, str] = {}
    paths = [path for path in list_files(fs, account_path) if not path.startswith(f"{account_path}/manifests/")]
    for start in range(0, len(paths), _AT_ONCE):
        bodies = read_files(fs, paths[start : start + _AT_ONCE])
        found |= {_relative(path, account_path): sha256(body) for path, body in bodies.items()}
    return found


def _check_chain(bodies: Mapping[str, bytes], expected: dict[str, str]) -> Iterator[str]:
    """Check each manifest against the ones before it, and collect what files they name."""
    hashes: dict[str, str] = {}
    for path in sorted(bodies):
        name = path.removeprefix("manifests/")
        try:
            manifest = parse_record(bodies[path], path)
            if name == ANCHOR:
                continue
            own = manifest.pop("content_sha256")
            expected.update(manifest["files"])
            yield from _check_link(path, manifest, hashes or _anchor(bodies), first=not hashes)
            if sha256(to_json(manifest)) != own:
                yield f"{path} was changed."
        except (AhaSnapshotError, KeyError, TypeError, ValueError):
            yield f"{path} was changed, or is no manifest."
        hashes[name] = sha256(bodies[path])


def _check_link(path: str, manifest: Mapping[str, Any], hashes: Mapping[str, str], *, first: bool) -> Iterator[str]:
    previous = manifest["previous"]
    if previous is None:
        if not first:
            yield f"{path} says that it is the first, but others come before it."
    elif previous not in hashes:
        yield f"manifests/{previous} was removed: {path} comes after it."
    elif hashes[previous] != manifest["previous_sha256"]:
        yield f"manifests/{previous} was changed after {path} was written."


def _anchor(bodies: Mapping[str, bytes]) -> dict[str, str]:
    if (body := bodies.get(f"manifests/{ANCHOR}")) is None:
        return {}
    anchor = parse_record(body, ANCHOR)
    return {anchor["name"]: anchor["sha256"]}


def _relative(path: str, account_path: str) -> str:
    return path.removeprefix(f"{account_path}/")
