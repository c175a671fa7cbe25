"""`zattd`: the server; `zattd config` and `zattd demo` beside it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from zattredis.cli.arguments import (
    EXIT_DONE,
    EXIT_USAGE,
    OneLineParser,
    add_setting_flags,
    complain,
    config_file_of,
    exit_code_of,
    open_standard_streams,
    settings_from,
)
from zattredis.errors import ConfigError, FatalError
from zattredis.version import __version__

_PROGRAM: Final = "zattd"

_EPILOG: Final = """\
examples:
  zattd                                        one durable node on 127.0.0.1:6379, data in ./zattredis-data
  zattd demo                                   three nodes on this machine, to play with
  zattd --node n1 --port 7001 --dir d1 \\
        --cluster n1=127.0.0.1:7001,n2=127.0.0.1:7002,n3=127.0.0.1:7003
                                               one node of three; start the others with --node n2, --node n3
  zattd --node n4 --address db4 --port 7001 --dir d4 --join db1:7001
                                               one more node of a running cluster; the same line starts it again
  zattd -c conf/zattredis.toml                 settings from a file
  zattd config show                            what is in force, and where each value comes from
  zattd config example                         a settings file that explains every setting

Every flag is also a line of the settings file (port = 7001) and a variable (ZATTREDIS_PORT=7001).
SIGHUP has it read the file and the certificates again; the log says what needs a restart.
Stop a node with Ctrl-C or SIGTERM: it hands over, finishes what it accepted and exits 0. A second one ends it at once.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `zattd` with `argv` (default: the process's own) and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    open_standard_streams()
    try:
        match words[:1]:
            case ["config"]:
                from zattredis.cli import config_command

                return config_command.main(words[1:])
            case ["demo"]:
                from zattredis.cli import demo

                return demo.main(words[1:])
            case _:
                return _serve(words)
    except ConfigError as error:
        complain(_PROGRAM, error)
        return EXIT_USAGE
    except FatalError as error:
        complain(_PROGRAM, error)
        return exit_code_of(error)
    except BrokenPipeError:
        # Whoever read our output has gone (`zattd config show | head`); nothing is left to say to them.
        sys.stderr.close()
        return EXIT_DONE


def _serve(words: list[str]) -> int:
    parser = OneLineParser(
        _PROGRAM, "A Redis-protocol server whose every write is agreed by Raft before it is acknowledged.", _EPILOG,
        "zattd [-h] [--version] [-c FILE] [flags]   |   zattd config {show,example}   |   zattd demo [--dir DIR]",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"zattredis {__version__}")
    add_setting_flags(parser)
    arguments = parser.parse(words)
    settings = settings_from(arguments)
    from zattredis.cli.serve import run

    return run(settings, config_file_of(arguments), lambda: settings_from(arguments))


if __name__ == "__main__":
    raise SystemExit(main())
