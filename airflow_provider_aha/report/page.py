"""The page: one HTML file with all it needs inside, that opens from a disk and prints on A4."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import Any

from jinja2 import Environment, StrictUndefined

from airflow_provider_aha.common.moments import day_of
from airflow_provider_aha.common.text import script_json, visible
from airflow_provider_aha.report.content import CSV_COLUMNS, Report
from airflow_provider_aha.report.figures import SEATS
from airflow_provider_aha.review.people import Person
from airflow_provider_aha.review.population import Access
from airflow_provider_aha.review.records import EXPIRED, OPEN_FOR
from airflow_provider_aha.review.terms import ATTENTION, CHIPS, PERSON_CHIPS
from airflow_provider_aha.review.worklist import CHOICES, DONE, Task
from airflow_provider_aha.store.store import to_json

# So many people are named for each reason, and so many tasks; the table and the records have all.
_NAMED, _TASKS = 8, 50
# Stands for the data; no name in the page can, because it would be escaped.
_DATA = "<!-- data -->"
_DAY_MS = 24 * 60 * 60 * 1000
_FLAGS = tuple(PERSON_CHIPS)
# Where the DAG aha_access_review takes from what a figure needs.
_VARIABLES = {name: f"aha_{name}" for name in ("roster", "seat_price", "seats_purchased", "renewal_date")}
STATUS = {
    "active": "Active",
    "inactive_30": "30\N{EN DASH}59 days",
    "inactive_60": "60\N{EN DASH}89 days",
    "inactive_90": "90+ days",
    "never_seen": "Never seen",
    "unknown": "Unknown",
}


def page(report: Report, base_url: str) -> bytes:
    """Render a report.

    :param report: what to show.
    :param base_url: the base path as its user writes it.
    :return: HTML, UTF-8.
    """
    carried, wanted = _carried(report)
    open_tasks = [task for task in report.tasks if task.state != DONE]
    scripts = _scripts()
    html: str = _template().render(
        report=report,
        terms=report.terms,
        snapshot=report.snapshot,
        manifest=report.snapshot.manifest,
        manifest_json=to_json(report.snapshot.manifest).decode(),
        figures=report.figures.values,
        owner=_owner(report),
        verify=f"python -m airflow_provider_aha.verify {shlex.quote(base_url)}",
        open_until=report.made_at + OPEN_FOR,
        open_days=OPEN_FOR.days,
        expired=report.review.state == EXPIRED,
        carried=len(carried),
        wanted=wanted,
        tiles=list(_tiles(report)),
        groups=list(_groups(report)),
        expired_exclusions=_expired_exclusions(report),
        actions=list(_actions(report)),
        tasks=open_tasks,
        tasks_shown=_TASKS,
        people=_people_of(report, open_tasks[:_TASKS]),
        choices=CHOICES,
        style=_asset("page.css").replace("{{font}}", _font()),
        data=_DATA,
        scripts=scripts,
        allowed=" ".join(map(_source, scripts)),
    )
    # As one text, a single emoji in it would make all of it four times as large.
    before, after = html.split(_DATA)
    return before.encode() + script_json(_data(report, carried)) + after.encode()


def _carried(report: Report) -> tuple[list[Access], int]:
    """Return the rows that the page carries, and how many it would if it were not for its size."""
    rows, most = report.staged.rows(), report.terms.max_rows
    if (total := report.figures.values["rows"]) <= most:
        return list(rows), total
    wanted = filter(report.needs_attention, rows)
    carried = list(islice(wanted, most))
    return carried, len(carried) + sum(1 for _ in wanted)


def _people_of(report: Report, tasks: Sequence[Task]) -> dict[str, Person]:
    found = {task.user_id: report.staged.person(task.user_id) for task in tasks}
    return {user_id: person for user_id, person in found.items() if person}


@cache
def _template() -> Any:
    # Every value is escaped, and nothing in it hides, whatever part of the page it stands in.
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "count": count}
    return environment.from_string(_asset("page.html"))


@cache
def _asset(name: str) -> str:
    return files("airflow_provider_aha.report").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _font() -> str:
    body = files("airflow_provider_aha.report").joinpath("assets", "vendor", "inter.woff2").read_bytes()
    return base64.b64encode(body).decode()


@cache
def _scripts() -> tuple[str, ...]:
    return tuple(map(_asset, ("vendor/d3.min.js", "vendor/plot.min.js", "page.js")))


def _source(script: str) -> str:
    """Name a script in the page's policy, by which no other one may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def number(value: float) -> str:
    """Write a number for people.

    :param value: the number.
    """
    return f"{value:,}"


def count(value: int, one: str, many: str | None = None) -> str:
    """Write a number with what it counts.

    :param value: the number.
    :param one: the word for one.
    :param many: the word for others, where it isn't ``one`` with an s.
    """
    return f"{value:,} {one if value == 1 else many or f'{one}s'}"


def _owner(report: Report) -> str:
    owner_id = report.snapshot.manifest.get("key_owner_id")
    owner = report.staged.person(owner_id)
    return owner.name if owner else f"user {owner_id}"


# --- tiles ---------------------------------------------------------------------------------------


def _tiles(report: Report) -> Iterator[dict[str, Any]]:
    """Yield the six tiles; one without its data says what to provide."""
    values, terms, review = report.figures.values, report.terms, report.review
    if values["seats_purchased"] is None:
        yield _tile(
            report, "Seats in use", "seats_in_use", f"Set the Variable {_VARIABLES['seats_purchased']} to compare."
        )
    else:
        over = values["seats_over"]
        note = f"{over:,} more than purchased" if over else f"{values['seats_free']:,} free"
        yield _tile(
            report,
            "Seats in use",
            "seats_in_use",
            note,
            of=f"of {values['seats_purchased']:,} purchased",
            alarm=over > 0,
        )
    yield _renewal(report)
    if values["leavers"] is None:
        yield _empty(
            "Leavers with access", f"Set the Variable {_VARIABLES['roster']} to compare with who works here."
        )
    else:
        leaving = values["leaving_administrators"]
        note = f"{count(leaving, 'administrator') if leaving else 'no administrator'} among them"
        note = note if values["leavers"] else "nobody who left may sign in"
        yield _tile(report, "Leavers with access", "leavers", note, alarm=values["leavers"] > 0)
    yield _tile(
        report, "Administrators", "administrators", f"of {count(values['may_sign_in'], 'person', 'people')}"
    )
    seated = values["seats_by_activity"]["never_seen"] - values["seats_never_seen_new"]
    note = f"created at least {count(terms.never_seen_days, 'day')} ago; {seated:,} with a paid seat"
    yield _tile(report, "Never seen", "never_seen_long", note)
    if review.current is None:
        yield _empty("Reviewed", "Open a review: trigger aha_access_review with a review id.")
    else:
        undecided = review.rows - review.reviewed
        note = f"{undecided:,} without a decision" if undecided else "every row is decided"
        yield _tile(report, "Reviewed", "reviewed", note, of=f"of {review.rows:,} rows")


def _renewal(report: Report) -> dict[str, Any]:
    values, terms = report.figures.values, report.terms
    label, name = "Reclaimable at renewal", "seats_reclaimable"
    if terms.seat_price is None:
        missing = [_VARIABLES[key] for key in ("seat_price", "renewal_date") if getattr(terms, key) is None]
        word = "Variable" if len(missing) == 1 else "Variables"
        return _tile(
            report, label, name, f"Not yet saved. Set the {word} {' and '.join(missing)} for the money.", of="seats"
        )
    if terms.renewal_date:
        when = f"at the renewal on {terms.renewal_date}"
    else:
        when = f"set the Variable {_VARIABLES['renewal_date']} for the day"
    others = values[name] - values["seats_unused"]
    made_of = f"{values['seats_unused']:,} unused" + (f" and {others:,} more of leavers" if others else "")
    note = f"{count(values[name], 'seat')} ({made_of}), {when}. Not yet saved."
    if values["seats_given_back"] is not None:
        note += f" Realised within a year: {terms.seat_price.times(values['seats_given_back'])}."
    price, currency = terms.seat_price, terms.seat_price.currency
    return _tile(report, label, name, note, value=price.times(values[name]), of=f"{currency} a year".strip())


def _tile(
    report: Report,
    label: str,
    name: str,
    note: str,
    *,
    value: str | None = None,
    of: str = "",
    alarm: bool = False,
) -> dict[str, Any]:
    shown = number(report.figures.values[name]) if value is None else value
    return {
        "label": label,
        "name": name,
        "value": shown,
        "of": of,
        "note": note,
        "change": _change(report, name),
        "kind": "alarm" if alarm else "",
    }


def _empty(label: str, what: str) -> dict[str, Any]:
    return {"label": label, "name": "", "value": "–", "of": "", "note": what, "change": "", "kind": "empty"}


def _change(report: Report, name: str) -> str:
    change, day = report.figures.changes.get(name), report.figures.compared_with
    if change is None:
        return "No earlier figure"
    if not change:
        return f"Same as on {day}"
    return f"{'▲' if change > 0 else '▼'} {abs(change):,} since {day}"


# --- sections ------------------------------------------------------------------------------------


def _groups(report: Report) -> Iterator[dict[str, Any]]:
    """Yield who needs attention, by reason."""
    shown: dict[str, list[Person]] = {name: [] for name in ATTENTION}
    totals: Counter[str] = Counter()
    for person in report.staged.people():
        for name in person.flags:
            # Who was seen after leaving is a leaver, too; one place is enough.
            if name != "leaver" or "seen_after_leave" not in person.flags:
                totals[name] += 1
                if len(shown[name]) < _NAMED:
                    shown[name].append(person)
    for name, title in ATTENTION.items():
        if totals[name]:
            people = [{"person": person, "fact": _fact(name, person)} for person in shown[name]]
            yield {"name": name, "title": title, "people": people, "total": totals[name]}


def _fact(name: str, person: Person) -> str:
    seen = f"last seen {day_of(person.accessed_at)}" if person.accessed_at is not None else "never seen"
    if name in ("leaver", "seen_after_leave"):
        return f"left {person.leave_date}, {seen}" if person.leave_date else f"not on the roster, {seen}"
    if name == "sole_owner":
        return person.why or seen
    return seen


def _expired_exclusions(report: Report) -> list[int]:
    if report.exclusions is None:
        return []
    return [row.row for row in report.exclusions.expired(report.snapshot.synced_at.date())]


def _actions(report: Report) -> Iterator[tuple[str, str]]:
    actions = report.actions
    if not actions.planned:
        return
    yield "Planned", number(actions.planned)
    yield "Asked for by", ", ".join(actions.requested_by)
    yield "Approved by", ", ".join(actions.approved_by) or "policy or DAG code, without a person"
    yield "Disabled", number(actions.disabled)
    yield "Verified by the next extract", f"{actions.verified:,}, {actions.unverified:,} waiting for it"
    yield "Blocked", number(actions.blocked)
    yield "Skipped, changed since the plan or struck out", number(actions.skipped)
    yield "Failed or unknown", number(actions.failed)
    yield "Enabled by a run", number(actions.reactivated)
    yield "Administrator rights granted", number(actions.rights_granted)
    yield "Administrator rights revoked", number(actions.rights_revoked)
    yield "Roles in workspaces taken", number(actions.roles_taken)
    yield "Roles in workspaces given", number(actions.roles_given)
    yield "Email changed", number(actions.emails_changed)
    yield "Name or something else changed", number(actions.others)
    hours = actions.median_hours
    yield "Median hours from leaving to disabled", "no leaver yet" if hours is None else number(hours)


# --- data for the script -------------------------------------------------------------------------


class _Words:
    """Numbers texts, each once."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def place(self, text: str | None) -> int:
        return self._places.setdefault(visible(text), len(self._places))

    def texts(self) -> list[str]:
        return list(self._places)


def _data(report: Report, carried: Sequence[Access]) -> dict[str, Any]:
    people = list({id(row.person): row.person for row in carried}.values())
    places = {id(person): place for place, person in enumerate(people)}
    words = _Words()
    snapshot, terms = report.snapshot, report.terms
    flagged = set().union(*map(_flags_of, people))
    return {
        "account": report.account_mark,
        "review": report.freezing,
        "population": report.population_sha256,
        "asOf": _milliseconds(snapshot.synced_at),
        "until": _milliseconds(report.made_at + OPEN_FOR),
        "choices": CHOICES,
        "csv": CSV_COLUMNS,
        "columns": terms.columns,
        "filters": dict(terms.filters),
        "status": STATUS,
        "flags": _FLAGS,
        "attention": list(ATTENTION),
        "chips": {name: text for name, text in PERSON_CHIPS.items() if name in flagged},
        "otherChips": {name: text for name, text in CHIPS.items() if name not in PERSON_CHIPS},
        "total": report.figures.values["rows"],
        "hasBefore": report.compared_review is not None,
        "people": _people_data(people, words, _milliseconds(snapshot.synced_at)),
        "rows": _rows_data(report, carried, places, words),
        "words": words.texts(),
        "seats": _seats_data(report.figures.values),
        "trend": list(report.trend),
        "purchases": report.figures.values["purchases"],
        "heat": [{**line, "workspace": visible(line["workspace"])} for line in report.heat_map["rows"]],
        "roles": report.heat_map["roles"],
        "alone": report.heat_map["alone"],
    }


def _flags_of(person: Person) -> set[str]:
    more = {"unused": person.unused, "never_seen": person.never_seen, "administrator": bool(person.rights)}
    return person.flags | {name for name, holds in more.items() if holds}


def _people_data(people: Sequence[Person], words: _Words, now: int) -> dict[str, list[Any]]:
    columns: dict[str, Callable[[Person], Any]] = {
        "id": lambda person: person.user_id,
        "name": lambda person: visible(person.name),
        "email": lambda person: visible(person.email),
        "status": lambda person: person.status,
        "seen": lambda person: _day_number(person.accessed_at),
        "created": lambda person: _day_number(person.created_at),
        "age": lambda person: None if person.created_at is None else max(0, now - person.created_at) // _DAY_MS,
        "days": lambda person: person.days_inactive,
        "seat": lambda person: int(person.occupies_seat),
        "rights": lambda person: int(bool(person.rights)),
        "signIn": lambda person: words.place(person.sign_in),
        "roster": lambda person: words.place(person.in_roster),
        "suggestion": lambda person: words.place(person.suggestion),
        "why": lambda person: words.place(person.why),
        "flags": lambda person: sum(1 << _FLAGS.index(name) for name in _flags_of(person)),
    }
    return {name: list(map(value, people)) for name, value in columns.items()}


def _rows_data(
    report: Report, carried: Sequence[Access], places: Mapping[int, int], words: _Words
) -> dict[str, list[Any]]:
    columns: dict[str, Callable[[Access], Any]] = {
        "person": lambda row: places[id(row.person)],
        # Without the user's id, which the page has once for each person.
        "key": lambda row: words.place(row.key.partition(".")[2]),
        "workspace": lambda row: words.place(row.workspace_name),
        "role": lambda row: words.place(row.role_name),
        "changed": lambda row: words.place(report.changed(row)),
    }
    return {name: list(map(value, carried)) for name, value in columns.items()}


def _seats_data(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    seats = values["seats_by_activity"]
    found = [{"key": name, "name": STATUS[name], "seats": seats[name]} for name in SEATS if seats[name]]
    if values["seats_free"]:
        found.append({"key": "free", "name": "Free", "seats": values["seats_free"]})
    return found


def _day_number(milliseconds: int | None) -> int | None:
    return None if milliseconds is None else milliseconds // _DAY_MS


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
