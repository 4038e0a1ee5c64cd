"""Plays one run of a DAG file, task by task, without Airflow's database: a year of runs takes a minute.

What Airflow does around a task is done here in its simplest form: templates are rendered, XComs handed on, a branch
leaves out what it doesn't choose, a failed or skipped task keeps those after it from running, and a task that asks
a person waits for the answer.
"""

import copy
import importlib.util
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.providers.common.compat.sdk import AirflowSkipException
from airflow.providers.standard.operators.python import BranchPythonOperator

REPOSITORY = Path(__file__).parents[2]
SUCCESS, FAILED, SKIPPED, WAITING = "success", "failed", "skipped", "waiting"
ANSWER = "execute_complete"
# When a task may run, by the states of those before it.
RULES: Mapping[str, Callable[[list[str]], bool]] = {
    "all_success": lambda states: all(state == SUCCESS for state in states),
    "all_done": lambda _: True,
    "none_failed": lambda states: FAILED not in states,
    "none_failed_min_one_success": lambda states: FAILED not in states and SUCCESS in states,
    "one_success": lambda states: SUCCESS in states,
    "one_failed": lambda states: FAILED in states,
}


def load_dag(name: str) -> Any:
    """Load an example DAG from its file."""
    path = REPOSITORY / "dags" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"played_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dags = [getattr(value, "dag", None) for value in vars(module).values()]
    return next(dag for dag in dags if getattr(dag, "dag_id", None) == name)


@dataclass
class Played:
    """A run of a DAG.

    :param dag: the DAG.
    :param run_id: of the run.
    :param variables: Airflow Variables, for the templates.
    """

    dag: Any
    run_id: str
    variables: Mapping[str, str]
    states: dict[str, str] = field(default_factory=dict)
    errors: dict[str, BaseException] = field(default_factory=dict)
    returned: dict[str, Any] = field(default_factory=dict)
    _left_out: set[str] = field(default_factory=set)
    _waiting: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._tasks = list(self.dag.topological_sort())

    def play(self, before: Callable[[str], None]) -> list[str]:
        """Run all tasks whose turn it is.

        :param before: is told the name of each task just before it runs.
        :return: those that wait for a person.
        """
        for task in self._tasks:
            if task.task_id in self.states:
                continue
            above = [self.states.get(one, WAITING) for one in task.upstream_task_ids]
            if WAITING in above:
                continue
            if task.task_id in self._left_out:
                self.states[task.task_id] = SKIPPED
            elif not RULES[str(getattr(task.trigger_rule, "value", task.trigger_rule))](above):
                self.states[task.task_id] = FAILED if FAILED in above else SKIPPED
            else:
                before(task.task_id)
                self.run(task.task_id)
        return list(self._waiting)

    def run(self, task_id: str) -> Any:
        """Run one task."""
        task, context = copy.copy(self.dag.get_task(task_id)), self._context(task_id)
        try:
            task.render_template_fields(context, jinja_env=self.dag.get_template_env())
            if isinstance(task, BranchPythonOperator):
                self._branch(task)
            else:
                self.returned[task_id] = task.execute(context)
        except BaseException as error:  # noqa: BLE001 (Airflow's words for waiting are none of Exception)
            if getattr(error, "method_name", None) != ANSWER:
                self._end(task_id, error)
                return None
            self._waiting[task_id] = (task, context)
            self.states[task_id] = WAITING
            return None
        self.states[task_id] = SUCCESS
        return self.returned.get(task_id)

    def answer(self, task_id: str, event: Mapping[str, Any]) -> None:
        """Hand a task the answer that it waits for."""
        task, context = self._waiting.pop(task_id)
        try:
            self.returned[task_id] = getattr(task, ANSWER)(context, dict(event))
        except Exception as error:  # noqa: BLE001 (whatever a task raises ends it)
            self._end(task_id, error)
        else:
            self.states[task_id] = SUCCESS

    def _end(self, task_id: str, error: BaseException) -> None:
        if not isinstance(error, Exception):
            raise error
        self.errors[task_id] = error
        self.states[task_id] = SKIPPED if isinstance(error, AirflowSkipException) else FAILED

    def _branch(self, task: Any) -> None:
        chosen = task.python_callable(*task.op_args, **task.op_kwargs)
        kept = {chosen} if isinstance(chosen, str) else set(chosen or ())
        self._left_out |= set(task.downstream_task_ids) - kept

    def _context(self, task_id: str) -> dict[str, Any]:
        instance = SimpleNamespace(
            id=uuid.uuid4(), dag_id=self.dag.dag_id, run_id=self.run_id, task_id=task_id, map_index=-1, try_number=1
        )
        instance.xcom_push = lambda **_: None
        instance.xcom_pull = lambda task_ids=None, **_: self.returned.get(task_ids)
        return {
            "ti": instance,
            "task_instance": instance,
            "dag_run": SimpleNamespace(
                run_type="scheduled", triggering_user_name=None, run_id=self.run_id, conf={}
            ),
            "params": self.dag.params.dump(),
            "run_id": self.run_id,
            "var": SimpleNamespace(value=self.variables),
            "outlet_events": _Events(),
        }


class _Events:
    """Events of assets, which nobody reads here; an asset isn't hashable on every Airflow."""

    def __getitem__(self, _: Any) -> SimpleNamespace:
        return SimpleNamespace(extra={})
