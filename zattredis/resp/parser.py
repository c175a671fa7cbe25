"""Client bytes → requests, one `RequestParser` per connection.

Two ways lead to the same requests, both exact:

- **Whole requests** in one chunk (nearly all traffic) are cut with one `bytes.split` and proved by comparing every
  header with the header that the length of its argument demands. If all are equal, the split pieces *are* the
  arguments: by induction each `$n` is followed by exactly n bytes and a line end. If one is not (an argument holds a
  line end, the bytes are wrong, …), the chunk takes the other way from its start.
- **Everything else** (requests in pieces, large arguments, inline commands, bad bytes) goes through the `Scanner`,
  which reads headers as Redis does and hands what it has verified to hiredis.Reader.
"""

from __future__ import annotations

from typing import Final

from zattredis.resp.scanner import HEADERS, STRIDES, ProtocolLimits, Scanner

__all__ = ["ProtocolLimits", "RequestParser"]

_CRLF: Final = b"\r\n"
_HEADER_OF_LENGTH: Final = HEADERS.__getitem__


class RequestParser:
    """The requests of one connection.

    `error` is None, or the text of the error that ends the connection: the caller answers the requests returned so far,
    then `-ERR <error>`, then closes. An empty `error` means to close without a word, which is what Redis does when the
    query buffer is full. After an error nothing more is parsed, with one exception: a refusal that came from the limits
    is withdrawn when `limits` is replaced, because a request before the refused bytes was an AUTH. So: execute what
    `feed` returned; while `resumable`, execute what `feed(b"")` returns; then look at `error`.

    Invariant: `buffered_bytes`, the bytes of the unfinished request, exceeds the limits by one chunk at most. Work is
    linear in the bytes fed however they are cut, but for unfinished lines, each at most `inline_bytes_max` long.
    """

    __slots__ = ("_limits", "_quick_bytes", "_scanner", "error", "resumable")

    def __init__(self, limits: ProtocolLimits) -> None:
        self.error: bytes | None = None
        self.resumable = False
        self._scanner: Scanner | None = None  # exists only while a request is unfinished: most connections are idle
        self._limits = limits
        self._quick_bytes = -1
        self._set_quick_bytes()

    @property
    def limits(self) -> ProtocolLimits:
        """The bounds in force; replaced when the client authenticates or a setting changes."""
        return self._limits

    @limits.setter
    def limits(self, limits: ProtocolLimits) -> None:
        self._limits = limits
        if self._scanner is not None and self._scanner.from_limits:
            self._scanner.error = self.error = None
            self._scanner.from_limits = False
            self.resumable = True
        self._set_quick_bytes()

    @property
    def settled(self) -> bool:
        """Whether everything fed so far was whole requests: no rest, no error."""
        return self._scanner is None and self.error is None and not self.resumable

    @property
    def buffered_bytes(self) -> int:
        """Bytes held for a request that is not complete."""
        return 0 if self._scanner is None else self._scanner.buffered_bytes

    def forget(self) -> None:
        """Let go of a request that is not complete: nothing more is fed."""
        self._scanner = None

    def feed(self, data: bytes) -> list[list[bytes]]:
        """Take the next bytes and return the requests they complete, each a list of arguments, name first.

        Requests without arguments are left out, as in Redis. Sets `error` at bytes that are no request.
        """
        if len(data) > self._quick_bytes or (len(data) > 4096 and data.find(b"\n", 512, 4096) < 0):
            return self._scan(data, [])  # large arguments are quicker skipped than searched for line ends
        pieces = data.split(_CRLF)
        last = len(pieces) - 1
        try:  # few arguments, one after the other: half of what `_headers_fit` takes for them
            if last == 7 and pieces[0] == b"*3":
                _, first, name, second, key, third, value, end = pieces
                if (
                    third == HEADERS[len(value)]
                    and second == HEADERS[len(key)]
                    and first == HEADERS[len(name)]
                    and not end
                ):
                    return [[name, key, value]]
            elif last == 5 and pieces[0] == b"*2":
                _, first, name, second, key, end = pieces
                if second == HEADERS[len(key)] and first == HEADERS[len(name)] and not end:
                    return [[name, key]]
            elif last == 9 and pieces[0] == b"*4":
                _, first, name, second, key, third, field, fourth, value, end = pieces
                if (
                    fourth == HEADERS[len(value)]
                    and third == HEADERS[len(field)]
                    and second == HEADERS[len(key)]
                    and first == HEADERS[len(name)]
                    and not end
                ):
                    return [[name, key, field, value]]
        except IndexError:
            pass  # a longer one than HEADERS has
        stride = STRIDES.get(pieces[0])
        if stride == last and not pieces[last]:  # one whole request: nearly always, without pipelining
            request = pieces[2::2]
            return [request] if _headers_fit(pieces[1:last:2], request) else self._scan(data, [])
        requests, size = _cut(pieces, len(data))
        return requests if size == len(data) else self._scan(data[size:], requests)

    def _set_quick_bytes(self) -> None:
        """Set how long a chunk may be to be split: short of passing a limit; −1 unless a request begins with it."""
        quick = self._scanner is None and self.error is None and self._limits.allow_usual
        self._quick_bytes = self._limits.bulk_bytes_max if quick else -1

    def _scan(self, data: bytes, requests: list[list[bytes]]) -> list[list[bytes]]:
        if self.error is not None:
            return requests
        self.resumable = False
        scanner = self._scanner
        midway = scanner is not None
        if scanner is None:
            scanner = self._scanner = Scanner()
        rest = scanner.scan(data, self._limits, requests, one=midway)
        self.error = scanner.error
        if scanner.buffered_bytes > self._limits.query_bytes_max:
            self.error = b""
        if scanner.idle or (self.error is not None and not scanner.from_limits):
            self._scanner = None
        self._set_quick_bytes()
        return requests + self.feed(rest) if rest else requests


def _headers_fit(headers: list[bytes], arguments: list[bytes]) -> bool:
    """Whether every header is the one that the length of its argument demands."""
    try:
        return headers == [*map(_HEADER_OF_LENGTH, map(len, arguments))]
    except IndexError:
        return headers == [b"$%d" % len(argument) for argument in arguments]


def _cut(pieces: list[bytes], size: int) -> tuple[list[list[bytes]], int]:
    """Return the whole requests at the start of `size` split bytes and their size; none if any is doubtful."""
    last = len(pieces) - 1
    stride = STRIDES.get(pieces[0], last + 1)
    if last and last % stride == 0 and pieces[:last:stride].count(pieces[0]) * stride == last and not pieces[last]:
        requests = _cut_alike(pieces, stride)
        return requests, size if requests else 0
    requests = []
    headers: list[bytes] = []
    arguments: list[bytes] = []
    start = 0
    while start < last:
        stop = start + STRIDES.get(pieces[start], last + 1)
        if stop > last:
            break
        request = pieces[start + 2 : stop : 2]
        headers += pieces[start + 1 : stop : 2]
        arguments += request
        requests.append(request)
        start = stop
    if not _headers_fit(headers, arguments):
        return [], 0
    return requests, sum(map(len, pieces[:start])) + 2 * start


def _cut_alike(pieces: list[bytes], stride: int) -> list[list[bytes]]:
    """Do the same for requests that all have the same number of arguments, as in most pipelines: a third cheaper."""
    del pieces[::stride]
    arguments = pieces[1::2]
    if not _headers_fit(pieces[::2], arguments):
        return []
    count = stride >> 1
    return [arguments[start : start + count] for start in range(0, len(arguments), count)]
