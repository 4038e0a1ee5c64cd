"""Which Airflow this is; for what only newer versions can do."""

from __future__ import annotations

from airflow import __version__ as _airflow_version

# Pre-releases count as the release: their number comes first.
AIRFLOW_RELEASE = tuple(int(part) for part in _airflow_version.split(".")[:2])
AIRFLOW_V_3_1_PLUS = AIRFLOW_RELEASE >= (3, 1)
