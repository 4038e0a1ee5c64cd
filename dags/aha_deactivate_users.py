"""Deactivate Aha! users named one by one. It never disables anybody without a second person's approval.

The account is read anew, a plan of class `named` is made from the form, and what would happen to each user is
shown by a dry run. With *Dry run* unticked a second person is asked to approve the plan, and only then are
the users disabled; each is read again before, verified after, and recorded in the evidence. A name that fits
nobody, or several users, fails the run before anybody is asked.

Airflow before 3.1 can't ask a person inside a run: there this DAG stays a dry run.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_aha.dag_parts import (
    ANOTHER_ACCOUNT,
    CONNECTION,
    FORM,
    WRITES,
    connection_field,
    dry_run_field,
    settings,
    users_field,
    why_fields,
)
from airflow_provider_aha.flow import approved_flow
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator
from airflow_provider_aha.operators.plan import AhaPlanAccessOperator

with DAG(
    dag_id="aha_deactivate_users",
    dag_display_name="Aha! – Deactivate named users",
    schedule=None,
    params={
        "ids": users_field("Who is to be disabled: ids, emails or both."),
        "emails": Param(
            None,
            type=["null", "array"],
            items={"type": "string", "pattern": "^[^@ ]+@[^@ ]+$"},
            title="Emails",
            description="One email per line, such as ann@example.com; each must belong to one user. They are kept "
            "with the run.",
        ),
        **why_fields(),
        **connection_field(section=ANOTHER_ACCOUNT),
        **dry_run_field(
            "only show what would happen", "when another person has approved it, the users are disabled"
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
        users="{{ (params.ids or []) + (params.emails or []) }}",
        to={"enabled": False},
        reason="{{ params.reason }}",
        ticket="{{ params.ticket }}",
        asked_by="{{ params.asked_by }}",
        aha_conn_id=CONNECTION,
    )
    extract >> plan
    approved_flow(plan, dry_run="{{ params.dry_run }}", aha_conn_id=CONNECTION)
