"""The ``source`` of a field: a column of the dataset, and a path into it where it holds JSON or a list."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

_PATH = re.compile(r"(?P<column>[A-Za-z_]\w*)(?P<rest>(?:\.[^.\[\]]+|\[-?\d+\])*)")
_STEP = re.compile(r"\.(?P<key>[^.\[\]]+)|\[(?P<index>-?\d+)\]")


@dataclass(frozen=True)
class Source:
    """Where a value comes from.

    :param column: the column of the dataset.
    :param steps: keys and positions inside it; none: the column itself.
    """

    column: str
    steps: tuple[str | int, ...] = ()

    def value(self, found: Any) -> Any:
        """Follow the steps; what isn't there is null.

        :param found: the column's value.
        :raises ValueError: when it should be JSON and isn't.
        """
        if self.steps and isinstance(found, str):
            try:
                found = json.loads(found)
            except ValueError:
                raise ValueError(f"{self.column} holds no JSON") from None
        for step in self.steps:
            if isinstance(step, int):
                inside = isinstance(found, list) and -len(found) <= step < len(found)
                found = found[step] if inside else None
            else:
                found = found.get(step) if isinstance(found, dict) else None
        return found


def read_source(text: str, columns: pa.Schema, path: str, faults: list[str]) -> Source | None:
    """Read the path of a source.

    :param text: such as ``email``, ``extra_json.department.name`` or ``workspaces[0]``.
    :param columns: the dataset's schema.
    :param path: where it stands in the mapping.
    :param faults: what is wrong with it is added here.
    :return: the source, or None when it is wrong.
    """
    match = _PATH.fullmatch(text)
    if match is None:
        faults.append(f"{path}: {text!r} is no path such as email, extra_json.department or workspaces[0]")
        return None
    column = match["column"]
    if column not in columns.names:
        faults.append(f"{path}: the dataset has no column {column}; it has {', '.join(columns.names)}")
        return None
    steps = tuple(step["key"] or int(step["index"]) for step in _STEP.finditer(match["rest"]))
    if steps and not (column.endswith("_json") or pa.types.is_list(columns.field(column).type)):
        faults.append(f"{path}: the column {column} has nothing inside")
        return None
    return Source(column, steps)
