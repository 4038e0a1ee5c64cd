"""The plugin that shows access reviews in Airflow's UI, behind its login (Airflow 3.1 and newer).

Airflow loads it in every process, also of tasks: nothing is imported here but Airflow's own class, and the web
application is made when its first page is asked for, which only happens in an API server.
"""

from __future__ import annotations

from threading import Lock
from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin

from airflow_provider_aha.operators.links import REPORTS_PREFIX
from airflow_provider_aha.version_compat import AIRFLOW_V_3_1_PLUS


class LazyApp:
    """An ASGI application that is made when it is first used."""

    def __init__(self) -> None:
        self._app: Any = None
        self._lock = Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request.

        :param scope: what is asked.
        :param receive: gives the request's body.
        :param send: takes the answer.
        """
        with self._lock:
            if self._app is None:
                from airflow_provider_aha.plugins.reports_app import make_app

                self._app = make_app()
        await self._app(scope, receive, send)


class AhaReportsPlugin(AirflowPlugin):
    """Access reviews below ``/aha-reports``, and a link to their list."""

    name = "aha_reports"
    fastapi_apps = (
        [{"app": LazyApp(), "url_prefix": f"/{REPORTS_PREFIX}", "name": "Aha! access reviews"}]
        if AIRFLOW_V_3_1_PLUS
        else []
    )
    external_views = (
        [{"name": "Aha! access reviews", "href": f"{REPORTS_PREFIX}/", "destination": "nav", "category": "browse"}]
        if AIRFLOW_V_3_1_PLUS
        else []
    )
