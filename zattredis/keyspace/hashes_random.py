"""Fields of a hash drawn at random, each equally likely, without an index.

The 32 bits of crc32 are cut into buckets in which 4 to 8 fields are to be found on the average. A bucket is drawn,
then a place in it among _PLACES; if there is no field at that place, both are drawn again. So every field has the same
chance, whatever its neighbours, and a draw reads a few buckets.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Final

from zattredis.keyspace.hashes import expired_fields, hash_items, hash_size
from zattredis.keyspace.hashes_edit import FIELDS, NAME_BYTES, decode_raw
from zattredis.keyspace.keys import s_prefix
from zattredis.keyspace.metadata import SEPARATE, collection_id_of, size_of
from zattredis.keyspace.random import SeededRandom
from zattredis.keyspace.view import View

Pair = tuple[bytes, bytes]

_EXPECTED: Final = 4
_PLACES: Final = 24
"""A bucket seldom holds more; one that does gives its fields a slightly smaller chance."""
_DRAWN_MAX: Final = 4
"""Fewer fields than one in so many are drawn one by one; more are chosen from a walk through all."""
_IN_VAIN_MAX: Final = 400
"""So many draws in vain on end: most fields must be past their time, and a walk finds the others."""
_WALK_STEP: Final = 512
_PIECE_BYTES: Final = 256 * 1024
_HELD_MAX: Final = 16384
"""Fields of a hash that may be held at once to draw from."""
_DRAW_STEP: Final = 16


def drawn_fields(
    view: View, record: bytes, count: int, now_ms: int, random: SeededRandom
) -> Generator[None, None, list[Pair] | None]:
    """Return `count` different (field, value) pairs, drawn one by one; yield now and then. Raises WrongType.

    None where that costs more than a walk through all fields (`chosen_fields`).
    """
    size = hash_size(record)
    if not record[0] & SEPARATE or count * _DRAWN_MAX >= size:
        return None
    found = yield from _draw(view, record, count, now_ms, random)
    return found


def chosen_fields(
    view: View, record: bytes, count: int, length: int, now_ms: int, random: SeededRandom
) -> Iterator[list[Pair] | None]:
    """Yield `count` different (field, value) pairs of the `length` there are, in pieces, and None now and then.

    Knuth, The Art of Computer Programming, volume 2, 3.4.2, algorithm S: nothing is held but a piece. Raises WrongType.
    """
    piece: list[Pair] = []
    seen = size = 0
    for pair in hash_items(view, record, now_ms):
        if count >= length or random.below(length) < count:
            count -= 1
            piece.append(pair)
            size += len(pair[0]) + len(pair[1])
        length -= 1
        seen += 1
        if not count:
            break
        if seen >= _WALK_STEP or size >= _PIECE_BYTES:
            yield piece or None
            piece = []
            seen = size = 0
    yield piece


def repeated_fields(
    view: View, record: bytes, count: int, now_ms: int, random: SeededRandom
) -> Generator[list[Pair] | None, None, None]:
    """Yield `count` (field, value) pairs in pieces, each drawn from all fields, and None now and then.

    The hash must have a field. Raises WrongType.
    """
    if record[0] & SEPARATE and (count * _DRAWN_MAX < hash_size(record) or hash_size(record) > _HELD_MAX):
        while count:
            found = yield from _draw(view, record, 1, now_ms, random)
            if found is None:
                break
            yield found
            count -= 1
    if count:
        pairs = yield from _walk(hash_items(view, record, now_ms))
        for start in range(0, count, _WALK_STEP):
            yield [pairs[random.below(len(pairs))] for _ in range(min(_WALK_STEP, count - start))]


def is_quick(view: View, record: bytes, count: int, now_ms: int) -> bool:
    """Return whether drawing `count` fields is so little to do that it need not run in slices. Raises WrongType."""
    size = hash_size(record)
    if not record[0] & SEPARATE or size <= _WALK_STEP:
        return count <= _WALK_STEP
    few = count <= _DRAW_STEP and count * _DRAWN_MAX < size
    return few and next(expired_fields(view, record, now_ms), None) is None


def _walk(items: Iterator[Pair]) -> Generator[None, None, list[Pair]]:
    pairs: list[Pair] = []
    for pair in items:
        pairs.append(pair)
        if len(pairs) % _WALK_STEP == 0:
            yield
    return pairs


def _draw(
    view: View, record: bytes, count: int, now_ms: int, random: SeededRandom
) -> Generator[None, None, list[Pair] | None]:
    """Return so many different fields of a separate hash, None if that is in vain."""
    prefix = s_prefix(collection_id_of(record)) + FIELDS
    bits = max(size_of(record) // _EXPECTED, 1).bit_length() - 1
    found: list[Pair] = []
    seen: set[bytes] = set()
    in_vain = 0
    while len(found) < count:
        pair = _draw_one(view, prefix, bits, now_ms, random)
        if pair is None or pair[0] in seen:
            in_vain += 1
            if in_vain > _IN_VAIN_MAX:
                return None
            continue
        in_vain = 0
        seen.add(pair[0])
        found.append(pair)
        if len(found) % _DRAW_STEP == 0:
            yield
    return found


def _draw_one(view: View, prefix: bytes, bits: int, now_ms: int, random: SeededRandom) -> Pair | None:
    """Return the field at a place drawn, None if there is none, or one past its time."""
    width = 32 - bits
    first = random.below(1 << bits) << width
    behind = first + (1 << width)
    upper = prefix[:-1] + bytes((prefix[-1] + 1,)) if behind >> 32 else prefix + behind.to_bytes(4, "big")
    bucket = list(view.iterate(prefix + first.to_bytes(4, "big"), upper))
    place = random.below(max(_PLACES, len(bucket)))
    if place >= len(bucket):
        return None
    name, raw = bucket[place]
    value, expire_ms = decode_raw(raw)
    return None if expire_ms and now_ms > expire_ms else (name[NAME_BYTES:], value)
