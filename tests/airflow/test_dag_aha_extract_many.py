"""The DAG aha_extract_many, run by `dag.test()`: an account a task, and one that fails holds up no other."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_aha.datasets.names import DATASETS
from airflow_provider_aha.hooks.accounts import CONNECTIONS_VARIABLE, connection_ids
from airflow_provider_aha.sandbox.testing import SandboxServer

FILE = Path(__file__).parents[2] / "dags" / "aha_extract_many.py"
VARIABLE = f"AIRFLOW_VAR_{CONNECTIONS_VARIABLE.upper()}"


@pytest.fixture
def dag(registered: Callable[[Path], dict[str, Any]]) -> Any:
    return registered(FILE)["aha_extract_many"]


@pytest.fixture(scope="module")
def _second_sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(users=30, seed=1) as server:
        yield server


@pytest.fixture
def two(
    shared_sandbox: SandboxServer,
    _second_sandbox: SandboxServer,
    set_connection: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, SandboxServer]:
    """Two accounts, `127.0.0.1` and `localhost`: a sandbox's account is the name of its host."""
    set_connection(shared_sandbox.connection_uri, conn_id="aha_emea")
    set_connection(_second_sandbox.connection_uri.replace("127.0.0.1", "localhost"), conn_id="aha_us")
    monkeypatch.setenv(VARIABLE, '["aha_emea", "aha_us"]')
    _second_sandbox.forget_requests()
    return {"127.0.0.1": shared_sandbox, "localhost": _second_sandbox}


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW_VAR_AHA_OUTPUT_PATH", str(tmp_path / "aha"))
    return tmp_path / "aha"


def manifests_below(base: Path) -> dict[str, Any]:
    found = [json.loads(path.read_text()) for path in base.rglob("manifest.json")]
    return {manifest["account"]: manifest for manifest in found}


def check_users(manifest: dict[str, Any], server: SandboxServer) -> None:
    assert [file["dataset"] for file in manifest["files"]] == list(DATASETS)
    assert all(f"/account={manifest['account']}/" in file["path"] for file in manifest["files"])
    users = pq.read_table(manifest["files"][0]["path"], partitioning=None)
    assert users["id"].to_pylist() == server.account.user_ids


def states(run: Any) -> dict[int, str]:
    instances = run.dag_run.get_task_instances()
    return {one.map_index: str(one.state) for one in instances if one.task_id == "extract"}


def test_each_account_is_landed_and_announced_apart(dag, run_dag, two, base, events_of):
    run = run_dag(dag)
    assert run.state == "success"
    landed = manifests_below(base)
    assert landed.keys() == two.keys()
    for account, server in two.items():
        check_users(landed[account], server)
    events = [event for event in events_of("aha_extract_many") if event.source_run_id == run.dag_run.run_id]
    announced = sorted((event.extra["account"], event.extra) for event in events)
    assert len(announced) == len(DATASETS) * len(two)
    assert all(extra == landed[account] for account, extra in announced)


def test_accounts_that_fail_hold_up_no_other(dag, run_dag, two, base, set_connection, monkeypatch):
    """One key is refused and one host isn't Aha!'s; the account between them is landed."""
    set_connection(two["127.0.0.1"].connection_uri.replace(two["127.0.0.1"].key, "wrong-key"), conn_id="aha_emea")
    set_connection(conn_id="aha_slip", host="mycompany.com", password="a-key")
    monkeypatch.setenv(VARIABLE, '["aha_emea", "aha_us", "aha_slip"]')
    run = run_dag(dag)
    assert run.state == "failed"
    assert states(run) == {0: "failed", 1: "success", 2: "failed"}
    landed = manifests_below(base)
    assert landed.keys() == {"localhost"}
    check_users(landed["localhost"], two["localhost"])


def test_a_form_chooses_among_the_listed_accounts(dag, run_dag, two, base):
    run = run_dag(dag, {"aha_conn_ids": ["aha_us"]})
    assert run.state == "success"
    assert manifests_below(base).keys() == {"localhost"}
    assert two["127.0.0.1"].requests == []


def test_a_form_names_no_connection_that_is_not_listed(dag, run_dag, two, base, monkeypatch):
    monkeypatch.setenv(VARIABLE, '["aha_emea"]')
    run = run_dag(dag, {"aha_conn_ids": ["aha_emea", "aha_us"]})
    assert run.state == "failed"
    assert not base.exists()
    assert [*two["127.0.0.1"].requests, *two["localhost"].requests] == []


# --- which connections ---------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [None, "", "None", ["aha_emea", "aha_us"], '["aha_us", "aha_emea", "aha_us"]'])
def test_every_account_once(two, chosen):
    assert sorted(connection_ids(chosen)) == ["aha_emea", "aha_us"]


@pytest.mark.parametrize(
    ("listed", "chosen", "said"),
    [
        (None, None, "set the Variable aha_conn_ids"),
        ("[]", None, "set the Variable aha_conn_ids"),
        ("aha_emea", None, "The Variable aha_conn_ids must be a list"),
        ('["aha_emea"]', '{"a": 1}', "aha_conn_ids must be a list"),
        ('["aha_emea"]', ["aha_us"], "doesn't list all that were chosen; it lacks no. 1"),
        ('["aha_emea", "aha_us", "aha_again"]', None, "aha_emea and aha_again both lead to the account 127.0.0.1"),
    ],
)
def test_a_list_that_can_not_be_right_is_refused_in_a_sentence(
    two, listed, chosen, said, monkeypatch, set_connection
):
    set_connection(two["127.0.0.1"].connection_uri, conn_id="aha_again")
    monkeypatch.delenv(VARIABLE)
    if listed is not None:
        monkeypatch.setenv(VARIABLE, listed)
    with pytest.raises(AirflowFailException, match=said):
        connection_ids(chosen)
    assert two["127.0.0.1"].requests == []
