"""Reviews: population and page as they were when decisions were asked for, and what was decided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_aha.common.arrow import whole
from airflow_provider_aha.common.moments import moment_of
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaSnapshotError
from airflow_provider_aha.record.chain import pruned_reviews
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import (
    Location,
    create_once,
    keep_once,
    list_files,
    parse_record,
    publish_all,
    read_bytes,
    read_files,
    read_record,
    sealed,
    sha256,
    staging,
    to_json,
)

REVIEW_VERSION = 1
FILE, SUBMISSION = "review.json", "submission.json"
# What a prune leaves for the reviews that it takes away.
ANCHOR = "anchor.json"
POPULATION, DECISIONS = "population", "decisions"
# A review that is older describes people who have moved on.
OPEN_FOR = timedelta(days=14)
# Python objects are made of so many rows at a time.
_BATCH = 10_000
OPEN, SUBMITTED, EXPIRED = "open", "submitted", "expired"


@dataclass(frozen=True)
class Review:
    """A frozen review.

    :param path: its folder.
    :param record: what ``review.json`` says.
    :param sha256: hash of its bytes.
    :param submission: what ``submission.json`` says; None before.
    :param submission_sha256: hash of its bytes.
    """

    path: str
    record: Mapping[str, Any] = field(repr=False)
    sha256: str
    submission: Mapping[str, Any] | None = field(repr=False, default=None)
    submission_sha256: str | None = None

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


def read_reviews(location: Location, account: str) -> list[Review]:
    """Read the records of all reviews of an account, oldest first.

    :param location: the base path.
    :param account: the account.
    :raises AhaSnapshotError: when a record can't be read: what was decided can't be said without it.
    """
    folder = Layout(location.path, account).reviews
    wanted = [path for path in list_files(location.fs, folder) if path.endswith((f"/{FILE}", f"/{SUBMISSION}"))]
    bodies = read_files(location.fs, wanted)
    found = []
    for path, body in bodies.items():
        place, _, name = path.rpartition("/")
        if name == FILE:
            submitted = bodies.get(f"{place}/{SUBMISSION}")
            submission = None
            if submitted is not None:
                submission = _record(submitted, f"{place}/{SUBMISSION}", "submitted_at", "file_sha256")
            record = _record(body, path, "created_at", "review_id")
            digest = None if submitted is None else sha256(submitted)
            found.append(Review(place, record, sha256(body), submission, digest))
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
        raise AhaSnapshotError(f"{path} is not a record of a review: it was changed.")
    return record


def find_review(location: Location, account: str, review_id: str) -> Review | None:
    """Read a review, or return None when there is none of this id.

    :param location: the base path.
    :param account: the account.
    :param review_id: the id.
    """
    path = Layout(location.path, account).review(review_id)
    return next((review for review in read_reviews(location, account) if review.path == path), None)


def freeze(location: Location, facts: Mapping[str, Any], files: Mapping[str, tuple[str, bytes | Path]]) -> Review:
    """Freeze a review; nothing of it is ever replaced.

    :param location: the base path.
    :param facts: who, when, of which snapshot; with ``account`` and ``review_id``.
    :param files: name, and bytes or a local file, by what they are.
    :raises AhaConfigurationError: when there is a review of this id.
    """
    account, review_id = str(facts["account"]), str(facts["review_id"])
    folder = Layout(location.path, account).review(review_id)
    kept = {what: keep_once(location.fs, folder, name, body) for what, (name, body) in files.items()}
    before = read_reviews(location, account)
    record = {
        "review_version": REVIEW_VERSION,
        **facts,
        # Who takes an old review away, or changes it, has to change all later ones.
        "previous": before[-1].review_id if before else None,
        "previous_sha256": before[-1].sha256 if before else None,
        "submissions": {one.review_id: one.submission_sha256 for one in before if one.submission},
        "files": files_of(location, folder, kept),
    }
    body = sealed(record)
    if not create_once(location.fs, f"{folder}/{FILE}", body):
        raise AhaConfigurationError(
            f"The review {review_id} is frozen already, and a review is never replaced: choose another id."
        )
    return Review(folder, record, sha256(body))


def files_of(
    location: Location, folder: str, kept: Mapping[str, tuple[str, str]], known: Iterable[str] = ()
) -> dict[str, dict[str, str]]:
    """Name the files of a record, and those that a try that died has left beside them.

    :param location: the base path.
    :param folder: the review's folder.
    :param kept: name and SHA-256 by what the file is.
    :param known: names of files that another record names.
    :return: name and SHA-256 by what the file is.
    """
    named = {what: {"name": name, "sha256": digest} for what, (name, digest) in kept.items()}
    names = {FILE, SUBMISSION, *known, *(name for name, _ in kept.values())}
    left = [path for path in list_files(location.fs, folder) if path.rpartition("/")[2] not in names]
    for path, body in read_files(location.fs, left).items():
        name = path.rpartition("/")[2]
        named[f"left over: {name}"] = {"name": name, "sha256": sha256(body)}
    return named


def read_file(location: Location, review: Review, what: str) -> bytes:
    """Read a file of a review, and check that it is the one that was frozen.

    :param location: the base path.
    :param review: the review.
    :param what: which one, such as ``population``.
    :raises AhaSnapshotError: when it is missing or another one.
    """
    return _checked(location, review.path, review.record["files"], what)


def read_population(location: Location, review: Review) -> pa.Table:
    """Read the population of a review.

    :param location: the base path.
    :param review: the review.
    :raises AhaSnapshotError: when it is missing or another one.
    """
    return parse_parquet(read_file(location, review, POPULATION))


def population_batches(location: Location, review: Review, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield some columns of the population of a review, some rows at a time.

    :param location: the base path.
    :param review: the review.
    :param columns: which columns.
    :raises AhaSnapshotError: when it is missing or another one.
    """
    with pq.ParquetFile(pa.BufferReader(read_file(location, review, POPULATION))) as file:
        yield from file.iter_batches(batch_size=_BATCH, columns=list(columns), use_threads=False)


def decision_batches(location: Location, review: Review) -> Iterator[pa.RecordBatch]:
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


def _checked(location: Location, folder: str, files: Mapping[str, Any], what: str) -> bytes:
    entry = files.get(what) or {}
    path = f"{folder}/{entry.get('name')}"
    body = read_bytes(location.fs, path)
    if body is None or sha256(body) != entry.get("sha256"):
        raise AhaSnapshotError(f"{path} is missing, or is not the file that the record beside it names.")
    return body


def verify_reviews(location: Location, account: str) -> Iterator[str]:
    """Say what in the reviews of an account was changed, removed or added.

    :param location: the base path.
    :param account: the account.
    :return: a sentence for each finding.
    """
    folder = Layout(location.path, account).reviews
    anchor = read_anchor(location, account)
    expected = (anchor.get("review_id"), anchor.get("sha256"))
    said = pruned_reviews(location.fs, Layout(location.path, account).deactivations) if anchor else []
    if anchor and expected not in {(one.get("review_id"), one.get("sha256")) for one in said}:
        yield f"{folder}/{ANCHOR} is of no prune: no manifest says that reviews up to {expected[0]} were deleted."
    reviews = read_reviews(location, account)
    # What a prune that was cut off has left is its next try's.
    leaving = tuple(f"{Layout(location.path, account).review(one)}/" for one in anchor.get("gone") or ())
    unknown = {path for path in list_files(location.fs, folder) if not path.startswith(leaving)}
    unknown.discard(f"{folder}/{ANCHOR}")
    for review in reviews:
        unknown -= {f"{review.path}/{name}" for name in _names(review)}
        if anchor and review.created_at <= moment_of(anchor["created_at"]):
            # A prune was cut off.
            continue
        if (review.record.get("previous"), review.record.get("previous_sha256")) != expected:
            yield f"{review.path}: the review before it was changed, removed or added."
        expected = (review.review_id, review.sha256)
        yield from _verify_review(location, review, reviews)
    for path in sorted(unknown):
        yield f"{path} is in no record of a review: it was added, or its task is still running, or died."


def _names(review: Review) -> set[str]:
    files = [*review.record["files"].values(), *((review.submission or {}).get("files") or {}).values()]
    return {FILE, SUBMISSION, *(str(file["name"]) for file in files)}


def _verify_review(location: Location, review: Review, reviews: Sequence[Review]) -> Iterator[str]:
    for name, record in ((FILE, review.record), (SUBMISSION, review.submission)):
        if record is None:
            continue
        if sealed({key: value for key, value in record.items() if key != "content_sha256"}) != to_json(record):
            yield f"{review.path}/{name} was changed."
        for what in record["files"]:
            try:
                _checked(location, review.path, record["files"], what)
            except AhaSnapshotError as error:
                yield str(error)
    # A prune may have taken the oldest of them.
    found = {one.review_id: one.submission_sha256 for one in reviews}
    for review_id, digest in (review.record.get("submissions") or {}).items():
        if found.get(review_id, digest) != digest:
            yield f"The submission of the review {review_id} was changed or removed after {review.path} was frozen."


def expired_reviews(location: Location, account: str, before: datetime) -> list[Review]:
    """Find the reviews that are older than a moment, oldest first; the newest one never is.

    :param location: the base path.
    :param account: the account.
    :param before: the moment; UTC.
    """
    reviews = read_reviews(location, account)[:-1]
    return list(takewhile(lambda review: max(review.created_at, review.submitted_at or before) <= before, reviews))


def read_anchor(location: Location, account: str) -> dict[str, Any]:
    """Return with which review the chain of reviews begins, of those that a prune has deleted; empty without one.

    :param location: the base path.
    :param account: the account.
    """
    return read_record(location.fs, f"{Layout(location.path, account).reviews}/{ANCHOR}") or {}


def anchor_reviews(location: Location, account: str, gone: Sequence[Review]) -> None:
    """Let the chain of reviews begin after those that are about to be deleted.

    :param location: the base path.
    :param account: the account.
    :param gone: them, oldest first; a manifest says so already.
    """
    last = gone[-1]
    anchor = {
        "review_id": last.review_id,
        "sha256": last.sha256,
        "created_at": last.record["created_at"],
        "gone": [review.review_id for review in gone],
    }
    with staging() as folder:
        local = folder / ANCHOR
        local.write_bytes(to_json(anchor))
        publish_all(location.fs, {f"{Layout(location.path, account).reviews}/{ANCHOR}": local})


def last_submitted(reviews: Sequence[Review]) -> Review | None:
    """Return the review whose decisions came last.

    :param reviews: reviews, oldest first.
    """
    return next((review for review in reversed(reviews) if review.submission), None)
