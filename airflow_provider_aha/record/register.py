"""The register of an account's writing tasks by day: how one run knows of the others, without reading years.

A try enters itself, with whom it may change, before it looks at the others: of two that begin at the same moment
each sees the other, so that their caps hold together.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_aha.common.moments import timestamp
from airflow_provider_aha.exceptions import AhaError, AhaSnapshotError
from airflow_provider_aha.record.journal import EFFECTIVE, INTENT, histories, read_events
from airflow_provider_aha.record.run import START, RunFolder
from airflow_provider_aha.store.store import create_once, names_in, parse_record, read_all, read_record, to_json

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_END = "-end.json"
# So long is a try that hasn't ended taken to be alive, and its open intents to be on their way.
_ALIVE = timedelta(hours=1)
_PASSED_WITHIN = timedelta(hours=24)
CAP_DAYS = 7


@dataclass(frozen=True)
class Entry:
    """A try of a writing task.

    :param folder: the task's folder.
    :param user_ids: whom it may change.
    :param access: whether it may take access (``taken``) or give it (``given``); None: neither.
    :param began_at: when it began; UTC.
    :param ended: whether it has ended, and left no intent without an outcome.
    :param by_policy: whether it acts without asking a person.
    """

    folder: str
    user_ids: frozenset[str]
    access: str | None
    began_at: datetime
    ended: bool
    by_policy: bool = False

    def is_alive(self, now: datetime) -> bool:
        """Tell whether it may still be writing.

        :param now: this moment; UTC.
        """
        return not self.ended and now - self.began_at < _ALIVE


def register(
    folder: RunFolder,
    now: datetime,
    user_ids: Iterable[str] = (),
    access: str | None = None,
    *,
    by_policy: bool = False,
) -> str:
    """Enter a try before it looks at the others.

    :param folder: the task's folder.
    :param now: when the try began; UTC.
    :param user_ids: whom it may change.
    :param access: ``taken`` or ``given``, where it may change access.
    :param by_policy: whether it acts without asking a person.
    :return: the path of the entry, for :func:`sign_off`.
    :raises AhaStorageError: when it can't be entered; nothing may be written to Aha! then.
    """
    path = f"{folder.account_path}/register/{now:%Y-%m-%d}/{uuid.uuid4().hex}.json"
    entry = {
        "folder": folder.path.removeprefix(f"{folder.account_path}/"),
        "began_at": timestamp(now),
        "access": access,
        "by_policy": by_policy,
        "user_ids": list(user_ids),
    }
    create_once(folder.fs, path, to_json(entry))
    return path


def sign_off(folder: RunFolder, entry: str) -> None:
    """Note that a try has ended and left nothing open.

    :param folder: the task's folder.
    :param entry: what :func:`register` returned.
    :raises AhaStorageError: when it can't be written; the try then counts as alive for an hour.
    """
    create_once(folder.fs, _end(entry), to_json({"ended_at": timestamp()}))


def entries(fs: AbstractFileSystem, account_path: str, now: datetime, days: int) -> list[Entry]:
    """Return the last try of each task that began within the last days.

    :param fs: the account folder's filesystem.
    :param account_path: the folder of the account's records.
    :param now: the moment to count back from; UTC.
    :param days: how many days; a day more is looked at, since a try may last over midnight.
    :raises AhaSnapshotError: when an entry can't be read: a cap that can't be counted doesn't hold.
    """
    found: dict[str, Entry] = {}
    for _, entry in _read(fs, account_path, now, days):
        if entry.folder not in found or found[entry.folder].began_at < entry.began_at:
            found[entry.folder] = entry
    return list(found.values())


def entered(folder: RunFolder, now: datetime, days: int) -> list[str]:
    """Return the files of the register that tell of one task's tries, for the manifest.

    :param folder: the task's folder.
    :param now: the moment to count back from; UTC.
    :param days: how many days.
    """
    mine = [
        (path, entry)
        for path, entry in _read(folder.fs, folder.account_path, now, days)
        if entry.folder == folder.path
    ]
    return [path for path, _ in mine] + [_end(path) for path, entry in mine if entry.ended]


def _read(fs: AbstractFileSystem, account_path: str, now: datetime, days: int) -> Iterator[tuple[str, Entry]]:
    root = f"{account_path}/register"
    present = names_in(fs, root)
    for back in range(-1, days + 2):
        day = f"{now - timedelta(days=back):%Y-%m-%d}"
        bodies = read_all(fs, f"{root}/{day}") if day in present else {}
        for path, body in bodies.items():
            if not path.endswith(_END):
                yield path, _entry(account_path, path, parse_record(body, path), ended=_end(path) in bodies)


def _end(path: str) -> str:
    return path.removesuffix(".json") + _END


def _entry(account_path: str, path: str, record: dict[str, Any], *, ended: bool) -> Entry:
    try:
        return Entry(
            folder=f"{account_path}/{record['folder']}",
            user_ids=frozenset(record["user_ids"]),
            access=record["access"],
            began_at=datetime.fromisoformat(record["began_at"]),
            ended=ended,
            by_policy=record["by_policy"],
        )
    except (KeyError, TypeError, ValueError):
        raise AhaSnapshotError(f"{path} is not a readable record: it was changed.") from None


def recent_folders(fs: AbstractFileSystem, account_path: str, now: datetime, days: int) -> list[str]:
    """Return the folders of all tasks that began within the last days; see :func:`entries`.

    :param fs: the account folder's filesystem.
    :param account_path: the folder of the account's records.
    :param now: the moment to count back from; UTC.
    :param days: how many days.
    """
    return sorted(entry.folder for entry in entries(fs, account_path, now, days))


def under_way(folder: RunFolder, now: datetime) -> set[str]:
    """Return from whom other tasks of the account may be taking access at this moment.

    :param folder: this task's folder.
    :param now: this moment; UTC.
    :return: user ids.
    """
    others = (one for one in entries(folder.fs, folder.account_path, now, 1) if one.folder != folder.path)
    return set().union(*(one.user_ids for one in others if one.access == "taken" and one.is_alive(now)))


def changed_within(folder: RunFolder, now: datetime, days: int, access: str) -> set[str]:
    """Return whose access other tasks of the account changed within the last days.

    What a task that is under way may still change counts, and so does an intent without an outcome.

    :param folder: this task's folder.
    :param now: the moment to count back from; UTC.
    :param days: how many days.
    :param access: ``taken`` or ``given``.
    :return: user ids.
    """
    since = now - timedelta(days=days)
    found: set[str] = set()
    others = [
        entry
        for entry in entries(folder.fs, folder.account_path, now, days)
        if entry.access == access and entry.folder != folder.path
    ]
    for entry in others:
        if entry.is_alive(now):
            found |= entry.user_ids
        for user_id, history in histories(folder.fs, f"{entry.folder}/events").items():
            moments = [event["answered_at"] for event in history.outcomes if event["outcome"] in EFFECTIVE]
            if (event := history.unsettled) is not None:
                moments.append(event.get("answered_at") or event["intent_at"])
            if any(_moment(moment) >= since for moment in moments):
                found.add(user_id)
    return found


def passed_by_policy(
    fs: AbstractFileSystem, account_path: str, now: datetime, besides: str | None = None
) -> set[str]:
    """Return whose access tasks of the account took within the last 24 hours without asking a person.

    What such a task that is under way may still take counts, and so does a request that nothing else is known of.

    :param fs: the account folder's filesystem.
    :param account_path: the folder of the account's records.
    :param now: the moment to count back from; UTC.
    :param besides: the folder of a task that doesn't count.
    :return: user ids.
    """
    since = now - _PASSED_WITHIN
    found: set[str] = set()
    for entry in entries(fs, account_path, now, 1):
        if entry.access != "taken" or entry.folder == besides:
            continue
        if entry.by_policy and entry.is_alive(now):
            found |= entry.user_ids
        for user_id, kind, event in read_events(fs, f"{entry.folder}/events"):
            by_policy = entry.by_policy or event.get("approval_mode") == "policy"
            if kind == INTENT and by_policy and _moment(event["intent_at"]) > since:
                found.add(user_id)
    return found


def refuse_beside_another(folder: RunFolder, now: datetime) -> None:
    """Refuse to write while another run may be in the middle of writing.

    Mapped tasks of one run may write side by side.

    :param folder: this task's folder.
    :param now: this moment; UTC.
    :raises AhaError: when another run of the account has an intent without an outcome, younger than an hour.
    """
    for entry in entries(folder.fs, folder.account_path, now, 1):
        if entry.ended or entry.folder.startswith(f"{folder.run_path}/"):
            continue
        if any(now - moment < _ALIVE for moment in _open_intents(folder.fs, entry.folder)):
            raise AhaError(
                f"Another run of this account is writing, or died less than an hour ago, in {entry.folder}: "
                "nothing was done. Let it end or be tried again; an hour after its last request this run may go on."
            )


def _open_intents(fs: AbstractFileSystem, folder: str) -> Iterator[datetime]:
    for history in histories(fs, f"{folder}/events").values():
        if history.open_intent is not None:
            yield _moment(history.open_intent["intent_at"])


def _moment(text: object) -> datetime:
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC)
    except ValueError:
        # A moment that can't be read counts as now: the careful reading of both questions above.
        return datetime.now(UTC)


def claim_path(folder: RunFolder, plan_sha256: str) -> str:
    """Return the file that says which task carries a plan out.

    :param folder: the folder of a task of the account.
    :param plan_sha256: the plan.
    """
    return f"{folder.account_path}/applied/{plan_sha256}.json"


def files_elsewhere(folder: RunFolder, now: datetime) -> list[str]:
    """Return the files that tell of a task outside of its folder, for the manifest.

    :param folder: the task's folder.
    :param now: this moment; UTC.
    """
    start = folder.read(START) or {}
    found = entered(folder, now, CAP_DAYS)
    if plan_sha256 := start.get("plan_sha256"):
        path = claim_path(folder, plan_sha256)
        found += [path] if read_record(folder.fs, path) is not None else []
    return found
