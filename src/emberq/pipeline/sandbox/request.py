"""One file that a reader reads, as the horse sees it: descriptors, the child's state, its end."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from itertools import chain, starmap
from pathlib import Path
from typing import Final

from emberq.pipeline.sandbox import messages
from emberq.pipeline.sandbox.reader_handle import ReaderHandle

#: Arguments of one call. `starmap` makes the call in C and `extend` records its result there, so that no
#: signal handler can run in between.
_ONCE: Final = ((),)
#: Most characters of a file's name that the reader gets, from the end: the suffix tells kinds of text apart.
_MAX_NAME: Final = 200


class ReaderLost(Exception):
    """The reader is gone; another one can read the file."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended.

    Attributes:
        status: As `Popen.returncode`.
        grown_bytes: Most resident memory beyond that of the reader (Linux only).
    """

    status: int
    grown_bytes: int


class Request:
    """A file that is being read, the pipes from the child, and the socket to the reader.

    Invariant: everything opened is recorded at once, and `close` closes all of it; the reader then kills the
    child.

    Attributes:
        child: Process id of the child; None before it has started.
        ended: How the child ended; None while it runs.
    """

    def __init__(self) -> None:
        self._descriptors: list[int] = []
        self._sockets: list[socket.socket] = []
        self._told = b""
        self.child: int | None = None
        self.ended: Ended | None = None

    @property
    def answer(self) -> int:
        """The descriptor to read the child's messages from."""
        return self._descriptors[1]

    @property
    def report(self) -> int:
        """The descriptor to read the child's standard error from."""
        return self._descriptors[2]

    @property
    def control(self) -> socket.socket:
        """The socket to the reader."""
        return self._sockets[0]

    def send(
        self,
        reader: ReaderHandle,
        path: Path,
        *,
        name: str,
        cpu_seconds: float,
        memory_bytes: int,
        factor: float,
        ocr_seconds: float,
        hidden: bool,
    ) -> None:
        """Open a file and ask a reader to read it; call it while signals are blocked.

        Raises:
            OSError: If the file cannot be opened.
            ReaderLost: If the reader is gone.
        """
        self._descriptors.extend(starmap(os.open, ((path, os.O_RDONLY | os.O_CLOEXEC),)))
        self._descriptors.extend(chain.from_iterable(starmap(os.pipe, _ONCE)))
        self._descriptors.extend(chain.from_iterable(starmap(os.pipe, _ONCE)))
        self._sockets.extend(chain.from_iterable(starmap(socket.socketpair, _ONCE)))
        file, answer_read, answer_write, report_read, report_write = self._descriptors
        fields = {
            "name": name[-_MAX_NAME:],
            "cpu_seconds": cpu_seconds,
            "memory_bytes": memory_bytes,
            "factor": factor,
            "ocr_seconds": ocr_seconds,
            "hidden": hidden,
        }
        body = json.dumps(fields).encode().ljust(messages.REQUEST_BYTES)
        try:
            reader.send(body, [file, answer_write, report_write, self._sockets[1].fileno()])
        except OSError as exc:
            raise ReaderLost from exc
        self._descriptors[:] = [file, answer_read, report_read]
        os.close(answer_write)
        os.close(report_write)
        self._sockets.pop().close()

    def take_news(self) -> None:
        """Receive what the reader tells of the child.

        Raises:
            ReaderLost: If the reader is gone.
        """
        size = messages.STARTED.size + messages.ENDED.size
        try:
            told = self.control.recv(size - len(self._told))
        except OSError as exc:
            raise ReaderLost from exc
        if not told:
            raise ReaderLost
        self._told += told
        if len(self._told) >= messages.STARTED.size:
            self.child = messages.STARTED.unpack_from(self._told)[0]
        if len(self._told) == size:
            self.ended = Ended(*messages.ENDED.unpack_from(self._told, messages.STARTED.size))

    def close(self) -> None:
        """Close everything; the reader kills the child."""
        while self._descriptors:
            os.close(self._descriptors.pop())
        while self._sockets:
            self._sockets.pop().close()
