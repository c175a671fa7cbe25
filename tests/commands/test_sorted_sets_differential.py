"""The sorted-set group against redis-server 7.0: every command line answered byte for byte alike, in both sizes."""

from __future__ import annotations

import pytest

from tests.support.differential import Backend, Connection, compare
from tests.support.resp_client import Argument

Pair = tuple[Backend, Connection]
Lines = list[str | list[Argument]]

WRONG_ARITY = [
    "ZADD", "ZADD z", "ZADD z 1", "ZINCRBY z 1", "ZINCRBY z 1 a b", "ZREM z", "ZCARD", "ZCARD z y", "ZSCORE z",
    "ZSCORE z a b", "ZMSCORE z", "ZRANK z", "ZRANK z a b", "ZREVRANK z", "ZCOUNT z 1", "ZCOUNT z 1 2 3",
    "ZLEXCOUNT z -",
    "ZRANGE z 0", "ZRANGESTORE d z 0", "ZREVRANGE z 0", "ZRANGEBYSCORE z 0", "ZREVRANGEBYSCORE z 0", "ZRANGEBYLEX z -",
    "ZREVRANGEBYLEX z -", "ZREMRANGEBYRANK z 0", "ZREMRANGEBYRANK z 0 1 2", "ZREMRANGEBYSCORE z 0",
    "ZREMRANGEBYLEX z -", "ZPOPMIN", "ZPOPMIN z 1 2", "ZPOPMAX", "ZPOPMAX z 1 2", "ZMPOP 1", "ZMPOP 1 z",
    "ZRANDMEMBER", "ZRANDMEMBER z 1 WITHSCORES x", "ZSCAN z", "ZUNION 1", "ZINTER 1", "ZDIFF 1", "ZINTERCARD 1",
    "ZUNIONSTORE d 1", "ZINTERSTORE d 1", "ZDIFFSTORE d 1",
]  # fmt: skip
SCORES = [
    "0", "-0", "1", "-1", "1.5", "+2", "01", "1e3", "1e308", "-1e308", "1e309", "-1e309", "1e-308", "1e-400", "5e-324",
    "inf", "+inf", "-inf", "infinity", "INF", "nan", "-nan", "abc", "''", "1x", "0x10", "0x1p4", "-0x1p-2", "1.", ".5",
    ".", "1e", "1e+", "9007199254740993", "9223372036854775807", "18446744073709551616", "0.1", "3.141592653589793238",
    "1_000", "(1", "4611686018427387904", "4503599627370497",
]  # fmt: skip
INTEGERS = [
    "0", "1", "-1", "2", "-2", "5", "-5", "100", "-100", "9223372036854775807", "-9223372036854775808",
    "9223372036854775808", "-9223372036854775807", "4611686018427387904", "abc", "''", "1.5", "+1", "01", "-0", "1e3",
]  # fmt: skip
BOUNDS = [
    "0", "1", "2", "3", "(1", "(3", "2.5", "-inf", "+inf", "inf", "(-inf", "(+inf", "nan", "(nan", "abc", "(", "''",
    "1e400", "-1e400", "((1", "[1", "0x2", "(0x2", "1x", " 1", "-0",
]  # fmt: skip
LEX_BOUNDS = [
    "-", "+", "[", "(", "[a", "(a", "[c", "(c", "[cc", "[z", "a", "''", "-a", "+a", "[-", "(+", "5", "[\xff", "--",
    "[c\0",
]  # fmt: skip
WRONG_TYPE = [
    "ZADD s 1 a", "ZADD s x a", "ZADD s INCR 1 a", "ZINCRBY s 1 a", "ZREM s a", "ZCARD s", "ZSCORE s a",
    "ZMSCORE s a b", "ZRANK s a", "ZREVRANK s a", "ZCOUNT s 0 1", "ZCOUNT s x 1", "ZLEXCOUNT s - +", "ZLEXCOUNT s a b",
    "ZRANGE s 0 -1", "ZRANGE s x 0", "ZRANGE s 0 1 BYSCORE", "ZRANGE s - + BYLEX", "ZRANGESTORE d s 0 -1",
    "ZRANGESTORE s z 0 -1", "ZREVRANGE s 0 -1", "ZRANGEBYSCORE s 0 1", "ZREVRANGEBYSCORE s 1 0", "ZRANGEBYLEX s - +",
    "ZREVRANGEBYLEX s + -", "ZREMRANGEBYRANK s 0 1", "ZREMRANGEBYRANK s x 1", "ZREMRANGEBYSCORE s 0 1",
    "ZREMRANGEBYLEX s - +", "ZPOPMIN s", "ZPOPMIN s 0", "ZPOPMIN s x", "ZPOPMAX s", "ZMPOP 1 s MIN", "ZMPOP 2 n s MAX",
    "ZMPOP 2 z s MIN", "ZRANDMEMBER s", "ZRANDMEMBER s 1", "ZRANDMEMBER s x", "ZSCAN s 0", "ZSCAN s x", "ZUNION 1 s",
    "ZUNION 2 s n", "ZUNION 2 n s WEIGHTS x", "ZINTER 2 n s", "ZDIFF 2 n s", "ZINTERCARD 2 n s", "ZUNIONSTORE d 1 s",
    "ZINTERSTORE d 2 n s", "ZDIFFSTORE d 2 n s", "ZUNIONSTORE s 1 z", "TYPE s",
]  # fmt: skip
MISSING = [
    "ZREM n a", "ZCARD n", "ZSCORE n a", "ZMSCORE n a b", "ZRANK n a", "ZREVRANK n a", "ZCOUNT n 0 1", "ZCOUNT n x 1",
    "ZLEXCOUNT n - +", "ZLEXCOUNT n x y", "ZRANGE n 0 -1", "ZRANGE n x 0", "ZRANGE n 0 -1 WITHSCORES",
    "ZRANGESTORE d n 0 -1", "ZREVRANGE n 0 -1", "ZRANGEBYSCORE n 0 1", "ZREVRANGEBYSCORE n 1 0", "ZRANGEBYLEX n - +",
    "ZREVRANGEBYLEX n + -", "ZREMRANGEBYRANK n 0 1", "ZREMRANGEBYRANK n x 1", "ZREMRANGEBYSCORE n 0 1",
    "ZREMRANGEBYLEX n - +", "ZPOPMIN n", "ZPOPMIN n 0", "ZPOPMIN n 5", "ZPOPMIN n -1", "ZPOPMAX n", "ZMPOP 1 n MIN",
    "ZMPOP 2 n m MAX COUNT 4", "ZRANDMEMBER n", "ZRANDMEMBER n 1", "ZRANDMEMBER n 0", "ZRANDMEMBER n -5 WITHSCORES",
    "ZSCAN n 0", "ZSCAN n 0 COUNT 0", "ZSCAN n 5 FOO", "ZSCAN n x", "ZUNION 1 n", "ZUNION 2 n n WITHSCORES",
    "ZINTER 2 n n", "ZDIFF 2 n n", "ZINTERCARD 2 n m", "ZUNIONSTORE d 1 n", "ZINTERSTORE d 2 n m", "ZDIFFSTORE d 2 n m",
    "ZADD n XX 1 a", "ZADD n XX INCR 1 a", "ZADD n XX CH 1 a 2 b", "EXISTS n d",
]  # fmt: skip


@pytest.fixture(params=["small", "large"])
def filled(request: pytest.FixtureRequest, pair: Pair) -> Lines:
    """Commands that fill `z` (scores that differ) and `y` (all alike): a listpack, or a skiplist in several pages."""
    count = 9 if request.param == "small" else 450
    names = [f"{chr(97 + place % 26)}{place // 26 or ''}" for place in range(count)]
    z: list[Argument] = ["ZADD", "z"]
    y: list[Argument] = ["ZADD", "y"]
    for place, name in enumerate(names):
        z += [str(place // 2 - 1 + (0.25 if place % 3 == 0 else 0)), name]
        y += ["7", name]
    return [z, y, "SET s text"]


def test_wrong_arity(pair: Pair) -> None:
    compare(*pair, WRONG_ARITY)


def test_wrong_type(pair: Pair, filled: Lines) -> None:
    compare(*pair, [*filled, *WRONG_TYPE])


def test_missing_keys(pair: Pair) -> None:
    compare(*pair, MISSING)


@pytest.mark.parametrize("options", [
    "", "NX", "XX", "GT", "LT", "CH", "INCR", "nx ch", "XX CH", "GT CH", "LT CH", "XX GT", "XX LT CH", "NX XX", "NX GT",
    "NX LT", "GT LT", "NX GT LT", "NX INCR", "XX INCR", "GT INCR", "LT INCR", "XX GT INCR", "INCR CH", "CH CH", "FOO",
    "NX XX GT LT CH INCR",
])  # fmt: skip
def test_zadd_options(pair: Pair, options: str, filled: Lines) -> None:
    lines = [f"ZADD z {options} {score} {member}" for score in ("1", "-5", "5", "inf") for member in ("a", "new", "b")]
    more = [
        f"ZADD z {options} 1 a 2 b", f"ZADD z {options} 1 a 2", f"ZADD z {options}", f"ZADD z {options} 1",
        f"ZADD z {options} x a", f"ZADD z {options} 1 p 2 p 3 q", f"ZADD fresh {options} 4 p",
        f"ZADD z {options} 1 a x b",
    ]  # fmt: skip
    compare(*pair, [*filled, *lines, *more, "ZRANGE z 0 -1 WITHSCORES", "ZRANGE fresh 0 -1 WITHSCORES"])


@pytest.mark.parametrize("size", ["small", "large"])
def test_scores(pair: Pair, size: str) -> None:
    first: Lines = [] if size == "small" else [["ZADD", "z", "1", "x" * 100], ["ZADD", "k", "1", "x" * 100]]
    lines: Lines = []
    for score in SCORES:
        lines += [
            f"ZADD z {score} m", "ZSCORE z m", f"ZADD k {score} m{score}", f"ZINCRBY z {score} i", "ZSCORE z i",
            f"ZADD z INCR {score} m", f"ZADD z {score} fresh{score}", f"ZMSCORE z m fresh{score} i none",
            f"ZINCRBY fresh {score} m", "DEL fresh",
        ]  # fmt: skip
    after: Lines = [
        "ZRANGE k 0 -1 WITHSCORES", "ZREVRANGE k 0 -1 WITHSCORES", "ZPOPMIN k", "ZPOPMAX k", "ZPOPMIN k 3",
        "ZRANGEBYSCORE k -inf +inf WITHSCORES", "ZRANGEBYSCORE k (-inf (inf", "OBJECT ENCODING k",
    ]  # fmt: skip
    compare(*pair, [*first, *lines, *after, *([] if size == "large" else ["ZSCAN k 0", "ZSCAN z 0"])])


def test_infinities_and_nan(pair: Pair) -> None:
    compare(
        *pair,
        [
            "ZADD z inf a -inf b", "ZINCRBY z -inf a", "ZINCRBY z inf b", "ZINCRBY z inf a", "ZADD z INCR -inf a",
            "ZADD z GT INCR -inf a", "ZADD w 1 x", "ZADD w -inf a inf b", "ZUNION 2 z w WITHSCORES",
            "ZINTER 2 z w WITHSCORES", "ZUNION 1 z WEIGHTS 0 WITHSCORES", "ZINTER 1 z WEIGHTS 0 WITHSCORES",
            "ZINTER 2 z w WEIGHTS 0 0 WITHSCORES", "ZINTER 2 z w WEIGHTS 1 0 AGGREGATE MIN WITHSCORES",
            "ZINTER 2 z w WEIGHTS 1 0 AGGREGATE MAX WITHSCORES", "ZUNION 2 z w WEIGHTS inf -inf WITHSCORES",
            "ZUNIONSTORE d 2 z w WEIGHTS 2 -inf", "ZRANGE d 0 -1 WITHSCORES", "ZRANGE z 0 -1 WITHSCORES",
        ],
    )  # fmt: skip


def test_members(pair: Pair, filled: Lines) -> None:
    lines: Lines = []
    for member in ("a", "b", "i", "nothing", "''", "a1", "b17"):
        lines += [f"ZSCORE z {member}", f"ZRANK z {member}", f"ZREVRANK z {member}", f"ZRANK y {member}"]
    lines += [
        "ZMSCORE z a b nothing a", "ZCARD z", "ZREM z a nothing a b", "ZCARD z", "ZRANK z c", "ZRANK z i",
        "ZINCRBY z 3 c", "ZRANK z c", "ZINCRBY z 0 c", "ZADD z 2 c", "ZADD z CH 2 c", "ZREM y a b c d e f g h i",
        "ZCARD y", "ZRANGE y 0 3", ["ZADD", "z", "1.5", "\0\r\n\xff"], ["ZSCORE", "z", "\0\r\n\xff"],
        ["ZADD", "z", "1.5", ""], ["ZRANK", "z", ""], ["ZREM", "z", ""],
    ]  # fmt: skip
    compare(*pair, [*filled, *lines])


def test_ranges_by_rank(pair: Pair, filled: Lines) -> None:
    lines = [f"{name} z {start} {stop}" for name in ("ZRANGE", "ZREVRANGE") for start in INTEGERS for stop in INTEGERS]
    edges = [f"ZRANGE z {a} {b} {o}" for a in ("0", "3", "-4") for b in ("-1", "3", "5") for o in (
        "REV", "WITHSCORES", "rev withscores", "REV REV", "LIMIT 0 1", "LIMIT 0 -1", "LIMIT 3 -1", "LIMIT x 1",
        "LIMIT 1",
        "LIMIT", "FOO", "WITHSCORES WITHSCORES", "BYSCORE", "BYLEX", "BYSCORE BYLEX", "BYLEX BYLEX", "BYLEX WITHSCORES",
        "BYSCORE LIMIT 1 2 REV WITHSCORES", "LIMIT 0 1 BYSCORE",
    )]  # fmt: skip
    more = [
        "ZREVRANGE z 0 3 WITHSCORES", "ZREVRANGE z 0 3 REV", "ZREVRANGE z 0 3 BYSCORE", "ZREVRANGE z 0 3 LIMIT 0 1",
        "ZREVRANGE z 0 3 LIMIT 0 -1", "ZREVRANGE z 0 3 FOO", "ZRANGE z 0 -1 WITHSCORES", "ZREVRANGE z 0 -1 WITHSCORES",
    ]  # fmt: skip
    compare(*pair, [*filled, *lines, *edges, *more])


def test_ranges_by_score(pair: Pair, filled: Lines) -> None:
    lines: Lines = []
    for low in BOUNDS:
        for high in BOUNDS:
            lines += [["ZRANGEBYSCORE", "z", low.strip("'"), high.strip("'")], ["ZCOUNT", "z",
            low.strip("'"), high.strip("'")]]
        lines += [
            f"ZREVRANGEBYSCORE z +inf {low.strip() or 0}", f"ZRANGE z {low.strip() or 0} 3 BYSCORE WITHSCORES",
            f"ZRANGE z 3 {low.strip() or 0} BYSCORE REV", f"ZRANGE y {low.strip() or 0} 7 BYSCORE LIMIT 1 2",
        ]  # fmt: skip
    for option in ("WITHSCORES", "REV", "BYSCORE", "BYLEX", "LIMIT 1", "LIMIT 1 2 3", "FOO", "LIMIT x 1", "LIMIT 1 x"):
        lines += [f"ZRANGEBYSCORE z 0 3 {option}", f"ZREVRANGEBYSCORE z 3 0 {option}"]
    for offset in INTEGERS:
        for count in ("0", "2", "-1", "-5", "9223372036854775807", "-9223372036854775808"):
            lines += [f"ZRANGEBYSCORE z 0 3 LIMIT {offset} {count}", f"ZREVRANGEBYSCORE z 3 0 LIMIT {offset} {count}"]
    compare(*pair, [*filled, *lines])


def test_ranges_by_member(pair: Pair, filled: Lines) -> None:
    lines: Lines = []
    for low in LEX_BOUNDS:
        for high in LEX_BOUNDS:
            one, other = low.strip("'"), high.strip("'")
            lines += [["ZRANGEBYLEX", "y", one, other], ["ZLEXCOUNT", "y", one, other], ["ZREVRANGEBYLEX", "y",
            one, other]]
        lines += [["ZRANGE", "y", low.strip("'"), "[f", "BYLEX"], ["ZRANGE", "y", "[f", low.strip("'"), "BYLEX", "REV"]]
    for option in ("WITHSCORES", "REV", "BYLEX", "LIMIT 1", "FOO", "LIMIT x 1", "LIMIT 2 2", "LIMIT -1 2",
    "LIMIT 0 -3"):
        lines += [f"ZRANGEBYLEX y [b [f {option}", f"ZREVRANGEBYLEX y [f [b {option}"]
    compare(*pair, [*filled, *lines])


@pytest.mark.parametrize("name", ["ZREMRANGEBYRANK", "ZREMRANGEBYSCORE", "ZREMRANGEBYLEX"])
def test_removal_of_ranges(pair: Pair, filled: Lines, name: str) -> None:
    bounds = {"ZREMRANGEBYRANK": INTEGERS, "ZREMRANGEBYSCORE": BOUNDS, "ZREMRANGEBYLEX": LEX_BOUNDS}[name]
    lines: Lines = []
    for place, low in enumerate(bounds):
        for high in bounds[place % 4 :: 4]:
            lines += [[name, "y" if name.endswith("LEX") else "z", low.strip("'"), high.strip("'")], "ZCARD z",
            "ZCARD y"]
        lines += [*filled[:2], "ZRANGE z 0 -1 WITHSCORES"]
    whole = {"ZREMRANGEBYRANK": "0 -1", "ZREMRANGEBYSCORE": "-inf inf", "ZREMRANGEBYLEX": "- +"}[name]
    compare(*pair, [*filled, *lines, f"{name} y {whole}", "EXISTS y", f"{name} y {whole}"])


def test_zrangestore(pair: Pair, filled: Lines) -> None:
    lines: Lines = []
    for words in (
        "0 -1", "0 3", "3 1", "5 1000", "x 1", "0 2 REV", "0 2 BYSCORE", "2 0 BYSCORE REV", "0 inf BYSCORE LIMIT 1 2",
        "- + BYLEX", "0 2 WITHSCORES", "0 1 LIMIT 0 1", "0 1 FOO", "- + BYLEX LIMIT 2 3",
        "inf -inf BYSCORE REV LIMIT 0 2",
    ):  # fmt: skip
        lines += [f"ZRANGESTORE d z {words}", "ZRANGE d 0 -1 WITHSCORES", "OBJECT ENCODING d",
        f"ZRANGESTORE s y {words}"]
    compare(*pair, [*filled, *lines, "ZRANGESTORE z z 1 2", "ZRANGE z 0 -1", "ZRANGESTORE z n 0 -1", "EXISTS z"])


@pytest.mark.parametrize("name", ["ZPOPMIN", "ZPOPMAX"])
def test_pops(pair: Pair, filled: Lines, name: str) -> None:
    lines = [f"{name} z {count}" for count in ["", "1", "2", "0", "3", *INTEGERS[12:]]]
    lines += [f"{name} y", f"{name} z -1", f"{name} z 100", f"{name} z", f"{name} z 1000", "EXISTS z", f"{name} z"]
    compare(*pair, [*filled, "EXPIRE z 1000", *lines, "TTL z"])


def test_zmpop(pair: Pair, filled: Lines) -> None:
    lines = [f"ZMPOP 1 z MIN COUNT {count}" for count in INTEGERS if len(count) < 4]
    lines += [
        "ZMPOP 1 y MIN", "ZMPOP 1 y max", "ZMPOP 2 n y MIN COUNT 2", "ZMPOP 2 y z MAX COUNT 3", "ZMPOP 0 z MIN",
        "ZMPOP -1 z MIN", "ZMPOP x z MIN", "ZMPOP 2 z MIN", "ZMPOP 3 z MIN", "ZMPOP 1 z", "ZMPOP 1 z FOO",
        "ZMPOP 1 z MIN COUNT", "ZMPOP 1 z MIN COUNT 1 COUNT 1", "ZMPOP 1 z MIN FOO 1", "ZMPOP 1 z MIN COUNT 1 FOO",
        "ZMPOP 9223372036854775807 z MIN", "ZMPOP 1 z MAX COUNT 1000", "ZMPOP 1 z MAX", "EXISTS z",
    ]  # fmt: skip
    compare(*pair, [*filled, *lines])


def test_zrandmember_errors_and_whole_sets(pair: Pair, filled: Lines) -> None:
    lines = [f"ZRANDMEMBER z {count} {more}" for count in ("x", "''", "1.5", "-9223372036854775808",
             "9223372036854775808") for more in ("", "WITHSCORES", "FOO")]  # fmt: skip
    lines += [
        "ZRANDMEMBER z 0", "ZRANDMEMBER z 0 WITHSCORES", "ZRANDMEMBER z 1 FOO", "ZRANDMEMBER z 1 WITHSCORES FOO",
        "ZRANDMEMBER z -9223372036854775807 WITHSCORES", "ZRANDMEMBER z 4611686018427387904 WITHSCORES",
        "ZADD one 1.5 a", "ZRANDMEMBER one", "ZRANDMEMBER one 1", "ZRANDMEMBER one 5 WITHSCORES",
        "ZRANDMEMBER one -3", "ZRANDMEMBER one -3 withscores", "ZRANDMEMBER one 9223372036854775807",
    ]  # fmt: skip
    compare(*pair, [*filled, *lines])


def test_zscan(pair: Pair) -> None:
    lines: Lines = [
        "ZADD z 1 a 2.5 b 1e17 c inf d -1e300 e 0.1 f 4611686018427387903 g 4e18 h 5e18 i", "ZSCAN z 0",
        "ZSCAN z 0 MATCH a*", "ZSCAN z 0 COUNT 1", "ZSCAN z 0 COUNT 0", "ZSCAN z 0 COUNT x", "ZSCAN z 0 COUNT",
        "ZSCAN z 0 MATCH", "ZSCAN z 0 FOO 1", "ZSCAN z x", "ZSCAN z 99 MATCH * COUNT 5", "ZSCAN z 0 COUNT 5 MATCH [bc]",
        "ZSCAN z 0 TYPE zset", "ZSCAN z ''", "ZSCAN z 18446744073709551616", "ZSCAN z 0 COUNT -1",
    ]  # fmt: skip
    compare(*pair, lines)


ALGEBRA = ["ZUNION", "ZINTER", "ZDIFF", "ZINTERCARD", "ZUNIONSTORE d", "ZINTERSTORE d", "ZDIFFSTORE d"]
ALGEBRA_WORDS = [
    "1 z", "2 z y", "2 y z", "3 z y z", "2 z n", "2 n z", "2 z set", "2 set z", "2 set set", "0 z", "-1 z", "x z",
    "2 z",
    "5 z y", "9223372036854775807 z", "2 z y WITHSCORES", "2 z y withscores withscores", "2 z y WEIGHTS 2 3",
    "2 z y WEIGHTS 2 3 WITHSCORES", "2 z y WEIGHTS 2", "2 z y WEIGHTS", "2 z y WEIGHTS 2 x", "2 z y WEIGHTS 2 nan",
    "2 z y WEIGHTS -1 0.5 AGGREGATE MIN WITHSCORES", "2 z y AGGREGATE MAX WITHSCORES", "2 z y AGGREGATE SUM",
    "2 z y AGGREGATE", "2 z y AGGREGATE FOO", "2 z y WEIGHTS 2 3 4", "2 z y FOO", "2 z y LIMIT 1", "2 z y LIMIT 0",
    "2 z y LIMIT -1", "2 z y LIMIT x", "2 z y LIMIT", "2 z y LIMIT 3 LIMIT 2", "2 z set WEIGHTS 0.1 0.7 WITHSCORES",
    "3 f1 f2 f3 WITHSCORES", "3 f3 f1 f2 WITHSCORES", "3 f1 f2 f3", "2 z y AGGREGATE MIN AGGREGATE MAX WITHSCORES",
    "2 z y WITHSCORES WEIGHTS 1 2", "2 z y LIMIT 1 WITHSCORES", "2 z s WEIGHTS x x", "2 z y WEIGHTS 0x2 1e400",
    "2 z y WEIGHTS inf -inf WITHSCORES",
]  # fmt: skip


@pytest.mark.parametrize("name", ALGEBRA)
def test_algebra(pair: Pair, filled: Lines, name: str) -> None:
    setting: Lines = [
        "ZREM y a", "SADD set a b c 12 nothing", "ZADD f1 0.1 p 0.2 q", "ZADD f2 0.2 p 0.3 q 1 r",
        "ZADD f3 1e16 p -0.5 q 2 r 3 t",
    ]  # fmt: skip
    lines: Lines = []
    for words in ALGEBRA_WORDS:
        lines.append(f"{name} {words}")
        if name.endswith("d"):
            lines += ["ZRANGE d 0 -1 WITHSCORES", "OBJECT ENCODING d", "TYPE d"]
    compare(*pair, [*filled, *setting, *lines, f"{name} 1 n", "EXISTS d"])


def test_encodings(pair: Pair) -> None:
    many: list[Argument] = ["ZADD", "z"]
    for place in range(128):
        many += [str(place), f"m{place}"]
    compare(
        *pair,
        [
            many, "OBJECT ENCODING z", "ZADD z 5 m5", "ZADD z 6 m5", "OBJECT ENCODING z", "ZADD z 1 other",
            "OBJECT ENCODING z", "ZREM z other", "OBJECT ENCODING z", "ZUNIONSTORE d 1 z", "OBJECT ENCODING d",
            ["ZADD", "long", "1", "x" * 64], "OBJECT ENCODING long", ["ZADD", "long", "1", "x" * 65],
            "OBJECT ENCODING long", ["ZREM", "long", "x" * 65], "OBJECT ENCODING long", "ZRANGESTORE d long 0 -1",
            "OBJECT ENCODING d", "COPY long again", "OBJECT ENCODING again", "ZADD long -0 zero", "ZSCORE long zero",
            "ZUNIONSTORE d 1 long", "ZSCORE d zero", "RENAME long moved", "ZRANGE moved 0 -1 WITHSCORES",
        ],
    )  # fmt: skip


def test_many_members_at_once(pair: Pair) -> None:
    lines: Lines = []
    for count in (100, 129, 130, 400):
        line: list[Argument] = ["ZADD", "z"]
        for place in range(count):
            line += ["-0" if place % 3 else str(place % 7), f"m{place * 7 % (count - 9)}"]
        lines += ["DEL z", line, "ZRANGE z 0 -1 WITHSCORES", "OBJECT ENCODING z", line, "ZCARD z"]
        lines += ["DEL z", [*line[:2], "CH", *line[2:]], "ZRANGE z 0 -1 WITHSCORES", [*line[:2], "GT", "CH", *line[2:]]]
        lines += ["DEL z", [*line, "1", "x" * 70], "OBJECT ENCODING z", "ZCARD z"]
    compare(*pair, lines)


def test_expiry_is_kept(pair: Pair) -> None:
    compare(
        *pair,
        [
            "ZADD z 1 a 2 b 3 c", "EXPIRE z 1000", "ZADD z 4 d", "TTL z", "ZREM z a", "TTL z", "ZREMRANGEBYRANK z 0 0",
            "TTL z", "ZINCRBY z 1 d", "TTL z", "ZUNIONSTORE z 1 z", "TTL z", "EXPIRE z 1000", "ZPOPMIN z 5",
            "ZADD z 1 a",
            "TTL z",
        ],
    )  # fmt: skip


def test_long_replies(pair: Pair) -> None:
    """Those that leave in slices and pieces."""
    ours, real = pair
    fill: list[Argument] = ["ZADD", "z"]
    for place in range(3000):
        fill += [str(place % 100 + place / 7), f"m{place}"]
    asked = [f"m{place}" for place in range(2000, 4000)]
    lines: Lines = [
        fill, "ZRANGE z 0 -1", "ZRANGE z 0 -1 WITHSCORES", "ZREVRANGE z 5 2500 WITHSCORES", "ZRANGE z (3 inf BYSCORE",
        "ZRANGEBYSCORE z 5 400 WITHSCORES LIMIT 100 1500", "ZREVRANGEBYSCORE z 400 5 LIMIT 100 1500",
        ["ZMSCORE", "z", *asked], "ZADD y 1 m1 5 m2999", "ZUNION 2 z y WITHSCORES", "ZUNION 2 z y", "ZINTER 2 z y",
        "ZDIFF 2 z y WITHSCORES", "ZINTERCARD 2 z z", "ZINTERCARD 2 z z LIMIT 1200", "ZUNIONSTORE d 2 z y",
        "ZRANGE d 0 -1 WITHSCORES", "ZRANGESTORE d z 100 2600", "ZRANGE d 0 -1", "ZREMRANGEBYRANK z 500 2499",
        "ZRANGE z 0 -1 WITHSCORES", "ZPOPMAX z 700", "ZCARD z", "ZPOPMIN z 1000", "EXISTS z", fill,
        "MULTI", "ZRANGE z 0 -1 WITHSCORES", "EXEC",
    ]  # fmt: skip
    if not isinstance(ours, Connection):
        lines = [line for line in lines if line not in ("MULTI", "EXEC")]
    compare(ours, real, lines)
    for argv in ("ZRANDMEMBER z -2000", "ZRANDMEMBER z 2000", "ZRANDMEMBER z 2000 WITHSCORES"):
        got, expected = (backend.execute(argv.encode().split()) for backend in pair)
        assert got.split(b"\r\n")[0] == expected.split(b"\r\n")[0]
        members = [part for part in got.split(b"\r\n") if part.startswith(b"m")]
        assert len(members) == 2000
        assert "-" in argv or len(set(members)) == 2000
