"""The same command of many connections in one tick is carried out in one go: nobody can tell."""

from __future__ import annotations

import random

import pytest

import zattredis.commands  # noqa: F401  (fills the command table)
from tests.server.mini_node import Client, MiniNode
from zattredis.server import idleness

_CLIENTS = 12
_FILL = (
    "SET a 1", "SET b 22", "SET e gone PX 1", "RPUSH list x", "HSET hash f v g w", "SET n 5", "SETRANGE long 5000 z",
    "RPUSH many " + " ".join(map(str, range(1100))), "ZADD high " + " ".join(f"{n} m{n}" for n in range(300)),
)  # fmt: skip
_READS = ("GET a", "GET b", "GET e", "GET none", "GET list", "GET long", "get a", "HGET hash f", "HGET hash x",
          "HGET a f", "HGET none f", "STRLEN a", "EXISTS a b none", "GET", "TTL e",
          "LRANGE list 0 -1", "lrange many 0 9", "LRANGE many 0 99", "LRANGE none 0 1", "LRANGE a 0 1",
          "LRANGE many 0 x", "LRANGE many 0 -1", "LRANGE")  # fmt: skip
_WRITES = ("SET a 2", "SET c 3", "SET a", "INCR n", "SADD set m", "SADD a m", "LPUSH list y",
           "HSET hash f 2", "ZADD z 1 m", "ZADD z x m", "SET list 1 NX GET",
           "ZPOPMIN high", "ZPOPMAX high", "ZPOPMIN high 2", "ZPOPMIN none", "ZADD high 7 m7 8 new")  # fmt: skip


def _filled() -> tuple[MiniNode, list[Client]]:
    node = MiniNode()
    first = node.connect()
    first.send(*_FILL)
    node.tick()
    node.apply()
    first.received()
    clients = [node.connect() for _ in range(_CLIENTS)]
    for client in clients[::3]:
        client.connection.state.resp = 3
    clients[4].connection.state.db = clients[5].connection.state.db = 1
    return node, clients


@pytest.mark.parametrize("seed", range(40))
def test_many_clients_in_one_tick_are_answered_like_one_after_the_other(seed: int) -> None:
    rng = random.Random(seed)
    pool = [*_READS, *_WRITES] if seed % 2 else [*_READS]
    together, one_by_one = _filled(), _filled()
    for _ in range(5):
        few = rng.sample(pool, rng.randint(1, 3))
        lines = [rng.choice(few) for _ in range(_CLIENTS)]
        if seed % 2:  # reads and writes of one tick have no order among each other
            writes = rng.random() < 0.5
            lines = [line if (line in _WRITES) == writes else "SET a 9" if writes else "GET a" for line in lines]
        for node, clients in (together, one_by_one):
            for client, line in zip(clients, lines, strict=True):
                client.send(line)
                if node is one_by_one[0]:
                    node.turn()
            node.turn()
        replies = [[client.received() for client in clients] for _, clients in (together, one_by_one)]
        assert replies[0] == replies[1], lines
        assert all(replies[0]), "everyone is answered"
    counted = [
        (node.dispatcher._statistics.keyspace_hits, node.dispatcher._statistics.keyspace_misses)
        for node, _ in (together, one_by_one)
    ]
    assert counted[0] == counted[1]


def test_a_client_that_wants_no_reply_gets_none_and_the_others_theirs() -> None:
    node, clients = _filled()
    for client in clients[:6]:
        if client is clients[2]:
            client.send("CLIENT REPLY SKIP", "GET a")
        else:
            client.send("GET a")
    node.turn()
    assert [client.received() for client in clients[:6]] == [b"$1\r\n1\r\n"] * 2 + [b""] + [b"$1\r\n1\r\n"] + [
        b"$-1\r\n"
    ] * 2


def test_who_does_not_read_waits_and_nobody_with_him() -> None:
    node, clients = _filled()
    clients[1].connection.pause_writing()
    for client in clients[:4]:
        client.connection.data_received(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n")
    node.turn()
    assert [client.received() for client in clients[:4]] == [b"$1\r\n1\r\n", b"", b"$1\r\n1\r\n", b"$1\r\n1\r\n"]
    clients[1].connection.resume_writing()
    node.turn()
    assert clients[1].received() == b"$1\r\n1\r\n"


_AT_ONCE = ("INCR n", "INCR n", "INCR a", "INCR big", "INCR none", "INCR list", "INCR e", "INCR long", "HSET hash f v",
            "HSET hash f v", "HSET hash g v", "HSET wide f v", "HSET wide new v", "HSET none f v", "HSET list f v",
            "SET a 7", "SET n 5", "SET e 1", "MSET a 1 a 2 n 3", "MSET a 1 a 2 n 3", "MSET e 1 b 2", "MSET a 1 a",
            "MSET a 1 list 2", "MSET n 1 a " + "9" * 70_000)  # fmt: skip


@pytest.mark.parametrize("seed", range(100))
def test_what_many_clients_write_in_one_tick_is_stored_as_one_after_the_other(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idleness, "GUESSED_FROM", 1 << 30)  # what is tried in vain comes behind what is not
    rng = random.Random(seed)
    together, one_by_one = _filled(), _filled()
    for node, clients in (together, one_by_one):
        clients[0].send("SET big 9223372036854775804", "HSET wide " + " ".join(f"f{n} v" for n in range(200)))
        node.turn()
        clients[0].received()
    for _ in range(6):
        few = rng.sample(_AT_ONCE, rng.choice([1, 1, 2]))
        lines = [few[0] if rng.random() < 0.7 else rng.choice(few) for _ in range(_CLIENTS)]
        for node, clients in (together, one_by_one):
            for client, line in zip(clients, lines, strict=True):
                client.send(line)
                if node is one_by_one[0]:
                    node.turn()
            for _ in range(5):  # what is large takes several
                node.turn()
        replies = [[client.received() for client in clients] for _, clients in (together, one_by_one)]
        assert replies[0] == replies[1], lines
        stores = [
            {key: value for key, value in node.store.data.items() if key[:1] in b"ksx"}
            for node, _ in (together, one_by_one)
        ]
        assert stores[0] == stores[1], lines
        assert together[0].applier.registers.figures() == one_by_one[0].applier.registers.figures()
