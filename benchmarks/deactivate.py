"""How long it takes to deactivate users under Aha!'s limits, against the bound that the limits set.

``python benchmarks/deactivate.py`` starts a sandbox of its own with both limits enforced and 250 ms latency,
deactivates 500 users with everything on (guards, journal, evidence, manifest), and takes about four minutes: the
limits allow 300 requests a minute, and each user takes two. With ``--roles`` it makes them viewers of a workspace.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import requests

from airflow_provider_aha.access.decide.named import decide
from airflow_provider_aha.access.operations.workspace_role import WorkspaceRole, place_of
from airflow_provider_aha.access.plan.plan import Target
from airflow_provider_aha.access.write.carry_out import carry_out
from airflow_provider_aha.access.write.guards import Caps, Protection
from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.hooks.paths import resolve_path
from airflow_provider_aha.record.chain import close_try
from airflow_provider_aha.record.run import Run, RunFolder

PER_SECOND, PER_MINUTE = 20, 300
KEY = "sandbox-key"
# Contributors and reviewers.
MORE_THAN_VIEWER = frozenset({30, 40})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=500, help="how many users to deactivate (default 500)")
    parser.add_argument("--latency-ms", type=int, default=250, help="of every answer (default 250)")
    parser.add_argument("--roles", action="store_true", help="change a role of each user instead")
    parser.add_argument("--port", type=int, default=8799, help="of the sandbox (default 8799)")
    options = parser.parse_args()
    sandbox = _start_sandbox(options)
    try:
        return _measure(options)
    finally:
        sandbox.terminate()
        sandbox.wait()


def _start_sandbox(options: argparse.Namespace) -> subprocess.Popen[str]:
    # Some have no such role.
    account = ["--users", str(options.users * (3 if options.roles else 2)), "--latency-ms", str(options.latency_ms)]
    command = [sys.executable, "-m", "airflow_provider_aha.sandbox", *account, "--port", str(options.port)]
    sandbox = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert sandbox.stdout is not None
    print(sandbox.stdout.readline().strip())
    return sandbox


def _measure(options: argparse.Namespace) -> int:
    url = f"http://127.0.0.1:{options.port}"
    people = _people(url, options.users, with_roles=options.roles)
    ids = [user["id"] for user in people]
    # The listing above has used up some of the limits; a minute later all of them are free again.
    time.sleep(61)
    with tempfile.TemporaryDirectory() as folder, AhaClient(ClientConfig(url, "acme", KEY)) as client:
        begin = time.monotonic()
        run = Run("benchmark", "r1", "deactivate", 1, "benchmark")
        records = RunFolder(resolve_path(folder), "acme", run)
        protection = Protection(client.me()["id"])
        decision = decide(client, ids, {"enabled": False}, action="deactivate", facts={})
        if options.roles:
            targets = [to_viewer(user) for user in people]
            decision = replace(decision, action="change_roles", targets=targets, holders={})
        caps = Caps(max_users=options.users, max_percent=100)
        rows = carry_out(client, records, run, decision, caps=caps, protection=protection, dry_run=False)
        close_try(records, {})
        seconds = time.monotonic() - begin
        sent = client.requests_sent
        files = sum(path.is_file() for path in Path(folder).rglob("*"))
    return _report(options, seconds, sent, files, Counter(str(row["outcome"]) for row in rows))


def to_viewer(user: Mapping[str, Any]) -> Target:
    """Return what makes a user a viewer of the workspace of the first role that is more."""
    held = (role for role in user["product_roles"] if role["role"] in MORE_THAN_VIEWER)
    place = next(role["product_id"] for role in held)
    before = WorkspaceRole().read(user, place_of(place))
    return Target(user["id"], {"role": "viewer"}, operation="workspace_role", object=place_of(place), before=before)


def _people(url: str, wanted: int, *, with_roles: bool) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    page = 1
    while len(found) < wanted:
        answer = requests.get(
            f"{url}/api/v1/users",
            params={"page": page, "per_page": 200},
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=30,
        ).json()["users"]
        found += [
            user
            for user in answer
            if user["enabled"]
            and not user["administrator"]
            and (not with_roles or MORE_THAN_VIEWER & {role["role"] for role in user["product_roles"]})
        ]
        page += 1
    return found[:wanted]


def bound(needed: int) -> float:
    """Return the shortest time in which the limits let so many requests through: in bursts of a minute's worth."""
    minutes, rest = divmod(needed - 1, PER_MINUTE)
    return minutes * 60 + rest / PER_SECOND


def _report(options: argparse.Namespace, seconds: float, sent: int, files: int, outcomes: Counter[str]) -> int:
    # Two requests a user, one full read in pages of 200, and one for whose key it is.
    users, listed = options.users, options.users * (3 if options.roles else 2)
    needed = 2 * users + math.ceil(listed / 200) + 1
    limit = bound(needed)
    print(f"outcomes          {dict(outcomes)}")
    print(f"requests          {sent} sent, {needed} needed (more would be retries after a 429)")
    print(f"files             {files}")
    print(f"seconds           {seconds:.1f}")
    print(f"bound             {limit:.1f}")
    print(f"ratio             {seconds / limit:.3f} (at most 1.2)")
    return int(seconds > 1.2 * limit or sent != needed or outcomes != {"changed": users})


if __name__ == "__main__":
    sys.exit(main())
