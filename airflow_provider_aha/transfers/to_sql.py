"""The operator that writes mapped records to a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_aha.common.values import to_bool, to_text
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.transfers.base import AhaPushOperator

if TYPE_CHECKING:
    from airflow_provider_aha.push.targets.base import Target
    from airflow_provider_aha.push.targets.sql import SqlTarget


class AhaToSqlOperator(AhaPushOperator):
    """Keep mapped records in step in a table of a SQL database.

    ::

        AhaToSqlOperator(
            task_id="push",
            mapping="users_table",
            sql_conn_id="warehouse",
            table="people.aha_users",
            create_table=True,
            inlets=[USERS],
        )

    Rows are found by the sync key, which a unique index must hold. Only mapped columns are written, one
    transaction per batch.

    :param sql_conn_id: an Airflow connection of PostgreSQL, MySQL, MariaDB or SQLite. (templated)
    :param table: ``table`` or ``schema.table``. (templated)
    :param create_table: create the table where there is none, with the sync key as its primary key. (templated)
    """

    template_fields: Sequence[str] = (*AhaPushOperator.template_fields, "sql_conn_id", "table", "create_table")

    def __init__(self, *, sql_conn_id: str, table: str, create_table: bool | str = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sql_conn_id = sql_conn_id
        self.table = table
        self.create_table = create_table

    def make_target(self, account: str, snapshot: str) -> Target:
        """Return the table.

        :param account: whose users are pushed.
        :param snapshot: the day of the snapshot.
        """
        conn_id, table = to_text(self.sql_conn_id, "sql_conn_id"), to_text(self.table, "table")
        if conn_id is None or table is None:
            raise AhaConfigurationError("sql_conn_id and table must be set.")
        return sql_target(conn_id, table, create_table=to_bool(self.create_table, "create_table", default=False))


def sql_target(conn_id: str, table: str, *, create_table: bool = False) -> SqlTarget:
    """Return a table as a target.

    :param conn_id: an Airflow connection of PostgreSQL, MySQL, MariaDB or SQLite.
    :param table: ``table`` or ``schema.table``.
    :param create_table: create the table where there is none.
    :raises AhaConfigurationError: for a connection of anything else, and for what is no table.
    """
    from airflow_provider_aha.push.targets.sql import SqlTarget

    hook = _sql_hook(conn_id)

    def connect() -> Any:
        connection = hook.get_conn()
        if hook.supports_autocommit:
            hook.set_autocommit(connection, False)
        return connection

    return SqlTarget(
        connect,
        dialect=_dialect_of(hook, conn_id),
        placeholder=hook.placeholder,
        connection=conn_id,
        table=table,
        create_table=create_table,
    )


def _sql_hook(conn_id: str) -> Any:
    try:
        from airflow.providers.common.sql.hooks.sql import DbApiHook
    except ImportError:
        raise AhaConfigurationError(
            "SQL needs airflow-provider-aha[sql], and the Airflow provider of the database."
        ) from None
    hook = BaseHook.get_hook(conn_id)
    if not isinstance(hook, DbApiHook):
        raise AhaConfigurationError(
            f"The connection {conn_id} is of the type {hook.conn_type}, which is no SQL database."
        )
    return hook


def _dialect_of(hook: Any, conn_id: str) -> str:
    """Return which database a hook is for; a hook of your own may build on Airflow's."""
    from airflow_provider_aha.push.targets.dialects import DIALECTS, NOT_WRITABLE

    for one in type(hook).__mro__:
        if (kind := getattr(one, "conn_type", None)) in DIALECTS:
            return str(kind)
    raise AhaConfigurationError(NOT_WRITABLE.format(f"The connection {conn_id} (type {hook.conn_type})"))
