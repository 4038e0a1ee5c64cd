"""The Aha! REST API: authentication, pacing, retries, complete reads, typed errors.

Plain Python without Airflow. Facts about the API are from https://www.aha.io/api.
"""

from __future__ import annotations

import logging
import math
import re
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from functools import partial
from typing import Any, TypeVar

from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.api.pages import JsonPage, P, Page
from airflow_provider_aha.api.ratelimit import Clock, never
from airflow_provider_aha.api.records import is_record_id, read_json, readable, without_mark
from airflow_provider_aha.api.rest import LARGEST_ANSWER, UNDECODABLE, RestClient, RetryBudget, Service
from airflow_provider_aha.common.threads import DaemonExecutor
from airflow_provider_aha.common.values import kind_of
from airflow_provider_aha.exceptions import (
    AhaAmbiguousUserError,
    AhaAuthenticationError,
    AhaConfigurationError,
    AhaIncompleteReadError,
    AhaNotFoundError,
    AhaPermissionError,
    AhaProtocolError,
    AhaValidationError,
)

log = logging.getLogger(__name__)

API_PREFIX = "/api/v1"
# How soon a reader that waits for a page sees that it was cancelled, or that another page failed.
_LOOK_SECONDS = 0.1
# So many pages that have arrived are decoded together: a decoder's start costs as much as a quarter of a page.
_DECODED_TOGETHER = 10
# What a write may be answered with: it was done, or taken on.
_ACKNOWLEDGED = range(200, 300)
_ID = re.compile(r"[0-9]{1,20}")

T = TypeVar("T")


class _PagesShiftedError(Exception):
    """The list changed while it was read."""


_AHA = Service(
    name="Aha!",
    account="an Aha! account",
    prefix=API_PREFIX,
    auth_header="Authorization",
    auth_prefix="Bearer ",
    sandbox_header="X-Aha-Sandbox",
    refusals={
        400: (AhaValidationError, "found the request malformed (400)."),
        401: (
            AhaAuthenticationError,
            (
                "refused the API key (401): it is wrong, was revoked, or its owner is disabled. Make a new one in "
                "Aha! under Settings > Personal > Developer and put it into the connection's password field."
            ),
        ),
        403: (
            AhaPermissionError,
            (
                "doesn't let this API key do that (403): its owner must be an administrator with the billing "
                "permission to read and change users."
            ),
        ),
        404: (
            AhaNotFoundError,
            (
                "knows no such record (404), or the key can't see it. If nothing is found at all, the subdomain "
                "is wrong."
            ),
        ),
        422: (AhaValidationError, "refused a value of the request (422)."),
    },
)


class AhaClient(RestClient):
    """A client for one account; safe to use from several threads.

    :param config: account, key and limits.
    :param user_agent: what to add to the ``User-Agent`` (Aha! asks clients to say who they are).
    :param clock: time and sleep; for tests.
    """

    service = _AHA
    config: ClientConfig

    def __init__(self, config: ClientConfig, *, user_agent: str = "", clock: Clock | None = None) -> None:
        super().__init__(config, user_agent=user_agent, clock=clock)
        self.rereads = 0

    # ---- single records -------------------------------------------------------------------------------

    def me(self) -> dict[str, Any]:
        """Return the user who owns the API key (``GET /me``).

        :raises AhaError: as :meth:`get_user`.
        """
        return self._as_documented(self._call("GET", "/me", decode=_user), "/me")

    def get_user(self, user_id: str, receipt: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return one user by id (``GET /users/:id``: without custom roles and seat group).

        :param user_id: the user's id, decimal digits.
        :param receipt: is given ``date`` of the answer, Aha!'s own clock as HTTP writes it.
        :return: the user object as Aha! sends it, its id as text.
        :raises AhaConfigurationError: when the id is not one; no request is sent.
        :raises AhaNotFoundError: when there is no such user, or this key can't see it.
        :raises AhaError: when no usable answer came; the subclass tells why.
        """
        checked_id = check_user_id(user_id)
        path = f"/users/{checked_id}"
        user = self._call("GET", path, decode=_user, receipt=receipt)
        if user["id"] != checked_id:
            raise AhaProtocolError(
                f"{self._where} answered with another user than {checked_id}.", status=200, method="GET", path=path
            )
        return self._as_documented(user, path)

    def find_user(self, email: str) -> dict[str, Any]:
        """Return the one user with an email, from the full list.

        Aha!'s own ``email`` filter is undocumented in its details, so it isn't trusted: an address may
        belong to several records (password and single sign-on users are kept apart).

        :param email: the address; case doesn't count.
        :return: the user object of the list, which holds custom roles and seat group too.
        :raises AhaNotFoundError: when nobody has that address.
        :raises AhaAmbiguousUserError: when several records have it; the sentence names their ids.
        :raises AhaError: as :meth:`iter_users`.
        """
        wanted = email.strip().casefold()
        if not wanted:
            raise AhaConfigurationError("An empty email names no user.")
        found = [user for user in self.iter_users() if _email(user) == wanted]
        if not found:
            raise AhaNotFoundError(f"No user of {self.config.account} has the email that was asked for.")
        if len(found) > 1:
            ids = ", ".join(user["id"] for user in found)
            raise AhaAmbiguousUserError(
                f"The email that was asked for belongs to {len(found)} users of {self.config.account} "
                f"(ids {ids}): name the one you mean by its id."
            )
        return self._as_documented(found[0], "/users")

    def update_user(
        self, user_id: str, changes: Mapping[str, Any], receipt: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Change one user (``PUT /users/:id``); safe to retry, because it sets a state.

        Every 2xx is an acknowledgement; what really happened is what the answer shows.

        :param user_id: the user's id, decimal digits.
        :param changes: fields of the ``user`` object to set; not empty.
        :param receipt: is given ``http_status``, ``request_id`` and ``date`` of the answer, for the record; and
            ``unanswered``, where an attempt may have arrived that no usable answer came to.
        :return: what the answer shows of this user: all of it, a part, or nothing.
        :raises AhaError: as :meth:`get_user`; :class:`AhaValidationError` when Aha! refuses a value.
        """
        checked_id = check_user_id(user_id)
        if not changes:
            raise AhaConfigurationError(f"No change was given for user {checked_id}.")
        return self._call(
            "PUT",
            f"/users/{checked_id}",
            body={"user": dict(changes)},
            decode=partial(_shown, user_id=checked_id),
            receipt=receipt,
            successes=_ACKNOWLEDGED,
        )

    def set_role(
        self, user_id: str, workspace_id: str, role: str, receipt: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Give a user a role in a workspace, in place of the one there (``POST /users/:id/product_roles``).

        It is sent once: between two attempts somebody else may have given another role.

        :param user_id: the user's id, decimal digits.
        :param workspace_id: the workspace's id, decimal digits.
        :param role: ``product_owner``, ``contributor``, ``reviewer``, ``viewer`` or ``none``.
        :param receipt: as of :meth:`update_user`.
        :return: the role as the answer shows it; nothing where it shows none of this workspace.
        :raises AhaError: as :meth:`update_user`.
        """
        checked_id, place = check_user_id(user_id), _check_id(workspace_id, "workspace")
        return self._call(
            "POST",
            f"/users/{checked_id}/product_roles",
            body={"product_role": {"role": role, "product_id": place}},
            decode=partial(_shown_role, workspace_id=place),
            receipt=receipt,
            successes=_ACKNOWLEDGED,
        )

    def remove_role(self, user_id: str, workspace_id: str, receipt: dict[str, Any] | None = None) -> None:
        """Take a user's role in a workspace away (``DELETE /users/:id/product_roles/:product_id``); sent once.

        The answer has no body, so only a later read shows what became of it.

        :param user_id: the user's id, decimal digits.
        :param workspace_id: the workspace's id, decimal digits.
        :param receipt: as of :meth:`update_user`.
        :raises AhaNotFoundError: when there is no such user or workspace, or no role there.
        :raises AhaError: as :meth:`update_user`.
        """
        checked_id, place = check_user_id(user_id), _check_id(workspace_id, "workspace")
        self._call(
            "DELETE",
            f"/users/{checked_id}/product_roles/{place}",
            decode=len,
            receipt=receipt,
            successes=_ACKNOWLEDGED,
        )

    def _as_documented(self, user: dict[str, Any], path: str) -> dict[str, Any]:
        """Let a user through of whom everything can be read: half a user is judged wrongly."""
        found, odd = readable(user)
        if odd:
            raise AhaProtocolError(
                f"{self._where} sent something unreadable for user {user['id']}: {', '.join(odd)} of another type "
                "than documented. Look at this user in Aha!; nothing was concluded from the answer.",
                status=200,
                method="GET",
                path=path,
            )
        return found

    # ---- lists ----------------------------------------------------------------------------------------

    def iter_users(self) -> Iterator[dict[str, Any]]:
        """Read all users, enabled and disabled, and yield them by ascending id.

        Nothing is yielded before the read is known to be complete; until then the pages lie in a
        temporary file, so memory stays flat.

        :return: an iterator of user objects as Aha! sends them, ids as text.
        :raises AhaIncompleteReadError: when the list kept changing while it was read.
        :raises AhaError: when a page could not be read; the subclass tells why.
        """
        yield from self._iter_list("/users", "users", ordered=True)

    def iter_workspaces(self) -> Iterator[dict[str, Any]]:
        """Read all workspaces and workspace lines that the key can see (``GET /products``) and yield them.

        :return: an iterator of product objects as Aha! sends them, ids as text.
        :raises AhaError: as :meth:`iter_users`.
        """
        yield from self._iter_list("/products", "products", ordered=False)

    def get_listed_user(self, user_id: str) -> dict[str, Any]:
        """Return one user by id as the list shows it: with custom roles and seat group.

        :param user_id: the user's id, decimal digits.
        :return: the user object of the list, its id as text.
        :raises AhaError: as :meth:`get_user` and :meth:`iter_users`.
        """
        user = self.get_user(user_id)
        if email := user.get("email"):
            # The filter is undocumented, so it only saves the full read where it has found the very id.
            page = self._call("GET", "/users", params={"email": email, "per_page": 200}, decode=_users_page)
            for record in page.records:
                if str(record["id"]) == user["id"]:
                    return self._as_documented({**record, "id": user["id"]}, "/users")
        for record in self.iter_users():
            if record["id"] == user["id"]:
                return self._as_documented(record, "/users")
        raise AhaNotFoundError(f"The list of users of {self.config.account} doesn't show user {user['id']}.")

    def count_users(self) -> int:
        """Return how many users the account has, by one small request.

        :raises AhaError: as :meth:`get_user`.
        """
        return self.user_at(1)[0]

    def user_at(self, position: int) -> tuple[int, str | None]:
        """Return how many users the account has and who stands at one place of the list, by one small request.

        :param position: the place, from 1.
        :return: the count, and the id of the user there; None behind the end.
        :raises AhaError: as :meth:`get_user`.
        """
        page = self._call("GET", "/users", params={"per_page": 1, "page": position}, decode=_users_page)
        return page.total_records, next(iter(page.ids), None)

    def paid_seat_groups(self) -> list[dict[str, Any]]:
        """Return the paid seat groups that the key's owner administers (``GET /paid_seat_groups``).

        :return: group objects as Aha! sends them, ids as text.
        :raises AhaError: as :meth:`get_user`.
        """
        return self._call("GET", "/paid_seat_groups", decode=_seat_groups)

    def read_users(
        self, consume: Callable[[Iterator[P]], T], decode: Callable[[Sequence[bytes]], Sequence[P]]
    ) -> T:
        """Read all users page by page, again from the start whenever the list changed meanwhile.

        :param consume: takes the pages of one pass; called anew for every pass, when its first page is on its
            way already. When a pass turns out to be incomplete, the iterator raises inside ``consume``: what it
            has made by then is to be thrown away, and the exception let through. Pages that it leaves are read
            and checked all the same.
        :param decode: makes pages of the bytes of some answers, in their order; raises ValueError when one of
            them is not a page, and that one is then fetched again.
        :return: what ``consume`` returned for the one complete pass.
        :raises AhaIncompleteReadError: when the list changed during every pass.
        :raises AhaError: when a page could not be read; the subclass tells why.
        """
        return self._read_list("/users", consume, decode, ordered=True)

    def _iter_list(self, path: str, key: str, *, ordered: bool) -> Iterator[dict[str, Any]]:
        with tempfile.TemporaryFile() as spool:

            def keep(pages: Iterator[JsonPage]) -> list[int]:
                spool.seek(0)
                spool.truncate()
                return [spool.write(page.body) for page in pages]

            sizes = self._read_list(path, keep, partial(_json_pages, key=key), ordered=ordered)
            spool.seek(0)
            for size in sizes:
                for record in JsonPage(spool.read(size), key).records:
                    record["id"] = str(record["id"])
                    yield record

    def _read_list(
        self,
        path: str,
        consume: Callable[[Iterator[P]], T],
        decode: Callable[[Sequence[bytes]], Sequence[P]],
        *,
        ordered: bool,
    ) -> T:
        fetch = partial(self._fetch_page, path, RetryBudget(self.config.retry_budget))
        for reread in range(self.config.max_rereads + 1):
            check = _PassCheck(ordered=ordered)

            def answer(number: int, stopped: Callable[[], bool]) -> bytes:
                # The first page tells whether this is Aha! at all, so it is decoded while it can be retried.
                return fetch(number, partial(_whole, decode=decode if number == 1 else None), stopped)

            try:
                with (
                    _LookAhead(self.config.max_in_flight, answer, self._clock) as ahead,
                    closing(self._one_pass(ahead, fetch, decode, check)) as pages,
                ):
                    result = consume(pages)
                    for _ in pages:
                        pass
                # Once more, for a consumer that took the iterator's exception for the end of the list.
                check.finish()
                return result
            except _PagesShiftedError as change:
                reason = str(change)
                if reread < self.config.max_rereads:
                    self.rereads += 1
                    log.warning("%s of %s: %s. Reading again from the start.", path, self.config.account, reason)
        raise AhaIncompleteReadError(
            f"The list {path} of {self.config.account} could not be read completely: in each of "
            f"{self.config.max_rereads + 1} passes it changed meanwhile (last: {reason}). Nothing was kept. "
            "Run again at a quieter time.",
            method="GET",
            path=path,
        )

    def _fetch_page(
        self,
        path: str,
        budget: RetryBudget,
        number: int,
        decode: Callable[[bytes], T],
        stopped: Callable[[], bool] = never,
    ) -> T:
        params = {"per_page": self.config.page_size, "page": number}
        return self._call("GET", path, params=params, decode=decode, budget=budget, stopped=stopped)

    def _one_pass(
        self,
        ahead: _LookAhead,
        fetch: Callable[[int, Callable[[bytes], P]], P],
        decode: Callable[[Sequence[bytes]], Sequence[P]],
        check: _PassCheck,
    ) -> Generator[P]:
        """Yield the pages of one pass in order, or raise :class:`_PagesShiftedError`."""
        while ahead.taken < check.last_page:
            first = ahead.taken + 1
            bodies = ahead.take(_DECODED_TOGETHER)
            # Further pages are on their way while these are decoded.
            ahead.ask(check.last_page)
            for number, page in enumerate(_decoded(bodies, first, decode, fetch), first):
                check.add(page, number)
                ahead.ask(check.last_page)
                yield page
        check.finish()


def check_user_id(user_id: str, *, or_email: bool = False) -> str:
    """Return a user's id as it goes into a path.

    :param user_id: decimal digits, as text or number.
    :param or_email: whether an email could have been given as well, for the error.
    :raises AhaConfigurationError: when it is empty or anything else than digits.
    """
    if or_email and not _ID.fullmatch(str(user_id).strip()):
        raise AhaConfigurationError(
            f"{kind_of(user_id).capitalize()} names no Aha! user: it is neither an id, which is made of digits, "
            "nor an email."
        )
    return _check_id(user_id, "user")


def _check_id(value: str, what: str) -> str:
    text = str(value).strip()
    if not _ID.fullmatch(text):
        raise AhaConfigurationError(
            f"{kind_of(value).capitalize()} is not the id of an Aha! {what}: an id is made of digits."
        )
    return text


def _user(body: bytes) -> dict[str, Any]:
    """Read one user: Aha! wraps some answers and leaves others bare."""
    answer, _ = read_json(body)
    user = answer.get("user", answer) if isinstance(answer, dict) else None
    if not isinstance(user, dict) or not is_record_id(user.get("id")):
        raise ValueError("no user with an id")
    return {**user, "id": str(user["id"])}


def _shown(body: bytes, user_id: str) -> dict[str, Any]:
    """Read what the answer to a write shows of a user: nothing, where it has no body or is of somebody else."""
    if not body.strip():
        return {}
    answer, _ = read_json(body)
    user = answer.get("user", answer) if isinstance(answer, dict) else None
    if not isinstance(user, dict) or str(user.get("id", user_id)) != user_id:
        return {}
    return {**readable(user)[0], "id": user_id}


def _shown_role(body: bytes, workspace_id: str) -> dict[str, Any]:
    """Read what the answer to a write shows of a role: nothing, where it has no body or is of elsewhere."""
    if not body.strip():
        return {}
    answer, _ = read_json(body)
    if not isinstance(answer, dict) or str(answer.get("product_id")) != workspace_id:
        return {}
    return {**answer, "product_id": workspace_id}


def _whole(body: bytes, decode: Callable[[Sequence[bytes]], Any] | None) -> bytes:
    """Let only bytes through that can be a page: a web page or an answer that was cut is fetched again at once."""
    body = without_mark(body)
    text = body.strip()
    if not (text.startswith(b"{") and text.endswith(b"}")):
        raise ValueError("not an object")
    if decode:
        decode([body])
    return body


def _decoded(
    bodies: Sequence[bytes],
    first: int,
    decode: Callable[[Sequence[bytes]], Sequence[P]],
    fetch: Callable[[int, Callable[[bytes], P]], P],
) -> Sequence[P]:
    """Decode pages together, and where that fails one by one; one that is no page is fetched again."""

    def alone(body: bytes) -> P:
        return decode([body])[0]

    def again(number: int, body: bytes) -> P:
        try:
            return alone(body)
        except UNDECODABLE:
            return fetch(number, alone)

    try:
        return decode(bodies)
    except UNDECODABLE:
        return [again(number, body) for number, body in enumerate(bodies, first)]


def _email(user: Mapping[str, Any]) -> str:
    return str(user.get("email") or "").strip().casefold()


def _seat_groups(body: bytes) -> list[dict[str, Any]]:
    """Read the groups: a list without pagination."""
    answer, _ = read_json(body)
    groups = answer.get("paid_seat_groups") if isinstance(answer, dict) else None
    if not isinstance(groups, list) or not all(
        isinstance(group, dict) and is_record_id(group.get("id")) for group in groups
    ):
        raise ValueError("no list of groups with ids")
    return [{**group, "id": str(group["id"])} for group in groups]


def _users_page(body: bytes) -> JsonPage:
    return JsonPage(body, "users")


def _json_pages(bodies: Sequence[bytes], key: str) -> list[JsonPage]:
    return [JsonPage(body, key) for body in bodies]


class _PassCheck:
    """Watches one pass over a list for every change that can be seen.

    A record that is deleted shifts all later ones by one place, so that the next page leaves one out; the
    count can still add up when another was created meanwhile. Hence any move of ``total_records`` counts,
    not just a sum that is wrong at the end.
    """

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._last_id = ""
        self._seen: set[str] = set()
        self._rows = 0
        self._total: int | None = None
        self.last_page = 1

    def add(self, page: Page, number: int) -> None:
        if self._total is None:
            self._total = page.total_records
            self.last_page = page.total_pages or math.ceil(self._total / max(len(page.ids), 1))
        elif page.total_records != self._total:
            raise _PagesShiftedError(f"total_records went from {self._total} to {page.total_records}")
        if page.number != number:
            raise _PagesShiftedError(f"page {number} was asked for and page {page.number} came")
        if not page.ids and self._total:
            raise _PagesShiftedError(f"page {number} of {self.last_page} was empty")
        if self._ordered:
            self._check_order(page.ids)
        else:
            self._check_unique(page.ids)
        self._rows += len(page.ids)

    def finish(self) -> None:
        if self._rows != self._total:
            raise _PagesShiftedError(f"{self._rows} records came of the {self._total} that Aha! counts")

    def _check_order(self, ids: Sequence[str]) -> None:
        for record_id in ids:
            # Ids are numbers too long for a float; zeros in front make their text sort as the numbers do.
            padded = record_id.zfill(20)
            if padded <= self._last_id:
                kind = "came twice" if padded == self._last_id else "came out of order"
                raise _PagesShiftedError(f"id {record_id} {kind}")
            self._last_id = padded

    def _check_unique(self, ids: Sequence[str]) -> None:
        for record_id in ids:
            if record_id in self._seen:
                raise _PagesShiftedError(f"id {record_id} came twice")
            self._seen.add(record_id)


class _LookAhead:
    """Fetches pages in threads, a bounded number ahead of the reader, and hands them over in order.

    The first page that fails ends the work of all threads: nobody sends or waits on for a read that is lost.
    What is on its way at the end is not waited for: within a second its thread sees that nobody wants it, and no
    process waits for a thread.
    """

    def __init__(self, threads: int, fetch: Callable[[int, Callable[[], bool]], bytes], clock: Clock) -> None:
        self.taken = 0
        self._asked = 0
        # One late page must not keep the threads of those after it waiting.
        self._depth = 2 * threads
        self._fetch = fetch
        self._clock = clock
        self._pending: deque[Future[bytes]] = deque()
        self._failure: BaseException | None = None
        self._stopped = False
        self._pool = DaemonExecutor(threads, "aha-page")

    def __enter__(self) -> _LookAhead:
        self.ask(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._pool.shutdown()

    def ask(self, last_page: int) -> None:
        """Have pages fetched, as many as may be under way and none beyond the last."""
        while self._asked < min(self.taken + self._depth, last_page):
            self._asked += 1
            self._pending.append(self._pool.submit(self._run, self._asked))

    def take(self, most: int) -> list[bytes]:
        """Wait for the next page that was asked for, and take those after it that have come meanwhile."""
        while not wait([self._pending[0]], _LOOK_SECONDS).done:
            self._clock.sleep(0.0)
            if self._failure:
                break
        bodies: list[bytes] = []
        size = 0
        while self._failure or (self._pending and self._pending[0].done() and len(bodies) < most):
            if self._failure:
                raise self._failure
            size += len(self._pending[0].result())
            # Together they take no more memory than one that is as large as may be.
            if bodies and size > LARGEST_ANSWER:
                break
            bodies.append(self._pending.popleft().result())
        self.taken += len(bodies)
        return bodies

    def _run(self, number: int) -> bytes:
        try:
            return self._fetch(number, self._is_stopped)
        except BaseException as error:
            # Threads that are stopped by this one's failure fail after it.
            self._failure = self._failure or error
            self._stop()
            raise

    def _is_stopped(self) -> bool:
        return self._stopped

    def _stop(self) -> None:
        self._stopped = True
        self._clock.wake()
