"""`make demo`: the DAG `aha_extract` in a real Airflow, and what it landed.

A scheduler with the local executor, a DAG processor and an API server run it, on SQLite, as they would
in an installation. Without a connection of the user's own the account is the sandbox.
"""

import argparse
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.local import (
    AIRFLOW_VERSION,
    BIN,
    DEMO,
    LOOPBACK,
    STARTED,
    Api,
    ProblemError,
    Processes,
    airflow_environment,
    answers,
    free_port,
    health,
    main,
    migrate,
    say,
    set_pool,
    shown,
    start_sandbox,
)

DAG = "aha_extract"
PLACE = DEMO / "demo"
HOME = PLACE / "airflow"
OUTPUT = DEMO / "aha"
TABLES = {
    "users": ["name", "email", "is_enabled", "is_paid_seat", "activity_status", "days_inactive"],
    "user_roles": ["user_name", "user_email", "role_kind", "workspace_name", "role_name"],
    "user_role_summary": ["user_email", "role_kind", "role_name", "workspace_count", "workspaces"],
}
ROWS = 5
WIDTH = 110


def demo(users: int, seconds: float) -> None:
    """Run the DAG and show the outcome."""
    own = os.environ.get("AIRFLOW_CONN_AHA_DEFAULT")
    with Processes(PLACE) as processes:
        if own:
            say("Using your own Aha! account (AIRFLOW_CONN_AHA_DEFAULT is set)")
            connection = own
        else:
            port = free_port()
            connection = start_sandbox(processes, users, port)
            say(f"Starting an Aha! sandbox with {users:,} users on http://{LOOPBACK}:{port}")
        port = free_port()
        env = airflow_environment(HOME, port) | {
            "AHA_SCHEDULE": far_from_now(),
            "AIRFLOW_CONN_AHA_DEFAULT": connection,
            "AIRFLOW_VAR_AHA_OUTPUT_PATH": str(OUTPUT),
        }
        migrate(processes, env)
        # Kept for the next time only if all goes well: a run that was cut off would block the next one.
        kept = HOME / "migrated"
        made_by = kept.read_text()
        kept.unlink()

        for name, more in (("api-server", []), ("scheduler", ["--skip-serve-logs"]), ("dag-processor", [])):
            processes.start(name, [str(BIN / "airflow"), name, *more], env)
        say(f"Starting Airflow {AIRFLOW_VERSION} (its API server, scheduler and DAG processor)")
        if not own:
            sandbox = connection.rpartition("@")[2].removesuffix("/http")
            processes.wait_for("the sandbox", lambda: answers(f"http://{sandbox}/"), 60)
        api = Api(f"http://{LOOPBACK}:{port}")
        processes.wait_for("Airflow", lambda: health(api), 120)
        set_pool(api)
        processes.wait_for(f"the DAG {DAG}", lambda: find_dag(api), 90)
        api.call("PATCH", f"/api/v2/dags/{DAG}", {"is_paused": False})
        begun = time.time()
        run = api.call("POST", f"/api/v2/dags/{DAG}/dagRuns", {"logical_date": None})["dag_run_id"]
        say(f"Running the DAG {DAG}")
        follow(processes, api, run, seconds)
        took = time.time() - begun
        show(find_manifest(begun), took)
        kept.write_text(made_by)


def far_from_now() -> str:
    """Return a yearly schedule half a year away, so that no scheduled run comes between."""
    return f"0 0 1 {(datetime.now(UTC).month + 5) % 12 + 1} *"


def find_dag(api: Api) -> Any:
    """Return the DAG once Airflow knows it; fail if its file cannot be imported."""
    for error in api.call("GET", "/api/v2/importErrors")["import_errors"]:
        if DAG in error["filename"]:
            reason = error["stack_trace"].strip().splitlines()[-1]
            raise ProblemError(f"Airflow cannot import {error['filename']}: {reason}")
    return api.call("GET", f"/api/v2/dags/{DAG}")


def follow(processes: Processes, api: Api, run: str, seconds: float) -> None:
    """Report every change of a task's state until the run has ended well."""
    seen: dict[str, str] = {}
    path = f"/api/v2/dags/{DAG}/dagRuns/{run}"

    def ended() -> str | None:
        tasks = api.call("GET", f"{path}/taskInstances")["task_instances"]
        for task in tasks:
            name, state = task["task_display_name"], task["state"] or "waiting"
            if seen.get(name) != state and state not in ("waiting", "scheduled"):
                say(f"    {name}: {state}")
            seen[name] = state
            if state in ("failed", "up_for_retry"):
                reason, log = why(run, task["task_id"])
                raise ProblemError(f"the task {name} of {DAG} failed: {reason} (its log is {log})")
        state = str(api.call("GET", path)["state"])
        return state if state in ("success", "failed") else None

    if processes.wait_for(f"the run of {DAG}", ended, seconds, every=0.5) == "failed":
        raise ProblemError(f"the run of {DAG} failed; the logs are in {shown(HOME / 'logs')}")


def why(run: str, task: str) -> tuple[str, str]:
    """Return the last error that a task has logged, and where."""
    reason = "it logged no error"
    logs = sorted((HOME / "logs").glob(f"dag_id={DAG}/run_id={run}/task_id={task}/**/*.log"))
    for line in logs[-1].read_text(errors="replace").splitlines() if logs else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if record.get("level") in ("error", "critical"):
            details = record.get("error_detail") or [{}]
            reason = details[0].get("exc_value") or record.get("event") or reason
    return " ".join(str(reason).split())[:500], shown(logs[-1] if logs else HOME / "logs")


def find_manifest(since: float) -> dict[str, Any]:
    """Return the manifest that the run has published."""
    found = [path for path in OUTPUT.glob("manifests/**/manifest.json") if path.stat().st_mtime >= since - 2]
    if not found:
        raise ProblemError(f"the run ended well but published no manifest under {shown(OUTPUT)}")
    newest = max(found, key=lambda path: path.stat().st_mtime)
    return {**json.loads(newest.read_text()), "manifest": newest}


def show(manifest: dict[str, Any], took: float) -> None:
    """Print what landed."""
    files = {file["dataset"]: file for file in manifest["files"]}
    paths = {name: where(str(file["path"])) for name, file in files.items()}
    for name, columns in TABLES.items():
        if name in files:
            rows = first_rows(paths[name], columns)
            print(f"\n{name}: the first {len(rows)} of {files[name]['rows']:,} rows")
            print(table(columns, rows))
    landed = [
        [name, f"{file['rows']:,}", f"{file['bytes'] / 1024:,.1f} KiB", shown(paths[name])]
        for name, file in files.items()
    ]
    print(f"\nLanded from the account {manifest['account']}:")
    print(table(["dataset", "rows", "size", "file"], landed, width=10_000))
    print(f"Manifest: {shown(manifest['manifest'])}")
    print(f"\nThe run took {took:.1f} s, and all of it {time.monotonic() - STARTED:.1f} s.", flush=True)


def where(path: str) -> Path:
    """Return a manifest's path as a local one: absolute, or relative to the base path."""
    return OUTPUT / path.removeprefix("file://")


def first_rows(path: Path, columns: list[str]) -> list[list[str]]:
    """Read the first rows, and no more of the file than that takes."""
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        known = [name for name in columns if name in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=ROWS, columns=known):
            return [[text(row.get(name)) for name in columns] for row in batch.to_pylist()]
    return []


def text(value: object) -> str:
    """Return a value as a table shows it."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(text(item) for item in value)
        case _:
            return str(value)


def table(header: list[str], rows: list[list[str]], width: int = WIDTH) -> str:
    """Lay rows out in columns, the widest of them cut until all fits."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    while sum(widths) + 2 * (len(widths) - 1) > width:
        widths[widths.index(max(widths))] -= 1
    lines = [header, ["-" * size for size in widths], *rows]
    return "\n".join(
        "  ".join(
            (cell if len(cell) <= size else cell[: size - 1] + "…").ljust(size)
            for cell, size in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=500, help="users of the sandbox account")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for the run of the DAG")
    arguments = parser.parse_args()
    main(lambda: demo(arguments.users, arguments.timeout))
