"""Glob patterns against redis-server's KEYS, at random and at their edges."""

from __future__ import annotations

import random

import pytest

from tests.support.differential import Connection
from zattredis.commands.glob import compile_glob

LETTERS = b"ab-]^\\"
SIGNS = b"ab-]^\\*?[[]*"


@pytest.fixture(scope="module")
def keys() -> list[bytes]:
    source = random.Random(20240607)
    drawn = {bytes(source.choice(LETTERS) for _ in range(source.randrange(6))) for _ in range(300)}
    return sorted(drawn | {b"", b"a\nb", b"\xff\x00"})


@pytest.fixture
def filled(real: Connection, keys: list[bytes]) -> Connection:
    real.execute([b"FLUSHALL"])
    real.execute([b"MSET", *(word for key in keys for word in (key, b"x"))])
    return real


@pytest.mark.parametrize("seed", range(4))
def test_matches_what_keys_matches(filled: Connection, keys: list[bytes], seed: int) -> None:
    source = random.Random(seed)
    patterns = [bytes(source.choice(SIGNS) for _ in range(source.randrange(1, 8))) for _ in range(250)]
    for pattern in [
        *patterns,
        b"*",
        b"**",
        b"",
        b"?",
        b"[",
        b"[^",
        b"[^]",
        b"[]",
        b"\\",
        b"[a-",
        b"[b-a]",
        b"[\\]]",
        b"*\n*",
    ]:
        expected = set(filled.execute([b"KEYS", pattern]).split(b"\r\n")[2::2])
        matches = compile_glob(pattern)
        assert {key for key in keys if matches(key)} == expected, pattern


def test_case_can_be_ignored() -> None:
    matches = compile_glob(b"Max[C]li?nts*", ignore_case=True)
    assert matches(b"MAXCLIENTS")
    assert matches(b"maxclients-x")
    assert not matches(b"minclients")


def test_no_pattern_costs_more_than_its_length_times_the_text() -> None:
    """With backtracking this one would not end in the lifetime of the machine."""
    assert not compile_glob(b"*a" * 40 + b"*b")(b"a" * 100_000)
