"""One run of the chaos test: what is done, which faults meet it, and what must hold whatever happens.

All choices of a run come from its seed. Threads may still take turns in another way, so a run with several
requests in flight is likely, not certain, to go the same way again.
"""

import logging
import random
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.api.ratelimit import Clock, never
from airflow_provider_aha.datasets.extract import extract
from airflow_provider_aha.datasets.names import DATASETS
from airflow_provider_aha.datasets.snapshot import Snapshot
from airflow_provider_aha.exceptions import AhaError, AhaSnapshotError
from airflow_provider_aha.push.mapping.spec import read_spec
from airflow_provider_aha.push.targets.oomnitza import people as oomnitza
from airflow_provider_aha.push.targets.oomnitza.client import OomnitzaClient
from airflow_provider_aha.push.targets.oomnitza.config import OomnitzaConfig
from airflow_provider_aha.push.targets.oomnitza.people import OomnitzaPeople
from airflow_provider_aha.record.evidence import FILE, read_evidence
from airflow_provider_aha.record.run import RunFolder
from airflow_provider_aha.sandbox.oomnitza.instance import Instance
from airflow_provider_aha.sandbox.setting import iso
from airflow_provider_aha.sandbox.testing import Account, OomnitzaSandbox, SandboxServer
from airflow_provider_aha.store.store import Store
from tests.push.conftest import World as Pushes
from tests.push.conftest import users

ACCOUNT = "acme"
KEYS = ("sandbox-key", "oomnitza-sandbox-token")
# Longer than any run on a busy machine takes: whoever needs more hangs.
LONGEST_SECONDS = 60.0
FIELDS = {
    "name": "name",
    "email": "email",
    "is_enabled": "enabled",
    "is_paid_seat": "paid_seat",
    "is_administrator": "administrator",
}
# Which key holds what is odd about a record.
SPOILED_VALUES = {
    "rights_list": "administrator_roles",
    "email_number": "email",
    "lone_surrogate": "name",
    **dict.fromkeys(("roles_null", "role_text", "role_float", "role_missing"), "product_roles"),
}
WRITE_FAULTS = (
    *("answer_lost", "answer_lost", "error_after_write", "odd_answer", "odd_answer", "late_write", "late_write"),
    *("update_ignored", "connection_reset", "lagging_read", "stale_read"),
)
SPOILED_KEYS = (
    *("id", "email", "name", "enabled", "created_at", "updated_at", "accessed_at", "paid_seat"),
    *("administrator", "administrator_roles", "user_roles", "product_roles"),
)

_REAL_TIME = time.time() - time.monotonic()


class AhaTime:
    """What time it is at Aha!: no worker's clock moves it, and it goes on while somebody waits."""

    def __init__(self) -> None:
        self.skipped = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return _REAL_TIME + time.monotonic() + self.skipped

    def skip(self, seconds: float) -> None:
        with self._lock:
            self.skipped += max(seconds, 0.0)

    def stamp(self) -> str:
        """Write the moment as Aha! does."""
        return iso(round(self() * 1000))


class _AhaConfig(ClientConfig):
    """A request has no end by the clock: what one thread's pause skips would end another thread's request."""

    @property
    def longest_request(self) -> float:
        return 10.0**9


class _OomnitzaConfig(OomnitzaConfig):
    """Likewise."""

    longest_request = _AhaConfig.longest_request


class ImpatientClock(Clock):
    """The real time, from which every sleep is cut out; at Aha! it passes all the same."""

    def __init__(self, elsewhere: AhaTime) -> None:
        super().__init__()
        self._skipped = 0.0
        self._lock = threading.Lock()
        self._elsewhere = elsewhere

    def monotonic(self) -> float:
        return super().monotonic() + self._skipped

    def time(self) -> float:
        # Here it passes as at Aha!, but for a clock that is wrong.
        return super().time() + self._elsewhere.skipped

    def sleep(self, seconds: float, stopped: Callable[[], bool] = never) -> None:
        super().sleep(0.0, stopped)
        self._elsewhere.skip(seconds)
        with self._lock:
            self._skipped += max(seconds, 0.0)


class Logged(logging.Handler):
    """Keeps everything that anybody logs."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.getMessage()} {record.exc_text or ''} {record.exc_info or ''}")


@dataclass
class Arena:
    """The servers that a run plays with; its accounts are its own."""

    aha: SandboxServer
    oomnitza: OomnitzaSandbox
    folder: Path
    time: AhaTime = field(default_factory=AhaTime)

    def new_account(self, chance: random.Random, sizes: Sequence[int] = (1, 9, 14, 24)) -> Account:
        # What an earlier run left on its way must not land in this one's account.
        self.aha.land()
        self.time = AhaTime()
        account = Account.generate(chance.choice(sizes), seed=chance.randrange(1000), clock=self.time)
        self.aha.account = self.aha.app.account = self.aha.app.state = account
        self.aha.clear_faults()
        self.aha.forget_requests()
        return account

    def new_instance(self, chance: random.Random) -> Instance:
        instance = Instance(chance.choice((0, 3)))
        self.oomnitza.instance = self.oomnitza.app.instance = self.oomnitza.app.state = instance
        self.oomnitza.clear_faults()
        self.oomnitza.forget_requests()
        return instance

    @property
    def location(self) -> Store:
        return Store(LocalFileSystem(), str(self.folder), str(self.folder))

    def client(self, chance: random.Random, **settings: Any) -> AhaClient:
        config = _AhaConfig(self.aha.url, ACCOUNT, self.aha.key, **{**_hurried(chance), **settings})
        return AhaClient(config, clock=ImpatientClock(self.time))

    def puts(self) -> list[tuple[str, Any]]:
        return [(one.path.rpartition("/")[2], one.body) for one in self.aha.requests if one.method == "PUT"]


def _hurried(chance: random.Random) -> dict[str, Any]:
    return {
        "page_size": 5,
        "requests_per_second": 1000,
        "requests_per_minute": 100_000,
        "max_in_flight": chance.choice((1, 2, 4)),
        "max_retries": chance.choice((0, 1, 3)),
        "retry_budget": chance.choice((1.0, 600.0)),
        "read_timeout": 10.0,
    }


def evidence_of(arena: Arena, folder: RunFolder) -> list[dict[str, Any]]:
    """Read the evidence of a task; empty where there is none."""
    place = arena.location.within(f"{folder.path}/{FILE}")
    return read_evidence(place) if place.exists() else []


# --- a run -----------------------------------------------------------------------------------------------


Play = Callable[[random.Random, Arena], None]


def play(seed: int, arena: Arena, plays: Sequence[Play] = ()) -> None:
    """Play the run of a seed.

    :param plays: what else there is to play.
    :raises AssertionError: when something doesn't hold; the sentence names the sort, the seed and the faults.
    """
    # What is played is drawn apart: so another sort of play changes nothing in the runs of the others.
    kind = random.Random(seed).choice((read, land, push, *plays))
    replay(kind, seed, arena)


def replay(kind: Play, seed: int, arena: Arena) -> None:
    """Play a run of a certain sort.

    :raises AssertionError: as :func:`play`.
    """
    chance = random.Random(f"{kind.__name__} {seed}")
    failed: list[str] = []

    def work() -> None:
        try:
            with _nothing_told(arena):
                kind(chance, arena)
        except BaseException:  # noqa: BLE001 (it is told in the thread of the test)
            failed.append(traceback.format_exc())

    shutil.rmtree(arena.folder, ignore_errors=True)
    arena.folder.mkdir(parents=True)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(LONGEST_SECONDS)
    if thread.is_alive():
        failed.append("it hangs")
    if failed:
        running = (*arena.aha.app.faults.active(), *arena.oomnitza.app.faults.active())
        active = [fault.describe() for fault in running]
        raise AssertionError(f"seed {seed} ({kind.__name__}), last faults {active}: {failed[0]}")


@contextmanager
def _nothing_told(arena: Arena) -> Iterator[None]:
    """Hold that no log has a key, a name or an email, and no file a key."""
    root, handler = logging.getLogger(), Logged()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    said = "\n".join(handler.lines)
    people = [str(user[name]) for user in arena.aha.account.users() for name in ("name", "email") if user.get(name)]
    assert not [word for word in (*KEYS, *people, "@example.com") if word in said]
    for path in arena.folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [key for key in KEYS if key.encode() in content], path


def spoil(server: Any, chance: random.Random) -> list[Any]:
    """Switch some faults on, in place of the earlier ones."""
    server.clear_faults()
    found = []
    for _ in range(chance.choice((0, 1, 1, 2, 2, 3, 4))):
        kind = server.app.kinds[chance.choice(sorted(server.app.kinds))]
        options = _options(kind, server, chance)
        options["times"] = options.get("times", chance.choice((1, 1, 2, 3, 8, None)))
        options["after"] = chance.choice((0, 0, 1, 2, 3, 5))
        if chance.random() < 0.3 or kind.name == "page_drift":
            options["page"] = chance.choice((1, 2, 2, 3))
        found.append(server.set_fault(kind.name, **options))
    return found


def spoil_writes(server: Any, chance: random.Random) -> None:
    """Switch faults on that make it hard to know what became of a write, in place of the earlier ones."""
    server.clear_faults()
    for name in chance.choices(WRITE_FAULTS, k=chance.choice((1, 1, 2))):
        options = _options(server.app.kinds[name], server, chance)
        server.set_fault(name, **options, times=chance.choice((1, 3, None, None)), after=chance.choice((0, 0, 1)))
    if chance.random() < 0.4:
        server.set_fault("error", status=502, method="GET", path="/users/[0-9]+", after=chance.randrange(8))


def _options(kind: Any, server: Any, chance: random.Random) -> dict[str, Any]:
    """Draw what is special about a fault."""
    name = kind.name
    options: dict[str, Any] = {option: chance.choice(values) for option, values in kind.choices.items()}
    if name in ("missing_key", "null_value"):
        options["key"] = chance.choice(SPOILED_KEYS)
    if name in ("page_drift", "list_drift"):
        options["times"] = chance.choice((1, 2))
    if name == "wrong_total":
        options["by"] = chance.choice((-1, 1, 2))
    if name == "slow":
        options["seconds"] = chance.choice((0.0, 0.01))
    if name in ("gzip_bomb", "huge_field"):
        options["megabytes"] = chance.choice((1, 1, 1, 3))
    if name == "gzip_bomb":
        options["times"] = 1
    if name == "error_after_write":
        # A refusal counts as one: nobody can know that the change was made all the same.
        options["status"] = chance.choice([status for status in kind.choices["status"] if status >= 500])
    if name == "dripped_body":
        options |= {"size": 10_000, "pause": 0.0}
    if name == "late_write":
        options["requests"] = chance.choice((1, 2, 4, 8, 100))
    if name == "lagging_read":
        options["reads"] = chance.choice((1, 2, 5))
    if name in ("huge_field", "odd_value") and chance.random() < 0.7:
        options["user"] = chance.choice(server.app.state.user_ids)
    if name == "rate_limit":
        options["reset_in"] = chance.choice((0.1, 5.0, 80.0))
    return options


def told(error: AhaError) -> str:
    """Return the sentence of an error, which holds nothing that a log must not."""
    sentence = f"{error} {error!r}"
    assert not [key for key in KEYS if key in sentence]
    return sentence


# --- reading ---------------------------------------------------------------------------------------------


def read(chance: random.Random, arena: Arena) -> None:
    """Read the list: complete, or an error."""
    account = arena.new_account(chance)
    faults = spoil(arena.aha, chance)
    with arena.client(chance) as client:
        try:
            found = [user["id"] for user in client.iter_users()]
        except AhaError as error:
            told(error)
            return
    check_complete(found, account, faults)


def land(chance: random.Random, arena: Arena) -> None:
    """Land a snapshot, perhaps over an earlier one: complete, or absent and the earlier one whole."""
    account = arena.new_account(chance)
    now = datetime.now(UTC)
    earlier: dict[str, Any] | None = None
    datasets = chance.sample(DATASETS, chance.randint(1, len(DATASETS)))
    with arena.client(chance) as client:
        if chance.random() < 0.5:
            then = now - timedelta(days=chance.choice((0, 1)))
            earlier = extract(client, arena.location, datasets=DATASETS, connection_id="c", now=lambda: then)
        if chance.random() < 0.5:
            for _ in range(3):
                account.edit_user(chance.choice(account.user_ids), enabled=chance.random() < 0.5)
        faults = spoil(arena.aha, chance)
        try:
            manifest = extract(client, arena.location, datasets=datasets, connection_id="c", now=lambda: now)
        except AhaError as error:
            told(error)
            manifest = None
    if manifest is None:
        check_files(arena, earlier, now)
        return
    check_files(arena, manifest, now)
    if "users" in datasets:
        rows = table(arena, manifest, "users")
        check_complete([row["id"] for row in rows], account, faults)
        check_values(rows, account, faults)
    if {"users", "user_roles"} <= set(datasets):
        assert {row["user_id"] for row in table(arena, manifest, "user_roles")} <= {row["id"] for row in rows}


def check_complete(found: list[str], account: Account, faults: list[Any]) -> None:
    """Hold that nobody is missing, but for one deleted and another created between two requests."""
    drifts = [fault for fault in faults if fault.kind.name == "page_drift"]
    changes = [fault.options["change"] for fault in drifts for _ in range(fault.hits)]
    gone = sum(change in ("remove", "swap") for change in changes)
    come = sum(change in ("insert", "swap") for change in changes)
    unseen = min(gone, come)
    assert len(found) == len(set(found))
    there = set(account.user_ids)
    assert len(there - set(found)) <= unseen, f"missing: {there - set(found)}"
    assert len(set(found) - there) <= unseen, f"too many: {set(found) - there}"


def check_values(rows: list[dict[str, Any]], account: Account, faults: list[Any]) -> None:
    """Hold that each value is what the account has, or null where Aha! left it out or sent what can't be right."""
    spoiled = {fault.options["key"] for fault in faults if "key" in fault.options}
    spoiled |= {SPOILED_VALUES[fault.options["what"]] for fault in faults if "what" in fault.options}
    # Any text is a name.
    spelled = {"name"} & spoiled
    # A page of the past, where the users were edited before.
    stale = any(fault.kind.name == "stale_read" for fault in faults)
    for row in rows:
        if row["id"] not in account:
            continue
        user = account.user(row["id"])
        for column, key in FIELDS.items():
            wanted = user.get(key)
            allowed = [wanted, None] if key in spoiled else [wanted]
            assert row[column] in allowed or key in spelled or stale, (row["id"], column)


def check_files(arena: Arena, manifest: dict[str, Any] | None, now: datetime) -> None:
    """Hold that the base path has exactly the snapshot of a manifest, or none of today."""
    if manifest is None:
        assert not list(arena.folder.rglob("*")), "something was left of a failed extract"
        return
    assert Snapshot.of(arena.location, ACCOUNT, manifest["snapshot"]).manifest == manifest
    for file in manifest["files"]:
        assert len(table(arena, manifest, file["dataset"])) == file["rows"]
    if manifest["snapshot"] != now.strftime("%Y-%m-%d"):
        try:
            Snapshot.of(arena.location, ACCOUNT, now.strftime("%Y-%m-%d"))
        except AhaSnapshotError:
            return
        raise AssertionError("a failed extract has published a manifest")


def table(arena: Arena, manifest: dict[str, Any], dataset: str) -> list[dict[str, Any]]:
    """Read a dataset; its hash is compared."""
    with Snapshot(arena.location, ACCOUNT, manifest).open(dataset) as file:
        return list(file.read().to_pylist())


# --- pushing ---------------------------------------------------------------------------------------------


def push(chance: random.Random, arena: Arena) -> None:
    """Push people to Oomnitza in up to three tries, then once more in peace: all are there, each once."""
    arena.new_account(chance)
    instance = arena.new_instance(chance)
    pushes = Pushes(arena.location)
    rows = users(chance.randint(1, 12))
    pushes.land(rows)
    written = yaml_spec() | {"limits": {"max_reject_percent": chance.choice((0, 100))}}
    spec = read_spec(written, {"role": 25})
    drifted = False
    for number in range(1, chance.randint(1, 3) + 1):
        faults = spoil(arena.oomnitza, chance)
        with oomnitza_client(chance, arena) as client:
            try:
                pushes.push(spec, OomnitzaPeople(client), try_number=number, dry_run=chance.random() < 0.1)
            except AhaError as error:
                told(error)
        drifted = drifted or any(fault.kind.name == "list_drift" and fault.hits for fault in faults)
        check_outcomes(pushes, instance, rows, lenient=drifted)
    arena.oomnitza.clear_faults()
    with oomnitza_client(chance, arena) as client:
        try:
            pushes.push(spec, OomnitzaPeople(client), run_id="r2")
        except AhaError:
            # Whoever was archived meanwhile keeps the username.
            assert drifted
    emails = [person["email"] for person in instance.list_people()]
    assert len(emails) == len(set(emails))
    if not drifted:
        there = {person["email"]: person for person in instance.list_people()}
        for row in rows:
            person = there[row["email"]]
            assert (person["aha_user_id"], person["full_name"]) == (row["id"], row["name"])


def check_outcomes(pushes: Pushes, instance: Instance, rows: list[dict[str, Any]], *, lenient: bool) -> None:
    """Hold that who is said to be there is there."""
    files = list(Path(pushes.location.path).glob("push/*/account=acme/run=r1/task=d.t/outcomes.parquet"))
    if not files:
        return
    people = {person["email"] for person in instance.list_people()}
    emails = {row["id"]: row["email"] for row in rows}
    for outcome in pq.read_table(files[0]).to_pylist():
        if outcome["status"] in ("added", "updated", "unchanged") and not lenient:
            assert emails[outcome["user_id"]] in people, outcome


def yaml_spec() -> dict[str, Any]:
    path = Path(oomnitza.__file__).parents[2] / "mapping" / "ready" / "oomnitza_people.yaml"
    return dict(yaml.safe_load(path.read_text()))


def oomnitza_client(chance: random.Random, arena: Arena) -> OomnitzaClient:
    settings = {**_hurried(chance), "page_size": 5}
    config = _OomnitzaConfig(arena.oomnitza.url, "acme", arena.oomnitza.token, **settings)
    return OomnitzaClient(config, clock=ImpatientClock(arena.time))
