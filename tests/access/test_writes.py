"""Carrying out a decision against a real server: what is sent, what is left alone, and what is recorded."""

import json
import signal
import threading
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from airflow_provider_aha.access.decide.named import undo
from airflow_provider_aha.access.operations.base import PRIVILEGED, Compared
from airflow_provider_aha.access.operations.user_fields import LAST_RIGHTS, compare, may_have_disabled
from airflow_provider_aha.access.write import carry_out as writes
from airflow_provider_aha.access.write.carry_out import summary, unfinished
from airflow_provider_aha.access.write.guards import Caps, Protection
from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.exceptions import (
    AhaAmbiguousUserError,
    AhaAuthenticationError,
    AhaCancelledError,
    AhaError,
    AhaGuardError,
    AhaStorageError,
)
from airflow_provider_aha.lists.matching import Entry, UserMatcher
from airflow_provider_aha.record import run as records
from airflow_provider_aha.record.evidence import FILE, read_evidence
from airflow_provider_aha.record.journal import ACKNOWLEDGED, AFTER_CRASH, PROVEN, UNANSWERED, Journal
from airflow_provider_aha.record.register import register
from tests.access.conftest import ImpatientClock
from tests.raw import raw

PLAN = {"plan_sha256": "ab" * 32}
HOUR = timedelta(hours=1)
BILLING_ONLY = {
    "administer_account": False,
    "administer_billing": True,
    "administer_configuration": False,
}


def api(world: Any, user_id: str, **changes: Any) -> None:
    """Change a user as somebody else would, through the API."""
    requests.put(
        f"{world.server.url}/api/v1/users/{user_id}",
        json={"user": changes},
        headers={"Authorization": f"Bearer {world.server.key}"},
        timeout=10,
    ).raise_for_status()
    world.server.forget_requests()


def cancelled(*_: object) -> None:
    """Be cut off in the middle of a request."""
    raise AhaCancelledError("cancelled")


# --- the write -----------------------------------------------------------------------------------


def test_users_are_disabled_each_by_one_request_that_says_only_that(anywhere) -> None:
    ids = anywhere.people[:5]
    rows = anywhere.carry_out(anywhere.decide(ids))
    assert {key: row["outcome"] for key, row in rows.items()} == dict.fromkeys(ids, "changed")
    assert sorted(anywhere.puts) == sorted((one, {"user": {"enabled": False}}) for one in ids)
    assert not any(anywhere.is_enabled(one) for one in ids)
    assert {row["verified_by"] for row in rows.values()} == {"answer"}
    assert unfinished(rows.values()) == []


def test_a_dry_run_reads_and_judges_but_sends_nothing(world) -> None:
    ids = world.people[:3]
    rows = world.carry_out(world.decide([*ids, world.owner]), dry_run=True)
    assert [rows[one]["outcome"] for one in ids] == ["dry_run"] * 3
    assert rows[world.owner]["outcome"] == "blocked"
    assert world.puts == []


def test_each_user_is_read_again_before_the_request(world) -> None:
    decision = world.decide(world.people[:2])
    world.server.forget_requests()
    world.carry_out(decision)
    for user_id in world.people[:2]:
        methods = [one.method for one in world.server.requests if one.path.endswith(user_id)]
        assert methods == ["GET", "PUT"]


def test_an_intent_is_durable_before_each_request_and_an_outcome_after_it(world, monkeypatch) -> None:
    seen: list[tuple[str, int, int]] = []
    update = AhaClient.update_user

    def look(client: AhaClient, user_id: str, *arguments: Any) -> Any:
        events = raw(world.location).find(f"{world.folder().path}/events/u{user_id}.account")
        seen.append((user_id, sum("intent" in one for one in events), sum("outcome" in one for one in events)))
        return update(client, user_id, *arguments)

    monkeypatch.setattr(AhaClient, "update_user", look)
    ids = world.people[:4]
    world.carry_out(world.decide(ids))
    assert sorted(seen) == sorted((one, 1, 0) for one in ids)
    events = [one for one in raw(world.location).find(f"{world.folder().path}/events") if "outcome" in one]
    assert len(events) == 4


def test_no_request_without_a_durable_intent(world, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise AhaStorageError("no space")

    monkeypatch.setattr(Journal, "intent", full)
    with pytest.raises(AhaStorageError):
        world.carry_out(world.decide(world.people[:3]))
    assert world.puts == []


def test_an_outcome_that_cannot_be_written_ends_the_try_and_leaves_the_intent_open(world, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise AhaStorageError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "outcome", full)
        with pytest.raises(AhaStorageError):
            world.carry_out(world.decide(world.people[:1]))
    assert world.outcomes(world.decide(world.people[:1]), try_number=2) == {world.people[0]: "changed_after_crash"}
    assert len(world.puts) == 1


def test_somebody_who_is_disabled_already_is_unchanged(world) -> None:
    user_id = world.people[0]
    api(world, user_id, enabled=False)
    rows = world.carry_out(world.decide([user_id]))
    assert (rows[user_id]["outcome"], world.puts) == ("unchanged", [])


# --- whom an email means -------------------------------------------------------------------------

LOOK_ALIKES = [
    ("strasse@example.com", "straße@example.com"),
    ("STRASSE@EXAMPLE.COM", "straße@example.com"),
    ("fil@example.com", "\N{LATIN SMALL LIGATURE FI}l@example.com"),
    ("σ@example.com", "ς@example.com"),
]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("pair", LOOK_ALIKES)
def test_an_email_that_only_looks_like_a_users_names_nobody(world, pair, turned) -> None:
    asked, written = reversed(pair) if turned else pair
    world.server.account.edit_user(world.people[0], email=written)
    with pytest.raises(AhaAmbiguousUserError, match=f"id {world.people[0]}") as caught:
        world.decide([asked])
    assert "@" not in str(caught.value)


@pytest.mark.parametrize("pair", LOOK_ALIKES)
def test_two_users_who_look_alike_are_refused_however_they_are_named(world, pair) -> None:
    for user_id, email in zip(world.people, pair, strict=False):
        world.server.account.edit_user(user_id, email=email)
    for email in pair:
        with pytest.raises(AhaAmbiguousUserError, match="belongs to 2 users"):
            world.decide([email])


@pytest.mark.parametrize(
    ("asked", "written"),
    [("ANN@EXAMPLE.COM", "ann@example.com"), ("zo\u00eb@example.com", "Zoe\u0308@example.com")],
)
def test_case_and_the_way_an_accent_is_written_make_no_other_address(world, asked, written) -> None:
    world.server.account.edit_user(world.people[0], email=written)
    assert world.outcomes(world.decide([asked])) == {world.people[0]: "changed"}


def test_an_email_that_became_a_look_alike_since_the_plan_is_another_email(world) -> None:
    user_id = world.people[0]
    world.server.account.edit_user(user_id, email="straße@example.com")
    decision = world.decide([user_id], facts=PLAN, user_class="left")
    world.server.account.edit_user(user_id, email="strasse@example.com")
    row = world.carry_out(decision)[user_id]
    assert (row["outcome"], row["reason"]) == ("blocked", "changed since plan: another email")
    assert world.puts == []


def test_an_update_to_a_look_alike_is_a_change(world) -> None:
    user_id = world.people[0]
    world.server.account.edit_user(user_id, email="straße@example.com")
    decision = world.decide([user_id], {"email": "strasse@example.com"}, "update")
    assert world.outcomes(decision) == {user_id: "changed"}
    assert world.user(user_id)["email"] == "strasse@example.com"


# --- changed since the decision ------------------------------------------------------------------


def changed_cases() -> list[Any]:
    return [
        pytest.param({"email": "new@example.com"}, "another email", id="email"),
        pytest.param(
            {"administrator": True, "administrator_roles": {"administer_configuration": True}},
            "an administrator now",
            id="administrator",
        ),
        pytest.param({"paid_seat": False}, "no paid seat any more", id="seat"),
        pytest.param({"accessed_at": "2026-11-24T23:59:59.000Z"}, "seen since", id="seen"),
    ]


@pytest.mark.parametrize(("change", "reason"), changed_cases())
def test_an_unused_user_who_changed_since_the_plan_is_skipped(world, change, reason) -> None:
    user_id = world.people[0]
    world.server.account.edit_user(user_id, accessed_at="2026-01-01T00:00:00.000Z")
    decision = world.decide([user_id], facts=PLAN, user_class="unused")
    world.server.account.edit_user(user_id, **change)
    row = world.carry_out(decision)[user_id]
    assert (row["outcome"], row["reason"]) == ("skipped", f"changed since plan: {reason}")
    assert world.puts == []
    assert unfinished([row]) == []


@pytest.mark.parametrize("user_class", ["left", "named"])
@pytest.mark.parametrize(("change", "reason"), changed_cases()[2:])
def test_seats_and_activity_speak_for_the_unused_only(world, user_class, change, reason) -> None:
    user_id = world.people[0]
    decision = world.decide([user_id], facts=PLAN, user_class=user_class)
    world.server.account.edit_user(user_id, **change)
    assert world.outcomes(decision) == {user_id: "changed"}


@pytest.mark.parametrize(("user_class", "outcome"), [("left", "blocked"), ("named", "skipped")])
@pytest.mark.parametrize(("change", "reason"), changed_cases()[:2])
def test_another_email_or_right_stops_every_class(world, user_class, outcome, change, reason) -> None:
    user_id = world.people[0]
    decision = world.decide([user_id], facts=PLAN, user_class=user_class)
    world.server.account.edit_user(user_id, **change)
    row = world.carry_out(decision)[user_id]
    assert (row["outcome"], row["reason"]) == (outcome, f"changed since plan: {reason}")
    assert world.puts == []


def test_an_administrator_who_left_is_deactivated(world) -> None:
    user_id = world.administrators[1]
    assert world.outcomes(world.decide([user_id], user_class="left", facts=PLAN)) == {user_id: "changed"}


def test_an_email_in_other_case_is_the_same_email(world) -> None:
    user_id = world.people[0]
    decision = world.decide([user_id], email=world.user(user_id)["email"].upper(), facts=PLAN)
    assert world.outcomes(decision) == {user_id: "changed"}


def test_the_same_moment_written_otherwise_is_no_activity(world) -> None:
    user_id = world.people[0]
    world.server.account.edit_user(user_id, accessed_at="2026-01-01T00:00:00.000Z")
    decision = world.decide([user_id], facts=PLAN, user_class="unused", accessed_at="2026-01-01T01:00:00+01:00")
    assert world.outcomes(decision) == {user_id: "changed"}


def test_a_never_seen_user_who_was_seen_since_is_skipped(world) -> None:
    user_id = world.people[0]
    decision = world.decide([user_id], facts=PLAN, user_class="unused", accessed_at=None)
    assert world.outcomes(decision) == {user_id: "skipped"}


def test_somebody_who_left_and_was_seen_after_that_is_disabled_and_it_is_said(world) -> None:
    user_id = world.people[0]
    world.server.account.edit_user(user_id, accessed_at="2026-11-20T12:00:00.000Z")
    left_at = (datetime.now(UTC) - 30 * HOUR).replace(year=2026, month=11, day=19).isoformat()
    row = world.carry_out(world.decide([user_id], user_class="left", left_at=left_at))[user_id]
    assert (row["outcome"], row["reason"]) == ("changed", "seen after the leave date")


def test_the_hours_since_the_last_day_are_reported(world) -> None:
    user_id, other = world.people[:2]
    left_at = (datetime.now(UTC) - 30 * HOUR).isoformat()
    assert world.carry_out(world.decide([user_id], left_at=left_at))[user_id]["hours_to_disable"] == pytest.approx(
        30, abs=0.1
    )
    row = world.carry_out(world.decide([other], leave_date="2026-01-01"), "r2")[other]
    assert (row["outcome"], row["hours_to_disable"]) == ("changed", None)


# --- guards for one user -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user_class", "outcome"), [("unused", "skipped"), ("left", "blocked"), ("named", "blocked")]
)
def test_a_protected_user_is_skipped_or_blocked_by_class(world, user_class, outcome) -> None:
    user_id, other = world.people[:2]
    protection = Protection(world.owner, UserMatcher(ids=[user_id]))
    decision = world.decide([user_id, other], user_class=user_class, facts=PLAN)
    rows = world.carry_out(decision, protection=protection)
    assert (rows[user_id]["outcome"], rows[user_id]["reason"]) == (outcome, "protected id")
    assert rows[other]["outcome"] == "changed"
    assert unfinished(rows.values()) == ([user_id] if outcome == "blocked" else [])


def excluding(user_id: str) -> UserMatcher:
    return UserMatcher.of([Entry("id", user_id, "row 2 of the exclusion file", "exclusion file row 2")])


@pytest.mark.parametrize(
    ("user_class", "facts", "outcome", "reason"),
    [
        ("unused", PLAN, "skipped", "changed since plan: exclusion file row 2"),
        ("named", PLAN, "skipped", "changed since plan: exclusion file row 2"),
        ("left", PLAN, "blocked", "changed since plan: exclusion file row 2"),
        ("named", {}, "blocked", "exclusion file row 2"),
    ],
)
def test_a_new_exclusion_stops_the_write(world, user_class, facts, outcome, reason) -> None:
    user_id = world.people[0]
    protection = Protection(world.owner, excluded=excluding(user_id))
    row = world.carry_out(world.decide([user_id], user_class=user_class, facts=facts), protection=protection)[
        user_id
    ]
    assert (row["outcome"], row["reason"]) == (outcome, reason)
    assert world.puts == []


def test_an_exclusion_does_not_keep_access_from_being_given_back(world) -> None:
    user_id = world.people[0]
    api(world, user_id, enabled=False)
    protection = Protection(world.owner, excluded=excluding(user_id))
    decision = world.decide([user_id], {"enabled": True}, "reactivate")
    assert world.outcomes(decision, protection=protection) == {user_id: "changed"}


def test_the_owner_of_the_key_is_never_disabled(world) -> None:
    row = world.carry_out(world.decide([world.owner]))[world.owner]
    assert (row["outcome"], row["reason"]) == ("blocked", "owner of the API key")


@pytest.mark.parametrize("user_class", ["left", "named"])
def test_the_last_administrator_for_account_stays(world, user_class) -> None:
    owner, second, billing = world.administrators
    world.server.account.edit_user(owner, administrator_roles=BILLING_ONLY)
    rows = world.carry_out(
        world.decide([second, world.people[0]], user_class=user_class), protection=Protection("999")
    )
    assert rows[second]["outcome"] == "blocked"
    assert rows[second]["reason"] == "last enabled administrator for account"
    assert rows[world.people[0]]["outcome"] == "changed"
    assert world.outcomes(world.decide([billing]), "r2", protection=Protection("999")) == {billing: "changed"}


def test_remaining_administrators_are_read_again_before_the_first_write(world) -> None:
    owner, second, _ = world.administrators
    decision = world.decide([second])
    world.server.account.edit_user(owner, administrator_roles=BILLING_ONLY)
    world.server.forget_requests()
    assert world.outcomes(decision, protection=Protection("999")) == {second: "blocked"}
    gets = [one.path.rpartition("/")[2] for one in world.server.requests if one.method == "GET"]
    assert owner in gets


def test_two_tasks_at_once_cannot_take_the_last_two_administrators(world) -> None:
    owner, second, _ = world.administrators
    register(world.folder("r1", "t[1]"), world.now, [owner], "taken")
    assert world.outcomes(world.decide([second]), protection=Protection("999")) == {second: "blocked"}


def test_an_administrator_who_is_gone_in_aha_counts_for_nobody(world) -> None:
    second = world.administrators[1]
    decision = replace(world.decide([second]), holders=dict.fromkeys(LAST_RIGHTS, ("123", second)))
    assert world.outcomes(decision) == {second: "blocked"}


def test_an_unknown_id_is_recorded_and_the_others_are_done(world) -> None:
    user_id = world.people[0]
    rows = world.carry_out(world.decide(["123", user_id]))
    assert (rows["123"]["outcome"], rows["123"]["reason"]) == ("blocked", "Aha! has no such user")
    assert rows[user_id]["outcome"] == "changed"


@pytest.mark.parametrize(
    "key", ["email", "enabled", "administrator", "administrator_roles", "accessed_at", "paid_seat"]
)
def test_what_aha_does_not_show_cannot_be_judged(world, key) -> None:
    user_id = world.people[0]
    decision = world.decide([user_id], facts=PLAN, user_class="unused")
    world.server.set_fault("missing_key", key=key, user=user_id, method="GET")
    row = world.carry_out(decision)[user_id]
    assert row["outcome"] == "skipped"
    assert f"doesn't show {key}" in row["reason"]
    assert world.puts == []


# --- caps ----------------------------------------------------------------------------------------


def test_over_a_cap_nothing_is_done(world) -> None:
    with pytest.raises(AhaGuardError, match="20 % of 56 enabled users"):
        world.carry_out(world.decide(world.people[:12]))
    assert world.puts == []
    assert raw(world.location).find(f"{world.folder().path}/events") == []


def test_what_was_done_within_seven_days_counts(world) -> None:
    world.carry_out(world.decide(world.people[:6]))
    with pytest.raises(AhaGuardError, match="after 6 within the last seven days"):
        world.carry_out(world.decide(world.people[6:12]), "r2", now=world.now + timedelta(days=7, minutes=-1))
    world.carry_out(world.decide(world.people[6:12]), "r3", now=world.now + timedelta(days=7, minutes=1))


@pytest.mark.parametrize("classes", [("unused", "left"), ("left", "unused")])
def test_reclaimed_seats_hold_up_nobody_who_left_nor_the_other_way_round(world, classes) -> None:
    used_up, other = classes
    facts = {"accessed_at": "2099-01-01T00:00:00Z"}
    world.carry_out(world.decide(world.people[:11], user_class=used_up, **facts))
    decision = world.decide(world.people[11:13], user_class=other, **facts)
    assert set(world.outcomes(decision, "r2").values()) == {"changed"}
    with pytest.raises(AhaGuardError, match="after 11 within"):
        world.carry_out(world.decide(world.people[13:14], user_class=used_up, **facts), "r3")


def test_who_is_changed_again_counts_once(world) -> None:
    world.carry_out(world.decide(world.people[:6]))
    for user_id in world.people[:6]:
        world.server.account.edit_user(user_id, enabled=True)
    assert set(world.outcomes(world.decide(world.people[:11]), "r2").values()) == {"changed"}


def test_updates_that_take_access_count_and_renames_do_not(world) -> None:
    for number, user_id in enumerate(world.people[:6]):
        world.carry_out(world.decide([user_id], {"enabled": False}, "update"), f"off{number}")
    for number in range(12):
        world.carry_out(world.decide([world.people[0]], {"first_name": "Zoe"}, "update"), f"name{number}")
    with pytest.raises(AhaGuardError, match="after 6 within"):
        world.carry_out(world.decide(world.people[6:12]), "r2")


def test_a_run_that_a_cap_refused_takes_nobody_elses_room(world) -> None:
    with pytest.raises(AhaGuardError):
        world.carry_out(world.decide(world.people[:12]))
    assert len(world.outcomes(world.decide(world.people[:11]), "r2")) == 11


def test_tasks_that_begin_at_once_share_the_caps(world, monkeypatch) -> None:
    """Both are entered before either looks; together they would exceed what each may do."""
    ids = world.people
    decisions = [world.decide(ids[:8]), world.decide(ids[8:16])]
    together = threading.Barrier(2)
    begin = writes._begin

    def wait_for_the_other(*arguments: Any, **options: Any) -> None:
        together.wait()
        begin(*arguments, **options)

    monkeypatch.setattr(writes, "_begin", wait_for_the_other)
    done: list[str] = []

    def run(number: int) -> None:
        try:
            world.carry_out(decisions[number], task_id=f"t[{number}]")
            done.append("done")
        except AhaGuardError:
            done.append("refused")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "refused" in done
    assert len(world.puts) <= 8


def test_a_larger_plan_passes_by_its_hash(world) -> None:
    ids = world.people[:15]
    caps = Caps(approved_plan_sha256=PLAN["plan_sha256"])
    assert len(world.outcomes(world.decide(ids, facts=PLAN), caps=caps)) == 15


def test_reactivation_has_the_same_caps_measured_by_what_there_is_afterwards(world) -> None:
    ids = world.people[:11]
    world.carry_out(world.decide(ids))
    decision = world.decide(ids, {"enabled": True}, "reactivate")
    assert set(world.outcomes(decision, "undo").values()) == {"changed"}
    with pytest.raises(AhaGuardError, match="after 11 within"):
        world.carry_out(world.decide([world.people[12]], {"enabled": True}, "reactivate"), "more")


# --- retries -------------------------------------------------------------------------------------


def test_only_failed_is_tried_again(world) -> None:
    failing, protected, unchanged, fine = world.people[:4]
    api(world, unchanged, enabled=False)
    protection = Protection(world.owner, UserMatcher(ids=[protected]))
    decision = world.decide([failing, protected, unchanged, fine])
    world.server.set_fault("error", status=422, method="PUT", path=f"/users/{failing}")
    first = world.outcomes(decision, protection=protection)
    assert first == {failing: "failed", protected: "blocked", unchanged: "unchanged", fine: "changed"}
    world.server.clear_faults()
    world.server.forget_requests()
    second = world.outcomes(decision, try_number=2, protection=Protection(world.owner))
    assert second == {failing: "changed", protected: "blocked", unchanged: "unchanged", fine: "changed"}
    touched = {one.path.rpartition("/")[2] for one in world.server.requests}
    assert touched == {failing}


def test_a_finished_task_that_is_cleared_sends_nothing(world) -> None:
    decision = world.decide(world.people[:3])
    world.carry_out(decision)
    for user_id in world.people[:3]:
        api(world, user_id, enabled=True)
    assert set(world.outcomes(decision, try_number=2).values()) == {"changed"}
    assert world.puts == []


def test_caps_are_fixed_in_the_first_try(world) -> None:
    decision = world.decide(world.people[:8])
    world.server.set_fault("error", status=422, method="PUT")
    world.carry_out(decision)
    world.server.clear_faults()
    world.server.forget_requests()
    smaller = replace(decision, enabled_users=1)
    assert set(world.outcomes(smaller, try_number=2, caps=Caps(max_users=1)).values()) == {"changed"}
    start = world.folder().read("start.json")
    assert start is not None
    assert (start["enabled_users"], start["caps"]["max_users"], len(start["keys"])) == (56, 25, 8)


@pytest.mark.parametrize("other", ["users", "action", "dry_run"])
def test_a_further_try_is_held_to_what_the_first_one_began(world, other) -> None:
    world.carry_out(world.decide(world.people[:2]))
    decision, options = world.decide(world.people[:2]), {}
    if other == "users":
        decision = world.decide(world.people[:3])
    elif other == "action":
        decision = replace(decision, action="reactivate")
    else:
        options["dry_run"] = True
    world.server.forget_requests()
    with pytest.raises(AhaGuardError, match="Start a new DAG run"):
        world.carry_out(decision, try_number=2, **options)
    assert world.server.requests == []


def test_two_workers_that_begin_one_task_do_not_both_go_on(world, monkeypatch) -> None:
    decision = world.decide(world.people[:1])
    monkeypatch.setattr(records.RunFolder, "create", lambda *_: False)
    with pytest.raises(AhaError, match="Another worker"):
        world.carry_out(decision)
    assert world.puts == []


# --- answers -------------------------------------------------------------------------------------


def test_the_evidence_names_the_request_so_that_support_finds_it(world) -> None:
    """A client's own retry of one intent counts once: what is named is the answer that decided."""
    ids = world.people[:3]
    world.server.set_fault("error", status=503, method="PUT", times=1, path=f"/users/{ids[0]}")
    world.server.set_fault("error", status=422, method="PUT", path=f"/users/{ids[2]}")
    rows = world.carry_out(world.decide(ids))
    assert [rows[one]["http_status"] for one in ids] == [200, 200, 422]
    assert len({rows[one]["request_id"] for one in ids}) == 3
    assert all(rows[one]["request_id"].startswith("request-") for one in ids)


def test_who_needed_no_request_has_none_in_the_evidence(world) -> None:
    user_id = world.people[0]
    api(world, user_id, enabled=False)
    row = world.carry_out(world.decide([user_id]))[user_id]
    assert (row["outcome"], row["http_status"], row["request_id"]) == ("unchanged", None, None)


def test_success_is_what_the_answer_says_not_its_status(world) -> None:
    user_id = world.people[0]
    world.server.set_fault("update_ignored")
    row = world.carry_out(world.decide([user_id]))[user_id]
    assert (row["outcome"], row["proof"], row["http_status"]) == ("unverified", ACKNOWLEDGED, 200)
    assert row["reason"].startswith("Aha! answered 200, but shows enabled otherwise; 3 reads after that")
    assert unfinished([row]) == [user_id]


def test_what_aha_acknowledged_and_a_later_try_finds_done_is_this_runs_doing(world) -> None:
    """The case from the field: it ended as unchanged, the caps counted nobody, and no undo gave it back."""
    user_id = world.people[0]
    world.server.set_fault("update_ignored")
    decision = world.decide([user_id])
    assert world.outcomes(decision) == {user_id: "unverified"}
    world.server.clear_faults()
    world.server.account.edit_user(user_id, enabled=False)
    row = world.carry_out(decision, try_number=2)[user_id]
    assert (row["outcome"], row["proof"], row["verified_by"]) == ("changed", PROVEN, "read")
    assert json.loads(row["before_json"])["enabled"] is True


def test_what_the_answer_does_not_show_is_read_again_at_the_end_of_the_try(world) -> None:
    ids = world.people[:3]
    world.server.set_fault("missing_key", key="enabled", method="PUT", user=ids[1])
    decision = world.decide(ids)
    world.server.forget_requests()
    row = world.carry_out(decision)[ids[1]]
    assert (row["outcome"], row["proof"], row["verified_by"]) == ("changed", PROVEN, "read")
    methods = [(one.method, one.path.rpartition("/")[2]) for one in world.server.requests]
    assert methods[-1] == ("GET", ids[1])
    assert len(methods) == 2 * len(ids) + 1


def test_what_no_read_shows_stays_unverified_and_fails_the_task(world) -> None:
    """Three reads, after 2, 5 and 15 seconds of the client's clock, for all such users together."""
    ids = world.people[:2]
    world.server.set_fault("update_ignored")
    decision = world.decide(ids)
    waited: list[float] = []
    sleep = ImpatientClock.sleep

    def count(clock: ImpatientClock, seconds: float, *arguments: Any) -> None:
        waited.append(seconds)
        sleep(clock, seconds, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImpatientClock, "sleep", count)
        world.server.forget_requests()
        rows = world.carry_out(decision)
    assert {row["outcome"] for row in rows.values()} == {"unverified"}
    assert [seconds for seconds in waited if seconds >= 2] == [2, 5, 15]
    reads = [one.path.rpartition("/")[2] for one in world.server.requests if one.method == "GET"]
    assert sorted(reads) == sorted(ids * 4)
    assert unfinished(rows.values()) == ids


def test_a_user_whose_change_is_ignored_holds_no_other_run_up(world) -> None:
    world.server.set_fault("update_ignored")
    world.carry_out(world.decide(world.people[:1]))
    world.server.clear_faults()
    assert world.outcomes(world.decide(world.people[1:2]), "r2") == {world.people[1]: "changed"}


def test_a_stale_read_does_not_hide_a_success(world) -> None:
    user_id = world.people[0]
    world.server.set_fault("stale_read")
    assert world.outcomes(world.decide([user_id])) == {user_id: "changed"}


@pytest.mark.parametrize("fault", ["answer_lost", "truncated_body", "truncated_json"])
def test_after_a_lost_answer_the_next_try_tells_that_the_user_is_disabled(world, fault) -> None:
    user_id = world.people[0]
    world.server.set_fault(fault, method="PUT")
    decision = world.decide([user_id])
    row = world.carry_out(decision)[user_id]
    assert (row["outcome"], row["proof"], unfinished([row])) == ("failed", UNANSWERED, [user_id])
    world.server.clear_faults()
    world.server.forget_requests()
    row = world.carry_out(decision, try_number=2)[user_id]
    assert (row["outcome"], row["proof"], row["verified_by"]) == ("changed_after_crash", AFTER_CRASH, "read")
    assert (unfinished([row]), world.puts) == ([], [])
    assert set(world.outcomes(undo(world.client, [row], facts={}), "undo").values()) == {"changed"}


def test_a_lost_answer_and_a_stale_read_are_settled_by_the_next_try(world) -> None:
    user_id = world.people[0]
    world.client = AhaClient(replace(world.client.config, max_retries=0))
    world.server.set_fault("answer_lost")
    world.server.set_fault("stale_read")
    first = world.carry_out(world.decide([user_id]))[user_id]
    assert first["outcome"] == "failed"
    world.server.clear_faults()
    world.server.forget_requests()
    row = world.carry_out(world.decide([user_id]), try_number=2)[user_id]
    world.client.close()
    assert row["outcome"] == "changed_after_crash"
    assert (row["event_id"], row["intent_at"]) == (first["event_id"], first["intent_at"])
    assert json.loads(row["before_json"])["enabled"] is True
    assert world.puts == []


def test_a_server_error_leaves_open_whether_the_request_arrived(world) -> None:
    """Also where it was the only attempt."""
    user_id = world.people[0]
    decision = world.decide([user_id])
    world.client = AhaClient(replace(world.client.config, max_retries=0))
    world.server.set_fault("error", status=503, method="PUT")
    assert world.outcomes(decision) == {user_id: "failed"}
    world.server.clear_faults()
    api(world, user_id, enabled=False)
    assert world.outcomes(decision, try_number=2) == {user_id: "changed_after_crash"}
    world.client.close()


STAMPS = {
    "the same as before the request": (None, False),
    "between the request and the last moment at which it could land": (timedelta(0), True),
    "later than the request could land": (HOUR, False),
    "hidden": ("hidden", False),
}


@pytest.mark.parametrize("lost", ["answer", "worker"])
@pytest.mark.parametrize("stamp", STAMPS)
def test_a_change_is_ours_only_where_ahas_own_stamp_says_so(world, monkeypatch, stamp, lost) -> None:
    """The request never arrived; a colleague disabled the user by hand, and an undo enabled it."""
    moved, ours = STAMPS[stamp]
    user_id = world.people[0]
    decision = world.decide([user_id])
    with monkeypatch.context() as patch:
        if lost == "worker":
            patch.setattr(AhaClient, "update_user", cancelled)
        else:
            world.server.set_fault("connection_reset", method="PUT")
        with suppress(AhaCancelledError):
            world.carry_out(decision)
    world.server.clear_faults()
    changes = {"updated_at": f"{datetime.now(UTC) + moved:%FT%T.%fZ}"} if isinstance(moved, timedelta) else {}
    world.server.account.edit_user(user_id, enabled=False, **changes)
    if moved == "hidden":
        world.server.set_fault("missing_key", key="updated_at")
    row = world.carry_out(decision, try_number=2)[user_id]
    word = "failed" if lost == "answer" else "unknown"
    assert row["outcome"] == ("changed_after_crash" if ours else word)
    assert row["proof"] == (AFTER_CRASH if ours else UNANSWERED)
    world.server.clear_faults()
    world.server.forget_requests()
    undone = world.carry_out(undo(world.client, [row], facts={}), "undo", now=world.now + 2 * HOUR)[user_id]
    assert world.is_enabled(user_id) is ours
    assert undone["outcome"] == ("changed" if ours else "blocked")
    assert ours or undone["reason"].startswith("nothing proves that the run changed the user")


def test_without_a_date_header_nobody_can_tell_whose_doing_it_was(world, monkeypatch) -> None:
    user_id = world.people[0]
    get_user = AhaClient.get_user

    def dateless(client: AhaClient, user_id: str, receipt: dict[str, Any] | None = None) -> Any:
        user = get_user(client, user_id, receipt)
        (receipt or {}).pop("date", None)
        return user

    monkeypatch.setattr(AhaClient, "get_user", dateless)
    world.server.set_fault("answer_lost")
    decision = world.decide([user_id])
    world.carry_out(decision)
    world.server.clear_faults()
    assert world.outcomes(decision, try_number=2) == {user_id: "failed"}


def test_a_lost_answer_stays_lost_while_nobody_can_look(world) -> None:
    user_id = world.people[0]
    decision = world.decide([user_id])
    world.server.set_fault("answer_lost")
    assert world.outcomes(decision) == {user_id: "failed"}
    world.server.clear_faults()
    world.server.set_fault("error", status=403, method="GET")
    row = world.carry_out(decision, try_number=2)[user_id]
    assert (row["outcome"], row["proof"]) == ("failed", UNANSWERED)
    assert "after that: failed" in row["reason"]
    world.server.clear_faults()
    assert world.outcomes(decision, try_number=3) == {user_id: "changed_after_crash"}


@pytest.mark.parametrize("key", ["enabled", "administrator", "administrator_roles"])
def test_a_null_where_null_means_nothing_stops_the_write(world, key) -> None:
    """Found by the chaos test: with `enabled` null before, and the answer lost, an undo left the user disabled."""
    user_id = world.people[0]
    decision = world.decide([user_id])
    world.server.set_fault("null_value", key=key, method="GET")
    row = world.carry_out(decision)[user_id]
    assert row["outcome"] == "blocked"
    assert f"Aha! doesn't show {key}" in row["reason"]
    assert world.puts == []


def test_an_answer_that_hides_what_became_of_the_user_is_settled_by_a_read(world) -> None:
    """Found by the chaos test: the next try said unchanged, and an undo left the user disabled."""
    user_id = world.people[0]
    decision = world.decide([user_id])
    world.server.set_fault("null_value", key="enabled", method="PUT")
    row = world.carry_out(decision)[user_id]
    assert (row["outcome"], row["verified_by"]) == ("changed", "read")


def test_who_may_be_an_administrator_is_counted_as_one(world) -> None:
    """A read that hides the rights once must not let the last administrator for billing go."""
    last = next(one for one in world.administrators if one != world.owner)
    for user_id in world.administrators:
        world.server.account.edit_user(user_id, administrator_roles=BILLING_ONLY if user_id == last else {})
    decision = world.decide([last])
    world.server.set_fault("null_value", key="administrator_roles", method="GET", times=1)
    assert world.outcomes(decision) == {last: "blocked"}
    assert world.puts == []


@pytest.mark.parametrize("status", [401, 403, 422])
def test_a_refusal_of_a_second_attempt_does_not_hide_that_the_first_one_arrived(world, status) -> None:
    """Found by the chaos test: the undo left out whom the first attempt had disabled."""
    user_id = world.people[0]
    decision = world.decide([user_id])
    world.server.set_fault("answer_lost", times=1)
    world.server.set_fault("error", status=status, method="PUT", after=1)
    world.server.set_fault("error", status=status, method="GET", after=1)
    with suppress(AhaAuthenticationError):
        world.carry_out(decision)
    assert not world.is_enabled(user_id)
    path = f"{world.folder().path}/{FILE}"
    (row,) = read_evidence(world.location.within(path))
    assert (row["outcome"], row["proof"], may_have_disabled(row)) == ("failed", UNANSWERED, True)
    world.server.clear_faults()
    assert world.outcomes(decision, try_number=2) == {user_id: "changed_after_crash"}


def test_a_refused_request_is_not_taken_for_ours_when_somebody_else_disables(world) -> None:
    user_id = world.people[0]
    world.server.set_fault("error", status=422, method="PUT")
    assert world.outcomes(world.decide([user_id])) == {user_id: "failed"}
    world.server.clear_faults()
    api(world, user_id, enabled=False)
    assert world.outcomes(world.decide([user_id]), try_number=2) == {user_id: "unchanged"}


@pytest.mark.parametrize("status", [403, 422])
def test_a_refusal_in_the_middle_is_recorded_and_the_others_are_done(world, status) -> None:
    ids = world.people[:5]
    world.server.set_fault("error", status=status, method="PUT", path=f"/users/{ids[2]}")
    rows = world.carry_out(world.decide(ids))
    assert (rows[ids[2]]["outcome"], rows[ids[2]]["http_status"]) == ("failed", status)
    assert str(status) in rows[ids[2]]["reason"]
    assert [rows[one]["outcome"] for one in ids if one != ids[2]] == ["changed"] * 4
    assert summary(list(rows.values())) == "4 changed, 1 failed"
    assert unfinished(rows.values()) == [ids[2]]


def test_a_failed_read_of_one_user_is_recorded_and_the_others_are_done(world) -> None:
    ids = world.people[:3]
    decision = world.decide(ids)
    world.server.set_fault("error", status=500, method="GET", path=f"/users/{ids[1]}")
    assert world.outcomes(decision) == {ids[0]: "changed", ids[1]: "failed", ids[2]: "changed"}


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_key_that_is_refused_in_the_middle_stops_the_rest_and_is_recorded(world, method) -> None:
    with AhaClient(replace(world.client.config, max_in_flight=1)) as world.client:
        ids = world.people[:6]
        decision = world.decide(ids)
        world.server.set_fault("key_revoked", method=method, after=2, path="/users/[0-9]+")
        with pytest.raises(AhaAuthenticationError):
            world.carry_out(decision)
    rows = read_evidence(world.location.within(f"{world.folder().path}/evidence.parquet"))
    outcomes = {row["user_id"]: (row["outcome"], row["http_status"]) for row in rows}
    assert outcomes == {ids[0]: ("changed", 200), ids[1]: ("changed", 200), ids[2]: ("failed", 401)}
    assert {one.path.rpartition("/")[2] for one in world.server.requests if one.method == "PUT"} <= set(ids[:3])


def test_a_cancelled_task_leaves_what_it_sent_open_and_the_next_try_settles_it(world, monkeypatch) -> None:
    user_id = world.people[0]
    update = AhaClient.update_user

    def done(client: AhaClient, *arguments: Any) -> None:
        update(client, *arguments)
        cancelled()

    with monkeypatch.context() as patch:
        patch.setattr(AhaClient, "update_user", done)
        with pytest.raises(AhaCancelledError):
            world.carry_out(world.decide([user_id]))
    rows = read_evidence(world.location.within(f"{world.folder().path}/evidence.parquet"))
    assert [row["outcome"] for row in rows] == ["unknown"]
    assert unfinished(rows) == [user_id]
    with pytest.raises(AhaError, match="Another run"):
        world.carry_out(world.decide([world.people[1]]), "r2")
    assert world.outcomes(world.decide([user_id]), try_number=2) == {user_id: "changed_after_crash"}
    assert len(world.puts) == 1


def test_a_cancelled_client_reads_nobody(world) -> None:
    decision = world.decide(world.people[:3])
    world.client.cancel()
    with pytest.raises(AhaCancelledError):
        world.carry_out(decision)
    assert world.puts == []


# --- a plan is carried out once ------------------------------------------------------------------


def test_a_plan_that_was_carried_out_is_refused_by_every_other_task(anywhere) -> None:
    decision = anywhere.decide(anywhere.people[:2], facts=PLAN)
    anywhere.carry_out(decision, dry_run=True, run_id="dry")
    anywhere.carry_out(decision)
    anywhere.server.forget_requests()
    with pytest.raises(AhaGuardError, match="carried out before"):
        anywhere.carry_out(decision, "r2")
    anywhere.carry_out(decision, try_number=2)
    assert anywhere.puts == []


# --- updates -------------------------------------------------------------------------------------


def test_a_name_cannot_be_verified(world) -> None:
    user_id = world.people[0]
    row = world.carry_out(world.decide([user_id], {"first_name": "Zoe"}, "update"))[user_id]
    assert (row["outcome"], row["reason"]) == ("unverified", "Aha! answered 200, but doesn't show first_name")
    assert world.user(user_id)["name"].startswith("Zoe ")
    assert unfinished([row]) == []


def test_a_name_that_nobody_can_see_is_not_sent_again_by_every_try(world) -> None:
    user_id = world.people[0]
    decision = world.decide([user_id], {"first_name": "Zoe"}, "update")
    world.carry_out(decision)
    world.server.forget_requests()
    row = world.carry_out(decision, try_number=2)[user_id]
    assert (row["outcome"], row["proof"], row["http_status"], world.puts) == ("unverified", ACKNOWLEDGED, 200, [])


def test_a_rename_by_id_reads_one_user_and_no_list(world) -> None:
    user_id = world.people[0]
    world.server.forget_requests()
    world.carry_out(world.decide([user_id], {"first_name": "Zoe"}, "update"))
    assert [(one.method, one.path.rpartition("/")[2]) for one in world.server.requests] == [
        ("GET", user_id),
        ("PUT", user_id),
    ]


def test_no_difference_no_call(world) -> None:
    user_id = world.administrators[2]
    user = world.user(user_id)
    changes = {
        "enabled": True,
        "email": user["email"].upper(),
        "administrator_roles": {"administer_billing": True, "administer_account": False},
    }
    assert world.outcomes(world.decide([user_id], changes, "update")) == {user_id: "unchanged"}
    assert world.puts == []


def test_one_right_is_taken_and_the_others_are_not_sent(world) -> None:
    user_id = world.administrators[1]
    changes = {"administrator_roles": {"administer_configuration": False}}
    assert world.outcomes(world.decide([user_id], changes, "update")) == {user_id: "changed"}
    assert world.puts == [(user_id, {"user": changes})]


def test_the_last_right_for_billing_cannot_be_taken_by_an_update(world) -> None:
    owner, second, billing = world.administrators
    changes = {"administrator_roles": {"administer_billing": False}}
    protection = Protection("999")
    decision = world.decide([owner, second, billing], changes, "update")
    assert set(world.outcomes(decision, protection=protection).values()) == {"blocked"}
    assert world.outcomes(world.decide([billing], changes, "update"), "r2") == {billing: "changed"}


@pytest.mark.parametrize("changes", [{"enabled": False}, {"email": "x@example.com"}, {"administrator": True}])
def test_guards_hold_for_updates_that_decide_over_access(world, changes) -> None:
    user_id = world.people[0]
    protection = Protection(world.owner, UserMatcher(ids=[user_id]))
    decision = world.decide([user_id], changes, "update")
    assert world.outcomes(decision, protection=protection) == {user_id: "blocked"}
    assert world.outcomes(
        world.decide([user_id], {"first_name": "Zoe"}, "update"), "r2", protection=protection
    ) == {user_id: "unverified"}


def test_what_is_wanted_is_compared_with_what_is_shown() -> None:
    user = {"email": "Ann@Example.com", "enabled": True, "administrator_roles": {"administer_billing": True}}
    assert compare({"email": " ann@example.com ", "enabled": True}, user).done
    wanted = {"enabled": False, "administrator_roles": {"administer_billing": False}}
    assert compare(wanted, user).wrong == {"enabled", "administrator_roles"}
    assert compare({"nickname": None, "enabled": True}, user) == Compared(hidden=frozenset({"nickname"}))
    assert compare({"administrator_roles": {"administer_account": False}}, user).hidden == {"administrator_roles"}
    assert compare({"enabled": False}, {"enabled": None}).hidden == {"enabled"}
    odds: list[Any] = ["false", "true", "", 0, 1, []]
    for odd in odds:
        assert compare({"enabled": False}, {"enabled": odd}).wrong == {"enabled"}


# --- undo ----------------------------------------------------------------------------------------


def test_an_undo_restores_exactly_those_that_the_run_disabled(anywhere) -> None:
    ids = anywhere.people[:4]
    api(anywhere, ids[0], enabled=False)
    rows = anywhere.carry_out(anywhere.decide(ids))
    assert rows[ids[0]]["outcome"] == "unchanged"
    decision = undo(anywhere.client, list(rows.values()), facts={"ticket": "T-1"})
    assert anywhere.outcomes(decision, "undo") == dict.fromkeys(ids[1:], "changed")
    assert not anywhere.is_enabled(ids[0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"email": "new@example.com"}, "another email"),
        ({"administrator": True}, "an administrator now"),
        ({"first_name": "Zoe"}, "somebody has edited the user"),
    ],
)
def test_an_undo_refuses_those_changed_since(world, change, reason) -> None:
    ids = world.people[:2]
    rows = world.carry_out(world.decide(ids))
    api(world, ids[0], **change)
    undone = world.carry_out(undo(world.client, list(rows.values()), facts={}), "undo")
    assert (undone[ids[0]]["outcome"], undone[ids[0]]["reason"]) == (
        "blocked",
        f"changed since evidence: {reason}",
    )
    assert undone[ids[1]]["outcome"] == "changed"


@pytest.mark.parametrize("hidden_in", ["answer", "read before the undo"])
def test_an_undo_leaves_whom_nobody_can_tell_to_be_unchanged_since(world, hidden_in) -> None:
    user_id = world.people[0]
    if hidden_in == "answer":
        world.server.set_fault("missing_key", key="updated_at", method="PUT")
    row = world.carry_out(world.decide([user_id]))[user_id]
    assert (row["outcome"], row["proof"]) == ("changed", PROVEN)
    world.server.clear_faults()
    # Somebody else edits the user, and means it to stay disabled.
    api(world, user_id, first_name="Zoe")
    if hidden_in != "answer":
        world.server.set_fault("missing_key", key="updated_at", method="GET")
    undone = world.carry_out(undo(world.client, [row], facts={}), "undo")[user_id]
    assert (undone["outcome"], world.is_enabled(user_id), world.puts) == ("blocked", False, [])
    assert "nobody knows" in undone["reason"] or "can't be said" in undone["reason"]
    assert unfinished([undone]) == [user_id]


def test_half_of_a_change_is_given_back_also_after_the_next_try_sent_all_of_it_again(world) -> None:
    """Aha! disables the user and leaves the right, twice: access was taken, whatever the word is."""
    user_id = world.administrators[1]
    wanted = {"enabled": False, "administrator": False}
    decision = world.decide([user_id], wanted, "update")
    before = world.user(user_id)
    update = world.server.account.update_user

    def half(one: str, changes: Any) -> Any:
        return update(one, {name: value for name, value in changes.items() if name != "administrator"})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.server.account, "update_user", half)
        for number in (1, 2):
            row = world.carry_out(decision, try_number=number)[user_id]
            assert (row["outcome"], row["proof"]) == ("unverified", ACKNOWLEDGED)
            assert json.loads(row["before_json"])["enabled"] is True
    assert not world.is_enabled(user_id)
    assert world.outcomes(undo(world.client, [row], facts={}), "undo") == {user_id: "changed"}
    after = world.user(user_id)
    assert {name: after[name] for name in PRIVILEGED} == {name: before[name] for name in PRIVILEGED}


def test_an_undo_of_an_update_gives_back_rights_and_email_and_nothing_else(world) -> None:
    user_id = world.administrators[1]
    world.server.account.edit_user(user_id, administrator_roles=BILLING_ONLY)
    wanted = {"administrator": False, "email": "new@example.com", "first_name": "Zoe"}
    before = world.user(user_id)
    row = world.carry_out(world.decide([user_id], wanted, "update"))[user_id]
    assert world.user(user_id)["administrator"] is False
    world.server.forget_requests()
    assert world.outcomes(undo(world.client, [row], facts={}), "undo") == {user_id: "changed"}
    back = {"email": before["email"], "administrator_roles": {"administer_billing": True}}
    assert world.puts == [(user_id, {"user": back})]
    after = world.user(user_id)
    assert {name: after[name] for name in PRIVILEGED} == {name: before[name] for name in PRIVILEGED}


def test_an_undo_leaves_those_who_were_enabled_since(world) -> None:
    ids = world.people[:2]
    rows = world.carry_out(world.decide(ids))
    api(world, ids[0], enabled=True)
    undone = world.outcomes(undo(world.client, list(rows.values()), facts={}), "undo")
    assert undone == {ids[0]: "unchanged", ids[1]: "changed"}


def test_an_undo_of_a_larger_plan_passes_by_the_same_hash(world) -> None:
    ids = world.people[:15]
    caps = Caps(approved_plan_sha256=PLAN["plan_sha256"])
    rows = world.carry_out(world.decide(ids, facts=PLAN), caps=caps)
    decision = undo(world.client, list(rows.values()), facts={})
    with pytest.raises(AhaGuardError):
        world.carry_out(decision, "undo")
    assert len(world.outcomes(decision, "undo2", caps=caps)) == 15


class TimeIsOverError(BaseException):
    """What ``execution_timeout`` raises in the main thread, by a signal, wherever that is."""


def test_when_the_time_of_a_task_is_over_a_read_that_hangs_does_not_keep_it(world, small_sandbox) -> None:
    decision = world.decide(world.people[:2])
    small_sandbox.set_fault("slow", seconds=20, method="GET", path="/users/.*")
    asked, main = threading.Event(), threading.main_thread()
    get_user = world.client.get_user

    def noticed(*arguments: Any) -> Any:
        asked.set()
        return get_user(*arguments)

    def end() -> None:
        assert asked.wait(20)
        signal.pthread_kill(main.ident or 0, signal.SIGUSR1)

    def raise_it(*_: Any) -> None:
        raise TimeIsOverError

    world.client.get_user = noticed
    before = signal.signal(signal.SIGUSR1, raise_it)
    watch = threading.Thread(target=end)
    watch.start()
    start = time.monotonic()
    try:
        with pytest.raises(TimeIsOverError):
            world.carry_out(decision)
    finally:
        signal.signal(signal.SIGUSR1, before)
    watch.join()

    assert time.monotonic() - start < 10
    assert world.puts == []
