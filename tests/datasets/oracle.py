"""What the datasets must say of an account, worked out one record at a time in plain Python."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

ROLES = {
    20: ("product_owner", "Owner"),
    30: ("contributor", "Contributor"),
    35: ("developer", "Developer"),
    40: ("reviewer", "Reviewer"),
    50: ("viewer", "Viewer"),
    0: ("none", "None"),
}
RIGHTS = ("account", "billing", "configuration")
REQUIRED = {
    "email",
    "enabled",
    "created_at",
    "accessed_at",
    "paid_seat",
    "administrator",
    "administrator_roles",
    "product_roles",
    "user_roles",
}
USER_KEYS = REQUIRED | {
    "id",
    "name",
    "timezone",
    "updated_at",
    "roadmaps_seat",
    "develop_seat",
    "paid_seat_group",
    "identity_provider",
}
LOST = object()
Json = dict[str, Any]


@dataclass
class Expected:
    users: list[Json] = field(default_factory=list)
    roles: list[Json] = field(default_factory=list)
    summary: list[Json] = field(default_factory=list)
    absent: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    unnamed: set[str] = field(default_factory=set)


def expect(
    users: list[Json], *, subdomain: str, connection_id: str, synced_at: datetime, names: Mapping[str, str]
) -> Expected:
    origin = {"subdomain": subdomain, "connection_id": connection_id, "synced_at": synced_at}
    expected = Expected()
    for user in users:
        _Reader(user, origin, names, expected).land()
    return expected


class _Reader:
    def __init__(self, user: Json, origin: Json, names: Mapping[str, str], expected: Expected) -> None:
        self.user = user
        self.origin = origin
        self.names = names
        self.expected = expected
        self.extra = {key: value for key, value in user.items() if key not in USER_KEYS}

    def take(self, key: str, read: Any) -> Any:
        """Read one field; null when it is absent or can't be read, which goes to extra."""
        value = self.user.get(key)
        found = None if value is None else read(value)
        if found is LOST:
            self.extra[key] = value
        if key in REQUIRED - set(LISTS) and (key not in self.user or found is LOST):
            self.expected.absent[key] += 1
        return None if found is LOST else found

    def land(self) -> None:
        access_known = "accessed_at" in self.user
        row: Json = {key: self.take(key, text) for key in ("id", "name")}
        row |= {"email": self.take("email", address), "timezone": self.take("timezone", text)}
        row |= {key: self.take(key, moment) for key in ("created_at", "updated_at", "accessed_at")}
        access_known = access_known and "accessed_at" not in self.extra
        enabled = self.take("enabled", flag)
        row |= {
            "is_enabled": enabled,
            "is_paid_seat": self.take("paid_seat", flag),
            "is_administrator": self.take("administrator", flag),
            "has_roadmaps_seat": self.take("roadmaps_seat", flag),
            "has_develop_seat": self.take("develop_seat", flag),
        }
        row |= self.rights()
        group = self.parts("paid_seat_group", ("id", "name"))
        provider = self.parts("identity_provider", ("type", "name"))
        row |= {"paid_seat_group_id": group["id"], "paid_seat_group_name": group["name"]}
        row |= {"identity_provider_type": provider["type"], "identity_provider_name": provider["name"]}
        roles = self.roles(row)
        for key, is_clear in LISTS.items():
            sent = self.user.get(key)
            if not isinstance(sent, list) or not all(isinstance(item, dict) and is_clear(item) for item in sent):
                self.expected.absent[key] += 1
        row["workspace_count"] = None
        if self.known_list("product_roles") and self.known_list("user_roles"):
            row["workspace_count"] = len({r["workspace_id"] for r in roles if r["role"] != "none"})
        row["occupies_seat"] = seat(enabled, row["is_paid_seat"])
        row["days_inactive"] = days(row["accessed_at"], self.origin["synced_at"])
        row["activity_status"] = activity(enabled, row["days_inactive"], access_known)
        self.expected.users.append(row | {"extra_json": self.extra or None} | self.origin)
        self.expected.roles += roles
        self.expected.summary += summarise(roles)

    def known_list(self, key: str) -> bool:
        return isinstance(self.user.get(key), list)

    def rights(self) -> Json:
        found: Json = dict.fromkeys(f"administers_{name}" for name in RIGHTS)
        value = self.take("administrator_roles", lambda value: value if isinstance(value, dict) else LOST)
        if value is None:
            return found
        missing = False
        for name in RIGHTS:
            right = value.get(f"administer_{name}", LOST)
            right = flag(right) if right is not None and right is not LOST else right
            missing = missing or right is LOST
            found[f"administers_{name}"] = None if right is LOST else right
        if missing:
            self.expected.absent["administrator_roles"] += 1
        given = {f"administer_{name}" for name in RIGHTS} & value.keys()
        if set(value) - given or any(value[key] is not None and flag(value[key]) is LOST for key in given):
            self.extra["administrator_roles"] = value
        return found

    def parts(self, key: str, names: tuple[str, ...]) -> Json:
        value = self.take(key, lambda value: value if isinstance(value, dict) else LOST) or {}
        found = {name: None if value.get(name) is None else text(value[name]) for name in names}
        if set(value) - set(names) or LOST in found.values():
            self.extra[key] = value
        return {name: None if part is LOST else part for name, part in found.items()}

    def items(self, key: str) -> list[Json]:
        found = self.take(key, lambda value: value if isinstance(value, list) else LOST) or []
        if any(not isinstance(item, dict) for item in found):
            self.extra[key] = found
        return [item for item in found if isinstance(item, dict)]

    def part(self, key: str, item: Json, name: str, read: Any) -> Any:
        found = None if item.get(name) is None else read(item[name])
        if found is LOST:
            self.extra[key] = self.user[key]
        return None if found is LOST else found

    def unknown(self, key: str, item: Json, known: set[str]) -> None:
        if set(item) - known:
            self.extra[key] = self.user[key]

    def roles(self, user: Json) -> list[Json]:
        found = []
        for item in self.items("product_roles"):
            key = "product_roles"
            self.unknown(key, item, {"role", "role_description", "product_id", "product_name"})
            code = self.part(key, item, "role", lambda value: number(value, 32))
            role, role_name = ROLES.get(code, (None, None))
            found.append(
                {
                    "role_kind": "workspace",
                    "workspace_id": self.part(key, item, "product_id", text),
                    "workspace_name": self.part(key, item, "product_name", text),
                    "role_id": None if code is None else str(code),
                    "role": role,
                    "role_name": first(self.part(key, item, "role_description", text), role_name),
                    "role_rank": code,
                }
            )
        for item in self.items("user_roles"):
            key = "user_roles"
            self.unknown(key, item, {"role_id", "name", "scope"})
            scope = self.part(key, item, "scope", lambda value: value if isinstance(value, dict) else LOST) or {}
            self.unknown(key, scope, {"type", "name", "id"})
            self.part(key, scope, "type", text)
            ids = [
                self.part(key, place, name, lambda value: number(value, 64))
                for place, name in ((scope, "id"), (item, "role_id"))
            ]
            workspace_id, role_id = (None if found is None else str(found) for found in ids)
            found.append(
                {
                    "role_kind": "custom",
                    "workspace_id": workspace_id,
                    "workspace_name": self.part(key, scope, "name", text),
                    "role_id": role_id,
                    "role": None,
                    "role_name": self.part(key, item, "name", text),
                    "role_rank": None,
                }
            )
        unique: dict[Any, Json] = {}
        for row in found:
            unique.setdefault((row["role_kind"], row["workspace_id"], row["role_id"]), row)
        self.expected.duplicates += len(found) - len(unique)
        who = {"user_id": user["id"], "user_email": user["email"], "user_name": user["name"]}
        for row in unique.values():
            row["workspace_name"] = first(row["workspace_name"], self.names.get(row["workspace_id"]))
            if row["workspace_name"] is None and row["workspace_id"] is not None:
                self.expected.unnamed.add(row["workspace_id"])
        return [who | row | self.origin for row in unique.values()]


def summarise(roles: list[Json]) -> list[Json]:
    found: dict[Any, Json] = {}
    for row in roles:
        start = {key: row[key] for key in ("user_id", "user_email", "role_kind", "role_id", "role", "role_name")}
        summary = found.setdefault((row["role_kind"], row["role_id"]), start | {"workspaces": []})
        summary["workspaces"].append(first(row["workspace_name"], row["workspace_id"]))
    return [row | {"workspace_count": len(row["workspaces"])} for row in found.values()]


def first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def text(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int else LOST


def address(value: Any) -> Any:
    return value if isinstance(value, str) else LOST


def is_clear_role(item: Json) -> bool:
    place = item.get("product_id")
    return number(item.get("role"), 32) in ROLES and place is not None and text(place) is not LOST


def is_clear_custom_role(item: Json) -> bool:
    scope = item.get("scope")
    in_place = scope is None or (isinstance(scope, dict) and number(scope.get("id"), 64) is not LOST)
    return in_place and number(item.get("role_id"), 64) is not LOST


LISTS = {"product_roles": is_clear_role, "user_roles": is_clear_custom_role}


def flag(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.lower(), LOST) if isinstance(value, str) else LOST


def number(value: Any, bits: int) -> Any:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]+", value):
        value = int(value)
    if type(value) is not int or not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        return LOST
    return value


def moment(value: Any) -> Any:
    if not isinstance(value, str):
        return LOST
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return LOST
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return found.replace(microsecond=found.microsecond // 1000 * 1000)


def seat(enabled: bool | None, paid: bool | None) -> bool | None:
    if enabled is False or paid is False:
        return False
    return None if enabled is None or paid is None else True


def days(accessed_at: datetime | None, synced_at: datetime) -> int | None:
    return None if accessed_at is None else max((synced_at - accessed_at).days, 0)


def activity(enabled: bool | None, inactive: int | None, access_known: bool) -> str:
    if enabled is False:
        return "disabled"
    if enabled is None or not access_known:
        return "unknown"
    if inactive is None:
        return "never_seen"
    return next((f"inactive_{days}" for days in (90, 60, 30) if inactive >= days), "active")
