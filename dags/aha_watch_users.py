"""React to a new administrator or a returning user, with a sensor. It never changes anything in Aha!.

Each run waits for up to 50 minutes, in the triggerer, and is skipped when nothing happens; what happens between two
runs is found by the next one. The sensor keeps what it has seen in the file `watch/aha_watch_users.zip` under the
base path: it holds names and emails, as a snapshot does.

On Airflow 3.1 and later `aha_on_users_changed` does the same without a run that waits.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_aha.dag_parts import BASE_PATH, WATCH, path_field, schedule_of, settings
from airflow_provider_aha.events import changed_users
from airflow_provider_aha.operators.users import AhaGetUserOperator
from airflow_provider_aha.sensors.users import AhaUsersChangedSensor

with DAG(
    dag_id="aha_watch_users",
    dag_display_name="Aha! – Wait for administrators and returning users",
    schedule=schedule_of("aha_watch_users", "7 * * * *"),
    params=path_field(),
    tags=["aha", WATCH],
    **settings(__doc__, hours=1),
):

    @task
    def users(event: Any, change: str) -> list[str]:
        """Name the users to whom it happened."""
        return changed_users([event], change)

    changed = AhaUsersChangedSensor(
        task_id="wait_for_a_change",
        since=f"{BASE_PATH}/watch/aha_watch_users.zip",
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
