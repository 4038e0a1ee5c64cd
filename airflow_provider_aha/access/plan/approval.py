"""The approval of a plan: what the writing task trusts, and nothing else."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_aha.access.plan.plan import LEFT
from airflow_provider_aha.common.moments import read_moment
from airflow_provider_aha.common.persons import People
from airflow_provider_aha.common.values import is_unset, legible
from airflow_provider_aha.exceptions import AhaApprovalError

if TYPE_CHECKING:
    from airflow_provider_aha.access.plan.plan import Plan, PlanRow

FILE = "approval.json"
REQUEST_FILE = "approval_request.json"
APPROVE, REJECT = "Approve", "Reject"
# So many users of an account may be disabled within 24 hours without asking a person.
FEW = 5
_VALID_FOR = timedelta(hours=24)
_CLOCKS_DIFFER = timedelta(minutes=5)
_ANONYMOUS = "anonymous"


def passes(row: PlanRow) -> bool:
    """Tell whether policy lets a row of a plan pass, so that it is carried out without asking a person.

    :param row: the row.
    """
    return bool(row.asked_because is None and row.user_class == LEFT and row.leave_date and row.left_at)


def asked_about(record: Mapping[str, Any] | None, plan: Plan) -> list[str]:
    """Return the ids of those whom a person was asked about.

    :param record: ``approval_request.json`` or ``approval.json``; None: nobody was asked.
    :param plan: the plan beside it.
    :return: everybody on the plan, where the record doesn't say.
    :raises AhaApprovalError: when it names somebody who isn't on the plan.
    """
    if record is None:
        return []
    everybody = [row.user_id for row in plan.rows]
    asked = record.get("asked", everybody)
    if not isinstance(asked, list) or any(user_id not in everybody for user_id in asked):
        raise AhaApprovalError("The approval doesn't say who was asked about: it was changed. Nothing was done.")
    return asked


def person_of(value: object) -> str:
    """Return a login, a name or an id of Airflow's as people are compared; empty for what names nobody.

    Case, blanks, characters that show nothing and other widths of a letter make no second person.

    :param value: what Airflow, a list or a form says.
    """
    text = "" if is_unset(value) else str(value)
    seen = legible(unicodedata.normalize("NFKC", text)).replace(" ", "")
    folded = unicodedata.normalize("NFKC", seen.casefold())
    return "" if is_unset(folded) else folded


def check_approvers(approvers: Sequence[str]) -> set[str]:
    """Read who may approve.

    :param approvers: ids or names; empty: everybody but who asked.
    :return: them, as :func:`person_of`.
    :raises AhaApprovalError: when one of them names nobody: a list of nobody must never mean everybody.
    """
    found = {person_of(one) for one in approvers}
    if "" in found or _ANONYMOUS in found:
        raise AhaApprovalError(
            "approvers has an entry that names nobody. Nothing was done; put it right in the DAG."
        )
    return found


def check_approval(
    record: Mapping[str, Any] | None,
    *,
    plan: Plan,
    approvers: Sequence[str],
    requested_by: str,
    now: datetime,
    anonymous_counts: bool,
) -> dict[str, Any]:
    """Find out whether a second person has approved exactly this plan.

    :param record: ``approval.json`` from beside the plan, as the approval operator wrote it; None when there
        is none.
    :param plan: the plan that is about to be carried out.
    :param approvers: ids or names of those who may approve; empty: those whom the record names, else everybody.
        The answer of who asked for the change, is on the plan, or owns its roster never counts.
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
    if record.get("plan_sha256") != plan.sha256:
        raise AhaApprovalError("The plan was changed after it had been approved. Nothing was done.")
    if not -_CLOCKS_DIFFER <= now - _moment(record.get("responded_at")) <= _VALID_FOR:
        raise AhaApprovalError(
            "The approval is older than 24 hours, or dated in the future. Nothing was done; plan and ask again."
        )
    if struck_out_by(record) is None:
        raise AhaApprovalError("The approval strikes users out without a reason: it was changed. Nothing was done.")
    allowed = approvers or record.get("approvers") or []
    if not isinstance(allowed, (list, tuple)) or not all(isinstance(one, str) for one in allowed):
        raise AhaApprovalError("The approval doesn't say who may approve: it was changed. Nothing was done.")
    _check_person(record, plan, check_approvers(allowed), requested_by, anonymous_counts=anonymous_counts)
    person, name = (record.get(f"responded_by_{what}") for what in ("id", "name"))
    return {
        "approved_by_id": str(person) if person_of(person) else None,
        "approved_by_name": str(name) if person_of(name) else None,
        "approved_at": record["responded_at"],
        "approval_mode": _ANONYMOUS if is_anonymous(record) else "person",
    }


def struck_out_by(record: Mapping[str, Any]) -> dict[str, str] | None:
    """Return whom an approval takes off the plan.

    :param record: ``approval.json``.
    :return: the reason by user id; None where they can't be read, or have no reason.
    """
    ids, reason = record.get("strike_out") or [], record.get("strike_reason")
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        return None
    if not ids:
        return {}
    if not isinstance(reason, str) or is_unset(legible(reason)):
        return None
    return dict.fromkeys(ids, legible(reason))


def is_anonymous(record: Mapping[str, Any]) -> bool:
    """Tell whether an answer came from nobody in particular: an Airflow without login, or a blank name.

    :param record: an answer, as the approval operator wrote it.
    """
    known = _known(record)
    return not known or _ANONYMOUS in known


def _known(record: Mapping[str, Any]) -> set[str]:
    return {person_of(record.get(f"responded_by_{what}")) for what in ("id", "name")} - {""}


def _check_person(
    record: Mapping[str, Any], plan: Plan, approvers: set[str], requested_by: str, *, anonymous_counts: bool
) -> None:
    if is_anonymous(record):
        if not anonymous_counts:
            raise AhaApprovalError(
                "The approval has no named person, because Airflow runs without login or the name is blank; that "
                "counts only where Aha! is the sandbox on this machine. Nothing was done."
            )
        return
    known = _known(record)
    if approvers and not known & approvers:
        raise AhaApprovalError("The person who approved is not among the approvers. Nothing was done.")
    if (why := _barred(known, plan, requested_by)) is not None:
        raise AhaApprovalError(f"{why} Nothing was done.")


def may_answer(approver: str, plan: Plan, requested_by: str) -> bool:
    """Tell whether an answer of somebody counts, as far as the login says.

    :param approver: the login, id or name of somebody who may approve.
    :param plan: the plan.
    :param requested_by: who triggered the run.
    """
    return _barred({person_of(approver)}, plan, requested_by) is None


def _barred(known: set[str], plan: Plan, requested_by: str) -> str | None:
    """Say why the answer of a person doesn't count, or None."""
    reviewers = [name for row in plan.rows for name in (row.reviewer or "").split("; ")]
    if _is_among(known, [requested_by, plan.header["asked_by"], *reviewers]):
        return "The person who approved asked for the change or triggered the run: a second person must approve it."
    if _is_among(known, [text for row in plan.rows for text in (row.email, row.name)]) or _may_be(known, plan.rows):
        return "The person who approved is on the plan: somebody else must decide about it."
    if _is_among(known, plan.roster_owners):
        return "The person who approved owns the roster that the plan is based on: somebody else must approve it."
    return None


def _is_among(known: set[str], people: Sequence[str | None]) -> bool:
    """Tell whether a person is one of several; a login is the same as the address that begins with it."""
    named = {person_of(text) for text in people} - {""}
    return bool(known & (named | set(map(_login, named))) or set(map(_login, known)) & named)


def _may_be(known: set[str], rows: Sequence[PlanRow]) -> bool:
    """Tell whether a login may be that of a user of the plan, as logins are made of names, emails and ids."""
    people = People({"user_id": row.user_id, "user_name": row.name, "user_email": row.email} for row in rows)
    return any(people.submits(login, row.user_id) for login in known for row in rows)


def _login(person: str) -> str:
    """Return what stands before the @ of an address, and behind the domain of Windows; or all of a login."""
    login = person.rpartition("\\")[2]
    return login.partition("@")[0] or login


def _moment(text: object) -> datetime:
    if (moment := read_moment(text, needs_offset=True)) is None:
        raise AhaApprovalError("The approval doesn't say when it was given. Nothing was done.")
    return moment
