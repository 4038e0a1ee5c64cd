"""A draft of a mapping, from the fields of a target: with scores and reasons, for a person to commit.

Names are compared word by word, after what people and systems call the same thing. Nothing applies a draft, and
a draft isn't launched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from airflow_provider_aha.datasets.schemas import BY_DATASET
from airflow_provider_aha.push.mapping.spec import read_spec
from airflow_provider_aha.push.mapping.types import type_of_arrow
from airflow_provider_aha.push.targets.base import TargetField

# Below this a guess says nothing.
_LEAST = 0.6
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
# What others call a column; each in words of their own.
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "id": ("aha id", "aha user id", "user id", "external id", "user external id", "remote id", "source id", "uid"),
    "name": ("full name", "display name", "user name full", "common name", "cn"),
    "email": ("mail", "e mail", "email address", "mail address", "username", "user name", "login", "upn", "user"),
    "accessed_at": ("last login", "last login at", "last seen", "last seen at", "last access", "last activity"),
    "created_at": ("created", "creation date", "create date", "date created"),
    "updated_at": ("updated", "modified", "modified at", "last modified", "last update"),
    "is_enabled": ("enabled", "active", "is active", "status active"),
    "is_paid_seat": ("paid", "paid seat", "licensed", "is licensed", "licence", "license"),
    "is_administrator": ("admin", "is admin", "administrator"),
    "activity_status": ("activity", "status", "user status"),
    "days_inactive": ("inactive days", "days since last login"),
    "subdomain": ("account", "aha account", "tenant", "instance"),
    "synced_at": ("sync time", "last sync", "synced", "extracted at", "connector sync time"),
    "workspace_name": ("workspace", "product", "product name"),
    "user_email": ("email", "mail", "email address", "username"),
    "user_name": ("name", "full name", "display name"),
}
# Parts of a name that a target may want alone.
_PARTS = {
    "first_name": ("first name", "given name", "forename", "firstname"),
    "last_name": ("last name", "family name", "surname", "lastname"),
}
_IDS = ("id", "user_id")
_EMAILS = ("email", "user_email")


@dataclass(frozen=True)
class Guess:
    """A field of the target, and what it could be made of.

    :param field: the field.
    :param source: a column of the dataset; None: nothing fits.
    :param transforms: what makes the value fit.
    :param score: from 0 to 1.
    :param reason: why, in words.
    """

    field: TargetField
    source: str | None
    transforms: tuple[str, ...]
    score: float
    reason: str


@dataclass(frozen=True)
class MappingDraft:
    """A draft of a mapping.

    :param name: its name.
    :param dataset: which dataset it maps.
    :param guesses: a guess per field of the target, in their order.
    """

    name: str
    dataset: str
    guesses: tuple[Guess, ...]

    @property
    def sync_key(self) -> str | None:
        """The field that identifies a record best: made of an id, else of an email."""
        for wanted in (_IDS, _EMAILS):
            for guess in self.guesses:
                if guess.source in wanted:
                    return guess.field.name
        return None

    def text(self) -> str:
        """Return the draft as YAML, each field with its score and reason."""
        lines = ["# A draft, made of names: read every line, correct it, then set launched to true."]
        if not any(guess.source in _IDS for guess in self.guesses):
            lines += [
                "# No field takes the Aha! id, and an email may pass on to another person: add a unique field to",
                "# the target, such as aha_user_id, and make it the sync key.",
            ]
        lines += [
            "version: 1",
            f"name: {self.name}",
            f"dataset: {self.dataset}",
            "launched: false",
            "mode: upsert",
            f"sync_key: [{_quoted(self.sync_key or 'choose a field that is unique')}]",
            "fields:",
        ]
        for guess in self.guesses:
            lines += self._lines(guess)
        return "\n".join(lines) + "\n"

    def _lines(self, guess: Guess) -> list[str]:
        name = _quoted(guess.field.name)
        if guess.source is None:
            needed = "; the target needs a value" if guess.field.required else ""
            return [f"  # {guess.score:.2f}, {guess.reason}{needed}", f"  # {name}: {{const: ...}}"]
        parts = [f"source: {guess.source}"]
        if guess.transforms:
            parts.append(f"transforms: [{', '.join(guess.transforms)}]")
        if guess.field.type:
            parts.append(f"type: {guess.field.type}")
        is_key = guess.field.name == self.sync_key
        if guess.field.required or is_key:
            parts.append("required: true")
        if is_key:
            parts.append("unique: true")
        if guess.source == "synced_at":
            parts.append("compare: false")
        return [f"  # {guess.score:.2f}, {guess.reason}", f"  {name}: {{{', '.join(parts)}}}"]


def suggest_mapping(dataset: str, fields: Sequence[TargetField], *, name: str) -> MappingDraft:
    """Suggest a mapping.

    :param dataset: ``users``, ``user_roles`` or ``user_role_summary``.
    :param fields: the fields of the target.
    :param name: the name of the mapping.
    """
    draft = MappingDraft(name, dataset, tuple(_guess(dataset, field) for field in fields))
    if draft.sync_key is not None and any(guess.source for guess in draft.guesses):
        # What is handed out as a draft must at least be one.
        read_spec(draft.text(), what="The draft")
    return draft


def _guess(dataset: str, field: TargetField) -> Guess:
    columns = BY_DATASET[dataset].names
    words = _words(field.name)
    whole = "name" if "name" in columns else "user_name" if "user_name" in columns else None
    for part, names in _PARTS.items():
        if whole and words in names:
            return Guess(field, whole, (part,), 0.7, f"a part of {whole}; names are cut at the first blank")
    found = [_fit(column, words, field, dataset) for column in columns]
    score, column, reason = max(found, key=lambda one: one[0])
    if score < _LEAST:
        return Guess(field, None, (), score, f"nothing is called alike; closest is {column}")
    return Guess(field, column, ("strip", "lower") if column in _EMAILS else (), score, reason)


def _fit(column: str, words: str, field: TargetField, dataset: str) -> tuple[float, str, str]:
    own = _words(column)
    if words == own or words == f"aha {own}":
        score, reason = 1.0, f"is called {column} too"
    elif words in _SYNONYMS.get(column, ()) or words.removeprefix("aha ") in _SYNONYMS.get(column, ()):
        score, reason = 0.9, f"is another word for {column}"
    else:
        score, reason = SequenceMatcher(None, words, own).ratio() * 0.8, f"is called much like {column}"
    kind = type_of_arrow(BY_DATASET[dataset].field(column).type)
    if field.type and field.type not in (kind, "string"):
        score, reason = score * 0.7, f"{reason}, but is {field.type} and not {kind}"
    return score, column, reason


def _words(name: str) -> str:
    return " ".join(word.lower() for word in _WORD.findall(name))


def _quoted(text: str) -> str:
    """Return a name as YAML reads it back; a strange one ends neither its line nor its comment."""
    if re.fullmatch(r"[A-Za-z_]\w*", text) and text.lower() not in _FLAGS:
        return text
    return "'" + text.replace("'", "''") + "'" if text.isprintable() else json.dumps(text)


# What YAML would read as a flag or as null.
_FLAGS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
