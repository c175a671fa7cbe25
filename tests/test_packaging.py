"""What `pip install` installs."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
MODULES = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "zattredis").rglob("*.py")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel and the source archive, built by the backend that pip would use."""
    directory = tmp_path_factory.mktemp("dist")
    code = f"import hatchling.build as b; b.build_wheel({str(directory)!r}); b.build_sdist({str(directory)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return directory


def test_the_wheel_holds_the_package_and_its_commands_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        info = next(name.split("/")[0] for name in names if ".dist-info/" in name)
        commands = wheel.read(f"{info}/entry_points.txt").decode()
        metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
    assert {name for name in names if name.endswith(".py")} == MODULES
    assert "zattredis/py.typed" in names
    console = REPOSITORY / "zattredis" / "server" / "admin" / "console"
    assert {str(path.relative_to(REPOSITORY)) for path in console.iterdir()} <= names
    assert {name.split("/")[0] for name in names} == {"zattredis", info}
    assert "zattd = zattredis.cli.entry:zattd" in commands
    assert "zattctl = zattredis.cli.entry:zattctl" in commands
    assert metadata["Name"] == "zattredis"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"


def test_the_source_archive_can_be_tested(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= MODULES
    assert {"README.md", "LICENSE", "conf/zatt.conf", "tests/conftest.py", "Dockerfile", ".ci/run"} <= names
