"""What a person sees of the example DAGs: names, tags, first lines, forms; and how their schedules are set."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_aha.dag_parts import CONNECTION, SCHEDULES
from airflow_provider_aha.hooks.accounts import connection_id
from airflow_provider_aha.operators.base import AhaOperator
from airflow_provider_aha.operators.writes import AhaWriteOperator
from airflow_provider_aha.transfers.base import AhaPushOperator
from airflow_provider_aha.version_compat import AIRFLOW_V_3_1_PLUS

DAGS = Path(__file__).parents[2] / "dags"
PAGE = Path(__file__).parents[2] / "docs" / "dags.md"
FILES = sorted(path.stem for path in DAGS.glob("*.py"))
if not AIRFLOW_V_3_1_PLUS:
    # There are no asset watchers before.
    FILES.remove("aha_on_users_changed")
KINDS = {"read", "form", "writes", "push", "watch"}
# How often it looks is set by AHA_WATCH_SECONDS.
WATCHED = "aha_on_users_changed"
ON_THE_EXTRACT = {"aha_access_review", "aha_push_to_http", "aha_push_to_oomnitza", "aha_push_to_sql"}
SCHEDULED = {
    "aha_extract": "40 3 * * *",
    "aha_extract_many": "40 3 * * *",
    "aha_offboard_leavers": "0 5 * * *",
    "aha_reclaim_seats": "0 6 * * 1",
    "aha_watch_users": "7 * * * *",
}


@pytest.fixture(scope="module")
def dags() -> dict[str, Any]:
    """All of them, parsed once."""
    from tests.airflow.conftest import dag_bag

    bag = dag_bag(DAGS)
    assert bag.import_errors == {}
    assert sorted(bag.dags) == FILES
    return dict(bag.dags)


def fields(dag: Any) -> Iterator[tuple[str, Any]]:
    for name in dag.params:
        yield name, dag.params.get_param(name)


def description(field: Any) -> str:
    return str(field.schema.get("description_md") or field.description or "")


def schedule(dag: Any, airflow_2: bool) -> Any:
    if airflow_2:
        return ["an asset"] if dag.schedule_interval == "Dataset" else dag.schedule_interval
    return dag.schedule


# --- in the list ---------------------------------------------------------------------------------


def test_names_say_what_a_dag_does(dags):
    names = [dag.dag_display_name for dag in dags.values()]
    assert len(set(names)) == len(names)
    for dag in dags.values():
        # Together in the list, and apart from other DAGs.
        assert dag.dag_display_name.startswith("Aha! – "), dag
        assert 15 < len(dag.dag_display_name) < 60, dag
        assert "_" not in dag.dag_display_name


def test_tags_say_what_kind_of_dag_it_is(dags, airflow_2):
    for dag in dags.values():
        tags = set(dag.tags)
        assert "aha" in tags
        assert tags - {"aha"} <= KINDS, dag
        assert tags & KINDS, dag
        assert ("writes" in tags) == any(isinstance(task, AhaWriteOperator) for task in dag.tasks), dag
        assert not any(isinstance(task, AhaPushOperator) for task in dag.tasks) or "push" in tags, dag
        assert schedule(dag, airflow_2) or "form" in tags, dag
    assert {dag_id for dag_id, dag in dags.items() if "watch" in dag.tags} <= {WATCHED, "aha_watch_users"}


def test_the_first_line_says_what_it_does_and_what_it_never_does(dags):
    for dag in dags.values():
        first = dag.doc_md.partition("\n")[0]
        assert first == dag.description
        assert first.endswith("."), dag
        assert " never " in first, dag
        assert len(first) <= 116, dag


@pytest.mark.parametrize("dag_id", ["aha_reclaim_seats", "aha_offboard_leavers"])
def test_a_scheduled_dag_that_writes_says_in_its_form_what_it_waits_for(dags, dag_id):
    (first, *_) = (description(field) for _, field in fields(dags[dag_id]))
    assert "dry run until the Variable aha_writes_enabled is true" in first
    assert "aha_guards" in first


# --- forms ---------------------------------------------------------------------------------------


def test_every_field_has_a_label_and_a_text(dags):
    for dag in dags.values():
        for name, field in fields(dag):
            assert field.schema.get("title"), (dag, name)
            assert description(field).endswith("."), (dag, name)


def test_what_a_person_types_has_an_example(dags):
    for dag in dags.values():
        for name, field in fields(dag):
            typed = "boolean" not in str(field.schema["type"]) and "enum" not in field.schema
            if typed and field.schema.get("format") != "multiline":
                shown = description(field)
                assert field.schema.get("examples") or "such as" in shown.lower(), (dag, name)


def test_choices_are_labelled(dags):
    chosen = 0
    for dag in dags.values():
        for name, field in fields(dag):
            if "enum" in field.schema:
                chosen += 1
                assert field.schema["values_display"].keys() == set(field.schema["enum"]), (dag, name)
    assert chosen >= 5


def test_a_long_form_has_sections_and_what_must_be_filled_in_stands_outside_of_them(dags):
    """Airflow 3 opens one section at a time, and shows the fields without one first."""
    for dag in dags.values():
        in_section = {name for name, field in fields(dag) if field.schema.get("section")}
        assert in_section or len(dag.params) <= 5, dag
        for name, field in fields(dag):
            must = field.schema.get("minLength") and not field.value
            assert not (must or name == "dry_run") or name not in in_section, (dag, name)


# --- the connection ------------------------------------------------------------------------------


def test_every_form_about_an_account_takes_its_connection(dags):
    asked = set()
    for dag_id, dag in dags.items():
        if not {"form", "writes"} & set(dag.tags) or "push" in dag.tags:
            continue
        asked.add(dag_id)
        assert dag.params["aha_conn_id"] == "aha_default", dag
        for task in dag.tasks:
            assert not isinstance(task, AhaOperator) or task.aha_conn_id == CONNECTION, task
    assert {"aha_get_user", "aha_update_user", "aha_reclaim_seats", "aha_submit_review"} <= asked


@pytest.mark.parametrize("chosen", [None, "", "None", "aha_default", " aha_default "])
def test_without_a_choice_it_is_the_default(chosen, monkeypatch):
    monkeypatch.delenv("AIRFLOW_VAR_AHA_CONN_IDS", raising=False)
    assert connection_id(chosen) == "aha_default"


def test_a_listed_connection_can_be_chosen(monkeypatch):
    monkeypatch.setenv("AIRFLOW_VAR_AHA_CONN_IDS", '["aha_emea", "aha_us"]')
    assert connection_id("aha_us ") == "aha_us"


@pytest.mark.parametrize("listed", [None, "[]", '["aha_emea"]'])
def test_a_connection_that_is_not_listed_is_refused_and_not_repeated(listed, monkeypatch):
    monkeypatch.delenv("AIRFLOW_VAR_AHA_CONN_IDS", raising=False)
    if listed:
        monkeypatch.setenv("AIRFLOW_VAR_AHA_CONN_IDS", listed)
    with pytest.raises(AirflowFailException, match="Choose one of aha_default") as caught:
        connection_id("somebodys_key")
    assert "somebodys_key" not in str(caught.value)


def test_a_form_reads_the_account_that_was_chosen(
    registered: Callable[..., Any], run_dag: Any, aha_default: Any, set_connection: Any, monkeypatch: Any
):
    dag = registered(DAGS / "aha_get_user.py")["aha_get_user"]
    set_connection(aha_default.connection_uri, conn_id="aha_us")
    set_connection(conn_id="aha_default", host="mycompany.com", password="a-key")
    user = aha_default.account.user_ids[0]
    assert run_dag(dag, {"user": user, "aha_conn_id": "aha_us"}).state == "failed"
    assert aha_default.requests == []
    monkeypatch.setenv("AIRFLOW_VAR_AHA_CONN_IDS", '["aha_us"]')
    assert run_dag(dag, {"user": user, "aha_conn_id": "aha_us"}).state == "success"
    assert aha_default.requests


# --- schedules -----------------------------------------------------------------------------------


def test_schedules_without_a_setting(dags, airflow_2):
    found = {dag_id: schedule(dag, airflow_2) for dag_id, dag in dags.items()}
    assert {dag_id: one for dag_id, one in found.items() if isinstance(one, str)} == SCHEDULED
    assets = {dag_id for dag_id, one in found.items() if one and dag_id not in SCHEDULED}
    assert assets - {WATCHED} == ON_THE_EXTRACT


def test_every_schedule_can_be_set(parse, monkeypatch, airflow_2):
    wanted = {
        dag_id: f"{number} 1 * * *" for number, dag_id in enumerate({**SCHEDULED, **dict.fromkeys(ON_THE_EXTRACT)})
    }
    monkeypatch.setenv(SCHEDULES, json.dumps(wanted))
    found = {dag_id: schedule(dag, airflow_2) for dag_id, dag in parse(DAGS).dags.items()}
    assert {dag_id: one for dag_id, one in found.items() if one and dag_id != WATCHED} == wanted


def test_a_schedule_of_null_leaves_a_dag_to_people(parse, monkeypatch, airflow_2):
    monkeypatch.setenv(SCHEDULES, '{"aha_reclaim_seats": null}')
    dags = parse(DAGS / "aha_reclaim_seats.py").dags
    assert schedule(dags["aha_reclaim_seats"], airflow_2) is None


def test_a_schedule_alone_is_that_of_the_extracts(parse, monkeypatch, airflow_2):
    monkeypatch.setenv(SCHEDULES, "15 6 * * 1-5")
    for name in ("aha_extract", "aha_extract_many"):
        assert schedule(parse(DAGS / f"{name}.py").dags[name], airflow_2) == "15 6 * * 1-5"
    dags = parse(DAGS / "aha_offboard_leavers.py").dags
    assert schedule(dags["aha_offboard_leavers"], airflow_2) == "0 5 * * *"


@pytest.mark.parametrize("text", ["{", "[]", '{"aha_extract": 5}', '{"aha_extract": ["0 5 * * *"]}'])
def test_a_setting_that_can_not_be_read_is_an_import_error_in_a_sentence(parse, monkeypatch, text):
    monkeypatch.setenv(SCHEDULES, text)
    (error,) = parse(DAGS / "aha_reclaim_seats.py").import_errors.values()
    assert "The environment variable AHA_SCHEDULE must be a cron expression, or a JSON object" in error


# --- the page about them -------------------------------------------------------------------------


def test_the_dags_are_documented_as_they_are(dags, airflow_2):
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.*?) ?\|$", PAGE.read_text("utf-8"), re.M)
    documented = {name: (title, set(re.findall(r"`(\w+)`", tags)), when) for name, title, tags, when in rows}
    assert documented.keys() - dags.keys() <= {WATCHED}
    for dag_id, dag in dags.items():
        title, tags, when = documented[dag_id]
        assert (title, tags | {"aha"}) == (dag.dag_display_name, set(dag.tags))
        if isinstance(known := schedule(dag, airflow_2), str):
            assert when == f"`{known}`"
        else:
            assert bool(when) == bool(known), dag


def test_the_documented_schedules_are_read(parse, monkeypatch, airflow_2):
    (example,) = re.findall(r"AHA_SCHEDULE='(\{.*\})'", PAGE.read_text("utf-8"))
    monkeypatch.setenv(SCHEDULES, example)
    dags = parse(DAGS).dags
    for dag_id, wanted in json.loads(example).items():
        assert schedule(dags[dag_id], airflow_2) == wanted
