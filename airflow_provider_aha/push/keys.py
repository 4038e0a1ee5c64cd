"""Records whose sync keys the target doesn't tell apart: found before anything is sent, and never sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_aha.common.addresses import spelled
from airflow_provider_aha.common.arrow import array_of, hashes
from airflow_provider_aha.push.mapped import Chunk, PushPlan
from airflow_provider_aha.push.mapping.lookup import Lookup
from airflow_provider_aha.push.mapping.rows import WIDTH, row_hashes
from airflow_provider_aha.push.outcomes import INVALID, PLANNED
from airflow_provider_aha.push.targets.base import Batch, Target

# So many others are named in a reason.
_NAMED = 5
_FOREIGN = (
    "the target has a record that it finds by this sync key, and whose own key is spelled differently: it may be "
    "another person's, so nothing was sent. Correct the one that is wrong"
)
_STRING = pa.string()


def refuse_same_keys(plan: PushPlan, target: Target) -> int:
    """Refuse the records of a plan that the target would take for another one.

    Upper and lower case alone don't make another person of a record that the target has; of two records of one
    push they do, for the target would mix them.

    :param plan: the plan; such records are ``rejected`` in it from now on.
    :param target: the target, open.
    :return: how many there are.
    """
    if not plan.counts[PLANNED]:
        return 0
    shown = _Shown(plan, target.batch_size)
    same = target.same_keys(shown.batches())
    if not same.groups and not same.there:
        return 0
    others: dict[int, set[int]] = defaultdict(set)
    for group in same.groups:
        rows = {shown.rows[number] for number in group}
        for row in rows:
            others[row] |= rows - {row}
    foreign = set()
    for row, other in _owners(plan, {shown.rows[number]: spelling for number, spelling in same.there}):
        if other is None:
            foreign.add(row)
        else:
            others[row].add(other)
            others[other].add(row)
    reasons = dict.fromkeys(foreign, _FOREIGN) | _reasons(plan, others)
    return plan.reject(reasons)


class _Shown:
    """The records that a target is shown, and the rows of the plan that they are."""

    def __init__(self, plan: PushPlan, size: int) -> None:
        self.rows: list[int] = []
        self._plan = plan
        self._size = size

    def batches(self) -> Iterator[Batch]:
        """Yield what is to be sent, and what is invalid and has a key: both of a pair are to be known."""
        statuses = array_of([PLANNED, INVALID], _STRING)
        for chunk in self._plan.chunks():
            notes = chunk.notes
            wanted = pc.and_(
                pc.is_in(notes.column("status"), value_set=statuses), pc.is_valid(notes.column("sync_key"))
            )
            places = pc.indices_nonzero(wanted)
            self.rows += [chunk.start + place for place in places.to_pylist()]
            table = chunk.table.take(places)
            for start in range(0, table.num_rows, self._size):
                yield Batch(self._plan.spec, table.slice(start, self._size))


def _owners(plan: PushPlan, there: Mapping[int, Mapping[str, str]]) -> Iterator[tuple[int, int | None]]:
    """Yield the rows that the target would write to a record with another key, and the row that has that key."""
    lookup = Lookup(plan.keys)
    for chunk, rows in _by_chunk(plan, there):
        keys = chunk.table.select(list(plan.spec.sync_key)).take(_places(chunk, rows))
        found = _with(keys, [there[row] for row in rows])
        owners = lookup.find(hashes(bytearray(row_hashes(found, found.column_names)), WIDTH)).tolist()
        mine, theirs = keys.to_pylist(), found.to_pylist()
        for row, owner, sent, has in zip(rows, owners, mine, theirs, strict=True):
            if owner >= 0 and owner != row:
                yield row, owner
            elif any(spelled(str(sent[name])) != spelled(str(has[name])) for name in sent):
                yield row, None


def _with(keys: pa.Table, spellings: Sequence[Mapping[str, str]]) -> pa.Table:
    """Return keys as the target spells them."""
    for place, name in enumerate(keys.column_names):
        if keys.schema.field(name).type == _STRING and name in spellings[0]:
            keys = keys.set_column(place, name, array_of([one[name] for one in spellings], _STRING))
    return keys


def _reasons(plan: PushPlan, others: Mapping[int, set[int]]) -> dict[int, str]:
    """Say with which users' records each is taken for the same."""
    users: dict[int, str] = {}
    for chunk, rows in _by_chunk(plan, others):
        ids = chunk.notes.column("user_id").take(_places(chunk, rows)).to_pylist()
        users.update(zip(rows, ids, strict=True))
    return {row: _reason(sorted({users[other] for other in theirs})) for row, theirs in others.items()}


def _reason(users: list[str]) -> str:
    named = ", ".join(users[:_NAMED]) + (f" and {len(users) - _NAMED} others" if len(users) > _NAMED else "")
    return (
        f"the target takes this sync key for the same as that of user{'s' * (len(users) > 1)} {named}, so none of "
        "them was sent: make the keys differ by more than spelling"
    )


def _by_chunk(plan: PushPlan, rows: Mapping[int, Any]) -> Iterator[tuple[Chunk, list[int]]]:
    """Yield the chunks of a plan that have some of the rows, with those rows in order."""
    wanted = sorted(rows)
    for chunk in plan.chunks():
        mine = [row for row in wanted if chunk.start <= row < chunk.start + chunk.table.num_rows]
        if mine:
            yield chunk, mine


def _places(chunk: Chunk, rows: Sequence[int]) -> Any:
    return array_of([row - chunk.start for row in rows], pa.int64())
