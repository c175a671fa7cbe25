"""Settings of TLS that contradict each other, what an operator is warned of, and what cannot be loaded."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.certificates import Authority, openssl
from zattredis.config import make_settings
from zattredis.errors import ConfigError, DefiniteError, FatalError
from zattredis.server.runtime_settings import RuntimeSettings
from zattredis.server.security import Security, client_context, peer_tls, tell_who_comes_in

CLUSTER = "n1=10.0.0.1:7001,n2=10.0.0.2:7001,n3=10.0.0.3:7001"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("own"), "own")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"tls_port": 7001}, "argument: tls_port needs a certificate; set tls_cert_file and tls_key_file"),
        ({"tls_port": 7001, "tls_cert_file": "c"}, "clients need a certificate .* nothing says whose"),
        ({"tls_cluster": "yes", "tls_cert_file": "c"}, "tls_cluster needs the authority of the nodes' certificates"),
        (
            {"tls_port": 17001, "port": 7001, "tls_cert_file": "c", "tls_auth_clients": "no"},
            "tls_port 17001 is taken by the other nodes or by bind",
        ),
        ({"tls_port": 70000}, "not between 1 and 65535"),
        ({"tls_protocols": "TLSv1.1"}, "must be TLSv1.2, TLSv1.3 or both"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        make_settings(**values)


def test_ports() -> None:
    more: dict[str, Any] = {"tls_cert_file": "c", "tls_auth_clients": "no"}
    assert make_settings(tls_port=0).tls_listen == ()
    both = make_settings(port=7001, tls_port=7002, bind="127.0.0.1,::1", **more)
    assert both.tls_listen == (("127.0.0.1", 7002), ("::1", 7002)) and not both.tls_only
    alone = make_settings(port=7001, tls_port=7001, bind="0.0.0.0:8001", **more)
    assert alone.tls_only and alone.tls_listen == alone.client_listen == (("0.0.0.0", 8001),)


@pytest.mark.parametrize(
    ("values", "events"),
    [
        ({}, []),
        ({"cluster": CLUSTER, "node_id": "n1"}, ["peers_unprotected"]),
        ({"cluster": CLUSTER, "node_id": "n1", "peer_bind": "127.0.0.1"}, []),
        ({"cluster": CLUSTER, "node_id": "n1", "cluster_secret": "short"}, ["cluster_secret_short"]),
        ({"cluster": CLUSTER, "node_id": "n1", "cluster_secret": "a secret that is long enough"}, []),
    ],
)
def test_what_an_operator_is_warned_of(values: dict[str, Any], events: list[str]) -> None:
    settings = make_settings(**values)
    with capture_logs() as told:
        Security(settings, peer_tls(settings))
    assert [event["event"] for event in told] == events
    assert "short" not in str([{k: v for k, v in event.items() if k != "event"} for event in told])


OPEN = {"bind": "0.0.0.0", "protected_mode": "no"}


@pytest.mark.parametrize(
    ("values", "nopass", "events"),
    [
        ({}, True, []),
        ({"bind": "0.0.0.0"}, True, []),  # protected mode
        (OPEN, True, ["clients_unprotected"]),
        (OPEN, False, []),
        ({"bind": "127.0.0.1,localhost,::1", "protected_mode": "no"}, True, []),
        (OPEN | {"port": 7001, "tls_port": 7001, "tls_cert_file": "c", "tls_ca_cert_file": "a"}, True, []),
        (
            OPEN | {"port": 7001, "tls_port": 7001, "tls_cert_file": "c", "tls_auth_clients": "no"},
            True, ["clients_unprotected"],
        ),
        ({"admin_port": 9379}, True, []),
        ({"admin_bind": "0.0.0.0"}, True, []),  # and no port
        ({"admin_port": 9379, "admin_bind": "::"}, False, ["admin_port_reachable"]),
        (OPEN | {"admin_port": 9379, "admin_bind": "10.0.0.1"}, True, ["clients_unprotected", "admin_port_reachable"]),
    ],
)  # fmt: skip
def test_doors_that_stand_open_are_told_at_the_start(values: dict[str, Any], nopass: bool, events: list[str]) -> None:
    with capture_logs() as told:
        tell_who_comes_in(make_settings(**values), nopass)
    assert [event["event"] for event in told] == events
    if events[1:]:
        assert "the console and its actions" in told[1]["hint"]


def test_what_cannot_be_loaded_ends_a_start_and_leaves_a_running_node_as_it_was(own: Authority, tmp_path: Path) -> None:
    pair = own.node("n1")
    values: dict[str, Any] = {"tls_port": 7001, "tls_cert_file": pair.cert, "tls_ca_cert_file": own.ca}
    with pytest.raises(FatalError, match="cannot read /nowhere: No such file"):
        Security(make_settings(**values, tls_key_file="/nowhere"), None)
    good = make_settings(**values, tls_key_file=pair.key)
    security = Security(good, None)
    before = security.client_context()
    assert before.verify_mode is ssl.CERT_REQUIRED
    for change in ({"tls_key_file": own.node("n2").key}, {"tls_ciphers": "NO-SUCH"}, {"tls_ca_cert_file": pair.key}):
        with pytest.raises(DefiniteError, match="Unable to update TLS configuration: "):
            security.follow(make_settings(**{**values, "tls_key_file": pair.key, **change}))
        assert security.client_context() is before
    security.follow(make_settings(**values, tls_key_file=pair.key, tls_auth_clients="optional"))
    assert security.client_context().verify_mode is ssl.CERT_OPTIONAL
    assert not security.reload(), "the files are the same"


def test_config_set_of_the_same_file_reads_it_again(own: Authority, tmp_path: Path) -> None:
    pair, cert = own.node("n1"), tmp_path / "n1.crt"
    cert.write_bytes(Path(pair.cert).read_bytes())
    values: dict[str, Any] = {"tls_cert_file": str(cert), "tls_key_file": pair.key, "tls_auth_clients": "no"}
    runtime = RuntimeSettings(make_settings(tls_port=7001, **values))
    security = Security(runtime.settings, None)
    runtime.on_change(lambda changed: security.follow(changed.settings, changed.named))
    before = security.client_context()
    runtime.change([(b"maxclients", b"99")])
    assert security.client_context() is before
    runtime.change([(b"tls-cert-file", str(cert).encode())])
    assert security.client_context() is not before, "as in Redis"
    now = security.client_context()
    cert.write_text("garbage")
    with pytest.raises(DefiniteError, match="Unable to update TLS configuration: "):
        runtime.change([(b"tls-cert-file", str(cert).encode())])
    runtime.change([(b"maxclients", b"98")])
    assert security.client_context() is now


def test_an_encrypted_key_needs_its_password_and_never_asks_the_terminal(own: Authority, tmp_path: Path) -> None:
    pair = own.node("n1")
    key = str(tmp_path / "encrypted.key")
    openssl("ec", "-in", pair.key, "-aes256", "-passout", "pass:opensesame", "-out", key)
    values: dict[str, Any] = {
        "tls_port": 7001, "tls_cert_file": pair.cert, "tls_key_file": key, "tls_auth_clients": "no",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="the key is encrypted; give tls_key_file_pass"):
        client_context(make_settings(**values))
    with pytest.raises(ConfigError, match=r"the key's password is wrong|encrypted"):
        client_context(make_settings(**values, tls_key_file_pass="wrong"))
    settings = make_settings(**values, tls_key_file_pass="opensesame")
    client_context(settings)
    assert "opensesame" not in repr(settings)


def test_a_certificate_that_clients_will_refuse_is_told(own: Authority) -> None:
    good, old = own.node("n1"), own.node("n1", expired=True)
    values: dict[str, Any] = {"tls_port": 7001, "tls_ca_cert_file": own.ca, "tls_auth_clients": "no"}
    settings = {
        pair: make_settings(**values, tls_cert_file=pair.cert, tls_key_file=pair.key) for pair in (good, old)
    }  # fmt: skip
    with capture_logs() as told:
        Security(settings[good], None)
        assert told == []
        security = Security(settings[old], None)
        security.follow(settings[good])
    assert [event["event"] for event in told] == ["certificate_not_valid", "certificates_loaded"]
    assert (told[0]["file"], told[0]["reason"]) == (old.cert, "certificate has expired")
    assert told[1]["clients_until"].endswith("GMT")
