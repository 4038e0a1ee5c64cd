"""How long the report of an access review takes, and what it needs in memory, for a large account and a larger one.

``python benchmarks/report.py`` lands a snapshot of a sandbox account under a temporary base path for each size, and
makes its report in new processes. The page of 20,000 users is to take less than 5 s and 8 MB; 200,000 users are to
need at most 150 MB more in memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

SIZES = (20_000, 200_000)
SECONDS, PAGE_MB, MORE_MB = 5.0, 8.0, 150.0
ACCOUNT = "acme"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="how often each report is made (default 3)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(make(options.child)))
        return 0
    found = {users: measured(users, options.runs) for users in SIZES}
    for users, one in found.items():
        print(f"{users} users  {one['cpu']:.2f} s CPU, page {one['page']:.1f} MB, peak {one['peak']:.0f} MB")
    small, large = (found[users] for users in SIZES)
    more = large["peak"] - small["peak"]
    print(f"more memory   {more:.0f} MB")
    return int(small["cpu"] >= SECONDS or small["page"] >= PAGE_MB or more > MORE_MB)


def measured(users: int, runs: int) -> dict[str, float]:
    """Land a snapshot, and make its report again and again."""
    with tempfile.TemporaryDirectory() as folder:
        land(folder, users)
        command = [sys.executable, __file__, "--child", folder]
        done = [subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True) for _ in range(runs)]
    each = [json.loads(one.stdout.splitlines()[-1]) for one in done]
    return {name: statistics.median(one[name] for one in each) for name in each[0]}


def land(folder: str, users: int) -> None:
    from airflow_provider_aha.api.client import AhaClient
    from airflow_provider_aha.api.config import ClientConfig
    from airflow_provider_aha.datasets.extract import extract
    from airflow_provider_aha.hooks.paths import resolve_path
    from airflow_provider_aha.sandbox.testing import SandboxServer

    free = {"requests_per_second": 1000, "requests_per_minute": 100_000}
    with (
        SandboxServer(users=users) as server,
        AhaClient(ClientConfig(server.url, ACCOUNT, server.key, **free)) as client,
    ):
        names = ("users", "user_roles", "user_role_summary", "user_changes")
        extract(client, resolve_path(folder), datasets=names, connection_id="aha_default")


def make(folder: str) -> dict[str, float]:
    """Make the report; CPU without imports, memory with them."""
    from airflow_provider_aha.hooks.paths import resolve_path
    from airflow_provider_aha.record.run import Run
    from airflow_provider_aha.report import page
    from airflow_provider_aha.report.build import Asked, make_report
    from airflow_provider_aha.review.terms import Terms

    assert page
    location, began = resolve_path(folder), time.process_time()
    asked = Asked(ACCOUNT, Run("benchmark", "run", "report", 1, "benchmark"), Terms.read({"seats_purchased": 400}))
    made = make_report(location, asked, now=lambda: datetime.now(UTC))
    return {
        "cpu": time.process_time() - began,
        "page": Path(made["page"]).stat().st_size / 1e6,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
    }


if __name__ == "__main__":
    sys.exit(main())
