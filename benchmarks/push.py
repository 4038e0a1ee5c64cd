"""How long it takes to push users to PostgreSQL, beside what one would write with pandas.

``python benchmarks/push.py`` starts a PostgreSQL of its own from the system's packages, runs both a few times in
turn, each run in a process of its own, and writes ``docs/push/benchmarks.md``. ``--check`` writes nothing, and
fails when a target is missed.

The peer does what is usually done: ``read_parquet``, ``to_sql(method='multi')`` into a staging table, one
``INSERT ... ON CONFLICT DO UPDATE`` from there. It checks nothing and records nothing; ours checks every record,
and leaves an outcome for each.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.push.databases import postgres  # noqa: E402 - found by the line above

DOCS = ROOT / "docs" / "push" / "benchmarks.md"
ACCOUNT, DAY = "acme", "2026-08-01"
COLUMNS = {
    "aha_user_id": "id",
    "email": "email",
    "full_name": "name",
    "is_enabled": "is_enabled",
    "is_paid_seat": "is_paid_seat",
    "is_administrator": "is_administrator",
    "occupies_seat": "occupies_seat",
    "activity_status": "activity_status",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "accessed_at": "accessed_at",
    "subdomain": "subdomain",
    "synced_at": "synced_at",
}


METHOD = (
    "Made by `python benchmarks/push.py`: {users:,} users to PostgreSQL on the same machine, {rounds} rounds in "
    "turn, each run in a process of its own, from starting Python to its end. CPU is that of the process alone."
)
PEER = (
    "The peer does what is usually done: `read_parquet`, `to_sql(method='multi')` in chunks of 1000 into a staging "
    "table, one `INSERT ... ON CONFLICT DO UPDATE` from there. It checks nothing and records nothing. Ours checks "
    "the file's hash and every record, compares it with what was last sent, writes by `COPY` and `ON CONFLICT` in "
    "transactions of up to 8192 records, and leaves an outcome for each."
)


# --- the data ----------------------------------------------------------------------------------------


def land(base: Path, count: int, marker: str) -> Path:
    """Land a snapshot of so many users, with a marker in the name of each."""
    import orjson
    import pyarrow as pa
    import pyarrow.json as pj

    from airflow_provider_aha.datasets.schemas import USERS
    from airflow_provider_aha.datasets.snapshot import DatasetWriter
    from airflow_provider_aha.store.layout import Layout
    from airflow_provider_aha.store.store import to_json

    def row(number: int) -> bytes:
        return orjson.dumps(
            {
                "id": str(6_200_000_000_000_000_000 + number * 7919),
                "name": f"Ada {marker} {number} Lovelace",
                "email": f"Ada.{number}@Example.com",
                "created_at": "2024-01-01 00:00:00.000",
                "updated_at": "2026-01-01 00:00:00.000",
                "accessed_at": f"2026-07-{1 + number % 28:02d} 08:00:00.000",
                "is_enabled": number % 10 != 0,
                "is_paid_seat": True,
                "is_administrator": number % 500 == 0,
                "occupies_seat": number % 10 != 0,
                "activity_status": "active",
                "subdomain": ACCOUNT,
                "connection_id": "aha_default",
                "synced_at": "2026-08-01 03:40:00.000",
            }
        )

    bare = pa.schema(
        [pa.field(f.name, pa.timestamp("ms") if pa.types.is_timestamp(f.type) else f.type) for f in USERS]
    )
    base.mkdir(parents=True, exist_ok=True)
    with DatasetWriter(base, "users") as writer:
        for start in range(0, count, 4000):
            body = b"\n".join(map(row, range(start, min(count, start + 4000))))
            read = pj.ReadOptions(block_size=len(body) + 1)
            writer.write(pj.read_json(pa.BufferReader(body), read, pj.ParseOptions(explicit_schema=bare)))
        file = writer.finish()
    layout = Layout(ACCOUNT)
    target, manifest = base / layout.dataset("users", DAY), base / layout.manifest(DAY)
    for path in (target, manifest):
        path.parent.mkdir(parents=True, exist_ok=True)
    file.path.replace(target)
    entry = {"dataset": "users", "path": str(target), "rows": file.rows, "sha256": file.sha256}
    manifest.write_bytes(to_json({"account": ACCOUNT, "snapshot": DAY, "files": [entry]}))
    return target


# --- what is measured, each in a process of its own ----------------------------------------------------


def ours(base: str, host: str, run_id: str) -> None:
    import psycopg2

    from airflow_provider_aha.push.mapping.load import load_spec
    from airflow_provider_aha.push.push import PushRequest, push
    from airflow_provider_aha.push.targets.sql import SqlTarget
    from airflow_provider_aha.record.run import Run
    from airflow_provider_aha.store.store import local_store

    location = local_store(base)
    target = SqlTarget(
        lambda: psycopg2.connect(host=host, user="aha", dbname="postgres"),
        dialect="postgres",
        placeholder="%s",
        connection="benchmark",
        table="ours",
        create_table=True,
    )
    spec = load_spec("users_table", None, lambda _: location)
    run = Run("benchmark", run_id, "push", 1, "benchmark")
    report(push(PushRequest(location, ACCOUNT, DAY, spec, target, run))["counts"])


def pandas(base: str, host: str, _: str) -> None:
    import pandas as pd
    import sqlalchemy

    from airflow_provider_aha.store.layout import Layout

    users = pd.read_parquet(
        Path(base, Layout(ACCOUNT).dataset("users", DAY)), columns=list(COLUMNS.values()), partitioning=None
    )
    users.columns = pd.Index(list(COLUMNS))
    users["email"] = users["email"].str.strip().str.lower()
    engine = sqlalchemy.create_engine(f"postgresql+psycopg2://aha@/postgres?host={host}")
    users.to_sql("staging", engine, if_exists="replace", index=False, method="multi", chunksize=1000)
    names = ", ".join(COLUMNS)
    sets = ", ".join(f"{name} = EXCLUDED.{name}" for name in COLUMNS if name != "aha_user_id")
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text(
                "CREATE TABLE IF NOT EXISTS peer (aha_user_id text PRIMARY KEY, email text, full_name text, "
                "is_enabled boolean, is_paid_seat boolean, is_administrator boolean, occupies_seat boolean, "
                "activity_status text, created_at timestamptz, updated_at timestamptz, accessed_at timestamptz, "
                "subdomain text, synced_at timestamptz)"
            )
        )
        connection.execute(
            sqlalchemy.text(
                f"INSERT INTO peer ({names}) SELECT {names} FROM staging "
                f"ON CONFLICT (aha_user_id) DO UPDATE SET {sets}"
            )
        )
    report({"written": len(users)})


def report(counts: dict[str, int]) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"counts": counts, "cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss * 1024}))


def measure(what: str, base: Path, host: str, run_id: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", what, str(base), host, run_id]
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "TZ": "UTC"})
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    result["wall"] = time.perf_counter() - began
    print(f"  {what} {run_id}: {result['wall']:.2f} s, {result['counts']}", flush=True)
    return result


# --- the report ----------------------------------------------------------------------------------------


def lowest(runs: list[dict[str, Any]], key: str) -> float:
    return float(min(run[key] for run in runs))


def middle(runs: list[dict[str, Any]], key: str) -> float:
    return float(statistics.median(run[key] for run in runs))


def row(name: str, runs: list[dict[str, Any]]) -> str:
    peak = middle(runs, "peak") / 1e6
    walls = f"{lowest(runs, 'wall'):.2f} | {middle(runs, 'wall'):.2f}"
    return f"| {name} | {walls} | {middle(runs, 'cpu'):.2f} | {peak:.0f} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a target is missed")
    options = parser.parse_args()
    changed: dict[str, list[dict[str, Any]]] = {"ours": [], "pandas": []}
    unchanged, small = [], []
    with tempfile.TemporaryDirectory(prefix="aha-bench-") as folder, postgres() as server:
        base, few = Path(folder) / "many", Path(folder) / "few"
        for number in range(options.rounds + 1):
            land(base, options.users, str(number))
            for what in ("ours", "pandas"):
                result = measure(what, base, server["host"], f"r{number}")
                if number:  # the first one fills the tables
                    changed[what].append(result)
            unchanged.append(measure("ours", base, server["host"], f"u{number}"))
            land(few, options.users // 10, str(number))
            small.append(measure("ours", few, server["host"], f"s{number}"))
    assert all(run["counts"] == {"updated": options.users} for run in changed["ours"])
    assert all(run["counts"] == {"unchanged": options.users} for run in unchanged)
    ratio = lowest(changed["pandas"], "wall") / lowest(changed["ours"], "wall")
    least = lowest(unchanged, "wall")
    more = (middle(changed["ours"], "peak") - middle(small, "peak")) / 1e6
    targets = [
        ("Time of pandas, in ours, all users changed", "at least 1.0", f"{ratio:.1f}", ratio >= 1),
        ("Time with nothing changed", "under 3 s", f"{least:.2f} s", least < 3),
        ("Memory above that of a tenth of the users", "at most 40 MB", f"{more:.0f} MB", more <= 40),
    ]
    table = [
        row("ours, all changed", changed["ours"]),
        row("pandas, all changed", changed["pandas"]),
        row("ours, nothing changed", unchanged),
        row("ours, a tenth of the users, all changed", small),
    ]
    met = [
        f"| {what} | {want} | {came} | {'yes' if is_met else '**no**'} |" for what, want, came, is_met in targets
    ]
    lines = [
        "# Benchmarks of a push",
        METHOD.format(users=options.users, rounds=options.rounds),
        "\n".join(["| | target | measured | met |", "|---|---:|---:|---:|", *met]),
        "\n".join(
            ["| | wall s, lowest | wall s, median | CPU s, median | peak MB |", "|---|---:|---:|---:|---:|", *table]
        ),
        PEER,
    ]
    print("\n\n".join(lines))
    if not options.check:
        DOCS.write_text("\n\n".join(lines) + "\n")
    return int(options.check and not all(met for *_, met in targets))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        {"ours": ours, "pandas": pandas}[sys.argv[2]](*sys.argv[3:])
    else:
        sys.exit(main())
