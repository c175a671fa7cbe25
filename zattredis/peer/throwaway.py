"""A key pair and a certificate made up for one process: what TLS 1.3 wants of a listener that nobody believes by name.

Where peers prove themselves by the cluster secret (see `handshake`), the certificate says nothing: whoever is on the
other side of the encryption is known by a proof that covers the encryption itself. OpenSSL still wants one, Python
cannot make one, and a key in the source would look like a secret. So this: P-256 by the textbook, used once per start.
It need not be constant in time, since nothing is believed because of this key.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import secrets
from typing import Final

_P: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1
_N: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_G: Final = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)

_P256: Final = bytes.fromhex("06082a8648ce3d030107")
_EC_PUBLIC_KEY: Final = bytes.fromhex("06072a8648ce3d0201")
_ECDSA_SHA256: Final = bytes.fromhex("06082a8648ce3d040302")
_COMMON_NAME: Final = bytes.fromhex("0603550403")

_Point = tuple[int, int]


@functools.cache
def make_throwaway() -> str:
    """Return this process's private key and its self-signed certificate, PEM text for `SSLContext.load_cert_chain`."""
    private = secrets.randbelow(_N - 1) + 1
    public = b"\x04" + b"".join(each.to_bytes(32, "big") for each in _multiply(private, _G))
    name = _sequence(_tlv(0x31, _sequence(_COMMON_NAME, _tlv(0x0C, b"zattredis peer"))))
    to_sign = _sequence(
        _integer(secrets.randbits(63) | 1),
        _sequence(_ECDSA_SHA256),
        name,
        _sequence(_tlv(0x17, b"700101000000Z"), _tlv(0x18, b"99991231235959Z")),
        name,
        _sequence(_sequence(_EC_PUBLIC_KEY, _P256), _bits(public)),
    )
    certificate = _sequence(to_sign, _sequence(_ECDSA_SHA256), _bits(_sign(private, to_sign)))
    key = _sequence(
        _integer(1), _tlv(0x04, private.to_bytes(32, "big")), _tlv(0xA0, _P256), _tlv(0xA1, _bits(public))
    )
    return _pem("EC PRIVATE KEY", key) + _pem("CERTIFICATE", certificate)


def _sign(private: int, data: bytes) -> bytes:
    """Return the ECDSA signature (FIPS 186-4, 6.4) of the SHA-256 of `data`."""
    digest = int.from_bytes(hashlib.sha256(data).digest(), "big")
    while True:
        nonce = secrets.randbelow(_N - 1) + 1
        r = _multiply(nonce, _G)[0] % _N
        s = pow(nonce, -1, _N) * (digest + r * private) % _N
        if r and s:
            return _sequence(_integer(r), _integer(s))


def _multiply(scalar: int, point: _Point) -> _Point:
    total: _Point | None = None
    while scalar:
        if scalar & 1:
            total = _add(total, point)
        doubled = _add(point, point)
        assert doubled is not None, "a point of even order"
        point = doubled
        scalar >>= 1
    assert total is not None, "a multiple of the order"
    return total


def _add(one: _Point | None, other: _Point | None) -> _Point | None:
    if one is None or other is None:
        return one or other
    (x1, y1), (x2, y2) = one, other
    if x1 == x2 and (y1 + y2) % _P == 0:
        return None
    if one == other:
        slope = (3 * x1 * x1 - 3) * pow(2 * y1, -1, _P) % _P
    else:
        slope = (y2 - y1) * pow(x2 - x1, -1, _P) % _P
    x3 = (slope * slope - x1 - x2) % _P
    return x3, (slope * (x1 - x3) - y1) % _P


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes((size,)) if size < 128 else bytes((0x82, size >> 8, size & 255))
    return bytes((tag,)) + length + content


def _sequence(*parts: bytes) -> bytes:
    return _tlv(0x30, b"".join(parts))


def _integer(number: int) -> bytes:
    return _tlv(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _bits(content: bytes) -> bytes:
    return _tlv(0x03, b"\0" + content)


def _pem(label: str, der: bytes) -> str:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN {label}-----\n{body}-----END {label}-----\n"
