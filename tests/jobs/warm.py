"""Jobs and resources that the worker tests run in real workers."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from emberq import job_scope, progress, resource
from tests.harness import c_heap
from tests.harness.eventually import eventually

LOADS = Path(os.environ.get("WARM_JOBS_LOADS", "/dev/null"))


@resource
def model() -> dict[str, int]:
    with LOADS.open("a") as file:
        file.write(f"{os.getpid()}\n")
    return {"pid": os.getpid()}


@resource
def cleaned() -> Iterator[str]:
    yield "open"


def where() -> list[int]:
    """Return the horse's process and the one that loaded the model."""
    return [os.getpid(), model()["pid"]]


#: What jobs keep after their end, outside of everything that `job_scope` puts back.
_KEPT: list[bytes] = []


def keep(size: int) -> int:
    """Keep so many bytes in the module and return the horse's process."""
    _KEPT.append(os.urandom(size))
    return os.getpid()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def raise_error() -> None:
    msg = "as expected"
    raise ValueError(msg)


def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


def wait_for_file(path: str) -> str:
    """Run until a file is there, or until the test that makes it has given up."""
    eventually(Path(path).exists)
    return "waited"


def change_everything(tmp: str) -> None:
    """Leave the environment, the directory and a handler changed."""
    os.environ["WARM_JOBS_LEFT"] = "behind"
    os.chdir(tmp)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)


def look_around() -> list[str]:
    return [os.environ.get("WARM_JOBS_LEFT", ""), str(Path.cwd()), str(signal.getsignal(signal.SIGTERM))]


def hold_interpreter() -> None:
    """Stay in C without letting go of the interpreter, as a bad extension does."""
    sum(itertools.repeat(1, 10**13))


def loop() -> None:
    """Run for ever in Python."""
    while True:
        pass


def deadlock() -> None:
    """Wait for a lock that nobody gives back."""
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def stop_itself() -> None:
    """Stand still, as after Ctrl-Z."""
    while True:
        os.kill(os.getpid(), signal.SIGSTOP)


def fork_bomb(most: int) -> None:
    """Fork processes that fork; bounded, for the case that nobody stops it."""
    for _ in range(most):
        if os.fork() == 0:
            time.sleep(600)
            os._exit(0)
        time.sleep(0.001)
    time.sleep(600)


def hog(size: int) -> int:
    """Take memory in pieces."""
    return sum(len(piece) for piece in [bytearray(1 << 20) for _ in range(size >> 20)])


def burn(seconds: float) -> None:
    """Use processor time."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def report_slowly(reports: int) -> str:
    """Report progress more often than it may stall."""
    for done in range(reports):
        progress(done, reports, stage="working")
        time.sleep(0.25)
    return "done"


def orphan() -> int:
    """Leave a process without a parent that ends by itself."""
    middle = os.fork()
    if middle == 0:
        if os.fork() == 0:
            time.sleep(0.3)
        os._exit(0)
    os.waitpid(middle, 0)
    return os.getpid()


_leaked: list[object] = []


def leak(kind: str) -> int:
    """Leave a socket or a thread behind."""
    if kind == "socket":
        _leaked.append(socket.socket())
    else:
        thread = threading.Thread(target=time.sleep, args=(60,), daemon=True)
        thread.start()
        _leaked.append(thread)
    return os.getpid()


def scoped(path: str) -> int:
    """Open a file in the job's scope; it is closed when the job ends."""
    with job_scope() as scope:
        scope.closing(Path(path).open("a"))  # noqa: SIM115 - the scope closes it
        progress(1, 1, stage="writing")
    return os.getpid()


def counts() -> list[int]:
    """Return this process's descriptors and threads."""
    return [len(list(Path(f"/proc/self/{kind}").iterdir())) for kind in ("fd", "task")]


def heap() -> int:
    """Return the bytes that are in use in the C library's heap."""
    return c_heap.bytes_in_use()
