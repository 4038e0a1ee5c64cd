"""Oomnitza's REST API v3: people, SaaS users and SaaS roles.

Plain Python without Airflow. What is called here is in Oomnitza's published API description; where that leaves a
form open, every plausible one is read, and what can't be read is an error.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import orjson
import requests

from airflow_provider_aha.api.rest import RestClient, Service
from airflow_provider_aha.exceptions import (
    AhaAuthenticationError,
    AhaConfigurationError,
    AhaError,
    AhaIncompleteReadError,
    AhaNotFoundError,
    AhaPermissionError,
    AhaProtocolError,
    AhaValidationError,
)
from airflow_provider_aha.push.targets.oomnitza.config import API_PREFIX, OomnitzaConfig

log = logging.getLogger(__name__)

Json = dict[str, Any]

_PASSES = 3
_LONGEST_REASON = 300
_LONGEST_NUMBER, _SHOWN_ROLES = 19, 30
_NOT_MENTIONED = "The answer doesn't mention this SaaS user."
_PERSON_PATH = "/users/:username"
_SAAS_USER_PATH = "/saas/:id/users/:user_id"

_OOMNITZA = Service(
    name="Oomnitza",
    account="an Oomnitza instance",
    prefix=API_PREFIX,
    auth_header="Authorization2",
    auth_prefix="",
    sandbox_header="X-Oomnitza-Sandbox",
    idempotent=frozenset({"GET", "PATCH"}),
    successes=frozenset({200, 201, 204}),
    refusals={
        400: (AhaValidationError, "refused what was sent (400)."),
        401: (
            AhaAuthenticationError,
            (
                "refused the API token (401): it is wrong, was revoked, or its user is archived. Make a new one in "
                "Oomnitza under Configuration > Security > API tokens and put it into the connection's password "
                "field."
            ),
        ),
        403: (
            AhaPermissionError,
            (
                "doesn't let this API token do that (403): the role of its user needs the permission to read and "
                "change people, and software for SaaS users."
            ),
        ),
        404: (
            AhaNotFoundError,
            (
                "knows no such record or field (404), or the token can't see it. If nothing is found at all, the "
                "subdomain is wrong."
            ),
        ),
        409: (AhaValidationError, "has another record with one of these unique values (409)."),
        422: (AhaValidationError, "refused a value of the request (422)."),
    },
)


class OomnitzaClient(RestClient):
    """A client for one Oomnitza instance, for one thread.

    :param config: instance, token and limits.
    :param user_agent: what to add to the ``User-Agent``.
    :param clock: time and sleep; for tests.
    """

    service = _OOMNITZA
    config: OomnitzaConfig
    _total: int | None = None

    # ---- people ---------------------------------------------------------------------------------------

    def list_people(self) -> list[Json]:
        """Read all people, without archived ones (``GET /users``).

        :return: the records as Oomnitza sends them.
        :raises AhaIncompleteReadError: when the list kept changing while it was read.
        :raises AhaError: when no usable answer came; the subclass tells why.
        """
        return self._list("/users", "user_id")

    def count_people(self) -> int | None:
        """Return how many people there are, by one small request; None where Oomnitza doesn't say.

        :raises AhaError: as :meth:`list_people`.
        """
        self._call("GET", "/users", params={"limit": 1, "skip": 0}, decode=_records)
        return self._total

    def people_fields(self) -> dict[str, Json] | None:
        """Return the fields of people by name (``GET /users/meta``).

        :return: what Oomnitza says of each; None where it doesn't say it in a form that can be read.
        :raises AhaError: as :meth:`list_people`.
        """
        try:
            return self._call("GET", "/users/meta", decode=_fields)
        except (AhaNotFoundError, AhaPermissionError, AhaProtocolError) as error:
            log.warning("The fields of people can't be read, so they aren't checked: %s", error)
            return None

    def role_number(self, role: str) -> int:
        """Return the number of a role that people can have.

        :param role: the role's name, in any case, or its number.
        :raises AhaConfigurationError: when the instance has no such role, or several, or doesn't say which it has.
        :raises AhaError: as :meth:`list_people`.
        """
        number = _whole_number(role)
        if number is not None:
            return number
        roles = roles_in(self.people_fields() or {})
        if not roles:
            raise AhaConfigurationError(
                f"Oomnitza ({self.config.host}) doesn't say which roles it has: give the number of the role. "
                "Nothing was sent."
            )
        found = [number for number, name in roles.items() if _folded(name) == _folded(role)]
        if len(found) != 1:
            wrong = f"{len(found)} roles of this name" if found else "no role of this name"
            raise AhaConfigurationError(
                f"Oomnitza ({self.config.host}) has {wrong}; there are {named_roles(roles)}. Nothing was sent."
            )
        return found[0]

    def get_person(self, username: str) -> Json:
        """Return one person (``GET /users/:username``).

        :param username: the person's username.
        :raises AhaNotFoundError: when there is none.
        :raises AhaError: as :meth:`list_people`.
        """
        return self._call("GET", f"/users/{_escaped(username)}", decode=_person, shown=_PERSON_PATH)

    def create_person(self, fields: Mapping[str, Any]) -> Json:
        """Create a person (``POST /users``).

        When the connection breaks, Oomnitza is asked whether the person is there before another try: nobody is
        created twice.

        :param fields: the fields to set; ``username`` among them.
        :return: the person as Oomnitza answers.
        :raises AhaValidationError: when Oomnitza refuses a value.
        :raises AhaError: as :meth:`list_people`.
        """
        for attempt in range(1, self.config.max_retries + 2):
            try:
                return self._call("POST", "/users", body=dict(fields), decode=_person)
            except AhaError as error:
                if attempt > self.config.max_retries or not self._is_retryable(error, again=True):
                    raise
                log.info("POST /users: %s Looking whether it was done.", error)
                self._clock.sleep(self._backoff(error, attempt))
            try:
                there = self.get_person(str(fields["username"]))
            except AhaNotFoundError:
                continue
            return self.update_person(str(there["username"]), fields)
        raise AssertionError("the last try returns or raises")

    def update_person(self, username: str, changes: Mapping[str, Any]) -> Json:
        """Change one person (``PATCH /users/:username``); safe to retry, because it sets a state.

        :param username: the person's username, as Oomnitza has it.
        :param changes: the fields to set.
        :return: the person as Oomnitza answers.
        :raises AhaError: as :meth:`create_person`.
        """
        path = f"/users/{_escaped(username)}"
        return self._call("PATCH", path, body=dict(changes), decode=_person, shown=_PERSON_PATH)

    # ---- SaaS users -----------------------------------------------------------------------------------

    def list_saas(self) -> list[Json]:
        """Read all SaaS applications (``GET /saas``).

        :raises AhaError: as :meth:`list_people`.
        """
        return self._list("/saas", "saas_id")

    def list_saas_users(self, saas_id: str) -> list[Json]:
        """Read the users of a SaaS application, deactivated ones too (``GET /saas/:id/users``).

        :param saas_id: the application.
        :raises AhaError: as :meth:`list_people`.
        """
        return self._list(f"/saas/{_escaped(saas_id)}/users", "user_id")

    def assign_saas_users(self, saas_id: str, user_ids: Iterable[str]) -> None:
        """Give people a SaaS application (``POST /saas/:id/users``); who has it keeps it.

        :param saas_id: the application.
        :param user_ids: ``user_id`` of the people.
        :raises AhaError: as :meth:`create_person`.
        """
        body = [{"user_id": user_id, "assign": True} for user_id in user_ids]
        self._call("POST", f"/saas/{_escaped(saas_id)}/users", body=body, decode=_accepted, again=True)

    def set_external_id(self, saas_id: str, user_id: str, external_id: str) -> None:
        """Say which user of the SaaS application a person is (``POST /saas/:id/users/:user_id``).

        :param saas_id: the application.
        :param user_id: ``user_id`` of the person.
        :param external_id: the user's id in the application.
        :raises AhaError: as :meth:`create_person`.
        """
        path = f"/saas/{_escaped(saas_id)}/users/{_escaped(user_id)}"
        body = {"user_external_id": external_id}
        self._call("POST", path, body=body, decode=_accepted, shown=_SAAS_USER_PATH, again=True)

    def activate_saas_users(self, saas_user_ids: Sequence[str], *, active: bool) -> dict[str, str | None]:
        """Activate or deactivate SaaS users (``PATCH /saas_users/activate``, ``.../deactivate``).

        :param saas_user_ids: which.
        :param active: whether to activate them.
        :return: the reason of a refusal by id; None for those that were done.
        :raises AhaError: as :meth:`create_person`.
        """
        path = f"/saas_users/{'activate' if active else 'deactivate'}"
        answer = self._call("PATCH", path, body={"saas_user_ids": list(saas_user_ids)}, decode=_per_saas_user)
        return {saas_user_id: answer.get(saas_user_id, _NOT_MENTIONED) for saas_user_id in saas_user_ids}

    def list_saas_roles(self, saas_id: str) -> list[Json]:
        """Read the roles of a SaaS application (``GET /saas/:id/roles``).

        :param saas_id: the application.
        :raises AhaError: as :meth:`list_people`.
        """
        return self._list(f"/saas/{_escaped(saas_id)}/roles", "role_id")

    def set_saas_roles(self, saas_id: str, user_ids: Sequence[str], roles: Sequence[Mapping[str, str]]) -> None:
        """Set the roles of SaaS users, in place of all that they have (``PATCH /saas/:id/roles/users``).

        :param saas_id: the application.
        :param user_ids: ``user_id`` of the people.
        :param roles: ``role_external_id`` and ``role_external_label`` of each; Oomnitza creates those it lacks.
        :raises AhaError: as :meth:`create_person`.
        """
        path = f"/saas/{_escaped(saas_id)}/roles/users"
        body = {"users": list(user_ids), "roles": [dict(role) for role in roles]}
        self._call("PATCH", path, body=body, decode=_accepted)

    # ---- lists ----------------------------------------------------------------------------------------

    def _list(self, path: str, key: str) -> list[Json]:
        """Read a list page by page, again from the start when it changed meanwhile."""
        for _ in range(_PASSES):
            records, is_steady = self._one_pass(path)
            if not all(record.get(key) for record in records):
                raise AhaProtocolError(
                    f"{self._where} lists a record without {key}.", status=200, method="GET", path=path
                )
            if is_steady and len({str(record[key]) for record in records}) == len(records):
                return records
            log.warning("%s of %s changed while it was read. Reading again.", path, self.config.account)
        raise AhaIncompleteReadError(
            f"The list {path} of {self.config.account} could not be read completely: in each of {_PASSES} passes "
            "it changed meanwhile. Nothing was sent. Run again at a quieter time.",
            method="GET",
            path=path,
        )

    def _one_pass(self, path: str) -> tuple[list[Json], bool]:
        """Return the records of a list, and whether their count stayed and is right, where Oomnitza says it."""
        size = self.config.page_size
        records: list[Json] = []
        counts: set[int | None] = set()
        while True:
            page = self._call("GET", path, params={"limit": size, "skip": len(records)}, decode=_records)
            counts.add(self._total)
            # A list without pages comes whole, whatever was asked for, and then again.
            if not page or page == records:
                break
            records += page
            # The server may allow fewer records a page than were asked for: only its count ends the list early.
            if len(records) == self._total or len(page) > size:
                break
        return records, counts in ({None}, {len(records)})

    # ---- requests -------------------------------------------------------------------------------------

    def _exchange(self, *arguments: Any) -> tuple[requests.Response, bytes | None]:
        response, answer = super()._exchange(*arguments)
        count = response.headers.get("X-Total-Count", "")
        self._total = int(count) if count.isascii() and count.isdecimal() else None
        return response, answer

    def _reason(self, answer: bytes) -> str | None:
        return reason_of(answer).replace(self.config.api_key, "***")[:_LONGEST_REASON] or None


def reason_of(answer: bytes) -> str:
    """Find what an answer says about a failure; its form is not documented, so every usual one is read.

    :param answer: the body.
    :return: the first reason in it, perhaps with names and emails; empty when there is none.
    """
    try:
        found = orjson.loads(answer)
    except orjson.JSONDecodeError:
        text = answer[: 4 * _LONGEST_REASON].decode("utf-8", "replace")
        return "" if text.lstrip().startswith("<") else " ".join(text.split())
    return _first_reason(found)


def _first_reason(found: Any) -> str:
    if isinstance(found, str):
        return " ".join(found.split())
    if isinstance(found, list):
        return next(filter(None, map(_first_reason, found)), "")
    if not isinstance(found, dict):
        return ""
    for key in ("message", "error", "error_description", "description", "detail"):
        if reason := _first_reason(found.get(key)):
            return reason
    errors = found.get("errors")
    if isinstance(errors, dict):
        return next((f"{field}: {_first_reason(reason)}" for field, reason in errors.items() if reason), "")
    return _first_reason(errors)


def _accepted(body: bytes) -> Any:
    """Read an answer whose content doesn't matter, unless it holds errors."""
    answer = orjson.loads(body) if body.strip() else None
    parts = answer if isinstance(answer, list) else [answer]
    for part in parts:
        if isinstance(part, dict) and (part.get("error") or part.get("errors")):
            raise AhaValidationError(
                "Oomnitza answered with success, and with an error inside.", status=200, detail=_first_reason(part)
            )
    return answer


def _person(body: bytes) -> Json:
    person = _accepted(body)
    if not isinstance(person, dict) or not person.get("username"):
        raise ValueError("no person with a username")
    return person


def _records(body: bytes) -> list[Json]:
    records = orjson.loads(body)
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ValueError("not a list of records")
    return records


def _fields(body: bytes) -> dict[str, Json]:
    """Read the description of fields: a list of them, or an object with them by name."""
    found = orjson.loads(body)
    if isinstance(found, dict) and isinstance(found.get("fields"), (list, dict)):
        found = found["fields"]
    if isinstance(found, dict):
        fields = {str(name): field for name, field in found.items() if isinstance(field, dict)}
    elif isinstance(found, list):
        named = ((_name_of(field), field) for field in found if isinstance(field, dict))
        fields = {name: field for name, field in named if name}
    else:
        fields = {}
    if not fields:
        raise ValueError("no description of fields")
    return fields


def roles_in(fields: Mapping[str, Json]) -> dict[int, str]:
    """Return the roles that people can have, by number; empty where the instance doesn't say.

    They are the values of the field ``role``. Oomnitza describes a value by key, value and help text; which of the
    first two is the number, it doesn't say.

    :param fields: the fields of people.
    """
    values = (fields.get("role") or {}).get("searchhelp")
    found: dict[int, str] = {}
    for one in values if isinstance(values, list) else []:
        if isinstance(one, dict):
            key, value = one.get("key"), one.get("value")
            number, name = (
                (_whole_number(key), value) if _whole_number(key) is not None else (_whole_number(value), key)
            )
            if number is not None:
                found[number] = str(name)
    return found


def named_roles(roles: Mapping[int, str]) -> str:
    """Name roles, for a person who is to choose one.

    :param roles: their names by number.
    """
    shown = [f"{name} ({number})" for number, name in sorted(roles.items())]
    more = f" and {len(shown) - _SHOWN_ROLES} more" if len(shown) > _SHOWN_ROLES else ""
    return f"{', '.join(shown[:_SHOWN_ROLES])}{more}"


def _whole_number(value: object) -> int | None:
    text = str(value).strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < _LONGEST_NUMBER else None


def _folded(name: str) -> str:
    return " ".join(name.split()).casefold()


def _name_of(field: Json) -> str:
    return next((str(field[key]) for key in ("name", "field", "field_id", "id") if field.get(key)), "")


def _per_saas_user(body: bytes) -> dict[str, str | None]:
    answers = _records(body)
    return {str(one["saas_user_id"]): _first_reason(one.get("error")) or None for one in answers}


def _escaped(name: str) -> str:
    """Return a name as one part of a path."""
    if not name.strip() or name in (".", ".."):
        raise AhaConfigurationError("An empty name, or one of dots, names no record of Oomnitza.")
    return quote(name, safe="")
