"""What comes over the wire has an end: in size, packed and unpacked, and in time.

``requests`` limits neither. Its timeout begins anew with every byte, and it unpacks whatever was packed: 0.7 MB
become 2 GB.

Plain Python without Airflow.
"""

from __future__ import annotations

import http.client
import io
import math
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

# How soon a thread that waits for an answer sees that nobody wants it any more.
_LOOK_SECONDS = 0.5
# An answer that doesn't say how long it is comes in pieces of this size.
_PIECE = 1024 * 1024
# What `body_of` unpacks: the value of `Accept-Encoding` for requests whose answers it reads.
ENCODINGS = "gzip"
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


class TooLargeError(Exception):
    """The body of an answer is larger than what is read of one."""


class _Patience(threading.local):
    """How long this thread goes on waiting for an answer: a function that returns seconds, or raises."""

    left: Callable[[], float] = staticmethod(lambda: math.inf)


_patience = _Patience()


@contextmanager
def patience(left: Callable[[], float]) -> Iterator[None]:
    """Limit how long the requests of this thread may take, each as a whole.

    :param left: returns how many seconds are left, 0 or less when none are; asked at least twice a second. What it
        raises ends the request.
    """
    _patience.left = left
    try:
        yield
    finally:
        _patience.left = _Patience.left


class BoundedAdapter(HTTPAdapter):
    """Sends requests whose answers may take no longer than :func:`patience` allows."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Make the pools of connections."""
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = _bounded(self.poolmanager)

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        """Return the pools of connections by way of a proxy."""
        manager = super().proxy_manager_for(*arguments, **options)
        manager.pool_classes_by_scheme = _bounded(manager)
        return manager


def body_of(response: requests.Response, most: int) -> bytes:
    """Read the body of an answer, in one piece where that is possible without a copy.

    :param response: the answer; nothing of its body has been read yet.
    :param most: how many bytes it may have, packed and unpacked.
    :raises TooLargeError: when it has more; the connection is closed then.
    :raises requests.RequestException: when it was cut short, or is packed in a way that can't be unpacked.
    """
    try:
        packed = _packed(response.raw, most)
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        return packed if encoding in ("", "identity") else _unpacked(packed, most)
    except TooLargeError:
        response.close()
        raise
    except urllib3.exceptions.ReadTimeoutError as error:
        raise requests.exceptions.ReadTimeout(error) from None
    except urllib3.exceptions.SSLError as error:
        raise requests.exceptions.SSLError(error) from None
    except urllib3.exceptions.HTTPError as error:
        raise requests.exceptions.ChunkedEncodingError(error) from None


def _packed(raw: Any, most: int) -> bytes:
    length: int | None = raw.length_remaining
    if (length or 0) > most:
        raise TooLargeError
    pieces: list[bytes] = []
    size = 0
    while piece := raw.read(length or _PIECE, decode_content=False):
        size += len(piece)
        if size > most:
            raise TooLargeError
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _unpacked(packed: bytes, most: int) -> bytes:
    decoder = zlib.decompressobj(wbits=_GZIP_OR_ZLIB)
    try:
        body = decoder.decompress(packed, most + 1)
    except zlib.error as error:
        raise requests.exceptions.ContentDecodingError(error) from None
    if len(body) > most:
        raise TooLargeError
    # Nothing at all is an empty body, whatever its header says.
    if packed and not decoder.eof:
        raise requests.exceptions.ContentDecodingError("the packed body was cut short")
    return body


# ---- waiting for bytes --------------------------------------------------------------------------------


class _Source(io.RawIOBase):
    """The bytes of a socket, waited for in short steps: between two of them the thread's patience is asked."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        # The socket counts who reads from it, and stays open as long.
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        timeout = self._socket.gettimeout()
        quiet = math.inf if timeout is None else timeout
        try:
            while (step := min(quiet, _patience.left(), _LOOK_SECONDS)) > 0:
                self._socket.settimeout(step)
                try:
                    return self._socket.recv_into(buffer)
                except TimeoutError:
                    quiet -= step
        finally:
            self._socket.settimeout(timeout)
        raise TimeoutError("timed out")

    def close(self) -> None:
        self._file.close()
        super().close()


class _Readable:
    """What a response needs of a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Source(self._socket))


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(_Readable(sock), *arguments, **options)  # type: ignore[arg-type]


def _bounded(manager: Any) -> dict[str, type]:
    return {scheme: _bounded_pool(pool) for scheme, pool in manager.pool_classes_by_scheme.items()}


@cache
def _bounded_pool(pool: Any) -> type:
    """Derive a class of pools whose connections read by :class:`_Source`; a SOCKS proxy has classes of its own."""
    connection = type("BoundedConnection", (pool.ConnectionCls,), {"response_class": _Response})
    return type("BoundedPool", (pool,), {"ConnectionCls": connection})
