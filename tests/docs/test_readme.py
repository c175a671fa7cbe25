"""Every command in README.md is run, and what README says it prints is compared.

A fenced block is run by its info string:

- `sh`          to the end, each line; a line that ends in `# → text` must print exactly that text
- `sh serve`    each line is a server: started, waited for, and stopped by SIGTERM at the end of its section
- `sh install`  the commands that make an environment, in a copy of the repository (test_install_*)
- `sh docker`   only where a Docker engine runs
- `python`      as a program
- `python FILE` written to that file
- `sh repository`  in the repository, with the counts of seeds and inputs cut down

What is changed before running, so that tests can run beside anything else: the ports (7001 and the others of PORTS)
become free ones, in the commands and in conf/; the directory is a temporary one with a copy of conf/; `.venv/bin/zattd`
and `zattctl` are those of the code under test; in the section "Try it" the server gets its port by ZATTREDIS_PORT.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.cluster import REPOSITORY, free_port, wait_until
from tests.support.command_table import END, render, split_readme

TEXT = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PORTS = ("6379", "7001", "7002", "7003", "7004", "7005", "7006", "7007", "5254", "5255", "5256", "26379", "9379")
READY = re.compile(r'"event":"(ready|no_leader_yet)"|Ctrl-C ends all')
"""What a server says when it serves; one node of three alone says that it has no leader yet."""
EXPECTED = re.compile(r"\s+# → (.*)$")
COMMENT = re.compile(r"\s{2,}# .*$")
FIRST_COMMAND = "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/zattd"
TEST_COMMAND = "python3 -m venv .venv && .venv/bin/pip install '.[test]' && .venv/bin/pytest"


@dataclass
class Block:
    kind: str
    text: str

    @property
    def lines(self) -> list[str]:
        """The commands, a continued one in one piece."""
        return [line for line in self.text.replace("\\\n", " ").splitlines() if line.strip()]


@dataclass
class Section:
    title: str
    blocks: list[Block] = field(default_factory=list)


def sections() -> list[Section]:
    """README's sections (second-level headings) with their fenced blocks."""
    found = [Section("")]
    kind: str | None = None
    lines: list[str] = []
    for line in TEXT.splitlines():
        if line.startswith("```"):
            if kind is None:
                kind, lines = line[3:].strip(), []
            else:
                found[-1].blocks.append(Block(kind, "\n".join(lines)))
                kind = None
        elif kind is not None:
            lines.append(line)
        elif line.startswith("## "):
            found.append(Section(line[3:]))
    assert kind is None, "a fence is not closed"
    return found


SECTIONS = sections()


class Stage:
    """A directory in which README's commands work, on ports of their own."""

    def __init__(self, directory: Path, title: str) -> None:
        self.directory = directory
        self.ports = {port: str(free_port()) for port in PORTS}
        clean = {key: value for key, value in os.environ.items() if not key.startswith("ZATTREDIS_")}
        self.environment = {**clean, "PYTHONPATH": str(REPOSITORY)}
        if title == "Try it":
            self.environment["ZATTREDIS_PORT"] = self.ports["6379"]
        self.servers: list[tuple[str, subprocess.Popen[bytes], Path]] = []
        binaries = directory / ".venv" / "bin"
        binaries.mkdir(parents=True)
        for name, module in (("zattd", "zattredis"), ("zattctl", "zattredis.cli.zattctl")):
            (binaries / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
            (binaries / name).chmod(0o755)
        shutil.copytree(REPOSITORY / "conf", directory / "conf")
        for path in (directory / "conf").iterdir():
            path.write_text(self.adjusted(path.read_text()))

    def adjusted(self, text: str) -> str:
        return re.sub(rf"(?<!\d)({'|'.join(PORTS)})(?!\d)", lambda match: self.ports[match[1]], text)

    def run(self, block: Block) -> None:
        for line in block.lines:
            expected = EXPECTED.search(line)
            command = COMMENT.sub("", self.adjusted(line))
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command], cwd=self.directory, env=self.environment,
                capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            if expected:
                assert done.stdout.strip() == expected[1], command

    def run_in_the_repository(self, block: Block) -> None:
        for line in block.lines:
            command = line.replace(".venv/bin/python", sys.executable).replace("99999", "3").replace("2000000", "300")
            done = subprocess.run(
                ["bash", "-c", command], cwd=REPOSITORY, env=self.environment, capture_output=True, text=True,
                timeout=240, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"

    def run_python(self, block: Block) -> None:
        command = [sys.executable, "-c", self.adjusted(block.text)]
        subprocess.run(command, cwd=self.directory, env=self.environment, timeout=60, check=True)

    def serve(self, block: Block) -> None:
        already = len(self.servers)
        for line in block.lines:
            self.wait_for_the_last_one_there(line)
            output = self.directory / f"output{len(self.servers)}"
            with output.open("wb") as file:
                process = subprocess.Popen(
                    ["bash", "-c", f"exec {self.adjusted(line)}"], cwd=self.directory, env=self.environment,
                    stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                )  # fmt: skip
            self.servers.append((line, process, output))
        for line, process, output in self.servers[already:]:

            def is_ready(line: str = line, process: subprocess.Popen[bytes] = process, output: Path = output) -> bool:
                assert process.poll() is None, f"{line} ended:\n{output.read_text()}"
                return READY.search(output.read_text()) is not None

            wait_until(is_ready, f"{line} is ready")

    def wait_for_the_last_one_there(self, line: str) -> None:
        """A server that README has stopped and starts again: wait until it has ended."""
        directory = re.search(r"--dir (\S+)", line)
        for before, process, _ in self.servers:
            if directory and f"{directory[0]} " in f"{before} ":
                process.wait(60)

    def stop(self) -> None:
        """Stop the servers as README says, all of which must end well, but those that README has ended before."""
        running = [(line, process) for line, process, _ in self.servers if process.poll() is None]
        for _, process in running:
            process.send_signal(signal.SIGTERM)
        codes = {line: process.wait(60) for line, process in running}
        assert set(codes.values()) <= {0}, codes

    def close(self) -> None:
        for _, process, _ in self.servers:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture
def stage(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    made = Stage(tmp_path, request.param)
    yield made
    made.close()


def runnable(section: Section) -> bool:
    return any(block.kind in ("sh", "sh serve", "python", "sh repository") for block in section.blocks)


TITLES = [section.title for section in SECTIONS if runnable(section)]


@pytest.mark.parametrize(("stage", "title"), [(title, title) for title in TITLES], indirect=["stage"], ids=TITLES)
def test_section(stage: Stage, title: str) -> None:
    for tool, package in (("redis-cli", "redis-tools"), ("redis-benchmark", "redis-tools"), ("curl", "curl")):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (package {package})")
    section = next(section for section in SECTIONS if section.title == title)
    for block in section.blocks:
        match block.kind:
            case "sh":
                stage.run(block)
            case "sh serve":
                stage.serve(block)
            case "python":
                stage.run_python(block)
            case kind if kind.startswith("python "):
                (stage.directory / kind.split()[1]).write_text(stage.adjusted(block.text))
            case "sh repository":
                stage.run_in_the_repository(block)
    stage.stop()


def copy_of_the_repository(directory: Path) -> Path:
    """Copy what a clone would hold (and what is not committed yet) and return where it is."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, target = REPOSITORY / name, directory / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return directory


@pytest.fixture(scope="module")
def fresh_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in which the environment can be made: pip reaches a package registry."""
    directory = copy_of_the_repository(tmp_path_factory.mktemp("copy") / "zattredis")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-cache-dir", "-d"]
    probe = subprocess.run(
        [*command, str(directory / "probe"), "hatchling"], capture_output=True, text=True, check=False
    )
    if probe.returncode != 0:
        pytest.skip(f"no package registry can be reached: {probe.stderr.strip().splitlines()[-1:]}")
    return directory


@pytest.mark.timeout(600)
def test_install_and_start(fresh_copy: Path) -> None:
    port = free_port()
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ZATTREDIS_")}
    output = fresh_copy / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            ["bash", "-c", FIRST_COMMAND], cwd=fresh_copy, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            env={**clean, "ZATTREDIS_PORT": str(port)}, start_new_session=True,
        )  # fmt: skip
    try:

        def is_ready() -> bool:
            assert process.poll() is None, output.read_text()[-3000:]
            return READY.search(output.read_text()) is not None

        wait_until(is_ready, "the server of the first command is ready", timeout_s=500)
        assert (fresh_copy / "zattredis-data").is_dir()
        os.killpg(process.pid, signal.SIGTERM)
        wait_until(lambda: '"event":"stopped"' in output.read_text(), "the server has stopped in order")
        process.wait(60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.timeout(600)
def test_install_and_test(fresh_copy: Path) -> None:
    """The second command, but only collecting: running the suite inside itself would never end."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("ZATTREDIS_", "PYTEST_"))}
    done = subprocess.run(
        ["bash", "-c", TEST_COMMAND], cwd=fresh_copy, capture_output=True, text=True, timeout=550, check=False,
        env={**clean, "PYTEST_ADDOPTS": "--collect-only -n 0 -p no:cacheprovider"},
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def test_docker(tmp_path: Path) -> None:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode
    ):
        pytest.skip("needs a Docker engine")
    directory = copy_of_the_repository(tmp_path)
    names = ["zattredis", "n1", "n2", "n3"]
    try:
        for section in SECTIONS:
            for block in section.blocks:
                if block.kind == "sh docker":
                    subprocess.run(
                        ["bash", "-euo", "pipefail", "-c", block.text], cwd=directory, check=True, timeout=900
                    )
    finally:
        subprocess.run(["docker", "rm", "-f", *names], capture_output=True, check=False)
        subprocess.run(["docker", "network", "rm", "zatt"], capture_output=True, check=False)


def test_readme_opens_with_the_two_commands() -> None:
    assert [block.text for block in SECTIONS[0].blocks] == [FIRST_COMMAND, TEST_COMMAND]
    assert TEXT.startswith("# zattredis\n\n```sh install\n" + FIRST_COMMAND)


def test_every_block_has_a_kind_that_is_tested() -> None:
    kinds = {block.kind for section in SECTIONS for block in section.blocks}
    kinds = {"python" if kind.startswith("python ") else kind for kind in kinds}  # with the name of a file
    assert kinds <= {"sh", "sh serve", "sh install", "sh docker", "python", "sh repository"}


def test_the_command_table_is_current() -> None:
    """What it says of a command is right, in the right order. One added since the table was last made need not be in
    it: adding a command touches the file of its group and its tests. A release renews the table (CONTRIBUTING)."""
    _, inside, _ = split_readme()
    lines = iter(render().strip().splitlines())
    wrong = [line for line in inside.splitlines() if line not in lines]
    assert not wrong, f"renew it: python -m tests.support.command_table ({END})"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name: str) -> None:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)  # Python has brackets of its own
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", text):
        assert (REPOSITORY / target).exists(), target
    for path in re.findall(r"`((?:zattredis|tests|benchmarks|conf)/[\w./-]+)`", text):
        assert (REPOSITORY / path).exists(), path


def test_the_changelog_knows_this_version() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[Unreleased\]$", text, re.MULTILINE)
