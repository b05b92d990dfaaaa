"""The duties of PID 1, which a program has in a container: reap orphans and pass signals on."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

from emberq.system.processes import die_with_parent

#: Passed on to the program.
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT)


def under_init(main: Callable[[], int], *, as_init: Callable[[], None] = lambda: None) -> int:
    """Run a program; as PID 1, run it in a child, pass signals on to it and reap orphans.

    The kernel makes PID 1 the parent of every orphan and gives it no default signal handling. A program that
    starts processes must only wait for its own. So the two are separate processes.

    Args:
        main: The program.
        as_init: Called in PID 1 once the program runs.

    Returns:
        The program's exit code, or 128 plus the number of the signal that ended it.
    """
    if os.getpid() != 1:
        return main()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    program = os.fork()
    if program == 0:
        die_with_parent(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return main()
    as_init()
    for number in _FORWARDED:
        signal.signal(number, lambda received, _frame: _pass_on(program, received))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == program:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _pass_on(program: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(program, number)
