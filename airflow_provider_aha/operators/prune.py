"""The operator that deletes what is older than it may be."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_aha.common.values import to_bool, to_int, to_text
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.hooks.common import without_useless_retries
from airflow_provider_aha.hooks.paths import resolve_path
from airflow_provider_aha.operators.base import AhaOperator
from airflow_provider_aha.operators.writes import run_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

SNAPSHOT_DAYS = 400
EVIDENCE_DAYS = 7 * 365 + 2


class AhaPruneOperator(AhaOperator):
    """Delete snapshots and evidence of an account that are older than they may be; Aha! isn't asked.

    The newest snapshot stays, however old. What stays of the records can still be verified: an anchor holds the
    hash of the last manifest that was deleted. Nothing that the layout doesn't know is touched.

    :param base_path: where the snapshots and the evidence are. (templated)
    :param snapshot_days: snapshots and their reports are deleted after so many days. (templated)
    :param evidence_days: deactivations, reviews and pushes are deleted after so many days, at least 90: plans
        count on what the last weeks say. (templated)
    :param dry_run: say what would be deleted, but delete nothing; the default, since nothing brings it
        back. (templated)
    :param aha_conn_id: the Airflow connection of the account. (templated)
    :return: ``account``, ``dry_run``, ``snapshots`` (days), ``reviews`` (ids), and how many ``pushes``,
        ``manifests`` and ``files``.
    :raises AirflowFailException: without retries, when an argument can't be right, or the records
        were changed: what was done to it must stay to be seen.
    :raises AhaError: when something can't be read or deleted; a retry goes on.
    """

    template_fields: Sequence[str] = ("base_path", "snapshot_days", "evidence_days", "dry_run", "aha_conn_id")

    def __init__(
        self,
        *,
        base_path: str,
        snapshot_days: int | str = SNAPSHOT_DAYS,
        evidence_days: int | str = EVIDENCE_DAYS,
        dry_run: bool | str = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.base_path = base_path
        self.snapshot_days = snapshot_days
        self.evidence_days = evidence_days
        # Hides BaseOperator.dry_run(), which only `airflow tasks test --dry-run` calls.
        self.dry_run = dry_run  # type: ignore[method-assign, assignment]

    def execute(self, context: Context) -> dict[str, Any]:
        """Delete what is too old.

        :param context: the task's context.
        :return: what was deleted, or would be.
        """
        from airflow_provider_aha.record.check import LEAST_DAYS
        from airflow_provider_aha.record.retention import Retention, prune

        with without_useless_retries(self.aha_conn_id):
            dry_run = to_bool(self.dry_run, "dry_run", default=True)
            snapshots = to_int(self.snapshot_days, "snapshot_days", SNAPSHOT_DAYS, 1, 36500)
            evidence = to_int(self.evidence_days, "evidence_days", EVIDENCE_DAYS, LEAST_DAYS, 36500)
            base_path = to_text(self.base_path, "base_path")
            if base_path is None:
                raise AhaConfigurationError("base_path is not set.")
            self.link_to(context)
            return prune(
                resolve_path(base_path),
                self.hook.get_conn().config.account,
                run_of(context),
                Retention(timedelta(days=snapshots), timedelta(days=evidence)),
                dry_run=dry_run,
                now=datetime.now(UTC),
            )
