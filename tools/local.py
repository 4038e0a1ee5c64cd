"""A local Airflow and a local Aha! account: what `make demo` and `make up` have in common."""

import contextlib
import fcntl
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import psutil

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / ".demo"
BIN = Path(sys.executable).parent
LOOPBACK = "127.0.0.1"
AIRFLOW_VERSION = metadata.version("apache-airflow")
WRITE_POOL = "aha_writes"
STARTED = time.monotonic()


class ProblemError(Exception):
    """What went wrong, as one sentence for the person at the terminal."""


def say(message: str) -> None:
    """Print one line of progress, after the seconds since the start."""
    print(f"{time.monotonic() - STARTED:6.1f} s  {message}", flush=True)


def main(run: Callable[[], None], *, interrupted: int = 130) -> NoReturn:
    """Run; end with one sentence and exit code 1 where it fails, and with `interrupted` on Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        run()
    except ProblemError as problem:
        print(f"\nFailed: {problem}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nStopped; nothing is left running.", file=sys.stderr)
        sys.exit(interrupted)
    sys.exit(0)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # One is enough: `make` passes on what it gets itself, and a second would break off the tidying up.
    ignore_signals()
    raise KeyboardInterrupt


def ignore_signals() -> None:
    """Let nothing break off what is being ended."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def shown(path: Path) -> str:
    """Return the path the way somebody in the checkout would type it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


# --- ports and HTTP ------------------------------------------------------------------------------


def free_port(wanted: int = 0) -> int:
    """Return the wanted port of the loopback interface if nobody has it, else a free one."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((LOOPBACK, port))
            return int(probe.getsockname()[1])
    raise ProblemError("no port of 127.0.0.1 is free")


class Api:
    """The little of Airflow's REST API that is needed here."""

    def __init__(self, address: str) -> None:
        """Take the address of an API server that asks nobody to log in."""
        self.address = address
        self._token = ""
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Send a request; return its JSON, or None where there is no such thing."""
        headers = {"Content-Type": "application/json"}
        if path.startswith("/api/v2/") and path != "/api/v2/monitor/health":
            self._token = self._token or self.call("GET", "/auth/token")["access_token"]
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, headers, method=method)  # noqa: S310
        try:
            with self._opener.open(request, timeout=30) as response:
                return json.loads(response.read() or b"{}")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            detail = error.read().decode(errors="replace")[:300]
            raise ProblemError(f"Airflow answered {method} {path} with {error.code}: {detail}") from None


def answers(address: str) -> bool:
    """Tell whether an HTTP server listens there, whatever it says."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(address, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, http.client.HTTPException):
        return False
    return True


# --- processes -----------------------------------------------------------------------------------


class Processes:
    """Processes that are ended together with all that they started, whatever happens."""

    def __init__(self, place: Path) -> None:
        """Start with none; let no second run use the same place."""
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.logs = place / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self._lock = (place / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ProblemError(f"it is running already (it holds {shown(place / 'lock')})") from None

    def start(self, name: str, command: list[str], env: dict[str, str]) -> None:
        """Start one in a session of its own, so that Ctrl-C reaches it through here only."""
        with self.log(name).open("wb") as log:
            self._running[name] = subprocess.Popen(
                command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def log(self, name: str) -> Path:
        """Return where the process of this name logs."""
        return self.logs / f"{name}.log"

    def run(self, name: str, command: list[str], env: dict[str, str]) -> None:
        """Run a command to its end."""
        self.start(name, command, env)
        if self._running[name].wait():
            self.check()
        del self._running[name]

    def forget(self, name: str) -> int:
        """Take no more notice of the end of one, and leave it to the caller; return its id."""
        process = self._running.pop(name)
        return process.pid

    def check(self) -> None:
        """Fail if one has ended."""
        for name, process in self._running.items():
            if (code := process.poll()) is not None:
                raise ProblemError(
                    f"{name} ended with exit code {code}: {last_line(self.log(name))} "
                    f"(its log is {shown(self.log(name))})"
                )

    def wait_for(self, what: str, ready: Callable[[], Any], seconds: float, *, every: float = 0.3) -> Any:
        """Wait until `ready` returns something true, and return that; say now and then what is missing."""
        begun = told = time.monotonic()
        while not (result := ready()):
            self.check()
            now = time.monotonic()
            if now - begun > seconds:
                raise ProblemError(
                    f"waited {seconds:.0f} seconds for {what} in vain; the logs are in {shown(self.logs)}"
                )
            if now - told > 10:
                told = now
                say(f"... waiting for {what}")
            time.sleep(every)
        return result

    def kill(self, name: str) -> None:
        """Kill one and its descendants, without a warning."""
        started = self._running.pop(name)
        for process in (*psutil.Process(started.pid).children(recursive=True), psutil.Process(started.pid)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        started.wait()

    def stop(self) -> None:
        """End all of them and their descendants, politely first."""
        for how, seconds in ((signal.SIGTERM, 8), (signal.SIGKILL, 5)):
            family = list(self._family())
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(how)
            psutil.wait_procs(family, timeout=seconds)
        self._lock.close()
        left = list(self._family())
        for started in self._running.values():
            started.poll()
        self._running.clear()
        if left:
            raise ProblemError(f"could not end the processes {', '.join(str(process.pid) for process in left)}")

    def _family(self) -> Iterator[psutil.Process]:
        """Yield every live process of ours: by descent, and by session where a parent has died."""
        sessions = {process.pid for process in self._running.values()}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                ancestors = {process.pid, *(parent.pid for parent in process.parents())}
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if sessions & ancestors or os.getsid(process.pid) in sessions:
                    yield process

    def __enter__(self) -> "Processes":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all; a second Ctrl-C does not stop that."""
        ignore_signals()
        self.stop()


def last_line(log: Path) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


# --- the sandbox and Airflow ---------------------------------------------------------------------


def start_sandbox(processes: Processes, users: int, port: int) -> str:
    """Start an Aha! account of so many users; return the connection to it, as URI."""
    command = [sys.executable, "-m", "airflow_provider_aha.sandbox", "--users", str(users), "--port", str(port)]
    processes.start("sandbox", command, clean_environment())
    return f"aha://:sandbox-key@{LOOPBACK}:{port}/http"


def start_oomnitza(processes: Processes, port: int) -> None:
    """Start an Oomnitza to push to."""
    command = [sys.executable, "-m", "airflow_provider_aha.sandbox.oomnitza", "--port", str(port)]
    processes.start("oomnitza", command, clean_environment())


def clean_environment() -> dict[str, str]:
    """Return the environment without the settings of another Airflow, and with this one's programs first."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW_", "_AIRFLOW_"))
        or name in ("AIRFLOW_CONN_AHA_DEFAULT", "AIRFLOW_CONN_OOMNITZA_DEFAULT")
        or name.startswith("AIRFLOW_VAR_AHA_")
    }
    no_proxy = ",".join(filter(None, [kept.get("NO_PROXY") or kept.get("no_proxy"), LOOPBACK, "localhost"]))
    return kept | {
        "PATH": f"{BIN}{os.pathsep}{kept.get('PATH', '')}",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        "PYTHONUNBUFFERED": "1",
    }


def airflow_environment(home: Path, port: int) -> dict[str, str]:
    """Return the environment of a small Airflow that listens on the loopback interface only."""
    address = f"http://{LOOPBACK}:{port}"
    return clean_environment() | {
        "AIRFLOW_HOME": str(home),
        "AHA_WRITE_POOL": WRITE_POOL,
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__API__HOST": LOOPBACK,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(64),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        # On a busy machine the first answer takes longer than the default of 5 seconds: a try would be lost.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
    }


def migrate(processes: Processes, env: dict[str, str]) -> None:
    """Make Airflow's database, unless this version of Airflow in this checkout has made it already."""
    home = Path(env["AIRFLOW_HOME"])
    stamp, made_by = home / "migrated", f"Airflow {AIRFLOW_VERSION} in {ROOT}"
    if stamp.is_file() and stamp.read_text() == made_by:
        return
    say("Making Airflow's database (once)")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    processes.run("migrate", [str(BIN / "airflow"), "db", "migrate"], env)
    stamp.write_text(made_by)


def health(api: Api) -> bool:
    """Tell whether Airflow can run something."""
    try:
        parts = api.call("GET", "/api/v2/monitor/health")
    except (OSError, http.client.HTTPException, ProblemError):
        return False
    return all(parts[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))


def set_once(api: Api, kind: str, name: str, thing: dict[str, object]) -> None:
    """Create a connection, pool or variable unless there is one of that name."""
    if api.call("GET", f"/api/v2/{kind}/{name}") is None:
        api.call("POST", f"/api/v2/{kind}", thing)


def set_pool(api: Api) -> None:
    """Create the pool that lets one task at a time write to Aha!."""
    pool: dict[str, object] = {"name": WRITE_POOL, "slots": 1, "description": "Writes to Aha!, one at a time"}
    set_once(api, "pools", WRITE_POOL, pool)
