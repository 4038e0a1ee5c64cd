"""The pages about mappings say what the code does."""

import re
from pathlib import Path

import pytest

from airflow_provider_aha.push.mapping.filters import OPERATORS
from airflow_provider_aha.push.mapping.load import ready_mappings
from airflow_provider_aha.push.mapping.spec import MappingLimits, read_spec, schema
from airflow_provider_aha.push.mapping.transforms import transforms
from airflow_provider_aha.push.outcomes import OUTCOMES
from airflow_provider_aha.push.suggest import suggest_mapping
from airflow_provider_aha.push.targets.base import TargetField
from airflow_provider_aha.push.targets.dialects import MySql, Postgres, Sqlite

PAGES = Path(__file__).parents[2] / "docs" / "push"


def rows(page: str, heading: str) -> list[list[str]]:
    text = (PAGES / page).read_text()
    part = text.split(f"\n## {heading}\n", 1)[1].split("\n## ")[0]
    lines = re.findall(r"^\|(.+)\|$", part, re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")] for line in lines if not line.startswith("---")][1:]


def names(page: str, heading: str) -> list[str]:
    return [name for row in rows(page, heading) for name in re.findall(r"`([^`]+)`", row[0])]


def test_the_examples_are_a_mapping_and_a_draft():
    text, draft = re.findall(r"^```yaml\n(.*?)^```$", (PAGES / "mapping.md").read_text(), re.MULTILINE | re.DOTALL)
    columns = [
        TargetField("aha_user_id", "string"),
        TargetField("email", "string"),
        TargetField("badge", "integer"),
    ]
    assert draft == suggest_mapping("users", columns, name="users_people").text()
    spec = read_spec(text)
    used = {key for one in spec.given["fields"].values() if isinstance(one, dict) for key in one}
    assert used >= {"source", "transforms", "required", "unique", "const", "map", "default", "type", "compare"}
    assert set(spec.given) == set(schema()["properties"])


@pytest.mark.parametrize(
    ("heading", "known"),
    [
        ("Keys", list(schema()["properties"])),
        ("Fields", list(schema()["$defs"]["field"]["properties"])),
        ("Transforms", list(transforms())),
        ("Filters", list(OPERATORS)),
        ("Limits", list(MappingLimits.__dataclass_fields__)),
        ("Ready mappings", ready_mappings()),
    ],
)
def test_tables_are_complete(heading, known):
    documented = names("mapping.md", heading)
    assert sorted(documented) == sorted(name for name in known if not name.startswith("test_"))


def test_defaults_of_limits():
    for name, default, *_ in rows("mapping.md", "Limits"):
        value = getattr(MappingLimits(), name.strip("`"))
        assert default == ("none" if value is None else f"`{value:g}`")


def test_columns_of_outcomes():
    table = (PAGES / "index.md").read_text().split("| column | meaning |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == OUTCOMES.names


def test_types_of_created_tables():
    for kind, *databases in rows("sql.md", "A table that isn't there"):
        for text, dialect in zip(databases, (Postgres, MySql, Sqlite), strict=True):
            assert re.findall(r"`([^`]+)`", text)[0] == dialect.types[kind.strip("`")]
