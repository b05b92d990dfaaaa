"""What a machine has to permit: a small file system, networks of their own; without them less is done."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["own_network", "small_file_system"]

#: Bytes of the file system that holds the blobs; small, so that it can be filled.
_BLOB_BYTES = 256 * 1024 * 1024


@contextlib.contextmanager
def small_file_system(path: Path) -> Iterator[None]:
    """Mount a small tmpfs; where that is not permitted a directory has to do, and the disk is not filled."""
    path.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", f"size={_BLOB_BYTES}", "emberq-campaign", str(path)]
    mounted = (
        sys.platform == "linux" and not subprocess.run(mount, capture_output=True, check=False).returncode
    )
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["/bin/umount", "-l", str(path)], capture_output=True, check=False)


def own_network() -> list[str]:
    """Return the command that gives a program a network of its own, nothing where that is not permitted."""
    unshare = shutil.which("unshare")
    if (
        unshare is None
        or subprocess.run([unshare, "-n", "true"], capture_output=True, check=False).returncode
    ):
        return []
    return [unshare, "-n"]
