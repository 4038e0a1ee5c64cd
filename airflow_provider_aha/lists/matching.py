"""Lists of users by id, email, domain and pattern: who is protected, who is excluded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import translate

from airflow_provider_aha.common.addresses import domain_of, fold, is_id
from airflow_provider_aha.exceptions import AhaConfigurationError

# Names that look like no person: such a user is spared until somebody lists it by id.
SERVICE_ACCOUNT_PATTERNS = (
    "svc[-_. ]*",
    "*[-_. ]svc@*",
    "service[-_. ]*",
    "*service[-_. ]account*",
    "*[-_. ]service@*",
    "bot@*",
    "bot[-_. ]*",
    "*[-_. ]bot",
    "*[-_. ]bot@*",
    "api@*",
    "api[-_. ]*",
    "*[-_. ]api",
    "*[-_. ]api@*",
    "automation*",
    "*[-_. ]automation",
    "*[-_. ]automation@*",
    "*integration*",
    "*webhook*",
    "noreply@*",
    "no-reply@*",
)


class UserMatcher:
    """Tells whether a user is on a list. Case, blanks around a text and the way an accent is written don't count.

    :param ids: user ids.
    :param emails: whole addresses.
    :param domains: what follows the ``@``; ``*.example.com`` stands for all subdomains of ``example.com``, and not
        for itself.
    :param patterns: with ``*``, ``?`` and ``[...]``, for the whole email or the whole name.
    :param word: what a user on the list is, for the reason.
    :raises AhaConfigurationError: for an entry that could match nobody.
    """

    def __init__(
        self,
        ids: Iterable[str] = (),
        emails: Iterable[str] = (),
        domains: Iterable[str] = (),
        patterns: Iterable[str] = (),
        *,
        word: str = "protected",
    ) -> None:
        self._word = word
        self._ids = frozenset(_entries(ids, is_id, f"{word} ids", "a user id has digits only"))
        self._emails = frozenset(_entries(emails, _is_email, f"{word} emails", "an email has one @ inside"))
        named = set(_entries(domains, _is_domain, f"{word} domains", "a domain is what follows the @"))
        self._parents = tuple(domain[1:] for domain in named if domain.startswith("*."))
        self._domains = frozenset(domain for domain in named if not domain.startswith("*."))
        self._pattern = _either(_entries(patterns, _is_pattern, f"{word} patterns", "a pattern is not empty"))

    def match(self, user_id: str, email: str | None, name: str | None) -> str | None:
        """Look for a user on the list.

        :param user_id: the user's id.
        :param email: the user's email.
        :param name: the user's name.
        :return: a reason without personal data, such as ``protected id``; None for a user who isn't listed.
        """
        if user_id.strip() in self._ids:
            return f"{self._word} id"
        folded = fold(email)
        if folded in self._emails:
            return f"{self._word} email"
        if self.has_domain_of(folded):
            return f"{self._word} domain"
        if self._pattern and any(self._pattern.match(text) for text in (folded, fold(name)) if text):
            return f"{self._word} pattern"
        return None

    def has_domain_of(self, folded: str) -> bool:
        """Tell whether the domain of an address is on the list.

        :param folded: what :func:`fold` returned.
        """
        domain = domain_of(folded)
        return domain != "" and (domain in self._domains or domain.endswith(self._parents))


def _is_email(text: str) -> bool:
    local, _, domain = text.partition("@")
    return bool(local and domain) and "@" not in domain and not re.search(r"\s", text)


def _is_domain(text: str) -> bool:
    return re.fullmatch(r"(?:\*\.)?[^\s@*.]+(?:\.[^\s@*.]+)*", text) is not None


def _is_pattern(text: str) -> bool:
    return text != ""


def _entries(values: Iterable[str], fits: Callable[[str], bool], what: str, why: str) -> list[str]:
    if isinstance(values, str):
        raise AhaConfigurationError(f"The {what} must be a list.")
    folded = [fold(str(value)) for value in values]
    for place, text in enumerate(folded, 1):
        if not fits(text):
            raise AhaConfigurationError(f"Entry {place} of the {what} could match nobody: {why}.")
    return folded


def _either(patterns: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(translate(pattern) for pattern in patterns)) if patterns else None
