"""Read by every Python process that has this directory in PYTHONPATH: puts a test's fault into it before anything runs.

ZATTREDIS_TEST_MUTANT names a mutant of `tests.mutants`. Nothing of the server knows of this file.
"""

import os

if os.environ.get("ZATTREDIS_TEST_MUTANT"):
    try:
        from tests.mutants.startup import put_in

        put_in(os.environ["ZATTREDIS_TEST_MUTANT"])
    except BaseException:  # Python would go on without this file, and the fault would seem to go unnoticed
        import traceback

        traceback.print_exc()
        os._exit(70)
