"""Extensions of a server that is started from the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import redis

from tests.support.cluster import REPOSITORY, free_port, wait_until

PROGRAM = "#!{python}\nimport sys\nfrom zattredis.cli.zattd import main\nsys.exit(main())\n"
MODULE = '''
import zattredis

@zattredis.command("HELLO.THERE")
def hello(ctx: zattredis.Context, name: str) -> str:
    return f"hello {name}"
'''


def command(directory: Path, *words: str) -> tuple[list[str], dict[str, str]]:
    (directory / "bin").mkdir(exist_ok=True)
    (directory / "bin" / "zattd").write_text(PROGRAM.format(python=sys.executable))
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ZATTREDIS_")}
    return [sys.executable, str(directory / "bin" / "zattd"), *words], {**clean, "PYTHONPATH": str(REPOSITORY)}


def test_a_module_of_the_directory_it_is_started_in(tmp_path: Path) -> None:
    (tmp_path / "hello_extension.py").write_text(MODULE)
    port = free_port()
    words, environment = command(tmp_path, "--port", str(port), "--extensions", "hello_extension", "--dir", "data")
    process = subprocess.Popen(
        words, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        client = redis.Redis(port=port)

        def answers() -> bool:
            assert process.poll() is None
            try:
                return bool(client.execute_command("HELLO.THERE", "you") == b"hello you")
            except redis.RedisError:
                return False

        wait_until(answers, "the command works")
        assert client.config_get("extensions") == {"extensions": "hello_extension"}
        client.close()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    with_clock = MODULE.replace('f"hello {name}"', "str(time.time())")
    (tmp_path / "clock_extension.py").write_text(f"import time\n{with_clock}")
    for name, message in (
        ("nowhere", "extensions: nowhere cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("clock_extension", "HELLO.THERE cannot be the same on every node: it uses time.time: use ctx.now_ms"),
        ("no-name", "'no-name' is no name of a module, like myapp.commands"),
    ):
        words, environment = command(tmp_path, "--port", str(free_port()), "--extensions", name, "--dir", "data")
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
