"""What counts as the approval of a plan: a named person's Approve of exactly this file, given lately."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_aha.access.plan.approval import check_approval, policy_allows
from airflow_provider_aha.access.plan.plan import PlanRow
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


def check(record: dict[str, Any] | None = RECORD, **options: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "plan_sha256": "aa",
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
        check(plan_sha256="bb")


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
def test_an_anonymous_answer_counts_on_this_machine_only(person):
    with pytest.raises(AhaApprovalError, match="no named person"):
        check(RECORD | person)
    assert check(RECORD | person, anonymous_counts=True)["approval_mode"] == "anonymous"


@pytest.mark.parametrize("requester", ["bob", "BOB", "7"])
@pytest.mark.parametrize("anonymous_counts", [True, False])
def test_whoever_triggered_the_run_cannot_approve_it(requester, anonymous_counts):
    with pytest.raises(AhaApprovalError, match="second person"):
        check(requested_by=requester, anonymous_counts=anonymous_counts)


@pytest.mark.parametrize(("approvers", "counts"), [(["7"], True), (["Bob", "eve"], True), (["eve"], False)])
def test_only_the_approvers_count_where_they_are_named(approvers, counts):
    if counts:
        check(approvers=approvers)
    else:
        with pytest.raises(AhaApprovalError, match="not among the approvers"):
            check(approvers=approvers)


@pytest.mark.parametrize("approvers", [7, [7], {"bob": 1, 2: 3}])
def test_approvers_that_can_be_none_are_refused(approvers):
    with pytest.raises(AhaApprovalError, match="who may approve"):
        check(RECORD | {"approvers": approvers})


def test_approvers_that_the_question_went_to_are_the_only_ones():
    assert check(RECORD | {"approvers": ["bob"]})["approved_by_name"] == "bob"
    with pytest.raises(AhaApprovalError, match="not among the approvers"):
        check(RECORD | {"approvers": ["eve"]})


# --- without asking a person ---------------------------------------------------------------------


def leaver(**changes: Any) -> PlanRow:
    row = dict.fromkeys(PlanRow.__dataclass_fields__)
    return PlanRow(**{**row, "user_class": "left", "leave_date": "2026-03-09", "left_at": "2026-03-10", **changes})


def test_a_few_who_left_by_a_date_need_no_person():
    assert policy_allows([leaver()] * 5)


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
def test_one_row_that_does_not_pass_needs_one(changes):
    assert not policy_allows([leaver(), leaver(**changes)])
