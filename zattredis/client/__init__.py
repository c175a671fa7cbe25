"""DistributedDict, for Python people: a dict that lives in a cluster (extra `client`: needs redis-py).

    from zattredis import DistributedDict

    d = DistributedDict("127.0.0.1", 5254)
    d["key1"] = 0
    d                       # {'key1': 0}, here and from every other client

The modules, from the bottom:

    errors         what is raised: certainly not done, or outcome unknown
    values, typed  Python values as bytes and back; the types given in brackets
    policies       Zatt's refresh policies
    options        addresses, URLs, TLS
    steps          what an operation asks for, and what a failure means; no I/O
    operations, transactions, locks   every operation once, as generators of steps; no I/O
    transport, async_transport        connections, failover, the running of operations
    dictionary, async_dictionary      the twins

Decisions. A dict is one hash under its name: any Redis client can look at it (`HGETALL zatt`), a read costs one field,
an `update` is one entry. What can be decided by one atomic command or a blind MULTI is (pop, setdefault, incr); only
what depends on a value read goes through WATCH, again a bounded number of times. A write is sent once: when its reply
does not come, `OutcomeUnknown` says so and the caller decides. Reads, and what the cluster says was certainly not done,
go to the next address until the deadline.
"""

from zattredis.client.async_dictionary import AsyncDistributedDict, AsyncLock, AsyncTransaction, AsyncWatch
from zattredis.client.base import Change
from zattredis.client.dictionary import DistributedDict, Lock, Transaction, Watch
from zattredis.client.errors import (
    CodecError,
    Conflict,
    LockLost,
    LockNotAcquired,
    NotDone,
    OutcomeUnknown,
    PickleWarning,
    Refused,
    Unavailable,
)
from zattredis.client.operations import ABSENT
from zattredis.client.policies import (
    RefreshPolicy,
    RefreshPolicyAlways,
    RefreshPolicyCount,
    RefreshPolicyLock,
    RefreshPolicyTime,
)
from zattredis.client.values import Codec, pickle_codec, plain_codec, raw_codec

__all__ = [
    "ABSENT",
    "AsyncDistributedDict",
    "AsyncLock",
    "AsyncTransaction",
    "AsyncWatch",
    "Change",
    "Codec",
    "CodecError",
    "Conflict",
    "DistributedDict",
    "Lock",
    "LockLost",
    "LockNotAcquired",
    "NotDone",
    "OutcomeUnknown",
    "PickleWarning",
    "RefreshPolicy",
    "RefreshPolicyAlways",
    "RefreshPolicyCount",
    "RefreshPolicyLock",
    "RefreshPolicyTime",
    "Refused",
    "Transaction",
    "Unavailable",
    "Watch",
    "pickle_codec",
    "plain_codec",
    "raw_codec",
]
