"""The Oomnitza sandbox as a server."""

from __future__ import annotations

from urllib.parse import quote

from airflow_provider_aha.sandbox.oomnitza.app import OomnitzaApp
from airflow_provider_aha.sandbox.oomnitza.instance import READ_ONLY_TOKEN, TOKEN, Instance
from airflow_provider_aha.sandbox.running import ServiceServer


class OomnitzaSandbox(ServiceServer[OomnitzaApp]):
    """An Oomnitza on a port of this machine, in a thread, for as long as it is needed.

    ::

        with OomnitzaSandbox() as oomnitza:
            requests.get(f"{oomnitza.url}/api/v3/users", headers={"Authorization2": oomnitza.token})

    :param people: how many people it has at the start; ignored where ``instance`` is given.
    :param instance: the state to serve, in place of a new one.
    :param latency: how long every answer takes, in seconds; may be set later, too.
    :param host: the address to listen on.
    :param port: the port to listen on; a free one if 0.
    :raises OSError: when the port is in use.
    """

    token = TOKEN
    read_only_token = READ_ONLY_TOKEN

    def __init__(
        self,
        people: int = 3,
        *,
        instance: Instance | None = None,
        latency: float = 0.0,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.instance = Instance(people) if instance is None else instance
        super().__init__(OomnitzaApp(self.instance, latency=latency), host, port)

    @property
    def connection_uri(self) -> str:
        """The Airflow connection to it, as a URI."""
        return f"oomnitza://:{quote(self.token, safe='')}@{self._netloc}/http"
