"""The planning operator: text as arguments, a roster by SQL, plans on S3, and nothing asked of Aha!."""

import hashlib
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, BaseHook

from airflow_provider_aha.access.plan.plan import Plan, load_decisions, load_plan
from airflow_provider_aha.access.plan.words import question
from airflow_provider_aha.exceptions import AhaSnapshotError
from airflow_provider_aha.hooks.paths import resolve_path
from airflow_provider_aha.operators.deactivations import AhaDeactivateUsersOperator, AhaReactivateUsersOperator
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator
from airflow_provider_aha.operators.plan import AhaPlanAccessOperator
from airflow_provider_aha.record.check import verify
from airflow_provider_aha.sandbox.testing import SandboxServer

RULES = [{"class": "unused", "inactive_days": 60, "grace_days": 0}]


def context(run_id: str = "manual__2026-03-10T03:40:00+00:00") -> Any:
    instance = SimpleNamespace(
        dag_id="aha_reclaim_seats", run_id=run_id, task_id="plan", map_index=-1, try_number=1
    )
    instance.xcom_push = lambda **_: None
    dag_run = SimpleNamespace(triggering_user_name="ann", run_type="manual")
    return {"ti": instance, "dag_run": dag_run, "outlet_events": {}}


@pytest.fixture
def base(aha_default: SandboxServer, tmp_path: Path) -> Path:
    """A base path with a snapshot of the shared sandbox."""
    operator = AhaExtractUsersOperator(task_id="extract", base_path=str(tmp_path), datasets=["users", "user_roles"])
    operator.execute(context())
    aha_default.forget_requests()
    return tmp_path


def plan(**arguments: Any) -> dict[str, Any]:
    result: dict[str, Any] = AhaPlanAccessOperator(task_id="plan", **arguments).execute(context())
    return result


def test_the_result_is_small_and_holds_no_personal_data(base, aha_default):
    result = plan(base_path=str(base), rules=RULES)
    written = load_plan(resolve_path(result["plan_path"]))
    assert result == {
        "account": "127.0.0.1",
        "plan_path": str(
            base
            / "access/account=127.0.0.1/dag=aha_reclaim_seats"
            / "run=manual__2026-03-10T03%3A40%3A00%2B00%3A00/plan.json"
        ),
        "plan_sha256": written.sha256,
        "counts": written.counts,
        "sandbox": True,
    }
    assert len(written.rows) > 5
    text = json.dumps(result)
    assert len(text) < 2000
    assert "@" not in text


def test_aha_is_not_asked(base, aha_default):
    plan(base_path=str(base), rules=RULES)
    assert aha_default.requests == []


def test_logs_hold_ids_and_counts_only(base, caplog, capfd):
    caplog.set_level("INFO")
    with pytest.raises(AirflowFailException):
        plan(base_path=str(base), rules=[*RULES, {"class": "named", "emails": ["nobody@example.com"]}])
    # Airflow 2 logs through the standard library, Airflow 3 prints when no supervisor listens.
    logged = caplog.text + "".join(capfd.readouterr())
    assert "users are planned" in logged
    assert "@" not in logged


def test_text_means_the_same_as_values(base):
    exclusions = base / "exclusions.csv"
    exclusions.write_text("email,reason,owner,expires_on\nann@example.com,hold,Legal,\n")
    values = {
        "rules": RULES,
        "exclusions": str(exclusions),
        "protected_ids": ["1"],
        "protected_domains": ["contractors.example.net"],
        "protect_patterns": [],
        "max_snapshot_age_hours": 24,
        "roster": None,
    }
    as_text = {
        "rules": json.dumps([{name: str(value) for name, value in RULES[0].items()}]),
        "exclusions": str(exclusions),
        "protected_ids": "['1']",
        "protected_domains": '["contractors.example.net"]',
        "protect_patterns": "[]",
        "max_snapshot_age_hours": "24",
        "roster": "None",
    }
    first = plan(base_path=str(base), **values)
    again = plan(base_path=str(base), **as_text)
    assert first == again


def test_every_argument_but_none_is_rendered(base):
    with DAG("aha_test", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
        operator = AhaPlanAccessOperator(
            task_id="plan",
            base_path="{{ where }}",
            rules=[{"class": "unused", "inactive_days": "{{ days }}"}],
            roster={"path": "{{ where }}/roster.csv"},
            max_snapshot_age_hours="{{ days }}",
        )
    context: Any = {"where": str(base), "days": 60}
    operator.render_template_fields(context)
    assert operator.base_path == str(base)
    assert operator.rules == [{"class": "unused", "inactive_days": "60"}]
    assert operator.roster == {"path": f"{base}/roster.csv"}
    assert operator.max_snapshot_age_hours == "60"


def test_without_base_path_the_variable_says_where(base, monkeypatch):
    monkeypatch.setenv("AIRFLOW_VAR_AHA_OUTPUT_PATH", str(base))
    assert plan(rules=RULES)["plan_path"].startswith(str(base))


@pytest.mark.parametrize(
    "wrong",
    [
        {"rules": []},
        {"rules": "{{ nothing }}"},
        {"rules": [{"class": "left"}]},
        {"protected_ids": ["ann@example.com"]},
        {"protected_emails": "ann"},
        {"max_snapshot_age_hours": "a day"},
        {"roster": {"path": "/roster.csv"}},
        {"exclusions": "exclusions.csv"},
        {"base_path": "relative"},
    ],
)
def test_an_argument_that_can_not_be_right_fails_without_retries(base, wrong):
    with pytest.raises(AirflowFailException):
        plan(**{"base_path": str(base), "rules": RULES, **wrong})
    assert not (base / "access").exists()


def test_a_snapshot_that_is_being_replaced_may_be_tried_again_and_one_that_is_not_there_not(tmp_path, base):
    (users,) = base.glob("users/account=*/snapshot=*/users.parquet")
    users.write_bytes(b"new")
    with pytest.raises(AhaSnapshotError, match="while it replaced the snapshot"):
        plan(base_path=str(base), rules=RULES)
    with pytest.raises(AirflowFailException, match="run aha_extract first"):
        plan(base_path=str(tmp_path / "empty"), rules=RULES)


def test_every_try_leaves_a_manifest_that_accounts_for_all_it_wrote(base):
    plan(base_path=str(base), rules=RULES)
    plan(base_path=str(base), rules=RULES)
    for manifest in base.glob("manifests/account=*/snapshot=*/manifest.json"):
        manifest.unlink()
    operator = AhaPlanAccessOperator(task_id="plan", base_path=str(base), rules=RULES)
    with pytest.raises(AirflowFailException):
        operator.execute(context("scheduled__2026-03-11"))
    account = base / "access/account=127.0.0.1"
    manifests = [json.loads(path.read_text()) for path in sorted((account / "manifests").iterdir())]
    assert [(one["action"], one["ended"]) for one in manifests] == [
        ("plan", "completed"),
        ("plan", "completed"),
        ("plan", "failed"),
    ]
    assert "run aha_extract first" in manifests[2]["reason"]
    assert verify(resolve_path(str(base)), "127.0.0.1") == []


# --- named users, reviews, undo -------------------------------------------------------------------

WHY = {"reason": "left the project", "ticket": "OPS-1"}


def user_of(server: SandboxServer, **wanted: Any) -> dict[str, Any]:
    wanted = {"enabled": True, "administrator": False, **wanted}
    return next(
        dict(user)
        for user in server.account.users()
        if all(user.get(name) == value for name, value in wanted.items())
    )


def rows_of(base: Path, result: dict[str, Any]) -> Any:
    return load_plan(resolve_path(result["plan_path"])).rows


@pytest.mark.parametrize(
    ("to", "action", "access"),
    [
        ({"enabled": False}, "deactivate", "taken"),
        ({"enabled": "false"}, "deactivate", "taken"),
        ({"email": "NEW@Example.com "}, "update", "taken"),
        ({"administrator": "true"}, "update", "given"),
        ({"administrator_roles": {"administer_billing": True}}, "update", "given"),
        ({"first_name": "Zoe", "enabled": ""}, "update", None),
    ],
)
def test_a_plan_says_what_a_user_is_to_be_and_what_it_was(base, aha_default, to, action, access):
    user = user_of(aha_default)
    result = plan(base_path=str(base), users=[user["id"]], to=to, asked_by="rita", **WHY)
    written = load_plan(resolve_path(result["plan_path"]))
    (row,) = written.rows
    assert (written.action, row.access, row.user_class, row.rule) == (action, access, "named", "left the project")
    header = written.header
    assert (header["reason"], header["ticket"], header["asked_by"]) == ("left the project", "OPS-1", "rita")
    assert (row.user_id, row.name, row.email) == (user["id"], user["name"], user["email"])
    assert row.before == {name: user[name] for name in (*row.wanted, *_rights(row)) if name in user}
    assert written.decides_access is (access is not None)


def _rights(row: Any) -> tuple[str, ...]:
    return ("administrator_roles",) if "administrator" in row.wanted else ()


def test_a_disabled_user_is_planned_to_be_enabled_and_is_in_the_table(base, aha_default):
    user = user_of(aha_default, enabled=False)
    result = plan(base_path=str(base), users=[user["email"].upper()], to={"enabled": True}, **WHY)
    (row,) = rows_of(base, result)
    assert (row.user_id, row.wanted, row.before) == (user["id"], {"enabled": True}, {"enabled": False})
    header = load_plan(resolve_path(result["plan_path"])).header
    decisions = {
        one["user_id"]: one for one in load_decisions(resolve_path(result["plan_path"]), header).to_pylist()
    }
    assert decisions[user["id"]]["decision"] == "planned"
    assert len(decisions) == header["enabled_users"] + 1


@pytest.mark.parametrize("name", ["reason", "ticket"])
@pytest.mark.parametrize(
    "blank", ["", " ", "\u00a0", "\u200b\u200b", "\n\n\n", "None", "\u2003", "\u3164", "---", None]
)
def test_a_reason_or_ticket_that_nobody_can_read_is_refused(base, aha_default, name, blank):
    with pytest.raises(AirflowFailException, match=rf"{name} (is blank|must be given)"):
        plan(base_path=str(base), users=[user_of(aha_default)["id"]], to={"enabled": False}, **{**WHY, name: blank})
    assert not (base / "access").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "Nothing was given: give one of rules, users, review, undo. On a form, User ids"),
        ({"rules": RULES, "undo": "/e/evidence.parquet"}, "rules and undo were given: give one of"),
        ({"users": ["1"]}, "users and to belong together"),
        ({"users": ["1"], "to": {"enabled": ""}}, "users and to belong together"),
        ({"undo": "/e/evidence.parquet", "to": {"enabled": True}}, "users and to belong together"),
        ({"users": [], "to": {"enabled": True}}, "names nobody"),
        (
            {"users": ["ann"], "to": {"enabled": True}},
            "users: no. 1 is neither an id, which is made of digits, nor an email",
        ),
        ({"users": ["1"], "to": {"name": "Zoe"}}, "no field name"),
        ({"users": ["1"], "to": {"enabled": "maybe"}}, "enabled must be true or false"),
        ({"users": ["1"], "to": {"email": "a@b.c d@e.f"}}, "more than one address"),
        ({"users": ["1"], "to": {"email": "ann"}}, "email has"),
        ({"review": "2026-Q9"}, "no review 2026-Q9"),
    ],
)
def test_what_is_asked_for_must_be_right(base, arguments, sentence):
    with pytest.raises(AirflowFailException, match=sentence):
        plan(base_path=str(base), **WHY, **arguments)
    assert not (base / "access").exists()


def test_names_that_can_not_be_planned_fail_the_task_and_the_plan_lists_them(base, aha_default, caplog, capfd):
    """A valid one beside them doesn't hide them, and the log never has the email."""
    caplog.set_level("INFO")
    good, off = user_of(aha_default), user_of(aha_default, enabled=False)
    users = [good["id"], off["id"], "999", "nobody@example.com"]
    protected = {"protected_ids": [good["id"]]}
    with pytest.raises(AirflowFailException) as caught:
        plan(base_path=str(base), users=users, to={"enabled": False}, **WHY, **protected)
    assert "3 of those who were named can't be changed" in str(caught.value)
    assert f"protected id (id {good['id']}); unknown (id 999); unknown" in str(caught.value)
    (path,) = base.glob("access/account=*/dag=*/run=*/plan.json")
    written = load_plan(resolve_path(str(path)))
    assert written.rows == ()
    assert {(one["asked"], one["reason"], one["must_fix"]) for one in written.header["unresolved"]} == {
        (good["id"], "protected_id", True),
        (off["id"], "already_as_wanted", False),
        ("999", "unknown", True),
        ("nobody@example.com", "unknown", True),
    }
    text = str(caught.value) + caplog.text + "".join(capfd.readouterr())
    assert "@" not in text.replace("Regular expression", "")
    assert f"User {off['id']} is not on the plan: already as wanted" in text
    account = base / "access/account=127.0.0.1"
    manifests = [json.loads(one.read_text()) for one in sorted((account / "manifests").iterdir())]
    assert (manifests[-1]["ended"], manifests[-1]["plan_sha256"]) == ("failed", written.sha256)
    assert "3 of those who were named" in manifests[-1]["reason"]


def test_a_new_email_that_another_user_has_is_not_asked_about(base, aha_default):
    one, other = (dict(user) for user in list(aha_default.account.users())[5:7])
    with pytest.raises(AirflowFailException, match="email taken"):
        plan(base_path=str(base), users=[one["id"]], to={"email": other["email"]}, **WHY)


@pytest.mark.parametrize("taken", [True, False])
def test_exclusions_keep_access_from_being_taken_and_protected_lists_from_any_change(base, aha_default, taken):
    user = user_of(aha_default, enabled=taken)
    exclusions = base / "exclusions.csv"
    exclusions.write_text(f"id,reason,owner,expires_on\n{user['id']},legal hold,Legal,\n")
    arguments = {"base_path": str(base), "users": [user["id"]], "to": {"enabled": not taken}, **WHY}
    if taken:
        with pytest.raises(AirflowFailException, match="excluded"):
            plan(**arguments, exclusions=str(exclusions))
    else:
        assert len(rows_of(base, plan(**arguments, exclusions=str(exclusions)))) == 1


def test_more_than_the_caps_allow_is_refused_to_a_form_and_not_silently_left_out(base, aha_default):
    people = [user["id"] for user in aha_default.account.users() if user["enabled"] and not user["administrator"]]
    with pytest.raises(AirflowFailException, match=r"1 of those who were named .*no room in the caps \(id \d+\)"):
        plan(base_path=str(base), users=people[:4], to={"enabled": False}, max_users=3, **WHY)


@pytest.mark.parametrize(
    "to", [{"enabled": False}, {"administrator": False}, {"administrator_roles": {"administer_account": False}}]
)
def test_the_owner_of_the_key_is_not_planned_whatever_a_form_asks_for(base, aha_default, to):
    owner = aha_default.account.owner(aha_default.key)["id"]
    with pytest.raises(AirflowFailException, match=rf"key owner \(id {owner}\)"):
        plan(base_path=str(base), users=[owner], to=to, **WHY)


def test_a_protected_user_s_name_is_not_changed_either(base, aha_default):
    user = user_of(aha_default)
    with pytest.raises(AirflowFailException, match="protected id"):
        plan(
            base_path=str(base),
            users=[user["id"]],
            to={"first_name": "Zoe"},
            protected_ids=[user["id"]],
            **WHY,
        )


@pytest.fixture
def disabled(
    aha_sandbox: SandboxServer, set_connection: Any, tmp_path: Path
) -> tuple[SandboxServer, list[str], str]:
    """A sandbox of the test's own, three users whom DAG code has disabled, and the evidence of it."""
    set_connection(aha_sandbox.connection_uri)
    people = [user["id"] for user in aha_sandbox.account.users() if user["enabled"] and not user["administrator"]]
    operator = AhaDeactivateUsersOperator(
        task_id="t", users=people[:3], base_path=str(tmp_path), dry_run=False, allow_privileged=True
    )
    return aha_sandbox, people[:3], operator.execute(context("before"))["evidence"]


def extract_again(base: Path) -> None:
    AhaExtractUsersOperator(task_id="extract", base_path=str(base)).execute(context("extract"))


def test_an_undo_is_a_plan_of_exactly_those_whom_the_run_disabled(disabled, tmp_path):
    _server, people, evidence = disabled
    extract_again(tmp_path)
    result = plan(base_path=str(tmp_path), undo=evidence, **WHY)
    written = load_plan(resolve_path(result["plan_path"]))
    assert ([row.user_id for row in written.rows], written.action) == (sorted(people), "reactivate")
    assert all(row.detail.startswith("undo of event ") and row.updated_at for row in written.rows)
    assert {(row.access, row.before["enabled"]) for row in written.rows} == {("given", False)}


def test_an_undo_leaves_whoever_was_changed_since_and_names_them(disabled, tmp_path, caplog, capfd):
    server, people, evidence = disabled
    caplog.set_level("INFO")
    server.account.edit_user(people[0], email="new@example.com")
    server.account.edit_user(people[1], enabled=True)
    extract_again(tmp_path)
    result = plan(base_path=str(tmp_path), undo=evidence, **WHY)
    assert [row.user_id for row in rows_of(tmp_path, result)] == people[2:]
    text = caplog.text + "".join(capfd.readouterr())
    assert f"User {people[0]} is not on the plan: changed since" in text
    assert f"User {people[1]} is not on the plan: already as wanted" in text


def test_evidence_of_elsewhere_undoes_nothing(disabled, tmp_path, tmp_path_factory):
    """A file of one's own would enable anybody; so would a file of another account."""
    _server, _people, evidence = disabled
    extract_again(tmp_path)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "evidence.parquet"
    other = tmp_path / "access/account=other/dag=d/run=r/task=t/evidence.parquet"
    other.parent.mkdir(parents=True)
    for path in (elsewhere, other):
        path.write_bytes(Path(evidence).read_bytes())
        with pytest.raises(AirflowFailException, match="where this package keeps the records"):
            plan(base_path=str(tmp_path), undo=str(path), **WHY)
        with pytest.raises(AirflowFailException, match="where this package keeps the records"):
            AhaReactivateUsersOperator(task_id="t", evidence=str(path), base_path=str(tmp_path)).execute(
                context("u")
            )
    with pytest.raises(AirflowFailException, match=r"evidence\.parquet below"):
        plan(base_path=str(tmp_path), undo=f"{Path(evidence).parent}/start.json", **WHY)


# --- what has changed since the last plan ---------------------------------------------------------


SETTINGS: dict[str, Any] = {
    "guards": {
        "protected_ids": ["11", "12"],
        "max_users": 25,
        "approvers": ["bob"],
        "exclusions": "{base}/not.csv",
    },
    "rules": [{"class": "unused", "inactive_days": 60, "grace_days": 0}],
    "exclusions": "id,email,reason,owner,expires_on\n11,,hold,Legal,2027-01-31\n",
}


def planned_with(base: Path, patch: pytest.MonkeyPatch, run_id: str, dag_id: str = "d", **changed: Any) -> Plan:
    """Make a plan of a DAG under some settings."""
    given = {**SETTINGS, **changed}
    (base / "not.csv").write_text(given["exclusions"])
    guards = json.dumps({**SETTINGS["guards"], **given["guards"]}).replace("{base}", str(base))
    patch.setenv("AIRFLOW_VAR_AHA_GUARDS", guards)
    where = context(run_id)
    where["ti"].dag_id = dag_id
    options = {"rules": given["rules"], **given.get("options", {})}
    task = AhaPlanAccessOperator(task_id="plan", base_path=str(base), **options)
    return load_plan(resolve_path(task.execute(where)["plan_path"]))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"guards": {"protected_ids": ["12", "13"]}}, {"protected.ids": ["removed: 11", "added: 13"]}),
        ({"guards": {"protected_emails": ["a@b.example"]}}, {"protected.emails": ["added: a@b.example"]}),
        ({"guards": {"max_users": 20}}, {"caps.max_users": ["25 before, 20 now"]}),
        ({"guards": {"approvers": ["bob", "eve"]}}, {"approvers": ["added: eve"]}),
        (
            {"rules": [{"class": "unused", "inactive_days": 30, "grace_days": 0}]},
            {"rules.unused.inactive_days": ["60 before, 30 now"]},
        ),
        ({"options": {"max_snapshot_age_hours": 48}}, {"max_snapshot_age_hours": ["24.0 before, 48.0 now"]}),
        (
            {"exclusions": "id,email,reason,owner,expires_on\n12,,hold,Legal,\n"},
            {
                "exclusion_rows": [
                    "removed: id 11 until 2027-01-31 (Legal: hold)",
                    "added: id 12 until further notice (Legal: hold)",
                ]
            },
        ),
    ],
)
def test_a_question_begins_with_what_has_changed_since_the_last_plan(
    base, monkeypatch, caplog, capfd, changed, said
):
    caplog.set_level("INFO")
    first = planned_with(base, monkeypatch, "r1")
    # A plan of another DAG goes by other settings; one of the same settings has nothing to say.
    planned_with(base, monkeypatch, "r1", dag_id="other", guards={"protected_ids": ["7"], "max_users": 9})
    assert planned_with(base, monkeypatch, "r2").header["changed"] is None
    made = planned_with(base, monkeypatch, "r3", **changed)
    found = made.header["changed"]["settings"]
    assert {name: [one["text"] for one in found if one["setting"] == name] for name in said} == said
    assert {one["setting"] for one in found} == set(said)
    asked = question(made, "ann")
    assert asked.startswith("**Changed since the last plan, of 2")
    assert asked.index("Approve") > asked.index("&#95;" if "_" in min(said) else min(said))
    assert "Changed since" not in question(first, "ann")
    log = caplog.text + "".join(capfd.readouterr())
    assert f": {', '.join(said)}" in log
    assert "a@b.example" not in log
    assert planned_with(base, monkeypatch, "r4", **changed).header["changed"] is None


def test_a_roster_with_another_column_heads_the_question(base, aha_default, tmp_path, monkeypatch):
    roster = tmp_path / "roster.csv"
    described = {"path": str(roster), "key": "nr", "emails": ["mail"], "domains": ["example.com"], "min_rows": 2}
    people = [user["email"] for user in aha_default.account.users() if user["email"].endswith("@example.com")]
    made = []
    for number, columns in enumerate(["nr,mail,left_on", "nr,mail,left_on", "nr,mail,ended_on"]):
        lines = [f"{place},{email}," for place, email in enumerate(people)]
        roster.write_text("\n".join([columns, *lines]))
        options = {"roster": {**described, "end_date": columns.split(",")[2]}}
        made.append(planned_with(base, monkeypatch, f"r{number}", rules=[{"class": "left"}], options=options))
    assert [one.header["changed"] and one.header["changed"]["settings"] for one in made] == [
        None,
        None,
        [
            {"setting": "rosters.roster.end_date", "text": "left_on before, ended_on now"},
            {"setting": "columns.roster", "text": "removed: left_on"},
            {"setting": "columns.roster", "text": "added: ended_on"},
        ],
    ]


# --- what is kept of a roster ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_plan_keeps_of_a_roster_only_what_concerns_the_users_of_the_account(
    base, aha_default, tmp_path, monkeypatch, kind
):
    roster = tmp_path / f"roster.{kind}"
    described = {"path": str(roster), "key": "nr", "emails": ["mail"], "domains": ["example.com"], "min_rows": 2}
    described |= {"end_date": "left_on", "status": "state", "left_statuses": ["gone"]}
    users = [user["email"] for user in aha_default.account.users() if user["email"].endswith("@example.com")]
    renamed, alike, *others = users

    def write(*people: tuple[str, str]) -> None:
        rows = [(nr, "50000", mail, "1984-05-17", "here", None) for nr, mail in people]
        names = ["nr", "salary", "mail", "born", "state", "left_on"]
        table = pa.table({name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)})
        if kind == "parquet":
            pq.write_table(table, roster)
        else:
            lines = [",".join(cell or "" for cell in row) for row in [names, *rows]]
            roster.write_text("\n".join(lines))

    known = [(f"K{number}", mail) for number, mail in enumerate(others)]
    twin = alike.replace("@", "+x@")
    write(("R1", renamed), ("A1", twin), *known, ("S1", "stranger@example.com"))
    planned_with(base, monkeypatch, "r1", rules=[{"class": "left"}], options={"roster": described})
    write(("R1", "other.name@example.com"), ("A1", twin), *known, ("S1", "stranger@example.com"))
    made = planned_with(base, monkeypatch, "r2", rules=[{"class": "left"}], options={"roster": described})
    kept = (Path(made.path).parent / "input-roster.csv").read_text().splitlines()
    assert kept[0] == "nr,mail,state,left_on"
    assert set(kept[1:]) == {
        "R1,other.name@example.com,here,",
        f"A1,{twin},here,",
        *(f"{nr},{mail},here," for nr, mail in known),
    }
    (header,) = made.header["rosters"]
    whole = roster.read_bytes()
    assert (header["rows"], header["sha256"]) == (len(users) + 1, hashlib.sha256(whole).hexdigest())
    everything = b"".join(path.read_bytes() for path in Path(made.path).parent.rglob("*") if path.is_file())
    assert b"stranger" not in everything
    assert verify(resolve_path(str(base)), "127.0.0.1") == []


# --- a roster by SQL -----------------------------------------------------------------------------

ROSTER = {
    "conn_id": "hr",
    "sql": "SELECT nr AS NR, mail, ends FROM people",
    "key": "nr",
    "emails": ["mail"],
    "domains": ["example.com", "example.org"],
    "end_date": "ends",
    "min_rows": 100,
}


@pytest.fixture
def people(base: Path, aha_default: SandboxServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database of everybody in the account; the first enabled person of the covered domains has left."""
    sql = pytest.importorskip("airflow.providers.common.sql.hooks.sql", reason="common.sql is not installed")
    database = base / "hr.db"

    members = {"conn_name_attr": "local_conn_id", "get_conn": lambda _: sqlite3.connect(database)}
    local_hook = type("LocalHook", (sql.DbApiHook,), members)
    users = list(aha_default.account.users())
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE people (nr INTEGER, mail TEXT, ends TEXT)")
        rows = [(number, user["email"], None) for number, user in enumerate(users)]
        connection.executemany("INSERT INTO people VALUES (?, ?, ?)", rows)
        connection.commit()
    monkeypatch.setattr(BaseHook, "get_hook", lambda *_, **__: local_hook())
    return database


def leave(database: Path, email: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE people SET ends = '2020-01-31' WHERE lower(mail) = ?", (email.lower(),))
        connection.commit()


def test_a_roster_comes_from_a_database(base, people, aha_default):
    service = ("api", "bot", "svc", "integration")
    leaver = next(
        user
        for user in aha_default.account.users()
        if user["enabled"]
        and user["email"].endswith("@example.com")
        and not any(word in f"{user['email']}{user['name']}".lower() for word in service)
    )
    leave(people, leaver["email"])
    result = plan(base_path=str(base), rules=[{"class": "left"}], roster=ROSTER)
    written = load_plan(resolve_path(result["plan_path"]))
    assert leaver["id"] in {row.user_id for row in written.rows}
    assert {row.email.lower() for row in written.rows if row.email} == {leaver["email"].lower()}
    assert written.header["rosters"][0]["rows"] == len(aha_default.account)
    kept = Path(written.path).parent / "input-roster.csv"
    assert kept.read_text().startswith("nr,mail,ends\n0,")


def test_a_connection_of_no_database_is_refused(base, monkeypatch):
    pytest.importorskip("airflow.providers.common.sql.hooks.sql", reason="common.sql is not installed")
    monkeypatch.setattr(BaseHook, "get_hook", lambda *_, **__: BaseHook())
    with pytest.raises(AirflowFailException, match="no SQL database"):
        plan(base_path=str(base), rules=[{"class": "left"}], roster=ROSTER)


def test_the_database_is_not_asked_without_a_rule_that_needs_it(base, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(BaseHook, "get_hook", refuse)
    assert plan(base_path=str(base), rules=RULES, roster=ROSTER)["counts"]["planned"]["left"] == 0


# --- S3 ------------------------------------------------------------------------------------------


def test_plans_are_made_and_found_again_on_s3(s3_url, aha_default):
    AhaExtractUsersOperator(task_id="extract", base_path=s3_url).execute(context())
    rules = [{"class": "unused", "inactive_days": 60, "grace_days": 14}]
    result = plan(base_path=s3_url, rules=rules)
    assert result["plan_path"].startswith(f"{s3_url}/access/account=127.0.0.1/")
    location = resolve_path(result["plan_path"])
    assert load_plan(location).sha256 == result["plan_sha256"]
    assert plan(base_path=s3_url, rules=rules) == result
    operator = AhaPlanAccessOperator(task_id="plan", base_path=s3_url, rules=rules)
    next_run = operator.execute(context("scheduled__2026-03-11"))
    assert next_run["counts"]["spared"]["grace"] == result["counts"]["spared"]["grace"] > 0
