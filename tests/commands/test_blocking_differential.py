"""Blocking pops by several connections, here and at redis-server: the same clients get the same replies."""

from __future__ import annotations

import random
import select
from collections.abc import Iterator, Sequence

import pytest

from tests.support.cluster import ZattCluster, wait_until
from tests.support.differential import Backend, Connection, compare, words
from tests.support.redis_server import RedisServer
from tests.support.resp_client import encode_command


class Client(Connection):
    """A connection whose commands may be left unanswered for a while."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.id = int(self.execute([b"CLIENT", b"ID"])[1:])

    def send(self, argv: Sequence[bytes]) -> None:
        self._socket.sendall(encode_command(argv))

    def read(self) -> bytes:
        return self._read()

    def has_reply(self) -> bool:
        return bool(select.select([self._socket], [], [], 0)[0])


class Stage:
    """One server and the connections of a play. `r` is the one that is always answered at once."""

    def __init__(self, port: int, resp: int) -> None:
        self._port = port
        self._resp = resp
        self.clients: dict[str, Client] = {}
        self.client("r").execute([b"FLUSHALL"])

    def client(self, name: str) -> Client:
        if name not in self.clients:
            self.clients[name] = client = Client(self._port)
            client.use(self._resp)
        return self.clients[name]

    def blocked_count(self) -> int:
        text = self.client("observer").execute([b"INFO", b"clients"]).decode()
        return int(text.partition("blocked_clients:")[2].split()[0])

    def wait_blocked(self, count: int) -> None:
        wait_until(lambda: self.blocked_count() == count, f"{count} blocked clients on {self._port}", 10.0)

    def line(self, text: str) -> bytes | None:
        """Play one line.

        `a BLPOP k 0`: client a sends it, and is blocked. `a <`: its reply. `a . PING`: it sends that, whatever becomes
        of it. `a x`: it closes. `r GET k` or `a ! GET k`: the reply. `{a}` in a command is a's client id.
        """
        name, _, rest = text.partition(" ")
        client = self.client(name)
        for other, each in self.clients.items():
            rest = rest.replace("{" + other + "}", str(each.id))
        if rest == "<":
            return client.read()
        if rest == "x":
            self.clients.pop(name).close()
        elif name == "r" or rest[0] == "!":
            return client.execute(words(rest.lstrip("! ")))
        elif rest[0] == ".":
            client.send(words(rest[2:]))
        else:
            before = self.blocked_count()
            client.send(words(rest))
            self.wait_blocked(before + 1)
        return None

    def close(self) -> None:
        """End all connections, and wait until the server has noticed."""
        observer = self.clients.pop("observer", None)
        for client in self.clients.values():
            client.close()
        if observer is not None:
            self.clients = {"observer": observer}
            self.wait_blocked(0)
            observer.close()


@pytest.fixture(params=[2, 3])
def stages(request: pytest.FixtureRequest, zattd: ZattCluster, redis_server: RedisServer) -> Iterator[list[Stage]]:
    both = [Stage(zattd.nodes[0].port, request.param), Stage(redis_server.port, request.param)]
    yield both
    for stage in both:
        stage.close()


PLAYS: dict[str, list[str]] = {
    "fifo": ["a BLPOP k 0", "b BRPOP k 0", "c BLPOP k 0", "r RPUSH k 1 2 3 4", "a <", "b <", "c <", "r LRANGE k 0 -1"],
    "order of keys": ["a BLPOP x y 0", "r MULTI", "r RPUSH y 1", "r RPUSH x 2", "r EXEC", "a <", "r LRANGE x 0 -1"],
    "own order at once": ["r RPUSH y 1", "r RPUSH x 2", "a ! BLPOP x y 0", "a ! BLPOP x y 0"],
    "two lines": ["a BLPOP x y 0", "b BLPOP y x 0", "r MULTI", "r RPUSH x 1", "r RPUSH y 2", "r EXEC", "a <", "b <"],
    "several for one push": [
        "a BLMPOP 0 2 x y LEFT COUNT 1", "b BLMPOP 0 2 x y RIGHT COUNT 10", "c BLMPOP 0 2 x y LEFT COUNT 10",
        "d BLMPOP 0 2 x y RIGHT", "r MULTI", "r LPUSH x a b c d e", "r LPUSH y 1 2 3 4 5", "r EXEC", "a <", "b <",
        "c <", "r LPUSH y 1 2 3", "d <", "r LRANGE y 0 -1",
    ],
    "moves": [
        "a BLMOVE x y LEFT RIGHT 0", "b BLMOVE y z RIGHT LEFT 0", "c BRPOPLPUSH z w 0", "r RPUSH x 1 2", "a <", "b <",
        "c <", "r LRANGE x 0 -1", "r LRANGE y 0 -1", "r LRANGE z 0 -1", "r LRANGE w 0 -1",
    ],
    "circle": ["a BRPOPLPUSH x y 0", "b BRPOPLPUSH y x 0", "r RPUSH x 1", "a <", "b <", "r LRANGE x 0 -1"],
    "itself": ["a BRPOPLPUSH x x 0", "r RPUSH x 1 2 3", "a <", "r LRANGE x 0 -1"],
    "move to another type": [
        "r SET s x", "a BLMOVE x s LEFT LEFT 0", "b BLPOP x 0", "r RPUSH x 1 2", "a <", "b <", "r LRANGE x 0 -1",
    ],
    "another type": [
        "a BLPOP k 0", "b BZPOPMIN k 0", "r SET k x", "r DEL k", "r SADD k x", "r DEL k", "r ZADD k 1 m 2 n", "b <",
        "r ZRANGE k 0 -1", "c . BLPOP k 0", "c <", "r DEL k", "r RPUSH k 1", "a <",
    ],
    "exec": ["a BLPOP k 0", "r MULTI", "r RPUSH k a", "r DEL k", "r EXEC", "r RPUSH k b", "a <"],
    "exec and set": [
        "a BLPOP k 0", "r MULTI", "r RPUSH k a", "r DEL k", "r SET k x", "r EXEC", "r DEL k", "r RPUSH k b", "a <",
    ],
    "exec without waiting": [
        "a . MULTI", "a <", "a . BLPOP k 0", "a <", "a . BLMOVE k l LEFT LEFT 0", "a <", "a . BZMPOP 0 1 k MIN", "a <",
        "a . RPUSH k 1", "a <", "a . BLPOP k 0", "a <", "a . EXEC", "a <",
    ],
    "watch": [
        "w ! WATCH l", "a BRPOPLPUSH k l 0", "w ! MULTI", "w ! PING", "r LPUSH k 1", "w ! EXEC", "a <",
    ],
    "watch while blocked": ["w ! WATCH l", "a BRPOPLPUSH k l 0", "w ! MULTI", "w ! PING", "w ! EXEC", "r RPUSH k 1",
                            "a <"],
    "rename": ["a BLPOP k 0", "r RPUSH x 1 2", "r RENAME x k", "a <", "r LRANGE k 0 -1"],
    "rename over": ["a BLPOP k 0", "r SET k x", "r RPUSH x 1 2", "r RENAME x k", "a <", "r LRANGE k 0 -1"],
    "copy": ["a BLPOP k 0", "r RPUSH x 1 2", "r COPY x k", "a <", "r LRANGE k 0 -1"],
    "copy over": ["a BLPOP k 0", "r SET k x", "r RPUSH x 1 2", "r COPY x k REPLACE", "a <", "r LRANGE k 0 -1"],
    "move": ["a BLPOP k 0", "r SELECT 1", "r RPUSH k 1 2", "r MOVE k 0", "a <", "r SELECT 0", "r LRANGE k 0 -1"],
    "swapdb": ["a BLPOP k l 0", "r SELECT 1", "r RPUSH k 1 2", "r SWAPDB 0 1", "a <", "r SELECT 0", "r LRANGE k 0 -1",
               "r FLUSHALL"],
    "flushall": ["a BLPOP k 0", "r RPUSH x 1", "r FLUSHALL", "r RPUSH k 1", "a <", "r DBSIZE"],
    "sort": ["a BLPOP k 0", "r RPUSH x 3 1 2", "r SORT x STORE k", "a <", "r LRANGE k 0 -1"],
    "zunionstore": ["a BZPOPMAX k 0", "r ZADD x 3 c 1 a", "r ZUNIONSTORE k 1 x", "a <", "r ZRANGE k 0 -1"],
    "zincrby": ["a BZMPOP 0 2 k l MAX COUNT 3", "r ZINCRBY l 2.5 m", "a <"],
    "zadd": [
        "a BZPOPMIN k l 0", "b BZPOPMAX l k 0", "c BZMPOP 0 1 k MIN COUNT 2", "r ZADD k 5 e 1 a 2 b 3 c 4 d", "a <",
        "b <", "c <", "r ZRANGE k 0 -1 WITHSCORES", "r ZADD l inf x -inf y", "r ZRANGE l 0 -1 WITHSCORES",
    ],
    "linsert and pushx": ["a BLPOP k 0", "r RPUSHX k 1", "r LINSERT k BEFORE 1 2", "r LPUSH k 1", "a <"],
    "same key twice": ["a BLPOP k l k l 0", "r RPUSH l 1", "a <", "r EXISTS l"],
    "unblock": ["a BLPOP k 0", "r CLIENT UNBLOCK {a}", "a <", "r CLIENT UNBLOCK {a}", "a BLMOVE k l LEFT LEFT 0",
                "r CLIENT UNBLOCK {a} TIMEOUT", "a <", "a BZPOPMIN k 0", "r CLIENT UNBLOCK {a} ERROR", "a <",
                "a WAIT 3 0", "r CLIENT UNBLOCK {a} ERROR", "a <", "a WAIT 3 0", "r CLIENT UNBLOCK {a}", "a <",
                "r CLIENT UNBLOCK {a} SOON", "r CLIENT UNBLOCK 0", "r CLIENT UNBLOCK x", "a ! PING", "r RPUSH k 1"],
    "kill": ["a BLPOP k 0", "b BLPOP k 0", "r CLIENT KILL ID {a}", "r RPUSH k 1", "b <", "r LLEN k"],
    "gone": ["a BLPOP k 0", "b BLPOP k 0", "a x", "r PING", "r RPUSH k 1 2", "b <"],
    "pipeline": ["a BLPOP k 0", "a . INCR n", "a . GET n", "r GET n", "r RPUSH k 1", "a <", "a <", "a <"],
    "database": ["a ! SELECT 5", "a BLPOP k 0", "r RPUSH k 0", "r SELECT 5", "r RPUSH k 5", "a <", "r SELECT 0"],
    "silent": ["a . CLIENT REPLY SKIP", "a BLPOP k 0", "a . PING", "r RPUSH k 1", "a <", "r LLEN k"],
    "timeouts": [
        "a . BLPOP k 0.01", "a <", "a . BLMOVE k l LEFT RIGHT 0.001", "a <", "a . BRPOPLPUSH k l 0.01", "a <",
        "a . BLMPOP 0.01 1 k LEFT", "a <", "a . BZPOPMIN k 0.01", "a <", "a . BZMPOP 1e-5 1 k MIN", "a <",
        "a . BLPOP k 0x.01", "a <",
    ],
    "long timeouts": [
        "a BLPOP k 0", "r CLIENT UNBLOCK {a}", "a <", "a BLPOP k -0.0001", "r CLIENT UNBLOCK {a}", "a <",
        "a BLPOP k 1e9", "r CLIENT UNBLOCK {a}", "a <",
    ],
}  # fmt: skip


@pytest.mark.parametrize("play", PLAYS)
def test_play(stages: list[Stage], play: str) -> None:
    ours, real = stages
    for number, line in enumerate(PLAYS[play]):
        assert ours.line(line) == real.line(line), PLAYS[play][: number + 1]


LINES = [
    "BLPOP a -1", "BLPOP a abc", "BLPOP a 1e18", "BLPOP a 9223372036854776", "BLPOP a inf", "BLPOP a -inf",
    "BLPOP a nan", "BLPOP a ''", "BLPOP a 0x0p3x", "BLPOP a 1e400", "BLPOP a", "BLPOP", "BRPOP a x", "BRPOP a b -0.5",
    "BLMPOP -1 1 a LEFT", "BLMPOP x 1 a LEFT", "BLMPOP 1 0 a LEFT", "BLMPOP 1 x a LEFT", "BLMPOP 1 1 a FOO",
    "BLMPOP 1 2 a LEFT", "BLMPOP 1 1 a LEFT COUNT 0", "BLMPOP 1 1 a LEFT COUNT x", "BLMPOP 1 1 a LEFT FOO 1",
    "BLMPOP 1 1 a LEFT COUNT 1 COUNT 2", "BLMPOP x 0 a LEFT", "BLMPOP 1 -1 a LEFT", "BLMPOP 1 1 a LEFT COUNT",
    "BLMPOP 1 1 a", "BLMPOP 1 9223372036854775808 a LEFT", "BLMPOP 1 1 a LEFT COUNT 9223372036854775808",
    "BZMPOP -1 1 a MIN", "BZMPOP x 1 a MIN", "BZMPOP 1 0 a MIN", "BZMPOP 1 1 a LEFT", "BZMPOP 1 1 a MIN COUNT 0",
    "BZMPOP 1 1 a MIN COUNT", "BZMPOP 1 2 a MIN", "BZPOPMIN a x", "BZPOPMAX a -1", "BLMOVE a b FOO RIGHT x",
    "BLMOVE a b LEFT FOO x", "BLMOVE a b LEFT RIGHT x", "BLMOVE a b LEFT RIGHT -1", "BRPOPLPUSH a b x",
    "BRPOPLPUSH a b -1", "SET str x", "BLPOP str -1", "BLPOP str 1", "BLPOP a str 1", "BLMOVE str a LEFT LEFT 1",
    "BZPOPMIN str 1", "BLMPOP 1 2 a str LEFT", "BZMPOP 1 2 a str MAX", "RPUSH l 1 2 3 4 5 6 7 8 9", "BLPOP str l 1",
    "BLPOP l str 1", "BRPOP a l 0", "BLMOVE l str LEFT LEFT 1", "BLMOVE l l LEFT RIGHT 0", "BRPOPLPUSH l m 0",
    "LRANGE l 0 -1", "BLMPOP 0 2 a l left count 2", "BLMPOP 0 1 l RIGHT", "BLMPOP 0 1 l RIGHT COUNT 99", "EXISTS l",
    "BZPOPMIN m 1", "BZMPOP 1 1 m MIN", "BLPOP m 0", "ZADD z 1 a 2 b 3 c 4 d 5 e 6 f", "BZPOPMIN a z 0",
    "BZPOPMAX z 0", "BZMPOP 0 2 a z MIN", "BZMPOP 0 1 z max COUNT 2", "BLPOP z 1", "BZMPOP 0 1 z MAX COUNT 99",
    "EXISTS z",
]  # fmt: skip


def test_lines_that_do_not_block(pair: tuple[Backend, Connection]) -> None:
    compare(*pair, LINES)


BLOCKING = [
    "BLPOP {} {} 0", "BRPOP {} 0", "BLMPOP 0 2 {} {} LEFT COUNT 2", "BLMOVE {} {} LEFT RIGHT 0", "BRPOPLPUSH {} {} 0",
    "BZPOPMIN {} {} 0", "BZMPOP 0 1 {} MAX COUNT 2",
]  # fmt: skip
OTHERS = [
    "RPUSH {} 1 2", "LPUSH {} 3", "ZADD {} 1 a 2 b", "LPOP {}", "DEL {}", "SET {} x", "RENAME {} {}",
    "LMOVE {} {} LEFT LEFT", "ZPOPMIN {}", "FLUSHDB", "MULTI", "EXEC", "EXEC", "LRANGE {} 0 -1", "EXISTS {}",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_random_plays(stages: list[Stage], seed: int) -> None:
    dice = random.Random(seed)
    ours, real = stages
    waiting: set[str] = set()
    played: list[str] = []
    for _ in range(120):
        idle = [name for name in "abcd" if name not in waiting]
        if idle and dice.random() < 0.4:
            name, line = dice.choice(idle), dice.choice(BLOCKING)
        else:
            name, line = "r", dice.choice(OTHERS)
        line = line.format(*dice.choices(["k", "l", "m"], k=2))
        played.append(f"{name} {line}")
        for stage in (ours, real):
            stage.client(name).send(words(line))
        if name == "r":
            assert ours.clients["r"].read() == real.clients["r"].read(), played
        else:
            waiting.add(name)
        for _ in range(2):  # the first may be in the same turn of its event loop, whose replies leave in any order
            real.client("observer").execute([b"PING"])
        for each in sorted(waiting):
            if real.clients[each].has_reply():
                assert ours.clients[each].read() == real.clients[each].read(), (each, played)
                waiting.discard(each)
        for stage in (real, ours):
            stage.wait_blocked(len(waiting))
