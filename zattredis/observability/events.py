"""Set-up of structlog: one event a line on standard error, for a person on a terminal or for a machine as JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    import structlog

# structlog is imported with the first event that is told. It brings rich and pygments along, a fifth of all that a node
# loads, and a node inside another program commonly has nothing to tell.

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50, "exception": 40}

_threshold = LEVELS["info"]
_embedded: dict[object, int] = {}
"""The levels of the nodes inside this program, if it is not a server itself."""
_own: Callable[[], Any] | None = None
"""Makes the logger that has their events, unless the program has configured structlog."""


class Log:
    """A logger of structlog that knows whose process it is in: a server's own, or another program's."""

    __slots__ = ("_always",)

    def __init__(self, **always: object) -> None:
        self._always = always

    def debug(self, event: str, **fields: object) -> None:
        """Tell what is of interest to whoever looks for a fault."""
        if LEVELS["debug"] >= _threshold or _embedded:
            self._tell("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Tell what happens."""
        self._tell("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Tell what somebody should look at."""
        self._tell("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Tell what went wrong."""
        self._tell("error", event, fields)

    def critical(self, event: str, **fields: object) -> None:
        """Tell why this ends."""
        self._tell("critical", event, fields)

    def _tell(self, method: str, event: str, fields: dict[str, object]) -> None:
        if _embedded and LEVELS[method] < min(_embedded.values()):
            return
        import structlog

        log = _own() if _embedded and _own is not None and not structlog.is_configured() else structlog.get_logger()
        getattr(log, method)(event, **{**self._always, **fields})


def get_logger(**always: object) -> Log:
    """Return a logger whose events carry these fields. What is set up later holds for it, too."""
    return Log(**always)


def embed_events(form: str = "auto", level: str = "warning") -> Callable[[], None]:
    """Let nodes inside another program tell of themselves; return what to call when this one has ended.

    Events from `level` on (the lowest of several nodes) go where the program has told structlog to send its own, else
    to standard error. Of what the program has set up nothing is changed.
    """
    global _own
    node = object()
    _embedded[node] = LEVELS[level]
    _own = cache(lambda: _own_logger(form))

    def ended() -> None:
        _embedded.pop(node, None)

    return ended


def _own_logger(form: str) -> Any:
    import structlog

    return structlog.wrap_logger(
        _LineLogger(), processors=_processors(form, {}), wrapper_class=structlog.make_filtering_bound_logger(0),
        cache_logger_on_first_use=False,
    )  # fmt: skip


def configure_events(form: str = "auto", level: str = "info", **always: object) -> None:
    """Send all structlog events of this process to standard error.

    `form` is console, json, or auto (console if standard error is a terminal); `always` is in every JSON event (a
    person at a terminal knows what they started). May be called again; loggers made before follow.
    """
    structlog = _structlog_alone()
    set_level(level)
    structlog.configure(
        processors=[_drop_below_threshold, *_processors(form, always)],
        wrapper_class=structlog.make_filtering_bound_logger(0),  # `exception` brings its traceback
        logger_factory=_LineLogger,
        cache_logger_on_first_use=False,
    )


def _structlog_alone() -> ModuleType:
    """Return structlog, imported without rich, which it would load for tracebacks: events bring theirs as text.

    That is a tenth of what a server does to start, and 4 MiB. Only for a process of our own, for it holds as long as
    that lives; rich itself can be imported as ever.
    """
    spared = "structlog" not in sys.modules and "rich" not in sys.modules
    if spared:
        sys.modules["rich"] = None  # type: ignore[assignment]  # makes an import of it fail
    try:
        import structlog
    finally:
        if spared:
            del sys.modules["rich"]
    return structlog


def _processors(form: str, always: Mapping[str, object]) -> list[structlog.typing.Processor]:
    """Return what makes a line of an event."""
    import structlog

    console = uses_console(form)

    def add_always(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        # Not context variables: events also come from threads, which do not inherit them.
        for name, value in always.items():
            event.setdefault(name, value)
        return event

    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if console else "iso", utc=not console),
        structlog.processors.format_exc_info,
    ]
    if console:
        colors = sys.stderr.isatty() and "NO_COLOR" not in os.environ
        processors.append(structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=24, sort_keys=False))
    else:
        processors += [add_always, _render_json]
    return processors


def uses_console(form: str) -> bool:
    """Return whether events are written for a person rather than as JSON."""
    return form == "console" or (form == "auto" and sys.stderr.isatty())


def set_level(level: str) -> None:
    """Log events of `level` and above from now on. Raises KeyError for a level that is none of `LEVELS`."""
    global _threshold
    _threshold = LEVELS[level]
    for node in list(_embedded):
        _embedded[node] = _threshold


def _drop_below_threshold(_logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if LEVELS.get(method, LEVELS["error"]) < _threshold:
        import structlog

        raise structlog.DropEvent
    return event


def _render_json(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    # msgspec would write bytes as base64; names of keys and clients are wanted readable.
    first = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    plain = {name: _text(value) if isinstance(value, bytes) else value for name, value in {**first, **event}.items()}
    return msgspec.json.encode(plain, enc_hook=str).decode()


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace")


class _LineLogger:
    """Writes each line with one system call; a log that cannot be written must never stop a node that serves."""

    __slots__ = ()

    def __init__(self, *_args: object) -> None:
        pass

    def msg(self, line: str) -> None:
        try:
            os.write(sys.stderr.fileno(), line.encode(errors="backslashreplace") + b"\n")
        except (OSError, ValueError):
            return

    debug = info = warning = warn = error = critical = exception = fatal = log = msg
