"""Whatever Aha! sends, in whatever form, says in Arrow what it says in plain Python."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_aha.datasets.users import Normalizer, UsersPage
from tests.datasets.conftest import NOW, RIGHTS
from tests.datasets.oracle import Expected, expect

NAMES = {"6100000000000001001": "Apollo", "7": "Юпитер", "303742481": "Account"}
ORIGIN: dict[str, Any] = {"subdomain": "mycompany", "connection_id": "aha_default", "synced_at": NOW}

PROPERTY = settings(deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])


def iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


texts = st.one_of(
    st.text(max_size=6),
    st.sampled_from(["Zoë 私 😀", "a\x00b", "", " ", '"enabled":', '\\"accessed_at\\":', "x" * 5000, "null"]),
)
ids = st.one_of(
    st.sampled_from(["6100000000000001001", "7", "8", "303742481"]),
    st.integers(10**18, 2**63 - 1).map(str),
)
moments = st.one_of(
    st.integers(1_775_000_000_000, 1_790_000_000_000).map(iso),
    st.sampled_from(
        [
            "2026-08-01T00:00:00+02:00",
            "2026-08-01T00:00:00.123456Z",
            "2026-08-01T00:00:00",
            "2026-08-01",
            "0001-01-02T00:00:00.000Z",
            "9999-12-31T23:59:59.999Z",
        ]
    ),
)
json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False, width=32),
        texts,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
odd = st.one_of(
    json_values,
    st.sampled_from(
        ["", "yesterday", "2026-02-30T00:00:00.000Z", "True", "FALSE", 0, 1, 2.5, 2**40, [], {}, [None]]
    ),
)


@st.composite
def records(draw: Any, fields: dict[str, Any], *, drift: bool, unknown: Any = json_values) -> dict[str, Any]:
    """Draw an object as documented; with drift some values are null, absent, odd or new."""
    record = {key: draw(value) for key, value in fields.items()}
    if drift:
        for key in draw(st.lists(st.sampled_from(list(fields)), max_size=3)):
            how = draw(st.sampled_from(("null", "absent", "odd")))
            if how == "absent":
                record.pop(key, None)
            else:
                record[key] = None if how == "null" else draw(odd)
        if draw(st.booleans()):
            record[draw(st.sampled_from(("teamwork_seat", "profil_é", "id ", "Email")))] = draw(unknown)
    return record


def users(*, drift: bool) -> Any:
    nested = st.booleans().flatmap(lambda here: st.just(drift and here))
    codes = st.sampled_from([0, 20, 30, 35, 40, 50, 99, "20", -5] if drift else [0, 20, 30, 35, 40, 50])
    roles = {
        "role": codes,
        "role_description": st.one_of(st.none(), st.sampled_from(["Owner", "Rôle"])),
        "product_id": ids,
        "product_name": st.one_of(st.none(), texts),
    }
    scopes = {"type": texts, "name": st.one_of(st.none(), texts), "id": st.integers(0, 2**63 - 1) | st.just(7)}
    custom = {
        "role_id": st.sampled_from([20, 409541421, 2**63 - 1]),
        "name": texts,
        "scope": nested.flatmap(lambda on: records(scopes, drift=on)),
    }
    flags = st.booleans()
    groups = nested.flatmap(lambda on: records({"id": ids, "name": texts}, drift=on))
    fields = {
        "name": texts,
        "email": st.one_of(st.none(), texts),
        "timezone": texts,
        "created_at": moments,
        "updated_at": moments,
        "accessed_at": st.one_of(st.none(), moments),
        "product_roles": st.lists(nested.flatmap(lambda on: records(roles, drift=on)), max_size=5),
        "user_roles": st.lists(nested.flatmap(lambda on: records(custom, drift=on)), max_size=3),
        "enabled": flags,
        "paid_seat": flags,
        "administrator": flags,
        "roadmaps_seat": flags,
        "develop_seat": flags,
        "administrator_roles": nested.flatmap(lambda on: records(dict.fromkeys(RIGHTS, flags), drift=on)),
        "paid_seat_group": groups,
        "identity_provider": nested.flatmap(lambda on: records({"type": texts, "name": texts}, drift=on)),
    }
    return nested.flatmap(lambda on: records(fields, drift=on))


@st.composite
def accounts(draw: Any, *, drift: bool) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Draw an account's users and the pages in which they come."""
    found = draw(st.lists(users(drift=drift), max_size=6))
    numbers = sorted(draw(st.sets(st.integers(1, 9 * 10**18), min_size=len(found), max_size=len(found))))
    as_number = drift and draw(st.booleans())
    shuffle = random.Random(draw(st.integers(0, 99))).shuffle
    account = []
    for number, record in zip(numbers, found, strict=True):
        keys = ["id", *record]
        shuffle(keys)
        whole = {"id": number if as_number else str(number), **record}
        account.append({key: whole[key] for key in keys})
    size = draw(st.integers(1, 7))
    parts = [account[at : at + size] for at in range(0, len(account), size)] or [[]]
    layout = draw(st.sampled_from([{"indent": 1}, {"separators": (",", ":")}, {"separators": (" , ", " : ")}])) | {
        "ensure_ascii": draw(st.booleans())
    }
    return account, [
        json.dumps(
            {"users": part, "pagination": draw(paginations(number, len(parts), len(account), drift))}, **layout
        ).encode()
        for number, part in enumerate(parts, 1)
    ]


def paginations(number: int, pages: int, total: int, drift: bool) -> Any:
    plain = {"total_records": total, "total_pages": pages, "current_page": number}
    drifted = [[plain], plain | {"current_page": str(number)}, plain | {"next": None}]
    return st.sampled_from([plain, *drifted]) if drift else st.just(plain)


def check(account: list[dict[str, Any]], bodies: list[bytes]) -> Expected:
    expected = expect(account, names=NAMES, **ORIGIN)
    pages = UsersPage.several(bodies)
    normalizer = Normalizer(workspace_names=NAMES, **ORIGIN)
    tables = {name: table.to_pylist() for name, table in normalizer.tables(pages).items()}
    for row in tables["users"]:
        row["extra_json"] = row["extra_json"] and json.loads(row["extra_json"])

    def by_role(row: dict[str, Any]) -> tuple[int, str, str]:
        return int(row["user_id"]), row["role_kind"], row["role_id"] or ""

    assert tables["users"] == expected.users
    assert tables["user_roles"] == expected.roles
    assert sorted(tables["user_role_summary"], key=by_role) == sorted(expected.summary, key=by_role)
    assert sum((page.absent for page in pages), expected.absent - expected.absent) == expected.absent
    assert (normalizer.duplicates_removed, normalizer.unnamed) == (expected.duplicates, expected.unnamed)
    assert [user_id for page in pages for user_id in page.ids] == [str(record["id"]) for record in account]
    return expected


@given(accounts(drift=False))
@settings(PROPERTY, max_examples=50)
def test_documented_users_land_as_they_are(drawn: tuple[list[dict[str, Any]], list[bytes]]):
    expected = check(*drawn)
    assert not expected.absent
    assert all(row["extra_json"] is None for row in expected.users)


@given(accounts(drift=True))
@settings(PROPERTY, max_examples=80)
def test_users_in_any_drifted_form_land_with_all_that_can_be_read_and_the_rest_kept(
    drawn: tuple[list[dict[str, Any]], list[bytes]],
):
    check(*drawn)


@given(accounts(drift=False), st.sampled_from(["int ids", "unknown key", "text numbers", "group of another type"]))
@settings(PROPERTY, max_examples=30)
def test_the_slow_way_makes_the_same_tables_as_the_fast_one(
    drawn: tuple[list[dict[str, Any]], list[bytes]], form: str
):
    _, bodies = drawn

    def drifted(record: dict[str, Any]) -> dict[str, Any]:
        if form == "int ids":
            return record | {"id": int(record["id"])}
        if form == "text numbers":
            roles = [item | {"role": str(item["role"])} for item in record["product_roles"]]
            return record | {"product_roles": roles}
        if form == "group of another type":
            return record | {
                "paid_seat_group": record["paid_seat_group"] | {"id": int(record["paid_seat_group"]["id"])}
            }
        return record | {"teamwork_seat": False}

    def tables(pages: list[bytes]) -> dict[str, list[dict[str, Any]]]:
        normalizer = Normalizer(workspace_names=NAMES, **ORIGIN)
        found = normalizer.tables([UsersPage(body) for body in pages])
        return {name: [row | {"extra_json": None} for row in table.to_pylist()] for name, table in found.items()}

    slow = []
    for body in bodies:
        answer = json.loads(body)
        slow.append(json.dumps(answer | {"users": [drifted(record) for record in answer["users"]]}).encode())
    assert tables(slow) == tables(bodies)


@given(st.integers(0, 4_000_000_000_000).map(iso))
@settings(PROPERTY, max_examples=60)
def test_days_inactive_are_whole_days_and_never_negative(text: str):
    page = UsersPage(
        json.dumps(
            {
                "users": [{"id": "1", "accessed_at": text}],
                "pagination": {"total_records": 1, "total_pages": 1, "current_page": 1},
            }
        ).encode()
    )
    table = Normalizer(workspace_names={}, **ORIGIN).tables([page])["users"]
    assert table["days_inactive"].to_pylist() == [max((NOW - datetime.fromisoformat(text)).days, 0)]
