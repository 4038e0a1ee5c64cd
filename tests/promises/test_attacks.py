"""Attacks of a hostile tester, by what they are on. What must come of each is data, written before it was tried."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_aha.access.write.guards import Protection
from airflow_provider_aha.api.ratelimit import Clock
from airflow_provider_aha.operators.deactivations import AhaDeactivateUsersOperator
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator
from tests.access.conftest import connected, context

__all__ = ["connected", "context"]

ATTACKS = yaml.safe_load((Path(__file__).parent / "attacks.yaml").read_text(encoding="utf-8"))


def attacks(on: str) -> Callable[..., Any]:
    """Return what lets a test walk a list of attacks."""
    return pytest.mark.parametrize("case", ATTACKS[on], ids=lambda case: case["name"].replace(" ", "_"))


# --- protection that doesn't protect -------------------------------------------------------------


@attacks("last_administrators")
def test_reads_that_lag_take_no_last_administrator(case, world) -> None:
    _, first, billing = world.administrators
    second = world.owner
    nobody = Protection("999")
    world.server.account.edit_user(billing, enabled=False)
    if case["seen"] == "lagging":
        assert world.outcomes(world.decide([first]), "r1", protection=nobody) == {first: "changed"}
        # The copy that Aha! answers from doesn't know of it yet.
        world.server.account.edit_user(first, enabled=True)
    later = world.now + timedelta(days=case["days"])
    assert world.outcomes(world.decide([second]), "r2", protection=nobody, now=later) == {second: case["expect"]}


# --- access taken from the wrong person ----------------------------------------------------------


@attacks("clocks")
def test_a_worker_whose_clock_is_wrong_reads_and_writes_nothing(
    case, connected, context, tmp_path, monkeypatch
) -> None:
    here = time.time
    monkeypatch.setattr(Clock, "time", lambda _: here() + case["hours"] * 3600)
    person = next(user["id"] for user in connected.account.users() if user["enabled"] and not user["administrator"])
    tasks: list[Any] = [
        AhaExtractUsersOperator(task_id="t", base_path=str(tmp_path)),
        AhaDeactivateUsersOperator(
            task_id="t", users=[person], base_path=str(tmp_path), dry_run=False, allow_privileged=True
        ),
    ]
    refused = pytest.raises(AirflowFailException, match="clock of this worker")
    for task in tasks:
        with refused if case["expect"] == "refused" else nullcontext():
            task.execute({**context(), "outlet_events": {}})
    assert connected.account.user(person)["enabled"] is (case["expect"] == "refused")
    assert bool(list(tmp_path.rglob("users.parquet"))) is (case["expect"] == "read")
