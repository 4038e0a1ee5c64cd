"""A sandbox as a server: in a thread of this process, or in the foreground."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

import uvicorn
from starlette.types import Scope

from airflow_provider_aha.sandbox.faults import Fault
from airflow_provider_aha.sandbox.limits import RateLimiter
from airflow_provider_aha.sandbox.service import RecordedRequest, SandboxService

_START_SECONDS = 10.0
_STOP_SECONDS = 5.0
# "Linger, for no time": closing the socket resets the connection.
_RESET = struct.pack("ii", 1, 0)


S = TypeVar("S", bound=SandboxService)


class ServiceServer(Generic[S]):
    """A sandbox on a port of this machine, in a thread, for as long as it is needed.

    :param app: what it serves.
    :param host: the address to listen on.
    :param port: the port to listen on; a free one if 0.
    :raises OSError: when the port is in use.
    """

    def __init__(self, app: S, host: str, port: int) -> None:
        self.app = app
        app.cut = self._cut
        self._socket = _listen(host, port)
        self.host = host
        self.port = int(self._socket.getsockname()[1])
        self._server = _Server(app)
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return f"http://{self._netloc}"

    @property
    def _netloc(self) -> str:
        """Host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    # --- what it does ----------------------------------------------------------------------------

    @property
    def latency(self) -> float:
        """How long every answer takes, in seconds."""
        return self.app.latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        self.app.latency = seconds

    @property
    def limiter(self) -> RateLimiter:
        """The rate limits."""
        return self.app.limiter

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests so far."""
        return self.app.requests

    def forget_requests(self) -> None:
        """Empty the record of requests."""
        self.app.forget_requests()

    def set_fault(self, name: str, **options: Any) -> Fault:
        """Switch a fault on.

        :param name: see :data:`airflow_provider_aha.sandbox.fault_kinds.KINDS`.
        :param options: of the fault; all have ``times``, ``after``, ``method``, ``path`` and ``page``.
        :returns: the fault, which counts its ``hits``.
        :raises ValueError: when the name, an option or its value is unknown.
        """
        return self.app.faults.add(name, **options)

    def clear_faults(self) -> None:
        """Switch all faults off."""
        self.app.faults.clear()

    def land(self) -> None:
        """Carry out the writes that the fault ``late_write`` still holds back."""
        self.app.land()

    # --- start and end ---------------------------------------------------------------------------

    def start(self) -> Self:
        """Start to answer, in a thread.

        :returns: itself.
        :raises RuntimeError: when the server does not come up.
        """
        self._thread = threading.Thread(target=self._serve, name="aha-sandbox", daemon=True)
        self._thread.start()
        if not self._server.ready.wait(_START_SECONDS):
            raise RuntimeError("the sandbox did not start")
        return self

    def run(self) -> None:
        """Answer in the foreground until the process is told to end."""
        self._server.run(sockets=[self._socket])

    def close(self) -> None:
        """Stop to answer, and free the port."""
        self._server.stop()
        if self._thread:
            self._thread.join(_STOP_SECONDS)
        self._socket.close()

    def __enter__(self) -> Self:
        """Start to answer."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop to answer."""
        self.close()

    # --- inside ---

    def _serve(self) -> None:
        """Answer until the server is told to stop."""
        asyncio.run(self._server.serve(sockets=[self._socket]))

    def _cut(self, scope: Scope, reset: bool) -> None:
        """End the connection of a request."""
        for connection in list(self._server.server_state.connections):
            transport = _transport(connection)
            if (transport.get_extra_info("peername") or ())[:2] == scope["client"]:
                if reset:
                    _reset_on_close(transport.get_extra_info("socket").fileno())
                    transport.abort()
                else:
                    transport.close()


class _Server(uvicorn.Server):
    """A server that says when it is up, and that doesn't wait for anybody when it ends."""

    def __init__(self, app: SandboxService) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            # The service says what time it is, by the clock of what it serves.
            date_header=False,
            proxy_headers=False,
            backlog=2048,
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)
        self.ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        """Serve until told to stop, without waiting for the next tick: tests stop many servers."""
        ticking = asyncio.ensure_future(super().main_loop())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({ticking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (ticking, stopping):
            task.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End at once: nobody needs a farewell from a sandbox."""
        for server in self.servers:
            server.close()
        for opened in sockets or ():
            opened.close()
        for connection in list(self.server_state.connections):
            _transport(connection).abort()

    def stop(self) -> None:
        """End, also while requests are under way; from any thread, and more than once."""
        self.should_exit = self.force_exit = True
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopping.set)


def _transport(connection: Any) -> asyncio.Transport:
    """Name the connection below one of uvicorn's protocols."""
    return cast(asyncio.Transport, connection.transport)


def _reset_on_close(descriptor: int) -> None:
    """Make a connection end with a reset."""
    # A copy, since some event loops hand out no real socket; the option belongs to what both stand for.
    with socket.socket(fileno=os.dup(descriptor)) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def _listen(host: str, port: int) -> socket.socket:
    """Open the port, so that nobody else gets it and nobody is turned away before the start."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small parts at once (TCP_NODELAY) only on sockets that name their protocol.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        opened.listen(2048)
    except OSError:
        opened.close()
        raise
    return opened
