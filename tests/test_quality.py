"""The code keeps its own rules: types, style, and which room may import which."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FUNCTION_LINES_MAX = 100
FILE_LINES_MAX = 700
"""Ceilings; what is wanted is a screen (about 70 lines) and a few screens (about 500)."""


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_types() -> None:
    run(sys.executable, "-m", "mypy", "--strict", "zattredis")


def test_style() -> None:
    run(sys.executable, "-m", "ruff", "check", "zattredis", "tests", "benchmarks")


def test_rooms_import_only_lower_rooms() -> None:
    run(str(Path(sys.executable).parent / "lint-imports"), "--config", "pyproject.toml")


def test_functions_and_files_stay_readable() -> None:
    too_long = []
    for path in sorted((REPOSITORY / "zattredis").rglob("*.py")):
        text = path.read_text()
        if (lines := text.count("\n")) > FILE_LINES_MAX:
            too_long.append(f"{path}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    too_long.append(f"{path}:{node.lineno}: {node.name} has {lines} lines")
    assert not too_long


def test_the_dockerfile() -> None:
    tool = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if tool is None:
        pytest.skip("hadolint is not installed (the dev extra)")
    run(tool, "--failure-threshold", "info", "Dockerfile")


def test_the_dockerfile_copies_only_what_is_there_and_not_ignored() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    for line in (REPOSITORY / "Dockerfile").read_text().splitlines():
        words = line.split()
        if words[:1] == ["COPY"] and not words[1].startswith("--from"):
            for name in words[1:-1]:
                assert (REPOSITORY / name).exists(), name
                assert f"!{name}" in ignored, name


def test_the_top_level_is_what_contributing_says() -> None:
    allowed = {
        "zattredis", "tests", "benchmarks", "conf", "pyproject.toml", "Dockerfile", "README.md", "CHANGELOG.md",
        "CONTRIBUTING.md", "LICENSE", ".ci", ".gitignore", ".dockerignore",
    }  # fmt: skip
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )  # fmt: skip
    if listed.returncode != 0:
        listed_names = [path.name for path in REPOSITORY.iterdir() if not path.name.startswith(".")]
        assert {"zattredis", "tests", "pyproject.toml"} <= set(listed_names)
        return
    assert {name.split("/")[0] for name in listed.stdout.split("\0") if name} <= allowed


def test_every_dependency_has_a_lower_bound() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    for requirement in project["dependencies"]:
        assert ">=" in requirement, requirement
