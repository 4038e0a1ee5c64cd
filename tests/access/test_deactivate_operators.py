"""Deactivating and reactivating by operator: guards, approval, evidence and a manifest for every try."""

import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha import verify as command
from airflow_provider_aha.access.plan.plan import Plan
from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.exceptions import AhaError, AhaStorageError
from airflow_provider_aha.hooks.paths import resolve_path
from airflow_provider_aha.operators.carry_out import AhaCarryOutPlanOperator
from airflow_provider_aha.operators.deactivations import AhaDeactivateUsersOperator, AhaReactivateUsersOperator
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator
from airflow_provider_aha.operators.plan import AhaPlanAccessOperator
from airflow_provider_aha.record.chain import close_try
from airflow_provider_aha.record.evidence import read_evidence
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.store.store import Store
from airflow_provider_aha.version_compat import AIRFLOW_V_3_1_PLUS
from tests.raw import raw

Context = Callable[..., Any]
needs_3_1 = pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow before 3.1 can't ask a person")


class Admin:
    """Somebody who runs the operators on a small sandbox, with records below a base path."""

    def __init__(self, server: Any, context: Context, base: str) -> None:
        self.server, self.context, self.base = server, context, base
        users = [user for user in server.account.users() if user["enabled"]]
        self.people = [user["id"] for user in users if user["paid_seat"] and not user["administrator"]]
        self.owner = server.account.owner(server.key)["id"]

    def deactivate(
        self, users: Any = None, run_id: str = "r1", try_number: int = 1, **arguments: Any
    ) -> dict[str, Any]:
        given = {"dry_run": False, "base_path": self.base, **arguments}
        requested_by = given.pop("requested_by", "ann")
        task_id = given.pop("task_id", "t")
        operator: Any
        if "plan" in given:
            operator = AhaCarryOutPlanOperator(task_id=task_id, **given)
        else:
            given = {"allow_privileged": True, **given}
            operator = AhaDeactivateUsersOperator(task_id=task_id, users=users, **given)
        found: dict[str, Any] = operator.execute(
            self.context(run_id, try_number, task_id, triggering_user_name=requested_by)
        )
        return found

    def reactivate(self, run_id: str = "undo", **arguments: Any) -> dict[str, Any]:
        given = {"dry_run": False, "allow_privileged": True, "base_path": self.base, **arguments}
        found: dict[str, Any] = AhaReactivateUsersOperator(task_id="t", **given).execute(self.context(run_id))
        return found

    @property
    def puts(self) -> list[str]:
        return [one.path.rpartition("/")[2] for one in self.server.requests if one.method == "PUT"]

    def is_enabled(self, user_id: str) -> bool:
        return bool(self.server.account.user(user_id)["enabled"])

    def manifests(self) -> list[dict[str, Any]]:
        location = resolve_path(self.base)
        paths = raw(location).glob(f"{location.path}/access/account=127.0.0.1/manifests/*.json")
        return [json.loads(raw(location).cat_file(path)) for path in sorted(paths)]

    def verify(self) -> int:
        return command.main([self.base])


@pytest.fixture
def admin(connected, context, tmp_path) -> Admin:
    return Admin(connected, context, str(tmp_path / "aha"))


# --- what it does --------------------------------------------------------------------------------


def test_a_dry_run_is_the_default(admin):
    operator = AhaDeactivateUsersOperator(task_id="t", users=admin.people[:3], base_path=admin.base)
    result = operator.execute(admin.context())
    assert (result["dry_run"], result["outcomes"]) == (True, {"dry_run": 3})
    undo = AhaReactivateUsersOperator(task_id="t", users=admin.people[:3], base_path=admin.base)
    assert undo.execute(admin.context("r2"))["dry_run"] is True
    assert admin.puts == []


@pytest.mark.parametrize("unset", [None, "", "None"])
def test_a_dry_run_that_is_not_set_is_one(admin, unset):
    assert admin.deactivate(admin.people[:1], dry_run=unset)["outcomes"] == {"dry_run": 1}
    admin.server.account.edit_user(admin.people[0], enabled=False)
    assert admin.reactivate(users=admin.people[:1], dry_run=unset)["outcomes"] == {"dry_run": 1}
    assert admin.puts == []


def test_the_ticket_is_in_the_evidence(admin):
    done = admin.deactivate(admin.people[:1], ticket="SEC-1")
    undone = admin.reactivate(evidence=done["evidence"], ticket="SEC-2")
    tickets = [read_evidence(resolve_path(found["evidence"]))[0]["ticket"] for found in (done, undone)]
    assert tickets == ["SEC-1", "SEC-2"]


def test_users_are_disabled_and_enabled_again(admin):
    result = admin.deactivate(admin.people[:3])
    assert result == {
        "dry_run": False,
        "outcomes": {"changed": 3},
        "users": dict.fromkeys(admin.people[:3], "changed"),
        "evidence": f"{admin.base}/access/account=127.0.0.1/dag=d/run=r1/task=t/evidence.parquet",
    }
    undone = admin.reactivate(evidence=result["evidence"])
    assert (undone["outcomes"], undone["paid_seats"]) == ({"changed": 3}, 3)
    assert all(admin.is_enabled(one) for one in admin.people[:3])
    assert admin.verify() == 0


def test_records_on_s3_through_an_airflow_connection(connected, context, s3_url, capsys):
    admin = Admin(connected, context, s3_url)
    result = admin.deactivate(admin.people[:2])
    assert result["evidence"].startswith(f"{s3_url}/access/account=127.0.0.1/")
    assert admin.deactivate(admin.people[:2], try_number=2) == result
    assert sorted(admin.puts) == sorted(admin.people[:2])
    assert admin.reactivate(evidence=result["evidence"])["outcomes"] == {"changed": 2}
    assert admin.verify() == 0
    location = resolve_path(s3_url)
    raw(location).pipe_file(f"{resolve_path(result['evidence']).path}", b"")
    assert admin.verify() == 1
    assert "evidence.parquet was changed." in capsys.readouterr().out


def test_emails_in_any_case_and_text_lists_name_users(admin):
    emails = [admin.server.account.user(one)["email"].upper() for one in admin.people[:2]]
    result = admin.deactivate(json.dumps([*emails, admin.people[0]]))
    assert result["users"] == dict.fromkeys(admin.people[:2], "changed")


def test_nobody_named_is_a_green_run_with_a_manifest(admin):
    assert admin.deactivate("[]")["outcomes"] == {}
    (manifest,) = admin.manifests()
    assert (manifest["ended"], manifest["users"], manifest["outcomes"]) == ("completed", 0, {})


def test_reactivation_by_name_says_how_many_seats_it_takes_also_in_a_dry_run(admin, caplog, capfd):
    admin.deactivate(admin.people[:3])
    admin.server.account.edit_user(admin.people[0], paid_seat=False)
    assert admin.reactivate("dry", users=admin.people[:3], dry_run="True")["paid_seats"] == 2
    assert "2 of these users take a paid seat" in logged(caplog, capfd)
    assert admin.reactivate(users=admin.people[:3])["paid_seats"] == 2


@pytest.mark.parametrize("seats", [0, 1])
def test_seats_are_spoken_of_only_where_some_are_taken(admin, caplog, capfd, seats):
    """Enabling people whom the account doesn't pay for costs nothing."""
    admin.deactivate(admin.people[:2])
    for user_id in admin.people[seats:2]:
        admin.server.account.edit_user(user_id, paid_seat=False)
    assert admin.reactivate(users=admin.people[:2])["paid_seats"] == seats
    said = logged(caplog, capfd)
    assert ("1 of these users takes a paid seat; Aha! may bill" in said, "paid seat" in said) == (
        seats == 1,
        seats > 0,
    )


# --- what it refuses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"users": None}, "users is not set"),
        ({"plan": None}, "plan is not set"),
        ({"users": ["1"], "allow_privileged": False}, "allow_privileged=True"),
        ({"users": ["1"], "allow_privileged": "True"}, "allow_privileged=True"),
        ({"users": ["1"], "ticket": "\u200b"}, "ticket is blank"),
        ({"users": ["1"], "dry_run": "perhaps"}, "dry_run must be true or false"),
        ({"users": "{}"}, "users"),
        ({"users": ["1"], "max_users": "many"}, "max_users"),
        ({"users": ["1"], "max_percent": 101}, "max_percent"),
        ({"users": ["1"], "protected_ids": ["ann"]}, "protected ids"),
        ({"users": ["1"], "protected_emails": ["ann"]}, "protected emails"),
        ({"users": ["1"], "base_path": "relative/path"}, "relative"),
    ],
)
def test_wrong_arguments_are_refused_before_any_request(admin, arguments, sentence):
    with pytest.raises(AirflowFailException, match=sentence):
        admin.deactivate(**arguments)
    assert admin.server.requests == []


@pytest.mark.parametrize("user", ["1/2", "../1", "１２３", "٣٤٥", "ann"])
def test_what_cannot_be_a_user_never_reaches_the_api(admin, user):
    with pytest.raises(AirflowFailException, match="neither an id, which is made of digits, nor an email"):
        admin.deactivate([admin.people[0], user])
    assert {one.path for one in admin.server.requests} == {"/api/v1/me"}


def test_an_empty_id_never_reaches_the_api(admin):
    with pytest.raises(AirflowFailException, match="empty"):
        admin.deactivate([admin.people[0], ""])
    assert admin.server.requests == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [({}, "Neither evidence nor users were"), ({"users": ["1"], "evidence": "/e"}, "Both evidence and users were")],
)
def test_a_reactivation_needs_one_ground(admin, arguments, sentence):
    with pytest.raises(AirflowFailException, match=sentence):
        admin.reactivate(**arguments)


def test_an_email_that_nobody_has_or_two_have_stops_the_run_before_the_first_write(admin):
    one, other = admin.people[:2]
    email = admin.server.account.user(one)["email"]
    admin.server.account.edit_user(other, email=email.upper())
    for number, user in enumerate((email, "nobody@example.com")):
        with pytest.raises(AirflowFailException) as caught:
            admin.deactivate([admin.people[3], user], f"r{number}")
        assert "@" not in str(caught.value)
    assert admin.puts == []
    assert [one["ended"] for one in admin.manifests()] == ["failed", "failed"]


def test_over_a_cap_nothing_is_done_and_a_manifest_says_why(admin):
    with pytest.raises(AirflowFailException, match="Nothing was done"):
        admin.deactivate(admin.people[:3], max_users="2")
    (manifest,) = admin.manifests()
    assert (admin.puts, manifest["ended"], manifest["outcomes"]) == ([], "failed", {})
    assert "allowed are 2 users" in manifest["reason"]


def test_blocked_users_fail_the_task_for_good_and_are_named_by_id(admin):
    with pytest.raises(AirflowFailException, match=f"1 blocked, 1 changed.*{admin.owner}") as caught:
        admin.deactivate([admin.owner, admin.people[0]])
    assert "evidence.parquet" in str(caught.value)
    assert admin.puts == [admin.people[0]]


def test_failed_users_fail_the_task_so_that_a_retry_cures_them(admin):
    admin.server.set_fault("error", status=403, method="PUT", times=1)
    with pytest.raises(AhaError, match="2 changed, 1 failed") as caught:
        admin.deactivate(admin.people[:3])
    assert not isinstance(caught.value, AirflowFailException)
    assert admin.deactivate(admin.people[:3], try_number=2)["outcomes"] == {"changed": 3}
    assert len(admin.puts) == 4
    assert [one["ended"] for one in admin.manifests()] == ["completed", "completed"]
    assert [one["outcomes"] for one in admin.manifests()] == [{"changed": 2, "failed": 1}, {"changed": 3}]


def test_a_long_list_of_failures_is_cut_in_the_log(admin):
    admin.server.set_fault("error", status=422, method="PUT")
    with pytest.raises(AhaError, match="and 2 more"):
        admin.deactivate(admin.people[:22], max_percent=100)


def test_a_key_that_is_refused_in_the_middle_fails_for_good(admin):
    admin.server.set_fault("key_revoked", method="PUT", after=1)
    with pytest.raises(AirflowFailException, match="refused the API key"):
        admin.deactivate(admin.people[:3])
    (manifest,) = admin.manifests()
    assert manifest["ended"] == "failed"
    evidence = f"{admin.base}/access/account=127.0.0.1/dag=d/run=r1/task=t/evidence.parquet"
    outcomes = [row["outcome"] for row in read_evidence(resolve_path(evidence))]
    assert {"changed", "failed"} == set(outcomes)


# --- protected lists and exclusions --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ids", "emails", "domains", "patterns"])
def test_protected_lists_protect(admin, kind):
    user = admin.server.account.user(admin.people[0])
    given = {
        "ids": [user["id"]],
        "emails": user["email"].upper(),
        "domains": [user["email"].partition("@")[2]],
        "patterns": [f"{user['email'][:5]}*"],
    }[kind]
    given = json.dumps(given if isinstance(given, list) else [given])
    with pytest.raises(AirflowFailException, match="1 blocked"):
        admin.deactivate([user["id"]], **{f"protected_{kind}": given})
    assert admin.puts == []


def exclusion_file(tmp_path: Path, *rows: str) -> str:
    path = tmp_path / "exclusions.csv"
    path.write_text("\n".join(["id,reason,owner,expires_on", *rows]) + "\n")
    return str(path)


def test_the_exclusion_file_is_read_again_at_the_write(admin, tmp_path):
    one, other, third = admin.people[:3]
    path = exclusion_file(tmp_path, f"{one},on leave,Legal,", f"{other},was on leave,Legal,2020-01-01")
    with pytest.raises(AirflowFailException, match=f"1 blocked, 1 changed.*{one}"):
        admin.deactivate([one, other], exclusions=path)
    (row,) = [
        row
        for row in read_evidence(
            resolve_path(f"{admin.base}/access/account=127.0.0.1/dag=d/run=r1/task=t/evidence.parquet")
        )
        if row["user_id"] == one
    ]
    assert row["reason"] == "exclusion file row 1"
    assert len(row["exclusions_sha256"]) == 64
    exclusion_file(tmp_path, f"{third},on leave,Legal,")
    with pytest.raises(AirflowFailException, match="1 blocked"):
        admin.deactivate([third], "r2", exclusions=path)


@pytest.mark.parametrize("content", [None, "", "id,reason,owner,expires_on\n", "id\n1\n"])
def test_without_a_readable_exclusion_file_nothing_is_done(admin, tmp_path, content):
    path = tmp_path / "exclusions.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises((AirflowFailException, AhaStorageError)):
        admin.deactivate(admin.people[:1], exclusions=str(path))
    assert admin.server.requests == []


# --- undo ----------------------------------------------------------------------------------------


def test_evidence_that_cannot_be_undone_is_refused_for_good(admin):
    result = admin.deactivate(admin.people[:2])
    path = Path(result["evidence"])
    admin.server.forget_requests()
    for number, body in enumerate((path.read_bytes()[:-20], b"", None)):
        path.unlink() if body is None else path.write_bytes(body)
        with pytest.raises(AirflowFailException, match=r"cut short|no evidence"):
            admin.reactivate(f"undo{number}", evidence=str(path))
    assert admin.puts == []


def test_an_undo_names_those_that_were_changed_since(admin):
    result = admin.deactivate(admin.people[:2])
    admin.server.account.edit_user(admin.people[0], email="new@example.com")
    with pytest.raises(AirflowFailException, match=f"1 blocked, 1 changed.*{admin.people[0]}"):
        admin.reactivate(evidence=result["evidence"])
    assert not admin.is_enabled(admin.people[0])


def vouch(plan: Path, record: dict[str, Any], action: str = "approve") -> None:
    """Leave the manifest of a task for an answer or a plan that a test has written in its place."""
    account, base = (plan.parents[2].name.partition("=")[2], str(plan.parents[4]))
    run = Run(record["dag_id"], record["run_id"], "approve", 1, "ann")
    facts = {"action": action, "ended": record["choice"], "plan_sha256": record["plan_sha256"], **asdict(run)}
    close_try(RunFolder(Store(LocalFileSystem(), base, base), account, run), facts)


# --- plans and approvals -------------------------------------------------------------------------


class Planned:
    """A plan of a run, of the rule that two people are named unless given, and what an approval of it would be."""

    def __init__(self, admin: Admin, run_id: str = "r1", count: int = 2, **plan: Any) -> None:
        context = admin.context(run_id) | {"outlet_events": {}}
        self.run = context["ti"]
        extract = AhaExtractUsersOperator(task_id="e", base_path=admin.base, datasets=["users", "user_roles"])
        extract.execute(context)
        plan = plan or {"rules": [{"class": "named", "ids": admin.people[:count]}]}
        operator = AhaPlanAccessOperator(task_id="p", base_path=admin.base, **plan)
        result = operator.execute(context)
        self.path, self.sha256 = result["plan_path"], result["plan_sha256"]
        admin.server.forget_requests()

    @property
    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(Path(self.path).read_text())["rows"]
        return found

    def approve(self, *, vouched: bool = True, **changes: Any) -> None:
        record = {
            "choice": "Approve",
            "plan_sha256": self.sha256,
            "responded_at": "2999-01-01T00:00:00Z",
            "responded_by_id": "7",
            "responded_by_name": "bob",
            "strike_out": [],
            "dag_id": self.run.dag_id,
            "run_id": self.run.run_id,
            **changes,
        }
        (Path(self.path).parent / "approval.json").write_text(json.dumps(record))
        if vouched:
            vouch(Path(self.path), record)

    def answer(self, context: Any, **event: Any) -> Any:
        """Answer the question as a person, Approve unless given."""
        from airflow_provider_aha.operators.approvals import AhaApprovePlanOperator

        request = Path(self.path).parent / "approval_request.json"
        if not request.exists():
            request.write_text(json.dumps({"plan_sha256": self.sha256}))
        given = {
            "chosen_options": ["Approve"],
            "params_input": {},
            "responded_at": datetime.now(UTC),
            "responded_by_user": {"id": "7", "name": "bob"},
        }
        operator = AhaApprovePlanOperator(task_id="approve", plan=self.path)
        return operator.execute_complete(context, {**given, **event})

    @property
    def approval(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((Path(self.path).parent / "approval.json").read_text())
        return found


@pytest.fixture
def now() -> str:
    return datetime.now(UTC).isoformat()


def test_an_approved_plan_is_carried_out_once(admin, now):
    planned = Planned(admin)
    planned.approve(responded_at=now)
    arguments = {"plan": planned.path, "require_approval": True}
    result = admin.deactivate(**arguments)
    assert result["outcomes"] == {"changed": 2}
    rows = read_evidence(resolve_path(result["evidence"]))
    assert {(row["plan_sha256"], row["approved_by_name"], row["approval_mode"]) for row in rows} == {
        (planned.sha256, "bob", "person")
    }
    admin.reactivate(evidence=result["evidence"])
    admin.server.forget_requests()
    with pytest.raises(AirflowFailException, match="carried out before"):
        admin.deactivate(task_id="another", **arguments)
    assert admin.puts == []
    assert admin.verify() == 0


@pytest.mark.parametrize(
    "approval",
    [
        None,
        {"choice": "Reject"},
        {"plan_sha256": "00"},
        {"responded_at": "2020-01-01T00:00:00Z"},
        {"responded_by_name": "ann"},
        {"run_id": "another"},
        {"dag_id": "another"},
    ],
)
def test_without_a_valid_approval_nothing_is_done_and_a_manifest_says_so(admin, now, approval):
    planned = Planned(admin)
    if approval is not None:
        planned.approve(**{"responded_at": now, **approval})
    with pytest.raises(AirflowFailException, match="Nothing was done"):
        admin.deactivate(plan=planned.path, require_approval=True)
    assert admin.puts == []
    manifest = admin.manifests()[-1]
    assert (manifest["action"], manifest["ended"], manifest["outcomes"]) == ("deactivate", "failed", {})
    assert "Nothing was done" in manifest["reason"]


def test_an_approval_that_no_approval_task_has_recorded_is_none_at_no_try(admin, now):
    """The manifest of the first, refused try names the file, too: that vouches for nothing."""
    planned = Planned(admin)
    planned.approve(responded_at=now, vouched=False)
    for try_number in (1, 2):
        with pytest.raises(AirflowFailException, match="in no manifest of a task of this run that says approve"):
            admin.deactivate(plan=planned.path, require_approval=True, try_number=try_number)
    assert admin.puts == []


@pytest.mark.parametrize(
    "other",
    [{"choice": "Reject"}, {"plan_sha256": "0" * 64}, {"run_id": "r2"}, {"responded_by_name": "carl"}],
    ids=["rejected", "another plan", "another run", "changed since"],
)
def test_an_answer_of_which_an_approval_task_has_recorded_another_is_none(admin, now, other):
    planned = Planned(admin)
    planned.approve(responded_at=now, **other)
    planned.approve(responded_at=now, vouched=False)
    with pytest.raises(AirflowFailException, match="in no manifest of a task of this run that says approve"):
        admin.deactivate(plan=planned.path, require_approval=True)
    assert admin.puts == []


def test_a_plan_that_no_plan_task_has_recorded_passes_by_no_policy(admin, leavers):
    """Its rows, counts and decisions agree: whoever changed it knew how."""
    planned = leavers(dated=1)
    path = Path(planned.path)
    path.write_bytes(path.read_bytes() + b"\n")
    for try_number in (1, 2):
        with pytest.raises(AirflowFailException, match="in no manifest of a task of this run that says plan"):
            admin.deactivate(plan=planned.path, require_approval=False, try_number=try_number)
    assert admin.puts == []


def test_an_approval_is_needed_unless_the_dag_says_otherwise(admin, leavers):
    operator = AhaCarryOutPlanOperator(task_id="t", plan=leavers(dated=1).path, base_path=admin.base, dry_run=False)
    with pytest.raises(AirflowFailException, match="was not approved"):
        operator.execute(admin.context("r1"))
    assert admin.puts == []


def test_the_approvers_of_the_writing_task_are_the_ones_who_count(admin, now):
    planned = Planned(admin)
    planned.approve(responded_at=now)
    arguments = {"plan": planned.path, "require_approval": True}
    with pytest.raises(AirflowFailException, match="not among the approvers"):
        admin.deactivate(**arguments, approvers=["carl"])
    assert admin.deactivate(**arguments, approvers=["carl", "Bob"], try_number=2)["outcomes"] == {"changed": 2}


def test_the_approvers_of_the_variable_count_whatever_the_dag_says(admin, now, monkeypatch):
    planned = Planned(admin)
    planned.approve(responded_at=now)
    monkeypatch.setenv("AIRFLOW_VAR_AHA_GUARDS", '{"approvers": ["carl"]}')
    with pytest.raises(AirflowFailException, match="not among the approvers"):
        admin.deactivate(plan=planned.path, require_approval=True)
    with pytest.raises(AirflowFailException, match="Nobody may approve"):
        admin.deactivate(plan=planned.path, require_approval=True, approvers=["bob"], try_number=2)
    assert admin.puts == []


def test_a_larger_plan_passes_by_its_hash_and_by_no_other(admin, now):
    planned = Planned(admin)
    planned.approve(responded_at=now)
    arguments = {"plan": planned.path, "require_approval": True, "max_users": "1"}
    for other in (None, "", "ab" * 32):
        with pytest.raises(AirflowFailException, match="allowed are 1 users"):
            admin.deactivate(**arguments, approved_plan_sha256=other)
    assert admin.puts == []
    found = admin.deactivate(**arguments, approved_plan_sha256=planned.sha256, try_number=2)
    assert found["outcomes"] == {"changed": 2}


@pytest.mark.parametrize("name", ["Anonymous", "anonymous", None])
def test_an_anonymous_approval_counts_on_the_sandbox_of_this_machine_only(admin, now, name, monkeypatch):
    """A real account behind an address of this machine says of no answer that it is a sandbox's."""
    planned = Planned(admin)
    planned.approve(responded_at=now, responded_by_id=name, responded_by_name=name)
    for owner, what in ((ClientConfig, "is_loopback"), (AhaClient, "sandbox"), (Plan, "sandbox")):
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(owner, what, False)
            with pytest.raises(AirflowFailException, match="no named person"):
                admin.deactivate(plan=planned.path, require_approval=True)
    assert admin.puts == []
    result = admin.deactivate(plan=planned.path, require_approval=True, try_number=2)
    assert {row["approval_mode"] for row in read_evidence(resolve_path(result["evidence"]))} == {"anonymous"}


def test_a_plan_without_candidates_is_a_green_run_with_a_manifest(admin):
    planned = Planned(admin, count=1)
    body = json.loads(Path(planned.path).read_text())
    body["rows"] = []
    body["counts"]["planned"] = dict.fromkeys(body["counts"]["planned"], 0)
    Path(planned.path).write_text(json.dumps(body))
    assert admin.deactivate(plan=planned.path, require_approval=True)["outcomes"] == {}
    manifest = admin.manifests()[-1]
    assert (manifest["action"], manifest["ended"], manifest["users"]) == ("deactivate", "completed", 0)


@needs_3_1
@pytest.mark.parametrize(
    ("answer", "choice"),
    [
        ({"chosen_options": ["Approve"], "responded_by_user": {"id": "7", "name": "bob"}}, "Approve"),
        ({"chosen_options": ["Reject"], "responded_by_user": {"id": "7", "name": "bob"}}, "Reject"),
        ({"chosen_options": ["Reject"], "responded_by_user": None}, "Reject"),
        ({"error": "nobody answered", "error_type": "timeout"}, "Reject"),
    ],
)
def test_every_answer_is_written_once_and_leaves_a_manifest(admin, answer, choice):
    from airflow_provider_aha.operators.approvals import AhaApprovePlanOperator

    planned = Planned(admin)
    context = admin.context("r1")
    operator = AhaApprovePlanOperator(task_id="approve", plan=planned.path, approvers=["7"])
    request = Path(planned.path).parent / "approval_request.json"
    request.write_text(json.dumps({"plan_sha256": planned.sha256}))
    # 3.1 sends what it shows of the DAG's own Params, too.
    inputs = {"strike_out": admin.people[:1], "strike_reason": "still here", "dry_run": False}
    event = {"params_input": inputs, "responded_at": datetime.now(UTC), **answer}
    with nullcontext() if choice == "Approve" else pytest.raises(AirflowSkipException):
        operator.execute_complete(context, event)
    record = json.loads((request.parent / "approval.json").read_text())
    assert (record["choice"], record["plan_sha256"]) == (choice, planned.sha256)
    assert record["approvers"] == ["7"]
    manifest = admin.manifests()[-1]
    assert (manifest["action"], manifest["ended"]) == ("approve", choice)
    assert admin.verify() == 0
    for ask in (lambda: operator.execute_complete(context, event), lambda: operator.execute(context)):
        with pytest.raises(AirflowFailException, match="answered before"):
            ask()
        manifest = admin.manifests()[-1]
        assert (manifest["action"], manifest["ended"]) == ("approve", "failed")
        assert "answered before" in manifest["reason"]
    if choice == "Approve":
        assert admin.deactivate(plan=planned.path, require_approval=True)["outcomes"] == {
            "changed": 1,
            "skipped": 1,
        }
        assert admin.puts == admin.people[1:2]


@needs_3_1
@pytest.mark.parametrize(
    "strike_out", [["1"], ["ann@example.com"], "['{people[0]}', '12']", "{people[0]}", {"a": 1}, 7, [None]]
)
def test_an_answer_that_would_leave_somebody_alone_who_is_not_on_the_plan_is_a_no(admin, strike_out):
    """Whoever wrote a wrong id meant somebody; going on would disable that person."""
    planned = Planned(admin)
    context = admin.context("r1")
    if isinstance(strike_out, str):
        strike_out = strike_out.format(people=admin.people)
    with pytest.raises(AirflowFailException, match=r"strike_out .* nothing is changed"):
        planned.answer(context, params_input={"strike_out": strike_out, "strike_reason": "still here"})
    assert planned.approval["choice"] == "Reject"
    assert admin.manifests()[-1]["ended"] == "Reject"
    with pytest.raises(AirflowFailException, match="rejected"):
        admin.deactivate(plan=planned.path, require_approval=True)
    assert admin.puts == []


@needs_3_1
@pytest.mark.parametrize("reason", [None, "", " ", "\u200b\u00a0", "None", "---"])
def test_users_are_struck_out_for_a_reason_or_the_answer_is_a_no(admin, reason):
    planned = Planned(admin)
    inputs = {"strike_out": admin.people[:1], "strike_reason": reason}
    with pytest.raises(AirflowFailException, match=r"without a reason.* nothing is changed"):
        planned.answer(admin.context("r1"), params_input=inputs)
    assert planned.approval["choice"] == "Reject"


@needs_3_1
def test_what_is_approved_is_what_was_shown_and_not_what_lies_there_now(admin):
    planned = Planned(admin)
    path = Path(planned.path)
    path.write_text(path.read_text().replace("named by id", "named by ID"))
    assert planned.answer(admin.context("r1"))["plan_sha256"] == planned.sha256
    with pytest.raises(AirflowFailException, match="changed after it had been approved"):
        admin.deactivate(plan=planned.path, require_approval=True)
    assert admin.puts == []


@needs_3_1
def test_an_answer_that_airflow_itself_finds_wrong_is_a_no(admin):
    planned = Planned(admin)
    with pytest.raises(AirflowFailException, match="doesn't fit the form"):
        planned.answer(admin.context("r1"), error="strike_out", error_type="validation")
    assert planned.approval["choice"] == "Reject"


@needs_3_1
def test_a_plan_that_was_changed_after_it_was_shown_is_not_shown_again(admin):
    from airflow_provider_aha.operators.approvals import AhaApprovePlanOperator

    planned = Planned(admin)
    (Path(planned.path).parent / "approval_request.json").write_text('{"plan_sha256": "another"}')
    operator = AhaApprovePlanOperator(task_id="approve", plan=planned.path)
    with pytest.raises(AirflowFailException, match="changed since it was shown"):
        operator.execute(admin.context("r1"))
    assert "changed since it was shown" in admin.manifests()[-1]["reason"]


# --- by policy, without asking -------------------------------------------------------------------


@pytest.fixture
def leavers(admin, tmp_path) -> Callable[..., Planned]:
    """Call it for a plan by a roster in which some have left by end date or status and the others are here."""

    def described(dated: Sequence[str], by_status: Sequence[str]) -> dict[str, Any]:
        yesterday = datetime.now(UTC).date() - timedelta(days=1)
        lines = ["key,email,last_day,status"]
        for user in admin.server.account.users():
            if user["email"]:
                day, status = yesterday if user["id"] in dated else "", "gone" if user["id"] in by_status else ""
                lines.append(f"{user['id']},{user['email']},{day},{status}")
        roster = tmp_path / "roster.csv"
        roster.write_text("\n".join(lines))
        return {
            "path": str(roster),
            "key": "key",
            "emails": "email",
            "domains": ["example.com"],
            "min_rows": 10,
            "end_date": "last_day",
            "status": "status",
            "left_statuses": "gone",
        }

    def plan(*, dated: int = 0, by_status: int = 0, run_id: str = "r1", without: int = 0, **given: Any) -> Planned:
        emails = {one: admin.server.account.user(one)["email"] for one in admin.people}
        people = [one for one, email in emails.items() if email.endswith("@example.com")]
        rules: dict[str, Any] = {"rules": [{"class": "left"}], "max_left_percent": 20} | given
        # An earlier load in which everybody is here.
        Planned(admin, f"{run_id}-before", roster=described([], []), **rules)
        gone = people[without:dated], people[dated : dated + by_status]
        return Planned(admin, run_id, roster=described(*gone), **rules)

    return plan


@pytest.mark.parametrize("run_type", ["scheduled", "backfill", "asset_triggered"])
def test_a_scheduled_run_writes_only_where_approvers_are_named_but_for_the_sandbox(
    admin, leavers, monkeypatch, run_type
):
    path = leavers(dated=1).path

    def carry_out(try_number: int, **arguments: Any) -> Any:
        given = {"plan": path, "require_approval": False, "dry_run": False, "base_path": admin.base}
        operator = AhaCarryOutPlanOperator(task_id="t", **given, **arguments)
        context = admin.context("r1", try_number, triggering_user_name=None, run_type=run_type)
        return operator.execute(context)["outcomes"]

    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(AhaClient, "sandbox", False)
        with pytest.raises(AirflowFailException, match=r"only where approvers are named.*Nothing was done"):
            carry_out(1)
        assert admin.puts == []
        elsewhere.setenv("AIRFLOW_VAR_AHA_GUARDS", '{"approvers": ["bob"]}')
        assert carry_out(2) == {"changed": 1}


def test_five_leavers_with_an_end_date_are_disabled_without_asking(admin, leavers):
    planned = leavers(dated=5)
    result = admin.deactivate(plan=planned.path, require_approval=False)
    assert result["outcomes"] == {"changed": 5}
    rows = read_evidence(resolve_path(result["evidence"]))
    assert {(row["class"], row["approval_mode"], row["approved_by_id"]) for row in rows} == {
        ("left", "policy", None)
    }
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    assert {row["leave_date"] for row in rows} == {str(yesterday)}
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    hours = (datetime.now(UTC) - midnight).total_seconds() / 3600
    found = [float(row["hours_to_disable"]) for row in rows]
    assert all(0 <= one <= hours + 0.01 for one in found)
    assert result["hours_to_disable"] == max(found)
    assert admin.verify() == 0


def test_policy_lets_few_users_pass_within_24_hours_all_runs_together(admin, leavers):
    """Two plans of three each, made side by side: each would pass alone."""
    first, second = leavers(dated=3, run_id="r1"), leavers(dated=6, without=3, run_id="r2")
    admin.deactivate(plan=first.path, require_approval=False)
    sent = len(admin.puts)
    with pytest.raises(AirflowFailException, match=r"without asking anybody.*Nothing was done|nothing was done"):
        admin.deactivate(plan=second.path, require_approval=False, run_id="r2")
    assert len(admin.puts) == sent
    third = leavers(dated=6, without=3, run_id="r3")
    reasons = {row["asked_because"] for row in json.loads(Path(third.path).read_text())["rows"]}
    assert reasons == {"more than 5 users would pass within 24 hours"}


def test_a_protected_leaver_is_named_after_the_others_are_done(admin, leavers):
    first = leavers(dated=1)
    (user_id, *_) = (row["user_id"] for row in json.loads(Path(first.path).read_text())["rows"])
    planned = leavers(dated=2, run_id="r2", protected_ids=[user_id])
    with pytest.raises(AirflowFailException, match=rf"{user_id} \(protected id\)"):
        admin.deactivate(plan=planned.path, require_approval=False, run_id="r2")
    assert admin.server.account.user(user_id)["enabled"]
    assert admin.puts
    assert user_id not in admin.puts


def test_only_dag_code_says_how_many_pass(admin, leavers):
    planned = leavers(dated=6, policy_max=8)
    admin.deactivate(plan=planned.path, require_approval=False)
    assert len(admin.puts) == 6
    assert not {"policy_max", "max_left_percent"} & set(AhaPlanAccessOperator.template_fields)


@pytest.mark.parametrize("seen", [timedelta(0), None], ids=["seen now", "unknown now"])
def test_who_was_seen_since_the_plan_is_not_disabled_by_policy(admin, leavers, seen):
    planned = leavers(dated=2)
    user_id = json.loads(Path(planned.path).read_text())["rows"][0]["user_id"]
    at = None if seen is None else datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    admin.server.account.edit_user(user_id, accessed_at=at)
    with pytest.raises(AirflowFailException, match=rf"1 blocked, \d changed.*{user_id}"):
        admin.deactivate(plan=planned.path, require_approval=False)
    assert user_id not in admin.puts
    assert admin.server.account.user(user_id)["enabled"]


def test_a_dry_run_is_nobodys_approval(admin, leavers):
    result = admin.deactivate(plan=leavers(dated=2).path, require_approval=False, dry_run=True)
    rows = read_evidence(resolve_path(result["evidence"]))
    assert {(row["outcome"], row["approval_mode"], row["hours_to_disable"]) for row in rows} == {
        ("dry_run", None, None)
    }


@pytest.mark.parametrize(
    ("who", "passing"),
    [
        ({"dated": 6}, 0),
        ({"dated": 1, "by_status": 1}, 1),
        ({"by_status": 1}, 0),
        ({"dated": 1, "rules": [{"class": "left"}, {"class": "unused", "inactive_days": 300, "grace_days": 0}]}, 1),
    ],
)
def test_anything_else_needs_an_approval_and_holds_nobody_up_who_passes(admin, leavers, who, passing, now):
    planned = leavers(**who)
    ids = {row["user_id"]: row["asked_because"] for row in planned.rows}
    doubtful = sorted(user_id for user_id, why in ids.items() if why)
    assert len(ids) - len(doubtful) == passing
    admin.deactivate(plan=planned.path, require_approval=False, task_id="by_policy")
    assert sorted(admin.puts) == sorted(ids.keys() - set(doubtful))
    with pytest.raises(AirflowFailException, match="was not approved"):
        admin.deactivate(plan=planned.path)
    planned.approve(responded_at=now, asked=doubtful)
    result = admin.deactivate(plan=planned.path, try_number=2)
    assert result["users"] == dict.fromkeys(doubtful, "changed")
    assert {row["approval_mode"] for row in read_evidence(resolve_path(result["evidence"]))} == {"person"}
    assert sorted(admin.puts) == sorted(ids)
    assert admin.verify() == 0


def test_who_passes_is_done_whatever_is_said_of_the_others(admin, leavers, now):
    planned = leavers(dated=1, by_status=1)
    passing, doubtful = (row["user_id"] for row in sorted(planned.rows, key=lambda row: bool(row["asked_because"])))
    planned.approve(responded_at=now, choice="Reject", asked=[doubtful])
    result = admin.deactivate(plan=planned.path, require_approval=False)
    assert result["users"] == {passing: "changed"}
    with pytest.raises(AirflowFailException, match="rejected"):
        admin.deactivate(plan=planned.path, task_id="carry_out")
    assert admin.is_enabled(doubtful)


def test_each_route_of_a_plan_is_taken_by_one_task_only(admin, leavers):
    planned = leavers(dated=1, by_status=1)
    admin.deactivate(plan=planned.path, require_approval=False)
    with pytest.raises(AirflowFailException, match="carried out before"):
        admin.deactivate(plan=planned.path, require_approval=False, task_id="another")


@pytest.mark.parametrize("asked", ["6776757454431877834", [7], ["6776757454431877834"], None])
def test_an_answer_about_somebody_who_is_not_on_the_plan_counts_for_nobody(admin, leavers, now, asked):
    planned = leavers(by_status=1)
    planned.approve(responded_at=now, asked=asked)
    with pytest.raises(AirflowFailException, match="doesn't say who was asked about"):
        admin.deactivate(plan=planned.path)
    assert admin.puts == []


def test_who_is_merely_absent_needs_an_approval(admin, leavers):
    planned = leavers(dated=2)
    body = json.loads(Path(planned.path).read_text())
    body["rows"][0] |= {"leave_date": None, "left_at": None, "detail": "not in the roster since"}
    Path(planned.path).write_text(json.dumps(body))
    made = {"dag_id": "d", "run_id": "r1", "choice": "completed", "plan_sha256": None}
    vouch(Path(planned.path), made, action="plan")
    admin.deactivate(plan=planned.path, require_approval=False)
    assert admin.puts == [body["rows"][1]["user_id"]]


def test_a_plan_of_another_run_is_not_carried_out_by_policy(admin, leavers):
    """Where the plan lies comes from an XCom, which a user of the API can forge."""
    planned = leavers(dated=1)
    with pytest.raises(AirflowFailException, match="this run's own plan"):
        admin.deactivate(run_id="r2", plan=planned.path, require_approval=False)
    assert admin.puts == []


def test_a_rejection_counts_also_where_nobody_had_to_be_asked(admin, leavers, now):
    planned = leavers(dated=1)
    planned.approve(responded_at=now, choice="Reject")
    with pytest.raises(AirflowFailException, match="rejected"):
        admin.deactivate(plan=planned.path, require_approval=False)
    assert admin.puts == []


@needs_3_1
def test_a_person_is_asked_about_those_only_who_do_not_pass(admin, leavers, monkeypatch):
    from airflow.providers.standard.operators.hitl import HITLOperator

    from airflow_provider_aha.operators.approvals import AhaApprovePlanOperator

    monkeypatch.setattr(HITLOperator, "execute", lambda *_: None)
    planned = leavers(dated=2, by_status=1)
    (doubtful,) = (row["user_id"] for row in planned.rows if row["asked_because"])
    passing = {row["user_id"] for row in planned.rows} - {doubtful}
    operator = AhaApprovePlanOperator(task_id="approve", plan=planned.path, require_approval=False)
    operator.execute(admin.context("r1"))
    assert operator.subject.startswith("Disable 1 user of")
    assert re.findall(r"^\| (\d+) \|", str(operator.body), re.MULTILINE) == [doubtful]
    assert "Policy lets 2 more pass: they don't wait for your answer." in str(operator.body)
    inputs = {"strike_out": sorted(passing)[:1], "strike_reason": "still here"}
    with pytest.raises(AirflowFailException, match="not ids of the plan's users"):
        planned.answer(admin.context("r1"), params_input=inputs)
    assert planned.approval["asked"] == [doubtful]


@pytest.mark.parametrize("require_approval", [True, False])
def test_a_plan_outside_of_the_records_is_not_carried_out(admin, leavers, now, tmp_path, require_approval):
    """Neither it nor an approval beside it needs to be Airflow's work."""
    planned = leavers(dated=1)
    planned.approve(responded_at=now)
    elsewhere = tmp_path / "access" / "account=127.0.0.1" / "dag=d" / "run=r1"
    shutil.copytree(Path(planned.path).parent, elsewhere)
    with pytest.raises(AirflowFailException, match="where this package keeps plans"):
        admin.deactivate(plan=str(elsewhere / "plan.json"), require_approval=require_approval)
    assert admin.puts == []


class AskedError(Exception):
    """A person would be asked now."""


@needs_3_1
@pytest.mark.parametrize(("require_approval", "who"), [(True, {"dated": 1}), (False, {"dated": 6})])
def test_a_person_is_asked_where_the_policy_does_not_allow_it_or_does_not_count(
    admin, leavers, monkeypatch, require_approval, who
):
    from airflow.providers.standard.operators.hitl import HITLOperator

    from airflow_provider_aha.operators.approvals import AhaApprovePlanOperator

    def ask(*_: Any) -> None:
        raise AskedError

    # Airflow's own part needs a scheduler; see tests/airflow/test_approval_on_scheduler.py.
    monkeypatch.setattr(HITLOperator, "execute", ask)
    operator = AhaApprovePlanOperator(
        task_id="approve", plan=leavers(**who).path, require_approval=require_approval, approvers="['bob']"
    )
    with pytest.raises(AskedError):
        operator.execute(admin.context("r1"))
    assert operator.assigned_users == [{"id": "bob", "name": "bob"}]
    assert (admin.manifests()[-1]["action"], admin.manifests()[-1]["ended"]) == ("approve", "asked")
    assert admin.verify() == 0


@needs_3_1
def test_the_approvers_of_the_variable_are_asked(admin, monkeypatch):
    from airflow.providers.standard.operators.hitl import HITLOperator

    from airflow_provider_aha.operators.approvals import AhaApprovePlanOperator

    monkeypatch.setattr(HITLOperator, "execute", lambda *_: None)
    monkeypatch.setenv("AIRFLOW_VAR_AHA_GUARDS", '{"approvers": ["carl"]}')
    operator = AhaApprovePlanOperator(task_id="approve", plan=Planned(admin).path)
    operator.execute(admin.context("r1"))
    assert operator.assigned_users == [{"id": "carl", "name": "carl"}]


@needs_3_1
def test_nobody_is_asked_about_a_plan_of_nobody(admin):
    from airflow_provider_aha.operators.approvals import AhaApprovePlanOperator

    planned = Planned(admin, rules=[{"class": "unused", "inactive_days": 9999, "never_seen": False}])
    operator = AhaApprovePlanOperator(task_id="approve", plan=planned.path)
    assert operator.execute(admin.context("r1")) == {"choice": None, "plan_sha256": planned.sha256, "struck_out": 0}
    assert not (Path(planned.path).parent / "approval_request.json").exists()


@needs_3_1
def test_nobody_is_asked_about_what_the_policy_allows(admin, leavers):
    from airflow_provider_aha.operators.approvals import AhaApprovePlanOperator

    planned = leavers(dated=5)
    operator = AhaApprovePlanOperator(task_id="approve", plan=planned.path, require_approval=False)
    with pytest.raises(AirflowSkipException, match="Nobody is asked: nobody on the plan needs an approval"):
        operator.execute(admin.context("r1"))
    assert not (Path(planned.path).parent / "approval_request.json").exists()


# --- the record ----------------------------------------------------------------------------------


def test_every_try_leaves_a_manifest_of_who_what_and_when(admin):
    admin.deactivate(admin.people[:1], ticket="SEC-1")
    admin.deactivate(admin.people[:1], try_number=2)
    first, second = admin.manifests()
    expected = {
        "action": "deactivate",
        "ended": "completed",
        "dry_run": False,
        "sandbox": True,
        "dag_id": "d",
        "run_id": "r1",
        "task_id": "t",
        "requested_by": "ann",
        "users": 1,
    }
    assert {name: first[name] for name in expected} == expected
    assert (first["try_number"], second["try_number"]) == (1, 2)
    assert first["finished_at"] < second["finished_at"]


def test_a_lost_connection_leaves_a_manifest_too(admin):
    admin.server.set_fault("error", status=500)
    with pytest.raises(AhaError):
        admin.deactivate(admin.people[:1])
    assert [one["ended"] for one in admin.manifests()] == ["failed"]


def test_the_requester_is_the_schedule_where_no_person_triggered_the_run(admin):
    admin.deactivate(admin.people[:1], requested_by=None)
    assert admin.manifests()[0]["requested_by"] == "manual"


def test_a_mapped_task_has_a_folder_of_its_own(admin):
    operator = AhaDeactivateUsersOperator(
        task_id="t", users=admin.people[:1], base_path=admin.base, dry_run=False, allow_privileged=True
    )
    context = admin.context()
    context["ti"].map_index = 3
    assert "/task=t%5B3%5D/" in operator.execute(context)["evidence"]


def test_no_name_or_email_is_logged_or_returned(admin, caplog, capfd):
    caplog.set_level("DEBUG")
    users = [admin.server.account.user(one) for one in admin.people[:3]]
    admin.server.set_fault("error", status=422, method="PUT", times=1)
    with pytest.raises(AhaError) as caught:
        admin.deactivate([user["email"] for user in users])
    result = admin.deactivate([user["email"] for user in users], try_number=2)
    text = json.dumps(result) + str(caught.value) + caplog.text + "".join(capfd.readouterr())
    assert "3 changed" in text
    for personal in (*(user["email"] for user in users), *(user["name"] for user in users), admin.server.key):
        assert personal not in text


def logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> str:
    # Airflow 2 logs through the standard library, Airflow 3 prints when no supervisor listens.
    return caplog.text + "".join(capfd.readouterr())


def test_a_log_says_what_became_of_whom_and_where_it_is_written(admin, now, caplog, capfd):
    caplog.set_level("INFO")
    planned = Planned(admin, rules=[{"class": "named", "ids": admin.people[:25]}], max_percent=100)
    assert f"User {admin.people[0]}: deactivate, named: named by id" in logged(caplog, capfd)
    planned.approve(responded_at=now)
    protected = {"protected_ids": admin.people[3:4], "max_percent": 100}
    with pytest.raises(AirflowFailException):
        admin.deactivate(plan=planned.path, **protected)
    text = logged(caplog, capfd)
    assert f"User {admin.people[3]}, disable: blocked: protected id" in text
    assert f"User {admin.people[0]}, disable: changed" in text
    # Airflow 2 logs each line in two places.
    assert len(set(re.findall(r"User (\d+), disable: (?:changed|blocked: protected id)", text))) == 20
    assert "and 5 more" in text
    assert f"Evidence: {admin.base}/access/account=127.0.0.1/dag=d/run=r1/task=t/evidence.parquet" in text
    assert f"Approved by 7 at {now}" in text


@needs_3_1
def test_a_log_says_who_answered_what_and_when(admin, caplog, capfd):
    caplog.set_level("INFO")
    planned = Planned(admin)
    planned.answer(admin.context("r1"))
    text = logged(caplog, capfd)
    assert f"Answer: Approve, by 7 at {planned.approval['responded_at']}; struck out: nobody." in text
    assert "bob" not in text


@needs_3_1
@pytest.mark.parametrize("answer", [{"chosen_options": ["Reject"]}, {"error": "late", "error_type": "timeout"}])
def test_leavers_whom_nobody_lets_go_fail_the_run(admin, leavers, answer):
    """Silence is never green where somebody who left keeps the access."""
    planned = leavers(dated=6)
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    with pytest.raises(
        AirflowFailException, match=rf"6 users who left keep their access: \d+ \(last day {yesterday}\)"
    ):
        planned.answer(admin.context("r1"), **answer)


@needs_3_1
def test_nobody_is_asked_about_a_plan_with_a_wrong_name(admin):
    """The plan's task has failed; somebody may have marked it as a success."""
    from airflow_provider_aha.operators.approvals import AhaApprovePlanOperator

    with pytest.raises(AirflowFailException):
        Planned(admin, rules=[{"class": "named", "ids": [admin.people[0], "999"]}])
    path = f"{admin.base}/access/account=127.0.0.1/dag=d/run=r1/plan.json"
    with pytest.raises(AirflowFailException, match=r"unknown \(id 999\).*Nobody is asked"):
        AhaApprovePlanOperator(task_id="approve", plan=path).execute(admin.context("r1"))
    with pytest.raises(AirflowFailException, match=r"unknown \(id 999\).*Nothing was done"):
        admin.deactivate(plan=path, dry_run=True)


def test_a_plan_that_changes_nobody_s_access_needs_no_approval_but_must_be_the_run_s_own(admin):
    def named(run_id: str) -> Planned:
        to = {"users": admin.people[:1], "to": {"first_name": "Zoe"}, "reason": "married", "ticket": "T-1"}
        return Planned(admin, run_id, **to)

    done = admin.deactivate(plan=named("r1").path)
    (row,) = read_evidence(resolve_path(done["evidence"]))
    assert (row["outcome"], row["approval_mode"], row["ticket"]) == ("unverified", "not needed", "T-1")
    assert admin.puts == admin.people[:1]
    with pytest.raises(AirflowFailException, match="was not approved"):
        admin.deactivate(plan=named("r2").path, run_id="r3")


def test_the_base_path_is_the_variable_where_it_is_left_out(admin, monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW_VAR_AHA_OUTPUT_PATH", str(tmp_path / "variable"))
    result = admin.deactivate(admin.people[:1], base_path=None)
    assert result["evidence"].startswith(f"{tmp_path}{os.sep}variable/access/")


@pytest.mark.parametrize(
    "operator", [AhaCarryOutPlanOperator, AhaDeactivateUsersOperator, AhaReactivateUsersOperator]
)
def test_who_must_approve_cannot_come_from_a_form(operator):
    assert not {"require_approval", "approvers", "allow_privileged"} & set(operator.template_fields)
