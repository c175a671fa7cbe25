"""What is fed with inputs, and what must hold then. A target raises when it does not."""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz import grammars
from tests.support.differential import InProcess
from zattredis.config.load import load_settings
from zattredis.errors import ConfigError, FrameError, ReplyError
from zattredis.peer.wire import (
    HANDSHAKE_DECODERS,
    MESSAGE_DECODERS,
    STREAM_DECODERS,
    FrameDecoder,
)
from zattredis.resp import ProtocolLimits, RequestParser
from zattredis.resp.replies import encode

LIMITS = ProtocolLimits(args_max=1000, bulk_bytes_max=5000, query_bytes_max=200_000, inline_bytes_max=64 << 10)
"""A line that is too long is refused only while its end has not come, as in Redis, so it depends on the cutting: none
is so long here. `check_resp` has another look with smaller limits."""
SMALL = ProtocolLimits(args_max=6, bulk_bytes_max=600, query_bytes_max=700, inline_bytes_max=50)
LINE_BYTES_MAX = 20_000
"""Longer than what the grammar makes: an inline command may be of any length that came at once."""
MESSAGE_BYTES_MAX = 200_000
NOW_MS = 1_700_000_000_000


def check_resp(data: bytes) -> None:
    """Requests and perhaps one error, the same however the bytes are cut; little is kept."""
    whole = _parse([data])
    middle = len(data) // 2
    assert _parse([data[:middle], data[middle:]]) == whole
    pieces = [data[i : i + 7] for i in range(0, len(data), 7)]
    assert _parse(pieces) == whole
    _parse(pieces, SMALL)


def _parse(chunks: list[bytes], limits: ProtocolLimits = LIMITS) -> tuple[list[list[bytes]], bytes | None]:
    parser = RequestParser(limits)
    found: list[list[bytes]] = []
    for chunk in chunks:
        requests = parser.feed(chunk)
        for request in requests:
            assert request and all(type(argument) is bytes for argument in request)
            if limits is LIMITS:  # an inline command is bounded by the length of its line alone
                assert len(request) <= limits.args_max and max(map(len, request)) <= LINE_BYTES_MAX
        found += requests
        assert parser.buffered_bytes <= limits.query_bytes_max + len(chunk)
        if parser.error is not None:
            assert b"\n" not in parser.error
            assert not parser.feed(b"*1\r\n$4\r\nPING\r\n"), "nothing follows an error"
            break
    return found, parser.error


def check_frames(data: bytes) -> None:
    """Messages, or a FrameError; memory grows only with what has arrived."""
    for decoders, frame_bytes_max, message_bytes_max in (
        (MESSAGE_DECODERS, 65536, MESSAGE_BYTES_MAX), (HANDSHAKE_DECODERS, 1024, 0), (STREAM_DECODERS, 1 << 20, 0),
    ):  # fmt: skip
        decoder = FrameDecoder(decoders, frame_bytes_max=frame_bytes_max, message_bytes_max=message_bytes_max)
        fed = 0
        with contextlib.suppress(FrameError):
            for at in range(0, len(data), 50):
                fed += len(data[at : at + 50])
                decoder.feed(data[at : at + 50])
                assert decoder.buffered_bytes <= fed


def check_settings(found: tuple[dict[str, str], dict[str, str], str]) -> None:
    """Settings, or a ConfigError of one line."""
    flags, environ, text = found
    descriptor, name = tempfile.mkstemp(suffix=".toml" if len(text) % 3 else ".conf")
    os.close(descriptor)
    path = Path(name)
    try:
        path.write_text(text, encoding="latin-1")
        for config_file in (name, None):
            text = "one line"
            try:
                load_settings(flags, environ, config_file)
            except ConfigError as error:
                text = str(error)
            assert text and "\n" not in text
    finally:
        path.unlink()


def check_commands(lines: list[list[bytes]]) -> None:
    """A reply or an error reply for every line; an error leaves nothing behind."""
    server = InProcess(now_ms=NOW_MS)
    for argv in lines:
        before = dict(server.store.data)
        value = server.value(argv)  # anything but a ReplyError goes through
        encode(value, 2)
        encode(value, 3)
        if isinstance(value, ReplyError):
            assert server.store.data == before, f"{argv} was refused and yet wrote"


def check_restore(payload: bytes) -> None:
    """The value, whole and readable by every command, or an error and no key."""
    server = InProcess(now_ms=NOW_MS)
    value = server.value([b"RESTORE", b"k", b"0", payload])
    if isinstance(value, ReplyError):
        assert server.call("EXISTS", "k") == 0
        return
    if server.call("EXISTS", "k"):
        dump = server.call("DUMP", "k")
        assert server.call("RESTORE", "again", "0", bytes(dump)) == "OK"
        kind = server.call("TYPE", "k")
        reads = {"string": "GET k", "list": "LRANGE k 0 -1", "set": "SMEMBERS k", "hash": "HGETALL k"}
        encode(server.value(reads.get(str(kind), "ZRANGE k 0 -1 WITHSCORES").encode().split()), 3)


@dataclass(frozen=True)
class Target:
    """`make` draws an input, `check` feeds it."""

    make: Callable[[random.Random], Any]
    check: Callable[[Any], None]
    from_bytes: bool  # whether any bytes are an input


TARGETS = {
    "resp": Target(grammars.resp, check_resp, True),
    "frames": Target(grammars.frames, check_frames, True),
    "settings": Target(grammars.settings, check_settings, False),
    "commands": Target(grammars.commands, check_commands, False),
    "restore": Target(grammars.restore, check_restore, True),
}
