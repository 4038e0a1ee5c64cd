"""The hook for Oomnitza: an Airflow connection of type ``oomnitza`` becomes a client of the instance."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_aha import get_provider_info
from airflow_provider_aha.exceptions import AhaError
from airflow_provider_aha.hooks.common import (
    ClientHook,
    airflow_user_agent,
    field_behaviour,
    form_widgets,
    mask_key,
)

if TYPE_CHECKING:
    from airflow_provider_aha.push.targets.oomnitza.client import OomnitzaClient


class OomnitzaHook(ClientHook["OomnitzaClient"]):
    """Gives access to one Oomnitza instance.

    :param oomnitza_conn_id: the Airflow connection of type ``oomnitza``: subdomain in its host, API token in its
        password.
    """

    conn_name_attr = "oomnitza_conn_id"
    default_conn_name = "oomnitza_default"
    conn_type = get_provider_info.OOMNITZA_CONNECTION_TYPE
    hook_name = get_provider_info.OOMNITZA_HOOK_NAME

    relabeling = get_provider_info.OOMNITZA_RELABELING
    placeholders = get_provider_info.OOMNITZA_PLACEHOLDERS
    conn_fields = get_provider_info.OOMNITZA_CONN_FIELDS
    oomnitza_conn_id: str

    # Airflow 2 looks for these two in the class itself.

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return labels and hidden fields of the connection form, for Airflow before 3.2."""
        return field_behaviour(cls.relabeling, cls.placeholders)

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the extra fields of the connection form, for Airflow before 3.2."""
        return form_widgets(cls.conn_fields)

    def __init__(self, oomnitza_conn_id: str = default_conn_name) -> None:
        super().__init__(oomnitza_conn_id)

    def role_number(self, role: str) -> int:
        """Return the number of a role of the instance.

        :param role: the role's name at Oomnitza, in any case, or its number.
        :raises AhaConfigurationError: when the instance has no such role; the sentence names those that it has.
        """
        return self.get_conn().role_number(role)

    def _new_client(self, **changes: Any) -> OomnitzaClient:
        from airflow_provider_aha.push.targets.oomnitza.client import OomnitzaClient
        from airflow_provider_aha.push.targets.oomnitza.config import OomnitzaConfig

        fields = self._fields()
        config = OomnitzaConfig.from_connection(**fields)
        mask_key(config.api_key)
        return OomnitzaClient(replace(config, **changes), user_agent=airflow_user_agent())

    def test_connection(self) -> tuple[bool, str]:
        """Ask Oomnitza whether the token may read people.

        :return: whether it works, and a sentence for the person who pressed Test; never the token.
        """
        try:
            # That person is waiting: the first answer counts.
            with self._new_client(max_retries=0) as client:
                count = client.count_people()
                people = "people" if count is None else f"{count} people"
                return True, (
                    f"Connected to {client.config.host}: the API token may read its {people}. Whether it may "
                    "change them shows with the first push."
                )
        except AhaError as error:
            return False, str(error)
