"""One DAG extracts, Airflow's scheduler starts another by the asset: on a real database, event by event."""

from importlib import import_module
from pathlib import Path
from typing import Any

import airflow
import pytest

from airflow_provider_aha.sandbox.testing import SandboxServer
from tests.airflow.conftest import forget_events

AIRFLOW_2 = airflow.__version__.startswith("2.")
DAGS = Path(__file__).parent / "dags" / "asset_consumers.py"


class Scheduler:
    """Airflow's own scheduler, one step at a time.

    :param session: a session with the metadata database.
    """

    def __init__(self, session: Any) -> None:
        from airflow.jobs.job import Job

        jobs = import_module("airflow.jobs.scheduler_job_runner")
        self.session = session
        self.runner = jobs.SchedulerJobRunner(Job())
        if AIRFLOW_2:
            from airflow.models.dagbag import DagBag

            self.runner.dagbag = DagBag(read_dags_from_db=True)

    def activate(self, dag_id: str) -> None:
        """Unpause a DAG, and let the scheduler see which assets somebody wants, with no event of earlier tests."""
        from airflow.models import DagModel

        forget_events(self.session)
        self.session.query(DagModel).filter(DagModel.dag_id == dag_id).update({"is_paused": False})
        self.session.commit()
        if not AIRFLOW_2:
            self.runner._update_asset_orphanage()

    def run_due(self, dag: Any) -> tuple[Any, list[Any]]:
        """Make the DAG run that is due and run its tasks; return the run, and the events it was given."""
        from airflow.models import DagRun
        from airflow.utils.sqlalchemy import prohibit_commit

        with prohibit_commit(self.session) as guard:
            self.runner._create_dagruns_for_dags(guard, self.session)
        (run,) = self.session.query(DagRun).filter(DagRun.dag_id == dag.dag_id)
        events = list(run.consumed_dataset_events if AIRFLOW_2 else run.consumed_asset_events)
        run.state = "running"
        for task in dag.topological_sort():
            instance = run.get_task_instance(task.task_id, session=self.session)
            instance.try_number += 1
            self.session.commit()
            if AIRFLOW_2:
                instance.task = dag.task_dict[task.task_id]
                import_module("airflow.models.dag")._run_task(ti=instance, session=self.session)
            else:
                import_module("airflow.sdk.definitions.dag")._run_task(ti=instance, task=task)
        return run, events


@pytest.mark.slow
def test_asset_event_starts_a_consumer_with_every_accounts_manifest(
    registered, run_dag, database, events_of, aha_default: SandboxServer, set_connection, tmp_path
):
    dags = registered(DAGS)
    scheduler = Scheduler(database)
    scheduler.activate("test_started_by_asset")
    set_connection(aha_default.connection_uri.replace("127.0.0.1", "localhost"), conn_id="aha_second")
    made = []
    for connection in ("aha_default", "aha_default", "aha_second"):
        run = run_dag(
            dags["test_producer"], {"path": str(tmp_path), "datasets": "['users']", "connection": connection}
        )
        assert run.state == "success"
        made.append(run.xcom("extract"))
    first, newest, second = made
    assert [manifest["account"] for manifest in made] == ["127.0.0.1", "127.0.0.1", "localhost"]
    assert first["started_at"] < newest["started_at"]

    assert [event.extra for event in events_of("test_producer")] == made

    started, consumed = scheduler.run_due(dags["test_started_by_asset"])
    assert str(started.run_type).endswith("dataset_triggered" if AIRFLOW_2 else "asset_triggered")
    # Airflow hands over one event of the three; the helper finds what was announced since.
    assert len(consumed) == 1
    instance = started.get_task_instance("read_manifests")
    assert instance.xcom_pull(task_ids="read_manifests") == [newest, second]

    by_person = run_dag(dags["test_started_by_person"])
    assert by_person.xcom("read_manifests") == [second]

    nothing = run_dag(dags["test_nothing_announced"])
    assert nothing.state == "failed"
