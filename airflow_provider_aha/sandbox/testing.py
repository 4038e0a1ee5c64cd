"""The sandbox in tests.

In a ``conftest.py``::

    from airflow_provider_aha.sandbox.testing import aha_sandbox

and in a test::

    def test_my_dag(aha_sandbox, monkeypatch):
        monkeypatch.setenv("AIRFLOW_CONN_AHA_DEFAULT", aha_sandbox.connection_uri)
        aha_sandbox.set_fault("error", status=502, times=2)
        ...

:func:`oomnitza_sandbox` is an Oomnitza to push to, in the same way.

Another size, the rate limits or an account of your own: use :class:`SandboxServer` in a fixture of yours.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_aha.sandbox.account import Account
from airflow_provider_aha.sandbox.oomnitza.server import OomnitzaSandbox
from airflow_provider_aha.sandbox.server import SandboxServer

__all__ = ["Account", "OomnitzaSandbox", "SandboxServer", "aha_sandbox", "oomnitza_sandbox"]


@pytest.fixture
def aha_sandbox() -> Iterator[SandboxServer]:
    """Run a sandbox of 500 users, new for every test, without rate limits.

    :returns: the running server.
    """
    with SandboxServer() as server:
        yield server


@pytest.fixture
def oomnitza_sandbox() -> Iterator[OomnitzaSandbox]:
    """Run an Oomnitza of 3 people, new for every test.

    :returns: the running server.
    """
    with OomnitzaSandbox() as server:
        yield server
