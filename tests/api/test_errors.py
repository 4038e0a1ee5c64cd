"""What an error says, what it holds, and what it never shows."""

from __future__ import annotations

import copy
import inspect
import logging
import pickle
import traceback
from typing import Any

import pytest

from airflow_provider_aha import exceptions
from airflow_provider_aha.exceptions import (
    AhaAuthenticationError,
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

KINDS = [kind for _, kind in inspect.getmembers(exceptions, inspect.isclass) if issubclass(kind, AhaError)]
FACTS = {
    "status": 503,
    "method": "GET",
    "path": "/users",
    "attempts": 6,
    "request_id": "r-1",
    "retry_after": 2.5,
    "detail": "the name is taken",
}
MET: list[tuple[str, dict[str, Any], type[AhaError], str]] = [
    ("error", {"status": 400}, AhaValidationError, "found the request malformed (400)."),
    ("error", {"status": 401}, AhaAuthenticationError, "refused the API key (401): it is wrong, was revoked, or"),
    (
        "error",
        {"status": 403},
        AhaPermissionError,
        "its owner must be an administrator with the billing permission",
    ),
    ("error", {"status": 404}, AhaNotFoundError, "knows no such record (404), or the key can't see it."),
    ("error", {"status": 422}, AhaValidationError, "refused a value of the request (422)."),
    ("error", {"status": 500}, AhaServerError, "failed with status 500. If it lasts, look at Aha!'s status page."),
    ("error", {"status": 502}, AhaServerError, "failed with status 502."),
    ("error", {"status": 503}, AhaServerError, "failed with status 503."),
    ("error", {"status": 504}, AhaServerError, "failed with status 504."),
    ("key_revoked", {}, AhaAuthenticationError, "Make a new one in Aha! under Settings > Personal > Developer"),
    ("rate_limit", {"reset_in": 30}, AhaRateLimitError, "limits its requests (429); the next one is welcome in 3"),
    ("redirect", {}, AhaProtocolError, "redirects to elsewhere.invalid (status 301); the key was not sent there."),
    ("redirect", {"to": "https"}, AhaProtocolError, "redirects to 127.0.0.1 (status 301)"),
    ("maintenance", {}, AhaProtocolError, "answered with a web page that is not the API's JSON: it is down for"),
    ("truncated_json", {}, AhaProtocolError, "bytes (application/json) that is not the API's JSON"),
    ("truncated_body", {}, AhaConnectionError, "the connection broke off. Try again;"),
    ("connection_reset", {}, AhaConnectionError, "the connection broke off. Try again;"),
]


def all_of(error: BaseException) -> str:
    """What a log, a traceback, a debugger's view of the error or a pickle could show."""
    parts = [
        str(error),
        repr(error),
        repr(vars(error)),
        repr(error.args),
        "".join(traceback.format_exception(error)),
    ]
    return "\n".join([*parts, pickle.dumps(error).decode("latin-1")])


@pytest.mark.parametrize(("fault", "options", "kind", "sentence"), MET)
def test_each_fault_is_a_sentence_that_names_the_account_and_what_to_do(
    aha_sandbox, connect, caplog, fault, options, kind, sentence
):
    aha_sandbox.set_fault(fault, **options)
    client = connect(aha_sandbox.url, max_retries=1)

    with caplog.at_level(logging.DEBUG), pytest.raises(AhaError) as caught:
        list(client.iter_users())

    error = caught.value
    assert type(error) is kind
    assert str(error).startswith(f"Aha! account acme ({client.config.host}) ")
    assert sentence in str(error)
    assert str(error).endswith(".")
    assert (error.method, error.path) == ("GET", "/users")
    shown = all_of(error) + caplog.text
    assert KEY not in shown
    for user in (aha_sandbox.account.user(user_id) for user_id in aha_sandbox.account.user_ids[:200]):
        assert user["email"] not in shown
        assert user["name"] not in shown
    for text in ("Validation failed", "Rate limit exceeded", "be back soon", "Gateway Time-out", "<html>"):
        assert text not in shown


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 302, 418])
def test_an_answer_s_status_and_request_id_are_in_the_error(serve, reply, connect, status):
    server = serve(lambda _: reply(status=status, headers={"X-Request-Id": "abc-123"}))

    with pytest.raises(AhaError) as caught:
        connect(server.url, max_retries=0).me()

    error = caught.value
    assert (error.status, error.request_id, error.attempts) == (status, "abc-123", 1)
    assert (error.method, error.path) == ("GET", "/me")


def test_a_page_that_is_no_json_has_a_request_id_too(serve, reply, connect):
    server = serve(lambda _: reply(b"<html>", headers={"X-Request-Id": "abc-123", "Content-Type": "text/html"}))

    with pytest.raises(AhaProtocolError, match="answered with a web page") as caught:
        connect(server.url, max_retries=0).me()

    assert (caught.value.status, caught.value.request_id) == (200, "abc-123")


def test_an_answer_without_a_content_type_is_described_all_the_same(serve, reply, connect):
    server = serve(lambda _: reply(b"oops", headers={"Content-Type": ""}))

    with pytest.raises(AhaProtocolError, match=r"answered with 4 bytes \(no content type\)"):
        connect(server.url, max_retries=0).me()


@pytest.mark.parametrize(
    "value", ["secret-total", {"a": "secret"}, ["secret"], "12secret"], ids=["text", "object", "list", "mixed"]
)
def test_a_value_that_can_t_be_read_is_not_in_the_traceback(serve, reply, connect, value):
    pagination = {"total_records": value, "total_pages": 1, "current_page": 1}
    server = serve(lambda _: reply({"users": [], "pagination": pagination}))

    with pytest.raises(AhaProtocolError) as caught:
        connect(server.url, max_retries=0).count_users()

    assert "secret" not in all_of(caught.value)
    assert "the pagination of users without its numbers" in all_of(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "twin", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "pickle"]
)
def test_an_error_travels_between_processes_with_all_its_facts(kind, twin):
    error = kind("It broke.", **FACTS)

    found = twin(error)

    assert type(found) is kind
    assert str(found) == "It broke."
    assert vars(found) == vars(error)
    assert vars(error).items() >= FACTS.items()


def test_every_error_is_an_aha_error_with_a_docstring():
    assert all(kind.__doc__ and issubclass(kind, AhaError) for kind in KINDS)
    assert len(KINDS) >= 15


def test_an_error_without_facts_has_none():
    error = AhaConfigurationError("No.")

    assert vars(error) == {**dict.fromkeys(FACTS), "attempts": 0}


def test_the_version_is_the_installed_one(monkeypatch):
    from importlib.metadata import PackageNotFoundError, version

    assert package_version() == version("airflow-provider-aha")

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("airflow_provider_aha.version.version", missing)
    assert package_version() == "0"
