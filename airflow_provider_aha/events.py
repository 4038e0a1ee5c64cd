"""What changed, as sensors return it and asset watchers tell it: for the tasks that react."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

if TYPE_CHECKING:
    pass


def watcher_events(context: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the events of an asset watcher that started this run tell, each once.

    ::

        @task
        def new_administrators(**context):
            return changed_users(watcher_events(context), "admin_granted")

    :param context: the task's context.
    :return: payloads of :class:`airflow_provider_aha.triggers.watcher.AhaUsersChangedTrigger`.
    :raises AirflowFailException: when the watcher says that it can't watch, or no watcher started this run.
    """
    events = context.get("triggering_asset_events") or {}
    extras = [event.extra or {} for asset in events for event in events[asset]]
    payloads = [extra["payload"] for extra in extras if extra.get("from_trigger") and extra.get("payload")]
    if not payloads:
        raise AirflowFailException("No watcher has started this run: it reacts to a change, and there is none.")
    for payload in payloads:
        if payload["status"] != "changed":
            raise AirflowFailException(f"The account can't be watched: {payload['message']}")
    return list({payload["event_id"]: payload for payload in payloads}.values())


def changed_users(events: Iterable[Mapping[str, Any]], change: str) -> list[str]:
    """Return the ids of the users to whom something happened, each once.

    :param events: what :func:`watcher_events` or
        :class:`airflow_provider_aha.sensors.users.AhaUsersChangedSensor` returned.
    :param change: a word of ``user_changes``.
    """
    found = (row for event in events for row in event["changes"])
    return list(dict.fromkeys(row["user_id"] for row in found if row["change"] == change))
