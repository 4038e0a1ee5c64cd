"""The chain of manifests, and the command that names what was changed, removed or added."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_aha import verify as command
from airflow_provider_aha.exceptions import AhaStorageError
from airflow_provider_aha.record.chain import close_try, verify
from airflow_provider_aha.record.register import files_elsewhere
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.store.store import Location, create_once, list_files, sha256, to_json

NO_MANIFEST = "is in no manifest: it was added, or the task that wrote it is still running, or died."


def folder(location: Location, run_id: str, task_id: str = "t") -> RunFolder:
    return RunFolder(location, "acme", Run("d", run_id, task_id, 1, "ann"))


def one_run(location: Location, run_id: str, **records: Any) -> RunFolder:
    """Leave some records and a manifest, as a task does."""
    where = folder(location, run_id)
    where.create("start.json", {"run": run_id})
    for name, content in records.items():
        where.create(f"events/1/{name}.json", content)
    close_try(where, {"run_id": run_id})
    return where


def three_runs(location: Location) -> tuple[str, list[str]]:
    where = [one_run(location, run_id, a={"n": 1}, b={"n": 2}) for run_id in ("r1", "r2", "r3")]
    return where[0].account_path, [one.path.removeprefix(f"{where[0].account_path}/") for one in where]


def findings(location: Location) -> list[str]:
    return list(verify(location.fs, folder(location, "x").account_path))


def manifest(location: Location, number: int) -> dict[str, Any]:
    path = f"{folder(location, 'x').account_path}/manifests/{number:08d}.json"
    return dict(json.loads(location.fs.cat_file(path)))


def test_nothing_is_found_where_nothing_was_touched(location):
    three_runs(location)
    assert findings(location) == []


def test_each_manifest_carries_the_hash_of_the_one_before_it(location):
    account, _ = three_runs(location)
    assert (manifest(location, 1)["previous"], manifest(location, 1)["previous_sha256"]) == (None, None)
    for number in (2, 3):
        before = f"{account}/manifests/{number - 1:08d}.json"
        assert manifest(location, number)["previous"] == f"{number - 1:08d}.json"
        assert manifest(location, number)["previous_sha256"] == sha256(location.fs.cat_file(before))


def test_a_changed_record_is_named(location):
    account, folders = three_runs(location)
    location.fs.pipe_file(f"{account}/{folders[1]}/events/1/a.json", b'{"n": 7}')
    assert findings(location) == [f"{folders[1]}/events/1/a.json was changed."]


def test_a_removed_record_is_named(location):
    account, folders = three_runs(location)
    location.fs.rm_file(f"{account}/{folders[0]}/events/1/b.json")
    assert findings(location) == [f"{folders[0]}/events/1/b.json was removed."]


def test_swapped_records_are_named(local):
    """Each of them is what somebody wrote, but not there."""
    account, folders = three_runs(local)
    one, other = (Path(account, folder, "start.json") for folder in folders[:2])
    bodies = one.read_bytes(), other.read_bytes()
    one.write_bytes(bodies[1]), other.write_bytes(bodies[0])
    assert findings(local) == [f"{folder}/start.json was changed." for folder in folders[:2]]


def test_a_record_that_was_moved_is_named_twice(local):
    account, folders = three_runs(local)
    Path(account, folders[0], "start.json").rename(Path(account, folders[1], "moved.json"))
    assert findings(local) == [
        f"{folders[0]}/start.json was removed.",
        f"{folders[1]}/moved.json {NO_MANIFEST}",
    ]


@pytest.mark.parametrize("pair", [(1, 2), (2, 3), (1, 3)])
def test_swapped_manifests_are_named(local, pair):
    account, _ = three_runs(local)
    one, other = (Path(account, "manifests", f"{number:08d}.json") for number in pair)
    bodies = one.read_bytes(), other.read_bytes()
    one.write_bytes(bodies[1]), other.write_bytes(bodies[0])
    assert findings(local)


@pytest.mark.parametrize(
    "where", ["{}/events/1/c.json", "dag=d/run=forged/plan.json", "register/2026-01-01/x.json"]
)
def test_an_added_record_is_named(location, where):
    account, folders = three_runs(location)
    path = where.format(folders[2])
    create_once(location.fs, f"{account}/{path}", b"{}")
    assert findings(location) == [f"{path} {NO_MANIFEST}"]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_changed_manifest_is_named(location, number):
    account, _ = three_runs(location)
    path = f"manifests/{number:08d}.json"
    content = manifest(location, number) | {"run_id": "another"}
    location.fs.pipe_file(f"{account}/{path}", to_json(content))
    found = findings(location)
    assert f"{path} was changed." in found
    assert (len(found) == 2) is (number < 3)


def test_a_manifest_that_was_forged_with_care_breaks_the_next_link(local):
    account, _ = three_runs(local)
    content = manifest(local, 2) | {"run_id": "another"}
    content.pop("content_sha256")
    body = to_json({**content, "content_sha256": sha256(to_json(content))})
    local.fs.pipe_file(f"{account}/manifests/00000002.json", body)
    assert findings(local) == ["manifests/00000002.json was changed after manifests/00000003.json was written."]


def test_a_removed_manifest_is_named_and_what_it_vouched_for(local):
    account, folders = three_runs(local)
    local.fs.rm_file(f"{account}/manifests/00000002.json")
    found = findings(local)
    assert found[0] == "manifests/00000002.json was removed: manifests/00000003.json comes after it."
    assert found[1:] == [
        f"{folders[1]}/{name} {NO_MANIFEST}" for name in ("events/1/a.json", "events/1/b.json", "start.json")
    ]


def test_the_first_manifests_cannot_be_taken_away(local):
    account, _ = three_runs(local)
    local.fs.rm_file(f"{account}/manifests/00000001.json")
    assert findings(local)[0] == "manifests/00000001.json was removed: manifests/00000002.json comes after it."


def test_a_second_beginning_is_named(local):
    account, _ = three_runs(local)
    content = manifest(local, 1)
    local.fs.pipe_file(f"{account}/manifests/00000004.json", to_json(content))
    assert findings(local) == ["manifests/00000004.json says that it is the first, but others come before it."]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"content_sha256": 1, "files": [1], "previous": null}'])
def test_a_manifest_that_is_none_is_named(local, body):
    account, _ = three_runs(local)
    local.fs.pipe_file(f"{account}/manifests/00000003.json", body)
    assert findings(local)[0] == "manifests/00000003.json was changed, or is no manifest."


def test_a_later_manifest_tells_of_a_file_that_a_retry_replaced(local):
    where = folder(local, "r1")
    local.fs.makedirs(where.path)
    for body in (b"first", b"second"):
        local.fs.pipe_file(f"{where.path}/evidence.parquet", body)
        close_try(where, {})
    assert findings(local) == []


def tries(location: Location, *numbers: int) -> RunFolder:
    """Leave an event of each try, and a manifest of each but those that died (negative numbers)."""
    where = folder(location, "r1")
    for place, number in enumerate(numbers):
        where.create("start.json", {})
        where.create(f"events/1/{abs(number)}-outcome-{place}.json", {"try": number})
        if number > 0:
            close_try(where, {"try_number": number})
    return where


@pytest.mark.parametrize("name", ["start.json", "events/1/1-outcome-0.json"])
def test_a_record_that_was_changed_between_two_tries_is_named(local, name):
    """The second try has hashed it again."""
    where = tries(local, 1)
    Path(where.path, name).write_text("{}" if name.startswith("events") else '{"a": 1}')
    tries(local, 2)
    assert findings(local) == [f"dag=d/run=r1/task=t/{name} was changed between two tries."]


def test_a_record_that_was_removed_between_two_tries_is_named(local):
    Path(tries(local, 1).path, "events/1/1-outcome-0.json").unlink()
    tries(local, 2)
    assert findings(local) == ["dag=d/run=r1/task=t/events/1/1-outcome-0.json was removed."]


def test_an_event_that_was_added_to_a_try_that_had_ended_is_named(local):
    tries(local, 1).create("events/2/1-outcome-cd.json", {})
    tries(local, 2)
    assert findings(local) == ["dag=d/run=r1/task=t/events/2/1-outcome-cd.json was added after its try had ended."]


@pytest.mark.parametrize("numbers", [(1, 2, 3), (-1, 2), (1, -2, 3), (-1, -2, 3), (1, 1)])
def test_tries_that_ended_or_died_are_a_whole_record(local, numbers):
    tries(local, *numbers)
    assert findings(local) == []


def test_what_tasks_of_a_run_share_is_in_the_manifest_and_the_index_of_the_plan(local):
    where = folder(local, "r1")
    create_once(local.fs, f"{where.run_path}/plan.json", b"{}")
    create_once(local.fs, f"{where.account_path}/plans/20260101-{sha256(b'{}')[:16]}.json", b"{}")
    create_once(local.fs, f"{where.run_path}/approval.json", b"{}")
    close_try(where, {})
    assert findings(local) == []
    assert {Path(name).name for name in manifest(local, 1)["files"]} > {"plan.json", "approval.json"}


def test_a_plan_that_was_swapped_between_two_tasks_is_named(local):
    """The manifest of the later one names the new file; the earlier one tells of it."""
    where = folder(local, "r1")
    plan = f"{where.run_path}/plan.json"
    create_once(where.fs, plan, b"{}")
    close_try(where, {})
    where.fs.pipe_file(plan, b'{"another": 1}')
    close_try(folder(local, "r1", "another"), {})
    assert findings(local) == ["dag=d/run=r1/plan.json was changed between two tries."]


def test_what_a_dying_worker_left_half_written_is_passed_over(local):
    account, folders = three_runs(local)
    for where in ("manifests", folders[0], "register/2026-01-01"):
        create_once(local.fs, f"{account}/{where}/.x.json.ab.tmp", b"{")
    assert findings(local) == []
    one_run(local, "r4")
    assert findings(local) == []


def test_tasks_that_end_at_once_make_one_chain(local):
    together = threading.Barrier(6)

    def end(number: int) -> None:
        where = folder(local, f"r{number}")
        where.create("start.json", {"n": number})
        together.wait()
        close_try(where, {})

    threads = [threading.Thread(target=end, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert findings(local) == []
    assert [manifest(local, number)["previous"] for number in range(2, 7)] == [
        f"{number:08d}.json" for number in range(1, 6)
    ]


def test_a_store_without_conditions_loses_no_manifest(tmp_path):
    location = Location(MemoryFileSystem(), str(tmp_path), str(tmp_path))
    three_runs(location)
    assert findings(location) == []
    names = [
        path.rpartition("/")[2] for path in location.fs.find(f"{folder(location, 'x').account_path}/manifests")
    ]
    assert [name[:9] for name in sorted(names)] == ["00000001-", "00000002-", "00000003-"]


def pruned(location: Location, number: int) -> dict[str, str]:
    """Leave what a prune leaves for the manifests up to a number, but delete nothing."""
    account = folder(location, "x").account_path
    name = f"{number:08d}.json"
    anchor = {"name": name, "sha256": sha256(location.fs.cat_file(f"{account}/manifests/{name}"))}
    close_try(folder(location, "prune"), {"pruned": anchor})
    create_once(location.fs, f"{account}/manifests/anchor.json", to_json(anchor))
    return anchor


@pytest.mark.parametrize("whole", [True, False])
def test_an_anchor_stands_for_what_was_pruned(local, whole):
    account, folders = three_runs(local)
    anchor = pruned(local, 1)
    local.fs.rm_file(f"{account}/{folders[0]}/start.json")
    if whole:
        local.fs.rm(f"{account}/{folders[0]}", recursive=True)
        local.fs.rm_file(f"{account}/manifests/00000001.json")
    assert findings(local) == []
    local.fs.pipe_file(f"{account}/manifests/anchor.json", to_json(anchor | {"sha256": "00"}))
    assert findings(local) == [
        "manifests/00000001.json was changed after manifests/00000002.json was written.",
        "manifests/anchor.json is of no prune: no manifest says that all up to 00000001.json was deleted.",
    ]


def test_an_anchor_hides_nothing_that_no_prune_has_deleted(local):
    """Who takes manifests away would like to call it a prune."""
    account, folders = three_runs(local)
    body = local.fs.cat_file(f"{account}/manifests/00000002.json")
    for number in (1, 2):
        local.fs.rm(f"{account}/{folders[number - 1]}", recursive=True)
        local.fs.rm_file(f"{account}/manifests/{number:08d}.json")
    anchor = {"name": "00000002.json", "sha256": sha256(body)}
    create_once(local.fs, f"{account}/manifests/anchor.json", to_json(anchor))
    assert findings(local) == [
        "manifests/anchor.json is of no prune: no manifest says that all up to 00000002.json was deleted."
    ]


def test_what_a_cut_off_prune_has_left_must_be_as_it_was(local):
    account, folders = three_runs(local)
    pruned(local, 2)
    local.fs.pipe_file(f"{account}/{folders[0]}/start.json", b"{}")
    assert findings(local) == [f"{folders[0]}/start.json {NO_MANIFEST}"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"name": "00000001.json"}'])
def test_a_broken_anchor_is_named(local, body):
    account, _ = three_runs(local)
    pruned(local, 1)
    local.fs.pipe_file(f"{account}/manifests/anchor.json", body)
    assert findings(local) == ["manifests/anchor.json was changed, or is no anchor."]


def test_the_chain_goes_on_after_everything_was_pruned(local):
    account = folder(local, "x").account_path
    create_once(local.fs, f"{account}/manifests/anchor.json", to_json({"name": "00000041.json", "sha256": "aa"}))
    one_run(local, "r1")
    assert manifest(local, 42)["previous_sha256"] == "aa"


def test_records_that_cannot_be_read_are_an_error_of_their_own():
    class Broken(MemoryFileSystem):
        def find(self, *_: object, **__: object) -> list[str]:
            raise PermissionError("denied")

    with pytest.raises(AhaStorageError):
        list(verify(Broken(), "/a"))


def test_a_folder_that_cannot_be_listed_is_no_empty_folder(local):
    class Lame(LocalFileSystem):
        """As a network drive; fsspec's own `find` passes over what its `ls` fails on."""

        protocol = "lame"

        def ls(self, path: str, *arguments: Any, **options: Any) -> Any:
            if path.rstrip("/").endswith("/b"):
                raise PermissionError(13, "Permission denied", path)
            return super().ls(path, *arguments, **options)

    for name in ("a/1", "b/2"):
        create_once(local.fs, f"{local.path}/{name}", b"x")
    with pytest.raises(AhaStorageError, match="Permission denied"):
        list_files(Lame(), local.path)
    assert [path.rpartition("/")[2] for path in list_files(Lame(), f"{local.path}/a")] == ["1"]
    assert list_files(Lame(), f"{local.path}/c") == []


# --- real runs -----------------------------------------------------------------------------------


def test_real_runs_leave_a_whole_chain(anywhere):
    def carry_out(run_id: str, *arguments: Any, **options: Any) -> None:
        try:
            anywhere.carry_out(*arguments, run_id=run_id, **options)
        finally:
            where = anywhere.folder(run_id)
            close_try(where, {}, files_elsewhere(where, anywhere.now))

    carry_out("r1", anywhere.decide(anywhere.people[:3], facts={"plan_sha256": "aa"}))
    carry_out("r1", anywhere.decide(anywhere.people[:3], facts={"plan_sha256": "aa"}), try_number=2)
    carry_out("r2", anywhere.decide(anywhere.people[:3], {"enabled": True}, "reactivate"))
    carry_out("r3", anywhere.decide(anywhere.people[:1]), dry_run=True)
    assert anywhere.findings() == []
    events = [path for path in anywhere.location.fs.find(anywhere.folder("r1").path) if "-outcome-" in path]
    anywhere.location.fs.rm_file(events[0])
    assert [line.rpartition(" ")[2] for line in anywhere.findings()] == ["removed."]


# --- the command ---------------------------------------------------------------------------------


def test_the_command_says_that_all_is_as_it_was_written(local, capsys):
    three_runs(local)
    assert command.main([local.path]) == 0
    assert capsys.readouterr().out == "1 account(s), 0 finding(s).\n"


@pytest.mark.parametrize("below", ["", "/deactivations/account=acme", "/deactivations/account=acme/"])
def test_the_command_names_what_was_changed(local, capsys, below):
    account, folders = three_runs(local)
    Path(account, folders[0], "start.json").write_text("{}")
    assert command.main([local.path + below]) == 1
    assert (
        capsys.readouterr().out == f"{account}: {folders[0]}/start.json was changed.\n1 account(s), 1 finding(s).\n"
    )


def test_the_command_checks_every_account(local, capsys):
    for account in ("acme", "other"):
        where = RunFolder(local, account, Run("d", "r", "t", 1, "ann"))
        where.create("start.json", {})
        close_try(where, {})
    assert command.main([local.path]) == 0
    assert capsys.readouterr().out == "2 account(s), 0 finding(s).\n"


def test_the_command_takes_a_relative_path(local, monkeypatch, capsys):
    three_runs(local)
    monkeypatch.chdir(Path(local.path).parent)
    assert command.main(["aha"]) == 0
    assert "1 account(s)" in capsys.readouterr().out


@pytest.mark.parametrize("path", ["", "/deactivations/account=nobody"])
def test_the_command_says_where_there_is_no_record(local, capsys, path):
    assert command.main([local.path + path]) == 2
    assert capsys.readouterr().err == f"There is no record below {local.path}{path}.\n"


def test_the_command_refuses_a_path_in_one_sentence(capsys):
    assert command.main(["s3://"]) == 2
    assert capsys.readouterr().err.startswith("The URL 's3:/")
