"""Certificates made as README says are good for clients of every Python, whichever runs the tests.

Since Python 3.13 clients verify strictly unless they are told otherwise; before that they do when they are told to.
"""

from __future__ import annotations

import contextlib
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.docs.test_readme import SECTIONS
from tests.support.certificates import Authority, Pair

if shutil.which("openssl") is None:
    pytest.skip("openssl is not installed", allow_module_level=True)


def strictly_verified(authority: str, shown: Pair, wanted: str) -> str:
    """Connect in memory to who shows this certificate; return whose it is by its first URI."""
    client = ssl.create_default_context(cafile=authority)
    client.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(shown.cert, shown.key)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=wanted),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for end in ends * 2:
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    names = (ends[0].getpeercert() or {})["subjectAltName"]
    return next(str(name) for kind, name in names if kind == "URI")  # type: ignore[misc, has-type]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_those_of_readme(tmp_path: Path, host: str) -> None:
    security = next(section for section in SECTIONS if section.title == "Security")
    block = next(block for block in security.blocks if "openssl req -x509" in block.text)
    subprocess.run(["bash", "-euo", "pipefail", "-c", block.text], cwd=tmp_path, capture_output=True, check=True)
    for node in ("n1", "n2", "n3"):
        pair = Pair(f"{tmp_path}/tls/{node}.crt", f"{tmp_path}/tls/{node}.key")
        assert strictly_verified(f"{tmp_path}/tls/ca.crt", pair, host) == f"zattredis://{node}"


def test_those_of_the_tests(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    assert strictly_verified(authority.ca, authority.node("n1"), "localhost") == "zattredis://n1"
