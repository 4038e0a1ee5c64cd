"""What lies in the page and beside it, without a browser."""

import csv
import html as html_of
import io
import json
import re
import shlex
from pathlib import Path

import pytest

from airflow_provider_aha.report.build import make_report
from airflow_provider_aha.store.store import Store


@pytest.fixture
def hostile(hostile_desk):
    return Path(hostile_desk.report(seats_purchased=20)["page"])


def test_only_the_pages_own_scripts_and_marks_are_in_it(hostile):
    html = hostile.read_text(encoding="utf-8")
    assert len(re.findall(r"<script", html)) == 4
    assert "<img" not in html
    assert "<b>&amp;amp;" not in html
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    assert "script-src &#39;sha256-" in policy
    assert policy.count("sha256-") == 3


def test_nothing_hides_in_the_page_or_the_table(hostile):
    hidden = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\u200b\u202a-\u202e\u2066-\u2069]")
    assert not hidden.search(re.sub(r"<script>.*?</script>", "", hostile.read_text("utf-8"), flags=re.DOTALL))
    assert not hidden.search(hostile.with_name("access_review.csv").read_text("utf-8"))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_no_cell_of_the_table_is_a_formula_whatever_a_spreadsheet_splits_at(hostile, delimiter):
    text = hostile.with_name("access_review.csv").read_text("utf-8-sig")
    for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
        for cell in row:
            assert not re.match(r"\s*[=+\-@＝＋－＠]", cell), cell


def test_data_of_the_page_is_what_the_table_has(hostile, page_data):
    data = page_data(hostile)
    rows = list(csv.DictReader(io.StringIO(hostile.with_name("access_review.csv").read_text("utf-8-sig"))))
    people, keys = data["people"], data["rows"]["key"]
    places = data["rows"]["person"]
    assert [f"u{people['id'][p]}.{data['words'][k]}" for p, k in zip(places, keys, strict=True)] == [
        row["row_key"] for row in rows
    ]
    assert len(rows) > 10


def test_a_page_without_data_says_what_to_provide(small, someone):
    desk = small([someone(10, "Ada")])
    html = Path(desk.report(seats_purchased=None, seat_price=None, renewal_date=None)["page"]).read_text("utf-8")
    html = re.sub(r"</?span>", "", html)
    for missing in (
        "Set the Variable aha_seats_purchased to compare.",
        "Set the Variables aha_seat_price and aha_renewal_date for the money.",
        "Set the Variable aha_roster to compare with who works here.",
        "with a review id",
    ):
        assert missing in html
    html = re.sub(
        r"</?span>", "", Path(desk.report(seats_purchased=None, renewal_date=None)["page"]).read_text("utf-8")
    )
    assert "set the Variable aha_renewal_date for the day" in html


def test_how_to_verify_stands_in_the_appendix_only(small, someone):
    html = Path(small([someone(10, "Ada")]).report()["page"]).read_text("utf-8")
    command = "python -m airflow_provider_aha.verify"
    assert command not in html.partition('id="appendix"')[0]
    assert command in html.partition('id="appendix"')[2]


def test_a_large_page_carries_what_needs_attention_and_says_so(desk, page_data):
    whole = page_data(Path(desk.report()["page"]))
    total = len(whole["rows"]["person"])
    summary = desk.report(thresholds={"max_rows": total - 1})
    assert summary["figures"]["rows"] == total
    page = page_data(Path(summary["page"]))
    shown = len(page["rows"]["person"])
    html = Path(summary["page"]).read_text("utf-8")
    assert f"This page carries the {shown:,} rows that need attention. All {total:,} are in" in html
    assert 0 < shown < page["total"] == total
    lacking = {page["people"]["id"][n] for n in page["rows"]["person"]} ^ set(whole["people"]["id"])
    by_id = dict(zip(whole["people"]["id"], range(len(whole["people"]["id"])), strict=True))
    assert all(not whole["people"]["flags"][by_id[one]] & (1 << len(whole["attention"])) - 1 for one in lacking)
    assert all(whole["words"][whole["people"]["suggestion"][by_id[one]]] == "keep" for one in lacking)


def test_a_page_has_no_more_rows_than_it_may_even_of_those_that_need_attention(desk, page_data):
    summary = desk.report(thresholds={"max_rows": 100})
    html = Path(summary["page"]).read_text("utf-8")
    assert re.search(r"This page carries 100 of the [\d,]+ rows that need attention", html)
    data = page_data(Path(summary["page"]))
    assert len(data["rows"]["person"]) == 100
    with Path(summary["page"]).with_name("access_review.csv").open(encoding="utf-8-sig", newline="") as file:
        assert len(list(csv.DictReader(file))) == summary["figures"]["rows"]


@pytest.mark.parametrize(("days", "is_overdue"), [(14, True), (15, False)])
def test_page_and_figures_say_when_no_review_was_ever_submitted_in_time(desk, days, is_overdue):
    summary = desk.report(thresholds={"review_every_days": days})
    html = Path(summary["page"]).read_text("utf-8")
    assert json.loads(Path(summary["page"]).with_name("access_summary.json").read_bytes())["control"] == {
        "review_every_days": days,
        "current_review": None,
        "state": None,
        "last_submitted_at": None,
        # The first snapshot is of 2026-11-06.
        "due_on": f"2026-11-{6 + days}",
        "overdue": is_overdue,
    }
    assert ("A review was due on 2026-11-20" in html) is is_overdue
    assert ("none has been submitted yet" in html) is is_overdue
    assert summary["sentence"].endswith("; the review is overdue.") is is_overdue


def test_the_verify_command_is_one_that_a_shell_understands(desk):
    base = Store(desk.location.fs, desk.location.path, "/data/our aha; rm -r $HOME")
    make_report(base, desk.asked(), now=lambda: desk.now)
    html = (desk.folder / "aha/reports/account=acme/snapshot=2026-11-20/access_review.html").read_text("utf-8")
    commands = re.findall(r"<(?:code|pre)>(python -m airflow_provider_aha.verify .*?)</", html)
    assert len(commands) == 1
    for command in commands:
        assert shlex.split(html_of.unescape(command))[2:] == ["airflow_provider_aha.verify", base.url]


def test_the_appendix_has_definitions_policy_completeness_manifest_and_sign_off(desk):
    html = Path(desk.report(thresholds={"inactive_days": 45, "review_every_days": 30})["page"]).read_text("utf-8")
    appendix = html.partition('id="appendix-title"')[2].partition("</section>")[0]
    manifest = next(desk.folder.glob("aha/manifests/account=*/snapshot=2026-11-20/manifest.json")).read_text()
    assert json.loads(html_of.unescape(appendix.partition("whole</summary><pre>")[2].partition("</pre>")[0])) == (
        json.loads(manifest)
    )
    text = html_of.unescape(re.sub("<[^>]+>", "", appendix))
    for said in (
        "was not seen for 45 days, or was never seen and was created at least 60 days ago",
        "Due every 30 days. Decisions are taken for 14 days",
        "Nobody by name: no exclusion file was given.",
        "By the roster roster, ",
        "400 seats purchased, 900 EUR each a year, renewed on 2027-01-31",
        "Aha! reported 500 users on the first page and 500 on the last; 500 came, with 500 different ids",
        "Second signature",
    ):
        assert said in text, said
