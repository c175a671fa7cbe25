"""CONFIG: the settings of a running node, under the names that Redis's tools know.

`RuntimeSettings.settings` is at every moment a complete, consistent `Settings`; CONFIG SET replaces it by a changed
one and tells those who asked to be told (`on_change`). Beside the settings stand facts that cannot be changed
(`appendonly yes`: the log is always on and always synced), a few values that live only while the node runs, and the
parameters that the whole cluster agrees on (`commands.config.AGREED`): the state machine's, and only shown here.

Invariant: a CONFIG SET of several parameters takes effect whole or not at all, also when a listener refuses it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from zattredis.commands.arguments import strict_integer
from zattredis.commands.config import AGREED, REQUIREPASS
from zattredis.commands.glob import compile_glob
from zattredis.config import SETTINGS, Settings, SettingSpec
from zattredis.config.load import check_settings
from zattredis.errors import ConfigError, DefiniteError, shown
from zattredis.keyspace.parameters import DEFAULTS, Parameters
from zattredis.observability.events import get_logger

_log = get_logger(room="config")

_MEMORY: Final = re.compile(rb"(\d*)(|b|k|kb|m|mb|g|gb)", re.IGNORECASE)  # Redis reads no digits as 0
_UNITS: Final = {
    b"": 1, b"b": 1, b"k": 1000, b"kb": 1024, b"m": 1000**2, b"mb": 1024**2, b"g": 1000**3, b"gb": 1024**3,
}  # fmt: skip

_LAZY: Final = (b"eviction", b"expire", b"server-del", b"user-del", b"user-flush")  # all removal is

_FACTS: Final[Mapping[bytes, bytes]] = {
    b"save": b"",
    b"appendonly": b"yes",
    b"appendfsync": b"always",
    b"maxmemory-policy": b"noeviction",
    b"maxmemory-clients": b"0",
    b"notify-keyspace-events": b"",
    **dict.fromkeys((b"lazyfree-lazy-%b" % what for what in _LAZY), b"yes"),
    b"activedefrag": b"no",
}
"""What may be SET, but only to what it is: tools and tests say it to be sure."""

_UNCHANGEABLE: Final[Mapping[bytes, bytes]] = {
    b"daemonize": b"no",
    b"io-threads": b"1",
    b"replicaof": b"",
    b"slaveof": b"",
    b"supervised": b"no",
    b"unixsocket": b"",
}
"""What can never be SET; in Redis too, or because it has no meaning here."""

_FROM_CONFIG_SET: Final = "CONFIG SET"
_OUTPUT_LIMIT: Final = b"client-output-buffer-limit"
_READ_ONLY: Final = (b"replica-read-only", b"slave-read-only")
"""Whether a follower refuses writes of its clients; it follows from `follower_mode`, as INFO's slave_read_only does."""


class _Invalid(Exception):
    """Why a value cannot be taken; becomes the second half of Redis's error."""


def _integer(value: bytes, low: int, high: int) -> int:
    number = strict_integer(value)
    if number is None:
        raise _Invalid("argument couldn't be parsed into an integer")
    return _between(number, low, high)


def _memory(value: bytes, low: int, high: int) -> int:
    match = _MEMORY.fullmatch(value)
    if match is None:
        raise _Invalid("argument must be a memory value")
    return _between(int(match[1] or 0) * _UNITS[match[2].lower()], low, high)


def _between(number: int, low: int, high: int) -> int:
    if not low <= number <= high:
        raise _Invalid(f"argument must be between {low} and {high} inclusive")
    return number


def _yes_no(value: bytes) -> bool:
    if value.lower() not in (b"yes", b"no"):
        raise _Invalid("argument must be 'yes' or 'no'")
    return value.lower() == b"yes"


def _parse(spec: SettingSpec, value: bytes) -> Any:
    """Return a setting's new value. Raises _Invalid with Redis's text for its kind."""
    if spec.kind == "int":
        return _integer(value, spec.low, spec.high)
    if spec.kind == "bytes":
        return _memory(value, spec.low, spec.high)
    text = value.decode("utf-8", "surrogateescape")
    if spec.kind == "choice" and spec.choices == ("yes", "no"):
        return "yes" if _yes_no(value) else "no"
    if spec.kind == "choice":
        if text.lower() not in spec.choices:
            raise _Invalid(f"argument(s) must be one of the following: {', '.join(spec.choices)}")
        return text.lower()
    try:
        return spec.parse(text)
    except ConfigError as error:
        raise _Invalid(str(error)) from None


def _percentiles(value: bytes) -> tuple[float, ...]:
    try:
        found = tuple(float(word) for word in value.split())
    except ValueError:
        raise _Invalid("Invalid latency-tracking-info-percentiles parameters") from None
    if not all(0.0 <= percentage <= 100.0 for percentage in found):
        raise _Invalid("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]")
    return found


def _output_limit(value: bytes, spec: SettingSpec) -> dict[str, int]:
    """Return the settings that say hard limit, soft limit and its seconds; there is one class of clients here."""
    words = value.split()
    if not words or len(words) % 4:
        raise _Invalid("Wrong number of arguments in buffer limit configuration.")
    limits: dict[str, int] = {}
    for place in range(0, len(words), 4):
        kind = words[place].lower()
        if kind not in (b"normal", b"slave", b"replica", b"pubsub"):
            raise _Invalid("Invalid client class specified in buffer limit configuration.")
        try:
            hard, soft, seconds = (_memory(word, 0, spec.high) for word in words[place + 1 : place + 4])
        except _Invalid:
            raise _Invalid("Error in hard, soft or soft_seconds setting in buffer limit configuration.") from None
        if kind != b"normal":
            raise _Invalid("only the class normal can be set: this server has one bound for all clients")
        limits["output_buffer_bytes_max"] = _between(hard, spec.low, spec.high)
        limits["output_buffer_soft_bytes"] = soft
        limits["output_buffer_soft_s"] = _between(seconds, 0, 1_000_000)
    return limits


@dataclasses.dataclass(frozen=True, slots=True)
class Runtime:
    """What can be set while the node runs but is no setting of its file."""

    latency_tracking: bool = True
    latency_percentiles: tuple[float, ...] = (50.0, 99.0, 99.9)
    latency_monitor_threshold_ms: int = 0


_RUNTIME: Final[Mapping[bytes, tuple[str, Callable[[bytes], Any], Callable[[Any], bytes]]]] = {
    b"latency-tracking": ("latency_tracking", _yes_no, lambda on: b"yes" if on else b"no"),
    b"latency-tracking-info-percentiles": (
        "latency_percentiles", _percentiles, lambda found: b" ".join(b"%g" % percentage for percentage in found),
    ),
    b"latency-monitor-threshold": (
        "latency_monitor_threshold_ms", lambda value: _integer(value, 0, (1 << 63) - 1), lambda value: b"%d" % value,
    ),
}  # fmt: skip

def _agreed_value(name: bytes, value: bytes) -> int:
    parameter = AGREED[name]
    return (_memory if parameter.is_memory else _integer)(value, parameter.low, parameter.high)


@dataclasses.dataclass(frozen=True, slots=True)
class _Plan:
    """What a CONFIG SET changes: this node's settings, and by name what the cluster agrees on."""

    settings: Settings
    runtime: Runtime
    agreed: dict[bytes, int]
    named: frozenset[str]
    last: bytes


Listener = Callable[["RuntimeSettings"], None]


class RuntimeSettings:
    """The settings as they are now. Read `settings` and `runtime`; both are replaced, never changed."""

    __slots__ = (
        "_by_name", "_config_file", "_listeners", "agree_on_password", "has_password", "named", "parameters", "runtime",
        "settings",
    )  # fmt: skip

    def __init__(
        self,
        settings: Settings,
        config_file: str | None = None,
        parameters: Callable[[], Parameters] = lambda: DEFAULTS,
    ) -> None:
        self.parameters = parameters
        """Returns what the cluster has agreed on, as far as this node has applied the log."""
        self.agree_on_password: Callable[[bytes], bytes] | None = None
        """Returns what the log gets for a password of the default user; None where no cluster agrees on it."""
        self.has_password: Callable[[], bool] = lambda: bool(self.settings.requirepass)
        self.settings = settings
        self.runtime = Runtime()
        self.named: frozenset[str] = frozenset()
        """While listeners are told of a CONFIG SET: the settings it names, those it leaves as they were included."""
        self._config_file = config_file
        self._listeners: list[Listener] = []
        self._by_name = {spec.config_name.encode(): spec for spec in SETTINGS.values() if spec.config_name}

    def on_change(self, listener: Listener) -> None:
        """Have `listener` called after every change. It may raise DefiniteError: then the change is taken back.

        A listener that has accepted a change that another refuses is called again, with the values as they were.
        """
        self._listeners.append(listener)

    # -- CONFIG GET ----------------------------------------------------------------------------------------------

    def names(self) -> list[bytes]:
        """Return the names of all parameters."""
        return [*self._by_name, _OUTPUT_LIMIT, *_READ_ONLY, *AGREED, *_RUNTIME, *_FACTS, *_UNCHANGEABLE]

    def value(self, name: bytes) -> bytes:
        """Return a parameter's value as CONFIG GET shows it; secrets that are set are hidden. Raises KeyError."""
        if name == REQUIREPASS:
            return b"(hidden)" if self.has_password() else b""
        spec = self._by_name.get(name)
        if spec is not None:
            return self._shown(spec).encode("utf-8", "surrogateescape")
        if name == _OUTPUT_LIMIT:
            now = self.settings
            limits = b"%d %d %d" % (now.output_buffer_bytes_max, now.output_buffer_soft_bytes, now.output_buffer_soft_s)
            return b"normal %b slave %b pubsub %b" % (limits, limits, limits)
        if name in _READ_ONLY:
            return b"yes" if self.settings.follower_mode == "redirect" else b"no"
        if name in AGREED:
            return b"%d" % getattr(self.parameters(), AGREED[name].field)
        if name in _RUNTIME:
            attribute, _, show = _RUNTIME[name]
            return show(getattr(self.runtime, attribute))
        return _FACTS[name] if name in _FACTS else _UNCHANGEABLE[name]

    def _shown(self, spec: SettingSpec) -> str:
        value = getattr(self.settings, spec.name)
        if spec.kind == "binds":
            return " ".join(value)
        return spec.show(value)

    def matching(self, patterns: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return name → value of every parameter that one of the glob patterns matches.

        As in Redis, a parameter asked for by its plain name is shown as it was spelled, others by their own name.
        """
        found: dict[bytes, bytes] = {}  # own name → shown name
        for pattern in patterns:
            if any(sign in pattern for sign in b"*?["):
                matches = compile_glob(pattern, ignore_case=True)
                for name in self.names():
                    if matches(name):
                        found.setdefault(name, name)
            elif self._known(pattern.lower()):
                found.setdefault(pattern.lower(), pattern)
        return {shown: self.value(name) for name, shown in found.items()}

    # -- CONFIG SET ----------------------------------------------------------------------------------------------

    def change(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Set all of `pairs`, none of them agreed on by the cluster, or, raising a DefiniteError, none."""
        plan = self._plan(pairs)
        if any(self._is_agreed(name.lower()) for name, _ in pairs):
            raise _failed(plan.last, "it could not be taken when it was sent, try again")
        self._apply(plan)

    def agreed_part(self, pairs: Sequence[tuple[bytes, bytes]]) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
        """Return what of `pairs` the cluster has to agree on, as words for the log, and the pairs that are left.

        Raises DefiniteError with Redis's text if any of all the pairs cannot be taken.
        """
        agreed = self._plan(pairs).agreed
        words = [word for name, value in agreed.items() for word in (name, b"%d" % value)]
        for name, value in pairs:
            if name.lower() == REQUIREPASS and self.agree_on_password is not None:
                words += (REQUIREPASS, self.agree_on_password(value))
        return words, [pair for pair in pairs if not self._is_agreed(pair[0].lower())]

    def _is_agreed(self, name: bytes) -> bool:
        return name in AGREED or (name == REQUIREPASS and self.agree_on_password is not None)

    def _plan(self, pairs: Sequence[tuple[bytes, bytes]]) -> _Plan:
        """Return what is to become of `pairs`, parsed and checked as a whole. Raises DefiniteError."""
        named: dict[bytes, bytes] = {}
        for given, value in pairs:
            name = given.lower()
            if not self._known(name):
                raise DefiniteError(f"Unknown option or number of arguments for CONFIG SET - '{shown(given)}'")
            spec = self._by_name.get(name)
            if name in _UNCHANGEABLE or (spec is not None and not spec.hot):
                raise _failed(name, "can't set immutable config")
            if name in named:
                raise _failed(name, "duplicate parameter")
            named[name] = value
        settings: dict[str, Any] = {}
        runtime: dict[str, Any] = {}
        agreed: dict[bytes, int] = {}
        for name, value in named.items():
            try:
                if name in AGREED:
                    agreed[name] = _agreed_value(name, value)
                elif self._is_agreed(name):
                    continue  # any bytes will do, for only their digest is kept
                else:
                    self._take(name, value, settings, runtime)
            except _Invalid as reason:
                raise _failed(name, str(reason)) from None
        last = next(reversed(named))
        try:
            sources = {**self.settings.sources, **dict.fromkeys(settings, _FROM_CONFIG_SET)}
            changed = dataclasses.replace(self.settings, **settings, sources=sources)
            check_settings(changed)
        except ConfigError as error:
            raise _failed(last, str(error)) from None
        return _Plan(changed, dataclasses.replace(self.runtime, **runtime), agreed, frozenset(settings), last)

    def _known(self, name: bytes) -> bool:
        return name in self._by_name or name == _OUTPUT_LIMIT or any(
            name in table for table in (_READ_ONLY, AGREED, _RUNTIME, _FACTS, _UNCHANGEABLE)
        )  # fmt: skip

    def _take(self, name: bytes, value: bytes, settings: dict[str, Any], runtime: dict[str, Any]) -> None:
        """Put the parsed value of one parameter into `settings` or `runtime`. Raises _Invalid."""
        spec = self._by_name.get(name)
        if spec is not None:
            settings[spec.name] = _parse(spec, value)
        elif name == _OUTPUT_LIMIT:
            settings.update(_output_limit(value, SETTINGS["output_buffer_bytes_max"]))
        elif name in _RUNTIME:
            attribute, parse, _ = _RUNTIME[name]
            runtime[attribute] = parse(value)
        else:
            fact = self.value(name) if name in _READ_ONLY else _FACTS[name]
            if fact in (b"yes", b"no"):
                _yes_no(value)
            same = _memory(value, 0, 1 << 63) == int(fact) if fact.isdigit() else value.lower() == fact
            if not same:
                raise _Invalid(f"argument must be '{fact.decode()}': it cannot be otherwise on this server")

    def replace(self, settings: Settings) -> None:
        """Put other settings in force, whole or, raising a DefiniteError, not at all."""
        self._put(settings, self.runtime)

    def _apply(self, plan: _Plan) -> None:
        self.named = plan.named
        try:
            self._put(plan.settings, plan.runtime)
        except DefiniteError as error:
            raise _failed(plan.last, error.message) from error
        finally:
            self.named = frozenset()

    def _put(self, settings: Settings, runtime: Runtime) -> None:
        before = (self.settings, self.runtime)
        self.settings, self.runtime = settings, runtime
        told: list[Listener] = []
        try:
            for listener in self._listeners:
                listener(self)
                told.append(listener)
        except DefiniteError:
            self.settings, self.runtime = before
            self.named = frozenset()
            for listener in told:
                listener(self)
            raise

    def rewrite(self) -> None:
        """Put what CONFIG SET has changed into the settings file. Raises DefiniteError; the file is then as it was.

        What lives only while the node runs (`Runtime`) is in no file; what the cluster has agreed on is in the log.
        """
        if self._config_file is None:
            raise DefiniteError("The server is running without a config file")
        from zattredis.config.rewrite import rewrite_file  # and with it a parser of TOML, for few nodes

        settings = self.settings
        changed = [name for name in SETTINGS if settings.source(name) == _FROM_CONFIG_SET]
        try:
            rewrite_file(self._config_file, {name: getattr(settings, name) for name in changed})
        except ConfigError as error:
            raise DefiniteError(f"Rewriting config file: {error}") from None
        _log.info("config_rewritten", file=self._config_file, settings=changed)


def _failed(name: bytes, reason: str) -> DefiniteError:
    return DefiniteError(f"CONFIG SET failed (possibly related to argument '{name.decode()}') - {reason}")
