"""What every operator of this package has in common."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_aha.hooks.aha import AhaHook
from airflow_provider_aha.operators.lineage import ReportsLineage
from airflow_provider_aha.operators.links import AhaLink, address_of, leave_link

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class AhaOperator(ReportsLineage, BaseOperator):
    """Base of the operators that talk to Aha!.

    :param aha_conn_id: the Airflow connection of the account. (templated)
    """

    ui_color = "#dceefb"
    operator_extra_links: tuple[Any, ...] = (AhaLink(),)

    def __init__(self, *, aha_conn_id: str = AhaHook.default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.aha_conn_id = aha_conn_id

    @cached_property
    def hook(self) -> AhaHook:
        """The hook of this task, made when it is first needed."""
        return AhaHook(aha_conn_id=self.aha_conn_id)

    def link_to(self, context: Context, user_id: str | None = None) -> None:
        """Have the task's page lead to a user in Aha!, or to the account.

        :param context: the task's context.
        :param user_id: the user, where the task is about one.
        """
        leave_link(context, address_of(self.hook.get_conn().config), user_id)

    def on_kill(self) -> None:
        """Stop the requests of this task; nothing that isn't finished is published."""
        self.hook.cancel()
