"""The documented answers of Aha! itself, through client, normalisation and Parquet: every value is found again."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_aha.datasets.extract import extract
from airflow_provider_aha.datasets.names import DATASETS
from airflow_provider_aha.store.store import Store
from tests.datasets.conftest import NOW, SAMPLES, Connect, read
from tests.datasets.oracle import expect

pytestmark = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the documented samples (not part of this repository) are not beside it"
)

USER_LISTS = ("users_list_2025-07", "users_list_2026-08")
PRODUCTS = "products_2026-08"


def sample(name: str) -> bytes:
    return (SAMPLES / f"{name}.json").read_bytes()


def leaves(value: Any) -> Any:
    """Yield every value of a body that is neither an object nor a list."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


@pytest.fixture(params=USER_LISTS)
def landed(request, serve, connect: Connect, base: Store) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    me = request.param.replace("users_list", "me")
    server = serve({"/users": sample(request.param), "/me": sample(me), "/products": sample(PRODUCTS)})
    with connect(server, "company") as client:
        manifest = extract(client, base, datasets=DATASETS, connection_id="aha", now=lambda: NOW)
    return json.loads(sample(request.param))["users"], manifest


def test_every_value_is_found_again(landed):
    users, manifest = landed
    names = {product["id"]: product["name"] for product in json.loads(sample(PRODUCTS))["products"]}
    expected = expect(users, subdomain="company", connection_id="aha", synced_at=NOW, names=names)
    found = {name: read(manifest, name).to_pylist() for name in DATASETS}
    assert found["users"] == expected.users
    assert found["user_roles"] == expected.roles
    assert found["user_changes"] == []

    def by_role(row: dict[str, Any]) -> tuple[int, str, str]:
        return int(row["user_id"]), row["role_kind"], row["role_id"]

    assert sorted(found["user_role_summary"], key=by_role) == sorted(expected.summary, key=by_role)
    assert expected.roles
    assert expected.unnamed


def test_no_value_of_the_answer_is_lost(landed):
    users, manifest = landed
    kept = {str(value) for name in ("users", "user_roles") for row in read(manifest, name).to_pylist()
            for value in row.values()}  # fmt: skip
    kept |= {stamp.replace(" ", "T").replace("+00:00", ".000Z") for stamp in kept if "+00:00" in stamp}
    # The one value without a column: what sort of thing a custom role is scoped to.
    assert {str(value) for value in leaves(users)} - kept == {"project"}


def test_the_manifest_counts_what_the_answers_hold(landed):
    users, manifest = landed
    assert manifest["rows"] == manifest["distinct_ids"] == len(users) == 21
    assert (manifest["total_records_first"], manifest["total_records_last"], manifest["pages"]) == (21, 21, 1)
    assert manifest["absent_fields"] == {}
    assert manifest["duplicates_removed"] == 0
    assert manifest["key_owner_id"] == "1020675218"
    assert manifest["account"] == "company"


def test_fields_that_the_older_answer_lacks_are_null_in_the_dataset(serve, connect: Connect, base: Store):
    old = {"/users": sample(USER_LISTS[0]), "/me": sample("me_2025-07"), "/products": sample(PRODUCTS)}
    with connect(serve(old), "company") as client:
        table = read(extract(client, base, datasets=["users"], connection_id="aha"), "users")
    for column in ("timezone", "has_roadmaps_seat", "has_develop_seat"):
        assert table[column].null_count == 21


def test_a_year_of_the_api_makes_no_changes_of_fields_that_came_new(serve, connect: Connect, base: Store):
    found = []
    for day, name in enumerate(USER_LISTS):
        answers = {"/users": sample(name), "/me": sample("me_2026-08"), "/products": sample(PRODUCTS)}
        now = partial(NOW.replace, day=1 + day)
        with connect(serve(answers), "company") as client:
            found.append(extract(client, base, datasets=DATASETS, connection_id="aha", now=now))
    changed = read(found[1], "user_changes").to_pylist()
    assert {row["change"] for row in changed} == {"role_added"}
    assert not {row["field"] for row in changed} & {"timezone", "has_roadmaps_seat", "has_develop_seat"}


def test_the_samples_are_where_they_are_looked_for():
    assert all(Path(SAMPLES, f"{name}.json").is_file() for name in (*USER_LISTS, PRODUCTS))
