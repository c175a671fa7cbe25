"""The notation of a cluster, and the Zatt form of the settings file."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zattredis.config import Member, is_loopback, load_settings, parse_address, parse_cluster, parse_member
from zattredis.errors import ConfigError

ZATT = (
    '{"address": ["127.0.0.1", 5254], "storage": "zatt.1.persist",\n'
    + ' "cluster": [["127.0.0.1", 5254], ["127.0.0.1", 5255]]}'
)


def test_members() -> None:
    assert parse_cluster("n1=127.0.0.1:7001, n2=host:7002@17002,n3=[::1]:7003@9") == (
        Member("n1", "127.0.0.1", 7001, 17001),
        Member("n2", "host", 7002, 17002),
        Member("n3", "::1", 7003, 9),
    )
    assert str(parse_member("n3=[::1]:7003")) == "n3=[::1]:7003@17003"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:7001", "is not of the form id=host:port"),
        ("n1=127.0.0.1", "names no port"),
        ("n1=", "names no port"),
        ("n1=:7001", "the host is missing"),
        ("=h:7001", "a node id must not be empty"),
        ("n1=h:0", "port 0 is not between"),
        ("n1=h:65536", "port 65536 is not between"),
        ("n1=h:99999999999999999999", "is not between"),
        ("n1=h:７", "is not a number"),
        ("n1=h:-1", "is not a number"),
        ("n1=h:7001@", "peer port '' is not a number"),
        ("n1=h:7001@70000", "peer port 70000 is not between"),
        (
            "n1=h:60000",
            "peer port 70000 (port 60000 + 10000) is above 65535; choose a lower port or name the peer port",
        ),
        ("n1=::1:7001", "more than one colon; write an IPv6 address in brackets"),
        ("n1=[::1:7001", "is not of the form [IPv6 address]:port"),
        ("n1=[h]:7001", "is not of the form [IPv6 address]:port"),
        ("n1=256.0.0.1:7001", "is not an IP address"),
        ("n1=ho st:7001", "neither an IP address nor a host name"),
        ("n1=0.0.0.0:7001", "no address that others could connect to"),
        ("n1=h:1,n1=h:2", "cluster names node 'n1' twice"),
        ("n1=h:7001,n2=H:7001", "both use H:7001"),
        ("n1=h:7001,n2=h:17001", "both use h:17001"),
        ("n1=h:7001@7001", "for clients and for peers"),
        ("n1" * 40 + "=h:1", "at most 64"),
    ],
)
def test_wrong_members(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_cluster(text)
    assert expected in str(caught.value)


@given(
    st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True),
    st.ip_addresses().map(str) | st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z][a-z0-9]{0,10})?", fullmatch=True),
    st.integers(1, 65535),
    st.integers(1, 65535),
)  # fmt: skip
def test_an_address_reads_back(node_id: str, host: str, port: int, peer_port: int) -> None:
    if host in ("0.0.0.0", "::", "::ffff:0.0.0.0"):
        return
    member = Member(node_id, host, port, peer_port)
    assert parse_address(node_id, member.address) == member
    assert parse_member(str(member)) == member


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::ffff:0.0.0.0", "::ffff:0:0"])
def test_everywhere_is_no_address_to_connect_to(host: str) -> None:
    with pytest.raises(ConfigError, match="is no address that others could connect to"):
        parse_address("n1", f"[{host}]:7001" if ":" in host else f"{host}:7001")


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("localhost", True),
        ("10.0.0.1", False), ("::ffff:10.0.0.1", False), ("::", False), ("fe80::1%eth0", False), ("elsewhere", False),
    ],
)  # fmt: skip
def test_what_is_loopback(host: str, here: bool) -> None:
    assert is_loopback(host) is here


@given(st.text(max_size=40))
def test_any_text_is_members_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert all(isinstance(member, Member) for member in parse_cluster(text))


def test_the_zatt_form(tmp_path: Path) -> None:
    settings = load_settings({}, {}, write(tmp_path, ZATT))
    assert settings.node_id == "127.0.0.1:5254"
    assert settings.dir == "zatt.1.persist"
    assert settings.cluster == (
        Member("127.0.0.1:5254", "127.0.0.1", 5254, 15254),
        Member("127.0.0.1:5255", "127.0.0.1", 5255, 15255),
    )
    assert settings.port == 5254
    assert settings.source("dir").endswith("zatt.conf, line 1")
    assert settings.source("cluster").endswith("zatt.conf, line 2")


def test_flags_win_over_the_zatt_form(tmp_path: Path) -> None:
    settings = load_settings({"node_id": "127.0.0.1:5255", "dir": "elsewhere"}, {}, write(tmp_path, ZATT))
    assert (settings.port, settings.dir) == (5255, "elsewhere")


def test_the_older_zatt_form_names_the_nodes(tmp_path: Path) -> None:
    text = '{"cluster": {"0": ["127.0.0.1", 5254], "1": ["127.0.0.1", 5255]}, "debug": true}'
    settings = load_settings({"node_id": "1"}, {}, write(tmp_path, text))
    assert (settings.node_id, settings.port, settings.log_level) == ("1", 5255, "debug")
    settings = load_settings({}, {}, write(tmp_path, text[:-1] + ', "address": ["127.0.0.1", 5254]}'))
    assert settings.node_id == "0"
    settings = load_settings({}, {}, write(tmp_path, text[:-1] + ', "id": 1}'))
    assert settings.node_id == "1"


def test_a_zatt_address_alone_is_a_cluster_of_one(tmp_path: Path) -> None:
    settings = load_settings({}, {}, write(tmp_path, '{"address": ["::1", 5254]}'))
    assert (settings.node_id, settings.host, settings.port) == ("[::1]:5254", "::1", 5254)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"address": ["127.0.0.1", 5254}', "line 1: not valid JSON"),
        (
            '{\n"adress": ["127.0.0.1", 5254]}',
            "line 2: unknown key 'adress'; a file in Zatt's JSON form may hold address, ",
        ),
        ('{\n\n"remote_port": 1}', "line 3: 'remote_port' is not supported; list every node under \"cluster\""),
        ('{"address": "127.0.0.1:5254"}', 'address must hold [host, port], like ["127.0.0.1", 5254]'),
        ('{"address": ["127.0.0.1", "5254"]}', "address must hold [host, port]"),
        ('{"address": ["127.0.0.1", true]}', "address must hold [host, port]"),
        ('{"address": ["127.0.0.1", 0]}', "port 0 is not between"),
        ('{"address": ["", 5254]}', "the host is missing"),
        ('{"address": ["h", 60000]}', "peer port 70000"),
        ('{"address": ["h", 1],\n "address": ["h", 2]}', "line 1: 'address' is given twice"),
        ('{"address": ["h", 1],\n "cluster": [["h", 2]]}', "line 1: address h:1 is not in cluster"),
        ('{"cluster": {"0": ["h", 1], "0": ["h", 2]}}', "cluster names node '0' twice"),
        ('{"cluster": [["h", 1], ["h", 1]]}', "cluster names node 'h:1' twice"),
        ('{"cluster": 5}', "cluster must be a list"),
        ('{"cluster": []}', "cluster names no node"),
        ('{"cluster": [["h", 1], ["h", 2]]}', "which node is this? say --node ID, one of h:1, h:2"),
        ('{"storage": 5}', "dir: must be text in quotes"),
        ('{"debug": "yes"}', "debug must be true or false"),
        ('{"id": [1]}', "id must be text or a number"),
        ('{"address": ["h", 1], "id": "h"}', "keep one of them"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "zatt.conf"),
    ],
)
def test_a_wrong_zatt_form_is_one_line_that_names_the_place(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings({}, {}, write(tmp_path, text))
    assert expected in str(caught.value)
    assert "zatt.conf" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_node_that_joins_names_itself_and_whom_it_asks() -> None:
    settings = load_settings({"join": "db1:7001, [::1]:7002@9000", "node_id": "n4", "host": "db4", "port": "7004"}, {})
    assert [*map(str, settings.join)] == ["db1:7001@17001", "[::1]:7002@9000"]
    assert [*map(str, settings.cluster)] == ["n4=db4:7004@17004"]
    assert load_settings({"join": ""}, {}) == load_settings({}, {}), "nothing, as an empty variable would say"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"join": "db1:7001"}, "flag --join: a node that joins needs an id of its own; say --node ID"),
        ({"join": "db1:7001", "node_id": "n1", "cluster": "n1=a:1"}, "a node either joins a cluster or begins one"),
        ({"join": "db1", "node_id": "n1"}, "--join: 'db1' names no port"),
    ],
)
def test_a_wrong_join_is_one_line(flags: dict[str, str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(flags, {})
    assert expected in str(caught.value)


def write(tmp_path: Path, text: str) -> str:
    """Write zatt.conf and return its path."""
    path = tmp_path / "zatt.conf"
    path.write_text(text)
    return str(path)
