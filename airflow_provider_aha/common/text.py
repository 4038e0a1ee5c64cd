"""Names and emails are what strangers typed: making them harmless in a page and in a spreadsheet."""

from __future__ import annotations

import re
from typing import Any

# Characters that show nothing, or turn the text around them: control, zero width, direction.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
)
# What begins a formula, also as full-width characters, which spreadsheets in East Asia take for the same.
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]")
_IN_SCRIPT = {"<": b"\\u003c", ">": b"\\u003e", "&": b"\\u0026", "\u2028": b"\\u2028", "\u2029": b"\\u2029"}


def visible(text: str | None) -> str:
    """Return a text in which nothing hides: each hidden character becomes a mark that is seen.

    :param text: what a stranger typed.
    """
    if not text or text.isprintable():
        return text or ""
    return _HIDDEN.sub("\N{REPLACEMENT CHARACTER}", text).encode("utf-8", "replace").decode()


def cell(value: object) -> str:
    """Return a value as a cell of a CSV file that no spreadsheet takes for a formula.

    A semicolon would begin a new cell where the semicolon is what separates them, and what follows could be
    a formula; so it becomes a comma.

    :param value: text, number, or nothing.
    """
    text = visible(str(value)).replace(";", ",") if value is not None else ""
    return f"'{text}" if _FORMULA.match(text) else text


def script_json(value: Any) -> bytes:
    """Encode data for a ``<script type="application/json">`` that nothing in it can end.

    :param value: what JSON can hold.
    """
    # A hook reads text too, and a DAG file that is parsed loads hooks.
    import orjson

    body = orjson.dumps(value)
    for text, escaped in _IN_SCRIPT.items():
        body = body.replace(text.encode(), escaped)
    return body
