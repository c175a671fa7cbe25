"""Certificates for tests, made by the openssl command as README tells a person to."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """Files of a certificate and its key."""

    cert: str
    key: str


class Authority:
    """A certificate authority in a directory; `ca` is its certificate."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._name = name
        directory.mkdir(parents=True, exist_ok=True)
        self.ca = str(directory / f"{name}.crt")
        self._key = str(directory / f"{name}.key")
        self._count = 0
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", self._key, "-out", self.ca,
            "-subj", f"/CN={name}",
        )  # fmt: skip

    def make(self, *alternative_names: str, expired: bool = False, usage: str = "") -> Pair:
        """Make a certificate with these subjectAltNames, such as `URI:zattredis://n1` or `DNS:localhost`."""
        self._count += 1
        base = self._directory / f"{self._name}-{self._count}"
        key, request, cert, extensions = (str(base) + end for end in (".key", ".csr", ".crt", ".ext"))
        openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request,
            "-subj", "/CN=made by a test",
        )  # fmt: skip
        lines = ["basicConstraints=CA:FALSE"]
        if alternative_names:
            lines.append(f"subjectAltName={','.join(alternative_names)}")
        if usage:
            lines.append(f"extendedKeyUsage={usage}")
        Path(extensions).write_text("\n".join(lines) + "\n")
        if expired:
            self._sign_expired(request, cert, extensions)
        else:
            openssl(
                "x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._key, "-CAcreateserial", "-days", "30",
                "-out", cert, "-extfile", extensions,
            )  # fmt: skip
        return Pair(cert, key)

    def node(self, node_id: str, expired: bool = False) -> Pair:
        """Make the certificate of a node, good for 127.0.0.1 as well."""
        return self.make(f"URI:zattredis://{node_id}", "DNS:localhost", "IP:127.0.0.1", expired=expired)

    def _sign_expired(self, request: str, cert: str, extensions: str) -> None:
        """`openssl x509` of OpenSSL 3.0 cannot set dates; `openssl ca` can."""
        home = self._directory / f"{self._name}-database"
        home.mkdir(exist_ok=True)
        (home / "index.txt").write_text("")
        config = home / "ca.cnf"
        config.write_text(
            f"[ca]\ndefault_ca=own\n[own]\ndatabase={home}/index.txt\nnew_certs_dir={home}\nrand_serial=yes\n"
            f"default_md=sha256\npolicy=any\nunique_subject=no\n[any]\ncommonName=supplied\n"
        )
        openssl(
            "ca", "-batch", "-notext", "-config", str(config), "-cert", self.ca, "-keyfile", self._key,
            "-in", request, "-out", cert, "-extfile", extensions,
            "-startdate", "20200101000000Z", "-enddate", "20200102000000Z",
        )  # fmt: skip


def openssl(*words: str) -> None:
    """Run openssl. Raises AssertionError with what it says."""
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
