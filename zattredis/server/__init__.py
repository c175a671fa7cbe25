"""The server: from a client's bytes to the log and back. The only room that knows all others.

The way of a command:

    connection    bytes in and out of one client, replies in order
    dispatcher    one look at the command table: answer now, read, or write
    units         what a connection sent and is answered together; a batch of them is one log entry
    proposals     this origin's batches: session, sequence, resending, running out of time
    admission     the leader's side of that: the next sequence of a session, and no other
    driver        carries out what the Raft core asks for, in the one order that is safe
    applier       committed entries → effects and replies; the one owner of the state machine
    reads         read points, shared by all reads of a tick
    sliced        reads that are too long for one go, in slices, each over a frozen point in time
    local         LOCAL commands, answered at once or by a coroutine
    apart         a long write, in turns with everything else
    trials        writes that are likely to have nothing to do, looked at as reads first (`idleness` says which)
    executor      runs handlers; the one place where an exception becomes an error reply
    sessions      the state machine's rows that make a batch execute once
    transactions  MULTI, EXEC and WATCH on the origin
    blocking      clients that wait in a blocking pop, and what the node puts into the log for them

    extensions    users' own commands: loaded, looked at (`determinism`), guarded (`determinism_guard`), agreed on
    changes       membership changes and hand-overs: asked of any node, carried out by the leader, step by step
    links         who this node is linked to, as the membership says, and what becomes of those removed
    joining       `--join`: how a node without data comes to a running cluster, and what it is answered

    views         what a node shows itself as: one plain server, or, if asked for, a part of …
    cluster_view  … a Redis Cluster (CLUSTER), whose followers may redirect (`redirects`)
    sentinel      … what Redis Sentinel watches: a port of its own (`sentinel_connection`, `sentinel_table`)

    upgrades      which state-machine version the leader writes: the highest that all members know
    backups       a checkpoint held for one client, which reads it in pieces
    offline       data directories made from a backup, and mended after a lost majority, while no node runs

    digest        a checksum of everything applied, compared among the nodes; who differs from a majority is fenced
    repair        what becomes of a node whose log or state is lost, damaged or different

Around it: `clock` (the only reader of time and randomness), `rejoin` (who may vote), `compaction` and `snapshots`,
`housekeeping` (timers), `clients`, `statistics`, `slowlog`, `latency` and `runtime_settings` (what LOCAL commands
show and change), `access` with `acl_log`, `acl_file` and `strangers` (who may come in, and what they may do here),
`password_reset` (a lost password), `info`, `node_facts` and `status` (INFO), `monitors` (MONITOR), `admin` (console,
metrics and health over HTTP), `services` (what LOCAL commands may ask of the node), `raft_admin` and `log_view`
(RAFT), and `node` (the composition root, and the order of a tick and of the end).

Invariants:

- A reply of a write leaves only after its entry is durable on a majority, committed, applied and written here.
- Sequences of a session enter the log in order; a batch executes only if its sequence is the session's last plus one.
- No read is served before its read point is applied, nor while store and registers disagree (a stalled write).
- Nothing that is uncertain is repaired in memory: an exception nobody expected ends the process; recovery is from disk,
  or, where the disk is what cannot be trusted, from the others.

Decisions, with their reasons:

- **Units instead of commands.** Consecutive commands of one connection travel as one `Run`: what is decided per run
  (batch, order, statistics, one reply string) costs nothing per command.
- **An origin applies its own batch from its units**, everyone else from the log's bytes; a test compares the resulting
  states byte for byte. It saves the decoding and lets reads ride at their place without standing in the log.
- **The open batch is what is handed over next.** While the window is full or no leader is known it simply grows, up to
  its bounds, so load makes batches larger instead of queues longer; after 50 ms it is closed, so that its deadline is
  true of all its commands.
- **Reservations matter only while keys have an expiry.** Without one no reply depends on the time, so an idle cluster
  writes nothing; with one, a leader that serves reads writes one time entry in 125 ms at most.
- **A cluster's first start needs all its nodes once** (see `rejoin`): an empty directory looks the same whether the
  node is new or has lost its disk, and a vote of the latter could lose acknowledged writes.
- **What a change still lacks is in the membership itself** (`raft.changes`): a learner that is to be promoted, who is
  then to go. So any leader goes on with it, and neither the asker's death nor the leader's leaves it half done.
- **A removed node ends**, with an exit code of its own and one line. It learns of its removal from the log (it is sent
  the entry and its commit) or, having been away, from whichever member it connects to, after both have proved
  themselves. It is not kept as a server that refuses: whoever supervises it should see that it is gone.
- **A new id owes nobody its votes**: a learner that never was a voter may vote as soon as it is one. An id that was
  known before, with an empty directory, has lost its disk (see `rejoin`); that is why ids are never used again.
- **Permissions are a property of the connection.** A user who may do everything has none, and such a connection goes
  the quick way as if there were no ACL; all others go the careful way, where each command is looked at. What a change
  of users means for connections is worked out when it is applied, on every node, before anybody is told of it.
- **Users are checked where the command is taken**, not at apply: what was taken under a permission is carried out.
- **A damaged node repairs itself only once the others have shown that they work without it** (`repair`): one of them
  commits an entry with a majority first. So nodes that find themselves damaged all at once (a bug, a wrong version)
  never empty their directories on each other's word.
- **The digest is of the state, not of what commands wrote on the way to it** (`digest`): an origin carries out alike
  commands of several connections in one go, which writes less.
- **A node that is fenced says why for five seconds, then ends**: whoever supervises it sees the exit code, and its next
  start repairs it.
- **A node on its own gives its cluster a random id**, so that one that lost its disk and begins anew is none of the
  cluster it was in.
- **Records lately used are kept in memory** (`keyspace.record_cache`), shared by the applier and all reads of the
  present state, because asking RocksDB costs more than the rest of a pipelined GET.
- **The end of a tick is one function** (`Node._end_of_tick`): writes, reads, Raft, replies, peers, in that order, so
  that one sync covers everything the tick gathered and each connection gets one write.
"""
