"""The operator that pushes mapped records to Oomnitza."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_aha.common.values import to_bool, to_int, to_number, to_text
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.hooks.oomnitza import OomnitzaHook
from airflow_provider_aha.transfers.base import AhaPushOperator

if TYPE_CHECKING:
    from airflow_provider_aha.push.targets.base import Target
    from airflow_provider_aha.push.targets.oomnitza.saas import Deactivation, SaasRole
    from airflow_provider_aha.store.store import Store

PEOPLE, SAAS_USERS = "people", "saas_users"
DISTINCT, PER_WORKSPACE, NO_ROLES = "distinct", "per_workspace", "none"
# Where the roles of each grain come from.
_ROLE_DATASETS = {DISTINCT: "user_role_summary", PER_WORKSPACE: "user_roles"}


class AhaToOomnitzaOperator(AhaPushOperator):
    """Keep people, or the users of a SaaS application, in step at Oomnitza.

    ::

        AhaToOomnitzaOperator(
            task_id="push_people",
            mapping="oomnitza_people",
            mapping_params={"role": "Employee"},
            inlets=[USERS],
        )

    Everything at Oomnitza is read once and compared; only differences are written. Not verified against a live
    instance: begin with a dry run. ``role`` among the ``mapping_params`` may be the name of a role at Oomnitza, or
    its number; the instance is asked, and a role that it doesn't have stops the push.

    :param oomnitza_conn_id: the Airflow connection of the instance. (templated)
    :param records: ``people``, or ``saas_users`` of the application ``saas``. (templated)
    :param saas: id or name of the application at Oomnitza. (templated)
    :param role_grain: ``distinct``: a role is there once, in however many workspaces a user has it;
        ``per_workspace``: a role in each workspace is one of its own; ``none``: roles aren't touched. (templated)
    :param deactivate: deactivate SaaS users who are disabled in Aha!, or gone from it. (templated)
    :param max_deactivations: above so many, nothing at all is sent.
    :param max_deactivation_percent: above so many percent of the active SaaS users, nothing at all is sent.
    """

    template_fields: Sequence[str] = (
        *AhaPushOperator.template_fields,
        "oomnitza_conn_id",
        "records",
        "saas",
        "role_grain",
        "deactivate",
    )

    def __init__(
        self,
        *,
        oomnitza_conn_id: str = OomnitzaHook.default_conn_name,
        records: str = PEOPLE,
        saas: str = "Aha!",
        role_grain: str = DISTINCT,
        deactivate: bool | str = False,
        max_deactivations: int = 25,
        max_deactivation_percent: float = 20.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.oomnitza_conn_id = oomnitza_conn_id
        self.records = records
        self.saas = saas
        self.role_grain = role_grain
        self.deactivate = deactivate
        self.max_deactivations = max_deactivations
        self.max_deactivation_percent = max_deactivation_percent

    @cached_property
    def oomnitza_hook(self) -> OomnitzaHook:
        """The hook of the instance, made when it is first needed."""
        return OomnitzaHook(oomnitza_conn_id=self.oomnitza_conn_id)

    def connections(self) -> str:
        """Name the Airflow connections that an error may be about."""
        return f"{self.oomnitza_conn_id}; the account's is {super().connections()}"

    def on_kill(self) -> None:
        """Stop after the request that is on its way; what was acknowledged is kept."""
        super().on_kill()
        self.oomnitza_hook.cancel()

    def params_of_mapping(self) -> dict[str, Any] | None:
        """Return the values for fields of the mapping; a role by its number."""
        params = super().params_of_mapping()
        role = to_text((params or {}).get("role"), "mapping_params.role")
        if params is None or role is None or self._records() != PEOPLE:
            return params
        return {**params, "role": self.oomnitza_hook.role_number(role)}

    def _records(self) -> str:
        return _one_of(self.records, "records", (PEOPLE, SAAS_USERS), PEOPLE)

    def make_target(self, account: str, snapshot: str) -> Target:
        """Return people or SaaS users.

        :param account: whose users are pushed.
        :param snapshot: the day of the snapshot.
        """
        client = self.oomnitza_hook.get_conn()
        if self._records() == PEOPLE:
            from airflow_provider_aha.push.targets.oomnitza.people import OomnitzaPeople

            return OomnitzaPeople(client)
        from airflow_provider_aha.push.targets.oomnitza.saas import OomnitzaSaasUsers

        saas = to_text(self.saas, "saas")
        if saas is None:
            raise AhaConfigurationError(
                "saas is not set: give the name or the saas_id of the application at Oomnitza."
            )
        snapshot_reader = _Snapshot(self.location(), account, snapshot)
        grain = _one_of(self.role_grain, "role_grain", (DISTINCT, PER_WORKSPACE, NO_ROLES), DISTINCT)
        return OomnitzaSaasUsers(
            client,
            saas,
            roles=None if grain == NO_ROLES else snapshot_reader.roles(per_workspace=grain == PER_WORKSPACE),
            deactivation=self._deactivation(snapshot_reader),
        )

    def _deactivation(self, snapshot: _Snapshot) -> Deactivation | None:
        from airflow_provider_aha.push.targets.oomnitza.saas import Deactivation

        if not to_bool(self.deactivate, "deactivate", default=False):
            return None
        percent = self.max_deactivation_percent
        return Deactivation(
            gone_unless_in=snapshot.user_ids(),
            max_users=to_int(self.max_deactivations, "max_deactivations", 25, 0, 10**6),
            max_percent=to_number(percent, "max_deactivation_percent", 20.0, 0.0, 100.0),
        )


class _Snapshot:
    """What SaaS users need of a snapshot beyond the rows that are mapped."""

    def __init__(self, location: Store, account: str, day: str) -> None:
        from airflow_provider_aha.datasets.snapshot import Snapshot

        self._snapshot = Snapshot.of(location, account, day)

    def user_ids(self) -> set[str]:
        """Return the ids of all users of the account."""
        return {row["id"] for row in self._rows("users", ["id"])}

    def roles(self, *, per_workspace: bool) -> dict[str, list[SaasRole]]:
        """Return the roles of each user; a user whose roles Aha! didn't show isn't in it.

        :param per_workspace: a role in each workspace is one of its own.
        """
        from airflow_provider_aha.push.targets.oomnitza.saas import roles_by_user

        columns = ["user_id", "role_id", "role", "role_name"]
        if per_workspace:
            columns += ["workspace_id", "workspace_name"]
        dataset = _ROLE_DATASETS[PER_WORKSPACE if per_workspace else DISTINCT]
        found = roles_by_user(self._rows(dataset, columns), per_workspace=per_workspace)
        # The count of workspaces is null where the roles are unknown: nobody is to lose roles by that.
        known = [
            row["id"]
            for row in self._rows("users", ["id", "workspace_count"])
            if row["workspace_count"] is not None
        ]
        return {user_id: found.get(user_id, []) for user_id in known}

    def _rows(self, dataset: str, columns: list[str]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._snapshot.table(dataset, columns).to_pylist()
        return rows


def _one_of(value: Any, name: str, known: Sequence[str], default: str) -> str:
    text = to_text(value, name) or default
    if text not in known:
        raise AhaConfigurationError(f"{name} must be one of {', '.join(known)}.")
    return text
