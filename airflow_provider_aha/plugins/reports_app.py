"""The web application of the plugin: a list of access reviews, and their files."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Response

from airflow_provider_aha.exceptions import AhaConfigurationError, AhaError, AhaSnapshotError
from airflow_provider_aha.hooks.paths import default_base_path, resolve_path

DAG_ID = "aha_access_review"
_HEADERS = {
    # Names in a page are what strangers typed. Should one of them ever become a script, it runs in an origin of
    # its own, without Airflow's cookies.
    "Content-Security-Policy": (
        "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline'; "
        "style-src 'unsafe-inline'; img-src data:; font-src data:; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_LIST_HEADERS = {
    **_HEADERS,
    # Its links open pages of their own.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'",
}


def make_app() -> FastAPI:
    """Make the application; whoever may read the DAG ``aha_access_review`` may read its pages."""
    from airflow.api_fastapi.core_api.security import requires_access_dag

    allowed: Any = Depends(requires_access_dag("GET", param_dag_id=DAG_ID))
    app = FastAPI(title="Aha! access reviews", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/", dependencies=[allowed])
    def reports() -> Response:
        """List the reports."""
        from airflow_provider_aha.report.shelf import render_list

        return Response(_answer(render_list), media_type="text/html; charset=utf-8", headers=_LIST_HEADERS)

    @app.get("/{account}/{kind}/{name}/{file}", dependencies=[allowed])
    def report(account: str, kind: str, name: str, file: str) -> Response:
        """Show a file of a report or review."""
        from airflow_provider_aha.report.shelf import FILES, read_published

        body = _answer(lambda location: read_published(location, account, kind, name, file))
        return Response(body, media_type=FILES[file], headers=_HEADERS)

    return app


def _answer(read: Any) -> bytes:
    """Read below the base path; what can't be read is an answer without details of the machine."""
    try:
        return bytes(read(resolve_path(default_base_path())))
    except AhaConfigurationError:
        raise HTTPException(404, "There is no such report.") from None
    except AhaSnapshotError:
        raise HTTPException(404, "There is no such report, or it isn't the one that was written.") from None
    except AhaError:
        raise HTTPException(503, "The base path can't be read by the API server.") from None
