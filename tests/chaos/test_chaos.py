"""Thousands of seeded runs under faults: whatever happens, what a run says is true.

``CHAOS_RUNS`` says how many there are, ``CHAOS_SEED`` with which seed they begin. A run that failed is
played again by its seed: ``CHAOS_SEED=4711 CHAOS_RUNS=1``.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_aha.sandbox.testing import OomnitzaSandbox, SandboxServer
from tests.chaos.chaos import Arena, Play, play, replay
from tests.chaos.leavers import plan_leavers
from tests.chaos.roles import change_roles
from tests.chaos.storage import deactivate_on_a_failing_store, land_on_a_failing_store, push_to_a_file
from tests.chaos.targets import push_to_http, push_to_sql
from tests.chaos.writing import deactivate

FIRST = int(os.environ.get("CHAOS_SEED", "0"))
RUNS = int(os.environ.get("CHAOS_RUNS", "80"))
# Runs that once found something: what came of it is in the log of their commit.
REGRESSIONS = ((deactivate_on_a_failing_store, 19),)
PLAYS = (
    *(push_to_http, push_to_sql, push_to_a_file, land_on_a_failing_store, deactivate_on_a_failing_store),
    *(deactivate, deactivate, plan_leavers, change_roles),
)
# A part is what one worker of pytest takes at a time.
PART = 40
PARTS = [range(start, min(start + PART, FIRST + RUNS)) for start in range(FIRST, FIRST + RUNS, PART)]


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[SandboxServer, OomnitzaSandbox]]:
    with SandboxServer(users=1) as aha, OomnitzaSandbox() as oomnitza:
        yield aha, oomnitza


@pytest.fixture
def arena(servers: tuple[SandboxServer, OomnitzaSandbox], tmp_path: Path) -> Arena:
    return Arena(*servers, tmp_path / "base")


@pytest.mark.parametrize(
    ("kind", "seed"), REGRESSIONS, ids=[f"{kind.__name__}-{seed}" for kind, seed in REGRESSIONS]
)
def test_what_was_found_once_stays_mended(arena: Arena, kind: Play, seed: int):
    replay(kind, seed, arena)


@pytest.mark.parametrize("seeds", PARTS, ids=[f"{part.start}-{part.stop - 1}" for part in PARTS])
def test_whatever_happens_what_a_run_says_is_true(arena: Arena, seeds: range):
    for seed in seeds:
        play(seed, arena, PLAYS)
