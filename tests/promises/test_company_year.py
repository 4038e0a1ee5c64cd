"""A year of one company, day by day: who loses access, when and by whom, and who never does.

The year is written down in ``company_year.yaml``; its head says how it is read, and a further person is a further
entry there. Each day the tasks of the DAG ``aha_offboard_leavers`` run against a sandbox over sockets, with a clock
of the year's own, no pacing, and records on the local disk, which nobody waits for. What was done is what the
sandbox carried out, not what the evidence says.
"""

import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import time_machine

from airflow_provider_aha.sandbox.testing import SandboxServer
from tests.promises.company import Company, Person, day_of
from tests.promises.playing import FAILED, Played, load_dag

# The package decides the same on each Airflow, and the year takes a minute and a half.
NEWEST = tuple(map(int, version("apache-airflow").split(".")[:2])) >= (3, 3)
pytestmark = pytest.mark.skipif(not NEWEST, reason="the year is played on the newest Airflow only")

FILE = Path(__file__).parent / "company_year.yaml"
DAG_ID = "aha_offboard_leavers"
APPROVER = {"id": "7", "name": "Cora Cross"}
POLICY, APPROVAL = "policy", "approval"
# No task looks back longer: at runs that say nothing of any user, and at those that do.
LOOKED_BACK, LOOKED_BACK_AT_EVENTS = timedelta(days=10), timedelta(days=100)
# When the tasks of a day run; those that aren't named come at three minutes past five, or after the answer.
CLOCK = {"extract": (5, 1), "plan": (5, 2)}


@dataclass
class Day:
    """What a day of the year left.

    :param made: whether there was a plan.
    :param reason: why there was none.
    :param decisions: of the plan, by user id.
    :param asked: who was in a question.
    :param struck_out: whom the approver left alone.
    :param blocked: whom plan or write name as blocked.
    :param came_back: about whom the task that confirms raised the alarm.
    :param failed: the tasks that failed, and why.
    """

    made: bool = False
    reason: str = ""
    decisions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    struck_out: set[str] = field(default_factory=set)
    blocked: set[str] = field(default_factory=set)
    came_back: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)


class Year:
    """Plays the year.

    :param company: the company.
    :param base: the base path.
    :param questions: what was asked, as Airflow was handed it; the newest is the last.
    :param set_variable: sets an Airflow Variable.
    """

    def __init__(
        self,
        company: Company,
        base: Path,
        questions: list[Mapping[str, Any]],
        set_variable: Callable[[str, str], None],
    ) -> None:
        self.company = company
        self.days: dict[date, Day] = {}
        self._base = base
        self._questions = questions
        self._set_variable = set_variable
        self._back: set[str] = set()
        self._offboard, self._extract = load_dag(DAG_ID), load_dag("aha_extract")

    def live(self) -> None:
        for day in self.company.days():
            self.days[day] = self._live(day)
            self._date_files(day)
            self._archive(day)

    def _date_files(self, day: date) -> None:
        """Give what a day has written the day's date: a disk has a clock of its own, which nobody sets here."""
        moment = datetime(day.year, day.month, day.day, 13, 1, tzinfo=UTC).timestamp()
        for folder in self._runs(day):
            for path in folder.rglob("*"):
                os.utime(path, (moment, moment))

    def _archive(self, day: date) -> None:
        """Put away the runs that nobody looks at any more: they would make each day longer than the one before."""
        silent = [run for run in self._runs(day - LOOKED_BACK) if not any(run.glob("task=*/events/*"))]
        for folder in (*silent, *self._runs(day - LOOKED_BACK_AT_EVENTS)):
            folder.rename(self._base.parent / f"{folder.parent.name} {folder.name}")

    def _runs(self, day: date) -> list[Path]:
        return list(self._base.glob(f"*/account=*/dag=*/run=scheduled__{day}"))

    def _live(self, day: date) -> Day:
        company, found = self.company, Day()
        company.at(day, 4, 30)
        company.export(day)
        variables = self.variables()
        for name, value in variables.items():
            self._set_variable(name, value)
        run = Played(self._offboard, f"scheduled__{day}", variables)
        waiting = run.play(lambda task_id: company.at(day, *CLOCK.get(task_id, (5, 3))))
        self._confirm(day, found)
        self._read_plan(run, found)
        if waiting:
            company.at(day, 13, 0)
            self._answer(run, waiting, day, found)
            run.play(lambda _: company.at(day, 13, 1))
        found.failed = {
            task_id: str(error) for task_id, error in run.errors.items() if run.states[task_id] == FAILED
        }
        found.blocked |= self._blocked_by_write(day) - found.struck_out
        return found

    def variables(self) -> dict[str, str]:
        """Return the Airflow Variables of the day."""
        excluded = {"exclusions": str(self.company.exclusions)} if self.company.excluded else {}
        return {
            "aha_roster": json.dumps(self.company.rosters()),
            "aha_writes_enabled": "true",
            "aha_guards": json.dumps({"approvers": [APPROVER["id"]], **excluded}),
            "aha_output_path": str(self._base),
        }

    def _confirm(self, day: date, found: Day) -> None:
        """Run the task that looks who came back, which is another DAG's; on most days there is nothing to see.

        It reads the records of 90 days, so it runs when somebody who was disabled is enabled since yesterday, and
        once in a month, to raise no alarm.
        """
        written = {write.user_id for write in self.company.account.writes}
        back = {user_id for user_id in written if self.company.account.user(user_id)["enabled"]}
        known, self._back = self._back, back
        if back <= known and day.day != 1:
            return
        run = Played(self._extract, f"scheduled__{day}", self.variables())
        run.run("confirm")
        if error := run.errors.get("confirm"):
            found.came_back = set(re.findall(r"\b\d{19}\b", str(error)))
            assert found.came_back, error

    def _read_plan(self, run: Played, found: Day) -> None:
        made = run.returned.get("plan")
        found.made = made is not None
        if made is None:
            found.reason = str(run.errors.get("plan") or run.errors)
            return
        path = Path(made["plan_path"])
        header = json.loads(path.read_text())
        rows = pq.read_table(path.parent / header["decisions"]).to_pylist()
        found.decisions = {row["user_id"]: row for row in rows}
        found.blocked = {row["user_id"] for row in rows if row["decision"] == "blocked"}

    def _answer(self, run: Played, waiting: list[str], day: date, found: Day) -> None:
        """Answer all questions of a run as the approver does."""
        for task_id in waiting:
            question = self._questions[-1]
            # Below the table are those who are only listed.
            ids = set(re.findall(r"^\| (\d{19}) \|", question["body"], re.MULTILINE))
            struck_out = self.company.strike_out(ids, day)
            found.asked |= ids
            found.struck_out |= set(struck_out)
            event = {
                "chosen_options": ["Reject" if ids <= set(struck_out) else "Approve"],
                "params_input": {
                    "strike_out": struck_out,
                    "strike_reason": "still works here" if struck_out else None,
                },
                "responded_at": datetime.now(UTC),
                "responded_by_user": APPROVER,
            }
            run.answer(task_id, event)

    def _blocked_by_write(self, day: date) -> set[str]:
        files = self._base.glob(f"*/account=*/dag={DAG_ID}/run=scheduled__{day}/**/evidence.parquet")
        rows = [row for path in files for row in pq.read_table(path, columns=["user_id", "outcome"]).to_pylist()]
        return {row["user_id"] for row in rows if row["outcome"] == "blocked"}


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Year:
    """The year, played once."""
    folder = tmp_path_factory.mktemp("year")
    base = folder / "aha"
    questions: list[Mapping[str, Any]] = []
    connection = {
        "conn_type": "aha",
        "host": "127.0.0.1",
        "schema": "http",
        "password": "sandbox-key",
        "extra": {"requests_per_second": 1000, "requests_per_minute": 100_000, "max_retries": 0},
    }
    start = datetime(2025, 1, 1, 4, 0, tzinfo=UTC)
    with pytest.MonkeyPatch.context() as patch, time_machine.travel(start, tick=False) as clock:
        patch.setattr(
            "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **asked: questions.append(asked)
        )
        # What a machine loses when it stops isn't this test's subject.
        patch.setattr(os, "fsync", lambda _: None)
        company = Company.read(FILE, folder, clock.move_to)
        with SandboxServer(account=company.account) as server:
            patch.setenv("AIRFLOW_CONN_AHA_DEFAULT", json.dumps(connection | {"port": server.port}))
            played = Year(
                company, base, questions, lambda name, value: patch.setenv(f"AIRFLOW_VAR_{name.upper()}", value)
            )
            played.live()
    return played


# --- what must hold ------------------------------------------------------------------------------------------


def test_the_year_of_each_person_is_as_it_was_written_down(year: Year):
    people = [*year.company.people, *year.company.background]
    wrong = [line for person in people for line in differences(year, person)]
    assert not wrong, "\n".join(["", *wrong])


def test_there_is_a_plan_on_each_day_but_those_without_a_good_export(year: Year):
    without = {day: found.reason for day, found in year.days.items() if not found.made}
    assert list(without) == sorted(year.company.outages), without


def test_nobody_else_is_written_to(year: Year):
    """Each request that changed a user is told of above: here that there was none about somebody unknown."""
    known = {user_id for person in (*year.company.people, *year.company.background) for user_id in person.ids}
    writes = year.company.account.writes
    assert {write.user_id for write in writes} <= known
    assert [write.fields for write in writes] == [{"enabled": False}] * len(writes)


def differences(year: Year, person: Person) -> list[str]:
    """Say in which ways the year of a person differs from what was written down."""
    expected, found = expectation(year, person), what_happened(year, person)
    lines = []
    for what in sorted(expected.keys() | found.keys()):
        if what in ("marks", "users"):
            continue
        wanted, got = expected.get(what, []), found.get(what, [])
        if what == "asked":
            got = [day for day in got if day not in expected["may_be_asked"]]
        if what != "may_be_asked" and wanted != got:
            why = _why_asked(year, person, [day for day in got if day not in wanted]) if what == "asked" else ""
            lines.append(
                f"{person.name} ({person.story}): {what} expected {spans(wanted)}, found {spans(got)}{why}"
            )
    return [*lines, *_marks(year, person, expected)]


def _why_asked(year: Year, person: Person, days: list[date]) -> str:
    """Say what the plan gives as the reason for a question that nobody expected."""
    rows = [year.days[day].decisions.get(person.ids[0], {}) for day in days[:1]]
    return "".join(f", because {row.get('asked_because')}" for row in rows)


def expectation(year: Year, person: Person) -> dict[str, Any]:
    """Write out what is expected, day by day."""
    given = person.expect
    listed = {f"listed as {word}": year_days(year, ranges) for word, ranges in given.get("listed", {}).items()}
    return {
        "writes": [(day_of(day), what, mode) for day, what, mode in given["writes"]] if person.ids else [],
        "marks": given.get("marks", []),
        **{
            name: year_days(year, given.get(name, [])) for name in ("asked", "blocked", "came_back", "may_be_asked")
        },
        **listed,
    }


def what_happened(year: Year, person: Person) -> dict[str, Any]:
    """Collect what the year had for a person; of two users each has the same, or it shows twice."""
    ids = set(person.ids)
    writes = sorted(
        {(write.user_id, *_told(write)) for write in year.company.account.writes if write.user_id in ids}
    )
    each = {user_id: [rest for one, *rest in writes if one == user_id] for user_id in person.ids}
    alike = len({str(rest) for rest in each.values()}) <= 1
    found: dict[str, Any] = defaultdict(list)
    found["writes"] = [tuple(rest) for rest in next(iter(each.values()), [])] if alike else writes
    for day, left in year.days.items():
        for name in ("asked", "blocked", "came_back"):
            if ids & getattr(left, name):
                found[name].append(day)
        for user_id in ids & left.decisions.keys():
            if (word := left.decisions[user_id]["spared_by"]) in ("renamed", "unowned", "look_alike"):
                found[f"listed as {word}"].append(day)
    return dict(found)


def _told(write: Any) -> tuple[date, str, str]:
    moment = datetime.fromtimestamp(write.time, UTC)
    what = "disable" if write.fields.get("enabled") is False else json.dumps(write.fields)
    return moment.date(), what, APPROVAL if moment.hour >= 13 else POLICY


def _marks(year: Year, person: Person, expected: Mapping[str, Any]) -> Iterator[str]:
    """Say which words the row of a person lacks on a day on which somebody is asked."""
    for day in expected["asked"]:
        for user_id in person.ids:
            row = year.days[day].decisions.get(user_id, {})
            if lacking := [mark for mark in expected["marks"] if not is_marked(row, mark)]:
                yield f"{person.name} ({person.story}): on {day} the row isn't marked {', '.join(lacking)}"


def is_marked(row: Mapping[str, Any], mark: str) -> bool:
    """Tell whether the row of a plan says something of its user."""
    if mark == "seen_after_leave":
        return row.get("seen_after_leave") is True
    assert mark == "unknown"
    return "last seen is unknown" in (row.get("asked_because") or "")


def year_days(year: Year, ranges: Any) -> list[date]:
    """Write ranges out, without the days on which there is no plan."""
    days = {
        day_of(first) + timedelta(days=number)
        for first, last in ranges
        for number in range((day_of(last) - day_of(first)).days + 1)
    }
    return sorted(days - year.company.outages.keys())


def spans(days: list[Any]) -> str:
    """Write days as short as they can be read."""
    if not days or not all(type(day) is date for day in days):
        return "; ".join(" ".join(map(str, one)) for one in days) or "nothing"
    text, first = [], days[0]
    for day, following in zip(days, [*days[1:], None], strict=True):
        if following is None or (following - day).days > 1:
            text.append(f"{first}" if first == day else f"{first} to {day}")
            first = following
    return ", ".join(text)
