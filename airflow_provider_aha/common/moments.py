"""Moments: how they are written, read and compared; UTC.

There is one reader. What a text means that is no moment is for its caller to say: one refuses it, another counts it
as now.
"""

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


def milliseconds_text(moment: datetime) -> str:
    """Return a moment as manifests and plans hold it: UTC, with milliseconds.

    :param moment: the moment.
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_moment(value: object, *, needs_offset: bool = False) -> datetime | None:
    """Read a moment; None where it is none, or lies outside of the calendar.

    :param value: a moment, or ISO 8601 text of one.
    :param needs_offset: whether one without an offset is none; else it is taken to be UTC.
    :return: the moment; UTC.
    """
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        if moment.tzinfo is None:
            return None if needs_offset else moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC)
    except (OverflowError, ValueError):
        return None


def moment_of(value: object, *, needs_offset: bool = False) -> datetime:
    """Read a moment, as :func:`read_moment` does.

    :param value: a moment, or ISO 8601 text of one.
    :param needs_offset: whether one without an offset is none.
    :raises ValueError: when it is none.
    """
    moment = read_moment(value, needs_offset=needs_offset)
    if moment is None:
        raise ValueError("That is no moment.")
    return moment


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
