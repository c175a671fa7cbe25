"""The disk: the Raft log, the state, snapshots, and the data directory that holds them. The only users of rocksdict.

What is here
    log_store     LogStore: entries, hard state, name of the state directory; group commit  (log_index, log_records)
    log_recovery  what must be true before a log is used again  (marks)
    sync_thread   SyncThread: runs LogStore.sync for everything asked so far; the loop waits for it, but not for long
    file_system   whether a path lies on a disk at all
    state_store   StateStore: the keyspace; implements keyspace.reader.Reader  (state_readers)
    spool         what a long read puts aside while it puts it in order
    large_writes  writes too large for one WriteBatch, in pieces, whole or not at all
    snapshots     a checkpoint with its manifest; sending it in chunks; receiving it, resumable and verified
    backup_file   the format of backups: checked pieces in one stream
    verification  looking at all of a data directory offline, changing nothing
    repair        what is remembered for, and what is left of a node that is filled again from the others
    datadir       DataDirectory: lock, format, identity, bootstrap, and everything above composed
    rocks         how RocksDB is opened, and what rocksdict 0.3.29 does unexpectedly

Invariants
    - What `LogStore.sync` has confirmed is there after any crash, or the node stops with LogLost or LogDamaged.
    - first_index - 1 <= applied <= last_index, at every start, with equal terms there.
    - A missing database is never created, except at bootstrap.
    - After a write or sync that the operating system refused nothing more is written; recovery is a new start.
    - Nothing read is believed unchecked: entries carry a checksum, iterations are asked for their status.
    - Every error is one line that a person understands.
"""
