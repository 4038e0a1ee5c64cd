"""One user in the words of the datasets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.datasets import schemas
from airflow_provider_aha.datasets.extract import workspace_names
from airflow_provider_aha.datasets.users import Normalizer, UsersPage

PERSONAL = ("name", "email", "extra_json")
ROLES = "roles"
FIELDS = (*schemas.USERS.names, ROLES)
_ROLE_FIELDS = ("role_kind", "workspace_id", "workspace_name", "role_id", "role", "role_name", "role_rank")


def details(client: AhaClient, user: dict[str, Any], *, connection_id: str) -> dict[str, Any]:
    """Describe a user with the columns of ``users``, and the user's roles.

    :param client: client of the account, for the names of workspaces.
    :param user: the user object of the list, which has custom roles and seat group.
    :param connection_id: id of the connection.
    :return: one value per column of ``users``, times as ISO 8601 text; under ``roles`` a list of dicts.
    """
    page = UsersPage(
        orjson.dumps(
            {"users": [user], "pagination": {"total_records": 1, "total_pages": 1, "current_page": 1}},
            option=orjson.OPT_NON_STR_KEYS,
        )
    )
    unnamed = any(role.get("product_name") is None for role in user.get("product_roles") or ())
    normalizer = Normalizer(
        subdomain=client.config.account,
        connection_id=connection_id,
        synced_at=datetime.now(UTC),
        workspace_names=workspace_names(client) if unnamed else {},
    )
    tables = normalizer.tables([page])
    found: dict[str, Any] = _texts(tables["users"]).to_pylist()[0]
    found[ROLES] = tables["user_roles"].select(_ROLE_FIELDS).to_pylist()
    return found


def _texts(table: pa.Table) -> pa.Table:
    # Times go into XCom as text, and reading them as Python objects would load pandas.
    names = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
    for name in names:
        text = pc.strftime(table.column(name), format="%Y-%m-%dT%H:%M:%SZ")
        table = table.set_column(table.schema.get_field_index(name), name, text)
    return table
