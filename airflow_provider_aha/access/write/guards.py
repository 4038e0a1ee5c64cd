"""What must hold before the first write: caps, protected people, the last administrator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_aha.access.operations.user_fields import LAST_RIGHTS, administrator_rights
from airflow_provider_aha.exceptions import AhaGuardError, AhaNotFoundError, AhaProtocolError
from airflow_provider_aha.lists.matching import UserMatcher


@dataclass(frozen=True)
class Caps:
    """How many users a run may change.

    :param max_users: at most so many users.
    :param max_percent: at most so many percent of the enabled users, 0 to 100.
    :param approved_plan_sha256: the SHA-256 of the one larger plan that is let through.
    """

    max_users: int = 25
    max_percent: float = 20.0
    approved_plan_sha256: str | None = None

    def check(self, wanted: int, recent: int, enabled: int, plan_sha256: str | None) -> None:
        """Refuse a run that would change too many.

        :param wanted: users that this run would change.
        :param recent: other users that were changed within the last seven days, or may be by a run under way.
        :param enabled: enabled users of the account when the run was planned.
        :param plan_sha256: the plan's SHA-256, where there is a plan.
        :raises AhaGuardError: when a cap is exceeded.
        """
        if plan_sha256 is not None and plan_sha256 == self.approved_plan_sha256:
            return
        # In the smallest accounts a fifth is less than one person, and one must be possible.
        by_percent = max(int(enabled * self.max_percent / 100), 1)
        if wanted and wanted + recent > min(self.max_users, by_percent):
            raise AhaGuardError(
                f"This run would change the access of {wanted} users, after {recent} within the last seven days; "
                f"allowed are {self.max_users} users and {self.max_percent:g} % of {enabled} enabled users "
                f"({by_percent}). Nothing was done. Look at the plan: if it is right, pass its SHA-256 as "
                "approved_plan_sha256; don't raise the cap."
            )


@dataclass(frozen=True)
class Protection:
    """Whose access is never changed by a run.

    :param key_owner_id: the owner of the API key: disabling it would kill the key.
    :param protected: ids, emails, domains and patterns of people and service accounts.
    :param excluded: looks a user up in the exclusion file by id, email and name; returns why, or None. It keeps
        access from being taken, not from being given back.
    """

    key_owner_id: str
    protected: UserMatcher = field(default_factory=UserMatcher)
    excluded: Callable[[str, str | None, str | None], str | None] | None = None

    def reason(self, user: Mapping[str, Any]) -> str | None:
        """Say why a user's access is not to be changed at all, or None.

        :param user: the user as Aha! shows it.
        """
        if user["id"] == self.key_owner_id:
            return "owner of the API key"
        return self.protected.match(user["id"], user.get("email"), user.get("name"))

    def exclusion(self, user: Mapping[str, Any]) -> str | None:
        """Say which row of the exclusion file spares a user, or None.

        :param user: the user as Aha! shows it.
        """
        return self.excluded(user["id"], user.get("email"), user.get("name")) if self.excluded else None


def last_administrators(
    losing: Mapping[str, set[str]], others: Iterable[str], get_user: Callable[[str], Mapping[str, Any]]
) -> dict[str, str]:
    """Find out which users may not lose their rights, because nobody else would hold them.

    :param losing: by user id the rights that the user would lose.
    :param others: ids of the administrators, by the plan or a full read.
    :param get_user: reads one user again.
    :return: reason by user id; empty when all may go ahead.
    """
    at_stake = set().union(*losing.values())
    for user_id in others:
        if not at_stake:
            break
        if user_id not in losing:
            at_stake -= _rights_now(user_id, get_user)
    return {
        user_id: f"last enabled administrator {', '.join(LAST_RIGHTS[right] for right in sorted(dying))}"
        for user_id, lost in losing.items()
        if (dying := lost & at_stake)
    }


def _rights_now(user_id: str, get_user: Callable[[str], Mapping[str, Any]]) -> set[str]:
    try:
        user = get_user(user_id)
    except (AhaNotFoundError, AhaProtocolError):
        # Whoever is gone, or can't be read, is nobody to rely on.
        return set()
    return administrator_rights(user) if user.get("enabled") else set()
