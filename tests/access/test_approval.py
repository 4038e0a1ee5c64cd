"""What counts as the approval of a plan: a named person's Approve of exactly this file, given lately."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_aha.access.plan.approval import (
    check_approval,
    check_approvers,
    may_answer,
    passes,
    person_of,
)
from airflow_provider_aha.access.plan.plan import Plan, PlanRow
from airflow_provider_aha.exceptions import AhaApprovalError

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
RECORD = {
    "choice": "Approve",
    "plan_sha256": "aa",
    "responded_at": "2026-03-10T11:00:00+00:00",
    "responded_by_id": 7,
    "responded_by_name": "bob",
}
ANONYMOUS = [{"responded_by_id": None, "responded_by_name": None}, {"responded_by_name": "Anonymous"}]


def row(**changes: Any) -> PlanRow:
    fields = dict.fromkeys(PlanRow.__dataclass_fields__)
    return PlanRow(**{**fields, "user_id": "9", "name": "Carl Example", "email": "carl.e@example.com", **changes})


def plan_of(
    sha256: str = "aa",
    rows: Sequence[PlanRow] = (),
    asked_by: str | None = None,
    owners: Sequence[Sequence[str]] = (),
) -> Plan:
    policy = {"rosters": [{"owners": list(names)} for names in owners]}
    return Plan("/plan.json", sha256, {"asked_by": asked_by, "policy": policy}, tuple(rows))


def check(record: dict[str, Any] | None = RECORD, **options: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "plan": plan_of(),
        "approvers": [],
        "requested_by": "ann",
        "now": NOW,
        "anonymous_counts": False,
    }
    return check_approval(record, **given | options)


def test_a_named_persons_approval_goes_into_the_evidence():
    assert check() == {
        "approved_by_id": "7",
        "approved_by_name": "bob",
        "approved_at": "2026-03-10T11:00:00+00:00",
        "approval_mode": "person",
    }


def test_no_record_is_no_approval():
    with pytest.raises(AhaApprovalError, match="not approved"):
        check(None)


@pytest.mark.parametrize("choice", ["Reject", None, "approve", ["Approve"], "", True])
def test_only_approve_is_an_approval(choice):
    with pytest.raises(AhaApprovalError, match="rejected, or nobody answered"):
        check(RECORD | {"choice": choice})


@pytest.mark.parametrize("sha256", ["bb", None, "AA"])
def test_another_plan_than_the_one_shown_is_not_approved(sha256):
    with pytest.raises(AhaApprovalError, match="changed after"):
        check(RECORD | {"plan_sha256": sha256})
    with pytest.raises(AhaApprovalError, match="changed after"):
        check(plan=plan_of("bb"))


@pytest.mark.parametrize(
    ("hours", "counts"), [(0, True), (23.9, True), (24.1, False), (-0.05, True), (-0.5, False)]
)
def test_an_approval_counts_for_a_day(hours, counts):
    record = RECORD | {"responded_at": (NOW - timedelta(hours=hours)).isoformat()}
    if counts:
        assert check(record)["approval_mode"] == "person"
    else:
        with pytest.raises(AhaApprovalError, match="24 hours"):
            check(record)


@pytest.mark.parametrize("moment", [None, "", "today", "2026-03-10T11:00:00", 5])
def test_an_approval_without_a_moment_is_none(moment):
    with pytest.raises(AhaApprovalError, match="when it was given"):
        check(RECORD | {"responded_at": moment})


@pytest.mark.parametrize("person", ANONYMOUS)
def test_an_anonymous_answer_counts_on_the_sandbox_only(person):
    with pytest.raises(AhaApprovalError, match="no named person"):
        check(RECORD | person)
    assert check(RECORD | person, anonymous_counts=True)["approval_mode"] == "anonymous"


NOBODY = [
    "",
    " ",
    "\u00a0",
    "\u200b",
    "\u2060\n",
    "\u3164",
    "\ufe0f",
    "None",
    " null ",
    "\u200bNone",
    None,
    "Anonymous ",
]


@pytest.mark.parametrize("blank", NOBODY)
def test_a_blank_is_nobody(blank):
    record = RECORD | {"responded_by_id": blank, "responded_by_name": blank}
    with pytest.raises(AhaApprovalError, match="no named person"):
        check(record)
    assert check(record, anonymous_counts=True)["approval_mode"] == "anonymous"


SAME_AS_BOB = [
    "bob",
    "BOB",
    "bob ",
    " Bob",
    "\u00a0bob",
    "b\u200bob",
    "\uff42\uff4f\uff42",
    "bo\ufe0fb",
    "b o b",
    "7",
    " 7",
]


@pytest.mark.parametrize("requester", SAME_AS_BOB)
@pytest.mark.parametrize("anonymous_counts", [True, False])
def test_whoever_triggered_the_run_cannot_approve_it_however_the_login_is_spelled(requester, anonymous_counts):
    with pytest.raises(AhaApprovalError, match="second person"):
        check(requested_by=requester, anonymous_counts=anonymous_counts)


@pytest.mark.parametrize("asked_by", SAME_AS_BOB)
def test_whoever_asked_through_a_service_account_cannot_approve_it(asked_by):
    with pytest.raises(AhaApprovalError, match="second person"):
        check(plan=plan_of(asked_by=asked_by), requested_by="svc-airflow")
    assert check(plan=plan_of(asked_by="ann"), requested_by="svc-airflow")["approved_by_name"] == "bob"


def test_letters_of_another_form_are_the_same_person():
    assert person_of("jos\u00e9") == person_of("jose\u0301")
    assert person_of("stra\u00dfe") == person_of("STRASSE")
    assert person_of("bob") != person_of("bobby")


@pytest.mark.parametrize(
    "on_the_plan", [{"email": "Bob@example.com"}, {"email": "bob"}, {"name": "BOB "}, {"name": None, "email": "7"}]
)
def test_a_person_on_the_plan_cannot_approve_it(on_the_plan):
    with pytest.raises(AhaApprovalError, match="is on the plan"):
        check(plan=plan_of(rows=[row(), row(**on_the_plan)]))
    check(plan=plan_of(rows=[row(), row(email=None, name=None)]))


@pytest.mark.parametrize(
    "approver",
    [
        "EXAMPLE\\carl.e",
        "carl.e@corp.local",
        "carle",
        "Carl Example",
        "Example, Carl",
        "carl.example",
        "Cárl  Example",
    ],
)
def test_a_person_on_the_plan_is_known_under_every_spelling(approver):
    with pytest.raises(AhaApprovalError, match="is on the plan"):
        check(RECORD | {"responded_by_name": approver}, plan=plan_of(rows=[row()]))
    assert not may_answer(approver, plan_of(rows=[row()]), "ann")
    assert may_answer("carl", plan_of(rows=[row()]), "ann")


@pytest.mark.parametrize("reviewer", ["bob", "Ann; BOB ", "bob@example.com"])
def test_a_reviewer_who_decided_it_cannot_approve_it(reviewer):
    with pytest.raises(AhaApprovalError, match="asked for the change"):
        check(plan=plan_of(rows=[row(), row(reviewer=reviewer)]))
    check(plan=plan_of(rows=[row(reviewer="bobby")]))


@pytest.mark.parametrize("owner", [*SAME_AS_BOB, "bob@example.com"])
def test_an_owner_of_the_roster_cannot_approve_what_it_says(owner):
    with pytest.raises(AhaApprovalError, match="owns the roster"):
        check(plan=plan_of(rows=[row(), leaver()], owners=[["eve"], ["eve", owner]]))
    with pytest.raises(AhaApprovalError, match="owns the roster"):
        check(
            RECORD | {"responded_by_name": "bob@example.com"}, plan=plan_of(rows=[leaver()], owners=[["bob", "7"]])
        )
    check(plan=plan_of(rows=[leaver()], owners=[["eve", "bobby@example.com"]]))
    # A plan of another class stands on no roster.
    check(plan=plan_of(rows=[row(user_class="unused")], owners=[["bob"]]))


def test_of_the_approvers_only_those_may_answer_whose_answer_counts():
    plan = plan_of(rows=[row(), leaver()], asked_by="ann", owners=[["hr@example.com"]])
    asked = ["ann", "ANN@example.com", "carl.e", " Hr", "svc", "dave"]
    assert [one for one in asked if may_answer(one, plan, "svc")] == ["dave"]


@pytest.mark.parametrize(("approvers", "counts"), [(["7"], True), (["Bob", "eve"], True), (["eve"], False)])
def test_only_the_approvers_count_where_they_are_named(approvers, counts):
    if counts:
        check(approvers=approvers)
    else:
        with pytest.raises(AhaApprovalError, match="not among the approvers"):
            check(approvers=approvers)


@pytest.mark.parametrize("approvers", [["bob "], ["B\u200bob"], ["\uff42ob"], [" 7"]])
def test_an_approver_is_known_however_the_list_spells_the_login(approvers):
    assert check(approvers=approvers)["approved_by_name"] == "bob"


@pytest.mark.parametrize("approvers", [[""], [" "], ["bob", "\u200b"], ["None"], ["anonymous"]])
def test_a_list_with_nobody_in_it_is_refused(approvers):
    with pytest.raises(AhaApprovalError, match="names nobody"):
        check(approvers=approvers)
    with pytest.raises(AhaApprovalError, match="names nobody"):
        check_approvers(approvers)


@pytest.mark.parametrize("approvers", [7, [7], "bob", {"bob": 1, 2: 3}])
def test_approvers_that_can_be_none_are_refused(approvers):
    with pytest.raises(AhaApprovalError, match="who may approve"):
        check(RECORD | {"approvers": approvers})


def test_approvers_that_the_question_went_to_are_the_only_ones():
    assert check(RECORD | {"approvers": ["bob"]})["approved_by_name"] == "bob"
    with pytest.raises(AhaApprovalError, match="not among the approvers"):
        check(RECORD | {"approvers": ["eve"]})


@pytest.mark.parametrize("reason", [None, "", " ", "\u200b", "None", 7])
def test_an_approval_that_strikes_out_without_a_reason_was_changed(reason):
    check(RECORD | {"strike_out": [], "strike_reason": reason})
    check(RECORD | {"strike_out": ["9"], "strike_reason": "still here"})
    with pytest.raises(AhaApprovalError, match="without a reason"):
        check(RECORD | {"strike_out": ["9"], "strike_reason": reason})


@pytest.mark.parametrize("ids", ["9", {"9": 1}, [9], [None]])
def test_strike_outs_that_are_no_list_of_ids_were_changed(ids):
    with pytest.raises(AhaApprovalError, match="it was changed"):
        check(RECORD | {"strike_out": ids, "strike_reason": "still here"})


# --- without asking a person ---------------------------------------------------------------------


def leaver(**changes: Any) -> PlanRow:
    return row(**{"user_class": "left", "leave_date": "2026-03-09", "left_at": "2026-03-10", **changes})


def test_who_left_by_a_date_needs_no_person():
    assert passes(leaver())


@pytest.mark.parametrize(
    "changes",
    [
        {"user_class": "unused"},
        {"user_class": "named"},
        {"leave_date": None},
        {"left_at": None},
        {"asked_because": "seen after the last day"},
    ],
)
def test_a_row_that_says_anything_else_does_not_pass(changes):
    assert not passes(leaver(**changes))
