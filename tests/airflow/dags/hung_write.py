"""A task whose time is over while Aha! holds back the answer to its write."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_aha.operators.deactivations import AhaDeactivateUsersOperator

with DAG("test_hung_write", schedule="@once", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False):
    AhaDeactivateUsersOperator(
        task_id="write",
        users=[os.environ.get("TEST_USER", "1")],
        dry_run=False,
        allow_privileged=True,
        retries=1,
        retry_delay=timedelta(seconds=1),
        execution_timeout=timedelta(seconds=30),
    )
