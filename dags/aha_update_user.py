"""Change one Aha! user. It never changes what decides over access without a second person's approval.

A field that is left empty stays as it is. The account is read anew, a plan is made from the form, and a dry run
shows what would happen. Whether somebody may log in, the email and administrator rights decide over access: with
*Dry run* unticked a second person is asked to approve the plan, and only then is the user changed. A plan that sets
only a name is carried out without asking. The key's owner, protected users and the last administrator stay as they
are, and every change leaves evidence under the Variable `aha_output_path`. These are all the fields that Aha!'s API
can change.

Airflow before 3.1 can't ask a person inside a run: there this DAG stays a dry run.
"""

from __future__ import annotations

import json
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_aha.dag_parts import (
    ANOTHER_ACCOUNT,
    CONNECTION,
    FORM,
    KEEP,
    WRITES,
    connection_field,
    dry_run_field,
    flag,
    flag_field,
    settings,
    text_field,
    why_fields,
)
from airflow_provider_aha.flow import approved_flow
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator
from airflow_provider_aha.operators.plan import AhaPlanAccessOperator

RIGHTS = ("administer_account", "administer_billing", "administer_configuration")


def single_rights(params: Any) -> str:
    """Return the administrator rights that the form sets one by one, as JSON; empty: none."""
    found = {name: params[name] == "true" for name in RIGHTS if params[name] != KEEP}
    return json.dumps(found) if found else ""


def right_field(title: str) -> Param:
    """Return the field of one administrator right."""
    return flag_field(
        title, "This right alone; then leave Administrator as it is.", section="Single administrator rights"
    )


with DAG(
    dag_id="aha_update_user",
    dag_display_name="Aha! – Change one user",
    schedule=None,
    params={
        "user": Param(
            "",
            type="string",
            minLength=1,
            title="User",
            description="Id or email of the user, such as 6801234567890123456.",
        ),
        "first_name": text_field("First name", "Such as Ann. Aha! never shows it, so it can't be verified."),
        "last_name": text_field("Last name", "Such as Lee. Aha! never shows it, so it can't be verified."),
        "email": text_field("Email", "The address that the user logs in with, such as ann@example.com."),
        "enabled": flag_field("Enabled", "Whether the user may log in. Enabling may take a paid seat."),
        "administrator": flag_field("Administrator", "All administrator rights at once."),
        "administer_account": right_field("Account"),
        "administer_billing": right_field("Billing"),
        "administer_configuration": right_field("Configuration"),
        **why_fields(),
        **connection_field(section=ANOTHER_ACCOUNT),
        **dry_run_field(
            "only show what would happen",
            "the user is changed, when another person has approved what decides over access",
        ),
    },
    tags=["aha", FORM, WRITES],
    **settings(__doc__, hours=1, single_rights=single_rights),
):
    extract = AhaExtractUsersOperator(
        task_id="extract",
        base_path="{{ aha_base_path() }}",
        datasets=["users", "user_roles", "user_role_summary", "user_changes"],
        aha_conn_id=CONNECTION,
    )
    plan = AhaPlanAccessOperator(
        task_id="plan",
        users=["{{ params.user }}"],
        to={
            "first_name": "{{ params.first_name }}",
            "last_name": "{{ params.last_name }}",
            "email": "{{ params.email }}",
            "enabled": flag("enabled"),
            "administrator": flag("administrator"),
            "administrator_roles": "{{ single_rights(params) }}",
        },
        reason="{{ params.reason }}",
        ticket="{{ params.ticket }}",
        asked_by="{{ params.asked_by }}",
        aha_conn_id=CONNECTION,
    )
    extract >> plan
    approved_flow(plan, dry_run="{{ params.dry_run }}", aha_conn_id=CONNECTION)
