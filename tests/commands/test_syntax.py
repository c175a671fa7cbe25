"""The grammar of syntax strings, key specifications and the table's own rules."""

from __future__ import annotations

import pytest

from tests.support.differential import Connection
from zattredis.commands.keyspec import KEYS_ALL, KEYS_PAIRS, KEYS_TWO, KeyPart, KeySpec
from zattredis.commands.syntax import Argument, parse, usage
from zattredis.commands.table import CommandSpec, Flag, Kind, UnknownSubcommand, WrongArity, all_specs, command, resolve


def token(name: str, **more: str) -> Argument:
    return Argument(name.lower(), "pure-token", name, **more)


@pytest.mark.parametrize(
    ("syntax", "expected"),
    [
        ("", ()),
        ("key", (Argument("key", "key"),)),
        ("numkeys key ...", (Argument("numkeys", "integer"), Argument("key", "key", multiple=True))),
        ("key [key ...]", (Argument("key", "key", multiple=True),)),
        ("[event ...]", (Argument("event", "string", optional=True, multiple=True),)),
        ("value:double@1.2.3~4.5.6", (Argument("value", "double", since="1.2.3", until="4.5.6"),)),
        ('"a:b/c"', (Argument("a:b/c", "string"),)),
        ("[NX | XX]", (Argument("nx_xx", "oneof", optional=True, arguments=(token("NX"), token("XX"))),)),
        ("c=[NX | XX]@2.0.0",
         (Argument("c", "oneof", since="2.0.0", optional=True, arguments=(token("NX"), token("XX"))),)),
        ("[GET@6.2.0]", (Argument("get", "pure-token", "GET", "6.2.0", optional=True),)),
        ("[EX seconds]", (Argument("seconds", "integer", "EX", optional=True),)),
        ("LIMIT offset count",
         (Argument("offset_count", "block", "LIMIT",
                   arguments=(Argument("offset", "integer"), Argument("count", "integer"))),)),
        ("[TYPE <A | B>]", (Argument("a_b", "oneof", "TYPE", optional=True, arguments=(token("A"), token("B"))),)),
        ("key value [key value ...]",
         (Argument("key_value", "block", multiple=True,
                   arguments=(Argument("key", "key"), Argument("value", "string"))),)),
        ("[T x [T x ...]]", (Argument("x", "string", "T", optional=True, multiple=True, multiple_token=True),)),
        ("[T x [x ...]]", (Argument("x", "string", "T", optional=True, multiple=True),)),
        ("id=[ID x [x ...]]",
         (Argument("id", "block", "ID", optional=True, arguments=(Argument("x", "string", multiple=True),)),)),
        ("p=<p v> [p=<p v> ...]",
         (Argument("p", "block", multiple=True, arguments=(Argument("p", "string"), Argument("v", "string"))),)),
        ("[COUNT count [ANY]]",
         (Argument("count_any", "block", optional=True,
                   arguments=(Argument("count", "integer", "COUNT"),
                              Argument("any", "pure-token", "ANY", optional=True))),)),
    ],
)  # fmt: skip
def test_parse(syntax: str, expected: tuple[Argument, ...]) -> None:
    assert parse(syntax) == expected


@pytest.mark.parametrize("syntax", ["[", "[a", "a]", "<a]", "[]", "a | b", "< >", "a:b:c"])
def test_parse_refuses_what_is_no_syntax(syntax: str) -> None:
    with pytest.raises(ValueError, match="syntax"):
        parse(syntax)


def test_usage_is_what_a_reader_sees() -> None:
    assert usage("key value c=[NX | XX]@2.6.12 [GET@6.2.0] e=[EX@2.6.12 seconds:integer | KEEPTTL]") == (
        "key value [NX | XX] [GET] [EX seconds | KEEPTTL]"
    )
    assert usage('"ip:port"~2.8.12 key [key ...]') == "ip:port key [key ...]"


@pytest.mark.parametrize("spec", all_specs(), ids=lambda spec: spec.full_name)
def test_every_syntax_parses_and_shows_no_marks(spec: CommandSpec) -> None:
    parse(spec.syntax)
    assert not set('=@~"') & set(usage(spec.syntax))


PARTS = {
    "GET": (KeyPart("RO", 1), "k"),
    "MSET": (KeyPart("OW", 1, last=-1, step=2), "a 1 b 2 c 3"),
    "LCS": (KeyPart("RO", 1, last=1), "a b"),
    "EVAL": (KeyPart("RW", 2, number_index=0, first_key=1), "script 2 a b c"),
    "ZUNION": (KeyPart("RO", 1, number_index=0, first_key=1), "2 a b WEIGHTS 1 2"),
    "XREAD": (KeyPart("RO", keyword=b"STREAMS", start_from=1, last=-1, limit=2), "COUNT 1 streams a b 0 0"),
    "BLPOP": (KeyPart("RW", 1, last=-2), "a b c 0"),
}


@pytest.mark.parametrize("name", PARTS)
def test_key_parts_find_what_redis_finds(real: Connection, name: str) -> None:
    part, line = PARTS[name]
    argv = [name.encode(), *line.encode().split()]
    places = part.find(argv)
    assert places is not None
    found = b"".join(b"$%d\r\n%b\r\n" % (len(argv[place]), argv[place]) for place in places)
    assert real.execute([b"COMMAND", b"GETKEYS", *argv]) == b"*%d\r\n" % len(places) + found


@pytest.mark.parametrize(
    ("part", "line"),
    [
        (KeyPart("RO", 2, number_index=0, first_key=1), "EVAL script x a"),
        (KeyPart("RO", 2, number_index=0, first_key=1), "EVAL script 5 a"),
        (KeyPart("RO", 2, number_index=0, first_key=1), "EVAL script"),
        (KeyPart("RO", keyword=b"STREAMS", start_from=1, last=-1, limit=2), "XREAD COUNT 1"),
        (KeyPart("RO", unknown=True), "SORT a"),
        (KeyPart("RO", 3), "GET a"),
    ],
)
def test_key_parts_that_find_nothing(part: KeyPart, line: str) -> None:
    assert part.find(line.encode().split()) is None


def test_a_keyword_is_searched_backwards_from_a_negative_start() -> None:
    part = KeyPart("RW", keyword=b"KEYS", start_from=-2, last=-1)
    argv = b"MIGRATE host 1 keys 0 10 KEYS a b".split()
    assert part.find(argv) == [7, 8]


def test_key_spec_and_its_part_agree() -> None:
    argv = b"X a 1 b 2".split()
    for spec in (KEYS_ALL, KEYS_PAIRS, KEYS_TWO, KeySpec(2, -2, 1)):
        places = spec.part("RO").find(argv)
        assert places is not None
        assert spec.keys(argv) == [argv[place] for place in places]


def test_resolve_finds_subcommands_in_any_case_and_checks_arity() -> None:
    assert resolve([b"client", b"Id"]).full_name == "client|id"
    assert resolve([b"Command"]).full_name == "command"
    with pytest.raises(UnknownSubcommand):
        resolve([b"CLIENT", b"NOTHING"])
    with pytest.raises(WrongArity, match="'client' command"):
        resolve([b"CLIENT"])
    with pytest.raises(WrongArity, match=r"'client\|id' command"):
        resolve([b"CLIENT", b"ID", b"x"])


def test_a_command_cannot_be_defined_twice() -> None:
    with pytest.raises(ValueError, match="PING is defined twice"):
        command("PING", arity=1, flags=Flag.FAST, group="connection", since="1.0.0")(lambda _ctx: None)
    with pytest.raises(ValueError, match="CLIENT ID is defined twice"):
        command("CLIENT ID", arity=2, flags=Flag.FAST, group="connection", since="1.0.0")(lambda _ctx: None)


def test_kinds_follow_from_flags() -> None:
    kinds = {spec.full_name: spec.kind for spec in all_specs()}
    assert kinds["get"] is Kind.READ
    assert kinds["set"] is Kind.WRITE
    assert kinds["lolwut"] is kinds["client|id"] is kinds["multi"] is Kind.LOCAL
