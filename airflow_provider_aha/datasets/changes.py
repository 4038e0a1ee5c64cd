"""What changed between two snapshots of an account: the rows of ``user_changes``.

Both snapshots are sorted by user id, so they are compared in windows of ids, and memory stays flat. As in
:mod:`airflow_provider_aha.datasets.users`, nothing here may load pandas.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airflow_provider_aha.common.arrow import literal, number_rows
from airflow_provider_aha.datasets import schemas

_STRING = pa.string()
# An unknown flag (null) is no change: "not sent" must not look like "taken away".
_FLAGS = {
    "is_enabled": ("enabled", "disabled"),
    "is_administrator": ("admin_granted", "admin_revoked"),
    "administers_account": ("admin_granted", "admin_revoked"),
    "administers_billing": ("admin_granted", "admin_revoked"),
    "administers_configuration": ("admin_granted", "admin_revoked"),
    "occupies_seat": ("seat_taken", "seat_freed"),
}
# Said of users who came or went too, so that a count of seats or administrators adds up.
_FLAGS_OF_NEWCOMERS = {name: words for name, words in _FLAGS.items() if name != "is_enabled"}
_UPDATED = (
    "name",
    "email",
    "timezone",
    "is_paid_seat",
    "has_roadmaps_seat",
    "has_develop_seat",
    "paid_seat_group_id",
    "paid_seat_group_name",
    "identity_provider_type",
    "identity_provider_name",
)
_NULLABLE = frozenset(
    ("paid_seat_group_id", "paid_seat_group_name", "identity_provider_type", "identity_provider_name")
)
_USER_COLUMNS = ["id", *dict.fromkeys((*_UPDATED, *_FLAGS)), "workspace_count"]
_ROLE_COLUMNS = ["user_id", "user_email", "role_kind", "workspace_id", "role_id", "role", "role_name"]
_ADDED, _REMOVED, _CHANGED, _UPDATED_WORD = (
    literal(word, _STRING) for word in ("role_added", "role_removed", "role_changed", "updated")
)
_SLASH, _NULL_TEXT = literal("/", _STRING), literal(None, _STRING)
_WORKSPACE = literal("workspace", _STRING)
_FALSE = literal(False, pa.bool_())


@dataclass(frozen=True)
class Side:
    """One of the two snapshots.

    :param users: its ``users`` file.
    :param roles: its ``user_roles`` file.
    """

    users: pq.ParquetFile
    roles: pq.ParquetFile


def changes(previous: Side, current: Side, *, subdomain: str) -> Iterator[pa.Table]:
    """Compare two snapshots.

    :param previous: the older one.
    :param current: the newer one.
    :param subdomain: the account of both.
    :return: tables of ``user_changes`` rows, ordered by user.
    """
    origin = {
        "previous_synced_at": _synced_at(previous.users),
        "synced_at": _synced_at(current.users),
        "subdomain": literal(subdomain, _STRING),
    }
    users = [Forward(side.users, "id", _USER_COLUMNS) for side in (previous, current)]
    roles = [Forward(side.roles, "user_id", _ROLE_COLUMNS) for side in (previous, current)]
    for until in _boundaries(previous.users, current.users):
        before, after = (side.take(until) for side in users)
        unknown = _with_unknown_roles(before, after)
        parts = [
            *_user_changes(before, after),
            *_role_changes(*(_except(unknown, side.take(until)) for side in roles)),
        ]
        rows = pa.concat_tables(parts)
        if rows.num_rows:
            yield _with_origin(rows, origin)


class Forward:
    """Reads a file that is sorted by user forward, up to one id after the other.

    :param file: the file.
    :param key: its column of user ids.
    :param columns: what to read, the key included.
    """

    def __init__(self, file: pq.ParquetFile, key: str, columns: list[str]) -> None:
        self._file, self._key, self._columns = file, key, columns
        self._groups = iter(range(file.num_row_groups))
        self._kept = pa.Table.from_batches([], file.schema_arrow).select(columns)

    def take(self, until: Any) -> pa.Table:
        """Return the next rows.

        :param until: up to which id, as :func:`padded`; None stands for all that are left.
        """
        parts = [self._kept]
        while self._may_follow(parts[-1], until) and (group := next(self._groups, None)) is not None:
            parts.append(self._file.read_row_group(group, columns=self._columns))
        table = pa.concat_tables(parts).combine_chunks()
        count = table.num_rows
        if until is not None:
            count = pc.sum(pc.less_equal(padded(table.column(self._key)), until)).as_py() or 0
        self._kept = table.slice(count)
        return table.slice(0, count)

    def _may_follow(self, table: pa.Table, until: Any) -> bool:
        if until is None or not table.num_rows:
            return True
        last = padded(table.column(self._key).slice(table.num_rows - 1))[0]
        return bool(pc.less_equal(last, until).as_py())


def _boundaries(*sides: pq.ParquetFile) -> Iterator[Any]:
    """Return ids between which neither side has more than a row group of users; None at the end."""
    ends = set()
    for users in sides:
        for group in range(users.num_row_groups):
            ids = users.read_row_group(group, columns=["id"]).column("id")
            ends.update(padded(ids.slice(max(len(ids) - 1, 0))).to_pylist())
    yield from (literal(end, _STRING) for end in sorted(ends)[:-1])
    yield None


def padded(ids: Any) -> Any:
    """Return ids so that their text sorts as their numbers do.

    :param ids: a column of ids.
    """
    # Ids are numbers too long for a float; zeros in front make their text sort as the numbers do.
    return pc.utf8_lpad(ids, 20, "0")


def _synced_at(users: pq.ParquetFile) -> Any:
    return users.read_row_group(0, columns=["synced_at"]).column("synced_at")[0]


def _user_changes(before: pa.Table, after: pa.Table) -> Iterator[pa.Table]:
    places = pc.index_in(after.column("id"), value_set=before.column("id"))
    stayed = after.filter(pc.is_valid(places))
    were = before.take(places.filter(pc.is_valid(places)))
    came = after.filter(pc.is_null(places))
    went = before.filter(pc.is_null(pc.index_in(before.column("id"), value_set=after.column("id"))))
    yield _rows(came, pa.repeat(literal("added", _STRING), came.num_rows), None, None, None)
    yield _rows(went, pa.repeat(literal("removed", _STRING), went.num_rows), None, None, None)
    for name, words in _FLAGS.items():
        yield _flag_changes(stayed, name, were.column(name), stayed.column(name), words)
    for name, words in _FLAGS_OF_NEWCOMERS.items():
        yield _flag_changes(came, name, _none_of(came), came.column(name), words)
        yield _flag_changes(went, name, went.column(name), _none_of(went), words)
    for name in _UPDATED:
        yield _updates(stayed, name, were.column(name), stayed.column(name))


def _none_of(users: pa.Table) -> Any:
    return pa.chunked_array([pa.repeat(_FALSE, users.num_rows)])


def _flag_changes(users: pa.Table, name: str, before: Any, after: Any, words: tuple[str, str]) -> pa.Table:
    differs = pc.fill_null(pc.not_equal(before, after), _FALSE)
    now = after.filter(differs)
    change = pc.if_else(now, literal(words[0], _STRING), literal(words[1], _STRING))
    return _rows(users.filter(differs), change, name, before.filter(differs), now)


def _updates(users: pa.Table, name: str, before: Any, after: Any) -> pa.Table:
    differs = pc.not_equal(before, after)
    if name in _NULLABLE:
        differs = pc.coalesce(differs, pc.xor(pc.is_null(before), pc.is_null(after)))
    differs = pc.fill_null(differs, _FALSE)
    found = users.filter(differs)
    change = pa.repeat(_UPDATED_WORD, found.num_rows)
    return _rows(found, change, name, before.filter(differs), after.filter(differs))


def _rows(users: pa.Table, change: Any, field: str | None, before: Any, after: Any) -> pa.Table:
    count = users.num_rows
    nothing = pa.repeat(_NULL_TEXT, count)
    return pa.Table.from_arrays(
        [
            change,
            users.column("id"),
            users.column("email"),
            pa.repeat(literal(field, _STRING), count),
            nothing if before is None else before.cast(_STRING),
            nothing if after is None else after.cast(_STRING),
        ],
        names=schemas.USER_CHANGES.names[:6],
    )


def _with_unknown_roles(*sides: pa.Table) -> Any:
    """Return the ids of users whose roles Aha! did not send: no roles is not what they have."""
    unknown = [side.select(["id"]).filter(pc.is_null(side.column("workspace_count"))) for side in sides]
    return pa.concat_tables(unknown).column("id")


def _except(users: Any, roles: pa.Table) -> pa.Table:
    if not len(users):
        return roles
    return roles.filter(pc.is_null(pc.index_in(roles.column("user_id"), value_set=users)))


def _role_changes(before: pa.Table, after: pa.Table) -> Iterator[pa.Table]:
    key = ("user_id", "role_kind", "workspace_id", "role_id")
    gained, lost = _without(after, before, key), _without(before, after, key)
    place = ("user_id", "role_kind", "workspace_id")
    # Custom roles add up in a workspace; of Aha!'s own a user has one, so losing and gaining is a change.
    was = pc.index_in(_joined(gained, place), value_set=_joined(lost, place))
    was = pc.if_else(pc.equal(gained.column("role_kind"), _WORKSPACE), was, literal(None, pa.int32()))
    changed, old = gained.filter(pc.is_valid(was)), lost.take(was.filter(pc.is_valid(was)))
    yield _role_rows(changed, _CHANGED, _role_text(old), _role_text(changed))
    gained = gained.filter(pc.is_null(was))
    yield _role_rows(gained, _ADDED, None, _role_text(gained))
    lost = lost.filter(pc.is_null(pc.index_in(number_rows(lost.num_rows), value_set=was)))
    yield _role_rows(lost, _REMOVED, _role_text(lost), None)


def _without(rows: pa.Table, others: pa.Table, key: tuple[str, ...]) -> pa.Table:
    return rows.filter(pc.is_null(pc.index_in(_joined(rows, key), value_set=_joined(others, key))))


def _joined(rows: pa.Table, key: tuple[str, ...]) -> Any:
    columns = [rows.column(name) for name in key]
    return pc.binary_join_element_wise(*columns, _SLASH, null_handling="replace", null_replacement="")


def _role_text(roles: pa.Table) -> Any:
    return pc.coalesce(*(roles.column(name) for name in ("role", "role_name", "role_id")))


def _role_rows(roles: pa.Table, change: Any, before: Any, after: Any) -> pa.Table:
    users = roles.select(["user_id", "user_email"]).rename_columns(["id", "email"])
    rows = _rows(users, pa.repeat(change, roles.num_rows), None, before, after)
    return rows.set_column(3, "field", _joined(roles, ("role_kind", "workspace_id")))


def _with_origin(rows: pa.Table, origin: dict[str, Any]) -> pa.Table:
    rows = rows.combine_chunks()
    rows = rows.take(pc.array_sort_indices(padded(rows.column("user_id").combine_chunks())))
    for name, value in origin.items():
        rows = rows.append_column(name, pa.repeat(value, rows.num_rows))
    return rows.cast(schemas.USER_CHANGES)
