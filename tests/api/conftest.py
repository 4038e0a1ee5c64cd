"""What the tests of the client layer share: clocks that nobody waits for, clients, and servers that misbehave."""

from __future__ import annotations

import heapq
import itertools
import json
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.api.ratelimit import Clock, never

KEY = "sandbox-key"

# The same examples in every run, also where the machine is busy.
steady = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


class SimulatedClock(Clock):
    """Time that passes only while somebody sleeps; what was scheduled happens on the way.

    :param epoch: what :meth:`time` says at the start.
    """

    def __init__(self, epoch: float = 1_800_000_000.0) -> None:
        super().__init__()
        self.now = 1000.0
        self.epoch = epoch - self.now
        self.sleeps: list[float] = []
        self._lock = threading.RLock()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.epoch + self.now

    def at(self, moment: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._numbers), act))

    def sleep(self, seconds: float, stopped: Callable[[], bool] = never) -> None:
        super().sleep(0.0, stopped)
        with self._lock:
            if seconds > 0:
                self.sleeps.append(seconds)
            until = self.now + seconds
            while self._events and self._events[0][0] <= until:
                self.now, _, act = heapq.heappop(self._events)
                act()
            self.now = until


class ImpatientClock(Clock):
    """The real time, from which every sleep is cut out."""

    def __init__(self) -> None:
        super().__init__()
        self.sleeps: list[float] = []
        self._skipped = 0.0
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        return super().monotonic() + self._skipped

    def sleep(self, seconds: float, stopped: Callable[[], bool] = never) -> None:
        super().sleep(0.0, stopped)
        if seconds > 0:
            with self._lock:
                self.sleeps.append(seconds)
                self._skipped += seconds


@pytest.fixture
def simulated() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def impatient() -> ImpatientClock:
    return ImpatientClock()


@pytest.fixture
def connect(impatient: ImpatientClock) -> Iterator[Callable[..., AhaClient]]:
    """Call it with an address for a client that hurries; more arguments are those of the configuration."""
    with ExitStack() as stack:

        def make(url: str, *, clock: Clock | None = impatient, user_agent: str = "", **changes: Any) -> AhaClient:
            given = {"requests_per_second": 10**5, "requests_per_minute": 10**6, "read_timeout": 10.0, **changes}
            config = ClientConfig(base_url=url, account="acme", api_key=KEY, **given)
            return stack.enter_context(AhaClient(config, user_agent=user_agent, clock=clock))

        yield make


# --- servers that no sandbox is ------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """A request as it came over the wire."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    client: Any


@dataclass
class Reply:
    """What goes back: JSON where the body isn't bytes."""

    body: Any = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    # What follows the headers, piece by piece and as it is, in place of the body: of any length, and without end.
    pieces: Iterable[bytes] | None = None

    def encoded(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Server(ThreadingHTTPServer):
    """An HTTP server whose every answer is up to a function of the test.

    :param answer: gets the request; returns what goes back, or None to hang up without a word.
    """

    daemon_threads = True

    def __init__(self, answer: Callable[[Seen], Reply | None], tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.seen: list[Seen] = []
        self.scheme = "https" if tls else "http"
        self.tls = tls

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        if self.tls:
            connection.settimeout(5)
            connection = self.tls.wrap_socket(connection, server_side=True)
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        seen = Seen(self.command, self.path, dict(self.headers), body, self.client_address)
        self.server.seen.append(seen)
        reply = self.server.answer(seen)
        if reply is None:
            self.close_connection = True
            return
        encoded = reply.encoded()
        self.send_response(reply.status)
        usual = {"Content-Type": "application/json"}
        if reply.pieces is None:
            usual["Content-Length"] = str(len(encoded))
        for name, value in {**usual, **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if reply.pieces is None:
            self.wfile.write(encoded)
        else:
            self.close_connection = True
            for piece in reply.pieces:
                self.wfile.write(piece)

    do_GET = do_PUT = do_POST = do_PATCH = do_CONNECT = handle_any  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Call it with a function that answers to start a server; it ends with the test."""
    with ExitStack() as stack:

        def start(answer: Callable[[Seen], Reply | None], tls: ssl.SSLContext | None = None) -> Server:
            server = stack.enter_context(Server(answer, tls))
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
            stack.callback(server.shutdown)
            return server

        yield start


@pytest.fixture
def reply() -> type[Reply]:
    return Reply
