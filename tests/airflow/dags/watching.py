"""Two asset watchers of one account, each for a change of its own; what they tell lands in files."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, task

from airflow_provider_aha.events import watcher_events
from airflow_provider_aha.triggers.watcher import AhaUsersChangedTrigger
from airflow_provider_aha.version_compat import AIRFLOW_V_3_1_PLUS


@task
def keep(change: str, **context: Any) -> None:
    """Write down what the watcher has told."""
    Path(os.environ["TEST_OUTPUT"], f"watched_{change}.json").write_text(json.dumps(watcher_events(context)))


if AIRFLOW_V_3_1_PLUS:
    from airflow.sdk import AssetWatcher

    for change, state in json.loads(os.environ["TEST_WATCHERS"]).items():
        trigger = AhaUsersChangedTrigger(state_path=state, changes=[change], poll_interval=10)
        watched = Asset(f"aha://{change}", watchers=[AssetWatcher(name=f"aha_{change}", trigger=trigger)])
        with DAG(f"watching_{change}", schedule=[watched], start_date=datetime(2026, 1, 1, tzinfo=UTC)):
            keep(change)
