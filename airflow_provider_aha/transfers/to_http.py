"""The operator that sends mapped records to a JSON endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_aha.common.values import is_unset, to_bool, to_dict, to_int, to_list, to_number, to_text
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.transfers.base import AhaPushOperator

if TYPE_CHECKING:
    from airflow_provider_aha.push.targets.base import Target
    from airflow_provider_aha.push.targets.http import Success

# What Airflow's own HTTP hook takes from the extra of a connection; all else in it is a header.
_NO_HEADERS = frozenset(
    {"timeout", "verify", "cert", "proxies", "proxy", "allow_redirects", "max_redirects", "stream", "trust_env"}
    | {"check_response", "headers"}
)


class AhaToHttpOperator(AhaPushOperator):
    """Send mapped records to a JSON endpoint.

    ::

        AhaToHttpOperator(
            task_id="push",
            mapping="/opt/airflow/mappings/people.yaml",
            http_conn_id="directory",
            method="PUT",
            path="/people/{email}",
            inlets=[USERS],
        )

    ``{field}`` in path and headers stands for the record's value, percent-encoded in the path; nothing else is
    replaced, and nothing is run. Each request carries an idempotency key. 429, 5xx and lost answers are tried
    again, after Retry-After where it is given.

    :param http_conn_id: an Airflow connection of type HTTP: host, scheme, port; login and password for basic
        authentication; further headers, such as ``Authorization``, in its extra. (templated)
    :param path: the path below the host. (templated)
    :param method: ``POST``, ``PUT`` or ``PATCH``. (templated)
    :param headers: further headers, as a dict. (templated)
    :param batch: send lists of records rather than one record per request. (templated)
    :param batch_size: how many records a list holds at most. (templated)
    :param wrap: the key under which the body holds record or list; left out: it is the body. (templated)
    :param success: what makes an answer a success, as a dict: ``statuses`` (a list; left out: 200 to 299), ``ok``
        (path of a flag that must be true), ``errors`` (path of what must be empty), ``results`` (path of a list
        with one entry per record of a batch). (templated)
    :param idempotency_header: the name of the header with the idempotency key. (templated)
    """

    template_fields: Sequence[str] = (
        *AhaPushOperator.template_fields,
        "http_conn_id",
        "path",
        "method",
        "headers",
        "batch",
        "batch_size",
        "wrap",
        "success",
        "idempotency_header",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **AhaPushOperator.template_fields_renderers,
        "headers": "json",
        "success": "json",
    }

    def __init__(
        self,
        *,
        http_conn_id: str,
        path: str = "",
        method: str = "POST",
        headers: Mapping[str, str] | str | None = None,
        batch: bool | str = False,
        batch_size: int | str = 100,
        wrap: str | None = None,
        success: Mapping[str, Any] | str | None = None,
        idempotency_header: str = "Idempotency-Key",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.http_conn_id = http_conn_id
        self.path = path
        self.method = method
        self.headers = headers
        self.batch = batch
        self.batch_size = batch_size
        self.wrap = wrap
        self.success = success
        self.idempotency_header = idempotency_header

    def make_target(self, account: str, snapshot: str) -> Target:
        """Return the endpoint.

        :param account: whose users are pushed.
        :param snapshot: the day of the snapshot.
        """
        from airflow_provider_aha.push.targets.http import METHODS, Endpoint, HttpTarget

        conn_id = to_text(self.http_conn_id, "http_conn_id")
        if conn_id is None:
            raise AhaConfigurationError("http_conn_id is not set.")
        method = (to_text(self.method, "method") or "POST").upper()
        if method not in METHODS:
            raise AhaConfigurationError(f"method must be one of {', '.join(METHODS)}.")
        connection = BaseHook.get_connection(conn_id)
        extra = connection.extra_dejson
        path = to_text(self.path, "path") or ""
        endpoint = Endpoint(
            url=_url(connection, conn_id),
            path=path if path.startswith("/") or not path else f"/{path}",
            method=method,
            headers={**_headers(extra), **_headers(to_dict(self.headers, "headers") or {})},
            login=connection.login or None,
            password=connection.password,
            batch=to_bool(self.batch, "batch", default=False),
            wrap=to_text(self.wrap, "wrap"),
            idempotency_header=to_text(self.idempotency_header, "idempotency_header") or "Idempotency-Key",
            success=_success(to_dict(self.success, "success") or {}),
            timeout=to_number(extra.get("timeout"), "timeout of the connection", 60, 0.1, 3600),
            verify=_verify(extra.get("verify")),
            proxies=to_dict(extra.get("proxies"), "proxies of the connection"),
        )
        return HttpTarget(conn_id, endpoint, batch_size=to_int(self.batch_size, "batch_size", 100, 1, 8192))


def _url(connection: Any, conn_id: str) -> str:
    host = str(connection.host or "").strip().rstrip("/")
    if not host:
        raise AhaConfigurationError(f"The connection {conn_id} has no host.")
    if "://" not in host:
        host = f"{connection.schema or 'https'}://{host}"
    if not host.startswith(("http://", "https://")):
        raise AhaConfigurationError(f"The host of the connection {conn_id} is no address of HTTP.")
    head, _, rest = host.partition("://")
    name, slash, path = rest.partition("/")
    if connection.port and ":" not in name.rpartition("]")[2]:
        name = f"{name}:{connection.port}"
    return f"{head}://{name}{slash}{path}"


def _headers(given: Mapping[str, Any]) -> dict[str, str]:
    nested = given.get("headers")
    found = {
        **{k: v for k, v in given.items() if k not in _NO_HEADERS},
        **(nested if isinstance(nested, dict) else {}),
    }
    return {str(name): str(value) for name, value in found.items() if not is_unset(value)}


def _verify(value: Any) -> bool | str:
    if isinstance(value, str) and value.strip().lower() not in ("", "true", "false", "none", "null"):
        return value.strip()
    return to_bool(value, "verify of the connection", default=True)


def _success(given: Mapping[str, Any]) -> Success:
    from airflow_provider_aha.push.targets.http import Success

    if unknown := given.keys() - {"statuses", "ok", "errors", "results"}:
        raise AhaConfigurationError(
            f"success has no {', '.join(sorted(unknown))}; it has statuses, ok, errors, results."
        )
    statuses = to_list(given.get("statuses"), "success: statuses") or []
    return Success(
        frozenset(to_int(status, "success: statuses", 200, 100, 599) for status in statuses),
        *(to_text(given.get(name), f"success: {name}") for name in ("ok", "errors", "results")),
    )
