"""One odd record: read as far as it can be, or refused by itself, and never a reason for an error of Python's."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_aha.api.records import is_record_id, read_json, readable
from airflow_provider_aha.exceptions import AhaProtocolError
from tests.api.conftest import Reply, steady

USER = {"id": "7", "name": "Ann Smith", "email": "ann@example.com", "enabled": True, "administrator": False}
ODD = [
    ("administrator_roles", ["administer_billing"]),
    ("administrator_roles", "all"),
    ("administrator_roles", {"administer_billing": 1}),
    ("administrator_roles", {"administer_billing": ["true"]}),
    ("email", 7),
    ("email", {"address": "ann@example.com"}),
    ("name", ["Ann Smith"]),
    ("name", "x" * 1_000_001),
    ("enabled", "yes"),
    ("enabled", 1),
    ("administrator", {}),
    ("paid_seat", 0),
    ("accessed_at", 0),
    ("updated_at", True),
    ("product_roles", {}),
    ("product_roles", ["owner"]),
    ("user_roles", "x"),
    ("paid_seat_group", "Group 1"),
]


def named(value: Any) -> str:
    return str(value)[:40]


@pytest.mark.parametrize(
    ("call", "field", "value"),
    [
        (call, *odd)
        for call in ("get_user", "me", "find_user", "get_listed_user")
        for odd in ODD
        # Whoever has no email is not found by one.
        if (call, odd[0]) != ("find_user", "email")
    ],
    ids=named,
)
def test_a_user_of_whom_something_can_not_be_read_fails_alone(serve, connect, call, field, value):
    odd, other = USER | {field: value}, USER | {"id": "8", "email": "bob@example.com"}

    def answer(seen: Any) -> Reply:
        if seen.path.startswith(("/api/v1/users?", "/api/v1/me")):
            listed = {
                "users": [odd, other],
                "pagination": {"total_records": 2, "total_pages": 1, "current_page": 1},
            }
            return Reply(odd if "/me" in seen.path else listed)
        # The single record is as it should be where the list's is to be looked at.
        return Reply(other if seen.path.endswith("/8") else USER if call == "get_listed_user" else odd)

    server = serve(answer)
    client = connect(server.url)
    wanted = {"get_user": ["7"], "me": [], "find_user": ["ann@example.com"], "get_listed_user": ["7"]}[call]

    with pytest.raises(AhaProtocolError) as caught:
        getattr(client, call)(*wanted)

    assert f"something unreadable for user 7: {field} of another type than documented" in str(caught.value)
    assert "Ann" not in str(caught.value)
    assert "ann@" not in str(caught.value)
    assert caught.value.status == 200
    # Another try would end the same.
    assert len(server.seen) == len({seen.path for seen in server.seen})
    assert client.get_user("8")["email"] == "bob@example.com"


def test_what_is_documented_otherwise_or_new_is_nothing_odd(serve, connect):
    user = USER | {
        "enabled": "False",
        "administrator_roles": {"administer_billing": "true", "administer_ai": False, "administer_account": None},
        "email": None,
        "updated_at": "soon",
        "new": [1],
    }

    found = connect(serve(lambda _: Reply(user)).url).get_user("7")

    assert found == user | {
        "enabled": False,
        "administrator_roles": {"administer_billing": True, "administer_ai": False, "administer_account": None},
    }


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part, max_size=3),
)
keys = st.sampled_from(
    [*USER, "administrator_roles", "product_roles", "user_roles", "accessed_at", "paid_seat", "x"]
)


@steady
@given(st.dictionaries(keys, values, max_size=8))
def test_after_reading_every_known_field_has_its_type_or_is_null(user):
    found, odd = readable(user)

    assert found.keys() == user.keys()
    assert all(found[name] is None for name in odd)
    for name in ("name", "email", "accessed_at"):
        assert isinstance(found.get(name), str | None)
    for name in ("enabled", "administrator", "paid_seat"):
        assert isinstance(found.get(name), bool | None)
    rights = found.get("administrator_roles") or {}
    assert all(isinstance(right, bool | None) for right in rights.values())
    for name in ("product_roles", "user_roles"):
        assert all(isinstance(role, dict) for role in found.get(name) or [])


# --- text ----------------------------------------------------------------------------------------


@steady
@given(st.text(alphabet=st.characters(exclude_categories=[])))
@example("\ud83d")
@example("\udc00\ud83d")
@example("\\ud83d")
@example('\\"\ud83d\\')
@example("\ud83d\ude00")
def test_every_text_of_an_answer_is_read_and_only_halves_of_characters_are_replaced(text):
    # Python writes a pair of halves as two escapes, which are one character to everybody else.
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    found, count = read_json(json.dumps({"name": text}).encode())

    assert found == {"name": whole}
    assert count == whole.count("\ufffd") - text.count("\ufffd")


@pytest.mark.parametrize("body", [b"", b"\xef\xbb\xbf", b'{"a": "\\ud83d"', b"[" * 100_000, b'"\xff"', b"<html>"])
def test_what_is_no_json_stays_none(body):
    with pytest.raises(orjson.JSONDecodeError):
        read_json(body)


@pytest.mark.parametrize(
    "value", ["", "../../x", "٦٧٧٦", "1" * 21, "-7", -7, 7.0, 6.776757454431878e18, True, None, {}, " 7", "7\n"]
)
def test_what_is_no_id(value):
    assert not is_record_id(value)


def test_half_a_character_in_a_workspace_s_name_loses_no_workspace(serve, connect):
    pagination = b'"pagination": {"total_records": 1, "total_pages": 1, "current_page": 1}}'
    body = b'\xef\xbb\xbf{"products": [{"id": "9", "name": "\\udc00"}], ' + pagination

    assert list(connect(serve(lambda _: Reply(body)).url).iter_workspaces()) == [{"id": "9", "name": "\ufffd"}]


def test_a_byte_order_mark_before_a_user_is_passed_over(serve, connect):
    server = serve(lambda _: Reply(b"\xef\xbb\xbf" + orjson.dumps(USER).replace(b"Ann", b"\\ud83d")))

    assert connect(server.url).get_user("7")["name"] == "\ufffd Smith"
    assert len(server.seen) == 1
