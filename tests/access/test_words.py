"""What a person who approves a plan reads: in plain words, for every kind of change."""

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_aha.access.plan.plan import Plan, PlanRow, action_of
from airflow_provider_aha.access.plan.words import effect, question, standing, subject, summary

ROLES = [{"role": "Owner", "workspaces": ["Platform"]}, {"role": "Viewer", "workspaces": ["Data", "Mobile"]}]


def row(**changes: Any) -> PlanRow:
    fields: dict[str, Any] = {
        **dict.fromkeys(PlanRow.__dataclass_fields__),
        "user_id": "9",
        "name": "Ann Example",
        "email": "ann@example.com",
        "wanted": {"enabled": False},
        "before": {"enabled": True},
        "user_class": "named",
        "rule": "left the project",
        "detail": "named by id",
        "accessed_at": "2026-03-01T09:00:00.000Z",
        "is_administrator": False,
        "is_paid_seat": True,
        "seen_after_leave": False,
        "rights": [],
        "roles": ROLES,
        "sole_owner_of": [],
    }
    return PlanRow(**{**fields, **changes})


def plan(*rows: PlanRow, unresolved: Any = (), **header: Any) -> Plan:
    counts: dict[str, Any] = {
        "users": 60,
        "planned": {"left": 0, "named": len(rows), "unused": 0},
        "planned_administrators": 0,
        "planned_sole_owners": 0,
        "seen_after_leave": 0,
        "spared": {},
        "postponed": 0,
    }
    known = {
        "account": "acme",
        "sandbox": False,
        "policy": {},
        "changed": None,
        "action": action_of(rows[0].wanted) if rows else "deactivate",
        "reason": "left the project",
        "ticket": "OPS-1",
        "asked_by": None,
        "enabled_users": 56,
        "as_of": "2026-03-10T03:40:00.000Z",
        "counts": counts,
        "unresolved": list(unresolved),
        "protects_nobody": [],
        "caps": None,
        "blocked": [],
        "notes": [],
    }
    return Plan("/p/plan.json", "ab" * 32, {**known, **header}, rows)


@pytest.mark.parametrize(
    ("wanted", "before", "words"),
    [
        ({"enabled": False}, {"enabled": True}, "disable: no login any more"),
        (
            {"enabled": True},
            {"enabled": False},
            "enable; what comes back: Owner in Platform, Viewer in Data, Mobile, paid seat",
        ),
        (
            {"email": "new@example.com"},
            {"email": "ann@example.com"},
            "email from ann@example.com to new@example.com: whoever reads that mailbox has the account",
        ),
        (
            {"email": "new@example.com"},
            {},
            "email from none to new@example.com: whoever",
        ),
        ({"administrator": True}, {}, "give all administrator rights (account, billing, configuration)"),
        ({"administrator": False}, {}, "take all administrator rights (account, billing, configuration)"),
        (
            {"administrator_roles": {"administer_billing": True, "administer_account": False}},
            {},
            "give the administrator right for billing; take the administrator right for account",
        ),
        ({"first_name": "Zoe", "last_name": "Ng"}, {}, "first name to Zoe; last name to Ng"),
        ({"enabled": False, "last_name": "Ng"}, {}, "disable: no login any more; last name to Ng"),
    ],
)
def test_each_change_is_said_in_plain_words(wanted, before, words):
    assert effect(row(wanted=wanted, before=before)).startswith(words)


def test_rights_that_come_back_are_named_and_nothing_is_said_to_come_back_where_nothing_does():
    back = row(wanted={"enabled": True}, is_administrator=True, rights=["administer_account", "administer_billing"])
    assert "administrator for account, billing, Owner in Platform" in effect(back)
    empty = row(wanted={"enabled": True}, roles=[], is_paid_seat=False)
    assert effect(empty) == "enable; what comes back: no role and no right"
    assert "roles not known" in effect(row(wanted={"enabled": True}, roles=None))


def test_a_long_list_of_roles_and_workspaces_is_cut_and_says_so():
    places = [f"W{number}" for number in range(9)]
    many = [{"role": f"Role {number}", "workspaces": places} for number in range(6)]
    text = standing(row(roles=many))
    assert "Role 0 in W0, W1, W2, W3, W4 and 4 more" in text
    assert "2 more roles" in text


def test_the_question_says_who_why_and_what_goes_with_it():
    asked = row(
        reviewer="Rita Reviewer",
        note="moved to sales",
        sole_owner_of=["Platform", "Data"],
        seen_after_leave=True,
        asked_because="no end date",
    )
    text = question(plan(asked, asked_by="carol", blocked=[{"user_id": "77", "reason": "protected_id"}]), "ann")
    for words in (
        "**Approve** disables these users in Aha!",
        "Started by: ann. Another person has to approve it.",
        "- Reason: left the project",
        "- Ticket: OPS-1",
        "- Asked for by: carol",
        "**1 user left, and the access stays, because a guard holds it:** 77 (protected id)",
        "| 9 | Ann Example | ann@example.com | disable: no login any more |",
        "left the project: named by id; seen after leaving; asked because: no end date; decided by Rita Reviewer",
        "; note: moved to sales |",
        "Owner in Platform, Viewer in Data, Mobile, paid seat",
        "2026-03-01T09:00:00.000Z",
        "| Platform, Data |",
    ):
        assert words in text, words
    assert "never" in question(plan(replace(asked, accessed_at=None)), "ann")
    assert subject(plan(asked)) == "Disable 1 user of acme in Aha!?"


def test_a_review_is_named_with_who_decided_and_who_submitted_it():
    decided = row(rule="review 2026-Q4", reviewer="Rita Reviewer", note="left the *project*")
    text = question(plan(decided, policy={"review": "2026-Q4", "submitted_by": "carla"}), "carla")
    assert "- Review: 2026-Q4, submitted by carla\n" in text
    assert "review 2026-Q4: named by id; decided by Rita Reviewer; note: left the &#42;project&#42; |" in text
    assert "Review" not in question(plan(row(), policy={"rules": []}), "carla").replace("Rita Reviewer", "")


def test_nothing_is_counted_that_is_not_there():
    shown = question(plan(row()), "ann")
    assert "| named: asked for by name | 1 |" in shown
    assert "| 0 |" not in shown
    nobody = plan(counts={**plan().counts, "spared": {"no_rule": 443}})
    assert "| Class |" not in question(nobody, "ann")
    assert "Left alone" not in question(nobody, "ann")
    spared = plan(row(), counts={**plan(row()).counts, "spared": {"no_rule": 443, "too_new": 2}})
    assert "Left alone: too new 2." in question(spared, "ann")


@pytest.mark.parametrize(
    ("sandbox", "started_by", "sentence"),
    [
        (False, "ann", "Started by: ann. Another person has to approve it."),
        (True, "ann", "Started by: ann. Another person has to approve it."),
        (True, "Anonymous", "This is the sandbox: where Airflow has no logins, the same person may approve it."),
        (True, "scheduled", "This is the sandbox: where Airflow has no logins, the same person may approve it."),
        (False, "Anonymous", "A person whom Airflow knows by name has to approve it."),
        (False, "scheduled", "A person whom Airflow knows by name has to approve it."),
    ],
)
def test_the_question_says_who_may_approve(sandbox, started_by, sentence):
    text = question(plan(row(), sandbox=sandbox), started_by)
    assert sentence in text
    assert ("Another person" in text) is ("Another person" in sentence)


def test_unresolved_names_stand_above_everything_else():
    named: list[dict[str, Any]] = [
        {"rule": "r", "asked": "amn@example.com", "reason": "unknown", "ids": []},
        {"rule": "r", "asked": "twin@example.com", "reason": "ambiguous", "ids": ["11", "12"]},
    ]
    wrong = [{"must_fix": True, "detail": None, **one} for one in named]
    text = question(plan(row(), unresolved=wrong), "ann")
    head = text.partition("| Class |")[0]
    assert "**2 of those who were named are not on the plan:**" in head
    assert "- amn@example.com: no user of the account" in head
    assert "- twin@example.com, id 11, id 12: several users have this email" in head


@pytest.mark.parametrize(
    ("wanted", "title", "verb"),
    [
        ({"enabled": True}, "1 of 60 users of acme is planned to get access again", "Enable"),
        ({"email": "x@example.com"}, "1 of 60 users of acme is planned to be changed", "Change"),
        ({"enabled": False}, "1 of 56 enabled users of acme is planned to lose access", "Disable"),
    ],
)
def test_title_and_subject_say_what_kind_of_change_it_is(wanted, title, verb):
    made = plan(row(wanted=wanted))
    assert f"# {title}" in question(made, "ann")
    assert subject(made).startswith(verb)


def test_an_undo_says_that_it_gives_back_what_was_taken():
    made = plan(row(wanted={"email": "x@example.com"}), policy={"undo": "/e"}, action="reactivate")
    assert "gives back to these users what a run took" in question(made, "ann")
    assert subject(made) == "Give access back to 1 user of acme in Aha!?"


def test_whoever_gets_administrator_rights_is_shown_however_many_there_are():
    """Rights come back only where the person who approves has seen it."""
    given = [{"enabled": True}, {"administrator_roles": {"administer_billing": True}}, {"administrator": True}]
    admins = [
        row(user_id=str(n), wanted=given[n % 3], is_administrator=n % 3 == 0, rights=["administer_billing"])
        for n in range(900, 960)
    ]
    text = summary(plan(*[row(user_id=str(n)) for n in range(100, 200)], *admins), limit=50)
    assert all(f"| {one.user_id} |" in text for one in admins)
    assert "100 more are in the plan" in text


def test_what_people_typed_means_nothing_in_markdown_or_html():
    hostile = "[x](http://evil) <script> | `a` {{ b }} **c**"
    text = question(plan(row(name=hostile, note=hostile, wanted={"first_name": hostile}), reason=hostile), hostile)
    table = text.partition("# ")[2]
    assert "<script>" not in text
    assert "](http" not in text
    assert "{{" not in text
    assert table.count("\n| 9 |") == 1
