"""HTTP for tests: whole answers, also to what is no proper request; a strict reader of Prometheus's format."""

from __future__ import annotations

import base64
import http.client
import json
import math
import re
import socket
from dataclasses import dataclass, field
from typing import Any

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)')
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


def basic(password: str, user: str = "") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def request(
    port: int, path: str, method: str = "GET", *, body: bytes | None = None, timeout_s: float = 30, **headers: str
) -> Answer:
    """Headers are given with _ for -."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def post(port: int, path: str, fields: dict[str, Any], token: str, **headers: str) -> Answer:
    all_headers = {"Content_Type": "application/json", "X_Zattredis_Token": token} | headers
    return request(port, path, "POST", body=json.dumps(fields).encode(), **all_headers)


def raw(port: int, data: bytes, *, end: bool = False) -> bytes:
    """Send bytes and return everything that comes until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(data)
        if end:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while True:
            try:
                part = connection.recv(65536)
            except ConnectionResetError:
                return received
            if not part:
                return received
            received += part


@dataclass
class Family:
    kind: str
    samples: dict[tuple[tuple[str, str], ...], float] = field(default_factory=dict)


def parse_metrics(text: str) -> dict[str, Family]:
    """Return the families of a text in Prometheus's format 0.0.4. Raises AssertionError for what breaks its rules."""
    families: dict[str, Family] = {}
    current = ""
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split(" ", 3)[2]
            assert _NAME.fullmatch(name), line
            assert name not in families, f"{name} is there twice"
            assert len(line.split(" ", 3)) == 4, line
            current = name
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == current, line
            assert kind in ("counter", "gauge", "histogram"), line
            families[name] = Family(kind)
        else:
            match = _SAMPLE.fullmatch(line)
            assert match, line
            name, labels, value = match[1], match[2] or "", float(match[3])
            pairs = _LABEL.findall(labels)
            assert ",".join(f'{k}="{v}"' for k, v in pairs) == labels, line
            family = families[current]
            if family.kind == "histogram":
                suffix = name.removeprefix(current)
                assert suffix in ("_bucket", "_sum", "_count"), line
                pairs = [("", suffix), *pairs]
            else:
                assert name == current, line
                assert family.kind == "gauge" or value >= 0, line
            assert not math.isnan(value), line
            assert tuple(pairs) not in family.samples, line
            family.samples[tuple(pairs)] = value
    for name, family in families.items():
        if family.kind == "histogram":
            _check_histogram(name, family)
        if family.kind == "counter":
            assert name.endswith("_total"), name
    return families


def _check_histogram(name: str, family: Family) -> None:
    series: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    for labels, value in family.samples.items():
        if labels[0] == ("", "_bucket"):
            rest = tuple(pair for pair in labels[1:] if pair[0] != "le")
            series.setdefault(rest, []).append((float(dict(labels)["le"]), value))
    for rest, buckets in series.items():
        assert [bound for bound, _ in buckets] == sorted(bound for bound, _ in buckets), name
        assert buckets[-1][0] == math.inf, name
        assert [count for _, count in buckets] == sorted(count for _, count in buckets), name
        assert family.samples[(("", "_count"), *rest)] == buckets[-1][1], name
        assert (("", "_sum"), *rest) in family.samples, name
