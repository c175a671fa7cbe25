"""The parts of the benchmarks that need no server."""

from __future__ import annotations

import argparse
import asyncio
import struct
from pathlib import Path

import pytest

from benchmarks import etcd, generator, goals, load, machine, profile, report, throughput
from benchmarks.drills import DrillFailed, Writer
from benchmarks.load import Figures
from benchmarks.throughput import Cell, Result


def figures(rate: float, p50_ms: float = 1.0) -> Figures:
    return Figures(1000, rate, p50_ms, 2.0, cpu_seconds=0.01, syncs=40)


def some_report() -> report.Report:
    row = Cell("set", 50, 1, 64).name
    results = {
        row: {
            "redis": Result([figures(100.0), figures(300.0), figures(200.0)]),
            "one": Result([figures(170.0)]),
            "etcd": Result([], ["did not start"]),
        }
    }
    return report.Report(
        machine="a machine",
        versions=["a server 1"],
        load_generator="a generator",
        when="2026-01-01",
        rounds=3,
        columns={"redis": "redis-server always", "one": "one node", "etcd": "etcd, three nodes"},
        results=results,
        drills={"failover": {"median_s": 0.4, "worst_s": 2.5}},
    )


class TestMatrix:
    def test_every_combination_of_the_issue_is_a_row(self) -> None:
        rows = throughput.cells()
        assert len(rows) == len({row.name for row in rows}) == 54
        assert {row.operation for row in rows} == {"set", "get", "incr", "mset", "mixed"}

    def test_every_goal_on_throughput_has_its_row(self) -> None:
        names = {row.name for row in throughput.judged_cells()}
        assert {Cell("set", 1, 1, 64).name, Cell("get", 50, 16, 64).name, Cell("set", 50, 1, 64).name} <= names
        assert not any("4096" in name or "INCR" in name for name in names)


class TestGoals:
    def test_a_ratio_of_medians_is_compared(self) -> None:
        verdicts = {verdict.goal.name: verdict for verdict in goals.judge(some_report().results, some_report().drills)}
        one = verdicts["SET, 50 connections: one node of redis-server"]
        assert one.measured == pytest.approx(0.85)
        assert one.reached is True
        assert verdicts["Failover, worst"].reached is False
        assert verdicts["Memory of an idle node"].reached is None


class TestReport:
    def test_the_text_has_every_row_ratio_and_failure(self) -> None:
        text = report.render_text(some_report())
        assert "SET, 50 connections, 64 B" in text
        assert "170 (0.85)" in text
        assert "etcd: did not start" in text
        assert "missed" in text

    def test_kept_results_give_the_same_report(self, tmp_path: Path) -> None:
        report.save(some_report(), tmp_path / "kept.json")
        assert report.load(tmp_path / "kept.json") == some_report()

    @pytest.mark.parametrize("section", list(report.README_MARKS))
    def test_readme_keeps_all_but_the_section(self, tmp_path: Path, section: str) -> None:
        readme = tmp_path / "README.md"
        begin, end = report.README_MARKS[section]
        readme.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
        for _ in range(2):
            report.rewrite_readme(some_report(), readme, section)
            text = readme.read_text()
            assert text.startswith("before\n")
            assert text.endswith(f"{end}\nafter\n")
            assert "old" not in text
            assert text.count("Machine: a machine.") == 1
            assert "| SET, 50 connections, 64 B |" in text
            assert ("Goals" in text) == (section == "goals")

    def test_a_readme_without_the_marks_is_refused_unchanged(self, tmp_path: Path) -> None:
        readme = tmp_path / "README.md"
        readme.write_text("nothing here")
        with pytest.raises(ValueError, match="lacks"):
            report.rewrite_readme(some_report(), readme)
        assert readme.read_text() == "nothing here"


class TestLoad:
    def test_redis_benchmarks_figures_are_read_from_its_csv(self) -> None:
        output = (
            '"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms",'
            '"max_latency_ms"\n"SET","30571.69","1.503","0.336","1.055","1.815","3.711","492.031"\n'
        )
        parsed = load._parse_csv(output, "", 500)
        assert (parsed.operations, parsed.operations_per_s, parsed.p50_ms, parsed.p99_ms) == (
            500,
            30571.69,
            1.055,
            3.711,
        )

    def test_a_load_quicker_than_the_clock_is_a_finite_rate(self) -> None:
        assert (
            load._parse_csv('"rps","p50_latency_ms","p99_latency_ms"\n"inf","0.1","0.2"\n', "", 5).operations_per_s
            == 5000
        )

    def test_an_error_reply_fails_the_measurement(self) -> None:
        with pytest.raises(load.LoadFailed, match="CLUSTERDOWN no quorum"):
            load._parse_csv("", "Error from server: CLUSTERDOWN no quorum\n", 500)

    def test_no_figures_fail_the_measurement(self) -> None:
        with pytest.raises(load.LoadFailed):
            load._parse_csv("", "Could not connect", 500)


class TestMachine:
    def test_proc_is_not_on_a_disk(self) -> None:
        assert machine.filesystem(Path("/proc")) == "proc"

    def test_a_data_directory_in_memory_is_refused(self) -> None:
        if machine.filesystem(Path("/dev/shm")) != "tmpfs":
            pytest.skip("needs a tmpfs at /dev/shm")
        with pytest.raises(RuntimeError, match="not on a disk"):
            throughput.data_directory(Path("/dev/shm"))

    def test_ports_lie_below_the_ephemeral_ones(self) -> None:
        assert all(machine.free_port() + 10_000 < 32_768 for _ in range(20))


class TestProfile:
    def test_frames_are_counted_on_top_and_anywhere(self) -> None:
        raw = "a (/x/zattredis/server/a.py:1);b (/y/site-packages/lib/b.py:2) 3\na (/x/zattredis/server/a.py:9) 2\n"
        own, anywhere, total = profile.count_frames(raw, lines=False)
        assert total == 5
        assert own == {"b (lib/b.py)": 3, "a (zattredis/server/a.py)": 2}
        assert anywhere["a (zattredis/server/a.py)"] == 5

    def test_with_lines_each_line_counts_for_itself(self) -> None:
        own, _, _ = profile.count_frames("a (a.py:1) 3\na (a.py:2) 1\n", lines=True)
        assert own == {"a (a.py:1)": 3, "a (a.py:2)": 1}


class TestEtcdWire:
    def test_a_call_is_complete_at_any_split(self) -> None:
        received = (
            etcd.encode_frame(etcd.SETTINGS, 0, 0, b"")
            + etcd.encode_frame(etcd.HEADERS, etcd.END_HEADERS, 1, b"\x88")
            + etcd.encode_frame(etcd.DATA, 0, 1, b"\x00\x00\x00\x00\x00")
            + etcd.encode_frame(etcd.PING, 0, 0, b"12345678")
            + etcd.encode_frame(etcd.HEADERS, etcd.END_HEADERS | etcd.END_STREAM, 1, b"\x88")
        )
        for cut in range(len(received)):
            reader = etcd.CallReader()
            first, second = reader.feed(received[:cut]), reader.feed(received[cut:])
            assert first[0] + second[0] == 1
            answers = etcd.encode_frame(etcd.SETTINGS, etcd.ACK, 0, b"")
            assert first[1] + second[1] == answers + etcd.encode_frame(etcd.PING, etcd.ACK, 0, b"12345678")

    def test_trailers_alone_are_a_refused_call(self) -> None:
        with pytest.raises(ConnectionError):
            etcd.CallReader().feed(etcd.encode_frame(etcd.HEADERS, etcd.END_STREAM, 1, b"\x88"))

    def test_messages_are_length_prefixed_protobuf(self) -> None:
        message = etcd.put_message(b"k", b"v" * 200)
        assert message[:5] == b"\x00" + struct.pack(">I", len(message) - 5)
        assert message[5:] == b"\x0a\x01k\x12\xc8\x01" + b"v" * 200


class TestGenerator:
    def test_it_counts_what_a_server_answers(self) -> None:
        async def scenario() -> dict[str, float]:
            left = asyncio.Semaphore(0)

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while line := await reader.readline():
                    if line == b"GET\r\n":
                        writer.write(b"$-1\r\n")
                writer.close()
                left.release()

            server = await asyncio.start_server(answer, "127.0.0.1", machine.free_port())
            port = server.sockets[0].getsockname()[1]
            options = argparse.Namespace(
                protocol="resp", ports=str(port), operation="get", connections=3, pipeline=4, operations=100, keys=10,
                value_bytes=8, timeout_s=20.0,
            )  # fmt: skip
            async with server:
                figures = await generator.generate(options)
                for _ in range(options.connections):  # nobody waits for its end to be rid of them
                    await asyncio.wait_for(left.acquire(), 20.0)
                return figures

        result = asyncio.run(scenario())
        assert (result["operations"], result["errors"]) == (100, 0)


class TestWriter:
    def test_an_outage_is_counted_from_the_strike(self) -> None:
        writer = Writer("key", [1])
        writer.acknowledged_at = [9.0, 9.9, 10.5, 10.6]
        assert writer.outage_s(10.0) == pytest.approx(0.5)

    def test_no_acknowledgement_is_no_figure(self) -> None:
        with pytest.raises(DrillFailed):
            Writer("key", [1]).outage_s(10.0)
