"""Look at one Aha! user: flags, seat and roles. Changes nothing.

The user is named by id or email. What was found is in the task's log and its XCom; name and email are in neither.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_aha.callbacks import log_failure
from airflow_provider_aha.operators.users import AhaGetUserOperator

with DAG(
    dag_id="aha_get_user",
    description="Look at one Aha! user",
    doc_md=__doc__,
    schedule=None,
    default_args={"on_failure_callback": log_failure, "execution_timeout": timedelta(minutes=30)},
    params={
        "user": Param(
            "",
            type="string",
            minLength=1,
            title="User",
            description="Id or email of the user. The id is better: what is typed here is kept with the run.",
        )
    },
    tags=["aha"],
):
    AhaGetUserOperator(task_id="get_user", user="{{ params.user }}")
