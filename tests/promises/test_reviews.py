"""Reviews: who decides about whom, which ids are taken, which files are alike. The expectations are data."""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from airflow_provider_aha.common.persons import People
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaGuardError
from airflow_provider_aha.record.run import Run
from airflow_provider_aha.review import records
from airflow_provider_aha.review.records import check_new_id
from airflow_provider_aha.store.layout import Layout
from tests.review.test_reviews import Sheet

PROMISES = yaml.safe_load((Path(__file__).parent / "reviews.yaml").read_text())
PEOPLE = {
    who: {"user_id": person["id"], "user_name": person["name"], "user_email": person["email"]}
    for who, person in PROMISES["people"].items()
}


def named(cases: list[dict[str, Any]]) -> dict[str, Any]:
    return {"argvalues": cases, "ids": [case["name"] for case in cases]}


# --- who decides about whom ----------------------------------------------------------------------


@pytest.mark.parametrize("case", **named(PROMISES["same_person"]))
def test_people_are_compared_and_not_what_they_write(case):
    people = People(PEOPLE.values())
    asks = people.submits if case.get("written") == "login" else people.decides
    found = asks(case["text"], PEOPLE[case["person"]]["user_id"])
    assert ("same" if found else "other") == case["expect"], case["why"]


# --- ids -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("review_id", PROMISES["review_ids"]["accepted"])
def test_an_id_that_spreadsheets_leave_alone_is_taken(review_id):
    assert Layout("acme").review(review_id)
    check_new_id(review_id)


@pytest.mark.parametrize("case", PROMISES["review_ids"]["refused"], ids=lambda case: case["id"])
def test_an_id_that_a_spreadsheet_changes_opens_no_review(desk, case):
    with pytest.raises(AhaConfigurationError, match="spreadsheet program would change"):
        desk.report(case["id"])
    assert not list(desk.folder.glob("aha/reviews/**/*"))
    assert not list(desk.folder.glob("aha/access/**/*"))


@pytest.mark.parametrize("case", **named(PROMISES["found_by_hash"]))
def test_a_review_under_such_an_id_is_found_by_its_population(desk, monkeypatch, case):
    monkeypatch.setattr(records, "check_new_id", lambda _: None)
    desk.report(case["opened"])
    sheet = Sheet(desk, case["opened"])
    for row in sheet.rows:
        row["review_id"] = case["file"]
    if case["expect"] == "found":
        assert sheet.submit()["review_id"] == case["opened"], case["why"]
    else:
        with pytest.raises(AhaConfigurationError):
            sheet.submit()


# --- who decides ---------------------------------------------------------------------------------


@pytest.fixture
def opened(small, someone):
    """An open review of a few people: its file, decided by somebody who isn't among them."""
    desk = small(
        [someone(10, "First1 Last1"), someone(11, "Jürgen Groß", email="jgross@example.com"), someone(12, "Ann")]
    )
    desk.report("2026-Q4")
    return Sheet(desk)


def submitted(sheet: Sheet, login: str = "carol", body: bytes | None = None) -> Any:
    return sheet.submit(body, Run("aha_submit_review", "s1", "submit", 1, login))


@pytest.mark.parametrize("case", **named(PROMISES["no_reviewer"]))
def test_a_row_without_a_reviewer_is_decided_by_the_login_or_by_nobody(opened, case):
    opened.decide("keep", reviewer=case.get("written", ""))
    if case["expect"] == "recorded":
        submitted(opened, case["login"])
        (path,) = opened.desk.folder.glob("aha/reviews/**/decisions.parquet")
        assert set(pq.read_table(path).column("reviewer").to_pylist()) == {case["reviewer"]}
    else:
        with pytest.raises(AhaGuardError, match="have no reviewer"):
            submitted(opened, case["login"])


@pytest.mark.parametrize("case", **named(PROMISES["own_rows"]))
def test_a_login_submits_its_own_rows_only_as_open(opened, case):
    mine = [row for row in opened.rows if row["email"] == "jgross@example.com"]
    opened.decide(case["decision"], mine)
    if case["expect"] == "recorded":
        record = submitted(opened, "CORP\\JGross")
        assert record["reviewed"] == record["rows"] - len(mine)
    else:
        with pytest.raises(AhaGuardError, match="about the person who submits the file") as caught:
            submitted(opened, "CORP\\JGross")
        assert "gross" not in str(caught.value).lower()


@pytest.mark.parametrize("written", ["First1  Last1", "Last1, First1", "First1 Last1 <u10@example.com>", "X\\u10"])
def test_a_file_in_which_somebody_decided_about_themselves_is_refused(opened, written):
    opened.decide("keep", [row for row in opened.rows if row["email"] == "u10@example.com"], reviewer=written)
    with pytest.raises(AhaGuardError, match="by the person that they are about") as caught:
        submitted(opened)
    assert "last1" not in str(caught.value).lower()
    assert not list(opened.desk.folder.glob("aha/reviews/**/submission.json"))


# --- files ---------------------------------------------------------------------------------------


def written_as(sheet: Sheet, case: dict[str, Any]) -> bytes:
    """Return the file of decisions as the case says that it came back."""
    rows = [dict(row) for row in sheet.rows]
    names = list(rows[0])
    for row in rows:
        row["note"] = "two\nlines; geprüft"
        if case.get("facts_changed"):
            row |= {"person": "", "email": "=broken", "last_seen": "11/20/26"}
        if "extra_column" in case:
            row[case["extra_column"]] = "OPS-1"
    rows[0] |= case.get("changed", {})
    names = list(rows[0])[:: -1 if case.get("columns_reversed") else 1]
    random.Random(1).shuffle(rows) if case.get("shuffled") else None
    newline = case.get("newline", "\r\n")
    # Python's writer would leave a line break of another kind in a cell without quotes.
    quoting: Any = csv.QUOTE_ALL if newline == "\r" else csv.QUOTE_MINIMAL
    text = io.StringIO()
    writer = csv.DictWriter(
        text, names, delimiter=case.get("delimiter", ","), lineterminator=newline, quoting=quoting
    )
    writer.writeheader()
    writer.writerows(rows)
    first, last = ([case[key]] if key in case else [] for key in ("first", "last"))
    whole = newline.join([*first, text.getvalue().rstrip("\r\n"), *last, ""])
    if case.get("pasted"):
        # What a browser's field makes of it, and a form of text.
        whole = whole.replace("\r\n", "\n").strip()
    body = (case.get("prefix", "") + whole).encode(case.get("encoding", "utf-8-sig"), "replace")
    return body[: case.get("cut", len(body))] or b"\n"


@pytest.mark.parametrize("case", **named(PROMISES["files"]))
def test_a_file_is_read_whatever_it_was_saved_as(opened, case):
    if case["expect"] == "refused":
        with pytest.raises(AhaConfigurationError, match=case["says"]):
            submitted(opened, body=written_as(opened, case))
        assert not list(opened.desk.folder.glob("aha/reviews/**/submission.json"))
        return
    first = submitted(opened, body=written_as(opened, {}))
    body = written_as(opened, case)
    if case["expect"] == "other":
        with pytest.raises(AhaGuardError, match="were submitted before"):
            submitted(opened, body=body)
        return
    # By another login, who may be anybody now: nothing is decided again.
    assert submitted(opened, "u10@example.com", body) == first, case["why"]
    (path,) = opened.desk.folder.glob("aha/reviews/**/submission.json")
    path.unlink()
    again = submitted(opened, body=body)
    assert again["decisions_sha256"] == first["decisions_sha256"]
