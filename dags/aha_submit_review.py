"""Submit the decisions of an access review. It never disables anybody without a second person's approval.

The file is the one that the review's page downloads; it may have been edited in a spreadsheet program. It is
recorded once, beside the review, with the login that submits it. Nobody decides about themselves, whatever name
stands in the file: the rows of whoever submits must be *not mine*, or somebody else submits. Then:

- *revoke account* becomes a plan of class `named`, and a dry run shows what would happen to each user. With
  *Dry run* unticked a second person is asked to approve the plan, and only then are the users disabled.
- *revoke role* and *downgrade* are done by hand in Aha!. The access review page lists them until a later extract
  shows that they were done.

The same file may be submitted again, for example to carry out what was a dry run before. Airflow before 3.1
can't ask a person inside a run: there this DAG stays a dry run.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param
from airflow.providers.standard.operators.python import ShortCircuitOperator

from airflow_provider_aha.dag_parts import (
    ANOTHER_ACCOUNT,
    CONNECTION,
    FORM,
    WRITES,
    connection_field,
    dry_run_field,
    settings,
    text_field,
)
from airflow_provider_aha.flow import approved_flow
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator
from airflow_provider_aha.operators.plan import AhaPlanAccessOperator
from airflow_provider_aha.operators.report import AhaSubmitReviewOperator

ACCOUNTS = "{{ ti.xcom_pull(task_ids='submit')['revoke_accounts'] }}"
REVIEW = "{{ ti.xcom_pull(task_ids='submit')['review_id'] }}"

with DAG(
    dag_id="aha_submit_review",
    dag_display_name="Aha! – Submit the decisions of an access review",
    schedule=None,
    params={
        "file": text_field(
            "File", "Path or URL of the decisions, readable by the worker, such as /data/reviews/2026-Q4.csv."
        ),
        "text": Param(
            None,
            type=["null", "string"],
            format="multiline",
            title="Or its content",
            description="The whole text of the file. It is kept with the run, with the names in it.",
        ),
        **connection_field(section=ANOTHER_ACCOUNT),
        **dry_run_field(
            "record the decisions, but disable nobody",
            "when another person has approved it, users whose account was revoked are disabled",
        ),
    },
    tags=["aha", FORM, WRITES],
    **settings(__doc__, hours=1),
):
    submit = AhaSubmitReviewOperator(
        task_id="submit", file="{{ params.file }}", text="{{ params.text }}", aha_conn_id=CONNECTION
    )
    if_accounts = ShortCircuitOperator(
        task_id="if_accounts", python_callable=lambda accounts: str(accounts) != "[]", op_args=[ACCOUNTS]
    )
    extract = AhaExtractUsersOperator(
        task_id="extract",
        base_path="{{ aha_base_path() }}",
        datasets=["users", "user_roles", "user_role_summary", "user_changes"],
        aha_conn_id=CONNECTION,
    )
    plan = AhaPlanAccessOperator(
        task_id="plan",
        review=REVIEW,
        reason=f"decided by the review {REVIEW}",
        ticket=f"review {REVIEW}",
        aha_conn_id=CONNECTION,
    )
    submit >> if_accounts >> extract >> plan
    approved_flow(plan, dry_run="{{ params.dry_run }}", aha_conn_id=CONNECTION)
