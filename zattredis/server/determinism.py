"""What would make nodes that apply the same log diverge, looked for in the source of extensions before they are used.

Commands of extensions may depend on their context and arguments alone. Read here are the functions of the commands and
every function of the user's that they name, as far as their source is at hand: calls of clocks, randomness and the
world outside, iteration over sets, and changes of what lives in the process instead of the cluster's data. Names are
looked up where the functions would look them up, so that aliases do not hide anything. What cannot be seen in the
source, `server.determinism_guard` notices when it happens.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import sysconfig
import textwrap
from collections.abc import Callable, Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from zattredis.errors import ConfigError

_TIME: Final = "use ctx.now_ms"
_RANDOM: Final = "use ctx.random"
_WORLD: Final = "a command may use its context and arguments only"
_ORDER: Final = "use sorted(...)"
_KEEP: Final = "keep what is to last in keys"

MODULES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("time",), _TIME),
    **dict.fromkeys(("random", "secrets", "uuid"), _RANDOM),
    **dict.fromkeys(
        ("socket", "threading", "_thread", "multiprocessing", "concurrent", "asyncio", "subprocess", "select", "ssl",
         "urllib", "http", "requests", "httpx", "aiohttp", "redis", "tempfile", "shutil", "signal", "ctypes", "io",
         "platform", "locale", "zoneinfo", "weakref", "gc", "contextvars", "os", "posix", "sys", "pathlib"),
        _WORLD,
    ),
}  # fmt: skip
"""Module → remedy: nothing of it may be called, but what ALLOWED names."""

ALLOWED: Final = frozenset({
    "uuid.UUID", "uuid.uuid3", "uuid.uuid5", "io.BytesIO", "io.StringIO", "urllib.parse", "time.gmtime",
    "time.strptime", "os.path", "sys.maxsize", "sys.byteorder", "sys.intern", "pathlib.PurePath",
    "pathlib.PurePosixPath", "pathlib.PurePathBase", "time.struct_time", "sys.getsizeof",
})  # fmt: skip

CALLS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today",
                     "datetime.date.today"), _TIME),
    "datetime.datetime.fromtimestamp": "it uses the node's time zone",
    "datetime.datetime.astimezone": "it uses the node's time zone",
    **dict.fromkeys(("builtins.open", "builtins.input", "builtins.breakpoint", "builtins.__import__"), _WORLD),
    **dict.fromkeys(("builtins.eval", "builtins.exec", "builtins.compile"), _WORLD),
    "builtins.hash": "it is another one in each process; use zlib.crc32 or hashlib",
    "builtins.id": "it is another one in each process",
}  # fmt: skip
"""What is called by name, and its remedy."""

_ORDERED: Final = frozenset({"list", "tuple", "iter", "enumerate", "zip", "map", "filter", "next", "reversed", "dict"})
"""Builtins whose outcome depends on the order of what they are given."""
_SET_METHODS: Final = frozenset({"union", "intersection", "difference", "symmetric_difference", "copy"})
_MUTATORS: Final = frozenset({
    "append", "extend", "insert", "pop", "remove", "clear", "update", "setdefault", "add", "discard", "popitem", "sort",
    "reverse", "appendleft", "popleft",
})  # fmt: skip
_STDLIB: Final = tuple(sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib"))


def check(command_name: str, function: Callable[..., Any]) -> None:
    """Raise ConfigError, with file, line and remedy, if a command would not come to the same on every node."""
    seen: set[int] = set()
    waiting: list[FunctionType] = [function] if isinstance(function, FunctionType) else []
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        found = _parse(one)
        if found is None:
            continue
        tree, file, line = found
        reading = _Reading(one, tree)
        for node, what in reading.faults():
            where = f"{file}:{line + getattr(node, 'lineno', 1) - 1}"
            raise ConfigError(f"{where}: {command_name} cannot be the same on every node: {what}")
        waiting += reading.named


def is_users(module_name: str | None, file: str | None) -> bool:
    """Return whether code is the user's own: not of Python, of an installed package, or of zattredis."""
    if not file or (module_name or "").partition(".")[0] == "zattredis":
        return False
    return not file.startswith(("<frozen", *_STDLIB))


def _parse(function: FunctionType) -> tuple[ast.AST, str, int] | None:
    try:
        lines, line = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return None  # typed in, or made by code: only the guard can watch it
    return tree, inspect.getsourcefile(function) or "?", line


_MOVED: Final = {"_io": "io", "_asyncio": "asyncio", "pathlib._local": "pathlib", "pathlib._abc": "pathlib"}
"""What later Pythons say of where something is → where a user finds it."""


def path_of(value: object) -> str:
    """Return where something callable, or a module, comes from: `time.time`, `datetime.datetime.now`."""
    if isinstance(value, ModuleType):
        return value.__name__
    owner = getattr(value, "__self__", None)
    name = getattr(value, "__qualname__", getattr(value, "__name__", ""))
    if isinstance(value, BuiltinFunctionType | MethodType) and owner is not None and not isinstance(owner, ModuleType):
        kind = owner if isinstance(owner, type) else type(owner)
        if kind.__module__ != "builtins":
            return _path(kind.__module__, f"{kind.__qualname__}.{getattr(value, '__name__', '')}")
    module = getattr(value, "__module__", None) or (owner.__name__ if isinstance(owner, ModuleType) else "")
    return _path(module, name)


def _path(module: str, name: str) -> str:
    """Return module and name as they are documented, and as Python 3.11 has them."""
    if module == "posix" and name.startswith("_path_"):  # what of os.path is no Python any more
        return f"posixpath.{name.removeprefix('_path_').removesuffix('_ex')}"
    module = _MOVED.get(module, module)
    return f"{module}.{name}" if module else ""


def fault_of(value: object) -> str | None:
    """Return why something may not be called by a command, or None."""
    path = path_of(value)
    remedy = CALLS.get(path)
    if remedy is None and not isinstance(value, ModuleType):
        if path in ALLOWED or any(path.startswith(allowed + ".") for allowed in ALLOWED):
            return None
        remedy = MODULES.get(path.partition(".")[0])
        if path.startswith(("posixpath.", "genericpath.")):
            return None
    return None if remedy is None else f"{path.removeprefix('builtins.')}: {remedy}"


class _Reading:
    """One function, read. `named` are the user's functions that it names."""

    def __init__(self, function: FunctionType, tree: ast.AST) -> None:
        self._function = function
        self._body = next((node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Lambda)), tree)
        self._locals = set(function.__code__.co_varnames) | set(function.__code__.co_cellvars)
        for node in ast.walk(self._body):  # those of comprehensions and inner functions, too
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self._locals.add(node.id)
            elif isinstance(node, ast.arg):
                self._locals.add(node.arg)
        self._cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
        self._sets: set[str] = set()
        self._sets = self._names_of_sets()
        self.named: list[FunctionType] = []

    def faults(self) -> Iterator[tuple[ast.AST, str]]:
        """Yield (node, what is wrong with it)."""
        inside = [*self._body.body] if isinstance(self._body, ast.FunctionDef) else [self._body]
        for top in inside:
            for node in ast.walk(top):
                what = self._fault(node)
                if what is not None:
                    yield node, what

    def _fault(self, node: ast.AST) -> str | None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            return "it imports inside; import at the top of the module"
        if isinstance(node, ast.Global):
            return f"it changes the module's {', '.join(node.names)}; {_KEEP}"
        if isinstance(node, ast.For) and self._is_set(node.iter):
            return f"it goes through a set, whose order varies; {_ORDER}"
        if isinstance(node, ast.ListComp | ast.DictComp | ast.GeneratorExp):
            if any(self._is_set(one.iter) for one in node.generators) and not isinstance(node, ast.GeneratorExp):
                return f"it goes through a set, whose order varies; {_ORDER}"
        elif isinstance(node, ast.Starred) and self._is_set(node.value):
            return f"it spreads a set, whose order varies; {_ORDER}"
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.Delete):
            return self._outside(node)
        elif isinstance(node, ast.Call):
            return self._call(node)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            return self._name(node)
        return None

    def _name(self, node: ast.Name | ast.Attribute) -> str | None:
        value = self._value(node)
        if value is None:
            return None
        self._remember(value)
        if isinstance(value, type):
            path = path_of(value)
            remedy = None if path in ALLOWED else MODULES.get(path.partition(".")[0])
            return None if remedy is None else f"it uses {path}: {remedy}"
        if callable(value):
            what = fault_of(value)
            return None if what is None else f"it uses {what}"
        return None

    def _remember(self, value: object) -> None:
        if isinstance(value, FunctionType):
            code = value.__code__
            if is_users(value.__module__, code.co_filename):
                self.named.append(value)
        elif isinstance(value, type) and is_users(value.__module__, _file_of(value)):
            for member in vars(value).values():
                inner = getattr(member, "__func__", getattr(member, "fget", member))
                if isinstance(inner, FunctionType):
                    self.named.append(inner)

    def _call(self, node: ast.Call) -> str | None:
        called = node.func
        if isinstance(called, ast.Name) and called.id in _ORDERED and called.id not in self._locals:
            if any(self._is_set(argument) for argument in node.args):
                return f"{called.id}(...) of a set, whose order varies; {_ORDER}"
        elif isinstance(called, ast.Attribute):
            if called.attr == "join" and any(self._is_set(argument) for argument in node.args):
                return f"it joins a set, whose order varies; {_ORDER}"
            if called.attr == "pop" and self._is_set(called.value):
                return f"it pops from a set, whose order varies; {_ORDER}"
            value = self._value(called.value)
            if called.attr in _MUTATORS and isinstance(value, list | dict | set | bytearray):
                return f"it changes {ast.unparse(called.value)}, which lives in this process; {_KEEP}"
        return None

    def _outside(self, node: ast.Assign | ast.AugAssign | ast.Delete) -> str | None:
        targets = [node.target] if isinstance(node, ast.AugAssign) else node.targets
        for target in targets:
            if isinstance(target, ast.Subscript | ast.Attribute):
                base: ast.expr = target
                while isinstance(base, ast.Subscript | ast.Attribute):
                    base = base.value
                if isinstance(base, ast.Name) and self._value(base) is not None:
                    return f"it changes {base.id}, which lives in this process; {_KEEP}"
        return None

    def _value(self, node: ast.expr) -> Any:
        """Return what a name outside of the function stands for, None if that is not known."""
        if isinstance(node, ast.Attribute):
            base = self._value(node.value)
            if isinstance(base, ModuleType | type):
                return getattr(base, node.attr, None)
            return None
        if not isinstance(node, ast.Name) or node.id in self._locals:
            return None
        if node.id in self._cells:
            try:
                return self._cells[node.id].cell_contents
            except ValueError:
                return None
        function = self._function
        return function.__globals__.get(node.id, getattr(builtins, node.id, None))

    def _is_set(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Set | ast.SetComp):
            return True
        if isinstance(node, ast.Name):
            return node.id in self._sets if node.id in self._locals else isinstance(self._value(node), set | frozenset)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor):
            return self._is_set(node.left) or self._is_set(node.right)
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name):
                return called.id in ("set", "frozenset") and called.id not in self._locals
            return isinstance(called, ast.Attribute) and called.attr in _SET_METHODS and self._is_set(called.value)
        return False

    def _names_of_sets(self) -> set[str]:
        """Return the local names that only ever stand for sets."""
        found: dict[str, bool] = {}
        for node in ast.walk(self._body):
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    if isinstance(target, ast.Name):
                        found[target.id] = found.get(target.id, True) and self._is_set(node.value)
        return {name for name, always in found.items() if always}


def _file_of(kind: type) -> str | None:
    try:
        return inspect.getsourcefile(kind)
    except (OSError, TypeError):
        return None
