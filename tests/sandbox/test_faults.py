"""Every fault does what it says, to the requests that it is meant for, as often as it is meant to."""

from __future__ import annotations

import asyncio
import time

import pytest
import requests

from airflow_provider_aha.sandbox.account import Account
from airflow_provider_aha.sandbox.app import SandboxApp
from airflow_provider_aha.sandbox.fault_kinds import KINDS
from airflow_provider_aha.sandbox.faults import COMMON_OPTIONS, Fault, parse
from airflow_provider_aha.sandbox.testing import SandboxServer


@pytest.fixture
def fault(sandbox: SandboxServer):
    def switch_on(name: str, **options) -> Fault:
        return sandbox.set_fault(name, **options)

    return switch_on


def page(api, number=1, size=40):
    return api.get("/users", params={"page": number, "per_page": size})


def ids(answer) -> list[str]:
    return [str(user["id"]) for user in answer.json()["users"]]


def some_user(api):
    """Name a user whom a test may change."""
    return next(u["id"] for u in api.users()[10:] if u["enabled"] and not u["administrator"])


# --- answers in place of the API's ---------------------------------------------------------------


def test_rate_limit_with_a_reset(api, fault):
    fault("rate_limit", reset_in=2)
    answer = api.get("/me")
    assert (answer.status_code, answer.headers["X-Ratelimit-Remaining"]) == (429, "0")
    assert 0 < int(answer.headers["X-Ratelimit-Reset"]) - time.time() <= 3
    assert "Retry-After" not in answer.headers


def test_rate_limit_without_headers(api, fault):
    fault("rate_limit", headers="missing")
    answer = api.get("/me")
    assert answer.status_code == 429
    assert not [name for name in answer.headers if "ratelimit" in name.lower() or "retry" in name.lower()]


def test_rate_limit_with_a_reset_in_the_past(api, fault):
    fault("rate_limit", headers="past")
    answer = api.get("/me")
    assert answer.status_code == 429
    assert int(answer.headers["X-Ratelimit-Reset"]) < time.time()


def test_rate_limit_with_retry_after_alone(api, fault):
    fault("rate_limit", headers="retry_after", reset_in=1.5)
    answer = api.get("/me")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "2")
    assert "X-Ratelimit-Reset" not in answer.headers


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 500, 502, 503, 504])
def test_error(api, fault, valid, status):
    fault("error", status=status)
    answer = api.get("/users")
    assert answer.status_code == status
    if status in (401, 502, 503, 504):
        assert answer.headers["Content-Type"].startswith("text/html")
        assert "<html>" in answer.text
    else:
        valid("error", answer.json())


def test_key_revoked(api, fault):
    fault("key_revoked", after=1, times=1)
    assert [api.get("/me").status_code for _ in range(3)] == [200, 401, 401]


def test_connection_reset(api, fault):
    user = some_user(api)
    fault("connection_reset", method="PUT")
    with pytest.raises(requests.ConnectionError, match=r"reset by peer|Connection aborted"):
        api.put(f"/users/{user}", json={"user": {"enabled": False}})
    assert api.server.account.user(user)["enabled"] is True
    assert api.server.requests[-1].status == 0


def test_maintenance(api, fault):
    fault("maintenance")
    answer = api.get("/users")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")


@pytest.mark.parametrize(
    ("options", "status", "location"),
    [
        ({}, 301, "https://elsewhere.invalid/api/v1/users"),
        ({"to": "http://other.example/", "status": 307}, 307, "http://other.example/api/v1/users"),
        ({"to": "https", "status": "302"}, 302, "https://{netloc}/api/v1/users"),
    ],
)
def test_redirect(api, fault, options, status, location):
    fault("redirect", **options)
    answer = api.get("/users")
    netloc = f"127.0.0.1:{api.server.port}"
    assert (answer.status_code, answer.headers["Location"]) == (status, location.format(netloc=netloc))


def test_slow(api, fault):
    user = some_user(api)
    fault("slow", seconds=30, times=1)
    with pytest.raises(requests.ReadTimeout):
        api.put(f"/users/{user}", json={"user": {"enabled": False}}, timeout=0.05)
    assert api.get(f"/users/{user}").json()["user"]["enabled"] is False, "late, but done"


# --- broken on the way ---------------------------------------------------------------------------


def test_answer_lost(api, fault):
    user = some_user(api)
    fault("answer_lost", times=1)
    with pytest.raises(requests.ConnectionError):
        api.put(f"/users/{user}", json={"user": {"enabled": False}})
    assert api.get(f"/users/{user}").json()["user"]["enabled"] is False


@pytest.mark.parametrize("size", [1, 100])
def test_truncated_body(api, fault, size):
    fault("truncated_body", times=1)
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        page(api, size=size)
    assert page(api, size=size).status_code == 200


def test_truncated_json(api, fault):
    fault("truncated_json")
    answer = page(api)
    assert answer.status_code == 200
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    with pytest.raises(requests.JSONDecodeError):
        answer.json()


# --- pages ---------------------------------------------------------------------------------------


def test_pagination_list(api, fault):
    fault("pagination_list")
    assert page(api).json()["pagination"] == [{"total_records": 120, "total_pages": 3, "current_page": 1}]


def test_current_page_text(api, fault):
    fault("current_page_text")
    assert page(api, 2).json()["pagination"]["current_page"] == "2"


def test_zero_pages(api, fault):
    fault("zero_pages")
    answer = page(api)
    assert answer.json()["pagination"] == {"total_records": 120, "total_pages": 0, "current_page": 1}
    assert len(ids(answer)) == 40


def test_wrong_total(api, fault):
    fault("wrong_total", by=-3, page=2)
    assert [page(api, n).json()["pagination"]["total_records"] for n in (1, 2, 3)] == [120, 117, 120]


@pytest.mark.parametrize(("change", "total"), [("remove", 119), ("insert", 121), ("swap", 120)])
def test_page_drift(api, fault, change, total):
    everybody = api.server.account.user_ids
    drift = fault("page_drift", change=change)
    pages = [page(api, number) for number in (1, 2, 3)]
    seen = [user_id for answer in pages for user_id in ids(answer)]
    assert [answer.json()["pagination"]["total_records"] for answer in pages] == [120, total, total]
    assert drift.hits == 1
    if change == "insert":
        assert seen.count(everybody[39]) == 2
        assert set(everybody) - set(seen) == {everybody[-1]}, "it is on page 4 now"
    else:
        # The user before page 2 is gone, so that the first one of page 2 moved up to page 1, unseen.
        assert set(everybody) - set(seen) == {everybody[40]}
        assert everybody[39] not in api.server.account
    assert page(api, 2).json() == pages[1].json(), "once only"


def test_same_page(api, fault):
    first = ids(page(api))
    fault("same_page")
    for number in (2, 3):
        answer = page(api, number)
        assert ids(answer) == first
        assert answer.json()["pagination"]["current_page"] == number


def test_duplicate_user(api, fault):
    before = ids(page(api))
    fault("duplicate_user")
    assert ids(page(api)) == [before[0], *before[:-1]]


def test_unordered(api, fault):
    before = ids(page(api))
    fault("unordered")
    assert ids(page(api)) == before[::-1]


# --- users ---------------------------------------------------------------------------------------


def bodies(api, user_id):
    """Read a user in the three ways in which the API shows one."""
    listed = next(u for u in api.users() if str(u["id"]) == user_id)
    read = api.get(f"/users/{user_id}").json()["user"]
    updated = api.put(f"/users/{user_id}", json={"user": {}}).json()
    return listed, read, updated


def test_int_ids(api, fault):
    user_id = some_user(api)
    fault("int_ids")
    assert {user["id"] for user in bodies(api, user_id)} == {int(user_id)}


@pytest.mark.parametrize(("kind", "python"), [("int", int), ("str", str)])
def test_seat_group_id(api, fault, kind, python):
    fault("seat_group_id", type=kind)
    groups = [user["paid_seat_group"] for user in api.users() if "paid_seat_group" in user]
    assert groups
    assert {type(group["id"]) for group in groups} == {python}


@pytest.mark.parametrize("key", ["accessed_at", "enabled"])
def test_missing_key(api, fault, key):
    fault("missing_key", key=key)
    user_id = api.server.account.user_ids[15]
    assert all(key not in user for user in bodies(api, user_id))
    assert all(key not in user for user in api.users())


def test_missing_key_of_one_user(api, fault):
    user_id = some_user(api)
    fault("missing_key", key="paid_seat", user=user_id)
    assert [user["id"] for user in api.users() if "paid_seat" not in user] == [user_id]


@pytest.mark.parametrize("key", ["email", "name"])
def test_null_value(api, fault, key):
    user_id = some_user(api)
    fault("null_value", key=key, user=user_id)
    assert [user[key] for user in bodies(api, user_id)] == [None] * 3
    assert [user["id"] for user in api.users() if user[key] is None] == [user_id]


def test_unknown_fields(api, fault):
    user_id = some_user(api)
    before = set(bodies(api, user_id)[0])
    fault("unknown_fields")
    listed = bodies(api, user_id)[0]
    assert set(listed) - before == {"teamwork_seat", "profile"}
    assert isinstance(listed["profile"]["badges"][0], dict)


def test_stale_read(api, fault):
    user_id = some_user(api)
    stale = fault("stale_read", times=1)
    assert api.get(f"/users/{user_id}").json()["user"]["enabled"] is True
    assert stale.hits == 0, "nothing was updated yet"
    assert api.put(f"/users/{user_id}", json={"user": {"enabled": False}}).json()["enabled"] is False
    reads = [api.get(f"/users/{user_id}").json()["user"]["enabled"] for _ in range(2)]
    assert reads == [True, False]


def test_stale_read_of_the_list(api, fault):
    user_id = some_user(api)
    before = api.users()
    api.put(f"/users/{user_id}", json={"user": {"enabled": False}})
    fault("stale_read")
    assert api.users() == before


def test_wrapped_put(api, fault):
    user_id = some_user(api)
    fault("wrapped_put")
    answer = api.put(f"/users/{user_id}", json={"user": {"enabled": False}}).json()
    assert list(answer) == ["user"]
    assert answer["user"]["enabled"] is False
    assert "error" in api.put(f"/users/{user_id}", json={"user": {"enabled": "x"}}).json()


def test_update_ignored(api, fault):
    user_id = some_user(api)
    before = api.server.account.user(user_id)
    fault("update_ignored")
    answer = api.put(f"/users/{user_id}", json={"user": {"enabled": False}})
    assert (answer.status_code, answer.json()["enabled"]) == (200, True)
    assert api.server.account.user(user_id) == before
    assert api.put(f"/users/{user_id}", json={"user": {"enabled": "x"}}).status_code == 422


# --- when and how often --------------------------------------------------------------------------


def statuses(api, path="/me", times=5):
    return [api.get(path).status_code for _ in range(times)]


def test_times_and_after(api, fault):
    counted = fault("error", times=2, after=1)
    assert statuses(api) == [200, 500, 500, 200, 200]
    assert (counted.hits, counted.seen) == (2, 3)


def test_path_method_and_page(api, fault):
    fault("error", path="/products(/.*)?", status=502)
    fault("error", method="post", status=503)
    fault("error", page=3, status=504)
    assert api.get("/products/APP").status_code == 502
    assert api.post("/users/1/product_roles", json={}).status_code == 503
    assert [page(api, number).status_code for number in (1, 2, 3)] == [200, 200, 504]


def test_faults_combine_and_the_first_answer_wins(api, fault):
    fault("error", times=1)
    fault("rate_limit", times=1)
    fault("unordered")
    fault("int_ids")
    assert statuses(api, "/users", 3) == [500, 429, 200]
    found = [user["id"] for user in page(api).json()["users"]]
    assert found == sorted(found, reverse=True)
    assert all(isinstance(user_id, int) for user_id in found)


def test_faults_are_switched_off(api, fault):
    fault("error")
    api.server.clear_faults()
    assert statuses(api, times=1) == [200]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nonsense", {}, "there is no fault 'nonsense'; there are rate_limit, "),
        ("error", {"statuss": 500}, "no option 'statuss'; it has times, "),
        ("error", {"status": 200}, "is one of 400, 401, "),
        ("error", {"times": "often"}, "times of fault error must be a whole number"),
        ("error", {"path": "("}, "no regular expression"),
        ("slow", {"seconds": 121}, "from 0 to 120 seconds"),
        ("slow", {"seconds": "long"}, "from 0 to 120 seconds"),
        ("slow", {"seconds": "nan"}, "from 0 to 120 seconds"),
        ("page_drift", {"change": "shuffle"}, "is one of insert, remove, swap"),
        ("wrong_total", {"by": "x"}, "by of fault wrong_total must be a whole number"),
    ],
)
def test_what_makes_no_sense_is_refused(fault, name, options, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        fault(name, **options)


# --- from outside --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("maintenance", ("maintenance", {})),
        ("error:status=502,times=2", ("error", {"status": "502", "times": "2"})),
        ("redirect:to=https://x.example:8", ("redirect", {"to": "https://x.example:8"})),
        ("slow: seconds = 1.5 ", ("slow", {"seconds": "1.5"})),
    ],
)
def test_faults_are_read_from_the_command_line(text, expected):
    assert parse(text) == expected


def test_an_option_needs_a_value():
    with pytest.raises(ValueError, match="write times=VALUE"):
        parse("error:times")


def test_text_stands_for_numbers(api, fault):
    fault("error", status="502", times="1", after="1")
    assert statuses(api, times=3) == [200, 502, 200]


def test_faults_over_http(api):
    created = api.post("/_sandbox/faults", json={"name": "error", "status": 503, "times": 1})
    assert created.status_code == 201
    assert api.post("/_sandbox/faults", json={"name": "unordered"}).status_code == 201
    assert statuses(api, times=2) == [503, 200]
    listing = api.get("/_sandbox/faults").json()
    assert [(f["name"], f["hits"]) for f in listing["active"]] == [("error", 1), ("unordered", 0)]
    assert [kind["name"] for kind in listing["available"]] == list(KINDS)
    assert listing["common"] == dict(COMMON_OPTIONS)
    assert api.delete("/_sandbox/faults/error").status_code == 204
    assert [f["name"] for f in api.get("/_sandbox/faults").json()["active"]] == ["unordered"]
    assert api.delete("/_sandbox/faults").status_code == 204
    assert api.get("/_sandbox/faults").json()["active"] == []


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"name": "nope"}', '{"name": "error", "x": 1}', '{"name": "error", "status": []}']
)
def test_bad_faults_over_http_are_refused(api, valid, body):
    answer = api.post("/_sandbox/faults", data=body)
    assert answer.status_code == 422
    valid("error", answer.json())


def test_every_fault_is_documented_and_tested():
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert [name for name in KINDS if not any(test.startswith(name) for test in tests)] == []
    assert all(kind.summary for kind in KINDS.values())


def test_connection_faults_need_a_connection():
    app = SandboxApp(Account.generate(5))
    app.faults.add("connection_reset")
    scope = {"type": "http", "method": "GET", "path": "/api/v1/me", "headers": [], "query_string": b""}

    async def nothing(*_):
        pass

    with pytest.raises(RuntimeError, match="real connection"):
        asyncio.run(app(scope, nothing, nothing))


def test_another_client_is_not_hurt(sandbox, fault, connect):
    fault("connection_reset", times=1)
    with connect(sandbox) as one, connect(sandbox) as other:
        with pytest.raises(requests.ConnectionError):
            one.get("/me")
        assert other.get("/me").status_code == 200
        assert one.get("/me").status_code == 200
