"""Serving: what blocking pops take, for whom, and how it comes back if nobody is there to have it.

`serve` runs behind every command, EXEC or script that changed a key somebody waits for. It goes through the keys in the
order of their first change and through each line from its front. A BLMOVE is carried out at once: its element stays in
the database whatever becomes of the client. Of every other pop the element is *reserved*: it leaves the key and lies in
the waiter's row until the waiter's own node, which alone knows whether the client is still there, settles it.

Reserving at once, and not leaving the element in its key until that node takes it, keeps what programs for Redis see:
behind a push that is answered, the key is empty if somebody waited for it, whoever asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from zattredis.errors import WrongType
from zattredis.keyspace.lists import move, pop, push
from zattredis.keyspace.metadata import LARGE, LIST, TYPE_MASK, expire_of
from zattredis.keyspace.view import View
from zattredis.keyspace.waiters import (
    CANCELLED,
    DROPPED,
    SERVED,
    Event,
    Place,
    Popped,
    Taken,
    Waiter,
    Wanted,
)
from zattredis.keyspace.zsets import SmallZset, Zset, is_large, open_zset, pop_min_max, store_zset


def attempt(view: View, db: int, keys: Iterable[bytes], wanted: Wanted, now_ms: int) -> Any:
    """Pop from the first key that is there and return the reply, None when none is. Raises WrongType."""
    for key in keys:
        record = view.record(db, key, now_ms)
        if record is None:
            continue
        if record[0] & TYPE_MASK != wanted.kind:
            raise WrongType
        if wanted.target is not None:
            return _move(view, db, key, wanted, now_ms)
        return reply_of(wanted, _take(view, db, key, record, wanted, now_ms))
    return None


def reply_of(wanted: Wanted, taken: Taken) -> Popped:
    """Return the reply to a pop that took these elements."""
    if wanted.most:
        return Popped([taken.key, taken.elements], taken)
    element = taken.elements[0]
    return Popped([taken.key, element] if wanted.kind == LIST else [taken.key, *element], taken)


def serve(view: View, ready: Iterable[tuple[int, bytes]], now_ms: int) -> None:
    """Serve the waiters of these (database, key), and those of the keys that this makes ready in turn."""
    waiters = view.registers.waiters
    queue = deque(ready)
    while queue:
        db, key = queue.popleft()
        while (record := view.record(db, key, now_ms)) is not None:
            place: Place = (record[0] & TYPE_MASK, db, key)
            waiter = waiters.first_of(place)
            if waiter is None:
                break
            target = waiter.wanted.target
            if target is None:
                waiters.reserve(view, waiter, _take(view, db, key, record, waiter.wanted, now_ms))
                continue
            reply: Any
            try:
                reply = _move(view, db, key, waiter.wanted, now_ms)
                queue.append((db, target))
            except WrongType as error:  # of the target: the element stays where it is
                reply = error
            waiters.remove(view, waiter, Event(SERVED, waiter.order, waiter.session, reply))


def settle(view: View, order: int) -> None:
    """Let a waiter have what is reserved for it, or cancel it if nothing is. Does nothing if it is gone."""
    waiter = view.registers.waiters.by_order.get(order)
    if waiter is None:
        return
    what, reply = CANCELLED, None
    if waiter.reserved:
        what, reply = SERVED, reply_of(waiter.wanted, view.registers.waiters.taken_for(view, waiter))
    view.registers.waiters.remove(view, waiter, Event(what, order, waiter.session, reply))


def withdraw(view: View, order: int, now_ms: int) -> None:
    """Forget a waiter; what is reserved for it goes back. Does nothing if it is gone."""
    waiter = view.registers.waiters.by_order.get(order)
    if waiter is not None:
        _withdraw(view, waiter, now_ms, None)


def drop_session(view: View, session: int, now_ms: int) -> None:
    """Forget all waiters of a session; what is reserved for them goes back, the latest first, to its old order."""
    mine = view.registers.waiters.by_session.get(session, {})
    for _, waiter in sorted(mine.items(), reverse=True):
        _withdraw(view, waiter, now_ms, Event(DROPPED, waiter.order, session))


def _withdraw(view: View, waiter: Waiter, now_ms: int, event: Event | None) -> None:
    waiters = view.registers.waiters
    taken = waiters.taken_for(view, waiter) if waiter.reserved else None
    waiters.remove(view, waiter, event)
    if taken is not None:
        put_back(view, taken, now_ms)


def put_back(view: View, taken: Taken, now_ms: int) -> None:
    """Put elements back where they were popped from, as if they had never left.

    That is the end of the list from which they came, in whichever database its namespace is now. A namespace that was
    flushed since, a key that holds another type since, or one that would have expired by now, would have lost them:
    then they are gone. A member that was added again since keeps its new score.
    """
    namespaces = [counts.namespace for counts in view.registers.databases]
    if taken.namespace not in namespaces or (taken.expire_ms and now_ms > taken.expire_ms):
        return
    db, key = namespaces.index(taken.namespace), taken.key
    before = view.record(db, key, now_ms)
    if before is not None and before[0] & TYPE_MASK != taken.kind:
        return
    if taken.kind == LIST:
        push(view, db, key, taken.elements[::-1], taken.first, now_ms)
    else:
        _insert_absent(view, db, key, before, taken.elements, now_ms)
    if before is None and taken.expire_ms:
        record = view.record(db, key, now_ms)
        if record is not None:
            view.set_expire(db, key, record, taken.expire_ms, now_ms // 1000)


def _insert_absent(
    view: View, db: int, key: bytes, record: bytes | None, pairs: list[tuple[bytes, float]], now_ms: int
) -> None:
    """Add those members to the key's sorted set that it does not hold."""
    zset: Zset = SmallZset([], []) if record is None else open_zset(view, record)
    held = zset.scores([member for member, _ in pairs])
    for (member, score), other in zip(pairs, held, strict=True):
        if other is None:
            zset.insert(score, member)
    expire_ms, large = (0, False) if record is None else (expire_of(record), bool(record[0] & LARGE))
    store_zset(view, db, key, zset, now_ms // 1000, expire_ms, large or is_large(view, zset))


def _take(view: View, db: int, key: bytes, record: bytes, wanted: Wanted, now_ms: int) -> Taken:
    namespace = view.registers.databases[db].namespace
    elements: list[Any] = (pop if wanted.kind == LIST else pop_min_max)(
        view, db, key, wanted.most or 1, wanted.first, now_ms
    )
    return Taken(wanted.kind, wanted.first, key, namespace, expire_of(record), elements)


def _move(view: View, db: int, key: bytes, wanted: Wanted, now_ms: int) -> bytes:
    """Carry out a BLMOVE and return the element. Raises WrongType, with nothing done, for the target."""
    assert wanted.target is not None
    element = move(view, db, key, wanted.target, wanted.first, wanted.target_left, now_ms)
    assert element is not None
    return element
