"""The redis-server that the tests of the commands compare with."""

from tests.commands.conftest import real, redis_server

__all__ = ["real", "redis_server"]
