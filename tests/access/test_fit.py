"""A plan fits the caps: who is left to the next one, and that nobody approves what can't be carried out."""

import shutil
from dataclasses import MISSING, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_aha.access.decide.fit import Budget, postponed
from airflow_provider_aha.access.plan.caps import Caps
from airflow_provider_aha.access.plan.plan import Plan, PlanRow
from airflow_provider_aha.access.plan.words import question, summary
from airflow_provider_aha.common.moments import timestamp
from airflow_provider_aha.exceptions import AhaGuardError
from airflow_provider_aha.record.journal import PROVEN, Journal
from airflow_provider_aha.record.register import register, sign_off
from airflow_provider_aha.record.run import Run, RunFolder
from tests.access.test_plan import DAY, LEFT, NOW, UNUSED, World, api_user, everybody, iso, people


def row(user_id: str, user_class: str = "unused", seen: str | None = None, created: str = "2020") -> PlanRow:
    known: dict[str, Any] = {"user_id": user_id, "user_class": user_class, "accessed_at": seen}
    known |= {"created_at": created, "wanted": {"enabled": False}, "before": {"enabled": True}}
    unknown = dict.fromkeys(field.name for field in fields(PlanRow) if field.default is MISSING)
    return PlanRow(**{**unknown, **known})


def later(rows: list[PlanRow], enabled: int = 1000, **budget: Any) -> set[str]:
    given_caps = {"max_users": budget.pop("max_users", 3), "max_percent": 100.0}
    return set(postponed(rows, Budget(Caps(**given_caps), **budget), enabled))


# --- who is left to the next plan ----------------------------------------------------------------

SEEN = (("1", 5), ("2", 1), ("3", 4), ("5", 3))
FIVE = [*(row(number, seen=f"2025-0{month}") for number, month in SEEN), row("4")]
ALL = {"1", "2", "3", "4", "5"}
NAMED = [row(str(number), "named", seen=f"2025-0{number}") for number in range(1, 6)]
FOUR_LEFT = [row(f"9{number}", "left") for number in range(4)]


@pytest.mark.parametrize(
    ("name", "rows", "budget", "expected"),
    [
        ("there is room for all", FIVE, {"max_users": 5}, set()),
        ("longest unused first, by the day of creation where never seen", FIVE, {}, {"1", "3"}),
        ("who was postponed comes first", FIVE, {"waiting": {"1", "3"}}, {"2", "5"}),
        ("changes of the last days count", FIVE, {"recent": {"8", "9"}}, {"1", "2", "3", "5"}),
        ("who was changed lately counts once", FIVE, {"recent": {"1", "2"}}, {"3", "5"}),
        ("no room", FIVE, {"max_users": 0}, ALL),
        ("less than no room", FIVE, {"recent": {"1", "7", "8", "9"}}, ALL),
        ("a share of the enabled users", FIVE, {"max_users": 25, "enabled": 2}, {"1", "3", "5"}),
        ("a plan that isn't made to fit", FIVE, {"max_users": 0, "fits": False}, set()),
        ("nobody", [], {"max_users": 0}, set()),
        ("people who left", FOUR_LEFT, {}, set()),
        ("people who left have a budget of their own", [*FIVE, *FOUR_LEFT[:2]], {}, {"1", "3"}),
        ("more people who left than there is room hold nobody up", [*FIVE, *FOUR_LEFT], {}, {"1", "3"}),
        ("people who left lately leave as much room", FIVE, {"recent_left": {"8", "9"}}, {"1", "3"}),
        ("who was named goes before seats", [row("7", "named", seen="2025-11"), *FIVE], {}, {"1", "3", "5"}),
        ("named ones are postponed too", NAMED, {}, {"4", "5"}),
    ],
)
def test_whom_the_caps_postpone(name, rows, budget, expected):
    assert later(rows, **budget) == expected, name


rows_of_a_plan = st.lists(
    st.builds(
        row,
        st.integers(1, 30).map(str),
        st.sampled_from(["unused", "named", "left"]),
        st.none() | st.sampled_from(["2025-01", "2025-06"]),
    ),
    unique_by=lambda one: one.user_id,
)
users = st.sets(st.integers(1, 40).map(str), max_size=10)


@given(rows_of_a_plan, users, users, users, st.integers(0, 12), st.integers(1, 60))
def test_a_plan_can_be_carried_out_and_nobody_is_postponed_without_need(
    rows, recent, recent_left, waiting, most, enabled
):
    caps = Caps(most, 20)
    budget = Budget(caps, dict.fromkeys(recent, NOW), recent_left, waiting)
    found = postponed(rows, budget, enabled)
    left = {one.user_id for one in rows if one.user_class == "left"}
    planned = {one.user_id for one in rows} - found - left

    def fits(ids: set[str], changed: set[str]) -> bool:
        try:
            caps.check(len(ids), len(changed - ids), enabled, None)
        except AhaGuardError:
            return False
        return True

    assert found.isdisjoint(left)
    assert fits(planned, recent)
    assert not any(fits(planned | {user_id}, recent) for user_id in found)
    # People who left may be too many by themselves, and then the plan says so.
    rest = [one for one in rows if one.user_id not in found]
    assert (budget.header(rest, enabled)["over"] == 0) is fits(left, recent_left)


# --- plans ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot of 67 users, to be copied: an administrator, and 66 seats that nobody uses."""
    world = World(tmp_path_factory.mktemp("made"))
    world.extract(seats())
    return world.base


@pytest.fixture
def world(made: Path, tmp_path: Path) -> World:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return World(tmp_path)


def seats(**changes: Any) -> list[dict[str, Any]]:
    """The higher its number, the longer ago a user was seen."""
    return [
        *people(1),
        *(
            api_user(number, **{"accessed_at": iso(NOW - (200 + number) * DAY), **changes.get(f"p{number}", {})})
            for number in range(1, 67)
        ),
    ]


def numbers(plan: Plan) -> set[int]:
    return {int(row.user_id) - 1000 for row in plan.rows}


CAPS = Caps(25, 100.0)


def test_of_66_unused_seats_25_are_planned_and_41_are_postponed(world):
    plan = world.plan([UNUSED], caps=CAPS)
    assert numbers(plan) == set(range(42, 67))
    assert plan.counts["planned"]["unused"] == 25
    assert plan.counts["postponed"] == 41
    assert plan.header["caps"] == {"max_users": 25, "max_percent": 100.0, "allowed": 25, "recent": 0, "over": 0} | {
        "room_from": None,
        "all_room_from": None,
    }
    decisions = world.decisions(plan)
    later = [row for row in decisions.values() if row["decision"] == "postponed"]
    assert {int(row["user_id"]) - 1000 for row in later} == set(range(1, 42))
    assert {row["spared_by"] for row in later} == {None}
    assert all(row["first_flagged_at"] for row in later)
    assert sum(plan.counts["spared"].values()) + 25 + 41 == plan.enabled_users
    for text in (summary(plan), question(plan, "ann")):
        assert "**41 more are postponed.**" in text.partition("| Class")[0]


def test_who_was_postponed_comes_first_next_time_whoever_is_new(world):
    world.plan([UNUSED], caps=CAPS)
    # Those of the first plan are gone; others have been unused for longer than those who wait.
    changes = {f"p{number}": {"enabled": False} for number in range(42, 67)}
    longest = [api_user(number, accessed_at=iso(NOW - 900 * DAY)) for number in range(70, 80)]
    later_at = NOW + 7 * DAY
    world.extract([*seats(**changes), *longest], later_at)
    plan = world.plan([UNUSED], caps=CAPS, at=later_at)
    assert numbers(plan) == set(range(17, 42))
    assert plan.counts["postponed"] == 16 + 10


def test_the_grace_of_who_was_postponed_goes_on(world):
    """Else everybody who is postponed would be flagged anew."""
    grace = {**UNUSED, "grace_days": 14}
    world.plan([grace], caps=CAPS)
    world.extract(seats(), NOW + 14 * DAY)
    world.plan([grace], caps=CAPS, at=NOW + 14 * DAY)
    world.extract(seats(), NOW + 15 * DAY)
    plan = world.plan([grace], caps=CAPS, at=NOW + 15 * DAY)
    assert (len(plan.rows), plan.counts["spared"].get("grace")) == (25, None)


@pytest.mark.parametrize(("days", "planned"), [(6, 21), (8, 25)])
def test_what_the_last_seven_days_used_is_left_out_of_the_room(world, days, planned):
    at = NOW - days * DAY
    folder = RunFolder(world.location, "acme", Run("aha_deactivate_users", "r", "deactivate", 1, "ann"))
    sign_off(folder, register(folder, at, ["1", "2", "3", "4"], "taken"))
    journal = Journal(folder, 1)
    for user_id in ("1", "2", "3", "4"):
        facts = {"outcome": "changed", "access": "taken", "class": "unused", "answered_at": iso(at)}
        journal.outcome(f"u{user_id}.account", {**facts, "proof": PROVEN})
    plan = world.plan([UNUSED], caps=CAPS)
    assert len(plan.rows) == planned
    assert plan.header["caps"]["recent"] == 25 - planned


def test_a_weekly_plan_without_room_says_from_when_on_there_is_some(world):
    """After a full plan of last Monday that was approved at noon, this Monday at six has no room yet."""
    written = NOW - 7 * DAY + timedelta(hours=1)
    folder = RunFolder(world.location, "acme", Run("aha_reclaim_seats", "r", "carry_out", 1, "ann"))
    ids = [str(number) for number in range(1, 6)]
    sign_off(folder, register(folder, written, ids, "taken"))
    journal = Journal(folder, 1)
    for minutes, user_id in enumerate(ids):
        at = iso(written + timedelta(minutes=minutes))
        facts = {"outcome": "changed", "access": "taken", "class": "unused", "answered_at": at}
        journal.outcome(f"u{user_id}.account", {**facts, "proof": PROVEN})
    plan = world.plan([UNUSED], caps=Caps(4, 100.0))
    assert (len(plan.rows), plan.counts["postponed"]) == (0, 66)
    caps = plan.header["caps"]
    # Two must have passed out of the seven days until a fifth one may be changed.
    assert (caps["room_from"], caps["all_room_from"]) == (
        timestamp(NOW + timedelta(minutes=61)),
        timestamp(NOW + timedelta(minutes=64)),
    )
    assert f"There is room again from {caps['room_from']} on" in summary(plan)


def test_people_who_left_are_not_postponed_and_the_plan_says_that_it_is_too_large(world):
    ends = {f"p{number}": "2026-03-01" for number in range(1, 7)}
    roster = world.roster(everybody(count=67, **ends))
    plan = world.plan([LEFT, UNUSED], caps=Caps(4, 100.0), roster=roster)
    # Seats that nobody uses have a budget of their own.
    assert plan.counts["planned"] == {"left": 6, "named": 0, "unused": 4}
    assert plan.counts["postponed"] == 56
    assert plan.header["caps"]["over"] == 2
    head = summary(plan).partition("| Class")[0]
    assert "**2 users too many to be carried out.**" in head
    assert "`approved_plan_sha256`" in head


def test_a_plan_that_is_not_made_to_fit_says_so(world):
    plan = world.plan([UNUSED], caps=CAPS, fit_to_caps=False)
    assert (len(plan.rows), plan.counts["postponed"], plan.header["caps"]["over"]) == (66, 0, 41)
    assert "**41 users too many to be carried out.**" in summary(plan)
