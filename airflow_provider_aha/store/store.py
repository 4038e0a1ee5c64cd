"""Files on any fsspec filesystem: Parquet staged locally and published whole, readers that check the hash.

A file is written to local temporary space first and only a finished one goes to its place: closing a remote
file after an exception would publish the half that was written.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import uuid
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_aha.datasets import schemas
from airflow_provider_aha.exceptions import AhaError, AhaSnapshotError, AhaStorageError
from airflow_provider_aha.store.layout import Layout, snapshot_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


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


# A put to these appears whole or not at all; elsewhere a rename makes it so.
_WHOLE_PUTS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "memory"})
_CHUNK = 1024 * 1024
# Nearly every value of these is another one: a dictionary of them is begun and given up.
_DISTINCT = frozenset({"id", "name", "email", "created_at", "updated_at", "accessed_at"})
# Object stores raise what their libraries raise (botocore's errors are no OSError).
ANY_ERROR = Exception
# Theirs have no words of the operating system.
_REASONS: dict[type[Exception], str] = {
    FileNotFoundError: "it, or its bucket, does not exist",
    PermissionError: "the credentials were refused, or may not do this",
    TimeoutError: "no answer came in time",
}


@dataclass(frozen=True)
class StagedFile:
    """A finished file in local temporary space.

    :param dataset: what it holds.
    :param path: where it is.
    :param rows: its rows.
    :param size: its bytes.
    :param sha256: hash of its bytes, hexadecimal.
    """

    dataset: str
    path: Path
    rows: int
    size: int
    sha256: str


class DatasetWriter:
    """Streams tables of one dataset into a local Parquet file.

    :param folder: local folder to stage in.
    :param dataset: name of the dataset; it decides the schema.
    """

    def __init__(self, folder: Path, dataset: str) -> None:
        self._dataset = dataset
        self._path = folder / f"{dataset}.parquet"
        self._schema = schemas.BY_DATASET[dataset].with_metadata(
            {"aha_schema_version": schemas.SCHEMA_VERSION, "aha_dataset": dataset}
        )
        self._rows = 0
        with storage_errors(str(self._path)):
            self._writer = pq.ParquetWriter(
                self._path,
                self._schema,
                compression="zstd",
                use_dictionary=[*(set(schemas.USERS.names) - _DISTINCT)] if dataset == "users" else True,
            )

    def __enter__(self) -> DatasetWriter:
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the file; one that isn't finished is thrown away with its folder."""
        # On a full disk closing fails too, and would hide the first error.
        with suppress(OSError):
            self._writer.close()

    def write(self, table: pa.Table) -> None:
        """Append a table, as one row group of at most a million rows, or several.

        :param table: rows in the dataset's schema.
        :raises AhaStorageError: when there is no space.
        """
        with storage_errors(str(self._path)):
            self._writer.write_table(table.cast(self._schema))
        self._rows += table.num_rows

    def finish(self) -> StagedFile:
        """Close the file.

        :return: the file, with its hash.
        :raises AhaStorageError: when there is no space.
        """
        if not self._rows:
            # Some readers stumble over a file without a row group.
            self.write(pa.Table.from_batches([], self._schema))
        with storage_errors(str(self._path)):
            self._writer.close()
            digest, size = file_hash(self._path.open("rb"))
        return StagedFile(self._dataset, self._path, self._rows, size, digest)


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


def read_manifest(fs: AbstractFileSystem, layout: Layout, snapshot: str) -> dict[str, Any]:
    """Read the manifest of a snapshot.

    :param fs: the layout's filesystem.
    :param layout: account and base path.
    :param snapshot: the day, ``YYYY-MM-DD``.
    :raises AhaSnapshotError: when there is none, or it is not one.
    :raises AhaStorageError: when it can't be read.
    """
    path = layout.manifest(snapshot)
    manifest = read_json(fs, path)
    files = manifest.get("files")
    whole = isinstance(files, list) and all(
        isinstance(file, dict) and {"dataset", "sha256"} <= file.keys() for file in files
    )
    if not whole or manifest.get("snapshot") != snapshot:
        raise AhaSnapshotError(f"{path} is not the manifest of snapshot {snapshot}: it was changed by hand.")
    return manifest


def snapshots(fs: AbstractFileSystem, layout: Layout) -> list[str]:
    """List the days of an account's published snapshots, oldest first.

    :param fs: the layout's filesystem.
    :param layout: account and base path.
    :raises AhaStorageError: when the path can't be read.
    """
    days = (snapshot_of(f"/{name}") for name in names_in(fs, layout.manifests))
    return sorted(day for day in days if day and is_there(fs, layout.manifest(day)))


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


@contextmanager
def open_dataset(
    fs: AbstractFileSystem, layout: Layout, manifest: Mapping[str, Any], dataset: str
) -> Iterator[Any]:
    """Open a dataset of a snapshot, after checking that it is the file that the manifest names.

    :param fs: the layout's filesystem.
    :param layout: account and base path.
    :param manifest: the snapshot's manifest.
    :param dataset: which one.
    :return: a ``pyarrow.parquet.ParquetFile``.
    :raises AhaSnapshotError: when the snapshot lacks it, or the file is another one.
    :raises AhaStorageError: when it can't be read.
    """
    entry = next((file for file in manifest["files"] if file["dataset"] == dataset), None)
    if entry is None:
        raise AhaSnapshotError(f"Snapshot {manifest['snapshot']} of {layout.account} holds no dataset {dataset}.")
    path = layout.dataset(dataset, manifest["snapshot"])
    with storage_errors(path, ANY_ERROR):
        # So is the size of a file that was replaced since.
        fs.invalidate_cache()
        try:
            digest, _ = file_hash(fs.open(path, "rb"))
        except FileNotFoundError:
            digest = None
    if digest != entry["sha256"]:
        raise AhaSnapshotError(
            f"{path} is not the file that its manifest names: an extract was cut off while it replaced the "
            "snapshot, or the file was changed. Run aha_extract again."
        )
    with storage_errors(path), fs.open(path, "rb") as stream, pq.ParquetFile(stream) as file:
        yield file
