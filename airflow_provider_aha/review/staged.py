"""People and their roles on the worker's disk, in the order of the page: memory doesn't grow with the account."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from airflow_provider_aha.common.addresses import fold
from airflow_provider_aha.review.people import KEEP, NOT_URGENT, URGENCY, Person, judged_with, sort_name
from airflow_provider_aha.review.population import Access, Role, population
from airflow_provider_aha.store.store import storage_errors

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE given_people (
    urgency INTEGER, is_to_change INTEGER, sort_name TEXT, user_id TEXT, folded_email TEXT, body BLOB
);
CREATE TABLE given_roles (
    user_id TEXT, kind TEXT, workspace_id TEXT, workspace_name TEXT, role_id TEXT, role_name TEXT,
    role_rank INTEGER, is_owner INTEGER
);
CREATE TABLE known (key TEXT PRIMARY KEY) WITHOUT ROWID;
"""
# Null comes last, as in Arrow. Who needs attention comes first, in the order of the reasons.
_ORDER = f"""
CREATE UNIQUE INDEX given_ids ON given_people (user_id);
CREATE TABLE sole_owners AS
    SELECT workspace_id, min(user_id) AS user_id, max(coalesce(nullif(workspace_name, ''), workspace_id)) AS name
    FROM given_roles JOIN given_people USING (user_id) WHERE is_owner
    GROUP BY workspace_id HAVING count(DISTINCT user_id) = 1;
CREATE TABLE judged_people AS
    SELECT *,
        folded_email IN (
            SELECT folded_email FROM given_people WHERE folded_email <> '' GROUP BY folded_email HAVING count(*) > 1
        ) AS is_double,
        user_id IN (SELECT user_id FROM sole_owners) AS is_sole_owner
    FROM given_people;
DROP TABLE given_people;
CREATE TABLE people (place INTEGER PRIMARY KEY, user_id TEXT, is_double INTEGER, is_sole_owner INTEGER, body BLOB);
INSERT INTO people (user_id, is_double, is_sole_owner, body)
    SELECT user_id, is_double, is_sole_owner, body FROM judged_people
    ORDER BY
        min(
            urgency,
            CASE WHEN is_double THEN {URGENCY["same_email"]} ELSE {NOT_URGENT} END,
            CASE WHEN is_sole_owner AND is_to_change THEN {URGENCY["sole_owner"]} ELSE {NOT_URGENT} END
        ),
        sort_name, user_id;
DROP TABLE judged_people;
CREATE UNIQUE INDEX ids ON people (user_id);
CREATE TABLE roles AS
    SELECT place, kind, workspace_id, workspace_name, role_id, role_name, role_rank
    FROM given_roles JOIN people USING (user_id)
    ORDER BY place, workspace_name IS NULL, workspace_name, role_rank IS NULL, role_rank, given_roles.rowid;
DROP TABLE given_roles;
"""  # noqa: S608 - ours
_PEOPLE = "SELECT body, is_double, is_sole_owner FROM people"
_ROLES = "SELECT place, kind, workspace_id, workspace_name, role_id, role_name, role_rank FROM roles ORDER BY rowid"


class Staged:
    """Keeps people, their roles, and the rows of the last review; first all is added, then :meth:`order` is called.

    :param folder: a local folder, which is gone afterwards.
    """

    def __init__(self, folder: Path) -> None:
        self._path = str(folder / "staged.db")
        with self._errors():
            self._database = sqlite3.connect(self._path, isolation_level=None)
            self._database.executescript(_TABLES)

    def _errors(self) -> Any:
        return storage_errors(self._path, sqlite3.Error)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def _insert(self, table: str, width: int, values: Iterable[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" * width)
        with self._errors():
            self._database.execute("BEGIN")
            self._database.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", values)  # noqa: S608 - ours
            self._database.execute("COMMIT")

    def add_people(self, people: Iterable[Person]) -> None:
        """Add people, in whatever order.

        :param people: them.
        """
        self._insert(
            "given_people",
            6,
            (
                (p.urgency, p.suggestion != KEEP, sort_name(p.name), p.user_id, fold(p.email), _encoded(p))
                for p in people
            ),
        )

    def add_roles(self, roles: Iterable[tuple[Any, ...]]) -> None:
        """Add roles, also of users who are none of the people.

        :param roles: as :class:`airflow_provider_aha.review.population.Role`, with the user's id in place of the
            place, and whether the role owns the workspace.
        """
        self._insert("given_roles", 8, roles)

    def add_known(self, keys: Iterable[str]) -> None:
        """Add keys of the last review's rows.

        :param keys: them.
        """
        self._insert("known", 1, ((key,) for key in keys))

    def order(self) -> None:
        """Put those who need attention first, then people by name; and roles in the order of the people."""
        with self._errors():
            self._database.executescript(_ORDER)

    def people(self) -> Iterator[Person]:
        """Yield the people in their order."""
        with self._errors():
            for row in self._database.execute(f"{_PEOPLE} ORDER BY place"):
                yield _decoded(*row)

    def person(self, user_id: str | None) -> Person | None:
        """Return one of the people.

        :param user_id: whom; None is nobody.
        """
        with self._errors():
            row = self._database.execute(f"{_PEOPLE} WHERE user_id = ?", (user_id,)).fetchone()
        return _decoded(*row) if row else None

    def rows(self) -> Iterator[Access]:
        """Yield the population in the order of the people."""
        with self._errors():
            yield from population(self.people(), map(Role._make, self._database.execute(_ROLES)))

    def is_known(self, key: str) -> bool:
        """Tell whether the last review had a row.

        :param key: its key.
        """
        with self._errors():
            return bool(self._database.execute("SELECT 1 FROM known WHERE key = ?", (key,)).fetchone())

    def sole_owned(self) -> list[str]:
        """Name the workspaces that only one of the people owns."""
        with self._errors():
            return [name for (name,) in self._database.execute("SELECT name FROM sole_owners")]


def _encoded(person: Person) -> bytes:
    values = [getattr(person, name) for name in Person.__slots__]
    return orjson.dumps([*values[:-1], sorted(person.flags)])


def _decoded(body: bytes, is_double: int, is_sole_owner: int) -> Person:
    person = Person(*orjson.loads(body))
    person.rights, person.flags = tuple(person.rights), set(person.flags)
    return judged_with(person, same_email=bool(is_double), sole_owner=bool(is_sole_owner))
