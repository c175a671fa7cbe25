"""A program for a network namespace of its own: two networks, and a loopback that is made to drop what they say.

Prints one line of JSON: how often the link came up and broke, and whether it carried messages again after the cut.
"""

from __future__ import annotations

import asyncio
import json
import subprocess

from tests.peer.harness import Net, heartbeat, nets, run
from zattredis.peer.connection import Timing

TIMING = Timing(connect_ms=500, handshake_ms=500, dead_ms=1000, retry_min_ms=10, retry_max_ms=100)


def tell(*command: str) -> None:
    subprocess.run(command, check=True)


async def main() -> None:
    """Cut, wait until the sender notices although no packet tells it, mend, wait until messages arrive again."""
    tell("ip", "link", "set", "lo", "up")
    async with nets(Net("n1", timing=TIMING), Net("n2", timing=TIMING)) as (one, two):
        cut = ["-p", "tcp", "--dport", str(two.network.port), "-j", "DROP"]
        tell("iptables", "-A", "INPUT", *cut)
        one.network.send(heartbeat("n1", "n2", 1))  # nobody acknowledges it
        await one.until(lambda: ("n2", False) in one.links)
        assert not one.network.send(heartbeat("n1", "n2", 2))
        tell("iptables", "-D", "INPUT", *cut)
        await one.until(lambda: one.network.connected("n2"))
        assert one.network.send(heartbeat("n1", "n2", 3))
        await two.until(lambda: any(message.round == 3 for message in two.messages))
        rounds = [message.round for message in two.messages]
        print(json.dumps({"links": one.links, "rounds": rounds, "back": two.links}), flush=True)
        await asyncio.sleep(0)


if __name__ == "__main__":
    run(main)
