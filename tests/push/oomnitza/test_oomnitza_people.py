"""Pushing people to a sandbox Oomnitza: found by the sync key, compared, only differences written."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_aha.exceptions import (
    AhaAuthenticationError,
    AhaConfigurationError,
    AhaConnectionError,
    AhaGuardError,
    AhaMappingError,
    AhaPermissionError,
    AhaRejectedError,
    AhaTargetError,
)
from airflow_provider_aha.push.mapping.load import load_spec
from airflow_provider_aha.push.targets.oomnitza import people as oomnitza
from airflow_provider_aha.push.targets.oomnitza.people import OomnitzaPeople
from airflow_provider_aha.sandbox.oomnitza.instance import STANDARD_FIELDS, Instance
from airflow_provider_aha.sandbox.testing import OomnitzaSandbox
from tests.push.conftest import user, users

ROLE = {"role": "25"}
SPEC = Path(oomnitza.__file__).parents[2] / "mapping" / "ready" / "oomnitza_people.yaml"


def ready(**changes: Any) -> Any:
    """Return the ready mapping of people, perhaps with changes."""
    return load_spec({**ready_dict(), **changes}, ROLE, _nowhere)


def ready_dict() -> dict[str, Any]:
    return {**yaml.safe_load(SPEC.read_text()), "limits": {"max_reject_percent": 100}}


def _nowhere(path: str) -> Any:
    raise AssertionError(path)


def fields(**changes: Any) -> dict[str, Any]:
    return {name: one for name, one in {**ready_dict()["fields"], **changes}.items() if one is not None}


@pytest.fixture
def target(client):
    return OomnitzaPeople(client)


@pytest.fixture
def people(oomnitza_sandbox):
    """Call it for a person of the sandbox, by the number of the Aha! user."""
    return lambda number: oomnitza_sandbox.instance.person(f"ada{number}@example.com")


def writes(server: OomnitzaSandbox) -> list[str]:
    return [seen.method for seen in server.requests if seen.method != "GET"]


def statuses(world: Any, run_id: str = "r1") -> list[str]:
    return [row["status"] for row in world.outcomes(run_id)]


# --- what goes where -----------------------------------------------------------------------------


def test_new_people_get_every_standard_field(world, target, people):
    world.land([user(1, name="Ada Lovelace", accessed_at=datetime(2026, 7, 1, 8, 30, 1, 250_000, tzinfo=UTC))])
    summary = world.push(ready(), target)
    assert summary["counts"] == {"added": 1}
    expected = {
        "username": "ada1@example.com",
        "email": "ada1@example.com",
        "role": 25,
        "full_name": "Ada Lovelace",
        "aha_user_id": "1001",
        "aha_accessed_at": "2026-07-01T08:30:01Z",
        "aha_is_enabled": True,
        "aha_is_paid_seat": True,
        "aha_is_administrator": False,
        "aha_subdomain": "acme",
        "aha_connection_id": "aha_default",
        "aha_synced_at": "2026-08-01T03:40:00Z",
    }
    assert expected.items() <= people(1).items()


def test_the_guides_twelve_fields_are_mapped():
    columns = {one.source.column for one in ready().fields if one.source}
    assert columns == {
        "accessed_at", "connection_id", "subdomain", "synced_at", "created_at", "email", "id", "is_administrator",
        "is_enabled", "is_paid_seat", "name", "updated_at",
    }  # fmt: skip


def test_a_second_push_writes_nothing(world, target, client, oomnitza_sandbox):
    world.land(users(40))
    world.push(ready(), target)
    assert len(writes(oomnitza_sandbox)) == 40
    oomnitza_sandbox.forget_requests()
    world.land([user(number, synced_at=datetime(2026, 8, 2, tzinfo=UTC)) for number in range(40)])
    summary = world.push(ready(), OomnitzaPeople(client), run_id="r2")
    assert summary["counts"] == {"unchanged": 40}
    assert writes(oomnitza_sandbox) == []


def test_only_what_differs_is_sent(world, target, client, oomnitza_sandbox, people):
    world.land(users(2))
    world.push(ready(), target)
    oomnitza_sandbox.forget_requests()
    world.land([user(0), user(1, is_paid_seat=False, synced_at=datetime(2026, 8, 2, tzinfo=UTC))])
    assert world.push(ready(), OomnitzaPeople(client), run_id="r2")["counts"] == {"updated": 1, "unchanged": 1}
    (patch,) = [seen for seen in oomnitza_sandbox.requests if seen.method == "PATCH"]
    assert patch.body == {"aha_is_paid_seat": False, "aha_synced_at": "2026-08-02T00:00:00Z"}
    assert people(1)["aha_is_paid_seat"] is False


def test_what_somebody_changed_at_oomnitza_is_put_right(world, target, client, people):
    world.land(users(1))
    world.push(ready(), target)
    people(0)["aha_subdomain"] = "wrong"
    assert world.push(ready(), OomnitzaPeople(client), run_id="r2")["counts"] == {"updated": 1}
    assert people(0)["aha_subdomain"] == "acme"


def test_somebody_deleted_at_oomnitza_is_created_again(world, target, client, oomnitza_sandbox):
    world.land(users(2))
    world.push(ready(), target)
    oomnitza_sandbox.instance.people.clear()
    assert world.push(ready(), OomnitzaPeople(client), run_id="r2")["counts"] == {"added": 2}


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (1_785_555_600, "unchanged"),
        ("1785555600", "unchanged"),
        ("2026-08-01T03:40:00Z", "unchanged"),
        ("2026-08-01T03:40:00", "unchanged"),
        ("2026-08-01T03:40:01Z", "updated"),
        (1_785_555_601, "updated"),
        ("never", "updated"),
    ],
)
def test_a_moment_is_the_same_however_oomnitza_writes_it(world, target, client, people, value, status):
    world.land(users(1))
    world.push(ready(), target)
    people(0)["aha_accessed_at"] = value
    world.land([user(0, accessed_at=datetime(2026, 8, 1, 3, 40, 0, 900_000, tzinfo=UTC))])
    assert world.push(ready(), OomnitzaPeople(client), run_id="r2")["counts"] == {status: 1}


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("2026-08-01", "unchanged"),
        (1_785_542_400, "unchanged"),
        ("2026-08-02", "updated"),
        ("2026-07-31", "updated"),
    ],
)
def test_a_day_is_the_same_however_oomnitza_writes_it(world, target, client, people, value, status):
    day = {"source": "accessed_at", "type": "date"}
    spec = ready(fields=fields(aha_accessed_at=day))
    world.land([user(0, accessed_at=datetime(2026, 8, 1, 3, 40, tzinfo=UTC))])
    world.push(spec, target)
    people(0)["aha_accessed_at"] = value
    assert world.push(spec, OomnitzaPeople(client), run_id="r2")["counts"] == {status: 1}


def test_an_address_that_somebody_else_has_now_finds_nobody_of_before(world, target, client, people):
    world.land(users(1))
    world.push(ready(), target)
    world.land([user(0, email="married@example.com"), user(1, email="ada0@example.com")])
    assert world.push(ready(), OomnitzaPeople(client), run_id="r2")["counts"] == {"added": 1, "updated": 1}
    assert people(0)["aha_user_id"] == "1001"


def test_an_empty_value_leaves_what_is_there(world, target, client, people):
    world.land(users(1))
    world.push(ready(), target)
    people(0)["full_name"] = "Ada by hand"
    world.land([user(0, name=None, accessed_at=None)])
    assert world.push(ready(), OomnitzaPeople(client), run_id="r2")["counts"] == {"unchanged": 1}
    assert people(0)["full_name"] == "Ada by hand"


def test_an_empty_value_clears_where_the_mapping_says_so(world, target, client, people):
    world.land(users(1))
    world.push(ready(on_null="send_null"), target)
    world.land([user(0, name=None)])
    assert world.push(ready(on_null="send_null"), OomnitzaPeople(client), run_id="r2")["counts"] == {"updated": 1}
    assert people(0)["full_name"] is None


def test_a_constant_role_is_for_new_people_only(world, target, oomnitza_sandbox, people):
    oomnitza_sandbox.instance.add_person(username="ada0@example.com", role=1)
    world.land(users(2))
    assert world.push(ready(), target)["counts"] == {"added": 1, "updated": 1}
    assert (people(0)["role"], people(1)["role"]) == (1, 25)


def test_a_role_of_the_mapping_is_kept_in_step(world, target, oomnitza_sandbox, people):
    oomnitza_sandbox.instance.add_person(username="ada0@example.com", role=1)
    role = {"source": "is_administrator", "map": {"true": 30, "false": 25}, "required": True}
    world.land([user(0), user(1, is_administrator=True)])
    world.push(ready(fields=fields(role=role)), target)
    assert (people(0)["role"], people(1)["role"]) == (25, 30)


# --- who is who ----------------------------------------------------------------------------------


def test_a_person_is_found_by_the_email_in_another_case(world, target, oomnitza_sandbox):
    oomnitza_sandbox.instance.add_person(username="ADA0@Example.com")
    world.land(users(1))
    assert world.push(ready(), target)["counts"] == {"updated": 1}
    person = oomnitza_sandbox.instance.person("ada0@example.com")
    # The case alone is no reason to change the name that somebody logs in with.
    assert (person["username"], person["aha_user_id"]) == ("ADA0@Example.com", "1000")
    assert len(oomnitza_sandbox.instance.list_people()) == 4


def test_a_person_with_a_new_email_is_found_by_the_aha_id(world, target, client, oomnitza_sandbox):
    world.land(users(1))
    world.push(ready(), target)
    world.land([user(0, email="countess@example.com")])
    assert world.push(ready(), OomnitzaPeople(client), run_id="r2")["counts"] == {"updated": 1}
    assert oomnitza_sandbox.instance.person("countess@example.com")["aha_user_id"] == "1000"
    assert len(oomnitza_sandbox.instance.list_people()) == 4


def test_two_people_with_one_key_are_neither_changed(world, target, oomnitza_sandbox):
    for number in range(2):
        oomnitza_sandbox.instance.add_person(username=f"x{number}", aha_user_id="1000")
    world.land(users(2))
    world.push(ready(), target)
    outcome = world.outcomes()[0]
    assert (outcome["status"], outcome["field"]) == ("rejected", "aha_user_id")
    assert outcome["reason"].startswith("2 people of Oomnitza have this value (ids ")
    assert statuses(world)[1] == "added"
    assert writes(oomnitza_sandbox) == ["POST"]


def test_keys_that_find_two_people_are_refused(world, target, oomnitza_sandbox):
    oomnitza_sandbox.instance.add_person(username="other", aha_user_id="1000")
    oomnitza_sandbox.instance.add_person(username="ada0@example.com")
    world.land(users(1))
    with pytest.raises(AhaRejectedError):
        world.push(ready(limits={"max_reject_percent": 0}), target)
    assert world.outcomes()[0]["reason"] == "aha_user_id finds one person of Oomnitza, email another"
    assert writes(oomnitza_sandbox) == []


def test_an_email_that_passed_on_to_somebody_else_changes_nobody(world, target, oomnitza_sandbox):
    oomnitza_sandbox.instance.add_person(username="ada0@example.com", aha_user_id="77")
    world.land(users(1))
    world.push(ready(), target)
    assert "somebody else" in world.outcomes()[0]["reason"]
    assert writes(oomnitza_sandbox) == []


def test_two_aha_users_with_one_email_are_invalid(world, target, oomnitza_sandbox):
    world.land([user(0), user(1, email="ADA0@example.com "), user(2)])
    world.push(ready(), target)
    assert statuses(world) == ["invalid", "invalid", "added"]
    assert writes(oomnitza_sandbox) == ["POST"]


# --- modes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "expected", "methods"),
    [
        ("upsert", ["updated", "added"], ["PATCH", "POST"]),
        ("insert", ["skipped", "added"], ["POST"]),
        ("update", ["updated", "skipped"], ["PATCH"]),
    ],
)
def test_modes(world, target, oomnitza_sandbox, mode, expected, methods):
    oomnitza_sandbox.instance.add_person(username="ada0@example.com")
    world.land(users(2))
    world.push(ready(mode=mode), target)
    assert statuses(world) == expected
    assert writes(oomnitza_sandbox) == methods


def test_a_draft_only_says_what_it_would_do(world, target, oomnitza_sandbox):
    oomnitza_sandbox.instance.add_person(username="ada0@example.com")
    world.land(users(3))
    summary = world.push(ready(launched=False), target)
    assert summary["expected"] == {"added": 2, "updated": 1}
    assert [row["expected"] for row in world.outcomes()] == ["updated", "added", "added"]
    assert statuses(world) == ["planned"] * 3
    assert writes(oomnitza_sandbox) == []


def test_a_cap_on_changes_counts_what_would_be_written(world, target, client, oomnitza_sandbox):
    world.land(users(20))
    world.push(ready(), target)
    oomnitza_sandbox.forget_requests()
    limited = ready(limits={"max_changes": 5})
    world.land([user(number, is_paid_seat=number >= 5) for number in range(20)])
    assert world.push(limited, OomnitzaPeople(client), run_id="r2")["counts"] == {"updated": 5, "unchanged": 15}
    world.land([user(number, is_paid_seat=number >= 11) for number in range(20)])
    oomnitza_sandbox.forget_requests()
    with pytest.raises(AhaGuardError, match="6 records would be sent"):
        world.push(limited, OomnitzaPeople(client), run_id="r3")
    assert writes(oomnitza_sandbox) == []


# --- what can't work -----------------------------------------------------------------------------


def test_a_role_that_is_no_number_is_refused():
    with pytest.raises(AhaMappingError, match=r"fields\.role\.param: 'Employee' is not a whole number"):
        load_spec("oomnitza_people", {"role": "Employee"}, _nowhere)


def test_no_role_at_all_is_refused():
    with pytest.raises(AhaMappingError, match="no value was given for role"):
        load_spec("oomnitza_people", {"role": ""}, _nowhere)


def test_a_role_that_oomnitza_does_not_have_stops_the_push_before_anything_is_sent(world, target, oomnitza_sandbox):
    world.land(users(1))
    with pytest.raises(AhaConfigurationError, match="has no role of the number that") as caught:
        world.push(ready(fields=fields(role={"const": 99, "required": True})), target)
    assert "there are System administrator (1), Employee (25), IT administrator (30)." in str(caught.value)
    assert writes(oomnitza_sandbox) == []


def test_a_role_is_rejected_where_oomnitza_does_not_say_which_it_has(world, target, oomnitza_sandbox):
    oomnitza_sandbox.set_fault("error", status=403, path="/users/meta")
    world.land(users(1))
    world.push(ready(fields=fields(role={"const": 99, "required": True})), target)
    outcome = world.outcomes()[0]
    assert (outcome["status"], outcome["code"]) == ("rejected", "422")
    assert outcome["reason"] == "Field role has no value 99"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"fields": {"role": None}}, "fields.role is missing"),
        ({"fields": {"username": None}}, "fields.username is missing"),
        ({"fields": {"role": {"const": "25"}}}, "fields.role.type must be integer"),
        ({"fields": {"email": {"source": "email", "unique": True, "required": True}, "username": "email"}},
         "fields.username.required must be true"),
        ({"fields": {"aha_user_id": {"source": "id", "required": True}}}, "fields.aha_user_id.unique must be true"),
    ],
)  # fmt: skip
def test_a_mapping_that_cannot_work_is_refused_before_anything_is_asked(
    world, target, oomnitza_sandbox, changes, sentence
):
    world.land(users(1))
    with pytest.raises(AhaConfigurationError, match=sentence.replace(".", r"\.")):
        world.push(ready(fields=fields(**changes["fields"])), target)
    assert not oomnitza_sandbox.requests


def test_updating_needs_neither_role_nor_username(world, target, oomnitza_sandbox, people):
    oomnitza_sandbox.instance.add_person(username="ada0@example.com")
    world.land(users(1))
    world.push(ready(mode="update", fields=fields(role=None, username=None)), target)
    assert people(0)["aha_user_id"] == "1000"


def test_fields_that_oomnitza_lacks_are_named_before_anything_is_written(world, connect):
    with OomnitzaSandbox(instance=Instance(fields={})) as server:
        world.land(users(1))
        with pytest.raises(AhaConfigurationError, match="has no field aha_user_id, aha_accessed_at, "):
            world.push(ready(), OomnitzaPeople(connect(server)))
        assert writes(server) == []


def test_fields_are_known_from_people_where_their_description_is_not(world, target, oomnitza_sandbox):
    oomnitza_sandbox.set_fault("error", status=403, path="/users/meta")
    world.land(users(1))
    with pytest.raises(AhaConfigurationError, match="has no field shoe_size"):
        world.push(ready(fields=fields(shoe_size="name")), target)


def test_a_field_that_nobody_may_set_is_named(world, target):
    world.land(users(1))
    with pytest.raises(AhaConfigurationError, match="lets nobody set version"):
        world.push(ready(fields=fields(version="name")), target)


def test_fields_are_offered_for_a_mapping(client):
    offered = {one.name: one for one in OomnitzaPeople(client).fields() or ()}
    assert offered["role"].type == "integer"
    assert offered["username"].required
    assert "version" not in offered
    assert set(STANDARD_FIELDS) - set(offered) == {
        name for name, one in STANDARD_FIELDS.items() if not one["editable"]
    }


# --- a target that fails -------------------------------------------------------------------------


def test_a_refused_record_does_not_stop_the_others(world, target, oomnitza_sandbox):
    oomnitza_sandbox.set_fault("unknown_field", times=1, after=1, status=404)
    world.land(users(3))
    world.push(ready(), target)
    assert statuses(world) == ["added", "rejected", "added"]
    outcome = world.outcomes()[1]
    assert (outcome["code"], outcome["reason"]) == ("404", "Field aha_user_id does not exist")


def test_success_with_errors_inside_is_a_rejection(world, target, oomnitza_sandbox):
    oomnitza_sandbox.set_fault("errors_inside", times=1, reason="Role is not allowed")
    world.land(users(2))
    world.push(ready(), target)
    assert statuses(world) == ["rejected", "added"]
    assert world.outcomes()[0]["reason"] == "Role is not allowed"


def test_a_value_that_oomnitza_drops_is_a_rejection(world, serve, reply, connect):
    def answer(seen):
        if seen.method == "GET":
            return reply(body=[])
        return reply(body={"username": "ada0@example.com", "full_name": "somebody else"})

    world.land(users(1))
    world.push(ready(), OomnitzaPeople(connect(serve(answer).url)))
    outcome = world.outcomes()[0]
    assert (outcome["status"], outcome["field"]) == ("rejected", "full_name")
    assert outcome["reason"] == "Oomnitza took the record, but not the value of full_name"


def test_what_is_rejected_is_tried_again_in_the_next_run(world, target, client, oomnitza_sandbox):
    oomnitza_sandbox.set_fault("errors_inside", times=1)
    world.land(users(2))
    world.push(ready(), target)
    assert world.push(ready(), OomnitzaPeople(client), run_id="r2")["counts"] == {"added": 1, "unchanged": 1}


def test_an_instance_that_dies_after_half_leaves_what_it_took_on_record(world, connect, oomnitza_sandbox):
    world.land(users(40))
    # Two reads, then 30 people.
    oomnitza_sandbox.set_fault("dies", after=32)
    with pytest.raises(AhaConnectionError):
        world.push(ready(), OomnitzaPeople(connect(oomnitza_sandbox, max_retries=0)))
    assert statuses(world) == ["added"] * 30 + ["failed"] * 10
    assert world.outcomes()[30]["reason"] == "not sent: the push was broken off before"

    oomnitza_sandbox.clear_faults()
    oomnitza_sandbox.forget_requests()
    world.push(ready(), OomnitzaPeople(connect(oomnitza_sandbox)), try_number=2)
    assert statuses(world) == ["added"] * 40
    assert writes(oomnitza_sandbox) == ["POST"] * 10


def test_a_record_on_which_oomnitza_fails_does_not_stop_the_others(world, connect, oomnitza_sandbox):
    world.land(users(5))
    oomnitza_sandbox.set_fault("fails_on", text="ada1@")
    summary = world.push(ready(), OomnitzaPeople(connect(oomnitza_sandbox, max_retries=0)))
    assert statuses(world) == ["added", "failed", "added", "added", "added"]
    outcome = world.outcomes()[1]
    assert outcome["code"] == "500"
    assert outcome["reason"] == "Oomnitza failed (500, tried 1 times), so it isn't known whether it was taken"
    assert summary["ended"] == "completed"
    assert summary["warnings"] == [
        "The target failed on 1 records, however often they were tried. They are sent again in the next run."
    ]


def test_a_record_on_which_oomnitza_failed_is_sent_again(world, connect, oomnitza_sandbox):
    world.land(users(5))
    oomnitza_sandbox.set_fault("fails_on", text="ada1@")
    world.push(ready(), OomnitzaPeople(connect(oomnitza_sandbox, max_retries=0)))
    oomnitza_sandbox.clear_faults()
    oomnitza_sandbox.forget_requests()
    world.push(ready(), OomnitzaPeople(connect(oomnitza_sandbox)), try_number=2)
    assert statuses(world) == ["added"] * 5
    assert writes(oomnitza_sandbox) == ["POST"]


def test_a_record_that_was_taken_after_all_is_unchanged(world, connect, oomnitza_sandbox):
    world.land(users(5))
    oomnitza_sandbox.set_fault("answer_lost", method="POST", after=1, times=1)
    oomnitza_sandbox.set_fault("error", status=500, method="GET", path="/users/ada1@example.com")
    world.push(ready(), OomnitzaPeople(connect(oomnitza_sandbox, max_retries=1)))
    assert statuses(world) == ["added", "failed", "added", "added", "added"]
    oomnitza_sandbox.clear_faults()
    oomnitza_sandbox.forget_requests()
    world.push(ready(), OomnitzaPeople(connect(oomnitza_sandbox)), try_number=2)
    assert statuses(world) == ["added", "unchanged", "added", "added", "added"]
    assert writes(oomnitza_sandbox) == []


def test_an_instance_that_fails_on_record_after_record_stops_the_push(world, connect, oomnitza_sandbox):
    world.land(users(40))
    oomnitza_sandbox.set_fault("error", status=500, method="POST", after=2)
    with pytest.raises(AhaTargetError, match="failed on 5 records in a row") as caught:
        world.push(ready(), OomnitzaPeople(connect(oomnitza_sandbox, max_retries=0)))
    assert not isinstance(caught.value, AhaRejectedError)
    assert statuses(world) == ["added"] * 2 + ["failed"] * 38
    assert writes(oomnitza_sandbox) == ["POST"] * 7


@pytest.mark.parametrize(("status", "kind"), [(401, AhaAuthenticationError), (403, AhaPermissionError)])
def test_a_refused_token_stops_the_push(world, connect, oomnitza_sandbox, status, kind):
    world.land(users(10))
    oomnitza_sandbox.set_fault("error", status=status, method="POST", after=3)
    with pytest.raises(kind):
        world.push(ready(), OomnitzaPeople(connect(oomnitza_sandbox)))
    assert statuses(world) == ["added"] * 3 + ["failed"] * 7


def test_a_token_that_may_only_read_changes_nothing(world, connect, oomnitza_sandbox):
    world.land(users(2))
    with pytest.raises(AhaPermissionError):
        world.push(ready(), OomnitzaPeople(connect(oomnitza_sandbox, api_key=OomnitzaSandbox.read_only_token)))
    assert statuses(world) == ["failed"] * 2


@pytest.mark.parametrize("fault", ["answer_lost", "truncated_json", "connection_reset", "rate_limit"])
def test_passing_faults_are_survived(world, target, oomnitza_sandbox, fault):
    oomnitza_sandbox.set_fault(fault, method="POST", times=3)
    world.land(users(10))
    assert world.push(ready(), target)["counts"] == {"added": 10}
    assert len(oomnitza_sandbox.instance.list_people()) == 13


HOSTILE = ["<b>x</b>", "=HYPERLINK(1)", 'O\'Brien "Q"', "Zoë 🦩", "null\x00byte", "{{ 7 * 7 }}", " blanks "]


def test_hostile_names_arrive_as_they_are(world, target, oomnitza_sandbox, people):
    world.land([user(number, name=name) for number, name in enumerate(HOSTILE)])
    world.push(ready(), target)
    assert [people(number)["full_name"] for number in range(len(HOSTILE))] == HOSTILE
