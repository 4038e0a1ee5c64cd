"""A JSON endpoint on a real socket: what it is sent, what its answers mean, and what is never sent twice."""

import gzip
import json
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from airflow_provider_aha.exceptions import (
    AhaAuthenticationError,
    AhaConfigurationError,
    AhaPermissionError,
    AhaRejectedError,
    AhaTargetError,
)
from airflow_provider_aha.push.targets.http import Endpoint as HttpEndpoint
from airflow_provider_aha.push.targets.http import HttpTarget
from tests.push.conftest import mapping, user, users

LENIENT = {"max_reject_percent": 100}
Reply = tuple[int, Any] | tuple[int, Any, dict[str, str]]


@dataclass
class Seen:
    """A request."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Endpoint:
    """An HTTP server whose ``reply`` is the test's."""

    reply: Callable[[Seen], Reply | None] = lambda seen: (200, {})
    seen: list[Seen] = field(default_factory=list)
    port: int = 0

    @property
    def bodies(self) -> list[Any]:
        return [one.body for one in self.seen]


@pytest.fixture
def endpoint(set_connection) -> Iterator[Endpoint]:
    here = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            one = Seen(self.command, self.path, dict(self.headers.items()), body)
            here.seen.append(one)
            reply = here.reply(one)
            if reply is None:
                self.close_connection = True
                return
            status, content, *headers = reply
            text = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in (headers[0] if headers else {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_PUT = do_PATCH = do_GET = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    here.port = server.server_address[1]
    connect(set_connection, here)
    yield here
    server.shutdown()
    server.server_close()
    thread.join()


def connect(set_connection: Any, endpoint: Endpoint, **fields: Any) -> None:
    defaults = {"conn_type": "http", "host": "127.0.0.1", "schema": "http", "port": endpoint.port}
    set_connection(conn_id="directory", **{**defaults, **fields})


def target(**options: Any) -> HttpTarget:
    from airflow_provider_aha.transfers.to_http import AhaToHttpOperator

    made = AhaToHttpOperator(task_id="push", mapping="users_table", http_conn_id="directory", **options)
    found = made.make_target("acme", "2026-08-01")
    assert isinstance(found, HttpTarget)
    return found


def people(**changes: Any) -> dict[str, Any]:
    return mapping(limits=LENIENT, **changes)


# --- what is sent --------------------------------------------------------------------------------


def test_one_record_per_request_at_a_path_of_its_own(world, endpoint):
    world.land([user(1, email="a/b?c#d%@example.com", name="😀"), user(2)])
    options = {"path": "/people/{email}", "method": "put", "headers": {"X-Name": "{name}", "X-Run": "nightly"}}
    world.land([user(1, email="a/b?c#d%@example.com", name="Ada"), user(2)])
    assert world.push(people(), target(**options))["counts"] == {"sent": 2}
    first, second = endpoint.seen
    assert (first.method, first.path) == ("PUT", "/people/a%2Fb%3Fc%23d%25%40example.com")
    assert (first.headers["X-Name"], first.headers["X-Run"]) == ("Ada", "nightly")
    assert first.body == {"email": "a/b?c#d%@example.com", "name": "Ada"}
    assert second.headers["Idempotency-Key"] != first.headers["Idempotency-Key"]


def test_batches_under_a_key(world, endpoint):
    world.land(users(5))
    options = {"path": "bulk", "batch": "true", "batch_size": "2", "wrap": "records", "idempotency_header": "X-Id"}
    assert world.push(people(), target(**options))["counts"] == {"sent": 5}
    assert [len(body["records"]) for body in endpoint.bodies] == [2, 2, 1]
    assert {one.path for one in endpoint.seen} == {"/bulk"}
    assert len({one.headers["X-Id"] for one in endpoint.seen}) == 3


def test_credentials_come_from_the_connection(world, endpoint, set_connection):
    extra = {"Authorization": "Bearer t0ken", "timeout": 5}
    connect(set_connection, endpoint, extra=extra)
    world.land(users(1))
    world.push(people(), target())
    connect(set_connection, endpoint, login="ann", password="s3cret")
    world.push(people(), target(path="/other"))
    bearer, basic = endpoint.seen
    assert bearer.headers["Authorization"] == "Bearer t0ken"
    assert "timeout" not in bearer.headers
    assert basic.headers["Authorization"].startswith("Basic ")


def test_unchanged_records_are_not_sent_again(world, endpoint):
    world.land(users(3))
    world.push(people(), target())
    world.land([user(0), user(1, name="Grace"), user(2)])
    assert world.push(people(), target(), run_id="r2")["counts"] == {"sent": 1, "unchanged": 2}
    assert len(endpoint.seen) == 4


def test_a_dry_run_sends_nothing(world, endpoint):
    world.land(users(3))
    assert world.push(people(), target(), dry_run=True)["counts"] == {"planned": 3}
    assert endpoint.seen == []


# --- what answers mean ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "status", "became"),
    [
        ("upsert", 200, "sent"),
        ("upsert", 201, "added"),
        ("upsert", 204, "sent"),
        ("insert", 409, "skipped"),
        ("upsert", 409, "rejected"),
        ("update", 404, "skipped"),
        ("upsert", 404, "rejected"),
        ("upsert", 400, "rejected"),
        ("upsert", 422, "rejected"),
    ],
)
def test_statuses(world, endpoint, mode, status, became):
    endpoint.reply = lambda seen: (status, b"" if status == 204 else {"error": "no"})
    world.land(users(1))
    assert world.push(people(mode=mode), target(path="/people/{email}"))["counts"] == {became: 1}
    if became == "rejected":
        (row,) = world.outcomes()
        assert (row["code"], row["reason"]) == (str(status), '{"error": "no"}')


def test_errors_inside_a_200_reject_the_record(world, endpoint):
    endpoint.reply = lambda seen: (200, {"result": {"errors": ["no seat"] if "ada1" in seen.body["email"] else []}})
    world.land(users(3))
    assert world.push(people(), target(success={"errors": "result.errors"}))["counts"] == {"sent": 2, "rejected": 1}
    assert world.outcomes()[1]["reason"] == '["no seat"]'


def test_a_flag_inside_a_200_must_be_true(world, endpoint):
    endpoint.reply = lambda seen: (200, {"ok": "ada1" not in seen.body["email"], "error": "full"})
    world.land(users(2))
    world.push(people(), target(success='{"ok": "ok", "errors": "error"}'))
    assert [row["status"] for row in world.outcomes()] == ["rejected", "rejected"]
    world.push(people(), target(path="/x", success='{"ok": "ok"}'), run_id="r2")
    assert [row["status"] for row in world.outcomes("r2")] == ["sent", "rejected"]
    assert world.outcomes("r2")[1]["reason"] == "ok is not true in the answer"


def test_results_of_a_batch_are_taken_one_by_one(world, endpoint):
    def reply(seen: Seen) -> Reply:
        return 200, {"items": [{"error": "bad" if "ada2" in one["email"] else None} for one in seen.body]}

    endpoint.reply = reply
    world.land(users(4))
    options = {"batch": True, "success": {"results": "items", "errors": "error"}}
    assert world.push(people(), target(**options))["counts"] == {"sent": 3, "rejected": 1}
    assert len(endpoint.seen) == 1


def test_a_batch_that_is_refused_is_halved_until_the_bad_record_is_alone(world, endpoint):
    def reply(seen: Seen) -> Reply:
        return (422, {"error": "bad email"}) if any("ada5" in r["email"] for r in seen.body) else (200, {})

    endpoint.reply = reply
    world.land(users(8))
    assert world.push(people(), target(batch=True))["counts"] == {"sent": 7, "rejected": 1}
    assert [len(body) for body in endpoint.bodies] == [8, 4, 4, 2, 1, 1, 2]
    (bad,) = (row for row in world.outcomes() if row["status"] == "rejected")
    assert (bad["sync_key"], bad["code"]) == ("ada5@example.com", "422")


@pytest.mark.parametrize("answer", [{"items": []}, {}, [], b"<html>"])
def test_a_batch_whose_results_are_missing_stops_the_push(world, endpoint, answer):
    endpoint.reply = lambda seen: (200, answer)
    world.land(users(3))
    with pytest.raises(AhaTargetError, match="what became of"):
        world.push(people(), target(batch=True, success={"results": "items", "errors": "error"}))
    assert world.summary()["counts"] == {"failed": 3}


@pytest.mark.parametrize("pause", ["7", formatdate(usegmt=True)], ids=["seconds", "date"])
@pytest.mark.parametrize("status", [408, 425, 429, 503, 507, 508, 520, 529, 530, 599])
def test_a_busy_endpoint_is_waited_for(world, endpoint, status, pause):
    endpoint.reply = lambda seen: (status, {}, {"Retry-After": pause}) if len(endpoint.seen) == 2 else (200, {})
    world.land(users(3))
    assert world.push(people(), target())["counts"] == {"sent": 3}
    assert world.clock.pauses == [7.0 if pause == "7" else 0.0]
    emails = [body["email"] for body in endpoint.bodies]
    # The first record had been answered, and is not sent again.
    assert emails == ["ada0@example.com", "ada1@example.com", "ada1@example.com", "ada2@example.com"]
    keys = [one.headers["Idempotency-Key"] for one in endpoint.seen]
    assert keys[1] == keys[2]


def test_an_endpoint_that_is_busy_before_every_record_is_not_given_up(world, endpoint):
    seen_before: set[str] = set()

    def reply(seen: Seen) -> Reply:
        email = seen.body["email"]
        status = 200 if email in seen_before else 503
        seen_before.add(email)
        return status, {}

    endpoint.reply = reply
    world.land(users(12))
    assert world.push(people(), target())["counts"] == {"sent": 12}
    assert len(world.clock.pauses) == 12


def test_a_lost_answer_is_asked_for_again_by_the_same_key(world, endpoint):
    endpoint.reply = lambda seen: None if len(endpoint.seen) == 1 else (200, {})
    world.land(users(2))
    assert world.push(people(), target(batch=True))["counts"] == {"sent": 2}
    first, second = endpoint.seen
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]


def test_an_endpoint_that_dies_after_half_is_taken_up_where_it_was(world, endpoint):
    endpoint.reply = lambda seen: (502, {}) if len(endpoint.seen) > 2 else (200, {})
    world.land(users(6))
    with pytest.raises(AhaTargetError, match="tried 6 times"):
        world.push(people(), target(batch=True, batch_size=2))
    assert world.summary()["counts"] == {"sent": 4, "failed": 2}
    assert world.outcomes()[-1]["reason"] == "not sent: the push was broken off before"
    endpoint.reply = lambda seen: (200, {})
    endpoint.seen.clear()
    assert world.push(people(), target(batch=True, batch_size=2), try_number=2)["counts"] == {"sent": 6}
    assert [[one["email"] for one in body] for body in endpoint.bodies] == [
        ["ada4@example.com", "ada5@example.com"]
    ]


def poisoned(seen: Seen) -> Reply:
    """Fail on what has to do with one person."""
    return (500, "in the traceback") if "ada3@" in json.dumps(seen.body) else (200, {})


@pytest.mark.parametrize("batch", [False, True])
def test_a_record_on_which_the_endpoint_fails_holds_up_nobody(world, endpoint, batch):
    endpoint.reply = poisoned
    world.land(users(8))
    summary = world.push(people(), target(batch=batch))
    assert summary["counts"] == {"sent": 7, "failed": 1}
    assert summary["ended"] == "completed"
    assert "failed on 1 records" in summary["warnings"][0]
    failed = world.outcomes()[3]
    assert (failed["sync_key"], failed["status"], failed["code"]) == ("ada3@example.com", "failed", "500")
    assert failed["reason"].startswith("127.0.0.1 answered 500. It was tried ")
    bodies = [body if batch else [body] for body in endpoint.bodies]
    sent = [one["email"] for body in bodies for one in body if "ada3@" not in json.dumps(body)]
    assert sorted(sent) == sorted(f"ada{number}@example.com" for number in range(8) if number != 3)
    # Six times with the others or alone, then twice in each half.
    assert len(bodies) - len([body for body in bodies if "ada3@" not in json.dumps(body)]) == (12 if batch else 6)

    endpoint.reply = lambda seen: (200, {})
    endpoint.seen.clear()
    assert world.push(people(), target(batch=batch), try_number=2)["counts"] == {"sent": 8}
    assert len(endpoint.seen) == 1
    endpoint.seen.clear()
    assert world.push(people(), target(batch=batch), run_id="r2")["counts"] == {"unchanged": 8}


def test_a_record_that_failed_is_sent_again_in_the_next_run(world, endpoint):
    endpoint.reply = poisoned
    world.land(users(8))
    world.push(people(), target())
    endpoint.seen.clear()
    assert world.push(people(), target(), run_id="r2")["counts"] == {"unchanged": 7, "failed": 1}
    assert {body["email"] for body in endpoint.bodies} == {"ada3@example.com"}


@pytest.mark.parametrize("batch", [False, True])
def test_an_endpoint_that_fails_on_everything_stops_the_push(world, endpoint, batch):
    endpoint.reply = lambda seen: (500, {})
    world.land(users(40))
    with pytest.raises(AhaTargetError, match=r"failed on 5 records in a row \(500\)"):
        world.push(people(), target(batch=batch))
    assert world.summary()["counts"] == {"failed": 40}
    assert [one["code"] for one in world.outcomes()] == ["500"] * 5 + [None] * 35


def test_failures_count_towards_the_limit_and_a_retry_makes_sense(world, endpoint):
    endpoint.reply = poisoned
    world.land(users(8))
    with pytest.raises(AhaTargetError, match="0 of 8 records are invalid or were rejected, on 1 the target failed"):
        world.push(mapping(), target())
    assert world.summary()["counts"] == {"sent": 3, "failed": 5}
    endpoint.reply = lambda seen: (200, {})
    assert world.push(mapping(), target(), try_number=2)["counts"] == {"sent": 8}


@pytest.mark.parametrize(("status", "error"), [(401, AhaAuthenticationError), (403, AhaPermissionError)])
def test_refused_credentials_stop_the_push_at_once(world, endpoint, status, error):
    endpoint.reply = lambda seen: (status, {"secret": "detail"})
    world.land(users(3))
    with pytest.raises(error) as caught:
        world.push(people(), target())
    assert len(endpoint.seen) == 1
    assert "detail" not in str(caught.value)


def test_what_was_answered_before_a_refusal_is_kept(world, endpoint):
    endpoint.reply = lambda seen: (403, {}) if len(endpoint.seen) == 3 else (200, {})
    world.land(users(4))
    with pytest.raises(AhaPermissionError):
        world.push(people(), target())
    assert world.summary()["counts"] == {"sent": 2, "failed": 2}
    assert world.push(people(), target(), try_number=2)["counts"] == {"sent": 4}
    assert len(endpoint.seen) == 5


@pytest.mark.parametrize("status", [404, 405])
def test_a_wrong_path_stops_the_push(world, endpoint, status):
    endpoint.reply = lambda seen: (status, {})
    world.land(users(3))
    with pytest.raises(AhaTargetError, match="nothing at the path that takes POST"):
        world.push(people(), target(path="/nowhere"))


@pytest.mark.parametrize("status", [501, 505])
def test_an_endpoint_that_can_not_do_it_stops_the_push(world, endpoint, status):
    endpoint.reply = lambda seen: (status, {})
    world.land(users(2))
    with pytest.raises(AhaTargetError, match="it can't do that for any record"):
        world.push(people(), target())
    assert len(endpoint.seen) == 1


def test_a_redirect_is_not_followed(world, endpoint):
    endpoint.reply = lambda seen: (307, {}, {"Location": f"http://localhost:{endpoint.port}/elsewhere"})
    world.land(users(1))
    with pytest.raises(AhaTargetError, match="redirect"):
        world.push(people(), target())
    assert len(endpoint.seen) == 1


def test_too_many_rejected_records_stop_the_push(world, endpoint):
    endpoint.reply = lambda seen: (422, {})
    world.land(users(100))
    with pytest.raises(AhaRejectedError):
        world.push(mapping(), target(batch=True, batch_size=1))
    assert len(endpoint.seen) == 6


@pytest.fixture
def urllib3_log(caplog) -> Iterator[pytest.LogCaptureFixture]:
    """All that urllib3 logs; Airflow replaces the handlers of the root when it is first loaded."""
    logger = logging.getLogger("urllib3")
    level = logger.level
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.DEBUG)
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.setLevel(level)


def test_no_log_names_anybody(world, endpoint, urllib3_log):
    endpoint.reply = lambda seen: None if len(endpoint.seen) == 1 else (422, {"error": "ada1@example.com"})
    world.land(users(3))
    with pytest.raises(AhaRejectedError) as caught:
        world.push(mapping(), target(path="/people/{email}"))
    assert '"POST /people/{email} HTTP' in urllib3_log.text
    told = urllib3_log.text + str(caught.value) + json.dumps(world.summary())
    assert not any(word in told for word in ("example.com", "Ada", "ada1"))


# --- what can't be sent --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a\r\nX-Evil: 1", "Ünï", None])
def test_what_a_header_can_not_hold_is_rejected(world, endpoint, name):
    world.land([user(1, name=name), user(2)])
    world.push(people(), target(headers={"X-Name": "{name}"}))
    assert [row["status"] for row in world.outcomes()] == ["rejected", "sent"]
    assert len(endpoint.seen) == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("..", "name can't stand in a path"),
        (".", "name can't stand in a path"),
        ("", "name can't stand in a path"),
        (None, "name is null, and the request needs it"),
    ],
)
def test_what_would_lead_to_another_path_is_rejected(world, endpoint, name, reason):
    world.land([user(1, name=name)])
    assert world.push(people(), target(path="/people/{name}/seat"))["counts"] == {"rejected": 1}
    assert world.outcomes()[0]["reason"] == reason
    assert endpoint.seen == []


def test_a_status_that_counts_as_a_success_is_one_whatever_it_means_elsewhere(world, endpoint):
    endpoint.reply = lambda seen: (403, {})
    world.land(users(2))
    assert world.push(people(), target(success={"statuses": [403]}))["counts"] == {"sent": 2}


def test_a_compressed_answer_is_read(world, endpoint):
    body = gzip.compress(json.dumps({"errors": ["größer als erlaubt"]}).encode())
    endpoint.reply = lambda seen: (200, body, {"Content-Encoding": "gzip"})
    world.land(users(1))
    assert world.push(people(), target(success={"errors": "errors"}))["counts"] == {"rejected": 1}
    outcome = world.outcomes()[0]
    assert (outcome["code"], outcome["reason"]) == ("200", '["größer als erlaubt"]')


@pytest.mark.parametrize("success", [{}, {"errors": "errors"}])
def test_a_success_that_is_too_large_is_not_believed(world, endpoint, success):
    body = gzip.compress(b" " * (11 * 1024 * 1024) + b"{}")
    endpoint.reply = lambda seen: (200, body, {"Content-Encoding": "gzip"})
    world.land(users(1))
    with pytest.raises(
        AhaTargetError, match="more than 10 MB, which is not read: what became of the records is not"
    ):
        world.push(people(), target(success=success))
    assert len(endpoint.seen) == 1


def test_a_refusal_that_is_too_large_is_still_one(world, endpoint):
    body = gzip.compress(b" " * (11 * 1024 * 1024))
    endpoint.reply = lambda seen: (422, body, {"Content-Encoding": "gzip"})
    world.land(users(1))
    assert world.push(people(), target())["counts"] == {"rejected": 1}


def test_an_answer_without_end_has_one(world, endpoint, set_connection):
    connect(set_connection, endpoint, extra={"timeout": 0.1})
    content = b"1\r\n \r\n" * 2_000_000
    endpoint.reply = lambda seen: (
        (200, content, {"Transfer-Encoding": "chunked"}) if len(endpoint.seen) == 1 else (200, {})
    )
    world.land(users(1))
    assert world.push(people(), target())["counts"] == {"sent": 1}
    assert len(endpoint.seen) == 2


@pytest.mark.parametrize("success", [{}, {"errors": "errors"}, {"results": "results", "errors": "errors"}])
def test_credentials_that_an_endpoint_sends_back_are_not_in_the_outcomes(world, endpoint, set_connection, success):
    def reply(seen: Seen) -> Reply:
        echo = {"errors": [seen.headers["Authorization"], seen.headers["X-Key"], "sesame-open", "too large"]}
        return (200 if success else 422), echo | {"results": [echo]}

    extra = {"X-Key": "Token abc123-secret"}
    connect(set_connection, endpoint, login="ann", password="sesame-open", extra=extra)
    endpoint.reply = reply
    world.land(users(1))
    batch = {"batch": True} if "results" in success else {}
    assert world.push(people(), target(success=success, **batch))["counts"] == {"rejected": 1}
    (row,) = world.outcomes()
    assert "too large" in row["reason"]
    for secret in ("sesame", "abc123", "YW5uOnNlc2FtZS1vcGVu"):
        assert secret not in row["reason"]


def test_an_endpoint_that_is_shown_shows_no_secret():
    secret = {"X-Key": "sesame"}
    proxies = {"http": "http://u:sesame@p"}
    assert "sesame" not in repr(HttpEndpoint("http://h", headers=secret, password="sesame", proxies=proxies))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"path": "/people/{nobody}"}, "{nobody} in path"),
        ({"path": "/people/{email}", "batch": True}, "{email} in path"),
        ({"headers": {"X": "{0}"}}, "{0} in X"),
        ({"method": "DELETE"}, "method must be one of"),
        ({"success": {"status": [200]}}, "success has no status"),
        ({"success": {"statuses": ["many"]}}, "statuses must be a number"),
        ({"batch_size": 0}, "batch_size must be"),
    ],
)
def test_arguments_that_can_not_be_right(world, endpoint, options, sentence):
    world.land(users(1))
    with pytest.raises(AhaConfigurationError) as caught:
        world.push(people(), target(**options))
    assert sentence in str(caught.value)
    assert endpoint.seen == []


def test_hosts_of_connections(set_connection, endpoint):
    for fields, url in (
        ({"host": "api.example.com", "schema": "", "port": None}, "https://api.example.com"),
        ({"host": "https://api.example.com/v1/", "port": 8443}, "https://api.example.com:8443/v1"),
    ):
        connect(set_connection, endpoint, **fields)
        assert target()._to.url == url
    connect(set_connection, endpoint, host="")
    with pytest.raises(AhaConfigurationError, match="has no host"):
        target()
