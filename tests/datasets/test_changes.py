"""What changed between two snapshots, in windows of ids, is what a comparison record by record finds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_aha.datasets import changes as changes_module
from airflow_provider_aha.datasets import schemas
from airflow_provider_aha.datasets.changes import Side, changes

BEFORE, AFTER = datetime(2026, 8, 31, 6, tzinfo=UTC), datetime(2026, 9, 1, 6, tzinfo=UTC)
ORIGIN = {"previous_synced_at": BEFORE, "synced_at": AFTER, "subdomain": "mycompany"}
WORDS = {
    "is_enabled": ("enabled", "disabled"),
    "is_administrator": ("admin_granted", "admin_revoked"),
    "administers_account": ("admin_granted", "admin_revoked"),
    "administers_billing": ("admin_granted", "admin_revoked"),
    "administers_configuration": ("admin_granted", "admin_revoked"),
    "occupies_seat": ("seat_taken", "seat_freed"),
}
PLAIN = ("name", "email", "timezone", "is_paid_seat", "has_roadmaps_seat", "has_develop_seat")
NULLABLE = (
    "paid_seat_group_id",
    "paid_seat_group_name",
    "identity_provider_type",
    "identity_provider_name",
)
Json = dict[str, Any]


def user(user_id: str = "100", /, **fields: Any) -> Json:
    return {
        "id": user_id,
        "name": "Ada",
        "email": "ada@example.com",
        "timezone": "Europe/London",
        "is_enabled": True,
        "is_paid_seat": True,
        "is_administrator": False,
        "administers_account": False,
        "administers_billing": False,
        "administers_configuration": False,
        "has_roadmaps_seat": True,
        "has_develop_seat": False,
        "paid_seat_group_id": None,
        "paid_seat_group_name": None,
        "identity_provider_type": "password",
        "identity_provider_name": None,
        "workspace_count": 0,
        "occupies_seat": True,
    } | fields


def role(user_id: str = "100", workspace: str | None = "1", role_id: str | None = "20", **fields: Any) -> Json:
    names = {"20": "product_owner", "50": "viewer"}
    return {
        "user_id": user_id,
        "user_email": "ada@example.com",
        "role_kind": "workspace",
        "workspace_id": workspace,
        "role_id": role_id,
        "role": names.get(role_id or ""),
        "role_name": "A role",
    } | fields


def write(path: Path, rows: list[Json], schema: pa.Schema, synced_at: datetime, size: int) -> Path:
    origin = {"subdomain": "mycompany", "connection_id": "aha", "synced_at": synced_at}
    whole = [{name: (row | origin).get(name) for name in schema.names} for row in rows]
    pq.write_table(pa.Table.from_pylist(whole, schema=schema), path, row_group_size=size)
    return path


class Snapshots:
    """Two snapshots on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def side(self, stack: ExitStack, name: str, users: list[Json], roles: list[Json], size: int) -> Side:
        moment = BEFORE if name == "before" else AFTER
        parts = {"users": (users, schemas.USERS), "user_roles": (roles, schemas.USER_ROLES)}
        files = [
            stack.enter_context(pq.ParquetFile(write(self.folder / f"{name}-{part}", rows, schema, moment, size)))
            for part, (rows, schema) in parts.items()
        ]
        return Side(*files)

    def tables(
        self, before: tuple[list[Json], list[Json]], after: tuple[list[Json], list[Json]], sizes: tuple[int, int]
    ) -> list[pa.Table]:
        with ExitStack() as stack:
            previous = self.side(stack, "before", *before, sizes[0])
            current = self.side(stack, "after", *after, sizes[1])
            return list(changes(previous, current, subdomain="mycompany"))


@pytest.fixture(scope="session")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> Snapshots:
    return Snapshots(tmp_path_factory.mktemp("changes"))


def compare(
    snapshots: Snapshots,
    before: list[Json],
    after: list[Json],
    roles_before: list[Json] | None = None,
    roles_after: list[Json] | None = None,
) -> list[tuple[Any, ...]]:
    tables = snapshots.tables((before, roles_before or []), (after, roles_after or []), (100, 100))
    rows = [row for table in tables for row in table.to_pylist()]
    return [(row["change"], row["user_id"], row["field"], row["before"], row["after"]) for row in rows]


# --- each kind ------------------------------------------------------------------------------------


def test_equal_snapshots_have_no_changes(snapshots: Snapshots):
    assert compare(snapshots, [user()], [user()], [role()], [role()]) == []


def test_a_user_who_came_is_added_with_seat_and_rights(snapshots: Snapshots):
    newcomer = user("200", is_administrator=True, administers_billing=True)
    assert compare(snapshots, [user()], [user(), newcomer], [], [role("200")]) == [
        ("added", "200", None, None, None),
        ("admin_granted", "200", "is_administrator", "false", "true"),
        ("admin_granted", "200", "administers_billing", "false", "true"),
        ("seat_taken", "200", "occupies_seat", "false", "true"),
        ("role_added", "200", "workspace/1", None, "product_owner"),
    ]


def test_a_user_who_went_is_removed_with_seat_and_rights(snapshots: Snapshots):
    gone = user("200", administers_account=True)
    assert compare(snapshots, [user(), gone], [user()], [role("200")], []) == [
        ("removed", "200", None, None, None),
        ("admin_revoked", "200", "administers_account", "true", "false"),
        ("seat_freed", "200", "occupies_seat", "true", "false"),
        ("role_removed", "200", "workspace/1", "product_owner", None),
    ]


@pytest.mark.parametrize(("column", "words"), WORDS.items())
def test_a_flag_that_flips_has_a_word_of_its_own(snapshots: Snapshots, column: str, words: tuple[str, str]):
    off, on = user(**{column: False}), user(**{column: True})
    assert compare(snapshots, [off], [on]) == [(words[0], "100", column, "false", "true")]
    assert compare(snapshots, [on], [off]) == [(words[1], "100", column, "true", "false")]


@pytest.mark.parametrize("column", WORDS)
@pytest.mark.parametrize("value", [True, False])
def test_an_unknown_flag_is_no_change(snapshots: Snapshots, column: str, value: bool):
    known, unknown = user(**{column: value}), user(**{column: None})
    assert compare(snapshots, [known], [unknown]) == []
    assert compare(snapshots, [unknown], [known]) == []


@pytest.mark.parametrize("column", PLAIN)
def test_an_updated_field_says_before_and_after_and_an_unknown_one_says_nothing(snapshots: Snapshots, column: str):
    values = (True, False) if column.startswith(("is_", "has_")) else ("Zoë", "Ada")
    one, other = (user(**{column: value}) for value in values)
    texts = ("true", "false") if values[0] is True else values
    assert compare(snapshots, [one], [other]) == [("updated", "100", column, *texts)]
    for known in (one, other):
        assert compare(snapshots, [known], [user() | {column: None}]) == []
        assert compare(snapshots, [user() | {column: None}], [known]) == []


@pytest.mark.parametrize("column", NULLABLE)
def test_a_group_or_provider_that_comes_or_goes_is_an_update(snapshots: Snapshots, column: str):
    one, none = user() | {column: "x"}, user() | {column: None}
    assert compare(snapshots, [one], [none]) == [("updated", "100", column, "x", None)]
    assert compare(snapshots, [none], [one]) == [("updated", "100", column, None, "x")]


def test_another_role_in_the_same_workspace_is_a_change(snapshots: Snapshots):
    assert compare(snapshots, [user()], [user()], [role()], [role(role_id="50")]) == [
        ("role_changed", "100", "workspace/1", "product_owner", "viewer")
    ]


def test_the_same_role_in_another_workspace_is_a_loss_and_a_gain(snapshots: Snapshots):
    assert sorted(compare(snapshots, [user()], [user()], [role()], [role(workspace="2")])) == [
        ("role_added", "100", "workspace/2", None, "product_owner"),
        ("role_removed", "100", "workspace/1", "product_owner", None),
    ]


def test_custom_roles_come_and_go_one_by_one(snapshots: Snapshots):
    one, other = (role(role_id=role_id, role_kind="custom", role=None, role_name=None) for role_id in "78")
    assert sorted(compare(snapshots, [user()], [user()], [one], [other])) == [
        ("role_added", "100", "custom/1", None, "8"),
        ("role_removed", "100", "custom/1", "7", None),
    ]


def test_a_second_role_in_a_workspace_that_is_lost_too_is_reported(snapshots: Snapshots):
    before = [role(role_id="20"), role(role_id="50")]
    assert compare(snapshots, [user()], [user()], before, [role(role_id="40")]) == [
        ("role_changed", "100", "workspace/1", "product_owner", "A role"),
        ("role_removed", "100", "workspace/1", "viewer", None),
    ]


@pytest.mark.parametrize("sides", [(None, 1), (1, None), (None, None)])
def test_roles_that_were_not_sent_are_no_change(snapshots: Snapshots, sides: tuple[int | None, int | None]):
    users = [[user("100", workspace_count=count), user("200")] for count in sides]
    roles = [role("100")] if sides[0] else [], [role("100")] if sides[1] else [role("200")]
    found = compare(snapshots, users[0], users[1], *roles)
    assert {row[1] for row in found} <= {"200"}


def test_the_row_carries_the_newer_email_and_both_moments(snapshots: Snapshots):
    after = user(email="new@example.com", is_enabled=False)
    (table,) = snapshots.tables(([user()], []), ([after], []), (1, 1))
    assert table.schema == schemas.USER_CHANGES
    rows = table.to_pylist()
    assert [row["user_email"] for row in rows] == ["new@example.com"] * 2
    assert all(row | ORIGIN == row for row in rows)


# --- against a comparison record by record --------------------------------------------------------


def expected_changes(
    before: tuple[list[Json], list[Json]], after: tuple[list[Json], list[Json]]
) -> Iterator[tuple[Any, ...]]:
    users = [{row["id"]: row for row in side[0]} for side in (before, after)]
    roles = [by_user(side[1]) for side in (before, after)]
    for user_id in users[0].keys() | users[1].keys():
        was, now = (side.get(user_id) for side in users)
        email = (now or was or {})["email"]
        for row in user_changes(was, now):
            yield row[0], user_id, email, *row[1:]
        if any(row and row["workspace_count"] is None for row in (was, now)):
            continue
        for row in role_changes(roles[0][user_id], roles[1][user_id]):
            yield row[0], user_id, *row[1:]


def by_user(roles: list[Json]) -> dict[str, list[Json]]:
    found = defaultdict(list)
    for row in roles:
        found[row["user_id"]].append(row)
    return found


def spell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def user_changes(was: Json | None, now: Json | None) -> Iterator[tuple[Any, ...]]:
    if was is None or now is None:
        yield "added" if was is None else "removed", None, None, None
    for column, words in WORDS.items():
        values = [False if row is None else row[column] for row in (was, now)]
        comparable = None not in values and (column != "is_enabled" or (was and now))
        if comparable and values[0] != values[1]:
            yield words[not values[1]], column, *map(spell, values)
    for column in (*PLAIN, *NULLABLE):
        if was is None or now is None or was[column] == now[column]:
            continue
        if column in NULLABLE or None not in (was[column], now[column]):
            yield "updated", column, spell(was[column]), spell(now[column])


def role_changes(was: list[Json], now: list[Json]) -> Iterator[tuple[Any, ...]]:
    def key(row: Json) -> tuple[Any, ...]:
        return row["role_kind"], row["workspace_id"] or "", row["role_id"] or ""

    def name(row: Json) -> Any:
        return row["role"] or row["role_name"] or row["role_id"]

    lost = [row for row in was if key(row) not in set(map(key, now))]
    replaced = []
    for row in now:
        if key(row) in set(map(key, was)):
            continue
        place = f"{row['role_kind']}/{row['workspace_id'] or ''}"
        same_place = [old for old in lost if key(old)[:2] == key(row)[:2] and row["role_kind"] == "workspace"]
        if same_place:
            replaced.append(same_place[0])
            yield "role_changed", row["user_email"], place, name(same_place[0]), name(row)
        else:
            yield "role_added", row["user_email"], place, None, name(row)
    for row in lost:
        if row not in replaced:
            yield (
                "role_removed",
                row["user_email"],
                f"{row['role_kind']}/{row['workspace_id'] or ''}",
                name(row),
                None,
            )


maybe = st.sampled_from((True, False, None))
words = st.sampled_from(("a", "b", None))
ids = st.one_of(st.integers(1, 30), st.integers(10**18, 10**18 + 9), st.integers(95, 105)).map(str)


@st.composite
def sides(draw: Any) -> tuple[list[Json], list[Json]]:
    users, roles = [], []
    for user_id in sorted(draw(st.sets(ids, max_size=12)), key=int):
        flags = {column: draw(maybe) for column in draw(st.sets(st.sampled_from(tuple(WORDS)), max_size=3))}
        texts = {column: draw(words) for column in draw(st.sets(st.sampled_from(("email", *NULLABLE)), max_size=2))}
        users.append(user(user_id, workspace_count=draw(st.sampled_from((0, 0, 0, None)))) | flags | texts)
        keys = st.tuples(st.sampled_from(("workspace", "custom")), st.sampled_from(("1", "2", None)),
                         st.sampled_from(("20", "50", "7", None)))  # fmt: skip
        for kind, workspace, role_id in sorted(draw(st.sets(keys, max_size=4)), key=str):
            roles.append(role(user_id, workspace, role_id, role_kind=kind, user_email=users[-1]["email"]))
    return users or [user("500")], roles


@given(sides(), sides(), st.tuples(st.integers(1, 5), st.integers(1, 5)))
@settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
def test_any_two_snapshots_compare_as_record_by_record(
    snapshots: Snapshots,
    before: tuple[list[Json], list[Json]],
    after: tuple[list[Json], list[Json]],
    sizes: tuple[int, int],
):
    tables = snapshots.tables(before, after, sizes)
    rows = [tuple(row.values()) for table in tables for row in table.select(range(6)).to_pylist()]
    assert sorted(rows, key=str) == sorted(expected_changes(before, after), key=str)
    assert all(int(one[1]) <= int(other[1]) for one, other in pairwise(rows))


@pytest.mark.parametrize("counts", [(600, 600), (600, 20), (20, 600)])
def test_no_more_than_a_row_group_of_each_side_is_held_at_once(
    snapshots: Snapshots, counts: tuple[int, int], monkeypatch: pytest.MonkeyPatch
):
    held = []
    take = changes_module.Forward.take

    def watch(self: Any, until: Any) -> pa.Table:
        table = take(self, until)
        held.append(table.num_rows + self._kept.num_rows)
        return table

    monkeypatch.setattr(changes_module.Forward, "take", watch)
    all_users = [[user(str(n)) for n in range(1, count + 1)] for count in counts]
    roles = [[role(row["id"]) for row in side] for side in all_users]
    snapshots.tables((all_users[0], roles[0]), (all_users[1], roles[1]), (20, 20))
    assert max(held) <= 40
