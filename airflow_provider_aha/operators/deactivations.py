"""Operators that take access away, and give it back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_aha.common.values import to_bool, to_list, to_text
from airflow_provider_aha.exceptions import AhaApprovalError, AhaConfigurationError
from airflow_provider_aha.hooks.paths import resolve_path
from airflow_provider_aha.operators.guards import approvers_of
from airflow_provider_aha.operators.writes import (
    AhaWriteOperator,
    Done,
    counts,
    run_of,
    without_useless_tries,
)

if TYPE_CHECKING:
    from airflow_provider_aha.access.plan.plan import Decision, Plan
    from airflow_provider_aha.record.run import RunFolder
    from airflow_provider_aha.store.store import Location

_DISABLE, _ENABLE = {"enabled": False}, {"enabled": True}


class AhaDeactivateUsersOperator(AhaWriteOperator):
    """Disable users, each read again before and verified after, with evidence of everything.

    Either a plan of :class:`airflow_provider_aha.operators.plan.AhaPlanDeactivationsOperator`, or users by
    name. Nothing is done while a cap, another run or a missing approval holds it back. Users who are
    protected, or have changed since the decision, are left as they are and named.

    :param plan: path of a ``plan.json``. (templated)
    :param users: ids or emails, instead of a plan. (templated)
    :param dry_run: read and judge, but change nothing; the default. (templated)
    :param require_approval: whether an ``approval.json`` beside the plan must say yes. Without it a plan is
        carried out by policy only: if every row of it passes, for people who have just left; any other plan
        needs an approval all the same. Users by name have no plan that could be approved, so it must
        be switched off for them. Not templated on purpose.
    :param approvers: ids or names of those who may approve; empty: everybody but who triggered the run.
    :return: ``outcomes`` (count by outcome), ``users`` (outcome by user id), ``evidence`` (its path), ``dry_run``
        and ``hours_to_disable`` (the longest time from the end of a last day until the user was disabled).
    :raises AirflowFailException: without retries, when a guard or the approval holds the run back, an
        argument can't be right, or users were blocked.
    :raises AhaError: when users failed whom a retry may cure; a retry touches only those.
    """

    template_fields: Sequence[str] = ("plan", "users", "dry_run", *AhaWriteOperator.template_fields)

    def __init__(
        self,
        *,
        plan: str | None = None,
        users: Sequence[str] | str | None = None,
        dry_run: bool | str = True,
        require_approval: bool = True,
        approvers: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.users = users
        # Hides BaseOperator.dry_run(), which only `airflow tasks test --dry-run` calls.
        self.dry_run = dry_run  # type: ignore[method-assign, assignment]
        self.require_approval = require_approval
        self.approvers = approvers

    def execute(self, context: Any) -> dict[str, Any]:
        """Disable the users.

        :param context: the task's context.
        :return: what became of them.
        """
        with without_useless_tries(self.aha_conn_id):
            dry_run = to_bool(self.dry_run, "dry_run", default=True)
            plan, users = to_text(self.plan, "plan"), to_list(self.users, "users")
            if (plan is None) == (users is None):
                raise AhaConfigurationError("Give either plan or users.")
            if users is not None:
                if self.require_approval and not dry_run:
                    raise AhaConfigurationError(
                        "Users by name can't be approved: make a plan of class named, or say "
                        "require_approval=False in the DAG."
                    )
                done = self.change_users(context, "deactivate", users, _DISABLE, dry_run=dry_run)
            else:
                done = self.carry_out(
                    context,
                    "deactivate",
                    lambda folder: self._decision(str(plan), folder, context, dry_run=dry_run),
                    dry_run=dry_run,
                )
        hours = [float(row["hours_to_disable"]) for row in done.rows if row["hours_to_disable"] is not None]
        if hours:
            self.log.info("Who left was disabled at most %.1f hours after the last day had ended.", max(hours))
        return {**result(done, dry_run=dry_run), "hours_to_disable": max(hours, default=None)}

    def _decision(self, plan_path: str, folder: RunFolder, context: Any, *, dry_run: bool) -> Decision:
        """Read the plan and, where it is to be carried out, its approval."""
        from airflow_provider_aha.access.plan.plan import decision_of, load_plan, load_users

        location = resolve_path(plan_path)
        plan = load_plan(location.fs, location.path)
        approval: dict[str, Any] = {}
        strike_out: list[str] = []
        if plan.rows and not dry_run:
            approval, strike_out = self._approval(location, plan, folder, context)
        return decision_of(
            plan,
            account=self.hook.get_conn().config.account,
            strike_out=strike_out,
            facts={"ticket": to_text(self.ticket, "ticket"), **approval},
            now=datetime.now(UTC),
            users=load_users(location.fs, location.path, plan.header),
        )

    def _approval(
        self, location: Location, plan: Plan, folder: RunFolder, context: Any
    ) -> tuple[dict[str, Any], list[str]]:
        """Return what the evidence says of the approval, and who was taken off the plan."""
        from airflow_provider_aha.access.plan.approval import FILE, check_approval, policy_allows
        from airflow_provider_aha.access.plan.plan import FILE as PLAN_FILE
        from airflow_provider_aha.store.store import read_record

        # Where it lies comes from an XCom, and an XCom can be forged: nobody but Airflow writes in this folder.
        base = self.location()
        if not location.url.startswith(f"{base.url}{folder.account_path.removeprefix(base.path)}/"):
            raise AhaApprovalError(
                f"The plan doesn't lie in {folder.account_path}, where this package keeps plans. Nothing was done."
            )
        run = run_of(context)
        record = read_record(location.fs, f"{location.path.rpartition('/')[0]}/{FILE}")
        if record is None and not self.require_approval:
            if policy_allows(plan.rows) and location.path == f"{folder.run_path}/{PLAN_FILE}":
                return {"approval_mode": "policy"}, []
            raise AhaApprovalError(
                "Without asking a person, only this run's own plan is carried out, and only if every row passes; "
                "what must be asked about, and why, is in the plan. This one needs an approval. Nothing was done."
            )
        facts = check_approval(
            record,
            plan_sha256=plan.sha256,
            approvers=approvers_of(self.approvers),
            requested_by=run.requested_by,
            now=datetime.now(UTC),
            anonymous_counts=self.hook.get_conn().config.is_loopback,
        )
        # In a run that somebody else started, the one who asked could be the one who approved.
        if record is None or (record.get("dag_id"), record.get("run_id")) != (run.dag_id, run.run_id):
            raise AhaApprovalError("The plan was approved in another run than this one. Nothing was done.")
        return facts, to_list(record.get("strike_out"), "strike_out") or []


class AhaReactivateUsersOperator(AhaWriteOperator):
    """Enable users again: those that a run disabled, or users by name, under the same guards.

    Aha! may bill at once for every paid seat that is taken again; the log and the result say how many.

    :param evidence: path of an ``evidence.parquet``: exactly the users that its run disabled are enabled,
        those included whose answer was lost in a crash; those that were changed since are refused. (templated)
    :param users: ids or emails, instead of evidence. (templated)
    :param dry_run: read and judge, but change nothing; the default. (templated)
    :return: ``outcomes`` (count by outcome), ``users`` (outcome by user id), ``evidence`` (its path),
        ``paid_seats`` and ``dry_run``.
    :raises AirflowFailException: as :class:`AhaDeactivateUsersOperator`.
    :raises AhaError: as :class:`AhaDeactivateUsersOperator`.
    """

    template_fields: Sequence[str] = ("evidence", "users", "dry_run", *AhaWriteOperator.template_fields)

    def __init__(
        self,
        *,
        evidence: str | None = None,
        users: Sequence[str] | str | None = None,
        dry_run: bool | str = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.evidence = evidence
        self.users = users
        # Hides BaseOperator.dry_run(), which only `airflow tasks test --dry-run` calls.
        self.dry_run = dry_run  # type: ignore[method-assign, assignment]

    def execute(self, context: Any) -> dict[str, Any]:
        """Enable the users.

        :param context: the task's context.
        :return: what became of them.
        """
        with without_useless_tries(self.aha_conn_id):
            dry_run = to_bool(self.dry_run, "dry_run", default=True)
            evidence, users = to_text(self.evidence, "evidence"), to_list(self.users, "users")
            if (evidence is None) == (users is None):
                raise AhaConfigurationError("Give either evidence or users.")
            if users is not None:
                done = self.change_users(context, "reactivate", users, _ENABLE, dry_run=dry_run)
            else:
                done = self.carry_out(context, "reactivate", lambda _: self._undo(str(evidence)), dry_run=dry_run)
        found = {**result(done, dry_run=dry_run), "paid_seats": paid_seats(done.rows)}
        self.log.info("%d of these users take a paid seat; Aha! may bill for it at once.", found["paid_seats"])
        return found

    def _undo(self, path: str) -> Decision:
        from airflow_provider_aha.access.decide.named import undo
        from airflow_provider_aha.record.evidence import read_evidence

        facts = {"ticket": to_text(self.ticket, "ticket")}
        return undo(self.hook.get_conn(), read_evidence(resolve_path(path)), facts=facts)


def result(done: Done, *, dry_run: bool) -> dict[str, Any]:
    """Make the XCom of a writing task: ids and counts, no names.

    :param done: what the task has done.
    :param dry_run: whether nothing was changed.
    """
    return {
        "dry_run": dry_run,
        "outcomes": counts(done.rows),
        "users": {str(row["user_id"]): row["outcome"] for row in done.rows},
        "evidence": done.evidence,
    }


def paid_seats(rows: Sequence[Mapping[str, Any]]) -> int:
    """Count the users who take a paid seat by being enabled, now or (in a dry run) later.

    :param rows: evidence rows of a reactivation.
    """
    counted = ("reactivated", "enabled_after_crash", "dry_run")
    return sum(
        bool(json.loads(row["before_json"] or "{}").get("paid_seat")) for row in rows if row["outcome"] in counted
    )
