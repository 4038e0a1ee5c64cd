"""What someone does to the records, and what verify says. The expectations are data, written before the code."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_aha import verify as command
from airflow_provider_aha.common.moments import timestamp
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.record import chain
from airflow_provider_aha.record.chain import close_try, manifest_name
from airflow_provider_aha.record.check import Finding, accounts_of, check
from airflow_provider_aha.record.journal import Journal
from airflow_provider_aha.record.register import entered, register, sign_off
from airflow_provider_aha.record.retention import Retention, prune
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.review.records import freeze, paths_of
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import Store, sealed, sha256, to_json

PROMISES = yaml.safe_load((Path(__file__).parent / "chain.yaml").read_text())
# No release has ever written to `deactivations/`, the old name of `access/`.
NOT_YET = {"a file under the old folder's name", "a forged chain under the old folder's name"}
CASES = [{**PROMISES["defaults"], **case} for case in PROMISES["cases"] if case["name"] not in NOT_YET]
PAGE = Path(__file__).parents[2] / "docs" / "threat-model.md"

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
YEARS = timedelta(days=7 * 365 + 2)
# What a case says in words, as the command says it.
SAYS = {
    "two manifests newer than the kept one": "acme: 2 manifest(s) newer than the kept one.",
    "up to where it was deleted": "Manifests up to 00000003.json, and what they named, were deleted by a prune",
    "no records": "There are no records below",
    "there is nothing at this path": "There is nothing at",
    "delta is new since the hashes were kept": "delta: no hash of it was kept: it is new since",
}


# --- the base path -------------------------------------------------------------------------------


class Base:
    """A base path with the records of two accounts, and what somebody does to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.location = Store(LocalFileSystem(), str(path), str(path))
        self.given = str(path)

    def account(self, name: str = "acme") -> Path:
        return self.path / "access" / f"account={name}"

    @property
    def run1(self) -> Path:
        return self.account() / "dag=d" / "run=r1" / "task=t"

    @property
    def review(self) -> Path:
        return self.path / "reviews" / "account=acme" / "review=2026-Q4"

    def manifest(self, number: int, account: str = "acme") -> Path:
        return self.account(account) / "manifests" / manifest_name(number)

    def digest(self, number: int, account: str = "acme") -> str:
        return sha256(self.manifest(number, account).read_bytes())

    def read(self, number: int) -> dict[str, Any]:
        return dict(json.loads(self.manifest(number).read_text()))

    def folder(self, run_id: str, account: str = "acme", try_number: int = 1) -> RunFolder:
        return RunFolder(self.location, account, Run("d", run_id, "t", try_number, "ann"))

    def close(self, folder: RunFolder, age: timedelta, also: list[str] | None = None, **facts: Any) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chain, "timestamp", lambda: timestamp(NOW - age))
            close_try(folder, facts, also or [])

    def write(self, run_id: str, age: timedelta = timedelta(0), account: str = "acme") -> None:
        """Leave a run that has changed two users."""
        folder = self.folder(run_id, account)
        self.put(folder.run_path, "plan.json", {"users": ["1", "2"], "run": run_id})
        self.put(folder.run_path, "roster.parquet", {"rows": 2})
        folder.create("start.json", {"run": run_id})
        # The register is read by day, back from the moment of the manifest.
        entry = register(folder, NOW - DAY, ["1", "2"], "taken")
        journal = Journal(folder, 1)
        for user_id in ("1", "2"):
            event = journal.intent(f"u{user_id}.account", {})
            journal.outcome(f"u{user_id}.account", {**event, "outcome": "changed"})
        self.put(folder.path, "evidence.parquet", {"run": run_id})
        sign_off(folder, entry)
        self.close(folder, age, entered(folder, NOW, 7), action="deactivate", run_id=run_id)

    def put(self, folder: str, name: str, content: dict[str, Any]) -> None:
        self.location.create(f"{folder}/{name}", to_json(content))

    def ask(self, run_id: str, age: timedelta = timedelta(0)) -> None:
        folder = self.folder(run_id)
        self.put(folder.run_path, "plan.json", {"users": ["3", "4"], "run": run_id})
        self.put(folder.run_path, "approval_request.json", {"run": run_id})
        self.close(folder, age, action="approve", ended="asked", run_id=run_id)

    def answer(self, run_id: str, choice: str, age: timedelta = timedelta(0)) -> None:
        folder = self.folder(run_id)
        self.put(folder.run_path, "approval.json", {"choice": choice, "responded_by_id": "bob"})
        self.close(folder, age, action="approve", ended=choice, run_id=run_id)

    def make(self) -> None:
        """Leave what the file of promises describes; the first two runs are old enough to be pruned."""
        self.write("r1", YEARS + 3 * DAY)
        self.ask("r2", YEARS + 2 * DAY)
        self.answer("r2", "Approve", YEARS + DAY)
        folder = self.folder("r4")
        self.put(folder.run_path, "plan.json", {"users": ["5"], "run": "r4"})
        self.answer("r4", "Reject")
        self.close(self.folder("r5"), timedelta(0), action="plan", run_id="r5")
        facts = {"account": "acme", "review_id": "2026-Q4", "created_at": timestamp(NOW)}
        freeze(self.location, facts, {"population": ("population.parquet", b"rows")})
        self.close(self.folder("r6"), timedelta(0), self.of_review(), action="open_review")
        review = str(self.review.relative_to(self.path))
        self.location.within(review).keep("decisions.parquet", b"keep")
        self.put(review, "submission.json", {"submitted_by": "carla"})
        self.close(self.folder("r7"), timedelta(0), self.of_review(), action="submit_review")
        self.write("undo")
        for number in (1, 2, 3):
            self.write(f"b{number}", account="beta")

    def of_review(self) -> list[str]:
        return paths_of(self.location, "acme", "2026-Q4")

    # --- what somebody does

    def forge(self, name: str, after: int, **facts: Any) -> Path:
        """Write a manifest that comes after another one, with right hashes."""
        content = {
            "account": "acme",
            "action": "deactivate",
            "finished_at": timestamp(NOW),
            "folder": "dag=d/run=forged/task=t",
            "previous": manifest_name(after),
            "previous_sha256": self.digest(after),
            "previous_finished_at": self.read(after)["finished_at"],
            "files": {},
            **facts,
        }
        path = self.account() / "manifests" / name
        path.write_bytes(sealed(content))
        return path

    def change(self, number: int, **facts: Any) -> None:
        """Make a manifest anew, with the right hash of itself."""
        content = {**self.read(number), **facts}
        del content["content_sha256"]
        self.manifest(number).write_bytes(sealed(content))

    def remove(self, *numbers: int) -> None:
        """Remove manifests, and the files that no other one names."""
        files = {name for number in numbers for name in self.read(number)["files"]}
        for number in numbers:
            self.manifest(number).unlink()
        for path in sorted((self.account() / "manifests").glob("0*.json")):
            files -= json.loads(path.read_text())["files"].keys()
        for name in files:
            self.path_of(name).unlink()

    def path_of(self, name: str) -> Path:
        if name.startswith("reviews/"):
            return self.path / "reviews" / "account=acme" / name.removeprefix("reviews/")
        return self.account() / name

    def anchor(self, number: int, digest: str) -> None:
        content = {"name": manifest_name(number), "sha256": digest}
        (self.account() / "manifests" / "anchor.json").write_bytes(to_json(content))

    def prune(self) -> None:
        run = Run("prune", "p1", "prune", 1, "schedule")
        prune(self.location, "acme", run, Retention(400 * DAY, YEARS), dry_run=False, now=NOW)

    def tree(self) -> dict[str, bytes | str]:
        """What lies below the base path; links and pipes by what they are."""
        found: dict[str, bytes | str] = {}
        for folder, folders, names in os.walk(self.path):
            for name in (*names, *(one for one in folders if (Path(folder) / one).is_symlink())):
                path = Path(folder) / name
                regular = path.is_file() and not path.is_symlink() and path.stat().st_size < 10**9
                found[str(path.relative_to(self.path))] = path.read_bytes() if regular else "no file"
        return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base path as it was left. Not to be written to."""
    base = Base(tmp_path_factory.mktemp("made") / "aha")
    base.make()
    return base.path


@pytest.fixture
def base(made: Path, tmp_path: Path) -> Base:
    """A copy of it for one case."""
    shutil.copytree(made, tmp_path / "aha")
    return Base(tmp_path / "aha")


# --- what is done --------------------------------------------------------------------------------

# What is done, by the case's name; it may say which file a word of `names` means.
DONE: dict[str, Callable[[Base], dict[str, str] | None]] = {}


def does(*names: str) -> Callable[[Any], Any]:
    def keep(function: Callable[[Base], dict[str, str] | None]) -> Callable[[Base], dict[str, str] | None]:
        DONE.update(dict.fromkeys(names, function))
        return function

    return keep


@does(
    "nothing was done",
    "nothing was done, with the kept hashes",
    "a kept hash that is none",
    "a kept hash of another account",
    "a write past the package",
    "a record that was false when it was written",
)
def nothing(base: Base) -> None:
    pass


@does("runs were added since the hash was kept")
def two_runs(base: Base) -> None:
    base.write("r9")
    base.write("r10")


@does("an open question")
def open_question(base: Base) -> None:
    base.ask("r9")


@does("a run under way")
def under_way(base: Base) -> None:
    Journal(base.folder("r9"), 1).intent("u1.account", {})


@does("copied to another place")
def copied(base: Base) -> None:
    shutil.move(base.path, base.path.with_name("elsewhere"))
    base.__init__(base.path.with_name("elsewhere"))  # type: ignore[misc]


@does("a regular prune", "a regular prune, and a hash that was kept before it")
def regular_prune(base: Base) -> None:
    base.prune()
    assert not base.manifest(3).exists()
    assert base.manifest(4).exists()


@does("an empty base path", "an empty base path, with kept hashes")
def emptied(base: Base) -> None:
    shutil.rmtree(base.path)
    base.path.mkdir()


@does("a path that isn't there")
def mistyped(base: Base) -> None:
    base.given = f"{base.path}x"


# --- files that the chain vouches for


@does("evidence was replaced")
def evidence_replaced(base: Base) -> None:
    shutil.copy(base.account() / "dag=d/run=undo/task=t/evidence.parquet", base.run1 / "evidence.parquet")


@does("a byte of the evidence was changed")
def evidence_changed(base: Base) -> None:
    body = bytearray((base.run1 / "evidence.parquet").read_bytes())
    body[3] ^= 1
    (base.run1 / "evidence.parquet").write_bytes(body)


@does("evidence was removed")
def evidence_removed(base: Base) -> None:
    (base.run1 / "evidence.parquet").unlink()


@does("an event was changed")
def event_changed(base: Base) -> dict[str, str]:
    (path,) = base.run1.glob("events/u1.account/*-outcome-*")
    path.write_text(path.read_text().replace("changed", "unchanged"))
    return {"the event": path.name}


@does("an event was removed")
def event_removed(base: Base) -> dict[str, str]:
    (path,) = base.run1.glob("events/u1.account/*-intent-*")
    path.unlink()
    return {"the event": path.name}


@does("an event was added", "a paused machine that writes later")
def event_added(base: Base) -> dict[str, str]:
    Journal(base.folder("r1"), 1).outcome("u7.account", {"outcome": "changed"})
    (path,) = base.run1.glob("events/u7.account/*")
    return {"the event": path.name}


@does("a plan was changed")
def plan_changed(base: Base) -> None:
    (base.account() / "dag=d/run=r2/plan.json").write_bytes(to_json({"users": ["3"], "run": "r2"}))


@does("an approval was changed")
def approval_changed(base: Base) -> None:
    path = base.account() / "dag=d/run=r2/approval.json"
    path.write_text(path.read_text().replace("bob", "dora"))


@does("an approval was added")
def approval_added(base: Base) -> None:
    path = base.account() / "dag=d/run=r4/approval.json"
    path.write_text(path.read_text().replace("Reject", "Approve"))


@does("an input was changed")
def input_changed(base: Base) -> dict[str, str]:
    (base.account() / "dag=d/run=r1/roster.parquet").write_bytes(b"{}")
    return {"the copy": "roster.parquet"}


@does("the register was changed")
def register_changed(base: Base) -> None:
    next(path for path in base.account().glob("register/*/*.json") if not path.name.endswith("-end.json")).unlink()


@does("all of the register was removed")
def register_removed(base: Base) -> None:
    shutil.rmtree(base.account() / "register")


@does("a decision of a review was changed")
def decision_changed(base: Base) -> dict[str, str]:
    (base.review / "decisions.parquet").write_bytes(b"revoke")
    return {"the decision": "decisions.parquet"}


@does("a file was added to a review")
def submission_added(base: Base) -> dict[str, str]:
    shutil.copy(base.review / "submission.json", base.review / "submission-2.json")
    return {"the file": "submission-2.json"}


@does("a whole review was removed")
def review_removed(base: Base) -> dict[str, str]:
    shutil.rmtree(base.review)
    return {"the review": "review=2026-Q4"}


@does("a whole review was removed, its manifests too")
def review_and_manifests_removed(base: Base) -> None:
    shutil.rmtree(base.review)
    base.manifest(6).unlink()
    base.manifest(7).unlink()


# --- manifests


@does("a manifest was changed")
def manifest_changed(base: Base) -> None:
    base.change(2, users=7)


@does("a manifest was removed from the middle")
def manifest_removed(base: Base) -> None:
    base.manifest(3).unlink()


def bring_in(base: Base) -> dict[str, str]:
    """Forge an approval, and replace evidence; return what vouches for both."""
    approval = base.account() / "dag=d/run=r1/approval.json"
    approval.write_bytes(to_json({"choice": "Approve"}))
    (base.run1 / "evidence.parquet").write_bytes(b"another")
    names = {"dag=d/run=r1/approval.json": approval, "dag=d/run=r1/task=t/evidence.parquet": None}
    return {name: sha256(path.read_bytes() if path else b"another") for name, path in names.items()}


@does("a forged manifest beside a good one")
def sibling(base: Base) -> None:
    base.forge("00000002-aaaaaaaa.json", 1, files=bring_in(base), folder="dag=d/run=r1/task=t")


@does("a forged manifest beside the newest", "a forged manifest beside the newest, with the kept hash")
def newest_sibling(base: Base) -> dict[str, str]:
    name = base.forge("00000008-bbbbbbbb.json", 7, files=bring_in(base)).name
    return {"the second 8": name, "the forged 8": name}


@does("a forged manifest beside the first")
def first_sibling(base: Base) -> dict[str, str]:
    path = base.forge("00000001-cccccccc.json", 1, previous=None, previous_sha256=None)
    return {"the second 1": path.name}


@does("the good manifest was replaced by its forged sibling")
def replaced(base: Base) -> None:
    base.forge("00000002.json", 1, files=base.read(2)["files"])


@does("a manifest with a number that leaves a gap")
def gap(base: Base) -> None:
    base.forge("00000012.json", 8)


@does("a manifest with a name of another form")
def other_names(base: Base) -> None:
    for name in ("8.json", "0000008x.json", "00000008.JSON"):
        base.forge(name, 7)


@does("a copy of a manifest under another name")
def copy_of_manifest(base: Base) -> None:
    shutil.copy(base.manifest(2), base.manifest(2).with_name("00000002 (1).json"))


@does("a manifest that is no JSON")
def half_manifest(base: Base) -> None:
    body = base.manifest(2).read_bytes()
    base.manifest(2).write_bytes(body[: len(body) // 2])


@does("a manifest with a key twice")
def key_twice(base: Base) -> None:
    text = base.manifest(8).read_text().replace('"previous":', '"previous": "00000001.json", "previous":')
    base.manifest(8).write_text(text)


@does("a manifest of gigabytes")
def gigabytes(base: Base) -> None:
    with base.manifest(9).open("wb") as file:
        file.truncate(3 * 10**9)


@does("a manifest that leads out of the account")
def leads_out(base: Base) -> None:
    base.forge("00000009.json", 8, files={"../../beta/evidence.parquet": "00"})


@does("a manifest of another account")
def of_another(base: Base) -> None:
    shutil.copy(base.manifest(2, "beta"), base.manifest(9))


@does("the manifests' folder was removed")
def manifests_removed(base: Base) -> None:
    shutil.rmtree(base.account() / "manifests")


# --- prune


def take_two_runs(base: Base, last: int = 3) -> dict[str, Any]:
    digest = base.digest(last)
    hashes = [base.digest(number) for number in range(1, last + 1)]
    base.remove(*range(1, last + 1))
    base.anchor(last, digest)
    return {
        "name": manifest_name(last),
        "sha256": digest,
        "older_than": timestamp(NOW - YEARS),
        "manifest_hashes": hashes,
    }


@does("a forged prune")
def forged_prune(base: Base) -> None:
    take_two_runs(base)


@does("a forged prune with a forged manifest")
def forged_prune_with_sibling(base: Base) -> dict[str, str]:
    said = take_two_runs(base)
    return {"the sibling": base.forge("00000008-dddddddd.json", 7, action="prune", pruned=said).name}


@does("a forged prune at the end of the chain", "a forged prune at the end, with the kept hash")
def forged_prune_at_the_end(base: Base) -> None:
    said = take_two_runs(base)
    base.forge("00000009.json", 8, action="prune", pruned=said)


@does("an anchor that was changed")
def anchor_changed(base: Base) -> None:
    base.prune()
    digest = base.digest(4)
    base.remove(4)
    base.anchor(4, digest)


@does("an anchor that was removed")
def anchor_removed(base: Base) -> None:
    base.prune()
    (base.account() / "manifests" / "anchor.json").unlink()


@does("more was removed than the prune says")
def more_removed(base: Base) -> None:
    base.prune()
    base.remove(4)


@does("a prune beyond what it may")
def prune_of_yesterday(base: Base) -> None:
    said = take_two_runs(base, 5) | {"older_than": timestamp(NOW - DAY)}
    base.forge("00000009.json", 8, action="prune", pruned=said)


# --- what lies around


@does("a stray file in a run")
def stray(base: Base) -> None:
    (base.run1 / "notes.txt").write_bytes(b"")


@does("a stray file of a dead upload")
def upload(base: Base) -> None:
    (base.run1 / "evidence.parquet.x.tmp").write_bytes(b"")


@does("a hidden file")
def hidden(base: Base) -> None:
    (base.run1 / ".hidden").write_bytes(b"")


@does("a desktop's file")
def desktop(base: Base) -> None:
    (base.run1 / ".DS_Store").write_bytes(b""), (base.run1 / "Thumbs.db").write_bytes(b"")


@does("an empty folder")
def empty_folder(base: Base) -> None:
    (base.account() / "dag=d" / "run=x").mkdir()


@does("a folder of a run without a manifest")
def copied_run(base: Base) -> None:
    shutil.copytree(base.run1.parent, base.run1.parent.with_name("run=forged"))


@does("a file at the top")
def at_the_top(base: Base) -> None:
    (base.path / "access" / "evidence.parquet").write_bytes(b"")


@does("a folder beside the accounts")
def copied_account(base: Base) -> None:
    shutil.copytree(base.account(), base.account("acme (copy)"))


@does("a name in another case")
def other_case(base: Base) -> None:
    shutil.copytree(base.run1.parent, base.account("ACME") / "dag=d" / "run=r1")


@does("a name with a zero-width character")
def zero_width(base: Base) -> dict[str, str]:
    shutil.copytree(base.run1.parent, base.run1.parent.with_name("run=r1\u200b"))
    return {"the run": "run=r1\N{REPLACEMENT CHARACTER}"}


def link(base: Base, path: Path) -> None:
    """Move something away, out of the base path, and put a link in its place."""
    elsewhere = base.path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@does("a run folder that is a link")
def linked_run(base: Base) -> dict[str, str]:
    link(base, base.run1.parent)
    return {"run 1": "dag=d/run=r1 is a link"}


@does("an evidence file that is a link")
def linked_evidence(base: Base) -> None:
    link(base, base.run1 / "evidence.parquet")


@does("a hard link")
def hard_link(base: Base) -> None:
    base.path.with_name("second").hardlink_to(base.run1 / "evidence.parquet")


@does("an account folder that is a link")
def linked_account(base: Base) -> None:
    link(base, base.account())


@does("the base path itself is a link")
def linked_base(base: Base) -> None:
    link(base, base.path)


@does("a link to nothing")
def dangling(base: Base) -> dict[str, str]:
    (base.run1 / "nothing").symlink_to("/nowhere")
    return {"the link": "nothing"}


@does("a link to itself")
def loop(base: Base) -> None:
    (base.account() / "dag=d" / "run=loop").symlink_to(base.account() / "dag=d")


@does("a pipe")
def pipe(base: Base) -> dict[str, str]:
    os.mkfifo(base.run1 / "pipe")
    return {"the pipe": "pipe"}


@does("a folder where a file belongs")
def folder_for_file(base: Base) -> None:
    (base.run1 / "evidence.parquet").unlink()
    (base.run1 / "evidence.parquet").mkdir()


@does("a file that can't be opened")
def unreadable(base: Base) -> dict[str, str]:
    # Root, as which tests may run, is refused nothing; see the fixture `refusing`.
    (base.run1 / "evidence.parquet").chmod(0)
    return {"the file": "dag=d/run=r1/task=t/evidence.parquet"}


@does("snapshots and reports")
def snapshot(base: Base) -> None:
    path = base.path / Layout("acme").dataset("users", "2026-11-28")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"changed")


# --- accounts


@does("a whole account was removed", "a whole account was removed, nothing was kept")
def account_removed(base: Base) -> None:
    shutil.rmtree(base.account("beta"))


@does("an account was renamed")
def account_renamed(base: Base) -> None:
    base.account("beta").rename(base.account("gamma"))


@does("an account was added")
def account_added(base: Base) -> None:
    base.write("d1", account="delta")


# --- the end of the chain


@does("the newest run was removed", "the newest run was removed, nothing was kept")
def newest_removed(base: Base) -> None:
    base.remove(8)


@does("only the newest manifest was removed")
def newest_manifest_removed(base: Base) -> dict[str, str]:
    base.manifest(8).unlink()
    return {"the run of 8": "dag=d/run=undo"}


@does("the newest run was rewritten with right hashes", "the newest run was rewritten, nothing was kept")
def newest_rewritten(base: Base) -> None:
    name = "dag=d/run=undo/task=t/evidence.parquet"
    base.path_of(name).write_bytes(b"another")
    base.change(8, files={**base.read(8)["files"], name: sha256(b"another")})


@does("the whole chain was rewritten with right hashes", "the whole chain was rewritten, nothing was kept")
def all_rewritten(base: Base) -> None:
    base.change(2, users=7)
    for number in range(3, 9):
        base.change(number, previous_sha256=base.digest(number - 1))


@does("an old tree was restored", "an old tree was restored, nothing was kept")
def restored(base: Base) -> None:
    base.remove(6, 7, 8)


@does("an old tree was restored, and runs were added")
def restored_and_gone_on(base: Base) -> None:
    base.remove(6, 7, 8)
    base.write("r9")
    base.write("r10")


# --- what verify says ----------------------------------------------------------------------------


def kept_of(made: Path, kept: Any) -> list[str]:
    heads = {name: Base(made).digest(number, name) for name, number in (("acme", 8), ("beta", 3))}
    if kept is True:
        found = heads
    elif kept == "swapped":
        found = {"acme": heads["beta"], "beta": heads["acme"]}
    elif kept == "older":
        found = {"acme": Base(made).digest(2)}
    else:
        return [f"--expect={kept}"] if kept else []
    return [f"--expect={name}={digest}" for name, digest in found.items()]


def found_in(base: Base, said: str) -> Iterator[Finding]:
    """Yield the findings with their kinds; what kept hashes show has its sentences only."""
    accounts, findings = accounts_of(base.location)
    yield from findings
    for account in accounts:
        yield from check(base.location, account).findings
    for line in said.splitlines():
        if line.startswith("The kept hash"):
            yield Finding("head", "", line)
        elif "the account was removed" in line:
            yield Finding("account", "", line)


def allowed(before: dict[str, bytes | str], after: dict[str, bytes | str]) -> list[str]:
    """Return the paths that findings may name: what was touched, and what manifests name that were touched."""
    touched = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    found = list(touched)
    for name in touched:
        body = before.get(name)
        if "/manifests/" in name and isinstance(body, bytes) and name.endswith(".json"):
            found += json.loads(body)["files"]
    return [path.replace("reviews/account=acme/", "reviews/") for path in found]


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files without rights be refused, for root, too."""
    read = LocalFileSystem.cat_file

    def refuse(self: Any, path: str, *arguments: Any, **options: Any) -> bytes:
        if not Path(path).stat().st_mode & 0o777:
            raise PermissionError(13, "Permission denied", path)
        body: bytes = read(self, path, *arguments, **options)
        return body

    monkeypatch.setattr(LocalFileSystem, "cat_file", refuse)


@pytest.mark.usefixtures("refusing")
@pytest.mark.parametrize(
    "case", [one for one in CASES if one.get("expect") != "refused"], ids=lambda one: one["name"]
)
def test_what_was_done_to_the_records_is_what_verify_says(case, base, made, capsys):
    before = base.tree()
    words = DONE[case["name"]](base) or {}
    after = base.tree()
    code = command.main([base.given, *kept_of(made, case["kept"])])
    captured = capsys.readouterr()
    said = captured.out + captured.err
    found = list(found_in(base, said)) if Path(base.given).exists() else []
    kinds = {finding.kind for finding in found}
    wanted = case.get("either") or [case["expect"]]
    assert any(set(kind) <= kinds if kind else not kinds for kind in wanted), (case["why"], list(map(str, found)))
    assert code == case.get("exit", 1 if found else 0), said
    for name in case.get("names", []):
        name = words.get(name, manifest_name(int(name)) if name.isdecimal() and len(name) < 3 else name)
        assert name in said, said
    if "says" in case:
        assert SAYS.get(case["says"], case["says"]) in said, said
    for account, number in (("acme", 8), ("beta", 3)) if "prints" in case else ():
        assert Base(made).digest(number, account) in said
    may = allowed(before, after)
    for finding in found:
        if finding.name and not finding.name.startswith("manifests/"):
            named = [*may, *words.values()]
            assert any(finding.name in path or path.endswith(finding.name) for path in named), finding


@pytest.mark.parametrize(
    "case", [one for one in CASES if one.get("expect") == "refused"], ids=lambda one: one["name"]
)
def test_what_is_refused_leaves_no_record(case):
    class Ignoring(MemoryFileSystem):
        protocol = "s3"

        def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: object) -> None:
            super().pipe_file(path, value)

    fs = Ignoring(skip_instance_cache=True)
    fs.store, fs.pseudo_dirs = {}, [""]
    folder = RunFolder(Store(fs, "/aha", "s3://aha"), "acme", Run("d", "r1", "t", 1, "ann"))
    with pytest.raises(AhaConfigurationError, match="both won there"):
        close_try(folder, {})
    assert not [path for path in fs.find("/aha") if "account=" in path], case["why"]


def test_every_case_is_done():
    assert DONE.keys() == {case["name"] for case in CASES if case.get("expect") != "refused"}
    assert {case["name"] for case in PROMISES["cases"]} >= NOT_YET


@pytest.mark.parametrize("case", [one for one in CASES if "cannot" in one], ids=lambda one: one["name"])
def test_the_page_says_what_no_chain_can_show(case):
    section = PAGE.read_text(encoding="utf-8").partition("## What no chain can show")[2].partition("\n## ")[0]
    assert re.search(re.escape(case["cannot"]), section), case["helps"]
