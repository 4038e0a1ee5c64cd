"""Plans of named users that a person has to approve, before they are carried out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_aha.operators.approvals import AhaApprovePlanOperator
from airflow_provider_aha.operators.carry_out import AhaCarryOutPlanOperator
from airflow_provider_aha.operators.plan import AhaPlanAccessOperator

PLAN_PATH = "{{ ti.xcom_pull(task_ids='plan')['plan_path'] }}"


# What somebody posts as XCom to Airflow 3.1 comes back as JSON text.
FORGED_PATH = "{{ (ti.xcom_pull(task_ids='plan', key='path') or '') | replace('\"', '') }}"


def flow(dag_id: str, pool: str = "default_pool", path: str = PLAN_PATH, **approve: Any) -> DAG:
    """Make a DAG: plan, approve, carry out."""
    with DAG(
        dag_id,
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        # A Param whose default is refused, as on the forms; 3.1 would show it to the person who approves.
        params={"ids": Param([], type="array"), "ticket": Param("", type="string", minLength=1)},
    ) as dag:
        plan = AhaPlanAccessOperator(task_id="plan", rules=[{"class": "named", "ids": "{{ params.ids }}"}])
        ask = AhaApprovePlanOperator(task_id="approve", plan=path, **approve)
        write = AhaCarryOutPlanOperator(
            task_id="carry_out", plan=path, dry_run=False, ticket="{{ params.ticket }}", pool=pool
        )
        plan >> ask >> write
    return dag


asked = flow("test_asked", pool="aha_writes")
asked_of_bob = flow("test_asked_of_bob", pool="aha_writes", approvers=["bob"])
asked_briefly = flow("test_asked_briefly", response_timeout=timedelta(seconds=5))
held_back = flow("test_held_back", pool="held")
forged = flow("test_forged", path=FORGED_PATH)
