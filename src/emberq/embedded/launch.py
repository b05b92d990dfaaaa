"""The engines' launcher: note the pid, lose root's rights, end with the owner, exec the engine.

It runs as a script of its own (`python -I -S launch.py PLAN COMMAND…`), because a process with threads may
only make async-signal-safe calls between fork and exec. Without site packages it has the standard library
and the modules of `emberq.system` that need nothing else.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

if __name__ == "__main__":
    # At the end: no package beside this one may hide a module of the standard library.
    sys.path.append(str(Path(__file__).parents[2]))

from emberq.system.capabilities import become_user
from emberq.system.processes import die_with_parent, process_identity

#: Exit code that says: the account may not reach a path it needs (sysexits' EX_NOPERM).
UNREACHABLE = 77


class LaunchPlan(TypedDict):
    """What the launcher does before it execs.

    Attributes:
        parent: Pid of the owner; the launcher gives up if another process is its parent by then.
        death_signal: Signal the kernel sends to the engine when the owner's thread ends (Linux).
        pid_file: Where pid and process identity are written, before any right is lost; empty for none.
        account: Uid and gid to run under, None to keep the owner's.
        needs: Paths that the account must be able to read, or to write into if they are its own.
    """

    parent: int
    death_signal: int
    pid_file: str
    account: tuple[int, int] | None
    needs: list[str]


def ending_with_this_process(command: Sequence[str]) -> list[str]:
    """Return the command line that runs a command until it, or the thread that starts it, ends."""
    plan: LaunchPlan = {
        "parent": os.getpid(),
        "death_signal": signal.SIGKILL,
        "pid_file": "",
        "account": None,
        "needs": [],
    }
    return [sys.executable, "-I", "-S", __file__, json.dumps(plan), *command]


def main(arguments: list[str]) -> None:
    """Carry out a plan and become the command; returns only by an exception or an exit.

    Args:
        arguments: A `LaunchPlan` as JSON, then the command with an absolute path as its first word.
    """
    plan: LaunchPlan = json.loads(arguments[0])
    command = arguments[1:]
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o077)
    if plan["pid_file"]:
        trace = f"{os.getpid()} {process_identity(os.getpid())}\n"
        Path(plan["pid_file"]).write_text(trace, encoding="ascii")
    if plan["account"] is not None:
        become_user(*plan["account"], is_content=lambda: _first_unreachable(plan["needs"]) is None)
    unreachable = _first_unreachable(plan["needs"])
    if unreachable is not None:
        sys.stderr.write(f"launch: uid {os.geteuid()} cannot reach {unreachable}\n")
        sys.exit(UNREACHABLE)
    # Last, as a change of credentials would clear it.
    die_with_parent(plan["parent"], with_signal=plan["death_signal"])
    os.execv(command[0], command)  # noqa: S606 - there is no shell to want


def _first_unreachable(needs: list[str]) -> str | None:
    for path in needs:
        try:
            own = Path(path).stat().st_uid == os.geteuid()
        except OSError:
            return path
        if not os.access(path, os.R_OK | os.X_OK | (os.W_OK if own else 0)):
            return path
    return None


if __name__ == "__main__":
    main(sys.argv[1:])
