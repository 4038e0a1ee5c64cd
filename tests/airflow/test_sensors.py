"""Sensors in DAGs on a real Airflow, by `dag.test()`: waiting on the worker and in a trigger."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred

from airflow_provider_aha.datasets.names import CHANGES
from airflow_provider_aha.datasets.watch import Account, Watch
from airflow_provider_aha.hooks.aha import AhaHook
from airflow_provider_aha.hooks.paths import resolve_path
from airflow_provider_aha.sensors.users import AhaSeatUsageSensor, AhaUsersChangedSensor, AhaUserSensor

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


@pytest.fixture
def how(monkeypatch) -> Callable[..., None]:
    """Call it with further arguments of the sensors, before their file is parsed."""
    return lambda **options: monkeypatch.setenv("HOW", json.dumps(options))


def test_a_sensor_that_is_rescheduled_gives_its_slot_back_and_ends_the_same(
    registered, how, run_dag, sandbox, soon
):
    how(mode="reschedule")
    user = sandbox.account.user_ids[20]
    sandbox.account.edit_user(user, enabled=True)
    soon(lambda: sandbox.account.edit_user(user, enabled=False))

    run = run_dag(registered(FILE)["sensors_user"], {"user": user, "until": "disabled"})

    assert run.state == "success"
    assert run.xcom("wait")["enabled"] is False


@pytest.mark.parametrize(("soft_fail", "state"), [(False, "failed"), (True, "skipped")])
def test_when_its_time_is_over_a_sensor_fails_or_is_skipped(registered, how, run_dag, sandbox, soft_fail, state):
    how(timeout=1, soft_fail=soft_fail, retries=3)
    user = sandbox.account.user_ids[20]
    sandbox.account.edit_user(user, enabled=True)

    run = run_dag(registered(FILE)["sensors_user"], {"user": user, "until": "disabled"})

    assert run.instance("wait").state == state


@pytest.mark.parametrize(
    ("soft_fail", "ends"),
    [
        # Airflow 2 knows only that the trigger failed.
        (False, {"AirflowSensorTimeout", "TaskDeferralError"}),
        (True, {"AirflowSkipException"}),
    ],
)
def test_when_its_time_is_over_a_deferred_sensor_fails_or_is_skipped(sandbox, soft_fail, ends):
    user = sandbox.account.user_ids[20]
    sandbox.account.edit_user(user, enabled=True)
    sensor = AhaUserSensor(
        task_id="wait", user=user, until="disabled", deferrable=True, timeout=7, soft_fail=soft_fail
    )

    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({})
    assert 0 < deferred.value.timeout.total_seconds() <= 7
    # So Airflow goes on when a trigger's time is over.
    with pytest.raises(AirflowException) as ended:
        sensor.resume_execution("__fail__", {"error": "Trigger timeout"}, {})
    assert type(ended.value).__name__ in ends


@pytest.mark.parametrize("deferrable", [False, True])
def test_what_is_so_already_is_found_by_one_look_on_the_worker(sandbox, set_connection, deferrable):
    user = sandbox.account.user_ids[20]
    sandbox.account.edit_user(user, enabled=False)
    sensor = AhaUserSensor(task_id="wait", user=user, until="disabled", deferrable=deferrable)

    assert sensor.execute({})["user_id"] == user
    assert [request.path for request in sandbox.requests] == [f"/api/v1/users/{user}"]


SENSORS = [
    pytest.param(lambda **how: AhaUserSensor(task_id="wait", user="1", **how), id="user"),
    pytest.param(lambda **how: AhaUsersChangedSensor(task_id="wait", since="/tmp/state.zip", **how), id="changed"),
    pytest.param(lambda **how: AhaSeatUsageSensor(task_id="wait", threshold=5, **how), id="seats"),
]


@pytest.mark.parametrize("make", SENSORS)
@pytest.mark.parametrize("interval", [0, 0.5, -5])
@pytest.mark.parametrize("deferrable", [False, True])
def test_an_interval_that_would_spin_is_refused_before_the_first_request(sandbox, make, interval, deferrable):
    # Airflow itself refuses what is below zero.
    with pytest.raises((AirflowException, ValueError), match="poke_interval"):
        make(poke_interval=interval, deferrable=deferrable).execute({})

    assert not sandbox.requests


@pytest.mark.parametrize(
    ("threshold", "group", "said"),
    [
        ("101%", "Engineering", "threshold in percent"),
        ("0%", "Engineering", "threshold in percent"),
        ("-5", None, "threshold"),
        ("90%", None, "needs a group"),
        ("many", None, "threshold"),
        ("", None, "threshold is not set"),
    ],
)
def test_a_threshold_that_can_not_be_is_refused_before_the_first_request(sandbox, threshold, group, said):
    with pytest.raises(AirflowFailException, match=said):
        AhaSeatUsageSensor(task_id="wait", threshold=threshold, group=group, deferrable=True).execute({})

    assert not sandbox.requests


def test_sensors_defer_where_the_configuration_says_so(airflow_db):
    code = (
        "from airflow_provider_aha.sensors import users as s\n"
        "print(s.AhaUserSensor(task_id='a', user='1').deferrable,"
        " s.AhaUsersChangedSensor(task_id='b', since='/s').deferrable,"
        " s.AhaSeatUsageSensor(task_id='c', threshold=1).deferrable)"
    )
    told = {
        wanted: subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": wanted},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()[-1]
        for wanted in ("True", "False")
    }

    assert told == {"True": "True True True", "False": "False False False"}


# --- the example DAG -----------------------------------------------------------------------------

WATCH_USERS = Path(__file__).parents[2] / "dags" / "aha_watch_users.py"


def remember(path: Path) -> None:
    """Make the state that an earlier run of the DAG would have left."""
    path.parent.mkdir(parents=True)
    client = AhaHook().get_conn()
    watch = Watch(Account(client, connection_id="aha_default"), resolve_path(str(path)), CHANGES)
    watch.move(watch.look())


def instances(run: Any) -> Counter[tuple[str, str]]:
    return Counter((one.task_id, str(one.state)) for one in run.dag_run.get_task_instances())


def test_a_new_administrator_and_a_returning_user_each_start_a_flow_of_their_own(
    registered, run_dag, sandbox, tmp_path
):
    new, back, other = (sandbox.account.user_ids[place] for place in (10, 11, 12))
    sandbox.account.edit_user(new, enabled=True, administrator=False)
    sandbox.account.edit_user(back, enabled=False, administrator=False)
    sandbox.account.edit_user(other, enabled=True)
    remember(tmp_path / "watch" / "aha_watch_users.zip")
    sandbox.account.edit_user(new, administrator=True)
    sandbox.account.edit_user(back, enabled=True)
    sandbox.account.edit_user(other, enabled=False)

    run = run_dag(registered(WATCH_USERS)["aha_watch_users"], {"aha_output_path": str(tmp_path)})

    assert run.state == "success"
    assert run.xcom("new_administrators") == [new]
    assert run.xcom("returning_users") == [back]
    assert instances(run) == {
        ("wait_for_a_change", "success"): 1,
        ("new_administrators", "success"): 1,
        ("look_at_new_administrator", "success"): 1,
        ("returning_users", "success"): 1,
        ("look_at_returning_user", "success"): 1,
    }
    looked_at = {request.path for request in sandbox.requests if request.path.startswith("/api/v1/users/")}
    assert looked_at == {f"/api/v1/users/{user}" for user in (new, back)}
