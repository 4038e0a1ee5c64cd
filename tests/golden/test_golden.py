"""Golden files: what one run on a sandbox leaves behind, and what the package offers, compared as text.

``tests/golden/files`` says how all of it is to look: the paths below the base path, datasets, plan, evidence,
manifests, summaries, the figures of the access review page, the outcomes of a push, the public names and the
files of the wheel. A column or key that is renamed, gone or new shows as a difference. Where that is meant,

    GOLDEN=write python -m pytest tests/golden

writes the files anew; look at the difference before it is committed.

The run has a clock of its own, a seed of its own, one request at a time, and numbers in place of random ids. What
can't be fixed is replaced:

- ``<base>``: the temporary folder below which everything lies;
- ``<port>``: the port of the sandbox;
- ``<version>``: the version of this package;
- ``<moment>``: until when a request could land, which depends on how fast the machine is;
- ``<bytes>``: the size of a Parquet file, which depends on the version of pyarrow;
- ``<sha256 of PATH>``: the hash of a file of the run, which depends on the same; ``<sha256 of itself>`` where a
  record holds its own, ``<sha256>`` beside the file's name and inside one. Other hashes stay as they are;
- ``<target>``: the folder of the push, which is named after the temporary folder.
"""

import ast
import csv
import difflib
import hashlib
import json
import os
import re
import sys
import threading
import time
import tomllib
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import pyarrow.parquet as pq
import pytest
import time_machine

from airflow_provider_aha.operators.carry_out import AhaCarryOutPlanOperator
from airflow_provider_aha.operators.confirm import AhaConfirmDeactivationsOperator
from airflow_provider_aha.operators.deactivations import AhaReactivateUsersOperator
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator
from airflow_provider_aha.operators.plan import AhaPlanAccessOperator
from airflow_provider_aha.operators.report import AhaAccessReportOperator
from airflow_provider_aha.sandbox.testing import Account, SandboxServer
from airflow_provider_aha.transfers.to_file import AhaToFileOperator
from tests.access.test_deactivate_operators import vouch

REPOSITORY = Path(__file__).parents[2]
FILES = Path(__file__).parent / "files"
WRITE = os.environ.get("GOLDEN") == "write"
PACKAGE = "airflow_provider_aha"

BEGIN = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
USERS = 40
DATASETS = ("users", "user_roles", "user_role_summary", "user_changes")
# What users are to be, by their place among those who have a seat, no rights and an address that the roster covers.
LEFT, ABSENT, NAMED, RENAMED, DISABLED, REMOVED = (1, 4), 5, (6, 7), 8, 9, 10
# Written by this test, or in the same way on all versions: their hashes stay.
SAME_EVERYWHERE = ("roster.csv", "input-roster.csv", "127.0.0.1.jsonl")
# The folder of a push is named after the path of its target.
TARGET = re.compile(r"\bfile-[\w-]+-exports-127-0-0-1-jsonl-[0-9a-f]{8}\b")
PEOPLE = {
    "version": 1,
    "name": "golden_people",
    "dataset": "users",
    "launched": True,
    "sync_key": ["email"],
    "fields": {
        "email": {"source": "email", "transforms": ["strip", "lower"], "required": True, "unique": True},
        "name": "name",
        "enabled": "is_enabled",
        "created": "created_at",
    },
}


# --- the run -------------------------------------------------------------------------------------


class Days:
    """An administrator's three days with an account.

    :param folder: where everything is kept.
    :param server: the sandbox.
    :param clock: the time, to be moved on.
    """

    def __init__(self, folder: Path, server: SandboxServer, clock: Any) -> None:
        self.folder = folder
        self.base = folder / "aha"
        self.account = server.account
        self.returned: dict[str, Any] = {}
        self._clock = clock
        users = [user for user in self.account.users() if user["enabled"]]
        seated = [user for user in users if user["paid_seat"] and not user["administrator"]]
        self.people = [user for user in seated if user["email"].endswith("@example.com")]

    def run(self, operator: Callable[..., Any], run_id: str, task_id: str, **arguments: Any) -> Any:
        """Run one task, five minutes after the one before."""
        self._clock.shift(timedelta(minutes=5))
        instance = SimpleNamespace(dag_id="golden", run_id=run_id, task_id=task_id, map_index=-1, try_number=1)
        instance.xcom_push = lambda **_: None
        dag_run = SimpleNamespace(run_type="manual", triggering_user_name="ann")
        task = operator(task_id=task_id, base_path=str(self.base), **arguments)
        result = task.execute({"ti": instance, "dag_run": dag_run, "outlet_events": {}})
        self.returned[f"{run_id} {task_id}"] = result
        return result

    def live(self) -> None:
        """Extract on three days; plan, take access and give it back on the second; review and push on the third."""
        self.run(AhaExtractUsersOperator, "day1", "extract", datasets=DATASETS)
        self._clock.shift(timedelta(days=1))
        self.change_the_account()
        self.run(AhaExtractUsersOperator, "day2", "extract", datasets=DATASETS)
        plan = self.plan()
        self.approve(plan)
        guards = {"max_percent": 90, "ticket": "SEC-1"}
        self.run(AhaCarryOutPlanOperator, "day2", "rehearse", plan=plan["plan_path"], dry_run=True, **guards)
        arguments = {"plan": plan["plan_path"], "dry_run": False, **guards}
        done = self.run(AhaCarryOutPlanOperator, "day2", "deactivate", **arguments)
        undo = {"users": [sorted(done["users"])[0]], "dry_run": False, "allow_privileged": True}
        self.run(AhaReactivateUsersOperator, "undo", "reactivate", **undo)
        self._clock.shift(timedelta(days=1))
        self.run(AhaExtractUsersOperator, "day3", "extract", datasets=DATASETS)
        self.run(AhaConfirmDeactivationsOperator, "day3", "confirm")
        prices = {"seat_price": "900 EUR", "seats_purchased": 40, "renewal_date": "2026-12-31"}
        self.run(AhaAccessReportOperator, "day3", "report", review_id="2026-Q1", roster=self.roster(), **prices)
        path = str(self.folder / "exports" / "{account}.jsonl")
        self.run(AhaToFileOperator, "day3", "push", mapping=PEOPLE, path=path)

    def change_the_account(self) -> None:
        """Let a few things happen for ``user_changes``."""
        self.account.edit_user(self.people[RENAMED]["id"], name="Another Name")
        self.account.edit_user(self.people[DISABLED]["id"], enabled=False)
        self.account.remove_user(self.people[REMOVED]["id"])
        self.account.add_user(name="New Here", email="new.here@example.com")

    def plan(self) -> dict[str, Any]:
        """Plan by one rule of each class."""
        rules = [
            {"class": "left"},
            {"class": "named", "ids": [self.people[at]["id"] for at in NAMED]},
            {"class": "unused", "inactive_days": 60, "grace_days": 0},
        ]
        found: dict[str, Any] = self.run(AhaPlanAccessOperator, "day2", "plan", rules=rules, roster=self.roster())
        return found

    def roster(self) -> dict[str, Any]:
        """Write down who works here: two have left, and one was never in it."""
        mails = {user["email"]: None for user in self.account.users() if user["email"].endswith("@example.com")}
        left = {self.people[at]["email"]: day for at, day in zip(LEFT, ("2026-02-10", "2026-03-01"), strict=True)}
        mails.pop(self.people[ABSENT]["email"])
        path = self.folder / "roster.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["number", "mail", "end"])
            writer.writerows([number, mail, left.get(mail, "")] for number, mail in enumerate(mails, 1))
        moment = datetime.now(UTC).timestamp()
        os.utime(path, (moment, moment))
        columns = {"key": "number", "emails": ["mail"], "end_date": "end", "domains": ["example.com"]}
        return {"path": str(path), "min_rows": 1, **columns}

    def approve(self, plan: dict[str, Any]) -> None:
        """Leave the answer as the approval operator does, which Airflow before 3.1 doesn't have."""
        record = {
            "choice": "Approve",
            "plan_sha256": plan["plan_sha256"],
            "responded_at": datetime.now(UTC).isoformat(),
            "responded_by_id": "7",
            "responded_by_name": "bob",
            "approvers": [],
            "strike_out": [],
            "dag_id": "golden",
            "run_id": "day2",
        }
        (Path(plan["plan_path"]).parent / "approval.json").write_text(json.dumps(record))
        vouch(Path(plan["plan_path"]), record)


@contextmanager
def _waiting_goes_on() -> Iterator[None]:
    """Let the clock that waits are measured with go on; versions of time-machine before 3 stop it, too."""
    with pytest.MonkeyPatch.context() as patch:
        going = getattr(time_machine.escape_hatch.time, "monotonic", None)
        if going is not None:
            patch.setattr(time, "monotonic", going)
            patch.setattr(threading, "_time", going)
        yield


def numbered() -> Callable[[], uuid.UUID]:
    """Return what hands out ids by who asks and how often, to this package only."""
    asked: Counter[str] = Counter()
    random = uuid.uuid4

    def make() -> uuid.UUID:
        caller = sys._getframe(1)
        if not caller.f_globals["__name__"].startswith(PACKAGE):
            return random()
        asked[caller.f_code.co_name] += 1
        return uuid.UUID(int=(crc32(caller.f_code.co_name.encode()) << 96) + asked[caller.f_code.co_name])

    return make


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Days, int]]:
    """The three days once they are over, and the sandbox's port."""
    folder = tmp_path_factory.mktemp("golden")
    with (
        pytest.MonkeyPatch.context() as patch,
        time_machine.travel(BEGIN, tick=False) as clock,
        _waiting_goes_on(),
        SandboxServer(account=Account.generate(USERS, seed=1, as_of=BEGIN)) as server,
    ):
        # One request at a time: the numbers that the sandbox gives them are evidence.
        extra = {
            "requests_per_second": 10_000,
            "requests_per_minute": 1_000_000,
            "max_retries": 0,
            "max_in_flight": 1,
        }
        fields = {"conn_type": "aha", "host": "127.0.0.1", "port": server.port, "schema": "http"}
        patch.setenv("AIRFLOW_CONN_AHA_DEFAULT", json.dumps({**fields, "password": server.key, "extra": extra}))
        patch.setattr(uuid, "uuid4", numbered())
        lived = Days(folder, server, clock)
        lived.live()
        yield lived, server.port


# --- as text -------------------------------------------------------------------------------------


class Golden:
    """Makes the golden files of a run.

    :param days: the run.
    :param port: the sandbox's port.
    """

    def __init__(self, days: Days, port: int) -> None:
        self._base, self._folder, self._port = days.base, days.folder, port
        self._returned = days.returned
        paths = sorted(path for path in days.folder.rglob("*") if path.is_file())
        digests = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in reversed(paths)}
        plan = next(digest for digest, path in digests.items() if path.name == "plan.json")
        self._hashes_in_names = re.compile(rf"\b{plan}\b|\b{plan[:16]}\b")
        self._digests = {
            digest: self._short(path) for digest, path in digests.items() if path.name not in SAME_EVERYWHERE
        }

    def _short(self, path: Path) -> str:
        relative = path.relative_to(self._folder).as_posix().removeprefix("aha/")
        return TARGET.sub("<target>", self._hashes_in_names.sub("<sha256>", relative))

    def text(self, text: str) -> str:
        """Replace what can't be fixed."""
        text = text.replace(str(self._folder), "<base>").replace(f"127.0.0.1:{self._port}", "127.0.0.1:<port>")
        text = re.sub(r'("content_sha256": ")[0-9a-f]{64}"', r'\g<1><sha256 of itself>"', text)
        text = re.sub(rf"(?<=[/-]){self._hashes_in_names.pattern}(?=\.json)", "<sha256>", text)
        text = TARGET.sub("<target>", text)
        return re.sub(r"\b[0-9a-f]{64}\b", lambda match: self._named(match[0]), text)

    def _named(self, digest: str) -> str:
        return f"<sha256 of {self._digests[digest]}>" if digest in self._digests else digest

    def json(self, content: Any) -> str:
        """Return JSON with sorted keys, one value a line."""
        found = _shortened(json.loads(self.text(json.dumps(_fixed(content)))))
        return json.dumps(found, indent=1, sort_keys=True) + "\n"

    def parquet(self, path: Path) -> str:
        """Return columns with their types, then one row a line: a column that is renamed is one line."""
        table = pq.read_table(path, partitioning=None)
        columns = [f"{field.name}: {field.type}{'' if field.nullable else ' not null'}" for field in table.schema]
        found = [_without_version(row) for row in table.to_pylist()]
        rows = [self.text(json.dumps(list(row.values()), default=str)) for row in found]
        return "\n".join([*columns, "", *rows]) + "\n"

    def files(self) -> Iterator[tuple[str, str]]:
        """Yield all golden files by name."""
        yield "returned.json", self.json(self._returned)
        paths = [path for path in self._folder.rglob("*") if path.is_file()]
        yield "paths.txt", "".join(sorted(f"{self._short(path)}\n" for path in paths))
        one, every = self._one, self._every
        for name in DATASETS:
            yield f"dataset-{name}.txt", self.parquet(one(f"{name}/*/snapshot=2026-03-03/*.parquet"))
        for path in every("manifests/*/*/manifest.json"):
            yield f"manifest-{path.parent.name}.json", self.json(json.loads(path.read_text()))
        run = "access/*/dag=golden/run=day2"
        yield "plan.json", self.json(json.loads(one(f"{run}/plan.json").read_text()))
        yield "plan.txt", self.parquet(one(f"{run}/plan.parquet"))
        yield "plan.md", self.text(one(f"{run}/plan.md").read_text())
        for path in every("access/*/dag=golden/run=*/task=*/evidence.parquet"):
            yield f"evidence-{path.parent.name.partition('=')[2]}.txt", self.parquet(path)
        for kind in ("intent", "outcome"):
            path = every(f"{run}/task=deactivate/events/*/1-{kind}-*.json")[0]
            yield f"event-{kind}.json", self.json(json.loads(path.read_text()))
        for path in every("access/*/manifests/*.json"):
            yield f"chain-{path.name}", self.json(json.loads(path.read_text()))
        review = "reviews/*/review=2026-Q1"
        for path in every(f"{review}/review*.json"):
            yield path.name, self.json(json.loads(path.read_text()))
        yield "access_summary.json", self.json(json.loads(one(f"{review}/access_summary.json").read_text()))
        yield "access_review.csv", self.text(one(f"{review}/access_review.csv").read_text("utf-8-sig"))
        yield "access_review_page.json", self.json(_data_of(one(f"{review}/access_review.html")))
        yield "population.txt", self.parquet(one(f"{review}/population.parquet"))
        push = "push/*/*/run=day3/task=*"
        yield "push.json", self.json(json.loads(one(f"{push}/push.json").read_text()))
        yield "push-outcomes.txt", self.parquet(one(f"{push}/outcomes.parquet"))
        yield "push.jsonl", self.text((self._folder / "exports" / "127.0.0.1.jsonl").read_text())

    def _every(self, pattern: str) -> list[Path]:
        found = sorted(self._base.glob(pattern))
        assert found, f"the run left no {pattern}"
        return found

    def _one(self, pattern: str) -> Path:
        (found,) = self._every(pattern)
        return found


def _fixed(content: Any) -> Any:
    if isinstance(content, list):
        return [_fixed(one) for one in content]
    if isinstance(content, dict):
        sized = "bytes" in content and "sha256" in content
        found = {k: "<bytes>" if sized and k == "bytes" else _fixed(v) for k, v in content.items()}
        return _without_version(found)
    return content


def _without_version(content: dict[str, Any]) -> dict[str, Any]:
    fixed = {"provider_version": "<version>", "lands_by": "<moment>"}
    return {k: fixed.get(k, v) if v else v for k, v in content.items()}


def _shortened(content: Any) -> Any:
    """Say of a file's hash beside the file's name only that it is one."""
    if isinstance(content, list):
        return [_shortened(one) for one in content]
    if isinstance(content, dict):
        own = {k for k, v in content.items() if re.fullmatch(rf"<sha256 of (.+/)?{re.escape(k)}>", str(v))}
        return {k: "<sha256>" if k in own else _shortened(v) for k, v in content.items()}
    return content


def _data_of(page: Path) -> Any:
    """Read what the page's script reads."""
    script = r'<script type="application/json" id="data">(.*?)</script>'
    found = re.search(script, page.read_text("utf-8"), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


# --- what the package offers ---------------------------------------------------------------------


# Users' DAGs import these by module.
ROOMS_THAT_STAY = ("hooks", "operators", "sensors", "transfers", "triggers")


def public_names() -> str:
    """Name all public classes, functions and constants with their signatures, whatever module they are in.

    Read, not imported: what a class inherits from Airflow differs by version.
    """
    found: list[str] = []
    for path in (REPOSITORY / PACKAGE).rglob("*.py"):
        room = path.relative_to(REPOSITORY / PACKAGE)
        stays = room.parts[0] in ROOMS_THAT_STAY
        module = f"  # {'.'.join(room.with_suffix('').parts)}" if stays else ""
        for first, *more in _definitions(ast.parse(path.read_text("utf-8")).body):
            found.append("\n".join([f"{first}{module}", *more]))
    return "\n".join(sorted(found)) + "\n"


def _definitions(body: list[ast.stmt], *, inside: bool = False) -> Iterator[list[str]]:
    """Yield the public names of a module or class, each with what belongs to it."""
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            branches = [node.body, node.orelse, *(handler.body for handler in getattr(node, "handlers", ()))]
            for branch in branches:
                yield from _definitions(branch, inside=inside)
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            bases = ", ".join(map(ast.unparse, [*node.bases, *node.keywords]))
            members = sorted(line for lines in _definitions(node.body, inside=True) for line in lines)
            yield [f"class {node.name}({bases})", *(f"    {line}" for line in members)]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not node.name.startswith("_") or (inside and node.name == "__init__"):
                kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
                marks = "".join(f"  @{ast.unparse(mark)}" for mark in node.decorator_list)
                returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
                yield [f"{kind} {node.name}({ast.unparse(node.args)}){returns}{marks}"]
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            kind = f": {ast.unparse(node.annotation)}" if isinstance(node, ast.AnnAssign) else ""
            names = [one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)]
            yield from ([f"{name}{kind}"] for name in names if not name.startswith("_"))


def wheel() -> str:
    """Name the files of the wheel, from the tree and its mapping; ``make test-wheel`` holds a built one to that."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    target = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    found = []
    for folder in target["only-include"]:
        paths = [path for path in (REPOSITORY / folder).rglob("*") if path.is_file()]
        into = target["sources"].get(folder, folder)
        inside = [path.relative_to(REPOSITORY / folder) for path in paths if "__pycache__" not in path.parts]
        found += [f"{into}/{path.as_posix()}\n" for path in inside]
    return "".join(sorted(found))


# --- compared ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(days: tuple[Days, int]) -> dict[str, str]:
    """All golden files as they are now, by name; written down when asked for."""
    found = dict(Golden(*days).files())
    found |= {"public_names.txt": public_names(), "wheel.txt": wheel()}
    if WRITE:
        FILES.mkdir(exist_ok=True)
        for path in FILES.iterdir():
            path.unlink()
        for name, text in found.items():
            (FILES / name).write_text(text, encoding="utf-8", newline="")
    return found


def _golden(name: str) -> str:
    return (FILES / name).read_bytes().decode()


def test_the_run_makes_exactly_the_golden_files(made: dict[str, str]) -> None:
    assert sorted(made) == sorted(path.name for path in FILES.iterdir())


def test_the_run_and_the_package_are_as_the_golden_files_say(made: dict[str, str]) -> None:
    different = []
    for name in sorted(made.keys() & {path.name for path in FILES.iterdir()}):
        before, now = _golden(name), made[name]
        if before != now:
            lines = difflib.unified_diff(before.split("\n"), now.split("\n"), name, "now", "", "", 0, "")
            different.append("\n".join([*lines][:40]))
    meant = "Where this is meant: GOLDEN=write python -m pytest tests/golden"
    assert not different, "\n\n".join([f"{len(different)} golden files differ.", *different, meant])
