"""Workers killed in the middle: the next try sends nothing twice, and an undo restores everybody.

A child process carries a decision out and kills itself, by SIGKILL, at one point. The sandbox lives on in this
process, so its record of requests is the witness of what both tries sent.
"""

import json
import signal
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_aha.access.decide.named import undo
from airflow_provider_aha.access.operations.workspace_role import roles_of
from airflow_provider_aha.access.plan.plan import Decision, Target
from airflow_provider_aha.exceptions import AhaError
from airflow_provider_aha.record.chain import close_try
from airflow_provider_aha.record.evidence import FILE, read_evidence
from airflow_provider_aha.record.register import files_elsewhere
from tests.raw import raw

# Each point is (where, how often it is passed unharmed).
CHILD = """
import json, os, signal, sys
from pathlib import Path

import fsspec

from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.record import evidence
from airflow_provider_aha.record import run as records
from airflow_provider_aha.access.write import carry_out as writes
from airflow_provider_aha.access.decide.named import decide
from airflow_provider_aha.access.plan.plan import Decision, Target
from airflow_provider_aha.access.write.guards import Caps, Protection
from airflow_provider_aha.record.journal import Journal
from airflow_provider_aha.store.store import Store

given = json.loads(sys.argv[1])
left = given["passes"]

def die():
    global left
    if left == 0:
        if given.get("gate"):
            # Waits, as a worker does that everybody takes for dead, until it is let through.
            print("here", flush=True)
            sys.stdin.readline()
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    left -= 1

def before(owner, name):
    original = getattr(owner, name)
    def patched(*arguments, **options):
        die()
        return original(*arguments, **options)
    setattr(owner, name, patched)

def after(owner, name, anyhow=False):
    original = getattr(owner, name)
    def patched(*arguments, **options):
        try:
            result = original(*arguments, **options)
        except Exception:
            if anyhow:
                die()
            raise
        die()
        return result
    setattr(owner, name, patched)

{
    "registered": lambda: after(writes, "register"),
    "marked": lambda: after(Journal, "begin"),
    "begun": lambda: after(records.RunFolder, "create"),
    "looked": lambda: after(AhaClient, "get_user"),
    "intent half written": lambda: before(Path, "hardlink_to"),
    "between intent and PUT": lambda: before(AhaClient, given["send"]),
    "between PUT and outcome": lambda: after(AhaClient, given["send"]),
    "answered": lambda: after(AhaClient, given["send"], anyhow=True),
    "between users": lambda: after(Journal, "outcome"),
    "before the evidence": lambda: before(evidence, "write_evidence"),
    "after the evidence": lambda: after(evidence, "write_evidence"),
}[given["point"]]()

fs = fsspec.filesystem(given["protocol"], **given["options"])
location = Store(fs, given["base"], given["base"])
run = records.Run("d", "r1", "t", 1, "ann")
config = ClientConfig(
    base_url=given["url"], account="acme", api_key=given["key"], requests_per_second=1000,
    requests_per_minute=100000, max_in_flight=given["threads"],
)
client = AhaClient(config)
if given["role"]:
    targets = [
        Target(
            one, {"role": given["role"]}, operation="workspace_role", object="w" + given["workspace"],
            before={"role": "contributor"},
        )
        for one in given["ids"]
    ]
    decision = Decision(action="change_roles", targets=targets, enabled_users=1000, holders={})
else:
    decision = decide(client, given["ids"], {"enabled": False}, action="deactivate", facts={})
writes.carry_out(
    client, records.RunFolder(location, "acme", run), run, decision,
    caps=Caps(), protection=Protection(given["owner"]), dry_run=False,
)
"""


def command(
    world: Any,
    ids: list[str],
    point: str,
    passes: int = 0,
    threads: int = 1,
    *,
    gate: bool = False,
    role: str | None = None,
    workspace: str | None = None,
) -> list[str]:
    """Return the command of a process that carries out the first try, and ends or waits at a point."""
    on_s3 = world.location.url.startswith("s3")
    given = {
        "send": {None: "update_user", "none": "remove_role"}.get(role, "set_role"),
        "role": role,
        "workspace": workspace,
        "gate": gate,
        "point": point,
        "passes": passes,
        "threads": threads,
        "ids": ids,
        "owner": world.owner,
        "url": world.server.url,
        "key": world.server.key,
        "base": world.location.path,
        "protocol": "s3" if on_s3 else "file",
        "options": dict(world.location.fs.storage_options) if on_s3 else {},
    }
    return [sys.executable, "-c", CHILD, json.dumps(given)]


def kill_a_try(world: Any, ids: list[str], point: str, passes: int = 0, threads: int = 1, **role: Any) -> None:
    line = command(world, ids, point, passes, threads, **role)
    child = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr


def sent(world: Any) -> Counter[str]:
    return Counter(user_id for user_id, body in world.puts if body == {"user": {"enabled": False}})


def evidence_of(world: Any) -> list[dict[str, Any]]:
    path = f"{world.folder().path}/{FILE}"
    return read_evidence(world.location.within(path))


# Where, after how many passes, and who by place is found after the crash.
POINTS = [
    ("registered", 0, {}),
    ("marked", 0, {}),
    ("begun", 0, {}),
    ("looked", 1, {}),
    ("intent half written", 3, {}),
    ("between intent and PUT", 0, {}),
    ("between intent and PUT", 2, {}),
    ("between PUT and outcome", 0, {0: "changed_after_crash"}),
    ("between PUT and outcome", 2, {2: "changed_after_crash"}),
    ("between users", 1, {}),
    ("before the evidence", 0, {}),
    ("after the evidence", 0, {}),
]
# The intent of the one who died is open for an hour, whatever the next try has found out.
LATER = timedelta(hours=2)


@pytest.mark.parametrize(("point", "passes", "crashed"), POINTS)
def test_the_next_try_sends_nothing_twice_and_an_undo_restores_everybody(world, point, passes, crashed):
    finish_and_undo(world, point, passes, crashed)


@pytest.mark.parametrize(("point", "passes", "crashed"), [POINTS[6], POINTS[8], POINTS[9]])
@pytest.mark.parametrize("location", ["s3"], indirect=True)
def test_on_s3_too(anywhere, point, passes, crashed):
    finish_and_undo(anywhere, point, passes, crashed)


def finish_and_undo(world: Any, point: str, passes: int, crashed: dict[int, str]) -> None:
    ids = world.people[:4]
    decision = world.decide(ids)
    kill_a_try(world, ids, point, passes)
    assert max(sent(world).values(), default=0) <= 1
    outcomes = world.outcomes(decision, try_number=2)
    assert outcomes == dict.fromkeys(ids, "changed") | {ids[place]: word for place, word in crashed.items()}
    assert sent(world) == Counter(ids)
    close_try(world.folder(), {}, files_elsewhere(world.folder(), world.now))
    assert world.findings() == []
    undone = world.outcomes(undo(world.client, evidence_of(world), facts={}), "undo", now=world.now + LATER)
    assert undone == dict.fromkeys(ids, "changed")
    assert all(world.is_enabled(one) for one in ids)


def test_a_try_that_finds_out_after_the_crash_keeps_what_the_intent_said(world):
    user_id = world.people[0]
    kill_a_try(world, [user_id], "between PUT and outcome")
    (path,) = (one for one in raw(world.location).find(world.folder().path) if "-intent-" in one)
    intent = json.loads(raw(world.location).cat_file(path))
    row = world.carry_out(world.decide([user_id]), try_number=2)[user_id]
    for name in ("event_id", "before_json", "intent_at"):
        assert row[name] == intent[name]
    assert json.loads(row["before_json"])["enabled"] is True
    assert row["verified_by"] == "read"


def test_an_undo_of_a_run_that_was_never_tried_again_is_possible_after_the_next_compaction(world):
    """Two crashes in a row: the second try dies too, the third one finds everything out."""
    ids = world.people[:4]
    kill_a_try(world, ids, "between PUT and outcome", 1)
    kill_a_try(world, ids, "between PUT and outcome", 0)
    outcomes = world.outcomes(world.decide(ids), try_number=3)
    assert sorted(outcomes.values()) == [
        "changed",
        "changed",
        "changed_after_crash",
        "changed_after_crash",
    ]
    assert sent(world) == Counter(ids)


def test_killed_among_eight_threads_everybody_is_disabled_and_restored(world):
    ids = world.people[:10]
    kill_a_try(world, ids, "between PUT and outcome", 4, threads=8)
    outcomes = world.outcomes(world.decide(ids), try_number=2)
    assert set(outcomes.values()) <= {"changed", "changed_after_crash"}
    assert not any(world.is_enabled(one) for one in ids)
    undone = world.outcomes(undo(world.client, evidence_of(world), facts={}), "undo", now=world.now + LATER)
    assert undone == dict.fromkeys(ids, "changed")


def test_who_has_changed_since_the_crash_is_left_alone_and_the_evidence_says_so(world):
    user_id = world.people[0]
    kill_a_try(world, [user_id], "between intent and PUT")
    world.server.account.edit_user(user_id, email="somebody.else@example.com")
    decision = world.decide([user_id], email="asked.for@example.com")
    for number in (2, 3):
        row = world.carry_out(decision, try_number=number)[user_id]
        assert row["outcome"] == "unknown"
        assert "after that: blocked, changed since decision: another email" in row["reason"]
    assert (sent(world), world.is_enabled(user_id)) == ({}, True)


def test_another_run_waits_an_hour_for_an_intent_of_the_dead_one_also_where_that_was_tried_again(world):
    """The request of the first worker may hang in a proxy, and land after an undo."""
    ids = world.people[:2]
    kill_a_try(world, ids, "between PUT and outcome")
    world.server.forget_requests()
    for number in (2, 3):
        with pytest.raises(AhaError, match="Another run of this account"):
            world.carry_out(world.decide(world.people[5:6]), "r2")
        assert world.puts == []
        world.carry_out(world.decide(ids), try_number=number)
        world.server.forget_requests()
    outcomes = world.outcomes(world.decide(world.people[5:6]), "r2", now=world.now + LATER)
    assert outcomes == {world.people[5]: "changed"}


def test_what_a_dead_run_may_have_done_counts_for_the_caps(world):
    kill_a_try(world, world.people[:6], "between users", 0)
    with pytest.raises(AhaError, match="after 6 within"):
        world.carry_out(world.decide(world.people[6:12]), "r2")


# --- roles ---------------------------------------------------------------------------------------


def give_roles(world: Any, ids: list[str], workspace: str) -> None:
    role = {"role": 30, "role_description": "Contributor", "product_id": workspace, "product_name": None}
    for user_id in ids:
        world.server.account.edit_user(user_id, product_roles=[role])


def roles_in(world: Any, ids: list[str], workspace: str) -> list[str]:
    return [(roles_of(world.user(one)) or {}).get(workspace, "none") for one in ids]


def to_role(ids: list[str], workspace: str, role: str) -> Decision:
    targets = [
        Target(
            one,
            {"role": role},
            operation="workspace_role",
            object=f"w{workspace}",
            before={"role": "contributor"},
        )
        for one in ids
    ]
    return Decision(action="change_roles", targets=targets, enabled_users=1000, holders={})


@pytest.mark.parametrize("role", ["viewer", "none"])
@pytest.mark.parametrize(("point", "passes", "crashed"), POINTS)
def test_no_change_of_a_role_is_sent_twice_and_an_undo_gives_back_what_is_proven(
    world, point, passes, crashed, role
):
    """Aha! doesn't show who changed a role: where the answer was lost, it stays open who did it."""
    ids, workspace = world.people[:4], world.server.account.workspaces[0].id
    give_roles(world, ids, workspace)
    kill_a_try(world, ids, point, passes, role=role, workspace=workspace)
    outcomes = world.outcomes(to_role(ids, workspace, role), try_number=2)
    assert outcomes == dict.fromkeys(ids, "changed") | {ids[place]: "unknown" for place in crashed}
    assert roles_in(world, ids, workspace) == [role] * 4
    assert Counter(write.user_id for write in world.server.writes) == Counter(ids)
    rows = evidence_of(world)
    world.outcomes(undo(world.client, rows, facts={}), "undo", now=world.now + LATER)
    expected = [role if place in crashed else "contributor" for place in range(4)]
    assert roles_in(world, ids, workspace) == expected
