"""YAML and JSON text of a mapping, read so that nothing in it is lost: a key that comes twice is a fault."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

# A mapping has a few levels, and a few KB; PyYAML reads some 100 KB a second.
_DEEPEST = 50
LONGEST_TEXT = 256 * 1024
_LONGEST_NUMBER = 100
# What may be shown of a name: a table of a lookup may have people's.
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}")


class _Loader(yaml.SafeLoader):
    """Loads plain data only, and refuses what YAML would pass over, or let grow."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a value: one that is written out, at a depth that a person would write."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="an alias (*) is not allowed: write the value out", problem_mark=event.start_mark
            )
        if self._depth >= _DEEPEST:
            raise yaml.MarkedYAMLError(
                problem=f"values are nested more than {_DEEPEST} deep", problem_mark=event.start_mark
            )
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        name = loader.construct_object(key)
        line = key.start_mark.line + 1
        if not isinstance(name, str):
            # YAML reads on, off, yes and no as flags.
            raise yaml.MarkedYAMLError(problem=f"line {line}: the name{_shown(key.value)} must be in quotes")
        if name in seen:
            raise yaml.MarkedYAMLError(problem=f"line {line}: {_shown(name).strip() or 'a name'} is there twice")
        seen.add(name)
    return loader.construct_mapping(node, deep=True)


def _shown(name: object) -> str:
    return f" {name}" if isinstance(name, str) and _FIELD_NAME.fullmatch(name) else ""


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _timestamp_as_text(loader: _Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


# A date stays the text that was written: the type of the field says what it is to be.
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _timestamp_as_text)


def _number(loader: _Loader, node: yaml.ScalarNode) -> int:
    if len(node.value) > _LONGEST_NUMBER:
        raise yaml.MarkedYAMLError(problem="a number is longer than any", problem_mark=node.start_mark)
    return int(loader.construct_yaml_int(node))


# In 1:1:1:…, a number to the base of 60, each further digit takes as long as all before it.
_Loader.add_constructor("tag:yaml.org,2002:int", _number)


def parse(text: str, faults: list[str]) -> Any:
    """Parse YAML; JSON is YAML too.

    :param text: the text.
    :param faults: what is wrong with it is added here.
    :return: plain data.
    """
    if len(text) > LONGEST_TEXT:
        faults.append(f"(all): the text is longer than {LONGEST_TEXT // 1024} KB, which no mapping is")
        return None
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - the loader is a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}: " if mark else ""
        faults.append(f"(all): {where}{error.problem or 'no YAML'}")
    except (yaml.YAMLError, RecursionError, ValueError):
        # A ValueError is a number of more digits than Python reads, or a date that no calendar has.
        faults.append("(all): the text is neither YAML nor JSON")
    return None
