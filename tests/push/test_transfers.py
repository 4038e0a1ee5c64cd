"""The operators that push: which snapshots they take, what a form may give them, and what they refuse."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_aha.assets import USER_ROLES, USERS
from airflow_provider_aha.datasets.schemas import USERS as SCHEMA
from airflow_provider_aha.datasets.snapshot import DatasetWriter
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import to_json
from airflow_provider_aha.transfers.to_file import AhaToFileOperator
from airflow_provider_aha.transfers.to_sql import AhaToSqlOperator
from tests.push.conftest import mapping, user


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW_VAR_AHA_OUTPUT_PATH", str(tmp_path / "aha"))
    return tmp_path / "aha"


def land(base: Path, account: str, day: str, *numbers: int) -> dict[str, Any]:
    """Land a snapshot; its manifest."""
    layout = Layout(account)
    (base / "staged").mkdir(parents=True, exist_ok=True)
    with DatasetWriter(base / "staged", "users") as writer:
        writer.write(pa.Table.from_pylist([user(number, subdomain=account) for number in numbers], schema=SCHEMA))
        file = writer.finish()
    target, manifest = base / layout.dataset("users", day), base / layout.manifest(day)
    for path in (target, manifest):
        path.parent.mkdir(parents=True, exist_ok=True)
    file.path.replace(target)
    entry = {"dataset": "users", "path": str(target), "rows": file.rows, "sha256": file.sha256}
    content = {"account": account, "snapshot": day, "started_at": f"{day}T03:40:00Z", "files": [entry]}
    manifest.write_bytes(to_json(content))
    return content


def context(*manifests: dict[str, Any]) -> Any:
    """Return the context of a task that these manifests have started."""
    instance = SimpleNamespace(dag_id="d", run_id="r1", task_id="push", map_index=-1, try_number=1)
    events = [SimpleNamespace(extra=manifest) for manifest in manifests]
    return {
        "ti": instance,
        "dag_run": SimpleNamespace(run_type="manual"),
        "triggering_asset_events": {"aha://users": events} if events else {},
        "inlet_events": {},
    }


def operator(base: Path, **options: Any) -> AhaToFileOperator:
    defaults = {"mapping": mapping(), "path": str(base / "{account}" / "users-{snapshot}.csv"), "inlets": [USERS]}
    return AhaToFileOperator(task_id="push", **{**defaults, **options})


def emails(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return [row["email"] for row in csv.DictReader(file)]


def test_every_account_that_started_the_run_is_pushed(base):
    first, second = land(base, "acme", "2026-08-01", 1), land(base, "umbrella", "2026-08-02", 2, 3)
    summaries = operator(base).execute(context(first, second))
    assert [(one["account"], one["counts"]) for one in summaries] == [
        ("acme", {"sent": 1}),
        ("umbrella", {"sent": 2}),
    ]
    assert emails(base / "acme" / "users-2026-08-01.csv") == ["ada1@example.com"]
    assert emails(base / "umbrella" / "users-2026-08-02.csv") == ["ada2@example.com", "ada3@example.com"]


def test_one_file_is_not_written_for_two_accounts(base):
    first, second = land(base, "acme", "2026-08-01", 1), land(base, "umbrella", "2026-08-02", 2)
    with pytest.raises(AirflowFailException, match=r"put \{account\} into it"):
        operator(base, path=str(base / "users.csv")).execute(context(first, second))


def test_without_an_inlet_the_newest_snapshot_of_the_connection_is_pushed(base, set_connection):
    set_connection(host="acme", password="k")
    land(base, "acme", "2026-08-01", 1)
    land(base, "acme", "2026-08-02", 2)
    land(base, "umbrella", "2026-08-03", 3)
    (summary,) = operator(base, inlets=[USER_ROLES]).execute(context())
    assert (summary["account"], summary["snapshot"]) == ("acme", "2026-08-02")


def test_without_a_snapshot_it_says_what_to_run(base, set_connection):
    set_connection(host="acme", password="k")
    with pytest.raises(AirflowFailException, match="run aha_extract first"):
        operator(base, inlets=[]).execute(context())
    with pytest.raises(AirflowFailException, match="run the DAG aha_extract first"):
        operator(base).execute(context())


def test_what_an_event_says_of_files_is_not_believed(base, tmp_path):
    """Whoever may create an asset event could point it anywhere; only what is under the base path is pushed."""
    real = land(base, "acme", "2026-08-01", 1)
    other = land(tmp_path / "elsewhere", "acme", "2026-08-01", 2, 3)
    (summary,) = operator(base).execute(context({**real, "files": other["files"]}))
    assert summary["counts"] == {"sent": 1}


@pytest.mark.parametrize("forged", [{"account": "../../etc"}, {"snapshot": "../2026-08-01"}, {"snapshot": None}])
def test_an_event_that_leads_out_of_the_base_path_is_refused(base, forged):
    real = land(base, "acme", "2026-08-01", 1)
    with pytest.raises(AirflowFailException):
        operator(base).execute(context({**real, **forged}))


@pytest.mark.parametrize("dry_run", [True, "True", "true"])
def test_values_of_a_form_are_text(base, dry_run):
    (summary,) = operator(base, mapping=json.dumps(mapping()), dry_run=dry_run, dataset="users", format="").execute(
        context(land(base, "acme", "2026-08-01", 1))
    )
    assert (summary["dry_run"], summary["counts"]) == (True, {"planned": 1})


def test_a_mapping_in_a_file_and_its_parameters(base):
    given = mapping(fields={**mapping()["fields"], "role": {"param": "role", "type": "integer"}})
    file = base / "people.json"
    event = context(land(base, "acme", "2026-08-01", 1))
    file.write_text(json.dumps(given))
    (summary,) = operator(base, mapping=str(file), mapping_params='{"role": "25"}').execute(event)
    assert summary["mapping"] == "people"
    with pytest.raises(AirflowFailException, match="no value was given for role"):
        operator(base, mapping=str(file), mapping_params={"role": ""}).execute(event)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mapping": None}, "mapping is not set"),
        ({"mapping": "{}"}, "The mapping is wrong"),
        ({"mapping": "nobody"}, "no ready mapping of that name"),
        ({"dataset": "user_roles"}, "of the dataset users, not user_roles"),
        ({"dry_run": "maybe"}, "dry_run must be true or false"),
        ({"path": "users.csv"}, "is relative"),
        ({"path": ""}, "path is not set"),
        ({"path": "/data/users.xlsx"}, "format must be one of parquet, csv, jsonl"),
        ({"base_path": "aha"}, "is relative"),
    ],
)
def test_arguments_that_can_not_be_right(base, options, sentence):
    with pytest.raises(AirflowFailException) as caught:
        operator(base, **options).execute(context(land(base, "acme", "2026-08-01", 1)))
    assert sentence in str(caught.value)


def test_a_mapping_file_that_is_not_there_is_named(base):
    from airflow_provider_aha.exceptions import AhaStorageError

    with pytest.raises(AhaStorageError, match=r"nowhere\.yaml could not be used"):
        operator(base, mapping=str(base / "nowhere.yaml")).execute(context(land(base, "acme", "2026-08-01", 1)))


def test_a_connection_of_no_database_is_refused(base, set_connection):
    set_connection(conn_id="test_sql", conn_type="aha", host="acme", password="k")
    push = AhaToSqlOperator(task_id="push", mapping=mapping(), sql_conn_id="test_sql", table="t", inlets=[USERS])
    with pytest.raises(AirflowFailException, match="of the type aha, which is no SQL database"):
        push.execute(context(land(base, "acme", "2026-08-01", 1)))


def test_killing_the_task_stops_after_the_batch_on_its_way(base):
    push = operator(base)
    push.on_kill()
    with pytest.raises(Exception, match="The task was stopped"):
        push.execute(context(land(base, "acme", "2026-08-01", 1)))
    assert not list((base / "acme").glob("*.csv"))
