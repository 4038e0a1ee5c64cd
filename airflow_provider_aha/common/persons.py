"""Whose name stands beside a decision: people are compared, not the texts that they write.

A name that may be the person's counts as the person's. Whoever is meant by it can say so with an address.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from airflow_provider_aha.common.addresses import bare, look, without_hidden
from airflow_provider_aha.common.values import is_unset, legible

# What Airflow says where nobody in particular started a run: no logins, an older Airflow, or no person at all.
_NOBODY = re.compile("anonymous|manual|scheduled|backfill|backfill_job|(asset|dataset|operator)_triggered")
_WORD = re.compile(r"[^\W_]+")
_APOSTROPHES = str.maketrans("", "", "'’`´ʼ")
_SEVERAL = re.compile(r"[;|/&\r\n\x0b\x0c]+|\s(?:and|und|et)\s", re.IGNORECASE)
_ADDRESS = re.compile(r"[^\s<>()\[\]\",;:|/\\]+@[^\s<>()\[\]\",;:|/\\]+")
_WINDOWS = re.compile(r"[^\s\\]+\\+(?=[^\s\\])")
# Letters that are also written as two.
_PAIRS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})

Words = tuple[str, ...]


def names_nobody(login: str) -> bool:
    """Tell whether a login is none: Airflow says how a run was started where it doesn't know who started it.

    :param login: who triggered the run, as Airflow says.
    """
    return is_unset(login) or _NOBODY.fullmatch(login.strip().lower()) is not None


class People:
    """People, and which of them a text may mean.

    :param rows: ``user_id``, ``user_name`` and ``user_email`` of each; a person may have several rows.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._names: dict[str, tuple[Words, ...]] = {}
        self._by_address: dict[str, set[str]] = defaultdict(set)
        self._by_word: dict[str, set[str]] = defaultdict(set)
        self._by_name: dict[Words, set[str]] = defaultdict(set)
        self._meanings: dict[str, tuple[set[str], str | None]] = {}
        for person in dict.fromkeys((row["user_id"], row["user_name"], row["user_email"]) for row in rows):
            self._add(*person)

    def _add(self, user_id: str, name: str | None, email: str | None) -> None:
        self._names[user_id] = (*self._names.get(user_id, ()), *_spellings(name or ""))
        self._by_word[user_id].add(user_id)
        for words in self._names[user_id]:
            self._by_name[tuple(sorted(words))].add(user_id)
            self._by_word["".join(words)].add(user_id)
        if address := look(email):
            self._by_address[address].add(user_id)
            self._by_word[_joined(address.rpartition("@")[0] or address)].add(user_id)

    def exactly(self, text: str) -> set[str]:
        """Return whom a text names, without short forms: by name, address, login or id, however it is spelled.

        :param text: what Airflow or a person says.
        """
        return set().union(*(self._meanings_of(part)[0] for part in _parts(text)))

    def decides(self, written: str, user_id: str) -> bool:
        """Tell whether a reviewer, as a file names them, may be one of the people.

        :param written: a cell: a name, an address, a login, or several of them.
        :param user_id: the person.
        """
        return any(self._may_be(part, user_id, alone=True) for part in _parts(written))

    def submits(self, login: str, user_id: str) -> bool:
        """Tell whether a login may be one of the people. A first name alone says nothing here.

        :param login: who triggered the run, as Airflow says.
        :param user_id: the person.
        """
        return not names_nobody(login) and any(self._may_be(part, user_id, alone=False) for part in _parts(login))

    def _may_be(self, part: str, user_id: str, *, alone: bool) -> bool:
        meant, open_text = self._meanings_of(part)
        if user_id in meant or open_text is None:
            return user_id in meant
        return any(
            _fit(given, name, alone=alone) or user_id in self._by_word.get("".join(given), ())
            for given in _spellings(open_text)
            for name in self._names[user_id] or ((),)
        )

    def _meanings_of(self, part: str) -> tuple[set[str], str | None]:
        if part not in self._meanings:
            self._meanings[part] = self._meaning(part)
        return self._meanings[part]

    def _meaning(self, part: str) -> tuple[set[str], str | None]:
        """Return whom a text names exactly, and what of it may be a short or a longer form of any name."""
        meant, text = self._addressed(part)
        exact, whole = self._exactly(text)
        return meant | exact, None if whole else text

    def _addressed(self, part: str) -> tuple[set[str], str]:
        """Return whom the addresses of a text mean, and the rest; of an unknown one, what stands before its @."""
        meant: set[str] = set()
        rest = part
        for address in _ADDRESS.findall(part):
            plain = re.sub(r"^(?:mailto|smtp):", "", address, flags=re.IGNORECASE)
            known = self._by_address.get(look(plain), set())
            meant |= known
            rest = rest.replace(address, "" if known else f" {look(plain).rpartition('@')[0]} ")
        return meant, rest

    def _exactly(self, text: str) -> tuple[set[str], bool]:
        """Return whom a text names exactly, and whether that is all that it says; commas may part several."""
        meant = self._named(text)
        if meant:
            return meant, True
        pieces = [self._named(piece) for piece in text.split(",") if _WORD.search(piece)]
        return set().union(*pieces), all(pieces)

    def _named(self, text: str) -> set[str]:
        found: set[str] = set()
        for words in _spellings(text):
            found |= self._by_name.get(tuple(sorted(words)), set())
            if len(text.split()) == 1:
                found |= self._by_word.get("".join(words), set())
        return found


@lru_cache(maxsize=4096)
def _parts(text: str) -> Sequence[str]:
    """Return the people of a cell, each as it is written there."""
    # A domain before a login, as Windows writes it, is nobody's.
    plain = _WINDOWS.sub("", re.sub(r"mailto:|smtp:", "", text, flags=re.IGNORECASE))
    return [part for part in _SEVERAL.split(plain) if _WORD.search(part)]


@lru_cache(maxsize=4096)
def _spellings(text: str) -> tuple[Words, ...]:
    """Return the words of a name as they are compared: without accents, and with two letters for one."""
    seen = legible(without_hidden(unicodedata.normalize("NFKC", text))).casefold().translate(_APOSTROPHES)
    composed = unicodedata.normalize("NFC", seen)
    found = (tuple(_WORD.findall(bare(form))) for form in (composed, composed.translate(_PAIRS)))
    return tuple(dict.fromkeys(words for words in found if words))


def _joined(text: str) -> str:
    return next(("".join(words) for words in _spellings(text)), "")


def _fit(given: Words, name: Words, *, alone: bool) -> bool:
    """Tell whether words may be a short or a longer form of a name.

    :param given: the words.
    :param name: the words of the name.
    :param alone: whether one word of the name is enough.
    """
    if len(given) == 1:
        (word,) = given
        return len(word) > 1 and ((alone and word in name) or word in _logins(name))
    if len(name) < 2:
        return False
    return _has(given, name) or _has(name, given)


def _has(larger: Words, smaller: Words) -> bool:
    """Tell whether all of some words are among others, of which a letter may stand for a word; not all of them."""
    left = list(larger)
    initials = 0
    for word in sorted(smaller, key=len, reverse=True):
        found = next((one for one in left if one == word), None)
        if found is None:
            found = next((one for one in left if 1 in (len(one), len(word)) and one[0] == word[0]), None)
            initials += 1
        if found is None:
            return False
        left.remove(found)
    return initials < len(smaller)


def _logins(name: Words) -> set[str]:
    """Return what logins are usually made of a name."""
    if len(name) < 2:
        return set()
    first, last = name[0], name[-1]
    return {"".join(name), first + last, last + first, first[0] + last, last + first[0], first + last[0]}
