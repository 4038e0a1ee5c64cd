"""Links of tasks: to what they were about in Aha!, and to the access review page."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom, conf

from airflow_provider_aha.version_compat import AIRFLOW_V_3_1_PLUS

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_aha.api.config import ClientConfig

KEY = "aha_link"
REPORT_KEY = "aha_report"
# Below it the plugin shows access reviews in Airflow's UI.
REPORTS_PREFIX = "aha-reports"
_PAGE = "access_review.html"
# Compiled by `re` when a link is first shown: DAG files are parsed far more often.
_ADDRESS = r"https://[a-z0-9.-]+\.aha\.io|http://(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?"
_USER_ID = r"[0-9]{1,20}"
_ACCOUNT = r"[a-z0-9-]+(?:\.[a-z0-9-]+)*"
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_REVIEW = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"


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
        if not re.fullmatch(_ADDRESS, address):
            return ""
        return f"{address}/users/{user_id}" if re.fullmatch(_USER_ID, user_id) else f"{address}/settings/account"


class AccessReportLink(BaseOperatorLink):
    """Leads to the access review page: in Airflow's UI (3.1 and newer), or where the base path is served.

    The environment variable ``AHA_REPORTS_URL`` is the address at which people open the base path, such as that
    of a bucket's web server. Without it, Airflow before 3.1 has no link.
    """

    name = "Access review"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002 (Airflow's signature)
        """Return the address, or nothing while the task hasn't come that far.

        :param operator: the task.
        :param ti_key: its instance.
        """
        found = XCom.get_value(ti_key=ti_key, key=REPORT_KEY)
        found = found if isinstance(found, dict) else {}
        account, day, review = (str(found.get(name) or "") for name in ("account", "snapshot", "review_id"))
        named = re.fullmatch(_REVIEW, review) if review else re.fullmatch(_DAY, day)
        if not named or not re.fullmatch(_ACCOUNT, account):
            return ""
        if served := os.environ.get("AHA_REPORTS_URL"):
            folder = (
                f"reviews/account={account}/review={review}"
                if review
                else f"reports/account={account}/snapshot={day}"
            )
            return f"{served.rstrip('/')}/{folder}/{_PAGE}"
        if not AIRFLOW_V_3_1_PLUS:
            return ""
        base = str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
        return f"{base}/{REPORTS_PREFIX}/{account}/{f'review/{review}' if review else f'snapshot/{day}'}/{_PAGE}"


def leave_report(context: Context, summary: Mapping[str, Any]) -> None:
    """Note which report a task has made.

    :param context: the task's context.
    :param summary: the report's summary.
    """
    if (instance := context.get("ti")) is not None:
        found = {name: summary[name] for name in ("account", "snapshot", "review_id")}
        instance.xcom_push(key=REPORT_KEY, value=found)


def leave_link(context: Context, address: str, user_id: str | None = None) -> None:
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
