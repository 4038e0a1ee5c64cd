"""The population of a review: one row per person and role in a workspace, administrator right, or bare account."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airflow_provider_aha.normalize import array_of, literal
from airflow_provider_aha.report.people import RIGHTS, Person
from airflow_provider_aha.report.snapshot import Snapshot

POPULATION = pa.schema(
    [
        pa.field("row_key", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("user_name", pa.string()),
        pa.field("user_email", pa.string()),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("workspace_id", pa.string()),
        pa.field("workspace_name", pa.string()),
        pa.field("role_id", pa.string()),
        pa.field("role_name", pa.string()),
        pa.field("role_rank", pa.int32()),
        pa.field("suggestion", pa.string(), nullable=False),
        pa.field("why", pa.string(), nullable=False),
    ]
)
WORKSPACE, CUSTOM, RIGHT, ACCOUNT = "workspace", "custom", "right", "account"
_TEXT = pa.string()
_EMPTY = literal("", _TEXT)
_NO_ROLE, _ANY_RIGHT = "No role", "Administrator"
_ORDER = ("place", "name", "rank")
_COLUMNS = ("role_kind", "workspace_id", "workspace_name", "role_id", "role_name", "role_rank")


@dataclass(slots=True)
class Access:
    """A row of the population.

    :param person: whose.
    :param key: names the row in every copy of it; letters in it keep spreadsheets from taking it for a number.
    :param kind: ``workspace``, ``custom``, ``right`` or ``account``.
    :param workspace_id: where; None outside of workspaces.
    :param workspace_name: its name.
    :param role_id: the role's id, or the name of the right.
    :param role_name: the role's name.
    :param role_rank: Aha!'s number of the role; of 20 to 50, the smaller may do more.
    """

    person: Person
    key: str
    kind: str
    workspace_id: str | None
    workspace_name: str | None
    role_id: str | None
    role_name: str
    role_rank: int | None


def population(people: Sequence[Person], snapshot: Snapshot) -> Iterator[Access]:
    """Yield the rows, ordered as the people are.

    A role that grants nothing (``none``) is no access, and no row.

    :param people: the people.
    :param snapshot: the snapshot with their roles.
    """
    place = {person.user_id: number for number, person in enumerate(people)}
    roles = snapshot.roles
    granted = pc.not_equal(pc.fill_null(roles.column("role"), _EMPTY), literal("none", pa.string()))
    roles = roles.filter(
        pc.and_(granted, pc.is_in(roles.column("user_id"), value_set=array_of(list(place), _TEXT)))
    )
    numbers = array_of([place[user_id] for user_id in roles.column("user_id").to_pylist()], pa.int64())
    order = pc.sort_indices(
        pa.Table.from_arrays(
            [pa.chunked_array([numbers]), roles.column("workspace_name"), roles.column("role_rank")], names=_ORDER
        ),
        sort_keys=[(name, "ascending") for name in _ORDER],
    )
    columns = [roles.column(name).take(order).to_pylist() for name in _COLUMNS]
    found = zip(numbers.take(order).to_pylist(), *columns, strict=True)
    following = next(found, None)
    for number, person in enumerate(people):
        yield from (
            Access(person, f"u{person.user_id}.{name}", RIGHT, None, None, name, RIGHTS.get(name, _ANY_RIGHT), None)
            for name in person.rights
        )
        bare = not person.rights
        while following is not None and following[0] == number:
            bare = False
            yield _role(person, *following[1:])
            following = next(found, None)
        if bare:
            yield Access(person, f"u{person.user_id}.account", ACCOUNT, None, None, None, _NO_ROLE, None)


def _role(
    person: Person, kind: str, workspace_id: str, workspace: str, role_id: str, name: str, rank: int
) -> Access:
    key = f"u{person.user_id}.{kind[0]}{workspace_id or ''}.r{role_id or ''}"
    return Access(person, key, kind, workspace_id, workspace or workspace_id, role_id, name or role_id or "", rank)


def to_parquet(rows: Sequence[Access]) -> bytes:
    """Encode a population as it is frozen in a review.

    :param rows: the rows.
    """
    values: Mapping[str, Sequence[Any]] = {
        "row_key": [row.key for row in rows],
        "user_id": [row.person.user_id for row in rows],
        "user_name": [row.person.name for row in rows],
        "user_email": [row.person.email for row in rows],
        "suggestion": [row.person.suggestion for row in rows],
        "why": [row.person.why for row in rows],
        **{
            name: [getattr(row, name) for row in rows]
            for name in ("kind", "workspace_id", "workspace_name", "role_id", "role_name", "role_rank")
        },
    }
    columns = [array_of(values[field.name], field.type) for field in POPULATION]
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, POPULATION, compression="zstd") as writer:
        writer.write_table(pa.Table.from_arrays(columns, schema=POPULATION))
    return buffer.getvalue()
