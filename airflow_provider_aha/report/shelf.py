"""The reports that were written: which there are, and their files, each checked before it is handed out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from airflow_provider_aha.common.text import visible
from airflow_provider_aha.exceptions import AhaRecordError, AhaSnapshotError
from airflow_provider_aha.report.build import PAGE, SUMMARY, TABLE
from airflow_provider_aha.review.records import find_review, read_file, read_reviews
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import Store, parse_record, sha256

FILES = {PAGE: "text/html; charset=utf-8", TABLE: "text/csv; charset=utf-8", SUMMARY: "application/json"}
SNAPSHOT, REVIEW = "snapshot", "review"
# What a review calls these files.
_OF_REVIEW = {PAGE: "page", TABLE: "table", SUMMARY: "summary"}
# So many reports of an account are listed.
_LISTED = 60


def read_published(location: Store, account: str, kind: str, name: str, file: str) -> bytes:
    """Read a file that a report or review vouches for.

    :param location: the base path.
    :param account: the account.
    :param kind: ``snapshot`` or ``review``.
    :param name: the day of the snapshot, or the review's id.
    :param file: one of :data:`FILES`.
    :raises AhaConfigurationError: when a name can't be one.
    :raises AhaSnapshotError: when there is no such file, or it isn't the one that was written.
    """
    if file not in FILES or kind not in (SNAPSHOT, REVIEW):
        raise AhaRecordError("There is no such file of a report.")
    if kind == REVIEW:
        review = find_review(location, account, name)
        if review is None:
            raise AhaRecordError(f"There is no review {name} of {account}.")
        return read_file(location, review, _OF_REVIEW[file])
    folder = location.within(Layout(account).report(name))
    summary = folder.read(SUMMARY)
    if summary is None:
        raise AhaRecordError(f"There is no report of {name} of {account}.")
    if file == SUMMARY:
        return summary
    body = folder.read(file)
    if body is None or sha256(body) != parse_record(summary, folder.url)["files"].get(file):
        raise AhaRecordError(f"{folder.url_of(file)} is missing, or is not the one that the report has written.")
    return body


def accounts(location: Store) -> list[str]:
    """Return the accounts that have reports.

    :param location: the base path.
    """
    return sorted(_names(location, "reports", "account"))


def _names(location: Store, folder: str, key: str) -> Iterator[str]:
    """Yield what stands in the names of folders such as ``key=value``."""
    for found in location.names(folder):
        if match := re.fullmatch(rf"{key}=([^/]+)", found):
            yield match[1]


def render_list(location: Store) -> bytes:
    """Make the page that lists all reports and reviews.

    :param location: the base path.
    """
    now = datetime.now(UTC)
    found = []
    for account in accounts(location):
        reviews = [
            {"id": review.review_id, "state": review.state(now), "opened": f"{review.created_at:%Y-%m-%d}"}
            for review in reversed(read_reviews(location, account))
        ]
        found.append({"name": account, "reports": list(_reports(location, account)), "reviews": reviews})
    html: str = _template().render(accounts=found, page=PAGE)
    return html.encode()


def _reports(location: Store, account: str) -> Iterator[dict[str, Any]]:
    layout = Layout(account)
    days = sorted(_names(location, layout.reports, SNAPSHOT), reverse=True)
    for day in days[:_LISTED]:
        try:
            summary = location.read_record(f"{layout.report(day)}/{SUMMARY}")
        except AhaSnapshotError:
            continue
        if summary:
            yield {"day": day, "sentence": str(summary.get("sentence"))}


@cache
def _template() -> Any:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = files("airflow_provider_aha.report").joinpath("assets", "list.html").read_text(encoding="utf-8")
    return environment.from_string(text)
