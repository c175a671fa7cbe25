"""Redis's glob patterns (KEYS, SCAN MATCH, CONFIG GET, …) as regular expressions without backtracking.

`*` any bytes, `?` one byte, `[a-z]` and `[^a-z]` one byte of a class, `\\x` that byte itself. Between two stars stands
a run of elements of one byte each, so its leftmost match is as good as any other: an atomic group takes it and never
looks back, and no pattern costs more than its length times the text's.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable


@functools.lru_cache(maxsize=256)
def compile_glob(pattern: bytes, ignore_case: bool = False) -> Callable[[bytes], bool]:
    """Return the function that tells whether a text matches `pattern` as a whole."""
    if ignore_case:
        pattern = pattern.lower()
    segments = _segments(pattern)
    if len(segments) == 1:
        expression = segments[0]
    elif len(pattern) > 1 and not any(segments):
        expression = b".+"  # as in Redis, only a lone star matches the empty text
    else:
        middle = b"".join(b"(?>.*?" + segment + b")" for segment in segments[1:-1] if segment)
        expression = segments[0] + middle + b".*" + segments[-1]
    match = re.compile(expression, re.DOTALL).fullmatch
    if ignore_case:
        return lambda text: match(text.lower()) is not None
    return lambda text: match(text) is not None


def _segments(pattern: bytes) -> list[bytes]:
    """Return the regular expressions of what stands between the stars (one more than there are stars)."""
    segments = [b""]
    place = 0
    while place < len(pattern):
        char = pattern[place : place + 1]
        place += 1
        if char == b"*":
            segments.append(b"")
        elif char == b"?":
            segments[-1] += b"."
        elif char == b"[":
            expression, place = _class(pattern, place)
            segments[-1] += expression
        else:
            if char == b"\\" and place < len(pattern):
                char = pattern[place : place + 1]
                place += 1
            segments[-1] += re.escape(char)
    return segments


def _class(pattern: bytes, place: int) -> tuple[bytes, int]:
    """Return the regular expression of a class that opened just before `place`, and the place behind it.

    A class that is never closed ends with the pattern, as in Redis.
    """
    inverted = pattern[place : place + 1] == b"^"
    place += inverted
    members: set[int] = set()
    while place < len(pattern):
        char = pattern[place]
        if char == 0x5D:  # "]"
            place += 1
            break
        if char == 0x5C and place + 1 < len(pattern):  # a backslash
            members.add(pattern[place + 1])
            place += 2
        elif pattern[place + 1 : place + 2] == b"-" and place + 2 < len(pattern):
            # Redis compares signed chars: bytes from 128 on come before 0.
            low, high = sorted((char ^ 0x80, pattern[place + 2] ^ 0x80))
            members.update(member ^ 0x80 for member in range(low, high + 1))
            place += 3
        else:
            members.add(char)
            place += 1
    if not members:
        return (b"." if inverted else b"(?!)"), place
    inner = b"".join(b"\\x%02x" % member for member in sorted(members))
    return (b"[^" if inverted else b"[") + inner + b"]", place
