"""The link from a task to what it was about in Aha!: the user, or the account's settings with the list of users."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow_provider_aha.config import ClientConfig

KEY = "aha_link"
_ADDRESS = re.compile(r"https://[a-z0-9.-]+\.aha\.io|http://(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?")
_USER_ID = re.compile(r"[0-9]{1,20}")


class AhaLink(BaseOperatorLink):
    """Leads to the user in Aha!, where the task is about one, else to the account's settings.

    The task has left account and id as an XCom, so that nothing is looked up when a page of Airflow shows it.
    """

    name = "Aha!"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002 (Airflow's signature)
        """Return the address, or nothing while the task hasn't come that far.

        :param operator: the task.
        :param ti_key: its instance.
        """
        found = XCom.get_value(ti_key=ti_key, key=KEY)
        # Users of Airflow's API can write XComs: what could lead elsewhere is no link.
        found = found if isinstance(found, dict) else {}
        address, user_id = (str(found.get(name)) for name in ("address", "user_id"))
        if not _ADDRESS.fullmatch(address):
            return ""
        return f"{address}/users/{user_id}" if _USER_ID.fullmatch(user_id) else f"{address}/settings/account"


def leave_link(context: Any, address: str, user_id: str | None = None) -> None:
    """Note where in Aha! a task's subject is.

    :param context: the task's context.
    :param address: of the account; see :func:`address_of`.
    :param user_id: the user, where the task is about one.
    """
    # A notebook that calls an operator has no task instance.
    if (instance := context.get("ti")) is not None:
        instance.xcom_push(key=KEY, value={"address": address, "user_id": user_id})


def address_of(config: ClientConfig) -> str:
    """Return where people open an account; behind a gateway are no pages for them.

    :param config: the account.
    """
    return config.base_url if config.is_loopback else f"https://{config.account}{config.service.domain}"
