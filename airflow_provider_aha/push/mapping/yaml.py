"""YAML and JSON text of a mapping, read so that nothing in it is lost: a key that comes twice is a fault."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """Loads plain data only, and refuses what YAML would pass over."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        name = loader.construct_object(key)
        line = key.start_mark.line + 1
        if not isinstance(name, str):
            # YAML reads on, off, yes and no as flags.
            raise yaml.MarkedYAMLError(problem=f"line {line}: the name {key.value} must be in quotes")
        if name in seen:
            raise yaml.MarkedYAMLError(problem=f"line {line}: {name} is there twice")
        seen.add(name)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _timestamp_as_text(loader: _Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


# A date stays the text that was written: the type of the field says what it is to be.
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _timestamp_as_text)


def parse(text: str, faults: list[str]) -> Any:
    """Parse YAML; JSON is YAML too.

    :param text: the text.
    :param faults: what is wrong with it is added here.
    :return: plain data.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - the loader is a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}: " if mark else ""
        faults.append(f"(all): {where}{error.problem or 'no YAML'}")
    except (yaml.YAMLError, RecursionError):
        faults.append("(all): the text is neither YAML nor JSON")
    return None
