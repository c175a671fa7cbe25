"""Two seeded simulators with a virtual clock, network and disk; the same seed gives the same trace.

Of Raft alone: `world` owns the clock and the schedule of faults, `network` the links, `disk` what survives a crash,
`node` the driver of one core, `checks` what must hold at every step. `python -m tests.simulation --seed N` replays.

Of whole nodes: the server as it ships. `sim_loop` is an asyncio loop per process over one queue of virtual time,
`sim_disk` the log, state, sync thread and snapshots, `sim_network` the links, `seams` puts them in the machine's place,
`workload` and `queues` the clients and how their histories are judged, `node_plan` what a seed decides, `node_faults`
the storm and the operator who replaces damaged disks, `node_checks` what must hold at every step, `node_world` the run
and its end, when everything heals.
`python -m tests.simulation.nodes --seeds A..B [--jobs N] [--storm SECONDS] [--transcript] [--shrink SECONDS]` runs,
replays and shrinks.

What is not modelled: damage to a table file travels inside a snapshot, whose files are linked and not read; here the
sender notices it at once. Memberships of whole nodes change only where that is asked for (`--set membership=3.0`).
"""
