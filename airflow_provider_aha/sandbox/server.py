"""The Aha! sandbox as a server."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from airflow_provider_aha.sandbox.account import ADMIN_KEY, VIEWER_KEY, Account, Write
from airflow_provider_aha.sandbox.app import SandboxApp
from airflow_provider_aha.sandbox.limits import RateLimiter
from airflow_provider_aha.sandbox.running import ServiceServer


class SandboxServer(ServiceServer[SandboxApp]):
    """An Aha! server on a port of this machine, in a thread, for as long as it is needed.

    ::

        with SandboxServer(users=50) as aha:
            requests.get(f"{aha.url}/api/v1/users", headers={"Authorization": f"Bearer {aha.key}"})

    :param users: how many users the account has; ignored where ``account`` is given.
    :param seed: another seed, another account.
    :param account: the state to serve, in place of a generated one.
    :param latency: how long every answer takes, in seconds; may be set later, too.
    :param limits: whether requests above the rate limits are turned away.
    :param requests_per_minute: the one rate limit.
    :param requests_per_second: the other one.
    :param key: the API key of an administrator with all rights.
    :param viewer_key: the API key of a user who is no administrator.
    :param keys: more API keys, and the ids of their owners.
    :param host: the address to listen on.
    :param port: the port to listen on; a free one if 0.
    :raises OSError: when the port is in use.
    """

    def __init__(
        self,
        users: int = 500,
        *,
        seed: int = 0,
        account: Account | None = None,
        latency: float = 0.0,
        limits: bool = False,
        requests_per_minute: int = 300,
        requests_per_second: int = 20,
        key: str = ADMIN_KEY,
        viewer_key: str = VIEWER_KEY,
        keys: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.account = Account.generate(users, seed=seed) if account is None else account
        self.key = key
        self.viewer_key = viewer_key
        self._set_keys(keys or {})
        limiter = RateLimiter(requests_per_minute, requests_per_second, enabled=limits)
        super().__init__(SandboxApp(self.account, limiter=limiter, latency=latency), host, port)

    # --- where it is -----------------------------------------------------------------------------

    @property
    def connection_uri(self) -> str:
        """The Airflow connection to it, as a URI."""
        return f"aha://:{quote(self.key, safe='')}@{self._netloc}/http"

    @property
    def writes(self) -> list[Write]:
        """The updates of users that were carried out, whatever was answered: what really was done."""
        with self.account.lock:
            return list(self.account.writes)

    # --- inside ----------------------------------------------------------------------------------

    def _set_keys(self, keys: Mapping[str, str]) -> None:
        """Put the keys in place of the default ones."""
        if self.key != ADMIN_KEY:
            self.account.rename_key(ADMIN_KEY, self.key)
        if self.viewer_key != VIEWER_KEY:
            self.account.rename_key(VIEWER_KEY, self.viewer_key)
        self.account.keys.update(keys)
