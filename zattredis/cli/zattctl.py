"""`zattctl`: look at, change, save and mend a cluster. One file per subcommand in `zattredis.cli.ctl`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from zattredis.cli.arguments import EXIT_DONE, EXIT_FATAL, EXIT_USAGE, complain
from zattredis.cli.ctl import (
    backup,
    completion,
    doctor,
    export_keys,
    import_keys,
    members,
    ping,
    recover,
    reset_password,
    restore,
    status,
    top,
    verify,
)
from zattredis.cli.ctl.frame import EXIT_UNKNOWN, PROGRAM, Subcommand, parse
from zattredis.cli.entry import INTERRUPTED
from zattredis.cli.resp_client import ErrorReply
from zattredis.errors import ConfigError, ZattredisError

_JOBS: Final[tuple[Subcommand, ...]] = (
    status.SUBCOMMAND,
    top.SUBCOMMAND,
    doctor.SUBCOMMAND,
    members.SUBCOMMAND,
    members.TRANSFER,
    backup.SUBCOMMAND,
    restore.SUBCOMMAND,
    verify.SUBCOMMAND,
    recover.SUBCOMMAND,
    reset_password.SUBCOMMAND,
    import_keys.SUBCOMMAND,
    export_keys.SUBCOMMAND,
    ping.SUBCOMMAND,
)
SUBCOMMANDS: Final = (*_JOBS, completion.subcommand(_JOBS))


def main(argv: Sequence[str] | None = None) -> int:
    """Run `zattctl` with `argv` (default: the process's own) and return the exit code."""
    arguments = parse(SUBCOMMANDS, list(sys.argv[1:] if argv is None else argv))
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except ConfigError as error:
        complain(PROGRAM, error)
        return EXIT_USAGE
    except ErrorReply as error:
        complain(PROGRAM, error)
        return EXIT_UNKNOWN if error.outcome_unknown else EXIT_FATAL
    except ZattredisError as error:
        complain(PROGRAM, error)
        return EXIT_FATAL
    except BrokenPipeError:
        # Whoever read our output has gone (`zattctl status | head`); nothing is left to say to them.
        sys.stderr.close()
        return EXIT_DONE
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main())
