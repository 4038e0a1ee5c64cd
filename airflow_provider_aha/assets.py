"""The assets that extracts update, and how a consumer finds the manifest behind an asset event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, Asset

from airflow_provider_aha.datasets.names import DATASETS
from airflow_provider_aha.exceptions import AhaConfigurationError

SCHEME = "aha://"

if TYPE_CHECKING:
    USERS: Asset
    USER_ROLES: Asset
    USER_ROLE_SUMMARY: Asset
    USER_CHANGES: Asset


def __getattr__(name: str) -> Asset:
    """Make an asset when it is first asked for.

    The first asset of a process has Airflow load the URI handlers of every installed provider, half a second
    with Amazon's: whoever imports an operator doesn't pay for it.
    """
    if name.isupper() and name.lower() in DATASETS:
        asset: Asset = globals().setdefault(name, Asset(SCHEME + name.lower()))
        return asset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def dataset_of(asset: Any) -> str | None:
    """Return the dataset that an asset stands for, or None for an asset of somebody else.

    :param asset: an asset, or its URI.
    """
    uri = str(getattr(asset, "uri", asset))
    # Airflow adds a slash to the URI of an asset.
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


def attach_manifest(context: Mapping[str, Any], outlets: Iterable[Any], manifest: Mapping[str, Any]) -> None:
    """Put the manifest of a snapshot on the asset events of a task.

    :param context: the task's context.
    :param outlets: the task's outlets; those of other schemes are left alone.
    :param manifest: the manifest.
    """
    for outlet in outlets:
        if dataset_of(outlet):
            context["outlet_events"][outlet].extra = dict(manifest)


def manifests(context: Mapping[str, Any], asset: Any) -> list[dict[str, Any]]:
    """Return the manifests that a run is to work on: one per account, its newest.

    A run that assets started works on every account whose event started it, and on what was announced since
    then: Airflow hands a run only the events up to the first that was queued, so a second account's event, or
    that of an extract which has replaced the day's files, would wait for the next day. A run that a person
    started works on the newest event there is. Events without a manifest, made by hand, are passed over.

    ::

        @task(inlets=[USERS])
        def count_users(**context):
            return sum(manifest["rows"] for manifest in manifests(context, USERS))

    :param context: the task's context.
    :param asset: one of this module's assets; an inlet of the task.
    :return: manifests, ordered by account.
    :raises AirflowFailException: when no extract has been announced yet.
    """
    announced = _manifests(context.get("inlet_events"), asset)
    # Airflow 2 calls assets datasets.
    triggering = context.get("triggering_asset_events") or context.get("triggering_dataset_events")
    found = _manifests(triggering, asset)
    if found:
        first = min(map(_started, found))
        found += [manifest for manifest in announced if _started(manifest) >= first]
    else:
        found = announced[-1:]
    if not found:
        raise AirflowFailException(
            f"No snapshot of {SCHEME}{dataset_of(asset)} has been announced yet: run the DAG aha_extract first."
        )
    newest = {manifest["account"]: manifest for manifest in sorted(found, key=_started)}
    return [newest[account] for account in sorted(newest)]


def _manifests(events: Any, asset: Any) -> list[dict[str, Any]]:
    """Return what extracts attached to the events of an asset, in the order of the events."""
    dataset = dataset_of(asset)
    chosen = [event for key in events or () if dataset_of(key) == dataset for event in events[key]]
    extras = [dict(event.extra or {}) for event in chosen]
    return [extra for extra in extras if {"account", "started_at", "files"} <= extra.keys()]


def _started(manifest: Mapping[str, Any]) -> str:
    return str(manifest["started_at"])
