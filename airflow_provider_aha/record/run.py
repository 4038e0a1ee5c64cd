"""Write-once records below a base path: what an auditor reads later must be what was written then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import Store, to_json

# What the first try of a writing task was to do.
START = "start.json"


@dataclass(frozen=True)
class Run:
    """The task instance on whose behalf something is written.

    :param dag_id: its DAG.
    :param run_id: its DAG run.
    :param task_id: the task, with its map index where it is mapped.
    :param try_number: which try, from 1.
    :param requested_by: who triggered the run, or the schedule.
    """

    dag_id: str
    run_id: str
    task_id: str
    try_number: int
    requested_by: str


class RunFolder:
    """The folder of one task in one DAG run of one account.

    :param location: the base path.
    :param account: the account.
    :param run: the task instance.
    """

    def __init__(self, location: Store, account: str, run: Run) -> None:
        self.location = location
        self.account = account
        self.account_path = account_path(account)
        self.run_path = run_path(account, run.dag_id, run.run_id)
        self.path = f"{self.run_path}/task={path_part(run.task_id)}"

    def url(self, name: str) -> str:
        """Return the address of a file as the user of the base path would write it.

        :param name: file name below the folder.
        """
        return self.location.url_of(f"{self.path}/{name}")

    def create(self, name: str, content: Mapping[str, Any]) -> bool:
        """Write a record that is never replaced.

        :param name: file name below the folder.
        :param content: what JSON can hold.
        :return: False when the record is there already; it stays as it is.
        :raises AhaStorageError: when it can't be written.
        """
        return self.location.create(f"{self.path}/{name}", to_json(content))

    def read(self, name: str) -> dict[str, Any] | None:
        """Read a record.

        :param name: file name below the folder.
        :return: the record, or None when there is none.
        :raises AhaSnapshotError: when it is there but unreadable.
        """
        return self.location.read_record(f"{self.path}/{name}")


def account_path(account: str) -> str:
    """Return the folder of all records of an account.

    :param account: the account.
    """
    return Layout(account).access


def run_path(account: str, dag_id: str, run_id: str) -> str:
    """Return the folder of a DAG run's records.

    :param account: the account.
    :param dag_id: the DAG.
    :param run_id: the DAG run; characters that paths can't hold are percent-encoded.
    """
    return f"{account_path(account)}/dag={path_part(dag_id)}/run={path_part(run_id)}"


def path_part(text: str) -> str:
    """Make a text what may follow the ``=`` in the name of a folder, different texts different names.

    :param text: an id of Airflow's.
    :raises AhaConfigurationError: when it is empty.
    """
    if not text:
        raise AhaConfigurationError("A run without id has no place for its records.")
    return quote(text, safe="")
