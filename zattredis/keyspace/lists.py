"""Lists: what commands do with them, on the bytes of the record where that suffices (`list_ends`).

How a list is laid out is in `list_content`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, groupby, islice
from operator import itemgetter
from typing import Final

from zattredis.errors import WrongType
from zattredis.keyspace.list_content import QuickList
from zattredis.keyspace.list_ends import ELEMENT_BYTES, ROW_AT, SEPARATED, Changed, pop_one, push_fitting
from zattredis.keyspace.metadata import HEADER_BYTES, LIST, SEPARATE, TYPE_MASK, size_of
from zattredis.keyspace.packed import element_of
from zattredis.keyspace.view import View

__all__ = [
    "QuickList", "check_list", "copy_list", "list_bytes", "list_elements", "list_encoding", "list_length", "move",
    "pop", "pop_many", "popped", "push", "push_many", "pushed", "put_list",
]  # fmt: skip

_BULK: Final = 512
_KEY: Final = itemgetter(1)


def check_list(record: bytes) -> None:
    """Raise WrongType unless the record is a list's."""
    if record[0] & TYPE_MASK != LIST:
        raise WrongType


def list_length(record: bytes) -> int:
    """Return the number of elements. Raises WrongType."""
    check_list(record)
    if record[0] & SEPARATE:
        return size_of(record)
    return int.from_bytes(record[HEADER_BYTES + 1 : ROW_AT], "big")


def list_encoding(record: bytes) -> bytes:
    """Return the encoding in Redis's words: 7.0 has one."""
    check_list(record)
    return b"quicklist"


def list_bytes(record: bytes) -> int:
    """Return about how many bytes the list takes up: what is in chunks is reckoned from what is in the record."""
    check_list(record)
    if not record[0] & SEPARATE:
        return len(record)
    facts: tuple[int, ...] = SEPARATED.unpack_from(record, HEADER_BYTES)
    head_count, head_bytes, tail_count, tail_bytes = facts[-4:]
    known = head_count + tail_count
    mean = (head_bytes + tail_bytes) // known + 4 if known else ELEMENT_BYTES
    return len(record) + (facts[1] - known) * mean


def list_elements(view: View, record: bytes, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """Yield the elements start <= n < stop, within 0..length, by default all. Raises WrongType."""
    content = QuickList(view, record)
    for _, row in content.rows(start, content.size if stop is None else stop):
        yield from row.elements()


def put_list(
    view: View, db: int, key: bytes, elements: Iterable[bytes], touched_s: int, expire_ms: int = 0
) -> int:
    """Make the key this list, whatever it was; delete it if there are no elements. Return how many there are."""
    content = QuickList(view)
    content.begin()
    content.expire_ms = expire_ms
    waiting = iter(elements)
    while some := list(islice(waiting, _BULK)):
        content.push(some, left=False)
    content.save(db, key, touched_s)
    return content.size


def copy_list(view: View, record: bytes, db: int, key: bytes, expire_ms: int, touched_s: int) -> None:
    """Make the key a copy of the list in `record`, with this expiry. Raises WrongType."""
    content = QuickList(view, record)
    content.begin()
    content.expire_ms = expire_ms
    content.copy_content()
    content.save(db, key, touched_s)


def push(view: View, db: int, key: bytes, elements: Sequence[bytes], left: bool, now_ms: int) -> int:
    """Push elements one after the other at an end of the key's list, made if there is none; return its length.

    Raises WrongType.
    """
    before = view.record(db, key, now_ms)
    record, size = pushed(view, before, elements, left, now_ms // 1000)
    _put(view, db, key, before, record)
    return size


def _put(view: View, db: int, key: bytes, before: bytes | None, record: bytes | None) -> None:
    if before is not None and record is not None and before[0] == record[0]:
        view.rewrite(db, key, record)  # the same form: a push or pop changes the collection id with it alone
    else:
        view.put(db, key, record)


def pushed(view: View, record: bytes | None, elements: Sequence[bytes], left: bool, touched_s: int) -> Changed:
    """Return the record after a push, which takes the next version and has changed the chunks. Raises WrongType."""
    version = view.next_id()
    simply = push_fitting(record, elements, left, version, touched_s)
    if simply is not None:
        return simply
    content = QuickList(view, record)
    content.version = version
    content.push(elements, left)
    return Changed(content.record(touched_s), content.size)


def popped(view: View, record: bytes, left: bool, touched_s: int) -> tuple[bytes, bytes | None]:
    """Return one element popped, and the record then (None: the list is empty). Raises WrongType; see `pushed`."""
    version = view.next_id()
    simply = pop_one(record, left, version, touched_s)
    if simply is not None:
        return simply
    content = QuickList(view, record)
    content.version = version
    element = element_of(content.pop(1, left).frames)
    return element, content.record(touched_s) if content.size else None


def push_many(view: View, db: int, pushes: Sequence[Sequence[bytes]], left: bool, now_ms: int) -> list[int] | None:
    """Carry out several pushes (command's name, key, element …) with the effects of one after the other.

    What goes to one list in a row is packed together. Returns the lengths; None, with nothing done, if one of the keys
    holds another type.
    """
    held = _held(view, db, pushes, now_ms)
    if held is None:
        return None
    touched_s = now_ms // 1000
    sizes: list[int] = []
    if len(held) > len(pushes) >> 1:
        for _, key, *elements in pushes:
            before = view.record(db, key, now_ms)
            after, size = pushed(view, before, elements, left, touched_s)
            sizes.append(size)
            _put(view, db, key, before, after)
        return sizes
    for key, group in groupby(pushes, _KEY):
        lines = list(group)
        before = held[key]
        if before is None:
            held[key] = before = pushed(view, None, lines[0][2:], left, touched_s).record
            view.put(db, key, before)  # when a key was made is known by its first version
            sizes.append(list_length(before))
            lines = lines[1:]
        if lines:
            held[key] = _pushed_together(view, before, lines, left, touched_s, sizes)
    for key, record in held.items():
        before = view.record(db, key, now_ms)
        if record is not before:
            _put(view, db, key, before, record)
    return sizes


def _pushed_together(
    view: View, record: bytes, lines: list[Sequence[bytes]], left: bool, touched_s: int, sizes: list[int]
) -> bytes:
    """Return the record after pushes to one list, each of which takes a version; append the lengths to `sizes`."""
    elements = [element for line in lines for element in line[2:]]
    version = view.registers.counter + len(lines)
    counts = [len(line) - 2 for line in lines]
    together = push_fitting(record, elements, left, version, touched_s)
    if together is None and record[0] & SEPARATE:
        content = QuickList(view, record)
        content.version = version
        content.push(elements, left)
        together = Changed(content.record(touched_s), content.size)
    if together is not None:
        view.registers.counter = version
        sizes += list(accumulate(counts, initial=together.size - len(elements)))[1:]
        return together.record
    for line in lines:  # the collection id will be the version of one of these
        record, size = pushed(view, record, line[2:], left, touched_s)
        sizes.append(size)
    return record


def pop_many(
    view: View, db: int, pops: Sequence[Sequence[bytes]], left: bool, now_ms: int
) -> list[bytes | None] | None:
    """Carry out several pops of one element (command's name, key); see `push_many`."""
    held = _held(view, db, pops, now_ms)
    if held is None:
        return None
    touched_s = now_ms // 1000
    elements: list[bytes | None] = []
    for _, key in pops:
        before = held[key]
        if before is None:
            elements.append(None)
            continue
        element, held[key] = popped(view, before, left, touched_s)
        elements.append(element)
        if held[key] is None:
            if before is not view.record(db, key, now_ms):
                view.put(db, key, before)  # when a key was removed is known by its last version
            view.put(db, key, None)
    for key, record in held.items():
        before = view.record(db, key, now_ms)
        if record is not before:
            _put(view, db, key, before, record)
    return elements


def _held(view: View, db: int, lines: Sequence[Sequence[bytes]], now_ms: int) -> dict[bytes, bytes | None] | None:
    """Return the records of the keys, None if one is no list's."""
    held = {line[1]: view.record(db, line[1], now_ms) for line in lines}
    if any(record is not None and record[0] & TYPE_MASK != LIST for record in held.values()):
        return None
    return held


def pop(view: View, db: int, key: bytes, count: int, left: bool, now_ms: int) -> list[bytes]:
    """Take up to `count` elements off an end of the key's list, in the order popped; an emptied key is deleted.

    Returns none, and changes nothing, where there is no list or `count` is 0. Raises WrongType.
    """
    record = view.record(db, key, now_ms)
    if record is None:
        return []
    check_list(record)
    if count <= 0:
        return []
    if count == 1:
        element, rest = popped(view, record, left, now_ms // 1000)
        _put(view, db, key, record, rest)
        return [element]
    content = QuickList(view, record)
    if count < content.size:
        content.begin()
        taken = content.pop(count, left)
        content.save(db, key, now_ms // 1000)
    else:
        taken = content.together(0, content.size)
        view.put(db, key, None)
    elements = taken.elements()
    if not left:
        elements.reverse()
    return elements


def move(
    view: View, db: int, source: bytes, destination: bytes, from_left: bool, to_left: bool, now_ms: int
) -> bytes | None:
    """Move the element at one end of `source` to an end of `destination`, which may be the same key; return it.

    Returns None, and changes nothing, where there is no list. Raises WrongType for either.
    """
    record = view.record(db, source, now_ms)
    if record is None:
        return None
    check_list(record)
    touched_s = now_ms // 1000
    if source == destination:
        content = QuickList(view, record)
        content.begin()
        element = element_of(content.pop(1, from_left).frames)
        content.push([element], to_left)
        content.save(db, source, touched_s)
        return element
    target = view.record(db, destination, now_ms)
    if target is not None:
        check_list(target)
    element, rest = popped(view, record, from_left, touched_s)
    _put(view, db, source, record, rest)
    _put(view, db, destination, target, pushed(view, target, (element,), to_left, touched_s).record)
    return element
