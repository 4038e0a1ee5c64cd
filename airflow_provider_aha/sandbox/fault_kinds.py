"""The sorts of faults: what can go wrong at Aha! or on the way there."""

from __future__ import annotations

import math
import time
import zlib
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
ONE_WRITE = r"/users/[^/]+(/(product|user)_roles(/[^/]+)?)?"
USER_BODIES = r"/users(/[^/]+)?"
USER_OR_ME = r"/users(/[^/]+)?|/me"

_READ = ("GET",)
_UPDATE = ("PUT",)
_WRITES = ("PUT", "POST", "DELETE")
_PHRASES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "You are not authorized to perform this action",
    404: "Record not found",
    408: "Request Timeout",
    422: "Validation failed",
    425: "Too Early",
    500: "Internal server error",
    502: "502 Bad Gateway",
    503: "503 Service Unavailable",
    504: "504 Gateway Time-out",
    507: "Insufficient Storage",
    508: "Loop Detected",
    520: "Web server is returning an unknown error",
    521: "Web server is down",
    522: "Connection timed out",
    523: "Origin is unreachable",
    524: "A timeout occurred",
    525: "SSL handshake failed",
    526: "Invalid SSL certificate",
    527: "Railgun error",
    528: "Unknown error",
    529: "Site is overloaded",
    530: "Origin DNS error",
    599: "Network connect timeout",
}
# Those that a proxy in front of the API answers with, and 401, which Aha! answers with a page.
_HTML_STATUSES = frozenset({401, 408, 502, 503, 504, *range(520, 531)})
_LIMIT_HEADERS = ("X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset")
_MEGABYTE = 1_000_000
_MOST_MEGABYTES = 50
_BOM = b"\xef\xbb\xbf"
_ODD_VALUES: Mapping[str, Callable[[Json], Json]] = {
    "rights_list": lambda _: {"administrator_roles": ["administer_account"]},
    "email_number": lambda _: {"email": 4711},
    "lone_surrogate": lambda user: {"name": f"{user.get('name')} \ud83d"},
    "roles_null": lambda _: {"product_roles": None},
    "role_text": lambda user: _with_roles(user, "owner"),
    "role_float": lambda user: _with_roles(user, 20.0),
    "role_missing": lambda user: _with_roles(user, None),
}
"""What is odd about one record, and the fields that make it so."""

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
    :param memory: what the fault keeps from one request to the next.
    :param answer: the API's; an empty one for a fault that acts before the API does.
    """

    exchange: Exchange
    account: Any
    options: Options
    memory: dict[str, Any] = field(default_factory=dict)
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
    :param most: the largest value of an option that is a number, where there is one; the smallest is 1 then.
    :param before: answers in place of the API, or changes something before the API answers.
    :param after: changes the API's answer; null where there is nothing to change.
    """

    name: str
    summary: str
    path: str = ANY
    methods: tuple[str, ...] = ()
    options: Options = field(default_factory=dict)
    choices: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    most: Mapping[str, int] = field(default_factory=dict)
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
    return _failure(call.options["status"])


def _failure(status: int) -> Answer:
    """Write the answer of a status that means failure."""
    answer = Answer.html if status in _HTML_STATUSES else Answer.error
    return answer(status, _PHRASES[status])


def _write_late(call: Call) -> Answer:
    """Answer without doing anything, and have the write carried out later."""
    call.exchange.late = call.options["requests"]
    status = call.options["status"]
    if not status:
        return Answer(ending="nothing")
    return _failure(status) if status in _PHRASES else Answer(status)


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


def _fail_after(call: Call) -> Answer | None:
    """Answer with a failure to what was done."""
    return _failure(call.options["status"]) if call.answer.status < 300 else None


def _answer_oddly(call: Call) -> Answer | None:
    """Answer to a write that was carried out in a way that doesn't show it, or not as documented."""
    if call.answer.status not in (200, 204):
        return None
    form, written = call.options["form"], call.answer.data()
    if form in ("no_content", "accepted", "empty"):
        return Answer({"no_content": 204, "accepted": 202, "empty": 200}[form])
    if not isinstance(written, dict):
        return None
    if form == "broken":
        return _halve_json(call)
    if "id" in written:
        return call.answer.with_data(_odd_copy(form, written, call.account.previous))
    if form == "lagging":
        return _with_role_of(call, call.account.previous[call.exchange.params["user_id"]])
    return None


def _with_role_of(call: Call, user: Json) -> Answer:
    """Answer to a write of a role with the one that a user has in that workspace."""
    written = call.answer.data()
    if not isinstance(written, dict):
        return call.answer
    if "product_id" in written:
        roles, none = user.get("product_roles", ()), written | {"role": 0, "role_description": "None"}
        return call.answer.with_data(
            next((role for role in roles if role["product_id"] == written["product_id"]), none)
        )
    roles = user.get("user_roles", ())
    return call.answer.with_data(next((role for role in roles if role["scope"] == written["scope"]), {}))


def _odd_copy(form: str, user: Json, previous: Mapping[str, Json]) -> Json:
    """Write the body of an odd answer to an update."""
    if form == "lagging":
        return _as_before(user, previous)
    if form == "no_updated_at":
        return {key: value for key, value in user.items() if key != "updated_at"}
    return {key: str(value).lower() if isinstance(value, bool) else value for key, value in user.items()}


def _drip(call: Call) -> Answer | None:
    """Send the body piece by piece."""
    if not call.answer.body:
        return None
    return replace(call.answer, ending="drip", size=call.options["size"], pause=call.options["pause"])


def _inflate(call: Call) -> Answer | None:
    """Send a small body that becomes a large one: the same JSON with blanks in it."""
    body = call.answer.body
    if not body.endswith(b"}"):
        return None
    packer = zlib.compressobj(wbits=31)
    blanks = b" " * _MEGABYTE
    parts = [packer.compress(body[:-1])]
    parts += [packer.compress(blanks) for _ in range(call.options["megabytes"])]
    parts += [packer.compress(b"}"), packer.flush()]
    return replace(call.answer, body=b"".join(parts), headers={**call.answer.headers, "Content-Encoding": "gzip"})


def _blow_up(call: Call) -> Answer | None:
    """Make a value a huge text."""
    key, text = call.options["key"], "x" * (call.options["megabytes"] * _MEGABYTE)
    return _change_each_user(call, lambda user: user | {key: text})


def _mark(call: Call) -> Answer | None:
    """Put a byte order mark before the JSON."""
    return replace(call.answer, body=_BOM + call.answer.body) if call.answer.body else None


def _echo_key(call: Call) -> Answer:
    """Send the key back in headers that a client may put into errors and records."""
    sent = f"Bearer {call.exchange.key}"
    kind = f"text/html; {sent}" if call.options["content_type"] == "parameter" else sent
    return replace(call.answer, content_type=kind, headers={**call.answer.headers, "X-Request-Id": f"echo {sent}"})


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
    return _change_each_user(call, lambda user: _as_before(user, previous))


def _lag(call: Call) -> Answer | None:
    """Send users as they were before their last write, until each has been read so often after it."""
    account, reads = call.account, call.options["reads"]

    def change(user: Json) -> Json:
        before = _as_before(user, account.previous)
        # A role doesn't move the user's `updated_at`.
        shown = f"{user['id']} {sum(write.user_id == str(user['id']) for write in account.writes)}"
        if before == user or call.memory.get(shown, 0) >= reads:
            return user
        call.memory[shown] = call.memory.get(shown, 0) + 1
        return before

    return _change_each_user(call, change)


def _as_before(user: Json, previous: Mapping[str, Json]) -> Json:
    """Write a user as it was before its last update, with the keys that it has."""
    before = previous.get(str(user["id"]), user)
    return {key: before[key] for key in user if key in before}


def _spoil_record(call: Call) -> Answer | None:
    """Make a value odd, in a type or form that nobody documents."""
    odd = _ODD_VALUES[call.options["what"]]
    return _change_each_user(call, lambda user: user | odd(user))


def _with_roles(user: Json, role: object) -> Json:
    """Write a user's workspace roles with another role in each; without one if null."""
    roles = []
    for one in user.get("product_roles") or ({"product_id": "1", "product_name": "Odd"},):
        kept = {key: value for key, value in one.items() if key != "role"}
        roles.append(kept if role is None else kept | {"role": role})
    return {"product_roles": roles}


def _wrap(call: Call) -> Answer | None:
    """Wrap the user."""
    data = call.answer.data()
    return call.answer.with_data({"user": data}) if call.answer.status == 200 and data else None


def _ignore_update(call: Call) -> Answer | None:
    """Undo a write, and answer as if that were its result."""
    user_id = call.exchange.params["user_id"]
    if call.answer.status not in (200, 204) or user_id not in call.account.previous:
        return None
    kept, data = call.account.undo_update(user_id), call.answer.data()
    if isinstance(data, dict) and "id" in data:
        return call.answer.with_data({key: kept.get(key) for key in data})
    return _with_role_of(call, kept)


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
        "the `status` 400, 403, 404, 422, 425, 500, 507, 508 or 599 with a JSON body, or 401, 408, 502, 503, "
        "504 or 520 to 530 with an HTML page; the API never saw the request",
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
        methods=_WRITES,
        after=_lose,
    ),
    Kind(
        "error_after_write",
        "a write is done, and answered with a `status` that means failure",
        methods=_WRITES,
        options={"status": 500},
        choices={"status": tuple(_PHRASES)},
        after=_fail_after,
    ),
    Kind(
        "odd_answer",
        "a write to a user is done, and its answer has an odd `form`: `no_content` (204), `accepted` (202, no "
        "body), `empty` (200, no body), `lagging` (the user or role as before), `text_flags` (true and false as "
        "text), `no_updated_at`, or `broken` (its JSON stops midway)",
        ONE_WRITE,
        _WRITES,
        options={"form": "no_content"},
        choices={
            "form": (*("no_content", "accepted", "empty", "lagging", "text_flags", "no_updated_at", "broken"),)
        },
        after=_answer_oddly,
    ),
    Kind(
        "late_write",
        "a write is held back, and done when `requests` more requests have come: its answer is `status` 202, 204 "
        "or 504, or with 0 the connection ends without one",
        methods=_WRITES,
        options={"requests": 2, "status": 0},
        choices={"status": (0, 202, 204, 504)},
        most={"requests": 1000},
        before=_write_late,
    ),
    Kind(
        "truncated_body",
        "the connection ends before the whole body came, as its Content-Length shows",
        after=_halve_body,
    ),
    Kind("truncated_json", "the answer is complete HTTP, but its JSON stops midway", after=_halve_json),
    Kind(
        "dripped_body",
        "the body comes in pieces of `size` bytes, with a `pause` in seconds after each",
        options={"size": 1, "pause": 0.1},
        most={"size": _MEGABYTE},
        after=_drip,
    ),
    Kind(
        "gzip_bomb",
        f"a small gzip body that becomes `megabytes` (at most {_MOST_MEGABYTES}) of JSON",
        options={"megabytes": _MOST_MEGABYTES},
        most={"megabytes": _MOST_MEGABYTES},
        after=_inflate,
    ),
    Kind("byte_order_mark", "a byte order mark stands before the JSON", after=_mark),
    Kind(
        "echoed_key",
        "the Authorization header comes back in X-Request-Id and in Content-Type, as its whole `value` or as a "
        "`parameter` of text/html",
        options={"content_type": "value"},
        choices={"content_type": ("value", "parameter")},
        after=_echo_key,
    ),
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
    Kind(
        "huge_field",
        f"`key` is a text of `megabytes` (at most {_MOST_MEGABYTES}) in all users, also in `/me`, or in the one "
        "whose id is `user`",
        USER_OR_ME,
        options={"key": "name", "user": None, "megabytes": 1},
        most={"megabytes": _MOST_MEGABYTES},
        after=_blow_up,
    ),
    Kind(
        "odd_value",
        "`what` is odd in all users, or in the one whose id is `user`: `rights_list` (administrator_roles is a "
        "list), `email_number`, `lone_surrogate` (in the name), `roles_null` (product_roles is null), or roles "
        "that are text (`role_text`: owner), fractions (`role_float`: 20.0) or absent (`role_missing`)",
        USER_BODIES,
        options={"what": "rights_list", "user": None},
        choices={"what": tuple(_ODD_VALUES)},
        after=_spoil_record,
    ),
    Kind("unknown_fields", "users have undocumented fields, flat and nested", USER_BODIES, after=_add_fields),
    Kind(
        "stale_read",
        "reads show users as they were before their last write",
        USER_BODIES,
        _READ,
        after=_show_past,
    ),
    Kind(
        "lagging_read",
        "after each write to a user, the next `reads` reads show the user as before",
        USER_BODIES,
        _READ,
        options={"reads": 1},
        most={"reads": 1000},
        after=_lag,
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
        "a write to a user is answered as if it were done, but nothing changes",
        ONE_WRITE,
        _WRITES,
        after=_ignore_update,
    ),
)

KINDS = {kind.name: kind for kind in _ALL}
"""All sorts of faults, by name."""
