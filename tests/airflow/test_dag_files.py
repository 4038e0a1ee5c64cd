"""Every file in dags/: it parses without a warning of ours, without connections, database or heavy imports."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_aha.callbacks import log_failure
from airflow_provider_aha.operators.guards import GUARDS
from airflow_provider_aha.operators.plan import AhaPlanAccessOperator
from airflow_provider_aha.operators.writes import AhaWriteOperator

DAGS = Path(__file__).parents[2] / "dags"
HEAVY = ("numpy", "orjson", "pandas", "pyarrow", "requests")
CODE = """
import importlib, importlib.util, json, pkgutil, socket, sqlite3, sys, warnings
import airflow.providers.common.compat.sdk as sdk
for name in ("BaseOperator", "BaseHook", "DAG", "Param", "AirflowFailException"):
    getattr(sdk, name)
before = set(sys.modules)

import airflow_provider_aha.assets
for name in ("hooks", "operators", "sensors", "triggers", "transfers"):
    if importlib.util.find_spec(f"airflow_provider_aha.{name}"):
        package = importlib.import_module(f"airflow_provider_aha.{name}")
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            try:
                importlib.import_module(module.name)
            except sdk.AirflowException as error:
                assert type(error).__name__ == "AirflowOptionalProviderFeatureException"
modules = set(sys.modules) - before

# With the first asset of anybody, Airflow loads the URI handlers of all providers and what they need.
sdk.Asset("somebody://else")
before = set(sys.modules)

def refuse(*args, **kwargs):
    raise AssertionError("a DAG file looked something up while it was parsed")

socket.socket.connect = sqlite3.connect = sdk.BaseHook.get_connection = sdk.Variable.get = refuse
errors = {}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for path in sys.argv[1:]:
        spec = importlib.util.spec_from_file_location("dag_file_" + path.replace("/", "_"), path)
        try:
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
        except Exception as error:
            errors[path] = repr(error)
ours = [str(w.message) for w in caught if "airflow_provider_aha" in w.filename or w.filename in sys.argv[1:]]
dags = sorted(set(sys.modules) - before)
print(json.dumps({"modules": sorted(modules), "dags": dags, "warnings": ours, "errors": errors}))
"""


@pytest.fixture(scope="module")
def loaded() -> Any:
    """What a new process loaded for all our modules, then for all DAG files; starting it is what takes the time."""
    files = sorted(map(str, DAGS.rglob("*.py")))
    done = subprocess.run([sys.executable, "-c", CODE, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def heavy(names: list[str]) -> list[str]:
    return [name for name in names if name.partition(".")[0] in HEAVY]


def test_modules_that_dag_files_import_load_nothing_heavy(loaded):
    """Airflow loads them again and again, for every file that uses them."""
    assert "airflow_provider_aha.operators.extract" in loaded["modules"]
    assert heavy(loaded["modules"]) == []


def test_dag_files_only_describe_dags(loaded):
    assert loaded["errors"] == {}
    assert heavy(loaded["dags"]) == []
    assert loaded["warnings"] == []


def test_airflow_imports_every_file(parse, airflow_2):
    bag = parse(DAGS)
    assert bag.import_errors == {}
    assert "aha_extract" in bag.dags
    for dag in bag.dags.values():
        assert "aha" in dag.tags, dag.dag_id
        assert dag.description, dag.dag_id
        assert dag.doc_md, dag.dag_id
        for task in dag.tasks:
            called = task.on_failure_callback
            # 2.11 keeps what was given, 3 makes it a list.
            assert log_failure in (called if isinstance(called, list) else [called]), task
            # A hang would hold up all runs that come after.
            assert timedelta(minutes=5) < task.execution_timeout <= timedelta(hours=6), task
            assert (waits := getattr(task, "response_timeout", None)) is None or waits <= timedelta(hours=24), task
            assert task.execution_timeout >= timedelta(seconds=getattr(task, "timeout", 0) or 0), task
        if dag.schedule_interval if airflow_2 else dag.schedule:
            assert (dag.catchup, dag.max_active_runs) == (False, 1), dag.dag_id


NEVER_IN_A_FORM = {*GUARDS, "approved_plan_sha256", "fit_to_caps", "protect_patterns", "base_path"}


def test_no_form_decides_over_caps_protected_lists_or_where_evidence_lies(parse):
    """A form that could move the evidence would void the caps; so would one that raises them."""
    writers = 0
    for dag in parse(DAGS).dags.values():
        for task in dag.tasks:
            if isinstance(task, AhaWriteOperator | AhaPlanAccessOperator):
                writers += 1
                given = {name: str(getattr(task, name, "")) for name in NEVER_IN_A_FORM}
                assert not [name for name, value in given.items() if "params" in value or "conf" in value], task
                assert NEVER_IN_A_FORM.isdisjoint(dag.params), dag
    assert writers >= 6
