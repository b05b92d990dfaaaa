"""What the operating system tells of processes and does with them.

Only the standard library is imported here: the engines' launcher uses it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import threading
from pathlib import Path

from emberq.system.libc import LIBC, check
from emberq.system.machine import boot_id

#: prctl(2): the signal to get when the parent thread ends.
_PR_SET_PDEATHSIG = 1
#: prctl(2): whether a core dump may be written of this process, and debuggers of its user may read it.
_PR_SET_DUMPABLE = 4

#: This process, if its children end with it, and whether the main thread forks just now.
_ends_with: int | None = None
_is_main_thread = False


def die_with_parent(parent_pid: int, *, with_signal: int = signal.SIGKILL) -> None:
    """Ask the kernel to end this process when its parent ends; call it in the child.

    The kernel of macOS cannot. The signal follows the parent's forking thread, so parents fork from their
    main thread.

    Args:
        parent_pid: The parent as the child was told before the fork; if it is gone already, this
            process ends at once.
        with_signal: The number of the signal that the kernel sends; 0 for none.
    """
    if sys.platform == "linux":
        LIBC.prctl(_PR_SET_PDEATHSIG, with_signal, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def end_children_with_this_process() -> None:
    """Have what this process forks from its main thread end with it (Linux only); what a child forks is free.

    For forks by other code, such as RQ's scheduler and the jobs of a horse. A fork from another thread is
    left alone: its child would end with that thread.
    """
    global _ends_with  # noqa: PLW0603 - one per process
    _ends_with = os.getpid()


def _note_thread() -> None:
    global _is_main_thread  # noqa: PLW0603 - in the child the forking thread is the main one
    _is_main_thread = threading.get_ident() == threading.main_thread().ident


def _end_with_parent() -> None:
    global _ends_with
    parent, _ends_with = _ends_with, None
    if parent is not None and _is_main_thread:
        die_with_parent(parent)


os.register_at_fork(before=_note_thread, after_in_child=_end_with_parent)


def process_identity(pid: int) -> str | None:
    """Return what tells a living process from a later one with the same pid; None if it does not live.

    On Linux the boot's id and the start time in clock ticks since that boot, which no clock change moves;
    elsewhere the start time as `ps` prints it, in seconds.
    """
    if sys.platform != "linux":
        import subprocess

        shown = subprocess.run(
            ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return shown.stdout.strip() or None
    try:
        state, *_, started_at = _fields(pid)[:20]
        return None if state in "ZX" else f"{boot_id()}/{int(started_at)}"
    except OSError:
        return None


def process_state(pid: int) -> str:
    """Return the state of a process as `/proc` has it (`R`, `S`, `T` …), empty where it is not told."""
    with contextlib.suppress(OSError):
        return _fields(pid)[0]
    return ""


def process_name(pid: int) -> str:
    """Return the name of a process without its arguments, which may be secret; empty where it is not told."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def is_process_alive(pid: int) -> bool:
    """Tell whether there is a process with this id, a zombie included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def processes_of(program: Path, *, directory: Path) -> list[int]:
    """Return the processes that run a program in a directory, as far as the system tells (Linux only)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").samefile(directory) and (entry / "exe").samefile(program):
                found.append(int(entry.name))
    return found


def descendants(pid: int, *, most: int) -> list[int]:
    """Return the processes below a process, at most one more than `most`; none where it is not told."""
    found: list[int] = []
    pending = [pid]
    while pending and len(found) <= most:
        parent = pending.pop()
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):  # noqa: PTH208 - often called, must be quick
                children = Path(f"/proc/{parent}/task/{task}/children").read_text().split()
                found.extend(int(child) for child in children)
                pending.extend(int(child) for child in children)
    return found


def count_threads() -> int:
    """Return the number of threads of this process, native ones included; 0 where it is not told."""
    with contextlib.suppress(OSError):
        # A directory has two links and one more for each directory in it, here one per thread.
        return os.stat("/proc/self/task").st_nlink - 2  # noqa: PTH116 - a Path is slow in a hot path
    return 0


def count_user_threads() -> int:
    """Return the number of threads of this user's processes, which RLIMIT_NPROC limits (Linux only)."""
    mine, found = os.getuid(), 0
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            # Not the owner of the directory: of a process that may not be dumped, that is root.
            if entry.name.isdigit() and _user(entry) == mine:
                found += len(list((entry / "task").iterdir()))
    return found


def _user(process: Path) -> int:
    status = (process / "status").read_bytes()
    return int(status.partition(b"\nUid:")[2].split(maxsplit=1)[0])


def thread_names() -> list[str]:
    """Return the names of this process's threads besides the main one, native ones included."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            if task.name != str(os.getpid()):
                found.append((task / "comm").read_text().strip())
    return found


def forbid_dumps() -> None:
    """Let no core dump be written of this process and its children, and no process of its user read them.

    On Linux the kernel then also keeps debuggers out that do not run as root. Other systems write no core.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        check(LIBC.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))


def set_process_title(title: str) -> None:
    """Set the title that `ps` shows for this process, after `emberq: `; it must contain no secret."""
    from setproctitle import setproctitle

    setproctitle(f"emberq: {title}")


def _fields(pid: int) -> list[str]:
    """Return the fields of `/proc/PID/stat` from the third on, the state.

    The second is the program's name in parentheses, which may itself have both.
    """
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode("ascii").split()
