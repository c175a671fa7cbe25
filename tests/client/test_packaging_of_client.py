"""Types as seen from outside, and what is imported when."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

PROGRAM = '''
from dataclasses import dataclass
from zattredis import AsyncDistributedDict, DistributedDict
from zattredis.client import ABSENT, Lock, OutcomeUnknown, RefreshPolicyTime, pickle_codec

@dataclass
class Order:
    item: str

orders = DistributedDict[str, Order](["a:5254", "b:5254"], name="orders", refresh_policy=RefreshPolicyTime())
orders["1"] = Order("pen")
found: Order = orders["1"]
maybe: Order | None = orders.get("1")
pair: tuple[str, Order] = orders.popitem()
plain: dict[str, Order] = orders | {"2": found}
both: dict[str, Order] = orders.copy()
names: list[str] = [name for name in orders]
with orders.transaction() as t, orders.lock("x") as lock:
    t["3"] = Order("x")
    token: int | None = lock.token
changed: bool = orders.compare_and_set("1", ABSENT, Order("y"))

async def main() -> Order:
    async with AsyncDistributedDict[str, Order]() as d:
        async for key, order in d.items():
            key.upper()
        return await d["1"]
'''


def mypy(directory: Path, text: str) -> str:
    (directory / "program.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(directory / "cache"), "program.py"],
        cwd=directory, env={"MYPYPATH": str(REPOSITORY), "PATH": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return "\n".join(line for line in done.stdout.splitlines() if line.startswith("program.py"))


def test_mypy_strict_accepts_a_program_and_finds_its_mistakes(tmp_path: Path) -> None:
    mistakes = ['orders[1] = Order("x")', 'orders["1"] = 5', 'number: int = orders["1"]']
    found = mypy(tmp_path, PROGRAM + "\n".join(mistakes) + "\n").splitlines()
    first = PROGRAM.count("\n") + 1
    assert {int(line.split(":")[1]) for line in found} == {first, first + 1, first + 2}, found


def test_importing_zattredis_needs_no_redis_py_and_the_client_says_what_it_needs() -> None:
    code = (
        "import sys; sys.modules['redis'] = None; import zattredis\n"
        "try: zattredis.DistributedDict\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.stdout == "DistributedDict needs redis-py: pip install 'zattredis[client]'\n", done.stderr


def test_importing_zattredis_imports_nothing_else() -> None:
    code = "import sys, zattredis; print({'redis', 'msgspec', 'rocksdict'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    import zattredis

    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        zattredis.nope  # noqa: B018
