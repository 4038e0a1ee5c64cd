"""The chain of manifests, and what is named that was changed, removed or added."""

import json
import os
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_aha.common.moments import timestamp
from airflow_provider_aha.exceptions import AhaStorageError
from airflow_provider_aha.record.chain import close_try
from airflow_provider_aha.record.check import check, verify
from airflow_provider_aha.record.register import files_elsewhere
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.store.store import Store, sealed, sha256, to_json
from tests.raw import raw

NO_MANIFEST = "is in no manifest: it was added, or the task that wrote it is still running, or died."


def folder(location: Store, run_id: str, task_id: str = "t") -> RunFolder:
    return RunFolder(location, "acme", Run("d", run_id, task_id, 1, "ann"))


def one_run(location: Store, run_id: str, **records: Any) -> RunFolder:
    """Leave some records and a manifest, as a task does."""
    where = folder(location, run_id)
    where.create("start.json", {"run": run_id})
    for name, content in records.items():
        where.create(f"events/1/{name}.json", content)
    close_try(where, {"run_id": run_id})
    return where


def three_runs(location: Store) -> tuple[str, list[str]]:
    where = [one_run(location, run_id, a={"n": 1}, b={"n": 2}) for run_id in ("r1", "r2", "r3")]
    return where[0].account_path, [one.path.removeprefix(f"{where[0].account_path}/") for one in where]


def findings(location: Store) -> list[str]:
    return verify(location, "acme")


def manifest(location: Store, number: int) -> dict[str, Any]:
    path = f"{folder(location, 'x').account_path}/manifests/{number:08d}.json"
    return dict(json.loads(raw(location).cat_file(path)))


def test_nothing_is_found_where_nothing_was_touched(location):
    three_runs(location)
    assert findings(location) == []


def test_each_manifest_carries_the_hash_of_the_one_before_it(location):
    account, _ = three_runs(location)
    assert (manifest(location, 1)["previous"], manifest(location, 1)["previous_sha256"]) == (None, None)
    for number in (2, 3):
        before = f"{account}/manifests/{number - 1:08d}.json"
        assert manifest(location, number)["previous"] == f"{number - 1:08d}.json"
        assert manifest(location, number)["previous_sha256"] == sha256(raw(location).cat_file(before))


def test_a_changed_record_is_named(location):
    account, folders = three_runs(location)
    raw(location).pipe_file(f"{account}/{folders[1]}/events/1/a.json", b'{"n": 7}')
    assert findings(location) == [f"{folders[1]}/events/1/a.json was changed."]


def test_a_removed_record_is_named(location):
    account, folders = three_runs(location)
    raw(location).rm_file(f"{account}/{folders[0]}/events/1/b.json")
    assert findings(location) == [f"{folders[0]}/events/1/b.json was removed."]


def test_swapped_records_are_named(local):
    """Each of them is what somebody wrote, but not there."""
    account, folders = three_runs(local)
    one, other = (Path(local.path, account, folder, "start.json") for folder in folders[:2])
    bodies = one.read_bytes(), other.read_bytes()
    one.write_bytes(bodies[1]), other.write_bytes(bodies[0])
    assert findings(local) == [f"{folder}/start.json was changed." for folder in folders[:2]]


def test_a_record_that_was_moved_is_named_twice(local):
    account, folders = three_runs(local)
    Path(local.path, account, folders[0], "start.json").rename(Path(local.path, account, folders[1], "moved.json"))
    assert findings(local) == [
        f"{folders[0]}/start.json was removed.",
        f"{folders[1]}/moved.json {NO_MANIFEST}",
    ]


@pytest.mark.parametrize("pair", [(1, 2), (2, 3), (1, 3)])
def test_swapped_manifests_are_named(local, pair):
    account, _ = three_runs(local)
    one, other = (Path(local.path, account, "manifests", f"{number:08d}.json") for number in pair)
    bodies = one.read_bytes(), other.read_bytes()
    one.write_bytes(bodies[1]), other.write_bytes(bodies[0])
    assert findings(local)


@pytest.mark.parametrize(
    "where", ["{}/events/1/c.json", "dag=d/run=forged/plan.json", "register/2026-01-01/x.json"]
)
def test_an_added_record_is_named(location, where):
    account, folders = three_runs(location)
    path = where.format(folders[2])
    location.create(f"{account}/{path}", b"{}")
    assert findings(location) == [f"{path} {NO_MANIFEST}"]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_changed_manifest_is_named(location, number):
    account, _ = three_runs(location)
    path = f"manifests/{number:08d}.json"
    content = manifest(location, number) | {"run_id": "another"}
    raw(location).pipe_file(f"{account}/{path}", to_json(content))
    found = findings(location)
    assert f"{path} was changed." in found
    assert (len(found) == 2) is (number < 3)


def test_a_manifest_that_was_forged_with_care_breaks_the_next_link(local):
    account, _ = three_runs(local)
    content = manifest(local, 2) | {"run_id": "another"}
    content.pop("content_sha256")
    body = to_json({**content, "content_sha256": sha256(to_json(content))})
    raw(local).pipe_file(f"{account}/manifests/00000002.json", body)
    assert findings(local) == ["manifests/00000002.json was changed after manifests/00000003.json was written."]


def test_a_removed_manifest_is_named_and_what_it_vouched_for(local):
    account, folders = three_runs(local)
    raw(local).rm_file(f"{account}/manifests/00000002.json")
    found = findings(local)
    assert found[:2] == [
        "manifests/00000002.json was removed.",
        "manifests/00000003.json comes after manifests/00000002.json, which isn't there.",
    ]
    assert found[2:] == [
        f"{folders[1]}/{name} {NO_MANIFEST}" for name in ("events/1/a.json", "events/1/b.json", "start.json")
    ]


def test_the_first_manifests_cannot_be_taken_away(local):
    account, _ = three_runs(local)
    raw(local).rm_file(f"{account}/manifests/00000001.json")
    assert findings(local)[0] == "manifests/00000001.json was removed."


def test_a_second_beginning_is_named(local):
    account, _ = three_runs(local)
    content = manifest(local, 1)
    raw(local).pipe_file(f"{account}/manifests/00000004.json", to_json(content))
    assert findings(local) == ["manifests/00000004.json says that it is the first, but others come before it."]


def forge(location: Store, name: str, after: int, **facts: Any) -> str:
    """Write a manifest that comes after another one, with right hashes; return its path."""
    account = folder(location, "x").account_path
    before = f"{after:08d}.json"
    content = {
        "account": "acme",
        "finished_at": "2026-11-28T00:00:00+00:00",
        "folder": "dag=d/run=forged/task=t",
        "previous": before,
        "previous_sha256": sha256(raw(location).cat_file(f"{account}/manifests/{before}")),
        "files": {},
        **facts,
    }
    raw(location).pipe_file(f"{account}/manifests/{name}", sealed(content))
    return f"{account}/manifests/{name}"


@pytest.mark.parametrize(
    "name", ["00000002-aaaaaaaa.json", "2.json", "0000002x.json", "00000002 (1).json", "00000000.json", "x/1.json"]
)
def test_a_manifest_beside_the_chain_is_named_and_vouches_for_nothing(location, name):
    account, folders = three_runs(location)
    if not location.url.startswith("s3"):
        Path(location.path, account, "manifests/x").mkdir()
    raw(location).pipe_file(f"{account}/dag=d/run=r2/approval.json", b"{}")
    raw(location).pipe_file(f"{account}/{folders[0]}/events/1/a.json", b'{"n": 7}')
    vouched = {"dag=d/run=r2/approval.json": sha256(b"{}"), f"{folders[0]}/events/1/a.json": sha256(b'{"n": 7}')}
    forge(location, name, 1, files=vouched)
    assert findings(location) == [
        f"manifests/{name} lies beside the chain: whatever it says counts for nothing.",
        f"{folders[0]}/events/1/a.json was changed.",
        f"dag=d/run=r2/approval.json {NO_MANIFEST}",
    ]


def test_a_number_that_leaves_a_gap_is_named(local):
    three_runs(local)
    forge(local, "00000012.json", 3)
    assert findings(local) == [
        "manifests/00000004.json and all up to manifests/00000011.json were removed.",
        "manifests/00000012.json comes after manifests/00000011.json, which isn't there.",
    ]
    # The chain goes on all the same: a forged manifest stops nobody.
    one_run(local, "r4")
    assert manifest(local, 13)["previous"] == "00000012.json"


def test_a_manifest_that_comes_after_another_one_than_the_one_before_it_is_named(local):
    three_runs(local)
    forge(local, "00000004.json", 2)
    assert findings(local) == [
        "manifests/00000004.json comes after 00000003.json, but says that it comes after 00000002.json."
    ]


def test_a_manifest_of_another_account_is_named_and_vouches_for_nothing(local):
    three_runs(local)
    forge(local, "00000004.json", 3, account="other", files={"start.json": "00"})
    assert findings(local) == ["manifests/00000004.json is a manifest of the account other."]


def test_an_account_that_was_renamed_is_named(local):
    account, _ = three_runs(local)
    path = Path(local.path, account)
    path.rename(path.with_name("account=gamma"))
    assert verify(local, "gamma") == [
        "account=gamma has the record of the account acme: its folder was renamed, or is a copy."
    ]


@pytest.mark.parametrize("name", ["../../beta/x", "/etc/passwd", "dag=d/../../x"])
def test_a_manifest_that_names_a_file_outside_of_the_record_is_none(local, name):
    three_runs(local)
    forge(local, "00000004.json", 3, files={name: "00"})
    assert findings(local) == ["manifests/00000004.json names a file outside of the record: it is no manifest."]


def test_a_manifest_in_which_a_key_stands_twice_is_none(local):
    account, _ = three_runs(local)
    path = Path(local.path, account, "manifests/00000003.json")
    path.write_text(path.read_text().replace('"previous":', '"previous": "00000001.json", "previous":'))
    assert findings(local)[0] == "manifests/00000003.json was changed, or is no manifest."


def test_a_manifest_of_gigabytes_is_not_read(local, monkeypatch):
    """Neither by who verifies nor by who comes after it."""
    account, _ = three_runs(local)
    with Path(local.path, account, "manifests/00000004.json").open("wb") as file:
        file.truncate(3 * 10**9)
    monkeypatch.setattr(Store, "hash_of", lambda *_: "00")
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read"))
    assert findings(local) == ["manifests/00000004.json is too large for a manifest, and was not read."]
    one_run(local, "r4")
    assert manifest(local, 5)["previous_sha256"] == "00"


def test_evidence_is_made_anew_by_its_own_task_only(local):
    where = one_run(local, "r1")
    path = f"{where.path}/evidence.parquet"
    raw(local).pipe_file(path, b"first")
    close_try(where, {})
    raw(local).pipe_file(path, b"second")
    close_try(folder(local, "r2"), {}, [path])
    assert findings(local) == ["dag=d/run=r1/task=t/evidence.parquet was changed between two tries."]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"content_sha256": 1, "files": [1], "previous": null}'])
def test_a_manifest_that_is_none_is_named(local, body):
    account, _ = three_runs(local)
    raw(local).pipe_file(f"{account}/manifests/00000003.json", body)
    assert findings(local)[0] == "manifests/00000003.json was changed, or is no manifest."


def test_a_later_manifest_tells_of_a_file_that_a_retry_replaced(local):
    where = folder(local, "r1")
    raw(local).makedirs(where.path)
    for body in (b"first", b"second"):
        raw(local).pipe_file(f"{where.path}/evidence.parquet", body)
        close_try(where, {})
    assert findings(local) == []


def tries(location: Store, *numbers: int) -> RunFolder:
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
    Path(local.path, where.path, name).write_text("{}" if name.startswith("events") else '{"a": 1}')
    tries(local, 2)
    assert findings(local) == [f"dag=d/run=r1/task=t/{name} was changed between two tries."]


def test_a_record_that_was_removed_between_two_tries_is_named(local):
    Path(local.path, tries(local, 1).path, "events/1/1-outcome-0.json").unlink()
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
    local.create(f"{where.run_path}/plan.json", b"{}")
    local.create(f"{where.account_path}/plans/20260101-{sha256(b'{}')[:16]}.json", b"{}")
    local.create(f"{where.run_path}/approval.json", b"{}")
    close_try(where, {})
    assert findings(local) == []
    assert {Path(name).name for name in manifest(local, 1)["files"]} > {"plan.json", "approval.json"}


def test_a_plan_that_was_swapped_between_two_tasks_is_named(local):
    """The manifest of the later one names the new file; the earlier one tells of it."""
    where = folder(local, "r1")
    plan = f"{where.run_path}/plan.json"
    local.create(plan, b"{}")
    close_try(where, {})
    raw(local).pipe_file(plan, b'{"another": 1}')
    close_try(folder(local, "r1", "another"), {})
    assert findings(local) == ["dag=d/run=r1/plan.json was changed between two tries."]


def test_what_a_dying_worker_left_half_written_is_known_and_no_finding(local):
    account, folders = three_runs(local)
    left = [f"{where}/.x.json.{'ab' * 16}.tmp" for where in (folders[0], "manifests", "register/2026-01-01")]
    for name in left:
        Path(local.path, account, name).parent.mkdir(parents=True, exist_ok=True)
        Path(local.path, account, name).write_bytes(b"{")
    assert findings(local) == []
    one_run(local, "r4")
    assert findings(local) == []
    assert check(local, "acme").notes == [
        f"{name} was left by a writer that died: nothing reads it." for name in left
    ]


@pytest.mark.parametrize("name", [".x.tmp", "x.tmp", ".x.json.ab.tmp", f".{'ab' * 16}.tmp", f".x.{'ab' * 16}.TMP"])
def test_what_no_worker_leaves_is_no_debris(local, name):
    account, folders = three_runs(local)
    Path(local.path, account, folders[0], name).write_bytes(b"")
    assert findings(local) == [f"{folders[0]}/{name} {NO_MANIFEST}"]


@pytest.mark.parametrize("location", ["s3"], indirect=True)
def test_where_no_worker_leaves_anything_half_written_it_is_named(location):
    account, folders = three_runs(location)
    name = f"{folders[0]}/.x.json.{'ab' * 16}.tmp"
    raw(location).pipe_file(f"{account}/{name}", b"")
    assert findings(location) == [f"{name} {NO_MANIFEST}"]


# --- what is no file -----------------------------------------------------------------------------

LINK = "is a link: what lies behind it can be exchanged."


@pytest.mark.parametrize("what", ["dag=d/run=r1", "dag=d/run=r1/task=t/start.json", "manifests"])
def test_a_link_is_named_though_what_lies_behind_it_is_right(local, what):
    account, _ = three_runs(local)
    Path(local.path, account, what).rename(Path(local.path, "elsewhere"))
    Path(local.path, account, what).symlink_to(Path(local.path, "elsewhere"))
    found = findings(local)
    assert f"{what} {LINK}" in found
    assert what == "manifests" or len(found) == 1


@pytest.mark.parametrize("what", ["access/account=acme", "reviews/account=acme"])
def test_an_account_s_folder_that_is_a_link_is_named(local, what):
    three_runs(local)
    path = Path(local.path, what)
    (Path(local.path) / "elsewhere").mkdir()
    if path.exists():
        path.rename(Path(local.path, "elsewhere", "a"))
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(Path(local.path, "elsewhere", "a"))
    assert findings(local) == [f"{what} {LINK}"]


def test_a_link_to_nothing_or_to_itself_and_a_pipe_are_named_and_not_read(local):
    account, folders = three_runs(local)
    Path(local.path, account, folders[0], "nothing").symlink_to("/nowhere")
    Path(local.path, account, "dag=d/run=loop").symlink_to(Path(local.path, account, "dag=d"))
    os.mkfifo(Path(local.path, account, folders[0], "pipe"))
    assert sorted(findings(local)) == [
        f"dag=d/run=loop {LINK}",
        f"{folders[0]}/nothing {LINK}",
        f"{folders[0]}/pipe is no file, and was not read.",
    ]


def test_a_base_path_that_is_a_link_is_its_owner_s_choice(local):
    three_runs(local)
    link = f"{local.path}-link"
    Path(link).symlink_to(local.path)
    assert verify(Store(local.fs, link, link), "acme") == []


def test_a_file_that_cannot_be_opened_is_named(local, monkeypatch):
    _, folders = three_runs(local)
    read = LocalFileSystem.cat_file

    def refuse(self: Any, path: str, *arguments: Any, **options: Any) -> bytes:
        # Root, as which tests may run, is refused nothing.
        if path.endswith("run=r1/task=t/start.json"):
            raise PermissionError(13, "Permission denied", path)
        body: bytes = read(self, path, *arguments, **options)
        return body

    monkeypatch.setattr(LocalFileSystem, "cat_file", refuse)
    assert findings(local) == [f"{folders[0]}/start.json can't be read: permission was denied."]


def test_a_folder_in_the_place_of_a_file_is_named(local):
    account, folders = three_runs(local)
    Path(local.path, account, folders[0], "start.json").unlink()
    Path(local.path, account, folders[0], "start.json").mkdir()
    assert findings(local) == [f"{folders[0]}/start.json was removed."]


def test_large_files_are_compared_piece_by_piece(location, monkeypatch):
    account, folders = three_runs(location)
    monkeypatch.setattr("airflow_provider_aha.store.store._SMALL", 1)
    assert findings(location) == []
    raw(location).pipe_file(f"{account}/{folders[1]}/events/1/a.json", b'{"n": 7}')
    assert findings(location) == [f"{folders[1]}/events/1/a.json was changed."]


def test_no_character_of_a_name_hides_in_a_finding(local):
    account, folders = three_runs(local)
    Path(local.path, account, folders[0], "a\u200b\n0 finding(s).").write_bytes(b"")
    assert findings(local) == [
        f"{folders[0]}/a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}0 finding(s). {NO_MANIFEST}"
    ]


def test_a_file_that_would_be_taken_for_one_of_a_review_is_named(local):
    account, _ = three_runs(local)
    local.create("reviews/account=acme/review=a/review.json", b"{}")
    close_try(folder(local, "r4"), {}, ["reviews/account=acme/review=a/review.json"])
    assert findings(local) == []
    local.create(f"{account}/reviews/review=a/review.json", b"{}")
    assert findings(local) == [f"{local.path}/{account}/reviews/review=a/review.json {NO_MANIFEST}"]


# --- several writers -----------------------------------------------------------------------------


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


def test_of_two_writers_that_have_seen_the_same_end_one_takes_the_next_number(location, monkeypatch):
    """The other one has claimed the number after the first has looked."""
    one_run(location, "r1")
    create = Store.create

    def late(store: Store, path: str, body: bytes) -> bool:
        monkeypatch.setattr(Store, "create", create)
        one_run(location, "faster")
        return create(store, path, body)

    where = folder(location, "slower")
    monkeypatch.setattr(Store, "create", late)
    path, _ = close_try(where, {"run_id": "slower"})
    assert path.endswith("/manifests/00000003.json")
    assert manifest(location, 2)["run_id"] == "faster"
    assert findings(location) == []


# --- a beginning that was pruned -----------------------------------------------------------------


NOW, DAY = datetime.now(UTC), timedelta(days=1)


@pytest.fixture
def old_runs(local, monkeypatch) -> tuple[str, list[str]]:
    """Three runs that are old enough to be pruned."""
    with monkeypatch.context() as patch:
        patch.setattr("airflow_provider_aha.record.chain.timestamp", lambda: timestamp(NOW - 92 * DAY))
        return three_runs(local)


def pruned(location: Store, number: int) -> dict[str, str]:
    """Leave what a prune leaves for the manifests up to a number, but delete nothing."""
    account = folder(location, "x").account_path
    name = f"{number:08d}.json"
    anchor = {"name": name, "sha256": sha256(raw(location).cat_file(f"{account}/manifests/{name}"))}
    close_try(folder(location, "prune"), {"pruned": {**anchor, "older_than": timestamp(NOW - 91 * DAY)}})
    location.create(f"{account}/manifests/anchor.json", to_json(anchor))
    return anchor


@pytest.mark.parametrize("whole", [True, False])
def test_an_anchor_stands_for_what_was_pruned(local, old_runs, whole):
    account, folders = old_runs
    anchor = pruned(local, 1)
    raw(local).rm_file(f"{account}/{folders[0]}/start.json")
    if whole:
        raw(local).rm(f"{account}/{folders[0]}", recursive=True)
        raw(local).rm_file(f"{account}/manifests/00000001.json")
    assert findings(local) == []
    raw(local).pipe_file(f"{account}/manifests/anchor.json", to_json(anchor | {"sha256": "00"}))
    said = "what manifests/00000004.json says of a prune up to 00000001.json doesn't agree with it."
    assert findings(local) == [
        "manifests/00000001.json was changed after manifests/00000002.json was written.",
        f"manifests/anchor.json was changed: {said}",
    ]


def test_an_anchor_hides_nothing_that_no_prune_has_deleted(local):
    """Who takes manifests away would like to call it a prune."""
    account, folders = three_runs(local)
    body = raw(local).cat_file(f"{account}/manifests/00000002.json")
    for number in (1, 2):
        raw(local).rm(f"{account}/{folders[number - 1]}", recursive=True)
        raw(local).rm_file(f"{account}/manifests/{number:08d}.json")
    anchor = {"name": "00000002.json", "sha256": sha256(body)}
    local.create(f"{account}/manifests/anchor.json", to_json(anchor))
    assert findings(local) == [
        "manifests/anchor.json is of no prune: no manifest says that all up to 00000002.json was deleted."
    ]


def test_an_anchor_that_was_removed_is_missed(local, old_runs):
    account, folders = old_runs
    pruned(local, 1)
    for path in ("manifests/anchor.json", "manifests/00000001.json"):
        raw(local).rm_file(f"{account}/{path}")
    raw(local).rm(f"{account}/{folders[0]}", recursive=True)
    assert findings(local)[2:] == [
        "manifests/anchor.json was removed: manifests/00000004.json says that all up to 00000001.json was deleted."
    ]


def test_a_prune_that_was_forged_for_what_is_younger_than_any_prune_may_take_is_named(local):
    """Also where it says that it took what is older: each manifest holds when the one before it was written."""
    account, folders = three_runs(local)
    pruned(local, 2)
    for number in (1, 2):
        raw(local).rm(f"{account}/{folders[number - 1]}", recursive=True)
        raw(local).rm_file(f"{account}/manifests/{number:08d}.json")
    (finding,) = findings(local)
    assert finding == (
        "manifests/anchor.json is of a prune that may not be: "
        "manifests/00000004.json took what was younger than 90 days."
    )


def test_a_prune_of_today_is_named(local, old_runs, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "DAY", timedelta(minutes=1))
    pruned(local, 1)
    (finding,) = findings(local)
    assert "younger than 90 days" in finding


def test_what_a_cut_off_prune_has_left_must_be_as_it_was(local, old_runs):
    account, folders = old_runs
    pruned(local, 2)
    raw(local).pipe_file(f"{account}/{folders[0]}/start.json", b"{}")
    assert findings(local) == [f"{folders[0]}/start.json {NO_MANIFEST}"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"name": "00000001.json"}'])
def test_a_broken_anchor_is_named(local, old_runs, body):
    account, _ = old_runs
    pruned(local, 1)
    raw(local).pipe_file(f"{account}/manifests/anchor.json", body)
    assert findings(local) == ["manifests/anchor.json was changed, or is no anchor."]


def test_the_chain_goes_on_after_everything_was_pruned(local):
    account = folder(local, "x").account_path
    local.create(f"{account}/manifests/anchor.json", to_json({"name": "00000041.json", "sha256": "aa"}))
    one_run(local, "r1")
    assert manifest(local, 42)["previous_sha256"] == "aa"


def test_records_that_cannot_be_read_are_an_error_of_their_own():
    class Broken(MemoryFileSystem):
        def find(self, *_: object, **__: object) -> list[str]:
            raise PermissionError("denied")

    with pytest.raises(AhaStorageError):
        verify(Store(Broken(), "/a", "/a"), "acme")


def test_a_folder_that_cannot_be_listed_is_no_empty_folder(local):
    class Lame(LocalFileSystem):
        """As a network drive; fsspec's own `find` passes over what its `ls` fails on."""

        protocol = "lame"

        def ls(self, path: str, *arguments: Any, **options: Any) -> Any:
            if path.rstrip("/").endswith("/b"):
                raise PermissionError(13, "Permission denied", path)
            return super().ls(path, *arguments, **options)

    for name in ("a/1", "b/2"):
        local.create(name, b"x")
    lame = Store(Lame(), local.path, "lame://a")
    with pytest.raises(AhaStorageError, match="Permission denied"):
        lame.files()
    assert lame.files("a") == ["a/1"]
    assert lame.files("c") == []


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
    events = [path for path in raw(anywhere.location).find(anywhere.folder("r1").path) if "-outcome-" in path]
    raw(anywhere.location).rm_file(events[0])
    assert [line.rpartition(" ")[2] for line in anywhere.findings()] == ["removed."]
