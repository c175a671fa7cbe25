"""Serving: signals, exit codes and what a person is told, with a node that does what the test says."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal

import pytest
import structlog

from zattredis.cli import banner, preflight, serve
from zattredis.config import make_settings
from zattredis.errors import FatalError
from zattredis.observability.events import configure_events, set_level
from zattredis.raft.membership import Membership


class ScriptedNode:
    """A node whose start, leader and end are under the test's control."""

    def __init__(self) -> None:
        self.leader: tuple[str | None, int] = ("n1", 3)
        self.membership = Membership(voters=("n1",), addresses={"n1": "127.0.0.1:6379@16379"})
        self.calls: list[str] = []
        self.start_error: Exception | None = None
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.stopped = asyncio.Event()
        self.fatal: FatalError | None = None

    async def start(self) -> None:
        self.calls.append("start")
        await self.may_start.wait()
        if self.start_error is not None:
            raise self.start_error
        self.calls.append("started")

    async def stop(self) -> None:
        self.calls.append("stop")
        self.stopped.set()

    def reload(self) -> None:
        self.calls.append("reload")

    async def wait_stopped(self) -> None:
        await self.stopped.wait()
        if self.fatal is not None:
            raise self.fatal


@pytest.fixture
def restored_signals() -> object:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield None
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("restored_signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_node_and_the_next_one_would_end_it(number: signal.Signals) -> None:
    async def scenario() -> list[str]:
        node = ScriptedNode()
        task = asyncio.create_task(serve.serve(node, make_settings()))
        while "started" not in node.calls:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        os.kill(os.getpid(), number)
        assert await task == 0
        assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        return node.calls

    assert asyncio.run(scenario()) == ["start", "started", "stop"]


@pytest.mark.usefixtures("restored_signals")
def test_a_signal_during_the_start_ends_the_start() -> None:
    async def scenario() -> list[str]:
        node = ScriptedNode()
        node.may_start.clear()
        task = asyncio.create_task(serve.serve(node, make_settings()))
        while not node.calls:
            await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await task == 0
        return node.calls

    assert asyncio.run(scenario()) == ["start", "stop"]


@pytest.mark.usefixtures("restored_signals")
def test_a_node_that_stops_by_itself_ends_the_process_well() -> None:
    async def scenario() -> int:
        node = ScriptedNode()
        task = asyncio.create_task(serve.serve(node, make_settings()))
        node.stopped.set()
        return await task

    assert asyncio.run(scenario()) == 0


@pytest.mark.usefixtures("restored_signals")
def test_a_start_that_fails_is_a_fatal_error() -> None:
    async def scenario() -> None:
        node = ScriptedNode()
        node.start_error = FatalError("the data directory is in use")
        await serve.serve(node, make_settings())

    with pytest.raises(FatalError, match="in use"):
        asyncio.run(scenario())


@pytest.mark.usefixtures("restored_signals")
def test_a_fatal_end_is_one_line_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def end(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", end)

    async def scenario() -> None:
        node = ScriptedNode()
        node.fatal = FatalError("the disk refused a sync")
        node.stopped.set()
        await serve.serve(node, make_settings())

    with pytest.raises(SystemExit) as ended:
        asyncio.run(scenario())
    assert ended.value.code == 1
    assert "zattd: the disk refused a sync\n" in capsys.readouterr().err


THREE = "n1=127.0.0.1:7001,n2=127.0.0.1:7002,n3=127.0.0.1:7003"


def test_the_banner_says_where_the_data_is_who_leads_and_what_to_type() -> None:
    settings = make_settings(cluster=THREE, node_id="n2", dir="/somewhere")
    membership = Membership(
        voters=("n1", "n2", "n3"), addresses={member.node_id: member.address for member in settings.cluster}
    )
    text = banner.started_text(settings, membership, 42)
    assert "node n2, process 42" in text
    assert "/somewhere" in text
    assert "127.0.0.1:7002" in text
    assert "127.0.0.1:17002" in text
    waiting = banner.waiting_text(settings, membership)
    assert "waiting for n1, n3" in waiting
    assert "All 3 nodes must run at the first start, 2 of them later" in waiting
    ready = banner.ready_text(settings, "n1", 7)
    assert "n1, term 7" in ready
    assert "redis-cli -p 7002 SET" in ready
    assert "(this node)" in banner.ready_text(settings, "n2", 7)


def test_the_banner_names_the_members_there_are_and_not_those_of_the_settings() -> None:
    joined = make_settings(node_id="n4", join="127.0.0.1:7001", port=7004, dir="/somewhere")
    addresses = {f"n{n}": f"127.0.0.1:{7000 + n}@{17000 + n}" for n in (1, 2, 4)}
    membership = Membership(voters=("n1", "n4"), learners=("n2",), addresses=addresses)
    text = banner.started_text(joined, membership, 42)
    assert "cluster  n1=127.0.0.1:7001@17001, n2=127.0.0.1:7002@17002 (learner), n4=127.0.0.1:7004@17004" in text
    assert "peers    127.0.0.1:17004" in text
    assert "waiting for n1. All 2 nodes" in banner.waiting_text(joined, membership)
    shrunk = make_settings(cluster=THREE, node_id="n2", dir="/somewhere")
    assert "cluster" not in banner.started_text(shrunk, Membership(voters=("n2",), addresses={"n2": "x:1@2"}), 42)


@pytest.mark.parametrize(
    ("bind", "expected"),
    [("0.0.0.0", ("127.0.0.1", 6379)), ("::", ("::1", 6379)), ("192.0.2.1:7", ("192.0.2.1", 7))],
)
def test_the_address_to_type_reaches_the_node(bind: str, expected: tuple[str, int]) -> None:
    assert banner.local_address(make_settings(bind=bind)) == expected


def test_the_limit_of_open_files_bounds_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"soft": 256, "hard": 4096}
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limits["soft"], limits["hard"]))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.update(soft=pair[0]))
    fitted = preflight.fit_open_files(make_settings())
    assert fitted.maxclients == 4096 - preflight.OTHER_FILES
    assert fitted.source("maxclients") == "limit of open files"
    assert limits["soft"] == 4096
    small = make_settings(maxclients=100)
    assert preflight.fit_open_files(small) is small
    limits.update(soft=256, hard=512)
    with pytest.raises(FatalError, match="ulimit -n"):
        preflight.fit_open_files(make_settings())


def test_events_are_json_lines_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    configure_events("json", "info", node_id="n1")
    log = structlog.get_logger()
    log.debug("hidden")
    log.info("became leader", term=3, key=b"\xff", members=("n1",))
    set_level("error")
    log.warning("hidden too")
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    event = json.loads(lines[0])
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "became leader",
        "level": "info",
        "node_id": "n1",
        "term": 3,
        "key": "\\xff",
        "members": ["n1"],
    }
    configure_events("console")
    log.info("became leader", term=4)
    assert "became leader" in capfd.readouterr().err
