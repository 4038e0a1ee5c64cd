"""The approval of a plan: what the writing task trusts, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_aha.access.plan.plan import LEFT
from airflow_provider_aha.exceptions import AhaApprovalError

if TYPE_CHECKING:
    from airflow_provider_aha.access.plan.plan import PlanRow

FILE = "approval.json"
REQUEST_FILE = "approval_request.json"
APPROVE, REJECT = "Approve", "Reject"
# So many users of an account may be disabled within 24 hours without asking a person.
FEW = 5
_VALID_FOR = timedelta(hours=24)
_CLOCKS_DIFFER = timedelta(minutes=5)


def policy_allows(rows: Sequence[PlanRow]) -> bool:
    """Tell whether a plan may be carried out without asking a person: every row of it passes.

    :param rows: all rows of a plan.
    """
    return all(
        row.asked_because is None and row.user_class == LEFT and row.leave_date and row.left_at for row in rows
    )


def check_approval(
    record: Mapping[str, Any] | None,
    *,
    plan_sha256: str,
    approvers: Sequence[str],
    requested_by: str,
    now: datetime,
    anonymous_counts: bool,
) -> dict[str, Any]:
    """Find out whether a person has approved exactly this plan.

    :param record: ``approval.json`` from beside the plan, as the approval operator wrote it; None when there
        is none.
    :param plan_sha256: SHA-256 of the plan that is about to be carried out.
    :param approvers: ids or names of those who may approve; empty: those whom the record names, else everybody
        but the requester.
    :param requested_by: who triggered the run.
    :param now: this moment; UTC.
    :param anonymous_counts: whether an Airflow without login may approve (sandbox only).
    :return: the columns of the evidence that tell who approved, when and how.
    :raises AhaApprovalError: when any of this doesn't hold; the sentence says what.
    """
    if record is None:
        raise AhaApprovalError("This plan was not approved: there is no approval.json beside it. Nothing was done.")
    if record.get("choice") != APPROVE:
        raise AhaApprovalError("This plan was rejected, or nobody answered in time. Nothing was done.")
    if record.get("plan_sha256") != plan_sha256:
        raise AhaApprovalError("The plan was changed after it had been approved. Nothing was done.")
    if not -_CLOCKS_DIFFER <= now - _moment(record.get("responded_at")) <= _VALID_FOR:
        raise AhaApprovalError(
            "The approval is older than 24 hours, or dated in the future. Nothing was done; plan and ask again."
        )
    allowed = approvers or record.get("approvers") or []
    if not isinstance(allowed, Sequence) or not all(isinstance(one, str) for one in allowed):
        raise AhaApprovalError("The approval doesn't say who may approve: it was changed. Nothing was done.")
    return _check_person(record, allowed, requested_by, anonymous_counts=anonymous_counts)


def _check_person(
    record: Mapping[str, Any], approvers: Sequence[str], requested_by: str, *, anonymous_counts: bool
) -> dict[str, Any]:
    person, name = record.get("responded_by_id"), record.get("responded_by_name")
    known = {str(value).casefold() for value in (person, name) if value}
    anonymous = not known or "anonymous" in known
    if anonymous and not anonymous_counts:
        raise AhaApprovalError("The approval has no named person: Airflow runs without login. Nothing was done.")
    if not anonymous and approvers and not known & {approver.casefold() for approver in approvers}:
        raise AhaApprovalError("The person who approved is not among the approvers. Nothing was done.")
    if not anonymous and requested_by.casefold() in known:
        raise AhaApprovalError(
            "The person who triggered the run approved it: a second person must. Nothing was done."
        )
    return {
        "approved_by_id": str(person) if person else None,
        "approved_by_name": str(name) if name else None,
        "approved_at": record["responded_at"],
        "approval_mode": "anonymous" if anonymous else "person",
    }


def _moment(text: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise AhaApprovalError("The approval doesn't say when it was given. Nothing was done.")
    return moment
