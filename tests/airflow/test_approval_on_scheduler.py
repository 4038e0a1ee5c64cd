"""Approving a plan on a real Airflow (scheduler, API server, DAG processor, triggerer), through its REST API.

Approved, rejected, unanswered, and walked around in every way that a user of the API has. What reached Aha! is in
the request log of the sandbox.
"""

import csv
import io
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest
import requests
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.datasets.extract import extract
from airflow_provider_aha.record.check import verify
from airflow_provider_aha.sandbox.testing import Account, SandboxServer
from airflow_provider_aha.store.store import Store
from airflow_provider_aha.version_compat import AIRFLOW_V_3_1_PLUS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow before 3.1 can't ask a person"),
]
REPOSITORY = Path(__file__).parents[2]
DAGS = (
    "aha_access_review.py",
    "aha_deactivate_users.py",
    "aha_offboard_leavers.py",
    "aha_reactivate_users.py",
    "aha_reclaim_seats.py",
    "aha_submit_review.py",
    "aha_update_user.py",
)
ACCOUNT = "127.0.0.1"
USERS = ("ann", "bob", "eve")
ENDED = ("success", "failed")


class Api:
    """Airflow's REST API as one user sees it.

    :param address: of the API server.
    :param name: who logs in; None where nobody has to.
    """

    def __init__(self, address: str, name: str | None) -> None:
        self.address = address
        self._session = requests.Session()
        self._session.trust_env = False
        self.credentials = {"username": name, "password": f"{name}'s password"} if name else {}

    def ask(self, method: str, path: str, body: object = None) -> requests.Response:
        """Send a request, logged in."""
        if "Authorization" not in self._session.headers:
            method_of_token = "POST" if self.credentials else "GET"
            token = self._session.request(
                method_of_token, f"{self.address}/auth/token", json=self.credentials, timeout=30
            )
            assert token.status_code == 201, token.text
            self._session.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
        for _ in range(20):
            answer = self._session.request(method, f"{self.address}/api/v2/{path}", json=body, timeout=60)
            if answer.status_code != 500 or "Database error" not in answer.text:
                break
        return answer

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Send a request that must go well; the answer's JSON."""
        answer = self.ask(method, path, body)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None


@dataclass
class Run:
    """A DAG run that ann has triggered, and what became of it."""

    api: Api
    dag_id: str
    run_id: str
    ids: list[str]
    base: Path
    scheduler_log: Path

    @property
    def _path(self) -> str:
        return f"dags/{self.dag_id}/dagRuns/{quote(self.run_id)}"

    def task(self, task_id: str) -> str:
        return f"{self._path}/taskInstances/{task_id}"

    @property
    def state(self) -> str:
        return str(self.api.call("GET", self._path)["state"])

    def states(self) -> dict[str, str]:
        found = self.api.call("GET", f"{self._path}/taskInstances")["task_instances"]
        return {one["task_id"]: one["state"] for one in found}

    def question(self) -> dict[str, Any] | None:
        """What the person is asked, once the task waits for the answer.

        An answer within the same second, before the scheduler knows that the worker is done with the task, makes
        Airflow fail the task; people are slower.
        """
        done = f"task_id='approve', run_id='{self.run_id}'"
        lines = self.scheduler_log.read_text().splitlines()
        if not any("Received executor event" in line and done in line and self.dag_id in line for line in lines):
            return None
        if self.states().get("approve") not in ("deferred", "awaiting_input"):
            return None
        found: dict[str, Any] = self.api.call("GET", f"{self.task('approve')}/-1/hitlDetails")
        return found

    def wait_for_question(self) -> dict[str, Any]:
        found: dict[str, Any] = wait_for(f"{self.run_id} to ask", self.question)
        return found

    def answer(self, person: Api, choice: str = "Approve", **inputs: Any) -> requests.Response:
        body = {"chosen_options": [choice], "params_input": inputs}
        return person.ask("PATCH", f"{self.task('approve')}/-1/hitlDetails", body)

    def wait(self) -> dict[str, str]:
        """Wait until the run has ended; the states of its tasks."""
        wait_for(f"{self.run_id} to end", lambda: self.state in ENDED)
        return self.states()

    @property
    def folder(self) -> Path:
        return self.base / f"access/account={ACCOUNT}/dag={self.dag_id}/run={quote(self.run_id, safe='')}"

    @property
    def approval(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "approval.json").read_text())
        return found

    def evidence(self) -> list[dict[str, Any]]:
        path = self.folder / "task=carry_out" / "evidence.parquet"
        rows: list[dict[str, Any]] = pq.read_table(path, partitioning=None).to_pylist()
        return rows

    def manifest(self) -> dict[str, Any]:
        """The newest manifest of the run."""
        paths = sorted((self.base / f"access/account={ACCOUNT}/manifests").glob("*.json"))
        found: list[dict[str, Any]] = [json.loads(path.read_text()) for path in paths]
        return [one for one in found if (one["dag_id"], one["run_id"]) == (self.dag_id, self.run_id)][-1]


def wait_for(what: str, ready: Callable[[], Any], seconds: float = 240) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} seconds for {what} in vain"
        time.sleep(0.5)
    return found


@dataclass
class World:
    """A running Airflow, who uses it, and the account that it works on."""

    server: SandboxServer
    base: Path
    scheduler_log: Path
    people: Mapping[str, Api]
    anonymous: Api
    spare: list[str]
    runs: dict[str, Run] = field(default_factory=dict)

    def start(self, name: str, dag_id: str, ids: list[str], conf: dict[str, Any] | None = None) -> Run:
        """Have ann trigger a run."""
        conf = {"ids": ids, "ticket": "T-1"} if conf is None else conf
        body = {"dag_run_id": name, "logical_date": None, "conf": conf}
        self.people["ann"].call("POST", f"dags/{dag_id}/dagRuns", body)
        self.runs[name] = self.run(dag_id, name, ids)
        return self.runs[name]

    def run(self, dag_id: str, run_id: str, ids: list[str]) -> Run:
        return Run(self.people["ann"], dag_id, run_id, ids, self.base, self.scheduler_log)

    def puts(self, ids: list[str]) -> list[str]:
        """The ids of these users for whom a PUT reached Aha!."""
        sent = [one.path.rpartition("/")[2] for one in self.server.requests if one.method == "PUT"]
        return [one for one in sent if one in ids]

    def findings(self) -> list[str]:
        """What an auditor would find in the record."""
        return verify(Store(LocalFileSystem(), str(self.base), str(self.base)), ACCOUNT)

    def check_refused(self, name: str, why: str, sent: Sequence[str] = ()) -> None:
        """Nothing was done in a run, and its manifest says why."""
        run = self.runs[name]
        assert run.wait()["carry_out"] == "failed"
        manifest = run.manifest()
        assert (manifest["action"], manifest["ended"], manifest["outcomes"]) == ("deactivate", "failed", {})
        assert why in manifest["reason"]
        assert self.puts(run.ids) == list(sent)


# --- what runs -----------------------------------------------------------------------------------


def small_account() -> Account:
    """500 users, of whom three with a paid seat were last seen 400 days ago and all others lately."""
    account = Account.generate(500)
    now = datetime.now(UTC)
    idle = [user["id"] for user in account.users() if is_person(user)][-3:]
    for user_id in account.user_ids:
        days = 400 if user_id in idle else 3
        account.edit_user(
            user_id, created_at=iso(now - timedelta(days=900)), accessed_at=iso(now - timedelta(days))
        )
    return account


def iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def is_person(user: Mapping[str, Any]) -> bool:
    """Tell whether a user is enabled, pays, has no rights, and an address of the company's own."""
    paid = user["enabled"] and user["paid_seat"] and not user["administrator"]
    return bool(paid and user["email"].endswith("@example.com") and user["name"].isascii())


def land(server: SandboxServer, base: Path) -> None:
    """Land a snapshot of the account, as a DAG before would have done."""
    config = ClientConfig(base_url=server.url, account=ACCOUNT, api_key=server.key)
    location = Store(LocalFileSystem(), str(base), str(base))
    with AhaClient(config) as client:
        extract(client, location, datasets=["users", "user_roles"], connection_id="aha_default")


def write_roster(path: Path, server: SandboxServer, leavers: list[str]) -> dict[str, Any]:
    """Write a roster by which some left yesterday, and describe it as the Variable does."""
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    users = [user for user in server.account.users() if user["email"].endswith("@example.com")]
    lines = [f"{user['id']},{user['email']},{yesterday if user['id'] in leavers else ''}" for user in users]
    path.write_text("\n".join(["number,email,last_day", *lines]))
    columns = {"key": "number", "emails": ["email"], "end_date": "last_day"}
    return {"path": str(path), "domains": ["example.com"], "min_rows": 50, **columns}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An Airflow with three users, who have to log in, beside an API server of it where nobody has to."""
    from tools.local import BIN, Processes, airflow_environment, free_port, set_pool
    from tools.local import Api as OpenApi

    place = tmp_path_factory.mktemp("airflow")
    base, dags = place / "aha", place / "dags"
    dags.mkdir()
    for path in (*(REPOSITORY / "dags" / name for name in DAGS), Path(__file__).parent / "dags" / "approvals.py"):
        (dags / path.name).write_text(path.read_text())
    passwords = place / "passwords.json"
    passwords.write_text(json.dumps({name: f"{name}'s password" for name in USERS}))
    with SandboxServer(account=small_account()) as server, Processes(place) as processes:
        people = [user["id"] for user in server.account.users() if is_person(user)]
        port = free_port()
        env = airflow_environment(place / "home", port) | {
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG": "32",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:admin" for name in USERS),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
            "AIRFLOW_CONN_AHA_DEFAULT": server.connection_uri,
            "AIRFLOW_VAR_AHA_OUTPUT_PATH": str(base),
            "AIRFLOW_VAR_AHA_WRITES_ENABLED": "true",
            "AIRFLOW_VAR_AHA_INACTIVE_DAYS": "300",
            "AIRFLOW_VAR_AHA_GRACE_DAYS": "0",
            "AIRFLOW_VAR_AHA_ROSTER": json.dumps(write_roster(place / "roster.csv", server, people[40:46])),
        }
        airflow, database = str(BIN / "airflow"), place / "home" / "airflow.db"
        processes.run("migrate", [airflow, "db", "migrate"], env)
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        # The API server can wait for a lock of its own request that can't end meanwhile: it gives up early, and
        # whoever asked asks again.
        impatient = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}?timeout=1"}
        for name, more in (
            ("api-server", []),
            ("scheduler", ["--skip-serve-logs"]),
            ("dag-processor", []),
            ("triggerer", ["--skip-serve-logs"]),
        ):
            processes.start(name, [airflow, name, *more], env | (impatient if name == "api-server" else {}))
        open_port = free_port()
        nobody = {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True"}
        command = [airflow, "api-server", "--port", str(open_port)]
        processes.start("open-api-server", command, env | impatient | nobody)
        land(server, base)
        apis = {name: Api(f"http://127.0.0.1:{port}", name) for name in USERS}
        world = World(
            server, base, processes.log("scheduler"), apis, Api(f"http://127.0.0.1:{open_port}", None), people[20:]
        )
        for api in (apis["ann"], world.anonymous):
            processes.wait_for("Airflow", partial(is_up, api), 120)
        # As `make up` and `make demo` do.
        set_pool(OpenApi(world.anonymous.address))
        apis["ann"].call("POST", "pools", {"name": "held", "slots": 0})
        processes.wait_for("the DAGs", lambda: len(known_dags(apis["ann"])) == 12, 120)
        start_all(world, people)
        for dag_id in set(known_dags(apis["ann"])) - {"test_forged"}:
            apis["ann"].call("PATCH", f"dags/{dag_id}", {"is_paused": False})
        submit_review(world, people[30:32])
        yield world


def is_up(api: Api) -> bool:
    try:
        answer = requests.get(f"{api.address}/api/v2/monitor/health", timeout=5, proxies={"http": ""})
    except requests.RequestException:
        return False
    return answer.ok and answer.json()["scheduler"]["status"] == "healthy"


def known_dags(api: Api) -> list[str]:
    errors = api.call("GET", "importErrors")["import_errors"]
    assert not errors, errors
    return [one["dag_id"] for one in api.call("GET", "dags")["dags"]]


def start_all(world: World, people: list[str]) -> None:
    """Trigger all runs, so that they come to their questions side by side."""
    names = ("approved", "rejected", "own", "anonymous", "marked")
    for number, name in enumerate(names):
        world.start(name, "test_asked", people[2 * number : 2 * number + 2])
    world.start("bobs", "test_asked_of_bob", people[12:13])
    world.start("unanswered", "test_asked_briefly", people[14:15])
    world.start("swapped", "test_held_back", people[16:17])
    world.start("review", "aha_access_review", [], {"review_id": "2026-Q4"})
    form = {"ids": people[18:19], "reason": "left the project", "ticket": "T-2", "dry_run": False}
    world.start("form", "aha_deactivate_users", people[18:19], form)
    why = {"reason": "asked for", "ticket": "T-3", "dry_run": False}
    grant = {"user": people[50], "administrator": "true", **why}
    world.start("grant", "aha_update_user", people[50:51], grant)


def submit_review(world: World, ids: list[str]) -> None:
    """Decide about everybody in the review that was frozen, and have ann submit it."""
    world.runs["review"].wait()
    review = world.base / f"reviews/account={ACCOUNT}/review=2026-Q4"
    rows = list(csv.DictReader(io.StringIO((review / "access_review.csv").read_text("utf-8-sig"), newline="")))
    file = world.base.parent / "decisions.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        for row in rows:
            decision = "revoke account" if row["row_key"].split(".")[0][1:] in ids else "keep"
            writer.writerow({**row, "decision": decision, "reviewer": "Rita Reviewer"})
    world.start("submission", "aha_submit_review", ids, {"file": str(file), "dry_run": False})


# --- answers -------------------------------------------------------------------------------------


def test_an_approved_plan_is_carried_out_but_for_whom_was_struck_out(world):
    run = world.runs["approved"]
    question = run.wait_for_question()
    assert (question["options"], question["defaults"]) == (["Approve", "Reject"], ["Reject"])
    assert list(question["params"]) == ["strike_out", "strike_reason"]
    inputs = {"strike_out": run.ids[:1], "strike_reason": "still here"}
    assert run.answer(world.people["bob"], **inputs, ids=["1"], ticket="").ok
    assert run.wait()["carry_out"] == "success"
    assert world.puts(run.ids) == run.ids[1:]
    rows = {row["user_id"]: row for row in run.evidence()}
    assert {user_id: row["outcome"] for user_id, row in rows.items()} == {
        run.ids[0]: "skipped",
        **dict.fromkeys(run.ids[1:], "changed"),
    }
    assert rows[run.ids[0]]["reason"] == "struck out by the person who approved: still here"
    for row in rows.values():
        assert (row["approved_by_id"], row["approved_by_name"], row["approval_mode"]) == ("bob", "bob", "person")
        assert (row["requested_by"], row["ticket"]) == ("ann", "T-1")


def test_a_rejected_plan_is_not_carried_out(world):
    run = world.runs["rejected"]
    run.wait_for_question()
    assert run.answer(world.people["bob"], "Reject").ok
    assert run.wait() == {"plan": "success", "approve": "skipped", "carry_out": "skipped"}
    assert (run.approval["choice"], run.approval["responded_by_name"]) == ("Reject", "bob")
    assert run.manifest()["ended"] == "Reject"
    assert world.puts(run.ids) == []


def test_no_answer_is_a_no(world):
    run = world.runs["unanswered"]
    assert run.wait() == {"plan": "success", "approve": "skipped", "carry_out": "skipped"}
    assert (run.approval["choice"], run.approval["responded_by_name"]) == ("Reject", None)
    assert run.manifest()["ended"] == "Reject"
    assert world.puts(run.ids) == []


def test_the_form_for_people_asks_a_second_one(world):
    run = world.runs["form"]
    question = run.wait_for_question()
    assert list(question["params"]) == ["strike_out", "strike_reason"]
    assert run.ids[0] in question["body"]
    assert json.loads((run.folder / "approval_request.json").read_text())["plan_sha256"] in question["body"]
    assert run.answer(world.people["bob"]).ok
    assert run.wait()["carry_out"] == "success"
    assert world.puts(run.ids) == run.ids


def test_an_administrator_right_is_given_by_two_people_and_by_one_alone_not(world):
    run, ann = world.runs["grant"], world.people["ann"]
    question = run.wait_for_question()
    assert question["subject"] == f"Change 1 user of {ACCOUNT} in Aha!?"
    assert "give all administrator rights (account, billing, configuration)" in question["body"]
    assert world.puts(run.ids) == []
    assert run.answer(ann).ok
    assert run.wait()["carry_out"] == "failed"
    assert "a second person must" in run.manifest()["reason"]
    assert world.puts(run.ids) == []
    again = world.start("granted", "aha_update_user", run.ids, ann.call("GET", run._path)["conf"])
    again.wait_for_question()
    assert again.answer(world.people["bob"]).ok
    assert again.wait()["carry_out"] == "success"
    assert world.server.account.user(run.ids[0])["administrator"] is True
    (row,) = again.evidence()
    assert (row["outcome"], row["requested_by"], row["approved_by_name"]) == ("changed", "ann", "bob")


def test_an_undo_is_asked_about_too(world):
    done = world.runs["form"]
    done.wait()
    why = {"reason": "back again", "ticket": "T-4", "dry_run": False}
    evidence = str(done.folder / "task=carry_out" / "evidence.parquet")
    run = world.start("undo", "aha_reactivate_users", done.ids, {"evidence": evidence, **why})
    question = run.wait_for_question()
    assert "gives back to these users what a run took" in question["body"]
    assert run.answer(world.people["bob"]).ok
    assert run.wait()["carry_out"] == "success"
    assert world.server.account.user(done.ids[0])["enabled"] is True


def test_only_the_approvers_may_answer(world):
    run = world.runs["bobs"]
    assert run.wait_for_question()["assigned_users"] == [{"id": "bob", "name": "bob"}]
    assert run.answer(world.people["eve"]).status_code == 403
    assert run.answer(world.people["bob"]).ok
    assert run.wait()["carry_out"] == "success"
    assert world.puts(run.ids) == run.ids


def test_an_anonymous_approval_counts_on_this_machine_and_the_evidence_says_so(world):
    run = world.runs["anonymous"]
    run.wait_for_question()
    assert run.answer(world.anonymous).ok
    assert run.wait()["carry_out"] == "success"
    assert {row["approval_mode"] for row in run.evidence()} == {"anonymous"}
    assert sorted(world.puts(run.ids)) == run.ids


# --- ways round ----------------------------------------------------------------------------------


def test_whoever_triggered_the_run_cannot_approve_it(world):
    run = world.runs["own"]
    run.wait_for_question()
    assert run.answer(world.people["ann"]).ok
    world.check_refused("own", "a second person must")


def test_marking_the_approval_as_a_success_is_none(world):
    run = world.runs["marked"]
    run.wait_for_question()
    world.people["eve"].call("PATCH", run.task("approve"), {"new_state": "success"})
    world.check_refused("marked", "was not approved")


@pytest.mark.parametrize(
    ("name", "of", "why"),
    [
        ("forged", "rejected", "where this package keeps plans"),
        ("borrowed", "approved", "in another run than this one"),
    ],
)
def test_forged_xcoms_are_no_approval(world, tmp_path, name, of, why):
    """What plan and approval would have returned: files that look like the real ones, or those of another run."""
    other, eve = world.runs[of], world.people["eve"]
    other.wait()
    run = world.start(name, "test_forged", other.ids)
    sent = world.puts(run.ids)
    folder = tmp_path if name == "forged" else other.folder
    if name == "forged":
        for path in other.folder.glob("*.*"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
        person = {"responded_by_id": "bob", "responded_by_name": "bob", "responded_at": iso(datetime.now(UTC))}
        yes = {"choice": "Approve", "dag_id": run.dag_id, "run_id": run.run_id}
        (tmp_path / "approval.json").write_text(json.dumps({**other.approval, **person, **yes}))
    answer = {"choice": "Approve", "plan_sha256": other.approval["plan_sha256"], "struck_out": 0}
    forge(eve, run, "plan", "path", str(folder / "plan.json"))
    forge(eve, run, "approve", "return_value", answer)
    eve.call("PATCH", "dags/test_forged", {"is_paused": False})
    run.wait()
    eve.call("PATCH", "dags/test_forged", {"is_paused": True})
    world.check_refused(name, why, sent)


def forge(person: Api, run: Run, task_id: str, key: str, value: Any) -> None:
    """Have a task look as if it had run and left an XCom."""
    person.call("PATCH", run.task(task_id), {"new_state": "success"})
    person.call("POST", f"{run.task(task_id)}/xcomEntries", {"key": key, "value": value, "map_index": -1})


def test_a_plan_that_was_swapped_after_the_approval_is_not_carried_out(world):
    run = world.runs["swapped"]
    run.wait_for_question()
    assert run.answer(world.people["bob"]).ok
    wait_for("the approval", lambda: run.states()["approve"] == "success")
    assert run.approval["choice"] == "Approve"
    path = run.folder / "plan.json"
    path.write_text(path.read_text().replace("named by id", "named by ID"))
    world.people["ann"].call("PATCH", "pools/held", {"pool": "held", "slots": 1, "include_deferred": False})
    world.check_refused("swapped", "changed after it had been approved")


@pytest.mark.parametrize("name", ["approved", "rejected"])
def test_clearing_an_old_run_asks_and_does_nothing_again(world, name):
    run, eve = world.runs[name], world.people["eve"]
    run.wait()
    record, sent = run.approval, world.puts(run.ids)
    clear(eve, run, "approve", "carry_out")
    states = run.wait()
    assert (states["approve"], states["carry_out"]) == ("failed", "upstream_failed")
    # Marked and cleared: what was done is final, and what was rejected stays so.
    eve.call("PATCH", run.task("approve"), {"new_state": "success"})
    clear(eve, run, "carry_out")
    assert run.wait()["carry_out"] == ("success" if name == "approved" else "failed")
    assert run.approval == record
    assert world.puts(run.ids) == sent


def clear(person: Api, run: Run, *task_ids: str) -> None:
    body = {
        "dry_run": False,
        "dag_run_id": run.run_id,
        "task_ids": list(task_ids),
        "only_failed": False,
        "reset_dag_runs": True,
    }
    person.call("POST", f"dags/{run.dag_id}/clearTaskInstances", body)
    wait_for(f"{run.run_id} to run again", lambda: run.state not in ENDED or "approve" in run.states())


def test_an_account_that_a_review_revokes_is_disabled_after_an_approval(world):
    run = world.runs["submission"]
    question = run.wait_for_question()
    assert "| named: asked for by name | 2 |" in question["body"]
    assert all(user_id in question["body"] for user_id in run.ids)
    # Who looks at the record meanwhile finds the question in it.
    assert [finding for finding in world.findings() if "aha_submit_review" in finding] == []
    assert run.manifest()["ended"] == "asked"
    assert world.puts(run.ids) == []
    assert run.answer(world.people["bob"]).ok
    assert run.wait()["carry_out"] == "success"
    assert sorted(world.puts(run.ids)) == run.ids
    assert [world.server.account.user(user_id)["enabled"] for user_id in run.ids] == [False, False]
    for row in run.evidence():
        assert (row["outcome"], row["class"], row["rule"]) == ("changed", "named", "review 2026-Q4")
        assert (row["requested_by"], row["approved_by_name"], row["ticket"]) == ("ann", "bob", "review 2026-Q4")
        assert json.loads(row["after_json"])["enabled"] is False
        assert row["plan_sha256"] == run.approval["plan_sha256"]
    (submission,) = world.base.glob("reviews/account=*/review=2026-Q4/submission.json")
    assert json.loads(submission.read_text())["submitted_by"] == "ann"


# --- the scheduled flows -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dag_id", "user_class", "users"), [("aha_offboard_leavers", "left", 6), ("aha_reclaim_seats", "unused", 3)]
)
def test_a_scheduled_flow_asks_and_any_named_person_may_approve(world, dag_id, user_class, users):
    ann = world.people["ann"]
    found = ann.call("GET", f"dags/{dag_id}/dagRuns")["dag_runs"]
    run_id = found[0]["dag_run_id"] if found else world.start(f"{dag_id}_1", dag_id, [], {}).run_id
    run = world.run(dag_id, run_id, [])
    question = run.wait_for_question()
    assert f"{users} of" in question["body"]
    assert run.answer(world.people["bob"]).ok
    assert run.wait()["carry_out"] == "success"
    rows = run.evidence()
    assert {(row["outcome"], row["class"], row["approval_mode"]) for row in rows} == {
        ("changed", user_class, "person")
    }
    assert sorted(world.puts([row["user_id"] for row in rows])) == sorted(row["user_id"] for row in rows)
    assert len(rows) == users


# --- in a browser --------------------------------------------------------------------------------


def log_in(chromium: Any, api: Api) -> Any:
    """Open the UI as a user; the page."""
    credentials = api.credentials
    page = chromium.new_context(viewport={"width": 1400, "height": 1200}).new_page()
    page.set_default_timeout(90_000)
    page.goto(f"{api.address}/auth/login/")
    page.fill("input[name=username]", credentials["username"])
    page.fill("input[name=password]", credentials["password"])
    page.get_by_role("button").first.click()
    page.wait_for_url(lambda url: "/auth/login" not in url)
    return page


def fill_and_trigger(page: Any, person: Api, dag_id: str, fields: Mapping[str, str], place: Path) -> dict[str, Any]:
    """Fill a form in, untick *Dry run* and trigger; the DAG run."""
    page.goto(f"{person.address}/dags/{dag_id}")
    page.get_by_test_id("trigger-dag-button").click()
    for name, value in fields.items():
        page.fill(f"#element_{name}", value)
    page.locator("label:has(input[name=element_dry_run]) [data-part=control]").click()
    page.screenshot(path=place / f"{dag_id}.png", full_page=True)
    page.get_by_role("dialog").get_by_role("button", name="Trigger").last.click()
    page.get_by_role("dialog").wait_for(state="detached")
    runs = person.call("GET", f"dags/{dag_id}/dagRuns?order_by=-run_after")["dag_runs"]
    found: dict[str, Any] = runs[0]
    return found


def open_question(chromium: Any, person: Api, run: Run) -> tuple[Any, str]:
    """Open what a person is asked; the page, and its text."""
    run.wait_for_question()
    page = log_in(chromium, person)
    page.goto(f"{person.address}/dags/{run.dag_id}/runs/{quote(run.run_id)}/tasks/approve/required_actions")
    page.get_by_role("button", name="Approve").wait_for()
    return page, page.inner_text("body")


def test_form_and_approval_in_a_browser(world, chromium, tmp_path):
    ann, bob = world.people["ann"], world.people["bob"]
    world.runs["form"].wait()
    ids = world.spare[:2]
    fields = {"ids": "\n".join(ids), "reason": "left the project", "ticket": "SEC-7"}
    found = fill_and_trigger(log_in(chromium, ann), ann, "aha_deactivate_users", fields, tmp_path)
    run = world.run("aha_deactivate_users", found["dag_run_id"], ids)
    # A list that nobody has touched comes as null or empty.
    assert found["conf"].pop("emails") in (None, [])
    assert found["conf"] == {
        "aha_conn_id": "aha_default",
        "ids": ids,
        "reason": "left the project",
        "ticket": "SEC-7",
        "asked_by": None,
        "dry_run": False,
    }
    page, shown = open_question(chromium, bob, run)
    assert "Approve disables these users in Aha!" in shown
    assert "Started by: ann" in shown
    assert "Ticket: SEC-7" in shown
    assert "left the project: named by id" in shown
    users = [world.server.account.user(user_id) for user_id in ids]
    assert all(text in shown for user in users for text in (user["id"], user["name"], user["email"]))
    page.fill("textarea[name=element_strike_out]", ids[0])
    page.fill("[name=element_strike_reason]", "still here")
    page.screenshot(path=tmp_path / "approval.png", full_page=True)
    page.get_by_role("button", name="Approve").click()
    assert run.wait()["carry_out"] == "success"
    assert world.puts(ids) == ids[1:]
    assert {(row["approved_by_name"], row["outcome"]) for row in run.evidence()} == {
        ("bob", "skipped"),
        ("bob", "changed"),
    }
    assert run.approval["strike_reason"] == "still here"


def test_another_email_by_a_form_and_back_again_by_two_logins(world, chromium, tmp_path):
    """What one person did alone before: take an account over by its email, and let somebody in again."""
    ann, bob = world.people["ann"], world.people["bob"]
    for run_id in ("grant", "granted", "undo"):
        if run_id in world.runs:
            world.runs[run_id].wait()
    user = dict(world.server.account.user(world.spare[2]))
    fields = {"user": user["id"], "email": "new.address@example.com", "reason": "new name", "ticket": "SEC-8"}
    found = fill_and_trigger(log_in(chromium, ann), ann, "aha_update_user", fields, tmp_path)
    run = world.run("aha_update_user", found["dag_run_id"], [user["id"]])
    page, shown = open_question(chromium, bob, run)
    assert f"email from {user['email']} to new.address@example.com" in shown
    assert "whoever reads that mailbox has the account" in shown
    assert world.puts([user["id"]]) == []
    page.get_by_role("button", name="Approve").click()
    assert run.wait()["carry_out"] == "success"
    assert world.server.account.user(user["id"])["email"] == "new.address@example.com"

    off = [dict(one) for one in world.server.account.users() if not one["enabled"]]
    gone = next(one for one in off if not world.puts([one["id"]]))
    fields = {"ids": gone["id"], "reason": "hired again", "ticket": "SEC-9"}
    found = fill_and_trigger(log_in(chromium, ann), ann, "aha_reactivate_users", fields, tmp_path)
    run = world.run("aha_reactivate_users", found["dag_run_id"], [gone["id"]])
    page, shown = open_question(chromium, bob, run)
    assert "Approve enables these users in Aha! again" in shown
    assert "enable; what comes back: " in shown
    assert world.puts([gone["id"]]) == []
    page.get_by_role("button", name="Approve").click()
    assert run.wait()["carry_out"] == "success"
    assert world.server.account.user(gone["id"])["enabled"] is True


def test_writing_tasks_ran_in_the_pool_with_one_slot(world):
    ann = world.people["ann"]
    assert ann.call("GET", "pools/aha_writes")["slots"] == 1
    for name in ("form", "submission"):
        run = world.runs[name]
        run.wait()
        assert ann.call("GET", run.task("carry_out"))["pool"] == "aha_writes"
        assert ann.call("GET", run.task("preview"))["pool"] == "default_pool"


def test_the_record_of_all_that_is_whole(world):
    for run in world.runs.values():
        run.wait()
    assert world.findings() == ["dag=test_held_back/run=swapped/plan.json was changed between two tries."]
