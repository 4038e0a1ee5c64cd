"""Killed at any moment, an extraction leaves the snapshot before it, or a clear refusal; never half of one."""

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from airflow_provider_aha.datasets.extract import extract
from airflow_provider_aha.datasets.names import DATASETS
from airflow_provider_aha.datasets.snapshot import Snapshot, snapshot_days
from airflow_provider_aha.exceptions import AhaSnapshotError
from airflow_provider_aha.sandbox.testing import SandboxServer
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import Store
from tests.datasets.conftest import NOW, Connect

# An extraction in a process of its own: base path, server, day, and where it is to die.
CHILD = """
import os, signal, sys
from datetime import UTC, datetime
from fsspec.implementations.local import LocalFileSystem
from airflow_provider_aha.datasets import extract as module
from airflow_provider_aha.store import backends, store as storage
from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.datasets.names import DATASETS

base, url, key, day, renames = sys.argv[1:]
left = int(renames)
rename, write = backends._rename, module.DatasetWriter.write

def rename_or_die(*arguments):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    rename(*arguments)

def write_and_say(self, table):
    write(self, table)
    print(self._dataset, flush=True)

backends._rename = rename_or_die
module.DatasetWriter.write = write_and_say
module._PAGES_PER_GROUP = 1
location = storage.Store(LocalFileSystem(), base, base)
config = ClientConfig(url, "sandbox", key, page_size=50, requests_per_second=1000, requests_per_minute=10000)
now = datetime.fromisoformat(day)
with AhaClient(config) as client:
    module.extract(client, location, datasets=DATASETS, connection_id="aha", now=lambda: now)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(base: Store, aha_sandbox: SandboxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    staging = tmp_path / "tmp"
    staging.mkdir()
    monkeypatch.setenv("TMPDIR", str(staging))
    with ExitStack() as stack:

        def run(day: str, *, renames: int = 99) -> subprocess.Popen[str]:
            arguments = [base.path, aha_sandbox.url, aha_sandbox.key, f"{day}T06:00:00+00:00", str(renames)]
            child = subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE, text=True)
            stack.enter_context(child)
            stack.callback(child.kill)
            return child

        yield run


@pytest.fixture
def landed(base: Store, aha_sandbox: SandboxServer, connect: Connect) -> dict[str, Any]:
    with connect(aha_sandbox) as client:
        return extract(client, base, datasets=DATASETS, connection_id="aha", now=lambda: NOW)


def tree(base: Store) -> dict[str, bytes]:
    root = Path(base.path)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def readable(base: Store, day: str) -> dict[str, bool]:
    layout = Layout("sandbox")
    manifest = Snapshot.of(base, layout.account, day).manifest
    found = {}
    for name in DATASETS:
        try:
            with Snapshot(base, layout.account, manifest).open(name) as file:
                found[name] = file.read().num_rows >= 0
        except AhaSnapshotError as error:
            found[name] = "an extract was cut off while it replaced the snapshot" not in str(error)
    return found


def test_killed_in_mid_read_it_leaves_the_snapshots_as_they_were(
    base: Store, aha_sandbox: SandboxServer, landed: dict[str, Any], start: Start
):
    before = tree(base)
    aha_sandbox.set_fault("slow", seconds=100.0, path="/users", page=3)
    for day in ("2026-09-01", "2026-09-02"):
        child = start(day)
        assert child.stdout
        assert {child.stdout.readline().strip() for _ in range(6)} == set(DATASETS) - {"user_changes"}
        child.kill()
        assert child.wait() == -signal.SIGKILL
        assert tree(base) == before
    assert all(readable(base, "2026-09-01").values())


@pytest.mark.parametrize("renames", range(len(DATASETS) + 1))
def test_killed_while_it_publishes_another_day_it_leaves_the_day_before(
    base: Store, landed: dict[str, Any], start: Start, renames: int
):
    before = tree(base)
    assert start("2026-09-02", renames=renames).wait() == -signal.SIGKILL
    after = tree(base)
    assert {path: after[path] for path in before} == before
    assert snapshot_days(base, "sandbox") == ["2026-09-01"]
    new = set(after) - set(before)
    data = {path for path in new if not Path(path).name.startswith(".")}
    assert len(data) == renames
    assert all(path.endswith(".tmp") for path in new - data)


@pytest.mark.parametrize("renames", range(len(DATASETS) + 1))
def test_killed_while_it_replaces_a_day_a_reader_gets_the_old_files_or_a_clear_refusal(
    base: Store, landed: dict[str, Any], start: Start, renames: int
):
    assert start("2026-09-01", renames=renames).wait() == -signal.SIGKILL
    # Changes of a first snapshot are empty, whenever it was read.
    same = {"user_changes"}
    assert {name for name, whole in readable(base, "2026-09-01").items() if not whole} == (
        set(DATASETS[:renames]) - same
    )
    for name in DATASETS:
        found = ds.dataset(f"{base.path}/{name}", format="parquet", partitioning="hive")
        assert [Path(file).name for file in found.files] == [f"{name}.parquet"]
        assert all(pq.ParquetFile(file).metadata for file in found.files)


def test_the_next_run_makes_it_whole_again(base: Store, landed: dict[str, Any], start: Start):
    start("2026-09-01", renames=2).wait()
    assert not all(readable(base, "2026-09-01").values())
    assert start("2026-09-01").wait() == 0
    assert all(readable(base, "2026-09-01").values())
