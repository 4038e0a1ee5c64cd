from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests

from airflow_provider_aha.sandbox.testing import SandboxServer

HERE = Path(__file__).parent
DEFINITIONS = json.loads((HERE / "schemas.json").read_text())

Validate = Callable[[str, object], None]


class Api(requests.Session):
    """What a test says to the API of one sandbox."""

    def __init__(self, server: SandboxServer, key: str | None = None) -> None:
        super().__init__()
        self.trust_env = False
        self.server = server
        self.headers["Authorization"] = f"Bearer {server.key if key is None else key}"

    def request(self, method: str, path: str, **options: Any) -> requests.Response:  # type: ignore[override]
        options.setdefault("timeout", 10)
        options["allow_redirects"] = False
        root = "" if path.startswith("/_sandbox") else "/api/v1"
        return super().request(method, f"{self.server.url}{root}{path}", **options)

    def users(self, **query: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/users", params={"per_page": 200, **query}).json()["users"]
        return found


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(users=120) as server:
        yield server


@pytest.fixture
def api(sandbox: SandboxServer) -> Iterator[Api]:
    with Api(sandbox) as session:
        yield session


@pytest.fixture(scope="session")
def connect() -> type[Api]:
    """Talk to a server of the test's own, perhaps with another key."""
    return Api


@pytest.fixture(scope="session")
def valid() -> Validate:
    def validate(name: str, body: object) -> None:
        schema = {"$ref": f"#/$defs/{name}", "$defs": DEFINITIONS["$defs"]}
        jsonschema.Draft202012Validator(schema).validate(body)

    return validate
