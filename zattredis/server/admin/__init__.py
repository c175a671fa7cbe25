"""The admin port: HTTP for people on call, for Prometheus and for whoever watches containers. Off unless asked for.

Owns: a small HTTP/1.1 server (`http`), what it serves (`pages`), the metrics (`metrics`), whether the node is alive and
ready (`health`), and the console, three files in `console/` that come with the package.

    GET  /                    the console
    GET  /console.css, .js    its other two files
    GET  /metrics             Prometheus's text format
    GET  /livez               200 while the process can go on
    GET  /readyz              200 while it should be sent clients; otherwise 503 and why not
    GET  /api/state           what the console shows, as JSON
    POST /api/transfer        hand the leadership over; JSON {"target": id} or {}
    POST /api/snapshot        flush the state and cut the log

Invariants

- Without the port nothing here runs. With it, nothing is counted for it: metrics are made, when they are asked for,
  from counters that exist anyway; histograms of syncs and of batches cost one addition per sync and per batch.
- Every request is bounded: bytes of head and body, connections, time; a client that breaks a bound is told and closed.
- Where clients must give a password, so must whoever asks for the console, its state (slow commands hold arguments)
  and its actions: as HTTP's Basic authentication, user and password of ACL. The user needs the permission for the
  commands that show or do the same; protected mode counts here, too. Metrics and health hold no data of users and are
  open.
- No other web site can act: changes are POSTs with a token that only a page of the same origin can have read, and with
  an Origin that is the Host; where no password is asked, names that a site could point here are refused as Host.
- The console loads nothing from elsewhere, and the Content-Security-Policy says so.

Decisions

- A server of our own, about two hundred lines: a framework would be the largest dependency, for nine paths.
- Plain HTTP: on loopback by default, beyond it behind whatever ends TLS there.
- Readiness is about this node (knows a leader, has applied what was committed), not about free disk: a full disk
  refuses writes with a definite error and serves reads, so taking the node away would make things worse.
"""

from zattredis.server.admin.server import AdminServer

__all__ = ["AdminServer"]
