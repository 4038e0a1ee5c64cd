"""The plugin, in Airflow's real API server: behind its login, and nothing but what the report operator wrote."""

import importlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import airflow
import pytest

if airflow.__version__.startswith("2."):
    pytest.skip("Airflow 2 has no FastAPI plugins", allow_module_level=True)

ROOT = Path(__file__).parents[2]
PAGE = "access_review.html"
LIST = "/aha-reports/"


def token_of(role: str | None) -> str:
    """A login of Airflow's own auth manager."""
    user = importlib.import_module("airflow.api_fastapi.auth.managers.simple.user").SimpleAuthManagerUser
    manager = importlib.import_module("airflow.api_fastapi.app").get_auth_manager()
    return str(manager.generate_jwt(user(username="ann", role=role)))


@pytest.fixture(scope="module")
def server(airflow_db: Path) -> Iterator[str]:
    """Airflow's API server on a port of its own; its address."""
    uvicorn = importlib.import_module("uvicorn")
    app = importlib.import_module("airflow.api_fastapi.app").create_app()
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        assert thread.is_alive()
        thread.join(0.01)
    port = running.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    running.should_exit = True
    thread.join(10)


@pytest.fixture
def get(server: str) -> Any:
    """Call it with a path and a role for the answer."""
    requests = importlib.import_module("requests")

    def ask(path: str, role: str | None = "viewer", *, login: bool = True, **headers: str) -> Any:
        if login:
            headers["Authorization"] = f"Bearer {token_of(role)}"
        request = requests.Request("GET", server).prepare()
        # As it is: a client would tidy dots up.
        request.url = f"{server}{path}"
        request.headers.update(headers)
        with requests.Session() as session:
            return session.send(request, allow_redirects=False, timeout=30)

    return ask


@pytest.fixture
def published(registered, run_dag, aha_default, tmp_path, monkeypatch):
    """A report and a review below the default base path; the report's summary."""
    monkeypatch.setenv("AIRFLOW_VAR_AHA_OUTPUT_PATH", str(tmp_path / "aha"))
    assert run_dag(registered(ROOT / "dags/aha_extract.py")["aha_extract"]).state == "success"
    run = run_dag(registered(ROOT / "dags/aha_access_review.py")["aha_access_review"], {"review_id": "2026-Q4"})
    return run.xcom("report")


@pytest.fixture
def address(published):
    return f"/aha-reports/{published['account']}/snapshot/{published['snapshot']}"


def test_a_reader_of_the_dag_reads_the_pages(get, published, address, tmp_path):
    listed = get(LIST)
    assert listed.status_code == 200
    assert published["sentence"] in listed.text
    assert f"{published['account']}/review/2026-Q4/{PAGE}" in listed.text
    page = get(f"{address}/{PAGE}")
    assert page.content == next(tmp_path.glob(f"aha/reports/*/*/{PAGE}")).read_bytes()
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("sandbox allow-scripts allow-downloads; default-src")
    assert "allow-same-origin" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    frozen = get(f"/aha-reports/{published['account']}/review/2026-Q4/{PAGE}")
    assert frozen.content == page.content
    assert get(f"{address}/access_summary.json").json()["sentence"] == published["sentence"]
    assert get(f"{address}/access_review.csv").headers["content-type"] == "text/csv; charset=utf-8"


def test_without_login_there_is_nothing(get, address):
    for path in (LIST, f"{address}/{PAGE}", f"{address}/access_review.csv", "/aha-reports/x/y/z/w"):
        assert get(path, login=False).status_code == 401


def test_without_the_right_to_read_the_dag_there_is_nothing(get, address):
    for path in (LIST, f"{address}/{PAGE}", f"{address}/access_review.csv", "/aha-reports/x/y/z/w"):
        assert get(path, role=None).status_code == 403


ELSEWHERE = [
    "{account}/snapshot/{day}/review.json",
    "{account}/snapshot/{day}/users.parquet",
    "{account}/snapshot/..%2f..%2fusers/" + PAGE,
    "{account}/snapshot/%2e%2e/" + PAGE,
    "../snapshot/{day}/" + PAGE,
    "%2e%2e/snapshot/{day}/" + PAGE,
    "{account}%2f..%2f..%2f/snapshot/{day}/" + PAGE,
    "{account}/snapshot/{day}/..%2f..%2f..%2f..%2fsecret",
    "{account}/snapshot/{day}/%2e%2e%5csecret",
    "{account}/review/../" + PAGE,
    "{account}/review/2026-Q4/population.parquet",
    "{account}/review/2026-Q4%00/" + PAGE,
    "{account}/reviews/2026-Q4/" + PAGE,
    "{account}/snapshot/2020-01-01/" + PAGE,
    "nobody/snapshot/{day}/" + PAGE,
]


def test_nothing_else_is_handed_out(get, published, tmp_path):
    (tmp_path / "secret").write_text("secret")
    for path in ELSEWHERE:
        answer = get("/aha-reports/" + path.format(account=published["account"], day=published["snapshot"]))
        assert answer.status_code == 404, path
        assert "secret" not in answer.text
        assert str(tmp_path) not in answer.text


def test_a_page_that_somebody_else_wrote_is_not_shown(get, published, address, tmp_path):
    (path,) = tmp_path.glob(f"aha/reports/*/*/{PAGE}")
    path.write_text("<script>steal()</script>")
    assert get(f"{address}/{PAGE}").status_code == 404
    (path,) = tmp_path.glob(f"aha/reviews/*/*/{PAGE}")
    path.write_text("<script>steal()</script>")
    assert get(f"/aha-reports/{published['account']}/review/2026-Q4/{PAGE}").status_code == 404


def test_a_list_of_nothing_says_what_to_do(get, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_VAR_AHA_OUTPUT_PATH", str(tmp_path / "nothing"))
    assert "run the DAG aha_extract" in get(LIST).text


def test_a_base_path_that_cannot_be_read_is_said_without_details(get, monkeypatch):
    monkeypatch.setenv("AIRFLOW_VAR_AHA_OUTPUT_PATH", "relative/path")
    answer = get(LIST)
    assert answer.status_code == 404
    assert "relative" not in answer.text


def test_loading_the_plugin_loads_nothing_of_ours_or_of_the_web():
    code = (
        "import json, sys; from airflow.providers.common.compat.sdk import AirflowPlugin; "
        "before = set(sys.modules); import airflow_provider_aha.plugins.reports; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert not [name for name in loaded if name.startswith("airflow_provider_aha.report")]
    assert not {"fastapi", "jinja2", "pyarrow", "pandas"} & set(loaded)


def test_airflow_knows_the_plugin():
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "plugins", "-o", "json"], capture_output=True, text=True, check=True
    )
    assert "aha_reports" in done.stdout
