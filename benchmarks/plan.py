"""How long a plan over 50,000 users takes, beyond imports.

``python benchmarks/plan.py`` lands two snapshots of a sandbox account under a temporary base path, makes a plan of
the older one, and then, each time in a new process, the plan of the newer one: rules of class ``unused`` and
``left``, a roster of all people, an exclusion file, flags carried on from the plan before, and everything written
down. The bound is 2 s.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

BOUND = 2.0
DAY = timedelta(days=1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=50_000, help="users of the account (default 50000)")
    parser.add_argument("--runs", type=int, default=5, help="how often the plan is made (default 5)")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(plan(*options.child)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        now = datetime.now(UTC)
        prepare(folder, options.users, now)
        # What a task has read and written lies in the cache of the file system, as it does for a task.
        runs = [child([folder, f"run {number}", now.isoformat()]) for number in range(options.runs)]
    report(options.users, runs)
    return int(statistics.median(run["seconds"] for run in runs) > BOUND)


def prepare(folder: str, users: int, now: datetime) -> None:
    """Land a snapshot of yesterday, plan from it, and land another one."""
    from airflow_provider_aha.api.client import AhaClient
    from airflow_provider_aha.api.config import ClientConfig
    from airflow_provider_aha.datasets.extract import extract
    from airflow_provider_aha.hooks.paths import resolve_path
    from airflow_provider_aha.sandbox.testing import SandboxServer

    location = resolve_path(folder)
    names = ("users", "user_roles", "user_changes")
    free = {"requests_per_second": 1000, "requests_per_minute": 100_000}
    with (
        SandboxServer(users=users) as server,
        AhaClient(ClientConfig(server.url, "acme", server.key, **free)) as client,
    ):
        write_files(folder, list(server.account.users()))
        for moment in (now - DAY, now):
            extract(client, location, datasets=names, connection_id="aha_default", now=lambda at=moment: at)
            os.utime(f"{folder}/roster.csv", (moment.timestamp(), moment.timestamp()))
            child([folder, f"first {moment:%d}", moment.isoformat()])


def write_files(folder: str, people: list[dict[str, Any]]) -> None:
    ends = dict.fromkeys(range(0, len(people), 500), "2020-01-31")
    rows = [f"{number},{user['email']},{ends.get(number, '')}" for number, user in enumerate(people)]
    Path(folder, "roster.csv").write_text("\n".join(["nr,mail,end", *rows]) + "\n")
    excluded = [f"{user['id']},,,on leave,HR," for user in people[::1000]]
    Path(folder, "exclusions.csv").write_text("\n".join(["id,email,pattern,reason,owner,expires_on", *excluded]))
    domains = sorted({user["email"].partition("@")[2] for user in people})
    spec = {"path": f"{folder}/roster.csv", "key": "nr", "emails": ["mail"], "domains": domains, "min_rows": 1}
    Path(folder, "roster.json").write_text(json.dumps({**spec, "end_date": "end"}))


def child(arguments: list[str]) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def plan(folder: str, run_id: str, moment: str) -> dict[str, float]:
    """Make one plan; the clock starts when everything is imported."""
    begin = time.perf_counter()
    from airflow_provider_aha.access.decide.planning import Request, make_plan
    from airflow_provider_aha.access.decide.rules import Policy, as_given, read_rules
    from airflow_provider_aha.hooks.paths import resolve_path
    from airflow_provider_aha.lists.matching import SERVICE_ACCOUNT_PATTERNS, UserMatcher
    from airflow_provider_aha.lists.roster import Rosters, RosterSpec, load_roster

    location = resolve_path(folder)
    imported = time.perf_counter()
    now, cpu = datetime.fromisoformat(moment), time.process_time()
    rules = read_rules([{"class": "unused", "inactive_days": 90}, {"class": "left"}])
    (spec,) = RosterSpec.read_all(Path(folder, "roster.json").read_text())
    request = Request(
        account="acme",
        dag_id="benchmark",
        run_id=run_id,
        policy=Policy(rules, protect_patterns=UserMatcher(patterns=SERVICE_ACCOUNT_PATTERNS)),
        as_given={"rules": [as_given(rule) for rule in rules]},
        max_snapshot_age=timedelta(days=2),
        roster=lambda: Rosters((load_roster(spec, resolve_path(spec.path)),)),
        exclusions=[resolve_path(f"{folder}/exclusions.csv")],
    )
    made = make_plan(location, request, now=lambda: now)
    return {
        "imports": imported - begin,
        "seconds": time.perf_counter() - imported,
        "cpu": time.process_time() - cpu,
        "planned": len(made.rows),
        "enabled": made.enabled_users,
    }


def report(users: int, runs: list[dict[str, float]]) -> None:
    print(f"users             {users}, {runs[0]['enabled']} enabled, {runs[0]['planned']} planned")
    for name, words in (("imports", "imports"), ("seconds", "plan, wall"), ("cpu", "plan, CPU")):
        found = [run[name] for run in runs]
        print(f"{words:<17} {statistics.median(found):.2f} s median, {min(found):.2f} s least of {len(found)}")
    print(f"bound             {BOUND:.1f} s")


if __name__ == "__main__":
    sys.exit(main())
