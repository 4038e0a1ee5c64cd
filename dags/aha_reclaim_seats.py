"""Take back paid seats that nobody uses, once a week. It never disables anybody without a person's approval.

The account is read anew and judged by a rule of class `unused`. Who meets it is flagged first and planned two
weeks later, if nothing has changed. The plan is shown to a person, who may strike users out, approve or reject
it; no answer within a day is a no. Each user is read again before, verified after, and recorded in the evidence.
A plan without users asks nobody.

**It stays a dry run, which plans and reports, until the Variable `aha_writes_enabled` is `true` and the Variable
`aha_guards` names approvers** (a sandbox needs none). Airflow before 3.1 can't ask a person: there it always stays
one.

| Variable | default | meaning |
|---|---|---|
| `aha_writes_enabled` | `false` | whether scheduled DAGs may write to Aha! |
| `aha_inactive_days` | 90 | not seen for so many days, or never |
| `aha_min_age_days` | 60 | created, and enabled again, at least so many days ago |
| `aha_grace_days` | 14 | flagged at least so many days ago |
| `aha_guards` | none | JSON object: who is never touched, exclusion files, caps, approvers |
| `aha_output_path` | `$AIRFLOW_HOME/aha` | where snapshots, plans and evidence lie |
"""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_aha.assets import USER_CHANGES, USER_ROLE_SUMMARY, USER_ROLES, USERS
from airflow_provider_aha.dag_parts import CONNECTION, WRITES, connection_field, schedule_of, settings
from airflow_provider_aha.flow import may_write
from airflow_provider_aha.operators.carry_out import AhaCarryOutPlanOperator
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator
from airflow_provider_aha.operators.plan import AhaPlanAccessOperator
from airflow_provider_aha.variables import WRITES_ENABLED
from airflow_provider_aha.version_compat import AIRFLOW_V_3_1_PLUS

PLAN_PATH = "{{ ti.xcom_pull(task_ids='plan')['plan_path'] }}"
# Nobody is asked about what will not be done.
DRY_RUN = "{{ not aha_may_write(" + WRITES_ENABLED + ", ti.xcom_pull(task_ids='plan')['sandbox']) }}"


with DAG(
    dag_id="aha_reclaim_seats",
    dag_display_name="Aha! – Take back seats that nobody uses",
    schedule=schedule_of("aha_reclaim_seats", "0 6 * * 1"),
    params=connection_field(
        "**It is a dry run until the Variable aha_writes_enabled is true and the Variable aha_guards names "
        "approvers.** A dry run plans and reports, asks nobody and disables nobody."
    ),
    tags=["aha", WRITES],
    **settings(__doc__, hours=1, retries=2, aha_may_write=may_write),
):
    extract = AhaExtractUsersOperator(
        task_id="extract",
        base_path="{{ aha_base_path() }}",
        datasets=["users", "user_roles", "user_role_summary", "user_changes"],
        outlets=[USERS, USER_ROLES, USER_ROLE_SUMMARY, USER_CHANGES],
        aha_conn_id=CONNECTION,
    )
    plan = AhaPlanAccessOperator(
        task_id="plan",
        rules=[
            {
                "class": "unused",
                "inactive_days": "{{ var.value.get('aha_inactive_days', '90') }}",
                "min_age_days": "{{ var.value.get('aha_min_age_days', '60') }}",
                "grace_days": "{{ var.value.get('aha_grace_days', '14') }}",
            }
        ],
        aha_conn_id=CONNECTION,
    )
    carry_out = AhaCarryOutPlanOperator(
        task_id="carry_out",
        plan=PLAN_PATH,
        dry_run=DRY_RUN,
        pool=os.environ.get("AHA_WRITE_POOL", "default_pool"),
        aha_conn_id=CONNECTION,
    )
    extract >> plan

    if AIRFLOW_V_3_1_PLUS:
        from airflow_provider_aha.operators.approvals import AhaApprovePlanOperator

        approve = AhaApprovePlanOperator(
            task_id="approve", plan=PLAN_PATH, dry_run=DRY_RUN, response_timeout=timedelta(hours=24)
        )
        plan >> approve >> carry_out
    else:
        plan >> carry_out
