"""Commands of extensions: arguments, replies, failures, data, and what COMMAND says of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import redis

import zattredis
from zattredis.commands.extension import described
from zattredis.commands.extension_arguments import read_signature
from zattredis.errors import ConfigError


@pytest.fixture(scope="module")
def server() -> Iterator[zattredis.Server]:
    with zattredis.serve(extensions=["tests.extensions.bank"]) as server:
        yield server


@pytest.fixture
def client(server: zattredis.Server) -> Iterator[redis.Redis]:
    client = server.client(protocol=2)
    client.flushall()
    yield client
    client.close()


def ask(client: redis.Redis, line: str, *more: Any) -> Any:
    """Return the reply as it came, without what redis-py makes of it."""
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command(*line.split(), *more)
        return connection.read_response()
    finally:
        client.connection_pool.release(connection)


def error(client: redis.Redis, line: str, *more: Any) -> str:
    with pytest.raises(redis.ResponseError) as found:
        ask(client, line, *more)
    return str(found.value)


def pairs(flat: list[Any]) -> dict[bytes, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def test_a_transfer(client: redis.Redis) -> None:
    assert ask(client, "ACCOUNT.OPEN a 100") == 1
    assert ask(client, "account.open a") == 0
    assert ask(client, "ACCOUNT.TRANSFER a b 30") == 70
    assert (client.get("a"), client.get("b")) == (b"70", b"30")
    assert error(client, "ACCOUNT.TRANSFER a b 71").endswith("FUNDS insufficient funds")
    assert ask(client, "ACCOUNT.SUM a b c") == 100


def test_pipelines_and_transactions(client: redis.Redis) -> None:
    client.mset({"a": 100, "b": 0})
    with client.pipeline(transaction=False) as pipeline:
        for _ in range(50):
            pipeline.execute_command("ACCOUNT.TRANSFER", "a", "b", 1)
            pipeline.get("b")
        assert pipeline.execute()[-2:] == [50, b"50"]
    with client.pipeline(transaction=True) as pipeline:
        pipeline.execute_command("ACCOUNT.TRANSFER", "a", "b", 10)
        pipeline.execute_command("ACCOUNT.SUM", "a", "b")
        pipeline.execute_command("ACCOUNT.TRANSFER", "a", "b", 1000)
        results = pipeline.execute(raise_on_error=False)
    assert results[:2] == [40, 100] and "insufficient" in str(results[2])
    with client.pipeline(transaction=True) as pipeline:
        pipeline.set("x", 1)
        pipeline.execute_command("ACCOUNT.TRANSFER", "a", "b", "many")
        with pytest.raises(redis.RedisError, match=r"not an integer|discarded"):
            pipeline.execute()
    assert client.get("x") is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("T.TYPES r text 5 1.5 yes", [b"r", b"text", 5, b"1.5", 1, b"LEFT", None]),
        ("T.TYPES r t -5 inf 0 right 7", [b"r", b"t", -5, b"inf", 0, b"RIGHT", 7]),
        ("T.TYPES r t 9223372036854775807 0x10 TRUE Left", [b"r", b"t", 2**63 - 1, b"16", 1, b"LEFT", None]),
        ("T.MANY name", [b"name", 0, b"rest", []]),
        ("T.MANY name 1 2.5", [b"name", b"3.5", b"rest", [b"1", b"2.5"]]),
    ],
)
def test_arguments(client: redis.Redis, line: str, expected: list[Any]) -> None:
    assert ask(client, line) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("T.TYPES r t 5 1.5", "wrong number of arguments for 't.types' command"),
        ("T.TYPES r t 5 1.5 yes LEFT 7 8", "wrong number of arguments for 't.types' command"),
        ("T.TYPES r t 5.5 1.5 yes", "value is not an integer or out of range"),
        ("T.TYPES r t 9223372036854775808 1.5 yes", "value is not an integer or out of range"),
        ("T.TYPES r t 5 abc yes", "value is not a valid float"),
        ("T.TYPES r t 5 1.5 maybe", "value is not a boolean, yes or no"),
        ("T.TYPES r t 5 1.5 yes UP", "syntax error"),
        ("T.MANY", "wrong number of arguments for 't.many' command"),
        ("T.MANY x 1 y", "value is not a valid float"),
    ],
)
def test_wrong_arguments_never_enter_the_log(client: redis.Redis, line: str, message: str) -> None:
    before = pairs(ask(client, "RAFT STATUS"))[b"last_index"]
    assert error(client, line).endswith(message)
    entries = ask(client, f"RAFT LOG {before + 1} 100")  # a new term's beginning, where the disk was slow
    assert [entry for entry in entries if entry[2] == b"batch"] == []


def test_text_that_is_not_utf8(client: redis.Redis) -> None:
    assert error(client, "T.MANY", b"\xff").endswith("value is not valid UTF-8")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("reply", "NOPE no"),
        ("value", "t.fail failed: ValueError: line break; nothing was written"),
        ("assert", "t.fail failed: AssertionError; nothing was written"),
        ("exit", "t.fail failed: SystemExit: 3; nothing was written"),
        ("os", "t.fail failed: OSError: mine; nothing was written"),
        ("deep", "nothing was written"),
        ("wrongtype", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("object", "nothing was written"),
        ("nested", "nothing was written"),
    ],
)
def test_whatever_fails_writes_nothing(client: redis.Redis, how: str, message: str) -> None:
    client.set("k", "before")
    assert message.removeprefix("WRONGTYPE ") in error(client, f"T.FAIL k {how}")
    assert client.get("k") == b"before" and client.dbsize() == 1
    assert ask(client, "T.FAIL k not") == b"OK"
    assert client.get("k") == b"written"


def test_a_failed_call_that_is_caught_has_changed_nothing(client: redis.Redis) -> None:
    assert ask(client, "T.CAUGHT k") == b"ERR value is not an integer or out of range"
    assert client.hgetall("k") == {b"a": b"1"}


def test_time_and_randomness(client: redis.Redis) -> None:
    one, other = ask(client, "T.DRAW k"), ask(client, "T.DRAW k")
    assert one[1:] != other[1:] and abs(one[0] - other[0]) < 60_000
    assert len(one[2]) == 36 and one[2][14:15] == b"4"


def test_readonly_commands_cannot_write(client: redis.Redis) -> None:
    client.set("k", "v")
    assert ask(client, "T.PEEK k") == b"v"
    assert error(client, "T.PEEK k yes").endswith("a readonly command cannot write")
    assert client.get("k") == b"v"


def test_any_command_may_be_called(client: redis.Redis) -> None:
    assert ask(client, "T.CALL SET k 5 EX 100 GET") is None
    assert ask(client, "T.CALL INCRBYFLOAT k 1.5") == b"6.5"
    assert 0 < ask(client, "T.CALL TTL k") <= 100
    ask(client, "T.CALL RPUSH l c a b")
    assert ask(client, "T.CALL SORT l ALPHA") == [b"a", b"b", b"c"]
    assert ask(client, "T.CALL LRANGE l 0 -1") == [b"c", b"a", b"b"]
    assert ask(client, "T.CALL ZADD z 1.5 m") == 1
    assert ask(client, "T.CALL ZRANGE z 0 -1 WITHSCORES") == [[b"m", b"1.5"]]
    assert ask(client, "T.CALL GEOADD g 13.361389 38.115556 p") == 1
    for refused in ("CLIENT", "BLPOP l 0", "CONFIG SET maxclients 5", "ACCOUNT.OPEN x", "NOPE", "GET"):
        error(client, f"T.CALL {refused}")
    assert error(client, "T.CALL BLPOP l 0").endswith("'blpop' cannot be called from a command of an extension")


def test_blocked_clients_are_served_by_what_an_extension_pushes(server: zattredis.Server, client: redis.Redis) -> None:
    waiting = server.client()
    connection = waiting.connection_pool.get_connection()
    connection.send_command("BLPOP", "queue", 10)
    ask(client, "T.CALL RPUSH queue job")
    assert connection.read_response() == [b"queue", b"job"]
    waiting.connection_pool.release(connection)


def test_command_tells_of_them(client: redis.Redis) -> None:
    (info,) = ask(client, "COMMAND INFO account.transfer")
    assert info[:6] == [b"account.transfer", 4, [b"write", b"denyoom", b"module"], 1, 2, 1]
    assert info[6] == [b"@write", b"@slow"]
    name, docs = ask(client, "COMMAND DOCS ACCOUNT.TRANSFER")
    assert name == b"account.transfer"
    told = pairs(docs)
    assert told[b"summary"] == b"Move money; return what is left" and told[b"complexity"] == b"O(1)"
    assert told[b"group"] == b"module" and told[b"module"] == b"tests.extensions.bank"
    arguments = [pairs(one) for one in told[b"arguments"]]
    assert [(one[b"name"], one[b"type"]) for one in arguments] == [
        (b"source", b"key"), (b"target", b"key"), (b"amount", b"integer"),
    ]  # fmt: skip
    assert pairs(ask(client, "COMMAND DOCS ACCOUNT.OPEN")[1])[b"since"] == b"1.0"
    assert ask(client, "COMMAND GETKEYS ACCOUNT.SUM x y") == [b"x", b"y"]
    listed = ask(client, "COMMAND LIST FILTERBY MODULE tests.extensions.bank")
    assert b"account.transfer" in listed and len(listed) == 11
    (info,) = ask(client, "COMMAND INFO account.sum")
    assert info[1:6] == [-1, [b"readonly", b"module", b"fast"], 1, -1, 1]


def test_users_and_their_permissions(server: zattredis.Server, client: redis.Redis) -> None:
    client.mset({"a": 5, "b": 0})
    for name, rules in (("clerk", ["+account.transfer", "~a", "~b"]), ("writer", ["+@write", "~*"]),
                        ("reader", ["+@read", "~*"])):  # fmt: skip
        ask(client, "ACL SETUSER", name, "on", "nopass", *rules)
    as_user = {name: server.client(username=name, password="x", protocol=2) for name in ("clerk", "writer", "reader")}
    assert ask(as_user["clerk"], "ACCOUNT.TRANSFER a b 1") == 4
    assert ask(as_user["writer"], "ACCOUNT.TRANSFER a c 1") == 3
    assert ask(as_user["reader"], "ACCOUNT.SUM a b c") == 5
    assert "no permissions to access one of the keys" in error(as_user["clerk"], "ACCOUNT.TRANSFER a c 1").lower()
    for name, line in (("clerk", "ACCOUNT.SUM a"), ("reader", "ACCOUNT.TRANSFER a b 1"), ("writer", "ACCOUNT.SUM a")):
        assert "no permissions to run" in error(as_user[name], line)
    for name in as_user:
        ask(client, "ACL DELUSER", name)


def test_extension_list(client: redis.Redis) -> None:
    (row,) = ask(client, "EXTENSION LIST")
    facts = pairs(row)
    assert facts[b"name"] == b"tests.extensions.bank" and facts[b"state"] == b"active"
    assert facts[b"own"] == facts[b"agreed"] and len(facts[b"own"]) == 32


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("time", "time.time"), ("now", "time.time"), ("random", "randint"), ("urandom", "urandom"),
        ("uuid", "uuid.uuid4"), ("datetime", "datetime.datetime.now"), ("date", "datetime.date.today"),
        ("open", "open"), ("hash", "hash"), ("socket", "socket"), ("thread", "Thread|thread"),
        ("process", "subprocess"),
    ],
)  # fmt: skip
def test_the_guard_notices_what_the_source_does_not_show(client: redis.Redis, how: str, message: str) -> None:
    import re

    found = error(client, f"T.SNEAK {how}")
    assert re.search(message, found) and found.endswith("; nothing was written"), found
    assert client.get("sneak") is None


def test_the_guard_lets_pass_what_is_the_same_everywhere(client: redis.Redis) -> None:
    assert ask(client, "T.SNEAK allowed") == b"2020-01-01 00:00:0000000000-0000-0000-0000-000000000001a/b"


def test_outside_of_commands_the_modules_work_as_ever(server: zattredis.Server) -> None:
    from tests.extensions import rules

    assert rules.now() > 0 and rules.time.monotonic() > 0
    assert isinstance(rules.datetime.datetime.now(), rules.datetime.datetime)
    assert isinstance(rules.date.today(), rules.date)
    assert rules.uuid.uuid4() and rules.random.random() < 1


def test_a_function_stays_a_function() -> None:
    from tests.extensions import bank

    assert described(bank.transfer) is not None and bank.transfer.__name__ == "transfer"


def test_commands_go_with_their_server() -> None:
    @zattredis.command("GONE.SOON")
    def gone(ctx: zattredis.Context) -> int:
        return 5

    with zattredis.serve(extensions=[gone]) as server, zattredis.serve() as other:
        assert server.client().execute_command("GONE.SOON") == 5
        with pytest.raises(redis.ResponseError, match="this node does not have"):
            other.client().execute_command("GONE.SOON")
    with zattredis.serve() as server, pytest.raises(redis.ResponseError, match="unknown command"):
        server.client().execute_command("GONE.SOON")


UNKNOWN = """
def shout(ctx: known.to.type_checkers.Context, words: str, times: int = 1) -> known.to.type_checkers.Reply: ...
def bad(ctx: bytes, words: Nowhere) -> str: ...
"""


def test_types_that_only_type_checkers_know() -> None:
    """Who imports the context's type `if TYPE_CHECKING`, in the way that each Python takes annotations."""
    names: dict[str, Any] = {}
    source = UNKNOWN if sys.version_info >= (3, 14) else f"from __future__ import annotations\n{UNKNOWN}"
    exec(compile(source, "unknown", "exec", dont_inherit=True), names)
    assert read_signature(names["shout"]).syntax == "words:string [times:integer]"
    with pytest.raises(TypeError, match="bad: its annotations cannot be read: name 'Nowhere' is not defined"):
        read_signature(names["bad"])


def test_what_cannot_be_a_command() -> None:
    with pytest.raises(ValueError, match="cannot be a command"):
        zattredis.command("TWO WORDS")
    cases: list[Any] = [lambda: None, lambda ctx, *, a: None, lambda ctx, **a: None]
    for function in cases:
        with pytest.raises(TypeError):
            zattredis.command("X")(function)

    async def later(ctx: zattredis.Context) -> None: ...

    with pytest.raises(TypeError, match="cannot be async"):
        zattredis.command("X")(later)

    def strange(ctx: zattredis.Context, what: complex) -> None: ...

    with pytest.raises(TypeError, match="what is complex; an argument is bytes, str, int"):
        zattredis.command("X")(strange)

    def plain(ctx: zattredis.Context, a: bytes, b: bytes) -> None: ...

    for keys in (3, (1, 1), (0, 1), (1, -1)):
        with pytest.raises(ValueError, match="keys="):
            zattredis.command("X", keys=keys)(plain)
    with pytest.raises(ConfigError, match="is no command; decorate it"):
        zattredis.serve(extensions=[plain]).start()
    with pytest.raises(ConfigError, match=r"nowhere\.at_all cannot be imported: ModuleNotFoundError"):
        zattredis.serve(extensions=["nowhere.at_all"]).start()
    with pytest.raises(ConfigError, match="has no commands"):
        zattredis.serve(extensions=["tests.extensions.rules"]).start()
    with pytest.raises(ConfigError, match="is no name of a module"):
        zattredis.serve(extensions=["no name"])
    with pytest.raises(TypeError, match="name the module that has plain"):
        zattredis.serve(nodes=3, extensions=[plain])

    @zattredis.command("GET")
    def taken(ctx: zattredis.Context) -> None: ...

    with pytest.raises(ConfigError, match=r"GET of .* is one of zattredis already"):
        zattredis.serve(extensions=[taken]).start()
