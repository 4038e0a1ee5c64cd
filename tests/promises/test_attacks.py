"""Attacks of a hostile tester, by what they are on. What must come of each is data, written before it was tried."""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.providers.common.compat.sdk import AirflowFailException
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.access.operations.user_fields import read_wanted
from airflow_provider_aha.access.write.guards import Protection
from airflow_provider_aha.api.ratelimit import Clock
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaError
from airflow_provider_aha.lists.tables import read_table, rows_of, table_of
from airflow_provider_aha.operators.deactivations import AhaDeactivateUsersOperator
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator
from airflow_provider_aha.operators.users import AhaUpdateUserOperator
from airflow_provider_aha.sandbox.testing import SandboxServer
from airflow_provider_aha.store.store import Store
from tests.access.conftest import connected, context

__all__ = ["connected", "context"]

ATTACKS = yaml.safe_load((Path(__file__).parent / "attacks.yaml").read_text(encoding="utf-8"))


def attacks(on: str) -> Callable[..., Any]:
    """Return what lets a test walk a list of attacks."""
    return pytest.mark.parametrize("case", ATTACKS[on], ids=lambda case: case["name"].replace(" ", "_"))


def somebody(server: SandboxServer) -> str:
    """Return the id of an enabled user who is no administrator."""
    users = server.account.users()
    return str(next(user["id"] for user in users if user["enabled"] and not user["administrator"]))


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


# --- access taken from the wrong person ----------------------------------------------------------


@attacks("clocks")
def test_a_worker_whose_clock_is_wrong_reads_and_writes_nothing(
    case, connected, context, tmp_path, monkeypatch
) -> None:
    here = time.time
    monkeypatch.setattr(Clock, "time", lambda _: here() + case["hours"] * 3600)
    person = somebody(connected)
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


# --- ways around the second person ---------------------------------------------------------------


@attacks("extra_fields")
def test_no_other_field_gets_past_the_second_person(case, connected, context, tmp_path) -> None:
    person = somebody(connected)
    names = {"first_name": case.get("first_name")}
    task = AhaUpdateUserOperator(
        task_id="t", user=person, extra_fields=case["fields"], dry_run=False, base_path=str(tmp_path), **names
    )
    with pytest.raises(AirflowFailException, match=r"may decide over access|no field's"):
        task.execute(context())
    assert not [one for one in connected.requests if one.method == "PUT"]


@attacks("contradictions")
def test_a_change_that_contradicts_itself_is_refused(case) -> None:
    with pytest.raises(AhaConfigurationError, match="contradict"):
        read_wanted(case["to"])


@attacks("no_caps")
def test_a_cap_of_nobody_lets_nobody_through(case, connected, context, tmp_path) -> None:
    task = AhaDeactivateUsersOperator(
        task_id="t",
        users=[somebody(connected)],
        dry_run=False,
        allow_privileged=True,
        base_path=str(tmp_path),
        **case["caps"],
    )
    with pytest.raises(AirflowFailException, match="after 0 within the last seven days"):
        task.execute(context())
    assert not [one for one in connected.requests if one.method == "PUT"]


# --- bounds --------------------------------------------------------------------------------------


@attacks("paths")
def test_a_path_that_leads_to_no_file_is_refused_at_once(case, tmp_path) -> None:
    path = tmp_path / "list.csv"
    kind, _, target = case["is"].partition(" to ")
    makers: dict[str, Callable[[], Any]] = {
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "loop": lambda: path.symlink_to(path),
        "link": lambda: path.symlink_to(target),
    }
    makers[kind]()
    with pytest.raises(AhaError) as told:
        read_table(Store(LocalFileSystem(), str(path), str(path)), "The roster")
    assert str(path) in str(told.value)
    assert not any(value in str(told.value) for value in os.environ.values() if len(value) > len(str(path)))


@attacks("queries")
def test_a_query_without_end_has_one(case) -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        cursor = database.execute(case["sql"])
        with pytest.raises(AhaConfigurationError, match="The roster's query has more than"):
            table_of("The roster's query", ["emp_no", "work_email"], rows_of(cursor, "The roster's query"))
