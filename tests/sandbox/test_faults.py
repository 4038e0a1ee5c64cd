"""Every fault does what it says, to the requests that it is meant for, as often as it is meant to."""

from __future__ import annotations

import asyncio
import gzip
import json
import time

import pytest
import requests

from airflow_provider_aha.sandbox.account import Account
from airflow_provider_aha.sandbox.app import SandboxApp
from airflow_provider_aha.sandbox.exchange import Answer
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


@pytest.mark.parametrize(
    "status",
    [400, 401, 403, 404, 408, 422, 425, 500, 502, 503, 504, 507, 508, *range(520, 531), 599],
)
def test_error(api, fault, valid, status):
    fault("error", status=status)
    answer = api.get("/users")
    assert answer.status_code == status
    if status in (401, 408, 502, 503, 504, *range(520, 531)):
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


def disable(api, user_id, **options):
    return api.put(f"/users/{user_id}", json={"user": {"enabled": False}}, **options)


def test_the_log_of_writes_is_what_was_done(api, fault):
    """Not what was asked for: that is the record of requests."""
    user = some_user(api)
    before = api.server.account.user(user)
    fault("error", times=1)
    fault("update_ignored", times=1)
    disable(api, user)
    disable(api, user)
    fault("connection_reset", times=1)
    with pytest.raises(requests.ConnectionError):
        disable(api, user)
    disable(api, "1")
    api.put(f"/users/{user}", json={"user": {"enabled": "x"}})
    api.server.account.edit_user(user, name="By Hand")
    assert api.server.writes == []
    disable(api, user)
    (write,) = api.server.writes
    assert (write.user_id, write.fields, write.before["enabled"], write.after["enabled"]) == (
        user,
        {"enabled": False},
        True,
        False,
    )
    assert write.before == before | {"name": "By Hand"}
    assert abs(write.time - time.time()) < 60


@pytest.mark.parametrize("status", [400, 404, 422, 500, 504, 520])
def test_error_after_write(api, fault, status):
    user = some_user(api)
    fault("error_after_write", status=status)
    assert disable(api, user).status_code == status
    assert [write.user_id for write in api.server.writes] == [user]
    assert api.get(f"/users/{user}").json()["user"]["enabled"] is False
    refused = api.put(f"/users/{user}", json={"user": {"enabled": "x"}})
    assert (refused.status_code, len(api.server.writes)) == (422, 1), "what is refused is not done"


@pytest.mark.parametrize(
    ("form", "status"),
    [
        *(("no_content", 204), ("accepted", 202), ("empty", 200), ("lagging", 200)),
        *(("text_flags", 200), ("no_updated_at", 200), ("broken", 200)),
    ],
)
def test_odd_answer(api, fault, form, status):
    user = some_user(api)
    old = api.server.account.user(user)
    odd = fault("odd_answer", form=form)
    answer = disable(api, user)
    assert answer.status_code == status
    assert [write.user_id for write in api.server.writes] == [user], "it is done"
    assert odd.hits == 1
    if form in ("no_content", "accepted", "empty"):
        assert answer.content == b""
    elif form == "broken":
        with pytest.raises(requests.JSONDecodeError):
            answer.json()
    else:
        shown = answer.json()
        assert shown["enabled"] == {"lagging": True, "text_flags": "false", "no_updated_at": False}[form]
        assert ("updated_at" in shown) == (form != "no_updated_at")
        assert (shown.get("updated_at") == old["updated_at"]) == (form == "lagging")
    assert api.get(f"/users/{user}").json()["user"]["enabled"] is False, "reads show it"


@pytest.mark.parametrize("status", [202, 204, 504])
def test_late_write(api, fault, status):
    user = some_user(api)
    late = fault("late_write", requests=3, status=status, times=1)
    assert disable(api, user).status_code == status
    assert api.server.writes == []
    reads = [api.get(f"/users/{user}").json()["user"]["enabled"] for _ in range(4)]
    assert reads == [True, True, False, False]
    assert len(api.server.writes) == late.hits == 1


def test_late_write_without_an_answer(api, fault):
    """A request that hangs somewhere, and lands after another one has undone it."""
    user = some_user(api)
    fault("late_write", times=1)
    with pytest.raises(requests.ConnectionError):
        disable(api, user)
    assert api.put(f"/users/{user}", json={"user": {"enabled": True}}).json()["enabled"] is True
    assert api.get(f"/users/{user}").json()["user"]["enabled"] is False
    assert [write.fields["enabled"] for write in api.server.writes] == [True, False]


def test_late_write_lands_on_demand(api, fault):
    user = some_user(api)
    fault("late_write", requests=100, status=504)
    disable(api, user)
    api.server.land()
    assert [write.user_id for write in api.server.writes] == [user]
    api.server.land()
    assert len(api.server.writes) == 1, "once only"


def test_late_write_that_another_fault_has_stopped_never_lands(api, fault):
    user = some_user(api)
    fault("error")
    fault("late_write", requests=1)
    assert disable(api, user).status_code == 500
    api.server.land()
    assert api.server.writes == []


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


@pytest.mark.parametrize("size", [1, 100, 1_000_000])
def test_dripped_body(api, fault, size):
    fault("dripped_body", size=size, pause=0.0, times=1)
    with api.get("/users", params={"per_page": 1}, stream=True) as answer:
        pieces = list(answer.raw.stream(100_000))
    assert json.loads(b"".join(pieces))["users"]
    assert int(answer.headers["Content-Length"]) == len(b"".join(pieces))


def test_dripped_body_ends_with_its_client():
    """Nobody goes on sending a byte every minute when the client has gone."""
    app = SandboxApp(Account.generate(5), cut=lambda *_: None)
    app.faults.add("dripped_body", pause=60)
    key = (b"authorization", b"Bearer sandbox-key")
    scope = {"type": "http", "method": "GET", "path": "/api/v1/me", "headers": [key], "query_string": b""}
    sent = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    asyncio.run(asyncio.wait_for(app(scope, receive, send), 30))
    assert [message.get("body") for message in sent] == [None, b"{"]


def test_gzip_bomb(api, fault):
    plain = page(api).content
    fault("gzip_bomb", megabytes=3)
    with api.get("/users", params={"per_page": 40}, stream=True) as answer:
        packed = answer.raw.read(decode_content=False)
    whole = gzip.decompress(packed)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(packed) < len(plain) + 20_000
    assert len(whole) == len(plain) + 3_000_000
    assert json.loads(whole) == json.loads(plain)


def test_byte_order_mark(api, fault):
    plain = page(api).content
    fault("byte_order_mark")
    assert page(api).content == b"\xef\xbb\xbf" + plain


@pytest.mark.parametrize(
    ("form", "expected"),
    [("value", "Bearer sandbox-key"), ("parameter", "text/html; Bearer sandbox-key; charset=utf-8")],
)
def test_echoed_key(api, fault, form, expected):
    plain = page(api).content
    fault("echoed_key", content_type=form)
    answer = page(api)
    assert answer.headers["Content-Type"] == expected
    assert answer.headers["X-Request-Id"] == "echo Bearer sandbox-key"
    assert (answer.status_code, answer.content) == (200, plain)


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


def test_null_value_of_a_visit_that_was_shown_before(api, fault):
    """Somebody who was seen seems never to have been."""
    user_id = next(user["id"] for user in api.users() if user["accessed_at"])
    fault("null_value", key="accessed_at", user=user_id)
    assert [user["accessed_at"] for user in bodies(api, user_id)] == [None] * 3
    assert api.server.account.user(user_id)["accessed_at"]


def test_huge_field(api, fault):
    user_id = some_user(api)
    fault("huge_field", user=user_id, megabytes=2)
    assert [len(user["name"]) for user in bodies(api, user_id)] == [2_000_000] * 3
    assert [user["id"] for user in api.users() if len(user["name"]) > 1000] == [user_id]


def test_huge_field_of_the_owner_of_the_key(api, fault):
    fault("huge_field")
    assert len(api.get("/me").json()["user"]["name"]) == 1_000_000


@pytest.mark.parametrize(
    ("what", "key", "value"),
    [
        ("rights_list", "administrator_roles", ["administer_account"]),
        ("email_number", "email", 4711),
        ("roles_null", "product_roles", None),
        ("role_text", "product_roles", ["owner"]),
        ("role_float", "product_roles", [20.0]),
        ("role_missing", "product_roles", [None]),
    ],
)
def test_odd_value(api, fault, what, key, value):
    user_id = next(user["id"] for user in api.users()[10:] if len(user["product_roles"]) == 1)
    others = [user for user in api.users() if user["id"] != user_id]
    fault("odd_value", what=what, user=user_id)
    listed, read, updated = bodies(api, user_id)
    for user in (listed, read, updated):
        found = user[key]
        if isinstance(value, list) and key == "product_roles":
            found = [role.get("role") for role in found]
            assert all("role" in role for role in user[key]) == (what != "role_missing")
        assert (found, type(found)) == (value, type(value))
    assert [user for user in api.users() if user["id"] != user_id] == others


def test_odd_value_that_is_no_text(api, fault):
    """Half of an emoji, which JSON can escape and no file can hold."""
    user_id = some_user(api)
    fault("odd_value", what="lone_surrogate", user=user_id)
    assert all(user["name"].endswith("\ud83d") for user in bodies(api, user_id))
    assert b"\\ud83d" in page(api).content
    # Another fault finds it there, and leaves it as it is.
    fault("int_ids")
    assert bodies(api, user_id)[0]["name"].endswith("\ud83d")


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


def test_lagging_read(api, fault):
    user_id = some_user(api)
    fault("lagging_read", reads=2)

    def shown():
        return api.get(f"/users/{user_id}").json()["user"]["enabled"]

    assert shown() is True
    disable(api, user_id)
    assert [shown() for _ in range(4)] == [True, True, False, False]
    api.put(f"/users/{user_id}", json={"user": {"enabled": True}})
    assert [shown() for _ in range(4)] == [False, False, True, True], "after each update"


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


def change_role(api, method="POST", role="viewer"):
    """Change or remove the first role of somebody who has one."""
    user = next(user for user in api.server.account.users() if user["product_roles"] and user["enabled"])
    place = user["product_roles"][0]["product_id"]
    path = f"/users/{user['id']}/product_roles"
    if method == "POST":
        answer = api.post(path, json={"product_role": {"role": role, "product_id": place}})
    else:
        answer = api.delete(f"{path}/{place}")
    return user, place, answer


def roles_shown(api, user):
    return api.get(f"/users/{user['id']}").json()["user"]["product_roles"]


@pytest.mark.parametrize(("method", "status"), [("POST", 200), ("DELETE", 204)])
def test_ignored_write_of_a_role(api, fault, method, status):
    fault("update_ignored")
    user, _, answer = change_role(api, method)
    assert answer.status_code == status
    assert method == "DELETE" or answer.json() == user["product_roles"][0]
    assert (roles_shown(api, user), api.server.writes) == (user["product_roles"], [])


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_lagging_read_of_a_role(api, fault, method):
    fault("lagging_read", reads=2)
    user, place, _ = change_role(api, method)
    shown = [roles_shown(api, user) == user["product_roles"] for _ in range(3)]
    assert shown == [True, True, False]
    assert [(write.user_id, write.object) for write in api.server.writes] == [(user["id"], f"w{place}")]


def test_odd_answer_to_a_role(api, fault):
    fault("odd_answer", form="lagging", times=1)
    user, place, answer = change_role(api)
    assert answer.json() == user["product_roles"][0]
    assert roles_shown(api, user)[-1]["role"] == 50
    fault("odd_answer", form="lagging", times=1)
    new = api.post(
        f"/users/{user['id']}/product_roles", json={"product_role": {"role": "none", "product_id": place}}
    )
    assert new.json()["role"] == 50


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
        ("gzip_bomb", {"megabytes": 51}, "megabytes of fault gzip_bomb must be from 1 to 50"),
        ("huge_field", {"megabytes": 0}, "megabytes of fault huge_field must be from 1 to 50"),
        ("late_write", {"requests": 0}, "requests of fault late_write must be from 1 to 1000"),
        ("late_write", {"status": 200}, "is one of 0, 202, 204, 504"),
        ("odd_answer", {"form": "none"}, "is one of no_content, accepted, "),
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


def test_faults_leave_alone_what_an_earlier_one_has_broken(api, fault):
    """Whatever the faults and their order, the sandbox itself doesn't fail."""
    user_id = some_user(api)
    breaking = ("truncated_json", "byte_order_mark", "gzip_bomb", "echoed_key", "odd_answer", "error_after_write")
    for first in breaking:
        for second in sorted(name for name, kind in KINDS.items() if kind.after):
            if second in ("dripped_body", "huge_field", "answer_lost", "truncated_body"):
                continue
            api.server.clear_faults()
            options = {"megabytes": 1} if first == "gzip_bomb" else {}
            fault(first, **options)
            fault(second, **({"megabytes": 1} if second == "gzip_bomb" else {}))
            with api.put(f"/users/{user_id}", json={"user": {"enabled": True}}, stream=True) as answer:
                answer.raw.read(decode_content=False)
            assert answer.headers["X-Aha-Sandbox"] == "1", (first, second)


def test_an_answer_that_is_no_json_has_no_data():
    assert Answer(200, b"{").data() is None
    assert Answer(200, b'{"a": 1}', "text/html").data() is None


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
