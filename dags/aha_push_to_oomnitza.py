"""Keep Oomnitza's people and users of Aha! in step with an Aha! account. It never deletes anybody there.

It runs after every `aha_extract`. What goes where stands in the two files beside this one. **They are drafts:
until `launched` in them is `true`, a run reads Oomnitza, says what it would do, and writes nothing.** To launch,
copy the three files into your DAG folder and change them there.

Nobody is deleted or deactivated at Oomnitza.

| Variable | default | meaning |
|---|---|---|
| `aha_oomnitza_role` | none | role of new people at Oomnitza, by name or number, such as `Employee`; needed |
| `aha_output_path` | `$AIRFLOW_HOME/aha` | where snapshots and outcomes lie |
"""

from __future__ import annotations

from pathlib import Path

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_aha.assets import USER_ROLE_SUMMARY, USERS
from airflow_provider_aha.dag_parts import PUSH, dry_run_field, schedule_of, settings, text_field
from airflow_provider_aha.transfers.to_oomnitza import AhaToOomnitzaOperator

HERE = Path(__file__).parent

with DAG(
    dag_id="aha_push_to_oomnitza",
    dag_display_name="Aha! – Push users to Oomnitza",
    schedule=schedule_of("aha_push_to_oomnitza", [USERS, USER_ROLE_SUMMARY]),
    params={
        "role": text_field(
            "Role of new people",
            "Its name or number at Oomnitza, such as Employee or 25; empty: the Variable aha_oomnitza_role. The "
            "run asks Oomnitza whether it has this role.",
        ),
        **dry_run_field(
            "say what would be written, and write nothing",
            "a mapping that is launched is carried out",
            default=False,
        ),
    },
    tags=["aha", PUSH],
    **settings(__doc__, hours=6, retries=2),
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
