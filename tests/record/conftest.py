"""Records are made by carrying something out, so these tests share the world of access."""

from tests.access.conftest import anywhere, connected, context, small_sandbox, world

__all__ = ["anywhere", "connected", "context", "small_sandbox", "world"]
