"""What a report is made of, before it is a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow_provider_aha.datasets.snapshot import Snapshot
from airflow_provider_aha.lists.exclusions import Exclusions
from airflow_provider_aha.report.actions import Actions
from airflow_provider_aha.report.figures import Figures, Reviewing, sentence
from airflow_provider_aha.review.population import RIGHT, Access
from airflow_provider_aha.review.staged import Staged
from airflow_provider_aha.review.terms import Terms
from airflow_provider_aha.review.worklist import Task

CSV_COLUMNS = (
    "review_id",
    "population_sha256",
    "row_key",
    "account",
    "person",
    "email",
    "status",
    "last_seen",
    "created",
    "seat",
    "workspace",
    "role",
    "sign_in",
    "in_roster",
    "since_last_review",
    "suggestion",
    "why",
    "decision",
    "reviewer",
    "note",
)


@dataclass(frozen=True)
class Report:
    """All that a page shows.

    :param snapshot: the snapshot.
    :param terms: thresholds, prices, what is shown.
    :param staged: who may sign in, those who need attention first, and the population.
    :param population: the population as it is frozen, a local file.
    :param population_sha256: its hash.
    :param compared_review: the id of the review before; None without one.
    :param figures: the figures.
    :param review: where the review stands.
    :param freezing: the review that this report opens.
    :param tasks: what reviews have decided.
    :param actions: what runs did.
    :param trend: seats over snapshots.
    :param heat_map: people by workspace and role.
    :param exclusions: the exclusion file.
    :param made_at: when it was made; UTC.
    :param rosters: what is known of each roster.
    :param protected_entries: how many entries the protected lists have.
    """

    snapshot: Snapshot
    terms: Terms
    staged: Staged = field(repr=False)
    population: Path
    population_sha256: str
    compared_review: str | None
    figures: Figures
    review: Reviewing
    freezing: str | None
    tasks: Sequence[Task] = field(repr=False)
    actions: Actions
    trend: Sequence[Mapping[str, Any]]
    heat_map: Mapping[str, Any]
    exclusions: Exclusions | None
    made_at: datetime
    rosters: Sequence[Mapping[str, Any]] = ()
    protected_entries: int = 0

    @property
    def account_mark(self) -> str:
        """The account, marked where the data is a sandbox's."""
        return f"{self.snapshot.account}{' (SANDBOX DATA)' if self.snapshot.sandbox else ''}"

    @property
    def sentence(self) -> str:
        """It all in one sentence."""
        return sentence(self.figures, overdue=self.review.overdue)

    def changed(self, row: Access) -> str:
        """Tell what became of a row since the last review.

        :param row: the row.
        """
        if self.compared_review is None:
            return ""
        return "same" if self.staged.is_known(row.key) else "new"

    def needs_attention(self, row: Access) -> bool:
        """Tell whether a page that can't carry all rows carries this one.

        :param row: the row.
        """
        return bool(row.person.flags) or row.person.suggestion != "keep" or row.kind == RIGHT
