"""Many membership changes, one after the other, under load, while nodes die: linearizable, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time

import hiredis
import pytest

from tests.support.cluster import wait_until
from tests.support.growing import EXIT_REMOVED, GrowingCluster
from tests.support.linearizability import INCREMENT, READ, WRITE, violations
from tests.support.workload import Load, check_journals, journals, keys_of, read_keys, registers

ANCHORS = (0, 1)
"""These keep their clients and stay members; they die and come back like all others."""
PATIENCE_S = 120.0


class Churn:
    """One change at a time, drawn at random; with some, a node is killed meanwhile and comes back behind it."""

    def __init__(self, cluster: GrowingCluster, dice: random.Random, kill_share: float) -> None:
        self.cluster = cluster
        self.dice = dice
        self.kill_share = kill_share
        self.members = list(range(len(cluster.nodes)))
        self.learners: list[int] = []
        self.kills = 0
        self.done: list[str] = []

    def step(self) -> None:
        """Make one change, and wait until the members agree on it."""
        voters = [i for i in self.members if i not in self.learners]
        kinds = ["add"] if len(voters) < 4 else ["remove", "replace", "demote"] if len(voters) > 4 else [
            "add", "remove", "remove", "replace", "demote",
        ]  # fmt: skip
        kind = "promote" if self.learners else self.dice.choice(kinds)
        others = [i for i in voters if i not in ANCHORS]
        leader = self.cluster.leader()
        victim = leader if leader in others and self.dice.random() < 0.6 else self.dice.choice(others)
        name = self.cluster.nodes[victim].name
        if kind == "add":
            self._add()
        elif kind == "remove":
            self._ask(lambda voters: name not in voters, "REMOVE", name)
            self._gone(victim)
        elif kind == "demote":
            self._ask(lambda voters: name not in voters, "DEMOTE", name)
            self.learners.append(victim)
        elif kind == "promote":
            back = self.learners.pop()
            name = self.cluster.nodes[back].name
            self._ask(lambda voters: name in voters, "PROMOTE", name)
        else:
            new = self.cluster.new_node()
            number = len(self.cluster.nodes) - 1
            starting = threading.Timer(0.2, self.cluster.spawn, [new])
            starting.start()
            words = ("REPLACE", name, "WITH", f"{new.name}={new.host}:{new.port}")
            self._ask(lambda voters: new.name in voters and name not in voters, *words)
            starting.join()
            self.members.append(number)
            self._gone(victim)
        self.done.append(kind)

    def _add(self) -> None:
        new = self.cluster.new_node()
        number = len(self.cluster.nodes) - 1
        self.cluster.spawn(new)
        wait_until(lambda: new.name in (self._voters() or ()), f"{new.name} votes", PATIENCE_S)
        self.members.append(number)

    def _gone(self, victim: int) -> None:
        self.members.remove(victim)
        node = self.cluster.nodes[victim]
        if not node.running:  # it was killed meanwhile; it learns of its removal when it comes back
            self.cluster.spawn(node)
        wait_until(lambda: not node.running, f"{node.name}, which was removed, ends", PATIENCE_S)
        assert node.process is not None and node.process.returncode == EXIT_REMOVED, node.log()[-2000:]

    def _voters(self) -> list[str] | None:
        """The voters that are agreed, as the first member that answers knows them; None where nobody knows that.

        A configuration that is being agreed may yet be taken back with the leader that proposed it.
        """
        for i in self.members:
            with contextlib.suppress(OSError, hiredis.ReplyError, IndexError):
                if self.cluster.nodes[i].running:
                    status = self.cluster.status(i)
                    return None if status["change"] == "being agreed" else list(status["voters"])
        return None

    def _ask(self, done: object, *words: str) -> None:
        """Ask for a change until it is made, whatever the answer was: a node may die on it."""
        assert callable(done)
        dead: int | None = None
        if self.dice.random() < self.kill_share or not self.kills:
            leader = self.cluster.leader()
            dead = leader if leader is not None and self.dice.random() < 0.5 else self.dice.choice(self.members)
            self.kills += 1
            killing = threading.Timer(self.dice.random() * 0.3, self.cluster.kill, [dead])
            killing.start()
        deadline = time.monotonic() + PATIENCE_S
        while (voters := self._voters()) is None or not done(voters):
            assert time.monotonic() < deadline, f"{words} is not made: {voters}"
            asked = self.dice.choice([i for i in self.members if self.cluster.nodes[i].running])
            with contextlib.suppress(OSError):
                self.cluster.raft_command(asked, *words, timeout_s=10.0)
            if dead is not None:
                killing.join()
                if not self.cluster.nodes[dead].running:
                    self.cluster.spawn(self.cluster.nodes[dead])
        if dead is not None:
            killing.join()
            node = self.cluster.nodes[dead]
            if not node.running and node.process is not None and node.process.returncode != EXIT_REMOVED:
                self.cluster.spawn(node)


def churn(changes: int, seed: int, kill_share: float) -> Churn:
    """Run the changes and judge what clients saw."""
    flags = ["--request-timeout-ms", "5000"]
    with GrowingCluster(3, flags=flags, in_memory=True) as cluster:
        work = Churn(cluster, random.Random(seed), kill_share)
        anchors = [cluster.nodes[i] for i in ANCHORS]
        with (
            Load(anchors, registers(6, (READ, READ, WRITE, INCREMENT)), clients_per_node=2, pause_s=0.01) as load,
            Load(anchors, journals(), clients_per_node=2, pause_s=0.01, seed=2) as writers,
        ):
            for _ in range(changes):
                work.step()
            wait_until(lambda: all(node.running for node in anchors), "the anchors run")
            load.wait_more(50, nodes=[0, 1])
            writers.wait_more(50, nodes=[0, 1])
        assert violations(load.history) == {}
        assert {trouble.what.split()[0] for trouble in load.troubles if trouble.is_reply} <= {"CLUSTERDOWN", "TIMEOUT"}
        cluster.wait_ready([cluster.nodes[i] for i in work.members])
        cluster.wait_running_equal()
        check_journals(writers.history, read_keys(anchors[1], keys_of(writers.history)))
        assert all(cluster.nodes[i].facts()["raft_digest_differs"] == "" for i in work.members)
        return work


def test_membership_changes_one_after_the_other_under_load_while_nodes_die() -> None:
    work = churn(7, seed=5, kill_share=0.5)
    assert work.kills


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_two_hundred_membership_changes_under_load_while_nodes_die() -> None:
    seed = int(os.environ.get("ZATTREDIS_TEST_SEED", str(int(time.time()))))
    print(f"seed {seed}")
    work = churn(200, seed, kill_share=0.4)
    assert work.kills > 30
    assert {"add", "remove", "replace", "demote", "promote"} <= set(work.done)
