"""Files appear whole or not at all, and a reader takes no file for another."""

import errno
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_aha.datasets.schemas import SCHEMA_VERSION, USER_CHANGES
from airflow_provider_aha.datasets.snapshot import DatasetWriter, Snapshot, snapshot_days
from airflow_provider_aha.exceptions import AhaSnapshotError, AhaStorageError
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import Store, file_hash, local_store, staging, storage_errors, to_json
from tests.datasets.conftest import NOW

DAY = "2026-09-01"
Files = dict[str, Path]


def table(rows: int) -> pa.Table:
    row = {"change": "added", "user_id": "1", "synced_at": NOW, "subdomain": "mycompany"}
    return pa.Table.from_pylist([row] * rows, schema=USER_CHANGES)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def base(tmp_path: Path) -> Store:
    return local_store(str(tmp_path / "base"))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Two finished files, and where they are to appear."""
    staged = tmp_path / "staged"
    staged.mkdir()
    found = {}
    for name in ("one", "two"):
        (staged / name).write_text(f"new {name}")
        found[f"{name}/{name}.parquet"] = staged / name
    return found


@pytest.fixture
def layout() -> Layout:
    return Layout("mycompany")


# --- writing --------------------------------------------------------------------------------------


def test_a_dataset_is_written_in_row_groups_with_zstd_and_its_schema_version(tmp_path: Path):
    with DatasetWriter(tmp_path, "user_changes") as writer:
        for rows in (3, 0, 2):
            writer.write(table(rows))
        staged = writer.finish()
    with pq.ParquetFile(staged.path) as file:
        assert file.schema_arrow == USER_CHANGES
        metadata = file.metadata.metadata
        assert metadata[b"aha_schema_version"] == SCHEMA_VERSION.encode()
        assert metadata[b"aha_dataset"] == b"user_changes"
        groups = [file.metadata.row_group(n) for n in range(file.num_row_groups)]
        assert [group.num_rows for group in groups if group.num_rows] == [3, 2]
        assert {group.column(0).compression for group in groups if group.num_rows} == {"ZSTD"}
    assert (staged.rows, staged.size) == (5, staged.path.stat().st_size)
    assert file_hash(staged.path.open("rb")) == (staged.sha256, staged.size)


def test_a_huge_table_is_split_into_bounded_row_groups(tmp_path: Path):
    row = table(1)
    many = row.take(pa.array([0] * (2**20 + 1)))
    with DatasetWriter(tmp_path, "user_changes") as writer:
        writer.write(many)
        staged = writer.finish()
    with pq.ParquetFile(staged.path) as file:
        assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [2**20, 1]


def test_no_rows_at_all_are_a_readable_file(tmp_path: Path):
    with DatasetWriter(tmp_path, "users") as writer:
        staged = writer.finish()
    assert staged.rows == 0
    with pq.ParquetFile(staged.path) as file:
        assert file.read().num_rows == 0


def test_published_files_replace_the_old_ones_whole(base: Store, files: Files, tmp_path: Path):
    for target in files:
        (tmp_path / "base" / target).parent.mkdir(parents=True)
        (tmp_path / "base" / target).write_text("old")
    base.publish(files)
    assert tree(tmp_path / "base") == {"one/one.parquet": b"new one", "two/two.parquet": b"new two"}


def test_who_reads_while_a_file_is_replaced_reads_the_old_one_to_its_end(base: Store, files: Files):
    target = Path(base.path, next(iter(files)))
    Path(target).parent.mkdir(parents=True)
    Path(target).write_text("old, and longer than the new")
    with Path(target).open() as reader:
        base.publish(files)
        assert reader.read() == "old, and longer than the new"
    assert Path(target).read_text() == "new one"


class FailingFileSystem(LocalFileSystem):
    """A disk that is full after some files."""

    cachable = False

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
        if self.room == 0:
            Path(rpath).write_text("ha")
            raise OSError(errno.ENOSPC, "No space left on device", rpath)
        self.room -= 1
        super().put_file(lpath, rpath, **kwargs)


@pytest.mark.parametrize("room", [0, 1])
def test_a_disk_that_fills_up_leaves_every_old_file_and_nothing_else(files: Files, tmp_path: Path, room: int):
    for target in files:
        (tmp_path / "base" / target).parent.mkdir(parents=True)
        (tmp_path / "base" / target).write_text("old")
    before = tree(tmp_path / "base")
    with pytest.raises(AhaStorageError, match="could not be used: No space left on device"):
        Store(FailingFileSystem(room), str(tmp_path / "base"), "/base").publish(files)
    assert tree(tmp_path / "base") == before


class ObjectStore(MemoryFileSystem):
    """A store whose libraries raise errors of their own."""

    store: dict[str, Any] = {}  # noqa: RUF012 - as the class above has it
    cachable = False

    def __init__(self, fails_at: str) -> None:
        super().__init__()
        self.fails_at = fails_at
        self.store.clear()

    def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
        if rpath.endswith(self.fails_at):
            raise RuntimeError("EndpointConnectionError with an address in it")
        self.pipe_file(rpath, Path(lpath).read_bytes())


def test_a_store_gets_finished_files_only_and_its_errors_become_a_sentence(tmp_path: Path):
    staged = tmp_path / "staged"
    staged.write_text("x")
    store = ObjectStore("manifest.json")
    with pytest.raises(
        AhaStorageError, match=r"^mem/b/manifest\.json could not be used: its storage system"
    ) as caught:
        Store(store, "/b", "mem/b").publish({"users.parquet": staged, "manifest.json": staged})
    assert "address" not in str(caught.value)
    assert store.find("/") == ["/b/users.parquet"]


class RemoteDisk(LocalFileSystem):
    """A filesystem that is neither local nor an object store."""

    protocol = ("sftp",)
    cachable = False


def test_a_filesystem_without_whole_puts_gets_a_move(files: Files, tmp_path: Path):
    Store(RemoteDisk(), str(tmp_path / "base"), "sftp://base").publish(files)
    assert sorted(tree(tmp_path / "base")) == ["one/one.parquet", "two/two.parquet"]


@pytest.mark.parametrize("base", ["/proc/aha", "/dev/null/aha", "{tmp}/a-file/aha"])
def test_an_unwritable_path_is_one_sentence(tmp_path: Path, base: str):
    (tmp_path / "a-file").write_text("mine")
    with pytest.raises(AhaStorageError, match=r"could not be used: .*\. Check that it exists") as caught:
        local_store(base.format(tmp=tmp_path)).publish({"users.parquet": tmp_path / "a-file"})
    assert "\n" not in str(caught.value)
    assert tree(tmp_path) == {"a-file": b"mine"}


def test_a_folder_in_the_place_of_a_file_is_one_sentence(base: Store, files: Files, tmp_path: Path):
    target = Path(base.path, next(iter(files)))
    Path(target).mkdir(parents=True)
    with pytest.raises(AhaStorageError, match="could not be used: Is a directory"):
        base.publish(files)
    assert tree(tmp_path / "base") == {}


def test_a_file_in_the_place_of_a_folder_is_one_sentence(base: Store, files: Files, tmp_path: Path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "one").write_text("mine")
    with pytest.raises(AhaStorageError, match="could not be used: "):
        base.publish(files)
    assert tree(tmp_path / "base") == {"one": b"mine"}


def test_a_full_temporary_disk_is_one_sentence():
    code = """
import resource, sys
from pathlib import Path
import pyarrow as pa
from airflow_provider_aha.exceptions import AhaStorageError
from airflow_provider_aha.datasets.schemas import USERS
from airflow_provider_aha.store.store import staging
from airflow_provider_aha.datasets.snapshot import DatasetWriter
rows = pa.Table.from_pylist([{"id": str(n * 7919 % 99991), "subdomain": "a", "connection_id": "c", "synced_at": 0}
                             for n in range(20000)], schema=USERS)
with staging() as folder:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), hard))
    try:
        with DatasetWriter(folder, "users") as writer:
            writer.write(rows)
            writer.finish()
    except AhaStorageError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
print("gone" if not folder.exists() else "left")
"""
    for limit in (2, 4096):
        done = subprocess.run(
            [sys.executable, "-c", code, str(limit)], capture_output=True, text=True, check=False, timeout=60
        )
        sentence, end = done.stdout.splitlines()
        assert "users.parquet could not be used: " in sentence
        assert "File too large" in sentence
        assert end == "gone"
        assert done.stderr == ""


@pytest.mark.parametrize("where", ["missing", "a-file"])
def test_a_worker_without_temporary_space_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str):
    (tmp_path / "a-file").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / where))
    with pytest.raises(AhaStorageError, match="no temporary space to stage files in"), staging():
        pass


def test_the_staging_folder_is_gone_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(KeyError), staging() as folder:  # noqa: PT012 - the error belongs into the block
        (folder / "users.parquet").write_text("half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_this_package_stays_what_it_is():
    with pytest.raises(AhaSnapshotError, match="as it was"), storage_errors("/x", Exception):
        raise AhaSnapshotError("as it was")


# --- reading --------------------------------------------------------------------------------------


def publish_snapshot(base: Store, layout: Layout, day: str = DAY, **changes: Any) -> dict[str, Any]:
    """Land one small dataset with its manifest."""
    with tempfile.TemporaryDirectory() as folder:
        with DatasetWriter(Path(folder), "user_changes") as writer:
            writer.write(table(3))
            staged = writer.finish()
        manifest = {
            "account": layout.account,
            "snapshot": day,
            "files": [{"dataset": "user_changes", "sha256": staged.sha256}],
        } | changes
        beside = Path(folder) / "manifest.json"
        beside.write_bytes(to_json(manifest))
        base.publish({layout.dataset("user_changes", day): staged.path, layout.manifest(day): beside})
    return manifest


def test_a_snapshot_reads_back(base: Store, layout: Layout):
    publish_snapshot(base, layout)
    assert snapshot_days(base, layout.account) == [DAY]
    manifest = Snapshot.of(base, layout.account, DAY).manifest
    with Snapshot(base, layout.account, manifest).open("user_changes") as file:
        assert file.read().num_rows == 3


def test_only_days_with_a_manifest_are_snapshots_in_order(base: Store, layout: Layout):
    for day in ("2026-09-02", "2026-08-31", "2026-09-01"):
        publish_snapshot(base, layout, day)
    Path(base.path, layout.manifest("2026-09-01")).unlink()
    (Path(base.path, layout.manifests) / "snapshot=2026-10-01.old").mkdir()
    (Path(base.path, layout.manifests) / "README").write_text("")
    assert snapshot_days(base, layout.account) == ["2026-08-31", "2026-09-02"]


def test_an_account_without_snapshots_has_none(base: Store, layout: Layout):
    assert snapshot_days(base, layout.account) == []


@pytest.mark.parametrize("damage", [b"", b"PAR1", None])
def test_another_file_than_the_manifest_names_is_refused(base: Store, layout: Layout, damage: bytes | None):
    manifest = publish_snapshot(base, layout)
    path = Path(base.path, layout.dataset("user_changes", DAY))
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    with (
        pytest.raises(AhaSnapshotError, match="is not the file that its manifest names"),
        Snapshot(base, layout.account, manifest).open("user_changes"),
    ):
        pass


def test_one_flipped_bit_is_seen(base: Store, layout: Layout):
    manifest = publish_snapshot(base, layout)
    path = Path(base.path, layout.dataset("user_changes", DAY))
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    with pytest.raises(AhaSnapshotError), Snapshot(base, layout.account, manifest).open("user_changes"):
        pass


def test_a_dataset_that_the_snapshot_lacks_is_named(base: Store, layout: Layout):
    manifest = publish_snapshot(base, layout)
    with (
        pytest.raises(AhaSnapshotError, match="Snapshot 2026-09-01 of mycompany holds no dataset users"),
        Snapshot(base, layout.account, manifest).open("users"),
    ):
        pass


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (None, "manifest.json is missing"),
        (b"", "is not a readable record: it was cut short"),
        (b'{"snapshot": "2026-09-01", "fi', "is not a readable record: it was cut short"),
        (b"\xff\xfe", "is not a readable record"),
        (b"[]", "is not a readable record"),
        (b"{}", "not the manifest of snapshot 2026-09-01"),
        (b'{"snapshot": "2026-09-01", "files": {}}', "not the manifest of snapshot"),
        (b'{"snapshot": "2026-09-01", "files": ["users"]}', "not the manifest of snapshot"),
        (b'{"snapshot": "2026-09-01", "files": [{"dataset": "users"}]}', "not the manifest of snapshot"),
        (b'{"snapshot": "2026-08-31", "files": []}', "not the manifest of snapshot 2026-09-01"),
    ],
)
def test_a_manifest_that_is_none_is_refused(base: Store, layout: Layout, body: bytes | None, sentence: str):
    publish_snapshot(base, layout)
    path = Path(base.path, layout.manifest(DAY))
    path.unlink()
    if body is not None:
        path.write_bytes(body)
    with pytest.raises(AhaSnapshotError, match=sentence):
        Snapshot.of(base, layout.account, DAY)


def test_a_path_that_cannot_be_read_is_a_storage_error(base: Store, layout: Layout, tmp_path: Path):
    manifest = publish_snapshot(base, layout)
    for path in (layout.manifest(DAY), layout.dataset("user_changes", DAY)):
        Path(base.path, path).unlink()
        Path(base.path, path).mkdir()
    with pytest.raises(AhaStorageError, match="Is a directory"):
        base.read_record(layout.manifest(DAY))
    with (
        pytest.raises(AhaStorageError, match="Is a directory"),
        Snapshot(base, layout.account, manifest).open("user_changes"),
    ):
        pass
    (tmp_path / "a-file").write_text("")
    with pytest.raises(AhaStorageError, match="Not a directory"):
        snapshot_days(local_store(str(tmp_path / "a-file")), "mycompany")


def test_json_is_the_same_for_the_same_content_and_keeps_its_letters():
    content = {"b": "Zoë", "a": [1, None, True]}
    assert to_json(content) == to_json(dict(content))
    assert "Zoë".encode() in to_json(content)
    assert json.loads(to_json(content)) == content
    assert to_json(content).endswith(b"}\n")
