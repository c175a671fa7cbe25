"""A process that appends to a log as fast as it can, and says what is durable. Run as `python -m tests.storage.writer`.

Arguments: the log's path, how many rounds (0: until killed), whether to compact (yes or no). Entries are
`written(index)`; every eighth round rewrites the last entries, which are not durable yet, in a new term. Reports go out
by writev, because tests make write(2) fail.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.storage.conftest import SMALL_MEMTABLES, entry
from zattredis.errors import StorageError
from zattredis.raft.entry import Entry
from zattredis.raft.ready import HardState
from zattredis.storage.log_store import LogStore


def written(index: int, term: int) -> Entry:
    """Return the entry that the writer puts at `index` in `term`."""
    return entry(index, term, bytes([index % 256]) * (index * 997 % 5000))


def report(text: str) -> None:
    os.writev(1, [text.encode() + b"\n"])


def run(log: LogStore, rounds: int, compacts: bool) -> None:
    """Append and sync; report `durable <index> <term of the hard state>` after each sync."""
    number = 0
    while rounds == 0 or number < rounds:
        number += 1
        durable = log.last_index
        term = max(1, log.hard_state.term)
        log.append([written(durable + i, term) for i in range(1, 4)], None)
        if number % 8 == 0:
            log.append([written(durable + 2, term + 1)], HardState(term + 1, f"n{term % 3}", 0))
        log.sync()
        report(f"durable {log.durable_index} {log.hard_state.term}")
        if compacts and number % 20 == 0 and log.last_index > 60:
            first = log.last_index - 50
            log.compact(first, log.term(first - 1))


def main() -> None:
    path, rounds = Path(sys.argv[1]), int(sys.argv[2])
    report("opening")
    try:
        log = LogStore.open(path, options=SMALL_MEMTABLES)
        report("opened")
    except StorageError as error:
        report(f"refused {type(error).__name__} {error}")
        os._exit(3)
    try:
        run(log, rounds, sys.argv[3] == "yes")
    except StorageError as error:
        report(f"failed {type(error).__name__} {error}")
        for action in (log.sync, lambda: log.append([written(log.last_index + 1, log.hard_state.term)], None)):
            try:
                action()
            except StorageError as again:
                report(f"again {again}")
            else:
                report("SUCCEEDED AFTER A FAILURE")
        # As a node does that cannot trust its disk: no orderly end.
        os._exit(4)
    report("done")


if __name__ == "__main__":
    main()
