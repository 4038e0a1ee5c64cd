"""The server itself: how it starts, what it records, how it ends, and its command line."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from airflow_provider_aha.sandbox import testing
from airflow_provider_aha.sandbox.__main__ import main
from airflow_provider_aha.sandbox.testing import Account, SandboxServer, aha_sandbox

__all__ = ["aha_sandbox"]


# --- where it is ---------------------------------------------------------------------------------


def test_the_fixture_is_there_for_the_tests_of_users(aha_sandbox, connect):
    with connect(aha_sandbox) as api:
        assert api.get("/users").json()["pagination"]["total_records"] == 500


def test_the_package_of_fixtures_names_what_users_need():
    assert set(testing.__all__) == {
        "Account",
        "OomnitzaSandbox",
        "SandboxServer",
        "aha_sandbox",
        "oomnitza_sandbox",
    }


def test_address_and_connection(sandbox):
    assert sandbox.host == "127.0.0.1"
    assert sandbox.url == f"http://127.0.0.1:{sandbox.port}"
    assert sandbox.connection_uri == f"aha://:sandbox-key@127.0.0.1:{sandbox.port}/http"


def test_ipv6_where_there_is_any(connect):
    try:
        server = SandboxServer(users=1, host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    with server, connect(server) as api:
        assert server.url == f"http://[::1]:{server.port}"
        assert api.get("/me").status_code == 200
        server.set_fault("connection_reset")
        with pytest.raises(requests.ConnectionError):
            api.get("/me")


def test_a_port_in_use_is_an_error_at_once(sandbox):
    with pytest.raises(OSError, match="in use"):
        SandboxServer(users=1, port=sandbox.port)


# --- the record ----------------------------------------------------------------------------------


def test_requests_are_recorded_without_the_key(api):
    user_id = api.server.account.user_ids[15]
    before = time.time()
    api.get("/users", params={"email": "a+b@example.com"}, headers={"User-Agent": "tests"})
    api.put(f"/users/{user_id}", json={"user": {"first_name": "Ünal"}})
    api.put(f"/users/{user_id}", data=b"{")
    api.get("/_sandbox/state")
    read, written, broken = api.server.requests
    assert (read.method, read.path, read.status, read.body) == ("GET", "/api/v1/users", 200, None)
    assert (read.query, read.user_agent) == ({"email": "a+b@example.com"}, "tests")
    assert (written.method, written.body) == ("PUT", {"user": {"first_name": "Ünal"}})
    assert (broken.status, broken.body) == (400, None)
    assert before <= read.time <= written.time <= time.time()
    assert all(0 <= record.seconds < 10 for record in api.server.requests)
    assert api.server.key not in str(api.server.requests)
    api.server.forget_requests()
    assert api.server.requests == []


def test_answers_are_dated_by_the_clock_of_the_account(connect):
    """What somebody finds out from Date and updated_at together must be right."""
    account = Account.generate(20, clock=lambda: 1_000_000_000.75)
    with SandboxServer(account=account) as server, connect(server) as api:
        answer = api.put(f"/users/{account.user_ids[15]}", json={"user": {"enabled": False}})
        assert answer.raw.headers.getlist("Date") == ["Sun, 09 Sep 2001 01:46:40 GMT"]
        assert api.get("/none").raw.headers.getlist("Date") == ["Sun, 09 Sep 2001 01:46:40 GMT"]
        assert server.writes[0].time == 1_000_000_000.75


def test_requests_over_http(api):
    api.put("/users/1", json={"user": {"enabled": False}})
    (record,) = api.get("/_sandbox/requests").json()["requests"]
    assert (record["method"], record["path"], record["status"]) == ("PUT", "/api/v1/users/1", 404)
    assert record["body"] == {"user": {"enabled": False}}
    assert api.delete("/_sandbox/requests").status_code == 204
    assert api.get("/_sandbox/requests").json() == {"requests": []}


def test_state_over_http(api):
    state = api.get("/_sandbox/state").json()
    assert (state["users"], state["workspaces"]) == (120, 47)
    assert (len(state["workspaces_unnamed"]), len(state["workspaces_hidden"])) == (6, 3)
    assert state["key_owners"] == [api.server.account.user_ids[position] for position in (0, 3)]
    assert state["limits"] == {"enabled": False, "per_minute": 300, "per_second": 20}


# --- latency -------------------------------------------------------------------------------------


def test_requests_wait_side_by_side(sandbox, connect):
    sandbox.latency = 0.2
    assert sandbox.latency == 0.2

    def ask(_):
        with connect(sandbox) as api:
            return api.get("/me").status_code

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(ask, range(10))) == [200] * 10
    records = sandbox.requests
    assert all(record.seconds >= 0.2 for record in records)
    started = [record.time for record in records]
    ended = [record.time + record.seconds for record in records]
    most = max(sum(s <= moment <= e for s, e in zip(started, ended, strict=True)) for moment in started)
    assert most > 1, "one after the other they would never overlap"


# --- start and end -------------------------------------------------------------------------------


def test_nobody_listens_after_the_end(connect):
    with SandboxServer(users=1) as server, connect(server) as api:
        assert api.get("/me").status_code == 200
    with connect(server) as api, pytest.raises(requests.ConnectionError):
        api.get("/me")
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind((server.host, server.port))
    server.close()


def test_no_thread_is_left_behind():
    before = set(threading.enumerate())
    with SandboxServer(users=1):
        assert [t.name for t in set(threading.enumerate()) - before] == ["aha-sandbox"]
    assert not set(threading.enumerate()) - before


def test_a_server_that_never_started_frees_its_port():
    server = SandboxServer(users=1)
    server.close()
    with SandboxServer(users=1, port=server.port) as other:
        assert other.port == server.port


def test_the_end_does_not_wait_for_a_request_that_hangs(connect, caplog):
    with SandboxServer(users=1) as server:
        hang = server.set_fault("slow", seconds=100)
        failed = threading.Event()

        def ask() -> None:
            with connect(server) as api, pytest.raises(requests.ConnectionError):
                api.get("/me")
            failed.set()

        client = threading.Thread(target=ask)
        client.start()
        while not hang.seen:
            client.join(0.001)
    client.join(10)
    assert failed.is_set()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# --- the command line ----------------------------------------------------------------------------


def run(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "airflow_provider_aha.sandbox", *arguments]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_told_to_end(tmp_path, sign):
    file = tmp_path / "account.json"
    file.write_text(json.dumps({"users": [{"id": "7", "name": "Given"}]}))
    process = run("--from-json", str(file), "--port", "0", "--no-limits", "--fault", "error:times=1,status=503")
    try:
        assert process.stdout
        line = process.stdout.readline()
        (url,) = re.findall(r"http://127\.0\.0\.1:\d+", line)
        assert f"connection aha://:sandbox-key@{url.removeprefix('http://')}/http" in line
        assert "1 users" in line
        assert "no rate limits" in line
        headers = {"Authorization": "Bearer sandbox-key"}
        answers = [requests.get(f"{url}/api/v1/users", headers=headers, timeout=10) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [503, 200]
        assert answers[1].json()["users"] == [{"id": "7", "name": "Given"}]
    finally:
        process.send_signal(sign)
        output, errors = process.communicate(timeout=10)
    assert (output, errors) == ("", "")
    assert process.returncode == (0 if sign == signal.SIGINT else -signal.SIGTERM)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "{taken}"], "port {taken} of 127.0.0.1 is in use; choose another one with --port"),
        (["--from-json", "/does/not/exist"], "/does/not/exist: No such file or directory"),
        (["--users", "-3"], "an account can't have -3 users"),
        (["--fault", "nonsense"], "there is no fault 'nonsense'"),
        (["--fault", "error:times"], "write times=VALUE in fault 'error:times'"),
        (["--requests-per-second", "0"], "a rate limit must be at least 1"),
    ],
)
def test_what_keeps_the_command_from_starting(sandbox, capsys, arguments, message):
    taken = str(sandbox.port)
    given = [argument.format(taken=taken) for argument in arguments]
    assert main(given if "--port" in given else [*given, "--port", "0"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"The sandbox can't start: {message.format(taken=taken)}")
    assert captured.err.count("\n") == 1


def test_help_names_all_faults(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for word in ("--users", "--from-json", "--latency-ms", "--no-limits", "page_drift", "update_ignored"):
        assert word in text


def test_the_command_says_what_is_missing(tmp_path):
    (tmp_path / "uvicorn.py").write_text("raise ModuleNotFoundError('no', name='uvicorn')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-m", "airflow_provider_aha.sandbox"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == "uvicorn is missing: pip install 'airflow-provider-aha[sandbox]'"
