"""dlt: its ``rest_api`` source to Parquet on the local disk; it lands roles as child tables."""

import os
import sys

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
os.environ["RUNTIME__LOG_LEVEL"] = "ERROR"

import dlt
from dlt.sources.rest_api import rest_api_source


def main(url: str, key: str, folder: str) -> None:
    source = rest_api_source(
        {
            "client": {
                "base_url": f"{url}/api/v1/",
                "auth": {"type": "bearer", "token": key},
                "paginator": {"type": "page_number", "base_page": 1, "total_path": "pagination.total_pages"},
            },
            "resources": [
                {
                    "name": "users",
                    "primary_key": "id",
                    "endpoint": {"path": "users", "params": {"per_page": 200}, "data_selector": "users"},
                }
            ],
        }
    )
    pipeline = dlt.pipeline(
        "aha",
        pipelines_dir=f"{folder}/state",
        dataset_name="aha",
        destination=dlt.destinations.filesystem(bucket_url=f"file://{folder}"),
    )
    pipeline.run(source, loader_file_format="parquet")


if __name__ == "__main__":
    main(*sys.argv[1:])
