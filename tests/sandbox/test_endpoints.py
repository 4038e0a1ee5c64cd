"""The API's answers, over a real socket, against schemas written from the documented samples."""

from __future__ import annotations

from typing import Any

import pytest

USER_KEYS = ["id", "name", "email", "timezone", "created_at", "updated_at", "accessed_at", "product_roles"]


def first_with(api, wanted) -> dict[str, Any]:
    return next(user for user in api.users() if wanted(user))


def plain(user) -> bool:
    """Say whether a test may change a user: no administrator, owner of no key."""
    return user["enabled"] and not user["administrator"] and user["paid_seat"]


# --- shapes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/users", "users_list"),
        ("/users?per_page=200", "users_list"),
        ("/users?page=99", "users_list"),
        ("/users/{user}", "user_get"),
        ("/users/{user}/product_roles", "product_roles_list"),
        ("/users/{user}/user_roles", "user_roles_list"),
        ("/me", "me"),
        ("/products", "products_list"),
        ("/products?include_teams=true", "products_list"),
        ("/products/APP", "product_get"),
        ("/products/ACME", "product_get"),
        ("/products/APP/users", "product_users_list"),
        ("/paid_seat_groups", "seat_groups_list"),
        ("/identity_providers", "identity_providers_list"),
        ("/identity_providers/{provider}", "identity_provider_get"),
        ("/audits", "audits_list"),
    ],
)
def test_reads_are_as_documented(api, valid, path, schema):
    with_custom_role = first_with(api, lambda user: user["user_roles"])
    provider = api.server.account.identity_providers[0]
    answer = api.get(path.format(user=with_custom_role["id"], provider=provider["id"]))
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    valid(schema, answer.json())


def test_writes_are_as_documented(api, valid):
    user = first_with(api, lambda user: plain(user) and not user["product_roles"])
    one_user = f"/users/{user['id']}"
    group = api.server.account.seat_groups()[0]["id"]
    viewer = {"role": "viewer", "product_id": "APP"}
    seat = {"user_id": int(user["id"]), "remove": None}
    custom = {"custom_role_id": 6_100_000_000_000_000_901, "product_id": "APP"}
    person = {"first_name": "Sam", "last_name": "Doe", "email": "sam@example.com", "role": "product_owner"}
    for method, path, body, schema in (
        ("PUT", one_user, {"user": {"first_name": "Sam"}}, "user_put"),
        ("POST", f"{one_user}/product_roles", {"product_role": viewer}, "product_role"),
        ("POST", f"{one_user}/user_roles", {"user_role": custom}, "user_role"),
        ("POST", "/products/APP/users", {"user": person}, "member"),
        ("PUT", f"/paid_seat_groups/{group}", {"name": "Renamed", "capacity": 99}, "seat_group"),
        ("POST", f"/paid_seat_groups/{group}/modify_user", seat, "seat_group"),
    ):  # fmt: skip
        answer = api.request(method, path, json=body)
        assert answer.status_code == 200, (path, answer.text)
        valid(schema, answer.json())


def test_keys_come_in_the_documented_order(api):
    user = api.get("/users").json()["users"][0]
    assert list(user)[: len(USER_KEYS)] == USER_KEYS
    assert list(user)[-1] == "identity_provider"


def test_one_user_and_an_updated_one_lack_what_the_list_has(api):
    user = first_with(api, lambda user: plain(user) and user["user_roles"])
    user_id = user["id"]
    api.server.account.edit_user(user_id, paid_seat_group={"id": "6100000000000000401", "name": "Engineering"})
    listed = first_with(api, lambda user: user["id"] == user_id)
    read = api.get(f"/users/{user_id}").json()["user"]
    updated = api.put(f"/users/{user_id}", json={"user": {}}).json()
    assert set(listed) - set(read) == {"user_roles", "paid_seat_group"}
    assert set(read) - set(updated) == {"roadmaps_seat", "develop_seat"}


# --- pages ---------------------------------------------------------------------------------------


def test_pages_cover_all_users_once_and_in_order(api):
    seen = []
    for page in range(1, 6):
        body = api.get("/users", params={"page": page, "per_page": 25}).json()
        assert body["pagination"] == {"total_records": 120, "total_pages": 5, "current_page": page}
        seen += [int(user["id"]) for user in body["users"]]
    assert len(seen) == 120
    assert seen == sorted(set(seen))


@pytest.mark.parametrize(
    ("asked", "served"), [(None, 30), ("1", 1), ("200", 120), ("201", 120), ("0", 1), ("-5", 30), ("x", 30)]
)
def test_page_size_is_clamped(api, asked, served):
    params = {} if asked is None else {"per_page": asked}
    assert len(api.get("/users", params=params).json()["users"]) == served


def test_a_page_behind_the_last_is_empty(api):
    body = api.get("/users", params={"page": 9, "per_page": 100}).json()
    assert body == {"users": [], "pagination": {"total_records": 120, "total_pages": 2, "current_page": 9}}


@pytest.mark.parametrize("page", ["0", "-1", "abc", "", "1.5", "²"])
def test_a_page_that_is_no_number_is_the_first(api, page):
    assert api.get("/users", params={"page": page}).json()["pagination"]["current_page"] == 1


# --- filters -------------------------------------------------------------------------------------


def test_email_filter_is_exact_whatever_the_case(api):
    user = api.users()[20]
    assert [u["id"] for u in api.users(email=user["email"].upper())] == [user["id"]]
    assert api.users(email=user["email"][:-1]) == []
    assert len(api.users(email="")) == 120


def test_email_filter_finds_both_users_of_a_person(api):
    password, single_sign_on = api.users()[49:51]
    found = api.users(email=password["email"])
    assert [user["id"] for user in found] == [password["id"], single_sign_on["id"]]
    assert len({user["identity_provider"]["type"] for user in found}) == 2


def test_products_filters(api):
    prefixes = {row["reference_prefix"] for row in api.get("/products?per_page=200").json()["products"]}
    with_teams = api.get("/products?per_page=200&include_teams=true").json()["products"]
    assert {row["reference_prefix"] for row in with_teams} - prefixes == {"TEAM"}
    latest = max(row["created_at"] for row in with_teams)
    since = api.get("/products", params={"updated_since": latest, "include_teams": "true"}).json()["products"]
    assert [row["reference_prefix"] for row in since] == ["TEAM"]


def test_audits_filters(api):
    rows = api.get("/audits?per_page=200").json()["audits"]
    actor, middle = rows[3]["user"]["id"], rows[30]
    for query, wanted in (
        ({"user_id": actor}, lambda row: row["user"]["id"] == actor),
        ({"audit_action": "create"}, lambda row: row["audit_action"] == "create"),
        ({"auditable_id": middle["auditable_id"]}, lambda row: row is middle),
        ({"created_since": middle["created_at"]}, lambda row: row["created_at"] >= middle["created_at"]),
        ({"created_before": middle["created_at"]}, lambda row: row["created_at"] < middle["created_at"]),
        ({"after_id": middle["id"]}, lambda row: int(row["id"]) > int(middle["id"])),
    ):
        found = api.get("/audits", params={"per_page": 200, **query}).json()["audits"]
        assert found == [row for row in rows if wanted(row)]
        assert 0 < len(found) < len(rows)


# --- who may what --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic c2FuZGJveC1rZXk6", "sandbox-key"]
)
def test_without_a_valid_key_there_is_an_html_page(api, header):
    answer = api.get("/users", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.text.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/users", 403),
        ("/users/1", 403),
        ("/users/1/product_roles", 403),
        ("/paid_seat_groups", 403),
        ("/identity_providers", 403),
        ("/me", 200),
        ("/products", 200),
        ("/products/APP/users", 200),
        ("/audits", 200),
    ],
)
def test_what_somebody_without_administrator_rights_may_see(api, valid, path, status):
    answer = api.get(path, headers={"Authorization": f"Bearer {api.server.viewer_key}"})
    assert answer.status_code == status
    if status == 403:
        valid("error", answer.json())


def test_the_key_of_a_disabled_user_stops_working(api):
    owner = api.get("/me").json()["user"]["id"]
    assert api.put(f"/users/{owner}", json={"user": {"enabled": False}}).status_code == 200
    assert api.get("/me").status_code == 401


def test_the_key_of_a_removed_user_stops_working(api):
    api.server.account.remove_user(api.server.account.user_ids[0])
    assert api.get("/me").status_code == 401


def test_a_key_without_administrator_rights_any_more_is_refused(api):
    owner = api.get("/me").json()["user"]["id"]
    api.put(f"/users/{owner}", json={"user": {"administrator": False}})
    assert api.get("/users").status_code == 403


def test_me_names_the_owner_of_the_key_and_the_account(api):
    user = api.get("/me").json()["user"]
    assert user["id"] == api.server.account.user_ids[0]
    assert user["accounts"][0]["account"]["domain"] == "sandbox"
    assert all(role["product_name"] for role in user["product_roles"])


# --- names of workspaces -------------------------------------------------------------------------


def test_some_names_must_be_looked_up_and_some_are_nowhere(api):
    named, unnamed = {}, set()
    for user in api.users():
        for role in user["product_roles"]:
            if role["product_name"] is None:
                unnamed.add(role["product_id"])
            else:
                named[role["product_id"]] = role["product_name"]
    listed = {
        row["id"]: row["name"] for row in api.get("/products?per_page=200&include_teams=true").json()["products"]
    }
    assert named.items() <= listed.items()
    assert unnamed & set(listed), "names that only the list of products has"
    assert unnamed - set(listed), "names that nothing has"
    assert not unnamed & set(named)


def test_a_hidden_workspace_is_not_found(api):
    hidden = next(workspace for workspace in api.server.account.workspaces if not workspace.listed)
    assert api.get(f"/products/{hidden.id}").status_code == 404
    assert api.get(f"/products/{hidden.id}/users").status_code == 404


def test_members_of_a_workspace_are_those_with_a_role_there(api):
    workspace = api.get("/products/APP").json()["product"]["id"]
    members = api.get(f"/products/{workspace}/users?per_page=200").json()["project_users"]
    expected = [
        (user["id"], role["role"])
        for user in api.users()
        for role in user["product_roles"]
        if role["product_id"] == workspace
    ]
    assert [(row["user"]["id"], row["role"]) for row in members] == expected
    assert expected


# --- what is not there ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/users/{user}"),
        ("PATCH", "/users/{user}"),
        ("POST", "/users"),
        ("GET", "/users/1"),
        ("PUT", "/users/1"),
        ("GET", "/users/someone@example.com"),
        ("GET", "/users/1/product_roles"),
        ("DELETE", "/users/{user}/product_roles/NOPE"),
        ("DELETE", "/users/{user}/user_roles/APP"),
        ("GET", "/products/NOPE"),
        ("GET", "/products/NOPE/users"),
        ("PUT", "/paid_seat_groups/1"),
        ("POST", "/paid_seat_groups/1/modify_user"),
        ("GET", "/identity_providers/1"),
        ("GET", "/nothing"),
    ],
)
def test_not_found(api, valid, method, path):
    user = first_with(api, lambda user: not user["user_roles"])
    answer = api.request(method, path.format(user=user["id"]), json={"user": {}})
    assert answer.status_code == 404
    valid("error", answer.json())
    assert user["id"] in api.server.account


def test_a_slash_at_the_end_is_fine(api):
    assert api.get("/users/").json() == api.get("/users").json()


def test_every_answer_says_that_it_is_a_sandbox_and_what_the_limits_are(api):
    for path in ("/me", "/nothing", "/users/1"):
        headers = api.get(path).headers
        assert headers["X-Aha-Sandbox"] == "1"
        assert headers["X-Request-Id"].startswith("request-")
        assert all(f"X-Ratelimit-{name}" in headers for name in ("Limit", "Remaining", "Reset"))
    for path in ("/_sandbox/state", "/_sandbox/nothing"):
        assert api.get(path).headers["X-Aha-Sandbox"] == "1"
