"""The commands' own small client and zattctl, against a scripted server."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import hiredis
import pytest

from zattredis.cli import zattctl
from zattredis.cli.resp_client import ErrorReply, NoAnswer, RespClient

RAFT = (
    "# Raft\r\nraft_node_id:n1\r\nraft_role:{role}\r\nraft_leader_id:{leader}\r\nraft_current_term:7\r\n"
    "raft_commit_index:12\r\nraft_applied_index:12\r\nraft_log_entries:3\r\nraft_snapshot_index:9\r\n{members}"
)
NODE = (
    "# Server\r\nzattredis_version:0.1.0\r\n# Persistence\r\nstorage_log_bytes:1024\r\nstorage_state_bytes:512\r\n"
    "storage_free_bytes:3221225472\r\nstorage_syncs:4\r\nstorage_sync_usec:10000\r\nstorage_sync_usec_max:7000\r\n"
)


class ScriptedServer:
    """Answers each command by its name from a table of raw replies; None closes the connection, "" says nothing."""

    def __init__(self, replies: dict[str, str | None]) -> None:
        self.replies = replies
        self.commands: list[list[bytes]] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        reader = hiredis.Reader()
        while data := connection.recv(65_536):
            reader.feed(data)
            while (command := reader.gets()) is not False:
                self.commands.append(command)
                reply = self.replies.get(b" ".join(command).decode(), self.replies.get(command[0].decode(), ""))
                if reply is None:
                    return
                connection.sendall(reply.encode())

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


def bulk(text: str) -> str:
    return f"${len(text)}\r\n{text}\r\n"


@pytest.fixture
def servers() -> Iterator[list[ScriptedServer]]:
    made: list[ScriptedServer] = []
    yield made
    for server in made:
        server.close()


def start(servers: list[ScriptedServer], replies: dict[str, str | None]) -> ScriptedServer:
    servers.append(ScriptedServer(replies))
    return servers[-1]


def test_replies(servers: list[ScriptedServer]) -> None:
    server = start(
        servers, {"PING": "+PONG\r\n", "LIST": "*2\r\n:1\r\n$-1\r\n", "BAD": "-ERR no\r\n", "INFO": bulk("a:b:c\r\n")}
    )
    with RespClient("127.0.0.1", server.port) as client:
        assert client.call("PING") == b"PONG"
        assert client.call("LIST") == [1, None]
        assert client.info("raft") == {"a": "b:c"}
        with pytest.raises(ErrorReply, match="answered: ERR no"):
            client.call("BAD")


def test_a_password_is_given_first(servers: list[ScriptedServer]) -> None:
    server = start(servers, {"AUTH": "+OK\r\n", "PING": "+PONG\r\n"})
    with RespClient("127.0.0.1", server.port, "secret") as client:
        client.call("PING")
    assert server.commands == [[b"AUTH", b"secret"], [b"PING"]]
    server.replies["AUTH"] = "-WRONGPASS no\r\n"
    with pytest.raises(ErrorReply, match="WRONGPASS"):
        RespClient("127.0.0.1", server.port, "secret")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [(None, "closed the connection"), ("", "timed out"), ("?what\r\n", "does not speak the Redis protocol")],
)
def test_no_answer(servers: list[ScriptedServer], reply: str | None, expected: str) -> None:
    server = start(servers, {"PING": reply})
    with RespClient("127.0.0.1", server.port, timeout_s=0.2) as client, pytest.raises(NoAnswer, match=expected):
        client.call("PING")


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    with pytest.raises(NoAnswer, match="Connection refused"):
        RespClient("127.0.0.1", port)


def trio(servers: list[ScriptedServer], third_answers: bool = True) -> int:
    """Start three scripted nodes and return the port of the first."""
    started = [start(servers, {}) for _ in range(3)]
    members = "".join(
        f"raft_member_n:{i + 1}:address=127.0.0.1:{server.port},role=voter,match_index=12,lag=0,connected=yes\r\n"
        for i, server in enumerate(started)
    )
    for i, server in enumerate(started):
        text = RAFT.format(role="leader" if i == 0 else "follower", leader="n:1", members=members)
        raft = text.replace("raft_node_id:n1", f"raft_node_id:n:{i + 1}")
        server.replies["INFO raft"] = bulk(raft)
        server.replies["INFO raft server persistence stats"] = bulk(raft + NODE)
    if not third_answers:
        started[2].replies["INFO raft server persistence stats"] = None
    return started[0].port


def test_status_is_a_table_over_all_nodes(servers: list[ScriptedServer], capsys: pytest.CaptureFixture[str]) -> None:
    port = trio(servers)
    assert zattctl.main(["status", "--port", str(port)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == [
        "NODE", "ADDRESS", "ROLE", "TERM", "APPLIED", "LAG", "LOG", "DISK", "FREE", "FSYNC", "VERSION"
    ]  # fmt: skip
    figures = ["1.5", "KiB", "3.0", "GiB", "2.50", "ms", "0.1.0"]
    assert lines[1] == ["n:1", f"127.0.0.1:{port}", "leader", "7", "12", "0", "3", *figures]
    assert [line[2] for line in lines[2:]] == ["follower", "follower"]


def test_status_as_json_tells_of_a_node_that_does_not_answer(
    servers: list[ScriptedServer], capsys: pytest.CaptureFixture[str]
) -> None:
    port = trio(servers, third_answers=False)
    assert zattctl.main(["status", "--port", str(port), "-o", "json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["healthy"], document["leader"]) == (False, "n:1")
    assert "closed the connection" in document["nodes"][2]["problem"]
    assert zattctl.main(["status", "--port", str(port)]) == 1
    text = capsys.readouterr().out
    assert "no answer" in text
    assert "n:3: 127.0.0.1" in text


def test_status_of_something_else(servers: list[ScriptedServer], capsys: pytest.CaptureFixture[str]) -> None:
    server = start(servers, {"INFO": bulk("redis_version:7.0.15\r\n")})
    assert zattctl.main(["status", "--port", str(server.port)]) == 1
    assert "is no zattredis node" in capsys.readouterr().err


def test_ping(
    servers: list[ScriptedServer], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(servers, {"PING": "+PONG\r\n", "AUTH": "+OK\r\n"})
    assert zattctl.main(["ping", "--port", str(server.port)]) == 0
    monkeypatch.setenv("ZATTREDIS_PORT", str(server.port))
    monkeypatch.setenv("ZATTREDIS_PEER_PORT", "1")
    monkeypatch.setenv("ZATTREDIS_BIND", "0.0.0.0")
    monkeypatch.setenv("ZATTREDIS_REQUIREPASS", "secret")
    assert zattctl.main(["ping"]) == 0
    assert capsys.readouterr().out == "PONG\nPONG\n"
    assert server.commands == [[b"PING"], [b"AUTH", b"secret"], [b"PING"]]


@pytest.mark.parametrize("words", [["pong"], [], ["status", "--prot", "1"], ["status", "--port", "x"]])
def test_wrong_arguments(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        zattctl.main(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
