"""Applying a mapping: what each value becomes, and why a record is invalid."""

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_aha.datasets.schemas import BY_DATASET
from airflow_provider_aha.push.mapping.filters import OPERATORS
from airflow_provider_aha.push.mapping.mapper import map_rows
from airflow_provider_aha.push.mapping.spec import read_spec, schema
from airflow_provider_aha.push.mapping.transforms import register_transform, transforms
from tests.push.conftest import mapping, user

EMAIL = {"source": "email", "required": True, "unique": True}


def mapped(field: Any, rows: list[dict[str, Any]], dataset: str = "users", **changes: Any) -> Any:
    """Map rows; the values of the field ``x`` and the faults by row."""
    spec = read_spec(mapping(fields={"email": EMAIL, "x": field}, **changes))
    columns = BY_DATASET[dataset].names
    result = map_rows(spec, pa.Table.from_pylist(rows, schema=BY_DATASET[dataset]).select(columns))
    return result.table.column("x").to_pylist(), {
        row: [f"{one.field}: {one.reason}" for one in found] for row, found in result.faults.items()
    }


def value(field: Any, **columns: Any) -> Any:
    """Map one row; its ``x``, or the reason why there is none."""
    values, faults = mapped(field, [user(1, **columns)])
    return faults.get(0, values)[0]


MOMENT = datetime(2026, 2, 28, 23, 59, 59, 123000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("steps", "given", "becomes"),
    [
        (["strip"], "  a b ", "a b"),
        (["strip", "lower"], " ÄB@X ", "äb@x"),
        (["upper"], "straße", "STRASSE"),
        (["title"], "ada lovelace", "Ada Lovelace"),
        (["first_name"], " Ada  King Lovelace ", "Ada"),
        (["last_name"], " Ada  King Lovelace ", "King Lovelace"),
        (["first_name"], "Ada", "Ada"),
        (["last_name"], "Ada", ""),
        (["last_name"], "  ", ""),
        (["email_local"], "ada@example.com", "ada"),
        (["email_domain"], "ada@example.com", "example.com"),
        ([{"truncate": 3}], "abcdef", "abc"),
        ([{"truncate": 0}], "abcdef", ""),
        ([{"prefix": "aha:"}], "1", "aha:1"),
        ([{"split": ","}], "a,b", '["a", "b"]'),
        ([{"split": ","}, {"join": "-"}], "a,b", "a-b"),
        (["hash_sha256"], "a", "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"),
        (["empty_to_null"], "", None),
        (["empty_to_null", "upper"], "", None),
        (["not"], "no", True),
        (["bool"], "TRUE", True),
        (["int"], " 42 ", 42),
        (["int"], str(-(2**63)), -(2**63)),
        (["float"], "1e3", 1000.0),
        (["date"], "2026-02-28T23:59:59Z", date(2026, 2, 28)),
        (["timestamp"], "2026-03-01T00:59:59+01:00", datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC)),
        (["timestamp"], "2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        (["iso_utc"], "2026-03-01 00:00", "2026-03-01T00:00:00Z"),
        (["epoch"], "1970-01-02", 86400),
        (["epoch_ms"], "1969-12-31T23:59:59.5Z", -500),
        (["str"], "x", "x"),
        ([], "\0 'quoted' \"so\" 😀 =1+1", "\0 'quoted' \"so\" 😀 =1+1"),
        (["upper"], None, None),
    ],
)
def test_transforms(steps, given, becomes):
    assert value({"source": "name", "transforms": steps}, name=given) == becomes


def test_every_transform_is_tried_above_and_documented():
    tried = {
        step if isinstance(step, str) else next(iter(step))
        for mark in test_transforms.pytestmark
        for steps, *_ in mark.args[1]
        for step in steps
    }
    assert tried == {name for name in transforms() if not name.startswith("test_")}


@pytest.mark.parametrize(
    ("field", "columns", "reason"),
    [
        ({"source": "name", "type": "integer"}, {"name": "abc"}, "'abc' is not a whole number"),
        ({"source": "name", "type": "integer"}, {"name": "9223372036854775808"}, "is not a whole number"),
        ({"source": "name", "type": "integer"}, {"name": "1.5"}, "is not a whole number"),
        ({"source": "name", "type": "integer"}, {"name": "٣"}, "is not a whole number"),
        ({"source": "is_enabled", "type": "integer"}, {}, "True is not a whole number"),
        ({"source": "name", "type": "number"}, {"name": "nan"}, "'nan' is not a number"),
        ({"source": "name", "type": "number"}, {"name": "inf"}, "'inf' is not a number"),
        ({"source": "name", "type": "boolean"}, {"name": "maybe"}, "neither true nor false"),
        ({"source": "name", "type": "date"}, {"name": "31/02/2026"}, "'31/02/2026' is not a date"),
        ({"source": "name", "type": "date"}, {"name": "2026-02-30"}, "'2026-02-30' is not a date"),
        ({"source": "name", "type": "timestamp"}, {"name": "soon"}, "'soon' is not a moment"),
        ({"source": "name", "type": "timestamp"}, {"name": "0001-01-01T00:00+14:00"}, "not a moment"),
        ({"source": "name", "transforms": ["email_domain"]}, {"name": "ada"}, "'ada' is not an email"),
        ({"source": "is_enabled", "transforms": ["upper"]}, {}, "True is not text"),
        ({"source": "name", "map": {"a": 1}}, {"name": "b"}, "map has no entry for 'b'"),
        ({"source": "name", "required": True}, {"name": None}, "is null, and the field is required"),
        ({"source": "extra_json.team"}, {"extra_json": "{"}, "extra_json holds no JSON"),
        ({"source": "extra_json.team"}, {"extra_json": '{"team": {"id": 1}}'}, "{'id': 1} is not a single value"),
        ({"source": "name", "transforms": [{"truncate": "3"}]}, {}, "truncate needs a length"),
        ({"source": "name", "transforms": [{"truncate": -1}]}, {}, "truncate needs a length"),
        ({"source": "name", "transforms": ["test_nothing"]}, {}, "the transform test_nothing returned nothing"),
        ({"source": "name", "transforms": ["test_broken"]}, {}, "a transform failed with KeyError"),
        ({"source": "name", "transforms": ["test_half"]}, {}, "has half a character in it"),
        ({"source": "name", "type": "integer"}, {"name": "x" * 500}, "x... is not a whole number"),
    ],
)
def test_what_makes_a_record_invalid(field, columns, reason):
    values, faults = mapped(field, [user(1, **columns), user(2, name="1", extra_json=None)])
    assert values[0] is None
    assert next(iter(faults)) == 0
    assert reason in faults[0][0]
    assert faults[0][0].startswith("x: ")
    assert len(faults[0]) == 1
    assert len(faults[0][0]) < 200


@pytest.fixture(autouse=True, scope="module")
def _own_transforms() -> Any:
    register_transform("test_nothing", lambda text: None)
    register_transform("test_broken", lambda text: {}[text])
    register_transform("test_half", lambda text: "\ud83d")
    register_transform("test_repeat", lambda text, times: len(text) * times, returns="integer", arguments=1)


def test_a_transform_of_ones_own():
    assert value({"source": "name", "transforms": [{"test_repeat": 2}]}, name="abc") == 6


@pytest.mark.parametrize(
    ("field", "columns", "becomes"),
    [
        ({"source": "accessed_at"}, {"accessed_at": MOMENT}, MOMENT),
        ({"source": "accessed_at", "type": "date"}, {"accessed_at": MOMENT}, date(2026, 2, 28)),
        ({"source": "accessed_at", "transforms": ["iso_utc"]}, {"accessed_at": MOMENT}, "2026-02-28T23:59:59.123Z"),
        ({"source": "is_enabled", "transforms": ["not"]}, {}, False),
        ({"source": "is_enabled", "map": {"true": "on", "false": "off"}}, {}, "on"),
        ({"source": "name", "map": {"a": 1, "b": None}, "default": 7}, {"name": "c"}, 7),
        ({"source": "name", "map": {"a": 1, "b": None}, "default": 7}, {"name": "b"}, 7),
        ({"source": "name", "map": {"a": 1, "b": None}, "default": 7}, {"name": None}, 7),
        ({"source": "name", "transforms": ["lower"], "map": {"a": 1}}, {"name": "A"}, 1),
        ({"source": "name", "default": "nobody"}, {"name": None}, "nobody"),
        ({"source": "name", "default": "nobody"}, {"name": ""}, ""),
        ({"source": "workspace_count", "type": "string"}, {"workspace_count": 3}, "3"),
        ({"source": "workspace_count"}, {"workspace_count": 3}, 3),
        ({"source": "extra_json.team.name"}, {"extra_json": '{"team": {"name": "Core"}}'}, "Core"),
        ({"source": "extra_json.tags[-1]"}, {"extra_json": '{"tags": ["a", "b"]}'}, "b"),
        ({"source": "extra_json.tags[5]"}, {"extra_json": '{"tags": ["a", "b"]}'}, None),
        ({"source": "extra_json.team.name"}, {"extra_json": '{"team": 1}'}, None),
        ({"source": "extra_json.a", "type": "json"}, {"extra_json": '{"a": {"z": 1, "b": [null]}}'}, None),
        ({"const": 25}, {}, 25),
        ({"const": "2026-08-01", "type": "date"}, {}, date(2026, 8, 1)),
        ({"const": None}, {}, None),
    ],
)
def test_values(field, columns, becomes):
    if field.get("type") == "json":
        becomes = '{"b": [null], "z": 1}'
    assert value(field, **columns) == becomes


def test_a_list_is_joined_or_kept():
    row = {
        "user_id": "1",
        "role_kind": "workspace",
        "workspace_count": 2,
        "workspaces": ["A", "B"],
        "user_email": "e",
    }
    key = {"source": "user_id", "required": True}
    kind = {"source": "role_kind", "required": True}
    fields = {
        "id": key,
        "kind": kind,
        "all": "workspaces",
        "text": {"source": "workspaces", "transforms": [{"join": "; "}]},
        "first": "workspaces[0]",
    }
    spec = read_spec(mapping(dataset="user_role_summary", sync_key=["id", "kind"], fields=fields))
    table = pa.Table.from_pylist([row], schema=BY_DATASET["user_role_summary"])
    (found,) = map_rows(spec, table).table.to_pylist()
    assert found == {"id": "1", "kind": "workspace", "all": '["A", "B"]', "text": "A; B", "first": "A"}


# --- filters -------------------------------------------------------------------------------------

ROWS: list[dict[str, Any]] = [
    {"name": "Ada", "is_enabled": True, "workspace_count": 1, "accessed_at": MOMENT},
    {"name": "Bob", "is_enabled": False, "workspace_count": 5, "accessed_at": None},
    {"name": None, "is_enabled": None, "workspace_count": None, "accessed_at": datetime(2020, 1, 1, tzinfo=UTC)},
]


def meant(condition: Any) -> list[int]:
    spec = read_spec(mapping(filter=condition))
    table = pa.Table.from_pylist([user(n, **row) for n, row in enumerate(ROWS)], schema=BY_DATASET["users"])
    result = map_rows(spec, table.select(spec.columns))
    assert result.meant is not None
    return [row for row, is_meant in enumerate(result.meant) if is_meant]


def c(field: str, op: str, *value: Any) -> dict[str, Any]:
    return {"field": field, "op": op, **({"value": value[0]} if value else {})}


CONDITIONS = [
    (c("name", "eq", "Ada"), [0]),
    (c("name", "ne", "Ada"), [1, 2]),
    (c("name", "in", ["Ada", "Eve"]), [0]),
    (c("name", "not_in", ["Ada", "Eve"]), [1, 2]),
    (c("name", "is_null"), [2]),
    (c("name", "not_null"), [0, 1]),
    (c("name", "startswith", "A"), [0]),
    (c("name", "not_startswith", "A"), [1, 2]),
    (c("name", "endswith", "b"), [1]),
    (c("name", "not_endswith", "b"), [0, 2]),
    (c("name", "contains", "d"), [0]),
    (c("name", "not_contains", "d"), [1, 2]),
    (c("is_enabled", "eq", True), [0]),
    (c("is_enabled", "ne", True), [1, 2]),
    (c("workspace_count", "gt", 1), [1]),
    (c("workspace_count", "ge", 1), [0, 1]),
    (c("workspace_count", "lt", 5), [0]),
    (c("workspace_count", "le", 5), [0, 1]),
    (c("workspace_count", "in", [1, 2]), [0]),
    (c("workspace_count", "eq", "5"), [1]),
    (c("accessed_at", "ge", "2026-01-01"), [0]),
    (c("accessed_at", "lt", "2026-01-01T00:00:00Z"), [2]),
]


@pytest.mark.parametrize(("condition", "rows"), CONDITIONS)
def test_conditions(condition, rows):
    assert meant(condition) == rows
    assert meant([condition]) == rows
    assert meant({"not": condition}) == [row for row in range(3) if row not in rows]


def test_every_operator_is_tried_above_and_in_the_schema():
    (given,) = (one for one in schema()["$defs"]["condition"]["anyOf"] if "field" in one["properties"])
    assert (
        {condition["op"] for condition, _ in CONDITIONS} == set(OPERATORS) == set(given["properties"]["op"]["enum"])
    )


def test_conditions_are_joined():
    a, b = c("name", "eq", "Ada"), c("workspace_count", "gt", 1)
    assert meant([a, b]) == []
    assert meant({"any": [a, b]}) == [0, 1]
    assert meant({"all": [{"any": [a, b]}, {"not": b}]}) == [0]


def test_rows_that_are_not_meant_have_no_faults():
    spec = mapping(
        filter=[c("name", "eq", "Ada")], fields={"email": EMAIL, "x": {"source": "name", "type": "integer"}}
    )
    table = pa.Table.from_pylist([user(1, name="Bob"), user(2, name="Ada")], schema=BY_DATASET["users"])
    result = map_rows(read_spec(spec), table)
    assert (result.meant, list(result.faults)) == ([False, True], [1])


@pytest.mark.parametrize(
    ("condition", "fault"),
    [
        (c("name", "eq"), "filter[0].value: is missing"),
        (c("name", "eq", None), "filter[0].value: is missing"),
        (c("name", "is_null", 1), "filter[0].value: is_null takes none"),
        (c("name", "lt", "a"), "filter[0].op: lt is for numbers and moments"),
        (c("is_enabled", "startswith", "t"), "filter[0].op: startswith is for text"),
        (c("name", "eq", ["a"]), "filter[0].value: only in and not_in take a list"),
        (c("name", "in", "a"), "filter[0].value: in and not_in take a list"),
        (c("name", "in", []), "filter[0].value: in and not_in take a list"),
        (c("workspace_count", "in", [1, "x"]), "filter[0].value[1]: 'x' is not a whole number"),
        (c("id", "eq", 5), "filter[0].value: must be text in quotes"),
        (c("accessed_at", "gt", "soon"), "filter[0].value: 'soon' is not a moment"),
    ],
)
def test_conditions_that_can_not_be_right(condition, fault):
    from airflow_provider_aha.exceptions import AhaMappingError

    with pytest.raises(AhaMappingError) as caught:
        read_spec(mapping(filter=[condition]))
    assert [found[: len(fault)] for found in caught.value.faults] == [fault]
