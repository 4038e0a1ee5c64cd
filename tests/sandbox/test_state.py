"""Writes change what later reads show, by the API's rules."""

from __future__ import annotations

import pytest

from airflow_provider_aha.sandbox.account import Account
from airflow_provider_aha.sandbox.exchange import NotFoundError
from airflow_provider_aha.sandbox.testing import SandboxServer


def somebody(api):
    """Find a user whom a test may change: no administrator, owner of no key, in a seat group."""
    return next(
        user
        for user in api.users()[10:]
        if user["enabled"] and not user["administrator"] and "paid_seat_group" in user and user["product_roles"]
    )


def put(api, user_id, **fields):
    return api.put(f"/users/{user_id}", json={"user": fields})


def read(api, user_id):
    return api.get(f"/users/{user_id}").json()["user"]


def seats(api):
    return {g["id"]: g["allocated_seats"] for g in api.get("/paid_seat_groups").json()["paid_seat_groups"]}


# --- PUT /users/:id ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [False, "false", "False"])
def test_disabling_shows_everywhere_and_keeps_seat_and_roles(api, value):
    before = somebody(api)
    answer = put(api, before["id"], enabled=value).json()
    assert answer["enabled"] is False
    assert answer["paid_seat"] is True
    assert answer["product_roles"] == before["product_roles"]
    assert read(api, before["id"])["enabled"] is False
    listed = next(user for user in api.users() if user["id"] == before["id"])
    changed = {key for key in before if before[key] != listed[key]}
    assert changed == {"enabled", "updated_at"}


@pytest.mark.parametrize("value", [True, "true"])
def test_enabling_again(api, value):
    user_id = somebody(api)["id"]
    put(api, user_id, enabled=False)
    assert put(api, user_id, enabled=value).json()["enabled"] is True


def test_an_update_bumps_updated_at_even_when_nothing_changes():
    account = Account.generate(20, clock=lambda: 1_800_000_000.0)
    user_id = account.user_ids[10]
    stamps = [account.update_user(user_id, {})["updated_at"] for _ in range(3)]
    assert stamps == ["2027-01-15T08:00:00.000Z", "2027-01-15T08:00:00.001Z", "2027-01-15T08:00:00.002Z"]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"first_name": "Ada"}, "Ada Van der Berg"),
        ({"last_name": "Lovelace"}, "Grace Lovelace"),
        ({"first_name": "Ada", "last_name": "Lovelace"}, "Ada Lovelace"),
        ({"name": "Ignored", "paid_seat": False, "timezone": "UTC"}, "Grace Van der Berg"),
    ],
)
def test_names_are_put_together(api, fields, name):
    user_id = api.server.account.user_ids[30]
    before = api.server.account.edit_user(user_id, name="Grace Van der Berg", timezone="Asia/Tokyo")
    answer = put(api, user_id, **fields).json()
    assert answer["name"] == name
    assert answer["timezone"] == "Asia/Tokyo"
    assert answer["paid_seat"] is before["paid_seat"]


def test_administrator_sets_all_three_rights(api):
    user_id = somebody(api)["id"]
    assert set(put(api, user_id, administrator="true").json()["administrator_roles"].values()) == {True}
    answer = put(api, user_id, administrator=False).json()
    assert set(answer["administrator_roles"].values()) == {False}
    assert answer["administrator"] is False


def test_one_right_makes_an_administrator_and_none_unmakes(api):
    user_id = somebody(api)["id"]
    answer = put(api, user_id, administrator_roles={"administer_billing": "true"}).json()
    assert answer["administrator"] is True
    assert answer["administrator_roles"] == {
        "administer_account": False,
        "administer_billing": True,
        "administer_configuration": False,
    }
    assert put(api, user_id, administrator_roles={"administer_billing": False}).json()["administrator"] is False


def test_an_email_can_be_changed_and_found(api):
    before = somebody(api)
    assert put(api, before["id"], email="new.address@example.com").status_code == 200
    assert [user["id"] for user in api.users(email="New.Address@example.com")] == [before["id"]]
    assert api.users(email=before["email"]) == []
    assert put(api, before["id"], email="NEW.address@example.com").status_code == 200, "its own, in another case"


@pytest.mark.parametrize(
    "fields",
    [
        {"email": "not an address"},
        {"email": ""},
        {"email": None},
        {"email": "taken"},
        {"enabled": "maybe"},
        {"enabled": None},
        {"first_name": None},
        {"administrator": "yes please"},
        {"administrator_roles": {"administer_billing": "?"}},
        {"administrator_roles": ["administer_billing"]},
    ],
)
def test_invalid_values_change_nothing(api, valid, fields):
    before = somebody(api)
    if fields == {"email": "taken"}:
        fields = {"email": api.users()[20]["email"].upper()}
    answer = put(api, before["id"], enabled=False, **fields) if "enabled" not in fields else put(
        api, before["id"], **fields
    )  # fmt: skip
    assert answer.status_code == 422
    valid("error", answer.json())
    assert next(user for user in api.users() if user["id"] == before["id"]) == before


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"users": {}}', b'{"user": []}', b'{"user": null}'])
def test_malformed_bodies(api, valid, body):
    answer = api.put(f"/users/{somebody(api)['id']}", data=body)
    assert answer.status_code == 400
    valid("error", answer.json())


# --- seats ---------------------------------------------------------------------------------------


def test_seats_of_a_group_are_the_enabled_paid_users_in_it(api):
    expected = dict.fromkeys(seats(api), 0)
    for user in api.users():
        if "paid_seat_group" in user and user["enabled"] and user["paid_seat"]:
            expected[user["paid_seat_group"]["id"]] += 1
    assert seats(api) == expected
    assert all(expected.values())


def test_disabling_frees_a_seat_and_enabling_takes_it(api):
    user = somebody(api)
    group, before = user["paid_seat_group"]["id"], seats(api)
    put(api, user["id"], enabled=False)
    put(api, user["id"], enabled=False)
    assert seats(api) == before | {group: before[group] - 1}
    put(api, user["id"], enabled=True)
    assert seats(api) == before


def test_removing_a_user_frees_its_seat(api):
    user = somebody(api)
    group, before = user["paid_seat_group"]["id"], seats(api)
    api.server.account.remove_user(user["id"])
    assert seats(api)[group] == before[group] - 1
    assert api.get(f"/users/{user['id']}").status_code == 404


def test_a_user_moves_out_of_a_group_and_in_again(api):
    user = somebody(api)
    group, before = user["paid_seat_group"]["id"], seats(api)
    path = f"/paid_seat_groups/{group}/modify_user"
    for body, expected in (
        ({"user_id": int(user["id"]), "remove": True}, before[group] - 1),
        ({"user_id": user["id"], "remove": "true"}, before[group] - 1),
        ({"user_id": user["id"], "remove": None}, before[group]),
        ({"user_id": user["id"]}, before[group]),
    ):
        assert api.post(path, json=body).json()["allocated_seats"] == expected
    assert next(u for u in api.users() if u["id"] == user["id"]) == user
    assert api.post(path, json={"user_id": "1"}).status_code == 404


def test_a_full_group_takes_nobody(api):
    group, taken = next(iter(seats(api).items()))
    outside = next(user for user in api.users() if "paid_seat_group" not in user and user["paid_seat"])
    assert api.put(f"/paid_seat_groups/{group}", json={"capacity": taken}).json()["capacity"] == taken
    answer = api.post(f"/paid_seat_groups/{group}/modify_user", json={"user_id": outside["id"]})
    assert answer.status_code == 422
    assert "paid_seat_group" not in next(user for user in api.users() if user["id"] == outside["id"])


@pytest.mark.parametrize(
    "body", [{"capacity": -1}, {"capacity": "9"}, {"capacity": 0}, {"capacity": True}, {"name": " "}]
)
def test_a_group_refuses_what_makes_no_sense(api, body):
    group = next(iter(seats(api)))
    assert api.put(f"/paid_seat_groups/{group}", json=body).status_code == 422


# --- roles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "number"),
    [("product_owner", 20), ("contributor", 30), ("reviewer", 40), ("viewer", 50), ("none", 0)],
)
def test_a_role_is_set_in_place_of_the_one_there_and_taken_away(api, role, number):
    user_id = somebody(api)["id"]
    path = f"/users/{user_id}/product_roles"
    before = len(api.get(path).json()["product_roles"])
    workspace = api.get("/products/LAB").json()["product"]["id"]
    for body in ({"role": "viewer", "product_id": "LAB"}, {"role": role, "product_id": workspace}):
        assert api.post(path, json={"product_role": body}).status_code == 200
    here = [r for r in api.get(path).json()["product_roles"] if r["product_id"] == workspace]
    assert [entry["role"] for entry in here] == [number]
    members = api.get("/products/LAB/users?per_page=200").json()["project_users"]
    assert (user_id, number) in {(row["user"]["id"], row["role"]) for row in members}
    gone = api.delete(f"{path}/LAB")
    assert (gone.status_code, gone.content) == (204, b"")
    assert len(api.get(path).json()["product_roles"]) in (before, before - 1)
    assert api.delete(f"{path}/LAB").status_code == 404
    members = api.get("/products/LAB/users?per_page=200").json()["project_users"]
    assert user_id not in {row["user"]["id"] for row in members}


def test_a_role_in_a_workspace_that_the_key_cannot_see_has_no_name(api):
    user_id = somebody(api)["id"]
    answer = api.post(
        f"/users/{user_id}/product_roles", json={"product_role": {"role": "viewer", "product_id": "MNA"}}
    )
    assert answer.json()["product_name"] is None


def test_roles_that_nobody_can_have(api):
    path = f"/users/{somebody(api)['id']}"
    for role in ("owner", 20, None, ["viewer"]):
        body = {"product_role": {"role": role, "product_id": "APP"}}
        assert api.post(f"{path}/product_roles", json=body).status_code == 422
    missing = {"product_role": {"role": "viewer", "product_id": "NOPE"}}
    assert api.post(f"{path}/product_roles", json=missing).status_code == 404
    unknown = {"user_role": {"custom_role_id": 1, "product_id": "APP"}}
    assert api.post(f"{path}/user_roles", json=unknown).status_code == 422


def test_a_custom_role_is_set_and_taken_away(api):
    user = somebody(api)
    path = f"/users/{user['id']}/user_roles"
    for role in (6_100_000_000_000_000_901, "6100000000004195202"):
        body = {"user_role": {"custom_role_id": role, "product_id": "LAB"}}
        assert api.post(path, json=body).status_code == 200
    here = [role for role in api.get(path).json()["user_roles"] if role["scope"]["name"] == "Innovation lab"]
    assert [role["name"] for role in here] == ["Ideas moderator"]
    assert here[0] in next(u for u in api.users() if u["id"] == user["id"])["user_roles"]
    assert api.delete(f"{path}/LAB").status_code == 204
    assert api.get(path).json()["user_roles"] == user["user_roles"]


# --- new users -----------------------------------------------------------------------------------


def person(**fields):
    return {
        "user": {"first_name": "Sam", "last_name": "Doe", "email": "sam@example.com", "role": "viewer"} | fields
    }


@pytest.mark.parametrize(("role", "paid"), [("product_owner", True), ("contributor", True), ("viewer", False)])
def test_a_new_user_comes_last_and_pays_by_its_role(api, valid, role, paid):
    created = api.post("/products/APP/users", json=person(role=role)).json()["user"]
    last = api.users()[-1]
    assert (last["id"], last["name"], last["email"]) == (created["id"], "Sam Doe", "sam@example.com")
    assert (last["paid_seat"], last["enabled"], last["accessed_at"]) == (paid, True, None)
    assert last["identity_provider"] == {"type": "password"}
    assert len(last["product_roles"]) == 1
    valid("listed_user", last)
    assert api.get("/users").json()["pagination"]["total_records"] == 121


def test_a_new_user_with_single_sign_on(api):
    provider = api.get("/identity_providers").json()["identity_providers"][1]
    body = person(identity_provider_id=int(provider["id"]))
    assert api.post("/products/APP/users", json=body).status_code == 200
    assert api.users()[-1]["identity_provider"] == {"type": "saml", "name": provider["name"]}


def test_users_that_cannot_be_made(api):
    taken = api.users()[20]["email"]
    for fields in (
        {"email": taken},
        {"email": "nonsense"},
        {"email": None},
        {"first_name": ""},
        {"last_name": " "},
        {"role": "king"},
        {"identity_provider_id": 1},
    ):
        assert api.post("/products/APP/users", json=person(**fields)).status_code == 422, fields
    assert api.post("/products/NOPE/users", json=person()).status_code == 404
    assert len(api.users()) == 120


# --- the state in tests --------------------------------------------------------------------------


def test_state_can_be_changed_from_a_test(api):
    account = api.server.account
    user_id = account.user_ids[40]
    account.edit_user(user_id, accessed_at=None, enabled=False)
    added = account.add_user(name="Late Comer", accessed_at="2026-01-01T00:00:00.000Z")
    users = {user["id"]: user for user in api.users()}
    assert (users[user_id]["accessed_at"], users[user_id]["enabled"]) == (None, False)
    assert users[added["id"]] == added
    assert list(users) == account.user_ids
    assert [user["id"] for user in account.users()] == account.user_ids


def test_copies_are_handed_out(sandbox):
    user_id = sandbox.account.user_ids[10]
    sandbox.account.user(user_id)["product_roles"].append("oops")
    sandbox.account.user(user_id)["administrator_roles"]["administer_account"] = "oops"
    assert "oops" not in str(sandbox.account.user(user_id))


def test_unknown_users_are_refused(sandbox):
    for call in (sandbox.account.user, sandbox.account.edit_user, sandbox.account.remove_user):
        with pytest.raises(NotFoundError):
            call("1")
    with pytest.raises(ValueError, match="taken"):
        sandbox.account.add_user(id=sandbox.account.user_ids[0])


def test_two_servers_share_no_state():
    with SandboxServer(users=10) as one, SandboxServer(users=10) as other:
        user_id = one.account.user_ids[5]
        one.account.edit_user(user_id, name="Changed")
        assert other.account.user(user_id)["name"] != "Changed"
        assert one.port != other.port
