"""A worker that everybody takes for dead goes on beside the next try: nothing that either did is lost.

The case from the field: all ten users were disabled, by the two of them, and the evidence said that nine were
unchanged, so that an undo covered one.
"""

import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from airflow_provider_aha.access.decide.named import undo
from airflow_provider_aha.access.write.carry_out import carry_out
from airflow_provider_aha.access.write.guards import Caps, Protection
from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.exceptions import AhaError
from airflow_provider_aha.record import evidence
from airflow_provider_aha.record.chain import close_try
from airflow_provider_aha.record.journal import AFTER_CRASH, PROVEN, Journal
from airflow_provider_aha.record.register import files_elsewhere
from tests.access.conftest import client_of
from tests.access.test_crash_writes import LATER, command, evidence_of, sent
from tests.raw import raw


@contextmanager
def another_worker(world: Any, ids: list[str], point: str, passes: int) -> Iterator[Callable[[], str]]:
    """Start the first try in a process of its own, up to a point; call what is given to let it go on to its end."""
    line = command(world, ids, point, passes, gate=True)
    pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(line, text=True, **pipes) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "here\n"
            yield lambda: child.communicate("\n", timeout=60)[1]
        finally:
            child.kill()


def everybody_is_covered(world: Any, ids: list[str]) -> None:
    """Hold that evidence and undo cover every user, and that the chain holds."""
    rows = {row["user_id"]: row for row in evidence_of(world)}
    assert rows.keys() == set(ids)
    assert {row["proof"] for row in rows.values()} <= {AFTER_CRASH, PROVEN}
    assert not any(world.is_enabled(one) for one in ids)
    close_try(world.folder(), {}, files_elsewhere(world.folder(), world.now))
    assert world.findings() == []
    undone = world.outcomes(undo(world.client, list(rows.values()), facts={}), "undo", now=world.now + LATER)
    assert undone == dict.fromkeys(ids, "changed")


@pytest.mark.parametrize("point", ["looked", "between intent and PUT", "between PUT and outcome", "between users"])
def test_a_first_worker_that_goes_on_beside_the_retry_stops_and_nothing_is_lost(world, point):
    ids = world.people[:10]
    with another_worker(world, ids, point, 4) as go_on:
        world.carry_out(world.decide(ids), try_number=2)
        before = sent(world)
        said = go_on()
    # One that finds the others done has nothing to stop before.
    assert ("A later try of this task has begun, so this one stopped" in said) is (point == "looked")
    # What it had noted already, it may still send; nothing more.
    assert sum(sent(world).values()) - sum(before.values()) == (point == "between intent and PUT")
    everybody_is_covered(world, ids)


def test_an_undo_waits_for_a_request_that_may_still_land(world):
    """The first request hangs in a proxy, the retry proves its own, and the undo would be undone by what lands."""
    ids = world.people[:2]
    with another_worker(world, ids, "between intent and PUT", 0) as go_on:
        rows = world.carry_out(world.decide(ids), try_number=2)
        with pytest.raises(AhaError, match="Another run of this account is writing"):
            world.carry_out(undo(world.client, list(rows.values()), facts={}), "undo")
        go_on()
    undone = world.outcomes(undo(world.client, evidence_of(world), facts={}), "undo")
    assert undone == dict.fromkeys(ids, "changed")


def test_a_worker_that_sees_no_mark_turns_no_write_into_unchanged(world, monkeypatch):
    """Two workers of one try, as of a message that was delivered twice: neither is overtaken."""
    ids = world.people[:10]
    decision = world.decide(ids)
    update, held, go_on = AhaClient.update_user, threading.Event(), threading.Event()
    done: list[Any] = []

    def work() -> None:
        with client_of(world.server, max_in_flight=1) as slow:

            def wait(client: AhaClient, user_id: str, *arguments: Any) -> Any:
                if client is slow and user_id == ids[4]:
                    held.set()
                    assert go_on.wait(30)
                return update(client, user_id, *arguments)

            monkeypatch.setattr(AhaClient, "update_user", wait)
            options: Any = {"caps": Caps(), "protection": Protection(world.owner), "dry_run": False}
            done.append(carry_out(slow, world.folder(), world.run(), decision, **options))

    worker = threading.Thread(target=work)
    worker.start()
    assert held.wait(30)
    world.carry_out(decision)
    go_on.set()
    worker.join(30)
    assert len(done) == 1
    # The slow one only looked at the last five.
    assert sent(world) == Counter(ids) + Counter([ids[4]])
    assert Counter(row["outcome"] for row in evidence_of(world)) == {"changed": 10}
    everybody_is_covered(world, ids)


def test_evidence_is_made_again_where_another_worker_has_written_meanwhile(world, monkeypatch):
    """Else the one who began to compact first, and ended last, leaves out what the other did."""
    one, other = world.people[:2]
    decision = world.decide([one])
    write = evidence.write_evidence
    calls: list[Any] = []

    def interrupted(*arguments: Any) -> Any:
        if not calls:
            facts = {"outcome": "changed", "proof": PROVEN, "access": "taken"}
            Journal(world.folder(), 2).outcome(f"u{other}.account", facts)
        calls.append(arguments)
        return write(*arguments)

    monkeypatch.setattr(evidence, "write_evidence", interrupted)
    assert world.carry_out(decision).keys() == {one, other}
    assert {row["user_id"] for row in evidence_of(world)} == {one, other}
    assert len(calls) == 2


def test_a_try_that_is_overtaken_before_its_first_request_sends_nothing(world):
    Journal(world.folder(), 3).begin()
    with pytest.raises(AhaError, match="A later try of this task has begun"):
        world.carry_out(world.decide(world.people[:3]), try_number=2)
    assert world.puts == []
    assert not [path for path in raw(world.location).find(f"{world.folder().path}/events") if "-intent-" in path]
