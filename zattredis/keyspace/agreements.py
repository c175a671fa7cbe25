"""Changes of what the cluster agrees on beside its data, as every node carries them out: users, and extensions.

Each is an effect of the command that brings it, so a command that fails leaves the registers as they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from zattredis.keyspace.extensions import META_EXTENSIONS, Agreed, encode_extensions
from zattredis.keyspace.users import (
    DEFAULT_USER,
    META_USER,
    Base,
    RuleError,
    RuleRefused,
    User,
    apply_rule,
    default_user,
    encode_user,
    new_user,
)
from zattredis.keyspace.view import View


def set_user(view: View, name: bytes, user: User | None) -> None:
    """Let this be the user of that name from the next command on; None removes it."""
    users = view.registers.users
    before, was_gone = users.rows.get(name), name in users.gone

    def undo() -> None:
        users.put(name, before)
        if not was_gone:
            users.gone.discard(name)

    view.on_rollback(undo)
    users.put(name, user)
    if user is None:
        users.gone.add(name)
    users.changed = True
    view.put_raw(META_USER + name, None if user is None else encode_user(user))


def seed(view: View, base: Base) -> None:
    """Where nothing is agreed yet, agree on the users of the node that sends the first change."""
    if not view.registers.users.agreed:
        for user in (default_user(), *base.users):
            set_user(view, user.name, user)


def change_user(view: View, base: Base, name: bytes, rules: Sequence[bytes]) -> None:
    """Apply rules to a user, new or not. Raises RuleRefused; the effects are then to be undone."""
    seed(view, base)
    user = view.registers.users.rows.get(name) or new_user(name, base.all_channels)
    for place, rule in enumerate(rules):
        try:
            user = apply_rule(user, rule, base.all_channels)
        except RuleError as error:
            raise RuleRefused(place, rule, str(error)) from None
    set_user(view, name, user)


def delete_users(view: View, base: Base, names: Iterable[bytes]) -> int:
    """Remove users; return how many there were. `default` is never among them."""
    present = view.registers.users.rows if view.registers.users.agreed else {user.name for user in base.users}
    wanted = [name for name in dict.fromkeys(names) if name in present and name != DEFAULT_USER]
    if wanted:
        seed(view, base)
    for name in wanted:
        set_user(view, name, None)
    return len(wanted)


def replace_users(view: View, base: Base) -> None:
    """Let `base` hold all users there are. All that were there but `default` count as removed."""
    for name in list(view.registers.users.rows):
        if name != DEFAULT_USER:
            set_user(view, name, None)
    for user in (default_user(), *base.users):
        set_user(view, user.name, user)


def set_agreed(view: View, name: str, agreed: Agreed) -> None:
    """Let this be what is agreed on for an extension from the next command on."""
    registers = view.registers
    before = registers.extensions
    after = {**before, name: agreed}
    view.on_rollback(lambda: setattr(registers, "extensions", before))
    registers.extensions = after
    view.put_raw(META_EXTENSIONS, encode_extensions(after))


__all__ = ["change_user", "delete_users", "replace_users", "seed", "set_agreed", "set_user"]
