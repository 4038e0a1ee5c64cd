"""What sensors and triggers wait for: conditions of an account, and the state that changes are found against.

Plain Python without Airflow. A worker and a trigger ask the same conditions; whoever compares two states of an
account does it here, by :mod:`airflow_provider_aha.datasets.changes`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from airflow_provider_aha.api.client import AhaClient, check_user_id
from airflow_provider_aha.common.moments import milliseconds_text, read_moment
from airflow_provider_aha.datasets.changes import Side, changes
from airflow_provider_aha.datasets.extract import newest_side, stage_users
from airflow_provider_aha.datasets.names import STATE_SUFFIX
from airflow_provider_aha.exceptions import (
    AhaAmbiguousUserError,
    AhaConfigurationError,
    AhaNoSnapshotError,
    AhaNotFoundError,
    AhaProtocolError,
    AhaRecordError,
)
from airflow_provider_aha.store.store import Store, staging, storage_errors, to_json

log = logging.getLogger(__name__)


UNTIL = ("exists", "absent", "enabled", "disabled", "seen_since")

CHANGES_AT_ONCE = 500
"""So many changes are in one event; XComs and asset events are rows of Airflow's database."""

_STATE, _USERS, _ROLES = "state.json", "users.parquet", "user_roles.parquet"
_FORMAT = 1
# Whose values are a person's own, or may be.
_PERSONAL = frozenset(("name", "email", "timezone"))
# What the count of users and the newest of them tell.
_COUNTED = frozenset(("added", "removed"))


# ---- reading the account ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listing:
    """One complete read of an account's users, in temporary files that live as long as this object.

    :param read_at: when the read began.
    :param users: the ``users`` file.
    :param roles: the ``user_roles`` file.
    :param absent: how many users lack a decisive key.
    :param folder: keeps the files.
    """

    read_at: datetime
    users: Path
    roles: Path
    absent: Mapping[str, int]
    folder: tempfile.TemporaryDirectory[str] = field(repr=False)

    @contextmanager
    def side(self) -> Iterator[Side]:
        """Open the files to compare them."""
        with pq.ParquetFile(self.users) as users, pq.ParquetFile(self.roles) as roles:
            yield Side(users, roles)

    def with_email(self, digest: str) -> list[dict[str, Any]]:
        """Return ``id``, ``is_enabled`` and ``accessed_at`` of the users with an email.

        :param digest: :func:`email_digest` of it.
        """
        names = ["id", "is_enabled", "accessed_at"]
        table = pq.read_table(self.users, columns=[*names, "email"])
        rows = zip(*(table.column(name).to_pylist() for name in (*names, "email")), strict=True)
        return [dict(zip(names, row, strict=False)) for row in rows if row[-1] and email_digest(row[-1]) == digest]

    def seats_in_use(self) -> int:
        """Count the users who occupy a paid seat."""
        return int(pc.sum(pq.read_table(self.users, columns=["occupies_seat"]).column(0)).as_py() or 0)


class Account:
    """An account as one process sees it; what several who wait need at once is read once. Safe in threads.

    :param client: client of the account.
    :param connection_id: id of the connection, for the rows.
    :param monotonic: seconds that never go backwards.
    """

    def __init__(
        self, client: AhaClient, *, connection_id: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.client = client
        self._monotonic = monotonic
        self._connection_id = connection_id
        self._lock = threading.Lock()
        self._listing: Listing | None = None
        self._read_at = 0.0

    @property
    def name(self) -> str:
        """The account's subdomain."""
        return self.client.config.account

    def listing(self, *, max_age: float = 0.0, newer_than: datetime | None = None) -> Listing:
        """Read all users, or return what somebody else here has just read.

        :param max_age: how many seconds old it may be.
        :param newer_than: it must have begun after this moment.
        :raises AhaError: as :meth:`airflow_provider_aha.api.client.AhaClient.read_users`.
        """
        asked = self._monotonic()
        with self._lock:
            kept = self._listing
            fresh = kept is not None and self._read_at >= asked - max_age
            if kept is None or not fresh or (newer_than and kept.read_at <= newer_than):
                self._listing, self._read_at = None, self._monotonic()
                kept = self._listing = self._read()
            return kept

    def _read(self) -> Listing:
        read_at = datetime.now(UTC)
        with storage_errors("temporary space"):
            folder = tempfile.TemporaryDirectory(prefix="airflow-aha-")
        files, absent = stage_users(
            self.client, Path(folder.name), connection_id=self._connection_id, started_at=read_at
        )
        return Listing(read_at, files["users"].path, files["user_roles"].path, absent, folder)


# ---- conditions ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class UserCondition:
    """One user is there, is gone, is enabled, is disabled, or was seen.

    :param until: one of :data:`UNTIL`.
    :param user_id: the user's id, or
    :param email_sha256: :func:`email_digest` of the email.
    :param since: seconds since 1970; for ``seen_since``.
    """

    until: str
    user_id: str | None = None
    email_sha256: str | None = None
    since: float | None = None

    def check(self, account: Account, max_age: float) -> dict[str, Any] | None:
        """Ask the account.

        :param account: the account.
        :param max_age: how many seconds old a read of all users may be.
        :return: what was found when the condition is met, else None.
        :raises AhaNotFoundError: when there is no such user to be enabled, disabled or seen.
        """
        user = self._by_id(account) if self.user_id else self._by_email(account, max_age)
        if user is None:
            if self.until == "absent":
                return {"user_id": self.user_id, "exists": False}
            if self.until == "exists":
                return None
            raise AhaNotFoundError(
                f"{account.name} has no such user who could be {self.until}: check the id or email, or wait for "
                "the user with until='exists' first."
            )
        return self._result(user) if self._is_met(user) else None

    def _is_met(self, user: Mapping[str, Any]) -> bool:
        if self.until == "seen_since":
            seen = user["accessed_at"]
            return seen is not None and seen.timestamp() >= (self.since or 0.0)
        # Unknown (null) is neither.
        return {"exists": True, "enabled": user["is_enabled"] is True, "disabled": user["is_enabled"] is False}.get(
            self.until, False
        )

    def _result(self, user: Mapping[str, Any]) -> dict[str, Any]:
        seen = user["accessed_at"]
        return {
            "user_id": user["id"],
            "exists": True,
            "enabled": user["is_enabled"],
            "accessed_at": seen.isoformat() if seen else None,
        }

    def _by_id(self, account: Account) -> dict[str, Any] | None:
        try:
            user = account.client.get_user(str(self.user_id))
        except AhaNotFoundError:
            # A wrong subdomain answers 404 to everything; it must not look like a user who is gone.
            account.client.count_users()
            return None
        seen, enabled = user.get("accessed_at"), user.get("enabled")
        return {
            "id": user["id"],
            "is_enabled": enabled if isinstance(enabled, bool) else None,
            "accessed_at": read_moment(seen) if seen else None,
        }

    def _by_email(self, account: Account, max_age: float) -> dict[str, Any] | None:
        found = account.listing(max_age=max_age).with_email(str(self.email_sha256))
        if len(found) > 1:
            ids = ", ".join(user["id"] for user in found)
            raise AhaAmbiguousUserError(
                f"The email that was asked for belongs to {len(found)} users of {account.name} (ids {ids}): name "
                "the one you mean by its id."
            )
        return found[0] if found else None


@dataclass(frozen=True)
class SeatCondition:
    """So many seats are in use, of the account or of a paid seat group.

    :param threshold: seats, or percent of the group's capacity.
    :param percent: whether the threshold is percent.
    :param group: id or name of a paid seat group; None: the whole account.
    """

    threshold: float
    percent: bool = False
    group: str | None = None

    def check(self, account: Account, max_age: float) -> dict[str, Any] | None:
        """Count the seats.

        :param account: the account.
        :param max_age: how many seconds old a read of all users may be.
        :return: the figures when the threshold is reached, else None.
        :raises AhaProtocolError: when Aha! left out what is counted.
        """
        usage = self._of_group(account) if self.group else _of_account(account, max_age)
        reached = usage["percent"] if self.percent else usage["seats_in_use"]
        return {**usage, "threshold": self.threshold} if reached >= self.threshold else None

    def _of_group(self, account: Account) -> dict[str, Any]:
        groups = account.client.paid_seat_groups()
        found = [group for group in groups if self.group in (group["id"], str(group.get("name")).strip())]
        if len(found) != 1:
            raise AhaNotFoundError(
                f"{len(found)} of the {len(groups)} paid seat groups that the key's owner administers in "
                f"{account.name} have the name or id that was asked for: name one by its id."
            )
        used, capacity = (_count(found[0], key) for key in ("allocated_seats", "capacity"))
        if used is None or (self.percent and not capacity):
            raise AhaProtocolError(
                f"Aha! doesn't say how many seats paid seat group {found[0]['id']} of {account.name} has, or "
                "has in use."
            )
        percent = round(100 * used / capacity, 2) if capacity else None
        return {"group_id": found[0]["id"], "seats_in_use": used, "capacity": capacity, "percent": percent}


def _of_account(account: Account, max_age: float) -> dict[str, Any]:
    listing = account.listing(max_age=max_age)
    if missing := [key for key in ("enabled", "paid_seat") if listing.absent.get(key)]:
        raise AhaProtocolError(
            f"Aha! left out {' and '.join(missing)} of users of {account.name}: seats can't be counted."
        )
    return {"group_id": None, "seats_in_use": listing.seats_in_use(), "capacity": None, "percent": None}


def _count(group: Mapping[str, Any], key: str) -> int | None:
    value = group.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


@dataclass(frozen=True)
class ChangesCondition:
    """Something has changed since a state or a snapshot; only a reason to look closer, and writes nothing.

    :param location: see :class:`Watch`.
    :param changes: see :class:`Watch`.
    """

    location: Store
    changes: tuple[str, ...]

    def check(self, account: Account, max_age: float) -> dict[str, Any] | None:
        """Compare.

        :param account: the account.
        :param max_age: how many seconds old a read of all users may be.
        :return: anything when :meth:`Watch.look` would find something to do.
        """
        found = Watch(account, self.location, self.changes).look(max_age=max_age)
        return {"changed": True} if found.events or found.moves else None


# ---- changes ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What a look at an account found.

    :param events: what to tell, in this order; none when nothing of interest changed.
    :param listing: the read that it was found in; None when none was needed.
    :param moves: whether the state is to be moved to that read.
    """

    events: Sequence[dict[str, Any]] = ()
    listing: Listing | None = None
    moves: bool = False


@dataclass(frozen=True)
class _Before:
    """What is compared with."""

    side: Side
    synced_at: datetime
    record: Mapping[str, Any]


class Watch:
    """Finds what changed in an account since a state file, or since the newest snapshot under a base path.

    A state file is whatever ends in ``.zip``. It is one file, so that it is replaced as a whole: the ``users`` and
    ``user_roles`` of a read, and a record of whose they are.

    :param account: the account.
    :param location: the state file, or a base path.
    :param wanted: words of ``user_changes`` that are of interest.
    """

    def __init__(self, account: Account, location: Store, wanted: Sequence[str]) -> None:
        self._account = account
        self._location = location
        self._wanted = frozenset(wanted)
        self._keeps_state = location.name.endswith(STATE_SUFFIX)

    def look(self, *, max_age: float = 0.0) -> Found:
        """Compare the account with the state; move nothing.

        :param max_age: how many seconds old a read of all users may be.
        :raises AhaSnapshotError: when the state is another account's, or there is no snapshot.
        :raises AhaError: when the account could not be read.
        """
        with self._before() as before:
            if before is None:
                # The first look: what is there now is what later looks compare with.
                return Found(listing=self._account.listing(max_age=max_age), moves=True)
            if self._wanted <= _COUNTED and self._has_same_users(before):
                return Found()
            listing = self._account.listing(max_age=max_age, newer_than=before.synced_at)
            with listing.side() as after:
                rows = _rows(before.side, after, self._account.name)
        told = [row for row in rows if row["change"] in self._wanted]
        # An unwanted change moves the state, too: disabled and enabled again is no difference later on.
        return Found(self._events(told, before.synced_at, listing), listing, bool(rows) and self._keeps_state)

    def told(self, task: str) -> dict[str, Any] | None:
        """Return the event that a task was told when it moved the state, so that its next try is told the same.

        :param task: who asks.
        """
        with self._before() as before:
            if before is None or before.record.get("task") != task:
                return None
            event: dict[str, Any] | None = before.record.get("event")
            return event

    def move(self, found: Found, *, task: str | None = None) -> None:
        """Replace the state by what a look has read.

        :param found: what the look found.
        :param task: who was told of it.
        :raises AhaStorageError: when it can't be written.
        """
        if not found.moves or found.listing is None:
            return
        record = {
            "format": _FORMAT,
            "account": self._account.name,
            "sandbox": self._account.client.sandbox,
            "synced_at": milliseconds_text(found.listing.read_at),
            "task": task if found.events else None,
            "event": joined(found.events) if task and found.events else None,
        }
        with staging() as folder:
            file = folder / "state"
            with storage_errors(str(file)), zipfile.ZipFile(file, "w") as archive:
                archive.writestr(_STATE, to_json(record))
                archive.write(found.listing.users, _USERS)
                archive.write(found.listing.roles, _ROLES)
            self._location.publish({"": file})

    def _events(self, rows: Sequence[Mapping[str, Any]], since: datetime, listing: Listing) -> list[dict[str, Any]]:
        # The same changes since the same state are the same event, however often they are found.
        stem = hashlib.sha256(
            json.dumps([self._account.name, milliseconds_text(since), rows]).encode()
        ).hexdigest()[:24]
        parts = [rows[at : at + CHANGES_AT_ONCE] for at in range(0, len(rows), CHANGES_AT_ONCE)]
        return [
            {
                "status": "changed",
                "event_id": f"{stem}-{number}",
                "account": self._account.name,
                "sandbox": self._account.client.sandbox,
                "previous_synced_at": milliseconds_text(since),
                "synced_at": milliseconds_text(listing.read_at),
                "counts": dict(sorted(Counter(row["change"] for row in part).items())),
                "changes": part,
            }
            for number, part in enumerate(parts, start=1)
        ]

    def _has_same_users(self, before: _Before) -> bool:
        """Ask how many users there are and who the newest is: new users stand at the end of the list."""
        users = before.side.users
        count = users.metadata.num_rows
        last = users.read_row_group(users.num_row_groups - 1, columns=["id"]).column("id")[-1].as_py()
        return self._account.client.user_at(count) == (count, last)

    @contextmanager
    def _before(self) -> Iterator[_Before | None]:
        with ExitStack() as stack:
            yield (self._state if self._keeps_state else self._snapshot)(stack)

    def _snapshot(self, stack: ExitStack) -> _Before:
        side = newest_side(stack, self._location, self._account.name)
        if side is None:
            raise AhaNoSnapshotError(
                f"There is no snapshot of {self._account.name} with users and user_roles under "
                f"{self._location.url}: run aha_extract first, or name a state file that ends in .zip."
            )
        return _Before(side, _synced_at(side), {})

    def _state(self, stack: ExitStack) -> _Before | None:
        folder = stack.enter_context(staging())
        stream = stack.enter_context(self._location.open())
        if stream is None:
            return None
        try:
            with zipfile.ZipFile(stream) as archive:
                record = json.loads(archive.read(_STATE))
                users, roles = (Path(archive.extract(name, folder)) for name in (_USERS, _ROLES))
            side = Side(*(stack.enter_context(pq.ParquetFile(path)) for path in (users, roles)))
            owner, known = record["account"], record["format"]
            synced_at = _synced_at(side)
        except (zipfile.BadZipFile, ValueError, KeyError, TypeError, IndexError):
            raise AhaRecordError(
                f"{self._location.url} is not a state file of this package, or was cut short: remove it, and "
                "the next look begins anew. What changed since it was written isn't told then."
            ) from None
        if owner != self._account.name or known != _FORMAT:
            raise AhaRecordError(
                f"{self._location.url} is the state of account {owner}, in format {known}, and can't be "
                f"compared with {self._account.name}: give each account a state file of its own."
            )
        return _Before(side, synced_at, record)


def joined(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Make one event of the parts of a large one; beyond the size of a part it only counts.

    :param events: the parts, at least one.
    """
    first = dict(events[0])
    counts: Counter[str] = Counter()
    for event in events:
        counts.update(event["counts"])
    left_out = sum(counts.values()) - len(first["changes"])
    return {**first, "counts": dict(sorted(counts.items())), "left_out": left_out}


def _rows(before: Side, after: Side, account: str) -> list[dict[str, Any]]:
    """Return all changes, without what is personal."""
    names = ["change", "user_id", "field", "before", "after"]
    rows = [row for table in changes(before, after, subdomain=account) for row in table.select(names).to_pylist()]
    for row in rows:
        if row["field"] in _PERSONAL:
            del row["before"], row["after"]
    return rows


def user_condition(user: str, until: str, since: datetime | None) -> UserCondition:
    """Name a user by id, or by the digest of an email.

    :param user: id or email.
    :param until: one of :data:`UNTIL`.
    :param since: for ``seen_since``.
    :raises AhaConfigurationError: when the three don't fit.
    """
    if until not in UNTIL:
        raise AhaConfigurationError(f"until must be one of {', '.join(UNTIL)}.")
    if (since is not None) != (until == "seen_since"):
        raise AhaConfigurationError("since belongs to until='seen_since', and is needed there.")
    condition = UserCondition(until, since=since.timestamp() if since else None)
    if "@" in user:
        return replace(condition, email_sha256=email_digest(user))
    return replace(condition, user_id=check_user_id(user, or_email=True))


def email_digest(email: str) -> str:
    """Return what stands for an email where it must not be readable.

    :param email: the address; case doesn't count.
    """
    return hashlib.sha256(email.strip().casefold().encode()).hexdigest()


def _synced_at(side: Side) -> datetime:
    moment: datetime = side.users.read_row_group(0, columns=["synced_at"]).column(0)[0].as_py()
    return moment
