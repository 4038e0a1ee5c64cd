"""Lists of users by id, email, domain and pattern: who is protected, who is excluded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
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


# The kinds of entries, in the order in which they are looked at.
KINDS = ID, EMAIL, DOMAIN, PATTERN = "id", "email", "domain", "pattern"


@dataclass(frozen=True)
class Entry:
    """One entry of a list.

    :param kind: ``id``, ``email``, ``domain`` or ``pattern``.
    :param text: what it says, as it is compared.
    :param place: where it stands, for sentences: ``entry 2 of the protected ids in the Variable aha_guards``.
    :param reason: what a user is who is on it, without personal data: ``protected id``.
    """

    kind: str
    text: str = field(repr=False)
    place: str
    reason: str


def read_entries(kind: str, value: object, place: str, reason: str) -> list[Entry]:
    """Read one entry of a list.

    :param kind: ``id``, ``email``, ``domain`` or ``pattern``.
    :param value: what somebody wrote.
    :param place: where it stands.
    :param reason: what a user is who is on it.
    :raises AhaConfigurationError: when it could match nobody; the sentence repeats nothing of it.
    """
    text = fold(str(value))
    fits, why = _FORMS[kind]
    if not fits(text):
        raise AhaConfigurationError(f"{place[0].upper()}{place[1:]} could match nobody: {why}.")
    return [Entry(kind, text, place, reason)]


class UserMatcher:
    """Tells whether a user is on a list. Case, blanks around a text and the way an accent is written don't count.

    :param ids: user ids.
    :param emails: whole addresses.
    :param domains: what follows the ``@``; ``*.example.com`` stands for all subdomains of ``example.com``, and not
        for itself.
    :param patterns: with ``*``, ``?`` and ``[...]``, for the whole email or the whole name.
    :param word: what a user on the list is, for the reason.
    :param where: where the list stands, for sentences, such as `` in the Variable aha_guards``.
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
        where: str = "",
    ) -> None:
        given = {ID: ids, EMAIL: emails, DOMAIN: domains, PATTERN: patterns}
        entries: list[Entry] = []
        for kind, values in given.items():
            what = f"the {word} {kind}s{where}"
            if isinstance(values, str):
                raise AhaConfigurationError(f"{what[0].upper()}{what[1:]} must be a list.")
            for number, value in enumerate(values, 1):
                entries += read_entries(kind, value, f"entry {number} of {what}", f"{word} {kind}")
        self._take(entries)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> UserMatcher:
        """Return what looks users up in entries of any lists.

        :param entries: the entries.
        """
        found = cls()
        found._take(list(entries))
        return found

    def _take(self, entries: Sequence[Entry]) -> None:
        self.entries = tuple(entries)
        by_kind = {kind: [entry for entry in entries if entry.kind == kind] for kind in KINDS}
        self._ids, self._emails, domains = (
            {entry.text: entry for entry in reversed(by_kind[kind])} for kind in (ID, EMAIL, DOMAIN)
        )
        self._parents = {text[1:]: entry for text, entry in domains.items() if text.startswith("*.")}
        self._domains = {text: entry for text, entry in domains.items() if not text.startswith("*.")}
        self._suffixes = tuple(self._parents)
        self._patterns = [(re.compile(translate(entry.text)), entry) for entry in by_kind[PATTERN]]
        # One look at all patterns together: most users fit none.
        self._any_pattern = re.compile("|".join(pattern.pattern for pattern, _ in self._patterns))

    def match(self, user_id: str, email: str | None, *names: str | None) -> str | None:
        """Look for a user on the list.

        :param user_id: the user's id.
        :param email: the user's email.
        :param names: the user's name, and every other one by which the user is known.
        :return: a reason without personal data, such as ``protected id``; None for a user who isn't listed.
        """
        found = self.find(user_id, email, *names)
        return found.reason if found else None

    def find(self, user_id: str, email: str | None, *names: str | None) -> Entry | None:
        """Look for an entry that a user is on; see :meth:`match`.

        :param user_id: the user's id.
        :param email: the user's email.
        :param names: the user's name, and every other one by which the user is known.
        """
        folded = fold(email)
        return (
            self._ids.get(user_id.strip())
            or self._emails.get(folded)
            or self._domain_of(folded)
            or self._fitting([folded, *map(fold, names)])
        )

    def has_domain_of(self, folded: str) -> bool:
        """Tell whether the domain of an address is on the list.

        :param folded: what :func:`fold` returned.
        """
        return self._domain_of(folded) is not None

    def _domain_of(self, folded: str) -> Entry | None:
        domain = domain_of(folded)
        if domain in self._domains:
            return self._domains[domain]
        if domain.endswith(self._suffixes):
            return next(entry for suffix, entry in self._parents.items() if domain.endswith(suffix))
        return None

    def _fitting(self, texts: Sequence[str]) -> Entry | None:
        found = [text for text in texts if text and self._patterns and self._any_pattern.match(text)]
        if not found:
            return None
        return next(entry for pattern, entry in self._patterns if any(map(pattern.match, found)))


def _is_email(text: str) -> bool:
    local, _, domain = text.partition("@")
    return bool(local and domain) and "@" not in domain and not re.search(r"\s", text)


def _is_domain(text: str) -> bool:
    return re.fullmatch(r"(?:\*\.)?[^\s@*.]+(?:\.[^\s@*.]+)*", text) is not None


_FORMS = {
    ID: (is_id, "a user id has digits only"),
    EMAIL: (_is_email, "an email has one @ inside"),
    DOMAIN: (_is_domain, "a domain is what follows the @"),
    PATTERN: (bool, "a pattern is not empty"),
}
