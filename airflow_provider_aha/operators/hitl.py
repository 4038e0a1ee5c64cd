"""The approval of a plan by a person, for Airflow 3.1 and later.

DAGs import it from :mod:`airflow_provider_aha.operators.approvals`. Airflow before 3.1 has no way to ask a person
inside a run: importing this module fails there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, Param
from airflow.providers.standard.exceptions import HITLTimeoutError, HITLTriggerEventError
from airflow.providers.standard.operators.hitl import HITLOperator

from airflow_provider_aha.common.values import to_bool, to_list, to_text, to_words
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaError, AhaRecordError
from airflow_provider_aha.hooks.common import without_useless_retries
from airflow_provider_aha.hooks.paths import resolve_path
from airflow_provider_aha.operators.guards import approvers_of
from airflow_provider_aha.operators.links import AhaLink, leave_link
from airflow_provider_aha.operators.writes import names_to_fix, run_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_aha.access.plan.plan import Plan, PlanRow
    from airflow_provider_aha.store.store import Store

_APPROVE, _REJECT = "Approve", "Reject"
# At most this many ids are named in a sentence.
_NAMED = 20
_NOBODY_LEFT = (
    "Every approver asked for the change, triggered the run, is on the plan, or owns the roster: nobody is left "
    "who may approve it. Nothing was done. Name another approver and start a new run."
)
_ANSWERED = "This plan was answered before, and an answer counts once: start a new run."

_STRIKE_OUT = Param(
    [],
    type=["array", "null"],
    items={"type": "string", "pattern": "^[0-9]+$"},
    title="Strike out",
    description="Users to leave alone: their ids, one per line, as in the table. All others of the plan are "
    "carried out. An entry that is no such id makes the answer count as a no.",
)
_STRIKE_REASON = Param(
    None,
    type=["string", "null"],
    title="Why they are struck out",
    description="Needed with the first id above; kept with the answer.",
)
_FORM = {"strike_out": _STRIKE_OUT, "strike_reason": _STRIKE_REASON}


class AhaApprovePlanOperator(HITLOperator):
    """Ask a second person whether a plan is to be carried out, and write the answer beside it.

    The writing task trusts only the ``approval.json`` that this task writes, once, on approve, reject and
    timeout. Nobody is asked about a plan that changes nobody, or nobody's access. The form field ``strike_out``
    takes ids off the plan, ``strike_reason`` says why; an entry that isn't on the plan, or no reason, makes the
    answer count as a no, since somebody would have been left alone.

    :param plan: path of the ``plan.json``. (templated)
    :param require_approval: whether a person is asked about every row. Without it, only about those that policy
        doesn't let pass; a task that carries out by policy takes the others. Not templated on purpose.
    :param approvers: ids of the Airflow users who may answer; empty: everybody. The answer of who asked for the
        change or triggered the run, is on the plan, or owns its roster never counts. (templated)
    :param dry_run: nobody is asked, since nothing is to be changed: give the writing task the same value.
        (templated)
    :param response_timeout: how long to wait for the answer; no answer is a no.
    :return: ``choice``, ``plan_sha256`` and the number of users struck out.
    :raises AirflowSkipException: when the plan was rejected or nobody answered, or when policy lets everybody on
        it pass, so that what follows is skipped.
    :raises AirflowFailException: when such a plan has users who left, since their access stays; when it was
        answered before, or the answer can't be right: start a new run.
    """

    template_fields: Sequence[str] = ("plan", "approvers", "dry_run")
    ui_color = "#fbefdc"
    operator_extra_links = (AhaLink(),)

    def __init__(
        self,
        *,
        plan: str,
        require_approval: bool = True,
        approvers: Sequence[str] | str = (),
        dry_run: bool | str = False,
        response_timeout: timedelta = timedelta(hours=24),
        **kwargs: Any,
    ) -> None:
        # Airflow hands the DAG's own Params in here too; reading their values would validate them.
        inherited = kwargs.pop("params", None) or {}
        read = getattr(inherited, "get_param", inherited.__getitem__)
        params = {**{name: read(name) for name in inherited}, **_FORM}
        super().__init__(
            subject="Change access to Aha!?",
            options=[_APPROVE, _REJECT],
            defaults=_REJECT,
            response_timeout=response_timeout,
            params=params,
            **kwargs,
        )
        self.plan = plan
        self.require_approval = require_approval
        self.approvers = approvers
        # Hides BaseOperator.dry_run(), which only `airflow tasks test --dry-run` calls.
        self.dry_run = dry_run  # type: ignore[method-assign, assignment]

    @property
    def serialized_params(self) -> dict[str, Any]:
        """The fields of the form: 3.1 would show the DAG's own Params there, too, and refuse their defaults."""
        fields = super().serialized_params
        return {name: fields[name] for name in _FORM}

    @without_useless_retries()
    def execute(self, context: Context) -> Any:
        """Show the plan and wait.

        :param context: the task's context.
        """
        from airflow_provider_aha.access.plan.approval import (
            FILE,
            REQUEST_FILE,
            check_approvers,
            may_answer,
            passes,
        )
        from airflow_provider_aha.access.plan.words import question, subject
        from airflow_provider_aha.store.store import to_json

        location, plan = self._load(context)
        approvers = approvers_of(self.approvers)
        check_approvers(approvers)
        if plan.wrong_names:
            self._refuse(context, location, plan, f"{names_to_fix(plan)} Nobody is asked.")
        dry_run = to_bool(self.dry_run, "dry_run", default=False)
        # Nothing but False lifts it: neither None nor an empty text of a template that found nothing.
        by_policy = self.require_approval is False
        rows = [row for row in plan.rows if not (by_policy and passes(row))]
        if by_policy and (dry_run or not rows):
            # The task that carries out by policy has it all.
            why = "this stays a dry run" if dry_run else "nobody on the plan needs an approval"
            raise AirflowSkipException(f"Nobody is asked: {why}.")
        if dry_run:
            self.log.info("This stays a dry run: nobody is asked.")
            return {"choice": None, "plan_sha256": plan.sha256, "struck_out": 0}
        if not plan.decides_access:
            what = "nobody's access" if plan.rows else "nobody"
            self.log.info("The plan changes %s: there is nothing to approve.", what)
            return {"choice": None, "plan_sha256": plan.sha256, "struck_out": 0}
        if location.beside(FILE).read_record() is not None:
            self._refuse(context, location, plan, _ANSWERED)
        requested_by = run_of(context).requested_by
        asked = [approver for approver in approvers if may_answer(approver, plan, requested_by)]
        if approvers and not asked:
            self._refuse(context, location, plan, _NOBODY_LEFT)
        shown = {"plan_sha256": plan.sha256, "asked": [row.user_id for row in rows]}
        folder = location.folder
        if not folder.create(REQUEST_FILE, to_json(shown)) and folder.read_record(REQUEST_FILE) != shown:
            self._refuse(context, location, plan, "The plan was changed since it was shown: start a new run.")
        # The answer may take a day: until then this one vouches for what was asked.
        self._close(context, location, plan, "asked")
        self.subject, self.body = subject(plan, len(rows)), question(plan, requested_by, rows)
        if asked:
            self.assigned_users = [{"id": approver, "name": approver} for approver in asked]
        return super().execute(context)

    @without_useless_retries()
    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Write the answer down.

        :param context: the task's context.
        :param event: what Airflow says of the answer.
        :return: the answer.
        """
        from airflow_provider_aha.access.plan.approval import FILE
        from airflow_provider_aha.store.store import to_json

        location, plan = self._load(context)
        record, fault = self._record(context, event, location, plan)
        if not location.folder.create(FILE, to_json(record)):
            self._refuse(context, location, plan, _ANSWERED)
        self._close(context, location, plan, record["choice"])
        # Who answered, by the login's id: names are for the record.
        self.log.info(
            "Answer: %s, by %s at %s; struck out: %s. It is in %s",
            record["choice"],
            record["responded_by_id"] or "nobody",
            record["responded_at"],
            _named(record["strike_out"], plan),
            location.beside(FILE).url,
        )
        if fault is not None:
            raise AirflowFailException(f"{fault}: nothing is changed. Start a new run.")
        if record["choice"] != _APPROVE:
            self._reject([row for row in plan.rows if row.user_id in record["asked"]])
        return {
            "choice": record["choice"],
            "plan_sha256": record["plan_sha256"],
            "struck_out": len(record["strike_out"]),
        }

    def _reject(self, asked: Sequence[PlanRow]) -> NoReturn:
        """End a run that may change none of those asked about: red where somebody who left keeps the access."""
        sentence = "The plan was rejected, or nobody answered in time: nothing is changed."
        if leavers := [row for row in asked if row.user_class == "left"]:
            named = ", ".join(
                f"{row.user_id} (last day {row.leave_date or 'not known'})" for row in leavers[:_NAMED]
            )
            more = f" and {len(leavers) - _NAMED} more" if len(leavers) > _NAMED else ""
            raise AirflowFailException(
                f"{sentence} {len(leavers)} users who left keep their access: {named}{more}."
            )
        raise AirflowSkipException(sentence)

    def _refuse(self, context: Context, location: Store, plan: Plan, why: str) -> NoReturn:
        self._close(context, location, plan, "failed", reason=why)
        raise AirflowFailException(why)

    def _close(self, context: Context, location: Store, plan: Plan, ended: str, **facts: str) -> None:
        """Leave a manifest: the control ran, whatever the answer was."""
        from airflow_provider_aha.record.chain import close_try
        from airflow_provider_aha.record.run import RunFolder

        run = run_of(context)
        if (base := location.record_base) is None:
            raise AhaConfigurationError(f"{location.url} lies outside of a record, so nobody is asked about it.")
        about = {"action": "approve", "ended": ended, **facts, "sandbox": plan.sandbox, **asdict(run)}
        close_try(RunFolder(base, plan.account, run), {**about, "plan_sha256": plan.sha256})

    def _record(
        self, context: Context, event: dict[str, Any], location: Store, plan: Plan
    ) -> tuple[dict[str, Any], str | None]:
        """Return the answer for the record, and what is wrong with it: a wrong one counts as a no."""
        from airflow_provider_aha.access.plan.approval import REQUEST_FILE, asked_about
        from airflow_provider_aha.common.moments import timestamp

        request = location.beside(REQUEST_FILE).read_record()
        if request is None:
            raise AhaRecordError(f"{location.beside(REQUEST_FILE).url} is missing: it isn't known what was shown.")
        asked = asked_about(request, plan)
        answer, fault = self._answer(context, event)
        person = answer.get("responded_by_user") or {}
        moment = answer.get("responded_at")
        approved = list(answer.get("chosen_options") or []) == [_APPROVE]
        strike_out: list[str] = []
        reason: str | None = None
        if approved:
            strike_out, reason, fault = _struck_out(event, asked)
        return {
            "choice": _APPROVE if approved and fault is None else _REJECT,
            # What was shown, not what lies there now.
            "plan_sha256": request["plan_sha256"],
            "asked": asked,
            "responded_at": timestamp(moment) if hasattr(moment, "astimezone") else moment,
            "responded_by_id": person.get("id"),
            "responded_by_name": person.get("name"),
            "approvers": approvers_of(self.approvers),
            "strike_out": strike_out,
            "strike_reason": reason,
            "dag_id": context["ti"].dag_id,
            "run_id": context["ti"].run_id,
        }, fault

    def _answer(self, context: Context, event: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
        """Return the answer, empty when nobody gave one, and what is wrong with it."""
        try:
            # Airflow would refuse an answer without, or with other fields than the form's; only one is read here.
            return dict(super().execute_complete(context, {**event, "params_input": {}})), None
        except HITLTimeoutError:
            return {}, None
        except (HITLTriggerEventError, ValueError):
            return {}, "The answer doesn't fit the form"

    def _load(self, context: Context) -> tuple[Store, Plan]:
        from airflow_provider_aha.access.plan.plan import load_plan

        path = to_text(self.plan, "plan")
        if path is None:
            raise AhaConfigurationError("plan is not set: give the path of a plan.json.")
        location = resolve_path(path)
        plan = load_plan(location)
        # This task has no connection; where a sandbox is, its plan doesn't say.
        if not plan.sandbox:
            leave_link(context, f"https://{plan.account}.aha.io")
        return location, plan


def _struck_out(event: Mapping[str, Any], asked: Sequence[str]) -> tuple[list[str], str | None, str | None]:
    """Read the form: ids of those asked about, why they are struck out, and what is wrong with it."""
    given = event.get("params_input") or {}
    try:
        found = to_list(given.get("strike_out") or [], "strike_out") or []
    except AhaError:
        return [], None, "strike_out is not a list of ids"
    if unknown := len(set(found) - set(asked)):
        return found, None, f"strike_out has {unknown} entries that are not ids of the plan's users"
    try:
        reason = to_words(given.get("strike_reason"), "strike_reason")
    except AhaError:
        reason = None
    if found and reason is None:
        return found, None, "Users were struck out without a reason that a person can read"
    return found, reason, None


def _named(ids: Sequence[str], plan: Plan) -> str:
    """Name ids of the plan for a log; whatever else somebody typed stays out of it."""
    known = {row.user_id for row in plan.rows}
    named = [user_id for user_id in ids if user_id in known][:_NAMED]
    more = f" and {len(ids) - len(named)} more" if len(ids) > len(named) else ""
    return f"{', '.join(named)}{more}" or "nobody"
