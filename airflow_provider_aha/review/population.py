"""The population of a review: one row per person and role in a workspace, administrator right, or bare account."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_aha.common.arrow import json_array
from airflow_provider_aha.datasets.snapshot import Snapshot
from airflow_provider_aha.review.people import RIGHTS, Person
from airflow_provider_aha.store.store import storage_errors

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
_NO_ROLE, _ANY_RIGHT = "No role", "Administrator"
_COLUMNS = ("role_kind", "workspace_id", "workspace_name", "role_id", "role_name", "role_rank")
# So many rows are made a part of the file at a time.
_BATCH = 8192


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


class Role(NamedTuple):
    """A role that grants something.

    :param place: the place of its user among the people.
    :param kind: ``workspace`` or ``custom``.
    :param workspace_id: where.
    :param workspace_name: its name.
    :param role_id: the role's id.
    :param role_name: the role's name.
    :param role_rank: Aha!'s number of the role.
    """

    place: int
    kind: str
    workspace_id: str | None
    workspace_name: str | None
    role_id: str | None
    role_name: str | None
    role_rank: int | None


def read_roles(snapshot: Snapshot) -> Iterator[tuple[Any, ...]]:
    """Yield the roles of a snapshot that grant something, for :meth:`...staged.Staged.add_roles`.

    :param snapshot: the snapshot.
    :return: tuples of the user's id, what a :class:`Role` has after its place, and whether it owns the workspace.
    """
    names = ("user_id", *_COLUMNS, "role")
    for batch in snapshot.role_batches(names):
        for *facts, role in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
            # `none` is no access, and no row.
            if role != "none":
                yield (*facts, role == "product_owner")


def population(people: Iterable[Person], roles: Iterator[Role]) -> Iterator[Access]:
    """Yield the rows, ordered as the people are.

    :param people: the people.
    :param roles: their roles, in the same order.
    """
    following = next(roles, None)
    for place, person in enumerate(people, start=1):
        yield from (
            Access(person, f"u{person.user_id}.{name}", RIGHT, None, None, name, RIGHTS.get(name, _ANY_RIGHT), None)
            for name in person.rights
        )
        bare = not person.rights
        while following is not None and following.place == place:
            bare = False
            yield _role(person, following)
            following = next(roles, None)
        if bare:
            yield Access(person, f"u{person.user_id}.account", ACCOUNT, None, None, None, _NO_ROLE, None)


def _role(person: Person, role: Role) -> Access:
    _, kind, workspace_id, workspace, role_id, name, rank = role
    key = f"u{person.user_id}.{kind[0]}{workspace_id or ''}.r{role_id or ''}"
    return Access(person, key, kind, workspace_id, workspace or workspace_id, role_id, name or role_id or "", rank)


def write_population(rows: Iterable[Access], path: Path) -> int:
    """Write a population as it is frozen in a review.

    :param rows: the rows.
    :param path: a local file.
    :return: how many rows there are.
    """
    count, rest = 0, iter(rows)
    with storage_errors(str(path)), pq.ParquetWriter(path, POPULATION, compression="zstd") as writer:
        while batch := list(islice(rest, _BATCH)):
            writer.write_table(_table(batch))
            count += len(batch)
    return count


def _table(rows: Sequence[Access]) -> pa.Table:
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
    columns = [json_array(values[field.name], field.type) for field in POPULATION]
    return pa.Table.from_arrays(columns, schema=POPULATION)
