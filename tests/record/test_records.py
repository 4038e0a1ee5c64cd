"""Write-once records: whole or not there, and of two writers one wins."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_aha.exceptions import AhaConfigurationError, AhaSnapshotError, AhaStorageError
from airflow_provider_aha.record.run import Run, RunFolder, path_part, run_path
from airflow_provider_aha.store.store import (
    Location,
    create_once,
    list_files,
    read_all,
    read_record,
)

RUN = Run("my dag", "manual__2026-01-01T00:00:00+00:00", "group.task", 1, "ann")


def test_a_record_is_read_as_it_was_written(location: Location) -> None:
    folder = RunFolder(location, "acme", RUN)
    assert folder.read("start.json") is None
    assert folder.create("start.json", {"who": "Ærø"})
    assert folder.read("start.json") == {"who": "Ærø"}


def test_a_record_is_never_replaced(location: Location) -> None:
    folder = RunFolder(location, "acme", RUN)
    folder.create("start.json", {"first": True})
    assert not folder.create("start.json", {"first": False})
    assert folder.read("start.json") == {"first": True}


def test_of_two_writers_at_once_one_wins(location: Location) -> None:
    path = f"{location.path}/one.json"
    together = threading.Barrier(8)
    won = []

    def write(number: int) -> None:
        together.wait()
        if create_once(location.fs, path, b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert location.fs.cat_file(path) == b"%d" % won[0]


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
    assert create_once(fs, "/bucket/a.json", b"{}")
    monkeypatch.setattr(Stuttering, "pipe_file", lambda *_, **__: (_ for _ in ()).throw(FileExistsError))
    assert not create_once(fs, "/bucket/a.json", b"another")


def test_a_store_without_conditions_is_asked_first(tmp_path: Path) -> None:
    fs = MemoryFileSystem()
    path = f"{tmp_path}/a.json"
    assert create_once(fs, path, b"1")
    assert not create_once(fs, path, b"2")
    assert fs.cat_file(path) == b"1"


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AhaStorageError, match="No space left"):
        create_once(LocalFileSystem(), f"{tmp_path}/a/b.json", b"{}")
    assert list((tmp_path / "a").iterdir()) == []


def test_a_record_that_was_written_after_a_look_at_its_folder_is_found(location: Location) -> None:
    folder = RunFolder(location, "acme", RUN)
    folder.create("a.json", {})
    read_all(location.fs, folder.path)
    if location.url.startswith("s3"):
        others = type(location.fs)(**location.fs.storage_options, skip_instance_cache=True)
        others.pipe_file(f"{folder.path}/b.json", b"{}")
    else:
        folder.create("b.json", {})
    assert folder.read("b.json") == {}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"a": 1', b"\xff"])
def test_a_record_cut_short_is_told_from_a_missing_one(location: Location, body: bytes) -> None:
    create_once(location.fs, f"{location.path}/a.json", body)
    with pytest.raises(AhaSnapshotError, match="not a readable record"):
        read_record(location.fs, f"{location.path}/a.json")


def test_what_others_wrote_since_the_last_look_is_seen(location: Location) -> None:
    assert read_all(location.fs, f"{location.path}/x") == {}
    create_once(location.fs, f"{location.path}/x/1.json", b"1")
    assert list(read_all(location.fs, f"{location.path}/x").values()) == [b"1"]
    create_once(location.fs, f"{location.path}/x/y/2.json", b"2")
    assert list(read_all(location.fs, f"{location.path}/x").values()) == [b"1", b"2"]


def test_a_look_while_others_write_misses_nothing_and_never_fails(local: Location) -> None:
    """A file that is gone between two looks must not make the whole folder look empty."""
    folder = f"{local.path}/x"
    create_once(local.fs, f"{folder}/first.json", b"{}")
    writer = threading.Thread(
        target=lambda: [create_once(local.fs, f"{folder}/{number}.json", b"{}") for number in range(300)]
    )
    writer.start()
    seen = 0
    while writer.is_alive():
        found = read_all(local.fs, folder)
        assert f"{folder}/first.json" in found
        assert len(found) >= seen
        assert set(found.values()) == {b"{}"}
        seen = len(found)
    writer.join()
    assert len(read_all(local.fs, folder)) == 301


def test_files_of_folders_inside_count_only_when_asked_for(location: Location) -> None:
    for name in ("a.json", "b/c.json", ".d.json.ab.tmp"):
        create_once(location.fs, f"{location.path}/x/{name}", b"{}")
    names = [path.removeprefix(f"{location.path}/x/") for path in list_files(location.fs, f"{location.path}/x")]
    assert names == ["a.json", "b/c.json"]
    assert list_files(location.fs, f"{location.path}/x", deep=False) == [f"{location.path}/x/a.json"]
    assert list_files(location.fs, f"{location.path}/none", deep=False) == []


def test_a_folder_that_may_not_be_read_is_not_an_empty_one(
    local: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_once(local.fs, f"{local.path}/x/y/a.json", b"{}")
    scan = os.scandir

    def refuse(path: str) -> object:
        # Root, as which tests may run, is refused nothing.
        if path.endswith("/y"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(AhaStorageError, match="Permission denied"):
        list_files(local.fs, f"{local.path}/x")


def test_an_unreachable_store_is_a_storage_error() -> None:
    class Broken(MemoryFileSystem):
        def cat_file(self, *_: object, **__: object) -> bytes:
            raise RuntimeError("credentials")

        def info(self, *_: object, **__: object) -> dict[str, Any]:
            raise RuntimeError("credentials")

        def find(self, *_: object, **__: object) -> list[str]:
            raise RuntimeError("credentials")

    actions: list[Callable[[], object]] = [
        lambda: read_record(Broken(), "/a"),
        lambda: read_all(Broken(), "/a"),
        lambda: create_once(Broken(), "/a", b""),
    ]
    for action in actions:
        with pytest.raises(AhaStorageError, match="RuntimeError"):
            action()


def test_different_ids_have_different_folders_inside_the_account(local: Location) -> None:
    ids = ["a/b", "a%2Fb", "a b", "..", ".", "a", "A", "manual__2026-01-01T00:00:00+00:00", "%2E%2E"]
    paths = {run_path(local, "acme", "d", one) for one in ids}
    assert len(paths) == len(ids)
    assert {Path(path).parent for path in paths} == {Path(local.path) / "deactivations/account=acme/dag=d"}
    assert not any(part in (".", "..") for path in paths for part in path.split("/"))


def test_a_run_without_id_has_no_folder() -> None:
    with pytest.raises(AhaConfigurationError, match="without id"):
        path_part("")


def test_an_address_is_written_as_its_user_writes_it() -> None:
    location = Location(MemoryFileSystem(), "/bucket/aha", "s3://conn@bucket/aha")
    url = RunFolder(location, "acme", Run("d", "r", "t", 1, "x")).url("evidence.parquet")
    assert url == "s3://conn@bucket/aha/deactivations/account=acme/dag=d/run=r/task=t/evidence.parquet"
