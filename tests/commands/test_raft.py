"""RAFT as a client types it: which words are taken, and what they ask for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.local_server import LocalClient
from zattredis.commands.table import COMMANDS
from zattredis.errors import ReplyError


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("RAFT ADD n4=h:1 n5=h:2@3", {"add": [b"n4=h:1", b"n5=h:2@3"]}),
        ("raft add n4=h:1 learner", {"add": [b"n4=h:1"], "learner": True}),
        ("RAFT ADD n4=h:1 force learner", {"add": [b"n4=h:1"], "learner": True, "force": True}),
        ("RAFT PROMOTE n4 n5", {"promote": (b"n4", b"n5")}),
        ("RAFT DEMOTE n4", {"demote": [b"n4"]}),
        ("RAFT REMOVE n4 n5 FORCE", {"remove": [b"n4", b"n5"], "force": True}),
        ("RAFT REPLACE n2 n3 WITH n4=h:1 n5=h:2", {"remove": [b"n2", b"n3"], "add": [b"n4=h:1", b"n5=h:2"]}),
        ("RAFT REPLACE n2 with n4=h:1 force", {"remove": [b"n2"], "add": [b"n4=h:1"], "force": True}),
    ],
)
def test_changes(line: str, asked: dict[str, Any]) -> None:
    client = LocalClient()
    assert client.call(line) == "OK"
    assert client.server.cluster.asked == [asked]


def test_the_other_subcommands() -> None:
    client = LocalClient()
    assert client.call("RAFT STATUS") == {"node_id": "n1"}
    assert client.call("RAFT MEMBERS") == [{"id": "n1"}]
    assert client.call("RAFT TRANSFER") == "n2"
    assert client.call("RAFT TRANSFER n2") == "n2"
    assert client.call("RAFT SNAPSHOT") == "OK"
    assert client.call("RAFT LOG") == client.call("RAFT LOG 5") == client.call("RAFT LOG 5 7000") == []
    assert client.server.cluster.asked == [b"", b"n2", (None, 10), (5, 10), (5, 1000)]
    assert len(client.call("RAFT HELP")) == 2 * len(COMMANDS[b"RAFT"].subcommands) + 1


@pytest.mark.parametrize(
    "line",
    [
        "RAFT ADD", "RAFT ADD LEARNER", "RAFT PROMOTE", "RAFT REMOVE", "RAFT REMOVE FORCE", "RAFT REPLACE n1 n2 n3",
        "RAFT REPLACE WITH n1=h:1 n2=h:2", "RAFT REPLACE n1 n2 WITH", "RAFT TRANSFER a b", "RAFT LOG x", "RAFT LOG -1",
        "RAFT LOG 1 2 3", "RAFT STATUS x", "RAFT NOSUCH", "RAFT",
    ],
)  # fmt: skip
def test_what_is_refused(line: str) -> None:
    client = LocalClient()
    with pytest.raises(ReplyError):
        client.call(line)
    assert client.server.cluster.asked == []
