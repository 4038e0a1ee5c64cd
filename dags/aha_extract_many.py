"""Land the users and roles of several Aha! accounts as Parquet, once a day, all at once.

Set the Airflow Variable `aha_conn_ids` to the ids of the accounts' connections: `["aha_emea", "aha_us"]`. Each
account is read by a task of its own, with the limits of its own connection; one that fails holds up no other. Files
lie apart by account, and each account's asset events carry its own manifest.

Use this DAG in place of `aha_extract`, not beside it. Both take their base path from the Param `aha_output_path`,
else the Variable of that name, else the folder `aha` in Airflow's home, and their schedule from the environment
variable `AHA_SCHEDULE`.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_aha.assets import USER_CHANGES, USER_ROLE_SUMMARY, USER_ROLES, USERS
from airflow_provider_aha.callbacks import log_failure
from airflow_provider_aha.hooks.accounts import connection_ids
from airflow_provider_aha.hooks.paths import default_base_path
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator


@task
def accounts(**context: Any) -> list[str]:
    """Return the connections that this run is about."""
    return connection_ids(context["params"]["aha_conn_ids"])


with DAG(
    dag_id="aha_extract_many",
    description="All users and roles of several Aha! accounts, as Parquet",
    doc_md=__doc__,
    schedule=os.environ.get("AHA_SCHEDULE") or "40 3 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={
        "on_failure_callback": log_failure,
        "retries": 2,
        "retry_delay": timedelta(minutes=5),
        "execution_timeout": timedelta(hours=2),
    },
    params={
        "aha_conn_ids": Param(
            None,
            type=["null", "array"],
            items={"type": "string"},
            title="Accounts",
            description="Only these of the connections in the Variable aha_conn_ids; empty: all.",
        ),
        "aha_output_path": Param(
            None,
            type=["null", "string"],
            title="Output path",
            description="Absolute local path or object-store URL; empty: the Variable aha_output_path.",
        ),
    },
    user_defined_macros={"aha_base_path": default_base_path},
    tags=["aha"],
):
    AhaExtractUsersOperator.partial(
        task_id="extract",
        base_path="{{ aha_base_path(params.aha_output_path) }}",
        datasets=["users", "user_roles", "user_role_summary", "user_changes"],
        outlets=[USERS, USER_ROLES, USER_ROLE_SUMMARY, USER_CHANGES],
        map_index_template="{{ task.aha_conn_id }}",
    ).expand(aha_conn_id=accounts())
