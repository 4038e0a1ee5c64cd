"""The form that drafts a mapping, on a real Airflow and a real table."""

import sqlite3
from pathlib import Path

import pytest

from airflow_provider_aha.push.mapping.spec import read_spec

DAG_FILE = Path(__file__).parents[2] / "dags" / "aha_suggest_mapping.py"


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_VAR_AHA_OUTPUT_PATH", str(tmp_path / "aha"))
    return tmp_path / "aha"


@pytest.fixture
def table(tmp_path, set_connection):
    """A table people of a SQLite database, and two connections to it."""
    path = tmp_path / "warehouse.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE people (aha_user_id TEXT PRIMARY KEY, email TEXT, badge INTEGER)")
    connection.close()
    for conn_id in ("aha_sql", "payroll"):
        set_connection(conn_id=conn_id, conn_type="sqlite", host=str(path))


@pytest.mark.slow
def test_the_form_shows_and_keeps_a_draft(registered, run_dag, everything_logged, output, table):
    run = run_dag(registered(DAG_FILE)["aha_suggest_mapping"], {"table": "people"})
    assert run.state == "success"
    result = run.xcom("suggest")
    path = output / "push" / "drafts" / "users_people.yaml"
    assert (result["path"], result["undecided"]) == (str(path), ["badge"])
    text = path.read_text()
    assert read_spec(text).launched is False
    said = everything_logged()
    assert text in said
    assert "Nothing was written to the target." in said


@pytest.mark.slow
def test_the_form_uses_no_other_connection(registered, run_dag, everything_logged, output, table, monkeypatch):
    dag = registered(DAG_FILE)["aha_suggest_mapping"]
    form = {"target_conn_id": "payroll", "table": "people"}
    assert run_dag(dag, form).state == "failed"
    assert "A form may not use the connection payroll" in everything_logged()
    assert not output.exists()
    monkeypatch.setenv("AIRFLOW_VAR_AHA_TARGET_CONN_IDS", '["payroll"]')
    assert run_dag(dag, form).state == "success"
