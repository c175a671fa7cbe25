"""zattredis: a Redis-protocol server whose every write is agreed by Raft before it is acknowledged."""

from zattredis.version import __version__

__all__ = ["__version__"]
