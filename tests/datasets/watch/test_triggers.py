"""Triggers, run on an event loop against a sandbox, in time that only the test moves."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

import pytest

from airflow_provider_aha.datasets.names import CHANGES
from airflow_provider_aha.datasets.watch import SeatCondition, user_condition
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.sandbox.testing import SandboxServer
from airflow_provider_aha.store.store import Store
from airflow_provider_aha.triggers import shared, watcher
from airflow_provider_aha.triggers.shared import GIVE_UP_SECONDS, LONGEST_PAUSE, Pauses
from airflow_provider_aha.triggers.users import AhaConditionTrigger
from airflow_provider_aha.triggers.watcher import SETTLE_SECONDS, AhaUsersChangedTrigger
from tests.datasets.watch.conftest import TestTime, nothing

MINUTE = 60.0


def trigger_for(kind: str, condition: dict[str, Any], *steps: Any, interval: float = MINUTE) -> Any:
    trigger = AhaConditionTrigger(aha_conn_id="aha_default", kind=kind, condition=condition, poll_interval=interval)
    trigger.clock = TestTime(*steps)
    return again(trigger)


def again(trigger: Any) -> Any:
    """The trigger as the triggerer makes it of what is in the database."""
    path, arguments = trigger.serialize()
    module, _, name = path.rpartition(".")
    assert (module, name) == (type(trigger).__module__, type(trigger).__name__)
    made = type(trigger)(**json.loads(json.dumps(arguments)))
    made.clock = trigger.clock
    return made


def payloads(trigger: Any) -> list[Any]:
    """All events of a trigger that ends by itself."""

    async def collect() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    return asyncio.run(collect())


def first_payloads(trigger: Any, count: int) -> list[Any]:
    """The first events of a trigger that never ends."""

    async def collect() -> list[Any]:
        found = []
        async with aclosing(trigger.run()) as events:
            async for event in events:
                found.append(event.payload)
                if len(found) == count:
                    break
        return found

    return asyncio.run(collect())


@pytest.fixture
def user(sandbox):
    user_id = sandbox.account.user_ids[9]
    sandbox.account.edit_user(user_id, enabled=True, paid_seat=False, administrator=False)
    return user_id


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert shared._leases == []


# ---- one condition ---------------------------------------------------------------------------------------


def test_it_says_once_that_the_condition_is_met(sandbox, user):
    disabled = lambda: sandbox.account.edit_user(user, enabled=False)  # noqa: E731
    trigger = trigger_for("user", asdict(user_condition(user, "disabled", None)), nothing, nothing, disabled)
    (payload,) = payloads(trigger)
    assert (payload["status"], payload["result"]["user_id"]) == ("met", user)
    assert trigger.clock.slept == [MINUTE] * 3


def test_seats_are_waited_for(sandbox):
    group = sandbox.account.seat_groups()[0]
    fill = lambda: sandbox.account.update_seat_group(group["id"], {"capacity": group["allocated_seats"]})  # noqa: E731
    condition = asdict(SeatCondition(100, percent=True, group=group["id"]))
    (payload,) = payloads(trigger_for("seats", condition, nothing, fill))
    assert payload["result"]["percent"] == 100


def test_changes_are_noticed_and_nothing_is_written(sandbox, state):
    condition = {"since": str(state), "changes": ["added"]}
    (payload,) = payloads(trigger_for("changes", condition, nothing))
    assert payload["status"] == "met"
    assert not state.exists()


def test_what_it_carries_names_nobody(sandbox):
    condition = asdict(user_condition("grace@example.com", "exists", None))
    assert "@" not in json.dumps(trigger_for("user", condition).serialize())


def test_an_email_is_found_by_its_digest(sandbox):
    come = lambda: sandbox.account.add_user(email="Grace@example.com")  # noqa: E731
    condition = asdict(user_condition("grace@EXAMPLE.com", "exists", None))
    (payload,) = payloads(trigger_for("user", condition, nothing, come))
    assert payload["result"]["exists"] is True


@pytest.mark.parametrize(
    ("kind", "condition", "message"),
    [
        ("weather", {}, "no condition 'weather'"),
        ("changes", {"since": "relative/state.zip", "changes": ["added"]}, "is relative"),
        ("user", {"until": "disabled", "user_id": "4711"}, "no such user who could be disabled"),
        ("seats", {"threshold": 1, "group": "Nobody's"}, "paid seat groups"),
    ],
)
def test_what_can_not_be_ends_at_once(sandbox, kind, condition, message):
    (payload,) = payloads(trigger_for(kind, condition, nothing))
    assert (payload["status"], payload["final"]) == ("error", True)
    assert message in payload["message"]


def test_a_key_that_is_revoked_ends_the_wait(sandbox, user):
    revoke = lambda: sandbox.account.revoke_key(sandbox.key)  # noqa: E731
    condition = asdict(user_condition(user, "disabled", None))
    (payload,) = payloads(trigger_for("user", condition, nothing, revoke))
    assert (payload["status"], payload["final"]) == ("error", True)
    assert "401" in payload["message"]
    assert sandbox.key not in payload["message"]


def test_a_connection_without_a_host_ends_the_wait(set_connection):
    set_connection(password="k")
    (payload,) = payloads(trigger_for("user", {"until": "exists", "user_id": "1"}))
    assert (payload["status"], payload["final"]) == ("error", True)
    assert "has no host" in payload["message"]


def test_the_subdomain_may_be_a_variable(sandbox, set_connection, user, monkeypatch):
    set_connection(port=sandbox.port, schema="http", password=sandbox.key)
    monkeypatch.setenv("AIRFLOW_VAR_AHA_SUBDOMAIN", sandbox.host)
    (payload,) = payloads(trigger_for("user", {"until": "enabled", "user_id": user}, nothing))
    assert payload["status"] == "met"


def test_ten_minutes_without_aha_are_waited_out(sandbox, user):
    def down():
        sandbox.set_fault("error", status=503)

    def up():
        sandbox.clear_faults()
        sandbox.account.edit_user(user, enabled=False)

    condition = asdict(user_condition(user, "disabled", None))
    trigger = trigger_for("user", condition, down, nothing, nothing, nothing, up)
    (payload,) = payloads(trigger)
    assert payload["status"] == "met"
    assert trigger.clock.slept == [60, 60, 120, 240, 300]


def test_an_hour_without_aha_is_the_end(sandbox, user):
    sandbox.set_fault("error", status=503)
    trigger = trigger_for("user", asdict(user_condition(user, "disabled", None)))
    trigger.clock.forever = nothing
    (payload,) = payloads(trigger)
    assert (payload["status"], payload["final"]) == ("error", False)
    assert "503" in payload["message"]
    assert GIVE_UP_SECONDS <= trigger.clock.now <= GIVE_UP_SECONDS + 2 * LONGEST_PAUSE
    assert len(sandbox.requests) < 25


def test_an_error_of_our_own_is_not_hidden(sandbox, user):
    """Airflow fails the task of a trigger that raises, with the traceback in its log."""
    with pytest.raises(TypeError):
        payloads(trigger_for("user", {"nonsense": 1}))


# ---- pauses ----------------------------------------------------------------------------------------------


def test_pauses_grow_with_failures_up_to_a_bound_and_never_below_the_interval():
    clock = TestTime()
    pauses = Pauses(10, clock)
    found = []
    for _ in range(8):
        assert not pauses.failed()
        found.append(pauses.next)
    assert found == [10, 20, 40, 80, 160, 300, 300, 300]
    pauses.worked()
    assert pauses.next == 10
    long = Pauses(1000, clock)
    long.failed()
    long.failed()
    assert long.next == 1000


# ---- what triggers share -----------------------------------------------------------------------------------


def test_fifty_triggers_share_one_client_and_hold_nobody_up(set_connection):
    """They stay under both limits of an account that counts, and the loop goes on meanwhile."""
    with SandboxServer(users=450, limits=True, latency=0.02) as server:
        set_connection(server.connection_uri)
        users = server.account.user_ids[50:100]
        for user_id in users:
            server.account.edit_user(user_id, enabled=True)

        def disable(user_id):
            return lambda: server.account.edit_user(user_id, enabled=False)

        triggers = [
            trigger_for("user", asdict(user_condition(u, "disabled", None)), nothing, disable(u)) for u in users
        ]

        async def all_of_them() -> tuple[list[Any], float]:
            lag = asyncio.ensure_future(longest_lag())
            found = await asyncio.gather(*(first_of(trigger) for trigger in triggers))
            lag.cancel()
            return found, await lag

        async def first_of(trigger: Any) -> Any:
            return [event.payload async for event in trigger.run()]

        async def longest_lag() -> float:
            longest = 0.0
            try:
                while True:
                    asked = time.monotonic()
                    await asyncio.sleep(0.01)
                    longest = max(longest, time.monotonic() - asked - 0.01)
            except asyncio.CancelledError:
                return longest

        found, lag = asyncio.run(all_of_them())
    assert [payload["status"] for (payload,) in found] == ["met"] * 50
    statuses = [request.status for request in server.requests]
    assert len(statuses) == 100
    assert set(statuses) == {200}
    print(f"longest lag of the event loop: {1000 * lag:.0f} ms")
    # A busy machine holds anybody up; 100 requests on the loop would take five seconds.
    assert lag < 1


class StandingTime(TestTime):
    """A sleep takes no time."""

    __test__ = False

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


def test_triggers_that_wait_for_the_list_read_it_once(sandbox):
    condition = asdict(user_condition("nobody@example.com", "absent", None))

    async def all_of_them() -> None:
        triggers = [trigger_for("user", condition) for _ in range(20)]
        for trigger in triggers:
            trigger.clock = StandingTime()
        await asyncio.gather(*(anext(trigger.run()) for trigger in triggers))

    asyncio.run(all_of_them())
    assert len(sandbox.requests) == 1


def test_nothing_heavy_is_imported_on_the_event_loop(set_connection, tmp_path):
    """All other triggers would wait for it, a second or more."""
    code = """
import asyncio, sys, threading
from airflow_provider_aha.triggers.users import AhaConditionTrigger
from airflow_provider_aha.triggers.watcher import AhaUsersChangedTrigger
from airflow_provider_aha.store.store import Store
on_the_loop = []
def hook(event, arguments):
    if event == "import" and threading.current_thread() is threading.main_thread():
        on_the_loop.append(arguments[0])
sys.addaudithook(hook)
how = {"aha_conn_id": "aha_default", "poll_interval": 0.01}
user = AhaConditionTrigger(kind="user", condition={"until": "exists", "user_id": sys.argv[1]}, **how)
gone = AhaConditionTrigger(kind="changes", condition={"since": sys.argv[2], "changes": ["added"]}, **how)
watcher = AhaUsersChangedTrigger(state_path=sys.argv[3])
for trigger in (user, gone, watcher):
    print(asyncio.run(anext(trigger.run())).payload["status"])
heavy = {"numpy", "orjson", "pandas", "pyarrow", "requests", "zipfile", "fsspec"}
print(sorted(heavy & {name.partition(".")[0] for name in on_the_loop if name}))
"""
    spoilt = tmp_path / "state.zip"
    spoilt.write_text("hello")
    with SandboxServer(users=30) as server:
        set_connection(server.connection_uri)
        command = [sys.executable, "-c", code, server.account.user_ids[3], str(tmp_path / "none.zip"), str(spoilt)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    said = [line for line in done.stdout.splitlines() if line in ("met", "error", "[]")]
    assert said == ["met", "met", "error", "[]"], done.stdout + done.stderr


def test_a_trigger_that_is_cancelled_ends_what_it_does(sandbox, user):
    sandbox.latency = 30
    waiting = threading.active_count()

    async def cancel() -> None:
        trigger = trigger_for("user", asdict(user_condition(user, "disabled", None)), nothing)
        task = asyncio.ensure_future(anext(trigger.run()))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    began = time.monotonic()
    asyncio.run(cancel())
    assert time.monotonic() - began < 10
    sandbox.latency = 0
    assert threading.active_count() <= waiting + 8


# ---- the watcher --------------------------------------------------------------------------------------------


def watch(state: Any, *steps: Any, **arguments: Any) -> Any:
    trigger = AhaUsersChangedTrigger(state_path=str(state), poll_interval=MINUTE, **arguments)
    trigger.clock = TestTime(*steps)
    return again(trigger)


def test_the_watcher_tells_what_changes_and_goes_on(sandbox, user, state):
    off, on = (lambda value=value: sandbox.account.edit_user(user, enabled=value) for value in (False, True))
    trigger = watch(state, off, nothing, on, changes=["enabled"])
    (payload,) = first_payloads(trigger, 1)
    assert (payload["status"], payload["counts"]) == ("changed", {"enabled": 1})
    assert payload["changes"][0]["user_id"] == user


def test_the_state_moves_after_the_event_and_not_with_it(sandbox, user, state):
    disable = lambda: sandbox.account.edit_user(user, enabled=False)  # noqa: E731
    # Cut off right after the event: Airflow may not have stored it.
    (first,) = first_payloads(watch(state, disable, changes=["disabled"]), 1)
    before = state.read_bytes()
    # Found again by the next triggerer, and the same event.
    trigger = watch(
        state, nothing, nothing, lambda: sandbox.account.edit_user(user, enabled=True), nothing, disable
    )
    (second, third) = first_payloads(again_with(trigger, ["disabled"]), 2)
    assert second["event_id"] == first["event_id"]
    assert third["event_id"] != first["event_id"]
    assert trigger.clock.slept[0] == SETTLE_SECONDS
    assert state.read_bytes() != before


def again_with(trigger: Any, changes: list[str]) -> Any:
    trigger.changes = changes
    return trigger


def test_a_revoked_key_is_complained_of_once_and_a_new_one_is_taken(sandbox, user, state, set_connection):
    def revoke():
        sandbox.account.revoke_key(sandbox.key)

    def replace():
        sandbox.account.keys["new-key"] = sandbox.account.user_ids[0]
        set_connection(host=sandbox.host, port=sandbox.port, schema="http", password="new-key")
        sandbox.account.edit_user(user, enabled=False)

    trigger = watch(state, revoke, nothing, nothing, nothing, replace, changes=["disabled"])
    first, second = first_payloads(trigger, 2)
    assert first["status"] == "error"
    assert "401" in first["message"]
    assert second["counts"] == {"disabled": 1}
    assert trigger.clock.slept == [60, 60, 120, 240, 300]


def test_an_outage_of_an_hour_is_complained_of_once(sandbox, state):
    down = lambda: sandbox.set_fault("error", status=503)  # noqa: E731
    trigger = watch(state, down, *[nothing] * 60)
    with pytest.raises(AssertionError, match="went on to sleep"):
        first_payloads(trigger, 2)
    assert trigger.clock.now > 3 * GIVE_UP_SECONDS


@pytest.mark.parametrize("spoil", ["text", "account"])
def test_a_state_that_can_not_be_used_is_complained_of_and_kept(sandbox, state, spoil, set_connection):
    state.parent.mkdir()
    state.write_text("hello")
    (payload,) = first_payloads(watch(state, nothing), 1)
    assert payload["status"] == "error"
    assert "not a state file" in payload["message"]
    assert state.read_text() == "hello"


def test_a_state_that_can_not_be_written_does_not_repeat_the_event(sandbox, user, state, monkeypatch):
    disable = lambda: sandbox.account.edit_user(user, enabled=False)  # noqa: E731
    trigger = watch(state, disable, changes=["disabled"])
    monkeypatch.setattr(Store, "publish", failing_after(1))
    trigger.clock.steps += [nothing] * 6
    with pytest.raises(AssertionError, match="went on to sleep"):
        first_payloads(trigger, 2)


def failing_after(good: int) -> Any:
    """Stand in for a storage that is full after so many writes."""
    from airflow_provider_aha.exceptions import AhaStorageError

    original = Store.publish
    left = [None] * good

    def publish(*arguments: Any) -> None:
        if not left:
            raise AhaStorageError("The disk is full.")
        left.pop()
        original(*arguments)

    return publish


def test_an_error_of_somebody_else_is_named_by_its_class_only(sandbox, state, monkeypatch):
    async def broken(_: str) -> Any:
        raise RuntimeError("secret of somebody")

    monkeypatch.setattr(shared, "get_async_config", broken)
    trigger = watch(state)
    trigger.clock.forever = nothing
    (payload,) = first_payloads(trigger, 1)
    assert payload == {"status": "error", "message": "The account can't be watched (RuntimeError)."}


@pytest.mark.parametrize(
    "wrong",
    [
        {"state_path": "/data/state.json"},
        {"changes": ["renamed"]},
        {"poll_interval": 0},
        {"poll_interval": -5},
        {"poll_interval": 9},
    ],
)
def test_what_can_not_be_is_refused_when_the_dag_file_is_parsed(wrong):
    with pytest.raises(AhaConfigurationError):
        AhaUsersChangedTrigger(**{"state_path": "/data/state.zip", **wrong})


# ---- one poll for several watchers (3.3) ----------------------------------------------------------------------


class Outcome:
    """How Airflow's subscribers dealt with an event."""

    def __init__(self, *, is_clean: bool) -> None:
        self.is_clean = is_clean


class Item:
    """What Airflow hands to `advance`."""

    def __init__(self, payload: Any, *, is_clean: bool) -> None:
        self.broker_payload = payload
        self.outcome = Outcome(is_clean=is_clean)


def test_watchers_of_one_state_share_a_poll_and_each_picks_its_own():
    one, two = (AhaUsersChangedTrigger(state_path="/s.zip", changes=[change]) for change in ("added", "removed"))
    assert one.shared_stream_key() == two.shared_stream_key()
    assert AhaUsersChangedTrigger(state_path="/t.zip").shared_stream_key() != one.shared_stream_key()
    rows = [{"change": "added", "user_id": "1"}, {"change": "updated", "user_id": "2"}]
    event = {"status": "changed", "event_id": "e", "counts": {"added": 1, "updated": 1}, "changes": rows}
    error = {"status": "error", "message": "No."}

    async def picked(trigger: AhaUsersChangedTrigger) -> list[Any]:
        async def stream():
            yield event
            yield error

        return [event.payload async for event in trigger.filter_shared_stream(stream())]

    found = asyncio.run(picked(one))
    assert found == [{**event, "counts": {"added": 1}, "changes": rows[:1]}, error]
    assert asyncio.run(picked(two)) == [error]


@pytest.mark.parametrize("is_clean", [True, False])
def test_the_shared_state_moves_when_airflow_has_stored_the_event(sandbox, user, state, is_clean):
    async def follow() -> tuple[Any, Any, bool]:
        clock = TestTime(lambda: sandbox.account.edit_user(user, enabled=False))
        producer = watcher._Producer(watcher._Poll("aha_default", str(state), CHANGES, MINUTE, clock))
        stream: Any = producer.open_stream()
        first, found = await anext(stream)
        before = state.read_bytes()
        following = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.05)
        assert not following.done()
        clock.steps = [nothing, lambda: sandbox.account.edit_user(user, name="Else")]
        item: Any = Item(found, is_clean=is_clean)
        await producer.advance([item])
        moved = state.read_bytes() != before
        second, _ = await following
        await stream.aclose()
        return first, second, moved

    first, second, moved = asyncio.run(follow())
    assert first["counts"] == {"disabled": 1}
    assert moved is is_clean
    # What wasn't stored comes again.
    assert (first["event_id"] == second["event_id"]) is not is_clean
    assert second["counts"] == ({"updated": 1} if is_clean else {"disabled": 1})
