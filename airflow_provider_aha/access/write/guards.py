"""What must hold before the first write: caps, protected people, the last administrator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_aha.access.operations.user_fields import LAST_RIGHTS, administrator_rights
from airflow_provider_aha.access.plan.caps import Caps
from airflow_provider_aha.exceptions import AhaNotFoundError, AhaProtocolError
from airflow_provider_aha.lists.matching import UserMatcher, Who, protects_nobody, unmatched

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

    def reason(self, user: Mapping[str, Any], known_as: str | None = None) -> str | None:
        """Say why a user's access is not to be changed at all, or None.

        :param user: the user as Aha! shows it.
        :param known_as: the user's name at the decision.
        """
        if user["id"] == self.key_owner_id:
            return "owner of the API key"
        return _listed(self.protected, "a protected pattern", user, known_as)

    def exclusion(self, user: Mapping[str, Any], known_as: str | None = None) -> str | None:
        """Say which row of the exclusion files spares a user, or None.

        :param user: the user as Aha! shows it.
        :param known_as: the user's name at the decision.
        """
        return _listed(self.excluded, "a pattern of the exclusion file", user, known_as)

    def check(self, users: Iterable[Who]) -> list[str]:
        """Find the entries of the lists that protect nobody.

        :param users: all users of the account; none where they aren't known.
        :return: one sentence, or none.
        :raises AhaConfigurationError: when an entry is an existing user's id that was rounded.
        """
        entries = [*self.protected.entries, *self.excluded.entries]
        return protects_nobody(unmatched(entries, known)) if (known := list(users)) else []


def _listed(matcher: UserMatcher, what: str, user: Mapping[str, Any], known_as: str | None) -> str | None:
    """Look a user up by both names: either may have been changed, or left out by a single read."""
    names = [name for name in (user.get("name"), known_as) if isinstance(name, str) and name.strip()]
    if reason := matcher.match(user["id"], user.get("email"), *names):
        return reason
    return f"Aha! shows no name, which {what} may fit" if matcher.names_matter and not names else None


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
