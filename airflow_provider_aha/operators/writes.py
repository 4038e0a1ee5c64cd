"""What the operators that write to Aha! have in common: guards, evidence, a manifest for every try."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_aha.common.values import to_text, to_words
from airflow_provider_aha.exceptions import (
    AhaConfigurationError,
    AhaError,
    AhaGuardError,
)
from airflow_provider_aha.hooks.paths import resolve_base_path, resolve_path
from airflow_provider_aha.lists.matching import UserMatcher
from airflow_provider_aha.operators.guards import GuardedOperator
from airflow_provider_aha.operators.lineage import users_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_aha.access.plan.plan import Decision, Plan
    from airflow_provider_aha.record.run import Run, RunFolder
    from airflow_provider_aha.store.store import Store


# At most this many users are named in a log or a sentence.
_NAMED = 20


class Done(NamedTuple):
    """What a writing task has done.

    :param rows: its evidence, one row per object.
    :param evidence: where that is kept.
    """

    rows: list[dict[str, Any]]
    evidence: str


class AhaWriteOperator(GuardedOperator):
    """Base of the operators that write to Aha!.

    :param base_path: where evidence is kept; left out: the Airflow Variable ``aha_output_path``, else
        ``$AIRFLOW_HOME/aha``. (templated)
    :param approved_plan_sha256: the SHA-256 of the one larger plan that is let through. (templated)
    :param ticket: number of the ticket that asked for it, for the evidence. (templated)
    """

    template_fields: Sequence[str] = (
        "base_path",
        "approved_plan_sha256",
        "ticket",
        *GuardedOperator.template_fields,
    )

    def __init__(
        self,
        *,
        base_path: str | None = None,
        approved_plan_sha256: str | None = None,
        ticket: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.base_path = base_path
        self.approved_plan_sha256 = approved_plan_sha256
        self.ticket = ticket

    def location(self) -> Store:
        """Return the base path."""
        return resolve_base_path(self.base_path)

    def check_privileged(self, allowed: object, changes: Mapping[str, Any], *, dry_run: bool) -> None:
        """Refuse to change access without a plan, unless DAG code says that it may.

        :param allowed: what the DAG gives as ``allow_privileged``; nothing but True will do.
        :param changes: fields of the ``user`` object to set.
        :param dry_run: whether nothing is changed.
        :raises AhaConfigurationError: when it may not.
        """
        from airflow_provider_aha.access.operations.user_fields import HARMLESS

        privileged = [name for name in changes if name not in HARMLESS]
        if privileged and not dry_run and allowed is not True:
            raise AhaConfigurationError(
                f"{', '.join(privileged)} may decide over access: make a plan that a second person approves "
                "(AhaPlanAccessOperator), or say allow_privileged=True in the DAG's code. Nothing was done."
            )

    def change_users(
        self, context: Context, action: str, users: Sequence[str], changes: Mapping[str, Any], *, dry_run: bool
    ) -> Done:
        """Change users who were named by id or email.

        :param context: the task's context.
        :param action: ``deactivate``, ``reactivate`` or ``update``.
        :param users: ids or emails.
        :param changes: fields of the ``user`` object to set.
        :param dry_run: read and judge only.
        :return: what became of them.
        """
        from airflow_provider_aha.access.decide.named import decide
        from airflow_provider_aha.record.run import START

        facts = {"ticket": to_words(self.ticket, "ticket")}

        def named(folder: RunFolder) -> Decision:
            known = (folder.read(START) or {}).get("asked")
            return decide(self.hook.get_conn(), users, changes, action=action, facts=facts, known=known)

        return self.carry_out(context, action, named, dry_run=dry_run)

    def carry_out(
        self, context: Context, action: str, make_decision: Callable[[RunFolder], Decision], *, dry_run: bool
    ) -> Done:
        """Make a decision and carry it out, and leave a manifest whatever happens.

        :param context: the task's context.
        :param action: ``deactivate``, ``reactivate`` or ``update``.
        :param make_decision: says who is to be changed; given the task's folder.
        :param dry_run: read and judge only.
        :return: what became of them.
        :raises AhaError: when users failed whom a retry may cure.
        :raises AirflowFailException: when users were blocked, so that a person must look.
        """
        from airflow_provider_aha.access.write.carry_out import carry_out
        from airflow_provider_aha.access.write.guards import Protection
        from airflow_provider_aha.record.evidence import FILE
        from airflow_provider_aha.record.run import RunFolder

        # What a person wrote comes first, so that a wrong argument stops the task before any request.
        guards = self.guards(to_text(self.approved_plan_sha256, "approved_plan_sha256"))
        exclusions = guards.load_exclusions()
        client, run = self.hook.get_conn(), run_of(context)
        self.link_to(context)
        folder = RunFolder(self.location(), client.config.account, run)
        rows: list[dict[str, Any]] = []
        about: dict[str, Any] = {"action": action, "dry_run": dry_run, "ended": "failed"}
        try:
            today = datetime.now(UTC).date()
            excluded = exclusions.holding(today) if exclusions else UserMatcher()
            protection = Protection(client.me()["id"], guards.protected, excluded)
            client.check_clock()
            decision = make_decision(folder)
            if decision.guards_were_set and not guards.is_set:
                raise AhaGuardError(
                    "The Variable aha_guards was set when the plan was made, and isn't found now: it was deleted, "
                    "or Airflow can't read it. Nothing was done. If nobody is to be protected any more, set it to "
                    "{}."
                )
            for sentence in protection.check(decision.users):
                self.log.warning(sentence)
            if exclusions:
                # Those that hold at the write, rather than at the plan.
                decision = replace(decision, facts={**decision.facts, "exclusions_sha256": exclusions.sha256})
            about["users"] = len(decision.targets)
            if len(decision.targets) == 1:
                self.link_to(context, decision.targets[0].user_id)
            rows = carry_out(
                client, folder, run, decision, caps=guards.caps, protection=protection, dry_run=dry_run
            )
            about["ended"] = "completed"
        except AhaError as error:
            about["reason"] = str(error)
            raise
        finally:
            self._close(folder, run, {**about, "sandbox": client.sandbox, "outcomes": counts(rows)})
        account = users_of(client.config.host)
        written = [] if dry_run else [account]
        self.report_lineage(self.hook, inputs=[account], outputs=[*written, folder.url(FILE)])
        self._log_outcomes(rows, folder.url(FILE))
        self._fail_for(rows, folder)
        return Done(rows, folder.url(FILE))

    def _log_outcomes(self, rows: Sequence[Mapping[str, Any]], evidence: str) -> None:
        """Say what became of each user, those that a person must look at first, and where it is written down."""
        order = {"failed": 0, "unknown": 0, "blocked": 1, "unverified": 2, "skipped": 3}
        first = sorted(rows, key=lambda row: order.get(str(row["outcome"]), 4))
        for row in first[:_NAMED]:
            reason = f": {_loggable(row['reason'])}" if row["reason"] else ""
            self.log.info("User %s, %s: %s%s", row["user_id"], _what(row), row["outcome"], reason)
        if len(rows) > _NAMED:
            self.log.info("and %d more", len(rows) - _NAMED)
        self.log.info("Evidence: %s", evidence)

    def _close(self, folder: RunFolder, run: Run, about: Mapping[str, Any]) -> None:
        from airflow_provider_aha.record.chain import close_try
        from airflow_provider_aha.record.register import files_elsewhere

        close_try(folder, {**about, **asdict(run)}, files_elsewhere(folder, datetime.now(UTC)))

    def _fail_for(self, rows: Sequence[Mapping[str, Any]], folder: RunFolder) -> None:
        from airflow_provider_aha.access.write.carry_out import summary, unfinished
        from airflow_provider_aha.record.evidence import FILE

        if not (ids := unfinished(rows)):
            return
        more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
        sentence = (
            f"{summary(rows)}. A person must look at: {', '.join(ids[:_NAMED])}{more}. Reasons are in "
            f"{folder.url(FILE)}."
        )
        if any(row["outcome"] in ("failed", "unknown", "unverified") for row in rows):
            raise AhaError(sentence)
        raise AirflowFailException(sentence)


def _what(row: Mapping[str, Any]) -> str:
    """Say what was to be done, in words without a name."""
    from airflow_provider_aha.access.operations.registry import OPERATIONS

    if row["operation"] not in OPERATIONS:
        return "unreadable"
    words = OPERATIONS[row["operation"]].words(json.loads(row["wanted_json"] or "{}"))
    return words if row["object"] == "account" else f"{words} in workspace {row['object'][1:]}"


def _loggable(reason: str) -> str:
    """Leave the words of a person out of a reason: they may name somebody."""
    from airflow_provider_aha.access.plan.plan import STRUCK_OUT

    return STRUCK_OUT if reason.startswith(STRUCK_OUT) else reason


def counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count evidence by outcome.

    :param rows: evidence rows.
    """
    return dict(sorted(Counter(str(row["outcome"]) for row in rows).items()))


def names_to_fix(plan: Plan) -> str:
    """Say which of those who were named can't be planned: ids where they are known, never an email.

    :param plan: a plan with such names.
    """
    wrong = plan.wrong_names
    parts = []
    for entry in wrong[:_NAMED]:
        ids = ", ".join(f"id {one}" for one in entry["ids"])
        parts.append(f"{entry['reason'].replace('_', ' ')}{f' ({ids})' if ids else ''}")
    more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    return (
        f"{len(wrong)} of those who were named can't be changed: {'; '.join(parts)}{more}. Who it is stands in the "
        f"plan {plan.path}. Put the names right and start a new run. Nothing was done."
    )


def say_paid_seats(rows: Sequence[Mapping[str, Any]], log: Any) -> int:
    """Say how many users take a paid seat, and count them.

    :param rows: evidence rows of a reactivation.
    :param log: where it is said.
    """
    if seats := paid_seats(rows):
        who = "1 of these users takes" if seats == 1 else f"{seats} of these users take"
        log.info("%s a paid seat; Aha! may bill for it at once.", who)
    return seats


def paid_seats(rows: Sequence[Mapping[str, Any]]) -> int:
    """Count the users who take a paid seat by being enabled, now or (in a dry run) later.

    :param rows: evidence rows of a reactivation.
    """
    counted = ("changed", "changed_after_crash", "dry_run")
    found = [
        row for row in rows if row["outcome"] in counted and json.loads(row["wanted_json"] or "{}").get("enabled")
    ]
    befores = [json.loads(row["before_json"] or "{}") for row in found]
    return sum(bool(before.get("paid_seat")) and before.get("enabled") is False for before in befores)


def evidence_at(path: str, base: Store, account: str) -> Store:
    """Return where evidence lies, if it is this account's own.

    :param path: path of an ``evidence.parquet``.
    :param base: the base path.
    :param account: the account.
    :raises AhaConfigurationError: when it lies elsewhere: a file of one's own would enable anybody.
    """
    from airflow_provider_aha.record.evidence import FILE
    from airflow_provider_aha.record.run import account_path

    location = resolve_path(path)
    folder = base.within(account_path(account))
    if folder.name_of(location) is None or location.name != FILE:
        raise AhaConfigurationError(
            f"evidence must be an {FILE} below {folder.url}, where this package keeps the records of {account}. "
            "Nothing was done."
        )
    return location


def result(done: Done, *, dry_run: bool) -> dict[str, Any]:
    """Make the XCom of a writing task: ids and counts, no names.

    :param done: what the task has done.
    :param dry_run: whether nothing was changed.
    """
    return {
        "dry_run": dry_run,
        "outcomes": counts(done.rows),
        "users": {_name(row): row["outcome"] for row in done.rows},
        "evidence": done.evidence,
    }


def _name(row: Mapping[str, Any]) -> str:
    """Return by what an XCom calls the object of a row: the user, or the user and the role."""
    user_id, place = str(row["user_id"]), row["object"]
    return user_id if place == "account" else f"{user_id}.{place}"


def run_of(context: Context) -> Run:
    """Say on whose behalf a task runs.

    :param context: the task's context.
    """
    from airflow_provider_aha.record.run import Run

    instance, dag_run = context["ti"], context["dag_run"]
    mapped = instance.map_index is not None and instance.map_index >= 0
    return Run(
        dag_id=instance.dag_id,
        run_id=instance.run_id,
        task_id=f"{instance.task_id}[{instance.map_index}]" if mapped else instance.task_id,
        try_number=instance.try_number,
        requested_by=getattr(dag_run, "triggering_user_name", None) or str(dag_run.run_type),
    )
