"""Clusters whose membership changes: nodes that join by `--join`, and what RAFT says of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from tests.support.cluster import WAIT_S, Node, ZattCluster, free_port, wait_until

EXIT_REMOVED = 3


class GrowingCluster(ZattCluster):
    """The first `size` nodes are started with --cluster (one alone without it), all others with --join."""

    def __init__(self, size: int = 1, *, flags: Sequence[str] = (), **options: Any) -> None:
        super().__init__(size, flags=flags, **options)
        self._founders = list(self.nodes)
        self._flags = list(flags)

    def command(self, node: Node) -> list[str]:
        command = [sys.executable, "-m", "zattredis", "--node", node.name, "--address", node.host]
        command += ["--port", str(node.port), "--dir", str(node.data_directory)]
        if node not in self._founders:
            others = [f"{other.host}:{other.port}" for other in self.nodes if other is not node and other.running]
            command += ["--join", ",".join(others)]
        elif len(self._founders) > 1:
            command += ["--cluster", ",".join(f"{one.name}={one.host}:{one.port}" for one in self._founders)]
        return command + node.flags

    def new_node(self) -> Node:
        """Return a node that was never started, with an id that was never used."""
        name = f"n{len(self.nodes) + 1}"
        node = Node(name, "127.0.0.1", free_port(), self.directory / name)
        node.flags = list(self._flags)
        self.nodes.append(node)
        return node

    def join(self, count: int = 1) -> list[int]:
        """Start `count` new nodes at the same time and wait until all of them vote; returns their numbers."""
        numbers = [self.nodes.index(self.new_node()) for _ in range(count)]
        for i in numbers:
            self.spawn(self.nodes[i])
        for i in numbers:
            wait_until(lambda i=i: self.nodes[i].name in self.voters(), f"{self.nodes[i].name} is a voter")  # type: ignore[misc]
            self.wait_ready([self.nodes[i]])
        return numbers

    def status(self, i: int = 0) -> dict[str, Any]:
        """RAFT STATUS of one node; texts and lists of texts are str."""
        with self.client(i) as client:
            return _map(client.call("RAFT", "STATUS"))

    def member(self, name: str, i: int = 0) -> dict[str, Any]:
        """What RAFT MEMBERS of one node says of a member."""
        with self.client(i) as client:
            members = [_map(words) for words in client.call("RAFT", "MEMBERS")]
        return next(member for member in members if member["id"] == name)

    def voters(self, i: int = 0) -> list[str]:
        """The voters as one node knows them."""
        return list(self.status(i)["voters"])

    def settled_voters(self, i: int = 0) -> list[str]:
        """The voters once they are agreed, none before: until then another change is refused."""
        status = self.status(i)
        return list(status["voters"]) if status["change"] == "none" else []

    def raft_command(self, i: int, *words: str, timeout_s: float = WAIT_S) -> Any:
        """A RAFT subcommand sent to one node; an error reply is returned as its text."""
        with self.client(i, timeout_s) as client:
            return client.try_call("RAFT", *words)

    def wait_removed(self, i: int) -> None:
        """Until a removed node has ended, and has said why."""
        node = self.nodes[i]
        wait_until(lambda: not node.running, f"{node.name}, which was removed, ends")
        assert node.process is not None and node.process.returncode == EXIT_REMOVED, node.log()[-2000:]
        assert f"node '{node.name}' was removed from the cluster" in node.log().splitlines()[-1]

    def wait_running_equal(self) -> str:
        """`wait_equal` over the nodes that run."""
        everyone, self.nodes = self.nodes, [node for node in self.nodes if node.running]
        try:
            return self.wait_equal()
        finally:
            self.nodes = everyone


def _map(words: list[Any]) -> dict[str, Any]:
    found = {}
    for name, value in zip(words[::2], words[1::2], strict=True):
        plain = [one.decode() for one in value] if isinstance(value, list) else value
        found[name.decode()] = plain.decode() if isinstance(plain, bytes) else plain
    return found
