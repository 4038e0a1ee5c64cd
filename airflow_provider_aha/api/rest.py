"""Requests to a REST API: one connection pool, pacing, retries, typed errors. What the clients have in common.

Plain Python without Airflow.
"""

from __future__ import annotations

import base64
import logging
import math
import random
import re
import ssl
import threading
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from http.cookiejar import DefaultCookiePolicy
from typing import Any, ClassVar, NoReturn, Self, TypeVar
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from airflow_provider_aha.api.config import RestConfig
from airflow_provider_aha.api.ratelimit import Clock, RateLimiter, http_date, never
from airflow_provider_aha.api.wire import ENCODINGS, BoundedAdapter, TooLargeError, body_of, patience
from airflow_provider_aha.exceptions import (
    AhaConfigurationError,
    AhaConnectionError,
    AhaError,
    AhaProtocolError,
    AhaRateLimitError,
    AhaServerError,
)
from airflow_provider_aha.version import package_version

log = logging.getLogger(__name__)

# Of the 4xx these say that the request came at the wrong moment; of the 5xx these stay as they are.
_PASSING_4XX = frozenset({408, 425, 429})
_LASTING_5XX = frozenset({501, 505})
# What headers of an answer may look like before they are shown or kept.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CONTENT_TYPE = re.compile(r"no content type|[a-z0-9.+-]{1,30}/[a-z0-9.+-]{1,60}")
_DATE = re.compile(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT")
_PART_OF_A_KEY = 16
# Seconds: as long as an answer may take to come, and what clocks that nobody minds drift apart.
_CLOCKS_DIFFER = 900.0
_FIRST_BACKOFF = 0.5
_LONGEST_BACKOFF = 30.0
# A page of 200 users with some 1400 roles each fits in; packed or not, nothing larger is read.
LARGEST_ANSWER = 32 * 1024 * 1024
# What a decoder raises for an answer that is not what it decodes.
UNDECODABLE = (ValueError, KeyError, TypeError)

T = TypeVar("T")


@dataclass(frozen=True)
class Service:
    """What one API has of its own.

    :param name: what it is called.
    :param account: what a connection leads to, for the sentence that it doesn't.
    :param prefix: the part of every path that requests don't name.
    :param auth_header: the header that holds the key.
    :param auth_prefix: what stands before the key in it.
    :param sandbox_header: the header by which a sandbox says that it is one.
    :param refusals: the error class of a status, and the sentence after the account's name.
    :param idempotent: the methods that may be sent twice.
    :param successes: the statuses that mean done.
    """

    name: str
    account: str
    prefix: str
    auth_header: str
    auth_prefix: str
    sandbox_header: str
    refusals: Mapping[int, tuple[type[AhaError], str]]
    idempotent: frozenset[str] = frozenset({"GET", "PUT"})
    successes: frozenset[int] = frozenset({200})


class _KeyAuth(AuthBase):
    """Sets the header as an auth object, so that a ``.netrc`` entry of the host can't replace it."""

    def __init__(self, service: Service, key: str) -> None:
        self._name = service.auth_header
        self._value = service.auth_prefix + key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers[self._name] = self._value
        return request


class _Shown(logging.Filter):
    """Has urllib3 log our requests by the path that may be shown: the real one, or its query, may hold an email."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.local()

    @contextmanager
    def as_path(self, shown: str) -> Iterator[None]:
        self._thread.shown = shown
        try:
            yield
        finally:
            self._thread.shown = None

    def filter(self, record: logging.LogRecord) -> bool:
        shown = getattr(self._thread, "shown", None)
        if shown is not None and isinstance(record.args, tuple):
            record.args = tuple(_harmless(one, shown) for one in record.args)
            # The traceback of headers that can't be read quotes them.
            record.exc_info = None
        return True


def _harmless(argument: object, shown: str) -> object:
    if isinstance(argument, Exception):
        return type(argument).__name__
    is_address = isinstance(argument, str) and argument.startswith(("/", "http://", "https://"))
    return shown if is_address else argument


_shown = _Shown()
for _name in ("urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(_shown)


def logged_as(shown: str) -> AbstractContextManager[None]:
    """Have urllib3 log the requests of this thread by another path than theirs.

    :param shown: the path that may be shown.
    """
    return _shown.as_path(shown)


def is_transient(status: int | None) -> bool:
    """Tell whether a status is a fault that passes, so that the same request may succeed a little later.

    Whatever 5xx a server, or something before it, makes up is one: 520 to 530 are Cloudflare's. Whether the request
    may be sent again at all is another question.

    :param status: of the answer; None where there was none.
    """
    return status is not None and (status in _PASSING_4XX or (500 <= status < 600 and status not in _LASTING_5XX))


class RetryBudget:
    """The seconds that the retries of one call may wait in sum; waits of several threads at once count once."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._until = -math.inf
        self._lock = threading.Lock()

    def take(self, now: float, seconds: float) -> bool:
        """Take what a wait adds to the sum.

        :param now: when it begins, on a clock that never goes backwards.
        :param seconds: how long it is.
        :return: false when that is more than what is left; nothing is taken then.
        """
        with self._lock:
            until = now + seconds
            added = max(until - max(now, self._until), 0.0)
            if added > self._left:
                return False
            self._left -= added
            self._until = max(self._until, until)
            return True


class RestClient:
    """Sends requests to one service and makes a typed error of every failure; safe to use from several threads.

    :param config: where, with which key, and the limits.
    :param user_agent: what to add to the ``User-Agent``.
    :param clock: time and sleep; for tests.
    """

    service: ClassVar[Service]

    def __init__(self, config: RestConfig, *, user_agent: str = "", clock: Clock | None = None) -> None:
        self.config = config
        self._says_sandbox: set[bool] = set()
        self._clock_ahead = 0.0
        self._clock = clock or Clock()
        self._limiter = RateLimiter(
            config.requests_per_second, config.requests_per_minute, config.max_in_flight, self._clock
        )
        agent = f"airflow-provider-aha/{package_version()} {user_agent}".strip()
        self._session = _session(self.service, config, agent)
        self._adapter = self._session.get_adapter(config.base_url)
        self._settings = _settings(self._session, config)
        self._parts_of_key = _parts_of(self.service, config.api_key)

    @property
    def sandbox(self) -> bool:
        """Whether every answer so far says that it is a sandbox's; before the first, nothing does."""
        return self._says_sandbox == {True}

    def check_clock(self) -> None:
        """Refuse to go on where this worker's clock is not the server's, by the latest answer that tells its date.

        Last days, caps and approvals are counted by the worker's clock: one that is a day ahead would take access
        from somebody who still works there.

        :raises AhaConfigurationError: when they differ by more than a quarter of an hour.
        """
        if abs(self._clock_ahead) > _CLOCKS_DIFFER:
            hours, way = abs(self._clock_ahead) / 3600, "ahead of" if self._clock_ahead > 0 else "behind"
            raise AhaConfigurationError(
                f"The clock of this worker is {hours:,.1f} hours {way} that of {self._where}. Last days and caps "
                "are counted by it, so nothing was done. Set the worker's clock, by NTP for example."
            )

    @property
    def clock(self) -> Clock:
        """Time and sleep of this client."""
        return self._clock

    @property
    def requests_sent(self) -> int:
        """How many requests this client has sent, retries included."""
        return self._limiter.granted

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.config.account!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def cancel(self) -> None:
        """End what runs, in any thread, with :class:`AhaCancelledError`; the client is of no use afterwards.

        It may come from a signal handler. A request that reads ends within a second; one that may change something
        is waited for, so that its answer is known.
        """
        self._clock.cancel()

    # ---- requests -------------------------------------------------------------------------------------

    @property
    def _where(self) -> str:
        return f"{self.service.name} account {self.config.account} ({self.config.host})"

    def _call(
        self,
        method: str,
        path: str,
        *,
        decode: Callable[[bytes], T],
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | Sequence[Any] | None = None,
        budget: RetryBudget | None = None,
        stopped: Callable[[], bool] = never,
        shown: str | None = None,
        again: bool | None = None,
        receipt: dict[str, Any] | None = None,
        successes: Container[int] | None = None,
    ) -> T:
        """Send a request until it succeeds, fails for good, or the retries are used up.

        ``shown`` is the path as logs and errors may show it, where the real one holds a name or an email;
        ``again`` says whether the request may be sent twice, where the method alone doesn't; ``successes`` are the
        statuses that mean done, where they are others than the service's. ``receipt`` is given ``http_status``,
        ``request_id`` and ``date`` of the last answer, also of one that can't be used, and ``unanswered`` where an
        attempt may have arrived though no usable answer came.
        """
        shown = shown or path
        again = method in self.service.idempotent if again is None else again
        budget = budget or RetryBudget(self.config.retry_budget)
        successes = self.service.successes if successes is None else successes
        receipt = {} if receipt is None else receipt
        attempt = 0
        while True:
            attempt += 1
            number = self._limiter.acquire(stopped)
            try:
                with _shown.as_path(shown):
                    return self._attempt(number, method, path, params, body, decode, receipt, successes, stopped)
            except AhaError as error:
                error.method, error.path, error.attempts = method, shown, attempt
                if not _is_refusal(error):
                    receipt["unanswered"] = True
                if (
                    not self._is_retryable(error, again=again, successes=successes)
                    or attempt > self.config.max_retries
                ):
                    raise
                pause = self._backoff(error, attempt)
                if not budget.take(self._clock.monotonic(), pause):
                    raise
                log.info("%s %s: %s Trying again in %.1f s.", method, shown, error, pause)
            self._clock.sleep(pause, stopped)

    def _attempt(
        self,
        number: int,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        body: Mapping[str, Any] | Sequence[Any] | None,
        decode: Callable[[bytes], T],
        receipt: dict[str, Any],
        successes: Container[int],
        stopped: Callable[[], bool],
    ) -> T:
        for name in ("http_status", "request_id", "date"):
            # What an earlier attempt was answered isn't this one's.
            receipt[name] = None
        response, answer = self._exchange(number, method, path, params, body, stopped)
        receipt.update(
            http_status=response.status_code,
            request_id=self._request_id(response),
            date=_date_of(response),
        )
        if response.status_code not in successes:
            self._raise_for_status(response, answer or b"")
        if answer is None:
            raise self._too_large(response)
        try:
            return decode(answer)
        except UNDECODABLE as error:
            raise self._not_the_api(response, len(answer)) from error

    @cached_property
    def _request(self) -> requests.PreparedRequest:
        """What all requests have in common, made once: that costs more than to send one."""
        return self._session.prepare_request(requests.Request("GET", self.config.base_url))

    def _exchange(
        self,
        number: int,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        body: Mapping[str, Any] | Sequence[Any] | None,
        stopped: Callable[[], bool],
    ) -> tuple[requests.Response, bytes | None]:
        """Send one request, and return its answer; None in place of a body that is too large."""
        headers: Mapping[str, str] | None = None
        try:
            request = self._request.copy()
            request.method = method
            request.prepare_url(f"{self.config.base_url}{self.service.prefix}{path}", params)
            if body is not None:
                request.prepare_body(None, None, json=body)
            with patience(self._patience(method, stopped)):
                # Without the session around it: that would follow redirects, keep cookies, and take its time.
                response = self._adapter.send(
                    request, timeout=(self.config.connect_timeout, self.config.read_timeout), **self._settings
                )
                headers = response.headers
                answer = _body(response)
        except (OSError, ValueError) as error:
            broken = isinstance(error, ValueError) and (headers is not None or _is_of_an_answer(error))
            raise self._no_answer(requests.ConnectionError() if broken else error) from None
        finally:
            self._limiter.release(headers, number)
        self._says_sandbox.add(self.service.sandbox_header in response.headers)
        if (date := http_date(_date_of(response))) is not None:
            self._clock_ahead = self._clock.time() - date
        return response, answer

    def _patience(self, method: str, stopped: Callable[[], bool]) -> Callable[[], float]:
        """Return what says how many seconds a request has left that begins now."""
        end = self._clock.monotonic() + self.config.longest_request

        def left() -> float:
            if method == "GET":
                self._clock.check(stopped)
            return end - self._clock.monotonic()

        return left

    def _is_retryable(self, error: AhaError, *, again: bool, successes: Container[int] | None = None) -> bool:
        """Apply the one rule for retries: passing faults, and only where a second try can't do a thing twice."""
        if not again:
            return False
        if isinstance(error, AhaProtocolError):
            return error.status in (self.service.successes if successes is None else successes)
        if isinstance(error, AhaConnectionError):
            return True
        return is_transient(error.status)

    def _backoff(self, error: AhaError, attempt: int) -> float:
        longest = min(_FIRST_BACKOFF * 2 ** (attempt - 1), _LONGEST_BACKOFF)
        return max(random.uniform(longest / 2, longest), error.retry_after or 0.0)

    # ---- failures -------------------------------------------------------------------------------------

    def _request_id(self, response: requests.Response) -> str | None:
        """Return the server's own number of a request, for errors and evidence; None for whatever else is there."""
        found = str(response.headers.get("X-Request-Id") or "")
        return found if _REQUEST_ID.fullmatch(found) and not self._echoes_key(found) else None

    def _echoes_key(self, text: str) -> bool:
        """Tell whether a server sends the key back, whole or in part, as it is or as headers encode it."""
        text = text.casefold()
        return any(part in text for part in self._parts_of_key)

    def _raise_for_status(self, response: requests.Response, answer: bytes) -> NoReturn:
        status = response.status_code
        facts: dict[str, Any] = {"status": status, "request_id": self._request_id(response)}
        if 300 <= status < 400:
            raise self._redirected(response, facts)
        if status == 429:
            pause = self._limiter.pause(response.headers, _FIRST_BACKOFF)
            raise AhaRateLimitError(
                f"{self._where} limits its requests (429); the next one is welcome in {pause:.0f} s. Other clients "
                "with the same key or address may be using up the limit: run fewer at once, in an Airflow pool.",
                retry_after=pause,
                **facts,
            )
        if 500 <= status < 600 or is_transient(status):
            raise AhaServerError(
                f"{self._where} failed with status {status}. If it lasts, look at {self.service.name}'s status "
                "page.",
                **facts,
            )
        error_class, sentence = self.service.refusals.get(
            status, (AhaProtocolError, "answered with status {status}.")
        )
        raise error_class(f"{self._where} {sentence.format(status=status)}", detail=self._reason(answer), **facts)

    def _reason(self, answer: bytes) -> str | None:  # noqa: ARG002
        """Return what the service says of a refusal, where that is kept."""
        return None

    def _redirected(self, response: requests.Response, facts: Mapping[str, Any]) -> AhaError:
        target = _target_host(response.headers.get("Location", "")) or "another page of the same host"
        target = "another host" if self._echoes_key(target) else target
        return AhaProtocolError(
            f"{self._where} redirects to {target} (status {response.status_code}); the key was not sent there. "
            "If the account's subdomain has changed, put the new one into the connection's host.",
            **facts,
        )

    def _not_the_api(self, response: requests.Response, size: int) -> AhaError:
        kind = response.headers.get("Content-Type", "").split(";")[0].strip().lower() or "no content type"
        if not _CONTENT_TYPE.fullmatch(kind) or self._echoes_key(kind):
            kind = "an odd content type"
        found = "a web page" if kind == "text/html" else f"{size} bytes ({kind})"
        return AhaProtocolError(
            f"{self._where} answered with {found} that is not the API's JSON: it is down for maintenance, the "
            f"answer was cut short, or the connection's host is not {self.service.account}.",
            status=response.status_code,
            request_id=self._request_id(response),
        )

    def _too_large(self, response: requests.Response) -> AhaError:
        return AhaProtocolError(
            f"{self._where} answered with more than {LARGEST_ANSWER // 1024**2} MB, and nothing of that was kept. "
            "If the account is that large, a smaller `page_size` in the connection's extra makes answers smaller.",
            status=response.status_code,
            request_id=self._request_id(response),
        )

    def _no_answer(self, error: Exception) -> AhaError:
        kind = AhaConfigurationError if _is_lasting(error) else AhaConnectionError
        return kind(f"{self._where} could not be reached: {_cause(error)}")


def _is_refusal(error: AhaError) -> bool:
    """Tell whether an answer says that nothing was done; a proxy that waited in vain (408) can't know that."""
    return error.status is not None and 400 <= error.status < 500 and error.status != 408


def _date_of(response: requests.Response) -> str | None:
    """Return the server's own clock as HTTP writes it; None for whatever else is there."""
    found = str(response.headers.get("Date") or "")
    return found if _DATE.fullmatch(found) else None


def _parts_of(service: Service, key: str) -> frozenset[str]:
    """Return the parts of a key as it may come back: as it is, and in base64, alone and as the header has it."""
    sent = (key, service.auth_prefix + key)
    packed = (base64.b64encode(one.encode()).decode().rstrip("=") for one in sent)
    return frozenset(
        one.casefold()[at : at + _PART_OF_A_KEY]
        for one in (key, *packed)
        for at in range(max(len(one) - _PART_OF_A_KEY, 0) + 1)
    )


def _body(response: requests.Response) -> bytes | None:
    try:
        return body_of(response, LARGEST_ANSWER)
    except TooLargeError:
        return None


def _is_lasting(error: Exception) -> bool:
    """Tell whether the settings are at fault, so that nothing was sent and the next try would end the same."""
    # What requests and urllib3 say of an unusable address is a ValueError, of an unreadable bundle an OSError.
    return isinstance(error, ValueError) or not isinstance(error, requests.RequestException)


def _is_of_an_answer(error: ValueError) -> bool:
    """Tell whether the headers of an answer can't be (two lengths): there the library wraps an error of its own."""
    return isinstance(error, requests.exceptions.InvalidHeader) and isinstance(error.args[0], Exception)


def _cause(error: Exception) -> str:
    """Say in plain words why no answer came; the library's own text may hold addresses and queries."""
    text = str(error)
    if isinstance(error, ValueError):
        return (
            "an address can't be used. Check host, port, `base_url` and `proxies` of the connection, and the proxy "
            "variables of the worker; a SOCKS proxy needs the package requests[socks]."
        )
    if not isinstance(error, requests.RequestException):
        return (
            "the CA bundle can't be read. Check `verify` in the connection's extra, and the variables "
            "REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE of the worker."
        )
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy did not let the request through. Check `proxies` and the proxy variables of the worker."
    if isinstance(error, requests.exceptions.SSLError):
        if _is_refused_certificate(error):
            return "its TLS certificate can't be verified. Behind a company proxy, name its CA bundle in `verify`."
        return "the TLS handshake failed. Check host and port of the connection; a local sandbox has schema http."
    # A body that stops coming is a plain ConnectionError to requests.
    if isinstance(error, requests.exceptions.Timeout) or "timed out" in text:
        return "it did not answer in time. Try again, or raise `timeout` in the connection's extra."
    if "NameResolutionError" in text or "Name or service not known" in text or "getaddrinfo" in text:
        return "its name is not known. Check the subdomain in the connection's host, and the worker's DNS."
    if "Connection refused" in text:
        return "the connection was refused. Check host and port of the connection."
    return "the connection broke off. Try again; if it lasts, look at the network of the worker."


def _is_refused_certificate(error: BaseException) -> bool:
    """Look for a refused certificate among the errors that were wrapped into each other."""
    inner = [error.__cause__, error.__context__, getattr(error, "reason", None), *error.args]
    return isinstance(error, ssl.SSLCertVerificationError) or any(
        isinstance(one, Exception) and _is_refused_certificate(one) for one in inner
    )


def _target_host(location: str) -> str | None:
    try:
        return urlsplit(location).hostname
    except ValueError:
        return "an unreadable address"


def _session(service: Service, config: RestConfig, user_agent: str) -> requests.Session:
    # One session for all threads: its connection pool is made for that, and nothing else of it changes.
    session = requests.Session()
    session.auth = _KeyAuth(service, config.api_key)
    session.headers.update({"User-Agent": user_agent, "Accept": "application/json", "Accept-Encoding": ENCODINGS})
    # A session cookie would be a second identity beside the key.
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.mount(config.base_url, BoundedAdapter(pool_maxsize=config.max_in_flight))
    return session


def _settings(session: requests.Session, config: RestConfig) -> dict[str, Any]:
    """Merge the connection's settings with the worker's environment, once: it costs a fifth of a request.

    Given as a session's own, ``proxies`` and ``verify`` would be overruled by the environment.
    """
    settings = dict(session.merge_environment_settings(config.base_url, {}, None, config.verify, None))
    if config.proxies is not None:
        settings["proxies"] = config.proxies
    elif config.is_loopback:
        settings["proxies"] = {}
    return settings
