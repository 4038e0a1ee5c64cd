"""The operator that looks, after an extract, whether those whose access was taken are still without it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_aha.hooks.common import without_useless_retries
from airflow_provider_aha.hooks.paths import resolve_base_path
from airflow_provider_aha.operators.base import AhaOperator
from airflow_provider_aha.operators.writes import run_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

# So many ids a log line may name.
_NAMED = 20
_ALARMS = {
    "came_back": (
        "Users whose access was taken are enabled again, and not by this package: {}. Find out who enabled them."
    ),
    "not_done": (
        "Users are still enabled though a run asked Aha! to disable them: {}. Disable them in Aha!, or let a run "
        "do it again."
    ),
}


class AhaConfirmDeactivationsOperator(AhaOperator):
    """Confirm deactivations by the newest snapshot, or raise an alarm; Aha! isn't asked.

    Everybody whose access was taken within the last 90 days, or may have been, before the snapshot was read, is
    looked up. Who is disabled is recorded once as ``confirmed`` (``verified_by`` is ``next_extract``). Who is
    enabled, though this package hasn't enabled them, is recorded once: as ``came_back`` where it was proven that
    the access was taken, else as ``not_done``. The task fails then, so that somebody looks.

    :param base_path: where the snapshots and the evidence are; left out: the Airflow Variable
        ``aha_output_path``, else ``$AIRFLOW_HOME/aha``. (templated)
    :param aha_conn_id: the Airflow connection of the account. (templated)
    :return: ``account``, ``snapshot``, ``looked_up`` and ``confirmed`` (counts), ``came_back`` and ``not_done``
        (ids).
    :raises AirflowFailException: without retries, when somebody came back, or was never disabled.
    :raises AhaError: when snapshot or records can't be read.
    """

    template_fields: Sequence[str] = ("base_path", "aha_conn_id")

    def __init__(self, *, base_path: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.base_path = base_path

    def execute(self, context: Context) -> dict[str, Any]:
        """Look everybody up.

        :param context: the task's context.
        :return: what was found.
        """
        from airflow_provider_aha.access.write.confirm import confirm

        with without_useless_retries(self.aha_conn_id):
            location = resolve_base_path(self.base_path)
            account = self.hook.get_conn().config.account
            self.link_to(context)
            found = confirm(location, account, run_of(context), now=datetime.now(UTC))
        self.log.info("%d users were looked up, %d newly confirmed.", found["looked_up"], found["confirmed"])
        alarms = [sentence.format(_named(found[word])) for word, sentence in _ALARMS.items() if found[word]]
        if alarms:
            raise AirflowFailException(f"{' '.join(alarms)} See the evidence of this task.")
        return found


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return f"{len(ids)} ({', '.join(ids[:_NAMED])}{more})"
