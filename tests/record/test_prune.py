"""Retention: what goes, what stays, and what a prune leaves that dies in the middle."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_aha import verify as command
from airflow_provider_aha.datasets.names import DATASETS
from airflow_provider_aha.datasets.snapshot import snapshot_days
from airflow_provider_aha.exceptions import AhaSnapshotError
from airflow_provider_aha.operators.prune import EVIDENCE_DAYS, AhaPruneOperator
from airflow_provider_aha.record import chain
from airflow_provider_aha.record.chain import close_try
from airflow_provider_aha.record.check import check, verify
from airflow_provider_aha.record.retention import Retention, prune
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.review.records import freeze, paths_of, read_reviews
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import Store, sealed, to_json
from tests.raw import raw

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
YEARS = timedelta(days=7 * 365 + 2)
RETENTION = Retention(400 * DAY, YEARS)
RUN = Run("prune", "r9", "prune", 1, "schedule")


class Place:
    """A base path with things of several ages."""

    def __init__(self, location: Store) -> None:
        self.location, self.fs = location, raw(location)
        self.layout = Layout("acme")

    def prune(self, *, dry_run: bool = False, retention: Retention = RETENTION) -> dict[str, Any]:
        return prune(self.location, "acme", RUN, retention, dry_run=dry_run, now=NOW)

    def put(self, path: str, age: timedelta = timedelta(0), body: bytes = b"x") -> str:
        if self.location.url.startswith("s3"):
            self.fs.pipe_file(path, body)
        else:
            self.location.create(path, body)
            self.age(path, age)
        return path

    def age(self, path: str, age: timedelta) -> None:
        moment = (NOW - age).timestamp()
        os.utime(f"{self.location.path}/{path}", (moment, moment))

    def snapshot(self, days: int, account: str = "acme", *, whole: bool = True) -> str:
        layout, day = Layout(account), f"{NOW - days * DAY:%Y-%m-%d}"
        files = {name: layout.dataset(name, day) for name in DATASETS}
        for path in files.values():
            self.put(path, body=path.encode())
        listed = [
            {"dataset": name, "sha256": hashlib.sha256(path.encode()).hexdigest()} for name, path in files.items()
        ]
        for name in ("access_summary.json", "access_review.html", "access_review.csv"):
            self.put(f"{layout.report(day)}/{name}")
        if whole:
            self.put(layout.manifest(day), body=to_json({"snapshot": day, "files": listed}))
        return day

    def run(self, run_id: str, age: timedelta, *files: str, task_id: str = "t") -> RunFolder:
        """Leave a run of that age with its manifest."""
        folder = RunFolder(self.location, "acme", Run("d", run_id, task_id, 1, "ann"))
        moment = NOW - age
        for name in ("start.json", "events/7/1-intent-ab.json", *files):
            self.location.create(f"{folder.path}/{name}", to_json({"run": run_id, "name": name}))
        register = f"{folder.account_path}/register/{moment:%Y-%m-%d}/{run_id}.json"
        self.location.create(register, b"{}")
        self.close(folder, age, [register])
        return folder

    def close(self, folder: RunFolder, age: timedelta, also: list[str]) -> None:
        """Leave a manifest of that age."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chain, "timestamp", lambda: (NOW - age).isoformat())
            close_try(folder, {}, also)

    def review(self, review_id: str, age: timedelta) -> str:
        created = (NOW - age).isoformat()
        files = {"population": ("population.parquet", review_id.encode()), "page": ("access_review.html", b"<p>")}
        facts = {"account": "acme", "review_id": review_id, "created_at": created}
        path = freeze(self.location, facts, files).path
        self.close(self.asking(review_id), age, paths_of(self.location, "acme", review_id))
        return path

    def asking(self, review_id: str) -> RunFolder:
        return RunFolder(self.location, "acme", Run("review", review_id, "t", 1, "ann"))

    def submit(self, review_id: str, age: timedelta) -> None:
        """Leave a submission of that age."""
        record = {"submitted_at": (NOW - age).isoformat(), "file_sha256": "ab", "files": {}}
        self.location.create(f"{self.layout.review(review_id)}/submission.json", sealed(record))
        self.close(self.asking(review_id), age, paths_of(self.location, "acme", review_id))

    def files(self) -> list[str]:
        return self.location.files()

    def findings(self) -> list[str]:
        return verify(self.location, "acme")

    def half_snapshots(self) -> list[str]:
        """Return the snapshots that look whole, but lack a file."""
        days = snapshot_days(self.location, self.layout.account)
        paths = {day: [self.layout.dataset(name, day) for name in DATASETS] for day in days}
        return [day for day in days if not all(map(self.fs.exists, paths[day]))]

    def half_reviews(self) -> list[str]:
        """Return the reviews that look whole, but lack a file."""
        reviews = read_reviews(self.location, "acme")
        paths = [f"{one.path}/{file['name']}" for one in reviews for file in one.record["files"].values()]
        return [path for path in paths if not self.fs.exists(path)]


@pytest.fixture
def place(location: Store) -> Place:
    return Place(location)


@pytest.fixture
def here(local: Store) -> Place:
    return Place(local)


# --- snapshots -----------------------------------------------------------------------------------


def test_snapshots_go_after_their_days_with_all_datasets_and_the_report(place):
    old, _, young = place.snapshot(401), place.snapshot(400), place.snapshot(3)
    assert place.prune()["snapshots"] == [old]
    assert place.prune()["snapshots"] == []
    assert not [path for path in place.files() if old in path]
    assert len([path for path in place.files() if young in path]) == len(DATASETS) + 4
    assert place.half_snapshots() == []


def test_a_dry_run_says_the_same_and_deletes_nothing(place):
    place.snapshot(500), place.snapshot(3)
    place.run("r1", YEARS + DAY), place.review("a", YEARS + DAY)
    place.run("r2", DAY), place.review("b", DAY)
    before = place.files()
    planned = place.prune(dry_run=True)
    assert place.files() == before
    assert planned == place.prune() | {"dry_run": True}
    assert planned["files"] == 8 + 4 + 4


def test_the_newest_snapshot_stays_however_old_it_is(here):
    here.snapshot(900)
    newest = here.snapshot(800)
    assert len(here.prune()["snapshots"]) == 1
    assert snapshot_days(here.location, here.layout.account) == [newest]


def test_what_a_younger_extract_left_unfinished_is_not_the_newest_snapshot(here):
    newest, unfinished = here.snapshot(800), here.snapshot(700, whole=False)
    assert here.prune()["snapshots"] == [unfinished]
    assert snapshot_days(here.location, here.layout.account) == [newest]


def test_datasets_without_a_manifest_are_found_too(here):
    unfinished, _ = here.snapshot(700, whole=False), here.snapshot(1)
    debris = here.put(f"{here.layout.dataset('users', unfinished)[: -len('users.parquet')]}.users.parquet.ab.tmp")
    assert here.prune()["snapshots"] == [unfinished]
    assert not here.fs.exists(debris)


def test_nothing_outside_of_the_layout_and_of_the_account_is_touched(here):
    day = here.snapshot(900)
    here.snapshot(1), here.snapshot(900, "other"), here.snapshot(899, "other")
    mine = [
        here.put(f"{here.layout.dataset('users', day)[: -len('/users.parquet')]}/notes.txt", YEARS * 2),
        here.put(f"users/account=acme/snapshot={day}x/users.parquet", YEARS * 2),
        here.put("users/account=acme/snapshot=2001-01-01/deep/users.parquet", YEARS * 2),
        here.put("exports/account=acme/snapshot=2001-01-01/users.parquet", YEARS * 2),
        here.put("access/account=acme/readme.md", YEARS * 2),
        here.put("push/sql/account=acme/sent/users.parquet", YEARS * 2),
        here.put("push/sql/account=other/run=r1/task=t/push.json", YEARS * 2),
        here.put("2001-01-01.parquet", YEARS * 2),
    ]
    others = [path for path in here.files() if "account=other" in path]
    assert here.prune()["snapshots"] == [day]
    assert all(map(here.fs.exists, mine))
    assert [path for path in here.files() if "account=other" in path] == others


def test_empty_folders_go_too(here):
    day, _ = here.snapshot(900), here.snapshot(1)
    here.run("r1", YEARS + DAY), here.run("r2", DAY)
    here.prune()
    left = [str(path) for path in Path(here.location.path).rglob("*") if path.is_dir()]
    assert not [path for path in left if day in path or "run=r1" in path]
    assert all(any(Path(path).iterdir()) for path in left)


# --- evidence ------------------------------------------------------------------------------------


def test_the_rest_of_the_chain_holds_after_the_beginning_was_pruned(place):
    place.run("r1", YEARS + 3 * DAY), place.run("r2", YEARS + DAY)
    place.run("r3", YEARS - DAY), place.run("r4", DAY)
    result = place.prune()
    assert (result["manifests"], result["files"]) == (2, 2 * 4)
    assert place.findings() == []
    assert not [path for path in place.files() if "run=r1" in path or "run=r2" in path]
    assert [path for path in place.files() if "run=r3" in path]
    names = [path.rpartition("/")[2] for path in place.files() if "/manifests/" in path]
    assert names == ["00000003.json", "00000004.json", "00000005.json", "anchor.json"]
    assert place.prune()["manifests"] == 0
    assert len([path for path in place.files() if "/manifests/" in path]) == 4


def test_the_prune_says_in_the_chain_what_it_deleted_and_for_whom(here):
    here.run("r1", YEARS + DAY), here.run("r2", DAY)
    here.prune()
    path = f"{here.layout.access}/manifests/00000003.json"
    manifest = json.loads(Path(here.location.path, path).read_text())
    assert (manifest["action"], manifest["dag_id"], manifest["requested_by"]) == ("prune", "prune", "schedule")
    assert {key: manifest["pruned"][key] for key in ("name", "manifests", "files", "unlisted_files")} == {
        "name": "00000001.json",
        "manifests": 1,
        "files": 3,
        "unlisted_files": 0,
    }


def test_the_chain_can_be_pruned_again_and_again_and_be_pruned_to_nothing(here):
    here.run("r1", YEARS + 3 * DAY)
    here.prune()
    assert here.findings() == []
    here.run("r2", YEARS + 2 * DAY), here.run("r3", YEARS + DAY)
    for days in (1, 2):
        later = Retention(400 * DAY, YEARS - days * DAY)
        here.prune(retention=later)
        assert here.findings() == []
    here.run("r4", DAY)
    assert here.findings() == []


def test_a_file_is_as_old_as_the_last_manifest_that_names_it(here):
    """A plan that a later task of the run carried out, or a task that was tried again years after."""
    here.run("r1", YEARS + DAY)
    folder = here.run("r1", DAY, "evidence.parquet")
    here.prune()
    assert here.fs.exists(f"{folder.path}/start.json")
    assert here.findings() == []


def test_a_file_that_a_later_manifest_names_stays_however_old_it_is_itself(here):
    early = here.run("r1", YEARS - DAY)
    for path in here.location.files(early.path):
        here.age(path, YEARS + DAY)
    assert here.prune()["files"] == 0
    assert here.findings() == []


@pytest.mark.parametrize("touch", ["change", "remove"])
def test_a_removed_or_changed_file_of_the_rest_is_still_named(here, touch):
    here.run("r1", YEARS + DAY)
    folder = here.run("r2", DAY)
    here.prune()
    path = Path(here.location.path, folder.path, "start.json")
    path.unlink() if touch == "remove" else path.write_text("{}")
    assert here.findings() == [f"dag=d/run=r2/task=t/start.json was {touch}{'' if touch.endswith('e') else 'e'}d."]


def test_a_chain_that_was_tampered_with_is_not_pruned(here):
    here.run("r1", YEARS + 2 * DAY), here.run("r2", YEARS + DAY), here.run("r3", DAY)
    path = Path(here.location.path, here.layout.access, "manifests/00000001.json")
    path.write_text(path.read_text().replace("r1", "rX"))
    before = here.files()
    with pytest.raises(AhaSnapshotError, match="nothing of this record was deleted"):
        here.prune()
    assert here.files() == before


def test_what_dead_tasks_left_without_a_manifest_goes_by_its_own_age(here):
    here.run("r1", DAY)
    account = here.layout.access
    old = [
        here.put(f"{account}/dag=d/run=dead/task=t/events/7/1-intent-ab.json", YEARS + DAY),
        here.put(f"{account}/dag=d/run=dead/task=t/events/7/.1-outcome-ab.json.cd.tmp", YEARS + DAY),
        here.put(f"{account}/register/2010-01-01/dead.json", YEARS + DAY),
    ]
    young = here.put(f"{account}/dag=d/run=dead/task=t/start.json", YEARS - DAY)
    assert here.prune()["files"] == 3
    assert not any(map(here.fs.exists, old))
    assert here.fs.exists(young)
    (finding,) = here.findings()
    assert finding.startswith("dag=d/run=dead/task=t/start.json is in no manifest")


# --- pushes and reviews --------------------------------------------------------------------------


def test_runs_of_pushes_go_when_nothing_in_them_is_younger(here):
    for run_id, ages in {"old": (YEARS + DAY,) * 2, "tried-again": (YEARS + DAY, DAY), "new": (DAY, DAY)}.items():
        for name, age in zip(("push.json", "outcomes.parquet"), ages, strict=True):
            here.put(f"push/sql-main/account=acme/run={run_id}/task=t/{name}", age)
    sent = here.put("push/sql-main/account=acme/sent/users.parquet", YEARS * 2)
    assert here.prune()["pushes"] == 1
    assert {path.split("/")[3] for path in here.files()} == {"run=tried-again", "run=new", "sent"}
    assert here.fs.exists(sent)


def test_reviews_go_with_the_manifests_that_vouch_for_them(place):
    old = [place.review("2018-Q1", YEARS + 9 * DAY), place.review("2018-Q2", YEARS + DAY)]
    place.review("2018-Q3", YEARS - DAY), place.review("now", DAY)
    assert place.prune()["reviews"] == ["2018-Q1", "2018-Q2"]
    assert not any(path.startswith(folder) for path in place.files() for folder in old)
    assert [review.review_id for review in read_reviews(place.location, "acme")] == ["2018-Q3", "now"]
    assert place.findings() == []
    place.review("next", timedelta(0))
    assert place.findings() == []
    assert place.prune()["reviews"] == []


def test_a_review_is_as_old_as_its_submission(here):
    here.review("a", YEARS + 3 * DAY), here.review("b", YEARS + 2 * DAY)
    here.submit("b", YEARS - DAY)
    assert here.prune()["reviews"] == ["a"]
    assert [review.review_id for review in read_reviews(here.location, "acme")] == ["b"]
    assert here.half_reviews() == []
    assert here.findings() == []


def test_what_a_dead_task_left_of_a_review_goes_by_its_own_age(here):
    here.review("a", DAY)
    old = here.put(f"{here.layout.review('dead')}/population.parquet", YEARS + DAY)
    young = here.put(f"{here.layout.review('dying')}/population.parquet", YEARS - DAY)
    result = here.prune()
    assert (result["reviews"], result["files"]) == ([], 1)
    assert (here.fs.exists(old), here.fs.exists(young)) == (False, True)


def test_a_review_that_was_taken_away_by_hand_is_still_named(here):
    here.review("a", YEARS + DAY)
    for review_id, days in (("b", 3), ("c", 2), ("d", 1)):
        here.review(review_id, days * DAY)
    here.prune()
    here.fs.rm(f"{here.layout.reviews}/review=b", recursive=True)
    names = ("access_review.html", "population.parquet", "review.json")
    assert here.findings() == [f"reviews/review=b/{name} was removed." for name in names]


# --- dying in the middle -------------------------------------------------------------------------

CHILD = """
import json, os, signal, sys
from datetime import datetime, timedelta

import fsspec

from airflow_provider_aha.record import chain
from airflow_provider_aha.record.run import Run
from airflow_provider_aha.record import retention
from airflow_provider_aha.store.store import Store

given = json.loads(sys.argv[1])
fs = fsspec.filesystem(given["protocol"], **given["options"])
left = given["passes"]

def dies(original):
    def patched(*arguments, **options):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return original(*arguments, **options)
    return patched

fs.rm_file = dies(fs.rm_file)
retention.close_try = dies(retention.close_try)
retention.anchor_at = dies(retention.anchor_at)
retention.prune(
    Store(fs, given["base"], given["base"]), "acme", Run("prune", "r8", "prune", 1, "schedule"),
    retention.Retention(timedelta(days=400), timedelta(days=given["days"])),
    dry_run=False, now=datetime.fromisoformat(given["now"]),
)
"""


def furnish(place: Place) -> None:
    """Two snapshots, two reviews and two runs too old."""
    for days in (900, 800, 1):
        place.snapshot(days)
    place.review("a", YEARS + 2 * DAY), place.run("r1", YEARS + 2 * DAY)
    place.review("b", YEARS + DAY), place.run("r2", YEARS + DAY)
    place.review("c", DAY), place.run("r3", DAY)


# Files of snapshots; manifest and anchor (its temporary file is removed, too); files of two reviews and two runs,
# each with its manifest.
STEPS = 2 * 8 + (1 + 2) + 2 * (3 + 1) + 2 * (3 + 1)


def kill_a_prune(place: Place, passes: int) -> None:
    on_s3 = place.location.url.startswith("s3")
    given = {
        "passes": passes,
        "base": place.location.path,
        "now": NOW.isoformat(),
        "days": YEARS.days,
        "protocol": "s3" if on_s3 else "file",
        "options": dict(place.location.fs.storage_options) if on_s3 else {},
    }
    child = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(given)], capture_output=True, text=True, timeout=60, check=False
    )
    assert child.returncode == (-signal.SIGKILL if passes < STEPS else 0), child.stderr


class DiedError(BaseException):
    """As a SIGKILL: nothing that is cleaned up by code runs on purpose."""


def check_that_nothing_is_half_and_the_next_try_ends_it(place: Place) -> None:
    assert place.half_snapshots() == []
    assert place.half_reviews() == []
    assert place.findings() == []
    place.prune()
    assert place.findings() == []
    again = place.prune()
    assert (again["files"], again["snapshots"], again["reviews"], again["manifests"]) == (0, [], [], 0)
    assert not [path for path in place.files() if "run=r1" in path or "review=a" in path]


@pytest.mark.parametrize("passes", range(STEPS))
def test_wherever_it_dies_nothing_is_half_and_the_next_try_ends_it(here, monkeypatch, passes):
    furnish(here)
    left = [passes]

    def dies(original: Any) -> Any:
        def patched(*arguments: Any, **options: Any) -> Any:
            if not left[0]:
                raise DiedError
            left[0] -= 1
            return original(*arguments, **options)

        return patched

    with monkeypatch.context() as patch:
        kind = type(here.location.fs)
        patch.setattr(kind, "rm_file", dies(kind.rm_file))
        for name in ("close_try", "anchor_at"):
            original = getattr(sys.modules["airflow_provider_aha.record.retention"], name)
            patch.setattr(f"airflow_provider_aha.record.retention.{name}", dies(original))
        with pytest.raises(DiedError):
            here.prune()
    check_that_nothing_is_half_and_the_next_try_ends_it(here)


@pytest.mark.parametrize("passes", [3, 20, 29, STEPS])
def test_killed_by_sigkill_too(here, passes):
    furnish(here)
    kill_a_prune(here, passes)
    check_that_nothing_is_half_and_the_next_try_ends_it(here)


@pytest.mark.parametrize("location", ["s3"], indirect=True)
def test_killed_on_s3_too(place):
    """moto gives every object the age of now, so only snapshots and what the chain dates can be old there."""
    place.snapshot(900), place.snapshot(1)
    place.run("r1", YEARS + DAY), place.run("r2", DAY)
    kill_a_prune(place, 8 + 2 + 2)
    check_that_nothing_is_half_and_the_next_try_ends_it(place)


# --- the operator --------------------------------------------------------------------------------


@pytest.fixture
def operate(connected, context, tmp_path):
    """Call it with arguments to prune as a task; base path and account are those of the connection."""

    def call(run_id: str = "r9", **arguments: Any) -> dict[str, Any]:
        given = {"base_path": str(tmp_path / "aha"), **arguments}
        found: dict[str, Any] = AhaPruneOperator(task_id="t", **given).execute(context(run_id))
        return found

    return call


def test_the_operator_deletes_only_when_it_is_told_to(operate, here):
    old, _ = here.snapshot(401, "127.0.0.1"), here.snapshot(1, "127.0.0.1")
    assert operate()["dry_run"] is True
    assert operate(dry_run="True")["snapshots"] == [old]
    before = here.files()
    assert operate(dry_run="False")["snapshots"] == [old]
    assert len(here.files()) == len(before) - len(DATASETS) - 4


def test_days_may_be_text_and_are_counted_from_the_day_of_the_snapshot(operate, here):
    old, _ = here.snapshot(31, "127.0.0.1"), here.snapshot(30, "127.0.0.1")
    here.snapshot(0, "127.0.0.1")
    assert operate(dry_run=False, snapshot_days="30")["snapshots"] == [old]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"base_path": ""}, "base_path"),
        ({"base_path": "aha"}, "relative"),
        ({"snapshot_days": 0}, "snapshot_days"),
        ({"snapshot_days": "many"}, "snapshot_days"),
        ({"evidence_days": 89}, "evidence_days"),
        ({"evidence_days": "7.5"}, "evidence_days"),
        ({"dry_run": "perhaps"}, "dry_run"),
    ],
)
def test_an_argument_that_cannot_be_right_deletes_nothing(operate, here, arguments, sentence):
    here.snapshot(900, "127.0.0.1"), here.snapshot(1, "127.0.0.1")
    before = here.files()
    with pytest.raises(AirflowFailException, match=sentence):
        operate(**{"dry_run": False, **arguments})
    assert here.files() == before


def test_the_operator_asks_aha_nothing(operate, here, connected):
    here.snapshot(900, "127.0.0.1"), here.snapshot(1, "127.0.0.1")
    operate(dry_run=False)
    assert connected.requests == []


def test_evidence_is_kept_for_seven_whole_years_whichever_they_are():
    for year in range(2020, 2028):
        seven = datetime(year + 7, 1, 1, tzinfo=UTC) - datetime(year, 1, 1, tzinfo=UTC)
        assert timedelta(days=EVIDENCE_DAYS) >= seven


def test_nothing_there_is_nothing_to_do(operate):
    assert operate(dry_run=False)["files"] == 0


def test_the_command_verifies_what_is_left(here, capsys):
    here.run("r1", YEARS + DAY), here.run("r2", DAY)
    here.prune()
    # Airflow 2 prints what is logged.
    capsys.readouterr()
    assert command.main([here.location.path]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(
        "acme: Manifests up to 00000001.json, and what they named, were deleted by a prune: manifests/00000003.json"
    )
    assert said[-1] == "1 account(s), 0 finding(s)."


def test_no_prune_may_take_what_the_operator_would_not(here):
    """What is younger than 90 days is missed, though manifest and anchor agree."""
    here.run("r1", 80 * DAY), here.run("r2", DAY)
    here.prune(retention=Retention(400 * DAY, 70 * DAY))
    (finding,) = here.findings()
    assert finding.startswith("manifests/anchor.json is of a prune that may not be")


def test_a_hash_that_was_kept_before_a_prune_is_still_known(here):
    here.run("r1", YEARS + 2 * DAY), here.run("r2", YEARS + DAY), here.run("r3", DAY)
    hashes = [one.sha256 for one in check(here.location, "acme").manifests]
    here.prune()
    chain = check(here.location, "acme")
    assert chain.pruned_hashes() == set(hashes[:2])
    assert chain.manifests[0].sha256 == hashes[2]


def test_an_anchor_never_moves_back(here):
    """A rule of the store's own has deleted manifests in another order than the prune that was cut off."""
    folders = [here.run(f"r{number}", YEARS + (9 - number) * DAY) for number in range(4)]
    here.run("now", DAY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("airflow_provider_aha.record.retention._Prune._delete", lambda *_: None)
        here.prune()
    Path(here.location.path, here.layout.access, "manifests/00000004.json").unlink()
    here.fs.rm(folders[3].path, recursive=True)
    (entry,) = Path(here.location.path, here.layout.access).glob("register/*/r3.json")
    entry.unlink()
    here.prune()
    assert here.findings() == []
