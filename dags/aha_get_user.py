"""Look at one Aha! user: flags, seat and roles. It never changes anything.

The user is named by id or email. What was found is in the task's log and its XCom; name and email are in neither.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_aha.dag_parts import CONNECTION, FORM, READ, connection_field, settings
from airflow_provider_aha.operators.users import AhaGetUserOperator

with DAG(
    dag_id="aha_get_user",
    dag_display_name="Aha! – Look at one user",
    schedule=None,
    params={
        "user": Param(
            "",
            type="string",
            minLength=1,
            title="User",
            description="Id or email, such as 6801234567890123456 or ann@example.com. The id is better: what is "
            "typed here is kept with the run.",
        ),
        **connection_field(),
    },
    tags=["aha", READ, FORM],
    **settings(__doc__, hours=0.5, runs_at_once=16),
):
    AhaGetUserOperator(task_id="get_user", user="{{ params.user }}", aha_conn_id=CONNECTION)
