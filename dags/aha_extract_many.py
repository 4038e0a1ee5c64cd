"""Land the users and roles of several Aha! accounts as Parquet, once a day. It never changes anything in Aha!.

Set the Airflow Variable `aha_conn_ids` to the ids of the accounts' connections: `["aha_emea", "aha_us"]`. Each
account is read by a task of its own, with the limits of its own connection; one that fails holds up no other. Files
lie apart by account, and each account's asset events carry its own manifest.

Use this DAG in place of `aha_extract`, not beside it. Both take their base path from the form, else the Variable
`aha_output_path`, else the folder `aha` in Airflow's home. The environment variable `AHA_SCHEDULE` sets another
schedule.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_aha.assets import USER_CHANGES, USER_ROLE_SUMMARY, USER_ROLES, USERS
from airflow_provider_aha.dag_parts import BASE_PATH, READ, path_field, schedule_of, settings
from airflow_provider_aha.hooks.accounts import connection_ids
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator


@task
def accounts(**context: Any) -> list[str]:
    """Return the connections that this run is about."""
    return connection_ids(context["params"]["aha_conn_ids"])


with DAG(
    dag_id="aha_extract_many",
    dag_display_name="Aha! – Land users and roles of several accounts every day",
    schedule=schedule_of("aha_extract_many", "40 3 * * *"),
    params={
        "aha_conn_ids": Param(
            None,
            type=["null", "array"],
            items={"type": "string"},
            title="Accounts",
            description="Only these of the connections that the Variable aha_conn_ids lists, one per line, such as "
            "aha_emea; empty: all.",
        ),
        **path_field(),
    },
    tags=["aha", READ],
    **settings(__doc__, hours=2, retries=2),
):
    AhaExtractUsersOperator.partial(
        task_id="extract",
        base_path=BASE_PATH,
        datasets=["users", "user_roles", "user_role_summary", "user_changes"],
        outlets=[USERS, USER_ROLES, USER_ROLE_SUMMARY, USER_CHANGES],
        map_index_template="{{ task.aha_conn_id }}",
    ).expand(aha_conn_id=accounts())
