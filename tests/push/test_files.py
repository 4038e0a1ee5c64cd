"""Records as a file: what is in it, when it appears, and what a spreadsheet can't be made to run."""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from airflow_provider_aha.exceptions import AhaConfigurationError, AhaGuardError
from airflow_provider_aha.push.mapping.spec import read_spec
from airflow_provider_aha.push.targets.files import FileTarget
from airflow_provider_aha.store.store import Store
from tests.push.conftest import World, mapping, user, users

FIELDS = {
    "email": {"source": "email", "required": True, "unique": True},
    "=name": "name",
    "seen": {"source": "accessed_at"},
    "paid": {"source": "is_paid_seat"},
    "days": {"const": -3},
}


def target(world: World, kind: str) -> FileTarget:
    path = f"{world.location.path}/out/users.{kind}"
    return FileTarget(Store(world.location.fs, path, path), kind)


def written(world: World, kind: str) -> Path:
    return Path(world.location.path) / "out" / f"users.{kind}"


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_every_valid_record_is_in_the_file(world, kind):
    world.land([user(1), user(2, email=None), user(3, name=None, accessed_at=None)])
    spec = mapping(fields=FIELDS, limits={"max_reject_percent": 50})
    summary = world.push(spec, target(world, kind))
    assert summary["counts"] == {"sent": 2, "invalid": 1}
    path = written(world, kind)
    if kind == "parquet":
        first, second = pq.read_table(path).to_pylist()
        assert first["seen"] == datetime(2026, 7, 1, tzinfo=UTC)
        assert (second["=name"], second["seen"]) == (None, None)
    elif kind == "csv":
        first, second = csv.DictReader(path.read_text().splitlines())
        assert list(first) == ["email", "'=name", "seen", "paid", "days"]
        assert (first["seen"], first["paid"], first["days"]) == ("2026-07-01T00:00:00Z", "true", "-3")
        assert (second["'=name"], second["seen"]) == ("", "")
    else:
        first, second = map(json.loads, path.read_text().splitlines())
        assert first == {
            "email": "ada1@example.com",
            "=name": "Ada 1 Lovelace",
            "seen": "2026-07-01T00:00:00Z",
            "paid": True,
            "days": -3,
        }
        assert set(second) == {"email", "paid", "days"}


@pytest.mark.parametrize("danger", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_csv_holds_no_formula(world, danger):
    world.land([user(1, name=danger)])
    world.push(mapping(), target(world, "csv"))
    with written(world, "csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["name"] == f"'{danger}"


@pytest.mark.parametrize("harmless", ['say "hi"', "a,b", "two\nlines", "😀 Ünï", "nul\x00byte", "1=1", ""])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_values_come_through_as_they_are(world, kind, harmless):
    world.land([user(1, name=harmless)])
    world.push(mapping(), target(world, kind))
    path = written(world, kind)
    if kind == "csv":
        with path.open(newline="", encoding="utf-8") as file:
            (row,) = csv.DictReader(file)
    elif kind == "jsonl":
        row = json.loads(path.read_text(encoding="utf-8"))
    else:
        (row,) = pq.read_table(path).to_pylist()
    assert row["name"] == harmless


def test_the_file_of_before_stays_when_a_push_is_refused(world):
    world.land(users(3))
    world.push(mapping(), target(world, "csv"))
    before = written(world, "csv").read_bytes()
    world.land([user(1, email=None), user(2)])
    with pytest.raises(Exception, match="1 of 2 records are invalid"):
        world.push(mapping(), target(world, "csv"), run_id="r2")
    assert written(world, "csv").read_bytes() == before
    assert {row["status"] for row in world.outcomes("r2")} == {"invalid", "failed"}


def test_a_shrunken_input_leaves_the_file_as_it_is(world):
    world.land(users(10))
    world.push(mapping(), target(world, "csv"))
    before = written(world, "csv").read_bytes()
    world.land(users(5))
    for run_id in ("r2", "r3"):
        with pytest.raises(AhaGuardError, match="the last push had 10"):
            world.push(mapping(), target(world, "csv"), run_id=run_id)
    assert written(world, "csv").read_bytes() == before


def test_a_dry_run_writes_no_file(world):
    world.land(users(3))
    assert world.push(mapping(), target(world, "csv"), dry_run=True)["counts"] == {"planned": 3}
    assert not written(world, "csv").exists()


def test_modes_that_a_file_can_not_have_are_refused(world):
    world.land(users(1))
    with pytest.raises(AhaConfigurationError, match="use upsert"):
        world.push(read_spec(mapping(mode="insert")), target(world, "csv"))
