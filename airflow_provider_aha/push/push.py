"""Plan, then send: the push of a dataset's mapped records to a target."""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airflow_provider_aha.api.ratelimit import Clock, never
from airflow_provider_aha.common.arrow import array_of, hex_texts, literal
from airflow_provider_aha.common.moments import milliseconds_text
from airflow_provider_aha.datasets.schemas import TIMESTAMP
from airflow_provider_aha.datasets.snapshot import Snapshot
from airflow_provider_aha.exceptions import (
    AhaError,
    AhaGuardError,
    AhaRejectedError,
    AhaTargetError,
)
from airflow_provider_aha.push.answers import HAS_IT, Answered, BatchJournal, Held
from airflow_provider_aha.push.delivery import Delivery
from airflow_provider_aha.push.keys import refuse_same_keys
from airflow_provider_aha.push.mapped import Chunk, PushPlan, make_push_plan
from airflow_provider_aha.push.mapping.spec import MappingSpec
from airflow_provider_aha.push.outcomes import INVALID, OUTCOMES, PLANNED, in_order, totals
from airflow_provider_aha.push.sent import NOTHING, Sent, read_sent, write_sent
from airflow_provider_aha.push.targets.base import (
    ADDED,
    FAILED,
    REJECTED,
    SENT,
    UNCHANGED,
    UPDATED,
    Answer,
    Batch,
    Extra,
    Target,
)
from airflow_provider_aha.record.run import Run, path_part
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import Store, file_hash, staging, storage_errors, to_json
from airflow_provider_aha.version import package_version

log = logging.getLogger(__name__)

# After so many failures in a row it is the target that is at fault, and not the records.
_FAILED_IN_A_ROW = 5
_STRING = pa.string()
_ANSWERED = ("status", "field", "reason", "code", "attempts", "sent_at", "try_number", "batch_id")
_NOT_SENT = "not sent: the push was broken off before"


@dataclass(frozen=True)
class PushRequest:
    """What is to be pushed where.

    :param location: the base path.
    :param account: whose users.
    :param snapshot: the day of the snapshot.
    :param spec: the mapping.
    :param target: the target, not yet open.
    :param run: on whose behalf.
    :param dry_run: plan only.
    :param clock: the time.
    :param stopped: whether the task was told to stop.
    """

    location: Store
    account: str
    snapshot: str
    spec: MappingSpec
    target: Target
    run: Run
    dry_run: bool = False
    clock: Clock = field(default_factory=Clock)
    stopped: Callable[[], bool] = never


def push(request: PushRequest) -> dict[str, Any]:
    """Push a dataset.

    :param request: what is to be pushed where.
    :return: the summary, as it was published beside the outcomes; no names, no emails.
    :raises AhaGuardError: when a limit holds the whole push back; nothing was sent.
    :raises AhaRejectedError: when more records were invalid or rejected than the mapping allows.
    :raises AhaError: when the target, the snapshot or the base path failed. In every case the outcomes of what
        was done are published first.
    """
    return _Push(request).run()


class _Push:
    """One push, from the plan to the summary."""

    def __init__(self, request: PushRequest) -> None:
        self._request = request
        self._spec, self._target = request.spec, request.target
        self._dry_run = request.dry_run or not request.spec.launched
        self._folder = Layout(request.account).push(_part_of(self._target))
        run = request.run
        task = path_part(f"{run.dag_id}.{run.task_id}")
        self._place = request.location.within(f"{self._folder}/run={path_part(run.run_id)}/task={task}")
        self._sent = request.location.within(f"{self._folder}/sent/{self._spec.name}.parquet")
        self._journal = (
            Held(run.try_number)
            if self._target.takes_all
            else BatchJournal(self._place.within("batches"), run.try_number)
        )
        self._began = datetime.now(UTC)
        self._ended = "failed"
        self._is_refused = True
        self._reason: str | None = None
        self._warnings: list[str] = []

    def run(self) -> dict[str, Any]:
        request = self._request
        snapshot = Snapshot.of(request.location, request.account, request.snapshot)
        with staging() as folder:
            try:
                self._target.open(self._spec, dry_run=self._dry_run)
                sent = self._last_sent()
                with snapshot.open(self._spec.dataset) as file:
                    plan = make_push_plan(file, self._spec, folder, NOTHING if self._starts_anew() else sent)
                return self._carry_out(plan, sent, snapshot.manifest, folder)
            finally:
                self._target.close()

    def _starts_anew(self) -> bool:
        return self._target.takes_all or self._target.is_new or self._target.compares

    def _last_sent(self) -> Sent:
        return read_sent(self._sent, self._spec.fingerprint)

    def _carry_out(self, plan: PushPlan, sent: Sent, manifest: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        log.info("%d rows of %s: %s", plan.rows, self._spec.dataset, totals(plan.counts))
        for name, number in sorted(plan.faults.items()):
            log.warning("%d records are invalid because of the field %s", number, name)
        expected: dict[int, Any] = {}
        try:
            if rejected := refuse_same_keys(plan, self._target):
                log.warning(
                    "%d records are rejected: the target doesn't tell their sync keys from others. The outcomes "
                    "name the users.",
                    rejected,
                )
            if self._dry_run or self._target.compares:
                expected = self._expect(plan)
            self._guard(plan, sent, expected)
            self._is_refused = False
            if not self._dry_run:
                self._send(plan, expected)
            self._ended = "completed"
            self._reason = self._nothing_was_written(plan, expected) if self._dry_run else None
        except BaseException as error:
            self._reason = str(error) if isinstance(error, AhaError) else type(error).__name__
            raise
        finally:
            summary = self._close(plan, expected, manifest, folder)
        return summary

    # --- before the first record -------------------------------------------------------------------

    def _guard(self, plan: PushPlan, sent: Sent, expected: Mapping[int, Any]) -> None:
        planned = plan.counts[PLANNED]
        if self._target.compares:
            words = _counted(expected.values())
            planned = words[ADDED] + words[UPDATED]
        reasons = [*_objections(plan, sent, self._spec, self._target, planned), *self._target.objections()]
        if self._dry_run:
            self._warnings = [f"A push would be refused: {reason}" for reason in reasons]
            for warning in self._warnings:
                log.warning(warning)
        elif reasons:
            raise AhaGuardError(f"Nothing was sent. {' '.join(reasons)}")

    def _expect(self, plan: PushPlan) -> dict[int, Any]:
        """Ask the target what it would do; by the start of each chunk, one word per row or null."""
        found: dict[int, Any] = {}
        for chunk in plan.chunks():
            rows = [n for n, status in enumerate(chunk.notes.column("status").to_pylist()) if status == PLANNED]
            words: list[str | None] = [None] * chunk.table.num_rows
            for batch, positions in self._batches(chunk, rows):
                answers = self._target.expect(batch)
                for position, word in zip(positions, answers or (), strict=answers is not None):
                    words[position] = word
            found[chunk.start] = array_of(words, _STRING)
        return found

    def _would(self, expected: Mapping[int, Any]) -> Counter[str]:
        """Count what the target said it would do in a dry run."""
        would = _counted(expected.values() if self._dry_run else ())
        if self._dry_run:
            would.update(extra.expected for extra in self._target.extras())
        return would

    def _nothing_was_written(self, plan: PushPlan, expected: Mapping[int, Any]) -> str:
        would = totals(self._would(expected) or {SENT: plan.counts[PLANNED]})
        if self._spec.launched:
            return f"Nothing was written, for this is a dry run. A push would do this: {would}."
        return (
            f"Nothing was written, for the mapping {self._spec.name} is a draft. Launched, it would do this: "
            f"{would}. To launch it, set launched: true in it."
        )

    def _batches(self, chunk: Chunk, rows: list[int]) -> Iterator[tuple[Batch, list[int]]]:
        size = self._target.batch_size
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            yield Batch(self._spec, chunk.table.take(array_of(part, pa.int64()))), part

    # --- sending -----------------------------------------------------------------------------------

    def _send(self, plan: PushPlan, expected: Mapping[int, Any]) -> None:
        done = self._journal.read()
        delivery = Delivery(self._target, self._request.clock, self._request.stopped)
        outcomes = self._place.url_of("outcomes.parquet")
        bad = plan.counts[INVALID] + plan.counts[REJECTED] + done.count(REJECTED)
        watch = _Watch(plan, bad, outcomes)
        for chunk in plan.chunks():
            for batch, keys, records in self._open_batches(plan, chunk, done, expected):
                for acknowledged in delivery.send(batch, keys, records):
                    self._journal.write(acknowledged)
                    watch.see(acknowledged.answers)
        # Also where nothing was left to send.
        watch.see(())
        self._target.finish()
        self._journal.settle()
        if watch.failed:
            self._warnings.append(
                f"The target failed on {watch.failed} records, however often they were tried. They are sent again "
                "in the next run."
            )
            log.warning(self._warnings[-1])

    def _open_batches(
        self, plan: PushPlan, chunk: Chunk, done: Answered, expected: Mapping[int, Any]
    ) -> Iterator[tuple[Batch, Any, Any]]:
        """Yield what is still to be sent of a chunk, with the hashes of keys and records."""
        keys = plan.keys.slice(chunk.start, chunk.table.num_rows)
        records = plan.records.slice(chunk.start, chunk.table.num_rows)
        waiting = pc.equal(_statuses(chunk, expected), literal(PLANNED, _STRING))
        answered = done.column("status", done.places(keys, records))
        again = pc.or_kleene(pc.is_null(answered), pc.equal(answered, literal(FAILED, _STRING)))
        waiting = pc.and_(waiting, again)
        rows = pc.indices_nonzero(waiting).to_pylist()
        for batch, part in self._batches(chunk, rows):
            positions = array_of(part, pa.int64())
            yield batch, keys.take(positions), records.take(positions)

    # --- afterwards --------------------------------------------------------------------------------

    def _close(
        self, plan: PushPlan, expected: Mapping[int, Any], manifest: Mapping[str, Any], folder: Path
    ) -> dict[str, Any]:
        done = self._journal.read()
        local = folder / "outcomes.parquet"
        counts: Counter[str] = Counter()
        with storage_errors(str(local)), pq.ParquetWriter(local, OUTCOMES, compression="zstd") as writer:
            for chunk in plan.chunks():
                table = self._outcomes(plan, chunk, done, expected)
                for pair in pc.value_counts(table.column("status")).to_pylist():
                    counts[pair["values"]] += pair["counts"]
                writer.write_table(table)
            extras = self._extras()
            counts.update(extras.column("status").to_pylist())
            writer.write_table(extras)
        digest, size = file_hash(local.open("rb"))
        summary = self._summary(plan, counts, expected, manifest, digest, size)
        staged = folder / "push.json"
        with storage_errors(str(staged)):
            staged.write_bytes(to_json(summary))
        self._place.publish({path.name: path for path in (local, staged)})
        # What was refused is nothing to compare the next input with: else a second try would find it unchanged.
        if not (self._dry_run or self._is_refused):
            self._keep_sent(plan, done, expected)
        log.info("%s: %s", self._ended, totals(counts))
        if self._dry_run and self._reason:
            log.info("%s", self._reason)
        return summary

    def _extras(self) -> pa.Table:
        """Return the outcomes of what was done beyond the rows of the dataset."""
        rows = [self._extra(extra) for extra in self._target.extras()]
        columns = [array_of([row.get(field.name) for row in rows], field.type) for field in OUTCOMES]
        return pa.Table.from_arrays(columns, schema=OUTCOMES)

    def _extra(self, extra: Extra) -> dict[str, Any]:
        left = Answer(PLANNED) if self._dry_run else Answer(FAILED, _NOT_SENT)
        answer = extra.answer or left
        return {
            "user_id": extra.user_id,
            "status": answer.status,
            "expected": extra.expected if self._dry_run else None,
            "reason": "; ".join(filter(None, (extra.reason, answer.reason))) or None,
            "code": answer.code,
            "attempts": int(extra.answer is not None),
        }

    def _outcomes(self, plan: PushPlan, chunk: Chunk, done: Answered, expected: Mapping[int, Any]) -> pa.Table:
        notes, size = chunk.notes, chunk.table.num_rows
        status = notes.column("status") if self._dry_run else _statuses(chunk, expected)
        words = expected.get(chunk.start) if self._dry_run else None
        planned = pc.equal(status, literal(PLANNED, _STRING))
        keys, records = plan.keys.slice(chunk.start, size), plan.records.slice(chunk.start, size)
        place = done.places(keys, records)
        if self._dry_run:
            place = pc.if_else(pc.is_null(place), place, literal(None, pa.int32()))
        else:
            # What a try before this one sent is unchanged now; in this run's outcomes it was sent.
            unchanged = pc.equal(status, literal(UNCHANGED, _STRING))
            was_sent = pc.is_in(done.column("status", place), value_set=array_of(list(HAS_IT), _STRING))
            open_to_answers = pc.or_(planned, pc.and_(unchanged, was_sent))
            place = pc.if_else(open_to_answers, place, literal(None, pa.int32()))
        answered = pc.is_valid(place)
        answer = {name: done.column(name, place) for name in _ANSWERED}
        left = pc.and_(planned, pc.invert(answered))
        if not self._dry_run:
            status = pc.if_else(left, literal(FAILED, _STRING), status)
            notes = notes.set_column(
                notes.column_names.index("reason"),
                "reason",
                pc.if_else(left, literal(_NOT_SENT, _STRING), notes.column("reason")),
            )
        return pa.Table.from_arrays(
            [
                notes.column("user_id"),
                notes.column("sync_key"),
                pc.if_else(answered, answer["status"], status),
                array_of([None] * size, _STRING) if words is None else words,
                pc.if_else(answered, answer["field"], notes.column("field")),
                pc.if_else(answered, answer["reason"], notes.column("reason")),
                answer["code"],
                pc.fill_null(answer["attempts"], literal(0, pa.int32())),
                answer["sent_at"].cast(TIMESTAMP),
                answer["try_number"],
                answer["batch_id"],
                hex_texts(records),
            ],
            schema=OUTCOMES,
        )

    def _keep_sent(self, plan: PushPlan, done: Answered, expected: Mapping[int, Any]) -> None:
        """Remember what the target has as it was sent: unchanged records, and what was acknowledged."""
        if self._target.takes_all:
            # All is sent every time; how much it was is compared.
            if self._ended == "completed":
                counts = (plan.rows, plan.meant, self._spec.fingerprint)
                write_sent(self._sent, Sent(NOTHING.keys, NOTHING.records, *counts))
            return
        has_it = array_of(list(HAS_IT), _STRING)
        keys, records = [NOTHING.keys], [NOTHING.records]
        for chunk in plan.chunks():
            size = chunk.table.num_rows
            its_keys, its_records = plan.keys.slice(chunk.start, size), plan.records.slice(chunk.start, size)
            status = _statuses(chunk, expected)
            answered = done.column("status", done.places(its_keys, its_records))
            planned = pc.equal(status, literal(PLANNED, _STRING))
            held = pc.equal(status, literal(UNCHANGED, _STRING))
            kept = pc.or_(held, pc.and_(planned, pc.is_in(answered, value_set=has_it)))
            if isinstance(kept, pa.ChunkedArray):
                kept = kept.combine_chunks()
            keys.append(its_keys.filter(kept))
            records.append(its_records.filter(kept))
        write_sent(
            self._sent,
            Sent(pa.concat_arrays(keys), pa.concat_arrays(records), plan.rows, plan.meant, self._spec.fingerprint),
        )

    def _summary(
        self,
        plan: PushPlan,
        counts: Counter[str],
        expected: Mapping[int, Any],
        manifest: Mapping[str, Any],
        digest: str,
        size: int,
    ) -> dict[str, Any]:
        request, run = self._request, self._request.run
        entry = next(file for file in manifest["files"] if file["dataset"] == self._spec.dataset)
        would = self._would(expected)
        return {
            "account": request.account,
            "sandbox": manifest.get("sandbox"),
            "dataset": self._spec.dataset,
            "snapshot": request.snapshot,
            "input_sha256": entry["sha256"],
            "mapping": self._spec.name,
            "mapping_sha256": self._spec.fingerprint,
            "mode": self._spec.mode,
            "launched": self._spec.launched,
            "target": {"kind": self._target.kind, "name": self._target.name},
            "dry_run": self._dry_run,
            "ended": self._ended,
            "reason": self._reason,
            "rows": plan.rows,
            "counts": in_order(dict(counts)),
            "expected": in_order(dict(would)),
            "invalid_by_field": dict(sorted(plan.faults.items())),
            "warnings": self._warnings,
            "started_at": milliseconds_text(self._began),
            "finished_at": milliseconds_text(datetime.now(UTC)),
            "dag_id": run.dag_id,
            "run_id": run.run_id,
            "task_id": run.task_id,
            "try_number": run.try_number,
            "provider_version": package_version(),
            "outcomes": {
                "path": self._place.url_of("outcomes.parquet"),
                "rows": sum(counts.values()),
                "bytes": size,
                "sha256": digest,
            },
        }


class _Watch:
    """Counts what goes wrong with the records of a push, and ends it when that is too much.

    :param plan: the plan.
    :param rejected: how many are invalid, or were rejected, already.
    :param outcomes: where the outcomes will be.
    """

    def __init__(self, plan: PushPlan, rejected: int, outcomes: str) -> None:
        self._percent = plan.spec.limits.max_reject_percent
        self._meant = plan.meant
        self._rejected = rejected
        self._outcomes = outcomes
        self._in_a_row = 0
        self.failed = 0

    def see(self, answers: Iterable[Answer]) -> None:
        """Look at what a batch was answered.

        :param answers: its answers.
        :raises AhaRejectedError: when more was rejected than is allowed.
        :raises AhaTargetError: when the target failed on more than that, or on one record after the other.
        """
        for answer in answers:
            self._rejected += answer.status == REJECTED
            self.failed += answer.status == FAILED
            self._in_a_row = self._in_a_row + 1 if answer.status == FAILED else 0
            if self._in_a_row == _FAILED_IN_A_ROW:
                raise AhaTargetError(
                    f"The target failed on {_FAILED_IN_A_ROW} records in a row ({answer.code}), so that it is the "
                    "target that has a fault: the push was broken off. What was acknowledged is kept. See "
                    f"{self._outcomes}."
                )
        allowed = self._percent * self._meant / 100
        if self._rejected + self.failed <= allowed:
            return
        words = f"{self._rejected} of {self._meant} records are invalid or were rejected"
        if self.failed:
            words += f", on {self.failed} the target failed"
        kind = AhaRejectedError if self._rejected > allowed else AhaTargetError
        raise kind(
            f"{words}, and the mapping allows {self._percent:g} %: the push was broken off. Which, and why, is in "
            f"{self._outcomes}."
        )


def _counted(columns: Iterable[Any]) -> Counter[str]:
    """Count words; null is none."""
    counts: Counter[str] = Counter()
    for words in columns:
        for pair in pc.value_counts(words).to_pylist():
            if pair["values"] is not None:
                counts[pair["values"]] += pair["counts"]
    return counts


def _statuses(chunk: Chunk, expected: Mapping[int, Any]) -> Any:
    """Return the status of each row; what the target has already is unchanged."""
    status, words = chunk.notes.column("status"), expected.get(chunk.start)
    if words is None:
        return status
    same = pc.and_(pc.equal(status, literal(PLANNED, _STRING)), pc.equal(words, literal(UNCHANGED, _STRING)))
    return pc.if_else(pc.fill_null(same, literal(False, pa.bool_())), literal(UNCHANGED, _STRING), status)


def _objections(plan: PushPlan, sent: Sent, spec: MappingSpec, target: Target, planned: int) -> Iterator[str]:
    """Yield what speaks against a push, as sentences."""
    limits, invalid = spec.limits, plan.counts[INVALID]
    if not plan.meant:
        why = "the filter leaves no record" if plan.rows else f"{spec.dataset} has no row"
        yield f"There is nothing to push: {why}."
        return
    if invalid > limits.max_reject_percent * plan.meant / 100:
        fields = ", ".join(f"{name} ({number})" for name, number in plan.faults.most_common(5))
        yield (
            f"{invalid} of {plan.meant} records are invalid, and the mapping allows "
            f"{limits.max_reject_percent:g} % (limits.max_reject_percent). Fields to blame: {fields}."
        )
    for what, now, before in (("rows", plan.rows, sent.rows), ("records", plan.meant, sent.meant)):
        if now < before * (1 - limits.max_shrink_percent / 100):
            yield (
                f"{now} {what} are there, and the last push had {before}: more than "
                f"{limits.max_shrink_percent:g} % are gone (limits.max_shrink_percent). Look whether the extract "
                "is right; if it is, raise the limit for one run."
            )
            break
    if target.takes_all:
        return
    if limits.max_changes is not None and planned > limits.max_changes:
        yield f"{planned} records would be sent, and the mapping allows {limits.max_changes} (limits.max_changes)."
    known = len(sent.keys)
    if limits.max_change_percent is not None and known and planned > limits.max_change_percent * known / 100:
        yield (
            f"{planned} records would be added or changed, of {known} that were sent before; the mapping allows "
            f"{limits.max_change_percent:g} % (limits.max_change_percent)."
        )


def _part_of(target: Target) -> str:
    """Return a target as one part of a path: readable, short, and another one for another target."""
    digest = hashlib.sha256(target.name.encode()).hexdigest()[:8]
    words = re.sub(r"[^a-z0-9]+", "-", target.name.lower()).strip("-")[-60:].strip("-")
    return f"{target.kind}-{words}-{digest}"
