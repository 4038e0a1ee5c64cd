"""Private servers of PostgreSQL and MariaDB, from the system's packages, in temporary folders."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SECONDS = 60


class MissingError(Exception):
    """A server is not installed."""


def _program(name: str, *folders: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([*folders, os.environ.get("PATH", ""), "/usr/sbin"]))
    if found is None:
        raise MissingError(f"{name} is not installed")
    return found


def _newest(pattern: str) -> list[str]:
    return [str(path) for path in sorted(Path("/").glob(pattern), reverse=True)]


@contextmanager
def _folder(user: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Give a folder, and whom to run its server as: servers refuse to run as root."""
    folder = Path(tempfile.mkdtemp(prefix="aha-db-"))
    options: dict[str, Any] = {}
    try:
        if os.geteuid() == 0:
            try:
                owner = pwd.getpwnam(user)
            except KeyError:
                raise MissingError(f"there is no user {user} to run the server as") from None
            os.chown(folder, owner.pw_uid, owner.pw_gid)
            options = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        yield folder, options
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(command: Sequence[str], folder: Path, options: dict[str, Any]) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120, **options)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def _server(command: Sequence[str], folder: Path, options: dict[str, Any], ready: Any) -> Iterator[None]:
    log = folder / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, **options) as process,
    ):
        try:
            until = time.monotonic() + _SECONDS
            while not ready():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def postgres() -> Iterator[dict[str, Any]]:
    """Start PostgreSQL; give the fields of an Airflow connection to it."""
    folders = _newest("usr/lib/postgresql/*/bin")
    initdb, server = _program("initdb", *folders), _program("postgres", *folders)
    with _folder("postgres") as (folder, options):
        data = folder / "data"
        _run(
            [initdb, "-D", str(data), "-U", "aha", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"], folder, options
        )
        # A socket in the folder, and no port at all; nothing survives, so nothing has to reach the disk.
        command = [server, "-D", str(data), "-k", str(folder), "-c", "listen_addresses=", "-F"]
        command += ["-c", "full_page_writes=off", "-c", "synchronous_commit=off", "-c", "shared_buffers=64MB"]
        with _server(command, folder, options, lambda: _answers(folder / ".s.PGSQL.5432", _is_ready)):
            yield {"conn_type": "postgres", "host": str(folder), "login": "aha", "schema": "postgres"}


def _is_ready(address: Any) -> bool:
    import psycopg2

    try:
        psycopg2.connect(host=str(Path(address).parent), user="aha", dbname="postgres").close()
    except psycopg2.OperationalError:
        return False
    return True


@contextmanager
def mariadb() -> Iterator[dict[str, Any]]:
    """Start MariaDB; give the fields of an Airflow connection to it."""
    install, server = _program("mariadb-install-db"), _program("mariadbd")
    with _folder("mysql") as (folder, options):
        data = folder / "data"
        common = ["--no-defaults", f"--datadir={data}"]
        install_options = ["--auth-root-authentication-method=normal"]
        _run([install, *common, *install_options, f"--tmpdir={folder}"], folder, options)
        port = _free_port()
        command = [server, *common, f"--socket={folder}/socket", "--bind-address=127.0.0.1", f"--port={port}"]
        command += [f"--tmpdir={folder}", f"--pid-file={folder}/pid", "--skip-log-bin", "--skip-networking=0"]
        command += ["--innodb-flush-log-at-trx-commit=0", "--innodb-fast-shutdown=2"]
        with _server(command, folder, options, lambda: _answers(("127.0.0.1", port), _greets)):
            fields = {"conn_type": "mysql", "host": "127.0.0.1", "port": port, "login": "root", "password": ""}
            yield {**fields, "schema": "test", "extra": {"client": "mysql-connector-python"}}


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _answers(address: Any, test: Any) -> bool:
    try:
        return bool(test(address))
    except OSError:
        return False


def _greets(address: Any) -> bool:
    with socket.create_connection(address, timeout=1) as one:
        one.settimeout(1)
        return bool(one.recv(1))
