"""Writing commands that came with a later state-machine version (`server.upgrades`): refused until all nodes know it.

During an upgrade nodes of two builds apply the same log. An older one passes over a command that it does not know; so
must a newer one, until no older one is left: until the version of the entry says so, which is the same on every node.
Its client gets a definite error and may try again once the last node is upgraded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from zattredis.errors import DefiniteError

FIRST: Final = 1
"""The version of what was there from the beginning, and so needs no gate."""


class NotYet(DefiniteError):
    """Not every node knows the command yet."""

    def __init__(self, name: str, needed: int, found: int) -> None:
        super().__init__(
            f"'{name.lower().replace(' ', '|')}' is not known to every node yet: upgrade them all first (it needs "
            f"state-machine version {needed}, the cluster works at {found})"
        )


def gated(name: str, version: int, handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return the handler of a WRITE, refusing below `version`; the handler itself where there is nothing to refuse."""
    if version <= FIRST:
        return handler

    def refuse_or_handle(ctx: Any, *arguments: Any) -> Any:
        if ctx.version < version:
            raise NotYet(name, version, ctx.version)
        return handler(ctx, *arguments)

    refuse_or_handle.__doc__ = handler.__doc__
    return refuse_or_handle


def gated_many(version: int, many: Callable[..., list[Any] | None] | None) -> Callable[..., list[Any] | None] | None:
    """Return `many` of such a command, declining below `version`, so that each line is refused by itself."""
    if many is None or version <= FIRST:
        return many

    def decline_or_handle(ctx: Any, argvs: list[list[bytes]]) -> list[Any] | None:
        return None if ctx.version < version else many(ctx, argvs)

    return decline_or_handle
