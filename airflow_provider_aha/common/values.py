"""Reading values that arrive as text.

A rendered template, a connection URI and a form of the Airflow UI all deliver text (``'False'``, ``'None'``,
``"['a']"``), an untouched form field delivers null: every flag, number and list of this package is read here.

What was given is never repeated in an error: a name, an email or a key may have been typed into any field.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Collection, Iterable
from datetime import date, datetime, tzinfo
from difflib import get_close_matches
from typing import Any

from airflow_provider_aha.exceptions import AhaConfigurationError

_UNSET = {"", "none", "null"}
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ]((?:[01]\d|2[0-3]):\d\d(?::\d\d(?:\.\d{1,9})?)?)([Zz]| ?UTC|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)
_LONGEST_DATE = 60
# So long may a text be that somebody has to read before an answer.
_MOST_WORDS = 2000
_HALF = re.compile("[\ud800-\udfff]")
# Nobody left on these days: they are where calendars of payroll systems, databases and spreadsheets begin.
_NO_DAYS = frozenset(
    map(
        date.fromisoformat,
        (
            "1677-09-21",
            "1753-01-01",
            "1899-12-29",
            "1899-12-30",
            "1899-12-31",
            "1900-01-01",
            "1969-12-31",
            "1970-01-01",
        ),
    )
)
_ZERO_DATE = re.compile(r"(?:0000-\d\d-\d\d|1900-01-00)(?:[T ][0:.]*Z?)?", re.ASCII)
_NO_DATES = frozenset({"-", "--", "\u2013", "\u2014", "\\n", "null", "none", "nat", "nan", "n/a"})
# Letters and marks of Unicode that show nothing: joiners, fillers, the empty Braille cell, variation selectors.
SHOWS_NOTHING = frozenset(
    map(chr, (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10)))
) | frozenset(map(chr, range(0xE0100, 0xE01F0)))


def kind_of(value: object) -> str:
    """Say what kind of value was given, for an error that must not repeat it.

    :param value: anything.
    """
    if isinstance(value, str):
        return f"a text of {len(value)} characters"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, (list, tuple)) else f"a value of type {type(value).__name__}"


def unknown_ones(given: Iterable[str], known: Collection[str]) -> str | None:
    """Say which of some names are not known, by their places and by the known ones that they are close to.

    :param given: the names that were given.
    :param known: those that there are.
    :return: such as ``no. 2 (did you mean email?), no. 5``; None when all are known.
    """
    found = []
    for number, name in enumerate(given, 1):
        if name not in known:
            close = get_close_matches(str(name)[:60].lower(), list(known), 1)
            found.append(f"no. {number} (did you mean {close[0]}?)" if close else f"no. {number}")
    return ", ".join(found) or None


def is_unset(value: object) -> bool:
    """Tell whether a value means "not set": null, empty text, or the word that null renders to.

    :param value: anything.
    """
    return value is None or (isinstance(value, str) and value.strip().lower() in _UNSET)


def to_bool(value: object, name: str, default: bool) -> bool:
    """Read a flag.

    :param value: a boolean, or ``true``/``false`` in any case.
    :param name: what the value is called, for the error.
    :param default: the answer when the value is not set.
    :raises AhaConfigurationError: when it is anything else.
    """
    if is_unset(value):
        return default
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise AhaConfigurationError(f"{name} must be true or false, not {kind_of(value)}.")


def to_number(value: object, name: str, default: float, minimum: float, maximum: float) -> float:
    """Read a number within a range.

    :param value: a number, or its decimal text.
    :param name: what the value is called, for the error.
    :param default: the answer when the value is not set.
    :param minimum: the smallest value allowed.
    :param maximum: the largest value allowed.
    :raises AhaConfigurationError: when it is no number or out of range.
    """
    if is_unset(value):
        return default
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not minimum <= number <= maximum:
        found = kind_of(value) if math.isnan(number) else "one beyond that"
        raise AhaConfigurationError(f"{name} must be a number from {minimum:g} to {maximum:g}, not {found}.")
    return number


def to_int(value: object, name: str, default: int, minimum: int, maximum: int) -> int:
    """Read a whole number within a range; see :func:`to_number`.

    :param value: a number, or its decimal text.
    :param name: what the value is called, for the error.
    :param default: the answer when the value is not set.
    :param minimum: the smallest value allowed.
    :param maximum: the largest value allowed.
    :raises AhaConfigurationError: when it is no whole number or out of range.
    """
    number = to_number(value, name, default, minimum, maximum)
    if number != int(number):
        raise AhaConfigurationError(f"{name} must be a whole number, not one with a fraction.")
    return int(number)


def to_list(value: object, name: str) -> list[str] | None:
    """Read a list of texts.

    :param value: a list or tuple, a JSON array as text, or the text of a Python list (what a template of a
        list renders to).
    :param name: what the value is called, for the error.
    :return: the items as text, or None when the value is not set.
    :raises AhaConfigurationError: when it is anything else.
    """
    if is_unset(value):
        return None
    items = _parse(value) if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or any(isinstance(i, (dict, list, tuple)) for i in items):
        raise AhaConfigurationError(f'{name} must be a list, such as ["a", "b"], not {kind_of(value)}.')
    if any(is_unset(item) for item in items):
        raise AhaConfigurationError(f"{name} has an empty item.")
    return [str(item).strip() for item in items]


def to_dict(value: object, name: str) -> dict[str, Any] | None:
    """Read an object.

    :param value: a dict, or a JSON object as text.
    :param name: what the value is called, for the error.
    :return: the dict, or None when the value is not set.
    :raises AhaConfigurationError: when it is anything else.
    """
    if is_unset(value):
        return None
    found = _parse(value) if isinstance(value, str) else value
    if not isinstance(found, dict):
        raise AhaConfigurationError(f"{name} must be a JSON object.")
    return found


def to_objects(value: object, name: str) -> list[dict[str, Any]]:
    """Read an object, or a list of objects.

    :param value: a dict or a list of dicts, or JSON text of one.
    :param name: what the value is called, for the error.
    :return: the dicts; empty when the value is not set.
    :raises AhaConfigurationError: when it is anything else.
    """
    if is_unset(value):
        return []
    found = _parse(value) if isinstance(value, str) else value
    found = found if isinstance(found, (list, tuple)) else [found]
    if not all(isinstance(item, dict) for item in found):
        raise AhaConfigurationError(f"{name} must be a JSON object, or a list of them.")
    return list(found)


def to_text(value: object, name: str) -> str | None:
    """Read a text.

    :param value: a text or a number.
    :param name: what the value is called, for the error.
    :return: the text without blanks around it, or None when the value is not set.
    :raises AhaConfigurationError: when it is a list, an object or a flag, or has half a character in it.
    """
    if is_unset(value):
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise AhaConfigurationError(f"{name} must be text, not {type(value).__name__}.")
    text = str(value).strip()
    # JSON can name half of a character (\\ud800); no file and no request can hold it.
    if _HALF.search(text):
        raise AhaConfigurationError(f"{name} has half a character in it: type it again.")
    return text


def legible(text: str) -> str:
    """Return what a person sees of a text: no characters that show nothing, and blanks of every kind as one.

    :param text: what somebody typed.
    """
    seen = (
        " " if char.isspace() else char
        for char in text
        if char.isspace() or (char.isprintable() and char not in SHOWS_NOTHING)
    )
    return " ".join("".join(seen).split())


def to_words(value: object, name: str) -> str | None:
    """Read a text that must say something, such as a reason or the number of a ticket; see :func:`to_text`.

    :param value: a text or a number.
    :param name: what the value is called, for the error.
    :return: the text, or None when the value is not set.
    :raises AhaConfigurationError: when nobody could read anything in it, or nobody would read all of it.
    """
    text = to_text(value, name)
    if text is None:
        return None
    if len(text) > _MOST_WORDS:
        raise AhaConfigurationError(
            f"{name} is longer than {_MOST_WORDS:,} characters, and a person has to read it: put the rest into the "
            "ticket."
        )
    seen = legible(text)
    if is_unset(seen) or not any(char.isalnum() for char in seen):
        raise AhaConfigurationError(f"{name} is blank: it needs letters or digits that a person can read.")
    return text


def _parse(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def text_of(value: Any) -> str:
    """Return a cell as text; null is empty.

    :param value: what the cell holds.
    """
    if isinstance(value, str):
        return value.strip()
    return "" if _is_missing(value) else str(value)


def date_of(value: Any, zone: tzinfo) -> date | None:
    """Return a cell as a day, or None for an empty one.

    A day is taken as written. A moment counts as the later of its own calendar day and its day in the zone: what
    ends on a day never ends a day early.

    :param value: a date, a moment, or ISO 8601 text of one: ``2026-01-31``, ``2026-01-31T00:00:00+01:00``.
    :param zone: where the day of a moment is told, too.
    :raises ValueError: when it is none of these, or lies outside of the calendar.
    """
    if isinstance(value, str):
        text = _date_text(value)
        if not text:
            return None
        found = _ISO.fullmatch(text)
        if found is None:
            raise ValueError("no ISO day")
        day, time, offset = found.groups()
        if time is None:
            return date.fromisoformat(day)
        value = datetime.fromisoformat(f"{day}T{_without_nanoseconds(time)}{_offset(offset)}")
    if _is_missing(value):
        return None
    if isinstance(value, datetime):
        return _later_day(value, zone)
    if not isinstance(value, date):
        raise ValueError("no day")
    return value


def marks_no_date(value: Any, zone: tzinfo) -> bool:
    """Tell whether a cell has what payroll systems, databases and spreadsheets write where there is no date.

    Year 0, 1 and 9999, and the first days of their calendars: 1753-01-01, 1899-12-30 and -31, 1900-01-01,
    1970-01-01; a moment also where another zone shows it on the day before or after.

    :param value: what the cell holds.
    :param zone: where the day of a moment is told, too.
    """
    text = _date_text(value) if isinstance(value, str) else ""
    if text.lower() in _NO_DATES or _ZERO_DATE.fullmatch(text):
        return True
    try:
        last = date_of(value, zone)
        own = date_of(text[:10], zone) if text else value
    except ValueError:
        return False
    own = own.date() if isinstance(own, datetime) else own
    return any(isinstance(day, date) and (day.year in (1, 9999) or day in _NO_DAYS) for day in (own, last))


def _date_text(text: str) -> str:
    return legible(text) if len(text) <= _LONGEST_DATE else text.strip()


def _later_day(moment: datetime, zone: tzinfo) -> date:
    own = moment.date()
    try:
        return max(own, moment.astimezone(zone).date()) if moment.tzinfo else own
    except OverflowError:
        # At the ends of the calendar another zone may lie beyond it.
        return own


def _without_nanoseconds(time: str) -> str:
    whole, dot, fraction = time.partition(".")
    return f"{whole}.{fraction[:6]:0<6}" if dot else whole


def _offset(text: str | None) -> str:
    if text is None:
        return ""
    if text.strip().upper() in ("Z", "UTC"):
        return "+00:00"
    sign, digits = text[0], text[1:].replace(":", "")
    return f"{sign}{digits[:2]}:{digits[2:] or '00'}"


def _is_missing(value: Any) -> bool:
    # NaN, which data frames write for an empty cell, isn't even equal to itself.
    return value is None or bool(value != value)
