"""Notices, while a command of an extension runs, what the look at its source could not see, and makes it an error.

In the modules of extensions, names that lead to clocks, randomness and the world outside are replaced by guarded ones,
which work as ever but raise while a command runs in the same thread. Sockets, processes and threads are noticed however
deep they are begun, by an audit hook. Nothing else in the process is touched, and all of it is put back when no node
uses the extension any more.

Not bounded is how long a command runs: any limit in time would be reached on one node and not on another, and counting
steps would cost every call. While one runs for seconds the node does nothing else, so a thread tells which, and where.

Not guarded are files that installed packages open: they do so once and remember it, so that refusing it would depend on
what a node did before. The error depends on the command's way alone, so every node comes to the same one.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterable
from datetime import date, datetime
from threading import Event, Thread, get_ident
from types import ModuleType
from typing import Any, Final

from zattredis.commands.extension import Guard, set_guard
from zattredis.errors import DefiniteError
from zattredis.observability.events import get_logger
from zattredis.server.determinism import ALLOWED, MODULES, fault_of, is_users, path_of

_BUILTINS: Final = ("open", "input", "breakpoint", "hash", "id", "eval", "exec", "compile")
_DATES: Final = {datetime: ("now", "utcnow", "today", "fromtimestamp"), date: ("today",)}
_AUDITED: Final = frozenset({
    "socket.__new__", "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto",
    "subprocess.Popen", "os.system", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.kill",
    "urllib.Request", "_thread.start_new_thread", "_thread.start_joinable_thread", "time.sleep",
})  # fmt: skip


class NotDeterministic(DefiniteError):
    """A command of an extension did what may come to something else on another node."""


class _Running(Guard):
    """Which thread runs which command."""

    def __init__(self) -> None:
        self.commands: dict[int, str] = {}
        self.begun = 0
        self.enter = self._enter  # type: ignore[method-assign]
        self.leave = self._leave  # type: ignore[method-assign]

    def _enter(self, command_name: str) -> None:
        self.commands[get_ident()] = command_name
        self.begun += 1

    def _leave(self) -> None:
        del self.commands[get_ident()]

    def refuse(self, what: str) -> None:
        """Raise NotDeterministic if a command runs in this thread."""
        command_name = self.commands.get(get_ident())
        if command_name is not None:
            raise NotDeterministic(f"{command_name} used {what}; nothing was written")


LOOK_S: Final = 1.0
LONG_S: Final = 3.0

_log = get_logger(room="extensions")
_running: Final = _Running()
_audits = False


class _Watch(Thread):
    """Tells of a command that does not end: the node's own thread cannot, as it is the one that is held up."""

    def __init__(self) -> None:
        super().__init__(name="zattredis-long-commands", daemon=True)
        self._ended = Event()

    def run(self) -> None:
        """Look once a second; tell after LONG_S, and again each time as long has passed as before."""
        begun, seconds, tell_at = -1, 0.0, LONG_S
        while not self._ended.wait(LOOK_S):
            running = [*_running.commands.items()]
            if not running or _running.begun != begun:
                begun, seconds, tell_at = _running.begun, 0.0, LONG_S
                continue
            seconds += LOOK_S
            if seconds >= tell_at:
                tell_at *= 2
                for thread, name in running:
                    _log.error("command_does_not_end", command=name, seconds=seconds, at=_place(thread))

    def end(self) -> None:
        """End it."""
        self._ended.set()
        self.join()


def _place(thread: int) -> str:
    """Return file and line that a thread is at, in code that is not Python's or an installed package's."""
    frame = sys._current_frames().get(thread)
    place = ""
    while frame is not None and not place:
        code = frame.f_code
        if is_users(frame.f_globals.get("__name__"), code.co_filename):
            place = f"{code.co_filename}:{frame.f_lineno} in {code.co_name}"
        frame = frame.f_back
    return place


def _on_audit(event: str, _arguments: tuple[Any, ...]) -> None:
    if event in _AUDITED and _running.commands:
        _running.refuse(f"{event}: a command may use its context and arguments only")


def _guarded(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        _running.refuse(what)
        return function(*arguments, **named)

    call.__name__ = getattr(function, "__name__", "call")
    call.__doc__ = function.__doc__
    return call


class _GuardedModule(ModuleType):
    """A module whose callables raise while a command runs; it reads from and writes to the module it stands for."""

    def __init__(self, module: ModuleType) -> None:
        super().__init__(module.__name__, module.__doc__)
        object.__setattr__(self, "_guarded_module", module)

    def __getattr__(self, name: str) -> Any:
        return guarded(getattr(object.__getattribute__(self, "_guarded_module"), name))

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(object.__getattribute__(self, "_guarded_module"), name, value)

    def __dir__(self) -> Iterable[str]:
        return dir(object.__getattribute__(self, "_guarded_module"))


class _GuardedType(type):
    """The type of a guarded class: instances of the class it guards are its instances."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.__mro__[1])

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls.__mro__[1])


def _guarded_date(kind: type[date]) -> type:
    members: dict[str, Any] = {name: getattr(kind, name) for name in ("__doc__", "__module__", "__qualname__")}
    for name in _DATES[kind]:
        what = fault_of(getattr(kind, name)) or f"{kind.__name__}.{name}"
        members[name] = staticmethod(_guarded(getattr(kind, name), what))
    members["__new__"] = lambda cls, *arguments, **named: kind(*arguments, **named)
    return _GuardedType(kind.__name__, (kind,), members)


def _guarded_class(kind: type) -> type | None:
    """Return a class that cannot be instantiated while a command runs, of which instances of `kind` are instances."""
    if type(kind) is not type or issubclass(kind, BaseException):
        return None
    what = path_of(kind)
    if what in ALLOWED or (remedy := MODULES.get(what.partition(".")[0])) is None:
        return None
    members = {name: getattr(kind, name) for name in ("__doc__", "__module__", "__qualname__")}
    members["__init__"] = _guarded(kind.__init__, f"{what}: {remedy}")
    try:
        return _GuardedType(kind.__name__, (kind,), members)
    except TypeError:
        return None  # it cannot be derived from


_made: dict[int, Any] = {}
"""id of an original (which lives on in what was made of it) → its guarded form."""


def guarded(value: Any) -> Any:
    """Return the guarded form of a module, class or function that a command may not use; anything else as it is."""
    made = _made.get(id(value))
    if made is not None:
        return made
    if isinstance(value, ModuleType):
        top = value.__name__.partition(".")[0]
        if (top in MODULES or top == "datetime") and value.__name__ not in ("os.path", "posixpath", "urllib.parse"):
            made = _GuardedModule(value)
    elif isinstance(value, type):
        made = _guarded_date(value) if value in _DATES else _guarded_class(value)
    elif callable(value):
        what = fault_of(value)
        if what is not None:
            made = _guarded(value, what)
    if made is None:
        return value
    _made[id(value)] = made
    _made[id(made)] = made
    return made


class GuardedModules:
    """The modules of extensions in which names were replaced; `release` puts them back."""

    def __init__(self, modules: Iterable[ModuleType]) -> None:
        global _audits
        set_guard(_running)
        if not _audits:
            _audits = True
            sys.addaudithook(_on_audit)  # for good: there is no way to remove one; it does nothing outside of commands
        self._watch = _Watch()
        self._watch.start()
        self._replaced: list[tuple[dict[str, Any], str, Any]] = []
        for module in modules:
            self._replace(vars(module))

    def _replace(self, names: dict[str, Any]) -> None:
        for name, value in [*names.items()]:
            if name.startswith("__"):
                continue
            made = guarded(value)
            if made is not value:
                self._replaced.append((names, name, value))
                names[name] = made
        for name in _BUILTINS:
            if name not in names:
                self._replaced.append((names, name, None))
                names[name] = guarded(getattr(builtins, name))

    def release(self) -> None:
        """Put back what was replaced."""
        for names, name, value in reversed(self._replaced):
            if value is None:
                names.pop(name, None)
            else:
                names[name] = value
        self._replaced.clear()
        self._watch.end()
