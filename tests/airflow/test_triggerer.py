"""Sensors and asset watcher in a real scheduler and triggerer, which is killed and started again meanwhile."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_aha.sandbox.testing import SandboxServer
from airflow_provider_aha.version_compat import AIRFLOW_V_3_1_PLUS
from tests.airflow.standalone import Standalone, standalone

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
# A worker starts a process for each; TEST_SENSORS=50 measures what a triggerer does with more of them.
SENSORS = int(os.environ.get("TEST_SENSORS", "8"))


@dataclass
class World:
    """A running Airflow, its account, and what is to happen there."""

    airflow: Standalone
    server: SandboxServer
    waiting: list[str]
    watched: str
    promoted: str
    group: str
    output: Path

    def deferred(self) -> int:
        (found,) = self.airflow.query("select count(*) from task_instance where state = 'deferred'")
        return int(found[0])

    def runs(self, dag_id: str) -> list[str]:
        return [state for (state,) in self.airflow.query("select state from dag_run where dag_id = ?", dag_id)]

    def found(self, name: str) -> Any:
        path = self.output / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    place = tmp_path_factory.mktemp("triggerer")
    output = place / "output"
    output.mkdir()
    with SandboxServer(users=450, limits=True) as server:
        waiting = server.account.user_ids[50 : 50 + SENSORS]
        watched = server.account.user_ids[40]
        for user in waiting:
            server.account.edit_user(user, enabled=True)
        server.account.edit_user(watched, enabled=False)
        promoted = server.account.user_ids[41]
        server.account.edit_user(promoted, enabled=True, administrator=False)
        group = server.account.seat_groups()[0]["id"]
        files = [HERE / "dags" / "waiting.py", HERE.parents[1] / "dags" / "aha_on_users_changed.py"]
        with standalone(
            place,
            files,
            AIRFLOW_CONN_AHA_DEFAULT=server.connection_uri,
            AHA_WATCH_STATE=str(place / "watch" / "watched.zip"),
            AHA_WATCH_SECONDS="10",
            TEST_USERS=json.dumps(waiting),
            TEST_GROUP=group,
            TEST_STATE=str(place / "watch" / "sensor.zip"),
            TEST_OUTPUT=str(output),
        ) as running:
            world = World(running, server, waiting, watched, promoted, group, output)
            running.wait_for("all sensors to be deferred", lambda: world.deferred() == SENSORS + 3)
            if AIRFLOW_V_3_1_PLUS:
                running.wait_for("the first look of the watcher", (place / "watch" / "watched.zip").exists)
            yield world


def test_what_happens_while_the_triggerer_is_dead_is_told_when_it_is_back(world):
    first_log = world.airflow.log("triggerer")
    world.airflow.kill_triggerer()
    account = world.server.account
    for user in world.waiting:
        account.edit_user(user, enabled=False)
    account.edit_user(world.watched, enabled=True)
    account.edit_user(world.promoted, administrator=True)
    account.add_user(name="Somebody New", email="Somebody.New@example.com")
    taken = account.seat_group(world.group)["allocated_seats"]
    account.update_seat_group(world.group, {"capacity": taken})
    world.airflow.start_triggerer()
    world.airflow.wait_for("the users' sensors", lambda: world.runs("waiting_users") == ["success"])
    world.airflow.wait_for("the other sensors", lambda: world.runs("waiting_others") == ["success"])
    assert set(world.airflow.states("waiting_users").values()) == {"success"}
    changed = world.found("changed")
    assert changed["counts"] == {"disabled": SENSORS}
    assert {row["user_id"] for row in changed["changes"]} == set(world.waiting)
    assert world.found("seats")["group_id"] == world.group
    assert world.found("email")["exists"] is True
    for log in (first_log, world.airflow.log("triggerer")):
        assert world.server.key not in log
        assert "example.com" not in log


@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow before 3.1 has no asset watchers")
def test_a_watcher_starts_one_run_and_that_looks_at_the_users(world):
    world.airflow.wait_for("a run", lambda: world.runs("aha_on_users_changed") == ["success"])
    assert world.airflow.states("aha_on_users_changed") == {
        "new_administrators": "success",
        "look_at_new_administrator": "success",
        "returning_users": "success",
        "look_at_returning_user": "success",
    }


def test_no_request_was_one_too_many(world):
    assert Counter(request.status for request in world.server.requests).keys() <= {200, 404}
