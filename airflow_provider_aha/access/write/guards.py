"""What must hold before the first write: caps, protected people, the last administrator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_aha.access.operations.user_fields import LAST_RIGHTS, administrator_rights
from airflow_provider_aha.access.plan.caps import Caps
from airflow_provider_aha.exceptions import AhaNotFoundError
from airflow_provider_aha.lists.matching import UserMatcher

# Plans are made to fit the caps, so the caps are known where plans are made; the write holds them once more.
__all__ = ["Caps", "Protection", "last_administrators"]


@dataclass(frozen=True)
class Protection:
    """Whose access is never changed by a run.

    :param key_owner_id: the owner of the API key: disabling it would kill the key.
    :param protected: ids, emails, domains and patterns of people and service accounts.
    :param excluded: the rows of exclusion files that hold today. They keep access from being taken, not from being
        given back.
    """

    key_owner_id: str
    protected: UserMatcher = field(default_factory=UserMatcher)
    excluded: UserMatcher = field(default_factory=UserMatcher)

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
        return self.excluded.match(user["id"], user.get("email"), user.get("name"))


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
    except AhaNotFoundError:
        return set()
    return administrator_rights(user) if user.get("enabled") else set()
