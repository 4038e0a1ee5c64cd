"""Draft a mapping: which column goes into which field of a table or of Oomnitza. It never writes to either.

Names and types of the target's fields are compared with the columns of a dataset. The draft, with a score and a
reason for each field, is in the task's log, and as a file in `push/drafts` below the base path. Read every line,
correct it, put it beside your copy of the DAG that pushes, and set `launched` to `true` in it.

| Variable | default | meaning |
|---|---|---|
| `aha_target_conn_ids` | `["aha_sql", "oomnitza_default"]` | the Airflow connections that this form may use |
| `aha_output_path` | `$AIRFLOW_HOME/aha` | where drafts lie |
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_aha.dag_parts import FORM, PUSH, settings
from airflow_provider_aha.transfers.suggest import DATASETS, AhaSuggestMappingOperator

ROWS = {
    "users": "users: a row for each user",
    "user_roles": "user_roles: a row for each user, workspace and role",
    "user_role_summary": "user_role_summary: a row for each role of a user",
}

with DAG(
    dag_id="aha_suggest_mapping",
    dag_display_name="Aha! – Draft a mapping for a push",
    schedule=None,
    params={
        "target_conn_id": Param(
            "aha_sql",
            type="string",
            minLength=1,
            title="Connection of the target",
            description="A database or an Oomnitza; one that the Variable aha_target_conn_ids lists.",
            examples=["aha_sql", "oomnitza_default"],
        ),
        "table": Param(
            "",
            type="string",
            title="Table",
            description="Of a database: the table as it is, such as people.aha_users. Of Oomnitza: leave it empty.",
        ),
        "records": Param(
            "people",
            type="string",
            enum=["people", "saas_users"],
            values_display={"people": "People", "saas_users": "Users of the SaaS application"},
            title="Records of Oomnitza",
            description="Only for Oomnitza; of a database it doesn't matter.",
        ),
        "dataset": Param(
            "users",
            type="string",
            enum=list(DATASETS),
            values_display=ROWS,
            title="Dataset",
            description="Whose columns are mapped.",
        ),
        "name": Param(
            "",
            type="string",
            title="Name of the mapping",
            description="Lower-case letters, digits and underscores, such as crm_users; empty: made of the dataset "
            "and the table.",
        ),
    },
    tags=["aha", FORM, PUSH],
    **settings(__doc__, hours=0.25, runs_at_once=16),
):
    AhaSuggestMappingOperator(
        task_id="suggest",
        target_conn_id="{{ params.target_conn_id }}",
        table="{{ params.table }}",
        records="{{ params.records }}",
        dataset="{{ params.dataset }}",
        name="{{ params.name }}",
        allowed_conn_ids="{{ var.value.get('aha_target_conn_ids', '[\"aha_sql\", \"oomnitza_default\"]') }}",
        base_path="{{ aha_base_path() }}",
    )
