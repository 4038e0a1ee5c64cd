"""One batch to a target: tried again, halved or given up, until each record has an answer."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from airflow_provider_aha.api.ratelimit import Clock
from airflow_provider_aha.exceptions import AhaError, AhaProtocolError, AhaTargetError
from airflow_provider_aha.push.answers import Acknowledged
from airflow_provider_aha.push.targets.base import (
    ANSWERS,
    Answer,
    BadBatchError,
    Batch,
    BatchFailedError,
    BrokenOffError,
    SendAgainError,
    Target,
)

log = logging.getLogger(__name__)

# How often a batch is sent, and for how long in all it is waited for.
_TRIES = 6
_PATIENCE = 600.0
# How often a part of a batch is sent on which the target failed that often.
_TRIES_OF_A_PART = 2


class Delivery:
    """Sends batches to a target.

    :param target: the target, open.
    :param clock: the time.
    :param stopped: whether the task was told to stop.
    """

    def __init__(self, target: Target, clock: Clock, stopped: Callable[[], bool]) -> None:
        self._target = target
        self._clock = clock
        self._stopped = stopped

    def send(self, batch: Batch, keys: Any, records: Any, most: int = _TRIES) -> Iterator[Acknowledged]:
        """Send a batch until each record has an answer; one with a bad record is halved until that stands alone.

        :param batch: the batch.
        :param keys: hash of each sync key.
        :param records: hash of each record.
        :param most: how often to try when the target fails on it.
        :return: an iterator over what was acknowledged, as it comes.
        :raises AhaError: when the target is broken, or refuses us.
        """
        tries, waited = 0, 0.0
        while batch:
            if self._stopped():
                raise AhaTargetError("The task was stopped; what was sent until then is kept.")
            tries += 1
            answers, cause, stands_alone = self._try(batch)
            if isinstance(cause, SendAgainError) and cause.status == 500 and tries >= most and not answers:
                cause = _given_up(cause, tries)
            if isinstance(cause, BadBatchError) and stands_alone:
                answers, cause = [*answers, cause.answer], None
            number = len(answers)
            if number:
                done = batch.part(0, number)
                yield Acknowledged(keys[:number], records[:number], answers, tries, datetime.now(UTC), done.id)
            batch, keys, records = batch.part(number, len(batch)), keys[number:], records[number:]
            if answers:
                # Whoever answers some of the records at a time isn't stuck.
                tries = 0 if cause is None else 1
            if isinstance(cause, SendAgainError):
                waited += self._wait(cause, tries, waited)
            elif isinstance(cause, BadBatchError):
                middle = len(batch) // 2
                most = _TRIES_OF_A_PART if isinstance(cause, BatchFailedError) else most
                yield from self.send(batch.part(0, middle), keys[:middle], records[:middle], most)
                yield from self.send(batch.part(middle, len(batch)), keys[middle:], records[middle:], most)
                return
            elif cause is not None:
                raise cause

    def _try(self, batch: Batch) -> tuple[Sequence[Answer], AhaError | None, bool]:
        """Return the answers that came, what happened then, and whether it is about the next record alone."""
        try:
            answers = self._target.send(batch)
        except BrokenOffError as error:
            _check(error.answers, batch.part(0, len(error.answers)))
            return error.answers, error.cause, True
        except (SendAgainError, BadBatchError) as error:
            return [], error, len(batch) == 1
        _check(answers, batch)
        return answers, None, False

    def _wait(self, error: SendAgainError, attempt: int, waited: float) -> float:
        pause = error.retry_after
        if pause is None:
            pause = min(2.0 ** (attempt - 1), 60.0) * random.uniform(0.5, 1.0)
        if attempt >= _TRIES or waited + pause > _PATIENCE:
            raise AhaTargetError(
                f"{error} It was tried {attempt} times; what was acknowledged until then is kept.",
                status=error.status,
                attempts=attempt,
            ) from error
        log.info("The target asks to wait; the batch is sent again in %.1f s.", pause)
        self._clock.sleep(pause, self._stopped)
        return pause


def _given_up(error: SendAgainError, tries: int) -> BatchFailedError:
    reason = f"{error} It was tried {tries} times, so it isn't known whether it was taken"
    return BatchFailedError(reason, code="500")


def _check(answers: Sequence[Answer], batch: Batch) -> None:
    if len(answers) != len(batch) or any(answer.status not in ANSWERS for answer in answers):
        raise AhaProtocolError(
            f"The target answered {len(answers)} of {len(batch)} records, or with a status that doesn't exist: "
            "its class is wrong."
        )
