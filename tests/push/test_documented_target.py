"""The target of the docs page, taken from there and run."""

import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from airflow_provider_aha.exceptions import AhaConfigurationError
from tests.push.conftest import mapping, user, users

PAGE = Path(__file__).parents[2] / "docs" / "push" / "adding-a-target.md"


class Producer:
    """Does what confluent-kafka's does, without a broker."""

    def __init__(self) -> None:
        self.topic: list[tuple[str, Any]] = []
        self.waiting: list[Any] = []
        self.busy = 0

    def produce(self, topic: str, *, key: str, value: bytes, on_delivery: Any) -> None:
        self.waiting.append((key, value, on_delivery))

    def flush(self, timeout: float) -> int:
        self.busy, busy = max(self.busy - 1, 0), self.busy > 0
        for key, value, on_delivery in self.waiting:
            if busy:
                on_delivery(Error("_MSG_TIMED_OUT", True), None)
            elif len(value) > 200:
                on_delivery(Error("MSG_SIZE_TOO_LARGE", False), None)
            else:
                self.topic.append((key, orjson.loads(value)))
                on_delivery(None, object())
        self.waiting.clear()
        return 0


class Error:
    """Does what confluent-kafka's KafkaError does."""

    def __init__(self, name: str, retriable: bool) -> None:
        self._name, self._retriable = name, retriable

    def retriable(self) -> bool:
        return self._retriable

    def name(self) -> str:
        return self._name

    def str(self) -> str:
        return f"Broker: {self._name}"


@pytest.fixture
def page() -> dict[str, Any]:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "kafka_target"}
    exec(compile(code, "adding-a-target.md", "exec"), names)
    return names


def test_the_documented_target_sends_retries_and_rejects(world, page):
    producer = Producer()
    producer.busy = 2
    world.land([*users(3), user(3, name="long " * 50)])
    summary = world.push(mapping(limits={"max_reject_percent": 50}), page["KafkaTarget"](producer, "people"))
    assert summary["counts"] == {"sent": 3, "rejected": 1}
    assert [key for key, _ in producer.topic] == [f"ada{number}@example.com" for number in range(3)]
    assert producer.topic[0][1] == {"email": "ada0@example.com", "name": "Ada 0 Lovelace"}
    assert len(world.clock.pauses) == 2
    last = world.outcomes()[-1]
    assert (last["status"], last["code"], last["attempts"]) == ("rejected", "MSG_SIZE_TOO_LARGE", 3)

    again = world.push(
        mapping(limits={"max_reject_percent": 50}), page["KafkaTarget"](producer, "people"), run_id="r2"
    )
    assert again["counts"] == {"unchanged": 3, "rejected": 1}


def test_the_documented_target_refuses_other_modes(world, page):
    world.land(users(1))
    with pytest.raises(AhaConfigurationError, match="must be upsert"):
        world.push(mapping(mode="update"), page["KafkaTarget"](Producer(), "people"))


def test_the_documented_operator_is_one(page):
    operator = page["AhaToKafkaOperator"](task_id="push", mapping="users_table", topic="people")
    assert "topic" in operator.template_fields
