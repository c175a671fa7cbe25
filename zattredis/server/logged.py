"""A batch as the log holds it, for nodes that have none of its units at hand: its commands and its keys."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from zattredis.commands.table import CommandSpec, Kind
from zattredis.server.executor import resolve_logged
from zattredis.server.reads import PREFETCH_WORDS_MAX, add_keys

decode_items: Final = msgspec.msgpack.Decoder().decode


def specs_of(item: list[Any]) -> list[CommandSpec | None]:
    """Return the spec of each command of an item, None for what is no write known here."""
    argvs = item[1] if isinstance(item[0], int) else [argv for _, argv in item[1]]
    specs: list[CommandSpec | None] = []
    known: dict[bytes, CommandSpec] = {}
    for argv in argvs:
        spec = known.get(argv[0])
        if spec is None:
            spec = resolve_logged(argv)
            if spec is not None and spec.kind != Kind.WRITE:
                spec = None
            elif spec is not None and spec.words == 1:
                known[argv[0]] = spec
        specs.append(spec)
    return specs


def logged_keys(items: list[Any], specs: list[list[CommandSpec | None]]) -> dict[int, list[bytes]]:
    """Return database → keys: everything that logged items will look at first."""
    wanted: dict[int, list[bytes]] = {}
    for item, item_specs in zip(items, specs, strict=True):
        if isinstance(item[0], int):
            if item[1]:
                add_keys(wanted.setdefault(item[0], []), item_specs, item[1])
            continue
        for db, key, _ in item[0]:
            wanted.setdefault(db, []).append(key)
        for spec, (db, argv) in zip(item_specs[:PREFETCH_WORDS_MAX], item[1], strict=False):
            if spec is not None and spec.keys.first and len(argv) <= PREFETCH_WORDS_MAX:
                wanted.setdefault(db, []).extend(spec.keys.keys(argv))
    return wanted
