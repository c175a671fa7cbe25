"""A Probe: a view for finding out whether a command would change anything, without changing anything.

It reads as the view it was made from. The first attempt to write raises `WouldChange`, before anything is touched: the
registers and the records in memory belong to whoever applies, and are shared with all views.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from zattredis.keyspace.pages import Page
from zattredis.keyspace.parameters import Parameters
from zattredis.keyspace.record_cache import Table
from zattredis.keyspace.view import View


class WouldChange(BaseException):
    """The command has something to do. No error of a handler's, so that none takes it for one."""


class Probe(View):
    """See the module. Invariant: whatever is asked of it, effects, registers and records stay as they are."""

    __slots__ = ()

    @classmethod
    def of(cls, view: View) -> Probe:
        """Return a probe of what `view` shows, which holds no effects of its own."""
        return cls(view.reader, view.registers, view._cache)

    def next_id(self) -> NoReturn:
        """Raise WouldChange, as all below do."""
        raise WouldChange

    def set_plain(self, db: int, key: bytes, value: bytes, touched_s: int) -> NoReturn:
        raise WouldChange

    def set_plain_many(self, db: int, pairs: Sequence[tuple[bytes, bytes]], touched_s: int) -> NoReturn:
        raise WouldChange

    def put(self, db: int, key: bytes, record: bytes | None) -> NoReturn:
        raise WouldChange

    def rewrite(self, db: int, key: bytes, record: bytes) -> NoReturn:
        raise WouldChange

    def put_raw(self, key: bytes, value: bytes | None) -> NoReturn:
        raise WouldChange

    def put_raw_many(self, changes: Mapping[bytes, bytes | None]) -> NoReturn:
        raise WouldChange

    def put_page(self, name: bytes, page: Page | None) -> NoReturn:
        raise WouldChange

    def flush(self, db: int) -> NoReturn:
        raise WouldChange

    def swap(self, one: int, other: int) -> NoReturn:
        raise WouldChange

    def bury(self, what: bytes) -> NoReturn:
        raise WouldChange

    def unbury(self, name: bytes) -> NoReturn:
        raise WouldChange

    def set_expired_until(self, expire_ms: int) -> NoReturn:
        raise WouldChange

    def set_fields_expired_until(self, next_ms: int) -> NoReturn:
        raise WouldChange

    def set_parameters(self, parameters: Parameters) -> NoReturn:
        raise WouldChange

    def on_rollback(self, undo: Callable[[], None]) -> NoReturn:
        raise WouldChange

    def take(self) -> NoReturn:
        raise WouldChange

    # What the others come down to, should one be forgotten above.

    def _replace(self, table: Table, key: bytes, old: bytes | None, record: bytes | None) -> NoReturn:
        raise WouldChange

    def _change(self, table: Table, key: bytes, old: bytes | None, record: bytes | None) -> NoReturn:
        raise WouldChange
