"""Fields of a user: what a change of them takes or gives, and whether it shows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from operator import not_
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_aha.access.operations.base import (
    GIVEN,
    NEVER_NULL,
    PRIVILEGED,
    TAKEN,
    Compared,
    State,
    not_shown,
)
from airflow_provider_aha.access.operations.workspace_role import owned_by
from airflow_provider_aha.common.addresses import read_address, spelled
from airflow_provider_aha.common.values import is_unset, to_bool, to_dict, to_text
from airflow_provider_aha.exceptions import AhaConfigurationError
from airflow_provider_aha.record.journal import UNANSWERED

if TYPE_CHECKING:
    from airflow_provider_aha.api.client import AhaClient

# The one object of a user that this operation writes.
ACCOUNT = "account"
ADMINISTRATOR_ROLES = ("administer_account", "administer_billing", "administer_configuration")
# The fields that somebody may ask for by name.
FIELDS = ("first_name", "last_name", *PRIVILEGED)
# A change of these is nobody's loss; what any other field does, only Aha! knows.
HARMLESS = ("first_name", "last_name")


# Losing the last holder of one of these locks everybody out of a part of Aha!.
LAST_RIGHTS = {
    "administrator": "in total",
    "administer_account": "for account",
    "administer_billing": "for billing",
}


def read_wanted(given: Mapping[str, object]) -> dict[str, Any]:
    """Read what a user is to be, as a form or DAG code gives it; what is not set stays as it is.

    :param given: values by field; text counts as what it says.
    :return: fields of the ``user`` object to set.
    :raises AhaConfigurationError: when a field doesn't exist, or a value can't be right.
    """
    if unknown := [name for name in given if name not in FIELDS]:
        raise AhaConfigurationError(
            f"There is no field {', '.join(sorted(unknown))} that could be changed; there are {', '.join(FIELDS)}."
        )
    texts = {name: to_text(given.get(name), name) for name in ("first_name", "last_name", "email")}
    wanted: dict[str, Any] = {name: text for name, text in texts.items() if text is not None}
    if "email" in wanted:
        try:
            wanted["email"] = read_address(wanted["email"])
        except ValueError as error:
            raise AhaConfigurationError(f"email {error}; give one, such as ann@example.com.") from None
    for name in ("enabled", "administrator"):
        if not is_unset(value := given.get(name)):
            wanted[name] = to_bool(value, name, default=False)
    if roles := to_dict(given.get("administrator_roles"), "administrator_roles"):
        wanted["administrator_roles"] = _roles(roles)
    single = wanted.get("administrator_roles", {}).values()
    if "administrator" in wanted and wanted["administrator"] in map(not_, single):
        raise AhaConfigurationError(
            "administrator and administrator_roles contradict each other: give one of them."
        )
    return wanted


def _roles(roles: Mapping[str, Any]) -> dict[str, bool]:
    if unknown := [name for name in roles if name not in ADMINISTRATOR_ROLES]:
        raise AhaConfigurationError(
            f"administrator_roles has {', '.join(unknown)}; there are {', '.join(ADMINISTRATOR_ROLES)}."
        )
    found = {name: to_bool(value, name, default=False) for name, value in roles.items() if not is_unset(value)}
    if not found:
        raise AhaConfigurationError("administrator_roles sets nothing.")
    return found


def shown_by_snapshot(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the ``users`` dataset as Aha! would show the user.

    :param row: the row.
    """
    return {
        "id": row["id"],
        "email": row["email"],
        "enabled": row["is_enabled"],
        "administrator": row["is_administrator"],
        "administrator_roles": {
            name: row[f"administers_{name.removeprefix('administer_')}"] for name in ADMINISTRATOR_ROLES
        },
    }


def access_of(changes: Mapping[str, Any]) -> str | None:
    """Tell whether changes may take access (``taken``), only give it (``given``), or do neither (None).

    :param changes: fields of the ``user`` object to set.
    """
    roles = changes.get("administrator_roles") or {}
    flags = [changes.get("enabled"), changes.get("administrator"), *roles.values()]
    # A new email gives the account to whoever reads that mailbox. An unknown field may do anything.
    if "email" in changes or False in flags or not changes.keys() <= set(FIELDS):
        return TAKEN
    return GIVEN if True in flags else None


def is_administrator(user: Mapping[str, Any]) -> bool:
    """Tell whether a user has any administrator right.

    :param user: the user as Aha! shows it.
    """
    return bool(user.get("administrator")) or any((user.get("administrator_roles") or {}).values())


def administrator_rights(user: Mapping[str, Any]) -> set[str]:
    """Return which of the rights that must not die out a user has.

    :param user: the user as Aha! shows it.
    """
    roles = user.get("administrator_roles") or {}
    held = {name for name in LAST_RIGHTS if roles.get(name)}
    return held | {"administrator"} if is_administrator(user) else set()


def rights_of(user: Mapping[str, Any]) -> frozenset[str]:
    """Return all rights of a user that must not die out: as administrator, and as owner of workspaces.

    :param user: the user as Aha! shows it.
    """
    return owned_by(user) | administrator_rights(user) if user.get("enabled") is True else frozenset()


def rights_lost(user: Mapping[str, Any], changes: Mapping[str, Any]) -> set[str]:
    """Return which of the rights that must not die out a user would lose.

    :param user: the user as Aha! shows it.
    :param changes: fields of the ``user`` object to set.
    """
    if not_shown(user, ("enabled", "administrator", "administrator_roles")):
        # What isn't shown may be any right.
        return set(LAST_RIGHTS)
    held = administrator_rights(user) if user.get("enabled") else set()
    if changes.get("enabled") is False or changes.get("administrator") is False:
        return held
    roles = changes.get("administrator_roles") or {}
    after = {**(user.get("administrator_roles") or {}), **roles}
    if False in roles.values() and not any(after.values()):
        return held
    return {name for name in held if roles.get(name) is False}


def compare(wanted: Mapping[str, Any], shown: Mapping[str, Any]) -> Compared:
    """Compare a user with what is wanted: a read, an answer, or what evidence holds of either.

    :param wanted: fields to set.
    :param shown: the user as Aha! shows it; a name that isn't in it wasn't shown.
    """
    states = {name: _state(name, value, shown) for name, value in wanted.items()}
    wrong = frozenset(name for name, state in states.items() if state is False)
    return Compared(wrong, frozenset(name for name, state in states.items() if state is None))


def _state(name: str, wanted: Any, shown: Mapping[str, Any]) -> bool | None:
    """Tell whether a field is as wanted; None: it isn't shown."""
    now = shown.get(name)
    if name not in shown or (now is None and name in NEVER_NULL):
        return None
    if name == "administrator_roles" and isinstance(now, Mapping):
        now = {key: now.get(key) for key in wanted}
        if None in now.values():
            return None
    if name == "email" and isinstance(now, str | None):
        return spelled(now) == spelled(wanted)
    # Else 0 would be false.
    return now == wanted and type(now) is type(wanted)


def gives_back(wanted: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return what would give back exactly the access that a change took; empty: none that could be.

    ``administrator: true`` would give all three rights, so each comes back by its own name.

    :param wanted: the fields that were set.
    :param before: the user as it was before.
    """
    back: dict[str, Any] = {}
    if wanted.get("enabled") is False and before.get("enabled") is True:
        back["enabled"] = True
    if "email" in wanted and before.get("email") and not compare({"email": wanted["email"]}, before).done:
        back["email"] = before["email"]
    roles = wanted.get("administrator_roles") or {}
    held = [name for name, has in (before.get("administrator_roles") or {}).items() if has is True]
    lost = {name: True for name in held if wanted.get("administrator") is False or roles.get(name) is False}
    return {**back, "administrator_roles": lost} if lost else back


def not_given_back(wanted: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[str]:
    """Say which parts of a change :func:`gives_back` leaves as they are, and why; nothing of what they hold.

    :param wanted: the fields that were set.
    :param before: the user as it was before.
    """
    back, was = _parts(gives_back(wanted, before)), _parts(before)
    for word, value in _parts(wanted).items():
        rights_are_back = word == "administrator" and any(one.startswith(_RIGHT) for one in back)
        if word in back or rights_are_back or compare({word: value}, was).done:
            continue
        if word == "email" and word in was:
            yield "email (there was none before)"
        elif was.get(word) is None or value is False:
            yield f"{word} (Aha! never showed what it was)"
        else:
            yield f"{word} (the run gave it, and an undo takes nothing)"


_RIGHT = "administrator right for "


def _parts(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields by the words for them, each administrator right by itself."""
    roles = fields.get("administrator_roles") or {}
    parts = {name.replace("_", " "): value for name, value in fields.items() if name != "administrator_roles"}
    return parts | {f"{_RIGHT}{name.removeprefix('administer_')}": value for name, value in roles.items()}


def before_all(wanted: Mapping[str, Any], now: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a user was before the first of several requests, as far as they have changed it.

    :param wanted: the fields that each of them was to set.
    :param now: the user as it is, after requests that Aha! acknowledged.
    :param earlier: the user as it was before them.
    """
    done = {name for name, value in wanted.items() if compare({name: value}, now).done}
    before = {**now, **{name: earlier[name] for name in done if name in earlier}}
    roles = now.get("administrator_roles") or {}
    taken = {name for name, value in (wanted.get("administrator_roles") or {}).items() if roles.get(name) is value}
    taken |= set(roles) if "administrator" in done else set()
    held = earlier.get("administrator_roles") or {}
    if taken & held.keys():
        before["administrator_roles"] = {**roles, **{name: held[name] for name in taken if name in held}}
    return before


def may_have_disabled(row: Mapping[str, Any]) -> bool:
    """Tell whether a run disabled a user, or may have done it.

    :param row: a row of evidence.
    :raises ValueError: when the row holds no JSON or no proof where it should.
    """
    wanted, before = (json.loads(row[name] or "{}") for name in ("wanted_json", "before_json"))
    return may_have_done(row) and "enabled" in gives_back(wanted, before)


def may_have_enabled(row: Mapping[str, Any]) -> bool:
    """Tell whether a run enabled a user, or may have done it, by an update of any kind.

    :param row: a row of evidence.
    :raises ValueError: when the row holds no JSON or no proof where it should.
    """
    wanted, before = (json.loads(row[name] or "{}").get("enabled") for name in ("wanted_json", "before_json"))
    return may_have_done(row) and wanted is True and before is not True


def may_have_done(row: Mapping[str, Any]) -> bool:
    """Tell whether a run did, or may have done, what a row of evidence is about.

    :param row: the row.
    :raises ValueError: when it holds no proof.
    """
    if row["proof"] is None:
        raise ValueError("a row of evidence without proof")
    return int(row["proof"]) >= UNANSWERED


def effects(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """Say what a write did to somebody's access, by what Aha! showed before and after it.

    :param before: the user before.
    :param after: the user after; what isn't shown says nothing.
    :return: some of ``disabled``, ``enabled``, ``email_changed``, ``rights_granted`` and ``rights_revoked``.
    """
    found = set()
    if (was := before.get("enabled")) in (True, False) and after.get("enabled") == (not was):
        found.add("disabled" if was else "enabled")
    if "email" in before and "email" in after and spelled(before["email"]) != spelled(after["email"]):
        found.add("email_changed")
    if not not_shown(before, ("administrator_roles",)) and not not_shown(after, ("administrator_roles",)):
        held, now = (
            {name for name, given in user["administrator_roles"].items() if given} for user in (before, after)
        )
        found |= {"rights_granted"} if now - held else set()
        found |= {"rights_revoked"} if held - now else set()
    return found


class UserFields:
    """Sets fields of a user."""

    name: ClassVar[str] = "user_fields"
    stamps: ClassVar[bool] = True

    def missing(self, user: State) -> list[str]:
        """Name what decides over access, as far as it isn't shown."""
        return not_shown(user, PRIVILEGED)

    def read_wanted(self, given: Mapping[str, object]) -> dict[str, Any]:
        """Read fields; see :func:`read_wanted`."""
        return read_wanted(given)

    def read(self, user: State, place: str) -> State:
        """Return the user: it is the object."""
        return user

    def compare(self, wanted: State, shown: State) -> Compared:
        """Compare fields; see :func:`compare`."""
        return compare(wanted, shown)

    def drift(self, before: State, shown: State, user: State) -> str | None:
        """Say nothing: fields are set whatever they were, and what else may have changed is looked at anyway."""
        return None

    def access(self, wanted: State, before: State) -> str | None:
        """Tell by the fields; see :func:`access_of`."""
        return access_of(wanted)

    def privileged(self, wanted: State) -> State:
        """Leave names out: they decide over nothing."""
        return {name: value for name, value in wanted.items() if name in PRIVILEGED}

    def loses(self, wanted: State, user: State, place: str) -> frozenset[str]:
        """Return administrator rights; somebody who is disabled owns no workspace any more, either."""
        owned = owned_by(user) if wanted.get("enabled") is False else frozenset()
        return owned | rights_lost(user, wanted)

    def guards(self, right: str) -> bool:
        """Keep an administrator in the account, in total and for account and billing."""
        return right in LAST_RIGHTS

    def send(self, client: AhaClient, user_id: str, place: str, wanted: State, receipt: dict[str, Any]) -> State:
        """Send one update with all fields."""
        return client.update_user(user_id, wanted, receipt)

    def gives_back(self, wanted: State, before: State) -> dict[str, Any]:
        """Return the fields that were taken; see :func:`gives_back`."""
        return gives_back(wanted, before)

    def before_all(self, wanted: State, now: State, earlier: State) -> dict[str, Any]:
        """Go field by field; see :func:`before_all`."""
        return before_all(wanted, now, earlier)

    def words(self, wanted: State) -> str:
        """Say what is done to the user."""
        if wanted.keys() == {"enabled"}:
            return "enable" if wanted["enabled"] else "disable"
        return f"change {', '.join(sorted(wanted))}"
