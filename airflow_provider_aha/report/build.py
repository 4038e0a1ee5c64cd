"""Making a report: the snapshot is read and judged, and page, table and figures are written beside it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_aha.access.decide.history import carried
from airflow_provider_aha.common.arrow import json_array, literal
from airflow_provider_aha.common.moments import day_of, milliseconds_text
from airflow_provider_aha.common.text import cell
from airflow_provider_aha.datasets.snapshot import (
    Snapshot,
    may_have_access,
    read_trend,
    snapshot_days,
    trend_days,
)
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaSnapshotError
from airflow_provider_aha.lists.exclusions import load_exclusions
from airflow_provider_aha.lists.matching import UserMatcher
from airflow_provider_aha.lists.roster import Rosters
from airflow_provider_aha.record.chain import recorded
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.report.actions import read_actions
from airflow_provider_aha.report.content import CSV_COLUMNS, Report
from airflow_provider_aha.report.figures import (
    Counts,
    HeatMap,
    basics,
    figures_of,
    reviewing,
    trend,
)
from airflow_provider_aha.report.page import page
from airflow_provider_aha.review import records as review_records
from airflow_provider_aha.review.people import Background, any_right, judge_people
from airflow_provider_aha.review.population import RIGHT, read_roles, write_population
from airflow_provider_aha.review.records import Review, read_reviews
from airflow_provider_aha.review.staged import Staged
from airflow_provider_aha.review.terms import Terms
from airflow_provider_aha.review.worklist import worklist
from airflow_provider_aha.store.layout import SUMMARY_FILE, Layout
from airflow_provider_aha.store.store import Store, file_hash, parse_record, staging, storage_errors, to_json
from airflow_provider_aha.version import package_version

log = logging.getLogger(__name__)

PAGE, TABLE, SUMMARY = "access_review.html", "access_review.csv", SUMMARY_FILE


@dataclass(frozen=True)
class Asked:
    """Who asks for a report, and of what.

    :param account: the account.
    :param run: the task instance that asks.
    :param terms: thresholds, prices, what is shown.
    :param roster: reads the roster; None when there is none.
    :param exclusions: the exclusion files.
    :param protected: who is never touched by a run.
    :param review_id: the review that the report opens; None: it opens none.
    """

    account: str
    run: Run
    terms: Terms
    roster: Callable[[], Rosters] | None = None
    exclusions: Sequence[Store] = ()
    protected: UserMatcher = field(default_factory=UserMatcher)
    review_id: str | None = None


def make_report(
    location: Store, asked: Asked, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> dict[str, Any]:
    """Make the report of the newest snapshot, and open a review where one is asked for.

    Each try to open a review leaves a manifest, also a refused one.

    :param location: the base path.
    :param asked: of what.
    :param now: the clock; UTC.
    :return: the summary as it was written, with the page's address as ``page``.
    :raises AhaConfigurationError: when there is a review of this id already.
    :raises AhaSnapshotError: when something that the report stands on is missing or was changed, or when the roster
        is too old or too short to say who left.
    """
    if asked.review_id is None:
        return _make(location, asked, now)
    # An id that can't be one leaves no trace.
    Layout(asked.account).review(asked.review_id)
    review_records.check_new_id(asked.review_id)
    facts = {"action": "open_review", "review_id": asked.review_id, **asdict(asked.run)}
    with recorded(RunFolder(location, asked.account, asked.run), facts) as mine:
        summary = _make(location, asked, now)
        mine.facts |= {"sandbox": summary["sandbox"], "population_sha256": summary["population_sha256"]}
        mine.also += review_records.paths_of(location, asked.account, asked.review_id)
    return summary


def _make(location: Store, asked: Asked, now: Callable[[], datetime]) -> dict[str, Any]:
    reviews = read_reviews(location, asked.account)
    mine = _opened_before(asked, reviews)
    if mine is not None:
        return _summary_of(location, mine)
    with staging() as place, closing(Staged(place)) as staged:
        report = gather(location, asked, reviews, now(), staged, place)
        files, summary = render(report, location.url, place)
        if asked.review_id is not None:
            review = _freeze(location, asked, report, files)
            rows = report.figures.values["rows"]
            log.info("The review %s is open, with %d rows: %s", asked.review_id, rows, location.url_of(review.path))
        folder = location.within(Layout(asked.account).report(report.snapshot.day))
        folder.publish(files)
    return {**summary, "page": folder.url_of(PAGE)}


def _opened_before(asked: Asked, reviews: Sequence[Review]) -> Review | None:
    """Return the review that an earlier try of this run has opened, and refuse one that another run has."""
    if asked.review_id is None:
        return None
    path = Layout(asked.account).review(asked.review_id)
    mine = next((review for review in reviews if review.path == path), None)
    if mine and (mine.record["dag_id"], mine.record["run_id"]) != (asked.run.dag_id, asked.run.run_id):
        raise AhaConfigurationError(
            f"The review {asked.review_id} is frozen already, and a review is never replaced: choose another id."
        )
    return mine


def _summary_of(location: Store, review: Review) -> dict[str, Any]:
    body = review_records.read_file(location, review, "summary")
    page = review.record["files"]["page"]["name"]
    summary = parse_record(body, location.url_of(review.path))
    return {**summary, "page": location.url_of(f"{review.path}/{page}")}


def gather(
    location: Store, asked: Asked, reviews: Sequence[Review], now: datetime, staged: Staged, place: Path
) -> Report:
    """Read and judge all that a report shows; nothing is written below the base path.

    :param location: the base path.
    :param asked: of what.
    :param reviews: the account's reviews, oldest first.
    :param now: this moment; UTC.
    :param staged: where people and rows are kept; empty.
    :param place: a local folder for the population.
    """
    terms, account = asked.terms, asked.account
    exclusions = load_exclusions(*asked.exclusions) if asked.exclusions else None
    roster = asked.roster() if asked.roster else None
    snapshot = Snapshot.newest(location, account)
    days = [day for day in snapshot_days(location, account) if day < snapshot.day]
    actions = read_actions(
        location,
        account,
        since=snapshot.synced_at - timedelta(days=terms.review_every_days),
        synced_at=snapshot.synced_at,
        enabled_among=partial(_enabled_among, snapshot),
    )
    compared = reviews[-1] if reviews else None
    if compared:
        administrators_before: frozenset[str] | None = _read_last(location, compared, staged)
    else:
        administrators_before = _administrators_before(location, account, days)
    before = carried(
        location,
        account,
        as_of=snapshot.synced_at,
        unused_rules=["unused"],
        rosters=[one.spec.name for one in roster.each] if roster else [],
    )
    for one in roster.each if roster else ():
        one.check(before.loads.get(one.spec.name), now)
    background = Background(
        roster=roster,
        exclusions=exclusions,
        protected=asked.protected,
        carried=before,
        administrators_before=administrators_before,
        came_back=actions.came_back,
    )
    staged.add_people(judge_people(snapshot, terms, background))
    staged.add_roles(read_roles(snapshot))
    staged.order()
    counts, heat_map, file = Counts(), HeatMap(), place / "population.parquet"
    write_population(counts.watch_rows(heat_map.watch(staged.rows())), file)
    deque(counts.watch_people(staged.people()), maxlen=0)
    sole_owned = staged.sole_owned()
    where = reviewing(
        reviews,
        now=now,
        first_day=(days or [snapshot.day])[0],
        every=timedelta(days=terms.review_every_days),
        freezing=(asked.review_id, counts.rows) if asked.review_id else None,
    )
    tasks = worklist(location, reviews, staged.rows(), snapshot.synced_at)
    return Report(
        snapshot=snapshot,
        terms=terms,
        staged=staged,
        population=file,
        population_sha256=file_hash(file.open("rb"))[0],
        compared_review=compared.review_id if compared else None,
        figures=figures_of(
            snapshot,
            counts,
            terms,
            sole_owned=len(sole_owned),
            review=where,
            tasks=tasks,
            has_roster=roster is not None,
            before=_before(location, account, days, terms),
        ),
        review=where,
        freezing=asked.review_id,
        tasks=tasks,
        actions=actions,
        trend=trend(_points(location, snapshot, days), terms),
        heat_map=heat_map.result(set(sole_owned)),
        exclusions=exclusions,
        protected_entries=len(asked.protected.entries),
        made_at=now,
        rosters=[
            {"name": one.spec.name, "rows": one.rows, "sha256": one.sha256}
            for one in (roster.each if roster else ())
        ],
    )


def _enabled_among(snapshot: Snapshot, ids: set[str]) -> set[str]:
    users = snapshot.users
    wanted = pc.is_in(users.column("id"), value_set=json_array(list(ids), pa.string()))
    return set(users.column("id").filter(pc.and_(may_have_access(users), wanted)).to_pylist())


def _read_last(location: Store, review: Review, staged: Staged) -> frozenset[str]:
    """Keep the keys of a review's rows, and return who had an administrator right in it."""
    found: set[str] = set()

    def keys() -> Iterator[str]:
        for batch in review_records.population_batches(location, review, ("row_key", "user_id", "kind")):
            rights = pc.equal(batch.column("kind"), literal(RIGHT, pa.string()))
            found.update(batch.column("user_id").filter(rights).to_pylist())
            yield from batch.column("row_key").to_pylist()

    staged.add_known(keys())
    return frozenset(found)


def _administrators_before(location: Store, account: str, days: Sequence[str]) -> frozenset[str] | None:
    if not days:
        return None
    try:
        users = Snapshot.of(location, account, days[-1]).users
    except AhaSnapshotError as error:
        log.warning("The snapshot %s is not compared with: %s", days[-1], error)
        return None
    return frozenset(users.filter(any_right(users)).column("id").to_pylist())


def _before(location: Store, account: str, days: Sequence[str], terms: Terms) -> dict[str, Any] | None:
    """Return the summary of the report before, or what is known of the snapshot before."""
    layout = Layout(account)
    for day in reversed(days):
        with suppress(AhaSnapshotError):
            if summary := location.read_record(f"{layout.report(day)}/{SUMMARY}"):
                return summary
    for day, users in read_trend(location, account, list(days[-1:])):
        return basics(day, users, terms)
    return None


def _points(location: Store, snapshot: Snapshot, days: Sequence[str]) -> Iterator[tuple[str, Any]]:
    yield from read_trend(location, snapshot.account, trend_days(list(days)))
    yield snapshot.day, snapshot.users


def render(report: Report, base_url: str, place: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """Make the page and what lies beside it.

    :param report: what they show.
    :param base_url: the base path as its user writes it, for the verify command.
    :param place: a local folder for them.
    :return: page, table and summary as local files by name, and what the summary says.
    """
    files = {name: place / name for name in (PAGE, TABLE, SUMMARY)}
    with storage_errors(str(place)):
        files[PAGE].write_bytes(page(report, base_url))
        with files[TABLE].open("wb") as table:
            table.writelines(line.encode() for line in chain(["\ufeff"], csv_lines(report)))
        summary = summary_of(report, {name: file_hash(files[name].open("rb"))[0] for name in (PAGE, TABLE)})
        files[SUMMARY].write_bytes(to_json(summary))
    return files, summary


def summary_of(report: Report, files: Mapping[str, str]) -> dict[str, Any]:
    """Return the figures as data; without names and emails.

    :param report: the report.
    :param files: the files that it vouches for: SHA-256 by name.
    """
    snapshot, review = report.snapshot, report.review
    return {
        "account": snapshot.account,
        "sandbox": snapshot.sandbox,
        "snapshot": snapshot.day,
        "as_of": snapshot.manifest["started_at"],
        "made_at": milliseconds_text(report.made_at),
        "review_id": report.freezing,
        "population_sha256": report.population_sha256,
        "sentence": report.sentence,
        "figures": dict(report.figures.values),
        "changes": dict(report.figures.changes),
        "compared_with": report.figures.compared_with,
        "attention": dict(report.figures.attention),
        "control": {
            "review_every_days": report.terms.review_every_days,
            "current_review": review.current,
            "state": review.state,
            "last_submitted_at": milliseconds_text(review.last_submitted_at) if review.last_submitted_at else None,
            "due_on": f"{review.due_on:%Y-%m-%d}",
            "overdue": review.overdue,
        },
        "actions": report.actions.to_json(),
        "provider_version": package_version(),
        "files": dict(files),
    }


def _freeze(location: Store, asked: Asked, report: Report, files: Mapping[str, Path]) -> Review:
    snapshot = report.snapshot
    facts = {
        "review_id": asked.review_id,
        "account": snapshot.account,
        "sandbox": snapshot.sandbox,
        "created_at": milliseconds_text(report.made_at),
        "snapshot": {
            "day": snapshot.day,
            "synced_at": milliseconds_text(snapshot.synced_at),
            "sha256": snapshot.sha256,
        },
        "people": report.figures.values["may_sign_in"],
        "rows": report.figures.values["rows"],
        "population_sha256": report.population_sha256,
        "dag_id": asked.run.dag_id,
        "run_id": asked.run.run_id,
        "requested_by": asked.run.requested_by,
        "provider_version": package_version(),
    }
    frozen: dict[str, tuple[str, bytes | Path]] = {
        review_records.POPULATION: ("population.parquet", report.population),
        "page": (PAGE, files[PAGE]),
        "table": (TABLE, files[TABLE]),
        "summary": (SUMMARY, files[SUMMARY]),
        "manifest": ("manifest.json", to_json(snapshot.manifest)),
    }
    return review_records.freeze(location, facts, frozen)


def csv_lines(report: Report) -> Iterator[str]:
    """Yield the lines of the table: all rows, decisions left open.

    :param report: the report.
    """
    yield _line(CSV_COLUMNS)
    for row in report.staged.rows():
        person = row.person
        yield _line(
            (
                report.freezing or "",
                report.population_sha256,
                row.key,
                report.account_mark,
                person.name,
                person.email,
                person.status,
                day_of(person.accessed_at),
                day_of(person.created_at),
                "paid" if person.occupies_seat else "free",
                row.workspace_name,
                row.role_name,
                person.sign_in,
                person.in_roster,
                report.changed(row),
                person.suggestion,
                person.why,
                "",
                "",
                "",
            )
        )


def _line(values: Iterable[object]) -> str:
    return f"{','.join(map(_quoted, values))}\r\n"


# Rows of a person stand beside each other, and most of their cells are the same.
@lru_cache(maxsize=4096)
def _quoted(value: object) -> str:
    return '"{}"'.format(cell(value).replace('"', '""'))
