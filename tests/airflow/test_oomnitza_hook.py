"""The Oomnitza hook: the connection in Airflow, and what its Test button says."""

import socket
from collections.abc import Callable

import pytest

from airflow_provider_aha.exceptions import AhaCancelledError, AhaConfigurationError
from airflow_provider_aha.hooks.oomnitza import OomnitzaHook
from airflow_provider_aha.sandbox.testing import OomnitzaSandbox

# No part of it is a secret of another test, which would be masked first.
TOKEN = "q7Wz-Kd93-Lx0v-Ry58"


@pytest.fixture
def store(set_connection: Callable[..., None]) -> Callable[..., None]:
    """Call it to keep ``oomnitza_default`` in the environment: a URI, or fields for the JSON form."""

    def put(uri: str | None = None, **fields: object) -> None:
        set_connection(uri, conn_id="oomnitza_default", **{"conn_type": "oomnitza", **fields})

    return put


def said() -> str:
    works, sentence = OomnitzaHook().test_connection()
    assert not works
    assert TOKEN not in sentence
    return sentence


@pytest.mark.parametrize("nothing", [None, "", "None"])
def test_extras_of_an_untouched_form_mean_the_defaults(store, nothing):
    from airflow_provider_aha.get_provider_info import OOMNITZA_CONN_FIELDS
    from airflow_provider_aha.push.targets.oomnitza.config import OomnitzaConfig

    store(host="acme", password=TOKEN, extra=dict.fromkeys(OOMNITZA_CONN_FIELDS, nothing))
    assert OomnitzaHook().get_conn().config == OomnitzaConfig("https://acme.oomnitza.com", "acme", TOKEN)


def test_extras_of_a_uri_are_text(store):
    store(f"oomnitza://:{TOKEN}@acme:443?page_size=50&verify=false&timeout=1%2C2")
    config = OomnitzaHook().get_conn().config
    assert (config.page_size, config.verify, config.read_timeout) == (50, False, 2)


def test_password_of_another_type_of_connection_is_sent_nowhere(store, oomnitza_sandbox):
    store(oomnitza_sandbox.connection_uri.replace("oomnitza://", "aha://"))
    works, sentence = OomnitzaHook().test_connection()
    assert not works
    assert "oomnitza_default is of type 'aha', not 'oomnitza'" in sentence
    assert oomnitza_sandbox.requests == []


def test_nothing_is_asked_before_the_first_use():
    OomnitzaHook("no_such_connection")


def test_working_connection_says_what_it_may_read(store, oomnitza_sandbox):
    store(oomnitza_sandbox.connection_uri)
    works, sentence = OomnitzaHook().test_connection()
    assert works
    assert "may read its 3 people" in sentence
    assert oomnitza_sandbox.token not in sentence


def test_working_connection_of_an_instance_that_does_not_count(store, oomnitza_sandbox):
    oomnitza_sandbox.set_fault("no_count")
    store(oomnitza_sandbox.connection_uri)
    assert "may read its people" in OomnitzaHook().test_connection()[1]


@pytest.mark.parametrize(
    ("fault", "options", "sentence"),
    [
        ("error", {"status": 401}, "refused the API token (401)"),
        ("error", {"status": 403}, "doesn't let this API token do that (403)"),
        ("error", {"status": 404}, "the subdomain is wrong"),
        ("error", {"status": 500}, "failed with status 500"),
        ("maintenance", {}, "a web page that is not the API's JSON"),
        ("redirect", {"to": "https://elsewhere.example.com"}, "redirects to elsewhere.example.com"),
        ("connection_reset", {}, "the connection broke off"),
        ("truncated_json", {}, "that is not the API's JSON"),
        ("rate_limit", {}, "limits its requests (429)"),
    ],
)
def test_each_failure_has_a_sentence_of_its_own(store, oomnitza_sandbox, fault, options, sentence):
    oomnitza_sandbox.set_fault(fault, **options)
    store(host=oomnitza_sandbox.host, port=oomnitza_sandbox.port, schema="http", password=TOKEN)
    oomnitza_sandbox.instance.tokens[TOKEN] = True
    assert sentence in said()
    assert len(oomnitza_sandbox.requests) == 1


def test_wrong_token(store, oomnitza_sandbox):
    store(host=oomnitza_sandbox.host, port=oomnitza_sandbox.port, schema="http", password=TOKEN)
    assert "refused the API token (401)" in said()


def test_nobody_listens(store):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    store(host="127.0.0.1", port=port, schema="http", password=TOKEN)
    assert "the connection was refused" in said()


def test_sandbox_without_its_scheme(store, oomnitza_sandbox):
    store(host=oomnitza_sandbox.host, port=oomnitza_sandbox.port, password=TOKEN)
    assert "schema http" in said()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"password": TOKEN}, "The Oomnitza connection has no host"),
        ({"host": "acme"}, "The Oomnitza connection has no API key"),
        ({"host": "acme.example.com", "password": TOKEN}, "is not an Oomnitza instance"),
        ({"host": "acme", "password": TOKEN, "schema": "http"}, "clear text"),
        ({"host": "acme", "password": TOKEN, "extra": {"page_size": "many"}}, "page_size must be a number"),
    ],
)
def test_a_field_that_cannot_be_right_is_named(store, fields, sentence):
    store(**fields)
    assert sentence in said()
    with pytest.raises(AhaConfigurationError):
        OomnitzaHook().get_conn()


def test_cancelled_hook_sends_nothing(store, oomnitza_sandbox):
    store(oomnitza_sandbox.connection_uri)
    hook = OomnitzaHook()
    hook.cancel()
    with pytest.raises(AhaCancelledError):
        hook.get_conn().list_people()
    assert not oomnitza_sandbox.requests


def test_token_is_masked_and_logged_nowhere(store, oomnitza_sandbox, everything_logged):
    from airflow.providers.common.compat.sdk import redact

    oomnitza_sandbox.instance.tokens[TOKEN] = True
    store(host=oomnitza_sandbox.host, port=oomnitza_sandbox.port, schema="http", password=TOKEN)
    client = OomnitzaHook().get_conn()
    client.list_people()
    # Airflow 2.11 also masks what other tests of this process used as a secret, be it one letter.
    assert redact(TOKEN) == "***"
    assert TOKEN not in everything_logged() + repr(client) + repr(client.config)
    assert OomnitzaSandbox.token not in everything_logged()
