"""The mapping specification: from YAML, JSON or a dict to what the mapper works by, with all faults at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from typing import Any

import pyarrow as pa

from airflow_provider_aha.common.values import is_unset
from airflow_provider_aha.datasets.schemas import BY_DATASET
from airflow_provider_aha.exceptions import AhaMappingError
from airflow_provider_aha.push.mapping.filters import Filter, read_filter
from airflow_provider_aha.push.mapping.paths import Source, read_source
from airflow_provider_aha.push.mapping.transforms import Transform, quoted, to_string, transforms
from airflow_provider_aha.push.mapping.types import ARROW, TYPES, convert, type_of_arrow, type_of_value
from airflow_provider_aha.push.mapping.yaml import parse

__all__ = ["TYPES", "Field", "MappingLimits", "MappingSpec", "read_spec", "schema"]

UPSERT, INSERT, UPDATE = "upsert", "insert", "update"
OMIT, SEND_NULL = "omit", "send_null"
# The column of a dataset that names the user whom a record is about.
_USER_ID = {"users": "id"}
_NULL = object()


@dataclass(frozen=True)
class Step:
    """One transform of a chain.

    :param name: its name.
    :param transform: the transform.
    :param arguments: what the mapping gives it.
    """

    name: str
    transform: Transform
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Field:
    """One field of the target.

    :param name: what the target calls it.
    :param type: one of :data:`TYPES`.
    :param source: where its value comes from; None: it is constant.
    :param constant: the value of a constant.
    :param steps: the transforms, in order.
    :param table: values by what is looked up; None: nothing is looked up.
    :param default: what stands for null; None: null stays.
    :param required: null makes the record invalid.
    :param unique: a value that comes twice makes all its records invalid.
    :param compare: whether a change of it counts as a change of the record.
    """

    name: str
    type: str
    source: Source | None = None
    constant: Any = None
    steps: tuple[Step, ...] = ()
    table: Mapping[str, Any] | None = None
    default: Any = None
    required: bool = False
    unique: bool = False
    compare: bool = True


@dataclass(frozen=True)
class MappingLimits:
    """What makes a push refuse to begin, or fail after it.

    :param max_reject_percent: of the records that passed the filter, how many may be invalid or rejected.
    :param max_change_percent: of the records sent before, how many may be added or changed.
    :param max_changes: how many records may be sent.
    :param max_shrink_percent: of the rows of the last push, how many may be missing.
    """

    max_reject_percent: float = 5.0
    max_change_percent: float | None = None
    max_changes: int | None = None
    max_shrink_percent: float = 20.0


@dataclass(frozen=True)
class MappingSpec:
    """A mapping without faults.

    :param name: its name.
    :param dataset: which dataset it maps.
    :param mode: ``upsert``, ``insert`` (add only) or ``update`` (change only).
    :param sync_key: the fields by which a record is found at the target, in order.
    :param fields: what is sent.
    :param launched: False: a draft, which is always a dry run.
    :param on_null: ``omit`` or ``send_null``.
    :param filter: which rows are meant; None: all.
    :param limits: what makes a push refuse or fail.
    :param given: the mapping as it was given, with its parameters put in.
    """

    name: str
    dataset: str
    mode: str
    sync_key: tuple[str, ...]
    fields: tuple[Field, ...]
    launched: bool = False
    on_null: str = OMIT
    filter: Filter | None = None
    limits: MappingLimits = field(default_factory=MappingLimits)
    given: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def user_id(self) -> str:
        """The column of the dataset that names the user whom a record is about."""
        return _USER_ID.get(self.dataset, "user_id")

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the mapped records."""
        return pa.schema([pa.field(one.name, ARROW[one.type]) for one in self.fields])

    @cached_property
    def columns(self) -> list[str]:
        """The columns of the dataset that are read."""
        named = {one.source.column for one in self.fields if one.source}
        named |= self.filter.columns if self.filter else set()
        return [name for name in BY_DATASET[self.dataset].names if name in named | {self.user_id}]

    @cached_property
    def fingerprint(self) -> str:
        """The same for mappings that make the same records: changed, everything is sent again."""
        facts = {name: value for name, value in self.given.items() if name not in ("launched", "limits")}
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()

    def field(self, name: str) -> Field:
        """Return a field by its name.

        :param name: what the target calls it.
        """
        return next(one for one in self.fields if one.name == name)


def schema() -> dict[str, Any]:
    """Return the JSON schema of a mapping, such as for an editor."""
    text = files("airflow_provider_aha.push.mapping").joinpath("mapping.schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def read_spec(
    value: Mapping[str, Any] | str, params: Mapping[str, Any] | None = None, *, what: str = "The mapping"
) -> MappingSpec:
    """Read a mapping.

    :param value: a dict, or YAML or JSON text of one.
    :param params: values for the fields that ask for one by ``param``.
    :param what: what it is, for the sentence, beginning with a capital letter.
    :raises AhaMappingError: when anything in it is wrong; all of it is listed.
    """
    faults: list[str] = []
    given = parse(value, faults) if isinstance(value, str) else value
    if not faults:
        faults = _faults_of_shape(given)
    if faults or not isinstance(given, Mapping):
        raise AhaMappingError(f"{what} is wrong:", faults)
    reader = _Reader(given, params or {})
    spec = reader.read()
    if reader.faults:
        raise AhaMappingError(f"{what} is wrong:", reader.faults)
    return spec


def _faults_of_shape(given: Any) -> list[str]:
    from jsonschema import Draft202012Validator

    try:
        plain = json.loads(json.dumps(given))
    except (TypeError, ValueError) as error:
        return [f"(all): not what JSON can hold: {error}"]
    except RecursionError:
        return ["(all): values are nested too deep"]
    errors = sorted(Draft202012Validator(schema()).iter_errors(plain), key=lambda e: [str(p) for p in e.path])
    return [f"{_path(error.absolute_path)}: {_sentence(error)}" for error in errors]


def _path(parts: Any) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.lstrip(".") or "(all)"


def _sentence(error: Any) -> str:
    # The library's own words quote a whole sub-schema for these.
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        unknown = sorted(set(error.instance) - set(known))
        return f"{', '.join(unknown)} is not known here; known are {', '.join(known)}"
    if error.validator in ("anyOf", "oneOf", "not") and "description" in error.schema:
        return f"must be {error.schema['description']}"
    return str(error.message)


class _Reader:
    """Makes a specification of what has the right shape, and collects what is wrong with it."""

    def __init__(self, given: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        self.faults: list[str] = []
        self._given = given
        self._params = params
        self._columns = BY_DATASET[given["dataset"]]
        self._used: dict[str, Any] = {}

    def read(self) -> MappingSpec:
        given = self._given
        fields = tuple(self._field(name, self._settings(name)) for name in given["fields"])
        self._check_names()
        self._check_key(fields)
        condition = read_filter(given.get("filter"), self._columns, self.faults)
        limits = {name: value for name, value in (given.get("limits") or {}).items() if value is not None}
        return MappingSpec(
            name=given["name"],
            dataset=given["dataset"],
            mode=given.get("mode", UPSERT),
            sync_key=tuple(given["sync_key"]),
            fields=fields,
            launched=given.get("launched", False),
            on_null=given.get("on_null", OMIT),
            filter=condition,
            limits=MappingLimits(**limits),
            given={**given, "params": self._used} if self._used else dict(given),
        )

    def _settings(self, name: str) -> Mapping[str, Any]:
        value = self._given["fields"][name]
        return {"source": value} if isinstance(value, str) else value

    def _check_names(self) -> None:
        seen: dict[str, str] = {}
        for name in self._given["fields"]:
            other = seen.setdefault(name.casefold(), name)
            if other != name:
                self._fault(
                    f"fields.{name}", f"the target field {other} is there already, and differs in case only"
                )

    def _check_key(self, fields: tuple[Field, ...]) -> None:
        by_name = {one.name: one for one in fields}
        for number, name in enumerate(self._given["sync_key"]):
            one = by_name.get(name)
            if one is None:
                self._fault(f"sync_key[{number}]", f"there is no field {name}")
                continue
            if not one.required:
                self._fault(f"fields.{name}.required", "a field of the sync key must be required: true")
            if not one.unique and len(self._given["sync_key"]) == 1:
                self._fault(f"fields.{name}.unique", "the field of the sync key must be unique: true")
            if one.type == "json":
                self._fault(f"fields.{name}.type", "a field of the sync key can't be JSON")
            if one.source is None:
                self._fault(f"fields.{name}", "a field of the sync key can't be constant")

    def _field(self, name: str, settings: Mapping[str, Any]) -> Field:
        path = f"fields.{name}"
        origins = [key for key in ("source", "const", "param") if key in settings]
        if len(origins) != 1:
            self._fault(path, "needs exactly one of source, const and param")
            return Field(name, "string")
        flags = {flag: settings.get(flag, flag == "compare") for flag in ("required", "unique", "compare")}
        if origins[0] != "source":
            return self._constant(name, path, settings, flags)
        source = read_source(settings["source"], self._columns, f"{path}.source", self.faults)
        steps = tuple(self._steps(path, settings.get("transforms", ())))
        table = settings.get("map")
        kind = self._type(path, settings, source, steps)
        return Field(
            name,
            kind,
            source=source,
            steps=steps,
            table=self._table(path, table, kind),
            default=self._value(f"{path}.default", settings.get("default"), kind),
            **flags,
        )

    def _constant(self, name: str, path: str, settings: Mapping[str, Any], flags: dict[str, Any]) -> Field:
        for key in ("transforms", "map", "default"):
            if key in settings:
                self._fault(f"{path}.{key}", "a constant takes none: write the value itself")
        if "param" in settings:
            path, value = f"{path}.param", self._param(settings["param"], path)
        else:
            path, value = f"{path}.const", settings["const"]
        kind = settings.get("type") or type_of_value(value)
        value = self._value(path, value, kind)
        if value is None and flags["required"] and not self.faults:
            self._fault(path, "is null, and the field is required")
        if flags["unique"]:
            self._fault(path, "a constant can't be unique")
        return Field(name, kind, constant=value, **flags)

    def _param(self, name: str, path: str) -> Any:
        if name not in self._params or is_unset(self._params[name]):
            self._fault(f"{path}.param", f"no value was given for {name} (mapping_params)")
            return None
        self._used[name] = self._params[name]
        return self._params[name]

    def _steps(self, path: str, given: Any) -> Iterator[Step]:
        for number, item in enumerate(given):
            place = f"{path}.transforms[{number}]"
            name, arguments = (item, ()) if isinstance(item, str) else next(iter(item.items()))
            arguments = tuple(arguments) if isinstance(arguments, (list, tuple)) else (arguments,)
            transform = transforms().get(name)
            if transform is None:
                known = ", ".join(sorted(transforms()))
                self._fault(place, f"there is no transform {name}; there are {known}")
            elif len(arguments) != transform.arguments:
                self._fault(place, f"{name} takes {transform.arguments} arguments, not {len(arguments)}")
            else:
                yield Step(name, transform, arguments)

    def _type(self, path: str, settings: Mapping[str, Any], source: Source | None, steps: tuple[Step, ...]) -> str:
        if kind := settings.get("type"):
            return str(kind)
        if table := settings.get("map"):
            kinds = {type_of_value(value) for value in table.values() if value is not None}
            if len(kinds) == 1:
                return kinds.pop()
            self._fault(f"{path}.map", "its values have several types: give the field a type")
            return "string"
        for step in reversed(steps):
            if step.transform.returns is not None:
                return step.transform.returns
        if source is None or source.steps:
            return "string"
        return type_of_arrow(self._columns.field(source.column).type)

    def _table(self, path: str, table: Mapping[str, Any] | None, kind: str) -> Mapping[str, Any] | None:
        if table is None:
            return None
        return {key: self._value(f"{path}.map.{key}", value, kind) for key, value in table.items()}

    def _value(self, path: str, value: Any, kind: str) -> Any:
        if value is None:
            return None
        try:
            return convert(value, kind)
        except ValueError as error:
            self._fault(path, str(error))
            return None

    def _fault(self, path: str, sentence: str) -> None:
        self.faults.append(f"{path}: {sentence}")


def looked_up(table: Mapping[str, Any], value: object, default: Any) -> Any:
    """Look a value up in the ``map`` of a field, whose keys are text.

    :param table: the map.
    :param value: a value that isn't null.
    :param default: what stands for a value without entry; None: there is nothing that does.
    :raises ValueError: when nothing stands for it.
    """
    found = table.get(to_string(value), _NULL if default is None else default)
    if found is _NULL:
        raise ValueError(f"map has no entry for {quoted(value)}")
    return found
