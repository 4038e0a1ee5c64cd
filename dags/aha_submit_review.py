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

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, Param
from airflow.providers.standard.operators.python import ShortCircuitOperator

from airflow_provider_aha.callbacks import log_failure
from airflow_provider_aha.flow import approved_flow
from airflow_provider_aha.hooks.paths import default_base_path
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator
from airflow_provider_aha.operators.plan import AhaPlanAccessOperator
from airflow_provider_aha.operators.report import AhaSubmitReviewOperator

ACCOUNTS = "{{ ti.xcom_pull(task_ids='submit')['revoke_accounts'] }}"
REVIEW = "{{ ti.xcom_pull(task_ids='submit')['review_id'] }}"

with DAG(
    dag_id="aha_submit_review",
    description="Record the decisions of an Aha! access review, and plan what follows from them",
    doc_md=__doc__,
    schedule=None,
    max_active_runs=1,
    default_args={"on_failure_callback": log_failure, "execution_timeout": timedelta(hours=1)},
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
    plan = AhaPlanAccessOperator(
        task_id="plan", review=REVIEW, reason=f"decided by the review {REVIEW}", ticket=f"review {REVIEW}"
    )
    submit >> if_accounts >> extract >> plan
    approved_flow(plan, dry_run="{{ params.dry_run }}")
