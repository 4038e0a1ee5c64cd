"""Workers killed in the middle of a push: the next try repeats no batch that was acknowledged.

A child process pushes to a server that lives on in this process, and is killed by SIGKILL at one point.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_aha.push.targets.http import Endpoint, HttpTarget
from tests.push.conftest import mapping, users
from tests.push.test_http import endpoint  # noqa: F401 - a fixture

CHILD = """
import json, os, signal, sys

from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.record.run import Run
from airflow_provider_aha.push import answers as journal
from airflow_provider_aha.push import push
from airflow_provider_aha.push.mapping.spec import read_spec
from airflow_provider_aha.push.targets.http import Endpoint, HttpTarget
from airflow_provider_aha.store.store import Store

given = json.loads(sys.argv[1])
left = given["passes"]

def dying(function):
    def patched(*arguments, **options):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return function(*arguments, **options)
    return patched

{
    "before a batch": lambda: setattr(HttpTarget, "send", dying(HttpTarget.send)),
    "between answer and record": lambda: setattr(journal.BatchJournal, "write", dying(journal.BatchJournal.write)),
    "while the record is written": lambda: setattr(Store, "create", dying(Store.create)),
    "before the outcomes": lambda: setattr(Store, "publish", dying(Store.publish)),
}[given["point"]]()

location = Store(LocalFileSystem(), given["base"], given["base"])
target = HttpTarget("directory", Endpoint(url=given["url"], batch=True), batch_size=10)
spec, run = read_spec(given["spec"]), Run("d", "r1", "t", 1, "a")
push.push(push.PushRequest(location, "acme", "2026-08-01", spec, target, run))
"""


def kill_a_try(world: Any, port: int, point: str, passes: int) -> None:
    given = {
        "point": point,
        "passes": passes,
        "base": world.location.path,
        "url": f"http://127.0.0.1:{port}",
        "spec": mapping(),
    }
    child = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(given)], capture_output=True, text=True, timeout=120, check=False
    )
    assert child.returncode == -signal.SIGKILL, child.stderr


@pytest.mark.parametrize(
    ("point", "passes", "repeated"),
    [
        ("before a batch", 2, 0),
        ("between answer and record", 2, 10),
        ("while the record is written", 0, 10),
        ("before the outcomes", 0, 0),
    ],
)
def test_the_next_try_repeats_no_acknowledged_batch(world, endpoint, point, passes, repeated):  # noqa: F811
    world.land(users(40))
    kill_a_try(world, endpoint.port, point, passes)
    before = len(endpoint.seen)
    target = HttpTarget("directory", Endpoint(url=f"http://127.0.0.1:{endpoint.port}", batch=True), batch_size=10)
    assert world.push(mapping(), target, try_number=2)["counts"] == {"sent": 40}
    emails = [record["email"] for one in endpoint.seen for record in one.body]
    assert len(emails) == 40 + repeated
    assert set(emails) == {f"ada{n}@example.com" for n in range(40)}
    keys = [one.headers["Idempotency-Key"] for one in endpoint.seen]
    # What is sent again is the same batch, by the same key.
    assert len(set(keys)) == 4
    if repeated:
        assert keys[before - 1] == keys[before]
    assert not [path for path in Path(world.location.path).rglob("*.tmp") if path.stat().st_size == 0]
