"""Write-once records: whole or not there, and of two writers one wins."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_aha.exceptions import AhaConfigurationError, AhaSnapshotError, AhaStorageError
from airflow_provider_aha.record.run import Run, RunFolder, path_part, run_path
from airflow_provider_aha.store.store import Store, local_store
from tests.raw import raw

RUN = Run("my dag", "manual__2026-01-01T00:00:00+00:00", "group.task", 1, "ann")


def test_a_record_is_read_as_it_was_written(location: Store) -> None:
    folder = RunFolder(location, "acme", RUN)
    assert folder.read("start.json") is None
    assert folder.create("start.json", {"who": "Ærø"})
    assert folder.read("start.json") == {"who": "Ærø"}


def test_a_record_is_never_replaced(location: Store) -> None:
    folder = RunFolder(location, "acme", RUN)
    folder.create("start.json", {"first": True})
    assert not folder.create("start.json", {"first": False})
    assert folder.read("start.json") == {"first": True}


def test_of_two_writers_at_once_one_wins(location: Store) -> None:
    path = "one.json"
    together = threading.Barrier(8)
    won = []

    def write(number: int) -> None:
        together.wait()
        if location.create(path, b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert raw(location).cat_file(path) == b"%d" % won[0]


def test_a_store_that_meets_its_own_first_request_again_counts_as_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stuttering(MemoryFileSystem):
        protocol = "s3"
        store: ClassVar[dict[str, object]] = {}
        pseudo_dirs: ClassVar[list[str]] = [""]

        def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: object) -> None:
            super().pipe_file(path, value)
            raise FileExistsError(path)

    fs = Stuttering()
    assert Store(fs, "/bucket", "s3://bucket").create("a.json", b"{}")
    monkeypatch.setattr(Stuttering, "pipe_file", lambda *_, **__: (_ for _ in ()).throw(FileExistsError))
    assert not Store(fs, "/bucket", "s3://bucket").create("a.json", b"another")


def test_a_store_without_conditions_is_asked_first(tmp_path: Path) -> None:
    fs = MemoryFileSystem()
    store = Store(fs, str(tmp_path), f"memory://{tmp_path}")
    assert store.create("a.json", b"1")
    assert not store.create("a.json", b"2")
    assert store.read("a.json") == b"1"


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AhaStorageError, match="No space left"):
        local_store(str(tmp_path)).create("a/b.json", b"{}")
    assert list((tmp_path / "a").iterdir()) == []


def test_a_record_that_was_written_after_a_look_at_its_folder_is_found(location: Store) -> None:
    folder = RunFolder(location, "acme", RUN)
    folder.create("a.json", {})
    location.read_all(folder.path)
    if location.url.startswith("s3"):
        others = type(location.fs)(**location.fs.storage_options, skip_instance_cache=True)
        others.pipe_file(f"{location.path}/{folder.path}/b.json", b"{}")
    else:
        folder.create("b.json", {})
    assert folder.read("b.json") == {}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"a": 1', b"\xff"])
def test_a_record_cut_short_is_told_from_a_missing_one(location: Store, body: bytes) -> None:
    location.create("a.json", body)
    with pytest.raises(AhaSnapshotError, match="not a readable record"):
        location.read_record("a.json")


def test_what_others_wrote_since_the_last_look_is_seen(location: Store) -> None:
    assert location.read_all("x") == {}
    location.create("x/1.json", b"1")
    assert list(location.read_all("x").values()) == [b"1"]
    location.create("x/y/2.json", b"2")
    assert list(location.read_all("x").values()) == [b"1", b"2"]


def test_a_look_while_others_write_misses_nothing_and_never_fails(local: Store) -> None:
    """A file that is gone between two looks must not make the whole folder look empty."""
    folder = "x"
    local.create(f"{folder}/first.json", b"{}")
    writer = threading.Thread(
        target=lambda: [local.create(f"{folder}/{number}.json", b"{}") for number in range(300)]
    )
    writer.start()
    seen = 0
    while writer.is_alive():
        found = local.read_all(folder)
        assert f"{folder}/first.json" in found
        assert len(found) >= seen
        assert set(found.values()) == {b"{}"}
        seen = len(found)
    writer.join()
    assert len(local.read_all(folder)) == 301


def test_files_of_folders_inside_count_only_when_asked_for(location: Store) -> None:
    for name in ("a.json", "b/c.json", ".d.json.ab.tmp"):
        location.create(f"x/{name}", b"{}")
    names = location.files("x")
    assert names == ["x/a.json", "x/b/c.json"]
    assert location.files("x", deep=False) == ["x/a.json"]
    assert location.files("none", deep=False) == []


def test_a_folder_that_may_not_be_read_is_not_an_empty_one(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    local.create("x/y/a.json", b"{}")
    scan = os.scandir

    def refuse(path: str) -> object:
        # Root, as which tests may run, is refused nothing.
        if path.endswith("/y"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(AhaStorageError, match="Permission denied"):
        local.files("x")


def test_an_unreachable_store_is_a_storage_error() -> None:
    class Broken(MemoryFileSystem):
        def cat_file(self, *_: object, **__: object) -> bytes:
            raise RuntimeError("credentials")

        def info(self, *_: object, **__: object) -> dict[str, Any]:
            raise RuntimeError("credentials")

        def find(self, *_: object, **__: object) -> list[str]:
            raise RuntimeError("credentials")

    broken = Store(Broken(), "/", "/")
    actions: list[Callable[[], object]] = [
        lambda: broken.read_record("a"),
        lambda: broken.read_all("a"),
        lambda: broken.create("a", b""),
    ]
    for action in actions:
        with pytest.raises(AhaStorageError, match="RuntimeError"):
            action()


def test_different_ids_have_different_folders_inside_the_account() -> None:
    ids = ["a/b", "a%2Fb", "a b", "..", ".", "a", "A", "manual__2026-01-01T00:00:00+00:00", "%2E%2E"]
    paths = {run_path("acme", "d", one) for one in ids}
    assert len(paths) == len(ids)
    assert {Path(path).parent for path in paths} == {Path("access/account=acme/dag=d")}
    assert not any(part in (".", "..") for path in paths for part in path.split("/"))


def test_a_run_without_id_has_no_folder() -> None:
    with pytest.raises(AhaConfigurationError, match="without id"):
        path_part("")


def test_an_address_is_written_as_its_user_writes_it() -> None:
    location = Store(MemoryFileSystem(), "/bucket/aha", "s3://conn@bucket/aha")
    url = RunFolder(location, "acme", Run("d", "r", "t", 1, "x")).url("evidence.parquet")
    assert url == "s3://conn@bucket/aha/access/account=acme/dag=d/run=r/task=t/evidence.parquet"
