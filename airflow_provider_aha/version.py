"""The package's own version."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    """Return the installed version, or ``0`` when the package runs from a folder that isn't installed."""
    try:
        return version("airflow-provider-aha")
    except PackageNotFoundError:
        return "0"
