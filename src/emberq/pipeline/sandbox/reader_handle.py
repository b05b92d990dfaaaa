"""The reader as other processes use it: it is started once per host, and all horses send to the same socket.

A process that finds the reader dead starts one of its own. The preloader looks before each fork, so horses
that are forked later share a new one.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Final

from emberq.entry_points import READER
from emberq.errors import EmberqError, InternalError, SettingInvalid
from emberq.pipeline.sandbox.messages import REQUEST_BYTES
from emberq.system.forks import keep_for_horses
from emberq.system.kept_open import adopting
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)

#: Seconds that a reader may take to load; it needs half a second.
_START_SECONDS: Final = 120.0
#: Seconds after which a reader that takes no request counts as dead.
_SEND_SECONDS: Final = 10.0
#: Seconds that a reader may take to end when nothing needs it; it needs milliseconds.
_END_SECONDS: Final = 5.0
#: Variables that a reader gets: only what its interpreter and libraries are found by.
_VARIABLES: Final = ("PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
#: Its other variables: the same text everywhere, no backtraces, which Rust makes with memory that a child may
#: not have, and no threads for OCR, which children do not inherit.
_ENVIRONMENT: Final = {
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "RUST_BACKTRACE": "0",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
#: What the interpreter runs: `main` of the module that the first argument names.
_PROGRAM: Final = (
    "import sys; from importlib import import_module; "
    "module, descriptor, owner, *sys.path[:] = sys.argv[1:]; "
    "import_module(module).main(int(descriptor), int(owner))"
)


class ReaderHandle:
    """A reader process.

    Attributes:
        pid: Its process id.
        protections: What confines its children, as one line.
        missing: What this system lacks for full protection.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], channel: socket.socket, ready: dict[str, Any]
    ) -> None:
        self._process = process
        self._channel = channel
        self.pid = process.pid
        self.started_by = os.getpid()
        self.protections: str = ready["protections"]
        self.missing: list[str] = ready["missing"]

    def is_alive(self) -> bool:
        """Tell, without waiting, whether the reader still has its end of the socket."""
        poll = select.poll()
        poll.register(self._channel, 0)
        return not poll.poll(0)

    def send(self, body: bytes, descriptors: Sequence[int]) -> None:
        """Send a request.

        Raises:
            OSError: If the reader is gone or does not take it.
        """
        socket.send_fds(self._channel, [body], list(descriptors))

    def close(self) -> None:
        """Close the socket; where this process started the reader, end and reap it."""
        self._channel.close()
        if self.started_by != os.getpid():
            return
        try:
            # Other processes may have the socket.
            self._process.terminate()
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def start_reader(program: str = READER) -> ReaderHandle:
    """Start a reader and wait until it has loaded the extractors.

    Args:
        program: The module of its program.

    Raises:
        InternalError: If it cannot be started.
    """
    kind = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_STREAM
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    kept = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    with theirs:
        process = subprocess.Popen(
            [
                *(sys.executable, "-s", "-P", "-c", _PROGRAM),
                *(program, str(theirs.fileno()), str(os.getpid())),
                *filter(None, sys.path),
            ],
            env={**kept, **_ENVIRONMENT},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    ours.settimeout(_START_SECONDS)
    try:
        told: dict[str, Any] = json.loads(ours.recv(REQUEST_BYTES) or '{"failed": "it ended"}')
        if "failed" in told:
            raise InternalError(f"The reader cannot be started: {told['failed']}")
        ours.settimeout(_SEND_SECONDS)
        return ReaderHandle(process, keep_for_horses(ours), told["ready"])
    except BaseException as exc:
        ours.close()
        process.kill()
        process.wait()
        if isinstance(exc, OSError):
            raise InternalError(f"The reader cannot be started: {exc}.") from exc
        raise


_reader: ReaderHandle | None = None
_is_full_protection_required = False


def require_full_protection(*, required: bool) -> None:
    """Choose whether this process and its forks refuse a reader that this system cannot confine fully."""
    global _is_full_protection_required  # noqa: PLW0603 - a fact about the process
    _is_full_protection_required = required


def get_reader() -> ReaderHandle:
    """Return a living reader; start one if there is none.

    Raises:
        InternalError: If it cannot be started.
        SettingInvalid: If full protection is required and this system lacks some of it.
    """
    global _reader  # noqa: PLW0603 - one reader for the process and its forks
    if _reader is not None:
        if _reader.is_alive():
            return _reader
        log.warning("reader_lost", reader=_reader.pid)
        _reader.close()
        _reader = None
    with adopting():
        reader = start_reader()
        if _is_full_protection_required:
            _refuse_incomplete(reader)
    if reader.missing:
        log.warning("sandbox_incomplete", lacks=reader.missing, has=reader.protections)
    else:
        log.info("reader_started", reader=reader.pid, protections=reader.protections)
    _reader = reader
    return reader


def check_full_protection() -> None:
    """Start a reader for a moment, to see what this system has.

    Raises:
        InternalError: If it cannot be started.
        SettingInvalid: If this system lacks some of the protection.
    """
    reader = start_reader()
    _refuse_incomplete(reader)
    reader.close()


def _refuse_incomplete(reader: ReaderHandle) -> None:
    if reader.missing:
        reader.close()
        raise SettingInvalid(
            f"EMBERQ_SANDBOX=require: this system lacks {' and '.join(reader.missing)}.",
            hint="Use a system that has it, or set EMBERQ_SANDBOX=auto: files are then less confined.",
        )


def close_reader() -> None:
    """Give up the reader; the process that started it ends it."""
    global _reader  # noqa: PLW0603 - the same
    if _reader is not None:
        _reader.close()
        _reader = None


def _replace_dead_reader() -> None:
    """Start another reader, if this process's own is dead, for the process that it is about to fork."""
    if _reader is None or _reader.started_by != os.getpid() or _reader.is_alive():
        return
    try:
        get_reader()
    except EmberqError as exc:
        # The forked process tries again when it needs one.
        log.warning("reader_not_started", error=exc.message)


os.register_at_fork(before=_replace_dead_reader)
