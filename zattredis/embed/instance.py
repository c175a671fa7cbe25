"""What a `Server` needs of each of its nodes, however it runs."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol


class Standing(NamedTuple):
    """What a node says of itself. `ready`: it may vote, and its extensions are agreed on."""

    leader_id: str | None
    term: int
    ready: bool


class Instance(Protocol):
    """One node. `start` may be called again once it is not `alive`."""

    @property
    def alive(self) -> bool:
        """Whether it runs (a paused one does)."""
        ...

    @property
    def pid(self) -> int | None:
        """The id of its process, None when it has none."""
        ...

    def begin(self) -> None:
        """Begin to start it."""
        ...

    def wait_started(self, deadline: float) -> None:
        """Return once it listens. Raises FatalError, with its own reason, if it does not come up by then."""
        ...

    def standing(self) -> Standing | None:
        """Return what it says of itself, or None if it does not answer."""
        ...

    def cut_off(self, node_ids: Collection[str]) -> None:
        """Let it hear nothing of these nodes."""
        ...

    def stop(self, timeout_s: float) -> None:
        """End it in good order, or, when that takes longer, at once; return when it has ended."""
        ...

    def kill(self) -> None:
        """End it as a power cut would; return when it has ended. Raises RuntimeError where that is impossible."""
        ...

    def pause(self) -> None:
        """Stop its time. Raises RuntimeError where that is impossible."""
        ...

    def resume(self) -> None:
        """Let it go on."""
        ...
