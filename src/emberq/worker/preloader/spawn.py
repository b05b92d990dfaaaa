"""Spawning: a forked child of the preloader becomes a fresh interpreter that plays the same role.

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

__all__ = ["Spawnable", "become_spawned", "write_recipe"]


@runtime_checkable
class Spawnable(Protocol):
    """A role that can also be played by a fresh interpreter."""

    def recipe(self, spec: Message) -> Message:
        """Return what the interpreter needs to know; raises ValueError if that cannot be told."""
        ...


def write_recipe(role: Spawnable, spec: Message, *, modules: Sequence[str]) -> Message:
    """Return all that a fresh interpreter needs to play the role, or why it cannot.

    Args:
        role: The role.
        spec: The fork request's spec.
        modules: Modules whose resources are to be loaded.
    """
    root = temporary_root()
    try:
        recipe = role.recipe(spec)
    except ValueError as exc:
        return {"failed": str(exc)}
    return {
        **recipe,
        "modules": list(modules),
        "sys_path": sys.path,
        "temporary_root": str(root) if root else None,
    }


def become_spawned(channel: socket.socket) -> NoReturn:
    """Replace this process's program by a fresh interpreter that serves the channel."""
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
    channel.set_inheritable(True)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    command = [sys.executable, *flags, "-P", "-m", SPAWNED_HORSE, str(channel.fileno())]
    os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted
