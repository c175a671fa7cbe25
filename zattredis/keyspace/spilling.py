"""A view for one command that works long: it lets others have their turn, and holds little of what it makes.

What a command writes under a collection id that it was given itself is invisible until the key's record names that id,
which is the last thing it writes. So that much may be written before the command is done (`write_ahead`), piece by
piece, and what the view holds stays bounded however large a collection is copied, united or restored.

**What it leaves behind.** A command that fails, and a process that ends in its midst, leave subkeys under ids above the
counter, which gives those ids again. A command that fails erases them at once; whoever opens a state erases what is
found above its counter (`leftovers`). So no subkey ever lies above the counter while anything else is carried out, and
the state stays a function of the log alone: a command that is carried out again gives the same ids and the same bytes.

**Scratch.** What a command has to put in order, and may be more than memory holds, is sorted in runs, which are written
under a collection id that no collection ever has, and merged (`Scratch`). They are no effects and count as none; they
are deleted as they are walked through, what is left at the latest when the command is done.

**A bound.** What a command, or an EXEC, may write is bounded (EFFECT_BYTES_MAX), which is found out when a piece is
written ahead, and not when the command is done: a disk could be full by then, on every node, and again after a restart.

**Long reads** put things in order the same way, but in a file of their own (`LongReadView`); nothing is left of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import islice
from typing import Any, Final, Protocol

import msgspec

from zattredis.errors import ReplyError, StateDamaged
from zattredis.keyspace.keys import s_prefix
from zattredis.keyspace.pages import Page, encode_page
from zattredis.keyspace.reader import Reader
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.sizes import EFFECT_BYTES_MAX
from zattredis.keyspace.view import _RAW, View

PIECE_KEYS: Final = 4096
PIECE_BYTES: Final = 1 << 20
"""A piece that is written ahead is not much larger than the one or the other: writing it takes a few milliseconds."""
HELD_MAX: Final = 65_536
HELD_BYTES_MAX: Final = 8 << 20
"""More rows than this, or more bytes of them, are put in order outside of memory where that can be."""
RUN_ROWS: Final = 16_384
READ_RUN_ROWS: Final = 4_096
RUN_BYTES: Final = 16 << 20
"""Rows that are sorted at once: of short ones in 12 ms, of a read, which is in nobody's turns, in 3."""
PAGE_ROWS: Final = 128
_PAGE_BYTES: Final = 16 << 10
"""Of each run that is merged one page is held."""
_ROW_BYTES: Final = 32
_encode: Final = msgspec.msgpack.Encoder().encode
_PUTS_A_BREATH: Final = 64
_SUBKEYS_END: Final = b"t"
_SCRATCH: Final = s_prefix((1 << 64) - 1)

Changes = Mapping[bytes, "bytes | None"]


class TooLarge(ReplyError):
    """A command or EXEC writes more than the constant bound."""

    def __init__(self) -> None:
        super().__init__(f"the command writes more than {EFFECT_BYTES_MAX} bytes")


class SpillingView(View):
    """See the module. `breathe` is called often and may take its time; `write_ahead` returns once it has written."""

    __slots__ = (
        "_breathe", "_made", "_made_bytes", "_made_reckoned", "_may_spill", "_puts", "_scratches",
        "_spilled_bytes", "_write_ahead",
    )  # fmt: skip

    def __init__(
        self, reader: Reader, registers: Registers, write_ahead: Callable[[Changes], None], breathe: Callable[[], None]
    ) -> None:
        super().__init__(reader, registers)
        self._scratches: list[Scratch] = []
        self._write_ahead = write_ahead
        self._breathe = breathe
        self._puts = 0
        self._made: list[bytes] = []
        self._made_bytes = 0
        self._made_reckoned = 0
        """The same as `effect_bytes` has it at most: of pages that says little."""
        self._may_spill = True
        self._spilled_bytes = 0

    def begin(self) -> None:
        """Mark the start of a command."""
        super().begin()
        self._may_spill = True
        self._made.clear()
        self._made_bytes = self._made_reckoned = 0

    def commit(self) -> None:
        """Keep the command's effects, and nothing that it put aside."""
        self._clear_scratches()
        super().commit()

    def commit_unit(self) -> None:
        """Keep the effects of the whole unit, and nothing that its last command put aside, which may be a read."""
        self._clear_scratches()
        super().commit_unit()

    def _clear_scratches(self) -> None:
        for scratch in self._scratches:
            scratch.clear()
        self._scratches.clear()

    def scratch(self, row: Any) -> Scratch | None:
        """See `scratch_of`."""
        if not self._may_spill:
            return None
        prefix = _SCRATCH + len(self._scratches).to_bytes(4, "big")
        scratch = Scratch(self.reader.get, self._write_ahead, prefix, row, RUN_ROWS)
        self._scratches.append(scratch)
        return scratch

    def savepoint(self) -> tuple[int, int, int]:
        """Return a mark for `rollback_to`. What can be undone in part is held until the command is done."""
        self._may_spill = False
        return super().savepoint()

    def put_raw(self, key: bytes, value: bytes | None) -> None:
        """Write a store key that is not a record (None deletes it)."""
        super().put_raw(key, value)
        size = len(key) + (0 if value is None else len(value))  # a member stands in its key
        self._count(key, size, size)

    def put_page(self, name: bytes, page: Page | None) -> None:
        """Write a page (None deletes it)."""
        super().put_page(name, page)
        size = reckoned = 0
        if page is not None:
            size = reckoned = 16 * len(page[0])
            size += sum([sum(map(len, column)) for column in page if column and column[0].__class__ is bytes])
        self._count(name, size, reckoned)

    def iterate(self, lower: bytes, upper: bytes, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Yield (store key, value) for lower <= key < upper in order, through this view's effects."""
        if lower < _SUBKEYS_END and upper > self._first_fresh():
            self._may_spill = False  # a walk through what the command has made looks its values up as it goes
        return super().iterate(lower, upper, reverse)

    @property
    def held_bytes(self) -> int:
        """About how many bytes `take` would return now."""
        return self.effect_bytes - self._spilled_bytes

    def _first_fresh(self) -> bytes:
        return s_prefix(self._mark_counter + 1)

    def _count(self, key: bytes, size: int, reckoned: int) -> None:
        if self._first_fresh() <= key < _SUBKEYS_END:
            self._made.append(key)
            self._made_bytes += size
            self._made_reckoned += reckoned
            if self._may_spill and (len(self._made) >= PIECE_KEYS or self._made_bytes >= PIECE_BYTES):
                self._spill()
        self._puts += 1
        if self._puts >= _PUTS_A_BREATH:
            self._puts = 0
            self._breathe()

    def _spill(self) -> None:
        """Write what the command has made of collections of its own, and forget it. Raises TooLarge."""
        if self.effect_bytes - (self._mark_bytes if self._unit is None else self._unit[1]) > EFFECT_BYTES_MAX:
            raise TooLarge
        effects: dict[bytes, Any] = self._effects
        made = {key: effects.pop(key) for key in self._made if key in effects}
        changes = self._undo[self._mark :]
        del self._undo[self._mark :]
        self._undo += [change for change in changes if not (change[0] is _RAW and change[1] in made)]
        for key, value in made.items():
            if value.__class__ is tuple:
                made[key] = encode_page(value)
        self._pages = [name for name in self._pages if name not in made]
        self._effect_keys = self._subkeys = None
        self._fresh.clear()
        self._made.clear()
        self._spilled_bytes += self._made_reckoned + 1
        self._made_bytes = self._made_reckoned = 0
        self._write_ahead(made)

    def _undo_to(self, mark: int, mark_bytes: int, mark_counter: int) -> None:
        super()._undo_to(mark, mark_bytes, mark_counter)
        if self._spilled_bytes or self._scratches:
            for piece in leftovers(self.reader, self.registers):
                self._write_ahead(piece)
            self._scratches.clear()


class Spool(Protocol):
    """Where one long read puts pages aside. Raises StorageError when what was put there cannot be read."""

    def get(self, name: bytes, /) -> bytes | None:
        """Return a page."""
        ...

    def write(self, pages: Changes, /) -> None:
        """Keep pages; None forgets one."""
        ...

    def close(self) -> None:
        """Forget everything."""
        ...


class LongReadView(View):
    """A view for one long read, which may put aside what it has to put in order; close it."""

    __slots__ = ("_new_spool", "_number", "_spool")

    def __init__(self, reader: Reader, registers: Registers, new_spool: Callable[[], Spool] | None) -> None:
        super().__init__(reader, registers)
        self._new_spool = new_spool
        self._spool: Spool | None = None
        self._number = 0

    def scratch(self, row: Any) -> Scratch | None:
        """See `scratch_of`."""
        if self._spool is None:
            if self._new_spool is None:
                return None
            self._spool = self._new_spool()
        self._number += 1
        prefix = self._number.to_bytes(4, "big")
        return Scratch(self._spool.get, self._spool.write, prefix, row, READ_RUN_ROWS)

    def close(self) -> None:
        """Forget what was put aside; harmless when repeated."""
        if self._spool is not None:
            self._spool.close()


class Scratch:
    """Rows of one command, tuples that can be compared, put in order: sorted runs of them, in pages, that are merged.

    Pages, because a row of its own in the store costs five times what all else does.
    """

    __slots__ = ("_bytes", "_decode", "_get", "_gone", "_pages", "_prefix", "_rows", "_run_rows", "_write")

    def __init__(
        self,
        get: Callable[[bytes], bytes | None],
        write: Callable[[Changes], None],
        prefix: bytes,
        row: Any,
        run_rows: int,
    ) -> None:
        self._get = get
        self._write = write
        self._prefix = prefix
        self._run_rows = run_rows
        self._decode: Callable[[bytes], list[Any]] = msgspec.msgpack.Decoder(list[row]).decode
        self._rows: list[Any] = []
        self._bytes = 0
        self._pages: list[int] = []
        """How many pages each run has."""
        self._gone: dict[bytes, bytes | None] = {}

    def put(self, rows: Sequence[Any], size: int) -> None:
        """Add rows, of about `size` bytes in all; not many at once."""
        self._rows += rows
        self._bytes += size + _ROW_BYTES * len(rows)
        if len(self._rows) >= self._run_rows or self._bytes >= RUN_BYTES:
            self._write_run()

    def drain(self, reverse: bool = False) -> Iterator[Any]:
        """Return an iterator over all rows in order, or backwards, that deletes what it has passed; add none then."""
        last, self._rows = sorted(self._rows, reverse=reverse), []
        runs = [self._run(number, reverse) for number in range(len(self._pages))]
        return merge(last, *runs, reverse=reverse)

    def clear(self) -> None:
        """Delete what is left."""
        self._rows = []
        for number, pages in enumerate(self._pages):
            for page in range(pages):
                self._delete(self._name(number, page))
        self._write(self._gone)
        self._gone = {}
        self._pages = []

    def _write_run(self) -> None:
        rows, self._rows = sorted(self._rows), []
        fill = max(1, min(PAGE_ROWS, _PAGE_BYTES * len(rows) // self._bytes))
        starts = range(0, len(rows), fill)
        pages: dict[bytes, bytes | None] = {}
        size = 0
        for number, start in enumerate(starts):
            pages[self._name(len(self._pages), number)] = page = _encode(rows[start : start + fill])
            size += len(page)
            if size >= PIECE_BYTES:
                self._write(pages)
                pages, size = {}, 0
        self._write(pages)
        self._pages.append(len(starts))
        self._bytes = 0

    def _run(self, number: int, reverse: bool) -> Iterator[Any]:
        pages = range(self._pages[number])
        for page in reversed(pages) if reverse else pages:
            name = self._name(number, page)
            stored = self._get(name)
            if stored is None:
                raise StateDamaged("what a command had put aside is gone")
            rows = self._decode(stored)
            yield from reversed(rows) if reverse else rows
            self._delete(name)

    def _name(self, run: int, page: int) -> bytes:
        return self._prefix + run.to_bytes(4, "big") + page.to_bytes(4, "big")

    def _delete(self, name: bytes) -> None:
        self._gone[name] = None
        if len(self._gone) >= PIECE_KEYS:
            self._write(self._gone)
            self._gone = {}


def scratch_of(view: View, row: Any) -> Scratch | None:
    """Return a place for rows (of this type) that a command has to put in order and should not hold; it lasts until
    the command is done. None where there is no such place: the command has to hold them."""
    return view.scratch(row) if isinstance(view, SpillingView | LongReadView) else None


def forget(view: View, db: int, keys: Iterable[bytes]) -> None:
    """Let a long command's view know nothing more of keys that it may have read: a command that reads very many calls
    this, as long as the view may not hold them."""
    table = view._tables[db]
    if isinstance(view, SpillingView | LongReadView) and table is not None:
        for key in keys:
            if key in table.records and table.k_keys[key] not in view._effects:
                table.forget(key)


def leftovers(reader: Reader, registers: Registers) -> Iterator[dict[bytes, bytes | None]]:
    """Yield, in pieces to be written, the deletion of all subkeys above the counter (see the module)."""
    found = reader.iterate(s_prefix(registers.counter + 1), _SUBKEYS_END)
    while piece := {key: None for key, _ in islice(found, PIECE_KEYS)}:
        yield dict(piece)
