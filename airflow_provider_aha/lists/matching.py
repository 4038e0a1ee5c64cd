"""Lists of users by id, email, domain and pattern: who is protected, who is excluded."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import translate

from airflow_provider_aha.common.addresses import (
    ascii_domain,
    bare,
    domain_of,
    fold,
    is_id,
    look,
    read_addresses,
    without_hidden,
)
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


# So many digits of a number are exact in a spreadsheet, and in JavaScript.
_EXACT = 15
_LONGEST_ID = 40
# So many entries a sentence may name.
_NAMED = 20
# The kinds of entries, in the order in which they are looked at.
ENTRY_KINDS = ID, EMAIL, DOMAIN, PATTERN = "id", "email", "domain", "pattern"


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
    :return: the entry; several for an email that names several addresses.
    :raises AhaConfigurationError: when it could match nobody; the sentence repeats nothing of it.
    """
    try:
        texts = _READERS[kind](str(value))
    except ValueError as error:
        raise AhaConfigurationError(f"{_sentence(place)} {error}.") from None
    return [Entry(kind, text, place, reason) for text in texts]


def _sentence(place: str) -> str:
    return f"{place[0].upper()}{place[1:]}"


def _id(text: str) -> list[str]:
    found = fold(text)
    if not is_id(found) or len(found) > _LONGEST_ID:
        raise ValueError(
            "is no user id, which has digits only (a spreadsheet may have rounded it: format the column as text)"
        )
    return [found]


def _email(text: str) -> list[str]:
    found = read_addresses(text)
    if not found:
        raise ValueError("has no address")
    return [look(address) for address in found]


def _domain(text: str) -> list[str]:
    # Not folded: ``straße.example`` is another domain than ``strasse.example``.
    found = ascii_domain(without_hidden(text).strip().lower().removeprefix("@").removesuffix("."))
    if not _DOMAIN.fullmatch(found):
        raise ValueError("is no domain, which is what follows the @")
    return [found]


def _pattern(text: str) -> list[str]:
    found = _shape(text)
    if not found:
        raise ValueError("is an empty pattern")
    if _REGULAR_EXPRESSION.search(_CLASS.sub("x", found)) or _IN_CLASS.search(found):
        raise ValueError(
            "looks like a regular expression, and patterns are those of a shell: * for any text, ? for one "
            "character, [abc] for one of these; svc* is what begins with svc, [.] is a dot before one of them"
        )
    return [found]


def _shape(text: str | None) -> str:
    """Return a name, an email or a pattern as they are held to each other.

    Any blanks are one, accents and the width of letters don't count, and apostrophes are straight.
    """
    if not text:
        return ""
    if text.isascii():
        return " ".join(fold(text).split())
    return " ".join(bare(fold(unicodedata.normalize("NFKC", text.replace("’", "'")))).split())


_READERS: dict[str, Callable[[str], list[str]]] = {ID: _id, EMAIL: _email, DOMAIN: _domain, PATTERN: _pattern}
_DOMAIN = re.compile(r"(?:\*\.)?[^\s@*./:]+(?:\.[^\s@*./:]+)*")
_CLASS = re.compile(r"\[!?\]?[^\]]*\]")
# Outside of a class. A shell would take all of it for plain characters, so that the pattern would match nobody, or
# a few of those who are meant.
_REGULAR_EXPRESSION = re.compile(r"\\|^\^|\$$|\.[*+?]|\(\?|[\[|{}]|^/.*/$|^%|%$")
_IN_CLASS = re.compile(r"\[\^|\]\+")


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

    An email stands for every address that looks like it, also one with a ``+`` and more behind the name.
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
        by_kind = {kind: [entry for entry in entries if entry.kind == kind] for kind in ENTRY_KINDS}
        self._ids, self._emails, domains = (
            {entry.text: entry for entry in reversed(by_kind[kind])} for kind in (ID, EMAIL, DOMAIN)
        )
        self._parents = {text[1:]: entry for text, entry in domains.items() if text.startswith("*.")}
        self._domains = {text: entry for text, entry in domains.items() if not text.startswith("*.")}
        self._suffixes = tuple(self._parents)
        self._patterns = [(re.compile(translate(entry.text)), entry) for entry in by_kind[PATTERN]]
        # One look at all patterns together: most users fit none.
        self._any_pattern = re.compile("|".join(pattern.pattern for pattern, _ in self._patterns))

    @property
    def names_matter(self) -> bool:
        """Whether a user whose name isn't known may be on the list: a pattern without ``@`` may fit a name."""
        return any(entry.kind == PATTERN and "@" not in entry.text for entry in self.entries)

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
            or self._emails.get(look(email))
            or self._domain_of(folded)
            or self._fitting([_shape(folded), *map(_shape, names)])
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


# A user of an account: id, email and name.
Who = tuple[str, str | None, str | None]


def unmatched(entries: Iterable[Entry], users: Iterable[Who]) -> list[Entry]:
    """Find the entries that no user of an account is on, enabled or not: they protect nobody.

    :param entries: entries of any lists.
    :param users: all users of the account.
    :return: those entries, in order.
    :raises AhaConfigurationError: when one is an id that no user has, and a user's id has the same first 15 digits:
        a spreadsheet or JavaScript has rounded it, and who is meant would be unprotected.
    """
    entries = list(entries)
    waiting = {kind: {entry.text for entry in entries if entry.kind == kind} for kind in ENTRY_KINDS}
    patterns = {text: re.compile(translate(text)) for text in waiting[PATTERN]}
    parents = {text for text in waiting[DOMAIN] if text.startswith("*.")}
    rounded = dict.fromkeys((rounding for text in waiting[ID] for rounding in _roundings(text)), "")
    for user_id, email, name in users:
        if not any(waiting.values()):
            break
        folded = fold(email)
        domain = domain_of(folded)
        waiting[ID].discard(user_id)
        waiting[EMAIL].discard(look(email))
        waiting[DOMAIN].discard(domain)
        waiting[DOMAIN] -= {parent for parent in parents & waiting[DOMAIN] if domain.endswith(parent[1:])}
        texts = [text for text in (_shape(folded), _shape(name)) if text]
        waiting[PATTERN] -= {one for one in waiting[PATTERN] if any(map(patterns[one].match, texts))}
        rounded |= {rounding: user_id for rounding in _roundings(user_id) if rounding in rounded}
    found = [entry for entry in entries if entry.text in waiting[entry.kind]]
    for entry in found:
        other = max((rounded[one] for one in _roundings(entry.text)), default="") if entry.kind == ID else ""
        if other:
            raise AhaConfigurationError(
                f"{_sentence(entry.place)}: no such user, but one has the same first {_EXACT} digits ({other}). A "
                " spreadsheet or JavaScript rounds long numbers: write all digits, as text. If the user was "
                "removed, take the entry out. Nothing was done."
            )
    return found


def _roundings(user_id: str) -> list[str]:
    """Return what is left of an id where only 15 digits count, cut off and rounded; a short id stays as it is."""
    if not is_id(user_id) or not _EXACT <= len(user_id) <= _LONGEST_ID:
        return []
    return [user_id[:_EXACT], f"{int(user_id):.{_EXACT - 1}e}"]


def protects_nobody(entries: Sequence[Entry]) -> list[str]:
    """Say which entries protect nobody, by where they stand; nothing of what they say.

    :param entries: what :func:`unmatched` returned.
    :return: one sentence, or none.
    """
    places = list(dict.fromkeys(entry.place for entry in entries))
    if not places:
        return []
    more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
    what = "1 entry protects" if len(places) == 1 else f"{len(places)} entries protect"
    return [f"{what} nobody in this account: {', '.join(places[:_NAMED])}{more}."]
