"""A closed-loop load generator on uvloop, run as a process of its own: `python -m benchmarks.generator --help`.

Every connection keeps one batch of `pipeline` requests in flight. Requests are encoded before the clock starts.
Prints one JSON object: operations, seconds, p50_ms, p99_ms (latency of a batch, as redis-benchmark counts it), errors.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from array import array
from itertools import cycle
from typing import cast

import hiredis
import uvloop

from benchmarks import etcd
from benchmarks.client import Argument, encode

BATCHES_BYTES_MAX = 32 << 20
BATCHES_MAX = 1024
KEYS_PER_MSET = 10
GETS_OF_MIXED = 0.8


class Run:
    """What the connections of one run share: how many batches are left to send, and what was seen."""

    def __init__(self, batches: int) -> None:
        self.left = batches
        self.latencies_s = array("d")
        self.errors = 0
        self.open = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self) -> bool:
        """Return whether one more batch may be sent."""
        if self.left <= 0:
            return False
        self.left -= 1
        return True

    def leave(self) -> None:
        """One connection has nothing more to do."""
        self.open -= 1
        if self.open == 0 and not self.ended.done():
            self.ended.set_result(None)

    def fail(self, reason: str) -> None:
        """End the run: a connection was lost or refused."""
        if not self.ended.done():
            self.ended.set_exception(ConnectionError(reason))


class RespConnection(asyncio.Protocol):
    """One RESP client."""

    def __init__(self, run: Run, batches: list[bytes], pipeline: int) -> None:
        self._run = run
        self._batches = cycle(batches)
        self._pipeline = pipeline
        self._awaited = 0
        self._reader = hiredis.Reader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self) -> None:
        """Send the next batch, or leave."""
        if not self._run.take():
            self._run.leave()
            return
        self._awaited = self._pipeline
        self._sent_at = time.perf_counter()
        self._transport.write(next(self._batches))

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        while (reply := reader.gets()) is not False:
            if isinstance(reply, hiredis.ReplyError):
                self._run.errors += 1
            self._awaited -= 1
        if self._awaited == 0:
            self._run.latencies_s.append(time.perf_counter() - self._sent_at)
            self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.fail("the server closed a connection")


class EtcdConnection(asyncio.Protocol):
    """One etcd client: a unary gRPC call at a time."""

    def __init__(self, run: Run, messages: list[bytes], headers: bytes) -> None:
        self._run = run
        self._messages = cycle(messages)
        self._headers = headers
        self._stream = -1
        self._reader = etcd.CallReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(etcd.opening())

    def send(self) -> None:
        """Make the next call, or leave."""
        if not self._run.take():
            self._run.leave()
            return
        self._stream += 2
        self._sent_at = time.perf_counter()
        self._transport.write(etcd.encode_call(self._stream, self._headers, next(self._messages)))

    def data_received(self, data: bytes) -> None:
        try:
            completed, answer = self._reader.feed(data)
        except ConnectionError as error:
            self._run.fail(str(error))
            return
        if answer:
            self._transport.write(answer)
        if completed:
            self._run.latencies_s.append(time.perf_counter() - self._sent_at)
            self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.fail("etcd closed a connection")


def encode_request(operation: str, keys: int, value: bytes, rng: random.Random) -> bytes:
    """Return one RESP request on a key that redis-benchmark would use."""

    def key(prefix: str = "key") -> str:
        return f"{prefix}:{rng.randrange(keys):012d}"

    if operation == "mixed":
        operation = "get" if rng.random() < GETS_OF_MIXED else "set"
    arguments: tuple[Argument, ...]
    if operation == "set":
        arguments = ("SET", key(), value)
    elif operation == "get":
        arguments = ("GET", key())
    elif operation == "incr":
        arguments = ("INCR", key("counter"))
    else:
        arguments = ("MSET", *(word for _ in range(KEYS_PER_MSET) for word in (key(), value)))
    return encode(arguments)


def encode_batches(protocol: str, operation: str, pipeline: int, keys: int, value_bytes: int) -> list[bytes]:
    """Return different batches to send in turn, bounded in number and bytes."""
    rng = random.Random(1)
    value = b"x" * value_bytes
    batches: list[bytes] = []
    total_bytes = 0
    while len(batches) < BATCHES_MAX and total_bytes < BATCHES_BYTES_MAX:
        if protocol == "etcd":
            key = f"key:{rng.randrange(keys):012d}".encode()
            batch = etcd.put_message(key, value) if operation == "set" else etcd.range_message(key)
        else:
            batch = b"".join(encode_request(operation, keys, value, rng) for _ in range(pipeline))
        batches.append(batch)
        total_bytes += len(batch)
    return batches


async def generate(options: argparse.Namespace) -> dict[str, float]:
    """Run the load and return its figures; raises ConnectionError or TimeoutError."""
    batches = encode_batches(options.protocol, options.operation, options.pipeline, options.keys, options.value_bytes)
    count = max(1, options.operations // options.pipeline)
    run = Run(count)
    loop = asyncio.get_running_loop()
    connections: list[RespConnection | EtcdConnection] = []
    transports: list[asyncio.BaseTransport] = []
    headers = etcd.encode_headers("Put" if options.operation == "set" else "Range")

    def make() -> RespConnection | EtcdConnection:
        if options.protocol == "etcd":
            return EtcdConnection(run, batches, headers)
        start = len(connections) * 97 % len(batches)
        return RespConnection(run, batches[start:] + batches[:start], options.pipeline)

    ports = [int(port) for port in options.ports.split(",")]
    try:
        for number in range(options.connections):
            transport, protocol = await loop.create_connection(make, "127.0.0.1", ports[number % len(ports)])
            transports.append(transport)
            connections.append(protocol)
        run.open = len(connections)
        started_at = time.perf_counter()
        for connection in connections:
            connection.send()
        await asyncio.wait_for(run.ended, options.timeout_s)
        seconds = time.perf_counter() - started_at
    finally:
        for transport in transports:
            transport.close()
    latencies = sorted(run.latencies_s)
    return {
        "operations": count * options.pipeline,
        "seconds": seconds,
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[min(len(latencies) - 1, len(latencies) * 99 // 100)] * 1000,
        "errors": run.errors,
    }


def main() -> None:
    """Parse the arguments, run, print JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generator")
    parser.add_argument("--protocol", choices=("resp", "etcd"), default="resp")
    parser.add_argument("--ports", required=True, help="comma-separated; connections take them in turn")
    parser.add_argument("--operation", choices=("set", "get", "incr", "mset", "mixed"), required=True)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--pipeline", type=int, default=1)
    parser.add_argument("--operations", type=int, default=10_000)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--value-bytes", type=int, default=64)
    parser.add_argument("--timeout-s", type=float, default=60.0)
    print(json.dumps(uvloop.run(generate(parser.parse_args()))))


if __name__ == "__main__":
    main()
