"""The operator and its DAG in a real Airflow."""

import csv
import json
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import XCom

from airflow_provider_aha.operators.links import REPORT_KEY, AccessReportLink

DAGS = Path(__file__).parents[2] / "dags"


@pytest.fixture
def dag(registered, run_dag, aha_default, tmp_path, monkeypatch):
    """The DAG, with a base path with a snapshot as the Variable."""
    monkeypatch.setenv("AIRFLOW_VAR_AHA_OUTPUT_PATH", str(tmp_path / "aha"))
    assert run_dag(registered(DAGS / "aha_extract.py")["aha_extract"]).state == "success"
    return registered(DAGS / "aha_access_review.py")["aha_access_review"]


def test_dag_makes_page_table_and_figures(dag, run_dag, tmp_path, monkeypatch, everything_logged):
    monkeypatch.setenv("AIRFLOW_VAR_AHA_SEAT_PRICE", "1200")
    monkeypatch.setenv("AIRFLOW_VAR_AHA_SEATS_PURCHASED", "500")
    run = run_dag(dag)
    assert run.state == "success"
    summary = run.xcom("report")
    page = Path(summary["page"])
    assert page.is_relative_to(tmp_path / "aha" / "reports")
    written = json.loads(page.with_name("access_summary.json").read_text())
    assert {**written, "page": str(page)} == summary
    assert summary["figures"]["reclaimable_a_year"] == 1200 * summary["figures"]["seats_reclaimable"]
    assert summary["sandbox"] is True
    assert "SANDBOX DATA" in page.read_text("utf-8")
    said = everything_logged()
    assert summary["sentence"] in said
    with page.with_name("access_review.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all("SANDBOX DATA" in row["account"] for row in rows)
    emails = {row["email"] for row in rows if row["email"]}
    assert len(emails) > 100
    assert not [email for email in emails if email in said or email in json.dumps(summary)]


def test_without_a_snapshot_it_fails_at_once(registered, run_dag, aha_default, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_VAR_AHA_OUTPUT_PATH", str(tmp_path / "nothing"))
    run = run_dag(registered(DAGS / "aha_access_review.py")["aha_access_review"])
    assert run.state == "failed"
    assert run.instance("report").state == "failed"
    assert not (tmp_path / "nothing").exists()


def test_task_leads_to_the_page(dag, run_dag, airflow_2, monkeypatch):
    run = run_dag(dag, {"review_id": "2026-Q4"})
    found = run.instance("report").xcom_pull(task_ids="report", key=REPORT_KEY)
    account, day = found["account"], found["snapshot"]
    monkeypatch.setattr(XCom, "get_value", lambda **_: found)
    link = AccessReportLink().get_link(None, ti_key=None)
    assert link == "" if airflow_2 else link.endswith(f"/aha-reports/{account}/review/2026-Q4/access_review.html")
    monkeypatch.setenv("AHA_REPORTS_URL", "https://reports.example.com/aha/")
    folder = f"https://reports.example.com/aha/reviews/account={account}/review=2026-Q4"
    assert AccessReportLink().get_link(None, ti_key=None) == f"{folder}/access_review.html"
    found["review_id"] = None
    folder = f"https://reports.example.com/aha/reports/account={account}/snapshot={day}"
    assert AccessReportLink().get_link(None, ti_key=None) == f"{folder}/access_review.html"
    for forged in (
        None,
        "x",
        {},
        {"account": "../x", "snapshot": day},
        {"account": account, "snapshot": "javascript:"},
    ):
        monkeypatch.setattr(XCom, "get_value", lambda forged=forged, **_: forged)
        assert AccessReportLink().get_link(None, ti_key=None) == ""
