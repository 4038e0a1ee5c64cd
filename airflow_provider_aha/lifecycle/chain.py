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
    parse_record,
    read_all,
    read_record,
    sha256,
)
from airflow_provider_aha.storage import ANY_ERROR, storage_errors, to_json

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
    own = read_all(fs, folder.path)
    with storage_errors(folder.run_path, ANY_ERROR):
        shared = fs.find(folder.run_path, maxdepth=1) if fs.exists(folder.run_path) else []
        # Where later plans look for this one.
        index = (
            fs.glob(f"{folder.account_path}/plans/*-{sha256(fs.cat_file(plan))[:16]}.json")
            if plan in shared
            else []
        )
        others = sorted({*shared, *index, *also} - own.keys())
        found = {**own, **(fs.cat(others) if others else {})}
    return {path: body for path, body in found.items() if not _is_debris(path)}


def _last(fs: AbstractFileSystem, account_path: str) -> tuple[str | None, str | None]:
    """Name the newest manifest, with its hash."""
    names = _names(fs, account_path)
    if names:
        with storage_errors(names[-1], ANY_ERROR):
            return names[-1], sha256(fs.cat_file(f"{account_path}/manifests/{names[-1]}"))
    anchor = read_record(fs, f"{account_path}/manifests/{ANCHOR}") or {}
    return anchor.get("name"), anchor.get("sha256")


def _names(fs: AbstractFileSystem, account_path: str) -> list[str]:
    folder = f"{account_path}/manifests"
    with storage_errors(folder, ANY_ERROR):
        fs.invalidate_cache()
        paths = fs.find(folder) if fs.exists(folder) else []
    return sorted(name for path in paths if (name := path.removeprefix(f"{folder}/"))[:8].isdecimal())


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
    with storage_errors(account_path, ANY_ERROR):
        paths = [
            path
            for path in fs.find(account_path)
            if not path.startswith(f"{account_path}/manifests/") and not _is_debris(path)
        ]
        for start in range(0, len(paths), _AT_ONCE):
            bodies = fs.cat(paths[start : start + _AT_ONCE])
            found |= {_relative(path, account_path): sha256(body) for path, body in bodies.items()}
    return found


def _check_chain(bodies: Mapping[str, bytes], expected: dict[str, str]) -> Iterator[str]:
    """Check each manifest against the ones before it, and collect what files they name."""
    hashes: dict[str, str] = {}
    for path in sorted(path for path in bodies if not _is_debris(path)):
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


def _is_debris(path: str) -> bool:
    """Tell whether a file is what a worker leaves that dies while it writes; nobody reads it."""
    name = path.rpartition("/")[2]
    return name.startswith(".") and name.endswith(".tmp")


def _relative(path: str, account_path: str) -> str:
    return path.removeprefix(f"{account_path}/")
