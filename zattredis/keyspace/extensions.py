"""Which code of which extension the whole cluster has agreed on; replicated, because apply depends on it.

An extension is a module of commands that is not part of zattredis. Its commands are executed only while the digest of
the code that a node has is the one agreed on here, so that nodes with different code stop instead of diverging.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from zattredis.errors import StateDamaged

META_EXTENSIONS: Final = b"mextensions"


class Agreed(NamedTuple):
    """The digest of an extension's code. While `retired` its commands are refused: other code may take its place."""

    digest: str
    retired: bool = False


def encode_extensions(agreed: Mapping[str, Agreed]) -> bytes:
    """Return the stored form."""
    lines = [f"{name} {one.digest} {int(one.retired)}" for name, one in sorted(agreed.items())]
    return "\n".join(lines).encode()


def decode_extensions(stored: bytes | None) -> dict[str, Agreed]:
    """Return what was stored. Raises StateDamaged for another form."""
    found: dict[str, Agreed] = {}
    try:
        for line in (stored or b"").decode().splitlines():
            name, digest, retired = line.split(" ")
            found[name] = Agreed(digest, retired == "1")
    except ValueError as error:
        raise StateDamaged(f"the extensions in the state database are of another form: {error}") from error
    return found
