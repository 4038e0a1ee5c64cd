"""The two rate limits of Aha!: requests per minute and per second."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

MINUTE = 60.0
SECOND = 1.0


@dataclass(frozen=True)
class Verdict:
    """What the limits say of one request.

    :param allowed: whether it may pass.
    :param limit: requests per minute.
    :param remaining: how many more of them are free; 0 when the request may not pass.
    :param reset: when it is safe to ask again, in whole seconds since 1970.
    """

    allowed: bool
    limit: int
    remaining: int
    reset: int

    @property
    def headers(self) -> dict[str, str]:
        """The headers that Aha! sends with every response."""
        return {
            "X-Ratelimit-Limit": str(self.limit),
            "X-Ratelimit-Remaining": str(self.remaining),
            "X-Ratelimit-Reset": str(self.reset),
        }


class RateLimiter:
    """Counts requests in sliding windows, as strictly as a server plausibly would.

    No window of 60 seconds, wherever it begins, holds more than ``per_minute`` requests, and none of one
    second more than ``per_second``. All keys of the account share them. A request that is turned away
    counts as well: who doesn't wait stays out.

    :param per_minute: how many requests may come within 60 seconds.
    :param per_second: how many requests may come within one second.
    :param enabled: whether requests are turned away; the headers are sent either way.
    :param clock: seconds since 1970.
    :raises ValueError: when a limit is below 1.
    """

    def __init__(
        self,
        per_minute: int = 300,
        per_second: int = 20,
        *,
        enabled: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if per_minute < 1 or per_second < 1:
            raise ValueError("a rate limit must be at least 1")
        self.enabled = enabled
        self.per_minute = per_minute
        self.per_second = per_second
        self._clock = clock
        self._minute: deque[float] = deque()
        self._second: deque[float] = deque()

    def admit(self) -> Verdict:
        """Count a request, and decide on it.

        :returns: whether it may pass, and the values of the headers.
        """
        now = self._clock()
        if not self.enabled:
            return Verdict(True, self.per_minute, self.per_minute, math.ceil(now + MINUTE))
        _forget(self._minute, now - MINUTE)
        _forget(self._second, now - SECOND)
        allowed = len(self._minute) < self.per_minute and len(self._second) < self.per_second
        self._minute.append(now)
        self._second.append(now)
        if not allowed:
            return Verdict(False, self.per_minute, 0, self._free_at())
        reset = math.ceil(self._minute[0] + MINUTE)
        return Verdict(True, self.per_minute, self.per_minute - len(self._minute), reset)

    def reset(self) -> None:
        """Forget all requests so far."""
        self._minute.clear()
        self._second.clear()

    def _free_at(self) -> int:
        """Say when both windows have room again, if nobody asks until then."""
        full = ((self._minute, self.per_minute, MINUTE), (self._second, self.per_second, SECOND))
        times = [hits[-limit] + length for hits, limit, length in full if len(hits) >= limit]
        return math.ceil(max(times))


def _forget(hits: deque[float], until: float) -> None:
    """Drop the requests that have left a window."""
    while hits and hits[0] <= until:
        hits.popleft()
