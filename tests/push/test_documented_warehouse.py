"""The page "Into your warehouse": its DuckDB example is run, and what it says of accounts and columns is so."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_aha.datasets.schemas import BY_DATASET, USERS
from airflow_provider_aha.datasets.snapshot import DatasetWriter
from airflow_provider_aha.store.layout import Layout
from tests.push.conftest import user

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "push" / "warehouse.md").read_text(encoding="utf-8")
BASE = "/data/aha"


def land(base: Path, account: str, day: str, *numbers: int) -> None:
    """Land the users of a day, as an extract does."""
    rows = [user(n, subdomain=account, occupies_seat=n % 2 == 0, synced_at=_morning(day)) for n in numbers]
    (base / "staged").mkdir(parents=True, exist_ok=True)
    with DatasetWriter(base / "staged", "users") as writer:
        writer.write(pa.Table.from_pylist(rows, schema=USERS))
        file = writer.finish()
    target = base / Layout(account).dataset("users", day)
    target.parent.mkdir(parents=True)
    file.path.replace(target)


def _morning(day: str) -> datetime:
    return datetime.fromisoformat(f"{day}T03:40:00").replace(tzinfo=UTC)


@pytest.fixture
def duckdb() -> Any:
    found = pytest.importorskip("duckdb")
    with found.connect() as connection:
        yield connection


@pytest.mark.parametrize("account", ["4711", "1e5", "mycompany"])
def test_the_duckdb_example_holds_the_users_as_they_are_now(tmp_path, duckdb, account):
    land(tmp_path, account, "2026-08-01", 1, 2, 3)
    land(tmp_path, account, "2026-08-02", 1, 2)
    (block,) = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert BASE in block
    rows = duckdb.execute(block.replace(BASE, str(tmp_path))).fetchall()
    assert [(str(a), str(day), users, seats) for a, day, users, seats in rows] == [(account, "2026-08-02", 2, 1)]
    kinds = dict(duckdb.execute("SELECT column_name, data_type FROM information_schema.columns").fetchall())
    assert [kinds[name] for name in ("id", "account", "subdomain", "snapshot")] == [*["VARCHAR"] * 3, "DATE"]
    assert duckdb.execute("SELECT id FROM aha_users ORDER BY id").fetchall() == [("1001",), ("1002",)]
    # A second account doesn't change what the first one is called.
    land(tmp_path, "umbrella", "2026-08-01", 5)
    (first, second) = sorted(duckdb.execute(block.replace(BASE, str(tmp_path))).fetchall(), key=lambda row: row[2])
    assert (first[0], second[0]) == ("umbrella", account)


def test_a_reader_that_guesses_makes_a_number_of_an_account(tmp_path, duckdb):
    land(tmp_path, "4711", "2026-08-01", 1)
    guessing = f"read_parquet('{tmp_path}/users/*/*/users.parquet', hive_partitioning = true)"
    assert duckdb.execute(f"SELECT account, subdomain FROM {guessing}").fetchall() == [(4711, "4711")]


def test_the_columns_that_the_page_names_are_in_every_file():
    named = {
        name for row in re.findall(r"^\| (?:account|day|key of .*?) \|(.*)\|$", PAGE, re.M) for name in _code(row)
    }
    assert named >= {"subdomain", "synced_at", "id", "user_id", "role_kind", "workspace_id", "role_id"}
    known = {name for schema in BY_DATASET.values() for name in schema.names}
    assert named - known == {"snapshot"}
    assert all({"subdomain", "synced_at"} <= set(BY_DATASET[name].names) for name in ("users", "user_roles"))


def _code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)
