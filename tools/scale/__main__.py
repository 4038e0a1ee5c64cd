"""`make scale-demo`: a distributed Airflow, and the worker that takes access away killed in the middle.

Airflow with CeleryExecutor, PostgreSQL, Redis and an object store, two workers that share no directory, and an
Aha! sandbox with its limits on. The request log of the sandbox is the witness of what was done.
"""

import argparse
import itertools
import json
import secrets
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow_provider_aha.sandbox.account import Account
from airflow_provider_aha.sandbox.server import SandboxServer
from tools.demo import table
from tools.local import (
    AIRFLOW_VERSION,
    BIN,
    DEMO,
    LOOPBACK,
    ROOT,
    STARTED,
    Api,
    ProblemError,
    Processes,
    airflow_environment,
    free_port,
    health,
    main,
    say,
    set_pool,
)
from tools.scale.services import (
    BUCKET,
    execute,
    install,
    kill,
    start_object_store,
    start_postgres,
    start_redis,
)

DAG = "aha_scale"
PLACE = DEMO / "scale"
DAGS = (Path(__file__).parent / "dags" / "aha_scale.py", ROOT / "dags" / "aha_push_to_sql.yaml")
WORKERS = ("alpha", "beta")
# Who triggers the run, and who approves it.
ANN, BOB = "ann", "bob"
LEAVERS = 20
KILL_AFTER = 5
BASE = f"s3://aws_default@{BUCKET}/lake"
LATENCY = 0.05


class Person(Api):
    """Airflow's REST API as one logged-in user sees it."""

    def __init__(self, address: str, name: str, password: str) -> None:
        """Take who it is."""
        super().__init__(address)
        self.credentials = {"username": name, "password": password}

    def log_in(self) -> None:
        """Fetch a token, once Airflow is up."""
        self._token = self.call("POST", "/auth/token", self.credentials)["access_token"]


class Run:
    """The run of the DAG, and what is said of it while it runs."""

    def __init__(self, api: Api, run_id: str) -> None:
        """Take its id."""
        self.api, self.run_id = api, run_id
        self.path = f"/api/v2/dags/{DAG}/dagRuns/{run_id}"
        self._told: dict[str, tuple[str, str]] = {}

    def tasks(self) -> dict[str, dict[str, Any]]:
        """Return the tasks, and say which have changed."""
        listed = self.api.call("GET", f"{self.path}/taskInstances")["task_instances"]
        found: dict[str, dict[str, Any]] = {one["task_id"]: one for one in listed}
        for name, task in found.items():
            now = (task["state"] or "waiting", task["hostname"] or "")
            if self._told.get(name) != now and now[0] not in ("waiting", "scheduled", "queued"):
                say(f"    {name}: {now[0]}" + (f" on {now[1]}" if now[1] else ""))
            self._told[name] = now
            if task["state"] in ("failed", "upstream_failed"):
                raise ProblemError(f"the task {name} failed; its log is below {PLACE}/<worker>/logs")
        return found

    def tries(self) -> list[dict[str, Any]]:
        """Return every try of every task, in the order in which they began."""
        found = [
            one
            for name in self.tasks()
            for one in self.api.call("GET", f"{self.path}/taskInstances/{name}/tries")["task_instances"]
        ]
        return sorted(found, key=lambda one: one["start_date"] or "")

    def result(self, task: str) -> dict[str, Any]:
        """Return what a task has returned."""
        entry = self.api.call("GET", f"{self.path}/taskInstances/{task}/xcomEntries/return_value")
        value = entry["value"]
        found: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
        return found

    def state(self) -> str:
        """Return the state of the run."""
        self.tasks()
        return str(self.api.call("GET", self.path)["state"])


def demo(users: int, seconds: float) -> None:
    """Run it all, and show what the witness saw."""
    install()
    shutil.rmtree(PLACE, ignore_errors=True)
    # PostgreSQL may run as somebody who can't look into the checkout.
    with (
        tempfile.TemporaryDirectory(prefix="aha-scale-") as database,
        Processes(PLACE) as processes,
        SandboxServer(account=Account.generate(users), limits=True, latency=LATENCY) as aha,
    ):
        aha.account.warm()
        say(f"An Aha! sandbox with {users:,} users on {aha.url}, limits of 20/s and 300/min on")
        leavers = people_to_name(aha)
        address = start_postgres(processes, Path(database))
        ann, bob = start_airflow(processes, address, start_redis(processes, PLACE))
        prepare(ann, aha, address, start_object_store(processes))
        processes.wait_for("the DAG", lambda: ann.call("GET", f"/api/v2/dags/{DAG}"), 120)
        ann.call("PATCH", f"/api/v2/dags/{DAG}", {"is_paused": False})
        body = {"logical_date": None, "conf": {"ids": leavers}}
        run = Run(ann, ann.call("POST", f"/api/v2/dags/{DAG}/dagRuns", body)["dag_run_id"])
        say(f"{ANN} has triggered {DAG}, to deactivate {len(leavers)} users")
        processes.wait_for("the question", lambda: asked(run, processes), seconds, every=0.5)
        answer = {"chosen_options": ["Approve"], "params_input": {}}
        bob.call("PATCH", f"{run.path}/taskInstances/approve/-1/hitlDetails", answer)
        say(f"{BOB} has approved the plan")
        processes.wait_for("the first writes", lambda: len(written(aha)) >= KILL_AFTER, seconds, every=0.01)
        name = str(run.tasks()["deactivate"]["hostname"])
        count = kill(processes, name)
        say(f"Killed the worker {name}, {count} processes, after {len(written(aha))} of {len(leavers)} writes")
        state = processes.wait_for(
            "the run", lambda: (found := run.state()) in ("success", "failed") and found, seconds, every=0.5
        )
        if state != "success":
            raise ProblemError(f"the run ended as {state}; the logs are in {PLACE}")
        show(run, aha, address)
        check(run, aha, leavers, name)


def people_to_name(aha: SandboxServer) -> list[str]:
    """Return some who have access and no rights, from the end of the account."""
    backwards = (aha.account.user(user_id) for user_id in reversed(aha.account.user_ids))
    fits = (one for one in backwards if one["enabled"] and one["paid_seat"] and not one["administrator"])
    return [str(one["id"]) for one in itertools.islice(fits, LEAVERS)]


def start_airflow(processes: Processes, address: str, broker: str) -> tuple[Person, Person]:
    """Start Airflow's parts and the two workers; return who uses it."""
    passwords = {name: secrets.token_urlsafe(16) for name in (ANN, BOB)}
    (PLACE / "passwords.json").write_text(json.dumps(passwords))
    port = free_port()
    common = airflow_environment(PLACE / "airflow", port) | {
        "AIRFLOW__CELERY__BROKER_URL": broker,
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql://{address}/airflow",
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": "2",
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": "tools.scale.place.name",
        # A worker that is silent for so long is dead; in production the default of 300 seconds does.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        "PYTHONPATH": str(ROOT),
    }
    # The workers reach Airflow's database through its API server only.
    central = own_place("airflow", common) | {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(PLACE / "passwords.json"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ANN}:admin,{BOB}:admin",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{address}/airflow",
    }
    airflow = str(BIN / "airflow")
    say(
        f"Starting Airflow {AIRFLOW_VERSION} on PostgreSQL, Redis and S3, with two Celery workers, "
        f"{' and '.join(WORKERS)}"
    )
    processes.run("migrate", [airflow, "db", "migrate"], central)
    for name, more in (
        ("api-server", []),
        ("scheduler", ["--skip-serve-logs"]),
        ("dag-processor", []),
        ("triggerer", ["--skip-serve-logs"]),
    ):
        processes.start(name, [airflow, name, *more], central)
    ann, bob = (Person(f"http://{LOOPBACK}:{port}", name, passwords[name]) for name in (ANN, BOB))
    for name in WORKERS:
        command = [airflow, "celery", "worker", "--celery-hostname", f"{name}@%h", "--skip-serve-logs"]
        processes.start(name, [*command, "--without-gossip", "--without-mingle"], own_place(name, common))
    processes.wait_for("Airflow", lambda: health(ann), 180)
    logs = [processes.log(name) for name in WORKERS]
    processes.wait_for(
        "the workers", lambda: all(" ready." in log.read_text(errors="replace") for log in logs), 180
    )
    ann.log_in()
    bob.log_in()
    return ann, bob


def own_place(name: str, env: dict[str, str]) -> dict[str, str]:
    """Return the environment of a part that shares no directory with another one."""
    home, temporary = PLACE / name, PLACE / name / "tmp"
    dags = home / "dags"
    for folder in (temporary, dags):
        folder.mkdir(parents=True)
    for path in DAGS:
        (dags / path.name).write_text(path.read_text().replace("launched: false", "launched: true"))
    return env | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AHA_SCALE_PLACE": name,
        "TMPDIR": str(temporary),
    }


def prepare(api: Api, aha: SandboxServer, address: str, store: str) -> None:
    """Make connections, the pool and the Variable in Airflow."""
    set_pool(api)
    login, _, rest = address.partition(":")
    password, _, server = rest.rpartition("@")
    host, _, port = server.partition(":")
    keys = {"login": "demo", "password": "demo"}
    extra = json.dumps({"endpoint_url": store, "region_name": "us-east-1"})
    for connection in (
        {"connection_id": "aha_default", "conn_type": "aha", "schema": "http", "host": aha.host, "port": aha.port}
        | {"password": aha.key},
        {"connection_id": "aws_default", "conn_type": "aws", "extra": extra, **keys},
        {"connection_id": "aha_sql", "conn_type": "postgres", "host": host, "port": int(port)}
        | {"login": login, "password": password, "schema": "warehouse"},
    ):
        api.call("DELETE", f"/api/v2/connections/{connection['connection_id']}")
        api.call("POST", "/api/v2/connections", connection)
    api.call("POST", "/api/v2/variables", {"key": "aha_output_path", "value": BASE})


def asked(run: Run, processes: Processes) -> bool:
    """Tell whether the question waits for an answer, and the scheduler knows it."""
    waits = run.tasks()["approve"]["state"] in ("deferred", "awaiting_input")
    heard = f"task_id='approve', run_id='{run.run_id}'"
    lines = processes.log("scheduler").read_text(errors="replace").splitlines()
    return waits and any("Received executor event" in line and heard in line for line in lines)


# --- the witness ---------------------------------------------------------------------------------


def written(aha: SandboxServer) -> list[str]:
    """Return the ids of the users whom a PUT has reached, one for each PUT."""
    return [one.path.rpartition("/")[2] for one in aha.requests if one.method == "PUT"]


def most(times: Sequence[float], span: float) -> int:
    """Return how many requests came at most within so many seconds."""
    times, first, found = sorted(times), 0, 0
    for last, moment in enumerate(times):
        while moment - times[first] >= span:
            first += 1
        found = max(found, last - first + 1)
    return found


def show(run: Run, aha: SandboxServer, address: str) -> None:
    """Print what ran where, and what reached Aha!."""
    rows = [
        [one["task_id"], str(one["try_number"]), one["hostname"] or "-", one["state"], took(one)]
        for one in run.tries()
    ]
    print("\nWhat ran where:")
    print(table(["task", "try", "worker", "state", "seconds"], rows))
    times = [one.time for one in aha.requests]
    statuses = Counter(one.status for one in aha.requests)
    pushed = execute(address, "SELECT count(*) FROM aha_users", "warehouse")
    print("\nWhat the sandbox saw:")
    print(f"  requests            {len(times):,} in {max(times) - min(times):.0f} s")
    print(f"  most in one second  {most(times, 1)} (limit 20)")
    print(f"  most in one minute  {most(times, 60)} (limit 300)")
    print(f"  429                 {statuses[429]}")
    print(f"  writes              {len(written(aha))}, to {len(set(written(aha)))} users")
    outcomes = ", ".join(f"{count} {name}" for name, count in run.result("deactivate")["outcomes"].items())
    print("\nWhat the run recorded:")
    print(f"  rows pushed         {pushed[0][0] if pushed else 0:,}")
    print(f"  outcomes            {outcomes}")
    print(f"  confirmed           {run.result('verify')['confirmed']} by the next read")
    print(f"\nAll of it took {time.monotonic() - STARTED:.0f} s.", flush=True)


def took(one: dict[str, Any]) -> str:
    """Return how long a try took."""
    return "-" if one["duration"] is None else f"{one['duration']:.1f}"


def check(run: Run, aha: SandboxServer, leavers: list[str], killed: str) -> None:
    """Fail where the run doesn't show what it is for."""
    tries = [one for one in run.tries() if one["task_id"] == "deactivate"]
    writers = [one["hostname"] for one in tries]
    if len(tries) < 2 or writers[0] != killed or writers[-1] == killed:
        raise ProblemError(f"no other worker took over: the tries of the writing task ran on {', '.join(writers)}")
    twice = [user for user, count in Counter(written(aha)).items() if count > 1]
    if twice:
        raise ProblemError(f"{len(twice)} users were written twice")
    if set(written(aha)) != set(leavers) or any(aha.account.user(one)["enabled"] for one in leavers):
        raise ProblemError("not exactly the planned users were deactivated")
    if run.result("verify")["confirmed"] != len(leavers):
        raise ProblemError("the next read didn't confirm all deactivations")
    if any(one.status == 429 for one in aha.requests):
        raise ProblemError("the sandbox refused requests with 429")
    say(f"The run ended right: {len(leavers)} users disabled, each by one write, though a worker died")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=50_000, help="users of the sandbox account")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for each part of the run")
    arguments = parser.parse_args()
    main(lambda: demo(arguments.users, arguments.timeout))
