"""A view for one command that works long: it lets others have their turn, and holds little of what it makes.

What a command writes under a collection id that it was given itself is invisible until the key's record names that id,
which is the last thing it writes. So that much may be written before the command is done (`write_ahead`), piece by
piece, and what the view holds stays bounded however large a collection is copied, united or restored.

**What it leaves behind.** A command that fails, and a process that ends in its midst, leave subkeys under ids above the
counter, which gives those ids again. A command that fails erases them at once; whoever opens a state erases what is
found above its counter (`leftovers`). So no subkey ever lies above the counter while anything else is carried out, and
the state stays a function of the log alone: a command that is carried out again gives the same ids and the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from zattredis.keyspace.keys import s_prefix
from zattredis.keyspace.pages import Page, encode_page
from zattredis.keyspace.reader import Reader
from zattredis.keyspace.registers import Registers
from zattredis.keyspace.view import _RAW, View

PIECE_KEYS: Final = 4096
PIECE_BYTES: Final = 1 << 20
"""A piece that is written ahead is not much larger than the one or the other: writing it takes a few milliseconds."""
_PUTS_A_BREATH: Final = 64
_SUBKEYS_END: Final = b"t"

Changes = Mapping[bytes, "bytes | None"]


class SpillingView(View):
    """See the module. `breathe` is called often and may take its time; `write_ahead` returns once it has written."""

    __slots__ = (
        "_breathe", "_made", "_made_bytes", "_made_reckoned", "_may_spill", "_puts", "_spilled_bytes", "_write_ahead",
    )  # fmt: skip

    def __init__(
        self, reader: Reader, registers: Registers, write_ahead: Callable[[Changes], None], breathe: Callable[[], None]
    ) -> None:
        super().__init__(reader, registers)
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
        """Write what the command has made of collections of its own, and forget it."""
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
        if self._spilled_bytes:
            for piece in leftovers(self.reader, self.registers):
                self._write_ahead(piece)


def leftovers(reader: Reader, registers: Registers) -> Iterator[dict[bytes, bytes | None]]:
    """Yield, in pieces to be written, the deletion of all subkeys above the counter (see the module)."""
    found = reader.iterate(s_prefix(registers.counter + 1), _SUBKEYS_END)
    while piece := {key: None for key, _ in islice(found, PIECE_KEYS)}:
        yield dict(piece)
