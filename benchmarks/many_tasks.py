"""Several tasks with one key at once: the sum of their requests, beside the limits.

Each task is a process of its own with its own client, as on the workers of an Airflow. The sandbox counts as
strictly as a server plausibly would, and its record of requests is the witness.

    python benchmarks/many_tasks.py --tasks 8 --users 8000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

from airflow_provider_aha.sandbox.testing import SandboxServer

TASK = """
import sys, time
from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.api.config import ClientConfig
with AhaClient(ClientConfig(sys.argv[1], "acme", sys.argv[2])) as client:
    users = sum(1 for _ in client.iter_users())
    print(users, client.requests_sent, client.rereads)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--users", type=int, default=8000)
    options = parser.parse_args()
    with SandboxServer(users=options.users, limits=True) as aha:
        began = time.monotonic()
        tasks = [
            subprocess.Popen([sys.executable, "-c", TASK, aha.url, aha.key], stdout=subprocess.PIPE, text=True)
            for _ in range(options.tasks)
        ]
        answers = [task.communicate() for task in tasks]
        seconds = time.monotonic() - began
        times = sorted(request.time for request in aha.requests)
        refused = sum(request.status == 429 for request in aha.requests)
    needed = options.tasks * -(-options.users // 200)
    in_a_second = max(sum(start <= one < start + 1 for one in times) for start in times)
    result = {
        "tasks": options.tasks,
        "complete": sum(answer.split()[:1] == [str(options.users)] for answer, _ in answers),
        "requests": len(times),
        "refused_429": refused,
        "seconds": round(seconds, 1),
        # 300 requests go at once at 20 a second; each further 300 wait for the minute to end.
        "bound_seconds": round(max(needed / 20, 60 * ((needed - 1) // 300)), 1),
        "most_in_one_second": in_a_second,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
