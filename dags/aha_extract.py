"""Land the users and roles of an Aha! account as Parquet, once a day.

Afterwards everybody who was deactivated lately is looked up in what was landed: whoever came back fails the task
`confirm`. The data is there all the same.

The base path is the Param ``aha_output_path``, else the Airflow Variable of that name, else the folder ``aha``
in Airflow's home. The schedule comes from the environment variable ``AHA_SCHEDULE``.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_aha.assets import USER_CHANGES, USER_ROLE_SUMMARY, USER_ROLES, USERS
from airflow_provider_aha.callbacks import log_failure
from airflow_provider_aha.hooks.paths import default_base_path
from airflow_provider_aha.operators.confirm import AhaConfirmDeactivationsOperator
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator

with DAG(
    dag_id="aha_extract",
    description="All users and roles of an Aha! account, as Parquet",
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
        "aha_output_path": Param(
            None,
            type=["null", "string"],
            title="Output path",
            description="Absolute local path or object-store URL; empty: the Variable aha_output_path.",
        )
    },
    user_defined_macros={"aha_base_path": default_base_path},
    tags=["aha"],
):
    extract = AhaExtractUsersOperator(
        task_id="extract",
        base_path="{{ aha_base_path(params.aha_output_path) }}",
        datasets=["users", "user_roles", "user_role_summary", "user_changes"],
        outlets=[USERS, USER_ROLES, USER_ROLE_SUMMARY, USER_CHANGES],
    )
    confirm = AhaConfirmDeactivationsOperator(
        task_id="confirm", base_path="{{ aha_base_path(params.aha_output_path) }}"
    )
    extract >> confirm
