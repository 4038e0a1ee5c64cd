import gzip
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.sandbox.testing import SandboxServer
from airflow_provider_aha.store.store import Store

SAMPLES = Path(__file__).parents[2].parent / "shared" / "reference" / "aha_samples"
NOW = datetime(2026, 9, 1, 6, 30, 15, 250_000, tzinfo=UTC)

Connect = Callable[..., AhaClient]


class JsonServer(ThreadingHTTPServer):
    """Answers ``/api/v1`` paths with given bytes; a list of them holds one body per page."""

    daemon_threads = True

    def __init__(self, answers: Mapping[str, bytes | list[bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), _JsonHandler)
        self.answers = dict(answers)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _JsonHandler(BaseHTTPRequestHandler):
    server: JsonServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        answer = self.server.answers.get(parts.path.removeprefix("/api/v1"))
        if isinstance(answer, list):
            answer = answer[int(parse_qs(parts.query)["page"][0]) - 1]
        body = gzip.compress(answer or b"", mtime=0)
        self.send_response(404 if answer is None else 200)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[[Mapping[str, bytes | list[bytes]]], JsonServer]]:
    """Call it with bodies by path to have them answered by a server of the test's own."""
    servers: list[JsonServer] = []

    def start(answers: Mapping[str, bytes | list[bytes]]) -> JsonServer:
        server = JsonServer(answers)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Call it with a server to get a client of it, without limits worth a wait."""
    clients: list[AhaClient] = []

    def make(server: SandboxServer | JsonServer, account: str = "sandbox", **options: Any) -> AhaClient:
        options = {"requests_per_second": 10**5, "requests_per_minute": 10**6, "max_retries": 0} | options
        key = getattr(server, "key", "key")
        clients.append(AhaClient(ClientConfig(server.url, account, key, **options)))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def base(tmp_path: Path) -> Store:
    folder = str(tmp_path / "aha")
    return Store(LocalFileSystem(), folder, folder)


def page(
    users: list[dict[str, Any]], *, number: int = 1, pages: int = 1, total: int | None = None, **options: Any
) -> bytes:
    total = len(users) if total is None else total
    pagination = {"total_records": total, "total_pages": pages, "current_page": number}
    return json.dumps({"users": users, "pagination": pagination}, **options).encode()


def user(user_id: str = "6776757454431877834", /, **fields: Any) -> dict[str, Any]:
    """Return a user as documented, with other fields where given."""
    return {
        "id": user_id,
        "name": "Ada Example",
        "email": "ada@example.com",
        "timezone": "Europe/London",
        "created_at": "2024-01-01T00:00:00.000Z",
        "updated_at": "2026-01-01T00:00:00.000Z",
        "accessed_at": "2026-08-31T00:00:00.000Z",
        "product_roles": [],
        "user_roles": [],
        "enabled": True,
        "paid_seat": True,
        "administrator": False,
        "roadmaps_seat": True,
        "develop_seat": False,
        "administrator_roles": dict.fromkeys(RIGHTS, False),
        "identity_provider": {"type": "password"},
    } | fields


RIGHTS = ("administer_account", "administer_billing", "administer_configuration")


def role(code: Any = 20, product_id: str | None = "6100000000000001001", **fields: Any) -> dict[str, Any]:
    known = {20: "Owner", 30: "Contributor", 50: "Viewer", 0: "None"}
    return {
        "role": code,
        "role_description": known.get(code) if isinstance(code, int) else None,
        "product_id": product_id,
        "product_name": "Apollo",
    } | fields


def custom(role_id: Any = 409541421, scope_id: Any = 303742481, **fields: Any) -> dict[str, Any]:
    return {
        "role_id": role_id,
        "name": "Scoped role",
        "scope": {"type": "project", "name": "Account", "id": scope_id},
    } | fields


def without(record: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}


def read(manifest: Mapping[str, Any], dataset: str) -> pa.Table:
    path = next(file["path"] for file in manifest["files"] if file["dataset"] == dataset)
    return pq.ParquetFile(path).read()
