"""The documentation says what the code does: columns, fields, arguments, errors, links and code blocks."""

import importlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_aha import exceptions
from airflow_provider_aha.get_provider_info import (
    CONN_FIELDS,
    HIDDEN_FIELDS,
    OOMNITZA_CONN_FIELDS,
    OOMNITZA_RELABELING,
    RELABELING,
    get_provider_info,
)
from airflow_provider_aha.version_compat import AIRFLOW_V_3_1_PLUS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Whoever adds a host here has looked whether it is one that the world may see.
HOSTS = {
    "127.0.0.1",
    "airflow.apache.org",
    "gateway.example.com",
    "keepachangelog.com",
    "mycompany.aha.io",
    "openlineage.io",
    "proxy.example.com",
    "semver.org",
    "www.aha.io",
}

names = [str(page.relative_to(ROOT)) for page in PAGES]
every_page = pytest.mark.parametrize("page", PAGES, ids=names)


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def without_code(markdown: str) -> str:
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", markdown))


def anchors(markdown: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", markdown), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def section(name: str, heading: str) -> str:
    """Return a page from one heading up to the next one of any level."""
    _, _, rest = text(name).partition(f"\n## {heading}\n")
    assert rest, f"{name} has no heading {heading!r}"
    return re.split(r"^##+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def tables(markdown: str) -> list[list[dict[str, str]]]:
    """Return the tables of a text, each row as a dict by the table's header."""
    found = []
    for block in re.findall(r"(?:^\|.*\|$\n?)+", markdown, re.MULTILINE):
        rows = [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in block.strip().split("\n")
        ]
        found.append([dict(zip(rows[0], row, strict=True)) for row in rows[2:]])
    return found


def code_names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def blocks(language: str) -> Iterator[Any]:
    for page in PAGES:
        for number, match in enumerate(FENCE.finditer(page.read_text(encoding="utf-8"))):
            if match[1] == language:
                yield pytest.param(match[2], id=f"{page.relative_to(ROOT)}-{number}")


# ---- links, addresses, commands ------------------------------------------------------------------------


@every_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text(encoding="utf-8"))):
        if urlsplit(target).scheme:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there.read_text(encoding="utf-8")), target


@every_page
def test_every_address_is_a_known_one(page):
    found = re.findall(r"https?://[^\s)'\"`<>|\\]+", page.read_text(encoding="utf-8"))
    assert {urlsplit(address).hostname for address in found} <= HOSTS


@every_page
def test_no_page_names_an_index_or_a_machine(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"index-url|find-links|/simple\b|pypi\.|/home/|/tmp/", text)
    assert not any(f"{folder}/" in text for folder in (ROOT.parent, Path.home()) if folder != Path("/"))


@every_page
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    markdown = page.read_text(encoding="utf-8")
    code = [*re.findall(r"`([^`\n]+)`", markdown), *(match[2] for match in FENCE.finditer(markdown))]
    used = {target for part in code for target in re.findall(r"^make ([a-z-]+)", part, re.MULTILINE)}
    assert used <= targets


def test_every_page_can_be_reached_from_the_readme():
    reached, new = set(), {ROOT / "README.md"}
    while new:
        page = new.pop()
        reached.add(page)
        links = re.findall(r"\]\(([^)\s#]+\.md)", without_code(page.read_text(encoding="utf-8")))
        linked = ((page.parent / link).resolve() for link in links if not urlsplit(link).scheme)
        new |= {target for target in linked if target.exists()} - reached
    assert {page for page in PAGES if page.parent.name == "docs"} <= reached


def test_every_test_that_the_threat_model_names_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text("docs/threat-model.md"))
    assert len(named) > 30
    for path, name in named:
        assert not name or f"def {name}(" in text(path), (path, name)


# ---- datasets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["users", "user_roles", "user_role_summary", "user_changes"])
def test_columns_are_documented_as_they_are(dataset):
    from airflow_provider_aha.datasets.schemas import BY_DATASET

    (documented,) = (rows for rows in tables(section("docs/datasets.md", f"`{dataset}`")) if "column" in rows[0])
    found = [
        (code_names(row["column"])[0], row["type"], row["null"].startswith("never null")) for row in documented
    ]
    assert found == [
        (field.name, re.sub(r"list<\w+: string>", "list of string", str(field.type)), not field.nullable)
        for field in BY_DATASET[dataset]
    ]


def test_every_dataset_has_a_section():
    from airflow_provider_aha.datasets.names import DATASETS
    from airflow_provider_aha.datasets.schemas import BY_DATASET

    assert set(BY_DATASET) == set(DATASETS) == set(re.findall(r"^## `(\w+)`$", text("docs/datasets.md"), re.M))


def test_columns_of_the_evidence_are_documented_as_they_are():
    from airflow_provider_aha.record.evidence import EVIDENCE

    (documented,) = tables(section("docs/deactivations/evidence.md", "Columns"))
    assert all(row["meaning"] for row in documented)
    found = [(code_names(row["column"])[0], row["type"]) for row in documented]
    assert found == [(field.name, str(field.type)) for field in EVIDENCE]


def test_outcomes_and_proofs_of_the_evidence_are_documented():
    from airflow_provider_aha.record.journal import OUTCOMES, PROVEN, UNKNOWN

    (proofs,) = tables(section("docs/deactivations/evidence.md", "What counts as done"))
    assert [row["`proof`"] for row in proofs] == [str(proof) for proof in range(PROVEN + 1)]
    (after,) = (rows for rows in tables(text("docs/deactivations/index.md")) if "outcome" in rows[0])
    words = [word for row in proofs for word in code_names(row["`outcome`"])]
    assert {*words, *(code_names(row["outcome"])[0] for row in after)} == {*OUTCOMES, UNKNOWN}


def test_words_of_the_datasets_are_documented():
    from airflow_provider_aha.datasets.users import _STATUS, WORKSPACE_ROLES

    status = {code_names(row["status"])[0] for row in tables(section("docs/datasets.md", "`users`"))[1]}
    assert status == set(_STATUS)
    codes = tables(section("docs/datasets.md", "`user_roles`"))[1]
    roles = {row["`role_id`"]: code_names(row["`role`"])[0] for row in codes}
    assert roles == {str(code): role for code, (role, _) in WORKSPACE_ROLES.items()}


def test_layout_is_documented_as_it_is():
    from airflow_provider_aha.datasets.names import DATASETS
    from airflow_provider_aha.store.layout import Layout

    layout = Layout("mycompany")
    day = "2026-08-01"
    paths = [*(layout.dataset(name, day) for name in DATASETS), layout.manifest(day)]
    (tree,) = (match[2] for match in FENCE.finditer(section("docs/datasets.md", "Layout")))
    head, *rest = tree.replace("<subdomain>", "mycompany").replace("<YYYY-MM-DD>", day).split()[1:]
    assert head == "path>/"
    assert rest == paths


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    from fsspec.implementations.local import LocalFileSystem

    from airflow_provider_aha.api.client import AhaClient
    from airflow_provider_aha.api.config import ClientConfig
    from airflow_provider_aha.datasets.extract import extract
    from airflow_provider_aha.datasets.names import DATASETS
    from airflow_provider_aha.sandbox.testing import SandboxServer
    from airflow_provider_aha.store.store import Store

    base = tmp_path_factory.mktemp("base")
    with SandboxServer(users=30) as aha:
        config = ClientConfig.from_connection(host=aha.host, port=aha.port, schema="http", password=aha.key)
        with AhaClient(config) as client:
            location = Store(LocalFileSystem(), str(base), str(base))
            return extract(client, location, datasets=DATASETS, connection_id="aha_default"), base


def test_keys_of_the_manifest_are_documented_as_they_are(landed):
    manifest, _ = landed
    (rows,) = tables(section("docs/datasets.md", "The manifest"))
    assert [key for row in rows for key in code_names(row["key"])] == list(manifest)
    files = next(row["meaning"] for row in rows if row["key"] == "`files`")
    assert code_names(files) == list(manifest["files"][0])


def test_decisive_keys_are_documented():
    from airflow_provider_aha.datasets.users import REQUIRED_KEYS

    named = code_names(section("docs/completeness.md", "When Aha! leaves something out"))
    assert set(REQUIRED_KEYS) <= set(named)


# ---- connection ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "fields", "labels"),
    [
        ("docs/connection.md", CONN_FIELDS, RELABELING),
        ("docs/push/oomnitza-connection.md", OOMNITZA_CONN_FIELDS, OOMNITZA_RELABELING),
    ],
)
def test_fields_of_the_connections_are_documented_as_they_are(page, fields, labels):
    standard, extras = tables(section(page, "Fields"))
    assert {code_names(row["extra"])[0]: row["in the form"] for row in extras} == {
        name: field["label"] for name, field in fields.items()
    }
    for row in extras:
        schema: Any = fields[code_names(row["extra"])[0]]["schema"]
        assert row["default"] == str(schema.get("default", "none"))
    assert {code_names(row["field"])[0]: row["in the form"] for row in standard} == labels | dict.fromkeys(
        HIDDEN_FIELDS, "hidden"
    )


def test_ready_mapping_of_oomnitzas_people_is_documented_as_it_is():
    from airflow_provider_aha.push.mapping.load import load_spec
    from airflow_provider_aha.push.targets.oomnitza.people import check_people_mapping

    spec = load_spec("oomnitza_people", {"role": 25}, lambda path: None)  # type: ignore[arg-type, return-value]
    check_people_mapping(spec)
    rows = tables(section("docs/push/oomnitza.md", "What maps to what"))[0]
    documented = {
        (target, code_names(row["column of `users`"])[0])
        for row in rows
        for target in code_names(row["field at Oomnitza"])
    }
    assert documented == {(one.name, one.source.column if one.source else "role") for one in spec.fields}
    # The guide's standard fields are twelve; the role is the mandatory one beside them.
    assert len(rows) == 12 + 1


def test_fields_of_saas_users_and_grains_of_roles_are_documented():
    from airflow_provider_aha.push.targets.oomnitza.saas import _FIELDS
    from airflow_provider_aha.transfers.to_oomnitza import DISTINCT, NO_ROLES, PER_WORKSPACE

    fields, grains = tables(section("docs/push/oomnitza.md", "SaaS users and roles"))
    assert {name for row in fields for name in code_names(row["field"])} == set(_FIELDS)
    assert [code_names(row["`role_grain`"])[0] for row in grains] == [DISTINCT, PER_WORKSPACE, NO_ROLES]


def test_faults_of_the_sandbox_are_documented_with_their_options():
    from airflow_provider_aha.sandbox.fault_kinds import KINDS

    (faults,) = tables(section("docs/sandbox.md", "Faults"))
    documented = {name: set(code_names(row["options"])) for row in faults for name in code_names(row["fault"])}
    for name, kind in KINDS.items():
        assert documented.pop(name) >= set(kind.options), name
    assert documented == {}


def test_faults_of_the_oomnitza_sandbox_are_documented():
    from airflow_provider_aha.sandbox.oomnitza.app import KINDS

    (faults,) = tables(section("docs/push/oomnitza-connection.md", "The sandbox"))
    assert {name for row in faults for name in code_names(row["fault"])} == set(KINDS)


def test_defaults_of_the_form_are_those_of_the_client():
    from airflow_provider_aha.api.config import ClientConfig

    bare = ClientConfig.from_connection(host="mycompany", password="k")
    assert bare == ClientConfig.from_connection(
        host="mycompany",
        password="k",
        extra={name: field["schema"].get("default") for name, field in CONN_FIELDS.items()},  # type: ignore[attr-defined]
    )


def test_variables_are_documented():
    from airflow_provider_aha.hooks.accounts import CONNECTIONS_VARIABLE
    from airflow_provider_aha.hooks.aha import SUBDOMAIN_VARIABLE
    from airflow_provider_aha.hooks.paths import BASE_PATH_VARIABLE

    (rows,) = tables(section("docs/connection.md", "Other ways to store it"))
    documented = {code_names(row["Variable"])[0] for row in rows}
    assert documented == {SUBDOMAIN_VARIABLE, CONNECTIONS_VARIABLE, BASE_PATH_VARIABLE}


def test_keys_of_the_guards_are_documented_and_the_example_is_read(monkeypatch):
    from airflow_provider_aha.operators.guards import GUARDS, read_guards_variable

    page = section("docs/deactivations/index.md", "The guards")
    (rows,) = tables(page)
    assert [key for row in rows for key in code_names(row["key"])] == list(GUARDS)
    (example,) = (match[2] for match in FENCE.finditer(page))
    monkeypatch.setenv("AIRFLOW_VAR_AHA_GUARDS", example)
    assert (read_guards_variable() or {}).keys() == set(GUARDS)


@pytest.mark.parametrize(
    ("host", "account"),
    [("mycompany", "mycompany"), ("mycompany.aha.io", "mycompany"), ("mycompany.use3.aha.io", "mycompany.use3")],
)
def test_documented_hosts_are_accepted(host, account):
    from airflow_provider_aha.api.config import ClientConfig

    assert host in text("docs/connection.md")
    assert ClientConfig.from_connection(host=host, password="k").account == account


@pytest.mark.parametrize("block", blocks("bash"))
def test_connections_in_json_are_json(block):
    for value in re.findall(r"AIRFLOW_CONN_\w+='(\{.*?\})'", block, re.DOTALL):
        connection = json.loads(value)
        known: Any = {"aha": CONN_FIELDS, "oomnitza": OOMNITZA_CONN_FIELDS}[connection["conn_type"]]
        assert set(connection.get("extra", {})) <= set(known)


# ---- operators, hook, errors ---------------------------------------------------------------------------


def public_operators() -> list[Any]:
    info: Any = get_provider_info()
    modules = [name for entry in info["operators"] for name in entry["python-modules"]]
    modules += [entry["python-module"] for entry in info["transfers"]]
    # Older versions have no operators that wait for a person.
    modules = [name for name in modules if not name.endswith(".approvals")]
    modules += ["airflow_provider_aha.operators.hitl"] if AIRFLOW_V_3_1_PLUS else []
    return [
        thing
        for module in map(importlib.import_module, modules)
        for name, thing in vars(module).items()
        if inspect.isclass(thing) and thing.__module__ == module.__name__ and not name.startswith("_")
    ]


def own_arguments(operator: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for cls in operator.__mro__:
        if cls.__module__.startswith("airflow_provider_aha") and "__init__" in vars(cls):
            for name, parameter in inspect.signature(inspect.unwrap(cls.__init__)).parameters.items():
                if name != "self" and parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                    found.setdefault(name, parameter.default)
    return found


def documented_arguments(operator: Any) -> list[dict[str, str]]:
    return next(rows for rows in tables(section("docs/operators.md", operator.__name__)) if "argument" in rows[0])


# `datasets` of the roles operator is fixed; it is inherited and can't be given.
FIXED = {"AhaExtractRolesOperator": {"datasets"}}


def test_arguments_of_operators_are_documented_as_they_are():
    operators = public_operators()
    assert operators
    for operator in operators:
        arguments = {
            name: default
            for name, default in own_arguments(operator).items()
            if name not in FIXED.get(operator.__name__, set())
        }
        rows = documented_arguments(operator)
        assert {code_names(row["argument"])[0] for row in rows} == set(arguments), operator.__name__
        for row in rows:
            name = code_names(row["argument"])[0]
            required = arguments[name] is inspect.Parameter.empty
            assert row["default"] == ("required" if required else f"`{arguments[name]!r}`"), (operator, name)
            assert row["templated"] == ("yes" if name in operator.template_fields else "no"), (operator, name)


def test_arguments_of_sensors_and_of_the_watcher_are_documented_as_they_are():
    from airflow_provider_aha.sensors.users import AhaSeatUsageSensor, AhaUsersChangedSensor, AhaUserSensor
    from airflow_provider_aha.triggers.watcher import AhaUsersChangedTrigger

    for thing in (AhaUserSensor, AhaUsersChangedSensor, AhaSeatUsageSensor, AhaUsersChangedTrigger):
        arguments = own_arguments(thing)
        rows = next(rows for rows in tables(section("docs/sensors.md", thing.__name__)) if "argument" in rows[0])
        assert {code_names(row["argument"])[0] for row in rows} == set(arguments), thing.__name__
        for row in rows:
            name = code_names(row["argument"])[0]
            required = arguments[name] is inspect.Parameter.empty
            assert row["default"] == ("required" if required else f"`{arguments[name]!r}`"), (thing, name)
            templated = "yes" if name in getattr(thing, "template_fields", ()) else "no"
            assert row.get("templated", "no") == templated, (thing, name)


def test_methods_of_the_hook_are_documented():
    from airflow_provider_aha.hooks.aha import AhaHook

    (rows,) = tables(section("docs/operators.md", "AhaHook"))
    documented = {code_names(row["method"])[0].partition("(")[0] for row in rows}
    ours = [kind for kind in AhaHook.__mro__ if kind.__module__.startswith("airflow_provider_aha.")]
    things = {name: thing for kind in ours for name, thing in vars(kind).items()}
    methods = {name for name, thing in things.items() if inspect.isfunction(thing) and name[0] != "_"}
    assert documented == methods


def error_rows() -> dict[str, dict[str, str]]:
    rows = tables(text("docs/errors.md"))[0]
    return {code_names(row["error"])[0]: row for row in rows}


def error_classes() -> dict[str, Any]:
    return {
        name: thing
        for name, thing in vars(exceptions).items()
        if inspect.isclass(thing) and issubclass(thing, exceptions.AhaError) and thing is not exceptions.AhaError
    }


def test_every_error_is_documented():
    assert set(error_rows()) == set(error_classes())


def test_the_errors_that_airflow_does_not_retry_are_those_that_say_so():
    said = {name: row["retried by Airflow"] for name, row in error_rows().items()}
    assert said == {name: "yes" if error.retry else "no" for name, error in error_classes().items()}


def test_the_tree_of_errors_is_the_one_in_the_docstring():
    drawn = {}
    above: list[str] = []
    for line in exceptions.__doc__.splitlines():
        if found := re.match(r"^    ([|` -]*)(Aha\w+) +(retry|-)(?: |$)", line):
            depth = len(found[1]) // 4
            above = [*above[:depth], found[2]]
            drawn[found[2]] = (above[depth - 1] if depth else "Exception", found[3] == "retry")
    classes = {"AhaError": exceptions.AhaError, **error_classes()}
    assert drawn == {name: (error.__base__.__name__, error.retry) for name, error in classes.items()}


def test_facts_of_an_error_are_documented():
    (rows,) = tables(section("docs/errors.md", "Facts of an error"))
    documented = {name for row in rows for name in code_names(row["attribute"])}
    assert documented == {*vars(exceptions.AhaError("Nothing.")), "retry"}


# ---- code blocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", blocks("python"))
def test_python_compiles(block):
    compile(block, "block", "exec")


def imported_names(block: str) -> Iterator[tuple[str, str]]:
    for module, imported in re.findall(r"^ *from (airflow_provider_aha[\w.]*) import ([\w, ]+)", block, re.M):
        for name in imported.split(","):
            yield module, name.strip()


@pytest.mark.parametrize("block", blocks("python"))
def test_what_python_imports_from_the_package_exists(block):
    for module, name in imported_names(block):
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"
