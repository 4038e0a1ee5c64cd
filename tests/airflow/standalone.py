"""A real Airflow in processes of its own: scheduler, triggerer and, in Airflow 3, DAG processor and API server.

DAGs run by their own schedule (`@once`), and what became of them is read from the database, which is alike in all
versions; so no test has to log in anywhere.
"""

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import airflow

from tools.local import BIN, Processes, airflow_environment, answers, free_port

AIRFLOW_2 = airflow.__version__.startswith("2.")


class Standalone:
    """The running Airflow.

    :param processes: its processes, by name.
    :param env: their environment.
    """

    def __init__(self, processes: Processes, env: Mapping[str, str]) -> None:
        self._processes = processes
        self._env = dict(env)
        self.home = Path(env["AIRFLOW_HOME"])

    def start(self, name: str, *options: str) -> None:
        """Start one of its parts."""
        self._processes.start(name, [str(BIN / "airflow"), name, *options], self._env)

    def start_triggerer(self) -> None:
        self.start("triggerer", "--skip-serve-logs")

    def kill_triggerer(self) -> None:
        """Kill the triggerer and what it has started, without a warning."""
        self._processes.kill("triggerer")

    def log(self, name: str) -> str:
        """What a part has logged since it was started last."""
        return self._processes.log(name).read_text(errors="replace")

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the database."""
        with closing(sqlite3.connect(f"file:{self.home / 'airflow.db'}?mode=ro", uri=True, timeout=30)) as database:
            return database.execute(sql, values).fetchall()

    def states(self, dag_id: str) -> dict[str, str | None]:
        """The states of the tasks of a DAG, over all its runs; of the mapped ones only the last."""
        return dict(
            self.query("select task_id, state from task_instance where dag_id = ? order by map_index", dag_id)
        )

    def wait_for(self, what: str, ready: Callable[[], Any], seconds: float = 300) -> Any:
        """Wait until something is true, and return it."""
        deadline = time.monotonic() + seconds
        while not (found := ready()):
            self._processes.check()
            assert time.monotonic() < deadline, f"waited {seconds:.0f} seconds for {what} in vain"
            time.sleep(0.3)
        return found


@contextmanager
def standalone(place: Path, dags: list[Path], **variables: str) -> Iterator[Standalone]:
    """Run an Airflow that knows some DAG files, all unpaused.

    :param place: a folder for it.
    :param dags: the files.
    :param variables: more environment variables.
    """
    folder = place / "dags"
    folder.mkdir(parents=True)
    for path in dags:
        shutil.copy(path, folder)
    env = airflow_environment(place / "home", free_port()) | {
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__PARALLELISM": "8",
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "100",
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        # How soon another triggerer takes over what a dead one had.
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
        # 2.11 would let SQLite run one task at a time.
        "_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1",
        **variables,
    }
    with Processes(place) as processes:
        processes.run("migrate", [str(BIN / "airflow"), "db", "migrate"], env)
        with closing(sqlite3.connect(place / "home" / "airflow.db")) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        running = Standalone(processes, env)
        for name in () if AIRFLOW_2 else ("api-server", "dag-processor"):
            running.start(name)
        if not AIRFLOW_2:
            # A worker that can't reach it fails its task.
            running.wait_for("the API server", lambda: answers(env["AIRFLOW__API__BASE_URL"]))
        running.start("scheduler", "--skip-serve-logs")
        running.start_triggerer()
        yield running
