"""The state of the sandbox account: who is in it, and what becomes of them."""

from __future__ import annotations

import copy
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from airflow_provider_aha.sandbox.exchange import InvalidError, NotFoundError
from airflow_provider_aha.sandbox.roster import GeneratedRoster, GivenRoster, Roster, seat_of
from airflow_provider_aha.sandbox.setting import (
    DAY,
    SEAT_ROLES,
    WRITABLE_ROLES,
    Json,
    Setting,
    Workspace,
    generated_setting,
    given_setting,
    iso,
)

ADMIN_KEY = "sandbox-key"
VIEWER_KEY = "sandbox-viewer-key"

RIGHTS = ("administer_account", "administer_billing", "administer_configuration")
"""The three administrator rights."""

_CACHED_USERS = 100_000
_ID_STEP = 4_194_304
_AUDITS = 60
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
_TRUE, _FALSE = ("true", "1"), ("false", "0")


@dataclass(frozen=True)
class Write:
    """A write to a user that was carried out, whatever was answered.

    :param user_id: the user.
    :param fields: as sent; of a role that was removed, its workspace.
    :param before: the user as in the user list, before it.
    :param after: the same after it.
    :param time: of the account's clock, in seconds since 1970.
    :param object: what of the user was written: ``account``, or with the workspace's id ``w456`` (its role there)
        and ``c456`` (its custom role there).
    """

    user_id: str
    fields: Mapping[str, Any]
    before: Json
    after: Json
    time: float
    object: str = "account"


class Account:
    """An Aha! account in memory. All methods may be called while a server serves it.

    :param roster: the users at the start.
    :param setting: what the account has beside its users.
    :param as_of: the moment, in milliseconds, that counted as now when the account was made up.
    :param clock: seconds since 1970; what is written to ``updated_at``.
    """

    def __init__(
        self,
        roster: Roster,
        setting: Setting,
        *,
        as_of: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.lock = threading.RLock()
        self.name = "Sandbox"
        self.domain = "sandbox"
        self.as_of = as_of
        self.previous: dict[str, Json] = {}
        """Users as they were before the last write through the API."""
        self.writes: list[Write] = []
        """The writes to users that the API has carried out, oldest first, whatever was answered."""
        self._clock = clock
        self._roster = roster
        self._setting = setting
        self._order = list(roster.ids)
        # A user is its position in the roster until it is changed, and its own record from then on.
        self._rows: dict[str, int | Json] = {user_id: at for at, user_id in enumerate(self._order)}
        self._encoded: dict[str, bytes] = {}
        self._seats_moved: Counter[str] = Counter()
        self._groups = {str(group["id"]): copy.deepcopy(group) for group in setting.seat_groups}
        self._outside: dict[str, Json] = {}
        self.keys: dict[str, str] = {}
        """The API keys and the ids of their owners."""
        self._add_default_keys()
        self._add_group_administrators()

    @classmethod
    def generate(
        cls,
        users: int = 500,
        *,
        seed: int = 0,
        as_of: datetime | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Account:
        """Make up an account: the same one for the same arguments.

        :param users: how many users.
        :param seed: another seed, another account.
        :param as_of: the moment up to which people were active; now, cut to the day, if not given.
        :param clock: seconds since 1970; what is written to ``updated_at``.
        :returns: the account.
        :raises ValueError: when the count of users is negative.
        """
        if users < 0:
            raise ValueError(f"an account can't have {users} users")
        moment = clock() if as_of is None else as_of.astimezone(UTC).timestamp()
        until = int(moment * 1000)
        until -= until % DAY if as_of is None else 0
        setting = generated_setting(users, until)
        return cls(GeneratedRoster(users, seed, until, setting), setting, as_of=until, clock=clock)

    @classmethod
    def from_users(
        cls,
        users: Iterable[Mapping[str, Any]],
        *,
        products: Sequence[Json] = (),
        paid_seat_groups: Sequence[Json] = (),
        identity_providers: Sequence[Json] = (),
        clock: Callable[[], float] = time.time,
    ) -> Account:
        """Take users as they are given, and serve them so.

        :param users: as in the user list, in the order in which they are to be listed.
        :param products: as in the list of products.
        :param paid_seat_groups: as in the list.
        :param identity_providers: as in the list.
        :param clock: seconds since 1970; what is written to ``updated_at``.
        :returns: the account.
        :raises ValueError: when a user has no id, or two have the same.
        """
        rows = [copy.deepcopy(dict(user)) for user in users]
        setting = given_setting(rows, products, paid_seat_groups, identity_providers)
        return cls(GivenRoster(rows), setting, clock=clock)

    @classmethod
    def from_json(cls, path: str | Path, *, clock: Callable[[], float] = time.time) -> Account:
        """Load an account from a file.

        :param path: an object with ``users`` and, where wanted, ``products``, ``paid_seat_groups`` and
            ``identity_providers``: the bodies of the API's lists, merged. Other keys are ignored.
        :param clock: seconds since 1970; what is written to ``updated_at``.
        :returns: the account.
        :raises ValueError: when the file is not such an object.
        """
        body = orjson.loads(Path(path).read_bytes())
        if not isinstance(body, dict) or not isinstance(body.get("users"), list):
            raise ValueError(f"{path} is not a JSON object with a list of users")
        lists = {key: body.get(key) or () for key in ("products", "paid_seat_groups", "identity_providers")}
        return cls.from_users(body["users"], **lists, clock=clock)

    def now(self) -> float:
        """Say what time it is here.

        :returns: seconds since 1970.
        """
        return self._clock()

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, user_id: object) -> bool:
        return user_id in self._rows

    # --- reading ---------------------------------------------------------------------------------

    @property
    def user_ids(self) -> list[str]:
        """The ids of all users, in the order of the user list."""
        with self.lock:
            return list(self._order)

    @property
    def workspaces(self) -> Sequence[Workspace]:
        """The workspaces, also those that the API doesn't show."""
        return self._setting.workspaces

    @property
    def identity_providers(self) -> Sequence[Json]:
        """The identity providers, as in their list."""
        return self._setting.identity_providers

    def user(self, user_id: str) -> Json:
        """Look a user up.

        :param user_id: the id.
        :returns: a copy of the user, as in the user list.
        :raises NotFoundError: when there is none.
        """
        with self.lock:
            return copy.deepcopy(self._peek(user_id))

    def users(self) -> Iterator[Json]:
        """Go through all users.

        :returns: copies of the users, as in the user list.
        """
        return (self.user(user_id) for user_id in self.user_ids)

    def encoded_users(self, user_ids: Iterable[str]) -> bytes:
        """Write users as a JSON array.

        :param user_ids: whom.
        :returns: the array.
        """
        with self.lock:
            return b"[" + b",".join(map(self._encode, user_ids)) + b"]"

    def warm(self) -> None:
        """Write the users ahead, as many as are kept, so that the first pages are as fast as later ones."""
        with self.lock:
            for user_id in self._order[:_CACHED_USERS]:
                self._encode(user_id)

    def find_by_email(self, email: str) -> list[str]:
        """Find users by email.

        :param email: in any case.
        :returns: the ids of those who have it.
        """
        wanted = email.casefold()
        at_start = self._roster.with_email(wanted)
        with self.lock:
            found = {user_id for user_id in at_start if isinstance(self._rows.get(user_id), int)}
            found.update(u for u, row in self._changed() if str(row.get("email")).casefold() == wanted)
        return sorted(found, key=id_order)

    def members(self, workspace_id: str) -> list[tuple[Json, Json]]:
        """List who has a role in a workspace.

        :param workspace_id: the id.
        :returns: role entry and user, ordered by the user's id.
        """
        at_start = self._roster.members.get(workspace_id, ())
        with self.lock:
            found = {user_id for user_id in at_start if isinstance(self._rows.get(user_id), int)}
            found.update(u for u, row in self._changed() if _role_in(row, workspace_id))
            users = [self._peek(user_id) for user_id in sorted(found, key=id_order)]
        return [(role, user) for user in users if (role := _role_in(user, workspace_id))]

    def workspace(self, id_or_prefix: object, *, visible: bool = True) -> Workspace:
        """Look a workspace up.

        :param id_or_prefix: the id or the key.
        :param visible: whether it must be one that the API shows.
        :returns: the workspace.
        :raises NotFoundError: when there is none.
        """
        wanted = str(id_or_prefix)
        for workspace in self.workspaces:
            if wanted in (workspace.id, workspace.prefix) and (workspace.listed or not visible):
                return workspace
        raise NotFoundError("product")

    def seat_group(self, group_id: str) -> Json:
        """Look a paid seat group up.

        :param group_id: the id.
        :returns: the group, as in the list.
        :raises NotFoundError: when there is none.
        """
        if group_id not in self._groups:
            raise NotFoundError("paid seat group")
        group = self._groups[group_id]
        at_start = group.get("allocated_seats")
        if at_start is None:
            at_start = self._roster.seats.get(group_id, 0)
        allocated = {"allocated_seats": at_start + self._seats_moved[group_id]}
        # In place where the group has the key already, else between capacity and description, as documented.
        head = {key: value for key, value in group.items() if key in ("id", "name", "administrators", "capacity")}
        return head | allocated | {k: v for k, v in group.items() if k not in head and k != "allocated_seats"}

    def seat_groups(self) -> list[Json]:
        """List the paid seat groups.

        :returns: as in the list.
        """
        return [self.seat_group(group_id) for group_id in self._groups]

    def audits(self) -> list[Json]:
        """List what people did to records lately.

        :returns: as in the list, oldest first; none in an account that was given.
        """
        if not self.as_of or not self._order:
            return []
        return [self._audit(number) for number in range(_AUDITS)]

    # --- keys ------------------------------------------------------------------------------------

    def owner(self, key: str) -> Json | None:
        """Name the owner of an API key.

        :param key: the key.
        :returns: the user; null when the key is unknown or revoked, or its owner disabled or gone.
        """
        user_id = self.keys.get(key, "")
        with self.lock:
            user = self._peek(user_id) if user_id in self._rows else self._outside.get(user_id)
        return user if user and user.get("enabled", True) else None

    def revoke_key(self, key: str) -> None:
        """Make an API key invalid.

        :param key: the key; unknown ones are ignored.
        """
        self.keys.pop(key, None)

    def rename_key(self, old: str, new: str) -> None:
        """Give an owner another API key.

        :param old: the key so far.
        :param new: the key from now on.
        """
        self.keys[new] = self.keys.pop(old)

    # --- changing, past all rules ----------------------------------------------------------------

    def edit_user(self, user_id: str, **fields: Any) -> Json:
        """Set any fields of a user, without the API's rules: a last login, a role, a seat.

        :param user_id: the id.
        :param fields: names and values as in the user list.
        :returns: a copy of the user.
        :raises NotFoundError: when there is none.
        """
        with self.lock:
            # Nothing changes a record in place, so the new one may share with the old.
            self._store(user_id, self._peek(user_id) | copy.deepcopy(fields))
            return self.user(user_id)

    def add_user(self, *, position: int | None = None, **fields: Any) -> Json:
        """Add a user.

        :param position: where in the user list; at the end if not given.
        :param fields: names and values as in the user list; what is missing is made up.
        :returns: a copy of the user.
        :raises InvalidError: when the id is taken.
        """
        with self.lock:
            at = len(self._order) if position is None else position
            user = self._new_user(at) | copy.deepcopy(fields)
            user_id = str(user["id"])
            if user_id in self._rows:
                raise InvalidError("id has already been taken")
            self._order.insert(at, user_id)
            self._store(user_id, user)
            return self.user(user_id)

    def remove_user(self, user_id: str) -> None:
        """Remove a user, as an administrator can in Aha!'s own pages.

        :param user_id: the id.
        :raises NotFoundError: when there is none.
        """
        with self.lock:
            self._count_seat(self._peek(user_id), None)
            self._order.remove(user_id)
            del self._rows[user_id]
            self._encoded.pop(user_id, None)

    # --- changing, by the API's rules ------------------------------------------------------------

    def update_user(self, user_id: str, changes: Mapping[str, Any]) -> Json:
        """Update a user as ``PUT /users/:id`` does.

        :param user_id: the id.
        :param changes: the fields that were sent; unknown ones are ignored, as Rails does.
        :returns: the user.
        :raises NotFoundError: when there is none.
        :raises InvalidError: when a value is not taken.
        """
        with self.lock:
            before = self.user(user_id)
            after = copy.deepcopy(before)
            self._set_name(after, changes)
            self._set_email(after, changes)
            if "enabled" in changes:
                after["enabled"] = _flag("enabled", changes["enabled"])
            _set_rights(after, changes)
            after["updated_at"] = self._stamp(before.get("updated_at"))
            self._write(user_id, changes, before, after)
            return self._peek(user_id)

    def undo_update(self, user_id: str) -> Json:
        """Take the last write to a user back, as if it had never been carried out.

        :param user_id: the id of a user that was written.
        :returns: a copy of the user as before.
        """
        with self.lock:
            last = max(at for at, write in enumerate(self.writes) if write.user_id == user_id)
            del self.writes[last]
            self._store(user_id, self.previous.pop(user_id))
            return self.user(user_id)

    def create_user(self, workspace_id: object, fields: Mapping[str, Any]) -> tuple[Json, Json]:
        """Create a user as ``POST /products/:id/users`` does.

        :param workspace_id: id or key of the workspace.
        :param fields: ``first_name``, ``last_name``, ``email``, ``role`` and, for SSO,
            ``identity_provider_id``.
        :returns: role entry and user.
        :raises NotFoundError: when there is no such workspace.
        :raises InvalidError: when a value is missing or not taken.
        """
        with self.lock:
            workspace = self.workspace(workspace_id)
            user: Json = {"email": None, "identity_provider": self._provider(fields)}
            for key in ("first_name", "last_name", "email"):
                if not str(fields.get(key) or "").strip():
                    raise InvalidError(f"{key} can't be blank")
            self._set_email(user, fields)
            role = workspace.role(_role(fields.get("role")))
            name = f"{fields['first_name']} {fields['last_name']}"
            paid = role["role"] in SEAT_ROLES
            user |= {"name": name, "product_roles": [role], "paid_seat": paid, "roadmaps_seat": paid}
            return role, self.add_user(**user)

    def set_role(self, user_id: str, fields: Mapping[str, Any]) -> Json:
        """Give a user a role in a workspace, in place of the one there.

        :param user_id: the id.
        :param fields: ``role`` and ``product_id``.
        :returns: the role entry.
        :raises NotFoundError: when there is no such user or workspace.
        :raises InvalidError: when the role is not taken.
        """
        with self.lock:
            user = self.user(user_id)
            workspace = self.workspace(fields.get("product_id"), visible=False)
            entry = workspace.role(_role(fields.get("role")))
            kept = [role for role in user["product_roles"] if str(role["product_id"]) != workspace.id]
            self._write(user_id, fields, user, user | {"product_roles": [*kept, entry]}, f"w{workspace.id}")
            return entry

    def set_custom_role(self, user_id: str, fields: Mapping[str, Any]) -> Json:
        """Give a user a custom role in a workspace, in place of the one there.

        :param user_id: the id.
        :param fields: ``custom_role_id`` and ``product_id``.
        :returns: the entry.
        :raises NotFoundError: when there is no such user or workspace.
        :raises InvalidError: when there is no such custom role.
        """
        with self.lock:
            user = self.user(user_id)
            workspace = self.workspace(fields.get("product_id"), visible=False)
            wanted = str(fields.get("custom_role_id"))
            known = [role for role in self._setting.custom_roles if str(role["role_id"]) == wanted]
            if not known:
                raise InvalidError("custom_role_id is not a custom role of this account")
            entry = workspace.custom_role(known[0])
            kept = [role for role in user.get("user_roles", ()) if str(role["scope"]["id"]) != workspace.id]
            self._write(user_id, fields, user, user | {"user_roles": [*kept, entry]}, f"c{workspace.id}")
            return entry

    def drop_role(self, user_id: str, workspace_id: str, *, custom: bool = False) -> None:
        """Take a user's role in a workspace away.

        :param user_id: the id.
        :param workspace_id: id or key of the workspace.
        :param custom: whether the custom role is meant.
        :raises NotFoundError: when there is no such user or workspace, or no role there.
        """
        with self.lock:
            user = self.user(user_id)
            workspace = self.workspace(workspace_id, visible=False)
            field = "user_roles" if custom else "product_roles"
            kept = [role for role in user.get(field, ()) if _workspace_of(role) != workspace.id]
            if len(kept) == len(user.get(field, ())):
                raise NotFoundError("role")
            place = f"{'c' if custom else 'w'}{workspace.id}"
            self._write(user_id, {"product_id": workspace.id}, user, user | {field: kept}, place)

    def update_seat_group(self, group_id: str, fields: Mapping[str, Any]) -> Json:
        """Rename or resize a paid seat group.

        :param group_id: the id.
        :param fields: ``name`` and ``capacity``.
        :returns: the group.
        :raises NotFoundError: when there is none.
        :raises InvalidError: when a value is not taken.
        """
        with self.lock:
            group = self.seat_group(group_id)
            name, capacity = fields.get("name", group["name"]), fields.get("capacity", group["capacity"])
            if not isinstance(name, str) or not name.strip():
                raise InvalidError("name can't be blank")
            if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 0:
                raise InvalidError("capacity must be a number of seats")
            if capacity < group["allocated_seats"]:
                raise InvalidError("capacity must not be below the seats that are taken")
            self._groups[group_id] |= {"name": name, "capacity": capacity}
            self._touch_group(group_id)
            return self.seat_group(group_id)

    def move_seat(self, group_id: str, fields: Mapping[str, Any]) -> Json:
        """Put a user into a paid seat group, or take it out.

        :param group_id: the id.
        :param fields: ``user_id`` and ``remove``.
        :returns: the group.
        :raises NotFoundError: when there is no such group or user.
        :raises InvalidError: when the group is full.
        """
        with self.lock:
            group = self.seat_group(group_id)
            user = self.user(str(fields.get("user_id")))
            inside = str((user.get("paid_seat_group") or {}).get("id")) == group_id
            if _flag("remove", fields.get("remove") or False):
                if inside:
                    del user["paid_seat_group"]
            elif not inside:
                if group["allocated_seats"] >= group["capacity"]:
                    raise InvalidError("all seats of this group are taken")
                user["paid_seat_group"] = {"id": group_id, "name": group["name"]}
            self._store(str(user["id"]), user)
            self._touch_group(group_id)
            return self.seat_group(group_id)

    # --- inside ----------------------------------------------------------------------------------

    def _peek(self, user_id: str) -> Json:
        """Look a user up without copying it."""
        row = self._rows.get(user_id)
        if row is None:
            raise NotFoundError("user")
        return self._roster.user(row) if isinstance(row, int) else row

    def _encode(self, user_id: str) -> bytes:
        """Write a user as JSON, once."""
        encoded = self._encoded.get(user_id)
        if encoded is None:
            # The copy is as long as its text; orjson's own buffer takes several times as much memory.
            encoded = bytes(memoryview(orjson.dumps(self._peek(user_id))))
            # A larger account is read in full, over and over: pushing old ones out would help nobody.
            if len(self._encoded) < _CACHED_USERS:
                self._encoded[user_id] = encoded
        return encoded

    def _write(
        self, user_id: str, fields: Mapping[str, Any], before: Json, after: Json, place: str = "account"
    ) -> None:
        """Carry a write of the API out, and remember it."""
        self.previous[user_id] = before
        self._store(user_id, after)
        self.writes.append(Write(user_id, copy.deepcopy(dict(fields)), before, after, self._clock(), place))

    def _store(self, user_id: str, user: Json) -> None:
        """Keep a changed or new user."""
        self._count_seat(self._peek(user_id) if user_id in self._rows else None, user)
        self._rows[user_id] = user
        self._encoded.pop(user_id, None)

    def _count_seat(self, before: Json | None, after: Json | None) -> None:
        """Count who takes a seat of which group."""
        for user, step in ((before, -1), (after, 1)):
            if user and (group := seat_of(user)):
                self._seats_moved[group] += step

    def _changed(self) -> Iterator[tuple[str, Json]]:
        """Go through the users that are no longer as they were at the start."""
        return ((user_id, row) for user_id, row in self._rows.items() if not isinstance(row, int))

    def _stamp(self, before: object = None) -> str:
        """Write the time of a change: later than the one before it."""
        now = iso(int(self._clock() * 1000))
        if not isinstance(before, str) or now > before:
            return now
        moment = datetime.fromisoformat(before).timestamp()
        return iso(round(moment * 1000) + 1)

    def _touch_group(self, group_id: str) -> None:
        """Note the time of a change of a group."""
        group = self._groups[group_id]
        group["updated_at"] = self._stamp(group.get("updated_at"))

    def _set_name(self, user: Json, changes: Mapping[str, Any]) -> None:
        """Put the name together from first and last name, of which one may be sent."""
        first, _, last = str(user.get("name") or "").partition(" ")
        for key in ("first_name", "last_name"):
            if key in changes and not isinstance(changes[key], str):
                raise InvalidError(f"{key} is invalid")
        if "first_name" in changes or "last_name" in changes:
            parts = (changes.get("first_name", first), changes.get("last_name", last))
            user["name"] = " ".join(part for part in parts if part)

    def _set_email(self, user: Json, changes: Mapping[str, Any]) -> None:
        """Take an email that looks like one and that nobody else has."""
        if "email" not in changes:
            return
        email = changes["email"]
        if not isinstance(email, str) or not _EMAIL.fullmatch(email):
            raise InvalidError("email is invalid")
        if set(self.find_by_email(email)) - {user.get("id")}:
            raise InvalidError("email has already been taken")
        user["email"] = email

    def _provider(self, fields: Mapping[str, Any]) -> Json:
        """Find the identity provider that a new user shall have."""
        wanted = fields.get("identity_provider_id")
        if wanted is None:
            return {"type": "password"}
        for provider in self.identity_providers:
            if str(provider["id"]) == str(wanted):
                return {"type": "saml", "name": provider["name"]}
        raise InvalidError("identity_provider_id is not an identity provider of this account")

    def _new_user(self, position: int) -> Json:
        """Write a user that was just created."""
        now = self._stamp()
        user_id = self._free_id(position)
        return {
            "id": user_id,
            "name": "New User",
            "email": f"new.user{user_id}@example.com",
            "timezone": "UTC",
            "created_at": now,
            "updated_at": now,
            "accessed_at": None,
            "product_roles": [],
            "user_roles": [],
            "enabled": True,
            "paid_seat": True,
            "administrator": False,
            "roadmaps_seat": True,
            "develop_seat": False,
            "administrator_roles": dict.fromkeys(RIGHTS, False),
            "identity_provider": {"type": "password"},
        }

    def _free_id(self, position: int) -> str:
        """Choose an id that keeps the list in order: after the neighbour before, else before the first."""
        if not self._order:
            return "6200000000000000000"
        if position == 0:
            return str(int(self._order[0]) - 1)
        after = int(self._order[position - 1])
        return str(after + (_ID_STEP if position == len(self._order) else 1))

    def _add_default_keys(self) -> None:
        """Find an administrator and somebody who is none, and give each a key."""
        administrator = viewer = None
        for user in map(self._peek, self._order):
            rights = user.get("administrator_roles") or {}
            if not administrator and user.get("enabled") and all(rights.get(right) for right in RIGHTS):
                administrator = user["id"]
            elif not viewer and user.get("enabled") and not user.get("administrator"):
                viewer = user["id"]
            if administrator and viewer:
                break
        self.keys[ADMIN_KEY] = administrator or self._outsider("1", "Sandbox Administrator", admin=True)
        self.keys[VIEWER_KEY] = viewer or self._outsider("2", "Sandbox Viewer", admin=False)

    def _outsider(self, user_id: str, name: str, *, admin: bool) -> str:
        """Make the owner of a key who is not in the user list, for accounts that are too small."""
        fields = {"id": user_id, "name": name, "email": f"{name.split()[1].lower()}@example.com"}
        rights = dict.fromkeys(RIGHTS, admin)
        self._outside[user_id] = (
            self._new_user(0) | fields | {"administrator": admin, "administrator_roles": rights}
        )
        return user_id

    def _add_group_administrators(self) -> None:
        """Name the key's owner as administrator of the groups that were made up."""
        if not self.as_of or not self._order:
            return
        for group in self._groups.values():
            group["administrators"] = [short_user(self._peek(self._order[0]))]

    def _audit(self, number: int) -> Json:
        """Make up a record of what somebody did."""
        actor = short_user(self._peek(self._order[number * 7 % len(self._order)]))
        feature = 6_300_000_000_000_000_000 + number
        action = ("create", "update", "update", "destroy")[number % 4]
        return {
            "id": str(6_400_000_000_000_000_000 + number * _ID_STEP),
            "audit_action": action,
            "created_at": iso(self.as_of - (_AUDITS - number) * DAY // 2),
            "interesting": True,
            "user": actor,
            "contributors": [{"user": actor}],
            "auditable_type": "feature",
            "auditable_id": feature,
            "associated_type": "release",
            "associated_id": feature + _ID_STEP,
            "description": f"{action}d feature APP-{number + 1}".replace("destroyd", "deleted"),
            "auditable_url": f"https://sandbox.aha.io/features/APP-{number + 1}",
            "changes": [{"field_name": "Name", "value": f"Feature {number + 1}"}],
        }


def short_user(user: Json) -> Json:
    """Write a user as other records name it.

    :param user: as in the user list.
    :returns: id, name, email and the times of creation and change.
    """
    return {key: user.get(key) for key in ("id", "name", "email", "created_at", "updated_at")}


def id_order(user_id: str) -> tuple[int, str]:
    """Order ids by their number.

    :param user_id: decimal.
    :returns: what to compare.
    """
    return len(user_id), user_id


def _workspace_of(role: Json) -> str:
    """Name the workspace of a role of either kind."""
    return str(role["scope"]["id"] if "scope" in role else role["product_id"])


def _role_in(user: Json, workspace_id: str) -> Json | None:
    """Find a user's role in a workspace."""
    for role in user.get("product_roles") or ():
        if str(role["product_id"]) == workspace_id:
            return dict(role)
    return None


def _role(value: object) -> int:
    """Understand a role as the API takes it."""
    if not isinstance(value, str) or value not in WRITABLE_ROLES:
        raise InvalidError(f"role must be one of {', '.join(WRITABLE_ROLES)}")
    return WRITABLE_ROLES[value]


def _flag(name: str, value: object) -> bool:
    """Understand a flag, which may be sent as text."""
    text = str(value).lower()
    if text not in _TRUE + _FALSE:
        raise InvalidError(f"{name} must be 'true' or 'false'")
    return text in _TRUE


def _set_rights(user: Json, changes: Mapping[str, Any]) -> None:
    """Set the administrator rights, all or one by one; having any makes an administrator."""
    rights = dict(user.get("administrator_roles") or dict.fromkeys(RIGHTS, False))
    if "administrator" in changes:
        rights = dict.fromkeys(RIGHTS, _flag("administrator", changes["administrator"]))
    single = changes.get("administrator_roles") or {}
    if not isinstance(single, Mapping):
        raise InvalidError("administrator_roles is invalid")
    rights |= {right: _flag(right, single[right]) for right in RIGHTS if right in single}
    if "administrator" in changes or single:
        user |= {"administrator_roles": rights, "administrator": any(rights.values())}
