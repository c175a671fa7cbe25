"""Keyword arguments of `serve` and `Node` → settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, Final

from zattredis.config import Settings, make_settings
from zattredis.errors import ConfigError

ExtensionSource = str | ModuleType | Callable[..., Any]
"""The name of a module with commands, the module, or one command."""

QUIET: Final = "warning"
_CHOSEN: Final = ("node_id", "cluster", "join", "host", "port", "peer_port", "bind", "peer_bind")


def settings_for(values: dict[str, Any]) -> Settings:
    """Return settings from keyword arguments, quieter than a server's. Raises ConfigError, or TypeError for a name."""
    return make_settings(**{"log_level": QUIET, **values})


def refuse_chosen(values: dict[str, Any], nodes: int) -> None:
    """Raise ConfigError for a setting that must differ between the nodes of a cluster."""
    for name in _CHOSEN:
        if name in values:
            raise ConfigError(f"{name}: serve(nodes={nodes}) chooses it for each of its nodes; leave it out")


def split_extensions(sources: Iterable[ExtensionSource]) -> tuple[list[str], list[Callable[..., Any]]]:
    """Return the names of modules with commands, and the single commands. Raises TypeError for anything else."""
    modules: list[str] = []
    functions: list[Callable[..., Any]] = []
    if isinstance(sources, str):
        raise TypeError(f"extensions is a list: extensions=[{sources!r}]")
    for source in sources:
        if isinstance(source, str):
            modules.append(source)
        elif isinstance(source, ModuleType):
            modules.append(source.__name__)
        elif callable(source):
            functions.append(source)
        else:
            raise TypeError(f"an extension is a module, its name, or a command, not {source!r}")
    return modules, functions
