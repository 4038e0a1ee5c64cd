"""The HTTP side of the sandbox: the endpoints of the API, and the ones that control the sandbox."""

from __future__ import annotations

import re
from collections.abc import Mapping

import orjson

from airflow_provider_aha.sandbox.account import Account, id_order, short_user
from airflow_provider_aha.sandbox.exchange import (
    API_ROOT,
    Answer,
    Exchange,
    MalformedError,
    NotFoundError,
    paginated,
    pagination,
)
from airflow_provider_aha.sandbox.fault_kinds import KINDS
from airflow_provider_aha.sandbox.limits import RateLimiter
from airflow_provider_aha.sandbox.service import (
    Cut,
    Handler,
    RecordedRequest,
    SandboxService,
    sent_object,
)
from airflow_provider_aha.sandbox.setting import Json

__all__ = ["RecordedRequest", "SandboxApp"]

_ADMINISTRATORS_ONLY = re.compile(r"/(users|paid_seat_groups|identity_providers)(/.*)?")
_BEARER = re.compile(r"(?i:bearer|token) +(\S+)\s*")
_NOT_IN_ONE_USER = ("user_roles", "paid_seat_group")
_NOT_IN_UPDATED_USER = (*_NOT_IN_ONE_USER, "roadmaps_seat", "develop_seat")


class SandboxApp(SandboxService):
    """An ASGI application that answers as Aha! does.

    :param account: the state.
    :param limiter: the rate limits.
    :param latency: how long every answer takes, in seconds; requests wait side by side.
    :param cut: ends a connection; without it the faults that do so can't be used.
    """

    name = "an Aha! sandbox"
    root = API_ROOT
    marker = "X-Aha-Sandbox"
    kinds = KINDS

    def __init__(
        self,
        account: Account,
        *,
        limiter: RateLimiter | None = None,
        latency: float = 0.0,
        cut: Cut | None = None,
    ) -> None:
        super().__init__(account, limiter=limiter, latency=latency, cut=cut)
        self.account = account

    def _key(self, headers: Mapping[str, str]) -> str:
        """Find the API key of a request."""
        found = _BEARER.fullmatch(headers.get("authorization", ""))
        return found[1] if found else ""

    def _refuse(self, exchange: Exchange) -> Answer | None:
        """Turn a request away whose key has no right to it."""
        owner = self.account.owner(exchange.key)
        if owner is None:
            return Answer.html(401, "HTTP Token: Access denied.")
        if _ADMINISTRATORS_ONLY.fullmatch(exchange.path) and not owner.get("administrator"):
            return Answer.error(403, "You are not authorized to perform this action")
        return None

    # --- the API ---------------------------------------------------------------------------------

    def _table(self) -> list[tuple[str, str, Handler]]:
        """List the endpoints of the API."""
        one_user, one_group = "/users/{user_id}", "/paid_seat_groups/{group_id}"
        return [
            ("GET", "/users", self._list_users),
            ("GET", one_user, self._get_user),
            ("PUT", one_user, self._put_user),
            ("GET", f"{one_user}/product_roles", self._list_roles),
            ("POST", f"{one_user}/product_roles", self._post_role),
            ("DELETE", f"{one_user}/product_roles/{{product_id}}", self._delete_role),
            ("GET", f"{one_user}/user_roles", self._list_custom_roles),
            ("POST", f"{one_user}/user_roles", self._post_custom_role),
            ("DELETE", f"{one_user}/user_roles/{{product_id}}", self._delete_custom_role),
            ("GET", "/me", self._me),
            ("GET", "/products", self._list_products),
            ("GET", "/products/{product_id}", self._get_product),
            ("GET", "/products/{product_id}/users", self._list_product_users),
            ("POST", "/products/{product_id}/users", self._post_product_user),
            ("GET", "/paid_seat_groups", self._list_seat_groups),
            ("PUT", one_group, self._put_seat_group),
            ("POST", f"{one_group}/modify_user", self._modify_seat),
            ("GET", "/identity_providers", self._list_providers),
            ("GET", "/identity_providers/{provider_id}", self._get_provider),
            ("GET", "/audits", self._list_audits),
        ]

    def _list_users(self, exchange: Exchange) -> Answer:
        """GET /users."""
        email = exchange.query.get("email")
        user_ids = self.account.find_by_email(email) if email else self.account.user_ids
        start = (exchange.page - 1) * exchange.per_page
        users = self.account.encoded_users(user_ids[start : start + exchange.per_page])
        page = orjson.dumps(pagination(len(user_ids), exchange))
        return Answer(200, b'{"users":%b,"pagination":%b}' % (users, page))

    def _get_user(self, exchange: Exchange) -> Answer:
        """GET /users/:id."""
        user = self.account.user(exchange.params["user_id"])
        return Answer.of({"user": _without(user, _NOT_IN_ONE_USER)})

    def _put_user(self, exchange: Exchange) -> Answer:
        """PUT /users/:id."""
        user = self.account.update_user(exchange.params["user_id"], _wrapped(exchange, "user"))
        return Answer.of(_without(user, _NOT_IN_UPDATED_USER))

    def _list_roles(self, exchange: Exchange) -> Answer:
        """GET /users/:id/product_roles."""
        user = self.account.user(exchange.params["user_id"])
        return paginated("product_roles", user.get("product_roles", []), exchange)

    def _post_role(self, exchange: Exchange) -> Answer:
        """POST /users/:id/product_roles."""
        fields = _wrapped(exchange, "product_role")
        return Answer.of(self.account.set_role(exchange.params["user_id"], fields))

    def _delete_role(self, exchange: Exchange) -> Answer:
        """DELETE /users/:id/product_roles/:product_id."""
        self.account.drop_role(exchange.params["user_id"], exchange.params["product_id"])
        return Answer(204)

    def _list_custom_roles(self, exchange: Exchange) -> Answer:
        """GET /users/:id/user_roles."""
        user = self.account.user(exchange.params["user_id"])
        return paginated("user_roles", user.get("user_roles", []), exchange)

    def _post_custom_role(self, exchange: Exchange) -> Answer:
        """POST /users/:id/user_roles."""
        fields = _wrapped(exchange, "user_role")
        return Answer.of(self.account.set_custom_role(exchange.params["user_id"], fields))

    def _delete_custom_role(self, exchange: Exchange) -> Answer:
        """DELETE /users/:id/user_roles/:product_id."""
        self.account.drop_role(exchange.params["user_id"], exchange.params["product_id"], custom=True)
        return Answer(204)

    def _me(self, exchange: Exchange) -> Answer:
        """GET /me."""
        owner = self.account.owner(exchange.key) or {}
        names = {workspace.id: workspace.name for workspace in self.account.workspaces}
        roles = [
            role | {"product_name": role["product_name"] or names.get(str(role["product_id"]))}
            for role in owner.get("product_roles", ())
        ]
        account = {
            "name": self.account.name,
            "domain": self.account.domain,
            "logo": None,
            "alt_logo": None,
            "enabled": True,
        }
        user = short_user(owner) | {
            "product_roles": roles,
            "preferences": {"current_product_id": int(roles[0]["product_id"]) if roles else None},
            "accounts": [{"account": account}],
        }
        return Answer.of({"user": user})

    def _list_products(self, exchange: Exchange) -> Answer:
        """GET /products."""
        teams = exchange.query.get("include_teams") == "true"
        since = exchange.query.get("updated_since", "")
        rows = [
            workspace.listing
            for workspace in self.account.workspaces
            if workspace.listed and (teams or not workspace.team) and workspace.updated_at >= since
        ]
        return paginated("products", rows, exchange)

    def _get_product(self, exchange: Exchange) -> Answer:
        """GET /products/:id."""
        return Answer.of({"product": self.account.workspace(exchange.params["product_id"]).details()})

    def _list_product_users(self, exchange: Exchange) -> Answer:
        """GET /products/:id/users."""
        workspace = self.account.workspace(exchange.params["product_id"])
        members = self.account.members(workspace.id)
        return paginated("project_users", [_member(role, user) for role, user in members], exchange)

    def _post_product_user(self, exchange: Exchange) -> Answer:
        """POST /products/:id/users."""
        fields = _wrapped(exchange, "user")
        return Answer.of(_member(*self.account.create_user(exchange.params["product_id"], fields)))

    def _list_seat_groups(self, _exchange: Exchange) -> Answer:
        """GET /paid_seat_groups."""
        return Answer.of({"paid_seat_groups": self.account.seat_groups()})

    def _put_seat_group(self, exchange: Exchange) -> Answer:
        """PUT /paid_seat_groups/:id."""
        return Answer.of(self.account.update_seat_group(exchange.params["group_id"], sent_object(exchange)))

    def _modify_seat(self, exchange: Exchange) -> Answer:
        """POST /paid_seat_groups/:id/modify_user."""
        return Answer.of(self.account.move_seat(exchange.params["group_id"], sent_object(exchange)))

    def _list_providers(self, _exchange: Exchange) -> Answer:
        """GET /identity_providers."""
        return Answer.of({"identity_providers": self.account.identity_providers})

    def _get_provider(self, exchange: Exchange) -> Answer:
        """GET /identity_providers/:id."""
        for provider in self.account.identity_providers:
            if str(provider["id"]) == exchange.params["provider_id"]:
                return Answer.of({"identity_provider": provider})
        raise NotFoundError("identity provider")

    def _list_audits(self, exchange: Exchange) -> Answer:
        """GET /audits."""
        rows = [row for row in self.account.audits() if _is_wanted(row, exchange.query)]
        return paginated("audits", rows, exchange)

    def _now(self) -> float:
        """Say what time it is for the account."""
        return self.account.now()

    def _describe(self) -> Json:
        """Say what the account holds."""
        workspaces = self.account.workspaces
        return {
            "users": len(self.account),
            "workspaces": len(workspaces),
            "workspaces_unnamed": [w.id for w in workspaces if not w.named and w.listed],
            "workspaces_hidden": [w.id for w in workspaces if not w.listed],
            "key_owners": sorted(set(self.account.keys.values())),
        }


def _wrapped(exchange: Exchange, name: str) -> Json:
    """Read the JSON object that was sent under a key."""
    fields = sent_object(exchange).get(name)
    if not isinstance(fields, dict):
        raise MalformedError(f"param is missing or the value is empty: {name}")
    return fields


def _without(user: Json, keys: tuple[str, ...]) -> Json:
    """Leave keys of a user out."""
    return {key: value for key, value in user.items() if key not in keys}


def _member(role: Json, user: Json) -> Json:
    """Write a user of a workspace."""
    return {
        "role": role["role"],
        "role_description": role["role_description"],
        "user": short_user(user),
    }


def _is_wanted(audit: Json, query: Mapping[str, str]) -> bool:
    """Apply the documented filters of audits."""
    exact = ("audit_action", "auditable_type", "auditable_id", "associated_type", "associated_id")
    return (
        all(str(audit[key]) == query[key] for key in exact if key in query)
        and ("user_id" not in query or audit["user"]["id"] == query["user_id"])
        and query.get("created_since", "") <= audit["created_at"]
        and ("created_before" not in query or audit["created_at"] < query["created_before"])
        and ("after_id" not in query or id_order(audit["id"]) > id_order(query["after_id"]))
    )
