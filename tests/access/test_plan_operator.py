"""The planning operator: text as arguments, a roster by SQL, plans on S3, and nothing asked of Aha!."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, BaseHook

from airflow_provider_aha.access.plan.plan import load_plan
from airflow_provider_aha.exceptions import AhaSnapshotError
from airflow_provider_aha.hooks.paths import resolve_path
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator
from airflow_provider_aha.operators.plan import AhaPlanAccessOperator
from airflow_provider_aha.record.check import verify
from airflow_provider_aha.sandbox.testing import SandboxServer

RULES = [{"class": "unused", "inactive_days": 60, "grace_days": 0}]


def context(run_id: str = "manual__2026-03-10T03:40:00+00:00") -> dict[str, Any]:
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
    written = load_plan(resolve_path(str(base)).fs, result["plan_path"])
    assert result == {
        "account": "127.0.0.1",
        "plan_path": str(
            base
            / "deactivations/account=127.0.0.1/dag=aha_reclaim_seats"
            / "run=manual__2026-03-10T03%3A40%3A00%2B00%3A00/plan.json"
        ),
        "plan_sha256": written.sha256,
        "counts": written.counts,
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
    assert not (base / "deactivations").exists()


def test_what_a_retry_may_cure_is_retried(tmp_path, aha_default):
    with pytest.raises(AhaSnapshotError):
        plan(base_path=str(tmp_path), rules=RULES)


def test_every_try_leaves_a_manifest_that_accounts_for_all_it_wrote(base):
    plan(base_path=str(base), rules=RULES)
    plan(base_path=str(base), rules=RULES)
    for manifest in base.glob("manifests/account=*/snapshot=*/manifest.json"):
        manifest.unlink()
    operator = AhaPlanAccessOperator(task_id="plan", base_path=str(base), rules=RULES)
    with pytest.raises(AhaSnapshotError):
        operator.execute(context("scheduled__2026-03-11"))
    account = base / "deactivations/account=127.0.0.1"
    manifests = [json.loads(path.read_text()) for path in sorted((account / "manifests").iterdir())]
    assert [(one["action"], one["ended"]) for one in manifests] == [
        ("plan", "completed"),
        ("plan", "completed"),
        ("plan", "failed"),
    ]
    assert "run aha_extract first" in manifests[2]["reason"]
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
    written = load_plan(resolve_path(str(base)).fs, result["plan_path"])
    assert leaver["id"] in {row.user_id for row in written.rows}
    assert {row.email.lower() for row in written.rows if row.email} == {leaver["email"].lower()}
    assert written.header["rosters"][0]["rows"] == len(aha_default.account)
    kept = Path(written.path).parent / "input-roster.csv"
    assert kept.read_text().startswith("NR,mail,ends\n0,")


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
    assert result["plan_path"].startswith(f"{s3_url}/deactivations/account=127.0.0.1/")
    location = resolve_path(result["plan_path"])
    assert load_plan(location.fs, location.path).sha256 == result["plan_sha256"]
    assert plan(base_path=s3_url, rules=rules) == result
    operator = AhaPlanAccessOperator(task_id="plan", base_path=s3_url, rules=rules)
    next_run = operator.execute(context("scheduled__2026-03-11"))
    assert next_run["counts"]["spared"]["grace"] == result["counts"]["spared"]["grace"] > 0
