"""Send the users of an Aha! account to a JSON endpoint, and afterwards whoever has changed.

It runs after every `aha_extract`. What is sent stands in `aha_push_to_http.yaml` beside this file. **It is a
draft: until `launched` in it is `true`, a run says what it would send, and sends nothing.** To launch, copy both
files into your DAG folder and change them there: method and path, what makes an answer a success, the fields.

| Variable | default | meaning |
|---|---|---|
| `aha_http_conn_id` | `aha_http` | the Airflow connection of the endpoint: host, credentials |
| `aha_http_path` | `/users/{aha_user_id}` | the path below the host; fields of the mapping in braces |
| `aha_output_path` | `$AIRFLOW_HOME/aha` | where snapshots and outcomes lie |
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_aha.assets import USERS
from airflow_provider_aha.callbacks import log_failure
from airflow_provider_aha.hooks.paths import default_base_path
from airflow_provider_aha.transfers.to_http import AhaToHttpOperator

with DAG(
    dag_id="aha_push_to_http",
    description="Aha! users as records of a JSON endpoint",
    doc_md=__doc__,
    schedule=[USERS],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={
        "on_failure_callback": log_failure,
        "retries": 2,
        "retry_delay": timedelta(minutes=5),
        "execution_timeout": timedelta(hours=6),
    },
    params={
        "dry_run": Param(
            False, type="boolean", title="Dry run", description="Say what would be sent, and send nothing."
        )
    },
    user_defined_macros={"aha_base_path": default_base_path},
    tags=["aha"],
):
    AhaToHttpOperator(
        task_id="push",
        mapping=str(Path(__file__).with_name("aha_push_to_http.yaml")),
        http_conn_id="{{ var.value.get('aha_http_conn_id', 'aha_http') }}",
        method="PUT",
        path="{{ var.value.get('aha_http_path', '/users/{aha_user_id}') }}",
        base_path="{{ aha_base_path() }}",
        dry_run="{{ params.dry_run }}",
        inlets=[USERS],
    )
