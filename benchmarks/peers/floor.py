"""The floor: the least code that lands users as Parquet; no roles, no check, no retry."""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import requests

PAGES_PER_GROUP = 50
FLAGS = ("enabled", "paid_seat", "administrator", "roadmaps_seat", "develop_seat")
TEXTS = ("id", "name", "email", "timezone", "created_at", "updated_at", "accessed_at")
ADMINISTERS = ("administer_account", "administer_billing", "administer_configuration")
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in TEXTS),
        *((name, pa.bool_()) for name in FLAGS),
        ("administrator_roles", pa.struct([(name, pa.bool_()) for name in ADMINISTERS])),
        ("paid_seat_group", pa.struct([("id", pa.string()), ("name", pa.string())])),
        ("identity_provider", pa.struct([("type", pa.string()), ("name", pa.string())])),
    ]
)


def main(url: str, key: str, folder: str) -> None:
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {key}"
    number, last, users = 1, 1, []
    with pq.ParquetWriter(Path(folder, "users.parquet"), SCHEMA, compression="zstd") as writer:
        while number <= last:
            answer = session.get(f"{url}/api/v1/users", params={"per_page": 200, "page": number}, timeout=60)
            answer.raise_for_status()
            page = answer.json()
            users += page["users"]
            last = page["pagination"]["total_pages"]
            if number % PAGES_PER_GROUP == 0 or number == last:
                writer.write_table(pa.Table.from_pylist(users, schema=SCHEMA))
                users = []
            number += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
