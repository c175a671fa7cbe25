"""Large sets: two subkeys for each member under the collection's id.

```
m | crc32(4) | member  -> place(5)     looking up; the hashed order of SSCAN
i | place(5)           -> member       members at the places 0 … size - 1, for drawing one
```

So a random member is one read, exactly uniform, whatever the members are. Removing one moves the member at the last
place to the place that has become free. (Drawing from ranges of the hashed order instead needs no second subkey, but
cost 40 µs a draw, in iterators opened, against 4 µs; the second subkey costs SADD 1 µs.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final
from zlib import crc32

from zattredis.errors import StateDamaged
from zattredis.keyspace.keys import s_prefix
from zattredis.keyspace.random import SeededRandom
from zattredis.keyspace.view import View

BATCH: Final = 256
"""Members read or looked up at once."""
SCAN_MEMBERS_MAX: Final = 4096
SCAN_BYTES_MAX: Final = 4 * 1024 * 1024
POSITIONS: Final = 1 << 32
"""Cursors of SSCAN lie below: the CRC-32 of the first member not yet returned."""
_PLACE_BYTES: Final = 5
_HASHED: Final = 9
"""Bytes of a subkey before its section."""


def hashed(member: bytes) -> bytes:
    """Return what a member is ordered by: its CRC-32, then itself."""
    return crc32(member).to_bytes(4, "big") + member


def member_key(collection_id: int, member: bytes) -> bytes:
    """Return the store key under which a member is looked up."""
    return s_prefix(collection_id) + b"m" + crc32(member).to_bytes(4, "big") + member


def places_of(view: View, collection_id: int, members: Sequence[bytes]) -> list[int | None]:
    """Return the place of each member, None for what is none."""
    prefix = s_prefix(collection_id) + b"m"
    found = view.multi_get_raw([prefix + crc32(member).to_bytes(4, "big") + member for member in members])
    return [None if place is None else int.from_bytes(place, "big") for place in found]


def members_at(view: View, collection_id: int, places: Sequence[int]) -> list[bytes]:
    """Return the members at these places. Raises StateDamaged."""
    prefix = s_prefix(collection_id) + b"i"
    found = view.multi_get_raw([prefix + place.to_bytes(_PLACE_BYTES, "big") for place in places])
    if None in found:
        raise StateDamaged(f"the set {collection_id} lacks a member at one of the places {list(places)[:5]}")
    return found  # type: ignore[return-value]


def members(view: View, collection_id: int, size: int) -> Iterator[bytes]:
    """Yield all members, by place. Raises StateDamaged if there are not `size`."""
    section = s_prefix(collection_id) + b"i"
    count = 0
    # Behind the last place lie the tombstones of all that the set has ever had more.
    for _, member in view.iterate(section, section + size.to_bytes(_PLACE_BYTES, "big")):
        count += 1
        yield member
    if count != size:
        raise StateDamaged(f"the set {collection_id} of {size} members has {count}")


def members_hashed(view: View, collection_id: int) -> Iterator[bytes]:
    """Yield `hashed` of all members, ascending."""
    prefix = s_prefix(collection_id)
    for name, _ in view.iterate(prefix + b"m", prefix + b"n"):
        yield name[_HASHED + 1 :]


def append(view: View, collection_id: int, size: int, added: Iterable[bytes]) -> int:
    """Put members, none of which is there yet, behind the first `size`; return the new size."""
    prefix = s_prefix(collection_id)
    names, places = prefix + b"m", prefix + b"i"
    put_raw = view.put_raw
    for member in added:
        place = size.to_bytes(_PLACE_BYTES, "big")
        put_raw(names + crc32(member).to_bytes(4, "big") + member, place)
        put_raw(places + place, member)
        size += 1
    return size


def add(view: View, collection_id: int, size: int, wanted: Sequence[bytes]) -> tuple[int, list[bytes]]:
    """Add what is not there yet; return the new size and those added."""
    if len(wanted) == 1:
        member = wanted[0]
        prefix = s_prefix(collection_id)
        name = prefix + b"m" + crc32(member).to_bytes(4, "big") + member
        if view.get_raw(name) is not None:
            return size, []
        place = size.to_bytes(_PLACE_BYTES, "big")
        view.put_raw(name, place)
        view.put_raw(prefix + b"i" + place, member)
        return size + 1, [member]
    distinct = list(dict.fromkeys(wanted))
    fresh: list[bytes] = []
    for start in range(0, len(distinct), BATCH):
        batch = distinct[start : start + BATCH]
        held = places_of(view, collection_id, batch)
        fresh += [member for member, place in zip(batch, held, strict=True) if place is None]
    return append(view, collection_id, size, fresh), fresh


def add_each(view: View, collection_id: int, size: int, lists: Sequence[Sequence[bytes]]) -> list[int]:
    """Do `add` for each of `lists` in turn, asking the store once; return for each how many were new."""
    prefix = s_prefix(collection_id)
    section, places = prefix + b"m", prefix + b"i"
    put_raw = view.put_raw
    names = [section + crc32(member).to_bytes(4, "big") + member for members in lists for member in members]
    held = {name for name, place in zip(names, view.multi_get_raw(names), strict=True) if place is not None}
    at = 0
    added: list[int] = []
    for members in lists:
        before = size
        for member in members:
            name = names[at]
            at += 1
            if name not in held:
                held.add(name)
                place = size.to_bytes(_PLACE_BYTES, "big")
                put_raw(name, place)
                put_raw(places + place, member)
                size += 1
        added.append(size - before)
    return added


def remove(view: View, collection_id: int, size: int, wanted: Sequence[bytes]) -> int:
    """Remove those of `wanted` that are members; return the new size."""
    distinct = list(dict.fromkeys(wanted))
    for start in range(0, len(distinct), BATCH):
        batch = distinct[start : start + BATCH]
        found = zip(batch, places_of(view, collection_id, batch), strict=True)
        gone = {place: member for member, place in found if place is not None}
        if gone:
            _take_out(view, collection_id, size, gone)
            size -= len(gone)
    return size


def pop(view: View, collection_id: int, size: int, draws: Sequence[int]) -> list[bytes]:
    """Remove one member after the other, each from this place at that time; return them.

    Invariant: pops carried out together leave behind what they would one by one.
    """
    # Place → whose place it was at first: what is at the last place moves to each place that becomes free.
    moved: dict[int, int] = {}
    drawn: list[int] = []
    last = size
    for place in draws:
        last -= 1
        drawn.append(moved.get(place, place))
        moved[place] = moved.pop(last, last)
    moves = {place: at for place, at in moved.items() if place < last}
    found = members_at(view, collection_id, [*drawn, *moves.values()])
    taken = found[: len(drawn)]
    _move(view, collection_id, size, taken, dict(zip(moves, found[len(drawn) :], strict=True)))
    return taken


def _take_out(view: View, collection_id: int, size: int, gone: dict[int, bytes]) -> None:
    """Remove the members of place → member; those left behind the new end fill the gaps."""
    rest = size - len(gone)
    gaps = [place for place in gone if place < rest]
    stay = [place for place in range(rest, size) if place not in gone]
    movers = members_at(view, collection_id, stay) if stay else []
    _move(view, collection_id, size, list(gone.values()), dict(zip(gaps, movers, strict=True)))


def _move(view: View, collection_id: int, size: int, taken: list[bytes], moves: dict[int, bytes]) -> None:
    """Remove the members `taken`, and the last places; put the members of place → member to their places."""
    prefix = s_prefix(collection_id)
    names, places = prefix + b"m", prefix + b"i"
    put_raw = view.put_raw
    for member in taken:
        put_raw(names + crc32(member).to_bytes(4, "big") + member, None)
    for place in range(size - len(taken), size):
        put_raw(places + place.to_bytes(_PLACE_BYTES, "big"), None)
    for at, member in moves.items():
        place_name = at.to_bytes(_PLACE_BYTES, "big")
        put_raw(places + place_name, member)
        put_raw(names + crc32(member).to_bytes(4, "big") + member, place_name)


def draw_places(size: int, count: int, random: SeededRandom) -> list[int]:
    """Return `count` distinct places below `size`, drawn uniformly, in random order."""
    moved: dict[int, int] = {}
    drawn: list[int] = []
    for last in range(size - 1, size - 1 - count, -1):
        place = random.below(last + 1)
        drawn.append(moved.get(place, place))
        moved[place] = moved.pop(last, last)
    return drawn


def scan(view: View, collection_id: int, position: int, count: int) -> tuple[int, list[bytes]]:
    """Return the next cursor (0: done) and about `count` members from `position` of the hashed order on."""
    found: list[bytes] = []
    if position >= POSITIONS:
        return 0, found
    prefix = s_prefix(collection_id)
    left, bytes_left, last = min(count, SCAN_MEMBERS_MAX), SCAN_BYTES_MAX, b""
    for name, _ in view.iterate(prefix + b"m" + position.to_bytes(4, "big"), prefix + b"n"):
        at = name[_HASHED + 1 : _HASHED + 5]
        if (left <= 0 or bytes_left <= 0) and at != last:
            return int.from_bytes(at, "big"), found
        left -= 1
        bytes_left -= len(name)
        last = at
        found.append(name[_HASHED + 5 :])
    return 0, found


def copy(view: View, source: int, target: int) -> None:
    """Write all subkeys of one collection under another's id."""
    prefix, other = s_prefix(source), s_prefix(target)
    for section in (b"i", b"m"):
        stored = view.iterate(prefix + section, prefix + bytes((section[0] + 1,)))
        while batch := list(islice(stored, BATCH)):
            for name, value in batch:
                view.put_raw(other + name[_HASHED:], value)
