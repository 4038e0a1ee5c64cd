"""The register of an account's writing tasks by day: how one run knows of the others, without reading years.

A try enters itself, with whom it may change, before it looks at the others: of two that begin at the same moment
each sees the other, so that their caps hold together.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_aha.common.moments import moment_of, read_moment, timestamp
from airflow_provider_aha.exceptions import AhaError, AhaRecordError, AhaSnapshotError
from airflow_provider_aha.record import evidence
from airflow_provider_aha.record.journal import INTENT, UNANSWERED, histories
from airflow_provider_aha.record.run import START, RunFolder, account_path
from airflow_provider_aha.store.store import Store, parse_record, to_json

_END = "-end.json"
# So long is a try that hasn't ended taken to be alive, and its open intents to be on their way.
_ALIVE = timedelta(hours=1)
_DAY = timedelta(days=1)
# No record of this package is older; a clock that was never set is.
_OLDEST = datetime(2020, 1, 1, tzinfo=UTC)
CAP_DAYS = 7
# A file of a task that tells of writes: its events, or the evidence that was made of them.
_TASK_FILE = re.compile(r"(?P<folder>.*/dag=[^/]+/run=[^/]+/task=[^/]+)/(?:events/.+|evidence\.parquet)")
_MANIFEST = re.compile(r"/\d{8}[^/]*\.json$")
_AT_ONCE = 64


@dataclass(frozen=True)
class RegisterEntry:
    """A try of a writing task.

    :param folder: the task's folder.
    :param user_ids: whom it may change.
    :param left_ids: those among them who left.
    :param access: whether it may take access (``taken``) or give it (``given``); None: neither.
    :param began_at: when it began; UTC.
    :param ended: whether it has ended, and left no intent without an outcome.
    :param by_policy: whether it acts without asking a person.
    """

    folder: str
    user_ids: frozenset[str]
    left_ids: frozenset[str]
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
    left_ids: Iterable[str] = (),
    *,
    by_policy: bool = False,
) -> str:
    """Enter a try before it looks at the others.

    :param folder: the task's folder.
    :param now: when the try began; UTC.
    :param user_ids: whom it may change.
    :param access: ``taken`` or ``given``, where it may change access.
    :param left_ids: those of them who left, whom the caps count apart.
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
        "left_ids": list(left_ids),
    }
    folder.location.create(path, to_json(entry))
    return path


def sign_off(folder: RunFolder, entry: str) -> None:
    """Note that a try has ended and left nothing open.

    :param folder: the task's folder.
    :param entry: what :func:`register` returned.
    :raises AhaStorageError: when it can't be written; the try then counts as alive for an hour.
    """
    folder.location.create(_end(entry), to_json({"ended_at": timestamp()}))


def entries(location: Store, account: str, now: datetime, days: int) -> list[RegisterEntry]:
    """Return the last try of each task that began within the last days.

    :param location: the base path.
    :param account: the account.
    :param now: the moment to count back from; UTC.
    :param days: how many days; a day more is looked at, since a try may last over midnight.
    :raises AhaSnapshotError: when an entry can't be read: a cap that can't be counted doesn't hold.
    """
    found: dict[str, RegisterEntry] = {}
    for _, entry in _read(location, account, now, days):
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
        for path, entry in _read(folder.location, folder.account, now, days)
        if entry.folder == folder.path
    ]
    return [path for path, _ in mine] + [_end(path) for path, entry in mine if entry.ended]


def _read(location: Store, account: str, now: datetime, days: int) -> Iterator[tuple[str, RegisterEntry]]:
    root = f"{account_path(account)}/register"
    present = location.names(root)
    for back in range(-1, days + 2):
        day = f"{now - timedelta(days=back):%Y-%m-%d}"
        bodies = location.read_all(f"{root}/{day}") if day in present else {}
        for path, body in bodies.items():
            if not path.endswith(_END):
                yield path, _entry(account, location.url_of(path), body, ended=_end(path) in bodies)


def _end(path: str) -> str:
    return path.removesuffix(".json") + _END


def _entry(account: str, url: str, body: bytes, *, ended: bool) -> RegisterEntry:
    record = parse_record(body, url)
    try:
        return RegisterEntry(
            folder=f"{account_path(account)}/{record['folder']}",
            user_ids=frozenset(record["user_ids"]),
            left_ids=frozenset(record["left_ids"]),
            access=record["access"],
            began_at=moment_of(record["began_at"], needs_offset=True),
            ended=ended,
            by_policy=record["by_policy"],
        )
    except (KeyError, TypeError, ValueError):
        raise AhaRecordError(f"{url} is not a readable record: it was changed.") from None


def recent_folders(location: Store, account: str, now: datetime, days: int) -> list[str]:
    """Return the folders of all tasks that wrote within the last days.

    The register knows them, and so do the dates of their files and the manifests, should the register be lost.

    :param location: the base path.
    :param account: the account.
    :param now: the moment to count back from; UTC.
    :param days: how many days; see :func:`entries`.
    :raises AhaSnapshotError: when an entry of the register can't be read.
    """
    registered = {entry.folder for entry in entries(location, account, now, days)}
    since = now - days * _DAY
    return sorted(registered | _written_since(location, account, since) | _vouched(location, account, since))


def _written_since(location: Store, account: str, since: datetime, kind: str = "") -> set[str]:
    """Return the folders of tasks with a file that was written since a moment, and has a word in its name."""
    names = location.written_since(account_path(account), since)
    matches = (_TASK_FILE.fullmatch(name) for name in names if kind in name)
    return {match["folder"] for match in matches if match}


def _vouched(location: Store, account: str, since: datetime) -> set[str]:
    """Return the folders of tasks in which, by the manifests since a moment, requests were made."""
    found: set[str] = set()
    folder = account_path(account)
    names = [name for name in location.files(f"{folder}/manifests") if _MANIFEST.search(name)][::-1]
    # No single clock decides how far to look back.
    for start in range(0, len(names), _AT_ONCE):
        bodies = location.read_many(names[start : start + _AT_ONCE])
        manifests = [parse_record(body, location.url_of(name)) for name, body in bodies.items()]
        recent = [one for one in manifests if _moment(one.get("finished_at")) >= since]
        for manifest in recent:
            matches = (_TASK_FILE.fullmatch(f"{folder}/{name}") for name in manifest.get("files", ()))
            found |= {match["folder"] for match in matches if match and f"-{INTENT}-" in match[0]}
        if not recent:
            break
    return found


def written_rows(location: Store, folder: str) -> list[dict[str, Any]]:
    """Return what a task did, by its events and by the evidence that was made of them, whichever there is.

    :param location: the base path.
    :param folder: the task's folder.
    :return: rows as of :func:`.evidence.rows`; a user may come twice.
    :raises AhaSnapshotError: when there is evidence only, and it can't be read.
    """
    found = evidence.rows(histories(location, f"{folder}/events"))
    place = location.within(f"{folder}/{evidence.FILE}")
    if place.exists():
        try:
            found += evidence.read_evidence(place)
        except AhaSnapshotError:
            # It is made of the events, where these are there.
            if not found:
                raise
    return found


def under_way(folder: RunFolder, now: datetime) -> set[str]:
    """Return from whom other tasks of the account may be taking access at this moment.

    :param folder: this task's folder.
    :param now: this moment; UTC.
    :return: user ids.
    """
    others = (one for one in entries(folder.location, folder.account, now, 1) if one.folder != folder.path)
    return set().union(*(one.user_ids for one in others if one.access == "taken" and one.is_alive(now)))


def changed_within(
    folder: RunFolder, now: datetime, days: int, access: str, *, left: bool | None = None
) -> dict[str, datetime]:
    """Return whose access other tasks of the account changed, or may have changed, within the last days.

    Evidence, events and register are asked, so that none of them can be missed. What a task that is under way may
    still change counts, and so does a request whose answer isn't known.

    :param folder: this task's folder.
    :param now: the moment to count back from; UTC.
    :param days: how many days.
    :param access: ``taken`` or ``given``.
    :param left: only those who left (True), or only all others (False); None: everybody.
    :return: by user id when that was, at the latest; UTC.
    :raises AhaSnapshotError: when records are gone or can't be read: a cap that can't be counted doesn't hold.
    """
    location, account, since = folder.location, folder.account, now - timedelta(days=days)
    registered = {
        entry.folder: entry for entry in entries(location, account, now, days) if entry.folder != folder.path
    }
    found: dict[str, datetime] = {}
    for entry in registered.values():
        if entry.access == access and entry.is_alive(now):
            found |= dict.fromkeys(_of_budget(entry, left), now)
    vouched = _vouched(location, account, since) - {folder.path}
    for path in (registered.keys() | vouched | _written_since(location, account, since)) - {folder.path}:
        rows = written_rows(location, path)
        if not rows and path in vouched:
            raise AhaRecordError(
                f"What was written to Aha! within the last {days} days can't be counted: by its manifest, "
                f"{location.url_of(path)} "
                "made requests, and its events and its evidence are gone. Nothing was done. Restore the folder."
            )
        for row in rows:
            counts = _access(row, registered.get(path), access) == access and _is_of_budget(row, left)
            if row["proof"] >= UNANSWERED and counts:
                moment, user_id = _moment(row["answered_at"] or row["intent_at"]), str(row["user_id"])
                if moment >= since:
                    found[user_id] = max(moment, found.get(user_id, moment))
    return found


def passed_by_policy(folder: RunFolder, now: datetime) -> set[str]:
    """Return whose access other tasks of the account took within the last 24 hours without asking a person.

    As for :func:`changed_within`, what a task that is under way may still take counts, and so does a request whose
    answer isn't known.

    :param folder: this task's folder.
    :param now: the moment to count back from; UTC.
    :return: user ids.
    :raises AhaSnapshotError: when records can't be read: what can't be counted doesn't hold.
    """
    location, since = folder.location, now - _DAY
    others = {entry.folder: entry for entry in entries(location, folder.account, now, 1)}
    found: set[str] = set()
    for entry in others.values():
        if entry.by_policy and entry.is_alive(now) and entry.folder != folder.path:
            found |= entry.user_ids
    for path in set(recent_folders(location, folder.account, now, 1)) - {folder.path}:
        by_policy = path in others and others[path].by_policy
        for row in written_rows(location, path):
            passed = row["approval_mode"] == "policy" or (by_policy and row["approval_mode"] is None)
            if passed and row["proof"] >= UNANSWERED and _moment(row["intent_at"] or row["answered_at"]) > since:
                found.add(str(row["user_id"]))
    return found


def _of_budget(entry: RegisterEntry, left: bool | None) -> frozenset[str]:
    if left is None:
        return entry.user_ids
    return entry.left_ids if left else entry.user_ids - entry.left_ids


def _is_of_budget(row: Mapping[str, Any], left: bool | None) -> bool:
    return left is None or row["class"] is None or (row["class"] == "left") == left


def _access(row: Mapping[str, Any], entry: RegisterEntry | None, asked: str) -> str | None:
    """Return what a row did to access; where that can't be read, what its task was to do, or what is asked for."""
    if row["access"] is not None:
        return str(row["access"])
    return entry.access if entry else asked


def refuse_beside_another(folder: RunFolder, now: datetime) -> None:
    """Refuse to write while another run may be in the middle of writing.

    Mapped tasks of one run may write side by side.

    :param folder: this task's folder.
    :param now: this moment; UTC.
    :raises AhaError: when another run of the account has an intent without an outcome, younger than an hour.
    """
    location = folder.location
    # A worker that everybody takes for dead may go on after its task has ended.
    others = _written_since(location, folder.account, now - _ALIVE, f"-{INTENT}-")
    others |= {entry.folder for entry in entries(location, folder.account, now, 1) if not entry.ended}
    for other in sorted(others):
        if other.startswith(f"{folder.run_path}/"):
            continue
        if any(now - moment < _ALIVE for moment in _open_intents(location, other)):
            raise AhaError(
                f"Another run of this account is writing, or died less than an hour ago, in "
                f"{location.url_of(other)}: "
                "nothing was done. Let it end or be tried again; an hour after its last request this run may go on."
            )


def _open_intents(location: Store, folder: str) -> Iterator[datetime]:
    for history in histories(location, f"{folder}/events").values():
        for intent in history.open_intents:
            yield _moment(intent["intent_at"])


def _moment(text: object) -> datetime:
    # A moment that can't be read counts as now, and so does that of a clock that was never set: the careful reading
    # of the questions above.
    moment = read_moment(text)
    return moment if moment and moment >= _OLDEST else datetime.now(UTC)


def claim_path(folder: RunFolder, plan_sha256: str, *, by_policy: bool = False) -> str:
    """Return the file that says which task carries a plan out.

    :param folder: the folder of a task of the account.
    :param plan_sha256: the plan.
    :param by_policy: only the rows that policy lets pass; another task carries out the others.
    """
    return f"{folder.account_path}/applied/{plan_sha256}{'-policy' if by_policy else ''}.json"


def claim_of(folder: RunFolder) -> dict[str, str]:
    """Return what a claim of a task says.

    :param folder: the task's folder.
    """
    return {"folder": folder.path.removeprefix(f"{folder.account_path}/")}


def files_elsewhere(folder: RunFolder, now: datetime) -> list[str]:
    """Return the files that tell of a task outside of its folder, for the manifest.

    :param folder: the task's folder.
    :param now: this moment; UTC.
    """
    start = folder.read(START) or {}
    found = entered(folder, now, CAP_DAYS)
    if plan_sha256 := start.get("plan_sha256"):
        paths = [claim_path(folder, plan_sha256, by_policy=by_policy) for by_policy in (False, True)]
        found += [path for path in paths if folder.location.read_record(path) == claim_of(folder)]
    return found
