"""Oomnitza's people as a target: found by the fields of the sync key, compared, and only differences written."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_aha.exceptions import (
    AhaConfigurationError,
    AhaError,
    AhaNotFoundError,
    AhaValidationError,
)
from airflow_provider_aha.push.mapping.spec import INSERT, UPDATE, Field, MappingSpec
from airflow_provider_aha.push.mapping.transforms import to_boolean, to_float, to_timestamp
from airflow_provider_aha.push.targets.base import (
    ADDED,
    REJECTED,
    SKIPPED,
    UNCHANGED,
    UPDATED,
    Answer,
    Batch,
    BatchFailedError,
    BrokenOffError,
    Target,
    TargetField,
)
from airflow_provider_aha.push.targets.oomnitza.client import Json, OomnitzaClient, named_roles, roles_in

# Without these Oomnitza creates nobody.
MANDATORY = ("username", "email", "role")
# Upper and lower case don't make another person.
CASELESS = frozenset({"username", "email"})
_TYPES = {"integer": "integer", "int": "integer", "boolean": "boolean", "bool": "boolean", "date": "timestamp"}
_FRACTION = re.compile(r"\.[0-9]+Z$")


@dataclass(frozen=True)
class _Decision:
    """What is to become of one record.

    :param answer: the status that it will have, if all goes well.
    :param person: whom it was found to be; None: nobody yet.
    :param changes: the fields to send.
    """

    answer: Answer
    person: Json | None = None
    changes: Json = field(default_factory=dict)


class OomnitzaPeople(Target):
    """Creates and updates people of an Oomnitza instance.

    Each field of the sync key finds people by itself, the first one first: with ``[aha_user_id, email]`` a person
    is found by the Aha! id, and by the email where no one has that id yet. A constant role is given to new people
    only.

    :param client: of the instance.
    """

    kind = "oomnitza"
    batch_size = 25
    compares = True

    def __init__(self, client: OomnitzaClient) -> None:
        self._client = client
        self._fields: dict[str, Json] | None = None
        self._people: PeopleIndex

    @property
    def name(self) -> str:
        """The instance."""
        return f"{self._client.config.account} people"

    def open(self, spec: MappingSpec, *, dry_run: bool) -> None:
        """Read all people once, and refuse a mapping that can't work.

        :param spec: the mapping.
        :param dry_run: nothing is written.
        :raises AhaConfigurationError: when it lacks a mandatory field, or names one that Oomnitza doesn't have.
        :raises AhaError: when Oomnitza can't be read.
        """
        check_people_mapping(spec)
        self._spec = spec
        self._field = {one.name: one for one in spec.fields}
        self._fields = self._client.people_fields()
        people = self._client.list_people()
        known = set(self._fields or ()) | {name for person in people for name in person}
        if known:
            self._check_fields(known)
        self._people = PeopleIndex(people, spec.sync_key)
        # The same role for everybody is meant for new people: whoever is there keeps their own.
        self._for_new = {one.name for one in spec.fields if one.name == "role" and one.source is None}

    def _check_fields(self, known: set[str]) -> None:
        unknown = [one.name for one in self._spec.fields if one.name not in known]
        if unknown:
            raise AhaConfigurationError(
                f"Oomnitza ({self._client.config.host}) has no field {', '.join(unknown)} for people. Add it "
                "there as a field of users, or take it out of the mapping. Nothing was sent."
            )
        described = self._fields or {}
        fixed = [one.name for one in self._spec.fields if described.get(one.name, {}).get("editable") is False]
        if fixed:
            raise AhaConfigurationError(f"Oomnitza lets nobody set {', '.join(fixed)}: take it out of the mapping.")
        roles, role = roles_in(described), self._field.get("role")
        if roles and role and role.source is None and role.constant not in roles:
            raise AhaConfigurationError(
                f"Oomnitza ({self._client.config.host}) has no role of the number that fields.role gives to new "
                f"people; there are {named_roles(roles)}. Nothing was sent."
            )

    def fields(self) -> list[TargetField] | None:
        """Return the fields of people, or None where Oomnitza doesn't say."""
        described = self._client.people_fields() if self._fields is None else self._fields
        if described is None:
            return None
        return [
            TargetField(name, _TYPES.get(str(one.get("data_type")).lower()), required=one.get("optional") is False)
            for name, one in described.items()
            if one.get("editable") is not False
        ]

    def expect(self, batch: Batch) -> Sequence[str]:
        """Compare records with the people there are.

        :param batch: the records.
        """
        return [self._decide(record).answer.status for record in batch.records()]

    def send(self, batch: Batch) -> Sequence[Answer]:
        """Write the differences, one person after the other.

        :param batch: the records.
        """
        return one_by_one(batch.records(), self._send)

    def _send(self, record: Json) -> Answer:
        decision = self._decide(record)
        if decision.answer.status not in (ADDED, UPDATED):
            return decision.answer
        if decision.person is None:
            shown = self._client.create_person(decision.changes)
            self._people.add({**decision.changes, **shown})
        else:
            shown = self._client.update_person(str(decision.person["username"]), decision.changes)
            self._people.change(decision.person, {**decision.changes, **shown})
        return self._verified(decision, shown)

    def _verified(self, decision: _Decision, shown: Json) -> Answer:
        """Look at what Oomnitza says it has now: it may take a record and drop a value."""
        dropped = [
            name
            for name, value in decision.changes.items()
            if name in shown and differs(self._field[name], value, shown[name])
        ]
        if not dropped:
            return decision.answer
        return Answer(REJECTED, f"Oomnitza took the record, but not the value of {', '.join(dropped)}", dropped[0])

    def _decide(self, given: Json) -> _Decision:
        spec = self._spec
        record = {name: _seconds(self._field[name], value) for name, value in given.items()}
        person, objection = self._people.find(record)
        if objection:
            return _Decision(objection)
        if person is None:
            if spec.mode == UPDATE:
                return _Decision(Answer(SKIPPED, "the mode is update, and there is no such person"))
            return _Decision(Answer(ADDED), changes=record)
        if spec.mode == INSERT:
            return _Decision(Answer(SKIPPED, "the mode is insert, and the person is there"))
        changes = self._changes(record, person)
        return _Decision(Answer(UPDATED if changes else UNCHANGED), person, changes)

    def _changes(self, record: Json, person: Json) -> Json:
        """Return what differs; a field that isn't compared goes along with others, never alone."""
        different = {
            name: value
            for name, value in record.items()
            if name not in self._for_new and differs(self._field[name], value, person.get(name))
        }
        return different if any(self._field[name].compare for name in different) else {}


class PeopleIndex:
    """Finds people by one field after the other.

    :param people: all people.
    :param names: the fields, the first one first.
    """

    def __init__(self, people: Sequence[Json], names: Sequence[str]) -> None:
        self._names = names
        self._by_name: dict[str, dict[str, list[Json]]] = {name: defaultdict(list) for name in names}
        for person in people:
            self.add(person)

    def add(self, person: Json) -> None:
        """Add a person.

        :param person: as Oomnitza has it.
        """
        for name, people in self._by_name.items():
            if key := folded(person.get(name)):
                people[key].append(person)

    def change(self, person: Json, changes: Mapping[str, Any]) -> None:
        """Note what a person is now.

        :param person: one that was found here.
        :param changes: its new values.
        """
        for name, people in self._by_name.items():
            if key := folded(person.get(name)):
                people[key] = [one for one in people[key] if one is not person]
        person.update(changes)
        self.add(person)

    def find(self, record: Mapping[str, Any]) -> tuple[Json | None, Answer | None]:
        """Find the person whom a record is about.

        :param record: with a value for every field of the index.
        :return: the person, or nobody; or why it can't be told.
        """
        found: Json | None = None
        by = ""
        for name in self._names:
            people = self._by_name[name].get(folded(record.get(name)), [])
            if len(people) > 1:
                ids = ", ".join(str(person.get("user_id")) for person in people)
                return None, Answer(REJECTED, f"{len(people)} people of Oomnitza have this value (ids {ids})", name)
            if not people or people[0] is found:
                continue
            if found is not None:
                return None, Answer(REJECTED, f"{by} finds one person of Oomnitza, {name} another", name)
            found, by = people[0], name
        if found is not None and (other := self._other_than(record, found, by)):
            return None, Answer(
                REJECTED, f"the person whom {by} finds at Oomnitza has another {other}: somebody else", other
            )
        return found, None

    def _other_than(self, record: Mapping[str, Any], person: Json, by: str) -> str | None:
        """Return an earlier field whose value says that a person found by a later one is somebody else."""
        for name in self._names:
            if name == by:
                return None
            if (theirs := folded(person.get(name))) and theirs != folded(record.get(name)):
                return name
        return None


def check_people_mapping(spec: MappingSpec) -> None:
    """Refuse a mapping of people that can't work.

    :param spec: the mapping.
    :raises AhaConfigurationError: when it can't; all that is wrong is listed.
    """
    faults = list(_faults(spec))
    if faults:
        raise AhaConfigurationError(f"The mapping {spec.name} can't be pushed to Oomnitza: {'; '.join(faults)}.")


def _faults(spec: MappingSpec) -> Iterator[str]:
    by_name = {one.name: one for one in spec.fields}
    if spec.dataset != "users":
        yield f"people are made of the dataset users, not of {spec.dataset}"
    for name in MANDATORY:
        one = by_name.get(name)
        if one is None:
            if spec.mode != UPDATE:
                yield f"fields.{name} is missing, and Oomnitza creates nobody without it"
        elif name == "role" and one.type != "integer":
            yield "fields.role.type must be integer: a role is given by its number"
        elif one.source is None and one.constant is None:
            yield f"fields.{name} is null"
        elif one.source is not None and not one.required:
            yield f"fields.{name}.required must be true"
    for name in spec.sync_key:
        if not by_name[name].unique:
            yield f"fields.{name}.unique must be true: each field of the sync key finds people by itself"


def one_by_one(records: Sequence[Json], send: Callable[[Json], Answer]) -> list[Answer]:
    """Send records one after the other; a refused one is rejected, a broken target keeps what was done.

    :param records: the records.
    :param send: sends one.
    :raises BrokenOffError: when Oomnitza broke.
    """
    answers: list[Answer] = []
    for record in records:
        try:
            answers.append(send(record))
        except (AhaValidationError, AhaNotFoundError) as error:
            answers.append(refusal(error))
        except AhaError as error:
            cause = failure(error) if error.status == 500 else error
            raise BrokenOffError(answers, cause) from error
    return answers


def failure(error: AhaError) -> BatchFailedError:
    """Return what it means for a push that Oomnitza fails (500) on something that the client has tried enough.

    :param error: the client's.
    """
    reason = f"Oomnitza failed (500, tried {error.attempts or 1} times), so it isn't known whether it was taken"
    return BatchFailedError(reason, code="500")


def refusal(error: AhaError) -> Answer:
    """Return the answer of a record that Oomnitza refused.

    :param error: what it said.
    """
    return Answer(REJECTED, error.detail or str(error), code=str(error.status))


def folded(value: object) -> str:
    """Return a value as it is looked up: as text, without case and blanks around it.

    :param value: a value of the sync key, or null.
    """
    return "" if value is None else str(value).strip().casefold()


def differs(one: Field, new: Any, old: Any) -> bool:
    """Tell whether Oomnitza has another value than ours; the same moment may be written in several ways.

    :param one: the field.
    :param new: our value.
    :param old: Oomnitza's.
    """
    if new is None:
        return old not in (None, "")
    if old is None:
        return True
    try:
        return not _SAME.get(one.type, _same_text)(one, new, old)
    except ValueError:
        return True


def _same_text(one: Field, new: Any, old: Any) -> bool:
    if one.name in CASELESS:
        return folded(new) == folded(old)
    return str(new) == str(old)


def _same_moment(_: Field, new: Any, old: Any) -> bool:
    return _epoch(new) == _epoch(old)


def _same_day(_: Field, new: Any, old: Any) -> bool:
    return _epoch(new) // 86_400 == _epoch(old) // 86_400


_SAME: dict[str, Callable[[Field, Any, Any], bool]] = {
    "timestamp": _same_moment,
    "date": _same_day,
    "boolean": lambda _, new, old: to_boolean(new) == to_boolean(old),
    "integer": lambda _, new, old: to_float(new) == to_float(old),
    "number": lambda _, new, old: to_float(new) == to_float(old),
    "json": lambda _, new, old: bool(new == old),
}


def _epoch(value: Any) -> int:
    """Read a moment as Oomnitza writes it: seconds since 1970, or ISO text."""
    if isinstance(value, (int, float)) or (isinstance(value, str) and value.strip().isdecimal()):
        return int(value)
    return int(to_timestamp(value).timestamp())


def _seconds(one: Field, value: Any) -> Any:
    """Write a moment as Oomnitza's description does: without fractions of a second."""
    return _FRACTION.sub("Z", value) if one.type == "timestamp" and isinstance(value, str) else value
