"""zattredis.config: what a node is told before it starts.

Owns: the table of all settings, reading them from files, environment and flags, and completing them.

Invariants
- A `Settings` is frozen. It comes from `load_settings` (the command line) or `make_settings` (Python, tests), and is
  then complete and free of contradiction; every value knows its source (`Settings.source`).
- The fields of `Settings` are the only list of settings. `SETTINGS` derives from them, and everything else from that:
  TOML keys, ZATTREDIS_* variables, flags, `zattd config show`, CONFIG GET, conf/zattredis.toml (a test compares).
- Whatever is wrong is one `ConfigError` of one line that names the place (file and line, variable, flag) and the
  remedy.

Decisions
- Later wins: default < file < environment < flag. A value nobody gave but which follows from others (the port from the
  cluster, bind from the host) says so as its source.
- TOML is flat. Sections would make three spellings of one name (file, variable, flag); a header is refused.
- `host`, `port` and `peer_port` are what others are told and must agree with the node's own entry in `cluster`;
  where to listen is `bind` and `peer_bind`, which may carry ports of their own (containers, address translation).
- No setting here may change what applying the log computes: such limits are constants or replicated. That is why
  `databases` is shown and accepted, but only with its one value.
- Unknown ZATTREDIS_* variables are refused like unknown keys, except those that Kubernetes invents for a service called
  zattredis and those of the test suite (ZATTREDIS_TEST_*).
- The line of a TOML key is searched in the text, since `tomllib` keeps no positions; keys are flat, so the first
  `key =` at the start of a line is the one.
"""

from zattredis.config.cluster import (
    PEER_PORT_OFFSET,
    Member,
    bracketed,
    default_peer_port,
    is_loopback,
    parse_address,
    parse_cluster,
    parse_member,
)
from zattredis.config.load import CONFIG_VARIABLE, load_settings, make_settings
from zattredis.config.settings import SECTIONS, SETTINGS, Settings
from zattredis.config.spec import SettingSpec

__all__ = [
    "CONFIG_VARIABLE",
    "PEER_PORT_OFFSET",
    "SECTIONS",
    "SETTINGS",
    "Member",
    "SettingSpec",
    "Settings",
    "bracketed",
    "default_peer_port",
    "is_loopback",
    "load_settings",
    "make_settings",
    "parse_address",
    "parse_cluster",
    "parse_member",
]
