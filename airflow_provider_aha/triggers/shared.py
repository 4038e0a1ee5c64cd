"""What the triggers of one process share: a client per account, its threads, and the pace of polling.

Everything here runs on the triggerer's event loop, except what is handed to a thread; that never asks Airflow.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_aha.common.threads import DaemonExecutor
from airflow_provider_aha.hooks.aha import get_async_config
from airflow_provider_aha.hooks.common import airflow_user_agent

if TYPE_CHECKING:
    from airflow_provider_aha.api.config import ClientConfig
    from airflow_provider_aha.datasets.watch import Account

T = TypeVar("T")

GIVE_UP_SECONDS = 3600.0
"""So long a trigger goes on while nothing but errors come."""

LONGEST_PAUSE = 300.0
# A trigger comes back by itself, so a read need not insist for long.
_MAX_RETRIES, _RETRY_BUDGET = 2, 60.0
_THREADS = 8


class Time:
    """Time and sleep of a trigger, in one place so that tests can replace them."""

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait.

        :param seconds: how long.
        """
        await asyncio.sleep(seconds)


class Pauses:
    """How long to wait before the next look: the interval, and longer and longer while looks fail.

    :param interval: seconds between two looks.
    :param clock: the time.
    """

    def __init__(self, interval: float, clock: Time) -> None:
        self._interval = interval
        self._clock = clock
        self._failing_since: float | None = None
        self.next = interval

    def worked(self) -> None:
        """Return to the interval."""
        self._failing_since = None
        self.next = self._interval

    def failed(self) -> bool:
        """Make the next pause longer.

        :return: whether all looks have failed for too long.
        """
        now = self._clock.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        else:
            self.next = min(self.next * 2, max(self._interval, LONGEST_PAUSE))
        return now - self._failing_since >= GIVE_UP_SECONDS


@dataclass
class _Lease:
    config: ClientConfig
    loop: asyncio.AbstractEventLoop
    opened: asyncio.Future[SharedAccount]
    users: int = 0


_leases: list[_Lease] = []


class SharedAccount:
    """An account, as a trigger asks it: from a thread, while the event loop goes on.

    :param account: the account.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self._threads = DaemonExecutor(_THREADS, "aha-trigger")

    async def run(self, work: Callable[[Account], T]) -> T:
        """Run something that takes time and asks the account.

        :param work: what to do; it must not ask Airflow.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, self._account)

    def close(self) -> None:
        """End what is still done."""
        self._account.client.cancel()
        self._account.client.close()
        self._threads.shutdown()


async def load_heavy_modules() -> None:
    """Import in a thread what a look needs: on the loop, every other trigger would wait for it."""
    await asyncio.get_running_loop().run_in_executor(None, import_module, "airflow_provider_aha.datasets.watch")


@asynccontextmanager
async def shared_account(aha_conn_id: str, clock: Time) -> AsyncIterator[SharedAccount]:
    """Resolve a connection, and share one client with all triggers here that have the same: its rate limit, too.

    The last one to leave ends what the client still does.

    :param aha_conn_id: the Airflow connection of the account.
    :param clock: the time.
    :raises AhaConfigurationError: when a field of the connection can't be right.
    """
    config = await get_async_config(aha_conn_id)
    loop = asyncio.get_running_loop()
    lease = next((one for one in _leases if one.config == config and one.loop is loop), None)
    if lease is None:
        lease = _Lease(config, loop, loop.run_in_executor(None, _open, config, aha_conn_id, clock))
        _leases.append(lease)
    lease.users += 1
    try:
        # Whoever leaves meanwhile doesn't take it from the others.
        yield await asyncio.shield(lease.opened)
    finally:
        lease.users -= 1
        if not lease.users:
            _leases.remove(lease)
            lease.opened.add_done_callback(lambda opened: opened.result().close())


def _open(config: ClientConfig, connection_id: str, clock: Time) -> SharedAccount:
    from airflow_provider_aha.api.client import AhaClient
    from airflow_provider_aha.datasets.watch import Account

    calm = replace(
        config,
        max_retries=min(config.max_retries, _MAX_RETRIES),
        retry_budget=min(config.retry_budget, _RETRY_BUDGET),
    )
    client = AhaClient(calm, user_agent=airflow_user_agent())
    return SharedAccount(Account(client, connection_id=connection_id, monotonic=clock.monotonic))


async def resolve_location(path: str) -> Any:
    """Find the filesystem of a path, on the event loop: an object store's is an Airflow connection.

    :param path: see :func:`airflow_provider_aha.hooks.paths.resolve_path`.
    """
    from asgiref.sync import sync_to_async

    from airflow_provider_aha.hooks.paths import resolve_path

    resolve: Callable[[str], Awaitable[Any]] = sync_to_async(resolve_path)
    return await resolve(path)
