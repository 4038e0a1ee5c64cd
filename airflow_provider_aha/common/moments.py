"""Moments: how they are written, read and compared; UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


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
