"""A client's words in error texts: as far as Redis shows them, and spelt as the client spelt them."""

from __future__ import annotations

import pytest

from tests.support.cluster import ZattCluster
from tests.support.differential import Connection

LINES: list[list[bytes]] = [
    [b"SET", b"k", b"v"], [b"EXPIRE", b"k", b"900", b"a\0b"], [b"PEXPIREAT", b"k", b"1", b"\0"],
    [b"EXPIRE", b"k", b"900", b"a\r\nb"], [b"EXPIRE", b"k", b"900", b"\xff\xfe"],
    [b"HELLO", b"2", b"a\0b"], [b"HELLO", b"2", b"", b"x"], [b"CONFIG", b"SET", b"a\0b", b"1"],
    [b"CLIENT", b"KILL", b"TYPE", b"a\0b"], [b"CLIENT", b"KILL", b"USER", b"a\0b"],
    [b"CLIENT", b"LIST", b"TYPE", b"\0"],
    [b"PFADD", b"h", b"a"], [b"PFDEBUG", b"a\0b", b"h"], [b"LATENCY", b"GRAPH", b"a\0b"],
    [b"ACL", b"CAT", b"a\0b"], [b"ACL", b"DRYRUN", b"a\0b", b"GET"], [b"ACL", b"DRYRUN", b"default", b"a\0b"],
    [b"ACL", b"GETUSER", b"a\0b"], [b"ACL", b"SETUSER", b"a\0b", b"+get"], [b"ACL", b"SETUSER", b"u", b"+a\0b"],
    [b"acl", b"cat", b"a", b"b"], [b"ACL", b"GenPass", b"1", b"2"], [b"ACL", b"log", b"1", b"2"],
    [b"slowlog", b"get", b"1", b"2"], [b"client", b"pause", b"1", b"WRITE", b"x"],
    [b"Client", b"UnBlock", b"1", b"a", b"b"],
    [b"CONFIG", b"SET", b"lazyfree-lazy-user-del", b"perhaps"], [b"LOLWUT", b"VERSION", b"x"],
]  # fmt: skip


@pytest.mark.parametrize("resp", [2, 3])
def test_words_are_shown_alike(zattd: ZattCluster, real: Connection, resp: int) -> None:
    ours = Connection(zattd.nodes[0].port)
    for backend in (ours, real):
        backend.use(resp)
        backend.execute([b"FLUSHALL"])
    for argv in LINES:
        assert ours.execute(argv) == real.execute(argv), argv
    ours.close()


def test_lolwut_passes_over_what_it_does_not_know(zattd: ZattCluster) -> None:
    ours = Connection(zattd.nodes[0].port)
    for line in (b"LOLWUT", b"LOLWUT VERSION", b"LOLWUT VERSION 5 1 x", b"LOLWUT some words"):
        assert b"Redis ver. 7.0.15" in ours.execute(line.split())
    ours.close()
