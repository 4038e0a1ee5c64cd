"""The operations that there are, by name: the one line that a new one adds beside its own file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_aha.access.operations.base import Operation
from airflow_provider_aha.access.operations.user_fields import ACCOUNT, UserFields
from airflow_provider_aha.access.operations.workspace_role import WorkspaceRole, place_of
from airflow_provider_aha.common.addresses import is_id
from airflow_provider_aha.common.values import to_text
from airflow_provider_aha.exceptions import AhaConfigurationError

USER_FIELDS, WORKSPACE_ROLE = UserFields.name, WorkspaceRole.name
OPERATIONS: dict[str, Operation] = {one.name: one for one in (UserFields(), WorkspaceRole())}


def read_to(given: Mapping[str, object]) -> tuple[str, str, dict[str, Any]]:
    """Read what somebody asks for, as a form or DAG code gives it.

    :param given: fields of the ``user`` object; or ``role`` and ``workspace``, its id.
    :return: the operation, the object, and what it is to be.
    :raises AhaConfigurationError: when a field is unknown or a value is invalid.
    """
    if not given.keys() & {"role", "workspace"}:
        return USER_FIELDS, ACCOUNT, OPERATIONS[USER_FIELDS].read_wanted(given)
    workspace = to_text(given.get("workspace"), "workspace")
    if workspace is None or not is_id(workspace):
        raise AhaConfigurationError("workspace must be the id of a workspace, which has digits only.")
    fields = {name: value for name, value in given.items() if name != "workspace"}
    return WORKSPACE_ROLE, place_of(workspace), OPERATIONS[WORKSPACE_ROLE].read_wanted(fields)
