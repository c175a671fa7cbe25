"""The quick part of fuzzing: hypothesis draws from the grammars, and a live node is fed with what came of them."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import grammars
from tests.fuzz.targets import TARGETS
from tests.support.cluster import ZattCluster

EXAMPLES = {"resp": 300, "frames": 300, "settings": 100, "commands": 150, "restore": 200}
QUICK_INPUTS = {"resp": 4000, "frames": 4000, "settings": 300, "commands": 300, "restore": 1500}


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_that_hypothesis_draws(name: str) -> None:
    target = TARGETS[name]

    @settings(
        max_examples=EXAMPLES[name], deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.randoms(use_true_random=False))
    def feed(rng: random.Random) -> None:
        target.check(target.make(rng))

    feed()


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_from_seeds(name: str) -> None:
    target = TARGETS[name]
    for seed in range(QUICK_INPUTS[name]):
        found = target.make(random.Random(seed))
        try:
            target.check(found)
        except Exception as error:
            error.add_note(f"again: python -m tests.fuzz {name} --first {seed} --inputs 1\ninput: {found!r}")
            raise


@pytest.mark.parametrize("way", ["fork", "forkserver"])  # the ways of Python 3.11 and 3.14
def test_processes_however_python_starts_them(way: str) -> None:
    program = (
        "import multiprocessing, runpy\n"
        "if __name__ == '__main__':\n"
        f"    multiprocessing.set_start_method({way!r})\n"
        "    runpy.run_module('tests.fuzz', run_name='__main__', alter_sys=True)\n"
    )
    command = [sys.executable, "-c", program, "resp", "--inputs", "20", "--jobs", "2"]
    repository = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=60, check=False)
    assert "resp: 20 inputs taken well" in done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(36_000)
@pytest.mark.parametrize(
    ("name", "inputs"),
    [("resp", 2_000_000), ("frames", 1_000_000), ("restore", 200_000), ("commands", 50_000), ("settings", 50_000)],
)
def test_many_inputs(name: str, inputs: int) -> None:
    command = [sys.executable, "-m", "tests.fuzz", name, "--inputs", str(inputs), "--jobs", str(os.cpu_count() or 1)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.from_bytes])
def test_inputs_guided_by_coverage(name: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed: pip install '.[fuzz]'")
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.fuzz", name, "--inputs", "200000", "--engine", "atheris"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run(command, check=True, cwd=tmp_path, env=environment)


def test_a_node_lives_through_all_of_it() -> None:
    """Clients and strangers on the peer port send what the grammars make; others are served meanwhile."""
    with ZattCluster(1, in_memory=True) as cluster:
        node = cluster.nodes[0]
        rng = random.Random(1)
        with node.client() as client:
            client.call("SET", "before", "1")
            for number in range(150):
                with contextlib.suppress(ConnectionError), socket.create_connection((node.host, node.port), 5) as one:
                    one.sendall(grammars.resp(rng))
                    if number % 3:
                        one.shutdown(socket.SHUT_WR)
                        while one.recv(65536):
                            pass
            assert client.call("PING") == b"PONG"
            assert client.call("SET", "after", "1") == b"OK"
        assert node.running
