"""Report, review and decisions on an object store: S3 over HTTP (moto's server), by an Airflow connection."""

import csv
import html
import io
import json
import re
import shlex
from datetime import timedelta
from importlib.metadata import version

import pytest

from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.datasets.extract import extract
from airflow_provider_aha.datasets.names import DATASETS
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaGuardError, AhaSnapshotError
from airflow_provider_aha.hooks.paths import resolve_path
from airflow_provider_aha.record.run import Run
from airflow_provider_aha.report.build import PAGE, SUMMARY, TABLE, make_report
from airflow_provider_aha.report.shelf import read_published, render_list
from airflow_provider_aha.review.submission import submit
from airflow_provider_aha.sandbox.account import Account
from airflow_provider_aha.sandbox.testing import SandboxServer
from airflow_provider_aha.verify import main as verify
from tests.raw import raw

VERSIONS = [tuple(map(int, version(name).split(".")[:2])) for name in ("apache-airflow", "universal-pathlib")]
RUN = Run("aha_submit_review", "s1", "submit", 1, "carla")
URL = "s3://aws_reports@reports/lake/aha"

pytestmark = pytest.mark.skipif(
    VERSIONS[0] < (3, 0) and VERSIONS[1] >= (0, 3),
    reason="Airflow 2.11 has no object stores with universal-pathlib 0.3; its own constraints name 0.2",
)


@pytest.fixture(scope="module")
def endpoint():
    module = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    import boto3

    server = module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys).create_bucket(Bucket="reports")
    yield url
    server.stop()


@pytest.fixture
def store(endpoint, monkeypatch, small):
    """A desk whose base path is on S3, with a snapshot of 60 users."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    extra = {"endpoint_url": endpoint, "region_name": "us-east-1"}
    fields = {"conn_type": "aws", "login": "test", "password": "test", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_REPORTS", json.dumps(fields))
    location, desk = resolve_path(URL), small([])
    with SandboxServer(account=Account.generate(60, as_of=desk.now)) as server:
        config = ClientConfig(server.url, "acme", server.key, requests_per_second=10**5, requests_per_minute=10**6)
        with AhaClient(config) as client:
            extract(client, location, datasets=DATASETS, connection_id="aha", now=lambda: desk.now)
    return desk, location


def test_a_review_on_s3_from_the_page_to_its_decisions(store, capsys):
    desk, location = store
    summary = make_report(location, desk.asked("2026-Q4"), now=lambda: desk.now)
    assert summary["page"] == f"{URL}/reports/account=acme/snapshot=2026-11-20/{PAGE}"
    folder = f"{location.path}/reviews/account=acme/review=2026-Q4"
    assert {path.rpartition("/")[2] for path in raw(location).ls(folder, detail=False)} == {
        PAGE, TABLE, SUMMARY, "population.parquet", "manifest.json", "review.json",
    }  # fmt: skip
    again = make_report(location, desk.asked("2026-Q4"), now=lambda: desk.now + timedelta(minutes=5))
    assert again["population_sha256"] == summary["population_sha256"]
    with pytest.raises(AhaConfigurationError, match="frozen already"):
        make_report(location, desk.asked("2026-Q4", "r2"), now=lambda: desk.now)

    page = read_published(location, "acme", "review", "2026-Q4", PAGE)
    assert page == read_published(location, "acme", "snapshot", "2026-11-20", PAGE)
    assert "review/2026-Q4/access_review.html" in render_list(location).decode()
    table = read_published(location, "acme", "review", "2026-Q4", TABLE).decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert len(rows) == summary["figures"]["rows"]
    for row in rows:
        row |= {"decision": "keep", "reviewer": "Rita"}
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=";")
    writer.writeheader()
    writer.writerows(rows)
    body = text.getvalue().encode("utf-16")
    record = submit(location, "acme", body, RUN, now=lambda: desk.now)
    assert record["decisions"]["keep"] == len(rows)
    assert submit(location, "acme", body, RUN, now=lambda: desk.now) == record
    with pytest.raises(AhaGuardError, match="were submitted before"):
        submit(location, "acme", text.getvalue().replace("Rita", "Rosa").encode(), RUN, now=lambda: desk.now)

    # The command that stands on the page, as a shell would read it.
    (command, *_) = re.findall(r"<(?:code|pre)>(python -m airflow_provider_aha\.verify .*?)</", page.decode())
    *_, module, path = shlex.split(html.unescape(command))
    assert (module, path) == ("airflow_provider_aha.verify", URL)
    assert verify([path]) == 0
    raw(location).pipe_file(f"{folder}/{TABLE}", b"another")
    assert verify([path]) == 1
    assert f"acme: reviews/review=2026-Q4/{TABLE} was changed.\n" in capsys.readouterr().out
    with pytest.raises(AhaSnapshotError):
        read_published(location, "acme", "review", "2026-Q4", TABLE)
