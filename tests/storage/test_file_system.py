"""Whether a path lies on a disk, by the kernel's own list of mounts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zattredis.storage.file_system import in_memory


@pytest.mark.parametrize(
    ("kind", "expected"), [("tmpfs", True), ("ramfs", True), ("ext4", False), ("overlay", False), ("fuse.tmpfs", False)]
)
def test_the_type_of_the_mount_that_a_path_lies_on_decides(tmp_path: Path, kind: str, expected: bool) -> None:
    device = tmp_path.stat().st_dev
    other = "tmpfs" if kind == "ext4" else "ext4"
    mounts = tmp_path / "mountinfo"
    number = f"{os.major(device)}:{os.minor(device)}"
    mounts.write_text(
        f"20 1 999999:7 / / rw,relatime - {other} /dev/root rw\n"
        f"36 20 {number} /sub /with\\040blank rw,noatime master:1 shared:2 - {kind} none rw\n"
        f"37 20 999999:8 / /last rw - {other} none rw\n"
    )
    assert in_memory(tmp_path, mounts) is expected


def test_what_the_kernel_does_not_tell_counts_as_a_disk(tmp_path: Path) -> None:
    assert not in_memory(tmp_path, tmp_path / "missing")
    assert not in_memory(tmp_path / "missing")
    (tmp_path / "empty").write_text("\n- - -\n")
    assert not in_memory(tmp_path, tmp_path / "empty")
