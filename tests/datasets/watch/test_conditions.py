"""Users, seats and changes, asked of a sandbox."""

import json
import zipfile
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from airflow_provider_aha.datasets.extract import extract
from airflow_provider_aha.datasets.names import CHANGES, check_changes
from airflow_provider_aha.datasets.watch import (
    CHANGES_AT_ONCE,
    Account,
    ChangesCondition,
    SeatCondition,
    Watch,
    email_digest,
    joined,
    user_condition,
)
from airflow_provider_aha.exceptions import (
    AhaAmbiguousUserError,
    AhaConfigurationError,
    AhaError,
    AhaNotFoundError,
    AhaProtocolError,
    AhaSnapshotError,
    AhaStorageError,
)
from airflow_provider_aha.sandbox.testing import Account as SandboxAccount
from airflow_provider_aha.sandbox.testing import SandboxServer
from tests.datasets.watch.conftest import client_of, place

# ---- one user ------------------------------------------------------------------------------------------


@pytest.fixture(params=["id", "email"])
def user(request, sandbox):
    """A user of the sandbox, and how it is named."""
    user_id = sandbox.account.user_ids[10]
    sandbox.account.edit_user(user_id, email="only.one@example.com", enabled=True, accessed_at=None)
    return user_id, user_id if request.param == "id" else "Only.One@Example.com"


@pytest.mark.parametrize(
    ("until", "before", "after"),
    [("disabled", {"enabled": True}, {"enabled": False}), ("enabled", {"enabled": False}, {"enabled": True})],
)
def test_user_is_enabled_or_disabled(account, sandbox, user, until, before, after):
    user_id, name = user
    sandbox.account.edit_user(user_id, **before)
    condition = user_condition(name, until, None)
    assert condition.check(account, 0.0) is None
    sandbox.account.edit_user(user_id, **after)
    found = condition.check(account, 0.0)
    assert found == {"user_id": user_id, "exists": True, "enabled": after["enabled"], "accessed_at": None}


def test_user_was_seen(account, sandbox, user):
    user_id, name = user
    since = datetime(2026, 8, 1, tzinfo=UTC)
    condition = user_condition(name, "seen_since", since)
    assert condition.check(account, 0.0) is None
    sandbox.account.edit_user(user_id, accessed_at="2026-07-31T23:59:59.999Z")
    assert condition.check(account, 0.0) is None
    sandbox.account.edit_user(user_id, accessed_at="2026-08-01T00:00:00.000Z")
    found = condition.check(account, 0.0)
    assert found
    assert datetime.fromisoformat(found["accessed_at"]) == since


def test_user_goes_and_comes(account, sandbox, user):
    user_id, name = user
    assert user_condition(name, "absent", None).check(account, 0.0) is None
    assert user_condition(name, "exists", None).check(account, 0.0)
    sandbox.account.remove_user(user_id)
    assert user_condition(name, "exists", None).check(account, 0.0) is None
    gone = user_condition(name, "absent", None).check(account, 0.0)
    assert gone
    assert gone["exists"] is False


@pytest.mark.parametrize("name", ["4711", "nobody@example.com"])
@pytest.mark.parametrize("until", ["enabled", "disabled"])
def test_unknown_user_can_be_neither(account, name, until):
    with pytest.raises(AhaNotFoundError, match=f"could be {until}") as caught:
        user_condition(name, until, None).check(account, 0.0)
    assert "@" not in str(caught.value)


def test_an_account_that_answers_404_to_everything_has_no_absent_user(account, sandbox):
    sandbox.set_fault("error", status=404)
    with pytest.raises(AhaNotFoundError, match="subdomain"):
        user_condition("4711", "absent", None).check(account, 0.0)


@pytest.mark.parametrize("until", ["enabled", "disabled"])
def test_a_flag_that_aha_leaves_out_is_neither(account, sandbox, user, until):
    sandbox.set_fault("missing_key", key="enabled")
    assert user_condition(user[1], until, None).check(account, 0.0) is None


def test_an_email_of_two_users_names_none(account, sandbox):
    ids = sandbox.account.user_ids[10:12]
    for user_id in ids:
        sandbox.account.edit_user(user_id, email="two@example.com")
    with pytest.raises(AhaAmbiguousUserError, match=", ".join(ids)):
        user_condition("two@example.com", "exists", None).check(account, 0.0)


@pytest.mark.parametrize(
    ("name", "until", "since"),
    [
        ("12a", "exists", None),
        ("", "exists", None),
        ("1", "sometimes", None),
        ("1", "seen_since", None),
        ("1", "exists", datetime(2026, 8, 1, tzinfo=UTC)),
    ],
)
def test_user_conditions_that_can_not_be(name, until, since):
    with pytest.raises(AhaConfigurationError):
        user_condition(name, until, since)


def test_an_email_is_kept_as_a_digest_only():
    condition = user_condition(" Ada@Example.com", "exists", None)
    assert "@" not in repr(condition)
    assert condition.email_sha256 == email_digest("ada@example.com")


# ---- seats ---------------------------------------------------------------------------------------------


def test_seats_of_the_account_are_enabled_and_paid_users(account, sandbox):
    used = sum(user["enabled"] and user["paid_seat"] for user in sandbox.account.users())
    found = SeatCondition(used).check(account, 0.0)
    assert found
    assert found["seats_in_use"] == used
    assert SeatCondition(used + 1).check(account, 0.0) is None


@pytest.mark.parametrize("name", ["id", "name"])
def test_seats_of_a_group(account, sandbox, name):
    group = sandbox.account.seat_groups()[1]
    used = group["allocated_seats"]
    sandbox.account.update_seat_group(group["id"], {"capacity": used * 2})
    condition = SeatCondition(50, percent=True, group=group[name])
    assert condition.check(account, 0.0) == {
        "group_id": group["id"],
        "seats_in_use": used,
        "capacity": used * 2,
        "percent": 50.0,
        "threshold": 50,
    }
    assert SeatCondition(51, percent=True, group=group[name]).check(account, 0.0) is None
    assert SeatCondition(used, group=group[name]).check(account, 0.0)


def test_a_group_that_is_not_there(account):
    with pytest.raises(AhaNotFoundError, match="0 of the 3 paid seat groups"):
        SeatCondition(1, group="Nobody's").check(account, 0.0)


def test_a_group_without_a_capacity_has_no_percentage(sandbox):
    group: Any = {"id": "7", "name": "Open", "administrators": [], "capacity": None, "allocated_seats": 3}
    users = list(sandbox.account.users())
    given = SandboxAccount.from_users(users, paid_seat_groups=[group])
    with SandboxServer(account=given) as server, client_of(server) as client:
        account = Account(client, connection_id="aha_default")
        with pytest.raises(AhaProtocolError, match="group 7"):
            SeatCondition(50, percent=True, group="7").check(account, 0.0)
        found = SeatCondition(3, group="7").check(account, 0.0)
        assert found
        assert found["percent"] is None


@pytest.mark.parametrize("key", ["enabled", "paid_seat"])
def test_seats_that_aha_leaves_out_are_not_counted(account, sandbox, key):
    sandbox.set_fault("missing_key", key=key)
    with pytest.raises(AhaProtocolError, match=key):
        SeatCondition(1).check(account, 0.0)


def test_an_answer_that_is_no_list_of_groups(account, sandbox):
    sandbox.set_fault("maintenance")
    with pytest.raises(AhaProtocolError):
        SeatCondition(1, group="7").check(account, 0.0)


# ---- changes -------------------------------------------------------------------------------------------


def begun(account, state, wanted=CHANGES):
    """Have a first look, which makes the state."""
    watch = Watch(account, place(state), wanted)
    found = watch.look()
    assert not found.events
    watch.move(found)
    return watch


def changes_of(found):
    return [(row["change"], row["user_id"]) for event in found.events for row in event["changes"]]


def test_changes_are_told_until_the_state_moves(account, sandbox, state):
    user = sandbox.account.user_ids[9]
    sandbox.account.edit_user(user, enabled=False, paid_seat=False)
    watch = begun(account, state)
    sandbox.account.edit_user(user, enabled=True)
    first, second = watch.look(), watch.look()
    assert changes_of(first) == [("enabled", user)]
    assert [event["event_id"] for event in first.events] == [event["event_id"] for event in second.events]
    watch.move(second)
    assert not watch.look().events
    sandbox.account.edit_user(user, enabled=False)
    assert changes_of(watch.look()) == [("disabled", user)]


def test_the_same_change_later_is_another_event(account, sandbox, state):
    user = sandbox.account.user_ids[9]
    sandbox.account.edit_user(user, enabled=True, paid_seat=False)
    watch = begun(account, state, ["disabled"])
    ids = []
    for _ in range(2):
        sandbox.account.edit_user(user, enabled=False)
        found = watch.look()
        ids += [event["event_id"] for event in found.events]
        watch.move(found)
        sandbox.account.edit_user(user, enabled=True)
        watch.move(watch.look())
    assert len(set(ids)) == 2


def test_an_unwanted_change_moves_the_state_so_that_its_return_is_seen(account, sandbox, state):
    user = sandbox.account.user_ids[9]
    sandbox.account.edit_user(user, enabled=True, paid_seat=False)
    watch = begun(account, state, ["enabled"])
    sandbox.account.edit_user(user, enabled=False)
    found = watch.look()
    assert (found.events, found.moves) == ([], True)
    watch.move(found)
    sandbox.account.edit_user(user, enabled=True)
    assert changes_of(watch.look()) == [("enabled", user)]


def test_who_came_and_went_is_found_by_one_small_request(account, sandbox, state):
    watch = begun(account, state, ["added", "removed"])
    sandbox.forget_requests()
    assert not watch.look().events
    assert len(sandbox.requests) == 1
    new = sandbox.account.add_user()["id"]
    assert changes_of(watch.look()) == [("added", new)]


def test_one_who_went_while_another_came_is_found_too(account, sandbox, state):
    watch = begun(account, state, ["removed"])
    gone = sandbox.account.user_ids[20]
    sandbox.account.remove_user(gone)
    sandbox.account.add_user()
    assert changes_of(watch.look()) == [("removed", gone)]


def test_values_of_names_emails_and_time_zones_are_not_told(account, sandbox, state):
    user = sandbox.account.user_ids[9]
    watch = begun(account, state)
    sandbox.account.edit_user(user, name="Grace Hopper", email="grace@example.com", timezone="Mars")
    text = json.dumps(watch.look().events)
    assert '"field": "email"' in text
    assert not any(word in text for word in ("Hopper", "grace@", "Mars"))


def test_many_changes_come_in_parts_and_a_sensor_returns_the_first(sandbox, state):
    with SandboxServer(users=CHANGES_AT_ONCE + 100) as server, client_of(server) as client:
        account = Account(client, connection_id="aha_default")
        watch = begun(account, state, ["updated"])
        for user_id in server.account.user_ids:
            server.account.edit_user(user_id, timezone="UTC+1")
        events = watch.look().events
    assert [len(event["changes"]) for event in events] == [CHANGES_AT_ONCE, 100]
    assert len({event["event_id"] for event in events}) == 2
    event = joined(events)
    assert (len(event["changes"]), event["left_out"]) == (CHANGES_AT_ONCE, 100)
    assert event["counts"] == {"updated": CHANGES_AT_ONCE + 100}


def test_a_task_that_runs_again_is_told_the_same(account, sandbox, state):
    watch = begun(account, state)
    assert watch.told("a") is None
    sandbox.account.edit_user(sandbox.account.user_ids[9], timezone="UTC+1")
    found = watch.look()
    watch.move(found, task="a")
    assert watch.told("a") == joined(found.events)
    assert watch.told("b") is None


def test_a_state_of_another_account_is_refused(account, sandbox, state):
    begun(account, state)
    before = state.read_bytes()
    with client_of(sandbox, name="another") as client:
        watch = Watch(Account(client, connection_id="aha_default"), place(state), CHANGES)
        with pytest.raises(AhaSnapshotError, match=r"is the state of account 127\.0\.0\.1"):
            watch.look()
    assert state.read_bytes() == before


@pytest.mark.parametrize("spoil", ["empty", "cut", "other_zip", "text"])
def test_a_spoilt_state_is_refused(account, state, spoil):
    begun(account, state)
    whole = state.read_bytes()
    if spoil == "other_zip":
        with zipfile.ZipFile(state, "w") as archive:
            archive.writestr("hello", "world")
    else:
        state.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"hello"}[spoil])
    with pytest.raises(AhaSnapshotError, match="not a state file"):
        Watch(account, place(state), CHANGES).look()


def test_a_state_that_can_not_be_written_stays_as_it_was(account, sandbox, state, tmp_path):
    (tmp_path / "file").write_text("in the way")
    watch = Watch(account, place(tmp_path / "file" / "state.zip"), CHANGES)
    good = begun(account, state)
    sandbox.account.edit_user(sandbox.account.user_ids[9], timezone="UTC+1")
    with pytest.raises(AhaStorageError):
        watch.move(good.look())
    assert changes_of(good.look())


def test_snapshots_are_compared_with_and_never_moved(account, sandbox, tmp_path):
    location = place(tmp_path / "base")
    watch = Watch(account, location, ["added"])
    with pytest.raises(AhaSnapshotError, match="run aha_extract first"):
        watch.look()
    began = datetime.now(UTC)
    for moment in (began - timedelta(days=2), began - timedelta(days=1)):
        extract(
            account.client,
            location,
            datasets=["users", "user_roles"],
            connection_id="aha_default",
            now=moment.replace,
        )
    files = {path: path.read_bytes() for path in (tmp_path / "base").rglob("*") if path.is_file()}
    new = sandbox.account.add_user()["id"]
    for _ in range(2):
        found = watch.look()
        assert changes_of(found) == [("added", new)]
        watch.move(found)
    assert files == {path: path.read_bytes() for path in (tmp_path / "base").rglob("*") if path.is_file()}


def test_the_condition_of_the_trigger_writes_nothing(account, sandbox, state):
    condition = ChangesCondition(place(state), ("added",))
    assert condition.check(account, 0.0)
    assert not state.exists()
    begun(account, state)
    assert condition.check(account, 0.0) is None
    sandbox.account.add_user()
    before = state.read_bytes()
    assert condition.check(account, 0.0)
    assert state.read_bytes() == before


@pytest.mark.parametrize("wanted", [["renamed"], []])
def test_changes_that_there_are_not(wanted):
    with pytest.raises(AhaConfigurationError, match="changes must be some of"):
        check_changes(wanted)


# ---- reads that are shared -------------------------------------------------------------------------------


def test_what_was_just_read_is_not_read_again(account, sandbox):
    first = account.listing()
    assert account.listing(max_age=60.0) is first
    assert account.listing() is not first


def test_a_read_that_began_before_the_state_is_not_compared_with_it(account, sandbox, state):
    old = account.listing()
    sandbox.account.edit_user(sandbox.account.user_ids[9], timezone="UTC+1")
    watch = begun(account, state)
    account._listing, account._read_at = old, account._read_at
    assert not watch.look(max_age=3600.0).events


def test_a_failed_read_leaves_nothing_behind(account, sandbox):
    account.listing()
    sandbox.set_fault("error", status=500)
    with pytest.raises(AhaError):
        account.listing()
    sandbox.clear_faults()
    sandbox.forget_requests()
    account.listing(max_age=3600.0)
    assert len(sandbox.requests) == 1


def test_temporary_files_go_with_the_read(account):
    listings = [account.listing() for _ in range(3)]
    folders = [listing.users.parent for listing in listings]
    assert all(folder.exists() for folder in folders)
    assert all(a != b for a, b in pairwise(folders))
    listings.clear()
    assert [folder.exists() for folder in folders] == [False, False, True]
