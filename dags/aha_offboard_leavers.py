"""Take access from people who left, by the company's roster. It never deletes anybody, and asks when in doubt.

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
    dag_id="aha_offboard_leavers",
    dag_display_name="Aha! – Take access from people who left",
    schedule=schedule_of("aha_offboard_leavers", "0 5 * * *"),
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
        rules=[{"class": "left"}],
        roster="{{ var.value.get('aha_roster', '') }}",
        aha_conn_id=CONNECTION,
    )
    # Two routes side by side, so that one doubtful row holds nobody up: a few with an end date pass at once, and
    # anybody else needs the approval. A dry run reports on all of them here.
    by_policy = AhaCarryOutPlanOperator(
        task_id="by_policy",
        plan=PLAN_PATH,
        require_approval=False,
        dry_run=DRY_RUN,
        pool=os.environ.get("AHA_WRITE_POOL", "default_pool"),
        aha_conn_id=CONNECTION,
    )
    extract >> plan >> by_policy

    if AIRFLOW_V_3_1_PLUS:
        from airflow_provider_aha.operators.approvals import AhaApprovePlanOperator

        approve = AhaApprovePlanOperator(
            task_id="approve",
            plan=PLAN_PATH,
            require_approval=False,
            dry_run=DRY_RUN,
            # The next day's run waits for this one.
            response_timeout=timedelta(hours=20),
        )
        carry_out = AhaCarryOutPlanOperator(
            task_id="carry_out",
            plan=PLAN_PATH,
            dry_run=DRY_RUN,
            pool=os.environ.get("AHA_WRITE_POOL", "default_pool"),
            aha_conn_id=CONNECTION,
        )
        plan >> approve >> carry_out
