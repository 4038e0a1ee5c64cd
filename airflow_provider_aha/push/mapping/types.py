"""The types of mapped fields, and how a value becomes one of a type."""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from airflow_provider_aha.datasets.schemas import TIMESTAMP
from airflow_provider_aha.push.mapping.transforms import (
    quoted,
    to_boolean,
    to_date,
    to_float,
    to_integer,
    to_string,
    to_timestamp,
)

TYPES = ("string", "integer", "number", "boolean", "date", "timestamp", "json")
# JSON is kept as its text.
ARROW: dict[str, pa.DataType] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": TIMESTAMP,
    "json": pa.string(),
}


def _to_unicode(value: object) -> str:
    text = to_string(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{quoted(value)} has half a character in it") from None
    return text


def _to_json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False, default=to_string)
    except (TypeError, ValueError):
        raise ValueError(f"{quoted(value)} can't be JSON") from None


_CONVERT = {
    "string": _to_unicode,
    "integer": to_integer,
    "number": to_float,
    "boolean": to_boolean,
    "date": to_date,
    "timestamp": to_timestamp,
    "json": _to_json,
}


def convert(value: object, kind: str) -> Any:
    """Make a value one of a type.

    :param value: a value that isn't null.
    :param kind: one of :data:`TYPES`.
    :raises ValueError: when it can't be one; the text is the reason.
    """
    return _CONVERT[kind](value)


def type_of_arrow(kind: pa.DataType) -> str:
    """Return the type of a dataset's column.

    :param kind: its Arrow type.
    """
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_timestamp(kind):
        return "timestamp"
    return "json" if pa.types.is_list(kind) else "string"


def type_of_value(value: object) -> str:
    """Return the type of a constant.

    :param value: what JSON or YAML can hold.
    """
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, datetime):
        return "timestamp"
    if isinstance(value, date):
        return "date"
    return "json" if isinstance(value, (list, dict)) else "string"
