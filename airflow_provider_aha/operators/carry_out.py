"""The operator that carries a plan out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_aha.common.values import to_bool, to_text, to_words
from airflow_provider_aha.exceptions import AhaApprovalError, AhaConfigurationError, AhaError
from airflow_provider_aha.hooks.common import without_useless_retries
from airflow_provider_aha.hooks.paths import resolve_path
from airflow_provider_aha.operators.guards import approvers_of
from airflow_provider_aha.operators.writes import (
    AhaWriteOperator,
    names_to_fix,
    result,
    run_of,
    say_paid_seats,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_aha.access.plan.plan import Decision, Plan
    from airflow_provider_aha.record.run import Run, RunFolder
    from airflow_provider_aha.store.store import Store


class _Ground(NamedTuple):
    """On what ground rows of a plan are carried out.

    :param facts: what the evidence says of the approval.
    :param among: ids of the rows; None: all.
    :param strike_out: ids that the person who approved took off the plan, with the reason.
    """

    facts: Mapping[str, Any]
    among: frozenset[str] | None = None
    strike_out: Mapping[str, str] = MappingProxyType({})


class AhaCarryOutPlanOperator(AhaWriteOperator):
    """Carry out a plan, each user read again before and verified after, with evidence of everything.

    The plan is one of :class:`airflow_provider_aha.operators.plan.AhaPlanAccessOperator`. Nothing is done while a
    cap, another run or a missing approval holds it back. Users who are protected, or have changed since the plan,
    are left as they are and named.

    :param plan: path of a ``plan.json``. (templated)
    :param dry_run: read and judge, but change nothing; the default. (templated)
    :param require_approval: whether an ``approval.json`` beside the plan must say yes to the rows that a person
        was asked about. Without it, only the rows of this run's own plan are carried out that policy lets pass,
        people who have just left; the others are left to a task that requires an approval. A plan that changes
        nobody's access needs none. Not templated on purpose.
    :param approvers: ids or names of those who may approve; empty: everybody. The answer of who asked for the
        change or triggered the run, is on the plan, or owns its roster never counts. Not templated on purpose.
    :param ticket: for the evidence, where the plan has none. (templated)
    :return: ``outcomes`` (count by outcome), ``users`` (outcome by user id; of a role by user id and workspace, as
        ``123.w456``), ``evidence`` (its path), ``dry_run``,
        ``hours_to_disable`` (the longest time from the end of a last day until the user was disabled) and
        ``paid_seats`` (how many paid seats are taken by enabling users).
    :raises AirflowFailException: without retries, when a guard or the approval holds the run back, an
        argument can't be right, or users were blocked.
    :raises AhaError: when users failed whom a retry may cure; a retry touches only those.
    """

    template_fields: Sequence[str] = ("plan", "dry_run", *AhaWriteOperator.template_fields)

    def __init__(
        self,
        *,
        plan: str,
        dry_run: bool | str = True,
        require_approval: bool = True,
        approvers: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        # Hides BaseOperator.dry_run(), which only `airflow tasks test --dry-run` calls.
        self.dry_run = dry_run  # type: ignore[method-assign, assignment]
        self.require_approval = require_approval
        self.approvers = approvers

    def execute(self, context: Context) -> dict[str, Any]:
        """Carry the plan out.

        :param context: the task's context.
        :return: what became of its users.
        """
        with without_useless_retries(self.aha_conn_id):
            dry_run = to_bool(self.dry_run, "dry_run", default=True)
            if (path := to_text(self.plan, "plan")) is None:
                raise AhaConfigurationError("plan is not set: give the path of a plan.json.")
            location = resolve_path(path)
            plan = _read(location)
            if blocked := _blocked(plan):
                # Here too, since what becomes of the others may end the task with another sentence.
                self.log.warning(blocked)
            done = self.carry_out(
                context,
                "carry_out" if isinstance(plan, AhaError) else plan.action,
                lambda folder: self._decision(plan, location, folder, context, dry_run=dry_run),
                dry_run=dry_run,
            )
        hours = [float(row["hours_to_disable"]) for row in done.rows if row["hours_to_disable"] is not None]
        if hours:
            self.log.info("Each user who left was disabled within %.1f hours of the last day's end.", max(hours))
        seats = say_paid_seats(done.rows, self.log)
        found = result(done, dry_run=dry_run)
        if blocked and not dry_run:
            raise AirflowFailException(
                f"{blocked} Everybody else on the plan is done. Let a person decide about them."
            )
        return {**found, "hours_to_disable": max(hours, default=None), "paid_seats": seats}

    def _decision(
        self, plan: Plan | AhaError, location: Store, folder: RunFolder, context: Context, *, dry_run: bool
    ) -> Decision:
        """Turn the plan into a decision, with its approval where it is to be carried out."""
        from airflow_provider_aha.access.plan.plan import decision_of, load_users

        if isinstance(plan, AhaError):
            # Here, so that the try leaves a manifest.
            raise plan
        if plan.wrong_names:
            raise AhaConfigurationError(names_to_fix(plan))
        given = _Ground({})
        if plan.rows and not dry_run:
            given = self._ground(location, plan, folder, context)
        return decision_of(
            plan,
            account=self.hook.get_conn().config.account,
            strike_out=given.strike_out,
            facts={"ticket": plan.ticket or to_words(self.ticket, "ticket"), **given.facts},
            now=datetime.now(UTC),
            users=load_users(location, plan.header),
            among=given.among,
        )

    def _ground(self, location: Store, plan: Plan, folder: RunFolder, context: Context) -> _Ground:
        """Return on what ground which rows are carried out: an approval, or policy."""
        from airflow_provider_aha.access.plan.approval import (
            APPROVE,
            FILE,
            asked_about,
            check_approval,
            struck_out_by,
        )

        # Where it lies comes from an XCom, and an XCom can be forged: nobody but Airflow writes in this folder.
        name = folder.location.name_of(location) or ""
        if not name.startswith(f"{folder.account_path}/"):
            raise AhaApprovalError(
                f"The plan doesn't lie in {folder.location.url_of(folder.account_path)}, where this package keeps "
                "plans. Nothing was done."
            )
        run, client = run_of(context), self.hook.get_conn()
        approvers = approvers_of(self.approvers)
        # An address of this machine may be a gateway to a real account: the plan's crawl must have been of a
        # sandbox, and Aha! must say so now.
        is_sandbox = plan.sandbox and client.sandbox and client.config.is_loopback
        if not (approvers or is_sandbox) and getattr(context["dag_run"], "run_type", "") != "manual":
            raise AhaApprovalError(
                "A run that no person started is carried out only where approvers are named, by the DAG or the "
                "Variable aha_guards. Nothing was done."
            )
        record = location.beside(FILE).read_record()
        asked = frozenset(asked_about(record, plan))
        if unasked := self._without_asking(location, plan, folder, asked):
            _check_origin(location, "plan", {}, folder, run)
            return unasked
        facts = check_approval(
            record,
            plan=plan,
            approvers=approvers,
            requested_by=run.requested_by,
            now=datetime.now(UTC),
            anonymous_counts=is_sandbox,
        )
        # In a run that somebody else started, the one who asked could be the one who approved.
        if record is None or (record.get("dag_id"), record.get("run_id")) != (run.dag_id, run.run_id):
            raise AhaApprovalError("The plan was approved in another run than this one. Nothing was done.")
        said = {"ended": APPROVE, "plan_sha256": plan.sha256}
        _check_origin(location.beside(FILE), "approve", said, folder, run)
        self.log.info("Approved by %s at %s.", facts["approved_by_id"] or "nobody", facts["approved_at"])
        return _Ground(facts, asked, struck_out_by(record) or {})

    def _without_asking(
        self, location: Store, plan: Plan, folder: RunFolder, asked: frozenset[str]
    ) -> _Ground | None:
        """Return the ground on which rows are carried out that nobody was asked about, or None."""
        from airflow_provider_aha.access.plan.approval import passes
        from airflow_provider_aha.access.plan.plan import FILE

        own = folder.location.name_of(location) == f"{folder.run_path}/{FILE}"
        if own and not plan.decides_access and not asked:
            return _Ground({"approval_mode": "not needed"})
        passing = frozenset(row.user_id for row in plan.rows if passes(row))
        # Nothing but False lifts it: neither None nor an empty text of a template that found nothing.
        if self.require_approval is not False or asked & passing:
            # Where a person was asked about all rows, the answer counts for all.
            return None
        if not own:
            raise AhaApprovalError(
                "Without asking a person, only this run's own plan is carried out. Nothing was done."
            )
        if others := len(plan.rows) - len(passing):
            self.log.info("Policy doesn't let %d users pass: a person must approve them.", others)
        return _Ground({"approval_mode": "policy"}, passing)


def _check_origin(file: Store, action: str, said: Mapping[str, Any], folder: RunFolder, run: Run) -> None:
    """Refuse a plan or an approval that no task of this run has recorded: somebody else wrote it or changed it.

    :param file: the ``plan.json`` of which rows pass unasked, or the ``approval.json``.
    :param action: what the task did that recorded it: ``plan`` or ``approve``.
    :param said: what else its manifest says.
    :param folder: this task's folder.
    :param run: this task.
    """
    from airflow_provider_aha.record.chain import is_vouched

    facts = {"action": action, "dag_id": run.dag_id, "run_id": run.run_id, **said}
    if not is_vouched(folder, folder.location.name_of(file) or "", file.read() or b"", facts):
        raise AhaApprovalError(
            f"{file.url} is in no manifest of a task of this run that says {action}: somebody else wrote it, or "
            "changed it. Nothing was done."
        )


def _read(location: Store) -> Plan | AhaError:
    """Read a plan, or return why it can't be read."""
    from airflow_provider_aha.access.plan.plan import load_plan

    try:
        return load_plan(location)
    except AhaError as error:
        return error


def _blocked(plan: Plan | AhaError) -> str | None:
    """Name those who left and aren't on the plan, since a guard holds their access."""
    blocked = [] if isinstance(plan, AhaError) else plan.header["blocked"]
    if not blocked:
        return None
    who = ", ".join(f"{entry['user_id']} ({entry['reason'].replace('_', ' ')})" for entry in blocked)
    return f"By the roster these users have left, but they are protected, and their access stays: {who}."
