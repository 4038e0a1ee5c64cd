"""The approval of a plan by a person, for Airflow 3.1 and later.

Airflow before 3.1 has no way to ask a person inside a run: importing this module fails there, and plans can
be made and looked at, but not carried out with an approval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, Param
from airflow.providers.standard.exceptions import HITLTimeoutError
from airflow.providers.standard.operators.hitl import HITLOperator

from airflow_provider_aha.exceptions import AhaError, AhaSnapshotError
from airflow_provider_aha.hooks.paths import resolve_path
from airflow_provider_aha.operators.writes import run_of
from airflow_provider_aha.values import to_list, to_text

if TYPE_CHECKING:
    from airflow_provider_aha.lifecycle.plan import Plan
    from airflow_provider_aha.storage import Location

_APPROVE, _REJECT = "Approve", "Reject"

_STRIKE_OUT = Param(
    [],
    type=["array", "null"],
    items={"type": "string", "pattern": "^[0-9]+$"},
    title="Strike out",
    description="Ids of users to leave alone; the plan can only become smaller.",
)


class AhaApproveDeactivationsOperator(HITLOperator):
    """Ask a person whether a plan is to be carried out, and write the answer beside it.

    The writing task trusts only the ``approval.json`` that this task writes, once, on approve, reject and
    timeout. A plan without candidates is not asked about. The form field ``strike_out`` takes ids off the plan.

    :param plan: path of the ``plan.json``. (templated)
    :param approvers: ids of the Airflow users who may answer; empty: everybody but who triggered the
        run. (templated)
    :param response_timeout: how long to wait for the answer; no answer is a no.
    :return: ``choice``, ``plan_sha256`` and the number of users struck out.
    :raises AirflowSkipException: when the plan was rejected or nobody answered, so that what follows is skipped.
    :raises AirflowFailException: when this plan was answered before; start a new run.
    """

    template_fields: Sequence[str] = ("plan", "approvers")
    ui_color = "#fbefdc"

    def __init__(
        self,
        *,
        plan: str,
        approvers: Sequence[str] | str = (),
        response_timeout: timedelta = timedelta(hours=24),
        **kwargs: Any,
    ) -> None:
        # Airflow hands the DAG's own Params in here too; reading their values would validate them.
        inherited = kwargs.pop("params", None) or {}
        read = getattr(inherited, "get_param", inherited.__getitem__)
        params = {**{name: read(name) for name in inherited}, "strike_out": _STRIKE_OUT}
        super().__init__(
            subject="Deactivate Aha! users?",
            options=[_APPROVE, _REJECT],
            defaults=_REJECT,
            response_timeout=response_timeout,
            params=params,
            **kwargs,
        )
        self.plan = plan
        self.approvers = approvers

    def execute(self, context: Any) -> Any:
        """Show the plan and wait.

        :param context: the task's context.
        """
        from airflow_provider_aha.lifecycle.approval import FILE, REQUEST_FILE
        from airflow_provider_aha.lifecycle.records import create_once, read_record
        from airflow_provider_aha.lifecycle.summary import summary
        from airflow_provider_aha.storage import to_json

        location, plan = self._load()
        approvers = to_list(self.approvers, "approvers") or []
        if not plan.rows:
            self.log.info("The plan has no candidates: there is nothing to approve.")
            return {"choice": None, "plan_sha256": plan.sha256, "struck_out": 0}
        if read_record(location.fs, beside(location, FILE)) is not None:
            raise AirflowFailException("This plan was answered before, and an answer counts once: start a new run.")
        create_once(location.fs, beside(location, REQUEST_FILE), to_json({"plan_sha256": plan.sha256}))
        self.body = summary(plan)
        if approvers:
            self.assigned_users = [{"id": approver, "name": approver} for approver in approvers]
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        """Write the answer down.

        :param context: the task's context.
        :param event: what Airflow says of the answer.
        :return: the answer.
        """
        from airflow_provider_aha.lifecycle.approval import FILE
        from airflow_provider_aha.lifecycle.records import create_once
        from airflow_provider_aha.storage import to_json

        location, plan = self._load()
        record = self._record(context, event, location)
        if not create_once(location.fs, beside(location, FILE), to_json(record)):
            raise AirflowFailException("This plan was answered before, and an answer counts once: start a new run.")
        self._close(context, location, plan, record["choice"])
        if record["choice"] != _APPROVE:
            raise AirflowSkipException("The plan was rejected, or nobody answered in time: nobody is deactivated.")
        return {
            "choice": record["choice"],
            "plan_sha256": record["plan_sha256"],
            "struck_out": len(record["strike_out"]),
        }

    def _close(self, context: Any, location: Location, plan: Plan, choice: str) -> None:
        """Leave a manifest: the control ran, whatever the answer was."""
        from airflow_provider_aha.lifecycle.chain import close_try
        from airflow_provider_aha.lifecycle.records import RunFolder

        run = run_of(context)
        base = replace(location, path=_base(location.path), url=_base(location.url))
        about = {"action": "approve", "ended": choice, "sandbox": plan.sandbox, **asdict(run)}
        path, digest = close_try(RunFolder(base, plan.account, run), {**about, "plan_sha256": plan.sha256})
        self.log.info("Manifest %s, SHA-256 %s", path, digest)

    def _record(self, context: Any, event: dict[str, Any], location: Location) -> dict[str, Any]:
        from airflow_provider_aha.lifecycle.approval import REQUEST_FILE
        from airflow_provider_aha.lifecycle.journal import timestamp
        from airflow_provider_aha.lifecycle.records import read_record

        request = read_record(location.fs, beside(location, REQUEST_FILE))
        if request is None:
            raise AhaSnapshotError(f"{beside(location, REQUEST_FILE)} is missing: it isn't known what was shown.")
        answer = self._answer(context, event)
        person = answer.get("responded_by_user") or {}
        moment = answer.get("responded_at")
        chosen = list(answer.get("chosen_options") or [])
        return {
            "choice": _APPROVE if chosen == [_APPROVE] else _REJECT,
            # What was shown, not what lies there now.
            "plan_sha256": request["plan_sha256"],
            "responded_at": timestamp(moment) if hasattr(moment, "astimezone") else moment,
            "responded_by_id": person.get("id"),
            "responded_by_name": person.get("name"),
            "approvers": to_list(self.approvers, "approvers") or [],
            "strike_out": to_list((answer.get("params_input") or {}).get("strike_out") or [], "strike_out") or [],
            "dag_id": context["ti"].dag_id,
            "run_id": context["ti"].run_id,
        }

    def _answer(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        known = set(self.params)
        # 3.1 shows the DAG's own Params in the form too; they are nobody's answer here.
        inputs = {key: value for key, value in (event.get("params_input") or {}).items() if key in known}
        try:
            return dict(super().execute_complete(context, {**event, "params_input": inputs}))
        except HITLTimeoutError:
            return {}

    def _load(self) -> tuple[Location, Plan]:
        from airflow_provider_aha.lifecycle.plan import load_plan

        path = to_text(self.plan, "plan")
        if path is None:
            raise AhaError("plan is not set.")
        location = resolve_path(path)
        return location, load_plan(location.fs, location.path)


def beside(location: Location, name: str) -> str:
    """Return the path of a file in the same folder.

    :param location: the file.
    :param name: the other file's name.
    """
    return f"{location.path.rpartition('/')[0]}/{name}"


def _base(path: str) -> str:
    return path.rpartition("/deactivations/")[0]
