"""The DAGs that the documentation prints are run as they stand, but for the base path."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def documented(registered: Callable[[Path], dict[str, Any]], tmp_path: Path) -> Callable[[str], Any]:
    """Call it with a page for the DAG that it prints."""

    def dag(page: str) -> Any:
        blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
        (source,) = (block for block in blocks if "with DAG(" in block)
        file = tmp_path / f"documented_{Path(page).stem.lower()}.py"
        file.write_text(source.replace("/data/aha", str(tmp_path / "base")))
        (found,) = registered(file).values()
        return found

    return dag


def test_readme_dag_has_ten_lines():
    (source,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len([line for line in source.splitlines() if line]) <= 10


def test_documented_dags_land_users_and_count_seats(documented, run_dag, aha_default, tmp_path):
    run = run_dag(documented("README.md"))
    assert run.state == "success"
    manifest = run.xcom("extract")
    users, roles = (pq.read_table(file["path"]) for file in manifest["files"])
    assert users.num_rows == len(aha_default.account)
    assert roles.num_rows > users.num_rows
    assert all(Path(file["path"]).is_relative_to(tmp_path) for file in manifest["files"])

    consumer = run_dag(documented("docs/operators.md"))
    assert consumer.state == "success"
    seats = users["occupies_seat"].to_pylist().count(True)
    assert consumer.xcom("count_seats") == {manifest["account"]: seats}
