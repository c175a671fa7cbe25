"""node-redis and ioredis from npm, with their defaults. Installed into the test cache when the tests run."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.conftest import Endpoint
from tests.support.cache import cache_directory

HERE = Path(__file__).parent
PACKAGES = {"redis": "^6", "ioredis": "^6"}
NODE_MAJOR_MIN = 20


@pytest.fixture(scope="module")
def node_modules() -> Path:
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip().lstrip("v").split(".")[0]) < NODE_MAJOR_MIN:
        pytest.skip(f"node {version.strip()} is older than {NODE_MAJOR_MIN}, which the client libraries need")
    home = cache_directory() / "npm"
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        modules = home / "node_modules"
        if not all((modules / name / "package.json").exists() for name in PACKAGES):
            wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
            command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(home), *wanted]
            done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
            if done.returncode != 0:
                pytest.skip(f"npm cannot install {', '.join(wanted)}: {done.stderr.strip().splitlines()[-1:]}")
    return modules


@pytest.mark.parametrize("script", ["everyday_node_redis.cjs", "everyday_ioredis.cjs"])
def test_everyday_commands(node_modules: Path, endpoint: Endpoint, script: str) -> None:
    host, port = endpoint
    environment = os.environ | {"NODE_PATH": str(node_modules)}
    command = ["node", str(HERE / script), host, str(port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "everything as expected" in done.stdout
