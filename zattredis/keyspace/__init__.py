"""The keyspace: what Redis keys and values are in an ordered store of bytes. Pure: no clock, no randomness, no I/O.

**What it owns.** The layout of the state database (`keys`), the record of a key (`metadata`), the encoding of each data
type (`strings`, …), the registers of the state machine (`registers`), and the `View` through which commands read and
write all of it (`view`). `waiters` are the clients that wait in blocking pops, `serving` gives them what they wait for.
`maintenance` removes what is expired or dead, `scan` walks through the keys, `lcs` finds the common subsequence of two
strings; `long_double` and `random` do what libm and `random` would do, alike on every node. `types` is the table of the
types for what works on keys of any. `rdb` is Redis's dump format: `rdb_read` reads every encoding of it, `rdb_packed`
has the packed ones, `lzf` the compression, `crc64` the checksum. `parameters` is what the cluster agrees on for all,
`users` who
may do what, `extensions` whose code runs; `agreements` changes both.

**Invariants.**
- A record changes in one place (`View.put` and what it calls, or `View.set_plain` for the common case), and with it, in
  the same batch, the counts of its namespace, the expiry index and the fate of content it no longer names.
- No key that holds something has anybody waiting for it once a command, EXEC or script is done.
- The counter never gives a number twice: a version identifies one change of one key, a collection id one content.
- A view's effects are complete: written in one batch they lead from one consistent state to the next. A command that
  fails leaves none.
- Nothing depends on the order of a dict or set whose content is data, on the time of day or on chance.

**Decisions.**
- Rolling back walks a list of replaced values backwards. Commands that fail nearly always fail before they write, so
  the list costs one tuple for each change and nothing else.
- A command that works long has a view that writes ahead what nobody can see yet (`spilling`).
- Views share a `record_cache` of what they read and wrote: a pipelined GET or SET of a key used lately costs half.
- A view remembers records by (namespace, user key), so one hash of the user's key answers GET; k-keys are made once,
  when a key is fetched.
- An expired record stays until it is overwritten or maintenance removes it; until then `View.record` hides it, and it
  counts in DBSIZE, as in Redis.
- Deaths are queued in order of the counter, and both the queue and the expiry index are read from a register that says
  where they begin: seeking across the tombstones of what was removed costs milliseconds.
"""
