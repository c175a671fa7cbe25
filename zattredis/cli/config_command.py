"""`zattd config`: show the settings that are in force, or print a settings file that explains every one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from zattredis.cli.arguments import EXIT_DONE, OneLineParser, add_setting_flags, settings_from
from zattredis.config import SECTIONS, SETTINGS, Settings, SettingSpec

_PROGRAM: Final = "zattd config"

_EXAMPLE_HEAD: Final = """\
# Settings of zattredis. Every line shows a default; take away the "# " in front of what you want to change.
#
#   zattd --config zattredis.toml                 start with this file
#   zattd config show --config zattredis.toml     what is in force, and where each value comes from
#
# A setting may also be given as environment variable (ZATTREDIS_PORT=7001) or as flag (--port 7001).
# Later wins: default, this file, environment, flag. Sizes are numbers of bytes, or text with a unit: "64MiB".
"""


def main(argv: list[str]) -> int:
    """Run `zattd config ARGV` and return the exit code. Raises ConfigError."""
    parser = OneLineParser(
        _PROGRAM,
        "Show the settings a node would start with, or print an example file.",
        "examples:\n"
        "  zattd config show                           every value and where it came from\n"
        "  zattd config show -c conf/zattredis.toml --port 7001\n"
        "  zattd config show -o json                   the same for programs\n"
        "  zattd config example > zattredis.toml       a file that explains every setting",
        "zattd config [-h] {show,example} [-o {text,json}] [-c FILE] [any flag of zattd]",
    )
    parser.add_argument("what", choices=("show", "example"), help="show: what is in force; example: a commented file")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of `show`")
    add_setting_flags(parser)
    arguments = parser.parse(argv)
    if arguments.what == "example":
        print(example_file(), end="")
    elif arguments.output == "json":
        print(json.dumps(as_json(settings_from(arguments)), indent=2))
    else:
        print("\n".join(as_text(settings_from(arguments))))
    return EXIT_DONE


def as_text(settings: Settings) -> Iterator[str]:
    """Yield the lines of `zattd config show`: TOML, with the source of every value as its comment, secrets hidden."""
    for section, title in SECTIONS.items():
        yield f"# {title}"
        rows = [spec for spec in SETTINGS.values() if spec.section == section]
        lines = [f"{spec.name} = {_shown(spec, settings)}" for spec in rows]
        width = min(60, max(map(len, lines)))
        for spec, line in zip(rows, lines, strict=True):
            yield f"{line:<{width}}  # {settings.source(spec.name)}"
        yield ""


def _shown(spec: SettingSpec, settings: Settings) -> str:
    value = getattr(settings, spec.name)
    return f'"{spec.show(value)}"' if spec.secret else spec.toml(value)


def as_json(settings: Settings) -> dict[str, dict[str, object]]:
    """Return name → value and source, secrets hidden."""
    result: dict[str, dict[str, object]] = {}
    for name, spec in SETTINGS.items():
        value = getattr(settings, name)
        plain = value if isinstance(value, int) else spec.show(value)
        result[name] = {"value": plain, "source": settings.source(name)}
    return result


def example_file() -> str:
    """Return the settings file that explains every setting and changes none; conf/zattredis.toml is this text."""
    lines = [_EXAMPLE_HEAD]
    for section, title in SECTIONS.items():
        lines += [f"\n# {'-' * 6} {title} {'-' * (100 - len(title))}\n"]
        for spec in SETTINGS.values():
            if spec.section == section:
                lines += [*_explained(spec), ""]
    return "\n".join(lines)


def _explained(spec: SettingSpec) -> Iterator[str]:
    yield f"# {spec.description}"
    if spec.choices:
        yield f"# One of: {', '.join(spec.choices)}."
    elif spec.kind == "bytes":
        low, high, default = map(readable_bytes, (spec.low, spec.high, spec.default))
        yield f"# {low} to {high}; the default is {default}."
    elif spec.kind == "int" and spec.low < spec.high:
        yield f"# {spec.low} to {spec.high}."
    if spec.derived:
        yield f"# Default: {spec.derived}."
    yield f"# {spec.name} = {_EXAMPLES.get(spec.name) or spec.toml(spec.default)}"


_EXAMPLES: Final = {
    "node_id": '"n1"',
    "cluster": '"n1=10.0.0.1:6379,n2=10.0.0.2:6379,n3=10.0.0.3:6379"',
    "host": '"127.0.0.1"',
    "port": "6379",
    "peer_port": "16379",
    "bind": '"127.0.0.1"',
    "peer_bind": '"127.0.0.1"',
}


def readable_bytes(count: int) -> str:
    """Return `count` in the largest unit that divides it: 64 MiB."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count and count % size == 0:
            return f"{count // size} {unit}"
    return str(count)
