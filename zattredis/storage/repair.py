"""What a data directory remembers so that a damaged node can be filled again from the others.

    members       who belonged to the cluster when this was last known: only says whom to ask, nothing is decided by it
    damaged       what was found wrong while the node ran, so that the next start repairs it before anything else
    set-aside/    the log (and marks) of before the last repair; of a node that was fenced, its state, too

A repair (`set_aside`) leaves the directory as that of a node that lost its disk: empty stores, and the duty to wait
before it votes (`rejoining`, see `server.rejoin`) is written first. So wherever it is cut short, the next start finds
either the damage again or an empty log under that duty. What is set aside is never needed by the program: it may hold
what a person would want if the others should lose their disks as well. A second repair of a node that had not caught up
after the first keeps what the first one set aside.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zattredis.storage.rocks import fsync_directory

REJOINING: Final = "rejoining"
"""The file that says: may have voted and acknowledged what it no longer knows."""
SET_ASIDE: Final = "set-aside"
_MEMBERS: Final = "members"
_DAMAGED: Final = "damaged"
OWN_FILES: Final = (REJOINING, SET_ASIDE, _MEMBERS, _DAMAGED)
"""Where one of these is, there was a data directory."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """Who was in the cluster: the voters' ids, and the address of every member."""

    voters: tuple[str, ...]
    addresses: dict[str, str]


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that after a crash it is there whole or not at all. Raises OSError."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    fsync_directory(path.parent)


def remember_members(path: Path, voters: tuple[str, ...], addresses: Mapping[str, str]) -> None:
    """Keep who belongs to the cluster, unless it stands there already. What the disk refuses is not remembered."""
    content = json.dumps({"voters": voters, "addresses": dict(addresses)}, indent=1).encode() + b"\n"
    with contextlib.suppress(OSError):
        if not (path / _MEMBERS).exists() or (path / _MEMBERS).read_bytes() != content:
            write_file(path / _MEMBERS, content)


def remembered_members(path: Path) -> Remembered | None:
    """Return who belonged to the cluster when that was last kept; None when that is not known."""
    try:
        record = json.loads((path / _MEMBERS).read_bytes())
        return Remembered(tuple(map(str, record["voters"])), {str(i): str(a) for i, a in record["addresses"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def note_damage(path: Path, reason: str, *, keep_state: bool) -> None:
    """Have the next start repair this directory. What the disk refuses is not noted: the damage will be met again."""
    with contextlib.suppress(OSError):
        write_file(path / _DAMAGED, json.dumps({"reason": reason, "keep_state": keep_state}).encode() + b"\n")


def noted_damage(path: Path) -> tuple[str, bool] | None:
    """Return what `note_damage` was told, or None."""
    try:
        record = json.loads((path / _DAMAGED).read_bytes())
        return str(record["reason"]), bool(record["keep_state"])
    except OSError:
        return None  # there is none; or no directory to speak of, as opening it will find
    except (ValueError, KeyError, TypeError):
        return "what was noted as damaged can no longer be read", False


def set_aside(path: Path, log: str, marks: str, states: list[str], *, keep_state: bool) -> None:
    """Take log and states out of the way, under the duty to rejoin; durable when this returns. Raises OSError."""
    aside, moving = path / SET_ASIDE, path / f"{SET_ASIDE}.new"
    if not (path / REJOINING).exists():
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(moving, ignore_errors=True)
        (path / REJOINING).touch(mode=0o600)
        fsync_directory(path)
    if not aside.exists():
        moving.mkdir(mode=0o700, exist_ok=True)
        for name in (log, marks, *(states if keep_state else ())):
            if (path / name).exists():
                (path / name).rename(moving / name)
        fsync_directory(moving)
        moving.rename(aside)
    for name in (log, *states):
        shutil.rmtree(path / name, ignore_errors=True)
    (path / marks).unlink(missing_ok=True)
    fsync_directory(path)


def repaired(path: Path) -> None:
    """The directory holds empty stores now: there is nothing left to repair. Raises OSError."""
    (path / _DAMAGED).unlink(missing_ok=True)
    fsync_directory(path)
