"""Keep a table of a SQL database in step with the users of an Aha! account. It never deletes a row.

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

from pathlib import Path

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_aha.assets import USERS
from airflow_provider_aha.dag_parts import PUSH, dry_run_field, schedule_of, settings
from airflow_provider_aha.transfers.to_sql import AhaToSqlOperator

with DAG(
    dag_id="aha_push_to_sql",
    dag_display_name="Aha! – Push users into a SQL table",
    schedule=schedule_of("aha_push_to_sql", [USERS]),
    params=dry_run_field(
        "say what would be written, and write nothing", "a mapping that is launched is carried out", default=False
    ),
    tags=["aha", PUSH],
    **settings(__doc__, hours=6, retries=2),
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
