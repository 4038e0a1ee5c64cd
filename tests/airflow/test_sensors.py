"""Sensors in DAGs on a real Airflow, by `dag.test()`: waiting on the worker and in a trigger."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parent / "dags" / "sensors.py"

both_ways = pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "trigger"])


@pytest.fixture
def dags(registered, monkeypatch, deferrable) -> Any:
    monkeypatch.setenv("DEFERRABLE", str(deferrable))
    return registered(FILE)


@pytest.fixture
def sandbox(aha_sandbox, set_connection) -> Any:
    set_connection(aha_sandbox.connection_uri)
    return aha_sandbox


def act_when(ready: Callable[[], Any], act: Callable[[], Any]) -> None:
    while not ready():
        threading.Event().wait(0.02)
    act()


@pytest.fixture
def soon(sandbox) -> Callable[[Callable[[], Any]], None]:
    """Call it with what is to happen at the sandbox once it was asked for something."""

    def plan(act: Callable[[], Any]) -> None:
        def wait() -> None:
            act_when(lambda: sandbox.requests, act)

        threading.Thread(target=wait, daemon=True).start()

    return plan


@both_ways
def test_user_sensor_ends_when_the_user_is_disabled(dags, run_dag, sandbox, soon):
    user = sandbox.account.user_ids[20]
    sandbox.account.edit_user(user, enabled=True)
    soon(lambda: sandbox.account.edit_user(user, enabled=False))
    run = run_dag(dags["sensors_user"], {"user": user, "until": "disabled"})
    assert run.state == "success"
    assert run.xcom("wait")["user_id"] == user
    assert run.xcom("wait")["enabled"] is False


@both_ways
def test_changed_sensor_tells_what_changed_since_its_state(dags, run_dag, sandbox, soon, tmp_path):
    user = sandbox.account.user_ids[20]
    sandbox.account.edit_user(user, enabled=False, administrator=False)
    state = tmp_path / "state.zip"
    # Its first look makes the state.
    soon(lambda: act_when(state.exists, lambda: sandbox.account.edit_user(user, enabled=True)))
    run = run_dag(dags["sensors_changed"], {"since": str(state), "changes": "['enabled', 'removed']"})
    assert run.state == "success"
    event = run.xcom("wait")
    assert event["counts"] == {"enabled": 1}
    (change,) = event["changes"]
    assert (change["change"], change["user_id"]) == ("enabled", user)
    assert event["left_out"] == 0


@both_ways
def test_seat_sensor_ends_when_a_group_is_full(dags, run_dag, sandbox, soon):
    group = sandbox.account.seat_groups()[0]
    soon(lambda: sandbox.account.update_seat_group(group["id"], {"capacity": group["allocated_seats"]}))
    run = run_dag(dags["sensors_seats"], {"threshold": "100%", "group": group["name"]})
    assert run.state == "success"
    assert run.xcom("wait")["percent"] == 100


@pytest.mark.parametrize("deferrable", [True], ids=["trigger"])
def test_a_key_that_is_revoked_ends_the_wait(dags, run_dag, sandbox, soon):
    user = sandbox.account.user_ids[20]
    sandbox.account.edit_user(user, enabled=True)
    soon(lambda: sandbox.account.revoke_key(sandbox.key))
    run = run_dag(dags["sensors_user"], {"user": user, "until": "disabled"})
    assert run.state == "failed"
