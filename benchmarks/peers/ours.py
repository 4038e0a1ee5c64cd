"""Ours: the call that ``AhaExtractUsersOperator`` makes, without Airflow around it."""

import sys
import time
from urllib.parse import urlsplit

from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.datasets.extract import extract
from airflow_provider_aha.store.store import Store


def main(url: str, key: str, folder: str, pace: str, *datasets: str) -> None:
    address = urlsplit(url)
    extra = {"requests_per_second": 100_000, "requests_per_minute": 1_000_000} if pace == "unlimited" else {}
    config = ClientConfig.from_connection(
        host=address.hostname, schema="http", port=address.port, password=key, extra=extra
    )
    location = Store(LocalFileSystem(), folder, folder)
    began = time.perf_counter()
    with AhaClient(config) as client:
        extract(client, location, datasets=datasets, connection_id="aha_default")
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])
