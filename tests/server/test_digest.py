"""The digest of what was applied: one for one history, however it is cut, and who is fenced when it differs."""

from __future__ import annotations

import random
from bisect import bisect_left

import pytest

from tests.server.test_applier import RecordingNode, Replica
from tests.support.memory_store import MemoryStore
from zattredis.keyspace.keys import s_prefix
from zattredis.keyspace.registers import Registers
from zattredis.raft.entry import TIME, Entry, make_entry
from zattredis.server import applier as applier_module
from zattredis.server import digest as digest_module
from zattredis.server.digest import DIGEST_KEY, NOT_COMPARABLE, Agreement, Digest, Mark, walk
from zattredis.storage.state_store import APPLIED_KEY, Applied, decode_applied, encode_applied


@pytest.fixture(autouse=True)
def _close_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fixed indexes that a short history crosses often, and walks that take several of them."""
    for module in (digest_module, applier_module):
        monkeypatch.setattr(module, "INTERVAL", 4)
    monkeypatch.setattr(digest_module, "SCRUB_KEYS", 7)


def many(count: int, before: str, behind: str = "") -> str:
    return " ".join(f"{before}{i}{behind}" for i in range(count))


def history(seed: int = 0) -> RecordingNode:
    """A node that took commands of all kinds of stored values, pages among them."""
    dice = random.Random(seed)
    node = RecordingNode()
    client = node.connect()
    for _ in range(30):
        lines = []
        for _ in range(dice.randrange(1, 40)):
            key = dice.randrange(3)
            lines.append(
                dice.choice(
                    [
                        f"SET s{key} {dice.randrange(99)}", f"INCR n{key}", f"DEL s{key}", f"EXPIRE s{key} 100",
                        f"RPUSH l{key} {many(dice.randrange(1, 90), 'element-')}",
                        f"LPOP l{key} 7", f"LINSERT l{key} BEFORE element-3 x",
                        f"LREM l{key} 1 element-5",
                        f"ZADD z{key} {many(60, f'{dice.randrange(99)} m')}",
                        f"ZREM z{key} m{dice.randrange(60)}", f"LPUSH nolist{key} x", f"INCR l{key}",
                        f"HSET h{key} {many(40, f'f{dice.randrange(9)}-', ' v')}",
                    ]
                )
            )  # fmt: skip
        client.send(*lines, "SET x 1 EX 100")
        node.tick()
        node.apply()
    return node


INTERVAL = 4


def digest_of(store: MemoryStore) -> bytes:
    return store.data[DIGEST_KEY]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("effect_bytes", "commands"), [(1, 1), (1, 7), (3000, 3), (4 << 20, 32)])
def test_it_is_the_same_however_entries_are_cut_into_writes(
    seed: int, effect_bytes: int, commands: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = history(seed)
    monkeypatch.setattr(applier_module, "EFFECT_BYTES_PER_WRITE", effect_bytes)
    monkeypatch.setattr(applier_module, "COMMANDS_A_TURN", commands)
    replica = Replica()
    replica.apply(node.entries)
    assert digest_of(replica.store) == digest_of(node.store)
    assert replica.applier.digest.marks == node.applier.digest.marks
    assert len(replica.applier.digest.marks) == 7
    assert replica.applier.digest.value == node.applier.digest.value


@pytest.mark.parametrize("turns", range(2, 60, 6))
def test_the_digest_goes_on_after_a_crash_wherever_the_entry_was_cut(
    turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = history(3)
    monkeypatch.setattr(applier_module, "EFFECT_BYTES_PER_WRITE", 1)
    monkeypatch.setattr(applier_module, "COMMANDS_A_TURN", 2)
    monkeypatch.setattr("zattredis.server.executor.COMMANDS_A_TURN", 2)
    crashed = Replica()
    crashed.apply(node.entries, turns)
    applied = decode_applied(crashed.store.data[APPLIED_KEY])
    again = Replica(MemoryStore(crashed.store.data))
    again.apply([entry for entry in node.entries if entry.index > applied.index])
    assert digest_of(again.store) == digest_of(node.store)


def test_a_walk_comes_by_everything_and_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands in the state, a change of it behind the commands' back shows within one walk."""
    node = history(1)
    stored = sorted(key for key in node.store.data if key[:1] in (b"k", b"s"))
    assert {key[:1] for key in stored} == {b"k", b"s"}
    walk = INTERVAL * (len(stored) // 7 + 2)
    later = [make_entry(node.index + i, 1, TIME, 1, node.now_ms, b"") for i in range(1, walk + 1)]
    untouched = Replica(MemoryStore(node.store.data))
    untouched.apply(later)
    again = Replica(MemoryStore(node.store.data))
    again.apply(later)
    assert again.applier.digest.last == untouched.applier.digest.last
    for key in stored[:: max(1, len(stored) // 40)]:
        data = dict(node.store.data)
        data[key] += b"!"
        changed = Replica(MemoryStore(data))
        changed.apply(later)
        assert changed.applier.digest.last.at == untouched.applier.digest.last.at
        assert changed.applier.digest.last != untouched.applier.digest.last, key


@pytest.mark.parametrize("changes", [0, 3 << 12, 40 << 12, 5000 << 12])
def test_the_windows_of_a_walk_follow_each_other_and_miss_nothing(changes: int) -> None:
    """Also those of a state that has seen many changes: whatever key stands there, some window holds it."""
    dice = random.Random(changes)
    registers = Registers()
    registers.counter = changes
    registers.databases[0].keys = registers.databases[3].keys = 1
    registers.databases[3].namespace = 77
    wanted = {b"k" + ns.to_bytes(4, "big") + dice.randbytes(8) for ns in (0, 77) for _ in range(99)}
    wanted = {key[:5] + bytes((key[5] & 0x3F,)) + key[6:] for key in wanted}
    for _ in range(20):
        collection = s_prefix(dice.randrange(changes + 1))
        for letter in b"mz\xff":
            wanted |= {collection + bytes((letter,)) + dice.randbytes(dice.randrange(9)) for _ in range(30)}
    keys = sorted(wanted)
    cursor, found, count = b"", set(), 0
    while True:
        lower, upper = walk(cursor, registers)
        assert cursor <= lower < upper
        count += 1
        inside = keys[bisect_left(keys, lower) : bisect_left(keys, upper)]
        if inside:  # as a mark does that has enough with the first
            found.add(inside[0])
            upper = inside[0] + b"\0"
        if upper == b"t":
            break
        cursor = upper
    assert found == wanted
    assert count < 1500 + 300 * len(wanted)


def test_a_walk_never_looks_for_the_next_key_across_everything() -> None:
    """After a million changes a window is a 256th of the keys, of the collections, or of one section."""
    registers = Registers()
    registers.counter = 1 << 20
    registers.databases[0].keys = 1
    first, end = walk(b"", registers)
    assert (first, end) == (b"k\0\0\0\0", b"k\0\0\0\0\0\x40")
    collection = s_prefix(5000)
    assert walk(collection, registers)[1] == s_prefix(8194)
    assert walk(collection + b"m\x10abc", registers)[1] == collection + b"m\x11"
    assert walk(collection + b"m\xffabc", registers)[1] == collection + b"n"


def test_it_covers_values_pages_and_what_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest_module, "SCRUB_KEYS", 64)
    for module in (digest_module, applier_module):
        monkeypatch.setattr(module, "INTERVAL", 1)
    found = set()
    for last in ("SET a 1", "SET a 2", "RPUSH l 1", "RPUSH l 2", "LPUSH l 1", "DEL b", "EXPIRE b 100", "PING"):
        node = RecordingNode()
        client = node.connect()
        client.send("SET b 1", "RPUSH l a b c")
        node.tick()
        node.apply()
        client.send(last, "APPEND c x")
        node.tick()
        node.apply()
        found.add(digest_of(node.store))
    assert len(found) == 8


def test_a_record_of_another_entry_or_none_begins_a_chain_of_its_own() -> None:
    digest = Digest()
    store = MemoryStore()
    digest.load(store, Applied(0, 0))
    assert digest.since == 0
    digest.load(store, Applied(70, 2))
    assert digest.since == 70, "a state of a build that knew no digest"
    digest.load(store, Applied(70, 2, 3))
    assert digest.since == NOT_COMPARABLE
    store.write({DIGEST_KEY: digest.record(69, 0), APPLIED_KEY: encode_applied(70, 2)})
    digest.load(store, Applied(70, 2))
    assert digest.since == 70, "an older build went on without it"


def times(count: int, wrong_at: int = 0) -> list[Entry]:
    return [make_entry(i, 1, TIME, 1, 1000 + (i == wrong_at), b"") for i in range(1, count + 1)]


class Cluster:
    """One node's view of others: their digests are computed by replicas of their own."""

    def __init__(self, voters: list[str]) -> None:
        self.own = Replica()
        self.fenced: list[str] = []
        self.agreement = Agreement(self.own.applier.digest, lambda: voters, self.fenced.append)

    def hears(self, node_id: str, entries: list[Entry]) -> None:
        other = Replica()
        other.apply(entries)
        self.agreement.on_report(node_id, other.applier.digest.last)


def test_a_majority_that_differs_fences() -> None:
    one = Cluster(["n1", "n2", "n3"])
    one.own.apply(times(INTERVAL + 5, wrong_at=2))
    one.hears("n2", times(INTERVAL))
    assert one.agreement.differing == {"n2": INTERVAL}
    assert one.fenced == [], "one against one: nobody knows who is right"
    one.hears("n3", times(INTERVAL))
    assert len(one.fenced) == 1
    assert "n2, n3" in one.fenced[0]


def test_who_has_a_majority_on_its_side_goes_on() -> None:
    one = Cluster(["n1", "n2", "n3"])
    one.own.apply(times(2 * INTERVAL))
    one.hears("n2", times(2 * INTERVAL, wrong_at=INTERVAL))
    one.hears("n3", times(2 * INTERVAL))
    assert one.agreement.differing == {"n2": 2 * INTERVAL}, "the chain remembers"
    assert one.agreement.agreed == {"n3": 2 * INTERVAL}
    assert one.fenced == []
    one.hears("n2", times(2 * INTERVAL))
    assert one.agreement.differing == {}, "it was filled again"


def test_a_learner_from_which_the_voters_differ_is_fenced_and_learners_fence_nobody() -> None:
    learner = Cluster(["n2", "n3", "n4"])
    learner.own.apply(times(INTERVAL, wrong_at=3))
    for node_id in ("n2", "n3"):
        learner.hears(node_id, times(INTERVAL))
    assert learner.fenced
    voter = Cluster(["n1", "n2", "n3"])
    voter.own.apply(times(INTERVAL, wrong_at=3))
    for node_id in ("n2", "l1", "l2", "l3"):
        voter.hears(node_id, times(INTERVAL))
    assert voter.fenced == []


def test_what_lies_ahead_waits_and_what_lies_too_far_back_is_passed_over() -> None:
    one = Cluster(["n1", "n2", "n3"])
    one.hears("n2", times(3 * INTERVAL, wrong_at=1))
    assert one.agreement.differing == {}
    one.own.apply(times(3 * INTERVAL))
    assert one.agreement.differing == {"n2": 3 * INTERVAL}
    one.agreement.forget()
    one.own.applier.digest.marks.clear()
    one.hears("n2", times(INTERVAL))
    assert one.agreement.differing == {}


def test_chains_that_began_elsewhere_are_not_compared() -> None:
    one = Cluster(["n1", "n2", "n3"])
    one.own.apply(times(INTERVAL))
    for node_id in ("n2", "n3"):
        one.agreement.on_report(node_id, Mark(INTERVAL, 1, 17))
        one.agreement.on_report(node_id, Mark(INTERVAL, 1, NOT_COMPARABLE))
    assert one.agreement.differing == {}
    assert one.fenced == []
