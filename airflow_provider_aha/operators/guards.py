"""The guards: who is never touched, how many may be changed, who may approve.

They are one Airflow Variable, ``aha_guards``, which every operator that plans or writes reads itself when it runs,
so that a DAG that says nothing is guarded, too. DAG code can only add: lists are united, of two caps the smaller
one holds, and who may approve must be on both lists.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_aha.access.plan.caps import MAX_PERCENT, MAX_USERS, Caps
from airflow_provider_aha.common.values import is_unset, to_int, to_list, to_number, to_text
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.hooks.paths import resolve_path
from airflow_provider_aha.lists.matching import UserMatcher
from airflow_provider_aha.operators.base import AhaOperator

if TYPE_CHECKING:
    from airflow_provider_aha.lists.exclusions import Exclusions

GUARDS_VARIABLE = "aha_guards"
_VARIABLE = f"the Variable {GUARDS_VARIABLE}"
_PROTECTED = {name: f"protected_{name}" for name in ("ids", "emails", "domains", "patterns")}
GUARDS = (*_PROTECTED.values(), "exclusions", "max_users", "max_percent", "approvers")
_MOST_USERS = 10**6


@dataclass(frozen=True)
class Guards:
    """What holds plans and writes back, by the Variable and by DAG code together.

    :param protected: users who are never touched.
    :param exclusions: paths of exclusion files.
    :param caps: how many users may be changed.
    :param approvers: who may approve; empty: everybody but who triggered the run.
    :param lists: the protected lists, for the record.
    :param is_set: whether the Variable is set.
    """

    protected: UserMatcher = field(repr=False)
    exclusions: tuple[str, ...]
    caps: Caps
    approvers: tuple[str, ...]
    lists: Mapping[str, list[str]] = field(repr=False)
    is_set: bool

    def load_exclusions(self) -> Exclusions | None:
        """Read the exclusion files; None when there is none.

        :raises AhaStorageError: when one is missing or can't be read.
        :raises AhaConfigurationError: when one can't be right.
        """
        from airflow_provider_aha.lists.exclusions import load_exclusions

        return load_exclusions(*map(resolve_path, self.exclusions)) if self.exclusions else None

    def __str__(self) -> str:
        """Describe them for a log: counts and caps only."""
        return (
            f"{len(self.protected.entries)} protected entries, {len(self.exclusions)} exclusion files, at most "
            f"{self.caps.max_users} users and {self.caps.max_percent:g} % within seven days; {_VARIABLE} is "
            f"{'set' if self.is_set else 'not set'}"
        )


class GuardedOperator(AhaOperator):
    """Base of the operators that plan or write under the guards.

    :param protected_ids: ids of users who are never touched, beside those of the Variable. (templated)
    :param protected_emails: emails of such users. (templated)
    :param protected_domains: domains of such users. (templated)
    :param protected_patterns: shell patterns of such users' emails and names. (templated)
    :param exclusions: path of an exclusion file, beside those of the Variable. (templated)
    :param max_users: at most this many users within seven days; the Variable's number holds where it is
        smaller. (templated)
    :param max_percent: at most this many percent of the enabled users within seven days; likewise. (templated)
    """

    template_fields: Sequence[str] = (
        *_PROTECTED.values(),
        "exclusions",
        "max_users",
        "max_percent",
        "aha_conn_id",
    )

    def __init__(
        self,
        *,
        protected_ids: Sequence[str] | str = (),
        protected_emails: Sequence[str] | str = (),
        protected_domains: Sequence[str] | str = (),
        protected_patterns: Sequence[str] | str = (),
        exclusions: str | None = None,
        max_users: int | str | None = None,
        max_percent: float | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.protected_ids = protected_ids
        self.protected_emails = protected_emails
        self.protected_domains = protected_domains
        self.protected_patterns = protected_patterns
        self.exclusions = exclusions
        self.max_users = max_users
        self.max_percent = max_percent

    def guards(self, approved_plan_sha256: str | None = None) -> Guards:
        """Read the guards; to be called when the task runs, before its first request.

        :param approved_plan_sha256: the SHA-256 of the one larger plan that is let through.
        :raises AhaConfigurationError: when the Variable or an argument can't be right.
        """
        found = read_guards_variable()
        given = found or {}
        lists = {name: to_list(getattr(self, key), key) or [] for name, key in _PROTECTED.items()}
        theirs = {name: given.get(key, []) for name, key in _PROTECTED.items()}
        matchers = _matcher(theirs, f" in {_VARIABLE}"), _matcher(lists, " in the DAG")
        guards = Guards(
            protected=UserMatcher.of(entry for matcher in matchers for entry in matcher.entries),
            exclusions=_paths(given, self.exclusions),
            caps=Caps(
                int(_smaller(given, "max_users", self._own_users(), MAX_USERS)),
                _smaller(given, "max_percent", self._own_percent(), MAX_PERCENT),
                approved_plan_sha256,
            ),
            approvers=tuple(given.get("approvers", [])),
            lists={name: list(dict.fromkeys([*theirs[name], *lists[name]])) for name in lists},
            is_set=found is not None,
        )
        self.log.info("Guards: %s", guards)
        return guards

    def _own_users(self) -> int | None:
        return None if is_unset(self.max_users) else to_int(self.max_users, "max_users", 0, 0, _MOST_USERS)

    def _own_percent(self) -> float | None:
        return None if is_unset(self.max_percent) else to_number(self.max_percent, "max_percent", 0, 0, 100)


def _matcher(lists: Mapping[str, list[str]], where: str) -> UserMatcher:
    return UserMatcher(lists["ids"], lists["emails"], lists["domains"], lists["patterns"], where=where)


def _smaller(given: Mapping[str, Any], key: str, own: float | None, default: float) -> float:
    return min((value for value in (given.get(key), own) if value is not None), default=default)


def approvers_of(own: object) -> list[str]:
    """Return who may approve a plan, by the Variable and by DAG code.

    :param own: the operator's argument.
    :return: ids or names; empty: everybody but who triggered the run.
    :raises AhaConfigurationError: when one of them can't be right, or nobody is on both lists.
    """
    from airflow_provider_aha.access.plan.approval import person_of

    mine = to_list(own, "approvers") or []
    theirs = (read_guards_variable() or {}).get("approvers", [])
    if not (mine and theirs):
        return list(mine or theirs)
    known = set(map(person_of, theirs))
    both = [name for name in mine if person_of(name) in known]
    if not both:
        raise AhaConfigurationError(
            f"Nobody may approve: none of the approvers of the DAG is among the approvers of {_VARIABLE}."
        )
    return both


def exclusions_of(own: str | None) -> tuple[str, ...]:
    """Return the paths of the exclusion files, by the Variable and by DAG code.

    :param own: the operator's argument.
    :raises AhaConfigurationError: when one of them can't be right.
    """
    return _paths(read_guards_variable() or {}, own)


def protected_by_variable() -> UserMatcher:
    """Return who is never touched, by the Variable.

    :raises AhaConfigurationError: when the Variable can't be right.
    """
    given = read_guards_variable() or {}
    return _matcher({name: given.get(key, []) for name, key in _PROTECTED.items()}, f" in {_VARIABLE}")


def _paths(given: Mapping[str, Any], own: str | None) -> tuple[str, ...]:
    mine = to_text(own, "exclusions")
    return tuple(dict.fromkeys([*given.get("exclusions", []), *([mine] if mine else [])]))


def read_guards_variable() -> dict[str, Any] | None:
    """Read the Variable ``aha_guards``.

    :return: its keys and values, those of lists as lists; None when it isn't set.
    :raises AhaConfigurationError: when it can't be right: a broken Variable is never an empty one.
    """
    from airflow.providers.common.compat.sdk import Variable

    text = Variable.get(GUARDS_VARIABLE, None)
    if text is None:
        return None
    try:
        given = json.loads(text, object_pairs_hook=_pairs)
    except (TypeError, ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise _wrong('is no readable JSON object, such as {"protected_ids": ["6776757454431877834"]}')
    for key, value in given.items():
        if key not in GUARDS:
            name = key if key.isidentifier() else "that is no word"
            raise _wrong(f"has a key {name}, which doesn't exist: there are {', '.join(GUARDS)}")
        given[key] = _checked(key, value)
    return given


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # JSON would take the last one, and what the first one protects would be lost.
    if len({key for key, _ in pairs}) < len(pairs):
        raise _wrong("has a key twice")
    return dict(pairs)


def _checked(key: str, value: Any) -> Any:
    if key == "max_users" and not (type(value) is int and 0 <= value <= _MOST_USERS):
        raise _wrong(f"has a max_users that is no whole number from 0 to {_MOST_USERS}")
    if key == "max_percent" and not (type(value) in (int, float) and 0 <= value <= 100):
        raise _wrong("has a max_percent that is no number from 0 to 100")
    if key.startswith("max_"):
        return value
    items = [value] if key == "exclusions" and isinstance(value, str) else value
    if not isinstance(items, list):
        raise _wrong(f'has a {key} that is no list, such as ["a", "b"]')
    if key == "approvers" and not items:
        raise _wrong("has approvers that name nobody: name somebody, or leave the key out")
    for number, item in enumerate(items, 1):
        # Python reads a whole number exactly, however long it is.
        is_text = isinstance(item, str) or (key == "protected_ids" and type(item) is int)
        if not is_text or is_unset(item):
            raise _wrong(f"has a {key} whose entry {number} is no text")
    return [str(item).strip() for item in items]


def _wrong(what: str) -> AhaConfigurationError:
    return AhaConfigurationError(f"{_VARIABLE[0].upper()}{_VARIABLE[1:]} {what}. Nothing was done.")
