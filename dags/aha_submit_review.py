"""Submit the decisions of an access review.

The file is the one that the review's page downloads; it may have been edited in a spreadsheet program. It is
recorded once, beside the review, with the login that submits it. Then:

- *revoke account* becomes a plan of class `named`, and a dry run shows what would happen to each user. With
  *Dry run* unticked a second person is asked to approve the plan, and only then are the users disabled.
- *revoke role* and *downgrade* are done by hand in Aha!. The access review page lists them until a later extract
  shows that they were done.

The same file may be submitted again, for example to carry out what was a dry run before. Airflow before 3.1
can't ask a person inside a run: there this DAG stays a dry run.
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
from airflow_provider_aha.operators.report import AhaSubmitReviewOperator
from airflow_provider_aha.version_compat import AIRFLOW_V_3_1_PLUS

ACCOUNTS = "{{ ti.xcom_pull(task_ids='submit')['revoke_accounts'] }}"
TICKET = "review {{ ti.xcom_pull(task_ids='submit')['review_id'] }}"
PLAN_PATH = "{{ ti.xcom_pull(task_ids='plan')['plan_path'] }}"
WRITE_POOL = os.environ.get("AHA_WRITE_POOL", "default_pool")

with DAG(
    dag_id="aha_submit_review",
    description="Record the decisions of an Aha! access review, and plan what follows from them",
    doc_md=__doc__,
    schedule=None,
    max_active_runs=1,
    default_args={"on_failure_callback": log_failure},
    user_defined_macros={"aha_base_path": default_base_path},
    params={
        "file": Param(
            None,
            type=["null", "string"],
            title="File",
            description="Path or URL of the decisions, readable by the worker.",
        ),
        "text": Param(
            None,
            type=["null", "string"],
            format="multiline",
            title="Or its content",
            description="The whole text of the file. It is kept with the run, with the names in it.",
        ),
        "dry_run": Param(
            True, type="boolean", title="Dry run", description="Record the decisions, but disable nobody."
        ),
    },
    tags=["aha"],
):
    submit = AhaSubmitReviewOperator(task_id="submit", file="{{ params.file }}", text="{{ params.text }}")
    if_accounts = ShortCircuitOperator(
        task_id="if_accounts", python_callable=lambda accounts: str(accounts) != "[]", op_args=[ACCOUNTS]
    )
    extract = AhaExtractUsersOperator(
        task_id="extract",
        base_path="{{ aha_base_path() }}",
        datasets=["users", "user_roles", "user_role_summary", "user_changes"],
    )
    plan = AhaPlanDeactivationsOperator(
        task_id="plan", rules=[{"class": "named", "name": "review", "ids": ACCOUNTS}]
    )
    preview = AhaDeactivateUsersOperator(task_id="preview", plan=PLAN_PATH, dry_run=True, ticket=TICKET)
    submit >> if_accounts >> extract >> plan >> preview

    if AIRFLOW_V_3_1_PLUS:
        from airflow_provider_aha.operators.approvals import AhaApproveDeactivationsOperator

        unless_dry_run = ShortCircuitOperator(
            task_id="unless_dry_run",
            python_callable=lambda dry_run: str(dry_run).lower() == "false",
            op_args=["{{ params.dry_run }}"],
        )
        approve = AhaApproveDeactivationsOperator(task_id="approve", plan=PLAN_PATH)
        deactivate = AhaDeactivateUsersOperator(
            task_id="deactivate", plan=PLAN_PATH, dry_run=False, ticket=TICKET, pool=WRITE_POOL
        )
        preview >> unless_dry_run >> approve >> deactivate
