"""Spawning: a forked child of the preloader executes a fresh interpreter in the same role.

For resources that do not survive a fork. The child's program is replaced at once, so process group, death
with the parent, exit notice and channel stay the same.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import NoReturn, Protocol, runtime_checkable

from emberq.entry_points import SPAWNED_HORSE
from emberq.system.messages import Message
from emberq.worker.job.tempdirs import temporary_root


@runtime_checkable
class Spawnable(Protocol):
    """A role that a fresh interpreter can have as well."""

    def spawn_spec(self, spec: Message) -> Message:
        """Return what the interpreter needs to know; raises ValueError if that cannot be sent."""
        ...


def make_spawn_spec(role: Spawnable, spec: Message, *, modules: Sequence[str]) -> Message:
    """Return all that a fresh interpreter needs for the role, or why it cannot have it.

    Args:
        role: The role.
        spec: The fork request's spec.
        modules: Modules whose resources are to be loaded.
    """
    root = temporary_root()
    try:
        made = role.spawn_spec(spec)
    except ValueError as exc:
        return {"failed": str(exc)}
    return {
        **made,
        "modules": list(modules),
        "sys_path": sys.path,
        "temporary_root": str(root) if root else None,
    }


def exec_interpreter(channel: socket.socket) -> NoReturn:
    """Replace this process's program by a fresh interpreter that serves the channel."""
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
    channel.set_inheritable(True)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    place = [str(channel.fileno()), str(os.getppid())]
    command = [sys.executable, *flags, "-P", "-m", SPAWNED_HORSE, *place]
    os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted
