"""A user's role in a workspace: given, changed and taken away over a real socket."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_aha.exceptions import (
    AhaConfigurationError,
    AhaConnectionError,
    AhaNotFoundError,
    AhaRateLimitError,
    AhaServerError,
    AhaValidationError,
)


@pytest.fixture
def member(aha_sandbox):
    """A user and a workspace in which the user is a contributor."""
    for user in aha_sandbox.account.users():
        for role in user["product_roles"]:
            if role["role"] == 30:
                return user["id"], role["product_id"]
    raise AssertionError("nobody contributes")


def role_in(server, user_id, workspace_id):
    roles = server.account.user(user_id)["product_roles"]
    return next((role["role"] for role in roles if role["product_id"] == workspace_id), None)


def test_a_role_is_set_and_shown(aha_sandbox, connect, member):
    client: Any = connect(aha_sandbox.url)
    receipt: dict[str, Any] = {}
    shown = client.set_role(*member, "viewer", receipt)
    assert (shown["role"], shown["product_id"]) == (50, member[1])
    assert receipt["http_status"] == 200
    assert role_in(aha_sandbox, *member) == 50
    assert [write.object for write in aha_sandbox.writes] == [f"w{member[1]}"]


def test_a_role_is_removed_without_an_answer_that_shows_it(aha_sandbox, connect, member):
    client: Any = connect(aha_sandbox.url)
    receipt: dict[str, Any] = {}
    assert client.remove_role(*member, receipt) is None
    assert receipt["http_status"] == 204
    assert role_in(aha_sandbox, *member) is None
    with pytest.raises(AhaNotFoundError):
        client.remove_role(*member)


@pytest.mark.parametrize("form", ["no_content", "accepted", "empty"])
def test_an_acknowledgement_without_a_body_shows_nothing(aha_sandbox, connect, member, form):
    aha_sandbox.set_fault("odd_answer", form=form)
    assert connect(aha_sandbox.url).set_role(*member, "viewer") == {}
    assert role_in(aha_sandbox, *member) == 50


def test_an_answer_about_another_workspace_shows_nothing(serve, connect, reply):
    server = serve(lambda _: reply({"role": 50, "role_description": "Viewer", "product_id": "9"}))
    assert connect(server.url).set_role("7", "8", "viewer") == {}


@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.parametrize("call", ["set_role", "remove_role"])
def test_a_write_of_a_role_is_never_sent_twice_blindly(aha_sandbox, connect, member, call, status):
    """Between two attempts somebody else may have given another role."""
    aha_sandbox.set_fault("error_after_write", status=status, times=1)
    client: Any = connect(aha_sandbox.url)
    receipt: dict[str, Any] = {}
    with pytest.raises(AhaServerError):
        getattr(client, call)(*member, *(["viewer"] if call == "set_role" else []), receipt)
    assert receipt["unanswered"] is True
    assert len(aha_sandbox.writes) == 1


@pytest.mark.parametrize("call", ["set_role", "remove_role"])
def test_a_lost_answer_is_not_sent_again(aha_sandbox, connect, member, call):
    aha_sandbox.set_fault("answer_lost", times=1)
    client: Any = connect(aha_sandbox.url)
    receipt: dict[str, Any] = {}
    with pytest.raises(AhaConnectionError):
        getattr(client, call)(*member, *(["viewer"] if call == "set_role" else []), receipt)
    assert receipt["unanswered"] is True
    assert len(aha_sandbox.writes) == 1


def test_what_the_rate_limit_turned_away_was_not_done(aha_sandbox, connect, member):
    aha_sandbox.set_fault("rate_limit", method="POST")
    receipt: dict[str, Any] = {}
    with pytest.raises(AhaRateLimitError):
        connect(aha_sandbox.url).set_role(*member, "viewer", receipt)
    assert "unanswered" not in receipt


@pytest.mark.parametrize(
    ("role", "workspace", "error"),
    [("developer", None, AhaValidationError), ("viewer", "404", AhaNotFoundError)],
)
def test_what_does_not_exist_is_refused(aha_sandbox, connect, member, role, workspace, error):
    with pytest.raises(error):
        connect(aha_sandbox.url).set_role(member[0], workspace or member[1], role)
    assert not aha_sandbox.writes


@pytest.mark.parametrize("ids", [("", "8"), ("7/../8", "8"), ("7", "PRJ1"), ("7", "../users/8")])
def test_an_id_that_is_none_sends_nothing(aha_sandbox, connect, ids):
    client = connect(aha_sandbox.url)
    with pytest.raises(AhaConfigurationError, match=r"is not the id of an Aha! (user|workspace)"):
        client.set_role(*ids, "viewer")
    with pytest.raises(AhaConfigurationError, match=r"is not the id of an Aha! (user|workspace)"):
        client.remove_role(*ids)
    assert not aha_sandbox.requests
