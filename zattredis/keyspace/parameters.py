"""Parameters of the data types that the whole cluster agrees on: replicated, because apply depends on them.

They decide from which size on a collection counts as large in Redis's words (OBJECT ENCODING) and when a HyperLogLog
becomes dense. A change is a log entry, so that every node applies each command under the same parameters. How a value
is really laid out in the store is decided by constants (`sizes`), never by these.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from zattredis.errors import StateDamaged
from zattredis.keyspace.keys import META_PARAMETERS

_FORM: Final = struct.Struct(">8q")


class Parameters(NamedTuple):
    """Redis's parameters of the same names (`-` for `_`), with its defaults of 7.0. Negative list sizes are bytes."""

    hash_max_listpack_entries: int = 512
    hash_max_listpack_value: int = 64
    list_max_listpack_size: int = -2
    list_compress_depth: int = 0
    set_max_intset_entries: int = 512
    zset_max_listpack_entries: int = 128
    zset_max_listpack_value: int = 64
    hll_sparse_max_bytes: int = 3000

    def encode(self) -> bytes:
        """Return the stored form."""
        return _FORM.pack(*self)


DEFAULTS: Final = Parameters()


def decode_parameters(stored: bytes | None) -> Parameters:
    """Return the stored parameters, the defaults for None. Raises StateDamaged for another form."""
    if stored is None:
        return DEFAULTS
    if len(stored) != _FORM.size:
        raise StateDamaged("the parameters in the state database are of another form")
    return Parameters(*_FORM.unpack(stored))


__all__ = ["DEFAULTS", "META_PARAMETERS", "Parameters", "decode_parameters"]
