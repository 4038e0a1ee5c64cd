"""What the hooks have in common: form, client and key, and which errors another try can't help."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from airflow.providers.common.compat.sdk import AirflowFailException, BaseHook

from airflow_provider_aha.exceptions import AhaConfigurationError, AhaError
from airflow_provider_aha.get_provider_info import HIDDEN_FIELDS

_TYPE = re.compile(r"[a-z_]{1,30}")


Client = TypeVar("Client", bound="Cancellable")


class Cancellable(Protocol):
    """A client whose requests can be stopped."""

    def cancel(self) -> None:
        """Stop what it does, now and from now on."""


class ClientHook(BaseHook, Generic[Client]):
    """Base of the hooks: an Airflow connection becomes a client, which is made when it is first needed.

    :param conn_id: the Airflow connection.
    """

    conn_type: str
    conn_name_attr: str
    relabeling: ClassVar[Mapping[str, str]]
    placeholders: ClassVar[Mapping[str, str]]
    conn_fields: ClassVar[Mapping[str, Mapping[str, Any]]]

    def __init__(self, conn_id: str) -> None:
        super().__init__()
        setattr(self, self.conn_name_attr, conn_id)
        self._cancelled = False

    def get_conn(self) -> Client:
        """Return the client, the same one at every call.

        :raises AhaConfigurationError: when a field of the connection can't be right.
        """
        return self._client

    @cached_property
    def _client(self) -> Client:
        client = self._new_client()
        if self._cancelled:
            client.cancel()
        return client

    def _new_client(self, **changes: Any) -> Client:
        raise NotImplementedError

    def _fields(self) -> dict[str, Any]:
        return fields_of(self.get_connection(getattr(self, self.conn_name_attr)), self.conn_type)

    def cancel(self) -> None:
        """Stop what this hook does, now and from now on; other threads get :class:`AhaCancelledError`."""
        self._cancelled = True
        if "_client" in self.__dict__:
            self._client.cancel()


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


def fields_of(connection: Any, conn_type: str) -> dict[str, Any]:
    """Return what a client's settings are made of.

    :param connection: the Airflow connection.
    :param conn_type: the type that it has to have.
    :raises AhaConfigurationError: when it has another one.
    """
    check_type(connection, conn_type)
    # Not `extra_dejson`, which drops what it can't read, and breaks on a list; in Airflow 3 it also asks the
    # supervisor to mask what it finds, and would block a trigger's loop.
    return {name: getattr(connection, name) for name in ("host", "password", "schema", "port", "extra")}


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
