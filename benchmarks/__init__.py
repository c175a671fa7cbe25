"""Measurements of zattredis beside redis-server and etcd, on one machine and in one run.

    python -m benchmarks                          everything (about forty minutes); prints tables
    python -m benchmarks --only judged            the figures with targets alone (about ten minutes)
    python -m benchmarks --quick                  every row with tiny counts: does it run, not how fast
    python -m benchmarks --json F --plot P.png    keeps the results and draws them
    python -m benchmarks --from F --readme        rewrites the section of README.md from kept results
    python -m benchmarks.profile                  where a node under load spends its time (py-spy)
    python -m benchmarks.compare OTHER            this source tree against another one, round by round

What it owns: starting and ending the servers it measures (`servers`), producing load (`load`, `generator`,
`etcd`), the throughput matrix (`throughput`), the drills (`drills`: recovery, snapshot, failover, hand-over, memory;
`type_drills`: redis-benchmark's own list of types, a large sorted set), what is aimed at (`goals`), and what is
printed (`report`, `plot`).

How it measures, and why:

- Every server keeps its data on a disk, never on tmpfs, and syncs before it acknowledges: redis-server runs with
  `appendonly yes` and `appendfsync always`, etcd and zattredis do so by nature. redis-server rewrites its file
  only between measurements (`auto-aof-rewrite-percentage 0`), which favours it: ratios are never flattered.
- All servers of a run are alive at the same time. The rounds are interleaved, one short measurement of each server
  after the other, in an order that turns with every round, each beginning when the servers have gone quiet.
  The figure is the median of the rounds. Ratios are between medians of the same run: on a shared machine
  absolute figures move by half from one minute to the next, ratios much less.
- Requests draw their keys at random from `--keys` of them, 10,000 unless told. More keys cost every server more, and
  zattredis more than redis-server: one node's pipelined SET takes twice the processor time a command with 100,000 keys
  as with 1,000, since memtable, records and dicts leave the processor's caches.
- Load comes from redis-benchmark where it is installed, one process per node when clients are spread. Then
  operations and rates are added up over the slowest process's time, p50 is the mean weighted by operations and
  p99 the worst of the processes. The mixed load (80 % GET, 20 % SET), and everything when redis-benchmark is
  missing, comes from `generator`, a uvloop client; its own cost bounds it to some 60,000 requests a second
  without pipelining, for every server alike.
- etcd is driven over gRPC by a minimal HTTP/2 client of this package (one connection per client, one call in
  flight, no protobuf library), because `etcdctl` measures only fixed loads. It is cheaper than etcd's own
  clients, so etcd looks no worse than it is. INCR, MSET and pipelines have no equal there and stay empty.
- Client and servers share the cores. That is the situation on a small machine, and the same for all columns.
- CPU seconds are those of the server processes (`/proc/PID/stat`, all threads, 10 ms steps), all nodes added up.
- Fsyncs: zattredis counts the syncs of its log itself (INFO persistence, `storage_syncs`, all nodes added up). For
  the others they are flush commands that reached the disk of the data directory (`/proc/diskstats`): one per
  fdatasync on ext4, verified with redis-server at one connection. That count is the machine's: what another program
  syncs meanwhile is in it, and a disk without a write cache counts none.
"""
