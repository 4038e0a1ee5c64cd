"""What tasks report as read and written: to Airflow's collector, and to OpenLineage where it is installed."""

import sys
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from airflow_provider_aha.operators.deactivations import AhaDeactivateUsersOperator
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator
from airflow_provider_aha.operators.lineage import ReportsLineage, target_of, users_of


@pytest.fixture
def collected(monkeypatch) -> Any:
    """Call it for the URIs that Airflow's collector was told of: read, written."""
    hook = import_module("airflow.providers.common.compat.lineage.hook")
    # Airflow's own keeps nothing while no plugin reads it.
    real = hook.get_hook_lineage_collector()
    found: dict[str, list[str]] = {"add_input_asset": [], "add_output_asset": []}
    stand_in = SimpleNamespace()
    for name, uris in found.items():
        assert callable(getattr(real, name))
        setattr(stand_in, name, lambda *, context, uri, uris=uris: uris.append(uri))
    monkeypatch.setattr(hook, "get_hook_lineage_collector", lambda: stand_in)
    return lambda: tuple(found.values())


@dataclass
class Dataset:
    """OpenLineage's dataset."""

    namespace: str
    name: str


@dataclass
class OperatorLineage:
    """What OpenLineage's provider takes from an operator."""

    inputs: list[Dataset] = field(default_factory=list)
    outputs: list[Dataset] = field(default_factory=list)


@pytest.fixture
def openlineage(monkeypatch) -> None:
    """OpenLineage, or what stands in for it where it isn't installed."""
    try:
        import_module("airflow.providers.openlineage.extractors")
    except ImportError:
        extractors = ModuleType("airflow.providers.openlineage.extractors")
        extractors.OperatorLineage = OperatorLineage  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "airflow.providers.openlineage", ModuleType("openlineage"))
        monkeypatch.setitem(sys.modules, "airflow.providers.openlineage.extractors", extractors)
        facet = import_module("airflow.providers.common.compat.openlineage.facet")
        monkeypatch.setattr(facet, "Dataset", Dataset)


def named(datasets: list[Any]) -> list[tuple[str, str]]:
    return [(dataset.namespace, dataset.name) for dataset in datasets]


class Context(dict[str, Any]):
    """A task's context for what needs none."""


@pytest.mark.usefixtures("openlineage")
def test_an_extract_reads_the_account_and_writes_its_files(aha_default, collected, tmp_path, mocker):
    operator = AhaExtractUsersOperator(task_id="extract", base_path=str(tmp_path), datasets=["users", "user_roles"])
    manifest = operator.execute({"ti": mocker.Mock()})
    account, paths = users_of(manifest["host"]), [file["path"] for file in manifest["files"]]
    assert collected() == ([account], [f"file://{path}" for path in paths])
    lineage = operator.get_openlineage_facets_on_complete(None)
    assert named(lineage.inputs) == [(f"aha://{manifest['host']}", "users")]
    assert named(lineage.outputs) == [("file", path) for path in paths]
    # Another task of the same day reports only what it has landed itself.
    other = AhaExtractUsersOperator(task_id="other", base_path=str(tmp_path), datasets=["users"])
    other.execute({"ti": mocker.Mock()})
    assert named(other.get_openlineage_facets_on_complete(None).outputs) == [("file", paths[0])]


@pytest.mark.usefixtures("openlineage")
def test_an_airflow_connection_and_a_key_are_no_part_of_it():
    reporter = ReportsLineage()
    inputs = ["s3://aws_default@bucket/aha/users.parquet", "s3://aws_default@bucket/aha/users.parquet"]
    reporter.report_lineage(reporter, inputs=inputs, outputs=["/data/aha/x.parquet"])
    lineage = reporter.get_openlineage_facets_on_complete(None)
    assert named(lineage.inputs) == [("s3://bucket", "aha/users.parquet")]
    assert named(lineage.outputs) == [("file", "/data/aha/x.parquet")]


@pytest.mark.parametrize(
    ("kind", "name", "uri"),
    [
        ("file", "/data/out.csv", "/data/out.csv"),
        ("file", "s3://bucket/out.csv", "s3://bucket/out.csv"),
        ("sql", "hr_db.public.users", "push-sql://hr_db/public.users"),
        ("http", "hr_api POST /people", "push-http://hr_api/POST%20/people"),
        ("oomnitza", "acme people", "push-oomnitza://acme/people"),
    ],
)
def test_targets_of_a_push_are_named(kind, name, uri):
    assert target_of(kind, name) == uri


def test_every_task_that_reads_or_writes_answers_openlineage():
    from airflow_provider_aha.transfers.base import AhaPushOperator

    for operator in (AhaExtractUsersOperator, AhaDeactivateUsersOperator, AhaPushOperator):
        assert issubclass(operator, ReportsLineage)
