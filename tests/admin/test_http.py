"""The HTTP server of the admin port: what it refuses, what it bounds, who may do what."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.admin.conftest import Watched
from tests.support.cluster import wait_until
from tests.support.http_client import basic, post, raw, request
from zattredis.server.admin.http import BadRequest, parse_head

HEAD = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /livez HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET  /livez HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /livez\r\n\r\n", 400),
        (b"GET http://elsewhere/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (HEAD + b"no colon\r\n\r\n", 400),
        (HEAD + b" folded: x\r\n\r\n", 400),
        (HEAD + b"Name : x\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400),
        (HEAD + b"Content-Length: 5000\r\n\r\n", 413),
        (HEAD + b"Content-Length: 99999999999999999999\r\n\r\n", 413),
        (HEAD + b"X: " + b"x" * 9000, 431),
        (b"*1\r\n$4\r\nPING\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_refused_and_closed(single: Watched, data: bytes, status: int) -> None:
    answer = raw(single.admin[0], data)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"\r\nConnection: close\r\n" in answer


def test_a_head_in_single_bytes_and_several_requests_in_one_piece(single: Watched) -> None:
    with socket.create_connection(("127.0.0.1", single.admin[0]), timeout=30) as connection:
        for byte in HEAD + b"\r\n":
            connection.sendall(bytes([byte]))
        assert connection.recv(65536).endswith(b"\r\n\r\nok\n")
    answer = raw(single.admin[0], (HEAD + b"\r\n") * 3 + HEAD + b"Connection: close\r\n\r\n" + HEAD)
    assert answer.count(b"HTTP/1.1 200 OK") == 4
    assert answer.count(b"\r\n\r\nok\n") == 4
    assert raw(single.admin[0], b"GET /livez HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\nok\n")


def test_head_has_the_headers_of_get_and_no_body(single: Watched) -> None:
    got, head = (request(single.admin[0], "/livez", method) for method in ("GET", "HEAD"))
    assert (head.status, head.body) == (200, b"")
    assert head.headers == got.headers
    assert head.headers["content-length"] == "3"


@pytest.mark.parametrize(
    ("path", "method", "status", "allow"),
    [
        ("/nothing", "GET", 404, None), ("/../../etc/passwd", "GET", 404, None), ("/console.js/", "GET", 404, None),
        ("/", "POST", 405, "GET, HEAD"), ("/metrics", "DELETE", 405, "GET, HEAD"),
        ("/api/transfer", "GET", 405, "POST"),
        ("/livez?verbose=1", "GET", 200, None),
    ],
)  # fmt: skip
def test_paths_and_methods(single: Watched, path: str, method: str, status: int, allow: str | None) -> None:
    answer = request(single.admin[0], path, method)
    assert answer.status == status
    assert answer.headers.get("allow") == allow


def test_every_answer_says_what_a_browser_may_do_with_it(single: Watched) -> None:
    for path in ("/", "/console.js", "/metrics", "/nothing", "/api/state"):
        headers = request(single.admin[0], path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers


def test_the_pages_name_no_other_place(single: Watched) -> None:
    for path in ("/", "/console.js", "/console.css"):
        text = request(single.admin[0], path).text
        assert "://" not in text, path
        assert "innerHTML" not in text


def test_nobody_else_can_act(single: Watched) -> None:
    port = single.admin[0]
    token = request(port, "/api/state").json()["token"]
    own = f"http://127.0.0.1:{port}"
    refused = [
        (403, post(port, "/api/snapshot", {}, "")),
        (403, post(port, "/api/snapshot", {}, token[:-1])),
        (403, post(port, "/api/snapshot", {}, token, Origin="http://evil.example")),
        (403, post(port, "/api/snapshot", {}, token, Origin="null")),
        (403, post(port, "/api/snapshot", {}, token, Origin=own, Sec_Fetch_Site="cross-site")),
        (415, post(port, "/api/snapshot", {}, token, Content_Type="text/plain")),
        (421, post(port, "/api/snapshot", {}, token, Host=f"rebound.example:{port}")),
        (400, request(port, "/api/snapshot", "POST", body=b"{", Content_Type="application/json",
                      X_Zattredis_Token=token)),
        (400, request(port, "/api/transfer", "POST", body=b"[]", Content_Type="application/json",
                      X_Zattredis_Token=token)),
        (400, post(port, "/api/transfer", {"target": 1}, token)),
    ]  # fmt: skip
    assert [answer.status for _, answer in refused] == [status for status, _ in refused]
    assert request(port, "/api/state", Host="rebound.example").status == 421
    assert request(port, "/metrics", Host="prometheus.example").status == 200
    done = post(port, "/api/snapshot", {}, token, Origin=own, Sec_Fetch_Site="same-origin")
    assert (done.status, done.json()) == (200, {"snapshot": "done"})


def test_a_transfer_that_cannot_be_is_refused_with_the_reason(single: Watched) -> None:
    token = request(single.admin[0], "/api/state").json()["token"]
    for target in ("n9", ""):
        answer = post(single.admin[0], "/api/transfer", {"target": target}, token)
        assert answer.status == 409
        assert answer.json()["error"]


def test_with_a_password_only_health_and_metrics_are_open() -> None:
    secret = "s3cret-ä"
    with Watched(1, in_memory=True, environment={"ZATTREDIS_REQUIREPASS": secret}, start=False) as cluster:
        cluster.spawn(cluster.nodes[0])
        port = cluster.admin[0]

        def answers() -> bool:
            try:
                return request(port, "/readyz").status == 200
            except OSError:
                return False

        wait_until(answers, "ready")
        for path in ("/", "/console.js", "/api/state"):
            for headers in ({}, basic("wrong"), basic(secret, "somebody"), {"Authorization": "Bearer x"},
                            {"Authorization": "Basic !"}):  # fmt: skip
                answer = request(port, path, **headers)
                assert answer.status == 401, (path, headers)
                assert answer.headers["www-authenticate"].startswith("Basic ")
        assert request(port, "/livez").status == 200
        with cluster.client() as client:
            client.call("AUTH", secret)
            client.call("CONFIG", "SET", "slowlog-log-slower-than", 0)
            client.call("SET", "key", "value")
            client.call("CONFIG", "SET", "slowlog-log-slower-than", 1_000_000)
        answer = request(port, "/api/state", **basic(secret))
        assert answer.status == 200
        assert "SET key value" in [slow["command"] for slow in answer.json()["slow"]]
        token = answer.json()["token"]
        assert post(port, "/api/snapshot", {}, token).status == 401
        assert post(port, "/api/snapshot", {}, token, **basic(secret, "default")).status == 200
        everything = [request(port, path, **basic(secret)).text for path in ("/", "/metrics", "/api/state", "/readyz")]
        assert not any(secret in text or json.dumps(secret)[1:-1] in text for text in everything)
        assert secret not in cluster.nodes[0].log()


def test_users_may_see_and_do_what_their_permissions_allow(single: Watched) -> None:
    port = single.admin[0]
    users = {
        "all": "on >pw ~* +@all", "looks": "on >pw +info +raft|status +slowlog|get", "acts": "on >pw +raft|snapshot",
        "none": "on >pw +get", "off": "off >pw ~* +@all",
    }  # fmt: skip
    token = request(port, "/api/state").json()["token"]
    with single.client() as client:
        for name, rules in users.items():
            client.call("ACL", "SETUSER", name, "resetchannels", *rules.split())
        try:
            got = {
                name: (
                    request(port, "/api/state", **basic("pw", name)).status,
                    post(port, "/api/snapshot", {}, token, **basic("pw", name)).status,
                )
                for name in users
            }
            assert got == {"all": (200, 200), "looks": (200, 403), "acts": (403, 200), "none": (403, 403),
                           "off": (401, 401)}  # fmt: skip
            assert request(port, "/", **basic("wrong", "all")).status == 401
            assert request(port, "/", **basic("pw", "nobody")).status == 401
            refused = request(port, "/api/state", **basic("pw", "none"))
            assert refused.text == "user none has no permission to run INFO\n"
        finally:
            client.call("ACL", "DELUSER", *users)


def test_asking_for_everything_at_once_disturbs_no_client(single: Watched) -> None:
    def ask(path: str) -> int:
        return request(single.admin[0], path).status

    with ThreadPoolExecutor(16) as pool, single.client() as client:
        asked = [pool.submit(ask, path) for path in ["/metrics", "/api/state", "/readyz"] * 16]
        for number in range(200):
            assert client.call("SET", f"busy{number}", number) == b"OK"
        assert {future.result() for future in asked} == {200}


def test_heads_in_detail() -> None:
    method, path, version, headers = parse_head(b"GET /a?b HTTP/1.1\r\nHOST:x\r\nA: \t b c \t")
    assert (method, path, version, headers) == ("GET", "/a", "HTTP/1.1", {"host": "x", "a": "b c"})
    with pytest.raises(BadRequest):
        parse_head(b"G\xe4T / HTTP/1.1\r\nHost: x")
