"""Runs whose base path fails: an extract, a deactivation, a push to a file."""

import random
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.access.decide.named import decide
from airflow_provider_aha.access.write.carry_out import carry_out
from airflow_provider_aha.access.write.guards import Caps, Protection
from airflow_provider_aha.datasets.extract import extract
from airflow_provider_aha.datasets.names import DATASETS
from airflow_provider_aha.datasets.snapshot import Snapshot
from airflow_provider_aha.exceptions import AhaError, AhaSnapshotError
from airflow_provider_aha.push.targets.files import FORMATS, FileTarget
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import Store
from tests.chaos import chaos
from tests.chaos.frail import PUTS, RENAMES, Faults, FrailFileSystem, full_disk
from tests.chaos.targets import outcomes_of
from tests.chaos.writing import MINUTES_OFF, check_evidence, clock_off
from tests.push.conftest import World as Pushes
from tests.push.conftest import mapping, users


class FrailStore:
    """A base path that fails while :meth:`failing` lasts."""

    def __init__(self, chance: random.Random, folder: Path, kinds: Sequence[str] = (RENAMES, PUTS, "file")) -> None:
        self.faults = Faults(chance)
        self._folder = folder
        self._kind = chance.choice(kinds)
        self._frail = FrailFileSystem(self.faults, self._kind)

    def location(self, path: Path | None = None) -> Store:
        path = path or self._folder
        fs = LocalFileSystem(auto_mkdir=True) if self._kind == "file" else self._frail
        return Store(fs, str(path), str(path))

    def failing(self) -> AbstractContextManager[None]:
        self.faults.again()
        return full_disk(self.faults, self._folder) if self._kind == "file" else nullcontext()

    def mend(self) -> None:
        self.faults.left = 0


def land_on_a_failing_store(chance: random.Random, arena: chaos.Arena) -> None:
    """Land a snapshot over an earlier one: it, or the one before, is there, whole, or is refused."""
    account = arena.new_account(chance)
    store = FrailStore(chance, arena.folder)
    now = datetime.now(UTC)
    known: list[dict[str, Any]] = []
    with arena.client(chance) as client:
        before = (1, 0)[: chance.choice((1, 2, 2))]
        known += [landed(client, store, now - timedelta(days=days)) for days in before]
        account.edit_user(chance.choice(account.user_ids), name="Somebody Else")
        with store.failing():
            try:
                known.append(landed(client, store, now))
            except AhaError as error:
                chaos.told(error)
            store.mend()
        is_whole = check_snapshots(arena, known)
        assert is_whole[f"{now - timedelta(days=1):%Y-%m-%d}"]
        today = f"{now:%Y-%m-%d}"
        if len(before) == 1 and (arena.folder / Layout(chaos.ACCOUNT).manifest(today)).exists():
            # Where there was none, it is absent or whole.
            assert check_snapshots(arena, [*known, {"snapshot": today}])[today]
        again = landed(client, store, now)
    assert all(check_snapshots(arena, [again, *known]).values())
    assert chaos.table(arena, again, "users")


def landed(client: Any, store: FrailStore, moment: datetime) -> dict[str, Any]:
    return extract(client, store.location(), datasets=DATASETS, connection_id="c", now=lambda: moment)


def check_snapshots(arena: chaos.Arena, known: list[dict[str, Any]]) -> dict[str, bool]:
    """Hold that what can be read of a snapshot is what an extract has landed; tell which ones are whole."""
    found = {}
    for day in {str(manifest["snapshot"]) for manifest in known}:
        try:
            manifest = Snapshot.of(arena.location, chaos.ACCOUNT, day).manifest
            for file in manifest["files"]:
                with Snapshot(arena.location, chaos.ACCOUNT, manifest).open(file["dataset"]) as opened:
                    assert opened.metadata.num_rows == file["rows"]
        except AhaSnapshotError:
            found[day] = False
        else:
            found[day] = True
    return found


def deactivate_on_a_failing_store(chance: random.Random, arena: chaos.Arena) -> None:
    """Deactivate users while records can't always be written: nobody without a record that it was to be done."""
    account = arena.new_account(chance)
    # Where a file can't be created only once, there are no records.
    store = FrailStore(chance, arena.folder, (PUTS, PUTS, "file"))
    owner = str(account.owner(arena.aha.key)["id"])  # type: ignore[index]
    wanted = chance.sample(account.user_ids, min(chance.randint(1, 5), len(account)))
    with arena.client(chance) as client:
        decision = decide(client, wanted, {"enabled": False}, action="deactivate", facts={})
        for number in (1, 2, 3, 4):
            if number == 4:
                store.mend()
            arena.aha.forget_requests()
            run = Run("d", "r1", "t", number, "ann")
            folder = RunFolder(store.location(), chaos.ACCOUNT, run)
            with store.failing() if number < 4 else nullcontext(), clock_off(chance.choice(MINUTES_OFF)):
                try:
                    carry_out(
                        client,
                        folder,
                        run,
                        decision,
                        caps=Caps(max_percent=100.0),
                        protection=Protection(owner),
                        dry_run=False,
                        # The try before, whose end could not be recorded, doesn't hold this one up.
                        now=lambda number=number: datetime.now(UTC) + timedelta(hours=2 * number),  # type: ignore[misc]
                    )
                except AhaError as error:
                    chaos.told(error)
                store.mend()
            for user_id, _ in arena.puts():
                assert user_id in wanted
                assert user_id != owner
                assert list(Path(arena.location.path, folder.path).glob(f"events/u{user_id}.account/*")), (
                    f"{user_id} was written without a record"
                )
    found = chaos.evidence_of(arena, folder)
    assert {row["user_id"] for row in found} == set(wanted)
    check_evidence(found, account, wanted)


def push_to_a_file(chance: random.Random, arena: chaos.Arena) -> None:
    """Replace a file: it is the old one or the new one, and the outcomes say which."""
    store = FrailStore(chance, arena.folder)
    arena.new_account(chance)
    pushes = Pushes(store.location())
    kind = chance.choice(FORMATS)
    place = arena.folder / "out" / f"people.{kind}"
    bodies: list[bytes | None] = [None]
    lenient = {"max_reject_percent": 100, "max_shrink_percent": 100}
    for number in (1, 2, 3):
        pushes.land([{**row, "name": f"Round {number}"} for row in users(chance.randint(1, 12))])
        before, summary = bodies[-1], None
        with store.failing():
            try:
                target = FileTarget(store.location(place), kind)
                summary = pushes.push(mapping(limits=lenient), target, run_id=f"r{number}")
            except AhaError as error:
                chaos.told(error)
            store.mend()
        after = place.read_bytes() if place.exists() else None
        if summary is not None:
            assert after not in (before, None)
            assert summary["counts"] == {"sent": summary["rows"]}
        elif after != before:
            check_whole(place, kind, number)
        outcomes = outcomes_of(pushes, f"r{number}") or {}
        if any(row["status"] == "sent" for row in outcomes.values()):
            check_whole(place, kind, number)
        bodies.append(after)
    pushes.push(mapping(limits=lenient), FileTarget(store.location(place), kind), run_id="last")
    check_whole(place, kind, 3)


def check_whole(place: Path, kind: str, number: int) -> None:
    import pyarrow.csv as pcsv
    import pyarrow.json as pj
    import pyarrow.parquet as pq

    read = {"parquet": pq.ParquetFile, "csv": pcsv.read_csv, "jsonl": pj.read_json}[kind]
    found = read(place)
    found = found.read() if kind == "parquet" else found
    assert set(found.column("name").to_pylist()) == {f"Round {number}"}
