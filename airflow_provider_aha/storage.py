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

from airflow_provider_aha import schemas
from airflow_provider_aha.exceptions import AhaSnapshotError, AhaStorageError
from airflow_provider_aha.layout import Layout, snapshot_of

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
            self._writer = pq.ParquetWriter(self._path, self._schema, compression="zstd")

    def __enter__(self) -> DatasetWriter:
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the file; one that isn't finished is thrown away with its folder."""
        # On a full disk closing fails too, and would hide the first error.
        with suppress(OSError):
            self._writer.close()

    def write(self, table: pa.Table) -> None:
        """Append a table, as one row group.

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
def storage_errors(path: str) -> Iterator[None]:
    """Turn what the operating system or an object store says into a sentence.

    :param path: what was to be read or written.
    :raises AhaStorageError: for every ``OSError`` inside.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise AhaStorageError(
            f"{error.filename or path} could not be used: {reason}. Check that the path exists, that the worker "
            "may write there, and that there is space; what lay there before is unchanged."
        ) from error


def publish_all(fs: AbstractFileSystem, files: Mapping[str, Path]) -> None:
    """Put several finished files in their places, all uploaded before the first is replaced.

    :param fs: the targets' filesystem.
    :param files: local file by target, in the order in which they are to appear.
    :raises AhaStorageError: when one can't be written.
    """
    with storage_errors(next(iter(files), "")), ExitStack() as stack:
        commits = [stack.enter_context(_uploaded(fs, local, target)) for target, local in files.items()]
        for commit in commits:
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
    fs.makedirs(folder, exist_ok=True)
    try:
        fs.put_file(str(local), beside)
        yield lambda: _rename(fs, beside, target)
    finally:
        if fs.exists(beside):
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
    """
    try:
        content = json.loads(fs.cat_file(path))
    except FileNotFoundError:
        raise AhaSnapshotError(f"{path} is missing.") from None
    except ValueError:
        raise AhaSnapshotError(f"{path} is not valid JSON: it was cut short or changed by hand.") from None
    if not isinstance(content, dict):
        raise AhaSnapshotError(f"{path} holds no JSON object.")
    return content


def read_manifest(fs: AbstractFileSystem, layout: Layout, snapshot: str) -> dict[str, Any]:
    """Read the manifest of a snapshot.

    :param fs: the layout's filesystem.
    :param layout: account and base path.
    :param snapshot: the day, ``YYYY-MM-DD``.
    :raises AhaSnapshotError: when there is none, or it can't be read.
    """
    return read_json(fs, layout.manifest(snapshot))


def snapshots(fs: AbstractFileSystem, layout: Layout) -> list[str]:
    """List the days of an account's published snapshots, oldest first.

    :param fs: the layout's filesystem.
    :param layout: account and base path.
    """
    try:
        folders = fs.ls(layout.manifests, detail=False)
    except FileNotFoundError:
        return []
    days = (snapshot_of(str(folder).rstrip("/")) for folder in folders)
    return sorted(day for day in days if day and fs.exists(layout.manifest(day)))


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
    """
    entry = next((file for file in manifest["files"] if file["dataset"] == dataset), None)
    if entry is None:
        raise AhaSnapshotError(f"Snapshot {manifest['snapshot']} of {layout.account} holds no dataset {dataset}.")
    path = layout.dataset(dataset, manifest["snapshot"])
    try:
        digest, _ = file_hash(fs.open(path, "rb"))
    except FileNotFoundError:
        digest = None
    if digest != entry["sha256"]:
        raise AhaSnapshotError(
            f"{path} is not the file that its manifest names: an extract was cut off while it replaced the "
            "snapshot, or the file was changed. Run aha_extract again."
        )
    with fs.open(path, "rb") as stream, pq.ParquetFile(stream) as file:
        yield file
