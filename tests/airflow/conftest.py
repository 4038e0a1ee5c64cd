"""What the tests on a real Airflow share: DAG files, runs, logs and the command line, alike on 2.11 and 3.x."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import airflow
import pytest

AIRFLOW_2 = airflow.__version__.startswith("2.")


@pytest.fixture(scope="session")
def airflow_2() -> bool:
    return AIRFLOW_2


@pytest.fixture
def database(airflow_db: Path) -> Any:
    """A session with the metadata database."""
    session = import_module("airflow.settings").Session()
    yield session
    session.rollback()
    session.close()


@pytest.fixture
def store_connection(database: Any) -> Iterator[Callable[..., None]]:
    """Call it to keep a connection in the metadata database."""
    connection = import_module("airflow.models.connection").Connection

    def store(conn_id: str, **fields: Any) -> None:
        database.add(connection(conn_id=conn_id, **fields))
        database.commit()

    yield store
    database.query(connection).delete()
    database.commit()


# --- DAGs ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A finished DAG run.

    :param dag_run: Airflow's row.
    """

    dag_run: Any

    @property
    def state(self) -> str:
        return str(self.dag_run.state)

    def instance(self, task_id: str) -> Any:
        return self.dag_run.get_task_instance(task_id)

    def xcom(self, task_id: str) -> Any:
        return self.instance(task_id).xcom_pull(task_ids=task_id)


def dag_bags() -> Any:
    """The module of DagBag, which 3.2 has moved."""
    try:
        return import_module("airflow.dag_processing.dagbag")
    except ImportError:
        return import_module("airflow.models.dagbag")


def dag_bag(path: Path) -> Any:
    """Parse a file or folder, as Airflow does, without Airflow's own examples."""
    return dag_bags().DagBag(str(path))


def register(path: Path) -> dict[str, Any]:
    """Parse a file and put its DAGs into the database, so that a scheduler finds them."""
    bag = dag_bag(path)
    assert not bag.import_errors
    if AIRFLOW_2:
        bag.sync_to_db()
    else:
        import_module("airflow.dag_processing.bundles.manager").DagBundlesManager().sync_bundles_to_db()
        dag_bags().sync_bag_to_db(bag, "dags-folder", None)
    return dict(bag.dags)


@pytest.fixture
def parse() -> Callable[[Path], Any]:
    return dag_bag


@pytest.fixture
def registered(airflow_db: Path) -> Callable[[Path], dict[str, Any]]:
    """Call it with a DAG file to get its DAGs, known to the database."""
    return register


@pytest.fixture
def run_dag(airflow_db: Path) -> Callable[..., Run]:
    """Call it with a DAG of a registered file to run it by ``dag.test()``."""

    def run(dag: Any, conf: dict[str, Any] | None = None, **options: Any) -> Run:
        return Run(dag.test(run_conf=conf, **options))

    return run


def forget_events(session: Any) -> Any:
    """Delete the asset events of earlier tests, and return Airflow's class of them."""
    if AIRFLOW_2:
        event = import_module("airflow.models.dataset").DatasetEvent
    else:
        event = import_module("airflow.models.asset").AssetEvent
    session.query(event).delete()
    session.commit()
    return event


@pytest.fixture
def events_of(database: Any) -> Callable[[str], list[Any]]:
    """Call it for the asset events of a DAG, in their order; those of earlier tests are gone."""
    event = forget_events(database)

    def find(dag_id: str) -> list[Any]:
        return list(database.query(event).filter(event.source_dag_id == dag_id).order_by(event.id))

    return find


# --- logs ----------------------------------------------------------------------------------------


class Everything(logging.Handler):
    """Keeps every record of every logger as text."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name} {record.getMessage()} {record.exc_text or ''} {record.exc_info or ''}")


@pytest.fixture
def everything_logged(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """Call it for all that was logged at DEBUG or printed so far, by anybody."""
    handler = Everything()
    loggers = [logging.getLogger(name) for name in (None, "airflow.task", "airflow_provider_aha", "urllib3")]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
    printed: list[str] = []

    def read() -> str:
        out, err = capfd.readouterr()
        printed.extend((out, err))
        return "\n".join([*handler.lines, *printed])

    yield read
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers


# --- the command line ----------------------------------------------------------------------------


@pytest.fixture
def airflow_cli() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Call it with arguments to run ``airflow`` in a process of its own."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=dict(os.environ),
        )

    return call


# --- secrets -------------------------------------------------------------------------------------


@pytest.fixture
def forget_secrets_backend() -> Iterator[None]:
    """Airflow 3.3 keeps a secrets backend for the life of the process."""
    yield
    for name in ("airflow.sdk.configuration", "airflow.configuration"):
        cache = getattr(sys.modules.get(name), "_secrets_backend_cache", None)
        if cache is not None:
            cache.clear()
