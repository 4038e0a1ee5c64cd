"""A worker killed in the middle of a push: the next try writes nothing twice.

A child process pushes and kills itself, by SIGKILL, at one point. The sandbox lives on in this process, so its
record of requests is the witness of what both tries sent.
"""

import json
import signal
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from airflow_provider_aha.push.targets.oomnitza.people import OomnitzaPeople
from airflow_provider_aha.push.targets.oomnitza.saas import OomnitzaSaasUsers, SaasRole
from tests.push.conftest import ACCOUNT, DAY, users
from tests.push.oomnitza import test_oomnitza_people as people
from tests.push.oomnitza import test_oomnitza_saas as saas

COUNT = 60
ROLES = {str(1000 + number): [SaasRole("viewer", "Viewer")] for number in range(COUNT)}
CHILD = """
import json, os, signal, sys

from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.record.run import Run
from airflow_provider_aha.push.answers import BatchJournal
from airflow_provider_aha.push.push import PushRequest, push
from airflow_provider_aha.push.mapping.spec import read_spec
from airflow_provider_aha.push.targets.oomnitza.people import OomnitzaPeople
from airflow_provider_aha.push.targets.oomnitza.saas import OomnitzaSaasUsers, SaasRole
from airflow_provider_aha.push.targets.oomnitza.client import OomnitzaClient
from airflow_provider_aha.push.targets.oomnitza.config import OomnitzaConfig
from airflow_provider_aha.store.store import Store

given = json.loads(sys.argv[1])
left = given["passes"]
owner, _, name = given["point"].partition(".")
owner = {"client": OomnitzaClient, "journal": BatchJournal}[owner]
original = getattr(owner, name)

def patched(*arguments, **options):
    global left
    result = original(*arguments, **options)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return result

setattr(owner, name, patched)
config = OomnitzaConfig(given["url"], "acme", given["token"], requests_per_second=10000, requests_per_minute=10**6)
client = OomnitzaClient(config)
roles = {user_id: [SaasRole(*role) for role in roles] for user_id, roles in given["roles"].items()}
target = OomnitzaPeople(client) if given["people"] else OomnitzaSaasUsers(client, "Aha!", roles=roles)
push(PushRequest(
    location=Store(LocalFileSystem(), given["base"], given["base"]),
    account=given["account"],
    snapshot=given["day"],
    spec=read_spec(given["spec"], {"role": 25}),
    target=target,
    run=Run("d", "r1", "t", 1, "ann"),
))
"""


def kill_a_try(world: Any, server: Any, spec: dict[str, Any], point: str, passes: int) -> None:
    given = {
        "point": point,
        "passes": passes,
        "people": spec["name"] == "oomnitza_people",
        "spec": spec,
        "roles": ROLES,
        "url": server.url,
        "token": server.token,
        "base": world.location.path,
        "account": ACCOUNT,
        "day": DAY,
    }
    child = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(given)], capture_output=True, text=True, timeout=60, check=False
    )
    assert child.returncode == -signal.SIGKILL, child.stderr


def written(server: Any) -> Counter[str]:
    """Count writes by what they do to whom."""
    return Counter(
        json.dumps([seen.method, seen.path, seen.body], sort_keys=True)
        for seen in server.requests
        if seen.method != "GET"
    )


@pytest.mark.parametrize(
    ("point", "passes", "on_record"),
    [
        ("client.list_people", 0, 0),
        # The 31st person has just been created; the first 25 are on record.
        ("client.create_person", 30, 25),
        ("journal.write", 0, 25),
        ("journal.write", 2, 60),
    ],
)
def test_no_person_is_written_twice(world, client, oomnitza_sandbox, point, passes, on_record):
    world.land(users(COUNT))
    kill_a_try(world, oomnitza_sandbox, people.ready_dict(), point, passes)
    there = len(oomnitza_sandbox.instance.list_people()) - 3

    summary = world.push(people.ready(), OomnitzaPeople(client), try_number=2)

    assert len(oomnitza_sandbox.instance.list_people()) == 3 + COUNT
    assert set(written(oomnitza_sandbox).values()) == {1}
    assert sum(written(oomnitza_sandbox).values()) == COUNT
    # What was taken and not yet on record is there already for the next try.
    unchanged = there - on_record
    assert summary["counts"] == {"added": COUNT - unchanged} | ({"unchanged": unchanged} if unchanged else {})


@pytest.mark.parametrize(
    ("point", "passes"),
    [
        ("client.assign_saas_users", 1),
        ("client.set_external_id", 30),
        ("client.set_saas_roles", 1),
        ("journal.write", 0),
    ],
)
def test_no_saas_user_is_written_twice(world, client, oomnitza_sandbox, point, passes):
    for number in range(COUNT):
        oomnitza_sandbox.instance.add_person(username=f"ada{number}@example.com")
    world.land(users(COUNT))
    spec = {**saas.ready().given}
    kill_a_try(world, oomnitza_sandbox, spec, point, passes)

    world.push(saas.ready(), OomnitzaSaasUsers(client, "Aha!", roles=ROLES), try_number=2)

    instance = oomnitza_sandbox.instance
    assert [one["user_external_id"] for one in instance.saas_users.values()] == list(ROLES)
    assert all(one["role_ids"] for one in instance.saas_users.values())
    assert len(instance.saas_roles) == 1
    bodies = [seen.body for seen in oomnitza_sandbox.requests if seen.method != "GET"]
    assigned = Counter(one["user_id"] for body in bodies if isinstance(body, list) for one in body)
    given_roles = Counter(user for body in bodies if isinstance(body, dict) for user in body.get("users", ()))
    identified = Counter(body["user_external_id"] for body in bodies if "user_external_id" in body)
    for each in (assigned, given_roles, identified):
        assert (len(each), set(each.values())) == (COUNT, {1})
