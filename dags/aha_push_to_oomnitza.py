"""Keep Oomnitza's people, and its users of the SaaS application Aha!, in step with an Aha! account.

It runs after every `aha_extract`. What goes where stands in the two files beside this one. **They are drafts:
until `launched` in them is `true`, a run reads Oomnitza, says what it would do, and writes nothing.** To launch,
copy the three files into your DAG folder and change them there.

Nobody is deleted or deactivated at Oomnitza.

| Variable | default | meaning |
|---|---|---|
| `aha_oomnitza_role` | none | the number of the role that new people get at Oomnitza; needed |
| `aha_output_path` | `$AIRFLOW_HOME/aha` | where snapshots and outcomes lie |
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_aha.assets import USER_ROLE_SUMMARY, USERS
from airflow_provider_aha.callbacks import log_failure
from airflow_provider_aha.hooks.paths import default_base_path
from airflow_provider_aha.transfers.to_oomnitza import AhaToOomnitzaOperator

HERE = Path(__file__).parent

with DAG(
    dag_id="aha_push_to_oomnitza",
    description="Aha! users as people and SaaS users of Oomnitza",
    doc_md=__doc__,
    schedule=[USERS, USER_ROLE_SUMMARY],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={
        "on_failure_callback": log_failure,
        "retries": 2,
        "retry_delay": timedelta(minutes=5),
        "execution_timeout": timedelta(hours=6),
    },
    params={
        "dry_run": Param(
            False, type="boolean", title="Dry run", description="Say what would be done, and write nothing."
        ),
        "role": Param(
            None,
            type=["null", "integer"],
            title="Role of new people",
            description="Its number at Oomnitza; empty: the Variable aha_oomnitza_role.",
        ),
    },
    user_defined_macros={"aha_base_path": default_base_path},
    tags=["aha"],
):
    people = AhaToOomnitzaOperator(
        task_id="push_people",
        mapping=str(HERE / "aha_push_to_oomnitza_people.yaml"),
        mapping_params={"role": "{{ params.role or var.value.get('aha_oomnitza_role', '') }}"},
        base_path="{{ aha_base_path() }}",
        dry_run="{{ params.dry_run }}",
        inlets=[USERS],
    )
    saas_users = AhaToOomnitzaOperator(
        task_id="push_saas_users",
        records="saas_users",
        mapping=str(HERE / "aha_push_to_oomnitza_saas_users.yaml"),
        base_path="{{ aha_base_path() }}",
        dry_run="{{ params.dry_run }}",
        inlets=[USERS],
    )
    people >> saas_users
