"""A file system that is really full: a small tmpfs, or a limit on file sizes where none may be."""

import os
import resource
import subprocess
from contextlib import contextmanager
from pathlib import Path

PAGE = 4096


class SmallDisk:
    """A mounted tmpfs of a few MiB."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def leave(self, size: int) -> None:
        """Fill it until about `size` bytes are free, to a page."""
        self.clear()
        facts = os.statvfs(self.folder)
        fill = max(0, facts.f_bavail * facts.f_frsize - size) // PAGE * PAGE
        with self._ballast.open("wb") as file:
            if fill:
                file.write(bytes(fill))

    def clear(self) -> None:
        """Free what was filled."""
        self._ballast.unlink(missing_ok=True)


class LimitedFiles:
    """No file may pass a size: the system's own error, for this process and its children."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def leave(self, size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, self._before[1]))

    def clear(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


@contextmanager
def small_disk(folder: Path, *, size: str = "16m"):
    """A disk below `folder`."""
    place = folder / "disk"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(["mount", *options], capture_output=True, check=False)
        is_mounted = mounted.returncode == 0
    except FileNotFoundError:
        is_mounted = False
    disk = SmallDisk(place) if is_mounted else LimitedFiles(place)
    try:
        yield disk
    finally:
        disk.clear()
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=True)
