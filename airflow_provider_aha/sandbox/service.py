"""What the sandboxes have in common as HTTP services: faults, a record of requests, and the controls."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from email.utils import formatdate
from typing import Any, ClassVar

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from airflow_provider_aha.sandbox.exchange import (
    JSON_TYPE,
    Answer,
    Ending,
    Exchange,
    InvalidError,
    MalformedError,
    NotFoundError,
)
from airflow_provider_aha.sandbox.fault_kinds import Kind
from airflow_provider_aha.sandbox.faults import COMMON_OPTIONS, Faults, act_after, act_before, delay_of
from airflow_provider_aha.sandbox.limits import RateLimiter, Verdict
from airflow_provider_aha.sandbox.setting import Json

Handler = Callable[[Exchange], Answer]
Cut = Callable[[Scope, bool], None]
"""Ends the connection of a request: at once with a reset, or after what was sent."""

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

_REMEMBERED_REQUESTS = 50_000


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


@dataclass
class _Late:
    """A write that is carried out after more requests have come."""

    exchange: Exchange
    handler: Handler
    requests: int


class SandboxService:
    """An ASGI application that answers as a service does; a subclass says which one.

    :param state: what it keeps; its ``lock`` is held while a request is answered.
    :param limiter: the rate limits.
    :param latency: how long every answer takes, in seconds; requests wait side by side.
    :param cut: ends a connection; without it the faults that do so can't be used.
    """

    name: ClassVar[str]
    root: ClassVar[str]
    marker: ClassVar[str]
    kinds: ClassVar[Mapping[str, Kind]]

    def __init__(
        self,
        state: Any,
        *,
        limiter: RateLimiter | None = None,
        latency: float = 0.0,
        cut: Cut | None = None,
    ) -> None:
        self.state = state
        self.limiter = limiter or RateLimiter()
        self.latency = latency
        self.faults = Faults(self.kinds)
        self.cut = cut
        self._late: list[_Late] = []
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

    def land(self) -> None:
        """Carry out the writes that the fault ``late_write`` holds back."""
        self._carry_out_late(None)

    # --- from request to answer ------------------------------------------------------------------

    def _endpoint(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Make an endpoint of a function that answers."""

        async def endpoint(request: Request) -> Response:
            arrived, started = time.time(), time.perf_counter()
            verdict = self.limiter.admit()
            exchange = await self._read(request)
            if self.latency:
                await asyncio.sleep(self.latency)
            answer = await self._answer(exchange, handler, verdict)
            self._record(request, exchange, answer, arrived, time.perf_counter() - started)
            return self._response(answer, verdict)

        return endpoint

    async def _answer(self, exchange: Exchange, handler: Handler, verdict: Verdict) -> Answer:
        """Answer a request, with the faults that meet it."""
        self._carry_out_late(1)
        if not verdict.allowed:
            return Answer.error(429, "Rate limit exceeded")
        faults = self.faults.meeting(exchange)
        answer = act_before(faults, exchange, self.state)
        if exchange.late:
            with self.state.lock:
                self._late.append(_Late(exchange, handler, exchange.late))
        if answer is None:
            answer = self._handle(exchange, handler)
            answer = act_after(faults, exchange, self.state, answer)
        if delay := delay_of(faults):
            await asyncio.sleep(delay)
        return answer

    def _carry_out_late(self, passed: int | None) -> None:
        """Count a request for the writes that are held back, and carry out those that are due; all if null."""
        with self.state.lock:
            waiting, self._late = self._late, []
            for one in waiting:
                one.requests -= passed or one.requests
                if one.requests > 0:
                    self._late.append(one)
        for one in waiting:
            if one.requests <= 0:
                self._handle(one.exchange, one.handler)

    def _handle(self, exchange: Exchange, handler: Handler) -> Answer:
        """Answer a request as the API does."""
        refusal = self._refuse(exchange)
        if refusal is not None:
            return refusal
        try:
            with self.state.lock:
                return handler(exchange)
        except NotFoundError:
            return Answer.error(404, "Record not found")
        except InvalidError as error:
            return Answer.error(422, str(error))
        except MalformedError as error:
            return Answer.error(400, str(error))

    # --- what a subclass says --------------------------------------------------------------------

    def _table(self) -> list[tuple[str, str, Handler]]:
        """List the endpoints of the API: method, path and who answers."""
        raise NotImplementedError

    def _key(self, headers: Mapping[str, str]) -> str:
        """Find the API key of a request; empty where there is none."""
        raise NotImplementedError

    def _refuse(self, exchange: Exchange) -> Answer | None:
        """Turn a request away whose key has no right to it."""
        raise NotImplementedError

    def _describe(self) -> Json:
        """Say what the state holds."""
        raise NotImplementedError

    def _now(self) -> float:
        """Say what time it is here, in seconds since 1970."""
        return time.time()

    def _limit_headers(self, verdict: Verdict) -> Mapping[str, str]:
        """Say what is left of the rate limits."""
        return verdict.headers

    # --- from request to answer, continued -------------------------------------------------------

    def _api_routes(self) -> list[Route]:
        """Route to the endpoints of the API; what is not among them is not found."""
        routes = [
            Route(f"{self.root}{path}", self._endpoint(handler), methods=[method])
            for method, path, handler in self._table()
        ]
        return [*routes, Route(f"{self.root}/{{rest:path}}", self._endpoint(_nothing_here), methods=METHODS)]

    async def _read(self, request: Request) -> Exchange:
        """Read a request."""
        return Exchange(
            method=request.method,
            path=request.scope["path"].removeprefix(self.root),
            query=dict(request.query_params),
            params=request.path_params,
            body=b"" if request.method in ("GET", "HEAD") else await request.body(),
            key=self._key(request.headers),
            host=request.headers.get("host", ""),
            root=self.root,
        )

    def _response(self, answer: Answer, verdict: Verdict) -> Response:
        """Turn an answer into what goes out."""
        headers: dict[str, str | None] = {
            self.marker: "1",
            "Date": formatdate(self._now(), usegmt=True),
            "X-Request-Id": f"request-{next(self._numbers)}",
            **self._limit_headers(verdict),
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
            status=answer.status if answer.ending in ("whole", "half", "drip") else 0,
            time=arrived,
            seconds=seconds,
            body=_json_or_none(exchange.body),
            user_agent=request.headers.get("user-agent", ""),
        )
        with self._recording:
            self._requests.append(record)

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
            Route("/{rest:path}", self._elsewhere, methods=METHODS),
        ]

    async def _get_faults(self, _request: Request) -> Response:
        """List what can go wrong, and what is set to."""
        kinds = [
            {"name": kind.name, "summary": kind.summary, "options": kind.options} for kind in self.kinds.values()
        ]
        active = [fault.describe() for fault in self.faults.active()]
        return self._control({"active": active, "available": kinds, "common": COMMON_OPTIONS})

    async def _post_fault(self, request: Request) -> Response:
        """Switch a fault on: ``{"name": ..., "option": ...}``."""
        try:
            options = orjson.loads(await request.body())
            fault = self.faults.add(str(options.pop("name")), **options)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return self._control({"error": str(error) or "send a JSON object with a name"}, 422)
        return self._control(fault.describe(), 201)

    async def _delete_faults(self, request: Request) -> Response:
        """Switch all faults off, or those of one name."""
        name = request.path_params.get("name")
        if name:
            self.faults.remove(name)
        else:
            self.faults.clear()
        return self._control(None, 204)

    async def _get_requests(self, _request: Request) -> Response:
        """List the requests so far."""
        return self._control({"requests": [asdict(record) for record in self.requests]})

    async def _delete_requests(self, _request: Request) -> Response:
        """Forget the requests so far."""
        self.forget_requests()
        return self._control(None, 204)

    async def _get_state(self, _request: Request) -> Response:
        """Say what the sandbox holds."""
        limits = {
            "enabled": self.limiter.enabled,
            "per_minute": self.limiter.per_minute,
            "per_second": self.limiter.per_second,
        }
        return self._control({**self._describe(), "latency": self.latency, "limits": limits})

    async def _elsewhere(self, _request: Request) -> Response:
        """Answer outside the API."""
        answer = Answer.html(404, f"There is only an API here: {self.name}")
        return Response(answer.body, 404, {self.marker: "1"}, answer.content_type)

    def _control(self, data: object, status: int = 200) -> Response:
        """Answer a control request."""
        body = b"" if data is None else orjson.dumps(data)
        return Response(body, status, {self.marker: "1"}, JSON_TYPE)


class _BrokenResponse(Response):
    """An answer that doesn't arrive, or not whole."""

    def __init__(self, answer: Answer, headers: Mapping[str, str], cut: Cut | None) -> None:
        super().__init__(answer.body, answer.status, headers, answer.content_type)
        if cut is None:
            raise RuntimeError("this fault needs a real connection: run the sandbox as a server")
        self._cut = cut
        self._ending: Ending = answer.ending
        self._size, self._pause = answer.size, answer.pause

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what shall arrive, and end the connection."""
        if self._ending == "drip":
            await self._drip(receive, send)
            return
        if self._ending == "half":
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            half = self.body[: len(self.body) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
        self._cut(scope, self._ending == "reset")
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _drip(self, receive: Receive, send: Send) -> None:
        """Send the body piece by piece, until it has come or the client is gone."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for at in range(0, len(self.body), self._size):
            piece, last = bytes(self.body[at : at + self._size]), at + self._size >= len(self.body)
            await send({"type": "http.response.body", "body": piece, "more_body": not last})
            if not last and await _is_gone(receive, self._pause):
                return


async def _is_gone(receive: Receive, seconds: float) -> bool:
    """Wait, and tell whether the client has hung up meanwhile."""
    try:
        message = await asyncio.wait_for(receive(), seconds)
    except TimeoutError:
        return False
    return str(message["type"]) == "http.disconnect"


def sent_object(exchange: Exchange) -> Json:
    """Read the JSON object that was sent.

    :param exchange: the request.
    :returns: the object.
    :raises MalformedError: when the body is anything else.
    """
    try:
        body = orjson.loads(exchange.body)
    except orjson.JSONDecodeError:
        raise MalformedError("The request body is not valid JSON") from None
    if not isinstance(body, dict):
        raise MalformedError("The request body is not a JSON object")
    return body


def _json_or_none(body: bytes) -> Any:
    """Read a body that may be JSON."""
    try:
        return orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        return None


def _nothing_here(_exchange: Exchange) -> Answer:
    """Answer to what the API doesn't have."""
    raise NotFoundError("endpoint")
