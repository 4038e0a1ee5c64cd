"""An object store for real: S3 over HTTP (moto's server), reached by an Airflow connection of type ``aws``."""

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib.metadata import version
from io import BytesIO
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from moto.server import ThreadedMotoServer

from airflow_provider_aha.datasets.extract import extract
from airflow_provider_aha.datasets.names import DATASETS
from airflow_provider_aha.datasets.snapshot import Snapshot, snapshot_days
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaSnapshotError, AhaStorageError
from airflow_provider_aha.hooks.paths import resolve_path
from airflow_provider_aha.sandbox.testing import SandboxServer
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import Store
from tests.datasets.conftest import NOW, Connect

VERSIONS = [tuple(map(int, version(name).split(".")[:2])) for name in ("apache-airflow", "universal-pathlib")]

pytestmark = pytest.mark.skipif(
    VERSIONS[0] < (3, 0) and VERSIONS[1] >= (0, 3),
    reason="Airflow 2.11 has no object stores with universal-pathlib 0.3; its own constraints name 0.2",
)

BUCKET = "a-bucket"
URL = f"s3://aws_default@{BUCKET}/lake/aha"


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_url: str) -> Any:
    requests.post(f"{s3_url}/moto-api/reset", timeout=10)
    client = boto3.client(
        "s3",
        endpoint_url=s3_url,
        region_name="us-east-1",
        aws_access_key_id="writer",
        aws_secret_access_key="writer",
    )
    client.create_bucket(Bucket=BUCKET)
    return client


@pytest.fixture
def resolve(s3_url: str, s3: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Store]:
    """Call it with a path to resolve it as a task does, the connection in the environment."""

    def connection(endpoint: str) -> str:
        # Fails at once: nothing here gets better by waiting.
        quick = {"retries": {"max_attempts": 0}, "connect_timeout": 5, "read_timeout": 5}
        extra = {"endpoint_url": endpoint, "region_name": "us-east-1", "config_kwargs": quick}
        return json.dumps({"conn_type": "aws", "login": "reader", "password": "reader", "extra": extra})

    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", connection(s3_url))
    monkeypatch.setenv("AIRFLOW_CONN_AWS_GONE", connection("http://127.0.0.1:1"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    def make(path: str = URL) -> Store:
        found = resolve_path(path)
        found.fs.invalidate_cache()
        return found

    return make


def keys(s3: Any) -> list[str]:
    return [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def bodies(s3: Any) -> dict[str, bytes]:
    return {key: s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys(s3)}


def land(
    server: SandboxServer, connect: Connect, location: Store, day: int = 0, datasets: Any = DATASETS
) -> dict[str, Any]:
    with connect(server) as client:
        return extract(
            client, location, datasets=datasets, connection_id="aha", now=lambda: NOW + timedelta(days=day)
        )


def layout(location: Store) -> Layout:
    return Layout("sandbox")


def test_a_snapshot_lands_and_reads_back(shared_sandbox, connect: Connect, resolve, s3: Any):
    location = resolve()
    manifest = land(shared_sandbox, connect, location)
    tail = "account=sandbox/snapshot=2026-09-01"
    assert keys(s3) == sorted(
        [f"lake/aha/{name}/{tail}/{name}.parquet" for name in DATASETS]
        + [f"lake/aha/manifests/{tail}/manifest.json"]
    )
    assert [file["path"] for file in manifest["files"]] == [
        f"{URL}/{name}/{tail}/{name}.parquet" for name in DATASETS
    ]
    assert snapshot_days(location, "sandbox") == ["2026-09-01"]
    assert Snapshot.of(location, "sandbox", "2026-09-01").manifest == manifest
    with Snapshot(location, "sandbox", manifest).open("users") as file:
        assert file.read()["id"].to_pylist() == shared_sandbox.account.user_ids


def test_a_second_run_replaces_the_day_and_a_later_one_finds_changes(
    aha_sandbox, connect: Connect, resolve, s3: Any
):
    location = resolve()
    first = land(aha_sandbox, connect, location)
    second = land(aha_sandbox, connect, location)
    assert len(keys(s3)) == len(DATASETS) + 1
    assert [file["sha256"] for file in first["files"]] == [file["sha256"] for file in second["files"]]
    aha_sandbox.account.add_user()
    third = land(aha_sandbox, connect, location, day=1)
    assert snapshot_days(location, "sandbox") == ["2026-09-01", "2026-09-02"]
    path = third["files"][-1]["path"].removeprefix(f"s3://aws_default@{BUCKET}/")
    rows = pq.read_table(BytesIO(bodies(s3)[path])).to_pylist()
    assert [row["change"] for row in rows][:1] == ["added"]


def test_a_reader_sees_what_others_wrote_since_it_looked(shared_sandbox, connect: Connect, resolve, s3: Any):
    location = resolve()
    manifest = land(shared_sandbox, connect, location)
    files = layout(location)
    assert snapshot_days(location, "sandbox") == ["2026-09-01"]
    location.fs.ls(f"{location.path}/{files.manifests}")
    users = s3.get_object(Bucket=BUCKET, Key=keys(s3)[-1])["Body"].read()
    new = {**manifest, "snapshot": "2026-09-02"}
    key = f"{location.path}/{files.manifest('2026-09-02')}".removeprefix(f"{BUCKET}/")
    s3.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(new).encode())
    assert snapshot_days(location, "sandbox") == ["2026-09-01", "2026-09-02"]
    location.fs.ls(f"{location.path}/{files.dataset('users', '2026-09-01')}".rpartition("/")[0])
    longer = users + b"longer than the listing says"
    s3.put_object(Bucket=BUCKET, Key=keys(s3)[-1], Body=longer)
    entry = {"dataset": "users", "sha256": hashlib.sha256(longer).hexdigest()}
    with (
        pytest.raises(pa.ArrowInvalid, match="Parquet magic bytes"),
        Snapshot(location, "sandbox", manifest | {"files": [entry]}).open("users"),
    ):
        pass


def test_another_file_than_the_manifest_names_is_refused(shared_sandbox, connect: Connect, resolve, s3: Any):
    location = resolve()
    manifest = land(shared_sandbox, connect, location, datasets=["users"])
    s3.put_object(Bucket=BUCKET, Key=keys(s3)[-1], Body=b"other")
    with (
        pytest.raises(AhaSnapshotError, match="is not the file that its manifest names"),
        Snapshot(location, "sandbox", manifest).open("users"),
    ):
        pass


def test_refused_credentials_are_one_sentence_and_leave_the_old_objects(
    shared_sandbox, connect: Connect, resolve, s3: Any, s3_url: str
):
    location = resolve()
    land(shared_sandbox, connect, location)
    before = bodies(s3)
    requests.post(f"{s3_url}/moto-api/reset-auth", data=b"0", timeout=10)
    try:
        with pytest.raises(AhaStorageError, match=r"could not be used: the credentials were refused") as caught:
            land(shared_sandbox, connect, location)
        with pytest.raises(AhaStorageError):
            land(shared_sandbox, connect, location, datasets=["users"])
        with pytest.raises(AhaStorageError):
            Snapshot.of(location, "sandbox", "2026-09-01")
    finally:
        requests.post(f"{s3_url}/moto-api/reset-auth", data=b"inf", timeout=10)
    assert "reader" not in str(caught.value)
    assert bodies(s3) == before


def test_a_store_out_of_reach_is_one_sentence(shared_sandbox, connect: Connect, resolve):
    with pytest.raises(AhaStorageError, match=r"its storage system failed \(EndpointConnectionError\)"):
        land(shared_sandbox, connect, resolve(f"s3://aws_gone@{BUCKET}/aha"), datasets=["users"])


def test_a_missing_bucket_is_one_sentence(shared_sandbox, connect: Connect, resolve):
    with pytest.raises(AhaStorageError, match=r"no-bucket/aha/users/.*: it, or its bucket, does not exist"):
        land(shared_sandbox, connect, resolve("s3://aws_default@no-bucket/aha"), datasets=["users"])


def test_an_empty_store_has_no_snapshots(resolve):
    location = resolve()
    assert snapshot_days(location, "sandbox") == []
    with pytest.raises(AhaSnapshotError, match=r"manifest\.json is missing"):
        Snapshot.of(location, "sandbox", "2026-09-01")


@pytest.mark.parametrize("path", ["a-bucket/aha", "s3:/a-bucket/aha", "s3:///aha", "//a-bucket/../aha"])
def test_a_path_that_names_no_bucket_is_refused(resolve, path: str):
    with pytest.raises(AhaConfigurationError):
        resolve(path)
