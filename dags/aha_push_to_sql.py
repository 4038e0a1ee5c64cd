"""Keep a table of a SQL database in step with the users of an Aha! account.

It runs after every `aha_extract`. What goes where stands in `aha_push_to_sql.yaml` beside this file. **It is a
draft: until `launched` in it is `true`, a run looks at the table, says what it would do, and writes nothing.**
To launch, copy both files into your DAG folder and change them there.

Rows of users who are gone from Aha! stay in the table; nothing is deleted.

| Variable | default | meaning |
|---|---|---|
| `aha_sql_conn_id` | `aha_sql` | the Airflow connection of the database |
| `aha_sql_table` | `aha_users` | the table, which is created where there is none |
| `aha_output_path` | `$AIRFLOW_HOME/aha` | where snapshots and outcomes lie |
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_aha.assets import USERS
from airflow_provider_aha.callbacks import log_failure
from airflow_provider_aha.hooks.paths import default_base_path
from airflow_provider_aha.transfers.to_sql import AhaToSqlOperator

with DAG(
    dag_id="aha_push_to_sql",
    description="Aha! users as rows of a table",
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
            False, type="boolean", title="Dry run", description="Say what would be done, and write nothing."
        )
    },
    user_defined_macros={"aha_base_path": default_base_path},
    tags=["aha"],
):
    AhaToSqlOperator(
        task_id="push",
        mapping=str(Path(__file__).with_name("aha_push_to_sql.yaml")),
        sql_conn_id="{{ var.value.get('aha_sql_conn_id', 'aha_sql') }}",
        table="{{ var.value.get('aha_sql_table', 'aha_users') }}",
        create_table=True,
        base_path="{{ aha_base_path() }}",
        dry_run="{{ params.dry_run }}",
        inlets=[USERS],
    )
