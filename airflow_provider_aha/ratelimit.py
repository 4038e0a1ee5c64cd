"""Pacing below Aha!'s two rate limits: 300 requests a minute and 20 a second.

The limits count per source address or per account (Aha!'s own texts differ), so other clients may use up
the same allowance: what the server says in its headers comes before our own count.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from airflow_provider_aha.exceptions import AhaCancelledError

# Our second is a little longer than the server's: requests that the network bunches up by as much as the
# difference still fit into any one-second window of the server.
_SECOND_SECONDS = 1.08
# So much lost time (a late answer, a slow start) is made up for, at half the even spacing.
_MADE_UP_SECONDS = 0.5
# How soon, at the earliest, those who wait for other requests' answers look again.
_SHORTEST_LOOK = 0.01
# The server counts arrivals, we count departures; a first request that arrives late shifts its minute.
_MINUTE_SECONDS = 60.5
# No documented window is longer than a minute: a wait beyond this is a wrong clock or a wrong header.
_LONGEST_PAUSE = 90.0
_CLOCK_SKEW = 5.0
_DELTA_BELOW = 1e6


def never() -> bool:
    """Return false: work that nothing stops."""
    return False


class Clock:
    """Time and sleep of a client, in one place so that tests can replace them."""

    def __init__(self) -> None:
        self.cancelled = False
        # Re-entrant: cancel() may come from a signal handler of the very thread that sleeps.
        self._changed = threading.Condition(threading.RLock())

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""
        return time.monotonic()

    def time(self) -> float:
        """Return seconds since the epoch, UTC."""
        return time.time()

    def sleep(self, seconds: float, stopped: Callable[[], bool] = never) -> None:
        """Wait.

        :param seconds: how long; 0 only looks whether to go on.
        :param stopped: says that the sleeper's own work is over; asked again at every :meth:`wake`.
        :raises AhaCancelledError: when :meth:`cancel` was called, or the work is over, before or meanwhile.
        """
        with self._changed:
            if self._changed.wait_for(lambda: self.cancelled or stopped(), max(seconds, 0.0)):
                raise AhaCancelledError("The work was cancelled.")

    def wake(self) -> None:
        """Let every sleeper look whether its work is over."""
        with self._changed:
            self._changed.notify_all()

    def cancel(self) -> None:
        """End every sleep, present and future, with :class:`AhaCancelledError`."""
        self.cancelled = True
        self.wake()


class RateLimiter:
    """Lets requests through as fast as both limits allow, from any number of threads.

    :param per_second: requests a second, 1 or more.
    :param per_minute: requests a minute, 1 or more.
    :param max_in_flight: how many may wait for their answer at once.
    :param clock: where time comes from.

    ``granted`` counts the places that were taken.
    """

    def __init__(self, per_second: int, per_minute: int, max_in_flight: int, clock: Clock) -> None:
        self._interval = _SECOND_SECONDS / per_second
        self._look_again = max(self._interval, _SHORTEST_LOOK)
        self._max_in_flight = max_in_flight
        self._clock = clock
        self._lock = threading.Lock()
        self.granted = 0
        self._waiting: list[object] = []
        self._sent: deque[float] = deque(maxlen=per_minute)
        self._sent_lately: deque[float] = deque(maxlen=per_second)
        self._in_flight = 0
        self._not_before = 0.0
        self._due = math.inf
        self._remaining: int | None = None
        self._reset_at = 0.0

    def acquire(self, stopped: Callable[[], bool] = never) -> None:
        """Wait for the next free place and take it; pair each call with one :meth:`release`.

        Who comes first is served first: a page that others overtake keeps the reader of the list waiting.

        :param stopped: as in :meth:`Clock.sleep`.
        :raises AhaCancelledError: as :meth:`Clock.sleep`; no place was taken.
        """
        ticket = object()
        with self._lock:
            self._waiting.append(ticket)
        try:
            self._clock.sleep(0.0, stopped)
            while (wait := self._try_acquire(ticket)) > 0:
                self._clock.sleep(wait, stopped)
        finally:
            with self._lock:
                self._waiting.remove(ticket)

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
            # Nobody makes up for a pause that the server wanted.
            self._due = math.inf
        return wait

    def _try_acquire(self, ticket: object) -> float:
        with self._lock:
            now = self._clock.monotonic()
            room = max(_room(self._sent, _MINUTE_SECONDS), _room(self._sent_lately, _SECOND_SECONDS))
            wait = max(
                self._not_before - now,
                self._look_again if self._in_flight >= self._max_in_flight else 0.0,
                room - now,
                self._server_wait(now),
            )
            if ahead := self._waiting.index(ticket):
                return max(wait, 0.0) + ahead * self._interval
            if wait <= 0:
                # Time in which the limits themselves had no room is not lost.
                self._due = max(min(self._due, now), now - _MADE_UP_SECONDS, room) + self._interval
                self._not_before = max(self._due, now + self._interval / 2)
                self._sent.append(now)
                self._sent_lately.append(now)
                self._in_flight += 1
                self.granted += 1
            return wait

    def _server_wait(self, now: float) -> float:
        # Requests in flight may not be in the server's count yet, so they are taken off.
        if self._remaining is None or self._remaining > self._in_flight:
            return 0.0
        if self._remaining <= 0 and now < self._reset_at:
            return self._reset_at - now
        # The answers that are under way tell more. After a reset one request goes ahead and asks: how much
        # is free again depends on the server's window and on the other clients.
        return self._look_again if self._in_flight else 0.0

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


def _room(sent: deque[float], seconds: float) -> float:
    """Return when a window has room: a full one as soon as its oldest request is older than it is long."""
    return sent[0] + seconds if len(sent) == sent.maxlen else -math.inf


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text else None
    except ValueError:
        return None
    return number if number is not None and abs(number) < float("inf") else None


def _http_date(text: str | None) -> float | None:
    try:
        date = parsedate_to_datetime(text) if text else None
    except (ValueError, OverflowError):
        return None
    # "-0000" is UTC too, and comes without a zone.
    return date.replace(tzinfo=date.tzinfo or UTC).timestamp() if date else None
