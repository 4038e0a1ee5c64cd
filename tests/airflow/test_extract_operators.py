"""The extract operators, one task at a time: arguments, outlets, errors, cancelling, and what they say."""

import inspect
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, Asset

from airflow_provider_aha.assets import USER_CHANGES, USER_ROLE_SUMMARY, USER_ROLES, USERS
from airflow_provider_aha.datasets.names import DATASETS
from airflow_provider_aha.exceptions import (
    AhaCancelledError,
    AhaIncompleteReadError,
    AhaProtocolError,
    AhaServerError,
)
from airflow_provider_aha.operators.base import AhaOperator
from airflow_provider_aha.operators.extract import AhaExtractRolesOperator, AhaExtractUsersOperator
from airflow_provider_aha.sandbox.testing import SandboxServer

ALL = list(DATASETS)


class OutletEvents:
    """As Airflow's: an asset is found by its URI."""

    def __init__(self) -> None:
        self.events: dict[str, Any] = {}

    def __getitem__(self, asset: Any) -> Any:
        return self.events.setdefault(asset.uri, SimpleNamespace(extra={}))


def new_context() -> Any:
    return {"outlet_events": OutletEvents()}


def extract(base_path: object, context: Any = None, **arguments: Any) -> dict[str, Any]:
    task = AhaExtractUsersOperator(task_id="extract", base_path=base_path, **arguments)  # type: ignore[arg-type]
    return task.execute(context or new_context())


def rendered(task: Any, **values: Any) -> Any:
    task.render_template_fields({"params": values, **values})
    return task


def landed(base: Path) -> set[str]:
    return {file.name for file in base.rglob("*") if file.is_file()}


@pytest.fixture
def fast_sandbox(aha_sandbox: SandboxServer, set_connection: Callable[..., None]) -> SandboxServer:
    """A sandbox of the test's own as ``aha_default``; failed requests are not sent again."""
    set_connection(f"{aha_sandbox.connection_uri}?max_retries=0&requests_per_second=1000")
    return aha_sandbox


# --- what is landed ------------------------------------------------------------------------------


def test_users_are_landed_by_default(aha_default: SandboxServer, tmp_path):
    manifest = extract(str(tmp_path))
    (file,) = manifest["files"]
    assert file["dataset"] == "users"
    table = pq.read_table(file["path"], partitioning=None)
    assert table["id"].to_pylist() == aha_default.account.user_ids
    assert landed(tmp_path) == {"users.parquet", "manifest.json"}


def test_all_datasets_of_one_crawl(aha_default: SandboxServer, tmp_path):
    manifest = extract(str(tmp_path), datasets=ALL)
    assert [file["dataset"] for file in manifest["files"]] == ALL
    assert landed(tmp_path) == {*(f"{name}.parquet" for name in ALL), "manifest.json"}
    pages = [request.query["page"] for request in aha_default.requests if request.path.endswith("/users")]
    assert sorted(pages) == ["1", "2", "3"]


def test_roles_operator_lands_roles_and_their_summary(aha_default: SandboxServer, tmp_path):
    task = AhaExtractRolesOperator(task_id="extract", base_path=str(tmp_path))
    manifest = task.execute(new_context())
    assert [file["dataset"] for file in manifest["files"]] == ["user_roles", "user_role_summary"]
    assert "users.parquet" not in landed(tmp_path)


def test_result_is_the_manifest_file_and_names_nobody(aha_default: SandboxServer, tmp_path):
    manifest = extract(str(tmp_path), datasets=ALL)
    text = json.dumps(manifest)
    (file,) = tmp_path.rglob("manifest.json")
    assert json.loads(file.read_text()) == json.loads(text)
    users = pq.read_table(manifest["files"][0]["path"], partitioning=None)
    for name in ("name", "email"):
        assert not [value for value in users[name].to_pylist() if value and value in text]
    assert aha_default.key not in text


def test_second_run_of_a_day_replaces_the_snapshot(aha_default: SandboxServer, tmp_path):
    extract(str(tmp_path), datasets=ALL)
    before = sorted(tmp_path.rglob("*"))
    extract(str(tmp_path), datasets=ALL)
    assert sorted(tmp_path.rglob("*")) == before


def test_connection_of_another_id_is_read_and_recorded(aha_default: SandboxServer, set_connection, tmp_path):
    set_connection(aha_default.connection_uri, conn_id="aha_other")
    task = AhaExtractUsersOperator(task_id="extract", base_path=str(tmp_path), aha_conn_id="{{ params.account }}")
    assert rendered(task, account="aha_other").execute(new_context())["connection_id"] == "aha_other"


# --- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", [AhaOperator, AhaExtractUsersOperator, AhaExtractRolesOperator])
def test_arguments_are_keyword_only_and_the_connection_has_a_default(operator):
    kinds = {parameter.kind for parameter in inspect.signature(operator.__init__).parameters.values()}
    assert inspect.Parameter.POSITIONAL_ONLY not in kinds
    with pytest.raises((TypeError, AirflowException)):
        operator("/data")
    needed = {} if operator is AhaOperator else {"base_path": "/data"}
    assert operator(task_id="task", **needed).aha_conn_id == "aha_default"


def test_constructor_keeps_template_fields_as_they_are():
    """A template is no path and no list before it is rendered, so nothing may look at it."""
    nonsense = object()
    task = AhaExtractUsersOperator(
        task_id="extract",
        base_path=nonsense,  # type: ignore[arg-type]
        datasets=nonsense,  # type: ignore[arg-type]
        aha_conn_id=nonsense,
    )
    assert {id(getattr(task, name)) for name in task.template_fields} == {id(nonsense)}
    assert "datasets" not in AhaExtractRolesOperator.template_fields


@pytest.mark.parametrize(
    "value",
    ["['users', 'user_roles']", '["users", "user_roles"]', ["users", "user_roles"], ("user_roles", "users")],
)
def test_list_of_datasets_may_be_text(aha_default: SandboxServer, tmp_path, value):
    template = "{{ params.datasets }}" if isinstance(value, str) else value
    task = AhaExtractUsersOperator(task_id="extract", base_path="{{ params.path }}", datasets=template)
    manifest = rendered(task, datasets=value, path=str(tmp_path)).execute(new_context())
    assert [file["dataset"] for file in manifest["files"]] == ["users", "user_roles"]


@pytest.mark.parametrize("value", [None, "", "None"])
def test_datasets_that_are_not_set_mean_the_default(aha_default: SandboxServer, tmp_path, value):
    task = AhaExtractUsersOperator(task_id="extract", base_path=str(tmp_path), datasets="{{ params.datasets }}")
    manifest = rendered(task, datasets=value).execute(new_context())
    assert [file["dataset"] for file in manifest["files"]] == ["users"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"datasets": ["user"]}, "datasets must be some of users, user_roles"),
        ({"datasets": []}, "datasets must be some of users, user_roles"),
        ({"datasets": "users"}, 'datasets must be a list, such as ["a", "b"]'),
        ({"datasets": ["users", None]}, "datasets has an empty item"),
        ({"base_path": None}, "base_path is not set"),
        ({"base_path": ""}, "base_path is not set"),
        ({"base_path": "None"}, "base_path is not set"),
        ({"base_path": "data/aha"}, "'data/aha' is relative"),
        ({"base_path": "~/aha"}, "'~/aha' is relative"),
        ({"base_path": "file://data/aha"}, "'file://data/aha' is relative"),
        ({"base_path": "/data/../etc"}, "has '..' in it"),
        ({"base_path": "s3://bucket/../other"}, "has '..' in it"),
        ({"base_path": "s3:///aha"}, "names no bucket"),
        ({"outlets": [USERS, USER_ROLES]}, "outlet aha://user_roles is not among the datasets"),
    ],
)
def test_wrong_argument_fails_for_good_before_the_first_request(
    aha_default: SandboxServer, tmp_path, arguments, sentence
):
    with pytest.raises(AirflowFailException) as caught:
        extract(**{"base_path": str(tmp_path), **arguments})
    assert sentence in str(caught.value)
    assert aha_default.requests == []
    assert landed(tmp_path) == set()


def test_file_url_and_slash_at_the_end_are_the_same_folder(aha_default: SandboxServer, tmp_path):
    first = extract(str(tmp_path))
    for path in (f"{tmp_path}/", f"file://{tmp_path}"):
        assert extract(path)["files"][0]["path"] == first["files"][0]["path"]


def test_local_path_may_hold_what_a_url_may_not(aha_default: SandboxServer, tmp_path):
    folder = tmp_path / "a#b?c d%20"
    assert extract(str(folder))["files"][0]["path"].startswith(str(folder))
    assert "users.parquet" in landed(folder)


# --- outlets -------------------------------------------------------------------------------------


def test_events_of_our_outlets_carry_the_manifest(aha_default: SandboxServer, tmp_path):
    context = new_context()
    ours = [USERS, USER_ROLES, USER_ROLE_SUMMARY, USER_CHANGES]
    manifest = extract(str(tmp_path), context, datasets=ALL, outlets=ours)
    assert [context["outlet_events"][asset].extra for asset in ours] == [manifest] * 4


@pytest.mark.parametrize("uri", ["aha://users", "aha://users/"])
def test_outlets_are_matched_by_uri_whatever_their_name(aha_default: SandboxServer, tmp_path, uri, airflow_2):
    """Airflow 2.11 adds the slash."""
    context = new_context()
    options: Any = {"uri": uri} if airflow_2 else {"uri": uri, "name": "my own name"}
    mine = Asset(**options)
    manifest = extract(str(tmp_path), context, outlets=[mine])
    assert context["outlet_events"][mine].extra == manifest


def test_outlets_of_others_are_left_alone(aha_default: SandboxServer, tmp_path):
    context = new_context()
    extract(str(tmp_path), context, outlets=[Asset("s3://bucket/users"), USERS])
    assert list(context["outlet_events"].events) == [USERS.uri]


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
def test_refused_key_fails_without_retries(fast_sandbox: SandboxServer, tmp_path, status):
    fast_sandbox.set_fault("error", status=status)
    with pytest.raises(AirflowFailException, match=rf"\({status}\).*aha_default"):
        extract(str(tmp_path))
    assert landed(tmp_path) == set()


def test_key_without_rights_fails_without_retries(shared_sandbox: SandboxServer, set_connection, tmp_path):
    set_connection(host="127.0.0.1", port=shared_sandbox.port, schema="http", password=shared_sandbox.viewer_key)
    with pytest.raises(AirflowFailException, match="administrator with the billing permission"):
        extract(str(tmp_path))


def test_wrong_connection_fails_without_retries(set_connection, tmp_path):
    set_connection(host="acme", password="two words")
    with pytest.raises(AirflowFailException, match=r"API key.*line break.*aha_default"):
        extract(str(tmp_path))


@pytest.mark.parametrize(
    ("fault", "options", "error"),
    [
        ("error", {"status": 503}, AhaServerError),
        ("error", {"status": 404}, AirflowFailException),
        ("maintenance", {}, AhaProtocolError),
        ("wrong_total", {}, AhaIncompleteReadError),
    ],
)
def test_other_failures_leave_the_snapshot_as_it_was_and_all_but_a_404_the_retries(
    fast_sandbox: SandboxServer, tmp_path, fault, options, error
):
    extract(str(tmp_path))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    fast_sandbox.set_fault(fault, **options)
    with pytest.raises(error):
        extract(str(tmp_path))
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


# --- cancelling ----------------------------------------------------------------------------------


def test_kill_before_anything_was_made_looks_nothing_up():
    AhaExtractUsersOperator(task_id="extract", base_path="/data", aha_conn_id="no_such").on_kill()


def test_kill_stops_a_task_that_has_not_yet_begun_to_read(aha_default: SandboxServer, tmp_path):
    task = AhaExtractUsersOperator(task_id="extract", base_path=str(tmp_path))
    task.on_kill()
    with pytest.raises(AhaCancelledError):
        task.execute(new_context())
    assert landed(tmp_path) == set()


def kill_when(task: Any, reached: Callable[[], bool]) -> threading.Thread:
    """Kill a task from another thread as soon as something was reached."""

    def watch() -> None:
        never = threading.Event()
        while not reached():
            never.wait(0.002)
        task.on_kill()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_kill_ends_the_waiting_for_a_place_below_the_limit(aha_sandbox: SandboxServer, set_connection, tmp_path):
    set_connection(f"{aha_sandbox.connection_uri}?page_size=1&requests_per_minute=10")
    task = AhaExtractUsersOperator(task_id="extract", base_path=str(tmp_path))
    killer = kill_when(task, lambda: len(aha_sandbox.requests) == 10)
    with pytest.raises(AhaCancelledError):
        task.execute(new_context())
    killer.join()
    assert len(aha_sandbox.requests) == 10
    assert landed(tmp_path) == set()


def test_kill_does_not_wait_for_an_answer_that_never_comes(aha_sandbox: SandboxServer, set_connection, tmp_path):
    """Airflow ends a task that goes on for a minute after its kill, without any cleaning up."""
    set_connection(f"{aha_sandbox.connection_uri}?page_size=50")
    hanging = aha_sandbox.set_fault("slow", seconds=120, path="/users", page=3)
    task = AhaExtractUsersOperator(task_id="extract", base_path=str(tmp_path))
    began = time.monotonic()
    killer = kill_when(task, lambda: bool(hanging.hits))
    with pytest.raises(AhaCancelledError):
        task.execute(new_context())
    killer.join()
    assert time.monotonic() - began < 30
    assert landed(tmp_path) == set()


def test_kill_ends_a_read_that_no_limit_holds_back(aha_sandbox: SandboxServer, set_connection, tmp_path):
    set_connection(
        f"{aha_sandbox.connection_uri}?page_size=1&requests_per_second=100000&requests_per_minute=1000000"
    )
    task = AhaExtractUsersOperator(task_id="extract", base_path=str(tmp_path))
    killer = kill_when(task, lambda: len(aha_sandbox.requests) > 20)
    with pytest.raises(AhaCancelledError):
        task.execute(new_context())
    killer.join()
    assert len(aha_sandbox.requests) < 500
    assert landed(tmp_path) == set()


# --- what is said --------------------------------------------------------------------------------


def test_log_tells_counts_and_paths_and_names_nobody(aha_sandbox, set_connection, tmp_path, everything_logged):
    set_connection(host="127.0.0.1", port=aha_sandbox.port, schema="http", password=f"Bearer {aha_sandbox.key}")
    aha_sandbox.set_fault("error", status=503, times=1, path="/users")
    manifest = extract(str(tmp_path), datasets=ALL)
    said = everything_logged()
    for file in manifest["files"]:
        assert f"{file['dataset']}: {file['rows']} rows in {file['path']}" in said
    assert "failed with status 503" in said
    users = pq.read_table(manifest["files"][0]["path"], partitioning=None)
    for name in ("name", "email"):
        assert not [value for value in users[name].to_pylist() if value and value in said]


def test_key_is_never_logged_not_even_at_debug(aha_sandbox, set_connection, tmp_path, everything_logged):
    set_connection(host="127.0.0.1", port=aha_sandbox.port, schema="http", password=f"Bearer {aha_sandbox.key}")
    aha_sandbox.set_fault("connection_reset", times=1)
    extract(str(tmp_path))
    aha_sandbox.set_fault("key_revoked", times=1)
    with pytest.raises(AirflowFailException):
        extract(str(tmp_path))
    said = everything_logged()
    assert "GET /users" in said
    assert "401" in said
    assert aha_sandbox.key not in said
