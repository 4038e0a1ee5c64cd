"""A table of a SQL database as target: one transaction per batch, and only the mapped columns are written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from airflow_provider_aha.exceptions import AhaConfigurationError, AhaPermissionError, AhaTargetError
from airflow_provider_aha.push.mapping.spec import INSERT, UPDATE, MappingSpec
from airflow_provider_aha.push.targets.base import (
    ADDED,
    SKIPPED,
    UNCHANGED,
    UPDATED,
    Answer,
    Batch,
    BatchRefusedError,
    SameKeys,
    SendAgainError,
    Target,
    TargetField,
)
from airflow_provider_aha.push.targets.dialects import DIALECTS, Dialect, KeyFacts, is_a, parse_table

# By SQLSTATE: the data is to blame, or a trigger or view doesn't want it; another try may do; a right is missing.
_REFUSED = re.compile(r"2[23]|44|54|P0001")
_BUSY = re.compile(r"08|40|53|55P03|57P|HYT00")
_FORBIDDEN = re.compile(r"28|42501")
# MySQL's numbers, which its SQLSTATE says little about.
_MYSQL_REFUSED = {1048, 1062, 1264, 1265, 1292, 1366, 1369, 1406, 1452, 1644, 3140, 3819, 4025}
_MYSQL_BUSY = {1040, 1158, 1159, 1160, 1161, 1205, 1213, 2002, 2003, 2006, 2013, 2055}
_MYSQL_FORBIDDEN = {1044, 1045, 1142, 1143, 1227}
# SQLite has names in place of a SQLSTATE; what isn't among these is wrong with the file.
_SQLITE_BUSY = re.compile(r"SQLITE_(BUSY|LOCKED)")
_SQLITE_REFUSED = re.compile(r"SQLITE_(CONSTRAINT|MISMATCH|TOOBIG)")
_REASON = 500


class SqlTarget(Target):
    """Writes to a table.

    :param connect: opens a connection of a driver of PEP 249 that doesn't commit by itself.
    :param dialect: ``postgres``, ``mysql`` (also for MariaDB) or ``sqlite``.
    :param placeholder: how the driver marks a parameter.
    :param connection: what the connection is called, for the layout and for sentences.
    :param table: ``table`` or ``schema.table``.
    :param create_table: create the table where there is none.
    """

    kind = "sql"
    batch_size = 8192

    def __init__(
        self,
        connect: Callable[[], Any],
        *,
        dialect: str,
        placeholder: str,
        connection: str,
        table: str,
        create_table: bool = False,
    ) -> None:
        self._connect = connect
        self._dialect: Dialect = DIALECTS[dialect](placeholder)
        self._connection_name = connection
        self._table = parse_table(table)
        self._text = table.strip()
        self._create_table = create_table
        self._connection: Any = None
        self._prepared_for: MappingSpec | None = None
        self._key_facts: KeyFacts | None = None

    @property
    def name(self) -> str:
        """Connection and table."""
        return f"{self._connection_name}.{self._text}"

    def open(self, spec: MappingSpec, *, dry_run: bool) -> None:
        """Look at the table, or create it.

        :param spec: the mapping.
        :param dry_run: a table that isn't there is not created.
        """
        with self._transaction() as cursor:
            columns = self._dialect.columns(cursor, self._table)
        if columns is None:
            if not self._create_table:
                raise AhaConfigurationError(
                    f"There is no table {self._text} that the connection {self._connection_name} can see: create "
                    "it, or set create_table."
                )
            self.is_new = True
            if dry_run:
                return
            with self._transaction() as cursor:
                self._dialect.create(cursor, self._table, spec)
        else:
            self._check(spec, columns)
        with self._transaction() as cursor:
            self._key_facts = self._dialect.key_facts(cursor, self._table, spec.sync_key)
        if self._key_facts.fault and spec.mode != UPDATE:
            raise AhaConfigurationError(
                f"The table {self._text} can't be written by the sync key {', '.join(spec.sync_key)}: "
                f"{self._key_facts.fault}."
            )
        # From now on every session is prepared for the batches.
        self.close()
        self._prepared_for = spec

    def _check(self, spec: MappingSpec, columns: Sequence[TargetField]) -> None:
        known = {column.name.casefold() for column in columns}
        mapped = {one.name.casefold() for one in spec.fields}
        if missing := [one.name for one in spec.fields if one.name.casefold() not in known]:
            raise AhaConfigurationError(
                f"The table {self._text} has no column {', '.join(missing)}; it has "
                f"{', '.join(column.name for column in columns)}."
            )
        needed = [column.name for column in columns if column.required and column.name.casefold() not in mapped]
        if needed and spec.mode != UPDATE:
            raise AhaConfigurationError(
                f"The table {self._text} takes no row without {', '.join(needed)}, which the mapping doesn't have."
            )

    def fields(self) -> list[TargetField] | None:
        """Return the columns of the table."""
        with self._transaction() as cursor:
            return self._dialect.columns(cursor, self._table)

    def same_keys(self, batches: Iterable[Batch]) -> SameKeys:
        """Ask the database which keys it takes for the same: its collations, types and indexes decide.

        :param batches: the records.
        """
        facts = self._key_facts
        if facts is None:
            # A dry run, and no table that could be asked.
            return SameKeys()
        start = 0
        with self._transaction() as cursor:
            columns: Sequence[str] = ()
            for batch in batches:
                if not columns:
                    columns = batch.spec.sync_key
                    self._dialect.begin_keys(cursor, self._table, columns)
                self._load_keys(cursor, batch, start)
                start += len(batch)
            if not columns:
                return SameKeys()
            groups = list(self._dialect.same_keys(cursor, self._table, columns, facts))
            rows = [] if self.is_new else list(self._dialect.keys_there(cursor, self._table, columns, facts))
        return SameKeys(groups, rows)

    def _load_keys(self, cursor: Any, batch: Batch, start: int) -> None:
        """Load keys; one that the column can't hold is left out, and rejected when it is sent."""
        cursor.execute("SAVEPOINT aha_keys")
        try:
            keys = batch.table.select(list(batch.spec.sync_key))
            self._dialect.load_keys(cursor, batch.spec, keys, start)
        except Exception as error:
            if not is_a(error, "Error") or not isinstance(self._told(error), BatchRefusedError):
                raise
            cursor.execute("ROLLBACK TO SAVEPOINT aha_keys")
            middle = len(batch) // 2
            if middle:
                self._load_keys(cursor, batch.part(0, middle), start)
                self._load_keys(cursor, batch.part(middle, len(batch)), start + middle)

    def expect(self, batch: Batch) -> Sequence[str] | None:
        """Say which records the table has.

        :param batch: the records.
        """
        there: set[int] = set()
        if not self.is_new:
            with self._transaction() as cursor:
                there = self._dialect.existing(cursor, self._table, batch.spec, batch.table)
        return [answer.status for answer in _answers(batch, there)]

    def send(self, batch: Batch) -> Sequence[Answer]:
        """Write records in one transaction.

        :param batch: the records.
        """
        with self._transaction() as cursor:
            there = self._dialect.write(cursor, self._table, batch.spec, batch.table)
        return _answers(batch, there)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with suppress(Exception):
                self._connection.close()
            self._connection = None

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """Give a cursor, and commit; whatever fails is rolled back, and told in this package's words."""
        try:
            connection = self._connected()
            cursor = connection.cursor()
            try:
                yield cursor
                connection.commit()
            except BaseException:
                # On a lost connection this fails too.
                with suppress(Exception):
                    connection.rollback()
                raise
            finally:
                with suppress(Exception):
                    cursor.close()
        except Exception as error:
            if not is_a(error, "Error", "InterfaceError", "DatabaseError") or isinstance(error, AhaTargetError):
                raise
            # The driver's own error may quote the record that it was at, and a log would show it.
            raise self._told(error) from None

    def _connected(self) -> Any:
        if self._connection is None:
            self._connection = self._connect()
            cursor = self._connection.cursor()
            self._dialect.connected(cursor)
            if self._prepared_for is not None:
                self._dialect.prepare(cursor, self._table, self._prepared_for)
            self._connection.commit()
            cursor.close()
        return self._connection

    def _told(self, error: Exception) -> Exception:
        """Say what an error of the driver means for the push."""
        state, number = _codes(error)
        sqlite: str | None = getattr(error, "sqlite_errorname", None)
        code = state or (str(number) if number else sqlite)
        where = f"the table {self._text} by the connection {self._connection_name}"
        if number in _MYSQL_FORBIDDEN or (state and _FORBIDDEN.match(state)):
            return AhaPermissionError(f"The database refused the use of {where} ({code}): look at user and rights.")
        if _is_refusal(error, state, number, sqlite):
            return BatchRefusedError(_words_of(error), code=code)
        if _is_busy(error, state, number, sqlite):
            # The connection may be gone; the next try opens a new one.
            self.close()
            return SendAgainError(
                f"The database can't be reached, or can't use {where} now ({code or type(error).__name__})."
            )
        is_harmless = sqlite or (state and state.startswith("42"))
        words = f": {_words_of(error).splitlines()[0]}" if is_harmless else ""
        return AhaTargetError(
            f"The database failed on {where} ({code or type(error).__name__}){words}. Look into the database's log."
        )


def _is_refusal(error: Exception, state: str | None, number: int | None, sqlite: str | None) -> bool:
    """Tell whether what was sent is to blame."""
    by_code = (state and _REFUSED.match(state)) or (sqlite and _SQLITE_REFUSED.match(sqlite))
    return bool(by_code) or number in _MYSQL_REFUSED or is_a(error, "IntegrityError", "DataError")


def _is_busy(error: Exception, state: str | None, number: int | None, sqlite: str | None) -> bool:
    """Tell whether another try may do; also where the driver doesn't say what it is, as without a connection."""
    if sqlite:
        return bool(_SQLITE_BUSY.match(sqlite))
    if number in _MYSQL_BUSY or (state and _BUSY.match(state)):
        return True
    return number is None and state in (None, "HY000") and is_a(error, "OperationalError", "InterfaceError")


def _answers(batch: Batch, there: set[int]) -> list[Answer]:
    mode = batch.spec.mode
    only_key = all(one.name in batch.spec.sync_key for one in batch.spec.fields)
    if mode == INSERT:
        old, new = Answer(SKIPPED, "the table has it already, and the mode is insert"), Answer(ADDED)
    elif mode == UPDATE:
        old, new = Answer(UPDATED), Answer(SKIPPED, "the table doesn't have it, and the mode is update")
    else:
        old, new = Answer(UNCHANGED if only_key else UPDATED), Answer(ADDED)
    return [old if position in there else new for position in range(len(batch))]


def _codes(error: Exception) -> tuple[str | None, int | None]:
    """Return SQLSTATE and number of a driver's error, where it has them."""
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    number = getattr(error, "errno", None)
    first = error.args[0] if error.args else None
    if number is None and isinstance(first, int):
        number = first
    return (state if isinstance(state, str) else None), (number if isinstance(number, int) else None)


def _words_of(error: Exception) -> str:
    """Return what the database said: for the outcome of a record, and of a wrong statement for a log."""
    text = str(error).strip() or type(error).__name__
    return text[:_REASON]
