"""CONFIG against redis-server 7.0 where the parameter is Redis's own, and by itself where it is ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.differential import Connection
from tests.support.local_server import LocalClient, LocalServer, compare_lines
from zattredis.config import SETTINGS
from zattredis.errors import DefiniteError, ReplyError
from zattredis.server.runtime_settings import RuntimeSettings

LINES = [
    "CONFIG", "CONFIG FOO", "CONFIG GET", "CONFIG GET nothing", "CONFIG GET nothing no*thing", "CONFIG GET maxclients",
    "CONFIG GET MAXCLIENTS maxclients maxclient[st]", "CONFIG GET MAXCLIENT?", "CONFIG GET save", "CONFIG GET timeout",
    "CONFIG SET", "CONFIG SET foo", "CONFIG SET foo bar", "CONFIG SET maxclients", "CONFIG SET maxclients 1 foo",
    "CONFIG SET maxclients a", "CONFIG SET maxclients 10kb", "CONFIG SET maxclients 1.5", "CONFIG SET maxclients ''",
    "CONFIG SET Timeout 0", "CONFIG SET timeout 1 timeout 2", "CONFIG SET timeout 1 foo 2",
    "CONFIG SET foo 1 timeout a",
    "CONFIG SET timeout 1 maxclients a", "CONFIG GET timeout", "CONFIG SET timeout 10 daemonize yes",
    "CONFIG SET daemonize foo", "CONFIG SET databases 16", "CONFIG SET databases a", "CONFIG GET timeout",
    "CONFIG SET proto-max-bulk-len x", "CONFIG SET proto-max-bulk-len 2gg",
    "CONFIG SET proto-max-bulk-len -1", "CONFIG SET proto-max-bulk-len 2mb", "CONFIG GET proto-max-bulk-len",
    "CONFIG SET proto-max-bulk-len 2m", "CONFIG GET proto-max-bulk-len", "CONFIG SET proto-max-bulk-len 512MB",
    "CONFIG SET slowlog-max-len 10", "CONFIG GET slowlog-max-len", "CONFIG SET slowlog-log-slower-than 1.5",
    "CONFIG SET slowlog-log-slower-than -1", "CONFIG GET slowlog-log-slower-than",
    "CONFIG SET latency-monitor-threshold 100", "CONFIG GET latency-monitor-threshold",
    "CONFIG SET latency-monitor-threshold -1", "CONFIG SET latency-monitor-threshold 0",
    "CONFIG SET latency-tracking no", "CONFIG GET latency-tracking", "CONFIG SET latency-tracking maybe",
    "CONFIG SET latency-tracking yes", "CONFIG SET latency-tracking-info-percentiles a",
    ("CONFIG", "SET", "latency-tracking-info-percentiles", "50 101"),
    ("CONFIG", "SET", "latency-tracking-info-percentiles", "10 20.5 99.999"),
    "CONFIG GET latency-tracking-info-percentiles",
    ("CONFIG", "SET", "latency-tracking-info-percentiles", "50 99 99.9"),
    "CONFIG SET client-output-buffer-limit foo", ("CONFIG", "SET", "client-output-buffer-limit", "normal 1 2"),
    ("CONFIG", "SET", "client-output-buffer-limit", "normal 1 2 a"),
    ("CONFIG", "SET", "client-output-buffer-limit", "foo 1 2 3"),
    "CONFIG REWRITE", "CONFIG REWRITE x", "CONFIG RESETSTAT", "CONFIG RESETSTAT x",
]  # fmt: skip


@pytest.mark.parametrize("resp", [2, 3])
def test_replies_and_errors(real: Connection, resp: int) -> None:
    ours = LocalClient()
    for backend in (ours, real):
        backend.use(resp)
        for name, value in (("slowlog-max-len", "128"), ("slowlog-log-slower-than", "10000"), ("timeout", "0")):
            backend.execute([b"CONFIG", b"SET", name.encode(), value.encode()])
    compare_lines(ours, real, LINES)


def test_get_shows_all_bounds_and_every_shown_setting() -> None:
    shown = LocalClient().call("CONFIG GET *")
    bounds = (
        "maxclients client-query-buffer-limit client-output-buffer-limit inflight-bytes-max uncommitted-bytes-max"
        " batch-bytes-max batch-commands-max proto-max-bulk-len"
    )
    for name in bounds.encode().split():
        assert shown[name], name
    assert {spec.config_name.encode() for spec in SETTINGS.values() if spec.config_name} <= set(shown)
    assert shown[b"save"] == b""
    assert (shown[b"appendonly"], shown[b"appendfsync"], shown[b"databases"]) == (b"yes", b"always", b"16")
    assert shown[b"bind"] == b"127.0.0.1"


def test_secrets_are_hidden_when_they_are_set() -> None:
    client = LocalClient()
    assert client.call("CONFIG GET requirepass") == {b"requirepass": b""}
    client.call("CONFIG SET requirepass secret")
    assert client.call("CONFIG GET requirepass") == {b"requirepass": b"(hidden)"}
    assert b"secret" not in b" ".join(client.call("CONFIG GET *").values())


@pytest.mark.parametrize(
    "line", ["save ''", "appendonly yes", "appendonly YES", "appendfsync always",
             "maxmemory-policy noeviction", "replica-read-only no", "slave-read-only no", "notify-keyspace-events ''"],
)  # fmt: skip
def test_facts_may_be_set_to_what_they_are(line: str) -> None:
    name, value = line.split()
    argv = [b"CONFIG", b"SET", name.encode(), b"" if value == "''" else value.encode()]
    assert LocalClient().value(argv) == "OK"


@pytest.mark.parametrize("line", ["appendonly no", "appendfsync everysec", "save 900",
                                  "maxmemory-policy allkeys-lru", "slave-read-only yes",
                                  "notify-keyspace-events KEA"])  # fmt: skip
def test_facts_cannot_be_otherwise(line: str) -> None:
    name = line.split(maxsplit=1)[0]
    with pytest.raises(ReplyError) as raised:
        LocalClient().call(f"CONFIG SET {line}")
    assert str(raised.value).startswith(f"ERR CONFIG SET failed (possibly related to argument '{name}') - ")


@pytest.mark.parametrize("name", ["port", "dir", "bind", "cluster-enabled", "tls-port", "replicaof", "databases"])
def test_what_cannot_change_while_running(name: str) -> None:
    with pytest.raises(ReplyError, match="can't set immutable config"):
        LocalClient().call(f"CONFIG SET {name} 1")


@pytest.mark.parametrize(
    "spec", [spec for spec in SETTINGS.values() if spec.hot and spec.config_name], ids=lambda s: s.name
)
def test_every_hot_setting_takes_back_the_value_it_shows(spec: object) -> None:
    client = LocalClient()
    name = spec.config_name  # type: ignore[attr-defined]
    value = client.call(f"CONFIG GET {name}")[name.encode()]
    assert client.value([b"CONFIG", b"SET", name.encode(), value]) == "OK"
    assert client.call(f"CONFIG GET {name}")[name.encode()] == value


def test_a_change_is_a_new_complete_settings_and_listeners_hear_of_it() -> None:
    settings = LocalServer().settings
    before = settings.settings
    heard: list[int] = []
    settings.on_change(lambda now: heard.append(now.settings.maxclients))
    settings.change([(b"maxclients", b"5"), (b"timeout", b"7"), (b"latency-monitor-threshold", b"3")])
    assert heard == [5]
    assert (settings.settings.maxclients, settings.settings.timeout_s) == (5, 7)
    assert settings.runtime.latency_monitor_threshold_ms == 3
    assert settings.settings.source("maxclients") == "CONFIG SET"
    assert before.maxclients == 10_000


def test_a_refused_value_changes_nothing_and_nobody_hears() -> None:
    settings = LocalServer().settings
    settings.on_change(lambda _now: pytest.fail("nothing has changed"))
    before = settings.settings
    for pairs in (
        [(b"maxclients", b"5"), (b"timeout", b"x")],
        [(b"client-query-buffer-limit", b"1mb")],  # below proto-max-bulk-len
        [(b"maxclients", b"5"), (b"port", b"1")],
    ):
        with pytest.raises(DefiniteError):
            settings.change(pairs)
        assert settings.settings is before


def test_a_listener_can_refuse_and_all_are_told_again() -> None:
    settings = LocalServer().settings
    heard: list[int] = []

    def refuse(now: RuntimeSettings) -> None:
        if now.settings.maxclients < 10:
            raise DefiniteError("too few file descriptors")

    settings.on_change(lambda now: heard.append(now.settings.maxclients))
    settings.on_change(refuse)
    with pytest.raises(DefiniteError, match=r"related to argument 'maxclients'\) - too few file descriptors"):
        settings.change([(b"maxclients", b"5")])
    assert heard == [5, 10_000]
    assert settings.settings.maxclients == 10_000
    settings.change([(b"maxclients", b"50")])
    assert settings.settings.maxclients == 50


def test_output_buffer_limit() -> None:
    client = LocalClient()
    words = [b"CONFIG", b"SET", b"client-output-buffer-limit"]
    assert client.value([*words, b"normal 10mb 0 0"]) == "OK"
    assert client.server.settings.settings.output_buffer_bytes_max == 10 << 20
    shown = client.call("CONFIG GET client-output-buffer-limit")[b"client-output-buffer-limit"]
    assert shown.startswith(b"normal 10485760 0 0 ")
    assert client.value([*words, b"normal 10mb 5mb 60"]) == "OK"
    now = client.server.settings.settings
    assert (now.output_buffer_soft_bytes, now.output_buffer_soft_s) == (5 << 20, 60)
    shown = client.call("CONFIG GET client-output-buffer-limit")[b"client-output-buffer-limit"]
    assert shown.startswith(b"normal 10485760 5242880 60 ")
    for value, reason in (
        (b"normal 1 0 0", "argument must be between"),
        (b"pubsub 10mb 0 0", "only the class normal can be set"),
    ):
        error = client.value([*words, value])
        assert isinstance(error, ReplyError)
        assert reason in str(error)
    assert client.server.settings.settings.output_buffer_bytes_max == 10 << 20


def test_rewrite_puts_what_was_set_into_the_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "zattredis.toml"
    file.write_text('# ours\nport = 7001\nmaxclients = 50  # few\n')
    settings = RuntimeSettings(LocalServer().settings.settings, str(file))
    settings.rewrite()
    assert file.read_text() == '# ours\nport = 7001\nmaxclients = 50  # few\n', "nothing was set"
    settings.change([(b"maxclients", b"77"), (b"requirepass", b'a "quoted" one'), (b"latency-tracking", b"no")])
    settings.rewrite()
    assert file.read_text() == (
        "# ours\nport = 7001\nmaxclients = 77  # few\n"
        '\n# Generated by CONFIG REWRITE\nrequirepass = "a \\"quoted\\" one"\n'
    )
    settings.rewrite()
    assert file.read_text().count("requirepass") == 1


def test_rewrite_without_a_file_and_with_one_that_is_gone(tmp_path: Path) -> None:
    settings = LocalServer().settings
    with pytest.raises(DefiniteError, match="ERR The server is running without a config file"):
        settings.rewrite()
    gone = RuntimeSettings(settings.settings, str(tmp_path / "gone.toml"))
    with pytest.raises(DefiniteError, match="ERR Rewriting config file: No such file or directory"):
        gone.rewrite()


def test_resetstat() -> None:
    client = LocalClient()
    client.server.statistics.connections_received = 3
    client.call("CONFIG RESETSTAT")
    assert client.server.statistics.connections_received == 0
