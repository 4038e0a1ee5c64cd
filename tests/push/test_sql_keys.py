"""Which sync keys a database takes for the same: it is asked before anything is sent, and mixes nobody's rows."""

from typing import Any

import pytest

from airflow_provider_aha.exceptions import AhaConfigurationError, AhaRejectedError
from tests.push.conftest import PEOPLE, Database, World, mapping, user, users

CREATE = {
    "citext": ("CREATE EXTENSION IF NOT EXISTS citext", "CREATE TABLE people ({} email citext {key}, name text)"),
    "icu": (
        (
            "CREATE COLLATION IF NOT EXISTS unaccented "
            "(provider = icu, locale = 'und-u-ks-level1', deterministic = false)"
        ),
        "CREATE TABLE people ({} email text COLLATE unaccented {key}, name text)",
    ),
    "unicode_ci": (
        (
            "CREATE TABLE people ({} email varchar(255) {key}, name varchar(400)) "
            "CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"
        ),
    ),
    "nocase": ("CREATE TABLE people ({} email text COLLATE NOCASE {key}, name text)",),
}
KINDS = {"citext": "postgres", "icu": "postgres", "unicode_ci": "mariadb", "nocase": "sqlite"}
AS_IT_IS = {"email": {"source": "email", "required": True, "unique": True}, "name": "name"}


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Database:
    """A table people, whose key email is compared as the test's parameter says."""
    database: Database = request.getfixturevalue(KINDS[request.param])
    database.run(*(one.format("", key="PRIMARY KEY") for one in CREATE[request.param]))
    return database


def alike(*collations: str) -> Any:
    return pytest.mark.parametrize("table", collations, indirect=True)


def pair(one: str, other: str) -> list[dict[str, Any]]:
    """Return enough users that two bad ones are allowed, and the two."""
    return [*users(60), user(61, email=one, name="One"), user(62, email=other, name="Other")]


def of(world: World, user_id: str, run_id: str = "r1") -> dict[str, Any]:
    return next(row for row in world.outcomes(run_id) if row["user_id"] == user_id)


ALIKE = [
    pytest.param("citext", "DUP@example.com", "dup@example.com"),
    pytest.param("nocase", "DUP@example.com", "dup@example.com"),
    pytest.param("icu", "jose@example.com", "josé@example.com"),
    pytest.param("unicode_ci", "DUP@example.com", "dup@example.com"),
    pytest.param("unicode_ci", "jose@example.com", "josé@example.com"),
    pytest.param("unicode_ci", "strasse@example.com", "straße@example.com"),
]


@pytest.mark.parametrize("size", [8192, 1])
@pytest.mark.parametrize(("table", "one", "other"), ALIKE, indirect=["table"])
def test_two_users_whose_keys_the_database_takes_for_one_are_both_rejected(world, table, one, other, size):
    world.land(pair(one, other))
    for run in ("r1", "r2"):
        target = table.target()
        target.batch_size = size
        counts = world.push(mapping(fields=AS_IT_IS), target, run_id=run)["counts"]
        assert counts == {"added" if run == "r1" else "unchanged": 60, "rejected": 2}
        for mine, theirs in (("1061", "1062"), ("1062", "1061")):
            outcome = of(world, mine, run)
            assert (outcome["status"], outcome["field"], outcome["sent_at"]) == ("rejected", "email", None)
            assert f"user {theirs}," in outcome["reason"]
            assert "@" not in outcome["reason"]
        assert len(table.rows("people", "email")) == 60


@pytest.mark.parametrize(("table", "one", "other"), ALIKE, indirect=["table"])
@pytest.mark.parametrize("name", ["One", "Another name"])
def test_a_new_user_never_gets_the_row_of_one_who_was_pushed_before(world, table, one, other, name):
    world.land([*users(60), user(61, email=one, name="One")])
    world.push(mapping(fields=AS_IT_IS), table.target())
    both = pair(one, other)
    both[-2]["name"] = name
    world.land(both)
    summary = world.push(mapping(fields=AS_IT_IS), table.target(), run_id="r2")
    assert summary["counts"] == {"unchanged": 60, "rejected": 2}
    assert "user 1061," in of(world, "1062", "r2")["reason"]
    assert "user 1062," in of(world, "1061", "r2")["reason"]
    assert (one, "One") in table.rows("people", "email", "name")
    assert len(table.rows("people", "email")) == 61


@pytest.mark.parametrize("mode", ["upsert", "update", "insert"])
@pytest.mark.parametrize("dry_run", [False, True])
@alike("icu", "unicode_ci")
def test_a_row_whose_key_is_spelled_differently_is_left_alone(world, table, mode, dry_run):
    table.run("INSERT INTO people VALUES ('josé@example.com', 'Somebody else')")
    world.land([*users(60), user(61, email="jose@example.com")])
    summary = world.push(mapping(mode=mode), table.target(), dry_run=dry_run)
    assert summary["counts"]["rejected"] == 1
    outcome = of(world, "1061")
    assert outcome["status"] == "rejected"
    assert "may be another person's" in outcome["reason"]
    assert ("josé@example.com", "Somebody else") in table.rows("people", "email", "name")


@alike("citext", "icu", "unicode_ci", "nocase")
def test_case_alone_does_not_make_another_person_of_a_row(world, table):
    table.run("INSERT INTO people VALUES ('Ada1@Example.com', 'Old')")
    world.land(users(3))
    assert world.push(mapping(), table.target())["counts"] == {"added": 2, "updated": 1}
    assert ("Ada1@Example.com", "Ada 1 Lovelace") in table.rows("people", "email", "name")


@alike("icu", "unicode_ci")
def test_a_key_with_accents_is_pushed_when_no_other_is_like_it(world, table):
    world.land([*users(3), user(4, email="josé@example.com")])
    assert world.push(mapping(), table.target())["counts"] == {"added": 4}
    world.land([*users(3), user(4, email="josé@example.com", name="José")])
    assert world.push(mapping(), table.target(), run_id="r2")["counts"] == {"unchanged": 3, "updated": 1}
    assert ("josé@example.com", "José") in table.rows("people", "email", "name")


@alike("unicode_ci")
def test_a_user_whose_record_is_invalid_counts_too(world, table):
    fields = mapping()["fields"] | {"name": {"source": "name", "required": True}}
    both = pair("jose@example.com", "josé@example.com")
    both[-1]["name"] = None
    world.land(both)
    summary = world.push(mapping(fields=fields), table.target())
    assert summary["counts"] == {"added": 60, "invalid": 1, "rejected": 1}
    assert "user 1062," in of(world, "1061")["reason"]


@alike("unicode_ci")
def test_of_three_users_each_names_the_others(world, table):
    emails = ["jose@example.com", "josé@example.com", "jòse@example.com"]
    world.land([*users(60), *(user(61 + n, email=email) for n, email in enumerate(emails))])
    assert world.push(mapping(), table.target())["counts"] == {"added": 60, "rejected": 3}
    assert "users 1061, 1063," in of(world, "1062")["reason"]


@alike("unicode_ci")
def test_a_dry_run_tells_it(world, table):
    world.land(pair("jose@example.com", "josé@example.com"))
    summary = world.push(mapping(), table.target(), dry_run=True)
    assert (summary["counts"], summary["expected"]) == ({"rejected": 2, "planned": 60}, {"added": 60})


@pytest.mark.parametrize("others", [1, 0])
@alike("unicode_ci")
def test_too_many_such_records_fail_the_push_after_the_others_were_sent(world, table, others):
    world.land([*users(others), user(2, email="jose@example.com"), user(3, email="josé@example.com")])
    with pytest.raises(AhaRejectedError, match=rf"2 of {2 + others} records are invalid or were rejected"):
        world.push(mapping(), table.target())
    assert table.rows("people", "email") == [("ada0@example.com",)] * others
    assert world.summary()["counts"] == ({"added": 1} if others else {}) | {"rejected": 2}


def test_an_index_on_what_is_made_of_the_key_counts(world, postgres):
    postgres.run(PEOPLE, "CREATE UNIQUE INDEX ON people (lower(email))")
    world.land(pair("DUP@example.com", "dup@example.com"))
    assert world.push(mapping(fields=AS_IT_IS), postgres.target())["counts"] == {"added": 60, "rejected": 2}
    assert "user 1062," in of(world, "1061")["reason"]


def test_the_index_compares_otherwise_than_the_column(world, sqlite):
    sqlite.run(
        "CREATE TABLE people (email TEXT, name TEXT)", "CREATE UNIQUE INDEX x ON people (email COLLATE NOCASE)"
    )
    world.land(pair("DUP@example.com", "dup@example.com"))
    assert world.push(mapping(fields=AS_IT_IS), sqlite.target())["counts"] == {"added": 60, "rejected": 2}


def test_the_column_compares_otherwise_than_the_index(world, sqlite):
    sqlite.run(
        "CREATE TABLE people (email TEXT COLLATE NOCASE, name TEXT)",
        "CREATE UNIQUE INDEX x ON people (email COLLATE BINARY)",
    )
    world.land(pair("DUP@example.com", "dup@example.com"))
    assert world.push(mapping(fields=AS_IT_IS), sqlite.target())["counts"] == {"added": 60, "rejected": 2}


def test_a_prefix_index_beside_the_key_counts(world, mariadb):
    mariadb.run(PEOPLE, "CREATE UNIQUE INDEX beginning ON people (email(6))")
    world.land([*(user(n, email=f"{n:04d}@example.com") for n in range(60)), *pair("abcdef-1", "abcdef-2")[-2:]])
    assert world.push(mapping(), mariadb.target())["counts"] == {"added": 60, "rejected": 2}
    assert "user 1062," in of(world, "1061")["reason"]


def test_a_column_of_another_type_decides_what_is_the_same(world, database):
    database.run("CREATE TABLE people (email BIGINT PRIMARY KEY, name VARCHAR(100))")
    rows = [*(user(n, email=str(100 + n)) for n in range(60)), user(61, email="5"), user(62, email="05")]
    world.land(rows)
    assert world.push(mapping(), database.target())["counts"] == {"added": 60, "rejected": 2}
    assert "user 1062," in of(world, "1061")["reason"]


def test_a_key_of_two_fields_is_the_same_when_both_are(world, mariadb):
    mariadb.run(
        "CREATE TABLE people (account varchar(9), email varchar(99), name varchar(99), "
        "PRIMARY KEY (account, email)) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci",
        "INSERT INTO people VALUES ('one', 'josé@example.com', 'Before')",
    )
    account = {"account": {"source": "subdomain", "required": True}}
    spec = mapping(fields={**account, **mapping()["fields"]}, sync_key=["account", "email"])
    rows = [user(n, subdomain="one") for n in range(60)]
    world.land([*rows, user(61, email="jose@example.com", subdomain="two"), user(62, email="josé@example.com")])
    assert world.push(spec, mariadb.target())["counts"] == {"added": 62}
    world.land([*rows, user(61, email="jose@example.com", subdomain="one")])
    summary = world.push(spec, mariadb.target(), run_id="r2")
    assert summary["counts"] == {"unchanged": 60, "rejected": 1}
    assert ("one", "josé@example.com", "Before") in mariadb.rows("people", "account", "email", "name")


def test_a_key_that_the_column_can_not_hold_hides_no_other(world, database):
    if database.kind == "sqlite":
        pytest.skip("SQLite holds any value in any column")
    database.run("CREATE TABLE people (email BIGINT PRIMARY KEY, name VARCHAR(100))")
    rows = [user(n, email=str(100 + n)) for n in range(90)]
    rows[40]["email"] = "no number"
    world.land([*rows, user(91, email="5"), user(92, email="05")])
    assert world.push(mapping(), database.target())["counts"] == {"added": 89, "rejected": 3}
    assert of(world, "1040")["sent_at"] is not None
    assert "user 1092," in of(world, "1091")["reason"]


def test_nothing_is_asked_when_nothing_is_sent(world, database, monkeypatch):
    world.land(users(3))
    world.push(mapping(), database.target(create_table=True))
    target = database.target()
    monkeypatch.setattr(target, "same_keys", None)
    assert world.push(mapping(), target, run_id="r2")["counts"] == {"unchanged": 3}


def test_only_what_is_sent_is_asked_about(world, database, monkeypatch):
    world.land(users(30))
    world.push(mapping(), database.target(create_table=True))
    world.land([*users(29), user(29, name="New"), user(30)])
    asked: list[str] = []
    target = database.target()
    same_keys = target.same_keys
    monkeypatch.setattr(target, "same_keys", lambda batches: same_keys(_seen(batches, asked)))
    world.push(mapping(), target, run_id="r2")
    assert asked == ["ada29@example.com", "ada30@example.com"]


def _seen(batches: Any, keys: list[str]) -> Any:
    for batch in batches:
        keys += batch.keys
        yield batch


# --- what is no key ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE people (email text UNIQUE DEFERRABLE INITIALLY DEFERRED, name text)"],
        ["CREATE TABLE people (email text PRIMARY KEY DEFERRABLE, name text)"],
        [
            "CREATE TABLE people (email text UNIQUE DEFERRABLE, name text)",
            "CREATE UNIQUE INDEX ON people (email)",
        ],
    ],
)
def test_a_deferrable_constraint_is_no_key(world, postgres, statements):
    postgres.run(*statements)
    world.land(users(1))
    with pytest.raises(AhaConfigurationError, match="email: its unique constraint is deferrable"):
        world.push(mapping(), postgres.target())
    # Nothing is added in this mode, so nothing can double.
    assert world.push(mapping(mode="update"), postgres.target(), run_id="r2")["counts"] == {"skipped": 1}


def test_a_deferrable_constraint_below_a_view_is_no_key(world, postgres):
    postgres.run(
        "CREATE TABLE behind (email text UNIQUE DEFERRABLE, name text)",
        "CREATE VIEW people AS SELECT email, name FROM behind",
    )
    world.land(users(1))
    with pytest.raises(AhaConfigurationError, match="email: its unique constraint is deferrable"):
        world.push(mapping(), postgres.target())
    postgres.run("DROP VIEW people", "DROP TABLE behind")


def test_an_index_on_a_part_of_the_column_is_no_key(world, mariadb):
    mariadb.run("CREATE TABLE people (email varchar(100), name varchar(100), UNIQUE (email(10)))")
    world.land(users(1))
    with pytest.raises(AhaConfigurationError, match="email: its unique index holds only the first 10 characters"):
        world.push(mapping(), mariadb.target())


@pytest.mark.parametrize(
    "index", ["(email) WHERE name IS NOT NULL", "(lower(email))", "(email, name)"], ids=["part", "lower", "two"]
)
def test_an_index_on_something_else_is_no_key(world, database, index):
    if database.kind == "mariadb" and "," not in index:
        pytest.skip("MariaDB has no such index")
    database.run(
        "CREATE TABLE people (email varchar(100), name varchar(100))", f"CREATE UNIQUE INDEX i ON people {index}"
    )
    world.land(users(1))
    with pytest.raises(AhaConfigurationError, match="nothing keeps it unique there"):
        world.push(mapping(), database.target())


# --- what the database doesn't write -------------------------------------------------------------

SKIP = {
    "postgres": [
        (
            "CREATE OR REPLACE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN IF NEW.name = 'bad' THEN RETURN NULL; END IF; RETURN NEW; END $$"
        ),
        "CREATE TRIGGER skip BEFORE {} ON people FOR EACH ROW EXECUTE FUNCTION skip()",
    ],
    "sqlite": [
        "CREATE TRIGGER skip BEFORE {} ON people WHEN NEW.name = 'bad' BEGIN SELECT RAISE(IGNORE); END",
    ],
}


@pytest.mark.parametrize("kind", SKIP)
@pytest.mark.parametrize("on_null", ["omit", "send_null"])
@pytest.mark.parametrize(
    ("mode", "when", "counts"),
    [
        ("upsert", "INSERT", {"added": 3, "updated": 1, "rejected": 1}),
        ("upsert", "UPDATE", {"added": 4, "rejected": 1}),
        ("insert", "INSERT", {"added": 3, "skipped": 1, "rejected": 1}),
        ("update", "UPDATE", {"skipped": 4, "rejected": 1}),
    ],
)
def test_what_a_trigger_leaves_out_is_not_written(world, request, kind, mode, when, counts, on_null):
    database = request.getfixturevalue(kind)
    database.run(PEOPLE, *(one.format(when) for one in SKIP[kind]))
    database.run("INSERT INTO people VALUES ('ada0@example.com', 'Old', 'mine')")
    bad = 0 if when == "UPDATE" else 3
    world.land([user(n, name="bad" if n == bad else f"Ada {n}") for n in range(5)])
    spec = mapping(mode=mode, on_null=on_null, limits={"max_reject_percent": 50})
    assert world.push(spec, database.target())["counts"] == counts
    outcome = of(world, str(1000 + bad))
    assert outcome["status"] == "rejected"
    assert "wrote no row" in outcome["reason"]
    assert "bad" not in [name for (name,) in database.rows("people", "name")]


@pytest.mark.parametrize("answer", ["REPLACE", "IGNORE"])
def test_what_a_constraint_says_to_a_conflict_does_not_count(world, sqlite, answer):
    sqlite.run(
        f"CREATE TABLE people (id TEXT PRIMARY KEY, email TEXT UNIQUE ON CONFLICT {answer})",
        "INSERT INTO people VALUES ('1', 'ada1@example.com')",
    )
    fields = {"id": {"source": "id", "required": True, "unique": True}, "email": "email"}
    world.land(users(30))
    summary = world.push(mapping(fields=fields, sync_key=["id"]), sqlite.target())
    assert summary["counts"] == {"added": 29, "rejected": 1}
    assert ("1", "ada1@example.com") in sqlite.rows("people", "id", "email")


# --- null and columns that take none -------------------------------------------------------------


def test_null_keeps_what_a_column_without_null_has_and_updates_the_rest(world, database):
    database.run(
        "CREATE TABLE people (id VARCHAR(20) PRIMARY KEY, email VARCHAR(100), name VARCHAR(100) NOT NULL)",
        "INSERT INTO people VALUES ('1003', 'old@example.com', 'Known')",
    )
    fields = {"id": {"source": "id", "required": True, "unique": True}, "email": "email", "name": "name"}
    # A row that isn't there yet can't be without a name.
    world.land([*users(3), user(3, name=None), *users(60)[4:], user(60, name=None)])
    summary = world.push(mapping(fields=fields, sync_key=["id"]), database.target())
    assert summary["counts"] == {"added": 59, "updated": 1, "rejected": 1}
    assert of(world, "1060")["status"] == "rejected"
    assert ("1003", "ada3@example.com", "Known") in database.rows("people", "id", "email", "name")


def test_null_that_is_meant_is_rejected_by_a_column_without_null(world, database):
    database.run(
        "CREATE TABLE people (email VARCHAR(100) PRIMARY KEY, name VARCHAR(100) NOT NULL)",
        "INSERT INTO people VALUES ('ada3@example.com', 'Known')",
    )
    world.land([*users(3), user(3, name=None), *users(60)[4:]])
    assert world.push(mapping(on_null="send_null"), database.target())["counts"] == {"added": 59, "rejected": 1}
    assert ("ada3@example.com", "Known") in database.rows("people", "email", "name")
