"""Who asks at which form, who answers, and what Aha! gets: each case played with the DAG's own tasks, as promised.

The tasks of the example DAG are rendered and run one after the other, as Airflow would; the person's answer comes
in as Airflow hands it to the task. What needs Airflow's own scheduler is in tests/airflow.
"""

import copy
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import import_module
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from airflow.providers.common.compat.sdk import AirflowException, AirflowSkipException, XCom

from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.exceptions import AhaError
from airflow_provider_aha.operators.deactivations import AhaDeactivateUsersOperator
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator
from airflow_provider_aha.operators.report import AhaAccessReportOperator
from airflow_provider_aha.operators.users import AhaUpdateUserOperator
from airflow_provider_aha.sandbox.testing import Account, SandboxServer
from airflow_provider_aha.version_compat import AIRFLOW_V_3_1_PLUS

DAGS = Path(__file__).parents[2] / "dags"
PROMISES = yaml.safe_load((Path(__file__).parent / "forms.yaml").read_text(encoding="utf-8"))
SCHEDULED = "aha_offboard_leavers"
RIGHTS = ("administer_account", "administer_billing", "administer_configuration")
OWNER, LAST = "1", "2"
RUNS = count()


def api_user(user_id: str, name: str, email: str, **more: Any) -> dict[str, Any]:
    administrator = more.pop("administrator", False)
    return {
        "id": user_id,
        "name": name,
        "email": email,
        "enabled": True,
        "created_at": "2024-01-15T10:00:00.000Z",
        "updated_at": "2025-01-15T10:00:00.000Z",
        "accessed_at": "2025-01-15T10:00:00.000Z",
        "product_roles": [],
        "user_roles": [],
        "paid_seat": True,
        "administrator": administrator,
        "administrator_roles": dict.fromkeys(RIGHTS, administrator),
        "identity_provider": {"type": "password"},
        **more,
    }


def account_of(case: dict[str, Any]) -> list[dict[str, Any]]:
    """The account: 9 is Ann, 8 is Bob; two with one email; enough others that the percentage holds nobody back."""
    users = [
        api_user(OWNER, "Key Owner", "key@owner.example", administrator=True),
        api_user(LAST, "Last Admin", "last@owner.example", administrator=True),
        api_user("8", "Bob Example", "bob@example.com"),
        {**api_user("9", "Ann Example", "ann@example.com"), **case.get("user", {})},
        api_user("11", "Twin One", "twin@example.com"),
        api_user("12", "Twin Two", "Twin@example.com"),
    ]
    if case["fields"].get("user") == "last_administrator":
        # The key is of somebody who holds the other rights: of each right there is one holder.
        users[0]["administrator_roles"][RIGHTS[0]] = False
        users[1]["administrator_roles"] = {**dict.fromkeys(RIGHTS, False), RIGHTS[0]: True}
    if (rights := case.get("user", {}).get("rights")) is not None:
        del users[3]["rights"]
        users[3]["administrator_roles"] = {name: name in rights for name in RIGHTS}
    elif case.get("user", {}).get("administrator"):
        users[3]["administrator_roles"] = dict.fromkeys(RIGHTS, True)
    users += [api_user(str(number), f"Person {number}", f"p{number}@other.example") for number in range(100, 300)]
    return users


@dataclass
class Played:
    """What became of a case.

    :param ended: ``success``, ``skipped`` or ``failed``.
    :param where: the task that ended it.
    :param why: the sentence, where it failed.
    :param asked: what a person was asked, where somebody was.
    """

    ended: str = "success"
    where: str = ""
    why: str = ""
    asked: str | None = None
    results: dict[str, Any] = field(default_factory=dict)
    base: Path = Path()


class Play:
    """Runs the tasks of a form as Airflow would."""

    def __init__(self, case: dict[str, Any], server: SandboxServer, base: Path, dag: Any) -> None:
        self.case, self.server, self.base, self.dag = case, server, base, dag
        self.played = Played(base=base)
        self.answer = case.get("answer", "none")
        self.run_id = f"run{next(RUNS)}"
        self.is_scheduled = case["dag"] == SCHEDULED and case["by"] is None

    def context(self, task: Any, params: Any) -> Any:
        results = self.played.results
        instance = SimpleNamespace(
            dag_id=self.dag.dag_id if self.dag else "own",
            run_id=self.run_id,
            task_id=task.task_id,
            map_index=-1,
            try_number=1,
            xcom_push=lambda **_: None,
            xcom_pull=lambda task_ids, **_: results[task_ids],
        )
        by = self.case["by"]
        run_type = "scheduled" if self.is_scheduled else "manual"
        dag_run = SimpleNamespace(run_type=run_type, triggering_user_name=by, conf=dict(params))
        return {
            "ti": instance,
            "task_instance": instance,
            "dag_run": dag_run,
            "params": params,
            "var": SimpleNamespace(value=VariablesOfEnvironment()),
            "outlet_events": Events(),
        }

    def play(self) -> Played:
        try:
            params = copy.deepcopy(self.dag.params)
            given = {**self.conf(), **self.case.get("conf", {})}
            if self.case.get("unchecked"):
                params = {name: params.get_param(name).value for name in params} | given
            else:
                params.update(given)
                params = params.validate()
        except AirflowException as error:
            return self.end("failed", "trigger", error)
        for task in _sorted(self.dag):
            one: Any = task
            if (approvers := self.case.get("approvers")) is not None and hasattr(one, "approvers"):
                one.approvers = approvers
            context = self.context(one, params)
            try:
                one.render_template_fields(context, jinja_env=self.dag.get_template_env())
                if not self.step(one, context):
                    return self.played
            except AirflowSkipException as error:
                return self.end("skipped", one.task_id, error)
            except (AirflowException, AhaError) as error:
                return self.end("failed", one.task_id, error)
        return self.played

    def end(self, ended: str, where: str, error: Exception) -> Played:
        self.played.ended, self.played.where, self.played.why = ended, where, str(error)
        return self.played

    def step(self, one: Any, context: dict[str, Any]) -> bool:
        """Run a task; whether the run goes on."""
        if one.task_id == "unless_dry_run":
            return bool(one.python_callable(*one.op_args))
        if one.task_id == "approve":
            return self.approve(one, context)
        if one.task_id == "carry_out" and self.case.get("plan_changed"):
            path = Path(self.played.results["plan"]["plan_path"])
            path.write_text(path.read_text().replace("named by id", "named by ID"))
        self.played.results[one.task_id] = one.execute(context)
        return True

    def conf(self) -> dict[str, Any]:
        if self.case["dag"] == SCHEDULED:
            return {}
        fields = {**PROMISES["defaults"]["fields"], **self.case["fields"]}
        if fields["dry_run"] == "default":
            del fields["dry_run"]
        names = {"key_owner": OWNER, "last_administrator": LAST}
        if "user" in fields:
            fields["user"] = names.get(fields["user"], fields["user"])
        if fields.get("ids") == "26 users":
            fields["ids"] = [str(number) for number in range(100, 126)]
        if self.case.get("requested_by"):
            fields["asked_by"] = self.case["requested_by"]
        if evidence := fields.get("evidence"):
            fields["evidence"] = self.evidence(evidence)
        return fields

    def evidence(self, which: str) -> str:
        if which == "of_update":
            task = {"user": "9", "extra_fields": None, **self.case["run"]}
            done: str = self.directly(AhaUpdateUserOperator, **task)["evidence"]
            if since := self.case.get("edited_since"):
                self.server.account.update_user("9", since)
            return done
        self.server.account.edit_user("9", enabled=True)
        path: str = self.directly(AhaDeactivateUsersOperator, users=["9"])["evidence"]
        if which == "of_run_1":
            return path
        there = self.base.parent / "evidence.parquet"
        if which == "of_other_account":
            there = self.base / "access/account=other/dag=d/run=r/task=t/evidence.parquet"
            there.parent.mkdir(parents=True)
        shutil.copy(path, there)
        return str(there)

    def directly(self, operator: Any, **arguments: Any) -> Any:
        """Change users by DAG code."""
        given = {"dry_run": False, "allow_privileged": True, "max_percent": 100, **arguments}
        task = operator(task_id=f"before{next(RUNS)}", base_path=str(self.base), **given)
        found = task.execute(self.context(task, {}))
        self.server.forget_requests()
        return found

    # ---- the person --------------------------------------------------------------------------------

    def approve(self, one: Any, context: dict[str, Any]) -> bool:
        if self.answer == "marked_success":
            return True
        if (result := self.ask(one, context)) is not None:
            self.played.results["approve"] = result
            return True
        if self.answer == "none":
            return False
        folder = Path(self.played.results["plan"]["plan_path"]).parent
        if self.answer == "forged_xcom":
            self.played.results["approve"] = {"choice": "Approve", "plan_sha256": "x", "struck_out": 0}
            return True
        if self.answer.get("plan") == "another":
            (folder / "approval_request.json").write_text(json.dumps({"plan_sha256": "0" * 64}))
        # The writing task holds it, too: whoever marks this task as a success gains nothing.
        try:
            self.played.results["approve"] = one.execute_complete(context, self.event())
        except AirflowException as error:
            self.played.why = str(error)
        return True

    def ask(self, one: Any, context: dict[str, Any]) -> Any:
        from airflow.providers.standard.operators.hitl import HITLOperator

        asked: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(HITLOperator, "execute", lambda operator, _: asked.append(operator.body))
            result = one.execute(context)
        self.played.asked = asked[0] if asked else None
        return None if asked else result

    def event(self) -> dict[str, Any]:
        answer = self.answer
        if answer["choice"] == "timeout":
            return {"error": "nobody answered", "error_type": "timeout"}
        choice = answer["choice"] if isinstance(answer["choice"], list) else [answer["choice"]]
        inputs = {name: answer[name] for name in ("strike_out",) if name in answer}
        if "strike_reason" in answer:
            inputs["strike_reason"] = answer["strike_reason"]
        # A moment passes until the writing task looks; the limit itself is in test_approval.py.
        given = datetime.now(UTC) - timedelta(hours=answer.get("hours", 0)) + timedelta(minutes=2)
        return {
            "chosen_options": choice,
            "params_input": inputs,
            "responded_at": given,
            "responded_by_user": {"id": answer["by"], "name": answer["by"]},
        }


def _sorted(dag: Any) -> list[Any]:
    done: list[Any] = []
    todo = list(dag.tasks)
    while todo:
        ready = [task for task in todo if task.upstream_task_ids <= {one.task_id for one in done}]
        done += ready
        todo = [task for task in todo if task not in ready]
    return done


# --- the world of a case -------------------------------------------------------------------------


@contextmanager
def connection(case: dict[str, Any], patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the sandbox stand for what the case connects to."""
    kind = case["connection"]
    says = {"sandbox": count(1), "real_with_sandbox_header": count(1), "gateway_with_one_sandbox_answer": iter([1])}
    answers = says.get(kind, iter(()))
    marker = property(lambda _: "X-Aha-Sandbox" if next(answers, None) else "X-Nothing")
    patch.setattr("airflow_provider_aha.sandbox.app.SandboxApp.marker", marker)
    if kind.startswith("real"):
        patch.setattr(ClientConfig, "is_loopback", False)
    yield


class Events:
    """Events of assets, which nobody reads here; an asset isn't hashable on every Airflow."""

    def __getitem__(self, _: Any) -> SimpleNamespace:
        return SimpleNamespace(extra={})


class VariablesOfEnvironment:
    """Airflow's Variables, for templates."""

    def get(self, key: str, default: str) -> str:
        return os.environ.get(f"AIRFLOW_VAR_{key.upper()}", default)


def offboarding(case: dict[str, Any], base: Path, patch: pytest.MonkeyPatch) -> None:
    """Switch offboarding on, with a roster by which 9 left yesterday."""
    yesterday, leavers = datetime.now(UTC).date() - timedelta(days=1), case.get("leavers", ["9"])
    covered = [user for user in account_of(case) if user["email"].lower().endswith("@example.com")]
    lines = [f"{user['id']},{user['email']},{yesterday if user['id'] in leavers else ''}" for user in covered]
    roster = base.parent / "roster.csv"
    roster.write_text("\n".join(["number,email,last_day", *lines]))
    described = {
        "path": str(roster),
        "key": "number",
        "emails": ["email"],
        "domains": ["example.com"],
        "min_rows": 2,
    }
    described |= {"end_date": "last_day", "owners": case.get("roster_owners", [])}
    patch.setenv("AIRFLOW_VAR_AHA_ROSTER", json.dumps(described))
    patch.setenv("AIRFLOW_VAR_AHA_WRITES_ENABLED", "true")
    if approvers := case.get("approvers", ["carol", "dave"]):
        patch.setenv("AIRFLOW_VAR_AHA_GUARDS", json.dumps({"approvers": approvers}))


@pytest.fixture
def parse() -> Callable[[str], Any]:
    """Call it with the id of an example DAG to get it, parsed anew."""
    try:
        bags = import_module("airflow.dag_processing.dagbag")
    except ImportError:
        bags = import_module("airflow.models.dagbag")
    return lambda name: bags.DagBag(str(DAGS / f"{name}.py")).dags[name]


def play(
    case: dict[str, Any], base: Path, patch: pytest.MonkeyPatch, parse: Callable[[str], Any]
) -> tuple[Played, list[tuple[str, Any]]]:
    """Play a case; what became of it, and what Aha! got."""
    if case["airflow"] == "2.11":
        patch.setattr("airflow_provider_aha.flow.AIRFLOW_V_3_1_PLUS", False)
    patch.setenv("AIRFLOW_VAR_AHA_OUTPUT_PATH", str(base))
    if guards := case.get("guards"):
        patch.setenv("AIRFLOW_VAR_AHA_GUARDS", json.dumps(guards))
    if case["dag"] == SCHEDULED:
        offboarding(case, base, patch)
    users = sorted(account_of(case), key=lambda user: int(user["id"]))
    with connection(case, patch), SandboxServer(account=Account.from_users(users)) as server:
        extra = {"requests_per_second": 1000, "requests_per_minute": 100_000, "max_retries": 0}
        place = {"host": "127.0.0.1", "port": server.port, "schema": "http", "password": server.key}
        patch.setenv("AIRFLOW_CONN_AHA_DEFAULT", json.dumps({"conn_type": "aha", **place, "extra": extra}))
        server.account.keys[server.key] = OWNER
        one = Play(case, server, base, None if case["dag"] == "own" else parse(case["dag"]))
        if done := case.get("done_before"):
            one.directly(AhaDeactivateUsersOperator, users=[str(number) for number in range(100, 100 + done)])
        played = own(one) if case["dag"] == "own" else one.play()
        if case.get("page"):
            played.results["page"] = page(one)
        sent = [
            (request.path.rpartition("/")[2], request.body["user"])
            for request in server.requests
            if request.method not in ("GET", "HEAD")
        ]
    return played, sent


def own(one: Play) -> Played:
    """A DAG of one's own that names a user in code."""
    allowed = one.case["dag_code"]["allow_privileged"]
    task = AhaUpdateUserOperator(
        task_id="t", user="9", enabled=False, dry_run=False, allow_privileged=allowed, base_path=str(one.base)
    )
    context: Any = one.context(task, one.case.get("conf", {}))
    try:
        task.render_template_fields(context)
        task.execute(context)
    except AirflowException as error:
        return one.end("failed", "t", error)
    return one.played


def page(one: Play) -> str:
    for operator in (AhaExtractUsersOperator, AhaAccessReportOperator):
        task = operator(task_id=operator.__name__, base_path=str(one.base))
        task.execute(one.context(task, {}))
    (path,) = one.base.glob("reports/account=*/snapshot=*/access_review.html")
    return path.read_text("utf-8")


def outcome(played: Played, sent: list[Any]) -> str:
    """Name what became of a case, in the words of the promises."""
    if sent and played.ended == "success":
        return "writes"
    if played.ended == "failed":
        return "fails" if played.where in ("plan", "preview") else "refused"
    return "asks" if played.asked else "dry_run"


CASES = [{**PROMISES["defaults"], **case} for case in PROMISES["cases"]]
# Nobody can be asked there; the others are played as on Airflow 2.11 on every version.
ASKS = [case for case in CASES if AIRFLOW_V_3_1_PLUS or case["airflow"] == "2.11" or case["dag"] == "own"]


@pytest.mark.parametrize("case", ASKS, ids=lambda case: case["name"].replace(" ", "_"))
def test_a_form_does_what_was_promised(case, tmp_path, monkeypatch, parse, caplog, capfd):
    caplog.set_level("INFO")
    monkeypatch.setattr(XCom, "get_value", lambda **_: None, raising=False)
    played, sent = play(case, tmp_path / "aha", monkeypatch, parse)
    found = outcome(played, sent)
    expected = set(case.get("either") or [case["expect"]])
    # Both are red, and nothing was sent: where the sentence comes from makes no difference.
    if expected & {"refused", "fails"}:
        expected |= {"refused", "fails"}
    assert found in expected, (found, played.where, played.why)
    assert found == "writes" or not sent or case.get("sent_for"), sent
    check_sent(case, sent, found)
    check_asked(case, played)
    check_log(case, played)
    assert case.get("sentence", "") in played.why
    if "became" in case:
        check_evidence(case, played, caplog.text + "".join(capfd.readouterr()))
    if "unresolved" in case:
        plan = json.loads(Path(played.results["plan"]["plan_path"]).read_text())
        assert [one["detail"] for one in plan["unresolved"]] == case["unresolved"]
    if case.get("records"):
        assert Path(played.results["carry_out"]["evidence"]).is_relative_to(tmp_path / "aha")
    for text in case.get("page", ()):
        assert PAGE[text] in played.results["page"], text


def check_evidence(case: dict[str, Any], played: Played, log: str) -> None:
    folder = Path(played.results["plan"]["plan_path"]).parent
    rows = pq.read_table(folder / "task=carry_out" / "evidence.parquet", partitioning=None).to_pylist()
    assert {row["user_id"]: [row["outcome"], row["reason"]] for row in rows} == case["became"]
    for user_id, (outcome, reason) in case["became"].items():
        assert f"User {user_id}, disable: {outcome}" in log
        assert reason.partition(": ")[2] not in log or not reason
    assert f"struck out: {', '.join(case['answer']['strike_out'])}" in log


PAGE = {
    "administrator granted": "<dt>Administrator rights granted</dt><dd>1</dd>",
    "by alice": "<dt>Asked for by</dt><dd>alice</dd>",
    "approved by carol": "<dt>Approved by</dt><dd>carol</dd>",
}


def check_sent(case: dict[str, Any], sent: list[Any], found: str) -> None:
    ids = [user_id for user_id, _ in sent]
    if (wanted := case.get("sent_for")) is not None:
        allowed = wanted if wanted and isinstance(wanted[0], list) else [wanted]
        assert ids in allowed
    if found == "writes" and "sent" in case:
        assert [sorted(body) for _, body in sent] == [case["sent"]]
    if "body" in case:
        assert sent == [("9", case["body"])]


def check_asked(case: dict[str, Any], played: Played) -> None:
    if "asked" in case:
        assert (played.asked is not None) is case["asked"]
    if played.asked is None:
        return
    plan = json.loads(Path(played.results["plan"]["plan_path"]).read_text())
    if "asked_about" in case:
        assert len(plan["rows"]) == case["asked_about"]
    fields = {**PROMISES["defaults"]["fields"], **case["fields"]}
    # What a person needs to say yes stands in the question, safe for Markdown.
    for text in (fields["ticket"].strip(), fields["reason"]) if case["dag"] != SCHEDULED else ():
        assert markdown(text) in played.asked
    for row in plan["rows"]:
        assert row["user_id"] in played.asked
        assert row["email"] in played.asked
    for text in case.get("shown", ()):
        assert markdown(text) in played.asked


def markdown(text: str) -> str:
    """How a text stands in Markdown where it is to mean nothing but itself."""
    return "".join(c if c.isalnum() or c in " @.,;:()%-" else f"&#{ord(c)};" for c in text)


def check_log(case: dict[str, Any], played: Played) -> None:
    if (wanted := (case.get("log") or {}).get("unresolved")) is None:
        return
    number = wanted if isinstance(wanted, int) else len(wanted)
    assert played.why.startswith(f"{number} of those who were named can't be changed")
    assert all(f"id {one}" in played.why for one in (wanted if isinstance(wanted, list) else ()))
    assert "@" not in played.why
    assert not any(email in played.why for email in case["fields"].get("emails", ()))


def test_evidence_says_who_asked_and_who_approved(tmp_path, monkeypatch, parse):
    if not AIRFLOW_V_3_1_PLUS:
        pytest.skip("Airflow before 3.1 can't ask a person")
    case = next(one for one in CASES if one["name"] == "an administrator grant approved by another person")
    played, _ = play(case, tmp_path / "aha", monkeypatch, parse)
    (row,) = pq.read_table(played.results["carry_out"]["evidence"], partitioning=None).to_pylist()
    assert (row["requested_by"], row["approved_by_id"], row["approval_mode"]) == ("alice", "carol", "person")
    assert (row["ticket"], row["rule"], row["outcome"]) == ("OPS-1", "left the project", "changed")
