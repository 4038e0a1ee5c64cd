"""The filter of a mapping: conditions on columns of the dataset, joined by all, any and not.

A condition on null is false, but for ``is_null``; ``ne`` and the ``not_`` operators are the exact opposite of
theirs, so they hold for null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_aha.common.arrow import array_of, literal
from airflow_provider_aha.push.mapping.types import ARROW, convert, type_of_arrow

_FALSE = literal(False, pa.bool_())

_TEXT: dict[str, Callable[[Any, str], Any]] = {
    "startswith": pc.starts_with,
    "endswith": pc.ends_with,
    "contains": pc.match_substring,
}
_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "lt": pc.less,
    "le": pc.less_equal,
    "gt": pc.greater,
    "ge": pc.greater_equal,
}
_NEGATED = {
    "ne": "eq",
    "not_in": "in",
    "not_null": "is_null",
    "not_startswith": "startswith",
    "not_endswith": "endswith",
    "not_contains": "contains",
}
OPERATORS = ("eq", "in", "is_null", *_ORDER, *_TEXT, *_NEGATED)


@dataclass(frozen=True)
class Filter:
    """A filter.

    :param mask: gives, for a table with :attr:`columns`, which rows are meant.
    :param columns: the columns that it reads.
    """

    mask: Callable[[pa.Table], Any]
    columns: frozenset[str]


def read_filter(given: Any, columns: pa.Schema, faults: list[str]) -> Filter | None:
    """Read a filter.

    :param given: a list of conditions, all of which must hold, or one condition; None: no filter.
    :param columns: the dataset's schema.
    :param faults: what is wrong with it is added here.
    :return: the filter, or None for none.
    """
    if not given:
        return None
    path = "filter"
    return _all(given, columns, path, faults) if isinstance(given, list) else _one(given, columns, path, faults)


def _one(given: Mapping[str, Any], columns: pa.Schema, path: str, faults: list[str]) -> Filter:
    if "all" in given:
        return _all(given["all"], columns, f"{path}.all", faults)
    if "any" in given:
        return _join(given["any"], columns, f"{path}.any", faults, pc.or_)
    if "not" in given:
        inner = _one(given["not"], columns, f"{path}.not", faults)
        return Filter(lambda table: pc.invert(inner.mask(table)), inner.columns)
    return _condition(given, columns, path, faults)


def _all(given: Sequence[Any], columns: pa.Schema, path: str, faults: list[str]) -> Filter:
    return _join(given, columns, path, faults, pc.and_)


def _join(given: Sequence[Any], columns: pa.Schema, path: str, faults: list[str], by: Callable[..., Any]) -> Filter:
    parts = [_one(item, columns, f"{path}[{number}]", faults) for number, item in enumerate(given)]
    return Filter(
        lambda table: reduce(by, (part.mask(table) for part in parts)),
        frozenset().union(*(part.columns for part in parts)),
    )


def _condition(given: Mapping[str, Any], columns: pa.Schema, path: str, faults: list[str]) -> Filter:
    name, word = given["field"], given["op"]
    nothing = Filter(lambda _: _FALSE, frozenset())
    if name not in columns.names:
        faults.append(
            f"{path}.field: the dataset has no column {name}; it has {', '.join(columns.names)}",
        )
        return nothing
    negated, operator = word in _NEGATED, _NEGATED.get(word, word)
    before = len(faults)
    test = _test(operator, given, type_of_arrow(columns.field(name).type), path, faults)
    if len(faults) > before:
        return nothing

    def mask(table: pa.Table) -> Any:
        holds = pc.fill_null(test(table.column(name)), _FALSE)
        return pc.invert(holds) if negated else holds

    return Filter(mask, frozenset({name}))


def _is_null(column: Any) -> Any:
    return pc.is_null(column)


def _test(operator: str, given: Mapping[str, Any], kind: str, path: str, faults: list[str]) -> Callable[[Any], Any]:
    if operator == "is_null":
        if "value" in given:
            faults.append(f"{path}.value: {given['op']} takes none")
        return _is_null
    value = given.get("value")
    if kind == "json":
        faults.append(f"{path}.op: a list can only be tested by is_null and not_null")
    elif "value" not in given or value is None:
        faults.append(f"{path}.value: is missing; a test for null is the op is_null or not_null")
    elif operator == "in":
        return _is_in(value, kind, path, faults)
    elif isinstance(value, list):
        faults.append(f"{path}.value: only in and not_in take a list")
    elif operator in _TEXT:
        if kind != "string":
            faults.append(f"{path}.op: {given['op']} is for text, and {given['field']} is {kind}")
        return lambda column: _TEXT[operator](column, str(value))
    elif operator in _ORDER and kind in ("string", "boolean"):
        faults.append(f"{path}.op: {given['op']} is for numbers and moments, and {given['field']} is {kind}")
    else:
        wanted = _literal(value, kind, f"{path}.value", faults)
        compare = _ORDER.get(operator, pc.equal)
        return lambda column: compare(column, wanted)
    return _is_null


def _is_in(value: Any, kind: str, path: str, faults: list[str]) -> Callable[[Any], Any]:
    if not isinstance(value, list) or not value:
        faults.append(f"{path}.value: in and not_in take a list with at least one value")
        return _is_null
    found = [_value(item, kind, f"{path}.value[{number}]", faults) for number, item in enumerate(value)]
    if any(item is None for item in found):
        return _is_null
    values = array_of(found, ARROW[kind])
    return lambda column: pc.is_in(column.cast(ARROW[kind]), value_set=values)


def _literal(value: Any, kind: str, path: str, faults: list[str]) -> Any:
    found = _value(value, kind, path, faults)
    return array_of([found], ARROW[kind])[0]


def _value(value: Any, kind: str, path: str, faults: list[str]) -> Any:
    try:
        if kind in ("string", "boolean") and type(value) is not {"string": str, "boolean": bool}[kind]:
            # What looks alike in YAML is not the same: a filter that never holds would say nothing.
            raise ValueError(f"must be {'text in quotes' if kind == 'string' else 'true or false'}")
        return convert(value, kind)
    except ValueError as error:
        faults.append(f"{path}: {error}")
        return None
