"""The quickstart, as a new user would follow it: its commands in a new environment, one shell, in their order.

Not run, because it needs the network: `make build` (the wheel is built here by the same backend) and
`pip install duckdb`. pip runs as the page says, but finds Airflow and what the wheel needs among this environment's
packages. The sandbox stands in for the account, on a free port, and a folder of the test's own for `/data/aha`.
"""

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tools.local import free_port

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [body for language, body in BLOCKS if language == "bash"]
NEEDS_NETWORK = "make build"
# The command into an environment of one's own is part of the block for a new one.
INSTALL = re.compile(r"^pip install .*$", re.MULTILINE)
SANDBOX = "python -m airflow_provider_aha.sandbox"
DONE = "--- done: "
BEHIND = """{command} &
sandbox=$!
trap 'kill $sandbox' EXIT
until python -c "import socket; socket.create_connection(('127.0.0.1', {port}))" 2>/dev/null
do kill -0 $sandbox
done
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        f"apache-airflow=={version('apache-airflow')}" not in PAGE, reason="the page is about the newest Airflow"
    ),
]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel in `dist/`, as `make build` leaves it."""
    folder = tmp_path_factory.mktemp("checkout")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A shell without an environment: a bare Python, and all packages of this one but ours for pip to find."""
    packages, programs = tmp_path_factory.mktemp("packages"), tmp_path_factory.mktemp("bin")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith(("airflow_provider_aha", "_airflow_provider_aha", "__editable__")):
            (packages / path.name).symlink_to(path)
    (programs / "python").symlink_to(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
    (programs / "airflow").write_text('#!/bin/sh\nexec python -m airflow "$@"\n')
    (programs / "airflow").chmod(0o755)
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | {"PATH": f"{programs}:/usr/bin:/bin", "PYTHONPATH": str(packages), "PIP_NO_INDEX": "1"}


def test_every_command_is_known():
    """What is not run here is named here."""
    assert COMMANDS[0].split("#")[0].strip() == NEEDS_NETWORK
    (alone,) = (body for body in COMMANDS if INSTALL.fullmatch(body.strip()))
    (new,) = (body for body in COMMANDS if body.startswith("python -m venv"))
    assert INSTALL.findall(alone) == INSTALL.findall(new)


def script(port: int, output: Path) -> Iterator[str]:
    """Yield the lines of the page, with a mark after each block; what runs in a second terminal goes behind."""
    for number, body in enumerate(COMMANDS):
        if body.startswith(NEEDS_NETWORK) or INSTALL.fullmatch(body.strip()):
            continue
        text = body.replace("8765", str(port)).replace("/data/aha", str(output))
        if text.startswith(SANDBOX):
            text = BEHIND.format(command=text.strip(), port=port)
        yield text
        yield f"echo '{DONE}{number}'\n"


@pytest.fixture(scope="module")
def followed(checkout: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a shell prints that is given all commands, and where the files landed."""
    output = tmp_path_factory.mktemp("data") / "aha"
    lines = "set -eu\n" + "".join(script(free_port(), output))
    done = subprocess.run(
        ["/bin/bash"], input=lines, cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr, output, checkout / "aha-env" / "bin" / "python"


def test_the_wheel_is_installed_and_airflow_knows_it(followed, environment):
    printed, _, python = followed
    _, _, after = printed.partition("Successfully installed airflow-provider-aha-")
    # The table of `airflow providers get`.
    assert re.search(r"airflow-provider-aha +\|", after), after[:2000]
    where = subprocess.run(
        [python, "-c", "import airflow_provider_aha; print(airflow_provider_aha.__file__)"],
        cwd=python.parents[1],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout).is_relative_to(python.parents[1])


def test_the_connection_is_tested(followed):
    printed, _, _ = followed
    (quoted,) = re.findall(r"It prints \*(.+?)\*", PAGE)
    assert quoted in printed


def test_the_log_has_the_lines_that_the_page_quotes(followed):
    printed, output, _ = followed
    (quoted,) = (body for language, body in BLOCKS if language == "text")
    for line in quoted.splitlines():
        found = re.fullmatch(r"(\w+): (\d+) rows in /data/aha/(\w+)/account=mycompany/snapshot=[\d-]+/(\S+)", line)
        assert found, line
        name, rows, folder, file = found.groups()
        rows = rows if name == "users" else r"\d+"
        path = rf"{re.escape(str(output))}/{folder}/account=[\d.]+/snapshot=[\d-]+/{re.escape(file)}"
        assert re.search(rf"\b{name}: {rows} rows in {path}", printed), line


@pytest.mark.parametrize("number", [number for number, (language, _) in enumerate(BLOCKS) if language == "python"])
def test_what_landed_is_read_as_the_page_says(followed, environment, number):
    _, output, python = followed
    (landed,) = output.glob("users/*/*/users.parquet")
    code = BLOCKS[number][1].replace("/data/aha", str(output)).replace("account=mycompany", landed.parts[-3])
    code = re.sub(r"snapshot=[\d-]+", landed.parts[-2], code)
    done = subprocess.run([python, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "print" not in code or "@" in done.stdout


def test_duckdb_counts_as_the_page_says(followed):
    duckdb = pytest.importorskip("duckdb")
    _, output, _ = followed
    (query,) = (body for language, body in BLOCKS if language == "sql")
    ((account, _, users, seats),) = duckdb.sql(query.replace("/data/aha", str(output))).fetchall()
    assert (account, users) == ("127.0.0.1", 500)
    assert 0 < seats < 500
