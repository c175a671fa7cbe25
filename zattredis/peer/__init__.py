"""What nodes say to each other, and how it gets there.

What it owns
    `network.PeerNetwork`: all links of one node. `wire` and `fragments`: messages ↔ frames, the table of wire numbers.
    `messages`: the server's messages (Raft's are in `raft.messages`). `handshake`, `connection`, `link` (out),
    `listener` (in), `snapshot_stream`, `tls`, `tls_listener`, `throwaway`: the parts of the network. A connection is
    for messages, for a snapshot, or for the one request of a node that wants to join and does not know the cluster yet.

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
    *Encrypted or refused.* Where `tls_cluster` or `cluster_secret` is set, the peer port speaks TLS 1.3 and nothing
    else, for messages, snapshots and joining alike; whoever comes without, or cannot prove that it belongs here, is
    closed before anything but handshake frames of 1 KiB is looked at. It gets one line of reason, and so does the log.
    With neither set, links are plain and believe what a Hello says: for one machine or a network of one's own; a node
    that listens elsewhere than on loopback warns of it at each start.
    *Certificates: the node id is in them*, as the URI `zattredis://ID` (`tls`): a node cannot speak for another, and
    a certificate made for something else makes nobody a node. A node tries its own certificate on itself first.
    *The secret: TLS by a throw-away certificate, then proofs over the channel binding.* TLS 1.3 with a key made at the
    start (`throwaway`) encrypts, and nothing is believed of it; the HMACs of the handshake cover what identifies this
    TLS connection at both its ends, so somebody in between has to make a proof fit another connection, without the
    secret. Considered instead: anonymous Diffie-Hellman, which is TLS 1.2 only, needs @SECLEVEL=0, is switched off on
    some systems, and costs a listener 3.5 ms of its loop per stranger (ffdhe2048) against 0.4 ms; frames encrypted
    by the package `cryptography`, a dependency and a protocol of our own for what TLS does; keys pre-shared by TLS 1.3,
    which Python has from 3.13 on.
    *Our own accepting* (`tls_listener`): asyncio's TLS servers tell nobody who failed and why, and bound nothing.
"""
