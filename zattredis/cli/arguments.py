"""Argument parsing shared by the commands: one line for a mistake, and every setting as a flag."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from zattredis.config import CONFIG_VARIABLE, SECTIONS, SETTINGS, Settings, SettingSpec, load_settings
from zattredis.errors import NodeRemoved, StateDiverged

_STDERR: Final = 2
EXIT_DONE: Final = 0
EXIT_FATAL: Final = 1
EXIT_USAGE: Final = 2
EXIT_REMOVED: Final = 3
"""The node was removed from its cluster: starting it again is of no use."""
EXIT_DIVERGED: Final = 4
"""The node was fenced: its state differs from what a majority holds. Starting it again repairs it from the others."""

_METAVARS: Final = {
    "int": "N",
    "bytes": "BYTES",
    "port": "PORT",
    "port0": "PORT",
    "tls_protocols": "VERSIONS",
    "str": "TEXT",
    "path": "DIR",
    "node_id": "ID",
    "host": "HOST",
    "bind": "ADDRESS",
    "binds": "ADDRESSES",
    "cluster": "MEMBERS",
    "seeds": "ADDRESSES",
}


def exit_code_of(error: Exception) -> int:
    """Return the exit code of a process that ends with `error`."""
    if isinstance(error, StateDiverged):
        return EXIT_DIVERGED
    return EXIT_REMOVED if isinstance(error, NodeRemoved) else EXIT_FATAL


def complain(program: str, text: object) -> None:
    """Print one line of complaint on standard error. Where that cannot be written the exit code has to do."""
    with contextlib.suppress(OSError):
        print(f"{program}: {text}", file=sys.stderr, flush=True)


def open_standard_streams() -> None:
    """Put the null device where standard input, output or error is closed. To be called before anything is opened.

    The next file or socket would get that number, and whatever a library then has to say would be written into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", _STDERR, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 (for good)


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose every complaint is one line with a remedy, and which never guesses abbreviations."""

    def __init__(
        self, prog: str, description: str, epilog: str = "", usage: str | None = None, **further: Any
    ) -> None:
        super().__init__(
            prog=prog,
            usage=usage,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **further,
        )

    def error(self, message: str) -> NoReturn:
        complain(self.prog, f"{message}; see {self.prog} --help")
        raise SystemExit(EXIT_USAGE)

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Return the parsed arguments. Raises SystemExit(2) after one line, which names the nearest known flag."""
        arguments, unknown = self.parse_known_args(argv)
        if unknown:
            word = unknown[0].partition("=")[0]
            near = difflib.get_close_matches(word, self._option_string_actions, 1)
            hint = f"; did you mean {near[0]}?" if near and word.startswith("-") else ""
            kind = "flag" if word.startswith("-") else "argument"
            self.error(f"unknown {kind} {word}{hint}")
        return arguments


def add_setting_flags(parser: argparse.ArgumentParser, sections: Sequence[str] = tuple(SECTIONS)) -> None:
    """Give `parser` one flag a setting, grouped by section, and -c/--config."""
    parser.add_argument(
        "-c", "--config", metavar="FILE", dest="config_file", help="settings file (TOML, or Zatt's JSON form)"
    )
    for section in sections:
        group = parser.add_argument_group(SECTIONS[section].lower())
        for spec in SETTINGS.values():
            if spec.section == section:
                metavar = _METAVARS.get(spec.kind, "|".join(spec.choices))
                group.add_argument(*spec.flags, dest=spec.name, metavar=metavar, help=_help(spec))


def _help(spec: SettingSpec) -> str:
    default = spec.derived or (spec.format(spec.default) or "none")
    description = spec.description[0].lower() + spec.description[1:].removesuffix(".")
    return f"{description} (default: {default})".replace("%", "%%")


def config_file_of(arguments: argparse.Namespace) -> str | None:
    """Return the absolute path of the settings file, or None without one."""
    path = arguments.config_file or os.environ.get(CONFIG_VARIABLE)
    return os.path.abspath(path) if path else None


def settings_from(arguments: argparse.Namespace) -> Settings:
    """Return the settings that these arguments, the environment and the file give. Raises ConfigError."""
    flags = {name: getattr(arguments, name, None) for name in SETTINGS}
    given = {name: text for name, text in flags.items() if text is not None}
    return load_settings(given, os.environ, arguments.config_file)
