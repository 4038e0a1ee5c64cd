"""Pacing below Aha!'s two rate limits: 300 requests a minute and 20 a second.

The limits count per source address or per account (Aha!'s own texts differ), so other clients may use up
the same allowance: what the server says in its headers comes before our own count.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from airflow_provider_aha.exceptions import AhaCancelledError

# Even spacing a little above the limit's own interval: requests that the network bunches up by as much as
# one interval still fit into any one-second window of the server.
_SPACING = 1.05
# The server counts arrivals, we count departures; a first request that arrives late shifts its minute.
_WINDOW_SECONDS = 60.5
# No documented window is longer than a minute: a wait beyond this is a wrong clock or a wrong header.
_LONGEST_PAUSE = 90.0
_CLOCK_SKEW = 5.0
_DELTA_BELOW = 1e6


class Clock:
    """Time and sleep of a client, in one place so that tests can replace them."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""
        return time.monotonic()

    def time(self) -> float:
        """Return seconds since the epoch, UTC."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait.

        :param seconds: how long; 0 or more.
        :raises AhaCancelledError: when :meth:`cancel` was called before or meanwhile.
        """
        if self._cancelled.wait(max(seconds, 0.0)):
            raise AhaCancelledError("The work was cancelled.")

    def cancel(self) -> None:
        """End every sleep, present and future, with :class:`AhaCancelledError`."""
        self._cancelled.set()


class RateLimiter:
    """Lets requests through as fast as both limits allow, from any number of threads.

    :param per_second: requests a second, 1 or more.
    :param per_minute: requests a minute, 1 or more.
    :param clock: where time comes from.

    ``granted`` counts the places that were taken.
    """

    def __init__(self, per_second: int, per_minute: int, clock: Clock) -> None:
        self._interval = _SPACING / per_second
        self._clock = clock
        self._lock = threading.Lock()
        self.granted = 0
        self._sent: deque[float] = deque(maxlen=per_minute)
        self._in_flight = 0
        self._not_before = 0.0
        self._remaining: int | None = None
        self._reset_at = 0.0

    def acquire(self) -> None:
        """Wait for the next free place and take it; pair each call with one :meth:`release`."""
        while (wait := self._try_acquire()) > 0:
            self._clock.sleep(wait)

    def release(self, headers: Mapping[str, str] | None = None) -> None:
        """Give the place back and learn from the answer.

        :param headers: the answer's headers; none when no answer came.
        """
        with self._lock:
            self._in_flight -= 1
            remaining = _number(headers.get("X-Ratelimit-Remaining")) if headers else None
            reset = self._seconds_until_reset(headers) if headers else None
            if remaining is not None and reset is not None:
                self._remaining = int(remaining)
                self._reset_at = self._clock.monotonic() + reset

    def pause(self, headers: Mapping[str, str], fallback: float) -> float:
        """Hold every request back after a 429.

        :param headers: headers of the 429; ``X-Ratelimit-Reset`` counts, then ``Retry-After``.
        :param fallback: seconds to wait where neither says anything useful.
        :return: the seconds that are waited for.
        """
        wait = self._seconds_until_reset(headers)
        if not wait:
            wait = self._retry_after(headers)
        # A reset that lies in the past says nothing about when the next request is welcome.
        wait = min(max(wait or 0.0, fallback), _LONGEST_PAUSE)
        with self._lock:
            self._not_before = max(self._not_before, self._clock.monotonic() + wait)
        return wait

    def _try_acquire(self) -> float:
        with self._lock:
            now = self._clock.monotonic()
            wait = max(self._not_before - now, self._window_wait(now), self._server_wait(now))
            if wait <= 0:
                self._not_before = now + self._interval
                self._sent.append(now)
                self._in_flight += 1
                self.granted += 1
            return wait

    def _window_wait(self, now: float) -> float:
        if len(self._sent) < (self._sent.maxlen or 0):
            return 0.0
        return self._sent[0] + _WINDOW_SECONDS - now

    def _server_wait(self, now: float) -> float:
        # Requests in flight may not be in the server's count yet, so they are taken off.
        if self._remaining is None or self._remaining > self._in_flight or now >= self._reset_at:
            return 0.0
        if self._in_flight and self._remaining > 0:
            return self._interval
        return self._reset_at - now

    def _seconds_until_reset(self, headers: Mapping[str, str]) -> float | None:
        reset = _number(headers.get("X-Ratelimit-Reset"))
        if reset is None:
            return None
        if reset < _DELTA_BELOW:
            return min(max(reset, 0.0), _LONGEST_PAUSE)
        now = self._clock.time()
        server_now = _http_date(headers.get("Date"))
        # The server's own clock decides only where ours is plainly wrong: Date has whole seconds.
        if server_now is not None and abs(server_now - now) > _CLOCK_SKEW:
            now = server_now
        return min(max(reset - now, 0.0), _LONGEST_PAUSE)

    def _retry_after(self, headers: Mapping[str, str]) -> float | None:
        text = headers.get("Retry-After")
        seconds = _number(text)
        if seconds is None and (date := _http_date(text)) is not None:
            seconds = date - (_http_date(headers.get("Date")) or self._clock.time())
        return seconds


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text else None
    except ValueError:
        return None
    return number if number is not None and abs(number) < float("inf") else None


def _http_date(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except ValueError:
        return None
