"""Read by every Python process that has this directory in PYTHONPATH: puts a test's fault in before anything runs.

ZATTREDIS_TEST_MUTANT names a mutant of `tests.mutants`, ZATTREDIS_TEST_CRASH a point of `tests.crash_points` and what
is to happen there. ZATTREDIS_TEST_CLOCK names a file that says how far the clock is off (`tests.support.wall_clock`).
With ZATTREDIS_TEST_AS_ON_DISK no path lies on a file system of memory: the log is synced by a
thread, as on a disk. Nothing of the server knows of this file.
"""

import os

if os.environ.get("ZATTREDIS_TEST_MUTANT") or os.environ.get("ZATTREDIS_TEST_CRASH"):
    try:
        if os.environ.get("ZATTREDIS_TEST_MUTANT"):
            from tests.mutants.startup import put_in

            put_in(os.environ["ZATTREDIS_TEST_MUTANT"])
        else:
            from tests.crash_points.points import arm

            arm(os.environ["ZATTREDIS_TEST_CRASH"])
    except BaseException:  # Python would go on without this file, and the fault would seem to go unnoticed
        import traceback

        traceback.print_exc()
        os._exit(70)

if os.environ.get("ZATTREDIS_TEST_CLOCK"):
    from tests.support.wall_clock import follow

    follow(os.environ["ZATTREDIS_TEST_CLOCK"])

if os.environ.get("ZATTREDIS_TEST_AS_ON_DISK"):
    import zattredis.storage.file_system

    zattredis.storage.file_system.in_memory = lambda path, mounts=None: False  # type: ignore[assignment, misc]
