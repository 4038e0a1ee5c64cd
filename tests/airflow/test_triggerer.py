"""Sensors and asset watcher in a real scheduler and triggerer, which is killed and started again meanwhile."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from airflow_provider_aha.sandbox.testing import SandboxServer
from airflow_provider_aha.version_compat import AIRFLOW_V_3_1_PLUS
from tests.airflow.standalone import Standalone, standalone

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
# A worker starts a process for each; TEST_SENSORS=50 measures what a triggerer does with more of them.
SENSORS = int(os.environ.get("TEST_SENSORS", "8"))
# Before 3.3 each watcher needs a state file of its own.
WATCHERS_SHARE = find_spec("airflow.triggers.shared_stream") is not None
WATCHED = ("added", "disabled")
BUCKET = "states"


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
    store: Any

    def deferred(self) -> int:
        (found,) = self.airflow.query("select count(*) from task_instance where state = 'deferred'")
        return int(found[0])

    def runs(self, dag_id: str) -> list[str]:
        return [state for (state,) in self.airflow.query("select state from dag_run where dag_id = ?", dag_id)]

    def states(self) -> list[str]:
        """The state files in the object store."""
        return [one["Key"] for one in self.store.list_objects_v2(Bucket=BUCKET).get("Contents", [])]

    def found(self, name: str) -> Any:
        path = self.output / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None


@pytest.fixture(scope="module")
def store() -> Iterator[tuple[str, Any]]:
    """An object store: its address, and a client of it."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "writer", "aws_secret_access_key": "writer"}
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", **keys)
    client.create_bucket(Bucket=BUCKET)
    yield f"http://{host}:{port}", client
    server.stop()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, store: tuple[str, Any]) -> Iterator[World]:
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
        here = [HERE / "dags" / name for name in ("waiting.py", "watching.py")]
        files = [*here, HERE.parents[1] / "dags" / "aha_on_users_changed.py"]
        address, client = store
        extra = {"endpoint_url": address, "region_name": "us-east-1"}
        names = {change: "both" if WATCHERS_SHARE else change for change in WATCHED}
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
            TEST_WATCHERS=json.dumps({one: f"s3://aws_test@{BUCKET}/{name}.zip" for one, name in names.items()}),
            AIRFLOW_CONN_AWS_TEST=json.dumps(
                {"conn_type": "aws", "login": "writer", "password": "writer", "extra": extra}
            ),
            AWS_EC2_METADATA_DISABLED="true",
        ) as running:
            world = World(running, server, waiting, watched, promoted, group, output, client)
            running.wait_for("all sensors to be deferred", lambda: world.deferred() == SENSORS + 3)
            if AIRFLOW_V_3_1_PLUS:
                running.wait_for("the first look of the watcher", (place / "watch" / "watched.zip").exists)
                running.wait_for(
                    "that of the others", lambda: world.states() == sorted({f"{one}.zip" for one in names.values()})
                )
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


@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow before 3.1 has no asset watchers")
def test_two_watchers_of_an_account_each_tell_their_own_from_states_in_an_object_store(world):
    for change, count in (("added", 1), ("disabled", SENSORS)):
        world.airflow.wait_for(f"a run for {change}", lambda change=change: world.runs(f"watching_{change}"))
        world.airflow.wait_for("its end", lambda change=change: world.found(f"watched_{change}"))
        (event,) = world.found(f"watched_{change}")
        assert event["counts"] == {change: count}
        assert {one["change"] for one in event["changes"]} == {change}
    assert world.states() == (["both.zip"] if WATCHERS_SHARE else ["added.zip", "disabled.zip"])


def test_no_request_was_one_too_many(world):
    assert Counter(request.status for request in world.server.requests).keys() <= {200, 404}
