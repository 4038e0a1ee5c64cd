"""pandas: ``json_normalize`` and ``to_parquet``, all users in memory."""

import sys
from pathlib import Path

import pandas as pd
import requests


def main(url: str, key: str, folder: str) -> None:
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {key}"
    number, last, users = 1, 1, []
    while number <= last:
        answer = session.get(f"{url}/api/v1/users", params={"per_page": 200, "page": number}, timeout=60)
        answer.raise_for_status()
        page = answer.json()
        users += page["users"]
        last = page["pagination"]["total_pages"]
        number += 1
    pd.json_normalize(users).to_parquet(Path(folder, "users.parquet"), compression="zstd")


if __name__ == "__main__":
    main(*sys.argv[1:])
