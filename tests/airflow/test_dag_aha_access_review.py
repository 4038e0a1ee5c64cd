"""The operator and its DAG in a real Airflow."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import XCom

from airflow_provider_aha.operators.links import REPORT_KEY, AccessReportLink
from airflow_provider_aha.review.terms import COLUMNS, SECTIONS

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


PAGE = {
    "title": "From the Variable",
    "sections": ["table"],
    "columns": ["person", "role"],
    "filters": {"seat": "paid"},
}


def data_of(summary: Any) -> Any:
    html = Path(summary["page"]).read_text("utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    (title,) = re.findall("<h1>(.*?)</h1>", html)
    data = json.loads(data)
    sections = re.findall(r'<section id="(\w+)"', html)
    return title, sections, data["columns"], data["filters"]


def test_how_the_page_looks_comes_from_the_form_else_from_the_variable(dag, run_dag, monkeypatch):
    plain = data_of(run_dag(dag).xcom("report"))
    assert plain == ("Access review", list(SECTIONS), list(COLUMNS), {})
    monkeypatch.setenv("AIRFLOW_VAR_AHA_REVIEW_PAGE", json.dumps(PAGE))
    assert data_of(run_dag(dag).xcom("report")) == (
        "From the Variable",
        ["table"],
        ["person", "role"],
        {"seat": "paid"},
    )
    form = {"title": "It's <mine>", "columns": ["email", "person"], "first_filter": "leaver"}
    assert data_of(run_dag(dag, form).xcom("report")) == (
        "It&#39;s &lt;mine&gt;",
        ["table"],
        ["person", "email"],
        {"chip": "leaver"},
    )


@pytest.mark.parametrize(
    ("variable", "sentence"),
    [
        ('{"colums": []}', "The Variable aha_review_page has what there isn't: no. 1 (did you mean columns?)"),
        ('{"columns": ["email", "persons"]}', "columns has what there isn't: no. 2 (did you mean person?)."),
        ('{"sections": ["tabel"]}', "sections has what there isn't: no. 1 (did you mean table?). There are charts"),
        ('{"filters": {"chip": "leavers"}}', "filters.chip has what there isn't: no. 1 (did you mean leaver?)"),
        ("[]", "The Variable aha_review_page must be a JSON object."),
        ("{", "The Variable aha_review_page must be a JSON object."),
    ],
)
def test_a_page_that_cannot_be_right_fails_at_once(
    dag, run_dag, monkeypatch, everything_logged, variable, sentence, tmp_path
):
    monkeypatch.setenv("AIRFLOW_VAR_AHA_REVIEW_PAGE", variable)
    run = run_dag(dag)
    assert run.instance("report").state == "failed"
    assert sentence in everything_logged()
    assert not list(tmp_path.glob("aha/reports/**/*"))


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
