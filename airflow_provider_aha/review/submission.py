"""Submitting decisions: a file that went through spreadsheets becomes a record, a plan and a worklist."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_aha.common.addresses import fold
from airflow_provider_aha.common.arrow import json_array
from airflow_provider_aha.common.moments import milliseconds_text
from airflow_provider_aha.common.persons import People, names_nobody
from airflow_provider_aha.common.text import visible
from airflow_provider_aha.common.values import is_unset
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaGuardError
from airflow_provider_aha.record.chain import recorded
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.review import records as review_records
from airflow_provider_aha.review.population import ACCOUNT, RIGHT
from airflow_provider_aha.review.records import (
    DECISIONS,
    EXPIRED,
    OPEN_FOR,
    SUBMISSION,
    Review,
    find_review,
    is_changed_by_spreadsheets,
    read_reviews,
)
from airflow_provider_aha.review.worklist import CHOICES, DOWNGRADE, KEEP, NOT_MINE, REVOKE_ACCOUNT, REVOKE_ROLE
from airflow_provider_aha.store.store import Store, parse_record, sealed, sha256, to_json

_NO_NAME = re.compile("[^a-z0-9_]")
# A first line that tells Excel what separates the cells; other programs may have quoted it or filled it up.
_SEPARATOR = re.compile(r'(?:\ufeff|\xef\xbb\xbf)?"?sep=([,;\t|])"?[,;\t|"]*(?:\n|$)', re.IGNORECASE)
_BY_ZEROS: dict[tuple[bool, ...], tuple[str, ...]] = {
    (False, True, False, True): ("utf-16-le",),
    (True, False, True, False): ("utf-16-be",),
    (False, True, True, True): ("utf-32-le",),
    (True, True, True, False): ("utf-32-be",),
}
_NEEDED = ("review_id", "population_sha256", "row_key", "decision")
# What people write where they name nobody, or only themselves.
_NO_REVIEWER = frozenset({"n/a", "na", "tbd", "me", "myself", "self"})
# So many rows are named in a refusal.
_NAMED = 10
_TEXT = pa.string()
_SCHEMA = pa.schema(
    [
        *(pa.field(name, _TEXT, nullable=False) for name in ("row_key", "user_id", "kind", "decision", "reviewer")),
        *(pa.field(name, _TEXT) for name in ("workspace_id", "workspace_name", "role_id", "role_name", "note")),
        pa.field("role_rank", pa.int32()),
    ]
)
# What a decision says of its row, so that it can be read without the population.
_COPIED = ("user_id", "kind", "workspace_id", "workspace_name", "role_id", "role_name", "role_rank")


@dataclass(frozen=True)
class Line:
    """A row of a submitted file.

    :param number: its number in the file, the header's being 1.
    :param key: its ``row_key``.
    :param decision: what was decided.
    :param reviewer: who decided, as the file says; empty when it doesn't.
    :param note: why, in the reviewer's words.
    """

    number: int
    key: str
    decision: str
    reviewer: str
    note: str


def submit(
    location: Store, account: str, body: bytes, run: Run, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> dict[str, Any]:
    """Check a file of decisions and record it; a file that was recorded before is recognised.

    Each try leaves a manifest, also a refused one.

    :param location: the base path.
    :param account: the account.
    :param body: the file's bytes.
    :param run: who submits it, and in which run.
    :param now: the clock; UTC.
    :return: what was recorded, and ``revoke_accounts``: ids of those who are to lose the account.
    :raises AhaConfigurationError: when it isn't a file of decisions of a review of this account.
    :raises AhaGuardError: when not everything is decided, too late, contradictory, or by the wrong person.
    """
    facts = {"action": "submit_review", **asdict(run)}
    with recorded(RunFolder(location, account, run), facts) as mine:
        record = _submit(location, account, body, run, now)
        mine.facts |= {name: record[name] for name in ("review_id", "submitted_by", "rows", "decisions")}
        mine.also += review_records.paths_of(location, account, record["review_id"])
    return record


def _submit(location: Store, account: str, body: bytes, run: Run, now: Callable[[], datetime]) -> dict[str, Any]:
    lines, review_id, population_sha256 = read_lines(body)
    review = _review(location, account, review_id, population_sha256)
    population = {row["row_key"]: row for row in review_records.read_population(location, review).to_pylist()}
    digest, record = _digest(lines), review.submission
    if record is None:
        _check_time(review, now())
        lines = check_lines(lines, population, run.requested_by)
        record = _record(location, review, lines, population, body, digest, run, now())
    elif record.get("decisions_sha256") != digest:
        raise AhaGuardError(
            f"Other decisions of the review {review.review_id} were submitted before, and they stay."
        )
    ids = {population[line.key]["user_id"] for line in lines if line.decision == REVOKE_ACCOUNT}
    return {**record, "revoke_accounts": sorted(ids)}


def _digest(lines: Iterable[Line]) -> str:
    """Return a hash of decisions that is the same however the file with them was saved, sorted or pasted."""
    rows = sorted([line.key, line.decision, line.reviewer, line.note] for line in lines)
    return sha256(to_json({"decisions": rows}))


def read_lines(body: bytes) -> tuple[list[Line], str, str]:
    """Read a file as spreadsheet programs write it: comma, semicolon, tab or bar, in any Unicode, or pasted.

    :param body: its bytes.
    :return: its rows, the review's id and the population's hash.
    :raises AhaConfigurationError: when it can't be one.
    """
    table = _table(_decode(body))
    # A program that takes the mark at the beginning for letters leaves them, and quotes, in the first name.
    names = [_NO_NAME.sub("", name.lower()) for name in table[0]] if table else []
    if missing := [name for name in _NEEDED if name not in names]:
        raise AhaConfigurationError(
            f"The file of decisions has no {', '.join(missing)}: submit the file that the review's page downloads."
        )
    at = {name: names.index(name) for name in (*_NEEDED, "reviewer", "note") if name in names}
    if cut := [number for number, row in enumerate(table, 1) if len(row) <= max(at[name] for name in _NEEDED)]:
        raise AhaConfigurationError(f"The file of decisions was cut short: {_rows(cut)} have too few values.")
    lines = [
        Line(
            number,
            row[at["row_key"]].strip(),
            fold(row[at["decision"]]),
            *(visible(_cell(row, at.get(name))) for name in ("reviewer", "note")),
        )
        for number, row in enumerate(table[1:], 2)
    ]
    marks = [{row[at[name]].strip() for row in table[1:]} for name in ("review_id", "population_sha256")]
    if any(len(values) != 1 for values in marks):
        raise AhaConfigurationError("The file of decisions must be of one review: it has none, or several.")
    return lines, marks[0].pop(), marks[1].pop().lower()


def _table(text: str) -> list[list[str]]:
    """Return the cells of a file, without empty rows and without the row that only names the separator."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\n")
    if said := _SEPARATOR.match(lines):
        lines = lines[said.end() :].lstrip("\n")
    delimiter = said[1] if said else max(",;\t|", key=lines.partition("\n")[0].count)
    try:
        rows = csv.reader(io.StringIO(lines, newline=""), delimiter=delimiter, strict=True)
        return [row for row in rows if any(row)]
    except csv.Error as error:
        raise AhaConfigurationError(f"The file of decisions is not a readable CSV file: {error}.") from None


def _decode(body: bytes) -> str:
    if body.startswith(b"PK\x03\x04"):
        raise AhaConfigurationError(
            "The file of decisions is an Excel workbook, or another zipped file: save it as CSV. Nothing was "
            "recorded."
        )
    for encoding in _encodings(body):
        try:
            return body.decode(encoding).removeprefix("\ufeff")
        except UnicodeDecodeError:
            continue
    raise AhaConfigurationError("The file of decisions is no text: save it as CSV.")


def _encodings(body: bytes) -> tuple[str, ...]:
    """Name what a file may be written in: it begins with ASCII, so zeros tell how wide a letter is."""
    # The mark of UTF-32 begins with that of UTF-16.
    if body.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return ("utf-32",)
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ("utf-16",)
    zeros = tuple(byte == 0 for byte in body[:4])
    return _BY_ZEROS.get(zeros, ("utf-8-sig", "cp1252"))


def _cell(row: Sequence[str], place: int | None) -> str:
    return row[place].replace("\n", " ").strip().removeprefix("'") if place is not None and place < len(row) else ""


def _review(location: Store, account: str, review_id: str, population_sha256: str) -> Review:
    """Find the review of a file; where a spreadsheet has changed the id, by the hash of the population."""
    same = [
        review
        for review in read_reviews(location, account)
        if review.record["population_sha256"] == population_sha256
    ]
    changed = [review for review in same if is_changed_by_spreadsheets(review.review_id)]
    if review_id and len(changed) == 1 and review_id not in {review.review_id for review in same}:
        return changed[0]
    review = find_review(location, account, review_id)
    if review is None:
        raise AhaConfigurationError(f"There is no review {review_id} of {account} below {location.url}.")
    if review.record["population_sha256"] != population_sha256:
        raise AhaConfigurationError(
            f"The file of decisions is about another population than the review {review_id} has: it was made from "
            "another page, or changed."
        )
    return review


def _check_time(review: Review, now: datetime) -> None:
    if review.state(now) == EXPIRED:
        raise AhaGuardError(
            f"The review {review.review_id} was opened on {review.created_at:%Y-%m-%d}, over {OPEN_FOR.days} days "
            "ago: who has access may have changed. Open a new one. Nothing was recorded."
        )


def check_lines(lines: Sequence[Line], population: Mapping[str, Mapping[str, Any]], login: str) -> list[Line]:
    """Refuse decisions that aren't whole, or not of the right people: nobody decides about themselves.

    The login that submits counts whatever the file says, because the file says what its writer likes.

    :param lines: rows of the file.
    :param population: rows of the review by key.
    :param login: who submits.
    :return: the rows, with the login where no reviewer was named.
    :raises AhaConfigurationError: when rows don't belong to the review.
    :raises AhaGuardError: when a decision is missing, impossible, contradictory, or about the one who made it.
    """
    counted = Counter(line.key for line in lines)
    _refuse("are not of this review", (line for line in lines if line.key not in population), AhaConfigurationError)
    _refuse("are in the file twice", (line for line in lines if counted[line.key] > 1), AhaConfigurationError)
    if missing := len(population.keys() - counted.keys()):
        raise AhaConfigurationError(
            f"{missing:,} of {len(population):,} rows of the review are missing from the file: submit all rows, "
            "not what a filter shows. Nothing was recorded."
        )
    _refuse("have no decision", (line for line in lines if not line.decision))
    _refuse(f"have none of the decisions {', '.join(CHOICES)}", (x for x in lines if x.decision not in CHOICES))
    _refuse(
        "take away what isn't there: an account without a role can only be kept or revoked, a right can't be "
        "downgraded",
        (line for line in lines if _is_impossible(line.decision, population[line.key]["kind"])),
    )
    losing = {population[line.key]["user_id"] for line in lines if line.decision == REVOKE_ACCOUNT}
    _refuse(
        "contradict: the same person is to lose the account",
        (x for x in lines if population[x.key]["user_id"] in losing and x.decision != REVOKE_ACCOUNT),
    )
    if names_nobody(login):
        _refuse(
            "have no reviewer, and Airflow doesn't say who submits the file: name who decided",
            (line for line in lines if not _names_somebody(line.reviewer)),
        )
    lines = [line if _names_somebody(line.reviewer) else replace(line, reviewer=login) for line in lines]
    people = People(population.values())
    decided = [line for line in lines if line.decision != NOT_MINE]
    _refuse(
        "were decided by the person that they are about, or by somebody whose name may be that person's: name "
        "another reviewer, or the reviewer by email",
        (line for line in decided if people.decides(line.reviewer, population[line.key]["user_id"])),
    )
    mine = _of_login(people, population, login)
    _refuse(
        f"are about the person who submits the file, whoever decided: mark them {NOT_MINE}, or let somebody else "
        "submit the file",
        (line for line in decided if population[line.key]["user_id"] in mine),
    )
    return lines


def _names_somebody(reviewer: str) -> bool:
    return any(map(str.isalnum, reviewer)) and not is_unset(reviewer) and fold(reviewer) not in _NO_REVIEWER


def _of_login(people: People, population: Mapping[str, Mapping[str, Any]], login: str) -> set[str]:
    ids = {row["user_id"] for row in population.values()}
    return {user_id for user_id in ids if people.submits(login, user_id)}


def _is_impossible(decision: str, kind: str) -> bool:
    return (kind == ACCOUNT and decision in (REVOKE_ROLE, DOWNGRADE)) or (kind == RIGHT and decision == DOWNGRADE)


def _refuse(why: str, wrong: Iterable[Line], error: type[Exception] = AhaGuardError) -> None:
    if numbers := [line.number for line in wrong]:
        raise error(f"{len(numbers):,} rows of the file {why}: {_rows(numbers)}. Nothing was recorded.")


def _rows(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - _NAMED:,} more" if len(numbers) > _NAMED else ""
    return f"row {', '.join(map(str, numbers[:_NAMED]))}{more}"


def _record(
    location: Store,
    review: Review,
    lines: Sequence[Line],
    population: Mapping[str, Mapping[str, Any]],
    body: bytes,
    digest: str,
    run: Run,
    now: datetime,
) -> dict[str, Any]:
    """Write the file as it came, the decisions as a table, and last the record that names both."""
    place = location.within(review.path)
    counts = Counter(line.decision for line in lines)
    files = {
        "file": place.keep("submitted.csv", body),
        DECISIONS: place.keep("decisions.parquet", _parquet(lines, population)),
    }
    record = {
        "review_id": review.review_id,
        "account": review.record["account"],
        "population_sha256": review.record["population_sha256"],
        "submitted_at": milliseconds_text(now),
        # Who was logged in; the reviewers are who the file says.
        "submitted_by": run.requested_by,
        "dag_id": run.dag_id,
        "run_id": run.run_id,
        "file_sha256": sha256(body),
        "decisions_sha256": digest,
        "rows": len(lines),
        "reviewed": len(lines) - counts[NOT_MINE],
        "decisions": {choice: counts[choice] for choice in CHOICES},
        "reviewers": len({fold(line.reviewer) for line in lines}),
        "to_do": sum(line.decision != KEEP for line in lines),
        "files": review_records.files_of(files),
    }
    body = sealed(record)
    if not place.create(SUBMISSION, body):
        raise AhaGuardError(f"Decisions of the review {review.review_id} were submitted meanwhile, and they stay.")
    return parse_record(body, SUBMISSION)


def _parquet(lines: Sequence[Line], population: Mapping[str, Mapping[str, Any]]) -> bytes:
    values: dict[str, list[Any]] = {
        "row_key": [line.key for line in lines],
        "decision": [line.decision for line in lines],
        "reviewer": [line.reviewer for line in lines],
        "note": [line.note for line in lines],
        **{name: [population[line.key][name] for line in lines] for name in _COPIED},
    }
    buffer = io.BytesIO()
    columns = [json_array(values[field.name], field.type) for field in _SCHEMA]
    with pq.ParquetWriter(buffer, _SCHEMA, compression="zstd") as writer:
        writer.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA))
    return buffer.getvalue()
