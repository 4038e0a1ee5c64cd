"""One odd record fails alone, never the run."""

import json
from typing import Any

import pytest

from airflow_provider_aha.access.operations import user_fields
from airflow_provider_aha.access.write import carry_out as writes
from airflow_provider_aha.access.write.carry_out import unfinished
from airflow_provider_aha.access.write.guards import Protection
from airflow_provider_aha.exceptions import AhaAuthenticationError, AhaCancelledError, AhaStorageError
from airflow_provider_aha.record.journal import UNANSWERED
from airflow_provider_aha.sandbox.exchange import Answer
from airflow_provider_aha.sandbox.fault_kinds import Call, Kind
from airflow_provider_aha.sandbox.faults import COMMON_OPTIONS, Fault

ODD = [
    ("administrator_roles", []),
    ("administrator_roles", ["administer_billing"]),
    ("administrator_roles", "all"),
    ("email", 7),
    ("email", ["a@b.c"]),
    ("enabled", "yes"),
    ("enabled", 1),
    ("administrator", {}),
    ("name", 7),
    ("updated_at", 0),
    ("accessed_at", {}),
    ("paid_seat", "maybe"),
]


def spoil(world: Any, user_id: str, **fields: Any) -> None:
    """Let Aha! show a user with other fields than it should, in lists and alone, to reads."""

    def change(call: Call) -> Answer | None:
        data = call.answer.data()
        if "users" in data:
            users = [user | fields if user["id"] == user_id else user for user in data["users"]]
            return call.answer.with_data(data | {"users": users})
        # A single read is wrapped.
        user = data.get("user", data)
        return call.answer.with_data(data | {"user": user | fields} if "user" in data else user | fields)

    path = f"/users(/{user_id})?"
    world.server.app.faults._active.append(
        Fault(Kind("odd", "", path, ("GET",), after=change), dict(COMMON_OPTIONS))
    )


@pytest.mark.parametrize(("name", "value"), ODD)
def test_a_record_that_cannot_be_read_fails_alone(world: Any, name: str, value: Any) -> None:
    ids = world.people[:3]
    spoil(world, ids[1], **{name: value})
    rows = world.carry_out(world.decide(ids))
    assert [rows[one]["outcome"] for one in ids] == ["changed", "failed", "changed"]
    assert name in rows[ids[1]]["reason"]
    assert world.is_enabled(ids[1])
    assert unfinished(rows.values()) == [ids[1]]


def test_an_email_that_is_null_fails_alone(world: Any) -> None:
    """Whether it is the same person can't be said."""
    ids = world.people[:3]
    decision = world.decide(ids)
    spoil(world, ids[1], email=None)
    rows = world.carry_out(decision)
    assert [rows[one]["outcome"] for one in ids] == ["changed", "blocked", "changed"]
    assert rows[ids[1]]["reason"].endswith(": another email")
    assert world.is_enabled(ids[1])


@pytest.mark.parametrize(("name", "value"), ODD)
def test_an_odd_record_of_somebody_else_holds_nobody_up(world: Any, name: str, value: Any) -> None:
    spoil(world, world.people[5], **{name: value})
    assert set(world.outcomes(world.decide(world.people[:2])).values()) == {"changed"}


def test_an_administrator_who_cannot_be_read_stays_for_nobody_and_the_next_try_asks_again(world: Any) -> None:
    owner, second, _ = world.administrators
    decision = world.decide([second, world.people[0]])
    spoil(world, owner, administrator_roles="all")
    rows = world.carry_out(decision, protection=Protection("999"))
    assert (rows[second]["outcome"], rows[world.people[0]]["outcome"]) == ("failed", "changed")
    assert rows[second]["reason"].endswith(f"user {owner} can't be read")
    world.server.clear_faults()
    assert world.outcomes(decision, try_number=2, protection=Protection("999"))[second] == "changed"


def test_a_target_that_cannot_be_read_counts_as_losing_every_right_and_the_others_are_done(world: Any) -> None:
    """It is looked at before the first write, with all who may be administrators."""
    second, billing = world.administrators[1:]
    decision = world.decide([second, billing])
    spoil(world, second, administrator_roles="all")
    outcomes = world.outcomes(decision, protection=Protection("999"))
    assert outcomes == {second: "failed", billing: "changed"}


@pytest.mark.parametrize("where", ["_note", "is_administrator", "_shown"])
def test_whatever_goes_wrong_with_one_user_is_that_users_failure(world: Any, monkeypatch: Any, where: str) -> None:
    ids = world.people[:3]
    decision = world.decide(ids)
    original = getattr(writes, where)

    def breaks(*arguments: Any) -> Any:
        if ids[1] in json.dumps([str(one) for one in arguments]):
            raise AttributeError("Ann Smith <ann@example.com> has no values")
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(writes, where, breaks)
        rows = world.carry_out(decision)
    assert [rows[one]["outcome"] for one in (ids[0], ids[2])] == ["changed"] * 2
    assert rows[ids[1]]["outcome"] == "failed"
    assert "could not be handled (AttributeError in test_odd_records.py" in rows[ids[1]]["reason"]
    assert "Ann" not in rows[ids[1]]["reason"]
    assert world.outcomes(decision, try_number=2) == dict.fromkeys(ids, "changed")


def test_what_goes_wrong_after_the_request_is_no_sign_that_nothing_was_done(world: Any, monkeypatch: Any) -> None:
    user_id = world.people[0]
    decision = world.decide([user_id])
    calls: list[int] = []

    compare = user_fields.compare

    def breaks(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise TypeError
        return compare(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(user_fields, "compare", breaks)
        row = world.carry_out(decision)[user_id]
    assert (row["outcome"], row["proof"], world.is_enabled(user_id)) == ("failed", UNANSWERED, False)
    assert world.outcomes(decision, try_number=2) == {user_id: "changed_after_crash"}


@pytest.mark.parametrize("kind", [AhaAuthenticationError, AhaCancelledError, AhaStorageError, KeyboardInterrupt])
def test_a_refused_key_a_cancelled_task_or_a_full_disk_ends_the_run(
    world: Any, monkeypatch: Any, kind: Any
) -> None:
    decision = world.decide(world.people[:3])

    def ends(*_: object) -> None:
        raise kind("the end")

    monkeypatch.setattr(writes, "_note", ends)
    with pytest.raises(kind):
        world.carry_out(decision)
    assert world.puts == []
