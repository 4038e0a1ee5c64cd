"""What differs between storage systems: how a file appears whole, is created only once, and is listed.

Everything here takes a filesystem of fsspec and a path on it, and raises what they raise;
:mod:`airflow_provider_aha.store.store` makes sentences of that. Google Cloud Storage and Azure are reached through
fsspec's own interface (``pipe_file(mode="create")``, ``find``, ``cat``), as S3 is.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import uuid
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_aha.common.moments import read_moment

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# A put to these appears whole or not at all; elsewhere a rename makes it so.
_WHOLE_PUTS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "memory"})
# Where a file is created only if there is none, by one request; whether an endpoint keeps to it is proven first.
_CONDITIONAL_PUTS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl"})
# Where `find` is one listing of the store's own; elsewhere fsspec's walks, and passes over what can't be listed.
_FINDS = frozenset({"s3", "s3a", "gs", "gcs", "memory"})
# What an S3 endpoint answers when there is a file already, and when another writer is just creating it.
_TAKEN, _BEING_TAKEN = ("PreconditionFailed", "412"), ("ConditionalRequestConflict", "409")
# So often a file is put again that another writer is just creating.
_REPEATS = 10
_DEBRIS = re.compile(r"\..+\.[0-9a-f]{32}\.tmp", re.DOTALL)
# How the filesystems call the date of a file.
_DATES = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")

FILE, LINK, OTHER = "file", "link", "other"


class StillTakenError(Exception):
    """Other writers were creating the same file again and again."""


@dataclass(frozen=True)
class StoredEntry:
    """Something in a folder that is no folder itself.

    :param name: its name below the store.
    :param size: bytes.
    :param kind: ``file``, ``link`` or ``other``: a pipe, a socket, a device.
    """

    name: str
    size: int
    kind: str


def protocols(fs: AbstractFileSystem) -> set[str]:
    """Return the schemes of a filesystem."""
    return {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)


def is_local(fs: AbstractFileSystem) -> bool:
    """Tell whether a filesystem is that of this machine."""
    return "file" in protocols(fs)


def creates_conditionally(fs: AbstractFileSystem) -> bool:
    """Tell whether one request creates a file only if there is none."""
    return bool(protocols(fs) & _CONDITIONAL_PUTS)


# --- writing ---------------------------------------------------------------------------------------


@contextmanager
def uploaded(fs: AbstractFileSystem, local: Path, target: str) -> Generator[Any]:
    """Bring a file next to its place and give what moves it there; an unmoved one is removed."""
    if protocols(fs) & _WHOLE_PUTS:
        yield lambda: fs.put_file(str(local), target)
        return
    folder, _, name = target.rpartition("/")
    # Readers of data folders pass over names with a dot in front, and it doesn't end in .parquet.
    beside = f"{folder}/.{name}.{uuid.uuid4().hex}.tmp"
    try:
        fs.makedirs(folder, exist_ok=True)
        fs.put_file(str(local), beside)
        yield lambda: _rename(fs, beside, target)
    finally:
        with suppress(OSError):
            fs.rm_file(beside)


def _rename(fs: AbstractFileSystem, source: str, target: str) -> None:
    if is_local(fs):
        Path(source).replace(target)
    else:
        fs.mv(source, target)


def create(fs: AbstractFileSystem, path: str, content: bytes | Path) -> bool:
    """Create a file whole, and only where there is none.

    :raises StillTakenError: when other writers are at it again and again.
    """
    if is_local(fs):
        try:
            return _create_local(Path(path), content)
        except FileExistsError:
            return False
    content = content.read_bytes() if isinstance(content, Path) else content
    if creates_conditionally(fs):
        # A request whose answer was lost is sent again by the store's own client, and meets itself.
        return _put_once(fs, path, content) or read(fs, path) == content
    fs.invalidate_cache()
    if is_there(fs, path):
        return False
    fs.pipe_file(path, content)
    return True


def _put_once(fs: AbstractFileSystem, path: str, content: bytes) -> bool:
    for _ in range(_REPEATS):
        try:
            fs.pipe_file(path, content, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            # Of these answers s3fs knows one, and only as AWS words it.
            code = _s3_code(error)
            if code in _TAKEN:
                return False
            if code not in _BEING_TAKEN:
                raise
        else:
            return True
    raise StillTakenError


def _s3_code(error: OSError) -> str | None:
    response = getattr(error.__cause__, "response", None)
    return response.get("Error", {}).get("Code") if isinstance(response, dict) else None


def _create_local(path: Path, content: bytes | Path) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        with beside.open("wb") as stream:
            if isinstance(content, Path):
                with content.open("rb") as source:
                    shutil.copyfileobj(source, stream)
            else:
                stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        # A link, unlike a rename, fails where the name is taken.
        path.hardlink_to(beside)
    finally:
        beside.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return True


def _sync_folder(folder: Path) -> None:
    # Without it a power cut could forget the name of a file that is on disk.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_empty(paths: Iterable[str]) -> None:
    """Remove the folders on this machine that are empty now, up to that of the account."""
    for folder in sorted({parent for path in paths for parent in _folders(path)}, key=len, reverse=True):
        with suppress(OSError):
            Path(folder).rmdir()


def _folders(path: str) -> Iterator[str]:
    while (path := path.rpartition("/")[0]) and not path.rpartition("/")[2].startswith("account="):
        yield path


# --- reading ---------------------------------------------------------------------------------------


def read(fs: AbstractFileSystem, path: str) -> bytes | None:
    """Read a file, or return None when there is none."""
    # By a listing that this process has kept, a file that another has written since would not be there.
    fs.invalidate_cache()
    try:
        body: bytes = fs.cat_file(path)
    except FileNotFoundError:
        return None
    return body


def is_there(fs: AbstractFileSystem, path: str) -> bool:
    """Tell whether there is such a file or folder, where fsspec's ``exists`` takes any error for a no."""
    try:
        fs.info(path)
    except FileNotFoundError:
        return False
    return True


def files(fs: AbstractFileSystem, folder: str, *, deep: bool) -> Iterable[str]:
    """Yield the paths of all files below a folder; one that isn't there has none."""
    if is_local(fs):
        # fsspec looks at each file, and shows an empty folder where one is gone between two looks.
        return _find_local(folder, deep=deep)
    # What this process has listed before lacks what others have written since.
    fs.invalidate_cache()
    if deep and protocols(fs) & _FINDS:
        found: list[str] = fs.find(folder)
        return found
    return (str(info["name"]).rstrip("/") for info in _walk(fs, folder, deep=deep))


def list_entries(fs: AbstractFileSystem, folder: str) -> Iterator[StoredEntry]:
    """Yield everything below a folder that is no folder itself; links are not followed."""
    if is_local(fs):
        yield from _local_entries(folder)
    else:
        for info in _infos(fs, folder):
            yield StoredEntry(str(info["name"]).rstrip("/"), int(info.get("size") or 0), FILE)


def written_since(fs: AbstractFileSystem, folder: str, since: datetime) -> Iterator[str]:
    """Yield the files below a folder that were written since a moment, or whose date the store doesn't tell."""
    if is_local(fs):
        oldest = since.timestamp()
        for path in _find_local(folder, deep=True):
            with suppress(FileNotFoundError):
                # Years of runs are many files: a Path of each would take twice as long as all else here.
                if os.stat(path).st_mtime >= oldest:  # noqa: PTH116
                    yield path
    else:
        for info in _infos(fs, folder):
            if (_written_at(info) or since) >= since:
                yield str(info["name"])


def is_debris(fs: AbstractFileSystem, name: str) -> bool:
    """Tell whether a file is what a writer leaves that dies: ``.<name>.<32 digits>.tmp``, on the local disk."""
    return is_local(fs) and _DEBRIS.fullmatch(name.rpartition("/")[2]) is not None


def _infos(fs: AbstractFileSystem, folder: str) -> Iterable[Mapping[str, Any]]:
    fs.invalidate_cache()
    if protocols(fs) & _FINDS:
        found = fs.find(folder, detail=True)
        if isinstance(found, dict):
            return found.values()
    return _walk(fs, folder)


def _walk(fs: AbstractFileSystem, folder: str, *, deep: bool = True) -> Iterator[dict[str, Any]]:
    try:
        infos = fs.ls(folder, detail=True)
    except FileNotFoundError:
        # There is none, or it is gone between two looks.
        return
    for info in infos:
        name = str(info["name"]).rstrip("/")
        if info["type"] != "directory":
            yield info
        elif deep and name != folder:
            yield from _walk(fs, name)


def _find_local(folder: str, *, deep: bool, links: bool = False) -> Iterator[str]:
    def fail(error: OSError) -> None:
        if not (isinstance(error, FileNotFoundError) and error.filename == folder):
            raise error

    for path, folders, names in os.walk(folder, onerror=fail):
        yield from (f"{path}/{name}" for name in names)
        if links:
            yield from (link for name in folders if Path(link := f"{path}/{name}").is_symlink())
        if not deep:
            return


def _local_entries(folder: str) -> Iterator[StoredEntry]:
    for path in _find_local(folder, deep=True, links=True):
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            # It is gone between two looks.
            continue
        is_file = stat.S_ISREG(status.st_mode)
        yield StoredEntry(
            path, status.st_size, FILE if is_file else LINK if stat.S_ISLNK(status.st_mode) else OTHER
        )


def _written_at(info: Mapping[str, Any]) -> datetime | None:
    value = next((info[name] for name in _DATES if info.get(name)), None)
    return datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else read_moment(value)
