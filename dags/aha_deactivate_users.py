"""Deactivate Aha! users who are named one by one.

The account is read anew, a plan of class `named` is made from the form, and what would happen to each user is
shown by a dry run. With *Dry run* unticked a second person is asked to approve the plan, and only then are
the users disabled; each is read again before, verified after, and recorded in the evidence. A name that fits
nobody, or several users, fails the run before anybody is asked.

Airflow before 3.1 can't ask a person inside a run: there this DAG stays a dry run.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_aha.callbacks import log_failure
from airflow_provider_aha.flow import approved_flow
from airflow_provider_aha.hooks.paths import default_base_path
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator
from airflow_provider_aha.operators.plan import AhaPlanAccessOperator

with DAG(
    dag_id="aha_deactivate_users",
    description="Deactivate named Aha! users, after a dry run and an approval",
    doc_md=__doc__,
    schedule=None,
    max_active_runs=1,
    default_args={"on_failure_callback": log_failure, "execution_timeout": timedelta(hours=1)},
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
            "", type="string", minLength=1, title="Ticket", description="Its number; kept in plan and evidence."
        ),
        "asked_by": Param(
            None,
            type=["null", "string"],
            title="Asked for by",
            description="Login of who asked for it, where a service account starts the run; may not approve it.",
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
    plan = AhaPlanAccessOperator(
        task_id="plan",
        users="{{ (params.ids or []) + (params.emails or []) }}",
        to={"enabled": False},
        reason="{{ params.reason }}",
        ticket="{{ params.ticket }}",
        asked_by="{{ params.asked_by }}",
    )
    extract >> plan
    approved_flow(plan, dry_run="{{ params.dry_run }}")
