"""`zattd` before it serves: its arguments, its complaints, `config`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.cluster import REPOSITORY, free_port
from zattredis.cli import zattd
from zattredis.config import SETTINGS
from zattredis.version import __version__


def run(*words: str, directory: Path, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `zattd WORDS` to its end."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ZATTREDIS_")}
    return subprocess.run(
        [sys.executable, "-m", "zattredis", *words], cwd=directory, capture_output=True, text=True, timeout=60,
        check=False, env={**clean, "PYTHONPATH": str(REPOSITORY), **(environment or {})},
    )  # fmt: skip


def test_version(tmp_path: Path) -> None:
    done = run("--version", directory=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"zattredis {__version__}\n")


INTERRUPTED_WHILE_LOADING = """
import sys
from zattredis.cli import entry
class Finder:
    def find_spec(self, name, *_):
        if name == "zattredis.raft":  # both need it, deep in what they import
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
sys.exit(entry.{command}())
"""


@pytest.mark.parametrize("command", ["zattd", "zattctl"])
def test_ctrl_c_while_the_program_is_loaded_is_no_traceback(command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_WHILE_LOADING.format(command=command)], cwd=tmp_path, capture_output=True,
        text=True, timeout=60, check=False, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["--help"], ["config", "--help"], ["demo", "--help"]])
def test_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        zattd.main(words)
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: zattd")
    if words == ["--help"]:
        for spec in SETTINGS.values():
            assert all(flag in text for flag in spec.flags)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--prot", "1"], "unknown flag --prot; did you mean --port?"),
        (["--clu=x"], "unknown flag --clu"),
        (["config", "shw"], "invalid choice: 'shw'"),
        (["config"], "the following arguments are required: what"),
        (["confg"], "unknown argument confg"),
        (["--port"], "argument --port/-p: expected one argument"),
        (["--port", "x"], "--port: port 'x' is not a number"),
        (["-c", "nosuch.toml"], "cannot read nosuch.toml: No such file or directory"),
        (["--cluster", "n1=h:1,n2=h:2"], "which node is this? say --node ID, one of n1, n2"),
        (["--node", "n3", "--cluster", "n1=h:1,n2=h:2"], "node 'n3' is not in cluster"),
        (["demo", "--nodes", "5"], "unknown flag --nodes"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_code_2(words: list[str], expected: str, tmp_path: Path) -> None:
    done = run(*words, directory=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "z.toml").write_text("port = 7001\nelection_timeout = 5\n")
    done = run("-c", "z.toml", directory=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "zattd: z.toml, line 2: unknown setting 'election_timeout'; did you mean election_timeout_ms?\n"
    )


def test_config_show_says_where_values_come_from_and_hides_secrets(tmp_path: Path) -> None:
    (tmp_path / "z.toml").write_text('port = 7001\nrequirepass = "hunter2"\n')
    environment = {"ZATTREDIS_MAXCLIENTS": "5", "ZATTREDIS_CONFIG": "z.toml"}
    done = run("config", "show", "--dir", 'a "b"', directory=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    lines = {line.split(" = ")[0]: line for line in done.stdout.splitlines() if " = " in line}
    assert list(lines) == list(SETTINGS)
    assert lines["port"].endswith("# z.toml, line 1")
    assert lines["maxclients"].startswith("maxclients = 5 ")
    assert lines["maxclients"].endswith("# environment ZATTREDIS_MAXCLIENTS")
    assert lines["dir"].endswith("# flag --dir")
    assert lines["tick_ms"].endswith("# default")
    assert "hunter2" not in done.stdout
    assert '"(hidden)"' in lines["requirepass"]
    document = tomllib.loads(done.stdout)
    assert (document["port"], document["dir"]) == (7001, 'a "b"')


def test_config_show_as_json(tmp_path: Path) -> None:
    done = run("config", "show", "-o", "json", "--port", "7001", "--cluster-secret", "hunter2", directory=tmp_path)
    document = json.loads(done.stdout)
    assert document["port"] == {"value": 7001, "source": "flag --port"}
    assert document["cluster"]["value"] == "n1=127.0.0.1:7001@17001"
    assert document["cluster_secret"]["value"] == "(hidden)"


def test_config_example_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "z.toml").write_text(run("config", "example", directory=tmp_path).stdout)
    assert run("config", "show", "-c", "z.toml", directory=tmp_path).returncode == 0


def test_a_reader_that_went_away_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(
        f"'{sys.executable}' -m zattredis config show | head -c 1 > /dev/null; exit ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_busy_port_is_one_line_and_changes_nothing(tmp_path: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        done = run("--port", str(port), directory=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        f"zattd: cannot listen on 127.0.0.1:{port}: another process listens there; choose another with --port or bind\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_busy_peer_port_is_one_line_and_changes_nothing(tmp_path: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port + 10000)):
        done = run("--cluster", f"n1=127.0.0.1:{port},n2=127.0.0.1:1", "--node", "n1", directory=tmp_path)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port + 10000}: another process listens there" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("bind", "expected"),
    [("192.0.2.1", "this machine has no such address"), ("no-such-host.invalid", "is not known here")],
)
def test_an_address_that_is_not_ours(tmp_path: Path, bind: str, expected: str) -> None:
    done = run("--port", str(free_port()), "--bind", bind, directory=tmp_path)
    assert done.returncode == 1
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
