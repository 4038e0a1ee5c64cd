"""The assets that extracts update, and how a consumer finds the manifest behind an asset event."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, Asset

from airflow_provider_aha.exceptions import AhaConfigurationError

SCHEME = "aha://"

USERS = Asset("aha://users")
USER_ROLES = Asset("aha://user_roles")
USER_ROLE_SUMMARY = Asset("aha://user_role_summary")
USER_CHANGES = Asset("aha://user_changes")


def dataset_of(asset: Any) -> str | None:
    """Return the dataset that an asset stands for, or None for an asset of somebody else.

    :param asset: an asset, or its URI.
    """
    uri = str(getattr(asset, "uri", asset))
    # Airflow 2.11 adds a slash to the URI.
    return uri.removeprefix(SCHEME).rstrip("/") if uri.startswith(SCHEME) else None


def check_outlets(outlets: Iterable[Any], datasets: Sequence[str]) -> None:
    """Refuse outlets whose dataset a task doesn't land: Airflow would announce data that isn't there.

    :param outlets: the task's outlets.
    :param datasets: what the task lands.
    :raises AhaConfigurationError: when an outlet has no data.
    """
    for outlet in outlets:
        dataset = dataset_of(outlet)
        if dataset and dataset not in datasets:
            raise AhaConfigurationError(f"The outlet {SCHEME}{dataset} is not among the datasets of this task.")


def attach_manifest(context: Any, outlets: Iterable[Any], manifest: Mapping[str, Any]) -> None:
    """Put the manifest of a snapshot on the asset events of a task.

    :param context: the task's context.
    :param outlets: the task's outlets; those of other schemes are left alone.
    :param manifest: the manifest.
    """
    for outlet in outlets:
        if dataset_of(outlet):
            context["outlet_events"][outlet].extra = dict(manifest)


def manifests(context: Any, asset: Any) -> list[dict[str, Any]]:
    """Return the manifests that a run is to work on.

    A run that assets started works on every event that started it, the newest of each account; a run that a
    person started works on the newest event there is. The asset must be an inlet of the task.

    :param context: the task's context.
    :param asset: one of this module's assets.
    :return: manifests, one per account, ordered by account.
    :raises AirflowFailException: when no extract has been announced yet.
    """
    found = list(_triggering(context, asset)) or list(_newest(context, asset))
    newest: dict[str, dict[str, Any]] = {}
    for manifest in sorted(found, key=lambda item: str(item["started_at"])):
        newest[manifest["account"]] = manifest
    if not newest:
        raise AirflowFailException(
            f"No snapshot of {SCHEME}{dataset_of(asset)} has been announced yet: run the DAG aha_extract first."
        )
    return [newest[account] for account in sorted(newest)]


def _triggering(context: Any, asset: Any) -> Iterator[dict[str, Any]]:
    events = context.get("triggering_asset_events") or context.get("triggering_dataset_events") or {}
    for key in events:
        if dataset_of(key) == dataset_of(asset):
            yield from _manifests_of(events[key])


def _newest(context: Any, asset: Any) -> Iterator[dict[str, Any]]:
    accessors = context.get("inlet_events")
    inlet = next((item for item in accessors or () if dataset_of(item) == dataset_of(asset)), None)
    if inlet is None:
        return
    events = accessors[inlet]
    for place in range(len(events) - 1, -1, -1):
        if found := list(_manifests_of([events[place]])):
            yield found[0]
            return


def _manifests_of(events: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Yield what extracts attached; an event that somebody made by hand has no manifest."""
    for event in events:
        extra = dict(event.extra or {})
        if {"account", "started_at", "files"} <= extra.keys():
            yield extra
