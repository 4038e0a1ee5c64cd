"""Operators that disable and enable users whom DAG code names, in one task and without a plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_aha.common.values import to_bool, to_list, to_text, to_words
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.hooks.common import without_useless_retries
from airflow_provider_aha.operators.writes import (
    AhaWriteOperator,
    evidence_at,
    result,
    say_paid_seats,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_aha.access.plan.plan import Decision

_DISABLE, _ENABLE = {"enabled": False}, {"enabled": True}


class AhaDeactivateUsersOperator(AhaWriteOperator):
    """Disable users whom DAG code names, each read again before and verified after, with evidence.

    Nobody is asked: that takes ``allow_privileged=True``, which somebody who reviews the DAG's code has seen. To
    ask a person, make a plan: :class:`airflow_provider_aha.operators.plan.AhaPlanAccessOperator`.

    :param users: ids or emails. (templated)
    :param dry_run: read and judge, but change nothing; the default. (templated)
    :param allow_privileged: lets it change access without asking a person. Not templated on purpose.
    :return: ``outcomes`` (count by outcome), ``users`` (outcome by user id), ``evidence`` (its path) and
        ``dry_run``.
    :raises AirflowFailException: without retries, when a guard holds the run back, an argument can't be right,
        or users were blocked.
    :raises AhaError: when users failed whom a retry may cure; a retry touches only those.
    """

    template_fields: Sequence[str] = ("users", "dry_run", *AhaWriteOperator.template_fields)

    def __init__(
        self,
        *,
        users: Sequence[str] | str,
        dry_run: bool | str = True,
        allow_privileged: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.users = users
        # Hides BaseOperator.dry_run(), which only `airflow tasks test --dry-run` calls.
        self.dry_run = dry_run  # type: ignore[method-assign, assignment]
        self.allow_privileged = allow_privileged

    def execute(self, context: Context) -> dict[str, Any]:
        """Disable the users.

        :param context: the task's context.
        :return: what became of them.
        """
        with without_useless_retries(self.aha_conn_id):
            dry_run = to_bool(self.dry_run, "dry_run", default=True)
            if (users := to_list(self.users, "users")) is None:
                raise AhaConfigurationError("users is not set: give ids or emails.")
            self.check_privileged(self.allow_privileged, _DISABLE, dry_run=dry_run)
            done = self.change_users(context, "deactivate", users, _DISABLE, dry_run=dry_run)
        return result(done, dry_run=dry_run)


class AhaReactivateUsersOperator(AhaWriteOperator):
    """Enable users again: those that a run disabled, or users whom DAG code names, under the same guards.

    Aha! may bill at once for every paid seat that is taken again; the log and the result say how many. Nobody is
    asked: see :class:`AhaDeactivateUsersOperator`.

    :param evidence: path of an ``evidence.parquet`` of this account: exactly the access that its run took is given
        back, also where the answer was lost in a crash; users who were changed since, or of whom nothing proves
        that the run did it, are left and named. (templated)
    :param users: ids or emails, instead of evidence. (templated)
    :param dry_run: read and judge, but change nothing; the default. (templated)
    :param allow_privileged: lets it change access without asking a person. Not templated on purpose.
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
        allow_privileged: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.evidence = evidence
        self.users = users
        # Hides BaseOperator.dry_run(), which only `airflow tasks test --dry-run` calls.
        self.dry_run = dry_run  # type: ignore[method-assign, assignment]
        self.allow_privileged = allow_privileged

    def execute(self, context: Context) -> dict[str, Any]:
        """Enable the users.

        :param context: the task's context.
        :return: what became of them.
        """
        with without_useless_retries(self.aha_conn_id):
            dry_run = to_bool(self.dry_run, "dry_run", default=True)
            evidence, users = to_text(self.evidence, "evidence"), to_list(self.users, "users")
            if (evidence is None) == (users is None):
                raise AhaConfigurationError(
                    f"{'Neither' if users is None else 'Both'} evidence {'nor' if users is None else 'and'} users "
                    "were given: give one of these arguments. Nothing was done."
                )
            self.check_privileged(self.allow_privileged, _ENABLE, dry_run=dry_run)
            if users is not None:
                done = self.change_users(context, "reactivate", users, _ENABLE, dry_run=dry_run)
            else:
                done = self.carry_out(context, "reactivate", lambda _: self._undo(str(evidence)), dry_run=dry_run)
        return {**result(done, dry_run=dry_run), "paid_seats": say_paid_seats(done.rows, self.log)}

    def _undo(self, path: str) -> Decision:
        from airflow_provider_aha.access.decide.named import undo
        from airflow_provider_aha.record.evidence import read_evidence

        client = self.hook.get_conn()
        found = read_evidence(evidence_at(path, self.location(), client.config.account))
        return undo(client, found, facts={"ticket": to_words(self.ticket, "ticket")})
