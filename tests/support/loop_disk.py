"""A file system of a test's own, which can be filled, cut off from its power, and mounted again."""

from __future__ import annotations

import ctypes
import fcntl
import os
import subprocess
from pathlib import Path


class LoopDisk:
    """An ext4 file system in a file, mounted through a loop device."""

    def __init__(self, root: Path, size_bytes: int) -> None:
        self.image = root / "disk.img"
        self.mount_point = root / "disk"
        self.mount_point.mkdir()
        with self.image.open("wb") as file:
            file.truncate(size_bytes)
        run("mkfs.ext4", "-q", "-F", str(self.image))
        self.mount()

    def mount(self) -> None:
        run("mount", "-o", "loop", str(self.image), str(self.mount_point))

    def unmount(self) -> None:
        run("umount", str(self.mount_point))

    def remount(self) -> None:
        """Mount what is on the device, as a machine does that starts again.

        From a copy: any process that made itself a mount namespace meanwhile still holds the old, dead file system.
        """
        self.unmount()
        fresh = self.image.with_name(self.image.name + ".new")
        run("cp", "--sparse=always", str(self.image), str(fresh))
        self.image.unlink()
        fresh.rename(self.image)
        self.mount()

    def cut_power(self) -> None:
        """Stop the file system at once: what is not on the device, journal included, is gone."""
        shutdown, without_log_flush = 0x8004587D, ctypes.c_uint32(2)
        descriptor = os.open(self.mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, shutdown, without_log_flush)
        finally:
            os.close(descriptor)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def fill(disk: Path, free_bytes: int) -> None:
    """Leave so much free, by a file that somebody else might have put there."""
    filler = disk / "filler"
    with filler.open("ab") as file:
        held = filler.stat().st_size
        usage = os.statvfs(disk)
        size = held + usage.f_bavail * usage.f_frsize - free_bytes
        os.ftruncate(file.fileno(), min(held, size))
        os.posix_fallocate(file.fileno(), 0, size)
