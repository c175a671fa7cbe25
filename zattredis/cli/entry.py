"""Where the two commands begin: Ctrl-C while they are still being loaded ends them without a traceback."""

from typing import Final

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C: 128 and the number of SIGINT, as a shell has it."""


def zattd() -> int:
    """Run `zattd` with the process's own arguments and return the exit code."""
    try:
        from zattredis.cli.zattd import main

        return main()
    except KeyboardInterrupt:  # before the server is told of SIGINT: nothing was accepted, nothing is to be handed over
        return INTERRUPTED


def zattctl() -> int:
    """Run `zattctl` with the process's own arguments and return the exit code."""
    try:
        from zattredis.cli.zattctl import main

        return main()
    except KeyboardInterrupt:
        return INTERRUPTED
