"""Conditions of the core on which nothing hangs that anybody outside could see, each with the reason."""

from __future__ import annotations

from typing import Final

_SHORT_CUT: Final = "a short cut: what follows comes to the same"

SPARE: Final[dict[str, str]] = {
    "follower._beyond_match: entries[0].index > last -> False": _SHORT_CUT,
    "log.RaftLog.term: index == self.last_index -> False": _SHORT_CUT,
    "log.RaftLog.term: index > self.last_index -> False": "only words the error: the list raises IndexError as well",
}
