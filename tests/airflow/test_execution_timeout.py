"""A task's `execution_timeout` in a real scheduler, in the middle of a write whose answer doesn't come."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from airflow_provider_aha.hooks.paths import resolve_path
from airflow_provider_aha.record.check import verify
from airflow_provider_aha.sandbox.testing import Account, SandboxServer
from tests.airflow.standalone import standalone

pytestmark = pytest.mark.slow
DAG_FILE = Path(__file__).parent / "dags" / "hung_write.py"
# A request that changes something is waited for: at most 5 times the read timeout.
CONNECT, READ = 2, 10


def test_the_task_ends_the_intent_is_on_disk_and_the_next_try_finishes_the_record(tmp_path):
    with SandboxServer(account=Account.generate(60)) as server:
        users = server.account.users()
        user_id = next(one["id"] for one in users if one["enabled"] and not one["administrator"])
        # Aha! disables the user at once, and sends a byte of the answer now and then.
        server.set_fault("dripped_body", method="PUT", pause=READ / 2, times=1)
        place = {"host": "127.0.0.1", "port": server.port, "schema": "http", "password": server.key}
        connection = {"conn_type": "aha", **place, "extra": {"timeout": [CONNECT, READ]}}
        base = tmp_path / "aha"
        given = {
            "TEST_USER": user_id,
            "AIRFLOW_VAR_AHA_OUTPUT_PATH": str(base),
            "AIRFLOW_CONN_AHA_DEFAULT": json.dumps(connection),
        }
        with standalone(tmp_path, [DAG_FILE], **given) as airflow:

            def task() -> tuple[str | None, int]:
                asked = "select state, try_number from task_instance where dag_id = 'test_hung_write'"
                return next(iter(airflow.query(asked)), (None, 0))

            def intents() -> list[str]:
                paths = base.glob("access/account=*/dag=*/run=*/task=write/events/*/*-intent-*.json")
                return [path.name.split("-")[0] for path in paths]

            airflow.wait_for("the write", lambda: any(one.method == "PUT" for one in server.requests))
            # The answer isn't there, and what was to be done is written down already.
            assert (task()[0], intents()) == ("running", ["1"])
            assert not server.account.user(user_id)["enabled"]
            airflow.wait_for("the first try to end", lambda: task()[0] != "running")
            airflow.wait_for("the second try to end", lambda: task()[0] in ("success", "failed"))
            assert task() == ("success", 2)
            logs = {path.name: path.read_text() for path in airflow.home.rglob("attempt=*.log")}
        assert "Timeout" in logs["attempt=1.log"]
        assert f"User {user_id}, disable: changed_after_crash" in logs["attempt=2.log"]
        assert [one.path.rpartition("/")[2] for one in server.requests if one.method == "PUT"] == [user_id]
        assert intents() == ["1"]
        (path,) = base.glob("access/account=*/dag=*/run=*/task=write/evidence.parquet")
        (row,) = pq.read_table(path, partitioning=None).to_pylist()
        assert (row["user_id"], row["outcome"], row["proof"]) == (user_id, "changed_after_crash", 3)
        assert verify(resolve_path(str(base)), row["account"]) == []
