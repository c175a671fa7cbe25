"""redis-cli and redis-benchmark as they come with Debian."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.clients.conftest import Endpoint
from tests.support.resp_client import RespClient, encode_command


@pytest.fixture(autouse=True)
def tools() -> None:
    for tool in ("redis-cli", "redis-benchmark"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (package redis-tools)")


def cli(endpoint: Endpoint, *arguments: str, data: bytes | None = None) -> str:
    host, port = endpoint
    command = ["redis-cli", "-h", host, "-p", str(port), *arguments]
    done = subprocess.run(command, capture_output=True, input=data, timeout=120, check=False)
    return (done.stdout + done.stderr).decode()


def test_cli_scripted(endpoint: Endpoint) -> None:
    assert cli(endpoint, "SET", "key1", "0") == "OK\n"
    assert cli(endpoint, "INCR", "key1") == "1\n"
    assert cli(endpoint, "--no-raw", "INCR", "key1") == "(integer) 2\n"
    assert cli(endpoint, "--no-raw", "GET", "none") == "(nil)\n"
    assert cli(endpoint, "-n", "5", "GET", "key1") == "\n"
    assert cli(endpoint, "-3", "--no-raw", "CONFIG", "GET", "maxclients").startswith('1# "maxclients" => ')
    assert "ERR wrong number of arguments" in cli(endpoint, "GET")
    assert "redis_version" in cli(endpoint, "INFO", "server")


def test_cli_reads_commands_from_standard_input(endpoint: Endpoint) -> None:
    script = b"SET a 1\nINCR a\nMULTI\nINCR a\nGET a\nEXEC\nSELECT 3\nGET a\nPING\n"
    assert cli(endpoint, data=script).split() == ["OK", "2", "OK", "QUEUED", "QUEUED", "3", "3", "OK", "PONG"]


@pytest.mark.parametrize("count", [20_000])
def test_cli_pipe(endpoint: Endpoint, count: int) -> None:
    data = b"".join(encode_command(("SET", f"pipe:{n}", n)) for n in range(count))
    text = cli(endpoint, "--pipe", data=data)
    assert f"errors: 0, replies: {count}" in text, text
    assert cli(endpoint, "DBSIZE") == f"{count}\n"


def test_cli_scan_and_key_statistics(endpoint: Endpoint) -> None:
    host, port = endpoint
    with RespClient(port, host) as client:
        client.pipeline(("SET", f"s:{n}", "x" * n) for n in range(200))
    assert len(cli(endpoint, "--scan", "--pattern", "s:*").split()) == 200
    assert "Biggest string found" in cli(endpoint, "--bigkeys")


@pytest.mark.parametrize(
    "options",
    [["-c", "50"], ["-P", "16"], ["-c", "200"], ["-c", "1", "-n", "500"], ["-c", "50", "-d", "4096"]],
    ids=" ".join,
)
def test_benchmark_runs_to_its_end(endpoint: Endpoint, options: list[str]) -> None:
    host, port = endpoint
    command = ["redis-benchmark", "-h", host, "-p", str(port), "-t", "set,get,incr,mset", "-q", "-n", "4000", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    rates = re.findall(r"^(SET|GET|INCR|MSET \(10 keys\)): [\d.]+ requests per second", text.replace("\r", "\n"), re.M)
    assert {"SET", "GET", "INCR", "MSET (10 keys)"} == set(rates), text
    assert "rror" not in text, text
    with RespClient(port, host) as client:
        n = int(options[options.index("-n") + 1]) if "-n" in options else 4000
        assert int(client.call("GET", "counter:__rand_int__")) >= n
