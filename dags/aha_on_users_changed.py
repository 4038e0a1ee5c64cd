"""React to a new administrator or a returning user as soon as it is seen. It never changes anything in Aha!.

The triggerer looks at the account and starts a run when there is something to react to. It needs Airflow 3.1 or
later: before, there are no asset watchers and this file holds no DAG; `aha_watch_users` does the same with a sensor.

A watcher is fixed when this file is parsed, so its settings come from environment variables of the DAG processor:

| environment variable | default | meaning |
|---|---|---|
| `AHA_WATCH_STATE` | `$AIRFLOW_HOME/aha/watch/aha_on_users_changed.zip` | state file: what was seen last, with names and emails; all triggerers must see it |
| `AHA_WATCH_SECONDS` | 300 | seconds between two looks, at least 10 |

Changes come at least once; should a triggerer die at the wrong moment, the same ones come again.
"""  # noqa: E501

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, task

from airflow_provider_aha.dag_parts import WATCH, settings
from airflow_provider_aha.events import changed_users, watcher_events
from airflow_provider_aha.operators.users import AhaGetUserOperator
from airflow_provider_aha.triggers.watcher import AhaUsersChangedTrigger
from airflow_provider_aha.version_compat import AIRFLOW_V_3_1_PLUS

if AIRFLOW_V_3_1_PLUS:
    from airflow.sdk import AssetWatcher

    home = Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser()
    changes = AhaUsersChangedTrigger(
        state_path=os.environ.get("AHA_WATCH_STATE") or str(home / "aha" / "watch" / "aha_on_users_changed.zip"),
        changes=["admin_granted", "enabled"],
        poll_interval=float(os.environ.get("AHA_WATCH_SECONDS") or 300),
    )

    with DAG(
        dag_id="aha_on_users_changed",
        dag_display_name="Aha! – Act at once on administrators and returning users",
        schedule=[Asset("aha://users_changed", watchers=[AssetWatcher(name="aha_users", trigger=changes)])],
        tags=["aha", WATCH],
        **settings(__doc__, hours=0.5),
    ):

        @task
        def users(change: str, **context: Any) -> list[str]:
            """Name the users to whom it happened."""
            return changed_users(watcher_events(context), change)

        # Put in here what your security team wants to happen: a ticket, a message, a review.
        AhaGetUserOperator.partial(task_id="look_at_new_administrator", on_missing="skip").expand(
            user=users.override(task_id="new_administrators")("admin_granted")
        )
        AhaGetUserOperator.partial(task_id="look_at_returning_user", on_missing="skip").expand(
            user=users.override(task_id="returning_users")("enabled")
        )
