"""The look at the source of commands, before they are used."""

# ruff: noqa: C416, PERF402, PLC0208
from __future__ import annotations

import datetime
import os
import random
import time as clock
import uuid
from collections.abc import Callable
from pathlib import Path, PurePath, PurePosixPath
from random import choice as pick
from typing import Any

import pytest

import zattredis
from zattredis.errors import ConfigError
from zattredis.server import determinism
from zattredis.server.determinism import check

TOTAL = 0
SEEN: dict[bytes, int] = {}
LIMITS = {"a": 1}
NAMES = {"x", "y"}


def helper() -> float:
    return clock.monotonic()


class Account:
    def __init__(self, name: str) -> None:
        self.name = name

    def stamp(self) -> str:
        return datetime.datetime.now().isoformat()


def f_time(ctx: zattredis.Context) -> float:
    return clock.time()


def f_helper(ctx: zattredis.Context) -> float:
    return helper()


def f_method(ctx: zattredis.Context) -> str:
    return Account("x").stamp()


def f_random(ctx: zattredis.Context) -> float:
    return random.random()


def f_pick(ctx: zattredis.Context) -> int:
    return pick([1, 2])


def f_uuid(ctx: zattredis.Context) -> str:
    return uuid.uuid4().hex


def f_urandom(ctx: zattredis.Context) -> bytes:
    return os.urandom(3)


def f_environ(ctx: zattredis.Context) -> str:
    return os.getenv("HOME", "")


def f_now(ctx: zattredis.Context) -> int:
    return datetime.datetime.utcnow().year


def f_open(ctx: zattredis.Context) -> str:
    with open("/etc/hostname") as file:
        return file.read()


def f_hash(ctx: zattredis.Context, key: str) -> int:
    return hash(key) % 10


def f_id(ctx: zattredis.Context, key: str) -> int:
    return id(key)


def f_alias(ctx: zattredis.Context) -> Callable[[], float]:
    later = clock.time
    return later


def f_import(ctx: zattredis.Context) -> float:
    import math

    return math.pi


def f_for(ctx: zattredis.Context) -> list[int]:
    found = []
    for number in {1, 2, 3}:
        found.append(number)
    return found


def f_comprehension(ctx: zattredis.Context, *keys: bytes) -> list[bytes]:
    wanted = set(keys)
    return [key for key in wanted]


def f_list(ctx: zattredis.Context, *keys: bytes) -> list[bytes]:
    return list(set(keys) | {b"x"})


def f_join(ctx: zattredis.Context) -> str:
    return ",".join(NAMES)


def f_spread(ctx: zattredis.Context, *keys: bytes) -> int:
    return ctx.delete(*set(keys))


def f_pop(ctx: zattredis.Context, *keys: bytes) -> bytes:
    left = set(keys)
    return left.pop()


def f_global(ctx: zattredis.Context) -> int:
    global TOTAL
    TOTAL += 1
    return TOTAL


def f_cache(ctx: zattredis.Context, key: bytes) -> int:
    SEEN[key] = 1
    return len(SEEN)


def f_cache_method(ctx: zattredis.Context, key: bytes) -> int:
    return SEEN.setdefault(key, 1)


WRONG = [value for name, value in sorted(globals().items()) if name.startswith("f_")]


@pytest.mark.parametrize("function", WRONG, ids=lambda function: function.__name__)
def test_faults_are_found_with_their_place_and_a_remedy(function: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError) as found:
        check("X.Y", function)
    text = str(found.value)
    place, _, rest = text.partition(": X.Y cannot be the same on every node: ")
    file, _, line = place.rpartition(":")
    assert file == __file__ and "\n" not in text
    assert rest and (";" in rest or ": " in rest)
    source = Path(__file__).read_text().splitlines()
    first = function.__code__.co_firstlineno
    if function.__name__ not in ("f_helper", "f_method"):
        assert first <= int(line) <= first + 6
    assert source[int(line) - 1].strip()


def ok_all(ctx: zattredis.Context, *keys: bytes) -> list[object]:
    wanted = {key.upper() for key in keys}
    found: dict[bytes, int] = {}
    for key in sorted(wanted):
        found[key] = len(key)
    time = ctx.now_ms
    hashed = [hash for hash in found]
    day = datetime.datetime(2020, 1, 1) + datetime.timedelta(milliseconds=time)
    stable = uuid.uuid5(uuid.NAMESPACE_URL, "x")
    limit = LIMITS["a"]
    copy = dict(LIMITS)
    copy["b"] = 2
    keep = b"x" in wanted or len(wanted) > limit or max(wanted, default=b"")
    path = os.path.normpath(os.path.join("a", str(PurePosixPath("b") / "c")))
    return [hashed, day.year, str(stable), copy, bool(keep), path, ctx.random.below(5)]


def test_what_is_the_same_everywhere_passes() -> None:
    check("X.Y", ok_all)


def test_a_command_that_cannot_be_the_same_stops_the_start() -> None:
    @zattredis.command("BAD.TIME")
    def bad(ctx: zattredis.Context) -> float:
        return clock.time()

    with pytest.raises(ConfigError, match=r"test_determinism\.py:\d+: BAD\.TIME .*time\.time: use ctx\.now_ms"):
        zattredis.serve(extensions=[bad]).start()


@pytest.mark.parametrize(
    ("module", "name", "original", "path"),
    [
        ("_io", "open", open, "io.open"),
        ("pathlib._local", "PurePath", PurePath, "pathlib.PurePath"),
        ("pathlib._local", "Path", Path, "pathlib.Path"),
        ("posix", "_path_normpath", None, "posixpath.normpath"),
        ("posix", "_path_splitroot_ex", None, "posixpath.splitroot"),
        ("_asyncio", "current_task", None, "asyncio.current_task"),
    ],
)
def test_a_function_is_known_by_whatever_name_a_python_has_for_it(
    module: str, name: str, original: object, path: str
) -> None:
    def newer() -> None:
        """Stands for the function as Python 3.12 to 3.14 have it."""

    newer.__module__, newer.__qualname__ = module, name
    assert determinism.path_of(newer) == path
    if original is not None:
        assert determinism.path_of(original) == path
        assert determinism.fault_of(newer) == determinism.fault_of(original)
    assert (determinism.fault_of(newer) is None) is (path.startswith("posixpath.") or path == "pathlib.PurePath")
