"""Triggers that wait for something to be so in an Aha! account."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_aha.exceptions import AhaConfigurationError, AhaError
from airflow_provider_aha.triggers import CHANGES, SEATS, USER
from airflow_provider_aha.triggers.shared import (
    Pauses,
    SharedAccount,
    Time,
    load_heavy_modules,
    resolve_location,
    shared_account,
)

if TYPE_CHECKING:
    from airflow_provider_aha.datasets.watch import ChangesCondition, SeatCondition, UserCondition


class AhaConditionTrigger(BaseTrigger):
    """Waits until a condition of a sensor is met, and says so once.

    It only reads. Its event has ``status``: ``met`` with ``result``, or ``error`` with ``message`` and
    ``final`` (whether another try can't help).

    :param aha_conn_id: the Airflow connection of the account.
    :param kind: ``user``, ``seats`` or ``changes``.
    :param condition: the arguments of that condition: ids, numbers, a path, a digest; no email, no name.
    :param poll_interval: seconds between two looks.
    """

    def __init__(self, *, aha_conn_id: str, kind: str, condition: dict[str, Any], poll_interval: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.aha_conn_id = aha_conn_id
        self.kind = kind
        self.condition = condition
        self.poll_interval = poll_interval
        self.clock = Time()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again elsewhere."""
        return (
            "airflow_provider_aha.triggers.users.AhaConditionTrigger",
            {
                "aha_conn_id": self.aha_conn_id,
                "kind": self.kind,
                "condition": self.condition,
                "poll_interval": self.poll_interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, and sleep, until there is something to say."""
        await load_heavy_modules()
        try:
            condition = await self._condition()
            async with shared_account(self.aha_conn_id, self.clock) as account:
                event = await self._wait(account, condition)
        except AhaError as error:
            event = _failure(error)
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _wait(self, account: SharedAccount, condition: Any) -> dict[str, Any]:
        look = partial(condition.check, max_age=self.poll_interval / 2)
        pauses = Pauses(self.poll_interval, self.clock)
        while True:
            # The worker has looked when it deferred.
            await self.clock.sleep(pauses.next)
            try:
                result = await account.run(look)
            except AhaError as error:
                if not error.retry or pauses.failed():
                    return _failure(error)
                self.log.warning("%s Looking again in %.0f s.", error, pauses.next)
            else:
                if result is not None:
                    return {"status": "met", "result": result}
                pauses.worked()

    async def _condition(self) -> UserCondition | SeatCondition | ChangesCondition:
        from airflow_provider_aha.datasets.watch import ChangesCondition, SeatCondition, UserCondition

        given: Mapping[str, Any] = self.condition
        if self.kind == USER:
            return UserCondition(**given)
        if self.kind == SEATS:
            return SeatCondition(**given)
        if self.kind == CHANGES:
            return ChangesCondition(await resolve_location(given["since"]), tuple(given["changes"]))
        raise AhaConfigurationError(f"There is no condition {self.kind!r}.")


def _failure(error: AhaError) -> dict[str, Any]:
    return {"status": "error", "message": str(error), "final": not error.retry}
