"""Pages of ``GET /users`` become rows: what is missing stays missing, what is odd is kept."""

import json
import subprocess
import sys
from datetime import datetime, timedelta
from typing import Any

import orjson
import pyarrow as pa
import pytest

from airflow_provider_aha.datasets.users import Normalizer, UsersPage
from tests.datasets.conftest import NOW, RIGHTS, custom, page, role, user, without

MISSING = object()


def tables(*pages: UsersPage, names: dict[str, str] | None = None) -> dict[str, list[dict[str, Any]]]:
    found = normalizer(names).tables(pages)
    return {name: table.to_pylist() for name, table in found.items()}


def normalizer(names: dict[str, str] | None = None) -> Normalizer:
    return Normalizer(subdomain="mycompany", connection_id="aha", synced_at=NOW, workspace_names=names or {})


def land(**fields: Any) -> dict[str, Any]:
    """Return the one users row of a documented user with other fields, absent where MISSING."""
    gone = [key for key, value in fields.items() if value is MISSING]
    return tables(UsersPage(page([without(user(**fields), *gone)])))["users"][0]


def absent(record: dict[str, Any]) -> dict[str, int]:
    return dict(UsersPage(page([record])).absent)


# --- activity and seats ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "status"),
    [
        (-1, "active"),
        (0, "active"),
        (29, "active"),
        (30, "inactive_30"),
        (59, "inactive_30"),
        (60, "inactive_60"),
        (89, "inactive_60"),
        (90, "inactive_90"),
        (4000, "inactive_90"),
    ],
)
def test_activity_is_told_by_whole_days_since_the_last_access(days: int, status: str):
    just = NOW - timedelta(days=days)
    row = land(accessed_at=just.isoformat())
    assert (row["activity_status"], row["days_inactive"]) == (status, max(days, 0))


@pytest.mark.parametrize("days", [30, 60, 90])
def test_a_millisecond_before_the_boundary_is_a_day_less(days: int):
    accessed_at = NOW - timedelta(days=days) + timedelta(milliseconds=1)
    assert land(accessed_at=accessed_at.isoformat())["days_inactive"] == days - 1


@pytest.mark.parametrize(
    ("enabled", "accessed_at", "status"),
    [
        (True, None, "never_seen"),
        (True, MISSING, "unknown"),
        (True, "yesterday", "unknown"),
        (True, "", "unknown"),
        (True, 1_700_000_000, "unknown"),
        (False, None, "disabled"),
        (False, MISSING, "disabled"),
        (False, "2026-08-31T00:00:00.000Z", "disabled"),
        (MISSING, "2026-08-31T00:00:00.000Z", "unknown"),
        (None, "2026-08-31T00:00:00.000Z", "unknown"),
        ("yes", "2026-08-31T00:00:00.000Z", "unknown"),
        (MISSING, None, "unknown"),
    ],
)
def test_who_cannot_be_judged_is_unknown_and_never_never_seen(enabled: Any, accessed_at: Any, status: str):
    row = land(enabled=enabled, accessed_at=accessed_at)
    assert row["activity_status"] == status
    if accessed_at in (None, MISSING) or not isinstance(accessed_at, str) or "-" not in accessed_at:
        assert row["days_inactive"] is None


@pytest.mark.parametrize(
    ("enabled", "paid", "occupies"),
    [
        (True, True, True),
        (True, False, False),
        (False, True, False),
        (False, False, False),
        (MISSING, True, None),
        (True, MISSING, None),
        (MISSING, False, False),
        (False, MISSING, False),
        (None, None, None),
    ],
)
def test_a_seat_is_occupied_or_free_or_unknown(enabled: Any, paid: Any, occupies: bool | None):
    assert land(enabled=enabled, paid_seat=paid)["occupies_seat"] is occupies


# --- absent and odd -------------------------------------------------------------------------------

FLAGS = {
    "enabled": "is_enabled",
    "paid_seat": "is_paid_seat",
    "administrator": "is_administrator",
    "roadmaps_seat": "has_roadmaps_seat",
    "develop_seat": "has_develop_seat",
}
REQUIRED = {
    "email",
    "enabled",
    "created_at",
    "accessed_at",
    "paid_seat",
    "administrator",
    "administrator_roles",
    "product_roles",
    "user_roles",
}


@pytest.mark.parametrize("value", [MISSING, None, "yes", 1, []])
@pytest.mark.parametrize(("key", "column"), FLAGS.items())
def test_a_flag_that_was_not_sent_is_null_and_never_false(key: str, column: str, value: Any):
    assert land(**{key: value})[column] is None


@pytest.mark.parametrize("key", sorted(user()))
def test_an_absent_key_is_counted_where_a_decision_would_read_it(key: str):
    if key == "id":
        with pytest.raises(ValueError, match="without id"):
            UsersPage(page([without(user(), key)]))
    else:
        assert absent(without(user(), key)) == ({key: 1} if key in REQUIRED else {})


@pytest.mark.parametrize("key", sorted(set(user()) - {"id", "administrator_roles", "product_roles", "user_roles"}))
def test_a_null_is_not_absent(key: str):
    assert absent(user() | {key: None}) == {}


ODD_ROLES = {
    "a word": {"product_roles": [role("owner")]},
    "a float": {"product_roles": [role(20.0)]},
    "one that nobody knows": {"product_roles": [role(25)]},
    "none": {"product_roles": [role(None)]},
    "missing": {"product_roles": [without(role(20), "role")]},
    "nowhere": {"product_roles": [role(20, product_id=None)]},
    "a text": {"product_roles": ["owner"]},
    "null among them": {"product_roles": [role(20), None]},
    "two of one user": {"product_roles": [role("owner"), role(20), "x"]},
    "no list": {"product_roles": None},
    "an object": {"product_roles": {}},
    "custom: a word": {"user_roles": [custom("owner")]},
    "custom: missing": {"user_roles": [without(custom(7), "role_id")]},
    "custom: a text": {"user_roles": ["x"]},
    "custom: no list": {"user_roles": None},
    "custom: the account": {"user_roles": [custom(7) | {"scope": "account"}]},
    "custom: nowhere": {"user_roles": [custom(7) | {"scope": {"type": "Project", "name": "x", "id": None}}]},
}


@pytest.mark.parametrize("roles", ODD_ROLES.values(), ids=ODD_ROLES)
@pytest.mark.parametrize("extra", [{}, {"teamwork_seat": True}])
def test_roles_of_which_it_can_not_be_said_what_or_where_they_are_count_as_absent(
    roles: Any, extra: dict[str, Any]
):
    (name,) = roles
    found = UsersPage(page([user("1"), user("2", **roles, **extra), user("3", product_roles=[role(50)])]))
    assert dict(found.absent) == {name: 1}
    assert found.ids == ["1", "2", "3"]


def test_roles_that_can_be_read_are_not_absent():
    roles = [role(code, str(code)) for code in (20, 30, 35, 40, 50, 0)] + [role("20", "7", color="red")]
    record = user(product_roles=roles, user_roles=[custom(7), custom(8) | {"scope": None}])
    assert absent(record) == absent(user(product_roles=[], user_roles=[])) == {}


@pytest.mark.parametrize("email", [7, 1.5, True, {"address": "x"}, ["x"]])
def test_an_email_that_is_no_text_is_absent(email: Any):
    assert absent(user(email=email)) == {"email": 1}
    assert land(email=email)["email"] is None


@pytest.mark.parametrize("right", RIGHTS)
def test_an_absent_right_counts_as_absent_and_is_null(right: str):
    record = user(administrator_roles=without(dict.fromkeys(RIGHTS, False), right))
    assert absent(record) == {"administrator_roles": 1}
    row = tables(UsersPage(page([record])))["users"][0]
    assert row[right.replace("administer", "administers")] is None
    assert row["extra_json"] is None


def test_a_new_right_is_kept_and_the_known_ones_land():
    rights = dict.fromkeys(RIGHTS, True) | {"administer_ai": True}
    row = land(administrator_roles=rights)
    assert [row[name] for name in ("administers_account", "administers_billing", "administers_configuration")] == (
        [True] * 3
    )
    assert json.loads(row["extra_json"]) == {"administrator_roles": rights}


def test_absent_keys_are_counted_for_each_user_and_page():
    pages = [UsersPage(page([without(user(str(n)), "accessed_at"), user(str(n + 1))])) for n in (1, 3)]
    assert [dict(found.absent) for found in pages] == [{"accessed_at": 1}] * 2


@pytest.mark.parametrize("form", [{"indent": 2}, {"separators": (" ,", " :")}, {"separators": (",", ":")}])
def test_an_absent_key_is_seen_whatever_the_whitespace(form: dict[str, Any]):
    users = [user("1", accessed_at=None), without(user("2"), "accessed_at"), user("3")]
    assert UsersPage(page(users, **form)).absent == {"accessed_at": 1}


@pytest.mark.parametrize(
    "name", ['"accessed_at":', '\\"accessed_at":', '{"accessed_at":null}', '","accessed_at":"']
)
def test_a_name_that_looks_like_a_key_hides_no_absent_key(name: str):
    users = [user("1", name=name, accessed_at=None), without(user("2", name=name), "accessed_at")]
    body = orjson.dumps(json.loads(page(users)))
    found = UsersPage(body)
    assert found.absent == {"accessed_at": 1}
    assert [row["name"] for row in tables(found)["users"]] == [name, name]


def test_unknown_fields_are_kept_as_json_with_their_types():
    new = {"teamwork_seat": False, "profile": {"badges": [{"id": 1, "label": "früh"}], "score": 9.5}, "note": None}
    assert json.loads(land(**new)["extra_json"]) == new
    assert land()["extra_json"] is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", {"first": "Ada"}),
        ("name", 1.5),
        ("created_at", "2026-02-30T00:00:00.000Z"),
        ("created_at", "2026-01-01T00:00:00,0000Z, about"),
        ("timezone", True),
        ("product_roles", "none"),
        ("user_roles", {}),
        ("paid_seat_group", "Group 1"),
        ("identity_provider", ["saml"]),
    ],
)
def test_a_value_of_another_type_is_kept_beside_and_its_column_is_null(field: str, value: Any):
    row = land(**{field: value})
    assert json.loads(row["extra_json"]) == {field: value}
    assert row.get(field) is None


def test_drift_inside_a_role_loses_neither_the_role_nor_what_is_new():
    roles = [role(20, color="red"), role("Owner", "2"), "all", role(50, "3", role_description=None)]
    found = tables(UsersPage(page([user(product_roles=roles)])))
    assert [(row["workspace_id"], row["role"], row["role_name"]) for row in found["user_roles"]] == [
        ("6100000000000001001", "product_owner", "Owner"),
        ("2", None, None),
        ("3", "viewer", "Viewer"),
    ]
    assert json.loads(found["users"][0]["extra_json"]) == {"product_roles": roles}


@pytest.mark.parametrize("code", [2**31, 2**40, 2**63, -(2**31) - 1, "2147483648"])
def test_a_role_code_beyond_its_column_is_kept_beside(code: Any):
    found = tables(UsersPage(page([user(product_roles=[role(code)])])))
    assert [(row["role_id"], row["role_rank"]) for row in found["user_roles"]] == [(None, None)]
    assert json.loads(found["users"][0]["extra_json"])["product_roles"][0]["role"] == code


def test_ids_beyond_an_int64_land_as_text():
    big = 2**64 - 1
    record = user(paid_seat_group={"id": big, "name": "G"}) | {"id": big}
    row = tables(UsersPage(page([record])))["users"][0]
    assert (row["id"], row["paid_seat_group_id"]) == (str(big), str(big))


@pytest.mark.parametrize("role_id", [2**63, 2**64 - 1])
def test_a_custom_role_id_beyond_an_int64_is_kept_beside(role_id: int):
    found = tables(UsersPage(page([user(user_roles=[custom(role_id)])])))
    assert found["user_roles"][0]["role_id"] is None
    assert json.loads(found["users"][0]["extra_json"])["user_roles"][0]["role_id"] == role_id


def test_duplicate_keys_in_the_json_mean_the_last_one():
    body = page([user("1", name="first")]).replace(b'"name": "first"', b'"name": "first", "name": "last"')
    assert tables(UsersPage(body))["users"][0]["name"] == "last"


# --- roles ----------------------------------------------------------------------------------------


def test_role_codes_have_the_names_of_the_api_and_unknown_ones_keep_their_own():
    codes = [20, 30, 35, 40, 50, 0, 60]
    roles = [role(code, str(code), role_description=None) for code in codes[:-1]]
    roles.append(role(60, "60", role_description="Guest"))
    rows = tables(UsersPage(page([user(product_roles=roles)])))["user_roles"]
    assert [(row["role_id"], row["role"], row["role_name"], row["role_rank"]) for row in rows] == [
        ("20", "product_owner", "Owner", 20),
        ("30", "contributor", "Contributor", 30),
        ("35", "developer", "Developer", 35),
        ("40", "reviewer", "Reviewer", 40),
        ("50", "viewer", "Viewer", 50),
        ("0", "none", "None", 0),
        ("60", None, "Guest", 60),
    ]


def test_a_workspace_in_which_a_user_has_no_role_does_not_count():
    roles = [role(0, "1"), role(50, "2"), role(20, "2"), role(50, "3")]
    assert land(product_roles=roles, user_roles=[custom(1, 3), custom(1, 4)])["workspace_count"] == 3
    assert land()["workspace_count"] == 0


@pytest.mark.parametrize("key", ["product_roles", "user_roles"])
@pytest.mark.parametrize("value", [MISSING, None, "none"])
def test_a_user_whose_roles_were_not_sent_has_no_count_of_workspaces(key: str, value: Any):
    assert land(**{key: value})["workspace_count"] is None


def test_repeated_roles_land_once_and_are_counted():
    repeated = user(product_roles=[role(20), role(20), role(50)], user_roles=[custom(20), custom(20)])
    made = normalizer()
    pages = [UsersPage(page([user("1"), repeated | {"id": "2"}])), UsersPage(page([repeated | {"id": "3"}]))]
    rows = made.tables(pages)["user_roles"].to_pylist()
    keys = [(r["user_id"], r["role_kind"], r["workspace_id"], r["role_id"]) for r in rows]
    assert len(keys) == len(set(keys)) == 6
    assert made.duplicates_removed == 4


def test_a_custom_role_is_never_taken_for_a_workspace_role_of_the_same_number():
    record = user(product_roles=[role(20, "7")], user_roles=[custom(20, 7), custom(None, 8)])
    record["product_roles"].append(role(None, "8"))
    made = normalizer()
    found = made.tables([UsersPage(page([record]))])
    kinds = [(row["role_kind"], row["workspace_id"], row["role_id"]) for row in found["user_roles"].to_pylist()]
    assert sorted(kinds, key=str) == sorted(
        [("workspace", "7", "20"), ("workspace", "8", None), ("custom", "7", "20"), ("custom", "8", None)], key=str
    )
    assert made.duplicates_removed == 0
    assert found["user_role_summary"].num_rows == 4


def test_names_that_the_list_leaves_null_are_looked_up_and_the_rest_counted_once():
    roles = [role(20, str(n), product_name=None) for n in (1, 2, 3)]
    made = normalizer({"1": "Apollo"})
    pages = [UsersPage(page([user(str(n), product_roles=roles)])) for n in (1, 2)]
    rows = [row for found in pages for row in made.tables([found])["user_roles"].to_pylist()]
    assert [row["workspace_name"] for row in rows] == ["Apollo", None, None] * 2
    assert made.unnamed == {"2", "3"}


def test_a_role_without_a_workspace_is_no_unnamed_workspace():
    made = normalizer()
    made.tables([UsersPage(page([user(product_roles=[role(20, None, product_name=None)])]))])
    assert made.unnamed == set()


def test_a_null_scope_is_a_custom_role_without_a_workspace():
    rows = tables(UsersPage(page([user(user_roles=[custom(5, scope=None)])])))["user_roles"]
    assert [(row["role_id"], row["workspace_id"], row["workspace_name"]) for row in rows] == [("5", None, None)]


def test_the_summary_has_a_row_per_user_and_role_with_its_workspaces():
    roles = [role(20, "1"), role(50, "2"), role(20, "3", product_name=None), role(20, "1")]
    record = user(product_roles=roles, user_roles=[custom(9, 4)])
    rows = tables(UsersPage(page([record, user("9")])))["user_role_summary"]
    assert [(r["role_kind"], r["role_id"], r["workspace_count"], r["workspaces"]) for r in rows] == [
        ("workspace", "20", 2, ["Apollo", "3"]),
        ("workspace", "50", 1, ["Apollo"]),
        ("custom", "9", 1, ["Account"]),
    ]
    assert {r["user_email"] for r in rows} == {record["email"]}


def test_users_without_any_role_make_empty_role_tables_of_the_right_type():
    found = normalizer().tables([UsersPage(page([user("1"), user("2")])), UsersPage(page([]))])
    assert {name: table.num_rows for name, table in found.items()} == {
        "users": 2,
        "user_roles": 0,
        "user_role_summary": 0,
    }


def test_no_users_at_all_make_empty_tables():
    assert all(not table.num_rows for table in normalizer().tables([UsersPage(page([]))]).values())


def test_keys_stay_apart_in_an_account_of_thousands_of_workspaces_and_roles():
    roles = [role(20, str(n)) for n in range(3000)]
    records = [user(str(n), product_roles=roles, user_roles=[custom(n * 3000 + m, m) for m in range(40)])
               for n in range(1, 9)]  # fmt: skip
    made = normalizer()
    found = made.tables([UsersPage(page(records))])
    assert found["user_roles"].num_rows == 8 * 3040
    assert found["user_role_summary"].num_rows == 8 * 41
    assert found["users"]["workspace_count"].to_pylist() == [3000] * 8
    assert made.duplicates_removed == 0


# --- pages ----------------------------------------------------------------------------------------

EMPTY = {"total_records": 0, "total_pages": 0, "current_page": 1}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b" null",
        b"null null",
        b"true",
        b"1",
        b'"users"',
        b"[]",
        b"{}",
        b"{}null",
        b"{}{}",
        b"<html>",
        b"\x00" * 10,
        b'{"users": null, "pagination": {"total_records": 0, "total_pages": 0, "current_page": 1}}',
        b'{"users": [null], "pagination": {"total_records": 1, "total_pages": 1, "current_page": 1}}',
        b'{"users": [1], "pagination": {"total_records": 1, "total_pages": 1, "current_page": 1}}',
        b'{"users": []}',
        b'{"users": [], "pagination": null}',
        b'{"users": [], "pagination": []}',
        b'{"users": [], "pagination": {}}',
        b'{"users": [], "pagination": {"total_records": null, "total_pages": 1, "current_page": 1}}',
        b'{"users": [], "pagination": {"total_records": 1.5, "total_pages": 1, "current_page": 1}}',
        b'{"users": [], "pagination": {"total_records": 1e30, "total_pages": 1, "current_page": 1}}',
        b'{"users": [], "pagination": {"total_records": NaN, "total_pages": 1, "current_page": 1}}',
        b'{"users": [], "pagination": {"total_records": 9999999999999999999, "total_pages": 1, "current_page": 1}}',
        b'{"users": [], "pagination": {"total_records": true, "total_pages": 1, "current_page": 1}}',
        b'{"users": [], "pagination": {"total_records": "many", "total_pages": 1, "current_page": 1}}',
        page([]) + b" trailing",
        page([user(name="XX")]).replace(b"XX", b"\xff\xfe"),
        page([user(name="XX")]).replace(b"XX", b"\\ud800\xff"),
        page([user(name="XX")]).replace(b"XX", b"\x01"),
        page([user("")]),
        page([user("../../x")]),
        page([user("٦٧٧٦")]),
        page([user("1" * 21)]),
        page([user("-7")]),
        page([user() | {"id": -7}]),
        page([user() | {"id": None}]),
        page([user() | {"id": True}]),
        page([user() | {"id": 1.5}]),
        page([user() | {"id": {"value": 1}}]),
        page([user() | {"id": 10**20}]),
        page([user()])[:-20],
        b'{"users":' * 3000,
    ],
)
def test_a_body_that_is_no_page_of_users_is_a_value_error(body: bytes):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are nobody's business, the type is
        UsersPage(body)
    assert not isinstance(caught.value, pa.ArrowException)
    assert "Ada" not in str(caught.value)


@pytest.mark.parametrize("whole", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize(
    ("sent", "landed", "repaired"),
    [
        (b"\\ud83d", "\ufffd", 1),
        (b"\\uDC00!", "\ufffd!", 1),
        (b"\\ud83dx\\udc00", "\ufffdx\ufffd", 2),
        (b"\\ud83d\\ud83d\\ude00", "\ufffd😀", 1),
        (b"\xed\xa0\x80", "\ufffd", 1),
        (b"\\ud83d\\ude00", "😀", 0),
        (b"\\\\ud800", "\\ud800", 0),
        (b"\\\\\\ud800", "\\\ufffd", 1),
        (b"Ada", "Ada", 0),
    ],
)
def test_half_a_character_in_a_name_and_a_byte_order_mark_lose_nobody(
    whole: bytes, sent: bytes, landed: str, repaired: int
):
    body = whole + page([user("1"), user("2", name="XX", email="XX"), user("3")]).replace(b"XX", sent)
    for found in (UsersPage(body), UsersPage.several([body, page([user("4")])])[0]):
        rows = tables(found)["users"]
        assert [(row["id"], row["name"], row["email"]) for row in rows][1] == ("2", landed, landed)
        assert [row["id"] for row in rows] == ["1", "2", "3"]
        assert (found.repaired, dict(found.absent)) == (2 * repaired, {})


def test_half_a_character_in_a_key_that_nobody_knows_is_kept_whole():
    body = page([user(XX=1)]).replace(b"XX", b"\\ud83d")
    assert json.loads(tables(UsersPage(body))["users"][0]["extra_json"]) == {"\ufffd": 1}


@pytest.mark.parametrize("field", ["name", "email", "timezone"])
@pytest.mark.parametrize("extra", [{}, {"teamwork_seat": True}])
def test_a_text_beyond_a_cell_is_no_text_and_takes_no_room(field: str, extra: dict[str, Any]):
    fits = land(**{field: "x" * 1_000_000}, **extra)
    assert len(fits[field]) == 1_000_000
    record = user(**{field: "x" * 1_000_001}, **extra)
    found = UsersPage(page([record]))
    row = tables(found)["users"][0]
    assert row[field] is None
    assert len(row["extra_json"]) < 100
    assert dict(found.absent) == ({"email": 1} if field == "email" else {})


def test_a_role_s_text_beyond_a_cell_is_no_text():
    found = tables(UsersPage(page([user(product_roles=[role(20, product_name="x" * 1_000_001)])])))
    assert (found["user_roles"][0]["role"], found["user_roles"][0]["workspace_name"]) == ("product_owner", None)


@pytest.mark.parametrize("pagination", [EMPTY, [EMPTY], EMPTY | {"current_page": "1"}, EMPTY | {"next": None}])
def test_an_empty_page_is_a_page(pagination: Any):
    found = UsersPage(json.dumps({"users": [], "pagination": pagination}).encode())
    assert (found.ids, found.total_records, found.total_pages, found.number) == ([], 0, 0, 1)


def test_pages_decoded_together_are_those_decoded_alone():
    bodies = [page([user("1"), user("2")], number=1), page([], number=2), page([user("3")], number=3)]
    together = UsersPage.several(bodies)

    assert [found.ids for found in together] == [["1", "2"], [], ["3"]]
    assert [found.number for found in together] == [1, 2, 3]
    assert tables(*together) == tables(*map(UsersPage, bodies))


@pytest.mark.parametrize("change", [lambda body: body[:-20], lambda body: body + body, lambda body: b"null"])
def test_one_body_that_is_no_page_among_several_is_a_value_error(change: Any):
    bodies = [page([user("1")]), change(page([user("2")])), page([user("3")])]
    with pytest.raises(ValueError):  # noqa: PT011 - the words are nobody's business, the type is
        UsersPage.several(bodies)


def test_a_page_knows_its_ids_in_order_and_its_place_in_the_list():
    found = UsersPage(page([user("12"), user("7") | {"id": 7}], number=3, pages=5, total=900))
    assert (found.ids, found.total_records, found.total_pages, found.number) == (["12", "7"], 900, 5, 3)


@pytest.mark.parametrize("name", ["Zoë", "私", "😀", "a\x00b", "\u2028", "x" * 100_000, "\ufeffBOM", "‮rtl"])
@pytest.mark.parametrize("ensure_ascii", [True, False])
@pytest.mark.parametrize("extra", [{}, {"teamwork_seat": True}, {"enabled": "true"}])
def test_names_in_any_script_land_unchanged(name: str, ensure_ascii: bool, extra: dict[str, Any]):
    found = UsersPage(page([user(name=name, email=name, **extra)], ensure_ascii=ensure_ascii))
    row = tables(found)["users"][0]
    assert (row["name"], row["email"], row["is_enabled"]) == (name, name, True)


@pytest.mark.parametrize(
    ("sent", "landed"),
    [
        ("2026-08-31T01:00:00.000+02:00", datetime(2026, 8, 30, 23, tzinfo=NOW.tzinfo)),
        ("2026-08-31T01:00:00.123999Z", datetime(2026, 8, 31, 1, 0, 0, 123_000, tzinfo=NOW.tzinfo)),
        ("2026-08-31T01:00:00", datetime(2026, 8, 31, 1, tzinfo=NOW.tzinfo)),
        ("2026-08-31", datetime(2026, 8, 31, tzinfo=NOW.tzinfo)),
    ],
)
def test_timestamps_in_other_forms_land_in_utc(sent: str, landed: datetime):
    for form in ({}, {"teamwork_seat": False}, {"enabled": "true"}):
        assert land(accessed_at=sent, **form)["accessed_at"] == landed


def test_extracting_never_loads_pandas():
    code = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from fsspec.implementations.local import LocalFileSystem
from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.datasets.extract import extract
from airflow_provider_aha.datasets.names import DATASETS
from airflow_provider_aha.sandbox.testing import SandboxServer
from airflow_provider_aha.store.store import Store
base = Store(LocalFileSystem(), sys.argv[1], sys.argv[1])
with SandboxServer(users=30) as aha:
    with AhaClient(ClientConfig(aha.url, "sandbox", aha.key)) as client:
        for day in (1, 2):
            now = datetime(2026, 9, day, tzinfo=UTC)
            aha.set_fault("unknown_fields", times=1)
            extract(client, base, datasets=DATASETS, connection_id="aha", now=lambda: now)
            aha.account.add_user()
assert "pyarrow" in sys.modules
print(sorted({name.partition(".")[0] for name in sys.modules} & {"pandas", "airflow"}))
"""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", code, folder], capture_output=True, text=True, check=False, timeout=60
        )
    assert done.stdout.strip() == "[]", done.stderr
