"""The log of the house: one line an event, for people or machines, and never a reason to stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from zattredis.observability.events import configure_events, set_level, uses_console

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    set_level("info")
    structlog.reset_defaults()


def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def test_json_names_time_level_event_and_node(capfd: pytest.CaptureFixture[str]) -> None:
    configure_events("json", "info", node_id="n1")
    structlog.get_logger(room="raft").info("became_leader", term=3, key=b"a\xff", error=ValueError("x"))
    (event,) = lines(capfd)
    assert event.pop("timestamp")
    assert event == {
        "level": "info", "event": "became_leader", "room": "raft", "term": 3, "key": "a\\xff", "error": "x",
        "node_id": "n1",
    }  # fmt: skip


def test_a_new_level_reaches_loggers_made_before(capfd: pytest.CaptureFixture[str]) -> None:
    configure_events("json", "warning")
    early, bound = structlog.get_logger(), structlog.get_logger().bind(peer="n2")
    for log in (early, bound):
        log.info("hidden")
        log.warning("seen")
    set_level("debug")
    for log in (early, bound):
        log.debug("seen now")
    assert [event["event"] for event in lines(capfd)] == ["seen", "seen", "seen now", "seen now"]
    with pytest.raises(KeyError):
        set_level("loud")


def test_threads_do_not_mix_their_lines(capfd: pytest.CaptureFixture[str]) -> None:
    configure_events("json")

    def write(name: str) -> None:
        log = structlog.get_logger()
        for number in range(50):
            log.info("from a thread", name=name, number=number, filler="x" * 500)

    threads = [threading.Thread(target=write, args=(str(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = lines(capfd)
    assert len(events) == 200
    assert {(event["name"], event["number"]) for event in events} == {(str(i), n) for i in range(4) for n in range(50)}


def test_an_exception_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    configure_events("json")
    try:
        raise ValueError("broken\nin two")
    except ValueError:
        structlog.get_logger().exception("it happened")
    (event,) = lines(capfd)
    assert event["level"] == "error"
    assert "broken" in str(event["exception"])


def test_console_is_for_terminals_unless_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    assert uses_console("console")
    assert not uses_console("json")
    assert not uses_console("auto")  # standard error is captured here
    configure_events("console", "info", node_id="n1")
    structlog.get_logger().info("became_leader", term=3)
    assert "became_leader" in capfd.readouterr().err


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_log_that_cannot_be_written_stops_nothing(form: str) -> None:
    program = (
        "import os, structlog\n"
        "from zattredis.observability.events import configure_events\n"
        f"configure_events({form!r})\n"
        "log = structlog.get_logger()\n"
        "log.info('into a closed pipe')\n"
        "os.close(2)\n"
        "log.info('into nothing')\n"
        "os.write(1, b'alive')\n"
    )
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=writing, check=False
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stdout) == (0, b"alive")


def test_a_server_starts_without_rich_which_can_be_imported_afterwards() -> None:
    program = (
        "import sys; from zattredis.observability.events import configure_events, get_logger;"
        "configure_events('console'); get_logger().info('hello');"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'rich', 'pygments'}));"
        "import rich.console; print(rich.console.Console)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert done.stdout.splitlines() == ["[]", "<class 'rich.console.Console'>"]
    assert "hello" in done.stderr
