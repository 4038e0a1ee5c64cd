"""Measures the package, beside its peers where there are some, and writes docs/benchmarks.md: ``make bench``.

Every measurement is a process of its own, in an environment of its own below .venv/, against a sandbox that is
a process too. With ``--check`` nothing is written, and a missed target ends in a status other than 0.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
DOCS = ROOT / "docs" / "benchmarks.md"
# Versions that matter are the constraints' own, so that peers read with the same requests and pyarrow.
CONSTRAINTS = ROOT / "constraints" / "airflow-3.3.2.txt"
ENVIRONMENTS = {
    "sandbox": ["orjson", "starlette", "uvicorn"],
    "floor": ["pyarrow", "requests"],
    "pandas": ["pandas", "pyarrow", "requests"],
    "dlt": ["dlt[filesystem,parquet]==1.31.0"],
    "ours": ["fsspec", "orjson", "pandas", "pyarrow", "requests"],
}
SHOWN = ["requests", "pyarrow", "pandas", "dlt"]

KEY = "sandbox-key"
TWO = ("users", "user_roles")
ALL = (*TWO, "user_role_summary", "user_changes")


@dataclass(frozen=True)
class Peer:
    """Something that lands users as Parquet."""

    name: str
    environment: str
    module: str
    arguments: tuple[str, ...] = ()


FLOOR = Peer("floor: requests, from_pylist, ParquetWriter; users only", "floor", "floor")
OURS = Peer("**ours**: users and roles", "ours", "ours", ("unlimited", *TWO))
OURS_ALL = Peer("**ours**: all four datasets", "ours", "ours", ("unlimited", *ALL))
OURS_PACED = Peer("**ours**: users and roles", "ours", "ours", ("paced", *TWO))
PANDAS = Peer("pandas: json_normalize, to_parquet; users only", "pandas", "with_pandas")
DLT = Peer("dlt: rest_api to Parquet; users, roles as child tables", "dlt", "with_dlt")


@dataclass(frozen=True)
class Run:
    """What one process took: seconds, and bytes at its peak; and what it printed."""

    cpu: float
    wall: float
    peak: float
    output: str


@dataclass(frozen=True)
class Target:
    """What was promised, and what came."""

    what: str
    wanted: str
    came: str
    met: bool


@dataclass(frozen=True)
class Section:
    """One part of the report."""

    title: str
    method: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    targets: Sequence[Target]


INTRODUCTION = """\
Written by `make bench`, which measures everything on this page anew: the peers in the same run, against the
same [sandbox](sandbox.md), each as a process of its own in an environment of its own. Ratios carry over to
other machines; seconds don't."""
PEERS = """\
Their code is in `benchmarks/peers/`.

- The floor is the least that lands users: one page after the other, 50 pages to a row group, zstd. No roles, no
  check, no second try; times stay text.
- pandas holds all users in memory and keeps roles as nested lists.
- dlt makes child tables of the roles, as it does by itself.
- Ours also reads the key's owner and the workspaces, checks that the list is complete, lands typed users and one
  row per role, hashes what it wrote and publishes it atomically. pandas is installed beside it, because the
  provider requires it."""


# --- environments and processes ----------------------------------------------------------------------


def python_of(environment: str) -> Path:
    return VENV / f"bench-{environment}" / "bin" / "python"


def make_environments() -> None:
    uv = next((found for name in (VENV / "boot" / "bin" / "uv", "uv") if (found := shutil.which(name))), None)
    if uv is None:
        sys.exit("uv was not found: run this by `make bench`, or install uv.")
    for name, packages in ENVIRONMENTS.items():
        stamp = python_of(name).parent.parent / ".done"
        content = f"{sys.version}\n{packages}\n{CONSTRAINTS.read_text()}"
        if stamp.exists() and stamp.read_text() == content:
            continue
        print(f"Making {stamp.parent.relative_to(ROOT)}", flush=True)
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, stamp.parent], check=True)
        install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python_of(name)]
        subprocess.run([*install, "--constraint", CONSTRAINTS, *packages], check=True)
        stamp.write_text(content)


def versions() -> dict[str, str]:
    code = "import importlib.metadata as m\nfor n in %r:\n try: print(n, m.version(n))\n except Exception: pass"
    found: dict[str, str] = {}
    for name in ENVIRONMENTS:
        shown = subprocess.run([python_of(name), "-c", code % SHOWN], check=True, capture_output=True, text=True)
        found |= dict(line.split() for line in shown.stdout.splitlines())
    return found


def environment_of_children() -> dict[str, str]:
    # numpy comes along with pyarrow where it is installed; nobody here needs the threads that its BLAS keeps busy.
    kept = {name: os.environ[name] for name in ("LANG", "PATH", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1", "OPENBLAS_NUM_THREADS": "1"}


@contextmanager
def sandbox(users: int, *options: str) -> Iterator[str]:
    """Run a sandbox in a process, and give its address."""
    command = [python_of("sandbox"), "-m", "airflow_provider_aha.sandbox", "--users", str(users), "--port", "0"]
    with subprocess.Popen(
        [*command, *options], env=environment_of_children(), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            found = re.search(r"http://\S+", process.stdout.readline())
            if not found:
                sys.exit("The sandbox did not start.")
            yield found[0]
        finally:
            process.terminate()


def measure(peer: Peer, url: str) -> Run:
    """Run a peer once; what it wrote is thrown away."""
    with tempfile.TemporaryDirectory(prefix="aha-bench-") as folder:
        command = [python_of(peer.environment), "-m", f"benchmarks.peers.{peer.module}", url, KEY, folder]
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, *peer.arguments],
            cwd=folder,
            env={**environment_of_children(), "HOME": folder},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        with process.stdout:
            output = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{peer.module} failed with status {process.returncode}.")
        if not list(Path(folder).rglob("*.parquet")):
            sys.exit(f"{peer.module} wrote nothing.")
    unit = 1 if sys.platform == "darwin" else 1024
    return Run(used.ru_utime + used.ru_stime, wall, used.ru_maxrss * unit, output)


def rounds_of(peers: Sequence[Peer], url: str, rounds: int) -> dict[Peer, list[Run]]:
    """Measure each peer once a round, so that a slow minute of the machine meets all of them."""
    runs: dict[Peer, list[Run]] = {peer: [] for peer in peers}
    for number in range(rounds):
        for peer in peers:
            run = measure(peer, url)
            runs[peer].append(run)
            print(
                f"  {number + 1}/{rounds} {peer.name}: {run.cpu:.2f} s CPU, {run.wall:.2f} s, {mb(run.peak)} MB",
                flush=True,
            )
    return runs


def lowest(runs: Sequence[Run], what: str) -> float:
    return min(getattr(run, what) for run in runs)


def median(runs: Sequence[Run], what: str) -> float:
    return statistics.median(getattr(run, what) for run in runs)


def mb(size: float) -> str:
    return f"{size / 1e6:.0f}"


# --- what is measured --------------------------------------------------------------------------------


def cpu_seconds(rounds: int) -> Section:
    users = 50_000
    with sandbox(users, "--no-limits") as url:
        runs = rounds_of((FLOOR, OURS, OURS_ALL, PANDAS, DLT), url, rounds)
    ours = lowest(runs[OURS], "cpu")
    targets = []
    for peer, name, times in ((FLOOR, "the floor", 1.0), (PANDAS, "pandas", 1.4), (DLT, "dlt", 3.5)):
        ratio = lowest(runs[peer], "cpu") / ours
        targets.append(
            Target(f"CPU seconds of {name}, in ours", f"at least {times:.1f}", f"{ratio:.2f}", ratio >= times)
        )
    rows = [
        [
            peer.name,
            f"{lowest(runs[peer], 'cpu') / ours:.2f}",
            f"{lowest(runs[peer], 'cpu'):.2f}",
            f"{median(runs[peer], 'cpu'):.2f}",
            f"{median(runs[peer], 'wall'):.2f}",
            mb(median(runs[peer], "peak")),
        ]
        for peer in runs
    ]
    return Section(
        f"CPU: {users:,} users, no latency, no limits",
        f"User and system seconds of the whole process, imports included; {rounds} rounds, one of each a round. "
        "The ratio compares the lowest ones. Wall time is that of client and sandbox, who share the cores.",
        ["", "CPU, ours = 1", "CPU s, lowest", "CPU s, median", "wall s, median", "peak MB"],
        rows,
        targets,
    )


def pace(rounds: int) -> Section:
    users, latency = 20_000, 0.25
    bound = users / 200 / 20
    runs, refused = [], 0
    for _ in range(rounds):
        # A minute's allowance isn't enough for two reads and their second tries: each has a sandbox of its own.
        with sandbox(users, "--latency-ms", str(latency * 1000)) as url:
            runs += rounds_of((OURS_PACED,), url, 1)[OURS_PACED]
            refused += count_refused(url)
    with sandbox(users, "--latency-ms", str(latency * 1000)) as url:
        sequential = rounds_of((FLOOR,), url, 1)[FLOOR][0].wall
    reads = [float(run.output) for run in runs]
    middle = statistics.median(reads)
    return Section(
        f"Pace: {users:,} users, {latency * 1000:.0f} ms latency, both limits enforced",
        f"100 pages at Aha!'s 20 requests a second can't take less than {bound:.0f} s. Wall time from the first "
        f"request to the published manifest, and of the whole process; median of {rounds} rounds (lowest "
        f"{min(reads):.2f} s). Answers with 429 are counted in the sandbox's log of requests.",
        ["", "read, in the bound", "read, s", "process, s", "429"],
        [
            [
                OURS_PACED.name,
                f"{middle / bound:.2f}",
                f"{middle:.2f}",
                f"{median(runs, 'wall'):.2f}",
                str(refused),
            ],
            [FLOOR.name + ", one page after the other", "", "", f"{sequential:.2f}", "0"],
        ],
        [
            Target(
                "Time of the read under the limits, in the bound",
                "at most 1.20",
                f"{middle / bound:.2f}",
                middle <= 1.2 * bound,
            ),
            Target("Requests refused with 429", "0", str(refused), refused == 0),
        ],
    )


def count_refused(url: str) -> int:
    with urlopen(f"{url}/_sandbox/requests", timeout=60) as answer:
        return sum(1 for part in answer.read().split(b'"status":')[1:] if part.startswith(b"429"))


def size(rounds: int) -> Section:
    runs: dict[int, list[Run]] = {}
    for users in (10_000, 50_000, 200_000):
        with sandbox(users, "--no-limits") as url:
            runs[users] = rounds_of((OURS_ALL,), url, rounds)[OURS_ALL]
    peaks = {users: statistics.median(run.peak for run in found) for users, found in runs.items()}
    each = {users: min(run.cpu for run in found) / users for users, found in runs.items()}
    more, slower = peaks[200_000] - peaks[10_000], each[200_000] / each[50_000]
    return Section(
        "Size: all four datasets, no limits",
        f"Peak resident memory of the whole process, median of {rounds} rounds; user and system seconds of the "
        "whole process, imports included, lowest of the rounds.",
        ["users", "peak MB", "more than 10,000 users, MB", "CPU µs per user"],
        [[f"{n:,}", mb(p), mb(p - peaks[10_000]), f"{each[n] * 1e6:.0f}"] for n, p in peaks.items()],
        [
            Target("Memory of 200,000 users above that of 10,000", "at most 30 MB", f"{mb(more)} MB", more <= 30e6),
            Target("CPU per user of 200,000, in that of 50,000", "at most 1.10", f"{slower:.2f}", slower <= 1.1),
        ],
    )


def large(_rounds: int) -> Section:
    users, latency = 200_000, 0.05
    pages = users // 200
    # 300 in any minute: each further 300 has to wait for a minute more, and within one there are 20 a second.
    bound = (pages - 1) // 300 * 60 + (pages - 1) % 300 / 20
    with sandbox(users, "--latency-ms", str(latency * 1000)) as url:
        run = measure(OURS_PACED, url)
        refused = count_refused(url)
    took = float(run.output)
    return Section(
        f"Large: {users:,} users, {latency * 1000:.0f} ms latency, both limits enforced",
        f"{pages:,} pages can't come in less than {bound:.0f} s. Wall time from the first request to the published "
        "manifest; measured once, since waiting doesn't vary.",
        ["", "read, in the bound", "read, s", "CPU s", "peak MB", "429"],
        [[OURS_PACED.name, f"{took / bound:.2f}", f"{took:.0f}", f"{run.cpu:.1f}", mb(run.peak), str(refused)]],
        [
            Target(
                "Time of the read of 200,000 users, in the bound",
                "at most 1.10",
                f"{took / bound:.2f}",
                took <= 1.1 * bound,
            ),
            Target("Requests of it refused with 429", "0", str(refused), refused == 0),
        ],
    )


def together(_rounds: int) -> Section:
    found = json.loads(script("many_tasks"))
    took, bound = found["seconds"], found["bound_seconds"]
    return Section(
        "Together: 8 tasks with one key, begun in the same second, both limits enforced",
        "`benchmarks/many_tasks.py`: 40 pages for each task, a process of its own with a client of its own. "
        "Measured once. What is refused falls into the first second, before anybody has had an answer.",
        ["", "in the bound", "s", "requests", "429", "complete"],
        [
            [
                "**ours**",
                f"{took / bound:.2f}",
                f"{took:.1f}",
                str(found["requests"]),
                str(found["refused_429"]),
                f"{found['complete']} of {found['tasks']}",
            ]
        ],
        [
            Target(
                "Time of 8 tasks with one key, in the bound",
                "at most 1.20",
                f"{took / bound:.2f}",
                took <= 1.2 * bound,
            ),
            Target(
                "Requests of them refused with 429",
                "at most 20",
                str(found["refused_429"]),
                found["refused_429"] <= 20,
            ),
        ],
    )


def imports(rounds: int) -> Section | None:
    command = [sys.executable, "-m", "benchmarks.imports"]
    if subprocess.run([sys.executable, "-c", "import airflow.sdk"], check=False, capture_output=True).returncode:
        print("  left out: this Python has no Airflow 3 (make bench uses the right one)")
        return None
    seen: dict[str, list[float]] = {}
    totals, heavy = [], "none"
    with tempfile.TemporaryDirectory(prefix="aha-bench-") as home:
        env = {**environment_of_children(), "AIRFLOW_HOME": home, "HOME": home}
        for number in range(rounds + 1):
            done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
            *modules, heavy = (line.split()[1] for line in done.stdout.splitlines())
            if number:  # the first one writes the bytecode
                totals.append(sum(map(float, modules)))
                for line in done.stdout.splitlines()[:-1]:
                    seen.setdefault(line.split()[0], []).append(float(line.split()[1]))
    figures = {"all of them": totals, **dict(sorted(seen.items(), key=lambda item: -min(item[1]))[:5])}
    least = min(totals)
    return Section(
        "Parsing a DAG file: all operator, hook, sensor and transfer modules",
        f"Wall time of importing them after `airflow.sdk`, in order of their names; {rounds} processes. Below the "
        "sum stand the five slowest; what one loads, the next finds loaded.",
        ["", "ms, lowest", "ms, median"],
        [[name, f"{min(ms):.1f}", f"{statistics.median(ms):.1f}"] for name, ms in figures.items()],
        [
            Target("Import time on top of `airflow.sdk`", "at most 25 ms", f"{least:.1f} ms", least <= 25),
            Target("Heavy libraries loaded by it", "none", heavy, heavy == "none"),
        ],
    )


def script(name: str, *arguments: str) -> str:
    """Run another benchmark of this folder; return what it printed."""
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *arguments]
    # One that misses its target ends in a status other than 0, and has printed all the same.
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, flush=True)
    return done.stdout


def figure(pattern: str, output: str) -> float:
    found = re.search(pattern, output, re.MULTILINE)
    if not found:
        sys.exit(f"A benchmark failed: nothing in its output matches {pattern}")
    return float(found[1])


def plan(rounds: int) -> Section:
    output = script("plan", "--runs", str(rounds))
    wall, cpu = figure(r"^plan, wall +([\d.]+) s median", output), figure(r"^plan, CPU +([\d.]+) s median", output)
    return Section(
        "Plan: 50,000 users, two rules, a roster, exclusions, flags of the plan before",
        f"`benchmarks/plan.py`: each plan in a process of its own, imports not counted; median of {rounds} rounds.",
        ["", "wall s", "CPU s"],
        [["**ours**", f"{wall:.2f}", f"{cpu:.2f}"]],
        [Target("Time of a plan over 50,000 users", "at most 2 s", f"{wall:.2f} s", wall <= 2)],
    )


def deactivate(_rounds: int) -> Section:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    output = script("deactivate", "--port", str(port))
    took, bound = figure(r"^seconds +([\d.]+)", output), figure(r"^bound +([\d.]+)", output)
    sent, needed = figure(r"^requests +(\d+) sent", output), figure(r"sent, (\d+) needed", output)
    return Section(
        "Deactivation: 500 users, 250 ms latency, both limits enforced",
        "`benchmarks/deactivate.py`: a read and a write for each user, after one full read, with all events and "
        f"the evidence; the limits allow it in {bound:.0f} s. Measured once, since waiting doesn't vary.",
        ["", "in the bound", "s", "requests sent", "needed"],
        [["**ours**", f"{took / bound:.2f}", f"{took:.1f}", f"{sent:.0f}", f"{needed:.0f}"]],
        [
            Target(
                "Time of 500 deactivations, in the bound",
                "at most 1.20",
                f"{took / bound:.2f}",
                took <= 1.2 * bound,
            ),
            Target("Requests of them more than needed", "0", f"{sent - needed:.0f}", sent == needed),
        ],
    )


def report(rounds: int) -> Section:
    output = script("report", "--runs", str(rounds))
    facts = re.findall(r"^(\d+) users +([\d.]+) s CPU, page ([\d.]+) MB, peak ([\d.]+) MB", output, re.MULTILINE)
    if len(facts) != 2:
        sys.exit("benchmarks/report.py failed.")
    more = figure(r"^more memory +(-?[\d.]+) MB", output)
    cpu, page = float(facts[0][1]), float(facts[0][2])
    return Section(
        "Access review: the page, the table and the population of a report",
        f"`benchmarks/report.py`: each report in a process of its own, CPU without imports; median of {rounds} "
        "rounds. A page carries at most 100,000 rows.",
        ["users", "CPU s", "page MB", "peak MB"],
        [[f"{int(users):,}", *others] for users, *others in facts],
        [
            Target("CPU time of the report of 20,000 users", "under 5 s", f"{cpu:.2f} s", cpu < 5),
            Target("Its page", "under 8 MB", f"{page:.1f} MB", page < 8),
            Target("Memory of 200,000 users above that", "at most 150 MB", f"{more:.0f} MB", more <= 150),
        ],
    )


def push(rounds: int) -> Section:
    output = script("push", "--rounds", str(rounds))
    cells = [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in output.splitlines() if line[:1] == "|"
    ]
    targets = [Target(row[0], row[1], row[2], row[3] == "yes") for row in cells if row[-1] in ("yes", "**no**")]
    rows = [row for row in cells if row[0].startswith(("ours", "pandas"))]
    if not targets or not rows:
        sys.exit("benchmarks/push.py failed.")
    return Section(
        "Push: 100,000 users to PostgreSQL",
        f"`benchmarks/push.py`, {rounds} rounds; how, and what pandas does, is on "
        "[its own page](push/benchmarks.md).",
        ["", "wall s, lowest", "wall s, median", "CPU s, median", "peak MB"],
        rows,
        targets,
    )


# --- the report --------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, plain: bool = False) -> str:
    cells = [[cell.replace("*", "") if plain else cell for cell in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    aligned = [
        [c.ljust(w) if not i else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True))] for r in cells
    ]
    if plain:
        return "\n".join("  ".join(row) for row in aligned)
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (aligned[0], rule, *aligned[1:]))


def targets_table(sections: Sequence[Section], *, plain: bool = False) -> str:
    rows = [
        [target.what, target.wanted, target.came, "yes" if target.met else "**no**"]
        for section in sections
        for target in section.targets
    ]
    return table(["", "target", "measured", "met"], rows, plain=plain)


def machine() -> str:
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {memory_bytes / 2**30:.0f} GiB memory, "
        f"{platform.system()}, Python {platform.python_version()}, {packages}."
    )


def write_docs(sections: Sequence[Section], where: str) -> None:
    parts = ["# Benchmarks", INTRODUCTION, targets_table(sections), f"Measured on {where}"]
    for section in sections:
        parts += [f"## {section.title}", table(section.head, section.rows), section.method]
    parts += ["## The peers", PEERS]
    DOCS.parent.mkdir(exist_ok=True)
    DOCS.write_text("\n\n".join(parts) + "\n")


MEASURES: dict[str, Callable[[int], Section | None]] = {
    "cpu": cpu_seconds,
    "pace": pace,
    "size": size,
    "large": large,
    "together": together,
    "plan": plan,
    "deactivate": deactivate,
    "push": push,
    "report": report,
    "imports": imports,
}
ONCE = ("large", "together", "deactivate")
ROUNDS = {"cpu": 5, "pace": 3, "size": 3, "plan": 5, "push": 3, "report": 3, "imports": 15} | dict.fromkeys(ONCE, 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure.

    :param arguments: of the command line.
    :returns: the exit status: 1 when ``--check`` was given and a target was missed.
    """
    parser = argparse.ArgumentParser(description="Measure the extraction beside its peers.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a target is missed")
    parser.add_argument("--only", choices=MEASURES, action="append", help="this part only; writes nothing")
    parser.add_argument("--rounds", type=int, help="how often each is measured")
    options = parser.parse_args(arguments)
    make_environments()
    sections = []
    for name in options.only or MEASURES:
        print(f"== {name}", flush=True)
        section = MEASURES[name](options.rounds or ROUNDS[name])
        if section:
            sections.append(section)
            print(f"\n{table(section.head, section.rows, plain=True)}\n", flush=True)
    print(targets_table(sections, plain=True))
    if not options.check and len(sections) == len(MEASURES):
        write_docs(sections, machine())
        print(f"\nWritten to {DOCS.relative_to(ROOT)}")
    missed = any(not target.met for section in sections for target in section.targets)
    return int(options.check and missed)


if __name__ == "__main__":
    sys.exit(main())
