"""The DAG aha_submit_review in a real Airflow: what the page's CSV becomes."""

import csv
import io
import json
from pathlib import Path

import pytest

from airflow_provider_aha.access.plan.plan import load_plan
from airflow_provider_aha.access.plan.words import question
from airflow_provider_aha.hooks.paths import resolve_path

DAGS = Path(__file__).parents[2] / "dags"


@pytest.fixture
def review(registered, run_dag, aha_sandbox, set_connection, tmp_path, monkeypatch):
    """An open review of an account of 60 users; its rows, all to be kept."""
    monkeypatch.setenv("AIRFLOW_VAR_AHA_OUTPUT_PATH", str(tmp_path / "aha"))
    set_connection(aha_sandbox.connection_uri)
    assert run_dag(registered(DAGS / "aha_extract.py")["aha_extract"]).state == "success"
    report = registered(DAGS / "aha_access_review.py")["aha_access_review"]
    assert run_dag(report, {"review_id": "2026-Q4"}).state == "success"
    (path,) = tmp_path.glob("aha/reviews/account=*/review=2026-Q4/access_review.csv")
    rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline="")))
    for row in rows:
        row |= {"decision": "keep", "reviewer": "Rita Reviewer"}
    return rows


@pytest.fixture
def submit(registered, run_dag, tmp_path):
    dag = registered(DAGS / "aha_submit_review.py")["aha_submit_review"]

    def run(rows):
        file = tmp_path / "decisions.csv"
        with file.open("w", newline="", encoding="utf-16") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), delimiter=";")
            writer.writeheader()
            writer.writerows(rows)
        return run_dag(dag, {"file": str(file)})

    return run


def test_revoked_accounts_become_a_plan_that_a_dry_run_shows(review, submit, aha_sandbox, tmp_path, airflow_2):
    user_id = next(row["row_key"].split(".")[0][1:] for row in review if row["suggestion"] == "revoke account")
    for row in review:
        if row["row_key"].startswith(f"u{user_id}."):
            row |= {"decision": "revoke account", "note": "moved to sales"}
    run = submit(review)
    assert run.state == "success"
    assert run.xcom("submit")["revoke_accounts"] == [user_id]
    plan = json.loads(Path(run.xcom("plan")["plan_path"]).read_text())
    assert [(row["user_id"], row["class"]) for row in plan["rows"]] == [(user_id, "named")]
    loaded = load_plan(resolve_path(run.xcom("plan")["plan_path"]))
    shown = question(loaded, "carla")
    for words in (
        "- Review: 2026-Q4, submitted by ",
        "- Reason: decided by the review 2026-Q4",
        "- Ticket: review 2026-Q4",
        "review 2026-Q4: decided by a review",
        "decided by Rita Reviewer; note: moved to sales |",
    ):
        assert words in shown, words
    assert run.xcom("preview")["users"] == {user_id: "dry_run"}
    if not airflow_2:
        assert run.instance("approve").state == run.instance("carry_out").state == "skipped"
    assert aha_sandbox.account.user(user_id)["enabled"] is True


def test_without_revoked_accounts_nothing_is_planned(review, submit, everything_logged):
    run = submit(review)
    assert run.state == "success"
    assert run.instance("plan").state == "skipped"
    assert not [row["email"] for row in review if row["email"] and row["email"] in everything_logged()]


def test_the_same_decisions_by_path_and_pasted_into_the_form_are_one_submission(
    review, submit, registered, run_dag
):
    first = submit(review).xcom("submit")
    text = io.StringIO()
    writer = csv.DictWriter(text, list(review[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(review)
    dag = registered(DAGS / "aha_submit_review.py")["aha_submit_review"]
    again = run_dag(dag, {"text": f"\n{text.getvalue()}\n\n"})
    assert again.state == "success"
    assert again.xcom("submit") == first
    other = run_dag(dag, {"text": text.getvalue().replace("Rita Reviewer", "Rita Other")})
    assert other.instance("submit").state == "failed"


def test_a_refused_file_fails_at_once(review, submit, tmp_path):
    run = submit(review[1:])
    assert run.state == "failed"
    assert run.instance("submit").state == "failed"
    assert not list(tmp_path.glob("aha/reviews/**/submission.json"))
