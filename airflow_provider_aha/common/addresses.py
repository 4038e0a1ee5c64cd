"""Email addresses and ids: how they are read and compared."""

from __future__ import annotations

import unicodedata


def fold(text: str | None) -> str:
    """Return a text as it is compared.

    :param text: an email or a name; None is no text.
    """
    if text is None:
        return ""
    folded = text.strip().casefold()
    return folded if folded.isascii() else unicodedata.normalize("NFC", folded)


def spelled(text: str | None) -> str:
    """Return an address as it is compared before access is changed.

    Folding finds more than one person: to it, ``strasse@`` and ``straße@`` are the same, to a mail server not.

    :param text: an email; None is no text.
    """
    if text is None:
        return ""
    lower = text.strip().lower()
    return lower if lower.isascii() else unicodedata.normalize("NFC", lower)


def domain_of(folded: str) -> str:
    """Return the domain of an address, empty for a text that is none.

    :param folded: what :func:`fold` returned.
    """
    return folded.rpartition("@")[2] if "@" in folded else ""


def is_id(text: str) -> bool:
    """Tell whether a text can be a user's id.

    :param text: the text.
    """
    return text.isascii() and text.isdigit()
