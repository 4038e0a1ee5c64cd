"""The HTTP side of the sandbox: the endpoints of the API, and the ones that control the sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from airflow_provider_aha.sandbox.account import Account, InvalidError, NotFoundError, id_order, short_user
from airflow_provider_aha.sandbox.exchange import (
    API_ROOT,
    JSON_TYPE,
    Answer,
    Ending,
    Exchange,
    paginated,
    pagination,
)
from airflow_provider_aha.sandbox.fault_kinds import KINDS
from airflow_provider_aha.sandbox.faults import COMMON_OPTIONS, Faults, act_after, act_before, delay_of
from airflow_provider_aha.sandbox.limits import RateLimiter, Verdict
from airflow_provider_aha.sandbox.setting import Json

Handler = Callable[[Exchange], Answer]
Cut = Callable[[Scope, bool], None]
"""Ends the connection of a request: at once with a reset, or after what was sent."""

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

_REMEMBERED_REQUESTS = 50_000
_ADMINISTRATORS_ONLY = re.compile(r"/(users|paid_seat_groups|identity_providers)(/.*)?")
_BEARER = re.compile(r"(?i:bearer|token) +(\S+)\s*")
_NOT_IN_ONE_USER = ("user_roles", "paid_seat_group")
_NOT_IN_UPDATED_USER = (*_NOT_IN_ONE_USER, "roadmaps_seat", "develop_seat")


@dataclass(frozen=True)
class RecordedRequest:
    """A request that the sandbox answered.

    :param method: in capitals.
    :param path: as asked for, without the query.
    :param query: the parameters of the address.
    :param status: of the answer; 0 when the client got none.
    :param time: of its arrival, in seconds since 1970.
    :param seconds: until the answer was ready.
    :param body: of a write, as JSON where it is JSON; else null.
    :param user_agent: as sent.
    """

    method: str
    path: str
    query: Mapping[str, str]
    status: int
    time: float
    seconds: float
    body: Any
    user_agent: str


class SandboxApp:
    """An ASGI application that answers as Aha! does.

    :param account: the state.
    :param limiter: the rate limits.
    :param latency: how long every answer takes, in seconds; requests wait side by side.
    :param cut: ends a connection; without it the faults that do so can't be used.
    """

    def __init__(
        self,
        account: Account,
        *,
        limiter: RateLimiter | None = None,
        latency: float = 0.0,
        cut: Cut | None = None,
    ) -> None:
        self.account = account
        self.limiter = limiter or RateLimiter()
        self.latency = latency
        self.faults = Faults()
        self.cut = cut
        self._requests: deque[RecordedRequest] = deque(maxlen=_REMEMBERED_REQUESTS)
        self._numbers = itertools.count(1)
        self._recording = threading.Lock()
        self._app = Starlette(routes=[*self._api_routes(), *self._control_routes()])
        self._app.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request.

        :param scope: of ASGI.
        :param receive: of ASGI.
        :param send: of ASGI.
        """
        # Rails takes a path with a slash at its end for the one without.
        scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        # A server that ends cancels what still waits; there is nobody left to answer.
        with contextlib.suppress(asyncio.CancelledError):
            await self._app(scope, receive, send)

    @property
    def requests(self) -> list[RecordedRequest]:
        """The last 50,000 requests to the API, in the order in which they were answered."""
        with self._recording:
            return list(self._requests)

    def forget_requests(self) -> None:
        """Empty the record of requests."""
        with self._recording:
            self._requests.clear()

    # --- from request to answer ------------------------------------------------------------------

    def _endpoint(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Make an endpoint of a function that answers."""

        async def endpoint(request: Request) -> Response:
            arrived, started = time.time(), time.perf_counter()
            verdict = self.limiter.admit()
            exchange = await _read(request)
            if self.latency:
                await asyncio.sleep(self.latency)
            answer = await self._answer(exchange, handler, verdict)
            self._record(request, exchange, answer, arrived, time.perf_counter() - started)
            return self._response(answer, verdict)

        return endpoint

    async def _answer(self, exchange: Exchange, handler: Handler, verdict: Verdict) -> Answer:
        """Answer a request, with the faults that meet it."""
        if not verdict.allowed:
            return Answer.error(429, "Rate limit exceeded")
        faults = self.faults.meeting(exchange)
        answer = act_before(faults, exchange, self.account)
        if answer is None:
            answer = self._handle(exchange, handler)
            answer = act_after(faults, exchange, self.account, answer)
        if delay := delay_of(faults):
            await asyncio.sleep(delay)
        return answer

    def _handle(self, exchange: Exchange, handler: Handler) -> Answer:
        """Answer a request as the API does."""
        owner = self.account.owner(exchange.key)
        if owner is None:
            return Answer.html(401, "HTTP Token: Access denied.")
        if _ADMINISTRATORS_ONLY.fullmatch(exchange.path) and not owner.get("administrator"):
            return Answer.error(403, "You are not authorized to perform this action")
        try:
            with self.account.lock:
                return handler(exchange)
        except NotFoundError:
            return Answer.error(404, "Record not found")
        except InvalidError as error:
            return Answer.error(422, str(error))
        except MalformedError as error:
            return Answer.error(400, str(error))

    def _response(self, answer: Answer, verdict: Verdict) -> Response:
        """Turn an answer into what goes out."""
        headers: dict[str, str | None] = {
            "X-Aha-Sandbox": "1",
            "X-Request-Id": f"sandbox-{next(self._numbers)}",
            **verdict.headers,
            **answer.headers,
        }
        sent = {name: value for name, value in headers.items() if value is not None}
        media_type = answer.content_type if answer.body else None
        if answer.ending == "whole":
            return Response(answer.body, answer.status, sent, media_type)
        return _BrokenResponse(answer, sent, self.cut)

    def _record(self, request: Request, exchange: Exchange, answer: Answer, arrived: float, seconds: float) -> None:
        """Remember a request; never the key."""
        record = RecordedRequest(
            method=exchange.method,
            path=request.scope["path"],
            query=exchange.query,
            status=answer.status if answer.ending in ("whole", "half") else 0,
            time=arrived,
            seconds=seconds,
            body=_json_or_none(exchange.body),
            user_agent=request.headers.get("user-agent", ""),
        )
        with self._recording:
            self._requests.append(record)

    # --- the API ---------------------------------------------------------------------------------

    def _api_routes(self) -> list[Route]:
        """List the endpoints of the API; what is not among them is not found."""
        one_user, one_group = "/users/{user_id}", "/paid_seat_groups/{group_id}"
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/users", self._list_users),
            ("GET", one_user, self._get_user),
            ("PUT", one_user, self._put_user),
            ("GET", f"{one_user}/product_roles", self._list_roles),
            ("POST", f"{one_user}/product_roles", self._post_role),
            ("DELETE", f"{one_user}/product_roles/{{product_id}}", self._delete_role),
            ("GET", f"{one_user}/user_roles", self._list_custom_roles),
            ("POST", f"{one_user}/user_roles", self._post_custom_role),
            ("DELETE", f"{one_user}/user_roles/{{product_id}}", self._delete_custom_role),
            ("GET", "/me", self._me),
            ("GET", "/products", self._list_products),
            ("GET", "/products/{product_id}", self._get_product),
            ("GET", "/products/{product_id}/users", self._list_product_users),
            ("POST", "/products/{product_id}/users", self._post_product_user),
            ("GET", "/paid_seat_groups", self._list_seat_groups),
            ("PUT", one_group, self._put_seat_group),
            ("POST", f"{one_group}/modify_user", self._modify_seat),
            ("GET", "/identity_providers", self._list_providers),
            ("GET", "/identity_providers/{provider_id}", self._get_provider),
            ("GET", "/audits", self._list_audits),
        ]
        routes = [
            Route(f"{API_ROOT}{path}", self._endpoint(handler), methods=[method]) for method, path, handler in table
        ]
        return [*routes, Route(f"{API_ROOT}/{{rest:path}}", self._endpoint(_nothing_here), methods=METHODS)]

    def _list_users(self, exchange: Exchange) -> Answer:
        """GET /users."""
        email = exchange.query.get("email")
        user_ids = self.account.find_by_email(email) if email else self.account.user_ids
        start = (exchange.page - 1) * exchange.per_page
        users = self.account.encoded_users(user_ids[start : start + exchange.per_page])
        page = orjson.dumps(pagination(len(user_ids), exchange))
        return Answer(200, b'{"users":%b,"pagination":%b}' % (users, page))

    def _get_user(self, exchange: Exchange) -> Answer:
        """GET /users/:id."""
        user = self.account.user(exchange.params["user_id"])
        return Answer.of({"user": _without(user, _NOT_IN_ONE_USER)})

    def _put_user(self, exchange: Exchange) -> Answer:
        """PUT /users/:id."""
        user = self.account.update_user(exchange.params["user_id"], _wrapped(exchange, "user"))
        return Answer.of(_without(user, _NOT_IN_UPDATED_USER))

    def _list_roles(self, exchange: Exchange) -> Answer:
        """GET /users/:id/product_roles."""
        user = self.account.user(exchange.params["user_id"])
        return paginated("product_roles", user.get("product_roles", []), exchange)

    def _post_role(self, exchange: Exchange) -> Answer:
        """POST /users/:id/product_roles."""
        fields = _wrapped(exchange, "product_role")
        return Answer.of(self.account.set_role(exchange.params["user_id"], fields))

    def _delete_role(self, exchange: Exchange) -> Answer:
        """DELETE /users/:id/product_roles/:product_id."""
        self.account.drop_role(exchange.params["user_id"], exchange.params["product_id"])
        return Answer(204)

    def _list_custom_roles(self, exchange: Exchange) -> Answer:
        """GET /users/:id/user_roles."""
        user = self.account.user(exchange.params["user_id"])
        return paginated("user_roles", user.get("user_roles", []), exchange)

    def _post_custom_role(self, exchange: Exchange) -> Answer:
        """POST /users/:id/user_roles."""
        fields = _wrapped(exchange, "user_role")
        return Answer.of(self.account.set_custom_role(exchange.params["user_id"], fields))

    def _delete_custom_role(self, exchange: Exchange) -> Answer:
        """DELETE /users/:id/user_roles/:product_id."""
        self.account.drop_role(exchange.params["user_id"], exchange.params["product_id"], custom=True)
        return Answer(204)

    def _me(self, exchange: Exchange) -> Answer:
        """GET /me."""
        owner = self.account.owner(exchange.key) or {}
        names = {workspace.id: workspace.name for workspace in self.account.workspaces}
        roles = [
            role | {"product_name": role["product_name"] or names.get(str(role["product_id"]))}
            for role in owner.get("product_roles", ())
        ]
        account = {
            "name": self.account.name,
            "domain": self.account.domain,
            "logo": None,
            "alt_logo": None,
            "enabled": True,
        }
        user = short_user(owner) | {
            "product_roles": roles,
            "preferences": {"current_product_id": int(roles[0]["product_id"]) if roles else None},
            "accounts": [{"account": account}],
        }
        return Answer.of({"user": user})

    def _list_products(self, exchange: Exchange) -> Answer:
        """GET /products."""
        teams = exchange.query.get("include_teams") == "true"
        since = exchange.query.get("updated_since", "")
        rows = [
            workspace.listing
            for workspace in self.account.workspaces
            if workspace.listed and (teams or not workspace.team) and workspace.updated_at >= since
        ]
        return paginated("products", rows, exchange)

    def _get_product(self, exchange: Exchange) -> Answer:
        """GET /products/:id."""
        return Answer.of({"product": self.account.workspace(exchange.params["product_id"]).details()})

    def _list_product_users(self, exchange: Exchange) -> Answer:
        """GET /products/:id/users."""
        workspace = self.account.workspace(exchange.params["product_id"])
        members = self.account.members(workspace.id)
        return paginated("project_users", [_member(role, user) for role, user in members], exchange)

    def _post_product_user(self, exchange: Exchange) -> Answer:
        """POST /products/:id/users."""
        fields = _wrapped(exchange, "user")
        return Answer.of(_member(*self.account.create_user(exchange.params["product_id"], fields)))

    def _list_seat_groups(self, _exchange: Exchange) -> Answer:
        """GET /paid_seat_groups."""
        return Answer.of({"paid_seat_groups": self.account.seat_groups()})

    def _put_seat_group(self, exchange: Exchange) -> Answer:
        """PUT /paid_seat_groups/:id."""
        return Answer.of(self.account.update_seat_group(exchange.params["group_id"], _sent(exchange)))

    def _modify_seat(self, exchange: Exchange) -> Answer:
        """POST /paid_seat_groups/:id/modify_user."""
        return Answer.of(self.account.move_seat(exchange.params["group_id"], _sent(exchange)))

    def _list_providers(self, _exchange: Exchange) -> Answer:
        """GET /identity_providers."""
        return Answer.of({"identity_providers": self.account.identity_providers})

    def _get_provider(self, exchange: Exchange) -> Answer:
        """GET /identity_providers/:id."""
        for provider in self.account.identity_providers:
            if str(provider["id"]) == exchange.params["provider_id"]:
                return Answer.of({"identity_provider": provider})
        raise NotFoundError("identity provider")

    def _list_audits(self, exchange: Exchange) -> Answer:
        """GET /audits."""
        rows = [row for row in self.account.audits() if _is_wanted(row, exchange.query)]
        return paginated("audits", rows, exchange)

    # --- the controls ----------------------------------------------------------------------------

    def _control_routes(self) -> list[Route]:
        """List the endpoints that no Aha! server has."""
        root = "/_sandbox"
        return [
            Route(f"{root}/faults", self._get_faults, methods=["GET"]),
            Route(f"{root}/faults", self._post_fault, methods=["POST"]),
            Route(f"{root}/faults", self._delete_faults, methods=["DELETE"]),
            Route(f"{root}/faults/{{name}}", self._delete_faults, methods=["DELETE"]),
            Route(f"{root}/requests", self._get_requests, methods=["GET"]),
            Route(f"{root}/requests", self._delete_requests, methods=["DELETE"]),
            Route(f"{root}/state", self._get_state, methods=["GET"]),
            Route("/{rest:path}", _elsewhere, methods=METHODS),
        ]

    async def _get_faults(self, _request: Request) -> Response:
        """List what can go wrong, and what is set to."""
        kinds = [{"name": kind.name, "summary": kind.summary, "options": kind.options} for kind in KINDS.values()]
        active = [fault.describe() for fault in self.faults.active()]
        return _control({"active": active, "available": kinds, "common": COMMON_OPTIONS})

    async def _post_fault(self, request: Request) -> Response:
        """Switch a fault on: ``{"name": ..., "option": ...}``."""
        try:
            options = orjson.loads(await request.body())
            fault = self.faults.add(str(options.pop("name")), **options)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return _control({"error": str(error) or "send a JSON object with a name"}, 422)
        return _control(fault.describe(), 201)

    async def _delete_faults(self, request: Request) -> Response:
        """Switch all faults off, or those of one name."""
        name = request.path_params.get("name")
        if name:
            self.faults.remove(name)
        else:
            self.faults.clear()
        return _control(None, 204)

    async def _get_requests(self, _request: Request) -> Response:
        """List the requests so far."""
        return _control({"requests": [asdict(record) for record in self.requests]})

    async def _delete_requests(self, _request: Request) -> Response:
        """Forget the requests so far."""
        self.forget_requests()
        return _control(None, 204)

    async def _get_state(self, _request: Request) -> Response:
        """Say what the account holds."""
        workspaces = self.account.workspaces
        return _control(
            {
                "users": len(self.account),
                "workspaces": len(workspaces),
                "workspaces_unnamed": [w.id for w in workspaces if not w.named and w.listed],
                "workspaces_hidden": [w.id for w in workspaces if not w.listed],
                "key_owners": sorted(set(self.account.keys.values())),
                "latency": self.latency,
                "limits": {
                    "enabled": self.limiter.enabled,
                    "per_minute": self.limiter.per_minute,
                    "per_second": self.limiter.per_second,
                },
            }
        )


class MalformedError(ValueError):
    """The body of a request is not what the API reads."""


class _BrokenResponse(Response):
    """An answer that doesn't arrive, or not whole."""

    def __init__(self, answer: Answer, headers: Mapping[str, str], cut: Cut | None) -> None:
        super().__init__(answer.body, answer.status, headers, answer.content_type)
        if cut is None:
            raise RuntimeError("this fault needs a real connection: run the sandbox as a server")
        self._cut = cut
        self._ending: Ending = answer.ending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what shall arrive, and end the connection."""
        if self._ending == "half":
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            half = self.body[: len(self.body) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
        self._cut(scope, self._ending == "reset")
        while (await receive())["type"] != "http.disconnect":
            pass


async def _read(request: Request) -> Exchange:
    """Read a request."""
    found = _BEARER.fullmatch(request.headers.get("authorization", ""))
    return Exchange(
        method=request.method,
        path=request.scope["path"].removeprefix(API_ROOT),
        query=dict(request.query_params),
        params=request.path_params,
        body=b"" if request.method in ("GET", "HEAD") else await request.body(),
        key=found[1] if found else "",
        host=request.headers.get("host", ""),
    )


def _sent(exchange: Exchange) -> Json:
    """Read the JSON object that was sent."""
    try:
        body = orjson.loads(exchange.body)
    except orjson.JSONDecodeError:
        raise MalformedError("The request body is not valid JSON") from None
    if not isinstance(body, dict):
        raise MalformedError("The request body is not a JSON object")
    return body


def _wrapped(exchange: Exchange, name: str) -> Json:
    """Read the JSON object that was sent under a key."""
    fields = _sent(exchange).get(name)
    if not isinstance(fields, dict):
        raise MalformedError(f"param is missing or the value is empty: {name}")
    return fields


def _json_or_none(body: bytes) -> Any:
    """Read a body that may be JSON."""
    try:
        return orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        return None


def _nothing_here(_exchange: Exchange) -> Answer:
    """Answer to what the API doesn't have."""
    raise NotFoundError("endpoint")


async def _elsewhere(_request: Request) -> Response:
    """Answer outside the API."""
    answer = Answer.html(404, "There is only an API here: an Aha! sandbox")
    return Response(answer.body, 404, {"X-Aha-Sandbox": "1"}, answer.content_type)


def _without(user: Json, keys: tuple[str, ...]) -> Json:
    """Leave keys of a user out."""
    return {key: value for key, value in user.items() if key not in keys}


def _member(role: Json, user: Json) -> Json:
    """Write a user of a workspace."""
    return {
        "role": role["role"],
        "role_description": role["role_description"],
        "user": short_user(user),
    }


def _is_wanted(audit: Json, query: Mapping[str, str]) -> bool:
    """Apply the documented filters of audits."""
    exact = ("audit_action", "auditable_type", "auditable_id", "associated_type", "associated_id")
    return (
        all(str(audit[key]) == query[key] for key in exact if key in query)
        and ("user_id" not in query or audit["user"]["id"] == query["user_id"])
        and query.get("created_since", "") <= audit["created_at"]
        and ("created_before" not in query or audit["created_at"] < query["created_before"])
        and ("after_id" not in query or id_order(audit["id"]) > id_order(query["after_id"]))
    )


def _control(data: object, status: int = 200) -> Response:
    """Answer a control request."""
    body = b"" if data is None else orjson.dumps(data)
    return Response(body, status, {"X-Aha-Sandbox": "1"}, JSON_TYPE)
