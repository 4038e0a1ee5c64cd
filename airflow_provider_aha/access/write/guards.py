"""What must hold before the first write: caps, protected people, the last holder of a right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_aha.access.operations.base import TAKEN
from airflow_provider_aha.access.operations.registry import OPERATIONS, WORKSPACE_ROLE
from airflow_provider_aha.access.operations.user_fields import LAST_RIGHTS, rights_of
from airflow_provider_aha.access.operations.workspace_role import OWNER
from airflow_provider_aha.access.plan.caps import Caps
from airflow_provider_aha.access.plan.plan import Target
from airflow_provider_aha.lists.matching import UserMatcher, Who, protects_nobody, unmatched

# Plans are made to fit the caps, so the caps are known where plans are made; the write holds them once more.
__all__ = ["Caps", "Protection", "last_holders"]


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


def last_holders(
    targets: Iterable[Target],
    holders: Mapping[str, Collection[str]],
    read: Callable[[str], Mapping[str, Any] | None],
) -> dict[str, str]:
    """Find out which changes would let a right die out: by object, and right by right.

    :param targets: all that the decision changes, also what is done already.
    :param holders: ids of those who hold a right, by right; nobody on whom it can't be relied.
    :param read: reads one user again; returns None when the user doesn't exist.
    :return: reason by key; empty when all may go ahead.
    """
    by_user: dict[str, list[Target]] = defaultdict(list)
    for target in targets:
        by_user[target.user_id].append(target)

    def lost(target: Target, user: Mapping[str, Any]) -> frozenset[str]:
        if target.access != TAKEN:
            return frozenset()
        return OPERATIONS[target.operation].loses(target.changes, user, target.object)

    def stays(right: str, user_id: str) -> bool:
        user = read(user_id)
        return user is not None and right in rights_of(user).difference(
            *(lost(target, user) for target in by_user.get(user_id, ()))
        )

    reasons = {}
    for target in (target for found in by_user.values() for target in found if _may_hold(target)):
        user = read(target.user_id) if target.access == TAKEN else None
        guarded = sorted(
            filter(OPERATIONS[target.operation].guards, lost(target, user) if user is not None else ())
        )
        dying = [right for right in guarded if not any(stays(right, one) for one in holders.get(right, ()))]
        if dying:
            reasons[target.key] = _last(dying)
    return reasons


def _may_hold(target: Target) -> bool:
    """Tell whether a user can have a right that must not die out, by the decision; else nobody needs to look."""
    if target.operation == WORKSPACE_ROLE:
        return target.before.get("role") == OWNER
    return target.is_administrator is not False


def _last(rights: Sequence[str]) -> str:
    administers = [LAST_RIGHTS[right] for right in rights if right in LAST_RIGHTS]
    if administers:
        return f"last enabled administrator {', '.join(administers)}"
    return f"last {', '.join(rights)}"
