"""The figures of a report: each computed once, here, for the page and for ``access_summary.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_aha.common.arrow import literal
from airflow_provider_aha.common.moments import moment_of
from airflow_provider_aha.datasets.snapshot import Snapshot, may_have_access
from airflow_provider_aha.review.people import KEEP, Person, any_right, unused_seats
from airflow_provider_aha.review.population import WORKSPACE, Access
from airflow_provider_aha.review.records import OPEN, Review, last_submitted
from airflow_provider_aha.review.terms import ATTENTION, Terms
from airflow_provider_aha.review.worklist import DONE, Task, oldest

SEATS = ("active", "inactive_30", "inactive_60", "inactive_90", "never_seen", "unknown")
_FALSE = literal(False, pa.bool_())
# What a tile compares itself with, of the summary before.
_COMPARED = (
    "seats_in_use",
    "seats_unused",
    "seats_reclaimable",
    "leavers",
    "administrators",
    "never_seen_long",
    "reviewed",
)


@dataclass(frozen=True)
class Reviewing:
    """Where the review stands.

    :param current: the review that is being frozen or is open, else the last one submitted; None without any.
    :param state: ``open``, ``submitted`` or ``expired``; None without any.
    :param rows: how many rows it has.
    :param reviewed: how many of them are decided.
    :param last_submitted_at: when decisions were submitted last; UTC.
    :param due_on: when the next ones are due; UTC.
    :param overdue: whether that is over.
    """

    current: str | None
    state: str | None
    rows: int
    reviewed: int
    last_submitted_at: datetime | None
    due_on: datetime
    overdue: bool

    @property
    def open_decisions(self) -> int:
        """How many rows of an open review are not decided."""
        return self.rows - self.reviewed if self.state == OPEN else 0


def reviewing(
    reviews: Sequence[Review], *, now: datetime, first_day: str, every: timedelta, freezing: tuple[str, int] | None
) -> Reviewing:
    """Tell where the review stands.

    :param reviews: reviews, oldest first.
    :param now: this moment; UTC.
    :param first_day: the day of the account's first snapshot, from which the first review is due.
    :param every: how often the control is to run.
    :param freezing: id and rows of the review that is just being frozen.
    """
    submitted = last_submitted(reviews)
    last = submitted.submitted_at if submitted else None
    due = (last or moment_of(first_day)) + every
    newest = reviews[-1] if reviews else None
    if freezing:
        current, state, rows, reviewed = freezing[0], OPEN, freezing[1], 0
    elif newest:
        current, state, rows = newest.review_id, newest.state(now), int(newest.record["rows"])
        reviewed = int((newest.submission or {}).get("reviewed", 0))
    else:
        current, state, rows, reviewed = None, None, 0, 0
    return Reviewing(current, state, rows, reviewed, last, due, overdue=due < now)


@dataclass(frozen=True)
class Figures:
    """What the page and the JSON say.

    :param values: numbers by name; one that can't be known is None.
    :param changes: the difference of a number to that of the report before, by name.
    :param compared_with: the day of that report, or of the snapshot before; None without one.
    :param attention: users by reason, as in :data:`airflow_provider_aha.review.people.ATTENTION`.
    """

    values: Mapping[str, Any]
    changes: Mapping[str, int] = field(default_factory=dict)
    compared_with: str | None = None
    attention: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Counts:
    """Counts people and rows, one after the other.

    :param people: people by what holds for them; see :func:`_facts`.
    :param rows: how many rows there are.
    :param workspaces: ids of the workspaces in them.
    """

    people: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    workspaces: set[str] = field(default_factory=set)

    def watch_people(self, people: Iterable[Person]) -> Iterator[Person]:
        """Yield people, and count them.

        :param people: them.
        """
        for person in people:
            self.people.update(_facts(person))
            yield person

    def watch_rows(self, rows: Iterable[Access]) -> Iterator[Access]:
        """Yield rows, and count them.

        :param rows: them.
        """
        for row in rows:
            self.rows += 1
            if row.workspace_id:
                self.workspaces.add(row.workspace_id)
            yield row


def _facts(person: Person) -> Iterator[str]:
    yield "people"
    yield from (f"flag:{flag}" for flag in person.flags)
    if person.never_seen:
        yield "never_seen"
    if person.suggestion != KEEP:
        yield "suggested"
    if person.rights:
        yield "administrators"
    if person.is_leaver:
        yield "leavers"
        if person.rights:
            yield "leaving_administrators"
        if person.occupies_seat:
            yield "leaver_seats"
    if person.occupies_seat:
        yield "seats"
        yield f"seat:{person.status}"
        if person.unused:
            yield "unused"
        elif person.status == "never_seen":
            yield "never_seen_new"
        if person.unused or person.is_leaver:
            yield "reclaimable"


def figures_of(
    snapshot: Snapshot,
    counts: Counts,
    terms: Terms,
    *,
    sole_owned: int,
    review: Reviewing,
    tasks: Sequence[Task],
    has_roster: bool,
    before: Mapping[str, Any] | None,
) -> Figures:
    """Compute all figures.

    :param snapshot: the snapshot.
    :param counts: of who may sign in, and of the population.
    :param terms: thresholds and prices.
    :param sole_owned: how many workspaces only one person owns.
    :param review: where the review stands.
    :param tasks: what reviews have decided.
    :param has_roster: whether it is known who left.
    :param before: the summary of the report before, or what is known of the snapshot before.
    """
    people, purchased = counts.people, terms.seats_purchased
    in_use = people["seats"]
    values: dict[str, Any] = {
        "users": snapshot.users.num_rows,
        "may_sign_in": people["people"],
        "disabled": snapshot.users.num_rows - people["people"],
        "enabled_unknown": snapshot.users.column("is_enabled").null_count,
        "rows": counts.rows,
        "workspaces": len(counts.workspaces),
        "seats_in_use": in_use,
        "seats_purchased": purchased,
        "seats_free": None if purchased is None else max(0, purchased - in_use),
        "seats_over": None if purchased is None else max(0, in_use - purchased),
        "seats_by_activity": {name: people[f"seat:{name}"] for name in SEATS},
        "seats_unused": people["unused"],
        "seats_never_seen_new": people["never_seen_new"],
        "seats_reclaimable": people["reclaimable"],
        "leavers": people["leavers"] if has_roster else None,
        "leaving_administrators": people["leaving_administrators"] if has_roster else None,
        "leaver_seats": people["leaver_seats"] if has_roster else None,
        "administrators": people["administrators"],
        "never_seen_long": people["never_seen"],
        "suggested": people["suggested"],
        "sole_owned_workspaces": sole_owned,
        "reviewed": review.reviewed,
        "review_rows": review.rows,
        "decisions_open": review.open_decisions,
        "tasks_open": sum(task.state != DONE for task in tasks),
        "tasks_done": sum(task.state == DONE for task in tasks),
        "oldest_task_days": oldest(tasks),
        **_money(snapshot, terms, people["reclaimable"], before),
    }
    compared = dict((before or {}).get("figures") or {})
    return Figures(
        values=values,
        changes={
            name: values[name] - compared[name]
            for name in _COMPARED
            if isinstance(values[name], int) and isinstance(compared.get(name), int)
        },
        compared_with=str(before["snapshot"]) if before else None,
        attention={name: people[f"flag:{name}"] for name in ATTENTION},
    )


def _money(snapshot: Snapshot, terms: Terms, reclaimable: int, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """Keep what could be saved, and what was, apart: disabling somebody lowers no bill."""
    history = dict(((before or {}).get("figures") or {}).get("purchases") or {})
    given_back = None
    if terms.seats_purchased is not None:
        if terms.seats_purchased != next(reversed(history.values()), None):
            history[snapshot.day] = terms.seats_purchased
        given_back = _given_back(history, snapshot.day)
    price = terms.seat_price.amount if terms.seat_price else None
    return {
        "purchases": history,
        "seat_price": price,
        "currency": terms.seat_price.currency if terms.seat_price else None,
        "reclaimable_a_year": None if price is None else round(price * reclaimable, 2),
        "seats_given_back": given_back,
        "realised_a_year": None if price is None or given_back is None else round(price * given_back, 2),
    }


def _given_back(history: Mapping[str, int], day: str) -> int:
    """Tell by how many seats the contract is smaller than at its largest within a year.

    :param history: seats purchased by the first day on which a report knew of them, oldest first.
    :param day: today.
    """
    year_ago = (date.fromisoformat(day) - timedelta(days=365)).isoformat()
    since = max((known for known in history if known < year_ago), default="")
    return max(seats for known, seats in history.items() if known >= since) - list(history.values())[-1]


def basics(day: str, users: pa.Table, terms: Terms) -> dict[str, Any]:
    """Compute what a tile compares itself with where there was no report before.

    :param day: the day of the snapshot.
    :param users: its ``users``.
    :param terms: the thresholds.
    """
    enabled = users.filter(may_have_access(users))
    unused, never = unused_seats(enabled, terms)
    found = {
        "seats_in_use": pc.sum(pc.fill_null(enabled.column("occupies_seat"), _FALSE)).as_py() or 0,
        "seats_unused": pc.sum(unused).as_py() or 0,
        "administrators": pc.sum(any_right(enabled)).as_py() or 0,
        "never_seen_long": pc.sum(never).as_py() or 0,
    }
    return {"snapshot": day, "figures": found}


def trend(points: Iterable[tuple[str, pa.Table]], terms: Terms) -> list[dict[str, Any]]:
    """Count seats over snapshots.

    :param points: day and ``users`` of each.
    :param terms: the thresholds.
    :return: day, seats in use and unused seats.
    """
    found = []
    for day, users in points:
        counted = basics(day, users, terms)["figures"]
        found.append({"day": day, "in_use": counted["seats_in_use"], "unused": counted["seats_unused"]})
    return found


class HeatMap:
    """Counts people by workspace and role, one row of the population after the other."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}
        self._names: dict[str, str] = {}
        self._ranks: dict[str, int] = {}

    def watch(self, rows: Iterable[Access]) -> Iterator[Access]:
        """Yield rows, and count them.

        :param rows: them.
        """
        for row in rows:
            if row.kind == WORKSPACE and row.workspace_id:
                self._counts.setdefault(row.workspace_id, Counter())[row.role_name] += 1
                self._names[row.workspace_id] = row.workspace_name or row.workspace_id
                self._ranks.setdefault(row.role_name, row.role_rank or 99)
            yield row

    def result(self, sole_owned: Collection[str], top: int = 15) -> dict[str, Any]:
        """Return what was counted.

        :param sole_owned: names of the workspaces that only one person owns.
        :param top: so many workspaces, those with most people, have a row of their own.
        :return: names of roles (most rights first), rows of counts, and how many of them are of one workspace
            alone; another one folds the rest.
        """
        counts, names, ranks = self._counts, self._names, self._ranks
        ordered = sorted(counts, key=lambda key: (-sum(counts[key].values()), names[key]))
        shown = [
            {"workspace": names[key], "sole_owner": names[key] in sole_owned, "counts": dict(counts[key])}
            for key in ordered[:top]
        ]
        if rest := ordered[top:]:
            folded = sum((counts[key] for key in rest), Counter[str]())
            shown.append({"workspace": f"{len(rest)} more workspaces", "sole_owner": False, "counts": dict(folded)})
        roles = sorted(ranks, key=lambda name: (ranks[name], name))
        return {"roles": roles, "rows": shown, "alone": min(len(ordered), top)}


def sentence(figures: Figures, *, overdue: bool) -> str:
    """Say it all in one sentence, without a name.

    :param figures: the figures.
    :param overdue: whether the review is overdue.
    """
    values = figures.values
    parts = [f"{values['seats_unused']:,} of {values['seats_in_use']:,} paid seats are unused"]
    if values["leavers"] is None:
        parts.append("who left is not known without a roster")
    else:
        leaving = values["leaving_administrators"]
        who = f" ({leaving:,} administrator{'' if leaving == 1 else 's'})" if leaving else ""
        some = f"{values['leavers']:,} leaver{' still has' if values['leavers'] == 1 else 's still have'}"
        parts.append(f"{some} access{who}" if values["leavers"] else "no leaver has access")
    if values["decisions_open"]:
        count = values["decisions_open"]
        parts.append(f"{count:,} decision{'' if count == 1 else 's'} open")
    if values["tasks_open"]:
        count = values["tasks_open"]
        parts.append(f"{count:,} follow-up{'' if count == 1 else 's'} open")
    if overdue:
        parts.append("the review is overdue")
    return f"{'; '.join(parts)}."
