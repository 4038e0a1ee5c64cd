"""From Aha! and back in one run: read, push, report, plan, ask, take access away, and look whether it is gone.

The DAG of `make scale-demo`. Nothing that one task leaves for another lies on a worker's disk.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_aha.assets import USER_CHANGES, USER_ROLE_SUMMARY, USER_ROLES, USERS
from airflow_provider_aha.hooks.paths import default_base_path
from airflow_provider_aha.operators.approvals import AhaApprovePlanOperator
from airflow_provider_aha.operators.carry_out import AhaCarryOutPlanOperator
from airflow_provider_aha.operators.confirm import AhaConfirmDeactivationsOperator
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator
from airflow_provider_aha.operators.plan import AhaPlanAccessOperator
from airflow_provider_aha.operators.report import AhaAccessReportOperator
from airflow_provider_aha.transfers.to_sql import AhaToSqlOperator

PLAN_PATH = "{{ ti.xcom_pull(task_ids='plan')['plan_path'] }}"
READ: dict[str, Any] = {
    "base_path": "{{ aha_base_path() }}",
    "datasets": ["users", "user_roles", "user_role_summary", "user_changes"],
}

with DAG(
    dag_id="aha_scale",
    description="Read, push, report, plan, ask, deactivate and verify, on any worker",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    max_active_runs=1,
    # A task whose worker died is tried again, on whichever worker is free.
    default_args={"retries": 2, "retry_delay": timedelta(seconds=2)},
    params={"ids": Param([], type="array", items={"type": "string", "pattern": "^[0-9]+$"}, title="User ids")},
    user_defined_macros={"aha_base_path": default_base_path},
):
    extract = AhaExtractUsersOperator(
        task_id="extract", outlets=[USERS, USER_ROLES, USER_ROLE_SUMMARY, USER_CHANGES], **READ
    )
    push = AhaToSqlOperator(
        task_id="push",
        mapping=str(Path(__file__).with_name("aha_push_to_sql.yaml")),
        sql_conn_id="aha_sql",
        table="aha_users",
        create_table=True,
        inlets=[USERS],
    )
    report = AhaAccessReportOperator(task_id="report")
    plan = AhaPlanAccessOperator(
        task_id="plan", rules=[{"class": "named", "name": "form", "ids": "{{ params.ids }}"}]
    )
    approve = AhaApprovePlanOperator(task_id="approve", plan=PLAN_PATH)
    # One task writes to an account, in a pool with one slot: the evidence has one author.
    deactivate = AhaCarryOutPlanOperator(
        task_id="deactivate", plan=PLAN_PATH, dry_run=False, ticket="SCALE-1", pool="aha_writes"
    )
    read_again = AhaExtractUsersOperator(task_id="read_again", **READ)
    verify = AhaConfirmDeactivationsOperator(task_id="verify")
    extract >> [push, report, plan] >> approve >> deactivate >> read_again >> verify
