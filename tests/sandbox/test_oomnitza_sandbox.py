"""The sandbox Oomnitza: what its API says, its faults, and its command line."""

import subprocess
import sys

import pytest
import requests

from airflow_provider_aha.sandbox.oomnitza.__main__ import main
from airflow_provider_aha.sandbox.oomnitza.app import KINDS
from airflow_provider_aha.sandbox.testing import OomnitzaSandbox

ADA = {"username": "ada@example.com", "email": "ada@example.com", "role": 25}


class Api(requests.Session):
    """What a test says to the API."""

    def __init__(self, server: OomnitzaSandbox, token: str | None = None) -> None:
        super().__init__()
        self.trust_env = False
        self.url = server.url
        self.headers["Authorization2"] = server.token if token is None else token

    def request(self, method, path, **options):  # type: ignore[override]
        root = "" if path.startswith("/_sandbox") else "/api/v3"
        return super().request(method, f"{self.url}{root}{path}", **{"timeout": 10, **options})


@pytest.fixture
def api(oomnitza_sandbox):
    with Api(oomnitza_sandbox) as session:
        yield session


def test_people_are_listed_by_limit_and_skip(api):
    answer = api.get("/users", params={"limit": 2, "skip": 1})
    assert [one["username"] for one in answer.json()] == ["employee1@example.com", "employee2@example.com"]
    assert answer.headers["X-Total-Count"] == "3"
    assert answer.headers["X-Oomnitza-Sandbox"] == "1"
    assert "X-Ratelimit-Limit" not in answer.headers


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"email": None}, "Field email is required"),
        ({"role": "25"}, "Field role must be of type integer"),
        ({"role": True}, "Field role must be of type integer"),
        ({"role": 99}, "Field role has no value 99"),
        ({"shoe_size": 40}, "Field shoe_size does not exist"),
        ({"version": "2"}, "Field version can not be edited"),
        ({"username": "EMPLOYEE0@example.com"}, "Field username must be unique: EMPLOYEE0@example.com is taken"),
        ({"aha_is_enabled": "yes"}, "Field aha_is_enabled must be of type boolean"),
    ],
)
def test_a_person_that_cannot_be_is_refused(api, oomnitza_sandbox, changes, sentence):
    answer = api.post("/users", json={**ADA, **changes})
    assert (answer.status_code, answer.json()) == (422, {"error": sentence})
    assert len(oomnitza_sandbox.instance.list_people()) == 3


def test_a_change_counts_versions(api):
    api.post("/users", json=ADA)
    changed = api.patch("/users/ada@example.com", json={"position": "Countess"}).json()
    assert (changed["version"], changed["position"]) == (2, "Countess")
    assert api.get("/users/ADA@example.com").json() == changed


def test_an_archived_person_is_listed_where_asked_for(api):
    assert api.delete("/users/employee0@example.com").status_code == 204
    assert len(api.get("/users").json()) == 2
    assert len(api.get("/users", params={"include_deleted": 1}).json()) == 3
    assert api.get("/users/employee0@example.com").status_code == 404


def test_tokens_and_their_rights(oomnitza_sandbox):
    assert Api(oomnitza_sandbox, "wrong").get("/users").status_code == 401
    reader = Api(oomnitza_sandbox, oomnitza_sandbox.read_only_token)
    assert reader.get("/users").status_code == 200
    assert reader.post("/users", json=ADA).status_code == 403


@pytest.mark.parametrize("body", ["", "{", "[]"])
def test_a_body_that_is_no_object_is_refused(api, body):
    assert api.post("/users", data=body).status_code == 400


def test_faults_and_record_can_be_had_by_http(api):
    assert api.post("/_sandbox/faults", json={"name": "error", "status": 503, "times": 1}).status_code == 201
    assert api.get("/users").status_code == 503
    assert api.get("/users").status_code == 200
    assert [one["status"] for one in api.get("/_sandbox/requests").json()["requests"]] == [503, 200]
    assert api.get("/_sandbox/state").json()["people"] == 3
    assert {one["name"] for one in api.get("/_sandbox/faults").json()["available"]} == set(KINDS)
    assert api.get("/elsewhere").status_code == 404


def test_command_line_says_where_it_is():
    command = [sys.executable, "-m", "airflow_provider_aha.sandbox.oomnitza", "--port", "0", "--people", "2"]
    with subprocess.Popen([*command, "--fault", "no_count"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        words = process.stdout.readline().split()
        try:
            url = next(word for word in words if word.startswith("http://")).rstrip(";")
            answer = requests.get(
                f"{url}/api/v3/users", headers={"Authorization2": OomnitzaSandbox.token}, timeout=10
            )
        finally:
            process.terminate()
    assert len(answer.json()) == 2
    assert "X-Total-Count" not in answer.headers
    assert any(word.startswith("oomnitza://:") for word in words)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--port", "0", "--fault", "nonsense"], "there is no fault 'nonsense'"),
        (["--port", "0", "--fault", "error:status"], "write status=VALUE"),
        (["--host", "192.0.2.1"], "can't start"),
    ],
)
def test_a_start_that_cannot_be_says_why(capsys, arguments, reason):
    assert main(arguments) == 1
    assert reason in capsys.readouterr().err
