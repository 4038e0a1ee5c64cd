"""The journal of one task: an intent is durable before each request, an outcome after it.

Each event is one file, ``events/<key>/<try>-<intent|outcome>-<unique>.json``, created once and never changed, so
that a worker that dies at any moment leaves a readable history. The key names one object of one user, such as
``u123.account`` or ``u123.w456``. An intent has an id, which is the unique part of its name. Only an outcome that
names it closes it: no clock does, and no other's outcome.

What a task did to an object is the maximum over its events (:data:`NONE` to :data:`PROVEN`), so neither their order
nor the number of workers matters. Only where it did nothing does the latest word count, by try and number.
"""

from __future__ import annotations

import itertools
import json
import re
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_aha.common.moments import timestamp
from airflow_provider_aha.exceptions import AhaStorageError
from airflow_provider_aha.record.run import RunFolder
from airflow_provider_aha.store.store import Store, to_json

INTENT, OUTCOME = "intent", "outcome"
FAILED = "failed"
UNVERIFIED = "unverified"
# What an intent without outcome is in the evidence; never written as an outcome.
UNKNOWN = "unknown"
# What the next extract says of somebody whose access was taken, or may have been.
CONFIRMED, CAME_BACK, NOT_DONE = "confirmed", "came_back", "not_done"

# What an event proves that the task did: nothing (a look, a refusal); perhaps something (no answer, or an intent
# that isn't closed); Aha! acknowledged it without showing it; a later read shows it, and that it was this task; an
# answer shows it, or a read after an acknowledgement.
NONE, UNANSWERED, ACKNOWLEDGED, AFTER_CRASH, PROVEN = range(5)

CHANGED, CHANGED_AFTER_CRASH = "changed", "changed_after_crash"
# What can become of an object.
OUTCOMES = (
    CHANGED,
    CHANGED_AFTER_CRASH,
    "unchanged",
    "skipped",
    "blocked",
    FAILED,
    UNVERIFIED,
    "dry_run",
    CONFIRMED,
    CAME_BACK,
    NOT_DONE,
)

_KEY = re.compile(r"u(?P<user_id>[^/.]+)\.(?P<object>[^/]+)")
_FILE = re.compile(
    rf"(?P<key>{_KEY.pattern})/(?P<try>\d+)-(?P<kind>{INTENT}|{OUTCOME})-(?P<unique>[0-9a-f]+)\.json"
)
_MARK = re.compile(r"try-(\d+)\.json")


def key_of(user_id: str, place: str) -> str:
    """Return by what the records call an object of a user.

    :param user_id: the user.
    :param place: what of the user: ``account``, or a role as ``w456``.
    """
    return f"u{user_id}.{place}"


@dataclass
class History:
    """What all workers of a task wrote about one object, in any order.

    :param intents: intents.
    :param outcomes: outcomes; unreadable ones are not among them.
    """

    intents: list[dict[str, Any]] = field(default_factory=list)
    outcomes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def open_intents(self) -> list[dict[str, Any]]:
        """The intents that no outcome names: nobody knows whether their requests arrived, or still will."""
        closed = {outcome["intent"] for outcome in self.outcomes}
        return sorted((intent for intent in self.intents if intent["intent"] not in closed), key=_place)

    @property
    def proof(self) -> int:
        """What the task did to the object, from :data:`NONE` to :data:`PROVEN`."""
        least = UNANSWERED if self.open_intents else NONE
        return max([least, *(int(outcome["proof"]) for outcome in self.outcomes)])

    @property
    def strongest(self) -> dict[str, Any] | None:
        """The event that says what became of it: the latest of those that prove the most; None: no event."""
        did = self.proof
        if did == UNANSWERED and (open_intents := self.open_intents):
            return open_intents[-1]
        strongest = [one for one in self.outcomes if one["proof"] == did]
        # Of two writes of the same, the one that Aha! did last says whether anybody has edited the user since.
        return max(strongest, key=lambda one: (_stamp(one), *_place(one)) if did else _place(one), default=None)

    @property
    def last(self) -> dict[str, Any] | None:
        """The latest outcome, by try and number."""
        return max(self.outcomes, key=_place, default=None)

    @property
    def word(self) -> str | None:
        """What became of the object, in one word; None where nothing has happened yet."""
        event = self.strongest
        return None if event is None else str(event.get("outcome", UNKNOWN))

    @property
    def requests(self) -> list[dict[str, Any]]:
        """What is known of requests that may have changed the object, without a proof: the latest first."""
        lost = [one for one in self.outcomes if one["proof"] == UNANSWERED and one["intent"]]
        return sorted([*self.open_intents, *lost], key=_place, reverse=True)

    @property
    def lands_by(self) -> str | None:
        """Until when, by Aha!'s clock, a request without a known answer could still land; None: there is none."""
        return max((str(one["lands_by"]) for one in self.requests if one.get("lands_by")), default=None)

    @property
    def is_final(self) -> bool:
        """Whether no try may touch the object again."""
        if self.proof == NONE:
            return self.word not in (None, FAILED)
        return self.proof >= AFTER_CRASH


def _place(event: Mapping[str, Any]) -> tuple[int, int, str]:
    """Return by what events are ordered; two workers of one try number theirs alike, so something has to decide."""
    return event["try_number"], event["n"], event["unique"]


def _stamp(event: Mapping[str, Any]) -> str:
    """Return when Aha! had done what an event tells of, as Aha! writes it; empty where it doesn't say."""
    try:
        return str(json.loads(event["after_json"])["updated_at"] or "")
    except (KeyError, TypeError, ValueError):
        return ""


class Journal:
    """Writes and reads the events of one task.

    :param folder: the task's folder.
    :param try_number: which try, from 1.
    """

    def __init__(self, folder: RunFolder, try_number: int) -> None:
        self._location = folder.location
        self._folder = folder.path
        self._path = f"{folder.path}/events"
        self._try_number = try_number
        self._numbers = itertools.count(1)

    def begin(self) -> None:
        """Mark that this try has begun: a worker of an earlier one stops when it sees that.

        :raises AhaStorageError: when it can't be made durable.
        """
        mark = {"try_number": self._try_number, "began_at": timestamp()}
        self._location.create(f"{self._folder}/try-{self._try_number}.json", to_json(mark))

    def is_overtaken(self) -> bool:
        """Tell whether a later try has begun.

        :raises AhaStorageError: when it can't be said.
        """
        marks = (_MARK.fullmatch(name) for name in self._location.names(self._folder))
        return any(int(mark[1]) > self._try_number for mark in marks if mark)

    def intent(self, key: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Note what is about to be done to an object, before the request.

        :param key: the object; see :func:`key_of`.
        :param facts: what was decided and what the object looked like.
        :return: the event; its ``intent`` goes into the outcome that closes it.
        :raises AhaStorageError: when it can't be made durable; the request must not be sent then.
        """
        unique = uuid.uuid4().hex
        facts = {**facts, "event_id": unique, "intent": unique, "intent_at": timestamp()}
        return self._create(key, INTENT, unique, facts)

    def outcome(self, key: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Note what became of an object.

        :param key: the object; see :func:`key_of`.
        :param facts: the outcome with its reason and its ``proof``; the ``intent`` that it closes, where it closes
            one. A look closes none, and proves nothing unless it says so.
        :return: the event.
        :raises AhaStorageError: when it can't be made durable.
        """
        unique = uuid.uuid4().hex
        return self._create(key, OUTCOME, unique, {"event_id": unique, "intent": None, "proof": NONE, **facts})

    def _create(self, key: str, kind: str, unique: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        event: dict[str, Any] = {**facts, **named(key), "try_number": self._try_number, "n": next(self._numbers)}
        path = f"{self._path}/{key}/{self._try_number}-{kind}-{unique}.json"
        if not self._location.create(path, to_json(event)):
            where, user = self._location.url_of(path), event["user_id"]
            raise AhaStorageError(f"{where} exists already, which can't be: user {user} was left at that.")
        return event

    def names(self) -> list[str]:
        """Return the names of all events so far."""
        return self._location.files(self._path)

    def histories(self) -> dict[str, History]:
        """Return what all tries wrote so far, by key."""
        return histories(self._location, self._path)


def histories(location: Store, path: str) -> dict[str, History]:
    """Return what the tries of a task wrote, by key.

    :param location: the base path.
    :param path: a folder ``events``.
    """
    found: dict[str, History] = defaultdict(History)
    for key, kind, event in read_events(location, path):
        history = found[key]
        (history.intents if kind == INTENT else history.outcomes).append(event)
    return dict(found)


def read_events(location: Store, path: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Read all events below a folder.

    An unreadable outcome counts as none, and so does one that this package can't have written. Of an unreadable
    intent the name still tells that a request may have been sent, so it counts as an intent of which nothing else
    is known.

    :param location: the base path.
    :param path: a folder ``events``.
    :return: key, ``intent`` or ``outcome``, and the event; its ``unique`` is that of the name.
    """
    for name, body in location.read_all(path).items():
        match = _FILE.fullmatch(name.removeprefix(f"{path}/"))
        if match is None:
            continue
        event = _parse(body)
        if match["kind"] == OUTCOME:
            if event is not None and _is_outcome(event):
                yield match["key"], OUTCOME, {**event, "unique": match["unique"]}
            continue
        if event is None or "intent_at" not in event:
            written_at = timestamp(location.modified(name))
            event = {"event_id": match["unique"], **named(match["key"]), "intent_at": written_at, "n": 0}
        unique = match["unique"]
        yield (
            match["key"],
            INTENT,
            {**event, "intent": unique, "unique": unique, "try_number": int(match["try"])},
        )


def named(key: str) -> dict[str, str]:
    """Return the columns of the evidence that a key holds: ``user_id`` and ``object``.

    :param key: what :func:`key_of` returned.
    """
    match = _KEY.fullmatch(key)
    return match.groupdict() if match else {}


def _parse(body: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and type(event.get("n")) is int else None


def _is_outcome(event: Mapping[str, Any]) -> bool:
    return (
        event.get("outcome") in OUTCOMES
        and type(event.get("try_number")) is int
        and type(event.get("proof")) is int
        and NONE <= event["proof"] <= PROVEN
        and isinstance(event.get("intent"), str | None)
        and "event_id" in event
    )
