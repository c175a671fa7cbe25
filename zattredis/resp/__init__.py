"""RESP: client bytes → requests (`parser`), Python values → replies (`replies`). Knows no command and no connection.

What it owns
    `RequestParser` and `ProtocolLimits`: what a client sends, split into argument lists, within bounds, with Redis's
    own protocol errors. `encode` and its relatives: every reply type of RESP2 and RESP3. `split_arguments`: inline
    commands.

Invariants
    Bytes end to end; how the bytes were cut into chunks never changes what comes out. Memory for an unfinished request
    grows with the bytes that arrived, never with what a header announces. Work is linear in the bytes.
    A request is a list of arguments, never empty. A reply is one line or one well-formed nest of lines.

Decisions
    *hiredis behind a guard.* hiredis.Reader parses replies, which a server's client must not send; see `scanner`.
    *A quick way for whole requests.* One split and one comparison prove what the scanner would have found out header
    by header; see `parser`. It is 0.6 µs per SET in a chunk of 16 and 0.9 µs for one alone, the scanner with hiredis
    1.6 and 4.5 (two shared cores, CPython 3.11). Arguments of some KiB go to the scanner, which skips them unseen.
    *Handlers return values.* Only the connection knows whether its client reads RESP2 or RESP3: encoding comes last.
    *Doubles have 17 significant digits* in both protocols, as in redis-server 7.0 (7.2 writes the shortest form).
"""

from zattredis.resp.inline import UnbalancedQuotes, split_arguments
from zattredis.resp.parser import RequestParser
from zattredis.resp.replies import (
    NULL_ARRAY,
    Attributed,
    BigNumber,
    Bulks,
    Push,
    ReplySet,
    Verbatim,
    append_replies,
    append_reply,
    encode,
    encode_error,
    encode_many,
    format_double,
)
from zattredis.resp.scanner import ProtocolLimits

__all__ = [
    "NULL_ARRAY",
    "Attributed",
    "BigNumber",
    "Bulks",
    "ProtocolLimits",
    "Push",
    "ReplySet",
    "RequestParser",
    "UnbalancedQuotes",
    "Verbatim",
    "append_replies",
    "append_reply",
    "encode",
    "encode_error",
    "encode_many",
    "format_double",
    "split_arguments",
]
