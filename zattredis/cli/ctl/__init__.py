"""zattredis.cli.ctl: the subcommands of `zattctl`, one file each.

A subcommand is a file with a `SUBCOMMAND` (see `frame.Subcommand`: name, help, description, examples, arguments, run)
and a line in the table of `zattredis.cli.zattctl`. It imports nothing heavy at the top: `zattctl --help`,
`ping` and the completion of a shell load every file. What it needs of a server it asks through `target.Target`, which
holds host, port and password; what takes long it shows with `progress`.

Invariants
- Standard output holds the answer and nothing else; progress and complaints go to standard error.
- Offline subcommands (`restore`, `verify`, `recover`) never change a directory that they cannot lock, and none that
  holds anything before they have checked what they are to write.

Exit codes of all: 0 all is well or done, 1 it is not (something does not answer, is damaged, was refused), 2 wrong
arguments, 3 the outcome of a change is not known (`members`, `transfer-leader`).
"""
