"""Operators for one user: look at it, change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_aha.common.values import is_unset, to_bool, to_dict, to_list, to_text, unknown_ones
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaNotFoundError
from airflow_provider_aha.operators.base import AhaOperator, without_useless_retries
from airflow_provider_aha.operators.writes import AhaWriteOperator, without_useless_tries

ADMINISTRATOR_ROLES = ("administer_account", "administer_billing", "administer_configuration")
PRIVILEGED = ("email", "enabled", "administrator", "administrator_roles")
_OWN_ARGUMENTS = ("first_name", "last_name", *PRIVILEGED, *ADMINISTRATOR_ROLES)
ON_MISSING = ("fail", "skip", "none")


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

    def execute(self, context: Any) -> dict[str, Any] | None:
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
                found = client.find_user(user) if "@" in user else client.get_listed_user(user)
            except AhaNotFoundError as error:
                self._missing(error)
                return None
            self.link_to(context, found["id"])
            shown = details(client, found, connection_id=self.aha_conn_id)
        return {name: shown[name] for name in fields}

    def _fields(self) -> list[str]:
        from airflow_provider_aha.datasets.details import FIELDS, PERSONAL

        fields = to_list(self.fields, "fields") or [name for name in FIELDS if name not in PERSONAL]
        if unknown := unknown_ones(fields, FIELDS):
            raise AhaConfigurationError(f"fields must be some of {', '.join(FIELDS)}; there isn't {unknown}.")
        return fields

    def _missing(self, error: AhaNotFoundError) -> None:
        if self.on_missing == "fail":
            raise error
        if self.on_missing == "skip":
            raise AirflowSkipException(str(error)) from error
        self.log.info("%s", error)


class AhaUpdateUserOperator(AhaWriteOperator):
    """Change one user; only what is set is sent, and nothing where nothing differs.

    ``enabled``, ``email`` and administrator rights decide over access: they need ``allow_privileged=True`` in
    DAG code and pass the same guards as a deactivation. Every change leaves evidence.

    :param user: id or email. (templated)
    :param first_name: first name. Aha! never shows it, so the outcome is ``unverified``. (templated)
    :param last_name: last name; likewise. (templated)
    :param email: email. (templated)
    :param enabled: whether the user may log in. (templated)
    :param administrator: gives or takes all administrator rights. (templated)
    :param administrator_roles: single rights, as ``{"administer_billing": false}``. (templated)
    :param extra_fields: further fields of the ``user`` object, as a dict. (templated)
    :param allow_privileged: lets the fields that decide over access through. Not templated on purpose.
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
        self.allow_privileged = allow_privileged

    def execute(self, context: Any) -> dict[str, Any]:
        """Change the user.

        :param context: the task's context.
        :return: what became of it.
        """
        with without_useless_tries(self.aha_conn_id):
            changes = self._changes()
            user = to_text(self.user, "user")
            if user is None:
                raise AhaConfigurationError("user is not set: give an id or an email.")
            done = self.change_users(context, "update", [user], changes, dry_run=False)
        row = done.rows[0]
        return {name: row[name] for name in ("user_id", "outcome", "reason")} | {"evidence": done.evidence}

    def _changes(self) -> dict[str, Any]:
        texts = {name: to_text(getattr(self, name), name) for name in ("first_name", "last_name", "email")}
        changes: dict[str, Any] = {name: text for name, text in texts.items() if text is not None}
        for name in ("enabled", "administrator"):
            if not is_unset(value := getattr(self, name)):
                changes[name] = to_bool(value, name, default=False)
        if roles := to_dict(self.administrator_roles, "administrator_roles"):
            changes["administrator_roles"] = _roles(roles)
        for name, value in (to_dict(self.extra_fields, "extra_fields") or {}).items():
            # Aha! might be less strict about a name than Python is.
            if name.strip().casefold() in _OWN_ARGUMENTS:
                raise AhaConfigurationError(f"extra_fields has {name}, which has an argument of its own.")
            changes[name] = value
        if not changes:
            raise AhaConfigurationError("Nothing to change was given.")
        privileged = [name for name in changes if name in PRIVILEGED]
        if privileged and not self.allow_privileged:
            raise AhaConfigurationError(
                f"{', '.join(privileged)} decides over access: the DAG must say allow_privileged=True for it."
            )
        return changes


def _roles(roles: Mapping[str, Any]) -> dict[str, bool]:
    if unknown := [name for name in roles if name not in ADMINISTRATOR_ROLES]:
        raise AhaConfigurationError(
            f"administrator_roles has {', '.join(unknown)}; there are {', '.join(ADMINISTRATOR_ROLES)}."
        )
    found = {name: to_bool(value, name, default=False) for name, value in roles.items() if not is_unset(value)}
    if not found:
        raise AhaConfigurationError("administrator_roles sets nothing.")
    return found
