"""The operator that drafts a mapping from the fields of a target."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseHook, BaseOperator

from airflow_provider_aha.common.values import to_list, to_text
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.hooks.common import without_useless_retries
from airflow_provider_aha.hooks.oomnitza import OomnitzaHook
from airflow_provider_aha.hooks.paths import resolve_base_path
from airflow_provider_aha.transfers.to_oomnitza import PEOPLE, SAAS_USERS
from airflow_provider_aha.transfers.to_sql import sql_target

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_aha.push.targets.base import Target

# Those that a mapping can be of.
DATASETS = ("users", "user_roles", "user_role_summary")


class AhaSuggestMappingOperator(BaseOperator):
    """Draft a mapping: compare the fields of a target with the columns of a dataset.

    The draft lies in ``push/drafts`` below the base path and in the task's log, each field with a score and a
    reason. It is for a person to read, correct and put beside their DAG; nothing applies it, and it isn't
    launched. Only names and types of fields are read, and nothing is written to the target.

    :param target_conn_id: an Airflow connection of PostgreSQL, MySQL, MariaDB, SQLite or Oomnitza. (templated)
    :param table: of a database, ``table`` or ``schema.table``. (templated)
    :param records: of Oomnitza, ``people`` or ``saas_users``. (templated)
    :param dataset: ``users``, ``user_roles`` or ``user_role_summary``. (templated)
    :param name: the name of the mapping; left out: made of the dataset and the target. (templated)
    :param allowed_conn_ids: the connections that ``target_conn_id`` may be, where a form says it; left out: any.
        (templated)
    :param base_path: left out: the Airflow Variable ``aha_output_path``, else ``$AIRFLOW_HOME/aha``. (templated)
    :return: the path of the draft, its sync key, and the fields for which nothing was found.
    """

    ui_color = "#dceefb"
    template_fields: Sequence[str] = (
        "target_conn_id",
        "table",
        "records",
        "dataset",
        "name",
        "allowed_conn_ids",
        "base_path",
    )

    def __init__(
        self,
        *,
        target_conn_id: str,
        table: str | None = None,
        records: str = PEOPLE,
        dataset: str = "users",
        name: str | None = None,
        allowed_conn_ids: Sequence[str] | str | None = None,
        base_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.target_conn_id = target_conn_id
        self.table = table
        self.records = records
        self.dataset = dataset
        self.name = name
        self.allowed_conn_ids = allowed_conn_ids
        self.base_path = base_path

    def execute(self, context: Context) -> dict[str, Any]:
        """Draft a mapping.

        :param context: the task's context.
        :return: where the draft is, and what is still to be decided.
        """
        from airflow_provider_aha.push.suggest import suggest_mapping

        with without_useless_retries(self.target_conn_id):
            dataset = _one_of(self.dataset, "dataset", DATASETS)
            conn_id = self._conn_id()
            what, target = self._target(conn_id)
            try:
                fields = target.fields()
            finally:
                target.close()
            if not fields:
                raise AhaConfigurationError(
                    f"The connection {conn_id} shows no fields of {what}: look at its name."
                )
            name = to_text(self.name, "name") or _name(f"{dataset}_{what}")
            draft = suggest_mapping(dataset, fields, name=name)
            path = self._keep(name, draft.text())
        self.log.info("A draft of a mapping from %s to %s:\n\n%s", dataset, what, draft.text())
        self.log.info(
            "It is kept as %s. Nothing was written to the target. Read every line, correct it, put it beside the "
            "DAG that pushes, and set launched to true.",
            path,
        )
        undecided = [guess.field.name for guess in draft.guesses if guess.source is None]
        return {"path": path, "name": name, "sync_key": draft.sync_key, "undecided": undecided}

    def _conn_id(self) -> str:
        conn_id = to_text(self.target_conn_id, "target_conn_id")
        if conn_id is None:
            raise AhaConfigurationError("target_conn_id is not set.")
        allowed = to_list(self.allowed_conn_ids, "allowed_conn_ids")
        if allowed is not None and conn_id not in allowed:
            raise AhaConfigurationError(
                f"A form may not use the connection {conn_id}: it is none of {', '.join(allowed)}. The Variable "
                "aha_target_conn_ids lists those that it may use."
            )
        return conn_id

    def _target(self, conn_id: str) -> tuple[str, Target]:
        """Return what the target is called, and the target, which isn't open."""
        if BaseHook.get_connection(conn_id).conn_type != OomnitzaHook.conn_type:
            table = to_text(self.table, "table")
            if table is None:
                raise AhaConfigurationError(f"table is not set, and {conn_id} is the connection of a database.")
            return table, sql_target(conn_id, table)
        from airflow_provider_aha.push.targets.oomnitza.people import OomnitzaPeople
        from airflow_provider_aha.push.targets.oomnitza.saas import OomnitzaSaasUsers

        records = _one_of(self.records, "records", (PEOPLE, SAAS_USERS))
        client = OomnitzaHook(conn_id).get_conn()
        target = OomnitzaPeople(client) if records == PEOPLE else OomnitzaSaasUsers(client, "Aha!")
        return f"oomnitza_{records}", target

    def _keep(self, name: str, text: str) -> str:
        """Write the draft, and never over another one, which somebody may have corrected."""
        from airflow_provider_aha.store.layout import draft_path

        location = resolve_base_path(self.base_path)
        file, body = draft_path(name), text.encode()
        url = location.url_of(file)
        if not location.create(file, body) and location.read(file) != body:
            raise AhaConfigurationError(
                f"There is another draft at {url}, which somebody may have corrected: delete it, or give this one "
                "another name."
            )
        return url


def _one_of(value: object, name: str, known: Sequence[str]) -> str:
    text = to_text(value, name) or known[0]
    if text not in known:
        raise AhaConfigurationError(f"{name} must be one of {', '.join(known)}, not {text!r}.")
    return text


def _name(text: str) -> str:
    """Return a text as the name of a mapping."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:63]
