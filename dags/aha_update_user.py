"""Change one Aha! user. A field that is left empty stays as it is.

The account is read anew, a plan is made from the form, and a dry run shows what would happen. Whether somebody may
log in, the email and administrator rights decide over access: with *Dry run* unticked a second person is asked to
approve the plan, and only then is the user changed. A plan that sets only a name is carried out without asking. The
key's owner, protected users and the last administrator stay as they are, and every change leaves evidence under the
Variable `aha_output_path`.

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

KEEP = "leave as it is"


def text_field(title: str, description: str) -> Param:
    """Return a form field that may stay empty."""
    return Param(None, type=["null", "string"], title=title, description=description)


def flag_field(title: str, description: str) -> Param:
    """Return a form field with yes, no, and neither."""
    return Param(KEEP, type="string", enum=[KEEP, "true", "false"], title=title, description=description)


def flag(name: str) -> str:
    """Return the template of a flag field."""
    return "{{ '' if params." + name + " == '" + KEEP + "' else params." + name + " }}"


with DAG(
    dag_id="aha_update_user",
    description="Change one Aha! user, after a dry run and an approval",
    doc_md=__doc__,
    schedule=None,
    max_active_runs=1,
    default_args={"on_failure_callback": log_failure, "execution_timeout": timedelta(hours=1)},
    user_defined_macros={"aha_base_path": default_base_path},
    params={
        "user": Param("", type="string", minLength=1, title="User", description="Id or email of the user."),
        "first_name": text_field("First name", "Aha! never shows it, so it can't be verified."),
        "last_name": text_field("Last name", "Aha! never shows it, so it can't be verified."),
        "email": text_field("Email", "The address that the user logs in with."),
        "enabled": flag_field("Enabled", "Whether the user may log in. Enabling may take a paid seat."),
        "administrator": flag_field("Administrator", "All administrator rights at once."),
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
        "asked_by": text_field(
            "Asked for by", "Login of who asked for it, where a service account starts the run; may not approve it."
        ),
        "dry_run": Param(
            True,
            type="boolean",
            title="Dry run",
            description="On: only show what would happen. Off: the user is changed, when another person has "
            "approved what decides over access.",
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
        users=["{{ params.user }}"],
        to={
            "first_name": "{{ params.first_name }}",
            "last_name": "{{ params.last_name }}",
            "email": "{{ params.email }}",
            "enabled": flag("enabled"),
            "administrator": flag("administrator"),
        },
        reason="{{ params.reason }}",
        ticket="{{ params.ticket }}",
        asked_by="{{ params.asked_by }}",
    )
    extract >> plan
    approved_flow(plan, dry_run="{{ params.dry_run }}")
