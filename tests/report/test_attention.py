"""Who needs attention, and why: each reason by users who have it and users who have nearly it."""

import csv
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.exceptions import AhaConfigurationError, AhaSnapshotError
from airflow_provider_aha.lists.matching import UserMatcher
from airflow_provider_aha.lists.roster import Rosters
from airflow_provider_aha.review.terms import ATTENTION
from airflow_provider_aha.sandbox.account import Account
from airflow_provider_aha.store.store import Store

UNSEEN = {"accessed_at": "2026-03-01T00:00:00.000Z"}


def shared(number):
    """A role in the workspace that everybody is in."""
    return {
        "product_roles": [
            {"role": number, "role_description": "Owner", "product_id": "6100", "product_name": "Shared"}
        ]
    }


@pytest.fixture
def look(small):
    """Call it with users, and rows of an exclusion file, for what the report says of each person."""

    def make(*users, exclusions=(), before=(), **given):
        desk = small([])
        desk.given |= given
        if exclusions:
            path = desk.folder / "exclusions.csv"
            with path.open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["id", "email", "pattern", "reason", "owner", "expires_on"])
                writer.writerows(exclusions)
            desk.given["exclusions"] = [Store(LocalFileSystem(), str(path), str(path))]
        for moment, these in ((8, before), (1, users)):
            if these:
                desk.extract(Account.from_users(these), desk.now - timedelta(days=moment))
        summary = desk.report()
        html = Path(summary["page"]).read_text("utf-8")
        with Path(summary["page"]).with_name("access_review.csv").open(encoding="utf-8-sig", newline="") as file:
            rows = {row["person"]: row for row in csv.DictReader(file)}
        groups = {
            title: re.findall(r"<b><bdi>(.*?)</bdi></b>", body)
            for title, body in re.findall(
                r'<article class="group">\s*<h3>(.*?) <span(.*?)</article>', html, re.DOTALL
            )
        }
        counted = {ATTENTION[name]: count for name, count in summary["attention"].items() if count}
        assert {title: len(names) for title, names in groups.items()} == counted
        return groups, rows, html

    return make


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"max_age_hours": 0.5}, "is 1 hours old; allowed are 0.5"), ({"min_rows": 1000}, "a complete one has 1000")],
)
def test_a_roster_from_which_nobody_would_plan_makes_no_page(desk, change, sentence):
    read = desk.given["roster"]

    def stale():
        (roster,) = read().each
        return Rosters((replace(roster, spec=replace(roster.spec, **change)),))

    desk.given["roster"] = stale
    with pytest.raises(AhaSnapshotError, match=sentence):
        desk.report()
    assert not list(desk.folder.glob("aha/reports/**/*.html"))


def test_who_is_on_a_protected_list_is_marked_and_not_suggested(look, someone):
    protected = UserMatcher(ids=["6200000000000000010"], emails=["u11@example.com"])
    _, rows, html = look(
        someone(10, "By id", **UNSEEN, **shared(20)),
        someone(11, "By email", **UNSEEN, **shared(20)),
        someone(12, "Nobody", **UNSEEN, **shared(20)),
        protected=protected,
    )
    assert rows["Nobody"]["suggestion"] == "revoke account"
    for name, mark in (("By id", "protected id"), ("By email", "protected email")):
        assert rows[name]["suggestion"] == "keep"
        assert rows[name]["why"].endswith(f"; {mark}") or rows[name]["why"].endswith(f", {mark}")
    assert "2 entries of the protected lists." in html
    assert "Nobody by name" not in html


def test_an_exclusion_that_has_expired_is_named_and_protects_nobody(look, someone):
    groups, rows, html = look(
        someone(10, "Past", **UNSEEN, **shared(20)),
        someone(11, "Today", **UNSEEN, **shared(20)),
        someone(12, "Ever", **UNSEEN, **shared(20)),
        exclusions=[
            ["", "u10@example.com", "", "on leave", "ann", "2026-11-18"],
            ["", "u11@example.com", "", "on leave", "ann", "2026-11-19"],
            ["6200000000000000012", "", "", "board", "ann", ""],
        ],
    )
    assert groups == {"Exclusion has expired": ["Past"]}
    assert rows["Past"]["suggestion"] == "revoke account"
    for name, row in (("Today", 2), ("Ever", 3)):
        assert rows[name]["suggestion"] == "keep"
        assert rows[name]["why"].endswith(f", exclusion file row {row}, excluded")
    assert "Rows of the exclusion file that have expired: 1." in html
    assert "3 rows of the exclusion file, 1 expired, SHA-256" in html


@pytest.mark.parametrize(
    ("name", "email", "service"),
    [
        ("svc-deploy", "u10@example.com", True),
        ("Deploy", "svc_deploy@example.com", True),
        ("Deploy", "release-bot@example.com", True),
        ("Deploy", "noreply@example.com", True),
        ("Abbott", "abbott@example.com", False),
        ("Servaas", "servaas@example.com", False),
    ],
)
def test_a_name_or_address_of_no_person_is_a_possible_service_account_and_kept(look, someone, name, email, service):
    groups, rows, _ = look(someone(10, name, email=email, **UNSEEN, **shared(20)), someone(11, "Ada", **shared(20)))
    assert groups == ({"Possible service account": [name]} if service else {})
    assert rows[name]["suggestion"] == ("keep" if service else "revoke account")
    assert rows["Ada"]["why"] == ""


def test_who_became_an_administrator_since_the_snapshot_before_is_new(look, someone):
    admin = {"administrator": True, "administrator_roles": {"administer_billing": True}}
    before = [someone(10, "Old", **admin, **shared(20)), someone(11, "Promoted", **shared(20))]
    groups, rows, _ = look(
        someone(10, "Old", **admin, **shared(20)), someone(11, "Promoted", **admin, **shared(20)), before=before
    )
    assert groups == {"New administrator": ["Promoted"]}
    assert rows["Promoted"]["suggestion"] == "look"


def test_the_same_address_twice_is_seen_whatever_its_case(look, someone):
    groups, _, _ = look(
        someone(10, "Ada", email="Ada@Example.com", **shared(20)),
        someone(11, "Ada B.", email="ada@example.com", **shared(20)),
        someone(12, "Gone", email="ada@example.com", enabled=False, **shared(20)),
        someone(13, "None", email="", **shared(20)),
        someone(14, "Nobody", email="", **shared(20)),
    )
    assert groups == {"Same email twice": ["Ada", "Ada B."]}


def test_a_sole_owner_is_named_when_the_owner_goes_unseen(look, someone):
    groups, _, html = look(
        someone(10, "Alone", **UNSEEN), someone(11, "Present"), someone(12, "One of two", **UNSEEN, **shared(20)),
        someone(13, "Other", **shared(20)),
    )  # fmt: skip
    assert groups == {"Sole owner, leaving or unseen": ["Alone"]}
    assert '"sole_owner":true' in html


def test_an_exclusion_file_that_cannot_be_right_makes_no_page(look, someone):
    with pytest.raises(AhaConfigurationError, match=r"Row 1 of .* no reason"):
        look(someone(10, "Ada"), exclusions=[["", "u10@example.com", "", "", "ann", ""]])


def test_who_needs_attention_comes_first_and_then_people_by_name(small, someone):
    """By the first of their reasons, and names that begin with no letter after the others."""
    admin = {"administrator": True, "administrator_roles": {"administer_billing": True}}
    users = [
        someone(10, "zoe", **shared(20)),
        someone(11, "Ann", **shared(20)),
        someone(12, '<script>alert("x")</script>', **shared(20)),
        someone(13, "+1 555", **shared(20), **UNSEEN),
        someone(14, "Yan", **shared(20), **UNSEEN),
        someone(15, "Émile", **shared(20)),
        someone(16, "", **shared(20)),
        someone(17, "Xan", **shared(20), **admin),
        someone(18, "Walt", email="twin@example.com", **shared(20)),
        someone(19, "=1+1", email="TWIN@example.com", **shared(20)),
        someone(20, "Sole", **UNSEEN),
        someone(21, "deploy-bot", email="noreply@example.com", **shared(20)),
    ]
    desk = small([])
    desk.extract(Account.from_users([someone(10, "zoe", **shared(20))]), desk.now - timedelta(days=8))
    desk.extract(Account.from_users(users), desk.now - timedelta(days=1))
    page = Path(desk.report()["page"])
    with page.with_name("access_review.csv").open(encoding="utf-8-sig", newline="") as file:
        names = list(dict.fromkeys(row["person"] for row in csv.DictReader(file)))
    assert names == [
        "Xan",  # new administrator
        "Walt", "'=1+1",  # the same email twice
        "Sole",  # the only owner, unseen
        "deploy-bot",  # a possible service account
        "Yan", "'+1 555",  # to lose the account
        "Ann", "zoe", "Émile", '<script>alert("x")</script>', "",
    ]  # fmt: skip
