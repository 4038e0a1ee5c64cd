"""Sensors that wait for something to be so in an Aha! account."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_aha.common.moments import read_moment
from airflow_provider_aha.common.values import is_unset, to_list, to_number, to_text
from airflow_provider_aha.datasets.names import check_changes
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaError
from airflow_provider_aha.hooks.aha import AhaHook
from airflow_provider_aha.hooks.common import without_useless_retries
from airflow_provider_aha.hooks.paths import resolve_path
from airflow_provider_aha.triggers import CHANGES, SEATS, USER

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_aha.datasets.watch import Account, SeatCondition, UserCondition, Watch

_DEFERRABLE = conf.getboolean("operators", "default_deferrable", fallback=False)
_SHORTEST_INTERVAL = 1.0


class AhaSensor(BaseSensorOperator):
    """Base of the sensors: looks once, then waits as its mode says, or in the triggerer.

    :param aha_conn_id: the Airflow connection of the account. (templated)
    :param deferrable: whether to wait in the triggerer, without a worker slot.
    """

    ui_color = "#dceefb"
    kind: ClassVar[str]

    def __init__(
        self,
        *,
        aha_conn_id: str = AhaHook.default_conn_name,
        deferrable: bool = _DEFERRABLE,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.aha_conn_id = aha_conn_id
        self.deferrable = deferrable

    @cached_property
    def hook(self) -> AhaHook:
        """The hook of this task, made when it is first needed."""
        return AhaHook(aha_conn_id=self.aha_conn_id)

    @property
    def account(self) -> Account:
        """The account of this task."""
        from airflow_provider_aha.datasets.watch import Account

        return Account(self.hook.get_conn(), connection_id=self.aha_conn_id)

    def on_kill(self) -> None:
        """Stop the requests of this task."""
        self.hook.cancel()

    def execute(self, context: Context) -> Any:
        """Wait.

        :param context: the task's context.
        :return: what was found.
        """
        with self._plain_errors():
            if self.poke_interval < _SHORTEST_INTERVAL:
                raise AhaConfigurationError(f"poke_interval must be at least {_SHORTEST_INTERVAL:g} second.")
        if not self.deferrable:
            return super().execute(context)
        deadline = time.time() + self.timeout
        try:
            return self._look_or_wait(context, deadline)
        except AirflowFailException as error:
            if self.soft_fail:
                raise AirflowSkipException("Skipping due to soft_fail is set to True.") from error
            raise
        except AhaError as error:
            # The trigger is made for times when Aha! can't be reached.
            self.log.warning("%s Waiting in the triggerer.", error)
            return self._wait(deadline)

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None, deadline: float | None = None
    ) -> Any:
        """Go on after the trigger.

        :param context: the task's context.
        :param event: what the trigger says.
        :param deadline: when the sensor's time is over, in seconds since 1970; `dag.test()` forgets it.
        :return: what was found.
        :raises AirflowException: when the trigger could not go on.
        """
        if not event or event.get("status") not in ("met", "error"):
            raise AirflowException("The trigger ended without saying why.")
        if event["status"] == "error":
            kind = AirflowFailException if event["final"] else AirflowException
            raise kind(f"{event['message']} (Airflow connection: {self.aha_conn_id})")
        return self._finish(context, event["result"], deadline or time.time() + self.timeout)

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once.

        :param context: the task's context.
        """
        with self._plain_errors():
            result = self._look(context)
        return PokeReturnValue(result is not None, result)

    def _look_or_wait(self, context: Context, deadline: float) -> Any:
        found = self.poke(context)
        return found.xcom_value if found else self._wait(deadline)

    def _wait(self, deadline: float) -> None:
        from airflow_provider_aha.triggers.users import AhaConditionTrigger

        self.defer(
            trigger=AhaConditionTrigger(
                aha_conn_id=self.aha_conn_id,
                kind=self.kind,
                condition=self._condition,
                poll_interval=self.poke_interval,
            ),
            method_name="execute_complete",
            kwargs={"deadline": deadline},
            timeout=timedelta(seconds=max(deadline - time.time(), 0.0)),
        )

    def _finish(self, context: Context, result: Any, deadline: float) -> Any:  # noqa: ARG002
        return result

    @property
    def _condition(self) -> dict[str, Any]:
        """The condition as the trigger takes it."""
        raise NotImplementedError

    def _look(self, context: Context) -> Any:
        raise NotImplementedError

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        """Fail at once where no waiting can help."""
        with without_useless_retries(self.aha_conn_id):
            yield


class AhaUserSensor(AhaSensor):
    """Wait for one user: to be there, to be gone, to be enabled or disabled, or to have been seen.

    :param user: id or email; an id costs one request a look, an email a read of all users. (templated)
    :param until: ``exists``, ``absent``, ``enabled``, ``disabled`` or ``seen_since``. (templated)
    :param since: for ``seen_since``: a moment as datetime or ISO 8601 text, UTC where it names no zone. (templated)
    :param aha_conn_id: the Airflow connection of the account. (templated)
    :param deferrable: whether to wait in the triggerer, without a worker slot.
    :return: ``user_id``, ``exists``, ``enabled``, ``accessed_at``.
    :raises AirflowFailException: without retries, when the key is refused, an argument can't be right, or there is
        no such user who could be enabled, disabled or seen.
    """

    template_fields: Sequence[str] = ("user", "until", "since", "aha_conn_id")
    kind = USER

    def __init__(
        self, *, user: str, until: str = "exists", since: datetime | str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.user = user
        self.until = until
        self.since = since

    def _look(self, context: Context) -> Any:  # noqa: ARG002
        return self._user_condition.check(self.account, 0.0)

    @property
    def _condition(self) -> dict[str, Any]:
        return asdict(self._user_condition)

    @cached_property
    def _user_condition(self) -> UserCondition:
        from airflow_provider_aha.datasets.watch import user_condition

        user, until = to_text(self.user, "user"), to_text(self.until, "until")
        if user is None:
            raise AhaConfigurationError("user is not set: give an id or an email.")
        return user_condition(user, until or "exists", _moment(self.since))


class AhaUsersChangedSensor(AhaSensor):
    """Wait until users of the account differ from what was known, and return how.

    ``since`` names what was known. A state file (its name ends in ``.zip``) is made at the first look, and moves on
    with every change that was returned; a retry of the same task is told the same again. A base path stands for the
    account's newest snapshot there, which is only read.

    :param since: absolute path or URL of a state file, or of a base path. (templated)
    :param changes: which words of ``user_changes`` to wait for; not set: all. (templated)
    :param poke_interval: seconds between two looks; each may read all users.
    :param aha_conn_id: the Airflow connection of the account. (templated)
    :param deferrable: whether to wait in the triggerer, without a worker slot.
    :return: ``event_id``, ``account``, ``sandbox``, ``previous_synced_at``, ``synced_at``, ``counts`` by change,
        the first 500 ``changes``, and how many were ``left_out``; users are named by id.
    :raises AirflowFailException: without retries, when the key is refused, an argument can't be right, or the state
        is another account's.
    """

    template_fields: Sequence[str] = ("since", "changes", "aha_conn_id")
    kind = CHANGES

    def __init__(
        self,
        *,
        since: str,
        changes: Sequence[str] | str | None = None,
        poke_interval: timedelta | float = 300,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.since = since
        self.changes = changes

    def _look(self, context: Context) -> Any:
        from airflow_provider_aha.datasets.watch import joined

        watch, task = self._watch, _task_key(context)
        if (told := watch.told(task)) is not None:
            self.log.info("This task was told of these changes before, and is told again.")
            return told
        found = watch.look()
        watch.move(found, task=task)
        return joined(found.events) if found.events else None

    def _finish(self, context: Context, result: Any, deadline: float) -> Any:  # noqa: ARG002
        # The trigger has seen that something changed; what, is found here, where the state may be moved.
        return self._look_or_wait(context, deadline)

    @property
    def _condition(self) -> dict[str, Any]:
        return {"since": self._path, "changes": list(self._words)}

    @property
    def _watch(self) -> Watch:
        from airflow_provider_aha.datasets.watch import Watch

        return Watch(self.account, resolve_path(self._path), self._words)

    @property
    def _path(self) -> str:
        path = to_text(self.since, "since")
        if path is None:
            raise AhaConfigurationError("since is not set: name a state file that ends in .zip, or a base path.")
        return path

    @property
    def _words(self) -> tuple[str, ...]:
        return check_changes(to_list(self.changes, "changes"))


class AhaSeatUsageSensor(AhaSensor):
    """Wait until so many paid seats are in use.

    Without a group, users who are enabled and paid are counted in the full list. With one, what Aha! says is
    allocated of it counts, in one small request.

    :param threshold: seats, or percent of the group's capacity as ``"90%"``. (templated)
    :param group: id or name of a paid seat group; not set: the whole account, in seats only. (templated)
    :param poke_interval: seconds between two looks.
    :param aha_conn_id: the Airflow connection of the account. (templated)
    :param deferrable: whether to wait in the triggerer, without a worker slot.
    :return: ``group_id``, ``seats_in_use``, ``capacity``, ``percent``, ``threshold``.
    :raises AirflowFailException: without retries, when the key is refused, an argument can't be right, or there is
        no such group.
    """

    template_fields: Sequence[str] = ("threshold", "group", "aha_conn_id")
    kind = SEATS

    def __init__(
        self,
        *,
        threshold: float | str,
        group: str | None = None,
        poke_interval: timedelta | float = 300,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.threshold = threshold
        self.group = group

    def _look(self, context: Context) -> Any:  # noqa: ARG002
        return self._seat_condition.check(self.account, 0.0)

    @property
    def _condition(self) -> dict[str, Any]:
        return asdict(self._seat_condition)

    @cached_property
    def _seat_condition(self) -> SeatCondition:
        from airflow_provider_aha.datasets.watch import SeatCondition

        if is_unset(self.threshold):
            raise AhaConfigurationError('threshold is not set: give seats, or percent of a group as "90%".')
        group = to_text(self.group, "group")
        text = str(self.threshold).strip()
        if not text.endswith("%"):
            return SeatCondition(to_number(self.threshold, "threshold", 0, 1, 10**7), group=group)
        if group is None:
            raise AhaConfigurationError(
                "A threshold in percent needs a group: Aha! tells the capacity of groups only."
            )
        return SeatCondition(to_number(text[:-1], "threshold in percent", 0, 1, 100), percent=True, group=group)


def _task_key(context: Context) -> str:
    instance = context["ti"]
    return "/".join(map(str, (instance.dag_id, instance.run_id, instance.task_id, instance.map_index)))


def _moment(value: object) -> datetime | None:
    if is_unset(value):
        return None
    moment = read_moment(value.strip() if isinstance(value, str) else value)
    if moment is None:
        raise AhaConfigurationError("since must be a moment such as 2026-08-01T00:00:00Z.")
    return moment
