"""JSON as Aha! sends it, and one user of it: what is no JSON, and what of a user can't be what it says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

# A cell of the datasets: whoever sends more of a name or an email sends none.
LONGEST_TEXT = 1_000_000
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_REPLACEMENT = b"\\ufffd"
# One escape of a JSON text at a time, so that the backslash of another is not taken for its own. The group is half
# of a character: a first half that no second one follows, or a second one alone.
_HALF = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)
# The same as bytes, which are no UTF-8.
_HALF_BYTES = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
_ID = re.compile(r"[0-9]{1,20}")


def without_mark(body: bytes) -> bytes:
    """Take off the byte order mark that a proxy may have put before a JSON text.

    :param body: the answer's bytes.
    """
    return body.removeprefix(_BYTE_ORDER_MARK)


def read_json(body: bytes) -> tuple[Any, int]:
    """Read JSON; half a character in a name becomes U+FFFD, since no file can hold it.

    :param body: the answer's bytes.
    :return: what it says, and how many halves were replaced.
    :raises ValueError: when it is no JSON.
    """
    body = without_mark(body)
    try:
        return orjson.loads(body), 0
    except orjson.JSONDecodeError:
        repaired, count = _repaired(body)
        if not count:
            raise
    return orjson.loads(repaired), count


def _repaired(body: bytes) -> tuple[bytes, int]:
    count = 0

    def replace(found: re.Match[bytes]) -> bytes:
        nonlocal count
        if not found[1]:
            return found[0]
        count += 1
        return _REPLACEMENT

    body, bytes_count = _HALF_BYTES.subn("\N{REPLACEMENT CHARACTER}".encode(), body)
    return _HALF.sub(replace, body), count + bytes_count


def is_record_id(value: object) -> bool:
    """Tell whether a value is an id as Aha! gives it: up to 20 digits, as text or as a number.

    :param value: what an answer has for it. A number too large for 64 bits comes as a float, its last digits lost.
    """
    if isinstance(value, str):
        return _ID.fullmatch(value) is not None
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def readable(user: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Take from a user what is of the documented type, since what follows decides over access by it.

    A flag may come as the text ``true`` or ``false``. Null, an absent key and an unknown one are nothing odd.

    :param user: the user object of an answer.
    :return: the user, with null in place of every value that is not of its type, and the names of those.
    """
    found, odd = dict(user), []
    for name, reader in _READERS.items():
        if found.get(name) is not None:
            try:
                found[name] = reader(found[name])
            except TypeError:
                found[name] = None
                odd.append(name)
    return found, odd


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise TypeError
    return value


def _flag(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise TypeError
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError
    return value


def _rights(value: Any) -> dict[str, Any]:
    return {name: None if right is None else _flag(right) for name, right in _object(value).items()}


def _objects(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise TypeError
    return [_object(item) for item in value]


_READERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("name", "email", "timezone", "created_at", "updated_at", "accessed_at"), _text),
    **dict.fromkeys(("enabled", "paid_seat", "administrator", "roadmaps_seat", "develop_seat"), _flag),
    "administrator_roles": _rights,
    **dict.fromkeys(("product_roles", "user_roles"), _objects),
    **dict.fromkeys(("paid_seat_group", "identity_provider"), _object),
}
