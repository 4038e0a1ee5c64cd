"""Pushes to targets that fail: a JSON endpoint on a real socket, and a SQLite file."""

import json
import random
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from airflow_provider_aha.exceptions import AhaError
from airflow_provider_aha.push.targets.http import Endpoint, HttpTarget, Success
from airflow_provider_aha.push.targets.sql import SqlTarget
from tests.chaos import chaos
from tests.push.conftest import World as Pushes
from tests.push.conftest import mapping, user

SAID_TO_BE_THERE = ("added", "updated", "unchanged", "sent")
NAMES = ("Ada", "Bob", "=1+1", "O'Neil", 'say "hi"', "😀", "nul\0byte")


def some_users(chance: random.Random) -> list[dict[str, Any]]:
    return [user(number, name=chance.choice(NAMES)) for number in range(chance.randint(1, 14))]


def outcomes_of(pushes: Pushes, run_id: str) -> dict[str, dict[str, Any]] | None:
    """Return the outcomes of a run by email, each once; None where it came to none."""
    paths = list(Path(pushes.location.path).glob(f"push/*/account=acme/run={run_id}/task=d.t/outcomes.parquet"))
    if not paths:
        return None
    rows = pq.read_table(paths[0]).to_pylist()
    found = {row["sync_key"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def forget_sent(pushes: Pushes) -> None:
    """Leave a run as one that was killed before it could say what the target has."""
    for path in Path(pushes.location.path).glob("push/*/account=acme/sent/*"):
        path.unlink()


# --- a JSON endpoint -------------------------------------------------------------------------------------


@dataclass
class Directory:
    """Keeps the records that it is sent by email; fails as a run's seed says.

    :param refused: emails that it doesn't want.
    :param poison: emails on which it fails, always.
    """

    chance: random.Random = field(default_factory=random.Random)
    there: dict[str, Any] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    poison: set[str] = field(default_factory=set)
    seen: list[str] = field(default_factory=list)
    faults: int = 0
    results: bool = False
    port: int = 0

    def answer(self, body: Any) -> tuple[int, Any] | None:
        """Take records or not; None: the connection ends without an answer."""
        records = body if isinstance(body, list) else [body]
        emails = [record["email"] for record in records]
        self.seen += emails
        if self.poison & set(emails):
            return 500, {"trace": emails}
        fault = self.chance.choice(("busy", "failed", "slow down", "cut", "lost")) if self._fails() else None
        if fault in ("busy", "failed", "slow down"):
            return {"busy": 503, "failed": 500, "slow down": 429}[str(fault)], {}
        if fault == "cut":
            return None
        refused = [email for email in emails if email in self.refused]
        if refused and not self.results:
            return self.chance.choice((422, 400)), {"errors": refused}
        for record in records:
            if record["email"] not in self.refused:
                self.there[record["email"]] = record
        each = [{"errors": ["no"] if email in self.refused else None} for email in emails]
        return None if fault == "lost" else (200, {"results": each})

    def _fails(self) -> bool:
        if self.faults and self.chance.random() < 0.4:
            self.faults -= 1
            return True
        return False


@contextmanager
def directory() -> Iterator[Directory]:
    """Serve a directory on loopback."""
    here = Directory()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body in one write: a second one would wait for the first one's acknowledgement.
        wbufsize = -1

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = here.answer(body)
            if found is None:
                self.close_connection = True
                return
            content = json.dumps(found[1]).encode()
            self.send_response(found[0])
            if found[0] == 429:
                self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    here.port = server.server_address[1]
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def push_to_http(chance: random.Random, arena: chaos.Arena) -> None:
    """Push records in up to three tries of a run, and in another one: what is said to be sent is there."""
    arena.new_account(chance)
    pushes = Pushes(arena.location)
    rows = some_users(chance)
    pushes.land(rows)
    wanted = {row["email"]: {"email": row["email"], "name": row["name"]} for row in rows}
    with directory() as here:
        here.chance = chance
        here.refused = {email for email in wanted if chance.random() < 0.1}
        here.poison = {email for email in wanted if chance.random() < 0.05} - here.refused
        here.results = chance.random() < 0.5
        batch = chance.random() < 0.5
        success = Success(results="results", errors="errors") if here.results and batch else Success()
        if here.results and not batch:
            here.results = False
        endpoint = Endpoint(f"http://127.0.0.1:{here.port}", batch=batch, success=success)

        def send(run_id: str, number: int) -> None:
            target = HttpTarget("directory", endpoint, batch_size=chance.choice((1, 3, 100)))
            try:
                pushes.push(mapping(limits={"max_reject_percent": 100}), target, run_id=run_id, try_number=number)
            except AhaError as error:
                chaos.told(error)

        acknowledged: set[str] = set()
        for number in range(1, chance.randint(1, 3) + 1):
            here.faults = chance.choice((0, 1, 3, 10, 50))
            here.seen.clear()
            if chance.random() < 0.5:
                forget_sent(pushes)
            send("r1", number)
            assert not acknowledged & set(here.seen), "what was acknowledged was sent again"
            acknowledged |= check_told(pushes, "r1", wanted, here)
        here.faults = 0
        here.seen.clear()
        send("r2", 1)
        assert not acknowledged & set(here.seen)
        told = check_told(pushes, "r2", wanted, here)
        if len(here.poison) < 5:
            assert told == wanted.keys() - here.refused - here.poison


def check_told(pushes: Pushes, run_id: str, wanted: dict[str, Any], here: Directory) -> set[str]:
    """Hold that outcomes tell what the directory has; return what was acknowledged."""
    assert all(wanted[email] == record for email, record in here.there.items())
    found = outcomes_of(pushes, run_id)
    assert found is not None
    assert found.keys() == wanted.keys()
    said = {email for email, row in found.items() if row["status"] in SAID_TO_BE_THERE}
    assert said <= here.there.keys()
    rejected = {email for email, row in found.items() if row["status"] == "rejected"}
    assert rejected <= here.refused
    assert {row["status"] for row in found.values()} <= {*SAID_TO_BE_THERE, "rejected", "failed"}
    return said


# --- a SQLite file ---------------------------------------------------------------------------------------


class Disturbed:
    """Opens a SQLite file whose statements are broken off now and then, or that somebody else has locked."""

    def __init__(self, chance: random.Random, path: Path) -> None:
        self._chance = chance
        self._path = path
        self.faults = 0
        self._lock: sqlite3.Connection | None = None

    def __call__(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=0)
        connection.set_progress_handler(self._break_off, self._chance.choice((50, 400)))
        return connection

    def _break_off(self) -> int:
        if self.faults and self._chance.random() < 0.2:
            self.faults -= 1
            return 1
        return 0

    def lock(self) -> None:
        self._lock = sqlite3.connect(self._path, timeout=0, isolation_level=None)
        self._lock.execute("BEGIN IMMEDIATE")

    def unlock(self, *_: Any) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


TABLE = (
    "CREATE TABLE people (email TEXT PRIMARY KEY, name TEXT CHECK (name <> 'Bob'), note TEXT DEFAULT 'mine')",
    "INSERT INTO people VALUES ('ada1@example.com', 'Old', 'keep me')",
    "INSERT INTO people VALUES ('someone@example.org', 'Else', 'keep me')",
)


def push_to_sql(chance: random.Random, arena: chaos.Arena) -> None:
    """Push rows in up to three tries of a run, and in another one: what is said to be written is there."""
    arena.new_account(chance)
    pushes = Pushes(arena.location)
    rows = some_users(chance)
    pushes.land(rows)
    wanted = {row["email"]: row["name"] for row in rows}
    path = arena.folder / "people.db"
    connect = Disturbed(chance, path)
    with sqlite3.connect(path) as connection:
        for statement in TABLE:
            connection.execute(statement)
    connection.close()
    pushes.clock.sleep = connect.unlock  # type: ignore[method-assign,assignment]
    mode = chance.choice(("upsert", "upsert", "insert", "update"))
    spec = mapping(limits={"max_reject_percent": 100}, mode=mode)

    def send(run_id: str, number: int) -> None:
        target = SqlTarget(connect, dialect="sqlite", placeholder="?", connection="test", table="people")
        target.batch_size = chance.choice((1, 3, 100))
        try:
            pushes.push(spec, target, run_id=run_id, try_number=number)
        except AhaError as error:
            chaos.told(error)
        finally:
            connect.unlock()

    for number in range(1, chance.randint(1, 3) + 1):
        connect.faults = chance.choice((0, 1, 2, 5))
        if chance.random() < 0.3:
            connect.lock()
        send("r1", number)
        check_table(path, wanted, outcomes_of(pushes, "r1"), mode)
    connect.faults = 0
    send("r2", 1)
    found = outcomes_of(pushes, "r2")
    check_table(path, wanted, found, mode)
    assert found is not None
    assert {row["status"] for row in found.values()} <= {*SAID_TO_BE_THERE, "skipped", "rejected"}


def check_table(path: Path, wanted: dict[str, str], found: dict[str, Any] | None, mode: str) -> None:
    """Hold that the table has what outcomes say, that nobody else's row was touched, and no other column."""
    with sqlite3.connect(path) as connection:
        there = {email: (name, note) for email, name, note in connection.execute("SELECT * FROM people")}
    connection.close()
    assert there["someone@example.org"] == ("Else", "keep me")
    assert there["ada1@example.com"][1] == "keep me"
    new = there.keys() - {"someone@example.org", "ada1@example.com"}
    assert new <= wanted.keys()
    assert all(there[email] == (wanted[email], "mine") for email in new)
    assert mode != "update" or not new
    assert mode != "insert" or there["ada1@example.com"][0] == "Old"
    for email, row in (found or {}).items():
        if row["status"] in SAID_TO_BE_THERE:
            assert there[email][0] == wanted[email], row
        if row["status"] == "rejected":
            assert wanted[email] == "Bob"
        if row["status"] == "failed":
            # A batch that was broken off was taken back whole.
            assert email not in new, row
    assert found is None or found.keys() == wanted.keys()
