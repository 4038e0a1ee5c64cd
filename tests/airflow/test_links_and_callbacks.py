"""What a task shows beside its log: the link into Aha!, and the sentence of the failure callback."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import XCom

from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.callbacks import log_failure
from airflow_provider_aha.operators.links import KEY, AhaLink, address_of
from airflow_provider_aha.sandbox.testing import SandboxServer

DAGS = Path(__file__).parents[2] / "dags"


def link_of(run: Any, dag: Any, task_id: str, *, airflow_2: bool) -> str:
    """Return the link as Airflow shows it: 2 asks when a page is opened, 3 keeps what the worker found."""
    if airflow_2:
        instance = run.instance(task_id)
        return str(dag.get_task(task_id).get_extra_links(instance, AhaLink.name))
    return AhaLink().get_link(dag.get_task(task_id), ti_key=run.instance(task_id))


@pytest.mark.parametrize("by", ["id", "email"])
def test_a_task_about_one_user_leads_to_that_user(registered, run_dag, aha_default: SandboxServer, airflow_2, by):
    user = aha_default.account.user(aha_default.account.user_ids[7])
    dag = registered(DAGS / "aha_get_user.py")["aha_get_user"]
    run = run_dag(dag, {"user": user[by]})
    found = run.instance("get_user").xcom_pull(task_ids="get_user", key=KEY)
    assert found == {"address": aha_default.url, "user_id": user["id"]}
    with pytest.MonkeyPatch.context() as patch:
        if not airflow_2:
            patch.setattr(XCom, "get_value", lambda **_: found)
        assert link_of(run, dag, "get_user", airflow_2=airflow_2) == f"{aha_default.url}/users/{user['id']}"


@pytest.mark.parametrize(
    ("found", "link"),
    [
        ({"address": "https://acme.aha.io", "user_id": None}, "https://acme.aha.io/settings/account"),
        ({"address": "https://acme.use3.aha.io", "user_id": "17"}, "https://acme.use3.aha.io/users/17"),
        ({"address": "https://acme.aha.io", "user_id": "../17"}, "https://acme.aha.io/settings/account"),
        ({"address": "http://127.0.0.1:8765", "user_id": "17"}, "http://127.0.0.1:8765/users/17"),
        (None, ""),
        ("https://acme.aha.io", ""),
        ({}, ""),
        ({"address": "https://evil.example/acme.aha.io", "user_id": "17"}, ""),
        ({"address": "https://acme.aha.io.evil.example", "user_id": "17"}, ""),
        ({"address": "https://evil.example?.aha.io", "user_id": "17"}, ""),
        ({"address": "http://acme.aha.io", "user_id": "17"}, ""),
        ({"address": "http://127.0.0.1.evil.example", "user_id": "17"}, ""),
        ({"address": "javascript:alert(1)", "user_id": "17"}, ""),
    ],
)
def test_a_forged_xcom_leads_nowhere_else(monkeypatch, found, link):
    monkeypatch.setattr(XCom, "get_value", lambda **_: found)
    assert AhaLink().get_link(None, ti_key=None) == link


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        ({"host": "acme"}, "https://acme.aha.io"),
        ({"host": "acme.use3.aha.io"}, "https://acme.use3.aha.io"),
        ({"host": "acme", "extra": {"base_url": "https://gateway.example.com/aha"}}, "https://acme.aha.io"),
        ({"host": "127.0.0.1", "port": 8765, "schema": "http"}, "http://127.0.0.1:8765"),
    ],
)
def test_the_link_goes_where_people_look_not_to_the_gateway(fields, address):
    assert address_of(ClientConfig.from_connection(password="key", **fields)) == address


def test_every_task_of_the_example_dags_that_works_on_an_account_has_the_link(parse):
    from airflow_provider_aha.operators.base import AhaOperator
    from airflow_provider_aha.transfers.base import AhaPushOperator

    tasks = [task for dag in parse(DAGS).dags.values() for task in dag.tasks]
    # A push leads elsewhere.
    ours = [task for task in tasks if isinstance(task, AhaOperator) and not isinstance(task, AhaPushOperator)]
    ours += [task for task in tasks if "Approve" in type(task).__name__]
    assert len(ours) >= 10
    for task in ours:
        assert any(isinstance(link, AhaLink) for link in task.operator_extra_links), task


def context(**changes: Any) -> Any:
    instance = SimpleNamespace(
        dag_id="d", run_id="r1", task_id="t", map_index=-1, try_number=2, log_url="http://airflow/log", **changes
    )
    return {"ti": instance, "exception": ValueError("ann@example.com")}


def test_the_callback_says_what_failed_and_where_to_look_but_not_what_the_error_said(caplog):
    log_failure(context())
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    for word in ("Task t of DAG d", "run r1", "ValueError", "try 2", "http://airflow/log"):
        assert word in record.getMessage()
    assert "@" not in record.getMessage()


@pytest.mark.parametrize(("map_index", "named"), [(0, "Task t[0] of"), (3, "Task t[3] of"), (None, "Task t of")])
def test_a_mapped_task_is_named_by_its_index(caplog, map_index, named):
    found = context()
    found["ti"].map_index = map_index
    log_failure(found)
    assert named in caplog.text


def test_a_failed_run_says_so(registered, run_dag, aha_default: SandboxServer, everything_logged):
    dag = registered(DAGS / "aha_get_user.py")["aha_get_user"]
    run = run_dag(dag, {"user": "1" + aha_default.account.user_ids[-1]})
    assert run.state == "failed"
    assert "Task get_user of DAG aha_get_user failed in run" in everything_logged()
