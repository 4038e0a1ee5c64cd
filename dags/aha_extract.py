"""Land the users and roles of an Aha! account as Parquet, once a day. It never changes anything in Aha!.

Afterwards everybody who was deactivated lately is looked up in what was landed: whoever came back fails the task
`confirm`. The data is there all the same.

The base path is what the form says, else the Airflow Variable `aha_output_path`, else the folder `aha` in Airflow's
home. The environment variable `AHA_SCHEDULE` sets another schedule.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_aha.assets import USER_CHANGES, USER_ROLE_SUMMARY, USER_ROLES, USERS
from airflow_provider_aha.dag_parts import (
    BASE_PATH,
    CONNECTION,
    READ,
    connection_field,
    path_field,
    schedule_of,
    settings,
)
from airflow_provider_aha.operators.confirm import AhaConfirmDeactivationsOperator
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator

with DAG(
    dag_id="aha_extract",
    dag_display_name="Aha! – Land users and roles every day",
    schedule=schedule_of("aha_extract", "40 3 * * *"),
    params={**connection_field(), **path_field()},
    tags=["aha", READ],
    **settings(__doc__, hours=2, retries=2),
):
    extract = AhaExtractUsersOperator(
        task_id="extract",
        base_path=BASE_PATH,
        datasets=["users", "user_roles", "user_role_summary", "user_changes"],
        outlets=[USERS, USER_ROLES, USER_ROLE_SUMMARY, USER_CHANGES],
        aha_conn_id=CONNECTION,
    )
    confirm = AhaConfirmDeactivationsOperator(task_id="confirm", base_path=BASE_PATH, aha_conn_id=CONNECTION)
    extract >> confirm
