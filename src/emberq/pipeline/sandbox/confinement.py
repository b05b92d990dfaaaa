"""What the reader and its children take from themselves: rights, descriptors, system calls."""

from __future__ import annotations

import contextlib
import math
import os
import pwd
import resource
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from emberq.pipeline.sandbox.landlock import landlock_version, refuse_everything
from emberq.pipeline.sandbox.seccomp import allow_only_reading, has_seccomp
from emberq.system.libc import LIBC, check
from emberq.system.processes import die_with_parent

# <linux/prctl.h>.
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
#: User ids that distributions leave free; the reader takes the first without an account.
_FREE_USER_IDS: Final = range(65533, 65519, -1)
#: Out of memory, the kernel ends first what has the highest score; a reader and its children cost the least.
_OOM_SCORE: Final = 500
#: A tenth of the processor time of a process that answers requests, when both want it.
_NICENESS: Final = 10


@dataclass(frozen=True, slots=True)
class Protections:
    """What confines a reader's children on this system.

    Attributes:
        landlock: The version of the kernel's Landlock interface; 0 if there is none.
        seccomp: Whether the kernel filters system calls.
        user: The user id of the reader's own; None if it runs as the user who started it.
        is_root: Whether that user is root.
    """

    landlock: int
    seccomp: bool
    user: int | None
    is_root: bool

    @property
    def missing(self) -> list[str]:
        """What this system lacks; empty if the protection is full."""
        return [
            *([] if self.landlock else ["Landlock"]),
            *([] if self.seccomp else ["seccomp"]),
            *(["a user id of its own"] if self.is_root else []),
        ]

    def __str__(self) -> str:
        """Return all in one line."""
        user = f"user id {self.user}" if self.user is not None else "the user who started it"
        parts = [
            *([f"Landlock {self.landlock}"] if self.landlock else []),
            *(["seccomp"] if self.seccomp else []),
            *(["root"] if self.is_root else [user]),
        ]
        return ", ".join(parts)


def confine_reader(owner: int) -> Protections:
    """Take from this process, which has loaded the extractors, what reading and forking do not need.

    Args:
        owner: Id of the parent; when it dies, the kernel ends this process (Linux only).

    Returns:
        What will confine its children.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    user = None
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE), encoding="ascii")
    if os.geteuid() == 0:
        user = _leave_root()
    if sys.platform == "linux":
        check(LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        # No other process of this user may look into this one or trace it.
        check(LIBC.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))
    # Again after the change of the user, which has cleared it.
    die_with_parent(owner)
    version = landlock_version()
    if version:
        refuse_everything(version)
    return Protections(version, seccomp=has_seccomp(), user=user, is_root=os.geteuid() == 0)


def _leave_root() -> int | None:
    """Become a user who owns nothing, in an empty root directory; return the id, None if that is refused."""
    with contextlib.suppress(OSError):
        empty = tempfile.mkdtemp(prefix="emberq-reader-")
        os.chdir(empty)
        os.rmdir(empty)  # noqa: PTH106 - the working directory keeps it until this process ends
        os.chroot(".")
    for user in _FREE_USER_IDS:
        with contextlib.suppress(KeyError):
            pwd.getpwuid(user)
            continue
        with contextlib.suppress(OSError):
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            return user
    return None


def confine_child(
    kept: Sequence[int],
    protections: Protections,
    *,
    reader: int,
    cpu_seconds: float,
    ocr_seconds: float,
    address_space: int,
) -> None:
    """Take from this process everything that reading a file does not need.

    It keeps descriptors 0, 1, 2 and those given. It can open no others, fork nothing, write to no file and
    reach no other process; memory and processor time are limited.

    Args:
        kept: The descriptors that stay open.
        protections: What the system has.
        reader: Id of the parent; when it dies, the kernel ends this process (Linux only).
        cpu_seconds: Most processor time.
        ocr_seconds: So much more it may allow itself while it does OCR.
        address_space: Most bytes of address space (Linux only).
    """
    # A group of its own, in the same session: Linux weighs niceness within a session.
    os.setpgid(0, 0)
    die_with_parent(reader)
    # Searches and uploads go first.
    os.nice(_NICENESS)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for below, above in pairwise((2, *sorted(kept), os.sysconf("SC_OPEN_MAX"))):
        os.closerange(below + 1, above)
    seconds = math.ceil(cpu_seconds)
    _lower_limit(resource.RLIMIT_CPU, seconds, seconds + 1 + math.ceil(ocr_seconds))
    if sys.platform == "linux":
        _lower_limit(resource.RLIMIT_AS, address_space)
    if protections.landlock:
        refuse_everything(protections.landlock)
    _lower_limit(resource.RLIMIT_NPROC, 0)
    _lower_limit(resource.RLIMIT_NOFILE, 0)
    if protections.seccomp:
        allow_only_reading()


def _lower_limit(kind: int, soft: int, hard: int | None = None) -> None:
    """Set a limit, unless the inherited one is lower."""
    _, ceiling = resource.getrlimit(kind)
    hard = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(kind, (soft, hard))
