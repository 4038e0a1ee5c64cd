"""Moments: how they are written, read and compared; UTC."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

_EPOCH = date(1970, 1, 1).toordinal()
_DAY_MS = 24 * 60 * 60 * 1000


def timestamp(moment: datetime | None = None) -> str:
    """Return a moment as records hold it: UTC, with microseconds.

    :param moment: the moment; now when left out.
    """
    moment = moment or datetime.now(UTC)
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def moment_of(text: object) -> datetime:
    """Read a moment of a manifest or record; UTC.

    :param text: ISO 8601 with an offset.
    """
    return datetime.fromisoformat(str(text)).astimezone(UTC)


def days_between(since: datetime, until: datetime) -> int:
    """Return the whole days between two moments.

    :param since: the earlier one.
    :param until: the later one.
    """
    return (until - since) // timedelta(days=1)


def day_of(milliseconds_since_1970: int | None) -> str:
    """Return the UTC day of a time, or nothing.

    :param milliseconds_since_1970: the time.
    """
    if milliseconds_since_1970 is None:
        return ""
    return date.fromordinal(_EPOCH + milliseconds_since_1970 // _DAY_MS).isoformat()
