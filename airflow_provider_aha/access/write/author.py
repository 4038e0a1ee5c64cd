"""Whose doing a change is, where the answer to a request was lost: told by Aha!'s own stamps and its own clock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from airflow_provider_aha.api.config import RestConfig
from airflow_provider_aha.common.moments import read_moment, timestamp

# A Date header leaves out the parts of a second, and servers make a new one once in a second.
_DATE_IS_BEHIND = timedelta(seconds=2)


@dataclass(frozen=True)
class Look:
    """A read of a user, and what it says of the time at Aha!.

    :param user: the user as Aha! shows it.
    :param date: the Date header of the answer; None: there was none.
    :param asked_at: when it was asked for, in seconds of the client's clock that never goes backwards.
    """

    user: Mapping[str, Any]
    date: object
    asked_at: float

    def latest(self, now: float, more: float = 0.0) -> str | None:
        """Return what time it is at Aha! at the latest, ISO 8601; None where no answer has told its date.

        :param now: this moment, by the clock of ``asked_at``.
        :param more: so many seconds later than now.
        """
        try:
            date = parsedate_to_datetime(str(self.date))
        except ValueError:
            return None
        passed = timedelta(seconds=now - self.asked_at + more)
        return timestamp(date.replace(tzinfo=date.tzinfo or UTC) + _DATE_IS_BEHIND + passed)


def longest_call(config: RestConfig) -> float:
    """Return how many seconds may pass until the last attempt of a call has landed.

    :param config: the client's settings.
    """
    return config.retry_budget + (config.max_retries + 1) * (config.connect_timeout + config.read_timeout)


def is_ours(request: Mapping[str, Any], user: Mapping[str, Any]) -> bool:
    """Tell whether a request of ours made a user what it is now, rather than somebody else.

    Aha!'s stamp has moved since the look before the request, and is not later than the request could land.

    :param request: an intent, or the outcome of a request whose answer was lost.
    :param user: the user as Aha! shows it now.
    """
    before = json.loads(request.get("before_json") or "{}").get("updated_at")
    since, stamp, until = (
        read_moment(one, needs_offset=True) for one in (before, user.get("updated_at"), request.get("lands_by"))
    )
    return since is not None and stamp is not None and until is not None and since < stamp <= until
