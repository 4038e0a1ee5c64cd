"""Getting and updating one user by operator: what goes to Aha!, what comes back, what is refused before."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_aha.exceptions import AhaError
from airflow_provider_aha.hooks.aha import AhaHook
from airflow_provider_aha.operators.users import AhaGetUserOperator, AhaUpdateUserOperator

MAPPED = """
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_aha.operators.users import AhaGetUserOperator, AhaUpdateUserOperator

with DAG("mapped_{kind}", schedule=None):
    {task}
"""


def get(context: Callable[..., Any], **arguments: Any) -> Any:
    return AhaGetUserOperator(task_id="get", **arguments).execute(context(task_id="get"))


def update(
    context: Callable[..., Any], base: Path, run_id: str = "r1", try_number: int = 1, **arguments: Any
) -> Any:
    operator = AhaUpdateUserOperator(task_id="update", base_path=str(base), **{"dry_run": False, **arguments})
    return operator.execute(context(run_id, try_number, "update"))


def puts(server: Any) -> list[Any]:
    return [(one.path.rpartition("/")[2], one.body) for one in server.requests if one.method == "PUT"]


def person(server: Any, **wanted: Any) -> dict[str, Any]:
    wanted = {"enabled": True, "administrator": False, **wanted}
    return next(
        user for user in server.account.users() if all(user.get(name) == value for name, value in wanted.items())
    )


def with_roles(server: Any) -> dict[str, Any]:
    return next(u for u in server.account.users() if u.get("user_roles") and u.get("paid_seat_group"))


# --- get -----------------------------------------------------------------------------------------


def test_flags_roles_custom_roles_and_seat_group_come_back(aha_default, context):
    user = with_roles(aha_default)
    found = get(context, user=user["id"])
    assert (found["id"], found["is_enabled"], found["is_paid_seat"]) == (
        user["id"],
        user["enabled"],
        user["paid_seat"],
    )
    assert found["paid_seat_group_name"] == user["paid_seat_group"]["name"]
    custom = [role for role in found["roles"] if role["role_kind"] == "custom"]
    assert {role["role_name"] for role in custom} == {role["name"] for role in user["user_roles"]}
    listed = {one["id"]: one["name"] for one in AhaHook().iter_workspaces()}
    assert {role["workspace_name"] for role in found["roles"]} >= {
        listed[role["product_id"]] for role in user["product_roles"] if role["product_id"] in listed
    }
    assert found["created_at"].endswith("Z")
    json.dumps(found)


def test_names_and_emails_come_only_when_they_are_asked_for(aha_default, context, caplog, capfd):
    caplog.set_level("DEBUG")
    user = person(aha_default)
    text = json.dumps(get(context, user=user["email"])) + caplog.text + "".join(capfd.readouterr())
    assert user["email"] not in text
    assert user["name"] not in text
    found = get(context, user=user["id"], fields=["name", "email"])
    assert found == {"name": user["name"], "email": user["email"]}


def test_what_was_found_is_logged_without_name_and_email(aha_default, context, caplog, capfd):
    caplog.set_level("INFO")
    user = with_roles(aha_default)
    get(context, user=user["id"], fields=["id"])
    text = caplog.text + "".join(capfd.readouterr())
    assert f"User {user['id']} of 127.0.0.1:" in text
    for line in (
        f"is_enabled: {user['enabled']}",
        f"is_administrator: {user['administrator']}",
        f"paid_seat_group_name: {user['paid_seat_group']['name']}",
        f"custom role: {user['user_roles'][0]['name']} in ",
    ):
        assert line in text, line
    assert user["name"] not in text
    assert user["email"] not in text


def test_an_email_in_other_case_finds_the_user(aha_default, context):
    user = person(aha_default)
    assert get(context, user=f"  {user['email'].upper()} ", fields='["id"]') == {"id": user["id"]}


def test_an_email_of_two_users_is_refused_with_their_ids(connected, context):
    one, other = list(connected.account.users())[5:7]
    connected.account.edit_user(other["id"], email=one["email"].upper())
    with pytest.raises(AirflowFailException, match=f"{one['id']}, {other['id']}") as caught:
        get(context, user=one["email"])
    assert one["email"] not in str(caught.value)


@pytest.mark.parametrize("user", ["ann", "Ann Lee", "12a"])
def test_what_is_neither_id_nor_email_is_refused_in_one_sentence(aha_default, context, user):
    """The traceback that Airflow logs has no second one above it."""
    with pytest.raises(
        AirflowFailException, match="neither an id, which is made of digits, nor an email"
    ) as caught:
        get(context, user=user)
    assert user not in str(caught.value)
    assert caught.value.__suppress_context__
    assert aha_default.requests == []


@pytest.mark.parametrize("user", ["123", "nobody@example.com"])
def test_a_missing_user_fails_skips_or_is_none(aha_default, context, user):
    with pytest.raises(AirflowFailException):
        get(context, user=user)
    with pytest.raises(AirflowSkipException):
        get(context, user=user, on_missing="skip")
    assert get(context, user=user, on_missing="none") is None


BAD_USERS: list[object] = [
    "",
    " ",
    None,
    "None",
    "1/2",
    "../users",
    "1?x=1",
    "１２３",
    "٣٤٥",
    "abc",
    "1 2",
    "-1",
    "1.5",
]
BAD_USERS += ["1" * 21, True, ["1"]]


@pytest.mark.parametrize("user", BAD_USERS)
def test_what_cannot_be_a_user_never_reaches_the_api(aha_default, context, tmp_path, user):
    with pytest.raises(AirflowFailException):
        get(context, user=user)
    with pytest.raises(AirflowFailException):
        update(context, tmp_path, user=user, first_name="Zoe")
    # Of the update, whose key it is may have been asked; of no user.
    assert {one.path for one in aha_default.requests} <= {"/api/v1/me"}


def test_an_email_with_a_slash_is_looked_for_in_the_list(aha_default, context):
    assert get(context, user="a/b@example.com", on_missing="none") is None
    assert {one.path for one in aha_default.requests} == {"/api/v1/users"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"fields": ["id", "salary"]}, "there isn't no. 2"),
        ({"fields": "{}"}, "fields"),
        ({"on_missing": "ignore"}, "on_missing must be one of"),
    ],
)
def test_wrong_arguments_are_refused_before_any_request(aha_default, context, arguments, sentence):
    with pytest.raises(AirflowFailException, match=sentence):
        get(context, user="1", **arguments)
    assert aha_default.requests == []


def test_a_refused_key_is_not_tried_again(connected, context):
    connected.set_fault("error", status=401)
    with pytest.raises(AirflowFailException, match="refused the API key"):
        get(context, user="1")


def run_mapped(tmp_path: Path, airflow: Any, kind: str, task: str) -> Any:
    path = tmp_path / f"mapped_{kind}.py"
    path.write_text(MAPPED.format(kind=kind, task=task))
    dag = airflow.register(path)[f"mapped_{kind}"]
    return airflow.Run(dag.test())


def test_get_works_mapped(aha_default, airflow_db, real_airflow, tmp_path):
    ids = [user["id"] for user in list(aha_default.account.users())[:3]]
    task = f'AhaGetUserOperator.partial(task_id="get", fields=["id"]).expand(user={ids!r})'
    run = run_mapped(tmp_path, real_airflow, "get", task)
    assert run.state == "success"
    found = [
        one.xcom_pull(task_ids="get", map_indexes=number)
        for number, one in enumerate(run.dag_run.get_task_instances())
    ]
    assert sorted(one["id"] for one in found) == sorted(ids)


def test_updates_work_mapped_side_by_side(connected, airflow_db, real_airflow, tmp_path):
    ids = [user["id"] for user in list(connected.account.users())[5:8]]
    task = (
        'AhaUpdateUserOperator.partial(task_id="rename", first_name="Zoe", dry_run=False, '
        f"base_path={str(tmp_path / 'aha')!r})"
        f".expand(user={ids!r})"
    )
    assert run_mapped(tmp_path, real_airflow, "update", task).state == "success"
    assert sorted(one for one, _ in puts(connected)) == ids
    folders = {path.parent.name for path in tmp_path.glob("aha/**/evidence.parquet")}
    assert folders == {"task=rename%5B0%5D", "task=rename%5B1%5D", "task=rename%5B2%5D"}


# --- update: what is sent ------------------------------------------------------------------------


def test_only_what_was_set_is_sent(connected, context, tmp_path):
    user = person(connected)
    result = update(
        context, tmp_path, user=user["id"], first_name="Zoe", email="None", enabled="", administrator=None
    )
    assert puts(connected) == [(user["id"], {"user": {"first_name": "Zoe"}})]
    assert connected.account.user(user["id"])["enabled"] is True
    assert (result["user_id"], result["outcome"]) == (user["id"], "unverified")
    assert result["reason"] == "Aha! answered 200, but doesn't show first_name"
    assert Path(result["evidence"]).is_file()


def test_everything_can_be_set_as_text(connected, context, tmp_path):
    user = person(connected)
    update(
        context,
        tmp_path,
        user=user["email"].upper(),
        last_name="Ødegård",
        email="new@example.com",
        enabled="False",
        administrator_roles='{"administer_billing": "true", "administer_account": null}',
        extra_fields="{'nickname': 'Zoe'}",
        allow_privileged=True,
    )
    assert puts(connected) == [
        (
            user["id"],
            {
                "user": {
                    "last_name": "Ødegård",
                    "email": "new@example.com",
                    "enabled": False,
                    "administrator_roles": {"administer_billing": True},
                    "nickname": "Zoe",
                }
            },
        )
    ]


def test_nothing_is_sent_where_nothing_differs(connected, context, tmp_path):
    user = person(connected)
    arguments = {"email": user["email"].upper(), "enabled": "true", "administrator": "false"}
    result = update(context, tmp_path, user=user["id"], allow_privileged=True, **arguments)
    assert (result["outcome"], puts(connected)) == ("unchanged", [])


def test_an_update_is_verified_from_the_answer(connected, context, tmp_path):
    user = person(connected)
    result = update(context, tmp_path, user=user["id"], email="new@example.com", allow_privileged=True)
    assert result["outcome"] == "changed"
    connected.set_fault("update_ignored")
    with pytest.raises(AhaError, match="1 unverified"):
        update(context, tmp_path, "r2", user=user["id"], email="third@example.com", allow_privileged=True)


def test_a_retry_finds_the_user_whose_email_the_first_try_changed(connected, context, tmp_path):
    user = person(connected)
    connected.set_fault("answer_lost")
    connected.set_fault("error", status=403, path="/users/[0-9]+", method="GET", after=1)
    arguments = {"user": user["email"], "email": "new@example.com", "allow_privileged": True}
    with pytest.raises(AhaError, match="1 failed"):
        update(context, tmp_path, **arguments)
    connected.clear_faults()
    connected.forget_requests()
    assert update(context, tmp_path, try_number=2, **arguments)["outcome"] == "changed_after_crash"
    assert puts(connected) == []


# --- update: what is refused ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {"email": "a@example.com"},
        {"enabled": False},
        {"enabled": "true"},
        {"administrator": True},
        {"administrator_roles": {"administer_billing": True}},
    ],
)
@pytest.mark.parametrize("allowed", [{}, {"allow_privileged": "True"}, {"allow_privileged": 1}])
def test_fields_that_decide_over_access_need_a_word_in_the_dag(connected, context, tmp_path, arguments, allowed):
    with pytest.raises(AirflowFailException, match="allow_privileged=True"):
        update(context, tmp_path, user=person(connected)["id"], **arguments, **allowed)
    assert connected.requests == []


@pytest.mark.parametrize("dry_run", [{}, {"dry_run": "None"}, {"dry_run": "True"}])
def test_an_update_is_a_dry_run_unless_it_says_otherwise(connected, context, tmp_path, dry_run):
    """A dry run changes nothing, so it needs no word in the DAG."""
    operator = AhaUpdateUserOperator(
        task_id="u", base_path=str(tmp_path), user=person(connected)["id"], enabled=False, **dry_run
    )
    result = operator.execute(context())
    assert (result["outcome"], result["dry_run"], puts(connected)) == ("dry_run", True, [])


@pytest.mark.parametrize("ticket", ["\u200b", "\u00a0\u2060", "--"])
def test_a_ticket_that_nobody_can_read_is_refused(connected, context, tmp_path, ticket):
    with pytest.raises(AirflowFailException, match="ticket is blank"):
        update(context, tmp_path, user="1", first_name="Zoe", ticket=ticket)
    assert puts(connected) == []


def test_the_word_in_the_dag_cannot_come_from_a_form():
    assert "allow_privileged" not in AhaUpdateUserOperator.template_fields


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "Nothing to change"),
        ({"first_name": "", "enabled": "None"}, "Nothing to change"),
        ({"enabled": "perhaps"}, "enabled must be true or false"),
        ({"administrator_roles": {"administer_everything": True}}, "administer_everything; there are"),
        ({"administrator_roles": {"administer_billing": None}}, "sets nothing"),
        ({"administrator_roles": "all"}, "JSON object"),
        ({"extra_fields": {"enabled": False}}, "argument of its own"),
        ({"extra_fields": {"Enabled ": False}}, "argument of its own"),
        ({"extra_fields": {"administer_billing": True}}, "argument of its own"),
        ({"extra_fields": {"first_name": "Zoe"}}, "argument of its own"),
        ({"extra_fields": "[1]"}, "JSON object"),
    ],
)
def test_wrong_changes_are_refused_before_any_request(connected, context, tmp_path, arguments, sentence):
    with pytest.raises(AirflowFailException, match=sentence):
        update(context, tmp_path, user="1", allow_privileged=True, **arguments)
    assert connected.requests == []


def test_guards_hold_for_updates(connected, context, tmp_path):
    user = person(connected)
    with pytest.raises(AirflowFailException, match="1 blocked"):
        update(
            context,
            tmp_path,
            user=user["id"],
            enabled=False,
            allow_privileged=True,
            protected_ids=f'["{user["id"]}"]',
        )
    owner = connected.account.owner(connected.key)["id"]
    with pytest.raises(AirflowFailException, match="1 blocked"):
        update(context, tmp_path, "r2", user=owner, administrator=False, allow_privileged=True)
    assert puts(connected) == []


def test_the_caps_hold_for_updates_in_a_loop(connected, context, tmp_path):
    ids = [user["id"] for user in connected.account.users() if user["enabled"] and not user["administrator"]]
    for number in range(2):
        update(context, tmp_path, f"r{number}", user=ids[number], enabled=False, allow_privileged=True, max_users=2)
    with pytest.raises(AirflowFailException, match="after 2 within the last seven days"):
        update(context, tmp_path, "r3", user=ids[3], enabled=False, allow_privileged=True, max_users="2")


@pytest.mark.parametrize("user", ["123", "nobody@example.com"])
def test_a_user_who_is_not_there_is_not_tried_again(connected, context, tmp_path, user):
    with pytest.raises(AirflowFailException):
        update(context, tmp_path, user=user, first_name="Zoe")
    assert len(list(tmp_path.glob("access/*/manifests/*.json"))) == 1
    assert puts(connected) == []


def test_no_name_or_email_is_logged_or_returned(connected, context, tmp_path, caplog, capfd):
    caplog.set_level("DEBUG")
    user = person(connected)
    result = update(context, tmp_path, user=user["email"], email="new@example.com", allow_privileged=True)
    text = json.dumps(result) + caplog.text + "".join(capfd.readouterr())
    assert "1 changed" in text
    for personal in (user["email"], user["name"], "new@example.com", connected.key):
        assert personal not in text
