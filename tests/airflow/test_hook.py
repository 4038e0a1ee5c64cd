"""The hook: every way to give it a connection, and what it says when that connection fails."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, redact

from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.exceptions import AhaCancelledError, AhaConfigurationError
from airflow_provider_aha.hooks.aha import AhaHook, get_async_config
from airflow_provider_aha.sandbox.testing import SandboxServer

KEY = "s3cret-key-of-a-test"


def config() -> ClientConfig:
    return AhaHook().get_conn().config


# --- fields of the connection --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "account", "address"),
    [
        ("acme", "acme", "https://acme.aha.io"),
        ("acme.aha.io", "acme", "https://acme.aha.io"),
        ("acme.use3.aha.io", "acme.use3", "https://acme.use3.aha.io"),
    ],
)
@pytest.mark.parametrize("form", ["uri", "json"])
def test_host_names_the_account(set_connection, form, host, account, address):
    if form == "uri":
        set_connection(f"aha://:{KEY}@{host}")
    else:
        set_connection(host=host, password=KEY)
    assert (config().account, config().base_url, config().api_key) == (account, address, KEY)


@pytest.mark.parametrize(
    "host", ["https://acme.aha.io", "https://acme.aha.io/", "https://acme.aha.io/api/v1/users"]
)
def test_full_address_is_understood_in_json(set_connection, host):
    set_connection(host=host, password=KEY)
    assert config().base_url == "https://acme.aha.io"


def test_full_address_in_a_uri_fails_in_airflow_itself(set_connection):
    """Why the docs show the JSON form for it; Airflow's own sentence may hold the key."""
    set_connection(f"aha://:{KEY}@https://acme.aha.io")
    with pytest.raises(AirflowException):
        AhaHook().get_conn()


def test_percent_encoded_key_of_a_uri_is_decoded(set_connection):
    set_connection("aha://:a%2Fb%40c%3A%25@acme")
    assert config().api_key == "a/b@c:%"


def test_scheme_and_port_of_a_uri_are_used_for_loopback(set_connection):
    set_connection("aha://:sandbox-key@127.0.0.1:8765/http")
    assert config().base_url == "http://127.0.0.1:8765"


def test_http_is_refused_for_a_real_host(set_connection):
    set_connection(f"aha://:{KEY}@acme/http")
    with pytest.raises(AhaConfigurationError, match="clear text"):
        config()


def test_port_zero_means_none(set_connection):
    """What the Test button of Airflow 3.3 makes users store."""
    set_connection(host="acme", password=KEY, port=0)
    assert config().base_url == "https://acme.aha.io"


def test_extras_of_a_uri_are_text(set_connection):
    set_connection(
        f"aha://:{KEY}@acme?page_size=50&timeout=3%2C%207.5&requests_per_minute=60&requests_per_second=5"
        "&max_in_flight=2&max_retries=0&verify=False&proxies=%7B%22https%22%3A+%22http%3A%2F%2Fproxy%3A1%22%7D"
    )
    found = config()
    assert (found.page_size, found.connect_timeout, found.read_timeout) == (50, 3.0, 7.5)
    assert (found.requests_per_minute, found.requests_per_second) == (60, 5)
    assert (found.max_in_flight, found.max_retries, found.verify) == (2, 0, False)
    assert found.proxies == {"https": "http://proxy:1"}


def test_extras_of_json_keep_their_types(set_connection):
    extra = {"page_size": 50, "timeout": [3, 7.5], "verify": False, "base_url": "https://gateway.example.com/aha"}
    set_connection(host="acme", password=KEY, extra=extra)
    found = config()
    assert (found.page_size, found.connect_timeout, found.read_timeout, found.verify) == (50, 3.0, 7.5, False)
    assert (found.base_url, found.account) == ("https://gateway.example.com/aha", "acme")


@pytest.mark.parametrize("nothing", [None, "", "None"])
def test_extras_without_a_value_mean_the_default(set_connection, nothing):
    """The form of Airflow 3 sends null for every field that nobody touched."""
    from airflow_provider_aha.get_provider_info import CONN_FIELDS

    set_connection(host="acme", password=KEY, extra=dict.fromkeys(CONN_FIELDS, nothing))
    assert config() == ClientConfig("https://acme.aha.io", "acme", KEY)


def test_wrong_extra_is_named(set_connection):
    set_connection(f"aha://:{KEY}@acme?page_size=many")
    with pytest.raises(AhaConfigurationError, match="page_size"):
        config()


@pytest.mark.parametrize("password", [f"Bearer {KEY}", f"bearer  {KEY} ", KEY])
def test_pasted_bearer_is_taken_off_and_the_bare_key_masked(set_connection, password):
    set_connection(host="acme", password=password)
    assert config().api_key == KEY
    assert KEY not in redact(f"sent {KEY} to the server")


def test_hook_and_client_hide_the_key_in_their_repr(set_connection):
    set_connection(host="acme", password=KEY)
    hook = AhaHook()
    assert KEY not in repr([hook, hook.get_conn(), hook.get_conn().config, vars(hook)])


# --- where connection and host come from ---------------------------------------------------------


def test_host_comes_from_the_variable_when_the_connection_has_none(set_connection, monkeypatch):
    set_connection(password=KEY)
    monkeypatch.setenv("AIRFLOW_VAR_AHA_SUBDOMAIN", "fromvariable")
    assert config().account == "fromvariable"


def test_host_of_the_connection_comes_before_the_variable(set_connection, monkeypatch):
    set_connection(host="acme", password=KEY)
    monkeypatch.setenv("AIRFLOW_VAR_AHA_SUBDOMAIN", "fromvariable")
    assert config().account == "acme"


def test_no_host_anywhere_names_both_places(set_connection, airflow_db):
    set_connection(password=KEY)
    with pytest.raises(AhaConfigurationError, match=r"host field.*Variable aha_subdomain"):
        config()


def test_connection_of_another_id(set_connection):
    set_connection(host="other", password=KEY, conn_id="aha_other")
    assert AhaHook("aha_other").get_conn().config.account == "other"
    assert AhaHook(aha_conn_id="aha_other").get_conn().config.account == "other"


def test_password_of_another_type_of_connection_is_sent_nowhere(set_connection, aha_default):
    """A form or a template that names the id of a database must not send its password to Aha!."""
    set_connection(aha_default.connection_uri.replace("aha://", "postgres://"))
    with pytest.raises(AhaConfigurationError, match="aha_default is of type 'postgres', not 'aha'") as caught:
        AhaHook().get_conn()
    assert aha_default.key not in str(caught.value)
    works, sentence = AhaHook().test_connection()
    assert not works
    assert "was sent nowhere" in sentence
    with pytest.raises(AhaConfigurationError, match="is of type 'postgres'"):
        asyncio.run(get_async_config("aha_default"))
    assert aha_default.requests == []


def test_making_a_hook_looks_nothing_up():
    AhaHook("no_such_connection").cancel()


def test_client_is_made_once(set_connection):
    set_connection(host="acme", password=KEY)
    hook = AhaHook()
    assert hook.get_conn() is hook.get_conn()


# --- what the hook reads -------------------------------------------------------------------------


def test_lists_and_single_records(aha_default: SandboxServer):
    hook = AhaHook()
    users = list(hook.iter_users())
    assert [user["id"] for user in users] == aha_default.account.user_ids
    emails = [(user["email"] or "").casefold() for user in users]
    one = next(user for user in users if emails.count((user["email"] or "").casefold()) == 1)
    assert hook.get_user(one["id"])["email"] == one["email"]
    assert hook.find_user(one["email"].upper())["id"] == one["id"]
    assert all(workspace["name"] for workspace in hook.iter_workspaces())


def test_data_frames_are_the_datasets(aha_default: SandboxServer):
    from airflow_provider_aha.datasets import schemas

    hook = AhaHook()
    users, roles = hook.get_users_df(), hook.get_roles_df()
    assert list(users.columns) == schemas.USERS.names
    assert list(roles.columns) == schemas.USER_ROLES.names
    assert users["id"].tolist() == aha_default.account.user_ids
    assert set(roles["user_id"]) <= set(users["id"])
    assert str(users["synced_at"].dtype) == "datetime64[ms, UTC]"
    assert set(users["connection_id"]) == {"aha_default"}


def test_user_agent_names_package_airflow_and_python(aha_default: SandboxServer):
    AhaHook().get_conn().me()
    agent = aha_default.requests[-1].user_agent
    assert [part.partition("/")[0] for part in agent.split()] == ["airflow-provider-aha", "airflow", "python"]


def test_cancelled_hook_reads_nothing_more(aha_default: SandboxServer):
    hook = AhaHook()
    hook.cancel()
    with pytest.raises(AhaCancelledError):
        list(hook.iter_users())


# --- test_connection -----------------------------------------------------------------------------


def outcome() -> tuple[bool, str]:
    works, sentence = AhaHook().test_connection()
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    return works, sentence


def test_working_connection_says_who_where_and_how_many(aha_default: SandboxServer):
    works, sentence = outcome()
    owner = AhaHook().get_conn().me()
    assert works
    assert f"{owner['name']} (id {owner['id']})" in sentence
    assert "127.0.0.1" in sentence
    assert f"{len(aha_default.account.user_ids)} users" in sentence
    assert aha_default.key not in sentence


@pytest.mark.parametrize(
    ("fault", "options", "expected"),
    [
        ("error", {"status": 401}, "refused the API key (401)"),
        ("error", {"status": 403}, "doesn't let this API key do that (403)"),
        ("error", {"status": 404}, "the subdomain is wrong"),
        ("error", {"status": 503}, "failed with status 503"),
        ("maintenance", {}, "not the API's JSON"),
        ("truncated_json", {}, "not the API's JSON"),
        ("rate_limit", {}, "limits its requests (429)"),
        ("redirect", {}, "redirects to elsewhere.invalid"),
        ("connection_reset", {}, "the connection broke off"),
    ],
)
def test_each_failure_is_a_sentence_of_its_own(aha_sandbox, set_connection, fault, options, expected):
    set_connection(aha_sandbox.connection_uri)
    aha_sandbox.set_fault(fault, **options)
    works, sentence = outcome()
    assert not works
    assert expected in sentence
    assert aha_sandbox.key not in sentence


def test_person_at_the_form_does_not_wait_for_retries(aha_sandbox, set_connection):
    set_connection(aha_sandbox.connection_uri)
    aha_sandbox.set_fault("error", status=503)
    outcome()
    assert len(aha_sandbox.requests) == 1


def test_key_without_the_right_to_administer_users(shared_sandbox: SandboxServer, set_connection):
    set_connection(host="127.0.0.1", port=shared_sandbox.port, schema="http", password=shared_sandbox.viewer_key)
    works, sentence = outcome()
    assert not works
    assert "The key works and belongs to" in sentence
    assert "may not administer users" in sentence


def test_wrong_key(shared_sandbox: SandboxServer, set_connection):
    set_connection(host="127.0.0.1", port=shared_sandbox.port, schema="http", password=KEY)
    works, sentence = outcome()
    assert not works
    assert "401" in sentence
    assert KEY not in sentence


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"password": ""}, "has no API key"),
        ({"password": "two words"}, "has a space, a line break"),
        ({"host": "acme.com"}, "is not an Aha! account"),
        ({"schema": "http"}, "clear text"),
    ],
)
def test_wrong_field_is_told_without_a_request(set_connection, fields, expected):
    set_connection(**({"host": "acme", "password": KEY} | fields))
    works, sentence = outcome()
    assert not works
    assert expected in sentence


def test_unknown_host(set_connection, monkeypatch):
    """The name is never looked up for real: only the resolver is replaced."""

    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    set_connection(host="nosuchaccount", password=KEY)
    works, sentence = outcome()
    assert not works
    assert "its name is not known" in sentence
    assert "nosuchaccount.aha.io" in sentence


def test_refused_connection(set_connection):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        set_connection(host="127.0.0.1", port=closed.getsockname()[1], schema="http", password=KEY)
        works, sentence = outcome()
    assert not works
    assert "the connection was refused" in sentence


class WebPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<html>Welcome to somebody else's site</html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def serve(server: HTTPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def web_page() -> Iterator[int]:
    yield from serve(ThreadingHTTPServer(("127.0.0.1", 0), WebPage))


@pytest.fixture
def self_signed(tmp_path: Path) -> Iterator[int]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "server.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server = HTTPServer(("127.0.0.1", 0), WebPage)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    yield from serve(server)


def test_somebody_elses_site(set_connection, web_page):
    set_connection(host="127.0.0.1", port=web_page, schema="http", password=KEY)
    works, sentence = outcome()
    assert not works
    assert "a web page that is not the API's JSON" in sentence
    assert "Welcome" not in sentence


def test_certificate_that_nobody_vouches_for(set_connection, self_signed):
    set_connection(host="127.0.0.1", port=self_signed, password=KEY)
    works, sentence = outcome()
    assert not works
    assert "TLS certificate" in sentence
    assert "`verify`" in sentence


# --- as Airflow itself uses it ------------------------------------------


def bearer_fields(sandbox: SandboxServer, key: str) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": sandbox.port, "schema": "http", "password": f"Bearer {key}"}


def test_airflow_makes_the_hook_by_the_name_of_our_argument():
    """What the Test button does, also with a connection that is not stored yet."""
    from airflow.models.connection import Connection

    hook = Connection(conn_id="aha_unsaved", conn_type="aha").get_hook()
    assert isinstance(hook, AhaHook)
    assert hook.aha_conn_id == "aha_unsaved"


@pytest.mark.slow
def test_command_line_test_of_a_wrong_key_fails_and_hides_it(
    shared_sandbox: SandboxServer, store_connection, airflow_cli
):
    store_connection("aha_wrong_key", conn_type="aha", **bearer_fields(shared_sandbox, KEY))
    done = airflow_cli("connections", "test", "aha_wrong_key")
    said = " ".join(f"{done.stdout} {done.stderr}".split())
    assert "Connection failed!" in said, said
    assert "refused the API key (401)" in said
    assert KEY not in said
