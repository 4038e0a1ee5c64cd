"""The hook: an Airflow connection of type ``aha`` becomes a client of the account."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Variable

from airflow_provider_aha import get_provider_info
from airflow_provider_aha.common.text import visible
from airflow_provider_aha.common.values import is_unset
from airflow_provider_aha.exceptions import AhaError, AhaPermissionError
from airflow_provider_aha.hooks.common import (
    ClientHook,
    airflow_user_agent,
    field_behaviour,
    fields_of,
    form_widgets,
    mask_key,
)

if TYPE_CHECKING:
    import pandas as pd

    from airflow_provider_aha.api.client import AhaClient
    from airflow_provider_aha.api.config import ClientConfig

SUBDOMAIN_VARIABLE = "aha_subdomain"
_LONGEST_NAME = 100


class AhaHook(ClientHook["AhaClient"]):
    """Gives access to one Aha! account.

    ::

        users = AhaHook().get_users_df()
        unused = users[users.occupies_seat & (users.days_inactive > 90)]

    The connection is looked up at the first read, not before. Reading the list of users is complete or fails.

    :param aha_conn_id: the Airflow connection of type ``aha``: subdomain in its host (else the Variable
        ``aha_subdomain``), API key in its password; the connection page of the docs has every field.
    """

    conn_name_attr = "aha_conn_id"
    default_conn_name = "aha_default"
    conn_type = get_provider_info.CONNECTION_TYPE
    hook_name = get_provider_info.HOOK_NAME

    relabeling = get_provider_info.RELABELING
    placeholders = get_provider_info.PLACEHOLDERS
    conn_fields = get_provider_info.CONN_FIELDS
    aha_conn_id: str

    # Airflow 2 looks for these two in the class itself.

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return labels and hidden fields of the connection form, for Airflow before 3.2."""
        return field_behaviour(cls.relabeling, cls.placeholders)

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the extra fields of the connection form, for Airflow before 3.2."""
        return form_widgets(cls.conn_fields)

    def __init__(self, aha_conn_id: str = default_conn_name) -> None:
        super().__init__(aha_conn_id)

    def _new_client(self, **changes: Any) -> AhaClient:
        from airflow_provider_aha.api.client import AhaClient
        from airflow_provider_aha.api.config import ClientConfig

        fields = self._fields()
        if is_unset(fields["host"]):
            fields["host"] = Variable.get(SUBDOMAIN_VARIABLE, None)
        config = ClientConfig.from_connection(**fields)
        mask_key(config.api_key)
        return AhaClient(replace(config, **changes), user_agent=airflow_user_agent())

    def test_connection(self) -> tuple[bool, str]:
        """Ask Aha! who the key is and what it may do.

        :return: whether it works, and a sentence for the person who pressed Test; never the key.
        """
        try:
            # That person is waiting: the first answer counts.
            with self._new_client(max_retries=0) as client:
                return _introduce(client)
        except AhaError as error:
            return False, str(error)

    def iter_users(self) -> Iterator[dict[str, Any]]:
        """Yield all users of the account; see :meth:`airflow_provider_aha.api.client.AhaClient.iter_users`."""
        return self.get_conn().iter_users()

    def get_user(self, user_id: str) -> dict[str, Any]:
        """Return one user by id; see :meth:`airflow_provider_aha.api.client.AhaClient.get_user`.

        :param user_id: the user's id.
        """
        return self.get_conn().get_user(user_id)

    def find_user(self, email: str) -> dict[str, Any]:
        """Return the one user with an email; see :meth:`airflow_provider_aha.api.client.AhaClient.find_user`.

        :param email: the address; case doesn't count.
        """
        return self.get_conn().find_user(email)

    def iter_workspaces(self) -> Iterator[dict[str, Any]]:
        """Yield all visible workspaces; see :meth:`airflow_provider_aha.api.client.AhaClient.iter_workspaces`."""
        return self.get_conn().iter_workspaces()

    def get_users_df(self) -> pd.DataFrame:
        """Return the ``users`` dataset of now as a pandas DataFrame, one row per user.

        :raises AhaError: as :meth:`iter_users`.
        """
        return self._dataframe("users")

    def get_roles_df(self) -> pd.DataFrame:
        """Return the ``user_roles`` dataset of now as a pandas DataFrame, one row per user, workspace and role.

        :raises AhaError: as :meth:`iter_users`.
        """
        return self._dataframe("user_roles")

    def _dataframe(self, dataset: str) -> pd.DataFrame:
        from airflow_provider_aha.datasets.extract import read_tables

        tables = read_tables(self.get_conn(), connection_id=self.aha_conn_id)
        frame: pd.DataFrame = tables[dataset].to_pandas()
        return frame


async def get_async_config(aha_conn_id: str) -> ClientConfig:
    """Resolve a connection where a trigger runs: on the event loop, and nowhere else.

    :param aha_conn_id: the Airflow connection of the account.
    :return: what a client needs; a thread may use it, which must not ask Airflow itself.
    :raises AhaConfigurationError: when a field of the connection can't be right.
    """
    from airflow.providers.common.compat.connection import get_async_connection
    from asgiref.sync import sync_to_async

    from airflow_provider_aha.api.config import ClientConfig

    connection = await get_async_connection(aha_conn_id)
    fields = fields_of(connection, AhaHook.conn_type)
    if is_unset(fields["host"]):
        fields["host"] = await sync_to_async(Variable.get)(SUBDOMAIN_VARIABLE, None)
    return ClientConfig.from_connection(**fields)


def _introduce(client: AhaClient) -> tuple[bool, str]:
    owner = client.me()
    name = visible(owner.get("name"))[:_LONGEST_NAME] or "a user without name"
    who = f"{name} (id {owner['id']}) in {client.config.account}"
    try:
        users = client.count_users()
    except AhaPermissionError:
        return False, (
            f"The key works and belongs to {who}, but it may not administer users: its owner needs the "
            "administrator role for billing."
        )
    return True, f"Connected as {who}, who may administer its {users} users."
