"""Applies a mapping to rows of a dataset: which are meant, what each becomes, and what is wrong with it.

Columns that are taken as they are stay in Arrow; the others pass through Python, value by value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_aha.common.arrow import array_of, values_of
from airflow_provider_aha.push.mapping.spec import Field, MappingSpec, looked_up
from airflow_provider_aha.push.mapping.types import ARROW, convert, type_of_arrow


@dataclass(frozen=True)
class Fault:
    """What is wrong with a row.

    :param field: the field of the target.
    :param reason: why; it may quote the value.
    """

    field: str
    reason: str


@dataclass
class Mapped:
    """Rows of a dataset, mapped.

    :param table: one column per field; rows that aren't meant or are wrong hold null or what there is.
    :param user_ids: whom each row is about.
    :param meant: whether each row passed the filter; None: all did.
    :param faults: what is wrong, by the row's position.
    """

    table: pa.Table
    user_ids: list[str]
    meant: list[bool] | None
    faults: dict[int, list[Fault]] = field(default_factory=dict)


def map_rows(spec: MappingSpec, rows: pa.Table) -> Mapped:
    """Map rows.

    :param spec: the mapping.
    :param rows: rows of its dataset, with its :attr:`~airflow_provider_aha.push.mapping.spec.MappingSpec.columns`.
    """
    meant = None if spec.filter is None else spec.filter.mask(rows).to_pylist()
    mapped = Mapped(pa.table({}), rows.column(spec.user_id).to_pylist(), meant)
    columns = [_column(one, rows, mapped) for one in spec.fields]
    mapped.table = pa.Table.from_arrays(columns, schema=spec.schema)
    return mapped


def _column(one: Field, rows: pa.Table, mapped: Mapped) -> Any:
    if one.source is None:
        return array_of([one.constant] * rows.num_rows, ARROW[one.type])
    column = rows.column(one.source.column)
    as_it_is = _is_taken_as_it_is(one, column.type)
    result = column if as_it_is else _converted(one, values_of(column), mapped)
    if one.required and result.null_count:
        for row in pc.indices_nonzero(pc.is_null(result)).to_pylist():
            if all(fault.field != one.name for fault in mapped.faults.get(row, ())):
                _fault(mapped, row, one.name, "is null, and the field is required")
    return result


def _is_taken_as_it_is(one: Field, kind: pa.DataType) -> bool:
    plain = one.source is not None and not one.source.steps and not one.steps
    same = one.type == type_of_arrow(kind) and kind == ARROW[one.type]
    return plain and same and one.table is None and one.default is None


def _converted(one: Field, values: Sequence[Any], mapped: Mapped) -> Any:
    work = _work(one)
    meant = mapped.meant
    result: list[Any] = []
    for row, value in enumerate(values):
        if meant is not None and not meant[row]:
            result.append(None)
            continue
        try:
            result.append(work(value))
        except Exception as error:  # noqa: BLE001 - a transform of somebody's own may raise anything
            result.append(None)
            _fault(mapped, row, one.name, str(error) if isinstance(error, ValueError) else _unforeseen(error))
    return array_of(result, ARROW[one.type])


def _work(one: Field) -> Callable[[Any], Any]:
    """Return what turns a value of the source into the value of the field."""
    source, steps, table, default, kind = one.source, one.steps, one.table, one.default, one.type
    inside = source.value if source and source.steps else None

    def work(value: Any) -> Any:
        if inside is not None:
            value = inside(value)
        for step in steps:
            if value is None:
                return default
            value = step.transform.function(value, *step.arguments)
            if value is None and not step.transform.may_return_null:
                raise ValueError(f"the transform {step.name} returned nothing")
        if value is None:
            return default
        if table is not None:
            found = looked_up(table, value, default)
            return default if found is None else found
        return convert(value, kind)

    return work


def _unforeseen(error: Exception) -> str:
    return f"a transform failed with {type(error).__name__}: {error}"


def _fault(mapped: Mapped, row: int, name: str, reason: str) -> None:
    if mapped.meant is None or mapped.meant[row]:
        mapped.faults.setdefault(row, []).append(Fault(name, reason))
