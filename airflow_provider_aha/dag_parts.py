"""What the example DAGs have in common: their schedule, their settings and the fields of their forms.

A DAG of your own may use it too. Nothing here looks anything up while a DAG file is parsed, but the environment
variable ``AHA_SCHEDULE``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import Param

from airflow_provider_aha.callbacks import log_failure
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.hooks.accounts import CONNECTIONS_VARIABLE, connection_id
from airflow_provider_aha.hooks.aha import AhaHook
from airflow_provider_aha.hooks.paths import BASE_PATH_VARIABLE, default_base_path

# What a DAG is, beside `aha`: words to filter the list of DAGs by.
READ, FORM, WRITES, PUSH, WATCH = "read", "form", "writes", "push", "watch"

SCHEDULES = "AHA_SCHEDULE"
# Text that is no JSON is the schedule of these.
_EXTRACTS = ("aha_extract", "aha_extract_many")

# Templates of what the forms ask for.
CONNECTION = "{{ aha_connection(params.aha_conn_id) }}"
BASE_PATH = "{{ aha_base_path(params.aha_output_path) }}"

# Sections of the forms. Airflow 3 shows the fields without one, and opens one section at a time: what a person
# has to fill in, and the switch between looking and doing, have none.
ANOTHER_ACCOUNT, ON_BEHALF = "Another account", "On behalf of somebody"

KEEP = "leave as it is"


def schedule_of(dag_id: str, default: Any) -> Any:
    """Return the schedule of a DAG: as the environment variable ``AHA_SCHEDULE`` has it, else its own.

    The variable is a JSON object of schedules by DAG id, such as ``{"aha_extract": "0 5 * * *"}``. Null leaves a
    DAG without a schedule: it runs when somebody triggers it. A schedule alone, which isn't JSON, is that of the
    extracts. Airflow's DAG processor reads it, on Airflow 2 the scheduler.

    :param dag_id: the DAG.
    :param default: its own schedule: cron, a preset such as ``@daily``, or assets.
    :return: the schedule, for the DAG.
    :raises AhaConfigurationError: when the variable can't be read; Airflow shows it as an import error.
    """
    text = (os.environ.get(SCHEDULES) or "").strip()
    if not text:
        return default
    if not text.startswith(("{", "[")):
        return text if dag_id in _EXTRACTS else default
    try:
        schedules = json.loads(text)
    except ValueError:
        schedules = None
    if not isinstance(schedules, dict) or not all(isinstance(one, str | None) for one in schedules.values()):
        raise AhaConfigurationError(
            f"The environment variable {SCHEDULES} must be a cron expression, or a JSON object of them by DAG id, "
            'such as {"aha_extract": "0 5 * * *", "aha_reclaim_seats": null}.'
        )
    return schedules.get(dag_id, default)


def settings(
    doc: str | None, *, hours: float, retries: int = 0, runs_at_once: int = 1, **macros: Any
) -> dict[str, Any]:
    """Return the arguments that all DAGs share.

    :param doc: the DAG file's docstring; its first line is the DAG's description.
    :param hours: how long a task may take.
    :param retries: how often a failed task is tried again, after five minutes.
    :param runs_at_once: how many runs may be active at the same time.
    :param macros: more functions for the DAG's templates, by name.
    :return: keyword arguments of ``DAG``.
    """
    default_args: dict[str, Any] = {
        "on_failure_callback": log_failure,
        "execution_timeout": timedelta(hours=hours),
    }
    if retries:
        default_args |= {"retries": retries, "retry_delay": timedelta(minutes=5)}
    return {
        "description": (doc or "").partition("\n")[0],
        "doc_md": doc,
        "start_date": datetime(2026, 1, 1, tzinfo=UTC),
        "catchup": False,
        "max_active_runs": runs_at_once,
        "default_args": default_args,
        "user_defined_macros": {"aha_base_path": default_base_path, "aha_connection": connection_id, **macros},
    }


# --- fields of forms -----------------------------------------------------------------------------


def connection_field(note: str = "", section: str = "") -> dict[str, Param]:
    """Return the field that chooses the account.

    :param note: what else a person should know before pressing Trigger, as Markdown.
    :param section: the part of the form in which it stands.
    """
    own = AhaHook.default_conn_name
    listed = f"Airflow connection of the account: {own}, or one that the Variable {CONNECTIONS_VARIABLE} lists."
    return {
        "aha_conn_id": Param(
            own,
            type="string",
            minLength=1,
            title="Connection",
            examples=[own],
            description_md=f"{note}\n\n{listed}" if note else listed,
            **_in(section),
        )
    }


def path_field() -> dict[str, Param]:
    """Return the field that says where files go."""
    return {
        "aha_output_path": text_field(
            "Output path",
            f"Absolute local path or object-store URL; empty: the Variable {BASE_PATH_VARIABLE}.",
            examples=("/data/aha", "s3://aws_default@bucket/aha"),
        )
    }


def why_fields() -> dict[str, Param]:
    """Return the fields that say why, for the person who approves and for the record."""
    return {
        "reason": Param(
            "",
            type="string",
            minLength=3,
            title="Reason",
            description="Shown to the person who approves it; kept in plan and evidence. "
            "Such as: contract ended in October.",
        ),
        "ticket": Param(
            "",
            type="string",
            minLength=1,
            title="Ticket",
            description="Its number, such as IT-4711; kept in plan and evidence.",
        ),
        "asked_by": text_field(
            "Asked for by",
            "Login of who asked for it, such as ann, where a service account starts the run; may not approve it.",
            section=ON_BEHALF,
        ),
    }


def dry_run_field(on: str, off: str, *, default: bool = True) -> dict[str, Param]:
    """Return the switch between looking and doing.

    :param on: what a dry run does.
    :param off: what happens otherwise.
    :param default: where the switch stands.
    """
    return {"dry_run": Param(default, type="boolean", title="Dry run", description=f"On: {on}. Off: {off}.")}


def users_field(description: str) -> Param:
    """Return a field for ids of users, one per line.

    :param description: what happens to them.
    """
    return Param(
        None,
        type=["null", "array"],
        items={"type": "string", "pattern": "^[0-9]+$"},
        title="User ids",
        description=f"{description} One id per line, such as 6801234567890123456.",
    )


def text_field(title: str, description: str, *, section: str = "", examples: Sequence[str] = ()) -> Param:
    """Return a field for text that may stay empty.

    :param title: its label.
    :param description: what it is for.
    :param section: the part of the form in which it stands.
    :param examples: values that the form proposes.
    """
    more: dict[str, Any] = {"examples": list(examples)} if examples else {}
    return Param(None, type=["null", "string"], title=title, description=description, **more, **_in(section))


def flag_field(title: str, description: str, *, section: str = "") -> Param:
    """Return a field with yes, no, and neither.

    :param title: its label.
    :param description: what it is for.
    :param section: the part of the form in which it stands.
    """
    return Param(
        KEEP,
        type="string",
        enum=[KEEP, "true", "false"],
        values_display={KEEP: "Leave as it is", "true": "Yes", "false": "No"},
        title=title,
        description=description,
        **_in(section),
    )


def flag(name: str) -> str:
    """Return the template of a field that :func:`flag_field` made; it renders to nothing where it stays as it is.

    :param name: the field.
    """
    return "{{ '' if params." + name + " == '" + KEEP + "' else params." + name + " }}"


def _in(section: str) -> dict[str, Any]:
    return {"section": section} if section else {}
