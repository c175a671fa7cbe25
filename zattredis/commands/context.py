"""What a handler is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zattredis.keyspace.view import View


class Context:
    """For READ and WRITE handlers: the view, the database, the cluster's time in ms, and the seed of this command.

    Pure: the same (view, argv, now_ms, seed, version) gives the same effects and the same reply on every node.
    """

    __slots__ = ("db", "now_ms", "ordinal", "seed", "version", "view")

    def __init__(self, view: View, db: int, now_ms: int, seed: int = 0, ordinal: int = 0, version: int = 1) -> None:
        self.view = view
        self.db = db
        self.now_ms = now_ms
        self.seed = seed
        self.ordinal = ordinal
        self.version = version
