"""The sandbox's answers beside the documented samples, where these are at hand: same keys, types and nulls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_aha.sandbox.account import Account
from airflow_provider_aha.sandbox.testing import SandboxServer

SAMPLES = Path(__file__).parents[2].parent / "shared" / "reference" / "aha_samples"

pytestmark = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the documented samples (not part of this repository) are not beside it"
)

# Text or null in the documented user list, so either of them in a sample of one user.
EITHER = {"accessed_at", "product_name"}
# What a sample account happens to have, or what the sandbox leaves out on purpose.
FREE = {"custom_fields", "screen_definition_ids", "screen_definitions"}


def sample(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.json").read_text())


def shapes(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Name every place of a body, and the type of what is there."""
    if path.rpartition(".")[2] in FREE:
        yield path, type(value).__name__
    elif isinstance(value, dict):
        yield path, "object"
        for key, inner in value.items():
            yield from shapes(inner, f"{path}.{key}")
    elif isinstance(value, list):
        yield path, "list"
        for inner in value:
            yield from shapes(inner, f"{path}[]")
    else:
        yield path, type(value).__name__


def types_by_place(value: Any) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for place, kind in shapes(value):
        found.setdefault(place, set()).add(kind)
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[SandboxServer]:
    with SandboxServer(users=200) as running:
        yield running


@pytest.fixture
def api(server, connect):
    with connect(server) as session:
        yield session


@pytest.fixture
def paths(server) -> dict[str, str]:
    users = list(server.account.users())
    return {
        "user": next(u["id"] for u in users[10:] if u["enabled"] and len(u["product_roles"]) > 3),
        "custom": next(u["id"] for u in users if u["user_roles"]),
        "provider": server.account.identity_providers[0]["id"],
        "group": server.account.seat_groups()[0]["id"],
    }


CASES = [
    ("users_list_2026-08", "GET", "/users?per_page=200", None),
    ("user_get_2026-08", "GET", "/users/{user}", None),
    ("user_put_2026-08", "PUT", "/users/{user}", {"user": {"first_name": "Sarah", "enabled": False}}),
    ("me_2026-08", "GET", "/me", None),
    ("products_2026-08", "GET", "/products", None),
    ("product_get_2026-08", "GET", "/products/APP", None),
    ("product_users_2026-08", "GET", "/products/APP/users?per_page=200", None),
    ("user_product_roles_2026-08", "GET", "/users/{user}/product_roles", None),
    (
        "user_product_roles_post_2026-08",
        "POST",
        "/users/{user}/product_roles",
        {"product_role": {"role": "product_owner", "product_id": "CMS"}},
    ),
    ("user_user_roles_2026-08", "GET", "/users/{custom}/user_roles", None),
    (
        "user_user_roles_post_2026-08",
        "POST",
        "/users/{user}/user_roles",
        {"user_role": {"custom_role_id": 6_100_000_000_000_000_901, "product_id": "APP"}},
    ),
    ("paid_seat_groups_2026-08", "GET", "/paid_seat_groups", None),
    ("paid_seat_group_put_2026-08", "PUT", "/paid_seat_groups/{group}", {"capacity": 99}),
    (
        "paid_seat_group_modify_2026-08",
        "POST",
        "/paid_seat_groups/{group}/modify_user",
        {"user_id": "{user}", "remove": None},
    ),
    ("identity_providers_2026-08", "GET", "/identity_providers", None),
    ("identity_provider_get_2026-08", "GET", "/identity_providers/{provider}", None),
    ("audits_2025-07", "GET", "/audits", None),
    (
        "product_users_create_2026-08",
        "POST",
        "/products/APP/users",
        {"user": {"first_name": "Sam", "last_name": "Doe", "email": "sam@example.com", "role": "viewer"}},
    ),
]


@pytest.mark.parametrize(("name", "method", "path", "body"), CASES, ids=[case[0] for case in CASES])
def test_same_keys_types_and_nulls(api, paths, name, method, path, body):
    sent = json.loads(json.dumps(body).replace("{user}", paths["user"]))
    answer = api.request(method, path.format(**paths), json=sent)
    assert answer.status_code == 200
    documented, ours = types_by_place(sample(name)), types_by_place(answer.json())
    # Only SSO users have a name of their provider, and the samples know none.
    ours = {
        place: kinds
        for place, kinds in ours.items()
        if not (place.endswith("identity_provider.name") and f"{place[:-4]}type" in ours)
    }
    assert documented.keys() == ours.keys()
    for place, kinds in documented.items():
        if not name.startswith("users_list") and place.rpartition(".")[2] in EITHER:
            assert ours[place] <= {"str", "NoneType"}, place
        else:
            assert ours[place] == kinds, place


@pytest.mark.parametrize("version", ["2025-07", "2026-08"])
def test_documented_users_are_served_as_documented(connect, version):
    documented = sample(f"users_list_{version}")
    account = Account.from_users(documented["users"], products=sample("products_2026-08")["products"])
    with SandboxServer(account=account) as server, connect(server) as api:
        assert api.get("/users").json() == documented
        one = sample(f"user_get_{version}")
        assert api.get(f"/users/{one['user']['id']}").json() == one
        assert api.get("/products").json() == sample("products_2026-08")


def test_the_documented_update_gives_the_documented_answer(connect):
    account = Account.from_users(sample("users_list_2026-08")["users"])
    documented = sample("user_put_2026-08")
    with SandboxServer(account=account) as server, connect(server) as api:
        path = f"/users/{documented['id']}"
        answer = api.put(path, json={"user": {"first_name": "Sarah", "enabled": False}}).json()
    assert answer.pop("updated_at") > documented.pop("updated_at")
    assert answer == documented
    assert list(answer) == list(documented)


def test_documented_members_of_a_workspace_are_those_with_a_role_there(connect):
    products = sample("products_2026-08")["products"]
    account = Account.from_users(sample("users_list_2026-08")["users"], products=products)
    with SandboxServer(account=account) as server, connect(server) as api:
        assert api.get(f"/products/{products[0]['id']}/users").json() == sample("product_users_2026-08")


def test_documented_seat_groups_count_their_users(connect):
    documented = sample("paid_seat_groups_2026-08")
    users = sample("users_list_2026-08")["users"]
    counted = [{k: v for k, v in g.items() if k != "allocated_seats"} for g in documented["paid_seat_groups"]]
    for groups in (documented["paid_seat_groups"], counted):
        account = Account.from_users(users, paid_seat_groups=groups)
        with SandboxServer(account=account) as server, connect(server) as api:
            assert api.get("/paid_seat_groups").json() == documented


def test_the_documented_key_order_of_a_list(api):
    documented = next(u for u in sample("users_list_2026-08")["users"] if "paid_seat_group" in u)
    ours = next(user for user in api.users() if "paid_seat_group" in user)
    assert list(ours) == list(documented)
