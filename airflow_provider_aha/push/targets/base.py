"""The protocol between a push and its target: one class per target.

A push opens the target, shows it the records in batches, and closes it, whatever happens. All calls come from
one thread. What a target knows of a record it says as an :class:`Answer`; what it can't say of single records
it raises:

- :class:`SendAgainError`: nothing was decided, the same batch may be sent again after a while.
- :class:`BatchRefusedError`: nothing of the batch was applied, because of a record in it. The push halves the batch
  until the record stands alone, and is ``rejected``.
- :class:`BatchFailedError`: the target fails on the batch however often it is tried, perhaps because of a record
  in it. The push halves it, too; the record that then stands alone has ``failed``, and is sent again by the next
  try or run. Several in a row stop the push: the records aren't at fault.
- any other :class:`~airflow_provider_aha.exceptions.AhaError`: the target is broken, or refuses us. The push
  stops, and keeps what was acknowledged.

Any of them, wrapped in :class:`BrokenOffError`, is about the record that follows those that have an answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_aha.exceptions import AhaError, AhaTargetError
from airflow_provider_aha.push.mapping.rows import batch_id, key_texts, records

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_provider_aha.push.mapping.spec import MappingSpec

ADDED, UPDATED, UNCHANGED, SKIPPED, REJECTED = "added", "updated", "unchanged", "skipped", "rejected"
SENT, FAILED = "sent", "failed"
# What a target may say of a record: `sent` where it doesn't tell whether the record was new to it, `failed` where
# nobody knows whether it was taken.
ANSWERS = frozenset({ADDED, UPDATED, UNCHANGED, SKIPPED, REJECTED, SENT, FAILED})


class SendAgainError(AhaTargetError):
    """The target could not take the batch now; the same batch may be sent again.

    ``retry_after`` of the error is how many seconds the target wants to be left alone, where it said so. A
    ``status`` of 500, try after try, counts as :class:`BatchFailedError`.
    """


class BadBatchError(AhaTargetError):
    """Something in a batch is wrong, and the target doesn't say which record it is.

    :param reason: why, for the outcome of the record once it stands alone; it may quote the record.
    :param code: the target's own code, such as ``422``.
    """

    _status: str

    def __init__(self, reason: str, *, code: str | None = None) -> None:
        super().__init__("The target can't take a batch because of something in it.")
        self.reason = reason
        self.code = code

    @property
    def answer(self) -> Answer:
        """What becomes of the record that stands alone."""
        return Answer(self._status, self.reason, code=self.code)


class BatchRefusedError(BadBatchError):
    """The target took nothing of the batch because of what is in it."""

    _status = REJECTED


class BatchFailedError(BadBatchError):
    """The target fails on the batch, however often it was tried, and nobody knows what it took."""

    _status = FAILED


class BrokenOffError(AhaTargetError):
    """The target broke in the middle of a batch, at the record that follows those which have an answer.

    :param answers: of the first records, in their order; perhaps none.
    :param cause: what happened then; :class:`SendAgainError`: the other records are sent again, after a while;
        :class:`BadBatchError`: the next record is the bad one; any other: the push fails with it.
    """

    def __init__(self, answers: Sequence[Answer], cause: AhaError) -> None:
        super().__init__(str(cause))
        self.answers = answers
        self.cause = cause


@dataclass(frozen=True)
class Answer:
    """What became of one record.

    :param status: one of :data:`ANSWERS`.
    :param reason: why, for a record that was skipped or rejected; it may quote the record.
    :param field: the field it is about, where one is to blame.
    :param code: the target's own code, such as ``422``.
    """

    status: str
    reason: str | None = None
    field: str | None = None
    code: str | None = None


@dataclass(frozen=True)
class Extra:
    """What a push means to do, or did, to a record of the target that no row of the dataset stands for.

    :param user_id: whom it is about.
    :param expected: what would become of it: one of :data:`ANSWERS`.
    :param answer: what became of it; None: nothing yet.
    :param reason: why.
    """

    user_id: str
    expected: str
    answer: Answer | None = None
    reason: str | None = None


@dataclass(frozen=True)
class SameKeys:
    """Sync keys that a target doesn't tell apart, though they are spelled differently.

    :param groups: numbers of records that it takes for the same.
    :param there: number of a record, and how the target spells the key of what it takes for the same: the fields
        of the sync key that are text there.
    """

    groups: Sequence[Sequence[int]] = ()
    there: Sequence[tuple[int, Mapping[str, str]]] = ()


@dataclass(frozen=True)
class TargetField:
    """A field that a target has.

    :param name: its name.
    :param type: one of :data:`airflow_provider_aha.push.mapping.spec.TYPES`, or None when the target's type is
        none of them.
    :param required: whether a new record can't do without it.
    """

    name: str
    type: str | None = None
    required: bool = False


@dataclass(frozen=True)
class Batch:
    """Some mapped records, in the order of the dataset.

    :param spec: the mapping they were made by.
    :param table: one column per field of the mapping, in its order, with its type.
    """

    spec: MappingSpec
    table: pa.Table

    def __len__(self) -> int:
        """Return how many records there are."""
        return int(self.table.num_rows)

    @cached_property
    def id(self) -> str:
        """The same for the same records under the same mapping, and for no others: an idempotency key."""
        return batch_id(self.spec, self.table)

    @cached_property
    def keys(self) -> list[str]:
        """The sync key of each record as text, such as for an index; a JSON array where it has several fields."""
        return [text for text in key_texts(self.spec, self.table) if text is not None]

    def records(self) -> list[dict[str, Any]]:
        """Return the records as dicts that JSON can hold.

        Dates and moments are ISO text in UTC. A field that is null is left out when the mapping says
        ``on_null: omit``.
        """
        return records(self.spec, self.table)

    def part(self, start: int, stop: int) -> Batch:
        """Return the records from one position up to another.

        :param start: the first one.
        :param stop: the one after the last one.
        """
        return Batch(self.spec, self.table.slice(start, stop - start))


class Target(ABC):
    """Base of all targets.

    A target is made by its operator, and asked for nothing before :meth:`open`.
    """

    # What it is, such as `sql`, for the layout and for sentences.
    kind: str
    # How many records one call of `send` takes at most.
    batch_size: int = 1000
    # True: it takes all records of a run as one, like a file that is replaced. Nothing is compared with what was
    # sent before, nothing is resumed, and what was sent counts once `finish` has returned.
    takes_all: bool = False
    # True: it knows what it has. Every record is compared with that and not with what was sent before, and `expect`
    # sees all of them before the first one is sent; those that it calls unchanged are not sent.
    compares: bool = False
    # True, from `open` on: there are no records in it yet, so what was sent before is not there any more.
    is_new: bool = False

    @property
    @abstractmethod
    def name(self) -> str:
        """Which one it is among those of its kind, such as connection and table; the same in every run."""

    def open(self, spec: MappingSpec, *, dry_run: bool) -> None:  # noqa: B027 - nothing to do for some
        """Get ready, and refuse what can't work: a mode that it doesn't have, a field that it lacks.

        :param spec: the mapping; its mode says whether records may be added, updated or both.
        :param dry_run: nothing may be changed.
        :raises AhaConfigurationError: when mapping and target don't fit.
        :raises AhaError: when the target can't be used.
        """

    def fields(self) -> list[TargetField] | None:
        """Return the fields of the target, or None when it doesn't say or takes any."""
        return None

    def same_keys(self, batches: Iterable[Batch]) -> SameKeys:
        """Say which sync keys the target doesn't tell apart; asked before anything is sent.

        :param batches: the records, numbered from 0 through all batches, that may be sent or are invalid.
        """
        return SameKeys()

    def expect(self, batch: Batch) -> Sequence[str] | None:
        """Say what :meth:`send` would do, without doing it.

        :param batch: at most ``batch_size`` records.
        :return: one of :data:`ANSWERS` per record, or None when only sending can tell.
        """
        return None

    def objections(self) -> Sequence[str]:
        """Say, as sentences, what speaks against the push; asked where it ``compares``, after ``expect``."""
        return ()

    def extras(self) -> Sequence[Extra]:
        """Return what is done beyond the records, such as to those that are gone, for the outcomes."""
        return ()

    @abstractmethod
    def send(self, batch: Batch) -> Sequence[Answer]:
        """Send records, and say what became of each, in their order.

        A batch may come twice, when nobody knows whether it arrived: it has the same ``id`` then, and must do
        no harm.

        :param batch: at most ``batch_size`` records.
        :raises SendAgainError: when the same batch should be sent again.
        :raises BrokenOffError: when it knows at which record it broke.
        :raises BatchRefusedError: when one of the records is to blame for all, and none was applied.
        :raises BatchFailedError: when it fails on the batch, however often it is tried.
        :raises AhaError: when the target is broken, or refuses us.
        """

    def finish(self) -> None:  # noqa: B027
        """Complete the push after the last batch; not called when it was broken off."""

    def close(self) -> None:  # noqa: B027
        """Let go of what :meth:`open` took; called once, whatever happened."""
