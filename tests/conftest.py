"""What all tests share: a throwaway Airflow home, a sandbox Aha! and connections to it.

A test that asks for none of the Airflow fixtures pays for none of Airflow: it is neither imported nor
configured here, and its database is made when the first test asks for ``airflow_db``.
"""

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.sandbox.testing import SandboxServer, aha_sandbox, oomnitza_sandbox
from airflow_provider_aha.store.store import Store

__all__ = ["aha_sandbox", "oomnitza_sandbox"]

REPOSITORY = Path(__file__).parents[1]


def _own_environment() -> Path:
    """Point Airflow to a home of its own; it reads the environment once, when it is first imported."""
    home = Path(tempfile.mkdtemp(prefix="aha-tests-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    for name in list(os.environ):
        if name.startswith(("AIRFLOW_", "AHA_")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    return home


AIRFLOW_HOME = _own_environment()


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """The session's AIRFLOW_HOME; without a database until ``airflow_db`` is asked for."""
    return AIRFLOW_HOME


@pytest.fixture(scope="session")
def airflow_db(airflow_home: Path) -> Path:
    """Airflow's metadata database, made once; a test that leaves rows behind names them so that no other minds."""
    from airflow.utils.db import initdb

    initdb()
    return airflow_home / "airflow.db"


@pytest.fixture(scope="session")
def _session_sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(users=450) as server:
        yield server


@pytest.fixture
def shared_sandbox(_session_sandbox: SandboxServer) -> SandboxServer:
    """A sandbox of 450 users (three pages) for tests that only read: no faults, no changes.

    The record of its requests begins anew with every test. For anything else ``aha_sandbox`` is a server of
    the test's own.
    """
    _session_sandbox.forget_requests()
    return _session_sandbox


@pytest.fixture
def set_connection(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Call it to keep a connection in the environment: a URI, or fields for the JSON form."""

    def put(uri: str | None = None, *, conn_id: str = "aha_default", **fields: Any) -> None:
        text = uri if uri is not None else json.dumps({"conn_type": "aha", **fields})
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", text)

    return put


@pytest.fixture
def aha_default(shared_sandbox: SandboxServer, set_connection: Callable[..., None]) -> SandboxServer:
    """The shared sandbox, with ``aha_default`` in the environment as the connection to it."""
    set_connection(shared_sandbox.connection_uri)
    return shared_sandbox


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A real browser; on the newest Airflow only, for pages are the same on all.

    For a module only: as long as it is open, the thread has a running event loop, and asyncio refuses another.
    """
    if tuple(map(int, version("apache-airflow").split(".")[:2])) < (3, 3):
        pytest.skip("pages are looked at on the newest Airflow only")
    if not Path("/usr/bin/chromium").exists():
        pytest.skip("chromium is not installed (/usr/bin/chromium)")
    module = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with module.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield browser
        browser.close()


# --- where files lie -------------------------------------------------------------------------------


@pytest.fixture
def local(tmp_path: Path) -> Store:
    return Store(LocalFileSystem(), str(tmp_path / "aha"), str(tmp_path / "aha"))


@pytest.fixture(scope="session")
def s3_client() -> Iterator[Any]:
    """A client of a real S3 server (moto's)."""
    module = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    import boto3

    server = module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    yield boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", **keys)
    server.stop()


@pytest.fixture
def s3_endpoint(s3_client: Any) -> str:
    """The address of a server with the bucket ``records``.

    The bucket is made again for each test: all such servers of a process are one, and other tests empty it.
    """
    s3_client.create_bucket(Bucket="records")
    return str(s3_client.meta.endpoint_url)


@pytest.fixture
def s3_url(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A base path on S3 through a connection of its own: Airflow keeps the filesystem of a connection."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    extra = {"endpoint_url": s3_endpoint, "region_name": "us-east-1"}
    fields = {"conn_type": "aws", "login": "test", "password": "test", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_RECORDS", json.dumps(fields))
    return f"s3://aws_records@records/{tmp_path.name}"


@pytest.fixture(params=["local", "s3"])
def location(request: pytest.FixtureRequest) -> Store:
    """A base path on the local disk, and once more on S3."""
    if request.param == "local":
        return request.getfixturevalue("local")  # type: ignore[no-any-return]
    import s3fs

    endpoint, name = request.getfixturevalue("s3_endpoint"), request.getfixturevalue("tmp_path").name
    options = {"endpoint_url": endpoint, "region_name": "us-east-1"}
    fs = s3fs.S3FileSystem(key="test", secret="test", client_kwargs=options, skip_instance_cache=True)
    return Store(fs, f"records/{name}", f"s3://records/{name}")
