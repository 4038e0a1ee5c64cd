"""Where a mapping comes from: a dict, text, a file on any path, or the package's ready ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from airflow_provider_aha.exceptions import AhaConfigurationError, AhaStorageError
from airflow_provider_aha.push.mapping.spec import MappingSpec, read_spec
from airflow_provider_aha.store.store import Store

_LARGEST = 1024 * 1024
_WORD = re.compile(r"[a-z][a-z0-9_]*")
_PATH = re.compile(r"(?:/|[a-z][a-z0-9+]*://)[^\n]*")


def ready_mappings() -> list[str]:
    """Return the names of the mappings that the package brings."""
    folder = files("airflow_provider_aha.push.mapping").joinpath("ready")
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def load_spec(
    value: Mapping[str, Any] | str, params: Mapping[str, Any] | None, resolve: Callable[[str], Store]
) -> MappingSpec:
    """Load a mapping.

    :param value: a dict, YAML or JSON text, the path of a file with it, or the name of a ready mapping.
    :param params: values for the fields that ask for one by ``param``.
    :param resolve: finds the place of a path.
    :raises AhaMappingError: when anything in it is wrong; all of it is listed.
    :raises AhaConfigurationError: when there is no such mapping.
    """
    if not isinstance(value, str):
        return read_spec(value, params)
    name = value.strip()
    if _WORD.fullmatch(name):
        return read_spec(_ready(name), params, what=f"The mapping {name}")
    if _PATH.fullmatch(name):
        return read_spec(_file(resolve(name)), params, what=f"The mapping {name}")
    return read_spec(value, params)


def _ready(name: str) -> str:
    if name not in ready_mappings():
        raise AhaConfigurationError(
            f"There is no ready mapping of that name; there are {', '.join(ready_mappings())}. The path of a file "
            "begins with / or with a scheme such as s3://."
        )
    return files("airflow_provider_aha.push.mapping").joinpath("ready", f"{name}.yaml").read_text(encoding="utf-8")


def _file(location: Store) -> str:
    try:
        return location.read_limited("The mapping", _LARGEST).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise AhaStorageError(f"{location.url} is not UTF-8 text.") from None
