"""Write-once records below a base path: what an auditor reads later must be what was written then."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_aha.exceptions import AhaConfigurationError, AhaSnapshotError
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import _protocols
from airflow_provider_aha.store.store import ANY_ERROR, Location, file_hash, is_there, storage_errors, to_json

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# What the first try of a writing task was to do.
START = "start.json"
# Where an object is created only if there is none, in one step.
_CONDITIONAL_PUTS = frozenset({"file", "s3", "s3a"})
# Where `find` is one listing of the store's own; elsewhere fsspec's walks, and passes over what can't be listed.
_FINDS = frozenset({"s3", "s3a", "gs", "gcs", "memory"})


@dataclass(frozen=True)
class Run:
    """The task instance on whose behalf something is written.

    :param dag_id: its DAG.
    :param run_id: its DAG run.
    :param task_id: the task, with its map index where it is mapped.
    :param try_number: which try, from 1.
    :param requested_by: who triggered the run, or the schedule.
    """

    dag_id: str
    run_id: str
    task_id: str
    try_number: int
    requested_by: str


class RunFolder:
    """The folder of one task in one DAG run of one account.

    :param location: the base path.
    :param account: the account.
    :param run: the task instance.
    """

    def __init__(self, location: Location, account: str, run: Run) -> None:
        self.fs = location.fs
        self.account_path = account_path(location, account)
        self.run_path = run_path(location, account, run.dag_id, run.run_id)
        self.path = f"{self.run_path}/task={path_part(run.task_id)}"
        self._base = location

    def url(self, name: str) -> str:
        """Return the address of a file as the user of the base path would write it.

        :param name: file name below the folder.
        """
        return f"{self._base.url}{self.path.removeprefix(self._base.path)}/{name}"

    def create(self, name: str, content: Mapping[str, Any]) -> bool:
        """Write a record that is never replaced.

        :param name: file name below the folder.
        :param content: what JSON can hold.
        :return: False when the record is there already; it stays as it is.
        :raises AhaStorageError: when it can't be written.
        """
        return create_once(self.fs, f"{self.path}/{name}", to_json(content))

    def read(self, name: str) -> dict[str, Any] | None:
        """Read a record.

        :param name: file name below the folder.
        :return: the record, or None when there is none.
        :raises AhaSnapshotError: when it is there but unreadable.
        """
        return read_record(self.fs, f"{self.path}/{name}")


def account_path(location: Location, account: str) -> str:
    """Return the folder of all records of an account.

    :param location: the base path.
    :param account: the account.
    """
    return Layout(location.path, account).deactivations


def run_path(location: Location, account: str, dag_id: str, run_id: str) -> str:
    """Return the folder of a DAG run's records.

    :param location: the base path.
    :param account: the account.
    :param dag_id: the DAG.
    :param run_id: the DAG run; characters that paths can't hold are percent-encoded.
    """
    return f"{account_path(location, account)}/dag={path_part(dag_id)}/run={path_part(run_id)}"


def path_part(text: str) -> str:
    """Make a text what may follow the ``=`` in the name of a folder, different texts different names.

    :param text: an id of Airflow's.
    :raises AhaConfigurationError: when it is empty.
    """
    if not text:
        raise AhaConfigurationError("A run without id has no place for its records.")
    return quote(text, safe="")


def create_once(fs: AbstractFileSystem, path: str, content: bytes | Path) -> bool:
    """Create a file whole, and only where there is none.

    :param fs: the path's filesystem.
    :param path: the file.
    :param content: its bytes, or a local file with them.
    :return: False when there is one already.
    :raises AhaStorageError: when it can't be written.
    """
    with storage_errors(path, ANY_ERROR):
        try:
            if is_local(fs):
                return _create_local(Path(path), content)
            content = content.read_bytes() if isinstance(content, Path) else content
            if creates_conditionally(fs):
                fs.pipe_file(path, content, mode="create")
                return True
        except FileExistsError:
            # A request whose answer was lost is sent again by the store's own client, and meets itself.
            return not is_local(fs) and _read(fs, path) == content
        fs.invalidate_cache()
        if is_there(fs, path):
            return False
        fs.pipe_file(path, content)
        return True


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


def creates_conditionally(fs: AbstractFileSystem) -> bool:
    """Tell whether of two writers of one name only one can win.

    :param fs: a filesystem.
    """
    return bool(_protocols(fs) & _CONDITIONAL_PUTS)


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


def _find_local(folder: str, *, deep: bool) -> Iterator[str]:
    def fail(error: OSError) -> None:
        if not (isinstance(error, FileNotFoundError) and error.filename == folder):
            raise error

    for path, _, names in os.walk(folder, onerror=fail):
        yield from (f"{path}/{name}" for name in names)
        if not deep:
            return


def _find_by_listing(fs: AbstractFileSystem, folder: str, *, deep: bool) -> Iterator[str]:
    try:
        entries = fs.ls(folder, detail=True)
    except FileNotFoundError:
        # There is none, or it is gone between two looks.
        return
    for entry in entries:
        name = str(entry["name"]).rstrip("/")
        if entry["type"] != "directory":
            yield name
        elif deep and name != folder:
            yield from _find_by_listing(fs, name, deep=deep)


def _is_debris(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.startswith(".") and name.endswith(".tmp")


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
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise AhaSnapshotError(f"{path} is not a readable record: it was cut short or changed.")
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
