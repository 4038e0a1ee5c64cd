"""Email addresses and ids: how they are read and compared.

Every address that somebody wrote is read here: in rosters, exclusion files, protected lists, forms and lists of
reviewers. The standard library's readers of mail headers would guess (``a b@example.com`` becomes
``ab@example.com``) and refuse accents, and the packages that judge addresses refuse ``.local``: both would make a
person absent. So the forms are told apart here; domains are read by ``idna``, links by ``urllib``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from urllib.parse import unquote

from airflow_provider_aha.common.values import SHOWS_NOTHING

# A cell of the largest directories has a few thousand characters.
_LONGEST_CELL = 10_000
_MOST_IN_CELL = 500
_LONGEST = 254
# Letters with something through or beside them, which Unicode doesn't take apart.
_PLAIN = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "æ": "ae", "œ": "oe"})
# What Asian keyboards write for ASCII.
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_NONE = frozenset({"-", "\u2013", "\u2014", "none", "null", "nil", "nan", "n/a", "#n/a", "na"})
_QUOTED_NAME = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"\s*(?=<)')
_BLANK_BEHIND_SCHEME = re.compile(r"\b(mailto|smtp):\s+", re.IGNORECASE)
# A comma parts, too, but may stand in a name before brackets.
_PARTS = re.compile(r"[;|\r\n\t\v\f\x85\u2028\u2029]")
_BRACKETS = re.compile(r"<\s*([^<>\s]+)\s*>")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):(.+)", re.IGNORECASE)
# What a directory keeps beside a person's mail addresses.
_NO_MAIL = frozenset({"x500", "x400", "sip", "eum", "spo"})
_NO_ADDRESS = "has a part that is no address"
_LOCAL = re.compile(r"(?!')(?:[a-z0-9.!#$%&'+=?^_{}~’-]|[^\x00-\x7f])+")
_DOMAIN = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")


def fold(text: str | None) -> str:
    """Return a text as it is compared.

    :param text: an email or a name; None is no text.
    """
    if text is None:
        return ""
    text = text.strip()
    if text.isascii():
        return text.casefold()
    return _with_ascii_domain(without_hidden(text).strip().lower(), str.casefold)


def spelled(text: str | None) -> str:
    """Return an address as it is compared before access is changed.

    Folding finds more than one person: to it, ``strasse@`` and ``straße@`` are the same, to a mail server not.

    :param text: an email; None is no text.
    """
    if text is None:
        return ""
    lower = text.strip().lower()
    return lower if lower.isascii() else _with_ascii_domain(lower, str)


def look(text: str | None) -> str:
    """Return what an address looks like: addresses with the same look may be one person's, or may not.

    It has no ``+`` and what follows it, no accents, and straight apostrophes: ``İREM@`` looks like ``irem@``.

    :param text: an email; None is no text.
    """
    local, at, domain = fold(text).rpartition("@")
    if not local.isascii():
        local = bare(local.replace("’", "'"))
    return (local.partition("+")[0] or local) + at + domain


def bare(text: str) -> str:
    """Return a text without accents, and with the letters of which others are made.

    :param text: a text in small letters.
    """
    parted = unicodedata.normalize("NFD", text.translate(_PLAIN))
    return unicodedata.normalize("NFC", "".join(mark for mark in parted if not unicodedata.combining(mark)))


def domain_of(folded: str) -> str:
    """Return the domain of an address, empty for a text that is none.

    :param folded: what :func:`fold` returned.
    """
    return folded.rpartition("@")[2] if "@" in folded else ""


def ascii_domain(domain: str) -> str:
    """Return a domain as it is compared: ``münchen.example`` is ``xn--mnchen-3ya.example``.

    :param domain: a domain; ``*.`` may stand before it.
    :raises ValueError: when it has characters that no domain has.
    """
    domain = domain.strip().lower()
    if domain.isascii():
        return domain
    import idna

    star, rest = ("*.", domain[2:]) if domain.startswith("*.") else ("", domain)
    return star + idna.encode(rest, uts46=True).decode()


def is_id(text: str) -> bool:
    """Tell whether a text can be a user's id.

    :param text: the text.
    """
    return text.isascii() and text.isdigit()


def read_addresses(cell: object) -> list[str]:
    """Read the addresses that somebody wrote into a cell, a form's field or an entry of a list.

    Understood are ``mailto:`` and ``smtp:`` before an address, ``Name <a@b>``, several with ``;``, ``,``, ``|``,
    blanks or line breaks between them, and invisible characters anywhere.

    :param cell: a text, or a list of texts; None, NaN, blanks and words such as ``n/a`` are no address.
    :return: each address once, in order, as :func:`spelled` returns it.
    :raises ValueError: when a part is no address. The message says why, as the end of a sentence about the cell,
        and repeats nothing of it.
    """
    cells = cell if isinstance(cell, (list, tuple)) else [cell]
    if len(cells) > _MOST_IN_CELL:
        raise ValueError(f"has more than {_MOST_IN_CELL} items")
    return list(dict.fromkeys(address for item in cells for address in _read_cell(item)))


def read_address(cell: object) -> str:
    """Read the one address that somebody wrote; see :func:`read_addresses`.

    :param cell: a text.
    :raises ValueError: when it is no address, or several.
    """
    found = read_addresses(cell)
    if len(found) != 1:
        raise ValueError("has more than one address" if found else "has no address")
    return found[0]


def _read_cell(cell: object) -> list[str]:
    # NaN, which data frames write for an empty cell, isn't even equal to itself.
    if cell is None or cell != cell:
        return []
    text = str(cell)
    if len(text) > _LONGEST_CELL:
        raise ValueError(f"is longer than {_LONGEST_CELL:,} characters")
    if not text.isascii():
        text = without_hidden(unicodedata.normalize("NFC", text.translate(_FULL_WIDTH)))
    text = text.replace("\0", "").strip()
    if text.lower() in _NONE:
        return []
    text = _BLANK_BEHIND_SCHEME.sub(r"\1:", _QUOTED_NAME.sub("", text))
    words = [word for part in _PARTS.split(text) for word in _written(part)]
    found = [address for word in words if (address := _read_word(word))]
    if words and not found:
        raise ValueError("has no mail address")
    return found


def _written(part: str) -> Iterator[str]:
    """Yield what must be an address in a part of a cell; the words of a name before brackets are none."""
    *named, rest = _BRACKETS.split(part)
    for name, address in zip(named[::2], named[1::2], strict=True):
        # An address before the brackets is usually the same, and counts if it isn't.
        yield from (word for word in _words(name) if "@" in word)
        yield address
    yield from _words(rest)


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _read_word(word: str) -> str | None:
    scheme = _SCHEME.fullmatch(word)
    kind = scheme[1].lower() if scheme else ""
    if kind in _NO_MAIL:
        return None
    if scheme and kind not in ("mailto", "smtp"):
        raise ValueError(_NO_ADDRESS)
    written = scheme[2] if scheme else word
    return _checked(unquote(written.partition("?")[0]) if kind == "mailto" else written)


def _checked(written: str) -> str:
    if len(written) > _LONGEST:
        raise ValueError(f"has an address that is longer than {_LONGEST} characters")
    local, _, domain = written.lower().rpartition("@")
    try:
        domain = ascii_domain(domain)
    except ValueError:
        raise ValueError(_NO_ADDRESS) from None
    if not (_LOCAL.fullmatch(local) and _DOMAIN.fullmatch(domain) and _is_plain(local)):
        raise ValueError(_NO_ADDRESS)
    return spelled(f"{local}@{domain}")


def _is_plain(local: str) -> bool:
    """Tell whether a local part has letters, marks and digits only beside what ASCII allows there."""
    return local.isascii() or (
        unicodedata.is_normalized("NFKC", local)
        and all(unicodedata.category(letter)[0] in "LMN" for letter in local if letter > "\x7f" and letter != "’")
    )


def without_hidden(text: str) -> str:
    """Return a text without invisible characters: zero-width ones, marks of direction, a byte order mark."""
    return "".join(letter for letter in text if letter.isascii() or not _is_invisible(letter))


def _is_invisible(letter: str) -> bool:
    return unicodedata.category(letter) == "Cf" or letter in SHOWS_NOTHING


def _with_ascii_domain(text: str, cased: Callable[[str], str]) -> str:
    local, at, domain = text.rpartition("@")
    if not at:
        return unicodedata.normalize("NFC", cased(text))
    try:
        domain = ascii_domain(domain)
    except ValueError:
        # Nothing that could be a domain: compared as it is.
        domain = unicodedata.normalize("NFC", cased(domain))
    return f"{unicodedata.normalize('NFC', cased(local))}@{domain}"
