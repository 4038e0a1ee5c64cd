"""Promises are held against the accounts that the tests of writing and of reports share."""

from tests.access.conftest import small_sandbox, world
from tests.report.conftest import desk, landed, make_desk, small, someone

__all__ = ["desk", "landed", "make_desk", "small", "small_sandbox", "someone", "world"]
