"""The DAG aha_extract, run by `dag.test()` on a real Airflow against the sandbox."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from airflow_provider_aha.datasets.names import DATASETS
from airflow_provider_aha.sandbox.testing import SandboxServer

FILE = Path(__file__).parents[2] / "dags" / "aha_extract.py"


@pytest.fixture
def dag(registered: Callable[[Path], dict[str, Any]]) -> Any:
    return registered(FILE)["aha_extract"]


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base path of the test's own, as the Variable."""
    monkeypatch.setenv("AIRFLOW_VAR_AHA_OUTPUT_PATH", str(tmp_path / "variable"))
    return tmp_path / "variable"


def check_landed(manifest: dict[str, Any], base: Path, sandbox: SandboxServer) -> None:
    assert [file["dataset"] for file in manifest["files"]] == list(DATASETS)
    assert manifest["sandbox"] is True
    for file in manifest["files"]:
        assert Path(file["path"]).is_relative_to(base)
        assert pq.ParquetFile(file["path"]).metadata.num_rows == file["rows"]
    users = pq.read_table(manifest["files"][0]["path"], partitioning=None)
    assert users["id"].to_pylist() == sandbox.account.user_ids
    (file,) = base.rglob("manifest.json")
    assert json.loads(file.read_text()) == manifest


# --- where the connection is ---------------------------------------------------------------------


def test_connection_in_the_environment(dag, run_dag, aha_default: SandboxServer, output):
    run = run_dag(dag)
    assert run.state == "success"
    check_landed(run.xcom("extract"), output, aha_default)


def test_connection_in_the_database(dag, run_dag, shared_sandbox: SandboxServer, store_connection, output):
    store_connection("aha_default", uri=shared_sandbox.connection_uri)
    run = run_dag(dag)
    assert run.state == "success"
    check_landed(run.xcom("extract"), output, shared_sandbox)


@pytest.mark.usefixtures("forget_secrets_backend")
def test_connection_in_the_local_secrets_backend(dag, run_dag, shared_sandbox: SandboxServer, output, tmp_path):
    file = tmp_path / "connections.json"
    file.write_text(json.dumps({"aha_default": shared_sandbox.connection_uri}))
    run = run_dag(dag, conn_file_path=str(file))
    assert run.state == "success"
    check_landed(run.xcom("extract"), output, shared_sandbox)


# --- where the files go --------------------------------------------------------------------------


def test_path_of_the_form_comes_first(dag, run_dag, aha_default: SandboxServer, output, tmp_path):
    run = run_dag(dag, {"aha_output_path": str(tmp_path / "form")})
    check_landed(run.xcom("extract"), tmp_path / "form", aha_default)
    assert not output.exists()


def test_without_path_and_variable_files_go_to_airflows_home(dag, run_dag, aha_default, tmp_path, monkeypatch):
    """Looked up when the task runs: the DAG was parsed before the home was set."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "home"))
    run = run_dag(dag)
    check_landed(run.xcom("extract"), tmp_path / "home" / "aha", aha_default)


def test_relative_path_of_the_form_fails_the_task(dag, run_dag, aha_default: SandboxServer, output):
    run = run_dag(dag, {"aha_output_path": "data/aha"})
    assert run.state == "failed"
    assert aha_default.requests == []
    assert not output.exists()


# --- runs ----------------------------------------------------------------------------------------


def test_two_runs_of_a_day_leave_one_snapshot(dag, run_dag, aha_default: SandboxServer, output):
    first, second = (run_dag(dag).xcom("extract") for _ in range(2))
    assert first["snapshot"] == second["snapshot"]
    check_landed(second, output, aha_default)


def test_run_without_logical_date(dag, run_dag, aha_default: SandboxServer, output, airflow_2):
    """What Trigger in the user interface of Airflow 3 makes."""
    if airflow_2:
        pytest.skip("every run of Airflow 2 has a logical date")
    run = run_dag(dag, logical_date=None)
    assert run.dag_run.logical_date is None
    check_landed(run.xcom("extract"), output, aha_default)


def test_refused_key_fails_without_retries(dag, run_dag, shared_sandbox: SandboxServer, set_connection, output):
    set_connection(shared_sandbox.connection_uri.replace(shared_sandbox.key, "wrong-key"))
    run = run_dag(dag)
    assert run.state == "failed"
    assert run.instance("extract").state == "failed"
    assert not output.exists()


def test_key_names_and_emails_stay_out_of_everything_that_is_logged(
    dag, run_dag, aha_default: SandboxServer, output, everything_logged
):
    """`dag.test()` masks nothing, so what isn't there was never logged."""
    run = run_dag(dag)
    said = everything_logged()
    users = pq.read_table(run.xcom("extract")["files"][0]["path"], partitioning=None)
    assert "450 rows in" in said
    assert '"GET /users HTTP/1.1" 200' in said
    assert aha_default.key not in said
    for name in ("name", "email"):
        assert not [value for value in users[name].to_pylist() if value and value in said]


# --- how it is described -------------------------------------------------------------------------


def test_options_of_the_dag(parse):
    dag = parse(FILE).dags["aha_extract"]
    assert (dag.catchup, dag.max_active_runs, set(dag.tags)) == (False, 1, {"aha", "read"})
    assert dag.start_date <= datetime.now(UTC)
    assert dag.params.dump() == {"aha_conn_id": "aha_default", "aha_output_path": None}
    task, confirm = dag.tasks
    assert (task.downstream_task_ids, confirm.downstream_task_ids) == ({"confirm"}, set())
    assert (task.retries, confirm.outlets) == (2, [])
    assert [asset.uri.rstrip("/") for asset in task.outlets] == [f"aha://{name}" for name in DATASETS]
