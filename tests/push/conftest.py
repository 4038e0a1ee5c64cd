"""What the tests of the mapping share: a snapshot of one's own rows, and a push of it."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.api.ratelimit import Clock
from airflow_provider_aha.datasets.schemas import BY_DATASET
from airflow_provider_aha.datasets.snapshot import DatasetWriter
from airflow_provider_aha.push.mapping.spec import MappingSpec, read_spec
from airflow_provider_aha.push.push import PushRequest, push
from airflow_provider_aha.push.targets.base import Answer, Batch, Target
from airflow_provider_aha.push.targets.sql import SqlTarget
from airflow_provider_aha.record.run import Run
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import Store, to_json
from tests.push import databases

ACCOUNT, DAY = "acme", "2026-08-01"
SYNCED_AT = datetime(2026, 8, 1, 3, 40, tzinfo=UTC)


def user(number: int, **changes: Any) -> dict[str, Any]:
    """Return a row of ``users``."""
    return {
        "id": str(1000 + number),
        "name": f"Ada {number} Lovelace",
        "email": f"ada{number}@example.com",
        "is_enabled": True,
        "is_paid_seat": True,
        "is_administrator": False,
        "accessed_at": datetime(2026, 7, 1, tzinfo=UTC),
        "subdomain": ACCOUNT,
        "connection_id": "aha_default",
        "synced_at": SYNCED_AT,
        **changes,
    }


def users(count: int) -> list[dict[str, Any]]:
    return [user(number) for number in range(count)]


def mapping(**changes: Any) -> dict[str, Any]:
    """Return a small mapping of ``users``."""
    return {
        "version": 1,
        "name": "people",
        "dataset": "users",
        "launched": True,
        "sync_key": ["email"],
        "fields": {
            "email": {"source": "email", "transforms": ["strip", "lower"], "required": True, "unique": True},
            "name": "name",
        },
        **changes,
    }


class NoWaiting(Clock):
    """Notes how long somebody wanted to sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def sleep(self, seconds: float, stopped: Callable[[], bool] = bool) -> None:
        self.pauses.append(seconds)


class ListTarget(Target):
    """Keeps what it is sent; ``answer`` may be replaced to misbehave."""

    kind = "list"
    batch_size = 10

    def __init__(self, answer: Callable[[Batch], Any] | None = None) -> None:
        self.batches: list[list[dict[str, Any]]] = []
        self.ids: list[str] = []
        self.closed = self.finished = False
        self._answer = answer

    @property
    def name(self) -> str:
        return "test"

    def send(self, batch: Batch) -> Any:
        answers = self._answer(batch) if self._answer else [Answer("added")] * len(batch)
        self.batches.append(batch.records())
        self.ids.append(batch.id)
        return answers

    @property
    def emails(self) -> list[str]:
        return [record["email"] for batch in self.batches for record in batch]

    def finish(self) -> None:
        self.finished = True

    def close(self) -> None:
        self.closed = True


@dataclass
class World:
    """A base path with a snapshot, and pushes of it."""

    location: Store
    clock: NoWaiting = field(default_factory=NoWaiting)

    def land(self, rows: list[dict[str, Any]], dataset: str = "users") -> None:
        """Land rows as the snapshot of the day."""
        base = Path(self.location.path)
        layout = Layout(ACCOUNT)
        staged = base / "staged"
        staged.mkdir(parents=True, exist_ok=True)
        with DatasetWriter(staged, dataset) as writer:
            writer.write(pa.Table.from_pylist(rows, schema=BY_DATASET[dataset]))
            file = writer.finish()
        target = base / layout.dataset(dataset, DAY)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.path.replace(target)
        manifest = base / layout.manifest(DAY)
        manifest.parent.mkdir(parents=True, exist_ok=True)
        entry = {"dataset": dataset, "path": str(target), "rows": file.rows, "sha256": file.sha256}
        manifest.write_bytes(
            to_json({"account": ACCOUNT, "snapshot": DAY, "sandbox": True, "started_at": "x", "files": [entry]})
        )

    def push(
        self,
        spec: dict[str, Any] | MappingSpec,
        target: Target,
        *,
        run_id: str = "r1",
        try_number: int = 1,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Push the snapshot."""
        return push(
            PushRequest(
                location=self.location,
                account=ACCOUNT,
                snapshot=DAY,
                spec=spec if isinstance(spec, MappingSpec) else read_spec(spec),
                target=target,
                run=Run("d", run_id, "t", try_number, "ann"),
                dry_run=dry_run,
                clock=self.clock,
            )
        )

    def outcomes(self, run_id: str = "r1") -> list[dict[str, Any]]:
        """Read the outcomes of a run."""
        (path,) = Path(self.location.path).glob(f"push/*/account=acme/run={run_id}/task=d.t/outcomes.parquet")
        return list(pq.read_table(path).to_pylist())

    def summary(self, run_id: str = "r1") -> dict[str, Any]:
        """Read the summary of a run."""
        (path,) = Path(self.location.path).glob(f"push/*/account=acme/run={run_id}/task=d.t/push.json")
        return dict(json.loads(path.read_text()))


@pytest.fixture
def world(tmp_path: Path) -> World:
    base = str(tmp_path / "aha")
    return World(Store(LocalFileSystem(), base, base))


# --- databases -----------------------------------------------------------------------------------

PEOPLE = "CREATE TABLE people (email VARCHAR(100) PRIMARY KEY, name VARCHAR(100), note VARCHAR(100) DEFAULT 'mine')"


@dataclass
class Database:
    """A database, by an Airflow connection.

    :param kind: ``postgres``, ``mariadb`` or ``sqlite``.
    :param fields: of the connection.
    """

    kind: str
    fields: dict[str, Any]

    def connect(self) -> Any:
        if self.kind == "sqlite":
            return sqlite3.connect(self.fields["host"])
        if self.kind == "postgres":
            import psycopg2

            return psycopg2.connect(host=self.fields["host"], user="aha", dbname="postgres")
        import mysql.connector

        return mysql.connector.connect(host="127.0.0.1", port=self.fields["port"], user="root", database="test")

    def run(self, *statements: str) -> list[Any]:
        connection = self.connect()
        try:
            cursor = connection.cursor()
            rows: list[Any] = []
            for statement in statements:
                cursor.execute(statement)
                rows = cursor.fetchall() if cursor.description else []
            connection.commit()
            return rows
        finally:
            connection.close()

    def quoted(self, name: str) -> str:
        return f"`{name}`" if self.kind == "mariadb" else f'"{name}"'

    def rows(self, table: str, *columns: str) -> list[Any]:
        names = ", ".join(map(self.quoted, columns))
        return self.run(f"SELECT {names} FROM {self.quoted(table)} ORDER BY 1")

    def target(self, table: str = "people", *, create_table: bool = False) -> SqlTarget:
        from airflow_provider_aha.transfers.to_sql import AhaToSqlOperator

        operator = AhaToSqlOperator(
            task_id="push", mapping="users_table", sql_conn_id="test_sql", table=table, create_table=create_table
        )
        target = operator.make_target("acme", "2026-08-01")
        assert isinstance(target, SqlTarget)
        return target


def _started(start: Callable[[], Any]) -> Iterator[dict[str, Any]]:
    try:
        with start() as fields:
            yield fields
    except databases.MissingError as reason:
        pytest.skip(f"{reason}: see CONTRIBUTING.md, Databases for the tests")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[dict[str, Any]]:
    yield from _started(databases.postgres)


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[dict[str, Any]]:
    yield from _started(databases.mariadb)


def _database(kind: str, request: pytest.FixtureRequest, tmp_path: Path, set_connection: Any) -> Database:
    if kind == "sqlite":
        fields = {"conn_type": "sqlite", "host": str(tmp_path / "test.db")}
    else:
        fields = request.getfixturevalue(f"{kind}_server")
    set_connection(conn_id="test_sql", **fields)
    return Database(kind, fields)


@pytest.fixture(params=["postgres", "mariadb", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path, set_connection: Any) -> Iterator[Database]:
    found = _database(request.param, request, tmp_path, set_connection)
    yield found
    found.run(f"DROP TABLE IF EXISTS {found.quoted('people')}")


@pytest.fixture
def mariadb(request: pytest.FixtureRequest, tmp_path: Path, set_connection: Any) -> Iterator[Database]:
    found = _database("mariadb", request, tmp_path, set_connection)
    yield found
    found.run("DROP TABLE IF EXISTS people")


@pytest.fixture
def sqlite(request: pytest.FixtureRequest, tmp_path: Path, set_connection: Any) -> Database:
    return _database("sqlite", request, tmp_path, set_connection)


@pytest.fixture
def postgres(request: pytest.FixtureRequest, tmp_path: Path, set_connection: Any) -> Iterator[Database]:
    found = _database("postgres", request, tmp_path, set_connection)
    yield found
    found.run("DROP TABLE IF EXISTS people")
