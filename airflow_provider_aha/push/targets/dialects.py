"""What databases say differently: names in quotes, types, columns of a table, and writing a batch in one go.

A batch is first put into a temporary table of the session, numbered, and then merged into the table by whole
statements. So the database itself decides, with its own collation, which keys it has already.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv as pcsv

from airflow_provider_aha.common.arrow import array_of, values_of
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.push.mapping.spec import INSERT, OMIT, UPDATE, MappingSpec
from airflow_provider_aha.push.targets.base import BatchRefusedError, TargetField

ROW = "aha_row"
STAGE = "aha_stage"
KEYS = "aha_keys"
# Why a table can't be written by the sync key.
NOTHING_UNIQUE = "nothing keeps it unique there, so rows could double: create a unique index on the sync key"
DEFERRABLE = "its unique constraint is deferrable, and an upsert takes no such constraint: make it NOT DEFERRABLE"
PREFIX = (
    "its unique index holds only the first {} characters, so that two keys that begin alike would be one: create a "
    "unique index on the whole column"
)
NOT_WRITABLE = (
    "{} is none of the databases that a push writes to: PostgreSQL, MySQL, MariaDB and SQLite. Load the landed "
    'Parquet files into it: the page "Into your warehouse" (docs/push/warehouse.md) says how.'
)
_NOT_WRITTEN = "the database wrote no row and gave no reason: a trigger, a rule or a policy keeps it out"


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


@dataclass(frozen=True)
class KeyFacts:
    """How a table tells one sync key from another.

    :param fault: why nothing keeps the sync key unique, as the end of a sentence; None: the table does.
    :param comparisons: the ways in which it compares keys, each as SQL expressions of the columns of the sync key:
        equal in all of one, two keys are the same.
    :param spelled: the columns in which equal values may be spelled differently.
    """

    fault: str | None
    comparisons: tuple[tuple[str, ...], ...]
    spelled: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """One part of a unique index.

    :param columns: the columns that the whole index is made of, in lower case.
    :param expression: what it holds, as SQL.
    :param is_plain: whether that is a whole column, compared as the column itself is.
    """

    columns: frozenset[str]
    expression: str
    is_plain: bool


class Dialect(ABC):
    """A SQL database with temporary tables: a batch is loaded into one, and merged from there.

    :param placeholder: how its driver marks a parameter.
    """

    quote = '"'
    types: dict[str, str]
    # Whether rows that are there are always changed by a statement of their own, before others are added.
    updates_first = False
    # Whether the driver counts the rows that an UPDATE was about, and not those that it made different.
    counts_updates = True
    # What a statement says of a row that breaks a constraint, where a table may have said otherwise.
    on_conflict = ""

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

    def connected(self, cursor: Any) -> None:  # noqa: B027 - nothing to do for some
        """Set up a new session.

        :param cursor: a cursor.
        """

    @abstractmethod
    def columns(self, cursor: Any, table: Table) -> list[TargetField] | None:
        """Return the columns of a table, or None when there is no such table.

        :param cursor: a cursor.
        :param table: the table.
        """

    @abstractmethod
    def key_facts(self, cursor: Any, table: Table, columns: Sequence[str]) -> KeyFacts:
        """Ask the database how the table tells one sync key from another.

        :param cursor: a cursor.
        :param table: the table.
        :param columns: the columns of the sync key.
        """

    def _comparisons(
        self, columns: Sequence[str], indexes: Iterable[Sequence[_Part]]
    ) -> tuple[tuple[str, ...], ...]:
        """Return the columns as they are, and what unique indexes make of nothing but them."""
        own = _lower(columns)
        found = [tuple(map(self.name, columns))]
        for parts in indexes:
            whole = parts[0].columns == own and all(part.is_plain for part in parts)
            if parts[0].columns <= own and not whole:
                found.append(tuple(part.expression for part in parts))
        return tuple(dict.fromkeys(found))

    # --- keys that the database takes for the same ---------------------------------------------------

    def begin_keys(self, cursor: Any, table: Table, columns: Sequence[str]) -> None:
        """Empty the temporary table for keys, whose columns compare as those of the table do.

        :param cursor: a cursor.
        :param table: the table.
        :param columns: the columns of the sync key.
        """
        cursor.execute(f"DELETE FROM {self.name(KEYS)}")

    def load_keys(self, cursor: Any, spec: MappingSpec, keys: pa.Table, start: int) -> None:
        """Add keys to the temporary table.

        :param cursor: a cursor.
        :param spec: the mapping.
        :param keys: the columns of the sync key of some records.
        :param start: the number of the first of these records.
        """
        self._fill(cursor, KEYS, spec, keys, start)

    def same_keys(
        self, cursor: Any, table: Table, columns: Sequence[str], facts: KeyFacts
    ) -> Iterator[tuple[int, ...]]:
        """Yield the numbers of the records whose keys the database takes for the same, a group at a time.

        :param cursor: a cursor.
        :param table: the table.
        :param columns: the columns of the sync key.
        :param facts: how the table compares keys.
        """
        source = self._keys_source(table, columns)
        for comparison in facts.comparisons:
            by = ", ".join(comparison)
            # Nearly always there is none, and grouping is cheaper than what finds all of a group.
            cursor.execute(f"SELECT 1 FROM {source} GROUP BY {by} HAVING COUNT(*) > 1 LIMIT 1")
            if not cursor.fetchall():
                continue
            row = self.name(ROW)
            cursor.execute(
                f"SELECT first_row, {row} FROM (SELECT {row}, MIN({row}) OVER (PARTITION BY {by}) AS first_row, "
                f"COUNT(*) OVER (PARTITION BY {by}) AS rows_alike FROM {source}) AS numbered WHERE rows_alike > 1"
            )
            groups: dict[int, list[int]] = {}
            for first, number in cursor.fetchall():
                groups.setdefault(int(first), []).append(int(number))
            yield from map(tuple, groups.values())

    def keys_there(
        self, cursor: Any, table: Table, columns: Sequence[str], facts: KeyFacts
    ) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield records whose key the table has with another spelling: number, and the table's spelling.

        :param cursor: a cursor.
        :param table: the table.
        :param columns: the columns of the sync key.
        :param facts: how the table compares keys.
        """
        if not facts.spelled:
            return
        names = self.names(columns)
        differs = " OR ".join(
            f"{self._bytes(f'there.{self.name(one)}')} <> {self._bytes(f'sent.{self.name(one)}')}"
            for one in facts.spelled
        )
        wanted = ", ".join(f"there.{self.name(one)}" for one in facts.spelled)
        for comparison in facts.comparisons:
            parts = ", ".join(f"{part} AS part_{number}" for number, part in enumerate(comparison))
            join = " AND ".join(f"there.part_{n} = sent.part_{n}" for n in range(len(comparison)))
            cursor.execute(
                f"SELECT sent.{self.name(ROW)}, {wanted} FROM "
                f"(SELECT {self.name(ROW)}, {names}, {parts} FROM {self.name(KEYS)}) AS sent JOIN "
                f"(SELECT {names}, {parts} FROM {self.table(table)}) AS there ON {join} WHERE {differs}"
            )
            for number, *spelling in cursor.fetchall():
                yield int(number), dict(zip(facts.spelled, map(str, spelling), strict=True))

    def _keys_source(self, table: Table, columns: Sequence[str]) -> str:
        return self.name(KEYS)

    @abstractmethod
    def _bytes(self, expression: str) -> str:
        """Return an expression that differs wherever the spelling does."""

    # --- writing -------------------------------------------------------------------------------------

    def prepare(self, cursor: Any, table: Table, spec: MappingSpec) -> None:
        """Make in a new session what writing needs.

        :param cursor: a cursor.
        :param table: the table, which has all fields of the mapping.
        :param spec: the mapping.
        """
        cursor.execute(self._create(STAGE, table, [one.name for one in spec.fields]))
        cursor.execute(self._create(KEYS, table, spec.sync_key))

    def existing(self, cursor: Any, table: Table, spec: MappingSpec, records: pa.Table) -> set[int]:
        """Return the positions of the records whose key the table has.

        :param cursor: a cursor.
        :param table: the table.
        :param spec: the mapping.
        :param records: the records.
        """
        self.load(cursor, table, spec, records)
        return set(self._found(cursor, table, spec))

    def write(self, cursor: Any, table: Table, spec: MappingSpec, records: pa.Table) -> set[int]:
        """Write records as the mode of the mapping says.

        :param cursor: a cursor; the caller commits.
        :param table: the table.
        :param spec: the mapping.
        :param records: the records.
        :return: the positions of the records whose key the table had before.
        :raises BatchRefusedError: when the database wrote fewer rows than it was given.
        """
        self.load(cursor, table, spec, records)
        there = self._found(cursor, table, spec)
        self._merge(cursor, table, spec, old=sum(there.values()), new=records.num_rows - len(there))
        return set(there)

    def load(self, cursor: Any, table: Table, spec: MappingSpec, records: pa.Table) -> None:
        """Put records into the temporary table, which is empty before.

        :param cursor: a cursor.
        :param table: the table that they are meant for.
        :param spec: the mapping.
        :param records: the records.
        """
        cursor.execute(f"DELETE FROM {self._stage}")
        self._fill(cursor, STAGE, spec, records, 0)

    def _create(self, stage: str, table: Table, names: Sequence[str]) -> str:
        return (
            f"CREATE TEMPORARY TABLE {self.name(stage)} AS "
            f"SELECT 0 AS {self.name(ROW)}, {self.names(names)} FROM {self.table(table)} WHERE 1 = 0"
        )

    def _fill(self, cursor: Any, stage: str, spec: MappingSpec, records: pa.Table, start: int) -> None:
        names = [ROW, *records.column_names]
        marks = ", ".join([self.placeholder] * len(names))
        rows = [(number, *row) for number, row in enumerate(self.rows(records, spec), start)]
        cursor.executemany(f"INSERT INTO {self.name(stage)} ({self.names(names)}) VALUES ({marks})", rows)

    def _merge(self, cursor: Any, table: Table, spec: MappingSpec, old: int, new: int) -> None:
        """Bring what is in the temporary table into the table.

        :param old: how many rows of the table it is about.
        :param new: how many of its records the table doesn't have.
        """
        names = [one.name for one in spec.fields]
        others = [name for name in names if name not in spec.sync_key]
        # A row that lacks a value may not be insertable, and yet be good for changing the one that is there.
        apart = self.updates_first or spec.on_null == OMIT
        if others and (spec.mode == UPDATE or (apart and spec.mode != INSERT)):
            self._write(cursor, self.update(table, spec, others), old if self.counts_updates else 0)
        if spec.mode == UPDATE:
            return
        in_one = not (apart or spec.mode == INSERT) and bool(others)
        self._write(cursor, self.insert(table, spec, names, others, in_one=in_one), new + old * in_one)

    def _write(self, cursor: Any, statement: str, rows: int) -> None:
        """Execute a statement that must write so many rows: what a trigger leaves out is no error to a database."""
        cursor.execute(statement)
        if cursor.rowcount < rows:
            raise BatchRefusedError(_NOT_WRITTEN)

    def insert(
        self, table: Table, spec: MappingSpec, names: Sequence[str], others: Sequence[str], *, in_one: bool
    ) -> str:
        """Return the statement that adds what isn't there.

        :param table: the table.
        :param spec: the mapping.
        :param names: all fields.
        :param others: the fields beside the sync key.
        :param in_one: whether it changes what is there, too.
        """
        absent = f"NOT EXISTS (SELECT 1 FROM {self.table(table)} WHERE {self._join(table, spec)})"
        # SQLite needs a WHERE in any case, to tell ON CONFLICT from the ON of a join.
        new = "1 = 1" if in_one else absent
        return (
            f"INSERT{self.on_conflict} INTO {self.table(table)} ({self.names(names)}) "
            f"SELECT {self.names(names)} FROM {self._stage} WHERE {new}{self._conflict(table, spec, others)}"
        )

    def _conflict(self, table: Table, spec: MappingSpec, others: Sequence[str]) -> str:
        """Return what is to be done with a row that is there, or that somebody else adds in this moment."""
        conflict = f" ON CONFLICT ({self.names(spec.sync_key)}) DO"
        if spec.mode == INSERT or not others:
            return f"{conflict} NOTHING"
        return f"{conflict} UPDATE SET {', '.join(self._set(table, spec, name, 'excluded') for name in others)}"

    def update(self, table: Table, spec: MappingSpec, others: Sequence[str]) -> str:
        """Return the statement that changes what is there.

        :param table: the table.
        :param spec: the mapping.
        :param others: the fields beside the sync key.
        """
        sets = ", ".join(self._set(table, spec, name, self._stage) for name in others)
        return (
            f"UPDATE{self.on_conflict} {self.table(table)} SET {sets} FROM {self._stage} "
            f"WHERE {self._join(table, spec)}"
        )

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

    def _found(self, cursor: Any, table: Table, spec: MappingSpec) -> dict[int, int]:
        """Return how many rows the table has for each record, by its position; those without any are not in it."""
        row = f"{self._stage}.{self.name(ROW)}"
        cursor.execute(
            f"SELECT {row}, COUNT(*) FROM {self._stage} JOIN {self.table(table)} ON {self._join(table, spec)} "
            f"GROUP BY {row}"
        )
        return {int(number): int(count) for number, count in cursor.fetchall()}

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


class Postgres(Dialect):
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

    def connected(self, cursor: Any) -> None:
        """Refuse what speaks like PostgreSQL and keeps nothing unique."""
        cursor.execute("SELECT version()")
        if "Redshift" in str(cursor.fetchone()[0]):
            raise AhaConfigurationError(NOT_WRITABLE.format("Amazon Redshift"))

    def key_facts(self, cursor: Any, table: Table, columns: Sequence[str]) -> KeyFacts:
        """Ask the database how the table tells one sync key from another; see :meth:`Dialect.key_facts`."""
        cursor.execute(_POSTGRES_INDEXES, (self.table(table),))
        is_deferrable = False
        indexes: dict[int, list[_Part]] = {}
        for index, is_immediate, part_of, expression, is_plain in cursor.fetchall():
            parts = indexes.setdefault(index, [])
            parts.append(_Part(frozenset(map(str.lower, part_of)), expression, is_plain))
            is_deferrable |= not is_immediate and parts[0].columns == _lower(columns)
        cursor.execute(
            "SELECT attname, typname IN ('text', 'varchar', 'bpchar') AND collisdeterministic "
            "FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid "
            "JOIN pg_collation ON pg_collation.oid = attcollation "
            "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
            (self.table(table),),
        )
        is_exact = {str(name).lower(): exact for name, exact in cursor.fetchall()}
        comparisons = self._comparisons(columns, indexes.values())
        # Equal texts of these types and collations are the same bytes, by PostgreSQL's own definition.
        texts = [one for one in columns if one.lower() in is_exact]
        spelled = [one for one in texts if len(comparisons) > 1 or not is_exact[one.lower()]]
        # Last, for the transaction is over when the answer is no.
        fault = None if self._accepts_conflict(cursor, table, columns) else NOTHING_UNIQUE
        return KeyFacts(DEFERRABLE if is_deferrable else fault, comparisons, tuple(spelled))

    def _bytes(self, expression: str) -> str:
        return f'{expression}::text COLLATE "C"'

    def prepare(self, cursor: Any, table: Table, spec: MappingSpec) -> None:
        """Do nothing: each transaction makes temporary tables of its own.

        They go with it, so that a pooler that gives the session to somebody else does no harm.
        """

    def begin_keys(self, cursor: Any, table: Table, columns: Sequence[str]) -> None:
        """Make the temporary table for keys; see :meth:`Dialect.begin_keys`."""
        cursor.execute(self._create(KEYS, table, columns))

    def load(self, cursor: Any, table: Table, spec: MappingSpec, records: pa.Table) -> None:
        """Put records into the temporary table; see :meth:`Dialect.load`."""
        cursor.execute(self._create(STAGE, table, records.column_names))
        self._fill(cursor, STAGE, spec, records, 0)

    def _create(self, stage: str, table: Table, names: Sequence[str]) -> str:
        return (
            f"CREATE TEMPORARY TABLE {self.name(stage)} ON COMMIT DROP AS "
            f"SELECT 0 AS {self.name(ROW)}, {self.names(names)} FROM {self.table(table)} WITH NO DATA"
        )

    def _fill(self, cursor: Any, stage: str, spec: MappingSpec, records: pa.Table, start: int) -> None:
        numbers = array_of(list(range(start, start + records.num_rows)), pa.int32())
        numbered = records.add_column(0, ROW, numbers)
        sink = pa.BufferOutputStream()
        pcsv.write_csv(numbered, sink, pcsv.WriteOptions(include_header=False))
        names = self.names(numbered.column_names)
        _copy(cursor, f"COPY {self.name(stage)} ({names}) FROM STDIN (FORMAT csv)", sink.getvalue())


# The unique indexes of a table, and of the tables below a view: one row per part of each.
_POSTGRES_INDEXES = """
    WITH RECURSIVE relations (oid) AS (
        SELECT to_regclass(%s)::oid
        UNION
        SELECT d.refobjid FROM relations
        JOIN pg_rewrite w ON w.ev_class = relations.oid
        JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
            AND d.refclassid = 'pg_class'::regclass
    ), indexes AS (
        SELECT i.*, ARRAY(
            SELECT a.attname::text FROM pg_attribute a
            WHERE a.attrelid = i.indrelid AND a.attnum > 0
            AND a.attnum <> ALL ((i.indkey::int2[])[i.indnkeyatts:])
            AND (a.attnum = ANY (i.indkey::int2[]) OR EXISTS (
                SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum))
        ) AS part_of
        FROM relations JOIN pg_index i ON i.indrelid = relations.oid
        WHERE i.indisunique AND i.indisvalid AND i.indpred IS NULL
    )
    SELECT i.indexrelid::int8, i.indimmediate, i.part_of,
        pg_get_indexdef(i.indexrelid, n, false)
            || COALESCE(' COLLATE ' || quote_ident(s.nspname) || '.' || quote_ident(c.collname), ''),
        a.attnum IS NOT NULL AND a.attcollation = i.indcollation[n - 1]
    FROM indexes i
    CROSS JOIN LATERAL generate_series(1, i.indnkeyatts) AS n
    LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[n - 1] AND a.attnum > 0
    LEFT JOIN pg_collation c ON c.oid = i.indcollation[n - 1]
    LEFT JOIN pg_namespace s ON s.oid = c.collnamespace
    ORDER BY i.indexrelid, n
"""


def _copy(cursor: Any, statement: str, body: pa.Buffer) -> None:
    if hasattr(cursor, "copy_expert"):
        cursor.copy_expert(statement, pa.BufferReader(body))
        return
    with cursor.copy(statement) as copy:
        copy.write(memoryview(body))


class MySql(Dialect):
    """MySQL and MariaDB.

    ON DUPLICATE KEY UPDATE is not used: it fires on every unique index, so that a new user with an email that
    another one has would overwrite that one's row. An update by the sync key, and an insert of what isn't there,
    reject such a record.
    """

    quote = "`"
    updates_first = True
    # It counts rows that are different afterwards; nothing in MySQL leaves one out without an error.
    counts_updates = False
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

    def key_facts(self, cursor: Any, table: Table, columns: Sequence[str]) -> KeyFacts:
        """Ask the database how the table tells one sync key from another; see :meth:`Dialect.key_facts`."""
        where = "WHERE table_schema = COALESCE(%s, DATABASE()) AND table_name = %s"
        cursor.execute(
            f"SELECT index_name, column_name, sub_part FROM information_schema.statistics {where} "
            "AND non_unique = 0 ORDER BY index_name, seq_in_index",
            (table.schema, table.name),
        )
        names: dict[str, list[tuple[str, int | None]]] = {}
        for index, column, length in cursor.fetchall():
            names.setdefault(index, []).append((str(column), length))
        indexes = []
        fault: str | None = NOTHING_UNIQUE
        for parts in names.values():
            part_of = _lower([column for column, _ in parts])
            indexes.append([_Part(part_of, self._beginning(*part), part[1] is None) for part in parts])
            if part_of == _lower(columns):
                length = next((length for _, length in parts if length is not None), None)
                if length is None:
                    fault = None
                elif fault == NOTHING_UNIQUE:
                    fault = PREFIX.format(length)
        cursor.execute(
            f"SELECT column_name FROM information_schema.columns {where} AND collation_name IS NOT NULL",
            (table.schema, table.name),
        )
        texts = _lower([str(row[0]) for row in cursor.fetchall()])
        spelled = tuple(one for one in columns if one.lower() in texts)
        return KeyFacts(fault, self._comparisons(columns, indexes), spelled)

    def _beginning(self, column: str, length: int | None) -> str:
        return self.name(column) if length is None else f"LEFT({self.name(column)}, {length})"

    def _bytes(self, expression: str) -> str:
        return f"CAST({expression} AS BINARY)"

    def _create(self, stage: str, table: Table, names: Sequence[str]) -> str:
        # What an outer join may leave out can be null, whatever the table says of it.
        return (
            f"CREATE TEMPORARY TABLE {self.name(stage)} AS SELECT 0 AS {self.name(ROW)}, {self.names(names)} "
            f"FROM (SELECT 1 AS one) AS nothing LEFT JOIN {self.table(table)} ON 1 = 0 WHERE 1 = 0"
        )

    def _conflict(self, table: Table, spec: MappingSpec, others: Sequence[str]) -> str:
        return ""

    def update(self, table: Table, spec: MappingSpec, others: Sequence[str]) -> str:
        """Return the statement that changes what is there; see :meth:`Dialect.update`."""
        sets = ", ".join(f"{self.table(table)}.{self._set(table, spec, name, self._stage)}" for name in others)
        return f"UPDATE {self.table(table)} JOIN {self._stage} ON {self._join(table, spec)} SET {sets}"

    def _values(self, column: Any, kind: str) -> list[Any]:
        values = values_of(column)
        if kind == "timestamp":
            return [v and v.strftime("%Y-%m-%d %H:%M:%S.%f") for v in values]
        return values


class Sqlite(Dialect):
    """SQLite."""

    # A constraint may say REPLACE, which deletes the other row, or IGNORE: neither is meant.
    on_conflict = " OR ABORT"

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

    def key_facts(self, cursor: Any, table: Table, columns: Sequence[str]) -> KeyFacts:
        """Ask the database how the table tells one sync key from another; see :meth:`Dialect.key_facts`."""
        fault = None if self._accepts_conflict(cursor, table, columns) else NOTHING_UNIQUE
        schema = f"{self.name(table.schema)}." if table.schema else ""
        cursor.execute(f"PRAGMA {schema}index_list({self.name(table.name)})")
        unique = [row[1] for row in cursor.fetchall() if row[2] and not row[4]]
        indexes = []
        for index in unique:
            cursor.execute(f"PRAGMA {schema}index_xinfo({self.name(index)})")
            parts = [(row[2], row[4]) for row in cursor.fetchall() if row[5]]
            # A part without a name is an expression, which only SQLite can tell of.
            part_of = _lower([name or "" for name, _ in parts])
            indexes.append(
                [
                    _Part(part_of, f"{self.name(name or '')} COLLATE {self.name(how)}", how.upper() == "BINARY")
                    for name, how in parts
                ]
            )
        return KeyFacts(fault, self._comparisons(columns, indexes), tuple(columns))

    def _bytes(self, expression: str) -> str:
        return f"{expression} COLLATE BINARY"

    def _keys_source(self, table: Table, columns: Sequence[str]) -> str:
        # A temporary table has the columns' types and not their collations; of a union, those of the first part
        # count.
        row, names = self.name(ROW), self.names(columns)
        return (
            f"(SELECT 0 AS {row}, {names} FROM {self.table(table)} WHERE 1 = 0 "
            f"UNION ALL SELECT {row}, {names} FROM {self.name(KEYS)}) AS keys"
        )

    def _values(self, column: Any, kind: str) -> list[Any]:
        values = values_of(column)
        if kind == "timestamp":
            return [v and v.strftime("%Y-%m-%d %H:%M:%S.%f") for v in values]
        return [v and v.isoformat() for v in values] if kind == "date" else values


def _lower(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.lower() for name in names)


def _word(declared: str) -> str:
    return declared.partition("(")[0].strip().lower()


# By the type of Airflow's connection.
DIALECTS: dict[str, Callable[[str], Dialect]] = {"postgres": Postgres, "mysql": MySql, "sqlite": Sqlite}


def is_a(error: BaseException, *names: str) -> bool:
    """Tell whether an error of a driver is of a class of PEP 249, which each driver defines anew.

    :param error: the error.
    :param names: names of classes, such as ``IntegrityError``.
    """
    return any(cls.__name__ in names for cls in type(error).__mro__)
