"""``answers.yaml``: what an answer to a write, and the reads after it, prove."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from airflow_provider_aha.access.operations.user_fields import compare
from airflow_provider_aha.exceptions import AhaAuthenticationError
from airflow_provider_aha.record.evidence import FILE, read_evidence
from airflow_provider_aha.record.journal import UNANSWERED, histories
from airflow_provider_aha.record.register import changed_within
from airflow_provider_aha.sandbox.exchange import Answer
from airflow_provider_aha.sandbox.fault_kinds import Call, Kind
from airflow_provider_aha.sandbox.faults import COMMON_OPTIONS, Fault
from tests.access.conftest import client_of

PROMISES = yaml.safe_load((Path(__file__).parent / "answers.yaml").read_text(encoding="utf-8"))
# How an answer ends that never came whole. How long or how much of it is waited for is in bounds.yaml.
ENDINGS = {"timeout": "nothing", "refused": "reset", "drip": "half"}


def any_of(expected: Any) -> list[Any]:
    return expected if isinstance(expected, list) else [expected]


class Server:
    """Lets the sandbox answer as a case says, to writes and to the reads after them.

    :param world: the account.
    :param user_id: whom the case is about.
    :param case: the case.
    """

    def __init__(self, world: Any, user_id: str, case: dict[str, Any]) -> None:
        self._account = world.server.account
        self._user_id = user_id
        self._attempts = list(case.get("attempts") or [case])
        self._read = case.get("read", PROMISES["defaults"]["read"])
        self._reads = 0
        self._written = False
        path = f"/users/{user_id}"
        for kind in (
            Kind("scripted_write", "", path, ("PUT",), before=self._write),
            Kind("scripted_read", "", path, ("GET",), after=self._show),
        ):
            world.server.app.faults._active.append(Fault(kind, dict(COMMON_OPTIONS)))

    def _write(self, _: Call) -> Answer:
        attempt = self._attempts.pop(0) if len(self._attempts) > 1 else self._attempts[0]
        if not self._written and self._read in ("done", "done_same", "lagging"):
            stamp = {} if self._read == "done_same" else {"updated_at": f"{datetime.now(UTC):%FT%T.%fZ}"}
            self._account.previous[self._user_id] = self._account.user(self._user_id)
            self._account.edit_user(self._user_id, enabled=False, **stamp)
        self._written = True
        return self._answer(attempt)

    def _answer(self, case: dict[str, Any]) -> Answer:
        if "raw_bytes" in case:
            body = bytes.fromhex(case["raw_bytes"])
        elif "raw" in case:
            body = case["raw"].encode()
        else:
            body = orjson.dumps(case.get("body"))
        # The file calls our user 9.
        body = body.replace(b'"9"', f'"{self._user_id}"'.encode()).replace(
            b'"id":9', f'"id":{self._user_id}'.encode()
        )
        size = "size_mb" in case or "gzip_of_mb" in case
        ending: Any = ENDINGS.get(str(case.get("ending")), case.get("ending") or ("half" if size else "whole"))
        content_type = case.get("content_type", PROMISES["defaults"]["content_type"])
        headers = dict(case.get("headers", {}))
        if content_type is None:
            headers["content-type"] = None
        status = case.get("status", PROMISES["defaults"]["status"])
        return Answer(status, body, content_type or "", headers, ending)

    def _show(self, call: Call) -> Answer | None:
        if not self._written:
            return None
        self._reads += 1
        if self._read == "error":
            return Answer.error(500, "Internal server error")
        if self._read == "lagging" and self._reads == 1:
            return call.answer.with_data(self._account.previous[self._user_id])
        if self._read == "odd":
            return call.answer.with_data(call.answer.data() | {"enabled": "false"})
        return None


@pytest.mark.parametrize("case", PROMISES["cases"], ids=[case["name"] for case in PROMISES["cases"]])
def test_what_an_answer_and_the_reads_after_it_prove(world: Any, case: Any) -> None:
    # One who has a right to lose, where that is asked for.
    user_id = world.administrators[1] if "wanted" in case else world.people[0]
    wanted = case.get("wanted", {"enabled": False})
    with client_of(world.server, max_retries=len(case.get("attempts", [case])) - 1) as world.client:
        decision = world.decide([user_id, world.people[1]], wanted)
        Server(world, user_id, case)
        try:
            world.carry_out(decision)
            refused = False
        except AhaAuthenticationError:
            refused = True
    folder = world.folder()
    history = histories(folder.location, f"{folder.path}/events")[f"u{user_id}.account"]
    row = next(one for one in _evidence(world) if one["user_id"] == user_id)
    (at_once,) = (one["proof"] for one in history.outcomes if one["intent"])
    assert at_once in any_of(case["at_once"]), case["why"]
    assert row["proof"] in any_of(case["expect"]["proof"]), case["why"]
    assert row["outcome"] in any_of(case["expect"]["word"]), case["why"]
    assert history.open_intents == []
    counted = changed_within(world.folder("other"), datetime.now(UTC), 7, "taken")
    assert (user_id in counted) is (row["proof"] >= UNANSWERED)
    assert refused is (case.get("status") == 401 or case.get("run") == "ends")
    if "fields" in case:
        compared = compare(wanted, json.loads(row["after_json"]))
        states = {name: "contradicted" if name in compared.wrong else "shown" for name in wanted}
        assert states == case["fields"]


def _evidence(world: Any) -> list[dict[str, Any]]:
    path = f"{world.folder().path}/{FILE}"
    return read_evidence(world.location.within(path))
