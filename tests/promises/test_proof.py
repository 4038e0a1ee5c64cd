"""``proof.yaml``: what a task did, by its events, and what follows from that for everybody who asks."""

import json
import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_aha.access.decide.named import undo
from airflow_provider_aha.access.write.carry_out import carry_out
from airflow_provider_aha.access.write.guards import Caps, Protection
from airflow_provider_aha.common.moments import timestamp
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaError, AhaSnapshotError
from airflow_provider_aha.record.chain import close_try
from airflow_provider_aha.record.evidence import FILE, rows
from airflow_provider_aha.record.journal import ACKNOWLEDGED, AFTER_CRASH, NONE, UNANSWERED, History, histories
from airflow_provider_aha.record.register import changed_within, files_elsewhere, refuse_beside_another
from airflow_provider_aha.store.store import to_json
from tests.access.test_confirm import SECOND, Watch
from tests.access.test_crash_writes import LATER, kill_a_try
from tests.access.test_writes import api
from tests.raw import raw

PROMISES = yaml.safe_load((Path(__file__).parent / "proof.yaml").read_text(encoding="utf-8"))
# What today's evidence calls the words of the rule.
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
UNTOUCHED = "2026-01-01T00:00:00.000Z"


def cases(name: str) -> Any:
    return pytest.mark.parametrize("case", PROMISES[name], ids=[case["name"] for case in PROMISES[name]])


def any_of(expected: Any) -> list[Any]:
    """Return what may come; a list in the file stands for any of its members."""
    return expected if isinstance(expected, list) else [expected]


def unique(name: str) -> str:
    return name.encode().hex()


class Events:
    """Writes events as workers would have, of the folder of the first run.

    :param world: the account, and where the records lie.
    :param user_id: whom the events are of.
    """

    def __init__(self, world: Any, user_id: str) -> None:
        self._folder = world.folder()
        self._user = world.user(user_id)
        self._written = 0

    def write(self, event: list[Any], minutes: float = 5, **facts: Any) -> None:
        """Write one event.

        :param event: as the file has it.
        :param minutes: so long ago by its worker's clock.
        """
        try_number, n, kind, *rest = event
        self._written += 1
        # Names that sort the other way round than the events came: no name may decide in place of try and number.
        own, body = f"{16**31 - self._written:032x}", b"{"
        if kind == "unreadable":
            kind, name = rest
            own = unique(name) if kind == "intent" else own
        else:
            moment = timestamp(datetime.now(UTC) - minutes * MINUTE)
            content = {**self._facts(moment), "try_number": try_number, "n": n, "event_id": own, **facts}
            if kind == "intent":
                own = unique(rest[0])
                content |= {"intent": own, "event_id": own}
            else:
                intent = unique(rest.pop(0)) if kind == "outcome" else None
                proof, word = rest
                content |= {"intent": intent, "proof": proof, "outcome": word}
                content |= {"answered_at": moment, "reason": ""}
            body = to_json(content)
        kind = "intent" if kind == "intent" else "outcome"
        path = f"{self._folder.path}/events/u{self._user['id']}.account/{try_number}-{kind}-{own}.json"
        assert self._folder.location.create(path, body)

    def _facts(self, moment: str) -> dict[str, Any]:
        now = timestamp(datetime.now(UTC) + MINUTE)
        return {
            "account": "acme",
            "user_id": self._user["id"],
            "class": "named",
            "access": "taken",
            "wanted_json": json.dumps({"enabled": False}),
            "before_json": json.dumps({**self._user, "enabled": True}),
            "after_json": json.dumps({**self._user, "enabled": False}),
            "intent_at": moment,
            "sent_at": moment,
            "lands_by": now,
        }

    def history(self) -> History:
        return (
            histories(self._folder.location, f"{self._folder.path}/events").get(f"u{self._user['id']}.account")
            or History()
        )

    def row(self) -> dict[str, Any] | None:
        return next(iter(rows({self._user["id"]: self.history()})), None)


# --- the rule ------------------------------------------------------------------------------------


@cases("cases")
def test_what_a_task_did_is_told_by_its_events(world: Any, case: Any) -> None:
    user_id, other = world.people[:2]
    events, expect = Events(world, user_id), case["expect"]
    minutes = case.get("minutes", [5] * len(case["events"]))
    for event, ago in zip(case["events"], minutes, strict=True):
        events.write(list(event), ago)
    for event in case.get("other_object", ()):
        # Until events have an object, a user is the only one.
        Events(world, other).write(list(event))
    history = events.history()
    assert history.proof in any_of(expect["did"]), case["why"]
    assert (history.word or "none") in any_of(expect["outcome"]), case["why"]
    assert _counted(world, user_id) in any_of(expect["counted"]), case["why"]
    assert _given_back(world, events.row()) in any_of(expect["given_back"]), case["why"]
    assert _next(history) in any_of(expect["next"]), case["why"]
    assert _others_wait(world) in any_of(expect["others_wait"]), case["why"]


@cases("cases")
def test_the_order_of_arrival_changes_nothing(world: Any, case: Any) -> None:
    events = Events(world, world.people[0])
    for event in case["events"]:
        events.write(list(event))
    history, row = events.history(), events.row()
    chance = random.Random(1)
    for _ in range(20):
        chance.shuffle(history.intents)
        chance.shuffle(history.outcomes)
        assert next(iter(rows({world.people[0]: history})), None) == row


def _counted(world: Any, user_id: str) -> str:
    found = changed_within(world.folder("other"), datetime.now(UTC), 10**4, "taken")
    return "yes" if user_id in found else "no"


def _given_back(world: Any, row: dict[str, Any] | None) -> str:
    try:
        (target,) = undo(world.client, [row] if row else [], facts={}).targets
    except AhaConfigurationError:
        return "no"
    if target.not_ours:
        return "no"
    assert target.changes == {"enabled": True}
    return "yes" if target.updated_at else "after_own_look"


def _next(history: History) -> str:
    if history.is_final:
        return "nothing"
    return "starts_over" if history.proof == NONE else "looks"


def _others_wait(world: Any) -> str:
    try:
        refuse_beside_another(world.folder("other"), datetime.now(UTC))
    except AhaError:
        return "yes"
    return "no"


# --- what a later try sees -----------------------------------------------------------------------

EARLIER: dict[int, list[list[list[Any]]]] = {
    NONE: [[]],
    UNANSWERED: [[[1, 1, "intent", "a"]], [[1, 1, "intent", "a"], [1, 2, "outcome", "a", 1, "failed"]]],
    ACKNOWLEDGED: [[[1, 1, "intent", "a"], [1, 2, "outcome", "a", 2, "unverified"]]],
    AFTER_CRASH: [[[1, 1, "intent", "a"], [2, 1, "look", 3, "changed_after_crash"]]],
}


@pytest.mark.parametrize("way", [0, 1])
@cases("looks")
def test_what_a_look_shows_after_what_an_earlier_try_did(world: Any, case: Any, way: int) -> None:
    user_id = world.people[0]
    decision = world.decide([user_id])
    world.server.account.edit_user(user_id, updated_at=UNTOUCHED)
    events = Events(world, user_id)
    for event in EARLIER[case["did"]][way % len(EARLIER[case["did"]])]:
        events.write(list(event))
    _show(world, user_id, case)
    world.server.forget_requests()
    row = world.carry_out(decision, try_number=3)[user_id]
    then = "sends" if world.puts else "nothing"
    for expect in case.get("either") or [case["expect"]]:
        if then not in any_of(expect["then"]):
            continue
        if then == "sends" or case["did"] == AFTER_CRASH:
            return
        assert row["outcome"] in any_of(expect.get("word", row["outcome"])), case["why"]
        assert row["proof"] in any_of(expect["proof"]), case["why"]
        return
    pytest.fail(f"it {then}: {case['why']}")


def _show(world: Any, user_id: str, case: Any) -> None:
    now = datetime.now(UTC)
    stamps = {"moved": f"{now:%FT%T.%fZ}", "late": f"{now + HOUR:%FT%T.%fZ}"}
    stamp = {"updated_at": stamps[case["updated_at"]]} if case["updated_at"] in stamps else {}
    world.server.account.edit_user(user_id, enabled=case["shows"] != "done", **stamp)
    for key, hidden in (("enabled", case["shows"]), ("updated_at", case["updated_at"])):
        if hidden == "hidden":
            world.server.set_fault("missing_key", key=key)


# --- crashes -------------------------------------------------------------------------------------

# Where the worker of the first try is killed, and after how many passes.
POINTS = {
    "start": ("registered", 0),
    "look": ("looked", 0),
    "half_an_intent": ("intent half written", 3),
    "intent": ("between intent and PUT", 0),
    "answer": ("between PUT and outcome", 0),
    "outcome": ("between users", 0),
    "evidence": ("after the evidence", 0),
}


@cases("crashes")
def test_a_crash_between_two_steps_of_the_first_try(world: Any, case: Any) -> None:
    if case["after"] == "zombie":
        pytest.skip("tests/access/test_two_workers.py lets the first worker go on")
    user_id, expect = world.people[0], case["expect"]
    decision = world.decide([user_id])
    _crash(world, user_id, decision, case)
    writes = len(world.puts)
    if case.get("updated_at") == "same":
        world.server.account.edit_user(user_id, updated_at=world.user(user_id)["created_at"])
    if case.get("colleague"):
        world.server.account.edit_user(user_id, enabled=False, updated_at=f"{datetime.now(UTC) + DAY:%FT%T.000Z}")
    world.server.clear_faults()
    world.server.forget_requests()
    row = world.carry_out(decision, try_number=2)[user_id]
    writes += len(world.puts)
    if case["aha"] == "applied_after_try_2":
        api(world, user_id, enabled=False)
        writes += 1
    assert row["outcome"] in any_of(expect["outcome"]), case["why"]
    assert writes in any_of(expect["writes"]), case["why"]
    if "others_wait" in expect:
        assert _others_wait(world) == expect["others_wait"], case["why"]
    if "given_back" in expect:
        world.carry_out(undo(world.client, [row], facts={}), "undo", now=world.now + LATER)
        assert ("yes" if world.is_enabled(user_id) else "no") == expect["given_back"], case["why"]


def _crash(world: Any, user_id: str, decision: Any, case: Any) -> None:
    if case["after"] == "manifest":
        world.carry_out(decision)
        close_try(world.folder(), {}, files_elsewhere(world.folder(), world.now))
        return
    if case["aha"] == "refused":
        world.server.set_fault("error", status=422, method="PUT")
    if case.get("answer"):
        # As a 204 does, it shows nothing of the change.
        world.server.set_fault("missing_key", key="enabled", method="PUT")
    after = case["after"]
    if after == "send":
        after = "answer" if case["aha"] == "applied" else "intent"
    point, passes = POINTS[after]
    kill_a_try(world, [user_id], "answered" if case["aha"] == "refused" else point, passes)


# --- the next extract ----------------------------------------------------------------------------


@cases("extract")
def test_what_the_next_extract_says(world: Any, case: Any) -> None:
    user_id, watch = world.people[0], Watch(world)
    events = Events(world, user_id)
    events.write([1, 1, "intent", "a"], 0)
    words = {0: "failed", 1: "failed", 2: "unverified", 3: "changed_after_crash", 4: "changed"}
    events.write([1, 2, "outcome", "a", case["did"], words[case["did"]]], 0)
    world.server.account.edit_user(user_id, enabled=False)
    if case.get("undone"):
        watch.change([user_id], True, "reactivate", "undo")
    snapshot = case["snapshot"]
    if snapshot == "gone":
        world.server.account.remove_user(user_id)
    else:
        world.server.account.edit_user(user_id, enabled=snapshot == "enabled")
    if snapshot == "hidden":
        world.server.set_fault("missing_key", key="enabled")
    watch.extract(datetime.now(UTC) + (-HOUR if case.get("snapshot_begun") == "before" else SECOND))
    watch.confirm("x1")
    said = "nothing"
    with suppress(AhaSnapshotError):
        said = next((row["outcome"] for row in watch.rows("x1").values()), "nothing")
    assert said == case["expect"], case["why"]


# --- caps ----------------------------------------------------------------------------------------

FAULTS: dict[int, tuple[str, dict[str, Any]]] = {
    NONE: ("error", {"status": 422}),
    UNANSWERED: ("answer_lost", {}),
    ACKNOWLEDGED: ("update_ignored", {}),
}


@pytest.mark.parametrize("manifest", [True, False])
@cases("caps")
def test_what_the_caps_count_when_parts_of_the_record_are_gone(world: Any, case: Any, manifest: bool) -> None:
    if "run" in case["lost"] and not manifest:
        pytest.skip("the case is that the manifest is left")
    ids, folder = world.people[:10], world.folder()
    decision = world.decide(ids, user_class=case.get("class", "unused"), accessed_at="2099-01-01T00:00:00Z")
    if "did" in case:
        name, options = FAULTS[case["did"]]
        world.server.set_fault(name, method="PUT", **options)
    found = carry_out(
        world.client,
        folder,
        world.run(),
        decision,
        caps=Caps(),
        protection=Protection(world.owner),
        dry_run=False,
    )
    world.server.clear_faults()
    if manifest:
        close_try(folder, {}, files_elsewhere(folder, datetime.now(UTC)))
    if case.get("undone"):
        world.carry_out(undo(world.client, found, facts={}), "undo")
    paths = {
        "register": f"{folder.account_path}/register",
        "evidence": f"{folder.path}/{FILE}",
        "run": folder.run_path,
    }
    for lost in case["lost"]:
        raw(folder.location).rm(paths[lost], recursive=True)
    now = datetime.now(UTC) + case.get("days", 1) * DAY
    asks_for = case.get("asks_for", case.get("class", "unused"))
    try:
        counted: Any = len(changed_within(world.folder("r2"), now, 7, "taken", left=asks_for == "left"))
    except AhaError:
        counted = "refused"
    assert counted in any_of(case["expect"]), case["why"]
