"""What an account has beside its users: workspaces, seat groups, identity providers, custom roles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

from airflow_provider_aha.sandbox import names

Json = dict[str, Any]

DAY = 86_400_000
"""Milliseconds of a day."""

ROLES = {20: "Owner", 30: "Contributor", 35: "Developer", 40: "Reviewer", 50: "Viewer", 0: "None"}
"""Workspace roles and their descriptions; the description of 0 is not documented."""

WRITABLE_ROLES = {"product_owner": 20, "contributor": 30, "reviewer": 40, "viewer": 50, "none": 0}
"""The workspace roles as they are written to the API."""

SEAT_ROLES = frozenset({20, 30, 35})
"""Roles that have to be paid for; reviewers and viewers are free on the larger plans."""

_WORKSPACE_TYPES = ("product_workspace", "product_workspace", "it_workspace", "marketing_workspace")
_CAPACITY_SHARE = 0.2
_WORKFLOWS = (
    "release", "feature", "initiative", "epic", "idea", "strategic_imperative", "page", "requirement",
    "key_result",
)  # fmt: skip


def iso(milliseconds: int) -> str:
    """Write a moment as Aha! does.

    :param milliseconds: since 1970, UTC.
    :returns: for example ``2026-01-31T08:15:00.250Z``.
    """
    minutes, rest = divmod(milliseconds, 60_000)
    days, minute = divmod(minutes, 1440)
    return f"{_date(days)}{_minute(minute)}{rest // 1000:02d}.{rest % 1000:03d}Z"


@lru_cache(maxsize=8192)
def _date(days: int) -> str:
    """Write a day; a large account has few of them, many times."""
    return f"{date(1970, 1, 1) + timedelta(days)}T"


@lru_cache(maxsize=1440)
def _minute(minute: int) -> str:
    """Write a minute of the day."""
    return f"{minute // 60:02d}:{minute % 60:02d}:"


@dataclass(frozen=True)
class Workspace:
    """A workspace, a workspace line or a team: anything in which a user can have a role.

    :param listing: as in the list of products.
    :param named: whether the user list shows its name.
    :param listed: whether the list of products has it.
    :param team: whether it is a team, which the list of products has on demand only.
    """

    listing: Json
    named: bool = True
    listed: bool = True
    team: bool = False
    _roles: dict[int, Json] = field(default_factory=dict, compare=False, repr=False)

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.listing["id"])

    @property
    def name(self) -> str:
        """Its name, also where the user list doesn't show it."""
        return str(self.listing["name"])

    @property
    def prefix(self) -> str:
        """The key by which the API accepts it in place of the id."""
        return str(self.listing["reference_prefix"])

    @property
    def updated_at(self) -> str:
        """When it was changed last, which only the details show."""
        return str(self.listing.get("updated_at") or self.listing.get("created_at") or "")

    def role(self, role: int) -> Json:
        """Write a role in this workspace.

        :param role: one of :data:`ROLES`.
        :returns: the entry of ``product_roles``; shared, not to be changed.
        """
        if role not in self._roles:
            self._roles[role] = {
                "role": role,
                "role_description": ROLES[role],
                "product_id": self.id,
                "product_name": self.name if self.named else None,
            }
        return self._roles[role]

    def custom_role(self, role: Json) -> Json:
        """Write a custom role in this workspace.

        :param role: ``role_id`` and ``name``.
        :returns: the entry of ``user_roles``.
        """
        scope = {"type": "project", "name": self.name, "id": int(self.id)}
        return {"role_id": role["role_id"], "name": role["name"], "scope": scope}

    def details(self) -> Json:
        """Write all that the API tells of a workspace.

        :returns: as in the details of a product; parts of other screens of Aha! are empty.
        """
        kind = str(self.listing.get("workspace_type", "product_workspace")).removesuffix("_workspace")
        head = {key: value for key, value in self.listing.items() if key not in ("url", "workspace_type")}
        head |= {"product_line_type": "Line" if self.listing.get("product_line") else None}
        return {
            **head,
            "updated_at": self.updated_at,
            "description": self._note(),
            "url": self.listing.get("url"),
            "resource": self.listing.get("url"),
            "children": [],
            "custom_fields": [],
            "screen_definition_ids": {},
            "screen_definitions": [],
            "has_ideas": True,
            "has_master_features": False,
            "has_epics": False,
            **{f"{name}_workflow": _workflow(number, name, kind) for number, name in enumerate(_WORKFLOWS)},
            "capacity_planning_enabled": False,
            "default_capacity_units": 10,
            "enhanced_capacity_planning_enabled": False,
            "workspace_type": self.listing.get("workspace_type"),
            "color": "#4f8f00",
        }

    def _note(self) -> Json:
        """Write the empty description."""
        return {
            "id": str(int(self.id) + 1),
            "body": "",
            "notable_id": self.id,
            "notable_type": "Project",
            "editor_version": 1,
            "created_at": self.listing.get("created_at"),
            "updated_at": self.updated_at,
            "attachments": [],
        }


@dataclass(frozen=True)
class Setting:
    """What an account has beside its users.

    :param workspaces: in the order of the list of products.
    :param seat_groups: as in the list; ``allocated_seats`` is counted where it is absent.
    :param identity_providers: as in the list.
    :param custom_roles: ``role_id`` and ``name`` of each.
    """

    workspaces: Sequence[Workspace] = ()
    seat_groups: Sequence[Json] = ()
    identity_providers: Sequence[Json] = ()
    custom_roles: Sequence[Json] = ()


def generated_setting(users: int, as_of: int) -> Setting:
    """Make up what an account of some size has.

    :param users: how many users there will be.
    :param as_of: the moment, in milliseconds, that counts as now.
    :returns: 40 workspaces, 6 lines, a team, 3 seat groups, 2 identity providers and 4 custom roles.
    """
    founded = iso(as_of - 6 * 365 * DAY)
    return Setting(
        workspaces=_workspaces(as_of),
        seat_groups=[
            {
                "id": str(6_100_000_000_000_000_401 + number * 4_194_301),
                "name": name,
                "administrators": [],
                "capacity": int(users * _CAPACITY_SHARE) + 5,
                "description": None,
                "created_at": founded,
                "updated_at": founded,
            }
            for number, name in enumerate(names.SEAT_GROUPS)
        ],
        identity_providers=[
            {
                "id": str(6_100_000_000_000_000_701 + number * 4_194_301),
                "enabled": True,
                "name": name,
                "sso_endpoint": f"https://sso.example.com/{number + 1}/saml",
                "created_at": founded,
                "updated_at": founded,
            }
            for number, name in enumerate(names.IDENTITY_PROVIDERS)
        ],
        custom_roles=[
            {"role_id": 6_100_000_000_000_000_901 + number * 4_194_301, "name": name}
            for number, name in enumerate(names.CUSTOM_ROLES)
        ],
    )


def given_setting(
    users: Iterable[Json],
    products: Sequence[Json] = (),
    seat_groups: Sequence[Json] = (),
    identity_providers: Sequence[Json] = (),
) -> Setting:
    """Put together what an account needs for the users that it was given.

    :param users: as in the user list; workspaces and custom roles that only they name are added.
    :param products: the whole list of products; if not given, it has the workspaces that users name.
    :param seat_groups: as in the list.
    :param identity_providers: as in the list.
    :returns: the setting.
    """
    named: dict[str, str | None] = {}
    custom: dict[int, Json] = {}
    for user in users:
        for entry in user.get("product_roles") or ():
            known = str(entry["product_id"])
            named[known] = entry.get("product_name") or named.get(known)
        for entry in user.get("user_roles") or ():
            custom[entry["role_id"]] = {"role_id": entry["role_id"], "name": entry.get("name")}
    listed = {str(product["id"]) for product in products}
    workspaces = [Workspace(product, named=named.get(str(product["id"]), "") is not None) for product in products]
    for number, (workspace_id, name) in enumerate(named.items(), start=1):
        if workspace_id not in listed:
            row = _listing(workspace_id, f"WS{number}", name or f"Workspace {number}", "product_workspace", 0)
            workspaces.append(Workspace(row, named=name is not None, listed=not listed and name is not None))
    return Setting(workspaces, list(seat_groups), list(identity_providers), list(custom.values()))


def _workflow(number: int, name: str, kind: str) -> Json:
    """Write the workflow that a workspace uses for a sort of record."""
    type_ = "".join(word.capitalize() for word in name.split("_"))
    return {
        "workflow_type": name,
        "id": 6_100_000_000_000_000_501 + number,
        "name": f"Default {kind} {name.replace('_', ' ')} workflow",
        "statusable_type": type_,
    }


def _workspaces(as_of: int) -> list[Workspace]:
    """Make up the workspaces, the lines and the team."""
    rows = [(prefix, name, "line") for prefix, name in names.PRODUCT_LINES]
    rows += [(prefix, name, "workspace") for prefix, name in names.WORKSPACES]
    rows += [(prefix, name, "team") for prefix, name in names.TEAMS]
    return [_workspace(number, *row, as_of) for number, row in enumerate(rows)]


def _workspace(number: int, prefix: str, name: str, kind: str, as_of: int) -> Workspace:
    """Make up one workspace."""
    hidden = prefix in names.HIDDEN_WORKSPACES
    type_ = _WORKSPACE_TYPES[number % len(_WORKSPACE_TYPES)] if kind == "workspace" else "product_workspace"
    created = as_of - (6 * 365 - number * 30) * DAY
    workspace_id = str(6_100_000_000_000_001_001 + number * 1_000_000_000_039)
    listing = _listing(workspace_id, prefix, name, type_, created, line=kind == "line")
    named = not hidden and prefix not in names.UNNAMED_WORKSPACES
    return Workspace(listing, named=named, listed=not hidden, team=kind == "team")


def _listing(
    workspace_id: str, prefix: str, name: str, workspace_type: str, created: int, *, line: bool = False
) -> Json:
    """Write a row of the list of products."""
    return {
        "id": workspace_id,
        "reference_prefix": prefix,
        "name": name,
        "product_line": line,
        "created_at": iso(created),
        "url": f"https://sandbox.aha.io/projects/{prefix}",
        "workspace_type": workspace_type,
    }
