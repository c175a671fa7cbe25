"""`zattd demo`: a cluster of three on this machine, as child processes, to play with."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from zattredis.cli import banner
from zattredis.cli.arguments import EXIT_DONE, EXIT_FATAL, OneLineParser
from zattredis.cli.ports import HOST, ClaimedPort, claim
from zattredis.cli.resp_client import ErrorReply, NoAnswer, RespClient
from zattredis.config import Member, default_peer_port
from zattredis.errors import FatalError

_PROGRAM: Final = "zattd demo"
_PORTS: Final = range(7001, 20_000)
_NODES: Final = 3
_START_S: Final = 30.0
_STOP_S: Final = 15.0
_POLL_S: Final = 0.2
_PR_SET_PDEATHSIG: Final = 1
_PORTS_FILE: Final = "demo.json"


def main(argv: list[str]) -> int:
    """Run `zattd demo ARGV` until Ctrl-C or SIGTERM and return the exit code. Raises FatalError."""
    parser = OneLineParser(
        _PROGRAM,
        "Run a cluster of three nodes on this machine until Ctrl-C.",
        "Nothing here is for keeps: without --dir the data lies in a temporary directory that goes with the demo.",
    )
    parser.add_argument("--dir", metavar="DIR", help="keep the data here, to be used again (default: temporary)")
    arguments = parser.parse(argv)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    try:
        with _directory(arguments.dir) as directory, Demo(directory) as demo:
            return demo.run()
    except KeyboardInterrupt:
        return EXIT_DONE


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _directory(given: str | None) -> Iterator[Path]:
    if given is not None:
        path = Path(given).absolute()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FatalError(f"cannot make {path}: {error.strerror}") from None
        yield path
        return
    path = Path(tempfile.mkdtemp(prefix="zattredis-demo-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def find_ports(count: int, ports: Sequence[int] = _PORTS) -> list[ClaimedPort]:
    """Return ports that nobody listens on now, nor on their peer ports; no other demo takes them until their release.

    Raises FatalError if there are not so many.
    """
    claimed: list[ClaimedPort] = []
    for port in ports:
        if (one := claim(port)) is not None:
            claimed.append(one)
            if len(claimed) == count:
                return claimed
    raise FatalError(f"no {count} free ports between {ports[0]} and {ports[-1]} on {HOST}")


class Demo:
    """Three child processes. Leaving the context ends them, each by its own pid."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._claims: list[ClaimedPort] = []
        self.members = self._members()
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def _members(self) -> list[Member]:
        """The members: those of the last time if the directory is used again, for a cluster keeps its addresses."""
        remembered = self._directory / _PORTS_FILE
        try:
            ports = json.loads(remembered.read_text())
        except FileNotFoundError:
            self._claims = find_ports(_NODES)
            ports = [claimed.port for claimed in self._claims]
            remembered.write_text(json.dumps(ports))
        except (OSError, ValueError) as error:
            raise FatalError(f"cannot read {remembered}: {error}") from None
        if not (isinstance(ports, list) and len(ports) == _NODES and all(isinstance(port, int) for port in ports)):
            raise FatalError(f"{remembered} does not hold {_NODES} ports; give another --dir")
        return [Member(f"n{i}", HOST, port, default_peer_port(port)) for i, port in enumerate(ports, 1)]

    def __enter__(self) -> Demo:
        try:
            for member in self.members:
                self._start(member)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def command(self, member: Member) -> list[str]:
        """Return the command line of one node."""
        cluster = ",".join(f"{other.node_id}={other.host}:{other.port}" for other in self.members)
        words = [sys.executable, "-m", "zattredis", "--node", member.node_id, "--port", str(member.port)]
        return [*words, "--dir", str(self._directory / member.node_id), "--cluster", cluster]

    def _start(self, member: Member) -> None:
        log = self._directory / f"{member.node_id}.log"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ZATTREDIS_")}
        with log.open("ab") as output:
            # A session of its own, so that Ctrl-C reaches only the demo, which then ends its children in order.
            self.children[member.node_id] = subprocess.Popen(
                self.command(member), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - the demo has one thread
            )  # fmt: skip

    def run(self) -> int:
        """Print what there is to know, then watch the nodes. Returns 1 once none of them lives."""
        leader = self._wait_leader()
        _say(self._introduction(leader))
        dead: set[str] = set()
        while True:
            time.sleep(_POLL_S)
            for node_id, child in self.children.items():
                if child.poll() is not None and node_id not in dead:
                    dead.add(node_id)
                    _say(self._obituary(node_id, child))
            if len(dead) == len(self.children):
                _say("All nodes have ended.")
                return EXIT_FATAL
            now = self._leader()
            if now not in (None, leader):
                leader = now
                _say(f"{leader} leads now.")

    def _wait_leader(self) -> str:
        _say(f"Starting three nodes in {self._directory} …")
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            for node_id, child in self.children.items():
                if child.poll() is not None:
                    raise FatalError(
                        f"node {node_id} ended with exit code {child.returncode}: {self._last_line(node_id)}"
                    )
            if leader := self._leader():
                return leader
            time.sleep(_POLL_S)
        raise FatalError(f"no leader after {_START_S:.0f} seconds; the logs are in {self._directory}")

    def _leader(self) -> str | None:
        """Return the id of the node that says of itself that it leads, or None."""
        claims: list[tuple[int, str]] = []
        for member in self.members:
            if self.children[member.node_id].poll() is not None:
                continue
            with (
                contextlib.suppress(NoAnswer, ErrorReply),
                RespClient(member.host, member.port, timeout_s=1.0) as client,
            ):
                raft = client.info("raft")
                if raft.get("raft_role") == "leader":
                    claims.append((int(raft.get("raft_current_term", "0")), member.node_id))
        return max(claims)[1] if claims else None

    def _introduction(self, leader: str) -> str:
        lines = ["", "  node  port   process  data"]
        for member in self.members:
            pid = self.children[member.node_id].pid
            role = "   leads" if member.node_id == leader else ""
            lines.append(f"  {member.node_id:<4}  {member.port:<5}  {pid:<7}  {self._directory / member.node_id}{role}")
        first, second, third = self.members[:3]
        leading = self.children[leader].pid
        lines += [
            "",
            "Try",
            f"  redis-cli -p {first.port} SET greeting hello       # write on one node",
            f"  redis-cli -p {second.port} GET greeting             # read it on another",
            f"  redis-benchmark -p {third.port} -t set,get -n 20000 -q",
            f"  {banner.control_command()} status --port {first.port}",
            f"  kill -9 {leading}                                  # kill the leader: the others go on",
            "Ctrl-C ends all three.",
            *banner.missing_tools(),
            "",
        ]
        return "\n".join(lines)

    def _obituary(self, node_id: str, child: subprocess.Popen[bytes]) -> str:
        code = child.returncode
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        reason = f" ({self._last_line(node_id)})" if code > 0 else ""
        member = next(member for member in self.members if member.node_id == node_id)
        again = shlex.join(self.command(member))
        return f"Node {node_id} {how}{reason}. To start it again, in another terminal:\n  {again}"

    def _last_line(self, node_id: str) -> str:
        lines = (self._directory / f"{node_id}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def stop(self) -> None:
        """End the children: SIGTERM, and SIGKILL for one that does not end in time."""
        living = [child for child in self.children.values() if child.poll() is None]
        if living:
            _say(f"Ending {len(living)} nodes …")
        with contextlib.suppress(KeyboardInterrupt):
            for child in living:
                child.terminate()
            deadline = time.monotonic() + _STOP_S
            for child in living:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(max(0.0, deadline - time.monotonic()))
        for child in living:
            if child.poll() is None:
                child.kill()
            child.wait()
        for claimed in self._claims:
            claimed.release()


def _end_with_parent() -> None:
    """In the child: ask the kernel for SIGTERM should the demo itself be killed, so that no node is left behind."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, flush=True)
