"""Everything that parses, given what nobody wrote: it is read, or refused by an error of ours, and nothing else.

Each parser gets what is right with something of it replaced, cut or taken away: that goes deeper than noise does.
"""

import copy
import io
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_aha.access.operations.user_fields import may_have_disabled
from airflow_provider_aha.access.plan.approval import check_approval
from airflow_provider_aha.access.plan.plan import PLAN_VERSION, Plan, decision_of, load_plan
from airflow_provider_aha.api.client import _user
from airflow_provider_aha.api.pages import JsonPage
from airflow_provider_aha.api.rest import UNDECODABLE
from airflow_provider_aha.datasets.snapshot import Snapshot
from airflow_provider_aha.datasets.users import Normalizer, UsersPage
from airflow_provider_aha.exceptions import AhaError
from airflow_provider_aha.lists.exclusions import load_exclusions
from airflow_provider_aha.lists.roster import RosterSpec, load_roster
from airflow_provider_aha.push.mapping.spec import read_spec
from airflow_provider_aha.push.targets.oomnitza import people as oomnitza
from airflow_provider_aha.record.check import verify
from airflow_provider_aha.record.evidence import EVIDENCE, read_evidence, rows, write_evidence
from airflow_provider_aha.record.journal import histories
from airflow_provider_aha.review.records import find_review, read_population
from airflow_provider_aha.review.submission import check_lines, read_lines
from airflow_provider_aha.sandbox.testing import Account
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import Store, sha256, to_json
from tests.raw import raw

NOW = datetime(2026, 11, 20, 6, 0, tzinfo=UTC)
DEEP = b'{"a":' * 20_000
quickly = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
    | st.sampled_from(
        ["", "None", "../../x", "=cmd()", "<script>", "2026-11-20T06:00:00Z", "0001-01-01T00:00:00+23:59"]
    )
)
values = st.recursive(
    scalars, lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=8), part, max_size=3)
)


@st.composite
def spoiled(draw: Any, right: Any) -> Any:
    """Draw an object with up to three places of it replaced or taken away."""
    found = copy.deepcopy(right)
    for _ in range(draw(st.integers(1, 3))):
        at: Any = found
        while isinstance(at, (dict, list)) and at:
            key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
            inner = at[key]
            if not (isinstance(inner, (dict, list)) and inner) or draw(st.integers(0, 3)) == 0:
                if draw(st.booleans()):
                    at[key] = draw(values)
                else:
                    del at[key]
                break
            at = inner
    return found


@st.composite
def cut(draw: Any, right: bytes) -> bytes:
    """Draw bytes of which some were replaced, taken away, or are not there yet."""
    found = bytearray(right)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(found)))
        found[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(found[: draw(st.integers(0, len(found)))] if draw(st.integers(0, 4)) == 0 else found)


def stored(content: bytes, name: str = "file") -> Store:
    fs = MemoryFileSystem(skip_instance_cache=True)
    fs.store = {}
    fs.pseudo_dirs = [""]
    fs.pipe_file(f"/{name}", content)
    return Store(fs, f"/{name}", f"memory:///{name}")


# --- what Aha! sends -------------------------------------------------------------------------------------


def _page() -> dict[str, Any]:
    users = list(Account.generate(3, as_of=NOW).users())
    return {"users": users, "pagination": {"total_records": 3, "total_pages": 1, "current_page": 1}}


PAGE = _page()


def land(body: bytes) -> None:
    try:
        pages = UsersPage.several([body])
    except UNDECODABLE:
        return
    Normalizer(subdomain="acme", connection_id="c", synced_at=NOW, workspace_names={}).tables(pages)


@quickly
@given(spoiled(PAGE))
def test_a_page_of_users_is_landed_or_fetched_again(page: Any) -> None:
    land(json.dumps(page).encode())


@quickly
@given(cut(json.dumps(PAGE).encode()))
@example(DEEP)
@example(b'{"users":' + b"[" * 20_000)
def test_bytes_of_a_page_are_landed_or_fetched_again(body: bytes) -> None:
    land(body)
    for decode in (lambda body: JsonPage(body, "users"), _user):
        with suppress(*UNDECODABLE):
            decode(body)


# --- mappings --------------------------------------------------------------------------------------------

SPECS = [
    yaml.safe_load(path.read_text())
    for path in (Path(oomnitza.__file__).parents[2] / "mapping" / "ready").glob("*.yaml")
]


@quickly
@given(st.sampled_from(SPECS).flatmap(spoiled))
def test_a_mapping_is_read_or_its_faults_are_told(spec: Any) -> None:
    with suppress(AhaError):
        read_spec(spec, {"role": 25})


@quickly
@given(st.sampled_from([yaml.safe_dump(spec) for spec in SPECS]).flatmap(lambda text: cut(text.encode())))
@example(b"a: &a [*a]")
@example(b"&a [&b [&c [*a, *b], *a, *b], *a, *b]")
@example(b"!!python/object/apply:os.system ['true']")
@example(b"[" * 20_000)
def test_text_of_a_mapping_is_read_or_its_faults_are_told(body: bytes) -> None:
    with suppress(AhaError):
        read_spec(body.decode(errors="replace"), {"role": 25})


# --- plans, approvals, manifests -------------------------------------------------------------------------

DECISIONS = io.BytesIO()
pq.write_table(pa.table({"user_id": ["1"]}), DECISIONS)
ROW = {
    "user_id": "11", "name": "A", "email": "a@example.com", "wanted": {"enabled": False},
    "before": {"enabled": True}, "class": "unused", "rule": "r", "detail": "d", "accessed_at": None,
    "created_at": "2026-01-01T00:00:00Z", "is_administrator": False, "is_paid_seat": True, "first_flagged_at": None,
    "leave_date": "2026-11-01", "left_at": None, "seen_after_leave": False, "rights": [],
    "roles": [{"role": "Owner", "workspaces": ["W1"]}], "sole_owner_of": ["W1"], "updated_at": None,
    "reviewer": None, "note": None, "asked_because": None, "operation": "user_fields", "object": "account",
    "object_name": None,
}  # fmt: skip


def plan_of(header: dict[str, Any]) -> Any:
    location = stored(to_json(header), "plan.json")
    location.fs.pipe_file("/decisions.parquet", DECISIONS.getvalue())
    plan = load_plan(location)
    return decision_of(plan, account="acme", strike_out={}, facts={}, now=NOW)


PLAN = {
    "plan_version": PLAN_VERSION,
    "account": "acme",
    "sandbox": True,
    "created_at": NOW.isoformat(),
    "as_of": NOW.isoformat(),
    "action": "deactivate",
    "reason": None,
    "ticket": "T-1",
    "asked_by": None,
    "snapshot": {"day": "2026-11-20", "sha256": {"users": "ab"}},
    "policy": {},
    "rosters": [],
    "roster_known": None,
    "policy_max": 5,
    "blocked": [],
    "unresolved": [
        {"rule": "r", "asked": "1", "reason": "unknown", "ids": ["1"], "must_fix": True, "detail": None}
    ],
    "notes": [],
    "protects_nobody": [],
    "caps": None,
    "roster_sha256": None,
    "exclusions_sha256": None,
    "enabled_users": 50,
    "administrators": [{"user_id": "12", "administers_account": True, "administers_billing": True}],
    "workspace_owners": {},
    "owners": [],
    "settings": {},
    "changed": None,
    "counts": {"planned": {"unused": 1, "left": 0, "named": 0}},
    "decisions": "decisions.parquet",
    "files": {"decisions.parquet": sha256(DECISIONS.getvalue())},
    "rows": [ROW],
}


@quickly
@given(spoiled(PLAN))
def test_a_plan_is_carried_out_as_it_is_or_refused(plan: Any) -> None:
    with suppress(AhaError):
        plan_of(plan)


@quickly
@given(cut(to_json(PLAN)))
@example(DEEP)
def test_bytes_of_a_plan_are_read_or_refused(body: bytes) -> None:
    location = stored(body, "plan.json")
    with suppress(AhaError):
        load_plan(location)


APPROVAL = {
    "choice": "Approve",
    "plan_sha256": "ab",
    "responded_at": NOW.isoformat(),
    "responded_by_id": "7",
    "responded_by_name": "bob",
    "approvers": ["bob"],
    "mode": "person",
}
APPROVED = Plan("/plan.json", "ab", {"asked_by": None}, ())


@quickly
@given(spoiled(APPROVAL))
def test_an_approval_that_was_written_by_somebody_else_approves_nothing_else(record: Any) -> None:
    with suppress(AhaError):
        check_approval(record, plan=APPROVED, approvers=[], requested_by="ann", now=NOW, anonymous_counts=False)
        assert (record["choice"], record["plan_sha256"]) == ("Approve", "ab")


MANIFEST = {
    "account": "acme",
    "snapshot": "2026-11-20",
    "files": [{"dataset": "users", "path": "x", "sha256": "y"}],
}


@quickly
@given(spoiled(MANIFEST).map(to_json) | cut(to_json(MANIFEST)))
@example(DEEP)
def test_a_manifest_is_read_or_refused(body: bytes) -> None:
    location = stored(body, Layout("acme").manifest("2026-11-20"))
    with suppress(AhaError):
        Snapshot.of(Store(location.fs, "", "memory://"), "acme", "2026-11-20")


# --- evidence and its journal ----------------------------------------------------------------------------

EVENT = {
    "event_id": "e",
    "user_id": "11",
    "intent_at": "2026-11-20T06:00:00.000000Z",
    "before_json": '{"enabled": true}',
    "outcome": "changed",
    "answered_at": "2026-11-20T06:00:01.000000Z",
    "after_json": None,
    "http_status": 200,
    "account": "acme",
    "unsettled": False,
}


@quickly
@given(st.lists(spoiled(EVENT), min_size=1, max_size=3), st.booleans())
def test_a_journal_of_whatever_kind_becomes_evidence_or_is_refused(events: list[Any], intents: bool) -> None:
    kind = "intent" if intents else "outcome"
    location = stored(b"", "events/x")
    for number, event in enumerate(events):
        location.fs.pipe_file(f"/events/u11.account/{number + 1}-{kind}-{number}a.json", to_json(event))
    with suppress(AhaError):
        found = rows(histories(Store(location.fs, "", "memory://"), "events"))
        assert all(row.keys() == set(EVIDENCE.names) for row in found)


def _evidence() -> bytes:
    location = stored(b"", "x")
    return write_evidence(
        Store(location.fs, "", "memory://"),
        "evidence.parquet",
        [{name: EVENT.get(name) for name in EVIDENCE.names}],
    )


EVIDENCE_FILE = _evidence()


@quickly
@given(cut(EVIDENCE_FILE))
def test_bytes_of_evidence_are_read_or_refused(body: bytes) -> None:
    with suppress(AhaError, ValueError):
        for row in read_evidence(stored(body, "evidence.parquet")):
            may_have_disabled(row)


@quickly
@given(spoiled(EVENT), st.binary(max_size=40))
def test_verify_names_what_it_finds_and_never_breaks(event: Any, noise: bytes) -> None:
    fs = stored(b"").fs
    account = f"/base/{Layout('acme').access}"
    fs.pipe_file(f"{account}/manifests/00000001.json", noise)
    fs.pipe_file(f"{account}/manifests/00000002.json", to_json(event))
    fs.pipe_file(f"{account}/manifests/anchor.json", to_json(event))
    fs.pipe_file(f"{account}/dag=d/run=r/task=t/events/u11.account/1-intent-a.json", noise)
    assert verify(Store(fs, "/base", "memory:///base"), "acme")


# --- tables of people ------------------------------------------------------------------------------------

EXCLUSIONS = b"id,email,pattern,reason,owner,expires_on\n11,,,ceo,ann,2027-01-01\n,a@example.com,,x,bob,\n"
ROSTER = b"nr,mail,end\n1,a@example.com,2026-11-01\n2,b@example.com;c@example.com,\n3,d@example.com,\n"
REVIEW = (
    b"review_id,population_sha256,row_key,decision,reviewer,note\n"
    b"2026-Q4,ab,u11.account,keep,rita,\n2026-Q4,ab,u12.account,revoke_account,rita,left\n"
)


@quickly
@given(cut(EXCLUSIONS))
def test_an_exclusion_file_is_read_or_refused(body: bytes) -> None:
    with suppress(AhaError):
        load_exclusions(stored(body, "exclusions.csv"))


@quickly
@given(cut(ROSTER))
def test_a_roster_is_read_or_refused(body: bytes) -> None:
    (spec,) = RosterSpec.read_all(
        {
            "path": "/roster.csv",
            "key": "nr",
            "emails": ["mail"],
            "domains": ["example.com"],
            "min_rows": 1,
            "end_date": "end",
        }
    )
    with suppress(AhaError):
        load_roster(spec, stored(body, "roster.csv"))


@quickly
@given(cut(REVIEW))
@example(REVIEW.replace(b"keep", b"k" * 200_000))
@example(b"\xff\xfe" + REVIEW)
@example(b"\x00")
def test_a_file_of_decisions_is_read_or_refused(body: bytes) -> None:
    population: dict[str, dict[str, Any]] = {
        f"u{number}.account": {"row_key": f"u{number}.account", "user_id": str(number)} for number in (11, 12)
    }
    with suppress(AhaError):
        lines, _, _ = read_lines(body)
        for row in population.values():
            row.update(kind="account", user_email="a@example.com", user_name="A", workspace_id=None)
        check_lines(lines, population, "ann")


RECORD = {
    "review_version": 1,
    "account": "acme",
    "review_id": "2026-Q4",
    "created_at": NOW.isoformat(),
    "files": {"population": {"name": "population.parquet", "sha256": sha256(DECISIONS.getvalue())}},
}


@quickly
@given(spoiled(RECORD), spoiled(RECORD))
def test_records_of_a_review_are_read_or_refused(record: Any, submission: Any) -> None:
    base = Store(stored(b"").fs, "/base", "memory:///base")
    folder = Layout("acme").review("2026-Q4")
    raw(base).pipe_file(f"{folder}/review.json", to_json(record))
    raw(base).pipe_file(f"{folder}/submission.json", to_json(submission))
    raw(base).pipe_file(f"{folder}/population.parquet", DECISIONS.getvalue())
    with suppress(AhaError):
        review = find_review(base, "acme", "2026-Q4")
        assert review is not None
        read_population(base, review)


def test_what_is_right_is_read() -> None:
    """Else nothing above reaches what lies behind the first check."""
    assert [target.user_id for target in plan_of(PLAN).targets] == ["11"]
    assert check_approval(
        APPROVAL, plan=APPROVED, approvers=[], requested_by="ann", now=NOW, anonymous_counts=False
    )
    assert len(read_evidence(stored(EVIDENCE_FILE, "evidence.parquet"))) == 1
    assert len(load_exclusions(stored(EXCLUSIONS, "exclusions.csv")).rows) == 2
    assert len(read_lines(REVIEW)[0]) == 2
    assert all(read_spec(spec, {"role": 25}) for spec in SPECS)
