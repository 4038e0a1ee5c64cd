"""Answers have an end: in size, packed and unpacked, and in time; and nobody waits for one that is not wanted."""

from __future__ import annotations

import gzip
import itertools
import socket
import subprocess
import sys
import textwrap
import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from airflow_provider_aha.api import client as api_client
from airflow_provider_aha.api import rest
from airflow_provider_aha.api.pages import JsonPage
from airflow_provider_aha.api.ratelimit import Clock
from airflow_provider_aha.exceptions import (
    AhaCancelledError,
    AhaConnectionError,
    AhaError,
    AhaProtocolError,
    AhaServerError,
)
from tests.api.conftest import Reply

OWNER = b'{"user": {"id": "7", "name": "Ada"}}'
CHUNKED = {"Transfer-Encoding": "chunked"}
MB = 1024 * 1024


def chunks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def failure(call: Any) -> AhaError:
    with pytest.raises(AhaError) as caught:
        call()
    return caught.value


class HurryingClock(Clock):
    """A clock on which ten seconds pass whenever somebody looks at it."""

    def __init__(self) -> None:
        super().__init__()
        self._looks = itertools.count()

    def monotonic(self) -> float:
        return 10.0 * next(self._looks)

    def sleep(self, seconds: float, stopped: Any = lambda: False) -> None:
        super().sleep(0.0, stopped)


# --- size ----------------------------------------------------------------------------------------


def oversized() -> Iterator[bytes]:
    yield b'{"user": {"id": "7", "name": "'
    for _ in itertools.repeat(None):
        yield b"a" * MB


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(wbits=31)
    parts = [packer.compress(b'{"user": {"id": "7", "name": "')]
    parts += [packer.compress(b"a" * MB) for _ in range(size // MB)]
    return b"".join([*parts, packer.compress(b'"}}'), packer.flush()])


BOMB = bomb(4 * rest.LARGEST_ANSWER)
LARGE = {
    "a length beyond it and no more": lambda: Reply(headers={"Content-Length": str(734 * MB)}, pieces=[b"{"]),
    "a length beyond it": lambda: Reply(headers={"Content-Length": str(734 * MB)}, pieces=oversized()),
    "chunks without end": lambda: Reply(headers=CHUNKED, pieces=chunks(oversized())),
    "no length": lambda: Reply(headers={"Connection": "close"}, pieces=oversized()),
    "packed": lambda: Reply(BOMB, headers={"Content-Encoding": "gzip"}),
    "packed in another way": lambda: Reply(
        zlib.compress(b"a" * (2 * rest.LARGEST_ANSWER)), headers={"Content-Encoding": "deflate"}
    ),
}


@pytest.mark.parametrize("answer", LARGE.values(), ids=LARGE)
def test_an_answer_that_is_too_large_is_none_of_the_api_s(serve, connect, answer):
    server = serve(lambda _: answer())
    client = connect(server.url, max_retries=0)

    error = failure(client.me)

    assert isinstance(error, AhaProtocolError)
    assert "answered with more than 32 MB" in str(error)
    assert (error.status, error.method, error.path) == (200, "GET", "/me")


@pytest.mark.parametrize("answer", LARGE.values(), ids=LARGE)
def test_what_is_too_large_takes_no_memory(serve, connect, answer):
    server = serve(lambda _: answer())
    client = connect(server.url, max_retries=0)
    tracemalloc.start()

    failure(client.me)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    # Unpacked it would be 128 MB; while it is put together there are two of what is allowed.
    assert peak < 3 * rest.LARGEST_ANSWER


def test_a_refusal_that_is_too_large_is_still_that_refusal(serve, connect):
    server = serve(lambda _: Reply(status=503, headers=CHUNKED, pieces=chunks(oversized())))

    error = failure(connect(server.url, max_retries=0).me)

    assert isinstance(error, AhaServerError)
    assert error.status == 503


def test_an_answer_as_large_as_allowed_is_read(serve, connect, monkeypatch):
    bodies = [Reply(OWNER), Reply(gzip.compress(OWNER), headers={"Content-Encoding": "gzip"})]
    server = serve(lambda _: bodies.pop())
    # The packed form of so little is longer than it.
    monkeypatch.setattr(rest, "LARGEST_ANSWER", len(gzip.compress(OWNER)))
    client = connect(server.url, max_retries=0)

    assert [client.me()["name"] for _ in range(2)] == ["Ada", "Ada"]


def test_pages_that_are_large_are_decoded_one_by_one(serve, connect, monkeypatch):
    pagination = {"total_records": 30, "total_pages": 30}
    server = serve(
        lambda seen: (
            Reply({"users": [{"id": n}], "pagination": {**pagination, "current_page": n}})
            if (n := int(seen.path.rpartition("page=")[2]))
            else None
        )
    )
    together: list[int] = []

    def decode(bodies: Any) -> list[JsonPage]:
        together.append(len(bodies))
        return [JsonPage(body, "users") for body in bodies]

    client = connect(server.url, page_size=1)
    monkeypatch.setattr(api_client, "LARGEST_ANSWER", 1)
    client.read_users(list, decode)

    assert set(together) == {1}


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda: Reply(gzip.compress(OWNER), headers={"Content-Encoding": "gzip"}), id="gzip"),
        pytest.param(lambda: Reply(zlib.compress(OWNER), headers={"Content-Encoding": "deflate"}), id="zlib"),
        pytest.param(lambda: Reply(OWNER, headers={"Content-Encoding": "identity"}), id="as it is"),
        pytest.param(lambda: Reply(headers=CHUNKED, pieces=chunks(iter([OWNER[:9], OWNER[9:]]))), id="chunks"),
        pytest.param(lambda: Reply(headers={"Connection": "close"}, pieces=[OWNER]), id="until the end"),
        pytest.param(
            lambda: Reply(
                headers={**CHUNKED, "Content-Encoding": "gzip"}, pieces=chunks(iter([gzip.compress(OWNER)]))
            ),
            id="gzip in chunks",
        ),
    ],
)
def test_every_way_to_send_a_body_is_read(serve, connect, answer):
    assert connect(serve(lambda _: answer()).url, max_retries=0).me()["name"] == "Ada"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda: Reply(gzip.compress(OWNER)[:-9], headers={"Content-Encoding": "gzip"}), id="cut"),
        pytest.param(lambda: Reply(OWNER, headers={"Content-Encoding": "gzip"}), id="not packed at all"),
        pytest.param(lambda: Reply(OWNER, headers={"Content-Encoding": "br"}), id="another way"),
        pytest.param(lambda: Reply(headers=CHUNKED, pieces=[b"5\r\n{"]), id="half of a chunk"),
        pytest.param(lambda: Reply(OWNER[:-5], headers={"Content-Length": str(len(OWNER))}), id="half of a body"),
    ],
)
def test_a_body_that_can_not_be_unpacked_is_fetched_again(serve, connect, answer):
    replies = [answer()]
    server = serve(lambda _: replies.pop() if replies else Reply(OWNER))

    assert connect(server.url, read_timeout=0.2).me()["name"] == "Ada"
    assert len(server.seen) == 2


def test_only_what_can_be_unpacked_is_asked_for(serve, connect):
    server = serve(lambda _: Reply(OWNER))
    connect(server.url).me()

    assert server.seen[0].headers["Accept-Encoding"] == "gzip"


# --- time ----------------------------------------------------------------------------------------


class Dripping:
    """A server on a bare socket that sends byte by byte, for ever: the status line, the headers or the body."""

    def __init__(self, head: bytes, part: bytes) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._head, self._part = head, part
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                try:
                    connection.sendall(self._head)
                    while True:
                        connection.sendall(self._part)
                except OSError:
                    pass

    def close(self) -> None:
        self._socket.close()


@pytest.mark.parametrize(
    ("head", "part"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n{", b" ", id="a body"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", id="a body in chunks"
        ),
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n", id="answers before the answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: 1\r\n", id="what follows"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_an_answer_without_end_has_one(connect, head, part, method):
    server = Dripping(head, part)
    client = connect(server.url, max_retries=0, clock=HurryingClock(), requests_per_second=10**5)
    call = client.me if method == "GET" else lambda: client.update_user("7", {"enabled": False})

    error = failure(call)
    server.close()

    assert isinstance(error, AhaConnectionError)
    assert "it did not answer in time" in str(error)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"Content-Length: 5\r\nContent-Length: 9\r\n\r\n{}", id="two lengths"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n", id="a negative chunk"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", id="a chunk without a length"),
    ],
)
def test_a_broken_answer_is_no_wrong_setting(connect, answer):
    """The library names it like an address that can't be used, which no other try would cure."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def reply() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\n" + answer)

        thread = threading.Thread(target=reply)
        thread.start()
        error = failure(connect(f"http://127.0.0.1:{server.getsockname()[1]}", max_retries=0).me)
        thread.join()
    assert isinstance(error, AhaConnectionError)
    assert "the connection broke off" in str(error)


def test_a_request_may_take_five_times_the_read_timeout(serve, connect):
    client = connect("http://127.0.0.1:1", read_timeout=60.0, connect_timeout=10.0)

    assert client.config.longest_request == 310.0


# --- nobody waits any more -----------------------------------------------------------------------


def hanging(serve: Any) -> tuple[Any, threading.Event, threading.Event]:
    asked, done = threading.Event(), threading.Event()

    def answer(_: Any) -> Reply:
        asked.set()
        done.wait(60)
        return Reply(OWNER)

    return serve(answer), asked, done


def test_a_request_that_reads_ends_when_it_is_cancelled(serve, connect):
    server, asked, done = hanging(serve)
    client = connect(server.url, read_timeout=60.0, clock=None)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(client.me)
        assert asked.wait(10)
        client.cancel()
        error = reading.exception(30)
    assert isinstance(error, AhaCancelledError)
    assert not done.is_set()
    done.set()


def test_a_request_that_changes_something_is_waited_for(serve, connect):
    server, asked, done = hanging(serve)
    client = connect(server.url, read_timeout=60.0, clock=None)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(client.update_user, "7", {"enabled": False})
        assert asked.wait(10)
        client.cancel()
        done.set()
        assert writing.result(30)["id"] == "7"


def test_a_process_does_not_live_on_for_a_page_that_hangs(serve):
    """Not even where a thread can't notice: its name is being looked up, or the operating system is slow."""
    program = """
        import sys, threading
        from airflow_provider_aha.api.client import AhaClient
        from airflow_provider_aha.api.config import ClientConfig
        from airflow_provider_aha.api.pages import JsonPage
        from airflow_provider_aha.common.threads import DaemonExecutor

        pool = DaemonExecutor(1, "aha-page")
        begun = threading.Event()
        pool.submit(lambda: (begun.set(), threading.Event().wait()))
        assert begun.wait(10)

        class Timeout(BaseException):
            pass

        def consume(pages):
            next(pages)
            raise Timeout

        client = AhaClient(ClientConfig(sys.argv[1], "acme", "key", read_timeout=3000.0, page_size=1))
        try:
            client.read_users(consume, lambda bodies: [JsonPage(body, "users") for body in bodies])
        except Timeout:
            print("over")
    """
    never = threading.Event()

    def answer(seen: Any) -> Reply:
        if "page=1" not in seen.path.split("&"):
            never.wait(120)
        return Reply(
            {"users": [{"id": "1"}], "pagination": {"total_records": 9, "total_pages": 9, "current_page": 1}}
        )

    command = [sys.executable, "-c", textwrap.dedent(program), serve(answer).url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    never.set()

    assert (ended.stdout, ended.returncode) == ("over\n", 0), ended.stderr
