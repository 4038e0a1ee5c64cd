"""The scheduled DAGs that take access away, run by `dag.test()` against the sandbox, without anybody to ask.

What a person answers is in test_approval_on_scheduler.py: it needs Airflow's own scheduler.
"""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from airflow_provider_aha.flow import may_write
from airflow_provider_aha.operators.guards import GUARDS
from airflow_provider_aha.operators.writes import AhaWriteOperator
from airflow_provider_aha.sandbox.testing import Account, SandboxServer
from airflow_provider_aha.version_compat import AIRFLOW_V_3_1_PLUS

DAGS = Path(__file__).parents[2] / "dags"
NAMES = ("aha_reclaim_seats", "aha_offboard_leavers")
needs_3_1 = pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow before 3.1 can't ask a person")


@pytest.fixture
def dag(request: pytest.FixtureRequest, registered: Callable[[Path], dict[str, Any]]) -> Any:
    name = request.param
    dag = registered(DAGS / f"{name}.py")[name]
    for task in dag.tasks:
        # `dag.test()` would wait for the next try.
        task.retries = 0
    return dag


offboard = pytest.mark.parametrize("dag", ["aha_offboard_leavers"], indirect=True)
reclaim = pytest.mark.parametrize("dag", ["aha_reclaim_seats"], indirect=True)


@pytest.fixture
def server(set_connection: Callable[..., None]) -> Iterator[SandboxServer]:
    """A small account of one day, so that the same people are inactive whenever the test runs."""
    with SandboxServer(account=Account.generate(60)) as server:
        set_connection(server.connection_uri)
        yield server


@pytest.fixture
def variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Call it to set Airflow Variables; the output path is set."""

    def put(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"AIRFLOW_VAR_AHA_{name.upper()}", value)

    put(output_path=str(tmp_path / "aha"))
    return put


@pytest.fixture
def roster(server: SandboxServer, variables: Callable[..., None], tmp_path: Path) -> Callable[..., list[str]]:
    """Call it for a roster by which so many left yesterday, named in the Variable; returns who left."""

    def write(leavers: int, **settings: Any) -> list[str]:
        users = [user for user in server.account.users() if user["email"].endswith("@example.com")]
        people = [user["id"] for user in users if user["enabled"] and not user["administrator"]][:leavers]
        day = datetime.now(UTC).date() - timedelta(days=1)
        lines = [f"{user['id']},{user['email']},{day if user['id'] in people else ''}" for user in users]
        path = tmp_path / "roster.csv"
        path.write_text("\n".join(["number,email,last_day", *lines]))
        described = {
            "path": str(path),
            "key": "number",
            "emails": ["email"],
            "domains": ["example.com"],
            "min_rows": 20,
            "end_date": "last_day",
            "timezone": "Europe/Berlin",
        }
        variables(roster=json.dumps({**described, **settings}))
        return people

    return write


def puts(server: SandboxServer) -> list[str]:
    return [one.path.rpartition("/")[2] for one in server.requests if one.method == "PUT"]


def states(run: Any) -> dict[str, str]:
    return {one.task_id: str(one.state) for one in run.dag_run.get_task_instances()}


def evidence(result: dict[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(result["evidence"], partitioning=None).to_pylist()
    return rows


# --- a dry run unless it is switched on ----------------------------------------------------------


@offboard
@pytest.mark.parametrize("enabled", [None, "yes"])
def test_it_reports_unless_the_variable_is_true(dag, run_dag, server, variables, roster, enabled):
    leavers = roster(2)
    if enabled:
        variables(writes_enabled=enabled)
    run = run_dag(dag)
    assert run.state == "success"
    assert run.xcom("by_policy")["users"] == dict.fromkeys(leavers, "dry_run")
    assert {states(run).get(name) for name in ("approve", "carry_out")} <= {"skipped", None}
    assert puts(server) == []


@reclaim
def test_seats_are_flagged_at_first_and_reported_when_the_time_has_come(dag, run_dag, server, variables):
    run = run_dag(dag)
    assert (run.state, run.xcom("carry_out")["outcomes"]) == ("success", {})
    assert run.xcom("plan")["counts"]["spared"]["grace"] > 0
    variables(grace_days="0", inactive_days="200")
    run = run_dag(dag)
    assert run.state == "success"
    (outcomes,) = {tuple(run.xcom("carry_out")["outcomes"])}
    assert outcomes == ("dry_run",)
    details = [row["detail"] for row in evidence(run.xcom("carry_out"))]
    assert all("never seen" in detail or int(detail.split()[3]) >= 200 for detail in details)
    assert puts(server) == []


@pytest.mark.skipif(AIRFLOW_V_3_1_PLUS, reason="Airflow from 3.1 on can ask a person")
@pytest.mark.parametrize("dag", NAMES, indirect=True)
def test_on_an_old_airflow_it_says_plainly_that_it_stays_a_dry_run(
    dag, run_dag, server, variables, roster, everything_logged
):
    roster(2)
    variables(writes_enabled="true", grace_days="0", inactive_days="200")
    run = run_dag(dag)
    assert run.state == "success"
    assert run.xcom("by_policy" if dag.dag_id == "aha_offboard_leavers" else "carry_out")["dry_run"] is True
    assert "needs Airflow 3.1 or newer: this stays a dry run" in everything_logged()
    assert puts(server) == []


# --- switched on ---------------------------------------------------------------------------------


@needs_3_1
@offboard
def test_a_few_leavers_are_disabled_at_once(dag, run_dag, server, variables, roster):
    """Policy acts on a change: the load before showed them as employed."""
    roster(0)
    assert run_dag(dag).state == "success"
    leavers = roster(4)
    variables(writes_enabled="true")
    run = run_dag(dag)
    assert run.state == "success"
    assert sorted(puts(server)) == sorted(leavers)
    result = run.xcom("by_policy")
    assert result["users"] == dict.fromkeys(leavers, "changed")
    assert {(row["class"], row["approval_mode"]) for row in evidence(result)} == {("left", "policy")}
    assert 0 < result["hours_to_disable"] < 26
    assert {states(run)[name] for name in ("approve", "carry_out")} == {"skipped"}
    again = run_dag(dag)
    assert (again.state, again.xcom("by_policy")["outcomes"]) == ("success", {})
    assert len(puts(server)) == 4


@needs_3_1
@pytest.mark.parametrize("dag", NAMES, indirect=True)
def test_nobody_is_asked_when_nobody_is_planned(dag, run_dag, server, variables, roster):
    roster(0)
    variables(writes_enabled="true")
    run = run_dag(dag)
    assert run.state == "success"
    if dag.dag_id == "aha_offboard_leavers":
        assert (states(run)["approve"], states(run)["carry_out"]) == ("skipped", "skipped")
        assert run.xcom("by_policy")["outcomes"] == {}
    else:
        assert run.xcom("approve")["choice"] is None
        assert run.xcom("carry_out")["outcomes"] == {}
    assert puts(server) == []


# --- what it refuses -----------------------------------------------------------------------------


@offboard
def test_without_a_roster_it_says_which_variable_is_missing(dag, run_dag, server, variables, everything_logged):
    variables(writes_enabled="true")
    run = run_dag(dag)
    assert run.state == "failed"
    assert "the Variable aha_roster" in everything_logged()
    assert states(run)["plan"] == "failed"
    assert puts(server) == []


@offboard
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"timezone": "Mars/Olympus"}, "not a time zone"),
        ({"min_rows": 10_000}, "a complete one has 10000 or more"),
        ({"path": "/nowhere/roster.csv"}, "/nowhere/roster.csv"),
    ],
)
def test_a_roster_that_can_not_be_right_stops_the_run(
    dag, run_dag, server, roster, everything_logged, settings, sentence
):
    roster(2, **settings)
    run = run_dag(dag)
    assert run.state == "failed"
    assert sentence in everything_logged()
    assert puts(server) == []


# --- by a form -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dag", ["aha_deactivate_users"], indirect=True)
def test_the_form_shows_what_would_happen_and_keeps_the_reason(dag, run_dag, server, variables):
    users = [user for user in server.account.users() if user["enabled"] and not user["administrator"]]
    conf = {"ids": [users[0]["id"]], "emails": [users[1]["email"].upper()], "reason": "left the project"}
    run = run_dag(dag, {**conf, "ticket": "SEC-1"})
    assert run.state == "success"
    assert run.xcom("preview")["outcomes"] == {"dry_run": 2}
    assert {(row["class"], row["rule"], row["ticket"]) for row in evidence(run.xcom("preview"))} == {
        ("named", "left the project", "SEC-1")
    }
    assert {states(run).get(name) for name in ("approve", "carry_out")} <= {"skipped", None}
    assert puts(server) == []


def test_a_name_alone_is_carried_out_without_asking_and_what_a_form_leaves_empty_stays(
    registered, run_dag, server, variables
):
    dag = registered(DAGS / "aha_update_user.py")["aha_update_user"]
    user_id = next(one["id"] for one in server.account.users() if one["enabled"] and not one["administrator"])
    form = {"user": user_id, "first_name": "Zoe", "reason": "married", "ticket": "SEC-2"}
    dry = run_dag(dag, form)
    assert dry.xcom("preview")["users"] == {user_id: "dry_run"}
    assert puts(server) == []
    run = run_dag(registered(DAGS / "aha_update_user.py")["aha_update_user"], {**form, "dry_run": False})
    assert run.state == "success"
    if AIRFLOW_V_3_1_PLUS:
        (row,) = evidence(run.xcom("carry_out"))
        assert (row["approval_mode"], row["ticket"], row["rule"]) == ("not needed", "SEC-2", "married")
        bodies = [one.body["user"] for one in server.requests if one.method == "PUT"]
        assert bodies == [{"first_name": "Zoe"}]
    else:
        assert puts(server) == []


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ({"administer_billing": "true"}, {"administrator_roles": {"administer_billing": True}}),
        (
            {"administer_account": "false", "administer_configuration": "true", "enabled": "true"},
            {
                "enabled": True,
                "administrator_roles": {"administer_account": False, "administer_configuration": True},
            },
        ),
    ],
)
def test_the_form_changes_single_administrator_rights(registered, run_dag, server, variables, form, wanted):
    dag = registered(DAGS / "aha_update_user.py")["aha_update_user"]
    user_id = next(one["id"] for one in server.account.users() if not one["enabled"])
    run = run_dag(dag, {"user": user_id, **form, "reason": "a new task", "ticket": "SEC-3"})
    assert run.state == "success"
    (row,) = evidence(run.xcom("preview"))
    assert json.loads(row["wanted_json"]) == wanted
    assert puts(server) == []


FORMS: dict[str, dict[str, Any]] = {
    "aha_deactivate_users": {"ids": ["{enabled}"]},
    "aha_reactivate_users": {"ids": ["{disabled}"]},
    "aha_update_user": {"user": "{enabled}", "administrator": "true"},
}


@pytest.mark.parametrize("dag", FORMS, indirect=True)
@pytest.mark.parametrize("dry_run", [True, False])
def test_every_form_is_a_dry_run_first_and_on_an_old_airflow_it_stays_one(
    dag, run_dag, server, variables, everything_logged, dry_run
):
    if AIRFLOW_V_3_1_PLUS and not dry_run:
        pytest.skip("it would ask a person: see test_approval_on_scheduler.py")
    users = list(server.account.users())
    ids = {
        "{enabled}": next(one["id"] for one in users if one["enabled"] and not one["administrator"]),
        "{disabled}": next(one["id"] for one in users if not one["enabled"]),
    }
    form = {
        name: [ids[one] for one in value] if isinstance(value, list) else ids.get(value, value)
        for name, value in FORMS[dag.dag_id].items()
    }
    run = run_dag(dag, {**form, "reason": "left the project", "ticket": "SEC-1", "dry_run": dry_run})
    assert run.state == "success"
    assert run.xcom("preview")["outcomes"] == {"dry_run": 1}
    sentence = "This is a dry run" if dry_run else "needs Airflow 3.1 or newer: this stays a dry run"
    assert sentence in everything_logged()
    assert {states(run).get(name) for name in ("approve", "carry_out")} <= {"skipped", None}
    assert puts(server) == []


@pytest.mark.parametrize("dag", ["aha_deactivate_users"], indirect=True)
@pytest.mark.parametrize("beside", [False, True])
def test_a_mistyped_email_fails_the_run_before_anybody_is_asked_and_is_not_logged(
    dag, run_dag, server, variables, everything_logged, beside
):
    users = [user for user in server.account.users() if user["enabled"] and not user["administrator"]]
    emails = ["nobody-here@example.com", *([users[1]["email"]] if beside else [])]
    run = run_dag(dag, {"emails": emails, "reason": "left the project", "ticket": "SEC-1", "dry_run": False})
    assert (run.state, states(run)["plan"]) == ("failed", "failed")
    logged = everything_logged()
    assert "1 of those who were named can't be changed: unknown" in logged
    assert "nobody-here" not in logged.replace(str(run.dag_run.conf), "")
    assert puts(server) == []


WHY = {"reason": "left the project", "ticket": "SEC-1"}
ENTRIES = {"ids": ["12"], "emails": ["a@b.c"], **WHY}
REACTIVATE, UPDATE = {"ids": ["12"], **WHY}, {"user": "12", **WHY}


@pytest.mark.parametrize(
    ("name", "entries", "wrong"),
    [
        ("aha_deactivate_users", ENTRIES, {"ids": ["12/34"]}),
        ("aha_deactivate_users", ENTRIES, {"ids": [""]}),
        ("aha_deactivate_users", ENTRIES, {"emails": ["ann"]}),
        ("aha_deactivate_users", ENTRIES, {"emails": ["a@b.c d@e.f"]}),
        ("aha_deactivate_users", ENTRIES, {"reason": "x"}),
        ("aha_deactivate_users", ENTRIES, {"ticket": ""}),
        ("aha_deactivate_users", ENTRIES, {"dry_run": "no"}),
        ("aha_reactivate_users", REACTIVATE, {"ids": ["ann@example.com"]}),
        ("aha_reactivate_users", REACTIVATE, {"ticket": ""}),
        ("aha_reactivate_users", REACTIVATE, {"reason": ""}),
        ("aha_reactivate_users", REACTIVATE, {"dry_run": None}),
        ("aha_update_user", UPDATE, {"user": ""}),
        ("aha_update_user", UPDATE, {"enabled": "maybe"}),
        ("aha_update_user", UPDATE, {"ticket": ""}),
        ("aha_update_user", UPDATE, {"reason": "x"}),
        ("aha_update_user", UPDATE, {"dry_run": "maybe"}),
        ("aha_get_user", {"user": "12"}, {"user": ""}),
        ("aha_access_review", {"review_id": "2026-Q4"}, {"review_id": "../x"}),
    ],
)
def test_a_form_refuses_what_cannot_be_right(parse, name, entries, wrong):
    params = parse(DAGS / f"{name}.py").dags[name].params
    assert {params[one] for one in ("dry_run",) if one in params} <= {True}
    params.update(entries)
    params.validate()
    with pytest.raises(Exception, match="Invalid input for param") as refused:
        params.update(wrong)
    assert type(refused.value).__name__ == "ParamValidationError"


# --- how they are described ----------------------------------------------------------------------


WRITING = (*NAMES, "aha_deactivate_users", "aha_reactivate_users", "aha_submit_review", "aha_update_user")


@pytest.mark.parametrize("name", WRITING)
def test_writing_tasks_use_the_pool_and_the_base_path_is_no_param(parse, monkeypatch, name):
    monkeypatch.setenv("AHA_WRITE_POOL", "aha_writes")
    dag = parse(DAGS / f"{name}.py").dags[name]
    tasks = [task for task in dag.tasks if isinstance(task, AhaWriteOperator)]
    for task in tasks:
        assert task.pool == ("default_pool" if getattr(task, "dry_run", None) is True else "aha_writes")
        # Caps, protected lists and where the evidence lies: they are read from Variables, and come from no form.
        given = [task.base_path, task.approved_plan_sha256, *(getattr(task, name, None) for name in GUARDS)]
        assert set(given) <= {None, ()}
    # Users of an old Airflow can't be asked: their runs stay dry.
    assert any(task.pool == "aha_writes" for task in tasks) == (AIRFLOW_V_3_1_PLUS or name in NAMES)
    assert dag.max_active_runs == 1


@pytest.mark.parametrize("name", WRITING)
def test_no_example_dag_changes_access_without_a_second_person(parse, name):
    """Nothing that DAG code could say lets one person do it: no word, no call without a plan."""
    dag = parse(DAGS / f"{name}.py").dags[name]
    assert "allow_privileged" not in (DAGS / f"{name}.py").read_text()
    writers: list[Any] = [task for task in dag.tasks if isinstance(task, AhaWriteOperator)]
    assert {type(task).__name__ for task in writers} == {"AhaCarryOutPlanOperator"}
    for task in writers:
        asked = {one.task_id for one in task.upstream_list}
        stays_dry = "not aha_may_write(" in str(task.dry_run) and not AIRFLOW_V_3_1_PLUS
        # People who have just left, by the roster, pass by policy.
        by_policy = name == "aha_offboard_leavers" and task.require_approval is False
        assert task.dry_run is True or stays_dry or asked == {"approve"} or by_policy
    if name not in NAMES:
        assert all(task.require_approval is True for task in writers)
        assert dag.params["dry_run"] is True


@pytest.mark.parametrize("name", NAMES)
def test_the_form_of_scheduled_dags_chooses_only_the_account_and_says_that_they_stay_dry(parse, name):
    dag = parse(DAGS / f"{name}.py").dags[name]
    assert dag.params.dump() == {"aha_conn_id": "aha_default"}
    assert "aha_writes_enabled" in dag.doc_md
    assert "Airflow before 3.1 can't ask a person" in dag.doc_md


@pytest.mark.parametrize(
    ("enabled", "sandbox", "guards", "writes", "sentence"),
    [
        (True, True, "{}", True, ""),
        (True, False, '{"approvers": ["bob"]}', True, ""),
        (True, False, "{}", False, "names approvers: this stays a dry run"),
        ("False", True, "{}", False, "aha_writes_enabled is not true: this stays a dry run"),
        (True, "False", "{}", False, "names approvers: this stays a dry run"),
        (True, None, "{}", False, "names approvers: this stays a dry run"),
        (False, True, '{"approvers": ["bob"]}', False, "aha_writes_enabled is not true: this stays a dry run"),
    ],
)
def test_a_scheduled_run_stays_dry_where_nobody_is_named_who_may_approve(
    variables, everything_logged, enabled, sandbox, guards, writes, sentence
):
    variables(guards=guards)
    assert may_write(enabled, sandbox) is (writes and AIRFLOW_V_3_1_PLUS)
    assert (sentence if AIRFLOW_V_3_1_PLUS else "needs Airflow 3.1 or newer") in everything_logged()
