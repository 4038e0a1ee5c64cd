"""A DAG that extracts users, one that its asset starts, and one that a person starts."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, Asset, task

from airflow_provider_aha.assets import USERS, manifests
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator

NOTHING = Asset("aha://nothing")
START = datetime(2026, 1, 1, tzinfo=UTC)


@task(inlets=[USERS])
def read_manifests(**context):
    """Return what a consumer of the asset is to work on."""
    return manifests(context, USERS)


with DAG("test_producer", schedule=None, start_date=START, catchup=False):
    AhaExtractUsersOperator(
        task_id="extract",
        base_path="{{ dag_run.conf['path'] }}",
        datasets="{{ dag_run.conf['datasets'] }}",
        aha_conn_id="{{ dag_run.conf.get('connection', 'aha_default') }}",
        outlets=[USERS],
    )

with DAG("test_started_by_asset", schedule=[USERS], start_date=START, catchup=False):
    read_manifests()

with DAG("test_started_by_person", schedule=None, start_date=START, catchup=False):
    read_manifests()


@task(inlets=[NOTHING])
def read_nothing(**context):
    """Ask for an asset that nothing has updated."""
    return manifests(context, NOTHING)


with DAG("test_nothing_announced", schedule=None, start_date=START, catchup=False):
    read_nothing()
