"""Promises about writes are held against the small account that the tests of writing share."""

from tests.access.conftest import small_sandbox, world

__all__ = ["small_sandbox", "world"]
