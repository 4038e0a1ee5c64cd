"""Reading a mapping: every fault at once, each with its path."""

import json
from typing import Any

import pytest
import yaml

from airflow_provider_aha.datasets.schemas import USERS
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaMappingError
from airflow_provider_aha.hooks.paths import resolve_path
from airflow_provider_aha.push.mapping.load import load_spec, ready_mappings
from airflow_provider_aha.push.mapping.spec import read_spec, schema
from airflow_provider_aha.push.mapping.transforms import register_transform, transforms
from airflow_provider_aha.push.mapping.yaml import parse
from tests.push.conftest import mapping

EMAIL = {"source": "email", "required": True, "unique": True}


def faults(given: Any, **params: Any) -> list[str]:
    with pytest.raises(AhaMappingError) as caught:
        read_spec(given, params)
    assert all(fault in str(caught.value) for fault in caught.value.faults)
    return caught.value.faults


def fields(**more: Any) -> dict[str, Any]:
    return mapping(fields={"email": EMAIL, **more})


def test_dict_json_and_yaml_are_the_same():
    given = fields(name="name", role={"const": 25})
    specs = [read_spec(form) for form in (given, json.dumps(given), yaml.safe_dump(given))]
    assert specs[0] == specs[1] == specs[2]
    assert len({spec.fingerprint for spec in specs}) == 1


def test_all_faults_are_told_at_once():
    given = mapping(
        mode="mirror",
        sync_key=[],
        fields={"email": {"sorce": "email"}, "name": {"source": "name", "type": "text"}},
        limits={"max_changes": -1},
        surprise=True,
    )
    found = faults(given)
    assert [fault.partition(": ")[0] for fault in found] == [
        "(all)",
        "fields.email",
        "fields.name.type",
        "limits.max_changes",
        "mode",
        "sync_key",
    ]
    assert "surprise is not known here" in found[0]
    assert "sorce is not known here; known are" in found[1]


def test_faults_beyond_the_shape_are_told_at_once():
    given = mapping(
        sync_key=["email", "nobody"],
        filter=[
            {"field": "enabled", "op": "eq", "value": True},
            {"field": "is_enabled", "op": "eq", "value": "yes"},
        ],
        fields={
            "email": {"source": "email"},
            "Email": {"source": "mail"},
            "role": {"param": "role", "type": "integer"},
            "both": {"source": "id", "const": 1},
            "none": {},
            "change": {"source": "name", "transforms": ["upper", "shout", {"truncate": []}]},
            "level": {"source": "name", "map": {"a": 1, "b": "x"}, "type": "integer"},
        },
    )
    assert faults(given) == [
        "fields.Email.source: the dataset has no column mail; it has " + ", ".join(USERS.names),
        "fields.role.param: no value was given for role (mapping_params)",
        "fields.both: needs exactly one of source, const and param",
        "fields.none: needs exactly one of source, const and param",
        f"fields.change.transforms[1]: there is no transform shout; there are {', '.join(sorted(transforms()))}",
        "fields.change.transforms[2]: truncate takes 1 arguments, not 0",
        "fields.level.map.b: 'x' is not a whole number",
        "fields.Email: the target field email is there already, and differs in case only",
        "fields.email.required: a field of the sync key must be required: true",
        "sync_key[1]: there is no field nobody",
        "filter[0].field: the dataset has no column enabled; it has " + ", ".join(USERS.names),
        "filter[1].value: must be true or false",
    ]


# A few hundred bytes that become gigabytes where aliases are followed.
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("fields:\n  email: name\n  email: id\n", "line 3: email is there twice"),
        ('{"name": "a", "name": "b"}', "line 1: name is there twice"),
        ("fields:\n  on: name\n", "line 2: the name on must be in quotes"),
        ("fields: [", "line 1: "),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("\x00", "neither YAML nor JSON"),
        (LAUGHS, "line 2: an alias (*) is not allowed: write the value out"),
        ("name: &n a\nother: *n\n", "line 2: an alias (*) is not allowed"),
        ("base: &b {a: 1}\nfields:\n  <<: *b\n", "line 3: an alias (*) is not allowed"),
        ("[" * 10_000, "line 1: values are nested more than 50 deep"),
        ('{"a":' * 10_000, "line 1: values are nested more than 50 deep"),
        ("a: " + "1" * 5000, "line 1: a number is longer than any"),
        ("a: " + ":".join(["1"] * 5000), "line 1: a number is longer than any"),
        ("a: !!int x", "neither YAML nor JSON"),
        ("#" * 300_000, "the text is longer than 256 KB"),
        ("ann@example.com: a\nann@example.com: b\n", "line 2: a name is there twice"),
        ("? {ann@example.com: 1}\n: 2", "line 1: the name must be in quotes"),
        ("- a list", "is not of type 'object'"),
        ("", "is not of type 'object'"),
    ],
)
def test_text_that_is_no_mapping(text, fault):
    (found,) = faults(text)
    assert fault in found
    assert "ann@" not in found


def test_a_mapping_of_objects_that_is_nested_without_end_is_a_fault():
    given: dict[str, Any] = {}
    for _ in range(5000):
        given = {"fields": given}
    assert faults(given) == ["(all): values are nested too deep"]


def test_an_anchor_that_nobody_names_is_passed_over():
    found: list[str] = []
    assert parse("a: &x [1]\n", found) == {"a": [1]}
    assert found == []


def test_a_file_that_is_no_mapping_by_its_size_is_not_read(tmp_path):
    path = tmp_path / "mapping.yaml"
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(AhaConfigurationError, match="is larger than 1 MB, and nothing of it was read"):
        load_spec(str(path), {}, resolve_path)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"version": 2}, "version: 1 was expected"),
        ({"dataset": "user_changes"}, "dataset: 'user_changes' is not one of"),
        ({"name": "Two Words"}, "name: 'Two Words' does not match"),
        ({"filter": {"field": "email"}}, "filter: must be a condition"),
        ({"filter": [{"op": "eq"}]}, "filter: must be a condition"),
        ({"launched": "yes"}, "launched: 'yes' is not of type 'boolean'"),
        ({"fields": {}}, "fields: "),
    ],
)
def test_shapes(changes, fault):
    assert any(found.startswith(fault) for found in faults(mapping(**changes)))


@pytest.mark.parametrize(
    ("field", "fault"),
    [
        ({"const": "abc", "type": "integer"}, "fields.x.const: 'abc' is not a whole number"),
        ({"const": None, "required": True}, "fields.x.const: is null, and the field is required"),
        ({"const": "2026-02-30", "type": "date"}, "fields.x.const: '2026-02-30' is not a date"),
        ({"const": 1, "unique": True}, "fields.x.const: a constant can't be unique"),
        ({"const": 1, "default": 2}, "fields.x.default: a constant takes none"),
        ({"source": "email[0]"}, "fields.x.source: the column email has nothing inside"),
        ({"source": "extra_json..x"}, "fields.x.source: 'extra_json..x' is no path"),
        ({"source": "name", "default": "x", "type": "boolean"}, "fields.x.default: 'x' is neither true nor false"),
        ({"source": "name", "map": {"a": 1, "b": "c"}}, "fields.x.map: its values have several types"),
    ],
)
def test_fields(field, fault):
    (found,) = faults(fields(x=field))
    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ({"source": "email", "unique": True}, "fields.email.required: "),
        ({"source": "email", "required": True}, "fields.email.unique: "),
        ({"const": "x", "required": True}, "fields.email.unique: "),
        ({"source": "extra_json", "type": "json", "required": True, "unique": True}, "fields.email.type: "),
    ],
)
def test_the_sync_key_must_be_fit_for_it(key, fault):
    assert any(found.startswith(fault) for found in faults(mapping(fields={"email": key})))


def test_a_parameter_is_put_in_and_must_fit():
    given = fields(role={"param": "role", "type": "integer", "required": True})
    assert read_spec(given, {"role": "25"}).field("role").constant == 25
    assert faults(given, role="admin") == ["fields.role.param: 'admin' is not a whole number"]
    for unset in ("", None, "None"):
        assert faults(given, role=unset) == ["fields.role.param: no value was given for role (mapping_params)"]


def test_only_what_changes_the_records_changes_the_fingerprint():
    spec = read_spec(mapping())
    assert read_spec(mapping(launched=False, limits={"max_changes": 1})).fingerprint == spec.fingerprint
    assert read_spec(mapping(mode="insert")).fingerprint != spec.fingerprint
    assert read_spec(fields(name={"source": "name", "transforms": ["upper"]})).fingerprint != spec.fingerprint
    role = fields(role={"param": "role", "type": "integer"})
    assert read_spec(role, {"role": 1}).fingerprint != read_spec(role, {"role": 2}).fingerprint


def test_a_mapping_is_a_draft_until_it_is_launched():
    given = mapping()
    del given["launched"]
    assert read_spec(given).launched is False


def test_the_schema_is_one():
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("name", ready_mappings())
def test_ready_mappings_are_right(name):
    spec = load_spec(name, {"role": 25}, None)  # type: ignore[arg-type]
    assert spec.columns


def test_what_is_no_ready_mapping_is_told():
    with pytest.raises(AhaConfigurationError, match="There is no ready mapping of that name; there are "):
        load_spec("nobody", None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["strip", "Two Words", "", "a-b"])
def test_names_of_transforms(name):
    with pytest.raises(AhaConfigurationError):
        register_transform(name, str)
