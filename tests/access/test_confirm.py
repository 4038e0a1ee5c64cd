"""After a deactivation: the next extract confirms it, or raises an alarm."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_aha.access.decide.history import enabled_again
from airflow_provider_aha.access.write.confirm import WATCHED_DAYS, confirm
from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.datasets.extract import extract
from airflow_provider_aha.exceptions import AhaCancelledError, AhaSnapshotError
from airflow_provider_aha.operators.confirm import AhaConfirmDeactivationsOperator
from airflow_provider_aha.operators.deactivations import AhaDeactivateUsersOperator
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator
from airflow_provider_aha.record.chain import close_try
from airflow_provider_aha.record.evidence import EVIDENCE, read_evidence
from airflow_provider_aha.record.journal import Journal
from airflow_provider_aha.record.register import files_elsewhere
from tests.raw import raw

SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


class Watch:
    """A world, and what the extracts after its deactivations say."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.runs = 0

    def change(self, ids: list[str], enabled: bool = False, action: str = "deactivate", run_id: str = "r1") -> Any:
        decision = self.world.decide(ids, {"enabled": enabled}, action)
        found = self.world.carry_out(decision, run_id)
        self.close(run_id)
        return found

    def close(self, run_id: str) -> None:
        folder = self.world.folder(run_id)
        close_try(folder, {}, files_elsewhere(folder, self.world.now))

    def extract(self, at: datetime | None = None) -> None:
        moment = at or datetime.now(UTC) + SECOND
        extract(self.world.client, self.world.location, datasets=["users"], connection_id="c", now=lambda: moment)

    def confirm(
        self, run_id: str | None = None, now: datetime | None = None, try_number: int = 1
    ) -> dict[str, Any]:
        self.runs += 1
        run = self.world.run(run_id or f"x{self.runs}", try_number, "confirm")
        return confirm(self.world.location, "acme", run, now=now or datetime.now(UTC))

    def rows(self, run_id: str, task_id: str = "confirm") -> dict[str, dict[str, Any]]:
        path = f"{self.world.folder(run_id, task_id).path}/evidence.parquet"
        return {row["user_id"]: row for row in read_evidence(self.world.location.within(path))}

    def enable(self, user_id: str) -> None:
        self.world.server.account.edit_user(user_id, enabled=True)


@pytest.fixture
def watch(world: Any) -> Watch:
    return Watch(world)


def test_who_is_still_disabled_is_confirmed_once_in_a_record_of_its_own(anywhere):
    watch = Watch(anywhere)
    ids = anywhere.people[:3]
    before = watch.change(ids)
    watch.extract()
    assert watch.confirm("x1")["confirmed"] == 3
    rows = watch.rows("x1")
    assert {row["outcome"] for row in rows.values()} == {"confirmed"}
    assert {row["verified_by"] for row in rows.values()} == {"next_extract"}
    for user_id in ids:
        assert rows[user_id]["event_id"] == before[user_id]["event_id"]
        assert rows[user_id]["request_id"] == before[user_id]["request_id"]
        assert rows[user_id]["answered_at"].replace(" ", "T") > before[user_id]["answered_at"]
        assert rows[user_id]["detail"] == "changed in dag=d/run=r1/task=t"
        assert (rows[user_id]["run_id"], len(rows[user_id]["snapshot_sha256"])) == ("x1", 64)
        assert json.loads(rows[user_id]["after_json"]) == {"enabled": False}
    assert list(next(iter(rows.values()))) == EVIDENCE.names
    assert (watch.confirm("x2")["confirmed"], anywhere.findings()) == (0, [])


def test_the_evidence_of_the_deactivation_is_never_touched_again(watch):
    watch.change(watch.world.people[:2])
    folder = watch.world.folder().path
    before = {path: raw(watch.world.location).cat_file(path) for path in raw(watch.world.location).find(folder)}
    watch.extract()
    watch.confirm()
    after = {path: raw(watch.world.location).cat_file(path) for path in raw(watch.world.location).find(folder)}
    assert after == before
    assert watch.world.findings() == []


def test_who_is_enabled_again_by_somebody_else_came_back_once(watch):
    one, other = watch.world.people[:2]
    watch.change([one, other])
    watch.enable(one)
    watch.extract()
    found = watch.confirm("x1")
    assert (found["came_back"], found["confirmed"], found["looked_up"]) == ([one], 1, 2)
    row = watch.rows("x1")[one]
    assert (row["outcome"], row["verified_by"]) == ("came_back", None)
    assert json.loads(row["after_json"]) == {"enabled": True}
    again = watch.confirm("x2")
    assert (again["came_back"], again["looked_up"]) == ([], 1)
    assert watch.world.findings() == []


def test_who_comes_back_after_having_been_confirmed_is_an_alarm_too(watch):
    one = watch.world.people[0]
    watch.change([one])
    watch.extract()
    assert watch.confirm()["confirmed"] == 1
    watch.enable(one)
    watch.extract()
    assert watch.confirm()["came_back"] == [one]


def test_a_reactivation_of_ours_is_no_alarm(watch):
    one, other = watch.world.people[:2]
    watch.change([one, other])
    watch.change([one], True, "reactivate", "r2")
    watch.change([other], True, "update", "r3")
    watch.extract()
    assert watch.confirm() == {
        "account": "acme",
        "snapshot": f"{datetime.now(UTC) + SECOND:%Y-%m-%d}",
        "looked_up": 0,
        "confirmed": 0,
        "came_back": [],
        "not_done": [],
    }


def test_a_reactivation_of_ours_whose_answer_was_lost_is_no_alarm(watch, monkeypatch):
    one = watch.world.people[0]
    watch.change([one])
    decision = watch.world.decide([one], {"enabled": True}, "reactivate")
    update = AhaClient.update_user

    def lost(*arguments: Any) -> None:
        update(*arguments)
        raise AhaCancelledError("cancelled")

    with monkeypatch.context() as patch:
        patch.setattr(AhaClient, "update_user", lost)
        with pytest.raises(AhaCancelledError):
            watch.world.carry_out(decision, "r2")
    watch.extract()
    assert watch.confirm()["came_back"] == []


def test_who_was_taken_again_after_a_reactivation_is_watched_again(watch):
    one = watch.world.people[0]
    watch.change([one])
    watch.change([one], True, "reactivate", "r2")
    watch.change([one], False, "deactivate", "r3")
    watch.enable(one)
    watch.extract()
    assert watch.confirm("x1")["came_back"] == [one]
    assert watch.rows("x1")[one]["detail"] == "changed in dag=d/run=r3/task=t"


def test_an_update_that_disables_is_watched_and_one_that_does_not_is_not(watch):
    one, other = watch.world.people[:2]
    watch.change([one], False, "update")
    decision = watch.world.decide([other], {"email": "new@example.com"}, "update")
    watch.world.carry_out(decision, "r2")
    watch.extract()
    assert (watch.confirm()["looked_up"], watch.confirm()["came_back"]) == (1, [])


def test_an_extract_that_began_before_the_deactivation_says_nothing_of_it(watch):
    watch.extract(datetime.now(UTC) - timedelta(minutes=1))
    watch.change(watch.world.people[:1])
    assert watch.confirm()["looked_up"] == 0


def test_users_of_an_earlier_read_of_the_day_say_nothing_of_what_came_between(watch):
    """A later run that landed roles only keeps the entry of the users, marked with when they were read."""
    early = datetime.now(UTC)
    watch.extract(early)
    watch.change(watch.world.people[:1])
    arguments: Any = {"datasets": ["user_roles"], "connection_id": "c", "now": lambda: early + 60 * SECOND}
    if f"{early:%d}" == f"{early + 60 * SECOND:%d}":
        extract(watch.world.client, watch.world.location, **arguments)
    assert watch.confirm()["looked_up"] == 0


def test_who_is_gone_from_the_list_is_confirmed_with_that_reason(watch):
    one = watch.world.people[0]
    watch.change([one])
    watch.world.server.account.remove_user(one)
    watch.extract()
    assert watch.confirm("x1")["confirmed"] == 1
    assert watch.rows("x1")[one]["reason"] == "the account's list doesn't show the user any more"


def test_a_snapshot_that_does_not_say_whether_somebody_is_enabled_says_nothing(watch):
    one = watch.world.people[0]
    watch.change([one])
    watch.world.server.set_fault("missing_key", key="enabled")
    watch.extract()
    found = watch.confirm()
    assert (found["looked_up"], found["confirmed"], found["came_back"]) == (1, 0, [])


def test_of_a_lost_answer_the_snapshot_tells_whether_it_was_done(watch, monkeypatch):
    """Nobody came back who was never gone; that access is still there must be seen all the same."""
    one, other = watch.world.people[:2]
    update = AhaClient.update_user

    def lost(client: AhaClient, user_id: str, *arguments: Any) -> None:
        if user_id == one:
            update(client, user_id, *arguments)
        raise AhaCancelledError("cancelled")

    with monkeypatch.context() as patch:
        patch.setattr(AhaClient, "update_user", lost)
        for number, user_id in enumerate((one, other)):
            with pytest.raises(AhaCancelledError):
                watch.world.carry_out(
                    watch.world.decide([user_id]), f"r{number}", now=datetime.now(UTC) + number * 2 * 3600 * SECOND
                )
    watch.extract()
    found = watch.confirm("x1")
    assert (found["looked_up"], found["confirmed"], found["came_back"], found["not_done"]) == (2, 1, [], [other])
    rows = watch.rows("x1")
    assert {user_id: (row["outcome"], row["proof"]) for user_id, row in rows.items()} == {
        one: ("confirmed", 0),
        other: ("not_done", 0),
    }
    assert rows[other]["reason"] == "still enabled: Aha! has not done what was asked for (unknown)"
    again = watch.confirm("x2")
    assert (again["looked_up"], again["confirmed"], again["not_done"]) == (2, 0, [])


def test_what_aha_acknowledged_and_did_not_do_is_told_once(watch):
    one = watch.world.people[0]
    watch.world.server.set_fault("update_ignored")
    watch.change([one])
    watch.world.server.clear_faults()
    watch.extract()
    assert watch.confirm("x1")["not_done"] == [one]
    assert watch.confirm("x2")["not_done"] == []
    watch.world.server.account.edit_user(one, enabled=False)
    watch.extract(datetime.now(UTC) + 2 * SECOND)
    assert watch.confirm("x3")["confirmed"] == 1


def test_who_was_disabled_is_watched_though_register_or_events_are_lost(watch):
    one = watch.world.people[0]
    watch.change([one])
    folder, fs = watch.world.folder(), raw(watch.world.location)
    fs.rm(f"{folder.account_path}/register", recursive=True)
    fs.rm(f"{folder.path}/events", recursive=True)
    watch.enable(one)
    watch.extract()
    assert watch.confirm()["came_back"] == [one]


def test_after_ninety_days_nobody_is_watched_any_more(watch):
    watch.change(watch.world.people[:1])
    later = datetime.now(UTC) + (WATCHED_DAYS + 2) * DAY
    watch.extract(later)
    assert watch.confirm(now=later)["looked_up"] == 0
    assert watch.confirm(now=later - 4 * DAY)["looked_up"] == 1


def test_dry_runs_and_users_who_were_left_alone_are_not_watched(watch):
    watch.world.carry_out(watch.world.decide(watch.world.people[:2]), dry_run=True)
    watch.world.carry_out(watch.world.decide([watch.world.owner]), "r2")
    watch.extract()
    assert watch.confirm()["looked_up"] == 0
    assert not raw(watch.world.location).exists(f"{watch.world.folder('x1', 'confirm').path}")


def test_a_try_that_died_between_two_records_is_ended_by_the_next_one(watch, monkeypatch):
    ids = watch.world.people[:3]
    watch.change(ids)
    watch.extract()
    written: list[str] = []
    outcome = Journal.outcome

    def dies(journal: Journal, user_id: str, facts: Any) -> Any:
        if written:
            raise KeyboardInterrupt
        written.append(user_id)
        return outcome(journal, user_id, facts)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "outcome", dies)
        with pytest.raises(KeyboardInterrupt):
            watch.confirm("x1")
    assert watch.confirm("x1", try_number=2)["confirmed"] == 3
    assert len(watch.rows("x1")) == 3
    events = raw(watch.world.location).find(f"{watch.world.folder('x1', 'confirm').path}/events")
    assert len(events) == 3
    assert watch.world.findings() == []


def test_a_cleared_alarm_is_the_same_alarm_again(watch):
    """Else clearing the failed task would make it green, and nobody would look."""
    one = watch.world.people[0]
    watch.change([one])
    watch.enable(one)
    watch.extract()
    assert watch.confirm("x1")["came_back"] == [one]
    assert watch.confirm("x1", try_number=2)["came_back"] == [one]


def test_confirmations_count_for_no_cap_and_hold_nobody_back(watch):
    watch.change(watch.world.people[:6])
    watch.extract()
    watch.confirm()
    assert enabled_again(watch.world.location, "acme", as_of=datetime.now(UTC) + DAY, days=60).moments == {}
    found = watch.change(watch.world.people[6:10], run_id="r2")
    assert {row["outcome"] for row in found.values()} == {"changed"}


def test_without_a_snapshot_it_says_what_to_do(watch):
    with pytest.raises(AhaSnapshotError, match="run aha_extract first"):
        watch.confirm()


# --- the operator --------------------------------------------------------------------------------


def test_the_task_fails_for_whoever_came_back_and_names_ids_only(connected, context, tmp_path, caplog, capfd):
    caplog.set_level("DEBUG")
    users = [user for user in connected.account.users() if user["enabled"] and not user["administrator"]][:2]
    base = str(tmp_path / "aha")
    AhaDeactivateUsersOperator(
        task_id="t",
        users=[user["id"] for user in users],
        base_path=base,
        dry_run=False,
        allow_privileged=True,
    ).execute(context())
    connected.account.edit_user(users[0]["id"], enabled=True)
    extracted = context("r2") | {"outlet_events": {}}
    AhaExtractUsersOperator(task_id="extract", base_path=base).execute(extracted)
    connected.forget_requests()
    task = AhaConfirmDeactivationsOperator(task_id="confirm", base_path=base)
    with pytest.raises(AirflowFailException, match=rf"are enabled again.*: 1 \({users[0]['id']}\)\. ") as caught:
        task.execute(context("r2", task_id="confirm"))
    text = str(caught.value) + caplog.text + "".join(capfd.readouterr())
    for user in users:
        assert user["email"] not in text
        assert user["name"] not in text
    assert connected.requests == []


def test_nobody_to_look_up_is_a_green_task_without_a_record(connected, context, tmp_path):
    base = str(tmp_path / "aha")
    AhaExtractUsersOperator(task_id="extract", base_path=base).execute(context("r2") | {"outlet_events": {}})
    found = AhaConfirmDeactivationsOperator(task_id="confirm", base_path=base).execute(context("r2"))
    assert (found["looked_up"], found["came_back"]) == (0, [])
    assert not (tmp_path / "aha" / "access").exists()
