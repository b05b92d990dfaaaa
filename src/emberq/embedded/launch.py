"""Become an engine: leave a trace of the pid, lose root's rights, die with the owner, exec the binary.

It runs as a script of its own (`python -I -S launch.py PLAN COMMAND…`), because nothing but async-signal-safe
calls may stand between fork and exec in a process with threads. Hence only the standard library here.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import TypedDict

__all__ = ["UNREACHABLE", "LaunchPlan", "process_identity"]

#: Exit code that says: the account may not reach a path it needs (sysexits' EX_NOPERM).
UNREACHABLE = 77

# Linux' <linux/prctl.h>, <linux/securebits.h> and <linux/capability.h>.
_PR_SET_PDEATHSIG = 1
_PR_GET_SECUREBITS = 27
_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_CAP_DAC_READ_SEARCH = 2
_CAP_SETPCAP = 8
_CAPABILITY_VERSION_3 = 0x20080522


class LaunchPlan(TypedDict):
    """What the launcher does before it execs.

    Attributes:
        parent: Pid of the owner; the launcher gives up if another process is its parent by then.
        death_signal: Signal the kernel sends to the engine when the owner's thread ends (Linux).
        pid_file: Where pid and process identity are written, before any right is lost; empty for none.
        account: Uid and gid to run under, None to stay who we are.
        needs: Paths that the account must be able to read, or to write into if they are its own.
    """

    parent: int
    death_signal: int
    pid_file: str
    account: tuple[int, int] | None
    needs: list[str]


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
        # The second field is the program's name in parentheses and may itself hold both.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
    if fields[0] in b"ZX":
        return None
    return f"{boot_id}/{int(fields[19])}"


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    return libc


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _permitted_capabilities(libc: ctypes.CDLL) -> int:
    sets = (_Sets * 2)()
    _check(libc.capget(ctypes.byref(_Header(_CAPABILITY_VERSION_3, 0)), sets))
    return int(sets[0].permitted)


def _set_capabilities(libc: ctypes.CDLL, *, effective: int, kept: int) -> None:
    sets = (_Sets * 2)(_Sets(effective, kept, kept), _Sets(0, 0, 0))
    _check(libc.capset(ctypes.byref(_Header(_CAPABILITY_VERSION_3, 0)), sets))


def _first_unreachable(needs: list[str]) -> str | None:
    for path in needs:
        try:
            own = Path(path).stat().st_uid == os.geteuid()
        except OSError:
            return path
        if not os.access(path, os.R_OK | os.X_OK | (os.W_OK if own else 0)):
            return path
    return None


def _drop_to(account: tuple[int, int], needs: list[str]) -> None:
    """Take on the account and lose every right but, where it is needed, that of reaching the paths.

    Binaries and data may lie below directories only root may enter (`/root`, a test's private directory).
    CAP_DAC_READ_SEARCH opens them for reading without opening anything for writing. PostgreSQL asks
    `access(2)`, which ignores the capabilities of ordinary users unless SECBIT_NO_SETUID_FIXUP is set.
    """
    uid, gid = account
    os.setgroups([])
    os.setgid(gid)
    if sys.platform != "linux":
        os.setuid(uid)
        return
    libc = _libc()
    wanted = 1 << _CAP_DAC_READ_SEARCH
    can_keep = not (wanted | 1 << _CAP_SETPCAP) & ~_permitted_capabilities(libc)
    if not can_keep:
        os.setuid(uid)
        return
    bits = _check(libc.prctl(_PR_GET_SECUREBITS, 0, 0, 0, 0))
    _check(libc.prctl(_PR_SET_SECUREBITS, bits | _SECBIT_NO_SETUID_FIXUP, 0, 0, 0))
    os.setuid(uid)
    _set_capabilities(libc, effective=0, kept=wanted)
    if _first_unreachable(needs) is None:
        _set_capabilities(libc, effective=0, kept=0)
        return
    _set_capabilities(libc, effective=wanted, kept=wanted)
    _check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_READ_SEARCH, 0, 0))


def _die_with(parent: int, death_signal: int) -> None:
    """Let the kernel end this process with its parent; a change of credentials would clear it again."""
    if sys.platform == "linux":
        _check(_libc().prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0))
    if os.getppid() != parent:
        sys.exit("launch: the owner ended before its engine started")


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
        _drop_to(plan["account"], plan["needs"])
    unreachable = _first_unreachable(plan["needs"])
    if unreachable is not None:
        sys.stderr.write(f"launch: uid {os.geteuid()} cannot reach {unreachable}\n")
        sys.exit(UNREACHABLE)
    _die_with(plan["parent"], plan["death_signal"])
    os.execv(command[0], command)  # noqa: S606 - there is no shell to want


if __name__ == "__main__":
    main(sys.argv[1:])
