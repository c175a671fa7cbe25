"""ACL and MODULE, as far as clients ask for them on connecting: one user, and no modules."""

from __future__ import annotations

from typing import Any

from zattredis.commands.context import LocalContext
from zattredis.commands.table import CATEGORIES, Flag, all_specs, command, container
from zattredis.errors import DefiniteError

_FLAGS = Flag.NOSCRIPT | Flag.LOADING | Flag.STALE

container("ACL", "A container for Access List Control commands", group="server", since="6.0.0", help_since="6.0.0")
container("MODULE", "A container for module commands", group="server", since="4.0.0", help_since="5.0.0")


@command("ACL WHOAMI", arity=2, flags=_FLAGS, group="server", since="6.0.0", complexity="O(1)")
def acl_whoami(ctx: LocalContext) -> bytes:
    """Return the user of this connection."""
    return ctx.client.user


@command("ACL USERS", arity=2, flags=_FLAGS | Flag.ADMIN, group="server", since="6.0.0", complexity="O(1)")
def acl_users(_ctx: LocalContext) -> list[bytes]:
    """Name the users: there is one."""
    return [b"default"]


@command(
    "ACL CAT", arity=-2, flags=_FLAGS, group="server", since="6.0.0", complexity="O(1)", syntax="[categoryname]"
)  # fmt: skip
def acl_cat(_ctx: LocalContext, *words: bytes) -> list[bytes]:
    """Name the categories, or the commands of one category."""
    if len(words) > 1:
        raise DefiniteError("unknown subcommand or wrong number of arguments for 'CAT'. Try ACL HELP.")
    if not words:
        return [name.encode() for name in CATEGORIES]
    category = words[0].decode("utf-8", "surrogateescape")
    if category.lower() not in CATEGORIES:
        raise DefiniteError(f"Unknown category '{category}'")
    return [spec.full_name.encode() for spec in all_specs() if category.lower() in spec.acl_categories]


@command("MODULE LIST", arity=2, flags=Flag.ADMIN | Flag.NOSCRIPT, group="server", since="4.0.0",
         complexity="O(N) where N is the number of modules.", tips=("nondeterministic_output_order",))  # fmt: skip
def module_list(_ctx: LocalContext) -> list[Any]:
    """List the loaded modules: there are none."""
    return []
