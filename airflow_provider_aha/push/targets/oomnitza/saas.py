"""Oomnitza's SaaS users as a target: who has the application, in which roles, and whose access has ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from airflow_provider_aha.exceptions import (
    AhaConfigurationError,
    AhaNotFoundError,
    AhaProtocolError,
    AhaServerError,
    AhaValidationError,
)
from airflow_provider_aha.push.mapping.spec import INSERT, UPDATE, MappingSpec
from airflow_provider_aha.push.targets.base import (
    ADDED,
    FAILED,
    REJECTED,
    SKIPPED,
    UNCHANGED,
    UPDATED,
    Answer,
    Batch,
    BatchRefusedError,
    Extra,
    Target,
    TargetField,
)
from airflow_provider_aha.push.targets.oomnitza.client import Json, OomnitzaClient
from airflow_provider_aha.push.targets.oomnitza.people import PeopleIndex, failure, folded, refusal

EXTERNAL_ID, ACTIVE = "user_external_id", "is_active"
FINDERS = ("username", "email")
_FIELDS = (EXTERNAL_ID, *FINDERS, ACTIVE)
_DISABLED = "disabled in Aha!"
_GONE = "gone from Aha!: to be deactivated"
# On so many of those who are gone may Oomnitza fail before it is Oomnitza that has a fault.
_FAILED_AT_MOST = 3


class SaasRole(NamedTuple):
    """A role in the application, as Oomnitza keeps it.

    :param role_external_id: what makes it one and the same role.
    :param role_external_label: what people see.
    """

    role_external_id: str
    role_external_label: str


@dataclass(frozen=True)
class Deactivation:
    """Whether SaaS users whose access has ended are deactivated, and how many at most.

    :param gone_unless_in: the ids of all users that Aha! has; a SaaS user with another id is gone.
    :param max_users: how many at most.
    :param max_percent: of the active SaaS users, how many at most.
    """

    gone_unless_in: Collection[str]
    max_users: int = 25
    max_percent: float = 20.0


@dataclass
class _Work:
    """What is to be done to one SaaS user.

    :param answer: the status that the record will have, if all goes well.
    :param person: whom it is about.
    :param there: the SaaS user; None: the person doesn't have the application yet.
    :param external_id: to be set; None: it is right.
    :param active: to be set; None: it is right.
    :param roles: to be set; None: they are right, or not known.
    """

    answer: Answer
    person: Json = field(default_factory=dict)
    there: Json | None = None
    external_id: str | None = None
    active: bool | None = None
    roles: tuple[SaasRole, ...] | None = None

    @property
    def user_id(self) -> str:
        """The person's id at Oomnitza."""
        return str(self.person["user_id"])


class OomnitzaSaasUsers(Target):
    """Gives people of an Oomnitza instance a SaaS application, with their roles in it.

    The people have to be there: push them first. A user is found by the external id among those who have the
    application, else by username or email among the people.

    :param client: of the instance.
    :param saas: id or name of the application.
    :param roles: the roles of each user by Aha! id; who isn't in it keeps the roles that Oomnitza has. None: roles
        aren't touched.
    :param deactivation: None: nobody is deactivated.
    """

    kind = "oomnitza"
    batch_size = 25
    compares = True

    def __init__(
        self,
        client: OomnitzaClient,
        saas: str,
        *,
        roles: Mapping[str, Iterable[SaasRole]] | None = None,
        deactivation: Deactivation | None = None,
    ) -> None:
        self._client = client
        self._saas = saas
        self._roles = roles or {}
        self._deactivation = deactivation
        self._saas_id = ""
        self._users: dict[str, Json] = {}
        self._external: dict[str, list[Json]] = {}
        self._expected_off: set[str] = set()
        self._gone: dict[str, Answer | None] = {}
        self._told: dict[str, Answer] = {}

    @property
    def name(self) -> str:
        """Instance and application."""
        return f"{self._client.config.account} saas {self._saas}"

    def open(self, spec: MappingSpec, *, dry_run: bool) -> None:
        """Read people, SaaS users and roles once, and refuse what can't work.

        :param spec: the mapping.
        :param dry_run: nothing is written.
        :raises AhaConfigurationError: when mapping, application and instance don't fit.
        :raises AhaError: when Oomnitza can't be read.
        """
        _check_mapping(spec)
        self._spec = spec
        self._saas_id = self._find_application()
        finders = [name for name in FINDERS if any(one.name == name for one in spec.fields)]
        self._people = PeopleIndex(self._client.list_people(), finders)
        for user in self._client.list_saas_users(self._saas_id):
            self._note(user)
        if self._deactivation and spec.mode != INSERT:
            known = set(self._deactivation.gone_unless_in)
            self._gone = {str(user[EXTERNAL_ID]): None for user in self._users.values() if _is_gone(user, known)}

    def _find_application(self) -> str:
        applications = self._client.list_saas()
        wanted = folded(self._saas)
        found = [one for one in applications if str(one["saas_id"]) == self._saas.strip()] or [
            one for one in applications if folded(one.get("name")) == wanted
        ]
        if len(found) != 1:
            raise AhaConfigurationError(
                f"Oomnitza ({self._client.config.host}) has {len(found)} SaaS applications of that name: give "
                "the saas_id of the one you mean, or add it there under Software > SaaS."
            )
        return str(found[0]["saas_id"])

    def _note(self, user: Json) -> None:
        self._users[str(user["user_id"])] = user
        if user.get(EXTERNAL_ID):
            self._external.setdefault(str(user[EXTERNAL_ID]), []).append(user)

    def fields(self) -> list[TargetField]:
        """Return what a SaaS user is made of."""
        types = {ACTIVE: "boolean"}
        return [TargetField(name, types.get(name, "string"), required=name == EXTERNAL_ID) for name in _FIELDS]

    def expect(self, batch: Batch) -> Sequence[str]:
        """Compare records with the SaaS users there are.

        :param batch: the records.
        """
        works = [self._decide(record) for record in batch.records()]
        self._expected_off |= {work.user_id for work in works if work.active is False}
        return [work.answer.status for work in works]

    def objections(self) -> Sequence[str]:
        """Object to more deactivations than the caps allow."""
        if not self._deactivation:
            return ()
        number = len(self._expected_off) + len(self._gone)
        active = sum(_is_active(user) for user in self._users.values())
        allowed = min(self._deactivation.max_users, max(int(self._deactivation.max_percent * active / 100), 1))
        if number <= allowed:
            return ()
        objection = (
            f"{number} of {active} active SaaS users would be deactivated at Oomnitza, and {allowed} are allowed "
            f"(max_deactivations {self._deactivation.max_users}, max_deactivation_percent "
            f"{self._deactivation.max_percent:g}). Look whether the extract is right."
        )
        return [objection]

    def extras(self) -> Sequence[Extra]:
        """Return the SaaS users that are gone from Aha!, and what became of them."""
        return [Extra(user_id, UPDATED, answer, _GONE) for user_id, answer in self._gone.items()]

    # --- what is to be done ------------------------------------------------------------------------

    def _decide(self, record: Json) -> _Work:
        external_id = str(record[EXTERNAL_ID])
        same_id = self._external.get(external_id, [])
        if len(same_id) > 1:
            ids = ", ".join(str(user["user_id"]) for user in same_id)
            return _rejected(f"{len(same_id)} SaaS users of Oomnitza have this id (people {ids})", EXTERNAL_ID)
        if record.get(ACTIVE) is False:
            return self._decide_disabled(same_id[0] if same_id else None)
        if same_id:
            return self._decide_enabled(external_id, same_id[0], same_id[0])
        person, objection = self._people.find(record)
        if objection:
            return _Work(objection)
        if person is None:
            return _rejected("there is no such person at Oomnitza: push the people first", FINDERS[-1])
        return self._decide_enabled(external_id, person, self._users.get(str(person["user_id"])))

    def _decide_disabled(self, there: Json | None) -> _Work:
        """Decide on somebody whose access has ended; only the id says that a SaaS user is this one."""
        if there is None:
            return _Work(Answer(SKIPPED, f"{_DISABLED}, and no SaaS user at Oomnitza has this id"))
        if not _is_active(there):
            return _Work(Answer(UNCHANGED))
        if self._deactivation is None or self._spec.mode == INSERT:
            return _Work(Answer(SKIPPED, f"{_DISABLED}, and deactivating at Oomnitza is not asked for"))
        return _Work(Answer(UPDATED, f"{_DISABLED}: deactivated"), there, there, active=False)

    def _decide_enabled(self, external_id: str, person: Json, there: Json | None) -> _Work:
        roles = self._roles_of(external_id)
        if there is None:
            if self._spec.mode == UPDATE:
                return _Work(Answer(SKIPPED, "the mode is update, and the person doesn't have the application"))
            return _Work(Answer(ADDED), person, None, external_id, None, roles)
        if self._spec.mode == INSERT:
            return _Work(Answer(SKIPPED, "the mode is insert, and the person has the application"))
        theirs = there.get(EXTERNAL_ID)
        if theirs and str(theirs) != external_id:
            return _rejected("the person is another user of the application at Oomnitza", EXTERNAL_ID)
        work = _Work(
            Answer(UPDATED),
            person,
            there,
            None if theirs else external_id,
            None if _is_active(there) else True,
            None if roles is None or _ids(roles) == _ids_at_oomnitza(there) else roles,
        )
        if work.external_id is None and work.active is None and work.roles is None:
            work.answer = Answer(UNCHANGED)
        return work

    def _roles_of(self, user_id: str) -> tuple[SaasRole, ...] | None:
        """Return a user's roles, each once, in one order; None: not known."""
        given = self._roles.get(user_id)
        if given is None:
            return None
        return tuple(sorted({role.role_external_id: role for role in given}.values()))

    # --- doing it ----------------------------------------------------------------------------------

    def send(self, batch: Batch) -> Sequence[Answer]:
        """Assign, identify, activate or deactivate, and set roles; together where Oomnitza can.

        :param batch: the records.
        :raises BatchRefusedError: when Oomnitza refused a step. What was done before it is not repeated.
        :raises BatchFailedError: when it failed on one, likewise.
        """
        records = batch.records()
        works = [self._decide(record) for record in records]
        try:
            self._carry_out([work for work in works if work.answer.status in (ADDED, UPDATED)])
        except (AhaValidationError, AhaNotFoundError) as error:
            self._remember(records, works)
            answer = refusal(error)
            raise BatchRefusedError(answer.reason or "", code=answer.code) from error
        except AhaServerError as error:
            if error.status != 500:
                raise
            self._remember(records, works)
            raise failure(error) from error
        return [self._final(record, work) for record, work in zip(records, works, strict=True)]

    def _remember(self, records: Sequence[Json], works: Sequence[_Work]) -> None:
        """Keep what records were to become: once the batch is halved, some steps are done already."""
        for record, work in zip(records, works, strict=True):
            self._told.setdefault(str(record[EXTERNAL_ID]), work.answer)

    def _final(self, record: Json, work: _Work) -> Answer:
        """Return what became of a record; one of a batch that was halved has had some of its steps before."""
        if work.answer.status == REJECTED:
            return work.answer
        return self._told.get(str(record[EXTERNAL_ID]), work.answer)

    def _carry_out(self, works: Sequence[_Work]) -> None:
        if new := [work for work in works if work.there is None]:
            self._client.assign_saas_users(self._saas_id, [work.user_id for work in new])
            for work in new:
                work.there = {"user_id": work.user_id, "roles": []}
                self._note(work.there)
        for work in works:
            if work.external_id and work.there is not None:
                self._client.set_external_id(self._saas_id, work.user_id, work.external_id)
                work.there[EXTERNAL_ID] = work.external_id
                self._external.setdefault(work.external_id, []).append(work.there)
        for active in (True, False):
            self._activate([work for work in works if work.active is active], active=active)
        groups: dict[tuple[SaasRole, ...], list[_Work]] = defaultdict(list)
        for work in works:
            if work.roles is not None:
                groups[work.roles].append(work)
        for roles, members in groups.items():
            self._set_roles(roles, members)

    def _activate(self, works: Sequence[_Work], *, active: bool) -> None:
        if not works:
            return
        by_id = {_saas_user_id(work.there): work for work in works}
        refusals = self._client.activate_saas_users(list(by_id), active=active)
        for saas_user_id, reason in refusals.items():
            work = by_id[saas_user_id]
            if reason:
                work.answer = Answer(REJECTED, reason)
            elif work.there is not None:
                work.there["deactivated"] = not active

    def _set_roles(self, roles: tuple[SaasRole, ...], works: Sequence[_Work]) -> None:
        needed = [work for work in works if _ids(roles) != _ids_at_oomnitza(work.there or {})]
        if not needed:
            return
        body = [role._asdict() for role in roles]
        self._client.set_saas_roles(self._saas_id, [work.user_id for work in needed], body)
        for work in needed:
            if work.there is not None:
                work.there["roles"] = body

    def finish(self) -> None:
        """Deactivate those who are gone."""
        waiting = [user_id for user_id, answer in self._gone.items() if answer is None]
        for start in range(0, len(waiting), self.batch_size):
            self._deactivate(waiting[start : start + self.batch_size])

    def _deactivate(self, user_ids: Sequence[str]) -> None:
        """Deactivate users that are gone; one that Oomnitza refuses holds up nobody else."""
        by_id = {_saas_user_id(self._external[user_id][0]): user_id for user_id in user_ids}
        try:
            refusals = self._client.activate_saas_users(list(by_id), active=False)
        except (AhaValidationError, AhaNotFoundError, AhaServerError) as error:
            failed = sum(answer is not None and answer.status == FAILED for answer in self._gone.values())
            if isinstance(error, AhaServerError) and (error.status != 500 or failed == _FAILED_AT_MOST):
                raise
            if (middle := len(user_ids) // 2) > 0:
                self._deactivate(user_ids[:middle])
                self._deactivate(user_ids[middle:])
                return
            is_failure = isinstance(error, AhaServerError)
            self._gone[user_ids[0]] = failure(error).answer if is_failure else refusal(error)
            return
        for saas_user_id, reason in refusals.items():
            self._gone[by_id[saas_user_id]] = Answer(REJECTED, reason) if reason else Answer(UPDATED)


def _check_mapping(spec: MappingSpec) -> None:
    names = {one.name: one for one in spec.fields}
    faults = [f"{name} is no field of a SaaS user ({', '.join(_FIELDS)})" for name in names if name not in _FIELDS]
    if spec.dataset != "users":
        faults.append(f"SaaS users are made of the dataset users, not of {spec.dataset}")
    if spec.sync_key != (EXTERNAL_ID,):
        faults.append(f"sync_key must be [{EXTERNAL_ID}]")
    if not any(name in names for name in FINDERS):
        faults.append(f"one of {', '.join(FINDERS)} is needed to find the person")
    if ACTIVE in names and names[ACTIVE].type != "boolean":
        faults.append(f"fields.{ACTIVE}.type must be boolean")
    if faults:
        raise AhaConfigurationError(
            f"The mapping {spec.name} can't be pushed to Oomnitza's SaaS users: {'; '.join(faults)}."
        )


def _rejected(reason: str, name: str) -> _Work:
    return _Work(Answer(REJECTED, reason, name))


def _is_active(user: Json) -> bool:
    return not user.get("deactivated")


def _is_gone(user: Json, known: set[str]) -> bool:
    """Tell whether an active SaaS user's id, one of Aha!'s, isn't there any more."""
    external_id = str(user.get(EXTERNAL_ID) or "")
    return external_id.isdecimal() and external_id not in known and _is_active(user)


def _saas_user_id(user: Json | None) -> str:
    if user is None or not user.get("saas_user_id"):
        raise AhaProtocolError(
            "Oomnitza lists a SaaS user without saas_user_id: it can't be activated or deactivated."
        )
    return str(user["saas_user_id"])


def _ids(roles: Iterable[SaasRole]) -> set[str]:
    return {role.role_external_id for role in roles}


def _ids_at_oomnitza(user: Json) -> set[str]:
    roles = user.get("roles")
    listed = roles if isinstance(roles, list) else [roles] if roles else []
    return {str(role.get("role_external_id")) for role in listed if isinstance(role, dict)}


def roles_by_user(rows: Iterable[Mapping[str, Any]], *, per_workspace: bool) -> dict[str, list[SaasRole]]:
    """Make SaaS roles of the rows of ``user_role_summary``, or of ``user_roles``.

    :param rows: the rows.
    :param per_workspace: a role in each workspace is a role of its own; else a role is there once, in however
        many workspaces a user has it.
    :return: by user.
    """
    found: dict[str, list[SaasRole]] = defaultdict(list)
    for row in rows:
        if row["role"] != "none":
            found[str(row["user_id"])].append(_role(row, per_workspace=per_workspace))
    return found


def _role(row: Mapping[str, Any], *, per_workspace: bool) -> SaasRole:
    role_id = row["role"] or f"custom-{row['role_id']}"
    label = row["role_name"] or role_id
    if not per_workspace:
        return SaasRole(role_id, label)
    return SaasRole(f"{row['workspace_id']}:{role_id}", f"{label} ({row['workspace_name'] or row['workspace_id']})")
