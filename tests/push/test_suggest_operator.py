"""A draft of a mapping from a real table or Oomnitza: a file that nothing applies, and that nothing overwrites."""

from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_aha.push.mapping.spec import read_spec
from airflow_provider_aha.transfers.suggest import AhaSuggestMappingOperator
from tests.push.conftest import users


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW_VAR_AHA_OUTPUT_PATH", str(tmp_path / "aha"))
    return tmp_path / "aha"


def suggest(**arguments: Any) -> dict[str, Any]:
    return AhaSuggestMappingOperator(task_id="suggest", **{"target_conn_id": "test_sql", **arguments}).execute({})


def test_the_draft_of_a_table_is_a_mapping_that_is_not_launched(base, database):
    database.run("CREATE TABLE people (aha_user_id VARCHAR(40) PRIMARY KEY, email VARCHAR(99) NOT NULL, badge INT)")
    result = suggest(table="people", dataset="")
    path = base / "push" / "drafts" / "users_people.yaml"
    assert result == {
        "path": str(path),
        "name": "users_people",
        "sync_key": "aha_user_id",
        "undecided": ["badge"],
    }
    spec = read_spec(path.read_text())
    assert (spec.name, spec.launched, spec.sync_key) == ("users_people", False, ("aha_user_id",))
    assert {one.name: one.source.column for one in spec.fields if one.source} == {
        "aha_user_id": "id",
        "email": "email",
    }
    assert database.rows("people", "email") == []


def test_the_draft_is_one_that_the_push_takes(base, world, database):
    database.run("CREATE TABLE people (aha_user_id VARCHAR(40) PRIMARY KEY, email VARCHAR(99) NOT NULL, badge INT)")
    text = Path(suggest(table="people")["path"]).read_text()
    world.land(users(3))
    summary = world.push(read_spec(text), database.target())
    assert (summary["dry_run"], summary["counts"], summary["expected"]) == (True, {"planned": 3}, {"added": 3})


def test_a_draft_that_somebody_corrected_is_not_overwritten(base, sqlite):
    sqlite.run("CREATE TABLE people (id TEXT PRIMARY KEY, email TEXT)")
    path = Path(suggest(table="people")["path"])
    assert suggest(table="people")["path"] == str(path)
    path.write_text(path.read_text().replace("launched: false", "launched: true"))
    with pytest.raises(AirflowFailException, match=r"another draft at .*users_people\.yaml, which"):
        suggest(table="people")
    assert "launched: true" in path.read_text()
    assert suggest(table="people", name="second")["path"] == str(path.with_name("second.yaml"))


@pytest.mark.parametrize("records", ["people", "saas_users"])
def test_the_draft_of_oomnitza(base, oomnitza_sandbox, set_connection, records):
    set_connection(oomnitza_sandbox.connection_uri, conn_id="test_oomnitza")
    result = suggest(target_conn_id="test_oomnitza", records=records)
    text = (base / "push" / "drafts" / f"users_oomnitza_{records}.yaml").read_text()
    spec = read_spec(text)
    if records == "people":
        assert {"email", "username"} <= {one.name for one in spec.fields}
        assert "role" in result["undecided"]
        assert "# role: {const: ...}" in text
    else:
        assert spec.sync_key == ("user_external_id",)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"table": "nowhere"}, "shows no fields of nowhere"),
        ({}, "table is not set, and test_sql is the connection of a database"),
        ({"target_conn_id": ""}, "target_conn_id is not set"),
        ({"table": "people", "dataset": "user_changes"}, "dataset must be one of users, user_roles"),
        ({"table": "people", "name": "../../etc/passwd"}, "name: .* does not match|can't be the name of a mapping"),
        ({"table": "people", "allowed_conn_ids": '["aha_sql"]'}, "may not use the connection test_sql"),
        ({"table": "people", "allowed_conn_ids": []}, "may not use the connection test_sql"),
    ],
)
def test_what_a_form_can_not_mean_is_refused(base, sqlite, arguments, sentence):
    sqlite.run("CREATE TABLE people (id TEXT PRIMARY KEY)")
    with pytest.raises(AirflowFailException, match=sentence):
        suggest(**arguments)
    assert not base.exists()


def test_names_of_columns_stay_in_their_lines(base, sqlite):
    sqlite.run('CREATE TABLE people (id TEXT PRIMARY KEY, "x\nlaunched: true" TEXT, "e-mail" TEXT)')
    text = Path(suggest(table="people")["path"]).read_text()
    assert read_spec(text).launched is False
    assert '"x\\nlaunched: true"' in text
