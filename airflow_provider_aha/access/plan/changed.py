"""What has changed since the last plan: settings, protected lists, exclusions, columns of rosters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# What a person asks for differs from plan to plan; it is the question itself.
_ASKED = ("users", "to", "review", "undo")
# So many entries are named in one sentence; the plans have all of them.
_NAMED = 10


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[dict[str, str]]:
    """Compare the settings of two plans.

    :param before: settings of the last plan, as JSON holds them.
    :param now: settings of this one.
    :return: for each that differs its name as ``setting``, which a log may show, and ``text``, which may have ids
        and addresses in it.
    """
    was, is_now = (_flat(_named(settings), "") for settings in (before, now))
    return [
        {"setting": name, "text": text}
        for name in dict.fromkeys([*was, *is_now])
        if was.get(name) != is_now.get(name)
        for text in _texts(was.get(name), is_now.get(name))
    ]


def _named(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in _ASKED}


def _flat(value: Any, name: str) -> dict[str, Any]:
    """Give each setting a name of its own, those of a rule or a roster that of its owner."""
    if isinstance(value, Mapping):
        parts = {key: part for key, part in value.items() if part is not None}
    elif isinstance(value, Sequence) and value and all(isinstance(one, Mapping) for one in value):
        parts = {str(one.get("name", number)): one for number, one in enumerate(value, 1)}
    else:
        return {name: value}
    found: dict[str, Any] = {}
    for key, part in parts.items():
        found |= _flat(part, f"{name}.{key}" if name else str(key))
    return found


def _texts(before: Any, now: Any) -> Iterator[str]:
    if not isinstance(before, list | None) or not isinstance(now, list | None):
        yield f"{_said(before)} before, {_said(now)} now"
        return
    for word, some, others in (("removed", before, now), ("added", now, before)):
        if found := [_said(one) for one in some or () if one not in (others or ())]:
            more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
            yield f"{word}: {', '.join(found[:_NAMED])}{more}"


def _said(value: Any) -> str:
    if value is None or value == []:
        return "not set"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
