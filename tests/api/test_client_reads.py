"""Whole lists: complete, or a failure; and one user by id or email."""

from __future__ import annotations

import re
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_aha.api.client import _PagesShiftedError, _PassCheck, check_user_id
from airflow_provider_aha.api.pages import JsonPage
from airflow_provider_aha.exceptions import (
    AhaAmbiguousUserError,
    AhaAuthenticationError,
    AhaCancelledError,
    AhaConfigurationError,
    AhaError,
    AhaIncompleteReadError,
    AhaNotFoundError,
    AhaProtocolError,
    AhaServerError,
    AhaValidationError,
)
from airflow_provider_aha.sandbox.testing import Account, SandboxServer
from tests.api.conftest import Reply, Seen, Server, steady


def ids_of(users: Any) -> list[str]:
    return [user["id"] for user in users]


def page_of(seen: Seen) -> int:
    found = re.search(r"[?&]page=(\d+)", seen.path)
    assert found
    return int(found[1])


def users_page(page: int, *, pages: int, size: int = 2, **pagination: Any) -> Reply:
    first = (page - 1) * size + 1
    users = [{"id": str(10_000 + number)} for number in range(first, first + size)]
    counts = {"total_records": pages * size, "total_pages": pages, "current_page": page}
    return Reply({"users": users, "pagination": {**counts, **pagination}})


@pytest.fixture
def paged(serve) -> Callable[..., Server]:
    """Call it for a server of so many pages; a function may answer in place of it."""

    def start(pages: int, answer: Callable[[int], Reply | None] = lambda page: None, size: int = 2) -> Server:
        server: Server = serve(
            lambda seen: answer(page_of(seen)) or users_page(page_of(seen), pages=pages, size=size)
        )
        return server

    return start


# --- complete ------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [7, 50, 100, 200])
@pytest.mark.parametrize("max_in_flight", [1, 8])
def test_all_users_come_in_order_whatever_the_size_of_a_page(aha_sandbox, connect, page_size, max_in_flight):
    client = connect(aha_sandbox.url, page_size=page_size, max_in_flight=max_in_flight)

    assert ids_of(client.iter_users()) == aha_sandbox.account.user_ids

    pages = -(-500 // page_size)
    assert sorted(int(seen.query["page"]) for seen in aha_sandbox.requests) == list(range(1, pages + 1))
    assert {seen.query["per_page"] for seen in aha_sandbox.requests} == {str(page_size)}
    assert client.rereads == 0


def test_users_come_as_aha_sends_them_with_their_id_as_text(connect):
    users: list[dict[str, Any]] = [{"id": 7, "name": "Zoë 私", "nested": {"a": [1, None]}}, {"id": "19"}]
    with SandboxServer(account=Account.from_users(users)) as server:
        assert list(connect(server.url).iter_users()) == [{**users[0], "id": "7"}, users[1]]


def test_an_account_without_users_is_an_empty_list(connect):
    with SandboxServer(users=0) as server:
        client = connect(server.url)
        assert list(client.iter_users()) == []
        assert client.count_users() == 0


def test_counting_users_takes_one_small_request(aha_sandbox, connect):
    assert connect(aha_sandbox.url).count_users() == 500
    (seen,) = aha_sandbox.requests
    assert seen.query == {"per_page": "1", "page": "1"}


def test_all_workspaces_come_in_the_order_of_the_api(aha_sandbox, connect):
    listed = [
        workspace.id for workspace in aha_sandbox.account.workspaces if workspace.listed and not workspace.team
    ]

    assert ids_of(connect(aha_sandbox.url, page_size=10).iter_workspaces()) == listed


@pytest.mark.parametrize(
    "fault", ["pagination_list", "current_page_text", "zero_pages", "int_ids", "unknown_fields"]
)
def test_what_the_api_writes_in_another_way_is_understood(aha_sandbox, connect, fault):
    met = aha_sandbox.set_fault(fault)
    client = connect(aha_sandbox.url, page_size=50)

    assert ids_of(client.iter_users()) == aha_sandbox.account.user_ids
    assert (client.rereads, met.hits) == (0, 10)


def test_a_server_that_caps_the_size_of_a_page_is_read_completely(serve, connect):
    server = serve(lambda seen: users_page(page_of(seen), pages=5, size=3))

    assert len(list(connect(server.url, page_size=200).iter_users())) == 15


def test_passing_faults_on_the_way_change_nothing(aha_sandbox, connect):
    for fault in ("connection_reset", "truncated_body", "truncated_json", "maintenance", "rate_limit"):
        aha_sandbox.set_fault(fault, times=2)
    client = connect(aha_sandbox.url, page_size=25, max_retries=10)

    assert ids_of(client.iter_users()) == aha_sandbox.account.user_ids
    assert client.rereads == 0


def test_threads_may_read_side_by_side(aha_sandbox, connect):
    client = connect(aha_sandbox.url, page_size=50)

    with ThreadPoolExecutor(4) as pool:
        reads = [pool.submit(lambda: ids_of(client.iter_users())) for _ in range(4)]
        found = pool.submit(client.get_user, aha_sandbox.account.user_ids[0])

    assert all(read.result() == aha_sandbox.account.user_ids for read in reads)
    assert found.result()["id"] == aha_sandbox.account.user_ids[0]


# --- changes while reading -----------------------------------------------------------------------


@pytest.mark.parametrize("change", ["remove", "insert"])
def test_a_list_that_changes_between_two_pages_is_read_again(aha_sandbox, connect, change):
    aha_sandbox.set_fault("page_drift", change=change, page=3)
    client = connect(aha_sandbox.url, page_size=50, max_in_flight=1)

    assert ids_of(client.iter_users()) == aha_sandbox.account.user_ids
    assert len(aha_sandbox.account.user_ids) != 500
    assert client.rereads == 1


def test_a_removal_is_seen_also_when_a_new_user_makes_up_for_it_before_the_end(aha_sandbox, connect):
    aha_sandbox.set_fault("page_drift", change="remove", page=3)
    aha_sandbox.set_fault("page_drift", change="insert", page=5)
    client = connect(aha_sandbox.url, page_size=50, max_in_flight=1)

    assert ids_of(client.iter_users()) == aha_sandbox.account.user_ids
    assert client.rereads >= 1


def test_one_removed_and_one_added_between_the_same_two_requests_can_t_be_seen(aha_sandbox, connect):
    before = set(aha_sandbox.account.user_ids)
    aha_sandbox.set_fault("page_drift", change="swap", page=3)
    client = connect(aha_sandbox.url, page_size=50, max_in_flight=1)

    found = set(ids_of(client.iter_users()))

    now = set(aha_sandbox.account.user_ids)
    assert client.rereads == 0
    assert len(found) == 500
    assert found - now == before - now
    assert len(now - found) == 1


SEEN: list[tuple[str, dict[str, Any]]] = [
    ("wrong_total", {"by": 1}),
    ("wrong_total", {"by": -1}),
    ("wrong_total", {"by": 1, "page": 4}),
    ("wrong_total", {"by": -1, "page": 10}),
    ("same_page", {}),
    ("duplicate_user", {}),
    ("duplicate_user", {"page": 10}),
    ("unordered", {}),
    ("unordered", {"page": 1}),
]


@pytest.mark.parametrize(("fault", "options"), SEEN)
def test_a_list_that_never_adds_up_fails_and_yields_nobody(aha_sandbox, connect, fault, options):
    met = aha_sandbox.set_fault(fault, **options)
    client = connect(aha_sandbox.url, page_size=50, max_rereads=2)
    users = client.iter_users()

    with pytest.raises(AhaIncompleteReadError, match="in each of 3 passes it changed meanwhile") as caught:
        next(users)

    assert (caught.value.method, caught.value.path) == ("GET", "/users")
    assert (client.rereads, met.hits >= 3) == (2, True)


@pytest.mark.parametrize(("fault", "options"), SEEN)
def test_a_list_that_adds_up_the_second_time_is_taken(aha_sandbox, connect, fault, options):
    aha_sandbox.set_fault(fault, **{"page": 2, **options}, times=1)
    client = connect(aha_sandbox.url, page_size=50, max_in_flight=1)

    assert ids_of(client.iter_users()) == aha_sandbox.account.user_ids
    assert client.rereads == 1


def test_no_rereads_means_one_pass(aha_sandbox, connect):
    aha_sandbox.set_fault("wrong_total")

    with pytest.raises(AhaIncompleteReadError, match="in each of 1 passes"):
        list(connect(aha_sandbox.url, max_rereads=0).iter_users())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(
            lambda page: users_page(page, pages=4, total_pages=2),
            "4 records came of the 8",
            id="fewer pages announced",
        ),
        pytest.param(
            lambda page: users_page(page, pages=4, size=2 * (page <= 4), total_records=8, total_pages=10**9),
            "page 5 of 1000000000 was empty",
            id="more pages announced",
        ),
        pytest.param(
            lambda page: users_page(page, pages=4, size=0, total_records=8), "page 1 of 4", id="empty pages"
        ),
        pytest.param(
            lambda page: users_page(page, pages=4, current_page=1), "page 2 was asked for", id="page 1 again"
        ),
        pytest.param(
            lambda page: users_page(page, pages=4, total_records=8 + page),
            "went from 9 to 10",
            id="a growing total",
        ),
        pytest.param(
            lambda page: users_page(page, pages=4, total_records=-1), "came of the -1", id="negative total"
        ),
        pytest.param(lambda page: users_page(page, pages=4, total_pages=-4), "2 records came", id="negative pages"),
    ],
)
def test_a_pagination_that_contradicts_itself_fails(serve, connect, answer, reason):
    server = serve(lambda seen: answer(page_of(seen)))

    with pytest.raises(AhaIncompleteReadError, match=reason):
        list(connect(server.url, max_rereads=0, page_size=2, max_in_flight=2).iter_users())
    assert len(server.seen) <= 5 + 2 * 2


def test_a_workspace_that_comes_twice_fails(serve, reply, connect):
    pagination = {"total_records": 2, "total_pages": 1, "current_page": 1}
    server = serve(lambda _: reply({"products": [{"id": "9"}, {"id": "9"}], "pagination": pagination}))

    with pytest.raises(AhaIncompleteReadError, match="id 9 came twice"):
        list(connect(server.url).iter_workspaces())


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"users": []},
        {"users": {}, "pagination": {}},
        {"users": [], "pagination": []},
        {"users": [], "pagination": {}},
        {"users": [], "pagination": {"total_records": None, "total_pages": 1, "current_page": 1}},
        {"users": [], "pagination": {"total_records": "many", "total_pages": 1, "current_page": 1}},
        {"users": [7], "pagination": {"total_records": 1, "total_pages": 1, "current_page": 1}},
        {"users": [{}], "pagination": {"total_records": 1, "total_pages": 1, "current_page": 1}},
        {"users": [{"id": None}], "pagination": {"total_records": 1, "total_pages": 1, "current_page": 1}},
        {"users": [{"id": ""}], "pagination": {"total_records": 1, "total_pages": 1, "current_page": 1}},
        {"users": [{"id": True}], "pagination": {"total_records": 1, "total_pages": 1, "current_page": 1}},
        {"users": [{"id": 10**25}], "pagination": {"total_records": 1, "total_pages": 1, "current_page": 1}},
        {"users": [{"id": {}}], "pagination": {"total_records": 1, "total_pages": 1, "current_page": 1}},
    ],
)
def test_an_answer_that_is_no_page_of_users_is_no_answer_of_aha(serve, reply, connect, body):
    server = serve(lambda _: reply(body))

    with pytest.raises(AhaProtocolError, match="that is not the API's JSON"):
        list(connect(server.url, max_retries=1).iter_users())
    assert len(server.seen) == 2


@steady
@given(
    st.lists(st.integers(1, 10**19), unique=True, max_size=30).map(sorted),
    st.integers(1, 7),
    st.data(),
)
def test_one_record_lost_repeated_or_moved_never_passes_unseen(ids, size, data):
    def read(served: list[int]) -> list[str]:
        pages = [served[at : at + size] for at in range(0, len(served), size)] or [[]]
        bodies = iter(
            JsonPage(
                b'{"users":[%b],"pagination":{"total_records":%d,"total_pages":%d,"current_page":%d}}'
                % (b",".join(b'{"id":"%d"}' % one for one in page), len(ids), -(-len(ids) // size), number),
                "users",
            )
            for number, page in enumerate(pages, 1)
        )
        return _checked(list(bodies))

    assert read(ids) == [str(one) for one in ids]
    if len(ids) < 2:
        return
    at = data.draw(st.integers(0, len(ids) - 1))
    change = data.draw(st.sampled_from(["lost", "repeated", "moved", "replaced by another"]))
    others = [*ids[:at], *ids[at + 1 :]]
    to = data.draw(st.integers(0, len(others)).filter(lambda place: place != at))
    damaged = {
        "lost": others,
        "repeated": [*ids[: at + 1], *ids[at:]],
        "moved": [*others[:to], ids[at], *others[to:]],
        "replaced by another": [*others[:to], *others[:1], *others[to:]],
    }[change]
    with pytest.raises(_PagesShiftedError):
        read(damaged)


def _checked(pages: list[JsonPage]) -> list[str]:
    check = _PassCheck(ordered=True)
    for number, page in enumerate(pages, 1):
        check.add(page, number)
    check.finish()
    return [one for page in pages for one in page.ids]


# --- consumers -----------------------------------------------------------------------------------


def test_pages_that_a_consumer_leaves_are_read_and_checked_all_the_same(aha_sandbox, connect):
    client = connect(aha_sandbox.url, page_size=50)

    assert client.read_users(lambda pages: next(pages).number, users_decode) == 1
    assert len(aha_sandbox.requests) == 10


def test_a_consumer_that_leaves_pages_gets_no_result_of_an_incomplete_list(aha_sandbox, connect):
    aha_sandbox.set_fault("wrong_total", page=9)

    with pytest.raises(AhaIncompleteReadError):
        connect(aha_sandbox.url, page_size=50).read_users(lambda pages: next(pages).number, users_decode)


@pytest.mark.parametrize("fault", ["wrong_total", "duplicate_user", "unordered"])
def test_a_consumer_that_swallows_the_exception_gets_no_result_either(aha_sandbox, connect, fault):
    aha_sandbox.set_fault(fault, page=10)

    def swallow(pages: Iterator[JsonPage]) -> str:
        try:
            for _ in pages:
                pass
        except Exception:  # noqa: BLE001
            return "all is well"
        return "all is well, too"

    with pytest.raises(AhaIncompleteReadError):
        connect(aha_sandbox.url, page_size=50).read_users(swallow, users_decode)


def test_a_consumer_sees_every_pass_from_its_start(aha_sandbox, connect):
    aha_sandbox.set_fault("page_drift", change="remove", page=3)
    passes: list[list[int]] = []

    def consume(pages: Iterator[JsonPage]) -> int:
        passes.append([])
        for page in pages:
            passes[-1].append(page.number)
        return len(passes)

    client = connect(aha_sandbox.url, page_size=100, max_in_flight=1)

    assert client.read_users(consume, users_decode) == 2
    assert passes == [[1, 2], [1, 2, 3, 4, 5]]


def users_decode(bodies: Sequence[bytes]) -> list[JsonPage]:
    return [JsonPage(body, "users") for body in bodies]


def wait_for_page_threads() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("aha-page"):
            thread.join(10)
            assert not thread.is_alive()


def test_a_consumer_that_fails_ends_the_requests(paged, connect):
    server = paged(200)

    def fail(pages: Iterator[JsonPage]) -> None:
        next(pages)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        connect(server.url, page_size=2, max_in_flight=4).read_users(fail, users_decode)

    wait_for_page_threads()
    assert len(server.seen) <= 1 + 2 * 4


# --- look-ahead ----------------------------------------------------------------------------------


@pytest.mark.parametrize("retries", [0, 5])
def test_a_page_that_turns_out_to_be_none_when_it_is_decoded_is_fetched_again(paged, connect, retries):
    broken = {3, 7}

    def answer(page: int) -> Reply | None:
        if page in broken:
            broken.remove(page)
            return Reply({"users": [{"id": True}], "pagination": {}})
        return None

    server = paged(10, answer)

    users = ids_of(connect(server.url, page_size=2, max_in_flight=4, max_retries=retries).iter_users())

    assert users == [str(10_000 + number) for number in range(1, 21)]
    assert sorted(map(page_of, server.seen)) == sorted([*range(1, 11), 3, 7])


def test_a_page_that_stays_none_is_no_answer_of_aha(paged, connect):
    server = paged(10, lambda page: Reply({"users": [], "pagination": {}}) if page == 7 else None)

    with pytest.raises(AhaProtocolError, match="that is not the API's JSON"):
        list(connect(server.url, page_size=2, max_in_flight=4, max_retries=2).iter_users())
    wait_for_page_threads()
    assert [page_of(seen) for seen in server.seen].count(7) == 4


def test_a_late_page_does_not_keep_those_after_it_waiting(paged, connect):
    sixth = threading.Event()

    def answer(page: int) -> None:
        if page == 6:
            sixth.set()
        if page == 2:
            assert sixth.wait(10)

    server = paged(6, answer)

    assert len(list(connect(server.url, page_size=2, max_in_flight=3).iter_users())) == 12


def test_as_many_pages_as_allowed_are_in_flight_and_never_more(paged, connect):
    together = threading.Barrier(3)
    lock = threading.Lock()
    now, most = 0, 0

    def answer(page: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        if page > 1:
            together.wait(10)
        with lock:
            now -= 1

    server = paged(10, answer)

    assert len(list(connect(server.url, page_size=2, max_in_flight=3).iter_users())) == 20
    assert most == 3


def test_the_bound_holds_for_all_reads_of_a_client_together(paged, connect):
    lock = threading.Lock()
    now, most = 0, 0

    def answer(_: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        with lock:
            now -= 1

    client = connect(paged(6, answer).url, page_size=2, max_in_flight=2)
    with ThreadPoolExecutor(4) as pool:
        reads = [pool.submit(lambda: len(list(client.iter_users()))) for _ in range(4)]

    assert [read.result() for read in reads] == [12] * 4
    assert most <= 2


def test_pages_are_not_fetched_further_ahead_than_allowed_of_a_slow_reader(paged, connect):
    server = paged(30)

    def look(pages: Iterator[JsonPage]) -> list[int]:
        return [max(map(page_of, server.seen)) - page.number for page in pages]

    assert max(connect(server.url, page_size=2, max_in_flight=4).read_users(look, users_decode)) <= 8


def test_pages_that_arrive_in_another_order_are_yielded_in_theirs(paged, connect):
    third = threading.Event()

    def answer(page: int) -> None:
        if page == 2:
            assert third.wait(10)
        if page == 3:
            third.set()

    users = ids_of(connect(paged(5, answer).url, page_size=2, max_in_flight=2).iter_users())

    assert users == sorted(users)


def test_nobody_is_yielded_before_the_last_page_has_come(paged, connect):
    server = paged(5, lambda page: Reply(status=403) if page == 5 else None)
    users = connect(server.url, page_size=2).iter_users()

    with pytest.raises(AhaError, match="403"):
        next(users)


def test_a_read_under_both_limits_gets_no_429(connect):
    # However badly the machine bunches requests up: 50 / 1.06 and the 4 in flight are less than 60.
    with SandboxServer(users=80, limits=True, requests_per_second=60) as server:
        client = connect(server.url, page_size=1, requests_per_second=50, max_in_flight=4, clock=None)

        assert ids_of(client.iter_users()) == server.account.user_ids
        assert {seen.status for seen in server.requests} == {200}


# --- failures while others are at work -----------------------------------------------------------


def test_a_refused_key_ends_the_read_though_an_earlier_page_still_waits_for_its_next_try(paged, connect):
    both = threading.Barrier(2)

    def answer(page: int) -> Reply | None:
        if page in (2, 3):
            both.wait(10)
            return Reply(status=429, headers={"Retry-After": "60"}) if page == 2 else Reply(status=401)
        return None

    server = paged(50, answer)
    start = time.monotonic()

    with pytest.raises(AhaAuthenticationError) as caught:
        list(connect(server.url, page_size=2, max_in_flight=8, clock=None).iter_users())

    assert time.monotonic() - start < 20
    assert (caught.value.path, caught.value.attempts) == ("/users", 1)
    wait_for_page_threads()
    # The first page, and what may be under way ahead of the reader.
    assert len(server.seen) <= 1 + 2 * 8


def test_a_refused_key_ends_the_read_though_an_earlier_page_hangs(paged, connect):
    hanging, done = threading.Event(), threading.Event()

    def answer(page: int) -> Reply | None:
        if page == 2:
            hanging.set()
            done.wait(30)
        if page == 3:
            assert hanging.wait(10)
            return Reply(status=401)
        return None

    server = paged(50, answer)
    start = time.monotonic()

    with pytest.raises(AhaAuthenticationError):
        list(connect(server.url, page_size=2, max_in_flight=4, read_timeout=30.0).iter_users())

    assert time.monotonic() - start < 10
    done.set()
    wait_for_page_threads()
    assert len(server.seen) <= 1 + 2 * 4


def test_a_page_that_fails_for_good_tells_its_own_cause(paged, connect):
    server = paged(50, lambda page: Reply(status=503) if page == 7 else None)

    with pytest.raises(AhaServerError, match="status 503") as caught:
        list(connect(server.url, page_size=2, max_in_flight=8).iter_users())

    assert (caught.value.method, caught.value.path, caught.value.attempts) == ("GET", "/users", 6)
    wait_for_page_threads()


def test_a_bug_in_a_decoder_comes_out_as_it_is(aha_sandbox, connect):
    def decode(_: bytes) -> JsonPage:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        connect(aha_sandbox.url).read_users(list, decode)


def test_cancelling_ends_a_read_within_moments_though_the_server_hangs(paged, connect):
    both, hanging, done = threading.Barrier(2), threading.Event(), threading.Event()

    def answer(page: int) -> None:
        if page > 1:
            both.wait(10)
            hanging.set()
            done.wait(30)

    client = connect(paged(50, answer).url, page_size=2, max_in_flight=2, read_timeout=30.0, clock=None)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(lambda: list(client.iter_users()))
        assert hanging.wait(10)
        start = time.monotonic()
        client.cancel()
        error = read.exception(20)
        took = time.monotonic() - start
    done.set()

    assert isinstance(error, AhaCancelledError)
    assert took < 5
    wait_for_page_threads()


# --- one user ------------------------------------------------------------------------------------


def test_a_user_is_found_by_id(aha_sandbox, connect):
    client = connect(aha_sandbox.url)
    user_id = aha_sandbox.account.user_ids[3]

    assert client.get_user(f" {user_id} ")["email"] == aha_sandbox.account.user(user_id)["email"]
    assert client.get_user(user_id)["id"] == user_id


@pytest.mark.parametrize(
    "user_id",
    [
        "",
        " ",
        "1/2",
        "../me",
        "1?x=1",
        "1#",
        "%31",
        "-1",
        "1.0",
        "1e3",
        "٣",
        "１",
        "²",
        "1" * 21,
        None,
        True,
        "1\n2",
    ],
)
def test_what_is_no_id_is_refused_before_any_request(aha_sandbox, connect, user_id):
    client = connect(aha_sandbox.url)

    for call in (lambda: client.get_user(user_id), lambda: client.update_user(user_id, {"enabled": False})):
        with pytest.raises(AhaConfigurationError, match="is not the id of an Aha! user: an id is made of digits"):
            call()
    assert aha_sandbox.requests == []


@steady
@given(st.integers(0, 10**20 - 1))
def test_every_id_of_digits_is_taken_as_text_and_as_number(number):
    assert check_user_id(number) == check_user_id(f" {number}\n") == str(number)


def test_a_user_that_is_not_there_is_not_found(aha_sandbox, connect):
    with pytest.raises(AhaNotFoundError):
        connect(aha_sandbox.url).get_user("1")


@pytest.mark.parametrize("body", [{"user": {"id": "8"}}, {"id": 8}])
def test_another_user_than_the_one_asked_for_is_refused(serve, reply, connect, body):
    client = connect(serve(lambda _: reply(body)).url)

    with pytest.raises(AhaProtocolError, match="answered with another user than 7") as caught:
        client.get_user("7")
    assert caught.value.path == "/users/7"
    # To a write it is an acknowledgement that shows nothing of this user.
    assert client.update_user("7", {"enabled": False}) == {}


@pytest.mark.parametrize("body", [{"user": {"id": "7"}}, {"id": "7"}, {"id": 7}, {"user": {"id": 7}}])
def test_a_user_may_come_wrapped_or_bare_and_with_an_id_of_either_type(serve, reply, connect, body):
    client = connect(serve(lambda _: reply(body)).url)

    assert client.get_user("7") == client.update_user("7", {"enabled": False}) == client.me() == {"id": "7"}


@pytest.mark.parametrize(
    "body", [None, [], "7", {}, {"user": None}, {"user": []}, {"user": {}}, {"user": {"id": ""}}]
)
def test_an_answer_without_a_user_is_no_answer_of_aha(serve, reply, connect, body):
    client = connect(serve(lambda _: reply(body)).url, max_retries=0)

    for call in (client.me, lambda: client.get_user("7")):
        with pytest.raises(AhaProtocolError, match="that is not the API's JSON"):
            call()


@pytest.mark.parametrize("fault", [None, "wrapped_put"])
def test_an_update_sends_the_fields_and_returns_what_became_of_the_user(aha_sandbox, connect, fault):
    if fault:
        aha_sandbox.set_fault(fault)
    user_id = aha_sandbox.account.user_ids[3]

    user = connect(aha_sandbox.url).update_user(user_id, {"enabled": False})

    assert (user["id"], user["enabled"]) == (user_id, False)
    (seen,) = aha_sandbox.requests
    assert (seen.method, seen.body) == ("PUT", {"user": {"enabled": False}})
    assert aha_sandbox.account.user(user_id)["enabled"] is False


def test_an_update_that_changes_nothing_is_returned_as_it_is(aha_sandbox, connect):
    aha_sandbox.set_fault("update_ignored")
    user_id = next(user["id"] for user in aha_sandbox.account.users() if user["enabled"])

    assert connect(aha_sandbox.url).update_user(user_id, {"enabled": False})["enabled"] is True


def test_an_update_without_changes_is_refused(aha_sandbox, connect):
    with pytest.raises(AhaConfigurationError, match=r"No change was given for user 7\."):
        connect(aha_sandbox.url).update_user("7", {})
    assert aha_sandbox.requests == []


def test_a_value_that_aha_refuses_is_a_validation_error(aha_sandbox, connect):
    with pytest.raises(AhaValidationError, match=r"refused a value of the request \(422\)"):
        connect(aha_sandbox.url).update_user(aha_sandbox.account.user_ids[3], {"email": "nobody"})


# --- by email ------------------------------------------------------------------------------------

PEOPLE: list[dict[str, Any]] = [
    {"id": "11", "email": "Ada@Example.com"},
    {"id": "12", "email": " bob@example.com "},
    {"id": "13", "email": "twin@example.com"},
    {"id": "14", "email": "TWIN@example.com"},
    {"id": "15", "email": "ΣΊΣΥΦΟΣ@example.com"},
    {"id": "16", "email": None},
    {"id": "17", "email": ""},
    {"id": "18"},
    {"id": "19", "email": 5},
]


@pytest.fixture(scope="module")
def people() -> Iterator[SandboxServer]:
    with SandboxServer(account=Account.from_users(PEOPLE)) as server:
        yield server


@pytest.mark.parametrize(
    ("email", "user_id"),
    [
        ("ada@example.com", "11"),
        (" ADA@EXAMPLE.COM\n", "11"),
        ("bob@example.com", "12"),
        ("σίσυφος@example.com", "15"),
    ],
)
def test_an_email_finds_its_user_whatever_the_case(people, connect, email, user_id):
    assert connect(people.url).find_user(email)["id"] == user_id


def test_an_email_of_two_users_names_their_ids_and_not_the_address(people, connect):
    with pytest.raises(AhaAmbiguousUserError, match=r"belongs to 2 users of acme \(ids 13, 14\)") as caught:
        connect(people.url).find_user("twin@example.com")
    assert "twin" not in str(caught.value)


@pytest.mark.parametrize("email", ["eve@example.com", "ada@example", "da@example.com", "none", "5@"])
def test_an_email_of_nobody_is_not_found_and_not_repeated(people, connect, email):
    with pytest.raises(AhaNotFoundError, match=r"^No user of acme has the email that was asked for\.$"):
        connect(people.url).find_user(email)


@pytest.mark.parametrize("email", ["", "  ", "\n"])
def test_an_empty_email_names_nobody_though_there_are_users_without_one(people, connect, email):
    people.forget_requests()

    with pytest.raises(AhaConfigurationError, match="An empty email names no user"):
        connect(people.url).find_user(email)
    assert people.requests == []


# --- as the list shows it ------------------------------------------------------------------------


@pytest.fixture
def grouped(aha_sandbox) -> dict[str, Any]:
    users: Iterator[dict[str, Any]] = aha_sandbox.account.users()
    return next(user for user in users if user.get("paid_seat_group"))


def test_a_user_of_the_list_has_the_seat_group_that_the_single_user_lacks(aha_sandbox, connect, grouped):
    client = connect(aha_sandbox.url)

    assert client.get_listed_user(grouped["id"])["paid_seat_group"] == grouped["paid_seat_group"]
    assert "paid_seat_group" not in client.get_user(grouped["id"])
    assert len(aha_sandbox.requests) == 3


def test_a_filter_that_finds_somebody_else_is_not_believed(aha_sandbox, connect, grouped):
    aha_sandbox.set_fault("null_value", key="email", path=f"/users/{grouped['id']}")
    client = connect(aha_sandbox.url)

    assert client.get_listed_user(grouped["id"]) == grouped
    assert all("email" not in seen.query for seen in aha_sandbox.requests)

    aha_sandbox.clear_faults()
    aha_sandbox.account.find_by_email = lambda email: aha_sandbox.account.user_ids[-1:]
    assert client.get_listed_user(grouped["id"]) == grouped


@pytest.mark.parametrize("fault", [None, "error", "connection_reset", "truncated_body"])
def test_no_log_at_any_level_shows_the_email_that_is_asked_for(aha_sandbox, connect, grouped, caplog, fault):
    """urllib3 logs every request with its query."""
    caplog.set_level("DEBUG", "urllib3")
    if fault:
        aha_sandbox.set_fault(fault, path="/users", times=1)
    client = connect(aha_sandbox.url)

    assert client.get_listed_user(grouped["id"]) == grouped
    assert any("email" in seen.query for seen in aha_sandbox.requests)
    # The sandbox shares the process, and its people are invented.
    mine = (record for record in caplog.records if not record.name.startswith("uvicorn"))
    logged = "\n".join(record.getMessage().lower() for record in mine)
    assert '"get /users http/1.1" 200' in logged
    for personal in (grouped["email"], grouped["email"].partition("@")[0], "%40", "email="):
        assert personal.lower() not in logged


def test_requests_of_others_are_logged_as_they_are(aha_sandbox, connect, caplog):
    caplog.set_level("DEBUG", "urllib3")
    connect(aha_sandbox.url).me()
    requests.get(f"{aha_sandbox.url}/api/v1/users?page=7", timeout=10)
    assert "/api/v1/users?page=7" in caplog.text


def test_a_user_whom_the_list_does_not_show_is_not_found(serve, connect):
    pagination = {"total_records": 0, "total_pages": 0, "current_page": 1}

    def answer(seen: Seen) -> Reply:
        listed = {"users": [], "pagination": pagination}
        return Reply(listed if "?" in seen.path else {"user": {"id": "7", "email": "ada@example.com"}})

    with pytest.raises(AhaNotFoundError, match="doesn't show user 7") as caught:
        connect(serve(answer).url).get_listed_user("7")
    assert "ada" not in str(caught.value)


# --- memory --------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_number_of_pages(paged, connect):
    def peak(pages: int) -> int:
        server: Server = paged(pages, lambda _: server.seen.clear(), size=200)
        client = connect(server.url, max_in_flight=2)
        tracemalloc.start()
        try:
            count = sum(1 for _ in client.iter_users())
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            assert count == pages * 200

    peak(5)
    few, many = peak(10), peak(60)

    # One to five pages are decoded together, as they happen to come.
    assert many < few * 3
