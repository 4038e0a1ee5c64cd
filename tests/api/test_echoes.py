"""What somebody typed, or a server sent, is never repeated: it may be a name, an email or the key."""

from __future__ import annotations

import base64
import json
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_aha.api.client import AhaClient, check_user_id
from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.common.values import kind_of, to_bool, to_int, to_list, to_number, unknown_ones
from airflow_provider_aha.datasets.names import check_changes
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaError
from airflow_provider_aha.hooks.paths import resolve_path
from airflow_provider_aha.push.targets.oomnitza.config import OomnitzaConfig
from airflow_provider_aha.store.layout import Layout
from tests.api.conftest import Reply

KEY = "3f9c2ab17d04e6588b1f0c9d2e7a46f53f9c2ab17d04e6588b1f0c9d2e7a46f5"
TYPED = [KEY, "Ann Smith", "ann@example.com", "12345678901234567890123456789012345678901234567890"]


def all_of(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))
    # The lines of the test itself stand in the traceback, not their values.
    return text + repr(vars(error))


def refusal(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(AhaConfigurationError) as caught:
        call(*arguments, **options)
    return all_of(caught.value)


# --- what somebody typed -------------------------------------------------------------------------

CALLS = {
    "a flag": lambda typed: to_bool(typed, "verify", True),
    "a number": lambda typed: to_number(typed, "timeout", 1, 0, 10),
    "a whole number": lambda typed: to_int(typed, "page_size", 1, 1, 200),
    "a list": lambda typed: to_list({typed: 1}, "fields"),
    "a list as text": lambda typed: to_list(typed, "fields"),
    "an id": lambda typed: check_user_id(f"{typed} "),
    "a kind of change": lambda typed: check_changes([typed]),
    "an account": lambda typed: Layout(f"{typed} "),
    "a dataset": lambda typed: Layout("acme").dataset(typed, "2026-01-01"),
    "a day": lambda typed: Layout("acme").dataset("users", typed),
    "a review": lambda typed: Layout("acme").review(f"{typed} "),
    "a password in a path": lambda typed: resolve_path(f"s3://key:{typed}@bucket/roster.csv"),
    "a path": lambda typed: resolve_path(f"{typed}@x"),
}


@pytest.mark.parametrize("typed", TYPED)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_was_typed_is_not_repeated(call, typed):
    assert typed not in refusal(call, typed)


FIELDS: dict[str, Any] = {
    "host": lambda typed: {"host": typed},
    "host with a domain": lambda typed: {"host": f"{typed}.aha.io"},
    "schema": lambda typed: {"schema": typed},
    "port": lambda typed: {"port": typed},
    "an unknown extra": lambda typed: {"extra": {typed: 1}},
    "the extra": lambda typed: {"extra": typed},
    "the extra, as a list": lambda typed: {"extra": json.dumps([typed])},
    **{
        name: lambda typed, name=name: {"extra": {name: typed}}
        for name in (
            "page_size",
            "timeout",
            "requests_per_minute",
            "requests_per_second",
            "max_in_flight",
            "max_retries",
            "verify",
            "proxies",
            "base_url",
        )
    },
    "the second timeout": lambda typed: {"extra": {"timeout": f"5,{typed}"}},
    "the address of a proxy": lambda typed: {"extra": {"proxies": {"https": typed}}},
    "the host of a gateway": lambda typed: {"extra": {"base_url": f"https://{typed}"}},
}


@pytest.mark.parametrize("config", [ClientConfig, OomnitzaConfig])
@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
def test_a_key_that_was_typed_into_another_field_is_refused_and_not_repeated(config, fields):
    given = {"host": "acme", "password": "the-real-key", **fields(KEY)}
    assert KEY not in refusal(config.from_connection, **given)


@pytest.mark.parametrize("host", [KEY[:40], f"{KEY[:40]}.aha.io", f"{KEY[:40]}.use3.aha.io"])
def test_a_key_that_could_be_a_host_is_asked_of_no_name_server(host):
    assert KEY[:40] not in refusal(ClientConfig.from_connection, host=host, password="the-real-key")


def test_what_was_given_is_described():
    kinds = [kind_of(one) for one in ("Ann", True, 7, 7.5, ["a"], {"a": 1}, None)]
    assert kinds[:4] == ["a text of 3 characters", "true or false", "a number", "a number"]
    assert kinds[4:] == ["a list", "an object", "a value of type NoneType"]
    assert unknown_ones(["email", "emial", "Ann Smith"], ("email", "name")) == "no. 2 (did you mean email?), no. 3"
    assert unknown_ones(["email"], ("email", "name")) is None


# --- the extra of a connection -------------------------------------------------------------------

CASES = Path(__file__).parents[3] / "shared" / "cases" / "connection_extra.json"


def config_of(extra: Any) -> ClientConfig:
    return ClientConfig.from_connection(host="acme", password="x", extra=extra)


@pytest.mark.parametrize(
    "extra",
    [
        {"page_size": 50},
        '{"page_size": 50}',
        '"{\\"page_size\\": 50}"',
        json.dumps(json.dumps(json.dumps({"page_size": "50"}))),
        "{'page_size': 50}",
    ],
)
def test_an_extra_is_read_however_it_was_encoded(extra):
    assert config_of(extra).page_size == 50


@pytest.mark.parametrize("extra", [[1, 2], "[1, 2]", '"[1, 2]"', "7", "true", "{", "x", "[" * 100_000, '"\\"x\\""'])
def test_an_extra_that_is_no_object_is_refused_in_a_sentence(extra):
    assert "The extra of the connection must be a JSON object." in refusal(config_of, extra)


@pytest.mark.parametrize("extra", [None, "", "null", {}, "{}", '"null"', '""'])
def test_no_extra_means_the_defaults(extra):
    assert config_of(extra).page_size == 200


def test_a_typing_error_in_an_extra_is_named_by_what_it_may_be():
    text = refusal(config_of, {"page_size": 50, "request_per_minute": 150, KEY: 1})
    assert "a field that there isn't: no. 2 (did you mean requests_per_minute?), no. 3." in text
    assert "There are page_size, timeout, requests_per_minute," in text


def test_the_cases_from_the_field():
    if not CASES.exists():
        pytest.skip("the cases are not on this machine")
    cases = {name: case["extra"] for name, case in json.loads(CASES.read_text()).items()}
    assert config_of(cases["double_encoded"]).page_size == 50
    assert config_of(cases["python_repr_ignored"]).requests_per_minute == 150
    assert "must be a JSON object" in refusal(config_of, cases["list"])
    assert "did you mean requests_per_minute?" in refusal(config_of, cases["typo_ignored"])


# --- what a server sends back --------------------------------------------------------------------

ECHOES = {
    "the key": KEY,
    "in capitals": KEY.upper(),
    "half of it": KEY[:32],
    "in base64": base64.b64encode(KEY.encode()).decode(),
    "the header in base64": base64.b64encode(f"Bearer {KEY}".encode()).decode().rstrip("="),
    "inside": f"id-{KEY}",
    "a part of it inside": f"id-{KEY[20:36]}-1",
}


@pytest.fixture
def keyed(serve):
    clients = []

    def make(answer: Any) -> AhaClient:
        config = ClientConfig(serve(answer).url, "acme", KEY, max_retries=0)
        clients.append(AhaClient(config))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def leaks(text: str) -> list[str]:
    return [name for name, echo in ECHOES.items() if echo.casefold() in text.casefold()]


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("status", [200, 302, 400, 403, 404, 422, 429, 500, 520])
def test_a_key_that_a_server_sends_back_lands_nowhere(keyed, caplog, echo, status):
    headers = {
        "Content-Type": f"text/{echo}",
        "X-Request-Id": echo,
        "Location": f"https://{echo.lower()}.example.com/?key={echo}",
        "Retry-After": echo,
        "Date": echo,
        "Server": echo,
    }
    client = keyed(lambda _: Reply(echo.encode(), status=status, headers=headers))
    receipt: dict[str, Any] = {}

    with caplog.at_level(logging.DEBUG), pytest.raises(AhaError) as caught:
        client.update_user("7", {"enabled": False}, receipt)

    assert leaks(all_of(caught.value) + caplog.text + repr(receipt)) == []


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_a_request_id_that_echoes_the_key_is_not_in_the_evidence_of_a_success(keyed, echo):
    client = keyed(lambda _: Reply({"id": "7", "enabled": False}, headers={"X-Request-Id": echo}))
    receipt: dict[str, Any] = {}

    assert client.update_user("7", {"enabled": False}, receipt)["enabled"] is False
    assert (receipt["http_status"], receipt["request_id"]) == (200, None)


@pytest.mark.parametrize("sent", ["a" * 65, "a" * 10_000, "Ann Smith", "ann@example.com", "a\tb", "<b>", "é"])
def test_what_is_no_request_id_is_dropped(keyed, sent):
    client = keyed(lambda _: Reply(status=404, headers={"X-Request-Id": sent.encode().decode("latin-1")}))

    with pytest.raises(AhaError) as caught:
        client.me()

    assert caught.value.request_id is None


def test_a_short_key_is_found_whole_and_no_word_of_it_alone(serve):
    sent = ["id-sandbox-key-of-a-long-id", "sandbox-17"]
    server = serve(lambda _: Reply(status=404, headers={"X-Request-Id": sent.pop()}))
    client = AhaClient(ClientConfig(server.url, "acme", "sandbox-key"))
    found = []
    for _ in range(2):
        with pytest.raises(AhaError) as caught:
            client.me()
        found.append(caught.value.request_id)
    client.close()
    assert found == ["sandbox-17", None]


@pytest.mark.parametrize("sent", ["6f1c9e9c-8d0f-4a53-9f0c-5a1d3e0d7a11", "abc-123", "A_b.9", "a" * 64])
def test_a_request_id_is_kept(keyed, sent):
    client = keyed(lambda _: Reply(status=404, headers={"X-Request-Id": sent}))

    with pytest.raises(AhaError) as caught:
        client.me()

    assert caught.value.request_id == sent


@pytest.mark.parametrize(
    ("sent", "shown"), [("text/plain; charset=utf-8", "text/plain"), ("Ann Smith", "an odd content type")]
)
def test_a_content_type_is_shown_where_it_is_one(keyed, sent, shown):
    client = keyed(lambda _: Reply(b"oops", headers={"Content-Type": sent}))

    with pytest.raises(AhaError, match=rf"4 bytes \({shown}\)"):
        client.me()


def test_headers_that_can_not_be_read_are_not_quoted_in_the_log(keyed, caplog):
    client = keyed(lambda _: Reply({"id": "7"}, headers={"X-Odd": f"a\r\n{KEY} without a colon\r\nX-More: b"}))

    with caplog.at_level(logging.DEBUG):
        client.me()

    assert "Failed to parse headers" in caplog.text
    assert leaks(caplog.text) == []
