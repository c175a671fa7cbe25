"""What a program need not load: a node of its own, or a dictionary, is there before anybody notices.

Which modules are loaded is held, not how long that takes: the machine that runs the tests is not always at rest.
"""

from __future__ import annotations

import json
import subprocess
import sys

SHOW = """
import json, sys
print(json.dumps(sorted(sys.modules)))
"""


def loaded(program: str) -> set[str]:
    """Return the modules that a fresh process has after running `program`."""
    done = subprocess.run([sys.executable, "-c", program + SHOW], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def rooms(modules: set[str]) -> set[str]:
    return {name.split(".")[1] for name in modules if name.startswith("zattredis.")}


def test_the_package_itself_is_next_to_nothing() -> None:
    modules = loaded("import zattredis; zattredis.__version__")
    assert rooms(modules) == {"version"}
    assert not modules & {"asyncio", "redis", "rocksdict", "structlog", "uvloop"}


def test_a_dictionary_loads_no_server() -> None:
    modules = loaded("from zattredis import DistributedDict, AsyncDistributedDict")
    assert rooms(modules) <= {"client", "errors", "version"}
    assert not modules & {"rocksdict", "structlog", "uvloop", "rich"}


def test_a_command_of_ones_own_loads_no_server() -> None:
    modules = loaded("from zattredis import command, Context")
    assert not rooms(modules) & {"cli", "client", "config", "embed", "peer", "server", "storage"}


def test_a_node_in_this_process_loads_only_what_its_first_reply_needs() -> None:
    modules = loaded(
        "import socket, zattredis\n"
        "with zattredis.serve() as server, socket.create_connection((server.host, server.port)) as client:\n"
        "    client.sendall(b'SET greeting hello\\r\\nGET greeting\\r\\n')\n"
        "    assert client.makefile('rb').read(14) == b'+OK\\r\\n$5\\r\\nhello'\n"
    )
    assert not modules & {
        "argparse", "http", "multiprocessing", "pygments", "pytest", "redis", "rich", "structlog", "tomllib",
        "zstandard",
    }  # fmt: skip
    mine = {name for name in modules if name.startswith("zattredis.")}
    assert not {name for name in mine if name.startswith(("zattredis.client", "zattredis.server.admin"))}
    assert {name for name in mine if name.startswith("zattredis.cli.")} <= {"zattredis.cli.ports"}


def test_the_plugin_costs_a_test_run_nothing_that_does_not_use_it() -> None:
    modules = loaded("import zattredis.pytest_plugin")
    assert rooms(modules) == {"pytest_plugin", "version"}
    assert not modules & {"redis", "rocksdict", "structlog", "uvloop"}
