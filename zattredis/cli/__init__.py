"""zattredis.cli: arguments in, exit codes out.

Owns: the commands `zattd` (the server, `config`, `demo`) and `zattctl` (asking a running cluster), what they print, and
signals.

Invariants
- Exit codes: 0 done or stopped as asked, 1 could not start or had to end, 2 the arguments or settings are wrong,
  130 ended by Ctrl-C before there was anything to stop (`entry`).
- Whatever goes wrong is one line on standard error that a person understands; no traceback for anything foreseen.
- Processes are ended by their own pid only, and only those that were started here.

Decisions
- `zattd` alone is the server; the first word `config` or `demo` chooses another job. So the shortest command is the
  commonest, and every flag of the server is a setting (`zattredis.config`), nothing else.
- Nothing heavy is imported before the settings are known to be right: a typing mistake is answered at once.
- Each subcommand of `zattctl` is a file in `ctl`, whose manual says how to add one.
- `zattctl` finds its node by the same ZATTREDIS_* environment and settings file as `zattd`, so inside a container it
  needs no arguments (the image's health check is `zattctl ping`).
"""
