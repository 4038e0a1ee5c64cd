"""No import points up: the rooms and their order are those of the table in docs/design.md."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "airflow_provider_aha"
NAME = PACKAGE.name


def rows() -> list[list[str]]:
    """Return the rooms of the table, the top row first."""
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    table = page.split("| room | what is in it |", 1)[1].split("\n\n", 1)[0]
    return [re.findall(r"`([\w/]+)`", line.split("|")[1]) for line in table.splitlines() if "`" in line]


RANKS = {room: -number for number, rooms in enumerate(rows()) for room in rooms}


def room_of(module: str) -> str | None:
    """Return the room of a module such as ``store/layout``: the longest part of its path that the table names."""
    parts = module.split("/")
    for length in range(len(parts), 0, -1):
        if (room := "/".join(parts[:length])) in RANKS:
            return room
    return None


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__"), path


def imported(path: Path) -> set[str]:
    """Return the modules of the package that a file imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {_module(name) for name in names if name.split(".")[0] == NAME}
    return found


def _module(name: str) -> str:
    parts = name.split(".")[1:]
    for length in range(len(parts), 0, -1):
        path = PACKAGE.joinpath(*parts[:length])
        if path.is_dir() or path.with_suffix(".py").is_file():
            return "/".join(parts[:length])
    return "__init__"


def points_up(module: str, other: str) -> bool:
    room, other_room = room_of(module), room_of(other)
    if room is None or other_room is None or room == other_room:
        return False
    return RANKS[other_room] >= RANKS[room] or "sandbox" in (room, other_room)


def test_every_module_is_in_a_room():
    outside = [module for module, _ in modules() if module != "__init__" and room_of(module) is None]
    assert [module for module in outside if module != "access"] == []


def test_every_room_of_the_table_is_there():
    assert [
        room for room in RANKS if not (PACKAGE / room).is_dir() and not (PACKAGE / f"{room}.py").is_file()
    ] == []


def test_no_import_points_up():
    found = {(module, other) for module, path in modules() for other in imported(path) if points_up(module, other)}
    assert found == set()


@pytest.mark.parametrize(
    ("module", "other"),
    [
        ("store/store", "record/run"),
        ("access/decide/rules", "access/write/guards"),
        ("push/targets/sql", "push/push"),
        ("sandbox/app", "common/values"),
        ("api/client", "lists/roster"),
    ],
)
def test_an_arrow_up_is_seen(module: str, other: str):
    assert points_up(module, other)


def test_an_import_is_seen_wherever_it_stands(tmp_path: Path):
    path = tmp_path / "m.py"
    path.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from airflow_provider_aha.record.run import Run\n"
        "def f():\n    import airflow_provider_aha.store.layout\n"
        "    from airflow_provider_aha.report import page\n"
    )
    assert imported(path) == {"record/run", "store/layout", "report/page"}


def test_nothing_below_the_hooks_imports_airflow():
    above = RANKS["version_compat"]
    for module, path in modules():
        if RANKS.get(room_of(module) or "", above) >= above:
            continue
        names = re.findall(r"^\s*(?:from|import) (airflow(?:\.|\b)\S*)", path.read_text(encoding="utf-8"), re.M)
        assert names == [], module


def knows_filesystems(path: Path) -> set[str]:
    """Return what a file says of filesystems, which only the store may know."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            found |= {name for name in names if name.split(".")[0] in ("fsspec", "s3fs", "gcsfs", "adlfs")}
        elif isinstance(node, ast.Attribute) and node.attr in ("fs", "invalidate_cache", "unstrip_protocol"):
            found.add(f".{node.attr}")
        elif isinstance(node, ast.arg) and node.arg == "fs":
            found.add("a parameter fs")
    return found


def test_only_the_store_knows_filesystems():
    found = {module: said for module, path in modules() if (said := knows_filesystems(path))}
    assert {module for module in found if room_of(module) != "sandbox"} == {"store/store", "store/backends"}


def test_nobody_but_the_store_makes_addresses_of_places():
    """A place's own path is its store's; an address comes from `url_of`, a name from `name_of`."""
    pattern = re.compile(
        r"location\.path\b|location\.url \+ |\{location\.url\}[{/]"
        r"|\.removeprefix\(\w*\.?(?:location|base)\.(?:path|url)"
    )
    found = {module for module, path in modules() if pattern.search(path.read_text(encoding="utf-8"))}
    assert {module for module in found if room_of(module) not in ("sandbox", "store")} == set()


@pytest.mark.parametrize(
    "line",
    [
        "from fsspec import filesystem",
        "def f():\n    import s3fs",
        "location.fs.ls('/')",
        "def read(fs, path): ...",
        "store.invalidate_cache()",
    ],
)
def test_knowledge_of_filesystems_is_seen(tmp_path: Path, line: str):
    path = tmp_path / "m.py"
    path.write_text(line)
    assert knows_filesystems(path)
