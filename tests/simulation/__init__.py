"""A seeded simulator of Raft nodes: virtual clock, network and disk; the same seed gives the same trace.

`world` owns the clock and the schedule of faults, `network` the links, `disk` what survives a crash, `node` the driver
of one core, `checks` what must hold at every step. `python -m tests.simulation --seed N` replays one run.
A later whole-node simulator replaces `node` (and lets `disk` serve the storage rooms); the other parts stay.
"""
