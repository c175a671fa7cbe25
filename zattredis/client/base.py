"""What both twins share: opening, and the types given in brackets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, get_args

from zattredis.client.operations import ABSENT, Operations
from zattredis.client.options import Address, Options, Security, read_options
from zattredis.client.policies import RefreshPolicy
from zattredis.client.typed import codec_for, key_types
from zattredis.client.values import Codec, PickleCodec, plain_codec

if TYPE_CHECKING:
    from typing_extensions import TypeVar as Parameter  # the type checker's own

    K = Parameter("K", default=Any)  # so that DistributedDict(…) may stand without types in brackets
    V = Parameter("V", default=Any)
else:
    K = TypeVar("K")
    V = TypeVar("V")


class Change(NamedTuple):
    """One change seen by `watch`; `old` or `new` is `ABSENT` where there was, or is, none."""

    key: Any
    old: Any
    new: Any


class Opened(Generic[K, V]):
    """The part of opening a dict that does no I/O."""

    _operations: Operations[K, V]
    _options: Options
    _has_codec: bool

    def _open(
        self,
        address: Address | Sequence[Address],
        port: int | None,
        name: str,
        codec: Codec[V] | None,
        refresh_policy: RefreshPolicy | None,
        security: Security,
        timeout: float,
        connect_timeout: float,
        deadline: float,
        append_retry_attempts: int | None,
    ) -> None:
        if isinstance(codec, PickleCodec):
            codec.warn(stack_level=4)
        self._options = read_options(
            address, port, security, timeout, connect_timeout, deadline, append_retry_attempts
        )  # fmt: skip
        self._has_codec = codec is not None
        self._operations = Operations(name, plain_codec if codec is None else codec, refresh_policy)

    @property
    def __orig_class__(self) -> Any:
        """The types in brackets: set by `DistributedDict[K, V](…)` right after `__init__`."""
        return self.__dict__["__orig_class__"]

    @__orig_class__.setter
    def __orig_class__(self, alias: Any) -> None:
        self.__dict__["__orig_class__"] = alias
        key_type, value_type = get_args(alias)
        try:
            self._operations.key_types = key_types(key_type)
            if not self._has_codec:
                self._operations.codec = codec_for(value_type)
        except TypeError as error:  # typing swallows what is raised here; the first use raises it
            self._operations.opening_error = error

    @property
    def name(self) -> str:
        """The name of this dict: the key of its hash."""
        return self._operations.name.decode()


def changes_between(operations: Operations[K, V], before: dict[bytes, bytes], now: dict[bytes, bytes]) -> list[Change]:
    """Return the changes from one snapshot to the next. Raises CodecError."""
    found = []
    for field in [*before, *(field for field in now if field not in before)]:
        old, new = before.get(field), now.get(field)
        if old != new:
            found.append(
                Change(
                    operations.key(field),
                    ABSENT if old is None else operations.decode(old),
                    ABSENT if new is None else operations.decode(new),
                )
            )
    return found
