"""Airflow paths to places on a storage; the one place that knows how Airflow versions differ in it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_provider_aha.common.values import is_unset, to_text
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaStorageError

if TYPE_CHECKING:
    from airflow_provider_aha.store.store import Store

BASE_PATH_VARIABLE = "aha_output_path"
_PLAIN_PATH = re.compile(r"[\w.~:/-]{1,200}")


def default_base_path(param: str | None = None) -> str:
    """Return the base path of the example DAGs; a macro, so that it is looked up when a task runs.

    :param param: what a person typed into the form; null and empty text mean nothing.
    :return: the param, else the Airflow Variable ``aha_output_path``, else ``$AIRFLOW_HOME/aha``.
    """
    from airflow.providers.common.compat.sdk import Variable

    if not is_unset(param):
        return str(param)
    variable = Variable.get(BASE_PATH_VARIABLE, None)
    if not is_unset(variable):
        return str(variable)
    return str(Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "aha")


def resolve_base_path(given: object) -> Store:
    """Find the base path of a task.

    :param given: what its argument ``base_path`` says; unset: :func:`default_base_path`.
    :raises AhaConfigurationError: as for :func:`resolve_path`.
    :raises AhaStorageError: as for :func:`resolve_path`.
    """
    return resolve_path(to_text(given, "base_path") or default_base_path())


def resolve_path(path: str) -> Store:
    """Find the place that a path means.

    :param path: an absolute local path, or a URL of an object store such as
        ``s3://aws_default@bucket/aha``, where ``aws_default`` is an Airflow connection.
    :return: the place.
    :raises AhaConfigurationError: when the path is relative, or tries to leave its folder.
    :raises AhaStorageError: when this worker has no support for the URL's scheme.
    """
    from airflow_provider_aha.store.store import local_store

    text = str(path).strip()
    scheme, _, rest = text.rpartition("://")
    local = scheme in ("", "file")
    if local and not rest.startswith("/"):
        raise AhaConfigurationError(
            f"The path {_shown(text)}is relative, and each worker would read it differently: give an absolute "
            "local path (/data/aha) or a URL (s3://aws_default@bucket/aha)."
        )
    if ".." in rest.split("/"):
        raise AhaConfigurationError(f"The path {_shown(text)}has '..' in it: name the folder itself.")
    if not local and ":" in rest.partition("/")[0].rpartition("@")[0]:
        raise AhaConfigurationError(
            f"A {scheme}:// URL has a password in it: put that into an Airflow connection, and the connection's id "
            "into the URL (s3://aws_default@bucket/aha)."
        )
    if local:
        return local_store(rest.rstrip("/") or "/")
    if rest.startswith("/") or not rest:
        raise AhaConfigurationError(f"A {scheme}:// URL names no bucket.")
    return _object_store(text.rstrip("/"))


def _shown(path: str) -> str:
    # A name or an email that was typed into the wrong field is not repeated.
    return f"{path!r} " if _PLAIN_PATH.fullmatch(path) else ""


def _object_store(url: str) -> Store:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_aha.store.store import object_store

    try:
        return object_store(ObjectStoragePath(url), url)
    except (ImportError, ValueError, TypeError) as error:
        scheme = urlsplit(url).scheme
        raise AhaStorageError(
            f"This worker can't reach {scheme}:// paths ({type(error).__name__}): install the Airflow provider for "
            "it with its filesystem, for s3 airflow-provider-aha[s3]."
        ) from error
