"""What nodes say to each other, and how it gets there.

What it owns
    `network.PeerNetwork`: all links of one node. `wire` and `fragments`: messages ↔ frames, the table of wire numbers.
    `messages`: the server's messages (Raft's are in `raft.messages`). `handshake`, `connection`, `link` (out),
    `listener` (in), `snapshot_stream`: the parts of the network. A connection is for messages, for a snapshot, or for
    the one request of a node that wants to join and does not know the cluster's id yet.

Invariants
    Identity is the node id; an address is only where one was found last, and host names are resolved at each connect.
    Nothing of a stranger is kept beyond one frame of 1 KiB and the handshake's time; a frame's header is verified
    before anything is kept for its body.
    A message is delivered at most once and in the order of its lane (below) while its link stands; it may be lost when
    the link breaks or a queue is full, and nobody is told. Raft and the sessions above are made for that.
    A message names the node of its own link as its source, or the link is closed.
    Every queue is bounded in bytes; sending never waits.

Decisions
    *One connection per direction.* Who connects, sends; answers take the other node's own link. So neither side has to
    agree on which of two crossing connections survives, and a half-open connection harms one direction, whose sender
    notices it (TCP_USER_TIMEOUT, keep-alive, or the peer connecting anew in another incarnation).
    *Two lanes.* Votes, heartbeats, their answers and read points pass entries and batches of clients. What is long
    leaves in fragments of 64 KiB, while transport and kernel are kept from holding more than about 256 KiB unsent, so
    64 MB of entries delay a heartbeat by milliseconds. Raft allows any order; within a lane order is kept so that
    pipelined entries fit each other.
    *Long byte strings are never encoded.* A long message travels as a skeleton and the very bytes objects it holds; the
    receiver copies them once. Encoding 64 MB as a whole held up a leader's loop for 66 ms a follower.
    *asyncio protocols, not streams*: a heartbeat costs 1 µs to encode and 2 µs to decode, streams a task switch more.
    *Who was removed is turned away after the handshake*, not in it: only a side that has proved itself is believed.
    *The secret is proved, nothing is encrypted.* Peers belong on a private network; the proof keeps a stranger, or a
    node of another cluster, from being heard.
"""
