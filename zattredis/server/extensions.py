"""Extensions on one node: loaded and checked at its start, agreed on with the others, and put away at its end.

How a cluster comes to run an extension. Nodes tell each other the digests of what they have. Once the leader finds that
every member it is linked to, and a majority, has the same code, it puts that digest into the log; from that entry on
the commands work. A node whose code is another one, or that has none, stops before it applies the entry, as it does at
its start when its state holds another digest: it can install the code and go on, and has diverged nowhere.

How code is exchanged. EXTENSION RETIRE is an entry from which on the commands are refused, on every node and whatever
its code. Nodes are restarted with other code one after the other; when all have the same, the leader puts its digest
into the log. A node that was restarted before it had applied everything up to the RETIRE stops, and needs its former
code once more. A cluster of one whose log is applied to its end may change its code by a restart alone: nobody else
could come to something else.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from zattredis.commands.extension import AGREE, Described, Extension, described, install, other_code, refuse, remove
from zattredis.errors import ConfigError, DefiniteError, FatalError
from zattredis.keyspace.extensions import Agreed
from zattredis.observability.events import get_logger
from zattredis.peer.messages import ExtensionReport
from zattredis.server.clock import monotonic
from zattredis.server.units import Errand

if TYPE_CHECKING:
    from zattredis.server.node import Node

REPORT_S: Final = 0.5
_TABLE: Final = threading.Lock()
"""The command table belongs to the process, in which several nodes may start and end at once, in threads."""

_log = get_logger(room="extensions")


# -- loading -----------------------------------------------------------------------------------------------------------


Loaded = tuple[Extension, list[ModuleType]]


def load(names: Sequence[str], functions: Sequence[Callable[..., Any]] = ()) -> list[Loaded]:
    """Return the extensions that modules and single functions are, each with the user's modules that it consists of.

    Raises ConfigError: a module cannot be imported or has no commands, or a command would not be the same everywhere.
    """
    found = [_from_module(name) for name in names]
    of_module: dict[str, list[Described]] = {}
    for function in functions:
        one = described(function)
        if one is None:
            raise ConfigError(f"extensions: {function!r} is no command; decorate it with @zattredis.command(...)")
        of_module.setdefault(function.__module__, []).append(one)
    for name, commands in of_module.items():
        if name in names:
            raise ConfigError(f"extensions: {name} is given as a module, and again by some of its commands")
        found.append(_make(name, commands, sys.modules.get(name)))
    return found


def _from_module(name: str) -> Loaded:
    try:
        module = importlib.import_module(name)
    except ConfigError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise ConfigError(f"extensions: {name} cannot be imported: {type(error).__name__}: {text}") from error
    commands = [one for value in vars(module).values() if (one := described(value)) is not None]
    if not commands:
        raise ConfigError(f"extensions: {name} has no commands; decorate functions in it with @zattredis.command(...)")
    return _make(name, commands, module)


def _make(name: str, commands: Sequence[Described], module: ModuleType | None) -> Loaded:
    if " " in name or "\n" in name:
        raise ConfigError(f"extensions: {name!r} is no name of a module")
    from zattredis.server.determinism import check  # only a node that has extensions pays for it

    for one in commands:
        check(one.name, one.function)
    parts: dict[str, str] = {}
    modules: list[ModuleType] = []
    if module is not None:
        _gather(module, parts, modules)
    if module is None or name not in parts:  # typed in: the code itself is all there is
        for one in commands:
            parts[f"{name}:{one.name}"] = _hash(_source_of(one.function))
    digest = hashlib.blake2b(digest_size=16, person=b"zattredis ext")
    for part, text in sorted(parts.items()):
        digest.update(f"{part} {text}\n".encode())
    return Extension(name, digest.hexdigest(), tuple(commands)), modules


def _source_of(function: Callable[..., Any]) -> bytes:
    try:
        return inspect.getsource(function).encode()
    except (OSError, TypeError):
        code = function.__code__
        return code.co_code + repr((code.co_consts, code.co_names)).encode()


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _gather(module: ModuleType, parts: dict[str, str], modules: list[ModuleType]) -> None:
    """Add a module of the user's and all that it imports: sources by their digest, installed packages by version."""
    from importlib.metadata import PackageNotFoundError, version

    from zattredis.server.determinism import is_users

    name, file = module.__name__, getattr(module, "__file__", None)
    if name in parts or name.partition(".")[0] == "zattredis" or name.partition(".")[0] in sys.stdlib_module_names - {
        "__main__"
    }:
        return
    if not is_users(name, file) or not str(file).endswith(".py"):
        top = name.partition(".")[0]
        if file is not None and top not in parts:
            try:
                parts[top] = version(top)
            except PackageNotFoundError:
                parts[top] = "installed"
        return
    with open(str(file), "rb") as source:
        content = source.read()
    parts[name] = _hash(content)
    modules.append(module)
    for imported in _imports(module, content):
        other = sys.modules.get(imported)
        if other is not None:
            _gather(other, parts, modules)


def _imports(module: ModuleType, content: bytes) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            found += [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = (module.__package__ or "").split(".")
                base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
            found += [base, *[f"{base}.{one.name}" for one in node.names]]
    return found


# -- on a node ---------------------------------------------------------------------------------------------------------


class Extensions:
    """One per node. `install` at its start, `close` at its end."""

    def __init__(self, node: Node, functions: Sequence[Callable[..., Any]]) -> None:
        self._node = node
        self._loaded = load(node.settings.extensions, functions)
        self.digests: dict[str, str] = {extension.name: extension.digest for extension, _ in self._loaded}
        self._installed: list[Extension] = []
        self._guards: list[Any] = []
        self._heard: dict[str, dict[str, str]] = {}
        self._proposed: set[str] = set()
        self._reported_at = 0.0

    def install(self) -> None:
        """Make the commands callable. Raises ConfigError if a name is taken."""
        if not self._loaded:
            return
        from zattredis.server.determinism_guard import GuardedModules

        for extension, modules in self._loaded:
            try:
                with _TABLE:
                    install(extension)
            except ValueError as error:
                raise ConfigError(f"extensions: {error}") from error
            self._installed.append(extension)
            self._guards.append(GuardedModules(modules))

    def close(self) -> None:
        """Take the commands away again."""
        for extension in self._installed:
            with _TABLE:
                remove(extension)
        self._installed.clear()
        for guard in reversed(self._guards):
            guard.release()
        self._guards.clear()

    # -- what is agreed on -------------------------------------------------------------------------------------------

    @property
    def agreed(self) -> Mapping[str, Agreed]:
        """What the cluster has agreed on, as far as this node has applied the log."""
        return self._node.applier.registers.extensions

    @property
    def ready(self) -> bool:
        """Whether the commands of all extensions of this node can be carried out."""
        agreed = self.agreed
        return all(agreed.get(name) == Agreed(digest) for name, digest in self.digests.items())

    def check_state(self) -> None:
        """Raise FatalError if the state in the store was made by code that this node does not have."""
        core = self._node.core
        alone = not core.other_voters and core.applied_index == core.last_index
        for name, agreed in self.agreed.items():
            own = self.digests.get(name, "")
            if not agreed.retired and own != agreed.digest and not (alone and own):
                raise FatalError(other_code(name, own, agreed.digest))

    def check(self, name: str, digest: str) -> None:
        """Raise DefiniteError if a command of an extension cannot be executed now, and need not enter the log."""
        agreed = self.agreed.get(name)
        if self.digests.get(name) != digest:
            raise DefiniteError(f"this node does not have the extension {name}")
        if agreed != Agreed(digest):
            if agreed is not None and not agreed.retired:
                raise DefiniteError(f"the nodes have not agreed on the extension {name} yet")
            refuse(name, digest, agreed)

    def facts(self) -> list[dict[str, Any]]:
        """Return the reply of EXTENSION LIST."""
        rows = []
        commands = {extension.name: [one.name for one in extension.commands] for extension in self._installed}
        for name in sorted({*self.digests, *self.agreed}):
            agreed = self.agreed.get(name)
            own = self.digests.get(name, "")
            state = "waiting" if agreed is None else "retired" if agreed.retired else "active"
            if agreed is not None and not agreed.retired and own != agreed.digest:
                state = "waiting"
            rows.append({
                "name": name, "state": state, "agreed": "" if agreed is None else agreed.digest, "own": own,
                "commands": commands.get(name, []),
            })  # fmt: skip
        return rows

    # -- coming to agree ---------------------------------------------------------------------------------------------

    def report(self) -> None:
        """Tell the other members what this node has."""
        core = self._node.core
        for node_id in core.membership.members:
            if node_id != core.node_id:
                self._node.network.send(ExtensionReport(core.node_id, node_id, core.term, [*self.digests.items()]))

    def on_report(self, message: ExtensionReport) -> None:
        """Another member says what it has."""
        self._heard[message.src] = dict(message.digests)
        self.propose()

    def on_link(self, node_id: str, up: bool) -> None:
        """A member came or went: it may be another process, with other code."""
        self._heard.pop(node_id, None)
        if up and self.digests:
            self.report()

    def tick(self) -> None:
        """Called once a tick."""
        if self.digests:
            now = monotonic()
            if now - self._reported_at >= REPORT_S:
                self._reported_at = now
                self.report()
            self.propose()

    def propose(self) -> None:
        """As the leader, put into the log what all members have that are there."""
        node = self._node
        if not self.digests or not node.driver.is_leader or not node.driver.admission.ready or self.ready:
            return
        for name, digest in self.digests.items():
            agreed = self.agreed.get(name)
            if name not in self._proposed and self._may_propose(name, digest, agreed):
                self._proposed.add(name)
                self._send(name, digest)

    def _may_propose(self, name: str, digest: str, agreed: Agreed | None) -> bool:
        core, network = self._node.core, self._node.network
        if agreed is not None and (agreed.digest == digest or (not agreed.retired and core.other_voters)):
            return False  # other code is retired first; and what was retired does not come back by itself
        same = 1
        for node_id in core.membership.members:
            if node_id == core.node_id:
                continue
            heard = self._heard.get(node_id)
            if heard is not None and heard.get(name) == digest:
                same += node_id in core.other_voters
            elif network.connected(node_id):
                return False
        return 2 * same > len(core.other_voters) + 1

    def _send(self, name: str, digest: str) -> None:
        def done(_errand: Errand, _reply: bytes) -> None:
            self._proposed.discard(name)

        _log.info("extension_agreed", name=name, digest=digest)
        self._node.proposals.send(Errand(0, [AGREE, name.encode(), digest.encode()], done))
        self._node.schedule()
