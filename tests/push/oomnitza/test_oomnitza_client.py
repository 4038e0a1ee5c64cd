"""The client of Oomnitza's REST API against a sandbox Oomnitza, over real sockets."""

import logging

import pytest

from airflow_provider_aha.exceptions import (
    AhaAuthenticationError,
    AhaConfigurationError,
    AhaConnectionError,
    AhaError,
    AhaIncompleteReadError,
    AhaNotFoundError,
    AhaPermissionError,
    AhaProtocolError,
    AhaRateLimitError,
    AhaServerError,
    AhaValidationError,
)
from airflow_provider_aha.push.targets.oomnitza.client import reason_of
from airflow_provider_aha.push.targets.oomnitza.config import OomnitzaConfig
from airflow_provider_aha.sandbox.testing import OomnitzaSandbox

ADA = {"username": "ada@example.com", "email": "ada@example.com", "role": 25, "aha_user_id": "7"}


def sent(server, method):
    return [seen for seen in server.requests if seen.method == method]


# --- where and with what -------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["acme", "acme.oomnitza.com", "https://acme.oomnitza.com/login"])
def test_a_host_names_the_instance(host):
    config = OomnitzaConfig.from_connection(host=host, password="token")
    assert (config.base_url, config.account) == ("https://acme.oomnitza.com", "acme")


@pytest.mark.parametrize("host", ["acme.aha.io", "oomnitza.com.evil.example.com", "acme.com"])
def test_a_token_goes_to_no_other_host(host):
    with pytest.raises(AhaConfigurationError, match="is not an Oomnitza instance"):
        OomnitzaConfig.from_connection(host=host, password="token")


def test_http_is_for_this_machine_only():
    with pytest.raises(AhaConfigurationError, match="clear text"):
        OomnitzaConfig.from_connection(host="acme", password="token", schema="http")
    assert OomnitzaConfig.from_connection(host="127.0.0.1", password="token", schema="http").is_loopback


def test_extras_may_be_null_or_text():
    extra = {"page_size": "50", "timeout": "1, 2", "verify": None, "proxies": "", "max_retries": None}
    config = OomnitzaConfig.from_connection(host="acme", password="token", extra=extra)
    assert (config.page_size, config.connect_timeout, config.read_timeout, config.max_retries) == (50, 1, 2, 5)


def test_the_token_is_sent_bare_in_its_own_header_and_nowhere_else(serve, reply, connect):
    server = serve(lambda _: reply(body=[]))
    connect(server.url, api_key="s3cret").list_people()
    headers = {name.lower(): value for name, value in server.seen[0].headers.items()}
    assert headers["authorization2"] == "s3cret"
    assert "authorization" not in headers


def test_a_redirect_is_not_followed(oomnitza_sandbox, client):
    oomnitza_sandbox.set_fault("redirect", to="https://elsewhere.example.com")
    with pytest.raises(AhaProtocolError, match=r"redirects to elsewhere\.example\.com"):
        client.list_people()


# --- lists ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [None, "no_count", "small_pages"])
@pytest.mark.parametrize("page_size", [1, 3, 7, 1000])
def test_all_people_are_read_whatever_the_size_of_pages(connect, fault, page_size):
    with OomnitzaSandbox(people=7) as server:
        if fault:
            server.set_fault(fault)
        people = connect(server, page_size=page_size).list_people()
    assert [one["username"] for one in people] == [f"employee{number}@example.com" for number in range(7)]


def test_a_list_without_pages_comes_whole(serve, reply, connect):
    everybody = [{"user_id": str(number), "username": f"u{number}"} for number in range(5)]
    server = serve(lambda _: reply(body=everybody))
    assert connect(server.url, page_size=2).list_people() == everybody
    assert connect(server.url, page_size=9).list_people() == everybody


def test_a_list_that_changes_is_read_again(connect):
    with OomnitzaSandbox(people=7) as server:
        server.set_fault("list_drift", after=1)
        assert len(connect(server, page_size=3).list_people()) == 6


def test_a_list_that_keeps_changing_is_not_believed(connect):
    with OomnitzaSandbox(people=30) as server:
        server.set_fault("list_drift", after=1, times=None)
        with pytest.raises(AhaIncompleteReadError, match="Nothing was sent"):
            connect(server, page_size=3).list_people()


def test_a_list_of_something_else_is_refused(serve, reply, connect):
    server = serve(lambda _: reply(body=[{"name": "no id"}]))
    with pytest.raises(AhaProtocolError, match="without user_id"):
        connect(server.url, max_retries=0).list_people()


@pytest.mark.parametrize(
    "body",
    [
        [{"name": "email", "unique": True}, {"name": "role"}],
        {"email": {"unique": True}, "role": {}},
        {"fields": [{"field_id": "email", "unique": True}, {"id": "role"}]},
    ],
    ids=["list", "object", "wrapped"],
)
def test_fields_are_read_in_every_plausible_form(serve, reply, connect, body):
    server = serve(lambda _: reply(body=body))
    assert set(connect(server.url).people_fields()) == {"email", "role"}


@pytest.mark.parametrize(
    "values",
    [
        [{"key": "25", "value": "Employee", "help_text": ""}, {"key": "30", "value": "Boss"}],
        [{"key": 25, "value": "Employee"}, {"key": 30, "value": "Boss"}],
        [{"key": "Employee", "value": "25"}, {"key": "Boss", "value": "30"}, {"key": "None", "value": None}, "x"],
    ],
)
def test_a_role_is_found_by_its_name_in_every_form_that_a_list_may_have(serve, reply, connect, values):
    server = serve(lambda _: reply(body={"role": {"searchhelp": values}, "email": {}}))
    client = connect(server.url)
    assert [client.role_number(role) for role in ("Employee", " boss ", "25", "99")] == [25, 30, 25, 99]
    with pytest.raises(
        AhaConfigurationError, match=r"no role of this name; there are Employee \(25\), Boss \(30\)"
    ):
        client.role_number("Secret words")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (None, "doesn't say which roles it has: give the number"),
        ([], "doesn't say which roles it has: give the number"),
        ("?", "doesn't say which roles it has: give the number"),
        (
            [{"key": "1", "value": "Boss"}, {"key": "2", "value": "BOSS"}],
            "has 2 roles of this name; there are Boss",
        ),
    ],
)
def test_a_role_that_cannot_be_told_is_refused(serve, reply, connect, values, sentence):
    server = serve(lambda _: reply(body={"role": {"searchhelp": values}}))
    with pytest.raises(AhaConfigurationError, match=sentence):
        connect(server.url).role_number("Boss")


@pytest.mark.parametrize("status", [403, 404])
def test_fields_that_cannot_be_read_are_unknown(oomnitza_sandbox, client, status):
    oomnitza_sandbox.set_fault("error", status=status, path="/users/meta")
    assert client.people_fields() is None


# --- people --------------------------------------------------------------------------------------


def test_a_person_is_created_and_changed(oomnitza_sandbox, client):
    created = client.create_person(ADA)
    client.update_person(created["username"], {"position": "Countess"})
    assert oomnitza_sandbox.instance.person("ada@example.com")["position"] == "Countess"


def test_a_name_is_one_part_of_a_path(oomnitza_sandbox, client):
    oomnitza_sandbox.instance.add_person(username="a/b?c=d&e#f ü@example.com")
    client.update_person("a/b?c=d&e#f ü@example.com", {"position": "odd"})
    assert oomnitza_sandbox.instance.person("a/b?c=d&e#f ü@example.com")["position"] == "odd"


@pytest.mark.parametrize("name", ["", " ", ".", ".."])
def test_a_name_that_is_a_path_names_nobody(oomnitza_sandbox, client, name):
    with pytest.raises(AhaConfigurationError):
        client.get_person(name)
    assert not oomnitza_sandbox.requests


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("answer_lost", {}),
        ("truncated_body", {}),
        ("truncated_json", {}),
        ("connection_reset", {}),
        ("maintenance", {}),
        ("error", {"status": 500}),
        ("error", {"status": 503}),
        ("rate_limit", {}),
    ],
)
def test_nobody_is_created_twice_when_the_answer_is_lost(oomnitza_sandbox, client, fault, options):
    oomnitza_sandbox.set_fault(fault, method="POST", times=1, **options)
    assert client.create_person(ADA)["username"] == "ada@example.com"
    assert [one["username"] for one in oomnitza_sandbox.instance.list_people()].count("ada@example.com") == 1
    # Looked before another try.
    assert [seen.method for seen in oomnitza_sandbox.requests][:2] == ["POST", "GET"]


def test_a_creation_is_given_up_after_its_retries(oomnitza_sandbox, connect):
    met = oomnitza_sandbox.set_fault("error", status=500, method="POST")
    with pytest.raises(AhaServerError):
        connect(oomnitza_sandbox, max_retries=2).create_person(ADA)
    assert met.hits == 3


def test_a_change_is_sent_again_because_it_sets_a_state(oomnitza_sandbox, client):
    oomnitza_sandbox.set_fault("answer_lost", times=2)
    client.update_person("employee0@example.com", {"position": "x"})
    assert len(sent(oomnitza_sandbox, "PATCH")) == 3


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, AhaValidationError),
        (401, AhaAuthenticationError),
        (403, AhaPermissionError),
        (404, AhaNotFoundError),
        (422, AhaValidationError),
        (500, AhaServerError),
    ],
)
def test_a_refusal_has_its_error_and_is_not_repeated(oomnitza_sandbox, connect, status, kind):
    met = oomnitza_sandbox.set_fault("error", status=status)
    with pytest.raises(kind) as caught:
        connect(oomnitza_sandbox, max_retries=0).update_person("employee0@example.com", {"position": "x"})
    assert met.hits == 1
    assert (caught.value.status, caught.value.path) == (status, "/users/:username")


def test_a_429_is_waited_for(oomnitza_sandbox, client):
    oomnitza_sandbox.set_fault("rate_limit", reset_in=33, times=1)
    client.update_person("employee0@example.com", {"position": "x"})
    assert sum(client._clock.sleeps) >= 33


def test_a_429_that_never_ends_is_an_error(oomnitza_sandbox, connect):
    oomnitza_sandbox.set_fault("rate_limit", reset_in=5)
    with pytest.raises(AhaRateLimitError):
        connect(oomnitza_sandbox, max_retries=1).list_people()


def test_success_with_errors_inside_is_a_refusal(oomnitza_sandbox, client):
    oomnitza_sandbox.set_fault("errors_inside", reason="Role is not allowed")
    with pytest.raises(AhaValidationError, match="error inside") as caught:
        client.create_person(ADA)
    assert caught.value.detail == "Role is not allowed"
    assert len(oomnitza_sandbox.requests) == 1


def test_what_oomnitza_says_is_no_part_of_the_sentence(oomnitza_sandbox, client):
    with pytest.raises(AhaValidationError) as caught:
        client.create_person({**ADA, "username": "employee0@example.com"})
    assert "employee0@example.com" in (caught.value.detail or "")
    assert "employee0" not in str(caught.value)


def test_neither_token_nor_email_is_logged(oomnitza_sandbox, client, caplog):
    caplog.set_level(logging.DEBUG)
    oomnitza_sandbox.set_fault("error", status=503, times=2)
    oomnitza_sandbox.set_fault("answer_lost", times=1, after=2)
    client.create_person(ADA)
    with pytest.raises(AhaNotFoundError) as caught:
        client.get_person("nobody@example.com")
    said = f"{caplog.text} {caught.value} {client!r} {client.config!r}"
    assert "Trying again" in said
    assert "GET /users/:username" in said
    assert "@" not in said
    assert oomnitza_sandbox.token not in said


def test_an_instance_that_dies_is_a_connection_error(oomnitza_sandbox, connect):
    oomnitza_sandbox.set_fault("dies", after=1)
    client = connect(oomnitza_sandbox, max_retries=1)
    client.list_people()
    with pytest.raises(AhaConnectionError):
        client.create_person(ADA)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"errors": ["one", "two"]}', "one"),
        (b'{"errors": {"role": ["is no number"]}}', "role: is no number"),
        (b'{"message": "", "error_description": "late"}', "late"),
        (b'{"error": {"message": "deep"}}', "deep"),
        (b'[{"detail": "in a list"}]', "in a list"),
        (b'"just text"', "just text"),
        (b"plain\ntext", "plain text"),
        (b"<html>a page</html>", ""),
        (b"{}", ""),
        (b"", ""),
        (b"17", ""),
    ],
)
def test_reasons_are_found_in_every_usual_form(body, reason):
    assert reason_of(body) == reason


def test_a_reason_never_quotes_the_token(serve, reply, connect):
    server = serve(lambda _: reply(status=400, body={"error": "token s3cret is odd"}))
    with pytest.raises(AhaValidationError) as caught:
        connect(server.url, api_key="s3cret").create_person(ADA)
    assert caught.value.detail == "token *** is odd"


# --- SaaS users ----------------------------------------------------------------------------------


def test_people_get_an_application_an_id_there_and_roles(oomnitza_sandbox, client):
    instance = oomnitza_sandbox.instance
    (app,) = client.list_saas()
    first, second, _ = instance.people
    client.assign_saas_users(app["saas_id"], [first, second])
    client.set_external_id(app["saas_id"], first, "6776")
    roles = [{"role_external_id": "contributor", "role_external_label": "Contributor"}]
    client.set_saas_roles(app["saas_id"], [first, second], roles)
    client.set_saas_roles(app["saas_id"], [first], roles)

    users = client.list_saas_users(app["saas_id"])
    assert [one["user_external_id"] for one in users] == ["6776", None]
    assert [[role["role_external_id"] for role in one["roles"]] for one in users] == [["contributor"]] * 2
    assert len(client.list_saas_roles(app["saas_id"])) == 1


def test_saas_users_are_deactivated_one_by_one(oomnitza_sandbox, client):
    saas_id = client.list_saas()[0]["saas_id"]
    user_id = next(iter(oomnitza_sandbox.instance.people))
    client.assign_saas_users(saas_id, [user_id])
    (one,) = client.list_saas_users(saas_id)
    answer = client.activate_saas_users([one["saas_user_id"], "404"], active=False)
    assert answer == {one["saas_user_id"]: None, "404": "SaaS user does not exist"}
    assert client.list_saas_users(saas_id)[0]["deactivated"]


def test_a_saas_user_that_the_answer_leaves_out_was_not_done(serve, reply, connect):
    server = serve(lambda _: reply(body=[]))
    answer = connect(server.url).activate_saas_users(["1"], active=False)
    assert answer == {"1": "The answer doesn't mention this SaaS user."}


def test_an_assignment_may_be_sent_twice(oomnitza_sandbox, client):
    oomnitza_sandbox.set_fault("answer_lost", times=1)
    saas_id = client.list_saas()[0]["saas_id"]
    client.assign_saas_users(saas_id, list(oomnitza_sandbox.instance.people))
    assert len(oomnitza_sandbox.instance.saas_users) == 3


def test_a_token_without_the_right_to_write_reads_only(oomnitza_sandbox, connect):
    client = connect(oomnitza_sandbox, api_key=OomnitzaSandbox.read_only_token)
    assert len(client.list_people()) == 3
    with pytest.raises(AhaPermissionError):
        client.create_person(ADA)


def test_every_error_is_of_the_one_tree(oomnitza_sandbox, connect):
    oomnitza_sandbox.set_fault("truncated_json")
    with pytest.raises(AhaError):
        connect(oomnitza_sandbox, max_retries=0).list_people()
