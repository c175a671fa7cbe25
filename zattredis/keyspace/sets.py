"""Sets: small ones within the record (`sets_inline`), others under a collection id (`sets_separate`).

A set starts inline, as sorted integers as long as its members are no more than INTEGERS_MAX and all integers, then as
text of at most TEXT_BYTES_MAX, then separate; never back. That is how it lies in the store. What Redis would call its
encoding is the flag LARGE (hashtable, else intset), which the replicated parameter set-max-intset-entries decides when
a member is added.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final

from zattredis.errors import WrongType
from zattredis.keyspace import sets_separate as separate
from zattredis.keyspace.metadata import (
    HEADER_BYTES,
    LARGE,
    SEPARATE,
    SET,
    TYPE_MASK,
    VOLATILE,
    collection_id_of,
    expire_of,
    pack_header,
    separate_body,
    size_of,
)
from zattredis.keyspace.random import SeededRandom
from zattredis.keyspace.sets_inline import (
    TEXT,
    count_texts,
    entry_of,
    holds_integer,
    holds_text,
    insert_integer,
    integer_of,
    integers,
    integers_of,
    pack_integers,
    pack_texts,
    remove_integer,
    texts_of,
)
from zattredis.keyspace.view import View

INTEGERS_MAX: Final = 512
"""Most members of an inline set of integers; Redis's default for its own."""
TEXT_BYTES_MAX: Final = 1024
"""Longest body of an inline set in the text form."""
_INTSET_ENTRIES_MAX: Final = 1 << 30
_MEMBER_BYTES: Final = 80
"""What a member of a separate set is reckoned to take, in both its subkeys."""
_REBUILD_FACTOR: Final = 5
"""Redis's: SPOP of more than five times what it leaves builds the set anew, its encoding included."""


def check_set(record: bytes) -> None:
    """Raise WrongType unless the record is a set's."""
    if record[0] & TYPE_MASK != SET:
        raise WrongType


def set_length(record: bytes) -> int:
    """Return the number of members. Raises WrongType."""
    check_set(record)
    if record[0] & SEPARATE:
        return size_of(record)
    form = record[HEADER_BYTES]
    return count_texts(record) if form == TEXT else (len(record) - HEADER_BYTES - 1) // form


def set_encoding(record: bytes) -> bytes:
    """Return the encoding that Redis would have chosen. Raises WrongType."""
    check_set(record)
    return b"hashtable" if record[0] & LARGE else b"intset"


def set_bytes(record: bytes) -> int:
    """Return about how many bytes the set takes in the store beside its key. Raises WrongType."""
    check_set(record)
    return len(record) + (size_of(record) * _MEMBER_BYTES if record[0] & SEPARATE else 0)


def set_members(view: View, record: bytes) -> Iterator[bytes]:
    """Yield all members: integers of an inline set ascending, otherwise in any order. Raises WrongType."""
    check_set(record)
    if record[0] & SEPARATE:
        return separate.members(view, collection_id_of(record), size_of(record))
    return iter(inline_members(record))


def inline_members(record: bytes) -> list[bytes]:
    """Return all members of a set within its record."""
    if record[HEADER_BYTES] == TEXT:
        return texts_of(record)
    return [b"%d" % value for value in integers_of(record)]


def set_hashed(view: View, record: bytes) -> Iterator[bytes]:
    """Yield `sets_separate.hashed` of all members, ascending: an order that all sets share. Raises WrongType."""
    check_set(record)
    if record[0] & SEPARATE:
        return separate.members_hashed(view, collection_id_of(record))
    return iter(sorted(map(separate.hashed, inline_members(record))))


def has_member(view: View, record: bytes, member: bytes) -> bool:
    """Return whether it is a member. Raises WrongType."""
    check_set(record)
    if record[0] & SEPARATE:
        return view.get_raw(separate.member_key(collection_id_of(record), member)) is not None
    if record[HEADER_BYTES] == TEXT:
        return holds_text(record, member)
    return holds_integer(integers_of(record), member)


def has_members(view: View, record: bytes, members: Sequence[bytes]) -> list[bool]:
    """Return for each whether it is a member. Raises WrongType."""
    check_set(record)
    if record[0] & SEPARATE:
        places = separate.places_of(view, collection_id_of(record), members)
        return [place is not None for place in places]
    if record[HEADER_BYTES] == TEXT:
        return [holds_text(record, member) for member in members]
    values = integers_of(record)
    return [holds_integer(values, member) for member in members]


# -- adding ------------------------------------------------------------------------------------------------------------


def add_members(
    view: View, db: int, key: bytes, record: bytes | None, members: Sequence[bytes], touched_s: int
) -> int:
    """Add members to the key's set, whose live record is given (None: there is none); return how many were new.

    The key keeps its expiry; without a new member nothing changes. Raises WrongType.
    """
    if record is None:
        return put_set(view, db, key, dict.fromkeys(members), touched_s)
    check_set(record)
    if record[0] & SEPARATE:
        return _add_separate(view, db, key, record, members, touched_s)
    if record[HEADER_BYTES] == TEXT:
        return _add_to_text(view, db, key, record, members, touched_s)
    values = integers_of(record)
    before = len(values)
    for member in members:
        value = integer_of(member)
        if value is None:
            break
        values = insert_integer(values, value) or values
        if len(values) > INTEGERS_MAX:
            break
    else:
        added = len(values) - before
        if added:
            kind = record[0] | LARGE if len(values) > _intset_max(view) else record[0]
            _put(view, db, key, record, kind, pack_integers(values), touched_s)
        return added
    return _outgrow(view, db, key, record, members, touched_s)


def add_to_many(
    view: View, db: int, key: bytes, record: bytes, lists: Sequence[Sequence[bytes]], touched_s: int
) -> list[int] | None:
    """Do `add_members` for each of `lists` in turn, outside of any unit; return the replies.

    None, with nothing done, for other records than those of large separate sets.
    """
    kind = record[0]
    if kind & (TYPE_MASK | SEPARATE | LARGE) != SET | SEPARATE | LARGE:
        return None
    collection_id, size = collection_id_of(record), size_of(record)
    replies = separate.add_each(view, collection_id, size, lists)
    version = 0
    for added in replies:
        if added:
            version = view.next_id()
    if version:
        body = separate_body(collection_id, size + sum(replies))
        view.rewrite(db, key, pack_header(kind, expire_of(record), version, touched_s) + body)
    view.commit()
    return replies


def _add_to_text(view: View, db: int, key: bytes, record: bytes, members: Sequence[bytes], touched_s: int) -> int:
    body = record[HEADER_BYTES:]
    added = 0
    for member in members:
        entry = entry_of(member)
        if body.find(entry, 1) < 0:
            body += entry[1:]
            added += 1
            if len(body) > TEXT_BYTES_MAX:
                return _outgrow(view, db, key, record, members, touched_s)
    if added:
        _put(view, db, key, record, record[0], body, touched_s)
    return added


def _add_separate(view: View, db: int, key: bytes, record: bytes, members: Sequence[bytes], touched_s: int) -> int:
    collection_id, size = collection_id_of(record), size_of(record)
    new_size, fresh = separate.add(view, collection_id, size, members)
    if new_size == size:
        return 0
    kind = record[0]
    if not kind & LARGE and (new_size > _intset_max(view) or not all(map(is_integer, fresh))):
        kind |= LARGE
    _put(view, db, key, record, kind, separate_body(collection_id, new_size), touched_s)
    return new_size - size


def _outgrow(view: View, db: int, key: bytes, record: bytes, members: Sequence[bytes], touched_s: int) -> int:
    """Add members to an inline set that has to take another form for them."""
    held = inline_members(record)
    known = set(held)
    fresh = [member for member in dict.fromkeys(members) if member not in known]
    flags, body, _ = _build(view, chain(held, fresh))
    _put(view, db, key, record, record[0] | flags, body, touched_s)
    return len(fresh)


def put_set(
    view: View,
    db: int,
    key: bytes,
    members: Iterable[bytes],
    touched_s: int,
    expire_ms: int = 0,
    *,
    large: bool = False,
) -> int:
    """Make the key the set of these members, which are distinct, whatever it was; return how many they are.

    `large` sets the flag LARGE even where the members do not ask for it.
    """
    flags, body, size = _build(view, iter(members))
    if size:
        kind = SET | flags | (VOLATILE if expire_ms else 0) | (LARGE if large else 0)
        view.put(db, key, pack_header(kind, expire_ms, view.next_id(), touched_s) + body)
    else:
        view.delete(db, key, 0)
    return size


def _build(view: View, members: Iterator[bytes]) -> tuple[int, bytes, int]:
    """Return the flags, the body and the size of a new set; its subkeys, if it has any, are written."""
    first = list(islice(members, INTEGERS_MAX + 1))
    size = len(first)
    all_integers = all(map(is_integer, first))  # ends at the first that is none
    if size <= INTEGERS_MAX:
        if all_integers:
            body = pack_integers(integers(sorted(map(int, first))))
            return LARGE if size > _intset_max(view) else 0, body, size
        if sum(map(len, first)) + size < TEXT_BYTES_MAX and len(body := pack_texts(first)) <= TEXT_BYTES_MAX:
            return LARGE, body, size
    collection_id = view.next_id()
    size = separate.append(view, collection_id, 0, first)
    while batch := list(islice(members, separate.BATCH)):
        all_integers = all_integers and all(map(is_integer, batch))
        size = separate.append(view, collection_id, size, batch)
    flags = SEPARATE if all_integers and size <= _intset_max(view) else SEPARATE | LARGE
    return flags, separate_body(collection_id, size), size


def copy_set(view: View, record: bytes, db: int, key: bytes, expire_ms: int, touched_s: int) -> None:
    """Make the key a copy of the set in `record`, with this expiry. Raises WrongType."""
    check_set(record)
    kind = record[0] & ~VOLATILE | (VOLATILE if expire_ms else 0)
    body = record[HEADER_BYTES:]
    if kind & SEPARATE:
        collection_id = view.next_id()
        separate.copy(view, collection_id_of(record), collection_id)
        body = separate_body(collection_id, size_of(record))
    view.put(db, key, pack_header(kind, expire_ms, view.next_id(), touched_s) + body)


def is_integer(member: bytes) -> bool:
    """Return whether Redis would hold the member as an integer."""
    return integer_of(member) is not None


def _intset_max(view: View) -> int:
    return min(view.registers.parameters.set_max_intset_entries, _INTSET_ENTRIES_MAX)


def _put(view: View, db: int, key: bytes, record: bytes, kind: int, body: bytes, touched_s: int) -> None:
    view.rewrite(db, key, pack_header(kind, expire_of(record), view.next_id(), touched_s) + body)


# -- removing ----------------------------------------------------------------------------------------------------------


def remove_members(view: View, db: int, key: bytes, record: bytes, members: Sequence[bytes], touched_s: int) -> int:
    """Remove members of the key's set; return how many there were. The last takes the key along. Raises WrongType."""
    check_set(record)
    if record[0] & SEPARATE:
        size = size_of(record)
        rest = separate.remove(view, collection_id_of(record), size, members)
        removed = size - rest
        body = separate_body(collection_id_of(record), rest)
    elif record[HEADER_BYTES] == TEXT:
        body = record[HEADER_BYTES:]
        removed = 0
        for member in members:
            shorter = body[:1] + body[1:].replace(entry_of(member), b"\0", 1)
            removed += len(shorter) < len(body)
            body = shorter
        rest = len(body) - 2
    else:
        values = integers_of(record)
        numbers = [number for number in map(integer_of, members) if number is not None]
        removed = sum([remove_integer(values, number) for number in numbers])
        rest = len(values)
        body = pack_integers(values)
    if not rest:
        _delete_emptied(view, db, key, record)
    elif removed:
        _put(view, db, key, record, record[0], body, touched_s)
    return removed


def _delete_emptied(view: View, db: int, key: bytes, record: bytes) -> None:
    """Delete a key whose subkeys are deleted: nothing is left to reclaim, but many tombstones to search it among."""
    if record[0] & SEPARATE:
        view.rewrite(db, key, bytes((record[0] & ~SEPARATE,)) + record[1:HEADER_BYTES] + pack_texts(()))
    view.put(db, key, None)


def pop_members(
    view: View, db: int, key: bytes, record: bytes, count: int, random: SeededRandom, touched_s: int
) -> list[bytes]:
    """Remove and return `count` members drawn at random, all if there are no more. Raises WrongType."""
    size = set_length(record)
    if count >= size:
        if record[0] & SEPARATE and size <= separate.BATCH:
            taken = separate.pop(view, collection_id_of(record), size, [0] * size)
            _delete_emptied(view, db, key, record)
        else:
            taken = list(set_members(view, record))
            view.put(db, key, None)
        return taken
    if count <= (size - count) * _REBUILD_FACTOR:
        if record[0] & SEPARATE:
            collection_id = collection_id_of(record)
            draws = [random.below(rest) for rest in range(size, size - count, -1)]
            taken = separate.pop(view, collection_id, size, draws)
            _put(view, db, key, record, record[0], separate_body(collection_id, size - count), touched_s)
            return taken
        members = inline_members(record)
        taken = [members[place] for place in separate.draw_places(size, count, random)]
        remove_members(view, db, key, record, taken, touched_s)
        return taken
    left = set(separate.draw_places(size, size - count, random))
    taken = []
    kept: list[bytes] = []
    for place, member in enumerate(set_members(view, record)):
        (kept if place in left else taken).append(member)
    put_set(view, db, key, kept, touched_s, expire_of(record))
    return taken


def pop_one_of_many(
    view: View, db: int, key: bytes, record: bytes, randoms: Sequence[SeededRandom], touched_s: int
) -> list[bytes] | None:
    """Do `pop_members` of one member with each of `randoms` in turn, outside of any unit; return the members.

    None, with nothing done, for other records than those of separate sets, and where no member would be left.
    """
    size = 0 if record[0] & (TYPE_MASK | SEPARATE) != SET | SEPARATE else size_of(record)
    if size <= len(randoms):
        return None
    collection_id = collection_id_of(record)
    draws = [random.below(size - number) for number, random in enumerate(randoms)]
    taken = separate.pop(view, collection_id, size, draws)
    for _ in taken[1:]:
        view.next_id()
    _put(view, db, key, record, record[0], separate_body(collection_id, size - len(taken)), touched_s)
    view.commit()
    return taken


# -- drawing and scanning ----------------------------------------------------------------------------------------------


def random_members(view: View, record: bytes, places: Sequence[int]) -> list[bytes]:
    """Return the members at these places, 0 <= place < length: each place has one of its own. Raises WrongType."""
    check_set(record)
    if record[0] & SEPARATE:
        return separate.members_at(view, collection_id_of(record), places)
    members = inline_members(record)
    return [members[place] for place in places]


def scan_set(view: View, record: bytes, cursor: int, count: int) -> tuple[int, list[bytes]]:
    """Return the next cursor (0: done) and some members, about `count` of a separate set. Raises WrongType.

    A member that is there during the whole of a scan is returned by it.
    """
    check_set(record)
    if record[0] & SEPARATE:
        return separate.scan(view, collection_id_of(record), cursor, count)
    return 0, inline_members(record)
