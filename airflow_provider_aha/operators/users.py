"""Operators for one user: look at it, change it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_aha.common.values import legible, to_bool, to_dict, to_list, to_text, unknown_ones
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaNotFoundError
from airflow_provider_aha.hooks.common import without_useless_retries
from airflow_provider_aha.operators.base import AhaOperator
from airflow_provider_aha.operators.writes import AhaWriteOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_aha.api.client import AhaClient

ON_MISSING = ("fail", "skip", "none")
# At most this many roles are named in the log.
_NAMED = 20
_FIELD = re.compile(r"[a-z][a-z0-9_]*")


class AhaGetUserOperator(AhaOperator):
    """Look at one user: flags and roles, custom roles and seat group included.

    :param user: id or email. An email is looked up in the full list and must belong to one user. (templated)
    :param fields: which columns of the ``users`` dataset to return, and ``roles``. Left out: all but the
        personal ones (``name``, ``email``, ``extra_json``), since XComs are kept. (templated)
    :param on_missing: ``fail``, ``skip`` the task, or return ``none``, when there is no such user. (templated)
    :param aha_conn_id: the Airflow connection of the account. (templated)
    :return: a dict with one value per field, times as ISO 8601 text; ``roles`` is a list of dicts with
        ``role_kind``, ``workspace_id``, ``workspace_name``, ``role_id``, ``role``, ``role_name``, ``role_rank``.
    :raises AirflowFailException: without retries, when the key is refused or an argument can't be right.
    :raises AhaNotFoundError: when there is no such user and ``on_missing`` is ``fail``.
    :raises AhaAmbiguousUserError: when the email belongs to several users.
    """

    template_fields: Sequence[str] = ("user", "fields", "on_missing", "aha_conn_id")

    def __init__(
        self, *, user: str, fields: Sequence[str] | str | None = None, on_missing: str = "fail", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.user = user
        self.fields = fields
        self.on_missing = on_missing

    def execute(self, context: Context) -> dict[str, Any] | None:
        """Look the user up.

        :param context: the task's context.
        :return: the user's fields, or None.
        """
        from airflow_provider_aha.datasets.details import details

        with without_useless_retries(self.aha_conn_id):
            user, fields = to_text(self.user, "user"), self._fields()
            if user is None:
                raise AhaConfigurationError("user is not set: give an id or an email.")
            if self.on_missing not in ON_MISSING:
                raise AhaConfigurationError(f"on_missing must be one of {', '.join(ON_MISSING)}.")
            client = self.hook.get_conn()
            self.link_to(context)
            try:
                found = _find(client, user)
            except AhaNotFoundError as error:
                self._missing(error)
                return None
            self.link_to(context, found["id"])
            shown = details(client, found, connection_id=self.aha_conn_id)
        self._say_found(shown)
        return {name: shown[name] for name in fields}

    def _say_found(self, shown: Mapping[str, Any]) -> None:
        """Say what was found, without name and email: whoever looks at the task's log is answered there."""
        from airflow_provider_aha.datasets.details import FIELDS, PERSONAL

        self.log.info("User %s of %s:", shown["id"], shown["subdomain"])
        for name in FIELDS:
            if name not in (*PERSONAL, "id", "subdomain", "roles"):
                self.log.info("  %s: %s", name, legible(str(shown[name])))
        roles = shown["roles"]
        for role in roles[:_NAMED]:
            where = f"{role['role_name']} in {role['workspace_name']} (workspace {role['workspace_id']})"
            self.log.info("  %s role: %s", role["role_kind"], legible(where))
        if len(roles) > _NAMED:
            self.log.info("  and %d more roles", len(roles) - _NAMED)

    def _fields(self) -> list[str]:
        from airflow_provider_aha.datasets.details import FIELDS, PERSONAL

        fields = to_list(self.fields, "fields") or [name for name in FIELDS if name not in PERSONAL]
        if unknown := unknown_ones(fields, FIELDS):
            raise AhaConfigurationError(f"fields must be some of {', '.join(FIELDS)}; there isn't {unknown}.")
        return fields

    def _missing(self, error: AhaNotFoundError) -> None:
        if self.on_missing == "fail":
            # Where in the client it was found says nothing to who reads the log.
            raise error.with_traceback(None)
        if self.on_missing == "skip":
            raise AirflowSkipException(str(error)) from error
        self.log.info("%s", error)


def _find(client: AhaClient, user: str) -> dict[str, Any]:
    from airflow_provider_aha.api.client import check_user_id

    if "@" in user:
        return client.find_user(user)
    return client.get_listed_user(check_user_id(user, or_email=True))


class AhaUpdateUserOperator(AhaWriteOperator):
    """Change one user whom DAG code names; only what is set is sent, and nothing where nothing differs.

    ``enabled``, ``email`` and administrator rights decide over access: they pass the same guards as a
    deactivation, and need ``allow_privileged=True`` in DAG code, since nobody is asked. To ask a person, make a
    plan: :class:`airflow_provider_aha.operators.plan.AhaPlanAccessOperator`. Every change leaves evidence.

    :param user: id or email. (templated)
    :param first_name: first name. Aha! never shows it, so the outcome is ``unverified``. (templated)
    :param last_name: last name; likewise. (templated)
    :param email: email. (templated)
    :param enabled: whether the user may log in. (templated)
    :param administrator: gives or takes all administrator rights. (templated)
    :param administrator_roles: single rights, as ``{"administer_billing": false}``. (templated)
    :param extra_fields: further fields of the ``user`` object, as a dict; what they do isn't known, so they need
        ``allow_privileged``. (templated)
    :param dry_run: read and judge, but change nothing; the default. (templated)
    :param allow_privileged: lets it change what decides over access without asking a person. Not templated on
        purpose.
    :param base_path: where evidence is kept; as :class:`AhaDeactivateUsersOperator`. (templated)
    :param aha_conn_id: the Airflow connection of the account. (templated)
    :return: ``user_id``, ``outcome``, ``reason`` and the path of the evidence.
    :raises AirflowFailException: without retries, when a guard or Aha! refuses, or an argument can't be right.
    """

    template_fields: Sequence[str] = (
        "user",
        "first_name",
        "last_name",
        "email",
        "enabled",
        "administrator",
        "administrator_roles",
        "extra_fields",
        "dry_run",
        *AhaWriteOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"administrator_roles": "json", "extra_fields": "json"}

    def __init__(
        self,
        *,
        user: str,
        first_name: str | None = None,
        last_name: str | None = None,
        email: str | None = None,
        enabled: bool | str | None = None,
        administrator: bool | str | None = None,
        administrator_roles: Mapping[str, Any] | str | None = None,
        extra_fields: Mapping[str, Any] | str | None = None,
        dry_run: bool | str = True,
        allow_privileged: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.user = user
        self.first_name = first_name
        self.last_name = last_name
        self.email = email
        self.enabled = enabled
        self.administrator = administrator
        self.administrator_roles = administrator_roles
        self.extra_fields = extra_fields
        # Hides BaseOperator.dry_run(), which only `airflow tasks test --dry-run` calls.
        self.dry_run = dry_run  # type: ignore[method-assign, assignment]
        self.allow_privileged = allow_privileged

    def execute(self, context: Context) -> dict[str, Any]:
        """Change the user.

        :param context: the task's context.
        :return: what became of it.
        """
        with without_useless_retries(self.aha_conn_id):
            dry_run = to_bool(self.dry_run, "dry_run", default=True)
            changes = self._changes()
            user = to_text(self.user, "user")
            if user is None:
                raise AhaConfigurationError("user is not set: give an id or an email.")
            self.check_privileged(self.allow_privileged, changes, dry_run=dry_run)
            done = self.change_users(context, "update", [user], changes, dry_run=dry_run)
        row = done.rows[0]
        return {name: row[name] for name in ("user_id", "outcome", "reason")} | {
            "evidence": done.evidence,
            "dry_run": dry_run,
        }

    def _changes(self) -> dict[str, Any]:
        from airflow_provider_aha.access.operations.user_fields import ADMINISTRATOR_ROLES, FIELDS, read_wanted

        changes = read_wanted({name: getattr(self, name) for name in FIELDS})
        for name, value in (to_dict(self.extra_fields, "extra_fields") or {}).items():
            # Aha! might be less strict about a name than Python is.
            if name.strip().casefold() in (*FIELDS, *ADMINISTRATOR_ROLES):
                raise AhaConfigurationError(f"extra_fields has {name}, which has an argument of its own.")
            # Rails reads user[enabled] as a field within a field.
            if not _FIELD.fullmatch(name) or name == "user":
                raise AhaConfigurationError("extra_fields has a name that is no field's.")
            changes[name] = value
        if not changes:
            raise AhaConfigurationError("Nothing to change was given.")
        return changes
