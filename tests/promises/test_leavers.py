"""People in rosters and account: what happens to their access. The expectations are data.

What is decided by the plan is read there. What is decided at the write is carried out against a sandbox.
"""

from __future__ import annotations

import csv
import io
import json
import re
import uuid
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
import time_machine
import yaml
from airflow.providers.common.compat.sdk import AirflowFailException
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.access.decide.planning import Limits, Request, make_plan
from airflow_provider_aha.access.decide.rules import Policy, as_given, read_rules
from airflow_provider_aha.access.plan.plan import Plan, load_decisions
from airflow_provider_aha.datasets.snapshot import DatasetWriter
from airflow_provider_aha.datasets.users import Normalizer, UsersPage
from airflow_provider_aha.datasets.visits import PastVisits
from airflow_provider_aha.exceptions import AhaError
from airflow_provider_aha.lists.matching import SERVICE_ACCOUNT_PATTERNS, UserMatcher
from airflow_provider_aha.lists.roster import Rosters, RosterSpec, roster_of
from airflow_provider_aha.lists.tables import SmallTable, read_table
from airflow_provider_aha.operators.carry_out import AhaCarryOutPlanOperator
from airflow_provider_aha.record.chain import close_try
from airflow_provider_aha.record.register import register, sign_off
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.sandbox.account import ADMIN_KEY
from airflow_provider_aha.sandbox.testing import Account, SandboxServer
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import Store, to_json
from tests.raw import place_of

FILE = yaml.safe_load((Path(__file__).parent / "leavers.yaml").read_text())
DEFAULTS = FILE["defaults"]
DAY = timedelta(days=1)
ACCOUNT, SANDBOX = "acme", "127.0.0.1"
DAG_ID = "aha_offboard_leavers"
RIGHTS = ("administer_account", "administer_billing", "administer_configuration")
# What happens between plan and write, and what the write alone guards.
AT_THE_WRITE = {"before_write", "writes_enabled", "other_administrators"}


def is_of_the_write(case: dict[str, Any]) -> bool:
    return bool(AT_THE_WRITE & case.keys()) or bool((case.get("user") or {}).get("owns_key"))


# One whom nothing holds up, beside all that are held up.
PLAIN = "a last day yesterday"
CASES = [pytest.param(case, id=case["name"]) for case in FILE["cases"] if not is_of_the_write(case)]
WRITES = [
    pytest.param(case, id=case["name"]) for case in FILE["cases"] if is_of_the_write(case) or case["name"] == PLAIN
]


def when(text: str) -> datetime:
    return datetime.fromisoformat(text)


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Member:
    """Somebody of the case: the users, and what today's rows say."""

    email: str | None
    today: Any
    user: dict[str, Any] | None
    ids: list[str]
    number: int
    emails: list[str] = field(default_factory=list)


class Case:
    """One case: users and rosters by moment.

    :param given: the case.
    :param base: the base path.
    :param account: what the account is called.
    """

    def __init__(self, given: dict[str, Any], base: Path, account: str = ACCOUNT) -> None:
        self.given, self.base, self.account = given, base, account
        self.timezone = given.get("timezone", DEFAULTS["timezone"])
        self.now = when(given.get("now", DEFAULTS["now"]))
        self.crowd = given.get("crowd", DEFAULTS["crowd"])
        self.ids: Iterator[int] = iter(range(5000, 9000))
        self.members = list(self._members())
        self.location = Store(LocalFileSystem(), str(base), str(base))
        self.runs = 0

    # --- who there is ---------------------------------------------------------------------------

    def _members(self) -> Iterator[Member]:
        given = self.given
        user = None if given.get("user", {}) is None else DEFAULTS["user"] | given.get("user", {})
        first = user["email"] if user else DEFAULTS["user"]["email"]
        for number in range(given.get("people", 1)):
            email = first if number == 0 else f"user{number}3@example.com"
            emails = [email]
            if number == 0 and "twin" in given:
                emails.append(given["twin"]["email"])
            if number == 0 and given.get("twin_of_first"):
                emails.append(email)
            yield self._member(emails, given.get("today", "default"), user, number)
        for word in ("doubtful", "protected"):
            for number in range(given.get(word, {}).get("people", 0)):
                member = self._member([f"{word}{number}@example.com"], given[word]["today"], user, number + 500)
                if word == "protected":
                    self.given = self.given | {"protect_more": member.ids}
                yield member

    def _member(self, emails: list[str], today: Any, user: dict[str, Any] | None, number: int) -> Member:
        ids = [str(next(self.ids)) for _ in emails] if user else []
        return Member(emails[0], today, user, ids, number, emails)

    def users(self, at: datetime, *, last: bool) -> list[dict[str, Any]]:
        rows = [
            api_user(str(100 + n), f"c{n}@example.com", at, rights=self._rights(n), seen=iso(at - 6 * DAY))
            for n in range(self.crowd)
        ]
        for row in rows[: self.given.get("disabled_administrators", 0)]:
            row |= {"enabled": False, **rights_of(RIGHTS)}
        rows += [
            api_user(str(3000 + n), f"p{n}@partner.example.org", at, seen=iso(at - 6 * DAY))
            for n in range(self.given.get("crowd_not_covered", 0))
        ]
        for member in self.members:
            if member.user is not None:
                rows += [
                    self._user(member, *pair, at, last=last) for pair in zip(member.ids, member.emails, strict=True)
                ]
        return rows

    def _rights(self, number: int) -> list[str]:
        """Return the administrator rights of somebody of the crowd."""
        if number >= self.given.get("other_administrators", 2):
            return []
        return [right for right in RIGHTS if right.partition("_")[2] in self.given.get("other_roles", right)]

    def _user(self, member: Member, user_id: str, email: str, at: datetime, *, last: bool) -> dict[str, Any]:
        user = member.user or {}
        seen = user.get("seen")
        if not last:
            # What can't be read today could be read before.
            seen = user.get("seen_in_previous_snapshot", DEFAULTS["user"]["seen"] if seen == "yesterday" else seen)
        if not last and "earlier_email" in user:
            email = user["earlier_email"]
        enabled = user["enabled"]
        if "enabled_again_between" in user:
            enabled = not when(user["enabled_again_between"][0]) <= at < when(user["enabled_again_between"][1])
        elif again := user.get("enabled_again") or user.get("enabled_by_us"):
            since = when(user["disabled_by_us"]) if "disabled_by_us" in user else when(again) - 2 * DAY
            enabled = not since <= at < when(again)
        more = {"paid_seat": user.get("paid_seat", True), "created_at": user.get("created"), "enabled": enabled}
        whole = user.get("administrator") or user.get("owns_key")
        rights = [
            right for right in RIGHTS if whole or right.partition("_")[2] in user.get("administrator_roles", ())
        ]
        row = api_user(user_id, email, at, seen=seen, rights=rights)
        return {**row, **more}

    # --- snapshots ------------------------------------------------------------------------------

    def land(self, at: datetime, *, last: bool = False) -> None:
        """Land a snapshot, as an extract does."""
        layout = Layout(self.account)
        day = f"{at:%Y-%m-%d}"
        rows = self.users(at, last=last)
        normalizer = Normalizer(subdomain=ACCOUNT, connection_id="c", synced_at=at, workspace_names={})
        body = {"users": rows, "pagination": {"total_records": len(rows), "total_pages": 1, "current_page": 1}}
        pages = UsersPage.several([orjson.dumps(body)])
        tables = normalizer.tables(pages, ("users", "user_roles"))
        place = self.base / "staged"
        place.mkdir(exist_ok=True)
        files = []
        with PastVisits(self.location, ACCOUNT) as past:
            past.begin()
            tables["users"] = past.hand_on(tables["users"], normalizer.days_inactive)
        for name, table in tables.items():
            with DatasetWriter(place, name) as writer:
                writer.write(table)
                files.append(writer.finish())
        absent = Counter(pages[0].absent)
        for name in self.given.get("absent_fields", []) if last else ():
            absent[name] += 1
        manifest = {
            "account": self.account,
            "snapshot": day,
            "started_at": iso(at),
            # The first of the crowd; where there is none, somebody of whom the case says nothing else.
            "key_owner_id": "100" if self.crowd else self.members[-1].ids[0],
            "absent_fields": dict(absent),
            "files": [{"dataset": file.dataset, "sha256": file.sha256} for file in files],
        }
        staged = place / "manifest.json"
        staged.write_bytes(to_json(manifest))
        datasets = {layout.dataset(file.dataset, day): file.path for file in files}
        self.location.publish({**datasets, layout.manifest(day): staged})

    # --- rosters --------------------------------------------------------------------------------

    def table(self, load: dict[str, Any], *, last: bool) -> SmallTable:
        columns = load.get("columns", ["emp_no", "work_email", "last_day", "status"])
        domain = "newname.example" if last and self.given.get("crowd_renamed") else "example.com"
        rows = [{"key": f"crowd{n}", "email": f"c{n}@{domain}"} for n in range(self.crowd)]
        for member in self.members:
            rows += self._rows(member, load, last=last)
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow([*columns, "exported_at"])
        for row in rows:
            cells = [row["key"], row["email"], row.get("end", ""), row.get("status", "")][: len(columns)]
            writer.writerow([*cells, load["at"]])
        path = self.base / f"roster-{uuid.uuid4().hex}.csv"
        path.write_text(text.getvalue())
        return read_table(Store(self.location.fs, str(path), str(path)), "The roster")

    def _rows(self, member: Member, load: dict[str, Any], *, last: bool) -> list[dict[str, Any]]:
        written = load.get("rows") or load["row"]
        if last and "today" in self.given and load.get("roster", "hr") == "hr":
            written = member.today
        elif member.number >= 500:
            written = {}
        if written == "gone":
            return []
        email = self.given.get("email_in_rows") or (member.email or "")
        if "earlier_email" in (member.user or {}):
            email = member.user["earlier_email"]  # type: ignore[index]
        if email.startswith(("user3+", "straße")):
            email = "user3@example.com"
        rows = written if isinstance(written, list) else [written]
        key = "3" if member.number == 0 else f"m{member.number}"
        return [{"key": key, "email": email} | row for row in rows]

    # --- plans ----------------------------------------------------------------------------------

    def plan(self, loads: list[dict[str, Any]], at: datetime, *, last: bool) -> Plan:
        self.runs += 1
        given = self.given
        policy = Policy(
            read_rules([{"class": "left", **given.get("rule", {})}]),
            self._protected(),
            UserMatcher(patterns=SERVICE_ACCOUNT_PATTERNS),
        )

        def read() -> Rosters:
            if any(load.get("missing") for load in loads):
                raise AhaError("There is no roster.")
            return Rosters(tuple(self._roster(load, last=last) for load in loads))

        request = Request(
            account=self.account,
            dag_id=DAG_ID,
            run_id=f"run {self.runs}",
            policy=policy,
            as_given={"rules": [as_given(rule) for rule in policy.rules]},
            max_snapshot_age=DAY,
            roster=read,
            exclusions=self._exclusions() if last else [],
            limits=Limits(given.get("policy_max", 5), given.get("max_left_percent", 10)),
        )
        return make_plan(self.location, request, now=lambda: at)

    def _roster(self, load: dict[str, Any], *, last: bool) -> Any:
        name = load.get("roster", "hr")
        (spec,) = RosterSpec.read_all(
            {
                "name": name,
                "path": "/roster.csv",
                "key": "emp_no",
                "emails": "work_email",
                "domains": ["example.com"],
                "min_rows": 1,
                "timezone": self.timezone,
                **(
                    {}
                    if "columns" in load
                    else {"end_date": "last_day", "status": "status", "left_statuses": ["Terminated"]}
                ),
            }
        )
        return roster_of(spec, self.table(load, last=last), when(load["at"]))

    def _protected(self) -> UserMatcher:
        protect = self.given.get("protect", {})
        own = {"ids": self.members[0].ids, "emails": self.members[0].emails}
        lists: dict[str, list[str]] = {
            name: own.get(name, values) if values == ["user"] else values for name, values in protect.items()
        }
        lists["ids"] = [*lists.get("ids", []), *self.given.get("protect_more", [])]
        return UserMatcher(*(lists.get(name, []) for name in ("ids", "emails", "domains", "patterns")))

    def _exclusions(self) -> list[Store]:
        given = self.given.get("exclusion")
        if given is None:
            return []
        path = self.base / "exclusions.csv"
        path.write_text(f"id,{','.join(given)}\n{self.members[0].ids[0]},{','.join(given.values())}\n")
        return [Store(self.location.fs, str(path), str(path))]

    def passed_before(self) -> None:
        """Write down what earlier runs did."""
        for word, mode in (("passed_before", "policy"), ("approved_before", "person")):
            if not (given := self.given.get(word)):
                continue
            at = when(given["at"])
            ids = [str(next(self.ids)) for _ in range(given["count"])]
            account = given.get("account", self.account)
            run = Run(given.get("dag", DAG_ID), "earlier", "deactivate", 1, "ann")
            folder = RunFolder(self.location, account, run)
            entry = register(folder, at, ids, "taken", by_policy=mode == "policy")
            for user_id in ids:
                event: dict[str, Any] = {
                    "event_id": uuid.uuid4().hex,
                    "user_id": user_id,
                    "approval_mode": mode,
                    "class": "left",
                }
                event |= {"access": "taken", "intent_at": iso(at), "try_number": 1}
                outcome: dict[str, Any] = {
                    "answered_at": iso(at),
                    "outcome": "changed",
                    "proof": 4,
                    "intent": event["event_id"],
                }
                for kind, more in (("intent", {"n": 1}), ("outcome", {"n": 2, **outcome})):
                    path = (
                        Path(self.location.path, folder.path, "events")
                        / f"u{user_id}.account"
                        / f"1-{kind}-{uuid.uuid4().hex}.json"
                    )
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(json.dumps(event | more))
            sign_off(folder, entry)

    def play(self) -> tuple[Plan, dict[str, dict[str, Any]]] | str:
        """Make all plans of the case; the last one with its decisions, or ``refused``."""
        given = self.given
        loads = given.get("loads", DEFAULTS["loads"])
        last_at = when(loads[-1]["at"])
        user = given.get("user") or {}
        for moment in moments_of(user):
            if moment < last_at:
                loads = [*loads, {"at": iso(moment), "snapshot": True}]
        by_time: dict[datetime, list[dict[str, Any]]] = {}
        for load in loads:
            # Rosters that are loaded within minutes are read by one plan.
            loaded_at = when(load["at"])
            group = next((time for time in by_time if abs(loaded_at - time) < timedelta(minutes=30)), loaded_at)
            by_time.setdefault(group, []).append(load)
        *earlier, last = sorted(by_time)
        for moment in earlier:
            here = [load for load in by_time[moment] if "snapshot" not in load and not load.get("refused")]
            self.land(moment)
            if here:
                self.plan(here, max(when(load["at"]) for load in here), last=False)
        self.passed_before()
        self.land(when(given.get("snapshot_at", iso(self.now))), last=True)
        try:
            plan = self.plan(by_time[last], self.now, last=True)
        except AhaError:
            return "refused"
        table = load_decisions(place_of(self.location, plan.path), plan.header)
        return plan, {row["user_id"]: row for row in table.to_pylist()}


def moments_of(user: dict[str, Any]) -> Iterator[datetime]:
    """Snapshots that show what happened to the user: before and after it was enabled again."""
    if again := user.get("enabled_again") or user.get("enabled_by_us"):
        yield when(user["disabled_by_us"]) + timedelta(hours=1) if "disabled_by_us" in user else when(again) - DAY
        yield when(again)
    for text in user.get("enabled_again_between", []):
        yield when(text)
    if "seen_in_previous_snapshot" in user:
        yield when("2026-03-09T09:00:00Z")


def api_user(
    user_id: str, email: str | None, at: datetime, *, rights: Collection[str] = (), seen: Any = None
) -> dict[str, Any]:
    return {
        "id": user_id,
        "name": f"Person {user_id}",
        "email": email,
        "created_at": "2024-01-15T10:00:00.000Z",
        "updated_at": iso(at - 30 * DAY),
        "accessed_at": seen,
        "product_roles": [],
        "user_roles": [],
        "enabled": True,
        "paid_seat": True,
        "identity_provider": {"type": "password"},
        **rights_of(rights),
    }


def rights_of(rights: Collection[str]) -> dict[str, Any]:
    return {"administrator": bool(rights), "administrator_roles": {right: right in rights for right in RIGHTS}}


def word_of(user_id: str, plan: Plan, decisions: dict[str, dict[str, Any]]) -> str:
    """Name what happens to a user, in the words of the expectations."""
    rows = {row.user_id: row for row in plan.rows}
    if user_id in rows:
        return "passes" if rows[user_id].asked_because is None else "asked"
    if user_id in {entry["user_id"] for entry in plan.header["blocked"]}:
        return "blocked"
    spared = decisions.get(user_id, {}).get("spared_by", "no_rule")
    if spared in ("unowned", "renamed", "look_alike"):
        assert any(f"({spared})" in note and user_id in note for note in plan.header["notes"])
        return f"listed: {spared}"
    return "nothing" if spared == "no_rule" else f"spared: {spared}"


def marks_of(plan: Plan, ids: list[str]) -> set[str]:
    rows = [row for row in plan.rows if row.user_id in ids]
    notes = " ".join(plan.header["notes"])
    facts = {
        "seen_after_leave": any(row.seen_after_leave for row in rows),
        "unknown": any("unknown" in (row.asked_because or "") for row in rows),
        "contradiction": "a status of somebody who is here" in notes,
        "sole_owner": any(row.sole_owner_of is not None for row in rows),
        "exclusion_expired": "have expired" in notes,
        "leaver_excluded": any(
            "an exclusion holds for leavers" in note and ids[0] in note for note in plan.header["notes"]
        ),
    }
    return {name for name, holds in facts.items() if holds}


@pytest.mark.parametrize("given", CASES)
def test_what_happens_to_the_access(given, tmp_path):
    case = Case(given, tmp_path)
    played = case.play()
    ids = [user_id for member in case.members for user_id in member.ids]
    words: Counter[str]
    if isinstance(played, str):
        words, found = Counter(), "refused"
    else:
        words = Counter(word_of(user_id, *played) for user_id in ids)
        found = word_of(ids[0], *played) if ids else "nothing"
    allowed = [given["expect"]] if "expect" in given else given["either"]
    assert found in allowed, given["why"]
    assert found not in given.get("never", [])
    for counts in [given["all"]] if "all" in given else []:
        assert {name: words[name] for name in counts} == counts
    if "all_either" in given:
        assert any({name: words[name] for name in counts} == counts for counts in given["all_either"])
    if not isinstance(played, str):
        assert set(given.get("marks", ())) <= marks_of(played[0], ids)
        allowed_ids = set(ids) if "passes" in allowed else set()
        assert {row.user_id for row in played[0].rows} <= set(ids)
        assert {row.user_id for row in played[0].rows if row.asked_because is None} <= allowed_ids


# --- at the write ----------------------------------------------------------------------------------------------


class Written:
    """The account at the write, and what becomes of the users of a plan.

    :param case: the case; its plan is made.
    :param server: a sandbox with its users.
    """

    def __init__(self, case: Case, server: SandboxServer) -> None:
        self.case, self.server = case, server
        self.ids = [user_id for member in case.members for user_id in member.ids]
        self.error = ""
        self.rows: dict[str, dict[str, Any]] = {}

    def change(self, user_id: str, change: dict[str, Any], patch: pytest.MonkeyPatch) -> None:
        """Let something happen between plan and write."""
        account = self.server.account
        fields = {name: value for name, value in change.items() if name in ("enabled", "email")}
        if change.get("administrator"):
            fields |= rights_of(RIGHTS)
        if "seen" in change:
            fields["accessed_at"] = change["seen"]
        if change.get("removed"):
            account.remove_user(user_id)
        elif fields:
            account.edit_user(user_id, **fields)
        guards: dict[str, Any] = {"approvers": ["bob"]}
        if change.get("excluded"):
            path = self.case.base / "exclusions.csv"
            path.write_text(f"id,reason,owner,expires_on\n{user_id},legal hold,Legal,2026-12-31\n")
            guards["exclusions"] = str(path)
        patch.setenv("AIRFLOW_VAR_AHA_GUARDS", json.dumps(guards))

    def carry_out(self, plan: Plan) -> None:
        """Carry a plan out by policy, as the DAG does, when its task has recorded it."""
        planned = Run(DAG_ID, plan.header["run_id"], "plan", 1, "")
        said = {"action": "plan", "ended": "completed", "plan_sha256": plan.sha256, **asdict(planned)}
        close_try(RunFolder(self.case.location, plan.account, planned), said)
        run = SimpleNamespace(
            dag_id=DAG_ID, run_id=plan.header["run_id"], task_id="by_policy", map_index=-1, try_number=1
        )
        run.xcom_push = lambda **_: None
        context: Any = {"ti": run, "dag_run": SimpleNamespace(run_type="scheduled", triggering_user_name=None)}
        operator = AhaCarryOutPlanOperator(
            task_id="by_policy",
            plan=plan.path,
            require_approval=False,
            dry_run=not self.case.given.get("writes_enabled", True),
            base_path=str(self.case.base),
        )
        try:
            operator.execute(context)
        except AirflowFailException as error:
            self.error = str(error)
        (path,) = self.case.base.glob("access/account=*/dag=*/run=*/task=by_policy/evidence.parquet")
        self.rows = {row["user_id"]: row for row in pq.read_table(path, partitioning=None).to_pylist()}

    @property
    def puts(self) -> set[str]:
        return {one.path.rpartition("/")[2] for one in self.server.requests if one.method == "PUT"}

    def word(self, user_id: str) -> str:
        """Name what happened to a user, in the words of the expectations."""
        outcome = self.rows[user_id]["outcome"]
        assert (user_id in self.puts) == (outcome == "changed")
        # Somebody has to look, so the task fails and names the id; at nobody else.
        assert (outcome == "blocked") == bool(re.search(rf"\b{user_id}\b", self.error))
        return {"changed": "passes", "blocked": "blocked"}.get(outcome, "nothing")

    def marks(self, user_id: str) -> set[str]:
        return {"seen_after_leave"} if "seen after the leave date" in self.rows[user_id]["reason"] else set()


def account_of(case: Case) -> Account:
    """Make the account; the key belongs to nobody of the case, unless the case says so."""
    users = sorted(case.users(case.now, last=True), key=lambda user: int(user["id"]))
    # An account without administrators gives the key to somebody outside of the list.
    account = Account.from_users([user | rights_of(()) for user in users])
    for user in users:
        account.edit_user(
            user["id"], administrator=user["administrator"], administrator_roles=user["administrator_roles"]
        )
    if (case.given.get("user") or {}).get("owns_key"):
        account.keys[ADMIN_KEY] = case.members[0].ids[0]
    return account


@pytest.mark.parametrize("given", WRITES)
def test_what_the_write_does(given, tmp_path, monkeypatch):
    case = Case(given, tmp_path, SANDBOX)
    played = case.play()
    assert not isinstance(played, str)
    with time_machine.travel(case.now, tick=False) as clock, SandboxServer(account=account_of(case)) as server:
        place = {"host": "127.0.0.1", "port": server.port, "schema": "http", "password": server.key}
        extra = {"requests_per_second": 1000, "requests_per_minute": 100_000, "max_retries": 0}
        monkeypatch.setenv("AIRFLOW_CONN_AHA_DEFAULT", json.dumps({"conn_type": "aha", **place, "extra": extra}))
        written = Written(case, server)
        written.change(written.ids[0], given.get("before_write", {}), monkeypatch)
        clock.shift(timedelta(minutes=1))
        written.carry_out(played[0])
    words, first = Counter(map(written.word, written.ids)), written.ids[0]
    assert written.word(first) in ([given["expect"]] if "expect" in given else given["either"]), given["why"]
    assert {name: words[name] for name in given.get("all", {})} == given.get("all", {})
    assert written.rows[first]["outcome"] == given.get("outcome", written.rows[first]["outcome"])
    assert set(given.get("marks", ())) <= written.marks(first)
    assert written.puts <= set(written.ids)
