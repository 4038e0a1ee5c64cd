"""Files on any fsspec filesystem: Parquet staged locally and published whole, readers that check the hash.

A file is written to local temporary space first and only a finished one goes to its place: closing a remote
file after an exception would publish the half that was written.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_aha.common.moments import read_moment
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaError, AhaSnapshotError, AhaStorageError
from airflow_provider_aha.store.layout import base_of_record

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


# A put to these appears whole or not at all; elsewhere a rename makes it so.
_WHOLE_PUTS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "memory"})
_CHUNK = 1024 * 1024
# Object stores raise what their libraries raise (botocore's errors are no OSError).
ANY_ERROR = Exception
# Theirs have no words of the operating system.
_REASONS: dict[type[Exception], str] = {
    FileNotFoundError: "it, or its bucket, does not exist",
    PermissionError: "the credentials were refused, or may not do this",
    TimeoutError: "no answer came in time",
}
# Where a file is created only if there is none, by one request; whether an endpoint keeps to it is proven first.
_CONDITIONAL_PUTS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl"})
# What an S3 endpoint answers when there is a file already, and when another writer is just creating it.
_TAKEN, _BEING_TAKEN = ("PreconditionFailed", "412"), ("ConditionalRequestConflict", "409")
# The one file with which that is proven, of each base path. It stays, so that a proof needs no right to delete.
_PROBE = ".once/probe"
# So often a file is put again that another writer is just creating.
_REPEATS = 10
# Where it was proven in this process.
_PROVEN: set[tuple[AbstractFileSystem, str]] = set()
_DEBRIS = re.compile(r"\..+\.[0-9a-f]{32}\.tmp", re.DOTALL)
# Where `find` is one listing of the store's own; elsewhere fsspec's walks, and passes over what can't be listed.
_FINDS = frozenset({"s3", "s3a", "gs", "gcs", "memory"})


@dataclass(frozen=True)
class Location:
    """A base path, resolved.

    :param fs: its filesystem.
    :param path: the path on ``fs``, without a slash at its end.
    :param url: the path as its user writes it, for manifests and messages.
    """

    fs: AbstractFileSystem
    path: str
    url: str


def file_hash(stream: Any) -> tuple[str, int]:
    """Return hash and size of a file, and close it.

    :param stream: a binary file, open for reading.
    :return: SHA-256 in hexadecimal, bytes.
    """
    digest, size = hashlib.sha256(), 0
    with stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


@contextmanager
def staging() -> Iterator[Path]:
    """Give a local folder that is gone afterwards, whatever happens.

    :raises AhaStorageError: when the worker has no temporary space.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="airflow-aha-")
    except OSError as error:
        raise AhaStorageError(f"The worker has no temporary space to stage files in: {error.strerror}.") from error
    with folder as path:
        yield Path(path)


@contextmanager
def storage_errors(path: str, kind: type[Exception] = OSError) -> Iterator[None]:
    """Turn what the operating system or an object store says into a sentence.

    :param path: what was to be read or written.
    :param kind: what to turn; :data:`ANY_ERROR` around calls of a filesystem.
    :raises AhaStorageError: for every such error inside that isn't this package's own.
    """
    try:
        yield
    except AhaError:
        raise
    except kind as error:
        reason = (
            getattr(error, "strerror", None)
            or _REASONS.get(type(error))
            or f"its storage system failed ({type(error).__name__})"
        )
        raise AhaStorageError(
            f"{getattr(error, 'filename', None) or path} could not be used: {reason}. Check that it exists, that "
            "the worker may read and write there, and that there is space."
        ) from error


def publish_all(fs: AbstractFileSystem, files: Mapping[str, Path]) -> None:
    """Put several finished files in their places, the last one when all others are there.

    Where a file is made whole by a rename, all lie beside their places before the first is replaced.

    :param fs: the targets' filesystem.
    :param files: local file by target, in the order in which they are to appear.
    :raises AhaStorageError: when one can't be written.
    """
    with ExitStack() as stack:
        commits = {target: stack.enter_context(_uploaded(fs, local, target)) for target, local in files.items()}
        for target, commit in commits.items():
            with storage_errors(target, ANY_ERROR):
                commit()


@contextmanager
def _uploaded(fs: AbstractFileSystem, local: Path, target: str) -> Generator[Any]:
    """Bring a file next to its place and give what moves it there; an unmoved one is removed."""
    if _protocols(fs) & _WHOLE_PUTS:
        yield lambda: fs.put_file(str(local), target)
        return
    folder, _, name = target.rpartition("/")
    # Readers of data folders pass over names with a dot in front, and it doesn't end in .parquet.
    beside = f"{folder}/.{name}.{uuid.uuid4().hex}.tmp"
    try:
        with storage_errors(target, ANY_ERROR):
            fs.makedirs(folder, exist_ok=True)
            fs.put_file(str(local), beside)
        yield lambda: _rename(fs, beside, target)
    finally:
        with suppress(OSError):
            fs.rm_file(beside)


def _rename(fs: AbstractFileSystem, source: str, target: str) -> None:
    if "file" in _protocols(fs):
        Path(source).replace(target)
    else:
        fs.mv(source, target)


def _protocols(fs: AbstractFileSystem) -> set[str]:
    return {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)


def to_json(content: Mapping[str, Any]) -> bytes:
    """Encode a manifest or another record, readable and the same for the same content.

    :param content: what JSON can hold.
    """
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def read_json(fs: AbstractFileSystem, path: str) -> dict[str, Any]:
    """Read a JSON object.

    :param fs: the path's filesystem.
    :param path: the file.
    :raises AhaSnapshotError: when it is missing or not a JSON object.
    :raises AhaStorageError: when it can't be read.
    """
    with storage_errors(path, ANY_ERROR):
        try:
            body = fs.cat_file(path)
        except FileNotFoundError:
            raise AhaSnapshotError(f"{path} is missing.") from None
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise AhaSnapshotError(f"{path} is not valid JSON: it was cut short or changed by hand.") from None
    if not isinstance(content, dict):
        raise AhaSnapshotError(f"{path} holds no JSON object.")
    return content


def names_in(fs: AbstractFileSystem, folder: str) -> set[str]:
    """Return the names of what lies in a folder; a folder that isn't there has nothing in it.

    :param fs: the folder's filesystem.
    :param folder: the folder.
    :raises AhaStorageError: when it can't be listed.
    """
    with storage_errors(folder, ANY_ERROR):
        # A listing that this process has kept lacks what others wrote since.
        fs.invalidate_cache()
        try:
            return {str(path).rstrip("/").rpartition("/")[2] for path in fs.ls(folder, detail=False)}
        except FileNotFoundError:
            return set()


def is_there(fs: AbstractFileSystem, path: str) -> bool:
    """Tell whether there is such a file or folder, where fsspec's ``exists`` takes any error for a no.

    :param fs: the path's filesystem.
    :param path: the path.
    :raises AhaStorageError: when the filesystem doesn't say.
    """
    with storage_errors(path, ANY_ERROR):
        try:
            fs.info(path)
        except FileNotFoundError:
            return False
        return True


def read_bytes(fs: AbstractFileSystem, path: str) -> bytes | None:
    """Read a file, or return None when there is none.

    :param fs: the path's filesystem.
    :param path: the file.
    :raises AhaStorageError: when it can't be read.
    """
    with storage_errors(path, ANY_ERROR):
        try:
            body: bytes = fs.cat_file(path)
        except FileNotFoundError:
            return None
    return body


def read_limited(location: Location, what: str, most: int) -> bytes:
    """Read a file that went through somebody's hands, if it is no larger than such a file can be.

    :param location: the file.
    :param what: what it is, for the sentence, beginning with a capital letter.
    :param most: how many bytes it may have.
    :raises AhaConfigurationError: when it has more; nothing of it was read.
    :raises AhaStorageError: when it is missing or can't be read.
    """
    with storage_errors(location.url, ANY_ERROR):
        location.fs.invalidate_cache()
        size = location.fs.info(location.path)["size"]
        body: bytes = location.fs.cat_file(location.path) if size <= most else b""
    if max(size, len(body)) > most:
        raise AhaConfigurationError(
            f"{what} {location.url} is larger than {most // 1024**2 or 1} MB, and nothing of it was read."
        )
    return body


def modified_at(location: Location) -> datetime:
    """Return when a file was written; UTC.

    :param location: the file.
    :raises AhaStorageError: when it is missing.
    :raises AhaConfigurationError: when its filesystem doesn't know.
    """
    location.fs.invalidate_cache()
    try:
        with storage_errors(location.url):
            moment: datetime = location.fs.modified(location.path)
    except NotImplementedError:
        raise AhaConfigurationError(
            f"{location.url} lies where files have no date: its age can't be told."
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def create_once(fs: AbstractFileSystem, path: str, content: bytes | Path) -> bool:
    """Create a file whole, and only where there is none.

    A file of a record is created only where that is proven; see :func:`require_once`.

    :param fs: the path's filesystem.
    :param path: the file.
    :param content: its bytes, or a local file with them.
    :return: False when there is one already.
    :raises AhaConfigurationError: when it belongs to a record, and two writers could both create it.
    :raises AhaStorageError: when it can't be written.
    """
    if (base := base_of_record(path)) is not None:
        require_once(fs, base)
    return _create(fs, path, content)


def require_once(fs: AbstractFileSystem, base: str) -> None:
    """Refuse a base path for records unless of two writers of one file only one can win there.

    Proven once per process and base path, by one request that must be refused. On the local disk the operating
    system sees to it.

    :param fs: its filesystem.
    :param base: the base path.
    :raises AhaConfigurationError: when both would win.
    :raises AhaStorageError: when it can't be tried.
    """
    if is_local(fs) or (fs, base) in _PROVEN:
        return
    url = fs.unstrip_protocol(base)
    if not _protocols(fs) & _CONDITIONAL_PUTS:
        raise AhaConfigurationError(
            f"{url} can't hold records: its storage creates no file only once, so a record could be replaced. "
            "Nothing was done. Take a base path on a local disk, S3, Google Cloud Storage or Azure."
        )
    # The first finds what an earlier proof has left, or leaves it; so the second must lose in any case.
    if all(_create(fs, f"{base}/{_PROBE}", uuid.uuid4().hex.encode()) for _ in range(2)):
        raise AhaConfigurationError(
            f"{url} can't hold records: of two writers of one file both won there, so a record could be replaced. "
            "Its endpoint ignores the header If-None-Match. Nothing was done. Take a base path on a local disk, or "
            "on an endpoint that honours it."
        )
    _PROVEN.add((fs, base))


def _create(fs: AbstractFileSystem, path: str, content: bytes | Path) -> bool:
    with storage_errors(path, ANY_ERROR):
        if is_local(fs):
            try:
                return _create_local(Path(path), content)
            except FileExistsError:
                return False
        content = content.read_bytes() if isinstance(content, Path) else content
        if _protocols(fs) & _CONDITIONAL_PUTS:
            # A request whose answer was lost is sent again by the store's own client, and meets itself.
            return _put_once(fs, path, content) or _read(fs, path) == content
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
    raise AhaStorageError(f"{path} could not be created: other writers were at it again and again. Try again.")


def _s3_code(error: OSError) -> str | None:
    response = getattr(error.__cause__, "response", None)
    return response.get("Error", {}).get("Code") if isinstance(response, dict) else None


def keep_once(fs: AbstractFileSystem, folder: str, name: str, body: bytes | Path) -> tuple[str, str]:
    """Write a file of a record that isn't finished yet, under another name where a try that died left one.

    :param fs: the folder's filesystem.
    :param folder: where.
    :param name: the name that the file should have.
    :param body: its bytes, or a local file with them.
    :return: the name that it has, and its SHA-256.
    :raises AhaStorageError: when it can't be written.
    """
    stem, _, suffix = name.rpartition(".")
    digest = file_hash(body.open("rb"))[0] if isinstance(body, Path) else sha256(body)
    for number in range(2, 1000):
        path = f"{folder}/{name}"
        if create_once(fs, path, body):
            break
        there = _read(fs, path)
        if there is not None and sha256(there) == digest:
            break
        name = f"{stem}-{number}.{suffix}"
    return name, digest


def is_local(fs: AbstractFileSystem) -> bool:
    """Tell whether a filesystem is that of this machine.

    :param fs: a filesystem.
    """
    return "file" in _protocols(fs)


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


def read_record(fs: AbstractFileSystem, path: str) -> dict[str, Any] | None:
    """Read a JSON record.

    :param fs: the path's filesystem.
    :param path: the file.
    :return: the record, or None when there is none.
    :raises AhaSnapshotError: when it is there but is no JSON object.
    """
    with storage_errors(path, ANY_ERROR):
        body = _read(fs, path)
    return None if body is None else parse_record(body, path)


def _read(fs: AbstractFileSystem, path: str) -> bytes | None:
    # By a listing that this process has kept, a file that another has written since would not be there.
    fs.invalidate_cache()
    try:
        body: bytes = fs.cat_file(path)
    except FileNotFoundError:
        return None
    return body


def list_files(fs: AbstractFileSystem, folder: str, *, deep: bool = True, debris: bool = False) -> list[str]:
    """List all files below a folder; what a worker is writing, or died over, is left out.

    :param fs: the folder's filesystem.
    :param folder: the folder; one that isn't there has no files.
    :param deep: whether files of folders inside count.
    :param debris: whether what is left out counts, too.
    :return: their paths, in order.
    :raises AhaStorageError: when it can't be listed.
    """
    with storage_errors(folder, ANY_ERROR):
        if is_local(fs):
            # fsspec looks at each file, and shows an empty folder where one is gone between two looks.
            found: Iterable[str] = _find_local(folder, deep=deep)
        else:
            # What this process has listed before lacks what others have written since.
            fs.invalidate_cache()
            found = fs.find(folder) if deep and _protocols(fs) & _FINDS else _find_by_listing(fs, folder, deep=deep)
        return sorted(path for path in found if debris or not _is_debris(path))


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


def _find_by_listing(fs: AbstractFileSystem, folder: str, *, deep: bool) -> Iterator[str]:
    return (str(entry["name"]).rstrip("/") for entry in _walk(fs, folder, deep=deep))


def _walk(fs: AbstractFileSystem, folder: str, *, deep: bool = True) -> Iterator[dict[str, Any]]:
    try:
        entries = fs.ls(folder, detail=True)
    except FileNotFoundError:
        # There is none, or it is gone between two looks.
        return
    for entry in entries:
        name = str(entry["name"]).rstrip("/")
        if entry["type"] != "directory":
            yield entry
        elif deep and name != folder:
            yield from _walk(fs, name)


def list_written_since(fs: AbstractFileSystem, folder: str, since: datetime) -> list[str]:
    """List the files below a folder that were written since a moment, by their store's clock.

    :param fs: the folder's filesystem.
    :param folder: the folder; one that isn't there has no files.
    :param since: the moment; UTC. A file whose date the store doesn't tell is listed, too.
    :return: their paths, in order.
    :raises AhaStorageError: when it can't be listed.
    """
    with storage_errors(folder, ANY_ERROR):
        if is_local(fs):
            found = _local_since(folder, since)
        else:
            fs.invalidate_cache()
            listed = fs.find(folder, detail=True) if _protocols(fs) & _FINDS else None
            if isinstance(listed, dict):
                entries: Iterable[Mapping[str, Any]] = listed.values()
            else:
                entries = _walk(fs, folder)
            found = [str(entry["name"]) for entry in entries if (_written_at(entry) or since) >= since]
        return sorted(path for path in found if not _is_debris(path))


def _local_since(folder: str, since: datetime) -> list[str]:
    found, oldest = [], since.timestamp()
    for path in _find_local(folder, deep=True):
        with suppress(FileNotFoundError):
            # Years of runs are many files: a Path of each would take twice as long as all else here.
            if os.stat(path).st_mtime >= oldest:  # noqa: PTH116
                found.append(path)
    return found


def _written_at(entry: Mapping[str, Any]) -> datetime | None:
    """Return the date of a file, which each filesystem names in its own way."""
    names = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")
    value = next((entry[name] for name in names if entry.get(name)), None)
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    return read_moment(value)


def _is_debris(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.startswith(".") and name.endswith(".tmp")


@dataclass(frozen=True)
class Entry:
    """Something in a folder that is no folder itself.

    :param path: its path.
    :param size: bytes.
    :param kind: ``file``, ``link`` or ``other``: a pipe, a socket, a device.
    """

    path: str
    size: int
    kind: str


FILE, LINK, OTHER = "file", "link", "other"


def list_entries(fs: AbstractFileSystem, folder: str) -> list[Entry]:
    """List everything below a folder, also what a worker is writing, or died over; links are not followed.

    :param fs: the folder's filesystem.
    :param folder: the folder; in one that isn't there is nothing.
    :return: what is there, in the order of the paths.
    :raises AhaStorageError: when it can't be listed.
    """
    with storage_errors(folder, ANY_ERROR):
        if is_local(fs):
            found = list(_local_entries(folder))
        else:
            fs.invalidate_cache()
            infos = fs.find(folder, detail=True).values() if _protocols(fs) & _FINDS else _walk(fs, folder)
            found = [Entry(str(one["name"]).rstrip("/"), int(one.get("size") or 0), FILE) for one in infos]
        return sorted(found, key=lambda entry: entry.path)


def _local_entries(folder: str) -> Iterator[Entry]:
    for path in _find_local(folder, deep=True, links=True):
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            # It is gone between two looks.
            continue
        is_file = stat.S_ISREG(status.st_mode)
        yield Entry(path, status.st_size, FILE if is_file else LINK if stat.S_ISLNK(status.st_mode) else OTHER)


def is_link(fs: AbstractFileSystem, path: str) -> bool:
    """Tell whether a file or folder is a link; only the local disk has them.

    :param fs: the path's filesystem.
    :param path: the path.
    """
    return is_local(fs) and Path(path).is_symlink()


def is_debris(path: str) -> bool:
    """Tell whether a file is what a writer on the local disk leaves when it dies: `.<name>.<32 digits>.tmp`.

    :param path: its path.
    """
    return _DEBRIS.fullmatch(path.rpartition("/")[2]) is not None


def read_all(fs: AbstractFileSystem, folder: str) -> dict[str, bytes]:
    """Read all files below a folder, many at once where the store can.

    :param fs: the folder's filesystem.
    :param folder: the folder; one that isn't there has no files.
    :return: the bytes of each file by its path, in the paths' order.
    :raises AhaStorageError: when one can't be read.
    """
    return read_files(fs, list_files(fs, folder))


def read_files(fs: AbstractFileSystem, paths: Sequence[str]) -> dict[str, bytes]:
    """Read files, many at once where the store can.

    :param fs: the files' filesystem.
    :param paths: the files.
    :return: the bytes of each by its path, in the same order.
    :raises AhaStorageError: when one can't be read.
    """
    if not paths:
        return {}
    with storage_errors(paths[0], ANY_ERROR):
        bodies: dict[str, bytes] = fs.cat(list(paths))
    return {path: bodies[path] for path in paths}


def parse_record(body: bytes, path: str) -> dict[str, Any]:
    """Parse a JSON record.

    :param body: its bytes.
    :param path: where it lies, for the error.
    :raises AhaSnapshotError: when it is no JSON object.
    """
    try:
        content = json.loads(body, object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise AhaSnapshotError(f"{path} is not a readable record: it was cut short or changed.")
    return content


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object with a key twice: two readers could take it for two things."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError
    return content


def sealed(record: Mapping[str, Any]) -> bytes:
    """Return the bytes of a record, with a hash of itself: nothing may come after it that would hold its hash.

    :param record: the record.
    """
    return to_json({**record, "content_sha256": sha256(to_json(record))})


def sha256(body: bytes) -> str:
    """Return the SHA-256 of bytes, hexadecimal.

    :param body: the bytes.
    """
    return hashlib.sha256(body).hexdigest()
