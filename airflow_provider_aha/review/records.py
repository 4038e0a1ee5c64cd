"""Reviews: population and page as they were when decisions were asked for, and what was decided."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_aha.common.arrow import whole
from airflow_provider_aha.common.moments import moment_of
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaRecordError
from airflow_provider_aha.store.layout import REVIEW_FILE, Layout
from airflow_provider_aha.store.store import Store, parse_record, sealed, sha256

REVIEW_VERSION = 1
SUBMISSION = "submission.json"
POPULATION, DECISIONS = "population", "decisions"
# How files are called that a try may have left when it died; a number stands where another try had left one before.
_OWN = re.compile(r"(population|manifest|submitted|decisions|access_review|access_summary)(-\d+)?\.[a-z]+")
# A review that is older describes people who have moved on.
OPEN_FOR = timedelta(days=14)
# Python objects are made of so many rows at a time.
_BATCH = 10_000
OPEN, SUBMITTED, EXPIRED = "open", "submitted", "expired"


# Months in the languages of spreadsheet programs, each behind a blank. To Excel, three letters and more of a month
# are the month, also with the day right behind.
_MONTHS = (
    " january february march april may june july august september october november december "
    "januar februar maerz mrz mai juni juli oktober dezember "
    "janvier fevrier mars avril juin juillet aout septembre octobre novembre decembre "
    "enero febrero marzo abril mayo junio julio agosto septiembre setiembre octubre noviembre diciembre "
    "gennaio febbraio aprile maggio giugno luglio settembre ottobre dicembre "
    "janeiro fevereiro marco maio junho julho setembro outubro novembro dezembro "
    "januari februari maart mrt mei augustus maj augusti marts "
    "styczen luty marzec kwiecien czerwiec lipiec sierpien wrzesien pazdziernik listopad grudzien"
)
_FLAGS = re.compile("true|false|wahr|falsch|vrai|faux|vero|falso|verdadero|verdadeiro|waar|onwaar|sant|falskt")
_TIME = re.compile(r"\d{1,2}[ap]m?")


@dataclass(frozen=True)
class Review:
    """A frozen review.

    :param path: its folder.
    :param record: what ``review.json`` says.
    :param submission: what ``submission.json`` says; None before.
    """

    path: str
    record: Mapping[str, Any] = field(repr=False)
    submission: Mapping[str, Any] | None = field(repr=False, default=None)

    @property
    def review_id(self) -> str:
        """The id."""
        return str(self.record["review_id"])

    @property
    def created_at(self) -> datetime:
        """When it was frozen; UTC."""
        return moment_of(self.record["created_at"])

    @property
    def submitted_at(self) -> datetime | None:
        """When its decisions were submitted; UTC."""
        return moment_of(self.submission["submitted_at"]) if self.submission else None

    def state(self, now: datetime) -> str:
        """Tell whether decisions may still be submitted.

        :param now: this moment; UTC.
        """
        if self.submission:
            return SUBMITTED
        return OPEN if now - self.created_at < OPEN_FOR else EXPIRED


def read_reviews(location: Store, account: str) -> list[Review]:
    """Read the records of all reviews of an account, oldest first.

    :param location: the base path.
    :param account: the account.
    :raises AhaSnapshotError: when a record can't be read: what was decided can't be said without it.
    """
    names = location.files(Layout(account).reviews)
    bodies = location.read_many(name for name in names if name.endswith((f"/{REVIEW_FILE}", f"/{SUBMISSION}")))
    found = []
    for path, body in bodies.items():
        place, _, name = path.rpartition("/")
        if name == REVIEW_FILE:
            submitted = bodies.get(f"{place}/{SUBMISSION}")
            submission = None
            if submitted is not None:
                url = location.url_of(f"{place}/{SUBMISSION}")
                submission = _record(submitted, url, "submitted_at", "file_sha256")
            found.append(Review(place, _record(body, location.url_of(path), "created_at", "review_id"), submission))
    return sorted(found, key=lambda review: (review.created_at, review.review_id))


def _record(body: bytes, path: str, moment: str, word: str) -> dict[str, Any]:
    """Read a record of a review, and check what is read of it without a hash."""
    record = parse_record(body, path)
    try:
        moment_of(record[moment])
        whole_record = isinstance(record[word], str) and all(
            isinstance(file, dict) and isinstance(file["name"], str) and "/" not in file["name"]
            for file in record["files"].values()
        )
    except (KeyError, ValueError, OverflowError, AttributeError):
        whole_record = False
    if not whole_record:
        raise AhaRecordError(f"{path} is not a record of a review: it was changed.")
    return record


def is_changed_by_spreadsheets(review_id: str) -> bool:
    """Tell whether a spreadsheet program takes an id for a day, a time, a number or a flag, and rewrites it.

    :param review_id: an id that :meth:`airflow_provider_aha.store.layout.Layout.review` takes.
    """
    text = review_id.lower()
    if "_" in text:
        return False
    words = re.findall("[a-z]+", text)
    has_digits = any(letter.isdigit() for letter in text)
    if _FLAGS.fullmatch(text) or _TIME.fullmatch(text):
        return True
    return has_digits and all(word == "e" or _is_month(word) for word in words)


def _is_month(word: str) -> bool:
    return len(word) > 2 and f" {word}" in _MONTHS


def check_new_id(review_id: str) -> None:
    """Refuse an id under which the decisions of a review wouldn't come back from a spreadsheet.

    :param review_id: the id of a review that is to be opened.
    :raises AhaConfigurationError: when a spreadsheet program would change it.
    """
    if is_changed_by_spreadsheets(review_id):
        raise AhaConfigurationError(
            f"A spreadsheet program would change the review id {review_id} into a date, a number or a flag: add a "
            f"word, such as {review_id}-review, or write 2026-Q4. Nothing was opened."
        )


def find_review(location: Store, account: str, review_id: str) -> Review | None:
    """Read a review, or return None when there is none of this id.

    :param location: the base path.
    :param account: the account.
    :param review_id: the id.
    """
    path = Layout(account).review(review_id)
    return next((review for review in read_reviews(location, account) if review.path == path), None)


def freeze(location: Store, facts: Mapping[str, Any], files: Mapping[str, tuple[str, bytes | Path]]) -> Review:
    """Freeze a review; nothing of it is ever replaced. The manifest of the try vouches for it.

    :param location: the base path.
    :param facts: who, when, of which snapshot; with ``account`` and ``review_id``.
    :param files: name, and bytes or a local file, by what they are.
    :raises AhaConfigurationError: when there is a review of this id.
    """
    account, review_id = str(facts["account"]), str(facts["review_id"])
    folder = Layout(account).review(review_id)
    kept = {what: location.within(folder).keep(name, body) for what, (name, body) in files.items()}
    record = {"review_version": REVIEW_VERSION, **facts, "files": files_of(kept)}
    if not location.create(f"{folder}/{REVIEW_FILE}", sealed(record)):
        raise AhaConfigurationError(
            f"The review {review_id} is frozen already, and a review is never replaced: choose another id."
        )
    return Review(folder, record)


def files_of(kept: Mapping[str, tuple[str, str]]) -> dict[str, dict[str, str]]:
    """Name the files of a record.

    :param kept: name and SHA-256 by what the file is.
    """
    return {what: {"name": name, "sha256": digest} for what, (name, digest) in kept.items()}


def paths_of(location: Store, account: str, review_id: str) -> list[str]:
    """Return the files of a review for the manifest of a try, those included that a try before it has left.

    A file that isn't called like one of them is not the package's, and no manifest vouches for it.

    :param location: the base path.
    :param account: the account.
    :param review_id: the review.
    """
    paths = location.files(Layout(account).review(review_id), deep=False)
    names = {path: path.rpartition("/")[2] for path in paths}
    return [path for path, name in names.items() if name in (REVIEW_FILE, SUBMISSION) or _OWN.fullmatch(name)]


def read_file(location: Store, review: Review, what: str) -> bytes:
    """Read a file of a review, and check that it is the one that was frozen.

    :param location: the base path.
    :param review: the review.
    :param what: which one, such as ``population``.
    :raises AhaSnapshotError: when it is missing or another one.
    """
    return _checked(location, review.path, review.record["files"], what)


def read_population(location: Store, review: Review) -> pa.Table:
    """Read the population of a review.

    :param location: the base path.
    :param review: the review.
    :raises AhaSnapshotError: when it is missing or another one.
    """
    return parse_parquet(read_file(location, review, POPULATION))


def population_batches(location: Store, review: Review, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield some columns of the population of a review, some rows at a time.

    :param location: the base path.
    :param review: the review.
    :param columns: which columns.
    :raises AhaSnapshotError: when it is missing or another one.
    """
    with pq.ParquetFile(pa.BufferReader(read_file(location, review, POPULATION))) as file:
        yield from file.iter_batches(batch_size=_BATCH, columns=list(columns), use_threads=False)


def decision_batches(location: Store, review: Review) -> Iterator[pa.RecordBatch]:
    """Yield the decisions of a submitted review, some at a time.

    :param location: the base path.
    :param review: the review.
    :raises AhaSnapshotError: when they are missing or others.
    """
    files = (review.submission or {}).get("files") or {}
    with pq.ParquetFile(pa.BufferReader(_checked(location, review.path, files, DECISIONS))) as file:
        yield from file.iter_batches(batch_size=_BATCH, use_threads=False)


def parse_parquet(body: bytes) -> pa.Table:
    """Parse a Parquet file.

    :param body: its bytes.
    """
    with pq.ParquetFile(pa.BufferReader(body)) as file:
        return whole(file)


def _checked(location: Store, folder: str, files: Mapping[str, Any], what: str) -> bytes:
    entry = files.get(what) or {}
    name = f"{folder}/{entry.get('name')}"
    body = location.read(name)
    if body is None or sha256(body) != entry.get("sha256"):
        raise AhaRecordError(
            f"{location.url_of(name)} is missing, or is not the file that the record beside it names."
        )
    return body


def last_submitted(reviews: Sequence[Review]) -> Review | None:
    """Return the review whose decisions came last.

    :param reviews: reviews, oldest first.
    """
    return next((review for review in reversed(reviews) if review.submission), None)
