"""Redis's own Tcl test suite: where it comes from, how one unit of it is run against a server, what came out.

The suite is not part of this repository. It is taken from the `redis` source package of the machine's own Debian or
Ubuntu mirror, with private package lists, and kept in a cache directory outside the repository. apt checks signatures.
"""

from __future__ import annotations

import fcntl
import os
import re
import selectors
import shutil
import subprocess
import tarfile
import time
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.cache import cache_directory

SERIES = "7.0"
HERE = Path(__file__).parent
HANGS_MAX = 3
NOT_RUN = "not run:"
DENIED_TAGS = ("needs:debug", "needs:repl", "needs:other-server", "needs:save", "large-memory")


class SuiteUnavailable(Exception):
    """The suite cannot be had here; the text says what is missing."""


# --- fetching


def suite_directory() -> Path:
    """The unpacked suite (holds `tests/`), fetched at the first call. Raises SuiteUnavailable."""
    for tool in ("tclsh", "apt-get", "apt-cache"):
        if shutil.which(tool) is None:
            raise SuiteUnavailable(f"{tool} is not installed")
    home = cache_directory() / f"redis-{SERIES}-suite"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        unpacked = home / "redis"
        if not (unpacked / "tests" / "test_helper.tcl").exists():
            _unpack(_download(home), unpacked)
    return unpacked


def _source_lines() -> list[str]:
    """`deb-src` lines for the archives this machine knows redis-server from."""
    policy = subprocess.run(["apt-cache", "policy", "redis-server"], capture_output=True, text=True, check=False).stdout
    known = set(re.findall(r"^\s+-?\d+ (https?://\S+) (\S+)/(\S+) ", policy, re.M))
    if not known:
        raise SuiteUnavailable("apt knows no redis-server on this machine (run apt-get update)")
    keyrings = _keyrings()
    lines = []
    for uri, suite, component in sorted(known):
        keyring = keyrings.get(uri.rstrip("/"))
        options = f"[signed-by={keyring}] " if keyring else ""
        lines.append(f"deb-src {options}{uri} {suite} {component}")
    return lines


def _keyrings() -> dict[str, str]:
    """uri -> keyring file, as the machine's own source lists say (one-line and deb822 form)."""
    found: dict[str, str] = {}
    lists = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for path in lists:
        if not path.is_file():
            continue
        text = path.read_text(errors="replace")
        for options, uri in re.findall(r"^deb(?:-src)?\s+\[([^\]]*)\]\s+(https?://\S+)", text, re.M):
            if signed_by := re.search(r"signed-by=(\S+)", options):
                found[uri.rstrip("/")] = signed_by.group(1)
        for stanza in re.split(r"\n\s*\n", text):
            uris = re.search(r"^URIs:\s*(.+)$", stanza, re.M)
            signed = re.search(r"^Signed-By:\s*(/\S+)\s*$", stanza, re.M)
            if uris and signed:
                found.update({uri.rstrip("/"): signed.group(1) for uri in uris.group(1).split()})
    return found


def _download(home: Path) -> Path:
    """The upstream tarball of the source package. Raises SuiteUnavailable."""
    for name in ("lists/partial", "cache/archives/partial", "download"):
        (home / name).mkdir(parents=True, exist_ok=True)
    (home / "sources.list").write_text("\n".join(_source_lines()) + "\n")
    options = [
        "-o", f"Dir::Etc::sourcelist={home}/sources.list",
        "-o", "Dir::Etc::sourceparts=/dev/null",
        "-o", f"Dir::State::lists={home}/lists",
        "-o", f"Dir::Cache={home}/cache",
        "-o", "APT::Sandbox::User=",
    ]  # fmt: skip

    def apt(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, cwd=home / "download", timeout=240, check=False)
        if done.returncode != 0:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise SuiteUnavailable(f"{command[0]} {command[-1]} failed: {' '.join(last)}")
        return done.stdout

    apt("apt-get", *options, "update")
    shown = apt("apt-cache", *options, "showsrc", "redis")
    versions = re.findall(rf"^Version: ((?:\d+:)?{re.escape(SERIES)}\.\S+)$", shown, re.M)
    if not versions:
        raise SuiteUnavailable(f"the package sources have no redis {SERIES}")
    apt("apt-get", *options, "source", "--download-only", f"redis={versions[-1]}")
    tarballs = sorted((home / "download").glob(f"redis_{SERIES}.*.orig.tar.*"))
    if not tarballs:
        raise SuiteUnavailable("the source package came without an upstream tarball")
    return tarballs[-1]


def _unpack(tarball: Path, target: Path) -> None:
    """Unpack what the suite needs, and put our guard behind its own procedures."""
    fresh = target.with_name("redis.fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    with tarfile.open(tarball) as archive:
        wanted = []
        for member in archive.getmembers():
            inner = member.name.split("/", 1)[-1]
            if inner.startswith(("tests/", "redis.conf")):
                member.name = inner
                wanted.append(member)
        archive.extractall(fresh, members=wanted, filter="data")
    (fresh / "tests" / "tmp").mkdir(exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def write_entry(suite: Path) -> Path:
    """The script to run: Redis's helper up to where it would start servers, then the guard. Returns its path."""
    helper = (suite / "tests" / "test_helper.tcl").read_bytes()
    head, separator, _ = helper.rpartition(b"\nif {$::client} {")
    if not separator:
        raise SuiteUnavailable("test_helper.tcl is not the one of Redis 7.0")
    entry = suite / "tests" / f"guarded.{os.getpid()}.tcl"
    entry.write_bytes(head + b"\n" + (HERE / "guard.tcl").read_bytes() + b"\nzt_main\n")
    return entry


# --- running


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one test (or, kind `outside`, of one statement between tests)."""

    unit: str
    name: str
    status: str  # ok, err, ignore, skip, outside, hang
    elapsed_ms: int = 0
    details: str = ""

    @property
    def failed(self) -> bool:
        return self.status in ("err", "outside", "hang")

    @property
    def missing_command(self) -> str | None:
        """The command an `unknown command` error in the details names, in lower case."""
        found = re.search(r"unknown (?:command|subcommand)s? ['`\"]?([A-Za-z|]+)", self.details)
        return found.group(1).lower() if found else None


@dataclass(slots=True)
class UnitRun:
    """All outcomes of one unit."""

    unit: str
    outcomes: list[Outcome] = field(default_factory=list)
    complete: bool = False
    output: str = ""

    def count(self, status: str) -> int:
        return sum(outcome.status == status for outcome in self.outcomes)


def run_unit(
    unit: str, host: str, port: int, *, without: Iterable[str] = (), hang_s: float = 150.0, external_too: bool = False
) -> UnitRun:
    """Run one unit, but for the tests named in `without`, against the server at host:port.

    With `external_too` also those that the suite keeps for servers it starts itself.

    A test in which nothing happens for `hang_s` (no line of output, and its process has nothing to do) is reported as
    `hang` and the unit is run again without it, up to three times. Raises SuiteUnavailable.
    """
    suite = suite_directory()
    entry = write_entry(suite)
    tags = " ".join(f"-{tag}" for tag in DENIED_TAGS)
    command = ["tclsh", str(entry.relative_to(suite)), "--host", host, "--port", str(port), "--single", unit]
    command += ["--ignore-digest", "--no-latency", "--tags", tags]
    for name in without:
        command += ["--skiptest", name]
    hung: list[str] = []
    try:
        while True:
            skips = [word for name in hung for word in ("--skiptest", name)]
            run, stuck_in = _run_once(suite, command + skips, unit, hang_s, external_too)
            if stuck_in is None or len(hung) >= HANGS_MAX:
                break
            hung.append(stuck_in)
    finally:
        entry.unlink(missing_ok=True)
    run.outcomes = [outcome for outcome in run.outcomes if not (outcome.status == "skip" and outcome.name in hung)]
    run.outcomes += [Outcome(unit, name, "hang", details=f"no reply for {hang_s:.0f} s") for name in hung]
    return run


def _run_once(
    suite: Path, command: list[str], unit: str, hang_s: float, external_too: bool
) -> tuple[UnitRun, str | None]:
    """One run, and the test it hung in, if it did."""
    run = UnitRun(unit)
    environment = os.environ | ({"ZT_EXTERNAL_TOO": "1"} if external_too else {})
    process = subprocess.Popen(command, cwd=suite, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    assert process.stdout is not None
    current: str | None = None
    stuck = False
    noise: list[str] = []
    try:
        for line in _lines(process, hang_s):
            if not line.startswith("ZT "):
                noise.append(line)
                continue
            _, status, name_hex, elapsed, details_hex = line.split(" ")
            name, details = _unhex(name_hex), _unhex(details_hex)
            current = name if status == "begin" else None
            if status == "done":
                run.complete = True
            elif status != "begin":
                run.outcomes.append(Outcome(unit, name, status, int(elapsed), details))
    except TimeoutError:
        stuck = True
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    run.output = "\n".join(noise[-30:])
    return run, current if stuck else None


def _lines(process: subprocess.Popen[bytes], quiet_s: float) -> Iterator[str]:
    """Lines of the output; TimeoutError when none came for `quiet_s` in which the process did nothing either.

    Silence alone is no hang: between two lines may be thirty thousand commands, on a machine that is slow or busy.
    """
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        pending = b""
        deadline, worked = time.monotonic() + quiet_s, processor_ticks(process.pid)
        while True:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                if processor_ticks(process.pid) == worked:
                    raise TimeoutError
                deadline, worked = time.monotonic() + quiet_s, processor_ticks(process.pid)
                continue
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                return
            deadline, worked = time.monotonic() + quiet_s, processor_ticks(process.pid)
            *complete, pending = (pending + chunk).split(b"\n")
            for line in complete:
                yield line.decode("utf-8", "replace")


def processor_ticks(pid: int) -> int:
    """How much processor time a child of ours has had, in the kernel's ticks."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return int(user) + int(system)


def _unhex(digits: str) -> str:
    return "" if digits == "-" else bytes.fromhex(digits).decode("utf-8", "replace")


# --- judging


def exceptions_of(unit: str) -> dict[str, str]:
    """test name -> reason, for the tests of a unit that are allowed to fail."""
    with (HERE / "exceptions.toml").open("rb") as file:
        return dict(tomllib.load(file).get(unit, {}))


@dataclass(slots=True)
class Verdict:
    """How a unit compares with what is expected of it."""

    passed: int = 0
    not_applicable: int = 0
    listed: list[Outcome] = field(default_factory=list)
    later: list[Outcome] = field(default_factory=list)  # needs a command the server does not have yet
    unexpected: list[Outcome] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)  # listed, but passes now, or is no test of this unit


def judge(run: UnitRun, exceptions: dict[str, str], commands: set[str]) -> Verdict:
    """`commands` are the names of the commands the server has, in lower case."""
    verdict = Verdict()
    failed_names = {outcome.name for outcome in run.outcomes if outcome.failed}
    seen = {outcome.name for outcome in run.outcomes if outcome.status == "ok"}
    for outcome in run.outcomes:
        missing = outcome.missing_command
        if outcome.status == "ok":
            verdict.passed += 1
        elif not outcome.failed:
            verdict.not_applicable += 1
        elif outcome.name in exceptions:
            verdict.listed.append(outcome)
        elif missing is not None and missing not in commands:
            verdict.later.append(outcome)
        else:
            verdict.unexpected.append(outcome)
    known = seen | {outcome.name for outcome in run.outcomes}
    verdict.stale = sorted(
        name for name, reason in exceptions.items()
        if name not in failed_names and (name in seen or (name not in known and not reason.startswith(NOT_RUN)))
    )  # fmt: skip
    return verdict
