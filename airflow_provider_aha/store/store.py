"""A place on any storage: a folder with the files below it, or one file that somebody named.

Below this class alone is fsspec (:mod:`airflow_provider_aha.store.backends`). Names are relative and come from
:mod:`airflow_provider_aha.store.layout`; the empty name is the place itself. Whatever was listed or read before,
each call sees what others have written since, and every failure is an :class:`AhaStorageError`: a sentence with the
address.

A file is written to local temporary space first and only a finished one goes to its place: closing a remote
file after an exception would publish the half that was written.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from airflow_provider_aha.common.moments import read_moment
from airflow_provider_aha.exceptions import (
    AhaConfigurationError,
    AhaError,
    AhaRecordError,
    AhaStorageError,
)
from airflow_provider_aha.store import backends
from airflow_provider_aha.store.backends import FILE, LINK, OTHER, StoredEntry
from airflow_provider_aha.store.layout import base_of_record

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = [
    "FILE",
    "LINK",
    "OTHER",
    "Store",
    "StoredEntry",
    "file_hash",
    "parse_record",
    "sealed",
    "sha256",
    "staging",
    "storage_errors",
    "to_json",
]

_CHUNK = 1024 * 1024
# So many files are read at once to be hashed, each of them small; a larger one is read piece by piece.
_AT_ONCE, _SMALL = 64, 1024 * 1024
# Theirs have no words of the operating system.
_REASONS: dict[type[Exception], str] = {
    FileNotFoundError: "it, or its bucket, does not exist",
    PermissionError: "the credentials were refused, or may not do this",
    TimeoutError: "no answer came in time",
}
# The one file with which it is proven that of two writers one wins. It stays, so a proof needs no right to delete.
_PROBE = ".once/probe"
# Where it was proven in this process.
_PROVEN: set[tuple[AbstractFileSystem, str]] = set()


@dataclass(frozen=True)
class Store:
    """A place on a storage system.

    :param fs: its filesystem; for this package only.
    :param path: the place on ``fs``, without a slash at its end; for this package only.
    :param url: the place as its user writes it, for manifests and messages.
    """

    fs: AbstractFileSystem
    path: str
    url: str

    # --- places and names ---------------------------------------------------------------------------

    def within(self, name: str) -> Store:
        """Return a place below this one.

        :param name: a folder or a file.
        """
        return Store(self.fs, self._at(name), self.url_of(name))

    @property
    def folder(self) -> Store:
        """The folder that the place lies in."""
        path, url = (text.rpartition("/")[0] for text in (self.path, self.url))
        return Store(self.fs, path, url)

    @property
    def name(self) -> str:
        """What the place is called in its folder."""
        return self.path.rpartition("/")[2]

    def beside(self, name: str) -> Store:
        """Return another place in the same folder.

        :param name: its name there.
        """
        return self.folder.within(name)

    def url_of(self, name: str) -> str:
        """Return the address of a file or folder, as the user of the place would write it.

        :param name: its name.
        """
        return f"{self.url.rstrip('/')}/{name}" if name else self.url

    def name_of(self, other: Store) -> str | None:
        """Return the name of a place below this one, or None for one that lies elsewhere.

        :param other: the place.
        """
        folder = f"{self.url.rstrip('/')}/"
        return other.url.removeprefix(folder) if other.url.startswith(folder) else None

    @property
    def record_base(self) -> Store | None:
        """The base path, where the place belongs to an account's record; None elsewhere."""
        base = base_of_record(self.path)
        if base is None:
            return None
        return Store(self.fs, base, self.url.removesuffix(self.path.removeprefix(base)))

    def _at(self, name: str) -> str:
        if name.startswith("/") or ".." in name.split("/"):
            raise AhaRecordError(f"{name!r} is no name of a file below {self.url}: a record was changed.")
        return f"{self.path.rstrip('/')}/{name}" if name else self.path

    def _name(self, path: str) -> str:
        return path.lstrip("/").removeprefix(f"{self.path.strip('/')}/")

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        # Object stores raise what their libraries raise (botocore's errors are no OSError).
        with storage_errors(self.url_of(name), Exception):
            yield

    # --- reading ------------------------------------------------------------------------------------

    def read(self, name: str = "") -> bytes | None:
        """Read a file, or return None when there is none.

        :param name: the file.
        :raises AhaStorageError: when it can't be read.
        """
        with self._errors(name):
            return backends.read(self.fs, self._at(name))

    def read_record(self, name: str = "") -> dict[str, Any] | None:
        """Read a JSON object, or return None when there is none.

        :param name: the file.
        :raises AhaSnapshotError: when it is there but is no JSON object.
        :raises AhaStorageError: when it can't be read.
        """
        body = self.read(name)
        return None if body is None else parse_record(body, self.url_of(name))

    def read_limited(self, what: str, most: int) -> bytes:
        """Read a file that went through somebody's hands, if it is no larger than such a file can be.

        :param what: what it is, for the sentence, beginning with a capital letter.
        :param most: how many bytes it may have.
        :raises AhaConfigurationError: when it has more, or is a device or a pipe; nothing of it was kept.
        :raises AhaStorageError: when it is missing, can't be read, or grows meanwhile.
        """
        body = b""
        with self._errors(""):
            self.fs.invalidate_cache()
            about = self.fs.info(self.path)
            if about["type"] != "other" and about["size"] <= most:
                with self.fs.open(self.path, "rb") as file:
                    body = file.read(about["size"] + 1)
        if about["type"] == "other":
            raise AhaConfigurationError(f"{what} {self.url} is a device or a pipe, and no file: it was not read.")
        if about["size"] < len(body):
            # What the system makes up while it is read (/proc) says that it has no bytes.
            raise AhaStorageError(f"{self.url} is larger than its system says: it is being written. Try again.")
        if about["size"] > most:
            raise AhaConfigurationError(
                f"{what} {self.url} is larger than {most // 1024**2 or 1} MB, and nothing of it was read."
            )
        return body

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """Read files, many at once where the store can.

        :param names: the files.
        :return: the bytes of each by its name, in the same order.
        :raises AhaStorageError: when one is missing or can't be read.
        """
        paths = {name: self._at(name) for name in names}
        if not paths:
            return {}
        with self._errors(next(iter(paths))):
            self.fs.invalidate_cache()
            bodies: dict[str, bytes] = self.fs.cat(list(paths.values()))
        return {name: bodies[path] for name, path in paths.items()}

    def read_all(self, folder: str = "") -> dict[str, bytes]:
        """Read all files below a folder, many at once where the store can.

        :param folder: the folder; one that isn't there has no files.
        :return: the bytes of each by its name, in the names' order.
        :raises AhaStorageError: when one can't be read.
        """
        return self.read_many(self.files(folder))

    @contextmanager
    def open(self, name: str = "") -> Iterator[BinaryIO | None]:
        """Open a file of any size, to read here and there.

        :param name: the file.
        :return: the file; None when there is none.
        :raises AhaStorageError: when it can't be read.
        """
        with ExitStack() as stack:
            with self._errors(name):
                self.fs.invalidate_cache()
                try:
                    stream = stack.enter_context(self.fs.open(self._at(name), "rb"))
                except FileNotFoundError:
                    stream = None
            # What comes from the reader of the file stays what it is.
            stack.enter_context(storage_errors(self.url_of(name)))
            yield stream

    def hash_of(self, name: str = "") -> str | None:
        """Return the SHA-256 of a file of any size, or None when there is none.

        :param name: the file.
        :raises AhaStorageError: when it can't be read.
        """
        with self._errors(name):
            self.fs.invalidate_cache()
            try:
                return file_hash(self.fs.open(self._at(name), "rb"))[0]
            except FileNotFoundError:
                return None

    def hashes(self, entries: Iterable[StoredEntry]) -> Iterator[tuple[str, str | None]]:
        """Yield the SHA-256 of files, a few at a time: years of plans would not fit into memory.

        :param entries: the files; one that is gone since isn't yielded.
        :return: name and hash of each; None where permission was denied.
        :raises AhaStorageError: when one can't be read for another reason.
        """
        wanted = list(entries)
        small = [entry.name for entry in wanted if entry.size <= _SMALL]
        for start in range(0, len(small), _AT_ONCE):
            paths = {self._at(name): name for name in small[start : start + _AT_ONCE]}
            with self._errors(""):
                bodies = self.fs.cat(list(paths), on_error="return")
                for path, name in paths.items():
                    yield from _hash_or_none(name, bodies[path])
        for name in sorted({entry.name for entry in wanted} - set(small)):
            with self._errors(name):
                try:
                    yield name, file_hash(self.fs.open(self._at(name), "rb"))[0]
                except OSError as error:
                    yield from _hash_or_none(name, error)

    def exists(self, name: str = "") -> bool:
        """Tell whether there is such a file or folder.

        :param name: the file or folder.
        :raises AhaStorageError: when the store doesn't say.
        """
        with self._errors(name):
            self.fs.invalidate_cache()
            return backends.is_there(self.fs, self._at(name))

    def is_link(self, name: str) -> bool:
        """Tell whether a file or folder is a link; only the local disk has them.

        :param name: the file or folder.
        """
        return backends.is_local(self.fs) and Path(self._at(name)).is_symlink()

    def is_debris(self, name: str) -> bool:
        """Tell whether a file is what a writer leaves that dies; only on the local disk there is such.

        :param name: the file.
        """
        return backends.is_debris(self.fs, name)

    def modified(self, name: str = "") -> datetime:
        """Return when a file was written; UTC.

        :param name: the file.
        :raises AhaStorageError: when it is missing.
        :raises AhaConfigurationError: when its store doesn't know.
        """
        try:
            with self._errors(name):
                self.fs.invalidate_cache()
                moment = read_moment(self.fs.modified(self._at(name)))
        except NotImplementedError:
            moment = None
        if moment is None:
            raise AhaConfigurationError(
                f"{self.url_of(name)} lies where files have no date: its age can't be told."
            )
        return moment

    # --- listing ------------------------------------------------------------------------------------

    def names(self, folder: str = "") -> set[str]:
        """Return what lies in a folder; one that isn't there has nothing in it.

        :param folder: the folder.
        :raises AhaStorageError: when it can't be listed.
        """
        with self._errors(folder):
            # A listing that this process has kept lacks what others wrote since.
            self.fs.invalidate_cache()
            try:
                found = self.fs.ls(self._at(folder), detail=False)
            except FileNotFoundError:
                return set()
        return {str(path).rstrip("/").rpartition("/")[2] for path in found}

    def files(self, folder: str = "", *, deep: bool = True, debris: bool = False) -> list[str]:
        """List all files below a folder; what a worker is writing, or died over, is left out.

        :param folder: the folder; one that isn't there has no files.
        :param deep: whether files of folders inside count.
        :param debris: whether what is left out counts, too.
        :return: their names, in order.
        :raises AhaStorageError: when it can't be listed.
        """
        with self._errors(folder):
            found = backends.files(self.fs, self._at(folder), deep=deep)
            return sorted(self._name(path) for path in found if debris or not _is_hidden(path))

    def entries(self, folder: str = "") -> list[StoredEntry]:
        """List everything below a folder, also what a worker is writing, or died over; links are not followed.

        :param folder: the folder; in one that isn't there is nothing.
        :return: what is there, in the order of the names.
        :raises AhaStorageError: when it can't be listed.
        """
        with self._errors(folder):
            found = backends.list_entries(self.fs, self._at(folder))
            named = [StoredEntry(self._name(entry.name), entry.size, entry.kind) for entry in found]
        return sorted(named, key=lambda entry: entry.name)

    def written_since(self, folder: str, since: datetime) -> list[str]:
        """List the files below a folder that were written since a moment, by their store's clock.

        :param folder: the folder; one that isn't there has no files.
        :param since: the moment; UTC. A file whose date the store doesn't tell is listed, too.
        :return: their names, in order.
        :raises AhaStorageError: when it can't be listed.
        """
        with self._errors(folder):
            found = backends.written_since(self.fs, self._at(folder), since)
            return sorted(self._name(path) for path in found if not _is_hidden(path))

    # --- writing ------------------------------------------------------------------------------------

    def create(self, name: str, content: bytes | Path) -> bool:
        """Create a file whole, and only where there is none.

        A file of a record is created only where that is proven; see :meth:`require_once`.

        :param name: the file.
        :param content: its bytes, or a local file with them.
        :return: False when there is one already.
        :raises AhaConfigurationError: when it belongs to a record, and two writers could both create it.
        :raises AhaStorageError: when it can't be written.
        """
        if (base := self.within(name).record_base) is not None:
            base.require_once()
        return self._create(name, content)

    def keep(self, name: str, content: bytes | Path) -> tuple[str, str]:
        """Write a file of a record that isn't finished yet, under another name where a try that died left one.

        :param name: the name that the file should have.
        :param content: its bytes, or a local file with them.
        :return: the name that it has, and its SHA-256.
        :raises AhaStorageError: when it can't be written.
        """
        stem, _, suffix = name.rpartition(".")
        digest = file_hash(content.open("rb"))[0] if isinstance(content, Path) else sha256(content)
        for number in range(2, 1000):
            if self.create(name, content):
                break
            there = self.read(name)
            if there is not None and sha256(there) == digest:
                break
            name = f"{stem}-{number}.{suffix}"
        return name, digest

    def publish(self, files: Mapping[str, Path]) -> None:
        """Put several finished files in their places, the last one when all others are there.

        Where a file is made whole by a rename, all lie beside their places before the first is replaced.

        :param files: local file by name, in the order in which they are to appear.
        :raises AhaStorageError: when one can't be written.
        """
        with ExitStack() as stack:
            commits = {}
            for name, local in files.items():
                with self._errors(name):
                    commits[name] = stack.enter_context(backends.uploaded(self.fs, local, self._at(name)))
            for name, commit in commits.items():
                with self._errors(name):
                    commit()

    def remove(self, names: Iterable[str]) -> None:
        """Delete files; of one that is gone already nothing is said. Empty local folders go, too.

        :param names: the files, in the order in which they are to go.
        :raises AhaStorageError: when one can't be deleted.
        """
        paths = []
        for name in names:
            with self._errors(name):
                paths.append(self._at(name))
                try:
                    self.fs.rm_file(paths[-1])
                except FileNotFoundError:
                    # Another prune, or the store's own rule, was faster.
                    continue
        if backends.is_local(self.fs):
            backends.remove_empty(paths)

    def require_once(self) -> None:
        """Refuse the place for records unless of two writers of one file only one can win here.

        Proven once per process and place, by one request that must be refused. On the local disk the operating
        system sees to it.

        :raises AhaConfigurationError: when both would win.
        :raises AhaStorageError: when it can't be tried.
        """
        if backends.is_local(self.fs) or (self.fs, self.path) in _PROVEN:
            return
        if not backends.creates_conditionally(self.fs):
            raise AhaConfigurationError(
                f"{self.url} can't hold records: its storage creates no file only once, so a record could be "
                "replaced. Nothing was done. Take a base path on a local disk, S3, Google Cloud Storage or Azure."
            )
        # The first finds what an earlier proof has left, or leaves it; so the second must lose in any case.
        if all(self._create(_PROBE, uuid.uuid4().hex.encode()) for _ in range(2)):
            raise AhaConfigurationError(
                f"{self.url} can't hold records: of two writers of one file both won there, so a record could be "
                "replaced. Its endpoint ignores the header If-None-Match. Nothing was done. Take a base path on a "
                "local disk, or on an endpoint that honours it."
            )
        _PROVEN.add((self.fs, self.path))

    def _create(self, name: str, content: bytes | Path) -> bool:
        try:
            with self._errors(name):
                return backends.create(self.fs, self._at(name), content)
        except backends.StillTakenError:
            raise AhaStorageError(
                f"{self.url_of(name)} could not be created: other writers were at it again and again. Try again."
            ) from None


def local_store(folder: str) -> Store:
    """Return a place on this machine.

    :param folder: its absolute path.
    """
    from fsspec.implementations.local import LocalFileSystem

    return Store(LocalFileSystem(), folder, folder)


def object_store(path: Any, url: str) -> Store:
    """Return the place that an object storage path of Airflow's means.

    :param path: the path.
    :param url: the address as its user wrote it.
    """
    return Store(path.fs, path.path.rstrip("/"), url)


def _hash_or_none(name: str, body: bytes | Exception) -> Iterator[tuple[str, str | None]]:
    if isinstance(body, PermissionError):
        yield name, None
    elif isinstance(body, Exception):
        # A file that is gone between two looks is one that isn't there.
        if not isinstance(body, FileNotFoundError):
            raise body
    else:
        yield name, sha256(body)


def _is_hidden(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.startswith(".") and name.endswith(".tmp")


# --- local files -----------------------------------------------------------------------------------


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
    :param kind: what to turn.
    :raises AhaStorageError: for every such error inside that isn't this package's own.
    """
    try:
        yield
    except (AhaError, backends.StillTakenError, NotImplementedError):
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


# --- bytes -----------------------------------------------------------------------------------------


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


def sha256(body: bytes) -> str:
    """Return the SHA-256 of bytes, hexadecimal.

    :param body: the bytes.
    """
    return hashlib.sha256(body).hexdigest()


def to_json(content: Mapping[str, Any]) -> bytes:
    """Encode a manifest or another record, readable and the same for the same content.

    :param content: what JSON can hold.
    """
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def sealed(record: Mapping[str, Any]) -> bytes:
    """Return the bytes of a record, with a hash of itself: nothing may come after it that would hold its hash.

    :param record: the record.
    """
    return to_json({**record, "content_sha256": sha256(to_json(record))})


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
        raise AhaRecordError(f"{path} is not a readable record: it was cut short or changed.")
    return content


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object with a key twice: two readers could take it for two things."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError
    return content
