"""The figures, computed another way: SQL over the same Parquet."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from airflow_provider_aha.report.build import SUMMARY

AS_OF = "(select max(synced_at) from users)"
MAY_SIGN_IN = "coalesce(is_enabled, 1)"
# Whole days; SQLite's are fractions.
OLD = f"julianday({AS_OF}) - julianday(created_at) >= 60"
UNUSED = f"occupies_seat and (days_inactive >= 60 or (activity_status = 'never_seen' and {OLD}))"
RIGHTS = "(is_administrator or administers_account or administers_billing or administers_configuration)"

QUERIES = {
    "users": "select count(*) from users",
    "may_sign_in": f"select count(*) from users where {MAY_SIGN_IN}",
    "disabled": "select count(*) from users where not is_enabled",
    "seats_in_use": "select count(*) from users where is_enabled and is_paid_seat",
    "seats_free": "select 400 - count(*) from users where is_enabled and is_paid_seat",
    "seats_unused": f"select count(*) from users where {UNUSED}",
    "administrators": f"select count(*) from users where {MAY_SIGN_IN} and {RIGHTS}",
    "never_seen_long": f"select count(*) from users where {MAY_SIGN_IN} and accessed_at is null and {OLD}",
    "workspaces": f"""
        select count(distinct workspace_id) from user_roles join users on users.id = user_id
        where {MAY_SIGN_IN} and coalesce(role, '') <> 'none'""",
    "rows": f"""
        select (select count(*) from user_roles join users on users.id = user_id
                where {MAY_SIGN_IN} and coalesce(role, '') <> 'none')
             + (select sum(administers_account + administers_billing + administers_configuration)
                from users where {MAY_SIGN_IN})
             + (select count(*) from users where {MAY_SIGN_IN} and not {RIGHTS} and not exists
                (select 1 from user_roles where user_id = users.id and coalesce(role, '') <> 'none'))""",
    "sole_owned_workspaces": f"""
        select count(*) from (select workspace_id from user_roles join users on users.id = user_id
        where role = 'product_owner' and {MAY_SIGN_IN} group by workspace_id having count(distinct user_id) = 1)""",
}


@pytest.fixture
def figures(desk):
    return desk.report()["figures"]


@pytest.mark.parametrize("name", QUERIES)
def test_figure_is_what_sql_says(desk, figures, name):
    (expected,) = desk.sql().execute(QUERIES[name]).fetchone()
    assert figures[name] == expected
    assert expected > 0


def test_seats_by_activity_are_what_sql_says(desk, figures):
    query = "select activity_status, count(*) from users where is_enabled and is_paid_seat group by 1"
    expected = dict(desk.sql().execute(query).fetchall())
    assert {name: seats for name, seats in figures["seats_by_activity"].items() if seats} == expected


def test_the_chart_the_tile_and_the_sentence_reconcile(desk, figures):
    seats = figures["seats_by_activity"]
    unused = (
        sum(seats[name] for name in ("inactive_60", "inactive_90", "never_seen")) - figures["seats_never_seen_new"]
    )
    assert figures["seats_unused"] == unused
    page = (desk.folder / "aha" / "reports/account=acme/snapshot=2026-11-20/access_review.html").read_text()
    page = re.sub(r"</?span>", "", page)
    others = figures["seats_reclaimable"] - unused
    assert others > 0
    assert f"{figures['seats_reclaimable']} seats ({unused} unused and {others} more of leavers)" in page
    (seated,) = desk.sql().execute(f"select count(*) from users where {UNUSED} and accessed_at is null").fetchone()
    assert figures["never_seen_long"] > seated > 0
    assert f"created at least 60 days ago; {seated} with a paid seat" in page
    assert f"airflow_provider_aha.verify {desk.folder}/aha</pre>" in page


def test_leavers_are_those_whose_end_date_is_over(desk, figures):
    assert figures["leavers"] == 4
    summary = json.loads((desk.folder / "aha" / f"reports/account=acme/snapshot=2026-11-20/{SUMMARY}").read_text())
    assert summary["attention"]["leaver"] == 4
    assert 0 < summary["attention"]["seen_after_leave"] <= 4
    assert "4 leavers still have access" in summary["sentence"]


def test_money_is_three_figures(desk):
    figures = desk.report()["figures"]
    assert figures["reclaimable_a_year"] == 900 * figures["seats_reclaimable"]
    assert figures["seats_unused"] <= figures["seats_reclaimable"] <= figures["seats_unused"] + 4
    assert (figures["seats_given_back"], figures["realised_a_year"]) == (0, 0)


def test_changes_are_against_the_snapshot_before(desk):
    summary = desk.report()
    before = sorted(desk.folder.glob("aha/users/account=*/snapshot=*/*.parquet"))[-2]
    seats = sum(bool(seat) for seat in pq.read_table(before, partitioning=None)["occupies_seat"].to_pylist())
    assert summary["compared_with"] == "2026-11-13"
    assert summary["changes"]["seats_in_use"] == summary["figures"]["seats_in_use"] - seats


def test_never_seen_counts_from_the_day_that_the_account_was_created(small, someone):
    # The snapshot is of 05:00 on 2026-11-20; 60 days before it was 05:00 on 2026-09-21.
    moments = ("2026-09-21T05:00:00.000Z", "2026-09-21T05:00:01.000Z", "2026-11-01T00:00:00.000Z")
    users = [
        someone(number, "Ada", accessed_at=None, created_at=created) for number, created in enumerate(moments, 10)
    ]
    figures = small(users).report()["figures"]
    assert (figures["never_seen_long"], figures["seats_unused"], figures["seats_never_seen_new"]) == (1, 1, 2)


def test_without_decisions_nothing_is_reviewed_and_nothing_waits(desk):
    desk.report("2026-Q4")
    figures = desk.report(run_id="r2")["figures"]
    assert (figures["reviewed"], figures["decisions_open"]) == (0, figures["rows"])
    assert (figures["tasks_open"], figures["tasks_done"], figures["oldest_task_days"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("kind", "name", "shown"),
    [("saml", "Okta", "Okta (saml)"), (None, "Okta", "Okta"), ("saml", None, "saml"), (None, None, "")],
)
def test_how_somebody_signs_in_is_told_as_far_as_it_is_known(small, someone, page_data, kind, name, shown):
    desk = small([someone(10, "Ada", identity_provider={"type": kind, "name": name})])
    data = page_data(Path(desk.report()["page"]))
    assert data["words"][data["people"]["signIn"][0]] == shown
