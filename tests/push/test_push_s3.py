"""A push whose snapshot, outcomes and file lie on S3, and one that is taken up there after it broke."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest

from airflow_provider_aha.datasets.schemas import USERS
from airflow_provider_aha.datasets.snapshot import DatasetWriter
from airflow_provider_aha.exceptions import AhaTargetError
from airflow_provider_aha.push.mapping.spec import read_spec
from airflow_provider_aha.push.push import PushRequest, push
from airflow_provider_aha.push.targets.files import FileTarget
from airflow_provider_aha.record.run import Run
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import Store, to_json
from tests.push.conftest import ACCOUNT, DAY, ListTarget, mapping, users
from tests.push.test_push import Breaks
from tests.raw import raw


@pytest.mark.parametrize("location", ["s3"], indirect=True)
def test_on_s3_too(location, tmp_path):
    layout = Layout(ACCOUNT)
    with DatasetWriter(tmp_path, "users") as writer:
        writer.write(pa.Table.from_pylist(users(25), schema=USERS))
        file = writer.finish()
    manifest = tmp_path / "manifest.json"
    entry = {"dataset": "users", "path": "x", "rows": file.rows, "sha256": file.sha256}
    manifest.write_bytes(to_json({"account": ACCOUNT, "snapshot": DAY, "files": [entry]}))
    location.publish({layout.dataset("users", DAY): file.path, layout.manifest(DAY): manifest})

    def run(target: Any, run_id: str, try_number: int = 1) -> dict[str, Any]:
        task = Run("d", run_id, "t", try_number, "ann")
        return push(PushRequest(location, ACCOUNT, DAY, read_spec(mapping()), target, task))

    with pytest.raises(AhaTargetError):
        run(ListTarget(Breaks(1, AhaTargetError("Down."))), "r1")
    second = ListTarget()
    assert run(second, "r1", 2)["counts"] == {"added": 25}
    assert len(second.emails) == 15
    summary = run(ListTarget(), "r2")
    assert summary["counts"] == {"unchanged": 25}
    outcomes = raw(location).cat_file(summary["outcomes"]["path"].removeprefix("s3://"))
    assert pq.read_table(io.BytesIO(outcomes)).num_rows == 25

    path = f"{location.path}/out/users.csv"
    assert run(FileTarget(Store(location.fs, path, path), "csv"), "r3")["counts"] == {"sent": 25}
    assert pcsv.read_csv(io.BytesIO(raw(location).cat_file(path))).num_rows == 25
