"""The journal of one task: an intent is durable before each request, an outcome after it.

Each event is one object of its own, ``events/<user_id>/<try>-<intent|outcome>-<unique>.json``, created once
and never changed, so that a worker that dies at any moment leaves a readable history.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_aha.common.moments import timestamp
from airflow_provider_aha.exceptions import AhaStorageError
from airflow_provider_aha.record.run import RunFolder
from airflow_provider_aha.store.store import ANY_ERROR, create_once, read_all, storage_errors, to_json

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

INTENT, OUTCOME = "intent", "outcome"
FAILED = "failed"
# What an intent without outcome is in the evidence; never written as an outcome.
UNKNOWN = "unknown"
# What the next extract says of somebody whose access was taken.
CONFIRMED, CAME_BACK = "confirmed", "came_back"

# What can become of a user; `failed` is the only one that another try takes up again.
OUTCOMES = (
    "deactivated",
    "reactivated",
    "updated",
    "unchanged",
    "skipped",
    "blocked",
    FAILED,
    "unverified",
    "disabled_after_crash",
    "enabled_after_crash",
    "dry_run",
    CONFIRMED,
    CAME_BACK,
)
# After these a user is, or may be, as the task wanted.
EFFECTIVE = frozenset(
    {"deactivated", "reactivated", "updated", "unverified", "disabled_after_crash", "enabled_after_crash"}
)

_FILE = re.compile(rf"(?P<user_id>[^/]+)/\d+-(?P<kind>{INTENT}|{OUTCOME})-(?P<unique>[0-9a-f]+)\.json")


@dataclass
class History:
    """What earlier tries wrote about one user.

    :param intents: intents, oldest first.
    :param outcomes: outcomes, oldest first; unreadable ones are not among them.
    """

    intents: list[dict[str, Any]] = field(default_factory=list)
    outcomes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_final(self) -> bool:
        """Whether no try may touch the user again."""
        return self.open_intent is None and bool(self.outcomes) and self.outcomes[-1]["outcome"] != FAILED

    @property
    def open_intent(self) -> dict[str, Any] | None:
        """The last intent, where nothing came after it: nobody knows whether its request arrived."""
        if not self.intents:
            return None
        last = self.intents[-1]
        closed = any(
            outcome["event_id"] == last["event_id"] or str(outcome.get("answered_at")) > str(last["intent_at"])
            for outcome in self.outcomes
        )
        return None if closed else last

    @property
    def unsettled(self) -> dict[str, Any] | None:
        """The last event, where it leaves open whether a request arrived: an intent, or an answer that was lost."""
        if (intent := self.open_intent) is not None:
            return intent
        return self.outcomes[-1] if self.outcomes and self.outcomes[-1].get("unsettled") else None


class Journal:
    """Writes and reads the events of one task.

    :param folder: the task's folder.
    :param try_number: which try, from 1.
    """

    def __init__(self, folder: RunFolder, try_number: int) -> None:
        self._fs = folder.fs
        self._path = f"{folder.path}/events"
        self._try_number = try_number

    def intent(self, user_id: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Note what is about to be done to a user, before the request.

        :param user_id: the user.
        :param facts: what was decided and what the user looked like.
        :return: the event; its ``event_id`` goes into the outcome.
        :raises AhaStorageError: when it can't be made durable; the request must not be sent then.
        """
        event = {**facts, "event_id": uuid.uuid4().hex, "user_id": user_id, "intent_at": timestamp()}
        self._create(user_id, INTENT, event["event_id"], event)
        return event

    def outcome(self, user_id: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Note what became of a user.

        :param user_id: the user.
        :param facts: everything of the intent where there was one, and the outcome with its reason.
        :return: the event.
        :raises AhaStorageError: when it can't be made durable.
        """
        event = {"event_id": uuid.uuid4().hex, "user_id": user_id, **facts, "try_number": self._try_number}
        self._create(user_id, OUTCOME, uuid.uuid4().hex, event)
        return event

    def _create(self, user_id: str, kind: str, unique: str, event: Mapping[str, Any]) -> None:
        path = f"{self._path}/{user_id}/{self._try_number}-{kind}-{unique}.json"
        if not create_once(self._fs, path, to_json(event)):
            raise AhaStorageError(f"{path} exists already, which can't be: user {user_id} was left at that.")

    def histories(self) -> dict[str, History]:
        """Return what all tries wrote so far, by user id."""
        return histories(self._fs, self._path)


def histories(fs: AbstractFileSystem, path: str) -> dict[str, History]:
    """Return what the tries of a task wrote, by user id.

    :param fs: the folder's filesystem.
    :param path: a folder ``events``.
    """
    found: dict[str, History] = defaultdict(History)
    for user_id, kind, event in read_events(fs, path):
        history = found[user_id]
        (history.intents if kind == INTENT else history.outcomes).append(event)
    for history in found.values():
        history.intents.sort(key=lambda event: str(event["intent_at"]))
        history.outcomes.sort(key=lambda event: str(event.get("answered_at")))
    return dict(found)


def read_events(fs: AbstractFileSystem, path: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Read all events below a folder.

    An unreadable outcome counts as none. Of an unreadable intent the name still tells that a request may have
    been sent, so it counts as an intent of which nothing else is known.

    :param fs: the folder's filesystem.
    :param path: a folder ``events``.
    :return: user id, ``intent`` or ``outcome``, and the event.
    """
    for name, body in read_all(fs, path).items():
        match = _FILE.fullmatch(name.removeprefix(f"{path}/"))
        if match is None:
            continue
        event = _parse(body, ("event_id", "intent_at" if match["kind"] == INTENT else "outcome"))
        if event is None and match["kind"] == INTENT:
            with storage_errors(name, ANY_ERROR):
                written_at = timestamp(fs.modified(name))
            event = {"event_id": match["unique"], "user_id": match["user_id"], "intent_at": written_at}
        if event is not None:
            yield match["user_id"], match["kind"], event


def _parse(body: bytes, needed: tuple[str, ...]) -> dict[str, Any] | None:
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and all(name in event for name in needed) else None
