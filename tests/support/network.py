"""A private network of real processes that can be cut: one namespace a node, and one more that holds the bridge.

Nothing of the machine's own network is changed except one interface pair by which the tests reach the nodes. Needs
root, `ip` and `iptables`; `why_unavailable` says what is missing.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import random
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.support.cluster import ZattCluster

CLIENT_PORT = 7001


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


@functools.cache
def why_unavailable() -> str | None:
    """What this machine lacks for private networks, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool in ("ip", "iptables"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    try:
        with Network(1) as network:
            network.cut(0, 0)
    except OSError as error:
        return f"network namespaces do not work here: {error}"
    return None


class Network:
    """Namespaces for `size` nodes. All rules are receiving rules inside them: `cut(i, j)` makes i deaf to j."""

    def __init__(self, size: int) -> None:
        rng = random.SystemRandom()
        self.tag = f"zt{os.getpid() % 100000}{rng.randrange(100):02d}"
        self.subnet = ipaddress.ip_network(f"10.{rng.randrange(200, 250)}.{rng.randrange(256)}.0/24")
        self.addresses = [str(self.subnet[10 + i]) for i in range(size)]
        self.hub = f"{self.tag}hub"
        self.outside = f"{self.tag}o"  # interface names have 15 characters at most
        self._slow: set[int] = set()

    def namespace(self, i: int) -> str:
        return f"{self.tag}n{i}"

    def prefix(self, i: int) -> list[str]:
        """What to put before a command so that it runs in the namespace of node i."""
        return ["ip", "netns", "exec", self.namespace(i)]

    def __enter__(self) -> Network:
        try:
            _run("ip", "netns", "add", self.hub)
            _run("ip", "-n", self.hub, "link", "add", "br0", "type", "bridge")
            _run("ip", "-n", self.hub, "link", "set", "br0", "up")
            _run("ip", "link", "add", self.outside, "type", "veth", "peer", "name", "out", "netns", self.hub)
            _run("ip", "-n", self.hub, "link", "set", "out", "master", "br0", "up")
            _run("ip", "address", "add", f"{self.subnet[1]}/24", "dev", self.outside)
            _run("ip", "link", "set", self.outside, "up")
            for i, address in enumerate(self.addresses):
                space = self.namespace(i)
                _run("ip", "netns", "add", space)
                pair = ("type", "veth", "peer", "name", f"v{i}", "netns", self.hub)
                _run("ip", "-n", space, "link", "add", "eth0", *pair)
                _run("ip", "-n", self.hub, "link", "set", f"v{i}", "master", "br0", "up")
                _run("ip", "-n", space, "address", "add", f"{address}/24", "dev", "eth0")
                _run("ip", "-n", space, "link", "set", "lo", "up")
                _run("ip", "-n", space, "link", "set", "eth0", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *rest: object) -> None:
        spaces = [self.hub, *map(self.namespace, range(len(self.addresses)))]
        for space in spaces:
            if Path("/run/netns", space).exists():
                _run("ip", "netns", "delete", space)
        if Path("/sys/class/net", self.outside).exists():
            # The kernel takes the pair down with its namespace, a moment later; whoever comes first.
            subprocess.run(["ip", "link", "delete", self.outside], capture_output=True, check=False)

    def cut(self, i: int, j: int) -> None:
        """Node i receives nothing from node j any more (the other direction stays)."""
        _run(*self.prefix(i), "iptables", "-w", "-A", "INPUT", "-s", self.addresses[j], "-j", "DROP")

    def partition(self, *groups: Iterable[int]) -> None:
        """Nodes of different groups do not hear each other; the tests reach all of them."""
        sets: Sequence[set[int]] = [set(group) for group in groups]
        for mine in sets:
            for other in sets:
                if mine is not other:
                    for i in mine:
                        for j in other:
                            self.cut(i, j)

    def lose(self, i: int, share: float) -> None:
        """Node i loses so large a share of the packets that other nodes send it."""
        dice = ("-m", "statistic", "--mode", "random", "--probability", f"{share:.3f}")
        for address in self.addresses[:i] + self.addresses[i + 1 :]:
            _run(*self.prefix(i), "iptables", "-w", "-A", "INPUT", "-s", address, *dice, "-j", "DROP")

    def slow_down(self, i: int, kilobits: int) -> None:
        """All that node i sends, to clients too, leaves it at this rate, up to a second late."""
        shape = ("tbf", "rate", f"{kilobits}kbit", "burst", "16kb", "latency", "1000ms")
        _run("tc", "-n", self.namespace(i), "qdisc", "replace", "dev", "eth0", "root", *shape)
        self._slow.add(i)

    def heal(self) -> None:
        """Everyone hears everyone, at once."""
        for i in range(len(self.addresses)):
            _run(*self.prefix(i), "iptables", "-w", "-F", "INPUT")
        while self._slow:
            _run("tc", "-n", self.namespace(self._slow.pop()), "qdisc", "delete", "dev", "eth0", "root")


class NetworkCluster(ZattCluster):
    """A cluster whose nodes live in the namespaces of a network."""

    def __init__(self, network: Network, *, flags: Sequence[str] = ()) -> None:
        super().__init__(len(network.addresses), flags=flags, start=True)
        for i, node in enumerate(self.nodes):
            node.host, node.port = network.addresses[i], CLIENT_PORT
            node.prefix = network.prefix(i)
