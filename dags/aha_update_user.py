"""Change one Aha! user. A field that is left empty stays as it is.

Whether somebody may log in, the email and administrator rights pass the guards: the key's owner, protected
users and the last administrator stay as they are. Every change leaves evidence under the Variable
``aha_output_path``.
"""

from __future__ import annotations

import os

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_aha.callbacks import log_failure
from airflow_provider_aha.operators.users import AhaUpdateUserOperator

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
    description="Change one Aha! user",
    doc_md=__doc__,
    schedule=None,
    max_active_runs=1,
    default_args={"on_failure_callback": log_failure},
    params={
        "user": Param("", type="string", minLength=1, title="User", description="Id or email of the user."),
        "first_name": text_field("First name", "Aha! never shows it, so it can't be verified."),
        "last_name": text_field("Last name", "Aha! never shows it, so it can't be verified."),
        "email": text_field("Email", "The address that the user logs in with."),
        "enabled": flag_field("Enabled", "Whether the user may log in. Enabling may take a paid seat."),
        "administrator": flag_field("Administrator", "All administrator rights at once."),
        "ticket": text_field("Ticket", "Who asked for it; kept in the evidence."),
    },
    tags=["aha"],
):
    AhaUpdateUserOperator(
        task_id="update_user",
        user="{{ params.user }}",
        first_name="{{ params.first_name }}",
        last_name="{{ params.last_name }}",
        email="{{ params.email }}",
        enabled=flag("enabled"),
        administrator=flag("administrator"),
        ticket="{{ params.ticket }}",
        allow_privileged=True,
        pool=os.environ.get("AHA_WRITE_POOL", "default_pool"),
    )
