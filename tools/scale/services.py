"""What a distributed Airflow stands on, each a process of its own on a port that the system chose."""

import getpass
import os
import pwd
import secrets
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tools.local import BIN, LOOPBACK, ProblemError, Processes, answers, clean_environment, free_port, say

BUCKET = "aha"


def install() -> None:
    """Install what is missing of Debian's PostgreSQL and Redis."""
    missing = []
    if not postgres_folder():
        missing.append("postgresql")
    if not shutil.which("redis-server"):
        missing.append("redis-server")
    if not missing:
        return
    packages = " ".join(missing)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise ProblemError(f"missing: {packages}; install it (on Debian and Ubuntu: apt-get install {packages})")
    say(f"Installing {packages}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # A list of packages that can't be brought up to date may be good enough.
    subprocess.run(["apt-get", "update", "-qq"], env=env, check=False, capture_output=True)
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ProblemError(f"apt-get install {packages} failed: {reason}")


def postgres_folder() -> Path | None:
    """Return where the newest PostgreSQL's programs lie."""
    found = shutil.which("postgres")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    return folders[-1] if folders else Path(found).parent if found else None


def start_postgres(processes: Processes, place: Path) -> str:
    """Start PostgreSQL; return what stands between `postgresql://` and the name of a database."""
    folder, port, password = postgres_folder(), free_port(), secrets.token_urlsafe(24)
    if folder is None:
        raise ProblemError("PostgreSQL is not installed")
    data, key = place / "data", place / "password"
    key.write_text(password)
    user = getpass.getuser()
    prefix: list[str] = []
    if os.geteuid() == 0:  # it refuses to run as root
        user = "postgres"
        with suppress(KeyError):
            owner = pwd.getpwnam(user)
            for path in (place, key):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        prefix = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"]
    env = clean_environment()
    initdb = [str(folder / "initdb"), "-D", str(data), "-U", "airflow", f"--pwfile={key}", "-A", "scram-sha-256"]
    processes.run("initdb", [*prefix, *initdb, "-E", "UTF8", "--locale=C", "-N"], env)
    # What it holds lasts as long as the demo: nothing has to reach the disk.
    settings = [f"listen_addresses={LOOPBACK}", f"port={port}", f"unix_socket_directories={place}", "fsync=off"]
    options = [part for setting in settings for part in ("-c", setting)]
    processes.start("postgres", [*prefix, str(folder / "postgres"), "-D", str(data), *options], env)
    processes.wait_for("PostgreSQL", lambda: accepts(port), 60)
    address = f"airflow:{password}@{LOOPBACK}:{port}"
    processes.wait_for("PostgreSQL", lambda: execute(address, "SELECT 1"), 60)
    for database in ("airflow", "warehouse"):
        execute(address, f"CREATE DATABASE {database}")
    return address


def execute(address: str, statement: str, database: str = "postgres") -> list[tuple[Any, ...]] | None:
    """Run a statement; return its rows, or None while the server starts."""
    import psycopg2

    try:
        connection = psycopg2.connect(f"postgresql://{address}/{database}")
    except psycopg2.OperationalError:
        return None
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


def start_redis(processes: Processes, place: Path) -> str:
    """Start Redis; return its address as Celery takes it."""
    port, password = free_port(), secrets.token_urlsafe(24)
    settings = place / "redis.conf"
    settings.write_text(
        f'bind {LOOPBACK}\nport {port}\ndir {place}\nrequirepass {password}\nsave ""\nappendonly no\n'
    )
    settings.chmod(0o600)
    processes.start("redis", ["redis-server", str(settings)], clean_environment())
    processes.wait_for("Redis", lambda: accepts(port), 60)
    return f"redis://:{password}@{LOOPBACK}:{port}/0"


def start_object_store(processes: Processes) -> str:
    """Start moto's S3 with one bucket; return its address."""
    import boto3

    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    processes.start("s3", [str(BIN / "moto_server"), "-H", LOOPBACK, "-p", str(port)], clean_environment())
    processes.wait_for("the object store", lambda: answers(url), 60)
    keys = {"aws_access_key_id": "demo", "aws_secret_access_key": "demo", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=url, **keys).create_bucket(Bucket=BUCKET)
    return url


def accepts(port: int) -> bool:
    """Tell whether somebody listens there."""
    with suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


def kill(processes: Processes, name: str) -> int:
    """End a process and all its descendants as a power cut does; return how many there were."""
    first = psutil.Process(processes.forget(name))
    # Stopped first, so that nobody mourns a child or starts another one.
    first.suspend()
    family = [first, *first.children(recursive=True)]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=10)
    return len(family)
