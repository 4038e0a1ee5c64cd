"""What to do when a task fails: say it in one sentence, where people look."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

# A logger of Airflow's tasks, so that the sentence stands in the task's own log.
log = logging.getLogger("airflow.task")


def log_failure(context: Context) -> None:
    """Log which task of which run failed, and what to look at.

    ::

        from airflow_provider_aha.callbacks import log_failure

        with DAG("aha_extract", default_args={"on_failure_callback": log_failure}):
            ...

    Airflow takes a list too: put a notifier of Slack, PagerDuty or email beside it. Of the error only its class
    is named here, since the text of an error of somebody else could hold what no log should.

    :param context: the task's context.
    """
    instance = context["ti"]
    mapped = "" if instance.map_index in (None, -1) else f"[{instance.map_index}]"
    log.error(
        "Task %s%s of DAG %s failed in run %s (%s, try %s): what comes after it didn't run. Look at the task's log "
        "for the reason, %s; a task that writes to Aha! has left under access/ what it has done.",
        instance.task_id,
        mapped,
        instance.dag_id,
        instance.run_id,
        type(context.get("exception")).__name__,
        instance.try_number,
        instance.log_url,
    )
