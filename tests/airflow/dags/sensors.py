"""Sensors of every kind; what they wait for comes with the run, and how they wait from the environment."""

from __future__ import annotations

import json
import os
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_aha.sensors.users import AhaSeatUsageSensor, AhaUsersChangedSensor, AhaUserSensor

how: dict[str, Any] = {"poke_interval": 1, "timeout": 20, "deferrable": os.environ.get("DEFERRABLE") == "True"}
how |= json.loads(os.environ.get("HOW", "{}"))

with DAG("sensors_user", schedule=None):
    AhaUserSensor(task_id="wait", user="{{ params.user }}", until="{{ params.until }}", **how)

with DAG("sensors_changed", schedule=None):
    AhaUsersChangedSensor(task_id="wait", since="{{ params.since }}", changes="{{ params.changes }}", **how)

with DAG("sensors_seats", schedule=None):
    AhaSeatUsageSensor(task_id="wait", threshold="{{ params.threshold }}", group="{{ params.group }}", **how)
