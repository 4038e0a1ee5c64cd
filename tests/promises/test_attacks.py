"""Attacks of a hostile tester, by what they are on. What must come of each is data, written before it was tried."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_aha.access.write.guards import Protection

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
        assert world.outcomes(world.decide([first]), "r1", protection=nobody) == {first: "deactivated"}
        # The copy that Aha! answers from doesn't know of it yet.
        world.server.account.edit_user(first, enabled=True)
    later = world.now + timedelta(days=case["days"])
    assert world.outcomes(world.decide([second]), "r2", protection=nobody, now=later) == {second: case["expect"]}
