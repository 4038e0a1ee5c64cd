"""Values as they arrive from templates, URIs and forms."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_aha.common.values import is_unset, to_bool, to_dict, to_int, to_list, to_number, to_text
from airflow_provider_aha.exceptions import AhaConfigurationError
from tests.api.conftest import steady

UNSET = [None, "", "  ", "None", "none", "NULL", " null "]

anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.binary().map(repr)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=5,
)
texts = st.one_of(anything.map(repr), st.binary(max_size=30).map(lambda sent: sent.decode("latin-1")))


@pytest.mark.parametrize("value", UNSET)
def test_null_blank_and_what_null_renders_to_are_not_set(value):
    assert is_unset(value)
    assert to_bool(value, "flag", True) is True
    assert to_number(value, "seconds", 2.5, 0, 10) == 2.5
    assert to_int(value, "size", 7, 0, 10) == 7
    assert to_list(value, "names") is None
    assert to_dict(value, "options") is None
    assert to_text(value, "name") is None


@pytest.mark.parametrize("value", [0, False, 0.0, [], {}, "0", "false", "nothing"])
def test_zero_false_and_an_empty_list_are_set(value):
    assert not is_unset(value)


@pytest.mark.parametrize(
    ("value", "flag"),
    [(True, True), (False, False), ("true", True), ("True", True), (" FALSE ", False), ("false", False)],
)
def test_flags_are_understood_as_text_in_any_case(value, flag):
    assert to_bool(value, "flag", not flag) is flag


@pytest.mark.parametrize("value", [0, 1, "0", "1", "yes", "on", "t", [], {}, 1.0])
def test_no_other_word_or_number_passes_for_a_flag(value):
    with pytest.raises(AhaConfigurationError, match=r"^flag must be true or false"):
        to_bool(value, "flag", False)


@pytest.mark.parametrize(("value", "number"), [(5, 5), ("5", 5), (" 5 ", 5), ("2.5", 2.5), (2.5, 2.5), ("1e1", 10)])
def test_numbers_are_understood_as_text(value, number):
    assert to_number(value, "seconds", 1, 0, 10) == number


@pytest.mark.parametrize(
    "value", ["many", "5s", "5,5", "0x5", True, False, [5], {}, "nan", "inf", -1, 11, 10**400, "9" * 400]
)
def test_what_is_no_number_or_out_of_range_is_refused_by_name(value):
    with pytest.raises(AhaConfigurationError, match=r"^seconds must be a number from 0 to 10, not "):
        to_number(value, "seconds", 1, 0, 10)


def test_a_whole_number_has_no_fraction():
    assert to_int("7.0", "size", 1, 0, 10) == 7
    with pytest.raises(AhaConfigurationError, match=r"^size must be a whole number, not one with a fraction\.$"):
        to_int("7.5", "size", 1, 0, 10)


@pytest.mark.parametrize(
    ("value", "items"),
    [
        (["a", "b"], ["a", "b"]),
        (("a", "b"), ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ("['a', 'b']", ["a", "b"]),
        ("('a', 'b')", ["a", "b"]),
        (' ["a"] ', ["a"]),
        ([" a "], ["a"]),
        ([12, "3"], ["12", "3"]),
        ("[]", []),
        ([], []),
    ],
)
def test_lists_are_understood_as_json_and_as_rendered_python(value, items):
    assert to_list(value, "names") == items


@pytest.mark.parametrize(
    "value", ["a, b", "a", {"a": 1}, '{"a": 1}', 5, [["a"]], '[{"a": 1}]', "[a]", "[" * 100_000]
)
def test_what_is_no_flat_list_is_refused_with_an_example(value):
    with pytest.raises(AhaConfigurationError, match=r'^names must be a list, such as \["a", "b"\]'):
        to_list(value, "names")


@pytest.mark.parametrize("value", [["a", ""], ["a", None], '["a", null]', "['None']"])
def test_a_list_with_a_hole_is_refused(value):
    with pytest.raises(AhaConfigurationError, match=r"^names has an empty item\.$"):
        to_list(value, "names")


@pytest.mark.parametrize("value", [{"a": 1}, '{"a": 1}', "{'a': 1}"])
def test_objects_are_understood_as_json_and_as_rendered_python(value):
    assert to_dict(value, "options") == {"a": 1}


@pytest.mark.parametrize("value", ["a", "[1]", [1], 5, True, "{[]: 1}", '{"a":' * 100_000])
def test_what_is_no_object_is_refused_without_repeating_it(value):
    with pytest.raises(AhaConfigurationError, match=r"^options must be a JSON object\.$"):
        to_dict(value, "options")


@pytest.mark.parametrize(("value", "text"), [("a", "a"), (" a b ", "a b"), (5, "5"), (2.5, "2.5")])
def test_a_number_passes_for_text(value, text):
    assert to_text(value, "name") == text


@pytest.mark.parametrize("value", [True, [], {}, ("a",)])
def test_flags_and_collections_do_not_pass_for_text(value):
    with pytest.raises(AhaConfigurationError, match=r"^name must be text, not "):
        to_text(value, "name")


@steady
@given(value=st.one_of(anything, texts))
def test_a_value_is_read_or_refused_and_nothing_else_happens(value):
    for read in (
        lambda: to_bool(value, "it", False),
        lambda: to_int(value, "it", 1, -(10**6), 10**6),
        lambda: to_list(value, "it"),
        lambda: to_dict(value, "it"),
        lambda: to_text(value, "it"),
    ):
        with suppress(AhaConfigurationError):
            read()


@steady
@given(items=st.lists(st.sampled_from(["a", "Zoë", "x y", '"', "'", "[", "1", "\\"])))
def test_a_list_survives_json_and_a_template(items):
    assert to_list(json.dumps(items), "names") == items
    assert to_list(repr(items), "names") == items


@steady
@given(number=st.integers(-(10**6), 10**6))
def test_a_number_survives_text(number):
    assert to_int(str(number), "size", 0, -(10**6), 10**6) == number
