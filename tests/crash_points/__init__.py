"""Named points of the server's work at which a test stops the process, or has the call fail.

Production code knows nothing of them: `points` wraps the functions from outside. In the simulator of whole nodes
(`test_simulated.py`) a process dies, perhaps with its power, right before or behind a point that it crosses. In real
processes (`test_real.py`) the wrapping is done at their start, by `tests/support/startup`, when ZATTREDIS_TEST_CRASH
names a point, how many crossings to let pass, and what is to happen then.
"""
