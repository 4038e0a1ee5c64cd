"""Look at one Aha! user: flags, seat and roles. Changes nothing.

The user is named by id or email. What was found is the task's XCom; names and emails are not in it.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_aha.callbacks import log_failure
from airflow_provider_aha.operators.users import AhaGetUserOperator

with DAG(
    dag_id="aha_get_user",
    description="Look at one Aha! user",
    doc_md=__doc__,
    schedule=None,
    default_args={"on_failure_callback": log_failure},
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
