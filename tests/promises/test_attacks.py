"""Attacks of a hostile tester, by what they are on. What must come of each is data, written before it was tried."""

import json
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.providers.common.compat.sdk import AirflowFailException
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.access.operations.user_fields import read_wanted
from airflow_provider_aha.access.plan.approval import may_answer
from airflow_provider_aha.access.plan.plan import Plan
from airflow_provider_aha.access.plan.words import question
from airflow_provider_aha.access.write.guards import Protection
from airflow_provider_aha.api.ratelimit import Clock
from airflow_provider_aha.common.addresses import spelled
from airflow_provider_aha.common.values import to_words
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaError, AhaSnapshotError
from airflow_provider_aha.lists.matching import UserMatcher, unmatched
from airflow_provider_aha.lists.roster import Known, RosterSpec, roster_of
from airflow_provider_aha.lists.tables import read_table, rows_of, table_of
from airflow_provider_aha.operators.deactivations import AhaDeactivateUsersOperator
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator
from airflow_provider_aha.operators.plan import AhaPlanAccessOperator
from airflow_provider_aha.operators.users import AhaUpdateUserOperator
from airflow_provider_aha.sandbox.testing import SandboxServer
from airflow_provider_aha.store.store import Store
from airflow_provider_aha.verify import main as verify
from tests.access.conftest import connected, context
from tests.access.test_words import plan as a_plan
from tests.access.test_words import row as a_row

__all__ = ["connected", "context"]

NOW = datetime(2026, 3, 10, 9, tzinfo=UTC)

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


# --- who may answer, and what is asked -----------------------------------------------------------


def plan_of(name: str = "Ann Example", *, reason: str = "left", asked_by: str | None = None) -> Plan:
    ann = a_row(user_id="100500", name=name, email="ann.example@corp.example")
    return a_plan(ann, reason=reason, asked_by=asked_by)


@attacks("approvers")
def test_no_other_spelling_of_a_login_is_a_second_person(case) -> None:
    plan = plan_of(asked_by=case.get("asked_by"))
    found = "approved" if may_answer(case["by"], plan, "alice") else "refused"
    assert found == case["expect"]


@attacks("questions")
def test_nothing_hides_from_the_person_who_approves(case) -> None:
    text = case["text"] * case.get("times", 1)
    for plan in (plan_of(text), plan_of(reason=text)):
        asked = question(plan, "alice")
        assert case["never"] not in asked
        assert f"&#{ord(case['never'][0])};" not in asked
        assert len(asked) < 60_000
        assert sum(line.startswith("| 100500 |") for line in asked.splitlines()) == 1


@attacks("texts")
@pytest.mark.parametrize("name", ["reason", "ticket", "asked_by"])
def test_what_a_person_has_to_read_can_be_read(case, name) -> None:
    text = case["text"] * case.get("times", 1)
    with pytest.raises(AhaConfigurationError, match=name) if case["expect"] == "refused" else nullcontext():
        assert to_words(text, name) == text


# --- spellings -----------------------------------------------------------------------------------


@attacks("spellings")
def test_an_address_that_the_roster_spells_otherwise_is_nobody_absent(case, tmp_path) -> None:
    path = tmp_path / "roster.csv"
    path.write_text(f"emp_no,work_email\n1,{case['roster']}\n2,bob@example.com\n", encoding="utf-8")
    (spec,) = RosterSpec.read_all(
        {"path": str(path), "key": "emp_no", "emails": "work_email", "domains": ["example.com"], "min_rows": 1}
    )
    roster = roster_of(spec, read_table(Store(LocalFileSystem(), str(path), str(path)), "The roster"), NOW)
    found = "look_alike" if roster.resembles(spelled(case["user"])) else "absent"
    assert (found, roster.knows(spelled(case["user"]))) == (case["expect"], False)


@attacks("patterns")
def test_a_pattern_protects_whoever_it_means(case) -> None:
    matcher = UserMatcher(
        patterns=[case["pattern"]] if "pattern" in case else [],
        domains=[case["domain"]] if "domain" in case else [],
    )
    who = ("9", case.get("email", "ann@example.com"), case.get("user"))
    assert matcher.match(*who) is not None
    assert unmatched(matcher.entries, [who]) == []


# --- a chain that can be added to ----------------------------------------------------------------


@pytest.fixture
def recorded(connected, context, tmp_path) -> Path:
    """A base path with a snapshot, and the record of a dry run."""
    tasks: list[Any] = [
        AhaExtractUsersOperator(task_id="t", base_path=str(tmp_path)),
        AhaDeactivateUsersOperator(task_id="t", users=[somebody(connected)], base_path=str(tmp_path)),
    ]
    for task in tasks:
        task.execute({**context(), "outlet_events": {}})
    return Path(tmp_path)


@attacks("verified")
def test_what_holds_no_record_is_never_found_right(case, recorded, capsys) -> None:
    assert verify([str(recorded / case["path"])]) == case["expect"], capsys.readouterr()


@attacks("huge")
def test_a_file_that_says_it_is_huge_is_named_and_not_read(case, recorded, capsys) -> None:
    path = recorded / "access/account=127.0.0.1" / case["file"]
    with path.open("ab") as file:
        file.truncate(200 * 1024**3)
    assert verify([str(recorded)]) == 1
    told = capsys.readouterr().out
    assert f"{case['file']} is too large" in told
    assert "=None" not in told


@attacks("keys")
def test_a_key_that_another_system_writes_otherwise_is_the_same(case, tmp_path) -> None:
    path = tmp_path / "roster.csv"
    path.write_text(f"emp_no,work_email\n{case['after']},new@example.com\n", encoding="utf-8")
    (spec,) = RosterSpec.read_all(
        {"path": str(path), "key": "emp_no", "emails": "work_email", "domains": ["example.com"], "min_rows": 1}
    )
    roster = roster_of(spec, read_table(Store(LocalFileSystem(), str(path), str(path)), "The roster"), NOW)
    assert roster.continues(Known((case["before"],))) is (case["expect"] == "renamed")


@attacks("owners")
def test_a_list_without_the_owner_of_the_key_is_not_planned_from(case, recorded, context) -> None:
    (path,) = recorded.glob("manifests/account=*/snapshot=*/manifest.json")
    if case["owner"] != "first":
        path.write_text(json.dumps({**json.loads(path.read_text()), "key_owner_id": case["owner"]}))
    task = AhaPlanAccessOperator(
        task_id="p", base_path=str(recorded), rules=[{"class": "unused", "inactive_days": 90}]
    )
    refused = pytest.raises(AhaSnapshotError, match="owner of the API key")
    with refused if case["expect"] == "refused" else nullcontext():
        task.execute(context("r9"))
