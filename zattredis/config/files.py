"""Settings files: TOML, and the JSON form that Zatt used. Which of the two it is shows in the content, not in the name.

Both readers return setting name → `Found`, whose `source` names the file and the line, so that every later complaint
about the value can do so too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zattredis.config.cluster import Member, bracketed, check_host, check_members, check_node_id, default_peer_port
from zattredis.config.settings import SETTINGS, suggestion
from zattredis.errors import ConfigError

if TYPE_CHECKING:
    import tomllib

_FILE_BYTES_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """One value that was given, already of its setting's type, and where."""

    value: Any
    source: str


def read_settings_file(path: str) -> dict[str, Found]:
    """Return what the file at `path` sets. Raises ConfigError with one line that names the file and the line."""
    try:
        with Path(path).open("rb") as file:
            raw = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    if len(raw) > _FILE_BYTES_MAX:
        raise ConfigError(f"{path} is larger than {_FILE_BYTES_MAX} bytes; is it really a settings file?")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8 text; is it really a settings file?") from None
    # No TOML document starts with a brace, and every JSON object does.
    return _read_zatt(text, path) if text.lstrip().startswith("{") else _read_toml(text, path)


def _read_toml(text: str, path: str) -> dict[str, Found]:
    import tomllib  # only a node with such a file needs it; `serve` has none, and starts sooner

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_toml_complaint(error, text, path)) from None
    found = {}
    for key, value in document.items():
        place = f"{path}, line {_toml_line(text, key)}"
        spec = SETTINGS.get(key)
        if spec is None and isinstance(value, dict):
            raise ConfigError(f"{place}: settings are not grouped in tables; remove the header [{key}]")
        if spec is None:
            raise ConfigError(f"{place}: unknown setting {key!r}{suggestion(key)}")
        try:
            found[key] = Found(spec.parse(value), place)
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from None
    return found


def _toml_complaint(error: tomllib.TOMLDecodeError, text: str, path: str) -> str:
    what = str(error)
    match = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", what)
    if match is None:
        return f"{path}: {what}"
    line = int(match[1]) if match[1] else text.count("\n") + 1
    return f"{path}, line {line}: {what[: match.start()]}; write one setting a line, like port = 6379"


def _toml_line(text: str, key: str) -> int:
    name = re.escape(key)
    where = re.search(rf"^[ \t]*\[*[ \t]*([\"']?){name}\1[ \t]*[=.\]]", text, re.MULTILINE)
    return text.count("\n", 0, where.start()) + 1 if where else 1


# -- the Zatt form -----------------------------------------------------------------------------------------------


class _Pairs(dict[str, Any]):
    """A JSON object that remembers the first key it was given twice."""

    repeated: str | None = None


def _pairs(pairs: Iterable[tuple[str, Any]]) -> _Pairs:
    result = _Pairs()
    for key, value in pairs:
        if key in result:
            result.repeated = result.repeated or key
        result[key] = value
    return result


_ZATT_REMEDIES: Final = {
    "port": 'write "address": ["127.0.0.1", 5254]',
    "remote_address": 'list every node under "cluster"',
    "remote_port": 'list every node under "cluster"',
    "path_conf": "name the file with zattd -c instead",
    "save": "leave it out; nothing writes this file",
}


def _read_zatt(text: str, path: str) -> dict[str, Found]:
    try:
        document = json.loads(text, object_pairs_hook=_pairs)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}, line {error.lineno}: not valid JSON: {error.msg}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not a settings file: too deeply nested") from None
    form = _ZattForm(document, text, path)
    try:
        return form.read()
    except ConfigError as error:
        raise ConfigError(f"{form.place()}: {error}") from None


class _ZattForm:
    """One reading of a Zatt file; `key` is the key being read, which every complaint names by its line."""

    def __init__(self, document: _Pairs, text: str, path: str) -> None:
        self._document = document
        self._text = text
        self._path = path
        self._key = ""

    def place(self) -> str:
        where = re.search(rf'"{re.escape(self._key)}"\s*:', self._text) if self._key else None
        return f"{self._path}, line {self._text.count(chr(10), 0, where.start()) + 1 if where else 1}"

    def read(self) -> dict[str, Found]:
        document = self._document
        if document.repeated:
            self._key = document.repeated
            raise ConfigError(f"{document.repeated!r} is given twice")
        for key in document:
            self._key = key
            self._check_known(key)
        found: dict[str, Found] = {}
        if "storage" in document:
            self._key = "storage"
            self._put(found, "dir", SETTINGS["dir"].parse(document["storage"]))
        if "debug" in document:
            self._key = "debug"
            if not isinstance(document["debug"], bool):
                raise ConfigError("debug must be true or false")
            if document["debug"]:
                self._put(found, "log_level", "debug")
        if "cluster" in document:
            self._key = "cluster"
            self._put(found, "cluster", self._cluster(document["cluster"]))
        self._own_node(found)
        return found

    def _put(self, found: dict[str, Found], name: str, value: Any) -> None:
        found[name] = Found(value, self.place())

    def _check_known(self, key: str) -> None:
        known = ("address", "cluster", "debug", "id", "storage")
        if key in known:
            return
        if key in _ZATT_REMEDIES:
            raise ConfigError(f"{key!r} is not supported; {_ZATT_REMEDIES[key]}")
        raise ConfigError(
            f"unknown key {key!r}; a file in Zatt's JSON form may hold {', '.join(known)}; "
            "for all other settings use the TOML form (conf/zattredis.toml)"
        )

    def _own_node(self, found: dict[str, Found]) -> None:
        document = self._document
        if "address" in document:
            self._key = "address"
            own = self._member(document["address"], None)
            if "id" in document:
                raise ConfigError('"address" and "id" both say which node this is; keep one of them')
            cluster = found["cluster"].value if "cluster" in found else ()
            # A cluster written as an object gives its own ids; then the address only says which of them this node is.
            same = [member for member in cluster if (member.host, member.port) == (own.host, own.port)]
            if cluster and not same:
                raise ConfigError(f"address {own.host}:{own.port} is not in cluster; every node must be listed there")
            self._put(found, "node_id", same[0].node_id if same else own.node_id)
            if not cluster:
                self._put(found, "cluster", (own,))
        elif "id" in document:
            self._key = "id"
            value = document["id"]
            if isinstance(value, bool) or not isinstance(value, int | str):
                raise ConfigError("id must be text or a number")
            self._put(found, "node_id", check_node_id(str(value)))

    def _cluster(self, value: object) -> tuple[Member, ...]:
        if isinstance(value, _Pairs):
            if value.repeated:
                raise ConfigError(f"cluster names node {value.repeated!r} twice")
            members = [self._member(address, check_node_id(node_id)) for node_id, address in value.items()]
        elif isinstance(value, list):
            members = [self._member(address, None) for address in value]
        else:
            raise ConfigError('cluster must be a list, like [["127.0.0.1", 5254], ["127.0.0.1", 5255]]')
        if not members:
            raise ConfigError("cluster names no node; leave it out for a node on its own")
        return check_members(members)

    def _member(self, value: object, node_id: str | None) -> Member:
        match value:
            case [str(host), int(port)] if not isinstance(port, bool):
                host = check_host(host)
                if not 1 <= port <= 65_535:
                    raise ConfigError(f"port {port} is not between 1 and 65535")
            case _:
                raise ConfigError(
                    f'{self._key} must hold [host, port], like ["127.0.0.1", 5254], not {json.dumps(value)}'
                )
        # In the Zatt form the address is the node's id.
        return Member(node_id or f"{bracketed(host)}:{port}", host, port, default_peer_port(port))
