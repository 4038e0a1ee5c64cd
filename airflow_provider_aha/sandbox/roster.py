"""Who is in an account at the start: generated from a seed, or given."""

from __future__ import annotations

import hashlib
import re
import struct
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from airflow_provider_aha.sandbox import names
from airflow_provider_aha.sandbox.setting import DAY, Json, Setting, iso

_YEARS_OF_HISTORY = 6
_FIRST_ID = 6_200_000_000_000_000_000
_ID_SPAN = 900_000_000_000_000_000

# A user's random choices are the bytes of one hash: eight numbers of 32 bits, sixteen of 16 bits.
_DRAWS = struct.Struct("<8I16H")
Draw = tuple[int, ...]

_PASSWORD: Json = {"type": "password"}
_NO_RIGHTS = (False, False, False)
_ALL_RIGHTS = (True, True, True)
_SOME_RIGHTS = (_ALL_RIGHTS, (True, False, True), (False, True, False), (False, False, True))
_ROLE_COUNTS = (0, 1, 1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 5, 6, 7, 8)
_PAID_FIRST = (20, 30, 30, 30, 30, 30, 35, 35)
_PAID_MORE = (20, 30, 30, 35, 40, 40, 50, 50)
_FREE = (50, 50, 50, 50, 40, 40, 40, 0)

# The first users of every account, as far as it is large enough.
_OWNER, _SECOND, _BILLING, _VIEWER = range(4)
_FIRST_HOSTILE = 5
_TWIN_EVERY, _TWIN_AT = 97, 50


def seat_of(user: Json) -> str | None:
    """Name the paid seat group in which a user takes a seat.

    :param user: as in the user list.
    :returns: the group's id; null where the user is in none, is disabled or is free.
    """
    group = user.get("paid_seat_group")
    if not group or not user.get("enabled") or not user.get("paid_seat"):
        return None
    return str(group["id"])


class Roster(ABC):
    """The users of an account at the start, in the order of the user list. It never changes."""

    ids: Sequence[str]
    """The ids, in order."""

    @abstractmethod
    def user(self, position: int) -> Json:
        """Hand out one user.

        :param position: in :attr:`ids`.
        :returns: the user as in the user list; not to be changed.
        """

    @abstractmethod
    def with_email(self, email: str) -> Iterable[str]:
        """Find users by email.

        :param email: casefolded.
        :returns: the ids of those who have it.
        """

    @abstractmethod
    def _product_roles(self, position: int) -> Sequence[Json]:
        """Name the workspace roles of one user."""

    @abstractmethod
    def _seat(self, position: int) -> str | None:
        """Name the paid seat group in which one user takes a seat."""

    @cached_property
    def members(self) -> Mapping[str, Sequence[str]]:
        """Who has a role in each workspace."""
        members: dict[str, list[str]] = defaultdict(list)
        for position, user_id in enumerate(self.ids):
            for role in self._product_roles(position):
                members[str(role["product_id"])].append(user_id)
        return members

    @cached_property
    def seats(self) -> Mapping[str, int]:
        """How many seats of each group are taken."""
        return Counter(seat for position in range(len(self.ids)) if (seat := self._seat(position)))


class GivenRoster(Roster):
    """Users as somebody wrote them down.

    :param users: as in the user list.
    :raises ValueError: when a user has no id, or two have the same.
    """

    def __init__(self, users: Sequence[Json]) -> None:
        missing = [position for position, user in enumerate(users) if not user.get("id")]
        if missing:
            raise ValueError(f"the user at position {missing[0]} has no id")
        self.ids = [str(user["id"]) for user in users]
        repeated = [user_id for user_id, times in Counter(self.ids).items() if times > 1]
        if repeated:
            raise ValueError(f"the id {repeated[0]} is given to more than one user")
        self._users = users

    def user(self, position: int) -> Json:
        """Hand out one user.

        :param position: in :attr:`ids`.
        :returns: the user as it was given; not to be changed.
        """
        return self._users[position]

    def with_email(self, email: str) -> Iterator[str]:
        """Find users by email.

        :param email: casefolded.
        :returns: the ids of those who have it.
        """
        return (str(u["id"]) for u in self._users if str(u.get("email")).casefold() == email)

    def _product_roles(self, position: int) -> Sequence[Json]:
        """Name the workspace roles of one user."""
        return self._users[position].get("product_roles") or ()

    def _seat(self, position: int) -> str | None:
        """Name the paid seat group in which one user takes a seat."""
        return seat_of(self._users[position])


class GeneratedRoster(Roster):
    """Users made up from a seed: each one is computed when it is asked for, and is the same every time.

    So an account of 200,000 users starts at once and takes little memory.

    :param size: how many users.
    :param seed: another seed, another account.
    :param as_of: the moment, in milliseconds, up to which people were active.
    :param setting: the workspaces, seat groups and identity providers.
    """

    def __init__(self, size: int, seed: int, as_of: int, setting: Setting) -> None:
        step = _ID_SPAN // max(size, 1)
        self.ids = [str(_FIRST_ID + at * step + at * 2_654_435_761 % step) for at in range(size)]
        self._slot = _YEARS_OF_HISTORY * 365 * DAY // max(size, 1)
        self._key = seed.to_bytes(16, "little", signed=True)
        self._as_of = as_of
        self._workspaces = setting.workspaces
        self._custom_roles = setting.custom_roles
        self._providers: list[Json] = [
            {"type": "saml", "name": provider["name"]} for provider in setting.identity_providers
        ]
        self._groups: list[Json] = [{"id": group["id"], "name": group["name"]} for group in setting.seat_groups]

    def user(self, position: int) -> Json:
        """Make up one user.

        :param position: in :attr:`ids`.
        :returns: the user as in the user list; not to be changed.
        """
        draw = self._draw(position)
        name, email = self._identity(position, draw)
        created, updated, accessed = self._moments(position, draw)
        roles = self._roles(position, draw)
        paid = not _is_free(position, draw)
        develops = any(role["role"] == 35 for role in roles)
        account, billing, configuration = _rights(position, draw)
        user: Json = {
            "id": self.ids[position],
            "name": name,
            "email": email,
            "timezone": names.TIMEZONES[draw[11] & 15],
            "created_at": iso(created),
            "updated_at": iso(updated),
            "accessed_at": None if accessed is None else iso(accessed),
            "product_roles": roles,
            "user_roles": self._extra_roles(draw),
            "enabled": _is_enabled(position, draw),
            "paid_seat": paid,
            "administrator": account or billing or configuration,
            "roadmaps_seat": paid and not (develops and len(roles) == 1),
            "develop_seat": develops,
            "administrator_roles": {
                "administer_account": account,
                "administer_billing": billing,
                "administer_configuration": configuration,
            },
        }
        if group := self._group(position, draw):
            user["paid_seat_group"] = group
        user["identity_provider"] = self._provider(position, draw)
        return user

    def with_email(self, email: str) -> Iterator[str]:
        """Find users by email.

        :param email: casefolded.
        :returns: the ids of those who have it.
        """
        # Every email holds its user's position, or the one of its twin.
        for number in {int(digits) + twin for digits in re.findall(r"\d{1,9}", email) for twin in (0, 1)}:
            if number < len(self.ids):
                found = self._identity(number, self._draw(number))[1]
                if found.casefold() == email:
                    yield self.ids[number]

    def _product_roles(self, position: int) -> Sequence[Json]:
        """Name the workspace roles of one user."""
        return self._roles(position, self._draw(position))

    def _seat(self, position: int) -> str | None:
        """Name the paid seat group in which one user takes a seat."""
        draw = self._draw(position)
        group = self._group(position, draw)
        return str(group["id"]) if group and _is_enabled(position, draw) else None

    def _draw(self, position: int) -> Draw:
        """Draw a user's random numbers."""
        message = position.to_bytes(8, "little")
        return _DRAWS.unpack(hashlib.blake2b(message, key=self._key, digest_size=64).digest())

    def _identity(self, position: int, draw: Draw) -> tuple[str, str]:
        """Choose name and email; some people have two users, one for SSO and one with a password."""
        if _is_twin(position):
            name, email = self._identity(position - 1, self._draw(position - 1))
            return name, email.title() if position % 3 == 0 else email
        hostile = position - _FIRST_HOSTILE
        if 0 <= hostile < len(names.HOSTILE_NAMES):
            name, local = names.HOSTILE_NAMES[hostile]
        else:
            first = names.FIRST_NAMES[draw[0] % len(names.FIRST_NAMES)]
            last = names.LAST_NAMES[draw[1] % len(names.LAST_NAMES)]
            name, local = f"{first[0]} {last[0]}", f"{first[1]}.{last[1]}"
        tag = "+aha" if draw[14] % 100 == 0 else ""
        domain = names.EMAIL_DOMAINS[draw[15] % len(names.EMAIL_DOMAINS)]
        return name, f"{local}{position}{tag}@{domain}"

    def _provider(self, position: int, draw: Draw) -> Json:
        """Choose password or SSO; a twin has what its other half does not have."""
        if _is_twin(position):
            other = self._provider(position - 1, self._draw(position - 1))
            return self._providers[0] if other is _PASSWORD else _PASSWORD
        if draw[9] % 100 < 30:
            return _PASSWORD
        return self._providers[draw[9] // 100 % len(self._providers)]

    def _group(self, position: int, draw: Draw) -> Json | None:
        """Choose the paid seat group, which a part of the paid users has."""
        if _is_free(position, draw) or draw[12] % 100 >= 40:
            return None
        return self._groups[draw[13] % len(self._groups)]

    def _moments(self, position: int, draw: Draw) -> tuple[int, int, int | None]:
        """Choose when a user was created, last changed and last seen."""
        created = self._as_of - DAY - (len(self.ids) - position) * self._slot + draw[2] % self._slot
        updated = created + draw[3] * (self._as_of - created) // 2**32
        absence = _absence(position, draw)
        if absence is None:
            return created, updated, None
        earliest, latest = absence
        back = (earliest * 2**32 + draw[5] * (latest - earliest)) * DAY // 2**32
        return created, updated, max(self._as_of - back, created)

    def _roles(self, position: int, draw: Draw) -> list[Json]:
        """Choose a user's roles, at most one for each workspace."""
        count = len(self._workspaces)
        # The count of workspaces is a prime number: any step visits each of them once.
        start, step = draw[6] % count, 1 + draw[7] % (count - 1)
        free = _is_free(position, draw)
        chosen = []
        for turn in range(_ROLE_COUNTS[draw[16] & 15]):
            choices = _FREE if free else _PAID_MORE if turn else _PAID_FIRST
            workspace = self._workspaces[(start + turn * step) % count]
            chosen.append(workspace.role(choices[draw[17] >> turn & 7]))
        return chosen

    def _extra_roles(self, draw: Draw) -> list[Json]:
        """Choose the custom roles: few users have one, a few of these have two."""
        if draw[18] % 100 >= 5:
            return []
        how_many = 1 if draw[21] & 3 else 2
        return [
            self._workspaces[(draw[20] + turn) % len(self._workspaces)].custom_role(
                self._custom_roles[(draw[19] + turn) % len(self._custom_roles)]
            )
            for turn in range(how_many)
        ]


def _is_twin(position: int) -> bool:
    """Say whether the user at this position is the second one of the person before it."""
    return position % _TWIN_EVERY == _TWIN_AT


def _is_enabled(position: int, draw: Draw) -> bool:
    """Choose whether a user is enabled."""
    return position <= _VIEWER or draw[8] % 100 >= 10


def _is_free(position: int, draw: Draw) -> bool:
    """Choose whether a user only reviews or views, for which nobody pays."""
    return position == _VIEWER or (position > _VIEWER and draw[10] % 100 < 15)


def _rights(position: int, draw: Draw) -> tuple[bool, bool, bool]:
    """Choose the administrator rights: none for nearly everybody."""
    if position in (_OWNER, _SECOND):
        return _ALL_RIGHTS
    if position == _BILLING:
        return _SOME_RIGHTS[2]
    if position == _VIEWER or draw[22] % 1000 >= 15:
        return _NO_RIGHTS
    return _SOME_RIGHTS[draw[23] & 3]


def _absence(position: int, draw: Draw) -> tuple[int, int] | None:
    """Choose between how many days ago a user was seen last; null for never."""
    kind = 99 if position <= _VIEWER else draw[4] % 100
    if not _is_enabled(position, draw):
        return None if kind < 9 else (40, 700)
    if kind < 9:
        return None
    if kind < 17:
        return 90, 600
    if kind < 23:
        return 60, 90
    if kind < 32:
        return 30, 60
    return 0, 30
