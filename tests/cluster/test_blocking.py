"""Blocking pops over three nodes: served in one line, over a leader's death, and without a loss when a node dies."""

from __future__ import annotations

import signal
import threading
from collections import Counter

import hiredis

from tests.support.cluster import Node, ZattCluster, wait_until
from tests.support.resp_client import RespClient


def blocked_on(node: Node, count: int = 1) -> None:
    """Wait until so many clients of the node are blocked."""

    def there() -> bool:
        with node.client() as client:
            return client.info("clients")["blocked_clients"] == str(count)

    wait_until(there, f"{count} blocked clients on {node.name}")


def wait_in(trio: ZattCluster, i: int, *argv: str, blocked: int = 1) -> RespClient:
    """Return a client of node `i` that has sent a blocking command and waits, as one of so many on that node."""
    client = trio.client(i, timeout_s=60.0)
    client.send(*argv)
    blocked_on(trio.nodes[i], blocked)
    return client


def test_a_waiter_on_a_follower_is_served_by_a_push_elsewhere(trio: ZattCluster) -> None:
    first, second = trio.followers()
    with wait_in(trio, first, "BLPOP", "q", "0") as waiter, trio.client(second) as pusher:
        assert pusher.call("RPUSH", "q", "a") == 1
        assert waiter.read() == [b"q", b"a"]
        assert pusher.call("EXISTS", "q") == 0
    trio.wait_equal()


def test_one_line_over_the_whole_cluster(trio: ZattCluster) -> None:
    places = [1, 0, 2, 0, 2, 1, 1]
    counts: Counter[int] = Counter()
    waiters = []
    for i in places:
        counts[i] += 1
        waiters.append(wait_in(trio, i, "BLPOP", "q", "other", "0", blocked=counts[i]))
    with trio.client(2) as pusher:
        pusher.call("RPUSH", "q", *range(len(places) + 1))
        assert [waiter.read() for waiter in waiters] == [[b"q", b"%d" % n] for n in range(len(places))]
        assert pusher.call("LRANGE", "q", "0", "-1") == [b"7"]
    for waiter in waiters:
        waiter.close()


def test_a_chain_of_moves_is_over_when_the_push_is_answered(trio: ZattCluster) -> None:
    with (
        wait_in(trio, 0, "BLMOVE", "a", "b", "LEFT", "RIGHT", "0") as one,
        wait_in(trio, 1, "BLMOVE", "b", "c", "LEFT", "RIGHT", "0") as other,
        trio.client(2) as pusher,
    ):
        pusher.call("RPUSH", "a", "x")
        assert pusher.call("LRANGE", "c", "0", "-1") == [b"x"]
        assert [one.read(), other.read()] == [b"x", b"x"]


def test_waiting_survives_the_death_of_the_leader(trio: ZattCluster) -> None:
    leader = trio.wait_leader()
    first, second = trio.followers()
    with wait_in(trio, first, "BLPOP", "q", "0") as waiter, wait_in(trio, second, "BRPOP", "q", "0") as other:
        trio.kill(leader)
        with trio.client(second) as pusher:
            pusher.call("RPUSH", "q", "a", "b", "c")
            assert waiter.read() == [b"q", b"a"]
            assert other.read() == [b"q", b"c"]
            assert pusher.call("LRANGE", "q", "0", "-1") == [b"b"]
    trio.restart(leader)
    trio.wait_equal()


def test_a_timeout_and_a_push_race_without_loss(trio: ZattCluster) -> None:
    first, second = trio.followers()
    got = 0
    with trio.client(first) as waiter, trio.client(second) as pusher:
        for n in range(30):
            waiter.send("BLPOP", "q", f"{0.002 * (n % 10):.3f}1")
            pusher.pipeline([("PING",)] * (40 * (n % 7)))  # for a while
            pusher.call("RPUSH", "q", n)
            got += waiter.read() is not None
        assert got + pusher.call("LLEN", "q") == 30


def test_the_death_of_the_waiters_node_loses_no_element_and_holds_up_nobody(trio: ZattCluster) -> None:
    dead, live = trio.followers()
    doomed = wait_in(trio, dead, "BLMPOP", "0", "1", "q", "LEFT", "COUNT", "2")
    with wait_in(trio, live, "BLPOP", "q", "0") as waiter, trio.client(live) as pusher:
        trio.kill(dead)
        pusher.call("RPUSH", "q", "a")  # reserved for a client that is no more
        assert pusher.call("LLEN", "q") == 0
        pusher.call("RPUSH", "q", "b")
        assert waiter.read() == [b"q", b"b"], "those behind are not held up"
        wait_until(lambda: pusher.call("LRANGE", "q", "0", "-1") == [b"a"], "the element is back")
    doomed.close()
    trio.restart(dead)
    trio.wait_equal()


def test_a_node_that_starts_again_leaves_nothing_of_its_waiters(trio: ZattCluster) -> None:
    follower, other = trio.followers()
    for how in (signal.SIGKILL, signal.SIGTERM):
        gone = wait_in(trio, follower, "BLPOP", "q", "0")
        trio.kill(follower, how)
        trio.restart(follower)
        gone.close()
        with trio.client(other) as pusher:
            pusher.call("RPUSH", "q", "a")
            wait_until(lambda client=pusher: client.call("LPOP", "q") == b"a", "the element is nobody's")  # type: ignore[misc]


def test_a_node_that_slept_has_its_clients_wait_on(trio: ZattCluster) -> None:
    asleep, other = trio.followers()
    with wait_in(trio, asleep, "BLPOP", "q", "0") as waiter, trio.client(other) as pusher:
        trio.pause(asleep)
        pusher.call("RPUSH", "q", "a")
        wait_until(lambda: pusher.call("LPOP", "q") == b"a", "its waiter is dropped, the element back")
        with wait_in(trio, other, "BLPOP", "q", "0") as behind:
            trio.resume(asleep)
            blocked_on(trio.nodes[asleep])
            # It resumes at its old place; until then the other one is first.
            pusher.call("RPUSH", "q", "b")
            pusher.call("RPUSH", "q", "c")
            assert {waiter.read()[1], behind.read()[1]} == {b"b", b"c"}


class Consumer(threading.Thread):
    """Pops until it is told to stop."""

    def __init__(self, node: Node, command: list[str], stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.node, self.command, self.stop = node, command, stop
        self.got: list[int] = []
        self.errors: list[str] = []

    def run(self) -> None:
        with self.node.client(timeout_s=60.0) as client:
            while not self.stop.is_set():
                reply = client.try_call(*self.command)
                if isinstance(reply, bytes):
                    self.errors.append(reply.decode())
                elif reply is not None:
                    elements = reply[1] if isinstance(reply[1], list) else [reply[1]]
                    self.got += [int(element[0] if isinstance(element, list) else element) for element in elements]


def test_every_element_is_popped_once_while_leaders_die(trio: ZattCluster) -> None:
    leader = trio.wait_leader()
    live = [i for i in range(3) if i != leader]
    stop = threading.Event()
    commands = [
        ["BLPOP", "q", "p", "0.3"], ["BRPOP", "p", "q", "0.3"], ["BLMPOP", "0.3", "2", "q", "p", "LEFT", "COUNT", "3"],
        ["BZPOPMIN", "z", "0.3"], ["BZMPOP", "0.3", "1", "z", "MAX", "COUNT", "2"],
    ]  # fmt: skip
    consumers = [Consumer(trio.nodes[i], command, stop) for i in live for command in commands]
    for consumer in consumers:
        consumer.start()
    pushed, unknown = 0, set()
    with trio.client(live[0], timeout_s=60.0) as pusher:
        for n in range(400):
            if n == 150:
                trio.kill(leader)
            if n == 300:
                trio.restart(leader)
            argv = [("RPUSH", "q", n), ("LPUSH", "p", n), ("ZADD", "z", n % 7, n)][n % 3]
            try:
                pusher.call(*argv)
                pushed += 1
            except hiredis.ReplyError as error:
                if not str(error).startswith("CLUSTERDOWN"):
                    unknown.add(n)
        stop.set()
        for consumer in consumers:
            consumer.join()
        left = pusher.call("LRANGE", "q", "0", "-1") + pusher.call("LRANGE", "p", "0", "-1")
        left += pusher.call("ZRANGE", "z", "0", "-1")
    assert [error for consumer in consumers for error in consumer.errors] == []
    found = Counter([n for consumer in consumers for n in consumer.got] + [int(n) for n in left])
    assert max(found.values()) == 1
    assert pushed <= len(found) <= pushed + len(unknown)
    trio.wait_equal()
