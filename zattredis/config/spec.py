"""What is known of one setting, and how a value of each kind is read from text or from a file."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any, Final

from zattredis.config.cluster import (
    Member,
    Seed,
    check_host,
    check_node_id,
    parse_cluster,
    parse_port,
    parse_seeds,
    split_host_port,
)
from zattredis.errors import ConfigError

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_HIDDEN: Final = "(hidden)"
_SIZE: Final = re.compile(r"(\d+)\s*(|b|kb|kib|mb|mib|gb|gib)", re.IGNORECASE)
_BOOLEANS: Final = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False,
                    "0": False}  # fmt: skip
_SIZE_FACTORS: Final = {"": 1, "b": 1, "kb": KIB, "kib": KIB, "mb": MIB, "mib": MIB, "gb": GIB, "gib": GIB}


@dataclass(frozen=True, slots=True)
class SettingSpec:
    """What is known of one setting; derived from a field of `Settings`, see `SETTINGS`.

    `kind` is `int`, `bytes` (an int that may be written 64MiB), `bool` (in text: yes or no), `port`, `port0` (0 for
    none), `str`, `path`, `choice`, `tls_protocols`, `node_id`, `host`, `bind`, `binds`, `cluster`, `seeds`, `lines` or
    `modules`. `config_name` is its name in CONFIG GET ("" = not shown). `hot` settings may be changed by CONFIG SET on
    a running node. `derived` says what a default that depends on other settings will be.
    """

    name: str
    kind: str
    section: str
    description: str
    default: Any
    low: int = 0
    high: int = 0
    choices: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    config_name: str = ""
    hot: bool = False
    secret: bool = False
    derived: str = ""

    @property
    def environment(self) -> str:
        """The environment variable of this setting."""
        return f"ZATTREDIS_{self.name.upper()}"

    def parse(self, value: object) -> Any:
        """Return `value`, text or a value from a TOML or JSON file, as this setting's type.

        Raises ConfigError, which names the setting and says what it must be.
        """
        try:
            return _PARSERS[self.kind](self, value)
        except ConfigError as error:
            raise ConfigError(f"{self.name}: {error}") from None

    def format(self, value: Any) -> str:
        """Return `value` as text that `parse` reads back; secrets come out as they are (see `show`)."""
        if isinstance(value, tuple):
            if self.kind == "lines":
                return "; ".join(value)
            return ",".join(str(part) for part in value)
        if isinstance(value, bool):
            return "yes" if value else "no"
        return str(value)

    def show(self, value: Any) -> str:
        """Return `value` for a person to read, a secret that is set hidden."""
        return _HIDDEN if self.secret and value else self.format(value)

    def toml(self, value: Any) -> str:
        """Return `value` as it stands in a TOML file."""
        if self.kind in ("int", "bytes", "port", "port0"):
            return str(value)
        if self.kind == "bool":
            return "true" if value else "false"
        text = self.format(value).replace("\\", "\\\\").replace('"', '\\"')
        text = _CONTROL.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text)
        return f'"{text}"'


def split_bind(text: str) -> tuple[str, str]:
    """Like `split_host_port`, and a bare IPv6 address (no port possible) is taken too."""
    if text.count(":") > 1 and not text.startswith("["):
        return text, ""
    return split_host_port(text)


# -- one parser a kind -------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"must be text in quotes, not {_type_name(value)}")
    return value


def _type_name(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a fraction", list: "a list", dict: "a table", str: "text"}
    return names.get(type(value), f"a {type(value).__name__}")


def _parse_str(spec: SettingSpec, value: object) -> str:
    text = _text(value)
    if "\0" in text or "\n" in text:
        raise ConfigError("must not hold a line break or a zero byte")
    if spec.kind == "path" and not text.strip():
        raise ConfigError("must not be empty")
    return text


def _parse_int(spec: SettingSpec, value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,18}\s*", value, re.ASCII):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        shown = repr(value) if isinstance(value, str) else _type_name(value)
        raise ConfigError(f"must be a whole number, not {shown}")
    return _in_range(spec, value)


def parse_size(text: str) -> int:
    """Return the number of bytes in a text like 67108864 or 64MiB. Raises ConfigError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or len(match[1]) > 18:
        raise ConfigError(f"must be a number of bytes, like 67108864 or 64MiB, not {text!r}")
    return int(match[1]) * _SIZE_FACTORS[match[2].lower()]


def _parse_bool(_spec: SettingSpec, value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _BOOLEANS:
        return _BOOLEANS[value.strip().lower()]
    raise ConfigError(f"must be yes or no, not {value!r}")


def _parse_bytes(spec: SettingSpec, value: object) -> int:
    if isinstance(value, str):
        value = parse_size(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"must be a number of bytes, not {_type_name(value)}")
    return _in_range(spec, value)


def _in_range(spec: SettingSpec, value: int) -> int:
    if spec.low == spec.high and value != spec.low:
        raise ConfigError(f"must be {spec.low}, not {value}")
    if not spec.low <= value <= spec.high:
        raise ConfigError(f"must be between {spec.low} and {spec.high}, not {value}")
    return value


def _parse_port(_spec: SettingSpec, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ConfigError(f"must be a port number, not {_type_name(value)}")
    return parse_port(str(value).strip())


def _parse_port_or_none(spec: SettingSpec, value: object) -> int:
    if isinstance(value, int | str) and not isinstance(value, bool) and str(value).strip() == "0":
        return 0
    return _parse_port(spec, value)


_TLS_PROTOCOLS: Final = {"tlsv1.2": "TLSv1.2", "tlsv1.3": "TLSv1.3"}


def _parse_tls_protocols(_spec: SettingSpec, value: object) -> str:
    words = re.split(r"[,\s]+", _text(value).strip().lower())
    unknown = [word for word in words if word not in _TLS_PROTOCOLS]
    if unknown:
        raise ConfigError(f"must be TLSv1.2, TLSv1.3 or both, not {value!r}")
    return " ".join(shown for word, shown in _TLS_PROTOCOLS.items() if word in words)


def _parse_choice(spec: SettingSpec, value: object) -> str:
    if isinstance(value, bool) and spec.choices == ("yes", "no"):
        return "yes" if value else "no"
    text = _text(value).strip().lower()
    if text not in spec.choices:
        near = difflib.get_close_matches(text, spec.choices, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"must be one of {', '.join(spec.choices)}, not {value!r}{hint}")
    return text


def _parse_node_id(_spec: SettingSpec, value: object) -> str:
    return check_node_id(_text(value).strip())


def _parse_host(_spec: SettingSpec, value: object) -> str:
    return check_host(_text(value).strip().removeprefix("[").removesuffix("]"))


def _parse_bind(_spec: SettingSpec, value: object) -> str:
    text = _text(value).strip()
    host, port = split_bind(text)
    check_host(host, listening=True)
    if port:
        parse_port(port)
    return text


def _parse_binds(spec: SettingSpec, value: object) -> tuple[str, ...]:
    parts = value if isinstance(value, list) else re.split(r"[,\s]+", _text(value).strip())
    binds = tuple(_parse_bind(spec, part) for part in parts if part != "")
    if not binds:
        raise ConfigError("must name at least one address")
    if len(set(binds)) < len(binds):
        raise ConfigError("names an address twice")
    return binds


def _parse_cluster(_spec: SettingSpec, value: object) -> tuple[Member, ...]:
    if isinstance(value, list):
        members = parse_cluster(_text(part) for part in value)
    else:
        members = parse_cluster(_text(value))
    if not members:
        raise ConfigError("names no member; leave it out for a node on its own")
    return members


def _parse_lines(spec: SettingSpec, value: object) -> tuple[str, ...]:
    parts = value if isinstance(value, list) else _text(value).split(";")
    lines = [_parse_str(spec, part) for part in parts]
    return tuple(line.strip() for line in lines if line.strip())


def _parse_seeds(_spec: SettingSpec, value: object) -> tuple[Seed, ...]:
    return parse_seeds([_text(part) for part in value] if isinstance(value, list) else _text(value))


def _parse_modules(_spec: SettingSpec, value: object) -> tuple[str, ...]:
    parts = value if isinstance(value, list) else re.split(r"[,\s]+", _text(value).strip())
    names = tuple(_text(part).strip() for part in parts if part != "")
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ConfigError(f"{name!r} is no name of a module, like myapp.commands")
    if len(set(names)) < len(names):
        raise ConfigError("names a module twice")
    return names


_PARSERS: Final = {
    "str": _parse_str,
    "path": _parse_str,
    "int": _parse_int,
    "bool": _parse_bool,
    "bytes": _parse_bytes,
    "port": _parse_port,
    "port0": _parse_port_or_none,
    "tls_protocols": _parse_tls_protocols,
    "choice": _parse_choice,
    "node_id": _parse_node_id,
    "host": _parse_host,
    "bind": _parse_bind,
    "binds": _parse_binds,
    "cluster": _parse_cluster,
    "seeds": _parse_seeds,
    "lines": _parse_lines,
    "modules": _parse_modules,
}
