"""A draft from the fields of a target: what it finds, that it is a mapping, and that nothing launches it."""

import pytest

from airflow_provider_aha.push.mapping.spec import read_spec
from airflow_provider_aha.push.suggest import suggest_mapping
from airflow_provider_aha.push.targets.base import TargetField


def guesses(*names: str, dataset: str = "users") -> dict[str, str | None]:
    draft = suggest_mapping(dataset, [TargetField(name) for name in names], name="draft")
    return {guess.field.name: guess.source for guess in draft.guesses}


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("email", "email"),
        ("EmailAddress", "email"),
        ("E-Mail", "email"),
        ("USERNAME", "email"),
        ("Aha User Id", "id"),
        ("externalId", "id"),
        ("display_name", "name"),
        ("Last Login", "accessed_at"),
        ("aha_is_enabled", "is_enabled"),
        ("active", "is_enabled"),
        ("isAdmin", "is_administrator"),
        ("Created At", "created_at"),
        ("first name", "name"),
        ("Surname", "name"),
        ("shoe size", None),
        ("cost_centre", None),
        ("", None),
    ],
)
def test_names_are_recognised(name, source):
    assert guesses(name or "x") == {name or "x": source}


def test_a_draft_is_a_mapping_with_scores_that_is_not_launched():
    fields = [
        TargetField("EmailAddress", "string", required=True),
        TargetField("no", "string"),
        TargetField("Given Name", "string"),
        TargetField("it's", None),
        TargetField("Last Login", "timestamp"),
        TargetField("sync time", "timestamp"),
        TargetField("Aha Id", "integer"),
        TargetField("badge", "string", required=True),
    ]
    draft = suggest_mapping("users", fields, name="people")
    text = draft.text()
    spec = read_spec(text)
    assert (spec.launched, spec.sync_key) == (False, ("Aha Id",))
    assert [one.name for one in spec.fields] == ["EmailAddress", "Given Name", "Last Login", "sync time", "Aha Id"]
    assert spec.field("sync time").compare is False
    assert spec.field("EmailAddress").required
    assert "# 0.90, is another word for email" in text
    assert "# 0.70, is called id too, but is integer and not string" in text
    assert "the target needs a value\n  # badge: {const: ...}" in text
    assert "  # 'it''s': {const: ...}" in text


def test_a_target_without_a_key_is_told_to_choose_one():
    text = suggest_mapping("users", [TargetField("Last Login")], name="people").text()
    assert "sync_key: ['choose a field that is unique']" in text


def test_other_datasets():
    assert guesses("Mail", "Workspace", "role", "User Id", dataset="user_roles") == {
        "Mail": "user_email",
        "Workspace": "workspace_name",
        "role": "role",
        "User Id": "user_id",
    }
