"""The trigger of an asset watcher: it starts DAG runs when users of an account change. Airflow 3.1 and later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_aha.common.values import to_number
from airflow_provider_aha.datasets.names import CHANGES, STATE_SUFFIX, check_changes
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaError
from airflow_provider_aha.hooks.aha import AhaHook
from airflow_provider_aha.triggers.shared import Pauses, Time, load_heavy_modules, resolve_location, shared_account

if TYPE_CHECKING:
    from airflow.triggers.base import BaseEventTrigger
    from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

    from airflow_provider_aha.datasets.watch import Account, Found, Watch
else:
    try:
        from airflow.triggers.base import BaseEventTrigger
    except ImportError:
        # Airflow 2 has no asset watchers: the class can be imported there, and that is all.
        from airflow.triggers.base import BaseTrigger as BaseEventTrigger
    try:
        from airflow.triggers.shared_stream import SharedStreamProducer
    except ImportError:
        # Airflow before 3.3 lets each trigger poll for itself.
        SharedStreamProducer = object

log = logging.getLogger(__name__)

SETTLE_SECONDS = 15.0
"""So long after an event Airflow before 3.3 has certainly stored it: it gives no sign when it has."""


class AhaUsersChangedTrigger(BaseEventTrigger):
    """Tells an asset watcher when users of an account have changed.

    ::

        changes = AhaUsersChangedTrigger(state_path="/data/aha/watch/users.zip", changes=["admin_granted"])
        users_changed = Asset("aha://watch/users", watchers=[AssetWatcher(name="aha_users", trigger=changes)])

    The payload is what :class:`airflow_provider_aha.sensors.users.AhaUsersChangedSensor` returns, in parts of at
    most 500 changes, with ``status`` ``changed``. When nothing but errors came for an hour, one payload has
    ``status`` ``error`` and ``message``; the trigger goes on all the same, since nobody would start it again.

    Events come at least once: the state file moves on when Airflow has stored them. After a crash in between, the
    same changes come again with the same ``event_id``. From Airflow 3.3 on, two watchers may share a state file.

    :param state_path: absolute path or URL of the state file; its name ends in ``.zip``. It is read in the
        triggerer, so all triggerers must see the same file.
    :param changes: which words of ``user_changes`` to tell; not set: all.
    :param aha_conn_id: the Airflow connection of the account.
    :param poll_interval: seconds between two looks, at least 10; each may read all users.
    """

    def __init__(
        self,
        *,
        state_path: str,
        changes: Sequence[str] | None = None,
        aha_conn_id: str = AhaHook.default_conn_name,
        poll_interval: float = 300.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # Fixed when the DAG file is parsed: what is wrong is an import error there, not a trigger that never works.
        if not str(state_path).endswith(STATE_SUFFIX):
            raise AhaConfigurationError(f"state_path must name a file that ends in {STATE_SUFFIX}.")
        self.state_path = str(state_path)
        self.changes = list(check_changes(changes))
        self.aha_conn_id = aha_conn_id
        self.poll_interval = to_number(poll_interval, "poll_interval", 300.0, 10, 86400)
        self.clock = Time()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again elsewhere."""
        return (
            "airflow_provider_aha.triggers.watcher.AhaUsersChangedTrigger",
            {
                "state_path": self.state_path,
                "changes": self.changes,
                "aha_conn_id": self.aha_conn_id,
                "poll_interval": self.poll_interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, and sleep, for ever: an asset trigger that ends is started again at once."""
        poll = _Poll(self.aha_conn_id, self.state_path, self.changes, self.poll_interval, self.clock)
        async for payload, found in poll.stream():
            yield TriggerEvent(payload)  # type: ignore[no-untyped-call]
            if found is not None:
                await self.clock.sleep(SETTLE_SECONDS)
                await poll.move(found)

    # ---- one poll for several watchers, Airflow 3.3 -----------------------------------------------------

    def shared_stream_key(self) -> Hashable:
        """Return what watchers share: the account and its state."""
        return ("aha", self.aha_conn_id, self.state_path)

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Return the poll that all watchers of one state share; each picks what it wants.

        :param kwargs: the arguments of one of them.
        """
        return _Producer(
            _Poll(kwargs["aha_conn_id"], kwargs["state_path"], CHANGES, kwargs["poll_interval"], Time())
        )

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Pick the changes that this watcher wants.

        :param shared_stream: what the shared poll found.
        """
        async for payload in shared_stream:
            if (mine := _only(payload, self.changes)) is not None:
                yield TriggerEvent(mine)  # type: ignore[no-untyped-call]


class _Producer(SharedStreamProducer):
    """Airflow 3.3 says when an event is stored: then the state moves.

    :param poll: the poll.
    """

    def __init__(self, poll: _Poll) -> None:
        self._poll = poll
        self._answered = asyncio.Event()
        self._all_stored = True

    async def open_stream(self) -> AsyncIterator[tuple[Any, Any]]:
        """Yield payloads; the last of a look comes with what the state then moves to."""
        async for payload, found in self._poll.stream():
            self._answered.clear()
            yield payload, found
            if found is not None:
                await self._answered.wait()

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Move the state when all of a look is stored; what isn't is found again by the next look.

        :param batch: events that were dealt with.
        """
        for item in batch:
            self._all_stored &= item.outcome.is_clean
            if item.broker_payload is not None:
                if self._all_stored:
                    await self._poll.move(item.broker_payload)
                self._all_stored = True
                self._answered.set()


class _Poll:
    """Looks at an account again and again, whatever happens.

    :param aha_conn_id: the Airflow connection of the account.
    :param state_path: the state file.
    :param changes: what to tell.
    :param interval: seconds between two looks.
    :param clock: the time.
    """

    def __init__(
        self, aha_conn_id: str, state_path: str, changes: Sequence[str], interval: float, clock: Time
    ) -> None:
        self._aha_conn_id = aha_conn_id
        self._state_path = state_path
        self._changes = changes
        self._interval = interval
        self._clock = clock
        self._move: Callable[[Found], Awaitable[None]] | None = None
        self._stored: set[str] = set()

    async def stream(self) -> AsyncIterator[tuple[dict[str, Any], Found | None]]:
        """Yield payloads; the last of a look comes with what the state moves to when it is stored."""
        await load_heavy_modules()
        pauses, complained = Pauses(self._interval, self._clock), False
        while True:
            try:
                # A new key in the connection is found after a failure, for which reason it is resolved again.
                async with self._watching() as look:
                    while True:
                        found = await look()
                        complained = False
                        pauses.worked()
                        for place, payload in enumerate(found.events, start=1):
                            yield payload, found if place == len(found.events) else None
                        await self._clock.sleep(pauses.next)
            except Exception as error:  # noqa: BLE001 (a trigger that ends is started again at once, and would spin)
                lasting = pauses.failed() or _is_final(error)
                message = _sentence(error)
                log.error("%s Looking again in %.0f s.", message, pauses.next)
                if lasting and not complained:
                    complained = True
                    yield {"status": "error", "message": message}, None
            await self._clock.sleep(pauses.next)

    async def move(self, found: Found) -> None:
        """Move the state: what was found is stored in Airflow's database.

        :param found: what was found.
        """
        # If the state can't be written, the same is found again; it isn't told again for that.
        self._stored = {event["event_id"] for event in found.events}
        try:
            if self._move:
                await self._move(found)
        except Exception as error:  # noqa: BLE001 (as above)
            log.error("%s The state moves after the next look.", _sentence(error))

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator[Callable[[], Awaitable[Found]]]:
        async with shared_account(self._aha_conn_id, self._clock) as shared:
            location = await resolve_location(self._state_path)

            def watch(account: Account) -> Watch:
                from airflow_provider_aha.datasets.watch import Watch

                return Watch(account, location, self._changes)

            async def move(found: Found) -> None:
                await shared.run(lambda account: watch(account).move(found))

            async def look() -> Found:
                found = await shared.run(lambda account: watch(account).look(max_age=self._interval / 2))
                if found.moves and all(event["event_id"] in self._stored for event in found.events):
                    await move(found)
                    return replace(found, events=())
                return found

            self._move = move
            yield look


def _only(payload: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, Any] | None:
    """Leave of a payload what one watcher wants; None when that is nothing."""
    if payload["status"] != "changed":
        return dict(payload)
    changes = [change for change in payload["changes"] if change["change"] in wanted]
    counts = {change: count for change, count in payload["counts"].items() if change in wanted}
    return {**payload, "changes": changes, "counts": counts} if changes else None


def _is_final(error: Exception) -> bool:
    return isinstance(error, AhaError) and not error.retry


def _sentence(error: Exception) -> str:
    # The text of somebody else's error could hold what no log should.
    return str(error) if isinstance(error, AhaError) else f"The account can't be watched ({type(error).__name__})."
