"""What the tests of conditions, sensors and triggers share: accounts of a sandbox, and time that only they move."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.datasets.watch import Account
from airflow_provider_aha.sandbox.testing import SandboxServer
from airflow_provider_aha.store.store import Store
from airflow_provider_aha.triggers.shared import Time


class TestTime(Time):
    """Time that passes when somebody sleeps; a test says what happens meanwhile.

    :param steps: called one after the other, one for each sleep; then every sleep is an error.
    """

    __test__ = False

    def __init__(self, *steps: Callable[[], Any]) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.steps = list(steps)
        self.forever: Callable[[], Any] | None = None

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        # Others on the loop have their turn.
        await asyncio.sleep(0)
        self.now += seconds
        self.slept.append(seconds)
        step = self.steps.pop(0) if self.steps else self.forever
        assert step, f"it went on to sleep for {seconds} seconds"
        step()


def nothing() -> None:
    """Nothing happens meanwhile."""


@pytest.fixture
def sandbox(set_connection: Callable[..., None]) -> Iterator[SandboxServer]:
    """A small account, with `aha_default` as the connection to it; not patient."""
    with SandboxServer(users=30) as server:
        set_connection(
            host=server.host, port=server.port, schema="http", password=server.key, extra={"max_retries": 0}
        )
        yield server


@pytest.fixture
def account(sandbox: SandboxServer) -> Iterator[Account]:
    with client_of(sandbox) as client:
        yield Account(client, connection_id="aha_default")


def client_of(server: SandboxServer, *, name: str = "127.0.0.1") -> AhaClient:
    return AhaClient(ClientConfig(base_url=server.url, account=name, api_key=server.key, max_retries=0))


def place(path: Path) -> Store:
    return Store(LocalFileSystem(), str(path), str(path))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "watch" / "state.zip"
