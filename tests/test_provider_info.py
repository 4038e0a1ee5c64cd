"""The provider's metadata: what Airflow's own schemas, entry point and manager say about it."""

import importlib
import json
import subprocess
import sys
from importlib.metadata import distribution, entry_points
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest

import airflow_provider_aha
from airflow_provider_aha.get_provider_info import CONN_FIELDS, OOMNITZA_CONN_FIELDS, get_provider_info
from airflow_provider_aha.version_compat import AIRFLOW_V_3_1_PLUS

SCHEMAS = Path(airflow.__file__).parent
EXTRAS = {
    "page_size",
    "timeout",
    "requests_per_minute",
    "requests_per_second",
    "max_in_flight",
    "max_retries",
    "verify",
    "proxies",
    "base_url",
}


@pytest.fixture
def info() -> dict[str, Any]:
    return get_provider_info()


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / name).read_text())


def test_is_valid_at_run_time(info):
    jsonschema.validate(info, schema("provider_info.schema.json"))


def test_is_valid_as_authored(info):
    """The schema of `provider.yaml` is the strict one; it also asks for what Airflow's releases have."""
    rules = schema("provider.yaml.schema.json")
    release = {"state": "ready", "source-date-epoch": 0, "versions": ["0.1.0"], "dependencies": []}
    jsonschema.validate(info | {key: release[key] for key in release if key in rules["required"]}, rules)


def test_entry_point_and_package_name(info):
    (entry_point,) = [
        point
        for point in entry_points(group="apache_airflow_provider")
        if point.value.startswith("airflow_provider_aha")
    ]
    assert entry_point.load()() == info
    assert entry_point.dist is not None
    assert entry_point.dist.name == info["package-name"]


def test_distribution_is_typed_licensed_and_documented():
    metadata = distribution("airflow-provider-aha").metadata
    assert metadata["License-Expression"] == "Apache-2.0 AND ISC AND OFL-1.1"
    assert metadata["Requires-Python"] == ">=3.11"
    urls = dict(url.split(", ") for url in metadata.get_all("Project-URL", []))
    assert urls["Documentation"].startswith("https://github.com/")
    assert "Framework :: Apache Airflow :: Provider" in metadata.get_all("Classifier", [])
    assert (Path(airflow_provider_aha.__file__).parent / "py.typed").is_file()


def test_importing_it_loads_nothing():
    """Airflow imports it while its own configuration is still being read."""
    code = (
        "import sys; before = set(sys.modules); import airflow_provider_aha.get_provider_info;"
        "print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == ["airflow_provider_aha", "airflow_provider_aha.get_provider_info"]


def test_named_modules_exist(info):
    """Every module and class that Airflow is pointed to can be imported."""
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for entry in info.get(kind, []):
            assert entry["integration-name"] in {one["integration-name"] for one in info["integrations"]}
            for module in entry["python-modules"]:
                if AIRFLOW_V_3_1_PLUS or not module.endswith(".approvals"):
                    importlib.import_module(module)
    for transfer in info.get("transfers", []):
        importlib.import_module(transfer["python-module"])
    for connection in info["connection-types"]:
        module, _, name = connection["hook-class-name"].rpartition(".")
        hook = getattr(importlib.import_module(module), name)
        assert hook.conn_type == connection["connection-type"]
        assert hook.hook_name == connection["hook-name"]


def test_every_extra_of_the_connection_is_in_the_form():
    assert set(CONN_FIELDS) == EXTRAS
    assert set(OOMNITZA_CONN_FIELDS) == EXTRAS - {"max_in_flight"}


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(field, id=f"{conn_type}-{name}")
        for conn_type, fields in (("aha", CONN_FIELDS), ("oomnitza", OOMNITZA_CONN_FIELDS))
        for name, field in fields.items()
    ],
)
def test_fields_explain_themselves_and_may_be_left_alone(field):
    """The form of Airflow 3 sends null for a field that nobody touched."""
    assert field["label"]
    assert str(field["description"]).endswith(".")
    rules: Any = field["schema"]
    for value in (None, rules.get("default")):
        jsonschema.validate(value, rules)


def test_port_can_be_filled_in(info):
    """The Test button of Airflow 3.3.1 and 3.3.2 fails on a connection without a stored port."""
    assert len(info["connection-types"]) == 2
    for connection in info["connection-types"]:
        assert connection["ui-field-behaviour"]["hidden-fields"] == ["login"]
        assert connection["ui-field-behaviour"]["placeholders"]["port"] == "443"
        # A placeholder alone looks like a value that is there.
        assert connection["ui-field-behaviour"]["relabeling"]["port"] == "Port (enter 443)"


def test_installed_airflow_lists_it(info):
    from airflow.providers_manager import ProvidersManager

    provider = ProvidersManager().providers[info["package-name"]]
    assert provider.version == distribution("airflow-provider-aha").version
    assert provider.data["name"] == "Aha!"
