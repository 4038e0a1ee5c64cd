"""Deferred sensors that wait for changes which a test makes; what they return lands in files."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_aha.sensors.users import AhaSeatUsageSensor, AhaUsersChangedSensor, AhaUserSensor

USERS = json.loads(os.environ["TEST_USERS"])
how: dict[str, Any] = {"deferrable": True, "poke_interval": 10}
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


@task
def keep(found: Any, name: str) -> None:
    """Write down what a sensor has returned."""
    Path(os.environ["TEST_OUTPUT"], f"{name}.json").write_text(json.dumps(found))


with DAG("waiting_users", schedule="@once", start_date=BEGAN):
    for user in USERS:
        AhaUserSensor(task_id=f"user_{user}", user=user, until="disabled", **how)

with DAG("waiting_others", schedule="@once", start_date=BEGAN):
    changed = AhaUsersChangedSensor(task_id="changed", since=os.environ["TEST_STATE"], changes=["disabled"], **how)
    seats = AhaSeatUsageSensor(task_id="seats", threshold="100%", group=os.environ["TEST_GROUP"], **how)
    new = AhaUserSensor(task_id="email", user="somebody.new@example.com", **how)
    for sensor in (changed, seats, new):
        keep.override(task_id=f"keep_{sensor.task_id}")(sensor.output, sensor.task_id)
