"""One crawl lands any of the datasets, all agreeing with each other, with a manifest that proves it."""

import hashlib
import json
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.datasets import extract as extract_module
from airflow_provider_aha.datasets.extract import extract, read_tables
from airflow_provider_aha.datasets.names import DATASETS
from airflow_provider_aha.datasets.schemas import BY_DATASET, SCHEMA_VERSION
from airflow_provider_aha.datasets.snapshot import Snapshot, snapshot_days
from airflow_provider_aha.exceptions import (
    AhaAuthenticationError,
    AhaConfigurationError,
    AhaError,
    AhaIncompleteReadError,
    AhaStorageError,
)
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import Store
from airflow_provider_aha.version import package_version
from tests.datasets.conftest import NOW, Connect, page, read, role, user
from tests.datasets.oracle import expect

KEYS = [
    "account",
    "host",
    "sandbox",
    "connection_id",
    "key_owner_id",
    "query",
    "snapshot",
    "started_at",
    "finished_at",
    "total_records_first",
    "total_records_last",
    "rows",
    "distinct_ids",
    "duplicates_removed",
    "pages",
    "rereads",
    "requests",
    "absent_fields",
    "texts_repaired",
    "workspaces_unnamed",
    "visits_lost",
    "provider_version",
    "schema_version",
    "files",
]


def run(client: Any, base: Store, datasets: Any = DATASETS, now: datetime = NOW) -> dict[str, Any]:
    return extract(client, base, datasets=datasets, connection_id="aha_default", now=lambda: now)


def tree(base: Store) -> dict[str, bytes]:
    root = Path(base.path)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only temporary space of the test."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract_module, "_PAGES_PER_GROUP", 2)


# --- what lands -----------------------------------------------------------------------------------


def test_a_whole_account_lands_as_it_is(shared_sandbox, connect: Connect, base: Store, small_groups: None):
    account = shared_sandbox.account
    names = {place.id: place.name for place in account.workspaces if place.listed and not place.team}
    with connect(shared_sandbox, page_size=60) as client:
        manifest = run(client, base)
    expected = expect(
        list(account.users()), subdomain="sandbox", connection_id="aha_default", synced_at=NOW, names=names
    )
    assert read(manifest, "users").to_pylist() == expected.users
    assert read(manifest, "user_roles").to_pylist() == expected.roles
    assert manifest["workspaces_unnamed"] == len(expected.unnamed)
    assert manifest["duplicates_removed"] == expected.duplicates
    keys = ("user_id", "role_kind", "role_id")
    found, wanted = (
        {tuple(row[key] for key in keys): row for row in rows}
        for rows in (read(manifest, "user_role_summary").to_pylist(), expected.summary)
    )
    assert found == wanted
    with pq.ParquetFile(manifest["files"][0]["path"]) as file:
        sizes = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    assert sizes == [120, 120, 120, 90]


def test_the_datasets_agree_with_each_other(shared_sandbox, connect: Connect, base: Store):
    with connect(shared_sandbox) as client:
        manifest = run(client, base)
    users, roles, summary = (read(manifest, name).to_pylist() for name in DATASETS[:3])
    emails = {row["id"]: row["email"] for row in users}
    assert all(emails[row["user_id"]] == row["user_email"] for row in (*roles, *summary))
    granted = Counter(
        user_id for user_id, _ in {(r["user_id"], r["workspace_id"]) for r in roles if r["role"] != "none"}
    )
    assert {row["id"]: row["workspace_count"] for row in users} == {user_id: granted[user_id] for user_id in emails}
    assert sum(row["workspace_count"] for row in summary) == len(roles)
    assert len({row["synced_at"] for row in (*users, *roles)}) == 1


@pytest.mark.parametrize(
    "datasets", [("users",), ("user_roles", "user_role_summary"), ("user_changes",), ("user_changes", "users")]
)
def test_only_the_chosen_datasets_land(shared_sandbox, connect: Connect, base: Store, datasets: tuple[str, ...]):
    with connect(shared_sandbox) as client:
        manifest = run(client, base, datasets)
    landed = [name for name in DATASETS if name in datasets]
    assert [file["dataset"] for file in manifest["files"]] == landed
    assert {path.split("/")[0] for path in tree(base)} == {*datasets, "manifests"}
    for name in landed:
        assert read(manifest, name).schema == BY_DATASET[name]


@pytest.mark.parametrize(
    ("datasets", "found"),
    [((), "there is none"), (("users", "user"), r"no\. 2 \(did you mean users\?\)"), (["x"], r"no\. 1")],
)
def test_unknown_datasets_are_refused_before_any_request(
    shared_sandbox, connect: Connect, base: Store, datasets: Any, found: str
):
    with connect(shared_sandbox) as client, pytest.raises(AhaConfigurationError, match=f"{found}\\.$"):
        run(client, base, datasets)
    assert shared_sandbox.requests == []


def test_users_without_email_or_name_land_as_null(aha_sandbox, connect: Connect, base: Store):
    for key in ("email", "name"):
        aha_sandbox.set_fault("null_value", key=key)
    with connect(aha_sandbox) as client:
        manifest = run(client, base)
    assert manifest["absent_fields"] == {}
    for column in ("email", "name"):
        assert read(manifest, "users")[column].null_count == 500
    assert read(manifest, "user_roles")["user_email"].null_count == manifest["files"][1]["rows"]


def test_an_account_whose_users_have_no_roles_lands_with_empty_roles(serve, connect: Connect, base: Store):
    answers = {"/users": page([user("1"), user("2")]), "/me": b'{"user": {"id": 7}}', "/products": NO_PRODUCTS}
    with connect(serve(answers)) as client:
        manifest = run(client, base)
    assert {file["dataset"]: file["rows"] for file in manifest["files"]} == dict.fromkeys(DATASETS, 0) | {
        "users": 2
    }
    assert manifest["key_owner_id"] == "7"


def test_tables_for_a_notebook_are_the_same(shared_sandbox, connect: Connect, base: Store):
    with connect(shared_sandbox) as client:
        found = read_tables(client, connection_id="aha_default")
        manifest = run(client, base)
    for name, table in found.items():
        landed = read(manifest, name)
        assert table.num_rows == landed.num_rows
        assert table.column(0).to_pylist() == landed.column(0).to_pylist()


# --- the manifest ---------------------------------------------------------------------------------


def test_the_manifest_has_exactly_its_keys_and_the_right_figures(shared_sandbox, connect: Connect, base: Store):
    with connect(shared_sandbox) as client:
        manifest = run(client, base)
        sent = len(shared_sandbox.requests)
        owner = client.me()["id"]
    assert sorted(manifest) == sorted(KEYS)
    stable = without_files(manifest)
    assert stable == {
        "account": "sandbox",
        "host": f"127.0.0.1:{shared_sandbox.port}",
        "sandbox": True,
        "connection_id": "aha_default",
        "key_owner_id": owner,
        "query": "GET /users: all account users, enabled and disabled, no filter",
        "snapshot": "2026-09-01",
        "started_at": "2026-09-01T06:30:15.250Z",
        "finished_at": "2026-09-01T06:30:15.250Z",
        "total_records_first": 450,
        "total_records_last": 450,
        "rows": 450,
        "distinct_ids": 450,
        "duplicates_removed": stable["duplicates_removed"],
        "pages": 3,
        "rereads": 0,
        "requests": sent,
        "absent_fields": {},
        "texts_repaired": 0,
        "workspaces_unnamed": stable["workspaces_unnamed"],
        "visits_lost": 0,
        "provider_version": package_version(),
        "schema_version": SCHEMA_VERSION,
    }


def without_files(manifest: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in manifest.items() if key != "files"}


def test_the_manifest_names_each_file_with_rows_bytes_and_hash(shared_sandbox, connect: Connect, base: Store):
    with connect(shared_sandbox) as client:
        manifest = run(client, base)
    for file in manifest["files"]:
        body = Path(file["path"]).read_bytes()
        with pq.ParquetFile(file["path"]) as landed:
            rows = landed.metadata.num_rows
        assert file == {
            "dataset": file["dataset"],
            "path": base.url_of(Layout("sandbox").dataset(file["dataset"], "2026-09-01")),
            "rows": rows,
            "bytes": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
    assert Snapshot.of(base, "sandbox", "2026-09-01").manifest == manifest
    assert json.loads(json.dumps(manifest)) == manifest


def test_a_client_that_is_used_again_counts_each_run_for_itself(aha_sandbox, connect: Connect, base: Store):
    aha_sandbox.set_fault("page_drift")
    with connect(aha_sandbox) as client:
        first, second = run(client, base), run(client, base)
    assert (first["rereads"], second["rereads"]) == (1, 0)
    assert first["requests"] + second["requests"] == client.requests_sent
    assert second["requests"] == 5


def test_absent_fields_are_counted_and_warned_of(
    aha_sandbox, connect: Connect, base: Store, caplog: pytest.LogCaptureFixture
):
    aha_sandbox.set_fault("missing_key", key="accessed_at")
    aha_sandbox.set_fault("missing_key", key="paid_seat", user=aha_sandbox.account.user_ids[7])
    with connect(aha_sandbox) as client:
        manifest = run(client, base, ["users"])
    assert manifest["absent_fields"] == {"accessed_at": 500, "paid_seat": 1}
    assert "accessed_at (500 users), paid_seat (1 users)" in caplog.text
    rows = read(manifest, "users").to_pylist()
    assert {row["activity_status"] for row in rows} == {"unknown", "disabled"}
    assert rows[7]["is_paid_seat"] is None


def test_odd_roles_and_repaired_names_are_counted_and_everybody_lands(serve, connect: Connect, base: Store, caplog):
    people = [user("1"), user("2", name="XX"), user("3", product_roles=[role("owner")])]
    body = page(people).replace(b"XX", b"\\ud83d")
    answers = {"/users": body, "/me": b'{"user": {"id": "7"}}', "/products": NO_PRODUCTS}
    with connect(serve(answers)) as client:
        manifest = run(client, base)
    assert (manifest["rows"], manifest["absent_fields"], manifest["texts_repaired"]) == (3, {"product_roles": 1}, 1)
    assert read(manifest, "users")["name"].to_pylist() == ["Ada Example", "\ufffd", "Ada Example"]
    assert "or sent what can't be read: product_roles (1 users)" in caplog.text


def test_a_read_over_midnight_belongs_to_the_day_on_which_it_began(shared_sandbox, connect: Connect, base: Store):
    moments = iter([datetime(2026, 8, 31, 23, 59, 59, tzinfo=UTC), datetime(2026, 9, 1, 0, 0, 9, tzinfo=UTC)])
    with connect(shared_sandbox) as client:
        manifest = extract(client, base, datasets=["users"], connection_id="aha", now=lambda: next(moments))
    assert manifest["snapshot"] == "2026-08-31"
    assert manifest["finished_at"] == "2026-09-01T00:00:09.000Z"
    assert snapshot_days(base, "sandbox") == ["2026-08-31"]
    assert set(read(manifest, "users")["synced_at"].to_pylist()) == {datetime(2026, 8, 31, 23, 59, 59, tzinfo=UTC)}


def test_a_second_run_on_a_day_replaces_the_first(aha_sandbox, connect: Connect, base: Store):
    with connect(aha_sandbox) as client:
        run(client, base)
        first = set(tree(base))
        aha_sandbox.account.add_user()
        manifest = run(client, base, now=NOW + timedelta(hours=3))
    assert set(tree(base)) == first
    assert read(manifest, "users").num_rows == 501
    assert read(manifest, "user_changes").num_rows == 0


def test_accounts_lie_apart(shared_sandbox, connect: Connect, base: Store):
    for account in ("one", "two.use3"):
        with connect(shared_sandbox, account) as client:
            manifest = run(client, base)
        assert set(read(manifest, "users")["subdomain"].to_pylist()) == {account}
        assert read(manifest, "user_changes").num_rows == 0
    assert {path.split("/")[1] for path in tree(base)} == {"account=one", "account=two.use3"}


# --- workspaces -----------------------------------------------------------------------------------

NO_PRODUCTS = b'{"products": [], "pagination": {"total_records": 0, "total_pages": 0, "current_page": 1}}'


@pytest.mark.parametrize("status", [403, 404])
def test_workspaces_that_cannot_be_listed_cost_names_and_a_warning(
    aha_sandbox, connect: Connect, base: Store, caplog: pytest.LogCaptureFixture, status: int
):
    aha_sandbox.set_fault("error", status=status, path="/products")
    with connect(aha_sandbox) as client:
        manifest = run(client, base)
    roles = read(manifest, "user_roles").to_pylist()
    unnamed = {row["workspace_id"] for row in roles if row["workspace_name"] is None}
    assert manifest["workspaces_unnamed"] == len(unnamed) > 0
    assert "Workspaces could not be listed, so some stay without a name" in caplog.text


def test_names_come_from_the_list_of_workspaces(serve, connect: Connect, base: Store):
    products = json.loads(NO_PRODUCTS) | {"products": [{"id": 5, "name": "Apollo"}, {"id": "6", "name": None}]}
    products["pagination"] |= {"total_records": 2, "total_pages": 1}
    roles = [role(20, str(n), product_name=None) for n in (5, 6)]
    answers = {
        "/users": page([user(product_roles=roles)]),
        "/me": b'{"user": {"id": "7"}}',
        "/products": json.dumps(products).encode(),
    }
    with connect(serve(answers)) as client:
        manifest = run(client, base)
    assert read(manifest, "user_roles")["workspace_name"].to_pylist() == ["Apollo", None]
    assert manifest["workspaces_unnamed"] == 1
    assert manifest["sandbox"] is False


# --- what goes wrong ------------------------------------------------------------------------------


def test_users_that_move_while_they_are_read_are_read_again(
    aha_sandbox, connect: Connect, base: Store, small_groups: None, staged: Path
):
    aha_sandbox.set_fault("page_drift", page=7, change="remove")
    with connect(aha_sandbox, page_size=50) as client:
        manifest = run(client, base)
    assert manifest["rereads"] == 1
    assert (manifest["rows"], manifest["pages"]) == (499, 10)
    assert read(manifest, "users")["id"].to_pylist() == aha_sandbox.account.user_ids
    assert list(staged.iterdir()) == []


FAILURES = [
    ({"name": "error", "status": 401, "path": "/users"}, AhaAuthenticationError),
    ({"name": "error", "status": 401, "path": "/me"}, AhaAuthenticationError),
    ({"name": "error", "status": 500, "path": "/products"}, AhaError),
    ({"name": "error", "status": 500, "path": "/users", "page": 3}, AhaError),
    ({"name": "truncated_json", "path": "/users", "page": 2}, AhaError),
    ({"name": "maintenance", "path": "/users", "page": 2}, AhaError),
    ({"name": "same_page"}, AhaIncompleteReadError),
    ({"name": "wrong_total"}, AhaIncompleteReadError),
]


@pytest.mark.parametrize(("fault", "error"), FAILURES, ids=lambda value: str(value))
def test_a_read_that_fails_lands_nothing_and_leaves_nothing(
    aha_sandbox, connect: Connect, base: Store, staged: Path, fault: dict[str, Any], error: type[AhaError]
):
    with connect(aha_sandbox) as client:
        run(client, base)
        before = tree(base)
        aha_sandbox.set_fault(**fault)
        for now in (NOW, NOW + timedelta(days=1)):
            with pytest.raises(error):
                run(client, base, now=now)
    assert tree(base) == before
    assert list(staged.iterdir()) == []


def test_an_account_without_users_lands_nothing(serve, connect: Connect, base: Store):
    answers = {"/users": page([], pages=0), "/me": b'{"user": {"id": "7"}}', "/products": NO_PRODUCTS}
    with connect(serve(answers), "mycompany") as client, pytest.raises(
        AhaIncompleteReadError, match="Aha! account mycompany lists no users"
    ):  # fmt: skip
        run(client, base)
    assert tree(base) == {}


def test_a_base_path_that_cannot_be_written_is_one_sentence(shared_sandbox, connect: Connect, tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    path = str(tmp_path / "file" / "aha")
    with (
        connect(shared_sandbox) as client,
        pytest.raises(AhaStorageError, match="could not be used: Not a directory"),
    ):
        run(client, Store(LocalFileSystem(), path, path), ["users"])
    assert (tmp_path / "file").read_text() == "mine"


# --- changes --------------------------------------------------------------------------------------


def test_changes_are_found_since_the_newest_snapshot_before_the_day(aha_sandbox, connect: Connect, base: Store):
    account = aha_sandbox.account
    with connect(aha_sandbox) as client:
        first = run(client, base)
        assert read(first, "user_changes").num_rows == 0
        gone = account.user_ids[3]
        account.remove_user(gone)
        came = str(account.add_user()["id"])
        renamed = account.user_ids[10]
        client.update_user(renamed, {"first_name": "Renamed"})
        second = run(client, base, ["user_changes"], now=NOW + timedelta(days=2))
    rows = read(second, "user_changes").to_pylist()
    kinds = {(row["change"], row["user_id"]) for row in rows}
    assert {("removed", gone), ("added", came), ("updated", renamed)} <= kinds
    assert {row["user_id"] for row in rows} == {gone, came, renamed}
    assert {row["previous_synced_at"] for row in rows} == {NOW}


@pytest.mark.parametrize("damage", ["data", "manifest", "cut", "partial"])
def test_a_broken_snapshot_is_passed_over_when_looking_for_changes(
    aha_sandbox, connect: Connect, base: Store, caplog: pytest.LogCaptureFixture, damage: str
):
    layout = Layout("sandbox")
    with connect(aha_sandbox) as client:
        run(client, base)
        run(client, base, ["users"] if damage == "partial" else DATASETS, now=NOW + timedelta(days=1))
        if damage == "data":
            Path(base.path, layout.dataset("user_roles", "2026-09-02")).unlink()
        elif damage == "cut":
            Path(base.path, layout.manifest("2026-09-02")).write_text('{"files": [')
        elif damage == "manifest":
            Path(base.path, layout.manifest("2026-09-02")).write_text("{}")
        aha_sandbox.account.add_user()
        third = run(client, base, now=NOW + timedelta(days=2))
    rows = read(third, "user_changes").to_pylist()
    assert {row["previous_synced_at"] for row in rows} == {NOW}
    assert "Snapshot 2026-09-02 is passed over when looking for changes" in caplog.text


def test_a_first_snapshot_has_no_changes_and_the_log_says_why(
    shared_sandbox, connect: Connect, base: Store, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    with connect(shared_sandbox) as client:
        run(client, base, ["user_changes"])
        run(client, base, ["user_changes"], now=NOW - timedelta(days=9))
    assert caplog.text.count("No earlier snapshot of sandbox has users and user_roles: user_changes is empty.") == 2


# --- the log --------------------------------------------------------------------------------------


def test_a_long_read_says_how_far_it_has_come(
    shared_sandbox, connect: Connect, base: Store, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    def clock() -> Iterator[float]:
        seconds = 0.0
        while True:
            yield seconds
            seconds += 4.0

    ticks = clock()
    monkeypatch.setattr(extract_module, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    caplog.set_level(logging.INFO, extract_module.__name__)
    with connect(shared_sandbox, page_size=50) as client:
        run(client, base, ["users"])
    said = [record.message for record in caplog.records if "users/s" in record.message]
    assert said == [
        "3 of 9 pages, 150 users, 12 users/s",
        "6 of 9 pages, 300 users, 12 users/s",
        "9 of 9 pages, 450 users, 12 users/s",
    ]


def test_a_short_read_is_quiet(shared_sandbox, connect: Connect, base: Store, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "airflow_provider_aha")
    with connect(shared_sandbox) as client:
        run(client, base, ["users"])
    assert [record for record in caplog.records if record.name.startswith("airflow_provider_aha")] == []


def test_no_log_line_names_a_person_or_a_key(
    aha_sandbox, connect: Connect, base: Store, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    people = list(aha_sandbox.account.users())
    aha_sandbox.set_fault("missing_key", key="accessed_at")
    aha_sandbox.set_fault("page_drift")
    aha_sandbox.set_fault("error", status=403, path="/products")
    with connect(aha_sandbox) as client:
        for days in (0, 1):
            run(client, base, now=NOW + timedelta(days=days))
    assert len(caplog.messages) > 3
    assert aha_sandbox.key not in caplog.text
    told = [word for person in people for word in (person["email"], person["name"]) if word and word in caplog.text]
    assert told == []
