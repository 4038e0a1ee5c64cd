"""The state of the sandbox instance: people, SaaS applications, their users and roles."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_aha.sandbox.exchange import InvalidError, NotFoundError
from airflow_provider_aha.sandbox.setting import Json

TOKEN = "oomnitza-sandbox-token"  # noqa: S105
READ_ONLY_TOKEN = "oomnitza-sandbox-read-only"  # noqa: S105

ROLES = {25: "Employee", 30: "IT administrator", 1: "System administrator"}
"""The roles that a person can have, by id."""

_READ_ONLY = frozenset(
    {"user_id", "uid", "change_date", "changed_by", "creation_date", "created_by", "version", "last_login_date"}
)
_REQUIRED = ("username", "email", "role")
_TYPES: Mapping[str, tuple[type, ...]] = {"text": (str,), "integer": (int,), "boolean": (bool,), "date": (int, str)}


def _field(data_type: str = "text", *, unique: bool = False, optional: bool = True, editable: bool = True) -> Json:
    return {"data_type": data_type, "unique": unique, "optional": optional, "editable": editable}


STANDARD_FIELDS: Mapping[str, Json] = {
    "username": _field(unique=True, optional=False),
    "email": _field(unique=True, optional=False),
    "role": _field("integer", optional=False),
    "full_name": _field(),
    "first_name": _field(),
    "last_name": _field(),
    "suspended": _field("boolean"),
    "address": _field(),
    "phone_number": _field(),
    "position": _field(),
    "external_id": _field(),
    "email_subscription": _field("boolean"),
    "deleted": _field("boolean"),
    **{name: _field(editable=False) for name in sorted(_READ_ONLY)},
}
"""The fields of people that every instance has."""

AHA_FIELDS: Mapping[str, Json] = {
    "aha_user_id": _field(unique=True),
    **{
        name: _field(data_type)
        for name, data_type in {
            "aha_accessed_at": "date",
            "aha_connection_id": "text",
            "aha_subdomain": "text",
            "aha_synced_at": "date",
            "aha_created_at": "date",
            "aha_is_administrator": "boolean",
            "aha_is_enabled": "boolean",
            "aha_is_paid_seat": "boolean",
            "aha_updated_at": "date",
        }.items()
    },
}
"""Fields of people that an administrator has added for Aha!."""


class Instance:
    """An Oomnitza in memory. All methods may be called while a server serves it.

    :param people: how many people it has at the start.
    :param fields: the fields that were added to people, by name.
    :param clock: seconds since 1970; what is written to ``change_date``.
    """

    def __init__(
        self,
        people: int = 3,
        *,
        fields: Mapping[str, Json] = AHA_FIELDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.lock = threading.RLock()
        self.tokens = {TOKEN: True, READ_ONLY_TOKEN: False}
        """The API tokens, and whether they may write."""
        self.fields: dict[str, Json] = {**STANDARD_FIELDS, **fields}
        self.roles = dict(ROLES)
        """The roles that a person can have: names by number."""
        self.people: dict[str, Json] = {}
        """People by ``user_id``."""
        self.saas: dict[str, Json] = {}
        """SaaS applications by ``saas_id``."""
        self.saas_users: dict[str, Json] = {}
        """SaaS users by ``saas_user_id``."""
        self.saas_roles: dict[str, Json] = {}
        """SaaS roles by ``role_id``."""
        self._clock = clock
        self._numbers: dict[str, int] = {}
        self.add_saas("Aha!")
        for number in range(people):
            name = f"employee{number}"
            self.add_person(username=f"{name}@example.com", full_name=f"Employee {number}")

    # --- past all rules, for tests ---------------------------------------------------------------

    def add_person(self, **fields: Any) -> Json:
        """Add a person as if somebody had made it by hand.

        :param fields: what is known; the email is the username if not given.
        :returns: the person.
        """
        fields = {"email": fields.get("username"), "role": 25, **fields}
        with self.lock:
            return self._new_person(fields)

    def add_saas(self, name: str) -> str:
        """Add a SaaS application.

        :param name: of the application.
        :returns: its ``saas_id``.
        """
        saas_id = self._number("saas", 100)
        self.saas[saas_id] = {"saas_id": saas_id, "name": name}
        return saas_id

    def person(self, username: str) -> Json:
        """Find a person.

        :param username: in any case.
        :returns: the person.
        :raises NotFoundError: when there is none.
        """
        for person in self.people.values():
            if person["username"].casefold() == username.casefold() and not person["deleted"]:
                return person
        raise NotFoundError("user")

    # --- people ----------------------------------------------------------------------------------

    def list_people(self, *, deleted: bool = False) -> list[Json]:
        """List people.

        :param deleted: archived ones too.
        :returns: in the order in which they came.
        """
        return [person for person in self.people.values() if deleted or not person["deleted"]]

    def create_person(self, fields: Json) -> Json:
        """Create a person.

        :param fields: of the person.
        :returns: the person.
        :raises InvalidError: when a value is missing or not taken.
        """
        for name in _REQUIRED:
            if fields.get(name) in (None, ""):
                raise InvalidError(f"Field {name} is required")
        self._check(fields, None)
        return self._new_person(fields)

    def update_person(self, username: str, changes: Json) -> Json:
        """Change a person.

        :param username: of the person.
        :param changes: the fields to set.
        :returns: the person.
        :raises NotFoundError: when there is none.
        :raises InvalidError: when a value is not taken.
        """
        person = self.person(username)
        self._check(changes, person)
        person.update(changes, version=person["version"] + 1, change_date=int(self._clock()))
        return person

    def archive_person(self, username: str) -> None:
        """Archive a person.

        :param username: of the person.
        :raises NotFoundError: when there is none.
        """
        self.person(username)["deleted"] = True

    def _check(self, fields: Json, person: Json | None) -> None:
        for name, value in fields.items():
            field = self.fields.get(name)
            if field is None:
                raise InvalidError(f"Field {name} does not exist")
            if not field["editable"]:
                raise InvalidError(f"Field {name} can not be edited")
            self._check_value(name, field, value)
            if field["unique"] and value is not None and self._is_taken(name, value, person):
                raise InvalidError(f"Field {name} must be unique: {value} is taken")

    def describe_fields(self) -> list[Json]:
        """Describe the fields of people; a role is chosen from a list."""
        roles = [{"key": str(number), "value": name, "help_text": ""} for number, name in self.roles.items()]
        return [
            {"name": name, **field, **({"searchhelp": roles} if name == "role" else {})}
            for name, field in self.fields.items()
        ]

    def _check_value(self, name: str, field: Json, value: Any) -> None:
        if value is None:
            if not field["optional"]:
                raise InvalidError(f"Field {name} is required")
            return
        number_as_flag = isinstance(value, bool) and field["data_type"] != "boolean"
        if number_as_flag or not isinstance(value, _TYPES[field["data_type"]]):
            raise InvalidError(f"Field {name} must be of type {field['data_type']}")
        if name == "role" and value not in self.roles:
            raise InvalidError(f"Field role has no value {value}")

    def _is_taken(self, name: str, value: Any, person: Json | None) -> bool:
        wanted = str(value).casefold()
        return any(
            other is not person and str(other.get(name, "")).casefold() == wanted for other in self.list_people()
        )

    def _new_person(self, fields: Json) -> Json:
        now = int(self._clock())
        user_id = self._number("person", 5000)
        person = {
            **dict.fromkeys(self.fields),
            "suspended": False,
            "deleted": False,
            "email_subscription": True,
            "version": 1,
            "creation_date": now,
            "change_date": now,
            "created_by": "api",
            "changed_by": "api",
            "user_id": user_id,
            "uid": f"{int(user_id):032x}",
            **copy.deepcopy(fields),
        }
        self.people[user_id] = person
        return person

    # --- SaaS ------------------------------------------------------------------------------------

    def saas_app(self, saas_id: str) -> Json:
        """Find a SaaS application.

        :param saas_id: its id.
        :returns: the application.
        :raises NotFoundError: when there is none.
        """
        if saas_id not in self.saas:
            raise NotFoundError("saas")
        return self.saas[saas_id]

    def users_of(self, saas_id: str) -> list[Json]:
        """List the users of a SaaS application, as the API shows them.

        :param saas_id: its id.
        :returns: the SaaS users, each with its roles.
        """
        self.saas_app(saas_id)
        return [self._shown(one) for one in self.saas_users.values() if one["saas_id"] == saas_id]

    def saas_user(self, saas_id: str, user_id: str) -> Json:
        """Find a SaaS user.

        :param saas_id: the application.
        :param user_id: of the person.
        :returns: the SaaS user.
        :raises NotFoundError: when the person is not assigned to it.
        """
        for one in self.saas_users.values():
            if one["saas_id"] == saas_id and one["user_id"] == user_id:
                return one
        raise NotFoundError("saas user")

    def assign(self, saas_id: str, user_id: str) -> Json:
        """Give a person a SaaS application; an assigned one stays as it is.

        :param saas_id: the application.
        :param user_id: of the person.
        :returns: the SaaS user.
        """
        self.saas_app(saas_id)
        if user_id not in self.people:
            raise NotFoundError("user")
        try:
            return self.saas_user(saas_id, user_id)
        except NotFoundError:
            pass
        saas_user_id = self._number("saas user", 70_000)
        self.saas_users[saas_user_id] = {
            "saas_user_id": saas_user_id,
            "saas_id": saas_id,
            "user_id": user_id,
            "user_external_id": None,
            "last_visit": None,
            "deactivated": False,
            "role_ids": [],
        }
        return self.saas_users[saas_user_id]

    def activate(self, saas_user_id: str, active: bool) -> str | None:
        """Activate or deactivate a SaaS user.

        :param saas_user_id: its id.
        :param active: which of the two.
        :returns: what is wrong, if anything is.
        """
        one = self.saas_users.get(saas_user_id)
        if one is None:
            return "SaaS user does not exist"
        one["deactivated"] = not active
        return None

    def roles_of(self, saas_id: str) -> list[Json]:
        """List the roles of a SaaS application.

        :param saas_id: its id.
        :returns: each with the count of its users.
        """
        self.saas_app(saas_id)
        taken = [role_id for one in self.saas_users.values() for role_id in one["role_ids"]]
        return [
            {**role, "users_count": taken.count(role["role_id"])}
            for role in self.saas_roles.values()
            if role["saas_id"] == saas_id
        ]

    def set_roles(self, saas_id: str, user_ids: list[str], roles: list[Json]) -> None:
        """Set the roles of SaaS users in place of theirs; roles that are new are made.

        :param saas_id: the application.
        :param user_ids: of the people.
        :param roles: external id and label of each.
        """
        users = [self.saas_user(saas_id, user_id) for user_id in user_ids]
        role_ids = [self._role(saas_id, role)["role_id"] for role in roles]
        for one in users:
            one["role_ids"] = list(role_ids)

    def _role(self, saas_id: str, wanted: Json) -> Json:
        """Find a role by its external id, or make it."""
        for role in self.saas_roles.values():
            if role["saas_id"] == saas_id and role["role_external_id"] == wanted.get("role_external_id"):
                return role
        role_id = self._number("role", 900)
        self.saas_roles[role_id] = {
            "role_id": role_id,
            "saas_id": saas_id,
            "source": "api",
            "role_external_id": wanted.get("role_external_id"),
            "role_external_label": wanted.get("role_external_label"),
        }
        return self.saas_roles[role_id]

    def _shown(self, one: Json) -> Json:
        person = self.people[one["user_id"]]
        keys = ("role_id", "role_external_id", "role_external_label")
        roles = [{key: self.saas_roles[role_id][key] for key in keys} for role_id in one["role_ids"]]
        shown = {key: value for key, value in one.items() if key != "role_ids"}
        return {**shown, "roles": roles, **{key: person[key] for key in ("email", "username", "full_name")}}

    def _number(self, kind: str, first: int) -> str:
        """Return a new id of its kind."""
        self._numbers[kind] = self._numbers.get(kind, first - 1) + 1
        return str(self._numbers[kind])
