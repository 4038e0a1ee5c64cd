"""Of two writers of one file one wins, or the base path holds no records."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_aha.exceptions import AhaConfigurationError, AhaStorageError
from airflow_provider_aha.record.chain import close_try
from airflow_provider_aha.record.check import verify
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.store import store
from airflow_provider_aha.store.store import Store

Environment = dict[str, Any]
Answer = Callable[[str, list[tuple[str, str]]], Any]
App = Callable[[Environment, Answer], Iterable[bytes]]


@contextmanager
def served(app: App) -> Iterator[str]:
    """Serve an application on this machine; gives its address."""
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Endpoint:
    """An S3 endpoint that does something else with conditional requests than AWS.

    :param behaviour: what it does: ``ignore`` the condition, word its refusal otherwise (``no words``), or answer
        the first time that another writer is just creating the file (``conflict``).
    """

    def __init__(self, behaviour: str) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._app = DomainDispatcherApplication(create_backend_app)
        self._behaviour = behaviour
        self._conflicts = 1
        self.puts: list[str] = []

    def __call__(self, environment: Environment, answer: Answer) -> Iterable[bytes]:
        if environment["REQUEST_METHOD"] == "PUT":
            self.puts.append(environment["PATH_INFO"])
        if environment.get("HTTP_IF_NONE_MATCH"):
            if self._behaviour == "ignore":
                del environment["HTTP_IF_NONE_MATCH"]
            elif self._behaviour == "conflict" and self._conflicts:
                self._conflicts -= 1
                return _error(answer, "409 Conflict", b"ConditionalRequestConflict")
        began: list[tuple[str, list[tuple[str, str]]]] = []
        body = list(self._app(environment, lambda status, headers, *_: began.append((status, headers))))
        if self._behaviour == "no words" and began[0][0].startswith("412"):
            return _error(answer, "412 Precondition Failed", b"PreconditionFailed")
        answer(*began[0])
        return body


def _error(answer: Answer, status: str, code: bytes) -> Iterable[bytes]:
    answer(status, [("Content-Type", "application/xml")])
    return [b"<Error><Code>" + code + b"</Code><Message>no</Message></Error>"]


@pytest.fixture
def endpoint(request: pytest.FixtureRequest, s3_endpoint: str, tmp_path: Path) -> Iterator[tuple[Endpoint, Store]]:
    """An endpoint that behaves as the test's parameter says, and a base path in moto's bucket."""
    import s3fs

    app = Endpoint(request.param)
    with served(app) as url:
        options = {"endpoint_url": url, "region_name": "us-east-1"}
        fs = s3fs.S3FileSystem(key="test", secret="test", client_kwargs=options, skip_instance_cache=True)
        yield app, Store(fs, f"records/{tmp_path.name}", f"s3://records/{tmp_path.name}")


def folder_of(location: Store, run_id: str = "r1") -> RunFolder:
    return RunFolder(location, "acme", Run("d", run_id, "t", 1, "ann"))


IGNORES = pytest.mark.parametrize("endpoint", ["ignore"], indirect=True)


@IGNORES
def test_an_endpoint_on_which_two_writers_win_holds_no_records(endpoint: tuple[Endpoint, Store]) -> None:
    _, location = endpoint
    for write in (
        lambda: folder_of(location).create("start.json", {}),
        lambda: close_try(folder_of(location), {}),
        lambda: location.create("reviews/account=acme/review=a/review.json", b"{}"),
    ):
        with pytest.raises(AhaConfigurationError, match=r"both won there.*If-None-Match"):
            write()
    assert not [path for path in location.fs.find(location.path) if "account=" in path]


@IGNORES
def test_snapshots_and_pushes_may_lie_on_such_an_endpoint(endpoint: tuple[Endpoint, Store]) -> None:
    _, location = endpoint
    assert location.create("push/sql/account=acme/run=r/batch.json", b"{}")


@pytest.mark.parametrize("endpoint", ["no words"], indirect=True)
def test_an_endpoint_that_refuses_without_naming_the_condition_is_understood(
    endpoint: tuple[Endpoint, Store],
) -> None:
    _, location = endpoint
    assert folder_of(location).create("start.json", {"first": True})
    assert not folder_of(location).create("start.json", {"first": False})
    assert folder_of(location).read("start.json") == {"first": True}


@pytest.mark.parametrize("endpoint", ["conflict"], indirect=True)
def test_a_file_that_another_writer_is_just_creating_is_asked_for_again(
    endpoint: tuple[Endpoint, Store],
) -> None:
    _, location = endpoint
    assert folder_of(location).create("start.json", {})
    close_try(folder_of(location), {})
    assert verify(location, "acme") == []


@pytest.mark.parametrize("endpoint", ["right"], indirect=True)
def test_it_is_proven_once_per_process_and_costs_one_request_from_then_on(
    endpoint: tuple[Endpoint, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    app, location = endpoint
    probe = f"/{location.path}/.once/probe"

    def proofs() -> int:
        folder_of(location).create(f"{len(app.puts)}.json", {})
        return app.puts.count(probe)

    assert (proofs(), proofs(), proofs()) == (2, 2, 2)
    # Another process finds what this one has left.
    monkeypatch.setattr(store, "_PROVEN", set())
    assert (proofs(), proofs()) == (3, 3)
    close_try(folder_of(location), {})
    assert verify(location, "acme") == []


@pytest.mark.parametrize("endpoint", ["right"], indirect=True)
def test_of_a_base_path_nothing_follows_for_another(endpoint: tuple[Endpoint, Store]) -> None:
    app, location = endpoint
    location.require_once()
    location.within("deeper").require_once()
    assert len([path for path in app.puts if path.endswith("/.once/probe")]) == 4


def test_the_local_disk_needs_no_proof(local: Store) -> None:
    assert folder_of(local).create("start.json", {})
    assert not Path(local.path, ".once").exists()


@pytest.mark.parametrize("protocol", ["memory", "sftp", "hdfs"])
def test_storage_that_creates_nothing_only_once_holds_no_records(protocol: str) -> None:
    fs = MemoryFileSystem(skip_instance_cache=True)
    fs.protocol = protocol
    with pytest.raises(AhaConfigurationError, match=f"{protocol}:///base can't hold records"):
        Store(fs, "/base", f"{protocol}:///base").create("access/account=acme/plans/a.json", b"{}")


def test_a_store_that_cannot_be_reached_is_not_taken_for_a_bad_one() -> None:
    class Broken(MemoryFileSystem):
        protocol = "gs"

        def pipe_file(self, *_: object, **__: object) -> None:
            raise TimeoutError

    with pytest.raises(AhaStorageError, match="no answer came in time"):
        Store(Broken(skip_instance_cache=True), "/base", "gs://base").require_once()


def test_a_writer_that_never_gets_its_turn_gives_up(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing that lags behind shows no number as taken."""
    monkeypatch.setattr(Store, "create", lambda *_: False)
    with pytest.raises(AhaStorageError, match=r"00000001\.json is taken, but no listing shows it"):
        close_try(folder_of(local), {})
