"""What the hooks have in common: their forms for Airflow before 3.2, and how a key is hidden, and what another try can't help."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_aha.exceptions import AhaConfigurationError, AhaError
from airflow_provider_aha.get_provider_info import HIDDEN_FIELDS

_TYPE = re.compile(r"[a-z_]{1,30}")


def field_behaviour(relabeling: Mapping[str, str], placeholders: Mapping[str, str]) -> dict[str, Any]:
    """Return labels and hidden fields of a connection form.

    :param relabeling: labels of the standard fields.
    :param placeholders: what they show while they are empty.
    """
    return {
        "hidden_fields": list(HIDDEN_FIELDS),
        "relabeling": dict(relabeling),
        "placeholders": dict(placeholders),
    }


def form_widgets(fields: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the extra fields of a connection form.

    :param fields: as in the provider's metadata.
    """
    from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
    from flask_babel import lazy_gettext
    from wtforms import IntegerField, StringField
    from wtforms.validators import Optional

    return {
        name: (IntegerField if "integer" in field["schema"]["type"] else StringField)(
            lazy_gettext(field["label"]),
            widget=BS3TextFieldWidget(),
            description=field["description"],
            validators=[Optional()],
            default=field["schema"].get("default"),
        )
        for name, field in fields.items()
    }


def check_type(connection: Any, conn_type: str) -> None:
    """Refuse a connection of another type: its password is somebody else's, and must not be sent as a key.

    :param connection: the Airflow connection.
    :param conn_type: the type that it has to have.
    :raises AhaConfigurationError: when it has another one.
    """
    if connection.conn_type != conn_type:
        given = str(connection.conn_type)
        # A key that was typed into the wrong field has digits in it.
        found = f"type {given!r}" if _TYPE.fullmatch(given) else "another type"
        raise AhaConfigurationError(
            f"The Airflow connection {connection.conn_id} is of {found}, not {conn_type!r}: "
            "its password was sent nowhere. Name another connection, or change its type."
        )


def mask_key(key: str) -> None:
    """Hide the bare key in task logs: Airflow masks the password as stored, perhaps with a Bearer before it.

    :param key: the key.
    """
    # Airflow 3, then 2; common-compat knows the name since 1.22 only.
    try:
        masker = import_module("airflow.sdk.log")
    except ImportError:
        masker = import_module("airflow.utils.log.secrets_masker")
    masker.mask_secret(key)


def airflow_user_agent() -> str:
    """Say which Airflow this is, for the ``User-Agent``."""
    from airflow import __version__ as airflow_version

    return f"airflow/{airflow_version} python/{platform.python_version()}"


@contextmanager
def without_useless_retries(connection_id: str | None = None) -> Iterator[None]:
    """Fail the task at once where trying again can't help, as the error says (:attr:`.AhaError.retry`).

    Such an error is expected, and its sentence says all: where in the code it was found is not logged with it.

    :param connection_id: the connection to name in the sentence, where the task has one.
    :raises AirflowFailException: for such an error.
    """
    try:
        yield
    except AhaError as error:
        if error.retry:
            raise
        named = f" (Airflow connection: {connection_id})" if connection_id else ""
        raise AirflowFailException(f"{error}{named}") from None
