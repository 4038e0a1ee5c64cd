"""Making a plan fit the caps, so that nobody is asked to approve what can't be carried out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_aha.access.plan.caps import Caps
from airflow_provider_aha.access.plan.plan import CLASSES, LEFT, PlanRow, users_afterwards
from airflow_provider_aha.common.moments import timestamp
from airflow_provider_aha.record.register import CAP_DAYS


@dataclass(frozen=True)
class Budget:
    """How many users a plan may have.

    :param caps: the caps that hold when it is carried out.
    :param recent: by id of users who hadn't left, and whose access was changed within the last seven days, when
        that was.
    :param recent_left: ids of users who had left, likewise. People who left have a budget of their own.
    :param waiting: ids of users whom the plan before has postponed: they come first.
    :param fits: whether the plan is made to fit; a plan that isn't can be carried out by its SHA-256 only.
    """

    caps: Caps
    recent: Mapping[str, datetime] = field(default_factory=dict, repr=False)
    recent_left: Collection[str] = field(default=(), repr=False)
    waiting: Collection[str] = field(default=(), repr=False)
    fits: bool = True

    def room(self, enabled: int) -> int:
        """Return how many more users may be changed who haven't left; negative where the caps are exceeded already.

        :param enabled: enabled users of the account.
        """
        return self._room(self.recent, enabled)

    def _room(self, recent: Collection[str], enabled: int) -> int:
        return self.caps.allowed(enabled) - len(set(recent))

    def header(self, rows: Sequence[PlanRow], enabled: int) -> dict[str, Any]:
        """Describe the budget for the record of a plan.

        :param rows: users to act on.
        :param enabled: enabled users of the account.
        :return: caps and counts; ``over`` is by how many users the plan is too large to be carried out,
            ``room_from`` and ``all_room_from`` when there is room again, and for as many as the caps allow, where
            there is none now.
        """
        enabled = users_afterwards(enabled, rows)
        over = 0
        for is_left, recent in ((True, self.recent_left), (False, self.recent)):
            wanted = {row.user_id for row in rows if (row.user_class == LEFT) is is_left}
            if wanted:
                over = max(over, len(wanted - set(recent)) - self._room(recent, enabled))
        return {
            "max_users": self.caps.max_users,
            "max_percent": self.caps.max_percent,
            "allowed": self.caps.allowed(enabled),
            "recent": len({*self.recent, *self.recent_left}),
            "over": over,
            **self._room_again(enabled),
        }

    def _room_again(self, enabled: int) -> dict[str, str | None]:
        """Return when the caps will next leave room for users who haven't left, if they leave none now."""
        ends = sorted(moment + timedelta(days=CAP_DAYS) for moment in self.recent.values())
        too_many = 1 - self.room(enabled)
        if not 1 <= too_many <= len(ends):
            return {"room_from": None, "all_room_from": None}
        return {"room_from": timestamp(ends[too_many - 1]), "all_room_from": timestamp(ends[-1])}


def postponed(rows: Sequence[PlanRow], budget: Budget, enabled: int) -> frozenset[str]:
    """Choose who is left to the next plan.

    People who left are never postponed. Of the others those come first who were named, then those whom the plan
    before has postponed, then those who haven't been seen for longest.

    :param rows: everybody whose access should change.
    :param budget: how many may.
    :param enabled: enabled users of the account.
    :return: ids.
    """
    later: frozenset[str] = frozenset()
    while budget.fits:
        # Fewer who get access back leave less room, since the percentage counts them.
        kept = [row for row in rows if row.user_id not in later]
        found = _without_room(rows, budget, users_afterwards(enabled, kept))
        if len(found) <= len(later):
            break
        later = found
    return later


def _without_room(rows: Sequence[PlanRow], budget: Budget, enabled: int) -> frozenset[str]:
    recent, waiting = set(budget.recent), set(budget.waiting)
    room = budget.room(enabled)

    def order(row: PlanRow) -> tuple[int, bool, str]:
        return CLASSES.index(row.user_class), row.user_id not in waiting, row.accessed_at or row.created_at or ""

    found = set()
    for row in sorted((row for row in rows if row.user_class != LEFT), key=order):
        # Who was changed lately counts already.
        takes = row.user_id not in recent
        if takes > room or room < 0:
            found.add(row.user_id)
        else:
            room -= takes
    return frozenset(found)
