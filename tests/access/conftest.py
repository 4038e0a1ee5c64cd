"""What the tests of writing share: a small account, a place for records on disk or S3, and who does what."""

import importlib.util
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_aha.access.decide.named import decide
from airflow_provider_aha.access.plan.plan import Decision
from airflow_provider_aha.access.write import carry_out as writes
from airflow_provider_aha.access.write.carry_out import carry_out
from airflow_provider_aha.access.write.guards import Caps, Protection
from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.api.ratelimit import Clock, never
from airflow_provider_aha.record.check import verify
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.sandbox.testing import SandboxServer
from airflow_provider_aha.store.store import Store

ACCOUNT = "acme"
NOW = datetime.now(UTC)
# 56 enabled users, so the percentage allows 11; three administrators, of whom one holds billing only.
USERS = 60


class ImpatientClock(Clock):
    """The real time, from which every sleep is cut out."""

    def __init__(self) -> None:
        super().__init__()
        self._skipped = 0.0
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        return super().monotonic() + self._skipped

    def sleep(self, seconds: float, stopped: Callable[[], bool] = never) -> None:
        super().sleep(0.0, stopped)
        with self._lock:
            self._skipped += max(seconds, 0.0)


@dataclass
class World:
    """An account, a client of it, and where the records of its changes lie."""

    server: SandboxServer
    client: AhaClient
    location: Store
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        """Name who there was at the start: enabled users with a paid seat and no rights, and administrators."""
        users = [user for user in self.server.account.users() if user["enabled"]]
        self.people = [user["id"] for user in users if user["paid_seat"] and not user["administrator"]]
        self.administrators = [user["id"] for user in users if user["administrator"]]
        self.owner = self.administrators[0]

    def user(self, user_id: str) -> dict[str, Any]:
        return dict(self.server.account.user(user_id))

    def is_enabled(self, user_id: str) -> bool:
        return bool(self.user(user_id)["enabled"])

    @property
    def puts(self) -> list[tuple[str, Any]]:
        """Ids and bodies of the updates that reached the server, in order."""
        return [(one.path.rpartition("/")[2], one.body) for one in self.server.requests if one.method == "PUT"]

    def run(self, run_id: str = "r1", try_number: int = 1, task_id: str = "t", requested_by: str = "ann") -> Run:
        return Run("d", run_id, task_id, try_number, requested_by)

    def folder(self, run_id: str = "r1", task_id: str = "t") -> RunFolder:
        return RunFolder(self.location, ACCOUNT, self.run(run_id, task_id=task_id))

    def decide(
        self,
        users: Sequence[str],
        changes: Mapping[str, Any] | None = None,
        action: str = "deactivate",
        facts: Mapping[str, Any] | None = None,
        **target: Any,
    ) -> Decision:
        """Decide as for named users; further arguments replace what each target says."""
        changes = {"enabled": False} if changes is None else changes
        decision = decide(self.client, users, changes, action=action, facts=facts or {})
        targets = [replace(one, **target) for one in decision.targets]
        return replace(
            decision, targets=targets, planned=action == "deactivate" and "plan_sha256" in decision.facts
        )

    def carry_out(
        self,
        decision: Decision,
        run_id: str = "r1",
        try_number: int = 1,
        *,
        task_id: str = "t",
        dry_run: bool = False,
        caps: Caps | None = None,
        protection: Protection | None = None,
        now: datetime | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Carry a decision out; the evidence by user id."""
        run = self.run(run_id, try_number, task_id)
        rows = carry_out(
            self.client,
            RunFolder(self.location, ACCOUNT, run),
            run,
            decision,
            caps=caps or Caps(),
            protection=protection or Protection(self.owner),
            dry_run=dry_run,
            now=lambda: now or self.now,
        )
        return {row["user_id"]: row for row in rows}

    def outcomes(self, decision: Decision, *arguments: Any, **options: Any) -> dict[str, str]:
        return {key: row["outcome"] for key, row in self.carry_out(decision, *arguments, **options).items()}

    def findings(self) -> list[str]:
        return verify(self.location, ACCOUNT)


def client_of(server: SandboxServer, **settings: Any) -> AhaClient:
    settings = {"requests_per_second": 1000, "requests_per_minute": 100_000, "max_retries": 2, **settings}
    config = ClientConfig(base_url=server.url, account=ACCOUNT, api_key=server.key, **settings)
    return AhaClient(config, clock=ImpatientClock())


@pytest.fixture
def small_sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(users=USERS) as server:
        yield server


@pytest.fixture
def world(small_sandbox: SandboxServer, local: Store) -> Iterator[World]:
    """A world whose records lie on the local disk."""
    with client_of(small_sandbox) as client:
        yield World(small_sandbox, client, local)


@pytest.fixture
def anywhere(small_sandbox: SandboxServer, location: Store) -> Iterator[World]:
    """A world whose records lie on the local disk, and another one with S3."""
    with client_of(small_sandbox) as client:
        yield World(small_sandbox, client, location)


# --- operators -----------------------------------------------------------------------------------


@pytest.fixture
def connected(
    small_sandbox: SandboxServer, set_connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> SandboxServer:
    """The sandbox, with ``aha_default`` as a connection that paces nothing and never tries again or waits."""
    monkeypatch.setattr(writes, "_REREAD_AFTER", (0.0, 0.0, 0.0))
    set_connection(
        host="127.0.0.1",
        port=small_sandbox.port,
        schema="http",
        password=small_sandbox.key,
        extra={"requests_per_second": 1000, "requests_per_minute": 100_000, "max_retries": 0},
    )
    return small_sandbox


@pytest.fixture
def context() -> Callable[..., Any]:
    """Call it for the context of a task instance."""

    def make(run_id: str = "r1", try_number: int = 1, task_id: str = "t", **dag_run: Any) -> dict[str, Any]:
        instance = SimpleNamespace(dag_id="d", run_id=run_id, task_id=task_id, map_index=-1, try_number=try_number)
        instance.xcom_push = lambda **_: None
        facts = {"run_type": "manual", "triggering_user_name": "ann", **dag_run}
        return {"ti": instance, "dag_run": SimpleNamespace(**facts)}

    return make


@pytest.fixture(scope="session")
def real_airflow() -> Any:
    """What the tests on a real Airflow share: ``register`` and ``Run``."""
    path = Path(__file__).parents[1] / "airflow" / "conftest.py"
    spec = importlib.util.spec_from_file_location("airflow_conftest", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
