"""What /proc says of other processes: memory, descriptors, threads, descendants."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Memory", "children_of", "descendants_of", "is_alive", "memory_of", "open_files", "threads_of"]

#: Bytes of a megabyte, as everywhere in these tables.
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a process, in MB.

    Attributes:
        private: What only it has (USS); freed when it ends.
        proportional: Its share of everything it maps (PSS); these add up over processes.
        clean: What of the private memory are pages of files as they are on disk; the system drops them when
            it needs the memory.
    """

    private: float = 0.0
    proportional: float = 0.0
    clean: float = 0.0

    def __add__(self, other: Memory) -> Memory:
        return Memory(
            self.private + other.private,
            self.proportional + other.proportional,
            self.clean + other.clean,
        )


def memory_of(pid: int) -> Memory:
    """Return a process's memory.

    Raises:
        OSError: If it is gone or belongs to somebody else.
    """
    kilobytes: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":", 1)
        kilobytes[name] = int(value.split()[0])
    clean, dirty, proportional = (
        kilobytes[name] * 1024 / MB for name in ("Private_Clean", "Private_Dirty", "Pss")
    )
    return Memory(clean + dirty, proportional, clean)


def open_files(pid: int) -> int:
    """Return how many file descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads_of(pid: int) -> int:
    """Return how many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended and was not collected yet does not."""
    with contextlib.suppress(OSError):
        return _fields(pid)[0] != "Z"
    return False


def children_of(pid: int) -> list[int]:
    """Return the children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if int(_fields(int(entry.name))[1]) == pid:
                    found.append(int(entry.name))
    return sorted(found)


def descendants_of(pid: int) -> list[int]:
    """Return the children of a process, their children, and so on."""
    direct = children_of(pid)
    return direct + [below for child in direct for below in descendants_of(child)]


def _fields(pid: int) -> list[str]:
    """Return state, parent and the rest of a process's `stat`; its title may contain anything."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
