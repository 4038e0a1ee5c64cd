"""Enable Aha! users again: those that a run disabled, or users by id.

Give the path of a run's `evidence.parquet` to undo exactly what that run did, or a list of ids. With *Dry run*
ticked nothing is changed. Every paid seat that is taken again may be billed at once; the log says how many.
"""

from __future__ import annotations

import os

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_aha.callbacks import log_failure
from airflow_provider_aha.operators.deactivations import AhaReactivateUsersOperator

with DAG(
    dag_id="aha_reactivate_users",
    description="Enable Aha! users again",
    doc_md=__doc__,
    schedule=None,
    max_active_runs=1,
    default_args={"on_failure_callback": log_failure},
    params={
        "evidence": Param(
            None,
            type=["null", "string"],
            title="Evidence",
            description="Path of the evidence.parquet of the run to undo; or leave it empty and give ids.",
        ),
        "ids": Param(
            None,
            type=["null", "array"],
            items={"type": "string", "pattern": "^[0-9]+$"},
            title="User ids",
            description="One id per line, where there is no evidence.",
        ),
        "ticket": Param("", type="string", minLength=1, title="Ticket", description="Kept in the evidence."),
        "dry_run": Param(
            True, type="boolean", title="Dry run", description="Show what would happen, change nothing."
        ),
    },
    tags=["aha"],
):
    AhaReactivateUsersOperator(
        task_id="reactivate",
        evidence="{{ params.evidence }}",
        users="{{ params.ids }}",
        dry_run="{{ params.dry_run }}",
        ticket="{{ params.ticket }}",
        pool=os.environ.get("AHA_WRITE_POOL", "default_pool"),
    )
