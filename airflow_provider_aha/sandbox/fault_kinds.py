"""The sorts of faults: what can go wrong at Aha! or on the way there."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_aha.sandbox.exchange import Answer, Exchange
from airflow_provider_aha.sandbox.setting import Json

Options = Mapping[str, Any]
Act = Callable[["Call"], Answer | None]

ANY = r".*"
USERS = r"/users"
ONE_USER = r"/users/[^/]+"
USER_BODIES = r"/users(/[^/]+)?"

_READ = ("GET",)
_UPDATE = ("PUT",)
_HTML_STATUSES = (401, 502, 503, 504)
_PHRASES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "You are not authorized to perform this action",
    404: "Record not found",
    422: "Validation failed",
    500: "Internal server error",
    502: "502 Bad Gateway",
    503: "503 Service Unavailable",
    504: "504 Gateway Time-out",
}
_LIMIT_HEADERS = ("X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset")
_UNKNOWN_FIELDS: Json = {
    "teamwork_seat": False,
    "profile": {"badges": [{"id": 1, "label": "Früh dabei"}], "score": 9.5},
}


@dataclass(frozen=True)
class Call:
    """A request that a fault is about to spoil.

    :param exchange: the request.
    :param account: the state.
    :param options: of the fault.
    :param answer: the API's; an empty one for a fault that acts before the API does.
    """

    exchange: Exchange
    account: Any
    options: Options
    answer: Answer = field(default_factory=Answer)


@dataclass(frozen=True)
class Kind:
    """A sort of fault.

    :param name: by which it is switched on.
    :param summary: what it does, in a sentence.
    :param path: a regular expression of the paths below ``/api/v1`` that it meets.
    :param methods: the methods that it meets; any if empty.
    :param options: what can be set, and to what it is set otherwise.
    :param choices: the values that an option can have, where they are few.
    :param before: answers in place of the API, or changes something before the API answers.
    :param after: changes the API's answer; null where there is nothing to change.
    """

    name: str
    summary: str
    path: str = ANY
    methods: tuple[str, ...] = ()
    options: Options = field(default_factory=dict)
    choices: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    before: Act | None = None
    after: Act | None = None


# --- answers in place of the API's ---------------------------------------------------------------


def _limit_rate(call: Call) -> Answer:
    """Answer 429, and say in one way or another when to come back."""
    seconds = call.options["reset_in"]
    now = time.time()
    none: dict[str, str | None] = dict.fromkeys(_LIMIT_HEADERS)
    headers: dict[str, dict[str, str | None]] = {
        "reset": {"X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": str(math.ceil(now + seconds))},
        "missing": none,
        "past": {"X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": str(int(now) - 30)},
        "retry_after": none | {"Retry-After": str(math.ceil(seconds))},
    }
    return replace(Answer.error(429, "Rate limit exceeded"), headers=headers[call.options["headers"]])


def _fail(call: Call) -> Answer:
    """Answer with a status."""
    status = call.options["status"]
    answer = Answer.html if status in _HTML_STATUSES else Answer.error
    return answer(status, _PHRASES[status])


def _revoke_key(call: Call) -> Answer:
    """Revoke the key of the request."""
    call.account.revoke_key(call.exchange.key)
    return Answer.html(401, _PHRASES[401])


def _reset_connection(_call: Call) -> Answer:
    """Reset the connection."""
    return Answer(ending="reset")


def _show_maintenance(_call: Call) -> Answer:
    """Answer with a page for people."""
    return Answer.html(200, "We'll be back soon")


def _redirect(call: Call) -> Answer:
    """Send the client elsewhere."""
    target = str(call.options["to"])
    if target == "https":
        target = f"https://{call.exchange.host}"
    location = f"{target.rstrip('/')}{call.exchange.root}{call.exchange.path}"
    return replace(Answer.html(call.options["status"], "Moved"), headers={"Location": location})


def _wait(_call: Call) -> None:
    """Do nothing: the server reads the option and waits."""


# --- changes of the state before the API answers -------------------------------------------------


def _drift(call: Call) -> None:
    """Let people come and go between two pages."""
    exchange, account = call.exchange, call.account
    if call.options["change"] == "insert":
        account.add_user(position=0)
        return
    start = (exchange.page - 1) * exchange.per_page
    for user_id in account.user_ids[max(start - 1, 0) :][:1]:
        account.remove_user(user_id)
    if call.options["change"] == "swap":
        account.add_user()


# --- changes of the API's answer -----------------------------------------------------------------


def _lose(call: Call) -> Answer:
    """Send nothing."""
    return replace(call.answer, ending="nothing")


def _halve_body(call: Call) -> Answer:
    """End the connection in the middle."""
    return replace(call.answer, ending="half")


def _halve_json(call: Call) -> Answer:
    """Send half of the JSON, as if that were all."""
    return replace(call.answer, body=call.answer.body[: len(call.answer.body) // 2])


def _list_pagination(call: Call) -> Answer | None:
    """Put the pagination into a list."""
    return _repaginate(call, lambda found: [found])


def _write_current_page(call: Call) -> Answer | None:
    """Write the number of the page as text."""
    return _repaginate(call, lambda found: found | {"current_page": str(found["current_page"])})


def _zero_pages(call: Call) -> Answer | None:
    """Say that there are no pages."""
    return _repaginate(call, lambda found: found | {"total_pages": 0})


def _miscount(call: Call) -> Answer | None:
    """Say a wrong total."""
    by = call.options["by"]
    return _repaginate(call, lambda found: found | {"total_records": found["total_records"] + by})


def _repeat_page(call: Call) -> Answer | None:
    """Send the users of the first page, whatever page it should be."""
    with call.account.lock:
        first = [call.account.user(user_id) for user_id in call.account.user_ids[: call.exchange.per_page]]
    return _change_users(call, lambda _users: first)


def _repeat_user(call: Call) -> Answer | None:
    """Send the first user twice, and not the last one."""
    return _change_users(call, lambda users: [*users[:1], *users[:-1]])


def _reverse(call: Call) -> Answer | None:
    """Send the users the other way round."""
    return _change_users(call, lambda users: users[::-1])


def _number_ids(call: Call) -> Answer | None:
    """Write the ids of users as numbers."""
    return _change_each_user(call, lambda user: user | {"id": int(user["id"])})


def _convert_group(call: Call) -> Answer | None:
    """Write the ids of paid seat groups in one of the two documented types."""
    convert = {"int": int, "str": str}[call.options["type"]]

    def change(user: Json) -> Json:
        group = user.get("paid_seat_group")
        return user | {"paid_seat_group": group | {"id": convert(group["id"])}} if group else user

    return _change_each_user(call, change)


def _drop_key(call: Call) -> Answer | None:
    """Leave a key out."""
    gone = call.options["key"]
    return _change_each_user(call, lambda user: {k: v for k, v in user.items() if k != gone})


def _empty_key(call: Call) -> Answer | None:
    """Make a value null."""
    return _change_each_user(call, lambda user: user | {call.options["key"]: None})


def _add_fields(call: Call) -> Answer | None:
    """Add fields that nobody knows."""
    return _change_each_user(call, lambda user: user | _UNKNOWN_FIELDS)


def _show_past(call: Call) -> Answer | None:
    """Send users as they were before their last update."""
    previous = call.account.previous

    def change(user: Json) -> Json:
        before = previous.get(str(user["id"]), user)
        return {key: before[key] for key in user if key in before}

    return _change_each_user(call, change)


def _wrap(call: Call) -> Answer | None:
    """Wrap the user."""
    if call.answer.status != 200:
        return None
    return call.answer.with_data({"user": call.answer.data()})


def _ignore_update(call: Call) -> Answer | None:
    """Undo an update, and answer as if that were its result."""
    if call.answer.status != 200:
        return None
    data = call.answer.data()
    kept = call.account.undo_update(data["id"])
    return call.answer.with_data({key: kept.get(key) for key in data})


def _repaginate(call: Call, change: Callable[[Json], object]) -> Answer | None:
    """Change the pagination of a list."""
    data = call.answer.data()
    if not isinstance(data, dict) or "pagination" not in data:
        return None
    return call.answer.with_data(data | {"pagination": change(data["pagination"])})


def _change_users(call: Call, change: Callable[[list[Json]], list[Json]]) -> Answer | None:
    """Change which users a page has."""
    data = call.answer.data()
    if not isinstance(data, dict) or "users" not in data:
        return None
    return _if_changed(call, data, data | {"users": change(data["users"])})


def _change_each_user(call: Call, change: Callable[[Json], Json]) -> Answer | None:
    """Change the users of an answer, or the one that the options name."""
    data = call.answer.data()
    if call.answer.status != 200 or not isinstance(data, dict):
        return None
    only = call.options.get("user")

    def maybe(user: Json) -> Json:
        return change(user) if only in (None, str(user.get("id"))) else user

    if "users" in data:
        return _if_changed(call, data, data | {"users": [maybe(user) for user in data["users"]]})
    if "user" in data:
        return _if_changed(call, data, {"user": maybe(data["user"])})
    return _if_changed(call, data, maybe(data))


def _if_changed(call: Call, before: Json, after: Json) -> Answer | None:
    """Answer with the changed body, if it did change."""
    return call.answer.with_data(after) if after != before else None


# --- all of them ---------------------------------------------------------------------------------

_ALL = (
    Kind(
        "rate_limit",
        "429; `headers` says when to come back: `reset` in `reset_in` seconds, `missing`, a reset in the "
        "`past`, or `retry_after` alone",
        options={"headers": "reset", "reset_in": 1.0},
        choices={"headers": ("reset", "missing", "past", "retry_after")},
        before=_limit_rate,
    ),
    Kind(
        "error",
        "the `status` 400, 403, 404, 422 or 500 with a JSON body, or 401, 502, 503 or 504 with an HTML page",
        options={"status": 500},
        choices={"status": tuple(_PHRASES)},
        before=_fail,
    ),
    Kind("key_revoked", "the key of the request is revoked for good: 401, HTML", before=_revoke_key),
    Kind(
        "connection_reset",
        "the connection is reset, and the API never saw the request",
        before=_reset_connection,
    ),
    Kind("maintenance", "200 with an HTML page", before=_show_maintenance),
    Kind(
        "redirect",
        "a redirect (`status`) `to` another host, or with `to=https` to this host by https",
        options={"to": "https://elsewhere.invalid", "status": 301},
        choices={"status": (301, 302, 303, 307, 308)},
        before=_redirect,
    ),
    Kind(
        "slow",
        "the answer is held back for `seconds`, at most 120: a slow server, or one that hangs",
        options={"seconds": 1.0},
        before=_wait,
    ),
    Kind(
        "page_drift",
        "just before page `page` of the users, once: `change` is `remove` the last user of the page before, "
        "`insert` one at the start of the list, or `swap`: remove one and add another at the end",
        USERS,
        _READ,
        options={"change": "remove", "page": 2, "times": 1},
        choices={"change": ("insert", "remove", "swap")},
        before=_drift,
    ),
    Kind(
        "answer_lost",
        "a write is done, but the connection ends without an answer",
        methods=("PUT", "POST", "DELETE"),
        after=_lose,
    ),
    Kind(
        "truncated_body",
        "the connection ends before the whole body came, as its Content-Length shows",
        after=_halve_body,
    ),
    Kind("truncated_json", "the answer is complete HTTP, but its JSON stops midway", after=_halve_json),
    Kind("pagination_list", "`pagination` is a list of one object", methods=_READ, after=_list_pagination),
    Kind("current_page_text", "`current_page` is text", methods=_READ, after=_write_current_page),
    Kind("zero_pages", "`total_pages` is 0 in spite of records", methods=_READ, after=_zero_pages),
    Kind(
        "wrong_total",
        "`total_records` of the users is off by `by`",
        USERS,
        _READ,
        options={"by": 1},
        after=_miscount,
    ),
    Kind("same_page", "every page has the users of page 1", USERS, _READ, after=_repeat_page),
    Kind(
        "duplicate_user",
        "the first user of a page comes twice, the last one not at all",
        USERS,
        _READ,
        after=_repeat_user,
    ),
    Kind("unordered", "the users of a page come the other way round", USERS, _READ, after=_reverse),
    Kind("int_ids", "the ids of users are numbers", USER_BODIES, after=_number_ids),
    Kind(
        "seat_group_id",
        "`paid_seat_group.id` is of the `type` `int` or `str`",
        USER_BODIES,
        options={"type": "int"},
        choices={"type": ("int", "str")},
        after=_convert_group,
    ),
    Kind(
        "missing_key",
        "`key` is absent from all users, or from the one whose id is `user`",
        USER_BODIES,
        options={"key": "accessed_at", "user": None},
        after=_drop_key,
    ),
    Kind(
        "null_value",
        "`key` is null in all users, or in the one whose id is `user`",
        USER_BODIES,
        options={"key": "email", "user": None},
        after=_empty_key,
    ),
    Kind("unknown_fields", "users have undocumented fields, flat and nested", USER_BODIES, after=_add_fields),
    Kind(
        "stale_read",
        "reads show users as they were before their last update",
        USER_BODIES,
        _READ,
        after=_show_past,
    ),
    Kind(
        "wrapped_put",
        "the answer to an update is wrapped in `user`, as the one to a read is",
        ONE_USER,
        _UPDATE,
        after=_wrap,
    ),
    Kind(
        "update_ignored",
        "an update is answered with 200, but nothing changes",
        ONE_USER,
        _UPDATE,
        after=_ignore_update,
    ),
)

KINDS = {kind.name: kind for kind in _ALL}
"""All sorts of faults, by name."""
