"""One request: what goes over the wire, what is tried again, and what never leaves."""

from __future__ import annotations

import datetime as dt
import ipaddress
import logging
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.api.rest import RetryBudget
from airflow_provider_aha.exceptions import (
    AhaCancelledError,
    AhaConfigurationError,
    AhaConnectionError,
    AhaError,
    AhaNotFoundError,
    AhaPermissionError,
    AhaProtocolError,
    AhaRateLimitError,
    AhaServerError,
    AhaValidationError,
)
from airflow_provider_aha.version import package_version
from tests.api.conftest import KEY

OWNER = {"user": {"id": "7", "name": "Ada"}}


def failure(call: Any, *arguments: Any) -> AhaError:
    with pytest.raises(AhaError) as caught:
        call(*arguments)
    return caught.value


@pytest.fixture
def owner_server(serve, reply):
    return serve(lambda _: reply(OWNER))


@pytest.fixture
def client(aha_sandbox, connect):
    return connect(aha_sandbox.url)


@pytest.fixture
def user_id(aha_sandbox):
    return aha_sandbox.account.user_ids[10]


# --- what is sent --------------------------------------------------------------------------------


def test_a_request_says_who_asks_and_brings_the_key(owner_server, connect):
    connect(owner_server.url, user_agent="airflow/3.3.2").me()

    (seen,) = owner_server.seen
    assert (seen.method, seen.path) == ("GET", "/api/v1/me")
    assert seen.headers["Authorization"] == f"Bearer {KEY}"
    assert seen.headers["Accept"] == "application/json"
    assert seen.headers["User-Agent"] == f"airflow-provider-aha/{package_version()} airflow/3.3.2"


def test_a_gateway_s_path_stands_before_the_api_s(owner_server, connect):
    connect(f"{owner_server.url}/gateway/aha").me()

    assert owner_server.seen[0].path == "/gateway/aha/api/v1/me"


def test_an_entry_in_netrc_does_not_replace_the_key(owner_server, connect, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))

    connect(owner_server.url).me()

    assert owner_server.seen[0].headers["Authorization"] == f"Bearer {KEY}"


def test_a_cookie_is_not_sent_back(serve, reply, connect):
    server = serve(lambda _: reply(OWNER, headers={"Set-Cookie": "session=1; Path=/"}))
    client = connect(server.url)

    client.me()
    client.me()

    assert ["Cookie" in seen.headers for seen in server.seen] == [False, False]


def test_connections_are_used_again(owner_server, connect):
    client = connect(owner_server.url)

    for _ in range(5):
        client.me()

    assert len({seen.client for seen in owner_server.seen}) == 1


def test_the_client_notices_that_it_talks_to_a_sandbox(client, owner_server, connect):
    client.me()
    other = connect(owner_server.url)
    other.me()

    assert (client.sandbox, other.sandbox) == (True, False)


def test_a_sandbox_is_one_only_if_every_answer_says_so(aha_sandbox, client, monkeypatch):
    """A real account behind an address of this machine, or an answer of something in between, says nothing."""
    before = client.sandbox
    client.me()
    assert (before, client.sandbox) == (False, True)
    monkeypatch.setattr("airflow_provider_aha.sandbox.app.SandboxApp.marker", "X-Something-Else")
    client.me()
    monkeypatch.undo()
    client.me()
    assert client.sandbox is False


# --- redirects -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_the_key_never_arrives_where_a_redirect_points(aha_sandbox, client, owner_server, user_id, status, method):
    aha_sandbox.set_fault("redirect", to=owner_server.url, status=status)

    call = client.me if method == "GET" else lambda: client.update_user(user_id, {"enabled": False})
    error = failure(call)

    assert owner_server.seen == []
    assert isinstance(error, AhaProtocolError)
    assert (error.status, error.attempts) == (status, 1)
    assert f"redirects to 127.0.0.1 (status {status}); the key was not sent there" in str(error)
    assert aha_sandbox.account.user(user_id)["enabled"]


@pytest.mark.parametrize("location", ["/login", "", "https://[oops", "//", "\\\\"])
def test_a_redirect_to_nowhere_in_particular_is_refused_in_the_same_words(serve, reply, connect, location):
    server = serve(lambda _: reply(status=302, headers={"Location": location}))

    error = failure(connect(server.url).me)

    assert isinstance(error, AhaProtocolError)
    assert "the key was not sent there" in str(error)
    assert len(server.seen) == 1


# --- retries -------------------------------------------------------------------------------------

PASSING: list[tuple[str, dict[str, Any], type[AhaError]]] = [
    ("error", {"status": 500}, AhaServerError),
    ("error", {"status": 502}, AhaServerError),
    ("error", {"status": 503}, AhaServerError),
    ("error", {"status": 504}, AhaServerError),
    ("rate_limit", {"headers": "reset"}, AhaRateLimitError),
    ("rate_limit", {"headers": "missing"}, AhaRateLimitError),
    ("rate_limit", {"headers": "past"}, AhaRateLimitError),
    ("rate_limit", {"headers": "retry_after"}, AhaRateLimitError),
    ("connection_reset", {}, AhaConnectionError),
    ("truncated_body", {}, AhaConnectionError),
    ("truncated_json", {}, AhaProtocolError),
    ("maintenance", {}, AhaProtocolError),
]
LASTING: list[tuple[int, type[AhaError]]] = [
    (400, AhaValidationError),
    (403, AhaPermissionError),
    (404, AhaNotFoundError),
    (422, AhaValidationError),
]


def named(case: tuple[Any, ...]) -> str:
    return " ".join(str(part) for part in (case[0], *case[1].values()))


@pytest.mark.parametrize(("fault", "options", "kind"), PASSING, ids=map(named, PASSING))
def test_a_passing_fault_is_outlived(aha_sandbox, client, impatient, user_id, fault, options, kind):
    aha_sandbox.set_fault(fault, times=3, **options)

    assert client.get_user(user_id)["id"] == user_id
    assert client.requests_sent == 4


@pytest.mark.parametrize(("fault", "options", "kind"), PASSING, ids=map(named, PASSING))
def test_a_fault_that_does_not_pass_fails_after_the_last_retry(aha_sandbox, client, user_id, fault, options, kind):
    met = aha_sandbox.set_fault(fault, **options)

    error = failure(client.get_user, user_id)

    assert type(error) is kind
    assert (error.method, error.path, error.attempts) == ("GET", f"/users/{user_id}", 6)
    assert met.hits == 6


@pytest.mark.parametrize(("status", "kind"), LASTING)
def test_a_lasting_refusal_is_not_tried_again(aha_sandbox, client, user_id, status, kind):
    met = aha_sandbox.set_fault("error", status=status)

    error = failure(client.get_user, user_id)

    assert type(error) is kind
    assert (error.status, error.attempts, met.hits) == (status, 1, 1)


@pytest.mark.parametrize("status", [201, 204, 402, 418, 501, 505, 600, 999])
def test_a_status_that_the_api_does_not_know_is_not_tried_again(serve, reply, connect, status):
    server = serve(lambda _: reply(status=status))

    error = failure(connect(server.url).me)

    assert f"status {status}" in str(error)
    assert len(server.seen) == 1


PASSING_STATUS = [408, 425, 429, 500, 502, 503, 504, 506, 507, 508, 511, *range(520, 531), 561, 599]


@pytest.mark.parametrize("status", PASSING_STATUS)
@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_a_status_that_passes_is_outlived_where_a_request_may_come_twice(serve, reply, connect, status, method):
    replies = [reply(status=status)]
    server = serve(lambda _: replies.pop() if replies else reply(OWNER))

    def call() -> Any:
        return connect(server.url)._call(method, "/users/7", body=None, decode=orjson.loads)

    if method == "POST":
        assert failure(call).status == status
    else:
        assert call() == OWNER
    assert len(server.seen) == (1 if method == "POST" else 2)


@pytest.mark.parametrize(("status", "kind"), [(408, AhaServerError), (425, AhaServerError), (520, AhaServerError)])
def test_a_status_that_does_not_pass_fails_as_what_it_is(serve, reply, connect, status, kind):
    server = serve(lambda _: reply(b"<html>", status=status))

    error = failure(connect(server.url, max_retries=2).me)

    assert type(error) is kind
    assert (error.status, error.attempts) == (status, 3)


def test_an_update_is_tried_again_because_it_sets_a_state(aha_sandbox, client, user_id):
    aha_sandbox.set_fault("error", status=503, times=2)
    aha_sandbox.set_fault("answer_lost", times=1)

    assert client.update_user(user_id, {"enabled": False})["enabled"] is False

    assert [seen.method for seen in aha_sandbox.requests] == ["PUT"] * 4


@pytest.mark.parametrize(("fault", "options", "kind"), PASSING, ids=map(named, PASSING))
def test_a_post_is_never_tried_again(aha_sandbox, client, user_id, fault, options, kind):
    met = aha_sandbox.set_fault(fault, method="POST", **options)

    with pytest.raises(AhaError):
        client._call("POST", f"/users/{user_id}/product_roles", body={}, decode=orjson.loads)

    assert met.hits == 1


def test_no_retries_means_one_request(aha_sandbox, connect):
    met = aha_sandbox.set_fault("error", status=503)

    assert failure(connect(aha_sandbox.url, max_retries=0).me).attempts == 1
    assert met.hits == 1


def test_the_waits_between_tries_grow_and_differ(aha_sandbox, client, impatient):
    aha_sandbox.set_fault("error", status=503)

    failure(client.me)

    waits = [seconds for seconds in impatient.sleeps if seconds > 0.1]
    bounds = [(0.25, 0.5), (0.5, 1), (1, 2), (2, 4), (4, 8)]
    assert len(waits) == 5
    assert all(low <= wait <= high for wait, (low, high) in zip(waits, bounds, strict=True))


def test_a_429_is_waited_for_as_long_as_it_says(aha_sandbox, client, impatient):
    aha_sandbox.set_fault("rate_limit", headers="retry_after", reset_in=33, times=1)

    client.me()

    assert sum(impatient.sleeps) == pytest.approx(33, abs=1)


def test_a_wait_beyond_the_budget_is_not_begun(aha_sandbox, connect, impatient):
    aha_sandbox.set_fault("rate_limit", headers="retry_after", reset_in=40)

    error = failure(connect(aha_sandbox.url, retry_budget=30.0).me)

    assert isinstance(error, AhaRateLimitError)
    assert (error.attempts, error.retry_after) == (1, 40)
    assert "welcome in 40 s" in str(error)
    assert sum(impatient.sleeps) < 1


def test_the_budget_counts_all_tries_of_a_call_and_begins_anew_with_the_next(aha_sandbox, connect):
    client = connect(aha_sandbox.url, retry_budget=70.0)
    aha_sandbox.set_fault("rate_limit", headers="retry_after", reset_in=30)

    assert failure(client.me).attempts == 3
    assert failure(client.me).attempts == 3


def test_threads_that_wait_for_the_same_reset_use_up_the_budget_once():
    budget = RetryBudget(100.0)

    assert all(budget.take(now=1000.0 + thread / 10, seconds=60.0) for thread in range(8))
    assert budget.take(now=1070.0, seconds=30.0)
    assert not budget.take(now=1110.0, seconds=30.0)


def test_a_retry_is_logged_without_key_or_body(aha_sandbox, client, caplog):
    aha_sandbox.set_fault("error", status=422, method="PUT")
    aha_sandbox.set_fault("error", status=503, times=1)

    with caplog.at_level(logging.DEBUG):
        client.me()

    assert "GET /me: Aha! account acme" in caplog.text
    assert "failed with status 503" in caplog.text
    assert "Trying again in" in caplog.text
    assert KEY not in caplog.text


# --- no answer -----------------------------------------------------------------------------------


def test_a_refused_port_is_named(connect):
    unused = _unused_port()

    error = failure(connect(f"http://127.0.0.1:{unused}", max_retries=1).me)

    assert isinstance(error, AhaConnectionError)
    assert str(error) == (
        f"Aha! account acme (127.0.0.1:{unused}) could not be reached: the connection was refused. Check host and "
        "port of the connection."
    )
    assert (error.status, error.attempts) == (None, 2)


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_unknown_name_points_to_subdomain_and_dns(connect):
    error = failure(connect("https://acme.invalid", max_retries=0).me)

    assert isinstance(error, AhaConnectionError)
    assert "its name is not known. Check the subdomain" in str(error)


def test_a_server_that_does_not_answer_in_time_is_given_up(serve, reply, connect):
    done = threading.Event()
    server = serve(lambda _: done.wait(10) and reply(OWNER))

    error = failure(connect(server.url, read_timeout=0.05, max_retries=1).me)
    done.set()

    assert isinstance(error, AhaConnectionError)
    assert "it did not answer in time" in str(error)
    assert error.attempts == 2


def test_an_answer_that_stops_coming_is_given_up(serve, reply, connect):
    server = serve(lambda _: reply(b'{"user": ', headers={"Content-Length": "1000"}))

    error = failure(connect(server.url, read_timeout=0.05, max_retries=1).me)

    assert isinstance(error, AhaConnectionError)
    assert "it did not answer in time" in str(error)
    assert error.attempts == 2


def test_a_server_that_hangs_up_without_a_word_is_tried_again(serve, connect):
    server = serve(lambda _: None)

    error = failure(connect(server.url, max_retries=2).me)

    assert isinstance(error, AhaConnectionError)
    assert "the connection broke off" in str(error)
    assert len(server.seen) == 3


# --- TLS -----------------------------------------------------------------------------------------


class Authority:
    """A certificate authority for 127.0.0.1, trusted by nobody."""

    def __init__(self, folder: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
            .sign(key, hashes.SHA256())
        )
        self.bundle = folder / "ca.pem"
        self.bundle.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private = folder / "key.pem"
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.bundle, private)


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture
def tls_server(serve, reply, authority):
    return serve(lambda _: reply(OWNER), authority.context)


@pytest.fixture(autouse=True)
def _no_bundle_of_the_machine(monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)


def test_a_certificate_that_nobody_trusts_is_refused_before_the_key_is_sent(tls_server, connect):
    error = failure(connect(tls_server.url, max_retries=0).me)

    assert isinstance(error, AhaConnectionError)
    assert "its TLS certificate can't be verified. Behind a company proxy, name its CA bundle in `verify`" in str(
        error
    )
    assert tls_server.seen == []


def test_a_bundle_of_another_authority_is_no_help(tls_server, stranger, connect):
    error = failure(connect(tls_server.url, verify=str(stranger.bundle), max_retries=0).me)

    assert "its TLS certificate can't be verified" in str(error)


@pytest.mark.parametrize("environment", [None, "stranger", "nothing there"])
def test_the_bundle_in_the_connection_counts_whatever_the_environment_says(
    tls_server, authority, stranger, connect, monkeypatch, environment
):
    if environment:
        bundle = stranger.bundle if environment == "stranger" else "/nothing/there.pem"
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))

    assert connect(tls_server.url, verify=str(authority.bundle)).me()["id"] == "7"


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_no_verification_is_no_verification_whatever_the_environment_says(
    tls_server, stranger, connect, monkeypatch
):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(stranger.bundle))

    assert connect(tls_server.url, verify=False).me()["id"] == "7"


def test_without_a_bundle_in_the_connection_the_environment_s_counts(tls_server, authority, connect, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.bundle))

    assert connect(tls_server.url).me()["id"] == "7"


def test_a_bundle_that_is_not_there_is_said_at_once(tls_server, connect, tmp_path):
    error = failure(connect(tls_server.url, verify=str(tmp_path / "missing.pem")).me)

    assert isinstance(error, AhaConfigurationError)
    assert "the CA bundle can't be read. Check `verify` in the connection's extra" in str(error)
    assert error.attempts == 1


def test_a_bundle_that_is_none_is_a_clear_failure(tls_server, connect, tmp_path):
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("not a certificate")

    error = failure(connect(tls_server.url, verify=str(bundle), max_retries=0).me)

    assert "TLS" in str(error)
    assert tls_server.seen == []


def test_https_to_a_server_that_speaks_http_says_so(owner_server, connect):
    error = failure(connect(owner_server.url.replace("http:", "https:"), max_retries=0).me)

    assert "the TLS handshake failed. Check host and port" in str(error)


# --- proxies -------------------------------------------------------------------------------------


@pytest.fixture
def proxy(serve, reply):
    """A proxy that answers plain requests itself and refuses tunnels."""
    return serve(lambda seen: reply(status=403) if seen.method == "CONNECT" else reply(OWNER))


def test_a_proxy_of_the_environment_is_used(proxy, connect, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)

    error = failure(connect("https://acme.aha.io", max_retries=0).me)

    assert [(seen.method, seen.path) for seen in proxy.seen] == [("CONNECT", "acme.aha.io:443")]
    assert "Authorization" not in proxy.seen[0].headers
    assert isinstance(error, AhaConnectionError)
    assert "the proxy did not let the request through" in str(error)


def test_the_proxy_of_the_connection_comes_before_the_environment_s(proxy, owner_server, connect, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", owner_server.url)
    monkeypatch.setenv("NO_PROXY", "acme.aha.io")

    failure(connect("https://acme.aha.io", max_retries=0, proxies={"https": proxy.url}).me)

    assert len(proxy.seen) == 1
    assert owner_server.seen == []


def test_a_host_outside_the_proxy_s_reach_is_asked_directly(proxy, connect, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", ".invalid")

    failure(connect("https://acme.invalid", max_retries=0).me)

    assert proxy.seen == []


def test_this_machine_is_never_asked_through_the_environment_s_proxy(proxy, owner_server, connect, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)

    connect(owner_server.url).me()

    assert proxy.seen == []


def test_a_proxy_that_is_not_there_is_named_as_the_cause(connect):
    proxies = {"http": f"http://127.0.0.1:{_unused_port()}"}

    error = failure(connect("http://127.0.0.1:1", max_retries=0, proxies=proxies).me)

    assert "the proxy did not let the request through. Check `proxies`" in str(error)


@pytest.mark.parametrize(
    "proxy",
    ["http://", "http:///3128", "carrier-pigeon://127.0.0.1:1", "http://127.0.0.1:port", "socks5://127.0.0.1:1"],
)
def test_a_proxy_with_an_unusable_address_is_said_at_once(connect, proxy):
    error = failure(connect("http://127.0.0.1:1", proxies={"http": proxy}).me)

    assert isinstance(error, AhaConfigurationError)
    assert "an address can't be used. Check host, port, `base_url` and `proxies`" in str(error)
    assert error.attempts == 1


def test_an_address_that_no_library_takes_is_said_at_once(connect):
    error = failure(connect(f"https://{'x' * 70}.aha.io").me)

    assert isinstance(error, AhaConfigurationError)
    assert "an address can't be used" in str(error)


# --- cancelling ----------------------------------------------------------------------------------


def cancelled_within_moments(client: AhaClient, call: Any, ready: threading.Event) -> BaseException | None:
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(call)
        assert ready.wait(10)
        start = time.monotonic()
        client.cancel()
        error = future.exception(10)
        assert time.monotonic() - start < 5
    return error


def test_a_client_that_waits_for_its_next_try_ends_within_moments(serve, reply, connect):
    asked = threading.Event()

    def answer(_: Any) -> Any:
        asked.set()
        return reply(status=429, headers={"Retry-After": "60"})

    client = connect(serve(answer).url, clock=None)

    assert isinstance(cancelled_within_moments(client, client.me, asked), AhaCancelledError)


def test_a_cancelled_client_sends_nothing_more(owner_server, connect):
    client = connect(owner_server.url)
    client.cancel()

    assert isinstance(failure(client.me), AhaCancelledError)
    assert owner_server.seen == []


# --- the client itself ---------------------------------------------------------------------------


def test_a_client_in_a_log_shows_the_account_and_no_key():
    client = AhaClient(ClientConfig("https://acme.aha.io", "acme", KEY))

    assert repr(client) == "AhaClient('acme')"


def test_a_client_counts_what_it_sends(client, aha_sandbox):
    aha_sandbox.set_fault("error", status=503, times=1)

    client.me()
    client.count_users()

    assert client.requests_sent == len(aha_sandbox.requests) == 3


def test_threads_may_share_a_client(client, aha_sandbox):
    ids = aha_sandbox.account.user_ids[:40]

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(client.get_user, ids))

    assert [user["id"] for user in found] == ids


# --- what a write's answer says of whether it was done ---------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "unanswered"),
    [
        ([400], False),
        ([401], False),
        ([404], False),
        ([422], False),
        ([429, 422], False),
        # A proxy that waited in vain can't know whether the request went through.
        ([408], True),
        ([301], True),
        ([500], True),
        ([520], True),
        ([502, 422], True),
        ([408, 404], True),
        # None: the connection ends without an answer.
        ([None], True),
        ([None, 422], True),
    ],
)
def test_a_receipt_says_whether_a_write_may_have_arrived_unanswered(serve, reply, connect, statuses, unanswered):
    left = list(statuses)

    def answer(_: Any) -> Any:
        status = left.pop(0)
        return None if status is None else reply({"error": "x"}, status=status)

    client = connect(serve(answer).url, max_retries=len(statuses) - 1)
    receipt: dict[str, Any] = {}
    with pytest.raises(AhaError):
        client.update_user("7", {"enabled": False}, receipt)
    assert receipt.get("unanswered", False) is unanswered
    assert receipt["http_status"] == statuses[-1]
