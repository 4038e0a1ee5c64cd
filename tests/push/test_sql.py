"""Tables of real databases: modes, columns that aren't mapped, types, and what a database refuses."""

import hashlib
import json
import sqlite3
import threading
import traceback
from datetime import UTC, date, datetime
from typing import Any

import pytest

from airflow_provider_aha.exceptions import (
    AhaConfigurationError,
    AhaPermissionError,
    AhaRejectedError,
    AhaTargetError,
)
from airflow_provider_aha.push.mapping.spec import read_spec
from tests.push.conftest import PEOPLE, Database, World, mapping, user, users

NASTY = ['say "hi"', "it's", "a,b", "two\nlines", "a\n\\.\nb", "\\N", "😀 Ünï", "=1+1", "", "%s ? :x $1", "NULL"]


# --- what is written -----------------------------------------------------------------------------


def test_upsert_adds_updates_and_leaves_other_columns_alone(world, database):
    database.run(PEOPLE, "INSERT INTO people VALUES ('ada1@example.com', 'Old', 'keep me')")
    world.land(users(3))
    assert world.push(mapping(), database.target())["counts"] == {"added": 2, "updated": 1}
    assert database.rows("people", "email", "name", "note") == [
        ("ada0@example.com", "Ada 0 Lovelace", "mine"),
        ("ada1@example.com", "Ada 1 Lovelace", "keep me"),
        ("ada2@example.com", "Ada 2 Lovelace", "mine"),
    ]
    assert [row["status"] for row in world.outcomes()] == ["added", "updated", "added"]


def test_only_changes_are_sent_the_next_time(world, database):
    world.land(users(3))
    target = database.target(create_table=True)
    assert world.push(mapping(), target)["counts"] == {"added": 3}
    world.land([user(0), user(1, name="Grace"), user(2), user(3)])
    assert world.push(mapping(), database.target(), run_id="r2")["counts"] == {
        "added": 1,
        "updated": 1,
        "unchanged": 2,
    }
    assert database.rows("people", "name")[2] == ("Ada 3 Lovelace",)


def test_insert_only_changes_nothing_that_is_there(world, database):
    database.run(PEOPLE, "INSERT INTO people VALUES ('ada1@example.com', 'Old', 'keep me')")
    world.land(users(2))
    summary = world.push(mapping(mode="insert"), database.target())
    assert summary["counts"] == {"added": 1, "skipped": 1}
    assert database.rows("people", "name") == [("Ada 0 Lovelace",), ("Old",)]
    assert world.outcomes()[1]["reason"] == "the table has it already, and the mode is insert"


def test_update_only_adds_nothing(world, database):
    database.run(PEOPLE, "INSERT INTO people VALUES ('ada1@example.com', 'Old', 'keep me')")
    world.land(users(2))
    assert world.push(mapping(mode="update"), database.target())["counts"] == {"updated": 1, "skipped": 1}
    assert database.rows("people", "name", "note") == [("Ada 1 Lovelace", "keep me")]


@pytest.mark.parametrize(("on_null", "name"), [("omit", "Old"), ("send_null", None)])
def test_null_leaves_or_clears_what_is_there(world, database, on_null, name):
    database.run(PEOPLE, "INSERT INTO people VALUES ('ada1@example.com', 'Old', 'keep me')")
    world.land([user(1, name=None)])
    world.push(mapping(on_null=on_null), database.target())
    assert database.rows("people", "name") == [(name,)]


def test_a_key_of_two_fields(world, database):
    fields = {
        "account": {"source": "subdomain", "required": True},
        "id": {"source": "id", "type": "integer", "required": True},
        "name": "name",
    }
    spec = mapping(fields=fields, sync_key=["account", "id"])
    world.land(users(2))
    assert world.push(spec, database.target(create_table=True))["counts"] == {"added": 2}
    world.land([user(0), user(1, name="Grace"), user(2)])
    assert world.push(spec, database.target(), run_id="r2")["counts"] == {"added": 1, "updated": 1, "unchanged": 1}
    assert database.rows("people", "id", "name")[1] == (1001, "Grace")


@pytest.mark.parametrize("text", NASTY)
def test_any_text_arrives_as_it_is(world, database, text):
    world.land([user(1, name=text)])
    world.push(mapping(), database.target(create_table=True))
    assert database.rows("people", "name") == [(text,)]


def test_names_are_quoted(world, database):
    field = 'na"me `x` -- drop'
    world.land(users(1))
    spec = mapping(fields={**mapping()["fields"], field: "name", "order": "id"})
    target = database.target("people", create_table=True)
    world.push(spec, target)
    doubled = field.replace("`", "``") if database.kind == "mariadb" else field.replace('"', '""')
    assert database.rows("people", doubled, "order") == [("Ada 0 Lovelace", "1000")]


def test_a_created_table_has_the_right_types(world, database):
    fields = {
        "email": {"source": "email", "required": True, "unique": True},
        "count": {"const": 2**40},
        "share": {"const": 0.25},
        "flag": {"source": "is_enabled"},
        "day": {"source": "accessed_at", "type": "date"},
        "moment": {"source": "accessed_at"},
        "tags": {"const": ["a", "é"]},
        "nothing": {"source": "timezone"},
    }
    moment = datetime(2026, 2, 28, 23, 59, 59, 123000, tzinfo=UTC)
    world.land([user(1, accessed_at=moment)])
    world.push(mapping(fields=fields), database.target(create_table=True))
    (row,) = database.rows("people", *fields)
    assert row[:4] == ("ada1@example.com", 2**40, 0.25, True)
    naive = moment.replace(tzinfo=None)
    if database.kind == "postgres":
        assert row[4:] == (date(2026, 2, 28), moment, ["a", "é"], None)
    elif database.kind == "mariadb":
        assert (row[4], row[5], json.loads(row[6]), row[7]) == (date(2026, 2, 28), naive, ["a", "é"], None)
    else:
        assert row[4:] == ("2026-02-28", "2026-02-28 23:59:59.123000", '["a", "é"]', None)
    kinds = {field.name: field.type for field in database.target().fields()}
    expected = {"tags": "string", "nothing": "string"} if database.kind != "postgres" else {"tags": "json"}
    wanted = {"count": "integer", "share": "number", "flag": "boolean", "day": "date", "moment": "timestamp"}
    assert kinds.items() >= (wanted | expected).items()


def test_a_table_that_was_dropped_is_filled_again(world, database):
    world.land(users(2))
    world.push(mapping(), database.target(create_table=True))
    database.run("DROP TABLE people")
    assert world.push(mapping(), database.target(create_table=True), run_id="r2")["counts"] == {"added": 2}
    assert len(database.rows("people", "email")) == 2


def test_a_dry_run_says_what_would_happen_and_writes_nothing(world, database):
    world.land(users(3))
    summary = world.push(mapping(), database.target(create_table=True), dry_run=True)
    assert (summary["counts"], summary["expected"]) == ({"planned": 3}, {"added": 3})
    database.run(PEOPLE, "INSERT INTO people VALUES ('ada1@example.com', 'Old', 'keep me')")
    summary = world.push(mapping(launched=False), database.target(), run_id="r2")
    assert (summary["dry_run"], summary["expected"]) == (True, {"added": 2, "updated": 1})
    assert [row["expected"] for row in world.outcomes("r2")] == ["added", "updated", "added"]
    assert database.rows("people", "name") == [("Old",)]


# --- what is refused -----------------------------------------------------------------------------


def test_a_record_that_the_database_rejects_stands_alone(world, database):
    check = "CHECK (length(name) < 30)"
    database.run(f"CREATE TABLE people (email VARCHAR(100) PRIMARY KEY, name VARCHAR(100) {check})")
    world.land([*users(40), user(40, name="x" * 50), *[user(n) for n in range(41, 60)]])
    assert world.push(mapping(), database.target())["counts"] == {"added": 59, "rejected": 1}
    (bad,) = (row for row in world.outcomes() if row["status"] == "rejected")
    assert bad["user_id"] == "1040"
    assert "check" in bad["reason"].lower() or "constraint" in bad["reason"].lower()
    assert len(database.rows("people", "email")) == 59


def test_another_unique_column_never_overwrites_somebody_elses_row(world, database):
    database.run(
        "CREATE TABLE people (id VARCHAR(20) PRIMARY KEY, email VARCHAR(100) UNIQUE)",
        "INSERT INTO people VALUES ('1', 'ada1@example.com')",
    )
    fields = {"id": {"source": "id", "required": True, "unique": True}, "email": "email"}
    world.land(users(30))
    summary = world.push(mapping(fields=fields, sync_key=["id"]), database.target())
    assert summary["counts"] == {"added": 29, "rejected": 1}
    assert ("1", "ada1@example.com") in database.rows("people", "id", "email")


def test_nul_is_rejected_by_what_can_not_hold_it(world, postgres):
    world.land([*users(30), user(31, name="nul\0byte")])
    assert world.push(mapping(), postgres.target(create_table=True))["counts"] == {"added": 30, "rejected": 1}
    assert world.outcomes()[-1]["code"] == "22021"


def test_a_text_for_a_number_is_rejected_with_the_databases_words(world, postgres):
    postgres.run("CREATE TABLE people (email text PRIMARY KEY, name integer)")
    world.land([user(1, name="12"), user(2, name="abc")])
    summary = world.push(mapping(limits={"max_reject_percent": 60}), postgres.target())
    assert summary["counts"] == {"added": 1, "rejected": 1}
    assert "abc" in world.outcomes()[1]["reason"]


def test_a_push_that_rejects_too_much_is_broken_off_after_its_outcomes(world, database):
    check = "CHECK (length(name) > 30)"
    database.run(f"CREATE TABLE people (email VARCHAR(100) PRIMARY KEY, name VARCHAR(100) {check})")
    world.land(users(20))
    with pytest.raises(AhaRejectedError, match=r"2 of 20 records .* allows 5 %"):
        world.push(mapping(), database.target())
    assert world.summary()["counts"] == {"rejected": 2, "failed": 18}


def test_a_missing_table_is_named(world, database):
    world.land(users(1))
    with pytest.raises(AhaConfigurationError, match="no table people that the connection test_sql can see"):
        world.push(mapping(), database.target())


def test_missing_columns_are_named(world, database):
    database.run("CREATE TABLE people (email VARCHAR(100) PRIMARY KEY, other VARCHAR(10))")
    world.land(users(1))
    with pytest.raises(AhaConfigurationError, match="has no column name; it has email, other"):
        world.push(mapping(), database.target())


def test_a_column_that_needs_a_value_is_named(world, database):
    database.run(
        "CREATE TABLE people (email VARCHAR(100) PRIMARY KEY, name VARCHAR(100), team VARCHAR(10) NOT NULL)"
    )
    world.land(users(1))
    with pytest.raises(AhaConfigurationError, match="takes no row without team"):
        world.push(mapping(), database.target())
    assert world.push(mapping(mode="update"), database.target())["counts"] == {"skipped": 1}


def test_a_key_that_nothing_keeps_unique_is_refused(world, database):
    database.run("CREATE TABLE people (email VARCHAR(100), name VARCHAR(100))")
    world.land(users(1))
    with pytest.raises(AhaConfigurationError, match="create a unique index on the sync key"):
        world.push(mapping(), database.target())


@pytest.mark.parametrize("table", ["", "a.b.c", ".people", "nul\0"])
def test_what_is_no_table_is_refused(database, table):
    with pytest.raises(AhaConfigurationError):
        database.target(table)


def test_a_missing_right_is_told_and_not_tried_again(world, postgres, set_connection):
    postgres.run(
        PEOPLE, "DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN", "GRANT SELECT ON people TO reader"
    )
    set_connection(conn_id="test_sql", **{**postgres.fields, "login": "reader"})
    world.land(users(1))
    with pytest.raises(AhaPermissionError, match="look at user and rights"):
        world.push(mapping(), postgres.target())
    postgres.run("DROP TABLE people", "DROP ROLE reader")


# --- what goes wrong on the way ------------------------------------------------------------------


def test_a_lost_connection_is_opened_again(world, postgres):
    postgres.run(PEOPLE)
    world.land(users(3))
    target = postgres.target()
    target.batch_size = 1
    send, sent = target.send, []

    def killed_before_the_second(batch):
        sent.append(batch.id)
        if len(sent) == 2:
            postgres.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        return send(batch)

    target.send = killed_before_the_second
    assert world.push(mapping(), target)["counts"] == {"added": 3}
    assert len(sent) == 4
    assert sent[1] == sent[2]


def test_a_database_that_is_gone_fails_the_push_and_keeps_what_was_done(world, postgres):
    postgres.run(PEOPLE)
    world.land(users(3))
    target = postgres.target()
    target.batch_size = 1
    send, sent = target.send, []

    def gone_after_the_first(batch):
        sent.append(batch.id)
        if len(sent) == 2:
            target.close()
            target._connect = _refuse
        return send(batch)

    target.send = gone_after_the_first
    with pytest.raises(AhaTargetError, match="tried 6 times"):
        world.push(mapping(), target)
    assert world.summary()["counts"] == {"added": 1, "failed": 2}
    assert world.push(mapping(), postgres.target(), try_number=2)["counts"] == {"added": 3}


def _refuse() -> Any:
    import psycopg2

    return psycopg2.connect(host="/nowhere", user="aha", dbname="postgres")


def test_a_locked_database_is_waited_for(world, database):
    if database.kind != "sqlite":
        pytest.skip("locks of rows are waited for by the server")
    database.run(PEOPLE)
    world.land(users(1))
    other = sqlite3.connect(database.fields["host"], check_same_thread=False, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    target = database.target()
    connect = target._connect
    target._connect = lambda: _impatient(connect())
    world.clock.sleep = lambda seconds, stopped=bool: other.execute("ROLLBACK")
    assert world.push(mapping(), target)["counts"] == {"added": 1}
    other.close()


def _impatient(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.execute("PRAGMA busy_timeout = 1")
    return connection


def test_a_sqlite_file_that_cannot_be_opened_is_said_at_once(world, set_connection, tmp_path):
    database = Database("sqlite", {"conn_type": "sqlite", "host": str(tmp_path / "nowhere" / "test.db")})
    set_connection(conn_id="test_sql", **database.fields)
    world.land(users(1))
    with pytest.raises(AhaTargetError, match=r"\(SQLITE_CANTOPEN\): unable to open database file"):
        world.push(mapping(), database.target())
    assert world.clock.pauses == []


def test_what_a_trigger_refuses_is_a_record_that_the_database_rejects(world, database):
    refuse = {
        "postgres": [
            (
                "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN IF NEW.name = 'bad' THEN RAISE EXCEPTION 'not him'; END IF; RETURN NEW; END $$"
            ),
            "CREATE TRIGGER refuse BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION refuse()",
        ],
        "mariadb": [
            (
                "CREATE TRIGGER refuse BEFORE INSERT ON people FOR EACH ROW "
                "IF NEW.name = 'bad' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not him'; END IF"
            )
        ],
        "sqlite": [
            (
                "CREATE TRIGGER refuse BEFORE INSERT ON people WHEN NEW.name = 'bad' "
                "BEGIN SELECT RAISE(ABORT, 'not him'); END"
            )
        ],
    }
    database.run(PEOPLE, *refuse[database.kind])
    world.land([*users(3), user(3, name="bad"), user(4)])
    summary = world.push(mapping(limits={"max_reject_percent": 50}), database.target())
    assert summary["counts"] == {"added": 4, "rejected": 1}
    assert "not him" in world.outcomes()[3]["reason"]


def test_a_value_that_an_index_cannot_hold_is_rejected(world, postgres):
    postgres.run(PEOPLE.replace("name VARCHAR(100)", "name TEXT"), "CREATE INDEX by_name ON people (name)")
    # Random, so that the index can't compress it.
    long = "".join(hashlib.sha256(str(n).encode()).hexdigest() for n in range(200))
    world.land([user(0), user(1, name=long), user(2)])
    summary = world.push(mapping(limits={"max_reject_percent": 50}), postgres.target())
    assert summary["counts"] == {"added": 2, "rejected": 1}
    assert world.outcomes()[1]["code"] == "54000"


def test_what_a_view_does_not_show_is_rejected(world, database):
    if database.kind == "sqlite":
        pytest.skip("SQLite writes to no view")
    view = "CREATE VIEW people AS SELECT * FROM everybody WHERE name <> 'bad' WITH CHECK OPTION"
    database.run("DROP VIEW IF EXISTS people", "DROP TABLE IF EXISTS everybody")
    database.run(PEOPLE.replace("people", "everybody"), view)
    database.run("INSERT INTO everybody (email, name) VALUES ('ada0@example.com', 'x'), ('ada1@example.com', 'y')")
    world.land([user(0), user(1, name="bad")])
    summary = world.push(mapping(mode="update", limits={"max_reject_percent": 50}), database.target())
    database.run("DROP VIEW people", "DROP TABLE everybody")
    assert summary["counts"] == {"updated": 1, "rejected": 1}
    assert world.outcomes()[1]["code"] in ("44000", "1369")


def test_two_pushes_at_once_lose_nothing(postgres, tmp_path):
    postgres.run(PEOPLE)
    from fsspec.implementations.local import LocalFileSystem

    from airflow_provider_aha.store.store import Store

    worlds = [World(Store(LocalFileSystem(), str(tmp_path / n), str(tmp_path / n))) for n in ("one", "two")]
    spec = read_spec(mapping())
    failed: list[Exception] = []

    def work(world: World) -> None:
        try:
            target = postgres.target()
            target.batch_size = 50
            world.push(spec, target)
        except Exception as error:  # noqa: BLE001 - told below
            failed.append(error)

    for one in worlds:
        one.land(users(300))
    threads = [threading.Thread(target=work, args=(one,)) for one in worlds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(postgres.rows("people", "email")) == 300


def test_no_error_quotes_a_record(world, postgres):
    postgres.run(PEOPLE)
    world.land([user(n, name="SECRET") for n in range(3)])
    postgres.run(
        "CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'no %', NEW.name USING ERRCODE = 'XX000'; END $$",
        "CREATE TRIGGER fail BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION fail()",
    )
    with pytest.raises(AhaTargetError) as caught:
        world.push(mapping(), postgres.target())
    told = "".join(traceback.format_exception(caught.value)) + json.dumps(world.summary())
    assert "(XX000)" in told
    assert "no SECRET" not in told


# --- databases that are refused ------------------------------------------------------------------


def test_a_database_that_keeps_no_key_unique_is_refused(set_connection):
    set_connection(conn_id="test_sql", conn_type="redshift", host="127.0.0.1")
    with pytest.raises(AhaConfigurationError, match=r"test_sql \(type redshift\) is none .*docs/push/warehouse.md"):
        Database("redshift", {}).target()


@pytest.mark.parametrize("kind", ["snowflake", "gcpbigquery", "trino", "duckdb", "odbc"])
def test_any_other_database_is_refused(monkeypatch, kind):
    from airflow.providers.common.compat.sdk import BaseHook
    from airflow.providers.common.sql.hooks.sql import DbApiHook

    # Their providers aren't installed here; SQLAlchemy's name of the database must not count.
    hook = type("Hook", (DbApiHook,), {"conn_type": kind, "conn_name_attr": "x", "dialect_name": "postgresql"})
    monkeypatch.setattr(BaseHook, "get_hook", lambda conn_id: hook())
    with pytest.raises(
        AhaConfigurationError, match=rf"type {kind}\) is none of the databases that a push writes to"
    ):
        Database(kind, {}).target()


def test_a_hook_of_ones_own_for_a_known_database_is_taken(monkeypatch, sqlite):
    from airflow.providers.common.compat.sdk import BaseHook

    hook = BaseHook.get_hook("test_sql")
    hook.__class__ = type("Ours", (type(hook),), {"conn_type": "ours"})
    monkeypatch.setattr(BaseHook, "get_hook", lambda conn_id: hook)
    sqlite.run(PEOPLE)
    assert [field.name for field in sqlite.target().fields() or ()] == ["email", "name", "note"]


def test_redshift_is_refused_by_whatever_connection(world, postgres):
    """It answers as PostgreSQL does, and its connection may be of that type; it says what it is."""
    version = "PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC, Redshift 1.0.73348"
    postgres.run(
        PEOPLE,
        "CREATE SCHEMA pretended",
        f"CREATE FUNCTION pretended.version() RETURNS text LANGUAGE sql AS $$ SELECT '{version}' $$",
        "ALTER ROLE aha SET search_path = pretended, pg_catalog, public",
    )
    world.land(users(1))
    try:
        with pytest.raises(AhaConfigurationError, match="Amazon Redshift is none of the databases"):
            world.push(mapping(), postgres.target())
    finally:
        postgres.run("ALTER ROLE aha RESET search_path", "DROP SCHEMA pretended CASCADE")
