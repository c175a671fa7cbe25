"""Real processes under everything that happens to machines: `python -m tests.chaos --nodes 5 --seconds 600`.

Every node has a network interface, a disk and a wall clock of its own, which are cut, slowed down, filled, put wrong
and cut off from their power while clients of redis-py work on all nodes. What the clients saw is judged afterwards, and
every acknowledged write must be found after a last power cut of all nodes at once.

`arena` holds what the faults act on, `faults` the faults, `clients` the load, `run` the storm and its verdict.
"""
