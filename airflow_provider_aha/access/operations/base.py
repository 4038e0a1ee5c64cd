"""What every operation shares."""

from __future__ import annotations

from dataclasses import dataclass

TAKEN, GIVEN = "taken", "given"


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
