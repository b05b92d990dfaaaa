"""The reader process: it has loaded the extractors and nothing else, and forks a confined child per file.

One reader serves all horses of a host. It starts as a fresh program with an empty environment, so its memory
holds no key, no address of a database and no other file. It reads nothing that a child writes: a child
answers its horse over a pipe of the horse's own.

A request is a message of `REQUEST_BYTES` bytes of JSON with four descriptors: the file, the pipe for the
answer, the pipe for standard error, and a socket. On that socket the reader says that the child has started,
and how it has ended. If the horse closes its end, the child is killed.
"""

from __future__ import annotations

import contextlib
import encodings
import faulthandler
import importlib
import json
import os
import pkgutil
import resource
import selectors
import signal
import socket
import sys
import traceback
from typing import Any, Final, NoReturn

from emberq.pipeline.extract.layout import image, ocr
from emberq.pipeline.sandbox.child import FileRequest, Read, read_and_exit, read_document
from emberq.pipeline.sandbox.confinement import Protections, confine_reader
from emberq.pipeline.sandbox.messages import ENDED, REQUEST_BYTES, STARTED
from emberq.pipeline.sandbox.samples import read_samples
from emberq.system.memory import address_space_bytes, anonymous_bytes, freeze_objects
from emberq.system.processes import die_with_parent, set_process_title

#: Descriptors of a request.
_DESCRIPTORS: Final = 4


def main(descriptor: int, owner: int, *, read: Read = read_document) -> NoReturn:
    """Load the extractors, confine this process, and serve requests until the owner is gone.

    Args:
        descriptor: The socket for requests.
        owner: Id of the process that started this one.
        read: What a child does with its file.
    """
    code = 1
    requests = socket.socket(fileno=descriptor)
    requests.set_inheritable(False)
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _lift_limits()
        die_with_parent(owner)
        set_process_title("reader")
        _load()
        server = _Server(requests, read)
        protections = confine_reader(owner)
        server.protections = protections
        ready = {"protections": str(protections), "missing": protections.missing}
        requests.send(json.dumps({"ready": ready}).encode())
        # Nothing of the owner stays open but the socket.
        os.dup2(0, 2)
        server.serve()
        code = 0
    except Exception:  # noqa: BLE001 - the owner reports it
        with contextlib.suppress(OSError):
            requests.send(json.dumps({"failed": traceback.format_exc(limit=-1)[-2000:]}).encode())
    finally:
        os._exit(code)


def _lift_limits() -> None:
    """Undo the limits of the job in which a horse may have started this process."""
    for kind in (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_NPROC):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (hard, hard))


def _load() -> None:
    """Load what a child cannot load any more, and run the extractors' code, so that children share it."""
    for module in pkgutil.iter_modules(encodings.__path__):
        with contextlib.suppress(ImportError):
            # Some exist on one system only.
            importlib.import_module(f"encodings.{module.name}")
    ocr.load()
    image.warm_up()
    read_samples(read_document)
    faulthandler.enable(file=2)
    freeze_objects()


class _Server:
    """The reader's loop: requests in, ends of children out. Each child is forked here.

    Invariant: a child does not outlive the request's socket, nor this process.
    """

    def __init__(self, requests: socket.socket, read: Read) -> None:
        self._requests = requests
        self._read = read
        self._pid = os.getpid()
        self._address_space = address_space_bytes() if sys.platform == "linux" else 0
        self._anonymous = anonymous_bytes() if sys.platform == "linux" else 0
        self._children: dict[int, socket.socket] = {}
        self.protections = Protections(0, seccomp=False, user=None, is_root=False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(requests, selectors.EVENT_READ)
        self._wake_read, self._wake_write = os.pipe()
        for descriptor in (self._wake_read, self._wake_write):
            os.set_blocking(descriptor, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)

    def serve(self) -> None:
        """Serve requests until no process has the other end of the socket."""
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._requests:
                    if not self._accept():
                        return
                elif key.data is not None:
                    self._kill(key.data)
                else:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake_read, 4096)
            self._reap()

    def _accept(self) -> bool:
        """Take one request; tells whether there was one."""
        body, descriptors, flags, _ = socket.recv_fds(
            self._requests, REQUEST_BYTES, _DESCRIPTORS, socket.MSG_WAITALL
        )
        if not body:
            return False
        if len(descriptors) != _DESCRIPTORS or len(body) != REQUEST_BYTES or flags & socket.MSG_CTRUNC:
            for descriptor in descriptors:
                os.close(descriptor)
            return True
        file, answer, report, control = descriptors
        fields: dict[str, Any] = json.loads(body)
        with socket.socket(fileno=control) as channel:
            self._fork(FileRequest(file, answer, report, **fields), channel)
        for descriptor in (file, answer, report):
            os.close(descriptor)
        return True

    def _fork(self, request: FileRequest, channel: socket.socket) -> None:
        try:
            pid = os.fork()
        except OSError:
            # The closed socket tells it.
            return
        if pid == 0:
            read_and_exit(
                request,
                self.protections,
                reader=self._pid,
                address_space=self._address_space,
                read=self._read,
            )
        kept = channel.dup()
        self._children[pid] = kept
        self._selector.register(kept, selectors.EVENT_READ, data=pid)
        with contextlib.suppress(OSError):
            kept.send(STARTED.pack(pid))

    def _kill(self, pid: int) -> None:
        """End a child whose horse is gone, and stop listening to the horse."""
        channel = self._children.get(pid)
        if channel is None:
            return
        self._selector.unregister(channel)
        # A child that has only just been forked has no group yet.
        os.kill(pid, signal.SIGKILL)
        _kill_group(pid)

    def _reap(self) -> None:
        while self._children:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if not pid:
                return
            # What it may have left in its group, where the system lacks what forbids it to fork.
            _kill_group(pid)
            channel = self._children.pop(pid)
            with contextlib.suppress(KeyError):
                self._selector.unregister(channel)
            grown = max(0, usage.ru_maxrss * 1024 - self._anonymous)
            with channel, contextlib.suppress(OSError):
                channel.send(ENDED.pack(os.waitstatus_to_exitcode(status), grown))


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
