"""The list group against redis-server 7.0: every command line answered byte for byte alike."""

from __future__ import annotations

import random

import pytest

from tests.support.differential import Backend, Connection, compare

Pair = tuple[Backend, Connection]
Line = str | tuple[str, ...]

BAD_INTEGERS = [
    "''", "abc", "1.5", "+1", "01", "-01", "-0", "1x", "0x10", "9223372036854775808", "-9223372036854775809",
    "99999999999999999999999", "1e3", "--1", "-", "+", "１",
]  # fmt: skip
EDGES = ["0", "1", "-1", "9223372036854775807", "-9223372036854775808", "9223372036854775806", "-9223372036854775807"]
NUMBERS = [*BAD_INTEGERS, *EDGES, "2", "-2", "3", "-3", "100", "-100", "4294967296"]
VALUES = ["", "v", "x" * 63, "x" * 64, "x" * 1020, "x" * 5000, "12", "-5", "ключ", "a b", "\r\n", "\0", "$1\r\na\r\n"]

WRONG_ARITY = [
    "LPUSH", "LPUSH k", "RPUSH", "RPUSH k", "LPUSHX k", "RPUSHX k", "LPOP", "RPOP", "LPOP k 1 2", "RPOP k 1 2",
    "LPOP k abc x", "LLEN", "LLEN a b", "LINDEX k", "LINDEX k 1 2", "LINSERT k BEFORE a", "LINSERT k BEFORE a b c",
    "LRANGE k 0", "LRANGE k 0 1 2", "LREM k 0", "LREM k 0 a b", "LSET k 0", "LSET k 0 a b", "LTRIM k 0",
    "LTRIM k 0 1 2", "LPOS", "LPOS k",
    "LMOVE a b LEFT", "LMOVE a b LEFT RIGHT x", "RPOPLPUSH a", "RPOPLPUSH a b c", "LMPOP", "LMPOP 1",
    "LMPOP 1 k", "SET s v", "LPOP s 1 2",
]  # fmt: skip

EVERY = [
    "LPUSH {} a", "RPUSH {} a", "LPUSHX {} a", "RPUSHX {} a b", "LPOP {}", "RPOP {}", "LPOP {} 2", "RPOP {} 0",
    "LPOP {} -1", "LPOP {} x", "LLEN {}", "LINDEX {} 0", "LINDEX {} x", "LINSERT {} BEFORE a b", "LINSERT {} FOO a b",
    "LRANGE {} 0 -1", "LRANGE {} x 0", "LREM {} 0 a", "LREM {} x a", "LSET {} 0 a", "LSET {} x a", "LTRIM {} 0 1",
    "LTRIM {} x 1", "LPOS {} a", "LPOS {} a COUNT 0", "LPOS {} a RANK 0", "LPOS {} a FOO", "LMOVE {} d LEFT RIGHT",
    "LMOVE {} {} LEFT RIGHT", "LMOVE {} d FOO RIGHT", "RPOPLPUSH {} d", "RPOPLPUSH {} {}", "LMPOP 1 {} LEFT",
    "LMPOP 2 none {} RIGHT COUNT 5", "LMPOP 1 {} FOO", "TYPE {}", "EXISTS {}",
]  # fmt: skip


def many(count: int, start: int = 0) -> str:
    return " ".join(str(number) for number in range(start, start + count))


SMALL = "RPUSH k a b c a d a"
LARGE = [f"RPUSH k {many(700)}", "RPUSH k " + "x" * 3000, f"RPUSH k {many(500, 600)}", f"LPUSH k {many(900)}"]


def test_wrong_arity(pair: Pair) -> None:
    compare(*pair, WRONG_ARITY)


@pytest.mark.parametrize("prepared", ["DEL k", "SET k v", SMALL, "RPUSH k only"])
def test_every_command_on_missing_wrong_and_small_keys(pair: Pair, prepared: str) -> None:
    lines = []
    for line in EVERY:
        lines += ["DEL k d", prepared, line.format("k", "k"), "LRANGE k 0 -1", "LRANGE d 0 -1", "EXISTS k d"]
    for line in ("LMOVE k s LEFT LEFT", "RPOPLPUSH k s", "LMOVE s k LEFT LEFT", "LMPOP 2 k s LEFT", "LMPOP 2 s k LEFT"):
        lines += ["DEL k d", prepared, "SET s v", line, "LRANGE k 0 -1", "GET s"]
    compare(*pair, lines)


def test_odd_values(pair: Pair) -> None:
    lines: list[Line] = []
    for value in VALUES:
        lines += [
            ("RPUSH", value, value, "b"), ("LPUSH", value, "a", value), ("LRANGE", value, "0", "-1"),
            ("LPOS", value, value), ("LPOS", value, value, "COUNT", "0"), ("LINSERT", value, "AFTER", value, "new"),
            ("LINSERT", value, "BEFORE", "b", value), ("LSET", value, "-1", value), ("LINDEX", value, "-1"),
            ("LREM", value, "-2", value), ("LRANGE", value, "0", "-1"), ("LMOVE", value, "to", "LEFT", "RIGHT"),
            ("LPOP", value), ("RPOP", value), ("LMPOP", "1", value, "RIGHT"), ("LLEN", value), ("LPUSHX", value, "z"),
            ("EXISTS", value), ("LRANGE", "to", "0", "-1"),
        ]  # fmt: skip
    compare(*pair, lines)


@pytest.mark.parametrize("prepared", [[SMALL], LARGE], ids=["small", "large"])
def test_numbers(pair: Pair, prepared: list[str]) -> None:
    lines: list[str] = ["DEL none", *prepared]
    for number in NUMBERS:
        lines += [f"LINDEX k {number}", f"LINDEX none {number}", f"LPOP none {number}", f"LREM none {number} a"]
        lines += [f"LSET none {number} v", f"LTRIM none {number} 0", f"LTRIM none 0 {number}"]
        lines += [f"LPOS none a RANK {number}", f"LMPOP {number} none LEFT", f"LMPOP 1 none LEFT COUNT {number}"]
        lines += [f"LPOS k a {option} {number}" for option in ("RANK", "COUNT", "MAXLEN")]
        lines += [f"LPOS k 650 {option} {number} COUNT 0" for option in ("RANK", "MAXLEN")]
        lines += [f"LSET k {number} v", f"LINDEX k {number}"]
        lines += [f"LRANGE k {number} {other}" for other in ("0", "1", "-1", "3", "-100", "9223372036854775807")]
        lines += [f"LRANGE k {other} {number}" for other in ("0", "2", "-2", "-9223372036854775808", "x")]
    compare(*pair, lines)
    names = ["LPOP k {}", "RPOP k {}", "LREM k {} a", "LREM k {} 650", "LTRIM k {} -2", "LTRIM k 1 {}"]
    for name in (*names, "LMPOP 1 k LEFT COUNT {}"):
        for number in NUMBERS if len(prepared) == 1 else ("0", "1", "-1", "100", "9223372036854775807"):
            compare(*pair, [*prepared, name.format(number), "LRANGE k 0 -1", "LLEN k"])


LPOS = [
    "RANK 1", "RANK -1", "RANK 2", "RANK -2", "RANK 4", "RANK 2 COUNT 0", "RANK -1 COUNT 2", "COUNT 1", "COUNT 2",
    "COUNT 0 MAXLEN 3", "RANK -1 COUNT 0 MAXLEN 3", "RANK 2 COUNT 1 MAXLEN 4", "MAXLEN 0", "MAXLEN 1", "RANK",
    "COUNT 1 COUNT 2", "RANK 2 RANK 1", "rank 2 count 1", "FOO 1", "RANK 1 FOO", "MAXLEN", "COUNT", "COUNT x RANK y",
    "RANK 0 COUNT -1", "COUNT -1 RANK 0", "MAXLEN -1 RANK 0", "RANK -9223372036854775807 COUNT 0",
]  # fmt: skip


@pytest.mark.parametrize("prepared", [[SMALL], LARGE], ids=["small", "large"])
def test_lpos(pair: Pair, prepared: list[str]) -> None:
    lines = list(prepared)
    for element in ("a", "none", "650", "x" * 3000):
        lines += [f"LPOS k {element}", *(f"LPOS k {element} {options}" for options in LPOS)]
    compare(*pair, lines)


def test_linsert(pair: Pair) -> None:
    lines = []
    for where in ("BEFORE", "AFTER", "before", "aFTER", "FOO", "''"):
        for pivot in ("a", "c", "none", "''"):
            lines += ["DEL k", SMALL, f"LINSERT k {where} {pivot} new", "LRANGE k 0 -1", f"LINSERT none {where} a b"]
    compare(*pair, lines)
    for pivot in (0, 350, 599, 1100, 899, "x" * 3000):
        for where in ("BEFORE", "AFTER"):
            compare(*pair, [*LARGE, f"LINSERT k {where} {pivot} new", "LRANGE k 0 -1"])


MOVES = [
    f"LMOVE {source} {destination} {where_from} {where_to}"
    for source in ("k", "none", "s")
    for destination in ("k", "d", "new", "s")
    for where_from in ("LEFT", "RIGHT", "left", "FOO")
    for where_to in ("LEFT", "right", "BAR")
]


def test_moves(pair: Pair) -> None:
    for line in [*MOVES, "RPOPLPUSH k d", "RPOPLPUSH k k", "RPOPLPUSH s k", "RPOPLPUSH k s", "RPOPLPUSH none s"]:
        compare(*pair, [SMALL, "RPUSH d x y", "SET s v", line, *(f"LRANGE {key} 0 -1" for key in ("k", "d", "new"))])
    compare(*pair, ["RPUSH k a", "EXPIRE k 100", "LMOVE k k LEFT RIGHT", "TTL k", "LMOVE k d LEFT RIGHT", "TTL d"])


LMPOP = [
    "0 k LEFT", "-1 k LEFT", "x k LEFT", "1 k", "1 k d LEFT", "2 k LEFT", "3 k d LEFT", "2 none k LEFT", "1 k left",
    "1 k LEFT COUNT", "1 k LEFT COUNT 0", "1 k LEFT COUNT -1", "1 k LEFT COUNT x", "1 k LEFT COUNT 2 COUNT 3",
    "1 k LEFT COUNT 1 COUNT 3", "1 k LEFT FOO 1", "1 k LEFT COUNT 3 FOO", "1 k RIGHT COUNT 100", "1 k RIGHT count 2",
    "2 none none LEFT", "2 none s LEFT", "2 s k LEFT", "2 k s LEFT", "9223372036854775807 k LEFT", "4294967297 k LEFT",
    "2147483647 k LEFT", "2 k k LEFT COUNT 5", "1 k COUNT 1 LEFT", "1 LEFT RIGHT", "1 k LEFT COUNT 9223372036854775807",
    "2147483648 k LEFT", "1 k LEFT COUNT 2147483648", "1 k LEFT COUNT 4294967296",
]  # fmt: skip


def test_lmpop(pair: Pair) -> None:
    for options in LMPOP:
        compare(*pair, [SMALL, "SET s v", f"LMPOP {options}", "LRANGE k 0 -1"])


def test_expiry_stays_and_an_emptied_key_is_gone(pair: Pair) -> None:
    compare(
        *pair,
        [SMALL, "EXPIRE k 1000", "RPUSH k z", "TTL k", "LPOP k 3", "TTL k", "LREM k 0 a", "TTL k", "LSET k 0 x",
         "TTL k", "LINSERT k BEFORE x y", "TTL k", "LTRIM k 0 1", "TTL k", "LTRIM k 5 9", "EXISTS k", "RPUSH k a",
         "TTL k", "LREM k 0 a", "EXISTS k", "RPUSH k a", "LPOP k 5", "EXISTS k", "RPUSHX k a", *LARGE,
         "PEXPIRE k 99999",
         "LPOP k 2099", "PERSIST k", "LPOP k", "LPOP k", "EXISTS k", *LARGE, "RENAME k n", "LRANGE n 0 -1", "LLEN k",
         "DEL n", "LLEN n"],
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_random_commands_on_long_lists(pair: Pair, seed: int) -> None:
    draw = random.Random(seed)
    lines: list[Line] = [*LARGE]
    for _ in range(300):
        key = draw.choice(["k", "k", "k", "d"])
        value = draw.choice(["new", str(draw.randrange(1200)), "y" * draw.randrange(2500)])
        start, stop = sorted((draw.randrange(-50, 2500), draw.randrange(-50, 2500)))
        side = draw.choice(["LEFT", "RIGHT"])
        lines.append(
            draw.choice(
                [
                    ("LPUSH", key, *[value] * draw.randrange(1, 20)), ("RPUSH", key, *[value] * draw.randrange(1, 20)),
                    ("LPOP", key), ("RPOP", key), ("LPOP", key, str(draw.randrange(40))), ("RPOP", key, "7"),
                    ("LRANGE", key, str(start), str(stop)), ("LINDEX", key, str(start)),
                    ("LSET", key, str(start), value),
                    ("LINSERT", key, "BEFORE", value, "inserted"), ("LREM", key, draw.choice(["0", "1", "-2"]), value),
                    ("LPOS", key, value, "COUNT", "0"), ("LMOVE", "k", "d", side, side), ("LLEN", key),
                    ("LTRIM", key, str(draw.randrange(20)), "-3"), ("LMPOP", "2", "d", "k", side, "COUNT", "3"),
                ]
            )
        )  # fmt: skip
    compare(*pair, [*lines, "LRANGE k 0 -1", "LRANGE d 0 -1"])
