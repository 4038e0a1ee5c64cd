"""The DAG that pushes to Oomnitza, in a real Airflow, from the Aha! sandbox to the one of Oomnitza."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from airflow_provider_aha.sandbox.testing import OomnitzaSandbox
from tests.airflow.test_asset_events import AIRFLOW_2, Scheduler

DAGS = Path(__file__).parents[2] / "dags"
NAME = "aha_push_to_oomnitza"
MAPPINGS = ("people", "saas_users")
FAST = "?requests_per_second=10000&requests_per_minute=1000000"


@pytest.fixture
def base(registered, run_dag, aha_default, tmp_path, monkeypatch):
    """A base path with a snapshot, as the Variable."""
    monkeypatch.setenv("AIRFLOW_VAR_AHA_OUTPUT_PATH", str(tmp_path / "aha"))
    assert run_dag(registered(DAGS / "aha_extract.py")["aha_extract"]).state == "success"
    return tmp_path / "aha"


@pytest.fixture
def oomnitza(oomnitza_sandbox, set_connection, monkeypatch):
    set_connection(oomnitza_sandbox.connection_uri + FAST, conn_id="oomnitza_default")
    monkeypatch.setenv("AIRFLOW_VAR_AHA_OOMNITZA_ROLE", "25")
    return oomnitza_sandbox


@pytest.fixture
def launch(registered, tmp_path):
    """Call it for the DAG as somebody has copied and launched it, perhaps under another id."""

    def copy(dag_id: str = NAME) -> Any:
        folder = tmp_path / "dags"
        folder.mkdir()
        for mapping in MAPPINGS:
            draft = (DAGS / f"{NAME}_{mapping}.yaml").read_text()
            (folder / f"{NAME}_{mapping}.yaml").write_text(draft.replace("launched: false", "launched: true"))
        file = folder / f"{dag_id}.py"
        file.write_text((DAGS / f"{NAME}.py").read_text().replace(f'dag_id="{NAME}"', f'dag_id="{dag_id}"'))
        return registered(file)[dag_id]

    return copy


@pytest.fixture
def launched(launch):
    return launch()


def writes(server: OomnitzaSandbox) -> list[str]:
    return [seen.method for seen in server.requests if seen.method != "GET"]


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_mapping_beside_the_dag_is_the_ready_one_as_a_draft(mapping):
    ready = files("airflow_provider_aha.push.mapping").joinpath("ready", f"oomnitza_{mapping}.yaml").read_text()
    draft = (DAGS / f"{NAME}_{mapping}.yaml").read_text()
    assert "launched: true\n" in ready
    lines = [line for line in draft.splitlines() if not line.startswith("# Draft: ")]
    assert "\n".join(lines) + "\n" == ready.replace("launched: true", "launched: false")


def test_draft_says_what_it_would_do_and_writes_nothing(registered, run_dag, base, oomnitza):
    run = run_dag(registered(DAGS / f"{NAME}.py")[NAME])
    assert run.state == "success"
    (summary,) = run.xcom("push_people")
    assert (summary["launched"], summary["dry_run"], summary["ended"]) == (False, True, "completed")
    assert summary["expected"]["added"] > 400
    assert writes(oomnitza) == []


def test_launched_dag_fills_oomnitza_and_then_leaves_it_alone(launched, run_dag, base, oomnitza, everything_logged):
    run = run_dag(launched)
    assert run.state == "success"
    (people,), (saas_users,) = run.xcom("push_people"), run.xcom("push_saas_users")
    # Some people of the sandbox have two users with the same email: which one is meant, nobody can tell.
    added, invalid = people["counts"]["added"], people["counts"]["invalid"]
    assert added + invalid == 450
    assert len(oomnitza.instance.list_people()) == 3 + added
    assert saas_users["counts"]["added"] == len(oomnitza.instance.saas_users) > 300
    assert saas_users["counts"]["added"] + saas_users["counts"]["skipped"] + invalid == 450
    roles = [role["role_external_id"] for role in oomnitza.instance.saas_roles.values()]
    assert len(roles) == len(set(roles))
    assert {"product_owner", "contributor", "viewer"} <= set(roles)

    outcomes = pq.read_table(people["outcomes"]["path"]).to_pylist()
    emails = {row["sync_key"] for row in outcomes} | {one["email"] for one in oomnitza.instance.list_people()}
    said = everything_logged() + json.dumps([people, saas_users])
    assert not [email for email in emails if email and email in said]
    assert oomnitza.token not in said

    oomnitza.forget_requests()
    again = run_dag(launched)
    assert again.state == "success"
    assert again.xcom("push_people")[0]["counts"] == {"unchanged": added, "invalid": invalid}
    assert writes(oomnitza) == []


@pytest.mark.slow
def test_extract_starts_it_by_its_assets(registered, run_dag, database, launch, base, oomnitza):
    """What other tests have announced, or still wait for, is theirs: this DAG has an id of its own."""
    dag = launch("test_chain_to_oomnitza")
    scheduler = Scheduler(database)
    scheduler.activate(dag.dag_id)
    assert run_dag(registered(DAGS / "aha_extract.py")["aha_extract"]).state == "success"
    started, events = scheduler.run_due(dag)
    assert str(started.run_type).endswith("dataset_triggered" if AIRFLOW_2 else "asset_triggered")
    assert events
    people, saas_users = (started.get_task_instance(task_id) for task_id in ("push_people", "push_saas_users"))
    assert people.xcom_pull(task_ids="push_people")[0]["counts"]["added"] > 400
    assert saas_users.xcom_pull(task_ids="push_saas_users")[0]["counts"]["added"] > 300
    assert len(oomnitza.instance.saas_users) > 300


def test_form_makes_a_dry_run_of_a_launched_dag(launched, run_dag, base, oomnitza):
    run = run_dag(launched, {"dry_run": True, "role": "30"})
    assert run.state == "success"
    assert run.xcom("push_people")[0]["dry_run"] is True
    assert writes(oomnitza) == []


def test_role_of_the_form_comes_before_the_variable(launched, run_dag, base, oomnitza):
    assert run_dag(launched, {"role": "30"}).state == "success"
    assert {one["role"] for one in oomnitza.instance.list_people()} == {25, 30}


@pytest.mark.parametrize("role", ["IT administrator", "  it  ADMINISTRATOR ", "30"])
def test_a_role_is_named_as_oomnitza_names_it(launched, run_dag, base, oomnitza, role):
    assert run_dag(launched, {"role": role}).state == "success"
    assert {one["role"] for one in oomnitza.instance.list_people()} == {25, 30}


@pytest.mark.parametrize(
    ("variable", "sentence"),
    [
        ("", "no value was given for role"),
        ("Chief", "has no role of this name; there are System administrator (1), Employee (25), IT admin"),
        ("26", "has no role of the number that fields.role gives to new people; there are System admin"),
    ],
)
def test_role_that_cannot_be_right_fails_at_once(
    launched, run_dag, base, oomnitza, monkeypatch, everything_logged, variable, sentence
):
    monkeypatch.setenv("AIRFLOW_VAR_AHA_OOMNITZA_ROLE", variable)
    run = run_dag(launched)
    assert run.state == "failed"
    assert run.instance("push_people").state == "failed"
    said = everything_logged()
    assert sentence in said
    assert "Chief" not in said
    assert not writes(oomnitza)


def test_refused_token_fails_at_once_and_names_the_connection(launched, run_dag, base, oomnitza, everything_logged):
    oomnitza.instance.tokens.clear()
    run = run_dag(launched)
    assert run.instance("push_people").state == "failed"
    said = everything_logged()
    assert "refused the API token (401)" in said
    assert "Airflow connection: oomnitza_default" in said
