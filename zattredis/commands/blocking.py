"""The blocking pops, and what nodes put into the log for the clients that wait in them.

A blocking pop is a WRITE command. At apply it pops if one of its keys holds something; if not, its client becomes a
waiter in the replicated state (`keyspace.waiters`), which `keyspace.serving` serves behind the command that makes a key
ready. Inside EXEC and scripts (`ctx.session` is 0) nobody waits: the reply is null at once.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final, NamedTuple

import msgspec

from zattredis.commands.arguments import INTEGER_MAX, INTEGER_MIN
from zattredis.commands.context import Context
from zattredis.commands.keyspec import KeyPart, KeySpec
from zattredis.commands.lists import read_counted_keys
from zattredis.commands.sorted_sets import counted_keys, parse_mpop
from zattredis.commands.table import KEYS_TWO, Flag, command, internal
from zattredis.errors import DefiniteError, SyntaxReplyError
from zattredis.keyspace.long_double import parse_long_double
from zattredis.keyspace.metadata import LIST, ZSET
from zattredis.keyspace.serving import attempt, drop_session, put_back, serve, settle, withdraw
from zattredis.keyspace.waiters import RETURNED, Event, Taken, Waiter, Waiting, Wanted, distinct
from zattredis.resp.replies import NULL_ARRAY

SETTLE: Final = b"\0settle"
WITHDRAW: Final = b"\0withdraw"
RESUME: Final = b"\0resume"
PUT_BACK: Final = b"\0putback"
DROP: Final = b"\0drop"

_FLAGS: Final = Flag.WRITE | Flag.NOSCRIPT | Flag.BLOCKING
_KEYS_BUT_LAST: Final = KeySpec(1, -2, 1)
_COUNTED_KEYS: Final = KeySpec(finder=counted_keys(2))
_SIDES: Final = {b"LEFT": True, b"RIGHT": False}
_POPS: Final = "RW access delete"
_MOVES: Final = (KeyPart("RW access delete", index=1), KeyPart("RW insert", index=2))
_COUNTED: Final = (KeyPart(_POPS, index=2, number_index=0, first_key=1),)
_DOUBLE_SINCE: Final = (("6.0.0", "`timeout` is interpreted as a double instead of an integer."),)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class Request(NamedTuple):
    """A blocking command line, read."""

    keys: tuple[bytes, ...]
    wanted: Wanted
    timeout_ms: int


# -- reading command lines -------------------------------------------------------------------------------------------


def parse_timeout(text: bytes) -> int:
    """Return a timeout in ms, 0 for none. Raises DefiniteError with Redis's texts."""
    seconds = parse_long_double(text)
    if seconds is None:
        raise DefiniteError("timeout is not a float or out of range")
    timeout_ms = INTEGER_MIN  # what the cast of too large a number comes to on x86
    if not seconds.infinite:
        # Rounded up, so that a little more than nothing is not for ever.
        timeout_ms = -(-(Fraction(seconds.mantissa) * Fraction(2) ** seconds.exponent * 1000) // 1)
    if not 0 <= timeout_ms <= INTEGER_MAX:
        raise DefiniteError("timeout is negative")
    return timeout_ms


def _parse_blmpop(timeout: bytes, *words: bytes) -> Request:
    keys, left, count = read_counted_keys(words)
    return Request(keys, Wanted(LIST, left, count), parse_timeout(timeout))


def _parse_bzmpop(timeout: bytes, numkeys: bytes, *words: bytes) -> Request:
    keys, lowest, count = parse_mpop(numkeys, words)
    return Request(keys, Wanted(ZSET, lowest, count), parse_timeout(timeout))


def _plain(kind: int, first: bool) -> Callable[..., Request]:
    def parse(*words: bytes) -> Request:
        return Request(words[:-1], Wanted(kind, first), parse_timeout(words[-1]))

    return parse


def _parse_blmove(source: bytes, target: bytes, where_from: bytes, where_to: bytes, timeout: bytes) -> Request:
    if where_from.upper() not in _SIDES or where_to.upper() not in _SIDES:
        raise SyntaxReplyError
    wanted = Wanted(LIST, _SIDES[where_from.upper()], target=target, target_left=_SIDES[where_to.upper()])
    return Request((source,), wanted, parse_timeout(timeout))


def _parse_brpoplpush(source: bytes, target: bytes, timeout: bytes) -> Request:
    return Request((source,), Wanted(LIST, False, target=target, target_left=True), parse_timeout(timeout))


_PARSERS: Final[dict[bytes, Callable[..., Request]]] = {
    b"BLPOP": _plain(LIST, True),
    b"BRPOP": _plain(LIST, False),
    b"BLMOVE": _parse_blmove,
    b"BRPOPLPUSH": _parse_brpoplpush,
    b"BLMPOP": _parse_blmpop,
    b"BZPOPMIN": _plain(ZSET, True),
    b"BZPOPMAX": _plain(ZSET, False),
    b"BZMPOP": _parse_bzmpop,
}


# -- waiting ---------------------------------------------------------------------------------------------------------


def _pop_or_wait(ctx: Context, request: Request) -> Any:
    """Return the reply of a blocking pop; or Waiting, its client having joined the lines of its keys."""
    keys, wanted, timeout_ms = request
    view = ctx.view
    found = attempt(view, ctx.db, keys, wanted, ctx.now_ms)
    if found is not None:
        return found
    if not ctx.session:
        return NULL_ARRAY if wanted.target is None else None
    order = view.next_id()
    view.registers.waiters.add(view, Waiter(order, ctx.session, ctx.db, distinct(keys), wanted))
    return Waiting(order, timeout_ms)


@command(
    "BLPOP", arity=-3, flags=_FLAGS, keys=_KEYS_BUT_LAST, key_flags=_POPS, group="list", since="2.0.0",
    complexity="O(N) where N is the number of provided keys.", syntax="key [key ...] timeout:double",
    history=_DOUBLE_SINCE,
)  # fmt: skip
def blpop(ctx: Context, *words: bytes) -> Any:
    """Remove and get the first element in a list, or block until one is available."""
    return _pop_or_wait(ctx, _PARSERS[b"BLPOP"](*words))


@command(
    "BRPOP", arity=-3, flags=_FLAGS, keys=_KEYS_BUT_LAST, key_flags=_POPS, group="list", since="2.0.0",
    complexity="O(N) where N is the number of provided keys.", syntax="key [key ...] timeout:double",
    history=_DOUBLE_SINCE,
)  # fmt: skip
def brpop(ctx: Context, *words: bytes) -> Any:
    """Remove and get the last element in a list, or block until one is available."""
    return _pop_or_wait(ctx, _PARSERS[b"BRPOP"](*words))


@command(
    "BLMOVE", arity=6, flags=_FLAGS | Flag.DENYOOM, keys=KEYS_TWO, key_parts=_MOVES, group="list", since="6.2.0",
    complexity="O(1)",
    syntax="source destination wherefrom=<LEFT | RIGHT> whereto=<LEFT | RIGHT> timeout:double",
)  # fmt: skip
def blmove(ctx: Context, *words: bytes) -> Any:
    """Pop an element from a list, push it to another list and return it; or block until one is available."""
    return _pop_or_wait(ctx, _parse_blmove(*words))


@command(
    "BRPOPLPUSH", arity=4, flags=_FLAGS | Flag.DENYOOM, keys=KEYS_TWO, key_parts=_MOVES, group="list", since="2.2.0",
    complexity="O(1)", syntax="source destination timeout:double", history=_DOUBLE_SINCE, deprecated_since="6.2.0",
    replaced_by="`BLMOVE` with the `RIGHT` and `LEFT` arguments",
)  # fmt: skip
def brpoplpush(ctx: Context, *words: bytes) -> Any:
    """Pop an element from a list, push it to another list and return it; or block until one is available."""
    return _pop_or_wait(ctx, _parse_brpoplpush(*words))


@command(
    "BLMPOP", arity=-5, flags=Flag.WRITE | Flag.BLOCKING | Flag.MOVABLEKEYS, keys=_COUNTED_KEYS,
    key_parts=_COUNTED, group="list", since="7.0.0",
    complexity="O(N+M) where N is the number of provided keys and M is the number of elements returned.",
    syntax="timeout:double numkeys:integer key [key ...] where=<LEFT | RIGHT> [COUNT count:integer]",
)  # fmt: skip
def blmpop(ctx: Context, *words: bytes) -> Any:
    """Pop elements from a list, or block until one is available."""
    return _pop_or_wait(ctx, _parse_blmpop(*words))


@command(
    "BZPOPMIN", arity=-3, flags=_FLAGS | Flag.FAST, keys=_KEYS_BUT_LAST, key_flags=_POPS, group="sorted-set",
    since="5.0.0", complexity="O(log(N)) with N being the number of elements in the sorted set.",
    syntax="key [key ...] timeout:double", history=_DOUBLE_SINCE,
)  # fmt: skip
def bzpopmin(ctx: Context, *words: bytes) -> Any:
    """Remove and return the member with the lowest score of the first sorted set that has one, or block for one."""
    return _pop_or_wait(ctx, _PARSERS[b"BZPOPMIN"](*words))


@command(
    "BZPOPMAX", arity=-3, flags=_FLAGS | Flag.FAST, keys=_KEYS_BUT_LAST, key_flags=_POPS, group="sorted-set",
    since="5.0.0", complexity="O(log(N)) with N being the number of elements in the sorted set.",
    syntax="key [key ...] timeout:double", history=_DOUBLE_SINCE,
)  # fmt: skip
def bzpopmax(ctx: Context, *words: bytes) -> Any:
    """Remove and return the member with the highest score of the first sorted set that has one, or block for one."""
    return _pop_or_wait(ctx, _PARSERS[b"BZPOPMAX"](*words))


@command(
    "BZMPOP", arity=-5, flags=Flag.WRITE | Flag.BLOCKING | Flag.MOVABLEKEYS, keys=_COUNTED_KEYS, key_parts=_COUNTED,
    group="sorted-set", since="7.0.0",
    complexity="O(K) + O(M*log(N)) where K is the number of keys, N the elements of the set and M the popped.",
    syntax="timeout:double numkeys:integer key [key ...] where=<MIN | MAX> [COUNT count:integer]",
)  # fmt: skip
def bzmpop(ctx: Context, *words: bytes) -> Any:
    """Remove and return members with scores in a sorted set, or block until there are some."""
    return _pop_or_wait(ctx, _parse_bzmpop(*words))


# -- what a node does for its clients --------------------------------------------------------------------------------


@internal(SETTLE)
def settle_waiters(ctx: Context, *orders: bytes) -> None:
    """Give waiters what is reserved for them; cancel those for whom nothing is."""
    for order in orders:
        settle(ctx.view, int(order))


@internal(WITHDRAW)
def withdraw_waiters(ctx: Context, *orders: bytes) -> None:
    """Forget waiters whose clients are gone; what is reserved for them goes back, the latest first."""
    for order in sorted(map(int, orders), reverse=True):
        withdraw(ctx.view, order, ctx.now_ms)


@internal(RESUME)
def resume_waiter(ctx: Context, order: bytes, *argv: bytes) -> None:
    """Let a waiter that was dropped take its old place in line again, and serve it if it is its turn."""
    waiters = ctx.view.registers.waiters
    if not ctx.session or int(order) in waiters.by_order:
        return
    keys, wanted, _ = _PARSERS[argv[0].upper()](*argv[1:])
    waiters.add(ctx.view, Waiter(int(order), ctx.session, ctx.db, distinct(keys), wanted))
    serve(ctx.view, [(ctx.db, key) for key in distinct(keys)], ctx.now_ms)


@internal(PUT_BACK)
def put_back_elements(ctx: Context, payload: bytes) -> None:
    """Put back what a client was given that is not there any more."""
    token, taken = _decode(payload)
    put_back(ctx.view, Taken(*taken), ctx.now_ms)
    ctx.view.registers.waiters.note(ctx.view, Event(RETURNED, token, ctx.session))


def encode_put_back(token: int, taken: Taken) -> list[bytes]:
    """Return the command line that puts elements back; `token` is the order of the event that says so."""
    return [PUT_BACK, _encode((token, tuple(taken)))]


@internal(DROP)
def drop_waiters(ctx: Context, session: bytes) -> None:
    """Forget all waiters of a session whose node cannot be reached."""
    drop_session(ctx.view, int(session), ctx.now_ms)


def wanted_by(argv: list[bytes]) -> Wanted:
    """Return what a blocking command line that was accepted wants."""
    return _PARSERS[argv[0].upper()](*argv[1:]).wanted
