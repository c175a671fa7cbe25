"""The sync thread: every request is answered, by the wait or by an announcement; failures are final."""

from __future__ import annotations

import asyncio
import itertools
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.storage.conftest import all_entries, entries
from zattredis.errors import StorageFailed
from zattredis.storage.log_store import LogStore
from zattredis.storage.sync_thread import SKIPPED_SYNCS_MAX, SyncThread


class FakeLog:
    """A log whose syncs take as long as the test wants."""

    def __init__(self, in_memory: bool = False) -> None:
        self.in_memory = in_memory
        self.gate = threading.Semaphore(0)
        self.begun: queue.Queue[int] = queue.Queue()
        self.syncs = 0
        self.marks_synced = threading.Event()
        self.failure: Exception | None = None
        self.dirty = False

    @property
    def marks_dirty(self) -> bool:
        return self.dirty

    def sync(self) -> None:
        self.syncs += 1
        self.begun.put(self.syncs)
        self.gate.acquire()
        if self.failure is not None:
            raise self.failure

    def sync_marks(self) -> None:
        self.dirty = False
        self.marks_synced.set()


class Told:
    """What was scheduled on the loop."""

    def __init__(self) -> None:
        self.calls: queue.Queue[tuple[Callable[..., Any], tuple[Any, ...]]] = queue.Queue()
        self.durable: list[int] = []
        self.failures: list[Exception] = []
        self.slow_ms: list[float] = []

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> None:
        self.calls.put((callback, args))

    def run_one(self) -> None:
        callback, args = self.calls.get(timeout=60)
        callback(*args)


@pytest.fixture
def log() -> FakeLog:
    return FakeLog()


@pytest.fixture
def told() -> Told:
    return Told()


class CountingThread(SyncThread):
    """Counts how often the loop really waited."""

    waits = 0

    def _wait(self, timeout_s: float) -> None:
        self.waits += 1
        super()._wait(timeout_s)


@pytest.fixture
def thread(log: FakeLog, told: Told) -> Iterator[CountingThread]:
    thread = CountingThread(
        log,
        call_soon=told.call_soon,
        on_durable=told.durable.append,
        on_failure=told.failures.append,
        on_slow=told.slow_ms.append,
        slow_sync_ms=0,
    )
    yield thread
    log.gate.release(1000)
    thread.close()


def test_nothing_requested_is_waited_for_not_at_all(thread: SyncThread) -> None:
    assert thread.wait(10) == 0


def test_a_wait_returns_when_everything_requested_is_durable(thread: SyncThread, log: FakeLog, told: Told) -> None:
    log.gate.release(2)
    thread.request(1)
    assert thread.wait(10) == 1
    thread.request(2)
    thread.request(3)
    log.gate.release()
    assert thread.wait(10) == 3
    assert thread.syncs == len(thread.durations_ms) <= 3


def test_requests_during_a_sync_share_the_next_one(thread: SyncThread, log: FakeLog, told: Told) -> None:
    thread.request(1)
    log.begun.get(timeout=60)
    for number in range(2, 50):
        thread.request(number)
    log.gate.release()
    log.gate.release()
    told.run_one()
    while told.durable[-1] < 49:
        told.run_one()
    assert log.syncs == 2
    assert thread.durable == 49


def test_a_wait_in_vain_is_followed_by_an_announcement(thread: SyncThread, log: FakeLog, told: Told) -> None:
    thread.request(1)
    assert thread.wait(0.01) == 0
    assert thread.in_flight_ms > 0
    log.gate.release()
    told.run_one()
    assert told.durable == [1]
    told.run_one()
    assert len(told.slow_ms) == 1


def test_a_disk_that_stays_slow_is_waited_for_rarely(thread: CountingThread, log: FakeLog, told: Told) -> None:
    for number in range(1, 60):
        thread.request(number)
        log.begun.get(timeout=60)
        assert thread.wait(0.002) == number - 1
        log.gate.release()
        while number not in told.durable:
            told.run_one()
    assert 4 <= thread.waits <= 12
    log.gate.release(1000)  # quick again: sooner or later it is waited for again
    for number in range(60, 60 + 2 * SKIPPED_SYNCS_MAX):
        thread.request(number)
        if thread.wait(10) == number:
            break
        while number not in told.durable:
            told.run_one()
    assert thread.durable == number


@pytest.fixture
def here(told: Told) -> SyncThread:
    """Of a log in memory: nothing of it waits."""
    log = FakeLog(in_memory=True)
    log.gate.release(1000)
    return SyncThread(
        log, call_soon=told.call_soon, on_durable=told.durable.append, on_failure=told.failures.append,
        on_slow=told.slow_ms.append, clock=itertools.count().__next__,
    )  # fmt: skip


def test_a_log_in_memory_is_synced_at_once_and_without_a_thread(here: SyncThread, told: Told) -> None:
    threads = {thread.name for thread in threading.enumerate()}
    assert "log-sync" not in threads
    for number in range(1, 5):
        here.request(number)
        assert here.durable == here.wait(0) == here.syncs == number
    while not told.calls.empty():
        told.run_one()
    assert told.durable == []
    assert len(told.slow_ms) == 4  # a tick of the clock, a second, is slow
    here.close()
    here.close()


def test_of_a_log_in_memory_marks_that_moved_are_synced_with_a_request(here: SyncThread) -> None:
    log: Any = here._log
    log.dirty = True
    here.request(1)
    assert log.marks_synced.is_set()


def test_a_failure_of_a_log_in_memory_is_raised_and_announced_and_final(here: SyncThread, told: Told) -> None:
    log: Any = here._log
    log.failure = StorageFailed("the memory said no")
    for _ in range(2):
        with pytest.raises(StorageFailed, match="the memory said no"):
            here.request(1)
    with pytest.raises(StorageFailed):
        here.wait(0)
    told.run_one()
    assert told.failures == [log.failure]
    assert (here.durable, told.durable, log.syncs, told.calls.empty()) == (0, [], 1, True)


@pytest.mark.parametrize("failure", [StorageFailed("the disk said no"), ValueError("a bug")])
def test_a_failure_is_raised_and_announced_and_final(
    thread: SyncThread, log: FakeLog, told: Told, failure: Exception
) -> None:
    log.failure = failure
    log.gate.release()
    thread.request(1)
    with pytest.raises(StorageFailed):
        thread.wait(10)
    with pytest.raises(StorageFailed):
        thread.request(2)
    told.run_one()
    assert isinstance(told.failures[0], StorageFailed)
    assert str(failure) in str(told.failures[0])
    assert (thread.durable, told.durable, log.syncs) == (0, [], 1)


def test_closing_syncs_what_was_requested(log: FakeLog, told: Told) -> None:
    thread = SyncThread(log, call_soon=told.call_soon, on_durable=told.durable.append, on_failure=told.failures.append)
    log.gate.release(1000)
    for number in range(1, 100):
        thread.request(number)
    thread.close()
    thread.close()
    assert thread.durable == 99


def test_marks_that_moved_are_synced_soon_also_when_idle(thread: SyncThread, log: FakeLog) -> None:
    log.dirty = True
    log.gate.release()
    thread.request(1)
    assert thread.wait(10) == 1
    assert log.marks_synced.wait(10)


@pytest.mark.parametrize("in_memory", [False, True])
def test_with_a_real_log_and_a_real_loop_everything_announced_is_durable(
    open_log: Callable[..., LogStore], in_memory: bool
) -> None:
    log = open_log()
    log.in_memory = in_memory

    async def load() -> int:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        durable = [0]

        def on_durable(number: int) -> None:
            durable[0] = max(durable[0], number)
            if durable[0] == 200 and not done.done():
                done.set_result(None)

        thread = SyncThread(
            log, call_soon=loop.call_soon_threadsafe, on_durable=on_durable, on_failure=done.set_exception
        )
        for number in range(1, 201):
            log.append(entries(number, number), None)
            thread.request(number)
            if number % 3:
                on_durable(thread.wait(0.003))
            if number % 50 == 0:
                await asyncio.sleep(0)
        await asyncio.wait_for(done, 30)
        thread.close()
        assert thread.durable == 200
        return thread.syncs

    assert asyncio.run(load()) <= 200
    assert log.durable_index == 200
    assert all_entries(open_log()) == entries(1, 200)


def test_the_thread_leaves_nothing_behind(log: FakeLog, told: Told) -> None:
    before = set(os.listdir("/proc/self/fd"))
    thread = SyncThread(log, call_soon=told.call_soon, on_durable=told.durable.append, on_failure=told.failures.append)
    thread.close()
    assert set(os.listdir("/proc/self/fd")) == before
    assert not any(t.name == "log-sync" for t in threading.enumerate())
