"""Users as text: the ACL file of a node, and the `users` setting. Lines are Redis's: `user NAME RULE …`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from zattredis.commands.acl_rules import UNKNOWN, canonical, line_of, merge_selectors, with_rules
from zattredis.errors import DefiniteError
from zattredis.keyspace.users import RuleError, User, apply_rule, has_blanks, new_user

_NO_CHANGE = "WARNING: ACL errors detected, no change to the previously active ACL rules was performed"


def _shown(word: bytes) -> str:
    return word.decode("utf-8", "surrogateescape")


def read_acl_file(path: str, all_channels: bool) -> list[User]:
    """Return the users of an ACL file. Raises DefiniteError with Redis's text, which names every wrong line."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DefiniteError(f"Error loading ACLs, opening file '{path}': {error.strerror}") from error
    users: dict[bytes, User] = {}
    problems: list[str] = []
    for number, line in enumerate(content.split(b"\n"), 1):
        words = [word for word in line.strip(b" \t\r\n").split(b" ") if word]
        if words:
            problems += _take_line(words, f"{path}:{number}", number, users, all_channels)
    if problems:
        raise DefiniteError("".join(problems) + _NO_CHANGE)
    return list(users.values())


def _take_line(
    words: list[bytes], place: str, number: int, users: dict[bytes, User], all_channels: bool
) -> list[str]:
    """Put the user of one line into `users`; return what is wrong with the line."""
    if words[0] != b"user" or len(words) < 2:
        return [f"{place} should start with user keyword followed by the username. "]
    name = words[1]
    if has_blanks(name):
        return [f"'{place}: username '{_shown(name)}' contains invalid characters. "]
    if name in users:
        return [f"WARNING: Duplicate user '{_shown(name)}' found on line {number}. "]
    try:
        rules = merge_selectors(words[2:])
    except DefiniteError:
        return [f"{place}: Unmatched parenthesis in selector definition."]
    user, problems, told = new_user(name, all_channels), [], False
    for rule in rules:
        try:
            user = apply_rule(user, canonical(rule), all_channels)
        except RuleError as error:
            if str(error) == UNKNOWN:
                problems.append(f"{place}: Error in applying operation '{_shown(rule)}': {error}. ")
            elif not told:  # later ones may follow from it; and it is not shown, for it may hold a password
                problems.append(f"{place}: {error}. ")
                told = True
    users[name] = user
    return problems


def parse_user_lines(lines: Iterable[str], all_channels: bool) -> list[User]:
    """Return the users of the `users` setting. Raises ValueError, which names the user and never a password."""
    users: dict[bytes, User] = {}
    for line in lines:
        words = line.encode("utf-8", "surrogateescape").split()
        words = words[1:] if words[:1] == [b"user"] and len(words) > 1 else words
        if not words:
            raise ValueError("an entry of users is empty")
        name = words[0]
        if name in users:
            raise ValueError(f"Duplicate user '{_shown(name)}' found. A user can only be defined once")
        try:
            users[name] = with_rules(new_user(name, all_channels), words[1:], all_channels)
        except DefiniteError as error:
            reason = error.message.rpartition("': ")[2] if "modifier" in error.message else error.message
            raise ValueError(f"user {_shown(name)}: {reason}") from None
    return list(users.values())


def write_acl_file(path: str, users: Sequence[User]) -> None:
    """Put the users into the file, durably, all or none. Raises DefiniteError."""
    content = b"".join(line_of(user) + b"\n" for user in users)
    target = Path(path)
    fresh = target.with_name(f"{target.name}.tmp-{os.getpid()}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(target)
        directory = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise DefiniteError(
            f"There was an error trying to save the ACLs. Please check the server logs for more information: "
            f"{error.strerror}"
        ) from error
