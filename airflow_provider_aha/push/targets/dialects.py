"""What databases say differently: names in quotes, types, columns of a table, and writing a batch in one go.

A batch is first put into a temporary table of the session, numbered, and then merged into the table by whole
statements. So the database itself decides, with its own collation, which keys it has already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv as pcsv

from airflow_provider_aha.common.arrow import array_of, values_of
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.push.mapping.spec import INSERT, OMIT, UPDATE, MappingSpec
from airflow_provider_aha.push.targets.base import TargetField

ROW = "aha_row"
STAGE = "aha_stage"


@dataclass(frozen=True)
class Table:
    """A table.

    :param name: its name.
    :param schema: the schema that it is in; None: where the connection looks first.
    """

    name: str
    schema: str | None = None


def parse_table(text: str) -> Table:
    """Read the name of a table.

    :param text: ``table`` or ``schema.table``.
    :raises AhaConfigurationError: when it is none.
    """
    schema, _, name = text.strip().rpartition(".")
    if not name or "\0" in text or "." in schema or (not schema and text.strip().startswith(".")):
        raise AhaConfigurationError("table must be the name of a table: table or schema.table.")
    return Table(name, schema or None)


class Dialect:
    """What any SQL database can do, row by row; the base of those that can do better.

    :param placeholder: how its driver marks a parameter.
    """

    quote = '"'
    types: dict[str, str] = {  # noqa: RUF012 - never changed
        "string": "VARCHAR(4000)",
        "integer": "BIGINT",
        "number": "DOUBLE PRECISION",
        "boolean": "BOOLEAN",
        "date": "DATE",
        "timestamp": "TIMESTAMP",
        "json": "VARCHAR(4000)",
    }

    def __init__(self, placeholder: str) -> None:
        self.placeholder = placeholder

    def name(self, identifier: str) -> str:
        """Quote a name.

        :param identifier: the name.
        """
        return f"{self.quote}{identifier.replace(self.quote, self.quote * 2)}{self.quote}"

    def names(self, identifiers: Sequence[str]) -> str:
        """Quote names, with commas between them.

        :param identifiers: the names.
        """
        return ", ".join(map(self.name, identifiers))

    def table(self, table: Table) -> str:
        """Quote the name of a table.

        :param table: the table.
        """
        return ".".join(self.name(part) for part in (table.schema, table.name) if part)

    def column_type(self, spec: MappingSpec, field: str) -> str:
        """Return the type of a column that holds a field.

        :param spec: the mapping.
        :param field: the field.
        """
        return self.types[spec.field(field).type]

    def create(self, cursor: Any, table: Table, spec: MappingSpec) -> None:
        """Create a table for the records of a mapping.

        :param cursor: a cursor.
        :param table: the table.
        :param spec: the mapping: its sync key is the primary key.
        """
        lines = [
            f"{self.name(one.name)} {self.column_type(spec, one.name)}{' NOT NULL' if one.required else ''}"
            for one in spec.fields
        ]
        lines.append(f"PRIMARY KEY ({self.names(spec.sync_key)})")
        lines += [
            f"UNIQUE ({self.name(one.name)})" for one in spec.fields if one.unique and spec.sync_key != (one.name,)
        ]
        cursor.execute(f"CREATE TABLE {self.table(table)} ({', '.join(lines)}){self._table_options}")

    _table_options = ""

    def connected(self, cursor: Any) -> None:
        """Set up a new session.

        :param cursor: a cursor.
        """

    def prepare(self, cursor: Any, table: Table, spec: MappingSpec) -> None:
        """Make in a new session what writing needs.

        :param cursor: a cursor.
        :param table: the table, which has all fields of the mapping.
        :param spec: the mapping.
        """

    def columns(self, cursor: Any, table: Table) -> list[TargetField] | None:
        """Return the columns of a table, or None when there is no such table.

        :param cursor: a cursor.
        :param table: the table.
        """
        try:
            cursor.execute(f"SELECT * FROM {self.table(table)} WHERE 1 = 0")
        except Exception as error:  # each driver has errors of its own
            if is_a(error, "DatabaseError", "Error"):
                return None
            raise
        return [TargetField(str(column[0])) for column in cursor.description or ()]

    def is_key(self, cursor: Any, table: Table, columns: Sequence[str]) -> bool:
        """Tell whether the table itself keeps the columns unique.

        :param cursor: a cursor.
        :param table: the table.
        :param columns: the columns of the sync key.
        """
        return True

    def existing(self, cursor: Any, table: Table, spec: MappingSpec, records: pa.Table) -> set[int]:
        """Return the positions of the records whose key the table has.

        :param cursor: a cursor.
        :param table: the table.
        :param spec: the mapping.
        :param records: the records.
        """
        where = " AND ".join(f"{self.name(key)} = {self.placeholder}" for key in spec.sync_key)
        query = f"SELECT 1 FROM {self.table(table)} WHERE {where}"
        found = set()
        for position, key in enumerate(self.rows(records.select(list(spec.sync_key)), spec)):
            cursor.execute(query, key)
            if cursor.fetchone() is not None:
                found.add(position)
        return found

    def write(self, cursor: Any, table: Table, spec: MappingSpec, records: pa.Table) -> set[int]:
        """Write records as the mode of the mapping says.

        :param cursor: a cursor; the caller commits.
        :param table: the table.
        :param spec: the mapping.
        :param records: the records.
        :return: the positions of the records whose key the table had before.
        """
        there = self.existing(cursor, table, spec, records)
        names = [one.name for one in spec.fields]
        others = [name for name in names if name not in spec.sync_key]
        marks = ", ".join([self.placeholder] * len(names))
        insert = f"INSERT INTO {self.table(table)} ({self.names(names)}) VALUES ({marks})"
        where = " AND ".join(f"{self.name(key)} = {self.placeholder}" for key in spec.sync_key)
        for position, row in enumerate(self.rows(records, spec)):
            values = dict(zip(names, row, strict=True))
            if position not in there:
                if spec.mode != UPDATE:
                    cursor.execute(insert, row)
                continue
            changed = [name for name in others if values[name] is not None or spec.on_null != OMIT]
            if spec.mode != INSERT and changed:
                sets = ", ".join(f"{self.name(name)} = {self.placeholder}" for name in changed)
                cursor.execute(
                    f"UPDATE {self.table(table)} SET {sets} WHERE {where}",
                    tuple(values[name] for name in (*changed, *spec.sync_key)),
                )
        return there

    def rows(self, records: pa.Table, spec: MappingSpec) -> list[tuple[Any, ...]]:
        """Return records as the driver takes them.

        :param records: the records.
        :param spec: the mapping.
        """
        columns = [self._values(records.column(name), spec.field(name).type) for name in records.column_names]
        return list(zip(*columns, strict=True))

    def _values(self, column: Any, kind: str) -> list[Any]:
        values = values_of(column)
        # Moments are written in UTC, and without a zone: columns that know no zones are the rule.
        return [v and v.replace(tzinfo=None) for v in values] if kind == "timestamp" else values


class Staged(Dialect):
    """A database with temporary tables: a batch is loaded into one, and merged from there."""

    def prepare(self, cursor: Any, table: Table, spec: MappingSpec) -> None:
        """Make the temporary table; see :meth:`Dialect.prepare`."""
        names = self.names([one.name for one in spec.fields])
        cursor.execute(
            f"CREATE TEMPORARY TABLE {self._stage} AS "
            f"SELECT 0 AS {self.name(ROW)}, {names} FROM {self.table(table)} WHERE 1 = 0"
        )

    def write(self, cursor: Any, table: Table, spec: MappingSpec, records: pa.Table) -> set[int]:
        """Write records as the mode of the mapping says; see :meth:`Dialect.write`."""
        self.load(cursor, table, spec, records)
        there = self._found(cursor, table, spec)
        self.merge(cursor, table, spec)
        return there

    def existing(self, cursor: Any, table: Table, spec: MappingSpec, records: pa.Table) -> set[int]:
        """Return the positions of the records whose key the table has; see :meth:`Dialect.existing`."""
        self.load(cursor, table, spec, records)
        return self._found(cursor, table, spec)

    def load(self, cursor: Any, table: Table, spec: MappingSpec, records: pa.Table) -> None:
        """Put records into the temporary table, which is empty before.

        :param cursor: a cursor.
        :param table: the table that they are meant for.
        :param spec: the mapping.
        :param records: the records.
        """
        cursor.execute(f"DELETE FROM {self._stage}")
        names = [ROW, *records.column_names]
        marks = ", ".join([self.placeholder] * len(names))
        rows = [(number, *row) for number, row in enumerate(self.rows(records, spec))]
        cursor.executemany(f"INSERT INTO {self._stage} ({self.names(names)}) VALUES ({marks})", rows)

    def merge(self, cursor: Any, table: Table, spec: MappingSpec) -> None:
        """Bring what is in the temporary table into the table.

        :param cursor: a cursor.
        :param table: the table.
        :param spec: the mapping.
        """
        names = [one.name for one in spec.fields]
        others = [name for name in names if name not in spec.sync_key]
        if spec.mode == UPDATE:
            if others:
                cursor.execute(self.update(table, spec, others))
            return
        insert = (
            f"INSERT INTO {self.table(table)} ({self.names(names)}) SELECT {self.names(names)} FROM {self._stage}"
        )
        conflict = f"ON CONFLICT ({self.names(spec.sync_key)}) DO"
        # SQLite needs the WHERE to tell this ON from that of a join.
        if spec.mode == INSERT or not others:
            cursor.execute(f"{insert} WHERE 1 = 1 {conflict} NOTHING")
        else:
            sets = ", ".join(self._set(table, spec, name, "excluded") for name in others)
            cursor.execute(f"{insert} WHERE 1 = 1 {conflict} UPDATE SET {sets}")

    def update(self, table: Table, spec: MappingSpec, others: Sequence[str]) -> str:
        """Return the statement that changes what is there.

        :param table: the table.
        :param spec: the mapping.
        :param others: the fields beside the sync key.
        """
        sets = ", ".join(self._set(table, spec, name, self._stage) for name in others)
        return f"UPDATE {self.table(table)} SET {sets} FROM {self._stage} WHERE {self._join(table, spec)}"

    @property
    def _stage(self) -> str:
        return self.name(STAGE)

    def _set(self, table: Table, spec: MappingSpec, name: str, source: str) -> str:
        value = f"{source}.{self.name(name)}"
        if spec.on_null == OMIT:
            value = f"COALESCE({value}, {self.table(table)}.{self.name(name)})"
        return f"{self.name(name)} = {value}"

    def _join(self, table: Table, spec: MappingSpec) -> str:
        return " AND ".join(
            f"{self.table(table)}.{self.name(key)} = {self._stage}.{self.name(key)}" for key in spec.sync_key
        )

    def _found(self, cursor: Any, table: Table, spec: MappingSpec) -> set[int]:
        cursor.execute(
            f"SELECT {self.name(ROW)} FROM {self._stage} WHERE EXISTS "
            f"(SELECT 1 FROM {self.table(table)} WHERE {self._join(table, spec)})"
        )
        return {int(row[0]) for row in cursor.fetchall()}

    def _accepts_conflict(self, cursor: Any, table: Table, columns: Sequence[str]) -> bool:
        """Ask the database to plan an upsert, which it refuses where nothing keeps the key unique."""
        names = self.names(columns)
        try:
            cursor.execute(
                f"EXPLAIN INSERT INTO {self.table(table)} ({names}) SELECT {names} FROM {self.table(table)} "
                f"WHERE 1 = 0 ON CONFLICT ({names}) DO NOTHING"
            )
            cursor.fetchall()
        except Exception as error:
            # PostgreSQL has a code for it, SQLite has words only.
            code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
            if code == "42P10" or "ON CONFLICT clause does not match" in str(error):
                return False
            raise
        return True


class Postgres(Staged):
    """PostgreSQL, and what speaks like it: a batch is loaded by COPY."""

    types = {  # noqa: RUF012
        "string": "text",
        "integer": "bigint",
        "number": "double precision",
        "boolean": "boolean",
        "date": "date",
        "timestamp": "timestamp with time zone",
        "json": "jsonb",
    }
    _kinds = {  # noqa: RUF012
        "text": "string",
        "character varying": "string",
        "uuid": "string",
        "bigint": "integer",
        "integer": "integer",
        "smallint": "integer",
        "double precision": "number",
        "numeric": "number",
        "real": "number",
        "boolean": "boolean",
        "date": "date",
        "timestamp with time zone": "timestamp",
        "timestamp without time zone": "timestamp",
        "jsonb": "json",
        "json": "json",
    }

    def columns(self, cursor: Any, table: Table) -> list[TargetField] | None:
        """Return the columns of a table; see :meth:`Dialect.columns`."""
        cursor.execute("SELECT to_regclass(%s)", (self.table(table),))
        if cursor.fetchone()[0] is None:
            return None
        cursor.execute(
            "SELECT attname, split_part(format_type(atttypid, NULL), '[', 1), "
            "attnotnull AND NOT atthasdef AND attidentity = '' FROM pg_attribute "
            "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            (self.table(table),),
        )
        return [TargetField(name, self._kinds.get(kind), required) for name, kind, required in cursor.fetchall()]

    def is_key(self, cursor: Any, table: Table, columns: Sequence[str]) -> bool:
        """Tell whether a unique index holds the sync key; see :meth:`Dialect.is_key`."""
        return self._accepts_conflict(cursor, table, columns)

    def prepare(self, cursor: Any, table: Table, spec: MappingSpec) -> None:
        """Do nothing: each batch makes a temporary table of its own."""

    def load(self, cursor: Any, table: Table, spec: MappingSpec, records: pa.Table) -> None:
        """Put records into the temporary table; see :meth:`Staged.load`.

        The table goes with the transaction, so that a pooler that gives the session to somebody else does no harm.
        """
        names = records.column_names
        cursor.execute(
            f"CREATE TEMPORARY TABLE {self._stage} ON COMMIT DROP AS "
            f"SELECT 0 AS {self.name(ROW)}, {self.names(names)} FROM {self.table(table)} WITH NO DATA"
        )
        numbers = array_of(list(range(records.num_rows)), pa.int32())
        numbered = records.add_column(0, ROW, numbers)
        sink = pa.BufferOutputStream()
        pcsv.write_csv(numbered, sink, pcsv.WriteOptions(include_header=False))
        copy = f"COPY {self._stage} ({self.names([ROW, *names])}) FROM STDIN (FORMAT csv)"
        _copy(cursor, copy, sink.getvalue())


def _copy(cursor: Any, statement: str, body: pa.Buffer) -> None:
    if hasattr(cursor, "copy_expert"):
        cursor.copy_expert(statement, pa.BufferReader(body))
        return
    with cursor.copy(statement) as copy:
        copy.write(memoryview(body))


class MySql(Staged):
    """MySQL and MariaDB.

    ON DUPLICATE KEY UPDATE is not used: it fires on every unique index, so that a new user with an email that
    another one has would overwrite that one's row. An update by the sync key, and an insert of what isn't there,
    reject such a record.
    """

    quote = "`"
    types = {  # noqa: RUF012
        "string": "TEXT",
        "integer": "BIGINT",
        "number": "DOUBLE",
        "boolean": "BOOLEAN",
        "date": "DATE",
        "timestamp": "DATETIME(3)",
        "json": "JSON",
    }
    _kinds = {  # noqa: RUF012
        **dict.fromkeys(("char", "varchar", "tinytext", "text", "mediumtext", "longtext"), "string"),
        **dict.fromkeys(("smallint", "mediumint", "int", "bigint"), "integer"),
        **dict.fromkeys(("float", "double", "decimal"), "number"),
        "tinyint": "boolean",
        "date": "date",
        "datetime": "timestamp",
        "timestamp": "timestamp",
        "json": "json",
    }
    # Keys compare byte by byte, as the mapping does when it looks for values that come twice.
    _table_options = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"

    def column_type(self, spec: MappingSpec, field: str) -> str:
        """Return the type of a column; one with an index must have a length."""
        one = spec.field(field)
        indexed = one.unique or field in spec.sync_key
        return "VARCHAR(255)" if indexed and one.type == "string" else super().column_type(spec, field)

    def connected(self, cursor: Any) -> None:
        """Set up a new session: nothing is cut to fit, and moments are in UTC."""
        cursor.execute("SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'), time_zone = '+00:00'")

    def columns(self, cursor: Any, table: Table) -> list[TargetField] | None:
        """Return the columns of a table; see :meth:`Dialect.columns`."""
        cursor.execute(
            "SELECT column_name, data_type, is_nullable = 'NO' AND column_default IS NULL "
            "AND extra NOT LIKE '%%auto_increment%%' AND extra NOT LIKE '%%GENERATED%%' "
            "FROM information_schema.columns "
            "WHERE table_schema = COALESCE(%s, DATABASE()) AND table_name = %s ORDER BY ordinal_position",
            (table.schema, table.name),
        )
        rows = cursor.fetchall()
        return [TargetField(n, self._kinds.get(str(k).lower()), bool(r)) for n, k, r in rows] if rows else None

    def is_key(self, cursor: Any, table: Table, columns: Sequence[str]) -> bool:
        """Tell whether a unique index holds the sync key; see :meth:`Dialect.is_key`."""
        cursor.execute(
            "SELECT index_name, column_name FROM information_schema.statistics WHERE non_unique = 0 "
            "AND table_schema = COALESCE(%s, DATABASE()) AND table_name = %s",
            (table.schema, table.name),
        )
        indexes: dict[str, set[str]] = {}
        for index, column in cursor.fetchall():
            indexes.setdefault(index, set()).add(str(column).lower())
        return {column.lower() for column in columns} in indexes.values()

    def merge(self, cursor: Any, table: Table, spec: MappingSpec) -> None:
        """Bring what is in the temporary table into the table; see :meth:`Staged.merge`."""
        names = [one.name for one in spec.fields]
        others = [name for name in names if name not in spec.sync_key]
        if spec.mode != INSERT and others:
            cursor.execute(self.update(table, spec, others))
        if spec.mode != UPDATE:
            cursor.execute(
                f"INSERT INTO {self.table(table)} ({self.names(names)}) "
                f"SELECT {self.names(names)} FROM {self._stage} WHERE NOT EXISTS "
                f"(SELECT 1 FROM {self.table(table)} WHERE {self._join(table, spec)})"
            )

    def update(self, table: Table, spec: MappingSpec, others: Sequence[str]) -> str:
        """Return the statement that changes what is there; see :meth:`Staged.update`."""
        sets = ", ".join(f"{self.table(table)}.{self._set(table, spec, name, self._stage)}" for name in others)
        return f"UPDATE {self.table(table)} JOIN {self._stage} ON {self._join(table, spec)} SET {sets}"

    def _values(self, column: Any, kind: str) -> list[Any]:
        values = values_of(column)
        if kind == "timestamp":
            return [v and v.strftime("%Y-%m-%d %H:%M:%S.%f") for v in values]
        return values


class Sqlite(Staged):
    """SQLite."""

    types = {  # noqa: RUF012
        "string": "TEXT",
        "integer": "INTEGER",
        "number": "REAL",
        "boolean": "BOOLEAN",
        "date": "DATE",
        "timestamp": "TIMESTAMP",
        "json": "TEXT",
    }
    _kinds = {  # noqa: RUF012
        **dict.fromkeys(("text", "varchar", "char", "clob"), "string"),
        **dict.fromkeys(("integer", "int", "bigint", "smallint"), "integer"),
        **dict.fromkeys(("real", "double", "float", "numeric", "decimal"), "number"),
        "boolean": "boolean",
        "date": "date",
        **dict.fromkeys(("timestamp", "datetime"), "timestamp"),
        "json": "json",
    }

    def columns(self, cursor: Any, table: Table) -> list[TargetField] | None:
        """Return the columns of a table; see :meth:`Dialect.columns`."""
        schema = f"{self.name(table.schema)}." if table.schema else ""
        cursor.execute(f"PRAGMA {schema}table_info({self.name(table.name)})")
        rows = cursor.fetchall()
        if not rows:
            return None
        return [
            # An integer primary key is given a value by the database.
            TargetField(row[1], self._kinds.get(_word(row[2])), bool(row[3]) and row[4] is None and not row[5])
            for row in rows
        ]

    def is_key(self, cursor: Any, table: Table, columns: Sequence[str]) -> bool:
        """Tell whether a unique index holds the sync key; see :meth:`Dialect.is_key`."""
        return self._accepts_conflict(cursor, table, columns)

    def _values(self, column: Any, kind: str) -> list[Any]:
        values = values_of(column)
        if kind == "timestamp":
            return [v and v.strftime("%Y-%m-%d %H:%M:%S.%f") for v in values]
        return [v and v.isoformat() for v in values] if kind == "date" else values


def _word(declared: str) -> str:
    return declared.partition("(")[0].strip().lower()


DIALECTS: dict[str, Callable[[str], Dialect]] = {
    "postgresql": Postgres,
    "mysql": MySql,
    "mariadb": MySql,
    "sqlite": Sqlite,
}


def is_a(error: BaseException, *names: str) -> bool:
    """Tell whether an error of a driver is of a class of PEP 249, which each driver defines anew.

    :param error: the error.
    :param names: names of classes, such as ``IntegrityError``.
    """
    return any(cls.__name__ in names for cls in type(error).__mro__)
