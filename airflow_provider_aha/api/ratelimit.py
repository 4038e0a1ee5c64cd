"""Pacing below Aha!'s two rate limits: 300 requests a minute and 20 a second.

The limits count per source address or per account (Aha!'s own texts differ), so other clients may use up
the same allowance: what the server says in its headers comes before our own count.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from airflow_provider_aha.exceptions import AhaCancelledError

# Our second is a little longer than the server's: requests that the network bunches up by as much as the
# difference still fit into any one-second window of the server.
_SECOND_SECONDS = 1.06
# So much lost time (a late answer, a slow start) is made up for, at half the even spacing.
_MADE_UP_SECONDS = 0.5
# How soon, at the earliest, those who wait for other requests' answers look again; and at the latest, since an
# answer may tell that nobody else is there.
_SHORTEST_LOOK, _LONGEST_LOOK = 0.01, 0.1
# The server counts arrivals, we count departures; a first request that arrives late shifts its minute.
_MINUTE_SECONDS = 60.5
# No documented window is longer than a minute: a wait beyond this is a wrong clock or a wrong header.
_LONGEST_PAUSE = 90.0
_CLOCK_SKEW = 5.0
_DELTA_BELOW = 1e6
# So many of our latest answers tell what the other clients of the account do.
_ANSWERS = 12
# A request that overtakes another is no crowd yet.
_CROWD_FROM = 1.1
# No crowd makes our pace slower than this many times.
_CROWD_MOST = 20.0
# How fast a crowd is forgotten, by answer: a client that is held back for a second comes back.
_CROWD_LEFT = 0.95
# Clients who can't see each other leave more room than one who is alone.
_CROWD_ROOM = 1.25


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

    def check(self, stopped: Callable[[], bool] = never) -> None:
        """Look whether to go on.

        :param stopped: says that the asker's own work is over.
        :raises AhaCancelledError: when :meth:`cancel` was called, or the work is over.
        """
        if self.cancelled or stopped():
            raise AhaCancelledError("The work was cancelled.")

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
        self._tickets = 0
        self._waiting: list[int] = []
        self._crowd = _Crowd()
        self._sent: deque[float] = deque(maxlen=per_minute)
        self._sent_lately: deque[float] = deque(maxlen=per_second)
        self._in_flight = 0
        self._not_before = 0.0
        self._paused_until = 0.0
        self._due = math.inf
        self._remaining: int | None = None
        self._reset_at = 0.0

    def acquire(self, stopped: Callable[[], bool] = never) -> int:
        """Wait for the next free place and take it; pair each call with one :meth:`release`.

        Who comes first is served first: a page that others overtake keeps the reader of the list waiting.

        :param stopped: as in :meth:`Clock.sleep`.
        :return: the number of the place, from 1, in the order of sending.
        :raises AhaCancelledError: as :meth:`Clock.sleep`; no place was taken.
        """
        with self._lock:
            self._tickets += 1
            ticket = self._tickets
            self._waiting.append(ticket)
        try:
            self._clock.sleep(0.0, stopped)
            while (wait := self._try_acquire(ticket)) > 0:
                self._clock.sleep(min(wait, _LONGEST_LOOK) if self._crowd.times > 1.0 else wait, stopped)
            return ticket
        finally:
            with self._lock:
                self._waiting.remove(ticket)

    def release(self, headers: Mapping[str, str] | None = None, number: int = 0) -> None:
        """Give the place back and learn from the answer.

        :param headers: the answer's headers; none when no answer came.
        :param number: of the place; 0 learns nothing about other clients.
        """
        with self._lock:
            self._in_flight -= 1
            remaining = _number(headers.get("X-Ratelimit-Remaining")) if headers else None
            reset = self._seconds_until_reset(headers) if headers else None
            if headers is None or remaining is None or reset is None:
                return
            now = self._clock.monotonic()
            if remaining > 0 and number:
                limit = _number(headers.get("X-Ratelimit-Limit"))
                was = self._crowd.times
                self._crowd.learn(number, remaining, limit, self._answered_within_a_minute)
                if was > 1.0 and self._crowd.times == 1.0:
                    # One answer alone can't tell other clients from requests of a minute ago.
                    self._due, self._not_before = now, min(self._not_before, now + self._interval / 2)
            self._remaining = int(remaining)
            self._reset_at = now + reset + self._spread()

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
            self._paused_until = max(self._paused_until, self._clock.monotonic() + wait + self._spread())
            # Nobody makes up for a pause that the server wanted.
            self._due = math.inf
        return wait

    def _try_acquire(self, ticket: int) -> float:
        with self._lock:
            now = self._clock.monotonic()
            room = max(_room(self._sent, _MINUTE_SECONDS), _room(self._sent_lately, _SECOND_SECONDS))
            wait = max(
                self._not_before - now,
                self._paused_until - now,
                self._look_again if self._in_flight >= self._max_in_flight else 0.0,
                room - now,
                self._server_wait(now),
            )
            if ahead := self._waiting.index(ticket):
                return max(wait, 0.0) + ahead * self._interval
            if wait <= 0:
                interval = self._interval * self._crowd.slowdown
                # Time in which the limits themselves had no room is not lost, and in a crowd none is made up for.
                made_up = 0.0 if self._crowd.times > 1.0 else _MADE_UP_SECONDS
                self._due = max(min(self._due, now), now - made_up, room) + interval
                self._not_before = max(self._due, now + interval / 2)
                self._sent.append(now)
                self._sent_lately.append(now)
                self._in_flight += 1
                self.granted += 1
            return wait

    def _server_wait(self, now: float) -> float:
        # Requests in flight may not be in the server's count yet, so they are taken off.
        # In a crowd the others' next requests, one of each, come off as well.
        kept = self._crowd.times if self._crowd.times > 1.0 else 0.0
        if self._remaining is None or (self._remaining - kept) / self._crowd.times > self._in_flight:
            return 0.0
        if self._remaining <= kept and now < self._reset_at:
            return self._reset_at - now
        # The answers that are under way tell more. After a reset one request goes ahead and asks: how much
        # is free again depends on the server's window and on the other clients.
        return self._look_again if self._in_flight else 0.0

    def _answered_within_a_minute(self) -> int:
        since = self._clock.monotonic() - 60.0
        return sum(moment > since for moment in self._sent) - self._in_flight

    def _spread(self) -> float:
        # Clients that were held back together don't come back together.
        return random.uniform(0.0, (self._crowd.times - 1.0) * self._interval)

    def _seconds_until_reset(self, headers: Mapping[str, str]) -> float | None:
        reset = _number(headers.get("X-Ratelimit-Reset"))
        if reset is None:
            return None
        if reset < _DELTA_BELOW:
            return min(max(reset, 0.0), _LONGEST_PAUSE)
        now = self._clock.time()
        server_now = http_date(headers.get("Date"))
        # The server's own clock decides only where ours is plainly wrong: Date has whole seconds.
        if server_now is not None and abs(server_now - now) > _CLOCK_SKEW:
            now = server_now
        return min(max(reset - now, 0.0), _LONGEST_PAUSE)

    def _retry_after(self, headers: Mapping[str, str]) -> float | None:
        text = headers.get("Retry-After")
        seconds = _number(text)
        if seconds is None and (date := http_date(text)) is not None:
            seconds = date - (http_date(headers.get("Date")) or self._clock.time())
        return seconds


class _Crowd:
    """Tells from the answers how many requests all clients of the account send while we send one.

    Between two answers of ours the allowance that remains has fallen by one for every request, whoever sent it.
    ``times`` is 1 when nobody else is there.
    """

    def __init__(self) -> None:
        self.times = 1.0
        self._measured = False
        self._answers: list[tuple[int, float]] = []

    @property
    def slowdown(self) -> float:
        """How many times slower than alone we are to be."""
        return self.times * _CROWD_ROOM if self.times > 1.0 else 1.0

    def learn(self, number: int, remaining: float, limit: float | None, own: Callable[[], int]) -> None:
        """Learn from an answer.

        :param number: of its place, in the order of sending.
        :param remaining: of the minute's allowance, 1 or more.
        :param limit: the minute's allowance, where the answer tells it.
        :param own: counts our requests that were answered within a minute; asked only where it decides.
        """
        self._answers = sorted([*self._answers, (number, remaining)])[-_ANSWERS:]
        (first, most), (last, least) = self._answers[0], self._answers[-1]
        if least > most:
            # A window has moved on: what was before it can't be compared.
            self._answers = self._answers[-1:]
            return
        if first == last:
            if limit and not self._measured:
                self.times = _crowd((limit - remaining) / max(own(), 1))
            return
        seen = (most - least) / (last - first)
        if limit and remaining < limit / 10:
            # Old requests of all clients become free again, which hides how fast new ones come.
            seen = max(seen, (limit - remaining) / max(own(), 1))
        self.times = max(_crowd(seen), self.times * _CROWD_LEFT if self._measured else 1.0)
        self._measured = True


def _crowd(times: float) -> float:
    return min(times, _CROWD_MOST) if times > _CROWD_FROM else 1.0


def _room(sent: deque[float], seconds: float) -> float:
    """Return when a window has room: a full one as soon as its oldest request is older than it is long."""
    return sent[0] + seconds if len(sent) == sent.maxlen else -math.inf


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text else None
    except ValueError:
        return None
    return number if number is not None and abs(number) < float("inf") else None


def http_date(text: str | None) -> float | None:
    """Read a date as HTTP writes it.

    :param text: the header; None: there is none.
    :return: seconds since 1970; None for what is no date.
    """
    try:
        date = parsedate_to_datetime(text) if text else None
    except (ValueError, OverflowError):
        return None
    # "-0000" is UTC too, and comes without a zone.
    return date.replace(tzinfo=date.tzinfo or UTC).timestamp() if date else None
