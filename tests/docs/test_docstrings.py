"""Every example in a docstring is run, with servers where it starts some."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

import zattredis

ROOT = Path(zattredis.__path__[0])
MODULES = sorted(
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    for path in ROOT.rglob("*.py")
    if "    >>> " in path.read_text()
)


@pytest.fixture(autouse=True)
def _events_as_in_a_new_program() -> Iterator[None]:
    """An earlier test of this process may have sent the house's events somewhere that an example would print."""
    before = structlog.get_config() if structlog.is_configured() else None
    structlog.reset_defaults()
    yield
    if before is not None:
        structlog.configure(**before)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Of one server, for the examples of the client: they know it as `url`, and a fresh dict as `d`."""
    with zattredis.serve() as server:
        yield server.url


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tests = [one for one in doctest.DocTestFinder().find(importlib.import_module(name)) if one.examples]
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    said: list[str] = []
    for test in tests:
        if name.startswith("zattredis.client"):
            test.globs |= {"url": url, "d": zattredis.DistributedDict(url, name=test.name)}
        runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)


def test_there_are_examples_of_what_is_public() -> None:
    dictionary = zattredis.DistributedDict
    for public in (
        zattredis.serve, zattredis.Server, zattredis.Server.partition, zattredis.Node, zattredis.command, dictionary,
        zattredis.AsyncDistributedDict, dictionary.transaction, dictionary.lock, dictionary.watch, dictionary.incr,
        dictionary.compare_and_set,
    ):  # fmt: skip
        assert ">>> " in (public.__doc__ or ""), public
