"""Draft a mapping: which column of Aha! goes into which field of a table, or of Oomnitza. Writes to neither.

Names and types of the target's fields are compared with the columns of a dataset. The draft, with a score and a
reason for each field, is in the task's log, and as a file in `push/drafts` below the base path. Read every line,
correct it, put it beside your copy of the DAG that pushes, and set `launched` to `true` in it.

| Variable | default | meaning |
|---|---|---|
| `aha_target_conn_ids` | `["aha_sql", "oomnitza_default"]` | the Airflow connections that this form may use |
| `aha_output_path` | `$AIRFLOW_HOME/aha` | where drafts lie |
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_aha.callbacks import log_failure
from airflow_provider_aha.hooks.paths import default_base_path
from airflow_provider_aha.transfers.suggest import DATASETS, AhaSuggestMappingOperator

with DAG(
    dag_id="aha_suggest_mapping",
    dag_display_name="Aha! – Draft a mapping for a push",
    description="A draft of a mapping, from the fields of a table or of Oomnitza; writes to neither",
    doc_md=__doc__,
    schedule=None,
    default_args={"on_failure_callback": log_failure, "execution_timeout": timedelta(minutes=10)},
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
            title="Records of Oomnitza",
            description="People, or users of the SaaS application. Of a database: it doesn't matter.",
        ),
        "dataset": Param(
            "users",
            type="string",
            enum=list(DATASETS),
            title="Dataset",
            description="Whose columns are mapped: a row for each user, for each role, or for each role of a user.",
        ),
        "name": Param(
            "",
            type="string",
            title="Name of the mapping",
            description="Lower-case letters, digits and underscores; empty: made of the dataset and the table.",
        ),
    },
    user_defined_macros={"aha_base_path": default_base_path},
    tags=["aha", "form", "push"],
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
