"""The Variable `aha_guards`: every operator that plans or writes reads it itself, and DAG code can only add."""

import hashlib
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_aha.access.plan.plan import load_plan
from airflow_provider_aha.access.plan.words import question, summary
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.hooks.paths import resolve_path
from airflow_provider_aha.lists.matching import SERVICE_ACCOUNT_PATTERNS
from airflow_provider_aha.operators.carry_out import AhaCarryOutPlanOperator
from airflow_provider_aha.operators.deactivations import AhaDeactivateUsersOperator, AhaReactivateUsersOperator
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator
from airflow_provider_aha.operators.guards import GuardedOperator, approvers_of
from airflow_provider_aha.operators.plan import AhaPlanAccessOperator
from airflow_provider_aha.operators.report import AhaAccessReportOperator
from airflow_provider_aha.operators.users import AhaUpdateUserOperator

Guards = Callable[..., None]


@pytest.fixture
def guards(monkeypatch: pytest.MonkeyPatch) -> Guards:
    """Call it with keys and values, or with a text, to set the Variable."""

    def put(text: str | None = None, **values: Any) -> None:
        monkeypatch.setenv("AIRFLOW_VAR_AHA_GUARDS", json.dumps(values) if text is None else text)

    return put


class Account:
    """A small account, and operators of a DAG of one's own, which say nothing of guards unless a test does."""

    def __init__(self, server: Any, context: Callable[..., Any], base: str) -> None:
        self.server, self.context, self.base = server, context, base
        users = [user for user in server.account.users() if user["enabled"]]
        self.people = [user for user in users if user["paid_seat"] and not user["administrator"]]
        self.ids = [user["id"] for user in self.people]

    def run(self, operator: Any, run_id: str = "r", **arguments: Any) -> Any:
        return operator(task_id="t", base_path=self.base, **arguments).execute(self.context(run_id))

    def deactivate(self, ids: list[str], run_id: str = "r", **arguments: Any) -> Any:
        given = {"users": ids, "dry_run": False, "allow_privileged": True, **arguments}
        return self.run(AhaDeactivateUsersOperator, run_id, **given)

    def rehearse(self, run_id: str = "r", **arguments: Any) -> Any:
        return self.run(AhaCarryOutPlanOperator, run_id, dry_run=True, **arguments)

    def plan(self, ids: list[str], run_id: str = "p", **arguments: Any) -> list[str]:
        rules = [{"class": "named", "ids": ids}]
        made = self.run(AhaPlanAccessOperator, run_id, rules=rules, **arguments)
        return [row.user_id for row in load_plan(resolve_path(made["plan_path"])).rows]

    def folder(self, run_id: str) -> Path:
        return Path(self.base) / f"access/account=127.0.0.1/dag=d/run={run_id}"

    @property
    def puts(self) -> list[str]:
        return [one.path.rpartition("/")[2] for one in self.server.requests if one.method == "PUT"]


@pytest.fixture
def account(connected: Any, context: Any, tmp_path: Path) -> Account:
    account = Account(connected, context, str(tmp_path / "aha"))
    account.run(AhaExtractUsersOperator, datasets=["users", "user_roles"])
    connected.forget_requests()
    return account


# --- a DAG that says nothing ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ids", "emails", "domains", "patterns"])
def test_a_dag_that_passes_nothing_is_guarded(account, guards, kind):
    user, other = account.people[0], account.ids[1]
    entry = {
        "ids": user["id"],
        "emails": user["email"].upper(),
        "domains": "@".join(user["email"].split("@")[1:]),
        "patterns": user["email"][:4] + "*",
    }[kind]
    guards(**{f"protected_{kind}": [entry]})
    assert user["id"] not in account.plan([user["id"], other])
    with pytest.raises(AirflowFailException, match=f"blocked.*{user['id']}"):
        account.deactivate([user["id"]])
    assert account.puts == []


def test_reactivating_and_updating_are_guarded_too(account, guards):
    user_id = account.ids[0]
    account.server.account.edit_user(user_id, enabled=False)
    guards(protected_ids=[user_id])
    written = {"dry_run": False, "allow_privileged": True}
    with pytest.raises(AirflowFailException, match="blocked"):
        account.run(AhaReactivateUsersOperator, users=[user_id], **written)
    with pytest.raises(AirflowFailException, match="blocked"):
        account.run(AhaUpdateUserOperator, "u", user=user_id, enabled=True, **written)
    assert account.puts == []


def test_the_access_review_knows_the_protected_lists(account, guards):
    guards(protected_ids=account.ids[:1], protected_domains=["board.example.com"])
    page = account.run(AhaAccessReportOperator)["page"]
    assert "2 entries of the protected lists." in Path(page).read_text("utf-8")


def test_an_exclusion_file_of_the_variable_excludes(account, guards, tmp_path):
    path = tmp_path / "exclusions.csv"
    path.write_text(f"id,reason,owner,expires_on\n{account.ids[0]},legal hold,Legal,\n")
    guards(exclusions=str(path))
    assert account.plan(account.ids[:2]) == account.ids[1:2]
    with pytest.raises(AirflowFailException, match="blocked"):
        account.deactivate(account.ids[:1])


def test_every_writing_and_planning_operator_reads_them():
    assert {AhaDeactivateUsersOperator, AhaReactivateUsersOperator, AhaUpdateUserOperator} <= _guarded()
    assert {AhaPlanAccessOperator, AhaCarryOutPlanOperator} <= _guarded()


def _guarded(of: Any = GuardedOperator) -> set[Any]:
    return {of}.union(*map(_guarded, of.__subclasses__()))


def test_they_are_read_when_the_task_runs(account, guards):
    guards("no JSON")
    operator = AhaDeactivateUsersOperator(task_id="t", users=account.ids[:1], base_path=account.base)
    guards()
    assert operator.execute(account.context())["outcomes"] == {"dry_run": 1}
    guards(protected_ids=account.ids[:1])
    with pytest.raises(AirflowFailException, match="blocked"):
        operator.execute(account.context("again"))


# --- DAG code can only add -----------------------------------------------------------------------


@pytest.mark.parametrize("given", [[], ["1"], None, ""])
def test_a_dag_that_passes_another_list_takes_nobody_off(account, guards, given):
    guards(protected_ids=account.ids[:1])
    assert account.plan(account.ids[:2], protected_ids=given) == account.ids[1:2]
    with pytest.raises(AirflowFailException, match="blocked"):
        account.deactivate(account.ids[:1], protected_ids=given)


def test_lists_of_both_are_united(account, guards):
    guards(protected_ids=account.ids[:1])
    assert account.plan(account.ids[:3], protected_ids=account.ids[1:2]) == account.ids[2:3]
    with pytest.raises(AirflowFailException, match="2 blocked, 1 changed"):
        account.deactivate(account.ids[:3], protected_ids=account.ids[1:2])


def test_exclusion_files_of_both_are_united(account, guards, tmp_path):
    for number in (0, 1):
        text = f"id,reason,owner,expires_on\n{account.ids[number]},legal hold,Legal,\n"
        (tmp_path / f"{number}.csv").write_text(text)
    guards(exclusions=[str(tmp_path / "0.csv")])
    assert account.plan(account.ids[:3], exclusions=str(tmp_path / "1.csv")) == account.ids[2:3]
    folder = account.folder("p")
    kept = {path.name: path.read_text() for path in folder.glob("input-exclusions*")}
    assert [account.ids[0] in text for text in kept.values()].count(True) == 1
    assert set(kept) == {"input-exclusions.csv", "input-exclusions-2.csv"}
    (sha256,) = {json.loads((folder / "plan.json").read_text())["exclusions_sha256"]}
    assert len(sha256.split(",")) == 2


@pytest.mark.parametrize(
    ("variable", "dag", "allowed"),
    [
        ({"max_users": 2}, {"max_users": 500}, 2),
        ({"max_users": 500}, {"max_users": 2}, 2),
        ({"max_users": 2}, {}, 2),
        ({}, {"max_users": 2}, 2),
        ({"max_percent": 5}, {"max_percent": 100}, 2),
        ({"max_percent": 100}, {"max_percent": 5.0}, 2),
        ({"max_users": 0}, {"max_users": "25"}, 0),
        ({"max_percent": 100}, {}, 25),
        ({}, {"max_percent": 100}, 25),
        ({}, {}, 11),
    ],
)
def test_of_two_caps_the_smaller_one_holds(account, guards, variable, dag, allowed):
    guards(**variable)
    with pytest.raises(AirflowFailException, match="Nothing was done"):
        account.deactivate(account.ids[: allowed + 1], **dag)
    assert account.puts == []
    if allowed:
        done = account.deactivate(account.ids[:allowed], "again", **dag)
        assert done["outcomes"] == {"changed": allowed}


@pytest.mark.parametrize(
    ("variable", "dag", "found"),
    [
        ([], [], []),
        (["bob"], [], ["bob"]),
        ([], ["carol"], ["carol"]),
        (["bob", "carol"], ["Carol", "dave"], ["Carol"]),
    ],
)
def test_who_may_approve_must_be_on_both_lists(guards, variable, dag, found):
    guards(**({"approvers": variable} if variable else {}))
    assert approvers_of(dag) == found


def test_two_lists_of_approvers_without_a_common_name_mean_nobody_and_not_everybody(guards):
    guards(approvers=["bob"])
    with pytest.raises(AhaConfigurationError, match="Nobody may approve"):
        approvers_of(["carol"])


# --- a Variable that is gone ---------------------------------------------------------------------


def test_a_variable_that_is_gone_since_the_last_plan_is_no_empty_one(account, guards, monkeypatch):
    """Airflow takes a secrets backend that fails for one that doesn't have the Variable."""
    guards(protected_ids=account.ids[:1])
    account.plan(account.ids[:2])
    monkeypatch.delenv("AIRFLOW_VAR_AHA_GUARDS")
    with pytest.raises(AirflowFailException, match="aha_guards was set when the last plan was made"):
        account.plan(account.ids[:2], "next")
    with pytest.raises(AirflowFailException, match="aha_guards was set when the plan was made"):
        account.rehearse(plan=str(account.folder("p") / "plan.json"))
    guards()
    assert account.plan(account.ids[:2], "next") == account.ids[:2]
    assert account.rehearse("w", plan=str(account.folder("p") / "plan.json"))["users"]
    assert account.puts == []


# --- a Variable that can't be right --------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "JSON object"),
        ("none", "JSON object"),
        ("[]", "JSON object"),
        ('["protected_ids"]', "JSON object"),
        ('{"protected_ids": ["1"]', "JSON object"),
        ('{"protected_id": ["1"]}', "protected_id, which doesn't exist"),
        ('{"ann@example.com": ["1"]}', "key that is no word"),
        ('{"protected_ids": ["1"], "protected_ids": []}', "a key twice"),
        ('{"protected_ids": "1"}', "protected_ids that is no list"),
        ('{"protected_ids": null}', "protected_ids that is no list"),
        ('{"protected_ids": {"1": true}}', "protected_ids that is no list"),
        ('{"protected_ids": ["1", null]}', "protected_ids whose entry 2"),
        ('{"protected_ids": [["1"]]}', "protected_ids whose entry 1"),
        ('{"protected_ids": [true]}', "protected_ids whose entry 1"),
        ('{"protected_ids": [6.776757454431878e18]}', "protected_ids whose entry 1"),
        ('{"protected_ids": ["ann@example.com"]}', "Entry 1 of the protected ids in the Variable aha_guards"),
        ('{"protected_emails": ["1", "ann"]}', "Entry 1 of the protected emails in the Variable aha_guards"),
        ('{"protected_emails": [1]}', "protected_emails whose entry 1"),
        ('{"protected_domains": ["ann@example.com"]}', "protected domains"),
        ('{"protected_patterns": [" "]}', "protected_patterns whose entry 1"),
        ('{"exclusions": ""}', "exclusions whose entry 1"),
        ('{"exclusions": {"path": "/a.csv"}}', "exclusions that is no list"),
        ('{"exclusions": "ann.csv"}', "relative"),
        ('{"max_users": "25"}', "max_users"),
        ('{"max_users": 2.5}', "max_users"),
        ('{"max_users": true}', "max_users"),
        ('{"max_users": -1}', "max_users"),
        ('{"max_percent": 101}', "max_percent"),
        ('{"max_percent": NaN}', "max_percent"),
        ('{"max_percent": null}', "max_percent"),
        ('{"approvers": "bob"}', "approvers that is no list"),
        ('{"approvers": []}', "approvers that name nobody"),
        ('{"approvers": ["", "bob"]}', "approvers whose entry 1"),
    ],
)
def test_a_variable_that_can_not_be_right_fails_before_the_first_request(account, guards, text, named):
    guards(text)
    for act in (account.plan, account.deactivate):
        with pytest.raises(AirflowFailException, match=named) as caught:
            act(account.ids[:1])
        assert "ann" not in str(caught.value).replace("ann.csv", "")
    assert account.server.requests == []


def test_without_the_variable_the_log_says_that_it_is_not_set(account, caplog, capfd):
    caplog.set_level("INFO")
    account.deactivate(account.ids[:1], protected_ids=["1"])
    logged = caplog.text + "".join(capfd.readouterr())
    assert "1 protected entries" in logged
    assert "the Variable aha_guards is not set" in logged


# --- entries that protect nobody -----------------------------------------------------------------


def logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> str:
    # Airflow 2 logs through the standard library, Airflow 3 prints when no supervisor listens.
    return caplog.text + "".join(capfd.readouterr())


def test_entries_that_protect_nobody_head_the_plan_and_the_question_and_are_logged(
    account, guards, tmp_path, caplog, capfd
):
    caplog.set_level("INFO")
    path = tmp_path / "exclusions.csv"
    path.write_text("id,email,reason,owner,expires_on\n,gone@example.com,hold,Legal,\n1,,hold,Legal,2020-01-01\n")
    guards(protected_emails=[account.people[0]["email"], "left@example.com"], exclusions=str(path))
    sentence = (
        "2 entries protect nobody in this account: entry 2 of the protected emails in the Variable aha_guards, row "
        "1 of the exclusion file."
    )
    account.plan(account.ids[:2])
    plan = load_plan(resolve_path(str(account.folder("p") / "plan.json")))
    assert plan.header["protects_nobody"] == [sentence]
    for text in (summary(plan), question(plan, "ann"), (account.folder("p") / "plan.md").read_text()):
        assert sentence in text.partition("| Class")[0].replace("&#95;", "_")
    assert sentence in (log := logged(caplog, capfd))
    account.deactivate(account.ids[1:2])
    assert sentence in (log := log + logged(caplog, capfd))
    assert "gone@" not in log
    assert "left@" not in log


def test_the_write_tells_them_by_the_plan_s_users_too(account, guards, caplog, capfd):
    account.plan(account.ids[:1])
    caplog.set_level("INFO")
    guards(protected_ids=["5000000000000000001"])
    account.run(AhaCarryOutPlanOperator, plan=str(account.folder("p") / "plan.json"))
    assert "1 entry protects nobody in this account" in logged(caplog, capfd)


@pytest.mark.parametrize("act", ["plan", "deactivate", "carry out"])
def test_an_id_that_was_rounded_stops_plan_and_write(account, guards, act):
    account.plan(account.ids[:1], "before")
    guards(protected_ids=[account.ids[0][:15] + "0000"])
    made = str(account.folder("before") / "plan.json")
    acts = {
        "plan": lambda: account.plan(account.ids[:1]),
        "deactivate": lambda: account.deactivate(account.ids[:1]),
        "carry out": lambda: account.run(AhaCarryOutPlanOperator, plan=made),
    }
    with pytest.raises(AirflowFailException, match="Entry 1 of the protected ids in the Variable aha_guards: no"):
        acts[act]()
    assert account.puts == []


def test_patterns_of_service_accounts_that_a_dag_adds_are_told_and_the_usual_ones_are_not(account):
    account.plan(account.ids[:1], protect_patterns=[*SERVICE_ACCOUNT_PATTERNS, "robot-*"])
    plan = json.loads((account.folder("p") / "plan.json").read_text())
    (sentence,) = plan["protects_nobody"]
    assert f"entry {len(SERVICE_ACCOUNT_PATTERNS) + 1} of the service account patterns in the DAG" in sentence


# --- plans that fit the caps ---------------------------------------------------------------------


def test_a_plan_is_made_to_fit_the_caps_and_can_be_carried_out(account, guards, caplog, capfd):
    caplog.set_level("INFO")
    guards(max_users=2)
    planned = account.plan(account.ids[:5], max_users=500)
    assert len(planned) == 2
    assert "3 more are postponed" in logged(caplog, capfd)
    done = account.rehearse(plan=str(account.folder("p") / "plan.json"))
    assert done["users"] == dict.fromkeys(planned, "dry_run")


def test_a_plan_of_named_users_for_whom_the_caps_leave_no_room_fails_and_names_them(account, guards):
    """Nothing would be asked and nothing done, and somebody waits for it."""
    guards(max_users=2)
    account.deactivate(account.ids[10:12])
    with pytest.raises(AirflowFailException, match=rf"no room in the caps \(id {account.ids[0]}\)"):
        account.plan(account.ids[:1])


def test_named_users_who_are_postponed_are_told_by_id(account, guards, caplog, capfd):
    caplog.set_level("INFO")
    guards(max_users=2)
    planned = account.plan(account.ids[:3])
    (later,) = set(account.ids[:3]) - set(planned)
    assert f"User {later} is not on the plan: no room in the caps" in logged(caplog, capfd)


def test_what_other_runs_have_changed_leaves_less_room(account, guards):
    guards(max_users=3)
    account.deactivate(account.ids[10:12])
    account.run(AhaExtractUsersOperator, "later", datasets=["users", "user_roles"])
    planned = account.plan(account.ids[:5])
    assert len(planned) == 1
    plan = str(account.folder("p") / "plan.json")
    assert account.rehearse("w", plan=plan)["users"] == {planned[0]: "dry_run"}


@pytest.mark.parametrize(("disabled", "planned"), [(5, 5), (30, 6), (14, 10)])
def test_a_plan_that_gives_access_back_fits_the_caps_of_what_there_is_afterwards(account, disabled, planned):
    """Of 56 enabled users; the percentage counts those who are enabled by the plan, and no others."""
    for user_id in account.ids[:disabled]:
        account.server.account.edit_user(user_id, enabled=False)
    account.run(AhaExtractUsersOperator, "later", datasets=["users", "user_roles"])
    asked = {"users": account.ids[:disabled], "to": {"enabled": True}, "reason": "came back", "ticket": "SEC-1"}
    # A form has no next plan, so it fails and names them; the plan tells who would have had room.
    too_many = f"{disabled - planned} of those who were named.*no room in the caps"
    with pytest.raises(AirflowFailException, match=too_many) if disabled > planned else nullcontext():
        account.run(AhaPlanAccessOperator, "p", **asked)
    counts = json.loads((account.folder("p") / "plan.json").read_text())["counts"]
    assert (counts["planned"]["named"], counts["postponed"]) == (planned, disabled - planned)
    made = account.run(AhaPlanAccessOperator, "fits", **{**asked, "users": account.ids[:planned]})
    assert account.rehearse(plan=made["plan_path"])["outcomes"] == {"dry_run": planned}


def test_a_larger_plan_is_made_and_carried_out_by_dag_code_only(account, guards):
    guards(max_users=2)
    assert len(account.plan(account.ids[:5], fit_to_caps=False)) == 5
    path = account.folder("p") / "plan.json"
    with pytest.raises(AirflowFailException, match="allowed are 2 users"):
        account.rehearse(plan=str(path))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    done = account.rehearse("again", plan=str(path), approved_plan_sha256=sha256)
    assert done["outcomes"] == {"dry_run": 5}
    assert "fit_to_caps" not in AhaPlanAccessOperator.template_fields


def test_a_whole_number_of_json_is_read_exactly(account, guards):
    guards(f'{{"protected_ids": [{account.ids[0]}]}}')
    assert account.plan(account.ids[:2]) == account.ids[1:2]
