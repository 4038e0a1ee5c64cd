"""Transforms: named, pure functions of one value, that a mapping chains by name.

A transform is given what isn't null, and returns a value. It raises ValueError, with the reason, for what it
can't work on; the record is invalid then. Nothing here imports more than the standard library, so that a DAG
file may register transforms of its own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from airflow_provider_aha.common.moments import read_moment
from airflow_provider_aha.exceptions import AhaConfigurationError

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,19}\s*", re.ASCII)
_QUOTED = 60


@dataclass(frozen=True)
class Transform:
    """A transform.

    :param function: gets a value that isn't null, and the arguments of the mapping.
    :param returns: the type of what it returns; None: that of what it was given.
    :param arguments: how many arguments a mapping must give it.
    :param may_return_null: whether null is a result; otherwise a transform that returns None has failed.
    """

    function: Callable[..., Any]
    returns: str | None = "string"
    arguments: int = 0
    may_return_null: bool = False


def quoted(value: object) -> str:
    """Quote a value for the reason of an outcome, cut where it is long.

    :param value: the value.
    """
    text = repr(value)
    return text if len(text) <= _QUOTED else f"{text[: _QUOTED - 3]}..."


# --- text ------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{quoted(value)} is not text")
    return value


def _first_name(value: object) -> str:
    return _text(value).split(maxsplit=1)[0] if _text(value).strip() else ""


def _last_name(value: object) -> str:
    return [*_text(value).split(maxsplit=1), "", ""][1].strip()


def _email_part(part: int) -> Callable[[object], str]:
    def take(value: object) -> str:
        text = _text(value).strip()
        local, at, domain = text.rpartition("@")
        if not (at and local and domain):
            raise ValueError(f"{quoted(value)} is not an email")
        return (local, domain)[part]

    return take


def _truncate(value: object, length: object) -> str:
    if isinstance(length, bool) or not isinstance(length, int) or length < 0:
        raise ValueError("truncate needs a length")
    return _text(value)[:length]


def _join(value: object, separator: object) -> str:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{quoted(value)} is not a list")
    return _text(separator).join(to_string(item) for item in value if item is not None)


def to_string(value: object) -> str:
    """Write a value as text.

    :param value: a value that isn't null.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return iso_utc(value)
    if isinstance(value, (int, float, date)):
        return str(value)
    raise ValueError(f"{quoted(value)} is not a single value")


# --- numbers and flags -----------------------------------------------------------------------------


def to_integer(value: object) -> int:
    """Read a whole number that fits into 64 bits.

    :param value: a number, or its decimal text.
    """
    found: int | None = None
    if isinstance(value, str):
        found = int(value) if _INTEGER.fullmatch(value) else None
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and value == value // 1:
        found = int(value)
    if found is None or not -(2**63) <= found < 2**63:
        raise ValueError(f"{quoted(value)} is not a whole number")
    return found


def to_float(value: object) -> float:
    """Read a finite number.

    :param value: a number, or its decimal text.
    """
    try:
        found = None if isinstance(value, bool) or not isinstance(value, (int, float, str)) else float(value)
    except (ValueError, OverflowError):
        found = None
    if found is None or found - found != 0:
        raise ValueError(f"{quoted(value)} is not a number")
    return found


def to_boolean(value: object) -> bool:
    """Read a flag.

    :param value: a boolean, 0 or 1, or ``true``, ``false``, ``yes``, ``no``, ``1`` or ``0`` in any case.
    """
    word = str(value).strip().lower() if isinstance(value, (str, bool, int)) else ""
    if word in ("true", "yes", "1"):
        return True
    if word in ("false", "no", "0"):
        return False
    raise ValueError(f"{quoted(value)} is neither true nor false")


# --- moments ---------------------------------------------------------------------------------------


def to_timestamp(value: object) -> datetime:
    """Read a moment; one without a time zone is UTC.

    :param value: a moment, a date, or ISO text of one.
    """
    found: datetime | None = None
    if isinstance(value, date) and not isinstance(value, datetime):
        found = datetime(value.year, value.month, value.day, tzinfo=UTC)
    elif isinstance(value, datetime | str):
        found = read_moment(value.strip() if isinstance(value, str) else value)
    if found is None:
        raise ValueError(f"{quoted(value)} is not a moment such as 2026-08-01T12:00:00Z")
    return found


def to_date(value: object) -> date:
    """Read a date; of a moment, the day in UTC.

    :param value: a date, a moment, or ISO text of one.
    """
    try:
        return to_timestamp(value).date()
    except ValueError:
        raise ValueError(f"{quoted(value)} is not a date such as 2026-08-01") from None


def iso_utc(value: object) -> str:
    """Write a moment as ISO text in UTC, such as ``2026-08-01T12:00:00Z``.

    :param value: as for :func:`to_timestamp`.
    """
    moment = to_timestamp(value)
    unit = "milliseconds" if moment.microsecond else "seconds"
    return moment.isoformat(timespec=unit).replace("+00:00", "Z")


# --- the registry ----------------------------------------------------------------------------------

_TRANSFORMS: dict[str, Transform] = {
    "strip": Transform(lambda value: _text(value).strip()),
    "lower": Transform(lambda value: _text(value).lower()),
    "upper": Transform(lambda value: _text(value).upper()),
    "title": Transform(lambda value: _text(value).title()),
    "first_name": Transform(_first_name),
    "last_name": Transform(_last_name),
    "email_local": Transform(_email_part(0)),
    "email_domain": Transform(_email_part(1)),
    "truncate": Transform(_truncate, arguments=1),
    "prefix": Transform(lambda value, text: _text(text) + to_string(value), arguments=1),
    "split": Transform(lambda value, by: _text(value).split(_text(by)), returns="json", arguments=1),
    "join": Transform(_join, arguments=1),
    "hash_sha256": Transform(lambda value: hashlib.sha256(to_string(value).encode()).hexdigest()),
    "empty_to_null": Transform(lambda value: value or None, returns=None, may_return_null=True),
    "not": Transform(lambda value: not to_boolean(value), returns="boolean"),
    "bool": Transform(to_boolean, returns="boolean"),
    "int": Transform(to_integer, returns="integer"),
    "float": Transform(to_float, returns="number"),
    "str": Transform(to_string),
    "date": Transform(to_date, returns="date"),
    "timestamp": Transform(to_timestamp, returns="timestamp"),
    "iso_utc": Transform(iso_utc),
    "epoch": Transform(lambda value: int(to_timestamp(value).timestamp()), returns="integer"),
    "epoch_ms": Transform(lambda value: round(to_timestamp(value).timestamp() * 1000), returns="integer"),
}
_BUILT_IN = frozenset(_TRANSFORMS)


def transforms() -> Mapping[str, Transform]:
    """Return all transforms by name."""
    return _TRANSFORMS


def register_transform(
    name: str, function: Callable[..., Any], *, returns: str = "string", arguments: int = 0
) -> None:
    """Give mappings a transform of your own, such as from the DAG file that uses it.

    ::

        register_transform("cost_centre", lambda email: CENTRES[email_domain(email)])

    :param name: its name in a mapping: lower-case letters, digits, underscores.
    :param function: gets a value that isn't null, and the arguments of the mapping; it must give the same for
        the same, raise ValueError with the reason for what it can't work on, and never return None.
    :param returns: the type of what it returns.
    :param arguments: how many arguments a mapping must give it.
    :raises AhaConfigurationError: when the name is none, or that of a built-in transform.
    """
    if not _NAME.fullmatch(name) or name in _BUILT_IN:
        raise AhaConfigurationError(
            f"A transform can't be called {name!r}: it needs a name of its own of lower-case letters, digits and "
            "underscores."
        )
    _TRANSFORMS[name] = Transform(function, returns=returns, arguments=arguments)
