"""Who may vote: a node that lost its log must not vote again before it is as good as the one it was."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from zattredis.peer.messages import Introduction
from zattredis.server.housekeeping import Housekeeping
from zattredis.server.rejoin import SPENT, Rejoin, must_wait


class FakeMembership:
    def __init__(self, voters: list[str]) -> None:
        self.voters = voters
        self.newcomers: list[str] = []
        self.addresses = {voter: f"{voter}:1@2" for voter in voters}

    def is_voter(self, node_id: str) -> bool:
        return node_id in self.voters


class FakeCore:
    def __init__(self, others: list[str]) -> None:
        self.node_id = "n1"
        self.other_voters = others
        self.membership = FakeMembership(["n1", *others])
        self.term = 0
        self.vote: str | None = None
        self.last_index = self.commit_index = self.durable_index = self.verified_index = self.applied_index = 0
        self.leader_id: str | None = None

    def hold(self, index: int) -> None:
        """The log is durable up to there, and equal to the leader's."""
        self.last_index = self.durable_index = self.verified_index = index

    def set_term(self, term: int, vote: str | None = None) -> None:
        self.term, self.vote = term, vote


class Fresh:
    """A node with an empty directory in a cluster of three."""

    def __init__(self, directory: Path, others: list[str] | None = None) -> None:
        self.core = FakeCore(["n2", "n3"] if others is None else others)
        self.sent: list[Introduction] = []
        self.allowed = 0
        self.rejoin = Rejoin(self.core, directory, self._send, lambda: False, self._done)  # type: ignore[arg-type]

    def _send(self, message: Introduction) -> bool:
        self.sent.append(message)
        return True

    def _done(self) -> None:
        self.allowed += 1

    def hear(self, src: str, term: int = 0, last: int = 0, commit: int = 0, leads: bool = False) -> None:
        self.rejoin.on_introduction(Introduction(src, "n1", term, last, commit, leads, False))


def test_a_cluster_of_one_need_not_ask(tmp_path: Path) -> None:
    assert Fresh(tmp_path, []).rejoin.done


def test_a_new_cluster_may_vote_once_every_node_was_seen_empty(tmp_path: Path) -> None:
    node = Fresh(tmp_path)
    assert not node.rejoin.done
    node.hear("n2")
    assert not node.rejoin.done, "n3 may hold what was committed"
    assert node.rejoin.missing() == ["n3"]
    node.hear("n3")
    assert node.rejoin.done
    assert node.allowed == 1
    assert not must_wait(tmp_path)


def test_a_vote_that_may_have_been_forgotten_is_spent(tmp_path: Path) -> None:
    node = Fresh(tmp_path)
    node.hear("n2", term=4)
    node.hear("n3", term=2)
    assert node.rejoin.done
    assert (node.core.term, node.core.vote) == (4, SPENT)


def test_a_wiped_node_waits_until_it_has_what_the_leader_committed(tmp_path: Path) -> None:
    node = Fresh(tmp_path)
    node.hear("n2", term=3, last=10, commit=10, leads=True)
    node.hear("n3", term=3, last=9, commit=9)
    assert not node.rejoin.done
    node.core.leader_id, node.core.term = "n2", 3
    node.core.hold(9)
    node.rejoin.ask()
    assert not node.rejoin.done
    node.core.hold(10)
    node.rejoin.ask()
    assert node.rejoin.done
    assert node.core.vote == SPENT


def test_what_a_wiped_node_may_have_acknowledged_and_its_leader_not_committed_yet_is_waited_for(tmp_path: Path) -> None:
    """The leader counts an acknowledgement from before the loss as soon as its own disk holds the entry, too: it may
    have told a client so behind the introduction that this node judges by."""
    node = Fresh(tmp_path)
    node.core.leader_id, node.core.term = "n2", 3
    node.hear("n3", term=3, last=10, commit=10)
    node.hear("n2", term=3, last=15, commit=10, leads=True)
    node.core.hold(10)
    node.rejoin.ask()
    assert not node.rejoin.done
    node.core.hold(15)
    node.core.durable_index = 14
    node.rejoin.ask()
    assert not node.rejoin.done
    node.core.hold(15)
    node.core.verified_index = 14
    node.rejoin.ask()
    assert not node.rejoin.done
    node.core.hold(15)  # to wait until it is committed could take this very node's consent
    node.rejoin.ask()
    assert node.rejoin.done


def test_a_leader_that_another_has_followed_is_not_enough(tmp_path: Path) -> None:
    """It does not know yet that it was deposed, and lacks what its successor committed with the lost disk's help."""
    node = Fresh(tmp_path)
    node.core.leader_id, node.core.term = "n2", 5
    node.hear("n3", term=6, last=15, commit=15, leads=True)
    node.core.hold(10)
    node.hear("n2", term=5, last=10, commit=10, leads=True)
    assert not node.rejoin.done
    node.core.leader_id, node.core.term = "n3", 6
    node.core.hold(15)
    node.rejoin.ask()
    assert node.rejoin.done


def test_an_introduction_from_an_earlier_term_of_the_leader_does_not_count(tmp_path: Path) -> None:
    node = Fresh(tmp_path)
    node.core.leader_id, node.core.term = "n2", 7
    node.hear("n3", term=5, last=10)
    node.hear("n2", term=5, last=10, commit=10, leads=True)
    node.core.hold(12)
    node.rejoin.ask()
    assert not node.rejoin.done
    node.hear("n2", term=7, last=12, commit=12, leads=True)
    assert node.rejoin.done


@pytest.mark.parametrize("leads", [False, True])
def test_a_leader_counts_only_once_it_has_committed_in_its_own_term(tmp_path: Path, leads: bool) -> None:
    node = Fresh(tmp_path)
    node.core.leader_id, node.core.term = "n2", 3
    node.core.hold(10)
    node.hear("n3", term=3, last=10)
    node.hear("n2", term=3, last=10, commit=10, leads=leads)
    assert node.rejoin.done is leads


def test_one_voter_out_of_reach_keeps_a_wiped_node_from_voting(tmp_path: Path) -> None:
    node = Fresh(tmp_path)
    node.core.leader_id, node.core.term = "n2", 3
    node.core.hold(50)
    node.hear("n2", term=3, last=50, commit=50, leads=True)
    assert not node.rejoin.done


def test_the_duty_survives_a_restart_even_when_the_log_is_no_longer_empty(tmp_path: Path) -> None:
    Fresh(tmp_path)
    again = FakeCore(["n2", "n3"])
    again.last_index, again.term = 20, 3
    rejoin = Rejoin(again, tmp_path, lambda message: True, lambda: False, lambda: None)  # type: ignore[arg-type]
    assert not rejoin.done


def test_a_node_that_has_a_log_and_no_duty_votes_at_once(tmp_path: Path) -> None:
    core = FakeCore(["n2", "n3"])
    core.last_index, core.term = 20, 3
    assert Rejoin(core, tmp_path, lambda message: True, lambda: False, lambda: None).done  # type: ignore[arg-type]


def test_questions_of_others_are_answered(tmp_path: Path) -> None:
    node = Fresh(tmp_path)
    node.sent.clear()
    node.rejoin.on_introduction(Introduction("n2", "n1", 0, 0, 0, False, True))
    assert [(message.dst, message.asks) for message in node.sent] == [("n2", False)]


def test_an_introduction_tells_the_ports_before_the_first_report(tmp_path: Path) -> None:
    sent: list[Introduction] = []
    core = FakeCore(["n2", "n3"])
    rejoin = Rejoin(core, tmp_path, lambda one: not sent.append(one), lambda: False, lambda: None, (26379, 6380, 26380))  # type: ignore[arg-type, func-returns-value]
    rejoin.introduce_to("n2")
    heard = Housekeeping(SimpleNamespace())  # type: ignore[arg-type]
    heard.on_introduction(sent[0])
    status = heard.members["n1"]
    assert (status.sentinel_port, status.tls_port, status.sentinel_tls_port) == (26379, 6380, 26380)
    heard.on_introduction(Introduction("n1", "n2", 0, 0, 0, False, False))
    assert status.tls_port == 6380, "an earlier build's introduction says nothing of ports"


def test_a_learner_that_never_was_a_voter_waits_for_its_leader_alone(tmp_path: Path) -> None:
    """It has no vote to forget, and n3 may be down for good; but its leader may count what it held on a lost disk."""
    core = FakeCore(["n2", "n3"])
    core.membership.newcomers = ["n1"]
    told: list[bool] = []
    rejoin = Rejoin(core, tmp_path, lambda message: True, lambda: False, lambda: told.append(True))  # type: ignore[arg-type]
    assert (rejoin.done, rejoin.owes_vote, rejoin.missing()) == (False, False, [])
    assert core.rejoining is True  # type: ignore[attr-defined]
    core.leader_id, core.term = "n2", 3
    core.hold(9)
    rejoin.on_introduction(Introduction("n2", "n1", 3, 10, 10, True, False))
    assert not told
    core.hold(10)
    rejoin.ask()
    assert told == [True]
    assert core.rejoining is False  # type: ignore[attr-defined]
    assert core.vote is None
    assert not must_wait(tmp_path)
