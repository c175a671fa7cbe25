"""The guard: reads request headers byte-exactly as redis-server 7.0 does and feeds hiredis.Reader what it verified.

hiredis was made for replies. Left alone it would accept integers, errors and nested arrays as requests and allocate a
list of as many elements as a header claims. So it sees only flat arrays of bulk strings whose headers were read here
first, and a request of many arguments as several arrays of at most `_GROUP_ARGS`: a header alone allocates nothing.
A large argument does not go through hiredis, which would copy it several times over, but is joined from the pieces in
which it came; hiredis gets an empty one in its place.
Where Redis is lax (it looks neither at the byte after a header's `\\r` nor at the two bytes behind an argument),
hiredis gets a well-formed header instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import hiredis

from zattredis.resp.inline import UnbalancedQuotes, split_arguments

UNAUTHENTICATED_ARGS_MAX: Final = 10
UNAUTHENTICATED_BULK_BYTES_MAX: Final = 16384
"""Redis's bounds for a client that has yet to authenticate (networking.c)."""

_GROUP_ARGS: Final = 1024
HEADERS: Final = [b"$%d" % length for length in range(4097)]
"""Length of an argument → its header without the line end."""
STRIDES: Final = {b"*%d" % args: 2 * args + 1 for args in range(1, _GROUP_ARGS + 1)}
"""Array header without its line end → pieces between line ends of the whole request."""

_LENGTHS: Final = {header: length for length, header in enumerate(HEADERS)}
_HEADER_BYTES_MAX: Final = 24  # "$", a sign, 19 digits, the line end
_FEED_BYTES: Final = 16384  # hiredis moves what is left of its buffer per consumed KiB; small feeds keep that linear
_LARGE_BYTES: Final = 256 * 1024
"""An argument from this size on, more than what comes in one piece, is put together here."""
_INT_MAX: Final = 2**31 - 1
_STRICT_INTEGER: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_STAR, _DOLLAR, _LF = b"*$\n"


@dataclass(frozen=True, slots=True)
class ProtocolLimits:
    """What one connection may send; until it has authenticated, Redis's much smaller bounds hold in addition.

    args_max: arguments of one request, its name included. bulk_bytes_max: one argument (`proto-max-bulk-len`).
    query_bytes_max: all bytes of one unfinished request (`client-query-buffer-limit`). inline_bytes_max: an
    unfinished inline command or header line.
    """

    args_max: int = 1024 * 1024
    bulk_bytes_max: int = 512 * 1024 * 1024
    query_bytes_max: int = 1024 * 1024 * 1024
    inline_bytes_max: int = 64 * 1024
    authenticated: bool = True

    @property
    def allow_usual(self) -> bool:
        """Whether no request that the tables of headers cover can pass a limit."""
        return self.authenticated and self.args_max >= _GROUP_ARGS and self.bulk_bytes_max >= len(HEADERS)


def _strict_integer(digits: bytes) -> int | None:
    """Return the integer in exactly the form Redis writes it (string2ll), or None."""
    if _STRICT_INTEGER.fullmatch(digits) is None:
        return None
    value = int(digits)
    return value if -(2**63) <= value < 2**63 else None


class Scanner:
    """Incremental; looks at no byte twice except those of an unfinished line (at most `inline_bytes_max`).

    After `scan`, `error` is the text of a protocol error or None. `from_limits` says that other limits would have
    accepted the bytes; they are kept, and scanning under such limits goes on where it stopped.
    """

    __slots__ = (
        "_bulk_left",
        "_fed",
        "_group_args",
        "_group_left",
        "_large",
        "_later_args",
        "_limits",
        "_line",
        "_long_request",
        "_pieces",
        "_reader",
        "_stuck",
        "_whole",
        "buffered_bytes",
        "error",
        "from_limits",
    )

    def __init__(self) -> None:
        self.buffered_bytes = 0  # of the unfinished request, kept bytes included
        self.error: bytes | None = None
        self.from_limits = False
        self._reader = hiredis.Reader()
        self._limits = ProtocolLimits()
        self._line = b""  # begins with a header or inline command that is not complete
        self._stuck = False  # nothing more can be read of this chunk
        self._group_args = 0  # arguments of the array that hiredis is being fed, and how many of them are missing
        self._group_left = 0
        self._large: list[tuple[int, bytes]] = []  # of that array: place and bytes of arguments that hiredis has not
        self._pieces: list[bytes] | None = None  # what has come of a large argument
        self._later_args = 0  # arguments of this request behind that array
        self._bulk_left = 0  # bytes of the current argument and its line end that have not come yet
        self._long_request: list[bytes] | None = None  # what earlier groups of this request held
        self._fed = 0  # offset in the chunk up to which hiredis has it, or need not have it
        self._whole = 0  # whole requests verified in the chunk from that offset on

    @property
    def idle(self) -> bool:
        """Whether no request is unfinished."""
        return not self._group_left and not self._line

    def scan(self, data: bytes, limits: ProtocolLimits, requests: list[list[bytes]], one: bool = False) -> bytes:
        """Append the requests completed by `data` to `requests`.

        With `one`, stop behind the first. Returns the bytes not looked at, empty but for `one`.
        """
        begin = -self.buffered_bytes  # where the unfinished request began, as an offset in data
        if self._line:
            begin += len(self._line)
            data = self._line + data
            self._line = b""
        self._limits = limits
        self._stuck = False
        self._fed = self._whole = position = 0
        end = len(data)
        usual = not one and limits.allow_usual
        while position < end and not self._stuck:
            if self._group_left:
                position = self._scan_arguments(data, position)
                if not self._group_left:
                    self._end_group(data, position, requests)
            elif data[position] == _STAR:
                begin = position
                position = self._skip_whole(data, position, requests) if usual else position
                if position == begin:
                    position = self._scan_array_header(data, position, requests)
            else:
                begin = position
                position = self._scan_inline(data, position, requests)
            if one and not self._group_left and not self._stuck:
                break
        self._hand_over(data, position, requests)
        if self._stuck:
            self._line = data[position:]
            position = end
        self.buffered_bytes = 0 if self.idle else end - begin
        return data[position:]

    def _skip_whole(self, data: bytes, position: int, requests: list[list[bytes]]) -> int:
        """Verify whole requests in their usual form, without keeping any state; return where the last one ends."""
        end = len(data)
        find = data.find
        lengths = _LENGTHS
        while True:
            stop = find(b"\r\n", position, position + _HEADER_BYTES_MAX)
            stride = STRIDES.get(data[position:stop], 0) if stop > 0 else 0
            after = stop + 2
            for _ in range(stride >> 1):
                stop = find(b"\r\n", after, after + _HEADER_BYTES_MAX)
                length = lengths.get(data[after:stop])
                if stop < 0 or length is None:
                    return position
                after = stop + 4 + length
            if after > end or not stride:
                return position
            position = after
            self._whole += 1
            if position - self._fed >= _FEED_BYTES:
                self._hand_over(data, position, requests)
            if position == end:
                return position

    def _scan_arguments(self, data: bytes, position: int) -> int:
        """Read the arguments of the current group as far as they have come; return where reading stopped."""
        end = len(data)
        bulk_bytes_max = self._limits.bulk_bytes_max
        group_left = self._group_left
        bulk_left = self._bulk_left
        while group_left and position < end:
            if self._pieces is not None:
                position, bulk_left = self._collect(data, position, bulk_left, group_left)
                if not bulk_left:
                    group_left -= 1
                continue
            if not bulk_left:
                stop = data.find(b"\r\n", position, position + _HEADER_BYTES_MAX)
                length = _LENGTHS.get(data[position:stop]) if stop > 0 else None
                if length is None or length > bulk_bytes_max:
                    length, stop = self._read_bulk_header(data, position)
                    if self._stuck:
                        break
                bulk_left = length + 2
                if length >= _LARGE_BYTES:
                    self._replace(data, position, stop + 2)
                    position = stop + 2
                    continue
                position = stop + 2
            position += bulk_left
            bulk_left = 0
            group_left -= 1
            if position > end:
                bulk_left = position - end
                position = end
                group_left += 1
        self._group_left = group_left
        self._bulk_left = bulk_left
        return position

    def _replace(self, data: bytes, position: int, after: int) -> None:
        """Begin a large argument whose header stands at `position`: hiredis gets an empty one."""
        if self._fed < after:  # a lax header is fed already
            self._feed(data, position, after)
            self._reader.feed(b"$0\r\n\r\n")
        self._pieces = []

    def _collect(self, data: bytes, position: int, left: int, group_left: int) -> tuple[int, int]:
        """Take what has come of a large argument and its line end; return the offset behind it and what is missing."""
        assert self._pieces is not None
        stop = min(position + left, len(data))
        left -= stop - position
        self._pieces.append(data[position : max(stop - max(2 - left, 0), position)])
        self._fed = stop
        if not left:
            self._large.append((self._group_args - group_left, b"".join(self._pieces)))
            self._pieces = None
        return stop, left

    def _read_bulk_header(self, data: bytes, position: int) -> tuple[int, int]:
        """Return (length, offset of the `\\r`) of a header that is long, lax or wrong; sets `_stuck` if it cannot."""
        stop = self._find_line_end(data, position, b"too big bulk count string")
        if self._stuck:
            return 0, stop
        if data[position] != _DOLLAR:
            shown = data[position : position + 1].translate(_PRINTED)
            self._refuse(b"expected '$', got '%b'" % shown)
            return 0, stop
        length = _strict_integer(data[position + 1 : stop])
        if length is None or length < 0 or length > self._limits.bulk_bytes_max:
            self._refuse(b"invalid bulk length", from_limits=length is not None and length >= 0)
            return 0, stop
        if not self._limits.authenticated and length > UNAUTHENTICATED_BULK_BYTES_MAX:
            self._refuse(b"unauthenticated bulk length", from_limits=True)
            return 0, stop
        if data[stop + 1] != _LF:
            self._feed(data, position, stop + 2)
            self._reader.feed(b"$%d\r\n" % length if length < _LARGE_BYTES else b"$0\r\n\r\n")
        return length, stop

    def _scan_array_header(self, data: bytes, position: int, requests: list[list[bytes]]) -> int:
        """Read `*n` and return the offset behind it (`position` if it is not complete or wrong)."""
        stop = self._find_line_end(data, position, b"too big mbulk count string")
        if self._stuck:
            return position
        count = _strict_integer(data[position + 1 : stop])
        if count is None or count > self._limits.args_max:
            self._refuse(b"invalid multibulk length", from_limits=count is not None and count <= _INT_MAX)
            return position
        if not self._limits.authenticated and count > UNAUTHENTICATED_ARGS_MAX:
            self._refuse(b"unauthenticated multibulk length", from_limits=True)
            return position
        after = stop + 2
        if 0 < count <= _GROUP_ARGS and data[stop + 1] == _LF:
            self._group_left = self._group_args = count
            return after
        self._hand_over(data, position, requests)
        self._fed = after
        if count > 0:
            self._long_request = [] if count > _GROUP_ARGS else None
            self._later_args = count
            self._begin_group()
        return after

    def _scan_inline(self, data: bytes, position: int, requests: list[list[bytes]]) -> int:
        """Read one inline command and return the offset behind it (`position` if it is not complete or wrong)."""
        if data.startswith(_TLS, position):
            self._refuse(b"TLS came, and this port speaks plain Redis")
            return position
        stop = data.find(b"\n", position)
        if stop < 0 or data.find(b"\0", position, stop) >= 0:  # Redis looks for the end with strchr
            self._stuck = True
            if len(data) - position > self._limits.inline_bytes_max:
                self._refuse(b"too big inline request")
            return position
        line_end = stop - 1 if stop > position and data[stop - 1] == 13 else stop
        try:
            arguments = split_arguments(data[position:line_end])
        except UnbalancedQuotes:
            self._refuse(b"unbalanced quotes in request")
            return position
        self._hand_over(data, position, requests)
        self._fed = stop + 1
        if arguments:
            requests.append(arguments)
        return stop + 1

    def _find_line_end(self, data: bytes, position: int, too_big: bytes) -> int:
        """Return the offset of the header's `\\r`, with one more byte behind it; otherwise set `_stuck`."""
        stop = data.find(b"\r", position)
        if stop < 0 or data.find(b"\0", position, stop) >= 0:  # Redis looks for the end with strchr
            self._stuck = True
            if len(data) - position > self._limits.inline_bytes_max:
                self._refuse(too_big)
        elif stop + 2 > len(data):
            self._stuck = True
        return stop

    def _refuse(self, text: bytes, from_limits: bool = False) -> None:
        self._stuck = True
        self.error = b"Protocol error: " + text
        self.from_limits = from_limits

    def _begin_group(self) -> None:
        self._group_left = self._group_args = min(self._later_args, _GROUP_ARGS)
        self._later_args -= self._group_left
        self._reader.feed(b"*%d\r\n" % self._group_left)

    def _end_group(self, data: bytes, position: int, requests: list[list[bytes]]) -> None:
        if self._long_request is None:
            self._whole += 1
            if self._large or position - self._fed >= _FEED_BYTES:
                self._hand_over(data, position, requests)
                self._put_large(requests)
            return
        self._feed(data, position, position)
        group = self._reader.gets()
        self._put_large([group])
        self._long_request += group
        if self._later_args:
            self._begin_group()
        else:
            requests.append(self._long_request)
            self._long_request = None

    def _put_large(self, requests: list[list[bytes]]) -> None:
        """Put the large arguments of the last request where they belong."""
        if self._large:
            for place, argument in self._large:
                requests[-1][place] = argument
            self._large = []

    def _hand_over(self, data: bytes, position: int, requests: list[list[bytes]]) -> None:
        """Let hiredis have what was verified up to `position`, and take from it the whole requests."""
        self._feed(data, position, position)
        if self._whole:
            gets = self._reader.gets
            requests += [gets() for _ in range(self._whole)]
            assert type(requests[-1]) is list, "the guard counted a request that hiredis does not see"
            self._whole = 0

    def _feed(self, data: bytes, position: int, after: int) -> None:
        """Feed the bytes up to `position`; those between it and `after` are not for hiredis."""
        if position > self._fed:
            self._reader.feed(data, self._fed, position - self._fed)
        self._fed = after


_TLS: Final = (b"\x16\x03\x01", b"\x16\x03\x03")
"""How a client begins that takes this for a TLS port; it would wait for an answer until it gives up."""
_PRINTED: Final = bytes(32 if byte in b"\r\n" else byte for byte in range(256))
"""An error reply is one line: Redis shows line ends in it as blanks."""
