"""`zattctl top`: all nodes live; q or Ctrl-C ends it. Where there is no terminal, a table now and then."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from zattredis.cli.arguments import EXIT_DONE
from zattredis.cli.ctl import table
from zattredis.cli.ctl.frame import Subcommand
from zattredis.cli.ctl.nodes import Node, targets
from zattredis.cli.ctl.status import lag_of
from zattredis.cli.ctl.target import Target
from zattredis.cli.resp_client import ErrorReply, NoAnswer, RespClient
from zattredis.errors import ZattredisError

_SECTIONS = ("raft", "server", "persistence", "stats", "clients", "memory")
_COLUMNS = ("NODE", "ROLE", "OPS/S", "WRITES/S", "LATENCY", "FSYNC", "LAG", "CLIENTS", "MEMORY", "DISK")
_CLEAR, _HOME, _LINE_END, _REST = "\x1b[2J", "\x1b[H", "\x1b[K", "\x1b[J"
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-i", "--interval", type=_interval, default=1.0, metavar="S", help="seconds between looks (1)")
    parser.add_argument("-n", "--count", type=int, default=0, metavar="N", help="look so often, then end (0: for ever)")


def _interval(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.1 and 3600")
    return value


@dataclass(frozen=True, slots=True)
class Sample:
    """What a node said at a time, and how long a linearizable read took there."""

    node: Node
    at_s: float
    read_s: float | None = None

    def rate(self, before: Sample | None, *names: str) -> float:
        """Return the change per second of the sum of these fields since `before`."""
        if before is None or before.node.problem or self.node.problem:
            return 0.0
        change = sum(self.node.number(name) - before.node.number(name) for name in names)
        return max(0.0, change / max(1e-3, self.at_s - before.at_s))


class _Probe:
    """One node and the connection to it, which is made again where it breaks."""

    def __init__(self, node_id: str, address: str, target: Target) -> None:
        self.node_id = node_id
        self.address = address
        self.target = target
        self._client: RespClient | None = None

    def look(self) -> Sample:
        try:
            if self._client is None:
                self._client = self.target.connect()
            node = Node(self.node_id, self.address, self._client.info(*_SECTIONS))
            return Sample(node, time.monotonic(), self._read_s(self._client))
        except (NoAnswer, ErrorReply) as error:
            self.close()
            return Sample(Node(self.node_id, self.address, problem=str(error)), time.monotonic())

    def _read_s(self, client: RespClient) -> float | None:
        """Return how long a linearizable read takes; None where it is not: without a majority, say."""
        began = time.monotonic()
        try:
            client.call("EXISTS", "")
        except ErrorReply:
            return None
        except NoAnswer:
            self.close()
            return None
        return time.monotonic() - began

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def run(arguments: argparse.Namespace) -> int:
    """Look again and again."""
    target = Target.of(arguments)
    interval_s, count = arguments.interval, arguments.count
    live = sys.stdout.isatty()
    screen = _screen() if live else contextlib.nullcontext()
    with contextlib.closing(_looks(target)) as looks, contextlib.suppress(KeyboardInterrupt), screen:
        before: dict[str, Sample] = {}
        for number, samples in enumerate(looks, 1):
            _show(list(as_lines(samples, before)), live)
            before = {sample.node.node_id: sample for sample in samples}
            if number == count or _quit_within(interval_s, live):
                break
    return EXIT_DONE


def _looks(target: Target) -> Generator[list[Sample], None, None]:
    """Yield a sample of every node, for ever; the members are asked for again whenever one does not answer."""
    probes: dict[str, _Probe] = {}
    stale = True
    with ThreadPoolExecutor(16) as pool:
        try:
            while True:
                if stale:
                    probes = _renewed(target, probes)
                samples = list(pool.map(_Probe.look, probes.values()))
                stale = any(sample.node.problem for sample in samples) or len(probes) != len(_known(samples))
                yield samples
        finally:
            for probe in probes.values():
                probe.close()


def _known(samples: Sequence[Sample]) -> set[str]:
    """Return the ids of all members that any node names."""
    return {
        name.removeprefix("raft_member_")
        for sample in samples for name in sample.node.info if name.startswith("raft_member_")
    }  # fmt: skip


def _renewed(target: Target, probes: dict[str, _Probe]) -> dict[str, _Probe]:
    """Return a probe for each member there is now, from the first node that tells."""
    sources = [target, *(probe.target for probe in probes.values())]
    for place, source in enumerate(sources):
        try:
            members = targets(source)
        except ZattredisError:
            if not probes and place == len(sources) - 1:
                raise
            continue
        now = {node_id: probes.get(node_id) or _Probe(node_id, where, each) for node_id, where, each in members}
        for node_id in set(probes) - set(now):
            probes[node_id].close()
        return now
    return probes


def as_lines(samples: Sequence[Sample], before: dict[str, Sample]) -> Iterator[str]:
    """Yield what is shown: one node a line, rates since the last look."""
    nodes = [sample.node for sample in samples]
    leader = next((node for node in nodes if node.role == "leader"), None)
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for sample in samples:
        node, last = sample.node, before.get(sample.node.node_id)
        if node.problem:
            rows.append((node.node_id, "no answer", *["-"] * (len(_COLUMNS) - 2)))
            continue
        syncs = sample.rate(last, "storage_syncs")
        read = "-" if sample.read_s is None else table.milliseconds(sample.read_s * 1e6)
        sync = table.milliseconds(sample.rate(last, "storage_sync_usec") / syncs) if syncs else "-"
        rows.append((
            node.node_id, node.role, f"{sample.rate(last, 'total_commands_processed'):,.0f}",
            f"{sample.rate(last, 'write_batch_commands'):,.0f}",
            read, sync, f"{lag_of(node, nodes):,}", node.text("connected_clients"),
            table.size(node.number("used_memory")),
            table.size(node.number("storage_log_bytes") + node.number("storage_state_bytes")),
        ))  # fmt: skip
    led = f"{leader.node_id} leads term {leader.number('raft_current_term')}" if leader else "no leader"
    committed = max((node.number("raft_commit_index") for node in nodes), default=0)
    yield f"{time.strftime('%H:%M:%S')}  {led}, entry {committed:,} committed"
    yield ""
    yield from table.lines(rows)
    for node in nodes:
        if node.problem:
            yield f"{node.node_id}: {node.problem}"


def _show(lines: Sequence[str], live: bool) -> None:
    if live:
        size = shutil.get_terminal_size()
        shown = [line[: size.columns] for line in [*lines, "", "LATENCY is that of a linearizable read. q ends."]]
        sys.stdout.write(_HOME + "".join(f"{line}{_LINE_END}\r\n" for line in shown[: size.lines - 1]) + _REST)
    else:
        print("\n".join([*lines, ""]))
    sys.stdout.flush()


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """A screen of its own, keys without Enter; everything is put back, whatever happens."""
    keys = sys.stdin.fileno() if sys.stdin.isatty() else None
    modes = termios.tcgetattr(keys) if keys is not None else None
    sys.stdout.write(_ENTER + _CLEAR)
    try:
        if keys is not None:
            tty.setcbreak(keys)
        yield
    finally:
        if keys is not None and modes is not None:
            termios.tcsetattr(keys, termios.TCSADRAIN, modes)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()


def _quit_within(seconds: float, live: bool) -> bool:
    """Wait; return whether q was typed meanwhile."""
    if not live or not sys.stdin.isatty():
        time.sleep(seconds)
        return False
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if select.select([sys.stdin], [], [], left)[0] and os.read(sys.stdin.fileno(), 1) in (b"q", b"Q", b"\x1b", b""):
            return True
    return False


SUBCOMMAND = Subcommand(
    name="top",
    help="all nodes live: throughput, latency, lag",
    description="Show all nodes again and again: commands a second, how long a linearizable read takes, the time of a "
    "sync, lag. q or Ctrl-C ends it. Without a terminal each look is a table of its own.",
    examples="zattctl top                             live, every second\n"
    "zattctl top -i 5                        every five seconds\n"
    "zattctl top -n 1 | cat                  once, plain",
    arguments=_arguments,
    run=run,
)
