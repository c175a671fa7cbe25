"""What one command costs beside the store: microseconds of prefetch, handler and the way of its effects.

python -m benchmarks.micro_commands [--rocksdict] [--tick N] [--keys N]

A tick of N commands shares one View, as it does on a server. The first figure is with a dict behind the Reader, which
costs next to nothing; `--rocksdict` adds a table with a real database, whose multi_get is then part of the figure.
Figures are CPU time of the thread, the best of five rounds, so that a busy machine disturbs them little.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zattredis.commands
from zattredis.commands.context import Context
from zattredis.commands.table import COMMANDS, Kind
from zattredis.keyspace.keys import META_APPLIED
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.view import View
from zattredis.storage.state_store import StateStore, encode_applied

assert zattredis.commands

NOW_MS = 1_700_000_000_000
ROUNDS = 5
COMMANDS_PER_ROUND = 20_000
VALUE = b"x" * 64

LINES: dict[str, Callable[[bytes], tuple[bytes, ...]]] = {
    "SET": lambda key: (key, VALUE),
    "GET": lambda key: (key,),
    "INCR": lambda key: (b"counter:" + key,),
    "SETEX": lambda key: (key, b"1000", VALUE),
    "EXPIRE": lambda key: (key, b"1000"),
    "TTL": lambda key: (key,),
    "APPEND": lambda key: (b"short:" + key[-4:], b"x"),
    "EXISTS": lambda key: (key,),
    "DEL": lambda key: (key,),
}


class DictStore:
    """The cheapest store there is; unordered, so no command that iterates may run on it."""

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}
        self.get = self.data.get

    def multi_get(self, keys: list[bytes]) -> list[bytes | None]:
        get = self.data.get
        return [get(key) for key in keys]

    def iterate(self, lower: bytes, upper: bytes | None, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        raise NotImplementedError

    def frozen(self) -> Any:
        raise NotImplementedError

    def write(self, changes: dict[bytes, bytes | None]) -> None:
        self.data.update(changes)  # type: ignore[arg-type]


def measure(store: Any, registers: Registers, name: str, tick: int, keys: int) -> tuple[float, float, float, float]:
    """Return the best round's CPU microseconds a command: prefetch, handlers, take, and the store's write."""
    spec = COMMANDS[name.encode()]
    make = LINES[name]
    best = (1e9, 0.0, 0.0, 0.0)
    applied = 0
    for _ in range(ROUNDS):
        spent = [0.0, 0.0, 0.0, 0.0]
        for _ in range(COMMANDS_PER_ROUND // tick):
            lines = [make(b"key:%012d" % random.randrange(keys)) for _ in range(tick)]
            pairs = [(0, line[0]) for line in lines]
            handler = spec.handler
            start = time.thread_time()
            view = View(store, registers)
            view.prefetch(pairs)
            fetched = time.thread_time()
            context = Context(view, 0, NOW_MS)
            if spec.kind == Kind.WRITE:
                for line in lines:
                    view.begin()
                    handler(context, *line)
                    view.commit()
            else:
                for line in lines:
                    handler(context, *line)
            handled = time.thread_time()
            effects = view.take()
            taken = time.thread_time()
            if effects:
                applied += 1
                effects[META_APPLIED] = encode_applied(applied, 1)
                store.write(effects)
            written = time.thread_time()
            for place, seconds in enumerate((fetched - start, handled - fetched, taken - handled, written - taken)):
                spent[place] += seconds
        count = COMMANDS_PER_ROUND // tick * tick
        found = tuple(seconds / count * 1e6 for seconds in spent)
        best = min(best, found, key=sum)  # type: ignore[assignment]
    return best


def table(title: str, store: Any, tick: int, keys: int) -> None:
    """Print the figures of every command over one store."""
    registers = Registers.load(store)
    print(f"{title}: µs a command, {tick} commands a tick, {keys} keys")
    print(f"{'':8}{'prefetch':>10}{'handler':>10}{'take':>10}{'write':>10}")
    for name in LINES:
        parts = measure(store, registers, name, tick, keys)
        print(f"{name:8}" + "".join(f"{part:10.2f}" for part in parts))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rocksdict", action="store_true", help="measure with a real database, too")
    parser.add_argument("--tick", type=int, default=50, help="commands that share a view (default 50)")
    parser.add_argument("--keys", type=int, default=10_000, help="different keys (default 10000)")
    options = parser.parse_args()
    table("a dict", DictStore(), options.tick, options.keys)
    if options.rocksdict:
        directory = Path(tempfile.mkdtemp(prefix="zattredis-micro-"))
        store = StateStore.create(directory / "state-0", membership=b"")
        try:
            table("rocksdict", store, options.tick, options.keys)
        finally:
            store.close()
            shutil.rmtree(directory)


if __name__ == "__main__":
    main()
