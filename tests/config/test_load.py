"""Loading: what wins, where a value came from, and one clear line for everything that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from zattredis.config import SETTINGS, Settings, load_settings, make_settings
from zattredis.errors import ConfigError

THREE = "n1=127.0.0.1:7001,n2=127.0.0.1:7002,n3=127.0.0.1:7003"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a settings file and return its (relative, hence predictable) name."""
    monkeypatch.chdir(tmp_path)

    def write_file(text: str) -> str:
        Path("z.conf").write_text(text, encoding="utf-8")
        return "z.conf"

    return write_file


def test_without_anything_a_node_is_its_own_cluster() -> None:
    settings = load_settings()
    assert (settings.node_id, settings.host, settings.port, settings.peer_port) == ("n1", "127.0.0.1", 6379, 16379)
    assert settings.client_listen == (("127.0.0.1", 6379),)
    assert settings.peer_listen == ("127.0.0.1", 16379)
    assert settings.peers == ()
    assert settings.dir == "zattredis-data"
    assert settings.read_mode == "linearizable"


def test_later_sources_win_and_every_value_says_where_it_came_from(write: Callable[[str], str]) -> None:
    name = write('# first\nport = 7000\nread_mode = "stale"\ntimeout_s = 9\n')
    settings = load_settings(
        {"port": "7002"}, {"ZATTREDIS_PORT": "7001", "ZATTREDIS_TIMEOUT_S": "8", "HOME": "/"}, name
    )
    assert (settings.port, settings.timeout_s, settings.read_mode) == (7002, 8, "stale")
    assert settings.source("port") == "flag --port"
    assert settings.source("timeout_s") == "environment ZATTREDIS_TIMEOUT_S"
    assert settings.source("read_mode") == "z.conf, line 3"
    assert settings.source("maxclients") == "default"


def test_the_file_may_be_named_by_the_environment_and_the_flag_wins(
    write: Callable[[str], str], tmp_path: Path
) -> None:
    name = write("port = 7000")
    (tmp_path / "other.toml").write_text("port = 7009")
    assert load_settings({}, {"ZATTREDIS_CONFIG": name}).port == 7000
    assert load_settings({}, {"ZATTREDIS_CONFIG": name}, "other.toml").port == 7009


def test_a_cluster_gives_the_node_its_own_addresses() -> None:
    settings = load_settings({"cluster": "n1=a.example:7001,n2=b.example:7002@9000", "node_id": "n2"})
    assert (settings.host, settings.port, settings.peer_port) == ("b.example", 7002, 9000)
    assert settings.member.node_id == "n2"
    assert [member.node_id for member in settings.peers] == ["n1"]
    assert settings.source("port") == "cluster (flag --cluster)"


def test_listening_is_apart_from_what_others_are_told() -> None:
    settings = load_settings(
        {"cluster": "n1=h:7001", "bind": "0.0.0.0:6379,[::1]:6380,::1", "peer_bind": "0.0.0.0:16379"}
    )
    assert settings.client_listen == (("0.0.0.0", 6379), ("::1", 6380), ("::1", 7001))
    assert settings.peer_listen == ("0.0.0.0", 16379)
    assert settings.member.address == "h:7001@17001"
    assert load_settings({"bind": "0.0.0.0"}).peer_listen == ("0.0.0.0", 16379)


def test_sizes_may_carry_a_unit(write: Callable[[str], str]) -> None:
    assert load_settings({"state_cache_bytes": "64MiB"}).state_cache_bytes == 64 << 20
    assert load_settings({"state_cache_bytes": "2gb"}).state_cache_bytes == 2 << 30
    name = write('state_cache_bytes = "1 GiB"\nlog_compaction_bytes = 1_048_576')
    settings = load_settings(config_file=name)
    assert (settings.state_cache_bytes, settings.log_compaction_bytes) == (1 << 30, 1 << 20)


def test_a_cluster_in_toml_may_be_text_or_a_list(write: Callable[[str], str]) -> None:
    as_text = load_settings({"node_id": "n1"}, config_file=write(f'cluster = "{THREE}"'))
    parts = ", ".join(f'"{part}"' for part in THREE.split(","))
    as_list = load_settings({"node_id": "n1"}, config_file=write(f"cluster = [{parts}]"))
    assert as_text == as_list
    assert len(as_text.cluster) == 3


def test_ticks_are_rounded_up() -> None:
    settings = make_settings(tick_ms=30, heartbeat_ms=100, election_timeout_ms=500)
    assert (settings.heartbeat_ticks, settings.election_timeout_ticks) == (4, 17)


def test_settings_made_in_python_are_complete_and_checked() -> None:
    settings = make_settings(cluster=THREE, node_id="n3")
    assert make_settings(cluster=settings.cluster, node_id="n3") == settings
    assert settings.port == 7003
    with pytest.raises(TypeError, match="did you mean port"):
        make_settings(prot=1)
    with pytest.raises(ConfigError, match="port"):
        make_settings(port=0)


def test_secrets_do_not_show() -> None:
    settings = make_settings(requirepass="hunter2", cluster_secret="hunter3")
    assert "hunter" not in repr(settings)
    assert SETTINGS["requirepass"].show(settings.requirepass) == "(hidden)"
    assert SETTINGS["requirepass"].show("") == ""


def test_what_kubernetes_and_the_tests_put_into_the_environment_is_no_setting() -> None:
    environ = {
        "ZATTREDIS_SERVICE_HOST": "10.0.0.1",
        "ZATTREDIS_SERVICE_PORT_CLIENT": "6379",
        "ZATTREDIS_PORT": "tcp://10.0.0.1:6379",
        "ZATTREDIS_PORT_6379_TCP_ADDR": "10.0.0.1",
        "ZATTREDIS_TEST_SOMETHING": "1",
        "ZATTREDIS_DIR": "",
    }
    assert load_settings(environ=environ) == load_settings()


@pytest.mark.parametrize("name", list(SETTINGS))
def test_every_default_reads_back_from_its_own_text(name: str) -> None:
    spec = SETTINGS[name]
    value = getattr(load_settings(), name)
    if spec.secret or value == "":
        return
    assert spec.parse(spec.format(value)) == value
    assert spec.description.endswith(".")
    assert "\n" not in spec.description


WRONG_FILES = [
    ("prot = 1", "z.conf, line 1: unknown setting 'prot'; did you mean port?"),
    ("# a\n\nelection-timeout-ms = 5", "3: unknown setting 'election-timeout-ms'; did you mean election_timeout_ms?"),
    ("qqqq = 1", "z.conf, line 1: unknown setting 'qqqq'; `zattd config show` lists all settings"),
    ("[raft]\ntick_ms = 5", "z.conf, line 1: settings are not grouped in tables; remove the header [raft]"),
    ('port = "seven"', "z.conf, line 1: port: port 'seven' is not a number"),
    ("port = 70000", "z.conf, line 1: port: port 70000 is not between 1 and 65535"),
    ("port = true", "z.conf, line 1: port: must be a port number, not true or false"),
    ("port = 1.5", "z.conf, line 1: port: must be a port number, not a fraction"),
    ("\nmaxclients = 0", "z.conf, line 2: maxclients: must be between 1 and 1000000, not 0"),
    ("maxclients = true", "z.conf, line 1: maxclients: must be a whole number, not true or false"),
    ('maxclients = "1e3"', "z.conf, line 1: maxclients: must be a whole number, not '1e3'"),
    ("databases = 32", "z.conf, line 1: databases: must be 16, not 32"),
    ("dir = 5", "z.conf, line 1: dir: must be text in quotes, not a number"),
    ('dir = " "', "z.conf, line 1: dir: must not be empty"),
    ('read_mode = "stal"', "must be one of linearizable, stale, not 'stal'; did you mean stale?"),
    ('state_cache_bytes = "64 megs"', "must be a number of bytes, like 67108864 or 64MiB, not '64 megs'"),
    ("state_cache_bytes = [1]", "state_cache_bytes: must be a number of bytes, not a list"),
    ('node_id = "a b"', "node id 'a b' may hold only letters, digits and _ - . : [ ]"),
    ('host = "0.0.0.0"', 'to listen everywhere, use bind = "0.0.0.0"'),
    ('bind = ""', "bind: must name at least one address"),
    ('bind = "a,a"', "bind: names an address twice"),
    ("cluster = []", "cluster: names no member; leave it out for a node on its own"),
    ("port = \n", "z.conf, line 1: Invalid value; write one setting a line, like port = 6379"),
    ("port = 1\nport = 2", "z.conf, line 2: Cannot overwrite a value; write one setting a line"),
    ("port", "z.conf, line 1: "),
    ("election_timeout_ms = 200\n", "election_timeout_ms = 200 (z.conf, line 1) must be at least three times heart"),
    ("heartbeat_ms = 10\n", "heartbeat_ms = 10 (z.conf, line 1) must be at least tick_ms = 25 (default)"),
    ('query_buffer_bytes_max = "1MiB"', "proto_max_bulk_bytes = 536870912 (default) must be at most query_buf"),
    ('peer_bind = "127.0.0.1:6379"', "both name 127.0.0.1:6379; clients and nodes need different ports"),
    ("peer_port = 6379", "z.conf, line 1: cluster member 'n1' uses port 6379 for clients and for peers"),
    ("port = 60000", "z.conf, line 1: peer port 70000 (port 60000 + 10000) is above 65535"),
    (f'cluster = "{THREE}"', "z.conf, line 1: which node is this? say --node ID, one of n1, n2, n3"),
    (f'node_id = "n4"\ncluster = "{THREE}"', "1: node 'n4' is not in cluster (z.conf, line 2), which names n1"),
    (f'node_id = "n1"\ncluster = "{THREE}"\nport = 9', "3: port is 9, but cluster (z.conf, line 2) says 7001"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), WRONG_FILES)
def test_a_wrong_file_is_one_line_that_names_the_place(write: Callable[[str], str], text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(config_file=write(text))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "environ", "expected"),
    [
        ({"port": "x"}, {}, "--port: port 'x' is not a number"),
        ({}, {"ZATTREDIS_PORT": "x"}, "environment ZATTREDIS_PORT: port 'x' is not a number"),
        ({}, {"ZATTREDIS_PROT": "1"}, "environment: unknown setting ZATTREDIS_PROT; did you mean ZATTREDIS_PORT?"),
        ({}, {"ZATTREDIS_CONFIG": "/nonexistent"}, "cannot read /nonexistent: No such file or directory"),
        ({"cluster": "n1=h:1,n1=h:2", "node_id": "n1"}, {}, "--cluster: cluster names node 'n1' twice"),
        ({"cluster": "n1=h:7001", "port": "7002"}, {}, "--port: port is 7002, but cluster (flag --cluster) says 7001"),
        ({"cluster": "n1=h:7001", "peer_port": "7002"}, {}, "told: peer_bind = address:port"),
        ({"follower_mode": "redirect"}, {}, "redirect (flag --follower-mode) needs cluster_view = true"),
        ({"cluster_view": "maybe"}, {}, "--cluster-view: must be yes or no, not 'maybe'"),
        ({"port": "7001", "sentinel_port": "7001"}, {}, "sentinel_port = 7001 (flag --sentinel-port) and bind"),
        ({"port": "7001", "sentinel_port": "17001"}, {}, "(host (default))) both name 127.0.0.1:17001"),
        ({"sentinel_tls_port": "26380"}, {}, "flag --sentinel-tls-port: sentinel_tls_port: needs tls_port"),
        ({"tls_announce_port": "26380"}, {}, "flag --tls-announce-port: tls_announce_port: needs tls_port"),
        ({"tls_announce_port": "1", "tls_port": "6379", "tls_cert_file": "c"}, {}, "port is what others are told"),
        ({"sentinel_port": "65536"}, {}, "--sentinel-port: must be between 0 and 65535"),
        ({"sentinel_master_name": "my master"}, {}, "(flag --sentinel-master-name): must be letters"),
    ],
)  # fmt: skip
def test_wrong_flags_and_variables(flags: dict[str, str], environ: dict[str, str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(flags, environ)
    assert expected in str(caught.value)


def test_a_binary_or_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "z"
    path.write_bytes(b"a = 1\n\xff\xfe")
    with pytest.raises(ConfigError, match="line 2: not UTF-8 text"):
        load_settings(config_file=str(path))
    with pytest.raises(ConfigError, match="Is a directory"):
        load_settings(config_file=str(tmp_path))
    path.write_bytes(b"#" * (2 << 20))
    with pytest.raises(ConfigError, match="larger than"):
        load_settings(config_file=str(path))


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        load_settings().port = 1  # type: ignore[misc]
    assert isinstance(load_settings(), Settings)


def test_a_variable_with_an_odd_name_is_one_clear_line_too() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(environ={"ZATTREDIS_A\nB": "1"})
    assert "\n" not in str(caught.value)
