"""Send the users of an Aha! account to a JSON endpoint, then the changes. It never sends a deletion.

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

from pathlib import Path

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_aha.assets import USERS
from airflow_provider_aha.dag_parts import PUSH, dry_run_field, schedule_of, settings
from airflow_provider_aha.transfers.to_http import AhaToHttpOperator

with DAG(
    dag_id="aha_push_to_http",
    dag_display_name="Aha! – Push users to a JSON endpoint",
    schedule=schedule_of("aha_push_to_http", [USERS]),
    params=dry_run_field(
        "say what would be sent, and send nothing", "a mapping that is launched is carried out", default=False
    ),
    tags=["aha", PUSH],
    **settings(__doc__, hours=6, retries=2),
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
