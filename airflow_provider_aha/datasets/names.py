"""Names of datasets and changes; a DAG file reads them, so nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_aha.common.values import unknown_ones
from airflow_provider_aha.exceptions import AhaConfigurationError

DATASETS = ("users", "user_roles", "user_role_summary", "user_changes")


CHANGES = (
    "added",
    "removed",
    "enabled",
    "disabled",
    "updated",
    "admin_granted",
    "admin_revoked",
    "role_added",
    "role_removed",
    "role_changed",
    "seat_taken",
    "seat_freed",
)
"""The words of the column ``change`` of ``user_changes``."""


STATE_SUFFIX = ".zip"
"""What the name of a state file ends in: what sensors and triggers compare an account with."""


def check_changes(wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Return which words of ``user_changes`` are asked for; all of them when nothing is.

    :param wanted: some of :data:`CHANGES`.
    :raises AhaConfigurationError: for an unknown one.
    """
    words = CHANGES if wanted is None else tuple(wanted)
    unknown = unknown_ones(words, CHANGES)
    if unknown or not words:
        found = f"there isn't {unknown}" if unknown else "there is none"
        raise AhaConfigurationError(f"changes must be some of {', '.join(CHANGES)}; {found}.")
    return tuple(sorted(set(words)))
