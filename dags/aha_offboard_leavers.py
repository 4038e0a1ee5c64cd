"""Take access from people who left the company: once a day, by the company's own roster.

The account is read anew and compared with the roster. Up to 5 users a day whose end date has just passed, and whom
an earlier load of the roster showed as employed, are disabled without asking anybody. Everybody else is shown to a
person meanwhile, who may strike users out, approve or reject: more than 5, people who are merely absent from the
roster, people with a status but no date, an old date, a visit after it. The first load asks about everybody. No
answer within 20 hours is a no; the next day asks again. Each user is read again before, verified after, and
recorded in the evidence, with the hours from the end of the last day until access was gone. A day without leavers
asks nobody.

**It stays a dry run, which plans and reports, until the Variable `aha_writes_enabled` is `true` and the Variable
`aha_guards` names approvers** (a sandbox needs none). Airflow before 3.1 can't ask a person: there it always stays
one.

| Variable | default | meaning |
|---|---|---|
| `aha_roster` | needed | JSON object, or a list: where the roster is and how it is read, its time zone included |
| `aha_writes_enabled` | `false` | whether scheduled DAGs may write to Aha! |
| `aha_guards` | none | JSON object: who is never touched, exclusion files, caps, approvers |
| `aha_output_path` | `$AIRFLOW_HOME/aha` | where snapshots, plans and evidence lie |
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.standard.operators.python import BranchPythonOperator

from airflow_provider_aha.assets import USER_CHANGES, USER_ROLE_SUMMARY, USER_ROLES, USERS
from airflow_provider_aha.callbacks import log_failure
from airflow_provider_aha.flow import may_write
from airflow_provider_aha.hooks.paths import default_base_path
from airflow_provider_aha.operators.carry_out import AhaCarryOutPlanOperator
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator
from airflow_provider_aha.operators.plan import AhaPlanAccessOperator
from airflow_provider_aha.variables import WRITES_ENABLED
from airflow_provider_aha.version_compat import AIRFLOW_V_3_1_PLUS

PLAN_PATH = "{{ ti.xcom_pull(task_ids='plan')['plan_path'] }}"


with DAG(
    dag_id="aha_offboard_leavers",
    description="Take access from people who left, by the roster",
    doc_md=__doc__,
    schedule="0 5 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={
        "on_failure_callback": log_failure,
        "retries": 2,
        "retry_delay": timedelta(minutes=5),
        "execution_timeout": timedelta(hours=1),
    },
    user_defined_macros={"aha_base_path": default_base_path},
    tags=["aha"],
):
    extract = AhaExtractUsersOperator(
        task_id="extract",
        base_path="{{ aha_base_path() }}",
        datasets=["users", "user_roles", "user_role_summary", "user_changes"],
        outlets=[USERS, USER_ROLES, USER_ROLE_SUMMARY, USER_CHANGES],
    )
    plan = AhaPlanAccessOperator(
        task_id="plan",
        rules=[{"class": "left"}],
        roster="{{ var.value.get('aha_roster', '') }}",
    )
    # Nobody is asked about what will not be done.
    mode = BranchPythonOperator(
        task_id="mode",
        python_callable=lambda enabled, sandbox: (
            ["by_policy", "approve"] if may_write(enabled, sandbox) else "report"
        ),
        op_args=["{{ " + WRITES_ENABLED + " }}", "{{ ti.xcom_pull(task_ids='plan')['sandbox'] }}"],
    )
    report = AhaCarryOutPlanOperator(task_id="report", plan=PLAN_PATH, dry_run=True)
    extract >> plan >> mode >> report

    if AIRFLOW_V_3_1_PLUS:
        from airflow_provider_aha.operators.approvals import AhaApprovePlanOperator

        # Two routes side by side, so that one doubtful row holds nobody up: a few with an end date pass at once,
        # anybody else needs the approval.
        by_policy = AhaCarryOutPlanOperator(
            task_id="by_policy",
            plan=PLAN_PATH,
            require_approval=False,
            dry_run="{{ not (" + WRITES_ENABLED + ") }}",
            pool=os.environ.get("AHA_WRITE_POOL", "default_pool"),
        )
        approve = AhaApprovePlanOperator(
            task_id="approve",
            plan=PLAN_PATH,
            require_approval=False,
            # The next day's run waits for this one.
            response_timeout=timedelta(hours=20),
        )
        carry_out = AhaCarryOutPlanOperator(
            task_id="carry_out",
            plan=PLAN_PATH,
            dry_run="{{ not (" + WRITES_ENABLED + ") }}",
            pool=os.environ.get("AHA_WRITE_POOL", "default_pool"),
        )
        mode >> by_policy
        mode >> approve >> carry_out
