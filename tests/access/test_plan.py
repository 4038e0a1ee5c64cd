"""Plans: made from extracts of a sandbox, kept with what they stand on, refused where that can't be trusted."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_aha.access.decide.planning import Request, build_plan, make_plan
from airflow_provider_aha.access.decide.population import Population
from airflow_provider_aha.access.decide.rules import Policy, as_given, read_rules
from airflow_provider_aha.access.plan.plan import DECISIONS, Plan, load_decisions, load_plan
from airflow_provider_aha.access.plan.words import summary
from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.datasets.extract import extract, read_tables
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaSnapshotError, AhaStorageError
from airflow_provider_aha.lists.matching import SERVICE_ACCOUNT_PATTERNS, UserMatcher
from airflow_provider_aha.lists.roster import Rosters, RosterSpec, load_roster
from airflow_provider_aha.record.journal import Journal
from airflow_provider_aha.record.register import register
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.sandbox.testing import Account, SandboxServer
from airflow_provider_aha.store.store import Store, local_store, sha256
from tests.raw import place_of

NOW = datetime(2026, 3, 10, 3, 40, tzinfo=UTC)
DAY = timedelta(days=1)
UNUSED = {"class": "unused", "inactive_days": 90, "grace_days": 0}
LEFT = {"class": "left"}


def iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def api_user(number: int, **more: Any) -> dict[str, Any]:
    """A user as Aha! lists it: seen a year ago, paid, created three years ago."""
    rights = dict.fromkeys(("administer_account", "administer_billing", "administer_configuration"), False)
    rights |= more.pop("rights", {})
    return {
        "id": str(1000 + number),
        "name": f"Person {number}",
        "email": f"p{number}@example.com",
        "created_at": iso(NOW - 1000 * DAY),
        "updated_at": iso(NOW - 400 * DAY),
        "accessed_at": iso(NOW - 365 * DAY),
        "product_roles": [],
        "user_roles": [],
        "enabled": True,
        "paid_seat": True,
        "administrator": any(rights.values()),
        "administrator_roles": rights,
        "identity_provider": {"type": "password"},
        **more,
    }


ALL_RIGHTS = dict.fromkeys(("administer_account", "administer_billing", "administer_configuration"), True)


def people(count: int = 10, **changes: dict[str, Any]) -> list[dict[str, Any]]:
    """An account: user 0 administers it and owns the key, the others are as ``p3={...}`` says."""
    users = [api_user(0, rights=ALL_RIGHTS, accessed_at=iso(NOW - DAY))]
    return users + [api_user(n, **changes.get(f"p{n}", {})) for n in range(1, count)]


@dataclass
class World:
    """A base path with snapshots of an account, and plans made from them."""

    base: Path
    runs: int = 0

    @property
    def location(self) -> Store:
        return Store(LocalFileSystem(), str(self.base), str(self.base))

    def extract(self, users: list[dict[str, Any]], at: datetime = NOW, datasets: Any = None) -> dict[str, Any]:
        with SandboxServer(account=Account.from_users(users)) as server:
            config = ClientConfig.from_connection(
                host=server.host, password=server.key, schema="http", port=server.port
            )
            client = AhaClient(replace(config, account="acme"))
            names = datasets or ("users", "user_roles", "user_changes")
            return extract(client, self.location, datasets=names, connection_id="aha_default", now=lambda: at)

    def request(self, rules: list[dict[str, Any]], **more: Any) -> Request:
        self.runs += 1
        policy = Policy(read_rules(rules), protect_patterns=UserMatcher(patterns=SERVICE_ACCOUNT_PATTERNS))
        given_rules = [as_given(rule) for rule in policy.rules]
        fields = {
            "account": "acme",
            "dag_id": "aha_reclaim_seats",
            "run_id": f"run {self.runs}",
            "policy": policy,
            "as_given": {"rules": given_rules},
            "max_snapshot_age": timedelta(hours=24),
        }
        return Request(**{**fields, **more})

    def plan(self, rules: list[dict[str, Any]], at: datetime = NOW, **more: Any) -> Plan:
        return make_plan(self.location, self.request(rules, **more), now=lambda: at)

    def roster(self, text: str, at: datetime = NOW, **more: Any) -> Callable[[], Rosters]:
        path = self.base / "roster.csv"
        path.write_text(text)
        os.utime(path, (at.timestamp(), at.timestamp()))
        given_spec = {
            "path": str(path),
            "key": "nr",
            "emails": ["mail"],
            "domains": ["example.com"],
            "min_rows": 1,
            "end_date": "end",
        }
        (spec,) = RosterSpec.read_all({**given_spec, **more})
        return lambda: Rosters((load_roster(spec, Store(LocalFileSystem(), str(path), str(path))),))

    def decisions(self, plan: Plan) -> dict[str, dict[str, Any]]:
        table = load_decisions(place_of(self.location, plan.path), plan.header)
        return {row["user_id"]: row for row in table.to_pylist()}

    def folder(self, plan: Plan) -> Path:
        return Path(plan.path).parent


def ids(plan: Plan) -> list[str]:
    return [row.user_id for row in plan.rows]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot of ten users, to be copied: user 0 is the administrator, the others are unused seats."""
    world = World(tmp_path_factory.mktemp("extracted"))
    world.extract(people())
    return world.base


@pytest.fixture
def ten(extracted: Path, tmp_path: Path) -> World:
    shutil.copytree(extracted, tmp_path, dirs_exist_ok=True)
    return World(tmp_path)


def everybody(*without: int, count: int = 10, **ends: str) -> str:
    lines = (f"{n},p{n}@example.com,{ends.get(f'p{n}', '')}" for n in range(count) if n not in without)
    return "\n".join(["nr,mail,end", *lines]) + "\n"


# --- what a plan is ------------------------------------------------------------------------------


def test_a_plan_names_whom_it_is_about_and_why_everybody_else_is_spared(world):
    users = people(
        p2={"accessed_at": iso(NOW - DAY)},
        p3={"enabled": False},
        p4={"paid_seat": False},
        p5={"email": "svc-sync@example.com"},
        p6={"accessed_at": None, "email": None, "name": None},
        p7={"rights": {"administer_billing": True}},
    )
    world.extract(users)
    plan = world.plan([UNUSED])
    assert ids(plan) == ["1001", "1006", "1008", "1009"]
    assert plan.counts == {
        "users": 10,
        "enabled": 9,
        "administrators": 2,
        "planned": {"left": 0, "named": 0, "unused": 4},
        "planned_administrators": 0,
        "planned_sole_owners": 0,
        "seen_after_leave": 0,
        "spared": {"administrator": 1, "free_seat": 1, "no_rule": 2, "service_account": 1},
        "postponed": 0,
    }
    assert plan.enabled_users == 9
    assert plan.administrators == [
        {"user_id": "1000", "administers_account": True, "administers_billing": True},
        {"user_id": "1007", "administers_account": False, "administers_billing": True},
    ]
    decisions = world.decisions(plan)
    assert {user: row["spared_by"] for user, row in decisions.items() if row["decision"] == "spared"} == {
        "1000": "no_rule",
        "1002": "no_rule",
        "1004": "free_seat",
        "1005": "service_account",
        "1007": "administrator",
    }
    assert sum(plan.counts["spared"].values()) + len(plan.rows) == plan.enabled_users == len(decisions)


def test_a_row_holds_the_facts_as_aha_writes_them(ten):
    row = ten.plan([UNUSED]).rows[0]
    assert row.to_json() == {
        "user_id": "1001",
        "name": "Person 1",
        "email": "p1@example.com",
        "wanted": {"enabled": False},
        "before": {"enabled": True},
        "class": "unused",
        "rule": "unused",
        "detail": "not seen for 365 days, created 1000 days ago, flagged since 2026-03-10",
        "accessed_at": "2025-03-10T03:40:00.000Z",
        "created_at": "2023-06-14T03:40:00.000Z",
        "is_administrator": False,
        "is_paid_seat": True,
        "first_flagged_at": "2026-03-10T03:40:00.000Z",
        "leave_date": None,
        "left_at": None,
        "seen_after_leave": False,
        "rights": [],
        "roles": [],
        "sole_owner_of": [],
        "updated_at": None,
        "reviewer": None,
        "note": None,
        "asked_because": "policy lets only people pass who left",
        "operation": "user_fields",
        "object": "account",
        "object_name": None,
    }


def test_a_plan_names_the_hash_of_everything_that_it_stands_on_and_keeps_a_copy(ten):
    exclusions = ten.base / "exclusions.csv"
    exclusions.write_text("id,reason,owner,expires_on\n1001,hold,Legal,\n")
    location = Store(LocalFileSystem(), str(exclusions), str(exclusions))
    plan = ten.plan([UNUSED, LEFT], roster=ten.roster(everybody()), exclusions=[location])
    folder = ten.folder(plan)
    assert folder == ten.base / "access/account=acme/dag=aha_reclaim_seats/run=run%201"
    held = {path.name: sha256(path.read_bytes()) for path in folder.iterdir()}
    assert plan.sha256 == held.pop("plan.json")
    del held["plan.md"]
    assert plan.header["files"] == held
    assert plan.header["exclusions_sha256"] == held["input-exclusions.csv"]
    assert plan.header["roster_sha256"] == held["input-roster.csv"]
    assert plan.header["snapshot"] == {
        "day": "2026-03-10",
        "synced_at": "2026-03-10T03:40:00.000Z",
        "sha256": {"users": held["input-users.parquet"], "user_roles": held["input-user_roles.parquet"]},
    }
    assert json.loads((folder / "input-manifest.json").read_text())["account"] == "acme"


def test_as_of_is_when_the_snapshot_was_read_and_never_now(ten):
    rules = [{**UNUSED, "inactive_days": 366}]
    plan = ten.plan(rules, at=NOW + timedelta(hours=23))
    assert plan.as_of == NOW
    assert plan.created_at == NOW + timedelta(hours=23)
    assert not plan.rows


def test_nobody_to_plan_is_a_plan(ten):
    plan = ten.plan([{**UNUSED, "inactive_days": 999}])
    assert plan.rows == ()
    assert "Nobody's access is to change" in (ten.folder(plan) / "plan.md").read_text()


def test_nothing_else_is_touched(ten):
    def files() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in ten.base.rglob("*") if path.is_file()}

    before = files()
    ten.plan([UNUSED])
    after = files()
    assert before.items() <= after.items()
    assert all("/access/account=acme/" in path for path in after.keys() - before.keys())


def test_a_snapshot_of_a_sandbox_is_marked_everywhere(ten):
    plan = ten.plan([UNUSED])
    assert plan.sandbox is True
    assert (ten.folder(plan) / "plan.md").read_text().startswith("**SANDBOX DATA**")


def test_planning_loads_no_pandas(extracted, tmp_path):
    """It would cost more memory and time than the whole plan."""
    shutil.copytree(extracted, tmp_path / "base")
    code = f"""
import sys
from datetime import datetime, timedelta
from fsspec.implementations.local import LocalFileSystem
from airflow_provider_aha.access.decide.planning import Request, make_plan
from airflow_provider_aha.access.decide.rules import Policy, as_given, read_rules
from airflow_provider_aha.store.store import Store
rules = read_rules([{UNUSED!r}])
request = Request("acme", "d", "r", Policy(rules), {{"rules": [as_given(r) for r in rules]}}, timedelta(hours=24))
location = Store(LocalFileSystem(), {str(tmp_path / "base")!r}, "")
plan = make_plan(location, request, now=lambda: datetime.fromisoformat({NOW.isoformat()!r}))
assert len(plan.rows) == 9
print(*sorted({{"pandas", "airflow", "requests"}} & set(sys.modules) - {{"airflow", "requests"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


# --- named ---------------------------------------------------------------------------------------


def test_who_was_named_but_can_not_be_planned_is_recorded(world):
    users = people(p2={"email": "Twin@Example.com"}, p3={"email": "twin@example.com"}, p4={"enabled": False})
    world.extract(users)
    asked = ["1001", "1004", "999"], ["P5@example.com", "twin@example.com", "nobody@example.com", "p4@example.com"]
    plan = world.plan([{"class": "named", "ids": asked[0], "emails": asked[1]}])
    assert ids(plan) == ["1001", "1005"]
    assert [row.detail for row in plan.rows] == ["named by id", "named by email"]
    assert plan.header["unresolved"] == [
        {"rule": "named", "must_fix": must_fix, "asked": asked, "reason": reason, "detail": None, "ids": ids}
        for asked, reason, ids, must_fix in (
            ("1004", "already_as_wanted", ["1004"], False),
            ("999", "unknown", ["999"], True),
            ("twin@example.com", "ambiguous", ["1002", "1003"], True),
            ("nobody@example.com", "unknown", [], True),
            ("p4@example.com", "already_as_wanted", ["1004"], False),
        )
    ]
    assert len(plan.wrong_names) == 3
    assert "nobody&#64;" in summary(plan) or "nobody@example.com" in summary(plan)


# --- left ----------------------------------------------------------------------------------------


def test_left_takes_every_record_of_an_address(world):
    """Single sign-on and password users of one person are separate records."""
    world.extract(people(p1={"email": "Ann@Example.com"}, p2={"email": "ann@example.com", "paid_seat": False}))
    roster = everybody(1, 2) + "99,ANN@example.com,2026-03-01\n"
    plan = world.plan([LEFT], roster=world.roster(roster))
    assert ids(plan) == ["1001", "1002"]
    assert {row.leave_date for row in plan.rows} == {"2026-03-01"}
    assert {row.left_at for row in plan.rows} == {"2026-03-02T00:00:00.000Z"}


@pytest.mark.parametrize(
    ("seen", "after"),
    [("2026-03-01T22:59:59.999Z", False), ("2026-03-01T23:00:00.000Z", True), (None, False)],
)
def test_activity_after_the_last_day_heads_the_summary(world, seen, after):
    world.extract(people(p1={"accessed_at": seen}))
    roster = world.roster(everybody(p1="2026-03-01"), timezone="Europe/Berlin")
    plan = world.plan([LEFT], roster=roster)
    assert [row.seen_after_leave for row in plan.rows] == [after]
    assert world.decisions(plan)["1001"]["seen_after_leave"] is after
    assert ("seen after the day they left" in summary(plan).partition("| Class")[0]) is after
    assert plan.counts["seen_after_leave"] == after


def test_who_was_seen_after_the_last_day_is_listed_first(world):
    seen = {"accessed_at": iso(NOW - DAY)}
    world.extract(people(p1={"rights": ALL_RIGHTS}, p3=seen))
    ends: Any = dict.fromkeys(("p1", "p2", "p3"), "2026-03-01")
    text = summary(world.plan([LEFT], roster=world.roster(everybody(**ends))))
    assert [line[2:6] for line in text.splitlines() if line.startswith("| 10")] == ["1003", "1001", "1002"]


def test_absence_is_planned_after_two_loads_a_day_apart_and_not_by_a_retry(world):
    users = people(30)
    world.extract(users, NOW - DAY)
    world.plan([LEFT], roster=world.roster(everybody(count=30), NOW - DAY), at=NOW - DAY)
    world.extract(users, NOW)
    without = everybody(3, count=30)
    first = world.plan([LEFT], roster=world.roster(without))
    again = world.plan([LEFT], roster=world.roster(without, NOW), at=NOW + timedelta(hours=1))
    assert (ids(first), ids(again)) == ([], [])
    world.extract(users, NOW + DAY)
    later = world.roster(without, NOW + DAY - timedelta(minutes=1))
    assert ids(world.plan([LEFT], roster=later, at=NOW + DAY)) == []
    second = world.plan([LEFT], roster=world.roster(without, NOW + DAY), at=NOW + DAY)
    assert ids(second) == ["1003"]
    assert "since the load of 2026-03-10 03:40 UTC" in second.rows[0].detail


def test_who_was_in_the_roster_between_two_loads_is_absent_anew(world):
    for days, gone in ((0, (3,)), (1, ()), (2, (3,))):
        world.extract(people(30), NOW + days * DAY)
        roster = world.roster(everybody(*gone, count=30), NOW + days * DAY)
        assert ids(world.plan([LEFT], roster=roster, at=NOW + days * DAY)) == []


def test_rosters_of_different_names_are_not_compared_with_each_other(world):
    for days, name, text in ((0, "staff", everybody()), (1, "contractors", everybody(6, 7, 8, 9))):
        world.extract(people(), NOW + days * DAY)
        roster = world.roster(text, NOW + days * DAY, name=name)
        assert ids(world.plan([LEFT], roster=roster, at=NOW + days * DAY)) == []


def test_a_roster_that_is_cut_is_refused_and_the_next_one_is_compared_with_the_last_good_one(world):
    cut = everybody(8, 9)
    for days, text in ((0, everybody()), (1, cut), (2, cut), (3, everybody())):
        world.extract(people(), NOW + days * DAY)
        roster = world.roster(text, NOW + days * DAY)
        if text == cut:
            with pytest.raises(AhaSnapshotError, match="more than 5 %"):
                world.plan([LEFT], roster=roster, at=NOW + days * DAY)
        else:
            world.plan([LEFT], roster=roster, at=NOW + days * DAY)


def test_a_sudden_fall_of_matches_is_refused(world):
    world.extract(people())
    world.plan([LEFT], roster=world.roster(everybody()))
    other = everybody().replace("p1@", "x1@").replace("p2@", "x2@")
    with pytest.raises(AhaSnapshotError, match="80%"):
        world.plan([LEFT], roster=world.roster(other))


def test_an_old_roster_is_refused_by_the_clock_and_not_by_the_snapshot(ten):
    roster = ten.roster(everybody(), NOW - timedelta(hours=2))
    with pytest.raises(AhaSnapshotError, match="hours old"):
        ten.plan([LEFT], roster=roster, at=NOW + timedelta(hours=23))


def test_people_who_left_but_are_spared_are_told(ten):
    policy = Policy(read_rules([LEFT]), UserMatcher(ids=["1001"]))
    plan = ten.plan([LEFT], roster=ten.roster(everybody(p1="2026-03-01")), policy=policy)
    assert ids(plan) == []
    assert any("1 users left by the roster" in note for note in plan.header["notes"])


# --- grace and being enabled again -----------------------------------------------------------------

GRACE = {"class": "unused", "inactive_days": 90, "grace_days": 14}


def test_grace_is_carried_from_plan_to_plan(world):
    outcome = []
    for days in (0, 7, 13, 14):
        world.extract(people(3), NOW + days * DAY)
        outcome.append(ids(world.plan([GRACE], at=NOW + days * DAY)))
    assert outcome == [[], [], [], ["1001", "1002"]]


def test_a_plan_of_other_rules_in_between_does_not_begin_grace_anew(world):
    world.extract(people(3), NOW)
    world.plan([GRACE])
    world.extract(people(3), NOW + 7 * DAY)
    at = NOW + 7 * DAY
    world.plan([LEFT], at=at, roster=world.roster(everybody(count=3), at))
    world.plan([{"class": "named", "ids": ["1001"]}], at=at)
    world.extract(people(3), NOW + 14 * DAY)
    assert ids(world.plan([GRACE], at=NOW + 14 * DAY)) == ["1001", "1002"]


def test_flags_of_a_rule_of_another_name_do_not_count(world):
    world.extract(people(3), NOW)
    world.plan([{**GRACE, "name": "dry run", "inactive_days": 30}])
    world.extract(people(3), NOW + 14 * DAY)
    assert ids(world.plan([GRACE], at=NOW + 14 * DAY)) == []


def test_a_user_who_was_not_flagged_in_between_begins_anew(world):
    free = {"paid_seat": False}
    for days, change in ((0, {}), (7, free), (14, {})):
        world.extract(people(3, p1=change), NOW + days * DAY)
        plan = world.plan([GRACE], at=NOW + days * DAY)
    assert ids(plan) == ["1002"]


def test_flags_that_nobody_carried_on_for_90_days_are_forgotten(world):
    for days in (0, 91):
        world.extract(people(3), NOW + days * DAY)
        plan = world.plan([GRACE], at=NOW + days * DAY)
    assert ids(plan) == []


def test_a_changed_earlier_plan_is_not_believed(world):
    world.extract(people(3), NOW)
    path = Path(world.plan([GRACE]).path)
    path.write_text(path.read_text().replace("2026-03-10T03:40:00.000Z", "2025-03-10T03:40:00.000Z"))
    world.extract(people(3), NOW + DAY)
    with pytest.raises(AhaSnapshotError, match="was changed"):
        world.plan([GRACE], at=NOW + DAY)


def test_changed_decisions_of_an_earlier_plan_are_not_believed(world):
    world.extract(people(3), NOW)
    path = world.folder(world.plan([GRACE])) / "plan.parquet"
    path.write_bytes(path.read_bytes() + b"x")
    world.extract(people(3), NOW + DAY)
    with pytest.raises(AhaSnapshotError, match="cut short or changed"):
        world.plan([GRACE], at=NOW + DAY)


def test_an_earlier_plan_that_was_pruned_is_passed_over(world):
    world.extract(people(3), NOW)
    shutil.rmtree(world.folder(world.plan([GRACE])))
    world.extract(people(3), NOW + 14 * DAY)
    assert ids(world.plan([GRACE], at=NOW + 14 * DAY)) == []


@pytest.mark.parametrize(
    ("landed", "days", "planned"),
    [
        (("users", "user_roles", "user_changes"), 59, False),
        (("users", "user_roles", "user_changes"), 60, True),
        (("users", "user_roles"), 59, False),
        (("users",), 59, False),
        (("users", "user_roles"), 61, True),
    ],
)
def test_the_minimum_age_counts_from_being_enabled_again_between_snapshots(world, landed, days, planned):
    world.extract(people(p1={"enabled": False}), NOW - DAY)
    world.extract(people(), NOW, landed)
    at = NOW + days * DAY
    world.extract(people(), at)
    plan = world.plan([UNUSED], at=at)
    assert ("1001" in ids(plan)) is planned
    assert "1002" in ids(plan)


def test_the_minimum_age_counts_from_being_enabled_again_by_this_package(world):
    world.extract(people(), NOW - DAY)
    world.extract(people())
    run = Run("aha_reactivate_users", "r", "reactivate", 1, "ann")
    folder = RunFolder(world.location, "acme", run)
    register(folder, NOW - 5 * DAY, access="given")
    journal = Journal(folder, 1)
    at = iso(NOW - 5 * DAY)
    enable = {
        "wanted_json": '{"enabled": true}',
        "before_json": '{"enabled": false}',
        "proof": 4,
        "answered_at": at,
    }
    journal.outcome("u1001.account", {**enable, "outcome": "changed"})
    journal.outcome("u1002.account", {**enable, "outcome": "changed"})
    journal.outcome("u1003.account", {**enable, "outcome": "changed", "wanted_json": '{"enabled": false}'})
    journal.outcome("u1004.account", {**enable, "outcome": "changed", "answered_at": iso(NOW - 61 * DAY)})
    journal.outcome("u1005.account", {**enable, "outcome": "failed", "proof": 1})
    journal.outcome("u1006.account", {**enable, "outcome": "failed", "proof": 0})
    decisions = world.decisions(world.plan([UNUSED]))
    spared = {user for user, row in decisions.items() if row["spared_by"] == "enabled_again"}
    assert spared == {"1001", "1002", "1005"}
    assert "enabled again by 2026-03-05" in decisions["1001"]["detail"]


def test_an_update_that_takes_a_right_may_enable_all_the_same(world):
    world.extract(people())
    at = iso(NOW - 5 * DAY)
    shown = {"wanted_json": '{"enabled": true}', "before_json": '{"enabled": false}', "proof": 4}
    folder = RunFolder(world.location, "acme", Run("aha_update_user", "r", "update_user", 1, "ann"))
    register(folder, NOW - 5 * DAY, access="taken")
    folder.create("start.json", {"action": "update"})
    Journal(folder, 1).outcome("u1001.account", {"outcome": "changed", "answered_at": at, **shown})
    assert world.decisions(world.plan([UNUSED]))["1001"]["spared_by"] == "enabled_again"


def test_a_snapshot_that_can_not_say_who_was_enabled_again_is_told(world):
    for days in (2, 1, 0):
        world.extract(people(), NOW - days * DAY)
    path = world.base / "user_changes/account=acme/snapshot=2026-03-09/user_changes.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    assert any("2026-03-09" in note for note in world.plan([UNUSED]).header["notes"])


# --- workspaces ----------------------------------------------------------------------------------


def owner_of(*workspaces: str, role: int = 20) -> dict[str, Any]:
    roles = [
        {"role": role, "role_description": "Owner", "product_id": workspace, "product_name": workspace}
        for workspace in workspaces
    ]
    return {"product_roles": roles}


def test_the_only_enabled_owner_of_a_workspace_is_told(world):
    users = people(
        p1=owner_of("11", "12"),
        p2=owner_of("12"),
        p3={**owner_of("13"), "enabled": False},
        p4=owner_of("13", "14"),
        p5=owner_of("14", role=30),
    )
    world.extract(users)
    plan = world.plan([UNUSED])
    owners = {row.user_id: row.sole_owner_of for row in plan.rows if row.sole_owner_of}
    assert owners == {"1001": ["11"], "1004": ["13", "14"]}
    assert plan.counts["planned_sole_owners"] == 2


def test_without_roles_sole_owners_are_unknown_and_not_none(world):
    world.extract(people(p1=owner_of("11")), datasets=("users",))
    plan = world.plan([UNUSED])
    assert {row.sole_owner_of for row in plan.rows} == {None}
    assert any("sole owners are not known" in note for note in plan.header["notes"])


# --- two at once -----------------------------------------------------------------------------------


def test_of_two_tasks_of_a_run_that_plan_at_once_one_is_refused(ten):
    first = ten.request([UNUSED])
    read = ten.roster(everybody())

    def meanwhile() -> Any:
        make_plan(ten.location, first, now=lambda: NOW)
        return read()

    second = replace(ten.request([LEFT], roster=meanwhile), run_id=first.run_id)
    with pytest.raises(AhaConfigurationError, match="one plan per run"):
        make_plan(ten.location, second, now=lambda: NOW)
    assert make_plan(ten.location, first, now=lambda: NOW).header["policy"] == first.as_given


# --- snapshots that are refused --------------------------------------------------------------------


def test_without_a_snapshot_the_sentence_says_what_to_run(world):
    with pytest.raises(AhaSnapshotError, match="run aha_extract first"):
        world.plan([UNUSED])


@pytest.mark.parametrize("late", [timedelta(hours=24, seconds=1), -timedelta(minutes=11)])
def test_a_snapshot_that_is_too_old_or_from_the_future_is_refused(ten, late):
    with pytest.raises(AhaSnapshotError):
        ten.plan([UNUSED], at=NOW + late)


def test_a_snapshot_that_is_far_smaller_than_the_one_before_is_refused_for_a_day(world):
    world.extract(people(20), NOW - DAY)
    world.extract(people(15), NOW)
    with pytest.raises(AhaSnapshotError, match="15 users, the one of 2026-03-09 had 20"):
        world.plan([UNUSED])
    world.extract(people(15), NOW + DAY)
    assert world.plan([UNUSED], at=NOW + DAY).counts["users"] == 15


def test_a_snapshot_with_a_fifth_fewer_users_is_taken(world):
    world.extract(people(20), NOW - DAY)
    world.extract(people(16), NOW)
    assert world.plan([UNUSED]).counts["users"] == 16


@pytest.mark.parametrize(("never", "refused"), [(5, False), (6, True), (49, True)])
def test_a_jump_of_never_seen_users_is_refused(world, never, refused):
    lost = {f"p{n}": {"accessed_at": None} for n in range(1, never + 1)}
    world.extract(people(50), NOW - DAY)
    world.extract(people(50, **lost), NOW)
    if refused:
        with pytest.raises(AhaSnapshotError, match="without a last visit"):
            world.plan([UNUSED])
    else:
        # Those who lost their visit are unknown, and not planned.
        assert len(world.plan([UNUSED]).rows) == 49 - never


def test_a_snapshot_in_which_nobody_is_listed_is_refused(ten):
    (path,) = ten.base.glob("users/**/users.parquet")
    whole = sha256(path.read_bytes())
    pq.write_table(pq.read_table(path, partitioning=None).slice(0, 0), path)
    (manifest,) = ten.base.glob("manifests/**/manifest.json")
    manifest.write_text(manifest.read_text().replace(whole, sha256(path.read_bytes())))
    with pytest.raises(AhaSnapshotError, match="holds no users"):
        ten.plan([UNUSED])


def test_an_unreadable_snapshot_before_is_passed_over_for_the_one_before_that(world):
    world.extract(people(20), NOW - 2 * DAY)
    world.extract(people(20), NOW - DAY)
    world.extract(people(15), NOW)
    for name in ("users", "user_changes"):
        path = world.base / f"{name}/account=acme/snapshot=2026-03-09/{name}.parquet"
        path.write_bytes(b"")
    with pytest.raises(AhaSnapshotError, match="2026-03-08"):
        world.plan([UNUSED])


def test_a_first_snapshot_says_that_it_was_compared_with_none(ten):
    assert "There is no earlier snapshot to compare this one with." in ten.plan([UNUSED]).header["notes"]


FIELDS = {
    "enabled": {"unused", "left", "named"},
    "email": {"unused", "left", "named"},
    "administrator": {"unused", "left", "named"},
    "administrator_roles": {"unused", "left", "named"},
    "accessed_at": {"unused", "left"},
    "created_at": {"unused"},
    "paid_seat": {"unused"},
    "product_roles": set(),
}


@pytest.mark.parametrize("absent", FIELDS)
def test_a_field_that_a_rule_reads_must_not_be_absent(world, absent):
    users = people()
    del users[5][absent]
    world.extract(users)
    rules: dict[str, Any] = {"unused": UNUSED, "left": LEFT, "named": {"class": "named", "ids": ["1001"]}}
    for name, rule in rules.items():
        more = {"roster": world.roster(everybody(p1="2026-03-01"))} if name == "left" else {}
        if name in FIELDS[absent]:
            with pytest.raises(AhaSnapshotError, match=absent):
                world.plan([rule], **more)
        else:
            assert "1001" in ids(world.plan([rule], **more))


@pytest.mark.parametrize("field", ["enabled", "administrator"])
def test_a_flag_that_is_null_is_a_gap_and_no_fact(world, field):
    world.extract(people(p5={field: None}))
    with pytest.raises(AhaSnapshotError, match="a gap is not a fact"):
        world.plan([UNUSED])


@pytest.mark.parametrize("dataset", ["users", "user_roles"])
def test_a_file_that_the_manifest_does_not_name_is_refused(ten, dataset):
    path = ten.base / f"{dataset}/account=acme/snapshot=2026-03-10/{dataset}.parquet"
    for change in (lambda: path.write_bytes(path.read_bytes() + b"x"), path.unlink):
        change()
        with pytest.raises(AhaSnapshotError, match="not the file that its manifest names"):
            ten.plan([UNUSED])


def test_a_snapshot_without_users_is_refused(world):
    world.extract(people(), datasets=("user_roles",))
    with pytest.raises(AhaSnapshotError, match="holds no dataset users"):
        world.plan([UNUSED])


def test_a_manifest_of_another_account_is_refused(ten):
    shutil.move(ten.base / "manifests/account=acme", ten.base / "manifests/account=other")
    with pytest.raises(AhaSnapshotError, match="another account"):
        ten.plan([UNUSED], account="other")


@pytest.mark.parametrize("account", ["", "../acme", "a/b"])
def test_an_account_that_would_leave_the_base_path_is_refused(ten, account):
    with pytest.raises(AhaConfigurationError):
        ten.plan([UNUSED], account=account)


def test_a_missing_exclusion_file_refuses_the_plan(ten):
    nowhere = str(ten.base / "exclusions.csv")
    with pytest.raises(AhaStorageError):
        ten.plan([UNUSED], exclusions=[Store(LocalFileSystem(), nowhere, nowhere)])
    assert not (ten.base / "access").exists()


def test_a_refused_plan_leaves_no_plan(ten):
    with pytest.raises(AhaSnapshotError):
        ten.plan([LEFT], roster=ten.roster(everybody(1, 2, 3, 4, 5, 6)))
    assert not list(ten.base.rglob("plan.*"))


# --- exclusions ----------------------------------------------------------------------------------


def test_expired_exclusions_are_reported_and_do_not_count(ten):
    path = ten.base / "exclusions.csv"
    path.write_text("id,reason,owner,expires_on\n1001,hold,Legal,2026-03-09\n1002,hold,Legal,2026-03-10\n")
    plan = ten.plan([UNUSED], exclusions=[Store(LocalFileSystem(), str(path), str(path))])
    assert "1001" in ids(plan)
    assert "1002" not in ids(plan)
    assert any("expired and don't count: 1." in note for note in plan.header["notes"])


# --- written once --------------------------------------------------------------------------------


def test_a_retry_returns_the_plan_that_is_there(ten):
    request = ten.request([UNUSED])
    first = make_plan(ten.location, request, now=lambda: NOW)
    ten.extract(people(5), NOW + timedelta(hours=1))
    again = make_plan(ten.location, request, now=lambda: NOW + timedelta(hours=1))
    assert again == first


def test_a_run_has_one_plan_and_other_rules_are_refused(ten):
    request = ten.request([UNUSED])
    make_plan(ten.location, request, now=lambda: NOW)
    other = ten.request([{**UNUSED, "inactive_days": 30}], run_id=request.run_id)
    with pytest.raises(AhaConfigurationError, match="start a new DAG run"):
        make_plan(ten.location, other, now=lambda: NOW)


def test_a_try_that_died_before_the_plan_was_written_does_not_spoil_the_next(ten):
    request = ten.request([UNUSED])
    first = make_plan(ten.location, request, now=lambda: NOW)
    folder = ten.folder(first)
    (folder / "plan.json").unlink()
    (folder / "plan.md").unlink()
    left = {path.name: path.read_bytes() for path in folder.iterdir()}
    ten.extract(people(9), NOW + timedelta(hours=1))
    second = make_plan(ten.location, request, now=lambda: NOW + timedelta(hours=1))
    assert len(second.rows) == 8
    assert second.header["decisions"] == "plan-2.parquet"
    assert {name: (folder / name).read_bytes() for name in left} == left
    assert len(load_decisions(place_of(ten.location, second.path), second.header)) == 9


def test_a_try_that_died_after_the_plan_was_written_is_finished_by_the_next(world):
    world.extract(people(3))
    request = world.request([GRACE])
    plan = make_plan(world.location, request, now=lambda: NOW)
    (world.folder(plan) / "plan.md").unlink()
    shutil.rmtree(world.base / "access/account=acme/plans")
    make_plan(world.location, request, now=lambda: NOW)
    assert (world.folder(plan) / "plan.md").is_file()
    world.extract(people(3), NOW + 14 * DAY)
    assert len(world.plan([GRACE], at=NOW + 14 * DAY).rows) == 2


# --- reading a plan ------------------------------------------------------------------------------


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "another version": lambda c: c.update(plan_version=2),
    "no version": lambda c: c.pop("plan_version"),
    "no account": lambda c: c.pop("account"),
    "account of another type": lambda c: c.update(account=7),
    "no rows": lambda c: c.pop("rows"),
    "rows of another type": lambda c: c.update(rows={}),
    "a row of another type": lambda c: c["rows"].append("1001"),
    "a user twice": lambda c: c["rows"].append(c["rows"][0]),
    "a user in place of another": lambda c: c["rows"].__setitem__(1, c["rows"][0]),
    "a row more": lambda c: c["rows"].append({**c["rows"][0], "user_id": "77"}),
    "a row less": lambda c: c["rows"].pop(),
    "another class": lambda c: c["rows"][0].update({"class": "all"}),
    "a class of others": lambda c: c["rows"][0].update({"class": "named"}),
    "an id that is a path": lambda c: c["rows"][0].update(user_id="1001/.."),
    "an empty id": lambda c: c["rows"][0].update(user_id=""),
    "an id that is a number": lambda c: c["rows"][0].update(user_id=1001),
    "a flag that is text": lambda c: c["rows"][0].update(is_administrator="False"),
    "no email": lambda c: c["rows"][0].pop("email"),
    "a count that is a flag": lambda c: c.update(enabled_users=True),
    "fewer enabled users than rows": lambda c: c.update(enabled_users=3),
    "administrators without rights": lambda c: c.update(administrators=[{"user_id": "1"}]),
    "no moment": lambda c: c.update(created_at="yesterday"),
    "a moment without zone": lambda c: c.update(as_of="2026-03-10T03:40:00"),
    "another hash of the decisions": lambda c: c["files"].update({"plan.parquet": "0" * 64}),
    "other decisions": lambda c: c.update(decisions="../plan.parquet"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_plan_that_was_changed_is_refused(ten, change):
    path = Path(ten.plan([UNUSED]).path)
    rewrite(path, CHANGES[change])
    with pytest.raises(AhaSnapshotError):
        load_plan(local_store(str(path)))


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{}", b"\xff", b'{"plan_version": 2, "rows": ['])
def test_a_plan_that_was_cut_short_is_refused(ten, body):
    path = Path(ten.plan([UNUSED]).path)
    path.write_bytes(body)
    with pytest.raises(AhaSnapshotError):
        load_plan(local_store(str(path)))


def test_every_cut_of_a_plan_is_refused(ten):
    path = Path(ten.plan([UNUSED]).path)
    whole = path.read_bytes().rstrip()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(AhaSnapshotError):
            load_plan(local_store(str(path)))


def test_missing_decisions_are_refused(ten):
    plan = ten.plan([UNUSED])
    (ten.folder(plan) / "plan.parquet").unlink()
    with pytest.raises(AhaSnapshotError, match="missing"):
        load_plan(local_store(plan.path))


def test_a_missing_plan_is_refused(tmp_path):
    with pytest.raises(AhaSnapshotError, match="There is no plan"):
        load_plan(local_store(str(tmp_path / "plan.json")))


def test_a_plan_that_is_read_again_is_the_same(ten):
    plan = ten.plan([UNUSED])
    assert load_plan(local_store(plan.path)) == plan
    assert plan.sha256 == sha256(Path(plan.path).read_bytes())


def test_decisions_have_their_schema_in_the_file(ten):
    plan = ten.plan([UNUSED])
    assert pq.read_schema(ten.folder(plan) / "plan.parquet").equals(DECISIONS)


# --- other stores --------------------------------------------------------------------------------


@pytest.fixture
def memory(ten: World) -> Iterator[Store]:
    fs = MemoryFileSystem(skip_instance_cache=True)
    # Memory itself can't hold records.
    fs.protocol = "s3"
    fs.put(str(ten.base), "/bucket/aha", recursive=True)
    yield Store(fs, "/bucket/aha", "memory://bucket/aha")
    fs.rm("/bucket", recursive=True)


def test_plans_are_made_on_a_store_without_folders(ten, memory):
    request = ten.request([UNUSED])
    plan = make_plan(memory, request, now=lambda: NOW)
    assert len(plan.rows) == 9
    assert make_plan(memory, request, now=lambda: NOW) == plan


# --- the summary ---------------------------------------------------------------------------------


def test_the_summary_lists_fifty_and_those_that_need_a_second_look_first(world):
    world.extract(people(80, p70=owner_of("11"), p75={"rights": {"administer_billing": True}}))
    plan = world.plan([{**UNUSED, "include_administrators": True}])
    text = summary(plan)
    listed = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| 1")]
    assert len(listed) == 50
    assert listed[:2] == ["1075", "1070"]
    assert "29 more are in the plan" in text
    assert plan.sha256 in text
    assert plan.path in text


@pytest.mark.parametrize("email", ["a|b`<script>*_[x](y)@example.com", "{{ 7*7 }}{% raw %}@example.com"])
def test_the_summary_shows_an_address_as_text_whatever_is_in_it(world, email):
    world.extract(people(p1={"email": email}))
    text = summary(world.plan([UNUSED]))
    (line,) = (line for line in text.splitlines() if line.startswith("| 1001 "))
    assert not set("`<>*_[]{}") & set(line)
    assert line.count("|") == summary_columns(text)


def summary_columns(text: str) -> int:
    return next(line for line in text.splitlines() if line.startswith("| User id")).count("|")


# --- a realistic account, against an oracle ----------------------------------------------------------


@pytest.fixture(scope="module")
def account() -> tuple[list[dict[str, Any]], Population]:
    """600 users of the sandbox, with administrators, twins, hostile names, free seats and all the rest."""
    with SandboxServer(account=Account.generate(600, seed=3, as_of=NOW)) as server:
        users = list(server.account.users())
        config = ClientConfig.from_connection(
            host=server.host, password=server.key, schema="http", port=server.port
        )
        tables = read_tables(AhaClient(config), connection_id="aha_default")
    # The moment of the read decides; here it is the moment up to which the sandbox's people were active.
    manifest = {"key_owner_id": users[0]["id"], "snapshot": "2026-03-10", "files": []}
    synced = tables["users"]
    days = [None if u["accessed_at"] is None else (NOW - when(u["accessed_at"])).days for u in users]
    place = synced.schema.get_field_index("days_inactive")
    synced = synced.set_column(place, synced.schema.field(place), pa.array(days, pa.int32()))
    return users, Population(manifest, NOW, synced, tables["user_roles"], {})


def when(text: str) -> datetime:
    return datetime.fromisoformat(text)


class Oracle:
    """The sentences of the issue, user by user, from the API's own JSON."""

    def __init__(
        self, users: list[dict[str, Any]], people_here: dict[str, str | None], unused: dict[str, Any]
    ) -> None:
        self.users, self.roster, self.unused = users, people_here, unused

    def decide(self, user: dict[str, Any]) -> str | None:
        email = user["email"].strip().lower()
        if self.is_service_account(user):
            return None
        if email in self.roster and email.endswith("@example.com"):
            end = self.roster[email]
            if end is not None and end < NOW.date().isoformat():
                return "left"
        return "unused" if self.is_unused(user) else None

    @staticmethod
    def is_service_account(user: dict[str, Any]) -> bool:
        return UserMatcher(patterns=SERVICE_ACCOUNT_PATTERNS).match("0", user["email"], user["name"]) is not None

    def is_unused(self, user: dict[str, Any]) -> bool:
        if not user["paid_seat"] or user["administrator"] or any(user["administrator_roles"].values()):
            return False
        if user["id"] == self.users[0]["id"] or when(user["created_at"]) > NOW - 60 * DAY:
            return False
        if user["accessed_at"] is None:
            return bool(self.unused["never_seen"])
        return bool((NOW - when(user["accessed_at"])).days >= self.unused["inactive_days"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), days=st.integers(1, 200), never_seen=st.booleans())
def test_a_realistic_account_is_judged_as_the_sentences_say(account, tmp_path, data, days, never_seen):
    users, population = account
    ends = st.sampled_from([None, "2026-03-09", "2026-03-10", "2026-12-31", "2020-01-01"])
    here: dict[str, str | None] = {user["email"].strip().lower(): None for user in users}
    leavers = data.draw(st.lists(st.sampled_from(sorted(here)), max_size=30, unique=True))
    here |= {email: data.draw(ends) for email in leavers}
    lines = "\n".join(f"{n},{email},{end or ''}" for n, (email, end) in enumerate(here.items()))
    roster = World(tmp_path).roster(f"nr,mail,end\n{lines}\n")()
    unused = {"class": "unused", "inactive_days": days, "never_seen": never_seen, "grace_days": 0}
    policy = Policy(read_rules([unused, LEFT]), protect_patterns=UserMatcher(patterns=SERVICE_ACCOUNT_PATTERNS))

    draft = build_plan(population, policy, roster=roster)

    oracle = Oracle(users, here, unused)
    expected = {u["id"]: oracle.decide(u) for u in users if u["enabled"]}
    assert {row.user_id: row.user_class for row in draft.rows} == {i: c for i, c in expected.items() if c}
    counts = Counter(c for c in expected.values() if c)
    assert draft.header["counts"]["planned"] == {name: counts[name] for name in ("left", "named", "unused")}
    administrators = [u["id"] for u in users if u["enabled"] and u["administrator"]]
    assert [entry["user_id"] for entry in draft.header["administrators"]] == administrators
    assert draft.decisions.column("user_id").to_pylist() == list(expected)


# --- addresses that look alike -------------------------------------------------------------------


LOOKS = {"p3": {"email": "straße@example.com"}}
OTHERS = [f"{n},p{n}@example.com," for n in range(3)]


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        ("9,strasse@example.com,2020-01-31", "look_alike"),
        ("9,STRASSE@example.com,2020-01-31", "look_alike"),
        ("9,straße@example.com,2020-01-31", None),
        ("9,STRAßE@example.com,2020-01-31", None),
        ("9,strasse@example.com;straße@example.com,2020-01-31", None),
        ("9,strasse@example.com,", "look_alike"),
        ("9,straße@example.com,", "no_rule"),
    ],
)
def test_a_leaver_whose_address_only_looks_like_a_users_is_another_person(world, row, outcome):
    world.extract(people(4, **LOOKS))
    roster = world.roster("\n".join(["nr,mail,end", *OTHERS, row]))
    plan = world.plan([LEFT], roster=roster)
    decisions = load_decisions(place_of(world.location, plan.path), plan.header).to_pylist()
    assert {one["user_id"]: one["spared_by"] for one in decisions}["1003"] == outcome
    assert ("1003" in {one.user_id for one in plan.rows}) is (outcome is None)
    assert any("(look_alike)" in note for note in plan.header["notes"]) is (outcome == "look_alike")


def test_a_name_of_a_rule_that_only_looks_like_a_users_is_unresolved(world):
    world.extract(people(4, **LOOKS))
    plan = world.plan([{"class": "named", "emails": ["Strasse@example.com", "P2@example.com"]}])
    assert [row.user_id for row in plan.rows] == ["1002"]
    (entry,) = plan.wrong_names
    assert (entry["asked"], entry["reason"], entry["ids"]) == ("strasse@example.com", "look_alike", ["1003"])
