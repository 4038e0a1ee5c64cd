"""Faults that are switched on: which requests they meet, and how often."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_aha.sandbox.exchange import Answer, Exchange
from airflow_provider_aha.sandbox.fault_kinds import KINDS, Call, Kind
from airflow_provider_aha.sandbox.setting import Json

COMMON_OPTIONS: Mapping[str, Any] = {
    "times": None,
    "after": 0,
    "method": None,
    "path": None,
    "page": None,
}
"""Options of every fault: how many times it happens, after how many requests, and which requests it meets."""

_LONGEST_DELAY = 120.0


@dataclass
class Fault:
    """A fault that is switched on.

    :param kind: the sort.
    :param options: all options.
    :param seen: how many requests it could have spoiled.
    :param hits: how many requests it has spoiled.
    :param memory: what the sort keeps from one request to the next.
    """

    kind: Kind
    options: dict[str, Any]
    seen: int = 0
    hits: int = 0
    memory: dict[str, Any] = field(default_factory=dict)

    def meets(self, exchange: Exchange) -> bool:
        """Say whether it is this request's turn.

        :param exchange: the request.
        :returns: true when method, path and page fit and the counts allow it.
        """
        times = self.options["times"]
        if (times is not None and self.hits >= times) or not self._fits(exchange):
            return False
        self.seen += 1
        return self.seen > int(self.options["after"])

    def describe(self) -> Json:
        """Write it down.

        :returns: name, options and the count of spoiled requests.
        """
        return {"name": self.kind.name, "options": self.options, "hits": self.hits}

    def _fits(self, exchange: Exchange) -> bool:
        """Compare method, path and page."""
        method, path, page = (self.options[key] for key in ("method", "path", "page"))
        methods = (str(method).upper(),) if method else self.kind.methods
        return (
            (not methods or exchange.method in methods)
            and re.fullmatch(path or self.kind.path, exchange.path) is not None
            and page in (None, exchange.page)
        )


class Faults:
    """The faults that are switched on. May be used from any thread.

    :param kinds: the sorts of faults there are, by name.
    """

    def __init__(self, kinds: Mapping[str, Kind] = KINDS) -> None:
        self._kinds = kinds
        self._lock = threading.Lock()
        self._active: list[Fault] = []

    def add(self, name: str, **options: Any) -> Fault:
        """Switch a fault on.

        :param name: one of :data:`airflow_provider_aha.sandbox.fault_kinds.KINDS`.
        :param options: its own ones and :data:`COMMON_OPTIONS`.
        :returns: the fault, which counts its ``hits``.
        :raises ValueError: when the name, an option or its value is unknown.
        """
        kind = self._kinds.get(name)
        if kind is None:
            raise ValueError(f"there is no fault {name!r}; there are {', '.join(self._kinds)}")
        known = {**COMMON_OPTIONS, **kind.options}
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise ValueError(f"fault {name} has no option {unknown[0]!r}; it has {', '.join(known)}")
        fault = Fault(kind, _checked(kind, known | options))
        with self._lock:
            self._active.append(fault)
        return fault

    def remove(self, name: str) -> None:
        """Switch all faults of a name off.

        :param name: the name; unknown ones are ignored.
        """
        with self._lock:
            self._active = [fault for fault in self._active if fault.kind.name != name]

    def clear(self) -> None:
        """Switch all faults off."""
        with self._lock:
            self._active = []

    def active(self) -> list[Fault]:
        """List the faults that are switched on.

        :returns: in the order in which they were switched on.
        """
        with self._lock:
            return list(self._active)

    def meeting(self, exchange: Exchange) -> list[Fault]:
        """Choose the faults for a request.

        :param exchange: the request.
        :returns: the faults whose turn it is.
        """
        with self._lock:
            return [fault for fault in self._active if fault.meets(exchange)]


def act_before(faults: list[Fault], exchange: Exchange, account: Any) -> Answer | None:
    """Let faults act before the API does.

    :param faults: those that meet the request.
    :param exchange: the request.
    :param account: the state.
    :returns: the answer in place of the API's; null to go on.
    """
    for fault in faults:
        if fault.kind.before:
            fault.hits += 1
            answer = fault.kind.before(Call(exchange, account, fault.options, fault.memory))
            if answer is not None:
                return answer
    return None


def act_after(faults: list[Fault], exchange: Exchange, account: Any, answer: Answer) -> Answer:
    """Let faults change the API's answer.

    :param faults: those that meet the request.
    :param exchange: the request.
    :param account: the state.
    :param answer: the API's.
    :returns: what is sent.
    """
    for fault in faults:
        if fault.kind.after:
            changed = fault.kind.after(Call(exchange, account, fault.options, fault.memory, answer))
            fault.hits += changed is not None
            answer = changed or answer
    return answer


def delay_of(faults: list[Fault]) -> float:
    """Add up how long faults hold an answer back.

    :param faults: those that meet the request.
    :returns: seconds.
    """
    return sum(float(fault.options["seconds"]) for fault in faults if "seconds" in fault.options)


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Read a fault as it is written on the command line.

    :param text: ``NAME`` or ``NAME:option=value,...``.
    :returns: name and options.
    :raises ValueError: when an option has no value.
    """
    name, _, rest = text.partition(":")
    options: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"write {key}=VALUE in fault {text!r}")
        options[key.strip()] = value.strip()
    return name.strip(), options


def _checked(kind: Kind, options: dict[str, Any]) -> dict[str, Any]:
    """Turn values that came as text into what they stand for, and refuse what makes no sense."""
    whole = {"times", "after", "page"} | {k for k, v in kind.options.items() if isinstance(v, int)}
    for key, value in options.items():
        if key in whole and value is not None:
            options[key] = _whole(kind.name, key, value)
        elif isinstance(kind.options.get(key), float):
            options[key] = _seconds(kind.name, key, value)
        if key in kind.most and not 0 < options[key] <= kind.most[key]:
            raise ValueError(f"option {key} of fault {kind.name} must be from 1 to {kind.most[key]}")
        choices = kind.choices.get(key)
        if choices and options[key] not in choices:
            raise ValueError(f"option {key} of fault {kind.name} is one of {', '.join(map(str, choices))}")
    try:
        re.compile(options["path"] or "")
    except re.error as error:
        raise ValueError(f"option path of fault {kind.name} is no regular expression: {error}") from None
    return options


def _whole(name: str, key: str, value: object) -> int:
    """Read a whole number."""
    try:
        return int(str(value))
    except ValueError:
        raise ValueError(f"option {key} of fault {name} must be a whole number") from None


def _seconds(name: str, key: str, value: object) -> float:
    """Read a time; no fault holds a test up for ever."""
    try:
        seconds = float(str(value))
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= _LONGEST_DELAY:
        raise ValueError(f"option {key} of fault {name} must be from 0 to {_LONGEST_DELAY:g} seconds")
    return seconds
