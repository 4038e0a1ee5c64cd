"""The operator that asks a person, for Airflow 3.1 and later; see :mod:`airflow_provider_aha.operators.hitl`.

Airflow before 3.1 has no way to ask a person inside a run: importing the operator fails there, and plans can be
made and looked at, but not carried out with an approval.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_aha.operators.hitl import AhaApprovePlanOperator as AhaApprovePlanOperator


def __getattr__(name: str) -> Any:
    """Load the operator when it is first named.

    What Airflow's own operator brings along costs more than all other modules of this package together: only a DAG
    that asks a person pays for it.
    """
    if name == "AhaApprovePlanOperator":
        from airflow_provider_aha.operators.hitl import AhaApprovePlanOperator

        return AhaApprovePlanOperator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
