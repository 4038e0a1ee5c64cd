"""Plan, then send: what is sent, when nothing is, and what the outcomes say."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_aha.exceptions import (
    AhaConfigurationError,
    AhaGuardError,
    AhaProtocolError,
    AhaSnapshotError,
    AhaTargetError,
)
from airflow_provider_aha.push.outcomes import STATUSES
from airflow_provider_aha.push.targets.base import Answer, Batch, BatchRefusedError, SendAgainError
from tests.push.conftest import ListTarget, mapping, user, users

EMAIL = {"source": "email", "transforms": ["strip", "lower"], "required": True, "unique": True}


def lenient(**changes: Any) -> dict[str, Any]:
    return mapping(limits={"max_reject_percent": 100, "max_shrink_percent": 100}, **changes)


def statuses(world: Any, run_id: str = "r1") -> list[str]:
    return [row["status"] for row in world.outcomes(run_id)]


# --- the plan ------------------------------------------------------------------------------------


def test_every_row_has_an_outcome(world):
    target = ListTarget()
    rows = [user(1), user(2, is_enabled=False), user(3, email=None), user(4, email=" ADA4@Example.com")]
    world.land(rows)
    spec = lenient(filter=[{"field": "is_enabled", "op": "eq", "value": True}])
    began = datetime.now(UTC)
    summary = world.push(spec, target)
    assert summary["counts"] == {"added": 2, "skipped": 1, "invalid": 1}
    assert began - timedelta(milliseconds=1) <= world.outcomes()[0]["sent_at"] <= datetime.now(UTC)
    assert target.emails == ["ada1@example.com", "ada4@example.com"]
    assert [row["user_id"] for row in world.outcomes()] == ["1001", "1002", "1003", "1004"]
    found = world.outcomes()[2]
    assert (found["field"], found["reason"], found["attempts"], found["sent_at"]) == (
        "email",
        "is null, and the field is required",
        0,
        None,
    )
    assert world.summary() == summary
    assert target.closed


def test_all_records_of_a_clash_are_invalid(world):
    target = ListTarget()
    world.land([user(1), user(2, email="Ada1@example.com"), user(3)])
    assert world.push(lenient(), target)["counts"] == {"added": 1, "invalid": 2}
    assert target.emails == ["ada3@example.com"]
    assert world.outcomes()[0]["reason"] == "the same value comes in more than one record, and the field is unique"


def test_a_clash_in_another_unique_field(world):
    fields = {"email": EMAIL, "code": {"source": "timezone", "unique": True}, "name": "name"}
    rows = [user(1, timezone="a"), user(2, timezone=None), user(3, timezone=None), user(4, timezone="a")]
    world.land(rows)
    assert world.push(lenient(fields=fields), ListTarget())["invalid_by_field"] == {"code": 2}
    assert statuses(world) == ["invalid", "added", "added", "invalid"]


def test_a_clash_of_a_key_of_two_fields(world):
    fields = {
        "account": {"source": "subdomain", "required": True},
        "name": {"source": "name", "required": True},
    }
    world.land([user(1, name="A"), user(2, name="B"), user(3, name="A")])
    assert world.push(lenient(fields=fields, sync_key=["account", "name"]), ListTarget())["counts"] == {
        "added": 1,
        "invalid": 2,
    }
    assert world.outcomes()[0]["reason"] == "the same sync key comes in more than one record"
    assert world.outcomes()[1]["sync_key"] == '["acme", "B"]'


def test_a_row_that_the_filter_leaves_out_clashes_with_nobody(world):
    world.land([user(1), user(2, email="ada1@example.com", is_enabled=False)])
    spec = lenient(filter={"field": "is_enabled", "op": "eq", "value": True})
    assert world.push(spec, ListTarget())["counts"] == {"added": 1, "skipped": 1}


def test_a_record_with_two_faults_names_both(world):
    fields = {
        "email": EMAIL,
        "n": {"source": "name", "type": "integer"},
        "d": {"source": "timezone", "type": "date"},
    }
    world.land([user(1, timezone="x"), user(2, name="1", timezone=None)])
    world.push(lenient(fields=fields), ListTarget())
    assert world.outcomes()[0]["reason"].startswith(
        "n: 'Ada 1 Lovelace' is not a whole number; d: 'x' is not a date"
    )


# --- what was sent before ------------------------------------------------------------------------


def test_only_new_and_changed_records_are_sent(world):
    world.land(users(3))
    world.push(mapping(), ListTarget())
    world.land([user(0), user(1, name="Grace"), user(2, is_paid_seat=False), user(3)])
    target = ListTarget()
    assert world.push(mapping(), target, run_id="r2")["counts"] == {"added": 2, "unchanged": 2}
    # A column that isn't mapped is no change.
    assert target.emails == ["ada1@example.com", "ada3@example.com"]


def test_a_field_that_is_not_compared_is_no_reason_to_send(world):
    fields = {"email": EMAIL, "name": "name", "at": {"source": "accessed_at", "compare": False}}
    world.land([user(1), user(2)])
    world.push(mapping(fields=fields), ListTarget())
    world.land([user(1, accessed_at=None), user(2, accessed_at=None, name="Grace")])
    target = ListTarget()
    assert world.push(mapping(fields=fields), target, run_id="r2")["counts"] == {"added": 1, "unchanged": 1}


def test_another_mapping_sends_everything_again(world):
    world.land(users(3))
    world.push(mapping(), ListTarget())
    fields = {"email": EMAIL, "name": {"source": "name", "transforms": ["upper"]}}
    assert world.push(mapping(fields=fields), ListTarget(), run_id="r2")["counts"] == {"added": 3}
    assert world.push(mapping(fields=fields), ListTarget(), run_id="r3")["counts"] == {"unchanged": 3}


def test_rejected_records_are_tried_again_in_the_next_run(world):
    target = ListTarget(lambda batch: [Answer("rejected" if n == 1 else "added") for n in range(len(batch))])
    world.land(users(3))
    world.push(lenient(), target)
    assert statuses(world) == ["added", "rejected", "added"]
    again = ListTarget()
    assert world.push(lenient(), again, run_id="r2")["counts"] == {"added": 1, "unchanged": 2}
    assert again.emails == ["ada1@example.com"]


def test_a_user_who_comes_back_is_sent_again(world):
    world.land(users(3))
    world.push(lenient(), ListTarget())
    world.land(users(2))
    world.push(lenient(), ListTarget(), run_id="r2")
    world.land(users(3))
    assert world.push(lenient(), ListTarget(), run_id="r3")["counts"] == {"added": 1, "unchanged": 2}


def _of_texts(body: bytes) -> bytes:
    table = pq.read_table(pa.BufferReader(body))
    facts = table.schema.metadata
    written = io.BytesIO()
    texts = {name: ["x"] * table.num_rows for name in ("key", "record")}
    pq.write_table(pa.table(texts).replace_schema_metadata(facts), written)
    return written.getvalue()


@pytest.mark.parametrize("spoil", [lambda body: b"PAR1 cut short", _of_texts], ids=["cut", "of texts"])
def test_a_record_of_what_was_sent_that_can_not_be_read_sends_everything(world, caplog, spoil):
    world.land(users(2))
    world.push(mapping(), ListTarget())
    (sent,) = Path(world.location.path).glob("push/*/account=acme/sent/people.parquet")
    sent.write_bytes(spoil(sent.read_bytes()))
    assert world.push(mapping(), ListTarget(), run_id="r2")["counts"] == {"added": 2}
    assert "can't be read, so all records are sent again" in caplog.text


# --- limits --------------------------------------------------------------------------------------


def refused(world: Any, spec: dict[str, Any], run_id: str = "r1") -> str:
    target = ListTarget()
    with pytest.raises(AhaGuardError) as caught:
        world.push(spec, target, run_id=run_id)
    assert target.batches == []
    assert target.closed
    assert not target.finished
    sentence = str(caught.value)
    assert sentence.startswith("Nothing was sent. ")
    assert world.summary(run_id)["reason"] == sentence
    assert "added" not in statuses(world, run_id)
    # The same would stand in a dry run, which sends nothing and doesn't fail.
    warnings = world.push(spec, ListTarget(), run_id="dry", dry_run=True)["warnings"]
    assert warnings
    return sentence


def test_too_many_invalid_records(world):
    world.land([*users(18), user(18, email=None), user(19, email=None)])
    sentence = refused(world, mapping())
    assert "2 of 20 records are invalid, and the mapping allows 5 %" in sentence
    assert "Fields to blame: email (2)." in sentence
    assert statuses(world).count("failed") == 18
    assert world.push(mapping(limits={"max_reject_percent": 10}), ListTarget(), run_id="r2")["ended"] == "completed"


def test_an_empty_input(world):
    world.land([])
    assert "users has no row" in refused(world, mapping())


def test_a_filter_that_leaves_nobody(world):
    world.land(users(2))
    assert "the filter leaves no record" in refused(world, mapping(filter={"field": "email", "op": "is_null"}))


def test_a_shrunken_input(world):
    world.land(users(10))
    world.push(mapping(), ListTarget())
    world.land(users(7))
    assert "7 rows are there, and the last push had 10: more than 20 % are gone" in refused(world, mapping(), "r2")
    world.land(users(8))
    assert world.push(mapping(), ListTarget(), run_id="r3")["counts"] == {"unchanged": 8}


def test_an_input_of_which_the_filter_suddenly_leaves_little(world):
    spec = mapping(filter={"field": "is_enabled", "op": "eq", "value": True})
    world.land(users(10))
    world.push(spec, ListTarget())
    world.land([user(n, is_enabled=None if n > 4 else True) for n in range(10)])
    assert "5 records are there, and the last push had 10" in refused(world, spec, "r2")


def test_too_many_changes(world):
    spec = mapping(limits={"max_changes": 3})
    world.land(users(4))
    assert "4 records would be sent, and the mapping allows 3 (limits.max_changes)" in refused(world, spec)


def test_too_large_a_part_of_changes(world):
    spec = mapping(limits={"max_change_percent": 20})
    world.land(users(10))
    # Nothing was sent before: there is nothing to take a part of.
    world.push(spec, ListTarget())
    world.land([user(n, name="New" if n < 3 else f"Ada {n} Lovelace") for n in range(10)])
    assert "3 records would be added or changed, of 10 that were sent before" in refused(world, spec, "r2")


# --- drafts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("launched", "dry_run"), [(False, False), (True, True)])
def test_a_dry_run_sends_nothing(world, launched, dry_run):
    world.land(users(3))
    target = ListTarget()
    summary = world.push(mapping(launched=launched), target, dry_run=dry_run)
    assert (summary["dry_run"], summary["counts"], target.batches) == (True, {"planned": 3}, [])
    assert world.push(mapping(), ListTarget(), run_id="r2")["counts"] == {"added": 3}


def test_a_draft_says_that_nothing_was_written_and_what_launching_it_would_do(world, caplog, monkeypatch):
    world.land(users(3))
    target = ListTarget()
    monkeypatch.setattr(target, "expect", lambda batch: ["added"] * (len(batch) - 1) + ["updated"])
    with caplog.at_level("INFO"):
        summary = world.push(mapping(launched=False), target)
    assert summary["reason"] == (
        "Nothing was written, for the mapping people is a draft. Launched, it would do this: "
        "2 added, 1 updated. To launch it, set launched: true in it."
    )
    assert summary["reason"] in caplog.text


def test_a_dry_run_says_that_nothing_was_written(world):
    world.land(users(3))
    reason = "Nothing was written, for this is a dry run. A push would do this: "
    assert world.push(mapping(), ListTarget(), dry_run=True)["reason"] == f"{reason}3 sent."
    assert world.push(mapping(), ListTarget(), run_id="r2")["reason"] is None
    assert world.push(mapping(), ListTarget(), run_id="r3", dry_run=True)["reason"] == f"{reason}nothing."


# --- batches -------------------------------------------------------------------------------------


def test_a_refused_batch_is_halved_until_the_bad_record_is_alone(world):
    def answer(batch: Batch) -> Any:
        if "ada7@example.com" in batch.keys:
            raise BatchRefusedError("no", code="42")
        return [Answer("added")] * len(batch)

    world.land(users(25))
    target = ListTarget(answer)
    assert world.push(mapping(), target)["counts"] == {"added": 24, "rejected": 1}
    assert [len(batch) for batch in target.batches] == [5, 2, 2, 10, 5]
    found = world.outcomes()[7]
    assert (found["status"], found["reason"], found["code"]) == ("rejected", "no", "42")


def test_a_busy_target_is_waited_for_and_sent_the_same_batch(world):
    ids: list[str] = []

    def answer(batch: Batch) -> Any:
        ids.append(batch.id)
        if len(ids) < 4:
            raise SendAgainError("Busy.", retry_after=3.0 if len(ids) == 1 else None)
        return [Answer("added")] * len(batch)

    world.land(users(3))
    assert world.push(mapping(), ListTarget(answer))["counts"] == {"added": 3}
    assert len(set(ids)) == 1
    assert world.clock.pauses[0] == 3.0
    assert 1.0 <= world.clock.pauses[1] <= 2.0 <= world.clock.pauses[2] <= 4.0
    assert world.outcomes()[0]["attempts"] == 4


def test_a_target_that_asks_for_too_much_patience_is_given_up(world):
    def answer(batch: Batch) -> Any:
        raise SendAgainError("Busy.", retry_after=3600.0)

    world.land(users(3))
    with pytest.raises(AhaTargetError, match="tried 1 times"):
        world.push(mapping(), ListTarget(answer))
    assert world.clock.pauses == []


@pytest.mark.parametrize("answers", [[], [Answer("added")], [Answer("fine")] * 3])
def test_a_target_that_does_not_keep_the_protocol_is_told(world, answers):
    world.land(users(3))
    with pytest.raises(AhaProtocolError, match="its class is wrong"):
        world.push(mapping(), ListTarget(lambda batch: answers))
    assert statuses(world) == ["failed"] * 3


def test_batch_ids_are_the_same_for_the_same_records_only(world):
    world.land(users(25))
    one, two, three = ListTarget(), ListTarget(), ListTarget()
    world.push(mapping(), one)
    world.push(mapping(name="other"), two, run_id="r2")
    world.land([user(n, name="New" if n == 3 else f"Ada {n} Lovelace") for n in range(25)])
    world.push(mapping(name="third"), three, run_id="r3")
    assert len({*one.ids, *two.ids, *three.ids}) == 9


# --- broken off ----------------------------------------------------------------------------------


class Breaks:
    """Breaks before a batch; further batches work."""

    def __init__(self, at: int, error: Exception) -> None:
        self.left, self.error = at, error

    def __call__(self, batch: Batch) -> Any:
        self.left -= 1
        if self.left == -1:
            raise self.error
        return [Answer("added")] * len(batch)


@pytest.mark.parametrize("error", [AhaTargetError("Down."), ZeroDivisionError(), KeyboardInterrupt()])
def test_the_next_try_repeats_no_acknowledged_batch(world, error):
    world.land(users(35))
    first = ListTarget(Breaks(2, error))
    with pytest.raises(type(error)):
        world.push(mapping(), first)
    assert first.closed
    assert not first.finished
    summary = world.summary()
    assert (summary["ended"], summary["counts"]) == ("failed", {"added": 20, "failed": 15})
    second = ListTarget()
    summary = world.push(mapping(), second, try_number=2)
    assert (summary["ended"], summary["counts"]) == ("completed", {"added": 35})
    assert sorted(first.emails + second.emails) == sorted({row["sync_key"] for row in world.outcomes()})
    assert [row["try_number"] for row in world.outcomes()] == [1] * 20 + [2] * 15


def test_another_run_after_a_broken_one_sends_what_is_missing(world):
    world.land(users(35))
    with pytest.raises(AhaTargetError):
        world.push(mapping(), ListTarget(Breaks(2, AhaTargetError("Down."))))
    assert world.push(mapping(), ListTarget(), run_id="r2")["counts"] == {"added": 15, "unchanged": 20}


def test_a_run_that_comes_again_as_its_first_try_has_its_own_outcomes(world):
    world.land(users(30))
    world.push(mapping(), ListTarget())
    world.land([user(number, name="Changed") for number in range(30)])
    target = ListTarget()
    assert world.push(mapping(), target)["counts"] == {"added": 30}
    assert len(target.emails) == 30


def test_what_changed_between_two_tries_is_sent_again(world):
    world.land(users(15))
    with pytest.raises(AhaTargetError):
        world.push(mapping(), ListTarget(Breaks(1, AhaTargetError("Down."))))
    world.land([user(n, name="New" if n in (2, 12) else f"Ada {n} Lovelace") for n in range(15)])
    second = ListTarget()
    world.push(mapping(), second, try_number=2)
    assert second.emails == [f"ada{n}@example.com" for n in (2, 10, 11, 12, 13, 14)]


def test_a_run_that_is_cleared_keeps_its_outcomes(world):
    world.land(users(3))
    world.push(mapping(), ListTarget())
    again = ListTarget()
    assert world.push(mapping(), again, try_number=2)["counts"] == {"added": 3}
    assert again.batches == []


def test_a_stopped_task_keeps_what_was_acknowledged(world):
    from dataclasses import replace

    from airflow_provider_aha.push.mapping.spec import read_spec
    from airflow_provider_aha.push.push import PushRequest, push
    from airflow_provider_aha.record.run import Run

    world.land(users(35))
    target = ListTarget()
    request = PushRequest(
        world.location, "acme", "2026-08-01", read_spec(mapping()), target, Run("d", "r1", "t", 1, "ann")
    )
    with pytest.raises(AhaTargetError, match="stopped"):
        push(replace(request, stopped=lambda: len(target.batches) == 2))
    assert world.summary()["counts"] == {"added": 20, "failed": 15}


def test_a_target_that_takes_all_counts_once_it_is_complete(world):
    world.land(users(25))
    broken = ListTarget(Breaks(2, AhaTargetError("Down.")))
    broken.takes_all = True
    with pytest.raises(AhaTargetError):
        world.push(mapping(), broken)
    assert statuses(world) == ["failed"] * 25
    whole = ListTarget()
    whole.takes_all = True
    assert world.push(mapping(), whole, try_number=2)["counts"] == {"added": 25}
    assert len(whole.emails) == 25


# --- what is told --------------------------------------------------------------------------------


def test_neither_log_nor_summary_nor_error_names_anybody(world, caplog):
    caplog.set_level("DEBUG")
    world.land([user(1), user(2, email="SECRET"), user(3, name="SECRET")])
    fields = {"email": {**EMAIL, "transforms": ["email_domain"]}, "n": {"source": "name", "type": "integer"}}
    with pytest.raises(AhaGuardError) as caught:
        world.push(mapping(fields=fields), ListTarget())
    told = caplog.text + str(caught.value) + json.dumps(world.summary())
    for word in ("SECRET", "ada1", "Ada", "example.com"):
        assert word not in told


def test_a_snapshot_that_was_changed_is_not_pushed(world):
    world.land(users(3))
    (file,) = Path(world.location.path).glob("users/**/users.parquet")
    file.write_bytes(file.read_bytes() + b"x")
    target = ListTarget()
    with pytest.raises(AhaSnapshotError):
        world.push(mapping(), target)
    assert target.batches == []
    assert target.closed


def test_a_target_that_can_not_be_opened_is_closed(world):
    world.land(users(1))
    target = ListTarget()

    def refuse(spec: Any, *, dry_run: bool) -> None:
        raise AhaConfigurationError("It lacks a field.")

    target.open = refuse  # type: ignore[method-assign]
    with pytest.raises(AhaConfigurationError):
        world.push(mapping(), target)
    assert target.closed


def test_all_statuses_are_documented():
    page = (Path(__file__).parents[2] / "docs" / "push" / "index.md").read_text()
    table = page[page.index("| status | meaning |") :]
    assert [status for status in STATUSES if f"`{status}`" not in table] == []
