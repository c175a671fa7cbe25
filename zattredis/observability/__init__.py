"""zattredis.observability: how a node tells what it does.

Owns: the set-up of structlog for the process (`events`). Every room logs through `events.get_logger()`; only the
command line calls `configure_events`. A node embedded in another program (`embed_events`) is held to its own log level,
and what it tells goes where that program has told structlog to send events; of the program's set-up nothing changes.
`exposition` writes Prometheus's text format, for whoever has something to count.

Invariants
- One event is one line on standard error, written with one system call; lines of threads do not mix.
- A log that cannot be written (closed pipe, full disk) never stops a node that serves.
- Events carry the node's id; secrets and values of keys are never logged.

Decisions
- Standard error, no files and no rotation: whoever starts the server (a shell, systemd, a container) collects it.
- The level is checked by the first processor, not by a level-specific logger class, so that CONFIG SET loglevel reaches
  loggers made long before.
"""
