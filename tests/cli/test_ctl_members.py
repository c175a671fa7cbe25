"""zattctl on a running cluster, as a user types it: members, transfer-leader, top, doctor, completion, help."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.cluster import wait_until
from tests.support.growing import GrowingCluster
from tests.support.zattctl import COMMAND, ENVIRONMENT, zattctl
from zattredis.cli.ctl.frame import CtlParser
from zattredis.cli.zattctl import SUBCOMMANDS

NAMES = [each.name for each in SUBCOMMANDS]


@pytest.fixture(scope="module")
def cluster() -> Iterator[GrowingCluster]:
    with GrowingCluster(3) as made:
        yield made


def test_membership_from_end_to_end(cluster: GrowingCluster) -> None:
    port = cluster.nodes[0].port
    listed = zattctl("members", "-p", port).splitlines()
    assert listed[0].split() == ["ID", "ADDRESS", "ROLE", "VOTER", "ALIVE", "MATCH_INDEX", "LAG"]
    assert [line.split()[0] for line in listed[1:]] == ["n1", "n2", "n3"]

    new = cluster.new_node()
    number = cluster.nodes.index(new)
    cluster.spawn(new)
    assert zattctl("members", "add", f"n4=127.0.0.1:{new.port}", "-p", port) == "OK\n"
    assert zattctl("members", "demote", "n4", "-p", port) == "OK\n"
    members = {member["id"]: member for member in json.loads(zattctl("members", "list", "-o", "json", "-p", port))}
    assert members["n4"]["voter"] == "no"
    assert zattctl("members", "promote", "n4", "-p", port) == "OK\n"
    assert members.keys() == {"n1", "n2", "n3", "n4"}
    assert "4 voters survive no more losses than 3 would" in zattctl("doctor", "-p", port, code=1)

    other = cluster.new_node()
    cluster.spawn(other)
    assert zattctl("members", "replace", "n4", "--with", f"n5=127.0.0.1:{other.port}", "-p", port) == "OK\n"
    cluster.wait_removed(number)
    assert zattctl("members", "remove", "n4", "-p", port) == "OK\n", "it is gone already"
    assert "n4 was removed from this cluster" in zattctl("members", "promote", "n4", "-p", port, code=1)
    assert "ids are not used again" in zattctl("members", "add", "n4=127.0.0.1:1", "-p", port, code=1)
    assert zattctl("members", "remove", "n5", "-p", port) == "OK\n"
    cluster.wait_removed(cluster.nodes.index(other))
    del cluster.nodes[3:]
    assert [member["id"] for member in json.loads(zattctl("members", "list", "-o", "json", "-p", port))] == [
        "n1", "n2", "n3"
    ]  # fmt: skip


def test_the_leadership_is_handed_over(cluster: GrowingCluster) -> None:
    port = cluster.nodes[0].port
    leader = cluster.wait_leader()
    other = cluster.nodes[(leader + 1) % 3].name
    assert zattctl("transfer-leader", other, "-p", port) == f"{other}\n"
    assert zattctl("transfer-leader", "-p", port).strip() in {"n1", "n2", "n3"}
    others = sorted({"n1", "n2", "n3"} - {cluster.nodes[cluster.wait_leader()].name})
    said = zattctl("transfer-leader", "n9", "-p", port, code=1)
    assert f"n9 is not another voter; those are {', '.join(others)}" in said


def test_losing_the_quorum_is_refused_and_the_doctor_tells(cluster: GrowingCluster) -> None:
    def problems() -> list[str]:
        words = [*COMMAND, "doctor", "-o", "json", "-p", str(cluster.nodes[0].port)]
        done = subprocess.run(words, capture_output=True, env=ENVIRONMENT, check=False)
        return [finding["text"] for finding in json.loads(done.stdout) if finding["level"] == "problem"]

    wait_until(lambda: not problems(), "every link has been heard of")
    gone = cluster.followers()[0]
    here = next(i for i in range(3) if i != gone)
    port = cluster.nodes[here].port
    cluster.kill(gone)
    try:
        other = next(node.name for i, node in enumerate(cluster.nodes) if i not in (gone, here))
        wait_until(lambda: cluster.member(f"n{gone + 1}", here)["alive"] == "no", "the death is noticed")
        assert "the quorum would be lost" in zattctl("members", "remove", other, "-p", port, code=1)
        told = zattctl("doctor", "-p", port, code=1)
        assert f"PROBLEM  n{gone + 1}: cannot connect" in told
        assert "2 of 3 voters answer" in told
        findings = json.loads(zattctl("doctor", "-o", "json", "-p", port, code=1))
        assert {finding["level"] for finding in findings} >= {"problem", "warning"}
        last = next(i for i in range(3) if i not in (gone, here))
        cluster.kill(last)
        wait_until(lambda: not cluster.status(here)["leader_id"], "nobody leads any more")
        told = zattctl("doctor", "-p", port, code=1)
        assert "no quorum: 1 of 3 voters answer, 2 are needed" in told
        assert f"n{here + 1}: no answer" not in told, "the one that lives was asked what takes no majority"
        rows = {row.split()[0]: row.split() for row in zattctl("top", "-n", "1", "-p", port).splitlines() if row}
        assert rows[f"n{here + 1}"][1] != "no" and rows[f"n{here + 1}"][4] == "-", rows
    finally:
        for i, node in enumerate(cluster.nodes):
            if not node.running:
                cluster.restart(i, wait=False)
        cluster.wait_ready()


def test_top_without_a_terminal_prints_tables(cluster: GrowingCluster) -> None:
    lines = zattctl("top", "-n", "2", "-i", "0.2", "-p", cluster.nodes[0].port).splitlines()
    heads = [line.split() for line in lines if line.startswith("NODE")]
    assert len(heads) == 2
    assert heads[0][:6] == ["NODE", "ROLE", "OPS/S", "WRITES/S", "LATENCY", "FSYNC"]
    assert sum(line.startswith(("n1 ", "n2 ", "n3 ")) for line in lines) == 6


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_top_on_a_terminal_is_ended_by_a_key(cluster: GrowingCluster, key: bytes) -> None:
    process_id, terminal = pty.fork()
    if process_id == 0:
        os.execve(sys.executable, [*COMMAND, "top", "-p", str(cluster.nodes[0].port)], {**ENVIRONMENT, "TERM": "xterm"})
    try:
        shown = b""
        while b"q ends" not in shown:
            shown += os.read(terminal, 65_536)
        os.write(terminal, key)
        while True:
            try:
                more = os.read(terminal, 65_536)
            except OSError:  # the terminal's other side is closed
                break
            shown += more
        assert os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1]) == 0
        assert b"\x1b[?1049l" in shown
    finally:
        os.close(terminal)


def test_nobody_there() -> None:
    for name in ("status", "top", "doctor", "members", "transfer-leader", "ping"):
        text = zattctl(name, "-p", "1", code=1)
        assert text.count("\n") == 1
        assert "cannot connect to 127.0.0.1:1" in text


@pytest.mark.parametrize("name", NAMES)
def test_every_subcommand_has_help_with_examples(name: str) -> None:
    text = zattctl(name, "--help")
    assert "\x1b" not in text, "no colours where there is no terminal"
    assert "examples:" in text
    assert "exit code:" in text
    assert f"zattctl {name}" in text
    assert f"  {name}" in zattctl("--help")


@pytest.mark.parametrize(
    "words",
    [
        ("members", "remove"), ("members", "replace", "n1"), ("members", "expel", "n1"), ("top", "-i", "0"),
        ("backup",), ("backup", "f", "--rate", "much"), ("restore", "f"), ("verify",), ("recover",),
        ("completion", "tcsh"), ("status", "--timeout", "never"), ("doctor", "--quiet"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_one_line(words: tuple[str, ...]) -> None:
    assert zattctl(*words, code=2).count("\n") == 1


def test_the_parsers_take_what_argparse_hands_on_to_those_of_subcommands() -> None:
    actions = CtlParser("zattctl", "Since Python 3.14 it hands on one word more.").add_subparsers()
    made = actions.add_parser("job", description="It has been done.", conflict_handler="resolve")
    assert (made.prog, made.description, made.conflict_handler) == ("zattctl job", "It has been done.", "resolve")


def test_completion_of_bash() -> None:
    script = zattctl("completion", "bash")

    def complete(*words: str) -> list[str]:
        asked = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _zattctl; echo ${{COMPREPLY[@]}}"
        done = subprocess.run(["bash", "-c", script + asked], capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert complete("zattctl", "tra") == ["transfer-leader"]
    assert complete("zattctl", "members", "pro") == ["promote"]
    assert complete("zattctl", "backup", "--comp") == ["--compression"]
    assert set(NAMES) <= set(complete("zattctl", '""'))


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_of_other_shells_names_everything(shell: str) -> None:
    script = zattctl("completion", shell)
    for word in [*NAMES, "promote", "compression", "interval"]:
        assert word in script
    if shutil.which(shell) is not None:
        subprocess.run([shell, "-n"], input=script, text=True, check=True)
