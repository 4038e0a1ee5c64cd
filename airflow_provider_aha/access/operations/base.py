"""What every operation shares: one object of one user, what it is to be, and how that is proven.

An operation never decides whether something is written, how much, who asked, in which order, or what a crash
means: ``access.decide`` and ``access.write`` do, and know operations by :class:`Operation` only. Where kinds of
write differ, what these methods return differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from airflow_provider_aha.api.client import AhaClient

TAKEN, GIVEN = "taken", "given"
# Fields of a user that decide over access; a change of any other is nobody's loss.
PRIVILEGED = ("email", "enabled", "administrator", "administrator_roles")
# An email may be null. A null in one of these fields says nothing.
NEVER_NULL = frozenset({"enabled", "administrator", "administrator_roles", "paid_seat"})

# What is known of an object; a name that isn't in it wasn't shown.
State = Mapping[str, Any]


@dataclass(frozen=True)
class Compared:
    """How an object differs from what is wanted.

    :param wrong: fields that are shown, and otherwise.
    :param hidden: fields that aren't shown, or are null where null means nothing.
    """

    wrong: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()

    @property
    def done(self) -> bool:
        """Whether all is as wanted, and shown to be."""
        return not self.wrong and not self.hidden


class Operation(Protocol):
    """A kind of write. All methods but :meth:`send` are pure."""

    name: ClassVar[str]
    """By which plans and evidence call it."""
    stamps: ClassVar[bool]
    """Whether Aha! notes in ``updated_at`` of the user when it was done, which tells whose doing it is."""

    def missing(self, user: State) -> list[str]:
        """Return the fields without which nothing may be judged, and that aren't shown, or can't be read.

        :param user: the user as Aha! shows it.
        """

    def read_wanted(self, given: Mapping[str, object]) -> dict[str, Any]:
        """Read what the object is to be, as a form or DAG code gives it; what is not set stays as it is.

        :param given: values by field; text counts as what it says.
        :raises AhaConfigurationError: when a field doesn't exist, or a value can't be right.
        """

    def read(self, user: State, place: str) -> State:
        """Return the object as a read of its user shows it.

        :param user: the user as Aha! shows it.
        :param place: the object.
        """

    def compare(self, wanted: State, shown: State) -> Compared:
        """Compare the object with what is wanted: a read, an answer, or what evidence holds of either.

        :param wanted: what it is to be.
        :param shown: what is known of it.
        """

    def drift(self, before: State, shown: State, user: State) -> str | None:
        """Say what has changed since the decision, of what it was based on; None: nothing.

        :param before: the object at the decision.
        :param shown: the object now.
        :param user: its user now.
        """

    def access(self, wanted: State, before: State) -> str | None:
        """Tell whether it takes access (:data:`TAKEN`), only gives it (:data:`GIVEN`), or does neither (None).

        :param wanted: what the object is to be.
        :param before: what it is; empty where that isn't known.
        """

    def privileged(self, wanted: State) -> State:
        """Return the part of what is wanted that decides over access.

        :param wanted: what the object is to be.
        """

    def loses(self, wanted: State, user: State, place: str) -> frozenset[str]:
        """Return the rights that must not die out and that the user would lose; all, where they aren't shown.

        :param wanted: what the object is to be.
        :param user: the user as Aha! shows it.
        :param place: the object.
        """

    def guards(self, right: str) -> bool:
        """Tell whether this operation may not take a right from its last holder.

        :param right: one of :meth:`loses`.
        """

    def send(self, client: AhaClient, user_id: str, place: str, wanted: State, receipt: dict[str, Any]) -> State:
        """Send it once.

        :param client: client of the account.
        :param user_id: the user.
        :param place: the object.
        :param wanted: what it is to be.
        :param receipt: is given what is known of the answer; see :meth:`.AhaClient.update_user`.
        :return: what the answer shows of the object; nothing for an answer without a body.
        """

    def gives_back(self, wanted: State, before: State) -> dict[str, Any]:
        """Return what would give back exactly the access that it took; empty: none that could be.

        :param wanted: what the object was to be.
        :param before: what it was before.
        """

    def before_all(self, wanted: State, now: State, earlier: State) -> dict[str, Any]:
        """Return what the object was before the first of several requests, as far as they have changed it.

        :param wanted: what each of them was to make of it.
        :param now: the object as it is, after requests that Aha! acknowledged.
        :param earlier: the object as it was before them.
        """

    def words(self, wanted: State) -> str:
        """Say it for a log: ``disable``, ``role viewer``.

        :param wanted: what the object is to be.
        """


def not_shown(user: State, names: Iterable[str]) -> list[str]:
    """Return the fields of which it can't be said what they are: absent, or null where null means nothing.

    :param user: the user as Aha! shows it.
    :param names: the fields that matter.
    """
    return [name for name in names if name not in user or (name in NEVER_NULL and user[name] is None)]
