"""Pushing SaaS users to a sandbox Oomnitza: who has the application, in which roles, and whose access has ended."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_aha.exceptions import (
    AhaConfigurationError,
    AhaConnectionError,
    AhaGuardError,
    AhaProtocolError,
    AhaRejectedError,
    AhaServerError,
)
from airflow_provider_aha.push.mapping.spec import read_spec
from airflow_provider_aha.push.targets.oomnitza import people as oomnitza
from airflow_provider_aha.push.targets.oomnitza.saas import Deactivation, OomnitzaSaasUsers, SaasRole, roles_by_user
from tests.push.conftest import user, users

SPEC = Path(oomnitza.__file__).parents[2] / "mapping" / "ready" / "oomnitza_saas_users.yaml"
NO_LIMITS = {"max_reject_percent": 100, "max_shrink_percent": 100}
CONTRIBUTOR, VIEWER = SaasRole("contributor", "Contributor"), SaasRole("viewer", "Viewer")


def ready(**changes: Any) -> Any:
    """Return the ready mapping of SaaS users, perhaps with changes."""
    given = {**yaml.safe_load(SPEC.read_text()), "limits": NO_LIMITS, **changes}
    return read_spec(given)


def fields(**changes: Any) -> dict[str, Any]:
    return {name: one for name, one in {**ready().given["fields"], **changes}.items() if one is not None}


class Push:
    """Pushes to one sandbox, each time with a target of its own."""

    def __init__(self, world: Any, client: Any, server: Any) -> None:
        self.world, self.client, self.server = world, client, server
        self.runs = 0

    def __call__(self, rows: list[dict[str, Any]], spec: Any = None, *, target: Any = None, **options: Any) -> Any:
        self.runs += 1
        self.world.land(rows)
        self.server.forget_requests()
        target = target or OomnitzaSaasUsers(self.client, "Aha!", **options)
        return self.world.push(spec or ready(), target, run_id=f"r{self.runs}")["counts"]

    @property
    def outcomes(self) -> list[dict[str, Any]]:
        outcomes: list[dict[str, Any]] = self.world.outcomes(f"r{self.runs}")
        return outcomes

    @property
    def writes(self) -> list[str]:
        return [f"{seen.method} {seen.path}" for seen in self.server.requests if seen.method != "GET"]

    def known(self, count: int) -> None:
        """Have people at Oomnitza for the first users."""
        for number in range(count):
            self.server.instance.add_person(username=f"ada{number}@example.com")

    @property
    def there(self) -> dict[str, dict[str, Any]]:
        """The SaaS users by Aha! id."""
        instance = self.server.instance
        (saas_id,) = instance.saas
        return {one["user_external_id"]: one for one in instance.users_of(saas_id)}

    def roles(self, user_id: str) -> list[str]:
        return [role["role_external_id"] for role in self.there[user_id]["roles"]]


@pytest.fixture
def push(world, client, oomnitza_sandbox):
    return Push(world, client, oomnitza_sandbox)


# --- who has the application ---------------------------------------------------------------------


def test_people_get_the_application_and_their_roles(push):
    push.known(3)
    roles = {"1000": [CONTRIBUTOR], "1001": [VIEWER, CONTRIBUTOR], "1002": []}
    assert push(users(3), roles=roles) == {"added": 3}
    assert [push.roles(user_id) for user_id in ("1000", "1001", "1002")] == [
        ["contributor"],
        ["contributor", "viewer"],
        [],
    ]
    # One request for all that are new, one for each id, one for each set of roles that isn't there yet.
    assert len(push.writes) == 1 + 3 + 2


def test_a_second_push_writes_nothing(push):
    push.known(3)
    roles = {"1000": [CONTRIBUTOR], "1001": [VIEWER, CONTRIBUTOR]}
    push(users(3), roles=roles)
    assert push(users(3), roles=roles) == {"unchanged": 3}
    assert push.writes == []


def test_a_role_is_there_once_however_many_people_have_it(push):
    push.known(30)
    push(users(30), roles={str(1000 + number): [CONTRIBUTOR] for number in range(30)})
    push(users(30), roles={str(1000 + number): [VIEWER, CONTRIBUTOR] for number in range(30)})
    roles = [role["role_external_id"] for role in push.server.instance.saas_roles.values()]
    assert sorted(roles) == ["contributor", "viewer"]


def test_a_changed_role_replaces_the_old_ones(push):
    push.known(2)
    push(users(2), roles={"1000": [CONTRIBUTOR], "1001": [VIEWER]})
    assert push(users(2), roles={"1000": [VIEWER], "1001": [VIEWER]}) == {"updated": 1, "unchanged": 1}
    assert push.roles("1000") == ["viewer"]
    assert len(push.writes) == 1


def test_roles_that_are_not_known_stay(push):
    push.known(1)
    push(users(1), roles={"1000": [CONTRIBUTOR]})
    assert push(users(1), roles={}) == {"unchanged": 1}
    assert push(users(1), roles=None) == {"unchanged": 1}
    assert push.roles("1000") == ["contributor"]
    assert push(users(1), roles={"1000": []}) == {"updated": 1}
    assert push.roles("1000") == []


def test_somebody_with_the_application_gets_the_missing_id(push):
    push.known(1)
    instance = push.server.instance
    (saas_id,) = instance.saas
    instance.assign(saas_id, instance.person("ada0@example.com")["user_id"])
    assert push(users(1)) == {"updated": 1}
    assert "1000" in push.there


def test_a_person_is_found_by_the_id_whatever_the_email(push):
    push.known(1)
    push(users(1))
    assert push([user(0, email="new@example.com")]) == {"unchanged": 1}


def test_who_is_no_person_at_oomnitza_is_rejected(push):
    push.known(1)
    assert push(users(2)) == {"added": 1, "rejected": 1}
    assert push.outcomes[1]["reason"] == "there is no such person at Oomnitza: push the people first"


def test_a_person_who_is_another_user_is_left_alone(push):
    push.known(1)
    push(users(1))
    assert push([user(5, email="ada0@example.com")]) == {"rejected": 1}
    assert push.outcomes[0]["reason"] == "the person is another user of the application at Oomnitza"
    assert push.writes == []


def test_two_saas_users_with_one_id_are_left_alone(push):
    push.known(2)
    push(users(2))
    push.server.instance.saas_users["70001"]["user_external_id"] = "1000"
    assert push(users(1)) == {"rejected": 1}
    assert push.outcomes[0]["reason"].startswith("2 SaaS users of Oomnitza have this id (people ")


def test_a_deactivated_one_who_is_enabled_is_activated(push):
    push.known(1)
    push(users(1))
    push.server.instance.saas_users["70000"]["deactivated"] = True
    assert push(users(1)) == {"updated": 1}
    assert push.there["1000"]["deactivated"] is False


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("upsert", ["updated", "added"]), ("insert", ["skipped", "added"]), ("update", ["updated", "skipped"])],
)
def test_modes(push, mode, expected):
    push.known(2)
    push(users(1))
    push(users(2), ready(mode=mode), roles={"1000": [VIEWER], "1001": [VIEWER]})
    assert [row["status"] for row in push.outcomes] == expected


def test_a_dry_run_writes_nothing(push):
    push.known(2)
    push(users(2), ready(launched=False), deactivation=Deactivation({"1000"}))
    assert [row["expected"] for row in push.outcomes] == ["added", "added"]
    assert push.writes == []


# --- whose access has ended ----------------------------------------------------------------------


def test_a_disabled_user_gets_nothing(push):
    push.known(1)
    assert push([user(0, is_enabled=False), user(1, is_enabled=False)]) == {"skipped": 2}
    assert push.writes == []


def test_nobody_is_deactivated_unasked(push):
    push.known(3)
    push(users(3))
    assert push([user(0), user(1, is_enabled=False)]) == {"unchanged": 1, "skipped": 1}
    assert push.writes == []


def test_disabled_and_gone_users_are_deactivated_when_asked(push):
    push.known(12)
    push(users(12))
    left = Deactivation({str(1000 + number) for number in range(11)})
    rows = [user(number, is_enabled=number != 3) for number in range(11)]
    assert push(rows, deactivation=left) == {"unchanged": 10, "updated": 2}
    assert push.world.summary(f"r{push.runs}")["expected"] == {}
    off = [user_id for user_id, one in push.there.items() if one["deactivated"]]
    assert off == ["1003", "1011"]
    gone = push.outcomes[-1]
    assert (gone["user_id"], gone["status"], gone["reason"]) == (
        "1011",
        "updated",
        "gone from Aha!: to be deactivated",
    )
    assert push(rows, deactivation=left) == {"unchanged": 11}
    assert push.writes == []


def test_a_disabled_user_takes_nothing_from_the_next_owner_of_the_address(push):
    push.known(1)
    push(users(1))
    former = user(5, email="ada0@example.com", is_enabled=False)
    everybody = Deactivation({"1000", "1005"}, max_percent=100)
    assert push([former], deactivation=everybody) == {"skipped": 1}
    assert not push.there["1000"]["deactivated"]


def test_a_dry_run_names_who_would_be_deactivated(push):
    push.known(6)
    push(users(6))
    push(users(5), ready(launched=False), deactivation=Deactivation({str(1000 + number) for number in range(5)}))
    assert [(row["status"], row["expected"]) for row in push.outcomes][-1] == ("planned", "updated")
    assert push.world.summary(f"r{push.runs}")["expected"] == {"updated": 1, "unchanged": 5}
    assert not any(one["deactivated"] for one in push.there.values())


@pytest.mark.parametrize(
    ("caps", "allowed"), [({"max_users": 1}, "1"), ({"max_percent": 10.0}, "1"), ({"max_users": 0}, "0")]
)
def test_more_than_the_caps_allow_is_nothing_at_all(push, caps, allowed):
    push.known(12)
    push(users(10))
    known = {str(1000 + number) for number in range(9)}
    rows = [user(number, is_enabled=number != 3) for number in range(9)] + [user(11)]
    with pytest.raises(AhaGuardError, match=f"2 of 10 active SaaS users .* and {allowed} are allowed"):
        push(rows, deactivation=Deactivation({*known, "1011"}, **caps))
    # The one who would have been added wasn't either.
    assert push.writes == []
    assert {row["status"] for row in push.outcomes} == {"unchanged", "failed"}


def test_saas_users_that_never_came_from_aha_are_left_alone(push):
    push.known(3)
    push(users(1))
    instance = push.server.instance
    (saas_id,) = instance.saas
    for name, external_id in (("ada1@example.com", None), ("ada2@example.com", "by-hand")):
        instance.assign(saas_id, instance.person(name)["user_id"])["user_external_id"] = external_id
    assert push(users(1), deactivation=Deactivation({"1000"}, max_percent=100)) == {"unchanged": 1}
    assert push.writes == []


def test_a_refused_deactivation_is_in_the_outcomes(push, monkeypatch):
    push.known(2)
    push(users(2))
    instance = push.server.instance
    monkeypatch.setattr(instance, "activate", lambda saas_user_id, active: "is the owner")
    push([user(0)], deactivation=Deactivation({"1000"}, max_percent=100))
    assert (push.outcomes[-1]["status"], push.outcomes[-1]["reason"]) == (
        "rejected",
        "gone from Aha!: to be deactivated; is the owner",
    )


# --- what can't work, and faults -----------------------------------------------------------------


@pytest.mark.parametrize("saas", ["Jira", ""])
def test_an_application_that_is_not_there_is_refused(push, saas):
    with pytest.raises(AhaConfigurationError, match="has 0 SaaS applications of that name"):
        push(users(1), target=OomnitzaSaasUsers(push.client, saas))


def test_two_applications_of_one_name_need_the_id(push):
    push.known(1)
    second = push.server.instance.add_saas("aha!")
    with pytest.raises(AhaConfigurationError, match="has 2 SaaS applications"):
        push(users(1))
    assert push(users(1), target=OomnitzaSaasUsers(push.client, second)) == {"added": 1}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"fields": fields(full_name="name")}, "full_name is no field of a SaaS user"),
        ({"fields": fields(email=None)}, "one of username, email is needed"),
        ({"sync_key": ["email"]}, "sync_key must be"),
        ({"fields": fields(is_active="name")}, "fields.is_active.type must be boolean"),
    ],
)
def test_a_mapping_that_cannot_work_is_refused_before_anything_is_asked(push, changes, sentence):
    with pytest.raises(AhaConfigurationError, match=sentence):
        push(users(1), ready(**changes))
    assert not push.server.requests


def test_a_record_that_oomnitza_refuses_is_found_among_many(push, monkeypatch):
    push.known(20)
    instance = push.server.instance
    bad = instance.person("ada13@example.com")["user_id"]
    set_roles = instance.set_roles

    def refuse(saas_id, user_ids, roles):
        if bad in user_ids:
            from airflow_provider_aha.sandbox.exchange import InvalidError

            raise InvalidError("this person can have no role")
        set_roles(saas_id, user_ids, roles)

    monkeypatch.setattr(instance, "set_roles", refuse)
    counts = push(users(20), roles={str(1000 + number): [VIEWER] for number in range(20)})
    assert counts == {"added": 19, "rejected": 1}
    (rejected,) = [row for row in push.outcomes if row["status"] == "rejected"]
    assert (rejected["user_id"], rejected["reason"]) == ("1013", "this person can have no role")
    assert [user_id for user_id in push.there if not push.roles(user_id)] == ["1013"]


def test_a_record_on_which_oomnitza_fails_holds_up_nobody(connect, push):
    push.known(30)
    roles = {str(1000 + number): [VIEWER] for number in range(30)}
    push.server.set_fault("fails_on", text='"1013"')

    def target() -> OomnitzaSaasUsers:
        return OomnitzaSaasUsers(connect(push.server, max_retries=0), "Aha!", roles=roles)

    assert push(users(30), target=target()) == {"added": 29, "failed": 1}
    (failed,) = [row for row in push.outcomes if row["status"] == "failed"]
    assert (failed["user_id"], failed["code"]) == ("1013", "500")
    assert failed["reason"].startswith("Oomnitza failed (500")
    assert {user_id for user_id in push.there if push.roles(user_id) == ["viewer"]} == roles.keys() - {"1013"}

    push.server.clear_faults()
    assert push(users(30), target=target()) == {"updated": 1, "unchanged": 29}
    assert push.roles("1013") == ["viewer"]


def test_one_who_is_gone_and_on_whom_oomnitza_fails_holds_up_nobody(connect, push):
    push.known(30)
    push(users(30))
    bad = push.there["1013"]["saas_user_id"]
    push.server.set_fault("fails_on", text=f'"{bad}"')

    def target() -> OomnitzaSaasUsers:
        deactivation = Deactivation({"1000"}, 100, 100)
        return OomnitzaSaasUsers(connect(push.server, max_retries=0), "Aha!", deactivation=deactivation)

    assert push(users(1), target=target()) == {"unchanged": 1, "updated": 28, "failed": 1}
    (failed,) = [row for row in push.outcomes if row["status"] == "failed"]
    assert (failed["user_id"], failed["code"]) == ("1013", "500")
    assert [user_id for user_id, one in push.there.items() if not one["deactivated"]] == ["1000", "1013"]


@pytest.mark.parametrize(("status", "code"), [(422, "422"), (404, "404")])
def test_a_refusal_of_one_who_is_gone_is_an_outcome(push, status, code):
    push.known(3)
    push(users(3))
    # Both together, and then the first one alone.
    push.server.set_fault("error", status=status, path="/saas_users/deactivate", times=2)
    target = OomnitzaSaasUsers(push.client, "Aha!", deactivation=Deactivation({"1000"}, 100, 100))
    assert push(users(1), target=target) == {"unchanged": 1, "updated": 1, "rejected": 1}
    assert [row["code"] for row in push.outcomes if row["status"] == "rejected"] == [code]


def test_an_instance_that_fails_on_all_who_are_gone_stops_the_push(connect, push):
    push.known(30)
    push(users(30))
    push.server.set_fault("error", status=500, path="/saas_users/deactivate")
    client = connect(push.server, max_retries=0)
    with pytest.raises(AhaServerError):
        push(users(1), target=OomnitzaSaasUsers(client, "Aha!", deactivation=Deactivation({"1000"}, 100, 100)))
    assert not any(one["deactivated"] for one in push.there.values())
    # Halves of 25 until the first three stand alone, and no fourth.
    assert len(push.writes) < 12


def test_too_many_refusals_break_it_off(push):
    push.known(60)
    push.server.set_fault("errors_inside", path=r"/saas/.*/roles/users")
    with pytest.raises(AhaRejectedError):
        push(
            users(60),
            ready(limits={"max_reject_percent": 10}),
            roles={str(1000 + number): [VIEWER] for number in range(60)},
        )
    assert {row["status"] for row in push.outcomes} == {"rejected", "failed"}


@pytest.mark.parametrize("fault", ["answer_lost", "connection_reset", "truncated_json", "rate_limit"])
def test_passing_faults_are_survived(push, fault):
    push.known(5)
    push.server.set_fault(fault, method="PATCH", times=2)
    push.server.set_fault(fault, method="POST", times=2)
    assert push(users(5), roles={"1000": [VIEWER], "1003": [VIEWER]}) == {"added": 5}
    assert (push.roles("1000"), push.roles("1003")) == (["viewer"], ["viewer"])


def test_an_instance_that_dies_leaves_nothing_that_the_next_try_would_repeat(world, connect, push):
    push.known(30)
    roles = {str(1000 + number): [VIEWER] for number in range(30)}
    world.land(users(30))
    target = OomnitzaSaasUsers(connect(push.server, max_retries=0), "Aha!", roles=roles)
    # Three lists, then the first batch but for its roles.
    push.server.set_fault("dies", after=3 + 1 + 25)
    with pytest.raises(AhaConnectionError):
        world.push(ready(), target)
    assert {row["status"] for row in world.outcomes()} == {"failed"}

    push.server.clear_faults()
    push.server.forget_requests()
    again = OomnitzaSaasUsers(push.client, "Aha!", roles=roles)
    assert world.push(ready(), again, try_number=2)["counts"] == {"added": 5, "updated": 25}
    assert len(push.there) == 30
    # The first 25 lack their roles only.
    assert len(push.writes) == 1 + 1 + 5 + 1


def test_a_saas_user_without_its_id_is_said(push, monkeypatch):
    push.known(1)
    push(users(1))
    (one,) = push.server.instance.saas_users.values()
    one["deactivated"] = True
    del one["saas_user_id"]
    with pytest.raises(AhaProtocolError, match="without saas_user_id"):
        push(users(1))


# --- roles of the datasets -----------------------------------------------------------------------


def row(user_id: str, role: str | None, workspace: str = "1", **changes: Any) -> dict[str, Any]:
    return {
        "user_id": user_id,
        "role": role,
        "role_id": "30",
        "role_name": role and role.title(),
        "workspace_id": workspace,
        "workspace_name": f"Workspace {workspace}",
        **changes,
    }


def test_a_role_in_three_workspaces_is_one_role(push):
    rows = [row("1000", "contributor", workspace) for workspace in "123"]
    push.known(1)
    push(users(1), roles=roles_by_user(rows, per_workspace=False))
    assert push.roles("1000") == ["contributor"]


def test_a_role_in_each_workspace_is_a_role_of_its_own_where_asked_for():
    rows = [row("1000", "contributor", "1"), row("1000", "contributor", "2", workspace_name=None)]
    assert roles_by_user(rows, per_workspace=True) == {
        "1000": [
            SaasRole("1:contributor", "Contributor (Workspace 1)"),
            SaasRole("2:contributor", "Contributor (2)"),
        ]
    }


def test_custom_roles_and_no_role():
    rows = [row("1000", None, role_id="77", role_name="Auditor"), row("1000", "none")]
    assert roles_by_user(rows, per_workspace=False) == {"1000": [SaasRole("custom-77", "Auditor")]}
