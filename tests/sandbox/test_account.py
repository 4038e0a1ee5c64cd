"""Accounts: the same one for the same seed, as people are, of any size, or given."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_aha.sandbox import names
from airflow_provider_aha.sandbox.account import ADMIN_KEY, VIEWER_KEY, Account
from airflow_provider_aha.sandbox.setting import iso
from airflow_provider_aha.sandbox.testing import SandboxServer

AS_OF = datetime(2026, 6, 1, tzinfo=UTC)


def body(account: Account) -> bytes:
    return account.encoded_users(account.user_ids)


@pytest.fixture(scope="module")
def crowd():
    return json.loads(body(Account.generate(4000, as_of=AS_OF)))


# --- the same for the same seed ------------------------------------------------------------------


def test_the_same_seed_makes_the_same_bytes():
    first, second = (Account.generate(300, seed=7, as_of=AS_OF) for _ in range(2))
    assert body(first) == body(second)
    assert body(first) != body(Account.generate(300, seed=8, as_of=AS_OF))


def test_the_bytes_are_the_same_on_every_version_of_python():
    digest = hashlib.sha256(body(Account.generate(300, as_of=AS_OF))).hexdigest()
    assert digest == "60e3154ffffbc77ff39efa9f55574b149caf368fc2d010b89634cff8645a15f8"


def test_the_time_moves_with_the_account():
    now, later = (Account.generate(50, as_of=AS_OF + timedelta(days=days)) for days in (0, 10))
    for before, after in zip(now.users(), later.users(), strict=True):
        for key in ("created_at", "updated_at", "accessed_at"):
            if before[key]:
                moved = datetime.fromisoformat(after[key]) - datetime.fromisoformat(before[key])
                assert abs(moved - timedelta(days=10)) < timedelta(seconds=1)


def test_now_is_cut_to_the_day():
    noon = Account.generate(20, clock=lambda: AS_OF.timestamp() + 12 * 3600)
    assert body(noon) == body(Account.generate(20, as_of=AS_OF))


@given(st.integers(0, 4_102_444_800_000))
def test_times_are_written_as_aha_does(milliseconds):
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC) + timedelta(milliseconds=milliseconds % 1000)
    assert iso(milliseconds) == moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- as people are -------------------------------------------------------------------------------


def share(users, wanted) -> float:
    return sum(map(bool, map(wanted, users))) / len(users)


def absent(user):
    seen = user["accessed_at"]
    return None if seen is None else (AS_OF - datetime.fromisoformat(seen)).days


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0.08, 0.12, lambda user: not user["enabled"]),
        (0.06, 0.11, lambda user: user["accessed_at"] is None),
        (0.54, 0.66, lambda user: user["enabled"] and absent(user) is not None and absent(user) < 30),
        (0.04, 0.12, lambda user: user["enabled"] and absent(user) in range(30, 60)),
        (0.03, 0.10, lambda user: user["enabled"] and absent(user) in range(60, 90)),
        (0.04, 0.12, lambda user: user["enabled"] and (absent(user) or 0) >= 90),
        (0.01, 0.03, lambda user: user["administrator"]),
        (0.12, 0.18, lambda user: not user["paid_seat"]),
        (0.25, 0.36, lambda user: user["identity_provider"]["type"] == "password"),
        (0.25, 0.45, lambda user: "paid_seat_group" in user),
        (0.03, 0.07, lambda user: user["user_roles"]),
        (0.02, 0.12, lambda user: not user["product_roles"]),
        (0.10, 0.60, lambda user: not user["name"].isascii()),
        (0.30, 0.70, lambda user: any(role["product_name"] is None for role in user["product_roles"])),
    ],
)
def test_shares(crowd, low, high, wanted):
    assert low <= share(crowd, wanted) <= high


def test_roles(crowd):
    assert 3.2 <= sum(len(user["product_roles"]) for user in crowd) / len(crowd) <= 3.8
    assert {role["role"] for user in crowd for role in user["product_roles"]} == {20, 30, 35, 40, 50, 0}
    for user in crowd:
        workspaces = [role["product_id"] for role in user["product_roles"]]
        assert len(workspaces) == len(set(workspaces))
        if not user["paid_seat"]:
            assert not {20, 30, 35} & {role["role"] for role in user["product_roles"]}


def test_administrators_have_different_rights(crowd):
    rights = {tuple(user["administrator_roles"].values()) for user in crowd}
    assert len(rights) == 5
    for user in crowd:
        assert user["administrator"] == any(user["administrator_roles"].values())
    assert any(user["administrator"] and not user["enabled"] for user in crowd)


def test_ids_have_19_digits_and_ascend_with_time(crowd):
    ids = [user["id"] for user in crowd]
    assert {len(user_id) for user_id in ids} == {19}
    assert ids == sorted(set(ids))
    created = [user["created_at"] for user in crowd]
    assert created == sorted(created)
    for user in crowd:
        assert user["created_at"] <= user["updated_at"] <= iso(int(AS_OF.timestamp() * 1000))
        assert user["accessed_at"] is None or user["created_at"] <= user["accessed_at"]


def test_some_people_have_two_users(crowd):
    times = Counter(user["email"].casefold() for user in crowd)
    pairs = [email for email, count in times.items() if count == 2]
    assert len(pairs) == 41
    assert max(times.values()) == 2
    assert any(user["email"] != user["email"].casefold() for user in crowd)
    for email in pairs:
        kinds = [user["identity_provider"]["type"] for user in crowd if user["email"].casefold() == email]
        assert sorted(kinds) == ["password", "saml"]


def test_hostile_names_are_in_every_account_of_some_size():
    present = {user["name"] for user in Account.generate(50).users()}
    assert {name for name, _ in names.HOSTILE_NAMES} <= present


def test_workspaces():
    account = Account.generate(1)
    lines = [workspace for workspace in account.workspaces if workspace.listing["product_line"]]
    teams = [workspace for workspace in account.workspaces if workspace.team]
    assert (len(account.workspaces), len(lines), len(teams)) == (47, 6, 1)
    assert {w.prefix for w in account.workspaces if not w.named and w.listed} == names.UNNAMED_WORKSPACES
    assert {w.prefix for w in account.workspaces if not w.listed} == names.HIDDEN_WORKSPACES
    ids = [int(workspace.id) for workspace in account.workspaces]
    assert ids == sorted(set(ids))


# --- of any size ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 51])
def test_small_accounts(valid, size):
    account = Account.generate(size)
    assert len(account) == len(account.user_ids) == size
    for user in account.users():
        valid("listed_user", user)
    rights = [(account.owner(key) or {})["administrator"] for key in (ADMIN_KEY, VIEWER_KEY)]
    assert rights == [True, False]
    assert len({group["id"] for group in account.seat_groups()}) == 3


def test_an_empty_account_is_served(valid, connect):
    with SandboxServer(users=0) as server, connect(server) as api:
        answer = api.get("/users").json()
        assert answer == {"users": [], "pagination": {"total_records": 0, "total_pages": 0, "current_page": 1}}
        valid("me", api.get("/me").json())
        assert api.get("/audits").json()["audits"] == []
        assert api.get("/users?email=a@example.com").json()["users"] == []
        valid("seat_groups_list", api.get("/paid_seat_groups").json())
        created = api.post(
            "/products/APP/users",
            json={"user": {"first_name": "A", "last_name": "B", "email": "a@example.com", "role": "viewer"}},
        )
        assert [user["id"] for user in api.users()] == [created.json()["user"]["id"]]


def test_the_owner_of_the_key_is_not_the_last_administrator():
    account = Account.generate(500)
    full = [u for u in account.users() if u["enabled"] and all(u["administrator_roles"].values())]
    assert account.keys[ADMIN_KEY] in {user["id"] for user in full}
    assert len(full) > 1


def test_a_negative_size_is_refused():
    with pytest.raises(ValueError, match="-1 users"):
        Account.generate(-1)


def test_200_000_users():
    account = Account.generate(200_000)
    page = json.loads(account.encoded_users(account.user_ids[199_800:]))
    assert len(account) == len(set(account.user_ids)) == 200_000
    assert [user["id"] for user in page] == account.user_ids[199_800:]
    assert account.find_by_email(page[0]["email"]) == [page[0]["id"]]


def test_users_take_little_memory():
    tracemalloc.start()
    try:
        account = Account.generate(20_000)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(account) == 20_000
    assert kept / 20_000 < 400, "bytes per user, before anybody has read them"


def test_users_are_written_ahead():
    account = Account.generate(20)
    account.warm()
    expected = body(Account.generate(20))
    assert body(account) == expected
    account.edit_user(account.user_ids[3], name="Changed")
    assert body(account) != expected


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 400), st.integers(-(2**63), 2**63), st.integers(1, 200))
def test_pages_of_any_account_are_complete(size, seed, per_page):
    account = Account.generate(size, seed=seed)
    ids = account.user_ids
    pages = [json.loads(account.encoded_users(ids[at : at + per_page])) for at in range(0, size, per_page)]
    assert [user["id"] for page in pages for user in page] == ids
    assert all(user["id"] in account.find_by_email(user["email"]) for page in pages[:1] for user in page)


# --- given ---------------------------------------------------------------------------------------

GIVEN: list[dict[str, Any]] = [
    {"id": "30", "name": "Z", "email": "z@example.com", "enabled": True, "extra": {"kept": [1, None]}},
    {"id": "4", "name": None, "email": None, "enabled": True, "administrator": False, "product_roles": []},
]


def test_given_users_are_served_as_they_are(tmp_path, connect):
    file = tmp_path / "account.json"
    file.write_text(json.dumps({"users": GIVEN, "pagination": {}}))
    for account in (Account.from_users(GIVEN), Account.from_json(file)):
        with SandboxServer(account=account) as server, connect(server) as api:
            assert api.users() == GIVEN
            assert api.get("/me").status_code == 200
            assert api.get("/products").json()["products"] == []


def test_given_users_can_be_updated_and_keep_their_keys(connect):
    account = Account.from_users(GIVEN)
    with SandboxServer(account=account) as server, connect(server) as api:
        assert api.put("/users/30", json={"user": {"enabled": False}}).json()["extra"] == GIVEN[0]["extra"]
        assert api.users()[0].keys() - GIVEN[0].keys() == {"updated_at"}
    assert GIVEN[0]["enabled"] is True


def test_workspaces_of_given_users_are_found(connect):
    roles = [
        {"role": 20, "role_description": "Owner", "product_id": "1", "product_name": "One"},
        {"role": 20, "role_description": "Owner", "product_id": "2", "product_name": None},
    ]
    with (
        SandboxServer(account=Account.from_users([{"id": "5", "product_roles": roles}])) as server,
        connect(server) as api,
    ):
        assert [row["name"] for row in api.get("/products").json()["products"]] == ["One"]
        assert [row["user"]["id"] for row in api.get("/products/1/users").json()["project_users"]] == ["5"]
        assert api.get("/products/2").status_code == 404


@pytest.mark.parametrize(
    ("users", "message"),
    [([{"name": "x"}], "position 0 has no id"), ([{"id": "1"}, {"id": 1}], "id 1 is given to more than one")],
)
def test_given_users_need_ids(users, message):
    with pytest.raises(ValueError, match=message):
        Account.from_users(users)


@pytest.mark.parametrize("text", ["[]", "{}", '{"users": 1}', "nonsense"])
def test_a_file_without_users_is_refused(tmp_path, text):
    file = tmp_path / "account.json"
    file.write_text(text)
    with pytest.raises(ValueError):  # noqa: PT011
        Account.from_json(file)


# --- keys ----------------------------------------------------------------------------------------


def test_keys_can_be_chosen(connect):
    account = Account.generate(10)
    keys = {"third": account.user_ids[2]}
    with SandboxServer(account=account, key="a/b+c%", viewer_key="v", keys=keys) as server:
        for key, position in (("a/b+c%", 0), ("v", 3), ("third", 2)):
            with connect(server, key) as api:
                assert api.get("/me").json()["user"]["id"] == account.user_ids[position]
        for key in (ADMIN_KEY, VIEWER_KEY):
            with connect(server, key) as api:
                assert api.get("/me").status_code == 401
        assert server.connection_uri == f"aha://:a%2Fb%2Bc%25@127.0.0.1:{server.port}/http"


def test_a_key_can_be_revoked(api):
    api.server.account.revoke_key(api.server.key)
    assert api.get("/me").status_code == 401
