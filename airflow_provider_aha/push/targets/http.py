"""A JSON endpoint as target: one record or one batch per request, an idempotency key, and rules of success."""

from __future__ import annotations

import base64
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import quote, urlsplit

import orjson
import requests
from requests.auth import HTTPBasicAuth

from airflow_provider_aha.api.rest import is_transient, logged_as
from airflow_provider_aha.api.wire import ENCODINGS, BoundedAdapter, TooLargeError, body_of, patience
from airflow_provider_aha.exceptions import (
    AhaAuthenticationError,
    AhaConfigurationError,
    AhaError,
    AhaPermissionError,
    AhaTargetError,
)
from airflow_provider_aha.push.mapping.spec import INSERT, UPDATE, MappingSpec
from airflow_provider_aha.push.mapping.transforms import to_string
from airflow_provider_aha.push.targets.base import (
    ADDED,
    REJECTED,
    SENT,
    SKIPPED,
    Answer,
    Batch,
    BatchRefusedError,
    BrokenOffError,
    SendAgainError,
    Target,
)

METHODS = ("POST", "PUT", "PATCH")
_PLACE = re.compile(r"\{([^{}]*)\}")
_GONE = frozenset({404, 410})
_REASON = 500
# What is shorter may be a word of any answer.
_SHORTEST_SECRET = 6
# Of an answer that is larger only the status is known.
_MOST = 10 * 1024 * 1024
# A request may take so many times the timeout, whatever comes in between.
_PARTS = 5


@dataclass(frozen=True)
class Success:
    """What makes an answer a success; paths lead into its JSON, such as ``result.errors``.

    :param statuses: the statuses that may be one; empty: 200 to 299.
    :param ok: path of a flag that must be true.
    :param errors: path of what must be null, false or empty.
    :param results: path of a list with one entry per record of a batch, in its order; ``ok`` and ``errors`` are
        looked up in each entry then.
    """

    statuses: frozenset[int] = frozenset()
    ok: str | None = None
    errors: str | None = None
    results: str | None = None

    def is_success(self, status: int) -> bool:
        """Tell whether a status may be one.

        :param status: the answer's status.
        """
        return status in self.statuses if self.statuses else 200 <= status < 300

    @property
    def reads(self) -> bool:
        """Whether the body of an answer decides."""
        return bool(self.ok or self.errors or self.results)


@dataclass(frozen=True)
class Endpoint:
    """Where records go, and how.

    :param url: scheme, host, port and perhaps a path.
    :param path: the path below it; names of fields in braces stand for the record's values.
    :param method: ``POST``, ``PUT`` or ``PATCH``.
    :param headers: further headers; the same names may stand in their values.
    :param login: for basic authentication.
    :param password: for basic authentication.
    :param batch: whether a request takes a list of records.
    :param wrap: the key under which the body holds the records; None: they are the body.
    :param idempotency_header: the header that holds what is the same when a request is sent twice.
    :param success: what makes an answer a success.
    :param timeout: seconds to connect, and to wait for an answer.
    :param verify: whether, and by which CA bundle, certificates are checked.
    :param proxies: proxies by scheme.
    """

    url: str
    path: str = ""
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    batch: bool = False
    wrap: str | None = None
    idempotency_header: str = "Idempotency-Key"
    success: Success = field(default_factory=Success)
    timeout: float = 60.0
    verify: bool | str = True
    proxies: Mapping[str, str] | None = field(default=None, repr=False)


class HttpTarget(Target):
    """Sends records to a JSON endpoint.

    :param connection: what the connection is called, for the layout and for sentences.
    :param endpoint: where the records go, and how.
    :param batch_size: how many records a request takes, where it takes a list.
    """

    kind = "http"

    def __init__(self, connection: str, endpoint: Endpoint, *, batch_size: int = 100) -> None:
        self._connection = connection
        self._to = endpoint
        self.batch_size = batch_size
        self._host = urlsplit(endpoint.url).hostname or ""

    @property
    def name(self) -> str:
        """Connection, method and path."""
        return f"{self._connection} {self._to.method} {self._to.path}"

    def open(self, spec: MappingSpec, *, dry_run: bool) -> None:
        """Check what stands in braces, and get ready.

        :param spec: the mapping.
        :param dry_run: nothing is sent.
        """
        known = {"batch_id"} if self._to.batch else {"batch_id", *(one.name for one in spec.fields)}
        for what, text in {"path": self._to.path, **self._to.headers}.items():
            for name in _PLACE.findall(text):
                if name not in known:
                    raise AhaConfigurationError(
                        f"{{{name}}} in {what} of the request stands for nothing; what may stand there: "
                        f"{', '.join(sorted(known))}."
                    )
        self._session = _session(self._to)

    def close(self) -> None:
        """Close the connections."""
        if hasattr(self, "_session"):
            self._session.close()

    def send(self, batch: Batch) -> Sequence[Answer]:
        """Send records.

        :param batch: the records.
        """
        if self._to.batch:
            records = batch.records()
            return self._judged(batch, self._exchange({"batch_id": batch.id}, records), len(records))
        answers: list[Answer] = []
        try:
            for position, record in enumerate(batch.records()):
                answers.append(self._one(batch.part(position, position + 1), record))
        except AhaError as error:
            raise BrokenOffError(answers, error) from error
        return answers

    def _one(self, batch: Batch, record: Mapping[str, Any]) -> Answer:
        places = {one.name: record.get(one.name) for one in batch.spec.fields}
        try:
            return self._judged(batch, self._exchange({**places, "batch_id": batch.id}, record), 1)[0]
        except BatchRefusedError as error:
            return error.answer

    # --- the request -------------------------------------------------------------------------------

    def _exchange(self, places: Mapping[str, Any], body: Any) -> tuple[int, bytes]:
        """Send a request, and return status and body of its answer."""
        to = self._to
        content = orjson.dumps({to.wrap: body} if to.wrap else body)
        try:
            url = to.url + _PLACE.sub(lambda found: _in_path(places, found[1]), to.path)
            headers = {
                name: _PLACE.sub(lambda f: _in_header(places, f[1]), text) for name, text in to.headers.items()
            }
        except ValueError as error:
            raise BatchRefusedError(str(error)) from None
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": ENCODINGS,
            to.idempotency_header: str(places["batch_id"]),
            **headers,
        }
        end = time.monotonic() + _PARTS * to.timeout
        try:
            # A redirect could lead the record and the credentials to somebody else.
            options: dict[str, Any] = {"timeout": to.timeout, "allow_redirects": False, "stream": True}
            with (
                logged_as(to.path),
                patience(lambda: end - time.monotonic()),
                self._session.request(to.method, url, data=content, headers=headers, **options) as response,
            ):
                answer = _body(response)
        except (requests.RequestException, OSError) as error:
            if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader)):
                raise BatchRefusedError("the record makes a path or a header that HTTP can't carry") from None
            raise SendAgainError(f"{self._host} gave no answer ({type(error).__name__}).") from None
        self._check(response)
        if answer is None and self._to.success.is_success(response.status_code):
            raise AhaTargetError(
                f"{self._host} answered {response.status_code} with more than {_MOST // 1024**2} MB, which is not "
                "read: what became of the records is not known.",
                status=response.status_code,
            )
        return response.status_code, answer or b""

    def _check(self, response: requests.Response) -> None:
        status = response.status_code
        if self._to.success.is_success(status):
            return
        where = f"{self._host} answered {status}"
        if status == 401:
            raise AhaAuthenticationError(
                f"{where}: look at the credentials of the connection {self._connection}.", status=status
            )
        if status == 403:
            raise AhaPermissionError(
                f"{where}: the credentials of the connection {self._connection} may not do this.", status=status
            )
        if is_transient(status):
            wait = _seconds(response.headers.get("Retry-After"))
            raise SendAgainError(f"{where}.", status=status, retry_after=wait)
        if 300 <= status < 400:
            raise AhaTargetError(
                f"{where}, a redirect, which is not followed: correct host and path.", status=status
            )
        if status >= 500:
            raise AhaTargetError(
                f"{where}: it can't do that for any record. Look at method and path.", status=status
            )

    # --- the answer --------------------------------------------------------------------------------

    def _judged(self, batch: Batch, answer: tuple[int, bytes], count: int) -> list[Answer]:
        status, body = answer
        success, code = self._to.success, str(answer[0])
        if not success.is_success(status):
            return self._refused(batch, status, body)
        done = Answer(ADDED if status == 201 else SENT)
        if not success.reads:
            return [done] * count
        found = _parsed(body)
        if success.results is None:
            if (reason := _objection(found, success)) is not None:
                raise BatchRefusedError(self._without_secrets(reason), code=code)
            return [done] * count
        results = _at(found, success.results)
        if not isinstance(results, list) or len(results) != count:
            raise AhaTargetError(
                f"{self._host} answered {status} without one result per record at {success.results}: what became "
                f"of {count} records is not known.",
                status=status,
            )
        reasons = [_objection(result, success) for result in results]
        return [
            done if reason is None else Answer(REJECTED, self._without_secrets(reason), code=code)
            for reason in reasons
        ]

    def _refused(self, batch: Batch, status: int, body: bytes) -> list[Answer]:
        code, mode = str(status), batch.spec.mode
        if not self._to.batch and status == 409 and mode == INSERT:
            return [Answer(SKIPPED, "it is there already, and the mode is insert", code=code)]
        if not self._to.batch and status in _GONE and mode == UPDATE:
            return [Answer(SKIPPED, "it isn't there, and the mode is update", code=code)]
        if status in _GONE | {405} and not _PLACE.search(self._to.path):
            raise AhaTargetError(
                f"{self._host} answered {status}: there is nothing at the path that takes {self._to.method}.",
                status=status,
            )
        text = self._without_secrets(body[: 2 * _REASON].decode("utf-8", "replace").strip())[:_REASON]
        raise BatchRefusedError(text or f"answered {status}", code=code)

    def _without_secrets(self, text: str) -> str:
        """Take out of an answer what the connection keeps secret: outcomes are read by many."""
        to = self._to
        basic = base64.b64encode(f"{to.login}:{to.password}".encode()).decode()
        values = [part for value in to.headers.values() for part in value.split()]
        for secret in (to.password or "", basic, *values):
            if len(secret) >= _SHORTEST_SECRET:
                text = re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE)
        return text


def _body(response: requests.Response) -> bytes | None:
    try:
        return body_of(response, _MOST)
    except TooLargeError:
        return None


def _session(to: Endpoint) -> requests.Session:
    session = requests.Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    # Without an auth object of its own, requests would take one from a .netrc.
    session.auth = HTTPBasicAuth(to.login, to.password or "") if to.login else _no_auth
    session.verify = to.verify
    for scheme in ("https://", "http://"):
        session.mount(scheme, BoundedAdapter())
    session.proxies.update(to.proxies or {})
    return session


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _value(places: Mapping[str, Any], name: str) -> str:
    value = places.get(name)
    if value is None:
        raise ValueError(f"{name} is null, and the request needs it")
    return to_string(value)


def _in_path(places: Mapping[str, Any], name: str) -> str:
    text = quote(_value(places, name), safe="")
    # These would lead to another path.
    if text in ("", ".", ".."):
        raise ValueError(f"{name} can't stand in a path")
    return text


def _in_header(places: Mapping[str, Any], name: str) -> str:
    text = _value(places, name)
    if not text.isascii() or not text.isprintable():
        raise ValueError(f"{name} can't stand in a header")
    return text


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        raise AhaTargetError(
            "The endpoint answered with a success that is no JSON, and the rule of success reads JSON: what became "
            "of the records is not known."
        ) from None


def _at(found: Any, path: str) -> Any:
    for step in path.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def _objection(found: Any, success: Success) -> str | None:
    """Return why an answer is no success, or None."""
    errors = _at(found, success.errors) if success.errors else None
    if errors:
        text = errors if isinstance(errors, str) else json.dumps(errors, ensure_ascii=False)
        return text[:_REASON]
    if success.ok and _at(found, success.ok) is not True:
        return f"{success.ok} is not true in the answer"
    return None


def _seconds(text: str | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> float | None:
    """Read Retry-After: seconds, or a date."""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        seconds = (moment - now()).total_seconds()
    return max(seconds, 0.0) if math.isfinite(seconds) else None
