"""The chain of manifests: each names the files of its try and carries the hash of the manifest before it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from airflow_provider_aha.common.moments import timestamp
from airflow_provider_aha.exceptions import AhaSnapshotError
from airflow_provider_aha.record import evidence
from airflow_provider_aha.record.run import RunFolder
from airflow_provider_aha.store.store import (
    create_once,
    creates_conditionally,
    list_files,
    parse_record,
    publish_all,
    read_all,
    read_files,
    read_record,
    sealed,
    sha256,
    staging,
    to_json,
)

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# What a prune leaves for the manifests that it takes away: ``{"name": ..., "sha256": ...}`` of the last one. The
# prune's own manifest, further on in the chain, says the same under ``pruned``.
ANCHOR = "anchor.json"
PRUNED = "pruned"
# What a prune says of the reviews that it takes away, with which their chain begins: ``{"review_id": ..., ...}``.
PRUNED_REVIEWS = "pruned_reviews"
_AT_ONCE = 64
# What each try makes anew from its journal; all other files are written once.
_REPLACED = f"/{evidence.FILE}"
_EVENT = re.compile(r"(?P<folder>.+)/events/[^/]+/(?P<try>\d+)-[^/]+")
_IN_NO_MANIFEST = "is in no manifest: it was added, or the task that wrote it is still running, or died."


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
        body = sealed(manifest)
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
    leaving: dict[str, str] = {}
    yield from _check_chain(_manifests(fs, account_path), expected, leaving)
    found = _hashes(fs, account_path)
    for name, digest in sorted(expected.items()):
        if name not in found:
            yield f"{name} was removed."
        elif found[name] != digest:
            yield f"{name} was changed."
    for name in sorted(found.keys() - expected.keys()):
        if leaving.get(name) != found[name]:
            yield f"{name} {_IN_NO_MANIFEST}"


@dataclass(frozen=True)
class Expired:
    """The beginning of a chain, which may be deleted.

    :param last: name of its last manifest.
    :param sha256: hash of that.
    :param manifests: paths of its manifests, in order.
    :param files: paths of the files that no later manifest names.
    :param unlisted: paths of files that no manifest names: of tasks that died and were not tried again.
    """

    last: str | None
    sha256: str | None
    manifests: Sequence[str]
    files: Sequence[str]
    unlisted: Sequence[str]


def expired(fs: AbstractFileSystem, account_path: str, before: datetime) -> Expired:
    """Find what of an account's records is older than a moment.

    :param fs: the account folder's filesystem.
    :param account_path: the folder of the account's records.
    :param before: the moment; UTC. A file is as old as the last manifest that names it.
    :raises AhaSnapshotError: when the chain doesn't hold: what was done to it must stay to be seen.
    :raises AhaStorageError: when the records can't be read.
    """
    bodies = _manifests(fs, account_path)
    if findings := list(_check_chain(bodies, {}, {})):
        raise AhaSnapshotError(
            f"The chain of manifests in {account_path} doesn't hold ({findings[0]}), so nothing of this record was "
            "deleted. Run python -m airflow_provider_aha.verify, and find out who changed it."
        )
    anchor = next(iter(_anchor(bodies)), "")
    chain = [(path.removeprefix("manifests/"), parse_record(bodies[path], path)) for path in sorted(bodies)]
    chain = [(name, manifest) for name, manifest in chain if name != ANCHOR]
    old = list(takewhile(lambda one: one[0] <= anchor or _finished(one[1]) < before, chain))
    while old and not _is_followed(old[-1][0], chain[len(old) :]):
        old.pop()
    kept = set().union(*(manifest["files"] for _, manifest in chain[len(old) :]))
    gone = set().union(*(manifest["files"] for _, manifest in old)) - kept
    there = list_files(fs, account_path, debris=True)
    last = old[-1][0] if old else None
    return Expired(
        last,
        sha256(bodies[f"manifests/{last}"]) if last else None,
        [f"{account_path}/manifests/{name}" for name, _ in old],
        [path for path in there if _relative(path, account_path) in gone],
        [path for path in there if _is_ours(rest := _relative(path, account_path)) and rest not in gone | kept],
    )


def _finished(manifest: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(manifest["finished_at"])


def _is_followed(last: str, later: Sequence[tuple[str, Mapping[str, Any]]]) -> bool:
    """Tell whether all that comes later hangs on one manifest; two writers at once may have followed another."""
    known = {last, *(name for name, _ in later)}
    return all(manifest["previous"] in known for _, manifest in later)


def _is_ours(name: str) -> bool:
    return name.startswith(("dag=", "register/", "plans/", "applied/"))


def anchor_at(fs: AbstractFileSystem, account_path: str, gone: Expired) -> None:
    """Let the chain begin after what is about to be deleted.

    :param fs: the account folder's filesystem.
    :param account_path: the folder of the account's records.
    :param gone: what is about to be deleted; a manifest says so already.
    :raises AhaStorageError: when it can't be written.
    """
    with staging() as folder:
        local = folder / ANCHOR
        local.write_bytes(to_json({"name": gone.last, "sha256": gone.sha256}))
        publish_all(fs, {f"{account_path}/manifests/{ANCHOR}": local})


def pruned_up_to(fs: AbstractFileSystem, account_path: str) -> str | None:
    """Return the last manifest that a prune has deleted, or was about to, or None; :func:`verify` says if it holds.

    :param fs: the account folder's filesystem.
    :param account_path: the folder of the account's records.
    """
    with suppress(AhaSnapshotError, KeyError):
        return next(iter(_anchor(_manifests(fs, account_path))), None)
    return None


def pruned_reviews(fs: AbstractFileSystem, account_path: str) -> list[Mapping[str, Any]]:
    """Return up to which reviews manifests say that a prune has deleted them; :func:`verify` says if they hold.

    :param fs: the account folder's filesystem.
    :param account_path: the folder of the account's records.
    """
    found = []
    for path, body in _manifests(fs, account_path).items():
        with suppress(AhaSnapshotError):
            found.append(parse_record(body, path).get(PRUNED_REVIEWS))
    return [one for one in found if isinstance(one, dict)]


def _manifests(fs: AbstractFileSystem, account_path: str) -> dict[str, bytes]:
    bodies = read_all(fs, f"{account_path}/manifests")
    return {_relative(path, account_path): body for path, body in bodies.items()}


def _hashes(fs: AbstractFileSystem, account_path: str) -> dict[str, str]:
    """Hash all files but the manifests, a few at a time: years of plans would not fit into memory."""
    found: dict[str, str] = {}
    paths = [path for path in list_files(fs, account_path) if not path.startswith(f"{account_path}/manifests/")]
    for start in range(0, len(paths), _AT_ONCE):
        bodies = read_files(fs, paths[start : start + _AT_ONCE])
        found |= {_relative(path, account_path): sha256(body) for path, body in bodies.items()}
    return found


def _check_chain(bodies: Mapping[str, bytes], expected: dict[str, str], leaving: dict[str, str]) -> Iterator[str]:
    """Check each manifest against the ones before it, and collect what files they name.

    ``leaving`` is given the files of manifests that a prune was about to delete: they may be there, or not.
    """
    try:
        hashes = _anchor(bodies)
    except (AhaSnapshotError, KeyError):
        yield f"manifests/{ANCHOR} was changed, or is no anchor."
        hashes = {}
    anchor, vouched = next(iter(hashes.items()), ("", "")), False
    ended: set[tuple[str, int]] = set()
    for path in sorted(bodies):
        name = path.removeprefix("manifests/")
        if name == ANCHOR:
            continue
        try:
            manifest = parse_record(bodies[path], path)
            own = manifest.pop("content_sha256")
            files = dict(manifest["files"])
            if name <= anchor[0]:
                leaving.update(files)
                continue
            yield from _check_written_once(files, expected)
            yield from _check_ended(manifest, files.keys() - expected.keys(), ended)
            expected.update(files)
            yield from _check_link(path, manifest, hashes, first=not hashes)
            if sha256(to_json(manifest)) != own:
                yield f"{path} was changed."
            pruned = manifest.get(PRUNED) or {}
            vouched = vouched or (pruned.get("name"), pruned.get("sha256")) == anchor
        except (AhaSnapshotError, KeyError, TypeError, ValueError, AttributeError):
            yield f"{path} was changed, or is no manifest."
        hashes[name] = sha256(bodies[path])
    if anchor[0] and not vouched:
        yield f"manifests/{ANCHOR} is of no prune: no manifest says that all up to {anchor[0]} was deleted."


def _check_written_once(files: Mapping[str, str], expected: Mapping[str, str]) -> Iterator[str]:
    """Compare the files of a try with what earlier tries found: its manifest has hashed again what they left."""
    for name, digest in files.items():
        if expected.get(name, digest) != digest and not name.endswith(_REPLACED):
            yield f"{name} was changed between two tries."


def _check_ended(manifest: Mapping[str, Any], new: Iterable[str], ended: set[tuple[str, int]]) -> Iterator[str]:
    """Name events that are said to be of an earlier try, though the manifest of that try doesn't know them."""
    number = manifest.get("try_number") or 0
    for name in sorted(new):
        event = _EVENT.fullmatch(name)
        if event and int(event["try"]) < number and (event["folder"], int(event["try"])) in ended:
            yield f"{name} was added after its try had ended."
    ended.add((manifest["folder"], number))


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
