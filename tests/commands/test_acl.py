"""ACL against redis-server 7.0: every subcommand, what is denied and how it is said, and who may do what."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.cluster import ZattCluster
from tests.support.differential import Connection, words
from tests.support.redis_server import RedisServer
from tests.support.resp_client import Argument
from zattredis.commands.table import COMMANDS, Flag, all_specs

Line = str | Sequence[Argument]
Pair = tuple[Connection, Connection]

USERS: list[Line] = [
    "ACL WHOAMI", "ACL USERS", "ACL LIST", "ACL GETUSER default", "ACL GETUSER nobody",
    "ACL SETUSER alice on >pw ~k* &c* +@all -@dangerous", "ACL GETUSER alice", "ACL LIST", "ACL USERS",
    "ACL SETUSER alice <nopw", "ACL SETUSER alice !abc", "ACL SETUSER alice #abc", "ACL SETUSER alice on foo",
    "ACL SETUSER alice +nosuch", "ACL SETUSER alice -nosuch", "ACL SETUSER alice +@nosuch", "ACL SETUSER alice -@",
    "ACL SETUSER alice +", "ACL SETUSER alice ''", "ACL SETUSER alice allkeys ~a", "ACL SETUSER alice ~* %R~a",
    "ACL SETUSER alice +client|id|x", "ACL SETUSER alice -client|id|x", "ACL SETUSER alice +client|nosuch",
    "ACL SETUSER alice +get|a|b", "ACL SETUSER alice -get|a", "ACL SETUSER alice +get|", "ACL SETUSER alice (~a +get",
    "ACL SETUSER alice )", "ACL SETUSER alice (", "ACL SETUSER alice (foo)", "ACL SETUSER alice (+get foo",
    "ACL SETUSER alice (&* &x)", "ACL SETUSER alice ((+get))", "ACL SETUSER alice (on)", "ACL SETUSER alice (>x)",
    "ACL SETUSER alice %X~a", "ACL SETUSER alice %~a", "ACL SETUSER alice %RR~a", "ACL SETUSER alice %",
    "ACL SETUSER alice %R", "ACL GETUSER alice", ("ACL", "SETUSER", "alice", "~a b"), ("ACL", "SETUSER", "a b", "on"),
    ("ACL", "SETUSER", "alice", "&a b"), ("ACL", "SETUSER", b"a\0b", "on"), ("ACL", "SETUSER", "alice", " on"),
    ("ACL", "SETUSER", "alice", " () "), "ACL SETUSER", "ACL SETUSER bare", "ACL GETUSER bare", "ACL LIST",
    "ACL SETUSER s ( +get ~k ) (+set ~j) clearselectors (%W~a &x)", "ACL GETUSER s", "ACL LIST",
    ("ACL", "SETUSER", "s", "(~q +mget )", "( ~r  +get)", "()"), "ACL GETUSER s", "ACL SETUSER s reset", "ACL LIST",
    "ACL SETUSER s >a >a >b nopass", "ACL GETUSER s", "ACL SETUSER s >c", "ACL GETUSER s", "ACL SETUSER s resetpass",
    "ACL GETUSER s", "ACL SETUSER s >x >y <x", "ACL GETUSER s", "ACL SETUSER s allchannels &x",
    "ACL SETUSER s #ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    "ACL SETUSER s #BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "ACL GETUSER s",
    "ACL SETUSER s !ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "ACL GETUSER s",
    "ACL SETUSER s ON NOPASS ALLKEYS +GET ALLCHANNELS", "ACL GETUSER s", "ACL SETUSER s resetchannels &a &b &a",
    "ACL SETUSER s resetkeys ~a %R~a %W~b %RW~b ~c %r~c %w~d", "ACL GETUSER s", "ACL LIST",
    "ACL SETUSER s sanitize-payload", "ACL LIST", "ACL SETUSER s skip-sanitize-payload", "ACL LIST",
    "ACL SETUSER s nocommands +@ALL", "ACL GETUSER s", "ACL SETUSER s AllCommands -CLIENT|KILL", "ACL GETUSER s",
    "ACL SETUSER s +client", "ACL GETUSER s", "ACL SETUSER s +@all -client +client|id",
    "ACL GETUSER s", "ACL SETUSER s -@all +select|0 +Select|1 +select|0", "ACL GETUSER s", "ACL SETUSER s +select",
    "ACL GETUSER s", "ACL SETUSER s -@all +@read", "ACL GETUSER s", "ACL SETUSER s +@all -@write", "ACL GETUSER s",
    "ACL SETUSER s -@all +memory|doctor", "ACL GETUSER s", "ACL SETUSER s +memory", "ACL GETUSER s",
    "ACL SETUSER s +@all +client|id", "ACL GETUSER s", "ACL SETUSER s -@all -get", "ACL GETUSER s",
    "ACL DELUSER", "ACL DELUSER default", "ACL DELUSER s default", "ACL GETUSER s", "ACL DELUSER s s nobody",
    "ACL DELUSER nobody", "ACL USERS", "ACL DELUSER alice bare", "ACL LIST",
]  # fmt: skip

SAID: list[Line] = [
    "ACL", "ACL FOO", "ACL GETUSER", "ACL WHOAMI x", "ACL LIST x", "ACL USERS x", "ACL LOAD", "ACL LOAD x", "ACL SAVE",
    "ACL SAVE x", "ACL GENPASS 0", "ACL GENPASS x", "ACL GENPASS -1", "ACL GENPASS 4097", "ACL GENPASS 1 2",
    "ACL CAT nosuch", "ACL CAT a b", "ACL LOG x", "ACL LOG -1", "ACL LOG 1 2", "ACL LOG reset", "ACL LOG",
    "ACL HELP x", "ACL DRYRUN", "ACL DRYRUN default", "ACL DRYRUN nobody GET a", "ACL DRYRUN default nosuch",
    "ACL DRYRUN default client", "ACL DRYRUN default client nosuch", "ACL DRYRUN default GET",
    "ACL DRYRUN default GET a", "ACL DRYRUN default client kill", "ACL DRYRUN default SET a b c",
    "CONFIG GET acl-pubsub-default", "CONFIG SET acl-pubsub-default nosuch", "CONFIG GET aclfile",
    "CONFIG SET aclfile x", "CONFIG GET acllog-max-len", "CONFIG GET protected-mode",
    "CONFIG SET protected-mode maybe", "CLIENT KILL USER nobody", "CLIENT KILL USER default SKIPME maybe",
    "CONFIG SET acl-pubsub-default allchannels", "ACL SETUSER c1", "ACL GETUSER c1", "ACL SETUSER c1 &x",
    "ACL SETUSER c1 reset", "ACL GETUSER c1", "ACL SETUSER c1 (+get)", "ACL GETUSER c1",
    "CONFIG SET acl-pubsub-default resetchannels", "ACL GETUSER c1", "ACL SETUSER c2 &x", "ACL GETUSER c2",
    "ACL DELUSER c1 c2",
]  # fmt: skip

DENIED: list[Line] = [
    "SET k1 v", "SET w1 v", "RPUSH l1 3 1 2", "ACL SETUSER bob on >pw", "AUTH bob bad", "AUTH nobody pw", "AUTH pw",
    "ACL SETUSER bob ~k* %R~r* %W~w* ~l* +get +set +multi +exec +discard +sort +acl +client|id +select|0 +copy +watch",
    "AUTH bob pw", "ACL WHOAMI", "GET k1", "GET x", "GET r1", "SET r1 v", "SET w2 v", "GET w1", "SET k1 v GET",
    "SET w1 v GET", "COPY r1 w1", "COPY w1 r1", "PING", "CLIENT ID x", "CLIENT LIST", "CLIENT", "CLIENT NOSUCH",
    "SELECT 0", "SELECT 1", "SELECT", "NOSUCH", "GET", "FLUSHALL", "WATCH k1", "WATCH x", "SORT l1", "SORT l1 BY w*",
    "SORT l1 BY nosort", "SORT l1 GET #", "SORT l1 GET k*", "SORT l1 FOO", "SORT l1 BY", "SORT x BY w*",
    "SORT l1 STORE r1", "SORT l1 STORE k9", "SORT_RO l1",
    "MULTI", "GET k1", "GET x", "EXEC", "MULTI", "PING", "EXEC", "MULTI", "GET k1", "SORT l1 BY w*", "SET k1 w", "EXEC",
    "HELLO 2", "HELLO 3 AUTH bob bad", "ACL WHOAMI", "HELLO 2 AUTH bob pw SETNAME n", "ACL LOG 2 3",
    "ACL SETUSER bob off", "AUTH bob pw", "GET k1", "ACL SETUSER bob on nopass", "AUTH bob whatever",
    "ACL SETUSER bob (~z* +get)", "GET z1", "SET z1 x", "ACL SETUSER bob (~x* +mget) ~x1 +mget", "MGET x1 x2",
    "MGET x1 y1", "MGET k1 y1 y2", "GET y", "ACL SETUSER bob +@all ~*", "FLUSHALL", "PING",
    "ACL SETUSER bob -@all +acl +auth", "PING", "RESET", "ACL WHOAMI", "PING",
    "ACL SETUSER default -flushall", "FLUSHALL", "PING", "RESET", "FLUSHALL", "ACL SETUSER default +flushall",
    "FLUSHALL", "ACL SETUSER default >secret", "PING", "RESET", "PING", "AUTH secret", "ACL WHOAMI",
    "ACL SETUSER default off", "PING", "RESET", "AUTH secret", "AUTH bob x", "ACL SETUSER default on nopass", "RESET",
    "PING", "CONFIG SET requirepass abc", "ACL GETUSER default", "AUTH bad", "AUTH abc", "RESET", "GET a", "AUTH abc",
    ("CONFIG", "SET", "requirepass", b"a\0b\r\n"), ("AUTH", b"a\0b\r\n"), "AUTH a", "CONFIG SET requirepass ''",
    "ACL GETUSER default", "AUTH abc", "CLIENT KILL USER bob", "ACL DELUSER bob", "AUTH bob x",
]  # fmt: skip

VARYING = re.compile(rb"(\$2\r\nid\r\n:)\d+|(age-seconds\r\n[$,])\S+(\r\n\d\S*)?|(client-info\r\n\$)\d+\r\n[^\r]*")


def plain(reply: bytes) -> bytes:
    """A reply without what no two servers or moments have in common."""
    return VARYING.sub(rb"\1\2\4", reply)


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    with ZattCluster(1, in_memory=True) as cluster, RedisServer() as server:
        yield cluster.nodes[0].port, server.port


@pytest.fixture(params=[2, 3])
def pair(request: pytest.FixtureRequest, ports: tuple[int, int]) -> Iterator[Pair]:
    both = Connection(ports[0]), Connection(ports[1])
    for backend in both:
        backend.use(request.param)
    yield both
    for backend in both:
        backend.close()


def compare(pair: Pair, lines: Sequence[Line]) -> None:
    history: list[bytes] = []
    for line in lines:
        argv = words(line)
        history.append(b" ".join(argv))
        got, expected = (plain(backend.execute(argv)) for backend in pair)
        assert got == expected, f"{got!r} is not {expected!r} after {history[-8:]}"


@pytest.mark.parametrize("table", [USERS, SAID, DENIED], ids=["users", "said", "denied"])
def test_like_redis(pair: Pair, table: list[Line]) -> None:
    compare(pair, table)


def test_the_log_of_denials_tells_what_redis_tells(pair: Pair) -> None:
    log = "ACL LOG"
    compare(pair, [
        "ACL LOG RESET", "ACL SETUSER eve on nopass +get +acl +multi +exec +client|kill ~k*", "AUTH eve x", "GET x",
        "GET x", "GET k", "FLUSHALL", "client list", "MULTI", "GET x", "PING", "EXEC", log, "MULTI", "GET k",
        "ACL SETUSER eve resetkeys", "EXEC", "GET k", log, "ACL LOG 1", "ACL LOG 0", "auth eve x",
        "ACL SETUSER eve off", "auth eve x", "Hello 2 auth nobody y", log, "CONFIG SET x y", "ACL LOG 2", "RESET",
        "CONFIG SET acllog-max-len 2", "AUTH nobody x", log, "CONFIG SET acllog-max-len 128", "ACL LOG RESET", log,
        "ACL DELUSER eve",
    ])  # fmt: skip


def test_permissions_that_are_taken_away_in_between_stop_a_transaction(pair: Pair, ports: tuple[int, int]) -> None:
    admins = Connection(ports[0]), Connection(ports[1])
    compare(pair, ["ACL SETUSER eve on nopass +@all ~* &*", "AUTH eve x", "SET k v"])
    compare(pair, ["MULTI", "GET k", "SET k w", "PING"])
    compare(admins, ["ACL SETUSER eve -set"])
    compare(pair, ["EXEC", "GET k", "SET k x"])
    compare(admins, ["ACL SETUSER eve +set"])
    compare(pair, ["MULTI", "SET k y", "SELECT 1", "GET k", "SELECT 0"])
    compare(admins, ["ACL SETUSER eve -select"])
    compare(pair, ["EXEC", "GET k"])
    compare(admins, ["ACL SETUSER eve +@all"])
    compare(pair, ["MULTI", "SET k z", "GET k"])
    compare(admins, ["ACL SETUSER eve -exec"])
    compare(pair, ["EXEC", "DISCARD"])
    compare(admins, ["ACL DELUSER eve"])
    for connection in pair:
        with pytest.raises(ConnectionError):
            connection.execute([b"PING"])


def test_a_transaction_sees_the_users_that_it_changes(pair: Pair) -> None:
    compare(pair, [
        "MULTI", "ACL SETUSER t on >a", "ACL SETUSER t <a >b", "ACL SETUSER t <nosuch", "ACL SETUSER t foo",
        "ACL GETUSER t", "ACL LIST", "ACL DELUSER nobody", "AUTH t a", "AUTH t b", "EXEC", "ACL WHOAMI", "PING",
        "RESET", "MULTI", "ACL DELUSER t", "ACL USERS", "EXEC", "MULTI", "ACL DELUSER default", "ACL SETUSER 'a",
        "EXEC", "ACL USERS", "ACL DELUSER 'a",
    ])  # fmt: skip


def test_what_is_pipelined_behind_a_change_is_looked_at_by_it(ports: tuple[int, int]) -> None:
    lines = [words(line) for line in [
        "ACL SETUSER p on nopass +@all ~*", "AUTH p x", "SET k v", "ACL SETUSER p -get", "GET k", "ACL SETUSER p +get",
        "GET k", "MULTI", "ACL SETUSER p -get", "EXEC", "GET k", "MULTI", "AUTH default x", "EXEC", "GET k",
        "ACL DELUSER p", "PING",
    ]]  # fmt: skip
    for port in ports:
        connection = Connection(port)
        replies = connection.execute_all(lines)
        assert b" ".join(reply[:7].strip() for reply in replies) == (
            b"+OK +OK +OK +OK -NOPERM +OK $1\r\nv +OK +QUEUED *1\r\n+OK -NOPERM +OK +QUEUED *1\r\n+OK $1\r\nv :1 +PONG"
        ), port
        connection.close()


PIPELINED: list[Line] = [
    "GET k1", "GET k2", "SET k1 v", "SET x v", "GET x", "INCR kn", "MGET k1 k2", "MGET k1 x", "DEL k1", "PING",
    "ECHO a",
    "MULTI", "EXEC", "DISCARD", "WATCH k1", "SELECT 0", "AUTH one x", "AUTH two x", "AUTH default x", "GET", "NOSUCH",
    "LPUSH kl a", "LRANGE kl 0 1", "BLPOP kl x 1", "SORT kl", "SORT kl BY w*", "ACL SETUSER one -get", "DBSIZE",
    "ACL SETUSER one +get", "ACL SETUSER two resetkeys ~k*", "ACL SETUSER two ~x", "get k1",
    "CONFIG SET requirepass ''", "ACL WHOAMI", "EXISTS k1 x", "GeT k1", "OBJECT ENCODING kl", "HELLO 9",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_pipelines_of_users_who_may_not_do_everything(ports: tuple[int, int], seed: int) -> None:
    """In one piece, with changes of users in between: every reply in its order, as redis-server gives it."""
    rng = random.Random(seed)
    pair = Connection(ports[0]), Connection(ports[1])
    begin: list[Line] = [
        "FLUSHALL", "ACL SETUSER one reset on nopass +@all -ping ~k*",
        "ACL SETUSER two reset on nopass +@all -echo %R~k* ~kn (~x +get +acl +auth)",
    ]  # fmt: skip
    compare(pair, begin)
    for _ in range(6):
        sent: list[list[bytes]] = []
        while len(sent) < 90:
            sent.append(words(rng.choice(PIPELINED[:11] if rng.random() < 0.6 else PIPELINED)))
            if sent[-1] == [b"MULTI"]:  # with what changes no user: Redis looks at each command of an EXEC in its turn
                sent += [words(rng.choice(PIPELINED[:11])) for _ in range(rng.randrange(4))]
                sent.append(rng.choice(([b"EXEC"], [b"DISCARD"])))
        got, expected = (backend.execute_all([*sent, [b"RESET"]]) for backend in pair)
        for number, line in enumerate(sent):
            assert got[number] == expected[number], (line, sent[max(0, number - 12) : number + 1])
    compare(pair, ["ACL DELUSER one two", "FLUSHALL"])


# -- the matrix --------------------------------------------------------------------------------------------------

RULES = [
    "+@all", "-@all", "+@read", "-@read", "+@write", "-@write", "+@string", "-@string", "+@slow", "-@slow", "+@fast",
    "+@keyspace", "-@keyspace", "+@dangerous", "-@dangerous", "+@admin", "-@admin", "+@list", "+@set", "-@set", "+get",
    "-get", "+set", "-set", "+client", "-client", "+client|id", "-client|id", "+config|get", "-config|get", "+config",
    "+acl|whoami", "-acl", "+select|0", "+select", "-select", "+@connection", "-@connection", "+@transaction", "+copy",
    "-copy", "+sort", "-sort", "+bitfield", "+debug|object", "-debug", "+@blocking", "+@hash", "+@sortedset", "+mget",
    "~*", "resetkeys", "~k*", "%R~r*", "%W~w*", "%RW~b*", "%R~*", "%W~*", "~[ab]?", "%R~k1",
]  # fmt: skip
KEYS = ["k1", "k2", "r1", "w1", "b1", "a1", "x1"]
LINES = [
    "GET {0}", "SET {0} v", "SET {0} v GET", "SET {0} v EX 1", "MGET {0} {1}", "MSET {0} v {1} v", "DEL {0} {1}",
    "COPY {0} {1}", "RENAME {0} {1}", "EXISTS {0}", "TYPE {0}", "TTL {0}", "EXPIRE {0} 1", "STRLEN {0}", "APPEND {0} v",
    "GETSET {0} v", "GETDEL {0}", "GETEX {0}", "SETRANGE {0} 0 v", "BITFIELD {0} GET u4 0", "BITFIELD {0} SET u4 0 1",
    "BITFIELD_RO {0} GET u4 0", "BITOP AND {0} {1} {0}", "LPUSH {0} v", "LPOP {0}", "LRANGE {0} 0 1",
    "LMOVE {0} {1} LEFT LEFT", "BLPOP {0} {1} 0", "LMPOP 2 {0} {1} LEFT", "BLMOVE {0} {1} LEFT LEFT 0", "SADD {0} v",
    "SMEMBERS {0}", "SINTERSTORE {0} {1} {1}", "SINTERCARD 2 {0} {1}", "SMOVE {0} {1} v", "ZADD {0} 1 v",
    "ZUNIONSTORE {0} 2 {1} {0}", "ZUNION 2 {0} {1}", "ZRANGESTORE {0} {1} 0 1", "ZMPOP 1 {0} MIN", "HSET {0} f v",
    "HGETALL {0}", "HEXISTS {0} f", "SORT {0}", "SORT {0} STORE {1}", "SORT {0} BY nosort GET # STORE {1}",
    "SORT_RO {0}", "GEOADD {0} 1 1 v", "GEORADIUS {0} 1 1 1 m", "GEORADIUS {0} 1 1 1 m STORE {1}",
    "GEOSEARCHSTORE {0} {1} FROMMEMBER m BYRADIUS 1 m", "PFADD {0} v", "PFCOUNT {0} {1}", "PFMERGE {0} {1}",
    "OBJECT ENCODING {0}", "MEMORY USAGE {0}", "DUMP {0}", "RESTORE {0} 0 x", "TOUCH {0}", "UNLINK {0}", "KEYS *",
    "SCAN 0", "RANDOMKEY", "FLUSHALL", "FLUSHDB", "DBSIZE", "SWAPDB 0 1", "MOVE {0} 1", "PERSIST {0}", "MULTI", "EXEC",
    "DISCARD", "WATCH {0} {1}", "UNWATCH", "SELECT 0", "SELECT 1", "PING", "ECHO x", "AUTH x", "HELLO", "RESET", "QUIT",
    "CLIENT ID", "CLIENT LIST", "CLIENT KILL x", "CLIENT HELP", "CONFIG GET x", "CONFIG SET x y", "ACL WHOAMI",
    "ACL LIST", "ACL SETUSER x", "INFO", "COMMAND", "COMMAND COUNT", "DEBUG OBJECT {0}", "DEBUG SLEEP 0", "SHUTDOWN",
    "SLOWLOG GET", "LATENCY DOCTOR", "ROLE", "TIME", "WAIT 0 0", "SAVE", "LOLWUT", "MEMORY DOCTOR", "MODULE LIST",
    "ZUNIONSTORE {0} 9 {1} {0}", "SINTERCARD x {0}", "LMPOP 0 {0} LEFT", "CLIENT NO-EVICT on",
    "GEORADIUS_RO {0} 1 1 1 m",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_the_matrix_of_users_commands_and_keys(ports: tuple[int, int], seed: int) -> None:
    """For users made of random rules: the same verdict as redis-server's, with the same culprit, for every command."""
    rng = random.Random(seed)
    ours, real = (Connection(port) for port in ports)
    for number in range(4):
        name = f"m{seed}x{number}"
        rules = [rng.choice(RULES) for _ in range(rng.randrange(1, 9))]
        if rng.random() < 0.5:
            rules.append("(" + " ".join(rng.choice(RULES) for _ in range(rng.randrange(1, 5))) + ")")
        for rule in rules:  # one by one: some contradict what was said before, for both alike
            line = [b"ACL", b"SETUSER", name.encode(), rule.encode()]
            assert ours.execute(line) == real.execute(line)
        asked = [
            words(f"ACL DRYRUN {name} " + line.format(*rng.sample(KEYS, 2))) for line in LINES for _ in range(2)
        ]  # fmt: skip
        for argv, got, expected in zip(asked, ours.execute_all(asked), real.execute_all(asked), strict=True):
            assert got == expected, (argv, rules)
        line = [b"ACL", b"DELUSER", name.encode()]
        assert ours.execute(line) == real.execute(line) == b":1\r\n"
    ours.close()
    real.close()


def test_what_is_shown_of_a_user_makes_the_same_user(ports: tuple[int, int]) -> None:
    """A line of ACL LIST, given to redis-server and to zattd again, allows just what the user that it shows allows."""
    rng = random.Random(7)
    ours, real = (Connection(port) for port in ports)
    for _ in range(12):
        rules = [rng.choice(RULES[:51]) for _ in range(rng.randrange(1, 12))]
        ours.execute(words("ACL SETUSER one " + " ".join(rules)))
        shown = [line for line in _bulks(ours.execute([b"ACL", b"LIST"])) if line.startswith(b"user one ")]
        for backend in (ours, real):
            assert backend.execute([b"ACL", b"SETUSER", b"two", *shown[0].split()[2:]]) == b"+OK\r\n", (rules, shown)
        lines = [words(line.format("k1", "k2")) for line in LINES]
        verdicts = [
            backend.execute_all([[b"ACL", b"DRYRUN", name, *line] for line in lines])
            for backend, name in ((ours, b"one"), (ours, b"two"), (real, b"two"))
        ]
        assert verdicts[0] == verdicts[1] == verdicts[2], (rules, shown)
        ours.execute(words("ACL DELUSER one two"))
        real.execute(words("ACL DELUSER two"))
    ours.close()
    real.close()


def _bulks(reply: bytes) -> list[bytes]:
    return reply.split(b"\r\n")[2::2]


def test_what_concerns_the_cluster_is_for_administrators() -> None:
    for spec in all_specs():
        if spec.parent is COMMANDS[b"RAFT"] and spec.name != "RAFT HELP":
            assert {"admin", "dangerous"} <= set(spec.acl_categories), spec.name
            assert spec.flags & Flag.ADMIN


# -- the file ----------------------------------------------------------------------------------------------------

FILES = [
    b"user alice on >pw ~* +@all\nuser bob on nopass ~* &* +@all (+get ~x)\n",
    b"\n\n  user alice on >pw  ~*\t\r\nuser default on nopass ~* &* +@all\n",
    b"user alice on\nuser alice off\n", b"user default on\nuser default off\n", b"alice on\n", b"user\n",
    b"user alice on foo >secret\n", b"user alice +nosuch +@nosuch foo bar\nuser bob >x <y\n", b"user a\x0bb on\n",
    b"user alice (+get\n", b"user alice ~* ~a\nUSER bob on\n", b"# a comment\n", b"",
]  # fmt: skip


def test_files_are_read_and_written_as_by_redis(tmp_path: Path) -> None:
    path = tmp_path / "users.acl"
    path.write_bytes(FILES[0])
    flags = ["--aclfile", str(path)]
    with ZattCluster(1, flags=flags, in_memory=True) as cluster, RedisServer(*flags) as server:
        ports = cluster.nodes[0].port, server.port
        for content in FILES:
            for line in ("ACL LIST", "AUTH alice pw", "RESET"):
                compare((Connection(ports[0]), Connection(ports[1])), [line])
            path.write_bytes(content)
            compare((Connection(ports[0]), Connection(ports[1])), ["ACL LOAD", "ACL LIST"])
        saved = []
        for port in ports:
            connection = Connection(port)
            for line in ("ACL SETUSER eve on >x ~e* +get (~f* +set)", "ACL SAVE"):
                assert connection.execute(words(line)) == b"+OK\r\n"
            saved.append(path.read_bytes())
            assert path.stat().st_mode & 0o777 == (0o600 if port == ports[0] else path.stat().st_mode & 0o777)
        assert saved[0] == saved[1]
        loaders = Connection(ports[0]), Connection(ports[1])
        compare(loaders, ["AUTH eve x", "AUTH default x"])
        eves = Connection(ports[0]), Connection(ports[1])
        compare(eves, ["AUTH eve x"])
        compare(loaders, ["ACL LOAD", "PING", "ACL LIST"])
        for connection in eves:
            with pytest.raises(ConnectionError):
                connection.execute([b"PING"])
        path.unlink()
        compare(loaders, ["ACL LOAD"])
