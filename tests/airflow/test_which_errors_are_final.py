"""Of each operator and each error: whether the task fails at once, or may be tried again.

Before errors said so themselves, three lists did. What changed when the lists went, all on purpose:

- a user who isn't there, an email of several users and a value that Aha! refuses fail the task at once in every
  operator: the lists for extracts, plans and pushes let them be tried again;
- a snapshot that is just being replaced may be tried again everywhere: the list of the operators that write,
  report, prune and confirm, and that of the sensors, failed at once;
- a snapshot that isn't there yet, and a record that was changed, fail at once in plans and pushes, too;
- a roster that can't be trusted may be tried again in the report, too, as in the plan;
- the task that asks for an approval fails at once for all of these: it tried everything again.
"""

import sys
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, patch

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_aha import exceptions
from airflow_provider_aha.exceptions import AhaError
from airflow_provider_aha.hooks.aha import AhaHook
from airflow_provider_aha.operators.carry_out import AhaCarryOutPlanOperator
from airflow_provider_aha.operators.confirm import AhaConfirmDeactivationsOperator
from airflow_provider_aha.operators.deactivations import AhaDeactivateUsersOperator, AhaReactivateUsersOperator
from airflow_provider_aha.operators.extract import AhaExtractRolesOperator, AhaExtractUsersOperator
from airflow_provider_aha.operators.plan import AhaPlanAccessOperator
from airflow_provider_aha.operators.prune import AhaPruneOperator
from airflow_provider_aha.operators.report import AhaAccessReportOperator, AhaSubmitReviewOperator
from airflow_provider_aha.operators.users import AhaGetUserOperator, AhaUpdateUserOperator
from airflow_provider_aha.sensors.users import AhaSeatUsageSensor, AhaUsersChangedSensor, AhaUserSensor
from airflow_provider_aha.transfers.base import AhaPushOperator
from airflow_provider_aha.transfers.suggest import AhaSuggestMappingOperator
from airflow_provider_aha.transfers.to_file import AhaToFileOperator
from airflow_provider_aha.transfers.to_http import AhaToHttpOperator
from airflow_provider_aha.transfers.to_oomnitza import AhaToOomnitzaOperator
from airflow_provider_aha.transfers.to_sql import AhaToSqlOperator
from airflow_provider_aha.version_compat import AIRFLOW_V_3_1_PLUS

if AIRFLOW_V_3_1_PLUS:
    from airflow_provider_aha.operators.hitl import AhaApprovePlanOperator

BASE = "/data/aha"
OPERATORS: dict[type[Any], dict[str, Any]] = {
    AhaExtractUsersOperator: {"base_path": BASE},
    AhaExtractRolesOperator: {"base_path": BASE},
    AhaGetUserOperator: {"user": "ann@example.com"},
    AhaPlanAccessOperator: {"users": ["1"], "reason": "left", "base_path": BASE},
    AhaCarryOutPlanOperator: {"plan": f"{BASE}/plan.json"},
    AhaConfirmDeactivationsOperator: {"base_path": BASE},
    AhaDeactivateUsersOperator: {"users": ["1"], "base_path": BASE},
    AhaReactivateUsersOperator: {"users": ["1"], "base_path": BASE},
    AhaUpdateUserOperator: {"user": "1", "first_name": "Ann", "base_path": BASE},
    AhaPruneOperator: {"base_path": BASE},
    AhaAccessReportOperator: {"base_path": BASE},
    AhaSubmitReviewOperator: {"text": "x", "base_path": BASE},
    AhaToFileOperator: {"mapping": "m", "path": f"{BASE}/x.csv"},
    AhaToHttpOperator: {"mapping": "m", "http_conn_id": "x"},
    AhaToSqlOperator: {"mapping": "m", "sql_conn_id": "x", "table": "x"},
    AhaToOomnitzaOperator: {"mapping": "m"},
    AhaSuggestMappingOperator: {"target_conn_id": "x"},
    AhaUserSensor: {"user": "1"},
    AhaUsersChangedSensor: {"since": BASE},
    AhaSeatUsageSensor: {"threshold": "5"},
}
if AIRFLOW_V_3_1_PLUS:
    OPERATORS[AhaApprovePlanOperator] = {"plan": f"{BASE}/plan.json"}
ERRORS = {
    name: thing
    for name, thing in vars(exceptions).items()
    if isinstance(thing, type) and issubclass(thing, AhaError) and thing is not AhaError
}


def outcome(kind: type[Any], error: type[AhaError]) -> str:
    """Let everything that an operator asks for fail with an error."""
    failing = MagicMock(side_effect=error("Nothing."))
    instance = SimpleNamespace(
        dag_id="d", task_id="t", run_id="r", map_index=-1, try_number=1, xcom_push=MagicMock()
    )
    context = {"ti": instance, "task_instance": instance, "dag_run": SimpleNamespace(run_type="manual")}
    with ExitStack() as stack:
        stack.enter_context(patch.object(AhaHook, "get_conn", failing))
        stack.enter_context(patch.object(AhaSuggestMappingOperator, "_target", failing))
        stack.enter_context(patch.object(AhaSuggestMappingOperator, "_conn_id", lambda _: "x"))
        stack.enter_context(patch.object(AhaPushOperator, "_spec", MagicMock()))
        for module in {one.__module__ for one in kind.__mro__ if one.__module__.startswith("airflow_provider_aha")}:
            if hasattr(sys.modules[module], "resolve_path"):
                stack.enter_context(patch(f"{module}.resolve_path", failing))
        operator = kind(task_id="t", **OPERATORS[kind])
        look = operator.poke if hasattr(operator, "poke") else operator.execute
        try:
            look(context)
        except AirflowFailException:
            return "fails at once"
        except error:
            return "may be tried again"
    raise AssertionError("It ended well.")


# What another try can't help.
AT_ONCE = {
    "AhaAmbiguousUserError",
    "AhaApprovalError",
    "AhaAuthenticationError",
    "AhaConfigurationError",
    "AhaGuardError",
    "AhaMappingError",
    "AhaNoSnapshotError",
    "AhaNotFoundError",
    "AhaPermissionError",
    "AhaRecordError",
    "AhaRejectedError",
    "AhaValidationError",
}


@pytest.mark.parametrize("kind", OPERATORS, ids=lambda kind: kind.__name__)
def test_a_task_fails_at_once_where_another_try_cannot_help(kind: type[Any]) -> None:
    found = {name: outcome(kind, error) for name, error in ERRORS.items()}
    assert {name for name, word in found.items() if word == "fails at once"} == AT_ONCE


def test_no_operator_is_left_out() -> None:
    from airflow_provider_aha.operators.base import AhaOperator
    from airflow_provider_aha.sensors.users import AhaSensor

    def leaves(kind: type[Any]) -> set[type[Any]]:
        below = {leaf for one in kind.__subclasses__() for leaf in leaves(one)}
        own = kind.__module__.startswith("airflow_provider_aha.") and not kind.__subclasses__()
        return below | ({kind} if own else set())

    known = {*OPERATORS, *(one for kind in OPERATORS for one in kind.__mro__)}
    assert leaves(AhaOperator) | leaves(AhaSensor) <= known
