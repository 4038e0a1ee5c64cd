from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from airflow_provider_aha.push.targets.oomnitza.client import OomnitzaClient
from airflow_provider_aha.push.targets.oomnitza.config import OomnitzaConfig
from airflow_provider_aha.sandbox.testing import OomnitzaSandbox
from tests.api.conftest import ImpatientClock, reply, serve
from tests.push.conftest import world

__all__ = ["reply", "serve", "world"]

Connect = Callable[..., OomnitzaClient]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Call it with a sandbox, or an address, for a client that hurries; more arguments are its configuration."""
    with ExitStack() as stack:

        def make(server: OomnitzaSandbox | str, **changes: Any) -> OomnitzaClient:
            url = server if isinstance(server, str) else server.url
            given = {
                "api_key": OomnitzaSandbox.token,
                "requests_per_second": 10**5,
                "requests_per_minute": 10**6,
                "read_timeout": 10.0,
                **changes,
            }
            config = OomnitzaConfig(base_url=url, account="acme", **given)
            return stack.enter_context(OomnitzaClient(config, clock=ImpatientClock()))

        yield make


@pytest.fixture
def client(oomnitza_sandbox: OomnitzaSandbox, connect: Connect) -> OomnitzaClient:
    return connect(oomnitza_sandbox)
