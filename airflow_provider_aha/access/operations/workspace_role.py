"""The role of a user in one workspace; see https://www.aha.io/api/resources/users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_aha.access.operations.base import GIVEN, PRIVILEGED, TAKEN, Compared, State, not_shown
from airflow_provider_aha.common.values import to_text
from airflow_provider_aha.datasets.users import WORKSPACE_ROLES
from airflow_provider_aha.exceptions import AhaConfigurationError

if TYPE_CHECKING:
    from airflow_provider_aha.api.client import AhaClient

OWNER, NO_ROLE = "product_owner", "none"
# Aha! documents no value by which a developer could be written, so nobody is made one, and none is given back.
_NOT_WRITTEN = "developer"
WRITABLE = ("product_owner", "contributor", "reviewer", "viewer", "none")
# The more a role may do, the smaller its number.
_RANKS = {name: code or 100 for code, (name, _) in WORKSPACE_ROLES.items()}
_OWNER_OF = "owner of "


def place_of(workspace_id: str) -> str:
    """Return how plans and evidence call a user's role in a workspace.

    :param workspace_id: the workspace.
    """
    return f"w{workspace_id}"


def workspace_of(place: str) -> str:
    """Return the workspace of a role.

    :param place: what :func:`place_of` returned.
    """
    return place.removeprefix("w")


def owner_of(workspace_id: str) -> str:
    """Name the right that an owner of a workspace has.

    :param workspace_id: the workspace.
    """
    return f"{_OWNER_OF}{workspace_id}"


def roles_of(user: State) -> dict[str, str] | None:
    """Return a user's roles by workspace; None where they aren't shown, or one of them can't be read.

    :param user: the user as Aha! shows it.
    """
    entries = user.get("product_roles")
    if not isinstance(entries, list):
        return None
    found: dict[str, str] = {}
    for entry in entries:
        code, workspace_id = entry.get("role"), entry.get("product_id")
        if type(code) is not int or code not in WORKSPACE_ROLES or workspace_id is None:
            return None
        role = WORKSPACE_ROLES[code][0]
        # Two roles in one workspace: nobody knows which one holds, and one of them may be the owner's.
        if found.setdefault(str(workspace_id), role) != role:
            return None
    return found


def owned_by(user: State) -> frozenset[str]:
    """Return the rights of a user as owner of workspaces; none where the user is disabled.

    :param user: the user as Aha! shows it.
    """
    if user.get("enabled") is not True:
        return frozenset()
    return frozenset(owner_of(place) for place, role in (roles_of(user) or {}).items() if role == OWNER)


class WorkspaceRole:
    """Sets a user's role in a workspace, or takes it away."""

    name: ClassVar[str] = "workspace_role"
    # Whether a role moves the user's `updated_at` is documented nowhere.
    stamps: ClassVar[bool] = False

    def missing(self, user: State) -> list[str]:
        """Name what must be known of the user, roles included; one that can't be read may be any."""
        roles = ["product_roles"] if roles_of(user) is None else []
        return [*not_shown(user, PRIVILEGED), *roles]

    def read_wanted(self, given: Mapping[str, object]) -> dict[str, Any]:
        """Read the role that somebody is to have."""
        # What a form leaves empty comes as `None`; `none` is the role of somebody who has none.
        role = NO_ROLE if given.get("role") == NO_ROLE else to_text(given.get("role"), "role")
        if given.keys() - {"role"} or role is None:
            raise AhaConfigurationError("A role in a workspace is changed by the one field role.")
        if role == _NOT_WRITTEN:
            raise AhaConfigurationError("Aha!'s API can't make anybody a developer: do it in Aha! itself.")
        if role not in WRITABLE:
            raise AhaConfigurationError(f"There is no such role in a workspace; there are {', '.join(WRITABLE)}.")
        return {"role": role}

    def read(self, user: State, place: str) -> State:
        """Return the role; nothing where the user's roles aren't shown."""
        roles = roles_of(user)
        return {} if roles is None else {"role": roles.get(workspace_of(place), NO_ROLE)}

    def compare(self, wanted: State, shown: State) -> Compared:
        """Compare two roles."""
        if "role" not in shown:
            return Compared(hidden=frozenset({"role"}))
        return Compared() if shown["role"] == wanted["role"] else Compared(wrong=frozenset({"role"}))

    def drift(self, before: State, shown: State, user: State) -> str | None:
        """Say whether the user or the role is another."""
        if user.get("enabled") is not True:
            return "disabled"
        return None if shown == before else f"the role is {shown['role']} now"

    def access(self, wanted: State, before: State) -> str | None:
        """Tell whether the role may do less; what it was decides, and without that it counts as less."""
        rank = _RANKS.get(str(before.get("role")), 0)
        return TAKEN if _RANKS[wanted["role"]] > rank else GIVEN

    def privileged(self, wanted: State) -> State:
        """Return all of it: every role decides over access."""
        return wanted

    def loses(self, wanted: State, user: State, place: str) -> frozenset[str]:
        """Return the workspace of an owner who becomes something else."""
        right = owner_of(workspace_of(place))
        held = owned_by(user) if roles_of(user) is not None else {right}
        return frozenset({right} & set(held)) if wanted["role"] != OWNER else frozenset()

    def guards(self, right: str) -> bool:
        """Keep an owner in each workspace."""
        return right.startswith(_OWNER_OF)

    def send(self, client: AhaClient, user_id: str, place: str, wanted: State, receipt: dict[str, Any]) -> State:
        """Set the role, or remove it."""
        if wanted["role"] == NO_ROLE:
            client.remove_role(user_id, workspace_of(place), receipt)
            return {}
        shown = client.set_role(user_id, workspace_of(place), wanted["role"], receipt)
        return self.read({"product_roles": [shown]}, place) if shown else {}

    def gives_back(self, wanted: State, before: State) -> dict[str, Any]:
        """Return the role that it was, where it was more and can be written."""
        can_be = before.get("role") in WRITABLE and self.access(wanted, before) == TAKEN
        return {"role": before["role"]} if can_be else {}

    def before_all(self, wanted: State, now: State, earlier: State) -> dict[str, Any]:
        """Take a role that is as wanted for the doing of an earlier request."""
        was = earlier if self.compare(wanted, now).done else now
        return {"role": was["role"]} if "role" in was else {}

    def words(self, wanted: State) -> str:
        """Name the role."""
        return "no role" if wanted["role"] == NO_ROLE else f"role {wanted['role']}"
