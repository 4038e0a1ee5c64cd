"""React to what happens to users, with a sensor: somebody becomes an administrator, or a disabled user returns.

Each run waits for up to 50 minutes, in the triggerer, and is skipped when nothing happens; what happens between two
runs is found by the next one. The sensor keeps what it has seen in the file `watch/aha_watch_users.zip` under the
base path: it holds names and emails, as a snapshot does.

On Airflow 3.1 and later `aha_on_users_changed` does the same without a run that waits.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_aha.callbacks import log_failure
from airflow_provider_aha.events import changed_users
from airflow_provider_aha.hooks.paths import default_base_path
from airflow_provider_aha.operators.users import AhaGetUserOperator
from airflow_provider_aha.sensors.users import AhaUsersChangedSensor

with DAG(
    dag_id="aha_watch_users",
    description="Wait for new administrators and returning users, and look at them",
    doc_md=__doc__,
    schedule=os.environ.get("AHA_WATCH_SCHEDULE") or "7 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"on_failure_callback": log_failure, "execution_timeout": timedelta(hours=1)},
    params={
        "aha_output_path": Param(
            None,
            type=["null", "string"],
            title="Output path",
            description="Absolute local path or object-store URL; empty: the Variable aha_output_path.",
        )
    },
    user_defined_macros={"aha_base_path": default_base_path},
    tags=["aha"],
):

    @task
    def users(event: Any, change: str) -> list[str]:
        """Name the users to whom it happened."""
        return changed_users([event], change)

    changed = AhaUsersChangedSensor(
        task_id="wait_for_a_change",
        since="{{ aha_base_path(params.aha_output_path) }}/watch/aha_watch_users.zip",
        changes=["admin_granted", "enabled"],
        deferrable=True,
        timeout=timedelta(minutes=50),
        soft_fail=True,
        retries=2,
    )
    # Put in here what your security team wants to happen: a ticket, a message, a review.
    AhaGetUserOperator.partial(task_id="look_at_new_administrator", on_missing="skip").expand(
        user=users.override(task_id="new_administrators")(changed.output, "admin_granted")
    )
    AhaGetUserOperator.partial(task_id="look_at_returning_user", on_missing="skip").expand(
        user=users.override(task_id="returning_users")(changed.output, "enabled")
    )
