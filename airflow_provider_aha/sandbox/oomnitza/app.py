"""The HTTP side of the sandbox: the endpoints of Oomnitza's REST API v3 that people and SaaS users need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from airflow_provider_aha.sandbox.exchange import Answer, Exchange, MalformedError
from airflow_provider_aha.sandbox.fault_kinds import KINDS as COMMON_KINDS
from airflow_provider_aha.sandbox.fault_kinds import Call, Kind
from airflow_provider_aha.sandbox.limits import RateLimiter, Verdict
from airflow_provider_aha.sandbox.oomnitza.instance import Instance
from airflow_provider_aha.sandbox.service import Handler, SandboxService, sent_object
from airflow_provider_aha.sandbox.setting import Json

API_ROOT = "/api/v3"

_DEFAULT_LIMIT = 200
_WRITES = ("POST", "PATCH", "DELETE")


# --- faults --------------------------------------------------------------------------------------


def _answer_with_errors(call: Call) -> Answer:
    """Answer 200, and say in the body that nothing was done."""
    return Answer.of({"errors": [call.options["reason"]]})


def _refuse_field(call: Call) -> Answer:
    """Answer as if the instance had not a field."""
    return Answer.error(call.options["status"], f"Field {call.options['field']} does not exist")


def _fail_on(call: Call) -> Answer | None:
    """Fail, whenever a text is in what was sent."""
    is_there = str(call.options["text"]).encode() in call.exchange.body
    return Answer.html(500, "Internal server error") if is_there else None


def _hide_count(call: Call) -> Answer:
    """Send a list without its total."""
    return replace(call.answer, headers={**call.answer.headers, "X-Total-Count": None})


def _cap_page(call: Call) -> None:
    """Send fewer records a page than were asked for."""
    asked = _number(call.exchange.query.get("limit"), _DEFAULT_LIMIT)
    call.exchange.query["limit"] = str(min(asked, call.options["limit"]))


def _drift(call: Call) -> None:
    """Archive the first person while the list is read."""
    for person in call.account.list_people()[:1]:
        person["deleted"] = True


_OWN = (
    Kind(
        "errors_inside",
        "a write is answered with 200, but nothing is done and the body holds errors",
        methods=_WRITES,
        options={"reason": "Something went wrong"},
        before=_answer_with_errors,
    ),
    Kind(
        "unknown_field",
        "a write is refused with `status` because the instance has no field `field`",
        methods=_WRITES,
        options={"status": 404, "field": "aha_user_id"},
        before=_refuse_field,
    ),
    Kind(
        "fails_on",
        "a write that holds `text` is answered with 500, however often it comes",
        methods=_WRITES,
        options={"text": "poison"},
        before=_fail_on,
    ),
    Kind(
        "dies",
        "with `after=N`: every request after the Nth gets a reset connection, as if the instance had died",
        before=COMMON_KINDS["connection_reset"].before,
    ),
    Kind("no_count", "lists come without `X-Total-Count`", methods=("GET",), after=_hide_count),
    Kind("small_pages", "pages have at most `limit` records", options={"limit": 2}, before=_cap_page),
    Kind(
        "list_drift",
        "just before a page of the people, once, the first of them is archived",
        r"/users",
        ("GET",),
        options={"times": 1, "after": 1},
        before=_drift,
    ),
)

_TAKEN = ("error", "connection_reset", "maintenance", "redirect", "slow", "answer_lost", "truncated_body",
          "truncated_json")  # fmt: skip

KINDS: Mapping[str, Kind] = {
    "rate_limit": replace(COMMON_KINDS["rate_limit"], options={"headers": "retry_after", "reset_in": 1.0}),
    **{name: COMMON_KINDS[name] for name in _TAKEN},
    "answer_lost": replace(COMMON_KINDS["answer_lost"], methods=_WRITES),
    **{kind.name: kind for kind in _OWN},
}
"""All sorts of faults, by name."""


# --- the service ---------------------------------------------------------------------------------


class OomnitzaApp(SandboxService):
    """An ASGI application that answers as Oomnitza's API description says.

    :param instance: the state.
    :param latency: how long every answer takes, in seconds.
    """

    name = "an Oomnitza sandbox"
    root = API_ROOT
    marker = "X-Oomnitza-Sandbox"
    kinds = KINDS

    def __init__(self, instance: Instance, *, latency: float = 0.0) -> None:
        super().__init__(instance, limiter=RateLimiter(enabled=False), latency=latency)
        self.instance = instance

    def _key(self, headers: Mapping[str, str]) -> str:
        """Find the API token of a request."""
        return headers.get("authorization2", "")

    def _refuse(self, exchange: Exchange) -> Answer | None:
        """Turn a request away whose token has no right to it."""
        may_write = self.instance.tokens.get(exchange.key)
        if may_write is None:
            return Answer.error(401, "Unauthorized")
        if not may_write and exchange.method != "GET":
            return Answer.error(403, "Insufficient permissions")
        return None

    def _limit_headers(self, _verdict: Verdict) -> Mapping[str, str]:
        """Say nothing of limits: none are documented."""
        return {}

    def _describe(self) -> Json:
        """Say what the instance holds."""
        instance = self.instance
        return {
            "people": len(instance.list_people()),
            "saas": list(instance.saas.values()),
            "saas_users": len(instance.saas_users),
            "saas_roles": len(instance.saas_roles),
        }

    def _table(self) -> list[tuple[str, str, Handler]]:
        """List the endpoints."""
        users, roles = "/saas/{saas_id}/users", "/saas/{saas_id}/roles"
        return [
            ("GET", "/users", self._list_people),
            ("POST", "/users", self._post_person),
            ("GET", "/users/meta", self._get_meta),
            ("GET", "/users/{username:path}", self._get_person),
            ("PATCH", "/users/{username:path}", self._patch_person),
            ("DELETE", "/users/{username:path}", self._delete_person),
            ("GET", "/saas", self._list_saas),
            ("POST", "/saas", self._post_saas),
            ("GET", users, self._list_saas_users),
            ("POST", users, self._assign),
            ("POST", f"{users}/{{user_id}}", self._post_saas_user),
            ("GET", "/saas_users", self._list_all_saas_users),
            ("PATCH", "/saas_users/{state}", self._patch_saas_users),
            ("GET", roles, self._list_roles),
            ("PATCH", f"{roles}/users", self._patch_roles),
        ]

    # --- people ----------------------------------------------------------------------------------

    def _list_people(self, exchange: Exchange) -> Answer:
        """GET /users."""
        deleted = exchange.query.get("include_deleted") == "1"
        return _page(self.instance.list_people(deleted=deleted), exchange)

    def _post_person(self, exchange: Exchange) -> Answer:
        """POST /users."""
        return Answer.of(self.instance.create_person(sent_object(exchange)))

    def _get_meta(self, _exchange: Exchange) -> Answer:
        """GET /users/meta."""
        return Answer.of(self.instance.describe_fields())

    def _get_person(self, exchange: Exchange) -> Answer:
        """GET /users/:username."""
        return Answer.of(self.instance.person(exchange.params["username"]))

    def _patch_person(self, exchange: Exchange) -> Answer:
        """PATCH /users/:username."""
        return Answer.of(self.instance.update_person(exchange.params["username"], sent_object(exchange)))

    def _delete_person(self, exchange: Exchange) -> Answer:
        """DELETE /users/:username."""
        self.instance.archive_person(exchange.params["username"])
        return Answer(204)

    # --- SaaS ------------------------------------------------------------------------------------

    def _list_saas(self, exchange: Exchange) -> Answer:
        """GET /saas."""
        return _page(list(self.instance.saas.values()), exchange)

    def _post_saas(self, exchange: Exchange) -> Answer:
        """POST /saas."""
        saas_id = self.instance.add_saas(str(sent_object(exchange).get("name")))
        return Answer.of({"saas_id": saas_id}, 201)

    def _list_saas_users(self, exchange: Exchange) -> Answer:
        """GET /saas/:id/users."""
        return _page(self.instance.users_of(exchange.params["saas_id"]), exchange)

    def _list_all_saas_users(self, exchange: Exchange) -> Answer:
        """GET /saas_users."""
        return _page([one for saas_id in self.instance.saas for one in self.instance.users_of(saas_id)], exchange)

    def _assign(self, exchange: Exchange) -> Answer:
        """POST /saas/:id/users."""
        for row in _sent_list(exchange):
            if row.get("assign"):
                self.instance.assign(exchange.params["saas_id"], str(row.get("user_id")))
        return Answer.of([])

    def _post_saas_user(self, exchange: Exchange) -> Answer:
        """POST /saas/:id/users/:user_id."""
        one = self.instance.saas_user(exchange.params["saas_id"], exchange.params["user_id"])
        one["user_external_id"] = sent_object(exchange).get("user_external_id")
        return Answer.of({"user_external_id": one["user_external_id"], "errors": []})

    def _patch_saas_users(self, exchange: Exchange) -> Answer:
        """PATCH /saas_users/activate and /saas_users/deactivate."""
        active = exchange.params["state"] == "activate"
        ids = sent_object(exchange).get("saas_user_ids") or []
        done = [{"saas_user_id": str(one), "error": self.instance.activate(str(one), active)} for one in ids]
        return Answer.of(done)

    def _list_roles(self, exchange: Exchange) -> Answer:
        """GET /saas/:id/roles."""
        return _page(self.instance.roles_of(exchange.params["saas_id"]), exchange)

    def _patch_roles(self, exchange: Exchange) -> Answer:
        """PATCH /saas/:id/roles/users."""
        body = sent_object(exchange)
        self.instance.set_roles(exchange.params["saas_id"], list(map(str, body["users"])), body["roles"])
        return Answer.of({})


def _page(rows: list[Json], exchange: Exchange) -> Answer:
    """Answer with one page of a list."""
    limit, skip = (
        _number(exchange.query.get(key), default) for key, default in (("limit", _DEFAULT_LIMIT), ("skip", 0))
    )
    return replace(Answer.of(rows[skip : skip + limit]), headers={"X-Total-Count": str(len(rows))})


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdecimal() else default


def _sent_list(exchange: Exchange) -> list[Any]:
    """Read the JSON list that was sent."""
    try:
        body = orjson.loads(exchange.body)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, list):
        raise MalformedError("The request body is not a JSON list")
    return body
