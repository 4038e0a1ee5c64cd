"""Evidence: one row per user with every column, readable by anybody, refused when it was cut short."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from airflow_provider_aha.access.decide.named import undo
from airflow_provider_aha.access.operations.user_fields import access_of, may_have_disabled
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaSnapshotError, AhaStorageError
from airflow_provider_aha.record.evidence import EVIDENCE, FILE, read_evidence, rows, write_evidence
from airflow_provider_aha.record.journal import ACKNOWLEDGED, AFTER_CRASH, NONE, PROVEN, UNANSWERED, History
from airflow_provider_aha.store.store import Store

# The contract with everybody who reads evidence, as the issue lists it.
COLUMNS = [
    "event_id",
    "account",
    "user_id",
    "operation",
    "object",
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
    "access",
    "wanted_json",
    "before_json",
    "after_json",
    "intent_at",
    "sent_at",
    "answered_at",
    "lands_by",
    "http_status",
    "request_id",
    "outcome",
    "proof",
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


def event(word: str | None, **facts: Any) -> dict[str, Any]:
    """Make an event as a journal reads it; without a word it is an intent."""
    known = {"event_id": "e", "intent": None, "proof": 0, "try_number": 1, "n": 1, "unique": "e"}
    return known | ({"outcome": word} if word else {}) | facts


def place(world: Any, run_id: str = "r1") -> Store:
    found: Store = world.location.within(f"{world.folder(run_id).path}/{FILE}")
    return found


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
        "left_at": "2026-03-02T00:00:00+01:00",
    }
    anywhere.carry_out(anywhere.decide([user_id], facts=facts, **target))
    (row,) = read_evidence(place(anywhere))
    expected = {
        **facts,
        "approved_at": "2026-03-10 02:40:00.000000Z",
        "account": "acme",
        "user_id": user_id,
        "operation": "user_fields",
        "object": "account",
        "email_at_decision": email,
        "class": "left",
        "rule": "gone",
        "detail": "left on 2026-03-01",
        "leave_date": "2026-03-01",
        "left_at": "2026-03-01 23:00:00.000000Z",
        "access": "taken",
        "wanted_json": '{"enabled": false}',
        "proof": 4,
        "requested_by": "ann",
        "actor_user_id": anywhere.owner,
        "http_status": 200,
        "outcome": "changed",
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
    outcome = event("skipped")
    found = rows({user_id: History(outcomes=[outcome]) for user_id in ("10", "9", "100")})
    assert len(found) == 3
    assert list(found[0]) == EVIDENCE.names
    with_ids = rows({one: History(outcomes=[{**outcome, "user_id": one}]) for one in ("10", "9", "100")})
    assert [row["user_id"] for row in with_ids] == ["9", "10", "100"]


def test_an_intent_without_an_outcome_is_unknown():
    (row,) = rows({"1": History(intents=[event(None, intent="e", intent_at="2026-01-01T00:00:00Z")])})
    assert (row["outcome"], row["proof"], row["event_id"]) == ("unknown", UNANSWERED, "e")
    assert row["reason"] == "an intent without an outcome"


def test_a_row_is_what_proves_the_most_and_says_what_came_after_it():
    lost = event("failed", intent="a", proof=UNANSWERED, reason="no answer", http_status=503)
    looked = event("blocked", try_number=2, reason="owner of the API key")
    for outcomes in ([lost, looked], [looked, lost]):
        (row,) = rows({"1": History(outcomes=outcomes)})
        assert (row["outcome"], row["proof"], row["http_status"]) == ("failed", UNANSWERED, 503)
        assert row["reason"] == "no answer; after that: blocked, owner of the API key"
    proven = event("changed", intent="b", proof=PROVEN, reason="")
    (row,) = rows({"1": History(outcomes=[looked, proven, lost])})
    assert (row["outcome"], row["proof"], row["reason"]) == ("changed", PROVEN, "")


@pytest.mark.parametrize("moment", ["soon", "2026-13-01T00:00:00Z", "2026-03-01", 7])
def test_an_odd_moment_costs_its_own_cell_and_not_the_evidence_of_all_others(local, moment):
    found = rows({"1": History(outcomes=[event("skipped", answered_at=moment, left_at=moment)])})
    assert (found[0]["answered_at"], found[0]["left_at"]) == (None, None)
    where = local.within(FILE)
    write_evidence(local, FILE, found)
    assert [row["outcome"] for row in read_evidence(where)] == ["skipped"]


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
        read_evidence(Store(local.fs, f"{tmp_path}/x.parquet", "x"))


def test_missing_evidence_is_told(location):
    with pytest.raises(AhaSnapshotError, match="no evidence at"):
        read_evidence(Store(location.fs, f"{location.path}/none.parquet", "none"))


def test_a_folder_is_no_evidence(local, tmp_path):
    with pytest.raises(AhaStorageError):
        read_evidence(Store(local.fs, str(tmp_path), "folder"))


def test_evidence_is_replaced_whole(world):
    where = place(world)
    write_evidence(where, "", [])
    write_evidence(where, "", [dict.fromkeys(EVIDENCE.names) | {"user_id": "1"}])
    assert [row["user_id"] for row in read_evidence(where)] == ["1"]
    assert [Path(name).name for name in world.location.files()] == [FILE]


# --- what an undo makes of it --------------------------------------------------------------------

ROLES = {"administer_account": False, "administer_billing": True, "administer_configuration": False}
BEFORE = {"enabled": True, "email": "a@b.c", "administrator": True, "administrator_roles": ROLES}


def evidence_row(proof: int, wanted: Any = None, before: Any = None, **facts: Any) -> dict[str, Any]:
    wanted = {"enabled": False} if wanted is None else wanted
    row = dict.fromkeys(EVIDENCE.names) | {
        "account": "acme",
        "event_id": "e",
        "user_id": "1",
        "outcome": "changed",
        "proof": proof,
        "access": access_of(wanted) or "none",
        "wanted_json": json.dumps(wanted),
        "before_json": json.dumps(BEFORE if before is None else before),
        "after_json": json.dumps({"updated_at": "2026-03-01T00:00:00Z"}),
    }
    return row | facts


def undone(world: Any, row: dict[str, Any]) -> Any:
    (target,) = undo(world.client, [row], facts={}).targets
    return target


@pytest.mark.parametrize(
    ("row", "disabled"),
    [
        *((evidence_row(proof), True) for proof in (UNANSWERED, ACKNOWLEDGED, AFTER_CRASH, PROVEN)),
        (evidence_row(NONE), False),
        (evidence_row(PROVEN, {"enabled": True}), False),
        (evidence_row(PROVEN, {"email": "x@b.c"}), False),
        (evidence_row(UNANSWERED, before={"enabled": False}), False),
        (evidence_row(UNANSWERED, before_json=None), False),
    ],
)
def test_what_a_run_may_have_done_is_told_by_proof_and_fields_not_by_a_word(row, disabled):
    assert may_have_disabled(row) is disabled


@pytest.mark.parametrize(
    ("wanted", "before", "back"),
    [
        ({"enabled": False}, {}, {"enabled": True}),
        # It would give all three rights, of which one was held.
        ({"administrator": False}, {}, {"administrator_roles": {"administer_billing": True}}),
        (
            {"administrator_roles": {"administer_billing": False, "administer_account": False}},
            {},
            {"administrator_roles": {"administer_billing": True}},
        ),
        ({"administrator_roles": {"administer_account": False}, "enabled": False}, {}, {"enabled": True}),
        ({"email": "x@b.c"}, {}, {"email": "a@b.c"}),
        ({"email": "A@B.C", "enabled": False}, {}, {"enabled": True}),
        ({"enabled": False, "first_name": "Zoe"}, {}, {"enabled": True}),
        ({"enabled": False, "administrator": True}, {"administrator": False}, {"enabled": True}),
        ({"enabled": False, "email": "x@b.c"}, {"enabled": False}, {"email": "a@b.c"}),
    ],
)
def test_what_was_taken_is_given_back_field_by_field_and_no_more(world, wanted, before, back):
    target = undone(world, evidence_row(PROVEN, wanted, BEFORE | before))
    assert (target.changes, target.not_ours) == (back, None)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (evidence_row(UNANSWERED, outcome="failed"), "nothing proves that the run changed the user .*failed"),
        (evidence_row(UNANSWERED, outcome="unknown", before_json=None, wanted_json=None, access=None), "nothing"),
        (evidence_row(PROVEN, after_json="{}"), "didn't say when"),
        (evidence_row(AFTER_CRASH, after_json=None), "didn't say when"),
        (
            evidence_row(PROVEN, {"administrator": False}, {"administrator": True}),
            "can be given back: administrator .Aha! never showed",
        ),
    ],
)
def test_what_cannot_be_told_is_named_and_left(world, row, reason):
    target = undone(world, row)
    assert re.match(f".*{reason}", target.not_ours)


def test_what_was_acknowledged_only_needs_no_stamp_but_the_undos_own_read(world):
    target = undone(world, evidence_row(ACKNOWLEDGED, after_json="{}"))
    assert (target.changes, target.not_ours, target.updated_at) == ({"enabled": True}, None, None)


def test_evidence_of_another_account_is_not_undone(world):
    with pytest.raises(AhaConfigurationError, match="of account other, the connection is of acme"):
        undo(world.client, [evidence_row(PROVEN, account="other")], facts={})


@pytest.mark.parametrize(
    "found",
    [
        [],
        [evidence_row(NONE)],
        [evidence_row(PROVEN, {"enabled": True}, {"enabled": False})],
        [evidence_row(PROVEN, {"first_name": "Zoe"})],
        [evidence_row(PROVEN, before={"enabled": False})],
    ],
)
def test_there_may_be_nothing_to_undo(world, found):
    with pytest.raises(AhaConfigurationError, match="nobody's access was taken"):
        undo(world.client, found, facts={})


@pytest.mark.parametrize(
    ("column", "body"),
    [
        *(
            (column, body)
            for column in ("before_json", "after_json", "wanted_json")
            for body in ("{", "[1]", '"x"')
        ),
        ("before_json", '{"administrator_roles": [1]}'),
        ("before_json", '{"administrator_roles": "x"}'),
    ],
)
def test_evidence_that_was_written_over_is_not_undone(world, column, body):
    with pytest.raises(AhaSnapshotError, match="changed"):
        undo(world.client, [evidence_row(PROVEN, {"administrator": False}, **{column: body})], facts={})
    assert world.server.requests == []


def test_an_update_that_disabled_somebody_is_undone(world):
    user_id = world.people[0]
    world.carry_out(world.decide([user_id], {"enabled": False, "first_name": "Zoe"}, "update"))
    decision = undo(world.client, read_evidence(place(world)), facts={})
    assert world.outcomes(decision, "undo") == {user_id: "changed"}
