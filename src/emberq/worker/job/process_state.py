"""The state of a process that all its jobs share: captured before a job, restored after it."""

from __future__ import annotations

import contextlib
import gc
import locale
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from emberq.telemetry.logs import get_logger

log = get_logger(__name__)

#: Signals whose handlers are restored; reading each one takes half a microsecond.
_SIGNALS = (
    *(signal.SIGALRM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    *(signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE),
)
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
#: Reading the umask sets it; meanwhile nothing is created with too many rights.
_STRICT_UMASK = 0o077


class _Part(NamedTuple):
    """One kind of state: its name, and the functions that read and write it."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


def _read_environment() -> dict[Any, Any]:
    # The undecoded table: `os.environ.copy()` decodes every variable and takes a hundred times as long.
    return dict(vars(os.environ)["_data"])


def _write_environment(before: dict[Any, Any]) -> None:
    now = _read_environment()
    decode = vars(os.environ)["decodevalue"]
    for key in now.keys() - before.keys():
        del os.environ[decode(key)]
    for key, value in before.items():
        if now.get(key) != value:
            os.environ[decode(key)] = decode(value)


def _read_directory() -> str | None:
    with contextlib.suppress(FileNotFoundError):
        return os.getcwd()  # noqa: PTH109 - no Path is wanted here
    return None


def _write_directory(before: str | None) -> None:
    if before is not None:
        os.chdir(before)


def _read_umask() -> int:
    mask = os.umask(_STRICT_UMASK)
    os.umask(mask)
    return mask


def _read_handlers() -> list[Any]:
    return [signal.getsignal(number) for number in _SIGNALS]


def _write_handlers(before: list[Any]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for number, handler in zip(_SIGNALS, before, strict=True):
        # A handler that was not set from Python cannot be set from Python.
        if handler is not None and signal.getsignal(number) != handler:
            signal.signal(number, handler)


def _read_timers() -> list[bool]:
    return [signal.getitimer(timer)[0] > 0 for timer in _TIMERS]


def _write_timers(before: list[bool]) -> None:
    for timer, was_armed in zip(_TIMERS, before, strict=True):
        # A timer that ran before the job is not the job's; it may be RQ's time-out of the job.
        if not was_armed:
            signal.setitimer(timer, 0)


def _read_signal_mask() -> set[int]:
    return signal.pthread_sigmask(signal.SIG_BLOCK, ())


def _write_signal_mask(before: set[int]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _read_root_logger() -> tuple[Any, ...]:
    root = logging.getLogger()
    return root.level, root.disabled, root.manager.disable, root.handlers[:], root.filters[:]


def _write_root_logger(before: tuple[Any, ...]) -> None:
    root = logging.getLogger()
    level, root.disabled, root.manager.disable, handlers, filters = before
    root.setLevel(level)
    for added in [handler for handler in root.handlers if handler not in handlers]:
        root.removeHandler(added)
        added.close()
    root.handlers[:], root.filters[:] = handlers, filters


def _write_warnings(before: list[Any]) -> None:
    warnings.filters[:] = before  # type: ignore[index]
    # Tells the interpreter that the filters have changed.
    with warnings.catch_warnings():
        pass


def _read_interpreter() -> tuple[Any, ...]:
    return sys.stdin, sys.stdout, sys.stderr, sys.getrecursionlimit(), gc.isenabled()


def _write_interpreter(before: tuple[Any, ...]) -> None:
    sys.stdin, sys.stdout, sys.stderr, limit, collects = before
    sys.setrecursionlimit(limit)
    if collects:
        gc.enable()
    else:
        gc.disable()


def _write_temporary(before: str | None) -> None:
    tempfile.tempdir = before


#: In the order in which they are restored; the environment first, since others are read from it.
_PARTS = (
    _Part("environment", _read_environment, _write_environment),
    _Part("working_directory", _read_directory, _write_directory),
    _Part("umask", _read_umask, os.umask),
    _Part("signal_handlers", _read_handlers, _write_handlers),
    _Part("timers", _read_timers, _write_timers),
    _Part("signal_mask", _read_signal_mask, _write_signal_mask),
    _Part("root_logger", _read_root_logger, _write_root_logger),
    _Part("warning_filters", lambda: warnings.filters[:], _write_warnings),
    _Part("sys_path", lambda: sys.path[:], lambda before: sys.path.__setitem__(slice(None), before)),
    _Part("sys_argv", lambda: sys.argv[:], lambda before: sys.argv.__setitem__(slice(None), before)),
    _Part("interpreter", _read_interpreter, _write_interpreter),
    _Part(
        "locale",
        lambda: locale.setlocale(locale.LC_ALL),
        lambda before: locale.setlocale(locale.LC_ALL, before),
    ),
    _Part("socket_timeout", socket.getdefaulttimeout, socket.setdefaulttimeout),
    _Part("temporary_directory", lambda: tempfile.tempdir, _write_temporary),
)


@dataclass(frozen=True, slots=True)
class ProcessState:
    """Environment, working directory, umask, signal handlers, timers, root logger and so on.

    Attributes:
        values: The value of each part, in the order of `_PARTS`.
    """

    values: tuple[Any, ...]

    @classmethod
    def capture(cls) -> ProcessState:
        """Read the state of this process; takes some 15 µs."""
        return cls(tuple(part.read() for part in _PARTS))

    def restore(self) -> list[str]:
        """Restore the parts that have changed; a part that cannot be restored does not stop the others.

        Returns:
            The names of the restored parts.
        """
        changed = []
        for part, before in zip(_PARTS, self.values, strict=True):
            try:
                if part.read() != before:
                    part.write(before)
                    changed.append(part.name)
            except Exception as exc:  # noqa: BLE001 - the other parts are restored all the same
                log.warning("state_restore_failed", part=part.name, error=f"{type(exc).__name__}: {exc}")
        return changed
