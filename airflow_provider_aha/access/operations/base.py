"""What every operation shares."""

from __future__ import annotations

TAKEN, GIVEN = "taken", "given"
