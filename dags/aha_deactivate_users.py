"""Deactivate Aha! users who are named one by one.

The account is read anew, a plan of class `named` is made from the form, and what would happen to each user is
shown by a dry run. With *Dry run* unticked a second person is asked to approve the plan, and only then are
the users disabled; each is read again before, verified after, and recorded in the evidence.

Airflow before 3.1 can't ask a person inside a run: there this DAG stays a dry run.
"""

from __future__ import annotations

import os

from airflow.providers.common.compat.sdk import DAG, Param
from airflow.providers.standard.operators.python import ShortCircuitOperator

from airflow_provider_aha.callbacks import log_failure
from airflow_provider_aha.hooks.paths import default_base_path
from airflow_provider_aha.operators.deactivations import AhaDeactivateUsersOperator
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator
from airflow_provider_aha.operators.plan import AhaPlanDeactivationsOperator
from airflow_provider_aha.version_compat import AIRFLOW_V_3_1_PLUS

PLAN_PATH = "{{ ti.xcom_pull(task_ids='plan')['plan_path'] }}"
WRITE_POOL = os.environ.get("AHA_WRITE_POOL", "default_pool")

with DAG(
    dag_id="aha_deactivate_users",
    description="Deactivate named Aha! users, after a dry run and an approval",
    doc_md=__doc__,
    schedule=None,
    max_active_runs=1,
    default_args={"on_failure_callback": log_failure},
    user_defined_macros={"aha_base_path": default_base_path},
    params={
        "ids": Param(
            [],
            type=["null", "array"],
            items={"type": "string", "pattern": "^[0-9]+$"},
            title="User ids",
            description="One id per line. Ids, emails or both.",
        ),
        "emails": Param(
            [],
            type=["null", "array"],
            items={"type": "string", "pattern": "^[^@ ]+@[^@ ]+$"},
            title="Emails",
            description="One email per line; each must belong to one user. They are kept with the run.",
        ),
        "reason": Param(
            "",
            type="string",
            minLength=3,
            title="Reason",
            description="Shown to the person who approves it; kept in plan and evidence.",
        ),
        "ticket": Param(
            "", type="string", minLength=1, title="Ticket", description="Its number; kept in the evidence."
        ),
        "dry_run": Param(
            True,
            type="boolean",
            title="Dry run",
            description="On: only show what would happen. Off: when another person has approved it, the users are "
            "disabled.",
        ),
    },
    tags=["aha"],
):
    extract = AhaExtractUsersOperator(
        task_id="extract",
        base_path="{{ aha_base_path() }}",
        datasets=["users", "user_roles", "user_role_summary", "user_changes"],
    )
    plan = AhaPlanDeactivationsOperator(
        task_id="plan",
        # The reason is the rule: whoever approves the plan reads it there, and it goes into the evidence.
        rules=[
            {
                "class": "named",
                "name": "{{ params.reason }}",
                "ids": "{{ params.ids }}",
                "emails": "{{ params.emails }}",
            }
        ],
    )
    preview = AhaDeactivateUsersOperator(
        task_id="preview", plan=PLAN_PATH, dry_run=True, ticket="{{ params.ticket }}"
    )
    extract >> plan >> preview

    if AIRFLOW_V_3_1_PLUS:
        from airflow_provider_aha.operators.approvals import AhaApproveDeactivationsOperator

        unless_dry_run = ShortCircuitOperator(
            task_id="unless_dry_run",
            python_callable=lambda dry_run: str(dry_run).lower() == "false",
            op_args=["{{ params.dry_run }}"],
        )
        approve = AhaApproveDeactivationsOperator(task_id="approve", plan=PLAN_PATH)
        deactivate = AhaDeactivateUsersOperator(
            task_id="deactivate",
            plan=PLAN_PATH,
            dry_run=False,
            ticket="{{ params.ticket }}",
            pool=WRITE_POOL,
        )
        preview >> unless_dry_run >> approve >> deactivate
