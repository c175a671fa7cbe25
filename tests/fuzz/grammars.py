"""Inputs of every kind, drawn from a `random.Random` (a seeded one, or hypothesis's)."""

from __future__ import annotations

import functools
import json
import random
import struct
from typing import Any

import msgspec

from tests.support.differential import InProcess, words
from zattredis.commands.table import COMMANDS, CommandSpec, Kind
from zattredis.config.settings import SETTINGS
from zattredis.keyspace.crc64 import crc64
from zattredis.peer.fragments import FRAGMENT_BYTES_MAX
from zattredis.peer.wire import NUMBERS, encode_frame, frame_header

NUMBERS_OF_NOTE = (
    b"0", b"1", b"-1", b"2", b"10", b"00", b"-0", b"+1", b" 1", b"1 ", b"1e3", b"inf", b"-inf", b"nan", b"0x10", b"",
    b"127", b"128", b"255", b"256", b"65535", b"65536", b"2147483647", b"2147483648", b"-2147483649", b"4294967296",
    b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808", b"18446744073709551616", b"1" * 40,
    b"3.14", b"-.5", b"5.", b"1.7976931348623157e308", b"4.9e-324",
)  # fmt: skip

Random = random.Random


def some_bytes(rng: Random, size_max: int = 20) -> bytes:
    """Any bytes."""
    return bytes(rng.randrange(256) for _ in range(rng.randrange(size_max + 1)))


def mutated(rng: Random, data: bytes) -> bytes:
    """The same, with a few bytes flipped, cut, doubled or put in."""
    out = bytearray(data)
    for _ in range(rng.choice([0, 1, 1, 2, 4])):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(6)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at:at] = some_bytes(rng, 4)
        elif kind == 2:
            del out[at : at + rng.randrange(1, 8)]
        elif kind == 3:
            out[at:at] = out[at : at + rng.randrange(1, 32)]
        elif kind == 4:
            out[at : at + 1] = rng.choice([b"\r\n", b"\r", b"\n", b"\0", b"$", b"*", b"-1", b"99999999999999999999"])
        else:
            del out[at:]
    return bytes(out)


# --- RESP -------------------------------------------------------------------------------------------------------------


def resp(rng: Random) -> bytes:
    """A stream of requests, inline ones among them, wrong here and there."""
    parts = [_request(rng) for _ in range(rng.choice([1, 1, 2, 5]))]
    data = b"".join(parts)
    return mutated(rng, data) if rng.random() < 0.7 else data


def _request(rng: Random) -> bytes:
    kind = rng.randrange(10)
    if kind == 0:
        return rng.choice([b"PING", b"SET a 'b c'", b'ECHO "\\x41\\n"', b"", b"GET 'a", b'"']) + rng.choice(
            [b"\r\n", b"\n"]
        )
    if kind == 1:
        return rng.choice([b"*0\r\n", b"*-1\r\n", b"*", b"*1\r\n", b"*1048577\r\n", b"*2147483648\r\n", b"\r\n", b"\n"])
    if kind == 2:
        return some_bytes(rng, 40)
    arguments = [_argument(rng) for _ in range(rng.choice([1, 2, 3, 3, 8]))]
    data = b"*%d\r\n" % (len(arguments) + rng.choice([0, 0, 0, 0, 1, -1]))
    for argument in arguments:
        data += b"$%d\r\n%s\r\n" % (len(argument) + rng.choice([0, 0, 0, 0, 0, 0, 1, -1, 600]), argument)
    return data


def _argument(rng: Random) -> bytes:
    return rng.choice([b"GET", b"", b"\r\n", b"$3\r\nfoo\r\n", b"*1\r\n", b"x" * 70, b"y" * 700, some_bytes(rng)])


# --- frames between nodes ---------------------------------------------------------------------------------------------


def frames(rng: Random) -> bytes:
    """Frames: right, with a wrong body under right checksums, damaged, or none at all."""
    return b"".join(_frame(rng) for _ in range(rng.choice([1, 1, 2, 4])))


def _frame(rng: Random) -> bytes:
    kind = rng.randrange(10)
    if kind == 0:
        return some_bytes(rng, 60)
    number = rng.choice([*NUMBERS.values(), 0, 63, 127, 200, 253, 254, 255])
    if kind < 4:
        return mutated(rng, encode_frame(_message(rng)))
    if kind < 8:  # checksums that fit: the body itself is what is wrong
        message = _message(rng)
        body = mutated(rng, msgspec.msgpack.encode(message))
        if rng.random() < 0.4:
            body = msgspec.msgpack.encode([_field(rng) for _ in range(rng.randrange(10))])
        return frame_header(rng.choice([NUMBERS[type(message)], number]), body) + body
    return _fragments(rng, number)


_RIGHT: dict[str, Any] = {
    str(str): lambda rng: rng.choice(["n1", "n2", "", "x" * 100]),
    str(int): lambda rng: rng.choice([0, 1, 7, 1 << 40, (1 << 63) - 1]),
    str(bool): lambda rng: rng.random() < 0.5,
    str(bytes): lambda rng: some_bytes(rng, 40),
    str(list[bytes]): lambda rng: [some_bytes(rng) for _ in range(rng.randrange(4))],
}


def _message(rng: Random) -> Any:
    kind = rng.choice(list(NUMBERS))
    return kind(*(_RIGHT.get(str(field.type), _RIGHT[str(int)])(rng) for field in msgspec.structs.fields(kind)))


def _field(rng: Random) -> Any:
    return rng.choice(
        [
            "n1", "n2", 0, 1, -1, 7, 1 << 63, (1 << 64) - 1, True, False, b"", b"\0payload", [], [b"entry", b""], None,
            "x" * 200, 1.5, [[]], {},
        ]
    )  # fmt: skip


def _fragments(rng: Random, number: int) -> bytes:
    """A message in fragments whose announced lengths are right, or not."""
    skeleton = msgspec.msgpack.encode(["n1", "n2", 1, msgspec.msgpack.Ext(1, struct.pack(">Q", rng.choice([0, 3, 9])))])
    blob = some_bytes(rng, 9)
    total = rng.choice([len(skeleton) + len(blob), 0, 5, 1 << 40, (1 << 64) - 1])
    first = struct.pack(">BIQ", number & 0xFF, rng.choice([len(skeleton), 0, 1 << 31]), total) + skeleton
    pieces = [(254, first), (255, blob)]
    if rng.random() < 0.3:
        rng.shuffle(pieces)
    return b"".join(frame_header(one, piece[:FRAGMENT_BYTES_MAX]) + piece for one, piece in pieces)


# --- settings ---------------------------------------------------------------------------------------------------------


def setting_text(rng: Random) -> str:
    """What somebody may write for a setting."""
    return rng.choice(
        [
            "", "0", "-1", "1", "6379", "70000", "1k", "64mb", "1gib", "999999999999999999999", "true", "yes", "no",
            "nan", "n1", "n1=127.0.0.1:6379", "n1=127.0.0.1:6379,n2=[::1]:6380", "n1=", "=,=", "127.0.0.1", "::1",
            "[::1]:1", "localhost:port", "*", "/tmp", "../..", "\0", "é", "a" * 300, ",", " ", "info", "debug",
            "1.5", "1e9", "0x10", some_bytes(rng).decode("latin-1"),
        ]
    )  # fmt: skip


def settings(rng: Random) -> tuple[dict[str, str], dict[str, str], str]:
    """Flags, environment, and the text of a settings file (TOML, or the JSON of zatt)."""
    names = list(SETTINGS)
    flags = {rng.choice(names): setting_text(rng) for _ in range(rng.randrange(4))}
    environ = {f"ZATTREDIS_{rng.choice(names).upper()}": setting_text(rng) for _ in range(rng.randrange(3))}
    if rng.random() < 0.2:
        environ[f"ZATTREDIS_{setting_text(rng)}"] = "1"
    return flags, environ, _settings_file(rng, names)


def _settings_file(rng: Random, names: list[str]) -> str:
    kind = rng.randrange(4)
    if kind == 0:
        return some_bytes(rng, 60).decode("latin-1")
    if kind == 1:
        value = rng.choice([1, "x", None, [], {"n1": ["127.0.0.1", 1]}, {"cluster": {"0": ["127.0.0.1", 9110]}}, True])
        return mutated(rng, json.dumps({rng.choice(["cluster", "storage", "debug", "x"]): value}).encode()).decode(
            "latin-1"
        )
    lines = []
    for _ in range(rng.randrange(5)):
        spec = SETTINGS[rng.choice(names)]
        if rng.random() < 0.5:
            lines.append(f"[{spec.section}]")
        value = rng.choice([json.dumps(setting_text(rng)), str(rng.randrange(-5, 1 << 40)), "true", "[]", "{}", "1.5"])
        lines.append(f"{spec.name} = {value}")
    text = "\n".join(lines)
    return mutated(rng, text.encode()).decode("latin-1") if rng.random() < 0.4 else text


# --- commands ---------------------------------------------------------------------------------------------------------

_LEFT_OUT = {"RESTORE"}  # has a grammar of its own


def command_specs() -> list[CommandSpec]:
    """Every command that handlers alone can carry out."""
    found = [
        one
        for spec in COMMANDS.values()
        for one in (spec, *spec.subcommands.values())
        if one.kind != Kind.LOCAL and not one.subcommands and not one.blocking and one.name not in _LEFT_OUT
    ]
    return sorted(found, key=lambda one: one.full_name)


SPECS = command_specs()
_WORDS_OF_SYNTAX: dict[str, list[bytes]] = {
    spec.full_name: sorted({
        word.strip("[]|").split("@")[0].encode() for word in spec.syntax.replace("|", " ").split() if word.isupper()
    } | {b"key"})
    for spec in SPECS
}  # fmt: skip


def commands(rng: Random) -> list[list[bytes]]:
    """Some command lines that build on each other: a few keys, arguments of every kind, options of their syntax."""
    return [_command(rng) for _ in range(rng.choice([3, 10, 20]))]


def _command(rng: Random) -> list[bytes]:
    spec = rng.choice(SPECS)
    words = [word.encode() for word in spec.name.split()]
    if spec.parent is not None and len(words) == 1:
        words = [spec.parent.name.encode(), *words]
    least = abs(spec.arity) - len(words)
    count = least if spec.arity > 0 and rng.random() < 0.9 else max(0, least + rng.choice([0, 0, 1, 2, 3, 6, -1]))
    options = _WORDS_OF_SYNTAX[spec.full_name]
    for position in range(count):
        if position == 0 and rng.random() < 0.8:
            words.append(rng.choice([b"k0", b"k1", b"k2", b"k3"]))
        else:
            words.append(_value(rng, options))
    return words


def _value(rng: Random, options: list[bytes]) -> bytes:
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice(options)
    if kind in (1, 2):
        return rng.choice(NUMBERS_OF_NOTE)
    if kind == 3:
        return rng.choice([b"k0", b"k1", b"k2", b"k3"])
    if kind == 4:
        return rng.choice(
            [b"a", b"b", b"m", b"f1", b"*", b"[a-", b"(1", b"[a", b"+", b"-", b"u8", b"i64", b"#1", b"LEFT"]
        )
    return some_bytes(rng, 30)


# --- RESTORE ----------------------------------------------------------------------------------------------------------


@functools.cache
def dumps() -> list[bytes]:
    """Bodies of dumps, without version and checksum, of values of every type, small and large."""
    server = InProcess(now_ms=1_700_000_000_000)
    made = []
    for line in (
        "SET k value", "SET k 12345", f"SET k {'z' * 3000}", "RPUSH k a 1 2 3 -70000", "SADD k 1 2 3", "SADD k a b c",
        "HSET k f v g 1", "ZADD k 1 a 2.5 b", f"RPUSH k {' '.join(map(str, range(700)))}",
        f"SADD k {' '.join(f'm{i}' for i in range(700))}", f"ZADD k {' '.join(f'{i} m{i}' for i in range(300))}",
        f"HSET k {' '.join(f'f{i} {i}' for i in range(700))}", "PFADD k a b c",
    ):  # fmt: skip
        server.execute([b"DEL", b"k"])
        server.execute(words(line))
        dump = server.call("DUMP", "k")
        if dump is not None:
            made.append(bytes(dump)[:-10])
    # What Redis 7.0 writes where this server writes something else, and what older ones wrote.
    made += [
        b"\x00\xc3\x09\x40\x64\x01zz\xe0\x57\x00\x01zz",
        b"\x01\x02\x01a\x01b",
        b"\x02\x01\x01a",
        b"\x03\x01\x01a\x011",
    ]
    made += [bytes([kind]) + b"\x05hello" for kind in range(24)]
    return made


def restore(rng: Random) -> bytes:
    """A payload for RESTORE: a dump with a few wrong bytes under a right checksum, mostly."""
    body = mutated(rng, rng.choice(dumps()))
    if rng.random() < 0.1:
        body = bytes([rng.randrange(32)]) + some_bytes(rng, 60)
    whole = body + struct.pack("<H", rng.choice([6, 9, 10, 10, 10, 11, 12, 12, 13, 0]))
    return whole + struct.pack("<Q", crc64(whole) if rng.random() < 0.95 else rng.getrandbits(64))
