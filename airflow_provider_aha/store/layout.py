"""Where each dataset, manifest, plan and event lies below a base path: a contract with every reader.

All names are relative; a :class:`~airflow_provider_aha.store.store.Store` makes addresses of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_provider_aha.exceptions import AhaConfigurationError

_ACCOUNT = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)*")
_DATASET = re.compile(r"[a-z_]+")
_MAPPING = re.compile(r"[a-z][a-z0-9_]{0,62}")
_SNAPSHOT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_REVIEW = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# The folders of all accounts' records: what was decided and done, and what reviewers were asked.
RECORDS = ("access", "reviews")
_RECORD = re.compile(rf"(?P<base>.*)/(?:{'|'.join(RECORDS)})/account=[^/]+/.+", re.DOTALL)
# Of files that belong together, the one that names the others: of a report, a push and a review.
SUMMARY_FILE, PUSH_FILE, REVIEW_FILE = "access_summary.json", "push.json", "review.json"


def draft_path(name: str) -> str:
    """Return the file of a draft of a mapping, which belongs to no account.

    :param name: the name of the mapping.
    """
    if not _MAPPING.fullmatch(name):
        raise AhaConfigurationError(
            f"{name!r} can't be the name of a mapping: take lower-case letters, digits and underscores."
        )
    return f"push/drafts/{name}.yaml"


@dataclass(frozen=True)
class Layout:
    """Names of what belongs to one account, below any base path.

    :param account: the account's subdomain.
    """

    account: str

    def __post_init__(self) -> None:
        """Refuse an account name that would leave the base path."""
        if not _ACCOUNT.fullmatch(self.account):
            raise AhaConfigurationError("The name that was given can't be an Aha! account.")

    def dataset(self, dataset: str, snapshot: str) -> str:
        """Return the file of a dataset.

        :param dataset: one of :data:`airflow_provider_aha.datasets.names.DATASETS`.
        :param snapshot: the UTC day on which it was read, ``YYYY-MM-DD``.
        """
        if not _DATASET.fullmatch(dataset):
            raise AhaConfigurationError("The name that was given can't be a dataset.")
        return f"{self._folder(dataset)}/snapshot={_day(snapshot)}/{dataset}.parquet"

    @property
    def manifests(self) -> str:
        """The folder of the account's manifests."""
        return self._folder("manifests")

    @property
    def access(self) -> str:
        """The folder of the account's plans, approvals, events and evidence."""
        return self._folder("access")

    def push(self, target: str) -> str:
        """Return the folder of what was pushed to a target.

        :param target: the target, as one part of a path.
        """
        return f"push/{target}/account={self.account}"

    @property
    def reports(self) -> str:
        """The folder of the account's access reports."""
        return self._folder("reports")

    @property
    def reviews(self) -> str:
        """The folder of the account's access reviews."""
        return self._folder("reviews")

    def report(self, snapshot: str) -> str:
        """Return the folder of the access report of a snapshot.

        :param snapshot: the UTC day on which it was read, ``YYYY-MM-DD``.
        """
        return f"{self.reports}/snapshot={_day(snapshot)}"

    def review(self, review_id: str) -> str:
        """Return the folder of an access review.

        :param review_id: letters, digits, ``-`` and ``_``.
        """
        if not _REVIEW.fullmatch(review_id):
            raise AhaConfigurationError(
                "What was given can't be the id of a review: up to 64 letters, digits, - and _, such as 2026-Q4."
            )
        return f"{self.reviews}/review={review_id}"

    def manifest(self, snapshot: str) -> str:
        """Return the manifest of a snapshot.

        :param snapshot: the UTC day on which it was read, ``YYYY-MM-DD``.
        """
        return f"{self.manifests}/snapshot={_day(snapshot)}/manifest.json"

    def _folder(self, name: str) -> str:
        return f"{name}/account={self.account}"


def base_of_record(path: str) -> str | None:
    """Return the base path of a file that belongs to an account's record, or None for any other file.

    :param path: a path on the base path's filesystem.
    """
    match = _RECORD.fullmatch(path)
    return match["base"] if match else None


def snapshot_of(path: str) -> str | None:
    """Return the day of a path that the layout made, or None.

    :param path: a path with a part ``snapshot=YYYY-MM-DD``.
    """
    match = re.search(r"(?:^|/)snapshot=(\d{4}-\d{2}-\d{2})(?:/|$)", path)
    return match[1] if match else None


def _day(snapshot: str) -> str:
    if not _SNAPSHOT.fullmatch(snapshot):
        raise AhaConfigurationError("What was given is not the day of a snapshot (YYYY-MM-DD).")
    return snapshot
