"""The DAGs that push: started by the asset of an extract, or by a person, on a real Airflow and real targets."""

import json
import re
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from airflow_provider_aha.sandbox.testing import SandboxServer
from tests.airflow.test_asset_events import Scheduler

DAGS = Path(__file__).parents[2] / "dags"


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base path of the test's own, as the Variable."""
    monkeypatch.setenv("AIRFLOW_VAR_AHA_OUTPUT_PATH", str(tmp_path / "aha"))
    return tmp_path / "aha"


@pytest.fixture
def table(tmp_path: Path, set_connection: Any) -> Path:
    """A SQLite database, as the connection of the DAG."""
    path = tmp_path / "warehouse.db"
    set_connection(conn_id="aha_sql", conn_type="sqlite", host=str(path))
    return path


@pytest.fixture
def launched(tmp_path: Path, registered: Any) -> Any:
    """Call it with the name of a DAG to copy its files and launch its mapping there, as its page says."""

    def launch(name: str) -> Any:
        folder = tmp_path / "dags"
        folder.mkdir(exist_ok=True)
        for file in DAGS.glob(f"{name}.*"):
            shutil.copy(file, folder)
        mapping = folder / f"{name}.yaml"
        text, number = re.subn(r"^launched: false$", "launched: true", mapping.read_text(), flags=re.MULTILINE)
        assert number == 1
        mapping.write_text(text)
        return registered(folder / f"{name}.py")[name]

    return launch


def rows(path: Path) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT aha_user_id, is_enabled FROM aha_users ORDER BY 1").fetchall()
    finally:
        connection.close()


@pytest.mark.slow
def test_an_extract_starts_the_push_to_sql(
    registered, run_dag, launched, database, aha_default: SandboxServer, output, table
):
    push = launched("aha_push_to_sql")
    extract = registered(DAGS / "aha_extract.py")["aha_extract"]
    scheduler = Scheduler(database)
    scheduler.activate("aha_push_to_sql")
    landed = run_dag(extract)
    assert landed.state == "success"

    started, _ = scheduler.run_due(push)
    (summary,) = started.get_task_instance("push").xcom_pull(task_ids="push")
    users = list(aha_default.account.users())
    assert (summary["ended"], summary["counts"], summary["sandbox"]) == ("completed", {"added": len(users)}, True)
    assert rows(table) == sorted((user["id"], user["enabled"]) for user in users)
    assert Path(summary["outcomes"]["path"]).is_relative_to(output)

    # A person starts it: nothing has changed since.
    (again,) = run_dag(push).xcom("push")
    assert again["counts"] == {"unchanged": len(users)}
    (dry,) = run_dag(push, {"dry_run": True}).xcom("push")
    assert (dry["dry_run"], dry["counts"]) == (True, {"unchanged": len(users)})


@pytest.mark.slow
def test_a_draft_says_what_it_would_do_and_writes_nothing(registered, run_dag, aha_default, output, table):
    assert run_dag(registered(DAGS / "aha_extract.py")["aha_extract"]).state == "success"
    run = run_dag(registered(DAGS / "aha_push_to_sql.py")["aha_push_to_sql"])
    (summary,) = run.xcom("push")
    count = len(list(aha_default.account.users()))
    assert (summary["dry_run"], summary["counts"], summary["expected"]) == (
        True,
        {"planned": count},
        {"added": count},
    )
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        rows(table)


class Endpoint(BaseHTTPRequestHandler):
    """Keeps what it is sent."""

    seen: list[tuple[str, Any]]

    def do_PUT(self) -> None:
        self.seen.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def endpoint(set_connection: Any) -> Iterator[list[tuple[str, Any]]]:
    """An HTTP endpoint, as the connection of the DAG; what it was sent."""
    seen: list[tuple[str, Any]] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Endpoint,), {"seen": seen}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    set_connection(
        conn_id="aha_http", conn_type="http", host="127.0.0.1", schema="http", port=server.server_address[1]
    )
    yield seen
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.slow
def test_the_push_to_http(
    registered, run_dag, launched, aha_default: SandboxServer, output, endpoint, everything_logged
):
    assert run_dag(registered(DAGS / "aha_extract.py")["aha_extract"]).state == "success"
    push = launched("aha_push_to_http")
    (summary,) = run_dag(push).xcom("push")
    users = list(aha_default.account.users())
    assert summary["counts"] == {"sent": len(users)}
    assert [path for path, _ in endpoint] == [f"/users/{user['id']}" for user in users]
    outcomes = pq.read_table(summary["outcomes"]["path"], partitioning=None).to_pylist()
    assert [row["user_id"] for row in outcomes] == [user["id"] for user in users]
    text = everything_logged()
    assert not any(user["email"] in text for user in users)
