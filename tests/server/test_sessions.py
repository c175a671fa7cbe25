"""The rows of sessions, which make a batch execute once."""

from __future__ import annotations

from collections.abc import Iterator

from zattredis.server.sessions import Sessions


class Stored:
    """Just enough of a Reader."""

    def __init__(self, pairs: dict[bytes, bytes | None]) -> None:
        self.pairs = pairs

    def iterate(self, lower: bytes, upper: bytes | None, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        for key in sorted(self.pairs):
            value = self.pairs[key]
            if lower <= key and (upper is None or key < upper) and value is not None:
                yield key, value


def test_only_the_next_sequence_of_an_open_session_executes() -> None:
    sessions = Sessions()
    assert sessions.open("n1", 11, 5)
    assert not sessions.advance(5, 2), "a gap"
    assert sessions.advance(5, 1)
    assert not sessions.advance(5, 1), "a repetition"
    assert sessions.advance(5, 2)
    assert not sessions.advance(4, 3), "a session that is not open"


def test_opening_again_with_the_same_nonce_changes_nothing() -> None:
    sessions = Sessions()
    sessions.open("n1", 11, 5)
    sessions.advance(5, 1)
    assert not sessions.open("n1", 11, 9)
    assert sessions.advance(5, 2)


def test_a_new_nonce_makes_the_old_session_inert() -> None:
    sessions = Sessions()
    sessions.open("n1", 11, 5)
    assert sessions.open("n1", 12, 9)
    assert not sessions.advance(5, 1)
    assert sessions.advance(9, 1)


def test_rows_survive_being_stored_and_loaded() -> None:
    sessions = Sessions()
    sessions.open("n1", 11, 5)
    sessions.open("n2", 2**64 - 1, 6)
    sessions.advance(5, 1)
    changes: dict[bytes, bytes | None] = {}
    sessions.drain(changes)
    loaded = Sessions()
    loaded.load(Stored(changes))  # type: ignore[arg-type]
    assert not loaded.advance(5, 1)
    assert loaded.advance(5, 2)
    assert loaded.advance(6, 1)
    assert not loaded.open("n2", 2**64 - 1, 10)


def test_only_changed_rows_are_written() -> None:
    sessions = Sessions()
    sessions.open("n1", 11, 5)
    sessions.open("n2", 12, 6)
    sessions.drain({})
    sessions.advance(6, 1)
    changes: dict[bytes, bytes | None] = {}
    sessions.drain(changes)
    assert list(changes) == [b"msession/n2"]


def test_a_removed_member_loses_its_row() -> None:
    sessions = Sessions()
    sessions.open("n1", 11, 5)
    sessions.open("n2", 12, 6)
    sessions.drain({})
    sessions.retain(["n1"])
    assert not sessions.advance(6, 1)
    changes: dict[bytes, bytes | None] = {}
    sessions.drain(changes)
    assert changes == {b"msession/n2": None}
