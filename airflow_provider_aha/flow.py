"""From a plan to the change: dry run, approval by a second person, carrying out; as one function for DAGs."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.python import ShortCircuitOperator

from airflow_provider_aha.common.values import to_bool
from airflow_provider_aha.operators.carry_out import AhaCarryOutPlanOperator
from airflow_provider_aha.operators.guards import approvers_of
from airflow_provider_aha.operators.plan import AhaPlanAccessOperator
from airflow_provider_aha.version_compat import AIRFLOW_V_3_1_PLUS


def approved_flow(plan: AhaPlanAccessOperator, *, dry_run: str, **guards: Any) -> None:
    """Have a plan shown by a dry run, approved by a second person, and carried out.

    Adds the tasks ``preview``, ``unless_dry_run``, ``approve`` and ``carry_out`` behind the plan. Airflow before
    3.1 can't ask a person: there ``unless_dry_run`` is the last one, and says so. The writing task uses the pool
    that the environment variable ``AHA_WRITE_POOL`` names.

    :param plan: the task that makes the plan.
    :param dry_run: template of the flag that keeps the run a dry run.
    :param guards: more arguments of the tasks that read and write users.
    """
    path = f"{{{{ ti.xcom_pull(task_ids='{plan.task_id}')['plan_path'] }}}}"
    preview = AhaCarryOutPlanOperator(task_id="preview", plan=path, dry_run=True, **guards)
    unless_dry_run = ShortCircuitOperator(task_id="unless_dry_run", python_callable=may_ask, op_args=[dry_run])
    plan >> preview >> unless_dry_run
    if AIRFLOW_V_3_1_PLUS:
        from airflow_provider_aha.operators.approvals import AhaApprovePlanOperator

        approve = AhaApprovePlanOperator(task_id="approve", plan=path, response_timeout=timedelta(hours=24))
        carry_out = AhaCarryOutPlanOperator(
            task_id="carry_out",
            plan=path,
            dry_run=False,
            pool=os.environ.get("AHA_WRITE_POOL", "default_pool"),
            **guards,
        )
        unless_dry_run >> approve >> carry_out


def may_write(writes_enabled: bool, sandbox: bool, approvers: Sequence[str] = ()) -> bool:
    """Tell whether a scheduled run may write to Aha!, and say why where it stays a dry run.

    DAGs use it in a template, as a macro.

    :param writes_enabled: :data:`airflow_provider_aha.variables.WRITES_ENABLED`, evaluated.
    :param sandbox: whether the plan is of a sandbox, as its task returned.
    :param approvers: who may approve, by the DAG's code; beside them the Variable ``aha_guards`` counts.
    """
    log = logging.getLogger(__name__)
    if not AIRFLOW_V_3_1_PLUS:
        log.warning("The approval by a person needs Airflow 3.1 or newer: this stays a dry run.")
    elif writes_enabled is not True:
        log.warning("The Variable aha_writes_enabled is not true: this stays a dry run.")
    elif sandbox is not True and not approvers_of(approvers):
        log.warning("Neither the DAG nor the Variable aha_guards names approvers: this stays a dry run.")
    else:
        return True
    return False


def may_ask(dry_run: object) -> bool:
    """Tell whether a run goes on to ask a person, and say why where it stays a dry run.

    :param dry_run: the flag, as it was rendered.
    """
    log = logging.getLogger(__name__)
    if to_bool(dry_run, "dry_run", default=True):
        log.info("This is a dry run: what would happen is in the log of the task before, and in the plan.")
        return False
    if not AIRFLOW_V_3_1_PLUS:
        log.warning("The approval by a second person needs Airflow 3.1 or newer: this stays a dry run.")
    return AIRFLOW_V_3_1_PLUS
