"""Evidence: one row per user with every column, readable by anybody, refused when it was cut short."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from airflow_provider_aha.access.decide.named import undo
from airflow_provider_aha.access.operations.user_fields import may_have_disabled
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaSnapshotError, AhaStorageError
from airflow_provider_aha.record.evidence import EVIDENCE, FILE, read_evidence, rows, write_evidence
from airflow_provider_aha.record.journal import History
from airflow_provider_aha.store.store import Location

# The contract with everybody who reads evidence, as the issue lists it.
COLUMNS = [
    "event_id",
    "account",
    "user_id",
    "email_at_decision",
    "class",
    "rule",
    "detail",
    "plan_sha256",
    "snapshot_sha256",
    "roster_sha256",
    "exclusions_sha256",
    "requested_by",
    "approved_by_id",
    "approved_by_name",
    "approved_at",
    "approval_mode",
    "ticket",
    "actor_user_id",
    "before_json",
    "after_json",
    "intent_at",
    "sent_at",
    "answered_at",
    "http_status",
    "request_id",
    "outcome",
    "reason",
    "verified_by",
    "leave_date",
    "left_at",
    "hours_to_disable",
    "dag_id",
    "run_id",
    "try_number",
    "provider_version",
]


def place(world: Any, run_id: str = "r1") -> Location:
    path = f"{world.folder(run_id).path}/{FILE}"
    return Location(world.location.fs, path, path)


def test_the_columns_are_the_contract():
    assert EVIDENCE.names == COLUMNS


def test_every_fact_of_a_deactivation_is_kept(anywhere):
    user_id = anywhere.people[0]
    email = anywhere.user(user_id)["email"]
    facts = {
        "plan_sha256": "aa",
        "snapshot_sha256": "bb",
        "roster_sha256": "cc",
        "exclusions_sha256": "dd",
        "approved_by_id": "7",
        "approved_by_name": "bob",
        "approved_at": "2026-03-10T03:40:00+01:00",
        "approval_mode": "person",
        "ticket": "SEC-1",
    }
    target = {
        "user_class": "left",
        "rule": "gone",
        "detail": "left on 2026-03-01",
        "leave_date": "2026-03-01",
        "left_at": "2026-03-02T00:00:00Z",
    }
    anywhere.carry_out(anywhere.decide([user_id], facts=facts, **target))
    (row,) = read_evidence(place(anywhere))
    expected = {
        **facts,
        "approved_at": "2026-03-10 02:40:00.000000Z",
        "account": "acme",
        "user_id": user_id,
        "email_at_decision": email,
        "class": "left",
        "rule": "gone",
        "detail": "left on 2026-03-01",
        "leave_date": "2026-03-01",
        "left_at": "2026-03-02 00:00:00.000000Z",
        "requested_by": "ann",
        "actor_user_id": anywhere.owner,
        "http_status": 200,
        "outcome": "deactivated",
        "verified_by": "answer",
        "dag_id": "d",
        "run_id": "r1",
        "try_number": 1,
    }
    assert {name: row[name] for name in expected} == expected
    assert row["intent_at"] <= row["sent_at"] <= row["answered_at"]
    assert len(row["event_id"]) == 32
    before, after = json.loads(row["before_json"]), json.loads(row["after_json"])
    assert (before["enabled"], after["enabled"], before["email"]) == (True, False, email)
    assert row["hours_to_disable"] > 24
    assert row["provider_version"]


def test_times_and_numbers_are_typed(world):
    world.carry_out(world.decide(world.people[:1]))
    table = pq.ParquetFile(place(world).path).read()
    assert table.schema.equals(EVIDENCE)
    assert table.column("answered_at").type.tz == "UTC"


def test_a_run_without_users_has_evidence_without_rows(world):
    assert world.carry_out(world.decide([])) == {}
    assert read_evidence(place(world)) == []


def test_users_are_in_the_order_of_their_numbers():
    outcome = {"event_id": "e", "outcome": "skipped", "answered_at": "2026-01-01T00:00:00Z"}
    found = rows({user_id: History(outcomes=[outcome]) for user_id in ("10", "9", "100")})
    assert len(found) == 3
    assert list(found[0]) == EVIDENCE.names
    with_ids = rows({one: History(outcomes=[{**outcome, "user_id": one}]) for one in ("10", "9", "100")})
    assert [row["user_id"] for row in with_ids] == ["9", "10", "100"]


def test_an_intent_without_an_outcome_is_unknown():
    intent = {"event_id": "e", "user_id": "1", "intent_at": "2026-01-01T00:00:00Z"}
    (row,) = rows({"1": History(intents=[intent])})
    assert (row["outcome"], row["event_id"]) == ("unknown", "e")


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_evidence_cut_short_is_refused(world, keep):
    world.carry_out(world.decide(world.people[:3]))
    path = Path(place(world).path)
    body = path.read_bytes()
    path.write_bytes(body[: int(len(body) * keep)])
    with pytest.raises(AhaSnapshotError, match="cut short or changed"):
        read_evidence(place(world))


def test_evidence_with_broken_pages_is_refused(world):
    world.carry_out(world.decide(world.people[:3]))
    path = Path(place(world).path)
    body = path.read_bytes()
    path.write_bytes(body[:4] + b"\xff" * 4000 + body[4004:])
    with pytest.raises(AhaSnapshotError, match="cut short or changed"):
        read_evidence(place(world))


def test_another_parquet_file_is_no_evidence(local, tmp_path):
    import pyarrow as pa

    pq.write_table(pa.table({"id": ["1"]}), tmp_path / "x.parquet")
    with pytest.raises(AhaSnapshotError, match="not evidence"):
        read_evidence(Location(local.fs, f"{tmp_path}/x.parquet", "x"))


def test_missing_evidence_is_told(location):
    with pytest.raises(AhaSnapshotError, match="no evidence at"):
        read_evidence(Location(location.fs, f"{location.path}/none.parquet", "none"))


def test_a_folder_is_no_evidence(local, tmp_path):
    with pytest.raises(AhaStorageError):
        read_evidence(Location(local.fs, str(tmp_path), "folder"))


def test_evidence_is_replaced_whole(world):
    where = place(world)
    write_evidence(where.fs, where.path, [])
    write_evidence(where.fs, where.path, [dict.fromkeys(EVIDENCE.names) | {"user_id": "1"}])
    assert [row["user_id"] for row in read_evidence(where)] == ["1"]
    assert [Path(path).name for path in where.fs.find(world.location.path)] == [FILE]


# --- what an undo makes of it --------------------------------------------------------------------


def evidence_row(outcome: str, **facts: Any) -> dict[str, Any]:
    before = {"enabled": True, "email": "a@b.c"}
    row = dict.fromkeys(EVIDENCE.names) | {
        "account": "acme",
        "event_id": "e",
        "user_id": "1",
        "outcome": outcome,
        "before_json": json.dumps(before),
        "intent_at": "2026-01-01",
    }
    return row | facts


@pytest.mark.parametrize(
    ("row", "disabled"),
    [
        (evidence_row("deactivated"), True),
        (evidence_row("disabled_after_crash", before_json=None, intent_at=None), True),
        (evidence_row("unknown"), True),
        (evidence_row("unverified", after_json="{}"), True),
        (evidence_row("updated", after_json='{"enabled": false}'), True),
        (evidence_row("updated", after_json='{"enabled": true}'), False),
        (evidence_row("unverified", after_json='{"enabled": true}'), False),
        (evidence_row("failed"), True),
        (evidence_row("failed", http_status="502"), True),
        (evidence_row("failed", http_status=422), False),
        (evidence_row("failed", http_status="200", after_json='{"enabled": true}'), False),
        (evidence_row("failed", intent_at=None), False),
        (evidence_row("unknown", before_json='{"enabled": false}'), False),
        (evidence_row("reactivated", before_json='{"enabled": false}'), False),
        *((evidence_row(word), False) for word in ("unchanged", "skipped", "blocked", "dry_run")),
    ],
)
def test_an_undo_looks_at_everybody_whom_the_run_may_have_disabled(row, disabled):
    assert may_have_disabled(row) is disabled


def test_evidence_of_another_account_is_not_undone(world):
    with pytest.raises(AhaConfigurationError, match="of account other, the connection is of acme"):
        undo(world.client, [evidence_row("deactivated", account="other")], facts={})


@pytest.mark.parametrize("found", [[], [evidence_row("skipped")]])
def test_there_may_be_nothing_to_undo(world, found):
    with pytest.raises(AhaConfigurationError, match="nobody was disabled"):
        undo(world.client, found, facts={})


def test_evidence_that_was_written_over_is_not_undone(world):
    with pytest.raises(AhaSnapshotError, match="changed"):
        undo(world.client, [evidence_row("failed", before_json="{")], facts={})
    assert world.server.requests == []


def test_an_update_that_disabled_somebody_is_undone(world):
    user_id = world.people[0]
    world.carry_out(world.decide([user_id], {"enabled": False, "first_name": "Zoe"}, "update"))
    decision = undo(world.client, read_evidence(place(world)), facts={})
    assert world.outcomes(decision, "undo") == {user_id: "reactivated"}
