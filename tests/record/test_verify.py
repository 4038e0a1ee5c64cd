"""The command that verifies a base path: what it prints, compares, and ends with."""

import json
import shutil
from pathlib import Path

import pytest

from airflow_provider_aha import verify as command
from airflow_provider_aha.record.chain import close_try
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.store.store import Store, sha256
from tests.raw import raw


def run(location: Store, run_id: str, account: str = "acme") -> str:
    """Leave a run with a manifest; return the manifest's hash."""
    where = RunFolder(location, account, Run("d", run_id, "t", 1, "ann"))
    where.create("start.json", {"run": run_id})
    return close_try(where, {"run_id": run_id})[1]


@pytest.fixture
def verify(local, capsys):
    """Call it with further arguments for the exit code, and what was printed."""

    def call(*arguments: str, path: str | None = None) -> tuple[int, str]:
        code = command.main([path or local.path, *arguments])
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


def newest(account: str, number: int, digest: str) -> str:
    return (
        f"{account}: the newest is manifests/{number:08d}.json. Keep its hash elsewhere: "
        f"--expect {account}={digest}\n"
    )


# --- without a kept hash -------------------------------------------------------------------------


def test_it_prints_the_newest_hash_of_each_account(local, verify):
    run(local, "r1")
    acme, other = run(local, "r2"), run(local, "r1", "other")
    assert verify() == (0, f"{newest('acme', 2, acme)}{newest('other', 1, other)}2 account(s), 0 finding(s).\n")


@pytest.mark.parametrize("below", ["", "/access/account=acme", "/access/account=acme/"])
def test_it_names_what_was_changed(local, verify, below):
    digest = run(local, "r1")
    (path,) = Path(local.path).glob("**/start.json")
    path.write_text("{}")
    found = "acme: dag=d/run=r1/task=t/start.json was changed.\n"
    assert verify(path=local.path + below) == (
        1,
        f"{found}{newest('acme', 1, digest)}1 account(s), 1 finding(s).\n",
    )


def test_one_account_s_folder_is_checked_alone(local, verify):
    run(local, "r1"), run(local, "r1", "other")
    (path,) = Path(local.path).glob("**/account=other/**/start.json")
    path.write_text("{}")
    assert verify(path=f"{local.path}/access/account=acme")[0] == 0
    assert verify(path=f"{local.path}/reviews/account=acme")[0] == 1


def test_a_relative_path_is_taken(local, verify, monkeypatch):
    run(local, "r1")
    monkeypatch.chdir(Path(local.path).parent)
    assert "1 account(s), 0 finding(s)" in verify(path="aha")[1]


@pytest.mark.parametrize("path", ["", "/access/account=nobody"])
def test_a_path_at_which_there_is_nothing_is_never_fine(local, verify, path):
    path = local.path + path
    assert verify(path=path) == (1, f"There is nothing at {path}: is the path right?\n")


def test_a_base_path_without_records_is_fine_and_it_says_so(local, verify):
    Path(local.path, "manifests/account=acme/snapshot=2026-11-28").mkdir(parents=True)
    code, said = verify()
    assert (code, said.splitlines()) == (
        0,
        [
            f"There are no records below {local.path}: nothing was planned, asked or done yet.",
            "acme: there are snapshots, but no records.",
            "0 account(s), 0 finding(s).",
        ],
    )


def test_an_account_that_has_snapshots_only_is_named_beside_the_others(local, verify):
    run(local, "r1")
    for account in ("acme", "beta"):
        Path(local.path, f"manifests/account={account}").mkdir(parents=True)
    code, said = verify()
    assert (code, said.splitlines()[0]) == (0, "beta: there are snapshots, but no records.")


@pytest.mark.parametrize(
    "name",
    [
        "access/account=ACME",
        "access/account=acme (copy)",
        "reviews/x",
        "access/evidence.parquet",
    ],
)
def test_what_lies_beside_the_accounts_is_named(local, verify, name):
    run(local, "r1")
    path = Path(local.path, name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"") if "." in name else path.mkdir()
    code, said = verify()
    assert (code, said.splitlines()[0]) == (1, f"{name} lies beside the accounts: it is none of them.")


def test_an_account_that_is_a_file_is_none(local, verify):
    run(local, "r1")
    Path(local.path, "access/account=other").write_bytes(b"")
    assert verify()[0] == 1


def test_a_folder_of_records_that_is_a_link_is_named(local, verify):
    run(local, "r1")
    Path(local.path, "access").rename(Path(local.path, "elsewhere"))
    Path(local.path, "access").symlink_to(Path(local.path, "elsewhere"))
    assert verify()[1].startswith("access is a link")


# --- with one ------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["acme=", ""])
def test_a_kept_hash_may_be_followed_by_others(local, verify, named):
    kept = run(local, "r1")
    assert verify("--expect", named + kept)[1].startswith("acme: 0 manifest(s) newer than the kept one.\n")
    run(local, "r2"), run(local, "r3")
    code, said = verify("--expect", named + kept.upper())
    assert (code, said.splitlines()[0]) == (0, "acme: 2 manifest(s) newer than the kept one.")


@pytest.mark.parametrize("how", ["cut off", "made anew", "restored and gone on"])
@pytest.mark.parametrize("named", ["acme=", ""])
def test_an_end_that_is_another_than_the_kept_one_is_named(local, verify, named, how):
    run(local, "r1")
    old = shutil.copytree(local.path, f"{local.path}-old")
    kept = run(local, "r2")
    shutil.rmtree(local.path)
    shutil.copytree(old, local.path)
    if how != "cut off":
        run(local, "r2" if how == "made anew" else "r3")
    code, said = verify("--expect", named + kept)
    where = "not in the chain of acme" if named else "in no chain"
    assert code == 1
    assert said.splitlines()[0] == (
        f"The kept hash {kept} is {where}: its end was cut off or made anew, or an older state was restored."
    )


def test_an_account_that_was_removed_is_missed(local, verify):
    kept = [f"--expect={name}={run(local, 'r1', name)}" for name in ("acme", "beta")]
    shutil.rmtree(f"{local.path}/access/account=beta")
    code, said = verify(*kept)
    assert code == 1
    assert "beta: the account was removed: a hash of it was kept, but it has no record.\n" in said
    shutil.rmtree(f"{local.path}/access")
    assert "2 finding(s)" in verify(*kept)[1]


def test_a_kept_hash_is_of_its_account(local, verify):
    acme, beta = run(local, "r1"), run(local, "r1", "beta")
    code, said = verify("--expect", f"acme={beta}", "--expect", f"beta={acme}")
    assert (code, said.count("The kept hash")) == (1, 2)


def test_an_account_of_which_no_hash_was_kept_is_named(local, verify):
    kept = run(local, "r1")
    run(local, "r1", "delta")
    code, said = verify("--expect", f"acme={kept}")
    assert code == 0
    assert "delta: no hash of it was kept: it is new since, or its hash wasn't given.\n" in said
    assert "delta" not in verify("--expect", f"acme={kept}", path=f"{local.path}/access/account=acme")[1]


@pytest.mark.parametrize("text", ["abc", "acme=", "a" * 63, "acme=" + "g" * 64, ""])
def test_what_is_no_hash_is_refused(local, verify, text):
    run(local, "r1")
    code, said = verify(f"--expect={text}")
    assert (code, "is not a hash" in said) == (2, True)


def test_a_kept_hash_of_what_a_prune_has_deleted_is_known(local, verify, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("airflow_provider_aha.record.chain.timestamp", lambda: "2020-01-01T00:00:00+00:00")
        hashes = [run(local, "r1"), run(local, "r2")]
    pruned = {
        "name": "00000002.json",
        "sha256": hashes[1],
        "manifest_hashes": hashes,
        "older_than": "2020-02-01T00:00:00+00:00",
    }
    where = RunFolder(local, "acme", Run("prune", "p1", "t", 1, "schedule"))
    close_try(where, {"action": "prune", "dag_id": "prune", "run_id": "p1", "pruned": pruned})
    account = Path(local.path, where.account_path)
    (account / "manifests/anchor.json").write_text(json.dumps({"name": "00000002.json", "sha256": hashes[1]}))
    for name in ("manifests/00000001.json", "manifests/00000002.json"):
        (account / name).unlink()
    shutil.rmtree(account / "dag=d")
    code, said = verify("--expect", hashes[0])
    assert (code, said.splitlines()[:3]) == (
        0,
        [
            "acme: 1 manifest(s) newer than the kept one.",
            "acme: the kept manifest was pruned.",
            "acme: pruned, since the kept hash, up to 00000002.json: manifests/00000003.json says so.",
        ],
    )
    assert "acme: Manifests up to 00000002.json, and what they named, were deleted by a prune" in said
    assert "by the DAG prune in its run p1." in said
    assert verify("--expect", sha256(b""))[0] == 1


# --- what can't be read --------------------------------------------------------------------------


def test_records_that_cannot_be_read_are_said_to_be_so(local, verify, monkeypatch):
    run(local, "r1")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr("os.scandir", refuse)
    code, said = verify()
    assert (code, "Permission denied" in said) == (2, True)


def test_a_bucket_is_verified_as_a_disk_is(s3_url, capsys):
    from airflow_provider_aha.hooks.paths import resolve_path

    location = resolve_path(s3_url)
    assert command.main([s3_url]) == 1
    digest = run(location, "r1")
    assert command.main([s3_url]) == 0
    assert capsys.readouterr().out.endswith(f"{newest('acme', 1, digest)}1 account(s), 0 finding(s).\n")
    raw(location).pipe_file(f"{location.path}/access/account=acme/manifests/00000001-ab.json", b"{}")
    assert command.main([f"{s3_url}/access/account=acme"]) == 1
