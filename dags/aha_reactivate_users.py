"""Enable Aha! users again, or undo a run. It never enables anybody without a second person's approval.

Give the path of a run's `evidence.parquet` to undo exactly what that run did, or a list of ids. The account is
read anew, a plan is made from the form, and a dry run shows what would happen, with the roles and rights that come
back. With *Dry run* unticked a second person is asked to approve the plan, and only then are the users enabled.
Every paid seat that is taken again may be billed at once; the log says how many.

Airflow before 3.1 can't ask a person inside a run: there this DAG stays a dry run.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_aha.dag_parts import (
    ANOTHER_ACCOUNT,
    CONNECTION,
    FORM,
    WRITES,
    connection_field,
    dry_run_field,
    settings,
    text_field,
    users_field,
    why_fields,
)
from airflow_provider_aha.flow import approved_flow
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator
from airflow_provider_aha.operators.plan import AhaPlanAccessOperator

# Of users who are named; what evidence says needs no words.
TO = """{{ '{"enabled": true}' if params.ids else '' }}"""

with DAG(
    dag_id="aha_reactivate_users",
    dag_display_name="Aha! – Enable users again, or undo a run",
    schedule=None,
    params={
        "evidence": text_field(
            "Evidence",
            "Path of the evidence of the run to undo, as its log says, such as /data/aha/…/evidence.parquet; or "
            "leave it empty and give ids.",
        ),
        "ids": users_field("Who is to be enabled, where there is no evidence."),
        **why_fields(),
        **connection_field(section=ANOTHER_ACCOUNT),
        **dry_run_field(
            "only show what would happen", "when another person has approved it, the users are enabled"
        ),
    },
    tags=["aha", FORM, WRITES],
    **settings(__doc__, hours=1),
):
    extract = AhaExtractUsersOperator(
        task_id="extract",
        base_path="{{ aha_base_path() }}",
        datasets=["users", "user_roles", "user_role_summary", "user_changes"],
        aha_conn_id=CONNECTION,
    )
    plan = AhaPlanAccessOperator(
        task_id="plan",
        users="{{ params.ids or '' }}",
        to=TO,
        undo="{{ params.evidence }}",
        reason="{{ params.reason }}",
        ticket="{{ params.ticket }}",
        asked_by="{{ params.asked_by }}",
        aha_conn_id=CONNECTION,
    )
    extract >> plan
    approved_flow(plan, dry_run="{{ params.dry_run }}", aha_conn_id=CONNECTION)
